"""`assay cost` as a user meets it: the breakdown in every format."""

import json
import re
from pathlib import Path

import pytest

from assay.cli import main

TINY = str(Path(__file__).with_name("tiny.py"))


def run(*words):
    return main([str(word) for word in words])


@pytest.mark.parametrize(
    ("by", "row"),
    [
        ("module", r"^0 +\d"),
        ("operator", r"^addmm +\d"),
        ("class", r"^matrix product +\d"),
        ("line", r"^\(torch\) +\d"),
    ],
)
def test_the_text_has_the_breakdown_that_was_asked_for(by, row, capsys):
    assert run("cost", f"{TINY}:plain", "--by", by) == 0
    text = capsys.readouterr().out
    assert f"forward and backward, by {by}" in text
    assert re.search(row, text, re.M), text
    shares = re.findall(r"^.+?  +(\d+\.\d\d) +(\d+\.\d\d)  ", text, re.M)
    for column in zip(*shares, strict=True):
        assert sum(map(float, column)) == pytest.approx(100, abs=0.1)


def test_the_data_and_the_page_have_it_too(capsys, tmp_path):
    assert run("cost", f"{TINY}:plain", "--by", "operator", "--format", "json") == 0
    result = json.loads(capsys.readouterr().out)["sections"][0]["result"]
    addmm = result["breakdown"]["addmm"]
    assert result["by"] == "operator"
    assert addmm["flops"]["forward"]["text"] == "4*b*d**2"
    assert addmm["at base"]["calls"] == 2
    page = tmp_path / "cost.html"
    assert run("cost", f"{TINY}:plain", "--by", "operator", "--output", page) == 0
    assert "by operator" in page.read_text()
    assert ">addmm<" in page.read_text()


def test_a_breakdown_by_nonsense_is_wrong_usage(capsys):
    assert run("cost", f"{TINY}:plain", "--by", "colour") == 2
    assert "module" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--budget", "30"], "--budget = 30.0: expected --time beside it"),
        (["--time", "--budget", "0"], "a finite number of seconds above 0"),
        (["--time", "--budget", "nan"], "a finite number of seconds above 0"),
        (["--time", "--at", "d=3"], "--at = 'd=3': expected it without --time"),
        (["--time", "--by", "line"], "--by = 'line': expected it without --time"),
        (["--time", "--solve", "d", "--fit-flops", "1e9"], "--solve = 'd'"),
        (["--time", "--compare", f"{TINY}:well"], "--compare"),
    ],
)
def test_two_questions_at_once_are_wrong_usage(words, expected, capsys):
    assert run("cost", f"{TINY}:plain", *words) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--compare", "nowhere.py:net"], "expected a file, but 'nowhere.py' does not exist"),
        (["--compare", ""], "target = ''"),
        (["--compare", f"{TINY}:well", "--compare", f"{TINY}:well"], "--compare = .* given once"),
        (["--solve", "b", "--solve", "d", "--fit-flops", "1e9"], "--solve = b, d: .* given once"),
        (["--solve", "d", "--fit-flops", "1", "--fit-flops", "2"], "--fit-flops = 1, 2: "),
        (["--solve", "", "--fit-flops", "1e9"], "--solve = ''"),
        (["--fit-memory", "1GB"], "--solve is missing: expected --solve together with"),
        (["--solve", "b"], "--fit-memory or --fit-flops is missing: expected --solve together"),
    ],
)
def test_questions_are_checked_before_anything_is_derived(words, expected, capsys, monkeypatch):
    def too_early(*_args, **_keywords):
        raise AssertionError("derived before the words were checked")

    monkeypatch.setattr("assay.cost.cost.cost_of", too_early)
    assert run("cost", f"{TINY}:plain", *words) == 2
    assert re.search(expected, capsys.readouterr().err)


def test_a_budget_that_nothing_fits_leaves_the_other_answers(capsys, tmp_path):
    words = ["cost", f"{TINY}:plain", "--solve", "d", "--fit-memory", "10", "--fit-flops", "1e9"]
    assert run(*words) == 3
    said = capsys.readouterr()
    assert "a budget that fits the least d, 1, which takes" in said.err
    text = " ".join(said.out.split())
    least = r"Expected a budget that fits the least d, 1, which takes [\d,]+\. Raise the budget"
    assert re.search(rf"The largest d within 10 bytes .*: not found\. {least}", text)
    assert re.search(r"The largest d within 1,000,000,000 flops of a training step.*: \d", text)
    assert run(*words, "--format", "json") == 3
    data = json.loads(capsys.readouterr().out)
    assert data["exit_code"] == 3
    none, some = data["sections"][0]["result"]["asked"]
    assert none["value"] is None
    assert "fits the least d, 1, which takes" in none["missing"]
    assert (some["value"] > 1000, some["missing"]) == (True, "")
    page = tmp_path / "page.html"
    assert run(*words, "--output", page) == 3
    assert "not found" in page.read_text()
    capsys.readouterr()
    assert run(*words, "--format", "sarif") == 3
    (done,) = json.loads(capsys.readouterr().out)["runs"]
    assert done["invocations"][0]["exitCode"] == 3
    (told,) = done["invocations"][0]["toolExecutionNotifications"]
    assert told["descriptor"] == {"id": "cost.unanswered"}
    assert "fits the least d, 1, which takes" in told["message"]["text"]
    assert done["invocations"][0]["executionSuccessful"] is False


