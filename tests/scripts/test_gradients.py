"""measure_gradients, picture_gradients and their figures, on tiny networks."""

import numpy as np
import one_line
import pytest
import torch
from generator_files import write_generator

from contrastdp.data.images import write_images
from contrastdp.diffusion.denoisers import build_denoiser, load_denoiser, save_denoiser
from contrastdp.diffusion.schedulers import SubsequenceScheduler
from contrastdp.files import read_csv, read_json
from contrastdp.networks.build import build_network
from contrastdp.networks.checkpoint import save_network
from contrastdp.synthesis import alignment
from contrastdp.synthesis.shard import shard_images
from make_gradients_table import make_gradients_table
from measure_gradients import measure_gradients
from picture_gradients import picture_gradients
from plot_gradient_pictures import plot_gradient_pictures
from plot_gradients import plot_gradients

SETTINGS = {"images": 12, "bands": 5, "timesteps": 2, "low_frequency": 0.5, "pictures": 3}
SETTINGS |= {"attack_steps": 2, "radius": 100.0}
SIZES = {"width": 8, "depth": 1, "multipliers": [1, 2], "attention": [], "groups": 4}
SIZES |= {"head_size": 8, "channels": 1, "classes": 3, "image_size": 8}
CLASSIFIER = {"loss": "classifier", "lambda": 1.0, "moves": "mean", "at": "state"}
CLASSIFIER |= {"window_low": 0, "window_high": 1000, "encoder_input": "raw"}
SAMPLING = {"sampler": {"steps": 4, "spacing": "respaced", "eta": 1.0}, "shape": [1, 8, 8]}
SAMPLING |= {"guidance": CLASSIFIER | {"direction": "gradient"}, "real": 12, "batch": 6}
SAMPLING |= {"classes": 3}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Files by argument; both denoisers, two time-dependent classifiers and real images."""
    folder = write_generator(tmp_path_factory.mktemp("networks"))
    abar = load_denoiser(folder / "unconditional")[1].alphas_cumprod
    for seed, name in enumerate(("robust", "vanilla")):
        network = build_network("time_unet", **SIZES, seed=seed)
        torch.manual_seed(seed)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        network.abar.copy_(abar)
        save_network(folder / f"{name}.safetensors", network)
    image = np.random.default_rng(1).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    write_images(folder / "test.npz", image=image, label=np.arange(20) % 3)
    files = {name: str(folder / f"{name}.safetensors") for name in ("robust", "vanilla")}
    files |= {name: str(folder / name) for name in ("unconditional", "conditional")}
    return files | {name: str(folder / f"{name}.npz") for name in ("train", "test")}


@pytest.fixture(scope="module")
def measured(inputs, tmp_path_factory):
    paths = []
    for seed in (0, 1):
        paths.append(str(tmp_path_factory.mktemp("measures") / "measures.json"))
        measure_gradients(
            **inputs,
            identity={"dataset": "toy", "real": 12, "seed": seed},
            settings=SETTINGS,
            classes=3,
            measures=paths[-1],
            device="cpu",
        )
    return paths


@pytest.fixture(scope="module")
def pictures(inputs, tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    files = {name: inputs[name] for name in ("robust", "vanilla", "conditional", "test")}
    both = {"robust": SAMPLING, "vanilla": SAMPLING}
    how = {"settings": SETTINGS, "classes": 3, "seed": 0, "device": "cpu"}
    picture_gradients(**files, **how, sampling=both, pictures=str(path))
    return str(path)


def test_every_band_has_every_measure_of_both(measured):
    found = read_json(measured[0])
    assert [band["n"] for band in found["bands"]] == [24] * 5
    for band in found["bands"]:
        for name in ("robust", "vanilla"):
            assert set(band[name]) == set(alignment.MEASURES)
            assert all(-1 <= value <= 1 for value in band[name].values())
    assert found["bands"][0]["robust"] != found["bands"][0]["vanilla"]
    assert found["low_frequency"] == 0.5
    assert found["provenance"]["settings"] == SETTINGS
    assert read_json(measured[1])["bands"] != found["bands"]


def test_the_table_and_the_figure_follow(measured, tmp_path):
    names = {"csv": "t.csv", "markdown": "t.md", "runs": "runs.csv"}
    paths = {name: str(tmp_path / file) for name, file in names.items()}
    make_gradients_table(measures=measured, **paths)
    assert len(read_csv(paths["csv"])) == 3 * 6
    assert len(read_csv(paths["runs"])) == 3 * 5 * 2
    drawn = {kind: str(tmp_path / f"figure.{kind}") for kind in ("png", "pdf")}
    plot_gradients(table=paths["csv"], dataset="toy", **drawn)
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_pictures_are_of_the_generators_own_images(pictures, inputs):
    found = dict(np.load(pictures))
    assert found["robust_gradient"].shape == (5, 3, 8, 8, 1)
    assert found["noisy"].dtype == found["robust_attacked"].dtype == np.uint8
    assert found["robust_step"].tolist() == [0, 1, 2, 3]
    files = {"denoiser": inputs["conditional"], "encoder": inputs["robust"], "labeler": None}
    made = shard_images(**files, train=None, **SAMPLING, start=0, stop=3, seed=0, device="cpu")
    last = found["robust_predicted"][-1].astype(float)
    # the last x_0 that is predicted, but for the guidance of that step, is the image
    assert np.abs(last - made["image"]).mean() < np.abs(found["noisy"][-1] - made["image"]).mean()
    assert (found["target"] == (found["label"] + 1) % 3).all()


def test_pictures_become_three_figures(pictures, tmp_path):
    names = ("maps", "targeted", "predicted")
    paths = {f"{n}_{kind}": str(tmp_path / f"{n}.{kind}") for n in names for kind in ("png", "pdf")}
    plot_gradient_pictures(pictures=pictures, **paths)
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in names)


def refused(inputs, folder, **files):
    """What measure_gradients says of `files`; it leaves nothing."""
    measures = folder / "measures.json"
    line = one_line.told(
        measure_gradients,
        **inputs | files,
        identity={"dataset": "toy", "real": 12, "seed": 0},
        settings=SETTINGS,
        classes=3,
        measures=str(measures),
        device="cpu",
    )
    assert not measures.exists()
    return line


def test_a_classifier_of_images_is_refused(inputs, tmp_path):
    network = build_network(
        "small_cnn", channels=1, classes=3, image_size=8, width=4, features=8, seed=0
    )
    path = tmp_path / "model.safetensors"
    save_network(path, network)
    line = refused(inputs, tmp_path, vanilla=str(path))
    assert "the vanilla classifier takes no timestep" in line


def test_another_schedule_than_the_denoisers_is_refused(inputs, tmp_path):
    path = tmp_path / "model.safetensors"
    save_network(path, build_network("time_unet", **SIZES, seed=0))  # its abar is 1 throughout
    line = refused(inputs, tmp_path, robust=str(path))
    assert line.startswith(f"{path}: was trained under another noise schedule than the denoiser")


def test_denoisers_of_two_schedules_are_refused(inputs, tmp_path):
    folder = tmp_path / "unconditional"
    denoiser = build_denoiser(
        "small_denoiser", image_size=8, channels=1, classes=None, beta_end=0.03
    )
    save_denoiser(folder, denoiser, SubsequenceScheduler(clip_sample=False, beta_end=0.03))
    line = refused(inputs, tmp_path, unconditional=str(folder))
    assert "trained under different noise schedules" in line
