"""Metric, frames, entropy, sectors and closed forms of deep linear networks; NumPy only."""
