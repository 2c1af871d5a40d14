"""Run a builder at given sizes without data, and count."""

from __future__ import annotations

import gc
import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
)
from torch.utils._pytree import tree_map

from assay.builder import Builder
from assay.cost.again import Memory
from assay.cost.autocast import no_autocast_on_meta
from assay.cost.caches import fresh_caches
from assay.cost.code import Code, user_code
from assay.cost.compared import comparisons
from assay.cost.count import count, objective_of
from assay.cost.fake import fake_tensors
from assay.cost.fused import fused_kernels
from assay.cost.hints import constants
from assay.cost.known import LOAD, Known, followed
from assay.cost.notes import Comparison
from assay.cost.repeats import Stack, find_stacks
from assay.cost.rewritten import Rewriting
from assay.cost.skeleton import Skeletons
from assay.cost.tally import Tally
from assay.cost.tracked import Size
from assay.errors import AssayError, CannotMeasure, UsageError, verbatim
from assay.state import copied, preserved, preserved_random_state, quiet, unfused, unlogged
from assay.subject import Subject, tensors
from assay.where import Location, is_installed, raised_at

# of tensors as they are in each way: fused kernels have shapes without data, but no numbers here
_FUSED = dict.fromkeys(("meta", "traced", "moved"), ("AutogradMeta",)) | {"fake": ("AutogradCPU",)}
_WAYS = ("meta", "traced", "fake", "moved", "real")


_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")  # a layer's number in a dotted path
_NUMBER = re.compile(r"\d+")  # also one that is a part of a name: `fc0`, `task3_head`


class ModulesChanged(Exception):
    """Which modules there are depends on a size: start again, with layers taken together."""


