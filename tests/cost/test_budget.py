"""Budgets and crossovers against going through all sizes one by one."""

import json
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cli.cost import cost as command
from assay.cost.budget import NothingFits, amount
from assay.cost.formula import Formula, Piece, Range
from assay.cost.polynomial import Polynomial
from assay.errors import CannotMeasure, UsageError

N, B = Polynomial.of("n"), Polynomial.of("b")


@settings(max_examples=30, derandomize=True)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(0, 50), st.integers(1, 1000))
def test_the_largest_size_is_the_one_that_trying_all_finds(square, linear, constant, budget):
    formula = Formula.of(N * N * square + N * linear + Polynomial.constant(constant))
    fitting = [n for n in range(1, 1001) if formula(n=n) <= budget]
    if fitting:
        assert formula.solve("n", below=budget) == max(fitting)
    else:
        with pytest.raises(CannotMeasure, match="fits the least n, 1, which takes"):
            formula.solve("n", below=budget)


@settings(max_examples=30, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 200), st.integers(0, 300))
def test_the_crossover_is_the_one_that_trying_all_finds(square, linear, constant):
    fast, slow = Formula.of(N * N * square), Formula.of(N * linear + Polynomial.constant(constant))
    over = [n for n in range(1, 600) if fast(n=n) > slow(n=n)]
    expected = None if over[0] == 1 else over[0]
    assert fast.crossover(slow, "n") == expected
    assert slow.crossover(fast, "n") is None


RANGES = st.builds(Range, st.integers(1, 6), st.none() | st.integers(8, 90), st.integers(1, 6))


@settings(max_examples=60, derandomize=True)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sets(st.integers(3, 60), min_size=3, max_size=3),
    RANGES,
    st.integers(1, 300),
)
def test_across_pieces_and_grids_too(factors, cuts, span, constant):
    lows = [2, *sorted(cuts)][: len(factors)]
    highs = [*(low - 1 for low in lows[1:]), None]
    pieces = [
        Piece((("n", Range(low, high)),), N * factor)
        for factor, low, high in zip(factors, lows, highs, strict=True)
    ]
    one = Formula(("n",), tuple(pieces))
    other = Formula(("n",), (Piece((("n", span),), Polynomial.constant(constant)),))
    common = [n for n in range(1, 2000) if one.holds(n=n) and other.holds(n=n)]
    over = [one(n=n) > other(n=n) for n in common]
    last = max((k for k, more in enumerate(over) if not more), default=None)
    expected = None if last in (None, len(common) - 1) else common[last + 1]
    assert one.crossover(other, "n") == expected


LAWS = st.builds(
    lambda c, part, offset, period: (
        Polynomial(
            (N * N * c[0] + N * part * c[1] + Polynomial.of("n", offset, period) * c[2]).terms
        )
        + Polynomial.constant(c[3])
    ),
    st.tuples(*[st.integers(-9, 9)] * 4),
    st.sampled_from([1, Fraction(1, 3)]),
    st.integers(0, 4),
    st.sampled_from([2, 3]),
)
SPANS = st.builds(
    lambda low, more, step: Range(low, None if more is None else low + more, step),
    st.integers(1, 30),
    st.none() | st.integers(0, 40),
    st.integers(1, 4),
)
# pieces that overlap, end, and leave gaps; those with a third of n are rounded up, as peaks are
FORMULAS = st.lists(
    st.tuples(SPANS, st.lists(LAWS, min_size=2, max_size=3)), min_size=1, max_size=4
).map(
    lambda parts: Formula(
        ("n",), tuple(Piece((("n", span),), laws[0], tuple(laws[1:])) for span, laws in parts)
    )
)
FAR = 600  # beyond it the laws above keep their order


@settings(max_examples=80, derandomize=True)
@given(FORMULAS, FORMULAS | st.integers(-100, 40))
def test_from_the_crossover_on_it_is_more_at_every_value(one, other):
    theirs = other if isinstance(other, Formula) else Formula.of(Polynomial.constant(other), ["n"])
    common = [n for n in range(1, FAR) if one.holds(n=n) and theirs.holds(n=n)]
    if not common:
        with pytest.raises(CannotMeasure, match="both formulas hold"):
            one.crossover(other, "n")
        return
    over = [one(n=n) > theirs(n=n) for n in common]
    last = max((k for k, more in enumerate(over) if not more), default=None)
    never = (
        last is None or last == len(common) - 1 or common[last] > FAR - 40
    )  # now over, now under
    expected = None if never else common[last + 1]
    assert one.crossover(other, "n") == expected


