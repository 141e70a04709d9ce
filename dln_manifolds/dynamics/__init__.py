"""Gradient flow of networks, and the flow that balances their layers."""

from dln_manifolds.dynamics.balancing_flow import BalancingFlow, balancing_flow
from dln_manifolds.dynamics.gradient_flow import GradientFlow, flow_of_layers, flow_of_point

__all__ = ["BalancingFlow", "GradientFlow", "balancing_flow", "flow_of_layers", "flow_of_point"]
