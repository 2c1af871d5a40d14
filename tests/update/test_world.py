"""Twins start as the same function; training in a world agrees with a plain hand-written loop."""

import functools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.update.change import ROWS, changes
from assay.update.trajectory import Feeding, Setting, train
from assay.update.verdict import compare
from assay.update.world import Network, Problem


@settings(max_examples=15)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(0, 1000),
    st.booleans(),
)
def test_every_twin_starts_as_the_same_function(
    d: int, h: int, k: int, seed: int, folded: bool
) -> None:
    problem = Problem(features=d, hidden=h, outputs=k, seed=seed)
    world = problem.world()
    rows = torch.arange(problem.examples)
    network = Network(world.weights, folded)
    with torch.no_grad():
        u, loss = network(world.inputs), world.loss(network, rows)
        for variants in changes(problem).values():
            for change in variants:
                other = change.apply(world)
                twin = Network(other.weights, folded)
                scale = 1e-9 if change.kind == "extreme" else 1e-12
                torch.testing.assert_close(
                    other.read(twin(other.inputs)), u, rtol=scale, atol=scale
                )
                expected = loss * change.loss_ratio
                torch.testing.assert_close(other.loss(twin, rows), expected, rtol=1e-7, atol=0)
                if change.weight_ratio is not None:
                    for new, old, ratio in zip(
                        twin.parameters(),
                        network.parameters(),
                        change.weight_ratio.packed(folded),
                        strict=True,
                    ):
                        torch.testing.assert_close(new, old * ratio)


def test_powers_of_two_are_exact() -> None:
    problem = Problem()
    world = problem.world()
    u = Network(world.weights, False)(world.inputs)
    for variants in changes(problem).values():
        for change in variants:
            if change.kind == "dyadic":
                other = change.apply(world)
                assert torch.equal(other.read(Network(other.weights, False)(other.inputs)), u)


def test_rows_are_those_of_the_contract() -> None:
    assert tuple(changes(Problem())) == tuple(ROWS)
    assert {"input scale", "input shift", "hidden scale", "loss unit"} <= set(ROWS)


@pytest.mark.parametrize("folded", [False, True])
def test_training_agrees_with_the_gradient_written_out(folded: bool) -> None:
    problem = Problem(steps=6)
    world = problem.world()
    setting = Setting(
        functools.partial(torch.optim.SGD, lr=0.05), "SGD", problem, Feeding(folded=folded)
    )
    run = train(setting, world)
    W, b, V, c = (w.clone() for w in world.weights)

    def outputs(x: torch.Tensor) -> torch.Tensor:
        return (x @ W.T + b).clamp(min=0) @ V.T + c

    torch.testing.assert_close(run.outputs[0], outputs(world.inputs))
    for t, rows in enumerate(problem.batches(), 1):
        x, y = world.inputs[rows], world.targets[rows]
        hidden = (x @ W.T + b).clamp(min=0)
        g = (hidden @ V.T + c - y) / len(rows)
        inner = (g @ V) * (hidden > 0)
        V, c = V - 0.05 * g.T @ hidden, c - 0.05 * g.sum(0)
        W, b = W - 0.05 * inner.T @ x, b - 0.05 * inner.sum(0)
        torch.testing.assert_close(run.outputs[t], outputs(world.inputs), rtol=1e-12, atol=1e-12)


def test_feature_rates_are_what_scaling_gradients_does_to_sgd() -> None:
    """Rates as `train` applies them (after the step) agree with gradients scaled before it."""
    problem = Problem(steps=5)
    world = problem.world()
    rates = [torch.rand_like(w) for w in world.weights]
    make = functools.partial(torch.optim.SGD, lr=0.05)
    run = train(Setting(make, "SGD", problem, rates=rates), world)

    model = Network(world.weights, False)
    for p, rate in zip(model.parameters(), rates, strict=True):
        p.register_hook(lambda grad, rate=rate: grad * rate)
    optimizer = make(model.parameters())
    for rows in problem.batches():
        optimizer.zero_grad()
        world.loss(model, rows).backward()
        optimizer.step()
    torch.testing.assert_close(run.outputs[-1], model(world.inputs), rtol=1e-12, atol=1e-12)


def test_a_batch_in_parts_accumulates_the_same_gradient() -> None:
    problem = Problem(steps=5)
    world = problem.world()
    setting = Setting(functools.partial(torch.optim.SGD, lr=0.05), "SGD", problem)
    assert compare(train(setting, world), train(setting, replace(world, parts=4))).last < 1e-12


def test_losses_are_told_in_the_reference_unit() -> None:
    problem = Problem(steps=2)
    world = problem.world()
    setting = Setting(functools.partial(torch.optim.SGD, lr=1e-12), "SGD", problem)
    first = train(setting, world).losses[0]
    for row in ("loss unit", "target unit", "output rotation"):
        for change in changes(problem)[row]:
            assert train(setting, change.apply(world)).losses[0] == pytest.approx(first, rel=1e-9)
