"""The convention table: what the documents print is what is counted, and torch has the operators."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from assay import derive_cost
from assay.cost.convention import CLASSES, Rule, register_operator, weights
from assay.cost.count import count
from assay.cost.tally import FORWARD
from assay.errors import UsageError
from assay.subject import Subject

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
_RELEASES = {  # that only some releases of torch have
    "_fused_rms_norm", "_fused_rms_norm_backward", "_safe_softmax", "batch_norm_with_update",
    "_batch_norm_with_update", "batch_norm_backward",
}  # fmt: skip


def rows(text):
    head = "| class | operations per element | operators |"
    table = text.partition(head)[2].partition("\n\n")[0]
    for line in table.strip().splitlines()[1:]:
        kind, weight, names = (cell.strip() for cell in line.strip("|").split("|"))
        yield kind, int(weight), tuple(re.findall(r"`(\w+)`", names))


def test_the_table_in_the_documents_is_the_one_that_counts():
    printed = list(rows(PAGE.read_text()))
    assert printed == [
        (kind, weight, names)
        for kind, table in weights().items()
        for weight, names in table.items()
    ]


def test_every_operator_stands_once_and_in_a_known_class():
    names = [name for table in weights().values() for found in table.values() for name in found]
    assert len(names) == len(set(names))
    assert set(weights()) <= set(CLASSES)


def test_no_product_has_a_weight_of_its_own():
    names = {name for table in weights().values() for found in table.values() for name in found}
    assert not names & {str(packet).rpartition(".")[2] for packet in flop_registry}


def test_torch_has_these_operators():
    names = {name for table in weights().values() for found in table.values() for name in found}
    missing = {
        name
        for name in names
        if not (hasattr(torch.ops.aten, name) or hasattr(torch.ops.aten, f"{name}_"))
    }
    assert missing <= _RELEASES


@pytest.mark.parametrize(
    ("func", "kind", "weight"),
    [
        (torch.ops.aten.gelu.default, "elementwise", 8),
        (torch.ops.aten.sigmoid_.default, "elementwise", 4),
        (torch.ops.aten.sin.default, "elementwise", 1),  # pointwise, by its tag alone
        (torch.ops.aten._softmax.default, "reduction", 5),
        (torch.ops.aten.native_layer_norm.default, "normalisation", 8),
        (torch.ops.aten.cat.default, "indexing", 0),
        (torch.ops.aten.floor_divide_.Tensor, "elementwise", 1),
        (torch.ops.aten.upsample_bilinear2d.vec, "elementwise", 7),
        (torch.ops.aten.upsample_bilinear2d_backward.default, "reduction", 8),
        (torch.ops.aten.masked_scatter_backward.default, "indexing", 0),
        (torch.ops.aten.as_strided_.default, "other", 0),
    ],
)
def test_a_rule_is_that_of_the_table(func, kind, weight):
    rule = Rule(func)
    assert (rule.kind, rule.per_element, rule.known) == (kind, weight, True)


def test_what_decoders_use_is_counted():
    def decoder(b: int = 2, h: int = 4, c: int = 2):
        conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(c, c, 3, padding=1))
        grow = nn.Upsample(scale_factor=2, mode="bilinear")
        return nn.Sequential(conv, grow, nn.ReflectionPad2d(1)), torch.randn(b, c, h, h)

    cost = derive_cost(decoder)
    assert cost.uncounted == ()
    grown = cost.breakdown("operator")["upsample_bilinear2d"]
    assert str(grown.operations.total) == "28*b*c*h**2"  # seven for each number of the output


def operations_of(model, *inputs):
    """Forward operations by operator, and everything that no table has."""
    told = count(Subject(model, inputs))
    done = {p.operator: a.operations for p, a in told.parts.items() if p.phase == FORWARD}
    return done, told.uncounted


class Calls(nn.Module):
    def __init__(self, call):
        super().__init__()
        self.call, self.size = call, nn.Parameter(torch.ones(1))

    def forward(self, *x):
        return self.call(*x) * self.size


PAIRS = 3 * 4 * 6 * 5  # of 4 points with 6 others, of 5 coordinates
BAGS = nn.EmbeddingBag(10, 3), torch.zeros(4, 6, dtype=torch.long)


@pytest.mark.parametrize(
    ("model", "inputs", "operator", "expected"),
    [
        (nn.Bilinear(5, 6, 7), [(4, 5), (4, 6)], "_trilinear", 3 * 4 * 5 * 6 * 7),
        (Calls(torch.mv), [(4, 5), (5,)], "mv", 2 * 4 * 5),
        (Calls(torch.dot), [(5,), (5,)], "dot", 2 * 5),
        (Calls(torch.addmv), [(4,), (4, 5), (5,)], "addmv", 2 * 4 * 5),
        (
            Calls(lambda u, *x: (u * 2).addmm_(*x)),
            [(4, 6), (4, 5), (5, 6)],
            "addmm_",
            2 * 4 * 5 * 6,
        ),
        (Calls(lambda u, *x: (u * 2).addmv_(*x)), [(4,), (4, 5), (5,)], "addmv_", 2 * 4 * 5),
        (Calls(torch.addbmm), [(4, 6), (3, 4, 5), (3, 5, 6)], "addbmm", 2 * 3 * 4 * 5 * 6),
        (Calls(torch.addr), [(4, 5), (4,), (5,)], "addr", 2 * 4 * 5),
        (Calls(torch.cdist), [(4, 5), (6, 5)], "_cdist_forward", PAIRS),
        (Calls(torch.cdist), [(40, 5), (6, 5)], "_euclidean_dist", 10 * PAIRS),
        (
            Calls(lambda m: nn.functional.affine_grid(m, [4, 1, 8, 9], True)),
            [(4, 2, 3)],
            "affine_grid_generator",
            4 * 8 * 9 * 2 * 3 * 2,
        ),
    ],
)
def test_products_and_sums_that_torchs_table_leaves_out(model, inputs, operator, expected):
    tensors = [torch.randn(*shape, requires_grad=True) for shape in inputs]
    done, uncounted = operations_of(model, *tensors)
    assert (done[operator], uncounted) == (expected, {})


def test_a_bag_of_embeddings_reads_its_rows_and_no_table():
    bags, tokens = BAGS
    told = count(Subject(bags, (tokens,)))
    (forward,) = [a for p, a in told.parts.items() if p.operator == "_embedding_bag"]
    assert forward.operations == 4 * 6 * 3
    rows, where, answers = 4 * 6 * 3 * 4, (4 * 6 + 4) * 8, 4 * 3 * 4
    assert rows + where + answers <= forward.moved < rows + where + answers + 10 * 3 * 4 * 4
    assert not told.uncounted
    assert sum(a.operations for p, a in told.parts.items() if "_bag" in p.operator) == 2 * 4 * 6 * 3


def test_a_ctc_loss_counts_for_each_time_and_state():
    def build(b: int = 2, n: int = 12, m: int = 4, c: int = 5):
        targets = torch.zeros(b, m, dtype=torch.long)

        def loss(y):
            scores = y.log_softmax(-1).transpose(0, 1)
            return nn.functional.ctc_loss(scores, targets, (n,) * b, (m,) * b, blank=c - 1)

        return nn.Identity(), torch.randn(b, n, c, requires_grad=True), loss

    cost = derive_cost(build)
    assert cost.uncounted == ()
    share = cost.breakdown("operator")["_ctc_loss"]
    assert share.operations.forward(b=3, n=40, m=7, c=9) == 10 * 3 * 40 * (2 * 7 + 1)
    back = cost.breakdown("operator")["_ctc_loss_backward"]
    assert back.operations.backward(b=3, n=40, m=7, c=9) == 3 * 40 * (12 * (2 * 7 + 1) + 3 * 9)


@pytest.mark.parametrize(
    ("name", "operations", "kind", "named"),
    [
        ("scale", lambda *a, **k: 1, "elementwise", "name = 'scale'"),
        ("qa::scale.default", lambda *a, **k: 1, "elementwise", "without overload"),
        ("qa::scale", 3, "elementwise", "operations = 3: expected a function"),
        ("qa::scale", lambda *a, **k: 1, "zzz", "kind = 'zzz'"),
    ],
)
def test_what_cannot_be_registered_is_refused_at_once(name, operations, kind, named):
    with pytest.raises(UsageError, match=named):
        register_operator(name, operations, kind)


@torch.library.custom_op("assay_convention::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


@twice.register_fake
def _(x):
    return torch.empty_like(x)


class Twice(nn.Module):
    def forward(self, x):
        return torch.ops.assay_convention.twice(x)


def doubled(b: int = 3):
    return Twice(), torch.randn(b, 5)


@pytest.mark.parametrize("value", [None, -1, 0.5, "x", float("nan")])
def test_what_is_no_count_is_refused_by_the_name_of_its_operator(value):
    register_operator("assay_convention::twice", lambda *args, out, **kwargs: value)
    shown = "is missing" if value is None else f"= {value!r}"
    named = (
        rf"operations of assay_convention::twice {shown}: expected an integer of at least 0\. Let"
    )
    with pytest.raises(UsageError, match=named):
        derive_cost(doubled)


def test_a_float_that_is_whole_is_a_count():
    register_operator("assay_convention::twice", lambda *args, out, **kwargs: 2.0 * out.numel())
    assert str(derive_cost(doubled).operations.forward) == "15*b"  # and their sum


def test_a_profilers_marks_count_nothing():
    class Marked(nn.Linear):
        def forward(self, x):
            with torch.profiler.record_function("mine"):
                return super().forward(x)

    def build(b: int = 2):
        return Marked(3, 3), torch.randn(b, 3)

    assert not derive_cost(build).uncounted


def test_what_distributions_ask_of_their_arguments_is_counted():
    def policy(b: int = 4):
        taken = torch.randint(3, (b,))

        def loss(logits):
            return -torch.distributions.Categorical(logits=logits).log_prob(taken).mean()

        return nn.Linear(5, 3), torch.randn(b, 5), loss

    assert not derive_cost(policy).uncounted
