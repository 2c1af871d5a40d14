"""Is a gate needed? Held-out accuracy on the task of examples/recurrent.py, after some steps of Adam.

A recurrent net reads n = 100 tokens and names the symbol that was written last. Rows: the cells of the
example, and the GRU and the LSTM once more after the line that `assay highway` prints as their repair.
Columns: steps of training; in each, one number for every seed.

Run: python benchmarks/highway.py [SEEDS]   (three seeds take about half an hour on one core)
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

import torch
from torch import nn

import assay

STEPS = (100, 150, 300)
LENGTH = 100


def repaired(model: nn.Module, subject: assay.Subject) -> nn.Module:
    """Run the repair that the finding on short memory prints."""
    for finding in assay.find_highways(subject).findings:
        if finding.rule == "highway.short-memory":
            exec(finding.repair, {"torch": torch, "model": model})
    return model


def accuracy(model: nn.Module, examples: assay.Examples) -> float:
    """The share of examples that the model gets right."""
    model.eval()
    with torch.no_grad():
        right = sum(int((~b.wrong(model(*b.inputs))).sum()) for b in examples.batches(1000))
    return right / len(examples)


def curve(
    target: str, seed: int, change: Callable[[nn.Module, assay.Subject], nn.Module]
) -> list[float]:
    """Accuracies of one run, after each number of steps."""
    torch.manual_seed(seed)
    subject = assay.load(target)(n=LENGTH)
    model, examples = change(subject.model, subject), assay.Examples.of(subject.examples)
    assert subject.fit is not None
    assert examples.holdout is not None
    found = []
    for steps in STEPS:  # runs of their own, so that Adam has one past
        torch.manual_seed(seed)
        fresh = assay.load(target)(n=LENGTH)
        fresh.model.load_state_dict(model.state_dict())
        fit = fresh.fit
        fit(fresh.model, examples, steps=steps)  # type: ignore[misc, call-arg]
        found.append(accuracy(fresh.model, examples.holdout))
    return found


def main(seeds: int) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    plain: Callable[[nn.Module, assay.Subject], nn.Module] = lambda model, subject: model  # noqa: E731
    rows = [
        ("tied residual, no gate", "tied_residual", plain),
        ("highway, keep bias 3", "highway", plain),
        ("GRU", "gru", plain),
        ("GRU after the repair", "gru", repaired),
        ("LSTM", "lstm", plain),
        ("LSTM after the repair", "lstm", repaired),
    ]
    print(f"{'':<24}" + "".join(f"{steps:>8} steps   " for steps in STEPS))
    for name, cell, change in rows:
        runs = [curve(f"examples/recurrent.py:{cell}", seed, change) for seed in range(seeds)]
        columns = zip(*runs, strict=True)
        print(
            f"{name:<24}" + "  ".join(" ".join(f"{v:.2f}" for v in c) for c in columns), flush=True
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
