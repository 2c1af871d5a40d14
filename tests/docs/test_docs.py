"""The documents say what is there: names, rooms, links, commands."""

import ast
import re
from pathlib import Path

import click
import pytest

import assay
from assay.cli import command

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "assay"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
LEVELS = (
    {"where", "memory", "place", "errors", "progress", "_version"},
    {"target", "builder", "subject", "state", "running", "finding", "view"},
    {"scale", "highway", "cost", "update", "certificate", "data", "init", "online", "optim"},
    {"reporting"},
    {"cli", "extra", "__main__"},
)
PILLARS = {"scale", "highway", "cost", "update", "certificate"}


def test_public_names_are_the_documented_names():
    table = (ROOT / "docs" / "api.md").read_text()
    documented = set(re.findall(r"^\| `assay\.(\w+)", table, re.M))
    assert documented == set(assay.__all__) - {"__version__"}


def test_every_public_name_can_be_imported_and_is_documented():
    for name in assay.__all__:
        value = getattr(assay, name)
        assert name == "__version__" or value.__doc__, name
    assert set(assay.__all__) <= set(dir(assay))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = assay.nonsense


def test_the_map_is_the_tree():
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = text.split("```")[1]
    mapped = set(re.findall(r"^  (\w+)(?:\.py|/)\s", block, re.M))
    tree = {p.stem for p in SOURCE.iterdir() if p.name not in ("__pycache__", "py.typed")}
    assert mapped == tree - {"__main__", "_version"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assay"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]


def level(room):
    return next(rank for rank, rooms in enumerate(LEVELS) if room in rooms)


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_imports_run_downwards(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in set(imports(path)) - {room}:
        if (
            room == "target" and other == "extra"
        ):  # `hf:` is the one target that a face provides, lazily
            continue
        assert level(other) <= level(room), f"{room} imports {other}"
        assert not ({room, other} <= PILLARS), f"pillar {room} imports pillar {other}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_in_the_documents_parse(page):
    for line in re.findall(r"^(?:\$ )?assay (\w.*)$", page.read_text(), re.M):
        words = line.split("  #")[0].split()
        name, *rest = words
        subcommand = command.commands[name]
        options = {o for p in subcommand.params for o in p.opts}
        for word in rest:
            if word.startswith("-") and not word[1:2].isdigit():
                assert word.split("=")[0] in options, line
        if not {"[", "|"} & set(line):
            with click.Context(subcommand) as context:
                subcommand.parse_args(context, list(rest))


def examples():
    """Blocks of Python that import what they need, each with those after it that go on where it ends."""
    for page in PAGES[2:]:
        whole = []
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
            if "import torch" in block or "from assay" in block or not whole:
                whole.append(block)
            else:
                whole[-1] += block
        for i, block in enumerate(whole):
            yield pytest.param(block, id=f"{page.name}:{i}")


@pytest.mark.parametrize("block", [*examples()])
def test_examples_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write a file
    exec(compile(block, "example", "exec"), {"__name__": "example"})


def test_nothing_speaks_of_other_machines():
    for page in PAGES:
        assert "/work/" not in page.read_text()
        assert "/tmp/" not in page.read_text()


def test_every_row_of_the_theory_that_a_finding_names_is_explained():
    rows = set(re.findall(r"^\| ([A-Z]\d) \|", (ROOT / "docs" / "theory.md").read_text(), re.M))
    named = set()
    for path in SOURCE.rglob("*.py"):
        named |= set(re.findall(r"\"([SHCUL]\d)(?:, [SHCUL]\d)*\"", path.read_text()))
        named |= set(re.findall(r"Theory ([SHCUL]\d)", path.read_text()))
    assert {"S1", "H1", "C3", "U8", "L2"} <= named <= rows
    assert "docs/theory.md" in (ROOT / "README.md").read_text()


def test_a_file_that_the_documents_name_is_one_file():
    defined = {}
    for page in PAGES:
        for name in re.findall(r"^```python\n# (\w+\.py)$", page.read_text(), re.M):
            assert defined.setdefault(name, page) == page, name
    assert defined["net.py"].name == "README.md"
