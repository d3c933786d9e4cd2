"""The documented class ``EP`` around the rule of equilibrium propagation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import jax
import jax.numpy as jnp
import numpy as np

from neurai_algorithms.equilibrium.chain import bound
from neurai_algorithms.equilibrium.energies import energy_of
from neurai_algorithms.equilibrium.estimators import needed
from neurai_algorithms.equilibrium.phases import BLOWN_UP
from neurai_algorithms.equilibrium.rule import build
from neurai_algorithms.equilibrium.spec import PRESETS, EPConfig, EPMode
from neurai_algorithms.predictive_coding.network_task import as_network
from neurai_core.adapting import Adapted
from neurai_core.arrays import PyTree, Scalar, whole_number
from neurai_core.energy import Activities, Energy
from neurai_core.errors import TrainingError, UnknownName, UsageError
from neurai_core.explain import is_traced, validate_settings
from neurai_core.grads.base import NOTHING, LocalBase, Settings
from neurai_core.layered import Layered
from neurai_core.naming import did_you_mean
from neurai_core.network import learning_network
from neurai_core.rising import watched
from neurai_core.rule import Estimate, Rule, State


class EP(LocalBase):
    """Equilibrium propagation: gradients from the difference between a free and a nudged equilibrium.

    Args:
        loss_f: loss, a name or a callable ``(outputs, targets) -> scalar``; it nudges the outputs. A callable is
            taken as a mean over the batch, so that ``beta`` means the same for every batch size.
        acc_f: accuracy, a name or a callable ``(outputs, targets) -> scalar``; None reports -1.
        beta: strength of the nudge, not 0.
        dt: step of a relaxation in units of ``tau``, or a schedule ``number of the step -> dt``.
        n_relax: steps of a phase.
        tau: time constant of the activities; only ``dt / tau`` matters.
        tol: a phase ends once its residual (norm of the force per example, mean over the batch, summed over
            layers) is below this; 0 disables the check.
        mode: an `EPMode` or its name.
        activation: name or elementwise callable that replaces the model's own: in all layers with ``hopfield``,
            in hidden ones with ``gaussian``.
        fun_has_aux: whether ``loss_f`` returns a pair; its second part is not differentiated.
        energy: ``gaussian``, ``hopfield``, ``module:attribute``, or an `Energy`; all but ``gaussian`` need layers.
        init: where free phases start: ``zeros``, ``normal`` (needs a key), ``feedforward``, ``persistent`` (where
            the last batch of the same shape ended, see ``activities``), or the activities ``(u_1, ..., u_L)``; for
            a network, those of its named values, then its outputs. None takes the energy's default.
        order: ``synchronous`` or ``even_odd``.
        coordinates: ``activities``, or ``errors``, which reach all layers in every step.
        n_points: number of nudges of mode HOLOMORPHIC.
        linearized: contract the mixed second derivative of E at the free state with the change in activities.
        n_nudged: steps of a nudged phase; None takes ``n_relax``.
        check_every: compare the residual with ``tol`` every this many steps.
        stable: take a smaller step than ``dt`` where the energy is too curved for it.
        linearised: former spelling of ``linearized``.

    Attributes:
        activities: with init ``persistent``, the free activities of the last batch; may be set, for instance to
            rows that are kept for every example.

    Raises:
        UnknownName: no loss, accuracy, activation or energy has that name.
        SettingsError: a setting is out of range, or cannot work with this loss and energy.
        ModelError: the activation is not elementwise.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from neurai_core.models import mlp
        >>> model = mlp((4, 8, 3), activation="tanh")
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> batch = jnp.ones((16, 4)), jnp.zeros(16, int)
        >>> ep = EP("cross_entropy", "accuracy", mode=EPMode.SYMMETRIC, beta=0.1)
        >>> grads, accuracy, loss, energy = ep.get_grads(model, params, batch)
        >>> grads[0]["w"].shape
        (4, 8)
    """

    algorithm: ClassVar[str] = "ep"
    needs: ClassVar[str] = "network"

    def __init__(
        self,
        loss_f: str | Callable[..., Any],
        acc_f: str | Callable[..., Any] | None = None,
        beta: float = 1.0,
        dt: float | Callable[[Scalar], Scalar] = 0.1,
        n_relax: int = 20,
        tau: float = 1,
        tol: float = 0,
        mode: EPMode | str = EPMode.TWO_PHASE,
        activation: str | Callable[[jax.Array], jax.Array] | None = None,
        fun_has_aux: bool = False,
        *,
        energy: str | Energy = "gaussian",
        init: str | Sequence[jax.Array] | None = None,
        order: str = "synchronous",
        coordinates: str = "activities",
        n_points: int = 2,
        linearized: bool = False,
        n_nudged: int | None = None,
        check_every: int = 1,
        stable: bool = True,
        linearised: bool = False,
    ) -> None:
        super().__init__(loss_f, acc_f, fun_has_aux)
        given: dict[str, Any] = {
            "beta": beta,
            "dt": dt,
            "n_relax": n_relax,
            "tau": tau,
            "tol": tol,
            "mode": mode,
            "activation": activation,
            "energy": energy,
            "init": init,
            "order": order,
            "coordinates": coordinates,
            "n_points": n_points,
            "linearized": linearized or linearised,
            "n_nudged": n_nudged,
            "check_every": check_every,
            "stable": stable,
        }
        self.activities: Activities | None = None
        self._start = None if _plain(init) else tuple(map(jnp.asarray, init))  # type: ignore[arg-type]
        self._objects = {role: given[name] for name, role in _OBJECTS.items() if not _plain(given[name])}
        named = {name: _known(value) for name, value in given.items() if _plain(value)}
        self._config = cast(EPConfig, validate_settings(EPConfig, named, name=self.algorithm))
        self._settings = {name: getattr(self._config, name) for name in named}
        self._rule({}, more=self._arrays())  # says what is wrong, while numbers are known

    def _arrays(self) -> dict[str, Any]:
        return {} if self._start is None else {"activities": self._start}

    @classmethod
    def preset(
        cls, name: str, loss_f: Any = None, acc_f: str | Callable[..., Any] | None = "accuracy", **changes: Any
    ) -> Self:
        """Create a rule from named settings that are known to train.

        Args:
            name: a key of ``equilibrium_spec.PRESETS``.
            loss_f: None takes the preset's.
            acc_f: as for the class.
            **changes: settings that override the preset's.

        Raises:
            UnknownName: no preset has that name.

        >>> EP.preset("hopfield-digits", beta=0.2).settings["beta"]
        0.2
        """
        if name not in PRESETS:
            raise UnknownName(
                f"No preset is named {name!r}.{did_you_mean(name, PRESETS)}", hint=f"Presets: {', '.join(PRESETS)}."
            )
        settings = dict(PRESETS[name])
        loss = settings.pop("loss")
        return cls(loss if loss_f is None else loss_f, acc_f, **(settings | changes))

    @staticmethod
    def normal_fun(shape: Any, dtype: Any = None) -> jax.Array:
        """Make activities of init ``zeros``: a new array of given shape and type, filled with zeros.

        >>> EP.normal_fun((2,)).tolist()
        [0.0, 0.0]
        """
        return jnp.zeros(shape, dtype)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the rule, by the names of its config."""
        return dict(self._settings)

    @property
    def context(self) -> dict[str, Any]:
        """Functions that replace names, and the one that makes zeros."""
        return self._objects | {"zeros": self.normal_fun}

    def _rule(self, loss_kwargs: Settings, changes: Settings = NOTHING, more: Settings = NOTHING) -> Rule:
        """Build without the registry, whose contract fixes the shape of the carried state: batches may differ here."""
        objects = {**self.context, **more}
        repeat = objects.pop("repeat", 1)
        config = cast(EPConfig, validate_settings(EPConfig, {**self._settings, **changes}, name=self.algorithm))
        loss = self._loss(loss_kwargs)
        rule = build(config, loss=loss, accuracy=self.acc_f, has_aux=self.fun_has_aux, **objects)
        return rule if repeat == 1 else _averaged(rule, repeat)

    def get_grads(  # type: ignore[override]
        self,
        model: Any,
        param: PyTree,
        batch_data: tuple[PyTree, PyTree],
        optim: Any = None,
        opt_state: PyTree = None,
        repeat: int = 1,
        *,
        key: jax.Array | None = None,
        **kwargs: Any,
    ) -> tuple[PyTree, Scalar, Scalar, Scalar]:
        """Gradients, accuracy, loss and energy of one batch.

        Compiles once per (model, shapes, non-float settings); beta, dt, tau and tol may change freely.

        Args:
            model: a `Layered`, a model of a library with an adapter, or any function whose values have names.
            param: its parameters, in the library's own structure.
            batch_data: ``(x, y)``, batch axis first.
            optim: optax optimizer for mode CONTINUAL: it moves the weights during the nudged phase, starting from
                ``opt_state``. The gradients returned are the sum over its steps, so that one update by plain SGD
                reaches the weights at the end of the phase. Other modes ignore it.
            opt_state: its state.
            repeat: number of independent estimates to average (new sign, new normal activities); only one is
                computed if nothing is drawn.
            key: PRNG key for RANDOM_SIGN, init ``normal`` and stochastic layers.
            **kwargs: numbers or arrays passed on to the loss.

        Returns:
            ``(grads, accuracy, loss, energy)``: grads have the structure of ``param``; accuracy and loss of the free
            outputs; energy is the batch mean of F = E + beta C at the end of the (first) nudged phase.

        Raises:
            ModelError: model, parameters, inputs and loss do not fit together, or a layer is not supported.
            DataError: empty batch, lengths that differ, labels outside the classes.
            UsageError: CONTINUAL without an optimizer, a random draw without a key, or repeat below 1.
            TrainingError: activities blew up; names the layer and the step of the relaxation.
        """
        optim, opt_state = self._optimizer(optim, opt_state)
        number = whole_number(repeat)
        if number is None or number < 1:
            raise UsageError(f"EP: repeat is {repeat!r}, expected a whole number of at least 1.", hint="repeat=1")
        adapted, params, model_state = self._prepare(model, param, batch_data, kwargs, starts=True)
        draws = self._settings["mode"] == EPMode.RANDOM_SIGN or self._settings.get("init") == "normal"
        objects: dict[str, Any] = {"repeat": number} if draws or _draws(adapted.model, key) else {}
        if optim is not None:
            leaves, tree = jax.tree.flatten(jax.eval_shape(lambda: model_state))
            objects["optimizer"] = _InStructureOfUser(optim, adapted, (tuple(leaves), tree))
        own = opt_state if optim is not None else self.activities
        given = adapted.model, params, model_state, batch_data, key, kwargs
        estimate, state = self._estimate(*given, own=own, objects=objects, arrays=self._arrays())
        self._look(estimate, *given, own=own)
        estimate = watched(estimate)
        if self._settings.get("init") == "persistent" and not isinstance(estimate.loss, jax.core.Tracer):
            self.activities = state.own
        grads = adapted.join(estimate.grads, jax.tree.map(np.zeros_like, model_state))
        return grads, estimate.accuracy, estimate.loss, estimate.aux["energy"]

    def _optimizer(self, optim: Any, opt_state: PyTree) -> tuple[Any, PyTree]:
        if self._settings["mode"] != EPMode.CONTINUAL:
            return None, None
        if optim is None or opt_state is None:
            raise UsageError(
                "EP: mode continual moves the weights during the nudged phase and needs an optimizer and its state.",
                hint="get_grads(model, param, batch, optim, opt_state) with optim = optax.sgd(0.01), for instance.",
            )
        return optim, opt_state

    def _look(
        self,
        estimate: Estimate,
        model: Any,
        params: PyTree,
        model_state: PyTree,
        batch: Any,
        key: Any,
        kwargs: dict[str, Any],
        own: PyTree,
    ) -> None:
        """Raise if activities blew up, and say where; not possible under an outer transformation."""
        if isinstance(estimate.loss, jax.core.Tracer) or not estimate.aux["blown_up"]:
            return
        mode = EPMode.TWO_PHASE if self._settings["mode"] == EPMode.CONTINUAL else self._settings["mode"]
        rule = self._rule(kwargs, {"trace": True, "mode": mode, "tol": 0.0}, self._arrays())
        state = model_state if own is None else State(model_state, own)
        found, _ = rule.estimate(model, params, state, batch, key=key)
        phase, step, block = _first_blown(found.aux["trace"])
        name = self._names(model, params, model_state, batch[0], key)[block]
        raise TrainingError(
            f"EP: the activities of {name} blew up at step {step} of the {phase} phase; no gradients are returned.",
            "Lower dt or beta; with energy 'hopfield', use a bounded activation such as sigmoid or hard_sigmoid.",
        )

    def _names(self, model: Any, params: PyTree, model_state: PyTree, x: PyTree, key: Any) -> tuple[str, ...]:
        """Names of the activities, in the order of their states."""
        if self._settings["coordinates"] == "errors":
            model = as_network(model)
        if isinstance(model, Layered):
            energy = energy_of(self._objects.get("energy", self._settings.get("energy")))
            fuse = self._settings.get("fuse", False)
            return tuple(b.name for b in bound(energy, model, params, x, model_state=model_state, fuse=fuse).blocks)
        network = learning_network(model, params, x, model_state=model_state, key=key)
        return (*map(repr, network.names), "the outputs")


