import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay import UsageError, bound
from assay.certificate.bounds import _log_factorial, _log_tail, _pi, below_truth, upward


def counts(largest=400):
    return st.integers(1, largest).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def exact_tail(k, n, p: Fraction) -> Fraction:
    return sum(
        (Fraction(math.comb(n, j)) * p**j * (1 - p) ** (n - j) for j in range(k + 1)), Fraction(0)
    )


@settings(max_examples=40)
@given(counts(40), st.integers(0, 60), st.sampled_from([0.3, 0.05, 1e-6]))
def test_binomial_is_the_smallest_float_that_exact_fractions_certify(count, bits, delta):
    k, n = count
    found = bound(k, n, bits, delta).binomial
    if k == n:
        assert found == 1.0
        return
    level = Fraction(delta) / 2**bits
    if found < 1.0:
        assert exact_tail(k, n, Fraction(found)) < level
    # and it is tight: 1e-11 to the left, the tail is still likely
    assert exact_tail(k, n, Fraction(found) - Fraction(1, 10**11)) >= level


@settings(max_examples=40)
@given(counts(5000), st.sampled_from([0.3, 0.05, 1e-9]))
def test_without_bits_binomial_is_clopper_pearson(count, delta):
    k, n = count
    # isf, not ppf(1 − δ): at δ = 1e-9 that difference has seven digits left
    expected = 1.0 if k == n else stats.beta.isf(delta, k + 1, n - k)
    assert bound(k, n, 0, delta).binomial == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [1, 7, 1000, 60_000])
@pytest.mark.parametrize("delta", [0.5, 0.05, 1e-12])
def test_zero_errors_have_a_closed_form(n, delta):
    # (1 − p)^N = δ, and kl(0 ‖ p) = −ln(1 − p) gives the same
    expected = -math.expm1(math.log(delta) / n)
    bounds = bound(0, n, 0, delta)
    assert bounds.binomial == pytest.approx(expected, rel=1e-12)
    assert bounds.kl == pytest.approx(expected, rel=1e-12)
    assert bounds.kl >= expected * (1 - 1e-14)


