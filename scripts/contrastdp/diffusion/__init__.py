"""Diffusion models: networks, noise schedules, training, sampling."""
