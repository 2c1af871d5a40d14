"""Data as they come: constants, extremes, rare and heavy-tailed features, jumps, NaN, rows of zeros."""

import functools
import warnings

import pytest
import torch
from torch import nn

from assay.errors import UsageError
from assay.optim import UnitMuon, UnitSGD
from assay.optim.refuse import NotFinite

MAKERS = [UnitSGD, UnitMuon]


def net(d: int = 4, h: int = 8, k: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, k))


def fit(model, optimizer, x, y, steps=100, batch=16):
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,), generator=draw)
        optimizer.zero_grad()
        (model(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        return float((model(x) - y).square().mean() / y.var())


def linear_task(x):
    return (x @ torch.linspace(-1, 1, x.shape[1])[:, None]).tanh()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 1e6 + 0.1, -1e-20])
def test_weights_of_a_constant_feature_move_exactly_0(make, constant):
    x = torch.randn(128, 4)
    x[:, 2] = constant
    model = net()
    first = model[0].weight.detach().clone()
    decayed = functools.partial(make, weight_decay=0.5)(model)
    fit(model, decayed, x, linear_task(torch.randn(128, 4)), steps=20)
    assert torch.equal(model[0].weight[:, 2], first[:, 2])
    assert not torch.equal(model[0].weight[:, 1], first[:, 1])


@pytest.mark.parametrize("make", MAKERS)
def test_features_of_any_size_are_learned_alike(make):
    torch.manual_seed(0)
    z = torch.randn(256, 4)
    y = linear_task(z)
    left = []
    for unit in (torch.ones(4), torch.tensor([1e20, 1e-20, 1.0, 1e10])):
        torch.manual_seed(1)
        model = net()
        with torch.no_grad():
            model[0].weight.div_(unit)
        left.append(fit(model, make(model), z * unit, y))
    assert left[0] < 0.5
    assert left[1] == pytest.approx(left[0], rel=0.05)


@pytest.mark.parametrize("make", MAKERS)
def test_one_hot_and_rare_features(make):
    torch.manual_seed(0)
    kinds = torch.multinomial(1 / torch.arange(1.0, 65) ** 1.5, 1024, replacement=True)
    x = torch.nn.functional.one_hot(kinds, 64).float()
    y = torch.randn(64, 1)[kinds]
    model = net(64, 32)
    assert fit(model, make(model), x, y, steps=200) < 0.2
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("make", MAKERS)
def test_heavy_tails(make):
    torch.manual_seed(0)
    x = torch.distributions.StudentT(2.0).sample((512, 4))  # without a variance
    y = linear_task(x.tanh())
    model = net()
    first = float((model(x) - y).detach().square().mean() / y.var())
    assert fit(model, make(model), x, y, steps=300) < 0.5 * first
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("make", MAKERS)
def test_a_feature_that_jumps_a_million_fold_does_not_end_training(make):
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    y = linear_task(x)
    model = net()
    optimizer = make(model)
    before = fit(model, optimizer, x, y)
    jumped = x * torch.tensor([1.0, 1e6, 1.0, 1.0])
    with torch.no_grad():
        first = float((model(jumped) - y).square().mean() / y.var())
    after = fit(model, optimizer, jumped, y, steps=400)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert before < 0.5
    assert first > 1e9
    assert after < 1e-2 * first


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows", [6, 3000])
def test_an_input_that_is_not_finite_is_named_and_changes_nothing(make, value, rows):
    model = net()
    optimizer = make(model)
    x = torch.randn(rows, 4)
    model(x).square().mean().backward()
    optimizer.step()
    weights = [p.detach().clone() for p in model.parameters()]
    state = {
        (i, key): v.clone()
        for i, s in optimizer.state_dict()["state"].items()
        for key, v in s.items()
    }
    bad = x.clone()
    bad[5, 2] = value
    optimizer.zero_grad()
    model(bad).square().mean().backward()
    with pytest.raises(NotFinite, match=r"0\.weight, feature 2 of row 5"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    now = optimizer.state_dict()["state"]
    assert {(i, key) for i, s in now.items() for key in s} == set(state)
    assert all(torch.equal(now[i][key], v) for (i, key), v in state.items())
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()  # and it goes on
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("make", MAKERS)
def test_a_gradient_that_is_not_finite_is_named_and_changes_nothing(make):
    model = net()
    optimizer = make(model)
    weights = [p.detach().clone() for p in model.parameters()]
    (model(torch.randn(6, 4)).sum() * float("inf")).backward()
    with pytest.raises(NotFinite, match=r"gradient of 0\.weight"):
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert not optimizer.state_dict()["state"]


@pytest.mark.parametrize("make", MAKERS)
def test_batches_of_one(make):
    torch.manual_seed(0)
    x = torch.randn(256, 4) * torch.tensor([1.0, 1e3, 1e-3, 1.0]) + 5
    z = (x - x.mean(0)) / x.std(0)
    model = net()
    with torch.no_grad():
        model[0].weight.div_(x.std(0))
        model[0].bias.sub_(model[0].weight @ x.mean(0))
    assert fit(model, make(model), x, linear_task(z), steps=600, batch=1) < 0.6


@pytest.mark.parametrize("make", MAKERS)
def test_a_head_of_zeros_learns_and_says_so(make):
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    model = net()
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    optimizer = make(model)
    with pytest.warns(UserWarning, match=r"rows of zeros in 2\.weight"):
        left = fit(model, optimizer, x, linear_task(x), steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        left = fit(model, optimizer, x, linear_task(x), steps=150)
    assert left < 0.5


@pytest.mark.parametrize("make", MAKERS)
def test_a_head_of_zeros_can_be_refused(make):
    model = net()
    nn.init.zeros_(model[2].weight)
    optimizer = make(model, zero_rows="raise")
    model(torch.randn(8, 4)).square().mean().backward()
    with pytest.raises(UsageError, match=r"2\.weight.*zero_rows"):
        optimizer.step()
    assert not optimizer.state_dict()["state"]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("lr", [0.2, 1.0, -0.01, float("nan"), "fast", True])
def test_rates_that_end_in_nan_are_refused(make, lr):
    with pytest.raises(UsageError, match=r"without a unit, from 0 to below .*0\.[12]"):
        make(net(), lr=lr)


def test_a_rate_that_a_schedule_raises_too_far_is_refused():
    model = net()
    optimizer = UnitSGD(model)
    optimizer.param_groups[0]["lr"] = 0.5
    model(torch.randn(8, 4)).square().mean().backward()
    with pytest.raises(UsageError, match=r"below 1 − momentum = 0\.1"):
        optimizer.step()


@pytest.mark.parametrize("make", MAKERS)
def test_the_fastest_rate_stays_finite(make):
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    model = net()
    fit(model, make(model, lr=0.099), x, linear_task(x), steps=300)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("make", MAKERS)
def test_units_that_die_move_nothing_and_break_nothing(make):
    x = torch.randn(64, 4)
    model = net()
    with torch.no_grad():
        model[0].bias[3] = -1e3
    first = [model[0].weight[3].clone(), model[2].weight[:, 3].clone()]
    fit(model, make(model), x, linear_task(x), steps=5)
    assert torch.equal(model[0].weight[3], first[0])
    assert torch.equal(model[2].weight[:, 3], first[1])
    assert all(torch.isfinite(p).all() for p in model.parameters())
