import json
import math
import sys

import pytest
import torch

import assay
from assay.errors import UsageError

pytest.importorskip("transformers")

TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "vocab_size": 50}  # fmt: skip
T5 = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "d_kv": 8, "vocab_size": 50,
      "num_decoder_layers": 1}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "sizes", "shape"),
    [
        (
            "gpt2",
            {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 50},
            {"b", "n"},
            (3, 7, 50),
        ),
        ("bert", TEXT, {"b", "n"}, (3, 7, 50)),
        ("llama", {**TEXT, "num_key_value_heads": 1}, {"b", "n"}, (3, 7, 50)),
        ("t5", T5, {"b", "n", "m"}, (3, 5, 50)),
        ("vit", {**TEXT, "image_size": 32, "num_labels": 4}, {"b"}, (3, 4)),
    ],
)
def test_a_type_becomes_a_subject(kind, values, sizes, shape):
    given = {"b": 3, "n": 7, "m": 5}
    values = {k: v for k, v in values.items() if not (kind == "vit" and k == "vocab_size")}
    build = assay.load(f"hf:{kind}", arguments=values, sizes={k: given[k] for k in sizes})
    assert set(build.sizes) == sizes
    subject = build()
    output = subject.forward()
    assert tuple(output.logits.shape) == shape
    loss = subject.backward(output)
    assert loss.shape == ()
    if kind == "gpt2":
        assert abs(loss.item() - torch.log(torch.tensor(50.0)).item()) < 1


def test_configuration_values_are_sizes_too():
    build = assay.load("hf:gpt2", arguments={"n_head": 2, "vocab_size": 50},
                       sizes={"n_layer": 1, "n_embd": 16})  # fmt: skip
    assert build.sizes == {"b": 2, "n": 16, "n_layer": 1, "n_embd": 16}
    assert build(n_layer=3).model.config.n_layer == 3


def test_a_file_or_its_folder(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "bert", **TEXT, "architectures": ["BertModel"]}))
    for place in (path, tmp_path):
        subject = assay.load(f"hf:{place}")()
        assert type(subject.model).__name__ == "BertModel"
        assert subject.forward()[0].shape == (2, 16, 16)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("hf:gtp2", "Did you mean hf:gpt2"),
        ("hf:no/such/config.json", "existing config.json"),
        ("hf:qqqqqqq", "config.json"),
    ],
)
def test_what_does_not_exist_is_said(target, message):
    with pytest.raises(UsageError, match=message):
        assay.load(target)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"model_type": "nope"}'])
def test_broken_configurations(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        assay.load(f"hf:{path}")


def test_unknown_values_suggest_close_ones():
    with pytest.raises(UsageError, match="Did you mean `n_layer`"):
        assay.load("hf:gpt2", arguments={"n_layers": 3})


def test_without_transformers_the_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match="pip install 'assay"):
        assay.load("hf:gpt2")


SHORT = {"depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}


@pytest.mark.parametrize("saved", [False, True])
def test_what_derives_from_other_values_follows_them(tmp_path, saved):
    import transformers

    if saved:
        transformers.ResNetConfig(num_channels=1).save_pretrained(tmp_path)
        assert "stage4" in (tmp_path / "config.json").read_text()  # of the depths it was saved with
    build = assay.load(f"hf:{tmp_path}" if saved else "hf:resnet", arguments=SHORT, sizes={"b": 1})
    model = build().model
    assert model.config.stage_names == ["stem", "stage1", "stage2"]
    assert model.config.num_channels == (1 if saved else 3)
    assert len(model.resnet.encoder.stages) == 2


def test_values_written_in_a_file_stay_where_others_change(tmp_path):
    import transformers

    transformers.ResNetConfig(out_features=["stage1", "stage2"], num_channels=2).save_pretrained(
        tmp_path
    )
    config = assay.load(f"hf:{tmp_path}", arguments={"embedding_size": 8})().model.config
    assert config.out_features == ["stage1", "stage2"]
    assert (config.num_channels, config.embedding_size) == (2, 8)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("vit", {"num_hidden_layers": 1, "hidden_size": 48, "intermediate_size": 32}),
        ("mobilenet_v2", {"image_size": 64}),
        ("whisper", {"encoder_layers": 1, "decoder_layers": 1, "d_model": 96}),
        ("wav2vec2", {"num_hidden_layers": 1, "hidden_size": 48, "intermediate_size": 32}),
    ],
)
def test_what_has_classes_or_tokens_starts_at_the_loss_of_a_guess(kind, arguments):
    """A sum of scores has no lowest value, and steps along it say nothing of training."""
    torch.manual_seed(0)
    subject = assay.load(f"hf:{kind}", arguments=arguments)()
    output = subject.forward()
    classes = output.logits.shape[-1]
    objective = float(subject.objective(output).detach())
    assert 0 <= objective < 2 * math.log(classes)
    constant = type(output)(logits=torch.zeros_like(output.logits))
    assert float(subject.objective(constant)) == pytest.approx(math.log(classes), rel=1e-5)


def test_a_classifier_whose_output_has_no_logits_has_a_loss_all_the_same():
    pytest.importorskip("transformers.models.pp_lcnet")
    build = assay.load("hf:pp_lcnet", arguments={"depths": [1, 1, 1, 1, 1]})
    subject = build(b=2, h=64)
    assert subject.objective(subject.forward()).shape == ()
