"""Statistics over several machines: merged in the order of ranks, so that every rank has the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from assay.errors import UsageError, verbatim
from assay.optim.moments import Moments, merge

if TYPE_CHECKING:
    from assay.optim.plan import Slot
    from assay.optim.watch import Port

Group = Any  # None for all ranks, False for none of them, or a torch.distributed.ProcessGroup


def merge_over_ranks(ports: Sequence[Port], group: Group, device: torch.device) -> None:
    """Let every port have what all ranks saw: one all-gather of `Σ (1 + 4d)` numbers.

    Args:
        ports: The same on every rank.
        group: Over which ranks.
        device: Where the ranks exchange tensors.
    """
    if group is False or not dist.is_available() or not dist.is_initialized():
        return
    ranks = dist.get_world_size(group)
    if ranks == 1 or not ports:
        return
    mine = torch.cat([_packed(port) for port in ports]).to(device)
    all_of_them = [torch.empty_like(mine) for _ in range(ranks)]
    dist.all_gather(all_of_them, mine, group=group)
    start = 0
    for port in ports:
        end = start + 1 + 4 * port.width
        found = [p for p in (_unpacked(t[start:end], port.width) for t in all_of_them) if p.n > 0]
        port.pending = merge(found, [p.n for p in found]) if found else None
        start = end


def _packed(port: Port) -> Tensor:
    p = port.pending
    if p is None:
        return torch.zeros(1 + 4 * port.width, dtype=torch.float64)
    n = p.mean.new_tensor([p.n])
    return torch.cat([n, p.mean, p.second, p.third, p.fourth])


def _unpacked(row: Tensor, width: int) -> Moments:
    mean, second, third, fourth = row[1:].view(4, width).unbind()
    return Moments(float(row[0]), mean, second, third, fourth)


def local(tensor: Tensor) -> Tensor:
    """This rank's rows of a sharded tensor; any other tensor as it is."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, as FSDP2 makes of parameters."""
    return hasattr(tensor, "to_local")


def total(value: Tensor, parameter: Tensor) -> Tensor:
    """The sum of `value` over the ranks that share `parameter` out; in place.

    Args:
        value: The sum over this rank's rows.
        parameter: A parameter, sharded or not.

    Returns:
        The sum over all rows.
    """
    if is_sharded(parameter):
        dist.all_reduce(value, group=parameter.device_mesh.get_group())  # type: ignore[attr-defined]
    return value


def require_plain(slot: Slot, parameter: Tensor) -> None:
    """That a sharded weight is one whose rows can be stepped each by itself.

    Args:
        slot: The weight's slot.
        parameter: The weight.

    Raises:
        UsageError: If it is not.
    """
    if not is_sharded(parameter):
        return
    placements = parameter.placements  # type: ignore[attr-defined]
    by_rows = all(p.is_shard(0) for p in placements)
    fits = slot.kind in ("embedding", "scale", "whole") or slot.reading.by_rows
    if len(placements) != 1 or not by_rows or not fits:
        raise UsageError(
            f"parameter {slot.name}",
            verbatim(f"{slot.note}, placed as {placements}"),
            "a weight whose outputs are its first axis, sharded along it over one mesh axis "
            "(linear layers, ungrouped convolutions, recurrent layers, norms, embeddings)",
            "Leave this layer out of fully_shard, or train it with another optimizer (params=…).",
        )
