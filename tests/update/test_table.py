"""Many optimizers in one table: one that fails stands in it with its reason, and the rest still appears."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len

from assay.cli import main
from assay.errors import UsageError
from assay.update.change import ROWS
from assay.update.table import UnitsTable, audit_many, optimizers_of
from assay.update.world import Problem

FILE = '''
import torch
from torch.optim import SGD, Adam

class Good(SGD):
    """A plain one."""

class Raises(SGD):
    def step(self, closure=None):
        raise RuntimeError("no step today")

class Needs(SGD):
    def __init__(self, params, base_optimizer):
        super().__init__(params)

class Rebuilds(SGD):
    """Changes the model's modules when it is made: the twins keep their function."""

    def __init__(self, model, lr=0.02):
        layer = torch.nn.Linear(5, 8, dtype=torch.float64)
        layer.load_state_dict(model.hidden.state_dict())
        model.hidden = layer
        super().__init__(model.parameters(), lr=lr)

class Restless(SGD):
    """Changes them while it steps."""

    def __init__(self, model, lr=0.02):
        self.model = model
        super().__init__(model.parameters(), lr=lr)

    def step(self, closure=None):
        super().step()
        self.model.extra = torch.nn.Linear(1, 1)

class Silent(SGD):
    def step(self, closure=None):
        pass

class Talks(Adam):
    def step(self, closure=None):
        print("chatter")
        return super().step()

class Hessian(SGD):
    """Needs gradients that can be differentiated once more."""

    def step(self, closure=None):
        weights = self.param_groups[0]["params"]
        grads = [p.grad for p in weights]
        again = torch.autograd.grad(sum(g.square().sum() for g in grads), weights)
        super().step()
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("optimizers") / "mine.py"
    path.write_text(FILE)
    return str(path)


@pytest.fixture(scope="module")
def table(place: str) -> UnitsTable:
    own = {k: v for k, v in optimizers_of(place).items() if k not in ("SGD", "Adam")}
    return audit_many(own, Problem(steps=6))


def test_every_one_is_in_the_table_or_has_a_reason(table: UnitsTable) -> None:
    assert set(table.cards) == {"Good", "Talks", "Rebuilds", "Hessian"}
    why = {one.name: (one.kind, one.why) for one in table.missing}
    assert why["Raises"] == ("failed", "RuntimeError: no step today")
    assert why["Needs"][0] == "not asked"
    assert "base_optimizer" in why["Needs"][1]
    assert "did not move" in why["Silent"][1]
    assert "changed which parameters the model has" in why["Restless"][1]
    assert {one.name for one in table.failed} == {"Raises", "Silent", "Restless"}


def test_what_is_unusual_is_remarked(table: UnitsTable) -> None:
    assert any("differentiated once more" in r for r in table["Hessian"].remarks)
    assert any("changed which parameters" in r for r in table["Rebuilds"].remarks)
    assert table["Rebuilds"]["input rotation"].verdict == "invariant"
    with pytest.raises(UsageError, match="no step today"):
        table["Raises"]


def test_the_table_has_a_mark_for_every_row(table: UnitsTable) -> None:
    head, *_ = table.view().blocks
    assert len(head.columns) == len(ROWS) + 2
    text = str(table)
    assert "Good" in text
    assert "w²/loss" in text
    assert "no step today" in text
    assert "Without a card:" in table.view().answer
    assert max(map(cell_len, text.splitlines())) <= 100
    assert json.loads(json.dumps(table.to_dict()))["cards"]["Good"]["name"] == "Good"


def test_the_command_prints_it_and_says_that_something_failed(place: str, capsys: Any) -> None:
    assert main(["units", "--package", place, "--steps", "4", "--format", "json"]) == 3
    out = capsys.readouterr().out
    assert (
        "chatter" not in out
    )  # what optimizers print does not end up between the lines of the JSON
    section = json.loads(out)["sections"][0]
    assert set(section["result"]["cards"]) >= {"Good", "SGD", "Adam"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["units"], "--all"),
        (["units", "torch.optim:SGD", "--all"], "no single one"),
        (["units", "--all", "-a", "lr=1"], "a single OPTIMIZER beside it"),
        (["units", "--all", "--on", "x.py:f"], "a single OPTIMIZER beside it"),
        (["units", "torch.optim:SGD", "--size", "n=3"], "--on TARGET"),
        (["units", "--package", "math"], "classes of optimizers"),
        (["units", "--package", "no_such_module"], "no_such_module"),
        (["units", "torch.optim:SGD", "--dtype", "int8"], "int8"),
    ],
)
def test_wrong_usage_is_told(words: list[str], said: str, capsys: Any) -> None:
    assert main(words) == 2
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text


def test_your_own_model_from_the_command_line(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "def net(b: int = 8, d: int = 3):\n"
        "    x = torch.randn(b, d) * 50 + 20\n"
        "    return nn.Linear(d, 1), x, lambda u: u.square().mean()\n"
    )
    words = ["units", "torch.optim:Adam", "-a", "lr=1e-3", "--on", f"{path}:net", "--size", "d=2"]
    assert main([*words, "--steps", "4", "--dtype", "float32", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)["sections"][0]["result"]
    assert [f["index"] for f in result["features"]] == [0, 1]
    assert result["problem"]["dtype"] == "torch.float32"
    assert result["problem"]["steps"] == 4


def test_progress_counts_optimizers() -> None:
    told: list[tuple[str, int, int]] = []
    sgd = functools.partial(torch.optim.SGD, lr=0.01)
    audit_many(
        {"one": lambda: sgd, "two": lambda: sgd},
        Problem(steps=2),
        progress=lambda task, done, total, note="": told.append((task, done, total)),
    )
    assert told == [("optimizers", 0, 2), ("optimizers", 1, 2), ("optimizers", 2, 2)]
