"""Skips of either kind, sums and concatenations: what is compared across them, and what is said of them."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay import measure_scale


def convolution(a, b, size=3):
    layer = nn.Conv2d(a, b, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight)
    return layer


class Dense(nn.Module):
    """Layers that read all before them side by side, each through a narrow one; a pool between the blocks."""

    def __init__(self, blocks=3, layers=10, growth=4):
        super().__init__()
        self.stem, width = convolution(3, 16), 16
        self.blocks, self.between = nn.ModuleList(), nn.ModuleList()
        for _ in range(blocks):
            block = nn.ModuleList()
            for _ in range(layers):
                block.append(
                    nn.Sequential(
                        nn.BatchNorm2d(width),
                        nn.ReLU(),
                        convolution(width, 2 * growth, 1),
                        nn.BatchNorm2d(2 * growth),
                        nn.ReLU(),
                        convolution(2 * growth, growth),
                    )
                )
                width += growth
            self.blocks.append(block)
            pool = nn.BatchNorm2d(width), nn.ReLU(), convolution(width, width // 2, 1)
            self.between.append(nn.Sequential(*pool, nn.AvgPool2d(2)))
            width //= 2
        self.last, self.head = nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for k, (block, between) in enumerate(zip(self.blocks, self.between, strict=True)):
            for layer in block:
                x = torch.cat([x, layer(x)], 1)
            x = between(x) if k + 1 < len(self.blocks) else between[2](between[:2](x))
        return self.head(self.last(x).relu().mean((2, 3)))


class DenseToTheEnd(Dense):
    """The last block goes into the head as it is."""

    def __init__(self):
        super().__init__()
        width = self.between[-1][0].num_features
        self.between[-1] = nn.Identity()
        self.last, self.head = nn.BatchNorm2d(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for block, between in zip(self.blocks, self.between, strict=True):
            for layer in block:
                x = torch.cat([x, layer(x)], 1)
            x = between(x)
        return self.head(self.last(x).relu().mean((2, 3)))


def measured(model, size=16):
    torch.manual_seed(0)
    y = torch.randint(10, (8,))
    return measure_scale(
        (model, torch.randn(8, 3, size, size), lambda scores: F.cross_entropy(scores, y))
    )


def test_a_trunk_is_not_measured_against_a_branch_that_is_concatenated_to_it():
    torch.manual_seed(0)
    scale = measured(DenseToTheEnd())
    assert not any(finding.fails for finding in scale.findings)
    for finding in scale.findings:
        assert "blocks.2." not in finding.message  # from a layer of the last block: it is a branch
        assert not finding.repair.startswith(
            "add skip connections around the operators between them."
        )


def test_what_a_batch_norm_divides_by_channels_is_normalised_side_by_side_too():
    torch.manual_seed(0)
    rows = {row.name: row for row in measured(DenseToTheEnd()).rows if row.kind == "product"}
    assert all(row.normalised for name, row in rows.items() if not name.startswith("head"))
    assert not any(row.no_effect for row in rows.values() if ".5.weight" in row.name)


def test_a_layer_norm_of_a_concatenation_does_not_divide_each_part_by_its_own_size():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(32, 4)

        def forward(self, x):
            return self.head(F.layer_norm(torch.cat([self.a(x), self.b(x)], 1), (32,)))

    torch.manual_seed(0)
    scale = measure_scale((Beside(), torch.randn(64, 16)))
    assert not any(row.normalised for row in scale.rows)


class Residual(nn.Module):
    """Plain layers and then residuals, whose sums a norm may divide; the width stays."""

    def __init__(self, blocks, plain, weight, width=16, after=False):
        super().__init__()
        self.after = after
        self.stem, self.norm = convolution(3, width), nn.BatchNorm2d(width)
        self.plain = nn.Sequential(*(m for _ in range(plain) for m in self.layer(width, width)))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *self.layer(width, 2 * width), convolution(2 * width, width), nn.BatchNorm2d(width)
            )
            for _ in range(blocks)
        )
        for block in self.blocks:
            nn.init.constant_(block[-1].weight, weight)
        self.last, self.end = convolution(width, width), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 10)

    @staticmethod
    def layer(a, b):
        return convolution(a, b), nn.BatchNorm2d(b), nn.ReLU()

    def forward(self, x):
        x = self.plain(self.norm(self.stem(x)).relu())
        for block in self.blocks:
            x = x + block(x)
            x = F.batch_norm(x, None, None, training=True).relu() if self.after else x
        return self.head(self.end(self.last(x)).relu().mean((2, 3)))


def repair(model):
    found = (f for f in measured(model, 12).findings if f.rule == "scale.backward-variance")
    return next((finding.repair for finding in found), "")


def test_branches_that_outweigh_their_skips_are_told_and_their_zeros_help():
    torch.manual_seed(0)
    assert "start each branch at zero" in repair(Residual(8, 0, 8.0, after=True))
    assert "start each branch" not in repair(Residual(8, 0, 0.0, after=True))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_where_the_gradient_grows_without_skips_nothing_is_said_of_branches(weight):
    torch.manual_seed(0)
    found = repair(Residual(4, 16, weight))
    assert "add skip connections around the operators between them that have none (17 of " in found
