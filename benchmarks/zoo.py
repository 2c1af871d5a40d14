"""The cost of every model type that transformers has, and of architectures written by hand: is it right?

Each model is built from a small configuration, its cost is derived, and the flops of both passes are held
against torch's FlopCounterMode at sizes that the formulas were not derived from. Every model has a process
of its own and two minutes. Results are kept in a file as they come; a second run goes on where the first
stopped.

Run: python benchmarks/zoo.py [NAME …] [--docs docs/zoo.md] [--results FILE] [--again]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from zoo_table import document, summary, table

LIMIT = 120  # seconds of computing that one model may take
_MEMORY = 10 << 30  # bytes that one model may take
Record = dict[str, Any]


def main() -> None:
    """Run the models that have no result yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; by default all")
    parser.add_argument("--results", type=Path, default=Path("zoo.jsonl"), help="where results are")
    parser.add_argument("--docs", type=Path, help="also write the table as Markdown")
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds of computing for each")
    parser.add_argument("--again", action="store_true", help="run the named models once more")
    given = parser.parse_args()
    done = read(given.results)
    todo = [n for n in given.names or names() if given.again or n not in done]
    console = Console()
    try:
        for record in run(todo, console, given.limit):
            done[record["name"]] = record
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    except KeyboardInterrupt:
        console.print("stopped; what is done is kept")
    shown = {name: done[name] for name in given.names or done if name in done}
    console.print(table(shown.values()))
    console.print(summary(shown.values()))
    if given.docs:
        given.docs.write_text(document(shown.values()), encoding="utf-8")


def read(path: Path) -> dict[str, Record]:
    """The results in a file, the last of each name."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {record["name"]: record for record in records}


def names() -> list[str]:
    """All models: those written by hand first."""
    from transformers import CONFIG_MAPPING
    from zoo_handwritten import HANDWRITTEN

    return [*HANDWRITTEN, *CONFIG_MAPPING]


def run(todo: list[str], console: Console, limit: int) -> Iterator[Record]:
    """Run models one after the other, each in a process of its own.

    Args:
        todo: Their names.
        console: Where progress is drawn.
        limit: Seconds of computing that each may take.

    Yields:
        The record of each.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "transformers", "zoo_check", "assay.extra.transformers"]
    )
    bar = Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
        console=console,
    )
    verdicts: dict[str, int] = {}
    with bar:
        task = bar.add_task("", total=len(todo), counts="")
        for name in todo:
            bar.update(task, description=name)
            record = _one(context, name, limit)
            verdicts[record["verdict"]] = verdicts.get(record["verdict"], 0) + 1
            counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
            bar.update(task, advance=1, counts=counts)
            yield record


def _one(context: Any, name: str, limit: int) -> Record:
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(name, theirs, limit), daemon=True)
    start = time.monotonic()
    process.start()
    theirs.close()
    record: Record = {"name": name, "verdict": "slow", "reason": "building"}
    try:
        while True:
            left = start + 3 * limit - time.monotonic()
            if left <= 0 or not ours.poll(left):
                break
            record |= ours.recv()
    except EOFError:  # it ended: of itself, at its limit, or by a crash
        process.join(5)
        if record["verdict"] == "slow" and process.exitcode != -signal.SIGXCPU:
            died = f"the process died (exit code {process.exitcode}) while {record['reason']}"
            record |= {"verdict": "error", "reason": died}
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()
    if record["verdict"] == "slow":
        record["reason"] = f"{record['reason']} took longer than {limit} s"
    return record | {"wall": round(time.monotonic() - start, 1)}


def _child(name: str, pipe: Connection, limit: int) -> None:
    """Check one model, and say what is found through `pipe`."""
    import logging
    import os
    import resource
    import warnings

    import torch

    # what models print and warn of would tear the progress bar
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    from zoo_check import check

    def tell(part: Mapping[str, Any]) -> None:
        pipe.send(json.loads(json.dumps(part, default=str)))

    try:
        check(name, tell)
    except Exception as error:
        tell({"verdict": "error", "reason": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
