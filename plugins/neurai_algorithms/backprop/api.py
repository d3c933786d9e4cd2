"""The documented class of back-propagation."""

from __future__ import annotations

from typing import ClassVar

from neurai_core.grads.base import GradeBase


class BP(GradeBase):
    """Back-propagation: the gradients of a feed-forward network by the chain rule.

    Args:
        loss_f: loss, a name or a callable ``(outputs, targets) -> scalar``.
        acc_f: accuracy, a name or a callable ``(outputs, targets) -> scalar``; None reports -1.
        fun_has_aux: whether ``loss_f`` returns a pair whose second part is returned.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from neurai_core.models import mlp
        >>> model = mlp((4, 3))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> batch = jnp.ones((8, 4)), jnp.zeros(8, int)
        >>> grads, loss, accuracy = BP("cross_entropy").get_grads(model, params, batch)
        >>> grads[0]["w"].shape, float(accuracy)
        ((4, 3), -1.0)
    """

    algorithm: ClassVar[str] = "bp"
