"""Models that stack blocks, as users write them; none of them is one of the examples."""

import math

import torch
from roads import (
    D,
    Written,
    exhibit,
    linear,
    residual,
    rows,
    series,
    stack,
    tied,
    vector,
)
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def images(channels=4, n=2, side=8):
    return torch.randn(n, channels, side, side)


def conv(i, o, size=3, **options):
    return nn.Conv2d(i, o, size, padding=size // 2, **options)


@exhibit()
def plain_mlp():
    return nn.Sequential(*[m for _ in range(9) for m in (linear(), nn.Tanh())]), rows()


@exhibit((6, False, None, False))
def residual_mlp():
    return stack(residual), rows()


@exhibit((6, True, None, False))
def one_block_six_times():
    return tied(residual), rows()


@exhibit((6, False, None, False))
def written_in_place():
    def forward(m, x):
        y = torch.tanh(m.f(x.clone()))
        x += y
        return x

    return nn.Sequential(linear(), stack(lambda: Written(forward, f=linear()))), rows()


@exhibit((6, False, None, False))
def recomputed_in_the_backward_pass():
    def forward(m, x):
        return x + checkpoint(lambda y: torch.tanh(m.f(y)), x, use_reentrant=False)

    return stack(lambda: Written(forward, f=linear())), rows()


@exhibit((6, False, None, False))
def zero_started_residual():
    return stack(
        lambda: Written(lambda m, x: x + m.a * torch.tanh(m.f(x)), f=linear(), a=vector(0.1, 1))
    ), rows()


@exhibit((3, False, None, False))
def parallel_attention_and_mlp():
    def forward(m, x):
        y = m.norm(x)
        return torch.tanh(m.a(y)) + torch.tanh(m.b(y)) + x

    def block():
        return Written(forward, a=linear(), b=linear(), norm=nn.LayerNorm(D))

    return stack(block, 3), rows()


class RMS(nn.Module):
    """x / rms(x), written out."""

    def __init__(self):
        super().__init__()
        self.gain = vector(1.0)

    def forward(self, x):
        return self.gain * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6))


@exhibit((6, False, None, False))
def written_out_norm_in_front():
    return stack(
        lambda: Written(lambda m, x: x + torch.tanh(m.f(m.norm(x))), f=linear(), norm=RMS())
    ), rows()


@exhibit((6, False, None, True))
def written_out_norm_behind():
    return stack(
        lambda: Written(lambda m, x: m.norm(x + torch.tanh(m.f(x))), f=linear(), norm=RMS())
    ), rows()


@exhibit((6, False, None, True))
def torch_rms_norm_behind():
    return stack(
        lambda: Written(lambda m, x: m.norm(x + m.f(x).relu()), f=linear(), norm=nn.RMSNorm(D))
    ), rows()


