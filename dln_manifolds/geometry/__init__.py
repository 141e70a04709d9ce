"""The geometry of deep linear networks, one module a subject; NumPy only.

Frames, coefficients, metric, Hamiltonian, connection, sectors, entropy, closed forms and bounds.
"""
