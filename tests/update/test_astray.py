"""Comparisons of steps where something leads astray: the warm-up, a step, complex or sparse numbers."""

import functools
import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, Adam, AdamW, RMSprop

import assay
from assay import Subject, compare_steps
from assay.errors import CannotMeasure, UserCodeError
from assay.state import copied

TWO = {"SGD": functools.partial(SGD, lr=0.01), "RMSProp": functools.partial(RMSprop, lr=0.01)}


def rules(found: Any) -> set[str]:
    return {f.rule for f in found.findings}


def regression(scale: float = 1.0) -> Subject:
    torch.manual_seed(0)
    x, y = scale * torch.randn(32, 4), torch.randn(32, 1)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    return Subject(model, x, loss=lambda u: F.mse_loss(u, y))


def in_range(u: torch.Tensor, most: float) -> torch.Tensor:
    if not bool((u.abs() < most).all()):
        raise ValueError("out of range")
    return u.square().mean()


def test_a_warm_up_that_diverges_is_a_warning_and_a_sound_one_is_none() -> None:
    fast = {"SGD": functools.partial(SGD, lr=0.1), "RMSProp": RMSprop}
    found = compare_steps(fast, regression(10.0), warmup=3)
    assert "step.diverged" in rules(found)
    assert found.view().answer.startswith("The warm-up diverged: 3 steps of SGD took the loss from")
    assert "step.diverged" not in rules(compare_steps(TWO, regression()))
    assert "step.diverged" not in rules(compare_steps(fast, regression(10.0), warmup=0))


def test_noise_around_zero_is_no_divergence() -> None:
    """Dropout moves a tiny loss by many times its size; with the same random numbers it falls."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 1))
    subject = Subject(model, torch.randn(8, 4), loss=lambda u: u.mean())
    for seed in range(5):
        slow = {"SGD": functools.partial(SGD, lr=1e-4), "RMSProp": RMSprop}
        assert "step.diverged" not in rules(compare_steps(slow, subject, seed=seed))


def test_a_report_compares_first_steps_where_its_own_rate_was_too_high() -> None:
    section = assay.report(lambda: regression(1e3), sections=("step",)).sections[0]
    assert section.status == "measured"
    assert section.worst is None
    assert any("from them SGD with lr=0.01 came to a" in note for note in section.view.notes)


def test_a_report_warns_where_the_rate_in_use_is_too_high() -> None:
    for rate in (0.05, 1e30):  # the loss is large; the gradient is not finite
        mine = functools.partial(SGD, lr=rate)
        section = assay.report(
            lambda: regression(10.0),
            sections=("step",),
            optimizer=lambda m, mine=mine: mine(m.parameters()),
        ).sections[0]
        assert section.worst == "warning"


def classes() -> Subject:
    torch.manual_seed(0)
    x, y = torch.randn(64, 20), torch.randint(5, (64,))
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    return Subject(model, x, loss=lambda u: F.cross_entropy(u, y))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (functools.partial(Adam, lr=10.0), "step.diverged"),
        (functools.partial(Adam, lr=1e3), "step.diverged"),
        (functools.partial(AdamW, lr=1e-2, weight_decay=30.0), "step.shrunk"),
        (functools.partial(Adam, lr=1e-3), None),
        (functools.partial(Adam, lr=1e-2), None),
        (functools.partial(AdamW, lr=3e-4), None),
        (functools.partial(AdamW, lr=1e-3, weight_decay=0.1), None),
        (functools.partial(SGD, lr=0.1, momentum=0.9), None),
        (functools.partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-4), None),
        (functools.partial(LBFGS, lr=1.0), None),  # it goes its own path, and does not lead
    ],
)
def test_a_report_tries_the_optimizer_in_use_at_its_own_rate(make: Any, rule: str | None) -> None:
    section = assay.report(
        classes, sections=("step",), optimizer=lambda m: make(m.parameters())
    ).sections[0]
    assert section.status == "measured"
    assert section.result is not None
    warned = {f.rule for f in section.result.findings if f.severity != "note"}
    assert warned == ({rule} if rule else set())


def test_who_stands_in_for_a_leader_that_raises_is_not_blamed_on_it() -> None:
    class Refusing(Adam):
        def step(self, closure: Any = None) -> Any:
            raise ValueError("not today")

    fast = {"Refusing": Refusing, "SGD": functools.partial(SGD, lr=0.1), "RMSProp": RMSprop}
    found = compare_steps(fast, regression(10.0), warmup=3)
    assert "step.diverged" not in rules(found)
    assert [name for name, _ in found.failed] == ["Refusing"]


def test_what_a_diverged_warm_up_breaks_is_put_down_to_it() -> None:
    """RMSProp's squares overflow, so that its step is zero: no fault of RMSProp."""
    line = nn.Linear(1, 1, bias=False)
    subject = Subject(line, torch.ones(1, 1), loss=lambda u: u.square().sum() / 2)
    fast = {"SGD": functools.partial(SGD, lr=1e5), "RMSProp": RMSprop}
    with pytest.raises(CannotMeasure, match=r"a loss of inf, from .* after 5 steps of SGD"):
        compare_steps(fast, subject, warmup=5)


