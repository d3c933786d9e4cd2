"""NIR: a network that is written and read again computes the same; what cannot be is named."""

from __future__ import annotations

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neurai_core.errors import MissingExtra, ModelError
from neurai_core.layered import avg_pool, block, conv, dense, flatten
from neurai_core.models.spiking import ALIF, LIF, Leaky, SpikingNetwork, Stage, from_nir, snn, to_nir
from neurai_surrogates.superspike.shape import SuperSpike

CELLS = {
    "soft": LIF(0.9),
    "hard": LIF(0.9, reset="hard", v_reset=-0.1, v_rest=0.05, input_gain="complement", threshold=0.7),
    "delayed": LIF(0.85, delay_reset=True, detach_reset=False, input_gain=0.5),
    "synapse": LIF(0.9, synapse=0.7),
    "learned": LIF(0.9, synapse=0.7, learn=("decay", "synapse", "threshold")),
    "integrate and fire": LIF(1.0, input_gain=0.2, learn=("threshold",)),
}


def network(cell, recurrent=True):
    stages = (Stage(dense(7), cell, recurrent), Stage(dense(3, bias=False), Leaky(0.8, synapse=0.5)))
    return SpikingNetwork(stages, SuperSpike(10.0))


def problem(model):
    params, _ = model.init(jax.random.key(0), (20, 4))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape, p.dtype), params)
    return params, jax.random.normal(jax.random.key(1), (5, 20, 4)) * 2


@pytest.mark.parametrize("name", CELLS)
def test_a_network_survives_the_round_trip(name, x64, tmp_path):
    nir = pytest.importorskip("nir")
    model = network(CELLS[name], recurrent=name != "soft")
    params, x = problem(model)
    nir.write(tmp_path / "network.nir", to_nir(model, params))
    again, numbers = from_nir(nir.read(tmp_path / "network.nir"), surrogate=SuperSpike(10.0))
    np.testing.assert_allclose(again(numbers, x), model(params, x), rtol=1e-9, atol=1e-12)
    assert model.membranes(params, x)[0]["v"].max() > 0.5
    for ours, theirs in zip(params, numbers, strict=True):
        np.testing.assert_allclose(ours["input"]["w"], theirs["input"]["w"], rtol=1e-12)


def test_a_gain_that_differs_goes_into_the_weights(x64):
    nir = pytest.importorskip("nir")
    tau, r = np.array([5e-4, 1e-3]), np.array([2.0, 3.0])
    neuron = nir.LI(tau=tau, r=r, v_leak=np.zeros(2))
    graph = nir.NIRGraph.from_list(nir.Affine(np.eye(2), np.ones(2)), neuron)
    model, params = from_nir(graph, surrogate=None, readout="last")
    decay, by_hand = 1 - 1e-4 / tau, np.zeros(2)
    for _ in range(7):
        by_hand = decay * by_hand + 1e-4 / tau * r * (np.array([0.5, -1.0]) + 1)
    x = jnp.broadcast_to(jnp.array([0.5, -1.0]), (1, 7, 2))
    np.testing.assert_allclose(model(params, x)[0], by_hand, rtol=1e-12)


