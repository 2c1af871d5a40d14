"""Steps at equal norm against plain computations, on models of every kind."""

import copy
import functools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, RMSprop

from assay import Subject, compare_steps
from assay.errors import CannotMeasure, UsageError, UserCodeError
from assay.update.direction import closed_form_degrees, degrees, dot, length

TWO = {"SGD": functools.partial(SGD, lr=0.05), "RMSProp": RMSprop}


def mlp(b: int = 16, dropout: float = 0.0) -> Subject:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))
    x, y = torch.randn(b, 4), torch.randint(0, 3, (b,))
    return Subject(model, x, loss=lambda u: F.cross_entropy(u, y))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.head = nn.Linear(8, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embed(tokens))[0])


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 5)
        self.head = nn.Linear(5, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens).tanh())


def recurrent() -> Subject:
    torch.manual_seed(2)
    tokens = torch.randint(0, 11, (4, 7))
    return Subject(
        Recurrent(), tokens, loss=lambda u: F.cross_entropy(u.flatten(0, 1), tokens.flatten())
    )


def tied() -> Subject:
    torch.manual_seed(3)
    tokens = torch.randint(0, 9, (4, 6))
    return Subject(
        Tied(), tokens, loss=lambda u: F.cross_entropy(u.flatten(0, 1), tokens.flatten())
    )


def frozen() -> Subject:
    subject = mlp()
    subject.model[0].requires_grad_(False)
    return subject


def convnet() -> Subject:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )
    y = torch.randint(0, 3, (6,))
    return Subject(model, torch.randn(6, 1, 8, 8), loss=lambda u: F.cross_entropy(u, y))


def gpt2() -> Subject:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=23, n_positions=8, n_embd=8, n_layer=2, n_head=2, attn_implementation="eager"
    )
    torch.manual_seed(5)
    tokens = torch.randint(0, 23, (2, 6))
    model = transformers.GPT2LMHeadModel(config)
    return Subject(
        model,
        {"input_ids": tokens},
        loss=lambda out: F.cross_entropy(out.logits.flatten(0, 1), tokens.flatten()),
    )


@pytest.mark.parametrize("subject", [mlp, recurrent, tied, frozen, convnet, gpt2])
def test_steps_agree_with_the_slow_twin(subject: Any) -> None:
    """One lead, one follower, written out with `deepcopy` and nothing else."""
    given = subject()
    found = compare_steps(TWO, given, warmup=3)
    path = [copy.deepcopy(given.model) for _ in TWO]
    optimizers = [
        make(list(model.parameters())) for make, model in zip(TWO.values(), path, strict=True)
    ]
    for t in range(4):
        for follower in path[1:]:
            follower.load_state_dict(path[0].state_dict())
        before = [p.detach().clone() for p in path[0].parameters()]
        for model, optimizer in zip(path, optimizers, strict=True):
            optimizer.zero_grad()
            with torch.random.fork_rng():
                torch.manual_seed(t)  # dropout, as `compare_steps` seeds it
                given.loss(model(*given.inputs, **given.kwargs)).backward()
            optimizer.step()
    moves = [
        torch.cat([(p - q).flatten() for p, q in zip(model.parameters(), before, strict=True)])
        for model in path
    ]
    cosine = F.cosine_similarity(*(m.detach().double() for m in moves), dim=0)
    assert found.angle("SGD", "RMSProp") == pytest.approx(math.degrees(math.acos(cosine)), abs=0.05)
    assert found["SGD"].own_norm == pytest.approx(float(moves[0].detach().norm()), rel=1e-3)
    assert found["RMSProp"].parameter_norm == pytest.approx(found["SGD"].parameter_norm, rel=1e-6)
    assert found["SGD"].to_gradient == pytest.approx(0.0, abs=0.1)
    pair = found.pair("RMSProp", "SGD")
    assert pair.closed_form == pytest.approx(pair.degrees, abs=0.05)  # U1
    assert not any(f.fails for f in found.findings)
    assert "°" in found.view().answer


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_u1_closed_form_of_the_cosine(seed: int, n: int) -> None:
    torch.manual_seed(seed)
    g, s = torch.randn(n, dtype=torch.float64), torch.rand(n, dtype=torch.float64) + 0.01
    r = s.sqrt() + 1e-8
    cosine = float((g * g / r).sum() / (g.norm() * (g / r).norm()))
    assert math.cos(math.radians(closed_form_degrees([g], [s], 1e-8) or 0.0)) == pytest.approx(
        cosine
    )
    same = closed_form_degrees([g], [torch.full_like(s, 3.0)], 0.0)
    assert same == pytest.approx(0.0, abs=1e-6)  # constant s: the same direction


