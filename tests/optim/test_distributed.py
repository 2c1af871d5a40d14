"""Several processes: weights the same bit for bit, and as if one process had seen everything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

WORKER = Path(__file__).parent / "distributed_worker.py"

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs gloo"
)


def launch(way: str, folder: Path) -> list[dict]:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"),
        *(str(WORKER), way, str(folder)),
    ]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(folder / f"{way}{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_two_processes_are_as_one(way, tmp_path):
    sys.path.insert(0, str(WORKER.parent))
    from distributed_worker import alone

    one, other = launch(way, tmp_path)
    whole = alone()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    for name, value in whole.items():
        assert torch.allclose(value, one[name], rtol=1e-9, atol=1e-12), name
