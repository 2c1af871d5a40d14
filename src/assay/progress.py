"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on: `progress("training", done=30, total=200, note="loss 1.32")`.

    The command line draws a bar from it; a notebook or a logger may do something else.
    """

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps of `task` are done."""


def silent(task: str, done: int, total: int, note: str = "") -> None:
    """Tell nobody."""