def test_a_node_that_is_not_known_is_named():
    nir = pytest.importorskip("nir")
    threshold = nir.NIRGraph.from_list(nir.Affine(np.eye(2), np.ones(2)), nir.Threshold(np.ones(2)))
    with pytest.raises(ModelError, match="node 'threshold' of type Threshold, which is not supported"):
        from_nir(threshold, surrogate=None)
    twice = nir.NIRGraph.from_list(nir.Linear(np.eye(2)), nir.Linear(np.eye(2)))
    with pytest.raises(ModelError, match="'linear_1' of the NIR graph follows 'linear', expected neurons"):
        from_nir(twice, surrogate=None)
    differing = nir.LI(tau=np.full(2, 1e-3), r=np.ones(2), v_leak=np.array([0.0, 1.0]))
    with pytest.raises(ModelError, match="'li' of the NIR graph differ in v_leak"):
        from_nir(nir.NIRGraph.from_list(nir.Linear(np.eye(2)), differing), surrogate=None)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((Stage(dense(3), ALIF()),), "Stage 0 has ALIF neurons"),
        ((Stage(dense(3, "relu"), LIF()),), r"the synapses dense\(3\), which NIR does not know"),
        ((Stage(dense(3), LIF(1.0, synapse=0.5)),), "a decay of 1"),
        ((Stage(dense(3), LIF(0.5, synapse=1.0)),), "a synapse of 1"),
    ],
)
def test_what_nir_does_not_know_is_not_written(stages, words):
    pytest.importorskip("nir")
    model = SpikingNetwork(stages, None)
    with pytest.raises(ModelError, match=words):
        to_nir(model, model.init(jax.random.key(0), (5, 4))[0])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    model = snn((4, 3), surrogate=None)
    with pytest.raises(MissingExtra, match=r"neurai\[nir\]"):
        to_nir(model, model.init(jax.random.key(0), (5, 4))[0])


# ---------------------------------------------------------------------------- against NIR's own equations

DT = 1e-4


def values(shape, low, high, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def neurons(kind="LIF", shape=(4,), uniform=False, **changed):
    """A node of NIR whose neurons differ in everything that may differ."""
    nir = pytest.importorskip("nir")
    full = {
        "tau": values(shape, 4e-4, 2e-3, 1),
        "tau_mem": values(shape, 4e-4, 2e-3, 2),
        "tau_syn": values(shape, 2e-4, 1e-3, 3),
        "r": values(shape, 1e4, 2e4, 4) if kind in ("IF", "I") else values(shape, 2, 5, 4),
        "v_leak": np.full(shape, 0.05),
        "v_threshold": values(shape, 0.5, 1.0, 5),
        "v_reset": np.full(shape, -0.1),
        "w_in": values(shape, 1, 2, 6),
    }
    names = getattr(nir, kind).__dataclass_fields__.keys() & full.keys()
    made = {name: np.full(shape, full[name].flat[0]) if uniform else full[name] for name in names}
    return getattr(nir, kind)(**(made | changed))


def weights(out, given, seed=0):
    return np.random.default_rng(seed).normal(size=(out, given)) / np.sqrt(given)


def read(nodes, edges=None, **options):
    import nir

    graph = nir.NIRGraph.from_list(*nodes) if edges is None else nir.NIRGraph(nodes, edges)
    return from_nir(graph, surrogate=SuperSpike(10.0), readout="all", **options)


def simulated(nodes, x, reset="hard", delay=False, recurrent=None, bias=0.0):
    """The graph step by step in NIR's own order of axes; x: (T, ...), the axes of an image channels first."""
    state, traces = [{} for _ in nodes], []
    for current in x:
        for node, s in zip(nodes, state, strict=True):
            kind = type(node).__name__
            current = getattr(reference, kind, reference.fire)(node, s, current, reset, delay, recurrent, bias)
        traces.append(current)
    return np.stack(traces)


class reference:
    def Linear(node, s, x, *_):
        return node.weight @ x

    def Affine(node, s, x, *_):
        return node.weight @ x + node.bias

    def Conv2d(node, s, x, *_):
        pads = [(p, p) for p in node.padding]
        y = jax.lax.conv_general_dilated(x[None], node.weight, node.stride, pads)[0]
        return np.asarray(y) + node.bias[:, None, None]

    def AvgPool2d(node, s, x, *_):
        return reference.SumPool2d(node, s, x) / np.prod(node.kernel_size)

    def SumPool2d(node, s, x, *_):
        window, step = (1, *node.kernel_size), (1, *node.stride)
        return np.asarray(jax.lax.reduce_window(x, 0.0, jax.lax.add, window, step, "VALID"))

    def Scale(node, s, x, *_):
        return node.scale * x

    def Flatten(node, s, x, *_):
        return x.ravel()

    def fire(node, s, x, reset, delay, recurrent, bias):
        kind = type(node).__name__
        v, before, current = s.get("v", getattr(node, "v_leak", 0.0)), s.get("spikes", np.zeros_like(x)), x
        if recurrent is not None:
            current = current + recurrent @ before + bias
        if kind.startswith("Cuba"):
            current = s["i"] = s.get("i", 0.0) + DT / node.tau_syn * (node.w_in * current - s.get("i", 0.0))
        if kind in ("IF", "I"):
            v = v + DT * node.r * current
        else:
            tau = node.tau_mem if kind.startswith("Cuba") else node.tau
            v = v + DT / tau * (node.v_leak - v + node.r * current)
        if not kind.endswith("IF"):
            s["v"] = v
            return v
        settle = {"hard": lambda z: np.where(z, node.v_reset, v), "soft": lambda z: v - node.v_threshold * z}[reset]
        if delay:
            v = settle(before)
        spikes = (v >= node.v_threshold).astype(float)
        s["v"], s["spikes"] = (v if delay else settle(spikes)), spikes
        return spikes


def agrees(found, nodes, x, **how):
    """x and the traces channels first; ours has them last."""
    model, params = found
    ours = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
    traces = np.asarray(model(params, jnp.asarray(ours)[None])[0])
    expected = simulated(nodes, x, **how)
    np.testing.assert_allclose(
        np.moveaxis(traces, -1, 1) if traces.ndim == 4 else traces, expected, rtol=1e-9, atol=1e-12
    )
    assert expected.std() > 0


pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "IF", "LI", "CubaLI", "I"])
def test_neurons_that_all_differ_follow_nirs_equations(kind, x64):
    nir = pytest.importorskip("nir")
    nodes = nir.Affine(weights(4, 3), values(4, 0, 0.2)), neurons(kind)
    agrees(read(nodes), nodes, values((30, 3), 0, 2))


