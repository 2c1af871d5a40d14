"""Integers that a model's code compares with are found wherever Python lets one put them."""

import functools

import pytest
import torch
from torch import nn

from assay.cost import hints
from assay.cost.code import user_code
from assay.cost.hints import periods, thresholds

LIMIT = 211


def constants(roots, model):
    return hints.constants(user_code(roots, model), model)


class Runs(nn.Module):
    """A module that runs a function, and holds what it is given."""

    def __init__(self, function=None, **attributes):
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(x)


def generated(source):
    space = {}
    exec(compile(source, "<string>", "exec"), space)
    return space["f"]


def closure(value):
    return lambda x: x if len(x) > value else -x


def helper(x):
    return len(x) > 223


class Settings:
    limit = 227

    def over(self, x):
        return len(x) > self.limit


class Method:
    def f(self, x):
        return len(x) > 229


class Called:
    def __call__(self, x):
        return len(x) > 421


def keyword_only(x, *, most=419):
    return len(x) > most


def decorated(f):
    @functools.wraps(f)
    def inner(x):
        return f(x)

    return inner


@decorated
def behind_a_decorator(x):
    return len(x) > 233


FUNCTIONS = {
    "a comparison": (lambda x: len(x) > 131, 131),
    "a chained comparison": (lambda x: 2 < len(x) <= 137, 137),
    "a remainder": (lambda x: len(x) % 139, 139),
    "a division": (lambda x: len(x) // 149, 149),
    "a ceiling": (lambda x: -(-len(x) // 151), 151),
    "an addition": (lambda x: (len(x) + 157) // 2, 157),
    "a membership": (lambda x: len(x) in (163, 167), 167),
    "the bound of a range": (lambda x: [x for _ in range(173)], 173),
    "the step of a range": (lambda x: [x for i in range(0, len(x), 179)], 179),
    "a minimum": (lambda x: x[: min(len(x), 181)], 181),
    "a minimum of a shape": (lambda x: x[: min(x.shape[0], 181)], 181),
    "a slice": (lambda x: x[:, 3:383], 383),
    "a simple slice": (lambda x: x[:389], 389),
    "a set": (lambda x: len(x) in {397, 401}, 401),
    "a chunk": (lambda x: [y * 2 for y in x.split(409, 1)], 409),
    "a keyword-only default": (keyword_only, 419),
    "a callable object": (Called(), 421),
    "a default": (lambda x, most=191: len(x) > most, 191),
    "a closure": (closure(193), 193),
    "a module's global": (lambda x: len(x) > LIMIT, 211),
    "another function": (lambda x: helper(x), 223),
    "a class": (lambda x: Settings().over(x), 227),
    "a bound method": (Method().f, 229),
    "behind a decorator": (behind_a_decorator, 233),
    "a nested function": (lambda x: [y for y in x if len(x) > 239], 239),
    "a partial": (functools.partial(lambda most, x: len(x) > most, 241), 241),
    "a partial's keyword": (functools.partial(lambda x, most: len(x) > most, most=251), 251),
    "generated code": (generated("def f(x):\n    return len(x) > 257"), 257),
}


@pytest.mark.parametrize("where", FUNCTIONS)
def test_an_integer_is_found_in(where):
    function, value = FUNCTIONS[where]
    assert value in constants((function,), nn.Linear(2, 2))
    assert value in constants((), Runs(function))


def test_code_of_torch_and_of_python_is_not_looked_at():
    inside = constants((), nn.TransformerEncoderLayer(4, 2))
    assert not {n for n in inside if n > 8}
    assert constants((torch.optim.Adam, functools.lru_cache), nn.Linear(2, 2)) == set()


def test_attributes_of_the_users_modules_are_thresholds_and_torchs_are_not():
    model = nn.Sequential(Runs(longest=101, name="x", on=True), nn.Linear(307, 311))
    found = thresholds(set(), model.modules(), 6)
    assert {101, 102} <= set(found)
    assert not {307, 311} & set(found)


def test_what_counts_the_layers_is_no_threshold():
    model = nn.Sequential(*(Runs(index=i, longest=101) for i in range(20, 40)))
    assert set(thresholds(set(), model.modules(), 6)) == {101, 102}


def test_thresholds_are_told_with_their_neighbours_and_only_above():
    assert thresholds({5, 50}, (), 6) == [50, 51]
    assert thresholds({1 << 20}, (), 6) == []


def test_periods_come_from_code_from_modules_and_from_the_base():
    model = nn.Sequential(nn.Conv1d(3, 3, 7, stride=5), Runs(window=23))
    found = periods({29}, model, 26)
    assert {29, 7, 5, 23, 13, 26} <= set(found)
    assert found == sorted(found)
    assert all(2 <= p <= 64 for p in found)


def test_what_leads_nowhere_is_no_trouble():
    def outer():
        def f(x):
            return late(x)

        if f is None:
            late = 3
        return f

    assert constants((outer(), len, functools.partial, 3.5), nn.Linear(2, 2)) == set()
