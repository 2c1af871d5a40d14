"""`assay certify`, `verify` and `bound`: what each kind of file and of mistake exits with."""

import dataclasses
import os

import pytest

from assay.certificate import file
from assay.cli import main

BUILDERS = """
import torch
from torch import nn
import assay

def examples():
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    return assay.Examples(x, (x[:, 0] > 0).long())

def fit(model, examples, progress):
    rule = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(20):
        rule.zero_grad()
        nn.functional.cross_entropy(model(*examples.inputs), examples.targets).backward()
        rule.step()

def good(d: int = 4):
    return assay.Subject(nn.Linear(d, 2), torch.zeros(2, d), examples=examples, fit=fit)

def other(d: int = 4):
    return assay.Subject(nn.Linear(d, 2, bias=False), torch.zeros(2, d), examples=examples, fit=fit)

def without(d: int = 4):
    return nn.Linear(d, 2), torch.zeros(2, d)

def empty(d: int = 4):
    return assay.Subject(nn.Linear(d, 2), examples=lambda: (torch.zeros(0, d), torch.zeros(0).long()))

def fit_raises(d: int = 4):
    def fit(model, examples, progress):
        return {}["no such key"]
    return assay.Subject(nn.Linear(d, 2), examples=examples, fit=fit)

def examples_raise(d: int = 4):
    def read():
        return open("/no/such/file")
    return assay.Subject(nn.Linear(d, 2), examples=read)

def diverging(d: int = 4):
    def fit(model, examples, progress):
        model.weight.data.fill_(float("nan"))
    return assay.Subject(nn.Linear(d, 2), examples=examples, fit=fit)

def regression(d: int = 4):
    return assay.Subject(nn.Linear(d, 1), examples=lambda: (torch.zeros(5, d), torch.zeros(5)))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "mine.py").write_text(BUILDERS)
    assert main(["certify", f"{folder}/mine.py:good", "-o", f"{folder}/good.assay"]) == 0
    return folder


def altered(place, change):
    content = bytearray((place / "good.assay").read_bytes())
    path = place / "altered.assay"
    path.write_bytes(change(content))
    return str(path)


def flipped(content):
    content[len(content) // 2] ^= 1
    return content


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:20],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: b"#!/bin/sh\n" + content,
        flipped,
    ],
)
def test_a_malformed_file_is_4(place, change, capsys):
    assert main(["verify", altered(place, change), f"{place}/mine.py:good"]) == 4
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "claims", [{"errors": 0, "kl": 0.01}, {"bits": 3}, {"binomial": 0.001}, {"delta": 0.5}]
)
def test_a_forged_claim_is_1(place, claims, capsys):
    def forged(content):
        claim, code = file.unpack(bytes(content))
        return file.pack(dataclasses.replace(claim, **claims), code)

    assert main(["verify", altered(place, forged), f"{place}/mine.py:good"]) == 1
    assert "false here" in capsys.readouterr().out


def test_the_file_itself_is_0_and_with_another_builder_1(place, capsys):
    good = str(place / "good.assay")
    assert main(["verify", good, f"{place}/mine.py:good"]) == 0
    assert main(["verify", good, f"{place}/mine.py:other"]) == 1
    assert main(["verify", good, f"{place}/mine.py:without"]) == 2
    assert main(["verify", good, f"{place}/mine.py:good", "--size", "d=5"]) == 1
    assert main(["verify", str(place / "none"), f"{place}/mine.py:good"]) == 2


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("without", 2, "examples is missing"),
        ("empty", 2, "at least one example"),
        ("fit_raises", 3, 'return {}["no such key"]'),
        ("examples_raise", 3, 'open("/no/such/file")'),
        ("diverging", 3, "NaN or infinite"),
        ("regression", 2, "examples.errors"),
    ],
)
def test_what_cannot_be_certified(place, name, code, said, capsys):
    path = place / "never.assay"
    assert main(["certify", f"{place}/mine.py:{name}", "-o", str(path)]) == code
    text = capsys.readouterr().err
    assert said in text
    assert "src/assay" not in text
    assert not path.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "/no/such/folder/x.assay"],
        ["-o", os.sep],
        ["--delta", "0"],
        ["--delta", "nan"],
        ["--seed", "-1"],
        ["--size", "d=0"],
    ],
)
def test_wrong_usage_of_certify_is_2(place, words, capsys):
    assert main(["certify", f"{place}/mine.py:good", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--errors 3 --examples 100 --bits 10", 0),
        ("--errors 3 --examples 2 --bits 10", 2),
        ("--errors 0 --examples 0 --bits 10", 2),
        ("--errors 0 --examples 5 --bits -1", 2),
        ("--errors 0 --examples 5 --bits 1 --delta 1", 2),
        ("--errors half --examples 5 --bits 1", 2),
        ("--errors 1", 2),
    ],
)
def test_bound(words, code, capsys):
    assert main(["bound", *words.split()]) == code
    assert "Traceback" not in capsys.readouterr().err
