"""Targets for the tests of the command line: one that is well, and every way of not being well."""

import sys
import time

import torch
from torch import nn

import assay


def _digits():
    torch.manual_seed(1)
    x = torch.randn(64, 4)
    return assay.Examples(x, (x[:, 0] > 0).long(), name="half-spaces")


def _fit(model, examples, progress):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(examples.inputs[0]), examples.targets).backward()
        optimizer.step()
        progress("training", step + 1, 20)


def _loss(y):
    return nn.functional.cross_entropy(y, torch.zeros(len(y), dtype=torch.long, device=y.device))


def well(b: int = 4, d: int = 4):
    """A linear classifier, with examples and its own training loop."""
    return assay.Subject(nn.Linear(d, 2), torch.randn(b, d), loss=_loss, examples=_digits, fit=_fit)


def plain(b: int = 4, d: int = 8, *, act: str = "ReLU"):
    """Two layers, no loss, no examples."""
    return nn.Sequential(nn.Linear(d, d), getattr(nn, act)(), nn.Linear(d, d)), torch.randn(b, d)


def deep(b: int = 16, d: int = 16):
    """Thirty ReLU layers as torch initialises them: the signal dies."""
    layers = [module for _ in range(30) for module in (nn.Linear(d, d), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(b, d)


def builder_raises(b: int = 2):
    raise KeyError("no such corpus")


class _Raises(nn.Linear):
    def forward(self, x):
        return super().forward(x) @ torch.ones(7, 7)


def forward_raises(b: int = 2):
    return _Raises(3, 3), torch.ones(b, 3)


def nan(b: int = 2):
    return nn.Linear(3, 3), torch.full((b, 3), float("nan"))


def no_float(b: int = 2):
    class Ids(nn.Linear):
        def forward(self, x):
            return super().forward(x).argmax(-1)

    return Ids(3, 3), torch.ones(b, 3)


def vector_loss(b: int = 2):
    return nn.Linear(3, 3), torch.ones(b, 3), lambda y: y


def no_inputs(b: int = 2):
    return nn.Linear(3, 3)


def leaves(b: int = 2):
    sys.exit(0)


class _Leaves(nn.Linear):
    def forward(self, x):
        sys.exit(0)


def leaves_in_forward(b: int = 2):
    return _Leaves(3, 3), torch.ones(b, 3)


def leaves_in_loss(b: int = 2):
    return nn.Linear(3, 3), torch.ones(b, 3), lambda y: sys.exit(0)


def slow(b: int = 2):
    print("building", file=sys.stderr, flush=True)
    time.sleep(60)
