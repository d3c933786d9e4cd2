"""Names for the values of a model without names: ``named(model, "auto")`` and ``named(model, "modules")``.

The output of every matrix product or convolution of an activity with a parameter, including its bias, becomes an
activity. Which values depend on parameters and which on activities follows from the program of the model, so any
function works.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from neurai_core.adapting import Adapted, Wrapper, adapt, find_adapter
from neurai_core.arrays import PyTree
from neurai_core.errors import ModelError, UsageError
from neurai_core.layered import Layered, forward
from neurai_core.programs import CUSTOM, Equation, Operand, Program, Value, primitives_of, read_program
from neurai_core.sources import (
    COLLECTION,
    Labels,
    Parameter,
    argument_labels,
    parameters_among,
    sources_of,
)

WAYS = ("auto", "modules")
PRODUCTS = frozenset({"dot_general", "conv_general_dilated", "ragged_dot", "ragged_dot_general"})
SHAPING = frozenset({"reshape", "transpose", "squeeze", "expand_dims", "convert_element_type", "copy"})
SUMS = frozenset({"add", "add_any", "sub"})


def named(model: Any, how: str = "auto") -> NamedModel:
    """A model whose values have names.

    Args:
        model: a callable ``model(params, x)``, a `Layered`, or a model of a library with an adapter.
        how: ``"auto"`` names the output of every matrix product or convolution of an activity with a parameter,
            including its bias, after the path of the parameter. Values that the model names keep their names.
            ``"modules"`` names the output of every module inside an Equinox or Flax model, and of every layer of a
            `Layered`, after its path.

    Returns:
        A callable ``model(params, x)`` that takes the parameters of the given model.

    Raises:
        UsageError: ``how`` is unknown.
        ModelError: the model has no modules; or on use, no product has a parameter, or one is inside ``while`` or
            ``cond``.

    Example:
        >>> from neurai_core.network import network_of
        >>> def model(params, x):
        ...     return jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"]
        >>> params = {"w1": jnp.ones((2, 3)), "b1": jnp.ones(3), "w2": jnp.ones((3, 1))}
        >>> network = network_of(named(model, "auto"), params, jnp.ones((4, 2)))
        >>> network.names
        ('w1', 'w2')
        >>> network(params, jnp.ones((4, 2)))[1]["w1"][0][0].tolist()
        [3.0, 3.0, 3.0]
    """
    if how not in WAYS:
        raise UsageError(f"named(model, {how!r}): expected one of {', '.join(map(repr, WAYS))}.")
    if how == "modules" and not isinstance(model, Layered) and _naming(model) is None:
        raise ModelError(
            f"The model is a {type(model).__name__}, which contains no modules whose outputs could be named.",
            hint='named(model, "auto"), or --activities auto, names the products of any function.',
        )
    return NamedModel(model, how)


def _naming(model: Any) -> Callable[[], AbstractContextManager[Any]] | None:
    """Open the context in which a library names the outputs of its modules."""
    adapter = find_adapter(model)
    return None if adapter is None else adapter.naming


@dataclass(frozen=True)
class NamedModel(Wrapper):
    """A model with named values; made by `named`.

    Attributes:
        model: the model.
        how: how values are named.
    """

    model: Any
    how: str = "auto"

    def adapted(self, inner: Adapted) -> Adapted:
        """The model as a rule sees it."""
        if self.how == "auto":
            return inner._replace(model=AutoNamed(inner.model))
        if isinstance(self.model, Layered):
            return inner._replace(model=ModuleNamed(_with_named_layers(self.model), nullcontext))
        return inner._replace(model=ModuleNamed(inner.model, _naming(self.model)))

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """The outputs for a batch of inputs."""
        model, split, _ = adapt(self)
        own, model_state = split(params)
        return forward(model, own, x, model_state=model_state)[0]


@dataclass(frozen=True)
class AutoNamed:
    """An adapted model with names for the outputs of its products.

    Attributes:
        model: the adapted model.
    """

    model: Any

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """The outputs for a batch of inputs."""
        return self.apply(params, (), x)[0]

    def apply(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """One forward pass: ``(outputs, model_state)``."""

        def run(params: PyTree, model_state: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
            return forward(self.model, params, x, model_state=model_state, key=key, train=train)

        program = read_program(run, params, model_state, x)
        names = product_names(program, argument_labels(params, model_state, x), _lengths(x))
        leaves, _ = _evaluate(program, jax.tree.leaves((params, model_state, x)), (), names)
        return jax.tree.unflatten(program.structure, leaves)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ModuleNamed:
    """An adapted model with names for the outputs of its modules.

    Attributes:
        model: the adapted model.
        naming: opens the context in which modules name their outputs.
    """

    model: Any
    naming: Any

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """The outputs for a batch of inputs."""
        return self.apply(params, (), x)[0]

    def apply(
        self, params: PyTree, model_state: PyTree, x: PyTree, *, key: Any = None, train: bool = False
    ) -> tuple[PyTree, PyTree]:
        """One forward pass: ``(outputs, model_state)``."""
        with self.naming():
            return forward(self.model, params, x, model_state=model_state, key=key, train=train)


@dataclass(frozen=True)
class NamedLayer:
    """The ``apply`` of a layer, its output named.

    Attributes:
        run: the layer's own ``apply``.
        name: name of its output.
    """

    run: Callable[..., tuple[PyTree, PyTree]]
    name: str

    def __call__(self, *args: Any, **settings: Any) -> tuple[PyTree, PyTree]:
        """``(y, model_state)``."""
        y, model_state = self.run(*args, **settings)
        return checkpoint_name(y, self.name), model_state


def _with_named_layers(model: Layered) -> Layered:
    layers = enumerate(model.layers)
    return Layered(tuple(replace(one, apply=NamedLayer(one.apply, f"layers.{i}"), linear=None) for i, one in layers))


def _lengths(x: PyTree) -> frozenset[int]:
    return frozenset(jnp.shape(leaf)[0] for leaf in jax.tree.leaves(x) if jnp.shape(leaf))


def _evaluate(
    program: Program, arguments: Sequence[Any], slices: PyTree, names: Mapping[Value, str]
) -> tuple[list[Any], PyTree]:
    """A program with names for some of its values."""

    def step(equation: Equation, operands: list[Any]) -> list[Any]:
        if _is_opaque(equation) or not any(value in names for value in _values(equation.body)):
            results = equation(*operands)
        else:
            results, _ = equation.descend(operands, (), partial(_evaluate, names=names))
        pairs = zip(results, equation.results, strict=True)
        return [checkpoint_name(result, names[value]) if value in names else result for result, value in pairs]

    return program.run(arguments, step), ()


def _is_opaque(equation: Equation) -> bool:
    """Whether an equation has no body, or one to leave alone because its custom derivative is that of the whole."""
    return equation.body is None or equation.primitive in CUSTOM


def _values(program: Program | None) -> Iterator[Value]:
    """Every value that a program computes, including those inside calls and loops."""
    for equation in program.equations if program is not None else ():
        yield from equation.results
        yield from _values(equation.body)


# ---------------------------------------------------------------------------- which values get names


def product_names(program: Program, inputs: Sequence[Labels], lengths: Collection[int]) -> dict[Value, str]:
    """The values that become activities, and their names.

    Args:
        program: program of the model.
        inputs: labels of its inputs, from `argument_labels`.
        lengths: lengths of the batch axes.

    Raises:
        ModelError: there are no parameters, no product has one, or one is in a place where no value can be free.
    """
    if not any(isinstance(label, Parameter) for labels in inputs for label in labels):
        raise ModelError(
            "The model has no parameters, so there is no product with a parameter to name.",
            hint='Pass its parameters, or name values yourself: h = neurai.activity(h, "h1").',
        )
    found = list(_products(program, sources_of(program, inputs).values, lengths))
    if not found:
        raise ModelError(
            "No matrix product or convolution of the model has a parameter as an operand, so none was named.",
            hint='Name values yourself: h = neurai.activity(h, "h1").',
        )
    taken = {name for equation in program.equations for name in equation.names}
    names: dict[Value, str] = {}
    for value, parameter in found:  # a parameter that is used again, such as tied weights, gets a number
        if value is not None:
            numbered = (f"{parameter}:{number}" for number in count(2))
            names[value] = next(name for name in chain([parameter], numbered) if name not in taken)
            taken.add(names[value])
    return names


def _products(
    program: Program, labels: Mapping[Value, Labels], lengths: Collection[int]
) -> Iterator[tuple[Value | None, str]]:
    """Every product with a parameter: the value to name, None if it has a name, and the parameter's path."""
    uses = _uses(program)
    for equation in program.equations:
        parameter = _parameter(equation, labels)
        if parameter is not None and _is_product(equation):
            yield _end(equation.results[0], uses, labels, lengths), parameter
        elif not _is_opaque(equation) and equation.body is not None:
            yield from _products(equation.body, labels, lengths)


