"""Gradient flow of networks, and the flow that balances their layers."""

from dln_manifolds.dynamics import balancing_flow, gradient_flow

__all__ = ["balancing_flow", "gradient_flow"]
