"""The model comes back as it was, failures speak, and a result is a value."""

import json
import warnings

import pytest
import torch
from roads import (
    D,
    InTime,
    Written,
    found,
    highway_cell,
    linear,
    measured,
    residual,
    rows,
    series,
    stack,
)
from torch import nn
from torch.utils.checkpoint import checkpoint

import assay
from assay.errors import CannotMeasure, UserCodeError


def delicate(forward=None):
    """Dropout, running statistics, a frozen weight, a hook, gradients, and modes that differ."""
    model = nn.Sequential(linear(), nn.BatchNorm1d(D), nn.Dropout(), residual(), residual())
    model(rows()).sum().backward()
    model[3].f.weight.requires_grad_(False)
    model[1].eval()
    model[1].momentum = None
    model[4].eval()
    model[0].register_forward_hook(lambda m, args, output: output + 1)
    if forward is not None:
        model.append(Written(forward))
    return model


def state_of(model):
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [m.training for m in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [p.grad for p in model.parameters()],
        "grad values": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "random": torch.get_rng_state(),
        "everywhere": [
            dict(torch.nn.modules.module._global_forward_hooks),
            dict(torch.nn.modules.module._global_forward_pre_hooks),
            torch._C._get_mkldnn_enabled(),
            torch.backends.cudnn.enabled,
            torch.is_grad_enabled(),
        ],
    }


