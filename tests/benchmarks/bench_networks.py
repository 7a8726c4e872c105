"""The MNIST classifier beside its plain convolutions: forward, an attack's step, a training step.

One thread of the CPU, 1,024 images.
"""

import pytest
import torch
from torch.nn import functional as F

from contrastdp.networks.build import build_network

BATCH = 1024


def by_convolutions(network, x):
    """Logits, in the order and by the operations that the paper's words suggest."""
    h = F.max_pool2d(network.conv_0(x).relu(), 2)
    h = F.max_pool2d(network.conv_1(h).relu(), 2)
    return network.logits(network.linear(h.flatten(1)).relu())


@pytest.mark.parametrize("form", ["network", "convolutions"])
def bench_mnist_cnn(form, measure):
    torch.set_num_threads(1)
    network = build_network("mnist_cnn", channels=1, classes=10, image_size=28)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 1, 28, 28, generator=generator)
    y = torch.randint(0, 10, (BATCH,), generator=generator)
    function = network if form == "network" else lambda x: by_convolutions(network, x)

    @torch.no_grad()
    def forward():
        function(x)

    def attack_step():
        image = x.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(function(image), y), image)

    def training_step():
        F.cross_entropy(function(x), y).backward()

    network.requires_grad_(False)
    measure(f"MNIST CNN by {form}, forward", forward, BATCH)
    measure(f"MNIST CNN by {form}, forward and gradient in the image", attack_step, BATCH)
    network.requires_grad_(True)
    measure(f"MNIST CNN by {form}, training step", training_step, BATCH)
