"""Throughputs: what an entry holds, and which of two measurements is kept."""

from dataclasses import replace

import pytest
import torch

from contrastdp.cost import throughput
from contrastdp.cost.flops import PASSES, flops_per_image
from contrastdp.cost.workload import Work, canonical

SHAPE = {"channels": 1, "classes": 3, "image_size": 8}
MODEL = canonical({"architecture": "small_cnn", "width": 2, "features": 4} | SHAPE)
CPU = torch.device("cpu")


def measured(kind, batch=4, **options):
    work = Work(kind, MODEL, batch, canonical(options), images=100)
    return throughput.measure_one(work, CPU, seconds=0.0)


def test_every_kind_of_work_can_be_timed():
    assert throughput.TIMED.keys() == PASSES.keys()


@pytest.mark.parametrize("kind", ["forward", "trades_step", "pgd_step", "validation", "apgd"])
def test_an_entry_names_its_work_and_counts_its_flops(kind):
    options = {"attack_steps": 2} if kind.endswith("step") or kind == "validation" else {}
    entry = measured(kind, **options)
    assert entry["flops"] == flops_per_image(kind, MODEL, canonical(options))
    assert (entry["kind"], entry["batch"], entry["options"]) == (kind, 4, options)
    assert canonical(entry["model"]) == MODEL
    assert entry["seconds"] > 0


@pytest.mark.parametrize(
    "kind",
    ["forward", "trades_step", "pgd_step", "attack_step", "apgd", "fab", "square", "guide"],
)
@pytest.mark.parametrize("options", [{}, {"micro_batch": 2}])
def test_no_more_images_pass_at_once_than_in_the_work(kind, options, monkeypatch):
    """Else measuring a large network on a GPU would take the memory that micro_batch spares."""
    passed, real = [], throughput.build

    def build(model):
        network = real(model)
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.register_forward_pre_hook(lambda _, given: passed.append(len(given[0])))
        return network

    monkeypatch.setattr(throughput, "build", build)
    monkeypatch.setattr(throughput, "REPEATED", throughput.REPEATED | {"square": 3})
    steps = {"attack_steps": 2} if kind in ("trades_step", "pgd_step") else {}
    # too large for the matrix form of frozen networks
    model = canonical({"architecture": "small_cnn", "width": 2, "features": 4} | SHAPE)
    work = Work(kind, model.replace('"image_size": 8', '"image_size": 32'), 6, "{}", images=100)
    work = replace(work, options=canonical(options | steps))
    throughput.measure_one(work, CPU, seconds=0.0)
    assert max(passed) == options.get("micro_batch", 6)


def test_seconds_are_those_of_one_image(monkeypatch):
    """A clock that goes on by 8 seconds at every look: a call of 4 images takes 2 an image."""
    looks = iter(range(0, 10**6, 8))
    monkeypatch.setattr(throughput, "clock", lambda device: float(next(looks)))
    assert measured("forward")["seconds"] == 2.0


def test_a_batch_too_large_to_time_is_cut_and_one_image_too_large_is_left_out(monkeypatch):
    each = flops_per_image("forward", MODEL, "{}")
    monkeypatch.setattr(throughput, "LARGEST", 3 * each)
    assert measured("forward", batch=100)["batch"] == 3
    monkeypatch.setattr(throughput, "LARGEST", each - 1)
    assert measured("forward", batch=100) is None


def test_of_two_measurements_the_faster_is_kept_entry_by_entry():
    old = [{"kind": "a", "model": {}, "options": {}, "batch": 1, "seconds": 2.0}]
    new = [dict(old[0], seconds=3.0), dict(old[0], batch=2, seconds=1.0)]
    assert throughput.fastest(old, new) == [old[0], new[1]]
    assert throughput.fastest(new, old) == [old[0], new[1]]