def encoder(norm_first):
    layer = nn.TransformerEncoderLayer(D, 2, 8, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


@exhibit((6, False, None, False))
def pre_norm_transformer():
    return encoder(True), series()


@exhibit((6, False, None, True))
def post_norm_transformer_in_evaluation_mode():
    return encoder(False).eval(), series()


@exhibit((6, False, None, True), (4, False, None, True))
def encoder_decoder_transformer():
    model = nn.Transformer(D, 2, 2, 2, 8, batch_first=True)
    return model, series(), series(steps=5)


@exhibit((4, False, None, False))
def convnext():
    def forward(m, x):
        y = m.wide(x).permute(0, 2, 3, 1)
        return x + (m.scale * m.down(F.gelu(m.up(m.norm(y))))).permute(0, 3, 1, 2)

    def block():
        inner = {"norm": nn.LayerNorm(4), "up": linear(4, 16), "down": linear(16, 4)}
        return Written(forward, wide=conv(4, 4, groups=4), **inner, scale=vector(0.1))

    return stack(block, 4), images()


def basic_block(i, o, stride=1):
    """A block of the first ResNets: the rectifier stands behind the sum."""
    half = [conv(i, o, stride=stride), nn.BatchNorm2d(o), nn.ReLU(), conv(o, o), nn.BatchNorm2d(o)]
    skip = nn.Identity() if i == o else nn.Conv2d(i, o, 1, stride)
    return Written(lambda m, x: torch.relu(m.skip(x) + m.f(x)), f=nn.Sequential(*half), skip=skip)


@exhibit((4, False, None, False))
def resnet_with_projections():
    blocks = basic_block(4, 4), basic_block(4, 8, 2), basic_block(8, 8), basic_block(8, 16, 2)
    return nn.Sequential(*blocks), images()


@exhibit((3, False, None, False))
def resnet_that_pools_its_skip():
    def block():
        skip = nn.Sequential(nn.AvgPool2d(2), conv(4, 4, 1))
        return Written(lambda m, x: m.skip(x) + m.f(x).relu(), f=conv(4, 4, stride=2), skip=skip)

    return stack(block, 3), images()


@exhibit((6, False, None, False))
def sum_inside_a_matrix_product():
    def forward(m, x):
        return torch.addmm(x, torch.tanh(x), m.f.weight)

    return stack(lambda: Written(forward, f=linear(bias=False))), rows()


@exhibit((6, False, None, False))
def subtracted_diversions():
    return stack(
        lambda: Written(lambda m, x: torch.neg(-x) / 1.0 - torch.tanh(m.f(x)), f=linear())
    ), rows()


@exhibit()
def differences():
    """c − h is no step from h."""
    return stack(lambda: Written(lambda m, x: torch.tanh(m.f(x)) - x, f=linear())), rows()


@exhibit((1, False, "data", False), (1, False, "constant", False), (1, False, None, False))
def a_difference_used_twice():
    """d = x − c is a step of its own for one reader, and a part of d·z + c for another."""

    def forward(m, x):
        c = torch.tanh(m.f(x))
        d = x - c
        e = d + torch.tanh(m.g(d))
        h = d * torch.sigmoid(m.z(x)) + c
        return 1.5 * h + torch.tanh(e)

    return Written(forward, f=linear(), g=linear(), z=linear()), rows()


@exhibit()
def a_factor_is_no_addition():
    return stack(lambda: Written(lambda m, x: x * torch.sigmoid(m.f(x)) + x, f=linear())), rows()


@exhibit()
def a_linear_map_beside_a_linear_map():
    return stack(lambda: Written(lambda m, x: m.a(x) + m.b(x), a=linear(), b=linear())), rows()


@exhibit((6, False, "data", False))
def highway_in_depth():
    def forward(m, x):
        z = torch.sigmoid(m.gate(x))
        return z * torch.relu(m.f(x)) + (1 - z) * x

    return stack(lambda: Written(forward, f=linear(), gate=linear())), rows()


@exhibit((6, False, "constant", False))
def halves():
    return stack(
        lambda: Written(lambda m, x: 0.5 * x + 0.5 * torch.tanh(m.f(x)), f=linear())
    ), rows()


@exhibit()
def squeeze_and_excite_without_a_skip():
    return stack(
        lambda: Written(lambda m, x: m.f(x) * torch.sigmoid(m.g(x)), f=linear(), g=linear()), 3
    ), rows()


@exhibit()
def gelu_by_its_formula():
    def forward(m, x):
        x = m.f(x)
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    return stack(lambda: Written(forward, f=linear()), 3), rows()


@exhibit()
def swish_by_its_formula():
    def forward(m, x):
        x = m.f(x)
        return x * torch.sigmoid(x)

    return stack(lambda: Written(forward, f=linear()), 3), rows()


@exhibit()
def two_towers():
    return Written(lambda m, x: torch.tanh(m.a(x)) + torch.tanh(m.b(x)), a=linear(), b=linear()), (
        rows()
    )


@exhibit((5, False, None, False))
def no_input_at_all():
    """The first of the six sums is one of parameters alone."""
    blocks = stack(residual)
    return Written(lambda m: m.blocks(m.start), blocks=blocks, start=nn.Parameter(rows()))


class Mixing(nn.Module):
    """x + g·(mix(x) − x), where the mixing has no weights, and then a diversion that has."""

    def __init__(self, mix):
        super().__init__()
        self.mix, self.f = mix, linear()

    def forward(self, x):
        x = self.mix(x)
        return x + torch.tanh(self.f(x))


def mixing(mix):
    return stack(lambda: Mixing(mix)), torch.randn(3, 5, D)


@exhibit((6, False, None, False))
def a_difference_from_the_mean_is_added_on_the_way():
    return mixing(lambda x: x + 0.1 * (x.mean(1, keepdim=True) - x))


@exhibit((6, False, None, False))
def a_pooled_norm_is_added_on_the_way():
    def pool(x):
        h = F.layer_norm(x, (D,))
        return x + (F.avg_pool1d(h.mT, 3, 1, 1).mT - h)

    return mixing(pool)


@exhibit((1, False, None, False), (1, False, None, False))
def another_input_is_added_on_the_way():
    def forward(m, both):
        x, y = both.chunk(2, -1)
        x = x + torch.tanh(m.f(x))
        x = x + y
        return x + torch.tanh(m.g(x))

    return Written(forward, f=linear(), g=linear()), rows(d=2 * D)


@exhibit((12, False, None, False))
def what_a_norm_made_of_the_value_is_taken_from_the_branch():
    def forward(m, x):
        x = x + m.a * (torch.tanh(m.f(x)) - m.norm(x))
        return x + torch.tanh(m.g(x))

    return stack(
        lambda: Written(forward, f=linear(), g=linear(), norm=nn.LayerNorm(D), a=vector(0.1, 1))
    ), rows()


@exhibit((12, False, "constant", False))
def a_constant_factor_at_every_second_addition():
    def forward(m, x):
        x = x + 0.1 * (torch.tanh(m.f(x)) - x)
        return x + torch.tanh(m.g(x))

    return stack(lambda: Written(forward, f=linear(), g=linear())), rows()
