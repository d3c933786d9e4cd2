"""Curvature of energies, which limits the step with which activities may descend on them.

A step of eta along minus the gradient lowers a quadratic energy while eta times its largest curvature is below 2.
Curvatures are bounded from the weights, one small matrix of spectral norms for a whole chain, or estimated from
products with the Hessian of a few examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import Elementwise, PyTree, Scalar, beside_batch

POWER_STEPS = 10  # products with a matrix and its transpose; SAFE covers what they miss of the largest eigenvalue
SAFE = 1.8  # step times curvature; at 2 the energy stops falling
UNROLLED = 24  # number of activities up to which every product with second derivatives is compiled separately
GRID = (-8.0, 8.0, 257)  # where the slopes of an activation are evaluated


def largest_eigenvalue(product: Callable[[PyTree], PyTree], like: PyTree, steps: int = POWER_STEPS) -> Scalar:
    """The largest eigenvalue of a symmetric map, in absolute value, by power iteration from a fixed direction.

    Args:
        product: the map.
        like: an array, or a tree of arrays, with the shapes and types that the map takes.
        steps: products to take; the estimate is never too large.

    >>> matrix = jnp.diag(jnp.array([3.0, 1.0]))
    >>> round(float(largest_eigenvalue(lambda v: matrix @ v, jnp.zeros(2))), 3)
    3.0
    """

    def again(_: Any, v: PyTree) -> PyTree:
        return _unit(product(v))

    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    start = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return _norm(product(jax.lax.fori_loop(0, steps, again, _unit(jax.tree.unflatten(tree, start)))))


def largest_curvature(
    slope: Callable[[PyTree], PyTree], at: PyTree, iterations: int = 4, *, reverse: bool = False
) -> Scalar:
    """The largest curvature of an energy at some activities, by power iteration for every example at once.

    An energy that is a sum over examples has one block of second derivatives per example, and the largest curvature
    is that of the steepest block. Power iteration approaches it from below, so leave a margin.

    Args:
        slope: activities -> derivatives of the energy with respect to them; the energy is a sum over examples.
        at: activities, batch axis first, every leaf of one float type.
        iterations: products with the second derivatives, each the cost of about two slopes.
        reverse: whether to use reverse mode twice, for functions without a forward-mode derivative (``custom_vjp``).

    Example:
        >>> import jax.numpy as jnp
        >>> steep = jnp.array([[1.0, 3.0], [2.0, 5.0]])
        >>> round(float(largest_curvature(lambda u: steep * u, jnp.zeros((2, 2)), 8)), 2)
        5.0
    """
    direction = _directions(at)
    if len(jax.tree.leaves(direction)) > UNROLLED:  # a small program, which re-evaluates the point in every product
        before, direction = _products_in_a_loop(slope, at, direction, iterations, reverse)
    else:
        product = _reverse_product(slope, at) if reverse else jax.linearize(slope, at)[1]
        for iteration in range(iterations):
            if iteration and iteration % 2 == 0:  # often enough not to overflow, and seldom, for small networks
                direction = _unit_per_example(direction)
            before, direction = direction, product(direction)
    return jax.lax.stop_gradient(jnp.max(_norm_per_example(direction) / _norm_per_example(before)))


def curvature_of_each(slope: Callable[[PyTree], PyTree], at: PyTree, iterations: int, *, reverse: bool) -> PyTree:
    """Curvatures ``c``, one for every activity, such that steps of ``1 / c_l`` are as stable as the largest can be.

    With ``|H_lk|`` for the blocks of second derivatives and any positive x, ``c_l = sum_k |H_lk| x_k / x_l`` makes
    ``H / c`` a matrix whose largest eigenvalue is at most 1 (Perron and Frobenius). The x that ends here has
    ``x_l^2 c_l = 1``, so that an activity is slowed down by its own curvature and hardly by that of its neighbors: all
    have the same part in the energy. The blocks are seen along one direction for each, by power iteration.

    Args:
        slope: as in `largest_curvature`.
        at: activities, batch axis first, one leaf for each.
        iterations: products with the second derivatives.
        reverse: as in `largest_curvature`.

    Returns:
        A scalar for every leaf, the largest of all examples.

    >>> steep = jnp.array([[[100.0, 10.0], [10.0, 2.0]]])  # of one example and two activities
    >>> slope = lambda u: list((steep @ jnp.stack(u, 1))[..., 0].T[..., None])
    >>> [round(float(c)) for c in curvature_of_each(slope, [jnp.ones((1, 1))] * 2, 8, reverse=False)]
    [170, 3]
    """
    product = _reverse_product(slope, at) if reverse else (lambda v: jax.jvp(slope, (at,), (v,))[1])

    def norms(tree: PyTree) -> PyTree:
        return jax.tree.map(_norm_per_example, tree)

    def again(_: Any, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        before, after = pair
        sizes = jax.tree.map(lambda b, a: jnp.sqrt(b / a), norms(before), norms(after))
        v = jax.tree.map(lambda leaf, n, x: leaf * beside_batch(x / n, leaf), after, norms(after), sizes)
        return v, product(v)

    start = _directions(at)
    before, after = jax.lax.fori_loop(0, iterations, again, (jax.tree.map(jnp.ones_like, start), start))
    return jax.lax.stop_gradient(jax.tree.map(lambda b, a: jnp.max(a / b), norms(before), norms(after)))


def _products_in_a_loop(
    slope: Callable[[PyTree], PyTree], at: PyTree, direction: PyTree, iterations: int, reverse: bool
) -> tuple[PyTree, PyTree]:
    """A direction of length 1 for each example, and its product."""

    def again(_: Any, pair: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        unit = _unit_per_example(pair[1])
        return unit, _reverse_product(slope, at)(unit) if reverse else jax.jvp(slope, (at,), (unit,))[1]

    return jax.lax.fori_loop(0, iterations, again, (direction, direction))


def _reverse_product(slope: Callable[[PyTree], PyTree], at: PyTree) -> Callable[[PyTree], PyTree]:
    pull = jax.vjp(slope, at)[1]  # second derivatives are symmetric
    return lambda direction: pull(direction)[0]


def spectral_norm(affine: Callable[[jax.Array], jax.Array], like: jax.Array) -> Scalar:
    """|A| of ``x -> A x + b``, by `largest_eigenvalue` of A'A.

    >>> round(float(spectral_norm(lambda x: 3 * x + 1, jnp.zeros(2))), 3)
    3.0
    """
    constant, pull = jax.vjp(affine, jnp.zeros_like(like))  # reverse mode only: some functions have no forward mode
    return jnp.sqrt(largest_eigenvalue(lambda v: pull(affine(v) - constant)[0], like))


def eigenvalue_bound(matrix: jax.Array) -> Scalar:
    """An upper bound on the largest eigenvalue of a nonnegative matrix with a positive diagonal.

    Collatz and Wielandt: for every positive v the largest ratio of ``(A v)_i`` to ``v_i`` is a bound. With the v of
    two products it is within a percent for the matrices of `neurai_core.energy`.

    >>> round(float(eigenvalue_bound(jnp.array([[1.0, 2.0], [2.0, 5.0]]))), 3)
    5.829
    """
    v = jnp.ones(len(matrix), matrix.dtype)
    for _ in range(2):
        v = matrix @ v
        v = v / jnp.max(v)
    return jnp.max(matrix @ v / v)


def steepest(function: Elementwise, like: jax.Array | jax.ShapeDtypeStruct) -> Scalar:
    """The largest slope of an elementwise function, in absolute value, over all units.

    Args:
        function: the function, which may have different parameters for every unit.
        like: an array that it takes, batch axis first.

    >>> u = jnp.zeros((1, 2))
    >>> float(steepest(jax.nn.sigmoid, u)), float(steepest(lambda u: u * jnp.array([1.0, 3.0]), u))
    (0.25, 3.0)
    """
    points = jnp.linspace(*GRID, dtype=like.dtype).reshape(-1, *(1 for _ in like.shape[1:]))
    points = jnp.broadcast_to(points, jax.eval_shape(function, points).shape)  # larger if units differ
    return jnp.max(jnp.abs(_slope(function)(points)))


def bend(function: Elementwise, like: jax.Array | jax.ShapeDtypeStruct) -> Scalar:
    """The largest second derivative of an elementwise function, as `steepest` gives the first.

    >>> float(bend(jax.nn.relu, jnp.zeros((1, 2))))
    0.0
    """
    return steepest(_slope(function), like)


def _slope(function: Elementwise) -> Elementwise:
    return jax.grad(lambda v: jnp.sum(function(v)))


def _unit(v: PyTree) -> PyTree:
    norm = _norm(v)
    return jax.tree.map(lambda leaf: leaf / jnp.maximum(norm, jnp.finfo(leaf.dtype).tiny), v)


def _norm(v: PyTree) -> Scalar:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(v)))


def _directions(activities: PyTree) -> PyTree:
    """Numbers without a pattern, cheaper than random ones and the same for every example: cosines of squares."""

    def scattered(leaf: jax.Array) -> jax.Array:
        place = jnp.arange(1, 1 + leaf[0].size, dtype=leaf.dtype).reshape(leaf.shape[1:])
        return jnp.broadcast_to(jnp.cos(place * place), leaf.shape)

    return jax.tree.map(scattered, activities)


def _unit_per_example(tree: PyTree) -> PyTree:
    norm = _norm_per_example(tree)
    return jax.tree.map(lambda leaf: leaf / beside_batch(norm, leaf), tree)


def _norm_per_example(tree: PyTree) -> Scalar:
    squares = squares_per_example(tree)
    return jnp.maximum(jnp.sqrt(squares), jnp.finfo(squares.dtype).tiny)


def squares_per_example(tree: PyTree) -> Scalar:
    """Squared norm of every example, over all entries of a tree, ``(B,)``.

    >>> squares_per_example([jnp.ones((2, 3)), jnp.ones((2, 1))]).tolist()
    [4.0, 4.0]
    """
    return sum(jnp.sum(jnp.square(leaf), range(1, leaf.ndim)) for leaf in jax.tree.leaves(tree))  # type: ignore[return-value]
