"""What users hold: the manifolds and their metrics."""