def test_first_step_of_rmsprop_is_the_sign() -> None:
    subject = mlp()
    found = compare_steps(
        {"SGD": SGD, "RMSProp": functools.partial(RMSprop, eps=0.0)}, subject, warmup=0
    )
    subject.backward(subject.forward())
    g = torch.cat([p.grad.flatten() for p in subject.model.parameters()]).double()
    cosine = float(g.abs().sum() / (g.norm() * g.count_nonzero() ** 0.5))
    assert found.angle("SGD", "RMSProp") == pytest.approx(math.degrees(math.acos(cosine)), abs=0.1)


def test_equal_function_norm_and_equal_predicted_loss() -> None:
    subject = mlp()
    function = compare_steps(TWO, subject, "function")
    assert function["RMSProp"].function_norm == pytest.approx(function.radius, rel=1e-3)
    loss = compare_steps(TWO, subject, "loss")
    assert loss["RMSProp"].predicted == pytest.approx(loss["SGD"].predicted, rel=1e-6)
    for one in (function, loss):
        for row in one.rows:
            assert row.decrease == pytest.approx(row.predicted, rel=0.2)
    assert function.angle("SGD", "RMSProp") == loss.angle("SGD", "RMSProp")


def test_small_steps_decrease_the_loss_as_the_gradient_predicts() -> None:
    slow = {"SGD": functools.partial(SGD, lr=1e-3), "Adam": Adam}
    subject = mlp()
    double = Subject(
        subject.model.double(), tuple(x.double() for x in subject.inputs), loss=subject.loss
    )
    for row in compare_steps(slow, double).rows:
        assert row.decrease == pytest.approx(row.predicted, rel=0.02)
        assert list(row.curve) == sorted(row.curve)


class Rated(SGD):
    """SGD with one rate a feature (U4)."""

    def __init__(self, params: Any, rates: torch.Tensor, lr: float = 0.05) -> None:
        super().__init__(params, lr=lr)
        self.rates = rates

    def step(self, closure: Any = None) -> Any:
        self.param_groups[0]["params"][0].grad.mul_(self.rates)
        return super().step()


