"""Theory H1 and H2 against closed forms, and against finite differences that use no autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roads import (
    D,
    InTime,
    Written,
    highway_cell,
    linear,
    measured,
    numeric_gradient,
    numeric_norms,
    only_path,
    residual,
    rows,
    series,
    square,
    stack,
    tied,
    vector,
)
from torch import nn

DOUBLE = torch.float64


def multiple(a):
    """h + a·h, the diversion a matrix product."""
    f = linear(bias=False)
    nn.init.eye_(f.weight)
    return Written(lambda m, h: h + a * m.f(h), f=f)


@settings(max_examples=12)
@given(a=st.floats(-0.5, 0.5).map(lambda a: round(a, 6)), steps=st.integers(2, 20))
def test_a_linear_tied_residual_compounds(a, steps):
    path = only_path(tied(lambda: multiple(a), steps).double(), rows().double())
    assert (path.length, path.tied, path.gate) == (steps, True, None)
    assert path.retention == pytest.approx((1 + a) ** steps)
    assert path.gradient == pytest.approx([(1 + a) ** k for k in range(steps + 1)])
    expected = math.log(2) / -math.log(1 + a) if a < 0 else math.inf
    assert path.half_life == pytest.approx(expected)


def test_an_untied_residual_multiplies_its_own_factors():
    factors = [0.3, -0.5, 0.1, 0.7]
    path = only_path(nn.Sequential(*map(multiple, factors)).double(), rows().double())
    assert (path.length, path.tied) == (4, False)
    assert path.retention == pytest.approx(math.prod(1 + a for a in factors))


def kept(z):
    """z·h + (1 − z)·c(x), with a constant z: an average that forgets at a fixed rate."""
    return Written(lambda m, x, h: z * h + (1 - z) * m.c(x), c=linear())


@settings(max_examples=12)
@given(z=st.floats(0.2, 0.99), steps=st.integers(3, 12))
def test_the_half_life_of_a_constant_gate(z, steps):
    path = only_path(InTime(kept(z)).double(), series(steps=steps).double())
    assert (path.length, path.gate, path.tied) == (steps, "constant", True)
    assert path.retention == pytest.approx(z ** (steps - 1))
    assert path.half_life == pytest.approx(math.log(2) / -math.log(z))


def test_a_gate_for_each_unit_weights_the_gradient_by_unit():
    z = torch.tensor([0.2, 0.5, 0.9, 0.99], dtype=DOUBLE)
    cell = Written(lambda m, x, h: m.z * h + m.c(x), z=nn.Parameter(z), c=linear())
    model, x = InTime(cell).double(), series(n=1, steps=6).double()
    end = model(x).detach().requires_grad_()
    (g,) = torch.autograd.grad(square(end), end)
    path = only_path(model, x, loss=square)
    assert path.gradient == pytest.approx([float((z**k * g).norm() / g.norm()) for k in range(6)])


def states_of(step, inputs, start):
    states = [start]
    for x in inputs:
        states.append(step(x, states[-1]))
    return [state.detach() for state in states]


def twin(step, inputs, start, loss=square):
    """Finite differences at every state of `state ← step(x, state)`."""
    states = states_of(step, inputs, start)

    def rest(k):
        return lambda state: float(loss(states_of(step, inputs[k:], state)[-1]))

    return numeric_norms([rest(k) for k in range(len(states))], states)


@pytest.mark.parametrize("build", [stack, tied])
@pytest.mark.parametrize("scale", [0.3, 1.5])
def test_residual_sums_against_finite_differences(build, scale):
    model, x = build(lambda: residual(scale)).double(), rows().double()
    path = only_path(model, x, loss=square)
    assert path.tied is (build is tied)
    assert path.gradient == pytest.approx(twin(lambda f, h: f(h), list(model), x), rel=1e-5)


@pytest.mark.parametrize("cell", [lambda: nn.GRUCell(D, D), lambda: highway_cell(1.0)])
def test_gated_cells_against_finite_differences(cell):
    model, x = InTime(cell(), start=linear()).double(), series(n=2, steps=7).double()
    path = only_path(model, x, loss=square)
    assert (path.length, path.tied, path.gate) == (7, True, "data")
    expected = twin(model.cell, list(x.unbind(1)), model.start(x[:, 0]))
    assert path.gradient == pytest.approx(expected, rel=1e-5)


def lstm_from(weights, inputs, c, h):
    """An LSTM by its formulas; its cell state after every step, and the last hidden state."""
    w_ih, w_hh, b_ih, b_hh = weights
    cells = []
    for x in inputs:
        i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        cells.append((c, o.sigmoid()))
    return cells, h


def test_an_lstm_against_finite_differences():
    model = nn.LSTM(D, D, batch_first=True).double()
    x = series(n=2, steps=6).double()
    path = only_path(model, x, loss=lambda y: square(y[0][:, -1]))
    weights = [p.detach() for p in model.parameters()]
    inputs, zero = list(x.unbind(1)), x.new_zeros(2, D)
    cells, _ = lstm_from(weights, inputs, zero, zero)
    last, opened = cells[-1]
    seed = numeric_gradient(lambda c: float(square(opened * c.tanh())), last)

    def rest(k):
        # the loss sees the last cell state alone, along `seed`
        def loss(c):
            later, _ = lstm_from(weights, inputs[k + 1 :], c, cells[k][1] * c.tanh())
            return float((seed * (later[-1][0] if later else c)).sum())

        return loss

    expected = numeric_norms([rest(k) for k in range(6)], [c for c, _ in cells])
    assert (path.length, path.tied, path.gate) == (6, True, "data")
    assert path.gradient == pytest.approx(expected, rel=1e-5)


def test_a_plain_recurrence_against_finite_differences():
    model, x = InTime(nn.RNNCell(D, D), start=linear()).double(), series(steps=9).double()
    highways = measured(model, x, loss=square)
    assert highways.paths == ()
    plain = highways.plain
    assert (plain.length, plain.tied, plain.unit) == (9, True, "time steps")
    w_ih, w_hh, b_ih, b_hh = (p.detach() for p in model.cell.parameters())

    def step(x, product):  # from one product W h to the next
        return (x @ w_ih.T + b_ih + product).tanh() @ w_hh.T + b_hh

    inputs, first = list(x.unbind(1)), model.start(x[:, 0]).detach() @ w_hh.T + b_hh

    def loss(product):
        return square((inputs[-1] @ w_ih.T + b_ih + product).tanh())

    expected = twin(step, inputs[:-1], first, loss)
    assert plain.gradient == pytest.approx(expected, rel=1e-5)
    assert plain.retention == plain.gradient[-1]


def constant_step(b):
    """h + b, written as h + (W h + b) with W = 0."""
    f = linear(8, 8)
    nn.init.zeros_(f.weight)
    f.bias = nn.Parameter(b)
    return Written(lambda m, h: h + m.f(h), f=f)


def test_tied_diversions_add_coherently_and_untied_ones_do_not():
    again = only_path(tied(lambda: constant_step(torch.ones(8)), 8), torch.zeros(2, 8))
    apart = only_path(nn.Sequential(*map(constant_step, torch.eye(8))), torch.zeros(2, 8))
    assert again.growth == pytest.approx(8)  # like T
    assert apart.growth == pytest.approx(math.sqrt(8))  # like √T


def test_the_keep_bias_is_what_keeps():
    x = series(steps=24)
    shut, half_open = (only_path(InTime(highway_cell(keep)), x) for keep in (6.0, 0.0))
    assert shut.retention > 0.8
    assert half_open.retention < 1e-3
    assert shut.half_life > 24 > 24 / 4 > half_open.half_life


def test_a_default_gru_forgets_in_two_steps_and_not_with_a_keep_bias():
    torch.manual_seed(0)
    model, x = nn.GRU(32, 32, batch_first=True), series(n=4, steps=100, d=32)

    def loss(output):
        return output[1].square().sum()

    path = only_path(model, x, loss=loss)
    assert 1 < path.half_life < 2.5
    assert path.retention < 1e-12
    with torch.no_grad():
        model.bias_ih_l0[32:64] = 0
        model.bias_hh_l0[32:64] = torch.empty(32).uniform_(1, 99).log()
    assert only_path(model, x, loss=loss).retention > 0.02


def test_a_gate_with_a_parameter_alone_is_not_driven_by_data():
    cell = Written(
        lambda m, x, h: torch.sigmoid(m.a) * h + torch.tanh(m.c(torch.cat((x, h), -1))),
        a=vector(2.0),
        c=linear(2 * D),
    )
    path = only_path(InTime(cell), series())
    assert (path.gate, path.gate_parameters) == ("constant", ("cell.a",))
