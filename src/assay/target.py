"""From text to something measurable: `path/file.py:name`, `pkg.module:name`, `hf:TYPE`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from assay.builder import Builder, as_builder
from assay.errors import UsageError
from assay.place import import_place, split_target
from assay.subject import Subject


def load(
    target: str,
    *,
    arguments: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Builder:
    """Find the builder that `target` names.

    Args:
        target: `path/file.py:name`, `package.module:name`, `hf:TYPE` or `hf:path/to/config.json`.
        arguments: Values for the builder's parameters that are not sizes.
        sizes: Values that replace the defaults of its sizes.

    Returns:
        The builder; nothing is built yet.

    Raises:
        UsageError: If the file, the module or the name does not exist, or is not a builder.
        UserCodeError: If importing the user's file raises.

    Example:
        >>> load("torch.nn:Identity").name
        'torch.nn:Identity'
    """
    place, name = split_target(target)
    if place == "hf":
        from assay.extra.transformers import from_config

        return from_config(name, arguments=arguments, sizes=sizes)
    found: Any = import_place(place, target)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            expected, remedy = _no_such_name(part, found)
            raise UsageError("target", target, expected, remedy) from None
    if not callable(found) and not isinstance(found, Subject | nn.Module | tuple):
        raise UsageError(
            "target",
            target,
            f"a builder, but `{name}` is of type {type(found).__name__}",
            "Name a function or class that returns a module, or (model, inputs).",
        )
    builder = as_builder(found)
    return Builder(
        builder if isinstance(found, Builder) else found,
        name=target,
        arguments=arguments,
        sizes=sizes,
    )


def _no_such_name(name: str, place: Any) -> tuple[str, str]:
    names = builders_in(place) if isinstance(place, ModuleType) else []
    close = difflib.get_close_matches(name, names or dir(place), n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    have = f"It has {', '.join(names[:8])}." if names else "It has no builders."
    return f"a name that exists, but there is no {name!r}", hint + have


def builders_in(module: ModuleType) -> list[str]:
    """Names in `module` that could be targets: its own public functions and module classes.

    Args:
        module: An imported module.

    Returns:
        The names, in the order of definition.
    """
    found = []
    for name, value in vars(module).items():
        home = str(getattr(value, "__module__", ""))
        own = home == module.__name__ or home.startswith(module.__name__ + ".")
        if name.startswith("_"):
            continue
        if isinstance(value, Builder | Subject | nn.Module) or (own and _may_build(value)):
            found.append(name)
    return found


def _may_build(value: Any) -> bool:
    """Whether integers alone are enough to call `value`, and it is not a class of something else."""
    if isinstance(value, type) and not issubclass(value, nn.Module):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(
        p.default is not p.empty
        or p.annotation in (int, "int")
        or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        for p in parameters
    )