@settings(max_examples=80, derandomize=True)
@given(FORMULAS, st.integers(-100, 40))
def test_the_largest_that_fits_whichever_way_the_cost_turns(formula, budget):
    fitting = [n for n in range(1, FAR) if formula.holds(n=n) and formula(n=n) <= budget]
    if not fitting:
        with pytest.raises(
            NothingFits, match=r"a budget that fits (some n|the least n.*, \d+, which takes)"
        ):
            formula.solve("n", below=budget)
    elif max(fitting) > FAR - 40:  # grids of several steps meet rarely
        with pytest.raises(CannotMeasure, match=r"(Every n( from .* on)?|Some n) fits"):
            formula.solve("n", below=budget)
    else:
        assert formula.solve("n", below=budget) == max(fitting)


def test_what_is_now_more_now_less_overtakes_nowhere():
    odd = Formula(("n",), (Piece((("n", Range(1, None, 2)),), N), Piece((("n", Range()),), N * -1)))
    assert odd.crossover(5, "n") is None
    assert (odd * -1).crossover(5, "n") is None


def test_where_the_cost_falls_it_says_from_where_on_every_size_fits():
    falls = Formula(
        ("n",),
        (
            Piece((("n", Range(1, 99)),), N * -1 + Polynomial.constant(100)),
            Piece((("n", Range(100)),), Polynomial.constant(1)),
        ),
    )
    with pytest.raises(CannotMeasure, match="Every n from 50 on fits"):
        falls.solve("n", below=50)
    with pytest.raises(CannotMeasure, match="a budget that fits some n"):
        falls.solve("n", below=0)


def test_floors_that_hardly_repeat_are_not_compared():
    odd = Formula.of(Polynomial.of("n", 0, 997) + Polynomial.of("n", 0, 991))
    with pytest.raises(CannotMeasure, match="floors that repeat every 988,027 values"):
        odd.crossover(5, "n")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.crossover("80GB", "n", b=1), "other = '80GB': expected a formula or a number"),
        (lambda f: f.crossover(None, "n", b=1), "other is missing: expected a formula or a number"),
        (
            lambda f: f.crossover(9, "n", b=1, zz=3),
            r"size = 'zz': expected a size of one .*\(b, n\)",
        ),
        (lambda f: f.crossover(9, "n", b=-4), "size b = -4: expected an integer of at least 1"),
        (lambda f: f.solve("n", below=None, b=1), "below is missing: expected a number of bytes"),
        (lambda f: f.solve("n", below="80GB", b=1), "below = '80GB'.*80 \\* 10"),
        (lambda f: f.solve("n", below=float("nan"), b=1), "below = nan"),
        (lambda f: f.solve("n", below=9, b=-4), "size b = -4: expected an integer of at least 1"),
        (lambda f: f.solve("n", below=9), "size b = not given"),
        (lambda f: f.solve("n", below=9, b=1, zz=1), "size = 'zz'"),
        (lambda f: f.order_in("zz"), r"size = 'zz': expected a size of this formula \(b, n\)"),
        (lambda f: f.degree("zz"), "size = 'zz'"),
        (lambda f: f.holds(zz=2), "size = 'zz'"),
        (lambda f: f.holds(n="many"), "size n = 'many': expected an integer of at least 1"),
    ],
)
def test_what_is_misspelt_or_no_number_is_named(ask, message):
    with pytest.raises(UsageError, match=message):
        ask(Formula.of(B * N))


def test_a_number_is_overtaken_as_a_formula_is():
    assert Formula.of(B * N * N).crossover(10**9, "n", b=1) == 31623
    assert Formula.of(N).crossover(4.5, "n") == 5


def test_the_integers_of_numpy_do_not_overflow():
    cube, b = Formula.of(B * B * B * N), np.int64(10**7)
    assert cube.solve("n", below=10**22, b=b) == 10
    assert Formula.of(N).crossover(np.int64(10**17 + 1), "n") == 10**17 + 2
    assert cube.crossover(Formula.of(B * B * B * B), "n", b=b) == 10**7 + 1


def test_where_no_size_is_common_it_says_so():
    one = Formula(("n",), (Piece((("n", Range(1, 5)),), N),))
    other = Formula(("n",), (Piece((("n", Range(6)),), N),))
    with pytest.raises(CannotMeasure, match="both formulas hold"):
        one.crossover(other, "n")


def test_what_was_refused_says_why_whatever_is_asked():
    refused = Formula.refused(("n",), "a loop halves")
    for ask in (
        lambda: refused.solve("n", below=5),
        lambda: refused.crossover(Formula.of(N), "n"),
        lambda: Formula.of(N).crossover(refused, "n"),
        refused.leading,
    ):
        with pytest.raises(CannotMeasure, match="a loop halves"):
            ask()


