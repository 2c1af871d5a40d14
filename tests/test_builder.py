import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.builder import Builder, as_builder
from assay.errors import CannotMeasure, UsageError, UserCodeError
from assay.subject import Subject


def mlp(b: int = 2, d: int = 4, *, bias: bool = True, act="relu"):
    return nn.Linear(d, d, bias=bias), torch.ones(b, d)


def test_sizes_are_the_integer_defaults():
    build = Builder(mlp)
    assert build.sizes == {"b": 2, "d": 4}
    assert build.name == "mlp"
    assert build.where.file == __file__
    assert repr(build) == "Builder(mlp, sizes={'b': 2, 'd': 4})"


@settings(max_examples=30)
@given(b=st.integers(1, 9), d=st.integers(1, 9))
def test_sizes_reach_the_function(b, d):
    assert Builder(mlp)(b=b, d=d).inputs[0].shape == (b, d)
    assert Builder(mlp, sizes={"d": d})(b=b).inputs[0].shape == (b, d)


def test_with_changes_a_copy():
    first = Builder(mlp)
    second = first.with_(sizes={"d": 7}, arguments={"bias": False})
    assert first.sizes["d"] == 4
    assert second().model.bias is None
    assert second().inputs[0].shape == (2, 7)


def test_an_argument_that_has_an_integer_default_is_no_size_any_more():
    build = Builder(mlp, arguments={"d": 3})
    assert build.sizes == {"b": 2}
    assert build().inputs[0].shape == (2, 3)


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True, None])
def test_sizes_are_positive_integers(value):
    with pytest.raises(UsageError, match="integer of at least 1"):
        Builder(mlp)(d=value)
    with pytest.raises(UsageError, match="integer of at least 1"):
        Builder(mlp, sizes={"d": value})


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="a parameter of mlp"):
        Builder(mlp)(q=3)
    with pytest.raises(UsageError, match="a parameter of mlp"):
        Builder(mlp, arguments={"q": 3})


def test_missing_size_is_named():
    class Net(nn.Module):
        def __init__(self, width: int):
            super().__init__()

    with pytest.raises(UsageError, match="width not given"):
        Builder(Net)()
    assert isinstance(Builder(Net, sizes={"width": 3})().model, Net)


def test_truth_is_spelled_as_in_python():
    def build(b: int = 2, *, bias: bool = True, padding: int = 1):
        return nn.Linear(b, b, bias=bias), torch.ones(1, b)

    for name, text, remedy in (("bias", "false", "Write False"), ("b", "true", "Give a number")):
        with pytest.raises(UsageError, match=f"argument {name} = '{text}'.*{remedy}"):
            Builder(build, arguments={name: text})
    assert Builder(build, arguments={"bias": False, "padding": "same"})().model.bias is None


def test_text_is_refused_where_a_number_or_a_list_belongs():
    seen = {}

    def build(
        b: int = 2, *, lr: float, drop=0.1, sides=(3, 4), layers=[1], act: str = "relu",  # noqa: B006
        width: float | str = 1.0, end=None,
    ):  # fmt: skip
        seen.update(lr=lr, layers=layers, act=act, width=width, end=end)
        return nn.Linear(b, b), torch.ones(1, b)

    for name in ("lr", "drop", "sides", "layers"):
        with pytest.raises(UsageError, match=f"argument {name} = 'hello'"):
            Builder(build, arguments={name: "hello"})
    given = {"lr": 1, "drop": 0, "layers": (3, 4), "act": "gelu", "width": "full", "end": "last"}
    Builder(build, arguments=given)()
    expected = {"lr": 1, "layers": [3, 4], "act": "gelu", "width": "full", "end": "last"}
    assert seen == expected


MODEL = nn.Linear(3, 3)


@pytest.mark.parametrize(
    "value",
    [
        Subject(MODEL, torch.ones(1, 3)),
        (MODEL, torch.ones(1, 3)),
        (MODEL, {"input": torch.ones(1, 3)}),
        (MODEL, torch.ones(1, 3), lambda y: y.mean()),
    ],
)
def test_ready_values_have_no_sizes(value):
    build = as_builder(value)
    assert build.sizes == {}
    assert build.name == "Linear"
    assert build.shared_model
    assert build.with_()().forward().shape == (1, 3)
    assert Builder(lambda: value)().forward().shape == (1, 3)


def test_bare_modules_bring_their_own_example_inputs():
    class Net(nn.Linear):
        example_input_array = torch.ones(1, 3)

    assert as_builder(Net(3, 3))().forward().shape == (1, 3)
    assert Builder(lambda: MODEL)().inputs == ()


def test_as_builder_keeps_builders():
    build = Builder(mlp)
    assert as_builder(build) is build


@pytest.mark.parametrize("value", [3, None, "text"])
def test_what_is_no_builder_is_refused(value):
    with pytest.raises(UsageError, match="target"):
        Builder(value)


@pytest.mark.parametrize("value", [3, None, (1, 2), (MODEL,), (MODEL, 1, 2, 3)])
def test_what_is_not_measurable_is_refused(value):
    with pytest.raises(UsageError, match="returned"):
        Builder(lambda: value)()


def test_user_errors_are_wrapped_and_ours_are_not():
    def raises():
        raise KeyError("mine")

    with pytest.raises(UserCodeError, match="KeyError"):
        Builder(raises)()

    def ours():
        raise UsageError("data", 1, "a file", "Install it.")

    with pytest.raises(UsageError, match="Install it"):
        Builder(ours)()


def test_open_signatures_take_any_size():
    def build(b: int = 2, **values):
        return MODEL, torch.ones(b, values.get("w", 3))

    assert Builder(build, sizes={"w": 3})().inputs[0].shape == (2, 3)
    assert Builder(build)(w=3).inputs[0].shape == (2, 3)


def test_lazy_modules_have_to_run_first():
    model, x = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()), torch.ones(2, 4)
    with pytest.raises(CannotMeasure, match=r"Run the model once in the builder"):
        as_builder((model, x))()
    assert isinstance(model[0], nn.LazyLinear)
    model(x)
    assert as_builder((model, x))().forward().shape == (2, 3)


def test_weights_of_inference_mode_are_refused():
    with torch.inference_mode():
        model = nn.Linear(3, 3)
    with pytest.raises(CannotMeasure, match=r"outside torch\.inference_mode"):
        as_builder((model, torch.ones(1, 3)))()
    assert as_builder((nn.Linear(3, 3), torch.ones(1, 3)))()


def test_an_exit_in_a_builder_is_the_users():
    with pytest.raises(UserCodeError, match="SystemExit: 0"):
        Builder(lambda: sys.exit(0))()
