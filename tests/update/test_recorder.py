"""The recorder against a plain computation, on optimizers of every kind, and that it leaves no trace."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer

from assay import Recorder
from assay.errors import UsageError
from assay.update import recorder as module


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


class Words(nn.Module):
    """Sparse gradients in the embedding, dense ones in the head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(20, 5, sparse=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed((10 * x).long().abs() % 20).mean(1))


class Sharp(SGD):
    """Sharpness-aware: moves uphill, asks its closure there, and comes back before it steps."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        weights = self.param_groups[0]["params"]
        up = [0.05 * p.grad for p in weights]
        for p, d in zip(weights, up, strict=True):
            p.add_(d)
        with torch.enable_grad():
            value = closure()
        for p, d in zip(weights, up, strict=True):
            p.sub_(d)
        super().step()
        return value


class Outside:
    """Not of torch: it has a `step` and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = list(model.parameters())

    def step(self) -> str:
        with torch.no_grad():
            for p in self.weights:
                p.sub_(0.1 * p.grad.sign())
        return "stepped"


def groups(model: nn.Module) -> Optimizer:
    first, *rest = model.parameters()
    return Adam([{"params": [first], "lr": 0.1}, {"params": rest, "weight_decay": 0.1}])


KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Any], bool]] = {
    "SGD": (net, lambda m: SGD(m.parameters(), lr=0.1, momentum=0.9), False),
    "AdamW, fused": (net, lambda m: torch.optim.AdamW(m.parameters(), fused=True), False),
    "Adam, foreach": (net, lambda m: Adam(m.parameters(), foreach=True), False),
    "maximize": (net, lambda m: SGD(m.parameters(), lr=0.1, maximize=True), False),
    "groups": (net, groups, False),
    "sparse": (Words, lambda m: SGD(m.parameters(), lr=0.1), False),
    "L-BFGS": (net, lambda m: torch.optim.LBFGS(m.parameters(), max_iter=3), True),
    "sharp": (net, lambda m: Sharp(m.parameters(), lr=0.1), True),
    "outside": (net, Outside, False),
}


Loop = Callable[[int], None]


