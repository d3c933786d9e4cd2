"""Specs: descriptions of plugins by settings, facts, claims and references, without importing JAX.

Specs are frozen pydantic models that reject unknown fields and survive a round trip through JSON.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from neurai_core.naming import canonical

# defer_build moves building the validators, and pydantic's own scan for plugins, from import to first use.
_FROZEN = ConfigDict(frozen=True, extra="forbid", defer_build=True)
_LARGEST = 2**32  # largest integer setting: the limit of sizes, counts and seeds in JAX

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Target = Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+(\.\w+)*$")]
# A tag, or one about a setting: "local", "limit:beta", "limit:beta:2".
Claim = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(:\w+)*$")]


class Config(BaseModel):
    """Base of every settings class: frozen, no unknown settings, finite numbers only.

    Give every number bounds, and every setting a description with its unit or range. If some settings have no meaning
    beside others, list them in `unused`: they are then rejected, and left out of a run's record.

    >>> class SignConfig(Config):
    ...     scale: float = Field(0.02, gt=0, description="size of every gradient entry")
    >>> SignConfig().scale
    0.02
    """

    model_config = ConfigDict(**_FROZEN, allow_inf_nan=False)

    compiled_for: ClassVar[Mapping[str, tuple[float, ...]]] = {}
    """Numbers for which the rule has special code, such as ``{"tol": (0,)}`` if 0 disables a check.

    The class API compiles separately for these, and once for all other numbers.
    """

    formerly: ClassVar[Mapping[str, str]] = {}
    """Former names of settings with their current names, so that old files stay readable."""

    @model_validator(mode="before")
    @classmethod
    def _by_the_name_of_now(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name in cls.formerly.keys() & given.keys():
            if cls.formerly[name] in given:
                raise ValueError(
                    f"{name} is the former name of {cls.formerly[name]}, and both are given; keep the latter"
                )
        return {cls.formerly.get(name, name): value for name, value in given.items()}

    @classmethod
    def setting_named(cls, key: str) -> str:
        """The setting that a key spells, in any case, with or without dashes, also by a former name; else "".

        >>> class SignConfig(Config):
        ...     step_size: float = 0.1
        ...     formerly: ClassVar = {"scale": "step_size"}
        >>> SignConfig.setting_named("Step-Size"), SignConfig.setting_named("SCALE"), SignConfig.setting_named("eta")
        ('step_size', 'step_size', '')
        """
        names = {canonical(name): name for name in cls.model_fields}
        names |= {canonical(former): name for former, name in cls.formerly.items()}
        return names.get(canonical(key), "")

    def unused(self) -> Mapping[str, str]:
        """Settings without meaning beside the others, each with the reason: ``{"tol": "in mode exact"}``.

        Setting one to anything but its default is an error; none of them is recorded.
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
    """A paper, book or page that a plugin implements; ``neurai cite`` prints its BibTeX.

    `neurai_core.references.cited` makes one of an entry in a ``references.bib``.

    >>> Reference(title="Difference Target Propagation", year=2015, arxiv="1412.7525").year
    2015
    """

    model_config = _FROZEN

    title: str
    authors: str = ""
    year: int | None = None
    doi: str = ""
    arxiv: str = ""
    url: str = ""
    bibtex: str = ""


class PluginSpec(BaseModel):
    """The spec of any plugin, common to all kinds.

    Attributes:
        kind: its kind, such as ``algorithm``.
        name: lookup name, which must equal that of the entry point (or one of the aliases must).
        summary: one line for lists.
        config: the class of its settings.
        aliases: further names; each needs an entry point of its own to be found.
        references: the papers it implements.
        offers: documented class name -> ``"module:attribute"``.
        requires: top-level modules needed for building -> the pip requirement that provides them, such as
            ``{"equinox": "neurai[equinox]"}``.
        known_failures: checks of `neurai_core.testing` that it is known to fail, each with the reason.

    >>> spec = PluginSpec(kind="algorithm", name="bp", summary="Back propagation")
    >>> PluginSpec.model_validate_json(spec.model_dump_json()) == spec
    True
    """

    model_config = _FROZEN
    takes_arrays: ClassVar[bool] = False  # whether float settings may be arrays

    kind: Name
    name: Name
    summary: Annotated[str, Field(min_length=1, pattern=r"^[^\n]+$")]
    config: type[Config] = Config
    aliases: tuple[Name, ...] = ()
    references: tuple[Reference, ...] = ()
    offers: dict[str, Target] = {}
    requires: dict[str, str] = {}
    known_failures: dict[Name, Annotated[str, Field(min_length=1)]] = {}

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
    """The settings for recording the relaxation of a rule, which ``neurai plot relaxation`` draws.

    With the setting ``trace`` on, an estimate reports ``aux["trace"]``: for every phase by name two arrays, ``energy``
    and ``residual``, the norm of the force, before every step and at the end, ``(n + 1,)``; or ``(K, n + 1)`` for K
    phases of one kind; or ``{}`` for a phase that was skipped.

    Attributes:
        trace: name of the bool setting that turns the report on.
        steps: name of the setting for the number of steps.
        size: name of the setting for their size.
        tol: name of the setting for the residual at which a phase ends early, 0 for never; empty if there is none.

    >>> Relaxes(trace="energy_trace", steps="n", size="eta").steps
    'n'
    """

    model_config = _FROZEN

    trace: str
    steps: str
    size: str
    tol: str = ""


