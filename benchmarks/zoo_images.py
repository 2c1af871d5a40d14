"""Architectures written by hand that read images."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Made = tuple[nn.Module, Tensor]


def _conv(i: int, o: int, k: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)
    )


class Residual(nn.Module):
    """A basic block or a bottleneck (He et al. 2016)."""

    def __init__(self, i: int, o: int, stride: int, wide: int) -> None:
        super().__init__()
        inner = o // wide
        first, last = (3, 3) if wide == 1 else (1, 1)
        middle = [] if wide == 1 else [_conv(inner, inner, 3, stride), nn.ReLU()]
        self.body = nn.Sequential(
            _conv(i, inner, first, stride if wide == 1 else 1),
            nn.ReLU(),
            *middle,
            _conv(inner, o, last),
        )
        self.skip = _conv(i, o, 1, stride) if i != o or stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The next feature maps."""
        return F.relu(self.body(x) + self.skip(x))


def _resnet(counts: tuple[int, ...], wide: int, c: int) -> nn.Module:
    layers: list[nn.Module] = [_conv(3, c, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    i = c
    for stage, count in enumerate(counts):
        o = c * 2**stage * wide
        for k in range(count):
            layers.append(Residual(i, o, 2 if stage and k == 0 else 1, wide))
            i = o
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10))


def resnet18(b: int = 2, h: int = 64, c: int = 8) -> Made:
    """ResNet-18 at any image size and width."""
    return _resnet((2, 2, 2, 2), 1, c), torch.randn(b, 3, h, h)


def resnet50(b: int = 2, h: int = 64, c: int = 8) -> Made:
    """ResNet-50 at any image size and width."""
    return _resnet((3, 4, 6, 3), 4, c), torch.randn(b, 3, h, h)


class Windowed(nn.Module):
    """Attention within windows, every other layer with the windows shifted (Liu et al. 2021)."""

    def __init__(self, d: int, window: int, depth: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, d, 4, 4)
        self.mix = nn.ModuleList(nn.Linear(d, 3 * d) for _ in range(depth))
        self.out = nn.ModuleList(nn.Linear(d, d) for _ in range(depth))
        self.window = window

    def forward(self, image: Tensor) -> Tensor:
        """Features `[b, rows, columns, d]`, padded to whole windows."""
        x = self.patch(image).permute(0, 2, 3, 1)
        w = self.window
        rows, columns = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -columns % w, 0, -rows % w))
        for i, (mix, out) in enumerate(zip(self.mix, self.out, strict=True)):
            moved = x.roll((-(w // 2) * (i % 2),) * 2, (1, 2))
            cells = moved.unflatten(2, (-1, w)).unflatten(1, (-1, w)).transpose(2, 3)
            q, k, v = mix(cells.flatten(3, 4)).chunk(3, -1)
            made = out(F.scaled_dot_product_attention(q, k, v)).unflatten(3, (w, w))
            made = made.transpose(2, 3).flatten(3, 4).flatten(1, 2)
            x = x + made.roll((w // 2 * (i % 2),) * 2, (1, 2))
        return x


def windowed(b: int = 2, h: int = 56, d: int = 16) -> Made:
    """Windowed attention at any image size, padded."""
    return Windowed(d, 7, 2), torch.randn(b, 3, h, h)


class UNet(nn.Module):
    """Down and up again with bridges across (Ronneberger et al. 2015), cropped to what came in."""

    def __init__(self, c: int, depth: int) -> None:
        super().__init__()
        widths = [c * 2**i for i in range(depth + 1)]
        self.first = _conv(3, c)
        self.down = nn.ModuleList(_conv(i, o) for i, o in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, 2) for i, o in pairwise(widths))
        self.merge = nn.ModuleList(_conv(2 * i, i) for i in widths[:-1])
        self.out = nn.Conv2d(c, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A mask as large as the image."""
        x = F.relu(self.first(x))
        bridges = []
        for down in self.down:
            bridges.append(x)
            x = F.relu(down(F.max_pool2d(x, 2)))
        for up, merge, bridge in zip(self.up[::-1], self.merge[::-1], bridges[::-1], strict=True):
            x = up(x)
            missing = [bridge.shape[i] - x.shape[i] for i in (3, 2)]
            x = F.pad(x, (0, missing[0], 0, missing[1]))
            x = F.relu(merge(torch.cat([bridge, x], 1)))
        return self.out(x)


def unet(b: int = 2, h: int = 32, c: int = 8) -> Made:
    """U-Net at any image size."""
    return UNet(c, 3), torch.randn(b, 3, h, h)


class Dense(nn.Module):
    """Each layer reads all before it (Huang et al. 2017)."""

    def __init__(self, i: int, growth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_conv(i + k * growth, growth) for k in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Everything so far, side by side."""
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x))], 1)
        return x


def densenet(b: int = 2, h: int = 32, growth: int = 6) -> Made:
    """Three dense blocks with transitions."""
    layers, i = [_conv(3, 2 * growth)], 2 * growth
    for k in range(3):
        layers.append(Dense(i, growth, 4))
        i += 4 * growth
        if k < 2:
            layers += [_conv(i, i // 2, 1), nn.AvgPool2d(2)]
            i //= 2
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10)]
    return nn.Sequential(*layers, *head), torch.randn(b, 3, h, h)


class Inverted(nn.Module):
    """Wide in the middle, depthwise there (Sandler et al. 2018), with squeeze and excitation."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        wide = 4 * i
        self.body = nn.Sequential(
            _conv(i, wide, 1), nn.ReLU6(), _conv(wide, wide, 3, stride, wide), nn.ReLU6()
        )
        self.squeeze = nn.Sequential(
            nn.Linear(wide, i), nn.ReLU(), nn.Linear(i, wide), nn.Sigmoid()
        )
        self.last = _conv(wide, o, 1)
        self.same = i == o and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """The next feature maps."""
        y = self.body(x)
        y = self.last(y * self.squeeze(y.mean((2, 3)))[..., None, None])
        return x + y if self.same else y


def mobilenet(b: int = 2, h: int = 64, c: int = 8) -> Made:
    """Inverted residuals with depthwise convolutions."""
    plan = ((c, c, 1), (c, 2 * c, 2), (2 * c, 2 * c, 1), (2 * c, 4 * c, 2), (4 * c, 4 * c, 1))
    layers = [_conv(3, c, 3, 2), nn.ReLU6(), *(Inverted(*row) for row in plan)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * c, 10)]
    return nn.Sequential(*layers, *head), torch.randn(b, 3, h, h)


class Patches(nn.Module):
    """An image as a row of patches."""

    def __init__(self, d: int, side: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, d, side, side)

    def forward(self, image: Tensor) -> Tensor:
        """`[b, patches, d]`."""
        return self.cut(image).flatten(2).transpose(1, 2)


class ViT(nn.Module):
    """An encoder over patches and a class token (Dosovitskiy et al. 2021)."""

    def __init__(self, d: int, patch: int, h: int, depth: int) -> None:
        super().__init__()
        self.patches, self.token = Patches(d, patch), nn.Parameter(torch.zeros(1, 1, d))
        self.places = nn.Parameter(torch.zeros(1, (h // patch) ** 2 + 1, d))
        layers = [nn.TransformerEncoderLayer(d, 4, 4 * d, batch_first=True) for _ in range(depth)]
        self.encoder, self.head = nn.Sequential(*layers), nn.Linear(d, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits."""
        x = self.patches(image)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.encoder(x)[:, 0])


