"""One run with data, where that is cheap: does the model run at all, and as it does without?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from assay.builder import Builder
from assay.cost.known import LOAD
from assay.cost.probe import Probe
from assay.cost.tally import BACKWARD, FLOPS, FORWARD
from assay.errors import AssayError, UserCodeError, said, say
from assay.finding import Finding, Number
from assay.where import raised_at

if TYPE_CHECKING:
    from assay.cost.cost import Cost

_OPERATIONS, _BYTES = 1e9, 1 << 28  # that a run may take: about a second
# what this machine lacks says nothing about the model
_LACKS = ("not implemented for", "alloc", "memory", "cuda", "device", "backend", "not compiled")

_TYPES = ("same dtype", "scalar type", "found dtype", "expected dtype")  # in torch's own words


def with_data(builder: Builder, cost: Cost) -> tuple[Finding, ...]:
    """What one run with data says against formulas that were derived without.

    The meta device checks neither dtypes nor changes in place, and code may ask where its tensors are.

    Args:
        builder: The builder.
        cost: Its formulas.

    Returns:
        A finding where the model raises, or its flops are others; nothing where a run is too dear, or where
        only this machine cannot run it.
    """
    at = builder.sizes
    total = (cost.operations.total, cost.peak_bytes)
    if cost.way == "real" or not all(formula.holds(**at) for formula in total):
        return ()
    if cost.operations.total(**at) > _OPERATIONS or cost.peak_bytes(**at) > _BYTES:
        return ()
    probe = Probe(builder)
    probe.way = "real"
    try:
        probe.run(at)
        tally = probe(at)
    except UserCodeError as error:
        text = said(error.error)
        who = "the loss" if error.argument == "loss" else "the model"
        if any(lack in text.lower() for lack in _LACKS):
            return ()
        return (
            _finding(
                "does-not-run",
                at,
                f"{who} raises {text.rstrip('.')}",
                "it to run",
                text,
                error.error,
            ),
        )
    except AssayError:
        return ()
    # fused kernels compute scores again on the way back; with data, on a CPU, nothing does
    for phase in (FORWARD,) if cost.fused else (FORWARD, BACKWARD):
        counted = sum(v for k, v in tally.counts.items() if (k.quantity, k.phase) == (FLOPS, phase))
        claimed = getattr(cost.flops, phase)(**at)
        if counted != claimed:
            told = f"the model computes {counted:,} flops {phase}"
            finding = _finding("other-path", at, told, f"{claimed:,} flops", f"{counted:,}", None)
            if not cost.masks:
                return (finding,)
            repair = f"Give as `{LOAD}` how many entries you expect the masks to select."
            return (replace(finding, severity="note", repair=repair),)
    return ()


def _repair(text: str) -> str:
    """What to do about what torch raised."""
    if any(sign in text.lower() for sign in _TYPES):
        return (
            "Give both the same type: `.float()` on inputs and targets (numpy's numbers are float64), or "
            "`model.double()`."
        )
    return (
        "Run the model alone on these inputs, and repair what raises: the formulas were derived without "
        "data, where neither dtypes nor changes in place are checked."
    )


def _finding(
    kind: str,
    at: dict[str, int],
    told: str,
    expected: str,
    measured: str,
    error: BaseException | None,
) -> Finding:
    return Finding(
        f"cost.{kind}",
        f"The formulas are those of passes without data. With data, at {say(at)}, {told}.",
        Number(expected, "", "formula"),
        Number(measured, "", "measured"),
        "warning",
        _repair(measured)
        if error is not None
        else "Look for code that asks on which device its tensors are, or that remembers earlier runs.",
        raised_at(error) if error is not None else None,
        theory="C3",
    )