class Variant(BaseModel):
    """Settings of a rule other than its defaults, with which the checks of `neurai_core.testing` try it too.

    Attributes:
        settings: the settings that differ from the defaults.
        claims: what the rule claims with them.

    >>> Variant(settings={"mode": "exact"}, claims=("exact",)).claims
    ('exact',)
    """

    model_config = _FROZEN

    settings: Annotated[dict[str, Any], Field(min_length=1)]
    claims: tuple[Claim, ...] = ()


class AlgorithmSpec(PluginSpec):
    """A learning rule.

    Attributes:
        needs: the form of model that it needs: ``callable`` (any ``model(params, x)``), ``network`` (one with named
            values, or layers), or ``layered``.
        claims: what it claims to be with its default settings: ``exact``, ``limit:SETTING:ORDER``, ``unbiased``,
            ``local``, ``energy``, ``precise``, ``generative`` (it builds a `neurai_core.rule.GenerativeRule`). The
            checks of `neurai_core.testing` verify them. ``unsupervised`` says that it learns from inputs alone: a run
            takes data without labels, the last width of ``--model`` is the number of features, and a linear probe
            scores these. ``stochastic`` and ``stateful`` say that its gradients depend on the key, and on a state of
            its own, at least in a variant. The tag ``spiking`` says that it trains spiking networks only.
        variants: further settings to check it with, and what it claims with these.
        defaults: run settings that suit the rule, such as ``{"loss": "sum_squared_error"}``; a run uses them unless
            set otherwise.
        relaxes: the settings for recording its relaxation; None for a rule without one.
        definition: the equations of the rule as in its paper, ``"package.equations:function"``; None if there are none.
            The function ``(config, loss, model, params, state, batch, *, key=None) -> grads`` takes the arguments of
            the rule's ``estimate`` and returns the gradients that it must give, in plain JAX, at the documented step;
            that of a rule whose estimate writes a state of its own returns ``(grads, own)``.
            It raises NotImplementedError for settings that it does not cover. Only tests import its module, and
            ``neurai describe NAME --equations`` prints it.
        own_loss: what the rule reports as its loss, in two or three words such as ``goodness loss``, if it is not the
            loss of the feed-forward pass; tables, pictures and JSON print it.
        no_alignment: why the gradient of the loss of the feed-forward pass is no reference for the gradients of the
            rule, as a clause; empty if it is one.
    """

    kind: Literal["algorithm"] = "algorithm"
    needs: Literal["callable", "network", "layered"] = "callable"
    claims: tuple[Claim, ...] = ()
    variants: tuple[Variant, ...] = ()
    defaults: dict[str, Any] = {}
    relaxes: Relaxes | None = None
    definition: Target | None = None
    own_loss: Annotated[str, Field(max_length=30)] = ""
    no_alignment: str = ""

    @property
    def unsupervised(self) -> bool:
        """Whether the rule learns from inputs alone."""
        return "unsupervised" in self.claims

    @model_validator(mode="after")
    def _says_what_it_minimizes(self) -> Self:
        if self.unsupervised and not (self.own_loss and self.no_alignment):
            raise ValueError(
                "a rule that claims unsupervised needs own_loss and no_alignment: it has no loss of targets"
            )
        return self


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
        letters: letters in the formulas -> their meaning, if it is not the setting of that name: a setting, or
            an expression in the settings and u.
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
        library: name of the library, as printed.
        models: the models it accepts, as spelled in the library, such as ``eqx.nn.MLP``.
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
        split: how the data were split into training and test examples.
        license: the license of the data.
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
    license: str = ""
    attribution: str = ""
    source: str = ""


class ObserverSpec(PluginSpec):
    """An observer of training runs.

    Attributes:
        always: whether it observes every run; otherwise, only runs that ask for it by name.
    """

    kind: Literal["observer"] = "observer"
    always: bool = False


class Origin(BaseModel):
    """The origin of a built object: enough to rebuild it, or to say what is missing.

    Attributes:
        kind: its kind, such as ``algorithm``.
        name: lookup name.
        distribution: the distribution that offers it.
        version: that distribution's version.
        settings: every setting by name; one that was traced when the object was built reads ``traced``.
        context: build arguments besides settings, by name, such as ``{"loss": "cross_entropy"}``.

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
        # Dicts do not hash; equal origins agree in these four.
        return hash((self.kind, self.name, self.distribution, self.version))

    def to_json(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read an origin written by `to_json`."""
        return cls.model_validate_json(text)
