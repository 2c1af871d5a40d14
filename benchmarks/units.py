"""Units: every figure of docs/units.md, and what a card takes.

One card of each optimizer in torch.optim, with its seconds on one core (the page says: under ten); Adam's
leak through ε; what bfloat16 does to Muon; and a card of one's own model on a table that scikit-learn ships,
features in the units that they were collected in.

Run: python benchmarks/units.py   (about a minute on one core)
"""

from __future__ import annotations

import functools
import math
import time

import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.nn import functional as F

import assay
from assay.update.change import ROWS
from assay.update.feeding import find_feeding
from assay.update.table import optimizers_of
from assay.update.trajectory import Setting, Trajectory, train
from assay.update.units_card import UnitsCard
from assay.update.verdict import compare
from assay.update.world import Problem

MARKS = {"invariant": "✓", "not invariant": "✗", "undetermined": "?"}


def cards() -> float:
    """The table, and the seconds of the slowest card."""
    print(f"{'':<12}{'s':>6}   " + "  ".join(f"{row:<13}" for row in ROWS))
    slowest = 0.0
    for name, find in optimizers_of("torch.optim").items():
        start = time.perf_counter()
        card = assay.audit_units(find(), name=name)
        seconds = time.perf_counter() - start
        slowest = max(slowest, seconds)
        marks = (f"{MARKS[v.verdict]} {v.deviation:<11.1e}" for v in card.verdicts.values())
        print(
            f"{name:<12}{seconds:>6.1f}   " + "  ".join(marks) + f"  {card.lr_unit[:60]}",
            flush=True,
        )
    return slowest


def leaks() -> None:
    """Adam's loss unit, at several ε."""
    print("\nAdam, loss unit: deviation at ε")
    for eps in (1e-4, 1e-6, 1e-8, 1e-10, 0.0):
        verdict = assay.audit_units(functools.partial(torch.optim.Adam, eps=eps))["loss unit"]
        print(f"  {eps:<8.0e}{verdict.deviation:>9.1e}  {verdict.verdict:<14} {verdict.law}")


def casts() -> None:
    """How far Muon's casts to bfloat16 alone move its trajectory."""
    problem = Problem()
    setting = Setting(torch.optim.Muon, "Muon", problem)
    feeding = find_feeding(setting, problem.world()).feeding

    def run(wide: bool) -> Trajectory:
        return train(
            Setting(torch.optim.Muon, "Muon", problem, feeding, wide=wide), problem.world()
        )

    apart = compare(run(True), run(False)).last
    print(f"\nMuon with its casts to bfloat16 against without: {apart:.1e} of the movement")


def first_gradient() -> None:
    """L-BFGS' first step is min(1, 1/Σ|G|) η G: Σ|G| on the reference problem."""
    problem = Problem()
    world = problem.world()
    model = world.network(False)
    world.loss(model, problem.batches()[0]).backward()
    total = math.fsum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None)
    print(f"L-BFGS: Σ|G| of the first batch is {total:.1f}")


def own() -> UnitsCard:
    """Which units of the wine table matter to Adam."""
    wine = load_wine()
    x, y = torch.tensor(wine.data, dtype=torch.float32), torch.tensor(wine.target)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))
    subject = assay.Subject(model, x, loss=lambda scores: F.cross_entropy(scores, y))
    start = time.perf_counter()
    card = assay.audit_units(functools.partial(torch.optim.Adam, lr=1e-3), subject)
    print(
        f"\nwine, 13 features, Adam at 1e-3 ({time.perf_counter() - start:.1f} s): {card.view().answer}"
    )
    for f in card.features:
        name = wine.feature_names[f.index]
        print(
            f"  {name:<30} mean {f.mean:>8.3g}  std {f.std:>8.3g}  standardised: {f.standard:.1e}"
        )
    return card


def main() -> None:
    """Print everything."""
    torch.set_num_threads(1)
    print(f"\nslowest card: {cards():.1f} s")
    leaks()
    casts()
    first_gradient()
    own()


if __name__ == "__main__":
    main()
