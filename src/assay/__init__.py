"""assay measures a neural network from first principles, and repairs what it finds.

This file is the table of public names. They are imported on first use, so that `assay --help` and
`import assay` do not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assay._version import __version__

if TYPE_CHECKING:
    from assay import init, online, optim
    from assay.builder import Builder
    from assay.certificate.bounds import Bounds, bound
    from assay.certificate.certify import Certificate, certify
    from assay.certificate.verify import Verification, verify
    from assay.cost.cost import Cost, derive_cost, derive_fused_cost
    from assay.cost.formula import Formula
    from assay.cost.seconds import Seconds, measure_seconds
    from assay.errors import AssayError, CannotMeasure, UsageError, UserCodeError
    from assay.finding import Finding, Number, Result
    from assay.highway.highways import Highways, SkipPath, find_highways
    from assay.reporting.report import Report, report
    from assay.scale.measure import Scale, measure_scale
    from assay.subject import Examples, Subject
    from assay.target import load
    from assay.update.audit import UnitsCard, audit_units
    from assay.update.compare import Steps, compare_steps
    from assay.update.recorder import Recorder

_HOME = {
    "AssayError": "errors",
    "Bounds": "certificate.bounds",
    "Builder": "builder",
    "CannotMeasure": "errors",
    "Certificate": "certificate.certify",
    "Cost": "cost.cost",
    "Examples": "subject",
    "Finding": "finding",
    "Formula": "cost.formula",
    "Highways": "highway.highways",
    "Number": "finding",
    "Recorder": "update.recorder",
    "Report": "reporting.report",
    "Result": "finding",
    "Scale": "scale.measure",
    "Seconds": "cost.seconds",
    "SkipPath": "highway.highways",
    "Steps": "update.compare",
    "Subject": "subject",
    "UnitsCard": "update.audit",
    "UsageError": "errors",
    "UserCodeError": "errors",
    "Verification": "certificate.verify",
    "audit_units": "update.audit",
    "bound": "certificate.bounds",
    "certify": "certificate.certify",
    "compare_steps": "update.compare",
    "derive_cost": "cost.cost",
    "derive_fused_cost": "cost.cost",
    "find_highways": "highway.highways",
    "load": "target",
    "measure_scale": "scale.measure",
    "measure_seconds": "cost.seconds",
    "report": "reporting.report",
    "verify": "certificate.verify",
}

_ROOMS = ("init", "online", "optim")

__all__ = [
    "AssayError",
    "Bounds",
    "Builder",
    "CannotMeasure",
    "Certificate",
    "Cost",
    "Examples",
    "Finding",
    "Formula",
    "Highways",
    "Number",
    "Recorder",
    "Report",
    "Result",
    "Scale",
    "Seconds",
    "SkipPath",
    "Steps",
    "Subject",
    "UnitsCard",
    "UsageError",
    "UserCodeError",
    "Verification",
    "__version__",
    "audit_units",
    "bound",
    "certify",
    "compare_steps",
    "derive_cost",
    "derive_fused_cost",
    "find_highways",
    "init",
    "load",
    "measure_scale",
    "measure_seconds",
    "online",
    "optim",
    "report",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"assay.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(import_module(f"assay.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
