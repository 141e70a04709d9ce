"""Record the end-to-end matrices of a network while it trains, for the clock of its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dln_manifolds.bridges import from_layers, from_torch, to_layers, widths_of
from dln_manifolds.dynamics.training_clock import TrainingClock, training_clock
from dln_manifolds.errors import InvalidPointError
from dln_manifolds.numerics.arguments import real
from dln_manifolds.numerics.arrays import Array, ArrayLike

if TYPE_CHECKING:
    import torch

__all__ = ["TrainingRecorder"]

Recorded: TypeAlias = "torch.nn.Module | Mapping[str, torch.Tensor] | Iterable[ArrayLike]"


class TrainingRecorder:
    """Checkpoints of one run: end-to-end matrices X, losses, and learning rate times steps.

    Called with the loss and the time wherever the training loop likes, it reads the weights of its
    network; ``clock`` says what they tell. Checkpoints that were saved are given one by one.

    Parameters
    ----------
    network : torch.nn.Module or list of array-like, optional
        A PyTorch model of linear layers without bias, or a list of layers that training changes in
        place, the first of which acts first. Without, every call brings one.

    Attributes
    ----------
    points : ndarray, shape=[n_checkpoints, m, n]
    losses, times : ndarray, shape=[n_checkpoints]

    Examples
    --------
    >>> import numpy as np
    >>> from dln_manifolds.recording import TrainingRecorder
    >>> layers, target, rate = [0.5 * np.eye(2), 0.5 * np.eye(2)], np.diag([2.0, 1.0]), 0.01
    >>> recorder = TrainingRecorder(layers)
    >>> for step in range(201):
    ...     first, last = layers
    ...     error = last @ first - target
    ...     if step % 50 == 0:
    ...         recorder(0.5 * np.sum(error**2), rate * step)
    ...     step_first, step_last = last.T @ error, error @ first.T
    ...     layers[0] -= rate * step_first
    ...     layers[1] -= rate * step_last
    >>> clock = recorder.clock()
    >>> clock.verdict.name, bool(np.all(clock.ratios < 1.001))
    ('CONSISTENT', True)
    """

    def __init__(self, network: Recorded | None = None) -> None:
        if network is not None:
            _layers(network)  # what is no network is refused here, not in the midst of training
        self._network = network
        self._points: list[Array] = []
        self._losses: list[float] = []
        self._times: list[float] = []
        self._depth, self._rank = 0, None

    def __repr__(self) -> str:
        """Return a line."""
        return f"<TrainingRecorder of {len(self._points)} checkpoints>"

    def __call__(self, loss: Any, time: float, network: Recorded | None = None) -> None:
        """Record the network as it is, with its loss and with learning rate times steps so far.

        The ``network`` may be a model, its ``state_dict`` or a list of layers, as of a checkpoint
        that was saved. Raises as `dln_manifolds.bridges.from_torch`, and `InvalidPointError` if its
        shape is another than before.
        """
        loss, time = real("loss", loss), real("time", time)
        source = self._network if network is None else network
        if source is None:
            raise ValueError("There is no network: give one here, or to the recorder.")
        layers = _layers(source)
        X = reduce(lambda product, layer: layer @ product, layers)
        if self._points and (X.shape, len(layers)) != (self._points[0].shape, self._depth):
            raise InvalidPointError(
                f"The network has {len(layers)} layers and end-to-end shape {X.shape}, and before "
                f"it had {self._depth} and {self._points[0].shape}. Record runs one by one."
            )
        self._depth = len(layers)
        self._rank = min(min(layer.shape) for layer in layers)
        self._points.append(X)
        self._losses.append(loss)
        self._times.append(time)

    @property
    def points(self) -> Array:
        """End-to-end matrices."""
        return np.array(self._points)

    @property
    def losses(self) -> Array:
        """Losses."""
        return np.array(self._losses)

    @property
    def times(self) -> Array:
        """Learning rate times steps."""
        return np.array(self._times)

    def clock(self, **options: Any) -> TrainingClock:
        """Return the `training_clock` of the checkpoints; options as there."""
        options = {"depth": max(self._depth, 1), "rank": self._rank, **options}
        return training_clock(self.points, self.losses, self.times, **options)


def _layers(network: Recorded) -> list[Array]:
    """Return the layers in double precision."""
    is_torch = hasattr(network, "named_parameters") or isinstance(network, Mapping)
    if not is_torch and not isinstance(network, Iterable):
        raise TypeError(
            f"network must be a PyTorch model, its state or a list of layers, not {network!r}."
        )
    given = network if is_torch else list(network)
    read = from_torch if is_torch else from_layers
    layers = to_layers(read(given, balance=False), widths_of(given))
    return [layer.astype(float) for layer in layers]
