"""The four trainings of benchmarks/optimizers.py, each in clean, standardised and mangled units.

A mangled model starts as the same function: inputs and hidden units are multiplied by factors, and the
weights that read them are divided. Tokens have no unit, so there only hidden units and the loss are mangled.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sympy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.data.fashion_mnist import read_fashion_mnist

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import g2p

Batch = tuple[tuple[Tensor, ...], Tensor]
BITS = 1 / math.log(2)


@dataclass(frozen=True)
class Task:
    """One training.

    Args:
        model: The model as training starts.
        batches: Batches of an epoch, from a generator.
        validation: Batches that rates are tuned on.
        test: Batches that are looked at once.
        epochs: Passes.
        loss_unit: What the loss is multiplied by in training.
        head: Name of the weight that gives the scores, which Muon leaves alone.
    """

    model: nn.Module
    batches: Callable[[torch.Generator], Iterator[Batch]]
    validation: list[Batch]
    test: list[Batch]
    epochs: int
    loss_unit: float
    head: str

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy in nats; targets of -100 do not count."""
        inputs, targets = batch
        scores = self.model(*inputs)
        return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), targets.reshape(-1))

    @torch.no_grad()
    def mean_loss(self, batches: list[Batch]) -> float:
        """Mean over everything that counts, in evaluation mode."""
        self.model.eval()
        total = count = 0.0
        for batch in batches:
            n = float((batch[1] != -100).sum())
            total, count = total + float(self.loss(batch)) * n, count + n
        self.model.train()
        return total / count


def factors(n: int, draw: torch.Generator, decades: float = 3.0) -> Tensor:
    """Factors from 10^-decades to 10^decades."""
    return 10 ** ((torch.rand(n, generator=draw) * 2 - 1) * decades)


# images ------------------------------------------------------------------------------------------------


@functools.cache
def images() -> tuple[Tensor, ...]:
    """Training, validation and test images and labels; the test images are those of the data set."""
    data = read_fashion_mnist()
    assert data.holdout is not None
    order = torch.randperm(60000, generator=torch.Generator().manual_seed(0))
    train, validation = order[:16000], order[-4000:]
    x, y = data.inputs[0], data.targets
    return (
        x[train],
        y[train],
        x[validation],
        y[validation],
        data.holdout.inputs[0],
        data.holdout.targets,
    )


def _cut(x: Tensor, y: Tensor, size: int, order: Tensor | None = None) -> list[Batch]:
    order = torch.arange(len(x)) if order is None else order
    return [((x[i],), y[i]) for i in order.split(size)]


def _image_task(
    model: nn.Module, change: Callable[[Tensor], Tensor], unit: float, epochs: int, head: str
) -> Task:
    xt, yt, xv, yv, xs, ys = images()
    xt, xv, xs = change(xt), change(xv), change(xs)

    def batches(draw: torch.Generator) -> Iterator[Batch]:
        return iter(_cut(xt, yt, 100, torch.randperm(len(xt), generator=draw)))

    return Task(model, batches, _cut(xv, yv, 1000), _cut(xs, ys, 1000), epochs, unit, head)


def mlp(condition: str) -> Task:
    """Fashion-MNIST, 784–128–128–10."""
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )
    change: Callable[[Tensor], Tensor] = lambda x: x  # noqa: E731
    if condition == "standardised":
        x = images()[0]
        mean, std = x.mean(0), x.std(0).clamp_min(1e-3)
        change = lambda x: (x - mean) / std  # noqa: E731
    if condition == "mangled":
        draw = torch.Generator().manual_seed(1)
        c = factors(784, draw)
        a = c * torch.randn(784, generator=draw)
        change = lambda x: x * c.view(1, 28, 28) + a.view(1, 28, 28)  # noqa: E731
        _reread(model[1], c, a)
        _rescale(model[1], model[3], factors(128, draw, 1.0))
    return _image_task(model, change, BITS if condition == "mangled" else 1.0, 4, "5.weight")