class Probe:
    """Counts at sizes, in the first of five ways that works for this builder.

    1. "meta": built and run on the meta device: nothing is allocated.
    2. "traced": the same, and code that asks whether it is being traced is told that it is; then it
       does not look at values.
    3. "fake": built and run under FakeTensorMode: also nothing is allocated.
    4. "moved": built for real, then moved to the meta device: for builders that read data or use numpy.
    5. "real": built and run for real: for models that look at values.

    Args:
        build: The builder.
        fused: Whether attention and dropout are the single kernels that a GPU runs; not where the model is
            run for real.
    """

    def __init__(self, build: Builder, *, fused: bool = False) -> None:
        self.build, self.fused = build, fused
        self.way = ""
        self.stacks: tuple[Stack, ...] = ()
        self.model: nn.Module | None = None
        self.loss: Any = None
        self.uncounted: dict[str, Location | None] = {}
        self.looks_at_values: tuple[str, Location | None] | None = None
        self.assumed: dict[str, Location | None] = {}
        self.draws = self.unseen = self.attends = False
        self.allocates = False  # memory for data, although it runs without
        self.together = False
        self._index = _INDEX  # what tells layers that are taken together apart
        self.notes = False  # what sizes are compared with
        self._constants: dict[frozenset[FunctionType], set[int]] = {}  # by what did not run
        self._memory = Memory()
        self._skeletons: Skeletons | None = None
        self._paths: frozenset[str] | None = None
        self.runs = 0
        self._seen: list[nn.Module] = []  # TorchScript of the pass before

    def open(self, sizes: Mapping[str, int]) -> Tally:
        """Find the way at `sizes`, and the stacks of equal layers.

        Args:
            sizes: A value for every size.

        Returns:
            The tally of the whole model.

        Raises:
            AssayError: What the last way raised, where none works.
            UsageError: If the builder refuses these sizes.
        """
        error: AssayError | None = None
        # a ready module has its tensors already
        ways = _WAYS[3:] if self.build.shared_model else _WAYS
        # with data a mask selects what it selects, whatever the load
        for way in [w for w in ways if w != "real" or LOAD not in sizes]:
            self.way, modules = way, len(sys.modules)
            try:
                tally = self._first(sizes)
                if len(sys.modules) > modules:  # the frames of an import keep tensors alive
                    tally = self(sizes)
                if way != "real":  # then none of the values that other ways lack matters
                    self.looks_at_values = None
                return tally
            except UsageError:
                raise
            except AssayError as raised:
                self._note(raised.__cause__)
                error = raised
        self.way = ""
        assert error is not None
        raise self._beyond_the_load() if LOAD in sizes and self.looks_at_values else error

    def _beyond_the_load(self) -> AssayError:
        """Of a model that looks at more than how many entries masks select."""
        assert self.looks_at_values is not None
        operator, where = self.looks_at_values
        return CannotMeasure(
            "forward",
            verbatim(f"{operator}{f' at {where.short}' if where else ''}"),
            f"what shapes and `{LOAD}` tell: how many entries of a mask are true, not which, nor numbers",
            f"Without a size named {LOAD} it is counted with data.",
        )

    def _first(self, sizes: Mapping[str, int]) -> Tally:
        """The first pass, with integers that note comparisons where the model can do with them."""
        self.notes = True
        try:
            return self(sizes)
        except UsageError:
            raise
        except AssayError:
            self.notes = False
            return self(sizes)

    def __call__(
        self, sizes: Mapping[str, int], depths: Mapping[str, int] | None = None, seed: int = 0
    ) -> Tally:
        """Count at `sizes`.

        Args:
            sizes: A value for every size.
            depths: How many layers to keep of each stack, by its path.
            seed: Of the random generators, so that a model that draws numbers shows it.

        Returns:
            The tally.

        Raises:
            ModulesChanged: If there are other modules than before.
        """
        self.runs += 1
        known = Known(sizes.get(LOAD) if self.way != "real" else None)
        if self.notes:
            sizes = {name: Size(value) for name, value in sizes.items()}
        with (
            self._comparisons() as compared,
            _garbage_of_its_own(),
            preserved_random_state(seed),
            unfused(),
            fused_kernels(*_FUSED.get(self.way, ())) if self.fused else nullcontext(),
            unlogged(),
            quiet() if self.runs > 1 else nullcontext(),  # the first is the user's
            self._prepared(sizes, depths or {}) as subject,
        ):
            self.loss = subject.loss
            names = self._cut(subject.model, depths or {})
            before = _host_state(self.way)
            memory = self._memory if self.way != "real" else None
            # a builder may return the same model each time
            kept = preserved(subject.model) if _with_data(subject.model) else nullcontext()
            with kept, fresh_caches(subject.model):
                fused = self.fused and self.way != "real"
                tally = count(subject, names, memory, known, fused=fused)
            self.assumed |= known.assumed
            self.draws = self.draws or before != _host_state(self.way)
        self.uncounted = {**tally.uncounted, **self.uncounted}
        self.unseen = self.unseen or tally.unseen
        self.attends = self.attends or tally.attends
        return tally._replace(compared=compared)

    def run(self, sizes: Mapping[str, int]) -> None:
        """Run both passes without counting; torch checks more where nobody watches saved tensors.

        Args:
            sizes: A value for every size.

        Raises:
            AssayError: What the model raises.
        """
        with (
            preserved_random_state(0),
            unfused(),
            unlogged(),
            self._prepared(sizes, {}) as subject,
        ):
            value = objective_of(subject, subject.forward())
            if value.requires_grad:
                subject.differentiate(value)

    def _namespaces(self) -> Iterator[dict[str, Any]]:
        """Globals of the builder and of the user's own modules."""
        modules = () if self.model is None else self.model.modules()
        owners = {type(module).__module__ for module in modules}
        owners |= {
            getattr(self.build.function, "__module__", ""),
            getattr(self.loss, "__module__", ""),
        }
        for owner in owners:
            module = sys.modules.get(owner or "")
            if module is not None and not is_installed(getattr(module, "__file__", None) or ""):
                yield vars(module)

    @property
    def constants(self) -> set[int]:
        """Integers that the code of the builder, the model and the loss compares with, as far as it ran."""
        assert self.model is not None
        idle = self._rewriting.idle if self.notes else frozenset()
        if idle not in self._constants:
            self._constants[idle] = constants(self._code(idle), self.model)
        return self._constants[idle]

    def _code(self, idle: frozenset[FunctionType] = frozenset()) -> Code:
        assert self.model is not None
        roots = self.build.function, self.loss, *self.build.arguments.values()
        return user_code(roots, self.model, self.build.sizes, idle)

    @cached_property
    def _rewriting(self) -> Rewriting:
        return Rewriting(self._code().functions)

    @contextmanager
    def _comparisons(self) -> Iterator[dict[Comparison, float]]:
        """What is compared; in the first pass by sizes alone: it tells which code there is."""
        if not self.notes:
            yield {}
            return
        rewritten = self._rewriting.noting() if self.model is not None else nullcontext()
        with comparisons(self._namespaces()) as compared, rewritten:
            yield compared

    @contextmanager
    def _prepared(self, sizes: Mapping[str, int], depths: Mapping[str, int]) -> Iterator[Subject]:
        if self.way in ("meta", "traced"):
            with torch.device("meta"), no_autocast_on_meta(), _tracing(self.way == "traced"):
                with followed(sizes.get(LOAD), self._memory.rules, self._memory.drawn):
                    subject = self._built(sizes, depths)
                if not all(t.is_meta for t in _held(subject)):  # made by numpy, or kept from before
                    self.allocates, subject = True, _without_data(subject)
                yield subject
        elif self.way == "fake":
            with fake_tensors():
                yield self._built(sizes, depths)
        elif self.way == "moved":
            subject = self._built(sizes, depths)
            subject = _without_data(subject)
            with torch.device("meta"), no_autocast_on_meta():
                yield subject
        else:
            subject = self._built(sizes, depths)
            model = _copied(subject.model) if self.build.shared_model else subject.model
            yield Subject(model, subject.inputs, subject.kwargs, subject.loss)

    def _built(self, sizes: Mapping[str, int], depths: Mapping[str, int]) -> Subject:
        """The subject, without the layers that will be cut away where that can be had."""
        if not any(depths.get(s.path, s.depth) < s.depth for s in self.stacks):
            subject = self.build(**sizes)
            before, self._seen = self._seen, _scripts(subject.model)
            if not self.build.shared_model and any(a is b for a in before for b in self._seen):
                raise _made_before()
            return subject
        if self._skeletons is None:
            assert self.model is not None
            self._skeletons = Skeletons()
            with self._skeletons.watching(self.stacks, self.model):
                subject = self.build(**sizes)
            if self._outline(subject.model, {}) == self._paths:
                self._skeletons.learn(self.stacks, subject.model)
            return subject
        try:
            with self._skeletons.building(depths):
                return self.build(**sizes)
        except AssayError:  # something looks into its layers while it is built
            self._skeletons = Skeletons()
            return self.build(**sizes)

    def _changed(self, model: nn.Module, depths: Mapping[str, int]) -> bool:
        gone = tuple(prefix for s in self.stacks for prefix in s.prefixes(depths.get(s.path)))
        kept = {p for p in self._paths or () if not f"{p}.".startswith(gone)}
        return self._outline(model, depths) != kept

    def _numbered(self, model: nn.Module) -> bool:
        """Whether modules come and go whose names end in a number, as `fc3`, in place of being one."""
        before, now = self._paths or frozenset(), self._outline(model, {})
        last = (path.rpartition(".") for path in before ^ now)
        tops = (name for parent, _, name in last if parent in before & now)
        return any(not name.isdigit() and _NUMBER.search(name) for name in tops)

    def _outline(self, model: nn.Module, depths: Mapping[str, int]) -> frozenset[str]:
        """The paths of all modules but those in layers that are cut away."""
        gone = tuple(prefix for s in self.stacks for prefix in s.prefixes(depths.get(s.path)))
        return frozenset(
            name for name, _ in model.named_modules() if not f"{name}.".startswith(gone)
        )

    def _cut(self, model: nn.Module, depths: Mapping[str, int]) -> dict[nn.Module, str]:
        names = {module: name for name, module in model.named_modules()}
        if self._paths is None:
            self._paths, self.stacks = frozenset(names.values()), find_stacks(model)
            self.model = model
        elif not self.together and self._changed(model, depths):
            self.together, self.stacks = True, ()
            if self._numbered(model):
                self._index = _NUMBER
            raise ModulesChanged
        for stack in self.stacks:
            names |= stack.names(model)
            stack.cut(model, depths.get(stack.path, stack.depth))
        if self.together:
            names = {module: self._index.sub("*", name) for module, name in names.items()}
        return names

    def _note(self, cause: BaseException | None) -> None:
        """Remember the operator whose result the model looks at, and where."""
        operator = ""
        if isinstance(cause, DataDependentOutputException | DynamicOutputShapeException):
            operator = str(cause.func)
        elif isinstance(cause, RuntimeError | NotImplementedError) and "meta" in str(cause):
            operator = str(cause).splitlines()[0]
        # fake tensors fail at what has to be known; moved ones earlier, wherever they are looked at
        told = self.way == "moved" and self.looks_at_values is not None
        if operator and cause is not None and not told:
            self.looks_at_values = (operator, raised_at(cause))


