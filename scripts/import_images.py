"""Cut synthetic images from elsewhere into one of a generator's shards."""

from collections.abc import Sequence

from contrastdp.data.images import write_images
from contrastdp.files import digests, write_json
from contrastdp.jobs.provenance import provenance
from contrastdp.jobs.run import run
from contrastdp.synthesis.external import external_images


def import_images(
    *,
    source: str,
    shape: Sequence[int],
    classes: int,
    start: int,
    stop: int,
    needed: int,
    images: str,
    origin: str,
) -> None:
    """Write the images [start, stop) of a source, each with its label and its index there.

    source: an npz file or a folder, as external_images takes it; shape: (H, W, C); needed: images
    that it must have in all. origin: JSON that says 'external', the sha256 of each file, and how
    many images the shard has.
    """
    part = {"start": start, "stop": stop, "needed": needed, "classes": classes}
    made = external_images(source, shape=shape, **part)
    write_images(images, **made)
    how = {"seed": None, "settings": part, "device": "none", "precision": "none"}
    known = {"images": len(made["label"]), "provenance": provenance(**how)}
    write_json(origin, {"origin": "external", "files": digests(source), **known})


if "snakemake" in globals():
    run(import_images, snakemake)
