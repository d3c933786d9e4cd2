"""What is public is listed, documented and importable; what was documented elsewhere exists as documented."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import neurai_core
import neurai_core.errors

pytestmark = pytest.mark.contract

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "generated" / "neurai_core.md"
# Shown in the blocks of a page, which are run, instead of in a docstring.
ON_A_PAGE = {
    "AlgorithmSpec": "writing-a-rule",
    "SurrogateSpec": "writing-a-surrogate",
    "AdapterSpec": "writing-an-adapter",
    "DatasetSpec": "writing-a-data-set",
    "ObserverSpec": "registry",
}
NO_EXAMPLE = {
    "Estimate": "what a rule's estimate returns: the example of Rule shows one",
    "PluginStatus": "a row of plugins()",
    "Registry": "the functions of the front door are its methods",
    "hookimpl": "made by pluggy, which documents it",
    "adapter": "every adapter needs a library that may not be installed",
}


def public_names() -> list[str]:
    return [name for name in dir(neurai_core) if not name.startswith("_")]


def test_the_documentation_lists_the_front_door_and_nothing_else() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert listed == public_names()


def test_type_checkers_see_the_same_names() -> None:
    source = inspect.getsource(neurai_core)
    seen = re.findall(r"^    from neurai_core\.[\w.]* import (\w+) as \1$", source, re.M)
    assert sorted(seen) == public_names()


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_is_importable_and_documented(name: str) -> None:
    thing = getattr(neurai_core, name)
    assert len(inspect.getdoc(thing) or "") > 10


def with_examples() -> list[str]:
    """Errors show how they print once, in the base of them all."""
    errors = {name for name, thing in vars(neurai_core.errors).items() if isinstance(thing, type)} - {"NeurAIError"}
    return sorted({*public_names()} - {*NO_EXAMPLE, *ON_A_PAGE} - errors)


@pytest.mark.parametrize("name", with_examples())
def test_a_public_name_has_an_example_or_refers_to_what_has_one(name: str) -> None:
    thing = getattr(neurai_core, name)
    methods = [one for one in vars(thing).values() if inspect.isfunction(one)] if isinstance(thing, type) else []
    texts = [inspect.getdoc(one) or "" for one in (thing, *methods)]
    assert any(">>>" in text for text in texts) or "; see `" in texts[0], f"{name} shows no example"


@pytest.mark.parametrize(("name", "page"), ON_A_PAGE.items())
def test_a_name_without_an_example_of_its_own_is_shown_on_a_page(name: str, page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    python = "".join(re.findall(r"^```python.*?\n(.*?)^```$", text, re.M | re.S))
    assert f"{name}(" in python


def test_no_public_name_is_that_of_a_module() -> None:
    modules = {path.stem for path in (ROOT / "neurai_core").iterdir()}
    assert not modules & set(public_names())


# Module -> where what was documented in it lives now.
MOVED = {
    "neurai_core.overview": ("neurai_core.registry", "PluginStatus"),
    "neurai_core.naming_values": (
        "neurai_core.automatic_names",
        "ModuleNamed NamedLayer NamedModel named product_names",
    ),
    "neurai_core.surrogate_makers": ("neurai_core.surrogates.makers", "Custom Normalized custom normalized"),
    "neurai_core.training.data": (
        "neurai_core.data",
        "Dataset batches check check_batch numbered_classes order steps_per_epoch warn_of_empty_classes",
    ),
}


@pytest.mark.parametrize("module", MOVED)
def test_a_module_gives_what_has_moved(module: str) -> None:
    home, names = MOVED[module]
    for name in names.split():
        assert find(module, name) is find(home, name)


# ---------------------------------------------------------------------------- the documented interface


class Documented(NamedTuple):
    """A name of the documented interface.

    Attributes:
        home: the module it is imported from.
        name: dotted below a class.
        signature: parameters with their defaults, as documented; more may follow if they have defaults.
    """

    home: str
    name: str
    signature: str


AUTOGRAD, SURROGATE = "neurai_core.grads.autograd", "neurai_core.grads.surrogate_grad"
GRADE = "loss_f, acc_f=None, fun_has_aux=False"
DOCUMENTED = (
    Documented(AUTOGRAD, "GradeBase", GRADE),
    Documented(AUTOGRAD, "LocalBase", GRADE),
    Documented(AUTOGRAD, "LocalBase.predict", "self, model, param, batch_data"),
    Documented(AUTOGRAD, "BP", GRADE),
    Documented(AUTOGRAD, "BP.get_grads", "self, model, param, batch_data, return_param=False, **kwargs"),
    Documented(AUTOGRAD, "BP.predict", "self, model, param, batch_data, **kwargs"),
    Documented(AUTOGRAD, "PC", "loss_f, acc_f=None, eta=0.1, n=20, mode='strict', fun_has_aux=False"),
    Documented(AUTOGRAD, "PC.get_grads", "self, model, param, batch_data"),
    Documented(
        AUTOGRAD,
        "EP",
        "loss_f, acc_f=None, beta=1.0, dt=0.1, n_relax=20, tau=1, tol=0, mode='two_phase', activation=None, "
        "fun_has_aux=False",
    ),
    Documented(AUTOGRAD, "EP.get_grads", "self, model, param, batch_data, optim=None, opt_state=None, repeat=1"),
    Documented(AUTOGRAD, "EP.predict", "self, model, param, batch_data"),
    Documented(
        AUTOGRAD,
        "grad",
        "fun, argnums=0, has_aux=False, holomorphic=False, allow_int=False, reduce_axes=(), return_fun_value=False",
    ),
    Documented(SURROGATE, "SurrogateFunctionBase", ""),
    Documented(SURROGATE, "Gaussian", "alpha=1.0"),
    Documented(SURROGATE, "MultiGaussian", "lens=0.5, scale=6.0, hight=0.15"),
    Documented(SURROGATE, "Polynomial", "alpha=1.0, spiking=True"),
    Documented(SURROGATE, "Rectangular", "alpha=1.0, spiking=True"),
    Documented(SURROGATE, "Sigmoid", "alpha=4.0, spiking=True"),
    Documented(SURROGATE, "SingleExponential", "grad_width=0.5, grad_scale=1.0"),
    Documented(SURROGATE, "SlayerPdf", "scale=1, tau=10.0, spiking=True"),
    Documented(SURROGATE, "SuperSpike", "alpha=1.0"),
)
BASES = {
    "LocalBase": "GradeBase",
    "BP": "GradeBase",
    "PC": "LocalBase",
    "EP": "LocalBase",
    **dict.fromkeys(
        (
            "Gaussian",
            "MultiGaussian",
            "Polynomial",
            "Rectangular",
            "Sigmoid",
            "SingleExponential",
            "SlayerPdf",
            "SuperSpike",
        ),
        "SurrogateFunctionBase",
    ),
}


def find(home: str, name: str) -> Any:
    thing: Any = importlib.import_module(home)
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def parameters(signature: str) -> list[inspect.Parameter]:
    scope: dict[str, Any] = {}
    exec(f"def documented({signature}): ...", scope)
    return list(inspect.signature(scope["documented"]).parameters.values())


@pytest.mark.parametrize("one", DOCUMENTED, ids=lambda one: one.name)
def test_a_documented_name_has_the_documented_signature(one: Documented) -> None:
    ours = inspect.signature(find(one.home, one.name)).parameters
    asked = parameters(one.signature)
    shape = [(p.name, p.default) for p in asked]
    assert [(name, p.default) for name, p in ours.items() if name in dict(shape)] == shape
    named = [p.name for p in asked if p.kind is not p.VAR_KEYWORD]
    assert list(ours)[: len(named)] == named, "a documented argument can be given by position"
    added = [p for name, p in ours.items() if name not in dict(shape)]
    assert all(p.default is not p.empty or p.kind is p.VAR_KEYWORD for p in added), "an addition is optional"


@pytest.mark.parametrize(("name", "base"), BASES.items())
def test_a_documented_class_has_the_documented_base(name: str, base: str) -> None:
    homes = {one.name: one.home for one in DOCUMENTED}
    assert issubclass(find(homes[name], name), find(homes[base], base))


@pytest.mark.parametrize("one", DOCUMENTED, ids=lambda one: one.name)
def test_a_documented_name_is_described_on_the_page_of_the_class_api(one: Documented) -> None:
    page = (ROOT / "docs" / "class-api.md").read_text(encoding="utf-8")
    assert one.name.rpartition(".")[2] in page


@pytest.mark.parametrize("home", [AUTOGRAD, SURROGATE])
def test_a_name_that_nobody_offers_is_an_attribute_error_that_lists_what_there_is(home: str) -> None:
    with pytest.raises(AttributeError, match="Offered"):
        find(home, "Zebra")
