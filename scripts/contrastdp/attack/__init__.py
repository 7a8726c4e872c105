"""Attacks inside training and evaluation, and what watches over them."""