def test_seconds_in_every_format(capsys, tmp_path):
    target = f"{TINY}:plain"
    page = tmp_path / "seconds.html"
    assert run("cost", target, "--time", "--budget", "0.5", "--output", page) == 0
    text = capsys.readouterr().out
    assert "How do the seconds of forward and backward grow" in text
    assert "Every point" in text
    assert "<svg" in page.read_text()
    assert run("cost", target, "-a", "d=4", "--time", "--budget", "0.3", "--format", "json") == 0
    result = json.loads(capsys.readouterr().out)["sections"][0]["result"]
    assert {law["phase"] for law in result["laws"]} == {"forward", "backward"}
    assert all(timing["device"] == "cpu" for timing in result["timings"])
    assert result["cost"]["flops"]["forward"]["status"] == "exact"


@pytest.mark.parametrize("more", [(), ("--time", "--budget", "0.3")])
def test_the_data_say_the_sizes_in_use_and_how_long_it_took(more, capsys):
    assert run("cost", f"{TINY}:plain", "--size", "b=3", *more, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"] == {"b": 3, "d": 8}
    assert found["environment"]["seconds"] == found["sections"][0]["seconds"] > 0


def test_without_a_size_there_is_nothing_to_vary(capsys):
    words = ["-a", "d=4", "-a", "b=2", "--time", "--budget", "0.3"]
    assert run("cost", f"{TINY}:plain", *words) == 3
    assert "at least one size to vary" in capsys.readouterr().err


BRANCHES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 8)

    def forward(self, x):
        return self.one(x) if len(x) == 1 else self.other(x)

def build(b: int = 3, n: int = 5):
    return Net(), torch.randn(b, n, 4)
"""


def test_a_size_that_is_asked_for_at_1_has_a_law_of_its_own_there(tmp_path, capsys):
    (tmp_path / "net.py").write_text(BRANCHES)
    words = ("cost", f"{tmp_path}/net.py:build", "--format", "json")

    def flops(*more):
        assert run(*words, *more) == 0
        return json.loads(capsys.readouterr().out)["sections"][0]["result"]["asked"][0]["values"]

    assert flops("--at", "b=1,n=10")["flops, forward"] == 2 * 4 * 4 * 10
    assert flops("--at", "b=2,n=10")["flops, forward"] == 2 * 4 * 8 * 20


HEADS = """
import torch
from torch import nn

def build(n: int = 4, d: int = 8):
    return nn.MultiheadAttention(d, 4, batch_first=True), tuple(torch.randn(2, n, d) for _ in "qkv")

class Whole(nn.Linear):
    def forward(self, x):
        return super().forward(x)

def whole(b: int = 2):
    return Whole(4, 4), torch.randint(5, (b, 4))
"""


def test_sizes_at_which_the_model_raises_could_not_be_measured(tmp_path, capsys):
    (tmp_path / "net.py").write_text(HEADS)
    assert run("cost", f"{tmp_path}/net.py:build", "--at", "d=26") == 3
    out, err = capsys.readouterr()
    assert "flops, forward " in out  # the formulas come first all the same
    assert "no formula here" not in out
    said = " ".join(out.split())
    assert "At n=4, d=26 there is no formula, and nothing could be counted: the model does" in said
    assert "traceback" not in out
    assert err.count("Traceback") == 1
    assert "return nn.MultiheadAttention(d, 4" in err
    assert "The traceback above is from your code" in err


def test_a_model_that_runs_without_data_alone_shows_its_traceback(tmp_path, capsys):
    (tmp_path / "net.py").write_text(HEADS)
    assert run("cost", f"{tmp_path}/net.py:whole", "--time", "--budget", "1") == 3
    err = capsys.readouterr().err
    assert "return super().forward(x)" in err
    assert "assay: forward = Whole: expected it to run, but your code raised RuntimeError" in err
