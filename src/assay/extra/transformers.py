"""`hf:TYPE` and `hf:path/to/config.json`: transformers models from a configuration, without weights."""

from __future__ import annotations

import copy
import difflib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from assay.builder import Builder
from assay.cost.caches import fresh_caches
from assay.cost.known import LOAD
from assay.errors import UsageError, UserCodeError, verbatim
from assay.extra.examples.given import Given, Sizes, complete_, differing, main_input, writes
from assay.extra.examples.images import of_side
from assay.extra.examples.inputs import example_inputs
from assay.subject import Subject

_CLASSIFIERS = ("Classification", "ForCTC")  # in the names of models
# Heads in the order in which a model type is asked for one: the task it is trained on comes first.
_HEADS = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForCTC",  # before masked models: transformers 4 lists one for wav2vec2 that is no more
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForImageClassification",
    "AutoModelForImageTextToText",
    "AutoModelForMultimodalLM",
    "AutoModelForObjectDetection",
    "AutoModelForUniversalSegmentation",
    "AutoModelForSemanticSegmentation",
    "AutoModelForDepthEstimation",
    "AutoModelForVideoClassification",
    "AutoModelForAudioClassification",
    "AutoModel",
    "AutoModelForPreTraining",
    "AutoModelForKeypointDetection",
    "AutoModelForKeypointMatching",
    "AutoModelForTableRecognition",
    "AutoModelForImageMatting",
    "AutoModelForPoseEstimation",
    "AutoBackbone",
)
_SIZES = ("b", "n", "m", "h", LOAD)
# values that a configuration takes, and does not list
_WAYS = ("attn_implementation", "experts_implementation")
# types that have a class in several of these, of which the first is not what they are for
_DECODERS = ("AutoModelForCausalLM", "AutoModel")


