"""Branches and loops that torch has as operators run as the branches and loops that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from assay.errors import CannotMeasure, verbatim


def unrolled(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run `torch.cond` or `while_loop` operator by operator, as eager code would.

    Args:
        func: The higher-order operator.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        What it returns.

    Raises:
        CannotMeasure: If it is another one.
    """
    if func is torch.ops.higher_order.cond:
        predicate, true, false, operands = args
        return (true if predicate else false)(*operands)
    if func is torch.ops.higher_order.while_loop:
        goes_on, step, carried, more = args
        while goes_on(*carried, *more):
            carried = step(*carried, *more)
        return carried
    raise CannotMeasure(
        "forward",
        verbatim(f"torch's higher-order operator {func}, which assay does not take apart"),
        "code of plain operators, or torch.cond and while_loop",
        "Write the loop out in Python to have it counted; what it computes is the same.",
    )
