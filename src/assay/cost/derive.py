"""From counts at a few sizes to polynomials, and the refusal where they are none.

Each size walks a list of lattices, from "every integer from 2 on" to "multiples of the base value". A
size moves on when a probe there raises (heads that must divide a width) or when a held-out size is not
explained (strides, patches). The first combination that survives every check is the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

from assay.cost.count import Key
from assay.cost.formula import Domain, Exponents, Formula
from assay.cost.interpolate import Index, Interpolant
from assay.cost.probe import Probe
from assay.errors import AssayError
from assay.progress import Progress, silent

Lattice = tuple[int, int]  # start, step
Sizes = dict[str, int]

_STEPS = (2, 4, 8, 16, 32)  # strides, patches and windows of the common kinds
_RANDOM = 3  # held-out points drawn from the box just above the nodes
_FAR = (
    70,
    1000,
)  # lattice steps to the far points: beyond `if n > 64`, and beyond where it is cheap
_CHEAP = 0.2  # seconds that the nearer far point may take for the farther one to be tried
_PATIENCE = 60  # combinations of lattices tried before giving up


class _Fails(Exception):
    """A probe raised at these sizes."""

    def __init__(self, sizes: Sizes, error: AssayError) -> None:
        self.sizes, self.error = sizes, error


class _Unexplained(Exception):
    """At these held-out sizes the polynomials are wrong."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes


@dataclass(frozen=True)
class Fit:
    """Integer-valued polynomials for every key, where they hold, and what they were held against.

    Args:
        names: The sizes.
        lattices: Start and step of each size's nodes.
        domain: Where the polynomials hold.
        coefficients: Newton differences: index -> key -> integer.
        checked: The held-out sizes, every one of which every polynomial explains exactly.
        runs: Passes that were run.
        reason: Why there are no polynomials, or "".
    """

    names: tuple[str, ...]
    lattices: tuple[Lattice, ...]
    domain: Domain
    coefficients: Mapping[Index, Mapping[Key, int]] = field(default_factory=dict)
    checked: tuple[Sizes, ...] = ()
    runs: int = 0
    reason: str = ""

    @property
    def keys(self) -> set[Key]:
        """Every key that is not zero everywhere."""
        return {key for values in self.coefficients.values() for key in values}

    def formula(self, wanted: Callable[[Key], bool]) -> Formula:
        """The sum of the polynomials of all wanted keys, in monomials of the sizes.

        Args:
            wanted: Which keys to sum.

        Returns:
            The formula.
        """
        terms: dict[Exponents, Fraction] = {}
        for index, values in self.coefficients.items():
            total = sum(value for key, value in values.items() if wanted(key))
            if total:
                for exponents, weight in self._monomials(index).items():
                    terms[exponents] = terms.get(exponents, Fraction(0)) + total * weight
        kept = {exponents: c for exponents, c in terms.items() if c}
        return Formula(self.names, kept, self.domain, self.reason)

    def _monomials(self, index: Index) -> dict[Exponents, Fraction]:
        """Expand the product of binomials C((x_i - start_i)/step_i, α_i) in powers of the sizes."""
        total: dict[Exponents, Fraction] = {(): Fraction(1)}
        for (start, step), order in zip(self.lattices, index, strict=True):
            one = [Fraction(1)]  # coefficients in x, ascending
            for j in range(order):  # times (x - start - j step) / (step (j + 1))
                low, scale = start + j * step, Fraction(1, step * (j + 1))
                shifted = [Fraction(0), *one]
                one = [
                    scale * (a - low * b) for a, b in zip(shifted, [*one, Fraction(0)], strict=True)
                ]
            total = {(*e, p): c * w for e, c in total.items() for p, w in enumerate(one) if w}
        return total


def fit(probe: Probe, base: Mapping[str, int], progress: Progress = silent) -> Fit:
    """Find polynomials in the sizes of `base` for everything that `probe` counts.

    Args:
        probe: Counts at given sizes.
        base: The sizes, at values that the model runs at.
        progress: Told as probes are run.

    Returns:
        The polynomials, or a refusal with its reason.

    Raises:
        AssayError: If the model does not run at `base` itself.
    """
    return _Search(probe, dict(base), progress).run()


