"""Seconds against a clock that goes as the test says, and laws against data made by a known law."""

import json
import math
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import Indexed, cost_of, sequences
from torch import nn

from assay.builder import Builder, as_builder
from assay.cost.blend import blend
from assay.cost.cost import derive_cost
from assay.cost.formula import Formula
from assay.cost.phases import Phases
from assay.cost.piece import Piece, Range
from assay.cost.polynomial import Polynomial
from assay.cost.seconds import TimeLaw, _laws, _moving, measure_seconds
from assay.cost.show_seconds import verdict
from assay.cost.slope import Slope, fit_slope
from assay.cost.stopwatch import Timing, take_time
from assay.errors import CannotMeasure, UsageError, UserCodeError


class Clock:
    """Seconds that go by only where a program says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Takes(torch.autograd.Function):
    """Takes some seconds of a clock forward, and some backward."""

    @staticmethod
    def forward(ctx, x, clock, forward, backward):
        ctx.clock, ctx.seconds = clock, backward
        clock.now += forward
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        ctx.clock.now += ctx.seconds
        return g, None, None, None


class Clocked(nn.Module):
    """A linear layer, and a table of which each row is scaled by each: O(n) products, O(n²) bytes."""

    def __init__(self, clock, forward, backward, longest=math.inf, quadratic=False):
        super().__init__()
        self.layer, self.clock, self.longest = nn.Linear(4, 4), clock, longest
        self.seconds, self.quadratic = (forward, backward), quadratic

    def forward(self, x):
        n = len(x)
        if n > self.longest:
            raise RuntimeError(f"no more than {self.longest} rows")
        y = self.layer(x)
        if self.quadratic:
            y = y + (y[:, None, :] * y[None, :, :]).sum(1)
        if not x.is_meta:
            y = Takes.apply(y, self.clock, *(f(n) for f in self.seconds))
        return y


def clocked(forward, backward, base=8, **settings):
    clock = Clock()

    def build(n: int = base):
        return Clocked(clock, forward, backward, **settings), torch.randn(n, 4)

    return build, clock


@cache
def formulas(quadratic=False):
    """They do not depend on the clock, and a length that is too long is past what is probed."""
    build, _ = clocked(None, None, quadratic=quadratic)
    return derive_cost(build)


def measured(forward, backward, budget=60.0, memory=None, **settings):
    build, clock = clocked(forward, backward, **settings)
    cost = replace(formulas(settings.get("quadratic", False)), base=as_builder(build).sizes)
    return measure_seconds(build, budget=budget, memory=memory, clock=clock, cost=cost)


def law(found, phase):
    return next(law for law in found.laws if law.phase == phase)


def test_seconds_that_grow_like_the_products_are_told_so():
    found = measured(lambda n: 1e-3 * n, lambda n: 2e-3 * n)
    for phase in ("forward", "backward"):
        one = law(found, phase)
        assert one.measured.exponent == pytest.approx(1, abs=1e-6)
        assert "products" in one.follows
        assert one.moving is None
    assert not found.findings
    assert "as the products and the bytes" in " ".join(str(found).split())


def test_seconds_that_grow_like_the_bytes_are_told_so_with_the_line():
    found = measured(lambda n: 1e-5 * n, lambda n: 1e-3 * n + 2e-4 * n * n, quadratic=True)
    assert not law(found, "forward").by_bytes
    one = law(found, "backward")
    assert one.by_bytes
    assert one.predicted["products"] == pytest.approx(1, abs=0.01)
    assert one.predicted["bytes"] > 1.5
    (finding,) = found.findings
    assert finding.rule == "cost.bytes-decide"
    assert finding.where.code == "y = y + (y[:, None, :] * y[None, :, :]).sum(1)"
    assert "Memory" in str(finding) or "memory" in finding.message


def elementwise(b: int = 1):
    return nn.LayerNorm(8), torch.randn(b, 8)


def test_without_products_there_is_nothing_for_bytes_to_outgrow():
    """Calls have no formula at 1, where some of the points are: what they cost is not the bytes'."""
    cost = derive_cost(elementwise)
    points = [Timing({"b": round(2 ** (k / 2))}, 1e-5, 1e-5, 3, "cpu") for k in (0, *range(2, 14))]
    for one in _laws(cost, "b", points):
        assert (one.work, one.moving) == ("operations", None)
        assert not one.by_bytes
        assert "calls" in one.follows
        assert "products" not in one.orders