def test_parameter_norm_depends_on_units_and_function_norm_does_not() -> None:
    """One pair of steps written in two units: by U4 the twin's rates make each the same function."""
    torch.manual_seed(6)
    x, y = torch.randn(32, 4, dtype=torch.float64), torch.randn(32, 1, dtype=torch.float64)
    c = torch.tensor([1.0, 8.0, 0.25, 4.0], dtype=torch.float64)
    skew = torch.tensor([1.0, 3.0, 0.5, 2.0], dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    twin = copy.deepcopy(model)
    twin.weight.data /= c
    found = {}
    for norm in ("parameter", "function"):
        for net, factor in ((model, torch.ones_like(c)), (twin, c)):
            pair = {
                "plain": functools.partial(Rated, rates=factor**-2),
                "skew": functools.partial(Rated, rates=skew * factor**-2),
            }
            subject = Subject(net, x * factor, loss=lambda u: F.mse_loss(u, y))
            found[norm, net is twin] = compare_steps(pair, subject, norm)["skew"]
    here, there = found["function", False], found["function", True]
    assert here.function_norm == pytest.approx(there.function_norm, rel=1e-3)
    assert here.decrease == pytest.approx(there.decrease, rel=1e-3)
    here, there = found["parameter", False], found["parameter", True]
    assert abs(here.decrease / there.decrease - 1) > 0.05


def test_layers_and_lookup() -> None:
    found = compare_steps({**TWO, "Adam": Adam}, frozen())
    assert set(found.pairs[0].layers) == {"3.weight", "3.bias"}
    assert len(found.pairs) == 3
    one = found.angle("SGD", "Adam", "3.weight")
    assert one is not None
    assert 0 <= one <= 180
    with pytest.raises(UsageError, match=r"3\.weight"):
        found.angle("SGD", "Adam", "0.weight")
    with pytest.raises(UsageError, match="RMSProp"):
        found.angle("SGD", "Lion")
    with pytest.raises(UsageError, match="RMSProp"):
        found["Lion"]
    assert found.to_dict()["rows"][0]["name"] == "SGD"
    assert "3.weight" in str(found)


def test_a_parameter_without_gradient_has_no_angle() -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    found = compare_steps(
        TWO, Subject(Partly(), torch.randn(5, 2), loss=lambda u: u.square().mean())
    )
    assert found.angle("SGD", "RMSProp", "spare.weight") is None
    assert "–" in str(found)


def test_the_model_comes_back_as_it_was() -> None:
    given = convnet()
    x = given.inputs[0].requires_grad_(True)
    x.grad = torch.ones_like(x)
    for p in given.model.parameters():
        p.grad = torch.full_like(p, 7.0)
    before = copy.deepcopy(given.model.state_dict())
    rng = torch.get_rng_state()
    compare_steps(TWO, given, "function", warmup=2)
    with pytest.raises(UserCodeError):
        compare_steps(TWO, Subject(given.model, (x, x)))
    for name, value in given.model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(torch.equal(p.grad, torch.full_like(p, 7.0)) for p in given.model.parameters())
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(torch.get_rng_state(), rng)


def test_dropout_is_the_same_for_all() -> None:
    found = [compare_steps(TWO, mlp(dropout=0.5)) for _ in range(2)]
    assert found[0].rows == found[1].rows
    other = compare_steps(TWO, mlp(dropout=0.5), seed=1)
    assert other.loss != found[0].loss


def test_who_cannot_step_is_told_and_the_others_are_compared() -> None:
    crowd = {**TWO, "Muon": torch.optim.Muon, "still": functools.partial(SGD, lr=0.0)}
    found = compare_steps(crowd, mlp())
    assert [row.name for row in found.rows] == ["SGD", "RMSProp"]
    assert dict(found.failed)["still"] == "its step is zero"
    assert "2D" in dict(found.failed)["Muon"]
    assert {f.rule for f in found.findings} == {"step.failed"}
    assert "Not compared: Muon" in found.view().answer
    with pytest.raises(CannotMeasure, match="its step is zero"):
        compare_steps({"SGD": SGD, "still": functools.partial(SGD, lr=0.0)}, mlp())


class Failing(SGD):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step today")


def test_where_the_first_fails_the_next_leads() -> None:
    found = compare_steps({"Muon": torch.optim.Muon, "bad": Failing, **TWO}, mlp(), warmup=1)
    assert [row.name for row in found.rows] == ["SGD", "RMSProp"]
    assert dict(found.failed)["bad"] == "RuntimeError: no step today"
    with pytest.raises(CannotMeasure, match="no step today"):
        compare_steps({"bad": Failing, "worse": Failing}, mlp())


def test_one_row_alone_still_reads() -> None:
    pair = {"SGD": SGD, "up": functools.partial(SGD, maximize=True)}
    found = compare_steps(pair, mlp(), "loss")
    assert [row.name for row in found.rows] == ["SGD"]
    assert "Not compared: up" in found.view().answer
    assert "SGD" in str(found)


def test_steps_that_cannot_reach_the_norm() -> None:
    bounded = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())
    subject = Subject(bounded, torch.ones(3, 2), loss=lambda u: u.sum())
    pair = {"SGD": functools.partial(SGD, lr=1e4), "RMSProp": RMSprop}
    found = compare_steps(pair, subject, "function", warmup=0)
    assert found["RMSProp"].function_norm <= 1.0


def test_lbfgs_is_compared_without_a_foreign_past() -> None:
    found = compare_steps({"SGD": SGD, "LBFGS": torch.optim.LBFGS}, mlp())
    assert found["LBFGS"].predicted > 0
    assert any("without warm-up" in remark for remark in found.remarks)


def test_a_step_that_overshoots_and_one_that_climbs_are_noted() -> None:
    huge = {
        "SGD": functools.partial(SGD, lr=1e3),
        "up": functools.partial(SGD, lr=1.0, maximize=True),
    }
    found = compare_steps(huge, mlp(), warmup=0)
    assert {f.rule for f in found.findings} == {"step.overshoot", "step.ascent"}
    assert not any(f.fails for f in found.findings)
    by_loss = compare_steps({**TWO, **huge}, mlp(), "loss", warmup=0)
    assert "no decrease" in dict(by_loss.failed)["up"]


