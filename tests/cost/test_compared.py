"""A branch is found on both sides, wherever the number comes from that a size is compared with."""

import math
import os
from collections import deque
from math import log2
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from assay.cost.compared import comparisons
from assay.cost.cost import derive_cost
from assay.cost.tracked import Size
from assay.cost.turns import _again

CONFIG = {"window": 384, "long": 25_000}
TABLE = {384: "short", 512: "short"}


class Base(nn.Module):
    """Attention over everything, or none of it: as `short` says."""

    window = 384

    def __init__(self, d, **attributes):
        super().__init__()
        self.layer = nn.Linear(d, d)
        vars(self).update(attributes)

    def short(self, n):
        raise NotImplementedError

    def forward(self, x):
        x = self.layer(x)
        return x if self.short(x.shape[1]) else (x @ x.transpose(1, 2)).softmax(-1) @ x


class Inherited(Base):
    def short(self, n):
        return n == self.window


class Child(Inherited):
    pass


class Property(Base):
    @property
    def limit(self):
        return 384

    def short(self, n):
        return n == self.limit


class Class(Base):
    @classmethod
    def limit(cls):
        return 384

    def short(self, n):
        return self.limit() <= n < 600


class Branching(Base):
    def __init__(self, d, test, **attributes):
        super().__init__(d, **attributes)
        self.short = test


def special(n, limit):
    return n == limit


def local(n):
    limit = 384
    other = limit + 1
    return n in (limit, other)


class Deep(nn.Module):
    """Leaves early, over a stack of equal layers, where the sequence is long."""

    def __init__(self, d, depth, config):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(d, d) for _ in range(depth))
        self.config = config

    def forward(self, x):
        for k, layer in enumerate(self.layers):
            if k >= 5 and x.shape[1] > self.config["long"]:
                break
            x = layer(x)
        return x


class Cached(nn.Module):
    """A loop that keeps the last `limit` keys."""

    def __init__(self, d):
        super().__init__()
        self.layer = nn.Linear(d, d)

    def limit(self):
        return 300

    def forward(self, x, steps):
        keys = None
        for _ in range(steps):
            new = self.layer(x)
            keys = new if keys is None else torch.cat([keys, new], 1)
            keys = keys[:, -self.limit() :]
            x = (x @ keys.transpose(1, 2)).softmax(-1) @ keys
        return x


elsewhere = SimpleNamespace(LENGTHS=frozenset({384, 400 + 112}), LIMIT=torch.tensor([384, 512]))
PAIRS = {(2, 384): True}
nested = SimpleNamespace(text=SimpleNamespace(positions=384))
TESTS = {
    "module dictionary": lambda n: n == CONFIG["window"],
    "large": lambda n: n > CONFIG["long"],
    "beyond 16 bits": lambda n: n > 100_000,
    "square": lambda n: 90_000 <= n * n <= 250_000,
    "quotient": lambda n: 0.375 <= n / 1024 < 0.5,
    "rounded up": lambda n: math.ceil(n / 64) == 6,
    "numpy": lambda n: n == np.int64(384),
    "environment": lambda n: n == int(os.environ.get("ASSAY_TEST_WINDOW", "384")),
    "truth": lambda n: not n // 7 // 55,
    "keys": lambda n: n in TABLE,
    "value of a key": lambda n: {384: True, 512: True}.get(n, False),
    "one key": lambda n: {384: True}.get(n, False),
    "another module": lambda n: n in elsewhere.LENGTHS,
    "in a pair": lambda n: (2, n) in PAIRS,
    "tensor": lambda n: bool((torch.tensor([384, 512], device="cpu") == n).any()),
    "tensor made before": lambda n: bool((n == elsewhere.LIMIT).any()),
    "local": local,
    "argument": lambda n: special(n, 384),
    "nested": lambda n: n == nested.text.positions,
    "product": lambda n: n == 96 * 4,
    "root": lambda n: n**0.5 > 20,
    "least": lambda n: min(n, 500) == 500,
}
LENGTHS = (5, 300, 320, 383, 384, 385, 401, 500, 501, 512, 600, 768, 1000, 25_000, 25_001, 100_001)


def counted(build, **sizes):
    with torch.device("meta"):
        model, inputs = build(**sizes)
        inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        with FlopCounterMode(display=False) as counter:
            model(*inputs)
    return counter.get_total_flops()


def held(build, cost, **others):
    """A formula is right wherever it holds; where it is refused it holds nowhere."""
    asked = 0
    for n in LENGTHS:
        if cost.flops.forward.holds(n=n, **others):
            assert cost.flops.forward(n=n, **others) == counted(build, n=n, **others)
            asked += 1
    return asked


