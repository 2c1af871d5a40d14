"""Integers that the user's own code compares sizes with: where a cost may turn from one law to another.

A branch `if n > 64` cannot be seen from counts at small sizes. But the 64 stands in the code that runs, or
in an attribute of a module that it belongs to, so that is where to look.
"""

from __future__ import annotations

import dis
from collections.abc import Container, Iterable, Iterator
from types import CodeType
from typing import Any

from torch import nn

from assay.cost.code import Code, is_integer, is_record, nested

_LARGEST = 1 << 16
_ATTRIBUTES = 6  # at most so many integers from modules: widths and vocabularies are among them
_LISTED = 16  # integers in a list of buckets; a longer one is data
_BOUNDING = {"min", "max", "range", "divmod", "islice", "arange", "clamp", "clip", "narrow", "topk"}
_BOUNDING |= {"split", "chunk", "tensor_split", "unfold", "pad", "deque"}


def constants(code: Code, model: nn.Module) -> set[int]:
    """The integers that a model's code compares with, divides by, or bounds something by.

    Args:
        code: The user's functions.
        model: The model: attributes of its modules are compared with by name.

    Returns:
        The integers.
    """
    compared = {c for f in code.functions for part in nested(f.__code__) for c in _compared(part)}
    names = {c for c in compared if isinstance(c, str)}  # of attributes that are compared with
    holders = [m for m in model.modules() if not type(m).__module__.startswith("torch.")]
    # a configuration is held by every layer; many ask for its attributes by code of their own
    held = {id(v): v for module in holders for v in vars(module).values()}
    records = [*code.records, *filter(is_record, held.values())]
    found = {c for c in compared if not isinstance(c, str)} | code.integers
    return found | _steady((h, n, vars(h).get(n)) for h in (*holders, *records) for n in names)


def thresholds(
    found: set[int], holders: Iterable[nn.Module], above: int, base: Container[int] = ()
) -> list[int]:
    """Sizes at which a cost may turn, smallest first: where to look twice.

    Args:
        found: What `constants` found.
        holders: Modules; integer attributes of those of the user's own classes count too.
        above: Only integers above this are looked at.
        base: Values of the sizes in use: an attribute of one of these is likely that size.

    Returns:
        Sizes just there, and just above.
    """
    code = {c for c in found if above < c <= _LARGEST}
    steady = _steady(
        (module, name, value)
        for module in holders
        if not type(module).__module__.startswith("torch.")
        for name, value in vars(module).items()
        if is_integer(value) and not name.startswith("_")
    )
    new = sorted(v for v in steady - code if above < v <= _LARGEST and v not in base)[:_ATTRIBUTES]
    return sorted({x for v in (*code, *new) for x in (v, v + 1)})


def _steady(attributes: Iterable[tuple[Any, str, Any]]) -> set[int]:
    """Integers among attributes; what differs from layer to layer is a layer's number, not a threshold."""
    own: dict[tuple[type, str], set[tuple[int, ...]]] = {}
    for owner, name, value in attributes:
        if integers := tuple(v for v in _items(value) if is_integer(v)):
            own.setdefault((type(owner), name), set()).add(integers)
    return {v for values in own.values() if len(values) <= 2 for items in values for v in items}


def periods(found: set[int], model: nn.Module, base: int) -> list[int]:
    """Strides, patches and windows that may divide a size, smallest first.

    Args:
        found: What `constants` found.
        model: The model; integers and tuples of them in its modules count.
        base: The value of the size in use; what it is a multiple of counts too.

    Returns:
        Integers from 2 to 64.
    """
    all_found = {2, 4, 8, 16, 32, *found}
    for module in model.modules():
        for value in vars(module).values():
            items = value if isinstance(value, tuple | list) else (value,)
            all_found |= {v for v in items if is_integer(v)}
    all_found |= {g for g in range(2, 65) if base % g == 0}
    return sorted(p for p in all_found if 2 <= p <= 64)


def _compared(code: CodeType) -> Iterator[int | str]:
    """Integers loaded just before a comparison, a division or a slice, or given to `min` or `range`.

    Yields:
        The integers, and the names of attributes that are used so, or gone through one by one.
    """
    loaded: list[int | str] = []
    bounding = False  # whether a call in this statement bounds something
    before = ""
    for instruction in dis.get_instructions(code):
        name, value = instruction.opname, instruction.argval
        if name == "GET_ITER" and before == "LOAD_ATTR" and loaded:
            yield loaded[-1]
        before = name
        if name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            loaded += [v for v in _items(value) if is_integer(v)]
        elif name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_METHOD", "LOAD_ATTR"):
            bounding = bounding or value in _BOUNDING
            if name == "LOAD_ATTR":
                loaded.append(value)
        elif name in ("COMPARE_OP", "CONTAINS_OP", "IS_OP", "BUILD_SLICE", "BINARY_SLICE") or (
            name == "BINARY_OP"
            and instruction.argrepr.rstrip("=") in ("//", "%", "/", "-", "+", "*")
        ):
            yield from loaded
        elif name in ("CALL", "CALL_FUNCTION", "CALL_KW"):
            if bounding:
                yield from loaded
            loaded = []
        elif name.startswith(("POP_", "STORE", "RETURN", "GET_ITER", "FOR_ITER")):
            loaded, bounding = [], False


def _items(constant: Any) -> tuple[Any, ...]:
    """A constant, or what is in it where it is a tuple, a list, a set (`n in {64, 128}`) or a slice."""
    if isinstance(constant, slice):
        return constant.start, constant.stop, constant.step
    if not isinstance(constant, tuple | list | frozenset):
        return (constant,)
    return tuple(constant) if len(constant) <= _LISTED else ()
