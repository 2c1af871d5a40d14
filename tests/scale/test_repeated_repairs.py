"""A repair is never what the weights have already."""

import torch
from scale_models import centred, kaiming, mlp
from torch import nn

from assay import measure_scale


def repairs(model, x):
    return {finding.rule: finding.repair for finding in measure_scale((model, x)).findings}


def test_weights_that_keep_the_mean_square_are_not_told_to_do_so():
    torch.manual_seed(0)
    model, x = mlp(80, 64, init=kaiming), torch.randn(256, 64)
    nn.init.normal_(model[-1].weight, std=64**-0.5)
    repair = repairs(model, x)["scale.forward-variance"]
    assert repair.startswith(
        "the weights keep the mean square already. Unit variance (2.934/fan-in"
    )


def test_the_first_layer_that_is_off_is_the_one_that_is_named():
    torch.manual_seed(0)
    model, x = mlp(6, 128, init=centred), torch.randn(256, 128)
    nn.init.normal_(model[-1].weight, std=128**-0.5)
    for k in (4, 6, 8):
        nn.init.normal_(model[k].weight, std=0.01)
    found = repairs(model, x)
    assert "model[4].weight" in found["scale.forward-variance"]
    assert "for 2 more" in found["scale.forward-variance"]


def test_one_layer_with_the_right_width_is_divided_by_what_was_measured():
    torch.manual_seed(0)
    model, x = nn.Linear(64, 64), torch.randn(256, 1) + 0.1 * torch.randn(256, 64)
    with torch.no_grad():
        model.weight -= model.weight.mean(
            1, keepdim=True
        )  # blind to what its inputs have in common
        model.weight /= 8 * model.weight.std()
    repair = repairs(model, x)["scale.forward-variance"]
    factor = float(repair.partition("`model.weight.data /= ")[2].partition("`")[0])
    assert "does not vary independently" in repair
    with torch.no_grad():
        model.weight /= factor
    assert "scale.forward-variance" not in repairs(model, x)
