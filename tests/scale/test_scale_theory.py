"""S1, S2 and S4 by simulation with stated error rates, and by closed form."""

import itertools
import math

import pytest
import torch
from scale_models import CentredReLU, centred, kaiming, mlp
from scipy import integrate
from torch import nn

from assay import measure_scale
from assay.init import gain
from assay.subject import Subject


def test_s1_variance_is_fan_in_times_weight_variance():
    """200 x 200 weights: the mean over 200 units has a relative standard error of sqrt(2/200/200) + data's.

    With 4000 samples it is below 1.5 %; 5 % is more than three of them (error rate below 1e-3).
    """
    layer = nn.Linear(200, 200, bias=False)
    for std in (0.01, 1 / math.sqrt(200), 0.5):
        nn.init.normal_(layer.weight, std=std)
        (row,) = measure_scale((layer, torch.randn(4000, 200))).rows
        assert row.variance == pytest.approx(200 * std**2, rel=0.05)
        assert row.predicted == pytest.approx(200 * std**2, rel=0.05)
        assert row.mean < 0.05 * math.sqrt(row.variance)


def test_s2_centred_relu_keeps_every_unit_at_zero_and_one():
    """Expected mean 0 and variance 1 after each of four activations, within 10 % at width 512."""
    model = mlp(4, 512, CentredReLU, centred)
    scale = measure_scale((model, torch.randn(2048, 512)))
    outputs = [row for row in scale.rows if row.kind == "activation"]
    assert len(outputs) == 4
    for row in outputs:
        assert row.variance == pytest.approx(1, abs=0.1)
        assert row.mean < 0.2
    assert scale.findings == ()


def test_s2_uncentred_he_initialisation_keeps_the_square_and_loses_the_variance():
    scale = measure_scale((mlp(20, 256, nn.ReLU, kaiming), torch.randn(512, 256)))
    last = [row for row in scale.rows if row.kind == "product"][-2]
    assert last.second_moment == pytest.approx(2, rel=0.6)
    assert last.variance < 0.5 * last.second_moment
    assert any(f.rule == "scale.forward-mean" for f in scale.findings)


def test_s4_gradients_grow_by_chi_per_layer_when_the_forward_pass_keeps_variance():
    """chi = pi/(pi-1) per layer over 6 layers, within 25 % at width 512."""
    model = mlp(6, 512, CentredReLU, centred, readout=512)
    scale = measure_scale((model, torch.randn(1024, 512)))
    products = [row for row in scale.rows if row.kind == "product"]
    ratio = products[0].gradient / products[-1].gradient
    # six products, each c/d · d · E relu'^2 = c/2 = chi
    assert ratio == pytest.approx((math.pi / (math.pi - 1)) ** 6, rel=0.25)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
def test_s4_predicted_gradient_beside_measured(activation):
    model = mlp(3, 400, activation, kaiming, readout=400)
    scale = measure_scale((model, torch.randn(300, 400)))
    products = [row for row in scale.rows if row.kind == "product"]
    for row in products[:-1]:
        assert row.gradient_predicted == pytest.approx(row.gradient, rel=0.1)
    assert products[-1].gradient_predicted is None
    assert products[-1].gradient == 1.0  # random signs


def test_s1_prediction_of_a_convolution_counts_padding_as_zeros():
    """5000 draws of the weights: relative standard error sqrt(2/5000) = 2 %; 8 % allowed."""
    x = torch.randn(2, 3, 4, 4)
    for conv in (
        nn.Conv2d(3, 5000, 3, padding=1),
        nn.Conv2d(3, 5000, 3, stride=2, bias=False),
        nn.ConvTranspose2d(3, 5000, 3, stride=2),
    ):
        nn.init.normal_(conv.weight, std=0.3)
        (row,) = measure_scale(Subject(conv, x)).rows
        assert row.predicted == pytest.approx(row.second_moment, rel=0.08)


def test_s1_prediction_of_grouped_and_bilinear_maps():
    grouped = nn.Conv1d(4, 4000, 3, groups=2, padding=1, bias=False)
    (row,) = measure_scale(Subject(grouped, torch.randn(3, 4, 7))).rows
    assert row.predicted == pytest.approx(row.second_moment, rel=0.08)
    bilinear = nn.Bilinear(3, 4, 4000, bias=False)
    (row,) = measure_scale(Subject(bilinear, (torch.randn(9, 3), torch.randn(9, 4)))).rows
    assert row.fan_in == 12
    assert row.predicted == pytest.approx(row.second_moment, rel=0.08)


def every_sign(d):
    """All 2^d vectors of ±1: exactly zero mean, unit variance and no correlation."""
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=d)), dtype=torch.float64)


def test_s1_by_enumeration():
    """Over all inputs of ±1, Var u[i] is Σ_j W[i,j]²; over all weights of ±σ too, d_x σ². No sampling."""
    d, sigma, x = 4, 0.3, every_sign(4)
    unbiased = len(x) / (len(x) - 1)  # variances are measured with n − 1
    layer = nn.Linear(d, 5, bias=False, dtype=torch.float64)
    (row,) = measure_scale((layer, x)).rows
    exact = float(layer.weight.detach().square().sum(1).mean())
    assert row.variance == pytest.approx(exact * unbiased, rel=1e-12)
    assert row.mean == pytest.approx(0, abs=1e-12)
    every = nn.Linear(d, 2**d, bias=False, dtype=torch.float64)
    every.weight.data = sigma * every_sign(d)
    (row,) = measure_scale((every, x)).rows
    assert row.variance == pytest.approx(d * sigma**2 * unbiased, rel=1e-12)
    assert row.predicted == pytest.approx(d * sigma**2, rel=1e-12)


def test_s2_by_enumeration():
    """A sum of d signs is a binomial: the ReLU's moments are finite sums, without any Gaussian."""
    d, s = 9, 0.7
    layer = nn.Linear(d, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(layer.weight, s / math.sqrt(d))
    _, row = measure_scale((nn.Sequential(layer, nn.ReLU()), every_sign(d))).rows
    values = [(s * (2 * k - d) / math.sqrt(d), math.comb(d, k) / 2**d) for k in range(d + 1)]
    mean = sum(chance * max(u, 0) for u, chance in values)
    square = sum(chance * max(u, 0) ** 2 for u, chance in values)
    assert row.second_moment == pytest.approx(square, rel=1e-12)
    assert row.variance == pytest.approx((square - mean**2) * 2**d / (2**d - 1), rel=1e-12)
    assert square == pytest.approx(s**2 / 2, rel=1e-12)  # exact for every symmetric u
    assert mean == pytest.approx(s / math.sqrt(2 * math.pi), rel=0.03)  # only nearly Gaussian


def test_s2_constants_by_adaptive_integration():
    def expectation(f):
        density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
        return integrate.quad(lambda z: f(z) * density(z), 0, 12, epsabs=1e-13)[0]

    mean, square = expectation(lambda z: z), expectation(lambda z: z * z)
    c = 1 / (square - mean**2)
    assert c == pytest.approx(2 * math.pi / (math.pi - 1), rel=1e-10)
    assert math.sqrt(c) * mean == pytest.approx(1 / math.sqrt(math.pi - 1), rel=1e-10)
    assert gain("relu").weight_variance == pytest.approx(c, rel=1e-10)
    assert gain("relu").shift == pytest.approx(math.sqrt(c) * mean, rel=1e-10)
