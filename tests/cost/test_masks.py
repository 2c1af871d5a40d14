"""Experts that look for their tokens, with a named load: as people write them, beside runs with data."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import assay
from assay import derive_cost
from assay.cost.known import followed
from assay.cost.values import value_of
from assay.errors import CannotMeasure

CHOSEN = 2


class Experts(nn.Module):
    """Each token goes to two of the experts; `combine` is how somebody wrote that down."""

    def __init__(self, d, count, combine, evenly=False):
        super().__init__()
        self.gate = nn.Linear(d, count)
        self.experts = nn.ModuleDict({f"expert_{i}": nn.Linear(d, d) for i in range(count)})
        self.count, self.combine, self.evenly = count, combine, evenly

    def __getitem__(self, i):
        return self.experts[f"expert_{i}"]

    def forward(self, x):
        x = x.flatten(0, -2)
        scores = self.gate(x).softmax(-1)
        weights, chosen = scores.topk(CHOSEN)
        if self.evenly:
            every = torch.arange(CHOSEN * len(x)).view(len(x), CHOSEN)
            chosen = every % self.count
        return self.combine(self, x, scores, weights, chosen)


def hit_then_where(self, x, scores, weights, chosen):
    """Transformers' Mixtral, and many after it."""
    out = torch.zeros_like(x)
    mask = F.one_hot(chosen, num_classes=self.count).permute(2, 1, 0)
    for i in torch.greater(mask.sum(dim=(-1, -2)), 0).nonzero():
        which, rows = torch.where(mask[i].squeeze(0))
        out.index_add_(
            0, rows, self[i[0]](x[None, rows].flatten(0, 1)) * weights[rows, which, None]
        )
    return out


def hit_by_any(self, x, scores, weights, chosen):
    out = torch.zeros_like(x)
    mask = F.one_hot(chosen, self.count).bool()
    hit = mask.any(0).any(0)
    for i in range(self.count):
        if hit[i]:
            rows = mask[:, :, i].any(-1).nonzero().flatten()
            out = out.index_add(0, rows, self[i](x[rows]))
    return out


def where_equal(self, x, scores, weights, chosen):
    """Mistral's own reference."""
    out = torch.zeros_like(x)
    for i in range(self.count):
        rows, which = torch.where(chosen == i)
        out[rows] += weights[rows, which, None] * self[i](x[rows])
    return out


def counted_bins(self, x, scores, weights, chosen):
    """DeepSeek-V3's own reference."""
    out = torch.zeros_like(x)
    counts = torch.bincount(chosen.flatten(), minlength=self.count).tolist()
    for i in range(self.count):
        if counts[i] == 0:
            continue
        rows, which = torch.where(chosen == i)
        out[rows] += self[i](x[rows]) * weights[rows, which, None]
    return out


def scattered_mask(self, x, scores, weights, chosen):
    out = torch.zeros_like(x)
    keep = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, chosen, True)
    for i in range(self.count):
        mine = keep[:, i]
        if mine.sum().item() > 0:
            out[mine] = out[mine] + scores[mine, i, None] * self[i](x[mine])
    return out


