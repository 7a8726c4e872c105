"""Section 3 of the paper: the Gaussian model and the toy."""

import os

os.environ["MPLBACKEND"] = "agg"  # as contrastdp.report says, which may be imported later
