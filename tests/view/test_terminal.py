import io
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from gallery import FINDINGS, HOSTILE, VIEW
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from assay.finding import Finding, Number
from assay.view.blocks import Arc, Arcs, Bars, Cell, Column, Lines, Series, Table, View
from assay.view.prose import clean, split_code
from assay.view.text import to_rich, to_text
from assay.where import Location

GOLDEN = Path(__file__).parent / "golden"


def check_golden(name, text):
    """Compare with the stored text; `ASSAY_GOLDEN=write` stores it anew, to be read in the diff."""
    path = GOLDEN / name
    if os.environ.get("ASSAY_GOLDEN") == "write":
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")


def test_golden_view():
    check_golden("gallery.txt", to_text(VIEW, FINDINGS))


def test_golden_hostile_names():
    check_golden("hostile.txt", to_text(HOSTILE))


def test_text_is_the_same_whatever_the_terminal(monkeypatch):
    before = to_text(VIEW, FINDINGS)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert to_text(VIEW, FINDINGS) == before
    assert "\x1b" not in before
    assert max(map(len, before.splitlines())) <= 100
    assert all(line == line.rstrip() for line in before.splitlines())


def test_a_colour_terminal_gets_colours():
    console = Console(force_terminal=True, color_system="truecolor", width=80)
    with console.capture() as captured:
        console.print(to_rich(VIEW, FINDINGS))
    assert "\x1b[1;31m✗ error" in captured.get()


def test_the_line_of_code_stands_beside_a_finding(tmp_path):
    file = tmp_path / "net.py"
    file.write_text("import torch\nx = torch.relu(x)\n")
    finding = Finding(
        "scale.mean",
        "Off.",
        Number(0.0, "1", "formula"),
        Number(1.0, "1", "measured"),
        where=Location(str(file), 2, "forward"),
    )
    text = to_text(View("Scale", "", "No."), (finding,))
    assert "net.py:2" in text
    assert "x = torch.relu(x)" in text


def test_findings_come_gravest_first_and_are_counted():
    many = tuple(replace(FINDINGS[2], weight=float(i)) for i in range(20))
    text = to_text(View("Scale", "", "No."), (*many, FINDINGS[1]))
    assert text.index("✗ error") < text.index("! warning")
    assert "… and 9 more findings" in text


def test_square_brackets_are_not_markup():
    view = View(
        "[red]x[/red]", "", "shape `[N, D]` [bold]", (Table((Column("[/]"),), (("[dim]",),)),)
    )
    text = to_text(view)
    assert "[red]x[/red]" in text
    assert "[N, D]" in text
    assert "[dim]" in text


def test_long_tables_and_pictures_are_cut_with_a_count():
    rows = tuple((str(i), Cell("ok", "good")) for i in range(46))
    view = View(
        "T",
        "",
        "",
        (
            Table((Column("n", align="right"), Column("is")), rows),
            Bars(tuple((f"b{i}", float(i)) for i in range(15)), "x", reference=(7.0, "mean")),
            Arcs(("a", "b"), tuple(Arc(0, 1.5, "skip") for _ in range(14))),
        ),
    )
    text = to_text(view)
    assert "… and 34 more rows" in text
    assert "… and 3 more" in text
    assert "… and 2 more" in text
    assert "a → 1.5" in text


def test_an_empty_table_says_so():
    text = to_text(View("T", "", "", (Table((Column("path"),), (), "Skip paths."),)))
    assert text.endswith("Skip paths.\nNone.")
    assert "path" not in text.splitlines()


def test_sparklines_show_what_cannot_be_drawn():
    line = Series("g", range(5), (1.0, 1e-9, 0.0, math.nan, math.inf))
    text = to_text(View("T", "", "", (Lines((line, Series("e", (), ())), "x", "y", log_y=True),)))
    assert "█▁_×∞" in text
    assert "no values" in text


