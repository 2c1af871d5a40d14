"""An optimizer that could not take part in a comparison, and why."""

from __future__ import annotations

from dataclasses import dataclass

from assay.errors import AssayError, UserCodeError
from assay.update.optimizer import is_refusal


@dataclass(frozen=True)
class Failure:
    """Why one optimizer is not compared.

    Args:
        name: The optimizer.
        why: The reason, in a phrase.
        traceback: Of the user's own code, where that raised; else "".
    """

    name: str
    why: str
    traceback: str = ""

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
        return cls(name, why, "" if is_refusal(error.error) else error.user_traceback())
