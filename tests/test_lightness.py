"""What importing costs, and who may import whom."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

import neurai_core
from neurai_core.offered import offered_modules

CORE = Path(neurai_core.__file__).parent
PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
HEAVY = ("jax", "numpy", "optax", "pydantic", "pluggy", "importlib_metadata")

# A module imports only from floors below, or from its own room; a package is one room. Imports inside functions count,
# those for type checkers do not.
FLOORS = (
    ("errors", "naming", "run_defaults"),
    ("specs", "hookspecs", "explain", "offered"),
    ("plugin", "references"),
    ("registry", "optax_texts"),
    ("stored",),
    ("arrays", "data", "batched", "products", "surrogates", "overview", "run_settings"),
    ("programs", "manual_axes", "curvature", "layered", "losses", "optimizers"),
    ("probe", "program_convolutions", "terms", "relaxation", "surrogate_makers"),
    ("by_name", "sources", "changes", "energy", "rule", "adapting", "models"),
    ("explicit_axes",),
    ("__init__", "named_values", "automatic_names", "rising", "transforms", "grads"),
    ("network", "contract", "naming_values"),
    ("network_relaxation",),
    ("testing",),
    ("report", "template"),
    ("training",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: level for level, floor in enumerate(FLOORS) for room in floor}
# Rooms that can be imported without JAX: at their top they import each other, and these two.
LIGHT = {*FLOORS[0], *FLOORS[1], *FLOORS[2], *FLOORS[3], "overview", "by_name", "__init__"}
LIGHT_LIBRARIES = {"pydantic", "pluggy"}
# What the definition of a rule may use: what applies a layer, and what reads the names and texts of settings.
DEFINING = {"jax", "jax.numpy", "neurai_core.layered", "neurai_core.losses", "neurai_core.optax_texts"}
# Where surrogates get names from that are also words of mathematics, such as tanh.
MATHEMATICS = (jax.lax, jax.nn, np)


def loaded_after(code: str, *modules: str) -> set[str]:
    """Which of the modules a fresh interpreter holds after running code."""
    program = f"import sys\n{code}\nprint(*[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_front_door_imports_nothing_heavy() -> None:
    assert loaded_after("import neurai_core", *HEAVY) == set()


def test_listing_names_imports_neither_jax_nor_pydantic_nor_pluggy() -> None:
    code = "import neurai_core as neurai\nassert 'bp' in neurai.names('algorithm')"
    assert loaded_after(code, *HEAVY, "neurai_algorithms") == {"importlib_metadata"}


def test_a_spec_imports_no_jax_and_no_other_plugin() -> None:
    code = "import neurai_core as neurai\nassert neurai.spec('algorithm', 'bp').name == 'bp'"
    others = ("neurai_surrogates", "neurai_adapters", "neurai_datasets", "neurai_algorithms.backprop.rule")
    assert loaded_after(code, "jax", "numpy", "optax", "neurai_algorithms", *others) == {"neurai_algorithms"}


def test_every_spec_and_the_list_of_plugins_come_without_jax() -> None:
    code = "import neurai_core as neurai\nneurai.plugins()\nneurai.names('algorithm', supports='local')"
    assert loaded_after(code, "jax", "numpy", "optax") == set()


def test_a_run_loads_matplotlib_only_to_draw() -> None:
    assert loaded_after("import neurai_core.cli.app, neurai_core.training.run", "jax", "matplotlib") == {"jax"}


def test_every_public_name_exists_and_none_is_a_module() -> None:
    for name in neurai_core.__dir__():
        assert hasattr(neurai_core, name), name
        assert not (CORE / f"{name}.py").exists() and not (CORE / name).is_dir(), name


def test_the_front_door_tells_type_checkers_the_same_names() -> None:
    tree = ast.parse((CORE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module not in ("typing", "neurai_core")
        for alias in node.names
    }
    assert told == {name: f"neurai_core.{module}" for name, module in neurai_core._PUBLIC.items()}


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'neurai_core' has no attribute 'algorythm'"):
        _ = neurai_core.algorythm


def core_files() -> Iterator[tuple[str, Path]]:
    """Every module of the core by its name inside the package."""
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).with_suffix("").parts
        yield ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts), path


MODULES = dict(core_files())


def room(module: str) -> str:
    return module.partition(".")[0]


def imported(path: Path, *, anywhere: bool) -> set[str]:
    """Modules that a file imports, at its top level or anywhere; blocks for type checkers do not count."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in _statements(tree, anywhere):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {_target(node.module or "", alias.name) for alias in node.names}
    return found