@pytest.mark.parametrize(("reset", "delay"), [("soft", False), ("soft", True), ("hard", True)])
def test_the_reset_of_the_exporting_program_is_said_by_the_user(reset, delay, x64):
    nir = pytest.importorskip("nir")
    nodes = nir.Linear(np.abs(weights(4, 3))), neurons(v_leak=np.zeros(4))
    found = read(nodes, reset=reset, delay_reset=delay)
    assert (found[0].stages[0].cell.reset, found[0].stages[0].cell.delay_reset) == (reset, delay)
    agrees(found, nodes, values((30, 3), 0, 2), reset=reset, delay=delay)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_recurrent_synapses_may_have_a_bias_and_a_graph_of_their_own(bias, nested, x64):
    nir = pytest.importorskip("nir")
    first, lif, last = nir.Linear(weights(4, 3)), neurons("CubaLIF", v_leak=np.zeros(4)), nir.Linear(weights(2, 4, 3))
    loop, out = nir.Affine(weights(4, 4, 2), np.full(4, bias)), neurons("LI", (2,))
    ends = {"input": nir.Input({"input": np.array([3])}), "output": nir.Output({"output": np.array([2])})}
    if nested:  # as snntorch writes it
        inner = {"in": nir.Input(np.array([4])), "lif": lif, "w": loop, "out": nir.Output(np.array([4]))}
        inside = nir.NIRGraph(inner, [("in", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")])
        nodes = ends | {"fc": first, "rec": inside, "fc2": last, "li": out}
        edges = [("input", "fc"), ("fc", "rec"), ("rec", "fc2"), ("fc2", "li"), ("li", "output")]
    else:
        nodes = ends | {"fc": first, "lif": lif, "w": loop, "fc2": last, "li": out}
        edges = [
            ("input", "fc"),
            ("fc", "lif"),
            ("lif", "w"),
            ("w", "lif"),
            ("lif", "fc2"),
            ("fc2", "li"),
            ("li", "output"),
        ]
    x = values((30, 3), 0, 2)
    spikes = simulated((first, lif), x, recurrent=loop.weight, bias=loop.bias)
    expected = simulated((last, out), spikes)
    model, params = read(nodes, edges)
    np.testing.assert_allclose(model(params, jnp.asarray(x)[None])[0], expected, rtol=1e-9, atol=1e-12)
    assert model.stages[0].recurrent and ("b" in params[0]["input"]) == bool(bias) and 0 < spikes.mean() < 1


def image_nodes(pool="AvgPool2d", **flat):
    """Convolution, neurons, pooling, flattened neurons, dense: everything that an order of axes can confuse."""
    nir = pytest.importorskip("nir")
    kernel = np.random.default_rng(0).normal(size=(3, 2, 2, 2)) * 0.5
    return (
        nir.Conv2d((6, 9), kernel, (1, 2), (1, 0), 1, 1, values(3, 0, 0.3)),
        neurons("LIF", (3, 7, 4)),
        getattr(nir, pool)(np.array([2, 2]), np.array([2, 1]), np.zeros(2, int)),
        nir.Flatten({"input": np.array([3, 3, 3])}, **({"start_dim": 0} | flat)),
        neurons("LIF", (27,)),
        nir.Affine(weights(4, 27) * 2, values(4, 0, 0.2)),
        neurons("CubaLI", (4,)),
    )


@pytest.mark.parametrize("pool", ["AvgPool2d", "SumPool2d"])
def test_images_are_brought_into_our_order_of_axes(pool, x64):
    nodes, x = image_nodes(pool), values((20, 2, 6, 9), -1, 2)
    agrees(read(nodes), nodes, x)
    agrees(read(nodes[:2]), nodes[:2], x)


def test_a_gain_that_differs_by_channel_goes_into_the_kernels(x64):
    by_channel = values((3, 1, 1), 2, 5) * np.ones((1, 7, 4))
    nodes = image_nodes()[0], neurons("LIF", (3, 7, 4), uniform=True, r=by_channel)
    model, params = read(nodes)
    assert params[0]["input"]["w"].shape == (2, 2, 2, 3) and model.stages[0].cell.input_gain == 1.0
    agrees((model, params), nodes, values((20, 2, 6, 9), -1, 2))


def test_a_scale_node_is_a_layer_and_is_written_again(x64):
    nir = pytest.importorskip("nir")
    nodes = nir.Linear(weights(4, 3)), nir.Scale(values(4, 0.5, 2)), neurons(v_leak=np.zeros(4), v_reset=np.zeros(4))
    model, params = read(nodes)
    agrees((model, params), nodes, values((30, 3), 0, 2))
    again, numbers = from_nir(to_nir(model, params), surrogate=SuperSpike(10.0), readout="all")
    agrees((again, numbers), nodes, values((30, 3), 0, 2))


def test_a_flatten_that_counts_the_batch_flattens_all_axes_too(x64):
    pytest.importorskip("nir")
    import nir

    nodes = image_nodes()
    edges = [(str(i), str(i + 1)) for i in range(6)]
    names = {str(i): node for i, node in enumerate(nodes)}
    nodes[3].start_dim = 1
    ends = {"in": nir.Input({"input": np.array([1, 2, 6, 9])}), "out": nir.Output({"output": np.array([4])})}
    graph = nir.NIRGraph(names | ends, [("in", "0"), *edges, ("6", "out")], type_check=False)
    found = from_nir(graph, surrogate=SuperSpike(10.0), readout="all")
    nodes[3].start_dim = 0
    agrees(found, nodes, values((20, 2, 6, 9), -1, 2))


@pytest.mark.few(1)
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (0, 0))])
def test_a_convolutional_network_survives_the_round_trip(padding, x64, tmp_path):
    nir = pytest.importorskip("nir")
    same = padding == "SAME"
    stages = (
        Stage(conv(4, 3, padding=padding, bias=not same, dilation=1 + same), LIF(0.8, learn=("decay", "threshold"))),
        Stage(block(avg_pool(2, 1), flatten()), LIF(0.7, reset="hard", learn=("threshold",))),
        Stage(dense(5), LIF(0.8), recurrent=True),
        Stage(dense(3), Leaky(0.9)),
    )
    model = SpikingNetwork(stages, SuperSpike(10.0))
    params, _ = model.init(jax.random.key(0), (8, 6, 5, 2))
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(2), p.shape, p.dtype), params)
    x = jax.random.normal(jax.random.key(1), (2, 8, 6, 5, 2)) * 2
    nir.write(tmp_path / "network.nir", to_nir(model, params, input_shape=(6, 5, 2)))
    again, numbers = from_nir(nir.read(tmp_path / "network.nir"), surrogate=SuperSpike(10.0))
    np.testing.assert_allclose(again(numbers, x), model(params, x), rtol=1e-9, atol=1e-12)
    with pytest.raises(ModelError, match=r"begins with conv\(4, 3\), so the shape of its input has to be given"):
        to_nir(model, params)


