"""What every measurement returns: facts that break an expectation, and a value that is its own report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from typing import Any, Literal, get_args

from assay.view.blocks import View
from assay.where import Location

Severity = Literal["error", "warning", "note"]
Method = Literal["formula", "measured", "bound"]


@dataclass(frozen=True)
class Number:
    """A number that says what it is: unit, convention and method (promise 1).

    Args:
        value: The number itself, or the text of a formula.
        unit: Its unit: "operations", "bytes", "bits", "1" for a pure ratio…
        method: "formula" (derived), "measured" (on this model) or "bound" (holds with a stated probability).
        convention: How it was counted, where there is more than one way.

    Example:
        >>> print(Number(2.934, "1", "formula"))
        2.934
        >>> print(Number(1955, "bits", "measured"))
        1955 bits
    """

    value: float | int | str
    unit: str
    method: Method
    convention: str = ""

    def __str__(self) -> str:
        text = f"{self.value:.4g}" if isinstance(self.value, float) else str(self.value)
        return text if self.unit in ("1", "") else f"{text} {self.unit}"


@dataclass(frozen=True)
class Finding:
    """One fact that breaks an expectation.

    Args:
        rule: Stable name, `pillar.rule`, as in "scale.variance".
        message: One sentence a reader understands without the table.
        where: The line of code, or None where there is none.
        module: Dotted path of the module, "" for the whole model.
        expected: The number from first principles.
        measured: The number on this model.
        severity: "error" and "warning" make the exit code 1; a "note" does not.
        repair: What to do, concretely: the line to write.
        theory: The row of the theory that it rests on, as in "S2".
        weight: Rank among findings of one severity; larger is first.

    Raises:
        ValueError: If `severity` is not one of the three, or `rule` has no pillar.
    """

    rule: str
    message: str
    expected: Number
    measured: Number
    severity: Severity = "warning"
    repair: str = ""
    where: Location | None = None
    module: str = ""
    theory: str = ""
    weight: float = 0.0

    def __post_init__(self) -> None:
        if self.severity not in get_args(Severity):
            raise ValueError(f"severity = {self.severity!r}: expected one of {get_args(Severity)}.")
        if "." not in self.rule:
            raise ValueError(f"rule = {self.rule!r}: expected 'pillar.rule'.")

    @property
    def fails(self) -> bool:
        """Whether it makes the exit code 1."""
        return self.severity != "note"


def ranked(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Findings in the order in which a reader should see them: severity, then weight.

    Returns:
        The same findings, sorted; equal ones keep their order.
    """
    order = {name: rank for rank, name in enumerate(get_args(Severity))}
    return tuple(sorted(findings, key=lambda f: (order[f.severity], -f.weight)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """A measurement as a value: its text is the report (promise 6).

    Subclasses are frozen dataclasses that implement `view`; everything else follows from it.
    """

    findings: tuple[Finding, ...] = field(default=())

    @property
    def unanswered(self) -> str:
        """Why something that was asked beside the measurement has no answer; "" where all has one."""
        return ""

    def view(self) -> View:
        """What a reader should see, as renderer-independent blocks."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain data (numbers, strings, lists, dicts), fit for JSON.

        Returns:
            One key for every field.
        """
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    def __str__(self) -> str:
        from assay.view.text import to_text

        return to_text(self.view(), self.findings)

    def __repr__(self) -> str:
        return str(self)

    def __rich__(self) -> Any:
        from assay.view.text import to_rich

        return to_rich(self.view(), self.findings)

    def _repr_html_(self) -> str:
        from assay.view.html import to_fragment

        return to_fragment(self.view(), self.findings)


def plain(value: Any) -> Any:
    """Turn a result's field into data that JSON can hold.

    Objects with a `to_dict` speak for themselves; dataclasses become dicts, fractions and non-finite
    floats become text (JSON has neither).

    Returns:
        None, bool, int, float, str, list or dict.

    Example:
        >>> plain({"a": (1, Fraction(1, 3), float("nan"))})
        {'a': [1, '1/3', 'nan']}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Fraction):
        return str(value)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
