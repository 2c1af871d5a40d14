"""A builder: a callable with named integer sizes that returns something measurable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assay.errors import RAISED, AssayError, CannotMeasure, UsageError, UserCodeError, verbatim
from assay.subject import Subject
from assay.where import Location


class Builder:
    """Turns sizes into a `Subject`: `build(b=2, n=3)`.

    A size is a parameter with an integer default, or annotated `int`. All other parameters are arguments.

    Args:
        function: Any callable that returns a Subject, a module, `(model, inputs)` or
            `(model, inputs, loss)`; or one of these values itself, which then has no sizes.
        name: What to call it in reports; by default the function's own name.
        arguments: Values for parameters that are not sizes.
        sizes: Values that replace the defaults of sizes.

    Raises:
        UsageError: If `function` is not measurable, or a name or value does not fit its signature.

    Example:
        >>> import torch
        >>> def mlp(b: int = 2, d: int = 8, *, act="relu"):
        ...     return nn.Linear(d, d), torch.ones(b, d)
        >>> build = Builder(mlp)
        >>> build.sizes
        {'b': 2, 'd': 8}
        >>> build(d=3).inputs[0].shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        function: Any,
        *,
        name: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(function, Subject | nn.Module | tuple):
            self.function: Callable[..., Any] = lambda: function
            model = (
                function[0] if isinstance(function, tuple) else getattr(function, "model", function)
            )
            self.name: str = name or type(model).__name__
            self.where: Location | None = None
            self.shared_model = True
        elif callable(function):
            self.function = function
            self.name = name or str(getattr(function, "__name__", type(function).__name__))
            self.where = _location(function)
            self.shared_model = False
        else:
            raise UsageError(
                "target",
                function,
                "a callable, a module, a Subject or (model, inputs)",
                "Name a function that returns (model, inputs).",
            )
        self._parameters = _signature(self.function)
        self._open = any(p.kind is p.VAR_KEYWORD for p in self._parameters.values())
        self.arguments: dict[str, Any] = {}
        self.sizes: dict[str, int] = {
            p.name: _plain(p.default) for p in self._parameters.values() if _is_integer(p.default)
        }
        self._required = [
            p.name
            for p in self._parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        ]
        for size, value in (sizes or {}).items():
            self.sizes[size] = self._checked_size(size, value)
        for argument, given in (arguments or {}).items():
            self._check_name(argument, "argument")
            self.arguments[argument] = self._as_default(argument, given)
            self.sizes.pop(argument, None)

    def __repr__(self) -> str:
        return f"Builder({self.name}, sizes={self.sizes})"

    def with_(
        self, sizes: Mapping[str, int] | None = None, arguments: Mapping[str, Any] | None = None
    ) -> Builder:
        """The same builder with other defaults.

        Args:
            sizes: Sizes to replace.
            arguments: Other arguments to fix.

        Returns:
            A new builder.
        """
        return Builder(
            self.function() if self.shared_model else self.function,
            name=self.name,
            arguments={**self.arguments, **(arguments or {})},
            sizes={**self.sizes, **(sizes or {})},
        )

    def __call__(self, /, **sizes: int) -> Subject:
        """Build the subject at these sizes; sizes not named keep their defaults.

        Returns:
            The subject.

        Raises:
            UsageError: If a size is unknown, not an integer, below 1, or missing, or what
                the function returns is nothing measurable.
            UserCodeError: If the user's function raises; the cause is their exception.
            CannotMeasure: If it returns parameters that have no values yet.
            AssayError: If the builder itself raises one; it is passed on as it is.
        """
        checked = {name: self._checked_size(name, value) for name, value in sizes.items()}
        values = {**self.sizes, **self.arguments, **checked}
        missing = [name for name in self._required if name not in values]
        if missing:
            annotation = self._parameters[missing[0]].annotation
            raise UsageError(
                "size" if annotation in (int, "int") else "argument",
                verbatim(f"{missing[0]} not given"),
                f"a value for `{missing[0]}`, which {self.name} needs",
                f"Give --size {missing[0]}=… (an integer), -a {missing[0]}=…, or a default.",
            )
        try:
            made = self.function(**values)
        except AssayError:
            raise
        except RAISED as error:
            raise UserCodeError("builder", self.name, error) from error
        subject = self._as_subject(made)
        if any(is_lazy(p) for p in subject.model.parameters()):
            raise CannotMeasure(
                "model",
                verbatim("parameters of a lazy module that has not run"),
                "weights with values",
                "Run the model once in the builder, as in `model(*inputs)`, before it is returned.",
            )
        if any(p.is_inference() for p in subject.model.parameters()):
            raise CannotMeasure(
                "model",
                verbatim("parameters that were made in inference mode"),
                "weights that can require a gradient",
                "Build the model outside torch.inference_mode().",
            )
        return subject

    def _as_subject(self, made: Any) -> Subject:
        if isinstance(made, Subject):
            return made
        if isinstance(made, nn.Module):
            return Subject(made, _own_inputs(made))
        if isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module):
            return Subject(made[0], made[1], loss=made[2] if len(made) == 3 else None)
        what, remedy = type(made).__name__, "Return the module first."
        if isinstance(made, tuple) and made and isinstance(made[0], nn.Module):
            what = f"a tuple of {len(made)}"
            remedy = "Bind the targets: return (model, inputs, lambda output: criterion(output, targets))."
        raise UsageError(
            "builder",
            verbatim(f"{self.name} returned {what}"),
            "a Subject, a module, (model, inputs) or (model, inputs, loss)",
            remedy,
        )

    def _check_name(self, name: str, kind: str) -> None:
        if name not in self._parameters and not self._open:
            known = ", ".join(self._parameters) or "none"
            raise UsageError(
                kind, name, f"a parameter of {self.name} ({known})", "Check the spelling."
            )

    def _as_default(self, name: str, value: Any) -> Any:
        """The value, of its default's kind: text where a number belongs is a slip of the command line.

        `true` and `false` are text in Python, and text is true; `3,4` is a tuple, also where a list belongs.

        Returns:
            The value; a tuple as a list where the default is one.

        Raises:
            UsageError: If it is text, and the parameter takes none.
        """
        if name not in self._parameters:
            return value
        default, annotation = self._parameters[name].default, self._parameters[name].annotation
        known = default is not None and default is not inspect.Parameter.empty
        kind = type(default).__name__ if known else getattr(annotation, "__name__", annotation)
        if isinstance(value, tuple) and kind == "list":
            return list(value)
        text = str(value).capitalize()
        if not isinstance(value, str) or kind not in _NO_TEXT or "str" in str(annotation):
            return value
        if kind == "int" and text not in ("True", "False"):  # as in padding="same"
            return value
        remedy = (
            f"Write {text}." if kind == "bool" and text in ("True", "False") else _NO_TEXT[kind]
        )
        expected = f"a value like its default, {default}" if known else f"a value of type {kind}"
        raise UsageError(f"argument {name}", value, expected, remedy)

    def _checked_size(self, name: str, value: Any) -> int:
        self._check_name(name, "size")
        if not _is_integer(value) or value < 1:
            raise UsageError(
                f"size {name}",
                value,
                "an integer of at least 1",
                f"Give --size {name}=2, say, or hold it with -a {name}={value}"
                f" (in Python: Builder(…, arguments={{{name!r}: {value}}})).",
            )
        return _plain(value)


