"""SGD that depends on no units (Theory U5, U8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from assay.errors import UsageError, verbatim
from assay.optim import fused as compiled
from assay.optim.base import Job, UnitOptimizer
from assay.optim.distributed import Group, local, total
from assay.optim.embedding import geometric, measure_tokens, step_plainly, step_tokens
from assay.optim.plan import Slot
from assay.optim.refuse import check_number
from assay.optim.rows import gradient_norms, is_fresh, step_rows, weight_norms
from assay.optim.whiten import HORIZON, Known, Whitening

KEEP = 0.99  # how much of the mean squares of gradients a step keeps


class UnitSGD(UnitOptimizer):
    """SGD in white units: no unit of the data, of hidden layers, of the loss or of the targets matters.

    With `μ`, `s` of each input (`s⁴ = E d⁴`, `d = x − μ`), `G = ∂loss/∂W`, `g_b = ∂loss/∂b` and
    sums m of both with momentum, the step of output i is

        Ĝ = (m_G − m_b μᵀ) / s,      ΔW[i] = −lr ‖W[i] s‖ / γ[i] · Ĝ[i] / s,
        Δb[i] = −lr ‖W[i] s‖ / γ[i] · m_b[i] − ΔW[i] μ,

    with γ[i] the root mean square over steps of the norm of the whitened gradient of output i. `lr` has no
    unit: it is the change of a row of weights that a gradient brings about at once, as a share of the row's
    size. In any other units the step is the same function `ΔW x + Δb`.

    Args:
        model: The model: its layers' inputs are watched by forward hooks, in training mode only.
        lr: Rate without a unit, below `1 − momentum`; for `rule="sheet"` any.
        momentum: Share of the running gradient that a step keeps; by default 0.9, and 0 for the sheet's rule.
        weight_decay: Decoupled: weights shrink by `lr · weight_decay`, and biases take up what that shifts.
        rule: "unit", or "sheet" for exactly `W[i,j] ← W[i,j] − (η / σ[j]²) g[i] x[j]`.
        sigma: For the sheet's rule: σ of the inputs of a weight over the training distribution, by the
            weight's name, `[inputs]`; running ones where not given.
        zero_rows: What a row of weights that are all 0 counts as having for a size, in the unit of its
            output: it has none of its own. "raise" to refuse such rows.
        fused: Step large matrices by compiled code: True, False, or by default where numba is installed
            (`pip install 'assay[online]'`) and the weight is on a CPU. True elsewhere asks `torch.compile`.
        params: What to train, as any torch optimizer takes it; by default all that requires gradients.
        process_group: Over which ranks statistics are merged: None for all of them, False for none.

    Raises:
        UsageError: If an option is impossible, or `model` is not a module.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        >>> optimizer = UnitSGD(net)
        >>> x = torch.randn(16, 3) * torch.tensor([1e-6, 1.0, 1e6])
        >>> net(x).square().mean().backward()
        >>> optimizer.step()
        >>> print(optimizer.rules[0])
        0.weight: linear
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float | Tensor = 0.01,
        momentum: float | None = None,
        weight_decay: float = 0.0,
        *,
        rule: Literal["unit", "sheet"] = "unit",
        sigma: Mapping[str, Tensor] | None = None,
        zero_rows: float | Literal["raise"] = 1.0,
        fused: bool | None = None,
        params: Iterable[Any] | None = None,
        process_group: Group = None,
    ) -> None:
        if rule not in ("unit", "sheet"):
            raise UsageError("rule", rule, '"unit" or "sheet"', "Leave it out for the unit rule.")
        if sigma is not None and rule != "sheet":
            raise UsageError(
                "sigma",
                verbatim("given"),
                'rule="sheet" beside it',
                "Leave sigma out, or name the rule.",
            )
        if momentum is None:
            momentum = 0.9 if rule == "unit" else 0.0
        self.rule = rule
        self._centre_all = rule == "sheet"  # σ is a spread about the mean (Theory U5)
        self._sigma = {} if sigma is None else dict(sigma)
        self._fused = None if fused is None else bool(fused)
        self._zero_rows = _checked_zero_rows(zero_rows)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(model, params, defaults, process_group)
        self._check_sigma()

    _steps_in_one = True  # whether the direction of a row depends on that row alone

    # checks -------------------------------------------------------------------------------------------

    def _check_group(self, group: dict[str, Any]) -> None:
        check_number(
            "momentum", group["momentum"], 0.0, 1.0, "a number from 0 to below 1", "Give 0.9."
        )
        check_number(
            "weight_decay",
            group["weight_decay"],
            0.0,
            math.inf,
            "a number of at least 0",
            "Give 0.",
        )
        top, expected = self._fastest(float(group["momentum"]))
        check_number("lr", group["lr"], 0.0, top, expected, "Give lr=0.01.")

    def _fastest(self, momentum: float) -> tuple[float, str]:
        """The bound of lr, and how to say it: a row must not be replaced within its momentum's memory."""
        if self.rule == "sheet":
            return math.inf, "a finite number of at least 0"
        top = round(1 - momentum, 12)
        return top, f"a number without a unit, from 0 to below 1 − momentum = {top:.3g}"

    def _check_sigma(self) -> None:
        known = {slot.name: slot for slot in self._slots if slot.ports}
        for name, value in self._sigma.items():
            if name not in known:
                listed = ", ".join(known) or "no weight at all"
                raise UsageError(
                    "sigma", name, f"the name of a weight with inputs ({listed})", "Rename it."
                )
            shape = (len(known[name].ports), known[name].ports[0].width)
            sigma = torch.as_tensor(value, dtype=torch.float64)
            if sigma.numel() != shape[0] * shape[1] or not bool((sigma >= 0).all()):
                raise UsageError(
                    f"sigma[{name!r}]",
                    value,
                    f"{shape[0] * shape[1]} numbers of at least 0",
                    "Give x.std(0).",
                )
            self._sigma[name] = sigma.reshape(shape)

    # what is measured ---------------------------------------------------------------------------------

    def _scales(self, slot: Slot, known: Known) -> Tensor:
        if self.rule == "unit":
            return known.scales()
        given = self._sigma.get(slot.name)
        return known.deviations() if given is None else given.to(known.mean.device)

    def _followed(
        self, slot: Slot, shape: torch.Size, dtype: torch.dtype
    ) -> tuple[Known | None, Whitening | None]:
        state = self._state_of(slot)
        batch = slot.ports[0].pending if len(slot.ports) == 1 else None
        quick = self.rule == "unit" and compiled.follows(self._fused, slot.weight)
        if not quick or batch is None or "mean" not in state or len(batch.mean) < compiled.WIDE:
            return super()._followed(slot, shape, dtype)
        return compiled.follow(
            state, batch, HORIZON, dtype, groups=shape[0], centred=slot.ports[0].centred
        )

    def _measure(self, job: Job) -> Generator[None]:
        slot, state = job.slot, self._state_of(job.slot)
        step = int(state.get("step", 0)) + 1
        if slot.kind == "embedding" and self.rule == "unit":
            weight = local(slot.weight.detach())
            assert job.table is not None
            job.more = measure_tokens(job.table, weight, slot.weight, state, step, KEEP)
            job.check = job.more["row"].sum()
            self._give_start(job, state)
            return
        if job.table is not None:
            job.check = job.table._values().sum() if job.table.is_sparse else job.table.sum()
            return
        weight = local(slot.weight.detach())
        if self.rule == "unit" and job.gradient is not None:
            wanted = compiled.wanted(self._fused, weight)
            job.fused = wanted and compiled.fits(weight, slot.view(weight), job.dtype)
        arguments = job.white, job.gradient, job.bias_gradient
        if job.fused:
            squares = yield from compiled.gradient_norms(*arguments)
        else:
            squares = gradient_norms(*arguments)
        if slot.kind == "whole":
            squares = total(squares, slot.weight)
        job.check = squares.sum()
        if self.rule == "unit":
            old = state["row"].double().square() if "row" in state else torch.zeros_like(squares)
            job.more["row"] = torch.lerp(old, squares, 1 / geometric(step, KEEP))
            job.more["size"] = self._sizes(job, state, step)
            self._give_start(job, state)

    def _sizes(self, job: Job, state: Mapping[str, Any], step: int) -> Tensor:
        if not is_fresh(step) and "size" in state:
            known: Tensor = state["size"].double()
            return known
        slot = job.slot
        measure = compiled.weight_norms if job.fused else weight_norms
        sizes = measure(self._ruler(job), slot.view(local(slot.weight.detach())), job.dtype)
        return total(sizes.square(), slot.weight).sqrt() if slot.kind == "whole" else sizes

    def _ruler(self, job: Job) -> Whitening:
        """The units in which a row of weights has its size."""
        return job.white

    def _give_start(self, job: Job, state: Mapping[str, Any]) -> None:
        """Rows of zeros have no size that a step could be a share of: give them one, and say so."""
        size, row = job.more["size"], job.more["row"]
        start = state.get("start")
        if start is not None:
            size = torch.maximum(size, start)
        stuck = None if bool(size.all()) else (size == 0) & (row > 0)
        if "step" not in state and not bool((job.white.scale > 0).any()):
            stuck = None  # after one row no feature has a scale yet
        if stuck is not None and bool(stuck.any()):
            slot = job.slot
            if self._zero_rows == "raise":
                raise UsageError(
                    f"parameter {slot.name}",
                    verbatim(f"zeros in {int(stuck.sum())} of {stuck.numel()} rows"),
                    "rows with a size, because a step is a share of it",
                    "Initialise them, or say what they count as having: zero_rows=1.0.",
                )
            start = torch.where(stuck, float(self._zero_rows), 0.0 if start is None else start)
            size = torch.maximum(size, start)
            self._tell(
                [slot],
                f"rows of zeros in {{}} have no size; they count as {float(self._zero_rows):g} in the unit "
                "of their output, which training therefore depends on",
            )
        if start is not None:
            job.more["start"] = start
        job.more["size"] = size

    # what is written ----------------------------------------------------------------------------------

    def _move(self, job: Job) -> Generator[None]:
        slot = job.slot
        anchor = self._anchor(slot)
        lr, decay = self._option(slot.weight, "lr"), self._option(slot.weight, "weight_decay")
        momentum, step = self._option(anchor, "momentum"), int(self.state[anchor]["step"])
        if job.table is not None:
            self._move_table(job, lr, lr * decay, momentum, step)
            return
        trained = slot.weight if id(slot.weight) in self._groups else None
        in_one = job.fused and trained is not None and self._steps_in_one and momentum > 0
        running = None if in_one else self._running(trained, job.gradient, momentum)
        of_bias = self._running(slot.bias, job.bias_gradient, momentum)
        if self.rule == "sheet":
            ones = torch.ones(1, 1, 1, 1, dtype=job.dtype, device=slot.weight.device)
            rate, bias_rate = ones * lr, ones * self._option(slot.bias, "lr")
        else:
            row = job.more["row"]
            whole_rate = torch.where(row > 0, job.more["size"] / row.sqrt(), 0.0)
            whole_rate = (whole_rate * self._gain(job, momentum, step))[:, :, None, None]
            rate = (whole_rate * lr).to(job.dtype)
            of_its_own = self._option(slot.bias, "lr")
            bias_rate = rate if of_its_own == lr else (whole_rate * of_its_own).to(job.dtype)
        weight = None if trained is None else slot.view(local(trained.detach()))
        if in_one:
            assert weight is not None
            assert job.gradient is not None
            buffer = slot.view(self._buffer(slot.weight, job.gradient))
            shift = yield from compiled.step_rows(
                job.white,
                weight,
                buffer,
                job.gradient,
                of_bias,
                rate,
                bias_rate,
                momentum,
                lr * decay,
            )
        else:
            direction, of_bias = self._direction(job, running, of_bias)
            shift = step_rows(job.white, weight, direction, of_bias, rate, bias_rate, lr * decay)
        if slot.bias is not None and shift is not None:
            bias = local(slot.bias.detach())
            if bias.dtype == shift.dtype:
                bias.add_(shift.view_as(bias))
            else:
                bias.copy_(bias.to(shift.dtype) + shift.view_as(bias))

    def _gain(self, job: Job, momentum: float, step: int) -> float:
        return gain(momentum, step)

    def _direction(
        self, job: Job, running: Tensor | None, of_bias: Tensor | None
    ) -> tuple[Callable[[slice], Tensor] | None, Tensor | None]:
        """Against which white weights and biases go, before rates."""
        if running is None:
            return None, of_bias

        def white(rows: slice) -> Tensor:
            bias = None if of_bias is None else of_bias[:, rows]
            return job.white.gradient(running[:, rows], bias)

        return white, of_bias

    def _running(self, p: Parameter | None, gradient: Tensor | None, keep: float) -> Tensor | None:
        """The running sum of a gradient, as torch.optim.SGD has it; without momentum the gradient."""
        if p is None or gradient is None or keep == 0:
            return gradient
        buffer = self._buffer(p, gradient)
        view = self._views.get(id(p))  # None for a bias
        seen = buffer.view(gradient.shape) if view is None else view(buffer)
        return torch.add(gradient, seen, alpha=keep, out=seen)

    def _buffer(self, p: Parameter, gradient: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(local(p), dtype=gradient.dtype)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _move_table(self, job: Job, lr: float, decay: float, momentum: float, step: int) -> None:
        slot, table = job.slot, job.table
        assert table is not None
        weight = local(slot.weight.detach())
        index = table.indices()[0] if table.is_sparse else None
        values = table.values() if table.is_sparse else table
        if decay:
            weight.mul_(1 - decay)
        if self.rule == "sheet":
            step_plainly(weight, values, index, lr)
            return
        if index is None:
            running = self._running(slot.weight, slot.view(table), momentum)
            assert running is not None
            step_tokens(
                weight,
                running[0, :, :, 0].t(),
                None,
                job.more,
                lr * self._gain(job, momentum, step),
            )
        else:  # rows that are not touched have no momentum, so the whole of it is taken at once
            step_tokens(weight, values, index, job.more, lr * self._gain(job, momentum, 1))


def gain(momentum: float, step: int) -> float:
    """What makes up for a running sum that has just begun.

    Args:
        momentum: Share that is kept.
        step: Steps taken, from 1.

    Returns:
        `1 / (1 − β^step)`.

    Example:
        >>> round(gain(0.9, 1), 6), gain(0.0, 1)
        (10.0, 1.0)
    """
    return 1 / (1 - momentum**step)


def _checked_zero_rows(value: Any) -> float | Literal["raise"]:
    if value == "raise":
        return "raise"
    check_number(
        "zero_rows", value, 0.0, math.inf, 'a positive number or "raise"', "Give zero_rows=1.0."
    )
    if float(value) == 0.0:
        raise UsageError("zero_rows", value, 'a positive number or "raise"', "Give zero_rows=1.0.")
    return float(value)
