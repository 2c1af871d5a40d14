"""The command line as a user meets it: words in, text and an exit code out."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import assay.cli
from assay.cli import main
from assay.errors import UsageError

TINY = str(Path(__file__).with_name("tiny.py"))


def run(*words):
    return main([str(word) for word in words])


def test_help_names_every_command_and_exit_code(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    for name in (
        "report",
        "scale",
        "highway",
        "cost",
        "steps",
        "units",
        "certify",
        "verify",
        "bound",
    ):
        assert re.search(rf"^  {name}\b", text, re.M)
    assert "Exit codes" in text
    assert not re.search(r"\.\.\.$", text.partition("Commands:")[2], re.M)  # no summary is cut
    assert max(map(len, text.splitlines())) <= 80
    assert run("--version") == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["report", "--help"],
        ["report"],
        ["report", "nosuch.py:x"],
        ["report", f"{TINY}:well", "--size", "b=0"],
        ["report", f"{TINY}:well", "--size", "b"],
        ["report", f"{TINY}:well", "--output", "/no/such/folder/x.html"],
        ["cost", f"{TINY}:well", "--at", "b=x"],
    ],
)
def test_help_and_usage_errors_do_not_load_torch(words):
    code = (
        "import sys; from assay.cli import main; code = main(sys.argv[1:]);"
        "print('torch' in sys.modules, code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    expected = "False 0" if "--help" in words else "False 2"
    assert done.stdout.strip().splitlines()[-1] == expected, done.stderr


def test_a_healthy_model_passes(capsys, tmp_path):
    page = tmp_path / "report.html"
    assert run("report", f"{TINY}:well", "--output", page) == 0
    text = capsys.readouterr().out
    assert str(page) in text.replace("\n", "")
    assert page.read_text().startswith("<!DOCTYPE html>") or page.read_text().startswith(
        "<!doctype html>"
    )


def test_a_dying_signal_is_found(capsys):
    assert run("scale", f"{TINY}:deep") == 1
    assert "scale." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["report", f"{TINY}:nosuch"], "there is no 'nosuch'"),
        (["report", f"{TINY}:well", "--size", "q=3"], "a parameter of"),
        (["report", f"{TINY}:well", "-a", "q=3"], "a parameter of"),
        (["report", f"{TINY}:well", "--size", "b=2", "--size", "b=3"], "given once"),
        (["report", f"{TINY}:well", "--size", "b=two"], "integer of at least 1"),
        (["report", f"{TINY}:well", "--lr", "0.1"], "--optimizer"),
        (["report", f"{TINY}:well", "--optimizer", "torch.optim:SGD", "--lr", "-1"], "--lr = -1.0"),
        (["report", f"{TINY}:well", "--optimizer", "torch.optim:Adam", "--lr", "0"], "--lr = 0.0"),
        (
            ["report", f"{TINY}:well", "--optimizer", "torch.optim:Adam", "--lr", "nan"],
            "--lr = nan",
        ),
        (["report", f"{TINY}:well", "--optimizer", "torch.optim:Nope"], "Nope"),
        (["report", f"{TINY}:well", "--optimizer", "Nope"], "Nope"),
        (["report", f"{TINY}:well", "--delta", "2"], "delta"),
        (["cost", f"{TINY}:well", "--at", "q=3"], "a size of"),
        (["units", "torch.optim:Nope"], "Nope"),
        (["units", "torch.optim:Adm"], "Did you mean 'Adam'?"),
        (["units"], "OPTIMIZER is missing: expected package.module:name"),
        (["bound", "--errors", "5", "--examples", "3", "--bits", "1"], "errors"),
        (["ls", "nosuch.py"], "does not exist"),
    ],
)
def test_wrong_usage_is_one_paragraph(words, expected, capsys):
    assert run(*words) == 2
    text = capsys.readouterr().err
    assert expected in text
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) <= 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("builder_raises", "no such corpus"),
        ("forward_raises", "ones(7, 7)"),
        ("nan", "NaN"),
        ("no_float", "floating-point"),
        ("vector_loss", "loss(output)"),
        ("no_inputs", "input"),
    ],
)
def test_what_cannot_be_measured_is_said_and_the_rest_appears(name, expected, capsys, tmp_path):
    page = tmp_path / "report.html"
    assert run("report", f"{TINY}:{name}", "--output", page) == 3
    streams = capsys.readouterr()
    assert expected in (streams.out + streams.err).replace("\n", " ").replace("  ", " ") or (
        expected in page.read_text()
    )
    for section in ("Scale", "Highway", "Cost", "Step", "Units", "Certificate"):
        assert section in page.read_text()


def test_an_interrupt_leaves_no_page(monkeypatch, tmp_path, capsys):
    import assay.reporting.report

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(assay.reporting.report, "report", interrupted)
    page = tmp_path / "report.html"
    assert run("report", f"{TINY}:well", "--output", page) == 130
    assert not list(tmp_path.iterdir())
    assert "Interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "html", "sarif", "text"])
def test_formats(form, capsys):
    assert run("scale", f"{TINY}:plain", "--format", form) in (0, 1)
    text = capsys.readouterr().out
    if form in ("json", "sarif"):
        json.loads(text)
    elif form == "html":
        assert "</html>" in text


def test_cost_at_sizes(capsys):
    assert run("cost", f"{TINY}:plain", "--at", "d=1000,b=1") == 0
    text = capsys.readouterr().out
    assert "At b=1, d=1000:" in text
    assert "4,000,000" in text  # two layers, 2·b·d² each


def test_units_of_an_optimizer(capsys):
    assert run("units", "torch.optim:SGD", "-a", "lr=0.01") == 0
    assert "input scale" in capsys.readouterr().out


def test_steps(capsys):
    assert run("steps", f"{TINY}:well", "--optimizer", "torch.optim:Adam", "--lr", "0.001") == 0
    assert "°" in capsys.readouterr().out


def test_steps_try_the_named_optimizer_at_its_rate(capsys, tmp_path):
    net = tmp_path / "net.py"
    net.write_text(
        "import torch\n"
        "def net():\n"
        "    loss = lambda y: (y - 1).square().mean()\n"
        "    return torch.nn.Linear(4, 2), torch.randn(8, 4), loss\n"
    )
    named = ("steps", f"{net}:net", "--optimizer", "torch.optim:Adam", "--lr")
    assert run(*named, "0.001") == 0
    assert "step.diverged" not in capsys.readouterr().out
    assert run(*named, "1000") == 1
    assert "step.diverged" in capsys.readouterr().out


def test_certify_then_verify(tmp_path, capsys):
    path = tmp_path / "model.assay"
    assert run("certify", f"{TINY}:well", "--output", path) == 0
    assert run("verify", path, f"{TINY}:well") == 0
    path.write_bytes(path.read_bytes()[:-1])
    assert run("verify", path, f"{TINY}:well") == 4
    assert run("verify", tmp_path / "none.assay", f"{TINY}:well") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_bound(capsys):
    assert run("bound", "--errors", "0", "--examples", "1000", "--bits", "10") == 0
    assert "0.0" in capsys.readouterr().out


def test_ls(capsys):
    assert run("ls", TINY) == 0
    text = capsys.readouterr().out
    assert "b=4, d=8" in text
    assert "_digits" not in text


def test_users_own_traceback_is_shown_when_their_file_raises(tmp_path, capsys):
    path = tmp_path / "raises.py"
    path.write_text("def helper():\n    return {}['corpus']\nhelper()\n")
    assert run("report", f"{path}:x") == 3
    text = capsys.readouterr().err
    assert "return {}['corpus']" in text
    assert "KeyError" in text
    assert "src/assay" not in text


def test_console_script_and_module(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["assay", "--version"])
    with pytest.raises(SystemExit) as stop:
        assay.cli.run()
    assert stop.value.code == 0


def test_broken_pipe_is_quiet(monkeypatch):
    def burst(*args, **kwargs):
        raise BrokenPipeError

    monkeypatch.setattr(assay.cli.command, "main", burst)
    monkeypatch.setattr(assay.cli.os, "dup2", lambda *a: None)
    assert main(["bound"]) == 0


def test_a_reader_that_has_seen_enough_is_no_exit_of_the_users_code(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net(b: int = 2):\n"
        "    return nn.Linear(3, 3), torch.randn(b, 3)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "assay", "cost", "net.py:net"],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_bar_draws_on_a_terminal_only(monkeypatch):
    from rich.console import Console

    from assay.cli.lines import Lines
    from assay.cli.options import bar

    with bar() as progress:
        assert isinstance(progress, Lines)
    monkeypatch.setattr(Console, "is_terminal", True)
    with bar() as progress:
        progress("training", 1, 2, "loss 3")
        progress("training", 2, 2)


def test_pairs_refuse_nonsense():
    from assay.cli.options import pairs

    with pytest.raises(UsageError, match="NAME=VALUE"):
        pairs("-a", ("1x=3",))


@pytest.mark.parametrize("name", ["report", "steps", "units", "cost", "certify", "ls"])
def test_help_is_laid_out(name, capsys):
    assert run(name, "--help") == 0
    text = capsys.readouterr().out
    assert "\b" not in text
    assert "\\b" not in text
    if name == "report":
        assert "\n    assay report hf:gpt2" in text


@pytest.mark.parametrize("name", ["leaves", "leaves_in_forward", "leaves_in_loss"])
@pytest.mark.parametrize("command", ["report", "scale"])
def test_an_exit_in_the_users_code_is_no_exit_of_ours(name, command, capsys):
    assert run(command, f"{TINY}:{name}") == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "your code raised SystemExit: 0" in text
    assert "sys.exit(0)" in text


class Odd(BaseException):
    """As some event loops raise."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SystemExit(0), "your code raised SystemExit: 0"),
        (Odd("x"), "your code raised Odd: x"),
        (ZeroDivisionError("x"), "error inside assay"),  # 1 would say that something was found
        (FileNotFoundError(2, "gone"), "error inside assay"),
    ],
)
def test_whatever_ends_a_command_is_neither_a_pass_nor_a_finding(
    error, expected, monkeypatch, capsys
):
    def raises(*args, **kwargs):
        raise error

    monkeypatch.setattr(assay.cli.command, "main", raises)
    assert main(["scale"]) == 3
    assert expected in capsys.readouterr().err