@pytest.mark.parametrize("name", TESTS)
def test_wherever_the_number_comes_from(name):
    def build(b: int = 2, n: int = 8, d: int = 4):
        return Branching(d, TESTS[name]), torch.randn(b, n, d)

    cost = derive_cost(build)
    assert cost.status == "piecewise"
    # a root may turn again where nobody looked
    beyond = 3 if name == "root" else 0
    assert held(build, cost, b=3, d=6) == len(LENGTHS) - beyond


@pytest.mark.parametrize("kind", [Inherited, Child, Property, Class])
def test_in_methods_of_any_kind(kind):
    def build(b: int = 2, n: int = 8, d: int = 4):
        return kind(d), torch.randn(b, n, d)

    cost = derive_cost(build)
    assert cost.status == "piecewise"
    assert held(build, cost, b=3, d=6) == len(LENGTHS)


def test_multiples_of_a_number_are_looked_at_too():
    def build(b: int = 2, n: int = 8, d: int = 4):
        return Branching(d, lambda n: n % CONFIG["window"] == 0), torch.randn(b, n, d)

    held(build, derive_cost(build), b=2, d=4)


def test_in_the_builder_and_in_the_loss():
    def build(b: int = 2, n: int = 8, d: int = 4):
        limit = 384
        layers = [nn.Linear(d, d) for _ in range(2 if n == limit else 1)]
        return nn.Sequential(*layers), torch.randn(b, n, d)

    cost = derive_cost(build)
    assert held(build, cost, b=3, d=6) == len(LENGTHS)
    assert cost.parameters(b=2, n=384, d=4) == 2 * cost.parameters(b=2, n=385, d=4) == 40


def test_in_layers_that_are_cut_away():
    def build(b: int = 2, n: int = 8, d: int = 4):
        return Deep(d, 12, {"long": 700}), torch.randn(b, n, d)

    assert held(build, derive_cost(build), b=3, d=6) == len(LENGTHS)


def test_in_a_loop_and_by_a_slice():
    def build(b: int = 2, m: int = 8, d: int = 4):
        return Cached(d), (torch.randn(b, 1, d), m)

    forward = derive_cost(build).flops.forward
    for m in (9, 300, 301, 333):
        if forward.holds(b=2, m=m, d=4):
            assert forward(b=2, m=m, d=4) == counted(build, b=2, m=m, d=4)


