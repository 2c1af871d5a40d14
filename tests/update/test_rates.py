"""Learning rates that do not train: too high, too low, and too low for the type of the weights."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, RMSprop

import assay
from assay import Subject, compare_steps
from assay.finding import Finding
from assay.update.aim import aim
from assay.update.reach import best_multiple


def regression(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Subject:
    torch.manual_seed(0)
    x, y = torch.randn(64, 8, dtype=dtype), scale * torch.randn(64, 1, dtype=dtype)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1)).to(dtype)
    return Subject(model, x, loss=lambda u: F.mse_loss(u, y))


def warned(make: Callable[[Any], Any] | None, subject: Subject) -> list[Finding]:
    given = None if make is None else (lambda model: make(model.parameters()))
    section = assay.report(lambda: subject, sections=("step",), optimizer=given).sections[0]
    assert section.result is not None
    return [f for f in section.result.findings if f.fails]


@pytest.mark.parametrize(
    ("make", "scale", "rule"),
    [
        (functools.partial(SGD, lr=1e-7), 1.0, "step.short"),
        (functools.partial(SGD, lr=1e-6, momentum=0.9), 1.0, "step.short"),
        (functools.partial(Adam, lr=1e-9), 1.0, "step.short"),
        (functools.partial(Adam, lr=1e-3), 3e5, "step.short"),  # targets that nobody has scaled
        (functools.partial(Adam, lr=1e-5), 1.0, None),  # as for fine-tuning
        (functools.partial(Adam, lr=1e-3), 1.0, None),
        (functools.partial(SGD, lr=1e-3), 1.0, None),
        (functools.partial(SGD, lr=0.1, momentum=0.9), 1.0, None),
        (functools.partial(Adam, lr=0.5), 1.0, "step.rose"),
        (functools.partial(SGD, lr=3.0), 1.0, "step.diverged"),
        (functools.partial(Adam, lr=0.0), 1.0, "step.zero"),
        (functools.partial(SGD, lr=1e-3), 3e5, "step.diverged"),  # no finite gradient at all
        (None, 1e-6, None),  # a rate that assay chose is no news
    ],
)
def test_a_rate_that_does_not_train_is_a_warning(
    make: Callable[[Any], Any] | None, scale: float, rule: str | None
) -> None:
    assert [f.rule for f in warned(make, regression(scale))] == ([rule] if rule else [])


def test_a_step_of_zero_says_why() -> None:
    (found,) = warned(functools.partial(Adam, lr=0.0), regression())
    assert "its lr is 0" in found.message
    other = nn.Linear(8, 1)  # made for another model
    (found,) = warned(lambda _: Adam(other.parameters()), regression())
    assert found.rule == "step.zero"
    assert "lr is 0" not in found.message


@pytest.mark.parametrize(
    ("make", "scale"),
    [
        (functools.partial(Adam, lr=0.5), 1.0),
        (functools.partial(SGD, lr=3.0), 1.0),
        (functools.partial(SGD, lr=1e-3), 3e5),
    ],
)
def test_the_repair_of_a_rate_that_is_too_high_lowers_the_loss(
    make: functools.partial[Any], scale: float
) -> None:
    (found,) = warned(make, regression(scale))
    factor = float(found.repair.split(": at ")[1].split()[0])
    assert found.repair.startswith("Standardise the targets") == (scale > 1e3)
    lower = functools.partial(make.func, lr=make.keywords["lr"] * factor)
    assert not warned(lower, regression(scale))


def raw_columns() -> Subject:
    """Minutes and miles as they are: the first step is far too long for them, and kills all units."""
    torch.manual_seed(0)
    x = torch.stack(
        [1440 * torch.rand(256), 100 + 2500 * torch.rand(256), 365 * torch.rand(256)], 1
    )
    y = 10 + 0.02 * x[:, :1] + 5 * torch.randn(256, 1)
    model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
    return Subject(model, x, loss=lambda u: F.mse_loss(u, y))


def test_a_rate_that_only_comes_down_at_dead_units_is_no_repair_and_one_rate_is_told() -> None:
    subject = raw_columns()
    sgd = functools.partial(SGD, lr=1e-3)
    section = assay.report(
        lambda: subject, sections=("step",), optimizer=lambda m: sgd(m.parameters())
    ).sections[0]
    assert section.result is not None
    mine = [f for f in section.result.findings if "SGD" in f.message]
    assert [f.rule for f in mine] == ["step.diverged"]
    factor = float(mine[0].repair.split(": at ")[1].split()[0])
    rate, model = 1e-3 * factor, subject.model
    optimizer = SGD(model.parameters(), lr=rate)
    losses = []
    for _ in range(300):
        loss = subject.objective(subject.forward())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert max(losses) < 2 * losses[0]
    units = model[0](subject.inputs[0]) > 0  # type: ignore[index, operator]
    assert units.any(0).sum() > 16  # alive
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("lr", [1e-7, 1e-6])
def test_the_repair_of_a_short_step_trains(lr: float) -> None:
    (found,) = warned(functools.partial(SGD, lr=lr), regression())
    factor = float(found.repair.split("multiply it by ")[1].split()[0])
    assert not warned(functools.partial(SGD, lr=lr * factor), regression())


def house_prices(mean: float, spread: float = 0.3) -> Subject:
    torch.manual_seed(0)
    x = torch.randn(256, 5)
    y = mean + spread * (mean or 1.0) * (x @ torch.randn(5, 1)) / 5**0.5
    model = nn.Sequential(
        nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )
    return Subject(model, x, loss=lambda u: F.mse_loss(u, y))


@pytest.mark.parametrize("mean", [4e5, 1e6])
def test_targets_in_pounds_are_a_step_that_is_too_short_and_the_repair_says_so(mean: float) -> None:
    adam = functools.partial(Adam, lr=1e-3)
    (found,) = warned(adam, house_prices(mean))
    assert found.rule == "step.short"
    assert "Standardise the targets" in found.repair
    assert not warned(adam, house_prices(0.0, 1.0))


@pytest.mark.parametrize("mean", [10.0, 100.0])
def test_targets_that_some_thousand_steps_reach_are_no_warning(mean: float) -> None:
    assert not warned(functools.partial(Adam, lr=1e-3), house_prices(mean))


def test_a_model_that_has_arrived_stands_still_and_is_no_warning() -> None:
    """Its steps lower the loss by nothing, and so do longer ones: that is noise, not a short step."""
    subject = house_prices(0.0, 1.0)
    noise = 2 * torch.randn(256, 1)
    loss = lambda u: (u - noise).square().mean()  # noqa: E731
    model = nn.Linear(5, 1)
    least = torch.linalg.lstsq(
        torch.cat((subject.inputs[0], torch.ones(256, 1)), 1), noise
    ).solution
    with torch.no_grad():
        model.weight.copy_(least[:5].T)
        model.bias.copy_(least[5])
        model.bias += 0.01
    assert not warned(functools.partial(SGD, lr=1e-3), Subject(model, subject.inputs, loss=loss))


def test_aim_is_the_distance_at_which_the_loss_halves() -> None:
    subject = Subject(nn.Identity(), torch.ones(4), loss=lambda u: (u - 1025).square().mean())
    found = aim(subject)
    assert found is not None
    assert (found.size, found.distance, found.far) == (1.0, 512.0, True)
    y = torch.tensor([0, 1])
    scores = Subject(nn.Identity(), torch.zeros(2, 2), loss=lambda u: F.cross_entropy(u, y))
    near = aim(scores)
    assert near is not None
    assert not near.far


def test_there_is_no_aim_where_the_loss_takes_more_than_a_tensor_or_cannot_halve() -> None:
    pair = nn.LSTM(2, 2)
    several = Subject(pair, torch.ones(3, 2), loss=lambda u: u[0].square().mean())
    assert aim(several) is None
    flat = Subject(nn.Identity(), torch.ones(2), loss=lambda u: 1 + u.tanh().square().mean() / 10)
    assert aim(flat) is None
    raising = Subject(
        nn.Identity(), torch.full((2,), 0.5), loss=lambda u: F.binary_cross_entropy(u, 0 * u)
    )
    assert aim(raising) is None


def test_weights_that_are_too_coarse_for_a_step_are_a_warning() -> None:
    make = functools.partial(Adam, lr=1e-4)
    (found,) = warned(make, regression(dtype=torch.bfloat16))
    assert found.rule == "step.rounded"
    assert isinstance(found.measured.value, float)
    assert found.measured.value > 10
    assert not warned(make, regression())


def test_the_repair_of_a_long_step_is_a_length_that_was_tried() -> None:
    """Plain gradient descent on r²/2 falls most at lr = 1, whatever the rate that is too high."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    subject = Subject(model, torch.ones(1, 1), loss=lambda u: u.square().sum() / 2)
    for lr in (4.0, 2.0**12, 2.0**20):
        pair = {"SGD": functools.partial(SGD, lr=lr), "RMSProp": RMSprop}
        found = compare_steps(pair, subject, warmup=0)
        row, note = found["SGD"], found.findings[0]
        assert note.rule == "step.overshoot"
        assert row.best is not None
        assert 0.5 <= row.best * lr <= 1
        assert f"falls most at {row.best:.2g} of it" in note.repair


def test_where_no_length_lowers_the_loss_none_is_told() -> None:
    subject = Subject(nn.Linear(1, 1), torch.ones(1, 1), loss=lambda u: u.sum())
    up = {name: functools.partial(SGD, lr=1.0, maximize=True) for name in ("a", "b")}
    assert [row.best for row in compare_steps(up, subject, warmup=0).rows] == [None, None]


@given(st.integers(-18, 18), st.integers(-2, 2), st.booleans())
def test_best_multiple_is_within_a_factor_of_two_of_the_best_of_a_parabola(
    power: int, known: int, far: bool
) -> None:
    best = 4.0**power * 1.3
    fall = lambda m: 2 * best * m - m * m  # noqa: E731
    start = 4.0**known
    found = best_multiple(fall, {start: fall(start)}, 0.0, far=far)
    expected = best if far else min(best, start)
    assert found is not None
    assert abs(math.log2(found / expected)) <= 1.001
