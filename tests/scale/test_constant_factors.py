"""A constant on the way to or from a product belongs to the judged value and to the repair."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale


class Stack(nn.Module):
    """Four layers whose weights are drawn with `std` and multiplied with constants while running."""

    def __init__(self, std, inside=1.0, outside=1.0, width=64):
        super().__init__()
        self.weights = nn.ParameterList(std * torch.randn(width, width) for _ in range(4))
        self.inside = inside
        self.register_buffer("outside", torch.tensor(outside))

    def forward(self, x):
        for weight in self.weights:
            x = F.leaky_relu(F.linear(x, weight * self.inside) * self.outside, 0.2)
        return x


def measured(model, x):
    scale = measure_scale((model, x))
    rows = [row for row in scale.rows if row.kind in ("product", "lookup")]
    return rows, {finding.rule: finding for finding in scale.findings}


@pytest.mark.parametrize("constants", [{"inside": 1 / 8}, {"outside": 1 / 8}])
def test_equalised_learning_rates_are_judged_by_what_enters_the_activation(constants):
    torch.manual_seed(0)
    rows, found = measured(Stack(1.4, **constants), torch.randn(256, 64))
    assert all(0.1 < row.level < 10 for row in rows)
    assert "scale.forward-variance" not in found
    assert "scale.backward-variance" not in found
    assert all(0.3 < row.gradient / row.gradient_predicted < 3 for row in rows[:-1])
    assert all(0.3 < row.second_moment / row.predicted < 3 for row in rows)


@pytest.mark.parametrize("constants", [{"inside": 1 / 8}, {"outside": 1 / 8}, {}])
def test_the_repair_is_divided_by_the_constants(constants):
    torch.manual_seed(0)
    model, x = Stack(0.02, **constants), torch.randn(256, 64)
    repair = measured(model, x)[1]["scale.forward-variance"].repair
    line = repair.split("`")[1]
    with torch.no_grad():
        for k in range(4):
            exec(
                line.replace("weights[0]", f"weights[{k}]"),
                {"nn": nn, "math": math, "model": model},
            )
    assert all(0.1 < row.level < 10 for row in measured(model, x)[0])


def test_an_embedding_times_a_constant_is_what_the_stream_gets():
    class Times(nn.Module):
        def __init__(self, std):
            super().__init__()
            self.e, self.o = nn.Embedding(50, 64), nn.Linear(64, 8)
            nn.init.normal_(self.e.weight, std=std)
            self.register_buffer("place", torch.randn(16, 64))

        def forward(self, tokens):
            return self.o(8 * self.e(tokens) + self.place)

    torch.manual_seed(0)
    tokens = torch.randint(50, (8, 16))
    rows, found = measured(Times(1 / 8), tokens)
    assert rows[0].factor == 8
    assert 0.5 < rows[0].level < 2
    assert not found
    repair = measured(Times(1e-3), tokens)[1]["scale.forward-variance"].repair
    assert repair == "`nn.init.normal_(model.e.weight, std=1.0/8)`"


def test_a_constant_of_one_use_among_several_and_of_attention_is_not_taken_in():
    class Queries(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))

        def forward(self, x):
            scores = (self.q(x) * 32**-0.5) @ self.k(x).transpose(-1, -2)
            v = self.v(x)
            return scores.softmax(-1) @ v + 100 * v

    torch.manual_seed(0)
    rows, _ = measured(Queries(), torch.randn(8, 10, 32))
    assert [row.factor for row in rows] == [1, 1, 1]


def test_a_weight_that_is_made_otherwise_gets_no_line_for_its_parameter():
    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(64, 64))

        def forward(self, x):
            return F.linear(x, 1e-3 * self.w / self.w.norm(dim=1, keepdim=True)).relu()

    torch.manual_seed(0)
    rows, found = measured(Made(), torch.randn(64, 64))
    assert math.isnan(rows[0].weight_factor)
    assert "nn.init" not in found["scale.forward-variance"].repair
    assert "made of `model.w`" in found["scale.forward-variance"].repair


def test_a_number_is_no_square():
    torch.manual_seed(0)
    rows, _ = measured(Stack(0.1, outside=2.0), torch.randn(64, 64))
    assert all(row.activation == "leaky_relu" for row in rows)


class Sine(nn.Linear):
    def __init__(self, width, std):
        super().__init__(width, width)
        nn.init.normal_(self.weight, std=std)

    def forward(self, x):
        return torch.sin(30 * super().forward(x))


def test_frequencies_are_a_choice_and_a_signal_that_dies_in_sines_is_none():
    torch.manual_seed(0)
    x = torch.randn(256, 64)
    good = math.sqrt(2 / 64) / 30
    model = nn.Sequential(Sine(64, 0.05), Sine(64, good), Sine(64, good))
    assert "scale.forward-variance" not in measured(model, x)[1]
    bad = nn.Sequential(*(Sine(64, 1e-5) for _ in range(3)))
    assert measured(bad, x)[1]["scale.forward-variance"].severity == "warning"
