"""The checks of surrogates catch what they are for: each mutant breaks one property and fails one check."""

from __future__ import annotations

import builtins
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import Field

import neurai_core as neurai
from neurai_core.plugin import Plugin
from neurai_core.specs import Config, SurrogateSpec
from neurai_core.surrogates import Facts, Surrogate
from neurai_core.testing import check_surrogate, failures

pytestmark = pytest.mark.usefixtures("quick_compile")


class SoundConfig(Config):
    """Settings of all mutants."""

    alpha: float = Field(2.0, gt=0, description="slope, per unit of u")
    spiking: bool = Field(True, description="forward pass: the step or the primitive")


class Sound(Surrogate):
    """g(u) = 1 / (1 + alpha |u|)^2, of which every mutant is a variation."""

    config_class = SoundConfig

    def __init__(self, alpha=2.0, spiking=True):
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u):
        r = 1 / (1 + self.alpha * jnp.abs(u))
        return r * r

    def primitive(self, u):
        tail = 1 / (1 + self.alpha * jnp.where(u < 0, -u, u)) / self.alpha
        return jnp.where(u < 0, tail, 2 / self.alpha - tail)

    @property
    def facts(self):
        half = (math.sqrt(2) - 1) / self.alpha
        return Facts(area=2 / self.alpha, peak=1.0, half_width=half, symmetric=True, signed=False)


SPEC = {
    "name": "mutant",
    "summary": "One that may break one property.",
    "config": SoundConfig,
    "derivative": r"\frac{1}{(1 + \alpha |u|)^2}",
    "primitive": r"\frac{u}{1 + \alpha |u|} + \frac{1}{\alpha}",
    "width": "alpha",
    "area": "2 / alpha",
}


class OnlyDerivative(Surrogate):
    """Without a primitive and facts, for mutants in which these would be wrong as well."""

    config_class = SoundConfig

    def __init__(self, alpha=2.0, spiking=True):
        super().__init__(alpha=alpha, spiking=spiking)

    def derivative(self, u):
        return Sound(self.alpha).derivative(u)


BARE = {"derivative": "", "primitive": "", "area": ""}


class FiresAboveOnly(Sound):
    def step(self, u, key):
        return jnp.where(jnp.isnan(u), u, (u > 0).astype(u.dtype))


class FiresHalf(Sound):
    def step(self, u, key):
        return jnp.where(jnp.isnan(u), u, 0.5 * (u >= 0))


class FiresOnNaN(Sound):
    def step(self, u, key):
        return jnp.where(u >= 0, 1.0, 0.0)


class OtherGradient(Sound):
    """With spiking=False only."""

    def __call__(self, u, *, key=None):
        added = 0.0 if self.spiking else jnp.tanh(jnp.asarray(u)) - jax.lax.stop_gradient(jnp.tanh(jnp.asarray(u)))
        return super().__call__(u, key=key) + added


class OtherPrimitive(Sound):
    def primitive(self, u):
        return 1.01 * super().primitive(u)

    @property
    def facts(self):
        return super().facts._replace(area=None)


class FirstOrderOnly(Sound):
    def derivative(self, u):
        return super().derivative(jax.lax.stop_gradient(u))


class NeedsAxis(Sound):
    def derivative(self, u):
        return super().derivative(u) * jnp.ones(u.shape[0])[:, *(None,) * (u.ndim - 1)]


class PythonNumber(Sound):
    def __init__(self, alpha=2.0, spiking=True):
        super().__init__(alpha=alpha * 1.0 if isinstance(alpha, np.ndarray) else float(alpha), spiking=spiking)


class NotLearned(Sound):
    def primitive(self, u):
        frozen = self.replace(alpha=jax.lax.stop_gradient(self.alpha)) if hasattr(self.alpha, "dtype") else self
        return super(NotLearned, frozen).primitive(u)


class OneForAll(Sound):
    def derivative(self, u):
        r = 1 / (1 + jnp.max(jnp.asarray(self.alpha)) * jnp.abs(u))
        return r * r


class Overflows(OnlyDerivative):
    def derivative(self, u):
        e = jnp.exp(jnp.abs(self.alpha * u))
        return e / (1 + e) ** 2


