"""Gradient flow of networks, flows that balance layers, noisy training, the clock of training."""

from dln_manifolds.dynamics.balancing_flow import BalancingFlow, balancing_flow
from dln_manifolds.dynamics.gibbs import GibbsMeasure
from dln_manifolds.dynamics.gradient_flow import GradientFlow, flow_of_layers, flow_of_point
from dln_manifolds.dynamics.langevin import LangevinPaths, langevin
from dln_manifolds.dynamics.sampling import Sample, sample
from dln_manifolds.dynamics.thermodynamics import (
    SpectralThermodynamics,
    thermodynamic_integration,
)
from dln_manifolds.dynamics.training_clock import TrainingClock, Verdict, training_clock

__all__ = [
    "BalancingFlow",
    "GibbsMeasure",
    "GradientFlow",
    "LangevinPaths",
    "Sample",
    "SpectralThermodynamics",
    "TrainingClock",
    "Verdict",
    "balancing_flow",
    "flow_of_layers",
    "flow_of_point",
    "langevin",
    "sample",
    "thermodynamic_integration",
    "training_clock",
]
