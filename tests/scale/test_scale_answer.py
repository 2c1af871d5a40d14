"""The first sentence says of one, or of none, what is true of it."""

import torch
from torch import nn

from assay import measure_scale


def answer(*stds):
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in stds]
    for layer, std in zip(layers, stds, strict=True):
        nn.init.normal_(layer.weight, std=std / 8)
        nn.init.zeros_(layer.bias)
    return measure_scale((nn.Sequential(*layers), torch.randn(256, 64))).view().answer


def test_one_that_is_off():
    told = answer(0.1)
    assert told.startswith(
        "Nothing to warn of: of 1 operator with weights, 1 sets the scale of the signal; its "
    )
    assert "its variance is not within [0.1, 10] of the expected 1: 0.01" in told


def test_no_is_said_with_its_reason_and_only_where_something_fails():
    assert answer(1e-3, 1.0, 1.0).startswith("No: of 3 operators with weights, ")
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4))
    for layer in model:
        nn.init.normal_(layer.weight, std=1 / 8)
    scale = measure_scale((Cut(model), torch.randn(256, 64)))
    told, (finding,) = scale.view().answer, [f for f in scale.findings if f.fails]
    assert finding.rule == "scale.severed"
    assert told.startswith(f"No. {finding.message} Of 3 operators with weights, ")
    assert "around this line" in finding.repair


class Cut(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        with torch.no_grad():
            x = self.layers[0](x)
        return self.layers[1:](x)


def test_one_operator_is_one_in_the_notes():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x):
            return self.head(x) + self.table(torch.ones(64))

    notes = " ".join(measure_scale((Constant(), torch.randn(256, 64))).view().notes)
    assert "1 operator " in notes
    assert "1 operators" not in notes


def test_the_mean_is_told_at_the_line_that_it_is_about():
    torch.manual_seed(0)
    layers = [m for _ in range(20) for m in (nn.Linear(64, 64), nn.ReLU())]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=(2 / 64) ** 0.5)
        nn.init.zeros_(layer.bias)
    scale = measure_scale((nn.Sequential(*layers), torch.randn(256, 64)))
    finding = next(f for f in scale.findings if f.rule == "scale.forward-mean")
    assert f"that enter {finding.module}.weight" in finding.message


def test_one_that_is_right():
    told = answer(1.0)
    assert told.startswith("Yes: ")
    assert "its variance is within [0.1, 10] of the expected 1: " in told


def test_none_and_some_of_several():
    none = answer(0.1, 1.0)
    assert none.startswith("Nothing to warn of: ")
    assert "2 set the scale of the signal; none of these has variance within [0.1, 10]" in none
    assert answer(1.0, 0.1, 1.0).startswith("Nothing to warn of: ")
    assert "; 2 of these have variance within" in answer(1.0, 1.0, 0.1)


def test_means_that_weights_of_the_mean_square_leave_are_a_note_with_the_price():
    def means(depth, shift=0.0):
        torch.manual_seed(0)
        layers = [m for _ in range(depth) for m in (nn.Linear(128, 128), nn.ReLU())]
        for layer in layers[::2]:
            nn.init.normal_(layer.weight, std=(2 / 128) ** 0.5)
            nn.init.constant_(layer.bias, shift)
        scale = measure_scale((nn.Sequential(*layers), torch.randn(64, 128)))
        return next(f for f in scale.findings if f.rule == "scale.forward-mean")

    deep = means(24)
    assert deep.measured.value > 3
    assert deep.severity == "note"
    assert "would let the gradient's square grow by χ^" in deep.message
    shallow = means(4, shift=4.0)  # the price of unit variance would be small
    assert shallow.measured.value > 3
    assert shallow.severity == "warning"
    assert "price" not in shallow.message