def from_config(
    text: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Builder:
    """A builder for a transformers model type, or for a configuration file.

    Sizes are `b` (batch), `n` (input length: tokens, samples or frames) and, for encoder–decoders, `m`
    (output length). Images are as large as the configuration says, or of side `h` where that is given as a
    size. Every value of the configuration can be given as an argument, and every integer one as a size; so
    can `load`, the number of tokens that each expert takes, where a model looks for them.

    Args:
        text: A model type, as "gpt2", or a path to a `config.json` or to its folder.
        arguments: Configuration values that replace the defaults.
        sizes: Sizes that replace the defaults.

    Returns:
        The builder. Nothing is downloaded, and weights are random.

    Raises:
        UsageError: If transformers is not installed, or there is no such type, file or value.
    """
    base, written = _configuration(text, arguments or {})
    listed = [*base.to_dict(), *_SIZES, *_WAYS]
    for name in {**(arguments or {}), **(sizes or {})}:
        if name not in listed and not hasattr(base, name):
            close = difflib.get_close_matches(name, listed, n=1)
            raise UsageError(
                f"-a {name}",
                name,
                f"a value of {type(base).__name__}",
                f"Did you mean `{close[0]}`?" if close else "See the file's keys.",
            )

    def made(values: dict[str, Any], b: int, n: int = 0, m: int = 0) -> Subject:
        values.pop(LOAD, None)  # masks are told
        h, n = values.pop("h", 0), values.pop("n", n)
        return _subject(_with(base, written, of_side(base, values, h)), b=b, n=n, m=m, h=h)

    def build_image(b: int = 2, **values: Any) -> Subject:
        return made(values, b)

    def build_sequence(b: int = 2, n: int = 16, **values: Any) -> Subject:
        return made(values, b, n)

    def build_sound(b: int = 2, n: int = 4000, **values: Any) -> Subject:
        return made(values, b, n)

    def build_series(b: int = 2, n: int = 128, **values: Any) -> Subject:
        return made(values, b, n)

    def build_speech(b: int = 2, n: int = 4000, m: int = 12, **values: Any) -> Subject:
        return made(values, b, n, m)

    def build_pair(b: int = 2, n: int = 16, m: int = 12, **values: Any) -> Subject:
        return made(values, b, n, m)

    def build_from_features(b: int = 2, m: int = 12, **values: Any) -> Subject:
        return made(values, b, 0, m)

    build: Callable[..., Subject]
    kind = model_class(base)
    main = main_input(base, kind)
    if writes(base, kind):
        pairs: dict[str, Callable[..., Subject]] = {
            "input_features": build_from_features,
            "pixel_values": build_from_features,
            "input_values": build_speech,
        }
        build = pairs.get(main, build_pair)
    else:
        alone: dict[str, Callable[..., Subject]] = {
            "pixel_values": build_image,
            "input_values": build_sound,
        }
        alone |= dict.fromkeys(("input_features", "past_values", "hidden_states"), build_series)
        build = alone.get(main, build_sequence)
    return Builder(build, name=f"hf:{text}", arguments=arguments, sizes=sizes)


def _configuration(text: str, arguments: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Find a configuration, and the values that are written down for it.

    Args:
        text: The type, or the path of a file.
        arguments: Values that will replace the defaults: a pair of models has none for its parts.

    Returns:
        The configuration; and of its values those of a file, none where a type's own are taken.

    Raises:
        UsageError: If transformers is not installed, or knows no such type, or the type needs parts
            that are not given.
    """
    # a configuration never needs the network; without this a typo waits for a time-out
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # do images and their markers agree? That looks at values, and there may be none
    os.environ.setdefault("TRANSFORMERS_DISABLE_TORCH_CHECK", "1")
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
    try:
        return types[text](), {}
    except Exception as error:
        parts: dict[str, Any] = {k: v for k, v in arguments.items() if isinstance(v, Mapping)}
        try:
            return types[text](**copy.deepcopy(parts)), {}
        except Exception:
            raise UsageError(
                "target",
                f"hf:{text}",
                f"the configurations of its parts, but: {error}",
                'Give each, as in -a \'decoder={"model_type": "gpt2"}\', or write a config.json.',
            ) from error


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
    changed = {name: value for name, value in values.items() if name not in _SIZES}
    if not changed:
        return copy.deepcopy(base)
    return type(base).from_dict({**_independent(base, written), **_merged(base, changed)})


def _merged(base: Any, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The changes, where a configuration inside keeps what is not mentioned."""
    merged = dict(changed)
    for name, value in changed.items():
        inner = vars(base).get(name)
        kind = getattr(inner, "model_type", "")
        if (
            isinstance(value, Mapping)
            and value.get("model_type", kind) == kind
            and hasattr(inner, "to_dict")
        ):
            told = {"model_type": kind} if kind else {}
            own = _independent(inner, differing(inner))
            merged[name] = {**own, **told, **_merged(inner, value)}
    return merged


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


def _subject(config: Any, *, b: int, n: int, m: int, h: int = 0) -> Subject:
    complete_(config)
    model = model_class(config)(config)
    text = Given(model, config).text
    if hasattr(text, "use_cache"):
        text.use_cache = False  # a cache is for generation; it would count as output
    # it is asked for features, perhaps without data, and may remember them
    with fresh_caches(model):
        kwargs = example_inputs(model, config, Sizes(b, n, m, h))
    return Subject(model, (), kwargs, loss=_cross_entropy if _has_classes(model, kwargs) else None)


def model_class(config: Any) -> Any:
    """The class that the configuration names, else the one of the task the type is trained on."""
    import transformers

    for name in getattr(config, "architectures", None) or ():
        if hasattr(transformers, name):
            return getattr(transformers, name)
    heads = _DECODERS if getattr(config, "is_decoder", False) else _HEADS
    for head in heads:
        auto = getattr(transformers, head, None)  # every release has some that others have not
        mapping = {} if auto is None else auto._model_mapping
        if type(config) not in mapping:
            continue
        found = mapping[type(config)]
        found = found[0] if isinstance(found, tuple | list) else found
        if _fits(config, head, found):
            return found
    own = _own_class(config, transformers)
    if own is not None:
        return own
    raise UsageError(
        "target",
        verbatim(f"hf:{config.model_type}"),
        "a model type with a model of its own",
        "Write a builder that returns (model, inputs).",
    )


def _own_class(config: Any, transformers: Any) -> Any:
    """The model of a type that no task lists: a tower or a decoder of a larger one."""
    place = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        module = importlib.import_module(place)
    except ImportError:
        return None
    base = transformers.PreTrainedModel
    found = [
        thing
        for name, thing in vars(module).items()
        if isinstance(thing, type) and issubclass(thing, base)
        if getattr(thing, "config_class", None) is type(config)
        if not name.endswith("PreTrainedModel")
    ]
    return found[-1] if found else None  # heads are defined after what they stand on


def _fits(config: Any, head: str, found: Any) -> bool:
    """Whether the head is one for this configuration: no cross-attention without an encoder."""
    reads = getattr(found, "config_class", None)
    if any(type(part) is reads for part in vars(config).values()):  # it is a part's, as the text's
        return False
    if "ImageClassification" in head:  # CLIP and its like have a text tower beside the image's
        return not hasattr(config, "text_config")
    if "CTC" in head:  # its letters come from a file, and may be missing
        return getattr(config, "vocab_size", None) is not None
    return "Seq2Seq" not in head or bool(getattr(config, "is_encoder_decoder", False))


def _has_classes(model: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether the last dimension of its logits are tokens or classes."""
    if any(task in type(model).__name__ for task in _CLASSIFIERS):
        return True
    written = any(name in kwargs for name in ("input_ids", "decoder_input_ids"))
    return written and getattr(model, "get_output_embeddings", lambda: None)() is not None


def _cross_entropy(output: Any) -> torch.Tensor:
    """Against uniformly drawn tokens or classes: the loss at the start of training, `ln classes`."""
    # some classifiers say nothing of it, and have theirs where others have the last hidden state
    logits = output.logits if hasattr(output, "logits") else output.last_hidden_state
    labels = torch.arange(logits.shape[-2], device=logits.device) * 31 % logits.shape[-1]
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.expand(logits.shape[:-1]).flatten()
    )
