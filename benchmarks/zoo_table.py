"""What the zoo found, as a table for the terminal and as a page of the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

VERDICTS = ("right", "refused", "wrong", "error", "slow", "not built")
_STYLE = {
    "right": "green",
    "wrong": "bold red",
    "error": "red",
    "refused": "yellow",
    "slow": "magenta",
}
Record = Mapping[str, Any]

_PAGE = """# Zoo: which models have a formula, and is it right?

`python benchmarks/zoo.py --docs docs/zoo.md` derives the cost of model types that transformers can build
from a small configuration without a download, and of architectures written by hand: all of them by default,
or those that are named. Flops of the forward and the backward pass are then held against torch's
FlopCounterMode at three or more sizes that the formulas were not derived from: odd ones, large ones, the ends
of pieces, sizes of 1. Only equal integers count. What is not in the table was not run.

| verdict | meaning |
|---|---|
| right | both formulas give the counter's integers at every size that was tried |
| refused | there is no formula, and the reason is said |
| wrong | a formula gives another number than the counter |
| error | an exception that is no clear message |
| slow | not done within the seconds of computing that `--limit` allows |
| not built | no model without a download, or no example inputs are known |

"At multiples of 64" and "at h = 64 alone": elsewhere along this size there is no polynomial, or none was
found in about a minute.

"""


def summary(records: Iterable[Record]) -> str:
    """One line: how many there are, and how many of each verdict."""
    records = list(records)
    counts = Counter(record["verdict"] for record in records)
    built = sum(counts.values()) - counts["not built"]
    shares = ", ".join(
        f"{counts[v]} {v} ({counts[v] / built:.1%})" for v in VERDICTS[:-1] if counts[v] or v == "wrong"
    )  # fmt: skip
    if not built:
        return "no models"
    some = sum(bool(r.get("narrowed")) for r in records if r["verdict"] == "right")
    partly = f", {some} of the right ones not for every value of a size" if some else ""
    return f"{built} models: {shares}{partly}; {counts['not built']} not built"


def table(records: Iterable[Record]) -> Table:
    """The table for the terminal: what is wrong first."""
    shown = Table("model", "verdict", "s", "order or reason", box=None, pad_edge=False)
    order = ("wrong", "error", "slow", "refused", "not built", "right")
    for record in sorted(records, key=lambda r: order.index(r["verdict"])):
        verdict = record["verdict"]
        shown.add_row(
            record["name"],
            Text(verdict, style=_STYLE.get(verdict, "dim")),
            str(record.get("seconds", "")),
            Text(_told(record)[:140]),
        )
    return shown


def document(records: Iterable[Record]) -> str:
    """The page of the documentation."""
    records = sorted(records, key=lambda r: (VERDICTS.index(r["verdict"]), r["name"]))
    rows = ["| model | verdict | order of a training step, or the reason |", "|---|---|---|"]
    for record in records:
        told = _told(record)[:280].replace("|", "\\|").replace("\n", " ")
        rows.append(f"| {record['name']} | {record['verdict']} | {told} |")
    return _PAGE + summary(records) + ".\n\n" + "\n".join(rows) + "\n"


def _told(record: Record) -> str:
    if record["verdict"] == "right":
        return " ".join([str(record.get("order", "")), *record.get("narrowed", [])])
    return " ".join(str(record.get("reason", "")).split())
