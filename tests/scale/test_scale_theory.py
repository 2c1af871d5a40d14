"""S1, S2 and S4 by simulation with stated error rates, and by closed form."""

import math

import pytest
import torch
from scale_models import CentredReLU, centred, kaiming, mlp
from torch import nn

from assay import measure_scale
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
