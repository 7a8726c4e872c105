"""Sockets: an entry written in one place is planned, sampled, selected, counted and shown."""

import subprocess
from pathlib import Path

import pytest
from generator_files import write_generator
from job_counts import jobs_of

# Module of the library -> what is written at its end.
TOYS = {
    "guidance/contrast.py": """

@LOSSES.enter("toy_loss")
def toy_loss(pairs: Pairs, *, tau: float) -> Tensor:
    return (pairs.similarity * pairs.negative / tau).square().mean()


@PAIRS.enter("toy_pairs", title="toys")
def toy_pairs(now: Tensor, real: Tensor, label: Tensor) -> Pairs:
    every = torch.ones(len(now), len(real), dtype=torch.bool)
    return Pairs(now @ real.T, every & (label[:, None] > 0), every)
""",
    "guidance/classifier.py": """

@GUIDANCES.enter("toy_guidance")
@dataclass
class ToyGuidance:
    lambda_: float
    encoder_input: str = "unit"
    direction: str = "gradient"
    at: str = "state"

    def start(self, indices: list[int], timesteps: list[int], label: Tensor | None = None) -> None:
        pass

    def __call__(self, state: Tensor, timestep: int) -> Tensor:
        return self.lambda_ * state
""",
    "synthesis/scoring.py": """

@RULES.enter("toy_rule", largest=True)
def _by_brightness(*, labeler: nn.Module) -> Score:
    return lambda x, y: x.mean((1, 2, 3))
""",
}
GUIDANCES = """
  toys: {loss: toy_loss, lambda: 5, tau: 0.5, head: 0, pairs: toy_pairs, at: state, \
window_low: 0, window_high: 1000, encoder_input: unit, direction: gradient, encoder: other}
  toy_guidance: {lambda: 0.1, at: state, window_low: 0, window_high: 1000, encoder_input: unit, \
direction: gradient}
"""
PROGRAM = """
import sys
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from contrastdp.cost.workload import works
from contrastdp.files import read_csv
from contrastdp.plan import experiments
from label_images import label_images
from sample_images import sample_images
from select_images import select_images

files = Path(sys.argv[1])
plan = experiments.plan(
    lambda path: yaml.safe_load(path.read_text()) or {},
    partial(read_csv, delimiter="\\t"),
    folder=Path("config"),
    command_line={"scale": "smoke"},
)
assert plan.guidance_files("digits", "toys") == ("encoder", "labeler", "train")
assert plan.guidance_networks("digits", "toys") == {"encoder": "other", "labeler": "labeler"}
assert plan.guidance_files("digits", "toy_guidance") == ()
network = {name: str(files / f"{name}.safetensors") for name in ("encoder", "labeler")}
for name in ("ddim", "toys", "toy_guidance"):
    read = plan.guidance_files("digits", name)
    known = network | {"train": str(files / "train.npz")}
    sample_images(
        denoiser=str(files / "unconditional"),
        **{role: known[role] if role in read else None for role in known},
        sampler={"steps": 4, "spacing": "quadratic", "eta": 0.0},
        guidance=plan.guidance("digits", name),
        images=f"{name}.npz", device="cpu", shape=[1, 8, 8], classes=3, real=20, seed=0,
        start=0, stop=12, batch=6,
    )
images = [np.load(f"{name}.npz")["image"].tobytes() for name in ("ddim", "toys", "toy_guidance")]
assert len(set(images)) == 3
label_images(images="toys.npz", labeler=network["labeler"], conditional=False,
             labelled="labelled.npz", device="cpu")
select_images(shards=["labelled.npz"], rule="toy_rule", synthetic=3, candidates=12, classes=3,
              real=20, seed=0, eps="1/10", step_size="1/40", attack_steps=2, device="cpu",
              images="selected.npz", train=str(files / "train.npz"), **network)
chosen, pool = np.load("selected.npz"), np.load("labelled.npz")
brightness = pool["image"].mean(axis=(1, 2, 3))
for c in np.unique(pool["label"]):
    best = brightness[pool["label"] == c].max()
    assert best in chosen["image"][chosen["label"] == c].mean(axis=(1, 2, 3))
w = {"dataset": "digits", "generator": "toys", "real": "60", "shard": "0", "arm": "toys"}
assert [work.kind for work in works("sample_images", w, plan)] == ["denoise", "guide", "forward"]
assert [work.kind for work in works("select_images", w, plan)] == ["forward"]
"""


