"""Linear models on streams of raw features, with nothing to scale and nothing to tune (Theory U5, U8).

Needs numpy and scipy, not torch. numba compiles the loops where it is installed (`assay[online]`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.online.classifier import UnitClassifier
    from assay.online.merging import merge
    from assay.online.regressor import UnitRegressor

_HOME = {"UnitClassifier": "classifier", "UnitRegressor": "regressor", "merge": "merging"}

__all__ = ["UnitClassifier", "UnitRegressor", "merge"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'assay.online' has no attribute {name!r}")
    return getattr(import_module(f"assay.online.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