def test_a_file_that_parses_its_own_command_line_is_given_none(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(
        "import argparse, torch\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--width', type=int, default=6)\n"
        "width = parser.parse_args().width\n"
        "def net(b: int = 2):\n"
        "    return torch.nn.Linear(width, 3), torch.randn(b, width)\n"
    )
    words = ["assay", "cost", f"{tmp_path}/train.py:net", "--at", "b=7"]
    monkeypatch.setattr(sys, "argv", words)
    assert main() == 0
    assert sys.argv is words


def test_one_error_is_told_once_and_torch_is_quiet(tmp_path, capfd):
    assert run("report", f"{TINY}:forward_raises", "--output", tmp_path / "report.html") == 3
    streams = capfd.readouterr()
    assert not streams.err
    assert streams.out.count("Traceback (most recent call last)") == 1
    assert "src/assay" not in streams.out


def test_ctrl_c_in_mid_run_leaves_nothing(tmp_path):
    page = tmp_path / "report.html"
    slow = subprocess.Popen(
        [sys.executable, "-m", "assay", "report", f"{TINY}:slow", "--output", page],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert slow.stderr.readline() == "building\n"
    slow.send_signal(signal.SIGINT)
    out, err = slow.communicate(timeout=60)
    assert slow.returncode == 130
    assert err.strip() == "Interrupted. Nothing was left half-written."
    assert not out
    assert not list(tmp_path.iterdir())


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")


@FULL
def test_a_full_disk_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("os.replace", None)  # nothing may take the place of a device
    assert run("scale", f"{TINY}:well", "--format", "json", "--output", "/dev/full") == 2
    text = capsys.readouterr().err
    assert "No space left on device" in text
    assert len(text.strip().splitlines()) == 1


@FULL
def test_a_full_standard_output_is_one_sentence():
    words = ["bound", "--errors", "0", "--examples", "1000", "--bits", "10"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "assay", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert "No space left on device" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


NET = """
import torch
from torch import nn


def lin(b: int = 4, d: int = 8, out: int = 3):
    return nn.Sequential(nn.Linear(d, d), nn.Linear(d, out)), torch.randn(b, d)
"""


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii"])
def test_an_encoding_that_lacks_characters_loses_these_alone(encoding, form, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    done = subprocess.run(
        [sys.executable, "-m", "assay", "cost", "net.py:lin", "--format", form],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if form == "json":  # which is UTF-8 by its definition
        assert json.loads(done.stdout.decode("utf-8"))["sections"]
    else:
        assert b"matrix products" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="`>&-` is of a POSIX shell")
@pytest.mark.parametrize("more", ["", " --format json", " --output found.json"])
def test_a_closed_standard_output_is_no_error(more, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    done = subprocess.run(
        f"{sys.executable} -m assay cost net.py:lin{more} >&-",
        shell=True,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "found.json").exists() == ("output" in more)


def test_what_the_users_code_prints_stays_out_of_data(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\ndef build(b: int = 2):\n    print('building')\n"
        "    return nn.Linear(3, 3), torch.randn(b, 3)\n"
    )
    assert main(["scale", f"{tmp_path}/net.py:build", "--format", "json"]) in (0, 1)
    out, err = capsys.readouterr()
    assert json.loads(out)["sections"]
    assert "building" in err
    assert sys.stdout is not sys.stderr


def test_a_tuple_of_four_is_told_once(tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\ndef build(b: int = 2):\n"
        "    return nn.Linear(3, 3), torch.randn(b, 3), None, nn.MSELoss()\n"
    )
    assert main(["report", f"{tmp_path}/net.py:build"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("returned a tuple of 4") == 1


@pytest.mark.parametrize("command", ["report", "certify"])
def test_empty_examples_are_wrong_usage_of_every_command(command, tmp_path, capsys):
    (tmp_path / "net.py").write_text(
        "import assay, torch\nfrom torch import nn\ndef build(b: int = 2):\n"
        "    none = torch.zeros(0, 3), torch.zeros(0).long()\n"
        "    return assay.Subject(nn.Linear(3, 3), torch.randn(b, 3), examples=none)\n"
    )
    assert main([command, f"{tmp_path}/net.py:build"]) == 2
    assert "examples = empty" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [2**64, -1])
@pytest.mark.parametrize("command", ["scale", "report", "steps", "certify"])
def test_a_seed_that_generators_do_not_take_is_wrong_usage(command, seed, capsys):
    assert run(command, f"{TINY}:net", "--seed", seed) == 2
    assert "an integer from 0 to 2^62 − 1" in capsys.readouterr().err


def test_a_format_that_the_suffix_contradicts_is_wrong_usage(tmp_path, capsys):
    path = tmp_path / "x.html"
    assert run("highway", f"{TINY}:well", "--format", "json", "-o", path) == 2
    assert "which the suffix of" in capsys.readouterr().err
    assert not path.exists()
    assert run("highway", f"{TINY}:well", "--format", "json", "-o", tmp_path / "x.out") in (0, 1)
    assert json.loads((tmp_path / "x.out").read_text())["schema"]


def test_an_optimizer_that_does_not_exist_is_called_one(capsys):
    assert run("report", f"{TINY}:well", "--optimizer", "torch.optm:Adam") == 2
    assert "optimizer = 'torch.optm:Adam'" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["json", "html", "sarif"])
def test_a_file_and_standard_output_end_alike(form, capsys, tmp_path):
    path = tmp_path / f"out.{form}"
    assert run("scale", f"{TINY}:plain", "--output", path) in (0, 1)
    capsys.readouterr()
    assert run("scale", f"{TINY}:plain", "--format", form) in (0, 1)
    printed, written = capsys.readouterr().out, path.read_text()
    assert printed[-4:] == written[-4:]
    assert written.endswith("\n")
    assert not written.endswith("\n\n")
