"""Models in files: arrays, and a little JSON; nothing in them is run when they are read."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from assay.errors import UsageError, verbatim
from assay.online.features import Names
from assay.online.state import State

FORMAT = 2
_NUMBERS = {"loss": int, "level": float, "keep": float, "centred": bool}


class Saved:
    """`save` and `load` for a model with `_state`."""

    def save(self, path: str | Path) -> None:
        """Write the model to a file, from which `load` has it back bit by bit.

        Args:
            path: The file, by custom with the suffix ".npz".

        Raises:
            UsageError: If nothing was learnt yet, or labels are neither numbers nor texts.
        """
        state: State | None = getattr(self, "_state", None)
        if state is None:
            raise UsageError("model", verbatim("not fitted"), "a fitted model", "Call fit first.")
        arrays = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in _NUMBERS}
        header: dict[str, Any] = {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": self.get_params(),  # type: ignore[attr-defined]
            "features": self.n_features_in_,  # type: ignore[attr-defined]
            "numbers": {name: kind(getattr(state, name)) for name, kind in _NUMBERS.items()},
        }
        names: Names | None = getattr(self, "_names", None)
        if names is not None:
            header["names"] = {"bits": names.bits, "columns": list(names.index)}
        if hasattr(self, "feature_names_in_"):
            header["feature_names"] = list(self.feature_names_in_)
        if hasattr(self, "classes_"):
            header["fixed"] = bool(getattr(self, "_fixed", False))
            if self.classes_.dtype.kind == "O":
                header["classes"] = self.classes_.tolist()
            else:
                arrays["classes"] = self.classes_
        try:
            arrays["header"] = np.array(json.dumps(header))
        except TypeError as error:
            raise UsageError(
                "model", verbatim(str(error)), "labels that are numbers or texts", "Use such."
            ) from error
        with Path(path).open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save` wrote.

        Args:
            path: The file.

        Returns:
            A model that goes on where the other stood.

        Raises:
            UsageError: If the file holds something else.
        """
        try:
            with np.load(Path(path), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            header = json.loads(str(arrays.pop("header")))
            if header["class"] != cls.__name__ or header["format"] != FORMAT:
                raise UsageError(
                    "path", str(path), f"a saved {cls.__name__}", f"It is a {header['class']}."
                )
            model = cls(**header["parameters"])
            found = arrays.pop("classes", None)
            state = State(**arrays, **header["numbers"])
        except UsageError:
            raise
        except Exception as error:  # whatever a file that is none of ours may bring
            raise UsageError(
                "path",
                str(path),
                f"a file that {cls.__name__}.save wrote",
                f"Check the path ({error}).",
            ) from error
        _restore(model, state, header, found)
        return model


def _restore(model: Any, state: State, header: dict[str, Any], found: Any) -> None:
    model._state = state
    model.n_features_in_ = header["features"]
    model._names = None
    if "names" in header:
        model._names = Names(header["names"]["bits"])
        model._names.index = {name: at for at, name in enumerate(header["names"]["columns"])}
    if "feature_names" in header:
        model.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    if "fixed" in header:
        model._fixed = header["fixed"]
        model._know(np.array(header["classes"], dtype=object) if found is None else found)
