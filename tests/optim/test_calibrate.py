"""First weights in the data's units."""

import copy

import pytest
import torch
from torch import nn

from assay.errors import CannotMeasure, UsageError
from assay.optim import calibrate_
from assay.optim.refuse import NotFinite


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)
    ).double()


def test_it_is_the_model_that_is_drawn_on_standardised_data():
    x = torch.randn(64, 2, 2, dtype=torch.float64) * torch.tensor([[1.0, 1e6], [1e-6, 3.0]]) + 7
    model = net()
    plain, buffers = copy.deepcopy(model), copy.deepcopy(dict(model.named_buffers()))
    assert calibrate_(model, [(part, None) for part in x.split(16)]) == ("1.weight",)
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    assert torch.allclose(model[:2](x), plain[:2](standard), rtol=1e-8)
    assert all(torch.equal(a, b) for a, b in zip(buffers.values(), model.buffers(), strict=True))
    assert model.training
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("power", [-20, 3, 40])
def test_units_that_are_powers_of_two_come_out_bit_by_bit(power):
    x = torch.randn(64, 4, dtype=torch.float64)
    one, other = net(), net()
    other.load_state_dict(one.state_dict())
    calibrate_(one, [x])
    calibrate_(other, [x * 2.0**power])
    assert torch.equal(one[1].weight / 2.0**power, other[1].weight)
    assert torch.equal(one[1].bias, other[1].bias)


def test_constant_features_get_no_weight_and_keyword_arguments_work():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(3, 2)

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            return self.read(data)

    model = Named()
    x = torch.randn(16, 3)
    x[:, 1] = 5.0
    calibrate_(model, [{"data": x}])
    assert not model.read.weight[:, 1].any()
    model = Named()
    calibrate_(model, [("id", x)], inputs=lambda pair: pair[1])
    assert not model.read.weight[:, 1].any()


def test_what_is_refused():
    model = net()
    with pytest.raises(UsageError, match="at least one batch"):
        calibrate_(model, [])
    with pytest.raises(UsageError, match="Module"):
        calibrate_(model.parameters(), [])
    with pytest.raises(CannotMeasure, match="tokens have no unit"):
        calibrate_(nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2)), [torch.tensor([1, 2])])
    before = copy.deepcopy(model)
    with pytest.raises(NotFinite, match=r"1\.weight, feature 2"):
        calibrate_(model, [torch.tensor([[1.0, 2.0, float("nan"), 1.0]] * 3).double()])
    assert all(
        torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters(), strict=True)
    )