class NaNIsZero(OnlyDerivative):
    def derivative(self, u):
        return jnp.where(jnp.isnan(u), 0.0, super().derivative(u))


class Coarse(Sound):
    def derivative(self, u):
        return super().derivative(u) * (1.01 if u.dtype == jnp.float32 else 1.0)


class Widens(Sound):
    def __call__(self, u, *, key=None):
        return super().__call__(u, key=key) * jnp.ones((), jnp.float32)


class TakesIntegers(Sound):
    def __call__(self, u, *, key=None):
        return super().__call__(jnp.asarray(u, float) if isinstance(u, int) else u, key=key)


class OffsetPrimitive(Sound):
    def primitive(self, u):
        return super().primitive(u) + 0.5


def stating(base=Sound, **facts):
    """The same shape with other facts."""

    class Stating(base):
        @property
        def facts(self):
            return super().facts._replace(**facts)

    return Stating


class Cusp(OnlyDerivative):
    """As if JAX had differentiated a primitive with an abs(u): 0 at the threshold."""

    def derivative(self, u):
        return jnp.where(u == 0, 0.0, super().derivative(u))


class Humps(OnlyDerivative):
    def derivative(self, u):
        return super().derivative(jnp.abs(u) - 0.1)


class Keyed(Sound):
    """Draws, without a claim."""

    @property
    def needs_key(self):
        return True

    def step(self, u, key):
        return jnp.where(jnp.isnan(u), u, self.primitive(u) * self.alpha / 2 >= jax.random.uniform(key, u.shape))


class Many(Sound):
    """Counts, without a claim."""

    def step(self, u, key):
        return jnp.where(jnp.isnan(u), u, jnp.where(u >= 0, jnp.where(u > 5, 2.0, 1.0), 0.0))

    def spikes(self, u, *, key=None):
        return self(u, key=key)


class SameSpikes(Keyed):
    def step(self, u, key):
        return super().step(u, jax.random.key(3))


class Stateful(Sound):
    def __init__(self, alpha=2.0, spiking=True, table=None):
        super().__init__(alpha=alpha, spiking=spiking)


class Unequal(Sound):
    config_class = None

    def __init__(self, alpha=2.0, spiking=True, table=None):
        Surrogate.__init__(self, alpha=alpha, spiking=spiking, table=table or object())


class OtherDefault(Sound):
    def __init__(self, alpha=3.0, spiking=True):
        super().__init__(alpha=alpha, spiking=spiking)


class SilentConfig(SoundConfig):
    alpha: float = Field(2.0, gt=0)


WINDOW = {"derivative": "", "primitive": "", "area": "alpha", "support": "abs(u) < alpha / 2"}


class Window(OnlyDerivative):
    """1 within a window; its facts do not say where that ends."""

    def derivative(self, u):
        return jnp.where(jnp.isnan(u), u, jnp.where(jnp.abs(u) < self.alpha / 2, 1.0, 0.0))


