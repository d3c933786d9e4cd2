"""Changes, not differences: what a function does to small changes, to the last digit.

A relaxation starts at the feed-forward pass and moves activities by little: far from the output by a millionth of a
millionth. Formed as a difference of two passes, f(x + d) - f(x), the effect of such a change is lost in float32. Here a
function is evaluated once for its values, at a point, and then only changes go through it, operation by operation:

    linear       the operation acts on the change alone                           W d
    products     by the product rule of differences                               (a + u)(b + v) - a b = u (b + v) + a v
    elementwise  by a formula that subtracts nothing                              e^(a + u) - e^a = e^a (e^u - 1)
    choices      what is chosen passes its change; across a kink both sides count
    the rest     the plain difference

A change that is zero by the structure of the program is None and is not computed.

What comes out is exact, not linearized: the change may be of any size. Its derivative is that of the function at the
moved point, custom derivatives included: of a spike the difference is 0 or 1, and its derivative the surrogate's.

Named values (`jax.ad_checkpoint.checkpoint_name`) are free: their change is given, and that of their prediction found.

Only public interfaces of JAX are used. Values of less than 32 bits keep their matrix products in their own dtype;
changes have 32 bits at least.
"""

from __future__ import annotations

from neurai_core.changes.around import Around as Around
from neurai_core.changes.cone import Stage as Stage
