"""How a network is computed changes its values by rounding alone."""

from torch import nn

from contrastdp.networks.execution import precision_of, training_pass


def test_the_plain_pass_is_the_network_itself():
    network = nn.Linear(2, 2)
    assert training_pass(network, precision="float32", compiled=None) is network


def test_the_precision_is_that_of_the_weights():
    network = nn.Linear(2, 2)
    assert precision_of(network) == "float32"
    assert precision_of(network.bfloat16()) == "bfloat16"
