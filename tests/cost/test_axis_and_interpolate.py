"""Adaptive interpolation against solving the whole system of equations."""

from fractions import Fraction
from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cost.axis import Axis
from assay.cost.interpolate import Interpolant
from assay.cost.polynomial import Atom, Polynomial

NAMES = ("b", "n", "m")
ATOMS = (Atom("n", 1, 2), Atom("n", 0, 3), Atom("n", -1, 4))


def powers_of(size, highest):
    basis = [Polynomial.constant(1)]
    for _ in range(highest):
        basis.append(basis[-1] * Polynomial.of(size))
    return basis


def solved(rows, values):
    """Gauss–Jordan in fractions: the slow, obvious twin."""
    table = [[*map(Fraction, row), Fraction(v)] for row, v in zip(rows, values, strict=True)]
    found = [Fraction(0)] * len(rows[0])
    pivots = []
    for column in range(len(found)):
        done = len(pivots)
        pivot = next((r for r in range(done, len(table)) if table[r][column]), None)
        if pivot is None:  # the functions before it make this one up
            continue
        table[done], table[pivot] = table[pivot], table[done]
        lead = table[done][column]
        table[done] = [x / lead for x in table[done]]
        for r, row in enumerate(table):
            if r != done and (factor := row[column]):
                table[r] = [x - factor * y for x, y in zip(row, table[done], strict=True)]
        pivots.append(column)
    assert not any(row[-1] for row in table[len(pivots) :]), "no sum of the functions"
    for column, row in zip(pivots, table, strict=False):
        found[column] = row[-1]
    return found


def fitted_by_solving(measure, names, bases):
    """All products of basis functions, fitted at more points than there are products."""
    functions = [Polynomial.constant(1)]
    for basis in bases:
        functions = [f * g for f in functions for g in basis]
    points = list(product(*(range(2, 4 + 2 * len(basis)) for basis in bases)))
    rows = [[f.fraction(dict(zip(names, p, strict=True))) for f in functions] for p in points]
    values = [measure(p) for p in points]
    pairs = zip(functions, solved(rows, values), strict=True)
    terms = [f * c for f, c in pairs if c]
    return sum(terms, Polynomial())


def lower_set(powers):
    """Everything below a few exponents, as costs of real models are."""
    return {low for top in powers for low in product(*(range(k + 1) for k in top))}


def random_polynomial(names, tops, random):
    terms = {
        tuple((Atom(n), k) for n, k in zip(names, powers, strict=True) if k): Fraction(
            random.randint(1, 9)
        )
        for powers in sorted(lower_set(tops))
    }
    return Polynomial({tuple(sorted(m)): c for m, c in terms.items()})


def measuring(polynomials, names, met=None):
    def measure(point):
        if met is not None:
            met.append(point)
        sizes = dict(zip(names, point, strict=True))
        return {key: value for key, p in polynomials.items() if (value := p(sizes))}

    return measure


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(0, 10**6), st.data())
def test_it_finds_the_polynomial_that_solving_finds(count, seed, data):
    names = NAMES[:count]
    exponents = st.tuples(*(st.integers(0, 4 if count < 3 else 2) for _ in names))
    tops = data.draw(st.lists(exponents, min_size=1, max_size=2))
    polynomials = {k: random_polynomial(names, tops, Random(seed + k)) for k in range(2)}
    met = []
    measure = measuring(polynomials, names, met)
    found = Interpolant(measure, [Axis.powers(n, range(2, 20)) for n in names])
    assert found.polynomials({}) == polynomials
    assert len(met) == len(set(met)), "a point was measured twice"
    if count == 1:
        twin = fitted_by_solving(lambda p: measure(p)[0], names, [powers_of(names[0], 4)])
        assert twin == found.polynomials({})[0]
    far = tuple(Random(seed).randint(30, 999) for _ in names)
    assert found.at(far) == measure(far)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_in_two_sizes_too_solving_finds_the_same(seed):
    random = Random(seed)
    p = random_polynomial(NAMES[:2], [(2, 1), (0, 2)], random)
    measure = measuring({0: p}, NAMES[:2])
    found = Interpolant(measure, [Axis.powers(n, range(2, 20)) for n in NAMES[:2]])
    twin = fitted_by_solving(
        lambda point: measure(point).get(0, 0), NAMES[:2], [powers_of(n, 2) for n in NAMES[:2]]
    )
    assert found.polynomials({})[0] == twin == p


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(ATOMS), min_size=1, max_size=2, unique=True),
    st.lists(st.integers(0, 9), min_size=12, max_size=12),
)
def test_floors_are_fitted_as_solving_fits_them(atoms, numbers):
    axis = Axis.floors("n", range(12, 200), atoms, mixed=True)
    gains = [Polynomial.of("n"), *(Polynomial.of("n", a.offset, a.period) for a in atoms)]
    basis = [Polynomial.constant(1), *gains]
    basis += [gains[i] * gains[j] for i in range(len(gains)) for j in range(i + 1)]
    b = Polynomial.of("b")
    p = sum((f * c for f, c in zip(basis, numbers, strict=False)), Polynomial.constant(1))
    p = p + b * gains[-1] * numbers[-1]
    measure = measuring({"f": p}, ("b", "n"))
    found = Interpolant(measure, [Axis.powers("b", range(2, 20)), axis])
    (formula,) = found.polynomials({}).values()
    for point in product((1, 2, 9), range(1, 60)):
        assert formula(dict(zip(("b", "n"), point, strict=True))) == measure(point)["f"]
    twin = fitted_by_solving(lambda q: measure((2, *q))["f"], ("n",), [basis])
    sizes = [{"n": x, "b": 2} for x in range(1, 80)]
    assert [twin.fraction(s) for s in sizes] == [formula.fraction(s) for s in sizes]


