"""The check of definitions notices one with other products; that ours hold is checked with all other claims."""

from __future__ import annotations

import ast
import sys
from types import ModuleType

import pytest

import neurai_core as neurai
from neurai_core.plugin import source_of
from neurai_core.registry import REGISTRY
from neurai_core.testing.checking import run_check
from neurai_core.testing.rule_definition import definition
from neurai_core.testing.rule_subject import SAME, RuleSubject

pytestmark = pytest.mark.usefixtures("quick_compile")


class Products(ast.NodeTransformer):
    """A factor before every product, each a different one: signs alone cancel in estimates that are even in them."""

    factor = 1

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Mult) or isinstance(node.left, ast.List):
            return node
        self.factor += 1
        return ast.BinOp(ast.Constant(-self.factor), ast.Mult(), node)


def mutant(target: str) -> ModuleType:
    """A copy of the definition's module with other products."""
    module = ModuleType("other_products")
    tree = Products().visit(ast.parse(source_of(target)))
    exec(compile(ast.fix_missing_locations(tree), "other_products", "exec"), module.__dict__)
    return module


SHIPPED = [
    entry.name
    for entry in REGISTRY.entries("algorithm")
    if entry.builtin and neurai.spec("algorithm", entry.name).definition
]


QUICK = ("bp", "ep", "eprop", "fa", "hebbian")


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in SHIPPED]
)
def test_a_definition_with_other_products_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = neurai.spec("algorithm", name)
    monkeypatch.setitem(sys.modules, "other_products", mutant(spec.definition))
    other = spec.model_copy(update={"definition": f"other_products:{spec.definition.partition(':')[2]}"})
    found = run_check(definition, RuleSubject(name, other))
    assert found.status == "failed" and found.figure > 1e-3 > SAME, found
