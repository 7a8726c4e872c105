"""Rows of the simulation of Theorem 3.4 with known counts and a known slope."""


def theorem_rows(counts, slope):
    """Evidence of synthetic samples needed for c = 0.5, 1, 2, and the fitted exponent."""
    shared = {"real": "20", "target": "0.8"}
    rows = [
        shared | {"quantity": "needed", "c": str(c), "value": str(n)}
        for c, n in zip((0.5, 1, 2), counts, strict=True)
    ]
    names = ("value", "low", "high")
    fit = dict(zip(names, map(str, slope), strict=True))
    return {"theorem": [*rows, shared | {"quantity": "exponent", "c": ""} | fit]}
