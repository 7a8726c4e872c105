"""Contrastive-guided diffusion for adversarial robustness: one concept of the paper per module.

Importing the package itself loads nothing heavy; import the module you need. The diffusers
pipeline stands here as well, `from contrastdp import ContrastiveGuidancePipeline`, and only then
torch is loaded.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["ContrastiveGuidancePipeline", "__version__"]


def __getattr__(name: str) -> Any:
    """The pipeline class, imported when it is asked for."""
    if name == "ContrastiveGuidancePipeline":
        # by name, so that it does not count as an import of all that imports the package
        return import_module("contrastdp.diffusion.pipeline").ContrastiveGuidancePipeline
    raise AttributeError(f"module 'contrastdp' has no attribute '{name}'")
