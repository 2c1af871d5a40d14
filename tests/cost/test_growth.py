"""Crossings against trying sizes one by one, and the picture that they are marked in."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay.cost.cost import derive_cost
from assay.cost.formula import Formula
from assay.cost.growth import all_crossings, at_sizes, crossings, growth, lines_along
from assay.cost.polynomial import Polynomial
from assay.view.blocks import Lines, Paragraph


class Attends(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.mix = nn.Linear(d, 3 * d)

    def forward(self, x):
        return F.scaled_dot_product_attention(*self.mix(x).chunk(3, -1))


def attention(n: int = 4, d: int = 8):
    return Attends(d), torch.randn(2, n, d, requires_grad=True)


@pytest.fixture(scope="module")
def cost():
    return derive_cost(attention)


def test_products_are_told_apart_by_their_power_and_by_who_does_them(cost):
    lines = {line.name: line for line in lines_along(cost, "n")}
    assert lines["matrix products ∝ n"].who == ("mix",)
    assert lines["matrix products ∝ n²"].who == ("the model itself",)
    assert str(lines["matrix products ∝ n²"]) == "matrix products ∝ n² (`the model itself`)"
    total = sum(line.formula for line in lines.values())
    assert str(total) == str(cost.operations.total)


def test_attention_overtakes_the_linear_layer_where_trying_all_lengths_says(cost):
    d = cost.base["d"]
    # two times, for forward and back: the layer has 6·b·n·d², attention 4·b·n²·d
    first = next(n for n in range(2, 100) if 4 * n * n * d > 6 * n * d * d)
    (found,) = crossings(cost, "n")
    assert (found.size, found.at) == ("n", first)
    assert "∝ n²" in found.over
    assert "∝ n " in found.under
    assert found in all_crossings(cost)
    assert cost.to_dict()["crossings"][0]["at"] == first


def test_at_a_crossing_the_largest_line_is_another_than_before(cost):
    for found in all_crossings(cost):
        lines = lines_along(cost, found.size)
        before, at = (
            max(lines, key=lambda line: at_sizes(line.formula, {**cost.base, found.size: value}))
            for value in (found.at - 1, found.at)
        )
        assert (str(before), str(at)) == (found.under, found.over)


def test_the_picture_reaches_beyond_the_crossing_and_marks_it(cost):
    lines, *sentences = growth(cost)
    assert isinstance(lines, Lines)
    assert (lines.series[-1].name, lines.y_label) == ("bytes moved", "operations or bytes")
    ((at, name),) = lines.marks
    (found,) = crossings(cost, "n")
    assert at == found.at
    assert f"{found.at:,}" in name
    assert all(s.x[0] < at < s.x[-1] for s in lines.series)
    assert all(min(s.y) > 0 for s in lines.series)
    assert isinstance(sentences[0], Paragraph)
    assert f"From n = {found.at:,} on, matrix products ∝ n²" in str(cost)


def test_what_is_taken_off_goes_with_the_next_power_so_that_no_line_is_negative():
    from assay.cost.growth import _positive

    n = Polynomial.of("n")
    formula = Formula.of(n * n + n * -3 + Polynomial.constant(5))
    parts = _positive(formula, "n", {"n": 10})
    assert {power: str(part) for power, part in parts.items()} == {0: "5", 2: "n*(n - 3)"}


@pytest.mark.parametrize("value", [2, 7, 50])
def test_the_powers_of_a_formula_sum_to_it(cost, value):
    for formula in (cost.operations.total, cost.bytes.backward):
        parts = formula.by_power("n")
        assert sum(p(n=value, d=3) for p in parts.values()) == formula(n=value, d=3)
        assert all(part.is_zero or part.degree("n") == power for power, part in parts.items())


def test_where_there_is_no_formula_nothing_crosses():
    refused = Formula.refused(["n"], "it halves")
    assert not refused.by_power("n")
    assert not derive_cost((nn.Linear(2, 2), torch.randn(1, 2))).to_dict()["crossings"]


class Turning(nn.Module):
    """Attention's products, and layers of which the second runs on long inputs alone."""

    def __init__(self, d):
        super().__init__()
        self.up, self.out = nn.Linear(d, 2 * d), nn.Linear(2 * d, 8 * d)

    def forward(self, x):
        x = self.up(x @ x.mT @ x)
        return self.out(x) if x.shape[1] > 64 else x


def test_a_crossing_that_a_later_piece_takes_back_is_none():
    def build(n: int = 16, d: int = 8):
        return Turning(d), torch.randn(2, n, d, requires_grad=True)

    cost = derive_cost(build)
    (found,) = crossings(cost, "n")
    linear, quadratic = (cost.flops.total.by_power("n")[power] for power in (1, 2))
    over = [n for n in range(2, 400) if quadratic(n=n, d=8) > linear(n=n, d=8)]
    assert 64 in over
    assert 65 not in over
    assert found.at == 1 + max(n for n in range(2, 400) if n not in over) > 65
