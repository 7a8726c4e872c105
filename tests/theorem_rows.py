"""The table of Theorem 3.4 with known counts and a known slope."""

from contrastdp.frames import as_table
from contrastdp.theory.tables import THEOREM


def theorem_rows(counts, slope):
    """Evidence of synthetic samples needed for c = 0.5, 1, 2, and the fitted exponent."""
    shared = {"real": 20, "target": 0.8}
    rows = [
        shared | {"quantity": "needed", "c": c, "value": n}
        for c, n in zip((0.5, 1, 2), counts, strict=True)
    ]
    fit = dict(zip(("value", "low", "high"), slope, strict=True))
    rows.append(shared | {"quantity": "exponent"} | fit)
    return {"theorem": as_table(rows, THEOREM)}
