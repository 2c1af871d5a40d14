"""Grouped convolutions going back: what FlopCounterMode says, over what is computed.

The truth of a single convolution is FlopCounterMode's own count of one convolution for each group, which
computes the same. For whole networks it is `Cost.products` of assay, which a property test holds against
that.

Run: python benchmarks/cost_grouped.py   (about a minute; needs the extra `hf`)
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import assay
from assay.cost.cost import cost_of

NETWORKS = ("mobilenet_v2", "efficientnet", "convnext", "resnet")


def going_back(output: Tensor) -> int:
    """Flops of a backward pass."""
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    return int(counter.get_total_flops())


def main() -> None:
    """Both tables."""
    logging.disable(logging.WARNING)
    print("| convolution, 3 × 3, 64 channels | FlopCounterMode / truth |")
    print("|---|---|")
    for groups in (1, 4, 16, 64):
        x = torch.randn(2, 64, 14, 14, requires_grad=True)
        whole = nn.Conv2d(64, 64, 3, padding=1, groups=groups, bias=False)
        pieces = zip(x.chunk(groups, 1), whole.weight.chunk(groups, 0), strict=True)
        apart = torch.cat([nn.functional.conv2d(a, w, padding=1) for a, w in pieces], 1)
        said, true = going_back(whole(x)), going_back(apart)
        print(f"| {groups} group{'s' if groups > 1 else ''} | {said / true:.2f} |")
    print("\n| network of transformers | FlopCounterMode / truth |")
    print("|---|---|")
    for name in NETWORKS:
        cost = cost_of(assay.load(f"hf:{name}"))
        said, true = (phases.backward(**cost.base) for phases in (cost.flops, cost.products))
        print(f"| {name} | {said / true:.2f} |", flush=True)


if __name__ == "__main__":
    main()
