"""Memory that a pass with data will take: told before it is run."""

import pytest
import torch
from torch import nn

from assay import derive_cost
from assay.cost import samples
from assay.cost.foretold import foretold


@pytest.mark.parametrize("power", [0, 1, 2, 4])
def test_a_power_law_is_continued(power):
    peaks = {(2, x): 1000 * x**power for x in (4, 8, 16)}
    assert foretold((2, 64), peaks) == pytest.approx(1000 * 64**power, rel=1e-6)


def test_sizes_that_grow_together_multiply():
    peaks = {(2, 4): 100, (2, 8): 400, (4, 4): 200, (8, 4): 400}
    assert foretold((2, 16), peaks) == 1600
    assert foretold((16, 16), peaks) == 100 * 8 * 16
    assert foretold((1, 2), peaks) == 0  # nothing is below


class Looking(nn.Module):
    """Attention that looks at values, so that it is run with data."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = self.linear(x)
        if float(y.detach().abs().sum()) < 0:
            return y
        return (y @ y.transpose(1, 2)).softmax(-1) @ y


def test_a_model_that_looks_at_values_is_not_run_where_memory_will_not_last(monkeypatch):
    longest = [0]

    def build(b: int = 2, n: int = 6):
        longest[0] = max(longest[0], n)
        return Looking(), torch.randn(b, n, 4)

    free = derive_cost(build)
    assert (free.way, longest[0] > 100) == ("real", True)
    longest[0] = 0
    monkeypatch.setattr(samples, "_bytes_for_data", lambda: 100_000.0)
    tight = derive_cost(build)
    assert longest[0] < 80  # attention of 80 rows has 6,400 numbers in several tensors
    assert str(tight.flops.forward) == str(free.flops.forward)
    assert all(sizes["n"] < 80 for sizes in tight.checked)


class Noisy(nn.Module):
    """Has a weight made by a constructor that does not ask for the device."""

    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.FloatTensor(d, d))

    def forward(self, x):
        return x @ self.weight


def test_what_is_built_with_data_before_it_is_counted_is_not_built_where_memory_will_not_last(
    monkeypatch,
):
    widest = [0]

    def build(b: int = 2, d: int = 6):
        widest[0] = max(widest[0], d)
        return Noisy(d), torch.randn(b, d)

    monkeypatch.setattr(samples, "_bytes_for_data", lambda: 100_000.0)
    cost = derive_cost(build)
    assert (cost.way, widest[0] < 160) == ("meta", True)  # 160 * 160 floats are 100,000 bytes
    assert str(cost.flops.forward) == "2*b*d**2"
