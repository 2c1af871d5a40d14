"""Where no formula holds, one pass is counted: numbers at sizes, and the largest that fits."""

import json
from dataclasses import replace

import pytest
import torch
from cost_twins import flops
from torch import nn

from assay.builder import Builder
from assay.cli import main
from assay.cost.asked import largest, numbers
from assay.cost.cost import cost_of, derive_cost
from assay.cost.counted import Counter
from assay.cost.piece import Range
from assay.errors import CannotMeasure


class Bits(nn.Module):
    """As many products as there are ones in the side: no law of it."""

    def __init__(self, side, d):
        super().__init__()
        self.side, self.layer = side, nn.Linear(d, d)

    def forward(self, x):
        for _ in range(self.side.bit_count()):
            x = self.layer(x)
        return x


def bits(b: int = 2, h: int = 12, d: int = 4):
    return Bits(h, d), torch.randn(b, h, d)


def plain(b: int = 2, n: int = 8, d: int = 4):
    return nn.Sequential(nn.Linear(d, 3 * d), nn.ReLU(), nn.Linear(3 * d, d)), torch.randn(b, n, d)


def counter(build, way="meta"):
    return Counter(Builder(build), way)


def test_counts_are_what_the_formulas_say_where_these_hold():
    cost, one_pass = derive_cost(plain), counter(plain)
    for sizes in ({"b": 2, "n": 8, "d": 4}, {"b": 3, "n": 50, "d": 7}, {"b": 1, "n": 1, "d": 1}):
        counts = one_pass.numbers(sizes)
        for name, formula in cost.formulas().items():
            assert counts[name] == formula(**sizes), (name, sizes)
        memory = cost.peak_bytes(**sizes) + cost.optimizer_bytes["Adam, AdamW"](**sizes)
        assert one_pass.memory(sizes) == memory


@pytest.mark.parametrize("h", [1, 13, 255])
def test_numbers_without_a_formula_are_counted(h):
    cost = cost_of(Builder(bits))
    found = numbers(cost, {"b": 5, "d": 3, "h": h}, counter(bits))
    forward, backward = flops(bits, b=5, d=3, h=h)
    assert found.values["flops, forward"] == forward
    assert found.values["flops, backward"] == backward
    assert set(found.counted) == set(found.values)
    text = "".join(str(block) for block in found.blocks())
    assert f"{forward:,}*" in text


def test_only_what_has_no_formula_is_counted():
    class Chunks(nn.Linear):
        """Chunks of 16 rows, each kept: what is alive follows no law that is tried, what is done does."""

        def forward(self, x):
            return torch.cat(
                [super(Chunks, self).forward(part).relu() for part in x.split(16, 1)], 1
            )

    def build(b: int = 2, n: int = 64):
        return Chunks(4, 4), torch.randn(b, n, 4)

    cost = derive_cost(build)
    found = numbers(cost, {"b": 3, "n": 100}, counter(build))
    assert found.values["flops, forward"] == cost.flops.forward(b=3, n=100)
    refused = {name for name, f in cost.formulas().items() if not f.holds(b=3, n=100)}
    assert set(found.counted) == refused
    assert found.values["peak bytes"] == counter(build).tally({"b": 3, "n": 100}).peak


def test_the_largest_size_that_fits_is_found_by_counting():
    cost, one_pass = cost_of(Builder(bits)), counter(bits)
    base = {"b": 2, "d": 4, "h": 12}
    found = largest(cost, "h", "memory", 100_000, base, one_pass)
    assert found.counted
    assert one_pass.memory({**base, "h": found.value}) <= 100_000
    assert one_pass.memory({**base, "h": found.value + 1}) > 100_000
    assert "counting" in str(found.blocks())
    with pytest.raises(CannotMeasure, match="a budget that fits some h"):
        largest(cost, "h", "memory", 10, base, one_pass)


def test_by_counting_as_by_formula():
    cost, other = derive_cost(plain), counter(plain)
    base = {"b": 2, "n": 8, "d": 4}
    for kind, budget in (("memory", 10**6), ("flops", 10**7)):
        said = largest(cost, "n", kind, budget, base, other)
        assert not said.counted
        amount = other.memory if kind == "memory" else other.flops
        assert other.largest("n", base, budget, amount) == (said.value, "")


