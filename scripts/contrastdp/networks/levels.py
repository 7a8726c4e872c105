"""The levels of a U-Net's encoder: their sides, and sizes that do not go together.

Imports no torch, since the plan refuses such sizes before any job.
"""

from collections.abc import Sequence

from contrastdp.errors import InputError


def level_sides(image_size: int, levels: int) -> list[int]:
    """Pixels a side at each level; a side is halved upwards, as 7 to 4."""
    sides = [image_size]
    for _ in range(levels - 1):
        sides.append((sides[-1] + 1) // 2)
    return sides


def check_levels(
    where: str,
    *,
    image_size: int,
    width: int,
    multipliers: Sequence[int],
    attention: Sequence[int],
    head_size: int,
    groups: int,
) -> None:
    """Raise InputError, beginning with `where`, for sizes of which no network can be built.

    multipliers: of width, the channels of each level; attention: sides that attend, beside the
    last level; head_size: channels of a head; groups: of GroupNorm.
    """
    sides = level_sides(image_size, len(multipliers))
    if not multipliers or len(set(sides)) < len(sides):
        raise InputError(
            f"{where}: multipliers are {len(multipliers)}, one a level; images of {image_size} "
            f"pixels a side can be halved {(image_size - 1).bit_length()} times between levels"
        )
    for side in attention:
        if side not in sides:
            raise InputError(
                f"{where}: attention is at {side} pixels a side, and the levels have "
                f"{', '.join(map(str, sides))}; choose among these"
            )
    channels = [width * factor for factor in multipliers]
    attending = [count for count, side in zip(channels, sides, strict=True) if side in attention]
    for name, size, counts in (
        ("groups", groups, channels),
        ("head_size", head_size, [*attending, channels[-1]]),
    ):
        if bad := [count for count in counts if count % size]:
            raise InputError(
                f"{where}: {name} is {size}, which does not divide {bad[0]}, the width of a level; "
                "correct one of them"
            )
