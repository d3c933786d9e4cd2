"""How far the error travels in n sweeps, and a warning where it does not reach the first layers."""

from __future__ import annotations

import itertools
import warnings

from neurai_algorithms.predictive_coding.fixed_prediction import coefficients, updates_needed
from neurai_algorithms.predictive_coding.network_task import NetworkTask
from neurai_algorithms.predictive_coding.spec import PCConfig, PCMode

SMALL_SHARE = 0.01  # fraction of the back-propagated error at the first layer, below which a warning is given
FULL_SHARE = 0.99


class ShortRelaxation(UserWarning):
    """The relaxation is too short for the errors to reach the first layers."""


def warn_if_short(config: PCConfig, depth: int) -> None:
    """Warn when n sweeps leave the first layers without a gradient, or with hardly any.

    Args:
        config: settings.
        depth: number of layers L.

    >>> warn_if_short(PCConfig(), 3)
    """
    if config.mode in (PCMode.EXACT, PCMode.ERROR):
        return
    stale = config.mode != PCMode.INCREMENTAL and not config.fresh
    updates = config.n - 1 if stale or config.mode == PCMode.INCREMENTAL else config.n
    if updates < depth - 1:
        _warn(
            f"n={config.n} sweeps leave {depth - 1 - updates} of {depth} layers with gradients of exactly zero",
            config,
            depth,
        )
    elif isinstance(config.eta, float) and config.corrector is None:
        share = coefficients(config.eta, updates, depth)[-1]
        if share < SMALL_SHARE and config.mode != PCMode.INCREMENTAL:
            _warn(f"n={config.n} sweeps bring {share:.1g} of the error to the first of {depth} layers", config, depth)


def warn_if_unreached(task: NetworkTask) -> None:
    """Warn when n sweeps leave activities of a network without an error."""
    config = task.config
    if config.mode in (PCMode.EXACT, PCMode.ERROR):
        return
    updates = config.n if config.fresh and config.mode != PCMode.INCREMENTAL else config.n - 1
    if missed := task.unreached(updates):
        more = next(more for more in itertools.count(1) if not task.unreached(updates + more))
        warnings.warn(
            f"PC: n={config.n} sweeps bring no error to {len(missed)} of {len(task.network.names)} activities, among "
            f"them {missed[0]!r}, so the parameters that predict these do not learn. It takes n={config.n + more}.",
            ShortRelaxation,
            stacklevel=3,
        )


def _warn(what: str, config: PCConfig, depth: int) -> None:
    warnings.warn(f"PC: {what}. {_advice(config, depth)}", ShortRelaxation, stacklevel=3)


def _advice(config: PCConfig, depth: int) -> str:
    extra = 0 if config.fresh else 1
    if not isinstance(config.eta, float) or config.corrector is not None:
        return f"It takes n={depth - 1 + extra} for the error to reach the first layer at all."
    least, most = (updates_needed(config.eta, depth - 1, share) for share in (SMALL_SHARE, FULL_SHARE))
    if least is None or most is None:
        return f"At eta={config.eta:g} no n will do; take 0 < eta < 2."
    low, high = f"n={least + extra} brings {SMALL_SHARE:.0%} of it", f"n={most + extra} {FULL_SHARE:.0%}"
    return f"At eta={config.eta:g}, {low} and {high}."
