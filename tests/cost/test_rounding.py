"""A multiple of a size that floating-point numbers round to the other side is never told wrongly."""

import math

import pytest
import torch
from torch import nn

from assay import derive_cost
from assay.cost.law import Law
from assay.cost.piece import Range
from assay.cost.polynomial import Atom
from assay.cost.rounding import left_between, rounded

ROWS = {
    "0.7": lambda n: int(0.7 * n),
    "0.35": lambda n: int(0.35 * n),
    "up": lambda n: math.ceil(0.55 * n),
    "a tenth, up": lambda n: math.ceil(0.1 * n),
    "less 0.3": lambda n: int(n * (1 - 0.3)),
    "a third": lambda n: int(n * (1 / 3)) + 1,
    "a 49th": lambda n: int(n * (1 / 49)) + 1,
    "by a quotient": lambda n: int(n / 1.6),
    "nearest": lambda n: int(0.7 * n + 0.5),
    "to even": lambda n: round(0.7 * n),
    "for long ones": lambda n: int(0.7 * n) if n > 100 else n,
}
# more pieces than a formula may have lie between, or hardly any values without one that is rounded
REFUSED = {"a 49th": {1000}, "to even": {180, 1000}, "for long ones": {16, 175, 180}}


class Kept(nn.Module):
    """A layer of the first rows."""

    def __init__(self, rows, d):
        super().__init__()
        self.rows, self.linear = rows, nn.Linear(d, d)

    def forward(self, x):
        return self.linear(x[:, : self.rows(x.shape[1])])


@pytest.mark.parametrize("base", [16, 175, 180, 1000])
@pytest.mark.parametrize("name", ROWS)
def test_every_answer_is_what_python_rounds(name, base):
    rows = ROWS[name]

    def build(b: int = 2, n: int = base, d: int = 8):
        return Kept(rows, d), torch.randn(b, n, d)

    flops = derive_cost(build).flops.forward
    assert (flops.status == "refused") == (base in REFUSED.get(name, ()))
    answered = [n for n in range(1, 6000) if flops.holds(b=3, n=n, d=5)]
    assert base in answered or flops.status == "refused"
    assert [n for n in answered if flops(b=3, n=n, d=5) != 2 * 3 * 5 * 5 * rows(n)] == []


def test_a_floor_of_integers_has_no_end():
    def build(b: int = 2, n: int = 400, d: int = 8):
        return Kept(lambda n: 7 * n // 10, d), torch.randn(b, n, d)

    flops = derive_cost(build).flops.forward
    assert all(flops(b=1, n=n, d=2) == 8 * (7 * n // 10) for n in (90, 330, 10**9))


def test_values_that_are_tried_are_those_at_which_python_rounds_otherwise():
    atom = Atom("n", 0, 10, 7)
    otherwise = [n for n in range(1, 2000) if int(0.7 * n) != 7 * n // 10]
    assert set(otherwise[:2]) <= set(rounded(atom, 1))
    assert not set(otherwise) & set(range(1, 90))
    assert {n for n in otherwise if n > 400} & set(rounded(atom, 401))
    law = Law(Range(2), (atom,))
    assert left_between(law, 90, 16) == (90, 169)
    assert left_between(law, 90, 1000) == (731, 1289)
    assert left_between(law, 90, 170) == (170, 170)
    assert left_between(law, 91, 16) is None
