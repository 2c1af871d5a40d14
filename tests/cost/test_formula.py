"""Formulas as users meet them: calls, pieces, sums, errors."""

import keyword
import pickle

import numpy as np
import pytest
import torch
from cost_twins import builder_with
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay import derive_cost
from assay.cost.fit import _merged
from assay.cost.formula import Formula, Piece, Range, total
from assay.cost.polynomial import Polynomial
from assay.errors import CannotMeasure, UsageError

n, b = Polynomial.of("n"), Polynomial.of("b")
TRICKY = ("s", "self", "self_len", "n", "lambda_", "sizes", "progress", "cls", "build", "seed")


def pieces(*parts, name="n"):
    return Formula((name,), tuple(Piece(((name, span),), p) for span, p in parts))


ranges = st.builds(
    lambda low, length, step: Range(low, None if length is None else low + length, step),
    st.integers(1, 12),
    st.one_of(st.none(), st.integers(0, 30)),
    st.integers(1, 6),
)


@given(ranges, ranges)
def test_meet_is_the_intersection(r, s):
    met = r.meet(s)
    both = [x for x in range(1, 400) if x in r and x in s]
    assert both == ([] if met is None else [x for x in range(1, 400) if x in met])
    assert met is None or met.low in r


@given(ranges)
def test_a_range_in_words_tells_its_ends(r):
    text = r.text("n")
    assert bool(text) == (r != Range(1, None, 1))
    assert r.high is None or str(r.high) in text or str(r.low) in text


identifiers = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not keyword.iskeyword(name)
)


@given(st.one_of(st.sampled_from(TRICKY), identifiers), st.integers(1, 50))
def test_a_size_may_have_any_name(name, value):
    formula = Formula.of(Polynomial.of(name) * Polynomial.of(name) + Polynomial.of(name, 1, 2))
    expected = value * value + (value + 1) // 2
    assert formula(**{name: value}) == expected
    assert eval(str(formula), {}, {name: value}) == expected
    assert formula.order == f"O({name}**2)"
    assert formula.order_in(name) == formula.order
    assert formula.degree(name) == 2
    assert formula.latex()
    symbol = next(iter(formula.sympy().free_symbols))
    assert symbol.name == name


@pytest.mark.parametrize("name", [*TRICKY, "probe", "point", "b", "_n", "N", "größe"])
def test_a_builder_may_call_its_size_anything(name):
    build = builder_with(name, lambda value: (nn.Linear(value, 3), torch.randn(2, value)))
    cost = derive_cost(build, **{name: 4})
    assert cost.flops.forward(**{name: 7}) == 2 * 2 * 7 * 3
    assert str(cost.flops.forward) == f"12*{name}"
    assert name in str(cost)


def test_a_formula_is_solved_where_another_size_is_called_below():
    formula = Formula.of(n * n * Polynomial.of("below"))
    assert formula.solve("n", {"below": 3}, below=100) == 5
    assert formula.solve("below", below=100, n=5) == 4
    with pytest.raises(UsageError, match="below"):
        formula.solve("n", below=100)


TURN = pieces((Range(1, 4), n), (Range(5), n * 2))


def test_the_piece_that_covers_the_sizes_counts():
    assert [TURN(n=x) for x in (1, 4, 5, 9)] == [1, 4, 10, 18]
    assert TURN.status == "piecewise"
    assert str(TURN) == "n for n ≤ 4; 2*n for n ≥ 5"
    assert TURN.order == "O(n)"
    assert r"\begin{cases}" in TURN.latex()


def test_a_piecewise_formula_is_a_sympy_piecewise():
    gap = pieces((Range(3, 9, 3), n), (Range(12, None, 4), n * n))
    for formula in (TURN, gap):
        expression = formula.sympy()
        (symbol,) = expression.free_symbols
        for x in range(1, 40):
            value = expression.subs(symbol, x)
            try:
                assert value == formula(n=x)
            except CannotMeasure:
                assert str(value) == "nan"


def test_a_peak_is_the_largest_of_its_rivals():
    peak = Formula(("n",), (Piece((("n", Range()),), n * n, (n * 10, n + n)),))
    assert [peak(n=x) for x in (1, 10, 11)] == [10, 100, 121]
    assert peak.status == "piecewise"
    assert str(peak) == "max(n**2, 10*n, 2*n)"
    assert (peak + 1)(n=3) == 31
    assert (peak + peak)(n=20) == 800
    assert "max" in peak.latex()
    (symbol,) = peak.sympy().free_symbols
    assert peak.sympy().subs(symbol, 3) == 30
    with pytest.raises(CannotMeasure, match="the largest of several laws"):
        _ = peak * -1