@pytest.fixture(scope="module")
def cost():
    return derive_cost(plain)


def only_at(cost, span):
    """The same formulas, for some values of n alone."""

    def cut(piece):
        return replace(piece, where=tuple((n, span if n == "n" else s) for n, s in piece.where))

    pieces = tuple(map(cut, cost.peak_bytes.pieces))
    return replace(cost, peak_bytes=replace(cost.peak_bytes, pieces=pieces))


BASE = {"b": 2, "n": 8, "d": 4}


@pytest.mark.parametrize("over", [1, 900, 1500, 2500, 5000])
def test_above_a_value_of_a_grid_passes_are_counted_up_to_the_next(cost, over):
    memory = counter(plain).memory
    budget = memory({**BASE, "n": 24}) + over
    found = largest(only_at(cost, Range(8, None, 8)), "n", "memory", budget, BASE, counter(plain))
    assert found.value == largest(cost, "n", "memory", budget, BASE, counter(plain)).value
    assert memory({**BASE, "n": found.value}) <= budget < memory({**BASE, "n": found.value + 1})
    assert found.counted == (found.value % 8 > 0)
    assert not found.among


def test_where_nothing_can_be_counted_between_it_is_the_largest_on_the_grid(cost):
    class Eights(nn.Linear):
        def forward(self, x):
            if x.shape[1] % 8:
                raise ValueError("eights only")
            return super().forward(x)

    def build(b: int = 2, n: int = 8, d: int = 4):
        return nn.Sequential(Eights(d, 3 * d), nn.Linear(3 * d, d)), torch.randn(b, n, d)

    budget = counter(plain).memory({**BASE, "n": 24}) + 900
    grid = only_at(cost, Range(8, None, 8))
    for passes in (counter(build), counter(plain, "real")):
        found = largest(grid, "n", "memory", budget, BASE, passes)
        assert (found.value, found.counted) == (24, False)
        assert "The largest n among the multiples of 8 within" in str(found.blocks())
    gap = only_at(cost, Range(24, 24))
    after = only_at(cost, Range(40)).peak_bytes.pieces
    gap = replace(gap, peak_bytes=replace(gap.peak_bytes, pieces=(*gap.peak_bytes.pieces, *after)))
    found = largest(gap, "n", "memory", budget, BASE, counter(plain, "real"))
    assert (found.value, found.among) == (24, "the values with a formula")


@pytest.mark.parametrize("n", [1, 2, 5])
def test_below_the_least_value_of_a_formula_passes_are_counted(cost, n):
    from_6_on = only_at(cost, Range(6))
    budget = counter(plain).memory({**BASE, "n": n})
    found = largest(from_6_on, "n", "memory", budget, BASE, counter(plain))
    assert (found.value, found.counted) == (n, True)
    with pytest.raises(CannotMeasure, match="fits the least n with a formula, 6, which takes"):
        largest(from_6_on, "n", "memory", 10, BASE, counter(plain))


def test_a_pass_that_would_take_long_is_not_counted_between(cost, monkeypatch):
    class Loops(nn.Linear):
        def forward(self, x):
            return torch.stack([super(Loops, self).forward(row) for row in x.unbind(1)], 1)

    def build(b: int = 2, n: int = 8, d: int = 4):
        return Loops(d, d), torch.randn(b, n, d)

    passes = counter(build)
    steps = passes.tally({**BASE, "n": 40}).steps
    for most, counted in ((steps - 1, False), (steps + 1, True)):
        monkeypatch.setattr("assay.cost.counted._MOST", most)
        if counted:
            passes.between("n", BASE, 10**6, passes.memory, 32, 40)
        else:
            with pytest.raises(CannotMeasure, match="takes long"):
                passes.between("n", BASE, 10**6, passes.memory, 32, 40)


def test_sizes_that_are_held_are_named():
    cost = cost_of(Builder(bits))
    found = largest(cost, "b", "memory", 10**6, cost.base, counter(bits))
    assert found.at == {"d": 4, "h": 12}
    held = Counter(Builder(plain, arguments={"d": 4}), "meta")
    cost = derive_cost(Builder(plain, arguments={"d": 4}))
    found = largest(cost, "n", "memory", 10**6, cost.base, held)
    assert "at b=2, d=4: " in str(found.blocks()).replace("\n", " ")


