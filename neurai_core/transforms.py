"""Wrappers that turn one learning rule into another, composable like those of optax."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from neurai_core.arrays import PyTree, batch_size, tree_dot, tree_norm
from neurai_core.errors import PluginError, UnknownName, UsageError
from neurai_core.explicit_axes import by_example, estimated
from neurai_core.losses import loss_function
from neurai_core.registry import REGISTRY
from neurai_core.rule import (
    Estimate,
    Problem,
    Rule,
    model_state_of,
    objective,
    split_batch,
    takes_problem,
    true_gradient,
)


def with_alignment(rule: Rule, loss: str | Callable[..., Any], has_aux: bool = False) -> Rule:
    """Report how well a rule's gradients align with the true gradient of the loss, layer by layer.

    Adds to ``aux["alignment"]``, for every top-level entry of ``params``, ``cosine`` = <g, b> / (|g| |b|) and
    ``norm_ratio`` = |g| / |b|, where g are the rule's gradients and b those of back-propagation at the same
    parameters, model state and key. An entry with a zero gradient reports nan. This costs one extra back-propagation.

    Args:
        rule: the rule to wrap; its gradients are returned unchanged.
        loss: name or callable; the loss whose true gradient is the reference.
        has_aux: whether ``loss`` returns a pair.

    Raises:
        UsageError: the spec of the rule says that the gradient of a feed-forward loss is no reference for it.

    Example:
        >>> import neurai_core as neurai
        >>> rule = neurai.with_alignment(neurai.algorithm("bp", loss="mse"), "mse")
        >>> model = neurai.models.mlp((3, 4, 2))
        >>> params, _ = model.init(jax.random.key(0), (3,))
        >>> batch = jnp.ones((5, 3)), jnp.zeros((5, 2))
        >>> state = rule.init(model, params, key=jax.random.key(0))
        >>> estimate, _ = rule.estimate(model, params, state, batch)
        >>> [round(float(c), 3) for c in estimate.aux["alignment"]["cosine"]]
        [1.0, 1.0]
    """
    score = objective(loss_function(loss), None, has_aux)
    _refuse_alignment(rule.origin)

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        reference, _ = true_gradient(score, model, params, model_state_of(state), batch, key=key)
        found, state = rule.estimate(model, params, state, batch, key=key)
        aux = {**found.aux, "alignment": alignment(found.grads, reference.grads)}
        return found._replace(aux=aux), state

    return rule._replace(estimate=estimate)


def _refuse_alignment(origin: Any) -> None:
    with suppress(UnknownName, PluginError):  # made by hand, or by a plugin that is gone
        why = origin and getattr(REGISTRY.spec(origin.kind, origin.name), "no_alignment", "")
        if why:
            raise UsageError(
                f"with_alignment compares with the gradient of the feed-forward loss, which is not a reference for "
                f"{origin.name!r}: {why}."
            )


def alignment(grads: PyTree, reference: PyTree) -> dict[str, tuple[jax.Array, ...]]:
    """Cosine and norm ratio between two gradients, one number per top-level entry.

    >>> report = alignment([jnp.array([2.0, 0.0])], [jnp.array([1.0, 0.0])])
    >>> float(report["cosine"][0]), float(report["norm_ratio"][0])
    (1.0, 2.0)
    """
    pairs = list(zip(_entries(grads), _entries(reference), strict=True))
    norms = [(tree_norm(g), tree_norm(b)) for g, b in pairs]
    cosines = tuple(tree_dot(g, b) / (n * m) for (g, b), (n, m) in zip(pairs, norms, strict=True))
    return {"cosine": cosines, "norm_ratio": tuple(n / m for n, m in norms)}


def _entries(tree: PyTree) -> list[PyTree]:
    """The top-level entries of a tree that contain arrays; a lone array is one entry."""
    children = jax.tree_util.default_registry.flatten_one_level(tree)
    entries = [tree] if children is None else list(children[0])
    return [entry for entry in entries if jax.tree.leaves(entry)]


def accumulate(rule: Rule, k: int, reduction: str = "mean") -> Rule:
    """Estimate over k equal slices of the batch, one after another, with 1/k of the memory for activities.

    With a loss that is a mean over the batch, ``reduction="mean"`` gives the whole batch's loss and gradients;
    with one that sums over the batch, ``reduction="sum"`` does. The state passes from slice to slice; numbers in
    ``aux`` are averaged.

    Args:
        rule: the rule to run on every slice.
        k: number of slices, at least 1; must divide the batch size.
        reduction: ``"mean"`` or ``"sum"``.

    Raises:
        UsageError: k is below 1, or the reduction is unknown; on use, if k does not divide the batch size.

    Example:
        >>> import neurai_core as neurai
        >>> rule = neurai.accumulate(neurai.algorithm("bp", loss="mse"), 4)
        >>> model = neurai.models.mlp((3, 2))
        >>> params, _ = model.init(jax.random.key(0), (3,))
        >>> estimate, _ = rule.estimate(model, params, (), (jnp.ones((8, 3)), jnp.zeros((8, 2))))
        >>> estimate.grads[0]["w"].shape
        (3, 2)
    """
    if k < 1:
        raise UsageError(f"accumulate needs at least 1 slice, got k={k}.", hint="For example accumulate(rule, 4).")
    if reduction not in ("mean", "sum"):
        raise UsageError(
            f"reduction is {reduction!r}, expected 'mean' or 'sum'.", hint="Use 'mean' for a loss that is a mean."
        )

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        slices = jax.tree.map(lambda leaf: leaf.reshape(k, -1, *leaf.shape[1:]), _divisible(split_batch(batch), k))
        keys = None if key is None else jax.random.split(key, k)

        def step(state: PyTree, part: PyTree) -> tuple[PyTree, Estimate]:
            small_batch, small_key = part
            found, state = rule.estimate(model, params, state, small_batch, key=small_key)
            return state, found

        state, found = jax.lax.scan(step, state, (slices, keys))
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0, dtype=_mean_dtype(leaf)), found)
        if reduction == "mean":
            return mean, state
        total = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), (found.grads, found.loss))
        return mean._replace(grads=total[0], loss=total[1]), state

    init = _init_of_batches(rule, lambda size: size // k)
    return rule._replace(init=init, estimate=partial(estimated, estimate))


def _mean_dtype(leaf: jax.Array) -> Any:
    return leaf.dtype if jnp.issubdtype(leaf.dtype, jnp.inexact) else None


def _divisible(batch: PyTree, k: int) -> PyTree:
    size = batch_size(batch)
    if size % k:
        raise UsageError(
            f"accumulate with k={k} got a batch of {size} examples, which {k} does not divide.",
            hint=f"Use a batch size that is a multiple of {k}, such as {max(k, size - size % k)}.",
        )
    return batch


def per_example(rule: Rule) -> Rule:
    """Estimate every example by itself, as a batch of one.

    All entries of the `Estimate` gain a leading batch axis: ``grads`` is ``(B, *param.shape)``. Every example sees
    the same state, which is returned unchanged. With a loss that is a mean over the batch, the mean of the
    gradients over the first axis is the batch's gradient.

    Args:
        rule: the rule to run on every example.

    Example:
        >>> import neurai_core as neurai
        >>> rule = neurai.per_example(neurai.algorithm("bp", loss="mse"))
        >>> model = neurai.models.mlp((3, 2))
        >>> params, _ = model.init(jax.random.key(0), (3,))
        >>> estimate, _ = rule.estimate(model, params, (), (jnp.ones((8, 3)), jnp.zeros((8, 2))))
        >>> estimate.grads[0]["w"].shape, estimate.loss.shape
        ((8, 3, 2), (8,))
    """

    def estimate(
        model: Any, params: PyTree, state: PyTree, batch: PyTree, *, key: Any = None
    ) -> tuple[Estimate, PyTree]:
        def run(params: PyTree, state: PyTree, batch: PyTree, key: Any) -> Estimate:
            keys = None if key is None else jax.random.split(key, batch_size(batch))

            def one(example: PyTree, example_key: Any) -> Estimate:
                single = jax.tree.map(lambda leaf: leaf[None], example)
                return rule.estimate(model, params, state, single, key=example_key)[0]

            return jax.vmap(one, in_axes=(0, None if key is None else 0))(batch, keys)

        batch = split_batch(batch)
        return by_example(run, batch, params, state, batch, key), state

    return rule._replace(init=_init_of_batches(rule, lambda size: 1), estimate=estimate)


def _init_of_batches(rule: Rule, size_of: Callable[[int], int]) -> Callable[..., PyTree]:
    """The ``init`` of a rule that gets smaller batches than the problem has."""
    if not takes_problem(rule.init):
        return rule.init

    def init(
        model: Any, params: PyTree, *, key: Any, model_state: PyTree = (), problem: Problem | None = None
    ) -> PyTree:
        def smaller(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct((size_of(leaf.shape[0]), *leaf.shape[1:]), leaf.dtype)

        seen = problem and problem._replace(batch=jax.tree.map(smaller, problem.batch))
        return rule.init(model, params, key=key, model_state=model_state, problem=seen)

    return init
