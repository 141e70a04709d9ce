"""The geometry of deep linear networks, one module a subject; NumPy only.

Frames, coefficients, metric, charts and their flows, sectors, entropy, closed forms and bounds.
"""
