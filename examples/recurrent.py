"""Five ways to update a state in time: which keep a memory alive, and which can replace it?

    assay highway examples/recurrent.py:gru --size n=100
    assay scale examples/recurrent.py:tied_residual

Every cell reads the same task, *overwriting*: at each step comes a symbol, and now and then the order to
write it down; at the end the model names the symbol written last. It has to hold a value over many steps
that do not matter, and to replace it at one that does. Where all steps share their weights, only a gate
driven by the data can let a step pass (Theory H2); a residual sum adds at every step, and has to learn to
add nothing. Sizes: b sequences of n steps, and states of width d.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.progress import Progress, silent

SYMBOLS = 8  # a token is symbol + SYMBOLS · (is it to be written?)


class Reader(nn.Module):
    """Updates a state for each token, and names a symbol from the last state."""

    def __init__(self, cell: nn.Module, d: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(2 * SYMBOLS, d)
        self.cell = cell
        self.name = nn.Linear(d, SYMBOLS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `[b, n]` to scores `[b, SYMBOLS]`."""
        state = None  # each cell starts from zeros
        for x in self.embed(tokens).unbind(1):
            state = self.cell(x, state)
        hidden = (
            state[0] if isinstance(state, tuple) else state
        )  # an LSTM's state is (hidden, cell)
        return self.name(hidden)


class TiedResidualCell(nn.Module):
    """h ← h + f(x, h), with one f for all steps."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.inner = nn.Linear(2 * d, d)
        self.outer = nn.Linear(d, d)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """Input and state `[b, d]` to the next state."""
        h = torch.zeros_like(x) if h is None else h
        return h + self.outer(torch.relu(self.inner(torch.cat((x, h), dim=-1))))


class HighwayCell(nn.Module):
    """h ← z h + (1 − z) c, where the gate z and the candidate c see the input and the state."""

    def __init__(self, d: int, keep: float) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * d, d)
        self.candidate = nn.Linear(2 * d, d)
        nn.init.constant_(self.gate.bias, keep)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """Input and state `[b, d]` to the next state."""
        h = torch.zeros_like(x) if h is None else h
        seen = torch.cat((x, h), dim=-1)
        z = torch.sigmoid(self.gate(seen))
        return z * h + (1 - z) * torch.tanh(self.candidate(seen))


# What assay builds -------------------------------------------------------------------------------------


def tied_residual(b: int = 16, n: int = 32, d: int = 32) -> assay.Subject:
    """A residual sum in time, without a gate."""
    return _subject(TiedResidualCell(d), b, n, d)


def vanilla(b: int = 16, n: int = 32, d: int = 32) -> assay.Subject:
    """A plain recurrent network: h ← tanh(U x + W h + b)."""
    return _subject(nn.RNNCell(d, d), b, n, d)


def gru(b: int = 16, n: int = 32, d: int = 32) -> assay.Subject:
    """A gated recurrent unit, as PyTorch initialises it."""
    return _subject(nn.GRUCell(d, d), b, n, d)


def lstm(b: int = 16, n: int = 32, d: int = 32) -> assay.Subject:
    """A long short-term memory, as PyTorch initialises it."""
    return _subject(nn.LSTMCell(d, d), b, n, d)


def highway(b: int = 16, n: int = 32, d: int = 32, *, keep: float = 3.0) -> assay.Subject:
    """A highway in time; `keep` is the gate's bias, and 3 keeps 95 % of the state at a step."""
    return _subject(HighwayCell(d, keep), b, n, d)


def _subject(cell: nn.Module, b: int, n: int, d: int) -> assay.Subject:
    tokens, written = overwriting((b, n))
    return assay.Subject(
        Reader(cell, d),
        (tokens,),
        loss=functools.partial(F.cross_entropy, target=written),
        examples=lambda: make_examples((10_000, n)),
        fit=train,
        optimizer=make_optimizer,
    )


# The task, and training on it --------------------------------------------------------------------------


def overwriting(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Random sequences of the task.

    Args:
        shape: b and n: how many sequences, and steps in each.

    Returns:
        Tokens `[b, n]`, and the symbol written last `[b]`. The first step always writes; each later
        one does with probability 2/n, so about three values are written and the last is some n/2 old.
    """
    step = torch.arange(shape[1])
    symbols = torch.randint(SYMBOLS, shape)
    writes = (torch.rand(shape) < 2 / shape[1]) | (step == 0)
    last = torch.where(writes, step, -1).amax(1, keepdim=True)
    return symbols + SYMBOLS * writes, symbols.gather(1, last).squeeze(1)


def make_examples(shape: tuple[int, int]) -> assay.Examples:
    """Training sequences, and as many held out; the same at every call.

    Args:
        shape: How many sequences, and steps in each.

    Returns:
        The examples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        (tokens, written), (later_tokens, later_written) = overwriting(shape), overwriting(shape)
    name = f"overwriting in {shape[1]} steps"
    holdout = assay.Examples((later_tokens,), later_written, name=f"{name}, held out")
    return assay.Examples((tokens,), written, holdout=holdout, name=name)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that `train` uses."""
    return torch.optim.Adam(model.parameters(), lr=3e-3)


def train(
    model: nn.Module,
    examples: assay.Examples,
    progress: Progress = silent,
    *,
    steps: int = 600,
    batch: int = 64,
) -> None:
    """Fit the model by Adam.

    Args:
        model: Changed in place.
        examples: Sequences, as `make_examples` gives them.
        progress: Told the loss every ten steps.
        steps: How many steps.
        batch: Sequences in a step, drawn at random.
    """
    optimizer = make_optimizer(model)
    model.train()
    for step in range(1, steps + 1):
        drawn = examples[torch.randint(len(examples), (batch,))]
        loss = F.cross_entropy(model(*drawn.inputs), drawn.targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0 or step == steps:
            progress("training", step, steps, f"loss {loss.item():.2f}")
