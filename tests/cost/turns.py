"""More programs on `x` of shape `[b, n, 4]` whose cost is no polynomial, or hardly one."""

import torch


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


def attention(s, x):
    return (x @ s.lin(x).transpose(1, 2)).softmax(-1) @ x


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


def ceiling(s, x):
    return s.lin(torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 8)))


def odd_one_out(s, x):
    return s.lin(x) if x.shape[1] % 2 else s.lin(s.lin(s.lin(x)))


ANSWERED = {
    one_more_every_32: "32*b*n*((n//32) + 1)",
    windows_of_5: "96*b*n",
    attention: None,
    triangular_loop: "8*b*n*(n + 5)",
    ceiling: "256*b*((n + 7)//8)",
    odd_one_out: None,
}
REFUSED = [product_above_500, root_loop]  # fmt: skip
