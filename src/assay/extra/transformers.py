"""`hf:TYPE` and `hf:path/to/config.json`: transformers models from a configuration, without weights."""

from __future__ import annotations

import copy
import difflib
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from assay.builder import Builder
from assay.errors import UsageError, UserCodeError, verbatim
from assay.subject import Subject

# Heads in the order in which a model type is asked for one: the task it is trained on comes first.
_HEADS = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForImageClassification",
    "AutoModelForCTC",
    "AutoModel",
)
# types that have a class in several of these, of which the first is not what they are for
_DECODERS = ("AutoModelForCausalLM", "AutoModel")


def from_config(
    text: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Builder:
    """A builder for a transformers model type, or for a configuration file.

    Sizes are `b` (batch), `n` (input length; images and spectrograms take theirs from the
    configuration) and, for encoder–decoders, `m` (output length). Every value of the configuration can
    be given as an argument, and every integer one as a size.

    Args:
        text: A model type, as "gpt2", or a path to a `config.json` or to its folder.
        arguments: Configuration values that replace the defaults.
        sizes: Sizes that replace the defaults.

    Returns:
        The builder. Nothing is downloaded, and weights are random.

    Raises:
        UsageError: If transformers is not installed, or there is no such type, file or value.
    """
    base, written = _configuration(text)
    known = base.to_dict()
    for name in {**(arguments or {}), **(sizes or {})}:
        if name not in (*known, "b", "n", "m") and not hasattr(base, name):
            close = difflib.get_close_matches(name, [*known, "b", "n", "m"], n=1)
            raise UsageError(
                f"-a {name}",
                name,
                f"a value of {type(base).__name__}",
                f"Did you mean `{close[0]}`?" if close else "See the file's keys.",
            )

    def build_image(b: int = 2, **values: Any) -> Subject:
        return _subject(_with(base, written, values), b=b, n=0, m=0)

    def build_sequence(b: int = 2, n: int = 16, **values: Any) -> Subject:
        return _subject(_with(base, written, values), b=b, n=n, m=0)

    def build_sound(b: int = 2, n: int = 4000, **values: Any) -> Subject:
        return _subject(_with(base, written, values), b=b, n=n, m=0)

    def build_pair(b: int = 2, n: int = 16, m: int = 12, **values: Any) -> Subject:
        return _subject(_with(base, written, values), b=b, n=n, m=m)

    def build_from_spectrogram(b: int = 2, m: int = 12, **values: Any) -> Subject:
        return _subject(_with(base, written, values), b=b, n=0, m=m)

    build: Callable[..., Subject]
    main = _model_class(base).main_input_name
    if getattr(base, "is_encoder_decoder", False):
        build = build_from_spectrogram if main == "input_features" else build_pair
    else:
        build = {"pixel_values": build_image, "input_values": build_sound}.get(main, build_sequence)
    return Builder(build, name=f"hf:{text}", arguments=arguments, sizes=sizes)


def _configuration(text: str) -> tuple[Any, dict[str, Any]]:
    """Find a configuration, and the values that are written down for it.

    Returns:
        The configuration; and of its values those of a file, none where a type's own are taken.

    Raises:
        UsageError: If transformers is not installed, or knows no such type.
    """
    # a configuration never needs the network; without this a typo waits for a time-out
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            "target",
            f"hf:{text}",
            "the transformers package",
            "Install it: pip install 'assay[hf]'.",
        ) from error
    if text.endswith(".json") or "/" in text or Path(text).is_dir():
        return _from_file(Path(text), transformers)
    types = transformers.CONFIG_MAPPING
    if text not in types:
        close = difflib.get_close_matches(text, list(types.keys()), n=1)
        hint = f"Did you mean hf:{close[0]}?" if close else "Or give a path to a config.json."
        raise UsageError("target", f"hf:{text}", "a model type that transformers knows", hint)
    return types[text](), {}


def _from_file(path: Path, transformers: Any) -> tuple[Any, dict[str, Any]]:
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise UsageError("target", f"hf:{path}", "an existing config.json", "Check the path.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(
            "target", f"hf:{path}", f"a readable JSON file, but: {error}", "Mend the file."
        ) from error
    kind = values.pop("model_type", None) if isinstance(values, dict) else None
    if kind not in transformers.CONFIG_MAPPING:
        raise UsageError(
            "target",
            f"hf:{path}",
            f"a `model_type` that transformers knows, not {kind!r}",
            "Add it to the file, as in \"model_type\": \"gpt2\".",
        )  # fmt: skip
    try:
        return transformers.CONFIG_MAPPING[kind].from_dict(values), values
    except Exception as error:
        raise UserCodeError("config", str(path), error) from error


