"""Where a target lives: its file or module, found and imported. Needs no torch, so it answers at once."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from assay.errors import RAISED, UsageError, UserCodeError

_FORMS = "path/file.py:name, package.module:name, or hf:TYPE"
_PLACES = "path/file.py, package.module, or a whole target"


def split_target(target: str) -> tuple[str, str]:
    """Split `place:name`, and refuse what cannot be a target before anything slow is imported.

    Args:
        target: As in `examples/g2p.py:attention`.

    Returns:
        Place and name.

    Raises:
        UsageError: If the form is wrong, or a named file does not exist.

    Example:
        >>> split_target("torch.nn:Linear")
        ('torch.nn', 'Linear')
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(
            "target", target, _FORMS, "Write, for example, `examples/g2p.py:attention`."
        )
    if place != "hf":
        _check_place(place, target)
    return place, name


def _check_place(place: str, target: str, what: str = "target") -> None:
    if _is_file(place):
        path = Path(place)
        if path.is_dir():
            inside = next(iter(sorted(path.glob("*.py"))), path / "net.py")
            hint = f"Name one in it, as in {inside}:NAME."
            raise UsageError(what, target, f"a file, but {place!r} is a folder", hint)
        if not path.is_file():
            beside = (
                sorted(p.name for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
            )
            close = difflib.get_close_matches(path.name, beside, n=1)
            hint = f"Did you mean {path.parent / close[0]}?" if close else "Check the path."
            raise UsageError(what, target, f"a file, but {place!r} does not exist", hint)
    elif not all(part.isidentifier() for part in place.split(".")):
        forms = _FORMS if ":" in target else _PLACES
        raise UsageError(what, target, forms, "A module name is identifiers joined by dots.")


def _is_file(place: str) -> bool:
    return place.endswith(".py") or "/" in place or "\\" in place


def import_place(place: str, target: str, what: str = "target") -> ModuleType:
    """Import a file or a module, keeping apart "does not exist" and "raised while importing".

    Args:
        place: A path ending in `.py`, or a dotted module name.
        target: The whole target, for messages.
        what: What the user calls it.

    Returns:
        The module.

    Raises:
        UsageError: If it does not exist.
        UserCodeError: If it exists and raises.
    """
    _check_place(place, target, what)
    if _is_file(place):
        return _import_file(Path(place), target)
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(
            0, str(Path.cwd())
        )  # as `python -m` does: modules beside the user are found
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        # the module itself (or a parent) is missing, as opposed to something that it imports
        if error.name and (place == error.name or place.startswith(error.name + ".")):
            raise UsageError(
                what,
                target,
                f"an importable module, but there is no module named {error.name!r}",
                "Check the spelling and the environment, or give a path ending in .py.",
            ) from None
        raise UserCodeError("module", place, error) from error
    except RAISED as error:
        raise UserCodeError("module", place, error) from error


def _import_file(path: Path, target: str) -> ModuleType:
    resolved = path.resolve()
    name = f"_assay_target_{resolved.stem}_{abs(hash(str(resolved))):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise UsageError("target", target, "a Python file (.py)", "Rename it, or name a module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = (
        module  # before execution: dataclasses and pickling look a class's module up
    )
    folder = str(resolved.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python file.py` does: siblings can be imported
    try:
        spec.loader.exec_module(module)
    except RAISED as error:
        del sys.modules[name]
        if isinstance(error, ImportError) and "no known parent package" in str(error):
            return _import_with_package(resolved, path)
        raise UserCodeError("file", str(path), error) from error
    return module


def _import_with_package(file: Path, path: Path) -> ModuleType:
    """The module of a file that imports its neighbours relatively, as `from .layers import Layer`."""
    top = file.parent
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    sys.path.insert(0, str(top.parent))
    try:
        return importlib.import_module(".".join(file.relative_to(top.parent).with_suffix("").parts))
    except RAISED as error:
        raise UserCodeError("file", str(path), error) from error
