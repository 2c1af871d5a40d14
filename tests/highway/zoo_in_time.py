"""Models of sequences, as users write them; none of them is one of the examples."""

import torch
from roads import (
    D,
    InTime,
    Written,
    exhibit,
    highway_cell,
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


@exhibit((10, True, "data", False))
def highway_in_time():
    return InTime(highway_cell()), series()


@exhibit((10, True, "data", False))
def masked_cell():
    """Padding leaves the state as it is."""

    def forward(m, x, h):
        return torch.where(x[:, :1] > 0, m.cell(x, h), h)

    return InTime(Written(forward, cell=nn.GRUCell(D, D))), series()


@exhibit((10, True, "data", False))
def interpolated_state():
    def forward(m, x, h):
        seen = torch.cat((x, h), -1)
        return torch.lerp(h, torch.tanh(m.c(seen)), torch.sigmoid(m.z(seen)))

    return InTime(Written(forward, c=linear(2 * D), z=linear(2 * D))), series()


@exhibit((10, True, "data", False))
def gate_that_sees_the_input_alone():
    def forward(m, x, h):
        z = torch.sigmoid(m.z(x))
        return (1 - z) * h + z * m.c(x)

    return InTime(Written(forward, c=linear(), z=linear())), series()


@exhibit((10, True, "data", False))
def multiplied_and_added_in_one():
    def forward(m, x, h):
        seen = torch.cat((x, h), -1)
        z = torch.sigmoid(m.z(seen))
        return torch.addcmul(torch.tanh(m.c(seen)) * (1 - z), z, h)

    return InTime(Written(forward, c=linear(2 * D), z=linear(2 * D)), start=linear()), series()


@exhibit((10, True, "data", False))
def dropout_between_steps():
    return InTime(Written(lambda m, x, h: F.dropout(m.cell(x, h), 0.1), cell=highway_cell())), (
        series()
    )


@exhibit((10, True, "constant", False))
def updates_by_the_clock():
    """Every other unit is written at a step, whatever the data: a constant mask."""

    def forward(m, x, h):
        return torch.where(torch.arange(D) % 2 == 0, torch.tanh(m.c(torch.cat((x, h), -1))), h)

    return InTime(Written(forward, c=linear(2 * D))), series()


@exhibit((10, True, "constant", False))
def average_of_steps_computed_at_once():
    """All steps read one tensor, as in a scan: the values differ, their node does not."""

    def forward(m, x):
        h, a = torch.zeros(len(x), D), torch.sigmoid(m.a)
        for step in m.f(x).unbind(1):
            h = a * h + step
        return h

    return Written(forward, f=linear(), a=vector()), series()


@exhibit((10, True, "constant", False))
def leaky_units():
    def forward(m, x, h):
        return 0.9 * h + 0.1 * torch.tanh(m.c(torch.cat((x, h), -1)))

    return InTime(Written(forward, c=linear(2 * D))), series()


@exhibit(*[(10, True, "data", False)] * 4)
def two_layers_in_two_directions():
    return nn.GRU(D, D, num_layers=2, bidirectional=True, batch_first=True), series()


@exhibit((10, True, "data", False))
def fused_lstm_of_frozen_weights():
    return nn.LSTM(D, D, batch_first=True).requires_grad_(False), series()


@exhibit()
def fused_rnn():
    return nn.RNN(D, D, batch_first=True), series()


@exhibit((8, True, None, False))
def euler_steps():
    return tied(lambda: residual(0.05), 8), rows()


def rotated(x):
    """Rotary positions: x cos + turned(x) sin."""
    angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None].expand(-1, x.shape[2])
    a, b = x.chunk(2, -1)
    return x * angle.cos() + torch.cat((-b, a), -1) * angle.sin()


@exhibit()
def rotary_attention():
    def forward(m, x):
        return F.scaled_dot_product_attention(rotated(m.q(x)), rotated(m.k(x)), m.v(x))

    return Written(forward, q=linear(), k=linear(), v=linear()), series()


def shifting():
    return {"f": linear(), "norm": nn.LayerNorm(D), "mix": vector(0.5)}


@exhibit()
def token_shift():
    """A mixture of a value with its neighbour's is no skip, whatever lies before it."""

    def forward(m, x):
        x = m.norm(torch.tanh(m.f(x)))
        return m.mix * x + (1 - m.mix) * x.roll(1, 1)

    return Written(forward, **shifting()), series()


@exhibit((3, False, None, False))
def token_shift_inside_residual_blocks():
    def forward(m, x):
        y = m.norm(x)
        return x + torch.tanh(m.f(m.mix * y + (1 - m.mix) * y.roll(1, 1)))

    return stack(lambda: Written(forward, **shifting()), 3), series()


@exhibit()
def embeddings_added_to_positions():
    def forward(m, ids):
        return m.read(m.words(ids) + m.places(torch.arange(ids.shape[1])))

    parts = {"words": nn.Embedding(9, D), "places": nn.Embedding(10, D), "read": linear()}
    return Written(forward, **parts), torch.randint(0, 9, (3, 10))


@exhibit()
def sums_of_all_steps():
    """An output that adds up what every step says is no path through the steps."""

    def forward(m, x):
        total = torch.zeros(len(x), D)
        for step in m.f(x).unbind(1):
            total = total + step
        return total

    return Written(forward, f=linear()), series(steps=24)
