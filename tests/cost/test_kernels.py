"""A fused kernel counts what its parts count when they are run one by one."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions

from assay import derive_cost
from assay.cost.convention import Rule
from assay.cost.count import count
from assay.cost.tally import BACKWARD, FLOPS, FORWARD
from assay.state import unfused
from assay.subject import Subject


def flops(model, *inputs, fused=True):
    """Forward and backward flops as they are run, or with every kernel taken apart."""
    with contextlib.nullcontext() if fused else unfused():
        counts = count(Subject(model, inputs)).counts
    return [
        sum(v for k, v in counts.items() if (k.quantity, k.phase) == (FLOPS, phase))
        for phase in (FORWARD, BACKWARD)
    ]


class Attention(nn.Module):
    def forward(self, q, k, v):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return nn.functional.scaled_dot_product_attention(q, k, v)


class Taken(Attention):
    def forward(self, q, k, v):
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


def frozen(model):
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("cell", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers(cell, both):
    model = cell(6, 5, 2, bidirectional=both)
    x = torch.randn(7, 3, 6, requires_grad=True)
    fused, apart = flops(model, x), flops(model, x, fused=False)
    assert fused[0] == apart[0] > 0
    # cell by cell, nobody asks for the gradient of the first hidden state: of 2 layers, for 3 rows
    spared = 2 * 2 * 3 * model.all_weights[0][1].numel() * (1 + both)
    assert fused[1] in (apart[1], apart[1] + spared)


def test_the_encoders_fast_path_and_attention():
    x = torch.randn(3, 5, 8)
    for model, inputs in (
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (x,)),
        (nn.MultiheadAttention(8, 2, batch_first=True), (x, x, x)),
    ):
        with torch.no_grad():
            fused = flops(frozen(model), *inputs)
        with torch.no_grad():
            apart = flops(model, *inputs, fused=False)
        assert fused == apart
        assert fused[0] > 0


def test_flash_attention_on_a_cpu():
    q, k, v = (torch.randn(2, 3, n, 4, requires_grad=True) for n in (6, 5, 5))
    # the kernel's backward recomputes the scores: five products for four
    assert flops(Attention(), q, k, v)[0] == flops(Taken(), q, k, v)[0] > 0
    assert flops(Attention(), q, k, v)[1] * 4 == flops(Taken(), q, k, v)[1] * 5


class Loss(nn.Module):
    """The loss of logits `[4, 5]`, with options in chunks of rows."""

    def __init__(self, **given):
        super().__init__()
        self.weight, self.given = nn.Parameter(torch.randn(5, 6)), given

    def forward(self, x, y):
        return nn.functional.linear_cross_entropy(x, self.weight, y, **self.given)


def test_cross_entropy_of_a_linear_map_in_chunks():
    x, y = torch.randn(4, 6), torch.randint(0, 5, (4,))
    product, wanted = 2 * 4 * 5 * 6, x.clone().requires_grad_()
    chunks = LinearCrossEntropyOptions(batch_chunk_size=2)
    assert flops(Loss(), wanted, y) == [product, 2 * product]
    # in chunks gradients are made on the way, or the logits a second time
    assert flops(Loss(options=chunks), wanted, y) == [3 * product, 0]
    assert flops(Loss(options=chunks), x, y) == [2 * product, 0]
    alone = Loss(options=chunks, reduction="none")
    assert flops(alone, wanted, y) == [product, 3 * product]


class Flex(nn.Module):
    def __init__(self, masked):
        super().__init__()
        self.lin, self.masked = nn.Linear(16, 48), masked

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.lin(x).view(b, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        if self.masked:
            mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, n, n, device=x.device)
            return flex_attention(q, k, v, block_mask=mask)
        return flex_attention(q, k, v, score_mod=lambda score, b, h, i, j: score + (i - j))


@pytest.mark.parametrize("masked", [False, True])
def test_flex_attention_is_dense_attention(masked):
    def build(b: int = 2, n: int = 16):
        return Flex(masked), torch.randn(b, n, 16)

    cost = derive_cost(build)
    assert cost.flops.forward(b=3, n=500) == 3 * 500 * (2 * 16 * 48 + 4 * 500 * 16)
    assert cost.flops.backward(b=3, n=500) == 2 * 3 * 500 * (2 * 16 * 48 + 4 * 500 * 16) - 2 * (
        3 * 500 * 16 * 48
    )


@pytest.mark.parametrize(
    ("rows", "weight", "groups", "wanted"),
    [
        ((6, 8), (3, 8, 16), [2, 4, 6], 2 * 6 * 8 * 16),
        ((8, 6), (6, 16), [2, 4, 6], 2 * 8 * 6 * 16),
        ((3, 4, 8), (8, 6), [2, 4, 6], 2 * 4 * 8 * 6),
    ],
)
def test_grouped_products(rows, weight, groups, wanted):
    rule = Rule(torch.ops.aten._grouped_mm.default)
    a, b = torch.randn(rows), torch.randn(weight)
    assert rule.flops(a, b, torch.tensor(groups, dtype=torch.int32), out_val=None) == wanted


def test_integer_products():
    a, b = torch.ones(17, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
    out = torch._int_mm(a, b)
    rule = Rule(torch.ops.aten._int_mm.default)
    assert rule.flops(a, b, out_val=out) == 2 * 17 * 8 * 16


class Apart(nn.Module):
    """A grouped convolution as one for each group, which torch's table counts right."""

    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, x):
        whole, g = self.whole, self.whole.groups
        run = nn.functional.conv_transpose2d if whole.transposed else nn.functional.conv2d
        pieces = zip(x.chunk(g, 1), whole.weight.chunk(g, 0), strict=True)
        options = {"stride": whole.stride, "padding": whole.padding, "dilation": whole.dilation}
        return torch.cat([run(part, weight, **options) for part, weight in pieces], 1)


@settings(max_examples=40)
@given(
    st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2)),
    st.booleans(),
)
def test_products_of_grouped_convolutions_are_those_of_their_groups(kind, widths, options, first):
    """Of the input no gradient is wanted where the convolution is the first layer."""
    groups, into, out = widths
    kernel, stride, padding, dilation = options
    whole = kind(
        *(groups * into, groups * out, kernel, stride, padding),
        **{"dilation": dilation, "groups": groups, "bias": False},
    )
    x = torch.randn(2, groups * into, 7, 6, requires_grad=not first)
    told = count(Subject(whole, (x,)))
    done = {
        phase: sum(
            amount.operations
            for part, amount in told.parts.items()
            if part.kind == "convolution" and part.phase == phase
        )
        for phase in (FORWARD, BACKWARD)
    }
    forward, backward = flops(Apart(whole), x)
    assert done == {FORWARD: forward, BACKWARD: backward}
    assert flops(whole, x)[0] == forward
    assert (flops(whole, x)[1] == backward) == (groups == 1)  # torch's own count
