"""The gate finds each planted fault by its name, and nothing in honest networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from contrastdp.attack.gate import (
    GateError,
    check_network,
    exact_arithmetic,
    inspect_network,
    rounded_parts,
)
from contrastdp.errors import InputError
from contrastdp.networks.build import build_network

CLASSES = 5


def images(n=96, side=8, seed=0):
    """Classes of bright squares on noise, with 256 levels as real images have them."""
    stream = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % CLASSES
    x = 0.6 * torch.rand(n, 1, side, side, generator=stream)
    for image, label in zip(x, y, strict=True):
        image[0, label : label + 3, label : label + 3] += 0.4
    return (255 * x).round() / 255, y


def train(network, x, y, steps=60):
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network.eval()


def small(**change):
    settings = {"width": 6, "features": 16, "channels": 1, "classes": CLASSES, "image_size": 8}
    return build_network("small_cnn", **settings | change).eval()


@pytest.fixture(scope="module")
def network():
    return train(small(), *images())


@pytest.fixture
def arithmetic():
    """Torch's own settings again after the test."""
    with exact_arithmetic():
        yield


def found(network, x=None, y=None, **settings):
    """Names of findings, those that stop in capitals."""
    given = images()
    x, y = given[0] if x is None else x, given[1] if y is None else y
    findings = inspect_network(network, x, y, **{"batch": 32} | settings)
    assert not any("\n" in finding.says for finding in findings)
    return [f.name.upper() if f.stops else f.name for f in findings]


class Around(nn.Module):
    """A network with a function of its input before it and one of its output after it."""

    def __init__(self, network, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.network, self.before, self.after = network, before, after
        self.eval()

    def forward(self, x):
        return self.after(self.network(self.before(x)))


def quantise(levels):
    return lambda x: (x * levels).round() / levels


def straight_through(x):
    return x + (quantise(15)(x) - x).detach()


# ---------------------------------------------------------------- honest networks
HONEST = [
    ("small_cnn", 1, 8, {"width": 6, "features": 16}),
    ("mnist_cnn", 1, 28, {}),
    ("wide_resnet", 3, 12, {"depth": 10, "width": 1}),
    ("preact_resnet", 3, 12, {"width": 4, "activation": "silu"}),
]


@pytest.mark.parametrize("steps", [0, 12])
@pytest.mark.parametrize(("name", "channels", "side", "sizes"), HONEST)
def test_honest_networks_pass(name, channels, side, sizes, steps):
    x, y = images(40, side)
    x = x.repeat(1, channels, 1, 1)
    if channels == 3:
        sizes = sizes | {"mean": [0.5] * 3, "std": [0.25] * 3}
    honest = build_network(name, channels=channels, classes=CLASSES, image_size=side, **sizes)
    train(honest, x, y, steps)
    assert found(honest, x, y) == []


def test_accurate_and_confident_networks_pass(network):
    x, y = images()
    assert (network(x).argmax(dim=1) == y).float().mean() > 0.95
    assert found(network) == []
    # log-probabilities are logits, shifted
    assert found(Around(network, after=lambda z: z.log_softmax(dim=1))) == []


def test_one_image_is_enough(network):
    x, y = images(1)
    assert found(network, x, y) == []
    assert found(Around(network, after=torch.detach), x, y) == ["ZERO-GRADIENTS"]


def test_the_network_and_the_random_stream_are_left_alone(network):
    network.zero_grad()
    before, state = [p.clone() for p in network.parameters()], torch.get_rng_state()
    found(network)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert all(torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------- faults of the evaluation
def test_training_mode_of_any_part(network):
    resnet = build_network(
        "preact_resnet",
        channels=1,
        classes=CLASSES,
        image_size=8,
        width=4,
        mean=[0.5],
        std=[0.25],
    )
    assert found(resnet) == ["TRAINING-MODE"]
    resnet.eval()
    assert found(resnet) == []
    resnet.batchnorm.train()
    assert found(resnet) == ["TRAINING-MODE"]
    resnet.eval()
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
    assert found(resnet) == ["BATCH-DEPENDENCE"]


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_precisions(network, kind):
    x, y = images()
    assert found(small().to(kind), x, y) == ["NOT-FLOAT32"]
    assert found(network, x.to(kind), y) == ["NOT-FLOAT32"]
    assert found(Around(network, after=lambda z: z.to(kind)), x, y) == ["NOT-FLOAT32"]
    assert found(network, (x > 0.5).to(torch.uint8), y) == ["NOT-FLOAT32"]


def test_autocast_around_and_inside(network):
    with torch.autocast("cpu", torch.bfloat16):
        assert found(network) == ["AUTOCAST"]

    class Inside(nn.Module):
        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                return network(x).float()

    assert found(Inside().eval()) == ["AUTOCAST"]
    assert found(Around(network, after=lambda z: z.half().float())) == ["AUTOCAST"]


def test_tf32(network, arithmetic):
    assert rounded_parts("cuda") == rounded_parts("cpu") == []
    torch.backends.cudnn.allow_tf32 = True
    assert rounded_parts("cuda") == ["cudnn.conv"]
    torch.set_float32_matmul_precision("high")
    assert rounded_parts("cuda") == ["cuda.matmul", "cudnn.conv"]
    assert found(network) == ["TF32"]
    with exact_arithmetic():
        assert rounded_parts("cuda") == []
        assert torch.backends.cudnn.deterministic
        assert found(network) == []
    assert rounded_parts("cuda") == ["cuda.matmul", "cudnn.conv"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite(network, bad):
    x, y = images()
    spoilt = x.clone()
    spoilt[3, 0, 0, 0] = bad
    assert found(network, spoilt, y) == ["NOT-FINITE"]
    (finding,) = inspect_network(
        Around(network, after=lambda z: torch.where(z > 1, bad, z)), x, y, batch=32
    )
    assert (finding.name, finding.says.split()[0]) == ("not-finite", "logits")
    # the square root of 0: a finite value without a finite gradient
    assert found(Around(network, before=lambda x: (x - x.detach()).sqrt() + x)) == ["NOT-FINITE"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: 255 * x, "PIXEL-RANGE"),
        (lambda x: x + 0.01, "PIXEL-RANGE"),
        (lambda x: x - 0.01, "PIXEL-RANGE"),
        (lambda x: 2 * x - 1, "OUTSIDE-NORMALISATION"),
        (lambda x: (x - x.mean()) / x.std(), "OUTSIDE-NORMALISATION"),
    ],
)
def test_pixels_outside_their_range(network, change, name):
    x, y = images()
    assert found(network, change(x), y) == [name]


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda x: (x - 0.36) / 0.24, "standardised"),
        (lambda x: 255 * x, "multiplied by 255"),
    ],
)
def test_a_network_that_wants_other_images(change, how):
    x, y = images()
    other = train(small(), change(x), y, steps=150)
    assert (other(change(x)).argmax(dim=1) == y).float().mean() > 0.95
    (finding,) = inspect_network(other, x, y, batch=32)
    assert (finding.name, finding.stops) == ("outside-normalisation", False)
    assert f"only once {how};" in finding.says
    assert 0.1 < finding.images / finding.of <= 1


