"""Trainable parameters that training does not reach are named."""

import pytest
import torch
from torch import nn

from assay.scale.measure import measure_scale
from assay.subject import Subject


class Parts(nn.Module):
    """An encoder, a head, and a layer that may be used or not."""

    def __init__(self, join, *, use=False, both=False):
        super().__init__()
        self.encoder, self.head, self.extra = (nn.Linear(16, 16) for _ in range(3))
        self.join, self.use, self.both = join, use, both

    def forward(self, x):
        hidden = self.encoder(x)
        y = self.head(self.join(hidden))
        y = self.extra(y) if self.use else y
        return (y, hidden) if self.both else y


def found(model, *, loss=None):
    torch.manual_seed(0)
    findings = measure_scale(Subject(model, torch.randn(64, 16), loss=loss)).findings
    return {f.rule: f for f in findings if f.rule in ("scale.severed", "scale.unused")}


@pytest.mark.parametrize("join", [torch.Tensor.detach, torch.round, torch.sign])
def test_what_a_detach_cuts_off_is_a_warning_with_its_line(join):
    finding = found(Parts(join, use=True)).get("scale.severed")
    if join is torch.Tensor.detach:
        assert finding.severity == "warning"
        assert "encoder.bias, encoder.weight" in finding.message
        assert "hidden = self.encoder(x)" in finding.where.code
    else:  # their gradient is zero, which is a number
        assert finding is None


def test_a_layer_that_is_not_called_is_a_note():
    findings = found(Parts(nn.Identity()))
    assert findings.keys() == {"scale.unused"}
    assert findings["scale.unused"].severity == "note"
    assert "extra.bias, extra.weight" in findings["scale.unused"].message


def test_a_healthy_or_a_frozen_part_is_no_finding():
    assert not found(Parts(nn.Identity(), use=True))
    frozen = Parts(torch.Tensor.detach, use=True)
    frozen.encoder.requires_grad_(False)
    assert not found(frozen)


def test_of_several_outputs_only_a_loss_can_tell():
    several = Parts(torch.Tensor.detach, use=True, both=True)
    assert not found(several)
    assert found(several, loss=lambda out: out[0].square().mean()).keys() == {"scale.severed"}
    assert not found(several, loss=lambda out: sum(y.square().mean() for y in out))
