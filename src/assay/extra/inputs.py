"""Example inputs for a transformers model, by the names of its forward's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.errors import UsageError, verbatim

# optional parameters without which there is nothing to run, beside `main_input_name`
_COMPANIONS = {
    "pixel_values": (
        "prompt_pixel_values",
        "image_grid_thw",
        "image_sizes",
        "spatial_shapes",
        "pixel_attention_mask",
        "aspect_ratio_ids",
        "aspect_ratio_mask",
        "pixel_position_ids",
        "image_position_ids",
        "qformer_input_ids",
        "image_embeds_position_mask",
        "image_attention_mask",
    ),
    "states": ("actions", "rewards", "returns_to_go", "timesteps"),
    "past_values": ("future_values", "future_time_features"),
    "input_ids": ("bbox",),
    "input_features": ("input_features_mask", "feature_attention_mask"),
}
# image sizes that a model needs as numbers, from the configuration and what is in it
_PARTS = ("vision_config", "backbone_config", "encoder", "image_config", "vit_config")
_LISTENING = ("audio_config", "encoder_config", "encoder", "speech_config", "audio_encoder_config")
_MELS = (
    "num_mel_bins",
    "feature_size",
    "n_mels",
    "num_mels",
    "input_feat_size",
    "mel_bins",
    "feature_projection_input_dim",
    "model_in_dim",
    "num_mel_channels",
    "input_dim",
    "mel_channels",
)
# spectrograms `[b, bins, frames]`; those of all others are `[b, frames, bins]`
_BINS_FIRST = {"whisper", "qwen2_audio", "voxtral", "voxtral_realtime", "audioflamingo3", "glmasr",
               "musicflamingo", "moss_transcribe_diarize", "qwen3_asr", "vibevoice_asr", "clvp"}  # fmt: skip
# sound `[b, 1, samples]`; that of all others is `[b, samples]`
_ONE_CHANNEL = ("encodec", "dac", "mimi", "xcodec", "xcodec2", "vibevoice", "pocket_tts", "neucodec", "pe_audio",
                "higgs_audio", "vibevoice_acoustic_tokenizer", "pe_audio_encoder")  # fmt: skip


_FRAMES = 128  # of a spectrogram, where no size says so


@dataclass(frozen=True)
class Sizes:
    """How large the inputs are: `b` rows of `n` tokens, samples or frames, `m` tokens out, images of side `h`."""

    b: int
    n: int
    m: int
    h: int


@dataclass(frozen=True)
class _Given:
    model: Any
    config: Any
    at: Sizes

    @property
    def text(self) -> Any:
        """The configuration of what reads tokens."""
        for name in ("text_config", "decoder", "decoder_config"):
            inner = getattr(self.config, name, None)
            if hasattr(inner, "vocab_size"):
                return inner
        config = self.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    def of(self, names: tuple[str, ...], default: Any, parts: tuple[str, ...] = ()) -> Any:
        """The first of some values that the configuration has, or a configuration in it."""
        places = [self.config, *(getattr(self.config, part, None) for part in parts)]
        for place in reversed([p for p in places if p is not None]):
            for name in names:
                value = getattr(place, name, None)
                if value is not None:
                    return value
        return default


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
    takes = inspect.signature(model.forward).parameters
    given = _Given(model, config, at)
    main = getattr(model, "main_input_name", "input_ids")
    mains = [main] if isinstance(main, str) else list(main)
    needed = [name for name, p in takes.items() if p.default is p.empty and _named(p)]
    wanted = [name for name in mains if name in takes] if not needed else []
    wanted = list(dict.fromkeys([*needed, *wanted, *_beside(given, takes)]))
    for name in tuple(wanted):
        wanted += [c for c in _COMPANIONS.get(name, ()) if c in takes and c not in wanted]
    if not wanted:
        wanted = [name for name in ("input_ids", "pixel_values", "input_values") if name in takes]
    found: dict[str, Any] = {}
    for name in wanted:
        if name not in _EXAMPLES:
            if name in needed:
                raise _unknown(config, name)
            continue
        value = _EXAMPLES[name](given)
        if value is not None:
            found[name] = value
    if not found:
        raise _unknown(config, str(main))
    if "input_ids" in found:
        found["input_ids"] = _with_images(given, found)
    return found


def main_input(config: Any, model_class: Any) -> str:
    """What tells how long the input is: the tokens where there are any, else images or sound.

    Args:
        config: A configuration.
        model_class: The class of its model.

    Returns:
        The name of a parameter of the model's forward.
    """
    main = model_class.main_input_name
    main = main if isinstance(main, str) else main[0]
    takes = inspect.signature(model_class.forward).parameters
    if "input_ids" in takes and main == "pixel_values" and _reads(config):
        return "input_ids"
    seen = ("pixel_values", "pixel_values_videos", "grid_thw")
    if main not in takes or main == "pixel_values_videos":
        return "pixel_values" if any(name in takes for name in seen) else "input_ids"
    return main


def _reads(config: Any) -> bool:
    return hasattr(_Given(None, config, Sizes(1, 1, 1, 0)).text, "vocab_size")


def of_side(config: Any, values: Mapping[str, Any], h: int) -> dict[str, Any]:
    """Values of a configuration, changed for images of side `h` wherever it tells an image's size.

    Args:
        config: The configuration.
        values: Other values that change.
        h: The side; 0 leaves everything as it is.

    Returns:
        The values, with those that follow from the side.
    """
    changed = dict(values)
    for name in ("image_size", "img_size") if h else ():
        if hasattr(config, name) and name not in values:
            changed[name] = h if isinstance(getattr(config, name), int) else [h, h]
    for part in _PARTS if h else ():
        inner, given = getattr(config, part, None), changed.get(part) or {}
        if inner is not None and hasattr(inner, "to_dict") and isinstance(given, Mapping):
            more = of_side(inner, given, h)
            if more != dict(given):
                kind = {"model_type": inner.model_type} if inner.model_type else {}
                changed[part] = {**kind, **more}
    return changed


def _named(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _unknown(config: Any, name: str) -> UsageError:
    return UsageError(
        "target",
        verbatim(f"hf:{config.model_type}"),
        f"text, images or sound as input, not {name!r}",
        "Write a builder of your own that returns (model, inputs).",
    )


def _beside(given: _Given, takes: Mapping[str, Any]) -> list[str]:
    """Inputs that are optional for the library, but not for what the model is for."""
    found: list[str] = []
    if "decoder_input_ids" in takes and getattr(given.config, "is_encoder_decoder", False):
        found.append("decoder_input_ids")
    if "input_ids" in takes and _reads(given.config):
        found.append("input_ids")
        seen = [n for n in ("pixel_values", "input_features", "input_values") if n in takes]
        found += seen[:1] if _looks(given) else []
    return found


def _looks(given: _Given) -> bool:
    """Whether a model of text also reads images or sound."""
    parts = ("vision_config", "image_config", "audio_config", "encoder_config")
    return any(getattr(given.config, part, None) is not None for part in parts) or hasattr(
        given.config, "image_size"
    )


# Text -------------------------------------------------------------------------------------------------


def tokens(config: Any, b: int, n: int) -> Tensor:
    """Random token ids `[b, n]`; ids from 3 on, as the first few are often padding and markers.

    Returns:
        The ids; none of them is a marker of the configuration's.
    """
    return torch.randint(min(3, config.vocab_size - 1), config.vocab_size, (b, n))


def _text(given: _Given) -> Tensor:
    ids = tokens(given.text, given.at.b, given.at.n)
    for special in _markers(given.config):
        ids = torch.where(ids == special, torch.full_like(ids, 3), ids)
    return ids


def _markers(config: Any) -> list[int]:
    named = {k: v for k, v in vars(config).items() if k.endswith(("_token_id", "_token_index"))}
    return sorted({v for v in named.values() if isinstance(v, int)})


def _decoded(given: _Given) -> Tensor:
    return tokens(given.text, given.at.b, given.at.m)


def _embedded(given: _Given) -> Tensor:
    return torch.randn(given.at.b, given.at.n, given.text.hidden_size)


def _queries(given: _Given) -> Tensor:
    count = given.of(("num_query_tokens",), given.at.n)
    return torch.randn(given.at.b, count, given.config.hidden_size)


def _boxes(given: _Given) -> Tensor:
    corners = 8 if given.config.model_type == "bros" else 4
    return torch.zeros(given.at.b, given.at.n, corners, dtype=_box_type(given))


def _box_type(given: _Given) -> torch.dtype:
    return torch.float if given.config.model_type in ("bros", "udop") else torch.long


# Images -----------------------------------------------------------------------------------------------


def _side(given: _Given) -> tuple[int, int]:
    if given.at.h:
        return given.at.h, given.at.h
    side = given.of(("image_size", "img_size", "input_size"), 224, _PARTS)
    if isinstance(side, dict):
        side = (side["height"], side["width"])
    return (side, side) if isinstance(side, int) else (side[-2], side[-1])


def _channels(given: _Given) -> int:
    return int(given.of(("num_channels", "in_channels", "in_chans"), 3, _PARTS))


def _grid(given: _Given) -> tuple[int, int, int]:
    """Rows and columns of patches that can be merged, and a patch's side."""
    patch = given.of(("patch_size", "spatial_patch_size"), 14, _PARTS)
    merge = given.of(("spatial_merge_size", "merge_size"), 2, _PARTS)
    merge = merge if isinstance(merge, int) else merge[0]
    height, width = (given.at.h, given.at.h) if given.at.h else (8 * patch, 8 * patch)
    rows, columns = (max(1, s // (patch * merge)) * merge for s in (height, width))
    return rows, columns, patch


def _in_patches(given: _Given) -> bool:
    takes = inspect.signature(given.model.forward).parameters
    return any(name in takes for name in ("image_grid_thw", "grid_thw"))


def _image(given: _Given) -> Tensor:
    b, kind = given.at.b, given.config.model_type
    if _in_patches(given):
        rows, columns, patch = _grid(given)
        frames = given.of(("temporal_patch_size",), 1, _PARTS)
        return torch.randn(b * rows * columns, _channels(given) * frames * patch * patch)
    height, width = _side(given)
    if "spatial_shapes" in inspect.signature(given.model.forward).parameters:
        patch = given.of(("patch_size",), 16, _PARTS)
        count = (height // patch) * (width // patch)
        return torch.randn(b, count, _channels(given) * patch * patch)
    image: tuple[int, ...] = (_channels(given), height, width)
    frames = given.of(("num_frames",), 0, _PARTS)
    if kind in ("vivit", "timesformer", "videomae", "xclip", "tvp", "videomt") and frames:
        image = (frames, *image)
    elif kind in _MANY_IMAGES:
        image = (*_MANY_IMAGES[kind], *image)
    return torch.randn(b, *image)


_MANY_IMAGES: Mapping[str, tuple[int, ...]] = {
    "idefics": (1,),
    "idefics2": (1,),
    "idefics3": (1,),
    "smolvlm": (1,),
    "modernvbert": (1,),
    "ultravbert": (1,),
    "granite_docling": (1,),
    "llava_next": (3,),
    "llava_next_video": (3,),
    "llava_onevision": (3,),
    "granite4_vision": (3,),
    "mllama": (1, 4),
    "mllama_vision_model": (1, 4),
    "lightglue": (2,),
    "efficientloftr": (2,),
    "superglue": (2,),
    "perception_lm": (1,),
}


def _video(given: _Given) -> Tensor:
    height, width = _side(given)
    names = ("num_frames", "frames_per_clip", "num_image_with_embedding", "video_length")
    frames = given.of(names, 4, _PARTS)
    return torch.randn(given.at.b, frames, _channels(given), height, width)


def _grid_rows(given: _Given) -> Tensor:
    rows, columns, _ = _grid(given)
    return torch.tensor([[1, rows, columns]] * given.at.b)


def _patches(given: _Given) -> Tensor:
    """Images cut into patches, of all rows one after the other, as `grid_thw` tells apart."""
    rows, columns, patch = _grid(given)
    count = given.at.b * rows * columns
    channels, frames = _channels(given), given.of(("temporal_patch_size",), 1, _PARTS)
    return torch.randn(count, channels * frames * patch * patch)


def _merge_sizes(given: _Given) -> Tensor:
    return torch.tensor([2] * given.at.b)


def _image_sizes(given: _Given) -> Tensor:
    height, width = _side(given)
    return torch.tensor([[height, width]] * given.at.b)


def _spatial_shapes(given: _Given) -> Tensor:
    height, width = _side(given)
    patch = given.of(("patch_size",), 16, _PARTS)
    return torch.tensor([[height // patch, width // patch]] * given.at.b)


def _patch_mask(given: _Given) -> Tensor | None:
    if "spatial_shapes" not in inspect.signature(given.model.forward).parameters:
        return None
    height, width = _side(given)
    patch = given.of(("patch_size",), 16, _PARTS)
    return torch.ones(given.at.b, (height // patch) * (width // patch), dtype=torch.long)


def _tiles(given: _Given) -> Tensor:
    return torch.ones(given.at.b, 1, dtype=torch.long)


def _tile_mask(given: _Given) -> Tensor:
    return torch.ones(given.at.b, 1, 4, dtype=torch.long)


def _image_positions(given: _Given) -> Tensor | None:
    if given.config.model_type != "kosmos-2":
        return None
    mask = torch.zeros(given.at.b, given.at.n + given.config.latent_query_num, dtype=torch.long)
    mask[:, 1 : 1 + given.config.latent_query_num] = 1
    return mask


def _image_attention(given: _Given) -> Tensor | None:
    if given.config.model_type != "idefics":
        return None
    return torch.ones(given.at.b, given.at.n, 1, dtype=torch.long)


def _with_images(given: _Given, found: Mapping[str, Any]) -> Tensor:
    """Tokens, with a marker for everything that comes from an image or a sound."""
    ids: Tensor = found["input_ids"]
    config = given.config
    for source, ask, names in _SOURCES:
        marker = given.of(names, None)
        if source not in found or marker is None or not hasattr(given.model, ask):
            continue
        rest = {k: v for k, v in found.items() if k not in ("input_ids", "attention_mask")}
        count = _features(given, ask, rest)
        if count:
            marks = torch.full((given.at.b, count), int(marker), dtype=ids.dtype)
            ids = torch.cat([ids[:, :1], marks, ids[:, 1:]], 1)
    if config.model_type == "kosmos-2":
        more = tokens(given.text, given.at.b, config.latent_query_num)
        ids = torch.cat([ids, more], 1)
    return ids


_SOURCES = (
    ("pixel_values", "get_image_features", ("image_token_id", "image_token_index")),
    ("input_features", "get_audio_features", ("audio_token_id", "audio_token_index")),
    ("input_values", "get_audio_features", ("audio_token_id", "audio_token_index")),
)


def _features(given: _Given, ask: str, found: Mapping[str, Any]) -> int:
    """How many tokens a row's image or sound stands for: what the model's own encoder gives."""
    method = getattr(getattr(given.model, "model", given.model), ask, None) or getattr(
        given.model, ask
    )
    takes = inspect.signature(method).parameters
    values = {k: v for k, v in found.items() if k in takes}
    for name, p in takes.items():
        if name not in values and p.default is p.empty and name in _EXAMPLES:
            values[name] = _EXAMPLES[name](given)
    with torch.no_grad():
        made = method(**values)
    made = getattr(made, "pooler_output", made)
    parts = list(made) if isinstance(made, tuple | list) else [made]
    parts = [p for p in parts if isinstance(p, Tensor)]
    return sum(int(p.shape[:-1].numel()) for p in parts) // given.at.b


# Sound ------------------------------------------------------------------------------------------------


def _sound(given: _Given) -> Tensor:
    b, n, kind = given.at.b, given.at.n, given.config.model_type
    if kind == "audio-spectrogram-transformer":
        return torch.randn(b, given.config.max_length, given.config.num_mel_bins)
    if kind.startswith(_ONE_CHANNEL):
        channels = given.of(("audio_channels", "channels"), 1)
        return torch.randn(b, channels, n)
    return torch.randn(b, n)


def bins(config: Any) -> int:
    """The number of bins of the spectrograms that a model reads."""
    given = _Given(None, config, Sizes(1, 1, 1, 0))
    if hasattr(config, "input_feat_per_channel"):
        return int(config.input_feat_per_channel * config.input_channels)
    stacked = {"granite_speech5_ctc": 4, "granite_speech5_encoder": 4}.get(config.model_type, 1)
    stacked = given.of(("num_stacked_frames",), stacked, _LISTENING)
    default = 128 if "gemma4" in config.model_type else 80
    return int(given.of(_MELS, default, _LISTENING) * stacked)


def _spectrogram(given: _Given) -> Tensor:
    config, b, n = given.config, given.at.b, given.at.n
    n = n or _FRAMES
    kind = config.model_type.removesuffix("_encoder").removesuffix("_audio")
    positions = given.of(("max_source_positions",), 0, ("audio_config", "encoder_config"))
    if kind.startswith("clap"):
        audio = getattr(config, "audio_config", config)
        wide = audio.spec_size * (audio.spec_size // audio.num_mel_bins)
        return torch.randn(b, 1, wide, audio.num_mel_bins)
    if kind == "pop2piano":
        return torch.randn(b, n, config.d_model)
    if kind in _BINS_FIRST:
        frames = 2 * positions or n  # whisper's stem halves them
        return torch.randn(b, bins(config), frames)
    return torch.randn(b, n, bins(config))


def _ones(given: _Given) -> Tensor:
    return torch.ones(given.at.b, given.at.n, dtype=torch.long)


def _masked_frames(given: _Given) -> Tensor:
    features = _spectrogram(given)
    first = given.config.model_type.removesuffix("_encoder").removesuffix("_audio") in _BINS_FIRST
    return torch.ones(given.at.b, features.shape[-1 if first else -2], dtype=torch.long)


# Time series and decisions ----------------------------------------------------------------------------


def _past(given: _Given) -> int:
    config = given.config
    lags = max(getattr(config, "lags_sequence", None) or [0])
    return int(getattr(config, "context_length", given.at.n)) + lags


def _series(given: _Given) -> Tensor:
    config, shape = given.config, (given.at.b, _past(given))
    channels = int(getattr(config, "num_input_channels", 0) or getattr(config, "input_size", 1))
    if config.model_type.startswith("timesfm"):
        return torch.randn(given.at.b, given.at.n)
    return torch.randn(*shape, channels) if channels > 1 or "patch" in config.model_type else (
        torch.randn(*shape)
    )  # fmt: skip


def _observed(given: _Given) -> Tensor:
    return torch.ones_like(_series(given))


def _time_features(given: _Given, length: int) -> Tensor:
    return torch.randn(given.at.b, length, given.config.num_time_features)


def _future(given: _Given) -> Tensor | None:
    if not hasattr(given.config, "num_time_features"):
        return None
    return torch.randn(given.at.b, given.config.prediction_length)


def _future_features(given: _Given) -> Tensor | None:
    if not hasattr(given.config, "num_time_features"):
        return None
    return _time_features(given, given.config.prediction_length)


def _steps(width: str) -> Callable[[_Given], Tensor]:
    def make(given: _Given) -> Tensor:
        size = getattr(given.config, width) if width else 1
        return torch.randn(given.at.b, given.at.n, size)

    return make


def _times(given: _Given) -> Tensor:
    return torch.arange(given.at.n).expand(given.at.b, given.at.n)


_EXAMPLES: Mapping[str, Callable[[_Given], Any]] = {
    "input_ids": _text,
    "decoder_input_ids": _decoded,
    "qformer_input_ids": _text,
    "attention_mask": _ones,
    "inputs_embeds": _embedded,
    "query_embeds": _queries,
    "bbox": _boxes,
    "pixel_values": _image,
    "pixel_values_videos": _video,
    "image_grid_thw": _grid_rows,
    "grid_thw": _grid_rows,
    "hidden_states": _patches,
    "merge_sizes": _merge_sizes,
    "image_sizes": _image_sizes,
    "spatial_shapes": _spatial_shapes,
    "pixel_attention_mask": _patch_mask,
    "aspect_ratio_ids": _tiles,
    "aspect_ratio_mask": _tile_mask,
    "image_embeds_position_mask": _image_positions,
    "image_attention_mask": _image_attention,
    "input_values": _sound,
    "input_features": _spectrogram,
    "input_features_mask": _masked_frames,
    "feature_attention_mask": _masked_frames,
    "audio_mel": _spectrogram,
    "audio_mel_mask": lambda given: torch.zeros(
        given.at.b, given.at.n or _FRAMES, dtype=torch.bool
    ),
    "past_values": _series,
    "past_observed_mask": _observed,
    "past_time_features": lambda given: _time_features(given, _past(given)),
    "future_values": _future,
    "future_time_features": _future_features,
    "states": _steps("state_dim"),
    "actions": _steps("act_dim"),
    "rewards": _steps(""),
    "returns_to_go": _steps(""),
    "timesteps": _times,
}
