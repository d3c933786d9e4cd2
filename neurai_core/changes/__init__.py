"""Propagation of changes: the effect of small changes through a function, accurate to the last digit.

A relaxation starts at the feed-forward pass and moves activities only slightly, far from the output by as little as
1e-12. The difference of two passes, f(x + d) - f(x), loses the effect of such a change in float32. Here a function is
evaluated once at a point, and then only changes are propagated through it, operation by operation:

    linear       the operation acts on the change alone                           W d
    products     by the product rule of differences                               (a + u)(b + v) - a b = u (b + v) + a v
    elementwise  by a formula that subtracts nothing                              e^(a + u) - e^a = e^a (e^u - 1)
    choices      the chosen value passes its change; across a kink both sides count
    the rest     the plain difference

A change that is zero by the structure of the program is None and is not computed.

The result is exact, not linearized: the change may have any size. Its derivative is that of the function at the moved
point, custom derivatives included: the difference of a spike is 0 or 1, and its derivative that of the surrogate.

Named values (`jax.ad_checkpoint.checkpoint_name`) are free: their change is given, and that of their prediction
computed.

Only public interfaces of JAX are used. Values of less than 32 bits keep their matrix products in their own dtype;
changes have 32 bits at least.
"""

from __future__ import annotations

from neurai_core.changes.around import Around as Around
from neurai_core.changes.cone import Stage as Stage
