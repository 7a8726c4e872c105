"""Synthetic images: sampled, labelled, scored, selected, measured, traced."""
