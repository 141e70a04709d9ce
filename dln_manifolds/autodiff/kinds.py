"""What the arguments of public methods are: one table, for docstrings, views, rules and tests.

A letter for each argument in its order, then what comes out:

- ``p``: a point; ``v``: a tangent vector, ``c`` a covector, ``w`` orthonormal coordinates, all at
  the last point named; ``a``: an array of the shape of points, whatever it holds;
- ``x``: an end-to-end matrix below layers, ``z``: a tangent vector there; ``g``: group elements;
- ``q``: a point or a singular matrix; ``s``: a number for each point or pair; ``m``: a square
  matrix on entries; ``f``: a cost.
"""


def _table(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


METRIC = _table("""
    inner_product   vvp:s   inner_coproduct ccp:s   squared_norm            vp:s
    norm            vp:s    normalize       vp:v    normal_basis            vp:v
    exp             vp:p    log             pp:v    random_unit_tangent_vec p:v
    dist            pp:s    squared_dist    pp:s    dist_pairwise           p:s
    metric_matrix   p:m     cometric_matrix p:m     closest_neighbor_index  pp:s
    injectivity_radius p:s
""")
#: Beside these, without a name in flattened views.
COORDINATES = _table("orthonormal_coordinates vp:w   from_orthonormal_coordinates wp:v")
CURVATURE = _table("""
    curvature     vvvp:v   sectional_curvature vvp:s   scalar_curvature p:s
    ricci_tensor  p:m      connection          vvp:a
""")
#: Beside these, of arguments that are needed.
VARIATIONS = _table("""
    jacobi_field vvp:v   exp_adjoint avp:v   exp_inverse avp:v   conjugate_time vp:s
""")
DENSITIES = _table("log_volume_density p:s   volume_density p:s")

SPACE = _table("""
    to_tangent ap:v   projection     a:p   regularize       a:p   random_tangent_vec p:v
    entropy    p:s    volume_density p:s   entropy_gradient p:v
""")
#: Of layers only.
FIBRE = _table("""
    horizontal_projection ap:v   vertical_projection ap:v   normal_projection ap:a
    push_forward          ap:z   horizontal_lift     zp:v   mean_curvature    p:v
    end_to_end            a:x    factor              x:p    act               ga:a
""")
BUNDLE = _table("""
    riemannian_submersion a:x    lift x:p   tangent_riemannian_submersion ap:z
    horizontal_projection ap:v   vertical_projection ap:v
    align                 pa:p   integrability_tensor aap:v
""")

#: pymanopt's names on the space: one point at a time, the base point first.
POINT_FIRST = _table("""
    inner_product pvv:s   norm      pv:s   exp        pv:p    log              pp:v
    dist          pp:s    pair_mean pp:p   retraction pv:p    transport        ppa:v
    weingarten    paa:v   random_tangent_vector p:v           to_tangent_space pa:v
    euclidean_to_riemannian_gradient pa:v   euclidean_to_riemannian_hessian paaa:v
""")

# What docstrings say beside these, and of all methods of a class: ``b`` is a truth, and a star in
# front stands for one point at a time.
OF_METRIC = METRIC | COORDINATES | DENSITIES | CURVATURE | VARIATIONS
OF_METRIC |= _table("""
    parallel_transport vpvp:v   solve_exp vp:   solve_log pp:   geodesic ppv:   bounds pp:
    hessian fvp:v   laplacian fp:s
    riemann_tensor p:   christoffels p:   curvature_derivative vvvvp:
""")
OF_SPACE = SPACE | FIBRE | {name: f"*{kind}" for name, kind in POINT_FIRST.items()}
OF_SPACE |= _table("""
    belongs      a:b   is_tangent   ap:b   projection    aa:   zero_vector *p:v
    random_point :p    jacobi_basis p:     tangent_space p:     entropy_hessian vp:v
    layers       a:    point        a:a    balance    a:p    factor       xa:p
""")
OF_BUNDLE = BUNDLE | _table("""
    horizontal_lift zxp:v   is_horizontal ap:b   is_vertical ap:b
""")
# Across det = 0.
OF_METRIC |= _table("completed_dist qq:s   solve_completed qq:   completed_geodesic qq:")
