"""Quadrature against closed forms; kinks and jumps anywhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from assay.scale.quadrature import gaussian_expectations


def test_even_moments_are_the_double_factorials():
    found = gaussian_expectations(lambda x: np.stack([x**0, x**2, x**4, x**6, x**8]))
    np.testing.assert_allclose(found, [1, 1, 3, 15, 105], rtol=1e-13)


@settings(max_examples=30)
@given(k=st.floats(-9, 9), scale=st.floats(0.05, 20))
def test_a_kink_anywhere_costs_no_digits(k, scale):
    # E max(sZ - ks, 0) = s pdf(k) - ks (1 - cdf(k))
    kink = k * scale
    truth = scale * math.exp(-(k**2) / 2) / math.sqrt(2 * math.pi) - kink * ndtr(-k)
    (found,) = gaussian_expectations(lambda x: np.maximum(x - kink, 0)[None], scale)
    assert found == pytest.approx(truth, rel=1e-11, abs=1e-13 * scale)


@settings(max_examples=20)
@given(jump=st.floats(-4, 4))
def test_a_jump_anywhere_is_the_distribution_function(jump):
    (found,) = gaussian_expectations(lambda x: (x > jump).astype(float)[None])
    assert found == pytest.approx(ndtr(-jump), abs=1e-12)


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-8])
def test_a_kink_or_jump_close_to_a_panel_edge_is_seen(gap):
    """Nodes of Gauss-Legendre would stand on one side of it in a panel and in both of its halves."""
    kink, jump = gaussian_expectations(
        lambda x: np.stack([np.maximum(x - gap, 0), (x > gap).astype(float)])
    )
    truth = math.exp(-(gap**2) / 2) / math.sqrt(2 * math.pi) - gap * ndtr(-gap)
    assert kink == pytest.approx(truth, rel=1e-13)
    assert jump == pytest.approx(ndtr(-gap), rel=1e-13)


def test_agrees_with_adaptive_quadrature_of_scipy():
    from scipy.integrate import quad

    def phi(x):
        return np.where(x > 1.3, np.sin(3 * x), x**2)

    weight = 1 / math.sqrt(2 * math.pi)
    parts = [
        quad(lambda z: float(phi(z)) * math.exp(-z * z / 2) * weight, a, b, epsabs=1e-13)[0]
        for a, b in ((-13, 1.3), (1.3, 13))
    ]
    (found,) = gaussian_expectations(lambda x: phi(x)[None])
    assert found == pytest.approx(sum(parts), abs=1e-12)


def test_growth_beyond_every_gaussian_is_refused():
    with pytest.raises(ValueError, match="no variance"):
        gaussian_expectations(lambda x: np.exp(x**2 / 2)[None])


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"), np.errstate(invalid="ignore"):
        gaussian_expectations(lambda x: np.sqrt(x)[None])
