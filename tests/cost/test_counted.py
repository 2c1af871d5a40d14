"""Where no formula holds, one pass is counted: numbers at sizes, and the largest that fits."""

import json

import pytest
import torch
from cost_twins import flops
from torch import nn

from assay.builder import Builder
from assay.cli import main
from assay.cost.asked import largest, numbers
from assay.cost.cost import cost_of, derive_cost
from assay.cost.counted import Counter
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
    with pytest.raises(CannotMeasure, match="a budget that some h fits"):
        largest(cost, "h", "memory", 10, base, one_pass)


def test_by_counting_as_by_formula():
    cost, other = derive_cost(plain), counter(plain)
    base = {"b": 2, "n": 8, "d": 4}
    for kind, budget in (("memory", 10**6), ("flops", 10**7)):
        said = largest(cost, "n", kind, budget, base, other)
        assert not said.counted
        amount = other.memory if kind == "memory" else other.flops
        assert other.largest("n", base, budget, amount) == (said.value, "")


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
