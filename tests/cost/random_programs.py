"""Random programs: source text of a model's forward, put together from pieces whose cost turns somewhere."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

small = st.integers(2, 9)
limit = st.one_of(st.integers(2, 40), st.sampled_from([50, 64, 100, 128, 200, 256]))

# What stands in the place of an integer: itself, or something that leads to it.
PLACES = ("{v}", "s.limit_{v}", "LIMIT_{v}", "s.limits[{v}]", "limit_{v}()")


@dataclass(frozen=True)
class Source:
    """A program: the lines of its forward, and the integers that it takes from elsewhere."""

    lines: tuple[str, ...]
    integers: tuple[int, ...] = ()

    def __str__(self):
        body = "\n".join(f"    {line}" for line in self.lines)
        return (
            f"def forward(s, x, y):\n    b, n, m = *x.shape[:2], y.shape[1]\n{body}\n    return x\n"
        )

    def build(self, b: int = 2, n: int = 6, m: int = 5):
        """The program on `[b, n, 4]` and `[b, m, 4]`."""
        space = {"torch": torch, "F": F, "nn": nn}
        for v in self.integers:
            space |= {f"LIMIT_{v}": v}
            exec(f"def limit_{v}():\n    return {v}\n", space)
        exec(compile(str(self), "<program>", "exec"), space)
        return Model(space["forward"], self.integers), (torch.randn(b, n, 4), torch.randn(b, m, 4))


class Model(nn.Module):
    def __init__(self, run, integers):
        super().__init__()
        self.run, self.limits = run, {v: v for v in integers}
        self.lin, self.out = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        for v in integers:
            setattr(self, f"limit_{v}", v)

    def forward(self, x, y):
        return self.run(self, x, y)


conditions = st.one_of(
    st.builds("{0} {1} {{v}}".format, st.sampled_from("nmb"), st.sampled_from([">", ">=", "==", "<", "!="])),
    st.builds("n % {0} == {1}".format, st.integers(2, 6), st.integers(0, 5)),
    st.sampled_from(["n > m", "n + m > {v}", "b * n > {v}", "n - m > {v}", "n == m"]),
)  # fmt: skip


@st.composite
def pieces(draw):
    """Lines of code, and an integer that they take from elsewhere."""
    v, place = draw(limit), draw(st.sampled_from(PLACES))
    w, stride = draw(small), draw(small)
    far = place.format(v=v)
    size = draw(st.sampled_from("nm"))
    some = {"n": "x", "m": "y"}[size]
    kinds = {
        "layer": ["x = s.lin(x)"],
        "attention": ["x = x @ y.transpose(1, 2) @ s.out(y)"],
        "self-attention": ["x = s.lin(x @ x.transpose(1, 2) @ x)"],
        "loop": [f"for t in range({size}):", "    x = s.lin(x)"],
        "scan": ["for t in range(1, n + 1):",
                 "    x = x + s.out(x[:, :t]).sum(1, keepdim=True)"],
        "strided loop": [f"for t in range(0, {size}, {stride}):", "    x = s.lin(x)"],
        "window": [f"for t in range(0, {size}, {stride}):", f"    c = s.out({some}[:, t:t + {w}])",
                   "    x = x + (c @ (c.transpose(1, 2) @ c)).sum()"],
        "steps": [f"for t in range({size} // {w} + 1):", "    x = s.lin(x)"],
        "convolution": [f"c = F.pad({some}, (0, 0, 0, {w}))",
                        f"c = F.conv1d(c.transpose(1, 2), s.lin.weight.unsqueeze(2), stride={stride})",
                        "c = F.conv1d(F.pad(c, (0, 1)), s.out.weight.unsqueeze(2), stride=2)",
                        "x = x + c.sum()"],
        "slice": [f"x = x + s.lin({some}[:, :{far}]).sum()"],
        "minimum": [f"x = x + s.lin({some}[:, :min({size}, {far})]).sum()"],
        "maximum": [f"c = {some}[:, :1].expand(-1, max({size}, {far}), -1)",
                    "x = x + s.lin(c).sum()"],
        "multiple": [f"x = x + s.lin(F.pad({some}, (0, 0, 0, -{size} % {w}))).sum()"],
        "split": [f"for c in {some}.split({w}, 1):",
                  "    x = x + (s.out(c) @ c.transpose(1, 2)).sum()"],
        "chunk": [f"for c in {some}.chunk({w}, 1):",
                  "    x = x + (s.out(c) @ c.transpose(1, 2)).sum()"],
        "nested": [f"for i in range(0, n, {stride}):", f"    for j in range(0, m, {w}):",
                   "        x = s.lin(x)"],
        "triangle": ["for i in range(0, n, 4):", "    for j in range(i, n, 4):",
                     "        x = s.lin(x)"],
        "halving": [f"k = {size}", "while k > 1:", "    x, k = s.lin(x), k // 2"],
        "root": [f"for t in range(int({size}**0.5)):", "    x = s.lin(x)"],
        "far": [f"for t in range(max(0, {size} - {far})):", "    x = s.lin(x)"],
    }  # fmt: skip
    lines = kinds[draw(st.sampled_from(list(kinds)))]
    if draw(st.booleans()):
        condition = draw(conditions).replace("{v}", far)
        lines = [f"if {condition}:", *(f"    {line}" for line in lines)]
    return Source(tuple(lines), (v,))


programs = st.lists(pieces(), min_size=1, max_size=2).map(
    lambda parts: Source(
        ("x = s.lin(x)", *(line for part in parts for line in part.lines)),
        tuple(sorted({v for part in parts for v in part.integers})),
    )
)
