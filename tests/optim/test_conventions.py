"""What every user of torch.optim takes for granted."""

import copy
import functools
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from assay.errors import UsageError
from assay.optim import UnitMuon, UnitSGD

MAKERS = [UnitSGD, UnitMuon, functools.partial(UnitSGD, rule="sheet", momentum=0.9)]
IDS = ["UnitSGD", "UnitMuon", "sheet"]


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 2))


def batch(i: int, n: int = 8) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(i)) * 3 + 1


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x[:, :2].tanh()).square().mean()


def train(model, optimizer, steps, schedule=None):
    for i in steps:
        optimizer.zero_grad()
        loss_of(model, batch(i)).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def statistics(optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v for i, s in state.items() for k, v in s.items()}


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_resuming_is_bit_for_bit(make, dtype):
    model = net().to(dtype)
    batch_ = lambda i: batch(i).to(dtype)  # noqa: E731

    def go(model, optimizer, steps):
        for i in steps:
            optimizer.zero_grad()
            loss_of(model, batch_(i)).backward()
            optimizer.step()

    optimizer = make(model)
    go(model, optimizer, range(5))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    go(model, optimizer, range(5, 9))
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = net().to(dtype)
    again.load_state_dict(saved["model"])
    resumed = make(again)
    resumed.load_state_dict(saved["optimizer"])
    go(again, resumed, range(5, 9))
    assert same(model, again)
    mine, theirs = statistics(optimizer), statistics(resumed)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) and mine[k].dtype == theirs[k].dtype for k in mine)


def test_statistics_are_in_the_state_of_the_weight():
    model = net().to(torch.bfloat16)
    optimizer = UnitSGD(model)
    x = batch(0).bfloat16()
    loss_of(model, x).backward()
    optimizer.step()
    state = optimizer.state[model[0].weight]
    assert state["mean"].dtype == torch.float64
    assert torch.allclose(state["mean"][0], x.double().mean(0), atol=1e-6)
    assert torch.allclose(state["deviation"][0], x.float().std(0, correction=0), rtol=1e-5)
    assert state["deviation"].dtype == state["momentum_buffer"].dtype == torch.float32


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_groups_have_rates_of_their_own(make):
    model = net()
    first = copy.deepcopy(model)
    groups = [
        {"params": model[0].parameters(), "lr": 0.0},
        {"params": [*model[1].parameters(), *model[3].parameters()]},
    ]
    optimizer = make(model, params=groups, lr=0.02)
    train(model, optimizer, range(3))
    assert torch.equal(model[0].weight, first[0].weight)
    assert torch.equal(model[0].bias, first[0].bias)
    assert not torch.equal(model[3].weight, first[3].weight)
    assert not torch.equal(model[3].bias, first[3].bias)


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_schedules(make):
    model = net()
    optimizer = make(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    train(model, optimizer, range(4), schedule)
    before = copy.deepcopy(model)
    train(model, optimizer, range(4, 5))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)
    assert same(model, before)


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_closures(make):
    one, other = net(), net()
    other.load_state_dict(one.state_dict())
    train(one, make(one), range(3))
    optimizer = make(other)
    for i in range(3):

        def closure(i: int = i) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(other, batch(i))
            loss.backward()
            return loss

        assert optimizer.step(closure).item() > 0
    assert same(one, other)


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_layers_can_be_added_and_unfrozen(make):
    model = net()
    for p in model[0].parameters():
        p.requires_grad_(False)
    optimizer = make(model)
    train(model, optimizer, range(2))
    first = model[0].weight.detach().clone()
    for p in model[0].parameters():
        p.requires_grad_(True)
    optimizer.add_param_group({"params": model[0].parameters(), "lr": 0.005})
    train(model, optimizer, range(2, 4))
    assert not torch.equal(model[0].weight, first)
    model.append(nn.Linear(2, 2))
    optimizer.add_param_group({"params": model[4].parameters()})
    train(model, optimizer, range(4, 6))
    assert not any(rule.fallback for rule in optimizer.rules)
    assert "mean" in optimizer.state[model[4].weight] or make is MAKERS[2]


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_accumulated_gradients_are_those_of_the_whole_batch(make):
    one, other = net().double(), net().double()
    other.load_state_dict(one.state_dict())
    mine, theirs = make(one), make(other)
    for i in range(4):
        x = batch(i).double()
        mine.zero_grad()
        loss_of(one, x).backward()
        mine.step()
        theirs.zero_grad()
        for part in x.split(2):
            (loss_of(other, part) / 4).backward()
        theirs.step()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_clipping_and_set_to_none(make):
    model = net()
    optimizer = make(model)
    for i in range(3):
        optimizer.zero_grad(set_to_none=i % 2 == 0)
        loss_of(model, batch(i)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        nn.utils.clip_grad_value_(model.parameters(), 0.001)
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("make", MAKERS, ids=IDS)
def test_mixed_precision(make):
    model = net()
    optimizer = make(model)
    for i in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, batch(i))
        loss.backward()
        optimizer.step()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.parametrize("make", [UnitSGD, UnitMuon])
