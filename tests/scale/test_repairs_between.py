"""A repair does what it says also where something else than weights changes the signal: dropout, sums."""

import math

import torch
from torch import nn

from assay import measure_scale


class Summed(nn.Module):
    """Layers between which every row is the sum of many, as messages of neighbours are."""

    def __init__(self, depth, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
            x = torch.stack([x.roll(k, 0) for k in range(12)]).sum(0)
        return x


def levels(model, x):
    return [row.level for row in measure_scale((model, x)).rows if row.kind == "product"]


def found(model, x):
    findings = measure_scale((model, x)).findings
    return next(f for f in findings if f.rule == "scale.forward-variance")


def test_dropout_is_in_the_width():
    torch.manual_seed(0)
    layers = [m for _ in range(8) for m in (nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.5))]
    model, x = nn.Sequential(*layers), torch.randn(256, 128)
    repair = found(model, x).repair
    width = float(repair.partition("math.sqrt(")[2].partition("/128")[0])
    assert 0.8 < width < 1.25  # and not 2, of which dropout makes 4 a layer
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=math.sqrt(width / 128))
    assert all(0.1 < level < 10 for level in levels(model, x))


def test_where_sums_grow_the_signal_each_layer_gets_the_width_for_its_input():
    torch.manual_seed(0)
    model, x = Summed(5, 64), torch.randn(200, 64)
    for layer in model.layers:
        nn.init.normal_(layer.weight, std=0.3)
    repair = found(model, x).repair
    assert "one after the other" in repair
    assert "std=1/math.sqrt(fan_in * x.square().mean())" in repair

    def by_its_input(layer, given):
        std = 1 / math.sqrt(layer.in_features * given[0].square().mean())
        nn.init.normal_(layer.weight, std=std)

    hooks = [layer.register_forward_pre_hook(by_its_input) for layer in model.layers]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    rows = [row for row in measure_scale((model, x)).rows if row.kind == "product"]
    assert all(
        0.1 < row.second_moment < 10 for row in rows
    )  # sums of many have means, and little variance


def test_a_plain_network_has_the_widths_of_its_activation():
    torch.manual_seed(0)
    layers = [m for _ in range(8) for m in (nn.Linear(128, 128), nn.ReLU())]
    assert "math.sqrt(2/128)" in found(nn.Sequential(*layers), torch.randn(256, 128)).repair


def convolutions(between):
    """Three layers, each far too narrow, with something between them."""
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(3)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(layers[0], between(), layers[1], between(), layers[2])


def test_behind_a_norm_nothing_is_passed_on_and_fan_in_alone_will_do():
    class Between(nn.Sequential):  # the norm makes a small signal one: that is no sum over many
        def __init__(self):
            super().__init__(nn.Tanh(), nn.LayerNorm(64), nn.Tanh())

    model, x = convolutions(Between), torch.randn(256, 64)
    repair = found(model, x).repair
    assert "one after the other" not in repair
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1 / 8)
    assert all(0.1 < level < 10 for level in levels(model, x))


def test_what_reads_two_side_by_side_passes_on_no_factor():
    class Side(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(128, 64)
            for layer in (self.a, self.b, self.c):
                nn.init.normal_(layer.weight, std=1e-3)
            nn.init.normal_(self.a.weight, std=1.0)

        def forward(self, x):
            return self.c(torch.cat([self.a(x), self.b(x)], 1))

    torch.manual_seed(0)
    model, x = Side(), torch.randn(256, 64)
    assert "one after the other" not in found(model, x).repair
    for layer in (model.a, model.b, model.c):
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    assert all(0.1 < level < 10 for level in levels(model, x))


def test_what_reads_the_input_beside_it_passes_on_no_factor():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64 + 64 * (k == 3), 64) for k in range(6))
            for layer in self.layers:
                nn.init.normal_(layer.weight, std=0.02)

        def forward(self, x):
            h = x
            for k, layer in enumerate(self.layers):
                h = layer(torch.cat([x, h], 1) if k == 3 else h).relu()
            return h

    torch.manual_seed(0)
    assert "math.sqrt(2.934/64)" in found(Skip(), torch.randn(256, 64)).repair


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.inner = nn.ModuleList(nn.Linear(64, 64) for _ in range(16))
        self.outer = nn.ModuleList(nn.Linear(64, 64) for _ in range(16))
        for layer in (self.first, *self.inner, *self.outer):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = self.first(x)
        for a, b in zip(self.inner, self.outer, strict=True):
            x = x + b(a(x).relu())
        return x


def test_a_stream_that_doubles_gets_widths_one_after_the_other():
    torch.manual_seed(0)
    model, x = Residual(), torch.randn(200, 64)
    finding = found(model, x)
    assert finding.severity == "warning"
    assert "one after the other" in finding.repair

    def by_its_input(layer, given):
        with torch.no_grad():
            std = 1 / math.sqrt(layer.in_features * given[0].square().mean())
            nn.init.normal_(layer.weight, std=std)

    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(by_its_input) for layer in layers]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    assert all(0.1 < level < 10 for level in levels(model, x))
