"""`audit_units` on the user's own model: twins are one function, and the numbers those of plain loops."""

import copy
import functools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

import assay
from assay import Subject
from assay.errors import CannotMeasure, UsageError, UserCodeError
from assay.update.features import feature_findings, worst
from assay.update.own import OwnTraining, converted
from assay.update.own_changes import find_changes
from assay.update.units_card import Feature

ADAM = functools.partial(Adam, lr=1e-3, eps=1e-30)


def table(seed: int = 0, n: int = 24) -> Tensor:
    """Features in unlike units: means and spreads over three powers of ten; the last is constant."""
    torch.manual_seed(seed)
    spread, mean = torch.tensor([1.0, 30.0, 0.1, 0.0]), torch.tensor([0.0, 100.0, 5.0, 2.0])
    return torch.randn(n, 4) * spread + mean


def tabular(*layers: nn.Module) -> Subject:
    x = table()
    y = torch.randint(0, 3, (len(x),))
    torch.manual_seed(1)
    model = (
        nn.Sequential(*layers)
        if layers
        else nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    )
    return Subject(model, x, loss=lambda u: F.cross_entropy(u, y))


class TwoRoads(nn.Module):
    """The input is read by a deep road and by a wide one, which takes two features only."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Linear(4, 6)
        self.wide = nn.Parameter(torch.randn(2, 3))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.deep(x).tanh()) + x[:, 1:3] @ self.wide


class Sequence(nn.Module):
    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__()
        self.cell = kind(4, 4, batch_first=True, **options)
        self.head = nn.Linear(4 * (2 if options.get("bidirectional") else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Steps(nn.Module):
    """A cell that is called on slices of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 5)
        for now in x.unbind(1):
            state = self.cell(now, state)
        return self.head(state)


def sequences(model: nn.Module) -> Subject:
    torch.manual_seed(2)
    x = torch.randn(6, 5, 4) * torch.tensor([1.0, 20.0, 0.1, 3.0]) + 2
    return Subject(model, x, loss=lambda u: u.square().mean())


def images(padding: int) -> Subject:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)
    )
    x = torch.randn(5, 3, 6, 6) * torch.tensor([1.0, 10.0, 0.1])[:, None, None] + 4
    model(x)
    return Subject(model, x, loss=lambda u: u.square().mean())


SUBJECTS = {
    "table": (tabular, True),
    "no bias": (lambda: tabular(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3)), False),
    "two roads": (lambda: tabular(TwoRoads()), False),
    "LSTM": (lambda: sequences(Sequence(nn.LSTM, num_layers=2)), True),
    "both ways": (lambda: sequences(Sequence(nn.GRU, bidirectional=True)), True),
    "RNN without bias": (lambda: sequences(Sequence(nn.RNN, bias=False)), False),
    "cell": (lambda: sequences(Steps()), True),
    "convolution": (lambda: images(0), True),
    "padded": (lambda: images(1), False),
}


@pytest.mark.parametrize("name", SUBJECTS)
def test_twins_are_the_same_function_and_what_has_none_is_said(name: str) -> None:
    build, shifts = SUBJECTS[name]
    own, exact = converted(build(), torch.float64)
    assert exact
    training = OwnTraining(own, 0)
    found = find_changes(training)
    assert "input scale" in found.changes
    assert ("input shift" in found.changes) == shifts
    assert shifts or "no biases take a shift" in found.closed["input shift"]
    start = training.observe(training.network(False))[0]
    weights = dict(training.network(False).named_parameters())
    for row, changes in found.changes.items():
        for change in changes:
            twin = change.apply(training)
            torch.testing.assert_close(
                twin.observe(twin.network(False))[0], start, rtol=1e-8, atol=1e-8
            )
            if row == "input scale":
                assert not torch.equal(twin.subject.inputs[0], own.inputs[0])
                ratios = change.weight_ratio.packed(False)
                for (n, old), ratio in zip(weights.items(), ratios, strict=True):
                    new = dict(twin.subject.model.named_parameters())[n]
                    torch.testing.assert_close(new, old * ratio)


