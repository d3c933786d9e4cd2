"""The documented class of e-prop."""

from __future__ import annotations

from typing import ClassVar

from neurai_core.grads.base import GradeBase


class EProp(GradeBase):
    """E-prop: gradients of a spiking network by eligibility traces of single neurons.

    Args:
        loss_f: loss, a name or a callable ``(outputs, targets) -> scalar``.
        acc_f: accuracy, a name or a callable ``(outputs, targets) -> scalar``; None reports -1.
        fun_has_aux: whether ``loss_f`` returns a pair whose second part is returned.

    Example:
        >>> import jax, jax.numpy as jnp, neurai_core as neurai
        >>> from neurai_core.models.spiking import snn
        >>> model = snn((4, 8, 3), surrogate=neurai.surrogate("superspike"), steps=10, recurrent=True)
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> grads, loss, _ = EProp("cross_entropy").get_grads(model, params, (jnp.ones((2, 4)), jnp.zeros(2, int)))
        >>> grads[0]["recurrent"].shape
        (8, 8)
    """

    algorithm: ClassVar[str] = "eprop"