def convnet(condition: str) -> Task:
    """Fashion-MNIST, three strided 3×3 convolutions padded with zeros, and two linear layers."""
    conv = functools.partial(nn.Conv2d, kernel_size=3, stride=2, padding=1)
    model = nn.Sequential(
        *(conv(1, 16), nn.ReLU(), conv(16, 32), nn.ReLU(), conv(32, 32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    change: Callable[[Tensor], Tensor] = lambda x: x  # noqa: E731
    if condition == "standardised":
        mean, std = images()[0].mean(), images()[0].std()
        change = lambda x: (x - mean) / std  # noqa: E731
    if condition == "mangled":
        draw = torch.Generator().manual_seed(1)
        change = lambda x: x * 255  # noqa: E731
        _reread(model[0], torch.tensor([255.0]), torch.zeros(1))
        _rescale(model[0], model[2], factors(16, draw, 1.0))
        _rescale(model[2], model[4], factors(32, draw, 1.0))
    return _image_task(model, change, BITS if condition == "mangled" else 1.0, 3, "9.weight")


@torch.no_grad()
def _reread(layer: nn.Module, c: Tensor, a: Tensor) -> None:
    """Let a layer read `c x + a` as it read x."""
    weight, bias = layer.weight, layer.bias
    new = weight.double() / c.double().view(1, -1, *(1,) * (weight.dim() - 2))
    bias.copy_(bias - (new.flatten(2).sum(2) if new.dim() > 2 else new) @ a.double())
    weight.copy_(new)


@torch.no_grad()
def _rescale(writer: nn.Module, reader: nn.Module, c: Tensor) -> None:
    """Multiply what a layer writes, before a ReLU, and divide what reads it."""
    writer.weight.mul_(c.view(-1, *(1,) * (writer.weight.dim() - 1)))
    writer.bias.mul_(c)
    reader.weight.div_(c.view(1, -1, *(1,) * (reader.weight.dim() - 2)))


# letters to phonemes -----------------------------------------------------------------------------------


@functools.cache
def words() -> tuple[object, ...]:
    """Training, validation and test words."""
    data = g2p.read_cmudict()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    return data.train[order[:16000]], data.train[order[-2000:]], data.test


def _words_cut(part: object, order: Tensor) -> Iterator[Batch]:
    for rows in order:
        letters, heard, targets = g2p._trim(part[rows])
        yield (letters, heard), targets


def letters(condition: str) -> Task:
    """The GRU encoder–decoder with attention of examples/g2p.py, on the CMU Pronouncing Dictionary."""
    model = g2p.Attention(64)
    train, validation, test = words()
    if condition == "mangled":
        draw = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for table, readers in (
                (model.letter, (model.read_rightward, model.read_leftward)),
                (model.phoneme, (model.speak,)),
            ):
                c = factors(64, draw, 2.0)
                table.weight.mul_(c)
                for reader in readers:
                    reader.weight_ih.div_(c)

    def lengths(part: object) -> Tensor:
        return sum((ids != g2p.PAD).sum(1) for ids in part.inputs)

    def batches(draw: torch.Generator) -> Iterator[Batch]:
        near = (lengths(train) + torch.rand(len(train), generator=draw)).argsort().split(128)
        return _words_cut(train, [near[i] for i in torch.randperm(len(near), generator=draw)])

    held = [
        list(_words_cut(part, lengths(part).argsort().split(500))) for part in (validation, test)
    ]
    return Task(model, batches, *held, 2, BITS if condition == "mangled" else 1.0, "score.weight")


# characters --------------------------------------------------------------------------------------------


class Characters(nn.Module):
    """A transformer that predicts the next character: two blocks of width d."""

    def __init__(self, kinds: int, length: int, d: int = 64) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(kinds, d), nn.Embedding(length, d)
        layer = nn.TransformerEncoderLayer(
            d, 4, 4 * d, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        # a layer that is copied starts with the same weights in every copy
        for p in self.blocks.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, kinds)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x: Tensor) -> Tensor:
        """Scores `[b, n, kinds]` of ids `[b, n]`."""
        h = self.token(x) + self.place(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(h, mask=self.mask, is_causal=True)))


@functools.cache
def text() -> tuple[Tensor, int]:
    """Python source as numbers of characters, and how many kinds there are."""
    files = sorted((Path(sympy.__file__).parent / "core").glob("*.py"))
    written = "".join(file.read_text() for file in files)[:600_000]
    kinds = sorted(set(written))
    number = {c: i for i, c in enumerate(kinds)}
    return torch.tensor([number[c] for c in written]), len(kinds)


LENGTH, STEPS = 64, 300


def characters(condition: str) -> Task:
    """A two-block transformer on characters of Python source; the last tenths of the text are held out."""
    ids, kinds = text()
    model = Characters(kinds, LENGTH)
    if condition == "mangled":
        draw = torch.Generator().manual_seed(1)
        for block in model.blocks.layers:
            _mangle_block(block, draw)
    ends = [int(len(ids) * share) for share in (0.0, 0.8, 0.9, 1.0)]

    def sample(part: int, draw: torch.Generator) -> Batch:
        starts = torch.randint(ends[part], ends[part + 1] - LENGTH - 1, (32,), generator=draw)
        rows = torch.stack([ids[i : i + LENGTH + 1] for i in starts])
        return (rows[:, :-1],), rows[:, 1:]

    def batches(draw: torch.Generator) -> Iterator[Batch]:
        return (sample(0, draw) for _ in range(STEPS))

    held = [
        [sample(part, torch.Generator().manual_seed(part)) for _ in range(20)] for part in (1, 2)
    ]
    return Task(model, batches, *held, 1, BITS if condition == "mangled" else 1.0, "head.weight")


@torch.no_grad()
def _mangle_block(block: nn.TransformerEncoderLayer, draw: torch.Generator) -> None:
    """Other units for what norms write, for values, and for the hidden units of the feed-forward part."""
    attention, d = block.self_attn, block.norm1.weight.numel()
    for norm, reader in (
        (block.norm1, attention.in_proj_weight),
        (block.norm2, block.linear1.weight),
    ):
        c = factors(d, draw, 1.0)
        norm.weight.mul_(c)
        norm.bias.mul_(c)
        reader.div_(c)
    c = factors(d, draw, 1.0)
    attention.in_proj_weight[2 * d :].mul_(c[:, None])
    attention.in_proj_bias[2 * d :].mul_(c)
    attention.out_proj.weight.div_(c)
    _rescale(block.linear1, block.linear2, factors(4 * d, draw, 1.0))


TASKS: dict[str, tuple[Callable[[str], Task], tuple[str, ...]]] = {
    "mlp": (mlp, ("clean", "standardised", "mangled")),
    "convnet": (convnet, ("clean", "standardised", "mangled")),
    "letters": (letters, ("clean", "mangled")),
    "characters": (characters, ("clean", "mangled")),
}
