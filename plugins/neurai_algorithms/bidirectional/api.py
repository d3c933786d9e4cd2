"""The documented class of bidirectional predictive coding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from neurai_algorithms.bidirectional.inference import Inferred
from neurai_algorithms.bidirectional.layers import checked, extended, two_way
from neurai_algorithms.bidirectional.spec import BiPCConfig
from neurai_algorithms.bidirectional.task import clamped
from neurai_algorithms.predictive_coding.api import PC
from neurai_algorithms.predictive_coding.spec import PCMode
from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import UsageError
from neurai_core.explain import validate_settings
from neurai_core.grads.base import Code, Given, LocalBase
from neurai_core.layered import Layered
from neurai_core.losses import loss_function


class BiPC(PC):
    """Bidirectional predictive coding: one network that classifies, generates, reconstructs and fills in.

    Args:
        loss_f: loss at the label end by name or callable ``(outputs, targets) -> scalar``.
        loss_f_b: loss at the input end by name or callable ``(predicted inputs, inputs) -> scalar``.
        acc_f: accuracy, a name or a callable ``(outputs, targets) -> scalar``; None reports -1.
        eta: step of one sweep, a number > 0.
        n: sweeps, at least 1.
        eta_trace: an `EtaTrace`, or what it takes as ``step``; corrects the step. None leaves it constant.
        mode: ``PCMode.SWEIGHT_BISTRICT`` (shared weights) or ``PCMode.BISTRICT`` (separate ones).
        fun_has_aux: whether ``loss_f`` returns a pair whose second part is returned.
        alpha_f: weight of the upward predictions in the energy.
        alpha_b: weight of the downward ones; None is 0.1 with shared weights and 0.01 with separate ones, and
            proportionally less with more than 64 inputs. With 0 the rule is strict predictive coding, bit for bit.
        **settings: further settings of `BiPCConfig`: ``precision``, ``loss_scale``, ``fresh``, ``stable``,
            ``energy_trace``.

    Raises:
        SettingsError: a setting is unknown or out of range.

    Every method takes the plain model and the parameters from `init`: one tree with an entry
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
        """Make the parameters of both directions.

        Args:
            model: a `Layered`, or a model of a library with an adapter.
            key: PRNG key.
            input_shape: shape of one example.
            params: existing parameters of the model, one entry per layer; None draws new ones.

        Returns:
            A tuple with one ``{"up": ..., "down": ...}`` per layer; the ``up`` parts are ``params``, or what the
            model's own ``init`` gives for this key.

        Raises:
            ModelError: a layer cannot be reversed.
        """
        if params is None:
            return two_way(model, self.shared).init(key, input_shape)[0]
        return extended(model, params, key=key, input_shape=input_shape, shared=self.shared)

    def generate(self, model: Any, param: PyTree, y: Any) -> jax.Array:
        """Generate the inputs that the label end predicts, in one downward sweep.

        Args:
            model: as in ``get_grads``.
            param: parameters of both directions.
            y: integer labels (B,), or activities of the label end (B, ...).

        Returns:
            Inputs (B, ...).

        Raises:
            DataError: labels outside the classes.
        """
        both = self._two_way(model, param, y)
        return _ask(self, "generate", both, None, param, jnp.asarray(y))

    def reconstruct(self, model: Any, param: PyTree, x: Any, layer: int = 1) -> jax.Array:
        """Reconstruct inputs from a layer: sweep up to it, then back down.

        Args:
            model: as in ``get_grads``.
            param: parameters of both directions.
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
        """Fill in missing parts of either end: known values are held fixed, everything else relaxes.

        Args:
            model: as in ``get_grads``.
            param: parameters of both directions.
            x: inputs (B, ...); None when all of them are missing.
            y: integer labels (B,) or activities of the label end; None when missing.
            mask: True where ``x`` is known, of any shape that broadcasts to it; a pair of masks for ``(x, y)``; None
                when everything given is known.
            n: steps; 50 times the rule's ``n`` by default.

        Returns:
            `Inferred`.

        Raises:
            UsageError: neither x nor y is given.
            DataError: labels outside the classes.
        """
        both = self._two_way(model, param, y)
        return _ask(self, "infer", both, n, param, x, y, mask)

    def probe(self, *args: Any, **kwargs: Any) -> Any:
        """Not available for this rule, whose energy has two directions.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "Bidirectional predictive coding has no probe.", hint="PC(...).probe looks at the upward direction alone."
        )

    def _two_way(self, model: Any, param: PyTree, y: Any) -> Layered:
        """The two-way model, after a check of parameters and labels: here the values of labels are concrete."""
        both = checked(model, param, self.shared)
        if y is not None:
            clamped(both, param, y)
        return both

    def _prepare(self, model: Any, param: PyTree, batch: Any, kwargs: dict[str, Any], *, starts: bool = False) -> Any:
        both = checked(model, param, self.shared)
        return super()._prepare(both, param, batch, kwargs, starts=starts)


def _ask(method: BiPC, question: str, model: Layered, choice: Any, params: PyTree, *given: Any) -> Any:
    code, numbers = method._code()
    return _answered(code, question, model, choice, Given(params, (), {}, numbers, {}), *given)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _answered(code: Code, question: str, model: Layered, choice: Any, known: Given, *given: Any) -> Any:
    rule, params = code.rule(known), known.params
    if question == "infer":
        return rule.infer(model, params, *given, n=choice)  # type: ignore[attr-defined]
    return getattr(rule, question)(model, params, *given, *(() if choice is None else (choice,)))
