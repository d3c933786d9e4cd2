"""The base class of surrogates: a step forward, a smooth derivative backward, and facts about that derivative.

```
u ──▶ H(u) = 1 where u >= 0      forward,  spiking=True      u: membrane potential minus threshold
u ──▶ P(u)                       forward,  spiking=False     the primitive, P' = g
du ─▶ g(u) du + dP/dalpha dalpha backward, in both modes     the surrogate derivative; alpha: any parameter
```
A `Surrogate` is a JAX pytree whose leaves are its parameters, so they can be traced, mapped over and learned;
unless they are traced, it compares and hashes by their values, so rebuilding one does not retrace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from math import inf
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from neurai_core.errors import UsageError
from neurai_core.explain import takes_float, validate_settings
from neurai_core.specs import Config, Origin, PluginSpec, SurrogateSpec
from neurai_core.surrogates.precision import as_array, formula, key_for, real
from neurai_core.surrogates.stated import stated
from neurai_core.surrogates.step import fire, heaviside, no_primitive, slope

Number: TypeAlias = float | jax.Array
_FORMULAS = ("derivative", "primitive", "step")


class Facts(NamedTuple):
    """Facts about a surrogate derivative g and its primitive P; None means "not stated".

    Attributes:
        area: integral of g over all u; infinite where g does not fall fast enough.
        peak: largest value of g.
        half_width: distance from the threshold at which g has fallen to half its peak, in units of u; on the
            wider side if the two differ, infinite if it never falls that far.
        support: ends of the interval outside which g is zero, in units of u.
        symmetric: whether ``g(-u) == g(u)``.
        signed: whether g takes both signs; P is then not monotone.
    """

    area: Number | None = None
    peak: Number | None = None
    half_width: Number | None = None
    support: tuple[Number, Number] = (-inf, inf)
    symmetric: bool | None = None
    signed: bool | None = None


class Surrogate:
    """A function from membrane potentials to spikes with a surrogate derivative.

    A subclass defines ``derivative``, ``primitive`` or, best, both, as functions of an array of at least 32
    bits; this class handles the precision of u, checks and transformations. A missing derivative is computed
    from the primitive by automatic differentiation; without a primitive, ``spiking=False`` and learned
    parameters are not available. A surrogate that does not fire by the step, such as a random one, defines
    ``step`` as well.

    Args:
        spiking: whether the forward pass is the step; otherwise it is the primitive. Both have the same
            derivative.
        **settings: floats and arrays become the leaves of the pytree, anything else is static. A
            ``config_class`` validates them.

    Attributes:
        spec: spec of the plugin, None for a surrogate without one. `facts` take from it what they do not state.
        config_class: settings class of the plugin, that of the spec unless it is another; None without one.
        spiking: as above.

    Raises:
        SettingsError: a setting is out of range.
        UsageError: ``spiking=False`` without a primitive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> class Tent(Surrogate):
        ...     def __init__(self, width=1.0, spiking=True):
        ...         super().__init__(width=width, spiking=spiking)
        ...     def derivative(self, u):
        ...         return jnp.maximum(1 - jnp.abs(u) / self.width, 0)
        >>> tent, u = Tent(width=2.0), jnp.array([-1.0, 0.0, 3.0])
        >>> tent(u).tolist()
        [0.0, 1.0, 1.0]
        >>> jax.grad(lambda u: tent(u).sum())(u).tolist()
        [0.5, 1.0, 0.0]
        >>> tent
        Tent(width=2.0, spiking=True)
    """

    spec: ClassVar[PluginSpec | None] = None
    config_class: ClassVar[type[Config] | None] = None
    spiking: bool
    _form: _Form

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _FORMULAS:
            if name in vars(cls):
                setattr(cls, name, formula(vars(cls)[name]))
        for name in {"facts"} & vars(cls).keys():
            setattr(cls, name, _completed(vars(cls)[name]))
        if "config_class" not in vars(cls) and "spec" in vars(cls):
            cls.config_class = cls.spec.config if cls.spec else None
        jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, partial(_unflatten, cls), _flatten)

    def __init__(self, *, spiking: bool = True, **settings: Any) -> None:
        self._fill({**settings, "spiking": spiking})

    @classmethod
    def build(cls, config: Config, **context: Any) -> Self:
        """Build the surrogate from its settings; the target of its plugin.

        Args:
            config: the validated settings.
            **context: not used.
        """
        return cls(**dict(config))

    # ---- the three functions of u

    def __call__(self, u: ArrayLike, *, key: jax.Array | None = None) -> jax.Array:
        """Spikes: 1 where ``u >= 0``, else 0; ``primitive(u)`` when ``spiking`` is off. NaN stays NaN.

        Args:
            u: membrane potential minus threshold, real, any shape; array-valued parameters of the
                surrogate broadcast against it.
            key: PRNG key if `needs_key`; ignored otherwise.

        Returns:
            Spikes with the dtype of u, and its shape broadcast with the parameters.

        Raises:
            DataError: u does not have a real floating dtype, or does not broadcast with the parameters.
            UsageError: a key is needed.
        """
        u = real(u, self)
        return fire(self, u, key_for(self, key) if self.spiking else None)

    def step(self, u: Any, key: jax.Array | None) -> Any:
        """The forward pass while ``spiking`` is on: 1 where ``u >= 0``, else 0.

        A subclass that counts or draws its spikes overrides it, and `needs_key` if it draws. It is
        never differentiated. Returns the shape and dtype of u; NaN stays NaN.
        """
        return heaviside(u)

    @property
    def needs_key(self) -> bool:
        """Whether spikes are random, so that every call needs a key of its own."""
        return False

    def spikes(self, u: ArrayLike, *, key: jax.Array | None = None) -> jax.Array:
        """The spikes as booleans: a quarter of the memory of float32, and no derivative.

        >>> import jax.numpy as jnp
        >>> import neurai_core as neurai
        >>> neurai.surrogate("sigmoid").spikes(jnp.array([-0.5, 0.5])).tolist()
        [False, True]
        """
        u = real(u, self)
        plain = type(self).step is Surrogate.step
        return u >= 0 if plain else self.step(u, key_for(self, key)) > 0

    def derivative(self, u: Any) -> Any:
        """The surrogate derivative g(u), by which the backward pass multiplies, in the shape and dtype of u."""
        return slope(self.primitive, real(u, self))

    def primitive(self, u: Any) -> Any:
        """P(u), the integral of the derivative up to u: the forward pass when ``spiking`` is off.

        Raises:
            UsageError: there is no primitive.
        """
        raise no_primitive(self, "was asked for its primitive, which it does not have.")

    @property
    def has_primitive(self) -> bool:
        """Whether there is a primitive."""
        return type(self).primitive is not Surrogate.primitive

    # ---- facts and settings

    @property
    def facts(self) -> Facts:
        """Area, peak, half width, support and symmetry for the current parameters.

        A subclass states those that its spec does not: area, symmetry and sign are filled in from the spec.
        """
        return self._with_stated(Facts())

    @property
    def limits(self) -> tuple[jax.Array, jax.Array]:
        """The primitive far below and far above the threshold."""
        return self.primitive(-inf), self.primitive(inf)

    @property
    def meanings(self) -> dict[str, str]:
        """What each setting means, with its unit."""
        fields = self.config_class.model_fields if self.config_class else {}
        return {name: field.description or "" for name, field in fields.items()}

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting by name."""
        return {**self._numbers, **dict(self._form.static)}

    @property
    def config(self) -> Config | None:
        """The settings as the plugin's settings class holds them; None without one."""
        return self.config_class.model_construct(**self.settings) if self.config_class else None

    @property
    def origin(self) -> Origin | None:
        """Where the registry found it; None when it was made directly."""
        return self._form.origin

    # ---- modified copies

    def replace(self, **changes: Any) -> Self:
        """The same surrogate with some settings changed, for instance ``replace(spiking=False)``.

        Raises:
            SettingsError: a setting is out of range.
            UsageError: there is no setting of that name, or no primitive.
        """
        unknown = changes.keys() - self.settings.keys()
        if unknown:
            known = ", ".join(self.settings)
            raise UsageError(f"{type(self).__name__} has no setting {min(unknown)!r}.", f"Settings: {known}.")
        # Not by __init__, whose arguments a subclass chooses.
        new = object.__new__(type(self))
        new._fill({**self.settings, **changes})
        return new.with_origin(self.origin)

    def with_origin(self, origin: Origin | None) -> Self:
        """The same surrogate with its origin in the registry. Comparisons ignore origins."""
        new: Self = _unflatten(type(self), changed(self._form, origin=origin), self._numbers.values())
        return new

    # ---- plumbing

    def _with_stated(self, facts: Facts) -> Facts:
        """The facts, with what the spec states in place of what they leave open."""
        spec = self.spec
        if not isinstance(spec, SurrogateSpec):
            return facts
        area = stated(spec, "area", self.settings) if facts.area is None and spec.area else facts.area
        symmetric = spec.symmetry == "even" if facts.symmetric is None else facts.symmetric
        signed = "signed" in spec.claims if facts.signed is None else facts.signed
        return facts._replace(area=area, symmetric=symmetric, signed=signed)

    def _fill(self, settings: Mapping[str, Any]) -> None:
        values = self._validated(settings)
        numbers = {name: value for name, value in values.items() if _is_number(value)}
        static = {name: value for name, value in values.items() if name not in numbers}
        vars(self).update(values, _form=_Form(tuple(numbers), tuple(static.items())))
        self._check()

    def _validated(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        if self.config_class is None:
            return dict(settings)
        filled = dict(validate_settings(self.config_class, settings, name=type(self).__name__, arrays=True))
        return {
            name: as_array(value) if takes_float(self.config_class, name) else value for name, value in filled.items()
        }

    def _check(self) -> None:
        if not self.has_primitive and type(self).derivative is Surrogate.derivative:
            raise UsageError(
                f"{type(self).__name__} defines neither derivative nor primitive.",
                "Write the method derivative(self, u), and primitive(self, u) where it has one.",
            )
        if not (self.spiking or self.has_primitive):
            raise no_primitive(self, "has no primitive, which spiking=False uses instead of the step.")

    @property
    def _numbers(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in self._form.numbers}

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"{type(self).__name__} is frozen, so {name!r} cannot be set. Give settings to "
            "super().__init__(...) in a subclass, and change them with .replace(...)."
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Surrogate) or type(self) is not type(other):
            return NotImplemented
        pairs = zip(self._numbers.values(), other._numbers.values(), strict=False)
        return self is other or (self._form == other._form and all(_same(a, b) for a, b in pairs))

    def __hash__(self) -> int:
        return hash((type(self), self._form, *map(_content, self._numbers.values())))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({settings})"


