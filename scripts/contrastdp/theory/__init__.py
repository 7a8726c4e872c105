"""Section 3 of the paper: the Gaussian model and the toy."""
