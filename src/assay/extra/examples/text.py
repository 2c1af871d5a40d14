"""Tokens, and what goes with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from assay.extra.examples.given import Given

_CODEBOOKS = ("musicgen_decoder", "musicgen_melody_decoder")  # a row of tokens for each
_CHANNELS = ("dia_decoder", "kyutai_speech_to_text")  # several tokens at each place
_LETTERS = 256  # of models without a vocabulary, which read characters


def tokens(config: Any, b: int, n: int) -> Tensor:
    """Random token ids `[b, n]`; ids from 3 on, as the first few are often padding and markers.

    Codebooks have a row each `[b * codebooks, n]`, channels a column each `[b, n, channels]`.

    Args:
        config: The configuration of what reads them.
        b: Rows.
        n: Tokens in each.

    Returns:
        The ids.
    """
    kind, count = config.model_type, getattr(config, "vocab_size", _LETTERS)
    shape = [b * config.num_codebooks if kind in _CODEBOOKS else b, n]
    if kind in _CHANNELS:  # or the text's and those of its sound
        shape.append(getattr(config, "num_channels", 0) or 1 + config.num_codebooks)
    return torch.randint(min(3, count - 1), count, shape)


def text(given: Given) -> Tensor:
    """Tokens, none of which stands for something else.

    Returns:
        Ids `[b, n]`.
    """
    ids = tokens(given.source, given.at.b, given.at.n)
    for name, value in vars(given.config).items():
        if name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
            ids = torch.where(ids == value, torch.full_like(ids, 3), ids)
    return ids


def decoded(given: Given) -> Tensor:
    """The tokens that come out `[b, m]`."""
    return tokens(given.text, given.at.b, given.at.m)


def documents(given: Given) -> Tensor:
    """What was found for each row `[b * documents, n]`."""
    return tokens(given.text, given.at.b * given.config.n_docs, given.at.n)


def documents_mask(given: Given) -> Tensor:
    """A mask that leaves nothing of them out."""
    return torch.ones_like(documents(given))


def scores(given: Given) -> Tensor:
    """How well each document fits `[b, documents]`."""
    return torch.randn(given.at.b, given.config.n_docs)


def options(given: Given) -> Tensor:
    """How many classes each row is to choose from: one `[b]`."""
    return torch.ones(given.at.b, dtype=torch.long)


def embedded(given: Given) -> Tensor:
    """Tokens that were looked up already `[b, n, width]`."""
    return torch.randn(given.at.b, given.at.n, given.text.hidden_size)


def queries(given: Given) -> Tensor:
    """The learned queries of a Q-Former."""
    count = given.of(("num_query_tokens",), given.at.n)
    return torch.randn(given.at.b, count, given.config.hidden_size)


def boxes(given: Given) -> Tensor:
    """Where each token stands on its page."""
    corners = 8 if given.kind == "bros" else 4
    kind = torch.float if given.kind in ("bros", "udop") else torch.long
    return torch.zeros(given.at.b, given.at.n, corners, dtype=kind)


def ones(given: Given) -> Tensor:
    """A mask that leaves nothing out `[b, n]`."""
    return torch.ones(given.at.b, given.at.n, dtype=torch.long)