def test_prose():
    assert clean("a\x00b\ud800c\x9bd") == "a�b�c�d"
    assert split_code("`a` and `b") == [("a", True), (" and `b", False)]
    assert split_code("") == []


COLUMNS = (
    Column("module", code=True),
    Column("variance", "1", "right"),
    Column("gradient", "1", "right"),
    Column("operations", "", "right"),
    Column("what happened"),
)
ROW = (
    "encoder.layers.0.attention.output",
    "1.234e-05",
    "0.98765",
    "1,234,567,890",
    "the signal dies here",
)
FALL = tuple(1 / (i + 1) ** 3 for i in range(60))


@pytest.mark.parametrize("width", [30, 40, 60, 70, 80, 100, 200])
def test_numbers_are_whole_at_every_width(width):
    blocks = (
        Table(COLUMNS, (ROW, ROW)),
        Lines(
            (Series("variance of the whole encoder", range(60), FALL),),
            "layer",
            "variance",
            log_y=True,
        ),
        Bars((("a name that goes on and on and on", 1234.0), ("b", 1.0)), "FLOPs"),
    )
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    console.print(to_rich(View("Title", "", "Answer.", blocks)))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(cell_len, lines)) <= width
    for number in (*ROW[1:4], "1 → 4.63·10⁻⁶", "1234"):
        assert any(number in line for line in lines), number


def test_prose_gives_way_before_a_name_is_cut():
    heads = ("line", "operator", "kind", "read by")
    columns = (*map(Column, heads), *(Column(name, align="right") for name in ("mean", "kept")))
    names = ("net/small.py:36", "encoder.in_proj_weight")
    row = (*names, "words and words " * 8, "more words " * 8, "0.001234", "0.004321")
    text = to_text(View("", "", "", (Table(columns, (row,)),)))
    for name in names:
        assert name in text


PATH = "bert.encoder.layer.*.attention.output.LayerNorm"


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.lists(st.integers(1, 11), min_size=1, max_size=3),
    st.integers(100, 140),
)
def test_a_table_is_no_wider_than_its_room_and_paths_break_between_names(paths, numbers, width):
    """Two columns that want more than half cut digits off the last one, and words where there is a dot."""
    names = [PATH.rsplit(".", cut)[0] for cut in paths]
    digits = ["9" * length for length in numbers]
    columns = [Column("path", code=True)] * len(names)
    columns += [Column("n", align="right")] * len(digits)
    console = Console(width=width, file=io.StringIO(), color_system=None, legacy_windows=False)
    console.print(to_rich(View("", "", "", (Table(tuple(columns), ((*names, *digits),)),))))
    lines = console.file.getvalue().splitlines()
    assert max(map(cell_len, (line.rstrip() for line in lines))) <= width
    body = " ".join(lines).split()
    assert all(number in body for number in digits)
    assert {part for word in body for part in word.strip(".").split(".")} >= {*PATH.split(".")[:1]}
    whole = {*PATH.split("."), "", "path", "n", *digits}
    assert all(part in whole or set(part) <= set("─") for word in body for part in word.split("."))


def test_lines_that_differ_at_the_end_of_long_names_are_told_apart():
    names = [f"matrix products ∝ hidden_size_of_the_whole_network{power}" for power in ("", "²")]
    text = to_text(
        View("T", "", "", (Lines(tuple(Series(n, [1, 2], [1, 2]) for n in names), "x", "y"),))
    )
    assert re.search(r"^matrix products ∝ .*…\S*network  ", text, re.M)
    assert re.search(r"^matrix products ∝ .*…\S*network²  ", text, re.M)


def test_a_bars_name_is_cut_only_where_the_bar_needs_the_room():
    name = "encoder.layers.11.self_attn.out_proj.weight (addmm)"
    text = to_text(View("", "", "", (Bars(((name, 1.0), ("head", 2.0)), "flops"),)))
    assert name in text
