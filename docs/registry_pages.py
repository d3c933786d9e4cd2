"""Pages of the registry: rules, surrogates, data sets and adapters with their settings, and the classes they offer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from markdown_lines import Lines, code, codes, link, listed, sentence, table

import neurai_core as neurai
from neurai_core.explain import describe_settings
from neurai_core.specs import PluginSpec, Reference

ROOT = Path(__file__).resolve().parent.parent


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
    yield "Facts at the default settings; the `facts` of a surrogate are those at its own. Half width is the distance"
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
        ((link(s.name), s.summary, shape(s), count(s.train), count(s.test), classes(s), s.license) for s in specs),
    )
    for spec in specs:
        facts = {"Split": spec.split, "Source": spec.source, "Attribution": spec.attribution}
        named = {"Classes": ", ".join(spec.classes)} if spec.classes else {}
        yield from section(spec, listed({**facts, **named}))


def adapters() -> Lines:
    """Every adapter."""
    specs = all_specs("adapter")
    yield "An adapter is found by the module that a model's class comes from; you never name it. "
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


def classes_of(kind: str) -> Lines:
    """Every class that plugins of a kind offer, for the reference."""
    for spec in all_specs(kind):
        yield from (f"::: {target.replace(':', '.')}\n" for target in spec.offers.values())
