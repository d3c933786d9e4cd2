r"""Analysis of a predictive coding relaxation: how curved its energy is, and how many sweeps the errors need.

Near the feed-forward pass F is quadratic, with the second derivatives H and the first descent direction b. Sweeps of
eta from there are at (1 - (1 - eta H)^t) H^-1 b. k steps of Lanczos, started at b, give orthonormal V and a tridiagonal
T with H V = V T up to the last column, so that H may be replaced by T (Saad 1992, doi:10.1137/0729014).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from neurai_algorithms.predictive_coding.network_strict import energy_from_rest
from neurai_algorithms.predictive_coding.network_task import NetworkTask, in_reverse_only
from neurai_algorithms.stable_step import ALLOWED, SAFE, curvature_of_activities, limited_steps, momentum
from neurai_core.arrays import batch_size
from neurai_core.errors import DataError

LONGEST, LONGEST_ACCELERATED = 10_000_000, 100_000  # number of sweeps searched


class Probe(NamedTuple):
    """Curvature, step and sweeps of the relaxation of one batch.

    Attributes:
        curvatures: estimates of the eigenvalues of the second derivatives of F, ascending; the outermost are accurate.
        safe_step: 2 over the largest curvature; sweeps with a larger step diverge.
        step: the step that ``sweeps`` refers to: ``eta``, or 1 over the largest curvature where ``eta`` is too large;
            in a network of named values, the smallest of the steps that its activities then take, with momentum.
        sweeps: sweeps until half of the error at equilibrium has reached the first activity; None if more than about
            ten million, or a hundred thousand of those with momentum.
    """

    curvatures: np.ndarray
    safe_step: float
    step: float
    sweeps: int | None


def probed(task: NetworkTask, steps: int | None = None, *, alike: bool) -> Probe:
    """Probe the relaxation of one batch.

    Args:
        task: the batch.
        steps: products with the second derivatives; 20 more than twice the number of activities by default.
        alike: whether all activities take the same step, as those of layers do.

    Raises:
        DataError: the loss does not act on the activities, or its gradient is not finite.
    """
    rest, energy = task.at_rest(), energy_from_rest(task)
    slope, unravel = jax.grad(energy), ravel_pytree(rest)[1]
    zero = ravel_pytree(rest)[0]
    pull = jax.jit(lambda v: jax.vjp(lambda u: ravel_pytree(slope(unravel(u)))[0], zero)[1](v)[0])
    direction = -np.asarray(jax.jit(lambda: ravel_pytree(slope(rest))[0])(), np.float64)
    if not np.isfinite(direction).all() or not direction.any():
        raise DataError(
            "The loss does not pull at any activity."
            if not direction.any()
            else "The gradient of the loss is not finite.",
            hint="Probe a batch that is not fitted perfectly, with finite inputs.",
        )
    products = steps or 2 * len(rest) + 20
    lowest = next(iter(rest))
    first = np.asarray(ravel_pytree({name: jnp.full(v.shape, name == lowest) for name, v in rest.items()})[0])

    def seen(root: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Curvatures of H in coordinates ``v / root``, the shares of b, and the parts at the first activity."""
        basis, diagonal, beside = lanczos(
            lambda v: root * np.asarray(pull(jnp.asarray(root * v, zero.dtype)), np.float64), root * direction, products
        )
        curvatures, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        return curvatures, vectors[0], vectors.T @ basis[:, first]

    curvatures, shares, at_first = seen(1.0)
    eta, largest = float(limited_steps(task.config.eta, None)(0)), float(curvatures[-1])
    if not task.config.stable or eta * largest <= ALLOWED:
        step, sweeps = eta, _sweeps(curvatures, shares, at_first, eta)
    elif alike:
        step = SAFE / largest
        sweeps = _sweeps(curvatures, shares, at_first, step)
    else:
        own = _own_steps(task, slope, rest, eta)
        step = min(own.values())
        each = {name: np.full(v.shape, np.sqrt(own[name])) for name, v in rest.items()}
        sweeps = _accelerated_sweeps(*seen(np.asarray(ravel_pytree(each)[0], np.float64)))
    return Probe(curvatures, 2 / largest, step, sweeps)


def _own_steps(task: NetworkTask, slope: Any, rest: dict[str, jax.Array], eta: float) -> dict[str, float]:
    """The step of every activity where ``eta`` is too large, from the whole batch."""
    reverse = in_reverse_only(task.network, *task.arguments)
    found = curvature_of_activities(slope, rest, eta, 1, batch_size(task.x), reverse=reverse)
    return {name: float(step) for name, step in found.own_steps(eta).items()}


def _sweeps(curvatures: np.ndarray, weights: np.ndarray, seen: np.ndarray, step: float) -> int | None:
    """The number of sweeps after which half of the equilibrium error has arrived."""
    settled = np.linalg.norm((weights / curvatures) @ seen)

    def arrived(t: int) -> bool:
        moved = (1 - (1 - step * curvatures) ** t) / curvatures
        return bool(np.linalg.norm((weights * moved) @ seen) >= settled / 2)

    late = 1
    while not arrived(late):
        late *= 2
        if late > LONGEST:
            return None
    early = late // 2
    while late - early > 1:
        middle = (early + late) // 2
        early, late = (early, middle) if arrived(middle) else (middle, late)
    return late


def _accelerated_sweeps(curvatures: np.ndarray, weights: np.ndarray, seen: np.ndarray) -> int | None:
    """The same with steps of 1 and momentum."""
    settled = np.linalg.norm((weights / curvatures) @ seen)
    moved = last = np.zeros_like(curvatures)
    for t in range(LONGEST_ACCELERATED):
        last = 1 - curvatures * moved + momentum(t) * last
        moved = moved + last
        if np.linalg.norm((weights * moved) @ seen) >= settled / 2:
            return t + 1
    return None


def lanczos(
    product: Callable[[np.ndarray], Any], start: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lanczos' method with full orthogonalization, in float64.

    Args:
        product: a symmetric map of vectors (N,).
        start: a vector (N,), not zero.
        steps: number of products; fewer if the space is exhausted.

    Returns:
        ``(V, diagonal, beside)``: k orthonormal rows (k, N), and the tridiagonal matrix's entries, (k,) and (k-1,).

    >>> _, diagonal, beside = lanczos(lambda v: np.array([1.0, 2.0, 4.0]) * v, np.ones(3), 9)
    >>> np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)).round(6)
    array([1., 2., 4.])
    """
    rows, diagonal, beside = [start / np.linalg.norm(start)], [], []
    for _ in range(min(steps, len(start))):
        next_row = np.asarray(product(rows[-1]), np.float64)
        diagonal.append(float(next_row @ rows[-1]))
        basis = np.stack(rows)
        for _ in range(2):  # twice is enough
            next_row = next_row - basis.T @ (basis @ next_row)
        size = float(np.linalg.norm(next_row))
        if size < 1e-6 * abs(diagonal[0]) or len(rows) == min(steps, len(start)):
            break
        beside.append(size)
        rows.append(next_row / size)
    return np.stack(rows), np.array(diagonal), np.array(beside)
