"""Gradient flow of networks, the flow that balances their layers, and the clock of training."""

from dln_manifolds.dynamics.balancing_flow import BalancingFlow, balancing_flow
from dln_manifolds.dynamics.gradient_flow import GradientFlow, flow_of_layers, flow_of_point
from dln_manifolds.dynamics.training_clock import TrainingClock, Verdict, training_clock

__all__ = [
    "BalancingFlow",
    "GradientFlow",
    "TrainingClock",
    "Verdict",
    "balancing_flow",
    "flow_of_layers",
    "flow_of_point",
    "training_clock",
]
