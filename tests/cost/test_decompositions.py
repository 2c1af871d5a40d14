"""Decompositions against their loops, written out and counted step by step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from assay import derive_cost
from assay.cost.convention import Rule
from assay.cost.decompositions import DECOMPOSITIONS

LENGTHS = st.integers(1, 9)


class Loops:
    """The algorithms of a textbook: every arithmetic operation on a number is counted."""

    def __init__(self):
        self.done = 0

    def __call__(self, count=1):
        self.done += count

    def lu(self, a):
        a = a.clone()
        m, n = a.shape
        for j in range(min(m, n)):
            for i in range(j + 1, m):
                a[i, j] /= a[j, j]
                self()
                for k in range(j + 1, n):
                    a[i, k] -= a[i, j] * a[j, k]
                    self(2)
        return a

    def cholesky(self, a):
        n = len(a)
        low = torch.zeros_like(a)
        for j in range(n):
            for i in range(j, n):
                rest = a[i, j].clone()
                for k in range(j):
                    rest -= low[i, k] * low[j, k]
                    self(2)
                low[i, j] = rest.sqrt() if i == j else rest / low[j, j]
                self()
        return low

    def triangle(self, low, sides, *, ones=False):
        x = sides.clone()
        for column in range(sides.shape[1]):
            for i in range(len(low)):
                for k in range(i):
                    x[i, column] -= low[i, k] * x[k, column]
                    self(2)
                if not ones:
                    x[i, column] /= low[i, i]
                    self()
        return x


def counted(func, *args, **kwargs):
    rule, out = Rule(func), func(*args, **kwargs)
    assert rule.known
    assert rule.kind == "other"
    return rule.operations(*args, out=out, **kwargs), out


def positive(n):
    a = torch.randn(n, n, dtype=torch.double)
    return a @ a.mT + n * torch.eye(n, dtype=torch.double)


@given(LENGTHS, LENGTHS)
def test_lu_with_any_shape(m, n):
    loops, a = Loops(), torch.randn(m, n, dtype=torch.double)
    loops.lu(a)
    operations, _ = counted(torch.ops.aten.linalg_lu_factor_ex.default, a)
    assert operations == loops.done
    batch, _ = counted(torch.ops.aten.linalg_lu_factor_ex.default, a.expand(3, 2, m, n))
    assert batch == 6 * operations


@given(LENGTHS)
def test_cholesky_does_what_its_loops_do(n):
    loops, a = Loops(), positive(n)
    low = loops.cholesky(a)
    operations, (made, _) = counted(torch.ops.aten.linalg_cholesky_ex.default, a)
    torch.testing.assert_close(low, made)
    assert operations == loops.done


@given(LENGTHS, LENGTHS, st.booleans())
def test_triangles(n, k, ones):
    low = positive(n).tril()
    if ones:
        low = low.tril(-1) + torch.eye(n, dtype=torch.double)
    loops, sides = Loops(), torch.randn(n, k, dtype=torch.double)
    x = loops.triangle(low, sides, ones=ones)
    solve = torch.ops.aten.linalg_solve_triangular.default
    operations, made = counted(solve, low, sides, upper=False, unitriangular=ones)
    torch.testing.assert_close(x, made)
    assert operations == loops.done


@given(LENGTHS, LENGTHS)
def test_solving_is_lu_and_two_triangles(n, k):
    loops, a = Loops(), positive(n)
    sides = torch.randn(n, k, dtype=torch.double)
    both = loops.lu(a)
    loops.triangle(both, sides, ones=True)
    loops.triangle(both.mT, sides)
    operations, _ = counted(torch.ops.aten._linalg_solve_ex.default, a, sides)
    assert operations == loops.done
    if n == k:
        assert counted(torch.ops.aten.linalg_inv_ex.default, a)[0] == loops.done


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 3), (60, 60), (90, 30), (30, 90)])
def test_qr_is_an_integer_near_the_number_of_its_reflections(m, n):
    k, applied, made = min(m, n), 0, 0
    for j in range(k):  # v'x and x - 2vv'x, for all columns right of it; the columns of Q alike
        applied += 4 * (m - j) * (n - j)
        made += 4 * (m - j) * (k - j)
    r, _ = counted(torch.ops.aten.linalg_qr.default, torch.randn(m, n), mode="r")
    both, _ = counted(torch.ops.aten.linalg_qr.default, torch.randn(m, n))
    assert all(isinstance(x, int) and x > 0 for x in (r, both))
    if k > 9:
        assert r == pytest.approx(applied, rel=0.05)
        assert both - r == pytest.approx(made, rel=0.05)


def test_every_name_is_an_operator_of_torch():
    for name in DECOMPOSITIONS:
        assert hasattr(torch.ops.aten, name.removeprefix("aten::"))


def test_a_model_that_solves_has_a_formula_of_all_arithmetic():
    class Gaussian(nn.Module):
        """The likelihood of a Gaussian process."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x, y):
            kernel = torch.exp(-torch.cdist(x, x) * self.scale) + torch.eye(len(x))
            low = torch.linalg.cholesky(kernel)
            return torch.cholesky_solve(y, low).mul(y).sum() + low.diagonal().log().sum()

    cost = derive_cost(lambda n=8: (Gaussian(), (torch.randn(n, 3), torch.randn(n, 1))))
    assert cost.uncounted == ()
    done = cost.breakdown("operator")["linalg_cholesky_ex"].operations.forward
    assert [done(n=n) for n in (1, 2, 10)] == [1, 5, 385]
    assert cost.operations.forward.degree("n") == 3


def test_what_has_no_polynomial_is_a_note_and_says_why():
    class Spectral(nn.Linear):
        def forward(self, x):
            return torch.fft.irfft(torch.fft.rfft(super().forward(x), dim=1), n=x.shape[1], dim=1)

    cost = derive_cost(lambda b=2, n=8: (Spectral(4, 4), torch.randn(b, n, 4)))
    found = {f.measured.value: f for f in cost.findings if f.rule == "cost.uncounted"}
    assert set(found) == {
        f"aten.{name}.default" for name in ("_fft_r2c", "_fft_c2r", "_fft_c2c")
    } & set(cost.uncounted)
    assert found
    for finding in found.values():
        assert finding.severity == "note"
        assert "log2 N" in finding.message
