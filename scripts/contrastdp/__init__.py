"""Contrastive-guided diffusion for adversarial robustness: one concept of the paper per module.

Importing the package itself loads nothing heavy; import the module you need.
"""

__version__ = "0.1.0"
