"""Run a builder at given sizes without data, and count."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

from assay.builder import Builder
from assay.cost.count import Tally, count
from assay.errors import AssayError, CannotMeasure, UsageError, verbatim
from assay.state import preserved_random_state
from assay.subject import Subject


class Probe:
    """Counts at sizes, in the first of four ways that works for this builder.

    1. Built and run on the meta device: nothing is allocated.
    2. Built and run under FakeTensorMode: also nothing, and `.item()`-like checks are allowed for.
    3. Built for real, then moved to the meta device: for builders that read data or use numpy.
    4. Built and run for real: for models that look at values.

    Args:
        build: The builder.
    """

    def __init__(self, build: Builder) -> None:
        self.build = build
        self.way = ""
        self.uncounted: dict[str, Any] = {}
        self.runs = 0
        self._ways: dict[str, Callable[[Mapping[str, int]], Tally]] = {
            "meta": self._on_meta,
            "fake": self._fake,
            "moved": self._moved,
            "real": self._real,
        }
        if build.shared_model:  # a ready module has its tensors already
            del self._ways["meta"], self._ways["fake"]

    def __call__(self, sizes: Mapping[str, int]) -> Tally:
        """Count at `sizes`.

        Args:
            sizes: A value for every size.

        Returns:
            The tally.

        Raises:
            AssayError: What the last way raised, where none works.
            UsageError: If the builder refuses these sizes.
        """
        self.runs += 1
        error: AssayError | None = None
        for way in [self.way] if self.way else list(self._ways):
            try:
                with preserved_random_state(0), _decomposed_kernels():
                    tally = self._ways[way](sizes)
            except UsageError:
                raise
            except AssayError as raised:
                error = raised
            else:
                self.way = way
                self.uncounted |= {
                    k: v for k, v in tally.uncounted.items() if k not in self.uncounted
                }
                return tally
        assert error is not None
        raise error

    def _on_meta(self, sizes: Mapping[str, int]) -> Tally:
        with torch.device("meta"):
            subject = self.build(**sizes)
            if not _all_meta(subject):
                raise CannotMeasure("builder", verbatim("tensors with data"), "meta tensors", "")
            return count(subject)

    def _fake(self, sizes: Mapping[str, int]) -> Tally:
        with FakeTensorMode(allow_non_fake_inputs=True):
            return count(self.build(**sizes))

    def _moved(self, sizes: Mapping[str, int]) -> Tally:
        subject = self.build(**sizes)
        try:
            model = copy.deepcopy(subject.model).to("meta")
        except Exception as error:
            raise CannotMeasure(
                "model",
                verbatim(str(error)),
                "a module that deepcopy can copy",
                "Give a function that builds it.",
            ) from error

        def move(value: Any) -> Any:
            return value.to("meta") if isinstance(value, Tensor) else value

        with torch.device("meta"):
            return count(
                Subject(
                    model,
                    tree_map(move, subject.inputs),
                    tree_map(move, subject.kwargs),
                    subject.loss,
                )
            )

    def _real(self, sizes: Mapping[str, int]) -> Tally:
        subject = self.build(**sizes)
        model = copy.deepcopy(subject.model) if self.build.shared_model else subject.model
        return count(Subject(model, subject.inputs, subject.kwargs, subject.loss))


def _all_meta(subject: Subject) -> bool:
    seen = [*subject.model.parameters(), *subject.model.buffers()]
    tree_map(
        lambda v: seen.append(v) if isinstance(v, Tensor) else None,
        (subject.inputs, subject.kwargs),
    )
    return all(tensor.is_meta for tensor in seen)


@contextmanager
def _decomposed_kernels() -> Iterator[None]:
    """Keep fused kernels from hiding what they compute: recurrent ones, and the encoder's fast path."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.backends.mkldnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
