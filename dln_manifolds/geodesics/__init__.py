"""Solvers for geodesics: initial-value flow, boundary-value path, and what they return."""
