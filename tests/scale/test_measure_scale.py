"""Against slow, obvious twins; and what happens around a measurement."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scale_models import CellLoop, RaisesMidway, mlp
from torch import nn

from assay import measure_scale
from assay.errors import CannotMeasure, UserCodeError
from assay.finding import plain
from assay.scale.moments import UnitMoments
from assay.scale.recorder import Recorder
from assay.subject import Subject


def twin_forward(model, x):
    """Forward hooks and plain numpy: mean and variance of every unit after every layer."""
    found = []
    handles = [
        layer.register_forward_hook(lambda m, i, o: found.append(o.detach().numpy()))
        for layer in model
    ]
    model(x)
    for handle in handles:
        handle.remove()
    return [(a.astype(np.float64).mean(0), a.astype(np.float64).var(0, ddof=1)) for a in found]


def test_moments_equal_those_of_forward_hooks():
    model, x = mlp(3, 24), torch.randn(50, 24)
    rows = measure_scale((model, x)).rows
    twins = twin_forward(model, x)
    assert len(rows) == len(twins) == 7
    for row, (mean, variance) in zip(rows, twins, strict=True):
        assert row.variance == pytest.approx(variance.mean(), rel=1e-10)
        unbiased = (mean**2).mean() - variance.mean() / 50
        assert row.mean == pytest.approx(np.sqrt(max(unbiased, 0)), rel=1e-8, abs=1e-12)
        assert (
            row.worst_variance in variance.astype(float)
            or np.isclose(variance, row.worst_variance).any()
        )
        assert row.units == len(mean)
        assert row.samples == 50


def test_gradients_equal_those_of_autograd():
    model, x = mlp(2, 16), torch.randn(20, 16)

    def loss(y):
        return y.square().sum()

    rows = measure_scale(Subject(model, x, loss=loss)).rows
    outputs, h = [], x
    for layer in model:
        h = layer(h)
        outputs.append(h)
    grads = torch.autograd.grad(loss(h), outputs)
    for row, g in zip(rows, grads, strict=True):
        assert row.gradient == pytest.approx(float(g.double().square().mean()), rel=1e-6)
        assert row.gradient_energy == pytest.approx(float(g.double().square().sum()), rel=1e-6)


def test_in_place_activations_do_not_disturb_the_gradient():
    torch.manual_seed(1)
    plain_model = mlp(2, 16)
    in_place = mlp(2, 16, activation=lambda: nn.ReLU(inplace=True))
    in_place.load_state_dict(plain_model.state_dict())
    x = torch.randn(20, 16)
    a, b = measure_scale((plain_model, x)), measure_scale((in_place, x))
    assert [r.gradient for r in a.rows] == [r.gradient for r in b.rows]
    assert [r.variance for r in a.rows] == [r.variance for r in b.rows]


@settings(max_examples=20)
@given(parts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_moments_added_over_calls_are_those_of_all_samples(parts, seed):
    source = torch.Generator().manual_seed(seed)
    tables = [torch.randn(n, 4, 3, generator=source) + 5 for n in parts]
    total = UnitMoments.of(tables[0], (1, 2))
    for table in tables[1:]:
        total.add(UnitMoments.of(table, (1, 2)))
    together = torch.cat(tables).double().flatten(1)
    torch.testing.assert_close(total.mean, together.mean(0))
    if len(together) > 1:
        torch.testing.assert_close(total.variances, together.var(0))
    else:
        assert total.variances is None
        assert total.variance is None
        assert total.worst is None


def test_moments_of_changing_units_are_pooled():
    a, b = torch.randn(5, 3), torch.randn(5, 4)
    total = UnitMoments.of(a, (-1,))
    total.add(UnitMoments.of(b, (-1,)))
    everything = torch.cat([a.flatten(), b.flatten()]).double()
    assert total.variance == pytest.approx(float(everything.var()))


def test_a_loop_is_one_row_with_its_first_and_last_call():
    scale = measure_scale((CellLoop(), torch.randint(0, 20, (8, 30))))
    by_name = {row.parameters[0]: row for row in scale.rows if row.parameters}
    assert set(by_name) == {"embed.weight", "cell.weight_ih", "cell.weight_hh", "name.weight"}
    calls = by_name["cell.weight_hh"].calls
    assert calls.count == 30
    assert calls.gradient[0] < 1e-6 * calls.gradient[1]
    assert by_name["cell.weight_hh"].samples == 240
    (finding,) = [f for f in scale.findings if "30 calls" in f.message]
    assert finding.severity == "warning"
    assert finding.rule == "scale.backward-variance"
    assert finding.where.code == "h = self.cell(self.embed(letters[:, t]), h)"


def snapshot(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [m.training for m in model.modules()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        torch.get_rng_state(),
        torch.backends.mha.get_fastpath_enabled(),
        torch._C._get_mkldnn_enabled(),
        torch.backends.cudnn.enabled,
    )


def assert_same(before, after):
    assert before[0].keys() == after[0].keys()
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    for a, b in zip(before[2], after[2], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert torch.equal(before[3], after[3])
    assert before[1] == after[1]
    assert before[4:] == after[4:]


def test_the_model_comes_back_as_it_was():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    model(torch.randn(3, 4)).sum().backward()
    x = torch.randn(6, 4)
    before = snapshot(model)
    first, again = (measure_scale((model, x)) for _ in range(2))
    assert_same(before, snapshot(model))
    assert plain(first.rows) == plain(again.rows)
    assert all(not getattr(m, "_forward_hooks") for m in model.modules())  # noqa: B009


def test_also_after_an_exception():
    model, x = RaisesMidway(), torch.randn(6, 4)
    before = snapshot(model)
    with pytest.raises(UserCodeError, match="not today"):
        measure_scale((model, x))
    assert_same(before, snapshot(model))
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_a_backward_pass_that_raises_is_the_users():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            raise ValueError("no slope")

    class Model(nn.Linear):
        def forward(self, x):
            return Broken.apply(super().forward(x))

    model = Model(3, 3)
    with pytest.raises(UserCodeError, match="no slope"):
        measure_scale((model, torch.randn(4, 3)))
    with pytest.raises(UserCodeError):
        measure_scale(Subject(model, torch.randn(4, 3), loss=lambda y: y.sum()))
    assert model.weight.grad is None


def test_a_loss_that_is_no_scalar_and_a_meta_model_cannot_be_measured():
    with pytest.raises(CannotMeasure, match="one floating-point number"):
        measure_scale(Subject(nn.Linear(3, 3), torch.randn(4, 3), loss=lambda y: y))
    with pytest.raises(CannotMeasure, match="meta"):
        measure_scale((nn.Linear(3, 3, device="meta"), torch.empty(4, 3, device="meta")))


def test_frozen_models_are_measured_forward_only():
    model = mlp(2, 8).requires_grad_(False)
    scale = measure_scale((model, torch.randn(9, 8)))
    assert scale.objective == "none"
    assert all(row.gradient is None for row in scale.rows)
    assert len(scale.rows) == 5
    assert "Nothing requires a gradient" in str(scale)


def test_a_model_without_parameters_has_nothing_to_measure():
    scale = measure_scale((nn.ReLU(), torch.randn(3, 3)))
    assert scale.rows == ()
    assert scale.findings == ()
    assert "nothing to measure" in str(scale)


def test_progress_is_told():
    seen = []
    measure_scale(
        (nn.Linear(2, 2), torch.randn(3, 2)),
        progress=lambda task, done, total, note="": seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_a_backward_pass_inside_the_forward_pass_is_no_signal():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Linear(3, 1)

        def forward(self, x):
            x = x.requires_grad_()
            (force,) = torch.autograd.grad(self.energy(x).tanh().sum(), x, create_graph=True)
            return force

    scale = measure_scale((Force(), torch.randn(5, 3)))
    assert [row.operator for row in scale.rows] == ["addmm", "tanh"]


def test_recorder_keeps_no_activation():
    model = mlp(2, 8)
    recorder = Recorder(model, ())
    with recorder.watching():
        out = model(torch.randn(4, 8))
    assert recorder.gradients.pending == []
    assert len(recorder.records) == 5
    held = [v for record in recorder.records for v in vars(record).values()]
    assert not any(isinstance(v, torch.Tensor) for v in held)
    recorder.gradients.release()
    assert not out._backward_hooks
