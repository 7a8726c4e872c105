"""Label one shard of synthetic images and say how sure the labeler is."""

import torch

from contrastdp.data.images import read_images, write_images
from contrastdp.data.tensors import to_tensor
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.run import run
from contrastdp.networks.checkpoint import load_network
from contrastdp.synthesis.labelling import label_with


def label_images(
    *, images: str, labeler: str, conditional: bool, labelled: str, device: str = "auto"
) -> None:
    """Write the shard with label and confidence, and the records that it came with.

    conditional: the generator was told the class of each image, which stays its label; else the
    labeler's prediction becomes the label.
    """
    place = resolve(device)
    network = load_network(labeler, place)
    built = network.settings
    shape = (built["image_size"], built["image_size"], built["channels"])
    data = read_images(images, classes=built["classes"], image_shape=shape, labelled=conditional)
    own = torch.from_numpy(data["label"]).to(place) if conditional else None
    label, confidence = label_with(network, to_tensor(data["image"]).to(place), own)
    data |= {"label": label.cpu().numpy(), "confidence": confidence.cpu().numpy()}
    write_images(labelled, **data)


if "snakemake" in globals():
    run(label_images, snakemake)
