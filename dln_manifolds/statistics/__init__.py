"""Statistics of points: all distances of many."""
