import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from stand_ins import Answer, Rooms, fact, mlp

from assay.errors import CannotMeasure
from assay.reporting.report import report
from assay.view.blocks import Bars, Cell, Column, Lines, Series, Table

SECTIONS = ["scale", "highway", "cost", "step", "units", "certificate"]
VOID = {"meta", "link", "br", "img"}
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture
def rooms(monkeypatch):
    return Rooms(monkeypatch)


class Reader(HTMLParser):
    """Reads a page, and refuses an element that is not closed in its turn."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture
def made(rooms):
    blocks = (
        Lines((Series("loss", (0, 1, 2), (3.0, 2.0, 1.0)),), "step", "loss", "Training"),
        Bars((("a", 1.0), ("b", 2.0)), "x", "Where"),
        Table((Column("n"), Column("is")), tuple((str(i), Cell("ok", "good")) for i in range(20))),
    )
    many = tuple(fact("warning", weight=float(i)) for i in range(9))
    rooms.set("scale", Answer("scale", "It grows `5.1`-fold.", blocks, findings=many))
    rooms.set("units", Answer("units", findings=(fact("error", "update.units"),)))
    rooms.set("cost", CannotMeasure("model", "<script>alert(1)</script>", "less", "Do it."))
    rooms.set("step", RuntimeError("<b>our</b> fault"))
    return report(mlp)


def test_the_page_has_every_section_verdict_and_finding(made):
    page = Reader(made.to_html())
    assert [name for name in page.values("id") if name in SECTIONS] == SECTIONS
    assert page.values("id").count("findings") == 1
    assert [f"#{name}" for name in SECTIONS] == [
        h for h in page.values("href") if h[1:] in SECTIONS
    ]
    assert sum(name.startswith("finding-") for name in page.values("id")) == 10
    for anchor in page.values("href"):
        assert anchor == "data:," or anchor[1:] in page.values("id")
    assert len(page.values("id")) == len(set(page.values("id")))
    assert made.verdict in page.text
    assert "exit code 3" in page.text
    assert "4 more" in page.text  # six findings are shown, the others fold
    assert page.text.count("Could not be measured.") == 2


def test_the_page_asks_for_nothing_and_runs_nothing(made):
    html = made.to_html()
    page = Reader(html)
    assert not {"script", "iframe", "img", "object", "base"} & set(page.tags)
    assert set(page.values("src")) == set()
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"(?:href|src)=\"?https?:", html)
    assert "default-src 'none'" in html
    assert "url(" not in html
    assert 'name="viewport"' in html


def test_what_users_named_is_escaped(made):
    html = made.to_html()
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;b&gt;our&lt;/b&gt; fault" in html
    assert "<b>our" not in html


def test_a_traceback_folds(made):
    html = made.to_html()
    assert re.search(
        r"<details><summary>Traceback</summary><pre class=\"traceback\">Traceback", html
    )


def test_nothing_found_and_not_applicable(rooms):
    import torch
    from torch import nn

    page = Reader(report((nn.Linear(2, 2), torch.ones(1, 2))).to_html())
    assert "findings" not in page.values("id")
    assert "Nothing found in 5 measured sections." in page.text
    assert "Not applicable." in page.text


def test_a_notebook_gets_the_same_without_a_document(made):
    html = made._repr_html_()
    page = Reader(html)
    assert "html" not in page.tags
    assert page.tags[0] == "style"
    assert [name for name in page.values("id") if name in SECTIONS] == SECTIONS


def browse(path, *options, profile):
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={profile}", *options]
    return subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_without_a_complaint(made, tmp_path):
    page = tmp_path / "report.html"
    made.save(page)
    done = browse(page, "--dump-dom", profile=tmp_path / "profile")
    assert not re.findall(r"CONSOLE.*", done.stderr)
    shown = Reader(done.stdout)
    assert [name for name in shown.values("id") if name in SECTIONS] == SECTIONS
    assert shown.tags.count("svg") == 4
    assert "script" not in shown.tags


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_can_draw_it_dark_and_on_a_telephone(made, tmp_path):
    page, dark = tmp_path / "report.html", "--blink-settings=preferredColorScheme=0"
    made.save(page)
    sizes = []
    for name, options in {"light": [], "dark": [dark]}.items():
        shot = tmp_path / f"{name}.png"
        browse(
            page, f"--screenshot={shot}", "--window-size=500,900", *options, profile=tmp_path / name
        )
        sizes.append(shot.read_bytes())
    assert all(data.startswith(b"\x89PNG") for data in sizes)
    assert sizes[0] != sizes[1]
