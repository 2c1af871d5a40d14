"""What is answered without data: finite numbers, named loads, integers that are spelled out."""

import pytest
import torch
from cost_twins import flops
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from assay.cost.cost import derive_cost

EXPERTS = 4


class Experts(nn.Module):
    """Each token goes to one expert; the way in which the mask is used differs."""

    def __init__(self, d, select, evenly=False):
        super().__init__()
        self.router = nn.Linear(d, EXPERTS)
        self.experts = nn.ModuleList(nn.Linear(d, d) for _ in range(EXPERTS))
        self.select, self.evenly = select, evenly

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        top = self.router(flat).argmax(-1)
        if self.evenly:
            top = torch.arange(len(flat)) % EXPERTS
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            out = self.select(out, flat, top == i, expert)
        return out


def by_mask(out, flat, mask, expert):
    if mask.any():
        out[mask] = expert(flat[mask])
    return out


def by_where(out, flat, mask, expert):
    (rows,) = torch.where(mask)
    return out.index_add(0, rows, expert(flat[rows]))


def by_nonzero(out, flat, mask, expert):
    rows = mask.nonzero().squeeze(1)
    return out.index_copy(0, rows, expert(flat.index_select(0, rows)))


def by_masked_select(out, flat, mask, expert):
    some = flat.masked_select(mask[:, None].expand_as(flat))
    return out + expert(some[: flat.shape[1]]).sum()


@pytest.mark.parametrize("select", [by_mask, by_where, by_nonzero])
def test_a_named_load_counts_what_experts_of_that_load_compute(select):
    def build(b: int = 2, n: int = 8, d: int = 8, load: int = 4):
        return Experts(d, select), torch.randn(b, n, d)

    cost = derive_cost(build)
    assert cost.status == "exact"
    assert "load" in cost.flops.forward.order
    for b, n, d in ((2, 8, 8), (3, 20, 5), (1, 400, 16)):
        sizes = {"b": b, "n": n, "d": d}

        model, x = Experts(d, select, evenly=True), torch.randn(b, n, d)
        with FlopCounterMode(display=False) as counter:
            loss = model(x).sum()
            forward = counter.get_total_flops()
            loss.backward()
        spent = forward, counter.get_total_flops() - forward
        load = b * n // EXPERTS
        claimed = (cost.flops.forward(**sizes, load=load), cost.flops.backward(**sizes, load=load))
        # where a router decides nothing, no gradient flows through it either
        assert claimed == spent


def test_every_mask_that_was_taken_to_select_the_load_is_said():
    def build(b: int = 2, n: int = 8, load: int = 4):
        return Experts(8, by_mask), torch.randn(b, n, 8)

    cost = derive_cost(build)
    assert "aten.index.Tensor" in cost.masks
    where = cost.masks["aten.index.Tensor"]
    assert where is not None
    assert where.short.rpartition(":")[0].endswith("test_known.py")
    assert "was taken to select" in str(cost)


def test_without_a_load_the_refusal_names_operator_line_and_remedy():
    def build(b: int = 2, n: int = 8):
        return Experts(8, by_where), torch.randn(b, n, 8)

    reason = derive_cost(build).flops.forward.reason
    assert "nonzero" in reason
    assert "test_known.py:" in reason
    assert "named load" in reason


def test_masked_select_takes_the_load_too():
    def build(b: int = 2, n: int = 8, load: int = 16):
        return Experts(8, by_masked_select), torch.randn(b, n, 8)

    assert derive_cost(build).status == "exact"


class Careful(nn.Module):
    """Asks whether its numbers are finite, in one of the ways that people ask."""

    def __init__(self, ask):
        super().__init__()
        self.layer, self.ask = nn.Linear(4, 4), ask

    def forward(self, x):
        h = self.layer(x)
        return self.layer(h) if self.ask(h) else h