@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 4))
def test_functions_vanish_at_earlier_nodes_and_are_1_at_their_own(start, step, highest):
    axis = Axis.powers("n", range(start, start + 40, step), highest)
    assert len(axis.nodes) == highest + 1
    for k, f in enumerate(axis.functions):
        assert [f.fraction({"n": x}) for x in axis.nodes[: k + 1]] == [0] * k + [1]
        assert axis.weight(k, 77) == f.fraction({"n": 77})


def test_axes_of_floors_take_nodes_that_tell_the_functions_apart():
    axis = Axis.floors("h", range(2, 300), [Atom("h", 0, 32)], mixed=False)
    assert max(axis.nodes) >= 64  # two ticks of the floor for its square
    assert len(axis.nodes) == len(axis.functions) == 5
    # (h + 32) // 32 is h // 32 + 1: only one of the two has a node
    twice = Axis.floors("h", range(2, 300), [Atom("h", 0, 32), Atom("h", 32, 32)], mixed=False)
    assert len(twice.functions) == 5


def test_low_differences_that_vanish_are_met_by_widening():
    n, one = Polynomial.of("n"), Polynomial.constant(1)
    gap = (n - one * 2) * (n - one * 3)  # zero at the first two nodes, as if constant
    measure = measuring({"f": gap}, ("n",))
    found = Interpolant(measure, [Axis.powers("n", range(2, 20))])
    assert found.polynomials({}) == {}
    assert found.widen()
    assert found.widen()
    assert found.polynomials({})["f"] == gap
    assert found.widen()
    assert not found.widen(), "all five powers are in use"


def test_what_no_function_may_need_is_not_measured_but_by_widening():
    """Layers of two stacks have no product; a sum of all of them is no reason to look for one."""
    b, n = Polynomial.of("b"), Polynomial.of("n")
    apart = {"f": b * 3, "g": n * n, "sum": b * 3 + n * n}
    axes, met = [Axis.powers(k, range(2, 20)) for k in "bn"], []
    found = Interpolant(measuring(apart, ("b", "n"), met), axes, sums={"sum"})
    assert found.polynomials({}) == apart
    assert (3, 3) not in met
    assert found.widen()
    assert (3, 3) in met
    assert found.polynomials({}) == apart

    hidden = {"f": b * 3 + (b - Polynomial.constant(2)) * (n - Polynomial.constant(2)), "g": n}
    found = Interpolant(measuring(hidden, ("b", "n")), axes)
    assert found.polynomials({}) != hidden
    assert found.widen()
    assert found.polynomials({}) == hidden


def test_what_is_held_is_no_size_of_the_result():
    p = Polynomial.of("b") * Polynomial.of("n") * 3 + Polynomial.of("n")
    found = Interpolant(
        measuring({"f": p}, ("b", "n")), [Axis.powers(k, range(2, 9)) for k in "bn"]
    )
    assert found.polynomials({1: 10})["f"] == Polynomial.of("b") * 30 + Polynomial.constant(10)
    assert found.polynomials({0: 2, 1: 10})["f"] == Polynomial.constant(70)


def test_other_functions_can_be_measured_on_the_same_points():
    n = Polynomial.of("n")
    found = Interpolant(measuring({"f": n * n}, ("n",)), [Axis.powers("n", range(2, 9))])
    other = found.replayed(measuring({"g": n * 5, "h": n}, ("n",)))
    assert other.polynomials({}) == {"g": n * 5, "h": n}
    assert other.points == found.points
    assert other.only({"h"}).keys == {"h"}


@pytest.mark.parametrize("degree", [5, 6])
def test_a_degree_above_four_is_not_explained(degree):
    measure = measuring({"f": Polynomial({((Atom("n"), degree),): Fraction(1)})}, ("n",))
    found = Interpolant(measure, [Axis.powers("n", range(2, 20))])
    assert found.at((9,)) != measure((9,))
