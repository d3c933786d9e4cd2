"""``GradeBase`` and ``LocalBase``: the documented classes, each a thin wrapper around a registered learning rule.

A subclass names its rule and keeps its settings; compiling, checking and converting the model happen here. Floats are
traced, everything else is static: a step is compiled once per (model, shapes, non-float settings), regardless of the
object that uses it. Counts, such as a number of sweeps, are static, because loops of known length are faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import is_
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeAlias
from weakref import WeakValueDictionary

import jax
import jax.numpy as jnp
import numpy as np

from neurai_core.adapting import Adapted, adapt
from neurai_core.arrays import PyTree, Scalar
from neurai_core.data import check_batch
from neurai_core.errors import UsageError
from neurai_core.explain import is_traced, takes_float
from neurai_core.explicit_axes import estimated
from neurai_core.layered import check_forward
from neurai_core.losses import accuracy_function, loss_function
from neurai_core.rule import (
    Estimate,
    Problem,
    Rule,
    State,
    check_objective,
    initial_state,
    model_state_of,
    objective,
    problem_of,
    split_batch,
    takes_problem,
)
from neurai_core.specs import Config

Settings: TypeAlias = Mapping[str, Any]
NOTHING: Settings = MappingProxyType({})


class GradeBase:
    """Base class of gradient algorithms.

    Args:
        loss_f: loss, a name or a callable ``(outputs, targets) -> scalar``; keyword arguments that ``get_grads`` or
            ``predict`` do not know are passed on to it.
        acc_f: accuracy, a name or a callable ``(outputs, targets) -> scalar``; None reports -1.
        fun_has_aux: whether ``loss_f`` returns a pair; the second part is returned, never differentiated.

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
        self._coded: tuple[list[Any], Any] = [None], None

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the rule, by the names of its config."""
        return {}

    @property
    def context(self) -> dict[str, Any]:
        """Further hashable objects that the rule is built with, besides its loss and settings."""
        return {}

    def rule(self, **loss_kwargs: Any) -> Rule:
        """The learning rule, with ``loss_kwargs`` bound to the loss."""
        return self._rule(loss_kwargs)

    def _rule(self, loss_kwargs: Settings, changes: Settings = NOTHING, more: Settings = NOTHING) -> Rule:
        """The rule with other settings and further objects for its build function."""
        from neurai_core.registry import REGISTRY

        if not self.algorithm:
            raise UsageError(
                f"{type(self).__name__} does not name a learning rule.",
                hint="Use BP, PC, ..., or set `algorithm` in a subclass.",
            )
        scores = {"loss": self._loss(loss_kwargs), "accuracy": self.acc_f, "has_aux": self.fun_has_aux}
        context, settings = {**scores, **self.context, **more}, {**self.settings, **changes}
        return REGISTRY.create("algorithm", self.algorithm, context=context, settings=settings, recorded=scores)

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
        """Compute gradients of the loss of one batch with respect to the parameters.

        Compiles once per (model, shapes, non-float settings). A rule with a state of its own starts afresh in every
        call; use its `Rule` to carry the state from step to step.

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
            ModelError: model, parameters, inputs and loss do not fit together.
            DataError: empty batch, lengths that differ, labels outside the classes.
        """
        adapted, params, model_state = self._prepare(model, param, batch_data, kwargs, starts=True)
        estimate, state = self._estimate(adapted.model, params, model_state, batch_data, key, kwargs)
        grads = adapted.join(estimate.grads, jax.tree.map(_no_gradient, model_state))
        result: tuple[Any, ...] = (grads, estimate.loss, estimate.accuracy)
        if self.fun_has_aux:
            result += (estimate.aux.get("loss_aux"),)
        if return_param:
            result += (param if model_state == () else adapted.join(params, model_state_of(state)),)
        return result

    def predict(self, model: Any, param: PyTree, batch_data: tuple[PyTree, PyTree], **kwargs: Any) -> tuple[Any, ...]:
        """Compute loss and accuracy of one batch, with the model in evaluation mode.

        Args:
            model: as in ``get_grads``.
            param: its parameters, in the library's own structure.
            batch_data: ``(x, y)``, batch axis first.
            **kwargs: numbers or arrays passed on to the loss.

        Returns:
            ``(loss, accuracy)``, then the loss's second part if ``fun_has_aux``.

        Raises:
            ModelError: model, parameters, inputs and loss do not fit together.
            DataError: empty batch, lengths that differ, labels outside the classes.
        """
        adapted, params, model_state = self._prepare(model, param, batch_data, kwargs)
        code, numbers = self._code()
        given = Given(params, model_state, kwargs, numbers, {})
        loss, accuracy, aux = _evaluated(code, adapted.model, given, batch_data)
        return (loss, accuracy, aux) if self.fun_has_aux else (loss, accuracy)

    def _estimate(
        self,
        model: Any,
        params: PyTree,
        model_state: PyTree,
        batch: Any,
        key: Any,
        kwargs: dict[str, Any],
        *,
        own: PyTree = None,
        objects: Settings = NOTHING,
        arrays: Settings = NOTHING,
    ) -> tuple[Estimate, PyTree]:
        """The estimate of one batch, compiled.

        Args:
            model: an adapted model.
            params: its parameters.
            model_state: its collections.
            batch: ``(x, y)``.
            key: PRNG key, or None.
            kwargs: passed on to the loss.
            own: the rule's own state; None starts afresh.
            objects: further hashable arguments of the rule's build function.
            arrays: further arguments that are trees of arrays.
        """
        code, numbers = self._code(objects)
        return _estimated(code, model, Given(params, model_state, kwargs, numbers, dict(arrays)), own, batch, key)

    def _code(self, objects: Settings = NOTHING) -> tuple[Code, dict[str, Any]]:
        """The static choices to compile for, and the numbers to pass to the compiled step."""
        parts = self.settings, self.context, objects
        now = [one for part in parts for one in (*part, *part.values())]
        before, coded = self._coded
        if len(now) != len(before) or not all(map(is_, now, before)):  # checking identity is faster than equality
            coded = self._sorted_out(*parts)
            self._coded = now, coded
        return coded

    def _sorted_out(self, settings: Settings, context: Settings, objects: Settings) -> tuple[Code, dict[str, Any]]:
        from neurai_core.registry import REGISTRY

        config = REGISTRY.spec("algorithm", self.algorithm).config if self.algorithm else Config
        numbers, fixed = {}, []
        for name, value in settings.items():
            if _is_number(value) and takes_float(config, name) and not _in(config.compiled_for.get(name, ()), value):
                numbers[name] = value
            else:
                fixed.append((name, value))
        scores = type(self), self.loss_f, self.acc_f, self.fun_has_aux
        choices = (*scores, *sorted(fixed), *sorted(numbers), *context.items(), *objects.items())
        return _CODES.setdefault(choices, Code(self, objects)), numbers

    def _prepare(
        self, model: Any, param: PyTree, batch: tuple[PyTree, PyTree], kwargs: dict[str, Any], *, starts: bool = False
    ) -> tuple[Adapted, PyTree, PyTree]:
        """Model, parameters and collections, checked; ``starts`` if the rule is about to learn."""
        adapted = adapt(model, needs=self.needs)
        params, model_state = adapted.split(param)
        seen = adapted.model, starts, _shapes(batch)
        if seen not in self._checked:
            self._check(adapted.model, params, model_state, batch, kwargs)
            if starts:  # warn here, where numbers are concrete that are traced in the compiled step
                jax.eval_shape(partial(_start, self.rule(**kwargs), adapted.model), params, model_state, batch)
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
        """Check everything, once per model and shapes; values are checked in this first batch only."""
        x, y = split_batch(batch)
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(batch))
        if not traced:
            for inputs, targets in product(jax.tree.leaves(x) or [x], jax.tree.leaves(y) or [y]):
                check_batch(inputs, targets)
        outputs = check_forward(model, params, x, model_state=model_state)
        check_objective(objective(self._loss(kwargs), self.acc_f, self.fun_has_aux), outputs, y)

    def _loss(self, kwargs: Settings) -> Callable[..., Any]:
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
        split_batch(batch)  # raises if something is wrong
    leaves, structure = jax.tree.flatten(batch)
    return structure, *((np.shape(leaf), getattr(leaf, "dtype", None)) for leaf in leaves)


# ---------------------------------------------------------------------------- what is compiled


@dataclass(frozen=True, eq=False)
class Code:
    """The static part of a method, on which a compiled step depends; the same object for the same choices.

    Attributes:
        method: one of the methods that share it.
        objects: objects that the rule is built with, besides the method's own.
    """

    method: GradeBase
    objects: Settings

    def rule(self, given: Given) -> Rule:
        """The rule with its numbers traced."""
        return self.method._rule(given.loss_kwargs, given.numbers, {**self.objects, **given.arrays})


_CODES: WeakValueDictionary[tuple[Any, ...], Code] = WeakValueDictionary()


class Given(NamedTuple):
    """The arguments of a compiled step besides the batch.

    Attributes:
        params: parameters.
        model_state: collections.
        loss_kwargs: passed on to the loss.
        numbers: settings.
        arrays: arrays that the rule is built with.
    """

    params: PyTree
    model_state: PyTree
    loss_kwargs: dict[str, Any]
    numbers: dict[str, Any]
    arrays: dict[str, Any]


@partial(jax.jit, static_argnums=(0, 1))
def _estimated(code: Code, model: Any, given: Given, own: PyTree, batch: Any, key: Any) -> tuple[Estimate, PyTree]:
    rule = code.rule(given)
    if own is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # already given, with numbers
            state = _start(rule, model, given.params, given.model_state, batch)
    else:
        state = State(given.model_state, own)
    found: tuple[Estimate, PyTree] = estimated(rule.estimate, model, given.params, state, batch, key=key)
    return found


def _start(rule: Rule, model: Any, params: PyTree, model_state: PyTree, batch: Any) -> PyTree:
    """A fixed key, so that draws that a rule keeps, such as feedback weights, are the same in every call."""
    problem = _problem(model, params, model_state, batch) if takes_problem(rule.init) else None
    return initial_state(rule, model, params, key=jax.random.key(0), model_state=model_state, problem=problem)


def _problem(model: Any, params: PyTree, model_state: PyTree, batch: Any) -> Problem:
    """The problem of a batch; integer targets, one for every row of the outputs, are labels of classes."""
    x, y = problem_of(batch).batch
    outputs = check_forward(model, params, x, model_state=model_state)
    labels = isinstance(y, jax.ShapeDtypeStruct) and jnp.issubdtype(y.dtype, jnp.integer)
    return Problem((x, y), outputs.shape[-1] if labels and outputs.shape[:-1] == y.shape else None)


@partial(jax.jit, static_argnums=(0, 1))
def _evaluated(code: Code, model: Any, given: Given, batch: Any) -> tuple[Scalar, Scalar, PyTree]:
    (x, y), method, rule = batch, code.method, code.rule(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about learning
        state = _start(rule, model, given.params, given.model_state, batch)
    outputs = rule.predict(model, given.params, x, state)
    score = objective(method._loss(given.loss_kwargs), method.acc_f, method.fun_has_aux)
    loss, aux = score.loss(outputs, y)
    return loss, score.accuracy(outputs, y), aux


def _is_number(value: Any) -> bool:
    """Whether a setting is a Python number, or a NumPy or JAX scalar."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or getattr(value, "shape", None) == ()


def _in(numbers: tuple[float, ...], value: Any) -> bool:
    return not is_traced(value) and float(value) in numbers
