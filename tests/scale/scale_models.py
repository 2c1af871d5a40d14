"""Models that the tests of this room share."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class CentredReLU(nn.Module):
    """relu(x) - b' (Theory S2)."""

    def forward(self, x):
        return torch.relu(x) - 1 / math.sqrt(math.pi - 1)


def mlp(depth, width, activation=nn.ReLU, init=None, readout=8):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, readout))
    for layer in model:
        if init is not None and isinstance(layer, nn.Linear):
            init(layer)
            nn.init.zeros_(layer.bias)
    return model


def kaiming(layer):
    nn.init.kaiming_normal_(layer.weight)


def centred(layer):
    nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi / (math.pi - 1) / layer.in_features))


class ConvNet(nn.Module):
    """Two convolutions with batch norms and a skip."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.norm2(self.conv(x)))
        return self.head(x.mean((2, 3)))


class CellLoop(nn.Module):
    """A GRU cell called once per letter."""

    def __init__(self, width=16):
        super().__init__()
        self.embed = nn.Embedding(20, width)
        self.cell = nn.GRUCell(width, width)
        self.name = nn.Linear(width, 20)

    def forward(self, letters):
        h = torch.zeros(len(letters), self.cell.hidden_size)
        for t in range(letters.shape[1]):
            h = self.cell(self.embed(letters[:, t]), h)
        return self.name(h)


class LogOfNegative(nn.Module):
    """Makes NaN in a line that no parameter feeds."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        x = torch.log(x)  # NaN is made here
        return self.second(x)


class RaisesMidway(nn.Module):
    """Runs one layer and raises."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.first = nn.Linear(4, 4)

    def forward(self, x):
        self.first(self.norm(x) + torch.rand(()))
        raise ValueError("not today")
