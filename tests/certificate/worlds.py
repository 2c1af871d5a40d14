"""Small real worlds to certify in: builders, examples, and a way to forge files."""

import dataclasses
import hashlib

import torch
from sklearn.datasets import load_digits
from torch import nn

from assay import Examples, Subject
from assay.certificate import file
from assay.certificate.prior import Slot


def digits(train=1200, held=True):
    """Scikit-learn's 8×8 handwritten digits, shuffled, in [0, 1]."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(data.data, dtype=torch.float32)[order] / 16
    y = torch.tensor(data.target)[order]
    rest = Examples(x[train:], y[train:]) if held else None
    return Examples(x[:train], y[:train], holdout=rest, name="digits")


def fit(model, examples, progress, steps=40):
    model.train()
    rule = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(steps):
        scores = model(*examples.inputs)
        loss = nn.functional.cross_entropy(scores.flatten(0, -2), examples.targets.flatten())
        rule.zero_grad()
        loss.backward()
        rule.step()


def linear(d: int = 64):
    return Subject(nn.Linear(d, 10), torch.zeros(2, d), examples=digits, fit=fit)


def normed(d: int = 64, h: int = 12):
    net = nn.Sequential(nn.Linear(d, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, 10))
    return Subject(net, torch.zeros(2, d), examples=digits, fit=fit)


class Tagger(nn.Module):
    """Says for every position what stands there: embedding tied to the output, a GRU between."""

    def __init__(self, words, width):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.reader = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.reader(self.embedding(tokens))[0])


def sentences(count=300, length=5, words=6):
    """Rows of tokens of varying length, whose target is the previous token; -100 after the end."""
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(words, (count, length), generator=draw)
    targets = torch.cat([torch.zeros(count, 1, dtype=torch.long), tokens[:, :-1]], dim=1)
    ends = torch.randint(1, length + 1, (count, 1), generator=draw)
    return Examples(tokens, targets.masked_fill(torch.arange(length) >= ends, -100))


def tagger(words: int = 6, width: int = 8):
    return Subject(
        Tagger(words, width), torch.zeros(2, 3, dtype=torch.long), examples=sentences, fit=fit
    )


def slot(*shape, name="w", dtype=torch.float32):
    return Slot(name, torch.zeros(shape, dtype=dtype), parameter=True)


def forge(path, **claims):
    """Rewrite claims in a file as a forger would: with a right checksum."""
    claim, code = file.unpack(path.read_bytes())
    path.write_bytes(file.pack(dataclasses.replace(claim, **claims), code))


def sealed(body):
    """Any bytes with a right checksum after them."""
    return body + hashlib.sha256(body).digest()
