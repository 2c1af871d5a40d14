"""Parts that no CPU model reaches, and rules of thumb at their edges."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from roads import D, InTime, Written, linear, measured, residual, rows, series, stack
from torch import nn
from zoo_in_depth import images

from assay.highway.additions import find_additions
from assay.highway.carry import Gate
from assay.highway.chains import find_chains
from assay.highway.describe import describe, route_of
from assay.highway.gates import GateBias, fused_biases, gate_biases
from assay.highway.graph import Edge, Graph
from assay.highway.record import Operation, Origin
from assay.highway.repair import keep_bias
from assay.highway.repair import rows as rows_of
from assay.highway.retention import half_life

WEIGHT = "rnn.weight_hh_l0"


@given(st.floats(0.1, 0.999), st.integers(2, 30))
def test_half_life_of_a_geometric_decay(z, steps):
    assert half_life([z**k for k in range(steps)]) == pytest.approx(math.log(2) / -math.log(z))


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        ([1.0], math.inf),
        ([1.0, 2.0, 4.0], math.inf),
        ([1.0, 0.0], 0.0),
        ([1.0, 0.5, 0.0, 0.0], 1.0),  # what comes after the first zero does not count
        ([], math.nan),
        ([1.0, math.nan], math.nan),
        ([1.0, math.inf], math.nan),
    ],
)
def test_half_life_at_its_edges(norms, expected):
    assert half_life(norms) == pytest.approx(expected, nan_ok=True)


def fused_cells(stem, steps, state, *, shapes):
    """The graph of a recurrence from zeros whose cells are one node each, as on a GPU."""
    stems, inputs, data, leaf = ["Unbind", "AccumulateGrad"], [(), ()], [True, False], {1: WEIGHT}
    last = {0: Edge(-1, 0), state: Edge(-1, 0)}  # the hidden state, and what is carried
    for t in range(steps):
        stems += ["Mm", stem]
        inputs += [(last[0], Edge(1, 0)), (Edge(0, t), Edge(len(stems) - 2, 0), last[state])]
        data += [t > 0, True]
        last = {k: Edge(len(stems) - 1, k) for k in (0, state)}
    place = Operation(stem.lower(), None, "rnn", (Origin.DATA, Origin.DATA, Origin.CONSTANT))
    none = [None] * len(stems)
    return Graph(none, stems, inputs, [None, None] + [place] * 2 * steps, data, leaf, shapes, set())


@pytest.mark.parametrize(
    ("kind", "stem", "state"),
    [(nn.LSTM, "ThnnFusedLstmCell", 1), (nn.GRU, "ThnnFusedGruCell", 0)],
)
def test_fused_cells_carry_their_state(kind, stem, state):
    model = nn.ModuleDict({"rnn": kind(D, D)})
    graph = fused_cells(stem, 6, state, shapes={WEIGHT: (3 * D, D)})
    (chain,) = find_chains(graph, find_additions(graph))
    path = describe(model, graph, chain, concatenated=False)
    assert (path.length, path.tied, path.gate, path.gate_keeps) == (6, True, "data", True)
    assert route_of(graph, chain)[0] == Edge(13, state)
    assert {edge.output for edge in route_of(graph, chain)[:-1]} == {state}
    assert keep_bias(path, model).startswith(
        f"with torch.no_grad(): model.rnn.bias_hh_l0[{D}:{2 * D}] = torch.empty({D}).uniform_(1, 5)"
    )


def test_the_keep_gate_of_torchs_own_layers():
    model = nn.ModuleDict({
        "a": nn.GRU(2, 3, num_layers=2, bidirectional=True), "b": nn.LSTMCell(2, 3),
        "c": nn.RNN(2, 3), "d": nn.LSTM(2, 3, bias=False),
    })  # fmt: skip
    named = {name: fused_biases(model, (name,)) for name, _ in model.named_parameters()}
    assert named["a.weight_hh_l1_reverse"] == (
        GateBias("a.bias_hh_l1_reverse", 3, 6, True),
        GateBias("a.bias_ih_l1_reverse", 3, 6, True),
    )
    assert [bias.name for bias in named["b.bias_ih"]] == ["b.bias_hh", "b.bias_ih"]
    assert named["c.weight_hh_l0"] == named["d.weight_hh_l0"] == ()
    (bias, _) = fused_biases(model["a"], ("weight_ih_l0",))
    assert bias.name == "bias_hh_l0"


def test_a_gate_that_is_in_no_graph_has_no_bias():
    graph = fused_cells("ThnnFusedGruCell", 1, 0, shapes={})
    assert gate_biases(graph, Gate("constant", -1, None)) == (None, ())


@pytest.mark.parametrize("holder", [nn.Sequential, nn.ModuleDict])
def test_expressions_for_modules_with_odd_names(holder):
    model = holder()
    model.add_module("my cell", nn.Linear(2, 3))
    text = rows_of(model, GateBias("my cell.bias", 1, 3, True))
    assert text == "model.get_submodule('my cell').bias[1:3]"
    assert eval(text, {"model": model}).shape == (2,)


def test_a_path_that_the_loss_does_not_reach_is_measured_along_a_random_direction():
    model, x = stack(residual), rows()
    path = measured(model, x, loss=lambda y: (y * 0).sum()).longest
    assert 0 < path.retention < math.inf
    assert path.gradient[0] == 1


def test_one_repetition_is_no_recurrence():
    cell = Written(lambda m, x, h: 0.5 * h + m.f(x), f=linear())
    assert measured(InTime(cell), series(steps=2)).paths == ()
    assert measured(InTime(cell), series(steps=3)).longest.length == 3


def test_arguments_that_are_no_tensors():
    model = Written(lambda m, x, times: m.blocks(x) * times, blocks=stack(residual))
    assert measured(model, rows(), 3).longest.length == 6


def test_a_skip_beside_a_long_stretch():
    head = [m for _ in range(10) for m in (linear(), nn.Tanh())]
    highways = measured(nn.Sequential(stack(residual), *head), rows())
    assert "Beside it, 10 parametrised operators have no skip path" in highways.view().answer
    assert [row[2] for row in highways.view().blocks[-1].rows] == ["identity", "no skip path"]


def test_a_state_that_starts_as_a_parameter():
    start = Written(lambda m, x: m.h.expand(len(x), -1), h=nn.Parameter(torch.randn(1, D)))
    path = measured(InTime(nn.GRUCell(D, D), start=start), series()).longest
    assert (path.length, path.gate) == (10, "data")


def test_weights_in_front_of_the_channels_join_features():
    parts = {"f": nn.Conv2d(2, 2, 1), "read": nn.Conv2d(4, 1, 1)}
    model = Written(lambda m, x: m.read(torch.cat((x, m.f(x).relu()), 1)), **parts)
    assert [p.kind for p in measured(model, images(2)).paths] == ["concatenation"]
    side_by_side = Written(lambda m, x: m.f(torch.cat((x, m.f(x).relu()), 3)), f=parts["f"])
    assert measured(side_by_side, images(2)).paths == ()
