"""The columns of the Gaussian tables of section 3."""

from contrastdp.frames import number, text, whole

PRINTED = (
    text("table", "angle")
    | whole("d")
    | text("source")
    | whole("n")
    | number("clean", "clean_std", "rob", "rob_std")
)
CELLS = (
    text("table", "angle")
    | whole("d")
    | text("source")
    | whole("n")
    | text("variant")
    | whole("regeneration")
    | number("clean", "clean_std", "robust", "robust_std")
)
PROPOSITION = (
    text("error", "model")
    | whole("real")
    | text("synthetic")
    | number("c", "angle", "value", "value_se", "from_0", "from_0_se", "from_90", "from_90_se")
    | number("from_smaller_c", "from_smaller_c_se")
)
THEOREM = text("quantity") | whole("real") | number("target", "c", "limit", "value", "low", "high")
VERDICTS = (
    text("table", "variant")
    | whole("cells")
    | number("clean_points", "robust_points", "points", "points_low", "points_high")
    | number("p_fit", "within_2se", "within_2se_trials_only")
    | number("std_ratio", "largest_z", "largest_z_allowed")
    | whole("outlying")
    | text("verdict")
)
