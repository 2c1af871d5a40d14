"""The line that a finding gives for a gate is run, and the model measured again."""

import pytest
import torch
from roads import D, InTime, Written, found, highway_cell, linear, measured, series, vector
from torch import nn
from zoo_in_depth import images

import assay

STEPS = 24


def packed(split, *, d=D, keeps=1):
    """An LSTM-like cell whose gates are parts of one product; `split` gives forget, input, new."""

    def forward(m, x, h):
        forget, enter, new = split(m.all(torch.cat((x, h), -1)))
        forget = torch.sigmoid(forget) if keeps > 0 else -torch.sigmoid(forget) + 1
        return forget * h + torch.sigmoid(enter) * torch.tanh(new)

    return InTime(Written(forward, all=linear(2 * d, 3 * d)))


def two_biases():
    """The gate's sum has two parameters of its own, one of them subtracted."""

    def forward(m, x, h):
        z = torch.sigmoid(m.w(torch.cat((x, h), -1)) - m.p[0])
        return h + z * (torch.tanh(m.c(x)) - h)

    parts = {"w": linear(2 * D, D, bias=False), "p": nn.ParameterList([vector(0.3)])}
    return InTime(Written(forward, c=linear(), **parts))


def convolutional():
    """Gates along the channels, which are not the last dimension."""

    def forward(m, x, h):
        z, new = m.both(torch.cat((x, h), 1)).chunk(2, 1)
        z = torch.sigmoid(z)
        return (1 - z) * h + z * torch.tanh(new)

    def loop(m, x):
        h = torch.zeros_like(x)
        for _ in range(STEPS):
            h = m.loop(x, h)
        return h

    cell = Written(forward, both=nn.Conv2d(2 * D, 2 * D, 3, padding=1))
    return Written(loop, loop=cell)


def in_a_list():
    cells = nn.ModuleDict({"one": nn.ModuleList([highway_cell()])})
    return InTime(Written(lambda m, x, h: m.cells["one"][0](x, h), cells=cells))


def learned_decay():
    def forward(m, x, h):
        a = torch.sigmoid(m.a)
        return a * h + (1 - a) * torch.tanh(m.c(torch.cat((x, h), -1)))

    return InTime(Written(forward, a=vector(), c=linear(2 * D)))


def sliced(y):
    return y[..., :D], y[..., D : 2 * D], y[..., -D:]


ALL = slice(None)
FORGETFUL = {  # builder, and the rows of each bias that the repair may write
    "nn.GRUCell": (lambda: InTime(nn.GRUCell(D, D)), {"cell.bias_hh": slice(D, 2 * D)}),
    "nn.LSTM": (lambda: nn.LSTM(D, D, batch_first=True), {"bias_hh_l0": slice(D, 2 * D)}),
    "highway": (lambda: InTime(highway_cell()), {"cell.gate.bias": ALL}),
    "chunk": (lambda: packed(lambda y: y.chunk(3, -1)), {"cell.all.bias": slice(0, D)}),
    "slice": (lambda: packed(sliced), {"cell.all.bias": slice(0, D)}),
    "last slice": (
        lambda: packed(lambda y: sliced(y)[::-1], keeps=-1),
        {"cell.all.bias": slice(2 * D, 3 * D)},
    ),
    "split": (lambda: packed(lambda y: y.split([D, D, D], -1)), {"cell.all.bias": slice(0, D)}),
    "two biases": (two_biases, {"cell.p.0": ALL}),
    "channels": (convolutional, {"loop.both.bias": slice(0, D)}),
    "in a list": (in_a_list, {"cell.cells.one.0.gate.bias": ALL}),
    "learned decay": (learned_decay, {"cell.a": ALL}),
}


@pytest.mark.parametrize("name", FORGETFUL)
def test_the_line_that_makes_a_gate_keep(name):
    build, written = FORGETFUL[name]
    model = build()
    x = images(D, side=3) if name == "channels" else series(steps=STEPS)
    before = measured(model, x)
    (finding,) = found(before, "short-memory")
    old = {key: p.clone() for key, p in model.named_parameters()}
    exec(finding.repair, {"torch": torch, "model": model})
    after = measured(model, x)
    assert after.longest.half_life > 2 * before.longest.half_life
    assert after.longest.retention > 5 * before.longest.retention
    for key, p in model.named_parameters():
        changed = p != old[key]
        if key in written:
            assert changed[written[key]].all(), key
            changed[written[key]] = False
        assert not changed.any() or "bias_ih" in key, key


def test_every_layer_and_direction_has_its_own_line():
    model = nn.GRU(8, 8, num_layers=2, bidirectional=True, batch_first=True)
    x = series(steps=STEPS, d=8)
    before = measured(model, x)
    findings = found(before, "short-memory")
    assert len({f.repair for f in findings}) == 4
    for finding in findings:
        exec(finding.repair, {"torch": torch, "model": model})
    retention = [min(p.retention for p in h.paths) for h in (before, measured(model, x))]
    assert retention[1] > 100 * retention[0]


def test_the_repair_of_the_example_can_be_run_too(pytestconfig):
    build = assay.load(str(pytestconfig.rootpath / "examples" / "g2p.py:attention"))
    subject = build(b=2)
    for finding in found(assay.find_highways(subject), "short-memory"):
        exec(finding.repair, {"torch": torch, "model": subject.model})
    assert min(p.retention for p in assay.find_highways(subject).paths if p.is_sum) > 0.03


def advice(cell):
    (finding,) = found(measured(InTime(cell), series(steps=STEPS)), "short-memory")
    return finding.repair


def gated_by(gate, **parts):
    def forward(m, x, h):
        z = gate(m, x)
        return z * h + (1 - z) * torch.tanh(m.c(x))

    return Written(forward, c=linear(), **parts)


def product_of_sigmoids(m, x):
    return torch.sigmoid(m.a(x)) * torch.sigmoid(m.b(x))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (gated_by(lambda m, x: 0.5), "or let the data decide"),
        (
            gated_by(lambda m, x: torch.exp(-(m.w(x) ** 2) - 1), w=linear()),
            "(`cell.w.bias, cell.w.",
        ),
        (gated_by(lambda m, x: torch.sigmoid(m.w(x)), w=linear(bias=False)), "(`cell.w.weight`)"),
        (gated_by(product_of_sigmoids, a=linear(), b=linear()), "start the factor on the state"),
        (nn.GRUCell(D, D, bias=False), "(`cell.weight_hh, cell.weight_ih`)"),
    ],
)
def test_a_gate_without_a_known_bias_gets_advice_in_words(cell, words):
    repair = advice(cell)
    assert words in repair
    assert f"at 1 - 1/τ, with τ spread over 1…{STEPS}" in repair
