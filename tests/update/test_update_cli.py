"""`assay steps` and `assay units` as a user meets them who makes mistakes."""

import json
from pathlib import Path
from typing import Any

import pytest

from assay.cli import main

FILE = """
import torch
from torch import nn
from torch.optim import SGD

def net(b: int = 6, d: int = 4):
    return nn.Linear(d, 2), torch.randn(b, d), lambda u: u.square().mean()

def flat(b: int = 6):
    return nn.Linear(4, 2), torch.randn(b, 4), lambda u: (u * 0).sum()

def raising(b: int = 6):
    return nn.Linear(4, 2), torch.randn(b, 4), lambda u: u.nothing

class Raises(SGD):
    def step(self, closure=None):
        raise RuntimeError("step boom")

class Late(SGD):
    count = 0
    def step(self, closure=None):
        self.count += 1
        if self.count > 3:
            raise RuntimeError("late boom")
        return super().step()

def nothing(model):
    return None
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return str(path)


def test_optimizers_norm_and_warm_up_are_taken(place: str, capsys: Any) -> None:
    words = ["steps", f"{place}:net", "--optimizers", "torch.optim:Adam,torch.optim:SGD"]
    assert main([*words, "--norm", "function", "--warmup", "2", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    result = report["sections"][0]["result"]
    assert [row["name"] for row in result["rows"]] == ["Adam", "SGD"]
    assert (result["norm"], result["warmup"]) == ("function", 2)
    assert report["sizes"] == {"b": 6, "d": 4}


def test_one_that_raises_is_compared_without_and_does_not_pass(place: str, capsys: Any) -> None:
    assert main(["steps", f"{place}:net", "--optimizer", f"{place}:Raises"]) == 3
    streams = capsys.readouterr()
    assert "Not compared: Raises (RuntimeError: step boom)" in streams.out.replace("\n", " ")
    assert "SGD and RMSProp are" in streams.out.replace("\n", " ")
    assert 'raise RuntimeError("step boom")' in streams.err
    assert "src/assay" not in streams.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["units", "FILE:Raises"], 3, 'raise RuntimeError("step boom")'),
        (["units", "FILE:Late"], 3, 'raise RuntimeError("late boom")'),
        (["units", "FILE:nothing"], 2, "NoneType"),
        (["units", "FILE:missing"], 2, "a name that exists"),
        (["units", "torch.optim:Adam", "-a", "lr=abc"], 2, "lr = 'abc'"),
        (["units", "torch.optim:Adam", "-a", "betas=3"], 2, "TypeError"),
        (["units", "torch.optim:Optimizer"], 2, "argument defaults = not given"),
        (["steps", "FILE:net", "--optimizers", "torch.optim:SGD"], 2, "two or more"),
        (["steps", "FILE:net", "--optimizers", "torch.optim:SGD,torch.optim:SGD"], 0, ""),
        (["steps", "FILE:net", "--optimizers", ",,"], 2, "torch.optim:Adam"),
        (["steps", "FILE:net", "--optimizer", "torch.optim:Adam", "--lr", "-1"], 2, "lr = -1.0"),
        (["steps", "FILE:net", "--warmup", "-1"], 2, "warmup = -1"),
        (["steps", "FILE:flat"], 3, "a gradient of zero"),
        (["steps", "FILE:raising"], 3, "lambda u: u.nothing"),
    ],
)
def test_mistakes(words: list[str], code: int, said: str, place: str, capsys: Any) -> None:
    assert main([word.replace("FILE", place) for word in words]) == code
    text = capsys.readouterr().err
    assert said in text
    assert "src/assay" not in text
    if code == 2:
        assert "Traceback" not in text