@contextmanager
def little_garbage() -> Iterator[None]:
    """Keep Python from looking for garbage in what was there before: torch, and whatever the user has.

    Yields:
        Nothing.
    """
    if gc.get_freeze_count():  # by another derivation around this one, or by the user
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _garbage_of_its_own() -> Iterator[None]:
    """Collect what a pass leaves behind at its end: in the middle it would count as long-lived.

    Then Python looks through everything that there is, again and again.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.collect(1)
        gc.enable()


def _held(subject: Subject) -> list[Tensor]:
    model = subject.model
    return [
        *model.parameters(),
        *model.buffers(),
        *tensors([subject.inputs, dict(subject.kwargs or {})]),
    ]


def _with_data(model: nn.Module) -> bool:
    held = (*model.parameters(), *model.buffers())
    return any(not t.is_meta and not isinstance(t, FakeTensor) for t in held)


def _without_data(subject: Subject) -> Subject:
    """A copy with all of its tensors on the meta device; what modules share they go on sharing."""
    if _scripts(subject.model):
        raise _made_before()
    model = _copied(subject.model)
    shared: dict[int, list[tuple[dict[str, Any], str]]] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    shared.setdefault(id(tensor), []).append((held, name))
    model.to("meta")
    for (first, key), *others in shared.values():
        for held, name in others:
            held[name] = first[key]
    inputs, kwargs = tree_map(_to_meta, (subject.inputs, subject.kwargs))
    return Subject(model, inputs, kwargs, subject.loss)


def _scripts(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)]


def _made_before() -> CannotMeasure:
    """TorchScript rewrites a module in its first passes, so that of one module no two counts need agree."""
    return CannotMeasure(
        "model",
        verbatim("a TorchScript module that was made before"),
        "one that the builder makes afresh each time",
        "Script or trace it inside the function that builds it.",
    )


def _to_meta(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().to("meta").requires_grad_(value.requires_grad)


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copied(model)
    except Exception as error:
        raise CannotMeasure(
            "model",
            verbatim(str(error)),
            "a module that deepcopy can copy",
            "Give a function that builds it.",
        ) from error


def _host_state(way: str) -> tuple[Any, ...]:
    """The random state that Python code draws from; torch's tensors without data draw nothing."""
    _, keys, *rest = np.random.get_state()
    drawn = torch.get_rng_state().numpy().tobytes() if way != "fake" else b""
    return random.getstate(), np.asarray(keys).tobytes(), rest, drawn


@contextmanager
def _tracing(on: bool) -> Iterator[None]:
    """Have `torch.compiler.is_compiling()` say so, as `torch.export` does while it traces."""
    before = torch.compiler._is_compiling_flag
    torch.compiler._is_compiling_flag = before or on
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before