def test_what_reads_the_input_otherwise_leaves_no_twin() -> None:
    normed = tabular(nn.LayerNorm(4), nn.Linear(4, 3))
    card = assay.audit_units(ADAM, normed, steps=2)
    assert card["input scale"].verdict == "undetermined"
    assert "no weight was found" in card["input scale"].reason
    assert card["loss unit"].verdict == "invariant"
    assert card.features == ()

    class Residual(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    card = assay.audit_units(ADAM, tabular(Residual(4, 4), nn.Linear(4, 3)), steps=2)
    assert "something else does too" in card["input scale"].reason


def test_tokens_have_no_units() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2))
    subject = Subject(model, torch.randint(0, 7, (5, 3)), loss=lambda u: u.square().mean())
    card = assay.audit_units(functools.partial(SGD, lr=0.01), subject, steps=5)
    assert "tokens have no unit" in card["input scale"].reason
    assert card["loss unit"].law == "becomes invariant when lr is multiplied by ln 2"
    assert "inverse unit of the loss" in card.lr_unit


def walk(subject: Subject, make: Any, steps: int) -> Tensor:
    """The slow twin of a run: a plain loop in float64, outputs before every step and at the end."""
    model = copy.deepcopy(subject.model).double()
    x = subject.inputs[0].double()
    optimizer = make(list(model.parameters()))
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        u = model(x)
        seen.append(u.detach())
        subject.loss(u).backward()
        optimizer.step()
    return torch.stack([*seen, model(x).detach()])


def drift(a: Tensor, b: Tensor) -> float:
    rms = lambda t: t.flatten(1).square().mean(1).sqrt()  # noqa: E731
    return float(rms(a - b).max() / rms(a - a[:1]).max())


@pytest.mark.parametrize("make", [ADAM, functools.partial(SGD, lr=1e-5)])
def test_the_features_deviations_are_those_of_plain_loops(make: Any) -> None:
    subject = tabular()
    card = assay.audit_units(make, subject, steps=8)
    base = walk(subject, make, 8)
    for feature in card.features:
        j, mean, std = feature.index, feature.mean, feature.std
        column = subject.inputs[0][:, j].double()
        assert mean == pytest.approx(float(column.mean()), rel=1e-6)
        assert std == pytest.approx(float(column.std(correction=0)), rel=1e-6, abs=1e-9)
        changes = {"scale": (2.0, 0.0), "shift": (1.0, std or 1.0)}
        if std:
            changes["standard"] = (1 / std, -mean / std)
        else:
            assert math.isnan(feature.standard)
        for what, (c, a) in changes.items():
            twin = copy.deepcopy(subject.model).double()
            x = subject.inputs[0].double().clone()
            with torch.no_grad():
                twin[0].weight[:, j] /= c
                twin[0].bias -= twin[0].weight[:, j] * a
                x[:, j] = c * x[:, j] + a
            other = walk(Subject(twin, x, loss=subject.loss), make, 8)
            assert getattr(feature, what) == pytest.approx(drift(base, other), rel=1e-4, abs=1e-12)


def test_the_laws_of_the_theory_hold_on_the_users_model() -> None:
    sgd = assay.audit_units(functools.partial(SGD, lr=1e-5), tabular(), steps=8)
    assert "divided by |c[j]|²" in sgd["input scale"].law  # U4
    assert "multiplied by ln 2" in sgd["loss unit"].law  # U6
    adam = assay.audit_units(ADAM, tabular(), steps=8)
    assert adam["input scale"].law.endswith("the rate of feature j is divided by |c[j]|")  # U7
    assert adam["loss unit"].verdict == "invariant"


class PerFeature(SGD):
    """Theory U5: η/σ[j]² for feature j, σ from the inputs that the first layer saw first."""

    def __init__(self, model: nn.Module, lr: float = 0.01) -> None:
        super().__init__(model.parameters(), lr=lr)
        first = next(m for m in model.modules() if isinstance(m, nn.Linear))
        self.variance: Tensor | None = None

        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if self.variance is None:
                self.variance = inputs[0].var(0, correction=0)

        first.register_forward_pre_hook(see)
        self.first = first.weight

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        assert self.first.grad is not None
        self.first.grad /= torch.where(self.variance > 0, self.variance, 1.0)
        super().step()


