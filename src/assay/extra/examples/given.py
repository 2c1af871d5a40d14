"""What an example input is made from: a model, its configuration, and sizes."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

# where an image's and a sound's sizes are told, in configurations inside a configuration
SEEING = ("vision_config", "backbone_config", "encoder", "image_config", "vit_config")
LISTENING = ("audio_config", "encoder_config", "encoder", "speech_config", "audio_encoder_config")


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
        """The configuration of what reads tokens."""
        for name in ("text_config", "decoder", "decoder_config"):
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
    if "input_ids" in takes and main == "pixel_values" and Given(None, config).reads:
        return "input_ids"
    if main in takes and main != "pixel_values_videos":
        return main
    for name in ("pixel_values", "pixel_values_videos", "grid_thw", "input_features"):
        if name in takes:
            return "input_features" if name == "input_features" else "pixel_values"
    return "input_ids"


def differing(config: Any) -> dict[str, Any]:
    """The values of a configuration that its type does not have by itself.

    Args:
        config: A configuration.

    Returns:
        What makes the same configuration from the type's own.
    """
    own = type(config)().to_dict()
    return {k: v for k, v in config.to_dict().items() if k not in own or own[k] != v}
