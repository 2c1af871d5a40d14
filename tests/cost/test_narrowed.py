"""A size along which there is no formula is asked about in fewer places; and what is only run for real."""

import re

import pytest
import torch
from cost_twins import flops
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from assay import derive_cost
from assay.builder import Builder
from assay.cost.cost import cost_of


class Odd(nn.Module):
    """As many products of d as there are ones in `key`."""

    def __init__(self, key, d):
        super().__init__()
        self.key, self.layer = key, nn.Linear(d, d)

    def forward(self, x):
        for _ in range(self.key.bit_count() + 1):
            x = self.layer(x)
        return x


def of_remainder(b: int = 2, h: int = 64, d: int = 4):
    return Odd(h % 64, d), torch.randn(b, h, d)


def of_all_bits(b: int = 2, h: int = 64, d: int = 4):
    return Odd(h, d), torch.randn(b, h, d)


class Picky(nn.Linear):
    def forward(self, x):
        if len(x) > 2 and x.shape[1] % 3 == 1:
            raise ValueError("thirds only")
        return super().forward(x)


def test_where_the_model_raises_the_refusal_says_what():
    def build(b: int = 2, n: int = 9):
        return Picky(4, 4), torch.randn(b, n, 4)

    reason = derive_cost(build).flops.forward.reason
    assert "does not run at b=3, n=" in reason
    assert reason.endswith(": ValueError: thirds only")


def test_the_refusal_names_the_size():
    cost = derive_cost(of_all_bits)
    assert cost.status == "refused"
    assert cost.blamed == "h"
    assert not cost.narrowed


def test_at_multiples_of_the_base():
    cost = cost_of(Builder(of_remainder))
    assert list(cost.narrowed) == ["h"]
    assert "multiples of 64" in cost.narrowed["h"]
    assert not cost.flops.forward.holds(b=2, h=65, d=4)
    for sizes in ({"b": 3, "h": 64 * 7, "d": 9}, {"b": 1, "h": 64 * 100, "d": 2}):
        assert (cost.flops.forward(**sizes), cost.flops.backward(**sizes)) == flops(
            of_remainder, **sizes
        )


def test_at_the_base_alone():
    cost = cost_of(Builder(of_all_bits))
    assert "at h = 64 alone" in cost.narrowed["h"]
    assert set(cost.base) == {"b", "d"}
    sizes = {"b": 7, "d": 11}
    assert (cost.flops.forward(**sizes), cost.flops.backward(**sizes)) == flops(
        of_all_bits, h=64, **sizes
    )
    assert [f.rule for f in cost.findings] == ["cost.no-formula"]


def test_one_size_alone_stays_refused():
    cost = cost_of(Builder(lambda h=64: of_all_bits(2, h, 4)))
    assert cost.status == "refused"
    assert not cost.narrowed


class Patches(nn.Module):
    """Attention among patches, one more product where nine fit on a side; it looks at values."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, 4, 32, 32)

    def forward(self, x):
        tokens = self.embed(x).flatten(2)
        if not tokens.sum().item() < 1e30:
            raise ValueError("too large")
        found = tokens.mT @ tokens
        return found @ found if (x.shape[-1] // 32) % 9 == 0 else found


@pytest.mark.parametrize("least", [32, 64])
def test_what_is_run_for_real_is_never_wrong(least):
    def build(b: int = 2, h: int = 96):
        if h < least:
            raise ValueError("too small")
        return Patches(), torch.rand(b, 1, h, h)

    cost = derive_cost(build)
    for h in (64, 96, 129, 160, 205, 256, 288, 320):
        if cost.flops.forward.holds(b=3, h=h):
            with FlopCounterMode(display=False) as counter:
                model, x = build(3, h)
                model(x)
            assert cost.flops.forward(b=3, h=h) == counter.get_total_flops()


def test_a_search_has_an_end(monkeypatch):
    from assay.cost import derive

    monkeypatch.setattr(derive, "_OPERATORS", 60)
    monkeypatch.setattr(derive, "_PASSES", 1)
    cost = derive_cost(of_remainder)
    assert cost.status == "refused"
    assert "runs along b" in cost.flops.forward.reason
    assert cost.blamed == "b"


class Squared(nn.Module):
    """As many steps as no law says."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x[:, : x.shape[1] ** 2 % 97 + 1])


def test_a_search_that_has_run_enough_names_what_it_could_not_explain(monkeypatch):
    from assay.cost import derive

    def build(b: int = 2, n: int = 6):
        return Squared(), torch.randn(b, n, 4)

    monkeypatch.setattr(derive, "_OPERATORS", 900)
    monkeypatch.setattr(derive, "_PASSES", 1)
    cost = derive_cost(build)
    assert cost.status == "refused"
    assert re.search(
        r"^\d+ runs .*: no polynomial, .* at b=\d+, n=\d+ \(first: \w*mm at \S*test_narrowed.py:\d+",
        cost.flops.forward.reason,
    )


def test_a_model_that_runs_at_one_value_alone_says_that_one():
    def build(d: int = 4):
        return nn.Linear(d, d), torch.randn(1, 4)

    text = " ".join(str(derive_cost(build)).split())
    assert "There were no other sizes to check the formulas at." in text
    assert "Only for d = 4: at evenly spaced values around it the model does not run" in text