# ---------------------------------------------------------------------------- numbers out of range


def test_a_time_constant_below_the_step_is_named_with_its_element():
    nir = pytest.importorskip("nir")
    tau = np.array([5e-5, 1e-2, 1e-2, 1e-2])
    nodes = nir.Linear(weights(4, 3)), neurons(tau=tau)
    with pytest.raises(ModelError, match=r"'lif' of the NIR graph has tau\[0\] = 5e-05, expected at least dt = 0.0001"):
        read(nodes)
    exact, params = read(nodes, method="exact")
    np.testing.assert_allclose(jax.nn.sigmoid(params[0]["cell"]["decay"]), np.exp(-1e-4 / tau), rtol=1e-5)
    assert np.isfinite(exact(params, jnp.ones((1, 20, 3)))).all()
    _, params = read((nodes[0], neurons(tau=np.array([1e-4, 1e-3, 1e-3, 1e-3], np.float32))))
    assert jax.nn.sigmoid(params[0]["cell"]["decay"])[0] == 0 and np.isfinite(params[0]["cell"]["decay"]).all()


def test_an_exact_step_is_the_solution_for_a_constant_current(x64):
    nir = pytest.importorskip("nir")
    tau, r = np.array([5e-5, 2e-3]), np.array([2.0, 3.0])
    node = nir.LI(tau=tau, r=r, v_leak=np.zeros(2))
    model, params = read((nir.Linear(np.eye(2)), node), method="exact")
    after = model(params, jnp.ones((1, 7, 2)))[0, -1]
    np.testing.assert_allclose(after, r * (1 - np.exp(-7e-4 / tau)), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        ("LIF", {"tau": np.array([1e-3, -1e-3, 1e-3, 1e-3])}, r"tau\[1\] = -0.001"),
        ("LIF", {"tau": np.array([1e-3, 1e-3, np.nan, 1e-3])}, r"tau\[2\] = nan, expected a finite number"),
        ("LIF", {"tau": np.array([1e-3, 1e-3, np.inf, 1e-3])}, r"tau\[2\] = inf, expected a finite number"),
        ("CubaLIF", {"tau_syn": np.array([1e-3, 1e-3, 1e-3, 1e-5])}, r"tau_syn\[3\] = 1e-05, expected at least dt"),
        ("CubaLIF", {"tau_mem": np.array([0.0, 1e-3, 1e-3, 1e-3])}, r"tau_mem\[0\] = 0, expected at least dt"),
        ("CubaLIF", {"w_in": np.array([1.0, 1.0, 1.0, np.nan])}, r"w_in\[3\] = nan"),
        ("LIF", {"r": np.array([1.0, np.inf, 1.0, 1.0])}, r"r\[1\] = inf"),
        ("IF", {"v_threshold": np.array([1.0, 1.0, np.nan, 1.0])}, r"v_threshold\[2\] = nan"),
        ("LIF", {"v_reset": np.array([0.0, 0.0, 0.0, np.nan])}, r"v_reset\[3\] = nan"),
        ("LIF", {"v_leak": np.array([0.0, 0.0, 0.0, 0.1])}, "differ in v_leak"),
        ("LIF", {"v_reset": np.array([0.0, 0.0, 0.0, 0.1])}, "differ in v_reset"),
    ],
)
def test_every_element_of_every_number_is_checked(kind, changed, words):
    nir = pytest.importorskip("nir")
    with pytest.raises(ModelError, match=words):
        read((nir.Linear(weights(4, 3)), neurons(kind, **changed)))


