"""Writes what is computed of the pages: tables and classes from the registry, help texts from the commands.

```
python docs/generate.py           write docs/generated/*.md, and what stands between marks on other pages
python docs/generate.py --check   exit with 1, and show the difference, when a page is stale
```
Only what the distribution ``neurai`` offers is listed, whatever else is installed.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(NEURAI_DISABLE_PLUGIN_AUTOLOAD="1", NEURAI_BLOCK="", JAX_PLATFORMS="cpu")

import neurai_core as neurai  # the environment decides what the registry lists
from neurai_core.explain import describe_settings
from neurai_core.offered import OFFERED
from neurai_core.specs import PluginSpec, Reference

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FOLDER = DOCS / "generated"

Lines = Iterator[str]


# ---------------------------------------------------------------------------- the registry


def rules() -> Lines:
    """Every learning rule."""
    specs = all_specs("algorithm")
    yield "Each is a name for `neurai.algorithm(name, loss=..., **settings)` and `neurai train --rule name`."
    yield "[How to choose a rule](../choosing-a-rule.md) compares them.\n"
    yield from table(
        ("name", "what it is", "needs", "claims", "class"),
        ((names(s), s.summary, code(s.needs), codes(s.claims), codes(s.offers)) for s in specs),
    )
    yield "`needs`: *callable* takes any `model(params, x)`, *network* one [with named values](../any-network.md),"
    yield "*layered* a [model in layers](../models.md)."
    yield "A claim is a property that tests verify."
    for spec in specs:
        yield from section(spec, defined(spec))


def defined(spec: Any) -> Lines:
    """The rule as its paper writes it: the file itself if it is ours."""
    if spec.definition:
        yield f"`neurai describe {spec.name} --equations` prints its definition, `{spec.definition}`.\n"
        file = f"plugins/{spec.definition.partition(':')[0].replace('.', '/')}.py"
        if (ROOT / file).exists():
            yield f'??? note "The definition"\n\n    ``` {{.python}}\n    --8<-- "{file}"\n    ```\n'


def names(spec: PluginSpec) -> str:
    """A link to a plugin's section, and its aliases."""
    return " or ".join((link(spec.name), *map(code, spec.aliases)))


def surrogates() -> Lines:
    """Every surrogate."""
    specs = all_specs("surrogate")
    yield "Each is a name for `neurai.surrogate(name, **settings)`. u is the membrane potential minus the"
    yield "threshold: forward, the step is 1 where u >= 0; backward, its derivative is g(u).\n"
    yield from table(
        ("name", "g(u)", "area", "support", "width", "class"),
        (
            (
                link(s.name),
                f"${bars(s.derivative)}$",
                code(s.area),
                code(s.support),
                code(s.width),
                codes(s.offers),
            )
            for s in specs
        ),
    )
    yield "Facts at the default settings; `facts` of a surrogate computes them for any. Half width is the distance"
    yield "from the threshold at which g has fallen to half its peak, on the wider side.\n"
    yield from table(
        ("name", "area", "peak", "half width", "limits of P", "symmetric", "takes both signs"),
        (facts_row(s) for s in specs),
    )
    for spec in specs:
        yield from section(spec, formulas(spec))


def facts_row(spec: Any) -> tuple[str, ...]:
    """What holds for a surrogate at its defaults, computed."""
    surrogate = neurai.surrogate(spec.name)
    facts = surrogate.facts
    limits = f"{short(surrogate.limits[0])}, {short(surrogate.limits[1])}" if facts.area is not None else ""
    yes = {True: "yes", False: ""}
    shown = (facts.area, facts.peak, facts.half_width)
    return (link(spec.name), *map(short, shown), limits, yes[facts.symmetric], yes[facts.signed])


def short(number: Any) -> str:
    """A number in four digits; nothing for none."""
    return "" if number is None else f"{float(number):.4g}".replace("inf", "∞")


def bars(latex: str) -> str:
    """A formula for a table, where a bar would end the cell."""
    return latex.replace("|", r"\vert ")


def formulas(spec: Any) -> Lines:
    """A surrogate's derivative and primitive."""
    yield f"\n$$g(u) = {spec.derivative}$$\n"
    if spec.primitive:
        yield f"with `spiking=False`, forward\n\n$$P(u) = {spec.primitive}$$\n"
    if spec.letters:
        yield f"where {', '.join(f'${letter}$ is {code(meaning)}' for letter, meaning in spec.letters.items())}.\n"