OFFERED = {"OtherDefault": f"{__name__}:OtherDefault"}
MUTANTS = [
    ("forward", FiresAboveOnly, {}),
    ("forward", FiresHalf, {}),
    ("forward", FiresOnNaN, {}),
    ("derivative", OtherGradient, {}),
    ("primitive", OtherPrimitive, {"primitive": "", "area": ""}),
    ("second-order", FirstOrderOnly, {}),
    ("transformations", NeedsAxis, {}),
    ("traced-numbers", PythonNumber, {}),
    ("learned-numbers", NotLearned, {}),
    ("number-per-neuron", OneForAll, {}),
    ("finite", Overflows, BARE),
    ("finite", NaNIsZero, BARE),
    ("dtypes", Coarse, {}),
    ("dtypes", Widens, {}),
    ("bad-input", TakesIntegers, {}),
    ("area", Sound, {"area": "1 / alpha"}),
    ("area", stating(OnlyDerivative, area=math.inf), {**BARE, "area": "inf"}),
    ("area", Sound, {"area": "twice alpha"}),
    ("limits", OffsetPrimitive, {"primitive": ""}),
    ("peak", stating(peak=0.9), {}),
    ("half-width", stating(half_width=0.3), {}),
    ("half-width", stating(half_width=math.inf), {}),
    ("support", Sound, {"support": "abs(u) < 2 / alpha"}),
    ("support", Sound, {"support": "[-alpha, alpha]"}),
    ("support", stating(support=(-1.0, 1.0)), {}),
    ("symmetry", Sound, {"symmetry": "none"}),
    ("symmetry", stating(symmetric=False), {}),
    ("sign", stating(signed=True), {}),
    ("threshold", Cusp, BARE),
    ("claims", Sound, {"claims": ("smooth",)}),
    ("claims", Keyed, {}),
    ("claims", Many, {}),
    ("unimodal", Humps, {**BARE, "claims": ("unimodal",)}),
    ("signed", Sound, {"claims": ("signed",)}),
    ("unit-area", Sound, {"claims": ("unit-area",)}),
    ("compact", Window, {**WINDOW, "claims": ("compact",)}),
    ("drawn", Sound, {"claims": ("drawn",)}),
    ("drawn", SameSpikes, {"claims": ("drawn",)}),
    ("counted", Sound, {"claims": ("counted",)}),
    ("formula", Sound, {"derivative": r"\frac{1}{(1 + 2 \alpha |u|)^2}"}),
    ("formula", Sound, {"primitive": r"\frac{u}{1 + \alpha |u|} + \alpha"}),
    ("settings", Sound, {"width": "slope"}),
    ("settings", Sound, {"config": SilentConfig}),
    ("settings", Sound, {"known_failures": {"limit": "it begins elsewhere"}}),
    ("defaults", OtherDefault, {"offers": OFFERED}),
    ("rebuilt", Unequal, {}),
]


def plugin(cls, spec):
    return Plugin(SurrogateSpec(**{**SPEC, **spec}), cls.build)


def test_the_sound_one_passes_every_check():
    assert not failures(check_surrogate(plugin(Sound, {"claims": ("unimodal",)})))


@pytest.mark.few(12)
@pytest.mark.parametrize(
    ("caught", "cls", "spec"), MUTANTS, ids=[f"{caught}: {cls.__name__}" for caught, cls, _ in MUTANTS]
)
def test_a_mutant_is_caught_by_its_check_and_no_other(caught, cls, spec):
    failed = failures(check_surrogate(plugin(cls, spec)))
    assert [one.check for one in failed] == [caught], [(one.check, one.reason) for one in failed]
    assert failed[0].reason and failed[0].hint
    assert not failed[0].reason[0].isdigit(), "a figure without words"


def test_a_wrong_area_is_told_beside_the_integral():
    (found,) = check_surrogate(plugin(Sound, {"area": "1 / alpha", "primitive": ""}), only=["area"])
    assert found.reason == "the spec says area=0.5, the facts 1, and the integral of g is 1"
    (found,) = check_surrogate(plugin(OnlyDerivative, {**BARE, "area": "1 / alpha"}), only=["area"])
    assert found.reason.startswith("the integral of g is 1 and the stated area 0.5; relative distance: 1, expected")


def test_no_formula_of_a_built_in_surrogate_is_left_unread():
    from neurai_core.testing import latex

    for name in neurai.names("surrogate"):
        spec, settings = neurai.spec("surrogate", name), neurai.surrogate(name).settings
        for formula in (spec.derivative, spec.primitive):
            assert math.isfinite(latex.number(formula, 0.3, settings, spec.letters)), name


def test_a_formula_that_cannot_be_read_is_skipped_with_the_reason():
    (found,) = check_surrogate(plugin(Sound, {"derivative": r"\Gamma(u)"}), only=["formula"])
    assert found.status == "skipped" and found.reason.startswith("derivative of its spec cannot be read: NameError")


def test_without_sympy_formulas_are_skipped_with_the_command_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "sympy":
            raise ModuleNotFoundError("No module named 'sympy'", name="sympy")
        return real(name, *args, **kwargs)

    import neurai_core.testing as kit

    monkeypatch.delattr(kit, "latex", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "neurai_core.testing.latex", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    (found,) = check_surrogate("superspike", only=["formula"])
    assert (found.status, found.reason) == ("skipped", "reading formulas needs sympy: python -m pip install sympy")
