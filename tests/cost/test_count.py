"""Counts of one pass against torch's own counter, hooks of our own, and walks over what is alive."""

from functools import partial

import pytest
import torch
from cost_twins import Program
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode

from assay.cost.again import Memory
from assay.cost.count import _from_the_end, count
from assay.cost.fake import fake_tensors
from assay.cost.tally import BACKWARD, CAUSAL, FLOPS, FORWARD, PEAK, SAVED
from assay.state import preserved_random_state, unfused
from assay.subject import Subject


class Attends(nn.Module):
    """Causal attention of two heads over a sequence, queries of another length than keys."""

    def __init__(self, causal=True, frozen=False):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)
        self.causal, self.frozen = causal, frozen

    def forward(self, x, y):
        q, k = (f(z).unflatten(2, (2, 4)).transpose(1, 2) for f, z in ((self.q, x), (self.k, y)))
        if self.frozen:
            q, k = q.detach(), k.detach()
        return F.scaled_dot_product_attention(q, k, k, is_causal=self.causal)


class Checkpointed(nn.Module):
    def __init__(self, layer, reentrant=False):
        super().__init__()
        self.layer, self.reentrant = layer, reentrant

    def forward(self, x):
        return checkpoint(self.layer, x, use_reentrant=self.reentrant)


class Recurrent(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.cell, self.read = nn.GRUCell(d, d), nn.Linear(d, 3)

    def forward(self, x):
        h, out = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            out.append(self.read(h))
        return torch.stack(out, 1)


def convnet():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, groups=2), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 5), nn.LogSoftmax(1),
    )  # fmt: skip


def tied():
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    return model


MODELS = {
    "a perceptron": lambda: (
        nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2)),
        torch.randn(5, 8),
    ),
    "convolutions": lambda: (convnet(), torch.randn(2, 3, 19, 21)),
    "a loop": lambda: (Recurrent(), torch.randn(3, 7, 8)),
    "an encoder": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        torch.randn(2, 5, 8),
    ),
    "an lstm": lambda: (nn.LSTM(8, 6, 2, bidirectional=True), torch.randn(5, 2, 8)),
    "attention": lambda: (Attends(), (torch.randn(2, 5, 8), torch.randn(2, 7, 8))),
    "embeddings": lambda: (
        nn.Sequential(nn.Embedding(9, 8), nn.LayerNorm(8), nn.Linear(8, 9)),
        torch.randint(0, 9, (3, 4)),
    ),
    "tied weights": lambda: (tied(), torch.randn(3, 8)),
    "checkpointing": lambda: (
        Checkpointed(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 8))),
        torch.randn(3, 8),
    ),
}


def subject(name, device="meta"):
    with torch.device(device), preserved_random_state(0):
        return Subject(*MODELS[name]())


def counted(made, memory=None):
    with unfused(), preserved_random_state(0):
        return count(made, memory=memory)


def sums(tally, quantity, phase):
    return sum(v for k, v in tally.counts.items() if (k.quantity, k.phase) == (quantity, phase))


@pytest.mark.parametrize("name", MODELS)
def test_flops_are_those_of_torchs_counter(name):
    tally, made = counted(subject(name)), subject(name)
    with unfused(), FlopCounterMode(display=False) as counter:
        value = made.objective(made.forward())
        forward = counter.get_total_flops()
        value.backward()
    assert sums(tally, FLOPS, FORWARD) == forward
    assert sums(tally, FLOPS, BACKWARD) == counter.get_total_flops() - forward
    assert not tally.uncounted


@pytest.mark.parametrize("name", MODELS)
def test_saved_bytes_are_those_of_distinct_storages_with_data(name):
    """Hooks on real tensors of the CPU, comparing addresses of data."""
    made = subject(name, "cpu")
    own = {p.untyped_storage().data_ptr() for p in made.model.parameters()}
    kept, alive = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used again
        return tensor

    watching = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
    with unfused(), preserved_random_state(0), watching:
        made.objective(made.forward())
    for device in ("meta", "cpu"):
        assert sums(counted(subject(name, device)), SAVED, FORWARD) == sum(kept.values())


