"""Whether a model's weights fit into this machine, asked before they are allocated."""

from __future__ import annotations

import warnings

import torch
from torch.nn.parameter import is_lazy

from assay.builder import Builder
from assay.errors import RAISED, CannotMeasure, verbatim
from assay.memory import available_memory
from assay.state import preserved_random_state

COPIES = 4  # weights, gradients, an optimizer's two states: what the step section holds at once


def require_memory(build: Builder) -> None:
    """Refuse a model whose weights would not fit, by building it on the meta device first.

    A builder that cannot run there is let through: building it for real will tell.

    Args:
        build: The builder.

    Raises:
        CannotMeasure: If four times the weights are more than the available memory.
    """
    available = available_memory()
    if available is None or build.shared_model:  # a model that is there already fits
        return
    try:
        with torch.device("meta"), preserved_random_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = build().model
    except RAISED:
        return
    weights = [p for p in model.parameters() if p.is_meta and not is_lazy(p)]  # lazy: no size yet
    needed = COPIES * sum(p.numel() * p.element_size() for p in weights)
    if needed > available:
        raise CannotMeasure(
            "model",
            verbatim(f"{needed / COPIES / 1e9:.3g} GB of weights, {needed / 1e9:.3g} GB in use"),
            f"at most {available / 1e9:.3g} GB, which this machine has available",
            "Give smaller sizes (--size width=…, -a layers=…); the cost section needs no weights.",
        )
