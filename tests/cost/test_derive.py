"""Every program ends in a formula that is right wherever it answers, or in a refusal with its reason."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from cost_twins import Program, answers, flops, program, wrong_answers
from torch import nn
from turns import ANSWERED, REFUSED, attention, one_more_every_32, triangular_loop, windows_of_5

import assay
from assay import derive_cost
from assay.errors import AssayError, CannotMeasure, UsageError, UserCodeError

LENGTHS = [*range(1, 131), 333, 777]
SLOW = windows_of_5, triangular_loop, one_more_every_32


@pytest.mark.parametrize("function", ANSWERED, ids=lambda f: f.__name__)
def test_a_formula_is_what_torch_counts(function):
    build = program(function)
    cost = derive_cost(build)
    assert cost.status != "refused", cost.flops.forward.reason
    text = ANSWERED[function]
    assert text is None or text in str(cost.flops.forward)
    lengths = LENGTHS[::11] if function in SLOW else LENGTHS
    grid = [{"b": 1 + n % 4, "n": n} for n in lengths]
    assert not wrong_answers(cost, build, grid)
    silent = [s for s in grid if s["n"] > 5 and s["b"] > 1 and answers(cost, **s) is None]
    assert not silent, "it should answer here"


def test_where_a_model_does_not_run_there_is_no_answer():
    def not_beyond_90(s, x):
        if x.shape[1] > 90:
            raise ValueError("too long")
        return s.lin(x)

    cost = derive_cost(program(not_beyond_90))
    assert answers(cost, b=2, n=90) == (32 * 180, 32 * 180)
    assert answers(cost, b=2, n=91) is None
    assert "n ≤ 90" in str(cost)


def test_one_image_has_a_formula_though_statistics_of_one_pixel_fail():
    def build(b: int = 2, h: int = 32):
        net = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        return nn.Sequential(net, nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4)), torch.randn(
            b, 3, h, h
        )

    cost = derive_cost(build)
    grid = [{"b": 1, "h": h} for h in (5, 32, 101)] + [{"b": b, "h": 1} for b in (2, 5)]
    assert all(formula.holds(**at) for at in grid for formula in cost.formulas().values())
    assert not wrong_answers(cost, build, grid)
    bare = derive_cost(
        lambda b=4, d=8: (nn.Sequential(nn.Linear(d, d), nn.BatchNorm1d(d)), torch.randn(b, d))
    )
    assert answers(bare, b=1, d=8) is None, "it never runs there"


class Supervised(nn.Module):
    """A head behind every layer."""

    def __init__(self, d, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(d, d) for _ in range(depth))
        self.heads = nn.ModuleList(nn.Linear(d, 2) for _ in range(depth))

    def forward(self, x):
        out = []
        for layer, head in zip(self.layers, self.heads, strict=True):
            x = layer(x)
            out.append(head(x))
        return out


def test_a_small_size_that_is_an_exception_is_no_floor():
    def build(b: int = 2, d: int = 8, depth: int = 6):
        def last_three(out):
            return sum(y.mean() for y in out[-3:])

        return Supervised(d, depth), torch.randn(b, d), last_three

    cost = derive_cost(build)
    assert str(cost.flops.backward) == "2*b*d*(d*(2*depth - 1) + 12)"
    assert not wrong_answers(cost, build, [{"b": 2, "d": 8, "depth": k} for k in (2, 3, 4, 9, 41)])


def test_pieces_of_which_some_are_missing_at_small_sizes():
    class Pieces(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return torch.cat([self.linear(piece) for piece in x.chunk(4, 1)], 1)

    def build(b: int = 2, n: int = 32):
        return Pieces(), torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert answers(cost, b=2, n=32) == (2 * 16 * 64, 2 * 16 * 64)
    assert not wrong_answers(cost, build, [{"b": b, "n": n} for b in (2, 3) for n in range(2, 60)])


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_what_has_no_polynomial_is_refused_with_its_reason(function):
    build = program(function)
    cost = derive_cost(build)
    if cost.status != "refused":  # an answer is allowed, a wrong one is not
        grid = [{"b": b, "n": n} for n in range(1, 131, 3) for b in (1, 2, 5)]
        assert not wrong_answers(cost, build, grid)
        return
    reason = cost.flops.forward.reason
    assert len(reason) > 20
    with pytest.raises(CannotMeasure, match="refused"):
        cost.flops.forward(b=2, n=3)
    for formula in (*cost.formulas().values(), cost.flops.total, cost.operations.total):
        assert formula.status == "refused"
    (finding,) = [f for f in cost.findings if f.rule == "cost.no-formula"]
    assert reason in finding.message
    assert "No formula" in str(cost)


# Values of tensors ----------------------------------------------------------------------------------------


def looks_at_values(s, x):
    return s.lin(x) if bool((x.sum() > -1e9).item()) else s.lin(s.lin(x))


def keeps_as_many_as_are_positive(s, x):
    return s.lin(x.reshape(-1, 4)[: int((x[..., 0] > 0).sum())])


def test_a_model_that_looks_at_values_is_run_for_real():
    cost = derive_cost(program(looks_at_values))
    assert cost.way == "real"
    assert str(cost.flops.forward) == "32*b*n"
    assert "looks at values" in str(cost)


def test_work_that_depends_on_values_is_refused():
    cost = derive_cost(program(keeps_as_many_as_are_positive))
    assert cost.status == "refused"
    assert "random" in cost.flops.forward.reason or "values" in cost.flops.forward.reason


def test_a_builder_that_reads_data_is_moved():
    def build(b: int = 2, n: int = 4):
        model = nn.Linear(4, 4)
        model.weight.data = torch.from_numpy(model.weight.detach().numpy() * 2)
        return model, torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert cost.way == "moved"
    assert str(cost.flops.forward) == "32*b*n"


def test_a_plain_model_allocates_nothing():
    assert derive_cost(program(attention)).way == "meta"


# What users bring -----------------------------------------------------------------------------------------


def test_a_forward_that_raises_is_the_users():
    def fails(s, x):
        raise KeyError("not today")

    with pytest.raises(UserCodeError, match="not today"):
        derive_cost(program(fails))


def test_a_builder_that_raises_is_the_users():
    def build(b: int = 2):
        raise KeyError("no such file")

    with pytest.raises(UserCodeError, match="no such file"):
        derive_cost(build)


def test_a_model_without_gradients_has_no_backward():
    def build(b: int = 2, n: int = 3):
        model = Program(lambda s, x: x @ x.transpose(1, 2)).requires_grad_(False)
        return model, torch.randn(b, n, 4)

    cost = derive_cost(build)
    assert str(cost.flops.forward) == "8*b*n**2"
    assert cost.flops.backward.is_zero
    assert cost.saved_bytes.is_zero


def test_a_model_without_parameters_or_products_is_all_operations():
    cost = derive_cost(lambda b=2: (nn.ReLU(), torch.randn(b, 3)))
    assert cost.flops.total.is_zero
    assert cost.parameters.is_zero
    assert (
        str(cost.operations.forward) == "6*b"
    )  # the activation, and the sum that gradients start from


def test_a_frozen_layer_has_less_backward():
    def build(b: int = 2):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[0].requires_grad_(False)
        return model, torch.randn(b, 4)

    cost = derive_cost(build)
    assert (cost.flops.forward(b=3), cost.flops.backward(b=3)) == flops(build, b=3)
    assert cost.flops.backward(b=3) == 3 * 32  # only the last layer's weights
    assert cost.optimizer_bytes["Adam, AdamW"](b=3) == 2 * 4 * 20


def test_no_sizes_give_a_number():
    cost = derive_cost(lambda: (nn.Linear(4, 5), torch.randn(3, 4)))
    assert str(cost.flops.forward) == "120"
    assert cost.flops.forward() == 120
    assert cost.parameters() == 25


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_ready_model_is_costed_and_comes_back_as_it_was(device):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), *(nn.ReLU() for _ in range(8)))
    model.to(device)
    x = torch.randn(3, 4, device=device)
    if device == "cpu":
        model(x).sum().backward()
    grads = [p.grad for p in model.parameters()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    seeds = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    cost = derive_cost((model, x))
    assert str(cost.flops.forward) == "96"
    assert len(model) == 10
    assert all(a is p.grad for a, p in zip(grads, model.parameters(), strict=True))
    if device == "cpu":
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(seeds[0], torch.get_rng_state())
    assert seeds[1] == random.getstate()
    assert (seeds[2] == np.random.get_state()[1]).all()


def test_sizes_that_are_wrong_are_told():
    build = program(attention)
    for sizes, word in (({"k": 3}, "size = 'k'"), ({"n": 0}, "size n"), ({"b": True}, "size b")):
        with pytest.raises(UsageError, match=word):
            derive_cost(build, **sizes)


def test_sizes_given_replace_the_defaults():
    assert derive_cost(program(attention), b=3, n=7).base == {"b": 3, "n": 7}


def test_a_loss_counts_too():
    def build(b: int = 2):
        head = nn.Linear(4, 4)
        return assay.Subject(nn.Linear(4, 4), torch.randn(b, 4), loss=lambda y: head(y).sum())

    assert derive_cost(build).flops.forward(b=5) == 2 * 5 * 16 * 2


def test_a_model_that_remembers_earlier_calls_is_refused():
    calls = []

    def grows(s, x):
        calls.append(1)
        for _ in range(len(calls)):
            x = s.lin(x)
        return x

    cost = derive_cost(program(grows))
    assert cost.status == "refused"
    assert "remembers earlier runs" in cost.flops.forward.reason


@pytest.mark.parametrize("output", [None, 3, (), "text"])
def test_what_cannot_be_measured_is_told_by_our_own_error(output):
    with pytest.raises(AssayError):
        derive_cost(program(lambda s, x: output))


class LooksBehind(torch.autograd.Function):
    """Its backward pass looks at values, or raises."""

    @staticmethod
    def forward(ctx, x, fails):
        ctx.fails = fails
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        if ctx.fails:
            raise ValueError("no way back")
        return gradient * (2 if gradient.abs().sum().item() >= 0 else 3), None


@pytest.mark.parametrize("fails", [False, True])
def test_a_backward_pass_that_needs_data_is_run_with_data_and_one_that_raises_is_told(fails):
    class Behind(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return LooksBehind.apply(self.layer(x), fails) * x  # a gradient that nobody spelled out

    def build(b: int = 2):
        return Behind(), torch.randn(b, 4)

    if fails:
        with pytest.raises(UserCodeError, match="no way back"):
            derive_cost(build)
    else:
        cost = derive_cost(build)
        assert (cost.way, str(cost.flops.backward)) == ("real", "32*b")


def test_sizes_that_are_too_large_together_are_looked_at_one_by_one():
    """Bytes of a tensor are counted in 64 bits, and code that compares with a large number leads there."""

    class Far(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            if x.shape[1] > 40_000:
                raise ValueError("too long")
            return x * self.scale

    def build(b: int = 2, n: int = 3):
        return Far(), torch.zeros(b, n, 2**20, 2**20)

    cost = derive_cost(build)
    assert cost.status == "exact"
    assert cost.operations.forward(b=5, n=7) == 2 * 5 * 7 * 2**40
    assert cost.operations.forward.holds(n=40_000)
    assert not cost.operations.forward.holds(n=40_001)


class Rotary(nn.Module):
    """Computes something in full precision, whatever surrounds it."""

    def __init__(self, on: bool) -> None:
        super().__init__()
        self.layer, self.on = nn.Linear(8, 8), on

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.on):
            return self.layer(x)


@pytest.mark.parametrize(("on", "way", "kept"), [(False, "meta", 32), (True, "fake", 16)])
def test_autocast_can_be_off_where_no_device_is(on, way, kept):
    """On, it casts: what is kept has half the bytes, and that shows with a device alone."""
    cost = derive_cost(lambda b=2: (Rotary(on), torch.randn(b, 8)))
    assert cost.way == way
    assert str(cost.flops.forward) == "128*b"
    assert str(cost.saved_bytes) == f"{kept}*b"
    with pytest.raises(RuntimeError, match=r"autocast|scalarType"):
        torch.autocast("meta", enabled=False)


def test_autocast_that_casts_is_counted_with_a_device():
    """As people write it: the device is named, and on the meta device nothing would be cast."""

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.layers(x).float()

    cost = derive_cost(lambda b=2: (Half(), torch.randn(b, 8)))
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = Half()(torch.randn(50, 8))
    assert cost.way == "fake"
    assert cost.saved_bytes(b=50) == sum(kept.values())
    assert output.dtype == torch.float32


def test_threads_wait_for_each_other():
    def norm(b: int = 2, d: int = 6):
        return nn.Sequential(nn.Linear(d, d), nn.LayerNorm(d)), torch.randn(b, d)

    def loop(b: int = 2, n: int = 6):
        return nn.GRU(4, 4, batch_first=True), torch.randn(b, n, 4)

    builders = [norm, loop] * 2
    alone = [str(derive_cost(build).peak_bytes) for build in builders]
    with ThreadPoolExecutor() as pool:
        together = list(pool.map(lambda build: str(derive_cost(build).peak_bytes), builders))
    assert together == alone