def datasets() -> Lines:
    """Every data set."""
    specs = all_specs("dataset")
    yield "Each is a name for `neurai.dataset(name, **settings)` and `neurai train --data name`. The form of"
    yield "the arrays is described in [Writing a data set](../writing-a-data-set.md).\n"
    yield from table(
        ("name", "what it is", "example", "training", "test", "classes", "license"),
        ((link(s.name), s.summary, shape(s), count(s.train), count(s.test), classes(s), s.licence) for s in specs),
    )
    for spec in specs:
        facts = {"Split": spec.split, "Source": spec.source, "Attribution": spec.attribution}
        named = {"Classes": ", ".join(spec.classes)} if spec.classes else {}
        yield from section(spec, listed({**facts, **named}))


def adapters() -> Lines:
    """Every adapter."""
    specs = all_specs("adapter")
    yield "An adapter is found by the module that the class of a model comes from; nobody names it. "
    yield "[Models](../models.md) shows how they are used.\n"
    yield from table(
        ("name", "library", "what it takes", "brought by"),
        ((link(s.name), s.library, codes(s.models), codes(s.requires.values())) for s in specs),
    )
    for spec in specs:
        yield from section(spec)


def all_specs(kind: str) -> list[Any]:
    """The specs of a kind, by name."""
    return [neurai.spec(kind, name) for name in neurai.names(kind)]


def section(spec: PluginSpec, facts: Iterable[str] = ()) -> Lines:
    """One plugin: what it is, its settings, its references."""
    yield f"\n## {spec.name}\n\n{sentence(spec.summary)}\n"
    yield from facts
    rows = describe_settings(spec.config)
    if rows:
        headings = ("setting", "takes", "default", "range", "meaning")
        yield from table(headings, ((code(r.name), r.type, code(r.default), r.range, r.description) for r in rows))
    else:
        yield "It has no settings.\n"
    for reference in spec.references:
        yield cited(reference)


def cited(reference: Reference) -> str:
    """One reference on a line, with its links."""
    year = f" ({reference.year})" if reference.year else ""
    doi = f" [doi:{reference.doi}](https://doi.org/{reference.doi})" if reference.doi else ""
    arxiv = f" [arXiv:{reference.arxiv}](https://arxiv.org/abs/{reference.arxiv})" if reference.arxiv else ""
    return f"{reference.authors}{year}: *{reference.title}*.{doi}{arxiv}\n"


def shape(spec: Any) -> str:
    """Shape and dtype of one example."""
    return code(f"{spec.dtype} {spec.shape}") if spec.shape else "as in the files"


def count(number: int | None) -> str:
    """A number of examples."""
    return "" if number is None else str(number)


def classes(spec: Any) -> str:
    """How many classes there are."""
    return "" if spec.classes is None else str(len(spec.classes))


# ---------------------------------------------------------------------------- losses and activations


def scores() -> Lines:
    """Losses, accuracies and activations."""
    from neurai_core import losses
    from neurai_core.layered import ACTIVATIONS
    from neurai_core.losses import ACCURACIES, LOSSES

    yield "Every place that takes a loss or an accuracy takes a name of these or a callable.\n"
    yield from (losses.__doc__ or "").replace("``", "`").splitlines()[2:]
    for title, found in (("Losses", LOSSES), ("Accuracies", ACCURACIES)):
        yield f"\n## {title}\n"
        yield from table(
            ("name", "what it is", "reduction"),
            ((code(s.name), first_line(s.call), s.reduction) for s in found.values()),
        )
    yield "\n## Activations\n"
    yield f"Names for the layer makers and for `--model`: {codes(ACTIVATIONS)}. A callable does as well.\n"


def first_line(thing: Any) -> str:
    """The first line of a docstring."""
    return (thing.__doc__ or "").splitlines()[0]


# ---------------------------------------------------------------------------- commands and environment

PLUGIN_VARIABLES = {
    "NEURAI_ONLY": "names, distributions or `name@distribution`, separated by commas: of the plugins "
    "installed only these and the built-in ones are used; set and empty, the built-in ones alone",
    "NEURAI_BLOCK": "names, distributions or `name@distribution`, separated by commas: never imported",
    "NEURAI_PREFER": "`name=distribution`, separated by commas: which one a name means if several offer it",
    "NEURAI_DISABLE_PLUGIN_AUTOLOAD": "anything but `0`: of the installed plugins only the built-in ones",
    "NEURAI_TRACE": "anything but `0`: every scan, import, spec and build on stderr, with its time",
}
OTHER_VARIABLES = {
    "NEURAI_CACHE": "folder in which commands keep compiled programs, an absolute path; `off` or empty keeps none",
    "NEURAI_DATA": "folder in which data sets are looked for, `fashion-mnist/` below it first",
    "NO_COLOR": "anything: no colors in the terminal",
}


