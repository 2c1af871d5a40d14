"""What users bring that is not a healthy model, and what a healthy one must not be accused of."""

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import measure_scale
from assay.errors import CannotMeasure
from assay.subject import Subject


def found(scale, rule):
    return next((f for f in scale.findings if f.rule == rule), None)


class Through(nn.Linear):
    """A linear layer and a function of its output."""

    def __init__(self, after, width=8):
        super().__init__(width, width)
        self.after = after

    def forward(self, x):
        return self.after(super().forward(x))


def test_nan_that_only_the_output_shows_is_found():
    scale = measure_scale((Through(lambda y: torch.log(y - 100)), torch.randn(6, 8)))
    finding = found(scale, "scale.non-finite")
    assert finding.severity == "error"
    assert "log" in finding.message
    assert scale.view().answer.startswith("No. ")


def test_nan_that_only_the_loss_makes_is_found_in_the_loss():
    def loss(y):
        return (y.sum() - y.sum()) / 0 * y.mean()  # here

    finding = found(
        measure_scale(Subject(nn.Linear(3, 3), torch.randn(4, 3), loss=loss)), "scale.non-finite"
    )
    assert finding.where.function == "loss"
    assert finding.where.code.endswith("# here")


def test_infinities_that_a_mask_writes_into_the_output_are_none_of_ours():
    model = Through(lambda y: y.masked_fill(torch.eye(8, dtype=torch.bool)[:6], -math.inf))
    scale = measure_scale(
        Subject(model, torch.randn(6, 8), loss=lambda y: y.softmax(-1)[:, 0].sum())
    )
    assert found(scale, "scale.non-finite") is None


def test_nan_in_the_inputs_is_not_blamed_on_an_operator():
    x = torch.randn(5, 3)
    x[2, 1] = math.nan
    finding = found(measure_scale((nn.Linear(3, 3), x)), "scale.non-finite")
    assert "what went into it" in finding.message
    assert "example inputs" in finding.repair


def test_an_empty_batch_cannot_be_measured():
    with pytest.raises(CannotMeasure, match=r"an output of shape \[0, 3\]"):
        measure_scale((nn.Linear(3, 3), torch.zeros(0, 3)))


def test_a_lazy_module_cannot_be_measured():
    with pytest.raises(CannotMeasure, match="lazy"):
        measure_scale((nn.LazyLinear(3), torch.zeros(2, 3)))


@pytest.mark.parametrize("cut", [torch.Tensor.detach, lambda y: y.round().detach()])
def test_a_model_cut_off_from_its_output_is_warned_of(cut):
    scale = measure_scale((Through(cut), torch.randn(9, 8)))
    finding = found(scale, "scale.no-gradient")
    assert finding.fails
    assert "2 trainable parameters" in finding.message
    assert "No trainable parameter gets a gradient" in scale.view().answer
    frozen = Through(cut).requires_grad_(False)
    assert found(measure_scale((frozen, torch.randn(9, 8))), "scale.no-gradient") is None


