"""A stack is found only where its layers are really equal; cutting it is the same as building it short."""

import pytest
import torch
from cost_twins import flops
from torch import nn

from assay import derive_cost
from assay.cost.repeats import find_stacks


class Layer(nn.Module):
    def __init__(self, d=4, **attributes):
        super().__init__()
        self.lin = nn.Linear(d, d)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        for _ in range(getattr(self, "times", 1)):
            x = torch.relu(self.lin(x))
        return x


def layers(n=8, **per_layer):
    return [Layer(**{k: f(i) for k, f in per_layer.items()}) for i in range(n)]


def runs(*modules):
    return [(s.path, s.first, s.depth) for s in find_stacks(nn.Sequential(*modules))]


def test_equal_layers_in_a_row_are_a_stack():
    assert runs(*layers(8)) == [("", 0, 8)]
    assert runs(nn.Linear(4, 4), *layers(7), nn.Linear(4, 2)) == [("", 1, 7)]
    assert runs(nn.ModuleList(layers(9)), nn.Linear(4, 4)) == [("0", 0, 9)]


def test_the_longest_run_counts_and_few_layers_are_none():
    assert runs(*layers(4)) == []
    assert runs(*layers(6, times=lambda i: 2), *layers(7)) == [("", 6, 7)]


def test_a_stack_in_a_stack_is_one():
    (stack,) = find_stacks(nn.ModuleList(nn.Sequential(*layers(6)) for _ in range(6)))
    assert (stack.path, stack.depth) == ("", 6)


def test_a_number_that_counts_the_layers_may_differ():
    assert runs(*layers(8, index=lambda i: i)) == [("", 0, 8)]


UNEQUAL = {
    "a width": lambda i: Layer(4 + 2 * (i % 2)),
    "an attribute that goes to and fro": lambda i: Layer(times=1 + i % 2),
    "an attribute that counts down": lambda i: Layer(times=9 - i),
    "an attribute that is a float": lambda i: Layer(rate=i / 10),
    "a flag": lambda i: Layer(flag=bool(i % 2)),
    "text": lambda i: Layer(kind="ab"[i % 2]),
    "an attribute that some have": lambda i: Layer(**{f"only_{i}": 1}),
    "the class": lambda i: Layer() if i % 2 else nn.Linear(4, 4),
    "the mode": lambda i: Layer().train(bool(i % 2)),
    "what is frozen": lambda i: Layer().requires_grad_(bool(i % 2)),
    "a bias": lambda i: nn.Linear(4, 4, bias=bool(i % 2)),
    "a type": lambda i: nn.Linear(4, 4, dtype=[torch.float32, torch.float64][i % 2]),
    "a function": lambda i: Layer(act=[torch.relu, torch.tanh][i % 2]),
    "a list": lambda i: Layer(widths=[i % 2]),
    "a dictionary": lambda i: Layer(config={"times": i % 2}),
    "a list that grows": lambda i: Layer(widths=[1] * i),
    "a set": lambda i: Layer(on={i % 2}),
}


@pytest.mark.parametrize("difference", UNEQUAL)
def test_layers_are_no_stack_when_they_differ_in(difference):
    assert runs(*(UNEQUAL[difference](i) for i in range(8))) == []


def test_tied_layers_are_no_stack():
    one = Layer()
    assert runs(*[one] * 8) == []
    tied = layers(8)
    for layer in tied[1:]:
        layer.lin.weight = tied[0].lin.weight
    assert runs(*tied) == []


def test_every_second_layer_tied_is_no_stack():
    tied = layers(8)
    for i in range(2, 8):
        tied[i].lin.weight = tied[i - 2].lin.weight
    cost = derive_cost(lambda b=2: (nn.Sequential(*tied), torch.randn(b, 4)))
    assert cost.parameters(b=3) == 2 * 16 + 8 * 4


def test_a_cut_stack_is_what_is_built_short():
    model = nn.Sequential(nn.Linear(4, 4), *layers(8), nn.Linear(4, 2))
    (stack,) = find_stacks(model)
    stack.cut(model, 3)
    assert [type(m).__name__ for m in model] == ["Linear", "Layer", "Layer", "Layer", "Linear"]
    assert model(torch.randn(2, 4)).shape == (2, 2)


class Indexed(nn.Module):
    """Layers that ask which they are, and a model that asks how many there are."""

    def __init__(self, n, rule):
        super().__init__()
        self.layers = nn.ModuleList(layers(n, index=lambda i: i))
        self.rule = rule

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            for _ in range(self.rule(layer.index, i, len(self.layers))):
                x = layer(x)
        return x


RULES = {
    "all alike": lambda index, i, n: 1,
    "every second": lambda index, i, n: 1 + index % 2,
    "every seventh": lambda index, i, n: 1 + (index % 7 == 0),
    "the last": lambda index, i, n: 1 + (i == n - 1),
    "the tenth": lambda index, i, n: 1 + (index == 9),
    "late ones": lambda index, i, n: 1 + (i >= 5),
    "as many as before": lambda index, i, n: 1 + index,
    "of twelve": lambda index, i, n: 1 + (n == 12),
    "the middle": lambda index, i, n: 1 + (i == n // 2),
}


@pytest.mark.parametrize("rule", RULES)
def test_layers_that_behave_by_their_number_are_counted_right(rule):
    def build(b: int = 2):
        return Indexed(12, RULES[rule]), torch.randn(b, 4)

    cost = derive_cost(build)
    assert cost.status != "refused"
    for b in (2, 3, 40):
        assert (cost.flops.forward(b=b), cost.flops.backward(b=b)) == flops(build, b=b)


def test_modules_of_a_stack_are_named_together():
    def build(b: int = 2):
        return nn.Sequential(nn.Linear(4, 4), *layers(8)), torch.randn(b, 4)

    found = derive_cost(build).by_module()
    assert set(found) == {"0", "*.lin"}
    assert str(found["*.lin"].forward) == "256*b"


class Numbered(nn.Module):
    """Layers that are attributes: `fc0`, `fc1`, …"""

    def __init__(self, depth):
        super().__init__()
        self.depth = depth
        for k in range(depth):
            setattr(self, f"fc{k}", nn.Linear(6, 6))

    def forward(self, x):
        for k in range(self.depth):
            x = getattr(self, f"fc{k}")(x)
        return x


class Tasks(nn.Module):
    """A head for each task, each with one class more than the one before."""

    def __init__(self, tasks):
        super().__init__()
        heads = {f"task{k}_head": nn.Linear(6, k + 1) for k in range(tasks)}
        self.heads = nn.ModuleDict(heads)

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads.values()], -1)


@pytest.mark.parametrize(
    ("module", "law", "name"),
    [
        (Numbered, "72*b*depth", "fc*"),
        (Tasks, "6*b*depth*(depth + 1)", "heads.task*_head"),
    ],
)
def test_layers_whose_names_end_in_a_number(module, law, name):
    def build(b: int = 4, depth: int = 3):
        return module(depth), torch.randn(b, 6)

    cost = derive_cost(build)
    assert str(cost.flops.forward) == law
    assert [*cost.modules] == [name]
    assert cost.parameters(depth=5) == sum(p.numel() for p in module(5).parameters())
