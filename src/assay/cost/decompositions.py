"""Operations of direct matrix decompositions and of solving with them, counted from the algorithms.

What iterates until it converges (singular values, eigenvalues, a matrix's exponential) has no such count: its
work depends on values. A Fourier transform's is no polynomial. Both stay listed as uncounted.

Sources: sums over the loops of Golub and Van Loan, Matrix Computations, 3.1-3.2 and 4.2 (triangles, LU,
Cholesky); LAPACK Working Note 41, appendix C (Householder QR: GEQRF and ORGQR; POTRI).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


def _lu(m: int, n: int) -> int:
    """A division for each entry below a pivot, a product and a difference for each entry right below it."""
    k = min(m, n)
    divisions = k * m - k * (k + 1) // 2
    updates = sum((m - j) * (n - j) for j in range(1, k + 1))
    return divisions + 2 * updates


def _cholesky(n: int) -> int:
    """Half of the updates of LU, and a root for each pivot."""
    return n * (n + 1) * (2 * n + 1) // 6


def _qr(m: int, n: int) -> int:
    """Reflections until nothing is below the diagonal (GEQRF)."""
    if m >= n:
        return 2 * m * n**2 + m * n + n**2 + (14 * n - 2 * n**3) // 3
    return 2 * n * m**2 + 3 * n * m - m**2 + (14 * m - 2 * m**3) // 3


def _reflections(m: int, n: int, k: int) -> int:
    """The first n columns of the product of k reflections of length m (ORGQR)."""
    return 4 * m * n * k - 2 * (m + n) * k**2 + 3 * n * k - m * k - k**2 + (4 * k**3 - 4 * k) // 3


def _matrices(batch: Tensor) -> tuple[int, int, int]:
    """How many matrices, and their rows and columns."""
    m, n = int(batch.shape[-2]), int(batch.shape[-1])
    return batch.numel() // max(m * n, 1), m, n


def _each(one: Callable[[int, int], int]) -> Callable[..., int]:
    """As often as there are matrices in the first argument."""

    def operations(matrices: Tensor, *_: Any, **__: Any) -> int:
        count, m, n = _matrices(matrices)
        return count * one(m, n)

    return operations


def _both_triangles(n: int) -> int:
    """Forward with ones on the diagonal, back with pivots: for one right-hand side."""
    return n * (2 * n - 1)


def _triangle(matrices: Tensor, sides: Tensor, *_: Any, out: Tensor, **options: Any) -> int:
    n = int(matrices.shape[-1])
    return int(out.numel()) * (n - bool(options.get("unitriangular")))


def _solved(matrices: Tensor, *_: Any, out: tuple[Tensor, ...], **__: Any) -> int:
    count, n, n = _matrices(matrices)
    return count * _lu(n, n) + out[0].numel() * (2 * n - 1)


def _factors_solved(factors: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    return int(out.numel()) * (2 * int(factors.shape[-1]) - 1)


def _cholesky_solved(sides: Tensor, factors: Tensor, *_: Any, out: Tensor, **__: Any) -> int:
    return 2 * int(out.numel()) * int(factors.shape[-1])


def _qr_with_columns(matrices: Tensor, mode: str = "reduced", *_: Any, **__: Any) -> int:
    count, m, n = _matrices(matrices)
    k = min(m, n)
    made = 0 if mode == "r" else _reflections(m, m if mode == "complete" else k, k)
    return count * (_qr(m, n) + made)


def _columns(matrices: Tensor, factors: Tensor, *_: Any, **__: Any) -> int:
    count, m, n = _matrices(matrices)
    return count * _reflections(m, n, int(factors.shape[-1]))


_LOGARITHM = "about 5 N log2 N operations for N numbers are no polynomial"
_ITERATES = "it iterates until it converges"
UNCOUNTABLE: Mapping[str, str] = {  # why there is no count of them
    **dict.fromkeys(("_fft_c2c", "_fft_c2r", "_fft_r2c"), _LOGARITHM),
    **dict.fromkeys(
        (
            "_linalg_svd",
            "_linalg_eigh",
            "_linalg_eigvals",
            "linalg_eig",
            "linalg_matrix_exp",
            "linalg_pinv",
            "linalg_lstsq",
        ),
        _ITERATES,
    ),
}
DECOMPOSITIONS: Mapping[str, Callable[..., int]] = {
    "aten::linalg_cholesky_ex": _each(lambda m, n: _cholesky(n)),
    "aten::cholesky_inverse": _each(lambda m, n: n * (4 * n**2 + 3 * n + 5) // 6),
    "aten::cholesky_solve": _cholesky_solved,
    "aten::linalg_lu": _each(_lu),
    "aten::linalg_lu_factor_ex": _each(_lu),
    "aten::linalg_lu_solve": _factors_solved,
    "aten::_linalg_det": _each(lambda m, n: _lu(n, n) + n - 1),
    "aten::_linalg_slogdet": _each(lambda m, n: _lu(n, n) + 3 * n),  # a logarithm, a sign, sums
    "aten::linalg_inv_ex": _each(lambda m, n: _lu(n, n) + n * _both_triangles(n)),
    "aten::_linalg_solve_ex": _solved,
    "aten::linalg_solve_triangular": _triangle,
    "aten::linalg_qr": _qr_with_columns,
    "aten::geqrf": _each(_qr),
    "aten::linalg_householder_product": _columns,
}
