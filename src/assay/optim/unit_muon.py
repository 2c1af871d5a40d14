"""Muon in white units."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.errors import UsageError, verbatim
from assay.optim.base import Job
from assay.optim.distributed import Group, is_sharded
from assay.optim.orthogonal import orthogonalised
from assay.optim.unit_sgd import UnitSGD
from assay.optim.whiten import Whitening

FASTEST = 0.2  # the best rates seen were 0.06 to 0.12


class UnitMuon(UnitSGD):
    """Muon with inputs and gradients in white units: the step of a matrix is orthogonal, and has no units.

    As `UnitSGD`, but the running gradient of a matrix, whitened by its inputs on one side and by the size
    of each output's gradient on the other, is replaced by the nearest orthogonal matrix O:

        X[i] = [Ĝ[i], m_b[i]] / γ[i],      O = orthogonalised(X),      ΔW[i] = −lr ‖W[i] σ‖ O[i] / s.

    The bias stands as one more column. Singular values of O are √(outputs / columns), and `‖W[i] σ‖` is the
    size of the output: whichever way inputs vary together, a step changes no output by more than about `lr`
    of its size. Momentum is Nesterov's. Embeddings, norms and whatever has no rule are stepped as `UnitSGD`
    does. An orthogonal step costs about ten matrix products of the weight's own size.

    Args:
        model: The model: its layers' inputs are watched by forward hooks, in training mode only.
        lr: Rate without a unit, below 0.2.
        momentum: Share of the running gradient that a step keeps; of a matrix's, as Nesterov counts it.
        weight_decay: Decoupled: weights shrink by `lr · weight_decay`, and biases take up what that shifts.
        zero_rows: As for `UnitSGD`.
        fused: As for `UnitSGD`; it is the measuring of large matrices that is compiled.
        params: What to train, as any torch optimizer takes it; by default all that requires gradients.
        process_group: Over which ranks statistics are merged: None for all of them, False for none.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> optimizer = UnitMuon(net)
        >>> net(torch.randn(16, 3)).square().mean().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float | Tensor = 0.06,
        momentum: float = 0.8,
        weight_decay: float = 0.0,
        *,
        zero_rows: float | Literal["raise"] = 1.0,
        fused: bool | None = None,
        params: Iterable[Any] | None = None,
        process_group: Group = None,
    ) -> None:
        super().__init__(
            model,
            lr,
            momentum,
            weight_decay,
            zero_rows=zero_rows,
            fused=fused,
            params=params,
            process_group=process_group,
        )

    def _measure(self, job: Job) -> Generator[None]:
        if job.slot.kind == "matrix" and is_sharded(job.slot.weight):
            raise UsageError(
                f"parameter {job.slot.name}",
                verbatim("a DTensor"),
                "a whole matrix, because an orthogonal step needs all of its rows",
                "Train it with UnitSGD, or leave its layer out of fully_shard.",
            )
        yield from super()._measure(job)

    _steps_in_one = False

    def _ruler(self, job: Job) -> Whitening:
        # of the output, in the usual sense: with s, which is larger where features are seldom seen, rows that
        # read many such features would take longer steps than others
        known, units = job.known, job.white
        if known is None or not bool((known.count > 0).all()):
            return units
        deviations = known.deviations().view(units.scale.shape)
        return Whitening.of(deviations, None, job.dtype)

    def _fastest(self, momentum: float) -> tuple[float, str]:
        return FASTEST, f"a number without a unit, from 0 to below {FASTEST}"

    def _gain(self, job: Job, momentum: float, step: int) -> float:
        # an orthogonal matrix has the same size whatever the momentum was; the others take the mean of
        # gradients in place of the sum, so that `lr` is a share of the size in one step for all of them
        if job.slot.kind == "matrix":
            return 1.0
        return (1 - momentum) * super()._gain(job, momentum, step)

    def _direction(
        self, job: Job, running: Tensor | None, of_bias: Tensor | None
    ) -> tuple[Callable[[slice], Tensor] | None, Tensor | None]:
        if job.slot.kind != "matrix" or running is None:
            return super()._direction(job, running, of_bias)
        running, of_bias = self._ahead(job, running, of_bias)
        row = job.more["row"].sqrt()
        unit = torch.where(row > 0, 1 / row, 0.0)[:, :, None, None].to(job.dtype)
        size = row[:, :, None, None].to(job.dtype)  # the rate divides by it once more
        white = job.white.gradient(running, of_bias).mul_(unit)
        columns = white.flatten(2)
        if of_bias is not None:
            columns = torch.cat([columns, (of_bias * unit).flatten(2)], 2)
        step = orthogonalised(columns)
        if of_bias is not None:
            step, of_bias = step[:, :, :-1], step[:, :, -1:].unsqueeze(-1) * size
        whole = step.reshape(white.shape) * size
        return lambda rows: whole[:, rows], of_bias

    def _ahead(
        self, job: Job, running: Tensor, of_bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Nesterov's momentum: the gradient, and what will be left of the running sum."""
        keep = self._option(self._anchor(job.slot), "momentum")
        if keep == 0 or job.gradient is None:
            return running, of_bias
        running = torch.add(job.gradient, running, alpha=keep)
        if of_bias is not None and job.bias_gradient is not None:
            of_bias = torch.add(job.bias_gradient, of_bias, alpha=keep)
        return running, of_bias
