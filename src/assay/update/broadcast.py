"""A loss whose target has another shape than the output, so that every output meets every target."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from assay.finding import Finding, Number
from assay.state import preserved
from assay.subject import Subject
from assay.update.pairs import Pairs
from assay.where import Location, here

# torch's own words, in every loss that compares two tensors entry by entry
SAYS = re.compile(
    r"Using a target size \(torch\.Size\((\[.*?\])\)\) .*input size \(torch\.Size\((\[.*?\])\)\)"
)


def _paired(message: object) -> tuple[str, str] | None:
    """The shapes of targets and outputs, where broadcasting makes more than the outputs: then pairs."""
    said = SAYS.match(str(message))
    if said is None:
        return None
    target, output = ([int(n) for n in re.findall(r"\d+", shape)] for shape in said.groups())
    if list(torch.broadcast_shapes(target, output)) == output:
        return None  # one target for many outputs, as it may be meant
    return said[1], said[2]


def broadcast(subject: Subject) -> Finding | None:
    """What torch warns of in the user's loss, as a finding; and the same in a difference written out.

    Args:
        subject: The subject; its model and loss are run once.

    Returns:
        The finding, or None where target and output have one shape.
    """
    if subject.loss is None:
        return None
    found: list[tuple[str, str, Location | None]] = []

    def shown(message: Any, *args: Any, **kwargs: Any) -> None:
        if shapes := _paired(message):
            found.append((*shapes, here()))

    with preserved(subject.model), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("always", message="Using a target size")
        warnings.showwarning = shown
        output = subject.forward()
        with (pairs := Pairs()):
            subject.objective(output)
    found += pairs.found
    if not found:
        return None
    target, output, where = found[0]
    return Finding(
        "step.broadcast",
        f"The loss compares outputs of shape {output} with targets of shape {target}: broadcasting pairs "
        "every output with other targets than its own.",
        Number(output, "", "formula", "shape of the targets"),
        Number(target, "", "measured", "shape of the targets"),
        "warning",
        repair="Give both one shape: `target.reshape(output.shape)`.",
        where=where,
    )


@contextmanager
def told_as_finding() -> Iterator[None]:
    """Keep to itself the warning that is a finding already.

    Yields:
        Nothing.
    """
    before = warnings.showwarning

    def shown(message: Any, *args: Any, **kwargs: Any) -> None:
        if not _paired(message):
            before(message, *args, **kwargs)

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = before