_NO_TEXT = {
    "bool": "Give True or False.",
    "int": "Give a number.",
    "float": "Give a number.",
    "list": "Give, for example, 3,4 or [3].",
    "tuple": "Give, for example, 3,4 or (3,).",
    "dict": 'Give, for example, {"name": 3}.',
}


def as_builder(build: Any) -> Builder:
    """Take a Builder, a callable, a module, a Subject or a tuple.

    Returns:
        A builder for it.
    """
    return build if isinstance(build, Builder) else Builder(build)


def _is_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _plain(value: Any) -> int:
    """The integer itself, of one of numpy's; one that notes what it is compared with stays as it is."""
    return value if isinstance(value, int) else int(value)


def _signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins without a signature: nothing to name
        return {}


def _location(function: Any) -> Location | None:
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        line = inspect.getsourcelines(inspect.unwrap(function))[1]
    except (TypeError, OSError):
        return None
    return Location(str(Path(file)), line, getattr(function, "__name__", "")) if file else None


def _own_inputs(model: nn.Module) -> Any:
    """Inputs that a bare module brings along, by the conventions of Lightning and transformers."""
    for name in ("example_inputs", "example_input_array", "dummy_inputs"):
        value = getattr(model, name, None)
        if isinstance(value, Tensor | tuple | Mapping):
            return value
    return ()