@settings(max_examples=40)
@given(counts(), st.integers(0, 300))
def test_kl_inverts_the_divergence(count, bits):
    k, n = count
    p, q = bound(k, n, bits).kl, k / n
    budget = (bits * math.log(2) + math.log(20)) / n
    if p < 1:
        first = q * math.log(q / p) if q else 0.0
        divergence = first + ((1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0)
        # near 1 a float's spacing is all that is left of 1 − p
        assert divergence == pytest.approx(budget, rel=1e-9, abs=1e-14 / (1 - p))


@settings(max_examples=60)
@given(counts(3000), st.integers(0, 4000), st.floats(1e-9, 0.4))
def test_each_bound_relaxes_the_one_before(count, bits, delta):
    b = bound(*count, bits, delta)
    assert b.rate <= b.binomial <= b.kl <= b.course or b.course == 1.0 >= b.kl >= b.binomial


@settings(max_examples=40)
@given(counts(), st.integers(0, 500), st.floats(1e-6, 0.4))
def test_bounds_grow_with_errors_bits_and_confidence(count, bits, delta):
    k, n = count
    here = bound(k, n, bits, delta)
    worse = [bound(k, n, bits + 1, delta), bound(k, n, bits, delta / 2)]
    worse += [bound(k + 1, n, bits, delta)] if k < n else []
    for other in worse:
        assert other.binomial >= here.binomial
        assert other.kl >= here.kl
        assert other.course >= here.course


@settings(max_examples=40)
@given(counts(200), st.integers(0, 200), st.sampled_from([0.05, 1e-6]))
def test_course_form_is_rounded_up_and_no_more_than_one_float(count, bits, delta):
    k, n = count
    found = bound(k, n, bits, delta).course
    exact = (
        Decimal(10)
        / 9
        * (Decimal(k) + 5 * (bits * Decimal(2).ln() - Decimal(delta).ln()))
        / Decimal(n)
    )
    if found < 1:
        assert Decimal(found) >= exact * (1 - Decimal("1e-24"))  # 28 digits here, 50 there
        assert Decimal(math.nextafter(found, 0)) < exact
    else:
        assert exact > Decimal("0.9999999")


@settings(max_examples=30)
@given(counts(300), st.integers(0, 60))
def test_course_form_is_the_general_one_at_lambda_5_and_others_hold_too(count, bits):
    """L1 for any λ > 1/2, from its own formula: each is a relaxation of the kl bound, as λ = 5 is."""
    k, n = count
    found = bound(k, n, bits)
    price = bits * math.log(2) + math.log(1 / 0.05)  # ln 1/P(h) = bits · ln 2, in nats

    def general(lam):
        return (k / n + lam / n * price) / (1 - 1 / (2 * lam))

    assert found.course == pytest.approx(min(1.0, general(5)), rel=1e-12)
    for lam in (0.51, 0.7, 1.0, 2.0, 5.0, 20.0):
        assert general(lam) >= found.kl * (1 - 1e-12)


@pytest.mark.parametrize("bits", [10**6, 10**9])
def test_a_million_bits_do_not_underflow(bits):
    b = bound(40_000, 108_000, bits)
    assert b.course == 1.0
    assert 0.999 < b.binomial <= b.kl <= 1.0
    assert b.vacuous


def test_published_figure():
    # error .146 at 1955 bits on Fashion-MNIST's 60 000 certifies 23.1 %
    assert upward(bound(8763, 60_000, 1955).best) == "0.232"


def test_what_one_may_afford_is_exactly_what_fits():
    b = bound(30, 1000, 0)
    room = b.affordable(0.25)
    assert bound(30, 1000, room).binomial <= 0.25 < bound(30, 1000, room + 1).binomial
    assert b.affordable(0.03) is None
    assert bound(30, 1000, 0).affordable(0.031) is None  # too near for even 0 bits
    with pytest.raises(UsageError, match="target"):
        b.affordable(1.0)


def test_holdout_takes_the_same_error_rate_unless_told():
    b = bound(100, 1000, 500)
    assert b.holdout() == bound(100, 1000, 0).binomial
    assert b.holdout(55) == bound(6, 55, 0).binomial  # 5.5 errors, rounded up
    assert b.holdout(55, errors=2) == bound(2, 55, 0).binomial


def test_the_lower_limit_mirrors_the_upper_one():
    expected = stats.beta.ppf(0.01, 30, 71)
    assert below_truth(30, 100, 0.01) == pytest.approx(expected, rel=1e-9)
    assert below_truth(0, 100, 0.01) == 0.0


@pytest.mark.parametrize("n", [0, 1, 5, 1023, 1024, 10**6])
def test_log_factorial(n):
    expected = math.log(math.factorial(n)) if n < 2000 else math.lgamma(n + 1)
    assert float(_log_factorial(n)) == pytest.approx(expected, rel=1e-14, abs=1e-14)


def test_stirling_meets_the_exact_factorial():
    exact = Decimal(math.factorial(1023)).ln() + Decimal(1024).ln()  # 28 digits
    assert abs(_log_factorial(1024) - exact) < Decimal("1e-23")


def test_pi():
    assert str(_pi()).startswith("3.14159265358979323846264338327950288419716939937510")


def test_tails_agree_with_scipy_where_it_does_not_underflow():
    for k, n, p in [(0, 5, 0.5), (300, 1000, 0.31), (4000, 10_000, 0.45), (999, 1000, 0.9999)]:
        expected = stats.binom.logcdf(k, n, p)
        assert float(_log_tail(k, n, p)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 10, 5), "errors"),
        ((11, 10, 5), "errors"),
        ((0.5, 10, 5), "errors"),
        ((True, 10, 5), "errors"),
        ((0, 0, 5), "examples"),
        ((0, 10, -1), "bits"),
        ((0, 10, "9"), "bits"),
        ((0, 10, 5, 0.0), "delta"),
        ((0, 10, 5, 1), "delta"),
        ((0, 10, 5, float("nan")), "delta"),
        ((0, 10, 5, "0.05"), "delta"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(UsageError, match=f"^{name} = "):
        bound(*arguments)


def test_numpy_integers_are_integers():
    assert bound(np.int64(3), np.int32(10), np.int64(2)) == bound(3, 10, 2)


def test_the_view_says_the_numbers():
    view = bound(8763, 60_000, 1955).view()
    assert "8,763 errors on 60,000" in view.answer
    assert "at most 0.232" in view.answer
    assert view.blocks[0].limits == (0.0, 1.0)
    assert "vacuous" in bound(900, 1000, 100_000).view().answer


def test_plain_data():
    data = bound(1, 10, 3).to_dict()
    assert data["errors"] == 1
    assert data["binomial"] == bound(1, 10, 3).binomial
