"""An ε that outweighs the roots beside it makes an adaptive optimizer plain gradient descent."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

import assay
from assay import Subject
from assay.finding import Finding
from assay.update.contender import enter
from assay.update.epsilon import outweighed

KINDS: list[Callable[..., Optimizer]] = [
    Adam,
    AdamW,
    NAdam,
    RAdam,
    Adamax,
    RMSprop,
    Adagrad,
    functools.partial(Adam, amsgrad=True),
    functools.partial(RMSprop, centered=True, momentum=0.9),
]


def classes() -> Subject:
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = (x @ torch.randn(16, 5)).argmax(1)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 5))
    return Subject(model, x, loss=lambda u: F.cross_entropy(u, y))


def said(make: Callable[..., Any], subject: Subject) -> list[Finding]:
    section = assay.report(
        lambda: subject, sections=("step",), optimizer=lambda m: make(m.parameters())
    ).sections[0]
    assert section.result is not None
    return [f for f in section.result.findings if f.rule == "step.epsilon"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_epsilon_of_one_is_a_warning_and_the_usual_one_is_silent(kind: Any) -> None:
    (found,) = said(functools.partial(kind, lr=1e-3, eps=1.0), classes())
    assert found.fails
    assert found.measured.value == 1.0
    assert "Set eps=1e-08: the same 10 steps" in found.repair
    assert not said(functools.partial(kind, lr=1e-3), classes())


def test_the_share_is_that_of_a_count_by_hand() -> None:
    """With one weight a group and gradients 1 and 0.01, an ε of 0.1 outweighs one root of two."""
    model = nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, 0.01]])
    subject = Subject(model, x, loss=lambda u: u.sum())
    shares = [(1e-8, 0.0), (1e-3, 0.0), (0.1, 0.5), (10.0, 1.0)]
    for kind in (Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad):
        for eps, share in shares:
            make = functools.partial(kind, lr=1e-6, eps=eps)
            one = enter("one", lambda m, make=make: make(m.parameters()), subject, 0)
            for step in range(12):
                one.step(step)
            # Adagrad sums: twelve times the square, and 0.1 is above 0.01 √12 still
            assert outweighed(one) == share


def test_rows_without_a_gradient_do_not_count() -> None:
    """Of a thousand tokens ten are seen: the roots of all others are zero, by design."""
    torch.manual_seed(0)
    x = torch.randint(10, (64,))
    model = nn.Sequential(nn.Embedding(1000, 8), nn.Linear(8, 3))
    subject = Subject(model, x, loss=lambda u: F.cross_entropy(u, x % 3))
    assert not said(functools.partial(Adam, lr=1e-3, eps=1e-6), subject)


def test_gradients_that_vanish_are_not_the_fault_of_a_usual_epsilon() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    subject = Subject(model, torch.randn(8, 4), loss=lambda u: 1e-12 * u.square().mean())
    assert not said(functools.partial(Adam, lr=1e-3), subject)


def test_a_large_epsilon_with_a_rate_to_match_is_a_note() -> None:
    """Who takes both on purpose (lr/ε is the rate of a gradient descent that works) is not warned."""
    (found,) = said(functools.partial(Adam, lr=1.0, eps=1.0), classes())
    assert not found.fails


def test_the_repair_keeps_the_length_of_steps_where_the_rate_is_too_high_without_epsilon() -> None:
    (found,) = said(functools.partial(Adam, lr=0.5, eps=10.0), classes())
    assert found.fails
    factor = float(found.repair.split(" and ")[1].split()[0])
    assert 1e-3 < factor < 0.1
    assert not said(functools.partial(Adam, lr=0.5 * factor), classes())


@pytest.mark.parametrize("make", [SGD, functools.partial(SGD, momentum=0.9)])
def test_an_optimizer_without_a_root_is_not_judged(make: Any) -> None:
    assert not said(functools.partial(make, lr=0.01), classes())