def _is_product(equation: Equation) -> bool:
    """Whether an equation multiplies, directly or in a function with a custom derivative.

    Raises:
        ModelError: it does so in a branch, or in a loop of unknown length.
    """
    if equation.primitive.name in PRODUCTS:
        return True
    if not _is_opaque(equation) or not equation.inside:
        return False
    multiplies = any(one in PRODUCTS for inside in equation.inside for one in primitives_of(inside))
    if multiplies and equation.primitive not in CUSTOM:
        raise ModelError(
            f"A product with a parameter is inside {equation.primitive}, where no value can be free.",
            hint="Use jax.lax.scan instead of a loop of unknown length, and jnp.where instead of a branch; or name "
            'values yourself: h = neurai.activity(h, "h1").',
        )
    return multiplies


def _parameter(equation: Equation, labels: Mapping[Value, Labels]) -> str | None:
    """The path of the first parameter of an operand made only of parameters, if the input enters the other one."""
    operands = [_of(operand, labels) for operand in equation.operands]
    if not any(map(_varies, operands)):
        return None
    weights = (parameters_among(one) for one in operands if not _varies(one))
    return next((paths[0] for paths in weights if paths), None)


def _of(operand: Operand, labels: Mapping[Value, Labels]) -> Labels:
    return labels.get(operand, frozenset()) if isinstance(operand, Value) else frozenset()


