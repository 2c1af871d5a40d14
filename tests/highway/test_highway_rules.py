"""What each finding says to do, done, and measured again."""

import math

import pytest
import torch
from roads import D, InTime, Written, found, linear, measured, residual, rows, series, stack, tied
from torch import nn

STEPS = 24


def test_no_skip_path_and_the_skip_that_repairs_it():
    deep = nn.Sequential(*[m for _ in range(12) for m in (linear(), nn.Tanh())])
    before = measured(deep, rows())
    (finding,) = before.findings
    assert (finding.rule, finding.severity, finding.theory) == ("highway.none", "warning", "H1")
    assert "x = x + block(x)" in finding.repair
    assert finding.measured.value == before.plain.retention < 1 / 16
    blocks = [Written(lambda m, x: x + 0.1 * m.block(x), block=deep[i : i + 2])
              for i in range(0, 24, 2)]  # fmt: skip
    assert measured(nn.Sequential(*blocks), rows()).findings == ()


def test_a_recurrence_without_a_skip_is_told_to_keep_a_part_of_the_state():
    highways = measured(InTime(nn.RNNCell(D, D)), series(steps=STEPS))
    (finding,) = highways.findings
    assert (finding.theory, finding.module) == ("H2", "cell")
    assert "z * h + (1 - z) * c" in finding.repair
    assert f"{STEPS} time steps" in finding.message


def deep(depth=3):
    """A branch of `depth` linear maps, whose last weights are small."""
    layers = [linear() for _ in range(depth)]
    layers[-1].weight.data.mul_(1e-5)
    return Written(lambda m, x: x + m.f(x), f=nn.Sequential(*layers))


def test_what_a_skip_goes_around_is_no_part_of_a_stretch_outside():
    between = [m for _ in range(5) for m in (linear(), nn.Tanh())]
    highways = measured(nn.Sequential(deep(), *between, deep(), linear()), rows())
    assert highways.plain.length == 6
    assert highways.findings == ()


def test_a_stretch_inside_one_branch_is_told():
    highways = measured(nn.Sequential(linear(), deep(12), linear()), rows())
    assert highways.plain.length == 12
    (finding,) = found(highways, "none")
    assert finding.severity == "warning"


def test_a_projection_is_on_a_skip_path():
    block = [Written(lambda m, x: m.p(x) + m.f(x).tanh(), p=linear(), f=linear()) for _ in range(9)]
    assert measured(nn.Sequential(linear(), *block), rows()).plain.length == 1


@pytest.mark.parametrize(("factor", "severity"), [(17, "note"), (31, "note"), (33, "warning")])
def test_a_stretch_that_is_off_by_a_hair_is_a_note(factor, severity):
    layers = [linear(bias=False) for _ in range(9)]
    for layer in layers:
        nn.init.eye_(layer.weight)
    layers[3].weight.data.div_(factor)
    (finding,) = measured(nn.Sequential(*layers), rows()).findings
    assert (finding.rule, finding.severity) == ("highway.none", severity)


def test_notes_of_one_line_are_one():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.f, self.norm = linear(), nn.LayerNorm(D)

        def forward(self, x):
            return self.norm(x + self.f(x)) if self.training else x

    class Wide(Normed):
        def forward(self, x):
            return super().forward(x.sin())  # which nothing is carried through

    highways = measured(nn.Sequential(Normed(), Normed(), Wide(), Normed(), Normed()), rows())
    assert [path.length for path in highways.paths] == [3, 2]
    (finding,) = highways.findings
    assert finding.message.endswith("So is it with 1 more of this line.")


def biased(weight):
    """x + W x with W = weight · 1: it compounds."""
    block = Written(lambda m, x: x + m.f(x), f=linear(bias=False))
    nn.init.eye_(block.f.weight)
    block.f.weight.data *= weight
    return block


def test_tied_sums_are_scaled_by_their_number():
    (finding,) = measured(tied(lambda: biased(0.5), 16), rows()).findings
    assert (finding.rule, finding.severity) == ("highway.tied-ungated", "warning")
    assert "f(h) / 16" in finding.repair
    assert finding.measured.value == pytest.approx(1.5**16)
    after = measured(tied(lambda: biased(0.5 / 16), 16), rows())
    assert max(after.longest.growth, after.longest.retention) < finding.expected.value == math.e
    assert [f.severity for f in after.findings] == ["note"]