@pytest.mark.parametrize("name", ["a perceptron", "convolutions", "a loop", "an encoder"])
def test_the_peak_is_that_of_torchs_memory_tracker(name):
    from torch.distributed._tools.mem_tracker import MemTracker

    made = subject(name, "cpu")
    tracker = MemTracker()
    tracker.track_external(made.model, *made.inputs)
    with unfused(), preserved_random_state(0), tracker:
        output = made.forward()  # held while the backward pass runs, as a training loop does
        made.objective(output).backward()
    snapshot = tracker.get_tracker_snapshot("peak")
    peak = snapshot[torch.device("cpu")]["Total"]
    assert counted(subject(name)).peak == pytest.approx(peak, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_remembered_operators_change_nothing(name):
    memory = Memory()
    plain, first = counted(subject(name)), counted(subject(name), memory)
    again = counted(subject(name), memory)
    assert memory.seen
    assert plain == first == again


def counted_without_data(way, make, memory):
    if way == "meta":
        with torch.device("meta"):
            return counted(make(), memory)
    with fake_tensors(), preserved_random_state(0):
        return counted(make(), memory)


@pytest.mark.parametrize("name", MODELS)
def test_operators_on_fake_tensors_are_remembered_too(name):
    memory = Memory()
    plain, first, again = (
        counted_without_data("fake", lambda: Subject(*MODELS[name]()), m)
        for m in (None, memory, memory)
    )
    assert memory.seen
    assert plain == first == again
    for phase in (FORWARD, BACKWARD):
        assert sums(plain, FLOPS, phase) == sums(counted(subject(name)), FLOPS, phase)


@pytest.mark.parametrize("way", ["meta", "fake"])
def test_memory_is_of_shapes_and_of_everything_else_too(way):
    """Calls that differ in one thing each, on one memory: none may be taken for another."""
    calls = [
        lambda x: x.sum(), lambda x: x.sum(0), lambda x: x.sum(1, keepdim=True),
        lambda x: x + 1, lambda x: x + 1.0, lambda x: x + True, lambda x: x * x, lambda x: x * 2,
        lambda x: x.t() @ x, lambda x: x @ x.t(), lambda x: x.double() * x, lambda x: x.half(),
        lambda x: torch.cat([x, x]), lambda x: torch.cat([x, x], 1), lambda x: x.new_zeros(3),
        lambda x: x.new_zeros(3, dtype=torch.int64), lambda x: x.softmax(0),
        lambda x: x.softmax(1), lambda x: torch.var_mean(x)[0], lambda x: x.topk(2)[0],
        lambda x: x.clone().add_(1), lambda x: x[1:].clone(), lambda x: x.t().clone(),
        lambda x: F.pad(x, (0, 1)), lambda x: F.pad(x, (1, 0, 2, 0)), lambda x: x.expand(3, 4, 6) * 1,
        lambda x: F.dropout(x), lambda x: F.dropout(x, 0.2), lambda x: x.sort()[1].float(),
        lambda x: x[1:].view(-1)[:8], lambda x: x.unbind()[1], lambda x: x.split(1, 1)[2],
        lambda x: (x.clone().t()[1:] + 1).reshape(-1), lambda x: x.clone().relu_().view(2, 12)[1],
        lambda x: x[torch.arange(4) > 1], lambda x: x[torch.arange(4) > 2], lambda x: x.clone()[1].zero_(),
    ]  # fmt: skip
    memory = Memory()
    for _ in range(2):
        for run in calls:

            def make(run=run):
                model = Program(lambda s, x: run(x) * s.lin.weight[0, 0])
                return Subject(model, torch.randn(4, 6))

            if way == "meta" and run in calls[-3:-1]:
                continue  # which entries a mask selects is not known there
            plain, remembered = (counted_without_data(way, make, m) for m in (None, memory))
            assert plain == remembered


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_masked_flops_are_those_of_the_pairs_that_causality_hides(b, queries, keys):
    with torch.device("meta"):
        made = Subject(Attends(), (torch.randn(b, queries, 8), torch.randn(b, keys, 8)))
    tally = counted(made)
    hidden = sum(k > q for q in range(queries) for k in range(keys))
    one_pass = 2 * b * 2 * hidden * (4 + 4)  # scores, and the weighted sum of values
    assert sums(tally, CAUSAL, FORWARD) == one_pass
    assert sums(tally, CAUSAL, BACKWARD) == 2 * one_pass


def test_nothing_is_masked_without_causality_and_backward_only_with_gradients():
    inputs = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    assert not sums(counted(Subject(Attends(causal=False), inputs)), CAUSAL, FORWARD)
    frozen = counted(Subject(Attends(frozen=True), inputs))
    assert sums(frozen, CAUSAL, FORWARD)
    assert not sums(frozen, CAUSAL, BACKWARD)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_runs_forward_again_in_backward_and_keeps_less(reentrant):
    def layer():
        return nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Linear(64, 8))

    with torch.device("meta"):
        x = torch.randn(3, 8, requires_grad=True)
        plain = counted(Subject(layer(), x))
        again = counted(Subject(Checkpointed(layer(), reentrant), x))
    forward, backward = (sums(plain, FLOPS, phase) for phase in (FORWARD, BACKWARD))
    assert sums(again, FLOPS, FORWARD) == forward
    # without re-entering, it stops before the last layer, whose output nobody keeps
    left_out = 0 if reentrant else 2 * 3 * 64 * 8
    assert sums(again, FLOPS, BACKWARD) == forward + backward - left_out
    assert sums(again, SAVED, FORWARD) < sums(plain, SAVED, FORWARD)


