"""`assay ls`: every target can be copied, and what has none is said."""

from pathlib import Path

import pytest

from assay.cli import main

TINY = str(Path(__file__).with_name("tiny.py"))


@pytest.mark.parametrize("columns", ["20", "80", "200"])
def test_no_target_is_cut_however_narrow_the_window(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["ls", TINY]) == 0
    text = capsys.readouterr().out
    for name in ("well", "plain", "leaves_in_forward"):
        assert f"{TINY}:{name} " in text
    assert "…" not in text


def test_a_whole_target_is_a_list_of_one(capsys):
    assert main(["ls", f"{TINY}:plain"]) == 0
    head, row = capsys.readouterr().out.rstrip().splitlines()[:2]
    assert head.split() == ["target", "sizes", "about"]
    assert row.startswith(f"{TINY}:plain  b=4, d=8  Two layers")


def test_a_type_of_transformers_is_listed_with_its_sizes(capsys):
    pytest.importorskip("transformers")
    assert main(["ls", "hf:gpt2"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["hf:gpt2", "b=2,", "n=16"]


def test_a_place_without_builders_says_so(capsys):
    assert main(["ls", "assay"]) == 0
    assert "assay has no builders" in capsys.readouterr().out


def test_what_is_no_place_is_told_what_places_are(capsys):
    assert main(["ls", "foo-bar"]) == 2
    assert "expected path/file.py, package.module, or a whole target" in capsys.readouterr().err
