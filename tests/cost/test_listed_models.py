"""The architectures that everybody knows: to the integer, where the formula was not fitted.

Each is held against torch's own counter, forward and backward, at five sizes or more: one of them a hundred
times the base along its length, others at the steps of its strides and windows and beside them. What autograd
keeps, and the peak, are held against runs at two sizes, where there is a formula of the peak.
"""

import sys
from pathlib import Path

import pytest
import torch
from cost_twins import alive, flops, kept

import assay
from assay.builder import Builder
from assay.cost.cost import cost_of
from assay.state import unfused

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))  # the zoo's architectures

from zoo_handwritten import HANDWRITTEN

_LENGTHS = [(3, 7, 4), (1, 33, 2), (5, 600, 3), (2, 64, 65), (4, 129, 100)]
TRANSLATORS = [{"b": b, "n": n, "m": m} for b, n, m in _LENGTHS]
LONG = [{"b": b, "n": n} for b, n in ((3, 7), (1, 33), (5, 800), (2, 64), (4, 129))]
IMAGES = [{"b": b, "h": h} for b, h in ((3, 32), (2, 33), (5, 225), (2, 6400), (4, 95))]

BY_HAND = {
    "GRU loop": TRANSLATORS[:4],
    "GRU loop, attention": TRANSLATORS[:3],
    "nn.GRU seq2seq": TRANSLATORS,
    "nn.GRU seq2seq, attention": TRANSLATORS,
    "nn.LSTM, 2 × bidirectional": [
        {"b": b, "n": n} for b, n in ((1, 9), (5, 33), (2, 64), (4, 130))
    ],
    "checkpointed encoder": LONG,
    "tied layers and embedding": LONG,
    "ResNet-18": IMAGES,
}

_SMALL = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60}
_LLAMA = {**_SMALL, "num_hidden_layers": 2, "num_key_value_heads": 2}
TRANSFORMERS = {
    "gpt2": (
        {"n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": 60, "n_positions": 4096},
        LONG,
    ),
    "bert": ({**_SMALL, "num_hidden_layers": 2, "max_position_embeddings": 4096}, LONG),
    "llama": (_LLAMA, LONG),
    "mixtral": (
        {**_LLAMA, "num_local_experts": 4, "experts_implementation": "batched_mm"},
        LONG,
    ),
    "t5": (
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_layers": 2, "vocab_size": 60},
        TRANSLATORS,
    ),
    "mamba": ({"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 60}, [{"b": 3, "n": 160}]),
}


def hold(build, grid):
    cost = cost_of(build)
    fixed = {k: v for k, v in build.sizes.items() if k not in grid[0]}
    new = [at for at in grid if {**fixed, **at} not in [dict(c) for c in cost.checked]]
    assert new
    for at in new:
        sizes = {**fixed, **at}
        claimed = (cost.flops.forward(**sizes), cost.flops.backward(**sizes))
        assert claimed == flops(build, **sizes), sizes
    assert not cost.uncounted
    answered = [at for at in (grid[0], grid[-1]) if cost.peak_bytes.holds(**{**fixed, **at})]
    assert answered
    for at in answered:
        sizes = {**fixed, **at}
        with torch.device("meta"), unfused():
            assert cost.saved_bytes(**sizes) == kept(build, **sizes)
            assert cost.peak_bytes(**sizes) == pytest.approx(alive(build, **sizes), rel=0.01)


@pytest.mark.parametrize(("name", "grid"), BY_HAND.items(), ids=BY_HAND)
def test_an_architecture_written_by_hand(name, grid):
    hold(Builder(HANDWRITTEN[name], name=name), grid)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_an_architecture_of_transformers(name, monkeypatch):
    arguments, grid = TRANSFORMERS[name]
    if name != "mamba":  # traced, it scans in a tree, whose depth is a logarithm
        # told that it is being traced, a model does not look into masks that have no data
        monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    hold(assay.load(f"hf:{name}").with_(arguments=arguments), grid)


def test_a_translator_of_torch_itself():
    def transformer(b: int = 2, n: int = 6, m: int = 5):
        model = torch.nn.Transformer(16, 4, 1, 2, 24, batch_first=True)
        return model, (torch.randn(b, n, 16), torch.randn(b, m, 16))

    hold(Builder(transformer), TRANSLATORS)
