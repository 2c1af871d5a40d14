"""Gains against closed forms, published tables, simulation, and what must be refused (Theory S2, S3)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from assay.errors import UsageError
from assay.init import gain


def test_relu_is_the_closed_form_of_the_sheet():
    g = gain("relu")
    assert g.weight_variance == pytest.approx(2 * math.pi / (math.pi - 1), rel=1e-12)
    assert g.shift == pytest.approx(1 / math.sqrt(math.pi - 1), rel=1e-12)
    assert g.chi == pytest.approx(math.pi / (math.pi - 1), rel=1e-12)
    assert g.input_scale == pytest.approx(g.std, rel=1e-12)
    assert g.input_shift == pytest.approx(g.shift, rel=1e-12)
    assert g.method == "output gain = input scale"


@settings(max_examples=15)
@given(slope=st.floats(-0.9, 0.95))
def test_leaky_relu_is_its_closed_form(slope):
    # mean (1-a)/sqrt(2 pi), second moment (1+a^2)/2, mean square slope (1+a^2)/2
    variance = (1 + slope**2) / 2 - (1 - slope) ** 2 / (2 * math.pi)
    g = gain(nn.LeakyReLU(slope))
    assert g.weight_variance == pytest.approx(1 / variance, rel=1e-11)
    assert g.shift == pytest.approx((1 - slope) / math.sqrt(2 * math.pi * variance), rel=1e-11)
    assert g.chi == pytest.approx((1 + slope**2) / 2 / variance, rel=1e-11)


def test_the_scale_that_keeps_the_mean_square_is_he_initialisation():
    assert gain("relu").square_scale == pytest.approx(math.sqrt(2), rel=1e-12)
    assert gain(nn.LeakyReLU(0.3)).square_scale == pytest.approx(math.sqrt(2 / 1.09), rel=1e-12)
    assert gain("identity").square_scale == pytest.approx(1, rel=1e-12)
    assert gain("tanh").square_scale is None
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for name in ("gelu", "silu"):
        square = getattr(F, name)(gain(name).square_scale * z).square().mean()
        assert float(square) == pytest.approx(1, abs=2e-2)


def test_a_kink_far_out_does_not_hide_the_scale_that_reaches_it():
    g = gain(lambda x: F.relu(x - 1.5))
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert float(F.relu(g.input_scale * z - 1.5).var()) == pytest.approx(1, abs=2e-2)
    with pytest.raises(UsageError, match="tails only"):
        gain(lambda x: F.relu(x - 12))


def test_erf_is_its_closed_form():
    # E erf(Z)^2 = (2/pi) asin(2/3); E erf'(Z)^2 = 4/(pi sqrt 5)
    g = gain(torch.erf)
    variance = 2 / math.pi * math.asin(2 / 3)
    assert g.weight_variance == pytest.approx(1 / variance, rel=1e-12)
    assert g.shift == pytest.approx(0, abs=1e-14)
    assert g.chi == pytest.approx(4 / (math.pi * math.sqrt(5)) / variance, rel=1e-12)
    assert g.input_scale is None
    assert g.input_shift is None
    assert g.input_chi is None


@pytest.mark.parametrize("name", ["identity", "linear"])
def test_identity_leaves_everything_alone(name):
    g = gain(name)
    assert (g.weight_variance, g.chi, g.input_scale) == pytest.approx((1, 1, 1), rel=1e-12)
    assert g.shift == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize(
    ("activation", "std", "shift", "chi"),
    [
        (nn.LeakyReLU(0.2), 1.5465, 0.4936, 1.244),
        ("silu", 1.7872, 0.3693, 1.212),
        ("mish", 1.5920, 0.3827, 1.214),
        ("elu", 1.2708, 0.2040, 1.079),
        ("tanh", 1.5925, 0.0, 1.178),
        ("softplus", 1.9191, 1.5469, 1.081),
        ("hardswish", 1.8139, 0.3015, 1.180),
    ],
)
def test_known_output_gains(activation, std, shift, chi):
    g = gain(activation)
    assert g.output_gain == g.std == pytest.approx(std, abs=5e-5)
    assert g.shift == pytest.approx(shift, abs=5e-5)
    assert g.chi == pytest.approx(chi, abs=5e-4)


@pytest.mark.parametrize("name", ["silu", "gelu", "mish", "elu", "softplus", "hardswish", "relu"])
def test_the_input_scale_gives_unit_variance_in_simulation(name):
    """10^6 draws: the standard error of a variance is below 5e-3 here, 4 of them are allowed."""
    g = gain(name)
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = getattr(F, name)(g.input_scale * z) - g.input_shift
    assert float(x.mean()) == pytest.approx(0, abs=4e-3)
    assert float(x.var()) == pytest.approx(1, abs=2e-2)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "erf", "hardtanh", "softsign", "sin"])
def test_a_bounded_activation_has_no_input_scale(name):
    g = gain(name)
    assert g.input_scale is None
    assert "no s" in str(g)


@settings(max_examples=15)
@given(factor=st.floats(0.1, 10), offset=st.floats(-5, 5))
def test_output_gain_undoes_factor_and_offset(factor, offset):
    plain = gain("gelu")
    other = gain(lambda x: factor * F.gelu(x) + offset)
    assert other.std == pytest.approx(plain.std / factor, rel=1e-9)
    assert other.chi == pytest.approx(plain.chi, rel=1e-9)
    assert other.shift == pytest.approx(plain.shift + other.std * offset, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(
    "name", ["relu", "gelu", "silu", "tanh", "softplus", "selu", "squared_relu"]
)
def test_chi_is_at_least_one(name):
    assert gain(name).chi >= 1


def test_an_activation_that_jumps_has_the_chi_of_its_autograd_slope():
    assert gain(torch.sign).chi == 0  # autograd's derivative of sign is 0
    step = gain(lambda x: (x > 0).double())  # no derivative at all in autograd
    assert math.isnan(step.chi)
    assert step.weight_variance == pytest.approx(4, rel=1e-12)


def test_names_modules_and_functions_agree():
    assert gain("leaky_relu") == gain("LeakyReLU".lower())
    for other in (nn.GELU(), F.gelu):
        assert gain(other).std == pytest.approx(gain("gelu").std, rel=1e-14)
    assert gain("swish") == gain("silu")


def test_an_in_place_module_with_parameters_and_hooks_is_left_alone():
    module = nn.PReLU().to(torch.bfloat16)
    seen = []
    module.register_forward_hook(lambda *a: seen.append(1))
    assert gain(module).std == pytest.approx(gain(nn.LeakyReLU(0.25)).std, rel=1e-12)
    assert seen == []
    assert module.weight.dtype == torch.bfloat16
    assert gain(nn.ReLU(inplace=True)).std == gain("relu").std


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("rellu", "Did you mean 'relu'"),
        (3, "a name, an nn.Module or a function"),
        (nn.ReLU, "a name, an nn.Module or a function"),
        (nn.Softmax(dim=0), "depends on the others"),
        (nn.Softmax(), "depends on the others"),
        (nn.GLU(dim=0), "raised RuntimeError"),
        (lambda x: x[:3], r"into \[3\]"),
        (lambda x: 3.0, "into float"),
        (nn.Dropout(), r"it is random. Call .eval\(\) first"),
        (torch.log, "nan"),
        (torch.zeros_like, "constant"),
        (lambda x: torch.exp(x * x), "grows so fast"),
    ],
)
def test_what_has_no_gain_is_refused(bad, why):
    state = torch.get_rng_state()
    with pytest.raises(UsageError, match=why):
        gain(bad)
    assert torch.equal(state, torch.get_rng_state())


def test_text_names_the_convention():
    assert "output gain = input scale" in str(gain("relu"))
    assert "or in front of it" in str(gain("silu"))


def test_an_activation_that_explodes_at_large_scale_still_has_a_gain():
    g = gain(lambda x: torch.exp(0.9 * x))
    assert g.input_scale is not None
    assert g.input_scale < 1
