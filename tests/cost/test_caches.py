"""A cached function costs the same in every pass, and its own cache never sees a tensor without data."""

import functools
import gc
import weakref

import pytest
import torch
from torch import nn

from assay import derive_cost
from assay.cost.caches import fresh_caches


@functools.lru_cache(maxsize=32)
def table(n, device):
    return torch.arange(n, device=device).float().sin() * 2


def remembered(function):
    """A decorator of one's own, as transformers has: the cache is in its closure."""
    cached = functools.lru_cache(maxsize=32)(function)

    @functools.wraps(function)
    def wrapper(*args):
        return cached(*args)

    wrapper.info = cached.cache_info
    wrapper.clear = cached.cache_clear
    return wrapper


@remembered
def wave(n, device):
    return torch.ones(n, device=device).tan()


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    @staticmethod
    @functools.cache
    def scale(n, device):
        return torch.ones(n, device=device).cos()

    @functools.lru_cache(maxsize=4)  # noqa: B019 – what users write
    def shift(self, n, device):
        return torch.ones(n, device=device).exp()

    def forward(self, x):
        n, device = x.shape[1], x.device
        every = table(n, device) + self.scale(n, device) + self.shift(n, device)
        every = every + wave(n, device)
        return self.lin(x) + every[:, None]


def net(b: int = 2, n: int = 16):
    return Positions(), torch.randn(b, n, 4)


@pytest.fixture(autouse=True)
def empty():
    for cached in (table, Positions.scale, vars(Positions)["shift"]):
        cached.cache_clear()
    wave.clear()


class Plain(Positions):
    """The same without caches: the twin."""

    def forward(self, x):
        n, device = x.shape[1], x.device
        every = table.__wrapped__(n, device) + torch.ones(n, device=device).cos()
        every = every + torch.ones(n, device=device).exp() + torch.ones(n, device=device).tan()
        return self.lin(x) + every[:, None]


def test_the_cost_is_that_of_a_first_run_at_every_size():
    def plain(b: int = 2, n: int = 16):
        return Plain(), torch.randn(b, n, 4)

    cached, twin = derive_cost(net), derive_cost(plain)
    assert cached.status == twin.status == "exact"
    for quantity in ("flops", "operations", "bytes"):
        for phase in ("forward", "backward"):
            said, true = (getattr(getattr(c, quantity), phase) for c in (cached, twin))
            assert str(said) == str(true)


def test_the_users_caches_are_theirs_and_hold_nothing_without_data():
    mine = table(16, torch.device("cpu"))
    function, static = table, vars(Positions)["scale"]
    derive_cost(net)
    assert globals()["table"] is function
    assert vars(Positions)["scale"] is static
    assert table.cache_info().currsize == 1
    assert Positions.scale.cache_info().currsize == wave.info().currsize == 0
    assert table(16, torch.device("cpu")) is mine


def test_within_a_pass_it_is_computed_once_and_an_exception_brings_all_back():
    function = table

    def fails():
        with fresh_caches(Positions()):
            assert table is not function
            assert table(3, torch.device("cpu")) is table(3, torch.device("cpu"))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert table is function
    assert table.cache_info().currsize == 0


def test_points_at_which_a_model_fails_keep_nothing_of_it():
    """Their errors are kept, and the frames of an error hold a model and its activations."""
    failed: list[weakref.ref] = []
    most = [0]

    class Short(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x):
            if x.shape[0] > 6:
                failed.append(weakref.ref(self))
                raise ValueError("longer than 6")
            return x * self.weight

    def build(n: int = 4):
        gc.collect()
        most[0] = max(most[0], sum(ref() is not None for ref in failed))
        return Short(), torch.zeros(n, 3)

    cost = derive_cost(build)
    assert cost.operations.forward.holds(n=6)
    assert not cost.operations.forward.holds(n=7)
    assert len(failed) > 3
    assert most[0] <= 1  # the last one


masks = {}


class Making(dict):
    """As transformers' table of activations: it makes what is asked for."""

    def __getitem__(self, key):
        return super().__getitem__(key)()


activations = Making(relu=nn.ReLU)


class Masked(nn.Module):
    """A dictionary of the module's own is the cache."""

    def forward(self, x):
        key = x.shape[1], x.device
        if key not in masks:
            masks[key] = torch.ones(key[0], key[0], device=key[1]).tril().bool()
        x = activations["relu"](x)
        return (x @ x.transpose(1, 2)).masked_fill(~masks[key], 0.0) @ x


def test_a_dictionary_that_is_a_cache_is_as_it_was():
    masks.clear()
    mine = masks["mine"] = object()

    def build(b: int = 2, n: int = 16):
        return Masked(), torch.randn(b, n, 4, requires_grad=True)

    cost = derive_cost(build)
    assert cost.status == "exact"
    assert cost.flops.forward(b=3, n=7) == 2 * 2 * 3 * 7 * 7 * 4
    assert masks == {"mine": mine}
    assert dict.get(activations, "relu") is nn.ReLU
