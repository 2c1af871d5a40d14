"""What norms keep under autocast: their statistics have 32 bits where their weights have."""

import pytest
import torch
from cost_twins import kept
from torch import nn

from assay import derive_cost


class Cast(nn.Module):
    """Layers under autocast."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.layers(x)


def tokens(b: int = 2, n: int = 8, d: int = 16):
    return Cast(nn.Linear(d, d), nn.LayerNorm(d)), torch.randn(b, n, d)


def groups(b: int = 2, h: int = 8, c: int = 4):
    return Cast(nn.Conv2d(3, 2 * c, 3), nn.GroupNorm(2, 2 * c)), torch.randn(b, 3, h, h)


def batches(b: int = 2, h: int = 8, c: int = 4):
    return Cast(nn.Conv2d(3, c, 3), nn.BatchNorm2d(c)), torch.randn(b, 3, h, h)


@pytest.mark.parametrize("build", [tokens, groups, batches])
def test_what_is_kept_is_what_a_run_with_data_keeps(build):
    cost = derive_cost(build)
    names = list(cost.base)
    for values in ((7, 9, 1), (1, 5, 3), (3, 12, 10)):
        sizes = dict(zip(names, values, strict=True))
        assert cost.saved_bytes(**sizes) == kept(build, **sizes)
