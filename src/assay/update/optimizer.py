"""Optimizers as users name and make them: `torch.optim:Adam`, a class, a partial, a function of the model."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from assay.errors import AssayError, UsageError, UserCodeError, verbatim
from assay.place import import_place

Make = Callable[[Any], Any]

DEFAULT_LR = 1e-2  # supplied where a class requires `lr` (SGD before torch 2.2) and none is given
_TAKES_PARAMETERS = ("params", "parameters", "param_groups")


class OptimizerFactory:
    """A named way of making an optimizer for any model: what `--optimizer pkg:name -a lr=…` means.

    Args:
        function: An optimizer class, or a function of a model or of its parameters.
        name: What to call it in reports.
        arguments: Keyword arguments for `function`.
        supplied: Those of `arguments` that assay chose because the class requires them.

    Example:
        >>> make = optimizer_factory("torch.optim:Adam", lr=0.01)
        >>> make
        torch.optim:Adam(lr=0.01)
        >>> type(make(nn.Linear(2, 1))).__name__
        'Adam'
    """

    def __init__(
        self,
        function: Make,
        name: str,
        arguments: Mapping[str, Any],
        supplied: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = name
        self.__name__ = name.rpartition(":")[2]
        self.supplied = dict(supplied or {})
        self.arguments = {**arguments, **self.supplied}

    def __call__(self, model: nn.Module) -> Optimizer:
        """Make the optimizer for `model`."""
        made: Optimizer = make_for(functools.partial(self.function, **self.arguments), model)
        return made

    def __repr__(self) -> str:
        inside = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.name}({inside})"


def optimizer_factory(target: str, **arguments: Any) -> OptimizerFactory:
    """Find the optimizer that `target` names: `torch.optim:Adam`, `package.module:name`, `file.py:name`.

    Args:
        target: A class of optimizers, or a function that makes one from a model (or, where its first
            parameter is called `params`, from the parameters).
        arguments: Its keyword arguments, such as `lr`. A required `lr` that is not given becomes 0.01,
            which the factory's `supplied` says.

    Returns:
        A factory: call it with a model.

    Raises:
        UsageError: If there is no such module, name or argument, the name cannot be called, an argument
            that it requires is missing, or `lr` is no rate.
        UserCodeError: If importing the module raises.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(
            "optimizer",
            target,
            "package.module:name or path/file.py:name",
            "Write, for example, `torch.optim:Adam`.",
        )
    module = import_place(place, target, "optimizer")
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if function is None or not callable(function):
        known = [n for n, value in vars(module).items() if is_optimizer_class(value)]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        have = f"{place} has {', '.join(known)}." if known else f"{place} has no optimizer classes."
        have = hint + have
        what = "a name that exists" if function is None else "something that can be called"
        raise UsageError("optimizer", target, what, have)
    parameters = _parameters(function)
    if parameters is not None and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        options = [n for n in parameters if n not in ("self", *_TAKES_PARAMETERS, "model")]
        for argument in arguments:
            if argument not in parameters:
                raise UsageError(
                    f"argument {argument}",
                    arguments[argument],
                    f"a parameter of {target} ({', '.join(options)})",
                    "Check the spelling.",
                )
    _check_rate(arguments.get("lr", DEFAULT_LR))
    lr = (parameters or {}).get("lr")
    required = lr is not None and "lr" not in arguments and _is_required(lr)
    supplied = {"lr": DEFAULT_LR} if required else {}
    for missing in list(parameters or {})[1:]:  # the first one is the model or its parameters
        if _is_required((parameters or {})[missing]) and missing not in {**arguments, **supplied}:
            raise UsageError(
                f"argument {missing}",
                verbatim("not given"),
                f"a value, which {target} requires",
                f"Give -a {missing}=…, or a function of the model that fills it in.",
            )
    return OptimizerFactory(function, target, arguments, supplied)


def _check_rate(lr: Any) -> None:
    wrong = isinstance(lr, str) or (
        isinstance(lr, int | float) and not (math.isfinite(lr) and lr >= 0)
    )
    if wrong:
        raise UsageError("lr", lr, "a finite number of at least 0", "Give lr=0.01, say.")


def is_refusal(error: BaseException) -> bool:
    """Whether torch raised, and no code of the user's: then it is their arguments that are wrong.

    Args:
        error: An exception that was raised while an optimizer was made.

    Returns:
        True where every frame of its traceback is torch's or assay's.
    """
    tb, found = error.__traceback__, set()
    while tb is not None:
        found.add(str(tb.tb_frame.f_globals.get("__name__", "")).partition(".")[0])
        tb = tb.tb_next
    return found <= {"assay", "torch", "functools"}


