"""Robust training called with flat settings, as tests write them down."""

from inspect import signature

from contrastdp.training.recipe import recipe_of
from contrastdp.training.robust import train_robust_network

GIVEN = signature(train_robust_network).parameters


def train_flat(network, **settings):
    """train_robust_network, its recipe made of what is none of its own arguments."""
    given = {name: value for name, value in settings.items() if name in GIVEN}
    flat = {name: value for name, value in settings.items() if name not in GIVEN}
    return train_robust_network(network, recipe_of(flat), **given)