def test_points_at_which_calls_have_no_number_take_no_part_in_a_blend():
    """Seconds that are those of the calls alone, where these are known from 2 on."""
    n = Polynomial.of("n")
    calls = Formula(("n",), (Piece((("n", Range(2)),), Polynomial.constant(3)),))
    formulas = {"bytes": Formula.of(n * n), "products": Formula.of(n), "calls": calls}
    timed = [(Timing({"n": k}, 0.1, None, 3, "cpu"), 0.1) for k in range(1, 9)]
    part = _moving(formulas, "products", timed)
    assert (part.share, part.high) == (pytest.approx(0), pytest.approx(0))
    assert _moving(formulas, "products", timed[:5]) is None
    assert _moving({"bytes": formulas["bytes"]}, "products", timed) is None


def test_an_exponent_between_two_others_is_called_so_where_it_is_sure():
    def of(exponent, room):
        slope = Slope(exponent, exponent - room, exponent + room)
        return TimeLaw("b", "forward", (8, 64), slope, {"bytes": 1.0, "calls": 0.0}, {}, ())

    assert verdict(of(0.49, 0.04)) == "between what was derived"
    assert verdict(of(0.49, 0.6)) == "the times scatter too much to tell"
    assert verdict(of(1.3, 0.4)) == "the times scatter too much to tell"
    assert verdict(of(1.3, 0.2)) == "faster than all that was derived"
    assert verdict(of(-0.3, 0.2)).startswith("slower than all that was derived")


def test_seconds_that_outgrow_everything_are_a_finding_of_their_own():
    found = measured(lambda n: 1e-6 * n**3, lambda n: 1e-5 * n)
    (finding,) = found.findings
    assert finding.rule == "cost.seconds-outgrow"
    assert "faster than all that was derived" in str(found)


def test_seconds_that_do_not_grow_are_fixed_costs():
    """As many calls at every size, each at its own fixed cost."""
    found = measured(lambda n: 0.1, lambda n: 0.1)
    assert law(found, "forward").follows == ("calls",)


def test_seconds_that_shrink_are_slower_than_all_that_was_derived():
    found = measured(lambda n: 1 / n, lambda n: 1 / n)
    assert law(found, "forward").follows == ()
    assert "fixed costs still decide" in " ".join(str(found).split())


def test_every_point_is_the_median_after_a_warm_up_and_the_budget_is_kept():
    found = measured(lambda n: 1e-3 * n, lambda n: 1e-3 * n, budget=20)
    values = [timing.sizes["n"] for timing in found.timings]
    assert all(1.2 < b / a < 1.8 for a, b in pairwise(values))
    assert all(
        timing.forward == pytest.approx(1e-3 * timing.sizes["n"]) for timing in found.timings
    )
    spent = sum(timing.both * (timing.repeats + 1) for timing in found.timings)
    assert 5 < spent <= 20
    assert "does not last" in found.stopped["n"]


def test_a_base_that_is_too_dear_is_approached_from_below():
    found = measured(lambda n: 1e-2 * n, lambda n: 1e-2 * n, budget=60, base=200)
    values = sorted(timing.sizes["n"] for timing in found.timings)
    assert values[0] < 200
    assert len(values) >= 5


def test_a_model_that_stops_running_is_measured_as_far_as_it_runs():
    found = measured(lambda n: 1e-3 * n, lambda n: 1e-3 * n, longest=90)
    assert max(timing.sizes["n"] for timing in found.timings) <= 90
    assert "it does not run there: RuntimeError: no more than 90 rows" in found.stopped["n"]


def test_bytes_that_are_not_to_be_had_are_not_asked_for():
    found = measured(lambda n: 1e-3 * n, lambda n: 1e-3 * n, memory=20_000)
    assert "bytes, and 20,000 are to be had" in found.stopped["n"]
    peak = found.cost.peak_bytes
    assert all(peak(**timing.sizes) <= 20_000 for timing in found.timings)


def test_where_nothing_is_differentiated_there_is_no_backward_law():
    def build(n: int = 8):
        return nn.ReLU(), torch.randn(n, 4)

    found = measure_seconds(build, budget=0.5)
    assert {one.phase for one in found.laws} == {"forward"}
    assert all(timing.backward is None for timing in found.timings)


