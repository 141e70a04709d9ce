"""End-to-end matrices through geomstats' quotient machinery."""

from __future__ import annotations

from typing import Any

from geomstats.geometry.quotient_metric import QuotientMetric

from dln_manifolds.manifolds.balanced import BalancedManifold


class DLNQuotientMetric(QuotientMetric):
    """The metric of end-to-end matrices computed through the layers by geomstats' machinery.

    It agrees with `DLNObservableMetric`, which needs no layers and is much faster; this one is the
    second witness.

    Parameters
    ----------
    space : DLNObservableManifold
        The quotient, of integer depth.
    total_space : BalancedManifold, optional
        The layers; made if not given.
    """

    def __init__(self, space: Any, total_space: BalancedManifold | None = None) -> None:
        if total_space is None:
            total_space = BalancedManifold(space.n, int(space.depth))
        super().__init__(space=space, total_space=total_space)
