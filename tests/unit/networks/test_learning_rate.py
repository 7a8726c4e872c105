"""The one curve of the learning rate, by hand and against the two that it replaced."""

import math

import pytest

from contrastdp.networks.learning_rate import warmed_cosine


def test_it_rises_in_equal_steps_and_falls_by_half_a_cosine():
    rates = [warmed_cosine(step, 8, warmup=2, peak=0.4) for step in range(8)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.4])
    assert rates[5] == pytest.approx(0.2)
    assert rates[7] == pytest.approx(0.4 * 0.5 * (1 - 3**0.5 / 2))
    assert warmed_cosine(0, 8, warmup=0, peak=0.4) == 0.4
    assert warmed_cosine(8, 8, warmup=2, peak=0.4) == 0.0


@pytest.mark.parametrize("peak", [0.1, 0.4, 4e-3, 2e-4])
@pytest.mark.parametrize(("steps", "warmup"), [(4000, 100), (61, 10), (17, 0), (5, 9)])
def test_no_bit_differs_from_a_factor_times_the_peak(steps, warmup, peak):
    """As a diffusion model's optimiser multiplies it, and as a robust training's sets it."""
    for step in range(steps):
        factor = warmed_cosine(step, steps, warmup=warmup)
        if step < warmup:
            assert factor == (step + 1) / warmup
            assert (
                warmed_cosine(step, steps, warmup=warmup, peak=peak) == peak * (step + 1) / warmup
            )
            continue
        angle = math.pi * (step - warmup) / max(steps - warmup, 1)
        assert factor == 0.5 * (1 + math.cos(angle))
        whole = warmed_cosine(step, steps, warmup=warmup, peak=peak)
        assert whole == peak * 0.5 * (1 + math.cos(angle))
        assert whole == peak * factor
