"""What a step of UnitSGD costs: every figure of docs/optim.md about time and memory.

A perceptron of 10 million parameters (784–2048–2048–2048–10) on batches of 128, one core, against fused
AdamW in the same run. Times are process times, the least of several rounds that take turns, each a mean of 8
steps.

Run: OMP_NUM_THREADS=1 python benchmarks/optimizer_cost.py   (less than a minute)
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.optim import UnitSGD

ROUNDS, STEPS, BATCH = 6, 8, 128


class Training:
    """A model with its optimizer, and seconds per step of each part."""

    def __init__(
        self, make: Callable[[nn.Module], torch.optim.Optimizer], batch: int = BATCH
    ) -> None:
        torch.manual_seed(0)
        widths = (784, 2048, 2048, 2048)
        layers = [m for i, o in itertools.pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
        self.model = nn.Sequential(*layers, nn.Linear(2048, 10))
        self.optimizer = make(self.model)
        self.draw = torch.Generator().manual_seed(0)
        self.batch = batch
        self.step, self.whole = float("inf"), float("inf")

    def data(self) -> tuple[Tensor, Tensor]:
        """A fresh batch, so that gradients stay what they are in training."""
        x = torch.randn(self.batch, 784, generator=self.draw)
        return x, torch.randint(10, (self.batch,), generator=self.draw)

    def round(self) -> None:
        """Eight steps, timed."""
        step = whole = 0.0
        for _ in range(STEPS):
            x, y = self.data()
            start = time.process_time()
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            before = time.process_time()
            self.optimizer.step()
            end = time.process_time()
            step, whole = step + end - before, whole + end - start
        self.step, self.whole = min(self.step, step / STEPS), min(self.whole, whole / STEPS)

    def state_bytes(self) -> float:
        """Bytes of state a parameter, momentum left out; and with it."""
        count = sum(p.numel() for p in self.model.parameters())
        total = 0
        for state in self.optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, Tensor) and key != "momentum_buffer":
                    total += value.numel() * value.element_size()
        return total / count


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    makers: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
        "AdamW, fused": lambda m: torch.optim.AdamW(m.parameters(), fused=True),
        "SGD, momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9),
        "UnitSGD": UnitSGD,  # by numba
        "UnitSGD, eager": lambda m: UnitSGD(m, fused=False),
    }
    trainings = {name: Training(make) for name, make in makers.items()}
    for training in trainings.values():
        for _ in range(5):  # past the first 32 steps, in which sizes are measured every time
            training.round()
        training.step = training.whole = float("inf")
    for _ in range(ROUNDS):
        for training in trainings.values():
            training.round()
    first = trainings["AdamW, fused"]
    print(f"{'':<16}{'step':>8}{'/AdamW':>8}{'whole':>9}{'/AdamW':>8}{'bytes a parameter':>20}")
    for name, one in trainings.items():
        print(
            f"{name:<16}{one.step * 1e3:>6.1f}ms{one.step / first.step:>8.2f}{one.whole * 1e3:>7.1f}ms"
            f"{one.whole / first.whole:>8.2f}{one.state_bytes():>20.4f}"
        )
    print("(bytes of state without momentum; Adam's are both of its moments)")


if __name__ == "__main__":
    main()
