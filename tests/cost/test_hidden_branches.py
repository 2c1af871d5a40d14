"""Branches that no small run shows: beyond the second layer, in a configuration, where data are needed."""

import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from cost_twins import Program, flops, wrong_answers
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from assay.cost import heldout
from assay.cost.cost import derive_cost
from assay.cost.samples import Samples

EDGES = (
    1,
    2,
    3,
    31,
    47,
    48,
    49,
    96,
    100,
    127,
    128,
    150,
    151,
    190,
    200,
    201,
    256,
    257,
    300,
    301,
    384,
    385,
)
GRID = [{"b": b, "n": n} for b in (3,) for n in (*EDGES, 720, 901, 1201, 4001, 32_769, 40_000)]


class Layers(nn.Module):
    """A stack of equal layers; `run(self, x)` says which of them run."""

    def __init__(self, run, depth=8):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))
        self.run, self.extra = run, 5

    def forward(self, x):
        return self.run(self, x)


def fewer_for_short_ones(s, x):
    n = x.shape[1]
    for layer in s.layers[: 2 if n < 128 else 4 if n < 256 else 8]:
        x = layer(x)
    return x


def late_layers_twice(s, x):
    for i, layer in enumerate(s.layers):
        x = layer(x)
        if i >= s.extra and x.shape[1] > 256:
            x = layer(x)
    return x


def early_exit(s, x):
    for i, layer in enumerate(s.layers):
        if 100 * i > x.shape[1]:
            break
        x = layer(x)
    return x


def the_last_for_long_ones(s, x):
    for i, layer in enumerate(s.layers):
        if i < 7 or x.shape[1] > 300:
            x = layer(x)
    return x


@pytest.mark.parametrize(
    "run", [fewer_for_short_ones, late_layers_twice, early_exit, the_last_for_long_ones]
)
def test_which_layers_of_a_stack_run_may_depend_on_a_size(run):
    def build(b: int = 2, n: int = 32):
        return Layers(run), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert not wrong_answers(cost, build, GRID)


@dataclass
class Config:
    low: int = 150
    high: int = 190
    block: int = 48
    longest: int = 32_768
    buckets: tuple[int, ...] = (64, 160, 384, 900)


class Configured(nn.Module):
    """Compares sizes with the values of a configuration that it holds."""

    def __init__(self, config, compare):
        super().__init__()
        self.config, self.compare = config, compare
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 16)

    def forward(self, x):
        return self.other(x) if self.compare(self.config, x) else self.one(x)


COMPARED = {
    "a band": lambda c, x: c.low < x.shape[1] < c.high,
    "one value": lambda c, x: x.shape[1] == c.buckets[2],
    "a large one": lambda c, x: x.shape[1] > c.longest,
    "multiples": lambda c, x: x.shape[1] % c.block == 0,
    "buckets": lambda c, x: any(x.shape[1] == bucket for bucket in c.buckets),
}


@pytest.mark.parametrize("name", COMPARED)
@pytest.mark.parametrize("kind", [Config, lambda: SimpleNamespace(**vars(Config()))])
def test_a_threshold_may_stand_in_a_configuration(name, kind):
    def build(b: int = 2, n: int = 32):
        return Configured(kind(), COMPARED[name]), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert not wrong_answers(cost, build, GRID)


