"""The user's own code: functions that a builder, a model and a loss lead to, and what these have at hand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Container, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

from assay.where import is_installed, is_plumbing


class Code(NamedTuple):
    """Functions, and what they find in globals, closures, defaults and classes."""

    functions: list[FunctionType]
    integers: set[int]
    records: list[Any]


def user_code(
    roots: Iterable[Any],
    model: nn.Module,
    sizes: Container[str] = (),
    idle: Container[FunctionType] = (),
) -> Code:
    """Follow functions to those that they may call.

    Args:
        roots: The builder, the loss: functions that may lead to more.
        model: The model; every method of the classes of its modules counts.
        sizes: Parameters of the roots whose defaults tell nothing: they are the sizes in use.
        idle: Functions that are left out, with what they alone lead to.

    Returns:
        The functions; of an installed library only those in the files that define the model, of torch and of
        the standard library none.
    """
    given = list(roots)
    waiting = list(given)
    own = {_file_of(type(module)) for module in model.modules()}

    def foreign(filename: str) -> bool:
        return is_library(filename) or (is_installed(filename) and filename not in own)

    for module in model.modules():
        waiting += [type(module), *(v for v in vars(module).values() if callable(v))]
    seen: set[int] = set()
    found = Code([], set(), [])
    while waiting:
        thing = waiting.pop()
        while isinstance(thing, functools.partial):
            waiting += [*thing.args, *thing.keywords.values()]
            thing = thing.func
        if is_integer(thing):
            found.integers.add(thing)
            continue
        if is_record(thing):
            found.records.append(thing)
            continue
        thing = inspect.unwrap(thing) if callable(thing) else thing
        thing = getattr(thing, "__func__", thing)
        if id(thing) in seen or (isinstance(thing, FunctionType) and thing in idle):
            continue
        seen.add(id(thing))
        if isinstance(thing, type):
            if not foreign(_file_of(thing)):
                waiting += filter(_leads_on, map(_plain, vars(thing).values()))
                waiting += thing.__bases__
        elif isinstance(thing, FunctionType) and not foreign(thing.__code__.co_filename):
            found.functions.append(thing)
            for code in nested(thing.__code__):
                near = [thing.__globals__.get(name) for name in code.co_names]
                near += [
                    vars(module).get(name)
                    for module in near
                    if isinstance(module, ModuleType) and is_users(_file_of_module(module))
                    for name in code.co_names
                ]
                waiting += [v for v in near if isinstance(v, FunctionType | type) or _tells(v)]
            waiting += filter(_leads_on, _enclosed(thing))
            waiting += _defaults(thing, sizes if any(thing is root for root in given) else ())
        elif callable(thing) and not isinstance(thing, FunctionType):
            waiting.append(type(thing))
    return found


def nested(code: CodeType) -> Iterator[CodeType]:
    """Code, and all code that is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def is_library(filename: str) -> bool:
    """Whether code is torch's, assay's or Python's own; what was typed or generated is the user's."""
    return is_plumbing(filename) and (not filename.startswith("<") or "frozen" in filename)


def is_users(filename: str) -> bool:
    """Whether code is the user's own: no library's, and in no installed package."""
    return not is_library(filename) and not is_installed(filename)


def is_record(value: Any) -> bool:
    """Whether something holds named values, as a configuration does."""
    if callable(value) or isinstance(value, nn.Module | Tensor | ModuleType):
        return False
    return bool(getattr(value, "__dict__", None))


def is_integer(value: Any) -> bool:
    """Whether something is a whole number, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def _tells(value: Any) -> bool:
    return is_integer(value) or is_record(value)


def _leads_on(value: Any) -> bool:
    return callable(value) or _tells(value)


def _plain(value: Any) -> Any:
    """The function behind what stands in a class."""
    value = getattr(value, "fget", None) or value  # a property
    return getattr(value, "__func__", None) or value  # a class method


def _file_of_module(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "<frozen>"  # built in, or without code of its own


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


def _file_of(thing: type) -> str:
    try:
        return inspect.getfile(thing)
    except (TypeError, OSError):  # built in, or made in a notebook: no file to judge by
        return "<unknown>" if thing.__module__.startswith(("torch.", "builtins")) else "user.py"
