"""What a plugin says about itself, without importing JAX: its settings, facts, claims and references.

Specs are frozen pydantic models that refuse unknown fields and survive a round trip through JSON.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

# defer_build moves building the validators, and pydantic's own scan for plugins, from import to first use.
_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)
_LARGEST = 2**32  # of whole numbers: what sizes, counts and seeds of JAX can be

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Target = Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+(\.\w+)*$")]


class Config(BaseModel):
    """Base of every settings class: frozen, no unknown settings, finite numbers only.

    Give every number its bounds and every setting a description with its unit or range. Where some settings mean
    nothing beside others, say so in `unused`: they are then refused, and left out of what a run records.

    >>> class SignConfig(Config):
    ...     scale: float = Field(0.02, gt=0, description="size of every gradient entry")
    >>> SignConfig().scale
    0.02
    """

    model_config = ConfigDict(**_FROZEN, allow_inf_nan=False)

    compiled_for: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    """Numbers for which the rule has code of its own: ``{"tol": (0,)}`` where 0 is never to look.

    The class API compiles anew for these, and once for all other numbers.
    """

    formerly: ClassVar[Mapping[str, str]] = {}
    """Former names of settings, each with the name of now: what was written with them stays readable."""

    @model_validator(mode="before")
    @classmethod
    def _by_the_name_of_now(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not cls.formerly.keys() & given.keys():
            return given
        return {cls.formerly.get(name, name): value for name, value in given.items()}

    def unused(self) -> Mapping[str, str]:
        """The settings that mean nothing beside the others, each with where: ``{"tol": "in mode exact"}``.

        One that differs from its default is an error; none of them is recorded.
        """
        return {}

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        for name, where in self.unused().items():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no meaning {where}")
        return self

    @field_validator("*", mode="after")
    @classmethod
    def _whole_numbers_fit(cls, value: Any) -> Any:
        if type(value) is int and abs(value) > _LARGEST:
            raise ValueError(f"whole numbers end at {_LARGEST}")
        return value


class Reference(BaseModel):
    """A paper, book or page that a plugin implements; ``neurai cite`` prints its BibTeX."""

    model_config = _FROZEN

    title: str
    authors: str = ""
    year: int | None = None
    doi: str = ""
    arxiv: str = ""
    url: str = ""
    bibtex: str = ""


class PluginSpec(BaseModel):
    """What every plugin says, whatever its kind.

    Attributes:
        kind: what it is, such as ``algorithm``.
        name: lookup name, the same as the entry point's (or one of the aliases is).
        summary: one line for lists.
        config: the class of its settings.
        aliases: further names; each one that should be found is an entry point of its own.
        references: what it implements.
        offers: documented class name -> ``"module:attribute"``.
        requires: top-level module that building needs -> what pip installs to get it, for instance
            ``{"equinox": "neurai[equinox]"}``.

    >>> spec = PluginSpec(kind="algorithm", name="bp", summary="Back propagation")
    >>> PluginSpec.model_validate_json(spec.model_dump_json()) == spec
    True
    """

    model_config = _FROZEN
    takes_arrays: ClassVar[bool] = False  # whether a setting that is a float may be an array

    kind: Name
    name: Name
    summary: Annotated[str, Field(min_length=1, pattern=r"^[^\n]+$")]
    config: type[Config] = Config
    aliases: tuple[Name, ...] = ()
    references: tuple[Reference, ...] = ()
    offers: dict[str, Target] = {}
    requires: dict[str, str] = {}

    @field_serializer("config", when_used="json")
    def _config_as_text(self, config: type[Config]) -> str:
        return f"{config.__module__}:{config.__qualname__}"

    @field_validator("config", mode="before")
    @classmethod
    def _config_from_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        module, _, attribute = given.partition(":")
        try:
            return reduce(getattr, attribute.split("."), importlib.import_module(module))
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"no settings class can be imported from {given!r}: {error}") from error


class Relaxes(BaseModel):
    """The settings by which the relaxation of a rule is watched; ``neurai plot relaxation`` draws it.

    With the setting ``trace`` on, an estimate reports ``aux["trace"]``: for every phase by name two arrays, ``energy``
    and ``residual``, the norm of the force, before every step and at the end, ``(n + 1,)``; or ``(K, n + 1)`` for K
    phases of one kind; or ``{}`` for a phase that was skipped.

    Attributes:
        trace: the setting that turns the report on, a bool.
        steps: that of the number of steps.
        size: that of their size.
        tol: that of the residual at which a phase ends early, 0 for never; empty where there is none.

    >>> Relaxes(trace="energy_trace", steps="n", size="eta").steps
    'n'
    """

    model_config = _FROZEN

    trace: str
    steps: str
    size: str
    tol: str = ""


class AlgorithmSpec(PluginSpec):
    """A learning rule.

    Attributes:
        needs: what it must see of a model: ``callable`` (any ``model(params, x)``), ``network`` (one whose values have
            names, or layers), or ``layered``.
        claims: tags that tests verify: ``local``, ``exact``, ``order_in_beta``, ``stateful``, ...; ``generative`` says
            that what is built is a `neurai_core.rule.GenerativeRule`.
        defaults: run settings that suit the rule, such as ``{"loss": "sum_squared_error"}``; a run takes them where
            nobody says otherwise.
        relaxes: how its relaxation is watched; None for a rule that has none.
        definition: the rule as its paper writes it, ``"package.equations:function"``; None for a rule that shows none.
            The function is ``(config, loss, model, params, state, batch, *, key=None) -> grads``: of the arguments of
            the rule's ``estimate`` the gradients that it must give, in plain JAX, at the documented step. It raises
            NotImplementedError for settings that it does not cover. Nothing but tests imports its module, and
            ``neurai describe NAME --equations`` prints it.
    """

    kind: Literal["algorithm"] = "algorithm"
    needs: Literal["callable", "network", "layered"] = "callable"
    claims: tuple[Name, ...] = ()
    defaults: dict[str, Any] = {}
    relaxes: Relaxes | None = None
    definition: Target | None = None


class SurrogateSpec(PluginSpec):
    """A surrogate derivative of the Heaviside step.

    Attributes:
        claims: tags that tests verify.
        derivative: the derivative used backward, in LaTeX.
        primitive: its antiderivative, in LaTeX; empty when it has none.
        equation: number of its equation in the first reference.
        width: name of the setting that sets the width.
        area: integral of the derivative over all u, in terms of the settings.
        support: where the derivative is not zero, in terms of the settings; ``all`` for every u.
        symmetry: symmetry of the derivative around the threshold: ``even`` or ``none``.
        letters: letter in the formulas -> what it stands for, where that is not the setting of its name: a
            setting, or an expression in the settings and u.
    """

    takes_arrays: ClassVar[bool] = True

    kind: Literal["surrogate"] = "surrogate"
    claims: tuple[Name, ...] = ()
    derivative: str = ""
    primitive: str = ""
    equation: str = ""
    width: str = ""
    area: str = ""
    support: str = "all"
    symmetry: Literal["even", "none"] = "even"
    letters: dict[str, str] = {}


class AdapterSpec(PluginSpec):
    """A bridge from the models of one library.

    Attributes:
        library: what the library is called in print.
        models: what it accepts, as the library spells it, such as ``eqx.nn.MLP``.
    """

    kind: Literal["adapter"] = "adapter"
    library: str = ""
    models: tuple[str, ...] = ()


class DatasetSpec(PluginSpec):
    """A data set.

    Attributes:
        shape: shape of one example; None when the files decide.
        dtype: dtype of the inputs.
        classes: names of the classes by label; None when the files decide or there are none.
        train: number of training examples; None when the files decide.
        test: number of test examples; None when the files decide.
        split: how training and test examples were told apart.
        licence: the licence of the data.
        attribution: who made the data.
        source: where the data comes from.
    """

    kind: Literal["dataset"] = "dataset"
    shape: tuple[int, ...] | None = None
    dtype: str = "float32"
    classes: tuple[str, ...] | None = None
    train: int | None = None
    test: int | None = None
    split: str = ""
    licence: str = ""
    attribution: str = ""
    source: str = ""


class Origin(BaseModel):
    """Where a built object comes from: enough to build it again, or to say what is missing.

    Attributes:
        kind: what it is, such as ``algorithm``.
        name: lookup name.
        distribution: the distribution that offers it.
        version: that distribution's version.
        settings: every setting by name; one that was traced when the object was built reads ``traced``.
        context: what the kind passed besides settings, by name, such as ``{"loss": "cross_entropy"}``.

    >>> origin = Origin(kind="algorithm", name="bp", distribution="neurai", version="0.1.0")
    >>> Origin.from_json(origin.to_json()) == origin
    True
    """

    model_config = _FROZEN

    kind: str
    name: str
    distribution: str
    version: str
    settings: dict[str, Any] = {}
    context: dict[str, Any] = {}

    def __hash__(self) -> int:
        # The dicts do not hash; equal origins agree in these four.
        return hash((self.kind, self.name, self.distribution, self.version))

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The origin that `to_json` wrote."""
        return cls.model_validate_json(text)