def assert_same(before, after):
    assert all(torch.equal(v, after["values"][k]) for k, v in before["values"].items())
    for a, b in zip(before["grad values"], after["grad values"], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert all(a is b for a, b in zip(before["grads"], after["grads"], strict=True))
    assert torch.equal(before["random"], after["random"])
    for key in ("modes", "flags", "hooks", "everywhere"):
        assert before[key] == after[key], key


def test_the_model_and_its_inputs_come_back_as_they_were():
    model, x = delicate(), rows().requires_grad_()
    before = state_of(model)
    first, again = measured(model, x), measured(model, x)
    assert_same(before, state_of(model))
    assert x.grad is None
    assert first.to_dict() == again.to_dict()


def refuse(m, x):
    torch.rand(3)
    raise ValueError("not today")


def test_also_when_the_forward_pass_raises():
    model, x = delicate(refuse), rows()
    before = state_of(model)
    with pytest.raises(UserCodeError, match="not today") as caught:
        measured(model, x)
    assert "refuse" in caught.value.user_traceback()
    assert_same(before, state_of(model))


class Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("no slope")


def broken_block():
    return Written(lambda m, x: x + Broken.apply(torch.tanh(m.f(x))), f=linear())


def failing(loss):
    return lambda: measured(stack(residual), rows(), loss=loss)


def built_in_inference_mode():
    with torch.inference_mode():
        model = linear()
    return measured(model, rows())


FAILURES = {
    "backward raises": (lambda: measured(stack(broken_block), rows()), UserCodeError, "no slope"),
    "loss raises": (failing(lambda y: 1 / 0), UserCodeError, "division by zero"),
    "loss is no scalar": (failing(lambda y: y), CannotMeasure, "one floating-point number"),
    "loss is NaN": (failing(lambda y: y.sum() * float("nan")), CannotMeasure, "a finite loss"),
    "NaN": (lambda: measured(linear(), rows() * float("nan")), CannotMeasure, "12 of 12 outputs"),
    "nothing": (lambda: measured(linear(), rows(0)), CannotMeasure, "an empty output"),
    "integers": (
        lambda: measured(Written(lambda m, x: m.f(x).argmax(-1), f=linear()), rows()),
        CannotMeasure,
        "at least one floating-point tensor",
    ),
    "no gradient": (
        lambda: measured(Written(lambda m, x: torch.no_grad()(m.f)(x), f=linear()), rows()),
        CannotMeasure,
        r"Look for \.detach\(\) or torch\.no_grad\(\)",
    ),
    "inference mode": (built_in_inference_mode, CannotMeasure, "Build the model outside"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_cannot_be_measured_says_why(name):
    fail, kind, words = FAILURES[name]
    with pytest.raises(kind, match=words):
        fail()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_changes_nothing(mode):
    model, x = stack(residual), rows()
    with mode():
        inside = measured(model, x)
    assert inside.to_dict() == measured(model, x).to_dict()
    with mode():
        x = rows()
    assert measured(model, x).longest.length == 6


def test_frozen_models_have_the_same_paths():
    model, x = stack(residual), rows()
    free = measured(model, x)
    assert measured(model.requires_grad_(False), x).to_dict() == free.to_dict()
    assert not any(p.requires_grad for p in model.parameters())


def test_a_model_without_a_skip_or_without_weights():
    short = measured(nn.Sequential(linear(), nn.ReLU()), rows())
    assert (short.paths, short.longest, short.findings) == ((), None, ())
    assert "The longest stretch without one has 1 parametrised operator:" in str(short)
    bare = measured(nn.ReLU(), rows())
    assert bare.plain is None
    assert "no parametrised operator that could need one" in str(bare)


def test_inputs_that_may_not_carry_a_gradient():
    def forward(m, x):
        assert len(x.numpy())
        return x + torch.tanh(m.f(x))

    model = nn.Sequential(Written(forward, f=linear()), residual(), residual())
    highways = measured(model, rows())
    assert (highways.tracked, highways.longest.length) == (False, 2)
    assert "refuses inputs that carry a gradient" in str(highways)


def vanishing_root(m, x):
    return x + (m.f(x) * 0).sqrt()


def overflowing(m, x):
    return x + 1e30 * m.f(x)


@pytest.mark.parametrize(
    ("forward", "kind", "words"),
    [(vanishing_root, "NaN", "division by zero"), (overflowing, "infinite", "scale")],
)
def test_a_gradient_that_is_not_finite_never_passes(forward, kind, words):
    model = stack(lambda: Written(forward, f=linear(bias=False)), 3)
    for parameter in model.parameters():
        nn.init.ones_(parameter)  # so that no infinities of both signs meet
    highways = measured(model, rows() * 0, loss=torch.sum)
    (finding,) = found(highways, "not-finite")
    assert finding.severity == "error"
    assert f"The gradient is {kind}" in finding.message
    assert words in finding.repair
    assert "the gradient is not finite" in highways.view().answer
    assert highways.view().blocks[-1].rows[0][-2] == "not finite"  # its half-life


def test_a_stretch_with_a_gradient_that_is_not_finite():
    model = Written(lambda m, x: m.b((m.a(x) * 0).sqrt()), a=linear(), b=linear())
    (finding,) = measured(model, rows()).findings
    assert "a stretch without a skip path, of 2 parametrised operators" in finding.message


def hidden(m, x):
    return x + checkpoint(lambda y: torch.tanh(m.f(y)), x, use_reentrant=True)


def test_what_cannot_be_looked_into_does_not_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highways = measured(stack(lambda: Written(hidden, f=linear())), rows())
    assert highways.opaque == ("CheckpointFunction",)
    (finding,) = highways.findings
    assert (finding.rule, finding.fails) == ("highway.opaque", True)
    assert "use_reentrant=False" in finding.repair
    assert "the graph could not be looked into" in str(highways)
    assert "`CheckpointFunction`" in highways.view().notes[-1]


def test_a_model_on_the_meta_device_has_paths_and_no_numbers():
    model = InTime(highway_cell()).to("meta")
    highways = measured(model, series().to("meta"))
    (path,) = highways.paths
    assert (path.length, path.gradient) == (10, ())
    assert path.retention != path.retention
    assert highways.findings == ()
    assert "whose gradient was not measured" in str(highways)


@pytest.mark.parametrize("steps", [10, 40])
def test_a_result_is_a_value(steps):
    highways = measured(InTime(nn.GRUCell(D, D)), series(steps=steps))
    as_json = json.loads(json.dumps(highways.to_dict()))
    assert set(as_json) >= {"paths", "plain", "opaque", "loss", "findings"}
    assert as_json["paths"][0]["length"] == steps
    assert as_json["paths"][0]["gate_biases"][0]["name"] == "cell.bias_hh"
    assert all(f["repair"] and f["where"] for f in as_json["findings"])
    text = str(highways)
    assert text == repr(highways)
    assert f"chains {steps} additions" in text
    assert "<svg" in highways._repr_html_()
    assert highways.__rich__()
    with pytest.raises(AttributeError):
        highways.paths = ()


def test_progress_is_told():
    told = []
    subject = assay.Subject(stack(residual), rows())
    assay.find_highways(subject, progress=lambda task, done, total, note="": told.append(done))
    assert told == [0, 1, 2, 3]
