"""How strongly activities are still pulled: the residual of a relaxation, the same number for every rule."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, Scalar


def residual_of(forces: PyTree) -> Scalar:
    """Sum over activities of `mean_norm`.

    >>> float(residual_of((jnp.ones((2, 1)), jnp.ones((2, 1)))))
    2.0
    """
    norms = [mean_norm(force) for force in jax.tree.leaves(forces)]
    return jnp.sum(jnp.stack(norms)) if norms else jnp.zeros(())


def mean_norm(force: jax.Array, batch: int = 0) -> Scalar:
    """Euclidean norm of every example's force, mean over the batch.

    Args:
        force: on one activity.
        batch: number of the batch axis. Axes in front of it are turns of loops, over which norms are added up; with
            -1 all other axes belong to the example.

    >>> float(mean_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]])))
    2.5
    """
    squares = jnp.square(force.real) + (jnp.square(force.imag) if jnp.iscomplexobj(force) else 0)
    of_example = range(force.ndim - 1) if batch == -1 else range(batch + 1, force.ndim)
    return jnp.sum(jnp.mean(jnp.sqrt(jnp.sum(squares, of_example)), batch))


def seen(energy: Scalar, forces: PyTree) -> dict[str, Any]:
    """What a trace reports of one moment of a relaxation."""
    return {"energy": energy, "residual": residual_of(forces)}


def appended(trace: PyTree, last: PyTree) -> PyTree:
    """A trace with one moment more."""
    return jax.tree.map(jnp.append, trace, last)
