"""``GradeBase`` and ``LocalBase``: the documented classes, each a thin face of a registered learning rule.

A subclass names its rule and keeps its settings; compiling, checking and converting the model happen here, once
per (model, shapes, static settings). Two objects of equal settings share one compiled step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, ClassVar

import jax
import numpy as np

from neurai_core.adapting import Adapted, adapt
from neurai_core.arrays import PyTree, Scalar
from neurai_core.data import check_batch
from neurai_core.errors import UsageError
from neurai_core.layered import check_forward
from neurai_core.losses import accuracy_function, loss_function
from neurai_core.rule import Estimate, Rule, check_objective, model_state_of, objective, split_batch


class GradeBase:
    """Base class of gradient algorithms.

    Args:
        loss_f: loss by name or callable ``(outputs, targets) -> scalar``; keyword arguments that ``get_grads`` or
            ``predict`` do not know are passed on to it.
        acc_f: accuracy by name or callable ``(outputs, targets) -> scalar``; None reports -1.
        fun_has_aux: whether ``loss_f`` returns a pair; the second part is handed back, never differentiated.

    Raises:
        UnknownName: no loss or accuracy has that name.

    A subclass sets ``algorithm``, the registered name of its rule, and ``settings``:

        >>> from neurai_core.grads import GradeBase
        >>> class Mine(GradeBase):
        ...     algorithm = "bp"
        >>> Mine("mse").loss_f.__name__
        'mse'
    """

    algorithm: ClassVar[str] = ""
    needs: ClassVar[str] = "callable"

    def __init__(
        self,
        loss_f: str | Callable[..., Any],
        acc_f: str | Callable[..., Any] | None = None,
        fun_has_aux: bool = False,
    ) -> None:
        self.loss_f = loss_function(loss_f)
        self.acc_f = accuracy_function(acc_f)
        self.fun_has_aux = fun_has_aux
        self._checked: set[Any] = set()

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the rule, by the names of its config."""
        return {}

    def rule(self, **loss_kwargs: Any) -> Rule:
        """The learning rule, with ``loss_kwargs`` bound to the loss."""
        from neurai_core.registry import REGISTRY

        if not self.algorithm:
            raise UsageError(
                f"{type(self).__name__} names no learning rule.",
                hint="Use BP, PC, ..., or set `algorithm` in a subclass.",
            )
        context = {"loss": self._loss(loss_kwargs), "accuracy": self.acc_f, "has_aux": self.fun_has_aux}
        return REGISTRY.create("algorithm", self.algorithm, context=context, settings=self.settings)

    def get_grads(
        self,
        model: Any,
        param: PyTree,
        batch_data: tuple[PyTree, PyTree],
        return_param: bool = False,
        *,
        key: jax.Array | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Gradients of the loss of one batch with respect to the parameters.

        Compiles once per (model, shapes, settings). A rule that carries something of its own from step to step starts
        anew in every call; train it by its `Rule`.

        Args:
            model: a callable ``model(params, x)``, a `Layered`, or a model of a library with an adapter.
            param: its parameters, in the library's own structure.
            batch_data: ``(x, y)``, batch axis first.
            return_param: whether to return the parameters too, with the collections that the forward pass updated
                (batch statistics).
            key: PRNG key for stochastic layers.
            **kwargs: numbers or arrays passed on to the loss.

        Returns:
            ``(grads, loss, accuracy)``, then the loss's second part if ``fun_has_aux``, then the parameters if
            ``return_param``. ``grads`` has the structure of ``param``; collections get zeros.

        Raises:
            ModelError: model, parameters, inputs and loss do not fit each other.
            DataError: empty batch, lengths that differ, labels outside the classes.
        """
        adapted, params, model_state = self._prepare(model, param, batch_data, kwargs)
        estimate, state = _estimate(self, adapted.model, params, model_state, batch_data, key, kwargs)
        grads = adapted.join(estimate.grads, jax.tree.map(_no_gradient, model_state))
        result: tuple[Any, ...] = (grads, estimate.loss, estimate.accuracy)
        if self.fun_has_aux:
            result += (estimate.aux.get("loss_aux"),)
        if return_param:
            result += (param if model_state == () else adapted.join(params, model_state_of(state)),)
        return result

    def predict(self, model: Any, param: PyTree, batch_data: tuple[PyTree, PyTree], **kwargs: Any) -> tuple[Any, ...]:
        """Loss and accuracy of one batch, the model in evaluation mode.

        Args:
            model: as in ``get_grads``.
            param: its parameters, in the library's own structure.
            batch_data: ``(x, y)``, batch axis first.
            **kwargs: numbers or arrays passed on to the loss.

        Returns:
            ``(loss, accuracy)``, then the loss's second part if ``fun_has_aux``.

        Raises:
            ModelError: model, parameters, inputs and loss do not fit each other.
            DataError: empty batch, lengths that differ, labels outside the classes.
        """
        adapted, params, model_state = self._prepare(model, param, batch_data, kwargs)
        loss, accuracy, aux = _evaluate(self, adapted.model, params, model_state, batch_data, kwargs)
        return (loss, accuracy, aux) if self.fun_has_aux else (loss, accuracy)

    def _prepare(
        self, model: Any, param: PyTree, batch: tuple[PyTree, PyTree], kwargs: dict[str, Any]
    ) -> tuple[Adapted, PyTree, PyTree]:
        adapted = adapt(model, needs=self.needs)
        params, model_state = adapted.split(param)
        seen = adapted.model, _shapes(batch)
        if seen not in self._checked:
            self._check(adapted.model, params, model_state, batch, kwargs)
            self._checked.add(seen)
        return adapted, params, model_state

    def _check(
        self,
        model: Any,
        params: PyTree,
        model_state: PyTree,
        batch: tuple[PyTree, PyTree],
        kwargs: dict[str, Any],
    ) -> None:
        """Everything that can be wrong, once per model and shapes; values are looked at in this first batch."""
        x, y = split_batch(batch)
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(batch))
        if not traced:
            for inputs, targets in product(jax.tree.leaves(x) or [x], jax.tree.leaves(y) or [y]):
                check_batch(inputs, targets)
        outputs = check_forward(model, params, x, model_state=model_state)
        check_objective(objective(self._loss(kwargs), self.acc_f, self.fun_has_aux), outputs, y)

    def _loss(self, kwargs: dict[str, Any]) -> Callable[..., Any]:
        return partial(self.loss_f, **kwargs) if kwargs else self.loss_f

    def _identity(self) -> tuple[Any, ...]:
        return type(self), self.loss_f, self.acc_f, self.fun_has_aux, tuple(sorted(self.settings.items()))

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, GradeBase) and self._identity() == other._identity())

    def __hash__(self) -> int:
        return hash(self._identity())


class LocalBase(GradeBase):
    """Base class of learning rules that see the model layer by layer.

    Args:
        loss_f: as in `GradeBase`.
        acc_f: as in `GradeBase`.
        fun_has_aux: as in `GradeBase`.
    """

    needs: ClassVar[str] = "layered"


def _no_gradient(leaf: PyTree) -> PyTree:
    """Zeros for a collection's array; a PRNG key has none."""
    return leaf if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended) else np.zeros_like(leaf)


def _shapes(batch: tuple[PyTree, PyTree]) -> tuple[Any, ...]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        split_batch(batch)  # says what is wrong
    leaves, structure = jax.tree.flatten(batch)
    return structure, *((np.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves)


@partial(jax.jit, static_argnums=(0, 1))
def _estimate(
    method: GradeBase,
    model: Any,
    params: PyTree,
    model_state: PyTree,
    batch: Any,
    key: Any,
    kwargs: dict[str, Any],
) -> tuple[Estimate, PyTree]:
    rule = method.rule(**kwargs)
    # A fixed key: what a rule draws once and keeps, feedback weights say, is the same in every call.
    state = rule.init(model, params, key=jax.random.key(0), model_state=model_state)
    return rule.estimate(model, params, state, batch, key=key)


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(
    method: GradeBase, model: Any, params: PyTree, model_state: PyTree, batch: Any, kwargs: dict[str, Any]
) -> tuple[Scalar, Scalar, PyTree]:
    x, y = batch
    outputs = method.rule(**kwargs).predict(model, params, x, model_state)
    score = objective(method._loss(kwargs), method.acc_f, method.fun_has_aux)
    loss, aux = score.loss(outputs, y)
    return loss, score.accuracy(outputs, y), aux
