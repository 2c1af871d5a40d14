"""A size that another divides: heads of a width, groups of channels, patches of an image."""

import functools
import random

import pytest
import torch
from cost_twins import answers, flops, wrong_answers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from assay import derive_cost
from assay.builder import Builder
from assay.cost.asked import largest
from assay.cost.cost import cost_of
from assay.cost.counted import Counter
from assay.cost.divides import Multiples
from assay.cost.formula import Formula
from assay.cost.multiples import along, in_sizes
from assay.cost.piece import Piece, Range
from assay.cost.polynomial import Polynomial
from assay.cost.quotient import wholes
from assay.errors import CannotMeasure


class Attention(nn.Module):
    """Queries of `heads` heads, keys and values of `groups`, with a table of rotations for each."""

    def __init__(self, width, heads, groups):
        super().__init__()
        assert width % heads == 0
        assert heads % groups == 0
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.q, self.o = nn.Linear(width, width), nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * groups * self.size)
        self.register_buffer("frequencies", torch.zeros(self.size))

    def forward(self, x):
        b, n, width = x.shape
        angles = torch.outer(torch.ones(n, device=x.device), self.frequencies).cos()
        q = self.q(x).view(b, n, self.heads, self.size).transpose(1, 2) * angles
        k, v = (
            t.view(b, n, self.groups, self.size).transpose(1, 2) for t in self.kv(x).chunk(2, -1)
        )
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k * angles, v))
        done = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.o(done.reshape(b, n, width))


