"""Verify a robust accuracy from its files, with numpy, torch and the network's definition alone.

Prints the accuracies, or a line for each fault and ends with 1: docs/verification.md explains it.
"""

import argparse
import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from contrastdp.networks.build import build_network

SLACK = 1e-6  # float32's rounding of image plus perturbation, in units of the pixel range
TIE = 1e-5  # of the largest logit: nearer to the boundary, a batch's rounding decides the class
KINDS = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_model(path):
    """The network of a safetensors file in evaluation mode, and the file's sha256."""
    content = Path(path).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, data, state = json.loads(content[8:end]), content[end:], {}
    network = build_network(**json.loads(header.pop("__metadata__")["network"]))
    for name, entry in header.items():
        values = np.frombuffer(data[slice(*entry["data_offsets"])], KINDS[entry["dtype"]])
        state[name] = torch.from_numpy(values.reshape(entry["shape"]).copy())
    network.load_state_dict(state, strict=True)
    return network.eval(), hashlib.sha256(content).hexdigest()


def logits(network, image):
    """Logits (n, classes) in float64 of images (n, H, W, C) float32."""
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        return torch.cat([network(part) for part in x.split(500)]).double().numpy()


def check_shard(shard, network, x, y, eps):
    """Indices of the adversarial images that hold, and a text for each fault; x, y: all clean."""
    index, image = shard["index"], shard["image"]
    if len({*index.tolist()} & {*range(shard["start"], shard["stop"])}) < len(index):
        return [], ["lists an image twice, or one that is not of the shard"]
    y, distance = y[index], np.abs(image.astype(np.float64) - x[index]).max(axis=(1, 2, 3))
    z = logits(network, image.astype(np.float32))
    own = np.arange(z.shape[1]) == y[:, None]
    margin = np.where(own, -np.inf, z).max(axis=1) - z[own]
    tests = {
        f"is further than eps = {eps} from its clean image": distance <= float(eps) + SLACK,
        "leaves the pixel range": ((image >= 0) & (image <= 1)).all(axis=(1, 2, 3)),
        "is classified correctly": margin > -TIE * np.abs(z).max(axis=1),
    }
    faults = [f"image {i} {text}" for text, ok in tests.items() for i in index[~ok]]
    return index[np.all([*tests.values()], axis=0)], faults


def verify(model, test, shards, eps, evaluation):
    """The accuracies in one line, and a line for each fault."""
    (network, sha256), clean = read_model(model), np.load(test, allow_pickle=False)
    x, y = clean["image"].astype(np.float32) / np.float32(255), clean["label"]
    said = json.loads(Path(evaluation).read_bytes()) if evaluation else {}
    files = [(path, dict(np.load(path, allow_pickle=False))) for path in shards]
    eps = Fraction(str(eps or said.get("attack", files[0][1])["eps"]))
    wanted = {"model": sha256, "norm": "Linf", "eps": str(eps), "n_test": str(len(y))}
    left, covered, faults = logits(network, x).argmax(axis=1) == y, np.zeros(len(y), int), []
    found = {"clean_accuracy": left.mean()}
    for path, shard in files:
        covered[shard["start"] : shard["stop"]] += 1
        odd = [f"{k} is {shard[k]}, not {v}" for k, v in wanted.items() if str(shard[k]) != v]
        if not odd and len(shard["index"]):
            broken, odd = check_shard(shard, network, x, y, eps)
            left[broken] = False
        faults += [f"{path}: {text}" for text in odd]
    for fault, text in ((covered == 0, "no shard"), (covered > 1, "several shards")):
        faults += [f"images of {text}: {fault.sum()}, first {fault.argmax()}"][: fault.sum()]
    found["robust_accuracy"] = left.mean()
    if said and not faults and any(abs(said[name] - found[name]) > 1e-9 for name in found):
        faults = [f"{evaluation}: says other accuracies than {found}"]
    shown = "clean accuracy {:.2%}, robust accuracy {:.2%}".format(*found.values())
    return f"{shown} ({left.sum()} of {len(y)} test images), Linf, eps = {eps}", faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="safetensors")
    parser.add_argument("test", help="npz of the clean test images")
    parser.add_argument("shards", nargs="+", help="npz of adversarial images, all shards")
    claim = parser.add_mutually_exclusive_group()
    claim.add_argument("--eps", help="as it is claimed, such as 8/255")
    claim.add_argument("--evaluation", help="evaluation.json, which must say the same")
    try:
        line, wrong = verify(**vars(parser.parse_args()))
    except Exception as error:  # damaged files raise many kinds
        line, wrong = "", [f"cannot be verified: {type(error).__name__}: {error}".splitlines()[0]]
    print(*(wrong or [line]), sep="\n")
    raise SystemExit(bool(wrong))
