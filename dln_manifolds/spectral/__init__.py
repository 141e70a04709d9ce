"""Metric, root chart, entropy and volumes as functions of the singular value decomposition."""
