"""Optimizers: every figure of docs/optim.md about how well they train.

Four trainings in clean, standardised and mangled units. For SGD with momentum, Adam, Muon and UnitMuon the
rate is tuned in each of them: powers of two around a usual one, further while the best is at the edge, by
the validation loss of one seed. UnitSGD, and UnitMuon once more, have their one default rate everywhere. Then
five other seeds each, of which the test loss is computed once. Every finished run is a line of the results
file, and is not run again.

Run: python benchmarks/optimizers.py [--results optimizers.jsonl] [--only mlp letters]
(about an hour of one core)
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from optimizer_tasks import TASKS, Task
from torch import nn

from assay.errors import UsageError
from assay.optim import UnitMuon, UnitSGD

SEEDS = (1, 2, 3, 4, 5)
TUNING_SEED = 0
WARMUP = 20  # steps
# where the search for a rate begins
TUNED = {"SGD": 0.1, "Adam": 0.003, "Muon": 0.01, "UnitMuon": 0.06}
UNTUNED = {
    made.__name__: inspect.signature(made).parameters["lr"].default for made in (UnitSGD, UnitMuon)
}
STEP = 2.0


def make(name: str, rate: float, task: Task) -> list[torch.optim.Optimizer]:
    """The optimizers that train a task's model."""
    model = task.model
    if name == "SGD":
        return [torch.optim.SGD(model.parameters(), rate, momentum=0.9)]
    if name == "Adam":
        return [torch.optim.Adam(model.parameters(), rate)]
    if name == "Muon":
        # its authors' advice: matrices of hidden layers, and Adam for the rest, at one rate for both
        tables = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
        named = dict(model.named_parameters())
        mine = [n for n, p in named.items() if p.dim() == 2 and n not in {*tables, task.head}]
        rest = [p for n, p in named.items() if n not in mine]
        muon = torch.optim.Muon(
            [named[n] for n in mine], rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
        return [muon, torch.optim.Adam(rest, rate)]
    return [{"UnitSGD": UnitSGD, "UnitMuon": UnitMuon}[name](model, rate)]


def run(
    task_name: str, condition: str, name: str, rate: float, seed: int, test: bool
) -> dict[str, Any]:
    """Train once.

    Returns:
        Validation loss and seconds; the test loss where it is asked for.
    """
    torch.manual_seed(seed)
    task = TASKS[task_name][0](condition)
    optimizers = make(name, rate, task)
    draw = torch.Generator().manual_seed(seed)
    steps = task.epochs * sum(1 for _ in task.batches(torch.Generator().manual_seed(0)))
    shape = lambda t: min(1.0, (t + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * t / steps))  # noqa: E731
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, shape) for o in optimizers]
    start = time.process_time()
    for _ in range(task.epochs):
        for batch in task.batches(draw):
            for one in optimizers:
                one.zero_grad()
            (task.loss(batch) * task.loss_unit).backward()
            for one in (*optimizers, *schedules):
                one.step()
    seconds = time.process_time() - start
    found = {"validation": task.mean_loss(task.validation), "seconds": round(seconds, 2)}
    if test:
        found["test"] = task.mean_loss(task.test)
    return {k: v if math.isfinite(v) else math.inf for k, v in found.items()}


class Results:
    """Finished runs, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                one = json.loads(line)
                self.runs[one.pop("key")] = one

    def get(self, *arguments: Any) -> dict[str, Any]:
        """The result of a run, which is made where it is not there."""
        key = json.dumps(arguments)
        if key not in self.runs:
            try:
                found = run(*arguments)
            except (FloatingPointError, UsageError):  # it diverged, or its rate is refused
                found = {"validation": math.inf, "test": math.inf, "seconds": 0.0}
            self.runs[key] = found
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, **found}) + "\n")
            print(key, found, flush=True)
        return self.runs[key]


def tune(results: Results, task: str, condition: str, name: str) -> float:
    """The rate with the least validation loss: a walk in steps of two from the usual rate."""

    def loss(power: int) -> float:
        rate = TUNED[name] * STEP**power
        return float(results.get(task, condition, name, rate, TUNING_SEED, False)["validation"])

    best = min((-1, 0, 1), key=loss)
    while abs(best) < 12 and best != (better := min((best - 1, best, best + 1), key=loss)):
        best = better
    return TUNED[name] * STEP**best


def measure(results: Results, task: str, condition: str, show: Callable[[str], None]) -> None:
    """Every optimizer in one condition; prints a row of the table for each."""
    tests: dict[str, list[float]] = {}
    plan = [(name, True) for name in TUNED] + [(name, False) for name in UNTUNED]
    for name, tuned in plan:
        rate = tune(results, task, condition, name) if tuned else UNTUNED[name]
        runs = [results.get(task, condition, name, rate, seed, True) for seed in SEEDS]
        tests[name] = [one["test"] for one in runs]
        mean = statistics.fmean(tests[name])
        spread = statistics.stdev(tests[name]) if math.isfinite(mean) else math.nan
        ratios = "".join(
            f"{mean / statistics.fmean(tests[peer]):>9.3f}" if peer in tests else f"{'':>9}"
            for peer in ("Adam", "Muon")
        )
        shown = f"{rate:.2g}" if tuned else "default"
        seconds = statistics.fmean(one["seconds"] for one in runs)
        show(
            f"{task:<11}{condition:<13}{name:<9}{shown:>8}{mean:>9.4f} ±{spread:.4f}{ratios}{seconds:>8.1f}"
        )


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description="Train with many optimizers in many units.")
    parser.add_argument("--results", type=Path, default=Path("optimizers.jsonl"))
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    results, rows = Results(asked.results), []
    for task in asked.only:
        for condition in TASKS[task][1]:
            measure(results, task, condition, rows.append)
    head = f"{'task':<11}{'units':<13}{'':<9}{'rate':>8}{'test loss':>9}{'':>8}"
    print(f"\n{head}{'/Adam':>9}{'/Muon':>9}{'s':>8}")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
