"""Functions that remember their results remember nothing from one pass to the next.

A table of positions under `functools.lru_cache` is computed once for each size. Then the second pass at a
size costs less than the first, and what it remembers are tensors without data, which would come back in
the user's next real run.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import CellType, FunctionType
from typing import Any

from torch import nn

_Cached = functools._lru_cache_wrapper
# and no subclass of these: its copies may be something else
_HOLDERS = (dict, set, OrderedDict, defaultdict)


@contextmanager
def fresh_caches(model: nn.Module) -> Iterator[None]:
    """Give every cached function around a model an empty cache of its own, and the old ones back on exit.

    Looked at are the modules that define the classes of the model, and these classes; not torch's. A
    decorator of one's own keeps the cached function in its closure: that is looked into as well. Dictionaries
    and sets of these modules and classes, which may be caches too, are on exit as they were.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    classes = {base for module in model.modules() for base in type(module).__mro__}
    own = [c for c in classes if c.__module__.partition(".")[0] not in ("torch", "builtins")]
    files = {id(f): f for c in own if (f := sys.modules.get(c.__module__)) is not None}
    made: dict[int, Any] = {}  # a function that two files import keeps one cache
    with ExitStack() as before:
        for owner in (*files.values(), *own):
            for name, value in list(vars(owner).items()):
                function = value.__func__ if isinstance(value, staticmethod) else value
                if isinstance(function, _Cached):
                    fresh = made.setdefault(id(function), _emptied(function))
                    setattr(owner, name, fresh if function is value else staticmethod(fresh))
                    before.callback(setattr, owner, name, value)
                elif type(value) in _HOLDERS and not name.startswith("__"):
                    before.callback(_put_back, value, value.copy())
                elif isinstance(function, FunctionType):
                    for cell, cached in _enclosed(function):
                        cell.cell_contents = made.setdefault(id(cached), _emptied(cached))
                        before.callback(setattr, cell, "cell_contents", cached)
        yield


def _put_back(held: Any, kept: Any) -> None:
    """What a dictionary or set held before, in the same object."""
    same = len(held) == len(kept)
    if same and isinstance(held, dict):
        same = all(held.get(key) is value for key, value in kept.items())
    if not same:
        held.clear()
        held.update(kept)


def _enclosed(function: FunctionType) -> Iterator[tuple[CellType, Any]]:
    """The cells of a function's closure that hold a cached function, each with that function."""
    for cell in function.__closure__ or ():
        try:
            if isinstance(cell.cell_contents, _Cached):
                yield cell, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _emptied(function: Any) -> Any:
    """The same function with an empty cache of the same kind."""
    return functools.lru_cache(**function.cache_parameters())(function.__wrapped__)
