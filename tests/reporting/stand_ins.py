"""Stand-ins for the six rooms: the report is tested without measuring anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from assay.finding import Finding, Number, Result
from assay.subject import Subject
from assay.view.blocks import Block, View

PLACES = {
    "scale": ("assay.scale.measure", "measure_scale"),
    "highway": ("assay.highway.highways", "find_highways"),
    "cost": ("assay.cost.cost", "cost_of"),
    "step": ("assay.update.compare", "compare_steps"),
    "units": ("assay.update.audit", "audit_units"),
    "certificate": ("assay.certificate.certify", "certify"),
}


@dataclass(frozen=True, repr=False)
class Answer(Result):
    """A result that says what it was made to say."""

    name: str
    said: str = "All is well."
    blocks: tuple[Block, ...] = ()

    def view(self) -> View:
        title = self.name.capitalize()
        return View(title, f"What about {self.name}?", self.said, self.blocks, ("A convention.",))


def fact(severity: str = "warning", rule: str = "scale.variance", **more: Any) -> Finding:
    settings: dict[str, Any] = {
        "expected": Number(1.0, "1", "formula"),
        "measured": Number(5.1, "1", "measured"),
        "severity": severity,
    }
    return Finding(rule, f"A {severity} of `{rule}`.", **{**settings, **more})


class Rooms:
    """`rooms.calls` records what each room was asked; `rooms.set(name, …)` changes what it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.acts: dict[str, Callable[..., Result]] = {}
        for name, (module, function) in PLACES.items():
            fake = SimpleNamespace(**{function: self._caller(name)})
            monkeypatch.setitem(sys.modules, module, fake)

    def _caller(self, name: str) -> Callable[..., Result]:
        def call(*args: Any, **kwargs: Any) -> Result:
            self.calls[name] = args, kwargs
            return self.acts.get(name, lambda *a, **k: Answer(name))(*args, **kwargs)

        return call

    def set(self, name: str, act: Callable[..., Result] | Result | BaseException) -> None:
        def raising(*args: Any, **kwargs: Any) -> Result:
            raise act  # type: ignore[misc]

        if isinstance(act, BaseException):
            self.acts[name] = raising
        elif isinstance(act, Result):
            self.acts[name] = lambda *args, **kwargs: act
        else:
            self.acts[name] = act


def mlp(b: int = 2, d: int = 3) -> Subject:
    examples = torch.zeros(4, d), torch.zeros(4, dtype=torch.long)
    return Subject(nn.Linear(d, d), torch.ones(b, d), examples=examples)
