"""What a GPU's allocator says beside the peak bytes of `--fused`.

For each model, at sizes that were not probed: the formula's peak over the most that torch's caching allocator
had given out at once, with the kernels that torch chooses; beside it the peak without `--fused`.

Run, on a machine with a GPU: python benchmarks/cost_memory.py [NAME …]
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from cost import hf, lstm, resnet18, zoo
from torch import nn
from zoo_images import resnet50

import assay
from assay.builder import Builder
from assay.errors import say


def mlp(b: int = 64, d: int = 1024) -> tuple[nn.Module, torch.Tensor]:
    """Two hidden layers."""
    layers = [nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 10)]
    return nn.Sequential(*layers), torch.randn(b, d)


def encoder(
    b: int = 2, n: int = 64, d: int = 256, depth: int = 4
) -> tuple[nn.Module, torch.Tensor]:
    """Layers of nn.TransformerEncoderLayer, with dropout."""
    layers = [nn.TransformerEncoderLayer(d, 8, 4 * d, batch_first=True) for _ in range(depth)]
    return nn.Sequential(*layers), torch.randn(b, n, d)


def encoder_bf16(b: int = 2, n: int = 64, d: int = 256, depth: int = 4) -> tuple[nn.Module, Any]:
    """The same in half the bytes."""
    model, x = encoder(b, n, d, depth)
    return model.bfloat16(), x.bfloat16()


_LLAMA: dict[str, Any] = {
    "hidden_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 5504,
}
MODELS: Mapping[str, tuple[Callable[[], Builder], dict[str, int]]] = {
    "perceptron": (lambda: Builder(mlp), {"b": 4096, "d": 4096}),
    "encoder": (lambda: Builder(encoder), {"b": 4, "n": 512, "d": 512, "depth": 6}),
    "encoder, long": (lambda: Builder(encoder), {"b": 2, "n": 8192, "d": 512, "depth": 6}),
    "encoder, bf16": (lambda: Builder(encoder_bf16), {"b": 4, "n": 2048, "d": 512, "depth": 6}),
    "ResNet-18": (lambda: Builder(resnet18), {"b": 32, "h": 224}),
    "ResNet-50": (lambda: zoo(resnet50, {"b": 2, "h": 224}, c=64), {"b": 32, "h": 224}),
    "nn.LSTM": (lambda: Builder(lstm), {"b": 64, "n": 256, "d": 512}),
    "GPT-2": (hf("gpt2"), {"b": 8, "n": 512}),
    "BERT": (hf("bert"), {"b": 16, "n": 256}),
    "T5-small": (hf("t5", m=64), {"b": 8, "n": 256, "m": 256}),
    "ViT": (hf("vit"), {"b": 32}),
    "Llama, 8 layers": (hf("llama", **_LLAMA), {"b": 2, "n": 1024}),
    "Llama, 8 layers, long": (hf("llama", **_LLAMA), {"b": 2, "n": 4096}),
}


def measured(build: Builder, at: Mapping[str, int]) -> int:
    """The most bytes that the allocator had given out."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    with torch.device("cuda"):
        subject = build(**at)
    torch.cuda.reset_peak_memory_stats()
    output = subject.forward()  # held until the end, as in a training loop
    subject.objective(output).backward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def main(names: list[str]) -> None:
    """Print a row for each model."""
    if not torch.cuda.is_available():
        sys.exit("cost_memory.py asks a GPU's allocator, and there is no GPU here.")
    warnings.simplefilter("ignore")
    small = torch.randn(8, 8, device="cuda", requires_grad=True)
    (small @ small).sum().backward()  # the libraries' workspaces are no part of a model
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    print("| model | sizes | allocator's peak | formula, --fused | formula |")
    print("|---|---|---|---|---|")
    for name in names or MODELS:
        make, at = MODELS[name]
        build = make()
        fused, plain = assay.derive_fused_cost(build), assay.derive_cost(build)
        at = {**fused.base, **at}
        peak = min(measured(build, at) for _ in range(2))  # the first run loads kernels
        cells = " | ".join(_ratio(cost, at, peak) for cost in (fused, plain))
        print(f"| {name} | {say(at)} | {peak:,} | {cells} |", flush=True)


def _ratio(cost: assay.Cost, at: Mapping[str, int], measured: int) -> str:
    formula = cost.peak_bytes
    return f"{formula(**at) / measured:.3f}" if formula.holds(**at) else "no formula there"


if __name__ == "__main__":
    main(sys.argv[1:])