def test_complex_weights_are_seen_without_a_warning():
    model = Through(lambda y: y.abs())
    model.weight, model.bias = (nn.Parameter(p.detach() * (1 + 1j)) for p in model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scale = measure_scale((model, torch.randn(9, 8, dtype=torch.complex64)))
    assert "addmm" in scale.unmeasured
    assert "addmm" in str(scale)


def test_a_line_outside_the_model_is_not_given_as_the_models():
    model = nn.Sequential(*(m for _ in range(8) for m in (nn.Linear(32, 32), nn.ReLU())))
    scale = measure_scale((model, torch.randn(64, 32)))
    assert all(row.where is None for row in scale.rows)
    assert scale.findings
    assert all(f.where is None for f in scale.findings)
    inside = measure_scale((Through(torch.relu), torch.randn(64, 8)))
    assert {row.where.function for row in inside.rows} == {"forward"}


def test_a_signal_that_died_is_said_to_have_died():
    model = nn.Sequential(*(m for _ in range(30) for m in (nn.Linear(32, 32), nn.ReLU())))
    answer = measure_scale((model, torch.randn(64, 32))).view().answer
    assert "the others do not vary between samples" in answer
    assert "normalised" not in answer


def test_only_what_reads_the_input_is_told_to_standardise_it():
    class Squeeze(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, bias=False)
            self.norm = nn.BatchNorm2d(16)
            self.head = nn.Linear(16, 4)

        def forward(self, x):  # pooling, not the input, makes what the head reads small
            return self.head(self.norm(self.conv(x)).mean((2, 3)))

    finding = found(measure_scale((Squeeze(), torch.randn(8, 3, 16, 16))), "scale.forward-variance")
    assert finding.module == "head"
    assert "standardise" not in finding.message


class Attention(nn.Module):
    """Attention of one head, fused or written out, with a packed or a separate projection."""

    def __init__(self, fused, packed, d=32):
        super().__init__()
        self.fused, self.packed = fused, packed
        self.q, self.k, self.v, self.out = (nn.Linear(d, d, bias=False) for _ in range(4))
        self.qkv = nn.Linear(d, 3 * d, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1) if self.packed else (self.q(x), self.k(x), self.v(x))
        if self.fused:
            y = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        else:
            scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
            y = F.dropout(scores.masked_fill(scores < -9, -1e9).softmax(-1), 0.1) @ v
        return self.out(y)


@pytest.mark.parametrize("fused", [True, False])
def test_queries_and_keys_are_scores_and_values_are_not(fused):
    rows = measure_scale((Attention(fused, packed=False), torch.randn(4, 10, 32))).rows
    scores = {row.parameters[0] for row in rows if row.score}
    assert scores == {"q.weight", "k.weight"}
    (packed,) = (
        row
        for row in measure_scale((Attention(fused, packed=True), torch.randn(4, 10, 32))).rows
        if row.parameters == ("qkv.weight",)
    )
    assert not packed.score  # a third of it are values


@pytest.mark.parametrize("fused", [True, False])
def test_the_slope_of_a_softmax_is_no_vanishing_gradient(fused):
    """Small scores: all weights are equal, and hardly move when a query does."""
    model = Attention(fused, packed=False)
    for layer in (model.q, model.k):
        nn.init.normal_(layer.weight, std=1e-3)
    for layer in (model.v, model.out):
        nn.init.normal_(layer.weight, std=32**-0.5)
    scale = measure_scale((model, torch.randn(20, 5, 32)))
    queries, values = (
        next(row for row in scale.rows if row.parameters == (name,))
        for name in ("q.weight", "v.weight")
    )
    assert queries.gradient_energy < 1e-3 * values.gradient_energy
    assert found(scale, "scale.backward-variance") is None
    assert "attention scores" in str(scale.view().blocks[1])


def test_a_network_of_skips_is_not_told_to_add_skips():
    class Residual(nn.Module):
        def __init__(self, depth=14, d=48):
            super().__init__()
            self.inner = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in range(depth))
            self.norms = nn.ModuleList(nn.BatchNorm1d(d) for _ in range(depth))

        def forward(self, x):
            for f, norm in zip(self.inner, self.norms, strict=True):
                x = torch.relu(0.1 * x + norm(f(x)))
            return x

    torch.manual_seed(0)
    finding = found(measure_scale((Residual(), torch.randn(64, 48))), "scale.backward-variance")
    assert "start each branch at zero" in finding.repair


def test_a_model_in_half_precision_with_dropout_and_batch_norm_comes_back_as_it_was():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(16, 3)
    ).to(torch.bfloat16)
    model[1].eval()
    seen = []
    model[0].register_forward_hook(lambda *a: seen.append(1))
    x = torch.randn(5, 2, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    model(x).sum().backward()
    gradient, rng = x.grad.clone(), torch.get_rng_state()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [p.grad for p in model.parameters()]
    measure_scale((model, x))
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert [m.training for m in model.children()] == [True, False, True, True, True]
    assert len(model[0]._forward_hooks) == 1
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.equal(x.grad, gradient)
    assert not x._backward_hooks