def is_optimizer_class(value: Any) -> bool:
    """Whether `value` is a class of optimizers that can be used (the abstract base is not).

    Returns:
        True for a proper subclass of `torch.optim.Optimizer`.
    """
    return isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer


def make_for(make: Make, model: nn.Module) -> Any:
    """Call `make` with what it takes: the parameters or the model.

    The rule: where the first open parameter is called `params` (as in every class of `torch.optim`, also
    behind `functools.partial`), it gets `list(model.parameters())`; otherwise the model.

    Args:
        make: An optimizer class, a partial of one, or a function.
        model: The model that is to be trained.

    Returns:
        Whatever `make` returns; see `build_optimizer` for the checked form.
    """
    parameters = _parameters(make) or {}
    first = next((name for name in parameters if name != "self"), "")
    return make(list(model.parameters()) if first in _TAKES_PARAMETERS else model)


def build_optimizer(make: Make, model: nn.Module, name: str) -> Any:
    """Make the optimizer and check that it can step.

    Args:
        make: As in `make_for`.
        model: The model that is to be trained.
        name: What to call it in messages.

    Returns:
        The optimizer: anything with `step` and `zero_grad`.

    Raises:
        UsageError: If `make` cannot be called, or returns something that cannot step.
        UserCodeError: If it raises; the cause is the user's own exception.
        AssayError: If it raises one itself; it is passed on.
    """
    if not callable(make):
        raise UsageError(
            "make_optimizer",
            make,
            "a function of the model that returns an optimizer",
            "Give torch.optim.Adam, functools.partial(torch.optim.SGD, lr=0.1), or a function.",
        )
    try:
        optimizer = make_for(make, model)
    except AssayError:
        raise
    except Exception as error:
        raise UserCodeError("make_optimizer", name, error) from error
    if not callable(getattr(optimizer, "step", None)):
        raise UsageError(
            "make_optimizer",
            verbatim(f"a function that returned {type(optimizer).__name__}"),
            "a torch.optim.Optimizer, or anything with a `step` method",
            "Return the optimizer from the function.",
        )
    return optimizer


def name_of(make: Make) -> str:
    """What to call an optimizer whose maker has no given name: `SGD(lr=0.1)`.

    Returns:
        The name of the class or function, with the arguments that a partial fixes.
    """
    if isinstance(make, OptimizerFactory):
        return repr(make).rpartition(":")[2]
    if isinstance(make, functools.partial):
        inside = ", ".join(f"{key}={value}" for key, value in make.keywords.items())
        return f"{name_of(make.func)}({inside})"
    return str(getattr(make, "__name__", type(make).__name__))


def needs_closure(optimizer: Any) -> bool:
    """Whether `step` has to be given a closure (as L-BFGS has).

    Returns:
        True where its signature has a required argument.
    """
    parameters = _parameters(optimizer.step) or {}
    return any(_is_required(p) for p in parameters.values())


def scale_options(optimizer: Any, factors: Mapping[str, float]) -> bool:
    """Multiply options of every parameter group, such as `lr`, in place.

    Args:
        optimizer: An optimizer with `param_groups`; one without is left alone.
        factors: Prefix of the option's name to factor: "eps" also takes `eps1`, `epsilon`. Numbers,
            tensors and tuples of numbers are scaled, everything else stays.

    Returns:
        Whether any option changed its value.
    """
    changed = False
    for group in getattr(optimizer, "param_groups", ()):
        for key, value in group.items():
            for prefix, factor in factors.items():
                if key != "params" and key.startswith(prefix) and is_scalable(value):
                    group[key] = _scaled(value, factor)
                    changed = True
    return changed


def split_rates(optimizer: Any, factors: Mapping[int, float]) -> None:
    """Give every parameter its own group, with its own multiple of the rate; before the first step.

    Args:
        optimizer: An optimizer with `param_groups`.
        factors: `id` of a parameter to the factor of its `lr`.
    """
    split = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            rate = _scaled(group["lr"], factors[id(p)])
            split.append({**group, "params": [p], "lr": rate})
    optimizer.param_groups[:] = split


def is_scalable(value: Any) -> bool:
    """Whether an option is a number, or a tuple with one, other than zero.

    Returns:
        True where multiplying it changes it.
    """
    if isinstance(value, tuple):
        return any(is_scalable(item) for item in value)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return False
    try:
        return float(value) != 0.0
    except (TypeError, ValueError):
        return False


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(item, factor) for item in value)
    return value * factor if is_scalable(value) else value


def _parameters(function: Any) -> dict[str, inspect.Parameter] | None:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins and extension types may have no signature
        return None


def _is_required(p: inspect.Parameter) -> bool:
    kinds = (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    # torch before 2.2 marked SGD's lr with a sentinel object called `required`
    return p.kind in kinds and (p.default is p.empty or "required" in repr(p.default))
