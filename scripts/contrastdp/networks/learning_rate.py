"""The learning rate over a training."""

import math


def warmed_cosine(step: int, steps: int, *, warmup: int, peak: float = 1.0) -> float:
    """Linear up to `peak` over the first `warmup` steps, then half a cosine down to 0.

    step: counted from 0, of `steps` in all.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))
