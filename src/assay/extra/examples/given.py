"""What an example input is made from: a model, its configuration, and sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# where an image's and a sound's sizes are told, in configurations inside a configuration
SEEING = ("vision_config", "backbone_config", "encoder", "image_config", "vit_config")
LISTENING = (
    "audio_config",
    "encoder_config",
    "encoder",
    "speech_config",
    "audio_encoder_config",
    "semantic_model_config",
)


@dataclass(frozen=True)
class Sizes:
    """How large inputs are.

    Args:
        b: Rows.
        n: Tokens, samples or frames that go in; 0 where the configuration says how many.
        m: Tokens that come out.
        h: The side of images; 0 where the configuration says it.
    """

    b: int = 1
    n: int = 0
    m: int = 0
    h: int = 0


@dataclass(frozen=True)
class Given:
    """A model, its configuration, and the sizes of what it is to be given.

    Args:
        model: The model, or None where only its configuration matters.
        config: The configuration.
        at: The sizes.
    """

    model: Any
    config: Any
    at: Sizes = Sizes()

    @property
    def text(self) -> Any:
        """The configuration of what reads tokens, or of what writes them."""
        return self._with_tokens(("text_config", "decoder", "decoder_config", "generator"))

    @property
    def source(self) -> Any:
        """The configuration of what reads the tokens that go in, where others come out."""
        encoders = ("text_encoder", "encoder", "encoder_config", "question_encoder")
        return self._with_tokens((*encoders, "text_config", "decoder", "decoder_config"))

    def _with_tokens(self, parts: tuple[str, ...]) -> Any:
        for name in parts:
            inner = getattr(self.config, name, None)
            if hasattr(inner, "vocab_size"):
                return inner
        config = self.config
        return config.get_text_config() if hasattr(config, "get_text_config") else config

    @property
    def reads(self) -> bool:
        """Whether it reads tokens."""
        return hasattr(self.text, "vocab_size")

    @property
    def main(self) -> str:
        """The name of the parameter that is as long as `n`."""
        return main_input(self.config, type(self.model))

    @property
    def kind(self) -> str:
        """The model type."""
        return str(self.config.model_type)

    def takes(self, *names: str) -> bool:
        """Whether the model's forward has a parameter of one of these names."""
        parameters = inspect.signature(self.model.forward).parameters
        return any(name in parameters for name in names)

    def of(self, names: tuple[str, ...], default: Any, parts: tuple[str, ...] = ()) -> Any:
        """The first of some values that a configuration inside has, or else the configuration.

        Args:
            names: Names of the value.
            default: What it is where there is none.
            parts: Names of configurations inside.

        Returns:
            The value.
        """
        places = [self.config, *(getattr(self.config, part, None) for part in parts)]
        for place in reversed([p for p in places if p is not None]):
            for name in names:
                value = getattr(place, name, None)
                if value is not None:
                    return value
        return default


def parts(config: Any) -> Iterator[Any]:
    """A configuration and those inside it.

    Args:
        config: A configuration.

    Yields:
        Those inside first.
    """
    for part in vars(config).values():
        if hasattr(part, "to_dict"):
            yield from parts(part)
    yield config


def complete_(config: Any) -> None:
    """Fill in what a configuration leaves open and its model cannot do without.

    Args:
        config: A configuration; those inside it are filled in too.
    """
    for part in parts(config):
        for name, follows in _LEFT_OPEN.items():
            if name in vars(part) and vars(part)[name] is None:
                setattr(part, name, follows(part))


def _last_token(config: Any) -> int:
    return int(Given(None, config).text.vocab_size) - 1


_MARKERS = [
    f"{kind}_token_{end}" for kind in ("image", "video", "audio") for end in ("id", "index")
]
_LEFT_OPEN: Mapping[str, Callable[[Any], Any]] = {
    "head_dim": lambda config: config.hidden_size // config.num_attention_heads,
    "default_language": lambda config: config.languages[0],
} | dict.fromkeys(_MARKERS, _last_token)


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
    told = "input_ids" in takes or "classes_input_ids" in takes
    if told and main == "pixel_values" and Given(None, config).reads:
        return "input_ids"
    if main in takes and main not in ("pixel_values_videos", "inputs"):
        return main
    if any(name in takes for name in ("pixel_values", "pixel_values_videos", "grid_thw")):
        return "pixel_values"
    heard = [name for name in ("input_values", "input_features") if name in takes]
    return heard[0] if heard else "input_ids"


def writes(config: Any, model_class: Any) -> bool:
    """Whether it reads one sequence and writes another.

    Args:
        config: A configuration.
        model_class: The class of its model.

    Returns:
        Detectors have a decoder too, but it is not given tokens.
    """
    takes = inspect.signature(model_class.forward).parameters
    return bool(getattr(config, "is_encoder_decoder", False)) and "decoder_input_ids" in takes


def differing(config: Any) -> dict[str, Any]:
    """The values of a configuration that its type does not have by itself.

    Args:
        config: A configuration.

    Returns:
        What makes the same configuration from the type's own.
    """
    own = type(config)().to_dict()
    return {k: v for k, v in config.to_dict().items() if k not in own or own[k] != v}
