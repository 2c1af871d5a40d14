"""Threads that wait do not spin, unless the user says so; a library leaves its user's process alone."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def policy_after(code, **given):
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    program = f"import atexit, os; atexit.register(lambda: print(os.environ.get('OMP_WAIT_POLICY'))); {code}"
    done = subprocess.run(
        [sys.executable, "-c", program, "--version"],
        env={**environment, **given},
        capture_output=True,
        text=True,
    )
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ({"GOMP_SPINCOUNT": "1000"}, "None"),
    ],
)
def test_the_command_lets_threads_sleep_unless_the_user_chose(given, expected):
    assert policy_after("from assay.cli import run; run()", **given) == expected


def test_the_policy_is_set_before_torch_is_loaded():
    code = "import sys; import assay.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("code", ["import assay", "import assay.cli", "from assay import report"])
def test_an_import_changes_nothing_in_the_process(code):
    assert policy_after(code) == "None"
