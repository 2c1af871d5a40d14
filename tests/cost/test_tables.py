"""Where a table of embeddings ends is told, and is where a run with data fails."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from assay import derive_cost
from assay.cli import main

ROWS = 24


class Positions(nn.Module):
    """A linear layer over what is looked up at positions."""

    def __init__(self, rows, positions):
        super().__init__()
        self.table, self.linear = nn.Embedding(rows, 4), nn.Linear(4, 4)
        self.positions = positions

    def forward(self, x):
        return self.linear(x + self.table(self.positions(x)))


def counted(x):
    return torch.arange(x.shape[1])


def offset(x):
    return torch.arange(x.shape[1]) + 2


def by_ones(x):
    return torch.ones(x.shape[:2], dtype=torch.long).cumsum(1)


def clamped(x):
    return torch.arange(x.shape[1]).clamp(max=ROWS - 1)


def folded(x):
    return torch.arange(x.shape[1]) % ROWS


def drawn(x):
    return torch.randint(0, ROWS, (x.shape[1],))


def builder(positions, rows=ROWS):
    def build(b: int = 2, n: int = 8):
        return Positions(rows or n, positions), torch.randn(b, n, 4)

    return build


@pytest.mark.parametrize("positions", [counted, offset, by_ones])
def test_an_end_is_where_a_run_with_data_fails(positions):
    build = builder(positions)
    (name, end), *others = derive_cost(build).ends.items()
    assert (name, end.table, end.rows, others) == ("n", "table", ROWS, [])
    for n, runs in ((end.value, True), (end.value + 1, False)):
        model, x = build(n=n)
        if runs:
            model(x)
        else:
            with pytest.raises(IndexError):
                model(x)


@pytest.mark.parametrize("positions", [clamped, folded, drawn])
def test_a_lookup_that_stays_in_its_table_has_no_end(positions):
    assert not derive_cost(builder(positions)).ends


class Distances(nn.Module):
    """A linear layer over what is looked up for every distance of two positions, up to a largest one."""

    def __init__(self, largest):
        super().__init__()
        self.table, self.linear, self.largest = nn.Embedding(801, 4), nn.Linear(4, 4), largest

    def forward(self, x):
        at = torch.arange(x.shape[1])
        apart = (at[:, None] - at).clamp(-self.largest, self.largest)
        return self.linear(x + self.table(apart + 400).mean(0))


@pytest.mark.parametrize(("largest", "last"), [(400, None), (10_000, 401)])
def test_distances_that_are_cut_off_at_the_last_row_have_no_end(largest, last):
    def build(b: int = 2, n: int = 8):
        return Distances(largest), torch.randn(b, n, 4)

    ends = derive_cost(build).ends
    assert {name: end.value for name, end in ends.items()} == ({"n": last} if last else {})
    model, x = build(n=402)
    with pytest.raises(IndexError) if last else nullcontext():
        model(x)


def test_a_table_that_grows_with_the_size_has_no_end():
    assert not derive_cost(builder(counted, rows=0)).ends


def test_the_formula_goes_on_beyond_the_end():
    cost = derive_cost(builder(counted))
    assert cost.flops.forward(b=3, n=1000) == 2 * 3 * 1000 * 4 * 4


def test_the_command_says_where_the_model_ends(tmp_path, capsys):
    target = tmp_path / "net.py"
    target.write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.places, self.linear = nn.Embedding(24, 4), nn.Linear(4, 4)\n"
        "    def forward(self, x):\n"
        "        return self.linear(x + self.places(torch.arange(x.shape[1])))\n"
        "def build(b: int = 2, n: int = 8):\n"
        "    return Net(), torch.randn(b, n, 4)\n"
    )
    assert main(["cost", f"{target}:build", "--solve", "n", "--fit-memory", "1MB"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "The model ends at 24: the table of places has 24 rows." in text
    assert "With data it runs up to n = 24: the table of places has 24 rows." in text


class Indexed(Positions):
    """The table is a parameter that is indexed, as in Whisper."""

    def forward(self, x):
        return self.linear(x + self.table.weight[self.positions(x)])


def test_a_table_that_is_indexed_ends_too():
    def build(b: int = 2, n: int = 8):
        return Indexed(ROWS, counted), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert cost.ends["n"].value == ROWS
    model, x = build(n=ROWS + 1)
    with pytest.raises(IndexError):
        model(x)


def test_an_end_at_a_size_that_is_tried_is_found_where_not_all_sizes_may_be_large_at_once():
    """A mask of 20,011 rows of 20,011 is too much to know, as in GPT-2, which has 1,024 positions."""

    class Masked(Positions):
        def forward(self, x):
            mask = torch.ones(x.shape[:2], dtype=torch.bool)
            return super().forward(x if mask.all() else x.tril())

    def build(b: int = 2, n: int = 8):
        return Masked(1024, counted), torch.randn(b, n, 4)

    assert derive_cost(build).ends["n"].value == 1024
