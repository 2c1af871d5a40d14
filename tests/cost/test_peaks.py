"""The peak of a formula is what is alive in a run that nobody watches closely."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from assay import derive_cost
from assay.builder import Builder


class Alive(TorchDispatchMode):
    """Bytes of storages from when an operator first shows them until they are gone."""

    def __init__(self, before):
        super().__init__()
        self.known, self.now, self.peak = {}, 0, 0
        for tensor in before:
            self.see(tensor)

    def see(self, tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            size, address = storage.nbytes(), storage._cdata
            self.now += size
            self.peak = max(self.peak, self.now)

            def gone(_):
                self.now -= size
                del self.known[address]

            self.known[address] = weakref.ref(storage, gone)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return out


def alive(build, **sizes):
    """The peak of a run with data, without hooks of any kind."""
    subject = Builder(build)(**sizes)
    inputs = [t for t in tree_leaves(subject.inputs) if isinstance(t, torch.Tensor)]
    with Alive([*subject.model.parameters(), *inputs]) as watch:
        output = subject.forward()
        subject.objective(output).backward()
    return watch.peak


class Refined(nn.Module):
    """Starts again from what it has, without its history, but for the last few times."""

    def __init__(self, d, times, kept, act):
        super().__init__()
        self.linear, self.times, self.kept, self.act = nn.Linear(d, d), times, kept, act

    def forward(self, x):
        for i in range(self.times):
            if i < self.times - self.kept:
                x = x.detach()
            x = self.act(self.linear(x))
        return x


@pytest.mark.parametrize("act", [torch.tanh, torch.sigmoid, nn.functional.gelu])
@pytest.mark.parametrize("kept", [0, 3])
def test_what_is_detached_is_not_alive(act, kept):
    def build(b: int = 8, d: int = 4, k: int = 6):
        return Refined(d, k, kept, act), torch.randn(b, d)

    cost = derive_cost(build)
    for sizes in ({"b": 8, "d": 4, "k": 6}, {"b": 5, "d": 9, "k": 61}):
        assert cost.peak_bytes(**sizes) == pytest.approx(alive(build, **sizes), rel=0.01)


class Attention(nn.Module):
    """Attention as it is spelled out by hand; of one sequence `reshape` copies nothing."""

    def __init__(self, width, heads):
        super().__init__()
        self.all, self.heads = nn.Linear(width, 3 * width), heads

    def forward(self, x):
        b, n, d = x.shape
        parts = self.all(x).chunk(3, -1)
        q, k, v = (t.view(b, n, self.heads, -1).transpose(1, 2) for t in parts)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return mixed.transpose(1, 2).reshape(b, n, d)


@pytest.mark.parametrize("base", [{}, {"b": 1, "n": 16}])
def test_a_peak_holds_at_a_batch_of_one_or_is_not_claimed(base):
    def build(b: int = 2, n: int = 6, hd: int = 4, h: int = 2):
        return Attention(h * hd, h), torch.randn(b, n, h * hd)

    cost, answered = derive_cost(build, **base), 0
    for b, n, hd in ((1, 64, 16), (1, 16, 8), (1, 12, 4), (2, 12, 4), (3, 40, 8)):
        sizes = {"b": b, "n": n, "hd": hd, "h": 2}
        if cost.peak_bytes.holds(**sizes):
            answered += b == 1
            assert cost.peak_bytes(**sizes) == pytest.approx(alive(build, **sizes), rel=0.01)
    assert bool(answered) == bool(base)