class Marked(nn.Module):
    """Wrong of images whose first pixel is 1, unless they come mapped to [-1, 1]."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        mapped = x.amin(dim=(1, 2, 3)) < 0
        seen = torch.where(mapped[:, None, None, None], (x + 1) / 2, x)
        wrong = (seen[:, 0, 0, 0] == 1) & ~mapped
        return self.network(seen) * torch.where(wrong, -1.0, 1.0)[:, None]


@pytest.mark.parametrize(("marked", "told"), [(20, False), (30, True)])
def test_less_than_a_tenth_of_the_images_is_no_other_normalisation(marked, told):
    """20 of 256 gained and none lost are more than chance (4 sqrt(20) = 17.9), and too few."""
    x, y = images(256)
    x[:, 0, 0, 0] = 0.0
    x[:marked, 0, 0, 0] = 1.0
    network = train(small(), x, y, steps=150)
    assert bool((network(x).argmax(dim=1) == y).all())
    assert ("outside-normalisation" in found(Marked(network).eval(), x, y)) == told


@pytest.mark.parametrize("temperature", [1, 100])
def test_probabilities(network, temperature):
    fault = Around(network, after=lambda z: (z / temperature).softmax(dim=1))
    assert found(fault) == ["SOFTMAX-OUTPUTS"]


def test_random_passes(network):
    noisy = Around(network, before=lambda x: x + 0.01 * torch.randn_like(x))
    assert found(noisy) == ["STOCHASTIC"]
    assert found(Around(network, after=lambda z: F.dropout(z, 0.1))) == ["STOCHASTIC"]


def test_sums_in_another_order_are_no_random_passes(network):
    """As where threads add in any order: 2e-5 of the largest logit, from pass to pass."""
    stream = torch.Generator().manual_seed(0)

    def reordered(z):
        return z + 2e-5 * z.abs().max() * (2 * torch.rand(z.shape, generator=stream) - 1)

    assert found(Around(network, after=reordered)) == []


def test_logits_that_depend_on_the_batch(network):
    assert found(Around(network, before=lambda x: x - 0.1 * x.mean(dim=0))) == ["BATCH-DEPENDENCE"]


# ---------------------------------------------------------------- masked gradients
@pytest.mark.parametrize(
    "after",
    [
        torch.detach,
        lambda z: F.one_hot(z.argmax(dim=1), CLASSES).float(),
        lambda z: 0 * z + z.detach(),
    ],
)
def test_no_gradients(network, after):
    assert found(Around(network, after=after)) == ["ZERO-GRADIENTS"]


def test_rounded_logits(network):
    assert found(Around(network, after=lambda z: (10 * z).round() / 10)) == ["QUANTISED-INPUT"]
    assert found(Around(network, after=torch.round)) == ["QUANTISED-INPUT"]


def test_few_images_without_a_gradient(network):
    def gate(z):
        keep = (torch.arange(len(z)) % 8 > 0)[:, None]
        return torch.where(keep, z, z.detach())

    (finding,) = inspect_network(Around(network, after=gate), *images(), batch=32)
    assert (finding.name, finding.stops) == ("zero-gradients", False)
    assert (finding.images, finding.of) == (12, 96)


@pytest.mark.parametrize(("lost", "names"), [(1, []), (2, ["zero-gradients"])])
def test_one_image_of_a_hundred_may_lack_a_gradient(network, lost, names):
    x, y = images(100)

    def gate(z):
        keep = (torch.arange(len(z)) >= lost)[:, None]
        return torch.where(keep, z, z.detach())

    assert found(Around(network, after=gate), x, y, batch=100) == names


def test_cross_entropies_of_a_few_images_that_saturate(network):
    def scale(z):
        return torch.where((torch.arange(len(z)) < 6)[:, None], 1000 * z, z)

    (finding,) = inspect_network(Around(network, after=scale), *images(), batch=96)
    assert (finding.name, finding.stops, finding.of) == ("scaled-logits", False, 96)
    assert 1 < finding.images <= 6


@pytest.mark.parametrize("sign", [-1, 1])
def test_gradients_of_one_sign_are_gradients(sign):
    class Plane(nn.Module):
        """The sum of the pixels decides, so that the margin's gradient has one sign throughout."""

        def forward(self, x):
            z = sign * (x.flatten(1).mean(dim=1) + 0.1)
            return torch.stack([z, -z], dim=1)

    assert found(Plane().eval()) == []


