"""Values that code spells out are known on the meta device, and never wrongly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.cost.cost import derive_cost
from assay.cost.known import followed
from assay.cost.values import value_of

# each takes the tensors so far, two numbers that choose among them, and gives a tensor or None
STEPS = {
    "arange": lambda t, i, j: torch.arange(i + 2),
    "zeros": lambda t, i, j: torch.zeros(i + 2, dtype=torch.int64),
    "tensor": lambda t, i, j: torch.tensor([i, j, i + j]),
    "random": lambda t, i, j: torch.randint(0, 9, (i + 2,)),
    "empty": lambda t, i, j: torch.empty_like(t[i % len(t)]),
    "add": lambda t, i, j: t[i % len(t)] + j,
    "sum of two": lambda t, i, j: t[i % len(t)].sum() + t[j % len(t)],
    "cumsum": lambda t, i, j: t[i % len(t)].cumsum(0),
    "cat": lambda t, i, j: torch.cat([t[i % len(t)], t[j % len(t)]]),
    "slice": lambda t, i, j: t[i % len(t)][j % 2 :],
    "detach": lambda t, i, j: t[i % len(t)].detach(),
    "first of three": lambda t, i, j: t[i % len(t)].repeat(3).chunk(3)[j % 3],
    "of each": lambda t, i, j: torch.stack(list(t[i % len(t)].unbind(0))),
    "sorted": lambda t, i, j: t[i % len(t)].sort(descending=True)[j % 2],
    "where": lambda t, i, j: torch.where(t[i % len(t)] > j, t[i % len(t)], -1),
    "in place": lambda t, i, j: t[i % len(t)].add_(j),
    "part in place": lambda t, i, j: t[i % len(t)][:1].mul_(j),
    "set": lambda t, i, j: t[i % len(t)].__setitem__(0, j),
    "copy": lambda t, i, j: t[i % len(t)].copy_(t[i % len(t)] * 2),
    "in place by data": lambda t, i, j: t[i % len(t)].add_(t[j % len(t)].sum()),
    "known mask": lambda t, i, j: t[i % len(t)][torch.arange(len(t[i % len(t)])) >= 0],
}


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 7), st.integers(0, 7)), max_size=9
    )
)
def test_a_known_value_is_the_one_that_a_run_with_data_has(steps):
    possible = []  # of an empty tensor there is no first number, and nothing to stack

    def run(tensors):
        for number, (name, i, j) in enumerate(steps):
            if len(possible) == len(steps) and not possible[number]:
                continue
            try:
                made = STEPS[name](tensors, i, j)
            except (RuntimeError, IndexError):
                assert len(possible) == number  # what runs with data runs without
                possible.append(False)
                continue
            if len(possible) < len(steps):
                possible.append(True)
            if made is not None and all(made is not t for t in tensors):
                tensors.append(made)
        return tensors

    real = run([torch.arange(4)])
    with torch.device("meta"), followed(None, {}, set()):
        bare = run([torch.arange(4)])
    assert len(bare) == len(real)
    for x, y in zip(bare, real, strict=True):
        value = value_of(x)
        assert x.shape == y.shape
        if value is not None:
            assert torch.equal(value, y)


def test_what_was_spelled_out_is_known_and_what_was_drawn_is_not():
    with torch.device("meta"), followed(None, {}, set()):
        grid = torch.tensor([[1, 4, 6], [1, 2, 2]])
        assert grid.tolist() == [[1, 4, 6], [1, 2, 2]]
        assert [int(h * w) for _, h, w in grid] == [24, 4]
        ends = torch.repeat_interleave(grid[:, 1] * grid[:, 2], grid[:, 0]).cumsum(0)
        assert ends.tolist() == [24, 28]
        assert (torch.arange(5).diff() != 1).sum().item() == 0
        kept = torch.arange(6)[torch.arange(6) % 2 == 0]
        assert kept.shape == (3,)
        assert kept.tolist() == [0, 2, 4]
        for drawn in (torch.rand(3), torch.randint(3, (2,)), torch.empty(2), torch.randperm(3)):
            assert value_of(drawn) is None
        assert (
            value_of(torch.ones(300, 5)).sum() == 1500
        )  # a mask that hides nothing, however large
        assert value_of(nn.Parameter(torch.ones(3))) is None
        with pytest.raises(RuntimeError, match="meta"):
            torch.randint(3, (2,)).tolist()


def test_a_tensor_that_was_written_to_by_way_of_a_view_is_no_longer_known():
    with torch.device("meta"), followed(None, {}, set()):
        mask = torch.zeros(4, dtype=torch.int64)
        part, before = mask[2:], mask + 1
        mask.add_(3)
        assert mask.tolist() == [3] * 4
        assert value_of(part) is None
        part.fill_(7)
        assert value_of(mask) is None
        assert before.tolist() == [1] * 4


def test_values_hold_no_tensors():
    """A tensor of which only the values matter still counts as gone: the peak is what it was."""
    import gc
    import weakref

    with torch.device("meta"), followed(None, {}, set()):
        first = torch.arange(1000)
        last = (first * 2).cumsum(0)
        storage = weakref.ref(first.untyped_storage())
        del first
        gc.collect()
        assert storage() is None
        assert int(last[-1]) == 999 * 1000


class Tied(nn.Module):
    """A shared weight, and a buffer that numpy made."""

    def __init__(self, v: int, d: int):
        super().__init__()
        self.embedding, self.out = nn.Embedding(v, d), nn.Linear(d, v, bias=False)
        self.out.weight = self.embedding.weight
        self.register_buffer("scale", torch.from_numpy(np.ones(d, dtype=np.float32)))

    def forward(self, tokens):
        return self.out(self.embedding(tokens) * self.scale)


def tied(b: int = 2, n: int = 3, v: int = 16, d: int = 8):
    return Tied(v, d), torch.from_numpy(np.zeros((b, n), dtype=np.int64))


def test_tensors_that_numpy_made_are_moved_to_the_meta_device_and_shared_ones_stay_shared():
    cost = derive_cost(tied)
    assert cost.way == "meta"
    assert str(cost.parameters) == "d*v"
    assert cost.flops.forward(b=3, n=50, v=100, d=64) == 2 * 3 * 50 * 100 * 64


def test_a_ready_model_with_a_shared_weight_has_it_once():
    model, tokens = tied()
    cost = derive_cost((model, tokens))
    assert cost.way == "moved"
    assert cost.parameters() == 16 * 8
    assert not any(p.is_meta for p in model.parameters())
