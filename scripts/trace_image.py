"""Trace one synthetic image of an arm to what made it, and make it again."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrastdp.data.images import read_images
from contrastdp.data.tensors import draw_subset
from contrastdp.files import digests, write_json
from contrastdp.guidance.reads import listed
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run
from contrastdp.streams import derive_seed
from contrastdp.synthesis import trace
from contrastdp.synthesis.shard import shard_images


def trace_image(
    *,
    selected: str,
    train: str,
    denoiser: str,
    labeler: str,
    identity: Mapping[str, Any],
    settings: Mapping[str, Any],
    reads: Sequence[str],
    json: str,
    png: str,
    encoder: str | list[str] | None = None,
    guidance_encoder: str | list[str] | None = None,
    guidance_labeler: str | list[str] | None = None,
    selection_encoder: str | None = None,
    selection_labeler: str | None = None,
    device: str = "auto",
) -> None:
    """Print and write (json) the trace of one of the images of `selected`, and draw it (png).

    identity: scale, dataset, arm, generator, seed, image (its place in `selected`), selection and
    conditional (whether the generator was told the class); settings: of shard_images; reads: which
    of encoder, labeler and train the guidance reads; guidance_encoder, ...: networks of that use
    alone. png: the image beside the nearest of the real images that the models were trained on.
    """
    seed, place, classes = identity["seed"], identity["image"], settings["classes"]
    images = read_images(selected, classes=classes)
    record, image = trace.recorded(images, place, selected), images["image"][place]
    real = read_images(train, classes=classes, image_shape=image.shape)
    used = draw_subset(real["label"], settings["real"], derive_seed(seed, "subset"))
    networks = {"encoder": encoder, "labeler": labeler, "train": train}
    own = {"guidance_encoder": guidance_encoder, "guidance_labeler": guidance_labeler}
    read = {name: own.get(f"guidance_{name}") or networks[name] for name in reads}
    own |= {"selection_encoder": selection_encoder, "selection_labeler": selection_labeler}
    part = {"start": record["index"], "stop": record["index"] + 1, "seed": seed, "device": device}
    again = shard_images(denoiser=denoiser, **dict.fromkeys(networks) | read, **part, **settings)
    files: dict[str, str | list[str]] = {"denoiser": denoiser}
    files |= {name: path for name, path in (networks | own).items() if path}
    precision = (settings.get("execution") or {}).get("precision", "float32")
    how = {"settings": settings, "device": str(resolve(device)), "precision": precision}
    found = {
        **identity,
        "record": record,
        "origin": trace.origin(record["index"], settings["batch"], derive_seed(seed, "sample")),
        "labeler": trace.label_again(labeler, image, record["label"], device),
        "rank": trace.rank(images, place, identity["selection"]),
        **trace.neighbours(image, real, used),
        "files": {
            name: {file: sha256 for one in listed(path) for file, sha256 in digests(one).items()}
            for name, path in files.items()
        },
        "regenerated": trace.compared(image, again["image"][0]),
        "provenance": provenance(seed=seed, **how),
    }
    print(trace.told(found))
    write_json(json, found)
    trace.draw(png, image, real["image"][found["nearest_used"]["index"]])


if "snakemake" in globals():
    run(trace_image, snakemake)
