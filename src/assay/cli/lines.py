"""How far work is, as plain lines now and then: for logs, where a bar cannot be drawn."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

FIRST = 10.0  # seconds: what is over before that says nothing
EVERY = 30.0  # seconds between lines: a log is read, not watched


class Lines:
    """Keeps what work said last, and writes it at intervals, also while work says nothing.

    Args:
        stream: Where to write.
        first: Seconds until the first line.
        every: Seconds between lines.
    """

    def __init__(self, stream: TextIO, *, first: float = FIRST, every: float = EVERY) -> None:
        self._stream, self._first, self._every = stream, first, every
        self._section = self._task = ""
        self._over = threading.Event()
        self._start = time.monotonic()
        # a daemon: it must not keep a process alive whose work has ended
        self._thread = threading.Thread(target=self._write, name="assay-progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        frames: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(timeout=1.0)

    def __call__(self, task: str, done: int, total: int, note: str = "") -> None:
        """Note that `done` of `total` steps of `task` are done; `report` counts the sections.

        Args:
            task: What is being done.
            done: Steps that are done.
            total: Steps in all.
            note: What else is to be said.
        """
        if task == "report":
            self._section = f"{note}, section {done + 1} of {total}" if note else ""
            self._task = ""
        else:
            self._task = f"{task} {done}/{total}" + (f" ({note})" if note else "")

    def line(self, seconds: float) -> str:
        """What is to be said after so many seconds.

        Args:
            seconds: Since work began.

        Returns:
            As in "assay: 1 min 10 s: Units, section 5 of 6: units 3/19 (loss)".
        """
        minutes, rest = divmod(round(seconds), 60)
        after = f"{minutes} min {rest} s" if minutes else f"{rest} s"
        doing = [part for part in (self._section, self._task) if part] or ["at work"]
        return ": ".join(("assay", after, *doing))

    def _write(self) -> None:
        wait = self._first
        while not self._over.wait(wait):
            wait = self._every
            with suppress(OSError, ValueError):  # nobody reads it any more
                print(self.line(time.monotonic() - self._start), file=self._stream, flush=True)