def test_pieces_of_one_law_that_meet_are_one():
    def piece(span, p=n):
        return Piece((("b", Range()), ("n", span)), p)

    assert piece(Range(1, 4)).joined(piece(Range(5))) == piece(Range(1))
    assert piece(Range(2, 8, 3)).joined(piece(Range(11, 20, 3))) == piece(Range(2, 20, 3))
    assert piece(Range(1, 4)).joined(piece(Range(6))) is None
    assert piece(Range(1, 4)).joined(piece(Range(5), n * 2)) is None
    assert piece(Range(5)).joined(piece(Range(1, 4))) is None


parts = st.lists(st.tuples(st.integers(1, 6), st.integers(-3, 3)), min_size=1, max_size=3)


def stairs(steps):
    """A formula that turns after each step, the last going on for ever."""
    found, low = [], 1
    for length, factor in steps[:-1]:
        found.append((Range(low, low + length - 1), n * factor))
        low += length
    return pieces(*found, (Range(low), n * steps[-1][1]))


@given(parts, parts, st.integers(-4, 4), st.integers(1, 30))
def test_sums_of_piecewise_formulas_are_sums_of_values(p, q, c, x):
    f, g = stairs(p), stairs(q)
    assert (f + g)(n=x) == f(n=x) + g(n=x)
    assert (f - g)(n=x) == f(n=x) - g(n=x)
    assert (f * c)(n=x) == c * f(n=x)
    assert (c + f)(n=x) == f(n=x) + c
    assert total([f, g, f])(n=x) == 2 * f(n=x) + g(n=x)


def test_arithmetic_is_of_formulas_and_integers():
    f = Formula.of(Polynomial.of("n") * 3)
    assert (-f)(n=2) == -6
    assert (10 - f)(n=2) == 4
    assert (f - 1)(n=2) == 5
    assert (f - f).is_zero
    for wrong in (lambda: f * f, lambda: f * 1.5, lambda: f + 1.5, lambda: f - "n"):
        with pytest.raises(TypeError, match="unsupported operand"):
            wrong()


def test_a_sum_speaks_where_all_summands_do():
    short = pieces((Range(1, 4), n))
    other = Formula.of(b)
    assert (short + other)(n=4, b=3) == 7
    with pytest.raises(CannotMeasure):
        (short + other)(n=5, b=3)
    refused = Formula.refused(("n",), "it halves")
    assert (short + refused).status == "refused"
    assert (short + refused).reason == "it halves"
    assert total([]).is_zero


def test_a_sum_was_checked_as_far_as_its_least_checked_part():
    f = Formula(("n",), TURN.pieces, checked=(("n", 100),))
    g = Formula(("n",), TURN.pieces, checked=(("n", 70),))
    assert (f + g).checked == (("n", 70),)


BN = Formula.of(b * n, ("b", "n", "m"))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"b": 2}, ["size n", "not given", "integer of at least 1", "b, n"]),
        ({"b": 2, "n": 3, "k": 1}, ["size", "'k'", "b, n, m", "spelling"]),
        ({"b": 2, "n": 0}, ["size n", "0", "integer of at least 1", "b, n"]),
        ({"b": 2, "n": -3}, ["size n", "-3", "integer of at least 1"]),
        ({"b": True, "n": 3}, ["size b", "True", "integer of at least 1"]),
        ({"b": 2, "n": 3.0}, ["size n", "3.0", "integer of at least 1"]),
        ({"b": 2, "n": "3"}, ["size n", "'3'", "integer of at least 1"]),
    ],
)
def test_a_wrong_size_is_told_with_name_value_expectation_and_remedy(sizes, words):
    with pytest.raises(UsageError) as caught:
        BN(**sizes)
    assert all(word in str(caught.value) for word in words)


def test_a_size_that_does_not_matter_need_not_be_given():
    assert BN.needed == ("b", "n")
    assert BN(b=2, n=3) == BN(b=2, n=3, m=9) == 6
    turned = Formula(
        ("n",), (Piece((("n", Range(1, 4)),), Polynomial.constant(1)),
                 Piece((("n", Range(5)),), Polynomial.constant(2))),
    )  # fmt: skip
    assert turned.needed == ("n",)
    with pytest.raises(UsageError, match="size n"):
        turned()