def test_the_leading_terms_of_a_peak_are_a_peak():
    laws = (N * N * 3 + N, N * N * 4 + N * 100, N * 1000)
    peak = Formula(("n",), (Piece((("n", Range()),), laws[0], laws[1:]),))
    assert peak.leading("n")(n=10**6) == 4 * 10**12


def test_with_floors_the_step_is_found_too():
    formula = Formula.of(Polynomial.of("h", 31, 32) * 10)
    assert formula.solve("h", below=25) == 64
    assert formula(h=64) == 20
    assert formula(h=65) == 30


def test_the_leading_terms_are_those_that_no_other_dominates():
    formula = Formula.of(B * N * N * 3 + B * N * 5 + B * B)
    assert str(formula.leading("n")) == "3*b*n**2"
    assert formula.leading()(b=2, n=3) == 3 * 2 * 9 + 4


def test_what_cannot_be_solved_is_said():
    with pytest.raises(UsageError, match=r"solve = 'm': expected a size of this formula \(n\)"):
        Formula.of(N).solve("m", below=3)
    with pytest.raises(CannotMeasure, match="Every n fits"):
        Formula.of(Polynomial.constant(5), ["n"]).solve("n", below=7)


@pytest.mark.parametrize(
    ("text", "value"), [("80GB", 80 * 10**9), ("24GiB", 24 * 2**30), ("1e15", 10**15), ("7", 7)]
)
def test_budgets_are_read(text, value):
    assert amount(text) == value


@pytest.mark.parametrize("text", ["", "lots", "-3GB", "0", "3QB", "inf"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(UsageError, match="80GB, 24GiB or 1e15"):
        amount(text)


MODELS = """
import torch
from torch import nn
import torch.nn.functional as F

class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)

def attention(b: int = 2, n: int = 8, d: int = 4):
    return nn.Sequential(nn.Linear(d, d), Attention()), torch.randn(b, n, d)

def linear(b: int = 2, n: int = 8, d: int = 4):
    return nn.Linear(d, d), torch.randn(b, n, d)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "models.py"
    path.write_text(MODELS)
    return str(path)


def run(*words):
    return CliRunner().invoke(command, words, standalone_mode=False, catch_exceptions=False)


def test_the_command_solves_compares_and_counts_at_sizes(models):
    done = run(
        f"{models}:attention", "--at", "b=1,d=64", "--solve", "n", "--fit-flops", "1e12",
        "--compare", f"{models}:linear",
    )  # fmt: skip
    assert done.return_value == 0
    assert "At b=1, n=8, d=64:" in done.output
    largest = int(done.output.split("at b=1, d=64: ")[1].split("\n")[0].replace(",", ""))

    def flops(
        n,
    ):  # the layer forward, and back to its weights alone; attention forward and twice back
        return 2 * 64 * n * (2 * 64 + 6 * n)

    assert flops(largest) <= 10**12 < flops(largest + 1)
    assert "flops, forward   4*b*d*n**2" in done.output


def test_the_memory_that_fits_is_solved_for(models):
    done = run(f"{models}:linear", "--solve", "b", "--fit-memory", "1MB")
    assert "The largest b within 1,000,000 bytes" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--solve", "n"), "--solve together with --fit-memory or --fit-flops"),
        (("--fit-memory", "1GB"), "--solve together with --fit-memory or --fit-flops"),
        (
            ("--solve", "q", "--fit-memory", "1GB"),
            r"--solve = 'q': expected a size of .* \(b, n, d\)",
        ),
        (("--at", "q=3"), "--at = 'q': expected a size"),
        (("--solve", "n", "--fit-memory", "much"), "--fit-memory = 'much'.* 80GB, 24GiB or 1e15"),
        (("--at", "n=3", "--at", "n=4"), "`n` to be given once"),
        (("--size", "n=3", "-a", "n=4"), "`n` to be given once, not with --size"),
        (("--time", "--fused"), "it without --time"),
    ],
)
def test_wrong_words_are_named(models, words, message):
    with pytest.raises(UsageError, match=message):
        run(f"{models}:linear", *words)


@pytest.mark.parametrize("form", ["json", "html"])
def test_answers_are_in_every_format(models, form):
    done = run(
        f"{models}:attention", "--at", "b=1,d=64", "--solve", "n", "--fit-flops", "1e12",
        "--compare", f"{models}:linear", "--format", form,
    )  # fmt: skip
    if form == "html":
        for words in ("At b=1, n=8, d=64:", "The largest n within", "attention less"):
            assert words in done.output
        return
    found = json.loads(done.output)["sections"][0]["result"]
    at, most, other = found["asked"]
    assert at["values"]["flops, forward"] == 2 * 8 * 64 * 64 + 4 * 64 * 64
    assert most["value"] > 10_000
    assert other["differences"]["flops, forward"]["text"] == "4*b*d*n**2"
