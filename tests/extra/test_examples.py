"""Example inputs of `hf:` targets: what a model is for, at the sizes that were asked for."""

import pytest
import torch

import assay
from assay.errors import UsageError

transformers = pytest.importorskip("transformers")


def known(kind):
    """The target of a type, unless the installed release of transformers does not have it yet."""
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip(f"no {kind} in transformers {transformers.__version__}")
    return f"hf:{kind}"


WIDTHS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TEXT = {**WIDTHS, "vocab_size": 60}
SOUND = {**WIDTHS, "layerdrop": 0.0, "apply_spec_augment": False, "vocab_size": 12}
DIA = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
       "head_dim": 8, "intermediate_size": 16, "vocab_size": 40, "cross_num_attention_heads": 2,
       "cross_num_key_value_heads": 2, "cross_head_dim": 8, "cross_hidden_size": 16}  # fmt: skip
MUSIC = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "ffn_dim": 16,
    "vocab_size": 40,
}
CASES = [
    ("vit", WIDTHS, {"b": 3, "h": 48}, {"pixel_values": (3, 3, 48, 48)}),
    ("resnet", {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}, {"h": 33},
     {"pixel_values": (2, 3, 33, 33)}),
    ("clip", {"text_config": TEXT, "vision_config": WIDTHS}, {"h": 64, "n": 7},
     {"pixel_values": (2, 3, 64, 64), "input_ids": (2, 7)}),
    ("wav2vec2", SOUND, {"n": 800}, {"input_values": (2, 800)}),
    ("decision_transformer", {"hidden_size": 16, "n_layer": 1, "n_head": 1}, {"n": 5},
     {"states": (2, 5, 17), "actions": (2, 5, 4), "timesteps": (2, 5)}),
    ("timesfm", {**WIDTHS, "head_dim": 8}, {"n": 64}, {"past_values": (2, 64)}),
    ("dia", {"encoder_config": DIA, "decoder_config": {**DIA, "num_channels": 9}}, {"n": 5, "m": 4},
     {"input_ids": (2, 5), "decoder_input_ids": (2, 4, 9)}),
    ("musicgen", {"text_encoder": {"model_type": "t5", "num_layers": 1},
                  "audio_encoder": {"model_type": "encodec"},
                  "decoder": {**MUSIC, "num_codebooks": 2}}, {"n": 5, "m": 4},
     {"input_ids": (2, 5), "decoder_input_ids": (4, 4)}),
    ("fuyu", {"text_config": TEXT, "patch_size": 8, "image_token_id": 59}, {"h": 16, "n": 3},
     {"pixel_values": (2, 4, 192), "input_ids": (2, 3 + 4)}),
    ("canine", {**WIDTHS, "local_transformer_stride": 4}, {"n": 8}, {"input_ids": (2, 8)}),
    ("seggpt", {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "mlp_dim": 16, "decoder_hidden_size": 8, "intermediate_hidden_state_indices": [0],
                "merge_index": 0}, {"h": 32},
     {"pixel_values": (2, 3, 32, 32), "prompt_masks": (2, 3, 32, 32)}),
    ("speech-encoder-decoder", {"encoder": {"model_type": "wav2vec2", **SOUND},
                                "decoder": {"model_type": "bert", **TEXT, "is_decoder": True,
                                            "add_cross_attention": True}}, {"n": 800, "m": 4},
     {"input_values": (2, 800), "decoder_input_ids": (2, 4)}),
    ("minicpm_ocr", {"text_config": {**TEXT, "head_dim": 8, "num_key_value_heads": 1,
                                     "linear_num_key_heads": 1, "linear_num_value_heads": 2},
                     "vision_config": {**WIDTHS, "num_hidden_layers": 2}}, {"h": 64, "n": 5},
     {"pixel_values": (1, 3, 16, 2 * 4 * 4 * 16), "target_sizes": (2, 2), "input_ids": (2, 5 + 4)}),
    ("fastspeech2_conformer", {}, {"n": 5}, {"input_ids": (2, 5), "spectrogram_labels": (2, 5, 80)}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "values", "sizes", "shapes"), CASES)