def test_a_scaled_loss_is_another_unit_of_it_and_a_bad_step_is_left_out(make):
    plain, scaled = net(), net()
    scaled.load_state_dict(plain.state_dict())
    train(plain, make(plain), range(3))
    optimizer, scaler = make(scaled), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for i in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(scaled, batch(i))).backward()
        scaler.step(optimizer)
        scaler.update()
    assert same(plain, scaled)
    optimizer.zero_grad()
    scaler.scale(loss_of(scaled, batch(3)) * float("inf")).backward()
    scaler.step(optimizer)
    assert same(plain, scaled)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpointed_layer_is_counted_once(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = (
                nn.Linear(4, 8),
                nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)),
            )

        def forward(self, x):
            return checkpoint(self.rest, self.first(x), use_reentrant=reentrant)

    model = Checkpointed().double()
    plain = nn.Sequential(copy.deepcopy(model.first), *copy.deepcopy(model.rest))
    one, other = UnitSGD(model), UnitSGD(plain)
    for i in range(3):
        for m, o in ((model, one), (plain, other)):
            o.zero_grad()
            loss_of(m, batch(i).double()).backward()
            o.step()
    assert same(model, plain)
    assert one.state[model.rest[0].weight]["count"] == other.state[plain[1].weight]["count"]


def test_passes_that_are_not_differentiated_do_not_count():
    model = net()
    optimizer = UnitSGD(model)
    loss_of(model, batch(0)).backward()
    with torch.no_grad():
        model(batch(1) * 100)
    model(batch(2) * 100)  # no backward
    model.eval()
    loss_of(model, batch(3) * 100).backward()
    model.train()
    optimizer.step()
    assert torch.allclose(optimizer.state[model[0].weight]["mean"][0], batch(0).double().mean(0))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of the compiler itself
def test_compiled_models():
    model, plain = net(), net()
    plain.load_state_dict(model.state_dict())
    optimizer = UnitSGD(model)
    compiled = torch.compile(model, backend="eager")
    train(compiled, optimizer, range(3))
    train(plain, UnitSGD(plain), range(3))
    assert same(model, plain)
    assert optimizer.state[model[0].weight]["count"] > 0


def test_copies_and_pickles_of_a_model_are_not_watched():
    model = net()
    optimizer = UnitSGD(model)
    twin = copy.deepcopy(model)
    loaded = pickle.loads(pickle.dumps(model))
    for other in (twin, loaded):
        loss_of(other, batch(0) * 1e9).backward()
    loss_of(model, batch(0)).backward()
    optimizer.step()
    assert torch.allclose(optimizer.state[model[0].weight]["mean"][0], batch(0).double().mean(0))


def test_two_optimizers_share_a_model():
    model = net()
    one = UnitSGD(model, params=[*model[0].parameters(), *model[1].parameters()])
    other = UnitMuon(model, params=model[3].parameters())
    for i in range(3):
        for o in (one, other):
            o.zero_grad()
        loss_of(model, batch(i)).backward()
        one.step()
        other.step()
    assert set(map(id, one.state)) == {
        id(p) for p in (model[0].weight, model[0].bias, model[1].weight, model[1].bias)
    }


def test_closing_takes_the_hooks_off():
    model = net()
    optimizer = UnitSGD(model)
    assert any(m._forward_hooks for m in model.modules())
    optimizer.close()
    assert not any(m._forward_hooks for m in model.modules())
    loss_of(model, batch(0)).backward()
    with pytest.raises(UsageError, match="closed"):
        optimizer.step()


def test_rates_are_heard_after_a_state_is_loaded():
    model = net()
    optimizer = UnitSGD(model)
    train(model, optimizer, range(2))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.param_groups[0]["lr"] = 0.0
    before = copy.deepcopy(model)
    train(model, optimizer, range(2, 3))
    assert same(model, before)


def test_parameters_in_place_of_the_model_are_refused():
    with pytest.raises(UsageError, match=r"UnitSGD\(model, …\)"):
        UnitSGD(net().parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -0.1}, "momentum"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"rule": "adam"}, "rule"),
        ({"sigma": {}}, "sheet"),
        ({"zero_rows": 0.0}, "zero_rows"),
        ({"rule": "sheet", "sigma": {"0.weight": torch.ones(3)}}, "4 numbers"),
        ({"rule": "sheet", "sigma": {"9.weight": torch.ones(3)}}, "name of a weight"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(UsageError, match=message):
        UnitSGD(net(), **options)


def test_what_has_no_rule_is_said():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.gain = nn.Linear(4, 2), nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.layer(x) * self.gain

    model = Odd()
    with pytest.warns(UserWarning, match="no rule for gain"):
        optimizer = UnitSGD(model)
    rules = {rule.parameter: rule for rule in optimizer.rules}
    assert rules["gain"].fallback
    assert not rules["layer.weight"].fallback
    assert "gain: no rule: one vector with one rate (fallback)" in repr(optimizer)
    first = model.gain.detach().clone()
    loss_of(model, batch(0)).backward()
    optimizer.step()
    assert not torch.equal(first, model.gain)


def test_a_layer_that_is_not_called_as_a_module_is_said():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return nn.functional.linear(x, self.layer.weight, self.layer.bias)

    model = Functional()
    optimizer = UnitSGD(model)
    loss_of(model, batch(0)).backward()
    with pytest.warns(UserWarning, match=r"inputs of layer\.weight were never seen"):
        optimizer.step()
    assert optimizer.rules[0].fallback
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
