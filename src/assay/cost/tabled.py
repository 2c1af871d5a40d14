"""Tables that a size is looked up in: their keys are what it is compared with."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import FrameType
from typing import Any

import numpy as np

from assay.cost.notes import asking, note

_OF_NUMPY = (np.integer, np.floating)
_LISTED = 64  # keys of a table that are looked at; a longer one is data


def looked_up(number: float, frame: FrameType) -> None:
    """A size is hashed: keys of the dictionaries and sets at hand are what it is compared with.

    Args:
        number: The size, or what was computed from it.
        frame: The code that looks it up.
    """
    user = asking(frame)
    if user is None:
        return
    names, local = user.f_code.co_names, [*user.f_locals.values()]
    named = [user.f_globals.get(name) for name in names]
    at_hand = [*local, *user.f_code.co_consts, *named]
    at_hand += [
        getattr(holder, "__dict__", {}).get(name)
        for owner in (*local, *named)
        for holder in (owner, *type(owner).__mro__)  # a table may stand in a class
        for name in names
    ]
    for held in at_hand:
        # a tuple among the constants may be the keys of a dictionary that is spelled out, a number the one
        # key of another
        for key in keys(held) if isinstance(held, Mapping | AbstractSet | tuple) else (held,):
            if is_number(key):
                note(number - key, user, key)


def keys(table: Any) -> Iterator[Any]:
    """The keys of a table, or what is in a set or a list; of pairs their parts.

    Args:
        table: A dictionary, a set, a list, a tuple, a range.

    Yields:
        The keys; none of a table that is so long that it must be data.
    """
    if isinstance(table, range):
        yield from (table if len(table) <= _LISTED else (*table[:2], table[-1]))
        yield table.start + len(table) * table.step
    elif isinstance(table, Mapping | AbstractSet | Sequence) and len(table) <= _LISTED:
        for key in [*table]:
            yield from key if isinstance(key, tuple) else (key,)


def is_number(value: Hashable) -> bool:
    """Whether something is a number that can be compared with a size: no truth value."""
    kind = type(value)
    return kind is int or kind is float or issubclass(kind, _OF_NUMPY)