def test_a_step_nearly_twice_too_long_is_noted() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    subject = Subject(model, torch.ones(1, 1), loss=lambda u: u.square().sum() / 2)
    pair = {name: functools.partial(SGD, lr=1.95) for name in ("SGD", "again")}
    found = compare_steps(pair, subject, warmup=0)
    row = found["SGD"]
    assert 0 < row.decrease < 0.1 * row.predicted  # r - r²/2 of r
    assert [f.rule for f in found.findings] == ["step.overshoot"] * 2
    assert "not a tenth of the 1.95 predicted" in found.findings[0].message


def test_steps_near_round_off_are_remarked() -> None:
    tiny = {"SGD": functools.partial(SGD, lr=1e-7), "Adam": Adam}
    assert any("round off" in remark for remark in compare_steps(tiny, mlp(), warmup=0).remarks)


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("holds a socket")


@pytest.mark.parametrize(
    ("subject", "word"),
    [
        (Subject(nn.ReLU(), torch.ones(2, 2)), "without trainable parameters"),
        (Subject(nn.Linear(2, 1), torch.full((2, 2), math.nan)), "NaN"),
        (Subject(Uncopied(2, 1), torch.ones(2, 2)), "holds a socket"),
    ],
)
def test_what_cannot_be_measured(subject: Subject, word: str) -> None:
    with pytest.raises(CannotMeasure, match=word):
        compare_steps(TWO, subject)


