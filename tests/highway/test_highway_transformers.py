"""Transformers of other people: where their norms stand, and what their recurrences carry."""

import pytest
import torch
from roads import shapes

import assay

pytest.importorskip("transformers")

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
TEXT = {**SMALL, "intermediate_size": 32}
BART = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 50}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
T5 = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 32, "d_kv": 8, "vocab_size": 50}
SSM = {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 50}
RWKV = {"hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "vocab_size": 50}


def identity(length):
    return length, False, None, False


def post_norm(length):
    return length, False, None, True


def scan(length):
    return length, True, "data", False


TYPES = {
    "gpt2": ({"n_embd": 16, "n_layer": 3, "n_head": 2, "vocab_size": 50}, [identity(6)]),
    "bert": (TEXT, [post_norm(4)]),
    "llama": ({**TEXT, "num_key_value_heads": 1}, [identity(4)]),
    "t5": ({**T5, "num_decoder_layers": 2}, [identity(6), identity(4)]),
    "bart": ({**BART, **HEADS}, [post_norm(6), post_norm(4)]),
    "gptj": (
        {"n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4, "vocab_size": 50},
        [identity(2)],
    ),
    "albert": ({**TEXT, "embedding_size": 8}, [(4, True, None, True)]),
    "vit": ({k: TEXT[k] for k in TEXT if k != "vocab_size"} | {"image_size": 32}, [identity(4)]),
    # two scans over 16 letters, the residual stream, and D·x beside each scan
    "mamba": (SSM, [scan(16), scan(16), identity(2), *[(1, False, "constant", False)] * 2]),
    # numerator and denominator of each block; the last step's are read, not carried on
    "rwkv": (RWKV, [*[scan(15)] * 4, identity(4)]),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.filterwarnings("ignore")
def test_skip_paths_of_transformers(kind):
    values, expected = TYPES[kind]
    highways = assay.find_highways(assay.load(f"hf:{kind}", arguments=values)())
    assert shapes(highways) == expected
    assert highways.opaque == ()
    drawn = (
        "highway.short-memory" if kind == "rwkv" else ""
    )  # how fast it forgets is drawn at random
    assert [f for f in highways.findings if f.fails and f.rule != drawn] == []
    assert "norm_first=True" in str(highways) or not any(p.norm_on_skip for p in highways.paths)


@pytest.mark.filterwarnings("ignore")
def test_a_deep_post_norm_model_is_told_by_its_retention():
    values = {**TEXT, "num_hidden_layers": 6, "initializer_range": 1.0}
    highways = assay.find_highways(assay.load("hf:bert", arguments=values)())
    (finding,) = [f for f in highways.findings if f.rule == "highway.norm-on-skip"]
    assert highways.longest.length == 12
    assert finding.fails is not (1 / 16 <= highways.longest.retention <= 16)


@pytest.mark.filterwarnings("ignore")
def test_retention_of_gpt2_is_the_ratio_of_gradients_at_its_blocks():
    values, _ = TYPES["gpt2"]
    subject = assay.load("hf:gpt2", arguments={**values, "resid_pdrop": 0, "embd_pdrop": 0,
                                               "attn_pdrop": 0})()  # fmt: skip
    model, streams = subject.model, []
    handles = [
        block.register_forward_pre_hook(lambda m, args: streams.append(args[0]))
        for block in model.transformer.h
    ]
    handles.append(model.transformer.ln_f.register_forward_pre_hook(
        lambda m, args: streams.append(args[0])
    ))  # fmt: skip
    loss = subject.objective(subject.forward())
    for handle in handles:
        handle.remove()
    # every way from the loss to a stream leads through the later ones
    norms = [float(g.norm()) for g in torch.autograd.grad(loss, streams)]
    (path,) = assay.find_highways(subject).paths
    assert path.gradient[::2] == pytest.approx([n / norms[-1] for n in norms[::-1]], rel=1e-4)