def test_a_network_that_is_random_now_and_then(network):
    """The second pass is as the first; one of the further ones is not."""
    passes = []

    def after(z):
        passes.append(len(z))
        return z + 0.1 * (passes.count(64) == 4)

    assert found(Around(network, after=after), batch=64)[:1] == ["STOCHASTIC"]


def test_noise_of_a_thousandth_of_the_logits(network):
    noisy = Around(network, after=lambda z: z + 1e-3 * z.abs().max() * torch.randn_like(z))
    assert found(noisy) == ["STOCHASTIC"]


def test_pixels_times_255_less_a_mean_are_out_of_range_and_not_standardised(network):
    x, y = images()
    assert found(network, 255 * x - 20, y) == ["PIXEL-RANGE"]


def test_positive_sums_of_one_are_no_probabilities_where_some_are_negative(network):
    affine = Around(network, after=lambda z: z - z.mean(dim=1, keepdim=True) + 1 / CLASSES)
    assert found(affine) == []


@pytest.mark.parametrize("levels", [7, 15, 31, 255])
@pytest.mark.parametrize("side", [8, 28])
def test_quantised_images(levels, side):
    x, y = images(32, side)
    x = (255 * (3 * x - 1).clamp(0, 1)).round() / 255  # black and white pixels, as digits have
    fault = Around(small(image_size=side), before=quantise(levels))
    assert found(fault, x, y) == ["QUANTISED-INPUT"]
    fault.before = lambda x: (x * levels).floor() / levels
    assert found(fault, x, y) == ["QUANTISED-INPUT"]


def test_quantised_images_with_a_gradient_that_is_not_theirs(network):
    assert found(Around(network, before=straight_through)) == ["quantised-input"]


