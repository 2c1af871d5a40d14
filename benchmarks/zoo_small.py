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
_WIDTH = re.compile(
    r"(?!patch_embed_hidden_size)(\w+_)?(hidden_size|d_model|n_embd|embed_dim|emb_dim|hidden_dim)"
    r"|upsample_groups"
)
_INNER = re.compile(r"(\w+_)?(intermediate_size|ffn_dim|d_ff|n_inner|ffn_hidden_size|mlp_dim)")
_HEAD_WIDTH = re.compile(r"(head_dim|d_kv|attention_head_dim|kv_channels|v_head_dim|qk_head_dim)")
_QUERIES = re.compile(r"num_queries")  # no more than there are places in a small image
_GROUPS = re.compile(r"(mamba_)?n_groups")  # no more than there are heads
_EXPERTS = re.compile(r"(num|n)_(\w+_)?experts|moe_num_experts")
_CHOSEN = re.compile(r"(num|n)_experts_per_to(k|ken)|moe_top_?k|top_k_experts|moe_k|router_top_k")
_TAPPED = ("backbone_out_indices", "vision_feature_layer", "deepstack_visual_indexes", "deepstack_layer_map",
           "skip_layer_ids", "patch_sizes", "intermediate_layers_indices")  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_TIED: Mapping[str, tuple[str, ...]] = {  # widths that follow from values which stay as they are
    "qk_rope_head_dim": ("head_dim", "qk_head_dim"),
    "decoder_in_channels": ("encoder_hidden_dim",),
}
_STAGES = ["stage2", "stage3", "stage4"]
_GIVEN: Mapping[str, Mapping[str, Any]] = {  # what has no default, and the model needs
    "aria": {"projector_patch_to_query_dict": {side * side: 4 for side in range(1, 17)}},
    "autoformer": {"prediction_length": 4, "label_length": 2},
    "chameleon": {"vocabulary_map": {"<image>": _VOCABULARY - 1}},
    "clvp": {"speech_config": {"vocab_size": 8194}},  # it reads what the decoder writes
    "dbrx": {"attn_config": {"rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2},
    "deepseek_ocr2_encoder": {
        "hidden_size": 896,
        "num_attention_heads": 14,
        "num_key_value_heads": 14,
    },
    "deepseek_ocr2_text": {
        "mlp_layer_types": ["dense", "sparse"],
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
    },
    "depth_pro": {"patch_size": 32, "intermediate_hook_ids": [1, 0]},
    "diffusion_gemma_text": {"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 64},
    "emu3": {"vocabulary_map": {"<image>": _VOCABULARY - 1}},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "glm4v_text": {
        "rope_parameters": _ROPE | {"partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2]}
    },
    "hunyuan_vl_text": {"rope_parameters": _ROPE | {"mrope_section": [2, 2, 2, 2]}},
    "informer": {"prediction_length": 4},
    "lw_detr": {"projector_scale_factors": [1.0]},
    "llama4_vision_model": {"hidden_size": 64, "intermediate_size": 256, "vision_output_dim": 4096},
    "muse_glimmer": {"out_hidden_size": 256},  # a square of four patches, each 64 wide
    "muse_spark": {"out_hidden_size": 256},
    "mllama_vision_model": {"vision_output_dim": 384},  # what its layers of width 64 give
    "nemotron": {"num_key_value_heads": 48},
    "neucodec": {"quantization_dim": 128},  # the sum of two widths
    "omdet-turbo": {
        "backbone_config": {"model_type": "swin", "out_features": _STAGES},
        "apply_layernorm_after_vision_backbone": False,
    },
    "patchtsmixer": {"prediction_length": 4},
    "qwen2_vl_text": {"rope_parameters": _ROPE | {"mrope_section": [2, 3, 3]}},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "reformer": {"axial_pos_embds": False},  # which are for sequences of one length only
    "sapiens2": {"head_config": {"upsample_out_channels": [64], "conv_out_channels": [64]}},
    "step3p5": {"sliding_window": 512},
    "time_series_transformer": {"prediction_length": 4},
    "zamba": {"num_hidden_layers": 9},  # two of which share their attention
    "xcodec2": {"quantization_dim": 128},
    "uvdoc": {
        "backbone_config": {
            "model_type": "uvdoc_backbone",
            "out_features": [f"stage{stage}" for stage in range(1, 7)],
        }
    },
    "vitmatte": {"hidden_size": 768, "fusion_hidden_sizes": [256, 128, 64, 32]},
}
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
        if name == "backbone_config" and "Timm" in type(value).__name__ and name not in found:
            # another library's
            found[name] = {"model_type": "resnet", "depths": [1, 1, 1, 1], "out_features": _STAGES}
            if config.model_type != "deformable_detr":
                found[name]["out_features"] = _STAGES[-1:]
    return found


def _changes(config: Any, level: int, tokens: dict[int, int]) -> dict[str, Any]:
    from transformers import PretrainedConfig

    changed: dict[str, Any] = {}
    told = _steady(config)
    values = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    for name, value in values.items():
        if (
            isinstance(value, PretrainedConfig) and name != "backbone_config"
        ):  # it counts its layers
            inner = _steady(value) | _changes(value, level, tokens) | told.get(name, {})
            if inner:
                changed[name] = inner
        if name == "backbone_config" and name not in told and hasattr(value, "depths"):
            changed[name] = {"depths": [min(depth, 2) for depth in value.depths]}
    values |= told
    integers = {
        name: value
        for name, value in values.items()
        if isinstance(value, int) and not isinstance(value, bool) and name not in told
    }
    changed |= _depths(values, integers)
    if level <= 1:
        changed |= _vocabulary(integers, tokens)
    rotated = values.get("rope_parameters") or values.get("rope_scaling")
    rotated = None if "rope_parameters" in told else rotated  # that is made for small widths
    fixed = "mrope_section" in str(rotated) or "neck_hidden_sizes" in values  # made for one width
    if level == 0 and not fixed:
        tied = {name for other, names in _TIED.items() if other in values for name in names}
        changed |= _widths({name: n for name, n in integers.items() if name not in tied})
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
        (_GROUPS, lambda v: min(v, 2)),
        (_QUERIES, lambda v: min(v, 16)),
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