def batch(step: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(step)
    return torch.randn(16, 4, generator=draw), torch.randint(0, 3, (16,), generator=draw)


def one_step(model: nn.Module, optimizer: Any, closes: bool, step: int) -> None:
    x, y = batch(0 if closes else step)  # L-BFGS does not bear other batches

    def loss() -> Tensor:
        model.zero_grad()
        value = F.cross_entropy(model(x), y)
        value.backward()
        return value

    loss()
    if closes:
        optimizer.step(loss)
    else:
        optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_slow_twin(kind: str) -> None:
    build, make, closes = KINDS[kind]
    model = build()
    optimizer = make(model)
    logged: list[tuple[int, dict[str, float]]] = []
    recorder = Recorder(
        model,
        optimizer,
        every=2,
        by="parameter",
        budget=None,
        log=lambda step, numbers: logged.append((step, dict(numbers))),
    )
    for step in range(1, 6):
        before = copy.deepcopy(model)
        one_step(model, optimizer, closes, step)
        x, y = batch(0 if closes else step)
        before.zero_grad()
        F.cross_entropy(before(x), y).backward()
        if step % 2 == 0:
            assert recorder.recorded == step // 2
            continue
        assert logged[-1][0] == step
        numbers = logged[-1][1]
        assert len(numbers) == 2 * len(list(model.parameters())) + 2
        for (name, old), new in zip(before.named_parameters(), model.parameters(), strict=True):
            assert old.grad is not None
            g = (old.grad.to_dense() if old.grad.is_sparse else old.grad).double().flatten()
            w = old.detach().double().flatten()
            d = new.detach().double().flatten() - w
            relative = numbers[f"update/{name}/relative"]
            assert relative == pytest.approx(float(d.norm() / w.norm()), rel=1e-9)
            cosine = float(d @ -g / d.norm() / g.norm())
            angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
            assert numbers[f"update/{name}/angle"] == pytest.approx(angle, abs=1e-3)
    recorder.close()


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_bit_by_bit_and_nothing_is_left(kind: str) -> None:
    build, make, closes = KINDS[kind]
    ends = []
    for recorded in (True, False):
        model = build()
        optimizer = make(model)
        before = dict(vars(optimizer))
        hooks = len(getattr(optimizer, "_optimizer_step_pre_hooks", ()))
        draws = torch.get_rng_state()
        if recorded:
            with Recorder(model, optimizer, every=1, budget=None):
                for step in range(4):
                    one_step(model, optimizer, closes, step)
            assert vars(optimizer).keys() == before.keys()
            assert len(getattr(optimizer, "_optimizer_step_pre_hooks", ())) == hooks
        else:
            for step in range(4):
                one_step(model, optimizer, closes, step)
        assert torch.equal(draws, torch.get_rng_state())
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(1e-3, 10), st.sampled_from([torch.float32, torch.float64]))
def test_sgd_follows_the_gradient_and_its_size_is_the_rate(
    seed: int, lr: float, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(3, 2, dtype=dtype)
    optimizer = SGD(model.parameters(), lr=lr)
    with Recorder(model, optimizer) as recorder:
        model(torch.randn(5, 3, dtype=dtype)).square().mean().backward()
        grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        weights = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        optimizer.step()
    found = recorder.numbers
    coarse = torch.finfo(dtype).eps / found["update/all/relative"]  # weights round the step off
    assert found["update/all/angle"] < 1e-5 + 100 * coarse
    expected = lr * float(grads.norm() / weights.norm())
    assert found["update/all/relative"] == pytest.approx(expected, rel=1e-6 + 10 * coarse)
    assert found["update/Linear/relative"] == found["update/all/relative"]


def test_adams_first_step_is_the_sign_of_the_gradient() -> None:
    """Theory U1 with s = g²: cos = ‖g‖₁ / (√n ‖g‖)."""
    model = net().double()
    with Recorder(model, Adam(model.parameters(), eps=0)) as recorder:
        one = F.cross_entropy(model(batch(0)[0].double()), batch(0)[1])
        one.backward()
        g = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        recorder.optimizer.step()
    cosine = float(g.abs().sum() / len(g) ** 0.5 / g.norm())
    assert recorder.numbers["update/all/angle"] == pytest.approx(math.degrees(math.acos(cosine)))


def test_layers_are_the_modules_that_hold_parameters() -> None:
    model = net()
    with Recorder(model, Adam(model.parameters()), prefix="opt") as recorder:
        one_step(model, recorder.optimizer, False, 0)
    wheres = {name.split("/")[1] for name in recorder.numbers}
    assert wheres == {"0", "2", "all"}
    assert all(type(v) is float and math.isfinite(v) for v in recorder.numbers.values())


class Clock:
    """Steps of 10 ms, of which a record takes 1 ms twice (before the step and after)."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_records_are_put_off_while_they_would_take_more_than_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter", clock)

    class Slow(module.Snapshot):
        @classmethod
        def of(cls, parameters: Any) -> Any:
            clock.now += 1e-3
            return super().of(parameters)

        def moves(self) -> Any:
            clock.now += 1e-3
            return super().moves()

    monkeypatch.setattr(module, "Snapshot", Slow)
    model = net()
    seen: list[int] = []
    with Recorder(
        model, SGD(model.parameters()), every=1, budget=0.02, log=lambda step, _: seen.append(step)
    ) as recorder:
        for step in range(200):
            one_step(model, recorder.optimizer, False, step)
            clock.now += 10e-3
    assert seen[:2] == [1, 21]  # 2 × 2 ms are 2 % of 20 steps
    assert recorder.recorded * 2e-3 <= 0.02 * clock.now + 2e-3
    assert recorder.recorded >= 19


def test_parameters_that_do_not_exist_for_the_optimizer_are_named() -> None:
    model = net()
    optimizer = SGD([model[0].weight], lr=0.1)
    with Recorder(model, optimizer, by="parameter", every=1, budget=None) as recorder:
        assert recorder.ignored == ("0.bias", "2.weight", "2.bias")
        one_step(model, optimizer, False, 0)
        assert set(recorder.numbers) == {
            f"update/{where}/{what}"
            for where in ("0.weight", "all")
            for what in ("relative", "angle")
        }
        optimizer.add_param_group({"params": [model[2].weight]})
        one_step(model, optimizer, False, 1)
        assert "update/2.weight/angle" in recorder.numbers
        assert recorder.ignored == ("0.bias", "2.bias")


def test_frozen_and_unused_layers_have_no_numbers() -> None:
    model = nn.ModuleDict(
        {"used": nn.Linear(4, 3), "frozen": nn.Linear(3, 3), "idle": nn.Linear(2, 2)}
    )
    model["frozen"].requires_grad_(False)
    with Recorder(model, SGD(model.parameters(), lr=0.1)) as recorder:
        model["frozen"](model["used"](batch(0)[0])).square().mean().backward()
        recorder.optimizer.step()
    assert {name.split("/")[1] for name in recorder.numbers} == {"used", "all"}
    assert recorder.ignored == ()


def test_weights_of_zero_have_no_relative_size_but_a_direction() -> None:
    model = nn.Linear(4, 1)
    nn.init.zeros_(model.weight)
    with Recorder(model, SGD(model.parameters(), lr=0.1), by="parameter") as recorder:
        (model(batch(0)[0]) - 1).square().mean().backward()
        recorder.optimizer.step()
    assert "update/weight/relative" not in recorder.numbers
    assert recorder.numbers["update/weight/angle"] < 1e-3


def test_updates_that_a_low_precision_rounds_away_are_seen() -> None:
    torch.manual_seed(0)
    model = nn.Linear(64, 64, dtype=torch.bfloat16)
    nn.init.constant_(model.weight, 0.1)  # a weight close to zero is not rounded away
    with Recorder(model, SGD(model.parameters(), lr=1e-6), by="parameter") as recorder:
        model(torch.randn(8, 64, dtype=torch.bfloat16)).square().mean().backward()
        recorder.optimizer.step()
    assert recorder.numbers["update/weight/relative"] == 0
    assert "update/weight/angle" not in recorder.numbers


def test_a_step_that_is_not_finite_is_told() -> None:
    model = net()
    with Recorder(model, SGD(model.parameters(), lr=float("inf"))) as recorder:
        one_step(model, recorder.optimizer, False, 0)
    assert not math.isfinite(recorder.numbers["update/all/relative"])


class Failing(SGD):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step today")


def test_what_the_optimizer_raises_passes_through_and_nothing_stays() -> None:
    model = net()
    optimizer = Failing(model.parameters())
    with pytest.raises(RuntimeError, match="no step today"), Recorder(model, optimizer) as recorder:
        one_step(model, optimizer, False, 0)
    assert recorder.recorded == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_schedulers_and_scalers_find_what_they_expect() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    with Recorder(model, optimizer, every=1, budget=None) as recorder:
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
        scaler = torch.amp.GradScaler("cpu")
        sizes = []
        for _ in range(2):  # a warning of the wrong order would be an error here
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(batch(0)[0]), batch(0)[1])).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            sizes.append(recorder.numbers["update/all/relative"])
    assert sizes[1] == pytest.approx(0.1 * sizes[0], rel=0.1)


def test_a_wrapper_put_around_step_later_survives_the_end_of_recording() -> None:
    model = net()
    optimizer = Outside(model)
    recorder = Recorder(model, optimizer, every=1, budget=None)
    inner = optimizer.step
    optimizer.step = functools.wraps(inner)(lambda: inner())  # type: ignore[method-assign]
    recorder.close()
    model(batch(0)[0]).sum().backward()
    assert optimizer.step() == "stepped"
    assert recorder.steps == 0


def test_distributed_data_parallel_has_the_names_of_its_module() -> None:
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        plain, logged = net(), {}
        for wrap in (lambda m: m, nn.parallel.DistributedDataParallel):
            model = wrap(copy.deepcopy(plain))
            with Recorder(model, SGD(model.parameters(), lr=0.1)) as recorder:
                one_step(model, recorder.optimizer, False, 0)
            logged[wrap] = {
                name.replace("/module.", "/"): v for name, v in recorder.numbers.items()
            }
        first, second = logged.values()
        assert first == pytest.approx(second)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"model": 3}, "model = 3"),
        ({"optimizer": 3}, "optimizer = 3"),
        ({"optimizer": SGD([nn.Parameter(torch.ones(1))])}, "holds none of them"),
        ({"every": 0}, "every = 0"),
        ({"log": "wandb"}, "log = 'wandb'"),
        ({"by": "module"}, "by = 'module'"),
        ({"budget": 0}, "budget = 0"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], word: str) -> None:
    model = net()
    given = {"model": model, "optimizer": SGD(model.parameters()), **wrong}
    with pytest.raises(UsageError, match=word):
        Recorder(given.pop("model"), given.pop("optimizer"), **given)


class FailingOnce(Sharp):
    failed = False

    def step(self, closure: Any = None) -> Any:
        if not self.failed:
            self.failed = True
            super(Sharp, self).step()
            raise RuntimeError("once")
        return super().step(closure)


def test_a_step_that_calls_its_parents_step_counts_once_also_after_one_that_raised() -> None:
    model = net()
    optimizer = FailingOnce(model.parameters(), lr=0.1)
    with Recorder(model, optimizer, every=1, budget=None) as recorder:
        with pytest.raises(RuntimeError, match="once"):
            one_step(model, optimizer, True, 0)
        for step in range(1, 4):
            (lambda step=step: one_step(model, optimizer, True, step))()
            assert recorder.recorded == step
    assert recorder.steps == 4