@pytest.mark.parametrize("weight", [1.0, -0.7])
def test_untied_sums_are_scaled_by_the_root_of_their_number(weight):
    (finding,) = measured(stack(lambda: biased(weight), 16), rows()).findings
    assert finding.rule == "highway.unscaled"
    assert finding.repair.startswith("x = x + 0.25 * f(x)")
    assert not found(measured(stack(lambda: biased(weight / 16), 16), rows()), "unscaled")


def test_a_rectifier_on_the_skip_is_taken_off():
    def block(forward):
        made = Written(forward, f=linear())
        nn.init.zeros_(made.f.weight)
        nn.init.constant_(made.f.bias, -0.5)
        return made

    behind = stack(lambda: block(lambda m, x: torch.relu(x + m.f(x))), 12)
    (finding,) = measured(behind, rows()).findings
    assert finding.rule == "highway.unscaled"
    assert "rectifier on the skip" in finding.message
    assert "x + f(relu(x))" in finding.repair
    inside = stack(lambda: block(lambda m, x: x + m.f(torch.relu(x))), 12)
    assert measured(inside, rows()).findings == ()


def test_a_skip_that_is_scaled_down_at_every_block():
    def block():
        return Written(lambda m, x: 0.5 * x + 0.1 * torch.tanh(m.f(x)), f=linear())

    (finding,) = measured(stack(block, 12), rows()).findings
    assert finding.rule == "highway.scaled-skip"
    assert finding.severity == "warning"
    assert "leave the skip as it is" in finding.repair
    assert measured(stack(lambda: residual(0.1), 12), rows()).findings == ()
    assert measured(stack(block, 3), rows()).findings == ()


def gated_block():
    def forward(m, x):
        z = torch.sigmoid(m.gate(x))
        return z * x + (1 - z) * torch.tanh(m.f(x))

    return Written(forward, f=linear(), gate=linear())


@pytest.mark.parametrize(("depth", "severity"), [(3, "note"), (16, "warning")])
def test_a_gate_where_weights_are_not_shared(depth, severity):
    (finding,) = measured(stack(gated_block, depth), rows()).findings
    assert (finding.rule, finding.severity) == ("highway.gate-unneeded", severity)
    assert ("It passes on" in finding.message) is (severity == "warning")
    assert measured(stack(gated_block, 1), rows()).findings == ()


def normed(m, x):
    return m.norm(x + m.scale * m.f(x))


def test_norms_on_a_long_skip_path_are_moved_in_front():
    def block(forward):
        made = Written(forward, f=linear(bias=False), norm=nn.LayerNorm(D), scale=5.0)
        nn.init.orthogonal_(made.f.weight)
        return made

    before = measured(stack(lambda: block(normed), 48), rows())
    (finding,) = before.findings
    assert finding.rule == "highway.norm-on-skip"
    assert finding.severity == "warning"
    assert "x + f(norm(x))" in finding.repair

    def in_front(m, x):
        return x + m.scale / math.sqrt(48) * m.f(m.norm(x))

    after = measured(stack(lambda: block(in_front), 48), rows())
    assert abs(math.log(after.longest.retention)) < abs(math.log(before.longest.retention))
    assert after.findings == ()


class Block(nn.Module):
    def __init__(self, kind, width=D, stride=1):
        super().__init__()
        self.f, self.kind = nn.Conv1d(D, width, 1, stride=stride), kind

    def forward(self, x):
        if self.kind == "none":
            return self.f(x).tanh()
        return (x.detach() if self.kind == "cut" else x) + 0.1 * self.f(x).tanh()


@pytest.mark.parametrize("kind", ["none", "cut"])
def test_a_skip_that_is_forgotten_or_detached_in_one_block_is_noted(kind):
    torch.manual_seed(0)
    broken = nn.Sequential(*(Block(kind if i == 4 else "whole") for i in range(9)))
    (finding,) = found(measured(broken, torch.randn(2, D, 4)), "broken")
    assert (finding.module, finding.severity) == ("4", "note")
    assert "one path of 4 ends before it, and another of 4 begins after" in finding.message


def test_blocks_that_no_identity_fits_around_break_nothing():
    torch.manual_seed(0)
    whole = nn.Sequential(*(Block("whole") for _ in range(9)))
    halved = nn.Sequential(
        *(Block("none" if i == 4 else "whole", stride=1 + (i == 4)) for i in range(9))
    )
    for model in (whole, halved):
        rules = [f.rule for f in measured(model, torch.randn(2, D, 4)).findings]
        assert "highway.broken" not in rules
