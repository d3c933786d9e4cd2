r"""Energies of networks: sums over all names of the costs of their predictions.

    F = sum_k sum_i w_ki C_k(mu_ki, v_k)        mu_ki the i-th prediction of activity v_k, summed over all entries

Every ``C_k`` is a term: `Squared`, `Laplace`, `Cauchy`, `CrossEntropy`, or any function ``(prediction, activity) ->
array``. Terms are negative logarithms of densities, without their constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from neurai_core.arrays import Scalar, check_above_zero, check_at_least_zero, wide_float
from neurai_core.errors import DataError
from neurai_core.naming import did_you_mean

Term: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class Squared:
    """Half squared error with a precision: ``precision / 2 (prediction - activity)^2``, a Gaussian.

    Attributes:
        precision: inverse variance, a number or an array that broadcasts against the activity.

    Raises:
        SettingsError: the precision is not 0 or more.

    >>> float(Squared(precision=4.0)(jnp.asarray(1.0), jnp.asarray(3.0)))
    8.0
    """

    precision: Any = 1.0

    def __post_init__(self) -> None:
        check_at_least_zero("Squared", precision=self.precision)

    def __call__(self, prediction: jax.Array, activity: jax.Array) -> jax.Array:
        """The cost of every entry."""
        return self.precision * jnp.square(prediction - activity) / 2


@dataclass(frozen=True)
class Laplace:
    """Absolute error: ``|prediction - activity| / scale``. Sparse; its slope at zero is taken to be zero.

    Attributes:
        scale: mean absolute deviation, a number or an array that broadcasts against the activity.

    Raises:
        SettingsError: the scale is not above 0.

    >>> float(Laplace(scale=0.5)(jnp.asarray(1.0), jnp.asarray(3.0)))
    4.0
    """

    scale: Any = 1.0

    def __post_init__(self) -> None:
        check_above_zero("Laplace", scale=self.scale)

    def __call__(self, prediction: jax.Array, activity: jax.Array) -> jax.Array:
        """The cost of every entry."""
        return jnp.abs(prediction - activity) / self.scale


@dataclass(frozen=True)
class Cauchy:
    """``log(1 + ((prediction - activity) / scale)^2)``: sparse and smooth. Olshausen and Field 1996.

    Attributes:
        scale: half width at half maximum, a number or an array that broadcasts against the activity.

    Raises:
        SettingsError: the scale is not above 0.

    >>> round(float(Cauchy(scale=2.0)(jnp.asarray(1.0), jnp.asarray(3.0))), 4)
    0.6931
    """

    scale: Any = 1.0

    def __post_init__(self) -> None:
        check_above_zero("Cauchy", scale=self.scale)

    def __call__(self, prediction: jax.Array, activity: jax.Array) -> jax.Array:
        """The cost of every entry."""
        return jnp.log1p(jnp.square((prediction - activity) / self.scale))


@dataclass(frozen=True)
class CrossEntropy:
    """``-sum_c activity_c log softmax(prediction)_c``: predictions are logits, activities probabilities or one-hot.

    Attributes:
        axis: axis of the classes.

    >>> round(float(CrossEntropy()(jnp.zeros(4), jnp.eye(4)[0])), 4)
    1.3863
    """

    axis: int = -1

    def __call__(self, prediction: jax.Array, activity: jax.Array) -> jax.Array:
        """The cost of every example."""
        return -jnp.sum(activity * jax.nn.log_softmax(prediction, self.axis), self.axis)


@dataclass(frozen=True)
class NetworkEnergy:
    """An energy of a network: terms and weights by name.

    Attributes:
        terms: terms by name; `Squared` for all others.
        weights: weights by name, 1 for all others: one number for all predictions of a name, or a sequence with one
            for each. Weight 0 removes a term: a free activity without a prior. Numbers may be traced.
        learning: weights that differ while parameters learn, see `for_learning`.

    Example:
        >>> energy = NetworkEnergy({"z": Laplace(0.5)}, weights={"y": (1.0, 0.0)})
        >>> predictions = {"z": (jnp.zeros(2),), "y": (jnp.ones(2), jnp.full(2, 9.0))}
        >>> activities = {"z": jnp.ones(2), "y": jnp.zeros(2)}
        >>> {name: float(value) for name, value in energy.by_name(predictions, activities).items()}
        {'z': 4.0, 'y': 1.0}
    """

    terms: Mapping[str, Term] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    learning: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, predictions: Mapping[str, Sequence[jax.Array]], activities: Mapping[str, jax.Array]) -> Scalar:
        """F, one scalar for the batch."""
        return sum(self.by_name(predictions, activities).values(), start=jnp.zeros(()))

    def by_name(
        self, predictions: Mapping[str, Sequence[jax.Array]], activities: Mapping[str, jax.Array]
    ) -> dict[str, Scalar]:
        """The energy of every name, summed over its predictions, entries and examples, in at least float32.

        Args:
            predictions: as a network returns them.
            activities: all of them, by name.
        """
        self.check({name: len(found) for name, found in predictions.items()})
        return {name: self._share(name, found, activities[name]) for name, found in predictions.items()}

    def _share(self, name: str, predictions: Sequence[jax.Array], activity: jax.Array) -> Scalar:
        term, wide = self.terms.get(name, Squared()), wide_float(activity.dtype)
        weights = _weights(self.weights.get(name, 1.0), len(predictions))
        costs = [
            weight * jnp.sum(term(prediction.astype(wide), activity.astype(wide)))
            for weight, prediction in zip(weights, predictions, strict=True)
            if not _is_zero(weight)
        ]
        return sum(costs, start=jnp.zeros((), wide))

    @property
    def for_learning(self) -> NetworkEnergy:
        """The energy for learning parameters, with the weights of ``learning`` in place of ``weights``.

        >>> energy = NetworkEnergy(weights={"y": 0.1, "z": 0.0}, learning={"y": 1.0})
        >>> energy.for_learning.weights
        {'y': 1.0, 'z': 0.0}
        """
        return replace(self, weights={**self.weights, **self.learning}, learning={})

    def check(self, counts: Mapping[str, int]) -> None:
        """Check that the energy fits a network.

        Args:
            counts: number of predictions of every activity.

        Raises:
            DataError: a term or weight has an unknown name, or there is not one weight for each prediction.
            SettingsError: a weight for relaxing is below 0, so that the energy has no minimum.
        """
        for name in (*self.terms, *self.weights, *self.learning):
            if name not in counts:
                raise DataError(
                    f"The energy has a term or weight for {name!r}, which the network does not have."
                    f"{did_you_mean(name, counts)}",
                    hint=f"Its activities: {', '.join(counts)}.",
                )
        for name, weight in (*self.weights.items(), *self.learning.items()):
            if isinstance(weight, tuple | list) and len(weight) != counts[name]:
                raise DataError(
                    f"The energy has {len(weight)} weights for {name!r}, which is predicted {counts[name]} times.",
                    hint="Give one number for all of its predictions, or one for each.",
                )
        for name, weight in self.weights.items():
            for one in _weights(weight, 1):
                check_at_least_zero("The energy", **{f"weights[{name!r}]": one})


def _weights(weight: Any, count: int) -> Sequence[Any]:
    return weight if isinstance(weight, tuple | list) else [weight] * count


def _is_zero(weight: Any) -> bool:
    """Whether a weight is zero; a traced one is not, so its term stays."""
    return isinstance(weight, int | float) and weight == 0
