"""Example inputs for a transformers model, by the names of its forward's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from assay.errors import UsageError, verbatim
from assay.extra.examples import images, series, sound, text
from assay.extra.examples.given import Given, Sizes, writes

_EXAMPLES: Mapping[str, Callable[[Given], Any]] = {
    "input_ids": text.text,
    "decoder_input_ids": text.decoded,
    "context_input_ids": text.documents,
    "context_attention_mask": text.documents_mask,
    "doc_scores": text.scores,
    "qformer_input_ids": text.text,
    "attention_mask": text.ones,
    "inputs_embeds": text.embedded,
    "query_embeds": text.queries,
    "bbox": text.boxes,
    "pixel_values": images.image,
    "pixel_values_videos": images.video,
    "image_grid_thw": images.grids,
    "grid_thw": images.grids,
    "hidden_states": images.states,
    "flattened_patches": images.flattened,
    "visual_feats": images.features,
    "visual_pos": images.places,
    "high_res_pixel_values": images.sharp,
    "prompt_pixel_values": images.image,
    "prompt_masks": images.image,
    "merge_sizes": images.merges,
    "image_merge_sizes": images.merges,
    "image_sizes": images.image_sizes,
    "spatial_shapes": images.shapes,
    "target_sizes": images.packed_sizes,
    "pixel_attention_mask": images.patch_mask,
    "aspect_ratio_ids": images.tile_kinds,
    "aspect_ratio_mask": images.tile_mask,
    "image_embeds_position_mask": images.image_places,
    "image_attention_mask": images.image_attention,
    "classes_input_ids": text.text,
    "classes_attention_mask": text.ones,
    "classes_structure": text.options,
    "tasks_input_ids": text.text,
    "tasks_attention_mask": text.ones,
    "input_values": sound.sound,
    "padding_mask": sound.samples_mask,
    "audio_input_ids": sound.letters,
    "spectrogram_labels": sound.spoken,
    "duration_labels": text.ones,
    "pitch_labels": sound.contour,
    "energy_labels": sound.contour,
    "input_features": sound.spectrogram,
    "input_features_mask": sound.frames_mask,
    "feature_attention_mask": sound.frames_mask,
    "audio_mel": sound.spectrogram,
    "audio_mel_mask": sound.frames_padding,
    "past_values": series.series,
    "past_values_padding": series.padding,
    "freq": series.rates,
    "past_observed_mask": series.observed,
    "past_time_features": series.past_features,
    "future_values": series.future,
    "future_time_features": series.future_features,
    "states": series.steps("state_dim"),
    "actions": series.steps("act_dim"),
    "rewards": series.steps(""),
    "returns_to_go": series.steps(""),
    "timesteps": series.times,
}
# optional parameters that belong to others
_WITH: Mapping[str, tuple[str, ...]] = {
    "pixel_values": (
        "high_res_pixel_values",
        "image_grid_thw",
        "image_merge_sizes",
        "image_sizes",
        "spatial_shapes",
        "target_sizes",
        "pixel_attention_mask",
        "aspect_ratio_ids",
        "aspect_ratio_mask",
        "image_embeds_position_mask",
        "image_attention_mask",
    ),
    "states": ("actions", "rewards", "returns_to_go", "timesteps"),
    "past_values": ("future_values", "future_time_features"),
    "input_ids": (
        "bbox",
        "visual_feats",
        "visual_pos",
        "flattened_patches",
        "context_input_ids",
        "context_attention_mask",
        "doc_scores",
        "spectrogram_labels",
        "duration_labels",
        "pitch_labels",
        "energy_labels",
    ),
    "input_features": ("input_features_mask", "feature_attention_mask", "padding_mask"),
    "input_values": ("padding_mask",),
}
# what stands among the tokens, who makes its features, and the token that marks their places: of each
# the first that the model has
_MARKED = (
    ("pixel_values", "get_image_features", ("image_token_id", "image_token_index")),
    ("pixel_values", "get_video_features", ("video_token_id", "video_token_index")),
    ("input_features", "get_audio_features", ("audio_token_id", "audio_token_index")),
    ("input_values", "get_audio_features", ("audio_token_id", "audio_token_index")),
)
_PARTS = ("vision_config", "image_config", "audio_config", "encoder_config", "speech_config")
_MANY = 10_000  # more marks than any sound or image needs


def example_inputs(model: Any, config: Any, at: Sizes) -> dict[str, Any]:
    """Inputs with which a model runs: what it needs, and what it is for.

    Args:
        model: A model of transformers.
        config: Its configuration.
        at: How large they are.

    Returns:
        Keyword arguments of its forward.

    Raises:
        UsageError: If it needs something that has no example here.
    """
    given = Given(model, config, at)
    if type(model).forward is torch.nn.Module.forward:
        raise UsageError(
            "target",
            verbatim(f"hf:{config.model_type}"),
            "a model with a forward pass, not one whose parts only generate one after the other",
            "Write a builder that returns one of its parts and inputs for it.",
        )
    takes = inspect.signature(model.forward).parameters
    needed = [name for name, p in takes.items() if p.default is p.empty and _named(p)]
    found: dict[str, Any] = {}
    for name in _wanted(given, takes, needed):
        value = _EXAMPLES[name](given) if name in _EXAMPLES else None
        if value is not None:
            found[name] = value
    missing = [name for name in needed if name not in found]
    if missing or not found:
        raise UsageError(
            "target",
            verbatim(f"hf:{config.model_type}"),
            f"text, images or sound as input, not {(missing or list(takes))[0]!r}",
            "Write a builder of your own that returns (model, inputs).",
        )
    if "input_ids" in found:
        found["input_ids"], kinds = _with_markers(given, found)
        if "mm_token_type_ids" in takes and "pixel_values" in found:
            found["mm_token_type_ids"] = torch.tensor([kinds]).repeat(at.b, 1)
    return found


def _named(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _wanted(given: Given, takes: Mapping[str, Any], needed: list[str]) -> list[str]:
    """The parameters to give: those needed, the main one, and those that are what the model is for."""
    main = given.model.main_input_name
    mains = [main] if isinstance(main, str) else list(main)
    wanted = needed or [name for name in mains if name in takes and name in _EXAMPLES]
    if not wanted:
        others = ("input_ids", "pixel_values", "input_values", "flattened_patches")
        wanted = [name for name in others if name in takes]
    if writes(given.config, type(given.model)):
        wanted = [*wanted, "decoder_input_ids"]
    if "input_ids" in takes and given.reads:
        seen = [n for n in ("pixel_values", "input_features", "input_values") if n in takes]
        wanted = [*wanted, "input_ids", *(seen[:1] if _perceives(given.config) else [])]
    more = [other for name in wanted for other in _WITH.get(name, ()) if other in takes]
    return list(dict.fromkeys([*wanted, *more]))


def _perceives(config: Any) -> bool:
    """Whether a model of text also reads images or sound."""
    inside = any(getattr(config, part, None) is not None for part in _PARTS)
    return inside or hasattr(config, "image_size") or hasattr(config, "max_img_size")


def _with_markers(given: Given, found: Mapping[str, Any]) -> tuple[Tensor, list[int]]:
    """Tokens, with a marker for everything that comes from an image or a sound.

    Returns:
        The tokens, and of a row 1 where one marks a part of an image: spelled out, since models ask for
        them as a list, also where tensors have no data.
    """
    ids: Tensor = found["input_ids"]
    kinds = [0] * ids.shape[1]
    askable = [(source, ask, given.of(names, None)) for source, ask, names in _MARKED
               if source in found and hasattr(_maker(given, ask), ask)]  # fmt: skip
    markers = {
        source: (ask, marker) for source, ask, marker in reversed(askable) if marker is not None
    }
    for ask, marker in markers.values():
        count = _features(given, ask, found, int(marker))
        marks = torch.full((given.at.b, count), int(marker), dtype=ids.dtype)
        ids = torch.cat([ids[:, :1], marks, ids[:, 1:]], 1)
        kinds[1:1] = [int(ask == "get_image_features")] * count
    if "image_embeds_position_mask" in found:
        length = found["image_embeds_position_mask"].shape[1]
        ids = text.tokens(given.text, given.at.b, length)
    return ids, kinds


def _maker(given: Given, ask: str) -> Any:
    """Who makes the features: the model inside where it can, whose signature says what it takes."""
    inner = getattr(given.model, "model", given.model)
    return inner if hasattr(inner, ask) else given.model


def _features(given: Given, ask: str, found: Mapping[str, Any], marker: int) -> int:
    """How many tokens a row's image or sound stands for: what the model's own encoder gives."""
    method = getattr(_maker(given, ask), ask)
    values = {}
    for name, p in inspect.signature(method).parameters.items():
        if name in found and name not in ("input_ids", "attention_mask"):
            values[name] = found[name]
        elif p.default is p.empty and name == "input_ids":  # it looks for the marks in them
            values[name] = torch.full((given.at.b, _MANY), marker)
        elif p.default is p.empty and name in _EXAMPLES:
            values[name] = _EXAMPLES[name](given)
    with torch.no_grad():
        made = method(**values)
    if hasattr(made, "last_hidden_state"):
        made = made.last_hidden_state if made.pooler_output is None else made.pooler_output
    parts = list(made) if isinstance(made, tuple | list) else [made]
    tensors = [p for p in parts if isinstance(p, Tensor)]
    return sum(int(t.shape[:-1].numel()) for t in tensors) // given.at.b
