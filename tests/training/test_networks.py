"""Networks by a text, the user's own among them."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from neurai_core.errors import ModelError, SettingsError, UnknownName
from neurai_core.layered import Layered, Variables
from neurai_core.optimizers import optimizer
from neurai_core.training.networks import Untrained, network

OWN = """
import jax
from neurai_core.errors import ModelError
from neurai_core.layered import Layered, dense, flatten

layered = Layered((flatten(), dense(10)))

def maker(input_shape, n_outputs):
    return Layered((flatten(), dense(n_outputs)))

def pair(key):
    return (lambda params, x: x.reshape(len(x), -1) @ params), jax.random.normal(key, (64, 10))

def anything(**offered):
    assert set(offered) == {"input_shape", "n_outputs", "key"}
    return layered

def failing():
    raise RuntimeError("boom")

def leaving():
    raise SystemExit(0)

def refusing():
    raise ModelError("no such net")

bare = 3
"""


def build(text: str, shape: tuple[int, ...] = (8, 8, 1)) -> Untrained:
    return network(text, shape, 10, jax.random.key(0))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own_nets.py"
    path.write_text(OWN)
    return path


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("mlp:16", [(64, 16), (16, 10)]),
        ("mlp", [(64, 128), (128, 64), (64, 10)]),
        ("mlp:5,tanh", [(64, 5), (5, 10)]),
        ("mlp:tanh", [(64, 10)]),
        ("cnn:4", [(3, 3, 1, 4), (64, 10)]),
        ("resmlp:6x4", [(64, 6), (6, 6), (6, 6), (6, 10)]),
        ("resmlp:6x3,tanh,mupc", [(64, 6), (6, 6), (6, 10)]),
    ],
)
def test_widths_are_those_of_the_text(text: str, shapes: list[tuple[int, ...]]) -> None:
    assert [leaf.shape for leaf in jax.tree.leaves(build(text).params) if leaf.ndim > 1] == shapes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mlp:0", "'0' is not a width"),
        ("mlp:-3", "'-3' is not a width"),
        ("mlp:1,,2", "'' is not a width"),
        ("mlp:16,tanhh", "Did you mean 'tanh'"),
        ("mpl", "Did you mean 'mlp'"),
        ("mpl:3", "Did you mean 'mlp'"),
        ("cnn:4,4,4,4", "8x8 pixels are too few"),
        ("nowhere.py:net", "does not exist"),
        ("n" * 256 + ".py:net", "does not exist"),
        ("mlp:", "'mlp:', which names no width"),
        ("cnn: ", "'cnn: ', which names no width"),
        ("snn:", "'snn:', which names no width"),
        ("mlp:99999999999999999999", "a width of 99999999999999999999; at most 1000000"),
        ("cnn:" + "9" * 5000, "a width of 9{40}; at most 1000000"),
        ("mlp:1000000,1000000", "has 1000076000010 parameters; at most 2147483647"),
        ("json:nothing", "no attribute 'nothing'"),
        ("resmlp:128", "'128' is not a width and depth"),
        ("resmlp:8x2", "at least 3, got 2"),
        ("resmlp:8x0", "'0' is not a width"),
        ("resmlp:8x1001", "a depth of 1001; at most 1000"),
        ("resmlp:8x5,mup", "neither an activation nor a parametrization. Did you mean 'mupc'"),
    ],
)
def test_a_text_that_names_no_network_is_explained(text: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(text)


def test_a_cnn_wants_images() -> None:
    with pytest.raises(ModelError, match=r"examples of shape \(64,\)"):
        build("cnn:4", (64,))


@pytest.mark.parametrize("name", ["layered", "maker", "pair", "anything"])
def test_the_users_own_model_gets_parameters_and_a_hash(own: Path, name: str) -> None:
    found = build(f"{own}:{name}")
    assert jax.tree.leaves(found.params)
    assert len(found.sha256) == 64


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("failing", "RuntimeError: boom"),
        ("leaving", r"leaving failed when it was called with nothing: it called sys\.exit\(0\)"),
        ("refusing", "no such net"),
        ("bare", "a int without parameters"),
        ("pairs", "Did you mean 'pair'"),
    ],
)
def test_what_goes_wrong_in_the_users_own_file_is_told(own: Path, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        build(f"{own}:{name}")


def test_a_file_that_is_no_python_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken_net.py").write_text("def net(:")
    with pytest.raises(ModelError, match=r"importing .*broken_net\.py failed: SyntaxError"):
        build(f"{tmp_path / 'broken_net.py'}:net")


def test_a_file_that_calls_sys_exit_when_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "leaving_net.py").write_text("import sys\nsys.exit('bye')")
    with pytest.raises(ModelError, match=r"failed: it called sys\.exit\('bye'\)"):
        build(f"{tmp_path / 'leaving_net.py'}:net")


def test_a_module_is_found_in_the_current_folder(own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert isinstance(build("own_nets:maker").model, Layered)


def test_two_files_of_one_name_do_not_mix(own: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / own.name
    other.write_text(OWN.replace("dense(n_outputs)", "dense(3), dense(n_outputs)"))
    assert len(build(f"{own}:maker").params) == 2
    assert len(build(f"{other}:maker").params) == 3


def test_a_models_state_travels_with_its_parameters(tmp_path: Path) -> None:
    (tmp_path / "stateful_net.py").write_text(
        "from dataclasses import replace\nimport jax.numpy as jnp\n"
        "from neurai_core.layered import Layered, dense, flatten\n"
        "def init(key, shape): return (), jnp.zeros(())\n"
        "net = Layered((flatten(), replace(flatten(), init=init, stateful=True), dense(10)))\n"
    )
    found = build(f"{tmp_path / 'stateful_net.py'}:net")
    assert isinstance(found.params, Variables)


@pytest.mark.parametrize("name", ["adam", "Adam", "sgd", "lion", "rmsprop", "prodigy", "lamb", "muon"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_optimizers_of_optax_are_found_by_name(name: str, schedule: str) -> None:
    made = optimizer(name, 1e-3, schedule=schedule, steps=10)
    params = {"w": jax.numpy.ones((3, 2))}
    updates, _ = made.update(params, made.init(params), params)
    assert updates["w"].shape == (3, 2)


def test_the_cosine_schedule_starts_at_lr_and_ends_at_zero() -> None:
    made = optimizer("sgd", 0.5, schedule="cosine", steps=4)
    params, state, rates = jax.numpy.ones(()), made.init(jax.numpy.ones(())), []
    for _ in range(5):
        updates, state = made.update(jax.numpy.ones(()), state, params)
        rates.append(-float(updates))
    assert rates == pytest.approx([0.5, 0.4267767, 0.25, 0.0732233, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "kind", "said"),
    [
        ("adm", {}, UnknownName, "Did you mean 'adam'"),
        ("chain", {}, UnknownName, "no optimizer named 'chain'"),
        ("adam", {"bb1": 1}, SettingsError, "bb1: not a setting of the optimizer 'adam'. Did you mean 'b1'"),
        ("sgd", {"learning_rate": 1}, SettingsError, "learning_rate: not a setting"),
        ("lbfgs", {}, SettingsError, "value_fn"),
        ("schedule_free", {}, SettingsError, "base_optimizer"),
    ],
)
def test_an_optimizer_that_cannot_be_used_is_explained(
    name: str, settings: dict[str, int], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        optimizer(name, 0.1, settings=settings)
