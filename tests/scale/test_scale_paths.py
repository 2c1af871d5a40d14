"""Paths beside each other: heads, gates, pools, tied matrices; and layers past which nothing gets."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale


def kaiming(*sizes):
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return layers


def rules(model, *inputs, loss=None):
    torch.manual_seed(0)
    subject = (model, inputs, loss) if loss else (model, inputs)
    return {finding.rule: finding for finding in measure_scale(subject).findings}


class Heads(nn.Module):
    def __init__(self, first):
        super().__init__()
        self.trunk, self.a, self.b = (kaiming(64, 64)[0] for _ in range(3))
        self.first = first

    def forward(self, x):
        h = self.trunk(x).relu()
        heads = (self.a, self.b) if self.first else (self.b, self.a)
        found = {id(head): head(h) for head in heads}
        return found[id(self.a)], found[id(self.b)]


@pytest.mark.parametrize("first", [True, False])
def test_two_heads_are_not_measured_against_each_other(first):
    torch.manual_seed(0)
    found = rules(
        Heads(first),
        torch.randn(256, 64),
        loss=lambda y: y[0].square().sum() + 0.003 * y[1].square().sum(),
    )
    assert "scale.backward-variance" not in found


def test_a_layer_past_which_nothing_gets_is_named_though_nothing_after_it_varies():
    torch.manual_seed(0)
    one, two, three = kaiming(32, 64, 64, 8)
    nn.init.constant_(two.bias, -100.0)
    found = rules(nn.Sequential(one, nn.ReLU(), two, nn.ReLU(), three), torch.randn(128, 32))
    finding = found["scale.dead-units"]
    assert finding.severity == "warning"
    assert finding.measured.value == 64
    assert "after 3 (ReLU)" in finding.message


def test_zero_branches_and_constant_embeddings_are_no_dead_layers():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.o = kaiming(32, 32, 32, 8)
            nn.init.zeros_(self.b.weight)
            self.time = nn.Linear(1, 32)

        def forward(self, x):
            t = self.time(torch.ones(len(x), 1)).relu()  # every example is at the same time
            return self.o(x + F.gelu(self.b(self.a(x).relu())) + t)

    torch.manual_seed(0)
    assert "scale.dead-units" not in rules(Branch(), torch.randn(128, 32))


def test_inputs_far_from_zero_are_named_however_small_they_vary():
    torch.manual_seed(0)
    for mean, deviation in ((1.0, 0.3), (3.0, 0.5), (300.0, 0.8)):
        model = nn.Sequential(*kaiming(4, 64))
        found = rules(model, mean + deviation * torch.randn(256, 4))
        assert found["scale.forward-mean"].severity == "warning"
        assert "x = (x - mean)/std" in found["scale.forward-mean"].repair


class Squeeze(nn.Module):
    """Squeeze and excitation on one convolution, then a global average pool."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
        self.q, self.u = nn.Conv2d(32, 8, 1), nn.Conv2d(8, 32, 1)
        self.head = nn.Linear(32, 10)
        for layer in (self.a, self.b, self.head):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x):
        h = self.b(self.a(x).relu()).relu()
        gate = self.u(self.q(h.mean((2, 3), keepdim=True)).relu())
        return self.head((h * gate.sigmoid()).mean((2, 3)))


def test_the_squeeze_of_a_gate_is_no_signal_and_a_pool_divides_the_gradient():
    torch.manual_seed(0)
    model, x = Squeeze(), torch.randn(8, 3, 24, 24)
    rows = {row.parameters[0]: row for row in measure_scale((model, x)).rows if row.fan_in}
    assert rows["q.weight"].gate
    assert rows["u.weight"].gate
    assert not rows["b.weight"].gate
    assert rows["head.weight"].averaged == 24 * 24
    assert "scale.backward-variance" not in rules(model, x)


def test_a_gradient_taken_inside_the_forward_pass_is_not_the_losss():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))

        def forward(self, x):
            x = x.requires_grad_()
            return torch.autograd.grad(self.layers(x).sum(), x, create_graph=True)[0]

    torch.manual_seed(0)
    rows = measure_scale((Force(), torch.randn(64, 4), lambda f: f.square().mean())).rows
    assert next(row for row in rows if row.parameters[:1] == ("layers.2.weight",)).gradient is None


def test_a_gate_that_begins_closed_is_named_with_its_bias():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.value, self.gate, self.out = (nn.Linear(64, 64) for _ in range(3))
            nn.init.constant_(self.gate.bias, -10.0)

        def forward(self, x):
            return self.out(self.value(x) * self.gate(x).sigmoid())

    torch.manual_seed(0)
    model, x = Gated(), torch.randn(128, 64)
    finding = rules(model, x)["scale.backward-variance"]
    assert finding.repair == "let the gate begin open: `nn.init.zeros_(model.gate.bias)`"
    nn.init.zeros_(model.gate.bias)
    assert not any(f.fails for f in measure_scale((model, x)).findings)