def commands() -> Lines:
    """Every command with its arguments and options, from the objects that `--help` prints."""
    from typer.main import get_command

    from neurai_core.cli.app import app

    yield "What `--help` says. `python -m neurai_core` is the same command. How settings, files and the"
    yield "environment work together, and what exit codes mean: [The command line](../command-line.md).\n"
    yield from command_help("neurai", get_command(app))


def command_help(name: str, command: Any) -> Lines:
    """One command, then those below it."""
    below = getattr(command, "commands", {})
    yield f"## {name}\n\n{unmarked(command.help)}\n"
    given = [one for one in command.params if "completion" not in one.name]
    if below:
        yield f"Commands: {codes(below)}.\n"
    if given:
        yield from table(("option", "default", "meaning"), map(option, given))
    for each, inner in below.items():
        yield from command_help(f"{name} {each}", inner)


def option(one: Any) -> tuple[str, str, str]:
    """One argument or option: its spellings, its default, what it means."""
    argument = one.param_type_name == "argument"
    spellings = one.name.upper() if argument else " ".join([*one.opts, *one.secondary_opts, one.metavar or ""])
    default = one.show_default if isinstance(getattr(one, "show_default", None), str) else ""
    return code(spellings.strip()), code(default), unmarked(one.help)


def unmarked(text: str) -> str:
    """Help without the escapes of rich, each paragraph on one line."""
    paragraphs = text.replace("\\[", "[").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def front_door() -> Lines:
    """Every name of the front door."""
    yield "```python\nimport neurai_core as neurai\n```\n"
    yield "Public is what is in this table, and in a module of the [reference](../reference/index.md) whatever"
    yield "does not begin with an underscore. Nothing is imported before it is touched.\n"
    found = [(name, getattr(neurai, name)) for name in dir(neurai) if not name.startswith("_")]
    yield from table(("name", "what it is"), ((code(name), first_line(thing)) for name, thing in found))
    yield f"`neurai.__version__` is the version that is installed. The modules {codes(neurai._MODULES)} are"
    yield "attributes, as in `neurai.models.mlp`.\n"
    yield "::: neurai_core.by_name"


def environment() -> Lines:
    """Every variable of the environment that is read."""
    from neurai_core.training.settings import RunSettings, variable

    runs = {variable(name): field.description for name, field in RunSettings.model_fields.items()}
    check_variables({*runs, *PLUGIN_VARIABLES, *OTHER_VARIABLES})
    yield "## Plugins\n\nRead at every look-up, before anything of a plugin is imported. Names compare as"
    yield "the registry compares them, distributions as pip does. Plugins registered in the process are never"
    yield "blocked.\n"
    yield from table(("variable", "meaning"), ((code(n), text) for n, text in PLUGIN_VARIABLES.items()))
    yield "## Runs\n\nDefaults of `neurai train`, below a file, `--set` and flags.\n"
    yield from table(("variable", "meaning"), ((code(name), text) for name, text in runs.items()))
    yield "## Other\n"
    yield from table(("variable", "meaning"), ((code(name), text) for name, text in OTHER_VARIABLES.items()))


def offered() -> Lines:
    """What plugins may import; in a row, `.specs` is short for `neurai_core.specs`."""
    rows = ((codes(f"neurai_core.{row}".replace(" ", " .").split()), purpose) for row, purpose in OFFERED.items())
    yield from table(("module", "what for"), [(code("neurai_core"), "the front door"), *rows])


def checks() -> Lines:
    """Every check of every kind of plugin."""
    from neurai_core.testing.conformance import KITS

    for kind, title in KIT_TITLES.items():
        yield f"## {title}\n"
        yield from table(
            ("check", "what it checks", "claim", "if it fails"),
            ((code(one.name), one.summary, code(one.claim), one.hint) for one in KITS[kind].checks),
        )


def errors() -> Lines:
    """Every error class with an example of its message."""
    from error_examples import EXAMPLES  # beside this file

    from neurai_core import errors as all_errors

    left_out = {all_errors.NeurAIError, all_errors.RisingEnergy}  # the base of all, and a warning
    known = {one for one in vars(all_errors).values() if isinstance(one, type) and issubclass(one, Exception)}
    if missing := known - left_out - EXAMPLES.keys():
        raise SystemExit(f"docs/error_examples.py has no example of {missing.pop().__name__}.")
    yield from table(
        ("error", "exit code", "meaning", "for example"),
        (
            (code(error.__name__), str(error.exit_code), first_line(error), message(error, call))
            for error, call in EXAMPLES.items()
        ),
    )


