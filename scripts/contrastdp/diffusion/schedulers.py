"""Subsequences of the diffusion's timesteps, and a diffusers scheduler that is exact on them."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from operator import index
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from contrastdp.errors import InputError

SPACINGS = ("uniform", "quadratic", "even", "respaced")
LEARNED = "learned_range"
VARIANCES = ("fixed_small", "fixed_large", LEARNED)
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def subsequence(train_timesteps: int, steps: int, spacing: str) -> list[int]:
    """Timesteps of a shortened chain, descending and without duplicates.

    `uniform` is range(0, T, T // S); `quadratic` is int((k / (S - 1))^2 * 0.8 T), k = 0..S-1, as in
    the DDIM code that the paper uses; `even` is int(k / (S - 1) * (T - 1)), as in the DDPM code
    of MNIST and GTSRB; `respaced` rounds that, halves to the even number, as improved-diffusion
    does (Nichol & Dhariwal 2021). Duplicates of the quadratic rule (13 of 200 steps at T = 1000)
    change nothing at eta = 0 and are left out. Raises InputError for an unknown spacing or a count
    outside [1, T].
    """
    if not 1 <= steps <= train_timesteps:
        raise InputError(f"steps is {steps}; choose 1 to {train_timesteps}, the training timesteps")
    last = max(steps - 1, 1)
    chosen: Iterable[int]
    if spacing == "uniform":
        chosen = range(0, train_timesteps, train_timesteps // steps)
    elif spacing == "quadratic":
        chosen = (k * k * train_timesteps * 4 // (5 * last * last) for k in range(steps))
    elif spacing == "even":
        chosen = (k * (train_timesteps - 1) // last for k in range(steps))
    elif spacing == "respaced":
        chosen = (round(Fraction(k * (train_timesteps - 1), last)) for k in range(steps))
    else:
        raise InputError(f"spacing is '{spacing}'; choose one of {', '.join(SPACINGS)}")
    return sorted(set(chosen), reverse=True)


class SubsequenceScheduler(DDIMScheduler):
    """DDIM on any descending subsequence of timesteps; eta = 1 is DDPM.

    diffusers' own DDIMScheduler takes t - T // S for the previous timestep, which is wrong for
    uneven subsequences; here it is the next entry of `timesteps`, and abar = 1 after the last.
    Saves and loads as a diffusers scheduler.
    """

    timesteps: torch.Tensor

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        """Choose the chain: a count (diffusers' spacing of the config), or explicit `timesteps`.

        A count n gives n timesteps in [0, T): where steps_offset would lead beyond T - 1, it is as
        large as fits. Raises InputError for a chain that is none, and for an abar that no step can
        start from.
        """
        total = self.config.num_train_timesteps
        if timesteps is None:
            if num_inference_steps is None or not 1 <= num_inference_steps <= total:
                raise InputError(
                    f"num_inference_steps is {num_inference_steps}; choose 1 to {total}"
                )
            super().set_timesteps(num_inference_steps, device)
            # of some counts diffusers makes n + 1 trailing timesteps, the last of them -1
            chain = self.timesteps[:num_inference_steps]
            self.timesteps = chain - max(int(chain[0]) - (total - 1), 0)
            if self.timesteps[-1] < 0:
                raise InputError(f"steps_offset is {self.config.steps_offset}; make it 0 or more")
        else:
            self.timesteps = torch.tensor(self._falling(timesteps), device=device or "cpu")
            self.num_inference_steps = len(self.timesteps)
        self._check_abar()

    def _falling(self, timesteps: Sequence[int]) -> list[int]:
        """The timesteps as a list; InputError where they do not fall strictly within [0, T)."""
        total = self.config.num_train_timesteps
        try:
            chosen = [index(t) for t in timesteps]
        except TypeError:
            raise InputError("timesteps must be whole numbers; correct the list") from None
        falling = all(a > b for a, b in pairwise(chosen))
        if not chosen or not falling or chosen[0] >= total or chosen[-1] < 0:
            raise InputError(
                f"timesteps must fall strictly and lie in [0, {total}); correct the list"
            )
        return chosen

    def _check_abar(self) -> None:
        """Raise InputError where a step of the chain is not defined."""
        chain, known = self.timesteps.tolist(), len(self.alphas_cumprod)
        if chain[0] >= known:
            raise InputError(
                f"the scheduler has {known} betas and num_train_timesteps "
                f"{self.config.num_train_timesteps}; correct its config"
            )
        abars = [self.abar(t) for t in chain]
        rising = all(now <= after for now, after in pairwise(abars))
        if not (rising and abars[0] >= 0 and abars[-1] < 1):
            raise InputError(
                "abar must rise from t = T - 1 to t = 0 and lie in [0, 1); correct the scheduler's "
                "betas"
            )
        if abars[0] == 0 and self.config.prediction_type == "epsilon":
            raise InputError(
                f"abar is 0 at t = {chain[0]}, as rescale_betas_zero_snr makes it, where predicted "
                "noise says nothing of the image; use a spacing without this timestep, such as "
                "'leading' with fewer steps, or a model with v_prediction"
            )

    def previous_timestep(self, timestep: int) -> int:
        """The entry after `timestep` in the chain; -1 after the last."""
        place = (self.timesteps == int(timestep)).nonzero()
        if not len(place):
            raise InputError(f"timestep {int(timestep)} is not in the chain; call set_timesteps")
        following = int(place[-1]) + 1
        return int(self.timesteps[following]) if following < len(self.timesteps) else -1

    def abar(self, timestep: int) -> float:
        """abar_t = prod (1 - beta_s), s <= t; 1 for the timestep -1 after the last."""
        return float(self.alphas_cumprod[timestep]) if timestep >= 0 else 1.0

    # ---------------------------------------------------------------- prediction types
    def noise_of(
        self, model_output: torch.Tensor, timestep: int, sample: torch.Tensor
    ) -> torch.Tensor:
        """The predicted noise e, whatever the denoiser predicts (e, v or x_0): (N, C, H, W)."""
        if self.config.prediction_type == "epsilon":
            return model_output
        return self._noise_and_clean(model_output, self.abar(int(timestep)), sample)[0]

    def clean_of(
        self, model_output: torch.Tensor, timestep: int, sample: torch.Tensor
    ) -> torch.Tensor:
        """The predicted x_0, whatever the denoiser predicts (e, v or x_0): (N, C, H, W)."""
        return self._noise_and_clean(model_output, self.abar(int(timestep)), sample)[1]

    def output_of(self, noise: torch.Tensor, timestep: int, sample: torch.Tensor) -> torch.Tensor:
        """The model output whose predicted noise at x_t = `sample` is `noise`; undoes noise_of."""
        if self.config.prediction_type == "epsilon":
            return noise
        now = self.abar(int(timestep))
        clean = (sample - (1 - now) ** 0.5 * noise) / now**0.5
        if self.config.prediction_type == "v_prediction":
            return now**0.5 * noise - (1 - now) ** 0.5 * clean
        return clean

    def _noise_and_clean(
        self, model_output: torch.Tensor, now: float, sample: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted e and x_0 of a model output at abar_t = `now`, as prediction_type says."""
        if self.config.prediction_type == "epsilon":
            noise = model_output
            clean = (sample - (1 - now) ** 0.5 * noise) / now**0.5
        elif self.config.prediction_type == "v_prediction":
            noise = now**0.5 * model_output + (1 - now) ** 0.5 * sample
            clean = now**0.5 * sample - (1 - now) ** 0.5 * model_output
        else:
            clean = model_output
            noise = (sample - now**0.5 * clean) / (1 - now) ** 0.5
        return noise, clean

    # ---------------------------------------------------------------- reverse step
    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
        variance_type: str = "fixed_small",
        learned: torch.Tensor | None = None,
    ) -> Any:
        """One reverse step (Eq. 4), all tensors (N, C, H, W), with noise e = `model_output`.

        x0 = (x_t - sqrt(1 - abar_t) e) / sqrt(abar_t), clipped or thresholded as the config says,
        with e then recomputed (so that eta = 1 is the DDPM posterior mean given x0);
        x_t' = sqrt(abar_t') x0 + sqrt(1 - abar_t' - c1^2) e + c1 z,
        c1 = eta sqrt((1 - abar_t / abar_t') (1 - abar_t') / (1 - abar_t)); no noise after the last.
        variance_type: 'fixed_small' is that; 'fixed_large' draws the noise with
        eta sqrt(1 - abar_t / abar_t') in the place of c1 and leaves the mean, DDPM's other choice;
        'learned_range' with the root of `variance`, of what the denoiser has `learned`. Raises
        InputError for another.
        """
        _check_variance(variance_type)
        now, after, c1 = self._abars_and_c1(timestep, eta)
        noise, clean = self._noise_and_clean(model_output, now, sample)
        limit = self.config.clip_sample_range
        if self.config.thresholding:
            clean = self._threshold_sample(clean)
        elif self.config.clip_sample:
            clean = clean.clamp(-limit, limit)
        if use_clipped_model_output and (self.config.thresholding or self.config.clip_sample):
            noise = (sample - now**0.5 * clean) / (1 - now) ** 0.5
        previous = after**0.5 * clean + max(1 - after - c1 * c1, 0.0) ** 0.5 * noise
        if c1 > 0:
            spread: Any = c1
            if variance_type == "fixed_large":
                spread = eta * (1 - now / after) ** 0.5
            elif variance_type == LEARNED:
                spread = self.variance(timestep, eta, variance_type, learned) ** 0.5
            if variance_noise is None:
                variance_noise = randn_tensor(
                    sample.shape, generator=generator, device=sample.device, dtype=sample.dtype
                )
            previous = previous + spread * variance_noise
        if not return_dict:
            return (previous, clean)
        return DDIMSchedulerOutput(prev_sample=previous, pred_original_sample=clean)

    def variance(
        self,
        timestep: int,
        eta: float = 1.0,
        variance_type: str = "fixed_small",
        learned: torch.Tensor | None = None,
    ) -> float | torch.Tensor:
        """Sigma of the step from `timestep`, a number or, where it is learned, (N, C, H, W).

        With beta = 1 - abar_t / abar_t' and beta~ = beta (1 - abar_t') / (1 - abar_t), it is eta^2
        times beta~ ('fixed_small'), beta ('fixed_large') or, of learned in [-1, 1] (N, C, H, W),
        exp(v log beta + (1 - v) log beta~), v = (learned + 1) / 2 ('learned_range', Nichol &
        Dhariwal 2021). The last step draws no noise, and its beta~ is 0; there, as in their code,
        beta~ of the step before stands for beta in 'fixed_large' and for beta~ in 'learned_range'.
        """
        _check_variance(variance_type)
        beta, small = self._betas(int(timestep))
        if variance_type == "fixed_small":
            return eta * eta * small
        if small == 0 and len(self.timesteps) > 1:
            small = self._betas(int(self.timesteps[-2]))[1]
            beta = small if variance_type == "fixed_large" else beta
        if variance_type == "fixed_large" or beta == 0:
            return eta * eta * beta
        if learned is None:
            raise InputError(
                "variance_type is 'learned_range', and the denoiser predicts no variance; choose "
                "fixed_small or fixed_large"
            )
        v = (learned + 1) / 2
        return eta * eta * (v * math.log(beta) + (1 - v) * math.log(small or beta)).exp()

    def slope(self, timestep: int, eta: float) -> float:
        """d mean / d e of the step from `timestep` where nothing is clipped: at most 0."""
        now, after, c1 = self._abars_and_c1(timestep, eta)
        return max(1 - after - c1 * c1, 0.0) ** 0.5 - (after * (1 - now) / now) ** 0.5

    def _abars_and_c1(self, timestep: int, eta: float) -> tuple[float, float, float]:
        now, after = self.abar(int(timestep)), self.abar(self.previous_timestep(timestep))
        return now, after, eta * ((1 - now / after) * (1 - after) / (1 - now)) ** 0.5

    def _betas(self, timestep: int) -> tuple[float, float]:
        """beta and beta~ of the step from `timestep` to the next of the chain."""
        now, after = self.abar(timestep), self.abar(self.previous_timestep(timestep))
        beta = 1 - now / after
        return beta, beta * (1 - after) / (1 - now)


def _check_variance(variance_type: str) -> None:
    if variance_type not in VARIANCES:
        raise InputError(
            f"variance_type is '{variance_type}'; choose one of {', '.join(VARIANCES)}"
        )


def set_chain(
    scheduler: SubsequenceScheduler,
    *,
    steps: int,
    spacing: str,
    timesteps: Sequence[int] | None = None,
    clip_sample: bool | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """Set a sampler's timesteps, `subsequence(T, steps, spacing)` or those given; returns the rest.

    clip_sample: whether the predicted x_0 is clipped, where it is to be otherwise than in the
    scheduler's config.
    The rest are settings of the steps themselves: eta, variance_type, guidance_scale.
    """
    chosen = timesteps or subsequence(scheduler.config.num_train_timesteps, steps, spacing)
    scheduler.set_timesteps(timesteps=chosen)
    if clip_sample is not None:
        scheduler.register_to_config(clip_sample=clip_sample)
    return rest
