"""What each of two processes runs: the same training under DDP or FSDP2, each on half of every batch."""

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from assay.errors import UsageError
from assay.optim import UnitMuon, UnitSGD

STEPS, BATCH = 4, 16


def net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(7, 6), nn.Linear(6, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 3, bias=False)
    )
    return model.double()


def batch(i: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(i)
    y = torch.randn(BATCH, 3, generator=draw, dtype=torch.float64)
    return torch.randint(6, (BATCH,), generator=draw), y


def train(model, rows: slice, optimizer) -> None:
    for i in range(STEPS):
        x, y = batch(i)
        optimizer.zero_grad()
        (model(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()


def alone() -> dict[str, torch.Tensor]:
    """One process, whole batches."""
    model = net()
    optimizer = UnitSGD(model)
    train(model, slice(None), optimizer)
    return {name: p.detach() for name, p in model.named_parameters()} | {
        "mean": optimizer.state[model[1].weight]["mean"],
        "deviation": optimizer.state[model[1].weight]["deviation"],
    }


def main(way: str, folder: str) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    model = net()
    if way == "ddp":
        optimizer = UnitSGD(model)
        train(nn.parallel.DistributedDataParallel(model), half, optimizer)
        found = {name: p.detach() for name, p in model.named_parameters()}
    else:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        optimizer = UnitSGD(model)
        train(model, half, optimizer)
        found = {name: p.full_tensor().detach() for name, p in model.named_parameters()}
        refused(model)
    state = optimizer.state[model[1].weight]
    found |= {"mean": state["mean"], "deviation": state["deviation"]}
    torch.save(found, Path(folder) / f"{way}{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # threads of the backend are seen to abort a process that ends as usual


def refused(model: nn.Module) -> None:
    """An orthogonal step needs whole matrices, and says so."""
    optimizer = UnitMuon(model)
    optimizer.zero_grad()
    model(batch(0)[0]).square().mean().backward()
    with pytest.raises(UsageError, match="DTensor"):
        optimizer.step()


if __name__ == "__main__":
    main(*sys.argv[1:])
