"""Heads that begin small, factorised matrices, and how far apart two operators are."""

import math
from itertools import pairwise

import torch
from torch import nn

from assay import measure_scale


def orthogonal(sizes, last):
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
        nn.init.zeros_(layer.bias)
    nn.init.orthogonal_(layers[-1].weight, last)
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.Tanh())))[:-1]


def test_a_small_head_is_a_note_forward_and_no_warning_backward():
    torch.manual_seed(0)
    x = torch.randn(256, 32)
    scale = measure_scale((orthogonal([32, 64, 64, 4], 0.01), x))
    (finding,) = scale.findings
    assert (finding.rule, finding.severity) == ("scale.forward-variance", "note")
    assert finding.repair.startswith("a head that begins small is often meant to; if not, ")
    assert "model[4].weight" in finding.repair


def test_a_gradient_that_dies_before_a_small_head_is_still_found():
    torch.manual_seed(0)
    model = orthogonal([32, 64, 64, 64, 4], 0.01)
    for k in (2, 4):
        nn.init.normal_(model[k].weight, std=1e-3)
    found = {f.rule: f for f in measure_scale((model, torch.randn(256, 32))).findings}
    assert found["scale.backward-variance"].fails
    assert "the width of the readout accounts for" in found["scale.backward-variance"].message


class Factors(nn.Module):
    def __init__(self, matrix):
        super().__init__()
        self.users, self.items, self.matrix = nn.Embedding(90, 32), nn.Embedding(90, 32), matrix
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, users, items):
        u, i = self.users(users), self.items(items)
        return u @ i.T if self.matrix else (u * i).sum(-1)


def test_rows_that_are_only_multiplied_with_each_other_have_no_size_to_keep():
    torch.manual_seed(0)
    tokens = torch.randint(90, (128,)), torch.randint(90, (128,))
    for matrix in (False, True):
        scale = measure_scale((Factors(matrix), tokens))
        assert all(row.gate for row in scale.rows if row.kind == "lookup")
        assert scale.findings == ()


def test_a_looked_up_stream_under_a_mask_of_the_input_keeps_its_size():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out = nn.Embedding(90, 32), nn.Linear(32, 8)
            nn.init.normal_(self.table.weight, std=0.01)

        def forward(self, tokens):
            return self.out((self.table(tokens) * (tokens > 0)[..., None].float()).sum(1))

    torch.manual_seed(0)
    scale = measure_scale((Bag(), torch.randint(90, (64, 5))))
    assert any("table.weight" in f.message for f in scale.findings)


def test_all_operators_with_weights_between_two_are_counted():
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64)]
    for _ in range(20):
        layers += [nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), *layers, nn.Linear(64, 4))
    nn.init.normal_(model[-1].weight, std=1.0)
    scale = measure_scale((model, torch.randn(16, 64)))
    finding = next(f for f in scale.findings if " back to 0.weight" in f.message)
    assert "22 operators with weights earlier" in finding.message
