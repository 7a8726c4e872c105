"""Tables, figures and pages of results."""

import os

# Figures are files. A notebook's backend, which a run inherits, would stop matplotlib's import.
os.environ["MPLBACKEND"] = "agg"
