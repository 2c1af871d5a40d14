"""Floors of two sizes at once: tokens of a batch in chunks, among experts, in blocks of a fixed length."""

import math
import pickle
import random

import pytest
import torch
import torch.nn.functional as F
from cost_twins import alive, flops, kept, wrong_answers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay import derive_cost
from assay.builder import Builder
from assay.cost.cost import cost_of
from assay.cost.elimination import independent, solve
from assay.cost.pairs import _floor
from assay.cost.polynomial import Atom, Polynomial
from assay.errors import CannotMeasure


class Experts(nn.Module):
    """Each expert takes the tokens that suit it best, up to its capacity."""

    def __init__(self, d, experts, capacity):
        super().__init__()
        self.experts, self.capacity = experts, capacity
        self.gate = nn.Linear(d, experts)
        self.up = nn.Parameter(torch.randn(experts, d, 2 * d))
        self.down = nn.Parameter(torch.randn(experts, 2 * d, d))

    def forward(self, x):
        tokens = x.flatten(0, 1)
        room = self.capacity(tokens.shape[0], self.experts)
        weight, chosen = self.gate(tokens).softmax(-1).t().topk(room, -1)
        y = torch.bmm(F.relu(torch.bmm(tokens[chosen], self.up)), self.down) * weight[..., None]
        back = torch.zeros_like(tokens).index_add(0, chosen.flatten(), y.flatten(0, 1))
        return back.view_as(x)


def experts(capacity, number=8, d=16):
    def build(b: int = 4, n: int = 32):
        return Experts(d, number, capacity), torch.randn(b, n, d)

    return build