# ---- comparison


def _completed(facts: Any) -> Any:
    """The property ``facts`` of a subclass, with what the spec states filled in."""
    if not isinstance(facts, property) or facts.fget is None:
        return facts
    own = facts.fget
    return property(lambda self: self._with_stated(own(self)), doc=facts.__doc__)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | Surrogate) or hasattr(value, "dtype")


def _same(a: Any, b: Any) -> bool:
    """Whether two parameters are the same; traced ones only if they are the same object."""
    known = not (isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer))
    return a is b or (known and bool(_content(a) == _content(b)))


def _content(number: Any) -> Any:
    """A parameter in a form that hashes and compares; a traced one does not hash."""
    if isinstance(number, float | Surrogate | jax.core.Tracer) or not hasattr(number, "dtype"):
        return number
    values = np.asarray(number)
    return str(values.dtype), values.shape, values.tobytes()


# ---- the pytree


@dataclass(frozen=True)
class _Form:
    """The static part of a surrogate."""

    numbers: tuple[str, ...]
    static: tuple[tuple[str, Any], ...]
    origin: Origin | None = field(default=None, compare=False)


def _flatten(surrogate: Surrogate) -> tuple[tuple[Any, ...], _Form]:
    return tuple(surrogate._numbers.values()), surrogate._form


def _flatten_with_keys(surrogate: Surrogate) -> tuple[tuple[tuple[Any, Any], ...], _Form]:
    keyed = tuple((jax.tree_util.GetAttrKey(name), value) for name, value in surrogate._numbers.items())
    return keyed, surrogate._form


def _unflatten(cls: type[Any], form: _Form, numbers: Any) -> Any:
    # Without checks: transformations replace the numbers by tracers, and by objects that are not arrays.
    new = object.__new__(cls)
    vars(new).update(form.static, _form=form)
    vars(new).update(zip(form.numbers, numbers, strict=True))
    return new