def damaged(index, **changes):
    nodes = image_nodes()
    for name, value in changes.items():
        setattr(nodes[index], name, value)
    return nodes


def wrong_graphs():
    nir = pytest.importorskip("nir")
    lif, linear = neurons(), nir.Linear(weights(4, 3))
    infinite = weights(4, 3)
    infinite[2, 1] = np.inf
    return {
        r"weight\[2, 1\] = inf": (nir.Linear(infinite), lif),
        r"bias\[1\] = nan": (nir.Affine(weights(4, 3), np.array([0, np.nan, 0, 0])), lif),
        "has 3 biases, expected 4": (nir.Affine(weights(4, 3), np.zeros(3)), lif),
        "has 3 values of r, expected 1 or 4": (linear, neurons(shape=(3,))),
        r"weights \(4, 5\) and is given \(4,\)": (linear, lif, nir.Linear(weights(4, 5)), lif),
        "has groups=2, expected 1": damaged(0, groups=2),
        "has padding 'same' and a stride": damaged(0, padding="same"),
        r"weights \(3, 1, 2, 2\) and is given \(2, 6, 9\)": damaged(0, weight=np.ones((3, 1, 2, 2))),
        "nothing is left of an input": damaged(0, weight=np.ones((3, 2, 12, 2))),
        "pads before it pools": damaged(2, padding=np.ones(2, int)),
        "flattens the axes 2 to -1, expected all": damaged(3, start_dim=2),
        "ends in neurons that follow a flattened image": image_nodes()[:5],
        r"is given \(3, 7, 4\)\.": (*image_nodes()[:2], nir.Linear(weights(4, 84)), lif),
        r"is given \(4,\), expected an image": (linear, lif, image_nodes()[0], lif),
    }


