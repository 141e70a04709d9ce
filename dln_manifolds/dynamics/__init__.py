"""Gradient flow of networks, and the flow that balances their layers."""

from dln_manifolds.dynamics import balancing_flow, gradient_flow
from dln_manifolds.dynamics.balancing_flow import BalancingFlow
from dln_manifolds.dynamics.gradient_flow import (
    GradientFlow,
    flow_of_layers,
    flow_of_point,
    layer_gradient,
)

__all__ = [
    "BalancingFlow",
    "GradientFlow",
    "balancing_flow",
    "flow_of_layers",
    "flow_of_point",
    "gradient_flow",
    "layer_gradient",
]
