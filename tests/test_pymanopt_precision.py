"""The pymanopt halves of both manifolds return the precision that they are given."""

import numpy as np
import pytest

from dln_manifolds import BalancedManifold, DLNObservableManifold


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("space", [DLNObservableManifold(3, 2.5), BalancedManifold(3, 2)])
def test_results_have_the_precision_of_what_is_given(space, dtype):
    X, Y = space.random_point(2, bound=0.2).astype(dtype)
    Z = 0.1 * space.random_tangent_vec(X)
    assert Z.dtype == dtype
    results = [
        space.inner_product(X, Z, Z),
        space.norm(X, Z),
        space.dist(X, Y),
        space.exp(X, Z),
        space.log(X, Y),
        space.pair_mean(X, Y),
        space.retraction(X, Z),
        space.transport(X, Y, Z),
        space.to_tangent_space(X, Z),
        space.zero_vector(X),
        space.random_tangent_vector(X),
        space.weingarten(X, Z, Z),
        space.euclidean_to_riemannian_gradient(X, Z),
        space.euclidean_to_riemannian_hessian(X, Z, Z, Z),
    ]
    assert [result.dtype for result in results] == [dtype] * len(results)
    assert all(isinstance(result, dtype) for result in results[:3])
    assert space.inner_product(X, Z, Z.astype(np.float64)).dtype == np.float64
