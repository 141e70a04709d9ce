"""Metric, frames, entropy, sectors and closed forms of deep linear networks; NumPy only."""

from dln_manifolds.geometry import (
    alignment,
    balancing,
    closed_forms,
    coefficients,
    connection,
    entropy,
    frame,
    hamiltonian,
    metric,
    retraction,
    scaling,
    second_fundamental_form,
    sectors,
    straight_lines,
    stratum,
)

__all__ = [
    "alignment",
    "balancing",
    "closed_forms",
    "coefficients",
    "connection",
    "entropy",
    "frame",
    "hamiltonian",
    "metric",
    "retraction",
    "scaling",
    "second_fundamental_form",
    "sectors",
    "straight_lines",
    "stratum",
]
