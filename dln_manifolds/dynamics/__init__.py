"""Gradient flow of networks, the flow that balances their layers, and noisy training."""

from dln_manifolds.dynamics.balancing_flow import BalancingFlow, balancing_flow
from dln_manifolds.dynamics.gibbs import GibbsMeasure
from dln_manifolds.dynamics.gradient_flow import GradientFlow, flow_of_layers, flow_of_point
from dln_manifolds.dynamics.langevin import LangevinPaths, langevin

__all__ = [
    "BalancingFlow",
    "GibbsMeasure",
    "GradientFlow",
    "LangevinPaths",
    "balancing_flow",
    "flow_of_layers",
    "flow_of_point",
    "langevin",
]