def _varies(labels: Labels) -> bool:
    """Whether the input or an activity enters."""
    return any(not isinstance(one, Parameter) and one != COLLECTION for one in labels)


def _uses(program: Program) -> dict[Value, list[Equation | None]]:
    """The equations that read each value, None for the outputs."""
    uses: dict[Value, list[Equation | None]] = {}
    readers: Iterable[tuple[Equation | None, Sequence[Operand]]]
    readers = [*((equation, equation.operands) for equation in program.equations), (None, program.outputs)]
    for reader, operands in readers:
        for operand in operands:
            if isinstance(operand, Value):
                uses.setdefault(operand, []).append(reader)
    return uses


def _shapes(equation: Equation) -> bool:
    """Whether an equation rearranges the entries of its operand, using each once."""
    kind, before, after = equation.primitive.name, equation.operands[0], equation.results[0]
    widens = isinstance(before, Value) and before.aval.size == after.aval.size
    return kind in SHAPING or (kind == "broadcast_in_dim" and widens)


def _end(
    value: Value, uses: Mapping[Value, list[Equation | None]], labels: Mapping[Value, Labels], lengths: Collection[int]
) -> Value | None:
    """A product after its bias and changes of shape, with the batch axis in front if it ever is."""
    forms, biased = [value], False
    # Follows the only reader: past a second one, the value would not be all that the model sees of the product.
    while len(readers := uses.get(forms[-1], [])) == 1 and (reader := readers[0]) is not None:
        if reader.name is not None:
            return None
        adds = reader.primitive.name in SUMS and not biased and _parameter(reader, labels) is not None
        if not adds and not _shapes(reader):
            break
        # With its bias it is another value: the forms before are no longer the one to name.
        forms, biased = [*([] if adds else forms), reader.results[0]], biased or adds
    # An axis that the batch divides is taken for the batch, which may be merged with positions.
    front = [one for one in forms if any(one.aval.shape[:1] and one.aval.shape[0] % n == 0 for n in lengths if n)]
    return (front or forms)[-1]