def vit(b: int = 2, h: int = 32, d: int = 16, depth: int = 2) -> Made:
    """A vision transformer with patches of 8."""
    return ViT(d, 8, h, depth), torch.randn(b, 3, h, h)


class Mixer(nn.Module):
    """Two perceptrons in turns: across patches and across channels (Tolstikhin et al. 2021)."""

    def __init__(self, d: int, count: int) -> None:
        super().__init__()
        self.across = nn.Sequential(
            nn.Linear(count, 2 * count), nn.GELU(), nn.Linear(2 * count, count)
        )
        self.along = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.one, self.two = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x: Tensor) -> Tensor:
        """`[b, patches, d]` as it came."""
        x = x + self.across(self.one(x).transpose(1, 2)).transpose(1, 2)
        return x + self.along(self.two(x))


def mixer(b: int = 2, h: int = 32, d: int = 16) -> Made:
    """MLP-Mixer with patches of 8."""
    count = (h // 8) ** 2
    return nn.Sequential(Patches(d, 8), Mixer(d, count), Mixer(d, count)), torch.randn(b, 3, h, h)


class ConvNeXt(nn.Module):
    """Depthwise 7 × 7, then a perceptron for each pixel (Liu et al. 2022)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(d, d, 7, padding=3, groups=d), nn.LayerNorm(d)
        self.one, self.two = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.scale = nn.Parameter(torch.full((d,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """`[b, d, rows, columns]` as it came."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.two(F.gelu(self.one(y)))).permute(0, 3, 1, 2)


def convnext(b: int = 2, h: int = 64, d: int = 16) -> Made:
    """Two stages of ConvNeXt."""
    layers = [
        nn.Conv2d(3, d, 4, 4),
        ConvNeXt(d),
        ConvNeXt(d),
        nn.Conv2d(d, 2 * d, 2, 2),
        ConvNeXt(2 * d),
    ]
    return nn.Sequential(*layers), torch.randn(b, 3, h, h)


class Capsules(nn.Module):
    """Vectors that vote for vectors, three rounds (Sabour et al. 2017)."""

    def __init__(self, c: int, places: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8 * c, 9, 2)
        self.votes = nn.Parameter(torch.randn(places**2 * c, 10, 8, 16))
        self.c = c

    def forward(self, image: Tensor) -> Tensor:
        """A vector for each class `[b, 10, 16]`."""
        first = _squashed(
            self.stem(image).unflatten(1, (self.c, 8)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        )
        votes = torch.einsum("bid,iodv->biov", first, self.votes)
        logits = torch.zeros(votes.shape[:3])
        made = votes.sum(1)
        for _ in range(3):
            made = _squashed((logits.softmax(2)[..., None] * votes).sum(1))
            logits = logits + torch.einsum("biov,bov->bio", votes, made)
        return made


def _squashed(x: Tensor) -> Tensor:
    square = x.square().sum(-1, keepdim=True)
    return x * square.sqrt() / (1 + square)


def capsules(b: int = 2, h: int = 17, c: int = 2) -> Made:
    """A capsule network."""
    return Capsules(c, (h - 9) // 2 + 1), torch.randn(b, 1, h, h)