def _with(base: Any, written: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """The configuration with other values, made anew, so that what derives from them follows."""
    changed = {name: value for name, value in values.items() if name not in ("b", "n", "m")}
    if not changed:
        return copy.deepcopy(base)
    return type(base).from_dict({**_independent(base, written), **changed})


def _independent(base: Any, written: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values written in a file, those that do not follow from the others.

    A saved file also holds what was derived when it was saved: the names of a ResNet's stages, which are
    wrong as soon as there are other stages. Left out one after the other, what follows is the same without.

    Returns:
        The values that are left.
    """
    kept = dict(written)
    for name in written:
        less = {key: value for key, value in kept.items() if key != name}
        try:
            same = type(base).from_dict(copy.deepcopy(less)).to_dict() == base.to_dict()
        except Exception:  # it is needed
            continue
        kept = less if same else kept
    return copy.deepcopy(kept)


def _subject(config: Any, *, b: int, n: int, m: int) -> Subject:
    model = _model_class(config)(config)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if hasattr(text, "use_cache"):
        text.use_cache = False  # a cache is for generation; it would count as output
    main = getattr(model, "main_input_name", "input_ids")
    takes = inspect.signature(model.forward).parameters
    kwargs: dict[str, Any] = {}
    if main == "input_ids":
        kwargs["input_ids"] = _tokens(text, b, n)
    elif main == "pixel_values":
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", 224)
        height, width = (side, side) if isinstance(side, int) else tuple(side)
        kwargs["pixel_values"] = torch.randn(b, getattr(vision, "num_channels", 3), height, width)
    elif main == "input_features":
        frames = 2 * getattr(config, "max_source_positions", 8)  # whisper's stem halves them
        kwargs["input_features"] = torch.randn(b, getattr(config, "num_mel_bins", 80), frames)
    elif main == "input_values":
        kwargs["input_values"] = torch.randn(b, n)
    else:
        raise UsageError(
            "target",
            verbatim(f"hf:{config.model_type}"),
            f"text, images or sound as input, not {main!r}",
            "Write a builder of your own that returns (model, inputs).",
        )
    if "decoder_input_ids" in takes and getattr(config, "is_encoder_decoder", False):
        kwargs["decoder_input_ids"] = _tokens(text, b, m)
    if "pixel_values" in takes and "input_ids" in takes and main == "input_ids":
        vision = getattr(config, "vision_config", None)
        if vision is not None and config.model_type in ("clip", "siglip", "chinese_clip"):
            side = vision.image_size
            kwargs["pixel_values"] = torch.randn(b, vision.num_channels, side, side)
    return Subject(model, (), kwargs, loss=_next_token if _is_language(model, kwargs) else None)


def _model_class(config: Any) -> Any:
    """The class that the configuration names, else the one of the task the type is trained on."""
    import transformers

    for name in getattr(config, "architectures", None) or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    heads = _DECODERS if getattr(config, "is_decoder", False) else _HEADS
    for head in heads:
        mapping = getattr(transformers, head)._model_mapping
        if type(config) in mapping and _fits(config, head):
            found = mapping[type(config)]
            return found[0] if isinstance(found, tuple | list) else found
    raise UsageError(
        "target",
        verbatim(f"hf:{config.model_type}"),
        "a model type with a model of its own",
        "Write a builder that returns (model, inputs).",
    )


def _fits(config: Any, head: str) -> bool:
    """Whether the head is one for this configuration: no cross-attention without an encoder."""
    if "ImageClassification" in head:  # CLIP and its like have a text tower beside the image's
        return not hasattr(config, "text_config")
    return "Seq2Seq" not in head or bool(getattr(config, "is_encoder_decoder", False))


def _tokens(config: Any, b: int, n: int) -> torch.Tensor:
    """Random token ids `[b, n]`; ids from 3 on, as the first few are often padding and markers."""
    return torch.randint(min(3, config.vocab_size - 1), config.vocab_size, (b, n))


def _is_language(model: Any, kwargs: Mapping[str, Any]) -> bool:
    return "input_ids" in kwargs and hasattr(model, "get_output_embeddings") and bool(
        model.get_output_embeddings() is not None
    )  # fmt: skip


def _next_token(output: Any) -> torch.Tensor:
    """Cross entropy against uniformly drawn tokens: the loss at the start of training, `ln vocab`."""
    logits = output.logits
    labels = torch.arange(logits.shape[-2], device=logits.device) * 31 % logits.shape[-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.expand(logits.shape[:-1]).flatten()
    )
