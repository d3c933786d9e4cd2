r"""Equilibrium propagation in error coordinates: the energy of `network`, well conditioned at any depth.

    v_k = mu_k(v) + e_k ,   F = sum_k |e_k|^2 + sum_k sum_{i>0} |mu_ki - v_k|^2 + beta C(o)
    e <- e - dt/tau dF/de

A change of an error reaches the outputs at once, so a step is one back-propagation and depth costs no extra steps. The
minimum is that of the activities, and with it the gradients. Goemaere et al. 2025, arXiv:2505.20137, for predictive
coding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from neurai_algorithms.differences import widened
from neurai_algorithms.equilibrium.network import NetworkDynamics
from neurai_algorithms.predictive_coding.network_task import Errors, errors_of
from neurai_core.energy import Activities


@dataclass(frozen=True, kw_only=True)
class ErrorDynamics(NetworkDynamics):
    """The dynamics of a network whose states hold errors, activity minus first prediction, instead of distances."""

    def state(self, activities: Activities) -> Activities:
        """The errors of activities."""
        errors, top = super()._seen(super().state(activities))[0]
        return (*(-errors[name][0] for name in self.here.at), *(-e for e in top))

    def activities(self, u: Activities) -> Activities:
        """The activities with these errors."""
        outputs, _, at = self._displaced(u)
        return (*widened(tuple(at.values())), *((outputs,) if self.predicts_outputs else ()))

    def outputs(self, u: Activities) -> jax.Array:
        """The outputs, as the cost takes them."""
        return self._displaced(u)[0]

    def _seen(self, u: Activities) -> tuple[tuple[Errors, tuple[Any, ...]], jax.Array]:
        outputs, predictions, at = self._displaced(u)
        plain = errors_of(predictions, at)
        errors = {name: (-e, *plain[name][1:]) for name, e in zip(self.here.at, u, strict=False)}
        change = outputs - widened(self.here.outputs[0])
        return (errors, (-u[-1],) if self.predicts_outputs else ()), change

    def _displaced(self, u: Activities) -> tuple[jax.Array, Any, Any]:
        """Outputs, predictions and activities with these errors."""
        errors = dict(zip(self.here.at, u, strict=False))
        (outputs, _), predictions, at = self.network.displaced((self.params, self.model_state), self.x, errors)
        outputs = widened(outputs) + u[-1] if self.predicts_outputs else widened(outputs)
        return outputs, predictions, {name: at[name] for name in self.here.at}
