"""UnitSGD and UnitMuon in other units: an own twin for every change, and the card of audit_units."""

import functools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from twins import (
    apart,
    factors,
    hidden_times,
    inputs_plus,
    inputs_times,
    loss_times,
    mlp,
    targets_times,
    turned,
)

import assay
from assay.optim import UnitMuon, UnitSGD
from assay.update.world import Problem

DECAYED = functools.partial(UnitSGD, weight_decay=0.5)
MAKERS = [UnitSGD, DECAYED, functools.partial(UnitMuon, weight_decay=0.5)]
KEPT = {"input scale", "input shift", "hidden scale", "loss unit", "target unit"}
DYADIC = {
    "inputs": lambda r: inputs_times(r, factors(5, 2.0, 0.25, 2.0**10, 1.0)),
    "hidden": lambda r: hidden_times(r, factors(7, 2.0**8, 0.5, 1.0)),
    "loss": lambda r: loss_times(r, 2.0**-7),
    "targets": lambda r: loss_times(targets_times(r, 2.0**9), 2.0**-18),
    "squares of targets": lambda r: targets_times(r, 2.0**5),
}
OTHERS = {
    "inputs": lambda r: inputs_times(r, factors(5, 1e6, 1e-6, 3.7)),
    "Fahrenheit": lambda r: inputs_plus(inputs_times(r, factors(5, 1.8)), factors(5, 32.0)),
    "hidden": lambda r: hidden_times(r, factors(7, 1e6, 0.3, 1e-6)),
    "bits": lambda r: loss_times(r, 1 / math.log(2)),
    "targets": lambda r: targets_times(r, 1000.0),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", DYADIC)
def test_powers_of_two_come_out_bit_by_bit(change, dtype, make):
    run = mlp(dtype=dtype)
    assert torch.equal(run.outputs(make), DYADIC[change](run).outputs(make))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("change", OTHERS)
def test_other_factors_leave_round_off(change, make):
    run = mlp()
    assert apart(run.outputs(make), OTHERS[change](run).outputs(make)) <= 1e-12


def test_it_does_learn():
    run = mlp()
    outputs = run.outputs(UnitSGD, steps=60)
    first, last = (run.loss(outputs[i], run.y) for i in (0, -1))
    assert last < 0.5 * first


@given(
    exponents=st.lists(st.integers(-30, 30), min_size=5, max_size=5),
    hidden=st.lists(st.integers(-30, 30), min_size=7, max_size=7),
    loss=st.integers(-30, 30),
)
@settings(max_examples=15, derandomize=True)
def test_any_powers_of_two(exponents, hidden, loss):
    run = mlp()
    twin = hidden_times(
        inputs_times(run, 2.0 ** torch.tensor(exponents)), 2.0 ** torch.tensor(hidden)
    )
    assert torch.equal(run.outputs(UnitSGD, 4), loss_times(twin, 2.0**loss).outputs(UnitSGD, 4))


def test_without_a_bias_a_shift_is_not_taken_up():
    run = mlp(bias=False)
    assert (
        apart(run.outputs(UnitSGD), inputs_plus(run, factors(5, 1.0, -2.0)).outputs(UnitSGD)) > 1e-3
    )
    scaled = inputs_times(run, factors(5, 2.0, 0.25))
    assert torch.equal(run.outputs(UnitSGD), scaled.outputs(UnitSGD))


def test_no_rotation():
    run = mlp()
    q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    assert apart(run.outputs(UnitSGD), turned(run, q).outputs(UnitSGD)) > 1e-3


@functools.cache
def card(make, dtype=torch.float64):
    return assay.audit_units(make, Problem(dtype=dtype))


@pytest.mark.parametrize("make", MAKERS)
def test_card(make):
    found = card(make)
    for row in KEPT:
        assert found[row].verdict == "invariant", row
        assert found[row].deviation <= 1e-12
        assert found[row].bitwise == (row != "input shift")
        assert "1e6" in found[row].law or "1e+06" in found[row].law or row == "input shift"
    for row in ("input rotation", "input basis", "output rotation"):
        assert found[row].verdict == "not invariant", row
    assert "no unit" in found.lr_unit
    assert not any("2-D" in remark for remark in found.remarks)


@pytest.mark.parametrize("name", ["UnitSGD", "UnitMuon"])
def test_the_command_can_name_them(name):
    from click.testing import CliRunner

    from assay.cli import command

    run = CliRunner().invoke(
        command, ["units", f"assay.optim:{name}", "-a", "lr=0.005", "--steps", "5"]
    )
    assert run.exit_code == 0, run.output
    assert "lr carries no unit" in run.output
