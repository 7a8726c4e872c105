"""Features of images under a robust classifier, for maps of them."""

import numpy as np
import torch

from contrastdp.data.images import read_images
from contrastdp.data.tensors import batches, to_tensor
from contrastdp.files import replacing
from contrastdp.jobs.device import device as resolve
from contrastdp.jobs.run import run
from contrastdp.networks.checkpoint import load_network


def extract_features(
    *, model: str, images: str, classes: int, features: str, device: str = "auto"
) -> None:
    """Write an npz of feature (N, D) float32, the penultimate one, label and prediction (N,)."""
    data = read_images(images, classes=classes)
    place = resolve(device)
    network = load_network(model, place)
    x = to_tensor(data["image"]).to(place)
    with torch.no_grad():
        feature = torch.cat([network.features(x[piece]) for piece in batches(len(x), 1000)])
        prediction = network.logits(feature).argmax(dim=1)
    with replacing(features) as temporary, open(temporary, "wb") as handle:
        np.savez(
            handle,
            feature=feature.cpu().numpy(),
            label=data["label"],
            prediction=prediction.cpu().numpy(),
        )


if "snakemake" in globals():
    run(extract_features, snakemake)
