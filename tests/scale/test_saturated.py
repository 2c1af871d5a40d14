"""Scores of attention against what 1/√d gives, in every form that attention is written in."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from assay import measure_scale

B, N, D = 8, 32, 64


class Attention(nn.Module):
    def __init__(self, form, width=1.0, scaled=True, mask=None):
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.head = (nn.Linear(D, D, bias=False) for _ in range(4))
        for layer in (self.q, self.k, self.v, self.head):
            nn.init.normal_(layer.weight, std=D**-0.5)
        for layer in (self.q, self.k):
            layer.weight.data.mul_(width)
        self.form, self.scale = form, D**-0.5 if scaled else 1.0
        self.register_buffer("mask", mask)

    def forward(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.form == "fused":
            return self.head(F.scaled_dot_product_attention(q, k, v, self.mask, scale=self.scale))
        if self.form == "before":
            s = (q * self.scale) @ k.transpose(-2, -1)
        elif self.form == "baddbmm":
            s = torch.baddbmm(torch.zeros(B, N, N), q, k.transpose(-2, -1), alpha=self.scale)
        else:
            s = q @ k.transpose(-2, -1) * self.scale
        s = s if self.mask is None else s + self.mask
        return self.head(s.softmax(-1) @ v)


FORMS = ["fused", "before", "after", "baddbmm"]


def saturated(model, x=None):
    x = torch.randn(B, N, D, generator=torch.Generator().manual_seed(1)) if x is None else x
    return next(
        (f for f in measure_scale((model, x)).findings if f.rule == "scale.saturated"), None
    )


def brute(width, scaled):
    """The mean over queries of the variance over keys, and of the sum of squared weights."""
    model = Attention("after", width, scaled)
    x = torch.randn(B, N, D, generator=torch.Generator().manual_seed(1))
    s = model.q(x) @ model.k(x).transpose(-2, -1) * model.scale
    return s.var(-1, correction=0).mean().item(), s.softmax(-1).square().sum(-1).mean().item()


@pytest.mark.parametrize("form", FORMS)
def test_a_forgotten_root_is_named_and_its_repair_heals(form):
    finding = saturated(Attention(form, scaled=False))
    assert finding.severity == "warning"
    variance, most = brute(1.0, False)
    assert finding.measured.value == pytest.approx(variance, rel=1e-3)
    assert most > 0.5
    assert finding.repair == "divide the scores by `math.sqrt(64)`, the root of the heads' width"
    assert saturated(Attention(form)) is None


@pytest.mark.parametrize("form", FORMS)
def test_wide_queries_and_keys_are_named_and_their_repair_heals(form):
    model = Attention(form, width=8.0)
    finding = saturated(model)
    assert finding.measured.value == pytest.approx(brute(8.0, True)[0], rel=1e-3)
    assert "math.sqrt" not in finding.repair
    for line in finding.repair.split(" and "):
        exec(line.strip("`"), {"model": model})
    assert saturated(model) is None


@pytest.mark.parametrize("form", ["fused", "before", "after"])
def test_masks_are_no_scores(form):
    assert saturated(Attention(form, mask=torch.full((N, N), -100.0).triu(1))) is None
    assert saturated(Attention(form, mask=torch.full((N, N), -torch.inf).triu(1))) is None


def test_packed_queries_and_keys_are_judged_too():
    def layer(width):
        torch.manual_seed(0)
        made = nn.TransformerEncoderLayer(D, 4, 128, 0.0, batch_first=True, norm_first=True)
        made.self_attn.in_proj_weight.data[: 2 * D] *= width
        return made

    assert saturated(layer(1.0)) is None
    finding = saturated(layer(12.0))
    assert finding.module == "self_attn"
    factor = float(finding.repair.rsplit(" ", 1)[1])
    assert "the rows of `model.self_attn.in_proj_weight`" in finding.repair
    assert saturated(layer(12.0 / factor)) is None


def test_the_bound_is_where_one_key_has_half_of_the_weight():
    torch.manual_seed(0)
    for n in (32, 256, 2048):
        s = math.sqrt(8 * math.log(n)) * torch.randn(400, n)
        assert 0.45 < s.softmax(-1).square().sum(-1).mean() < 0.7  # 1/2 for large n


def test_frozen_attention_is_somebodys():
    model = Attention("after", width=8.0)
    for layer in (model.q, model.k):
        layer.requires_grad_(False)
    assert saturated(model) is None
