"""Versions of the attack: which attacks each is made of, and what they leave of an image."""

ROBUST, MISCLASSIFIED = "", "clean"

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")

# ASSUME: we take the DLR loss of AA+MT to be untargeted, and the union 'worst' to attack what
# AutoAttack left, so that each version's result is also that of the versions it begins with.
AA_MT = ("apgd-ce-restarts", "apgd-dlr-restarts", "mt")

VERSIONS = {"standard": STANDARD, "aa+mt": AA_MT, "worst": STANDARD + AA_MT}


def is_broken(broken_by: str) -> bool:
    """Whether an attack broke the image, of which robust and misclassified ones are not."""
    return broken_by not in (ROBUST, MISCLASSIFIED)
