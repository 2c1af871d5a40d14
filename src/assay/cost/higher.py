"""Branches and loops that torch has as operators run as the branches and loops that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def unrolled(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run `torch.cond` or `while_loop` operator by operator, as eager code would.

    Args:
        func: The higher-order operator.
        args: Its arguments.
        kwargs: Its keyword arguments.

    Returns:
        What it returns.

    Raises:
        NotImplementedError: If it is another one.
    """
    if func is torch.ops.higher_order.cond:
        predicate, true, false, operands = args
        return (true if predicate else false)(*operands)
    if func is torch.ops.higher_order.while_loop:
        goes_on, step, carried, more = args
        while goes_on(*carried, *more):
            carried = step(*carried, *more)
        return carried
    raise NotImplementedError(f"torch's higher-order operator {func} is not counted")
