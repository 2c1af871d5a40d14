"""One run with data: a model that does not run, or takes another path, is not passed on a formula alone."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from assay.builder import Builder
from assay.cost.cost import cost_of
from assay.errors import CannotMeasure


class Runs(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.layer, self.run = nn.Linear(4, 4), run

    def forward(self, x):
        return self.run(self, x)


def normal(b):
    return torch.randn(b, 4)


def rules(run, inputs=normal):
    def build(b: int = 2):
        return Runs(run), inputs(b)

    cost = cost_of(Builder(build))
    assert cost.status == "exact"
    return [(f.rule, f.severity) for f in cost.findings], cost


def changed_in_place(s, x):
    h = s.layer(x).exp()
    h += 1
    return h


def test_a_change_in_place_that_torch_refuses_is_found():
    found, cost = rules(changed_in_place)
    assert found == [("cost.does-not-run", "warning")]
    assert "modified by an inplace operation" in cost.findings[0].message
    assert "Run the model alone on these inputs" in cost.findings[0].repair


def test_a_dtype_that_the_meta_device_does_not_check_is_found():
    for dtype in (torch.long, torch.float64):
        found, cost = rules(
            lambda s, x: s.layer(x), lambda b, dtype=dtype: torch.ones(b, 4, dtype=dtype)
        )
        assert found == [("cost.does-not-run", "warning")]
        assert "`.float()` on inputs" in cost.findings[0].repair


def test_another_path_with_data_is_found():
    found, cost = rules(lambda s, x: s.layer(x) if x.is_meta else s.layer(s.layer(x)))
    assert found == [("cost.other-path", "warning")]
    assert (cost.findings[0].expected.value, cost.findings[0].measured.value) == ("64 flops", "128")


def test_what_runs_is_not_talked_about():
    assert rules(lambda s, x: s.layer(x).relu())[0] == []
    assert rules(lambda s, x: checkpoint(s.layer, x, use_reentrant=False))[0] == []


def test_what_this_machine_lacks_is_no_fault_of_the_model():
    def lacking(s, x):
        if not x.is_meta:
            raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Float8'")
        return s.layer(x)

    assert rules(lacking)[0] == []


def test_a_ready_model_is_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost_of(Builder((model, torch.randn(3, 4))))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_masks_that_select_otherwise_than_load_are_a_note():
    def build(b: int = 16, load: int = 4):
        return Runs(lambda s, x: s.layer(x[x[:, 0] > -10])), normal(b)

    found = {finding.rule: finding for finding in cost_of(Builder(build)).findings}
    finding = found["cost.other-path"]
    assert finding.severity == "note"
    assert "Give as `load`" in finding.repair


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's advice to leave it
def test_torchscript_has_a_formula_where_it_is_made_afresh_and_none_where_it_was_made_before():
    def made():
        return torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

    ready = made()
    with pytest.raises(CannotMeasure, match="inside the function that builds it"):
        cost_of(Builder(lambda b=2: (ready, torch.randn(b, 4))))
    cost = cost_of(Builder(lambda b=2: (made(), torch.randn(b, 4))))
    assert str(cost.flops.forward) == "32*b"
