"""A skip is asked for where one fits and none is: around what keeps its width and its resolution."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import measure_scale

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # of MobileNetV2: expansion, width, blocks, stride


def normed(a, b, size=3, stride=1, groups=1, activation=nn.ReLU6):
    layer = nn.Conv2d(a, b, size, stride, size // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return nn.Sequential(layer, nn.BatchNorm2d(b), activation())


class Inverted(nn.Module):
    """A block of MobileNetV2: wide, by channels, narrow; with a skip where one fits, if it is wanted."""

    def __init__(self, a, b, stride, expansion, skips):
        super().__init__()
        wide = a * expansion
        first = [normed(a, wide, 1)] if expansion > 1 else []
        middle = normed(wide, wide, stride=stride, groups=wide)
        self.inside = nn.Sequential(*first, middle, normed(wide, b, 1, activation=nn.Identity))
        self.skip = skips and stride == 1 and a == b

    def forward(self, x):
        return x + self.inside(x) if self.skip else self.inside(x)


def mobile(skips=True):
    width = 16
    layers = [normed(3, width, stride=2)]
    for expansion, b, blocks, stride in STAGES:
        for k in range(blocks):
            layers.append(Inverted(width, b // 2, stride if k == 0 else 1, expansion, skips))
            width = b // 2
    layers += [normed(width, 640, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(640, 10)]
    return nn.Sequential(*layers)


class Basic(nn.Module):
    """A block of a ResNet: two convolutions, and a projection past them where the shape changes."""

    def __init__(self, a, b, stride):
        super().__init__()
        first = normed(a, b, stride=stride, activation=nn.ReLU)
        self.inside = nn.Sequential(first, normed(b, b, activation=nn.Identity))
        same = stride == 1 and a == b
        self.skip = nn.Identity() if same else normed(a, b, 1, stride, activation=nn.Identity)

    def forward(self, x):
        return F.relu(self.inside(x) + self.skip(x))


def resnet(blocks=2):
    layers, width = [normed(3, 16, activation=nn.ReLU)], 16
    for b, stride in ((16, 1), (32, 2), (64, 2), (128, 2)):
        for k in range(blocks):
            layers.append(Basic(width, b, stride if k == 0 else 1))
            width = b
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def plain(widths):
    pairs = zip((3, *widths), widths, strict=False)
    layers = [normed(a, b, activation=nn.ReLU) for a, b in pairs]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def backward(model, size=32):
    y = torch.arange(8)
    x = torch.randn(8, 3, size, size)
    scale = measure_scale((model, x, lambda scores: F.cross_entropy(scores, y)))
    return next(f for f in scale.findings if f.rule == "scale.backward-variance")


@pytest.mark.parametrize("seed", range(2))
def test_a_network_that_has_them_wherever_they_fit_is_not_asked_for_more(seed):
    torch.manual_seed(seed)
    found = backward(mobile())
    assert found.measured.value > 1e3
    assert found.severity == "note"
    assert found.repair.startswith("nothing that fits: skips go past what keeps its width")
    assert re.search(r"the 2[01] of 5[01] operators that no identity goes past", found.repair)


def test_the_same_without_its_skips_is_asked_for_them():
    torch.manual_seed(0)
    found = backward(mobile(skips=False))
    assert found.severity == "warning"
    assert found.repair == "add skip connections around the operators between them"


@pytest.mark.parametrize("seed", range(2))
def test_a_projection_is_a_skip(seed):
    torch.manual_seed(seed)
    model, y = resnet(), torch.arange(8)
    x = torch.randn(8, 3, 32, 32)
    found = measure_scale((model, x, lambda scores: F.cross_entropy(scores, y))).findings
    assert not any(f.fails for f in found)
    assert not any("add skip connections" in f.repair for f in found)


def test_layers_of_one_width_are_asked_for_skips_and_layers_of_many_for_projections():
    torch.manual_seed(0)
    assert backward(plain([16] * 18), 8).repair.startswith("add skip connections around")
    told = backward(plain(range(16, 34)), 8).repair
    assert told.startswith(
        "put skips with a projection, `x = project(x) + block(x)`, past the 17 oper"
    )
    assert "that have none and change the width" in told