def test_a_size_with_which_the_cost_falls_has_no_largest():
    class Skips(nn.Linear):
        def __init__(self, k):
            super().__init__(4, 4)
            self.k = k

        def forward(self, x):
            return super().forward(x[:, :: self.k])

    def falling(k: int = 2):
        return Skips(k), torch.randn(2, 64, 4)

    passes = counter(falling)
    for k in (8, 2):  # what k = 8 needs, then what all that are tried fit
        budget = passes.memory({"k": k})
        with pytest.raises(CannotMeasure, match="a cost that grows with k") as raised:
            passes.largest("k", {"k": 2}, budget, passes.memory)
        said = "It falls from 2 on, and 8 fits" if k == 8 else "fits at every doubling from 2 to"
        assert said in str(raised.value)


def test_it_says_where_the_model_ends_before_the_budget():
    class Short(Bits):
        def forward(self, x):
            if x.shape[1] > 21:
                raise ValueError("at most 21")
            return super().forward(x)

    def build(b: int = 2, h: int = 12):
        return Short(h, 4), torch.randn(b, h, 4)

    value, why = counter(build).largest("h", {"b": 2, "h": 12}, 10**9, counter(build).memory)
    assert value == 21
    assert "At h = 22 the model does not run: ValueError: at most 21" in why


def test_what_runs_with_data_alone_is_not_run_larger_than_in_use():
    one_pass = counter(plain, "real")
    assert one_pass.numbers({"b": 2, "n": 4, "d": 4})["flops, forward"] == 2 * 2 * 4 * 4 * 12 * 2
    with pytest.raises(CannotMeasure, match="looks at values"):
        one_pass.numbers({"b": 2, "n": 9, "d": 4})
    cost = cost_of(Builder(bits))
    found = numbers(cost, {"b": 3, "d": 4, "h": 13}, counter(bits, "real"))
    assert (found.counted, found.values["flops, forward"]) == ((), None)
    assert "could be counted" in str(found.blocks())


def test_a_refused_cost_has_numbers_at_the_base():
    cost = cost_of(Builder(lambda h=12: bits(2, h, 4)))
    assert cost.status == "refused"
    (found,) = cost.asked
    assert found.values["flops, forward"] == flops(bits, h=12)[0]


def test_where_the_peak_stands():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(8, 800, bias=False), nn.Linear(800, 8, bias=False)

        def forward(self, x):
            return self.down(torch.cos(self.up(x)))

    def build(b: int = 64):
        return Wide(), torch.randn(b, 8)

    cost = derive_cost(build)
    peak = cost.peak_at_base
    assert peak.bytes == cost.peak_bytes(b=64)
    assert (peak.phase, peak.where.file.endswith("test_counted.py")) == ("backward", True)
    assert "torch.cos" in peak.where.code
    assert cost.to_dict()["peak_at_base"]["bytes"] == peak.bytes
    (note,) = [note for note in cost.view().notes if "most bytes are alive" in note]
    assert "in the backward pass of" in note
    assert f"test_counted.py:{peak.where.line}, after `" in note


def test_the_command_counts_where_no_formula_holds(tmp_path, capsys):
    (tmp_path / "odd.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Bits(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        for _ in range(bin(int(x.shape[1])).count('1')):\n"
        "            x = super().forward(x)\n"
        "        return x\n"
        "def build(b: int = 2, h: int = 12):\n"
        "    return Bits(4, 4), torch.randn(b, h, 4)\n"
    )
    target = f"{tmp_path / 'odd.py'}:build"
    assert main(["cost", target, "--at", "h=13", "--solve", "h", "--fit-memory", "1MB"]) == 0
    text = capsys.readouterr().out
    assert "At b=2, h=13" in text
    assert f"{2 * 13 * 4 * 4 * 2 * 3:,}*" in text
    assert "found by counting passes" in text
    assert main(["cost", target, "--at", "h=13", "--format", "json"]) == 0
    asked = json.loads(capsys.readouterr().out)["sections"][0]["result"]["asked"]
    assert asked[0]["values"]["flops, forward"] == 2 * 13 * 4 * 4 * 2 * 3
    assert "flops, forward" in asked[0]["counted"]
