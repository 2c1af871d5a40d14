"""The card of every optimizer in torch.optim against what its update formula says (docs/units.md)."""

import functools
import math
from pathlib import Path

import pytest
import torch

import assay
from assay.update.change import ROWS, changes
from assay.update.optimizer import is_optimizer_class
from assay.update.trajectory import Setting, train
from assay.update.verdict import compare
from assay.update.world import Problem

DOCUMENT = Path(__file__).parents[2] / "docs" / "units.md"
ALWAYS = {"hidden permutation", "batch split"}
ROTATIONS = {"input rotation", "output rotation"}
# rows under which the trajectory stays, beside ALWAYS; the derivations stand in docs/units.md
EXPECTED = {
    "SGD": ROTATIONS,
    "ASGD": ROTATIONS,
    "Adadelta": set(),  # the loss unit only through ε = 1e-6, which is too large to pass
    "Adafactor": {"loss unit", "target unit"},
    "Adagrad": {"loss unit"},
    "Adam": {"loss unit"},
    "AdamW": {"loss unit"},
    "Adamax": {"loss unit"},
    "NAdam": {"loss unit"},
    "RAdam": set(),  # its first five steps are plain momentum
    "RMSprop": {"loss unit"},
    "Rprop": {"loss unit"},
    "SparseAdam": {"loss unit"},
    "LBFGS": {"loss unit"},  # where the first gradient's sum of magnitudes is above 1
    "Muon": {*ROTATIONS, "loss unit"},
}
RATE = {
    "SGD": "weight² / loss",
    "ASGD": "weight² / loss",
    "Adafactor": "no unit",
    "RAdam": "No unit of lr",
    "LBFGS": "No unit of lr",
}
BITWISE = {"Rprop": {"loss unit"}, "Adafactor": {"loss unit", "target unit"}, "Muon": {"loss unit"}}


@functools.cache
def card(name: str) -> assay.UnitsCard:
    return assay.audit_units(getattr(torch.optim, name))


def test_no_optimizer_is_left_out() -> None:
    there = {name for name in dir(torch.optim) if is_optimizer_class(getattr(torch.optim, name))}
    assert there == set(EXPECTED)


@functools.cache
def documented(table: str = "| optimizer") -> dict[str, dict[str, str]]:
    lines = DOCUMENT.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(table))
    head = [cell.strip() for cell in lines[start].strip("|").split("|")][1:]
    assert set(head) | ALWAYS == set(ROWS)
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        name, *marks = (cell.strip() for cell in line.strip("|").split("|"))
        found[name] = dict(zip(head, marks, strict=True))
    return found


def test_the_documented_table_is_the_expected_one() -> None:
    kept = {
        name: {r for r, mark in row.items() if mark != "✗"} for name, row in documented().items()
    }
    assert kept == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_the_documented_epsilons_are_the_measured_ones(name: str) -> None:
    for row, mark in documented()[name].items():
        assert (mark == "ε") == card(name)[row].law.startswith("up to ε")


@pytest.mark.parametrize("name", EXPECTED)
def test_card(name: str) -> None:
    found = card(name)
    assert tuple(found) == tuple(ROWS)
    same = {row for row in found if found[row].verdict == "invariant"}
    assert same == EXPECTED[name] | ALWAYS
    assert all(found[row].verdict == "not invariant" for row in set(ROWS) - same)
    assert RATE.get(name, "the unit of the weights") in found.lr_unit
    for row in BITWISE.get(name, set()):
        assert found[row].bitwise
    for row in found:
        assert found[row].control < 1e-8
        if row not in same:
            assert found[row].deviation > 1e-3
    assert not any(finding.fails for finding in found.findings)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_invariance_is_exact_or_an_epsilon(name: str) -> None:
    found = card(name)
    for row in EXPECTED[name] | ALWAYS:
        if "ε" in found[row].law:
            assert found[row].deviation < 1e-5
        else:
            assert found[row].deviation <= 100 * found[row].control


def test_sgd_laws_are_those_of_the_theory() -> None:
    sgd = card("SGD")
    assert "multiplied by ln 2" in sgd["loss unit"].law  # U6
    assert "divided by |c[j]|²" in sgd["input scale"].law  # U4
    assert "c[i]²" in sgd["hidden scale"].law  # U8 b
    assert "divided by a²" in sgd["target unit"].law
    assert sgd["input shift"].law == ""


def test_the_law_of_the_loss_unit_holds_when_it_is_followed() -> None:
    """Independently of the card: train in bits with lr · ln 2."""
    problem = Problem()
    world = problem.world()
    bits = changes(problem)["loss unit"][0].apply(world)
    at = lambda lr: Setting(functools.partial(torch.optim.SGD, lr=lr), "SGD", problem)  # noqa: E731
    nats = train(at(0.02), world)
    assert compare(nats, train(at(0.02), bits)).last > 0.1
    assert compare(nats, train(at(0.02 * math.log(2)), bits)).last < 1e-12


def test_coupled_weight_decay_is_named_as_the_cause() -> None:
    found = assay.audit_units(functools.partial(torch.optim.Adam, weight_decay=0.1))["loss unit"]
    assert found.verdict == "not invariant"
    assert "comes from weight decay" in found.law


def test_adadelta_depends_on_the_loss_unit_through_epsilon() -> None:
    found = card("Adadelta")["loss unit"]
    assert "comes from ε" in found.law
    assert "1e-06" in found.law


def test_the_size_of_adams_leak() -> None:
    leak = card("Adam")["loss unit"]
    assert 1e-9 < leak.deviation < 2e-7
    assert leak.law.startswith("up to ε")
    exact = assay.audit_units(functools.partial(torch.optim.Adam, eps=0.0))["loss unit"]
    assert exact.verdict == "invariant"
    assert exact.deviation <= 1e-15
    assert exact.bitwise


def test_momentum_keeps_the_card_of_sgd() -> None:
    found = assay.audit_units(functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9))
    assert {row for row in found if found[row].verdict == "invariant"} == ROTATIONS | ALWAYS
    assert "ln 2" in found["loss unit"].law


@pytest.mark.parametrize("options", [{"foreach": True}, {"fused": True}, {"amsgrad": True}])
def test_other_implementations_of_a_rule_have_its_card(options: dict[str, bool]) -> None:
    found = assay.audit_units(functools.partial(torch.optim.Adam, **options), Problem(steps=8))
    assert {row for row in found if found[row].verdict == "invariant"} == EXPECTED["Adam"] | ALWAYS
    assert "in proportion to ε" in found["loss unit"].law
