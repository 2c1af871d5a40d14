"""Cards of optimizers from other people's packages against what their update formulas say (docs/units.md)."""

import functools
from importlib import import_module

import pytest
from test_cards import ALWAYS, DOCUMENT, ROTATIONS, documented

import assay
from assay.update.change import ROWS
from assay.update.table import optimizers_of

PACKAGE = {
    "Lion": "pytorch_optimizer",
    "Shampoo": "pytorch_optimizer",
    "SOAP": "pytorch_optimizer",
    "AdaFactor": "pytorch_optimizer",
    "Prodigy": "pytorch_optimizer",
    "SGDScheduleFree": "schedulefree",
    "AdamWScheduleFree": "schedulefree",
    "RAdamScheduleFree": "schedulefree",
}
# rows under which the trajectory stays, beside ALWAYS; the derivations stand in docs/units.md
EXPECTED = {
    "Lion": {"loss unit"},
    "Shampoo": {*ROTATIONS, "loss unit"},
    "AdaFactor": {"loss unit", "target unit"},
    "Prodigy": {"loss unit"},
    "SGDScheduleFree": ROTATIONS,
    "AdamWScheduleFree": {"loss unit"},
    "RAdamScheduleFree": {"loss unit"},
}
RATE = {
    "AdaFactor": "no unit",
    "Prodigy": "No unit of lr",
    "SGDScheduleFree": "weight² / loss",
}
BITWISE = {"Lion", "AdaFactor"}


@functools.cache
def card(name: str) -> assay.UnitsCard:
    pytest.importorskip(PACKAGE[name])
    find = optimizers_of(PACKAGE[name])[name]
    return assay.audit_units(find(), name=name)


def test_nothing_of_these_packages_is_loaded_by_assay() -> None:
    for package in set(PACKAGE.values()):
        for name in assay.__all__:
            home = getattr(getattr(assay, name), "__module__", "")
            assert package not in vars(import_module(home or "assay"))


@pytest.mark.parametrize("name", EXPECTED)
def test_card(name: str) -> None:
    found = card(name)
    same = {row for row in found if found[row].verdict == "invariant"}
    assert same == EXPECTED[name] | ALWAYS
    assert all(found[row].verdict == "not invariant" for row in set(ROWS) - same)
    assert RATE.get(name, "the unit of the weights") in found.lr_unit
    assert found["loss unit"].bitwise == (name in BITWISE)
    assert found["loss unit"].verdict != "invariant" or found["loss unit"].deviation <= 1e-5


def test_soap_is_chaotic_and_so_undetermined() -> None:
    """Its eigenbases are arbitrary where a factor `GGᵀ` has no full rank: round-off decides."""
    found = card("SOAP")
    assert all(v.verdict == "undetermined" for v in found.verdicts.values())
    assert found["input rotation"].control > 1e-3
    assert "chaotic" in found["input rotation"].reason


@pytest.mark.parametrize("name", PACKAGE)
def test_the_documented_table_is_the_expected_one(name: str) -> None:
    row = documented("| from a package")[name]
    if name == "SOAP":
        assert set(row.values()) == {"?"}
        return
    kept = {change for change, mark in row.items() if mark != "✗"}
    assert kept == EXPECTED[name]
    for change, mark in row.items():
        assert (mark == "ε") == card(name)[change].law.startswith("up to")
    assert f"**{name}" in DOCUMENT.read_text() or name in DOCUMENT.read_text()
