"""What one pass amounts to: counts by quantity, phase, module and class, and who did what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from assay.cost.notes import Comparison
from assay.cost.tables import Reach
from assay.where import Location, location

FORWARD, BACKWARD = "forward", "backward"
FLOPS, CAUSAL, OPERATIONS, BYTES = "flops", "masked flops", "operations", "bytes"
SAVED, PEAK, PARAMETERS, WEIGHTS = "saved bytes", "peak bytes", "parameters", "parameter bytes"
TRAINABLE = "trainable bytes"
GIVEN = "given bytes"  # of inputs and buffers: what nothing is computed with is alive all the same
ADAM = "Adam, AdamW"
# copies of every trainable parameter that an optimizer keeps; step counters are left out
STATES = {"SGD": 0, "SGD with momentum": 1, "RMSprop": 1, "Adagrad": 1, ADAM: 2}


class Key(NamedTuple):
    """What a count is of. `module` and `kind` are "" for quantities that have none.

    Of a peak, `kind` is the operator after which so much was alive.
    """

    quantity: str
    phase: str
    module: str = ""
    kind: str = ""


class Part(NamedTuple):
    """Who did something: `Key` knows the module and the class, this the operator and the line too.

    Args:
        phase: "forward" or "backward".
        module: The innermost module's dotted path.
        line: "file:line" of the user's code; in the backward pass that of the forward operator.
        operator: Its name in torch, as in "addmm".
        kind: Its class.
        again: Whether the backward pass ran a piece of the forward pass again, as checkpointing does.
    """

    phase: str
    module: str
    line: str
    operator: str
    kind: str
    again: bool


class Amount(NamedTuple):
    """What was done: flops, operations, bytes moved, and how many times an operator was called."""

    flops: int
    operations: int
    moved: int
    calls: int


@dataclass(frozen=True)
class Peak:
    """The most bytes that were alive, and the operator after which they were.

    Args:
        bytes: How many.
        phase: "forward" or "backward".
        module: The innermost module's dotted path.
        line: "file:line" of the user's code; in the backward pass that of the forward operator.
        operator: Its name in torch; "" where nothing was more than what was given.
    """

    @property
    def where(self) -> Location | None:
        """The line, or None where it is none of the user's."""
        return location(self.line)

    def __str__(self) -> str:
        line, module = self.where, f" (`{self.module}`)" if self.module else ""
        if self.phase == BACKWARD:
            at = f" of {line.short}" if line else ""
            return f"in the backward pass{at}{module}, after `{self.operator}`"
        at = f" at {line.short}" if line else ""
        return f"in the forward pass, after `{self.operator}`{at}{module}"

    bytes: int
    phase: str
    module: str
    line: str
    operator: str


class Tally(NamedTuple):
    """What one pass amounts to.

    Args:
        counts: Every quantity that is a sum, and what was alive after the operators of each line.
        summit: Where most bytes were alive.
        uncounted: Operators that no table knows, with where they first ran.
        shapes: The dimensions of all forward outputs, in order: where a size is rounded, it shows here.
        steps: Number of operators that ran.
        parts: The sums once more, as finely as they were counted.
        compared: What sizes were compared with: by how much the two sides differed.
        tables: How far lookups went into tables of embeddings, by module, where that is known.
        attends: Whether it called attention, which a GPU runs as one kernel.
        unseen: Whether a transform of `torch.func` kept what it saves for the backward pass to itself.
    """

    counts: dict[Key, int]
    summit: Peak
    uncounted: dict[str, Location | None]
    shapes: tuple[int, ...]
    steps: int
    parts: dict[Part, Amount]
    compared: dict[Comparison, float]
    tables: dict[str, Reach]
    attends: bool
    unseen: bool = False

    @property
    def peak(self) -> int:
        """The most bytes that were alive."""
        return self.summit.bytes
