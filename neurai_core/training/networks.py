"""The network given by ``--model``: a built-in one with its widths, or the user's own.

```
mlp:128,64           dense layers of these widths (mlp:128,64,tanh chooses the activation)
resmlp:128x30        residual dense layers, 128 wide, 30 deep (resmlp:128x30,tanh,mupc: activation, parametrization)
cnn:8,16             convolutions of these channels, each followed by pooling
snn:128,64           spiking stages of these widths (snn:128,recurrent; snn:128,latency encodes static inputs), and a
                     readout; without labels, the spikes of the last of them are read out
package.module:net   a model, (model, params), or a function that makes one
path/to/file.py:net  the same, from a file
```
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Callable, Collection, Iterable
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

from neurai_core.adapting import find_adapter
from neurai_core.arrays import PyTree, Shape
from neurai_core.errors import ModelError, NeurAIError
from neurai_core.layered import ACTIVATIONS, Layered, Variables
from neurai_core.models import cnn, mlp, resmlp
from neurai_core.models.resmlp import PARAMETRIZATIONS
from neurai_core.models.spiking import ENCODERS, snn
from neurai_core.models.spiking.network import HIDDEN
from neurai_core.naming import did_you_mean
from neurai_core.run_defaults import SURROGATE
from neurai_core.training.starting import at_once

FAMILIES = {"mlp": "128,64", "resmlp": "128x8", "cnn": "8,16", "snn": "128"}
RECURRENT = "recurrent"
WIDEST, DEEPEST, MOST = 1_000_000, 1000, 2**31 - 1  # largest width of a layer; number of layers; number of parameters
_FORMS = "Write mlp:128,64, resmlp:128x8, cnn:8,16, snn:128, module:attribute or file.py:attribute."
_RETURNED = "Return (model, params), a Layered, or a model that holds its parameters."


class Untrained(NamedTuple):
    """A network to train.

    Attributes:
        model: a `Layered`, a model of a library with an adapter, or a callable ``model(params, x)``.
        params: its parameters in the model's own structure.
        flat: whether it takes examples as vectors.
        sha256: hash of the file with the user's model; empty for a built-in one.
        leaves: which of ``surrogate`` and ``steps`` the user's model does not take.
    """

    model: Any
    params: PyTree
    flat: bool = False
    sha256: str = ""
    leaves: frozenset[str] = frozenset()


def network(
    text: str,
    input_shape: Shape,
    n_outputs: int | None,
    key: jax.Array,
    *,
    surrogate: Any = None,
    steps: int | None = None,
    asked: Collection[str] = ("surrogate", "steps"),
) -> Untrained:
    """Build the network that ``--model`` names, for the given data.

    Args:
        text: one of the forms above.
        input_shape: shape of one example.
        n_outputs: number of classes, or of regression targets; None if the last width in the text is
            that of the output.
        key: PRNG key for its parameters.
        surrogate: for a spiking network; also passed to a function that makes a model, if given.
        steps: number of time steps for which a spiking network sees a static example; also passed on.
        asked: which of these two a user's model must take; the others are defaults, which it may leave.

    Raises:
        ModelError: there is no such model, it does not fit the data, or it does not take what was asked for.

    Example:
        >>> found = network("mlp:16", (8, 8, 1), 10, jax.random.key(0))
        >>> [layer["w"].shape for layer in found.params]
        [(64, 16), (16, 10)]
        >>> [layer["w"].shape for layer in network("mlp:16", (8, 8, 1), None, jax.random.key(0)).params]
        [(64, 16)]
    """
    family, colon, rest = text.partition(":")
    if family in FAMILIES and colon and not rest.strip():
        raise ModelError(f"--model got {text!r}, which names no width.", f"Write {family}:{FAMILIES[family]}.")
    if family == "mlp":
        return _mlp(text, rest or FAMILIES[family], math.prod(input_shape), n_outputs, key)
    if family == "resmlp":
        return _resmlp(text, rest or FAMILIES[family], math.prod(input_shape), n_outputs, key)
    if family == "cnn":
        return _cnn(text, rest or FAMILIES[family], input_shape, n_outputs, key)
    if family == "snn":
        return _snn(text, rest or FAMILIES[family], input_shape, n_outputs, key, surrogate, steps)
    if not rest:
        raise ModelError(f"--model got {text!r}, which is not a model.{did_you_mean(family, FAMILIES)}", _FORMS)
    offered = {"input_shape": input_shape, "n_outputs": n_outputs, "key": key}
    temporal = {name: value for name, value in (("surrogate", surrogate), ("steps", steps)) if value is not None}
    return _own(text, offered | temporal, {name for name in temporal if name in asked})


def absolute(text: str) -> str:
    """Make the path of a file in the text absolute, so that it works from any folder.

    >>> absolute("mlp:16")
    'mlp:16'
    """
    place, _, attribute = text.rpartition(":")
    return f"{Path(place).expanduser().absolute()}:{attribute}" if place.endswith(".py") else text


# ---------------------------------------------------------------------------- built-in ones


def _mlp(text: str, rest: str, n_inputs: int, n_outputs: int | None, key: jax.Array) -> Untrained:
    widths, activation = _widths(text, rest)
    widths, n_outputs = _with_output(text, widths, n_outputs)
    model = mlp((n_inputs, *widths, n_outputs), activation)
    return Untrained(model, _initial(text, model, key, (n_inputs,)), flat=True)


def _resmlp(text: str, rest: str, n_inputs: int, n_outputs: int | None, key: jax.Array) -> Untrained:
    size, *words = (part.strip() for part in rest.split(","))
    known = (*ACTIVATIONS, *PARAMETRIZATIONS)
    wrong = next((word for word in words if word not in known), None)
    if wrong is not None:
        raise ModelError(
            f"--model got {text!r}; {wrong!r} is neither an activation nor a parametrization."
            f"{did_you_mean(wrong, known)}",
            f"Parametrizations: {', '.join(PARAMETRIZATIONS)}. Activations: {', '.join(ACTIVATIONS)}.",
        )
    if size.count("x") != 1:
        raise ModelError(f"--model got {text!r}; {size!r} is not a width and depth.", "Write resmlp:128x30.")
    width, depth = _numbers(text, size.split("x"))
    if depth > DEEPEST:
        raise ModelError(f"--model got a depth of {depth}; at most {DEEPEST} layers are made.", "Write resmlp:128x30.")
    chosen = {"parametrization" if word in PARAMETRIZATIONS else "activation": word for word in words}
    model = resmlp(width, depth, n_outputs or width, **chosen)  # type: ignore[arg-type]
    return Untrained(model, _initial(text, model, key, (n_inputs,)), flat=True)


def _cnn(text: str, rest: str, input_shape: Shape, n_outputs: int | None, key: jax.Array) -> Untrained:
    if len(input_shape) != 3:
        raise ModelError(
            f"--model {text} takes images (H, W, C), and the data have examples of shape {input_shape}.",
            "Use --model mlp:128,64.",
        )
    channels, activation = _widths(text, rest)
    channels, n_outputs = _with_output(text, channels, n_outputs)
    if min(input_shape[:2]) < 2 ** len(channels):
        height, width, _ = input_shape
        raise ModelError(
            f"--model {text} halves the image {len(channels)} times, and {height}x{width} pixels are too few.",
            "Name fewer channels, such as --model cnn:8.",
        )
    model = cnn(channels, n_outputs, activation)
    return Untrained(model, _initial(text, model, key, input_shape))


def _initial(text: str, model: Any, key: jax.Array, shape: Shape) -> PyTree:
    """Create the initial parameters, after checking their number."""
    planned = jax.eval_shape(lambda key: model.init(key, shape)[0], key)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(planned))
    if count > MOST:
        raise ModelError(
            f"--model {text} has {count} parameters; at most {MOST} can be trained.", "Name fewer or smaller widths."
        )
    params: PyTree = at_once(lambda key: model.init(key, shape)[0], key)
    return params


def _widths(text: str, rest: str) -> tuple[list[int], str]:
    parts = [part.strip() for part in rest.split(",")]
    activation = parts.pop() if parts[-1] and not parts[-1].lstrip("-").isdigit() else "relu"
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"--model got {text!r}; {activation!r} is neither a width nor an activation."
            f"{did_you_mean(activation, ACTIVATIONS)}",
            f"Activations: {', '.join(ACTIVATIONS)}.",
        )
    return _numbers(text, parts), activation


def _with_output(text: str, widths: list[int], n_outputs: int | None) -> tuple[list[int], int]:
    """Hidden widths and that of the output: the last one in the text if the data do not decide."""
    if n_outputs is not None:
        return widths, n_outputs
    if not widths:
        raise ModelError(f"--model {text} names no width, and the rule needs the number of features to learn.", _FORMS)
    return widths[:-1], widths[-1]


def _numbers(text: str, parts: list[str], words: Iterable[str] = ()) -> list[int]:
    wrong = next((part for part in parts if not part.isdecimal() or not part.strip("0")), None)
    if wrong is not None:
        nearest = did_you_mean(wrong, words)
        raise ModelError(f"--model got {text!r}; {wrong!r} is not a width of at least 1.{nearest}", _FORMS)
    widest = max(parts, key=lambda part: (len(part), part), default="0")
    if len(widest) > len(str(WIDEST)) or int(widest) > WIDEST:
        raise ModelError(f"--model got a width of {widest:.40}; at most {WIDEST} can be made.", _FORMS)
    return [int(part) for part in parts]


def _snn(
    text: str,
    rest: str,
    input_shape: Shape,
    n_outputs: int | None,
    key: jax.Array,
    surrogate: Any,
    steps: int | None,
) -> Untrained:
    parts = [part.strip() for part in rest.split(",")]
    words = [part for part in parts if part in (RECURRENT, *ENCODERS)]
    widths = _numbers(text, [part for part in parts if part not in words], (RECURRENT, *ENCODERS))
    rates = n_outputs is None  # features are then those of spiking neurons
    hidden, n_outputs = _with_output(text, widths, n_outputs)
    codes = [word for word in words if word != RECURRENT]
    timed = len(input_shape) == 2
    _check_snn(text, widths, codes, input_shape, surrogate, steps)
    shape = input_shape if timed else (math.prod(input_shape),)
    model = snn(
        (shape[-1], *hidden, n_outputs),
        surrogate=surrogate,
        output=HIDDEN if rates else None,
        steps=None if timed else steps,
        encode=codes[0] if codes else "constant",
        recurrent=RECURRENT in words,
    )
    return Untrained(model, _initial(text, model, key, shape), flat=not timed)


def _check_snn(text: str, widths: list[int], codes: list[str], shape: Shape, surrogate: Any, steps: int | None) -> None:
    """Check that a spiking network can be made for examples of this shape."""
    if not widths or surrogate is None:
        what = "names no width of spiking neurons" if not widths else "needs a surrogate, and none was given"
        raise ModelError(f"--model {text} {what}.", f"Write --model snn:128 --surrogate {SURROGATE}.")
    if len(codes) > 1:
        raise ModelError(f"--model {text} names the codes {' and '.join(codes)}.", "Name one of them.")
    if len(shape) == 2 and (codes or steps not in (None, shape[0])):
        asked = f"--model {text} codes them in time" if codes else f"--steps is {steps}"
        raise ModelError(f"The data are sequences of {shape[0]} steps already, and {asked}.", "Leave it out.")
    if len(shape) != 2 and steps is None:
        raise ModelError(
            f"A spiking network works in time, and the data have examples of shape {tuple(shape)} without it.",
            "Show each for a number of time steps, --steps 50, or name data in time, --data spiking-digits.",
        )


# ---------------------------------------------------------------------------- the user's own


def _own(text: str, offered: dict[str, Any], asked: Collection[str]) -> Untrained:
    place, _, attribute = text.rpartition(":")
    module = _module(text, place)
    found = _attribute(text, module, attribute)
    maker = _is_maker(found)
    taken = _taken(found, offered) if maker else {}
    for name in asked:
        if name not in taken:
            why = "does not take it" if maker else "is not a function"
            raise ModelError(f"--{name} was given, and {text} {why}.", f"Give the function an argument {name!r}.")
    if maker:
        found = _made(text, found, taken)
    model, params = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    if params is None:
        params = initial_params(f"--model {text}", model, offered["input_shape"], offered["key"])
    return Untrained(model, params, sha256=_source_hash(module), leaves=frozenset({"surrogate", "steps"} - {*taken}))


def _is_maker(found: Any) -> bool:
    """Whether an object makes a model rather than being one: any callable that no adapter knows."""
    return callable(found) and not isinstance(found, Layered) and find_adapter(found) is None


def _taken(maker: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    """What a function has arguments for."""
    accepted = inspect.signature(maker).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    return {name: value for name, value in offered.items() if takes_all or name in accepted}


def _made(text: str, maker: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return maker(**arguments)
    except NeurAIError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{text} failed when it was called with {', '.join(arguments) or 'nothing'}: {_words(error)}.",
            "It may take input_shape, n_outputs and key, with --surrogate and --steps these too, and returns a model "
            "or (model, params).",
        ) from error


def initial_params(what: str, model: Any, input_shape: Shape, key: jax.Array, *, hint: str = _RETURNED) -> PyTree:
    """The parameters that a model holds, or new ones of a `Layered`.

    Args:
        what: the model, for errors.
        model: the model.
        input_shape: shape of one example.
        key: PRNG key.
        hint: what to do about a callable without parameters.

    Raises:
        ModelError: it is a callable without parameters.

    >>> [layer["w"].shape for layer in initial_params("mine", mlp((4, 2)), (4,), jax.random.key(0))]
    [(4, 2)]
    """
    if isinstance(model, Layered):
        params, model_state = model.init(key, input_shape)
        return Variables(params, model_state) if model_state != () else params
    adapter = find_adapter(model)
    params = None if adapter is None else adapter.params(model)
    if params is None:
        raise ModelError(f"{what} is a {type(model).__name__} without parameters.", hint)
    return params


def _module(text: str, place: str) -> ModuleType:
    try:
        return _from_file(Path(place).expanduser()) if place.endswith(".py") else _by_name(place)
    except NeurAIError:
        raise
    except (Exception, SystemExit) as error:
        nearest = did_you_mean(place, FAMILIES) if isinstance(error, ModuleNotFoundError) else ""
        raise ModelError(f"--model {text}: importing {place} failed: {_words(error)}.{nearest}", _FORMS) from error


def _by_name(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does, so that both entry points find the same modules
    return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):  # unlike the path's own method, accepts any name
        raise ModelError(f"--model names the file {path}, which does not exist.", _FORMS)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # the file name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def _attribute(text: str, module: ModuleType, attribute: str) -> Any:
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        public = [name for name in vars(module) if not name.startswith("_")]
        nearest = did_you_mean(attribute, public)
        raise ModelError(
            f"--model {text}: {module.__name__} has no attribute {attribute!r}.{nearest}", _FORMS
        ) from error


def _source_hash(module: ModuleType) -> str:
    path = getattr(module, "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""


def _words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)}), which belongs in a script"
    line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return f"{type(error).__name__}: {line}" if str(error).strip() else line
