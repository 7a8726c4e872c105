"""BatchNorm over the images of all processes, on any device.

torch.nn.SyncBatchNorm does the same on GPUs alone; this one is tested where there is none.
"""

from typing import Any

import torch
from torch import distributed, nn

from contrastdp.jobs.parallel import Group, answered

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Gather(torch.autograd.Function):
    """Rows of all processes (size, K) from the row (K,) of this one.

    The loss is the sum of the processes' losses, so a row's gradient is the sum of theirs to it.
    """

    @staticmethod
    def forward(ctx: Any, row: torch.Tensor, group: Group) -> torch.Tensor:
        ctx.rank = group.rank
        rows = [torch.empty_like(row) for _ in range(group.size)]
        with answered():
            distributed.all_gather(rows, row.contiguous())
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradient.contiguous().clone()
        with answered():
            distributed.all_reduce(total)
        return total[ctx.rank], None


class GroupBatchNorm(nn.BatchNorm2d):
    """BatchNorm whose batch is that of all processes, each of which passes its images through it.

    Takes (N, C) as well as (N, C, H, W). In evaluation it is nn.BatchNorm2d, of which it has all
    parameters, buffers and options. All processes must pass the same number of times, backward too.
    """

    group: Group

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any number of dimensions behind the channels'."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images, of the shape and kind of x."""
        if not self.training:
            return super().forward(x)
        wide, shape = x.float(), (1, -1, *[1] * (x.ndim - 2))
        others = [0, *range(2, x.ndim)]
        count = x.numel() // x.shape[1]

        # Statistics of the parts, then of the whole (Chan et al. 1979): as exact as in one process.
        variance, mean = torch.var_mean(wide, others, correction=0)
        row = torch.cat([mean, variance, mean.new_tensor([count])])
        rows = _Gather.apply(row, self.group)
        means, variances, counts = rows.split([len(mean), len(mean), 1], dim=1)
        weights = counts / counts.sum()
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)
        self._track(mean.detach(), variance.detach(), counts.sum())

        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        y = (wide - mean.view(shape)) * scale.view(shape)
        y = y if self.bias is None else y + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor, count: torch.Tensor) -> None:
        """Let the running statistics take in a batch, as nn.BatchNorm2d does."""
        if not self.track_running_stats or self.running_mean is None:
            return
        assert self.num_batches_tracked is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * count / (count - 1), momentum)


def share_batch_norm(network: nn.Module, group: Group, *, compiled: bool = False) -> None:
    """Put a GroupBatchNorm in the place of every BatchNorm inside `network`, in one of several.

    Parameters and buffers stay the very same tensors, under the same names. compiled: keep
    torch.compile out of them, which does not follow what the processes tell each other.
    """
    if group.size == 1:
        return
    if compiled:
        # What lies between two of them is compiled by itself, for all blocks' sizes and modes: of
        # a WideResNet more than the eight after which torch.compile gives up.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for module in list(network.modules()):
        for name, norm in list(module.named_children()):
            if isinstance(norm, BATCH_NORMS):
                setattr(module, name, _shared(norm, group, compiled))


def _shared(
    norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, group: Group, compiled: bool
) -> GroupBatchNorm:
    shared = GroupBatchNorm(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
    )
    shared._parameters, shared._buffers = norm._parameters, norm._buffers
    shared.group = group
    shared.train(norm.training)
    if compiled:  # of this one alone, so not as a method of the class
        shared.forward = torch.compiler.disable(shared.forward)  # type: ignore[method-assign]
    return shared
