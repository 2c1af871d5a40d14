"""Optimizers that depend on no units: imported on first use, like everything of assay's."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.optim.calibrate import calibrate_
    from assay.optim.unit_muon import UnitMuon
    from assay.optim.unit_sgd import UnitSGD

_HOME = {"UnitMuon": "unit_muon", "UnitSGD": "unit_sgd", "calibrate_": "calibrate"}

__all__ = ["UnitMuon", "UnitSGD", "calibrate_"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'assay.optim' has no attribute {name!r}")
    return getattr(import_module(f"assay.optim.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
