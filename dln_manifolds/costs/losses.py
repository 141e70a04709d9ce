"""Quadratic losses of the end-to-end matrix X: completion, sensing, regression.

For matrices of any shape m x n. Their Hessians do not depend on the point.
"""

import numpy as np

from dln_manifolds.checks import as_array
from dln_manifolds.costs.base import Cost, Domain, real_array
from dln_manifolds.numerics.arrays import Array, ArrayLike
from dln_manifolds.numerics.matrices import transpose


class MatrixCompletion(Cost):
    r"""Weighted squared error of the entries that are seen: ``(1/2) sum_ij w_ij (X_ij - Y_ij)^2``.

    Of ``target`` Y, ``shape=[m, n]``, entries that are not seen may be anything, NaN included; in
    ``seen`` are booleans, or weights ``w_ij >= 0``, zero for the entries that are not seen.

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds.costs import MatrixCompletion
    >>> loss = MatrixCompletion([[1.0, np.nan], [0.0, 2.0]], [[1, 0], [1, 1]])
    >>> float(loss(np.eye(2)))
    0.5
    """

    def __init__(self, target: ArrayLike, seen: ArrayLike) -> None:
        self.weights = real_array(seen, "seen", 2)
        target = as_array(target, "target")
        if target.shape != self.weights.shape:
            raise ValueError(f"target is {target.shape} but seen is {self.weights.shape}.")
        if (self.weights < 0).any():
            raise ValueError("seen holds negative weights.")
        self.target = real_array(np.where(self.weights > 0, target, 0.0), "target")
        self.domain = Domain(of_layers=False, shape=target.shape)

    def __call__(self, point: Array) -> Array:
        """Return half the weighted squared error."""
        squares = self.weights * (point - self.target) ** 2
        return np.asarray(0.5 * np.sum(squares, axis=(-2, -1)))[()]

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``w * (X - Y)``."""
        return self.weights * (point - self.target)

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Return ``w * Z``."""
        return self.weights * vector


class MatrixSensing(Cost):
    r"""Squared error of linear measurements: ``(1/2) sum_k (<A_k, X> - b_k)^2``.

    Takes sensing matrices ``A_k``, ``shape=[k, m, n]``, and measurements ``b_k``, ``shape=[k,]``.
    """

    def __init__(self, operators: ArrayLike, measurements: ArrayLike) -> None:
        operators = real_array(operators, "operators", 3)
        self.measurements = real_array(measurements, "measurements", 1)
        number, self.shape = len(operators), operators.shape[1:]
        if number != len(self.measurements):
            raise ValueError(f"{number} operators but {len(self.measurements)} measurements.")
        self.domain = Domain(of_layers=False, shape=self.shape)
        self._rows = operators.reshape(number, -1)

    def _measure(self, matrix: Array) -> Array:
        return matrix.reshape(*matrix.shape[:-2], -1) @ self._rows.T

    def _combine(self, weights: Array) -> Array:
        return (weights @ self._rows).reshape(*weights.shape[:-1], *self.shape)

    def __call__(self, point: Array) -> Array:
        """Return half the squared error."""
        squares = (self._measure(point) - self.measurements) ** 2
        return np.asarray(0.5 * np.sum(squares, axis=-1))[()]

    def euclidean_gradient(self, point: Array) -> Array:
        """Return ``sum_k (<A_k, X> - b_k) A_k``."""
        return self._combine(self._measure(point) - self.measurements)

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Return ``sum_k <A_k, Z> A_k``."""
        return self._combine(self._measure(vector))


class LinearRegression(Cost):
    r"""Half the mean squared error of a linear map: ``(1 / 2k) sum_k |X x_k - y_k|^2``.

    The data are reduced once, by a QR decomposition, to at most ``n + m`` rows: no evaluation
    depends on the number of samples, and no digits are lost to squares of the data. Takes inputs,
    ``shape=[k, n]``, with one sample ``x_k`` per row, and targets ``y_k``, ``shape=[k, m]``.
    """

    def __init__(self, inputs: ArrayLike, targets: ArrayLike) -> None:
        inputs, targets = real_array(inputs, "inputs", 2), real_array(targets, "targets", 2)
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise ValueError(f"{len(inputs)} inputs but {len(targets)} targets.")
        self.domain = Domain(of_layers=False, shape=(targets.shape[1], inputs.shape[1]))
        reduced = np.linalg.qr(np.hstack([inputs, targets]), mode="r") / np.sqrt(len(inputs))
        self._inputs, self._targets = np.split(reduced, [inputs.shape[1]], axis=1)
        self._gram = self._inputs.T @ self._inputs

    def _residual(self, point: Array) -> Array:
        return self._inputs @ transpose(point) - self._targets

    def __call__(self, point: Array) -> Array:
        """Return half the mean squared error."""
        return np.asarray(0.5 * np.sum(self._residual(point) ** 2, axis=(-2, -1)))[()]

    def euclidean_gradient(self, point: Array) -> Array:
        """Return the mean of ``(X x_k - y_k) x_k^T``."""
        return transpose(self._residual(point)) @ self._inputs

    def euclidean_hessian(self, point: Array, vector: Array) -> Array:
        """Return Z times the mean of ``x_k x_k^T``."""
        return vector @ self._gram
