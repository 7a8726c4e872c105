"""The trace of one synthetic image: what made it, what it is nearest to, whether it comes again.

shard.py makes the image again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from contrastdp.data.tensors import batches, to_tensor
from contrastdp.errors import InputError
from contrastdp.files import digests, replacing
from contrastdp.guidance.reads import listed
from contrastdp.jobs.device import device as resolve
from contrastdp.networks.checkpoint import load_network
from contrastdp.synthesis.labelling import label_with
from contrastdp.synthesis.scoring import RULES

BLOCK = 1000  # training images in memory at once as wide integers


def recorded(images: Mapping[str, np.ndarray], place: int, what: str) -> dict[str, Any]:
    """The record of image `place` of an arm: every (N,) array's value, and no pixels.

    images: of read_images; what: the file, for the message. Raises InputError for a place that the
    arm does not have, and for images without an index, which cannot be made again.
    """
    count = len(images["label"])
    if not 0 <= place < count:
        raise InputError(f"{what}: image {place} does not exist; choose 0 to {count - 1}")
    if "index" not in images:
        raise InputError(f"{what}: has no array 'index'; select its images again")
    return {name: values[place].item() for name, values in images.items() if name != "image"}


def rank(images: Mapping[str, np.ndarray], place: int, rule: str) -> dict[str, int] | None:
    """How image `place` stands among its class by the selection's score: rank from 1, and of many.

    None where the arm takes the first images. As the best of each class are chosen, with ties to
    the earlier, the rank among the chosen is that among all candidates of the class.
    """
    if rule not in RULES:
        return None
    label, score = images["label"], images["score"]
    own = np.flatnonzero(label == label[place])
    order = own[
        np.argsort(-score[own] if RULES.about[rule]["largest"] else score[own], kind="stable")
    ]
    return {"rank": int(np.flatnonzero(order == place)[0]) + 1, "of": len(own)}


def label_again(
    labeler: str, image: np.ndarray, label: int, device: str = "auto"
) -> dict[str, Any]:
    """What a labeler (file) says of one image (H, W, C) uint8: label, and confidence in `label`."""
    place = resolve(device)
    network, x = load_network(labeler, place), to_tensor(image[None]).to(place)
    best, _ = label_with(network, x)
    _, confidence = label_with(network, x, torch.tensor([label], device=place))
    return {"label": int(best), "confidence": float(confidence)}


def nearest(image: np.ndarray, training: np.ndarray, block: int = BLOCK) -> tuple[int, float]:
    """The nearest of `training` (N, H, W, C) to image (H, W, C), both uint8: index and distance.

    The distance is Euclidean over pixels in [0, 1], of exact integer squares; a tie goes to the
    earlier image. Raises InputError for no training images or another shape.
    """
    if not len(training) or training.shape[1:] != image.shape:
        raise InputError(
            f"nearest image to one of shape {image.shape} among {training.shape}: "
            "give training images of the same shape"
        )
    squares = []
    for piece in batches(len(training), block):
        difference = training[piece].astype(np.int64) - image
        squares.append(np.square(difference).reshape(len(difference), -1).sum(axis=1))
    square = np.concatenate(squares)  # (N,)
    index = int(square.argmin())
    return index, float(np.sqrt(square[index]) / 255)


def neighbours(
    image: np.ndarray, real: Mapping[str, np.ndarray], used: np.ndarray
) -> dict[str, dict[str, Any]]:
    """The training images nearest to image: of the whole split, and of those `used` for training.

    real: of read_images; used: indices (n,). Each has index (place in the split), label, distance
    as `nearest` gives it, and used.
    """
    found = {}
    for name, among in (("nearest", np.arange(len(real["label"]))), ("nearest_used", used)):
        place, distance = nearest(image, real["image"][among])
        index = int(among[place])
        known = {"index": index, "label": int(real["label"][index]), "distance": distance}
        found[name] = known | {"used": index in used}
    return found


def origin(index: int, batch: int, stream: int) -> dict[str, Any]:
    """Where a generator's image starts: its noise stream, (stream, index), and its guidance batch.

    guidance_batch: first and last index of the images that the guidance couples.
    """
    first = index // batch * batch
    return {"stream": [stream, index], "guidance_batch": [first, first + batch - 1]}


def compared(stored: np.ndarray, again: np.ndarray) -> dict[str, Any]:
    """Two uint8 images (H, W, C): identical, largest_difference in grey levels, and differing.

    differing: how many of the values differ, of `values`. Raises InputError for another shape.
    """
    if stored.shape != again.shape:
        raise InputError(f"the image is {stored.shape}, made again {again.shape}; run all again")
    difference = np.abs(stored.astype(int) - again)
    return {
        "identical": not difference.any(),
        "largest_difference": int(difference.max()),
        "differing": int(np.count_nonzero(difference)),
        "values": difference.size,
    }


def side_by_side(left: np.ndarray, right: np.ndarray, size: int = 256) -> np.ndarray:
    """Two images (H, W, C) uint8 enlarged by whole pixels to about `size`: (h, w, 3) uint8."""
    scale = max(1, size // left.shape[0])
    shown = [np.kron(np.broadcast_to(x, (*x.shape[:2], 3)), _pixel(scale)) for x in (left, right)]
    gap = np.full((shown[0].shape[0], scale, 3), 255, np.uint8)
    return np.concatenate([shown[0], gap, shown[1]], axis=1)


def draw(path: str | Path, left: np.ndarray, right: np.ndarray) -> None:
    """Write side_by_side of two images as a PNG."""
    with replacing(path) as temporary:
        Image.fromarray(side_by_side(left, right)).save(temporary)


def _pixel(scale: int) -> np.ndarray:
    return np.ones((scale, scale, 1), np.uint8)


def digests_of(**files: str | list[str] | None) -> dict[str, dict[str, str]]:
    """sha256 of the files that are given, each use by name: path -> digest."""
    given = {name: listed(path) for name, path in files.items() if path}
    return {
        name: {file: sha256 for path in paths for file, sha256 in digests(path).items()}
        for name, paths in given.items()
    }


def told(trace: Mapping[str, Any]) -> str:
    """A trace, as trace_image writes it, as lines for a terminal."""
    record, settings = trace["record"], trace["provenance"]["settings"]
    stream, batch = trace["origin"]["stream"], trace["origin"]["guidance_batch"]
    lines = [
        ("image", f"{trace['image']} of arm {trace['arm']}, {trace['dataset']}, {trace['scale']}"),
        ("seed", f"{trace['seed']}; its noise is stream {tuple(stream)}"),
        ("generator", f"{trace['generator']}, image {record['index']}"),
        ("sampler", _settings(settings["sampler"])),
        ("guidance", _settings(settings["guidance"])),
    ]
    if settings["guidance"]:
        size = (
            f"{record['guidance_size']:.6g} of the predicted noise, "
            if "guidance_size" in record
            else ""
        )
        lines.append(("guided", f"{size}in one batch with images {batch[0]} to {batch[1]}"))
    said, label = trace["labeler"], record["label"]
    kind = "own label" if trace["conditional"] else "pseudo-label"
    again = f"the labeler again: {said['label']}, and {said['confidence']:.6f} for {label}"
    lines.append((kind, f"{label}, confidence {record['confidence']:.6f}; {again}"))
    chosen = "none: the generator's first images"
    if trace["rank"]:
        rank_of = "rank {rank} of {of} in its class".format(**trace["rank"])
        chosen = f"{trace['selection']}, score {record['score']:.6g}, {rank_of}"
    lines.append(("selection", chosen))
    lines.append(("nearest real", _neighbour(trace["nearest"])))
    if not trace["nearest"]["used"]:
        lines.append(("nearest used", _neighbour(trace["nearest_used"])))
    for name, files in trace["files"].items():
        lines += [(name, f"{sha256}  {path}") for path, sha256 in files.items()]
    made, text = trace["regenerated"], "identical"
    if not made["identical"]:
        text = (
            f"differs by up to {made['largest_difference']} of 255, in {made['differing']} of "
            f"{made['values']} values"
        )
    lines.append(("made again", text))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _neighbour(near: Mapping[str, Any]) -> str:
    text = f"training image {near['index']}, label {near['label']}, distance {near['distance']:.4f}"
    return text + ("" if near["used"] else ", not trained on")


def _settings(settings: Mapping[str, Any] | None) -> str:
    if not settings:
        return "none"
    return ", ".join(f"{name} {value}" for name, value in settings.items())
