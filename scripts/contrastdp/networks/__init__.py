"""Classifiers, how they are computed, and what they predict."""
