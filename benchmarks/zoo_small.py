"""A small configuration of any transformers model type: the arguments that an `hf:` target takes.

Sizes are found by the names that configurations share, in the configuration and in those inside it. Three
levels, since no rule keeps every model's divisibility: depth, width and vocabulary; depth and vocabulary;
depth alone.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LEVELS = ("small", "shallow, small vocabulary", "shallow", "as it is")

_VOCABULARY = 384
_DEPTH = re.compile(
    r"(num|n)_(\w+_)?(layers?|blocks)|(\w+_)?(encoder|decoder|transformer)_layers?|\w+_layers|layers"
    r"|depth|num_hidden_groups|num_resnet_layers|\w*_depth"
)
_NO_DEPTH = re.compile(
    r".*(_fusion|conv|kv_shared|hidden_act|feat_extract|mtp|predict|nextn|window|intermediate|skip"
    r"|upsampl|codebook|num_encoder_blocks).*"
)
_HEADS = re.compile(
    r"(\w+_)?(num|n)_(\w+_)?heads?|(\w+_)?(encoder|decoder)_attention_heads|attention_heads|num_heads"
)
_WIDTH = re.compile(r"(\w+_)?(hidden_size|d_model|n_embd|embed_dim|emb_dim|hidden_dim)")
_INNER = re.compile(r"(\w+_)?(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|mlp_dim)")
_HEAD_WIDTH = re.compile(r"(head_dim|d_kv|attention_head_dim|kv_channels|v_head_dim|qk_head_dim)")
_EXPERTS = re.compile(r"(num|n)_(\w+_)?experts|moe_num_experts")
_CHOSEN = re.compile(r"(num|n)_experts_per_to(k|ken)|moe_top_?k|top_k_experts|moe_k|router_top_k")
_TAPPED = ("backbone_out_indices", "vision_feature_layer", "deepstack_visual_indexes", "deepstack_layer_map",
           "skip_layer_ids")  # fmt: skip
_GIVEN: Mapping[str, Mapping[str, Any]] = {  # what has no default, and the model needs
    "autoformer": {"prediction_length": 4},
    "chameleon": {"vocabulary_map": {"<image>": _VOCABULARY - 1}},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "informer": {"prediction_length": 4},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 48},
    "patchtsmixer": {"prediction_length": 4},
    "time_series_transformer": {"prediction_length": 4},
}
_STAGES = ["stage2", "stage3", "stage4"]
_ORDER = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types", "attention_layers")


def small(config: Any, level: int = 0) -> dict[str, Any]:
    """What to change in a configuration so that its model is small.

    Args:
        config: A configuration of transformers.
        level: How little to change, an index of `LEVELS`.

    Returns:
        Values by name; those of configurations inside it as mappings.
    """
    return _steady(config) | (_changes(config, level, {}) if level < 3 else {})


def _steady(config: Any) -> dict[str, Any]:
    """What makes a model do the same each time: no layers dropped and no features masked at random."""
    found: dict[str, Any] = dict(_GIVEN.get(config.model_type, {}))
    for name, value in vars(config).items():
        if name.endswith("layerdrop") and value:
            found[name] = 0.0
        if name == "apply_spec_augment" and value:
            found[name] = False
        if name in ("mask_time_prob", "mask_feature_prob") and value:
            found[name] = 0.0
        if name == "backbone_config" and "Timm" in type(value).__name__:  # another library's
            found[name] = {"model_type": "resnet", "depths": [1, 1, 1, 1], "out_features": _STAGES}
            if config.model_type != "deformable_detr":
                found[name]["out_features"] = _STAGES[-1:]
    return found


def _changes(config: Any, level: int, tokens: dict[int, int]) -> dict[str, Any]:
    from transformers import PretrainedConfig

    changed: dict[str, Any] = {}
    values = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    for name, value in values.items():
        if (
            isinstance(value, PretrainedConfig) and name != "backbone_config"
        ):  # it counts its layers
            inner = _steady(value) | _changes(value, level, tokens)
            if inner:
                changed[name] = inner
    integers = {k: v for k, v in values.items() if isinstance(v, int) and not isinstance(v, bool)}
    changed |= _depths(values, integers)
    if level <= 1:
        changed |= _vocabulary(integers, tokens)
    rotated = values.get("rope_parameters") or values.get("rope_scaling")
    fixed = "mrope_section" in str(rotated) or "neck_hidden_sizes" in values  # made for one width
    if level == 0 and not fixed:
        changed |= _widths(integers)
    return changed


def _depths(values: Mapping[str, Any], integers: Mapping[str, int]) -> dict[str, Any]:
    """Two layers, or as many as it takes for every kind of layer to be there."""
    if any(isinstance(values.get(name), list | tuple) for name in _TAPPED):
        return {}  # the outputs of chosen layers are used
    depth = 2
    for name in _ORDER:
        kinds = values.get(name)
        if isinstance(kinds, list | tuple) and kinds and isinstance(kinds[0], str):
            depth = max(depth, *(kinds.index(kind) + 1 for kind in set(kinds)))
    found: dict[str, Any] = {}
    for name, value in integers.items():
        if _matches(_DEPTH, name) and not _NO_DEPTH.fullmatch(name) and value > depth:
            found[name] = depth
        if name in ("first_k_dense_replace", "num_dense_layers", "n_dense_layers") and value > 1:
            found[name] = 1
    if isinstance(values.get("depths"), list | tuple):
        found["depths"] = [min(int(d), 2) for d in values["depths"]]
    return found


def _vocabulary(integers: Mapping[str, int], tokens: dict[int, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in integers.items():
        if name.endswith("vocab_size") and value > _VOCABULARY:
            found[name] = _VOCABULARY
        elif re.search(r"token_(id|index)$|_token$|_id$", name) and value >= _VOCABULARY:
            found[name] = tokens.setdefault(value, _VOCABULARY - 1 - len(tokens))
    return found


def _widths(integers: Mapping[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    heads = {k: v for k, v in integers.items() if _matches(_HEADS, k)}
    most = max(heads.values(), default=0)
    rules: list[tuple[re.Pattern[str], Callable[[int], int]]] = [
        (_INNER, lambda v: min(v, 128)),
        (_HEAD_WIDTH, lambda v: min(v, 16)),
        (_WIDTH, lambda v: min(v, 64)),
        (_CHOSEN, lambda v: min(v, 2)),
        (_EXPERTS, lambda v: min(v, 8)),
        (_HEADS, lambda v: max(1, v * 4 // most) if most > 4 else v),
    ]
    for name, value in integers.items():
        for pattern, rule in rules:
            if _matches(pattern, name):
                if value > 0 and rule(value) != value:
                    found[name] = rule(value)
                break
    return found


def _matches(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(name) is not None


def arguments(name: str, level: int) -> dict[str, Any]:
    """The arguments of the target `hf:NAME` at a level.

    Args:
        name: A model type.
        level: An index of `LEVELS`.

    Returns:
        Values that `assay.load` takes.
    """
    from transformers import CONFIG_MAPPING

    return small(CONFIG_MAPPING[name](), level)


def attempts(name: str) -> Iterator[tuple[int, dict[str, int]]]:
    """What to try, smallest first.

    Args:
        name: A model type.

    Yields:
        A level, and sizes to give beside those that a target has by itself: an image's side.
    """
    from transformers import CONFIG_MAPPING

    sees = _sees(CONFIG_MAPPING[name]())
    for level in range(len(LEVELS)):
        if sees and level < 2:
            yield from ((level, {"h": side}) for side in _SIDES[2 * level :])
        yield level, {}


_SIDES = (64, 256, 224)


def _sees(config: Any) -> bool:
    """Whether a model of this configuration reads images, of which the side can be chosen."""
    from assay.extra.transformers import model_class

    takes = inspect.signature(model_class(config).forward).parameters
    return any(name in takes for name in ("pixel_values", "pixel_values_videos", "grid_thw"))
