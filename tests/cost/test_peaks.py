"""The peak of a formula is what is alive in a run that nobody watches closely."""

from random import Random

import pytest
import torch
from cost_twins import alive
from torch import nn

from assay import derive_cost
from assay.state import unfused


class Refined(nn.Module):
    """Starts again from what it has, without its history, but for the last few times."""

    def __init__(self, d, times, kept, act):
        super().__init__()
        self.linear, self.times, self.kept, self.act = nn.Linear(d, d), times, kept, act

    def forward(self, x):
        for i in range(self.times):
            if i < self.times - self.kept:
                x = x.detach()
            x = self.act(self.linear(x))
        return x


@pytest.mark.parametrize("act", [torch.tanh, torch.sigmoid, nn.functional.gelu])
@pytest.mark.parametrize("kept", [0, 3])
def test_what_is_detached_is_not_alive(act, kept):
    def build(b: int = 8, d: int = 4, k: int = 6):
        return Refined(d, k, kept, act), torch.randn(b, d)

    cost = derive_cost(build)
    for sizes in ({"b": 8, "d": 4, "k": 6}, {"b": 5, "d": 9, "k": 61}):
        assert cost.peak_bytes(**sizes) == pytest.approx(alive(build, **sizes), rel=0.01)


class Attention(nn.Module):
    """Attention as it is spelled out by hand; of one sequence `reshape` copies nothing."""

    def __init__(self, width, heads):
        super().__init__()
        self.all, self.heads = nn.Linear(width, 3 * width), heads

    def forward(self, x):
        b, n, d = x.shape
        parts = self.all(x).chunk(3, -1)
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in parts)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(b, n, d)


@pytest.mark.parametrize("base", [{}, {"b": 1, "n": 16}])
def test_a_peak_holds_at_a_batch_of_one_or_is_not_claimed(base):
    def build(b: int = 2, n: int = 6, hd: int = 4, h: int = 2):
        return Attention(h * hd, h), torch.randn(b, n, h * hd)

    cost, answered = derive_cost(build, **base), 0
    for b, n, hd in ((1, 64, 16), (1, 16, 8), (1, 12, 4), (2, 12, 4), (3, 40, 8)):
        sizes = {"b": b, "n": n, "hd": hd, "h": 2}
        if cost.peak_bytes.holds(**sizes):
            answered += b == 1
            assert cost.peak_bytes(**sizes) == pytest.approx(alive(build, **sizes), rel=0.01)
    assert bool(answered) == bool(base)


class Dropped(nn.Module):
    """Layers beside a stream, each kept or not for every row: stochastic depth."""

    def __init__(self, d, depth):
        super().__init__()
        layers = (nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d)) for _ in range(depth))
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for k, layer in enumerate(self.layers):
            keep = 1 - 0.2 * k / max(1, len(self.layers) - 1)
            x = (
                x
                + layer(x) * torch.empty(x.shape[0], 1, 1, device=x.device).bernoulli_(keep) / keep
            )
        return x


class Adapted(nn.Module):
    """A frozen weight with one of low rank beside it."""

    def __init__(self, d, r):
        super().__init__()
        self.frozen, self.down, self.up = nn.Linear(d, d), nn.Linear(d, r), nn.Linear(r, d)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.frozen(x) + self.up(self.down(x))


def dropped(b: int = 2, n: int = 6, d: int = 8, depth: int = 4):
    return Dropped(d, depth), torch.randn(b, n, d)


def adapted(b: int = 2, n: int = 8, d: int = 16, r: int = 2, depth: int = 3):
    layers = [m for _ in range(depth) for m in (Adapted(d, r), nn.GELU())]
    return nn.Sequential(*layers), torch.randn(b, n, d)


@pytest.mark.parametrize("build", [dropped, adapted])
def test_between_two_regimes_another_layer_has_the_peak(build):
    """Where weights weigh as much as activations, it is neither the first layer nor the last."""
    cost, random = derive_cost(build), Random(0)
    at = [{"b": 13, "n": 2, "d": 48, "depth": 3}, {"b": 3, "n": 4, "d": 28, "depth": 4}]
    for _ in range(12):
        more = {name: int(2 ** random.uniform(1, 5)) for name in ("b", "n", "d")}
        at.append({**more, "depth": random.randint(2, 8)})
    for sizes in at:
        sizes = {**cost.base, **sizes, **({"r": random.randint(2, 30)} if "r" in cost.base else {})}
        assert cost.peak_bytes(**sizes) == pytest.approx(alive(build, **sizes), rel=0.01)


def as_attribute(n: int = 16, d: int = 8):
    model = nn.Linear(d, d)
    model.neighbours = torch.rand(n, n)
    model.forward = lambda x: model.neighbours @ nn.functional.linear(x, model.weight, model.bias)
    return model, torch.randn(n, d)


def in_a_closure(n: int = 16, d: int = 8):
    neighbours = torch.rand(n, n)

    class Graph(nn.Linear):
        def forward(self, x):
            return neighbours @ super().forward(x)

    return Graph(d, d), torch.randn(n, d)


def as_a_buffer(n: int = 16, d: int = 8):
    class Graph(nn.Linear):
        def forward(self, x):
            return self.neighbours @ super().forward(x)

    model = Graph(d, d)
    model.register_buffer("neighbours", torch.rand(n, n))
    return model, torch.randn(n, d)


@pytest.mark.parametrize("build", [as_attribute, in_a_closure])
def test_what_is_held_without_being_registered_is_alive(build):
    assert str(derive_cost(build).peak_bytes) == str(derive_cost(as_a_buffer).peak_bytes)


def projected(b: int = 2, n: int = 6, d: int = 12, p: int = 4):
    return nn.LSTM(5, d, proj_size=p, batch_first=True), torch.randn(b, n, 5)


def test_operators_of_one_line_are_told_apart():
    """Four products in each turn of torch's loop, and the fourth has the peak.

    A CPU multiplies all inputs before the loop, and has more alive; other devices do it turn by turn.
    """
    cost = derive_cost(projected)
    for sizes in ({"b": 10, "n": 6, "d": 12, "p": 4}, {"b": 3, "n": 17, "d": 40, "p": 3}):
        with torch.device("meta"), unfused():
            counted = alive(projected, **sizes)
        assert cost.peak_bytes(**sizes) == pytest.approx(counted, rel=0.01)
