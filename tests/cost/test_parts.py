"""Breakdowns against counting anew: sums are the whole, and parts are what a count at that size says."""

import pytest
import torch
from cost_twins import Program, program
from loops import Checkpointed, Indexed, cost_of, rows, sequences
from torch import nn

from assay.builder import as_builder
from assay.cost.cost import derive_cost
from assay.cost.count import count
from assay.cost.parts import LABELS
from assay.errors import CannotMeasure, UsageError
from assay.state import unfused


def stack(n: int = 3, d: int = 8):
    """Seven equal layers, which are counted at less depth."""
    block = lambda: nn.Sequential(nn.Linear(d, d), nn.GELU())  # noqa: E731
    return nn.Sequential(*(block() for _ in range(7))), torch.randn(n, d)


CASES = {
    "loop": lambda: (sequences(Indexed), cost_of(Indexed)),
    "stack": lambda: (stack, derive_cost(stack)),
    "checkpointed": lambda: (rows(Checkpointed), cost_of(Checkpointed)),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]()


@pytest.mark.parametrize("by", LABELS)
def test_the_sum_of_the_parts_is_the_whole(case, by):
    _, cost = case
    shares = cost.breakdown(by).values()
    for quantity in ("flops", "operations", "bytes"):
        for phase in ("forward", "backward"):
            parts = [getattr(getattr(share, quantity), phase) for share in shares]
            assert str(sum(parts)) == str(getattr(getattr(cost, quantity), phase))


def test_each_operators_formula_is_what_a_count_at_another_size_says(case):
    """The slow twin: one pass at sizes that were not probed, added up by hand."""
    build, cost = case
    sizes = {name: value + 7 for name, value in cost.base.items()}
    with torch.device("meta"), unfused():
        tally = count(as_builder(build)(**sizes))
    expected = {}
    for part, amount in tally.parts.items():
        known = expected.setdefault(part.operator, [0, 0, 0, 0])
        known[:] = [a + b for a, b in zip(known, amount, strict=True)]
    said = {
        name: [getattr(share, q).total(**sizes) for q in ("flops", "operations", "bytes", "calls")]
        for name, share in cost.breakdown("operator").items()
    }
    assert said == expected


def test_amounts_at_the_base_are_those_of_the_formulas_and_come_dearest_first(case):
    _, cost = case
    shares = cost.breakdown("module")
    for share in shares.values():
        assert share.base.flops == share.flops.total(**cost.base)
        assert share.base.moved == share.bytes.total(**cost.base)
    order = [share.base.operations for share in shares.values()]
    assert order == sorted(order, reverse=True)


def test_operators_and_modules_by_their_public_names():
    cost = cost_of(Indexed)
    operators = cost.by_operator()
    assert str(operators["addmm"].forward) == str(cost.flops.forward)
    assert operators["select_backward"].total.is_zero
    flops = {name: phases.total for name, phases in cost.by_module().items()}
    parts = {name: share.flops.total for name, share in cost.breakdown("module").items()}
    assert {name: str(f) for name, f in flops.items()} == {name: str(parts[name]) for name in flops}
    assert cost.to_dict()["breakdown"] == {}
    with pytest.raises(UsageError, match="by = 'colour': expected module, operator, class, line"):
        cost.breakdown("colour")


def test_checkpointing_runs_modules_again_under_their_own_names():
    shares = cost_of(Checkpointed).breakdown("module")
    first, last = (shares[f"layers.{i}"].flops for i in (0, 2))
    assert first.backward == last.backward
    assert str(first.backward - first.forward * 5) == "0"  # three times again, and twice back


def test_a_part_that_another_takes_over_from_is_refused_and_the_whole_is_not():
    """Even lengths are negated, odd ones made absolute: the sum has a law, and neither part has one."""

    def either(model, x):
        return model.lin(-x if x.shape[1] % 2 else x.abs())

    cost = derive_cost(program(either))
    assert cost.operations.forward.status == "exact"
    share = cost.breakdown("operator")["neg"].operations
    assert share.forward.status == "refused"
    with pytest.raises(CannotMeasure, match="its share of the whole has no law"):
        share.forward(b=2, n=9)
    assert "no formula" in str(_by(cost, "operator"))


def test_a_part_that_is_another_at_one_has_its_law_from_two_on():
    def either(model, x):
        return model.lin(-x if x.shape[0] == 1 else x.abs())

    cost = derive_cost(program(either))
    assert cost.operations.forward.holds(b=1, n=3)
    share = cost.breakdown("operator")["abs"].operations.forward
    assert not share.holds(b=1, n=3)
    assert share(b=2, n=3) == 2 * 3 * 4


def test_without_a_formula_there_are_still_amounts_at_the_base():
    def halving(model, x):
        n = x.shape[1]
        while n:
            x, n = model.lin(x), n // 2
        return x

    cost = derive_cost(as_builder(program(halving)).with_(arguments={"b": 2}))
    share = cost.breakdown("operator")["addmm"]
    assert share.flops.forward.status == "refused"
    assert share.base.flops == 5 * 2 * 2 * 16 * 4 * 4  # 16, 8, 4, 2, 1


def test_an_operator_of_a_library_goes_by_its_full_name():
    @torch.library.custom_op("assay_parts::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(torch.empty_like)
    with torch.device("meta"), unfused():
        model = Program(lambda s, x: s.lin(twice(x).detach()))
        tally = count(as_builder((model, torch.randn(2, 4)))())
    assert "assay_parts::twice" in {part.operator for part in tally.parts}


def _by(cost, by):
    from dataclasses import replace

    return replace(cost, by=by)