class Patches(nn.Module):
    def __init__(self, image, patch):
        super().__init__()
        assert image % patch == 0
        self.embed = nn.Conv2d(3, 8, patch, patch)
        self.places = nn.Parameter(torch.zeros((image // patch) ** 2, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.layer(self.embed(x).flatten(2).transpose(1, 2) + self.places)


def heads(b: int = 2, n: int = 16, d: int = 64, h: int = 4):
    return nn.TransformerEncoderLayer(d, h, 4 * d, batch_first=True), torch.randn(b, n, d)


def grouped_queries(b: int = 2, n: int = 8, d: int = 64, h: int = 8, g: int = 2):
    return Attention(d, h, g), torch.randn(b, n, d)


def groups(b: int = 2, h: int = 8, c: int = 32, g: int = 8):
    layers = nn.Conv2d(3, c, 3), nn.GroupNorm(g, c), nn.Conv2d(c, c, 3, padding=1, groups=g)
    return nn.Sequential(*layers), torch.randn(b, 3, h, h)


def two_wholes(b: int = 4, d: int = 16, f: int = 32, h: int = 4):
    if d % h or f % h:
        raise ValueError("parts of equal widths")
    up, down = (nn.Linear(x // h, y // h) for x, y in ((d, f), (f, d)))
    return nn.Sequential(nn.Unflatten(1, (h, d // h)), up, nn.ReLU(), down), torch.randn(b, d)


def patches(b: int = 2, h: int = 32, p: int = 8):
    return Patches(h, p), torch.randn(b, 3, h, h)


derived = functools.cache(derive_cost)


def in_a_row(b: int = 4, d: int = 96, h: int = 4, g: int = 3):
    if d % (h * g):
        raise ValueError("heads of groups")
    width = d // (h * g)
    return nn.Sequential(nn.Unflatten(1, (h, g, width)), nn.Linear(width, width)), torch.randn(b, d)


def strides_in_a_row(b: int = 2, h: int = 48, p: int = 4, m: int = 2):
    return nn.Sequential(nn.Conv2d(3, 4, p, p), nn.Conv2d(4, 8, m, m)), torch.randn(b, 3, h, h)


def rounded_heads(b: int = 2, d: int = 64, h: int = 4):
    width = d // h
    layers = nn.Linear(d, h * width), nn.Unflatten(1, (h, width)), nn.Linear(width, width)
    return nn.Sequential(*layers), torch.randn(b, d)


MODELS = (
    heads,
    grouped_queries,
    groups,
    two_wholes,
    patches,
    in_a_row,
    strides_in_a_row,
    rounded_heads,
)


def drawn(build, count=30):
    """Sizes near those in use and far from them; some divide, some do not."""
    draw = random.Random(build.__name__)
    base = Builder(build).sizes
    for _ in range(count):
        factor = draw.choice((1, 2, 3, 5, 6, 12))
        sizes = {name: value * draw.choice((1, factor)) for name, value in base.items()}
        if draw.random() < 0.5:
            name = draw.choice(list(base))
            sizes[name] = draw.randint(1, 3 * base[name])
        yield sizes


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_there_is_a_law_in_both(build):
    cost = derived(build)
    base = Builder(build).sizes
    assert cost.base == base
    assert cost.flops.forward.sizes == tuple(base)
    grid = [sizes for sizes in drawn(build) if cost.flops.forward.holds(**sizes)]
    assert len(grid) > 9
    assert any(sizes[name] != base[name] for sizes in grid for name in "hgp" if name in base)
    assert not wrong_answers(cost, build, grid)
    for sizes in grid[:6]:
        made = build(**sizes)[0]
        if cost.parameters.holds(**sizes):
            assert cost.parameters(**sizes) == sum(p.numel() for p in made.parameters())


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_it_refuses_where_nothing_divides(build):
    formula = derived(build).flops.forward
    refused = [sizes for sizes in drawn(build) if not formula.holds(**sizes)]
    assert refused
    for sizes in drawn(build):
        if sizes not in refused:
            build(**sizes)  # raises where a size must divide another, and does not


def test_every_other_number_has_it_too():
    cost = derived(grouped_queries)
    (condition,) = {piece.condition for piece in cost.flops.forward.pieces}
    assert condition == "d a multiple of h, h a multiple of g"
    assert str(cost.parameters) == "2*(d*((d//h)*g + d + 1) + (d//h)*g) for " + condition
    assert "(d//h)" in str(cost.saved_bytes)  # the table of rotations
    assert cost.peak_bytes.holds(b=2, n=64, d=512, h=32, g=4)
    assert cost.flops.forward.order == "O(b*d*n**2 + b*d**2*g*n/h + b*d**2*n)"
    assert {"d": 64, "h": 8, "g": 2}.items() <= cost.checked[0].keys() | cost.base.items()
    shares = cost.breakdown("module")
    assert shares["kv"].flops.forward(b=3, n=8, d=96, h=12, g=3) == 4 * 3 * 8 * 96 * 3 * (96 // 12)


def test_sizes_that_divide_in_a_row():
    (piece,) = derived(in_a_row).flops.forward.pieces
    assert piece.condition.startswith("d a multiple of h*g")
    assert str(derived(in_a_row).parameters).startswith("(d//(h*g))*((d//(h*g)) + 1)")
    formula = derived(strides_in_a_row).flops.forward
    assert {piece.condition for piece in formula.pieces} == {"h a multiple of p*m"}
    assert formula.solve("h", below=10**6, b=1, p=4, m=3) % 12 == 0
    assert formula.solve("m", below=10**9, b=1, p=4, h=48) == 12
    assert (
        derived(in_a_row).flops.forward.to_dict()["checked"]["d"] > 10**6
    )  # and not the quotient's


def test_no_finding_says_that_parts_grow_alone():
    outgrown = [f for f in derived(heads).findings if f.rule == "cost.bytes-outgrow-operations"]
    assert derived(heads).bytes.forward.degree("h") > derived(heads).flops.forward.degree("h")
    assert not outgrown


def test_a_stride_that_is_a_size():
    def strided(b: int = 2, h: int = 32, p: int = 8):
        return nn.Conv2d(3, 4, p, p), torch.randn(b, 3, h, h)

    cost = derive_cost(strided)
    assert {p.condition for p in cost.flops.forward.pieces} == {"h a multiple of p"}
    sizes = [{"b": b, "h": h, "p": p} for b, h, p in ((1, 6, 3), (2, 224, 16), (3, 49, 7))]
    assert not wrong_answers(cost, strided, sizes)
    assert answers(cost, b=1, h=7, p=3) is None


def test_a_stride_that_is_a_size_before_a_stack():
    def stack(b: int = 2, h: int = 32, p: int = 8, d: int = 8):
        layers = [nn.Sequential(nn.Conv2d(d, d, 1), nn.Conv2d(d, d, 1)) for _ in range(6)]
        return nn.Sequential(nn.Conv2d(3, d, p, p), *layers), torch.randn(b, 3, h, h)

    cost = derive_cost(stack)
    places = ((1, 6, 3, 4), (2, 224, 16, 5), (3, 49, 7, 9))
    assert not wrong_answers(cost, stack, [dict(zip("bhpd", at, strict=True)) for at in places])


def test_a_part_of_one():
    cost = derive_cost(heads, h=1)
    grid = [{"b": 2, "n": n, "d": d, "h": h} for n, d, h in ((16, 64, 1), (5, 24, 3), (9, 64, 8))]
    assert all(cost.flops.forward.holds(**sizes) for sizes in grid)
    assert not wrong_answers(cost, heads, grid)


def test_what_has_no_law_in_multiples_either_is_held_at_its_value():
    class Odd(nn.Module):
        def __init__(self, d, h):
            super().__init__()
            assert d % h == 0
            self.times, self.layer = h.bit_count(), nn.Linear(4, d)

        def forward(self, x):
            return sum(self.layer(x) for _ in range(self.times))

    def odd(b: int = 2, d: int = 64, h: int = 4):
        return Odd(d, h), torch.randn(b, 4)

    cost = cost_of(Builder(odd))
    grid = [{"b": 3, "d": d, "h": h} for d in (8, 60, 64) for h in (2, 3, 4, 8)]
    grid = [s for s in grid if s["d"] % s["h"] == 0 and cost.flops.forward.holds(**s)]
    assert grid
    assert not wrong_answers(cost, odd, grid)


def test_the_condition_in_every_notation():
    cost = derived(groups)
    formula = cost.flops.forward
    assert formula.to_dict()["pieces"][0]["where"]["c/g"] == {"low": 1, "high": None, "step": 1}
    symbols = {s.name: s for s in formula.sympy().free_symbols}
    at = {"b": 2, "h": 9, "c": 48, "g": 6}
    assert formula.sympy().subs({symbols[n]: v for n, v in at.items()}) == formula(**at)
    (piece,) = formula.pieces
    condition = piece.sympy_condition()
    named = {s.name: s for s in condition.free_symbols}
    at = {named["h"]: 9, named["c"]: 48}
    assert [bool(condition.subs({**at, named["g"]: g})) for g in (6, 7)] == [True, False]
    assert r"\frac{c}{g}" in formula.latex()
    with pytest.raises(CannotMeasure, match="c a multiple of g"):
        formula(b=2, h=9, c=48, g=7)


quotients = st.lists(
    st.tuples(st.integers(1, 50), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    min_size=1,
    max_size=4,
)


def made(terms, low=1, step=1):
    """Σ c · d^i · h^j · (d/h)^k, where h divides d and the quotient is in a range."""
    d, h, k = (Polynomial.of(name) for name in ("d", "h", "d/h"))

    def power(base, times):
        return Polynomial.constant(1) if not times else base * power(base, times - 1)

    law = Polynomial()
    for c, *powers in terms:
        factors = [power(base, times) for base, times in zip((d, h, k), powers, strict=True)]
        law = law + factors[0] * factors[1] * factors[2] * c
    where = (("d", Range()), ("h", Range()), ("d/h", Range(low, None, step)))
    return Formula(("d", "h"), (Piece(where, law),))


@given(
    quotients, st.integers(1, 12), st.integers(1, 10**6), st.sampled_from([(1, 1), (2, 2), (3, 1)])
)
def test_the_largest_whole_is_that_of_a_search(terms, h, below, grid):
    formula = made(terms, *grid)
    fits = [d for d in range(1, 3000) if formula.holds(d=d, h=h) and formula(d=d, h=h) <= below]
    try:
        found = formula.solve("d", below=below, h=h)
    except CannotMeasure:
        assert not fits or formula.degree("d") == 0
        return
    assert formula.holds(d=found, h=h)
    assert found > 2900 or found == max(fits)


@given(
    quotients, st.integers(1, 200), st.integers(1, 10**6), st.sampled_from([(1, 1), (2, 2), (3, 1)])
)
def test_the_largest_part_is_that_of_a_search(terms, d, below, grid):
    formula = made(terms, *grid)
    fits = [h for h in range(1, d + 1) if formula.holds(d=d, h=h) and formula(d=d, h=h) <= below]
    try:
        assert formula.solve("h", below=below, d=d) == max(fits)
    except CannotMeasure:
        assert not fits


@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 7)
)
def test_products_of_a_quotient_and_a_part_are_wholes(c, n, quotient, part, offset):
    d, h, k = (Polynomial.of(name) for name in ("d", "h", "d/h"))
    floor = Polynomial.of("d/h", offset, 3)
    law = h * h * k * c + k * n + h * floor + k * h * k
    told = in_sizes(Formula.of(law, ["d/h", "h"]))
    sizes = {"d": quotient * part, "h": part}
    assert told(**sizes) == law({"d/h": quotient, "h": part})
    assert d.names == {"d"}
    assert told.sizes == ("d", "h")


def test_a_law_along_a_part_of_two_wholes():
    where = tuple((name, Range()) for name in ("d", "f", "h", "d/h", "f/h"))
    pieces = along(Piece(where, Polynomial.of("h")), "h", {"d": 12, "f": 8})
    assert [piece.condition for piece in pieces] == ["h = 1", "h = 2", "h = 4"]


def test_quotients_of_quotients():
    sizes = {"b": 2, "d/h": 4, "h/g": 3, "g": 2}
    assert wholes(sizes) == {"b": 2, "d": 24, "h": 6, "g": 2}
    build = Multiples(Multiples(Builder(grouped_queries), "d", "h"), "h", "g")
    assert build.sizes == {"b": 2, "n": 8, "d/h": 8, "h/g": 4, "g": 2}
    assert build(**{"d/h": 4, "h/g": 3}).model.heads == 6


LINES = (
    "x = x @ s.square",
    "x = (x.view(b, h, d // h) * 2).flatten(1)",
    "for _ in range(h): x = x @ s.square",
    "for _ in range(d // h): x = torch.relu(x)",
    "x = x @ s.square if d // h > {v} else x",
    "x = x @ s.square if h > {v} else x + 1",
    "x = (x.view(b * h, d // h) @ s.small).view(b, d)",
    "if (d // h) % {v} == 1: x = x @ s.square",
    "if d > {v} * h + 3: x = x @ s.square",
)


class Lines(nn.Module):
    def __init__(self, run, d, h):
        super().__init__()
        if d % h:
            raise ValueError(f"{h} heads of {d}")
        self.run, self.d, self.h = run, d, h
        self.square, self.small = (nn.Parameter(torch.randn(k, k)) for k in (d, d // h))

    def forward(self, x):
        return self.run(self, x)


@settings(max_examples=8, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=3), st.integers(2, 12))
def test_never_a_wrong_exact(lines, v):
    text = "\n".join(f"    {line.format(v=v)}" for line in lines)
    space = {"torch": torch}
    exec(f"def run(s, x):\n    b, d, h = len(x), s.d, s.h\n{text}\n    return x\n", space)

    def build(b: int = 2, d: int = 24, h: int = 4):
        return Lines(space["run"], d, h), torch.randn(b, d)

    cost = derive_cost(build)
    draw = random.Random(text)
    for _ in range(25):
        h, k = draw.randint(1, 16), draw.choice([*range(1, 30), 64, 65, 100])
        sizes = {"b": draw.randint(1, 5), "d": h * k, "h": h}
        claim = answers(cost, **sizes)
        assert claim is None or claim == flops(build, **sizes), f"{sizes}\n{text}"


def test_a_size_that_divides_a_number_of_the_model_is_told_as_that():
    def heads(b: int = 2, n: int = 6, h: int = 4):
        return nn.TransformerEncoderLayer(24, h, 48, batch_first=True), torch.randn(b, n, 24)

    cost = derive_cost(heads)
    assert cost.divisors == {"h": (1, 2)}
    assert "Only for h = 4: it has to divide something, as heads a width" in str(cost)


def test_the_last_divisor_is_said_to_be_that():
    def heads(d: int = 24, h: int = 4):
        return nn.MultiheadAttention(d, h, batch_first=True), (torch.randn(2, 6, d),) * 3

    build = Builder(heads)
    cost = derive_cost(build)
    sizes = {"d": 24, "h": 4}
    found = largest(cost, "h", "memory", 10**9, sizes, Counter(build, cost.way))
    assert found.value == 24
    assert "no larger h for which it holds divides d = 24" in found.unlimited


def test_a_size_that_is_at_most_another_is_not_told_to_divide_something():
    def chosen(b: int = 2, n: int = 6, k: int = 2):
        class Top(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(4, 4)

            def forward(self, x):
                best = self.linear(x).topk(k).values
                return F.pad(best, (0, 0, 0, int(1.25 * k * len(x) / 4)))

        return Top(), torch.randn(b * n, 4)

    cost = derive_cost(chosen)
    assert not cost.divisors
    assert "has to divide" not in str(cost)
