"""Steps: every figure of docs/steps.md, and what a Recorder costs.

First the comparison that the page prints (three tanh layers, cross entropy). Then, for each example, one
training step without a Recorder, with one that is not due, and recorded, in turn, so that all see the same
machine: medians of many. "share" is what a record adds to training at one every 100 steps, the default.

Run: python benchmarks/steps.py [ROUNDS]   (about a minute on one core)
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

import assay

EXAMPLES = {  # target: sizes, batches as their own training loops draw them
    "examples/g2p.py:attention": {"b": 128},
    "examples/recurrent.py:gru": {"b": 64},
    "examples/recurrent.py:highway": {"b": 64},
    "examples/residual.py:resnet": {"b": 128},
}
EVERY = 100


def three_layers(b: int = 64, d: int = 32) -> assay.Subject:
    """Three tanh layers and a cross entropy."""
    x, y = torch.randn(b, d), torch.randint(0, 10, (b,))
    layers = [nn.Linear(d, d), nn.Tanh(), nn.Linear(d, d), nn.Tanh(), nn.Linear(d, 10)]
    return assay.Subject(nn.Sequential(*layers), x, loss=lambda u: F.cross_entropy(u, y))


class Training:
    """An example's model, batch and optimizer."""

    def __init__(self, target: str, sizes: dict[str, int]) -> None:
        torch.manual_seed(0)
        self.subject = assay.load(target)(**sizes)
        assert self.subject.optimizer is not None
        self.model, self.optimizer = (
            self.subject.model,
            self.subject.optimizer(self.subject.model),
        )

    def step(self) -> float:
        """One training step, in seconds."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        self.subject.backward(self.subject.forward())
        self.optimizer.step()
        return time.perf_counter() - start


def medians(training: Training, rounds: int) -> dict[str, float]:
    """Median seconds of a step without a recorder, with one that is not due, and of one that is recorded."""
    took: dict[str, list[float]] = {"plain": [], "not due": [], "recorded": []}
    for _ in range(rounds):
        took["plain"].append(training.step())
        with assay.Recorder(training.model, training.optimizer, every=EVERY) as recorder:
            took["recorded"].append(training.step())
            took["not due"].append(training.step())
            assert (recorder.steps, recorder.recorded) == (2, 1)
    return {kind: statistics.median(values) for kind, values in took.items()}


def main(rounds: int) -> None:
    """Print everything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    adamw = lambda model: torch.optim.AdamW(model.parameters(), lr=1e-3)  # noqa: E731
    sgd = lambda model: torch.optim.SGD(model.parameters(), lr=0.01)  # noqa: E731
    rmsprop = lambda model: torch.optim.RMSprop(model.parameters(), lr=0.01)  # noqa: E731
    makers = {"SGD": sgd, "RMSProp": rmsprop, "AdamW": adamw}
    print(assay.compare_steps(makers, three_layers()).view().answer, end="\n\n")
    print(f"{'milliseconds':<30}{'step':>8}{'not due':>9}{'recorded':>10}{'share, %':>10}")
    for target, sizes in EXAMPLES.items():
        training = Training(target, sizes)
        for _ in range(5):
            training.step()
        found = medians(training, rounds)
        plain, idle, recorded = found.values()
        share = 100 * (recorded - plain) / plain / EVERY
        print(
            f"{target:<30}{1e3 * plain:>8.2f}{1e3 * idle:>9.2f}{1e3 * recorded:>10.2f}{share:>10.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
