"""What may explain counts by floors of two sizes at once, and where to hold it against runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations, islice, product
from math import isqrt, lcm
from random import Random

from assay.cost.elimination import Solved
from assay.cost.interpolate import Index, Interpolant, Point
from assay.cost.law import Law, Laws
from assay.cost.pairs import floors_of_two
from assay.cost.piece import Range
from assay.cost.polynomial import Atom, Monomial
from assay.cost.refusal import Refused
from assay.cost.rounding import rounded
from assay.cost.samples import Fails, Samples, put
from assay.cost.tally import Key

_FLOORS = 3  # of more it is something else
_FEW = (1, 8)  # chunks, or places with an expert: so few may be a case of their own
_WIDEST = 100  # monomials
_CHOICE = 600  # points to choose from
_BESIDE = 40  # values of one size beside which another is looked for
_MULTIPLES = 12  # of a period, where divisions of floating-point numbers may round up


def joint(
    laws: Laws, samples: Samples
) -> Iterator[tuple[Laws, Interpolant[Key], tuple[Point, ...]]]:
    """What may explain the counts by floors of two sizes, where floors of one do not.

    Args:
        laws: Where each size ranges.
        samples: The counts.

    Yields:
        Where it may be; an interpolant on powers of the sizes and of such floors that was not held against
        anything yet, of few terms first; and points to hold it against.

    Raises:
        Refused: If such a floor depends on a third size.
    """
    if samples.probe.way == "real":  # too many runs
        return
    free = [i for i, law in enumerate(laws.all[: laws.sizes]) if law.span == Range(law.span.low)]
    pairs = combinations(free, 2)
    floors = {pair: floors_of_two(*pair, laws, samples) for pair in pairs}
    found = {pair: atoms for pair, atoms in floors.items() if atoms}
    atoms = list(dict.fromkeys(atom for pair in found.values() for atom in pair))
    if not 0 < len(atoms) <= _FLOORS:
        return
    if name := _third(found, laws, samples):
        raise Refused(f"{atoms[0]} is another at another {name}", name)
    try:
        whole = samples.interpolant(_grid(atoms, laws, samples))
    except Fails:
        return
    names = (*samples.names, *samples.stacks)
    alive = {index for index, values in whole.coefficients.items() if values}
    forms = [
        _monomials(alive, atoms, marks, names, wider=wider)
        for wider, marks in ((False, ()), (True, ()), (True, _marks(atoms)))
    ]
    for monomials in (form for form in forms if len(form) <= _WIDEST):
        for here in _corners(atoms, laws, samples):
            axes = [law.axis(name) for law, name in zip(here.all, names, strict=True)]
            around = partial(_around, atoms=atoms, laws=here, samples=samples)
            held = tuple(_telling(atoms, here, samples))
            try:
                yield here, Solved(samples.counts, axes, monomials, around), held
            except Fails:
                continue


def _third(found: Mapping[tuple[int, int], tuple[Atom, ...]], laws: Laws, samples: Samples) -> str:
    """A size with which the floors of two others change, as the number of experts; "" where there is none."""
    for k, law in enumerate(laws.all[: laws.sizes]):
        above = laws.having(k, law.since(law.value(1)))
        for pair in found if law.value(1) in law.span else ():
            if k not in pair and {*floors_of_two(*pair, above, samples)} != {*found[pair]}:
                return samples.names[k]
    return ""


def _corners(atoms: Sequence[Atom], laws: Laws, samples: Samples) -> Iterator[Laws]:
    """From where it may hold: no tokens but one, and a single chunk, may be cases of their own."""
    yield laws
    together = {samples.names.index(name) for atom in atoms for name in atom.variables}
    largest, *others = sorted(together, key=lambda i: -samples.base[i])
    for raised in ((largest,), (largest, *others)):
        here = laws
        for i in raised:
            here = here.having(i, here.all[i].since(here.all[i].span.low + 1))
        if here.hold((*samples.base[: laws.sizes], *here.low[laws.sizes :])):
            yield here
    law = laws.all[largest]
    for few in _FEW:
        for x in range(law.span.low, samples.base[largest] + 1):
            if all(a.value(samples.sizes(put(laws.low, largest, x))) > few for a in atoms):
                yield laws.having(largest, law.since(x))
                break


def _grid(atoms: Sequence[Atom], laws: Laws, samples: Samples) -> Laws:
    """Where no floor rounds: multiples of the periods, of one size if it is in everything divided."""
    period = lcm(*(atom.period for atom in atoms))
    products = [set(names) for atom in atoms for _, names in atom.products]
    chosen = sorted(set.intersection(*products))[:1] or sorted(set.union(*products))
    for i, name in enumerate(samples.names):
        if name in chosen:
            span = laws.all[i].span
            laws = laws.having(i, Law(Range(-(-span.low // period) * period, None, period)))
    return laws


def _marks(atoms: Sequence[Atom]) -> list[Atom]:
    """Floors whose differences are 1 where nothing, or one, is left over: other operators may run there."""
    marks = [replace(atom, offset=-rest % atom.period) for atom in atoms for rest in range(3)]
    return [mark for mark in dict.fromkeys(marks) if mark not in atoms]


def _monomials(
    alive: set[Index],
    atoms: Sequence[Atom],
    marks: Sequence[Atom],
    names: Sequence[str],
    *,
    wider: bool,
) -> list[Monomial]:
    """What may occur where this occurs without remainders: a product of two sizes may be a floor of it.

    Args:
        alive: The exponents that occur.
        atoms: The floors.
        marks: Floors that occur once at most, beside sizes alone.
        names: What the exponents are of.
        wider: Whether squares of remainders may occur too, which are constant where there are none.

    Returns:
        The monomials.
    """
    at = [[names.index(name) for name in atom.grows_with] for atom in atoms]
    if wider:
        alive = alive | {
            tuple(k + (i in pair) for i, k in enumerate(index))
            for index in alive
            for pair in at
            if all(index[i] < 2 for i in pair)
        }
    below = {low for index in alive for low in product(*(range(k + 1) for k in index))}
    found, marked = dict[Monomial, None](), dict[Monomial, None]()
    for index in sorted(below):
        for powers in product(range(max(index, default=0) + 1), repeat=len(atoms)):
            rest = list(index)
            for power, pair in zip(powers, at, strict=True):
                for i in pair:
                    rest[i] -= power
            if min(rest) >= 0:
                sizes = [(Atom(name), k) for name, k in zip(names, rest, strict=True) if k]
                floors = [(atom, k) for atom, k in zip(atoms, powers, strict=True) if k]
                found[tuple(sorted((*sizes, *floors)))] = None
        if all(index[i] < 2 for pair in at for i in pair):
            sizes = [(Atom(name), k) for name, k in zip(names, index, strict=True) if k]
            marked |= {tuple(sorted((*sizes, (mark, 1)))): None for mark in marks}
    return [*found, *marked]


def _around(corner: Point, atoms: Sequence[Atom], laws: Laws, samples: Samples) -> Iterator[Point]:
    """Points from a corner on: those that were run, and others at random."""
    pairs = zip(laws.all, corner, strict=True)
    from_corner = Laws(tuple(law.since(x) for law, x in pairs), laws.sizes)
    yield from (point for point, _ in samples.known if from_corner.hold(point))
    random, together = Random(0), {name for atom in atoms for name in atom.variables}
    reach = max(2 * isqrt(atom.period) + 8 for atom in atoms)
    ups = [reach if name in together else 3 for name in samples.names]
    ups += [2] * (len(corner) - len(ups))
    drawn = [
        from_corner.inside(
            tuple(x + random.randint(0, up) for x, up in zip(corner, ups, strict=True))
        )
        for _ in range(_CHOICE)
    ]
    # few of them are where other operators may run
    yield from sorted(drawn, key=lambda p: min(_rest(atom, p, samples) for atom in atoms) > 1)


def _telling(atoms: Sequence[Atom], laws: Laws, samples: Samples) -> Iterator[Point]:
    """Points where a floor just steps up, or just does not; multiples of a period; and some at random."""
    low, random = laws.low, Random(1)
    for atom in atoms:
        pair = [samples.names.index(name) for name in atom.grows_with]

        def placed(x: int, y: int, pair: Sequence[int] = pair) -> Point:
            return laws.inside(put(put(low, pair[0], x), pair[1], y))

        reach = 3 * isqrt(atom.period) + 12
        ups = product(range(reach), repeat=2)
        near = [placed(low[pair[0]] + x, low[pair[1]] + y) for x, y in ups]
        random.shuffle(near)
        for rest in {1, 2, atom.period - 1, -atom.offset, -atom.offset - 1}:
            over = rest % atom.period
            yield from islice((p for p in near if _rest(atom, p, samples) == over), 2)
        # where the division has no remainder, floating-point numbers may round to the other side
        yield from islice((p for p in near if _rest(atom, p, samples) == 0), _MULTIPLES)
        yield from islice(_odd(atom, placed), _MULTIPLES)
        yield from near[:6]
    together = {name for atom in atoms for name in atom.variables}
    for top in (12, 12, 40, 40):
        yield laws.inside(
            tuple(
                x + random.randint(0, top if name in together else 5)
                for x, name in zip(low, (*samples.names, *samples.stacks), strict=True)
            )
        )


def _odd(atom: Atom, placed: Callable[[int, int], Point]) -> Iterator[Point]:
    """Points at which floating-point numbers round to the other side."""
    names = atom.grows_with
    of = {product: factor for factor, product in atom.products}
    k, a, b = of[names], of.get(names[:1], 0), of.get(names[1:], 0)
    for value in rounded(Atom("", 0, atom.period, k), 1):
        for x in range(1, _BESIDE):
            y, left = divmod(k * value - a * x, k * x + b) if k * x + b else (0, 1)
            if not left and y > 0:
                yield placed(x, y)
                break


def _rest(atom: Atom, point: Point, samples: Samples) -> int:
    """What is left over by the division, but for the offset."""
    return replace(atom, offset=0, period=1).value(samples.sizes(point)) % atom.period
