"""A residual network for images of 28 by 28 pixels, and the same without normalisation.

    assay report examples/residual.py:resnet
    assay scale examples/residual.py:unnormalised --size depth=6

The data are Fashion-MNIST. Sizes: b images, width d (channels of the first stage), and depth, the number of
blocks in each of the three stages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import assay
from assay.data.fashion_mnist import CLASSES, read_fashion_mnist
from assay.progress import Progress, silent

Norm = Callable[[int], nn.Module]  # a layer that normalises so many channels


class Block(nn.Module):
    """x + convolution(relu(norm(convolution(relu(norm(x)))))): nothing stands on the skip path."""

    def __init__(self, channels: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        same = channels == width and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[b, channels, h, w]` to `[b, width, h / stride, w / stride]`."""
        return self.skip(x) + self.branch(x)


class ResNet(nn.Module):
    """Three stages of `depth` blocks, at 28, 14 and 7 pixels and widths d, 2d and 4d."""

    def __init__(self, d: int, depth: int, norm: Norm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, d, 3, padding=1, bias=False)
        channels, blocks = d, []
        for stage in range(3):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Block(channels, d << stage, stride, norm))
                channels = d << stage
        self.blocks = nn.Sequential(*blocks)
        self.norm = norm(channels)
        self.classify = nn.Linear(channels, len(CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        """Images `[b, 1, 28, 28]` to scores `[b, 10]`."""
        features = torch.relu(self.norm(self.blocks(self.stem(images))))
        return self.classify(features.mean(dim=(2, 3)))


# What assay builds -------------------------------------------------------------------------------------


def resnet(b: int = 16, d: int = 8, depth: int = 1, *, epochs: float = 1.0) -> assay.Subject:
    """The network with batch normalisation."""
    return _subject(ResNet(d, depth, nn.BatchNorm2d), b, epochs)


def unnormalised(b: int = 16, d: int = 8, depth: int = 1, *, epochs: float = 1.0) -> assay.Subject:
    """The same network with nothing in the place of the normalisation."""
    return _subject(ResNet(d, depth, lambda channels: nn.Identity()), b, epochs)


def _subject(model: ResNet, b: int, epochs: float) -> assay.Subject:
    images, labels = torch.rand(b, 1, 28, 28), torch.randint(len(CLASSES), (b,))
    return assay.Subject(
        model,
        (images,),
        loss=functools.partial(F.cross_entropy, target=labels),
        examples=read_fashion_mnist,
        fit=functools.partial(train, epochs=epochs),
        optimizer=make_optimizer,
    )


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that `train` uses."""
    return torch.optim.Adam(model.parameters(), lr=5e-3)


def train(
    model: nn.Module,
    examples: assay.Examples,
    progress: Progress = silent,
    *,
    epochs: float = 1.0,
    batch: int = 128,
) -> None:
    """Fit the model by Adam with a cosine schedule.

    Args:
        model: Changed in place.
        examples: Images and labels, as `read_fashion_mnist` gives them.
        progress: Told the loss every ten steps.
        epochs: Passes over the images; a part of one is allowed.
        batch: Images in a step, drawn at random.
    """
    steps = max(1, round(epochs * len(examples) / batch))
    optimizer = make_optimizer(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    model.train()
    for step in range(1, steps + 1):
        drawn = examples[torch.randint(len(examples), (batch,))]
        loss = F.cross_entropy(model(*drawn.inputs), drawn.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 10 == 0 or step == steps:
            progress("training", step, steps, f"loss {loss.item():.2f}")