class _Search:
    def __init__(self, probe: Probe, base: Sizes, progress: Progress) -> None:
        self._probe, self._base, self._progress = probe, base, progress
        self._names = tuple(base)
        self._known: dict[tuple[int, ...], Mapping[Key, int] | AssayError] = {}
        self._seconds: dict[tuple[int, ...], float] = {}
        self._choices = {name: _lattices(value) for name, value in base.items()}
        self._at = dict.fromkeys(base, 0)

    def run(self) -> Fit:
        first = self._measured(self._base)
        if isinstance(first, AssayError):
            raise first
        reason = ""
        for _ in range(_PATIENCE):
            lattices = {name: self._choices[name][at] for name, at in self._at.items()}
            try:
                return self._fit(lattices)
            except _Fails as failure:
                reason = f"At {_say(failure.sizes)} the model raises: {failure.error}"
                blamed = self._blame(failure.sizes, lambda s: self._fails(s))
            except _Unexplained as failure:
                reason = (
                    f"No polynomial explains the counts: one that fits at small sizes is wrong at "
                    f"{_say(failure.sizes)}."
                )
                blamed = self._blame(failure.sizes, lambda s: True)
            blamed = [name for name in blamed if self._at[name] + 1 < len(self._choices[name])]
            if not blamed:
                break
            for name in blamed:
                self._at[name] += 1
        nowhere = Domain(self._names, ((0, 1),) * len(self._names), (1,) * len(self._names))
        return Fit(self._names, (), nowhere, runs=self._probe.runs, reason=reason)

    def _fit(self, lattices: Mapping[str, Lattice]) -> Fit:
        def sizes(t: Index) -> Sizes:
            pairs = zip(lattices.items(), t, strict=True)
            return {name: start + step * k for (name, (start, step)), k in pairs}

        found = Interpolant(lambda t: self._counts(sizes(t)), len(self._names))
        checked: list[Sizes] = []

        def check(t: Index) -> None:
            if t not in found.coefficients:
                held = sizes(t)
                if {k: v for k, v in found.at(t).items() if v} != _nonzero(self._counts(held)):
                    raise _Unexplained(held)
                checked.append(held)

        near = self._near(found)
        try:
            for t in near:
                check(t)
        except _Unexplained:
            if not found.widen():  # low differences may vanish where high ones do not
                raise
            checked.clear()
            for t in self._near(found):
                check(t)
        for t in self._far(lattices, sizes):
            check(t)
        at_base = tuple((self._base[n] - a) // s for n, (a, s) in lattices.items())
        if sizes(at_base) == self._base:
            check(at_base)
            for i, (name, (start, _)) in enumerate(lattices.items()):
                for k in (-1, 1):
                    beside = (*at_base[:i], at_base[i] + k, *at_base[i + 1 :])
                    if sizes(beside)[name] >= start and not self._fails(sizes(beside)):
                        check(beside)
        least = tuple(
            self._least(i, found, sizes) if step == 1 else start
            for i, (start, step) in enumerate(lattices.values())
        )
        residues = tuple((start, step) for start, step in lattices.values())
        return Fit(
            self._names,
            residues,
            Domain(self._names, tuple((a % s, s) for a, s in residues), least),
            found.coefficients,
            tuple(checked),
            self._probe.runs,
        )

    def _near(self, found: Interpolant[Key]) -> Iterable[Index]:
        """Held-out points just outside the nodes: one along each size, and some in between."""
        top = [max(index[i] for index in found.coefficients) for i in range(len(self._names))]
        for i, high in enumerate(top):
            yield tuple(high + 1 if j == i else 0 for j in range(len(top)))
            yield tuple(high + 4 if j == i else 0 for j in range(len(top)))
        random = Random(0)
        for _ in range(_RANDOM if top else 0):
            yield tuple(random.randint(0, high + 3) for high in top)

    def _far(
        self, lattices: Mapping[str, Lattice], sizes: Callable[[Index], Sizes]
    ) -> Iterable[Index]:
        for i in range(len(self._names)):
            for steps in _FAR:
                t = tuple(steps if j == i else 0 for j in range(len(self._names)))
                while self._fails(sizes(t)) and t[i] > 1:  # a longest length, say
                    t = tuple(k // 2 for k in t)
                yield t
                if self._seconds.get(tuple(sizes(t).values()), 0.0) > _CHEAP:
                    break

    def _least(self, i: int, found: Interpolant[Key], sizes: Callable[[Index], Sizes]) -> int:
        """1 where the formula also holds at size 1, which often takes a path of its own."""
        start = sizes((0,) * len(self._names))[self._names[i]]
        t = tuple(1 - start if j == i else 0 for j in range(len(self._names)))
        if start != 2 or self._fails(sizes(t)):
            return start
        same = _nonzero(found.at(t)) == _nonzero(self._counts(sizes(t)))
        return 1 if same else start

    def _blame(self, sizes: Sizes, wrong: Callable[[Sizes], bool]) -> list[str]:
        """The sizes to move on: those that are off their base, and wrong alone where that is so."""
        off = [name for name in self._names if sizes[name] != self._base[name]]
        alone = [name for name in off if wrong({**self._base, name: sizes[name]})]
        starts = {n: self._choices[n][self._at[n]][0] for n in self._names}
        moved = [name for name in off if sizes[name] != starts[name]]
        return [name for name in alone if name in moved] or alone or moved or off

    def _counts(self, sizes: Sizes) -> Mapping[Key, int]:
        measured = self._measured(sizes)
        if isinstance(measured, AssayError):
            raise _Fails(sizes, measured)
        return measured

    def _fails(self, sizes: Sizes) -> bool:
        return isinstance(self._measured(sizes), AssayError)

    def _measured(self, sizes: Sizes) -> Mapping[Key, int] | AssayError:
        point = tuple(sizes.values())
        if point not in self._known:
            began = time.perf_counter()
            try:
                self._known[point] = self._probe(sizes).counts
            except AssayError as error:
                self._known[point] = error
            self._seconds[point] = time.perf_counter() - began
            self._progress("counting", self._probe.runs, self._probe.runs + 8, _say(sizes))
        return self._known[point]


def _lattices(value: int) -> list[Lattice]:
    """Where to look for a size whose base is `value`: the most general first."""
    steps = sorted({*_STEPS, *(g for g in range(2, value + 1) if value % g == 0)})
    found = [(2, 1), (value, 1)]
    for step in steps:
        start = value % step or step
        found += [(start if start > 1 else start + step, step), (value, step)]
    return list(dict.fromkeys((start, step) for start, step in found if start > 1 or value == 1))


def _nonzero(counts: Mapping[Key, int]) -> dict[Key, int]:
    return {key: value for key, value in counts.items() if value}


def _say(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sizes.items())
