"""How long a formula takes beside one pass of torch's FlopCounterMode, and whether the two agree.

For each model: seconds of computing to derive the whole formula, seconds of one FlopCounterMode pass
(forward and backward, without data) at the base sizes, their ratio, and the largest relative difference at
sizes that were not probed. Both run in this process; the smaller of two times of the pass is taken.

Run: python benchmarks/cost.py [NAME …]
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from zoo_images import resnet50
from zoo_sequences import gru_seq2seq, gru_seq2seq_attention

import assay
from assay.builder import Builder
from assay.state import unfused


def resnet18(b: int = 2, h: int = 224) -> tuple[nn.Module, torch.Tensor]:
    """ResNet-18 at any image size."""

    def conv(i: int, o: int, stride: int, k: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o))

    class Block(nn.Module):
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            self.one, self.two = conv(i, o, stride, 3), conv(o, o, 1, 3)
            self.skip = conv(i, o, stride, 1) if i != o else nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.relu(self.two(F.relu(self.one(x))) + self.skip(x))

    widths, layers = [64, 64, 128, 256, 512], [conv(3, 64, 2, 7), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for i, o in pairwise(widths):
        layers += [Block(i, o, 1 if i == o else 2), Block(o, o, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*layers, *head), torch.randn(b, 3, h, h)


def lstm(b: int = 8, n: int = 64, d: int = 32) -> tuple[nn.Module, torch.Tensor]:
    """Two bidirectional layers of nn.LSTM."""
    return nn.LSTM(d, d, 2, bidirectional=True, batch_first=True), torch.randn(b, n, d)


def transformer(b: int = 4, n: int = 64, m: int = 48) -> tuple[nn.Module, Any]:
    """nn.Transformer, encoder and decoder, as large as torch makes it by default."""
    model = nn.Transformer(batch_first=True)
    return model, (torch.randn(b, n, 512), torch.randn(b, m, 512))


def hf(name: str, m: int | None = None, **arguments: Any) -> Callable[[], Builder]:
    """A transformers model from its default configuration, at 128 tokens."""
    sizes = {"n": 128} | ({} if m is None else {"m": m})
    return lambda: assay.load(f"hf:{name}").with_(sizes=sizes, arguments=arguments)


def zoo(build: Callable[..., Any], sizes: Mapping[str, int], **arguments: Any) -> Builder:
    """A model of the zoo at sizes that somebody would use."""
    return Builder(build, sizes=sizes, arguments=arguments)


_LLAMA_70B: dict[str, Any] = {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
}
_TRANSLATION = {"b": 8, "n": 64, "m": 64, "d": 64}
_MIXTRAL_SMALL: dict[str, Any] = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1792,
    # FlopCounterMode knows no grouped_mm and counts 0 for it; this way experts are batched products
    "experts_implementation": "batched_mm",
}
MODELS: Mapping[str, Callable[[], Builder]] = {
    "g2p plain": lambda: assay.load("examples/g2p.py:plain"),
    "g2p attention": lambda: assay.load("examples/g2p.py:attention"),
    "GRU seq2seq": lambda: zoo(gru_seq2seq, _TRANSLATION),
    "GRU attention": lambda: zoo(gru_seq2seq_attention, _TRANSLATION),
    "nn.LSTM": lambda: Builder(lstm),
    "nn.Transformer": lambda: Builder(transformer),
    "ResNet-18": lambda: Builder(resnet18),
    "ResNet-50": lambda: zoo(resnet50, {"b": 2, "h": 224}, c=64),
    "BERT": hf("bert"),
    "GPT-2": hf("gpt2"),
    "T5-small": hf("t5", m=64),
    "Mixtral, small": hf("mixtral", **_MIXTRAL_SMALL),
    "Llama-7B": hf("llama"),
    "Llama-70B": hf("llama", **_LLAMA_70B),
}


def counted(build: Builder, sizes: Mapping[str, int]) -> tuple[int, int, float]:
    """Flops of forward and backward by FlopCounterMode on fake tensors, and seconds."""
    start = time.process_time()
    with unfused(), FakeTensorMode(allow_non_fake_inputs=True):
        subject = build(**sizes)
        with FlopCounterMode(display=False) as forward:
            objective = subject.objective(subject.forward())
        with FlopCounterMode(display=False) as backward:
            objective.backward()
    seconds = time.process_time() - start
    return forward.get_total_flops(), backward.get_total_flops(), seconds


def main(names: list[str]) -> None:
    """Print one line for each model."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    assay.derive_cost(lambda b=2: (nn.Linear(2, 2), torch.randn(b, 2)))  # imports are not timed
    print(f"{'model':<16}{'formula':>9}{'one count':>11}{'ratio':>7}  {'differs':>8}  order")
    for name in names or MODELS:
        build = MODELS[name]()
        counted(build, build.sizes)
        single = min(counted(build, build.sizes)[2] for _ in range(2))
        start = time.process_time()
        cost = assay.derive_cost(build)
        seconds = time.process_time() - start
        worst = 0.0
        for factor in (1, 3, 5):
            sizes = {k: v * factor + (factor > 1 and k in "nh") for k, v in build.sizes.items()}
            if not cost.flops.forward.holds(**sizes):
                continue
            forward, backward, _ = counted(build, sizes)
            for formula, true in ((cost.flops.forward, forward), (cost.flops.backward, backward)):
                worst = max(worst, abs(formula(**sizes) / true - 1))
        print(
            f"{name:<16}{seconds:>8.1f}s{single:>10.2f}s{seconds / single:>7.1f}  {worst:>8.0e}  "
            f"{cost.flops.total.order} {cost.status}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
