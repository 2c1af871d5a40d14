import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from assay.errors import CannotMeasure, UsageError, UserCodeError
from assay.subject import Examples, Subject, first_floating


def test_inputs_may_be_a_tensor_a_tuple_or_a_dict():
    model = nn.Linear(3, 2)
    x = torch.ones(4, 3)
    expected = model(x)
    for subject in (Subject(model, x), Subject(model, (x,)), Subject(model, {"input": x}),
                    Subject(model, kwargs={"input": x})):  # fmt: skip
        assert torch.equal(subject.forward(), expected)


@pytest.mark.parametrize("bad", [3, "net", None, lambda x: x])
def test_a_model_must_be_a_module(bad):
    with pytest.raises(UsageError, match="Module"):
        Subject(bad)


@pytest.mark.parametrize("name", ["loss", "fit"])
def test_loss_and_fit_must_be_callable(name):
    with pytest.raises(UsageError, match=name):
        Subject(nn.Linear(1, 1), **{name: 3})


@pytest.mark.parametrize("place", ["loss", "optimizer"])
def test_an_optimizer_that_is_made_already_is_told_where_it_belongs(place):
    model = nn.Linear(1, 1)
    with pytest.raises(UsageError, match=r"optimizer=lambda model: torch\.optim\.Adam\(model"):
        Subject(model, **{place: torch.optim.Adam(model.parameters())})


@dataclass
class Out:
    ids: torch.Tensor
    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class Slotted:
    ids: torch.Tensor
    logits: torch.Tensor


@dataclass
class Guarded(Out):
    """One that lets nobody look at some of its fields, as configurations of transformers do."""

    heads: int = 4

    def __getattribute__(self, name):
        if name == "heads":
            raise RuntimeError("differs from layer to layer")
        return super().__getattribute__(name)

    def __post_init__(self):
        del self.__dict__["heads"]


Pair = namedtuple("Pair", "ids logits")
IDS, LOGITS = torch.ones(2, dtype=torch.long), torch.ones(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (IDS, LOGITS),
        [IDS, [LOGITS]],
        {"ids": IDS, "logits": LOGITS},
        OrderedDict(ids=IDS, logits=LOGITS),
        Out(IDS, LOGITS),
        Slotted(IDS, LOGITS),
        Guarded(IDS, LOGITS),
        Pair(IDS, LOGITS),
    ],
)
def test_the_first_floating_tensor_is_found(output):
    assert first_floating(output) is LOGITS


def test_no_floating_output_is_said():
    with pytest.raises(CannotMeasure, match="floating-point tensor"):
        first_floating({"ids": IDS, "text": "abc"})


def test_without_a_loss_the_objective_is_the_sum():
    subject = Subject(nn.Linear(3, 2), torch.ones(4, 3))
    output = subject.forward()
    assert torch.equal(subject.objective(output), output.sum())


@pytest.mark.parametrize("loss", [lambda y: y, lambda y: 3.0, lambda y: y.argmax()])
def test_a_loss_that_is_no_scalar_is_refused(loss):
    subject = Subject(nn.Linear(3, 2), torch.ones(4, 3), loss=loss)
    with pytest.raises(CannotMeasure, match=r"loss\(output\)"):
        subject.objective(subject.forward())


def test_a_loss_of_shape_one_is_a_scalar():
    subject = Subject(nn.Linear(3, 2), torch.ones(4, 3), loss=lambda y: y.sum().reshape(1))
    assert subject.backward(subject.forward()).shape == ()


def test_a_loss_without_gradient_is_refused():
    subject = Subject(nn.Linear(3, 2), torch.ones(4, 3), loss=lambda y: y.detach().sum())
    with pytest.raises(CannotMeasure, match="without a gradient"):
        subject.backward(subject.forward())


