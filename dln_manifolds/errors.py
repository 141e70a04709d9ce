"""Errors and warnings of the package: one class per way in which a request can fail."""

import numpy as np
from numpy.typing import NDArray


class DLNError(Exception):
    """Base class of every error that this package raises on purpose."""


class InvalidPointError(DLNError, ValueError):
    """A point or vector has a wrong shape or dtype, is not finite, or is not on the manifold."""


class DisconnectedPointsError(DLNError, ValueError):
    """Two points lie in different components (their signs of det differ): no path joins them."""


class IncompleteGeodesicError(DLNError, ArithmeticError):
    """A geodesic meets a singular matrix before the time asked for.

    Attributes
    ----------
    time : float or ndarray, shape=[...,]
        Time t* of the first singular matrix, with t = 1 the end of the geodesic; infinite for the
        members of a batch whose geodesic stays on the manifold.
    solution : GeodesicSolution or None
        The geodesic up to there, where the solver returns one.
    """

    def __init__(
        self, message: str, time: float | NDArray[np.float64] | None = None, solution: object = None
    ) -> None:
        super().__init__(message)
        self.time = time
        self.solution = solution


class ConvergenceError(DLNError, RuntimeError):
    """A solver stopped before it reached its tolerance.

    Attributes
    ----------
    solution : GeodesicSolution or None
        What was reached, with ``residual`` and ``n_iterations``.
    """

    def __init__(self, message: str, solution: object = None) -> None:
        super().__init__(message)
        self.solution = solution


class ConjugatePointsError(DLNError, ArithmeticError):
    """Points are conjugate along their geodesic, or several nearest points are: no derivative."""


class NotFittedError(DLNError, ValueError, AttributeError):
    """An estimator was asked for what `fit` finds, before that; scikit-learn's has these bases."""


class InvalidFileError(DLNError, ValueError):
    """A file is damaged, or was not written by this package, or by a newer version of it."""


class DiskFullError(DLNError, OSError):
    """There is no room on the disk for a file that results shall go to."""


class WorkerError(DLNError, RuntimeError):
    """Workers that tasks were shared out to died again and again."""


class GeodesicWarning(UserWarning):
    """A geodesic is missing: told by metrics made with ``on_failure="warn"``, and by chords."""


class SamplingWarning(UserWarning):
    """Draws are not what they were asked to be: chains that were lost, or have not mixed."""
