"""One layer for several inputs side by side is no loop; a layer that reads what it made is one."""

import torch
from torch import nn

from assay import measure_scale

N = 256


def linear(width=1.0):
    layer = nn.Linear(64, 64, bias=False)
    nn.init.normal_(layer.weight, std=width / 8)
    return layer


class Pyramid(nn.Module):
    """Five maps, each made of the one before, and one head of two layers for all of them."""

    def __init__(self, width=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head, self.out = linear(), linear(width), linear()
        self.down = nn.ModuleList(linear() for _ in range(4))

    def forward(self, x):
        maps = [self.body(x)]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        return [self.out(self.head(m)) for m in maps]


class Recurrent(nn.Module):
    """Five steps; a factor on the state at each, and a head for each."""

    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.state, self.head, self.factor = linear(), linear(), linear(), factor

    def forward(self, x):
        h, outs = torch.zeros_like(x), []
        for _ in range(5):
            h = self.factor * self.state(self.enter(x) + h)
            outs.append(self.head(h))
        return outs


def measured(model, weights):
    x = torch.randn(N, 64, generator=torch.Generator().manual_seed(1))
    return measure_scale(
        (
            model,
            x,
            lambda outs: sum(w * u.square().sum() for w, u in zip(weights, outs, strict=True)),
        )
    )


def backward(scale):
    return [f for f in scale.findings if f.rule == "scale.backward-variance"]


def test_weights_of_a_loss_over_maps_side_by_side_are_no_vanishing():
    for weights in ((1, 1e-3, 1e-4, 1e-5, 1e-6), (1e-6, 1e-5, 1e-4, 1e-3, 1)):
        scale = measured(Pyramid(), weights)
        head = next(row for row in scale.rows if row.parameters == ("head.weight",))
        assert head.calls.count == 5
        assert not head.recurs
        assert not backward(scale)


def test_what_leads_to_some_calls_is_held_against_these():
    scale = measured(Pyramid(), (1, 1e-3, 1e-4, 1e-5, 1e-6))
    rows = {row.parameters[0]: row for row in scale.rows if row.parameters}
    energies = [energy for energy, _ in rows["out.weight"].gradients]
    last = rows["down.3.weight"].index  # leads to the fifth call alone
    assert len(energies) == 5
    share = rows["out.weight"].share(last)
    assert share == min(energies) / sum(energies)
    ratio = rows["down.3.weight"].gradient_energy / (share * rows["out.weight"].gradient_energy)
    assert 0.2 < ratio < 5
    assert rows["out.weight"].share(rows["body.weight"].index) == 1


def test_a_shared_head_that_lets_little_through_is_still_named():
    found = backward(measured(Pyramid(0.005), (1, 1, 1, 1, 1)))
    assert "from out.weight (mm) back to " in found[0].message
    assert found[0].severity == "warning"


def test_calls_on_one_path_are_a_loop():
    for factor in (1.0, 0.01):
        scale = measured(Recurrent(factor), (0, 0, 0, 0, 1))
        rows = {row.parameters[0]: row for row in scale.rows if row.parameters}
        assert rows["state.weight"].recurs
        assert not rows["head.weight"].recurs
        assert not rows["enter.weight"].recurs
        found = backward(scale)
        assert bool(found) is (factor < 1)
        assert all(f.message.startswith("Over the 5 calls of state.weight") for f in found)
