"""Which values of a size a model runs at: multiples, least and greatest."""

import pytest
import torch
from cost_twins import wrong_answers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from assay import derive_cost
from assay.builder import as_builder
from assay.cost.cost import cost_of
from assay.cost.reach import reach
from assay.errors import CannotMeasure


def runs_from(least, step=1, greatest=10**9):
    return lambda x: least <= x <= greatest and x % step == 0


@given(st.integers(1, 40), st.sampled_from([1, 2, 3, 4, 8, 12]), st.integers(0, 30))
def test_a_range_holds_only_values_that_run(least, step, further):
    runs = runs_from(least, step)
    value = (-(-least // step) + further) * step
    found = reach(value, runs)
    assert value in found or value == 1
    assert found.high is None
    assert found.step == step
    assert all(runs(found.low + step * k) for k in range(50))
    assert found.low == max(-(-least // step) * step, 2 if step == 1 else step)


@given(st.integers(2, 10), st.integers(0, 40))
def test_a_range_that_ends_is_found_from_near_its_end(least, length):
    runs = runs_from(least, 1, least + length)
    for value in {least, least + length // 2, least + length}:
        found = reach(value, runs)
        assert value in found
        if found.high is not None:
            assert all(runs(x) for x in range(found.low, found.high + 1, found.step))


def test_where_nothing_else_runs_it_is_one_value():
    assert reach(17, lambda x: x == 17).high == 17
    assert 17 in reach(17, lambda x: x == 17)
    assert 18 not in reach(17, lambda x: x == 17)


def test_a_width_moves_in_heads():
    def build(n: int = 6, d: int = 32):
        return nn.MultiheadAttention(d, 8, batch_first=True), (torch.randn(2, n, d),) * 3

    cost = derive_cost(build)
    forward = cost.flops.forward
    assert "d a multiple of 8" in forward.pieces[0].condition
    assert forward(n=5, d=64) == 2 * 2 * 5 * (4 * 64 * 64 + 2 * 64 * 5)
    with pytest.raises(CannotMeasure, match="a multiple of 8"):
        forward(n=5, d=60)


def test_a_greatest_length_is_where_the_formula_ends():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.at, self.lin = nn.Embedding(48, 4), nn.Linear(4, 4)

        def forward(self, x):
            if x.shape[1] > self.at.num_embeddings:
                raise ValueError("too long")
            return self.lin(x + self.at(torch.arange(x.shape[1], device=x.device)))

    def build(b: int = 2, n: int = 8):
        return Positions(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    forward = cost.flops.forward
    assert forward(b=2, n=48) == 2 * 2 * 48 * 16
    with pytest.raises(CannotMeasure, match="n ≤ 48"):
        forward(b=2, n=49)
    assert cost.stops == {"n": 49}
    notes = " ".join(cost.view().notes)
    assert "The model does not run at n=49." in notes
    assert "For more" not in notes


def test_an_image_that_must_be_large_has_a_least_size():
    def build(h: int = 64):
        layers = (nn.Conv2d(3, 4, 5), nn.MaxPool2d(4), nn.Conv2d(4, 4, 5))
        return nn.Sequential(*layers), torch.randn(1, 3, h, h)

    forward = derive_cost(build).flops.forward
    assert forward(h=24) > 0
    with pytest.raises(CannotMeasure):
        forward(h=23)


class Stages(nn.Module):
    """Runs where stages fit each other: just below multiples of 32, and at a few sizes by chance."""

    def __init__(self, odd):
        super().__init__()
        self.weight, self.odd = nn.Parameter(torch.ones(3)), odd

    def forward(self, x):
        n = x.shape[0]
        if n % 32 not in (29, 30, 31, 0) and n not in self.odd:
            raise ValueError("the sizes of the stages do not match")
        return x * self.weight


@pytest.mark.parametrize("odd", [(), (2, 3, 4), (2, 3, 5)])
def test_the_sizes_in_use_are_not_lost_for_a_few_small_ones_that_run_by_chance(odd):
    def build(b: int = 2, n: int = 64):
        return Stages(odd), torch.zeros(n, b, 3)

    cost = derive_cost(build)
    if cost.status == "refused":
        assert cost.blamed == "n"
        cost = cost_of(as_builder(build))
    assert cost.operations.forward(b=5, n=64) == 2 * 5 * 64 * 3
    assert cost.operations.forward(b=5, n=96 + 32) == 2 * 5 * 128 * 3


def of_a_kernel(b: int = 2, n: int = 24, k: int = 4):
    model = nn.Sequential(nn.Conv1d(3, 8, k), nn.ReLU(), nn.Conv1d(8, 8, 3))
    return model, torch.randn(b, 3, n)


class Best(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k, self.inner, self.outer = k, nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        inner = self.inner(x)
        best = inner.sum(-1).topk(self.k, 1).indices
        return self.outer(torch.gather(inner, 1, best[..., None].expand(-1, -1, 8)))


def of_the_best(b: int = 2, n: int = 24, k: int = 4):
    return Best(k), torch.randn(b, n, 8)


def of_few_experts(n: int = 12, e: int = 8, k: int = 2):
    def chosen(x):
        return x.topk(k, -1).values @ torch.ones(k, 3, device=x.device)

    return nn.Sequential(nn.Linear(4, e), Function(chosen)), torch.randn(n, 4)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("build", "limit", "room"),
    [(of_a_kernel, "n", 22), (of_the_best, "n", 24), (of_few_experts, "e", 8)],
)
def test_a_size_that_is_at_most_another_has_room_beside_that_in_use(build, limit, room):
    cost = derive_cost(build)
    base = dict(cost.base)
    assert cost.flops.forward.holds(**base)
    assert cost.flops.forward.holds(**{**base, "k": room})
    assert not cost.flops.forward.holds(**{**base, "k": room + 1})
    grid = [{**base, "k": k, limit: base[limit] + more} for k in (2, 3, 6, room) for more in (0, 9)]
    assert all(cost.flops.forward.holds(**sizes) for sizes in grid)
    assert not wrong_answers(cost, build, grid)