_OBJECTS = {"dt": "schedule", "activation": "activation", "energy": "energy"}  # as `build` calls them


def _known(value: Any) -> Any:
    """A JAX scalar as a Python number, unless it is traced."""
    return value.item() if getattr(value, "shape", None) == () and not is_traced(value) else value


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float)) or getattr(value, "shape", None) == ()


@dataclass(frozen=True)
class _InStructureOfUser:
    """An optimizer whose state has the structure of the user's parameters; it leaves collections alone."""

    optim: Any
    adapted: Adapted
    collections: tuple[tuple[Any, ...], Any]

    def update(self, grads: PyTree, opt_state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        leaves, tree = self.collections
        still = jax.tree.unflatten(tree, [jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves])
        join = self.adapted.join
        updates, opt_state = self.optim.update(join(grads, still), opt_state, join(params, still))
        return self.adapted.split(updates)[0], opt_state


def _averaged(rule: Rule, repeat: int) -> Rule:
    """Average several estimates, each with its own key; the state is that of the last one."""

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        keys = jax.random.split(needed(key, "repeat makes new draws"), repeat)
        estimates, states = jax.lax.map(lambda key: rule.estimate(model, params, state, batch, key=key), keys)
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0, dtype=_mean_dtype(leaf)), estimates)
        mean.aux["blown_up"] = jnp.any(estimates.aux["blown_up"])
        return mean, jax.tree.map(lambda leaf: leaf[-1], states)

    return rule._replace(estimate=estimate)


def _draws(model: Any, key: Any) -> bool:
    """Whether a model may be random; for a network, only the presence of a key tells."""
    return any(layer.stochastic for layer in model.layers) if isinstance(model, Layered) else key is not None


def _mean_dtype(leaf: jax.Array) -> Any:
    return leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else None


def _first_blown(traces: dict[str, dict[str, jax.Array]]) -> tuple[str, int, int]:
    """Phase, step and block in which activities first left the range of sane states."""
    for phase, trace in traces.items():
        if "largest" in trace:
            largest = np.asarray(trace["largest"])
            blown = np.logical_not(np.all(largest.reshape(-1, *largest.shape[-2:]) < BLOWN_UP, axis=0))
            if np.any(blown):
                step = int(np.argmax(np.any(blown, axis=1)))
                return phase, step, int(np.argmax(blown[step]))
    return "nudged", -1, 0
