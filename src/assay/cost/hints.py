"""Integers that the user's own code compares sizes with: where a cost may turn from one law to another.

A branch `if n > 64` cannot be seen from counts at small sizes. But the 64 stands in the code that runs, or
in an attribute of a module that it belongs to, so that is where to look.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Container, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from assay.where import is_installed, is_plumbing

_LARGEST = 1 << 16
_ATTRIBUTES = 6  # at most so many integers from modules: widths and vocabularies are among them
_LISTED = 16  # integers in a list of buckets; a longer one is data
_BOUNDING = {"min", "max", "range", "divmod", "islice", "arange", "clamp", "clip", "narrow", "topk"}
_BOUNDING |= {"split", "chunk", "tensor_split", "unfold", "pad", "deque"}


def constants(roots: Iterable[Any], model: nn.Module, sizes: Container[str] = ()) -> set[int]:
    """The integers that a model's code compares with, divides by, or bounds something by.

    Args:
        roots: The builder, the loss: functions that may lead to more.
        model: The model; every method of the classes of its modules counts.
        sizes: Parameters of the roots whose defaults tell nothing: they are the sizes in use.

    Returns:
        The integers. Code of torch and of the standard library is not looked at.
    """
    given = list(roots)
    waiting = list(given)
    # of an installed library only the files that define the model: not its caches and downloads
    own = {_file_of(type(module)) for module in model.modules()}

    def foreign(filename: str) -> bool:
        return _is_library(filename) or (is_installed(filename) and filename not in own)

    for module in model.modules():
        waiting += [type(module), *(v for v in vars(module).values() if callable(v))]
    seen: set[int] = set()
    found: set[int] = set()
    names: set[str] = set()  # of attributes that are compared with
    holders = [m for m in model.modules() if not type(m).__module__.startswith("torch.")]
    # a configuration is held by every layer; many ask for its attributes by code of their own
    held = {id(v): v for module in holders for v in vars(module).values()}
    records = [v for v in held.values() if _is_record(v)]
    while waiting:
        thing = waiting.pop()
        while isinstance(thing, functools.partial):
            waiting += [*thing.args, *thing.keywords.values()]
            thing = thing.func
        if _is_integer(thing):
            found.add(thing)
            continue
        thing = inspect.unwrap(thing) if callable(thing) else thing
        thing = getattr(thing, "__func__", thing)
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, type):
            if not foreign(_file_of(thing)):
                waiting += [v for v in vars(thing).values() if callable(v) or _is_integer(v)]
        elif isinstance(thing, FunctionType) and not foreign(thing.__code__.co_filename):
            for code in _nested(thing.__code__):
                compared = set(_compared(code))
                found |= {c for c in compared if not isinstance(c, str)}
                names |= {c for c in compared if isinstance(c, str)}
                near = [thing.__globals__.get(name) for name in code.co_names]
                waiting += [v for v in near if isinstance(v, FunctionType | type | int)]
                records += [v for v in near if _is_record(v)]
            enclosed = [*_enclosed(thing)]
            waiting += [v for v in enclosed if callable(v) or _is_integer(v)]
            records += [v for v in enclosed if _is_record(v)]
            waiting += _defaults(thing, sizes if any(thing is root for root in given) else ())
        elif callable(thing) and not isinstance(thing, FunctionType):
            waiting.append(type(thing))
    return found | _steady((h, n, vars(h).get(n)) for h in (*holders, *records) for n in names)


def _enclosed(function: FunctionType) -> Iterator[Any]:
    """What a function took along from where it was defined."""
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        yield value


def _defaults(function: FunctionType, left_out: Container[str]) -> Iterator[Any]:
    """Default values of parameters, but for some."""
    parameters = inspect.signature(function).parameters
    yield from (p.default for p in parameters.values() if p.name not in left_out)


def _is_library(filename: str) -> bool:
    """Whether code is torch's, assay's or Python's own; what was typed or generated is the user's."""
    return is_plumbing(filename) and (not filename.startswith("<") or "frozen" in filename)


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
        if _is_integer(value) and not name.startswith("_")
    )
    new = sorted(v for v in steady - code if above < v <= _LARGEST and v not in base)[:_ATTRIBUTES]
    return sorted({x for v in (*code, *new) for x in (v, v + 1)})


def _steady(attributes: Iterable[tuple[Any, str, Any]]) -> set[int]:
    """Integers among attributes; what differs from layer to layer is a layer's number, not a threshold."""
    own: dict[tuple[type, str], set[tuple[int, ...]]] = {}
    for owner, name, value in attributes:
        if integers := tuple(v for v in _items(value) if _is_integer(v)):
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
            all_found |= {v for v in items if _is_integer(v)}
    all_found |= {g for g in range(2, 65) if base % g == 0}
    return sorted(p for p in all_found if 2 <= p <= 64)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


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
            loaded += [v for v in _items(value) if _is_integer(v)]
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


def _file_of(thing: type) -> str:
    try:
        return inspect.getfile(thing)
    except (TypeError, OSError):  # built in, or made in a notebook: no file to judge by
        return "<unknown>" if thing.__module__.startswith(("torch.", "builtins")) else "user.py"


def _is_record(value: Any) -> bool:
    """Whether something holds named values, as a configuration does."""
    if callable(value) or isinstance(value, nn.Module | torch.Tensor | ModuleType):
        return False
    return bool(getattr(value, "__dict__", None))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