@pytest.mark.parametrize(("share", "names"), [(0.15, []), (0.4, ["quantised-input"])])
def test_quantisation_of_a_part_of_the_images(network, share, names):
    """Some images of an honest network stay still by chance; a warning asks for a quarter."""
    x, _ = images()
    darkest = x.mean(dim=(1, 2, 3)).quantile(share)

    def before(x):
        dark = x.mean(dim=(1, 2, 3)) < darkest
        return torch.where(dark[:, None, None, None], straight_through(x), x)

    assert found(Around(network, before=before)) == names


def test_large_logits(network):
    (finding,) = inspect_network(Around(network, after=lambda z: 1000 * z), *images(), batch=32)
    assert (finding.name, finding.stops) == ("scaled-logits", False)
    # how many margins are beyond what exp() holds in float32, which underflows below exp(-103.97)
    top = (1000 * network(images()[0])).topk(2).values
    assert finding.images == pytest.approx(int((top[:, 0] - top[:, 1] > 104).sum()), abs=3)
    assert finding.images > 80


def test_a_collapsed_network_is_no_fault():
    collapsed = small()
    nn.init.constant_(collapsed.linear.bias, -100.0)
    assert found(collapsed) == ["constant-logits"]


@pytest.mark.parametrize(("rest", "says"), [(1e-4, "constant-logits"), (1.0, "ZERO-GRADIENTS")])
def test_a_network_that_has_collapsed_but_for_a_trace_is_no_fault(network, rest, says):
    """As seen after a failed training: logits apart by less than a thousandth, dead units."""
    said = torch.linspace(-0.3, 0.4, CLASSES)
    assert found(Around(network, after=lambda z: said + rest * z.detach()))[0] == says


def test_logits_that_move_by_a_tenth_of_their_range_are_not_collapsed(network):
    """All images of one class, yet the logits follow the image: somebody took the gradient away."""
    said, largest = torch.linspace(-0.3, 0.4, CLASSES), network(images()[0]).abs().max().item()
    masked = Around(network, after=lambda z: said + 0.07 / largest * z.detach())
    assert found(masked) == ["ZERO-GRADIENTS"]


def test_one_image_whose_logits_move_is_enough_to_be_not_collapsed(network):
    said = torch.linspace(-0.3, 0.4, CLASSES)
    largest, second = network(images()[0])[:, 0].detach().topk(2).values
    moved = torch.tensor([-0.14, 0, 0, 0, 0])  # a fifth of the range, for one image of 96
    masked = Around(
        network, after=lambda z: said + moved * (z.detach()[:, :1] > (largest + second) / 2)
    )
    assert found(masked) == ["ZERO-GRADIENTS"]


def test_a_masked_network_is_not_taken_for_a_collapsed_one(network):
    """Its logits are close beside a third one far away, but their order is what it says."""
    far = torch.tensor([-10_000.0] * (CLASSES - 2) + [0.0, 0.0])
    with torch.no_grad():
        middle = network(images()[0]).mean(dim=0)
    masked = Around(network, after=lambda z: far - middle + z.detach())
    with torch.no_grad():
        z = masked(images()[0])
    assert len(z.argmax(dim=1).unique()) == 2
    assert found(masked) == ["ZERO-GRADIENTS"]


# ---------------------------------------------------------------- errors and warnings
def test_faults_stop_in_one_line_and_warnings_come_back(network):
    x, y = images()
    with pytest.raises(GateError, match=r"training-mode: .*; not-float32: ") as error:
        check_network(small().double().train(), x, y, batch=32)
    assert isinstance(error.value, InputError)
    assert error.value.names == ["training-mode", "not-float32"]
    assert "\n" not in str(error.value)
    (warning,) = check_network(Around(network, after=lambda z: 1000 * z), x, y, batch=32)
    assert set(warning) == {"name", "says", "images", "of"}
    assert warning["name"] == "scaled-logits"
    assert check_network(network, x, y, batch=32) == []


@pytest.mark.parametrize("batch", [1, 7, 96])
def test_findings_do_not_depend_on_the_batch(network, batch):
    scaled = Around(network, after=lambda z: 1000 * z)
    findings = inspect_network(scaled, *images(), batch=32)
    assert inspect_network(scaled, *images(), batch=batch) == findings
    assert found(network, batch=batch) == []
    assert found(Around(network, before=quantise(15)), batch=batch) == ["QUANTISED-INPUT"]


def test_only_the_first_images_are_looked_at(network):
    x, y = images()
    x[50:] = float("nan")
    assert found(network, x, y, images=50) == []
    assert found(network, x, y, images=51) == ["NOT-FINITE"]
