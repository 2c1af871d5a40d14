"""Floors of several periods at once: levels of a pyramid together, tables that end, areas cut in parts."""

import pytest
import torch
from cost_twins import alive, flops
from torch import nn

from assay import derive_cost


class Pyramid(nn.Module):
    """Maps of three strides, their places side by side as in RetinaNet, SSD and CrossViT."""

    def __init__(self, strides):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, 4, 3, stride=s, padding=1) for s in strides)
        self.head = nn.Linear(4, 6)

    def forward(self, x):
        places = torch.cat([level(x).flatten(2) for level in self.levels], 2)
        return self.head(places.transpose(1, 2))


def pyramid(b: int = 2, h: int = 64):
    return Pyramid((4, 8, 16)), torch.randn(b, 3, h, h)


class Positions(nn.Module):
    """Patches with a learned table of positions that ends at 50."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, 16)
        self.table = nn.Parameter(torch.randn(50, 8))

    def forward(self, x):
        y = self.patches(x).mean(3).transpose(1, 2)
        return y + self.table[: y.shape[1]]


def positions(b: int = 2, h: int = 64):
    return Positions(), torch.randn(b, 3, h, h)


class Masked(nn.Module):
    """Attention among a quarter of the patches, as a masked autoencoder has it, and then among all."""

    def __init__(self):
        super().__init__()
        self.patches, self.layer = nn.Conv2d(1, 4, 4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.patches(x).flatten(2).transpose(1, 2)
        few = self.layer(y[:, : int(y.shape[1] * 0.25)])
        few = (few @ few.transpose(1, 2)).softmax(-1) @ few
        return torch.cat([few, y[:, few.shape[1] :]], 1) @ y.transpose(1, 2)


def masked(b: int = 2, h: int = 32):
    return Masked(), torch.randn(b, 1, h, h)


class Residues(nn.Module):
    """A parabola of its own for every remainder."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        for _ in range((1, 3, 2, 5)[x.shape[1] % 4]):
            x = self.layer((x @ x.transpose(1, 2)) @ x)
        return x


def residues(b: int = 2, n: int = 16):
    return Residues(), torch.randn(b, n, 4)


@pytest.mark.parametrize(
    ("build", "size", "values", "order"),
    [
        (pyramid, "h", (7, 16, 63, 64, 65, 100, 333, 640), "O(b*h**2)"),
        (positions, "h", (16, 47, 48, 64, 511, 800, 815), "O(b*h**2)"),
        (masked, "h", (32, 36, 40, 63, 64, 100, 257, 512), "O(b*h**4)"),
        (residues, "n", (6, 9, 16, 17, 18, 19, 100, 203), "O(b*n**2)"),
    ],
)
def test_the_law_is_right_at_every_size(build, size, values, order):
    cost = derive_cost(build)
    for value in values:
        for b in (2, 5):
            sizes = {"b": b, size: value}
            forward, backward = flops(build, **sizes)
            assert cost.flops.forward(**sizes) == forward, sizes
            assert cost.flops.backward(**sizes) == backward, sizes
    assert cost.flops.total.order == order


def test_levels_are_floors_of_their_own_strides():
    cost = derive_cost(pyramid)
    assert all(f"((h + {s - 1})//{s})**2" in str(cost.flops.forward) for s in (4, 8, 16))


def test_a_law_ends_where_the_table_does():
    formula = derive_cost(positions).flops.forward
    assert formula.holds(b=2, h=815)
    assert not formula.holds(b=2, h=816)


