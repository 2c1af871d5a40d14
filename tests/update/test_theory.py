"""Theory U2–U8 in exact rational arithmetic: `u = W x (+ b)` under `½ (u − y)²`, so that g = u − y."""

from fractions import Fraction as Q

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

Vector = list[Q]
whole = st.integers(-4, 4).map(Q)
nonzero = st.integers(-4, 4).filter(bool).map(Q)
features = st.lists(nonzero, min_size=3, max_size=3)
examples = st.lists(st.tuples(features, whole), min_size=1, max_size=3)
ETA = Q(1, 64)


def dot(w: Vector, x: Vector) -> Q:
    return sum((a * b for a, b in zip(w, x, strict=True)), Q(0))


def descend(w: Vector, data: list, rates: Vector, steps: int) -> list[tuple[Vector, Q]]:
    """The sequence of (weights, output before the step) of U2 with one rate a feature."""
    path = []
    for t in range(steps):
        x, y = data[t % len(data)]
        u = dot(w, x)
        path.append((w, u))
        w = [wj - rate * (u - y) * xj for wj, rate, xj in zip(w, rates, x, strict=True)]
    return path


def rescale(data: list, c: Vector) -> list:
    return [([cj * xj for cj, xj in zip(c, x, strict=True)], y) for x, y in data]


def test_u2_sgd_is_rate_times_output_gradient_times_input() -> None:
    layer = torch.nn.Linear(3, 2, bias=False, dtype=torch.float64)
    before = layer.weight.detach().clone()
    x = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    u = layer(x)
    u.retain_grad()
    u.square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert u.grad is not None
    torch.testing.assert_close(layer.weight.detach(), before - 0.1 * torch.outer(u.grad, x))


@given(features, features, whole)
def test_u3_the_factor_is_three_halves_not_three_quarters(w: Vector, x: Vector, y: Q) -> None:
    g = dot(w, x) - y
    w1 = w[0] - ETA * g * x[0]
    twin = w[0] / 2 - ETA * g * (2 * x[0])  # x̃ = 2x, W̃ = W/2: the output and so g are the same
    assert twin == w1 / 2 - Q(3, 2) * ETA * g * x[0]
    if g:
        assert twin != w1 / 2 - Q(3, 4) * ETA * g * x[0]  # as the sheet prints it


