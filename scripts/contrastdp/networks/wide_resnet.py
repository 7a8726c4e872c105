"""The wide ResNet with SiLU ("Swish") of Gowal et al. (2020, 2021), the paper's robust classifier.

Parameters bear the names of RobustBench's DMWideResNet, so weights pass from one to the other.
"""

from collections.abc import Sequence

from contrastdp.errors import InputError
from contrastdp.networks.preact_resnet import PreActivationResNet


class WideResNet(PreActivationResNet):
    """WRN-depth-width: three groups of (depth - 4) / 6 blocks, of 16, 32 and 64 width channels.

    36,479,194 parameters for depth 28, width 10, 3 channels and 10 classes. Settings as
    PreActivationResNet says. Raises InputError where depth is not 6 n + 4.
    """

    def __init__(
        self,
        *,
        channels: int,
        classes: int,
        image_size: int,
        depth: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        activation: str = "silu",
        momentum: float = 0.01,
    ):
        if depth < 10 or depth % 6 != 4:
            raise InputError(
                f"architecture 'wide_resnet': depth is {depth}; make it 10, 16, 22, 28 and so on"
            )
        super().__init__(
            channels=channels,
            classes=classes,
            sizes=(16, 16 * width, 32 * width, 64 * width),
            strides=(1, 2, 2),
            blocks=(depth - 4) // 6,
            mean=mean,
            std=std,
            activation=activation,
            momentum=momentum,
            same_padding=True,
        )