class Tied(nn.Module):
    def __init__(self, times):
        super().__init__()
        self.emb = nn.Embedding(50, 64)
        self.hidden = nn.Linear(64, 64)
        nn.init.normal_(self.hidden.weight, std=1 / 8)
        self.times = times

    def forward(self, tokens):
        return self.hidden(self.times * self.emb(tokens)) @ self.emb.weight.T


def test_a_tied_embedding_gets_a_repair_for_both_of_its_uses():
    torch.manual_seed(0)
    model, tokens = Tied(1.0), torch.randint(50, (16, 32))
    nn.init.normal_(model.emb.weight, std=0.01)
    repair = rules(model, tokens)["scale.forward-variance"].repair
    assert "std=64**-0.5)`, and multiply what is looked up by `math.sqrt(64)`" in repair
    healed = Tied(math.sqrt(64))
    nn.init.normal_(healed.emb.weight, std=64**-0.5)
    assert not any(f.fails for f in measure_scale((healed, tokens)).findings)


class Messages(nn.Module):
    """As in a graph network: weights, then the sum over neighbours, then the activation."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(kaiming(*[32] * 7))

    def forward(self, x, heal=False):
        for layer in self.layers:
            u = self.mixed(layer, x)
            if heal:
                layer.weight.data /= u.square().mean().sqrt()
                u = self.mixed(layer, x)
            x = u.relu()
        return x

    @staticmethod
    def mixed(layer, x):
        y = layer(x)
        return torch.stack([y.roll(k, 0) for k in range(20)]).sum(0)


def test_where_messages_are_summed_behind_the_weights_the_repair_divides_by_what_comes_of_it():
    torch.manual_seed(0)
    model, x = Messages(), torch.randn(200, 32)
    finding = rules(model, x)["scale.forward-variance"]
    assert finding.severity == "warning"
    assert "model.layers[0].weight.data /= u.square().mean().sqrt()" in finding.repair
    with torch.no_grad():
        model(x, heal=True)
    rows = [row for row in measure_scale((model, x)).rows if row.kind == "activation"]
    assert all(0.1 < row.second_moment <= 1 for row in rows)  # what enters them has 1


def test_self_normalising_networks_are_told_to_keep_what_they_have():
    torch.manual_seed(0)
    layers = []
    for _ in range(40):
        layers += [nn.Linear(64, 64), nn.SELU()]
        nn.init.normal_(layers[-2].weight, std=1 / 8)
        nn.init.zeros_(layers[-2].bias)
    finding = rules(nn.Sequential(*layers), torch.randn(256, 64))["scale.backward-variance"]
    assert "kaiming" not in finding.repair


def rms(h):
    return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize(
    "norm",
    [
        lambda h: F.normalize(h, dim=-1),
        lambda h: h / h.norm(dim=-1, keepdim=True),
        lambda h: h / (h * h).sum(-1, keepdim=True).sqrt(),
        lambda h: h / (h.std(-1, keepdim=True) + 1e-5),
        rms,
    ],
)
def test_a_norm_written_by_hand_is_one(norm):
    class Cosine(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 8)
            nn.init.normal_(self.one.weight, std=1e-3)
            nn.init.zeros_(self.one.bias)

        def forward(self, x):
            return self.two(norm(self.one(x)))

    torch.manual_seed(0)
    model, x = Cosine(), torch.randn(64, 64)
    rows = {row.parameters[0]: row for row in measure_scale((model, x)).rows if row.fan_in}
    assert rows["one.weight"].normalised
    assert not any(f.fails for f in measure_scale((model, x)).findings)


def test_a_square_or_a_size_that_is_used_otherwise_is_no_norm():
    class Other(nn.Module):
        def __init__(self, use):
            super().__init__()
            self.one, self.two, self.use = nn.Linear(64, 64), nn.Linear(64, 8), use

        def forward(self, x):
            return self.two(self.use(self.one(x)))

    uses = (
        lambda h: h.pow(2),
        lambda h: h * h.roll(1, 0).norm(dim=-1, keepdim=True),
        lambda h: h / h.norm(dim=-1, keepdim=True) + h.norm(dim=-1, keepdim=True),
    )
    for use in uses:
        torch.manual_seed(0)
        rows = measure_scale((Other(use), torch.randn(64, 64))).rows
        assert not next(r for r in rows if r.parameters[:1] == ("one.weight",)).normalised