def test_a_model_that_looks_at_values_is_also_run_beyond_its_thresholds():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            if float(x.detach().sum()) != 0 and x.shape[1] > 200:
                x = self.layer(self.layer(x))
            return self.layer(x)

    def build(b: int = 2, n: int = 8):
        return Looks(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert cost.way == "real"
    for n in (3, 199, 200, 201, 300, 1000):
        model, x = build(n=n)
        with FlopCounterMode(display=False) as counter:
            model(x)
        assert cost.flops.forward(b=2, n=n) == counter.get_total_flops()


def test_slow_runs_for_real_are_left_out_and_the_formula_ends_where_a_comparison_turns(monkeypatch):
    sizes = []

    class Looks(nn.Linear):
        def forward(self, x):
            if float(x.detach().sum()) != 0 and x.shape[0] > 200:
                x = super().forward(x)
            return super().forward(x)

    def build(b: int = 2):
        sizes.append(int(b))
        return Looks(4, 4), torch.randn(b, 4)

    monkeypatch.setattr(heldout, "_WORKED", 0)
    derive_cost(build)
    assert 130 in sizes  # whatever takes no time is looked at
    sizes.clear()
    monkeypatch.setattr(Samples, "seconds", lambda self, point: float(point[0]))
    cost = derive_cost(build)
    assert max(sizes) < 130
    assert str(cost.flops.forward) == "32*b for b ≤ 200"  # it ends where it was too dear to look


def test_a_model_with_much_to_compute_is_run_for_real_where_a_comparison_turns():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(256, 1024), nn.Linear(1024, 256)

        def forward(self, x):
            if float(x.detach().sum()) != 0 and x.shape[1] > 600:
                x = self.down(self.up(x))
            return self.down(self.up(x))

    def build(b: int = 2, n: int = 64):
        return Looks(), torch.randn(b, n, 256)

    cost = derive_cost(build)
    assert cost.way == "real"
    for n, times in ((600, 1), (601, 2), (5000, 2)):
        assert cost.flops.forward(b=3, n=n) == times * 3 * n * 2 * 2 * 256 * 1024
    # nor does the formula end at a size at which the sum of other data came closer to 0
    assert str(cost.flops.forward) == "1048576*b*n for n ≤ 600; 2097152*b*n for n ≥ 601"


def test_a_quartic_through_every_value_is_no_law():
    def build(b: int = 2, k: int = 3):
        return nn.Linear(2**k, 3), torch.randn(b, 2**k)

    cost = derive_cost(build)
    assert cost.status == "refused"
    assert cost.blamed == "k"


def test_of_several_sizes_together_one_is_blamed_that_has_to_do_with_it():
    class Much(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.layer = nn.Linear(d, d)

        def forward(self, x):
            x = self.layer(x) if x.shape[0] * x.shape[1] > 4096 else x
            return self.layer(x)

    def build(b: int = 2, n: int = 8, d: int = 4):
        return Much(d), torch.randn(b, n, d)

    assert derive_cost(build).blamed in ("b", "n")


def test_a_builder_whose_own_work_explodes_is_not_run_where_it_would():
    largest = [0]

    def build(b: int = 2, d: int = 8):
        largest[0] = max(largest[0], d)
        for _ in range(10 * d * d):  # a table filled in Python
            pass
        return nn.Linear(d, d), torch.randn(b, d)

    cost = derive_cost(build)
    assert str(cost.flops.forward) == "2*b*d**2"
    assert 500 < largest[0] < 10_000


def test_sparse_matrices_are_followed_and_their_entries_counted():
    class Graph(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.layer = nn.Linear(d, d)

        def forward(self, x, edges):
            ones = torch.ones(edges.shape[1], device=x.device)
            nodes = torch.sparse_coo_tensor(edges, ones, (len(x), len(x)))
            return torch.sparse.mm(nodes, self.layer(x))

    def build(nodes: int = 20, edges: int = 50, d: int = 8):
        return Graph(d), (torch.randn(nodes, d), torch.randint(0, nodes, (2, edges)))

    cost = derive_cost(build)
    assert not cost.uncounted
    # of the transposed matrix of the backward pass nobody knows how many entries it stores
    forward = cost.products.forward
    for nodes, edges, d in ((20, 50, 8), (100, 7, 5), (31, 1000, 64)):
        dense, sparse = 2 * nodes * d * d, 2 * edges * d
        assert forward(nodes=nodes, edges=edges, d=d) == dense + sparse


def test_nested_tensors_are_counted_by_what_they_are_made_of():
    class Nest(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            rows = torch.nested.nested_tensor(list(x), layout=torch.jagged)
            return torch.nested.to_padded_tensor(F.relu(self.layer(rows)), 0.0)

    def build(b: int = 3, n: int = 6):
        return Nest(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert str(cost.flops.forward) == "32*b*n"
    assert not cost.uncounted


def test_a_packed_sequence_is_only_moved():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            lengths = torch.full((x.shape[0],), x.shape[1], device="cpu")
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
            return self.layer(packed.data)

    def build(b: int = 2, n: int = 6):
        return Packed(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert not cost.uncounted
    model, x = build(b=3, n=11)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert cost.flops.forward(b=3, n=11) == counter.get_total_flops() == 32 * 33


def test_twins_agree():
    """The counter that these programs are held against says what is written here."""

    def build(b: int = 2, n: int = 32):
        return Layers(early_exit), torch.randn(b, n, 4)

    assert flops(build, b=1, n=250) == (3 * 32 * 250, (2 * 3 - 1) * 32 * 250)


FIRST = """
import torch
from torch import nn
from assay.builder import Builder
from assay.cost.probe import Probe

class Imports(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        y = self.layer(x)
        import colorsys, wave, this  # what a first pass loads, it loads in the middle
        return (y * y).sum((1, 2)) + self.layer(y).sum((1, 2))

def build(b: int = 2, n: int = 16):
    return Imports(), torch.randn(b, n, 8)

probe = Probe(Builder(build))
first = probe.open({"b": 2, "n": 16})
assert probe.runs == 2, probe.runs
assert first.peak == probe({"b": 2, "n": 16}).peak
"""


def test_the_first_pass_of_a_process_counts_as_every_other():
    """The frames of an import in the middle of a pass keep tensors alive."""
    subprocess.run([sys.executable, "-c", FIRST], check=True, capture_output=True)


class Remembering(nn.Module):
    """Attends to the last steps, which are in a list; how long a list is, nobody notes."""

    def __init__(self, window):
        super().__init__()
        self.layer, self.window = nn.Linear(4, 4), window

    def forward(self, x):
        past, found = [], []
        for step in x.unbind(1):
            past.append(self.layer(step))
            past = past[-self.window :]
            keys = torch.stack(past, 1)
            found.append((keys * (keys @ step[:, :, None]).softmax(1)).sum(1))
        return torch.stack(found, 1)


@pytest.mark.parametrize("window", [24, 128])
def test_a_window_over_a_list_is_in_the_formula_or_ends_it(window):
    def build(b: int = 1, n: int = 8):
        return Remembering(window), torch.randn(b, n, 4)

    found = derive_cost(build).flops.forward
    assert found.holds(b=1, n=window - 1)
    for n in (window - 1, window, window + 1, window + 2, 2 * window):
        if found.holds(b=1, n=n):
            assert found(b=1, n=n) == flops(build, b=1, n=n)[0]
    if not found.holds(b=1, n=2 * window):
        assert str(found).endswith(f" for n ≤ {window}")


class Bag(nn.Module):
    """Of no length: as a condition it is false, and it is a model all the same."""

    def __init__(self, items):
        super().__init__()
        self.layer, self.items = nn.Linear(4, 4), items

    def __len__(self):
        return len(self.items)

    def forward(self, x):
        times = 0
        for _ in x:
            times += 1
        return self.layer(self.layer(x)) if 0.3005 < times / 1e3 < 0.3165 else self.layer(x)


@pytest.mark.parametrize("items", [(), None], ids=["empty", "no length"])
def test_a_model_that_is_false_is_looked_at_as_any_other(items):
    def build(b: int = 4):
        return Bag(items), torch.randn(b, 4)

    expected = "32*b for b ≤ 300; 64*b for 301 ≤ b ≤ 316; 32*b for b ≥ 317"
    assert str(derive_cost(build).flops.forward) == expected


class Reader(nn.Module):
    """A loop over its input, a method that no pass runs, and one that runs for long inputs alone."""

    def __init__(self, long):
        super().__init__()
        self.cell, self.long = nn.GRUCell(4, 4), long

    def forward(self, x):
        h = x[:, 0]
        if x.shape[1] > self.long:
            return self.last_of(x, h)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return h

    def last_of(self, x, h, window=90):
        for step in list(x.unbind(1))[-window:]:
            h = self.cell(step, h)
        return h

    def generate(self, x, longest=150):
        return [self(x) for _ in range(longest)]


def test_integers_of_what_does_not_run_end_no_formula():
    def build(b: int = 2, n: int = 8, long: int = 10**9):
        return Reader(long), torch.randn(b, n, 4)

    cost = derive_cost(lambda b=2, n=8: build(b, n))
    assert str(cost.flops.forward) == "192*b*n"
    cost = derive_cost(lambda b=2, n=8: build(b, n, 60))
    for n in (60, 61, 89, 90, 91, 149, 151, 400):
        if cost.flops.forward.holds(b=2, n=n):
            assert cost.flops.forward(b=2, n=n) == 192 * 2 * (n if n <= 60 else min(n, 90))
    assert cost.flops.forward.holds(b=2, n=61)


class Numbered(nn.Module):
    """Layers that compare their number with half of the depth when they are built, and have a bias above."""

    def __init__(self, d, depth, times):
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(times):
            for i in range(depth):
                self.layers.append(nn.Linear(d, d, bias=i >= depth / 2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("times", [1, 2])
def test_layers_that_compare_their_number_with_the_depth_are_not_followed_for_ever(times):
    runs = [0]

    def build(b: int = 2, d: int = 4, depth: int = 2):
        runs[0] += 1
        return Numbered(d, depth, times), torch.randn(b, d)

    cost = derive_cost(build)
    grid = [{"b": 3, "d": 5, "depth": depth} for depth in (1, 2, 7, 20, 33, 60, 101)]
    assert not wrong_answers(cost, build, grid)
    assert all(cost.flops.forward.holds(**sizes) for sizes in grid[1:])
    for sizes in grid[1:]:
        assert cost.parameters(**sizes) == sum(p.numel() for p in build(**sizes)[0].parameters())
    assert runs[0] < 400


@pytest.mark.parametrize("special", [9, 13, 22])
def test_a_list_of_consecutive_numbers_is_followed_to_its_end(special):
    def build(b: int = 2, n: int = 4):
        def look(s, x):
            for k in range(5, 25):
                if x.shape[1] == k and k == special:
                    x = torch.cat([x, x], 1)
            return s.lin(x)

        return Program(look), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert not wrong_answers(cost, build, [{"b": 2, "n": n} for n in range(2, 40)])
