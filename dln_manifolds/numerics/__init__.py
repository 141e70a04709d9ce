"""Numerical tools that know no network: functions, matrices, polynomials, Newton's method."""
