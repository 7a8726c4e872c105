"""Files of measure_samples, as tables read them."""

from typing import Any

from contrastdp.errors import InputError
from contrastdp.files import check_numbers, read_json

METRICS = (
    *("frechet", "frechet_error", "frechet_debiased", "frechet_relative"),
    *("precision", "recall", "density", "coverage"),
    *("confidence", "confident", "agreement_labeler", "agreement_encoder"),
    *("nearest", "nearest_heldout", "nearest_ratio", "copies"),
)
KEYS = ("dataset", "generator", "real", "seed", "n_heldout", "features", "settings", "rows")


def read_measure(path: str) -> dict[str, Any]:
    """Read a file of measure_samples; InputError for one that lacks a key or a metric."""
    content = read_json(path)
    for key in KEYS:
        if not isinstance(content, dict) or key not in content:
            raise InputError(f"{path}: lacks '{key}'; delete it and run again")
    for row, found_in in ({"synthetic": {}} | content["rows"]).items():
        lacking = [name for name in ("n", *METRICS) if name not in found_in]
        if lacking:
            raise InputError(f"{path}: rows.{row} lacks '{lacking[0]}'; measure it again")
        given = [name for name in ("n", *METRICS) if found_in[name] is not None]
        check_numbers(path, found_in, given)
    return content