def test_a_loss_that_raises_where_the_warm_up_leads_is_told_as_that() -> None:
    subject = Subject(regression().model, regression().inputs, loss=lambda u: in_range(u, 2.0))
    fast = {"SGD": functools.partial(SGD, lr=10.0), "RMSProp": RMSprop}
    with pytest.raises(UserCodeError, match="It ran at the given weights") as raised:
        compare_steps(fast, subject)
    assert "run it alone" not in str(raised.value)
    always = Subject(subject.model, subject.inputs, loss=lambda u: in_range(u, 0.0))
    with pytest.raises(UserCodeError, match="run it alone to see the same error"):
        compare_steps(TWO, always)


@pytest.mark.parametrize("norm", ["parameter", "function", "loss"])
def test_a_loss_that_raises_at_weights_of_our_own_choice_has_no_value_there(norm: Any) -> None:
    given = regression()
    most = float(given.forward().detach().abs().max()) * 1.01
    subject = Subject(given.model, given.inputs, loss=lambda u: in_range(u, most))
    slow = {"SGD": functools.partial(SGD, lr=0.1), "Adam": functools.partial(Adam, lr=10.0)}
    found = compare_steps(
        {**slow, "again": functools.partial(SGD, lr=0.1)}, subject, norm, warmup=0
    )
    assert "SGD" in {row.name for row in found.rows}
    assert any(math.isnan(value) for row in found.rows for value in row.curve)
    assert "nan" not in str(found)


def test_a_step_to_where_the_loss_is_not_finite_is_noted() -> None:
    given = regression()
    subject = Subject(given.model, given.inputs, loss=lambda u: u.square().square().exp().mean())
    huge = {name: functools.partial(SGD, lr=1e6) for name in ("a", "b")}
    found = compare_steps(huge, subject, warmup=0)
    assert [f.rule for f in found.findings] == ["step.overshoot"] * 2
    assert "where the loss is no finite number" in found.findings[0].message
    assert "nan" not in str(found)


