import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser

from gallery import FINDINGS, HOSTILE, VIEW
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.finding import Result
from assay.view.blocks import Cell, Column, Paragraph, Table, View
from assay.view.html import prose, to_fragment
from assay.view.theme import DARK, LIGHT, style

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Reads a page, and refuses an element that is not closed in its turn."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.text, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


def test_a_fragment_is_well_formed_and_complete():
    page = read(to_fragment(VIEW, FINDINGS))
    text = " ".join(page.text)
    for said in (
        VIEW.question,
        "18 more rows",
        "encoder.layers.23",
        "1.8e-21",
        *VIEW.notes[:1],
    ):
        assert said in text
    assert page.seen.count("svg") == 8  # four pictures, each for two widths
    assert page.seen.count("style") == 1
    assert "script" not in page.seen
    assert page.seen.count("article") == 3


def test_every_row_is_there():
    page = read(to_fragment(VIEW, styled=False))
    assert page.seen.count("tr") == 24 + 2  # the folded rows repeat the header
    assert page.seen.count("td") == 24 * 5
    assert "style" not in page.seen


def test_hostile_names_stay_text():
    attack = "<img src=x onerror=alert(1)>"
    worst = replace(
        FINDINGS[1],
        message=attack,
        repair=attack,
        module=attack,
        theory=attack,
        rule=f"a.{attack}",
    )
    page = read(to_fragment(HOSTILE, (worst,)))
    assert "script" not in page.seen
    assert "img" not in page.seen
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert any("<script>" in text for text in page.text)


@given(st.text(max_size=80))
@settings(max_examples=60)
def test_any_text_gives_a_well_formed_fragment(text):
    table = Table(
        (Column(text, text, "right", code=True),), ((Cell(text, "unknown"),), (text,)), text
    )
    page = read(
        to_fragment(View(text, text, text, (table, Paragraph(text)), (text,)), styled=False)
    )
    assert set(page.seen) <= {
        *("section", "p", "h2", "figure", "figcaption", "div", "table", "thead", "tbody", "tr"),
        *("th", "td", "span", "code", "ul", "li", "details", "summary"),
    }


def test_an_empty_table_says_so():
    html = to_fragment(View("", "", "", (Table((Column("path"),), ()),)), styled=False)
    assert "None." in html
    assert "<table" not in html


def test_the_number_of_a_line_is_never_broken_off():
    table = Table((Column("line", code=True),), (("models/net.py:12",), (f"{'a' * 60}.py:3",)))
    html = to_fragment(View("", "", "", (table,)), styled=False)
    assert 'models/<span class="whole">net.py:12</span>' in html
    assert re.search(r'a{28}<span class="whole">a{32}\.py:3</span>', html)
    assert ".whole { white-space: nowrap; }" in style()
    assert "line-clamp" not in style()


def test_backticks_are_code():
    assert prose("a `b<c` d") == "a <code>b&lt;c</code> d"
    assert prose("lone ` tick") == "lone ` tick"


def test_marks_are_told_by_text_as_well_as_colour():
    table = Table(
        (Column("c"),), ((Cell("fine", "good"),), (Cell("off", "bad"),), (Cell("eh", "unknown"),))
    )
    html = to_fragment(View("", "", "", (table,)), styled=False)
    for mark in ("✓", "✗", "?"):
        assert f">{mark}</span>" in html


def test_many_findings_fold():
    html = to_fragment(VIEW, FINDINGS * 5, styled=False)
    assert "7 more findings" in html


def test_results_show_themselves_in_notebooks():
    @dataclass(frozen=True, repr=False)
    class Scale(Result):
        def view(self):
            return VIEW

    assert Scale()._repr_html_() == to_fragment(VIEW)
    assert str(Scale()).startswith("Scale\nDoes every unit")


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_colours_have_the_contrast_that_people_need():
    for palette in (LIGHT, DARK):
        for name, colour in palette.items():
            for paper in (palette["paper"], palette["panel"]):
                a, b = sorted((luminance(colour), luminance(paper)))
                if name not in ("paper", "panel", "rule", "shade"):
                    assert (b + 0.05) / (a + 0.05) >= 4.5, (name, colour, paper)


def test_the_style_asks_for_nothing_from_outside():
    assert "url(" not in style()
    assert "@import" not in style()
    assert "prefers-color-scheme:dark" in style()


def test_a_repair_that_can_be_run_is_set_as_code():
    line = "with torch.no_grad(): model.bias[0:2] = 0  # it keeps the state"
    for repair, code in ((line, True), ("lower the rate", False), ("retrain", False)):
        html = to_fragment(VIEW, [replace(FINDINGS[0], repair=repair)])
        assert (f"<dd><pre><code>{repair}" in html) == code
        assert repair in html


def test_long_lines_of_code_wrap():
    assert re.search(r"\.assay pre \{[^}]*white-space: pre-wrap", style())