def append_row(sheet: Path, **cells: str) -> None:
    header = sheet.read_text(encoding="utf-8").splitlines()[0].split("\t")
    assert cells.keys() <= set(header)
    with sheet.open("a", encoding="utf-8") as file:
        file.write("\t".join(cells.get(name, "") for name in header) + "\n")


@pytest.fixture(scope="module")
def workflow(workflow_copy, tmp_path_factory):
    """The workflow with an entry more in each registry, a classifier more, and arms of them all."""
    copy = workflow_copy(tmp_path_factory.mktemp("sockets"))
    for module, text in TOYS.items():
        with (copy.folder / "scripts" / "contrastdp" / module).open("a") as file:
            file.write(text)
    settings = copy.folder / "config" / "config.yaml"
    text = settings.read_text(encoding="utf-8")
    encoder = next(line for line in text.splitlines() if line.startswith("  encoder: {network"))
    others = "".join(f"\n{encoder.replace('encoder', name, 1)}" for name in ("other", "namer"))
    text = text.replace(encoder, encoder + others)
    text = text.replace("guidances:\n", "guidances:" + GUIDANCES)
    text = text.replace("labelling: {classifier: labeler}", "labelling: {classifier: namer}")
    settings.write_text(text, encoding="utf-8")
    folder = copy.folder / "config"
    own = {"denoiser": "unconditional", "sampler": "ddim"}
    for name in ("toys", "toy_guidance"):
        cells = {"generator": name, "title": name, "guidance": name}
        append_row(folder / "generators.tsv", **cells, **own)
    append_row(folder / "generators.tsv", generator="theirs", title="theirs", images="theirs.npz")
    arm = {"scale": "smoke", "dataset": "digits", "real": "60", "synthetic": "60", "seeds": "1"}
    arm |= {"selection": "toy_rule", "candidates": "2", "trainer": "trades", "tables": "ablations"}
    for name in ("toys", "toy_guidance", "theirs"):
        append_row(folder / "arms.tsv", **arm, arm=name, title=name, generator=name)
    (copy.folder / "theirs.npz").write_bytes(b"")
    return copy


def test_an_entry_in_one_place_goes_all_the_way(workflow, working_python, tmp_path):
    write_generator(tmp_path)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = workflow.environment | {"PYTHONPATH": "scripts"}
    done = subprocess.run(
        [working_python, program, tmp_path],
        cwd=workflow.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_dry_run_knows_named_classifiers_and_images_from_elsewhere(workflow):
    wanted = [
        f"results/smoke/digits/selected/{arm}/seed0/images.npz"
        for arm in ("toys", "toy_guidance", "theirs")
    ]
    jobs = jobs_of(workflow, "--config", "scale=smoke", "--", *wanted)
    read = {
        path: job["input"] for of_rule in jobs.values() for job in of_rule for path in job["output"]
    }

    def inputs(output: str) -> str:
        return " ".join(read[output])

    place = "results/smoke/digits"
    network = f"{place}/classifier/{{}}/n60/seed0/model.safetensors"
    sampled = inputs(f"{place}/samples/toys/n60/seed0/shard0.npz")
    assert network.format("other") in sampled
    assert network.format("labeler") in sampled
    assert f"{place}/data/train.npz" in sampled
    assert "classifier" not in inputs(f"{place}/samples/toy_guidance/n60/seed0/shard0.npz")
    imported = inputs(f"{place}/samples/theirs/n60/seed0/shard0.npz")
    assert imported == "theirs.npz"
    for generator in ("toys", "theirs"):
        labelled = inputs(f"{place}/labelled/{generator}/n60/seed0/shard0.npz")
        assert network.format("namer") in labelled
        assert network.format("labeler") not in labelled
    chosen = inputs(f"{place}/selected/theirs/seed0/images.npz")
    assert network.format("labeler") in chosen
    assert network.format("encoder") in chosen
