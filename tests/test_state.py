import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.state import copied, preserved, preserved_gradients, preserved_random_state


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("nothing", None)

    def forward(self, x):
        return self.norm(self.layer(x))


def snapshot(model):
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "modes": [m.training for m in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [id(p.grad) for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules()],
        "random": (torch.rand(1), np.random.rand(), random.random()),
    }


def vandalise(model, parameters):
    model.eval().train()
    model.norm.eval()
    model(torch.randn(8, 3)).sum().backward()
    model.layer.register_forward_hook(lambda *args: None)
    model.layer.weight.requires_grad_(False)
    model.norm.running_mean.add_(5)
    model.norm.num_batches_tracked = torch.tensor(99)
    if parameters:
        with torch.no_grad():
            model.layer.bias.add_(1)
    torch.rand(7), np.random.rand(7), random.random()


@pytest.mark.parametrize("parameters", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_everything_comes_back_also_after_an_exception(parameters, fails):
    model = Net().train()
    model.layer.eval()
    model.layer.weight.grad = torch.ones(3, 3)
    hook_calls = []
    model.layer.register_forward_hook(lambda *args: hook_calls.append(1))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = snapshot(model)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    try:
        with preserved(model, parameters=parameters):
            assert model.layer.weight.grad is None
            vandalise(model, parameters)
            if fails:
                raise RuntimeError("the model raised")
    except RuntimeError:
        assert fails
    after = snapshot(model)
    for key in ("modes", "flags", "grads", "hooks"):
        assert before[key] == after[key], key
    assert all(torch.equal(before["state"][k], after["state"][k]) for k in before["state"])
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b))
               for a, b in zip(before["random"], after["random"], strict=True))  # fmt: skip


@settings(max_examples=20)
@given(seed=st.integers(0, 2**40))
def test_seeding_inside_changes_nothing_outside(seed):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with preserved_random_state(seed):
        first = torch.rand(2), np.random.rand(), random.random()
    with preserved_random_state(seed):
        second = torch.rand(2), np.random.rand(), random.random()
    assert torch.equal(first[0], second[0])
    assert first[1:] == second[1:]
    assert torch.equal(torch.rand(2), expected)


def test_meta_models_can_be_guarded():
    with torch.device("meta"):
        model = Net()
    with preserved(model):
        model(torch.ones(4, 3, device="meta"))


def test_gradients_of_inputs_come_back_also_after_an_exception():
    x, had = torch.ones(3, requires_grad=True), torch.tensor([1.0, 2.0, 3.0])
    x.grad = had
    made = 2 * x

    def fail():
        with preserved_gradients([x, made, torch.ones(2)]):
            assert x.grad is None
            made.sum().backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert x.grad is had
    assert had.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.filterwarnings("ignore:.*weight_norm")  # torch's advice to take the newer one
def test_tensors_that_were_computed_with_gradients_are_copied_by_value():
    class Kept(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.utils.weight_norm(nn.Linear(3, 2))
            self.seen = {}

        def forward(self, x):
            self.seen["last"] = [self.layer(x)]
            return self.seen["last"][0]

    model, x = Kept(), torch.randn(4, 3)
    model(x)
    made = copied(model)
    assert made.seen["last"][0] is not model.seen["last"][0]
    assert torch.equal(made.seen["last"][0], model.seen["last"][0])
    assert torch.equal(made(x), model(x))
    made(x).sum().backward()
    assert {n for n, p in made.named_parameters() if p.grad is not None} == {
        "layer.bias",
        "layer.weight_g",
        "layer.weight_v",
    }
    assert model.layer.weight_v.grad is None