def test_a_law_with_as_many_coefficients_as_values_is_none():
    class Odd(nn.Module):
        """Another number of layers from each sixteenth of a hundred to the next."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            n = x.shape[1]
            for _ in range((n // 8).bit_count() + (n // 8) % 3):
                x = self.layer(x)
            return x

    def build(b: int = 2, n: int = 32):
        return Odd(), torch.randn(b, n, 4)

    formula = derive_cost(build).flops.forward
    for n in (32, 33, 39, 40, 100, 333):
        if formula.holds(b=2, n=n):
            assert formula(b=2, n=n) == flops(build, b=2, n=n)[0]
    assert formula.status == "refused" or "//" not in formula.order


def gated(b: int = 2, n: int = 8, d: int = 48):
    """The width of Llama's perceptron: two thirds of four times its own."""
    inner = int(2 * (4 * d) / 3)
    return nn.Sequential(nn.Linear(d, inner), nn.SiLU(), nn.Linear(inner, d)), torch.randn(b, n, d)


class Kept(nn.Module):
    """A layer of some of the tokens."""

    def __init__(self, keep):
        super().__init__()
        self.layer, self.keep = nn.Linear(4, 4), keep

    def forward(self, x):
        return self.layer(x[:, : self.keep(x.shape[1])])


def test_floors_of_multiples():
    cost = derive_cost(gated)
    assert str(cost.flops.forward) == "4*b*d*((8*d)//3)*n"
    assert cost.flops.forward.order == "O(b*d**2*n)"
    assert cost.flops.forward(b=3, n=5, d=1001) == flops(gated(3, 5, 1001))[0]
    kept = derive_cost(lambda b=2, n=16: (Kept(lambda n: int(1.25 * n / 2)), torch.randn(b, n, 4)))
    assert str(kept.flops.forward) == "32*b*((5*n)//8)"
    assert kept.flops.forward.to_dict()["pieces"][0]["terms"][0]["powers"][1]["factor"] == 5


@pytest.mark.parametrize("share", [0.7, 0.29, 0.57, 1 - 0.3, 1 / 3, 0.15])
def test_what_numbers_round_to_the_other_side_is_no_exact_floor(share):
    """`int(90 * 0.7)` is 62: a law of sevens of tenths would be wrong there, and nearly nowhere else."""

    def build(b: int = 2, n: int = 16):
        return Kept(lambda n: int(n * share)), torch.randn(b, n, 4)

    cost = derive_cost(build).flops.forward
    for n in range(8, 2000):
        if cost.status == "exact" and cost.holds(b=2, n=n):
            assert cost(b=2, n=n) == 2 * 32 * int(n * share)


class Mixed(nn.Module):
    """Attention in every fourth layer, as models with few such layers have it."""

    def __init__(self, d, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(d, (1 + 2 * (k % 4 == 3)) * d) for k in range(depth))

    def forward(self, x):
        for layer in self.layers:
            query, *others = layer(x).split(x.shape[-1], -1)
            for key, value in zip(others[::2], others[1::2], strict=True):
                query = (query @ key.transpose(1, 2)).softmax(-1) @ value
            x = x + query
        return x


@pytest.mark.parametrize("b", [1, 2])
def test_every_fourth_layer(b):
    """No layer of the smallest nets is one: what grows with their square shows further up."""
    cost = derive_cost(lambda b=b, n=6, d=8, depth=8: (Mixed(d, depth), torch.randn(b, n, d)))
    assert str(cost.flops.forward) == "2*b*d*n*(2*(depth//4)*(d + n) + d*depth)"


class Gated(nn.Module):
    """A second layer in every fourth block: what the last block holds depends on the depth's residue."""

    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth // 4))

    def forward(self, x):
        for k, layer in enumerate(self.layers):
            x = x + layer(x)
            if k % 4 == 3:
                x = x + self.gates[k // 4](x)
        return x


def test_a_peak_that_depends_on_a_residue_is_right_or_not_claimed():
    def build(b: int = 2, n: int = 8, depth: int = 8):
        return Gated(depth), torch.randn(b, n, 8)

    peak = derive_cost(build).peak_bytes
    for depth in range(5, 20):
        if peak.pieces and peak.holds(b=4, n=6, depth=depth):
            true = alive(build, b=4, n=6, depth=depth)
            assert peak(b=4, n=6, depth=depth) == pytest.approx(true, rel=0.01)