class Spectral(nn.Module):
    """A layer with complex weights, as in Fourier neural operators; or the same with pairs of real ones."""

    def __init__(self, pairs: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        weights = torch.randn(5, 3, dtype=torch.cfloat)
        self.pairs = pairs
        self.w = nn.Parameter(torch.view_as_real(weights).clone() if pairs else weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = torch.view_as_complex(self.w) if self.pairs else self.w
        return torch.fft.irfft(torch.fft.rfft(x, dim=1) * w, n=x.shape[1], dim=1)


def test_complex_weights_count_with_both_parts() -> None:
    torch.manual_seed(1)
    x, y = torch.randn(6, 8, 3), torch.randn(6, 8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where an imaginary part is dropped
        both = [
            compare_steps(TWO, Subject(Spectral(pairs), x, loss=lambda u: F.mse_loss(u, y)))
            for pairs in (False, True)
        ]
    plain, pairs = both
    assert plain.angle("SGD", "RMSProp") == pytest.approx(pairs.angle("SGD", "RMSProp"), abs=1e-3)
    assert plain.pairs[0].closed_form == pytest.approx(plain.pairs[0].degrees, abs=0.05)
    assert plain["SGD"].own_norm == pytest.approx(pairs["SGD"].own_norm, rel=1e-5)


class Told(nn.Module):
    """A model that is given its targets, and returns the loss first."""

    def __init__(self, alone: bool) -> None:
        super().__init__()
        self.inner, self.alone = regression().model, alone

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        u = self.inner(x)
        loss = F.mse_loss(u, y)
        return loss if self.alone else {"loss": loss, "logits": u}


def test_outputs_are_what_is_predicted_and_not_the_loss_before_it() -> None:
    x, y = regression().inputs[0], torch.ones(32, 1)
    plain = Subject(regression().model, x, loss=lambda u: F.mse_loss(u, y))
    told = Subject(Told(False), (x, y), loss=lambda out: out["loss"])
    expected = compare_steps(TWO, plain).pairs[0].function_degrees
    assert compare_steps(TWO, told).pairs[0].function_degrees == pytest.approx(expected)
    alone = compare_steps(TWO, Subject(Told(True), (x, y), loss=lambda out: out))
    assert alone.pairs[0].function_degrees is None  # one number has no direction
    assert "changes of the outputs" not in alone.view().answer


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's advice to leave it
def test_torchscript_is_copied_with_leaves() -> None:
    model = torch.jit.trace(regression().model, regression().inputs[0])
    assert all(p.is_leaf and p.requires_grad for p in copied(model).parameters())
    script = Subject(model, regression().inputs, loss=regression().loss)
    assert compare_steps(TWO, script).rows == pytest.approx(compare_steps(TWO, regression()).rows)


def test_who_refuses_sparse_gradients_is_given_dense_ones() -> None:
    def bag(sparse: bool) -> Subject:
        torch.manual_seed(0)
        model = nn.Sequential(nn.EmbeddingBag(20, 4, sparse=sparse), nn.Linear(4, 2))
        return Subject(model, torch.randint(0, 20, (3, 5)), loss=lambda u: u.square().mean())

    sparse, dense = (compare_steps(TWO, bag(kind)) for kind in (True, False))
    assert sparse.angle("SGD", "RMSProp") == pytest.approx(dense.angle("SGD", "RMSProp"), abs=0.01)
    assert any("RMSProp takes no sparse gradients" in remark for remark in sparse.remarks)
    assert not any("sparse" in remark for remark in dense.remarks)


def test_what_an_optimizer_does_not_hold_is_named() -> None:
    head = {**TWO, "head": lambda model: SGD(model[2].parameters(), lr=0.01)}
    found = compare_steps(head, regression())
    (note,) = (f for f in found.findings if f.rule == "step.unheld")
    assert "head does not hold 0.weight, 0.bias" in note.message
    assert not note.fails
    frozen = regression()
    frozen.model[0].requires_grad_(False)
    assert "step.unheld" not in rules(compare_steps(head, frozen))


def test_remedies_are_those_of_the_reason() -> None:
    def halved() -> Subject:
        model = nn.Linear(4, 2).half()
        return Subject(model, torch.randn(3, 4).half(), loss=lambda u: u.square().mean() * 1e-3)

    torch.manual_seed(0)
    with pytest.raises(CannotMeasure, match="Measure the model in float32"):
        compare_steps({"RMSProp": RMSprop, "again": RMSprop}, halved(), warmup=0)
    still = functools.partial(SGD, lr=0.0)
    with pytest.raises(CannotMeasure, match="look at its lr") as raised:
        compare_steps({"SGD": SGD, "still": still}, regression())
    assert "only some parameters" not in str(raised.value)
    with pytest.raises(CannotMeasure, match="One for only some parameters"):
        compare_steps({"SGD": SGD, "Muon": torch.optim.Muon}, regression())


@pytest.mark.parametrize("criterion", [F.mse_loss, nn.L1Loss(), F.smooth_l1_loss])
def test_a_loss_that_broadcasts_is_found_with_its_line_and_not_warned_of(
    criterion: Any, recwarn: Any
) -> None:
    torch.manual_seed(0)
    y = torch.randn(16)

    def loss(u: torch.Tensor) -> torch.Tensor:
        return criterion(u, y)  # type: ignore[no-any-return]

    for _ in range(2):  # Python shows a warning once, a report tells it every time
        subject = Subject(nn.Linear(4, 1), torch.randn(16, 4), loss=loss)
        made = assay.report(subject, sections=("scale", "step"))
        (one,) = [f for f in made.findings if f.rule == "step.broadcast"]
        assert one.severity == "warning"
        assert "shape [16, 1] with targets of shape [16]" in one.message
        assert one.where is not None
        assert one.where.code.startswith("return criterion(u, y)")
    assert not [w for w in recwarn if "target size" in str(w.message)]
    one_for_all = Subject(
        nn.Linear(4, 1), torch.randn(16, 4), loss=lambda u: criterion(u, torch.ones(1))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "step.broadcast" not in rules(compare_steps(TWO, one_for_all))
    assert "step.broadcast" not in rules(compare_steps(TWO, regression()))
