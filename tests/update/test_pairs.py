"""A loss written out, whose difference is of every output and every target."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay import Subject
from assay.update.broadcast import broadcast

N = 16
Y = torch.randn(N, generator=torch.Generator().manual_seed(0))
COLUMN = Y.reshape(N, 1)
WEIGHTS = torch.rand(N, generator=torch.Generator().manual_seed(1))


def said(loss: Callable[[Tensor], Tensor], *last: nn.Module, width: int = 1) -> str:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), *last)
    finding = broadcast(Subject(model, torch.randn(N, 4), loss=loss))
    return finding.message if finding else ""


@pytest.mark.parametrize(
    "loss",
    [
        lambda o: ((o - Y) ** 2).mean(),
        lambda o: ((Y - o) ** 2).mean(),
        lambda o: (o - Y).abs().mean(),
        lambda o: torch.rsub(o, Y).square().sum(),
        lambda o: (WEIGHTS * (o.sigmoid() - Y) ** 2).mean(),
        lambda o: torch.subtract(2 * o, Y).pow(2).mean(),
    ],
)
def test_a_column_minus_a_row_is_found(loss: Callable[[Tensor], Tensor]) -> None:
    assert "outputs of shape [16, 1] with targets of shape [16]" in said(loss)


def test_so_is_a_row_minus_a_column_and_a_column_of_several() -> None:
    flat = nn.Flatten(0)
    assert "[16] with targets of shape [16, 1]" in said(lambda o: (o - COLUMN).abs().mean(), flat)
    assert said(lambda o: ((o[:, :1] - Y) ** 2 * o[:, 1:].exp()).mean(), width=2)


def test_the_line_is_that_of_the_loss() -> None:
    def loss(o: Tensor) -> Tensor:
        error = o - Y
        return error.square().mean()

    finding = broadcast(Subject(nn.Linear(4, 1), torch.randn(N, 4), loss=loss))
    assert finding is not None
    assert finding.severity == "warning"
    assert finding.where is not None
    assert finding.where.code == "error = o - Y"


@pytest.mark.parametrize(
    "loss",
    [
        lambda o: ((o - COLUMN) ** 2).mean(),
        lambda o: ((o.squeeze(1) - Y) ** 2).mean(),
        lambda o: (
            (o.squeeze(1).unsqueeze(1) - Y.unsqueeze(0)).square().mean()
        ),  # all pairs, asked for
        lambda o: (o.squeeze(1)[:, None] - Y).square().mean(),
        lambda o: (o.flatten().view(-1, 1) - Y).square().mean(),
        lambda o: (Y[:, None] - o.flatten()).exp().mean(),
        lambda o: (o - o.T).square().mean(),
        lambda o: F.relu(1 - (o - o.flatten())).mean(),  # a ranking of the outputs
        lambda o: ((o - Y.mean()) ** 2).mean(),
        lambda o: ((o - Y[:3]) ** 2).mean(),  # quantiles of one output: not as many as examples
        lambda o: F.mse_loss(o, COLUMN),
    ],
)
def test_one_shape_and_all_pairs_on_purpose_are_silent(loss: Callable[[Tensor], Tensor]) -> None:
    assert said(loss) == ""


def test_targets_for_each_column_and_a_batch_of_one_are_silent() -> None:
    assert said(lambda o: ((o - Y[:4]) ** 2).mean(), width=4) == ""
    one = Subject(nn.Linear(4, 1), torch.randn(1, 4), loss=lambda o: ((o - Y[:1]) ** 2).mean())
    assert broadcast(one) is None


def test_what_the_model_does_itself_is_its_own() -> None:
    class Kernel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(4, 1)
            self.register_buffer("centres", torch.linspace(-1, 1, N))

        def forward(self, x: Tensor) -> Tensor:
            return -((self.map(x) - self.centres) ** 2)

    assert broadcast(Subject(Kernel(), torch.randn(N, 4), loss=lambda o: o.mean())) is None
