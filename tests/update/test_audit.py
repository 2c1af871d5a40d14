"""Optimizers that are awkward: the reason is said, and the rest of the card still appears."""

import functools
import random
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer

import assay
from assay.errors import CannotMeasure, UsageError, UserCodeError
from assay.update.change import ROWS
from assay.update.world import Problem

SHORT = Problem(steps=8)


class Chaotic(SGD):
    """Deterministic and bounded, but round-off grows by about 1e4 a step."""

    def step(self, closure: Any = None) -> Any:
        super().step()
        for p in self.param_groups[0]["params"]:
            p.data += 1e-2 * torch.sin(1e6 * p.data)


class Noisy(SGD):
    """Langevin: Gaussian noise in every step."""

    def step(self, closure: Any = None) -> Any:
        super().step()
        for p in self.param_groups[0]["params"]:
            p.data += 1e-2 * torch.randn_like(p)


class Careless(SGD):
    """Ignores its last parameter."""

    def __init__(self, params: Any, lr: float = 0.02) -> None:
        super().__init__(list(params)[:-1], lr=lr)


class Failing(SGD):
    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step today")


class Sleeping(SGD):
    def step(self, closure: Any = None) -> Any:
        return None


class AskingForClosure(SGD):
    """As sharpness-aware optimizers do: the argument is optional, and missing it raises."""

    def step(self, closure: Any = None) -> Any:
        assert closure is not None, "give me a closure"
        closure()
        super().step()


class TwoFaced(SGD):
    """As schedule-free optimizers do: other weights in `eval`."""

    shown = "train"

    def train(self) -> None:
        self._shift("train", -1.0)

    def eval(self) -> None:
        self._shift("eval", 1.0)

    def _shift(self, mode: str, sign: float) -> None:
        if mode != self.shown:
            self.shown = mode
            for p in self.param_groups[0]["params"]:
                p.data.mul_(2.0**sign)


class Resetting(SGD):
    """Changes the weights when it is made."""

    def __init__(self, params: Any, lr: float = 0.02) -> None:
        params = list(params)
        for p in params:
            p.data.sign_()
        super().__init__(params, lr=lr)


class PickyAboutScale(SGD):
    """Raises in other units, but not in the reference's."""

    def step(self, closure: Any = None) -> Any:
        if self.param_groups[0]["params"][0].abs().max() > 1.8:
            raise ValueError("weights too large")
        return super().step()


def of(kind: type[Optimizer], **options: Any) -> assay.UnitsCard:
    return assay.audit_units(functools.partial(kind, lr=0.02, **options), SHORT)


def test_a_chaotic_trajectory_is_undetermined_never_wrongly_not_invariant() -> None:
    card = assay.audit_units(functools.partial(Chaotic, lr=0.02))
    for row in ("hidden permutation", "batch split"):
        assert card[row].verdict == "undetermined"
        assert card[row].control > 1e-2
        assert "chaotic" in card[row].reason
    # what round-off cannot do in one step is still seen
    assert card["input scale"].verdict == "not invariant"


def test_randomness_is_seeded_and_told() -> None:
    card = of(Noisy)
    assert any("random numbers" in remark for remark in card.remarks)
    assert "invariant" not in {card["hidden permutation"].verdict, card["batch split"].verdict}
    assert card["hidden permutation"].verdict == "undetermined"


def test_a_parameter_that_never_moves_is_named() -> None:
    card = of(Careless)
    assert any("output.bias" in remark for remark in card.remarks)
    assert card["input rotation"].verdict == "invariant"


class FailingLate(SGD):
    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps > 3:
            raise RuntimeError("no fourth step")
        return super().step()


@pytest.mark.parametrize(
    ("kind", "word"), [(Failing, "no step today"), (FailingLate, "no fourth step")]
)
def test_one_that_cannot_step_is_the_users_own_error(kind: type[Optimizer], word: str) -> None:
    with pytest.raises(UserCodeError, match=word) as raised:
        of(kind)
    assert "in step" in raised.value.user_traceback()


def test_one_that_moves_nothing_cannot_be_measured() -> None:
    with pytest.raises(CannotMeasure, match="did not move"):
        of(Sleeping)


def test_where_training_diverges_the_card_is_that_of_a_smaller_rate() -> None:
    fast = assay.audit_units(functools.partial(SGD, lr=50.0), SHORT)
    assert any("diverges" in remark for remark in fast.remarks)
    slow = assay.audit_units(functools.partial(SGD, lr=0.02), SHORT)
    assert [fast[row].verdict for row in fast] == [slow[row].verdict for row in slow]
    assert fast["loss unit"].law == slow["loss unit"].law
    with pytest.raises(CannotMeasure, match="diverges"):
        assay.audit_units(functools.partial(SGD, lr=1e200), SHORT)


def test_arguments_that_torch_refuses_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="Invalid learning rate"):
        assay.audit_units(functools.partial(SGD, lr=-1.0), SHORT)
    with pytest.raises(UsageError, match="TypeError"):
        assay.audit_units(functools.partial(Adam, betas=3), SHORT)