@pytest.mark.parametrize(
    "test",
    [
        lambda n, m: n == 1 and m > 256,
        lambda n, m: n < 16 and m > 2048,
        lambda n, m: n - m > 2048,
        lambda n, m: n // m >= 1024,
        lambda n, m: n > 600 * m,
        lambda n, m: n * m > 4000,
    ],
)
def test_of_two_sizes(test):
    class Two(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.layer = nn.Linear(d, d)

        def forward(self, x, y):
            x = self.layer(x)
            if test(x.shape[1], y.shape[1]):
                return x @ (x.transpose(1, 2) @ x)
            return (x @ y.transpose(1, 2)).softmax(-1) @ y

    def build(b: int = 2, n: int = 8, m: int = 6, d: int = 4):
        return Two(d), (torch.randn(b, n, d), torch.randn(b, m, d))

    forward = derive_cost(build).flops.forward
    for n, m in [(1, 6), (1, 257), (1, 5000), (8, 2049), (15, 5000), (16, 5000), (2054, 6), (2055, 6),
                 (6144, 6), (6143, 6), (1201, 2), (60, 70), (70, 60), (3000, 900)]:  # fmt: skip
        if forward.holds(b=2, n=n, m=m, d=4):
            assert forward(b=2, n=n, m=m, d=4) == counted(build, b=2, n=n, m=m, d=4)


def test_a_size_is_an_integer_like_any_other():
    with comparisons() as noted:
        n = Size(10)
        assert (n + 1, 2 * n, n // 3, n % 4, -n, n - 3, 7 - n, 2**n) == (
            11,
            20,
            3,
            2,
            -10,
            7,
            -3,
            1024,
        )
        assert (n / 4, divmod(n, 3), math.ceil(n / 4), round(n / 4), int(n / 4)) == (
            2.5,
            (3, 1),
            3,
            2,
            2,
        )
        assert f"{n} {n:>3}" == "10  10"
        assert hash(n) == hash(10)
        assert [0] * n == [0] * 10
        assert torch.zeros(n, n).view(n * n).shape == (100,)
        assert nn.Linear(n, n).weight.shape == (10, 10)
        noted.clear()
        assert not n > 384
    assert set(noted.values()) == {-374.0}


def test_a_model_that_cannot_do_with_such_integers_is_derived_without():
    class Strict(nn.Module):
        def __init__(self, d):
            super().__init__()
            if type(d) is not int:
                raise TypeError("an integer")
            self.layer = nn.Linear(d, d)

        def forward(self, x):
            return self.layer(x) if type(x.shape[0]) is int else x

    def build(b: int = 2, d: int = 4):
        return Strict(d), torch.randn(b, d)

    assert str(derive_cost(build).flops.forward) == "2*b*d**2"


def test_a_model_that_takes_another_path_for_them_is_derived_without():
    class Sly(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.layer = nn.Linear(d, d)

        def forward(self, x):
            return self.layer(x) if type(x.shape[0]) is int else x

    def build(b: int = 2, d: int = 4):
        return Sly(d), torch.randn(b, d)

    assert str(derive_cost(build).flops.forward) == "2*b*d**2"


def log(n):
    return int(math.log2(n)) > 15


def root(n):
    return math.isqrt(n) > 300


def bits(n):
    return n.bit_length() > 16


@pytest.mark.parametrize("test", [log, root, bits])
def test_a_logarithm_or_a_root_turns_where_nobody_looked(test):
    def build(b: int = 2, n: int = 8, d: int = 4):
        return Branching(d, test), torch.randn(b, n, d)

    cost = derive_cost(build)
    (span,) = (span for name, span in cost.flops.forward.pieces[0].where if name == "n")
    assert 10_000 < span.high < 65_536
    assert held(build, cost, b=3, d=6) > 8
    assert not cost.flops.forward.holds(b=3, n=100_001, d=6)


def test_a_kernel_that_grows_with_the_logarithm_of_the_channels():
    def attention(c: int = 32):
        k = int((math.log2(c) + 1) / 2) | 1  # as in ECA-Net
        return nn.Conv1d(1, 1, k, padding=k // 2, bias=False), torch.randn(2, 1, c)

    cost = derive_cost(attention)
    assert cost.flops.forward(c=2048) == 2 * 2 * 2048 * 7
    assert not cost.flops.forward.holds(c=32_768)  # where it has nine


def test_the_root_of_a_square_is_no_end():
    class Grid(nn.Module):
        def forward(self, x):
            side = int(math.sqrt(x.shape[1]))
            return x.view(x.shape[0], side, side, -1).mean(2)

    def build(b: int = 2, h: int = 8):
        return nn.Sequential(nn.Linear(4, 4), Grid()), torch.randn(b, h * h, 4)

    formula = derive_cost(build).flops.forward
    assert formula.pieces[0].condition == ""
    assert formula(b=1, h=10**6) == 2 * 16 * 10**12


def test_a_logarithm_that_was_imported_by_name():
    def build(b: int = 2, n: int = 8, d: int = 4):
        return Branching(d, lambda n: int(log2(n)) > 15), torch.randn(b, n, d)

    assert not derive_cost(build).flops.forward.holds(b=3, n=100_001, d=6)
    assert log2 is math.log2  # it is itself again


class Tuned(nn.Module):
    TABLE: ClassVar = {640: 3, 1280: 2}


class Looking(Tuned):
    """Finds its table in a class that it inherits from."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        for _ in range(self.TABLE.get(x.shape[1], 1)):
            x = self.layer(x)
        return x


def test_a_table_in_a_class_is_one_that_sizes_are_looked_up_in():
    def build(b: int = 2, n: int = 16):
        return Looking(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    for n, times in ((16, 1), (639, 1), (640, 3), (641, 1), (1280, 2), (5000, 1)):
        assert cost.flops.forward(b=3, n=n) == 3 * n * 32 * times


def test_the_formula_of_a_loop_ends_where_a_queue_may_be_full():
    class Context(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.most = nn.GRUCell(4, 4), 300

        def forward(self, x):
            h, past = x[:, 0], deque(maxlen=self.most)
            for step in x.unbind(1):
                past.append(self.cell(step, h))
                h = torch.stack(tuple(past)).mean(0)
            return h

    def build(b: int = 2, n: int = 16):
        return Context(), torch.randn(b, n, 4)

    for formula in derive_cost(build).formulas().values():
        assert not formula.holds(b=2, n=301)


def test_what_layers_compare_alike_is_one_comparison():
    place = (test_what_layers_compare_alike_is_one_comparison.__code__, 0)
    other = (place[0], 2)
    first = {(*place, 0): 5, (*place, 1): 7, (*place, 2): 5, (*place, 3): 7, (*other, 0): 5}
    assert _again([first]) == {(*place, 2), (*place, 3)}
    # what was the same by chance is not where it was run at other sizes
    second = {(*place, 0): 6, (*place, 1): 9, (*place, 2): 8, (*place, 3): 9, (*place, "last"): 9}
    assert _again([first, second]) == {(*place, 3)}
    # more layers, in one run alone
    assert _again([first, second, {**second, (*place, 4): 6}]) == {(*place, 3), (*place, 4)}