def message(expected: type[Exception], call: Callable[[], Any]) -> str:
    """What the error says that a call raises, in one cell of a table.

    Raises:
        SystemExit: the call raises another error, or none.
    """
    try:
        call()
    except expected as error:
        return " ".join(str(error).replace("|", "\\|").replace("<", "&lt;").split())
    raise SystemExit(f"docs/error_examples.py: the example of {expected.__name__} raises nothing.")


def classes_of(kind: str) -> Lines:
    """Every class that plugins of a kind offer, for the reference."""
    for spec in all_specs(kind):
        yield from (f"::: {target.replace(':', '.')}\n" for target in spec.offers.values())


def check_variables(described: set[str]) -> None:
    """Every variable that the code names must be described.

    Raises:
        SystemExit: names those that are not.
    """
    sources = [path for folder in ("neurai_core", "plugins") for path in (ROOT / folder).rglob("*.py")]
    named = {
        name for path in sources for name in re.findall(r"""["']\$?(NEURAI_[A-Z_]*[A-Z])["'=]""", path.read_text())
    }
    missing = sorted(named - described)
    if missing:
        raise SystemExit(f"docs/generate.py describes no {', '.join(missing)}, which the code reads.")


# ---------------------------------------------------------------------------- Markdown


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Lines:
    """A table; columns that hold nothing are left out."""
    found = list(rows)
    kept = [i for i in range(len(headings)) if any(row[i] for row in found)]
    yield _row(headings[i] for i in kept)
    yield _row("---" for _ in kept)
    yield from (_row(row[i].replace("|", "\\|") for i in kept) for row in found)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def listed(facts: dict[str, str]) -> Lines:
    """Facts as a list, those that are stated."""
    yield from (f"- {name}: {sentence(text)}" for name, text in facts.items() if text)
    yield ""


def sentence(text: str) -> str:
    """A text with its first letter large and a full stop."""
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


def code(text: str) -> str:
    """A text as code; nothing stays nothing."""
    return f"`{text}`" if text else ""


def codes(texts: Iterable[str]) -> str:
    """Several texts as code."""
    return ", ".join(map(code, texts))


def link(name: str) -> str:
    """A name, linked to its section on the same page."""
    return f"[`{name}`](#{name})"


# ---------------------------------------------------------------------------- pages

PAGES: dict[str, tuple[str, Callable[[], Lines]]] = {
    "rules": ("Learning rules", rules),
    "surrogates": ("Surrogates", surrogates),
    "datasets": ("Data sets", datasets),
    "adapters": ("Adapters", adapters),
    "scores": ("Losses, accuracies, activations", scores),
    "commands": ("Commands", commands),
    "neurai_core": ("neurai_core", front_door),
    "environment": ("Environment", environment),
}
KIT_TITLES = {"algorithm": "Rules", "surrogate": "Surrogates", "dataset": "Data sets", "adapter": "Adapters"}
# Page that is written by hand -> what computes the part between its marks.
PARTS: dict[str, Callable[[], Lines]] = {
    "writing-a-rule": offered,
    "checks": checks,
    "reference/errors": errors,
    "reference/grads": partial(classes_of, "algorithm"),
    "reference/surrogates": partial(classes_of, "surrogate"),
}
BEGIN, END = "<!-- What follows is written by docs/generate.py; do not edit. -->\n", "<!-- Here it ends. -->\n"


def page(name: str) -> str:
    """The text of a page."""
    title, lines = PAGES[name]
    return f"# {title}\n\n<!-- Written by docs/generate.py; do not edit. -->\n\n" + "\n".join(lines()).strip() + "\n"


def with_part(path: Path, lines: Callable[[], Lines]) -> str:
    """The text of a page that is written by hand, with its computed part as it should be."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + begin + "\n" + "\n".join(lines()) + "\n" + end + after


def computed() -> dict[Path, str]:
    """Every page that is computed, in whole or in part."""
    pages = {FOLDER / f"{name}.md": page(name) for name in PAGES}
    return pages | {(path := DOCS / f"{name}.md"): with_part(path, lines) for name, lines in PARTS.items()}


def stale(path: Path, text: str) -> list[str]:
    """The difference between a page as it is and as it should be."""
    now = path.read_text(encoding="utf-8") if path.exists() else ""
    where = path.relative_to(ROOT).as_posix()
    return list(difflib.unified_diff(now.splitlines(), text.splitlines(), where, f"{where} (computed)", lineterm=""))


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    texts = computed()
    differences = [line for path, text in texts.items() for line in stale(path, text)]
    if arguments == ["--check"]:
        print("\n".join(differences))
        if differences:
            print("The pages are stale: run `python docs/generate.py`.", file=sys.stderr)
        return 1 if differences else 0
    FOLDER.mkdir(exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
