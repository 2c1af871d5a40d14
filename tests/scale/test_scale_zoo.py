"""Models as users bring them: fused kernels, packed weights, tied weights, transformers."""

import warnings

import pytest
import torch
from scale_models import ConvNet
from torch import nn

from assay import measure_scale
from assay.subject import Subject


def fed(scale):
    """Names of the weights that were seen."""
    return {row.parameters[0] for row in scale.rows if row.kind in ("product", "lookup")}


def clean(scale):
    return [f for f in scale.findings if f.fails] == []


def encoder(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, **options)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_encoder_fast_path_hides_nothing(norm_first, frozen):
    layer = encoder(norm_first=norm_first).eval().requires_grad_(not frozen)
    with torch.no_grad():  # where the fast path would be taken
        scale = measure_scale((layer, torch.randn(8, 10, 32)))
    assert fed(scale) == {
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    }
    assert {row.parameters[0] for row in scale.rows if row.kind == "norm"} == {
        "norm1.weight",
        "norm2.weight",
    }
    assert clean(scale)
    assert "evaluation mode" in str(scale)


def test_packed_and_separate_attention_projections():
    q, kv = torch.randn(3, 6, 16), torch.randn(3, 5, 12)
    attention = nn.MultiheadAttention(16, 2, kdim=12, vdim=12, batch_first=True)
    scale = measure_scale(Subject(attention, (q, kv, kv)))
    assert fed(scale) >= {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"}
    packed = nn.MultiheadAttention(16, 2, batch_first=True)
    scale = measure_scale(Subject(packed, (q, q, q)))
    assert fed(scale) == {"in_proj_weight", "out_proj.weight"}
    scale = measure_scale(Subject(packed, (q, torch.randn(3, 5, 16), torch.randn(3, 5, 16))))
    rows = [row for row in scale.rows if row.parameters == ("in_proj_weight", "in_proj_bias")]
    rows = rows or [row for row in scale.rows if row.parameters[0] == "in_proj_weight"]
    assert rows
    assert all(row.fan_in == 16 for row in rows)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_fused_recurrent_modules_are_opened(kind):
    model = kind(8, 8, num_layers=2, bidirectional=True)
    scale = measure_scale((model, torch.randn(9, 5, 8)))
    weights = {name for name, p in model.named_parameters() if p.dim() == 2}
    assert fed(scale) == weights
    steps = [row for row in scale.rows if row.parameters and "weight_hh" in row.parameters[0]]
    assert all(row.calls.count == 9 for row in steps)
    assert all(row.gradient is not None for row in scale.rows)


def test_a_healthy_convnet_is_clean_in_both_modes():
    for mode in (True, False):
        scale = measure_scale((ConvNet().train(mode), torch.randn(8, 1, 12, 12)))
        assert clean(scale)
        assert scale.training is mode
        assert fed(scale) == {"stem.weight", "conv.weight", "head.weight"}
        kind = "norm" if mode else "scale"  # with running statistics it multiplies by fixed numbers
        norm = next(row for row in scale.rows if row.kind == kind)
        assert norm.units == 8


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, letters):
        return self.head(self.embed(letters))


def test_tied_weights_are_seen_in_both_places():
    rows = measure_scale((Tied(), torch.randint(0, 30, (4, 9)))).rows
    assert [(row.parameters, row.operator) for row in rows] == [
        (("embed.weight",), "embedding"),
        (("embed.weight",), "mm"),
    ]


