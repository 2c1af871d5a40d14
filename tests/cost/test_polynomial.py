"""Polynomials say the same as a call, as text, as sympy and as LaTeX."""

from fractions import Fraction
from math import lcm
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cost.halves import with_products
from assay.cost.polynomial import Atom, Polynomial, add

NAMES = ("b", "n", "lambda_", "self")

atoms = st.one_of(
    st.builds(Atom, st.sampled_from(NAMES)),
    st.builds(Atom, st.sampled_from(NAMES), st.integers(-3, 9), st.integers(2, 7)),
)
monomials = st.dictionaries(atoms, st.integers(1, 3), max_size=3).map(
    lambda powers: tuple(sorted(powers.items()))
)
coefficients = st.one_of(
    st.integers(-50, 50).filter(bool).map(Fraction),
    st.builds(Fraction, st.integers(-9, 9).filter(bool), st.integers(1, 6)),
)
polynomials = st.dictionaries(monomials, coefficients, max_size=6).map(Polynomial)
points = st.fixed_dictionaries({name: st.integers(1, 40) for name in NAMES})


@given(polynomials, points)
def test_text_evaluates_to_the_value(p, sizes):
    whole = lcm(*(c.denominator for c in p.terms.values()))  # `1/3` alone would be a float
    exact = {name: Fraction(value) for name, value in sizes.items()}
    assert eval(str(p * whole), {}, exact) == whole * p.fraction(sizes)
    assert eval(str(p), {}, exact) == pytest.approx(float(p.fraction(sizes)), rel=1e-9)


@settings(max_examples=40)
@given(polynomials, points)
def test_sympy_evaluates_to_the_value(p, sizes):
    value = p.sympy()
    value = value.subs({symbol: sizes[symbol.name] for symbol in value.free_symbols})
    assert Fraction(int(value.p), int(value.q)) == p.fraction(sizes)


@given(polynomials, polynomials, coefficients, points)
def test_arithmetic_agrees_with_that_of_values(p, q, c, sizes):
    a, b = p.fraction(sizes), q.fraction(sizes)
    assert (p + q).fraction(sizes) == a + b
    assert (p - q).fraction(sizes) == a - b
    assert (p * q).fraction(sizes) == a * b
    assert (p * c).fraction(sizes) == a * c
    assert add([p, q, p]).fraction(sizes) == 2 * a + b


@given(polynomials)
def test_equal_polynomials_are_equal_values(p):
    assert p - p == Polynomial() == p * 0
    assert str(p - p) == "0"
    assert p + Polynomial() == p
    assert hash(p * 2) == hash(p + p)
    assert all((p - p * Fraction(1, 2)).terms.values())


@given(polynomials)
def test_latex_is_there_and_balanced(p):
    text = p.latex()
    assert text
    assert text.count("{") == text.count("}")
    assert text.count(r"\left") == text.count(r"\right")
    assert "*" not in text
    assert "//" not in text


@given(polynomials)
def test_plain_data_hold_every_term(p):
    back = {
        tuple(
            (Atom(x["size"], x["offset"], x["period"]), x["power"]) for x in entry["powers"]
        ): Fraction(entry["coefficient"])
        for entry in p.to_dict()
    }
    assert Polynomial(back) == p


@given(
    st.dictionaries(
        st.fixed_dictionaries({n: st.integers(0, 3) for n in ("b", "n", "m")}).map(
            lambda powers: tuple((k, v) for k, v in sorted(powers.items()) if v)
        ),
        coefficients.map(abs),
        min_size=1,
        max_size=6,
    )
)
def test_leading_terms_are_those_that_no_other_divides(terms):
    p = Polynomial({tuple((Atom(n), k) for n, k in key): c for key, c in terms.items()})

    def divides(a, b):
        return a != b and all(dict(b).get(n, 0) >= k for n, k in a)

    expected = {key for key in terms if not any(divides(key, other) for other in terms)}
    assert {tuple(sorted(found.items())) for found in p.leading()} == expected