def test_divergence_in_the_warm_up_is_told() -> None:
    wild = {"SGD": functools.partial(SGD, lr=1e30), "RMSProp": RMSprop}
    x = torch.randn(4, 2)
    with pytest.raises(CannotMeasure, match="not finite"):
        compare_steps(wild, Subject(nn.Linear(2, 1), x, loss=lambda u: u.square().mean()))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"optimizers": {"SGD": SGD}}, "at least two"),
        ({"norm": "spectral"}, "parameter"),
        ({"warmup": -1}, "at least 0"),
        ({"subject": nn.Linear(1, 1)}, r"assay\.Subject"),
        ({"optimizers": {"SGD": SGD, "none": lambda model: None}}, "NoneType"),
    ],
)
def test_wrong_calls(change: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        compare_steps(**{"optimizers": TWO, "subject": mlp(), **change})


def test_directions() -> None:
    a, b = [torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([-4.0]), torch.tensor([3.0])]
    assert (length(a), dot(a, b)) == (5.0, 0.0)
    assert degrees(a, b) == pytest.approx(90.0)
    assert degrees(a, a) == 0.0
    assert degrees(a, [-x for x in a]) == pytest.approx(180.0)
    assert degrees(a, [0 * x for x in a]) is None
    near = [torch.tensor([1.0, 1e-9], dtype=torch.float64)]
    assert degrees(near, [torch.tensor([1.0, 0.0], dtype=torch.float64)]) == pytest.approx(
        math.degrees(1e-9)
    )


class Force(nn.Module):
    """The output is a derivative, so the forward pass itself differentiates, as force fields do."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return force


def test_models_that_differentiate_inside_are_compared() -> None:
    subject = Subject(Force(), torch.randn(6, 3), loss=lambda f: f.square().mean())
    with torch.no_grad():
        found = compare_steps(TWO, subject, "function", warmup=2)
    assert found["RMSProp"].function_norm == pytest.approx(found.radius, rel=1e-3)


def test_no_closed_form_where_it_is_not_one() -> None:
    """Momentum, a part of the parameters, another sign: the formula of U1 is about none of these."""
    head = {"SGD": lambda model: SGD(model[3].parameters(), lr=0.05), "RMSProp": RMSprop}
    for pair in (
        head,
        {**TWO, "RMSProp": lambda model: RMSprop(model[3].parameters())},
        {**TWO, "SGD": functools.partial(SGD, lr=0.05, maximize=True)},
        {**TWO, "SGD": functools.partial(SGD, lr=0.05, momentum=0.9)},
        {**TWO, "RMSProp": functools.partial(RMSprop, centered=True)},
    ):
        assert compare_steps(pair, mlp(), warmup=2).pairs[0].closed_form is None
    assert compare_steps(TWO, frozen(), warmup=2).pairs[0].closed_form is not None


def test_flat_and_broken_objectives_are_not_the_optimizers_fault() -> None:
    x = torch.randn(5, 4)
    dark = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    nn.init.constant_(dark[0].bias, -100.0)
    for subject, word in (
        (Subject(dark, x), "a gradient of zero at the given weights"),
        (Subject(nn.Linear(4, 2), torch.zeros(0, 4)), r"an output of shape \[0, 2\]"),
        (
            Subject(nn.Linear(4, 2), x, loss=lambda u: u.sum() * math.nan),
            "names the first operator",
        ),
    ):
        with pytest.raises(CannotMeasure, match=word):
            compare_steps(TWO, subject)
    falling = Subject(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), x)  # its sum falls until all is 0
    with pytest.raises(CannotMeasure, match=r"after .* warm-up steps"):
        compare_steps(
            {"SGD": functools.partial(SGD, lr=5.0), "RMSProp": RMSprop}, falling, warmup=50
        )


def test_without_a_loss_the_reader_is_told_what_falls() -> None:
    assert any(
        "no loss" in r
        for r in compare_steps(TWO, Subject(nn.Linear(2, 2), torch.randn(3, 2))).remarks
    )
    assert not any("no loss" in remark for remark in compare_steps(TWO, mlp()).remarks)


def test_the_users_own_traceback_is_kept_and_torchs_is_not() -> None:
    found = compare_steps({**TWO, "bad": Failing, "Muon": torch.optim.Muon}, mlp(), warmup=1)
    ((name, text),) = found.tracebacks
    assert name == "bad"
    assert "no step today" in text
    assert "src/assay" not in text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    subject = Subject(model, torch.randn(9, 6, dtype=dtype), loss=lambda u: u.square().mean())
    found = compare_steps(TWO, subject, warmup=1)
    coarse = any("bfloat16 weights round off" in remark for remark in found.remarks)
    assert coarse is (dtype is torch.bfloat16)
    pair = found.pairs[0]
    assert pair.closed_form == pytest.approx(pair.degrees, abs=8.0 if coarse else 1e-6)


def unlike_units() -> Subject:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(16, 4) * torch.tensor([1.0, 30.0, 0.1, 3.0])
    y = torch.randint(0, 3, (16,))
    return Subject(model, x, loss=lambda u: F.cross_entropy(u, y))


@pytest.mark.parametrize("norm", ["parameter", "function", "loss"])
def test_equal_parameter_norm_depends_on_units_of_inputs_and_function_norm_does_not(
    norm: Any,
) -> None:
    subject = unlike_units()
    found = compare_steps(TWO, subject, norm, warmup=3)
    given, standard, mixed = found.units
    assert given.degrees["RMSProp"] == pytest.approx(found.angle("SGD", "RMSProp"))
    for other in (standard, mixed):
        assert other.function == pytest.approx(given.function, rel=1e-5, abs=1e-7)
        assert other.degrees["RMSProp"] != pytest.approx(given.degrees["RMSProp"], abs=1.0)
        assert other.parameter["RMSProp"] != pytest.approx(given.parameter["RMSProp"], rel=0.05)
    if norm != "loss":
        assert getattr(given, norm)["RMSProp"] == pytest.approx(found["RMSProp"].decrease, rel=1e-3)
    assert "depends on the units of the inputs" in found.view().answer


def test_steps_in_other_units_agree_with_the_slow_twin() -> None:
    """The model rewritten by hand, and the step divided by the factors."""
    subject = unlike_units()
    found = compare_steps(TWO, subject, warmup=0)
    steps = {}
    for name, make in TWO.items():
        model = copy.deepcopy(subject.model)
        optimizer = make(list(model.parameters()))
        subject.loss(model(*subject.inputs)).backward()
        optimizer.step()
        pairs = zip(model.parameters(), subject.model.parameters(), strict=True)
        steps[name] = [(p - q).detach() for p, q in pairs]
    factors = torch.tensor([4.0, 0.25, 1.0, 4.0])
    twin = copy.deepcopy(subject.model)
    with torch.no_grad():
        twin[0].weight /= factors
    rewritten = {name: [s[0] / factors, *s[1:]] for name, s in steps.items()}
    mixed = found.units[2]
    assert mixed.degrees["RMSProp"] == pytest.approx(degrees(*rewritten.values()), abs=1e-3)
    scale = length(rewritten["SGD"]) / length(rewritten["RMSProp"])
    x = subject.inputs[0] * factors
    before = subject.loss(twin(x))
    with torch.no_grad():
        for p, d in zip(twin.parameters(), rewritten["RMSProp"], strict=True):
            p += scale * d
    assert mixed.parameter["RMSProp"] == pytest.approx(
        float((before - subject.loss(twin(x))).detach()), rel=1e-2
    )


def test_tokens_have_no_units_to_rewrite_steps_in() -> None:
    assert compare_steps(TWO, recurrent(), warmup=1).units == ()