class InChunks(nn.Module):
    """A language model whose loss is computed for so many tokens at a time."""

    def __init__(self, chunk):
        super().__init__()
        self.chunk, self.embed, self.head = chunk, nn.Embedding(40, 8), nn.Linear(8, 40)

    def forward(self, ids):
        x, y = self.embed(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()
        total = 0
        for k in range(0, x.shape[0], self.chunk):
            part = slice(k, k + self.chunk)
            total = total + F.cross_entropy(self.head(x[part]), y[part], reduction="sum")
        return total / x.shape[0]


def in_chunks(b: int = 2, n: int = 65):
    return InChunks(32), torch.randint(40, (b, n))


class InBlocks(nn.Module):
    """Attention in blocks of 48 tokens, whichever text they are from; the last block is padded."""

    def __init__(self, d):
        super().__init__()
        self.mix = nn.Linear(d, d)

    def forward(self, x):
        tokens = x.flatten(0, 1)
        blocks = F.pad(tokens, (0, 0, 0, -len(tokens) % 48)).view(-1, 48, x.shape[2])
        y = self.mix(blocks)
        return torch.bmm(torch.bmm(y, y.transpose(1, 2)).softmax(-1), y)


def in_blocks(b: int = 4, n: int = 50, d: int = 8):
    return InBlocks(d), torch.randn(b, n, d)


def agree(cost, build, sizes, seed=0, tries=25, top=90):
    """Compare flops of both passes at random sizes; how many there were that the formulas speak of."""
    draw, held = random.Random(seed), 0
    for k in range(tries):
        at = {name: draw.randint(1, (12, 40, top)[k % 3]) for name in sizes}
        try:
            said = cost.flops.forward(**at), cost.flops.backward(**at)
        except CannotMeasure:
            continue
        assert said == flops(build, **at), at
        held += 1
    return held


@pytest.mark.parametrize(
    ("capacity", "text"),
    [
        (lambda t, e: math.ceil(t * 1.25 / e), "((5*b*n + 31)//32)"),
        (lambda t, e: int(1.25 * t / e), "((5*b*n)//32)"),
        (lambda t, e: -(-t // e), "((b*n + 7)//8)"),
    ],
)
def test_capacity_of_an_expert(capacity, text):
    build = experts(capacity)
    cost = derive_cost(build)
    assert text in str(cost.flops.forward)
    assert cost.status == "exact on residues"
    assert cost.flops.forward.order == "O(b*n)"
    assert agree(cost, build, "bn") > 15


def test_a_least_capacity_takes_the_smallest_sizes_away():
    build = experts(lambda t, e: max(t // e, 4), number=4)
    cost = derive_cost(build)
    assert cost.flops.forward.pieces[0].condition.startswith("n ≥ ")
    assert agree(cost, build, "bn") > 5
    with pytest.raises(CannotMeasure):
        cost.flops.forward(b=2, n=2)


def test_a_capacity_that_floating_point_numbers_round_up_is_refused():
    # 1.1 * 660 / 6 is a little more than 121
    assert math.ceil(1.1 * 660 / 6) == 122
    assert derive_cost(experts(lambda t, e: math.ceil(1.1 * t / e), number=6)).status == "refused"


def test_the_number_of_experts_is_held_alone():
    def build(b: int = 2, n: int = 20, e: int = 8):
        return Experts(16, e, lambda t, e: -(-t // e)), torch.randn(b, n, 16)

    cost = cost_of(Builder(build))
    assert [*cost.narrowed] == ["e"]
    assert cost.narrowed["e"].startswith("at e = 8 alone")
    assert "((b*n + 7)//8)" in str(cost.flops.forward)


def test_experts_that_divide_the_tokens_have_a_law_in_their_number():
    def build(b: int = 2, n: int = 16, e: int = 8):
        return Experts(16, e, lambda t, e: -(-t // e)), torch.randn(b, n, 16)

    cost = derive_cost(build)
    assert {piece.condition for piece in cost.flops.forward.pieces} == {"n a multiple of e"}
    grid = [
        {"b": b, "n": k * e, "e": e} for b, k, e in ((2, 2, 8), (3, 5, 4), (1, 7, 6), (5, 1, 9))
    ]
    assert not wrong_answers(cost, build, grid)


def test_layers_of_experts_with_depth_as_a_size():
    class Deep(nn.Module):
        def __init__(self, depth):
            super().__init__()
            layers = (Experts(8, 4, lambda t, e: -(-2 * t // e)) for _ in range(depth))
            self.layers = nn.ModuleList(layers)

        def forward(self, x):
            for layer in self.layers:
                x = x + layer(x)
            return x

    def build(b: int = 4, n: int = 9, depth: int = 6):
        return Deep(depth), torch.randn(b, n, 8)

    cost = derive_cost(build)
    assert agree(cost, build, ("b", "n", "depth"), tries=12, top=15) == 12


def test_a_loss_in_chunks_of_tokens():
    cost = derive_cost(in_chunks)
    assert str(cost.flops.forward) == "640*b*(n - 1)"
    assert "((b*n - b + 31)//32)" in str(cost.operations.forward)
    assert agree(cost, in_chunks, "bn") > 15


def test_saved_bytes_and_peak_of_blocks_are_those_of_twins():
    cost = derive_cost(in_blocks)
    assert str(cost.flops.forward) == "96*((b*n + 47)//48)*d*(d + 96)"
    assert agree(cost, in_blocks, "bnd") > 20
    for b, n, d in ((3, 16, 8), (3, 17, 8), (5, 29, 12)):
        assert cost.saved_bytes(b=b, n=n, d=d) == kept(in_blocks, b=b, n=n, d=d)
        peak = alive(in_blocks, b=b, n=n, d=d)
        assert cost.peak_bytes(b=b, n=n, d=d) == pytest.approx(peak, rel=0.01)


@settings(max_examples=3, derandomize=True)
@given(st.integers(2, 70), st.integers(0, 90), st.integers(1, 3), st.sampled_from(("cut", "loop")))
def test_any_chunk_of_tokens_is_right_or_refused(period, offset, factor, kind):
    class Chunks(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            tokens = x.flatten(0, 1)
            number = (factor * tokens.shape[0] + offset) // period
            if kind == "cut":
                return self.linear(tokens[: number + 1])
            total = tokens.sum()
            for _ in range(number):
                total = total + self.linear(tokens[:1]).sum()
            return total

    def build(b: int = 3, n: int = 40):
        return Chunks(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    for b, n in ((1, 1), (2, 3), (3, 7), (5, 11), (2, 64), (7, 9), (13, 14), (4, 40), (31, 8)):
        try:
            said = cost.flops.forward(b=b, n=n), cost.flops.backward(b=b, n=n)
        except CannotMeasure:
            continue
        assert said == flops(build, b=b, n=n)


def test_a_floor_of_products_as_an_atom():
    chunks = Atom("", 31, 32, products=((1, ("b", "n")), (-1, ("b",))))
    law = Polynomial({((chunks, 1),): 3})
    assert law({"b": 3, "n": 50}) == 3 * -(-3 * 49 // 32)
    assert law.names == {"b", "n"}
    assert law.leading() == [{"b": 1, "n": 1}]
    assert law.has_floors
    assert not law.vanishes("n", range(2, 1000))
    assert str(law) == "3*((b*n - b + 31)//32)"
    assert law.latex() == (r"3 \, \left\lfloor \frac{b \, n - b + 31}{32} \right\rfloor")
    symbols = {str(symbol): symbol for symbol in law.sympy().free_symbols}
    assert law.sympy().subs({symbols["b"]: 3, symbols["n"]: 50}) == 15
    assert law.to_dict()[0]["powers"] == [
        {
            "products": [{"factor": 1, "sizes": ["b", "n"]}, {"factor": -1, "sizes": ["b"]}],
            "offset": 31,
            "period": 32,
            "power": 1,
        }
    ]


def test_what_is_asked_of_a_formula_with_such_a_floor():
    build = experts(lambda t, e: -(-t // e))
    cost = derive_cost(build)
    forward = cost.flops.forward
    most = forward.solve("n", below=10**9, b=4)
    assert forward(b=4, n=most) <= 10**9 < forward(b=4, n=most + 1)
    assert (forward - forward).is_zero
    assert (forward * 2)(b=3, n=7) == 2 * forward(b=3, n=7)
    assert forward.by_power("n")[1](b=3, n=7) == forward(b=3, n=7)
    again = pickle.loads(pickle.dumps(cost))
    assert again.flops.forward(b=3, n=7) == forward(b=3, n=7)
    assert again.by_operator().keys() == cost.by_operator().keys()
    shares = [share.forward(b=3, n=7) for share in again.by_operator().values()]
    assert sum(shares) == cost.operations.forward(b=3, n=7)


@given(st.integers(1, 6), st.randoms(use_true_random=False))
def test_equations_are_solved_exactly(size, draw):
    rows = [[draw.randint(-50, 50) for _ in range(size)] for _ in range(3 * size)]
    points, kept = independent([(k,) for k in range(len(rows))], lambda p: rows[p[0]], size)
    square = [[rows[p[0]][k] for k in kept] for p in points]
    wanted = [[draw.randint(-9, 9)] for _ in kept]
    sides = [[sum(a * w[0] for a, w in zip(row, wanted, strict=True))] for row in square]
    if square:
        assert solve(square, sides) == wanted


def test_pieces_of_two_lists_that_end_with_the_shorter_are_refused():
    def build(b: int = 2, n: int = 20, m: int = 24, d: int = 4):
        class Pairs(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(2 * d, d)

            def forward(self, x, y):
                pieces = zip(x.split(4, 1), y.split(6, 1), strict=False)
                return sum(
                    self.layer(torch.cat((a.mean(1), c.mean(1)), -1)).sum() for a, c in pieces
                )

        return Pairs(), (torch.randn(b, n, d), torch.randn(b, m, d))

    assert derive_cost(build).flops.forward.status == "refused"


@pytest.mark.parametrize("steep", [8, 30, 60, 200])
def test_what_doubles_in_a_loop_is_no_floor(steep):
    """Counts of many digits, as of an image whose side is doubled once for each of some layers."""
    column = {(x, y): x * 2 ** (steep * y) + y for x in range(2, 6) for y in range(2, 6)}
    assert _floor(("b", "n"), column, lambda at: at[0] * 2 ** (steep * at[1]) + at[1]) is None