def test_where_it_was_refused_or_does_not_hold_it_says_why():
    with pytest.raises(CannotMeasure, match=r"refused.*because it halves"):
        Formula.refused(("n",), "it halves")(n=3)
    with pytest.raises(CannotMeasure, match="it halves"):
        Formula.refused(("n",), "it halves").sympy()
    with pytest.raises(CannotMeasure) as caught:
        pieces((Range(3, 9, 3), n))(n=4)
    assert "n=4" in str(caught.value)
    assert "a multiple of 3" in str(caught.value)


def test_a_size_that_no_value_of_the_formula_uses_but_its_range_does():
    """A constant that was derived for some sizes only answers for these only."""
    constant = pieces((Range(4, None, 4), Polynomial.constant(7)))
    assert constant(n=8) == 7
    with pytest.raises(CannotMeasure):
        constant(n=9)


@settings(max_examples=25)
@given(parts)
def test_plain_data_tell_all(steps):
    f = stairs(steps)
    data = f.to_dict()
    assert data["status"] == f.status
    assert data["text"] == str(f)
    assert [p["condition"] for p in data["pieces"]] == [p.condition for p in f.pieces]
    assert data["sizes"] == ["n"]


def test_pieces_of_one_law_are_one_in_whichever_order_they_come():
    b, n = Polynomial.of("b"), Polynomial.of("n")
    many = Piece((("b", Range(2)), ("n", Range(2))), b * n * 8)
    one = Piece((("b", Range(1, 1)), ("n", Range(2))), n * 8)
    other = Piece((("b", Range(1, 1)), ("n", Range(2))), n * 7)
    for pieces in ([many, one], [one, many]):
        (joined,) = _merged(pieces)
        assert joined.where == (("b", Range(1)), ("n", Range(2)))
        assert joined.polynomial == b * n * 8
    assert len(_merged([many, other])) == 2


def test_numpy_integers_are_sizes_and_do_not_overflow():
    def build(b: int = np.int64(2), n: int = 4):
        return nn.Linear(8, 8), torch.randn(b, n, 8)

    cost = derive_cost(build)
    assert cost.base == {"b": 2, "n": 4}
    assert cost.flops.forward(b=np.int64(2**40), n=np.int64(2**40)) == 2 * 8 * 8 * 2**80
    with pytest.raises(UsageError, match="integer of at least 1"):
        cost.flops.forward(b=np.bool_(True), n=2)


def test_a_cost_can_be_pickled():
    cost = derive_cost(lambda b=2: (nn.Linear(8, 8), torch.randn(b, 8)))
    again = pickle.loads(pickle.dumps(cost))
    assert again == cost
    assert again.by_module().keys() == cost.by_module().keys()


def test_powers_of_what_is_no_size_are_refused():
    formula = Formula.of(Polynomial.of("n"))
    for ask in (formula.by_power, formula.leading):
        with pytest.raises(UsageError, match="a size of this formula"):
            ask("m")


def test_whole_numbers_alone_have_a_forward_pass():
    class Choice(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = nn.Linear(8, 5)

        def forward(self, x):
            return self.score(x).argmax(-1)

    cost = derive_cost(lambda b=2: (Choice(), torch.randn(b, 8)))
    assert str(cost.flops.forward) == "80*b"
    assert cost.flops.backward.is_zero


def test_formulas_that_hold_nowhere_together_are_refused_with_the_reason():
    four, eights = pieces((Range(4, 4), n)), pieces((Range(8, None, 8), n * 2))
    apart = four - eights
    assert apart.status == "refused"
    assert apart.reason == (
        "one part of it holds for n = 4 alone, another for n a multiple of 8, and no size is in both"
    )
    assert f"refused: {apart.reason}" == str(apart)
    with pytest.raises(
        CannotMeasure, match="It was refused because one part of it holds for n = 4"
    ):
        apart(n=4)
    assert total([pieces((Range(), n)), four, eights]).reason == apart.reason


def test_of_pieces_that_meet_along_each_size_but_not_along_both_all_conditions_are_said():
    def at(*corners):
        wheres = [(("b", Range(i, i)), ("n", Range(j, j))) for i, j in corners]
        return Formula(("b", "n"), tuple(Piece(where, b * n) for where in wheres))

    reason = (at((1, 1), (2, 2)) + at((1, 2), (2, 1))).reason
    assert "b = 1, n = 1; or b = 2, n = 2" in reason
    assert "b = 1, n = 2; or b = 2, n = 1" in reason