def test_selective_checkpointing_keeps_what_it_was_told_to_and_is_not_warned_of():
    class Selective(Checkpointed):
        def forward(self, x):
            products = [torch.ops.aten.addmm.default]
            contexts = partial(create_selective_checkpoint_contexts, products)
            return checkpoint(self.layer, x, use_reentrant=False, context_fn=contexts)

    with torch.device("meta"):
        layer = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
        x = torch.randn(3, 8, requires_grad=True)
        whole, selective = (
            counted(Subject(Checkpointed(layer), x)),
            counted(Subject(Selective(layer), x)),
        )
    kept = sums(selective, SAVED, FORWARD) - sums(whole, SAVED, FORWARD)
    assert kept == 4 * 3 * (64 + 8)
    assert selective.counts[SAVED, FORWARD, "layer.0", ""] == 4 * 3 * 64


def test_the_sum_of_modules_is_the_whole_and_backward_goes_to_the_module_of_forward():
    tally = counted(subject("an encoder"))
    by_module = {(k.module, k.phase): v for k, v in tally.counts.items() if k.quantity == FLOPS}
    assert by_module["linear1", BACKWARD] == 2 * by_module["linear1", FORWARD]
    assert {m for m, _ in by_module} >= {"linear1", "linear2", "self_attn"}
    assert sum(by_module.values()) == sum(sums(tally, FLOPS, p) for p in (FORWARD, BACKWARD))


def test_hooks_are_gone_also_after_an_exception():
    from torch.nn.modules import module as hooks

    def fails(s, x):
        raise ValueError("not today")

    with pytest.raises(Exception, match="not today"):
        counted(Subject(Program(fails), torch.randn(2, 4)))
    assert not hooks._global_forward_hooks
    assert not hooks._global_forward_pre_hooks


def test_old_gradients_are_not_added_to():
    made = subject("a perceptron", "cpu")
    made.objective(made.forward()).backward()
    assert counted(made) == counted(subject("a perceptron", "cpu"))


def test_an_operator_that_no_table_knows_is_named():
    @torch.library.custom_op("assay_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(lambda x: torch.empty_like(x))
    tally = counted(Subject(Program(lambda s, x: s.lin(twice(x).detach())), torch.randn(2, 4)))
    ((name, where),) = tally.uncounted.items()
    assert "assay_tests.twice" in name
    assert where.file == __file__


def test_a_gather_reads_the_rows_it_takes_and_not_the_table():
    with torch.device("meta"):
        table, ids = torch.randn(1000, 8, requires_grad=True), torch.zeros(3, dtype=torch.long)
        model = Program(lambda s, i: F.embedding(i, s.table), table=nn.Parameter(table))
        parts = counted(Subject(model, ids)).parts
    moved = {(part.operator, part.phase): amount.moved for part, amount in parts.items()}
    assert moved["embedding", FORWARD] == 3 * 8 + 2 * 3 * 8 * 4  # indices, rows in and rows out
    # the gradient is a whole table
    assert moved["embedding_dense_backward", BACKWARD] == 3 * 8 + 3 * 8 * 4 + 1000 * 8 * 4


def test_steps_shapes_and_peaks_are_there():
    tally = counted(subject("a perceptron"))
    assert tally.steps > 5
    assert 16 in tally.shapes
    assert any(k.quantity == PEAK for k in tally.counts)
    assert tally.peak >= max(v for k, v in tally.counts.items() if k.quantity == PEAK)


def test_a_graph_is_let_go_from_its_end_so_that_long_loops_do_not_overflow_the_stack():
    x = torch.randn(2, requires_grad=True)
    a = x.exp()
    b = (a * x).sin()
    graph = _from_the_end([b, a])
    assert graph[-1] is not None
    made = [node for node in graph if "Accumulate" not in node.name()]
    assert [node.name() for node in made] == ["ExpBackward0", "MulBackward0", "SinBackward0"]
    assert len(graph) == 4
