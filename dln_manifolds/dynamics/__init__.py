"""Gradient flow of networks, and the flow that balances their layers."""