def _statements(node: ast.AST, anywhere: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not anywhere:
            continue
        yield child
        yield from _statements(child, anywhere)


def _target(module: str, name: str) -> str:
    """``from neurai_core import rule`` is the module, ``from neurai_core import Rule`` the front door."""
    inner = f"{module}.{name}".removeprefix("neurai_core.")
    return f"neurai_core.{inner}" if module.startswith("neurai_core") and inner in MODULES else module


def within_core(modules: set[str]) -> set[str]:
    """The parts of the core among imported modules, by their name inside it."""
    return {
        name.removeprefix("neurai_core").removeprefix(".") or "__init__"
        for name in modules
        if name.startswith("neurai_core")
    }


def test_every_room_stands_on_a_floor() -> None:
    assert {*map(room, MODULES)} == {*FLOOR}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_floors_below_or_its_own_room(module: str) -> None:
    for used in within_core(imported(MODULES[module], anywhere=True)):
        assert room(used) == room(module) or FLOOR[room(used)] < FLOOR[room(module)], f"{module} imports {used}"


def test_no_modules_import_each_other() -> None:
    uses = {module: within_core(imported(path, anywhere=True)) for module, path in MODULES.items()}
    left = dict(uses)
    while ready := [module for module, used in left.items() if not used & left.keys()]:
        for module in ready:
            del left[module]
    assert not left, f"among these are modules that import each other: {', '.join(left)}"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in LIGHT])
def test_a_light_module_imports_nothing_heavy(module: str) -> None:
    modules = imported(MODULES[module], anywhere=False)
    assert {*map(room, within_core(modules))} <= LIGHT
    outside = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"neurai_core"}
    assert outside <= LIGHT_LIBRARIES


def words_of(path: Path) -> Iterator[tuple[str, int]]:
    """Every name, and every word in a text or comment, of a file and its line; examples are left out."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if tokenize.tok_name[token.type] in ("NAME", "STRING", "COMMENT", "FSTRING_MIDDLE"):
            without_examples = re.sub(r"^ *>>> .*?(?=\n *\n|\Z)", "", token.string, flags=re.DOTALL | re.MULTILINE)
            for word in re.findall(r"[\w.@=-]+", without_examples):
                yield word, token.start[0]


def test_the_core_names_no_rule_and_no_surrogate_but_the_defaults_of_a_run() -> None:
    """`name@distribution` is the form of a qualified name; what JAX has by a surrogate's name is a function."""
    kinds = ("algorithm", "surrogate")
    names = {name for kind in kinds for name in neurai_core.names(kind)}
    names |= {
        alias for kind in kinds for name in neurai_core.names(kind) for alias in neurai_core.spec(kind, name).aliases
    }
    assert {"bp", "pc", "bpc", "superspike"} < names
    defaults = CORE / "run_defaults.py"
    assert {word for word, _ in words_of(defaults)} & names == {"bp", "pc", "superspike"}
    names = {name for name in names if not any(hasattr(module, name) for module in MATHEMATICS)}
    named = [
        f"{path.relative_to(CORE)}:{line} {word}"
        for path in CORE.rglob("*.py")
        if path != defaults
        for word, line in words_of(path)
        if word.strip(".") in names
    ]
    assert named == []


def test_the_core_names_no_plugin_package() -> None:
    packages = {path.name for path in PLUGINS.iterdir() if path.is_dir()}
    for name, path in core_files():
        tops = {one.partition(".")[0] for one in imported(path, anywhere=True)}
        assert not tops & packages, f"{name} imports {tops & packages}"


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: str(path.relative_to(PLUGINS)))
def test_a_built_in_plugin_uses_only_what_third_parties_are_offered(path: Path) -> None:
    assert {f"neurai_core.{name}" for name in within_core(imported(path, anywhere=True))} <= {*offered_modules()}


def test_what_is_offered_stands_below_reports_and_training() -> None:
    for module in offered_modules():
        assert FLOOR[room(module.removeprefix("neurai_core.")) if "." in module else "__init__"] < FLOOR["report"]


@pytest.mark.parametrize("path", sorted(PLUGINS.glob("*/__init__.py")), ids=lambda path: path.parent.name)
def test_the_specs_of_a_plugin_package_import_no_jax(path: Path) -> None:
    modules = {
        name for name in imported(path, anywhere=False) if not name.startswith(("neurai_core", path.parent.name))
    }
    assert {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) <= {"pydantic"}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("equations.py")), ids=lambda path: path.parent.name)
def test_a_definition_uses_nothing_of_a_solver(path: Path) -> None:
    modules = imported(path, anywhere=True)
    assert {name for name in modules if name.partition(".")[0] not in sys.stdlib_module_names} <= DEFINING
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80, "a definition is one page to read"


def test_nothing_imports_a_definition() -> None:
    for path in (*CORE.rglob("*.py"), *PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.rpartition(".")[2] == "equations" for name in names), path
