"""From text to an optimizer, and which argument a maker is called with."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from assay.errors import UsageError, UserCodeError
from assay.update.optimizer import (
    OptimizerFactory,
    build_optimizer,
    is_refusal,
    make_for,
    name_of,
    needs_closure,
    optimizer_factory,
    scale_options,
)

MODEL = nn.Linear(2, 1)


class Required(SGD):
    """As SGD was before torch gave `lr` a default."""

    def __init__(self, params: Any, lr: float, *, extra: int = 0) -> None:
        super().__init__(params, lr=lr)


class OfModel(SGD):
    def __init__(self, model: nn.Module, lr: float = 0.5) -> None:
        self.model = model
        super().__init__(model.parameters(), lr=lr)


def test_a_name_with_arguments() -> None:
    make = optimizer_factory("torch.optim:Adam", lr=0.25, betas=(0.5, 0.9))
    optimizer = make(MODEL)
    assert isinstance(optimizer, Adam)
    assert optimizer.defaults["lr"] == 0.25
    assert repr(make) == "torch.optim:Adam(lr=0.25, betas=(0.5, 0.9))"
    assert make.supplied == {}
    assert name_of(make) == "Adam(lr=0.25, betas=(0.5, 0.9))"


def test_a_required_rate_is_supplied_and_told(tmp_path: Path) -> None:
    make = OptimizerFactory(Required, "mine:Required", {}, {"lr": 0.01})
    assert make(MODEL).defaults["lr"] == 0.01
    path = tmp_path / "opt.py"
    path.write_text(
        "import torch\n"
        "class Old(torch.optim.SGD):\n"
        "    def __init__(self, params, lr):\n"
        "        super().__init__(params, lr=lr)\n"
        "def groups(model, lr=0.5):\n"
        "    return torch.optim.SGD([{'params': [p]} for p in model.parameters()], lr=lr)\n"
    )
    old = optimizer_factory(f"{path}:Old")
    assert old.supplied == {"lr": 0.01}
    assert old(MODEL).defaults["lr"] == 0.01
    assert optimizer_factory(f"{path}:Old", lr=0.3).supplied == {}
    assert len(optimizer_factory(f"{path}:groups", lr=0.3)(MODEL).param_groups) == 2


@pytest.mark.parametrize(
    ("target", "arguments", "word"),
    [
        ("Adam", {}, "package.module:name"),
        ("torch.optim:Adem", {}, "Adam"),
        ("torch.nowhere:Adam", {}, "no module named"),
        ("torch.optim:__name__", {}, "called"),
        ("torch.optim:Adam", {"learning_rate": 1}, "betas"),
        ("no/such/file.py:make", {}, "does not exist"),
    ],
)
def test_wrong_names_say_what_there_is(target: str, arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        optimizer_factory(target, **arguments)


def test_a_module_without_optimizers_says_so() -> None:
    with pytest.raises(UsageError, match="no optimizer classes"):
        optimizer_factory("math:adam")


def test_a_class_gets_parameters_and_a_function_the_model() -> None:
    seen: list[Any] = []

    def of_model(model: nn.Module) -> SGD:
        seen.append(model)
        return SGD(model.parameters())

    def of_params(params: Any) -> SGD:
        seen.append(params)
        return SGD(params)

    for make in (
        SGD,
        functools.partial(SGD, lr=0.1),
        functools.partial(functools.partial(SGD), lr=0.1),
        of_model,
        of_params,
        OfModel,
        functools.partial(OfModel, lr=0.1),
    ):
        assert isinstance(make_for(make, MODEL), SGD)
    assert seen[0] is MODEL
    assert seen[1][0] is MODEL.weight


def test_only_what_can_step_is_an_optimizer() -> None:
    with pytest.raises(UsageError, match="returned NoneType"):
        build_optimizer(lambda model: None, MODEL, "mine")
    with pytest.raises(UserCodeError, match="iterable"):
        build_optimizer(lambda p: SGD(p), MODEL, "mine")
    with pytest.raises(UsageError, match="function of the model"):
        build_optimizer(3, MODEL, "mine")  # type: ignore[arg-type]

    def refuses(model: nn.Module) -> SGD:
        raise UsageError("lr", 0, "a positive number", "Give one.")

    with pytest.raises(UsageError, match="positive"):
        build_optimizer(refuses, MODEL, "mine")


def test_names() -> None:
    assert name_of(functools.partial(SGD, lr=0.1)) == "SGD(lr=0.1)"
    assert name_of(SGD) == "SGD"
    assert name_of(nn.Identity()) == "Identity"


def test_closures() -> None:
    assert needs_closure(torch.optim.LBFGS(MODEL.parameters()))
    assert not needs_closure(SGD(MODEL.parameters()))


def test_options_are_scaled_where_they_are_numbers() -> None:
    optimizer = torch.optim.Adafactor(MODEL.parameters(), lr=0.5)
    assert scale_options(optimizer, {"eps": 1e-3, "lr": 2.0})
    group = optimizer.param_groups[0]
    assert group["eps"] == (None, pytest.approx(1e-6))
    assert group["lr"] == 1.0
    assert group["foreach"] is None
    tensor = Adam(MODEL.parameters(), lr=torch.tensor(0.5))
    assert scale_options(tensor, {"lr": 2.0})
    assert float(tensor.param_groups[0]["lr"]) == 1.0
    assert not scale_options(SGD(MODEL.parameters()), {"eps": 0.0, "weight_decay": 0.0})
    assert not scale_options(object(), {"lr": 2.0})


def test_what_a_maker_requires_and_is_not_given_is_named(tmp_path: Path) -> None:
    path = tmp_path / "needy.py"
    path.write_text("def make(model, task, depth=1):\n    raise NotImplementedError\n")
    with pytest.raises(UsageError, match=r"argument task = not given: .* -a task="):
        optimizer_factory(f"{path}:make")
    assert optimizer_factory(f"{path}:make", task="tagging").arguments == {"task": "tagging"}
    with pytest.raises(UsageError, match="defaults"):
        optimizer_factory("torch.optim:Optimizer")


@pytest.mark.parametrize("lr", [-1, float("nan"), float("inf"), "abc"])
def test_what_is_no_rate_is_refused_before_any_work(lr: Any) -> None:
    with pytest.raises(UsageError, match=r"^lr = "):
        optimizer_factory("torch.optim:Adam", lr=lr)


def test_a_factory_has_the_name_of_what_it_makes() -> None:
    assert optimizer_factory("torch.optim:Adam").__name__ == "Adam"


def test_torch_refusing_is_told_from_the_users_code_raising() -> None:
    def mine(model: nn.Module) -> SGD:
        return SGD(model.parameters(), lr=-1.0)

    for make, torch_only in ((functools.partial(SGD, lr=-1.0), True), (mine, False)):
        with pytest.raises(UserCodeError) as raised:
            build_optimizer(make, MODEL, "it")
        assert is_refusal(raised.value.error) is torch_only
