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
        "nothing to draw again: the weights keep the mean square already. Unit variance (2.934/fan-in"
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


def test_weights_that_are_too_wide_are_not_named_where_the_signal_is_too_small():
    torch.manual_seed(0)
    model, x = mlp(6, 128, init=centred), torch.randn(256, 128)
    nn.init.normal_(model[-1].weight, std=128**-0.5)
    nn.init.normal_(model[0].weight, std=0.3)
    for k in (4, 6, 8):
        nn.init.normal_(model[k].weight, std=0.01)
    found = [f for f in measure_scale((model, x)).findings if f.rule == "scale.forward-variance"]
    assert ["model[4].weight" in f.repair for f in found if "shrinks" in f.message] == [True]


def test_what_makes_the_signal_small_between_layers_goes_into_the_width_of_each():
    class Smaller(nn.Module):
        """A sum with something else, whose size nobody passes on: the layers before it are right."""

        def forward(self, x):
            return (x + x.flip(0)) * 0.05

    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(128, 128) for _ in range(5)))
    for layer in model:
        nn.init.normal_(layer.weight, std=128**-0.5)
        nn.init.zeros_(layer.bias)
    model.insert(2, Smaller())
    nn.init.normal_(model[-1].weight, std=0.01)  # the head, which has nothing to do with it
    repair = repairs(model, torch.randn(256, 128))["scale.forward-variance"]
    assert repair.startswith(
        "`nn.init.normal_(model[3].weight, std=1/math.sqrt(fan_in * x.square().mean()))` with the input x"
    )
