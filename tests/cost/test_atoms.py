"""Floors are found in shapes of strided layers, and guessed from counts of loops."""

from math import gcd, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cost.atoms import floors_in_shapes, guessed_floors
from assay.cost.polynomial import Atom

# one strided layer: (x + 2p - k)//s + 1 outputs
layer = st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(0, 3)).filter(
    lambda ksp: ksp[0] > 2 * ksp[2] - ksp[1]  # more padding than window adds outputs of padding
)


def outputs(x, layers):
    """The lengths after each layer."""
    found = [x]
    for kernel, stride, padding in layers:
        found.append((found[-1] + 2 * padding - kernel) // stride + 1)
    return found


def explained(column, size, atoms, xs):
    """Whether a column is affine in the size or in one of its floors."""
    for atom in (Atom(size), *atoms):
        at = [atom.value({size: x}) for x in xs]
        pairs = dict(zip(at, column, strict=True))
        if any(pairs[a] != c for a, c in zip(at, column, strict=True)):
            continue
        a, b = min(at), max(at)
        rise = (pairs[b] - pairs[a]) / (b - a)
        if all(abs(pairs[a] + rise * (y - a) - c) < 1e-6 for y, c in pairs.items()):
            return True
    return False


@settings(max_examples=60)
@given(
    st.lists(layer, min_size=1, max_size=4).filter(lambda ls: prod(s for _, s, _ in ls) <= 128),
    st.integers(1, 512),
    st.sampled_from([1, 1, 1, 2, 3]),
    st.integers(0, 3),
)
def test_floors_are_found_in_which_all_lengths_are_affine(layers, constant, step, offset):
    low = 60 + offset

    def shapes(x):
        lengths = outputs(x, layers)
        return tuple(d for length in lengths for d in (constant, length * constant, length))

    atoms = floors_in_shapes("n", shapes, low, step)
    total = prod(stride for _, stride, _ in layers)
    assert atoms is not None
    xs = [low + step * k for k in range(3 * total + 40)]
    for column in zip(*(shapes(x) for x in xs), strict=True):
        assert len(set(column)) == 1 or explained(column, "n", atoms, xs)
    assert all(1 < a.period <= total for a in atoms)
    assert list(atoms) == sorted(atoms, key=lambda a: (a.period, a.offset))


def test_lengths_without_floors_have_none():
    assert floors_in_shapes("n", lambda x: (x, 3, 2 * x + 5), 2, 1) == ()


def test_along_a_grid_what_is_a_multiple_has_no_floor():
    """Where n moves in fours, n // 4 is affine."""
    assert floors_in_shapes("n", lambda x: (x, x // 4), 8, 4) == ()
    found = floors_in_shapes("n", lambda x: (x, x // 12), 12, 4)
    assert found is not None
    (atom,) = found
    assert all(atom.value({"n": x}) == x // 12 for x in range(12, 200, 4))


@pytest.mark.parametrize(
    "shapes",
    [
        lambda x: tuple([x] * x),  # a loop: another number of tensors
        lambda x: (x, x * x),
        lambda x: (x.bit_length(),),
        lambda x: (min(x, 50),),
        lambda x: (x // 2 + x // 3,),
    ],
    ids=["loop", "square", "logarithm", "clipped", "two floors"],
)
def test_what_is_affine_in_no_one_floor_is_not_explained(shapes):
    assert floors_in_shapes("n", shapes, 2, 1) is None


def windows(width):
    def counts(n):
        full, rest = divmod(n, width)
        return {"full": full * width**2, "rest": rest**2 * 3, "calls": full + bool(rest)}

    return counts


@given(st.integers(2, 8), st.integers(1, 5))
def test_windows_are_guessed_from_counts(width, low):
    found = guessed_floors("n", [p for p in range(2, 20) if p >= width], windows(width), low)
    assert found is not None
    assert {a.period for a in found[0]} == {width}
    assert {a.offset for a in found[0]} == set(range(width))


@given(st.integers(9, 40))
def test_of_long_periods_only_the_turns_are_kept(width):
    found = guessed_floors("n", [width], lambda n: {"calls": -(-n // width)}, 2)
    assert found is not None
    assert Atom("n", width - 1, width) in found[0]
    assert len(found[0]) <= 4


def test_a_period_that_is_none_is_not_guessed():
    assert guessed_floors("n", [2, 3, 4], windows(5), 2) is None
    assert guessed_floors("n", [2, 3, 5], lambda n: {"f": n * n}, 2) is None
    assert guessed_floors("n", [2, 3, 5], lambda n: {"f": n.bit_length()}, 2) is None
    assert guessed_floors("n", [], windows(5), 2) is None


def test_numbers_beyond_64_bits_have_floors_too():
    atoms = floors_in_shapes("n", lambda x: (10**25 * ((x + 3) // 4),), 2, 1)
    assert atoms == (Atom("n", 3, 4),)


@settings(max_examples=60)
@given(st.integers(2, 20), st.integers(2, 30), st.integers(0, 19), st.integers(1, 6), st.data())
def test_floors_of_multiples_are_found(period, factor, offset, each, data):
    """`int(8 * d / 3)`, a capacity of five quarters: one floor, and not as many as it takes steps."""
    factor //= gcd(factor, period)
    atom = Atom("n", offset % period, period // gcd(factor, period), factor)
    more = data.draw(st.integers(0, 5))

    def shapes(x):
        return (each * atom.value({"n": x}) + more, x, 3)

    atoms = floors_in_shapes("n", shapes, 2, 1)
    assert atoms is not None
    assert len(atoms) <= 1
    xs = range(2, 3 * atom.period + 40)
    assert explained([shapes(x)[0] for x in xs], "n", atoms, xs)


def test_of_several_floors_that_fit_the_simplest_is_taken():
    assert floors_in_shapes("n", lambda x: (x * 2 // 4,), 2, 1) == (Atom("n", 0, 2),)
    assert floors_in_shapes("n", lambda x: (x * 3 // 4,), 2, 1) == (Atom("n", 0, 4, 3),)
    # what is left beside it is a difference, and no floor of its own
    assert floors_in_shapes("n", lambda x: (x - x // 4, x // 4), 2, 1) == (Atom("n", 0, 4),)
