"""The documented class of predictive coding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from neurai_algorithms.predictive_coding.network_task import as_network, network_task
from neurai_algorithms.predictive_coding.probing import Probe, probed
from neurai_algorithms.predictive_coding.rule import with_schedule
from neurai_algorithms.predictive_coding.spec import PCConfig, PCMode, mode_name
from neurai_core.arrays import PyTree
from neurai_core.errors import SettingsError, UsageError
from neurai_core.explain import is_traced, validate_settings
from neurai_core.grads.base import LocalBase
from neurai_core.layered import Layered
from neurai_core.rule import objective, split_batch


class PC(LocalBase):
    """Predictive coding: local learning on prediction errors of activities that relax for n sweeps.

    Args:
        loss_f: loss, a name or a callable ``(outputs, targets) -> scalar``.
        acc_f: accuracy, a name or a callable ``(outputs, targets) -> scalar``; None reports -1.
        eta: step of one sweep, a number > 0 or an optax schedule over the sweeps; ignored by mode EXACT.
        n: sweeps, at least 1; ignored by mode EXACT.
        mode: a `PCMode` or its name.
        fun_has_aux: whether ``loss_f`` returns a pair whose second part is returned.
        **settings: further settings of `PCConfig`: ``loss_scale``, ``nudge``, ``beta``, ``corrector``, ``optimizer``,
            ``tol``, ``fresh``, ``stable``, ``light_cone``, ``energy_trace``, ``keep_activities``, ``fuse``, ``remat``.

    Raises:
        SettingsError: a setting is unknown or out of range.

    In mode ``INCREMENTAL`` every call restarts the optimizer of the parameter steps; the rule
    ``neurai.algorithm("pc", mode="incremental")`` carries its state along.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from neurai_core.models import mlp
        >>> model = mlp((4, 8, 3))
        >>> params, _ = model.init(jax.random.key(0), (4,))
        >>> batch = jnp.ones((8, 4)), jnp.zeros(8, int)
        >>> grads, loss, accuracy = PC("cross_entropy", eta=0.1, n=20).get_grads(model, params, batch)
        >>> grads[0]["w"].shape, float(accuracy)
        ((4, 8), -1.0)
    """

    algorithm: ClassVar[str] = "pc"
    needs: ClassVar[str] = "network"
    config: ClassVar[type[PCConfig]] = PCConfig

    def __init__(
        self,
        loss_f: str | Callable[..., Any],
        acc_f: str | Callable[..., Any] | None = None,
        eta: Any = 0.1,
        n: int = 20,
        mode: PCMode | str = PCMode.STRICT,
        fun_has_aux: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(loss_f, acc_f, fun_has_aux)
        relaxed = {} if mode_name(mode) == PCMode.EXACT else {"eta": eta, "n": n}
        given = {name: _known(name, value) for name, value in {**relaxed, **settings}.items()}
        config = validate_settings(self.config, {"mode": mode, **given}, name=self.algorithm)
        self._settings = {name: getattr(config, name) for name in type(config).model_fields}

    def probe(self, model: Any, param: PyTree, batch: PyTree, *, key: Any = None, steps: int | None = None) -> Probe:
        """Analyze the relaxation of a batch: curvatures of its energy, largest step, and number of sweeps.

        Args:
            model: as in ``get_grads``.
            param: parameters.
            batch: ``(x, y)``.
            key: PRNG key of the batch, for stochastic models.
            steps: products with the second derivatives; 20 more than twice the number of activities by default.

        Returns:
            A `Probe`: ``curvatures``, ``safe_step``, ``step`` and ``sweeps``.

        Raises:
            ModelError: the model has no activities.
            DataError: the loss does not act on the activities, or its gradient is not finite.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from neurai_core.models import mlp
            >>> model = mlp((4, 8, 8, 3), "tanh")
            >>> params, _ = model.init(jax.random.key(0), (4,))
            >>> needs = PC("cross_entropy", eta=0.1).probe(model, params, (jnp.ones((2, 4)), jnp.zeros(2, int)))
            >>> needs.step, bool(needs.safe_step > 0.1), needs.sweeps > 5
            (0.1, True, True)
        """
        adapted, params, model_state = self._prepare(model, param, batch, {})
        config = with_schedule(PCConfig.model_validate(self._settings))
        score = objective(self.loss_f, self.acc_f, self.fun_has_aux)
        if config.fuse:
            raise UsageError(
                "PC: probe does not support fuse=True.", "Probe PC without it, or join layers by block(...)."
            )
        network = as_network(adapted.model)
        task = network_task(config, score, network, params, model_state, split_batch(batch), key)
        return probed(task, steps, alike=isinstance(adapted.model, Layered))

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the rule, by the names of its config."""
        return self._settings


def _known(name: str, value: Any) -> Any:
    """A JAX scalar as a Python number, because a static argument must be hashable."""
    if is_traced(value):
        raise SettingsError(
            f"{name}: the class needs a concrete value (got a traced number).",
            hint=f"The rule accepts traced numbers: neurai.algorithm('pc', {name}=...).estimate inside jit or vmap.",
        )
    return value.item() if getattr(value, "shape", None) == () else value
