"""Columns of the model's own input beside what it looks up or makes."""

import pytest
import torch
from torch import nn

from assay import measure_scale

B = 256
RAW = torch.rand(B, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor(
    [1440.0, 2500, 365, 1]
)
CODES = torch.arange(B) % 12
STANDARD = (RAW - RAW.mean(0)) / RAW.std(0)


class Mixed(nn.Module):
    def __init__(self, first=True, normed=False):
        super().__init__()
        self.first = first
        self.table, self.norm = nn.Embedding(12, 4), nn.BatchNorm1d(8) if normed else nn.Identity()
        self.hidden, self.out = nn.Linear(8, 64), nn.Linear(64, 1)

    def forward(self, columns, codes):
        both = [columns.float(), self.table(codes)]
        x = torch.cat(both if self.first else both[::-1], dim=-1)
        return self.out(self.hidden(self.norm(x)).relu()).squeeze(1)


class Made(nn.Module):
    """Both are made by the model: its own widths are what is off."""

    def __init__(self):
        super().__init__()
        self.wide, self.table = nn.Linear(4, 4), nn.Embedding(12, 4)
        self.hidden, self.out = nn.Linear(8, 64), nn.Linear(64, 1)
        nn.init.normal_(self.wide.weight, std=500)

    def forward(self, columns, codes):
        x = torch.cat([self.wide(columns), self.table(codes)], 1)
        return self.out(self.hidden(x).relu())


def found(model, *inputs):
    torch.manual_seed(0)
    return {f.rule: f for f in measure_scale((model, inputs)).findings}


@pytest.mark.parametrize("first", [True, False])
def test_raw_columns_beside_an_embedding_are_to_be_standardised(first):
    torch.manual_seed(0)
    told = found(model := Mixed(first), RAW, CODES)
    assert "beside others, have mean square 7.0" in told["scale.forward-variance"].message
    for rule in ("scale.forward-variance", "scale.backward-variance"):
        assert "nn.init" not in told[rule].repair
    assert told["scale.forward-variance"].repair.startswith("standardise the model's input")
    assert told["scale.backward-variance"].repair.startswith(
        "first what `scale.forward-variance` says"
    )
    healed = found(model, STANDARD, CODES)
    assert not any("standardise" in f.repair for f in healed.values())
    assert not any(f.fails for f in healed.values())


def test_standard_columns_and_a_norm_behind_raw_ones_are_silent():
    assert not any("model's own" in f.message for f in found(Mixed(), STANDARD, CODES).values())
    assert not any(
        "model's own" in f.message for f in found(Mixed(normed=True), RAW, CODES).values()
    )


def test_columns_that_the_model_made_are_its_own_widths():
    told = found(Made(), STANDARD, CODES)["scale.forward-variance"]
    assert "model's own" not in told.message
    assert "model.wide.weight" in told.repair
