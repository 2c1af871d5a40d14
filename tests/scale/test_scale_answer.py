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
        "Not quite: of 1 operator with weights, 1 sets the scale of the signal; its "
    )
    assert "its variance is not within [0.1, 10] of the expected 1: 0.01" in told


def test_one_that_is_right():
    told = answer(1.0)
    assert told.startswith("Yes: ")
    assert "its variance is within [0.1, 10] of the expected 1: " in told


def test_none_and_some_of_several():
    none = answer(0.1, 1.0)
    assert none.startswith("Not quite: ")
    assert "2 set the scale of the signal; none of these has variance within [0.1, 10]" in none
    assert answer(1.0, 0.1, 1.0).startswith("Partly: ")
    assert "; 2 of these have variance within" in answer(1.0, 1.0, 0.1)
