"""`derive_cost`: what forward and backward cost, as exact formulas in the user's own sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from threading import RLock
from typing import Any

from assay.builder import Builder, as_builder
from assay.cost.asked import Asked, Largest, Numbers, numbers
from assay.cost.convention import CLASSES, CONVOLUTION, PRODUCT
from assay.cost.counted import Counter
from assay.cost.derive import derive
from assay.cost.divides import Divides, Multiples, divisors_of, rounded
from assay.cost.fit import Fit
from assay.cost.formula import Formula
from assay.cost.multiples import in_sizes
from assay.cost.parts import LABELS, Parts, Recording, Share
from assay.cost.phases import Phases
from assay.cost.piece import Piece, beyond
from assay.cost.probe import little_garbage
from assay.cost.quotient import whole_of, wholes
from assay.cost.tables import End, ends
from assay.cost.tally import (
    BACKWARD,
    BYTES,
    CAUSAL,
    FLOPS,
    FORWARD,
    OPERATIONS,
    PARAMETERS,
    SAVED,
    STATES,
    TRAINABLE,
    WEIGHTS,
    Peak,
)
from assay.cost.with_data import with_data
from assay.errors import UsageError
from assay.finding import Result, plain
from assay.progress import Progress, silent
from assay.view.blocks import View
from assay.where import Location

# a pass watches calls by patches of classes and modules, which all threads share
_ALONE = RLock()


@dataclass(frozen=True, repr=False)
class Cost(Result):
    """Exact formulas in named sizes.

    Args:
        name: What was costed.
        base: The sizes at which it was derived.
        flops: Matrix products and convolutions, a multiplication and an addition as two.
        masked: Those of the flops that causal attention computes and throws away.
        operations: All arithmetic, by the convention table.
        bytes: Bytes read and written by operators.
        saved_bytes: Bytes kept for the backward pass, parameters left out.
        peak_bytes: The most bytes alive at once, parameters, inputs and gradients included.
        parameters: Number of parameters, shared ones once.
        parameter_bytes: Their bytes.
        optimizer_bytes: Bytes of an optimizer's state, for the common ones.
        uncounted: Names of operators that no table knows.
        by_class: Operations by operator class.
        checked: Held-out sizes that every formula was checked at.
        way: How the model was run: "meta", "traced", "fake", "moved" or "real".
        modules: Flops by module; layers of a stack of equal ones are taken together, as `layers.*`.
        where: Where each uncounted operator first ran.
        blamed: The size along which no law was found, where there is no formula and one size is to blame.
        narrowed: Sizes for which the formulas hold at some values alone: at which, and why (`cost_of`).
        masks: Operators whose masks were taken to select `load` entries, with where they first ran.
        parts: What was counted, for `breakdown`.
        by: What the view is broken down by, as for `breakdown`; "" for classes and modules, in short.
        fused: Whether attention and dropout are the single kernels that a GPU runs.
        attends: Whether it calls attention, which a GPU runs as one kernel.
        ends: The last value of a size for which tables of embeddings have rows; not of the formulas, which
            go on.
        stops: The value of a size right behind the formulas at which the model does not run, others as where
            it does.
        divisors: Of a size that has to divide something that is no size, values at which the model runs too.
        peak_at_base: Where most bytes are alive at the base sizes, as it was counted.
        asked: Answers to what else was asked: numbers at sizes, the largest that fits, another model.
    """

    name: str
    base: Mapping[str, int]
    flops: Phases
    masked: Phases
    operations: Phases
    bytes: Phases
    saved_bytes: Formula
    peak_bytes: Formula
    parameters: Formula
    parameter_bytes: Formula
    optimizer_bytes: Mapping[str, Formula]
    uncounted: tuple[str, ...]
    by_class: Mapping[str, Phases]
    checked: tuple[Mapping[str, int], ...]
    way: str
    modules: Mapping[str, Phases]
    where: Mapping[str, Location | None]
    masks: Mapping[str, Location | None] = field(default_factory=dict)
    blamed: str = ""
    narrowed: Mapping[str, str] = field(default_factory=dict)
    parts: Parts | None = field(default=None, repr=False, compare=False)
    by: str = ""
    fused: bool = False
    attends: bool = False
    ends: Mapping[str, End] = field(default_factory=dict)
    stops: Mapping[str, int] = field(default_factory=dict)
    divisors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    peak_at_base: Peak | None = None
    asked: tuple[Asked, ...] = ()

    def by_module(self) -> Mapping[str, Phases]:
        """Flops by the innermost module that ran the operator; "" is the model itself.

        Returns:
            Dotted path to formulas.
        """
        return self.modules

    def by_operator(self) -> Mapping[str, Phases]:
        """All arithmetic by operator, as torch names it: "addmm".

        Returns:
            Name to formulas; those that only move data count 0 operations.
        """
        return {name: share.operations for name, share in self.breakdown("operator").items()}

    def breakdown(self, by: str) -> Mapping[str, Share]:
        """Flops, operations, bytes and calls by module, operator, class or line, the dearest first.

        Args:
            by: "module" (the innermost that ran the operator), "operator", "class", or "line" ("file:line"
                of the user's code; in the backward pass that of the forward operator).

        Returns:
            What each of them does; empty where nothing was recorded.

        Raises:
            UsageError: If `by` is none of these.
        """
        if by not in LABELS:
            raise UsageError("by", by, ", ".join(LABELS), "Choose one of them.")
        found = self.parts.split(LABELS[by]) if self.parts else {}
        order = sorted(found, key=lambda n: (-found[n].base.operations, -found[n].base.moved, n))
        return {name: found[name] for name in order}

    def formulas(self) -> dict[str, Formula]:
        """The headline formulas by name.

        Returns:
            Flops, operations and bytes of both phases, memory, parameters; products that differ from flops.
        """
        both = {"flops": self.flops, "operations": self.operations, "bytes": self.bytes}
        found = {
            f"{name}, {phase}": getattr(phases, phase)
            for name, phases in both.items()
            for phase in ("forward", "backward")
        }
        for phase in ("forward", "backward"):
            done, told = getattr(self.products, phase), getattr(self.flops, phase)
            if done.pieces and told.pieces and not (done - told).is_zero:
                found[f"products, {phase}"] = done
        if not self.masked.forward.is_zero and self.masked.forward.pieces:
            for phase in ("forward", "backward"):
                full, masked = getattr(self.flops, phase), getattr(self.masked, phase)
                found[f"flops, {phase}, causal"] = full - masked
        return {
            **found,
            "saved bytes": self.saved_bytes,
            "peak bytes": self.peak_bytes,
            "parameters": self.parameters,
        }

    @property
    def products(self) -> Phases:
        """The operations of matrix products and convolutions: the flops, but where torch's count is wrong.

        FlopCounterMode counts the gradient of a grouped convolution's weight as if it were not grouped, and a
        matrix times a vector as nothing.
        """
        kinds = [self.by_class[kind] for kind in (PRODUCT, CONVOLUTION) if kind in self.by_class]
        return reduce(Phases.__add__, kinds) if kinds else self.flops

    @property
    def order(self) -> str:
        """The order of the training step's products, or of all operations where there are none."""
        total = self.products.total
        return self.operations.total.order if total.is_zero else total.order

    @property
    def status(self) -> str:
        """As `Formula.status`."""
        return self.flops.forward.status

    @property
    def unanswered(self) -> str:
        """Why something that was asked for was not found; "" where all was."""
        asked = (a for a in self.asked if isinstance(a, Largest | Numbers))
        return next((str(answer.missing) for answer in asked if answer.missing), "")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, fit for JSON.

        Returns:
            One key for every field but `parts`, the breakdown by `by`, and where one part overtakes another.
        """
        from assay.cost.growth import all_crossings

        found = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name != "parts"}
        chosen = self.breakdown(self.by) if self.by else {}
        return {**found, "breakdown": plain(chosen), "crossings": plain(all_crossings(self))}

    def view(self) -> View:
        """The formulas, the growth along one size, and where the operations are.

        Returns:
            The view.
        """
        from assay.cost.show import show

        return show(self)


def derive_cost(build: Any, /, **base_sizes: int) -> Cost:
    """Derive what a forward and a backward pass cost, as polynomials in named sizes (Theory C1-C3).

    The model is run without data (on the meta device where it can be) at a few small sizes; polynomials,
    with floors of the sizes where there are strides or windows, are fitted exactly and then held against
    sizes that were not used: beside the nodes, far away, at integers in the model's code, at the base.
    What they do not explain is refused.

    Args:
        build: A builder, a callable with integer sizes, or a ready `(model, inputs)`.
        **base_sizes: Values of sizes at which the model runs, in place of the builder's defaults.

    Returns:
        The formulas. Where there are none, formulas of status "refused" that carry the reason.

    Raises:
        UsageError: If a size is unknown or not a positive integer.
        CannotMeasure: If the model does not run at the base sizes.

    Example:
        >>> import torch
        >>> def mlp(b: int = 2, d: int = 4):
        ...     return torch.nn.Linear(d, d), torch.randn(b, d)
        >>> cost = derive_cost(mlp)
        >>> str(cost.flops.forward), cost.flops.forward(b=1, d=4096)
        ('2*b*d**2', 33554432)
    """
    builder = as_builder(build)
    return strict_cost(builder.with_(sizes=base_sizes) if base_sizes else builder)


def derive_fused_cost(build: Any, /, **base_sizes: int) -> Cost:
    """`derive_cost` with attention and dropout as the single kernels that a GPU runs.

    They keep less for the backward pass, and compute scores twice: flops are what FlopCounterMode counts
    there, five products going back in place of four. This is the peak to hold against a GPU's memory.

    Args:
        build: As for `derive_cost`.
        **base_sizes: As for `derive_cost`.

    Returns:
        The formulas.

    Raises:
        UsageError: If a size is unknown or not a positive integer.
        CannotMeasure: If the model does not run at the base sizes.

    Example:
        >>> import torch
        >>> def attention(b: int = 2, n: int = 8, d: int = 16):
        ...     layer = torch.nn.TransformerEncoderLayer(d, 2, 4 * d, 0.0, batch_first=True)
        ...     return layer, torch.randn(b, n, d)
        >>> derive_cost(attention).saved_bytes.order, derive_fused_cost(attention).saved_bytes.order
        ('O(b*d*n + b*n**2)', 'O(b*d*n)')
    """
    builder = as_builder(build)
    return strict_cost(builder.with_(sizes=base_sizes) if base_sizes else builder, fused=True)


def strict_cost(
    builder: Builder,
    progress: Progress = silent,
    grids: Mapping[str, int] | None = None,
    *,
    fused: bool = False,
) -> Cost:
    """`derive_cost` for a builder, with progress.

    Args:
        builder: The builder, at its base sizes.
        progress: Told as passes are run.
        grids: Sizes of which only multiples of a value are asked for, with that value.
        fused: Whether attention and dropout are the single kernels that a GPU runs.

    Returns:
        The formulas.
    """

    def derived(*, apart: bool) -> tuple[Cost, Recording]:
        probe = Recording(builder, fused=fused)
        found = derive(probe, builder.sizes, progress, grids, apart=apart)
        return _cost(builder, found, probe), probe

    def in_multiples(pairs: Iterable[Divides]) -> Cost | None:
        for pair in pairs:
            multiples = Multiples(builder, pair.whole, pair.part)
            cost = strict_cost(multiples, progress, fused=fused)
            if cost.flops.forward.pieces:
                return cost
        return None

    with _ALONE, little_garbage():
        try:
            cost, probe = derived(apart=bool(grids))
        except Divides as pair:
            if (found := in_multiples([pair])) is not None:
                return found
            cost, probe = derived(apart=True)
        if cost.blamed and not grids:
            return in_multiples(rounded(probe, builder.sizes, cost.blamed)) or cost
        return cost


def cost_of(builder: Builder, progress: Progress = silent, *, fused: bool = False) -> Cost:
    """The formulas for a command and a report: a size without one is asked about in fewer places.

    First at multiples of the builder's value, where windows and patches fit; then at this value alone. Where
    it is cheap, the model is run once with data too.

    Args:
        builder: The builder, at its base sizes.
        progress: Told as passes are run.
        fused: Whether attention and dropout are the single kernels that a GPU runs.

    Returns:
        The formulas; `narrowed` says what was asked, and why. Where that does not help the first refusal,
        with what one pass counts at the base.
    """
    start = builder
    first = cost = strict_cost(builder, progress, fused=fused)
    narrowed: dict[str, str] = {}
    grids: dict[str, int] = {}
    while cost.blamed:
        name, reason = cost.blamed, cost.flops.forward.reason
        value = builder.sizes[name]
        if name not in grids and value > 1 and cost.way != "real":  # tensors with data become large
            grids[name] = value
            narrowed[name] = f"at multiples of {value} ({reason})"
        elif len(builder.sizes) > 1:
            grids.pop(name, None)
            builder = builder.with_(arguments={name: value})
            narrowed[name] = f"at {name} = {value} alone ({reason})"
        else:
            break
        cost = strict_cost(builder, progress, grids, fused=fused)
    if cost.status == "refused":
        counts = numbers(first, first.base, Counter(start, first.way, fused=fused))
        return replace(first, asked=(counts,)) if counts.counted else first
    cost = _judged(replace(cost, narrowed=narrowed)) if narrowed else cost
    return replace(cost, findings=(*cost.findings, *with_data(builder, cost)))


def _cost(builder: Builder, found: Fit, probe: Recording) -> Cost:
    def phases(quantity: str, **fixed: str) -> Phases:
        def formula(phase: str) -> Formula:
            wanted = {"phase": phase, **fixed}.items()
            law = found.formula(quantity, lambda key: all(getattr(key, k) == v for k, v in wanted))
            return in_sizes(law)

        return Phases(formula(FORWARD), formula(BACKWARD))

    def alone(quantity: str) -> Formula:
        return in_sizes(found.formula(quantity, lambda key: True))

    keys = found.keys
    some = {key.kind for key in keys} | {group.kind for group in found.lawless}
    kinds = [kind for kind in (*CLASSES, "other") if kind in some]
    places = sorted({key.module for key in keys if key.quantity == FLOPS})
    trainable = alone(TRAINABLE)
    summit = probe.summits.get((tuple(builder.sizes.values()), frozenset()))
    flops, names = phases(FLOPS), list(builder.sizes)
    ended = beyond(flops.forward.pieces) if flops.forward.pieces else {}
    stops = {n: value for n, value in ended.items() if probe.stops(names.index(n), value)}
    return _judged(
        Cost(
            name=builder.name,
            base=wholes(builder.sizes),
            flops=flops,
            masked=phases(CAUSAL),
            operations=phases(OPERATIONS),
            bytes=phases(BYTES),
            saved_bytes=alone(SAVED),
            peak_bytes=in_sizes(found.peak(builder.sizes, summit.bytes if summit else None)),
            parameters=alone(PARAMETERS),
            parameter_bytes=alone(WEIGHTS),
            optimizer_bytes={name: trainable * copies for name, copies in STATES.items()},
            uncounted=tuple(sorted(probe.uncounted)),
            by_class={kind: phases(OPERATIONS, kind=kind) for kind in kinds},
            checked=tuple(map(wholes, found.checked)),
            way=probe.way,
            modules={place: phases(FLOPS, module=place) for place in places},
            where=dict(probe.uncounted),
            masks=dict(probe.assumed),
            blamed=whole_of(found.blamed),
            fused=probe.fused and probe.way != "real",
            attends=probe.attends,
            ends=ends(probe.reached),
            stops=stops,
            divisors=_divisors(flops.forward.pieces, builder.sizes, probe),
            peak_at_base=summit,
            parts=Parts(found, builder.sizes, probe.parts, {s.path: s.depth for s in probe.stacks}),
        )
    )


def _divisors(
    pieces: tuple[Piece, ...], base: Mapping[str, int], probe: Recording
) -> dict[str, tuple[int, ...]]:
    fixed = (n for n, x in base.items() if pieces and all(p.fixes(n, x) for p in pieces))
    return {n: found for n in fixed if (found := divisors_of(probe, base, n))}


def _judged(cost: Cost) -> Cost:
    from assay.cost.judge import judge

    object.__setattr__(cost, "findings", judge(cost))
    return cost
