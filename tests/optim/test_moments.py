"""Moments, merged and running, are those of all rows together."""

import pytest
import torch
from torch import Tensor

from assay.optim.moments import Moments
from assay.optim.whiten import Known


def of_rows(rows: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    """Mean, second and fourth moment of weighted rows, as the definition has them."""
    weights = (weights / weights.sum())[:, None]
    mean = (weights * rows).sum(0)
    return mean, *((weights * (rows - mean) ** k).sum(0) for k in (2, 4))


def draw(n: int, seed: int) -> Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=made, dtype=torch.float64).exp() * 3 - seed


def test_merged_moments_are_those_of_the_union():
    one, other = draw(7, 1), draw(30, 2)
    found = Moments.of(one, centred=True).merged(Moments.of(other, centred=True))
    expected = of_rows(torch.cat([one, other]), torch.ones(37, dtype=torch.float64))
    for a, b in zip((found.mean, found.second, found.fourth), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize("keep", [1.0, 0.9, 0.0])
def test_running_moments_forget_by_weight(keep):
    """What is known is symmetric here, because its third moment is not kept."""
    half, batch = draw(8, 1), draw(5, 3)
    before = torch.cat([half, 2 * half.mean(0) - half])
    known = Known.nothing(1, 4, torch.device("cpu"))
    known = known.after([Moments.of(before, centred=True)])
    known = known.after([Moments.of(batch, centred=True)], keep)
    weights = torch.tensor([keep] * 16 + [1.0] * 5, dtype=torch.float64)
    expected = of_rows(torch.cat([before, batch]), weights)
    assert float(known.count) == 16 * keep + 5
    for a, b in zip((known.mean, known.second, known.fourth), expected, strict=True):
        torch.testing.assert_close(a[0], b, rtol=1e-12, atol=0)
