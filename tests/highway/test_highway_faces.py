"""The command, and the page about it."""

import json
import math
import re

import pytest
import torch
from roads import D, Written, linear, measured, rows, stack

from assay.cli import main
from assay.highway import rules


@pytest.mark.parametrize(("cell", "code"), [("gru", 1), ("highway", 0)])
def test_the_command(cell, code, pytestconfig, capsys):
    target = str(pytestconfig.rootpath / "examples" / f"recurrent.py:{cell}")
    words = ["highway", target, "--size", "n=24", "--size", "b=2", "--format", "json"]
    assert main(words) == code
    (section,) = json.loads(capsys.readouterr().out)["sections"]
    assert section["name"] == "highway"
    assert section["result"]["paths"][0]["length"] == 24


def test_every_rule_is_on_the_page_and_every_rule_of_the_page_exists(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "highway.md").read_text()
    with open(rules.__file__, encoding="utf-8") as file:
        made = set(re.findall(r'rule="(highway\.[\w-]+)"', file.read()))
    assert set(re.findall(r"^\| `(highway\.[\w-]+)`", page, re.M)) == made


def test_the_python_on_the_page_runs(pytestconfig):
    page = (pytestconfig.rootpath / "docs" / "highway.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, names)
    assert names["after"].longest.length == 40


def test_a_gradient_that_grows_does_not_survive_in_part():
    assert rules.kept(1.82, "it") == "the gradient's norm grows 1.82-fold along it"
    assert rules.kept(1.0003, "it") == "all of the gradient's norm survives it"
    assert rules.kept(0.3, "the path") == "0.3 of the gradient's norm survives the path"
    assert (
        rules.kept(1.0004, "it")
        == rules.kept(1.0, "it")
        == "all of the gradient's norm survives it"
    )


def test_a_path_that_loses_nothing_is_told_without_a_half_life():
    model = stack(lambda: Written(lambda m, x: x + m.f(x), f=linear(bias=False)), 3).double()
    for block in model:
        block.f.weight.data.copy_(-6e-5 * torch.eye(D))
    highways = measured(model, rows().double())
    assert 3000 < highways.longest.half_life < math.inf
    assert "half-life" not in highways.view().answer