@pytest.mark.parametrize("seed", range(3))
def test_u5_dividing_by_the_variance_makes_the_units_of_features_irrelevant(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(12, 4) * torch.tensor([1.0, 4.0, 0.2, 0.5]) + torch.tensor([0.0, 3.0, 1.0, 0.5])
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    subject = Subject(model, x, loss=lambda u: u.square().mean())
    card = assay.audit_units(PerFeature, subject, steps=5)
    assert card["input scale"].verdict == "invariant", card
    assert card["input scale"].bitwise
    assert all(f.scale < 1e-12 for f in card.features)
    # the mean is another matter: U8 a
    assert card["input shift"].verdict == "not invariant"


def test_the_model_the_gradients_and_the_random_state_come_back() -> None:
    subject = tabular(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    subject.loss(subject.model(*subject.inputs)).backward()
    state = copy.deepcopy(subject.model.state_dict())
    grads = [p.grad for p in subject.model.parameters()]
    draws = torch.get_rng_state()
    card = assay.audit_units(ADAM, subject, steps=3)
    assert torch.equal(draws, torch.get_rng_state())
    assert all(
        torch.equal(a, b)
        for a, b in zip(state.values(), subject.model.state_dict().values(), strict=True)
    )
    assert all(p.grad is g for p, g in zip(subject.model.parameters(), grads, strict=True))
    # the same masks in both units, so that dropout decides nothing
    assert card["loss unit"].verdict == "invariant"


def test_a_loss_that_does_not_run_in_float64_is_run_as_it_is() -> None:
    model = nn.Linear(4, 1)
    x = table()

    def loss(u: Tensor) -> Tensor:
        if u.dtype is not torch.float32:
            raise TypeError("float32 only")
        return u.square().mean()

    card = assay.audit_units(functools.partial(SGD, lr=1e-5), Subject(model, x, loss=loss), steps=3)
    assert any(
        "do not run in the precision asked for; this is in float32" in r for r in card.remarks
    )
    assert card.problem.dtype is torch.float32
    assert card["loss unit"].verdict == "not invariant"


def test_many_features_are_thinned_out_to_the_least_standard_ones() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 40)
    x[:, 31] *= 1e3
    subject = Subject(nn.Linear(40, 1), x, loss=lambda u: u.square().mean())
    card = assay.audit_units(functools.partial(Adam, lr=1e-4), subject, steps=2)
    assert len(card.features) == 24
    assert 31 in {f.index for f in card.features}
    assert max(card.features, key=lambda f: f.standard).index == 31
    assert any("Of 40 features, the 24" in remark for remark in card.remarks)


def test_the_view_and_the_notes_name_the_feature_and_the_line_to_write() -> None:
    card = assay.audit_units(ADAM, tabular(), steps=8)
    text = str(card)
    assert "feature 1" in card.view().answer
    assert "your Sequential" in text
    noted = [f for f in card.findings if f.rule == "units.feature"]
    assert noted
    assert "x[..., 1] = (x[..., 1] - " in noted[0].repair
    assert all(f.severity == "note" for f in card.findings)
    assert card.to_dict()["features"][1]["index"] == 1


def test_what_cannot_be_trained_is_said() -> None:
    with pytest.raises(CannotMeasure, match="without trainable parameters"):
        assay.audit_units(ADAM, Subject(nn.ReLU(), torch.randn(3, 4)))
    with pytest.raises(UsageError, match="steps = 0"):
        assay.audit_units(ADAM, tabular(), steps=0)

    def raising(u: Tensor) -> Tensor:
        raise KeyError("labels")

    with pytest.raises(UserCodeError, match="labels"):
        assay.audit_units(ADAM, Subject(nn.Linear(4, 1), table(), loss=raising))
    with pytest.raises(CannotMeasure, match="did not move any parameter of your Linear"):
        assay.audit_units(functools.partial(SGD, lr=0.0), Subject(nn.Linear(4, 1), table()))


def test_units_read_as_sentences_and_repairs_as_python() -> None:
    def noted(deviation: float, mean: float) -> Any:
        return feature_findings("Adam", (Feature("0", 7, mean, 2.0, 0.1, 0.1, deviation),))[0]

    low = noted(1.1, -0.5)
    assert "(x[..., 7] + 0.5) / 2" in low.repair
    assert "goes elsewhere by 110 % of how far" in low.message
    assert "(x[..., 7] - 0.5) / 2" in noted(0.5, 0.5).repair
    assert "goes elsewhere without bound, beside how far" in noted(math.inf, 0.5).message
    assert worst((Feature("0", 0, 0.0, 1.0, 0.1, 0.1, 3.0),)).endswith("go elsewhere by 300 %.")