def test_without_a_formula_there_are_seconds_all_the_same():
    build, clock = clocked(lambda n: 1e-3 * n, lambda n: 1e-3 * n)
    gone = Formula.refused(["n"], "it halves")
    nothing = Phases(gone, gone)
    cost = replace(
        formulas(), flops=nothing, operations=nothing, bytes=nothing, peak_bytes=gone, parts=None
    )
    found = measure_seconds(build, budget=10, clock=clock, cost=cost)
    assert law(found, "forward").predicted == {}
    assert "there is no formula to compare with" in str(found)


def test_what_cannot_be_measured_is_said():
    build, clock = clocked(lambda n: 50.0, lambda n: 50.0)
    with pytest.raises(
        CannotMeasure, match=r"three points along one of n within 10 seconds\. Raise"
    ):
        measure_seconds(build, budget=10, clock=clock)
    with pytest.raises(CannotMeasure, match="at least one size to vary"):
        measure_seconds((nn.Linear(2, 2), torch.randn(1, 2)))
    for budget in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="budget"):
            measure_seconds(build, budget=budget)


def test_the_model_random_state_and_collector_are_left_as_they_were():
    import gc

    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grads = [torch.ones_like(p) for p in model.parameters()]
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        parameter.grad = grad
    state = torch.get_rng_state()
    timing = take_time(Builder(lambda n=3: (model, torch.randn(n, 4))), {"n": 3}, math.inf)
    assert timing.backward > 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [p.grad for p in model.parameters()] == grads or all(
        p.grad is g for p, g in zip(model.parameters(), grads, strict=True)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert gc.isenabled()
    assert timing.device == "cpu"


def test_a_backward_pass_that_raises_is_the_users():
    class Raises(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise KeyError("no gradient today")

    class Model(nn.Linear):
        def forward(self, x):
            return Raises.apply(super().forward(x))

    with pytest.raises(UserCodeError, match="no gradient today"):
        take_time(Builder(lambda n=3: (Model(2, 2), torch.randn(n, 2))), {"n": 3}, math.inf)


def test_a_real_run_has_every_face():
    found = measure_seconds(sequences(Indexed), budget=1.0, cost=cost_of(Indexed))
    data = json.dumps(found.to_dict(), allow_nan=False)
    assert "predicted" in data
    assert "<svg" in found._repr_html_()
    assert "Every point" in str(found)


@settings(max_examples=30, derandomize=True)
@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=9))
def test_the_slope_is_that_of_numpy(y):
    x = [2.0**k for k in range(len(y))]
    (expected, _), covariance = np.polyfit(np.log(x), np.log(y), 1, cov=True)
    found = fit_slope(x, y)
    assert found.exponent == pytest.approx(expected, abs=1e-9)
    from scipy.stats import t

    room = t.ppf(0.975, len(y) - 2) * math.sqrt(covariance[0, 0])
    assert found.high - found.exponent == pytest.approx(room, rel=1e-6, abs=1e-9)


def test_the_interval_holds_the_exponent_as_often_as_it_says():
    """Of 400 intervals of 95 %, 380 hold it, give or take 17 (four deviations)."""
    random = np.random.default_rng(0)
    x = [2.0**k for k in range(6)]
    noise = np.exp(0.1 * random.standard_normal((400, 6)))
    found = [fit_slope(x, np.asarray(x) ** 1.5 * row) for row in noise]
    assert abs(sum(one.low <= 1.5 <= one.high for one in found) - 380) <= 17


def test_two_points_bound_nothing():
    found = fit_slope([1, 2], [1, 4])
    assert (found.exponent, found.low, found.high) == (pytest.approx(2), -math.inf, math.inf)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_blend_finds_the_share_that_it_was_made_with(share):
    n = np.array([8.0, 16, 32, 64, 128, 256])
    linear, square = n / n[-1], (n / n[-1]) ** 2
    seconds = (1 - share) * linear + share * square
    part = blend(seconds, {"linear": linear, "square": square})["square"]
    assert (part.low, part.share, part.high) == (pytest.approx(share, abs=1e-6),) * 3
    assert blend(seconds[:4], {"linear": linear[:4]}) == {}
