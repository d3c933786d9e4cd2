"""Pages of the reference: scores, commands, the front door, the environment, and parts of other pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from error_examples import EXAMPLES
from markdown_lines import Lines, code, codes, first_line, table

import neurai_core as neurai
from neurai_core.offered import OFFERED

ROOT = Path(__file__).resolve().parent.parent

PLUGIN_VARIABLES = {
    "NEURAI_ONLY": "names, distributions or `name@distribution`, separated by commas: only these plugins "
    "and the built-in ones are used; if set but empty, only the built-in ones",
    "NEURAI_BLOCK": "names, distributions or `name@distribution`, separated by commas: never imported",
    "NEURAI_PREFER": "`name=distribution`, separated by commas: which one a name means if several offer it",
    "NEURAI_DISABLE_PLUGIN_AUTOLOAD": "anything but `0`: only the built-in plugins are used",
    "NEURAI_TRACE": "anything but `0`: prints every scan, import, spec and build to stderr, with its time",
}
OTHER_VARIABLES = {
    "NEURAI_CACHE": "absolute path of the folder in which commands keep compiled programs; `off` or empty keeps none",
    "NEURAI_DATA": "folder to search for data sets; Fashion-MNIST is looked for in `fashion-mnist/` below it first",
    "NEURAI_COORDINATOR": "`--coordinator` of `neurai train`; `neurai launch` sets it and the next two",
    "NEURAI_NUM_PROCESSES": "`--num-processes`",
    "NEURAI_PROCESS_ID": "`--process-id`",
    "NEURAI_HEARTBEAT": "folder in which processes show `neurai launch`, which sets it, that they go on",
    "NEURAI_LAUNCHER": "id of the process of `neurai launch`, without which its processes save and end",
    "NO_COLOR": "any value: no colors in the terminal",
}
KIT_TITLES = {"algorithm": "Rules", "surrogate": "Surrogates", "dataset": "Data sets", "adapter": "Adapters"}


def scores() -> Lines:
    """Losses, accuracies and activations."""
    from neurai_core import losses
    from neurai_core.layered import ACTIVATIONS
    from neurai_core.losses import ACCURACIES, LOSSES

    yield "Wherever a loss or an accuracy is expected, pass one of these names or a callable.\n"
    yield from (losses.__doc__ or "").replace("``", "`").splitlines()[2:]
    for title, found in (("Losses", LOSSES), ("Accuracies", ACCURACIES)):
        yield f"\n## {title}\n"
        yield from table(
            ("name", "what it is", "reduction"),
            ((code(s.name), first_line(s.call), s.reduction) for s in found.values()),
        )
    yield "\n## Activations\n"
    yield f"Names for the layer makers and for `--model`: {codes(ACTIVATIONS)}. You can also pass a callable.\n"


def commands() -> Lines:
    """Every command with its arguments and options, from the objects that `--help` prints."""
    from typer.main import get_command

    from neurai_core.cli.app import app

    yield "This is what `--help` prints. `python -m neurai_core` is the same command. [The command"
    yield "line](../command-line.md) explains how settings, files and the environment work together, and what exit"
    yield "codes mean.\n"
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
    return code(spellings.strip()), code(default_of(one)), unmarked(one.help)


def default_of(one: Any) -> str:
    """The default of an option, as its help shows it; empty for a flag and for what has none."""
    shown, value = getattr(one, "show_default", None), getattr(one, "default", None)
    if isinstance(shown, str):
        return shown
    simple = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f"{value:g}" if simple and isinstance(value, float) else str(value) if simple else ""


def unmarked(text: str) -> str:
    """Help without the escapes of rich, each paragraph on one line."""
    paragraphs = text.replace("\\[", "[").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def front_door() -> Lines:
    """Every name of the front door."""
    yield "```python\nimport neurai_core as neurai\n```\n"
    yield "The public API is what this table lists, and every name without a leading underscore in the modules of the"
    yield "[reference](../reference/index.md). Nothing is imported until you use it.\n"
    found = [(name, getattr(neurai, name)) for name in dir(neurai) if not name.startswith("_")]
    yield from table(("name", "what it is"), ((code(name), first_line(thing)) for name, thing in found))
    yield f"`neurai.__version__` is the installed version. The modules {codes(neurai._MODULES)} are"
    yield "attributes, as in `neurai.models.mlp`.\n"
    yield "::: neurai_core.by_name"


def environment() -> Lines:
    """Every variable of the environment that is read."""
    from neurai_core.training.setting_sources import variable
    from neurai_core.training.settings import RunSettings

    runs = {variable(name): field.description for name, field in RunSettings.model_fields.items()}
    check_variables({*runs, *PLUGIN_VARIABLES, *OTHER_VARIABLES})
    yield "## Plugins\n\nThese are read at every lookup, before anything in a plugin is imported. Names are compared as"
    yield "in the registry, and distributions as in pip. Plugins registered in the process are never blocked.\n"
    yield from table(("variable", "meaning"), ((code(n), text) for n, text in PLUGIN_VARIABLES.items()))
    yield "## Runs\n\nDefaults for `neurai train`; a file, `--set` and flags override them.\n"
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
        raise SystemExit(f"docs/reference_pages.py describes no {', '.join(missing)}, which the code reads.")
