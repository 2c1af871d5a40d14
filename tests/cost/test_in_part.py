"""Where some counts have no law, the others keep theirs; and a refusal says what is true."""

import math

import pytest
import torch
from cost_twins import flops, program, wrong_answers
from torch import nn
from torch._higher_order_ops import scan

from assay import derive_cost
from assay.cost.convention import ELEMENTWISE, PRODUCT
from assay.cost.groups import ESSENTIAL, Group, Wanted
from assay.cost.show import show
from assay.cost.tally import BACKWARD, BYTES, FLOPS, FORWARD, OPERATIONS, PEAK, Key
from assay.errors import CannotMeasure, UserCodeError


def chunked(m, x):
    """Six chunks, or fewer: each row is multiplied once, but how often gradients are summed has no law."""
    return torch.stack([m.lin(part).mean(1) for part in x.chunk(6, 1)], 1)


def padded(m, x):
    """Something elementwise at the next power of two, as before a Fourier transform."""
    n = x.shape[1]
    wide = torch.nn.functional.pad(x, (0, 0, 0, (1 << n.bit_length()) - n)).sin()
    return m.lin(x) + wide[:, :n]


def test_products_have_their_law_where_other_operators_have_none():
    build = program(chunked)
    cost = derive_cost(build)
    assert cost.status == "exact"
    assert not wrong_answers(cost, build, [{"b": 3, "n": n} for n in (2, 5, 7, 12, 13, 31, 64, 65)])
    assert cost.by_class[PRODUCT].total.pieces
    assert not cost.blamed
    for lawless in (cost.operations.total, cost.bytes.total):
        assert "no law was found that explains its counts at b=2, n=" in lawless.reason
        assert "test_in_part.py:" in lawless.reason
    text, done = str(cost), cost.parts.base.items()
    counted = sum(amount.operations for part, amount in done if part.phase == FORWARD)
    assert f"operations, forward   no formula; counted at b=2, n=16: {counted:,}" in text
    assert "No formula for operations forward: no law was found" in text


def test_what_was_left_out_comes_back_where_the_same_terms_explain_it():
    build = program(padded)
    cost = derive_cost(build)
    assert not wrong_answers(cost, build, [{"b": 3, "n": n} for n in (2, 5, 31, 32, 33, 64, 65)])
    assert cost.by_class[ELEMENTWISE].forward.reason  # the sine
    assert cost.by_class[PRODUCT].backward.pieces
    assert cost.parameters() == 4 * 4 + 4


def test_without_any_product_there_is_no_formula():
    def sine(m, x):
        return torch.nn.functional.pad(x, (0, 0, 0, 1 << x.shape[1].bit_length())).sin()

    cost = derive_cost(program(sine))
    assert cost.status == "refused"
    assert cost.blamed == "n"


def test_which_counts_are_wanted():
    adds, products = (
        Key(OPERATIONS, BACKWARD, "l", ELEMENTWISE),
        Key(OPERATIONS, FORWARD, "", PRODUCT),
    )
    assert adds not in ESSENTIAL
    assert products in ESSENTIAL
    assert Key(FLOPS, FORWARD, "l", PRODUCT) in ESSENTIAL
    some = Wanted(without=frozenset({Group(OPERATIONS, BACKWARD, ELEMENTWISE)}))
    assert adds not in some
    assert Key(BYTES, BACKWARD, "l", ELEMENTWISE) in some
    assert Key(PEAK, FORWARD) not in Wanted()


def test_a_reason_names_operators_that_run_more_often_only_where_they_do():
    def common(m, x):
        for _ in range(math.gcd(int(x.shape[1]), 12)):
            x = m.lin(x)
        return x

    reason = derive_cost(program(common)).flops.forward.reason
    assert "runs" in reason
    assert "other operators" not in reason

    def kept(m, x):
        return m.lin(x[:, : math.floor(x.shape[1] * 0.29)])

    reason = derive_cost(program(kept)).flops.forward.reason
    assert "the same operators run there as at b=" in reason
    assert "on other shapes" in reason


def test_a_branch_on_two_sizes_blames_both():
    def build(n: int = 8, m: int = 6):
        layer = nn.Linear(4, 4)

        class Early(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = layer

            def forward(self, x, y):
                x = self.layer(x)
                return (
                    self.layer(x) if (x.shape[0], y.shape[0]) == (256, 256) else x
                ).sum() + y.sum()

        return Early(), (torch.randn(n, 4), torch.randn(m, 4))

    reason = derive_cost(build).flops.forward.reason
    assert reason.endswith("it takes n and m together: with one of them at its least the law holds")


def test_what_assay_does_not_take_apart_is_not_the_users_fault():
    class Scan(nn.Module):
        def forward(self, x):
            return scan(lambda h, t: (h + t, h.clone()), x[:, 0], x.transpose(0, 1), dim=0)[0]

    with pytest.raises(CannotMeasure, match="scan, which assay does not take apart") as caught:
        derive_cost(lambda b=2, n=5: (Scan(), torch.randn(b, n, 4)))
    assert not isinstance(caught.value, UserCodeError)


def test_a_width_for_which_the_smallest_need_no_multiple():
    def heads(b: int = 2, d: int = 192):
        if d >= 128 and d % (d // 64):
            raise ValueError("heads of unlike widths")
        return nn.Linear(d, 2 * d), torch.randn(b, d)

    cost = derive_cost(heads)
    assert [cost.flops.forward.holds(b=2, d=d) for d in (129, 192, 640)] == [False, True, True]
    for d in (128, 192, 640):
        assert cost.flops.forward(b=3, d=d) == flops(heads, b=3, d=d)[0]


def test_layers_that_do_something_more_are_no_floor():
    class Taps(nn.Module):
        def __init__(self, layers):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))
            self.extra = nn.Linear(4, 4)

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x)
                if i in {3: 1, 40: 1}:  # not every 37th
                    x = self.extra(x)
            return x

    cost = derive_cost(lambda b=2, layers=12: (Taps(layers), torch.randn(b, 4)))
    assert cost.flops.forward(b=2, layers=12) == 2 * 2 * 16 * 13


def test_pieces_that_leave_nothing_out_have_no_condition():
    """From the first on everything is answered, and parameters hold anywhere."""

    def build(n: int = 8):
        layer = nn.Linear(4, 4)
        model = nn.Sequential(layer) if n <= 40 else nn.Sequential(layer, layer)
        return model, torch.randn(n, 4)

    def ends(n: int = 8):
        if n > 40:
            raise ValueError("too long")
        return build(n)

    cost = derive_cost(build)
    assert len(cost.flops.forward.pieces) == 2
    assert not any("alid for" in note for note in show(cost).notes)
    ended = next(note for note in show(derive_cost(ends)).notes if note.startswith("Valid for"))
    assert ended.startswith("Valid for n ≤ 40;")
    assert ended.endswith("The model does not run at n=41.")