def test_a_twin_that_diverges_alone_is_not_invariant() -> None:
    card = assay.audit_units(functools.partial(SGD, lr=0.2), Problem(steps=30))
    found = card["input scale"]
    assert found.verdict == "not invariant"
    assert "ln 2" in card["loss unit"].law


def test_closures_are_given_to_who_asks() -> None:
    card = of(AskingForClosure)
    assert any("closure" in remark for remark in card.remarks)
    assert card["input rotation"].verdict == "invariant"
    assert card["loss unit"].law == "becomes invariant when lr is multiplied by ln 2"


def test_weights_for_evaluation_are_the_ones_that_are_read() -> None:
    card = of(TwoFaced)
    assert card["input rotation"].verdict == "invariant"


def test_twins_must_start_as_one_function() -> None:
    card = of(Resetting)
    assert card["input scale"].verdict == "undetermined"
    assert "changed the weights" in card["input scale"].reason


def test_raising_in_one_row_leaves_the_others() -> None:
    card = of(PickyAboutScale)
    assert card["input rotation"].verdict == "invariant"
    raised = [row for row in card if "weights too large" in card[row].reason]
    assert raised
    assert all(card[row].verdict == "undetermined" for row in raised)


def test_a_function_of_the_model_may_use_groups_and_modules() -> None:
    def make(model: torch.nn.Module) -> Optimizer:
        return SGD([{"params": [p], "lr": 0.02} for p in model.parameters()])

    card = assay.audit_units(make, SHORT)
    assert card.name == "make"
    assert card["loss unit"].law.endswith("multiplied by ln 2")


@pytest.mark.parametrize("make", [lambda model: None, lambda model: 3, "Adam"])
def test_what_is_no_optimizer_is_a_usage_error(make: Any) -> None:
    with pytest.raises(UsageError, match="make_optimizer"):
        assay.audit_units(make, SHORT)


def test_a_maker_that_raises_keeps_the_cause() -> None:
    def make(model: torch.nn.Module) -> Optimizer:
        raise KeyError("lr of the head")

    with pytest.raises(UserCodeError, match="lr of the head") as raised:
        assay.audit_units(make, SHORT)
    assert isinstance(raised.value.__cause__, KeyError)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"hidden": 2.5}, {"batch": 5}, {"batch": 128}])
def test_sizes_of_the_problem_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=rf"problem\.{next(iter(wrong))}"):
        Problem(**wrong)


def test_a_problem_of_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Linear.*assay\.Subject"):
        assay.audit_units(Adam, torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_an_unknown_row_names_the_known_ones() -> None:
    card = of(SGD)
    assert len(card) == len(ROWS)
    with pytest.raises(UsageError, match="input scale"):
        card["input scal"]


def test_global_state_is_left_alone() -> None:
    torch.manual_seed(3)
    random.seed(3)
    before = torch.get_rng_state(), random.getstate(), torch.get_default_dtype()
    of(Noisy)
    with pytest.raises(UsageError):
        assay.audit_units(lambda model: None, SHORT)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), torch.get_default_dtype()) == before[1:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precisions_never_say_a_wrong_thing(dtype: torch.dtype) -> None:
    card = assay.audit_units(functools.partial(SGD, lr=0.02), Problem(steps=8, dtype=dtype))
    expected = {"input rotation", "output rotation", "hidden permutation", "batch split"}
    for row in card:
        right = "invariant" if row in expected else "not invariant"
        assert card[row].verdict in (right, "undetermined")
    if dtype is torch.float32:
        assert card["input scale"].verdict == "not invariant"
        assert card["hidden permutation"].verdict == "invariant"


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    assay.audit_units(
        SGD,
        SHORT,
        name="mine",
        progress=lambda task, done, total, note="": told.append((done, total)),
    )
    assert told[-1] == (len(ROWS), len(ROWS))


def test_the_view_says_it_with_numbers() -> None:
    card = of(SGD)
    view = card.view()
    assert "loss unit (" in view.answer
    assert "weight² / loss" in view.answer
    assert card["input scale"].losses
    assert card.to_dict()["verdicts"]["loss unit"]["verdict"] == "not invariant"
    assert {f.rule for f in card.findings} >= {"units.input_scale", "units.loss_unit"}
    assert all(f.severity == "note" and f.repair for f in card.findings)
    assert "input scale" in str(card)


def test_an_error_on_the_reference_network_is_told_as_one() -> None:
    """Run alone on the user's own model, this raises nothing."""
    own = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2)})

    def make(model: Any) -> Any:
        return torch.optim.SGD(model["encoder"].parameters(), lr=0.1)

    assert make(own)
    with pytest.raises(
        UserCodeError, match="the small reference network and not your model"
    ) as raised:
        assay.audit_units(make)
    assert "run it alone" not in str(raised.value)