def sorted_and_cut(self, x, scores, weights, chosen):
    """DeepSeek-V2's own inference."""
    hits = chosen.new_zeros(len(x), self.count)
    hits.scatter_(1, chosen, 1)
    ends = hits.sum(dim=0).cpu().numpy().cumsum()
    order = chosen.flatten().argsort()
    rows, parts = x[order // CHOSEN], []
    for i, end in enumerate(ends):
        start = 0 if i == 0 else ends[i - 1]
        if start != end:
            parts.append(self[i](rows[start:end]))
    out = torch.empty_like(rows)
    out[order] = torch.cat(parts)
    return (out.view(len(x), CHOSEN, -1) * weights[..., None]).sum(1)


def histogram_and_split(self, x, scores, weights, chosen):
    per = torch.histc(chosen.float(), bins=self.count, min=0, max=self.count - 1).int()
    order = chosen.flatten().argsort()
    parts = x[order // CHOSEN].split(per.tolist())
    return torch.cat([self[i](part) for i, part in enumerate(parts)])


def capacity(self, x, scores, weights, chosen):
    """Switch transformers: what is beyond the capacity of an expert is dropped."""
    mask = F.one_hot(chosen, self.count).flatten(0, 1)
    mask = mask * (mask.cumsum(0) <= 1000)
    mask = mask.view(-1, CHOSEN, self.count)
    out = torch.zeros_like(x)
    for i in (mask.sum((0, 1)) > 0).nonzero():
        rows, _ = torch.where(mask[:, :, i].squeeze(-1))
        out = out.index_add(0, rows, self[i.item()](x[rows]))
    return out


WRITTEN = [
    hit_then_where,
    hit_by_any,
    where_equal,
    counted_bins,
    scattered_mask,
    sorted_and_cut,
    histogram_and_split,
    capacity,
]


@pytest.mark.parametrize("combine", WRITTEN)
def test_experts_cost_what_they_do_with_so_many_tokens_each(combine):
    # how many tokens there are follows from the load: what is sorted and cut is as long as its parts
    def build(load: int = 4, d: int = 8, half: int = 2):
        return Experts(d, CHOSEN * half, combine), torch.randn(load * half, d)

    cost = derive_cost(build)
    assert cost.status == "exact"
    assert set(cost.base) == {"load", "d", "half"}
    assert cost.masks
    for load, d, half in ((4, 8, 2), (10, 3, 3), (1, 5, 1), (300, 16, 4)):
        model = Experts(d, CHOSEN * half, combine, evenly=True)
        with FlopCounterMode(display=False) as counter:
            model(torch.randn(load * half, d))
        assert cost.flops.forward(load=load, d=d, half=half) == counter.get_total_flops()


TRANSFORMERS = {
    "mixtral": {
        **{"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60},
        **{"num_hidden_layers": 2, "num_key_value_heads": 2, "experts_implementation": "eager"},
        **{"num_local_experts": 4, "num_experts_per_tok": 2},
    },
    "switch_transformers": {
        **{"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "vocab_size": 60},
        **{"num_layers": 1, "num_decoder_layers": 1, "num_experts": 4, "expert_capacity": 5000},
        **{"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 0},
    },
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_experts_of_transformers(name):
    build = assay.load(f"hf:{name}", arguments=TRANSFORMERS[name])
    cost = derive_cost(build.with_(sizes={"load": 4}))
    assert cost.status == "exact"
    for b, n in ((2, 8), (3, 16), (1, 36)):
        others = {"m": n} if "m" in build.sizes else {}  # then a decoder's experts take as many
        subject = build(b=b, n=n, **others)  # by chance, but how many go where adds up
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            subject.forward()
        chosen = build.arguments.get("num_experts_per_tok", 1)
        load = b * n * chosen // 4
        assert cost.flops.forward(b=b, n=n, load=load, **others) == counter.get_total_flops()


def test_what_load_does_not_tell_is_refused_with_operator_and_line():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            k = int(self.layer(x)[0, 0].item())
            return self.layer(x[: abs(k) + 1])

    def build(b: int = 4, load: int = 2):
        return Looks(), torch.randn(b, 4)

    with pytest.raises(
        CannotMeasure, match=r"_local_scalar_dense.*test_masks.py:\d+.*`load`"
    ) as raised:
        derive_cost(build)
    assert "Without a size named load" in str(raised.value)


def test_a_branch_on_how_many_tokens_an_expert_has_is_seen():
    class Batched(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.most = nn.Linear(4, 4), 700

        def forward(self, x):
            mask = x[:, 0] > 0
            if mask.sum() > self.most:
                return self.layer(self.layer(x[mask]))
            return self.layer(x[mask])

    def build(b: int = 4, load: int = 2):
        return Batched(), torch.randn(b, 4)

    cost = derive_cost(build)
    for load in (1, 5, 700, 701, 702, 5000):
        assert cost.flops.forward(b=9, load=load) == 32 * load * (1 + (load > 700))


def test_of_what_is_no_number_nothing_is_true():
    """`mask.any()` is, with a load; but numbers are finite all the same."""

    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            h = self.layer(x)
            if torch.isnan(h).any() or torch.isinf(h).any(-1).any():
                h = self.layer(h)
            return h[h[:, 0] > 0]

    def build(b: int = 4, load: int = 2):
        return Careful(), torch.randn(b, 4)

    assert str(derive_cost(build).flops.forward) == "32*b"


TOKENS, CLASSES, LOAD = 6, 3, 4  # and each token takes two


def one_hot(chosen):
    return F.one_hot(chosen, CLASSES)


def compared(chosen):
    return (chosen[:, :, None] == torch.arange(CLASSES)).int()


def scattered(chosen):
    return chosen.new_zeros(TOKENS, CLASSES).scatter_(1, chosen, 1)


def step(draw, dim, shape):
    """A function of a mask, as somebody might write it: it goes on with all entries, or loses some."""
    which = st.integers(0, dim - 1)
    one = draw(which)
    choices = [
        lambda m: m.unsqueeze(one),
        lambda m: m.squeeze(),
        lambda m: m * 1,
        lambda m: m.clone().long(),
        lambda m: m.sum(one),
        lambda m: m.sum(one, keepdim=True),
        lambda m: m[None].expand(2, *shape).flatten(0, 1),
        lambda m: m.select(one, shape[one] - 1),
        lambda m: m.narrow(one, 0, max(shape[one] - 1, 1)),
    ]
    order = draw(st.permutations(range(dim)))
    choices.append(lambda m: m.permute(order))
    if one + 1 < dim:
        choices += [
            lambda m: m.flatten(one, one + 1),
            lambda m: m.transpose(one, one + 1),
            lambda m: m.sum((one, one + 1)),
        ]
    return draw(st.sampled_from(choices))


@settings(max_examples=300)
@given(
    st.data(), st.sampled_from([one_hot, compared, scattered]), st.randoms(use_true_random=False)
)
def test_whatever_becomes_of_a_mask_its_sums_are_never_wrong(data, made, random):
    every = [i % CLASSES for i in range(TOKENS * 2)]
    chosen = torch.tensor(every).view(TOKENS, 2)  # no token twice to one expert
    chosen = chosen[random.sample(range(TOKENS), TOKENS)]
    true = made(chosen)
    with torch.device("meta"), followed(LOAD, {}, set()):
        mask = made(torch.empty(TOKENS, 2, dtype=torch.long))
        for _ in range(data.draw(st.integers(1, 6))):
            if not true.dim():
                break
            function = step(data.draw, true.dim(), true.shape)
            true, mask = function(true), function(mask)
            found = value_of(mask)
            if found is not None:
                assert found.tolist() == true.tolist()


def test_the_sums_of_each_class_are_known_however_it_was_written():
    ways = {
        one_hot: lambda m: m.permute(2, 1, 0).sum((-1, -2)),
        compared: lambda m: m.sum(0).sum(0),
        scattered: lambda m: m.sum(0),
    }
    with torch.device("meta"), followed(LOAD, {}, set()):
        for made, total in ways.items():
            each = total(made(torch.empty(TOKENS, 2, dtype=torch.long)))
            assert each.tolist() == [LOAD] * CLASSES
            assert (each > 0).nonzero().flatten().tolist() == [*range(CLASSES)]
            assert f"{each[0]}" == str(LOAD)
