"""Guidance of the sampling: what is added to the predicted noise."""
