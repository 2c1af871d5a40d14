"""Findings as SARIF 2.1.0, which code hosts and editors show beside the line of code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay._version import __version__
from assay.finding import Finding
from assay.view.prose import clean

if TYPE_CHECKING:
    from assay.reporting.report import Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(report: Report) -> dict[str, Any]:
    """The findings of a report as a SARIF log with one run.

    Args:
        report: What was measured.

    Returns:
        Plain data. What failed, or has no answer, is a notification of the tool, not a result.
    """
    rules = sorted({finding.rule for finding in report.findings})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "assay",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "rules": [_rule(rule, report.findings) for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "invocations": [_invocation(report)],
                "results": [_result(finding, rules) for finding in report.findings],
            }
        ],
    }


def _rule(rule: str, findings: tuple[Finding, ...]) -> dict[str, Any]:
    one = next(finding for finding in findings if finding.rule == rule)
    about = f"Expectation {rule}" + (f" (theory {one.theory})" if one.theory else "")
    return {
        "id": rule,
        "name": "".join(
            word.title() for word in rule.replace("-", ".").replace("_", ".").split(".")
        ),
        "shortDescription": {"text": about},
        "defaultConfiguration": {"level": one.severity},
        "properties": {"tags": [rule.partition(".")[0]]},
    }


def _result(finding: Finding, rules: list[str]) -> dict[str, Any]:
    repair = f" Repair: {finding.repair}" if finding.repair else ""
    said = f"{finding.message} Expected {finding.expected}, measured {finding.measured}.{repair}"
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": finding.severity,
        "message": {"text": clean(said)},
        "partialFingerprints": {"assay/v1": _fingerprint(finding)},
        "properties": {
            "expected": str(finding.expected),
            "measured": str(finding.measured),
            "theory": finding.theory,
        },
    }
    location: dict[str, Any] = {}
    if finding.where is not None:
        region: dict[str, Any] = {"startLine": max(finding.where.line, 1)}
        if finding.where.code:
            region["snippet"] = {"text": clean(finding.where.code)}
        location["physicalLocation"] = {
            "artifactLocation": _artifact(finding.where.file),
            "region": region,
        }
    if finding.module:
        location["logicalLocations"] = [
            {"fullyQualifiedName": clean(finding.module), "kind": "module"}
        ]
    if location:
        result["locations"] = [location]
    return result


def _artifact(file: str) -> dict[str, str]:
    """The file, relative to the working folder where it lies below: what a code host can find again."""
    path = Path(os.path.abspath(file))
    try:
        relative = path.relative_to(Path.cwd())
    except ValueError:
        return {"uri": path.as_uri()}
    return {"uri": _quoted(relative), "uriBaseId": "%SRCROOT%"}


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(path.as_posix())


def _fingerprint(finding: Finding) -> str:
    """Stable while the code around it moves: the line's text, not its number."""
    code = finding.where.code if finding.where is not None else ""
    return hashlib.sha256(
        "\n".join((finding.rule, finding.module, code)).encode("utf-8", "replace")
    ).hexdigest()[:16]


def _invocation(report: Report) -> dict[str, Any]:
    silent = [(s, "failed", s.reason) for s in report.sections if s.status == "failed"]
    silent += [
        (s, "unanswered", s.result.unanswered)
        for s in report.sections
        if s.result and s.result.unanswered
    ]
    return {
        "executionSuccessful": report.exit_code != 3,
        "exitCode": report.exit_code,
        "toolExecutionNotifications": [
            {
                "level": "error",
                "message": {"text": clean(f"{section.view.title}: {reason}")},
                "descriptor": {"id": f"{section.name}.{what}"},
            }
            for section, what, reason in silent
        ],
    }