def test_leading_terms_where_floors_cancel():
    n, half = Polynomial.of("n"), Polynomial.of("n", 0, 2)
    assert (n - half * 2).leading() == [{}]  # n mod 2
    assert (half * 4 + n).leading() == [{"n": 1}]
    assert (n * n - half * n * 2).leading() == [{"n": 1}]
    b = Polynomial.of("b")
    assert (b * n + n * n).leading(["b"]) == [{"b": 1}]
    assert Polynomial().leading() == []


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (Polynomial.constant(Fraction(-7)), "-7"),
        (Polynomial.of("n") * Fraction(1, 2) * (Polynomial.of("n") + Polynomial.constant(1)),
         "n*(n + 1)/2"),
        (Polynomial.of("h", 3, 4) * Polynomial.of("h", 3, 4) * 6, "6*((h + 3)//4)**2"),
        (Polynomial.of("h", -2, 3) - Polynomial.of("h"), "((h - 2)//3) - h"),
        (Polynomial.of("n") * (Polynomial.of("b") + Polynomial.of("c"))
         - Polynomial.of("a") * Polynomial.of("a") * Polynomial.of("a"), "n*(b + c) - a**3"),
    ],
)  # fmt: skip
def test_text_is_what_one_would_write(p, text):
    assert str(p) == text


def test_a_value_that_is_no_integer_is_a_defect_and_told():
    with pytest.raises(ArithmeticError, match="n/2 is 3/2"):
        (Polynomial.of("n") * Fraction(1, 2))({"n": 3})


def test_text_of_many_sizes_takes_no_time():
    many = add(Polynomial.of(f"x{i}") for i in range(24))
    p = many * many + Polynomial.of("x0")
    start = perf_counter()
    assert "x23" in str(p)
    assert perf_counter() - start < 5


@settings(max_examples=60)
@given(polynomials, st.integers(0, 20), st.integers(0, 30), st.integers(1, 3), points)
def test_what_is_said_to_vanish_is_zero_everywhere(p, low, more, step, others):
    values = range(low, low + more * step + 1, step)
    vanishes = p.vanishes("n", values)
    zero = all(p.fraction(others | {"n": n}) == 0 for n in values)
    assert zero or not vanishes
    everywhere = Polynomial.of("n", 7, 7) - Polynomial.of("n", 0, 7) - Polynomial.constant(1)
    assert (p * everywhere).vanishes("n", values)


def test_a_difference_that_is_zero_at_some_values_only_does_not_vanish():
    n = Polynomial.of("n")
    early = (n - Polynomial.constant(2)) * (n - Polynomial.constant(3))
    assert early.vanishes("n", range(2, 4))
    assert not early.vanishes("n", range(2, 5))
    last = Polynomial.of("n", 0, 5)  # zero up to 4
    assert last.vanishes("n", range(1, 5))
    assert not last.vanishes("n", range(1, 6))


def test_where_floors_cancel_only_their_own_size_loses_a_degree():
    b, d, n, half = (
        Polynomial.of("b"),
        Polynomial.of("d"),
        Polynomial.of("n"),
        Polynomial.of("n", 0, 2),
    )
    parity = b * d * (n * n - half * half * 4)  # 2n - 1 where n is odd, else 0
    assert parity.leading() == [{"b": 1, "d": 1, "n": 1}]
    assert parity.leading(["n"]) == [{"n": 1}]


halves = st.builds(Atom, st.just("n"), st.integers(-3, 9), st.just(2), st.integers(1, 3))
of_halves = st.dictionaries(
    st.dictionaries(st.one_of(halves, atoms), st.integers(1, 3), max_size=3).map(
        lambda powers: tuple(sorted(powers.items()))
    ),
    coefficients,
    max_size=6,
).map(Polynomial)


@given(of_halves, points)
def test_products_in_place_of_squares_say_the_same_and_are_no_longer(p, sizes):
    found = with_products(p)
    assert found.fraction(sizes) == p.fraction(sizes)
    assert len(found.terms) <= len(p.terms)


@given(st.integers(-3, 9), st.integers(1, 3), coefficients)
def test_a_product_with_a_half_is_found_again(offset, factor, c):
    n, half = Polynomial.of("n"), Polynomial.of("n", offset, 2, factor)
    whole = n * factor + Polynomial.constant(offset)
    squares = (
        half * half * 4 + whole * whole - whole + half * 2
    ) * c  # 4 times the product of both
    assert with_products(squares) == whole * half * (4 * c)