def test_inputs_are_as_large_as_was_asked(kind, values, sizes, shapes):
    subject = assay.load(known(kind), arguments=values, sizes=sizes)()
    if kind == "fuyu" and "pixel_values" not in subject.kwargs:
        pytest.skip("an older release of transformers, which takes patches by another name")
    given = {name: tuple(subject.kwargs[name].shape) for name in shapes}
    assert given == shapes
    assert subject.backward(subject.forward()).shape == ()


LLAVA = {
    "text_config": TEXT,
    "vision_config": {**WIDTHS, "patch_size": 16},
    "image_token_id": 59,
    "image_token_index": 59,
}


def test_an_image_has_its_place_among_the_tokens():
    subject = assay.load("hf:llava", arguments=LLAVA, sizes={"h": 64, "n": 5})()
    ids = subject.kwargs["input_ids"]
    assert type(subject.model).__name__ == "LlavaForConditionalGeneration"
    assert ids.shape == (2, 5 + 16)  # 64 / 16 patches along each side
    assert (ids == 59).sum(1).tolist() == [16, 16]
    assert subject.forward().logits.shape == (2, 21, 60)


def test_an_inner_configuration_keeps_what_is_not_mentioned():
    build = assay.load("hf:llava", arguments={"vision_config": {"num_hidden_layers": 1}})
    with torch.device("meta"):
        inner = build(b=1, n=4).model.config.vision_config
    assert (inner.num_hidden_layers, inner.image_size, inner.hidden_size) == (1, 336, 1024)


def test_a_tower_has_a_model_although_no_task_lists_it():
    arguments = {**WIDTHS, "vocab_size": 60}
    subject = assay.load(known("siglip_text_model"), arguments=arguments, sizes={"n": 6})()
    assert type(subject.model).__name__ == "SiglipTextModel"
    assert subject.forward()[0].shape == (2, 6, 16)


def test_no_letters_no_letters_head():
    with torch.device("meta"):
        model = assay.load("hf:wav2vec2-bert", arguments=WIDTHS)().model
    assert not type(model).__name__.endswith("CTC")


def test_detectors_are_not_asked_for_the_lengths_of_tokens():
    assert set(assay.load("hf:detr").sizes) == {"b"}
    assert set(assay.load("hf:rt_detr", sizes={"h": 64}).sizes) == {"b", "h"}


EMU = {"text_config": {**TEXT, "pad_token_id": 0}, "vocabulary_map": {"<image>": 59}}


def test_a_head_that_reads_the_text_alone_is_not_the_model():
    with torch.device("meta"):
        model = assay.load("hf:emu3", arguments=EMU)().model
    assert type(model).__name__ == "Emu3ForConditionalGeneration"


def test_what_a_configuration_leaves_open_is_filled_in():
    values = {
        **TEXT,
        "num_key_value_heads": 1,
        "num_attention_heads": 4,
        "layer_types": ["full_attention"],
    }
    subject = assay.load("hf:ministral", arguments=values)()
    assert subject.model.config.head_dim == 16 // 4
    assert subject.forward().logits.shape == (2, 16, 60)


def test_values_deep_inside_keep_what_is_not_mentioned():
    backbone = {
        "vision_config": {
            "backbone_config": {"blocks_per_stage": [1, 1, 1, 1], "global_attention_blocks": []}
        }
    }
    with torch.device("meta"):
        config = assay.load(
            "hf:sam2", arguments=backbone
        )().model.config.vision_config.backbone_config
    assert (config.model_type, config.blocks_per_stage) == ("sam2_hiera_det_model", [1, 1, 1, 1])


def test_a_chain_of_models_is_not_one():
    with torch.device("meta"), pytest.raises(UsageError, match="returns one of its parts"):
        assay.load("hf:bark")()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # transformers'
def test_what_has_no_example_is_said():
    with torch.device("meta"), pytest.raises(UsageError, match="Write a builder of your own"):
        assay.load(known("sam3_video"))()
