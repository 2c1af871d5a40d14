"""How is a word pronounced? A recurrent encoder–decoder, without and with attention.

    assay report examples/g2p.py:attention --output report.html    # all six questions
    assay cost examples/g2p.py:plain                               # O(m + n)
    assay cost examples/g2p.py:attention                           # O(m·n)
    python examples/g2p.py attention                               # train, and listen to it

The data are the words of the CMU Pronouncing Dictionary: letters in, phonemes out. Sizes: b words of
n letters and m phonemes, and states of width d.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.data.cmudict import read_cmudict
from assay.data.vocabulary import END, PAD, START, letter_vocabulary, phoneme_vocabulary
from assay.progress import Progress, silent

LETTERS, PHONEMES = letter_vocabulary(), phoneme_vocabulary()


class EncoderDecoder(nn.Module):
    """Reads a word into one state, then says its phonemes out of that state alone: O(n + m)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.letter = nn.Embedding(len(LETTERS), d)
        self.read_rightward = nn.GRUCell(d, d)
        self.read_leftward = nn.GRUCell(d, d)
        self.phoneme = nn.Embedding(len(PHONEMES), d)
        self.speak = nn.GRUCell(d, d)
        self.score = nn.Linear(d, len(PHONEMES))

    def forward(self, letters: Tensor, phonemes: Tensor) -> Tensor:
        """Score every next phoneme, given the right ones before it (teacher forcing).

        Args:
            letters: Ids `[b, n]`; padding may follow the word.
            phonemes: Ids `[b, m]`; the start mark, then the pronunciation.

        Returns:
            Scores `[b, m, number of phonemes]`; at t they are for the phoneme that follows `phonemes[:, t]`.
        """
        memory, state = self.encode(letters)
        scores = []
        for phoneme in self.phoneme(phonemes).unbind(1):
            score, state = self.decode(phoneme, state, memory)
            scores.append(score)
        return torch.stack(scores, dim=1)

    def encode(self, letters: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Read the letters in both directions.

        Args:
            letters: Ids `[b, n]`.

        Returns:
            The memory: a state for each letter `[b, n, d]`, and which are no padding `[b, n]`; and the
            state in which the decoder starts `[b, d]`.
        """
        real = letters != PAD
        # unbind gives all time steps at once; x[:, t] in a loop costs O(n²) bytes in the backward pass
        embedded, steps = self.letter(letters).unbind(1), real.unsqueeze(-1).unbind(1)
        rightward = _read(self.read_rightward, embedded, steps)
        leftward = _read(self.read_leftward, embedded[::-1], steps[::-1])[::-1]
        states = [before + after for before, after in zip(rightward, leftward, strict=True)]
        return (torch.stack(states, dim=1), real), rightward[-1] + leftward[0]

    def decode(
        self, phoneme: Tensor, state: Tensor, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One step: hear the last phoneme, score the next.

        Args:
            phoneme: Embeddings `[b, d]`.
            state: The decoder's state `[b, d]`.
            memory: What `encode` returned; not looked at here.

        Returns:
            Scores `[b, number of phonemes]`, and the new state `[b, d]`.
        """
        state = self.speak(phoneme, state)
        return self.score(state), state

    @torch.no_grad()
    def pronounce(self, letters: Tensor, longest: int) -> Tensor:
        """Say words, taking the best phoneme at each step (greedy decoding).

        Args:
            letters: Ids `[b, n]`.
            longest: How many phonemes to say at most.

        Returns:
            Ids `[b, longest]`; whatever follows the end mark means nothing.
        """
        memory, state = self.encode(letters)
        said = [torch.full_like(letters[:, 0], START)]
        for _ in range(longest):
            score, state = self.decode(self.phoneme(said[-1]), state, memory)
            said.append(score.argmax(-1))
        return torch.stack(said[1:], dim=1)


class Attention(EncoderDecoder):
    """Looks back at every letter for every phoneme: O(n · m)."""

    def __init__(self, d: int) -> None:
        super().__init__(d)
        self.query = nn.Linear(d, d, bias=False)
        self.mix = nn.Linear(2 * d, d)

    def attend(self, state: Tensor, memory: tuple[Tensor, Tensor]) -> Tensor:
        """One weight for each letter: softmax of states · query.

        Args:
            state: The decoder's state `[b, d]`.
            memory: What `encode` returned.

        Returns:
            Weights `[b, n]`; zero at padding, and their sum is one.
        """
        states, real = memory
        match = (states @ self.query(state).unsqueeze(-1)).squeeze(-1)
        return match.masked_fill(~real, -math.inf).softmax(-1)

    def decode(
        self, phoneme: Tensor, state: Tensor, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """One step: hear the last phoneme, look at the letters, score the next.

        Args:
            phoneme: Embeddings `[b, d]`.
            state: The decoder's state `[b, d]`.
            memory: What `encode` returned.

        Returns:
            Scores `[b, number of phonemes]`, and the new state `[b, d]`.
        """
        state = self.speak(phoneme, state)
        weights = self.attend(state, memory)
        context = (weights.unsqueeze(1) @ memory[0]).squeeze(1)
        return self.score(torch.tanh(self.mix(torch.cat((state, context), dim=-1)))), state


def _read(cell: nn.GRUCell, embedded: tuple[Tensor, ...], real: tuple[Tensor, ...]) -> list[Tensor]:
    """The state after each letter; padding leaves it as it is."""
    state, states = torch.zeros_like(embedded[0]), []
    for letter, is_letter in zip(embedded, real, strict=True):
        state = torch.where(is_letter, cell(letter, state), state)
        states.append(state)
    return states


# What assay builds -------------------------------------------------------------------------------------


def plain(
    b: int = 32, n: int = 12, m: int = 12, d: int = 64, *, epochs: float = 3.0
) -> assay.Subject:
    """The encoder–decoder without attention."""
    return _subject(EncoderDecoder(d), b, n, m, epochs)


def attention(
    b: int = 32, n: int = 12, m: int = 12, d: int = 64, *, epochs: float = 3.0
) -> assay.Subject:
    """The encoder–decoder with attention."""
    return _subject(Attention(d), b, n, m, epochs)


def _subject(model: EncoderDecoder, b: int, n: int, m: int, epochs: float) -> assay.Subject:
    letters = torch.randint(PAD + 1, len(LETTERS), (b, n))
    phonemes = torch.randint(END + 1, len(PHONEMES), (b, m))
    heard = torch.cat((torch.full((b, 1), START), phonemes[:, :-1]), dim=1)
    return assay.Subject(
        model,
        (letters, heard),
        loss=functools.partial(cross_entropy, targets=phonemes),
        examples=lambda: read_cmudict().train,
        fit=functools.partial(train, epochs=epochs),
        optimizer=make_optimizer,
    )


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of a phoneme, in nats; targets of -100 do not count."""
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten())


# Training and evaluation -------------------------------------------------------------------------------


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that `train` uses."""
    return torch.optim.Adam(model.parameters(), lr=5e-3)


def train(
    model: nn.Module,
    examples: assay.Examples,
    progress: Progress = silent,
    *,
    epochs: float = 3.0,
    batch: int = 128,
) -> None:
    """Fit the model by Adam with a cosine schedule, in batches of words of about one length.

    Args:
        model: Changed in place.
        examples: Words, as `read_cmudict` gives them.
        progress: Told the loss every ten steps.
        epochs: Passes over the words; a part of one is allowed.
        batch: Words in a step.
    """
    steps = max(1, round(epochs * len(examples) / batch))
    optimizer = make_optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    lengths = sum((ids != PAD).sum(1) for ids in examples.inputs)
    model.train()
    step = 0
    while step < steps:
        # words of one length in random order, then the batches in random order
        batches = (lengths + torch.rand(len(examples))).argsort().split(batch)
        for i in torch.randperm(len(batches))[: steps - step]:
            letters, heard, targets = _trim(examples[batches[i]])
            loss = cross_entropy(model(letters, heard), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 10 == 0 or step == steps:
                progress("training", step, steps, f"loss {loss.item():.2f}")


def _trim(words: assay.Examples) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors without the columns that are padding in every row."""
    n, m = (int((ids != PAD).sum(1).max()) for ids in words.inputs)
    letters, heard = words.inputs
    return letters[:, :n], heard[:, :m], words.targets[:, :m]


class ErrorRates(NamedTuple):
    """Edits per phoneme, and the part of words with any."""

    phoneme: float
    word: float


def evaluate(model: EncoderDecoder, examples: assay.Examples) -> ErrorRates:
    """Pronounce the words, and compare with the dictionary's first pronunciation.

    The word error rate is also the error rate under teacher forcing, "wrong at any position": up to the
    first wrong phoneme both have heard the same, and after it the word is wrong either way.

    Args:
        model: The model.
        examples: Words.

    Returns:
        Both error rates.
    """
    edits = phonemes = wrong = 0
    for words in examples.batches(1024):
        letters, _, targets = _trim(words)
        said = model.eval().pronounce(letters, longest=targets.shape[1])
        for mine, right in zip(said.tolist(), targets.tolist(), strict=True):
            guess, truth = PHONEMES.decode(mine), PHONEMES.decode(right)
            missed = edit_distance(guess, truth)
            edits, phonemes, wrong = edits + missed, phonemes + len(truth), wrong + (missed > 0)
    return ErrorRates(edits / phonemes, wrong / len(examples))


def edit_distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """The least number of insertions, deletions and replacements that turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def main(arguments: list[str]) -> None:
    """Train on the training words, and say words that were held out."""
    kinds = {"plain": EncoderDecoder, "attention": Attention}
    parser = argparse.ArgumentParser(description="Learn to pronounce words.")
    parser.add_argument("kind", choices=kinds, nargs="?", default="attention")
    parser.add_argument("--epochs", type=float, default=3.0, help="passes over the words")
    asked = parser.parse_args(arguments)
    torch.manual_seed(0)
    model, words = kinds[asked.kind](d=64), read_cmudict()
    train(model, words.train, _show, epochs=asked.epochs)
    rates = evaluate(model, words.test)
    print(f"\n{len(words.test)} held-out words: ", end="")
    print(f"phoneme error rate {rates.phoneme:.1%}, word error rate {rates.word:.1%}")
    letters, targets = words.test.inputs[0][::500], words.test.targets[::500]
    said = model.pronounce(letters, longest=targets.shape[1])
    for row, mine, right in zip(letters.tolist(), said.tolist(), targets.tolist(), strict=True):
        guess, truth = PHONEMES.decode(mine), PHONEMES.decode(right)
        verdict = "" if guess == truth else f"   should be {' '.join(truth)}"
        print(f"{''.join(words.letters.decode(row)):>16}  {' '.join(guess)}{verdict}")


def _show(task: str, done: int, total: int, note: str = "") -> None:
    print(f"\r{task}: {done} of {total} steps, {note}   ", end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