def test_u3_and_u4_with_torchs_own_optimizer() -> None:
    """Pounds for kilograms: one step goes elsewhere by 3/2 η g x; a quarter of the rate goes the same way."""
    torch.manual_seed(0)
    x, y = torch.randn(1, 3, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    layer = torch.nn.Linear(3, 2, bias=False, dtype=torch.float64)
    start, eta = layer.weight.detach().clone(), 0.1
    halved, twice = torch.tensor([0.5, 1.0, 1.0]), torch.tensor([2.0, 1.0, 1.0])

    def step(weight: torch.Tensor, inputs: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        columns = [torch.nn.Parameter(column[:, None].clone()) for column in weight.T]
        groups = [{"params": [c], "lr": float(r)} for c, r in zip(columns, rates, strict=True)]
        optimizer = torch.optim.SGD(groups, lr=1.0)
        u = inputs @ torch.cat(columns, 1).T
        (0.5 * (u - y).square().sum()).backward()
        optimizer.step()
        return torch.cat(columns, 1).detach()

    g = (x @ start.T - y)[0]
    rates = torch.full((3,), eta)
    one = step(start, x, rates)
    twin = step(start * halved, x * twice, rates)
    torch.testing.assert_close(twin[:, 0], 0.5 * one[:, 0] - 1.5 * eta * g * x[0, 0])
    assert not torch.allclose(twin[:, 0], 0.5 * one[:, 0] - 0.75 * eta * g * x[0, 0])
    repaired = step(start * halved, x * twice, rates * torch.tensor([0.25, 1.0, 1.0]))
    torch.testing.assert_close(repaired, one * halved)


@settings(max_examples=30)
@given(features, examples)
def test_u4_with_a_quarter_of_the_rate_half_the_weight_holds_for_ever(
    w: Vector, data: list
) -> None:
    twice = [Q(2), Q(1), Q(1)]
    path = descend(w, data, [ETA] * 3, 40)
    twin = descend([w[0] / 2, *w[1:]], rescale(data, twice), [ETA / 4, ETA, ETA], 40)
    for (weights, u), (weights2, u2) in zip(path, twin, strict=True):
        assert weights2 == [weights[0] / 2, *weights[1:]]
        assert u == u2


@settings(max_examples=30)
@given(features, examples, features)
def test_u5_rates_over_variance_give_the_identical_sequence(
    w: Vector, data: list, c: Vector
) -> None:
    variance = [Q(1), Q(3), Q(1, 2)]  # σ² of the features in the first units; any positive numbers
    path = descend(w, data, [ETA / s for s in variance], 20)
    twin = descend(
        [wj / cj for wj, cj in zip(w, c, strict=True)],
        rescale(data, c),
        [ETA / (s * cj * cj) for s, cj in zip(variance, c, strict=True)],
        20,
    )
    assert [u for _, u in path] == [u for _, u in twin]


@settings(max_examples=30)
@given(features, examples, st.fractions(Q(1, 5), 5, max_denominator=7))
def test_u6_the_rate_is_in_inverse_units_of_the_loss(w: Vector, data: list, unit: Q) -> None:
    # the loss in other units is `unit · ½ (u − y)²`, hence g times `unit`; the rate takes it back
    path = descend(w, data, [ETA] * 3, 10)
    w2 = list(w)
    for t, (_, u) in enumerate(path):
        x, y = data[t % len(data)]
        u2 = dot(w2, x)
        assert u2 == u
        w2 = [wj - (ETA / unit) * unit * (u2 - y) * xj for wj, xj in zip(w2, x, strict=True)]


@given(nonzero, nonzero, st.integers(1, 5).map(Q))
def test_u7_rmsprop_is_one_power_of_sigma_short(g: Q, x: Q, c: Q) -> None:
    # one feature of two values ±x, constant g: s = E (g x)² = g² x², whose root is rational
    root = abs(g * x)
    step = ETA * g * x / root
    twin = ETA * g * (c * x) / (c * root)
    assert twin == step  # the weight moves by the same amount …
    assert twin * (c * x) == c * step * x  # … so the output by c times as much: not invariant
    assert (twin / c) * (c * x) == step * x  # one more power of σ would make it so


@settings(max_examples=30)
@given(features, whole, examples, features, features)
def test_u8_affine_units_of_inputs_leave_the_centred_rule_alone(
    w: Vector, b: Q, data: list, c: Vector, shift: Vector
) -> None:
    mean, deviation = [Q(1), Q(-2), Q(0)], [Q(1), Q(3), Q(1, 2)]

    def outputs(w: Vector, b: Q, data: list, mean: Vector, deviation: Vector) -> list[Q]:
        path = []
        for t in range(15):
            x, y = data[t % len(data)]
            z = [(xj - m) / s for xj, m, s in zip(x, mean, deviation, strict=True)]
            u = dot(w, x) + b
            path.append(u)
            ratio = sum((zj * m / s for zj, m, s in zip(z, mean, deviation, strict=True)), Q(0))
            w = [wj - ETA * (u - y) * zj / s for wj, zj, s in zip(w, z, deviation, strict=True)]
            b = b - ETA * (u - y) * (1 - ratio)
        return path

    moved = [([cj * xj + a for cj, xj, a in zip(c, x, shift, strict=True)], y) for x, y in data]
    w2 = [wj / cj for wj, cj in zip(w, c, strict=True)]
    twin = outputs(
        w2,
        b - dot(w2, shift),
        moved,
        [cj * m + a for cj, m, a in zip(c, mean, shift, strict=True)],
        [abs(cj) * s for cj, s in zip(c, deviation, strict=True)],
    )
    assert outputs(w, b, data, mean, deviation) == twin


@given(
    st.lists(st.integers(-4, 4).map(Q), min_size=2, max_size=5),
    st.lists(st.integers(1, 4).map(Q), min_size=5, max_size=5),
)
def test_u1_the_steps_are_parallel_exactly_where_s_is_constant_on_the_support(
    g: Vector, roots: Vector
) -> None:
    # s[c] = roots[c]², so that RMSProp's g/√s is rational; cos = 1 is equality in Cauchy and Schwarz
    u = [gc / r for gc, r in zip(g, roots, strict=False)]
    parallel = dot(g, u) ** 2 == dot(g, g) * dot(u, u)
    on_support = {r for gc, r in zip(g, roots, strict=False) if gc}
    assert parallel == (len(on_support) <= 1)
    assert dot(g, u) >= 0  # and never uphill: both go down the same gradient
    if on_support:
        # to equal norm: the factor of RMSProp's step squared, and what the gradient predicts for each
        factor = dot(g, g) / dot(u, u)
        assert factor * dot(g, u) ** 2 <= dot(g, g) ** 2