def test_what_does_not_fit_is_named():
    import nir

    for words, nodes in wrong_graphs().items():
        shape = np.array([2, 6, 9] if type(nodes[0]).__name__ == "Conv2d" else [3])
        names = {str(i): node for i, node in enumerate(nodes)}
        ends = {"in": nir.Input({"input": shape}), "out": nir.Output({"output": np.array([4])})}
        order = ["in", *names, "out"]
        graph = nir.NIRGraph(names | ends, list(itertools.pairwise(order)), type_check=False)
        with pytest.raises(ModelError, match=words):
            from_nir(graph, surrogate=None)


def test_a_branch_beside_the_chain_is_named():
    nir = pytest.importorskip("nir")
    nodes = {"in": nir.Input({"input": np.array([3])}), "out": nir.Output({"output": np.array([4])})}
    nodes |= {"fc": nir.Linear(weights(4, 3)), "lif": neurons(), "other": nir.Linear(weights(4, 3))}
    edges = [("in", "fc"), ("fc", "lif"), ("lif", "out"), ("other", "lif")]
    with pytest.raises(ModelError, match="has 'other' beside the chain from its input to its output"):
        from_nir(nir.NIRGraph(nodes, edges, type_check=False), surrogate=None)
    with pytest.raises(ModelError, match="has 'fc', 'other' for a node after 'in', expected exactly one"):
        from_nir(nir.NIRGraph(nodes, [*edges, ("in", "other")], type_check=False), surrogate=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reset": "sfot"}, "reset='sfot' is not a reset"),
        ({"method": "rk4"}, "method='rk4' is neither"),
        ({"dt": 0.0}, "dt=0.0 is not a duration"),
    ],
)
def test_an_option_that_is_none_is_refused(options, words):
    nir = pytest.importorskip("nir")
    with pytest.raises(ModelError, match=words):
        read((nir.Linear(weights(4, 3)), neurons()), **options)
