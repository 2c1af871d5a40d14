"""Programs on `x` of shape `[b, n, 4]` whose cost is no polynomial, or hardly one."""

import random

import torch


def above_64(s, x):
    return s.lin(s.lin(x)) if x.shape[1] > 64 else s.lin(x)


def exactly_100(s, x):
    return s.lin(s.lin(x)) if x.shape[1] == 100 else s.lin(x)


def halving_loop(s, x):
    n = x.shape[1]
    while n > 1:
        x, n = s.lin(x), n // 2
    return s.lin(x)


def one_more_every_32(s, x):
    for _ in range(x.shape[1] // 32 + 1):
        x = s.lin(x)
    return x


def windows_of_5(s, x):
    out = []
    for i in range(0, x.shape[1], 5):
        c = s.lin(x[:, i : i + 5])
        out.append(c @ (c.transpose(1, 2) @ c))
    return torch.cat(out, 1)


def random_choice(s, x):
    return s.lin(s.lin(x)) if random.random() < 0.3 else s.lin(x)


def batch_of_one(s, x):
    return s.lin(s.lin(x)) if x.shape[0] == 1 else s.lin(x)


def more_rows_than_columns(s, x):
    return s.lin(s.lin(x)) if x.shape[0] > x.shape[1] else s.lin(x)


def attention(s, x):
    return (x @ s.lin(x).transpose(1, 2)).softmax(-1) @ x


def sevenths(s, x):
    return s.lin(s.lin(x)) if x.shape[1] % 7 == 0 else s.lin(x)


def clipped_at_50(s, x):
    return s.lin(x[:, :50])


def unfolded(s, x):
    return s.lin(x.unfold(1, 6, 3).transpose(2, 3))


def triangular_loop(s, x):
    def step(t):
        return (s.lin(x[:, t - 1 : t]) @ x[:, :t].transpose(1, 2)) @ x[:, :t]

    return torch.cat([step(t) for t in range(1, x.shape[1] + 1)], 1)


def product_above_500(s, x):
    return s.lin(s.lin(x)) if x.shape[0] * x.shape[1] > 500 else s.lin(x)


def root_loop(s, x):
    for _ in range(int(x.shape[1] ** 0.5)):
        x = s.lin(x)
    return x


def nested_floors(s, x):
    for _ in range(x.shape[1] // 3):
        for _ in range(x.shape[1] // 4):
            x = s.lin(x)
    return s.lin(x)


def ceiling(s, x):
    return s.lin(torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 8)))


def odd_one_out(s, x):
    return s.lin(x) if x.shape[1] % 2 else s.lin(s.lin(s.lin(x)))


def not_beyond_90(s, x):
    if x.shape[1] > 90:
        raise ValueError("too long")
    return s.lin(x)


ANSWERED = {
    above_64: "32*b*n for n ≤ 64; 64*b*n for n ≥ 65",
    exactly_100: "32*b*n for n ≤ 99; 6400*b for n = 100; 32*b*n for n ≥ 101",
    one_more_every_32: "32*b*n*((n//32) + 1)",
    windows_of_5: "96*b*n",
    batch_of_one: "32*b*n",
    attention: None,
    sevenths: None,
    clipped_at_50: "32*b*n for n ≤ 50; 1600*b for n ≥ 51",
    unfolded: None,
    triangular_loop: "8*b*n*(n + 5)",
    ceiling: "256*b*((n + 7)//8)",
    odd_one_out: None,
    not_beyond_90: "32*b*n for n ≤ 90",
}
REFUSED = [halving_loop, random_choice, more_rows_than_columns, product_above_500, root_loop,
           nested_floors]  # fmt: skip
