"""Where the law of a cost turns: a formula that is right on both sides, or a refusal with its reason."""

import random

import pytest
import torch
from cost_twins import answers, flops
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from assay.builder import Builder
from assay.cost.cost import derive_cost

SIZES = (2, 3, 6, 7, 14, 31, 32, 33, 49, 50, 51, 63, 64, 65, 99, 100, 101, 128, 257)


class Program(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.run, self.layer = run, nn.Linear(4, 4)

    def forward(self, x):
        return self.run(self.layer, x)


def again_where(condition):
    return lambda layer, x: layer(layer(x)) if condition(*x.shape[:2]) else layer(x)


def halving(layer, x):
    n = x.shape[1]
    while n:
        x, n = layer(x), n // 2
    return x


def pooled(layer, x):
    return layer(x.unfold(1, 6, 3).transpose(2, 3))


def builder(run):
    def build(b: int = 3, n: int = 16):
        return Program(run), torch.randn(b, n, 4)

    return Builder(build)


def counted(build, **sizes):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build(**sizes).forward()
    return counter.get_total_flops()


LAWS = {
    "n > 64": (again_where(lambda b, n: n > 64), "piecewise"),
    "n == 100": (again_where(lambda b, n: n == 100), "piecewise"),
    "n % 7 == 0": (again_where(lambda b, n: n % 7 == 0), "exact on residues"),
    "b == 1": (again_where(lambda b, n: b == 1), "exact"),
    "a slice of at most 50": (lambda layer, x: layer(x[:, :50]), "piecewise"),
    "windows of six, three apart": (pooled, "exact on residues"),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_formula_is_right_on_both_sides(name):
    run, status = LAWS[name]
    build = builder(run)
    formula = derive_cost(build).flops.forward
    assert formula.status == status
    held = [n for n in SIZES if formula.holds(b=3, n=n)]
    assert len(held) >= len(SIZES) - 2
    for n in held:
        assert formula(b=3, n=n) == counted(build, b=3, n=n), n
    assert not formula.holds(b=1, n=5) or formula(b=1, n=5) == counted(build, b=1, n=5)


REFUSED = {
    "b > n": (again_where(lambda b, n: b > n), "the comparison at"),
    "a loop that halves": (halving, "one that halves"),
    "a coin": (again_where(lambda b, n: random.random() < 0.3), "draws random numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_law_is_refused_with_its_reason(name):
    run, reason = REFUSED[name]
    cost = derive_cost(builder(run))
    assert cost.flops.forward.status == "refused"
    assert reason in cost.flops.forward.reason
    assert [finding.rule for finding in cost.findings] == ["cost.no-formula"]
    assert "No formula" in str(cost)


def strided(b: int = 2, h: int = 24, w: int = 20):
    layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.randn(b, 3, h, w)


def test_strides_become_floors_at_any_size():
    cost = derive_cost(strided)
    for h, w in ((24, 20), (25, 31), (224, 223), (7, 130), (3, 2)):
        assert cost.flops.forward(b=2, h=h, w=w) == counted(Builder(strided), b=2, h=h, w=w)
    assert cost.flops.forward.status == "exact on residues"
    assert "((h + 3)//4)" in str(cost.flops.forward)


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.widen, self.narrow = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x):
        return x + self.narrow(self.widen(x).relu())


def deep(b: int = 2, n: int = 4, d: int = 8):
    return nn.Sequential(*(Block(d) for _ in range(9))), torch.randn(b, n, d)


def test_equal_layers_are_a_stack_and_the_count_is_that_of_all_nine():
    cost = derive_cost(deep)
    assert cost.flops.forward(b=2, n=11, d=13) == counted(Builder(deep), b=2, n=11, d=13)
    assert "*.widen" in cost.by_module()
    assert cost.peak_bytes.pieces or cost.peak_bytes.reason


def test_a_size_that_is_1_in_use_gets_a_law_of_its_own():
    def one(b: int = 1, n: int = 3):
        return Program(again_where(lambda b, n: b == 1)), torch.randn(b, n, 4)

    formula = derive_cost(one).flops.forward
    assert (formula(b=1, n=5), formula(b=2, n=5)) == (2 * 32 * 5, 32 * 2 * 5)


def test_the_stem_of_a_speech_model_which_strides_by_320():
    layers = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]

    def stem(b: int = 2, n: int = 4000):
        widths = [1, *[4] * len(layers)]
        convolutions = [nn.Conv1d(w, 4, k, s) for w, (k, s) in zip(widths, layers, strict=False)]
        return nn.Sequential(*convolutions), torch.randn(b, 1, n)

    cost = derive_cost(stem)
    assert cost.status == "exact on residues"
    for n in (401, 719, 720, 721, 4001, 16385, 400_000):
        assert (cost.flops.forward(b=3, n=n), cost.flops.backward(b=3, n=n)) == flops(
            stem, b=3, n=n
        )


def test_a_loop_over_chunks_has_one_law_though_the_first_chunk_takes_a_path_of_its_own():
    def chunks(layer, x):
        x = nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 24))
        state = torch.zeros(())
        for k, chunk in enumerate(x.split(24, 1)):
            state = layer(chunk) + (state if k else 0 * state)
        return state

    build = builder(chunks)
    cost = derive_cost(build)
    assert len(cost.flops.forward.pieces) == 1
    assert "((n + 23)//24)" in str(cost.flops.forward)
    for n in (2, 23, 24, 25, 48, 49, 240, 999):
        assert answers(cost, b=3, n=n) == flops(build, b=3, n=n)


def test_attention_among_the_patches_of_two_strides():
    class Reduced(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(3, 4, 7, 4, 3), nn.Conv2d(4, 4, 8, 8)

        def forward(self, image):
            fine = self.fine(image)
            query, key = fine.flatten(2).mT, self.coarse(fine).flatten(2)
            return (query @ key).softmax(-1) @ key.mT

    def build(b: int = 2, h: int = 64):
        return Reduced(), torch.randn(b, 3, h, h)

    cost = derive_cost(build)
    for h in (64, 65, 93, 224, 223, 1000):
        assert answers(cost, b=2, h=h) == flops(build, b=2, h=h)
    assert "((h + 3)//32)**2" in str(cost.flops.forward)


def test_a_refusal_names_the_first_operator_that_breaks_the_law_and_its_line():
    reason = derive_cost(builder(halving)).flops.forward.reason
    line = halving.__code__.co_firstlineno + 3
    assert "first: addmm at" in reason
    assert f"test_laws.py:{line}" in reason
