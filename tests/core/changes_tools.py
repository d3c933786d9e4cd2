"""Changes of a function of arrays, all of which move."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from neurai_core.changes import Around


def named(function):
    """The function with its arguments named."""
    return lambda *args: function(*(checkpoint_name(x, str(place)) for place, x in enumerate(args)))


def change_of(function, args, changes):
    """The change of what a function returns."""

    @jax.jit
    def of(args, changes):
        here = Around(named(function), *args)
        return here.changes({str(place): u for place, u in enumerate(changes)})[0]

    return of(tuple(args), tuple(changes))


def changes_of(function, args, directions, sizes):
    """The changes of what a function returns for changes of several sizes, on a leading axis."""

    @jax.jit
    def of(args, directions, sizes):
        here = Around(named(function), *args)

        def one(size):
            return here.changes({str(place): size * d for place, d in enumerate(directions)})[0]

        return jax.vmap(one)(sizes)

    return of(tuple(args), tuple(directions), jnp.asarray(sizes, args[0].dtype))


def pulled_back(function, args, changes, cotangent):
    """The pull-back of the change of what a function returns, and that of the function where it has moved."""

    @jax.jit
    def both(args, changes, cotangent):
        here = Around(named(function), *args)
        ours = jax.vjp(lambda *us: here.changes({str(place): u for place, u in enumerate(us)})[0], *changes)[1]
        moved = (a + u for a, u in zip(args, changes, strict=True))
        return ours(cotangent), jax.vjp(function, *moved)[1](cotangent)

    return both(tuple(args), tuple(changes), cotangent)


def relative(ours, true):
    """The largest error relative to the largest value, leaf by leaf."""

    def one(a, b):
        a, b = np.asarray(a, np.complex128), np.asarray(b, np.complex128)
        return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-300))

    return max(map(one, jax.tree.leaves(ours), jax.tree.leaves(true)), default=0.0)


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def double(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)
