"""The nearest orthogonal matrix, by Newton–Schulz (Jordan et al. 2024, Muon)."""

from __future__ import annotations

from torch import Tensor

STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # a quintic whose iterates stay near 1 from 1e-3 on


def orthogonalised(matrices: Tensor, steps: int = STEPS) -> Tensor:
    """Singular values brought to about √(m / n), singular vectors left as they are.

    Args:
        matrices: `[..., m, n]`.
        steps: Iterations.

    Returns:
        Matrices of the same shape, times √(m / n): inputs of size 1, whichever way they vary together,
        become outputs of size about 1 at most (the norm of Bernstein et al. 2024). Zeros stay zeros.

    Example:
        >>> import torch
        >>> values = torch.linalg.svdvals(orthogonalised(torch.randn(4, 16)))
        >>> bool(((values > 0.3) & (values < 0.65)).all())
        True
    """
    m, n = matrices.shape[-2:]
    x = matrices.mT if m > n else matrices
    size = x.square().sum((-2, -1), keepdim=True).sqrt()
    x = x / size.where(size > 0, 1.0)
    for _ in range(steps):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    x = x.mT if m > n else x
    scaled: Tensor = x * (m / n) ** 0.5
    return scaled
