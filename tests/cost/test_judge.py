"""Findings of a cost: when they come, when they do not, and the line that they name."""

import pytest
import torch
from loops import Checkpointed, CustomBackward, Grown, Indexed, Unbound, cost_of
from torch import nn

from assay.cost.cost import derive_cost
from assay.cost.judge import dearest_lines


def found(kind):
    return {finding.rule: finding for finding in cost_of(kind).findings}


def test_an_index_in_a_loop_is_named_with_its_line_and_its_repair():
    """All arithmetic is O(n²) as well, by the sums of gradients: products are what bytes are held against."""
    cost = cost_of(Indexed)
    (finding,) = cost.findings
    assert finding.rule == "cost.bytes-outgrow-operations"
    assert cost.operations.backward.order_in("n") == "O(n**2)"
    assert (finding.expected.value, finding.measured.value) == ("O(n)", "O(n**2)")
    assert finding.where.file.endswith("loops.py")
    assert finding.where.code == "h = self.cell(x[:, t], h)"
    assert "unbind(1)" in finding.repair
    assert "backward" in finding.message
    assert not finding.fails


def test_the_repair_takes_the_finding_away():
    assert not found(Unbound)


def test_a_tensor_that_grows_in_a_loop_is_named_with_its_own_repair():
    finding = found(Grown)["cost.bytes-outgrow-operations"]
    assert finding.where.code.startswith("out = torch.cat([out")
    assert "append to a list" in finding.repair
    assert "forward" in finding.message


def test_the_dearest_line_is_the_one_whose_bytes_are_most_at_a_large_size():
    cost = cost_of(Indexed)
    movers = dearest_lines(cost, "backward", "n")
    assert {mover.operator for mover in movers} == {"add", "select_backward"}
    parts = {
        (part.line, part.operator): amount.moved
        for part, amount in cost.parts.base.items()
        if part.phase == "backward" and part.operator == "select_backward"
    }
    b, n, d = 2, cost.base["n"], 4
    # each of n steps fills n rows, and reads one
    assert parts == {(movers[0].line, "select_backward"): 4 * b * d * n * (n + 1)}


def test_without_a_loop_the_repair_speaks_of_none():
    class Mean(nn.Linear):
        def forward(self, x):
            return super().forward(torch.relu(x).mean(0))

    def build(n: int = 4, d: int = 8):
        return Mean(d, d), torch.randn(n, d)

    found = [f for f in derive_cost(build).findings if f.rule == "cost.bytes-outgrow-operations"]
    assert found
    for finding in found:
        assert finding.repair.startswith("No product grows with n, only what is passed over")


def test_of_a_batch_without_rows_nothing_outgrows_anything():
    def build(h: int = 32):
        return nn.Sequential(nn.Linear(16, h), nn.ReLU(), nn.Linear(h, 5)), torch.randn(0, 16)

    assert derive_cost(build).findings == ()


def test_a_dear_backward_pass_is_told_where_the_most_is_added():
    finding = found(CustomBackward)["cost.backward-ratio"]
    assert finding.measured.value > 3
    assert finding.where.code == "return x @ w"


def test_what_checkpointing_runs_again_is_no_finding():
    cost = cost_of(Checkpointed)
    assert cost.flops.backward(**cost.base) > 3 * cost.flops.forward(**cost.base)
    assert not cost.findings


def test_an_embedding_whose_table_grows_is_told_what_would_keep_rows_only():
    def build(n: int = 3, words: int = 8):
        model = nn.Sequential(nn.Embedding(words, 4), nn.Linear(4, 4))
        return model, torch.zeros(n, dtype=torch.long)

    (finding,) = derive_cost(build).findings
    assert finding.module == "0"
    assert "sparse=True" in finding.repair


@pytest.mark.parametrize("kind", [Indexed, CustomBackward])
def test_without_what_was_counted_the_finding_stands_without_a_line(kind):
    from dataclasses import replace

    from assay.cost.judge import judge

    cost = replace(cost_of(kind), parts=None)
    rules = [finding.rule for finding in judge(cost)]
    assert rules == ["cost.bytes-outgrow-operations" if kind is Indexed else "cost.backward-ratio"]
    assert all(finding.where is None for finding in judge(cost))


def test_torchs_own_count_of_grouped_convolutions_is_told_beside_what_is_computed():
    def build(b: int = 2, h: int = 8, c: int = 16):
        first = nn.Conv2d(3, c, 3, padding=1)
        return nn.Sequential(first, nn.Conv2d(c, c, 3, groups=c)), torch.zeros(b, 3, h, h)

    cost = derive_cost(build)
    (finding,) = cost.findings
    assert (finding.rule, finding.module) == ("cost.grouped-convolutions", "1")
    per_channel = (
        2 * 9 * 2 * 16 * 6**2
    )  # forward; backward once for the input and once for the weight
    dense = 2 * 9 * 2 * 16 * 3 * 8**2
    assert finding.expected.value == 2 * per_channel + dense
    assert finding.measured.value == (1 + 16) * per_channel + dense
    assert cost.products.backward(b=2, h=8, c=16) == finding.expected.value
    assert cost.flops.backward(b=2, h=8, c=16) == finding.measured.value
    assert cost.operations.backward.degree("c") == 1
    assert cost.formulas()["products, backward"] == cost.products.backward
    assert "products, forward" not in cost.formulas()


def test_convolutions_without_groups_have_no_such_finding():
    def build(b: int = 2, h: int = 8):
        return nn.Conv2d(3, 6, 3), torch.zeros(b, 3, h, h)

    cost = derive_cost(build)
    assert cost.findings == ()
    assert str(cost.products.backward) == str(cost.flops.backward)