class Raises(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise ZeroDivisionError("mine")


@pytest.mark.parametrize("where", ["forward", "loss", "backward"])
def test_user_errors_keep_their_cause(where):
    class Net(nn.Linear):
        def forward(self, x):
            if where == "forward":
                raise ZeroDivisionError("mine")
            y = super().forward(x)
            return Raises.apply(y) if where == "backward" else y

    def loss(y):
        return y.sum() if where != "loss" else 1 / 0

    subject = Subject(Net(3, 2), torch.ones(4, 3), loss=loss)
    with pytest.raises(UserCodeError, match=where) as caught:
        subject.backward(subject.forward())
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_finite_is_required_where_asked():
    model = nn.Linear(1, 1)
    Subject(model, torch.ones(1, 1)).require_finite()
    with pytest.raises(CannotMeasure, match="1 of 2 outputs are NaN or infinite"):
        Subject(model, torch.tensor([[1.0], [float("nan")]])).require_finite()


def test_examples_count_rows_and_batch_each_exactly_once():
    data = Examples(torch.arange(10.0).reshape(5, 2), torch.arange(5))
    assert len(data) == 5
    assert torch.cat([batch.targets for batch in data.batches(2)]).tolist() == [0, 1, 2, 3, 4]
    assert data[torch.tensor([3, 1])].targets.tolist() == [3, 1]


def test_default_error_rule_ignores_padding():
    targets = torch.tensor([[1, 0, -100], [1, 1, -100]])
    output = nn.functional.one_hot(torch.tensor([[1, 0, 1], [1, 0, 0]]), 2).float()
    assert Examples(torch.zeros(2, 1), targets).wrong(output).tolist() == [False, True]
    flat = Examples(torch.zeros(2, 1), torch.tensor([1, 0]))
    assert flat.wrong(torch.tensor([[0.0, 1.0], [0.0, 1.0]])).tolist() == [False, True]


def test_own_error_rule():
    data = Examples(torch.zeros(3, 1), torch.ones(3), errors=lambda out, y: (out - y).abs() > 0.5)
    assert data.wrong(torch.tensor([1.0, 0.0, 1.2])).tolist() == [False, True, False]


def test_examples_of_takes_pairs_and_functions():
    pair = (torch.zeros(3, 1), torch.zeros(3))
    assert len(Examples.of(pair)) == len(Examples.of(lambda: pair)) == 3
    assert Examples.of(data := Examples(*pair)) is data
    with pytest.raises(UsageError, match="pair of tensors"):
        Examples.of(3)
    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        Examples.of(lambda: 1 / 0)

    def missing():
        raise UsageError("data", 1, "a file", "Install it.")

    with pytest.raises(UsageError, match="Install it"):
        Examples.of(missing)


@pytest.mark.parametrize(
    ("x", "y"), [(torch.zeros(0, 1), torch.zeros(0)), (torch.zeros(3, 1), torch.zeros(2))]
)
def test_bad_examples_are_refused(x, y):
    with pytest.raises(UsageError, match="examples"):
        Examples(x, y)


def test_finiteness_is_asked_of_models_that_differentiate_in_their_forward_pass():
    class Energy(nn.Linear):
        def forward(self, x):
            x = x.detach().requires_grad_()
            (force,) = torch.autograd.grad(super().forward(x).square().sum(), x, create_graph=True)
            return force

    Subject(Energy(3, 2), torch.ones(4, 3)).require_finite()


@pytest.mark.parametrize("where", ["forward", "loss", "examples"])
def test_an_exit_in_the_users_code_is_theirs(where):
    class Net(nn.Linear):
        def forward(self, x):
            return super().forward(x) if where != "forward" else sys.exit(0)

    subject = Subject(Net(3, 2), torch.ones(4, 3), loss=lambda y: sys.exit(0))
    acts = {
        "forward": subject.forward,
        "loss": lambda: subject.objective(torch.ones(2)),
        "examples": lambda: Examples.of(lambda: sys.exit(0)),
    }
    with pytest.raises(UserCodeError, match="your code raised SystemExit: 0"):
        acts[where]()


def test_a_module_without_inputs_says_that_there_are_none():
    with pytest.raises(CannotMeasure, match=r"none for Linear.*Return \(model, inputs\)"):
        Subject(nn.Linear(3, 2)).forward()


def test_a_loss_that_is_a_number_is_told_to_stay_a_tensor():
    subject = Subject(nn.Linear(3, 2), torch.ones(4, 3), loss=lambda y: y.sum().item())
    with pytest.raises(CannotMeasure, match=r"without `.item\(\)`"):
        subject.objective(subject.forward())


def test_a_held_out_pair_will_do():
    x, y = torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)
    held = Examples(x, y, holdout=(x[:2], y[:2])).holdout
    assert isinstance(held, Examples)
    assert len(held) == 2
    with pytest.raises(UsageError, match="examples"):
        Examples(x, y, holdout=3)


def test_a_loss_that_also_wants_targets_is_told_how_to_get_them():
    with pytest.raises(UsageError, match="lambda output: criterion"):
        Subject(nn.Linear(3, 2), torch.zeros(4, 3), loss=nn.CrossEntropyLoss())


@pytest.mark.parametrize(
    "loss", [nn.MSELoss(), lambda output, targets: output.sum(), nn.functional.mse_loss]
)
def test_a_loss_that_wants_targets_is_told_to_bind_them(loss):
    with pytest.raises(UsageError, match="Bind the targets"):
        Subject(nn.Linear(2, 2), torch.ones(1, 2), loss=loss)


@pytest.mark.parametrize(
    "loss", [lambda output, weight=2: output.sum(), lambda *outputs: outputs[0].sum(), torch.sum]
)
def test_what_can_be_called_with_the_output_alone_is_a_loss(loss):
    assert Subject(nn.Linear(2, 2), torch.ones(1, 2), loss=loss).objective(torch.ones(2)) == 2


@pytest.mark.parametrize("measured", ["scale", "highway", "steps"])
def test_a_batch_without_rows_is_told_as_that(measured):
    import assay

    kinds = {
        "scale": assay.measure_scale,
        "highway": assay.find_highways,
        "steps": lambda s: assay.compare_steps({"a": torch.optim.SGD, "b": torch.optim.Adam}, s),
    }

    def subject(x):
        return Subject(nn.Linear(3, 2), x, loss=lambda y: y.square().mean())

    with pytest.raises(CannotMeasure, match=r"The batch has 0 rows: an input has shape \[0, 3\]"):
        kinds[measured](subject(torch.ones(4, 3)[:0]))
    assert kinds[measured](subject(torch.randn(1, 3))) is not None


def test_where_no_input_is_empty_and_the_output_is():
    from assay.subject import for_an_output

    model = nn.Linear(3, 2)
    assert "returns numbers" in for_an_output(Subject(model, torch.ones(4, 3)))
    assert "of shape [4, 0]" in for_an_output(Subject(model, torch.ones(4, 0)))
