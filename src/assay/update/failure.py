"""An optimizer that could not take part in a comparison, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from assay.errors import AssayError, UserCodeError
from assay.update.optimizer import is_refusal


@dataclass(frozen=True)
class Failure:
    """Why one optimizer is not compared.

    Args:
        name: The optimizer.
        why: The reason, in a phrase.
        traceback: Of the user's own code, where that raised; else "".
        remedy: What to do about this reason, as a sentence.
        still: Whether it stepped, and moved nothing.
    """

    name: str
    why: str
    traceback: str = ""
    remedy: str = ""
    still: bool = False

    @classmethod
    def of(cls, name: str, error: AssayError) -> Failure:
        """The failure that an error tells of.

        Args:
            name: The optimizer.
            error: What was raised.

        Returns:
            The failure; without a traceback where torch refused, because the line in torch helps nobody.
        """
        if not isinstance(error, UserCodeError):
            return cls(name, str(error))
        why = f"{type(error.error).__name__}: {error.error}"
        remedy = "Run it alone on this model."
        if error.argument == "make_optimizer":
            remedy += (
                " One for only some parameters needs a function of the model that hands it these."
            )
        return cls(name, why, "" if is_refusal(error.error) else error.user_traceback(), remedy)

    @classmethod
    def unusable(cls, name: str, finite: bool, narrow: torch.dtype | None) -> Failure:
        """The failure of a step that has no direction.

        Args:
            name: The optimizer.
            finite: Whether the step is finite: then it is zero.
            narrow: The precision of weights of 16 bits, if there are any.

        Returns:
            The failure.
        """
        why = "its step is zero" if finite else "its step is not finite"
        if narrow is None:
            return cls(
                name,
                why,
                remedy="Run it alone on this model: look at its lr and its state.",
                still=finite,
            )
        kind = str(narrow).removeprefix("torch.")
        return cls(
            name,
            why,
            remedy=f"Measure the model in float32: in {kind} squares of gradients overflow, and they and a "
            "small ε vanish.",
            still=finite,
        )
