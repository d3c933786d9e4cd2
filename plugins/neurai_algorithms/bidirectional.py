r"""Bidirectional predictive coding: every layer predicts the one above and the one below.

One network then classifies (a sweep up), generates (a sweep down from a label), reconstructs its input from any layer,
and fills in what is missing of either end. Energy and descent are in `bidirectional_relaxation`, the way down in
`bidirectional_layers`, what the network can be asked in `bidirectional_inference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from neurai_algorithms.bidirectional_inference import (
    Inferred,
    bottom_like,
    clamped,
    generated,
    inferred,
    reconstructed,
    top_like,
)
from neurai_algorithms.bidirectional_layers import check_params, extended, input_shapes, reverse, two_way
from neurai_algorithms.bidirectional_relaxation import BothWays, FoundBoth, known_to_be, relaxed_both
from neurai_algorithms.bidirectional_spec import BiPCConfig, EtaTrace
from neurai_algorithms.pc_task import Found, Task
from neurai_algorithms.predictive_coding import PC
from neurai_algorithms.predictive_coding_spec import PCConfig, PCMode
from neurai_core.arrays import PyTree, Shape, batch_size, shape_text, tree_norm
from neurai_core.errors import ModelError, UsageError
from neurai_core.explain import validate_settings
from neurai_core.grads.base import LocalBase
from neurai_core.layered import Layered, check_forward
from neurai_core.losses import loss_function
from neurai_core.rule import Estimate, Objective, check_objective, loss_aux, model_state_of, objective, split_batch

INFER_SWEEPS = 50  # times n, the steps of `infer` when none are given: a missing end moves at the pace of alpha_b


class BiPCRule(NamedTuple):
    """A `Rule` that can be asked more.

    Attributes:
        init: as in `Rule`; the params are those of the two-way model.
        estimate: as in `Rule`.
        predict: as in `Rule`.
        extended: ``(model, params, *, key, input_shape) -> (two-way model, its params)``: a plain model and its
            parameters with downward ones beside them.
        generate: ``(model, params, y) -> x``: what the label end predicts.
        reconstruct: ``(model, params, x, layer) -> x``: what layer 1..L predicts when x is shown.
        infer: ``(model, params, x=None, y=None, mask=None, *, n=None) -> Inferred``.
        origin: as in `Rule`.
    """

    init: Callable[..., PyTree]
    estimate: Callable[..., tuple[Estimate, PyTree]]
    predict: Callable[..., PyTree]
    extended: Callable[..., tuple[Layered, PyTree]]
    generate: Callable[..., jax.Array]
    reconstruct: Callable[..., jax.Array]
    infer: Callable[..., Inferred]
    origin: Any = None


def build(
    config: BiPCConfig,
    *,
    loss: Callable[..., Any],
    accuracy: Callable[..., Any] | None = None,
    has_aux: bool = False,
    **context: Any,
) -> BiPCRule:
    """The rule "bidirectional predictive coding".

    Args:
        config: settings.
        loss: at the label end, ``(outputs, targets) -> scalar``, or a pair when ``has_aux``.
        accuracy: ``(outputs, targets) -> scalar`` or None.
        has_aux: whether the loss returns a pair.
        **context: not used.
    """
    scores = objective(loss, accuracy, has_aux), objective(loss_function(config.loss_b), None)
    both = partial(_both, config)

    def init(model: Any, params: PyTree, *, key: Any = None, model_state: PyTree = ()) -> PyTree:
        both(model, params)
        return model_state

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        task = _checked_task(config, scores, both(model, params), params, batch)
        return _report(task, relaxed_both(task), params), state

    def predict(model: Any, params: PyTree, x: PyTree, state: PyTree = ()) -> PyTree:
        return both(model, params).apply(params, model_state_of(state), x)[0]

    def extend(model: Any, params: PyTree, *, key: jax.Array, input_shape: Shape) -> tuple[Layered, PyTree]:
        more = extended(model, params, key=key, input_shape=input_shape, shared=config.shared)
        return two_way(model, config.shared), more

    def generate(model: Any, params: PyTree, y: jax.Array) -> jax.Array:
        return generated(both(model, params), params, y)

    def reconstruct(model: Any, params: PyTree, x: jax.Array, layer: int = 1) -> jax.Array:
        return reconstructed(both(model, params), params, x, layer)

    def infer(
        model: Any, params: PyTree, x: Any = None, y: Any = None, mask: Any = None, *, n: int | None = None
    ) -> Inferred:
        model = both(model, params)
        (x, known_x), (y, known_y) = _ends(model, params, x, y, mask)
        task = _task(config, scores, model, params, x, y, y)
        return inferred(task, (known_x, known_y), INFER_SWEEPS * config.n if n is None else n)

    return BiPCRule(init, estimate, predict, extend, generate, reconstruct, infer)


class BiPC(PC):
    """Bidirectional predictive coding: one network that classifies, generates, reconstructs and fills in.

    Args:
        loss_f: loss at the label end by name or callable ``(outputs, targets) -> scalar``.
        loss_f_b: loss at the input end by name or callable ``(predicted inputs, inputs) -> scalar``.
        acc_f: accuracy by name or callable ``(outputs, targets) -> scalar``; None reports -1.
        eta: step of one sweep, a number > 0.
        n: sweeps, at least 1.
        eta_trace: an `EtaTrace`, or what it takes as ``step``; corrects the step. None leaves it constant.
        mode: ``PCMode.SWEIGHT_BISTRICT`` (one set of weights for both ways) or ``PCMode.BISTRICT`` (separate ones).
        fun_has_aux: whether ``loss_f`` returns a pair whose second part is handed back.
        alpha_f: weight of the upward predictions in the energy.
        alpha_b: weight of the downward ones; None is 0.1 with shared weights and 0.01 with separate ones, and with
            more than 64 inputs less in proportion. With 0 the rule is strict predictive coding, to the last bit.
        **settings: further settings of `BiPCConfig`: ``precision``, ``loss_scale``, ``fresh``, ``stable``,
            ``energy_trace``.

    Raises:
        SettingsError: a setting is unknown or out of range.

    Every method takes the plain model; the parameters are those that `init` makes, one tree with an entry
    ``{"up": ..., "down": ...}`` per layer.

    Example:
        >>> from neurai_core.models import mlp
        >>> rule = BiPC("sum_squared_error", "sum_squared_error", "accuracy")
        >>> model = mlp((4, 8, 3), "tanh")
        >>> params = rule.init(model, jax.random.key(0), (4,))
        >>> grads, loss, accuracy = rule.get_grads(model, params, (jnp.ones((6, 4)), jnp.zeros(6, int)))
        >>> jax.tree.map(jnp.shape, grads[0])
        {'down': {'b': (4,)}, 'up': {'b': (8,), 'w': (4, 8)}}
        >>> rule.generate(model, params, jnp.arange(3)).shape
        (3, 4)
    """

    algorithm: ClassVar[str] = "bipc"

    def __init__(
        self,
        loss_f: str | Callable[..., Any],
        loss_f_b: str | Callable[..., Any],
        acc_f: str | Callable[..., Any] | None = None,
        eta: Any = 0.1,
        n: int = 20,
        eta_trace: Any = None,
        mode: PCMode | str = PCMode.SWEIGHT_BISTRICT,
        fun_has_aux: bool = False,
        alpha_f: float = 1.0,
        alpha_b: float | None = None,
        **settings: Any,
    ) -> None:
        LocalBase.__init__(self, loss_f, acc_f, fun_has_aux)
        self.loss_f_b = loss_function(loss_f_b)
        given = {"loss_b": self.loss_f_b, "eta": eta, "n": n, "eta_trace": eta_trace, "mode": mode}
        weights = {"alpha_f": alpha_f, "alpha_b": alpha_b}
        config = validate_settings(BiPCConfig, {**given, **weights, **settings}, name=self.algorithm)
        assert isinstance(config, BiPCConfig)  # of the class given
        self.shared = config.shared
        self._settings = {name: getattr(config, name) for name in type(config).model_fields}

    def init(self, model: Any, key: jax.Array, input_shape: Shape, params: PyTree = None) -> PyTree:
        """Parameters of both ways.

        Args:
            model: a `Layered`, or a model of a library with an adapter.
            key: PRNG key.
            input_shape: shape of one example.
            params: parameters that the model has already, one entry per layer; None draws them.

        Returns:
            A tuple with one ``{"up": ..., "down": ...}`` per layer; the ``up`` parts are ``params``, or what the
            model's own ``init`` gives for this key.

        Raises:
            ModelError: a layer cannot be reversed; names it.
        """
        if params is None:
            return two_way(model, self.shared).init(key, input_shape)[0]
        return extended(model, params, key=key, input_shape=input_shape, shared=self.shared)

    def generate(self, model: Any, param: PyTree, y: Any) -> jax.Array:
        """What the label end predicts: a sweep down.

        Args:
            model: as in ``get_grads``.
            param: parameters of both ways.
            y: integer labels (B,), or activities of the label end (B, ...).

        Returns:
            Inputs (B, ...).

        Raises:
            DataError: labels outside the classes.
        """
        both = two_way(model, self.shared)
        self._check_ends(both, param, y)
        return _ask(self, "generate", both, None, param, jnp.asarray(y))

    def reconstruct(self, model: Any, param: PyTree, x: Any, layer: int = 1) -> jax.Array:
        """What a layer predicts when inputs are shown: a sweep up to it, and down again.

        Args:
            model: as in ``get_grads``.
            param: parameters of both ways.
            x: inputs (B, ...).
            layer: 1 (next to the input) to L.

        Returns:
            Inputs (B, ...).

        Raises:
            UsageError: the network has no such layer.
        """
        return _ask(self, "reconstruct", two_way(model, self.shared), layer, param, jnp.asarray(x))

    def infer(
        self, model: Any, param: PyTree, x: Any = None, y: Any = None, mask: Any = None, *, n: int | None = None
    ) -> Inferred:
        """Fill in what is missing of either end: what is known is held, everything else relaxes.

        Args:
            model: as in ``get_grads``.
            param: parameters of both ways.
            x: inputs (B, ...); None when all of them are missing.
            y: integer labels (B,) or activities of the label end; None when missing.
            mask: True where ``x`` is known, of any shape that broadcasts to it; a pair of masks for ``(x, y)``; None
                when what is given is known.
            n: steps; 50 times the rule's ``n`` by default.

        Returns:
            `Inferred`.

        Raises:
            UsageError: neither x nor y is given.
            DataError: labels outside the classes.
        """
        both = two_way(model, self.shared)
        self._check_ends(both, param, y)
        return _ask(self, "infer", both, n, param, x, y, mask)

    def probe(self, *args: Any, **kwargs: Any) -> Any:
        """Not for this rule, whose energy has two directions.

        Raises:
            UsageError: always.
        """
        raise UsageError("Bidirectional predictive coding has no probe.", hint="PC(...).probe sees the way up alone.")

    def _check_ends(self, both: Layered, param: PyTree, y: Any) -> None:
        """Look at labels here, where their values are known."""
        check_params(both, param)
        if y is not None:
            clamped(both, param, y)

    def _prepare(self, model: Any, param: PyTree, batch: Any, kwargs: dict[str, Any]) -> Any:
        both = two_way(model, self.shared)
        check_params(both, param)
        return super()._prepare(both, param, batch, kwargs)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _ask(method: BiPC, question: str, model: Layered, choice: Any, params: PyTree, *given: Any) -> Any:
    rule = method.rule()
    if question == "infer":
        return rule.infer(model, params, *given, n=choice)  # type: ignore[attr-defined]
    return getattr(rule, question)(model, params, *given, *(() if choice is None else (choice,)))


# ---------------------------------------------------------------------------- the batch as the solver sees it


def _both(config: BiPCConfig, model: Any, params: PyTree) -> Layered:
    """The two-way model, its parameters checked."""
    both = two_way(model, config.shared)
    check_params(both, params)
    return both


def _checked_task(
    config: BiPCConfig, scores: tuple[Objective, Objective], model: Layered, params: PyTree, batch: PyTree
) -> BothWays:
    """Everything that can be wrong with a batch, found without computing."""
    x, y = split_batch(batch)
    outputs = check_forward(model, params, x)
    _check_bottom(params, x)
    check_objective(scores[0], outputs, y)
    x = model.inputs(params, x)
    check_objective(scores[1], jax.eval_shape(lambda x: x, x), x)
    return _task(config, scores, model, params, x, y, clamped(model, params, y))


def _task(
    config: BiPCConfig,
    scores: tuple[Objective, Objective],
    model: Layered,
    params: PyTree,
    x: jax.Array,
    y: jax.Array,
    top: jax.Array,
) -> BothWays:
    shapes = input_shapes(params)[1:]
    maps = [math.prod(shape) for shape in shapes if len(shape) > 1]
    full = config.for_inputs(math.prod(x.shape[1:]), max(maps, default=0))
    settings = PCConfig.model_validate({}).model_copy(
        update={"loss_scale": _loss_scale(config.loss_scale, full.precision, x)}
    )
    states: tuple[PyTree, ...] = ((),) * len(model)
    down, down_params = reverse(model, params)
    return BothWays(
        Task(model, tuple(params), states, x, y, None, scores[0], settings),
        Task(down, down_params, states, top, x, None, scores[1], settings),
        full,
        _hidden_down(config, full.precision, shapes),
    )


def _loss_scale(scale: Any, precision: Any, x: jax.Array) -> Any:
    """The factor on both losses: what descends is F over the precision, so that the step need not follow it."""
    if known_to_be(precision, 1):
        return scale
    return (float(batch_size(x)) if scale == "per_sample" else scale) / precision


def _hidden_down(given: BiPCConfig, precision: Any, shapes: tuple[Shape, ...]) -> tuple[Any, ...] | None:
    """Weights of the downward errors of hidden layers: with ``alpha_b`` by default, a mean over positions."""
    positions = [1 if given.alpha_b is not None else math.prod(shape[:-1]) for shape in shapes]
    weights = tuple(1 / (precision * count) for count in positions)
    return None if all(known_to_be(weight, 1) for weight in weights) else weights


def _check_bottom(params: PyTree, x: jax.Array) -> None:
    expected = input_shapes(params)[0]
    if tuple(x.shape[1:]) != expected:
        raise ModelError(
            f"x is {shape_text(x)}, and the way down gives examples of shape {expected}.",
            hint="Downward biases have the shape of the data: make the parameters with this input_shape.",
        )


def _ends(model: Layered, params: PyTree, x: Any, y: Any, mask: Any) -> tuple[Any, Any]:
    """Both ends as arrays, zeros where nothing is given, each with a mask of what is known."""
    if x is None and y is None:
        raise UsageError(
            "infer needs x, y or both, and got neither.", hint="generate(model, params, y) is a sweep down."
        )
    batch = jnp.shape(y if x is None else x)[0]
    masks = mask if isinstance(mask, tuple | list) else (mask, None)
    bottom, top = bottom_like(params, batch), top_like(model, params, batch)
    if x is not None:
        _check_bottom(params, x)
    return _end(x, masks[0], bottom), _end(None if y is None else clamped(model, params, y), masks[1], top)


def _end(given: Any, mask: Any, like: jax.ShapeDtypeStruct) -> tuple[jax.Array, jax.Array]:
    if given is None:
        return jnp.zeros(like.shape, like.dtype), jnp.zeros(like.shape, bool)
    known = jnp.broadcast_to(True if mask is None else jnp.asarray(mask, bool), like.shape)
    return jnp.where(known, jnp.asarray(given, like.dtype), 0), known


# ---------------------------------------------------------------------------- after a batch


def _report(task: BothWays, found: FoundBoth, params: PyTree) -> Estimate:
    """The loss reported is that of the sweep up, whatever the beliefs came to."""
    outputs = found.up.outputs if found.up else task.up.model(task.up.params, task.up.x)
    loss, extra = task.up.score.loss(outputs, task.up.y)
    aux = {**loss_aux(extra), "steps": jnp.asarray(task.config.n, jnp.int32), **_norms(found)}
    aux |= {"energy_change": found.energy_change, "step_scale": found.step_scale}
    if task.config.energy_trace:
        aux |= {"energy": found.energy, "trace": {"inference": {"energy": found.energy}}}
    grads = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found.grads))
    return Estimate(grads, loss, task.up.score.accuracy(outputs, task.up.y), aux)


def _norms(found: FoundBoth) -> dict[str, jax.Array]:
    """Norms of the errors of every prediction: upwards of v_1..v_L, downwards of v_0..v_{L-1}."""
    ways: tuple[tuple[str, Found | None], ...] = (("error_norms", found.up), ("error_norms_down", found.down))
    return {
        name: jnp.stack([tree_norm(e) for e in (way.errors if name == "error_norms" else way.errors[::-1])])
        for name, way in ways
        if way is not None
    }


__all__ = ["BiPC", "BiPCRule", "EtaTrace", "Inferred", "build", "two_way"]