ASK = {
    "isfinite, all": lambda h: bool(torch.isfinite(h).all()),
    "not isfinite, any": lambda h: not (~torch.isfinite(h)).any(),
    "isnan or isinf": lambda h: not (torch.isnan(h).any() | torch.isinf(h).any()),
    "isinf, any, or": lambda h: not (torch.isinf(h).any() or torch.isnan(h).any()),
    "equal to itself": lambda h: (h == h).all().item(),
    "a row of them": lambda h: bool(torch.isfinite(h).all(-1).all()),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_model_that_asks_for_finite_numbers_is_told_that_they_are(ask):
    def build(b: int = 2, n: int = 3):
        return Careful(ask), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert cost.way == "meta"
    with FlopCounterMode(display=False) as counter:
        Careful(ask)(torch.randn(5, 7, 4))
    assert cost.flops.forward(b=5, n=7) == counter.get_total_flops()


class Dropping(nn.Module):
    """Leaves a layer out now and then, as `layerdrop` does; the probability is 0 by default."""

    def __init__(self, probability):
        super().__init__()
        self.probability = probability
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            if self.training and torch.rand([]) < self.probability:
                continue
            x = layer(x)
        return x


@pytest.mark.parametrize(("probability", "layers"), [(0.0, 3), (1.0, 0)])
def test_what_never_or_always_happens_needs_no_numbers(probability, layers):
    cost = derive_cost(lambda b=2: (Dropping(probability), torch.randn(b, 4)))
    assert cost.way == "meta"
    assert str(cost.flops.forward) == (f"{32 * layers}*b" if layers else "0")


def test_what_may_happen_is_refused():
    cost = derive_cost(lambda b=2: (Dropping(0.5), torch.randn(b, 4)))
    assert cost.status == "refused"


def test_a_question_about_values_is_not_answered_by_guessing():
    def build(b: int = 2, n: int = 3):
        return Careful(lambda h: bool((h > 0).all())), torch.randn(b, n, 4)

    assert derive_cost(build).way == "real"


STEPS = ["not", "and", "or", "all", "any", "finite", "nan", "below", "not below", "write"]


def _written(mask):
    """A copy with an entry that was written through a view."""
    mask = mask.clone()
    mask.view(-1)[0].fill_(True)
    return mask


@settings(max_examples=25)
@given(st.lists(st.sampled_from(STEPS), max_size=6))
@example(["nan", "write"])
@example(["below", "or", "write", "not below"])
def test_what_is_said_of_all_entries_is_true_of_numbers(steps):
    """The same program on numbers and without data: an answer, where there is one, is the same."""

    def program(h):
        stack = [torch.isfinite(h), torch.isnan(h)]
        for step in steps:
            one, other = stack[-1], stack[-2]
            stack.append(
                {
                    "not": lambda a=one: ~a,
                    "and": lambda a=one, b=other: a & b,
                    "or": lambda a=one, b=other: a | b,
                    "all": lambda a=one: a.all(),
                    "any": lambda a=one: a.any(),
                    "finite": lambda: torch.isfinite(h),
                    "nan": lambda: torch.isnan(h),
                    "below": lambda: torch.rand(4) < 0,
                    "not below": lambda: torch.rand_like(h) >= 0,
                    "write": lambda a=one: _written(a),
                }[step]()
            )
        return bool(stack[-1].all())

    def build(b: int = 2):
        return Careful(program), torch.randn(b, 4)

    cost = derive_cost(build)
    assert cost.way == "meta" or "write" in steps
    with FlopCounterMode(display=False) as counter:
        Careful(program)(torch.randn(5, 4))
    assert cost.flops.forward(b=5) == counter.get_total_flops()


class Grid(nn.Module):
    """A vision model that is given its grid as a tensor, as in `grid_thw.tolist()`."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, patches, grid):
        for rows, columns in grid.tolist():
            side = torch.arange(rows * columns)
            kept = (side != -1).nonzero().squeeze(1)
            patches = self.layer(patches[:, kept])
        lengths = torch.repeat_interleave(grid[:, 0] * grid[:, 1], 2).cumsum(0)
        return self.layer(patches[:, : int(lengths[-1])])


def grid(b: int = 2, h: int = 4):
    return Grid(), (torch.randn(b, h * h, 6), torch.tensor([[h, h], [h, h]]))


def test_integers_that_are_spelled_out_keep_their_values_without_data():
    cost = derive_cost(grid)
    assert cost.way == "meta"
    for h in (3, 9, 40):
        model, (x, sides) = grid(b=3, h=h)
        with FlopCounterMode(display=False) as counter:
            model(x, sides)
        assert cost.flops.forward(b=3, h=h) == counter.get_total_flops()


class Scheduled(nn.Module):
    """Looks at a few numbers that were spelled out as it was built, and spells out what follows."""

    def __init__(self):
        super().__init__()
        self.layer, self.shares = nn.Linear(6, 6), nn.Buffer(torch.ones(3))
        nn.init.ones_(self.shares)

    def forward(self, x):
        for share in self.shares:
            if share > 0.5:
                x = self.layer(x)
        places = [torch.arange(x.shape[1]).max() + 1, self.shares[0]]
        return x[:, : int(torch.tensor(places)[0])] * torch.tensor(places)[1]


def scheduled(b: int = 2, n: int = 4):
    return Scheduled(), torch.randn(b, n, 6)


def test_a_few_numbers_that_are_spelled_out_keep_their_values_too():
    cost = derive_cost(scheduled)
    assert cost.way == "meta"
    model, x = scheduled(b=3, n=50)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert cost.flops.forward(b=3, n=50) == counter.get_total_flops() == 3 * 2 * 3 * 50 * 36


def test_numbers_that_change_are_no_longer_known():
    class Counts(Scheduled):
        def forward(self, x):
            self.shares.mul_(x.mean())
            return super().forward(x)

    def build(b: int = 2, n: int = 4):
        return Counts(), torch.randn(b, n, 6)

    cost = derive_cost(build)
    assert cost.way == "real"


def test_values_that_did_not_matter_in_the_end_are_no_reason():
    def build(b: int = 2, n: int = 4):
        model, x = scheduled(b, n)
        return Halving(model), x

    class Halving(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            n = x.shape[1]
            while n > 1:
                x, n = self.inner(x), n // 2
            return x

    reason = derive_cost(build).flops.forward.reason
    assert "one that halves" in reason
    assert "depends on values" not in reason


def test_torch_is_as_it_was_after_a_pass_under_fake_tensors():
    from torch._subclasses import fake_tensor

    limit, truncated = fake_tensor.CONSTANT_NUMEL_LIMIT, nn.init._no_grad_trunc_normal_
    derive_cost(grid)
    assert (limit, truncated) == (
        fake_tensor.CONSTANT_NUMEL_LIMIT,
        nn.init._no_grad_trunc_normal_,
    )


def test_a_model_without_masks_has_no_load():
    def build(b: int = 2, load: int = 3):
        return nn.Linear(4, 4), torch.randn(b, load, 4)

    cost = derive_cost(build)
    assert cost.masks == {}
    assert cost.flops.forward(b=2, load=5) == flops(build, b=2, load=5)[0]


def test_without_a_load_the_refusal_asks_for_one_whatever_the_modules_are():
    class Experts(nn.Module):
        """As many as a size says: which modules there are depends on it."""

        def __init__(self, d, count):
            super().__init__()
            self.router = nn.Linear(d, count)
            self.experts = nn.ModuleList(nn.Linear(d, d) for _ in range(count))

        def forward(self, x):
            chosen, out = self.router(x).argmax(-1), torch.zeros_like(x)
            for i, expert in enumerate(self.experts):
                out[chosen == i] = expert(x[chosen == i])
            return out

    def build(rows: int = 32, d: int = 8, count: int = 4):
        return Experts(d, count), torch.randn(rows, d)

    cost = derive_cost(build)
    assert "a size of the builder named load" in cost.flops.forward.reason
    assert "size named `load`" in cost.findings[0].repair


def test_without_sizes_work_that_depends_on_values_is_refused_all_the_same():
    class Coin(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return super().forward(y) if y.sum().item() > 0 else y

    reason = derive_cost(lambda: (Coin(4, 4, bias=False), torch.randn(8, 4))).flops.forward.reason
    assert "depends on values" in reason
    assert "two runs cost different amounts" in reason
