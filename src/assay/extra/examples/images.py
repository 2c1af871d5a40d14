"""Images and videos, whole or cut into patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from assay.extra.examples.given import SEEING, Given
from assay.extra.examples.sound import spectrogram
from assay.extra.examples.text import embedded

# dimensions between the batch and the image's own: several images, tiles, or crops
_MANY: Mapping[str, tuple[int, ...]] = {
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
    "instructblipvideo": (4,),
}
_CUT = ("kimi_k25", "kimi_k25_vision", "paddleocr_vl")  # patches are small images
_FLAT = ("fuyu",)  # patches of each row, and nothing says how many
_DOUBLE = ("seggpt",)  # the image's size is that of two, one above the other
_VIDEOS = ("vivit", "timesformer", "videomae", "xclip", "tvp", "videomt")


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
    high = 2 * h if config.model_type in _DOUBLE else h
    for name in ("image_size", "img_size", "max_img_size") if h else ():
        if hasattr(config, name) and name not in values:
            changed[name] = h if isinstance(getattr(config, name), int) else [high, h]
    if h and hasattr(config, "backbone_feature_sizes"):
        changed.setdefault("backbone_feature_sizes", [[h // step] * 2 for step in (4, 8, 16)])
    for part in (*SEEING, "prompt_encoder_config", "mask_decoder_config") if h else ():
        inner, given = getattr(config, part, None), changed.get(part) or {}
        if inner is not None and hasattr(inner, "to_dict") and isinstance(given, Mapping):
            more = of_side(inner, given, h)
            if more != dict(given):
                changed[part] = more
    return changed


def image(given: Given) -> Tensor:
    """One image for each row, in the layout that the model reads.

    Returns:
        `[b, channels, h, h]`; with `grid_thw` the patches of all rows one after the other, with
        `target_sizes` side by side; with `spatial_shapes` the patches of each row.
    """
    if given.takes("image_grid_thw", "grid_thw"):
        return patches(given)
    height, width = _side(given)
    if given.takes("target_sizes"):  # the patches of all images in one long row
        rows, columns, patch = _grid(given)
        return torch.randn(1, _channels(given), patch, given.at.b * rows * columns * patch)
    if given.takes("spatial_shapes") or given.kind in _FLAT:
        rows, columns, size = _shape(given)
        return torch.randn(given.at.b, rows * columns, size)
    frames = given.of(("num_frames",), 0, SEEING)
    if given.kind == "xclip_vision_model":  # the frames of all rows one after the other
        return torch.randn(given.at.b * frames, _channels(given), height, width)
    more = (frames,) if given.kind in _VIDEOS and frames else _MANY.get(given.kind, ())
    return torch.randn(given.at.b, *more, _channels(given), height, width)


def sharp(given: Given) -> Tensor:
    """The same once more at the size of the tower that sees more."""
    side = given.config.high_res_vision_config.image_size
    return torch.randn(given.at.b, _channels(given), side, side)


def video(given: Given) -> Tensor:
    """A video for each row `[b, frames, channels, h, h]`."""
    height, width = _side(given)
    names = ("num_frames", "frames_per_clip", "num_image_with_embedding", "video_length")
    frames = given.of(names, 4, SEEING)
    return torch.randn(given.at.b, frames, _channels(given), height, width)


def patches(given: Given) -> Tensor:
    """Images cut into patches, of all rows one after the other, as `grid_thw` tells apart."""
    rows, columns, patch = _grid(given)
    count = given.at.b * rows * columns
    if given.kind in _CUT:
        return torch.randn(count, _channels(given), patch, patch)
    frames = given.of(("temporal_patch_size", "patch_temporal"), 1, SEEING)
    return torch.randn(count, _channels(given) * frames * patch * patch)


def states(given: Given) -> Tensor:
    """What a tower without embeddings of its own reads: patches, frames, an image or embedded tokens."""
    if given.takes("grid_thw"):
        return patches(given)
    if given.kind.startswith("granite_speech"):
        return spectrogram(given)
    return image(given) if given.kind == "florence_vision" else embedded(given)


def flattened(given: Given) -> Tensor:
    """Patches with their row and column before them `[b, n, 2 + channels * patch**2]`."""
    patch = given.of(("patch_size",), 16, SEEING)
    return torch.ones(given.at.b, given.at.n or 16, 2 + _channels(given) * patch * patch)


def features(given: Given) -> Tensor:
    """What a detector found in each image, for LXMERT `[b, 10, width]`."""
    return torch.randn(given.at.b, 10, given.config.visual_feat_dim)


def places(given: Given) -> Tensor:
    """Where it was found `[b, 10, 4]`."""
    return torch.rand(given.at.b, 10, 4)


def grids(given: Given) -> Tensor:
    """Frames, rows and columns of patches of each image `[b, 3]`."""
    rows, columns, _ = _grid(given)
    return torch.tensor([[1, rows, columns]] * given.at.b)


def packed_sizes(given: Given) -> Tensor:
    """Rows and columns of patches of each image `[b, 2]`, where they are packed into one row."""
    rows, columns, _ = _grid(given)
    return torch.tensor([[rows, columns]] * given.at.b)


def merges(given: Given) -> Tensor:
    """How many patches are merged along each side, for each image `[b]`."""
    return torch.tensor([2] * given.at.b)


def image_sizes(given: Given) -> Tensor | None:
    """Height and width of each image `[b, 2]`, for models that read images of any size."""
    if given.kind == "llava":
        return None
    return torch.tensor([list(_side(given))] * given.at.b)


def shapes(given: Given) -> Tensor:
    """Rows and columns of patches of each image `[b, 2]`."""
    rows, columns, _ = _shape(given)
    return torch.tensor([[rows, columns]] * given.at.b)


def patch_mask(given: Given) -> Tensor | None:
    """Which patches are no padding: all `[b, patches]`, where there are such."""
    if not given.takes("spatial_shapes"):
        return None
    rows, columns, _ = _shape(given)
    return torch.ones(given.at.b, rows * columns, dtype=torch.long)


def tile_kinds(given: Given) -> Tensor:
    """Which aspect ratio each image has `[b, 1]`."""
    return torch.ones(given.at.b, 1, dtype=torch.long)


def tile_mask(given: Given) -> Tensor:
    """Which tiles of each image are there: all `[b, 1, 4]`."""
    return torch.ones(given.at.b, 1, 4, dtype=torch.long)


def image_places(given: Given) -> Tensor | None:
    """Where an image stands among the tokens, for models that are told by a mask."""
    if given.kind != "kosmos-2":
        return None
    count = given.config.latent_query_num
    mask = torch.zeros(given.at.b, given.at.n + count, dtype=torch.long)
    mask[:, 1 : 1 + count] = 1
    return mask


def image_attention(given: Given) -> Tensor | None:
    """Which token sees which image, for models that are told."""
    return torch.ones(given.at.b, given.at.n, 1) if given.kind == "idefics" else None


def _side(given: Given) -> tuple[int, int]:
    if given.at.h:
        return given.at.h, given.at.h
    side = given.of(("image_size", "img_size", "max_img_size", "input_size"), 224, SEEING)
    if isinstance(side, dict):
        side = (side["height"], side["width"])
    if isinstance(side, int):
        side = (side, side)
    return (side[-1] if given.kind in _DOUBLE else side[-2]), side[-1]


def _channels(given: Given) -> int:
    return int(given.of(("num_channels", "in_channels", "in_chans"), 3, SEEING))


def _grid(given: Given) -> tuple[int, int, int]:
    """Rows and columns of patches that can be merged, and a patch's side."""
    patch = given.of(("patch_size", "spatial_patch_size"), 14, SEEING)
    merge = given.of(("spatial_merge_size", "merge_size"), 2, SEEING)
    merge = merge if isinstance(merge, int) else merge[0]
    merge *= given.of(("window_kernel_size",), (1, 1), SEEING)[0]  # merged twice, in two places
    count = max(1, (given.at.h or 8 * patch) // (patch * merge)) * merge
    return count, count, patch


def _shape(given: Given) -> tuple[int, int, int]:
    """Rows and columns of patches, and the numbers in each."""
    height, width = _side(given)
    patch = given.of(("patch_size",), 16, SEEING)
    return height // patch, width // patch, _channels(given) * patch * patch