class Oddities(nn.Module):
    """Parameters that arrive as views, stacks, sums, factors; and booleans."""

    def __init__(self):
        super().__init__()
        self.experts = nn.Parameter(torch.randn(3, 8, 6) / 8**0.5)
        self.einsum = nn.Parameter(torch.randn(5, 6) / 6**0.5)
        self.scale = nn.Parameter(torch.ones(5))
        self.place = nn.Parameter(torch.zeros(1, 5))
        self.table = nn.Parameter(torch.randn(2, 5))
        self.prelu = nn.PReLU()
        self.normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))
        self.pick = nn.EmbeddingBag(4, 5, mode="mean")
        self.vector = nn.Parameter(torch.randn(7, 5))
        self.pad = nn.Parameter(torch.zeros(1, 5))

    def forward(self, x, flags):
        h = torch.bmm(x.expand(3, -1, -1), self.experts)
        h = torch.einsum("enk,ok->eno", h, self.einsum).sum(0)
        h = self.prelu(h * self.scale + self.place)
        h = h + self.table[flags.long()]
        h = torch.cat([self.normed(h), self.pad], 0)
        h = torch.maximum(h, self.place)
        bag = self.pick(flags.long()[None])
        return torch.mv(self.vector, (h + bag).mean(0)), torch.argmax(self.vector @ h.T)


def test_parameters_in_every_disguise():
    scale = measure_scale((Oddities(), (torch.randn(1, 20, 8), torch.rand(20) > 0.5)))
    kinds = {row.parameters[0]: row.kind for row in scale.rows if row.parameters}
    assert kinds["experts"] == kinds["einsum"] == kinds["vector"] == "product"
    assert kinds["scale"] == "scale"
    assert kinds["table"] == kinds["pick.weight"] == "lookup"
    assert kinds["prelu.weight"] == "activation"
    assert any("normed" in name and kind == "product" for name, kind in kinds.items())
    assert "maximum" in {row.operator for row in scale.rows if row.kind == "other"}
    experts = next(row for row in scale.rows if row.parameters == ("experts",))
    assert experts.units == 18
    assert experts.fan_in == 8


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_moments_are_taken_in_float64(dtype):
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).to(dtype)
    rows = measure_scale((model, torch.randn(128, 64, dtype=dtype))).rows
    exact = measure_scale((model.double(), torch.randn(128, 64).double())).rows
    for row, other in zip(rows, exact, strict=True):
        assert row.variance == pytest.approx(other.variance, rel=0.2)


def test_autocast_casts_are_seen_through():
    class Cast(nn.Linear):
        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(x)

    (row,) = measure_scale((Cast(8, 8), torch.randn(9, 8))).rows
    assert row.parameters == ("weight", "bias")
    assert row.gradient is not None


def test_dropout_does_not_hide_what_follows():
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 8))
    scale = measure_scale((model, torch.randn(30, 8)))
    assert scale.rows[0].activation == "ReLU"


def hugging_face(name):
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 60}
    if name == "gpt2":
        config = transformers.GPT2Config(
            n_layer=3, n_embd=48, n_head=4, n_positions=32, bos_token_id=0, eos_token_id=0, **small
        )
        return transformers.GPT2LMHeadModel(config)
    if name == "bert":
        config = transformers.BertConfig(
            num_hidden_layers=2,
            hidden_size=32,
            num_attention_heads=4,
            intermediate_size=64,
            **small,
        )
        return transformers.BertModel(config)
    config = transformers.LlamaConfig(
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        **small,
    )
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
@pytest.mark.filterwarnings("ignore")
def test_transformers_at_their_own_initialisation_are_clean(name):
    model = hugging_face(name)
    scale = measure_scale(Subject(model, {"input_ids": torch.randint(0, 60, (3, 16))}))
    assert clean(scale), [f.message for f in scale.findings]
    matrices = {n for n, p in model.named_parameters() if p.dim() == 2}
    assert fed(scale) == matrices
    # a GELU made of several operators is one activation, Conv1D is a product, the norm is a norm
    if name == "gpt2":
        row = next(
            r for r in scale.rows if r.parameters[:1] == ("transformer.h.0.mlp.c_fc.weight",)
        )
        assert row.activation == "NewGELUActivation"
        assert row.fan_in == 48
        assert row.gain.std == pytest.approx(1.7009, abs=1e-3)
    table = next(r for r in scale.rows if r.kind == "lookup")
    assert table.normalised or table.beside_larger
