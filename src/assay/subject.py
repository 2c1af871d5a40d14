"""The thing being assayed: a model with example inputs, and where needed a loss and examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import RAISED, AssayError, CannotMeasure, UsageError, UserCodeError, verbatim
from assay.progress import Progress
from assay.running import module_of

IGNORED = -100  # torch's own `ignore_index`: a target that does not count

Loss = Callable[[Any], Tensor]
ErrorRule = Callable[[Any, Tensor], Tensor]
Fit = Callable[[nn.Module, "Examples", Progress], None]


@dataclass(frozen=True)
class Examples:
    """Independent, identically distributed examples: what a certificate is about.

    One example is one row: for a translator a sentence, not a token.

    Args:
        inputs: The model's arguments, each with the examples as first dimension `[N, ...]`; a tensor, or
            a tuple of tensors.
        targets: What the output should be, `[N, ...]`; integers with -100 for positions that do not count.
        errors: `errors(output, targets) -> bool tensor [batch]`. Without it an example is wrong when the
            argmax of the output's last dimension differs from the target at any position that counts.
        holdout: Examples from the same distribution that training never sees, for comparison only.
        name: What they are, for the report: "CMU dictionary, training split".

    Raises:
        UsageError: If there are no examples, or inputs and targets differ in number.

    Example:
        >>> data = Examples(torch.zeros(5, 3), torch.tensor([0, 1, 0, 1, 1]))
        >>> len(data), [len(batch) for batch in data.batches(2)]
        (5, [2, 2, 1])
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    errors: ErrorRule | None = None
    holdout: Examples | None = None
    name: str = ""

    def __post_init__(self) -> None:
        given: Any = self.inputs  # a single tensor is allowed for convenience
        inputs = (given,) if isinstance(given, Tensor) else tuple(given)
        object.__setattr__(self, "inputs", inputs)
        if self.holdout is not None:  # a pair of tensors will do, as for `Examples.of`
            object.__setattr__(self, "holdout", Examples.of(self.holdout))
        lengths = {len(t) for t in (*inputs, self.targets)}
        if not inputs or lengths == {0}:
            raise UsageError(
                "examples", verbatim("empty"), "at least one example", "Check how the data is read."
            )
        if len(lengths) != 1:
            raise UsageError(
                "examples",
                verbatim(f"inputs and targets of lengths {sorted(lengths)}"),
                "the same number of rows in every tensor",
                "The first dimension counts examples.",
            )

    @classmethod
    def of(cls, value: Any) -> Examples:
        """Take `Examples`, an `(inputs, targets)` pair, or a function without arguments returning either.

        Returns:
            The examples.

        Raises:
            UsageError: If `value` is none of these.
            UserCodeError: If the function raises.
            AssayError: If the function raises one itself; it is passed on.
        """
        if callable(value) and not isinstance(value, Examples):
            name = getattr(value, "__qualname__", repr(value))
            try:
                value = value()
            except AssayError:
                raise
            except RAISED as error:
                raise UserCodeError("examples", name, error) from error
        if isinstance(value, Examples):
            return value
        if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], Tensor):
            return cls(value[0], value[1])
        raise UsageError(
            "examples",
            verbatim(type(value).__name__),
            "assay.Examples, an (inputs, targets) pair of tensors, or a function returning either",
            "Put the whole set in tensors whose first dimension counts examples.",
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, rows: slice | Tensor) -> Examples:
        return replace(self, inputs=tuple(t[rows] for t in self.inputs), targets=self.targets[rows])

    def batches(self, size: int) -> Iterator[Examples]:
        """Consecutive batches of at most `size` examples, every example exactly once.

        Args:
            size: Number of examples in a batch.

        Yields:
            The batches, in order.
        """
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def wrong(self, output: Any) -> Tensor:
        """Which of these examples `output` gets wrong.

        Args:
            output: What the model returned for `inputs`.

        Returns:
            A bool tensor `[N]`.
        """
        if self.errors is not None:
            return self.errors(output, self.targets).bool()
        differs = first_floating(output).argmax(-1) != self.targets
        counts = differs & (self.targets != IGNORED)
        return counts.flatten(1).any(1) if counts.dim() > 1 else counts


@dataclass(frozen=True)
class Subject:
    """A model with example inputs, and where needed a loss and examples.

    Args:
        model: The module to assay.
        inputs: Positional arguments of its forward: a tensor, a tuple, or a dict of keyword arguments.
        kwargs: Keyword arguments of its forward, beside `inputs`.
        loss: `loss(output) -> scalar`. Without it, a backward pass starts from the sum of the output's
            first floating-point tensor.
        examples: `Examples`, an `(inputs, targets)` pair, or a function without arguments that returns
            either: what the certificate is about. Read only when needed.
        fit: `fit(model, examples, progress)`: the user's own training loop; changes `model` in place.
        optimizer: `optimizer(model) -> torch.optim.Optimizer`: the optimizer in use, for the sections on
            updates.

    Raises:
        UsageError: If `model` is not a module, or `loss`, `fit` or `optimizer` cannot be called.

    Example:
        >>> subject = Subject(nn.Linear(3, 2), torch.ones(4, 3), loss=lambda y: y.square().mean())
        >>> subject.objective(subject.forward()).shape
        torch.Size([])
    """

    model: nn.Module
    inputs: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] | None = None
    loss: Loss | None = None
    examples: Any = None
    fit: Fit | None = None
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise UsageError(
                "model", self.model, "a torch.nn.Module", "Return a module, or (module, inputs)."
            )
        for name in ("loss", "fit", "optimizer"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                remedy = f"Give {name}=a function, or None."
                if isinstance(value, torch.optim.Optimizer):
                    remedy = (
                        "Name the optimizer in use by a function that makes it: "
                        f"assay.Subject(model, inputs, optimizer=lambda model: {_made(value)})."
                    )
                raise UsageError(
                    name, verbatim(f"of type {type(value).__name__}"), "a function", remedy
                )
        if isinstance(self.loss, nn.modules.loss._Loss) or _wants_more(self.loss):
            raise UsageError(
                "loss",
                verbatim(getattr(self.loss, "__qualname__", f"{type(self.loss).__name__}()")),
                "a function of the output alone",
                "Bind the targets: `lambda output: criterion(output, targets)`.",
            )
        if isinstance(self.examples, tuple | list):
            Examples.of(
                self.examples
            )  # so that what is wrong with them is told when they are given
        inputs: Any = self.inputs  # one tensor or a dict is allowed for convenience
        kwargs = dict(self.kwargs or {})
        if isinstance(inputs, Mapping):
            inputs, kwargs = (), {**inputs, **kwargs}
        if isinstance(inputs, Tensor) or not isinstance(inputs, tuple | list):
            inputs = (inputs,)
        object.__setattr__(self, "inputs", tuple(inputs))
        object.__setattr__(self, "kwargs", kwargs)

    @property
    def name(self) -> str:
        """The class of the model."""
        return type(self.model).__name__

    def forward(self) -> Any:
        """Run the model on its example inputs.

        Returns:
            Whatever the model returns.

        Raises:
            UserCodeError: If the model raises; the cause is the user's own exception.
            AssayError: What assay itself raises on the way; it is passed on.
            CannotMeasure: If it needs inputs and has none.
        """
        if not self.inputs and not self.kwargs and _needs_inputs(self.model):
            raise CannotMeasure(
                "inputs",
                verbatim(f"none for {self.name}"),
                "inputs to run the model with",
                "Return (model, inputs), or give the module an attribute `example_inputs`.",
            )
        try:
            return self.model(*self.inputs, **(self.kwargs or {}))
        except AssayError:  # what assay cannot do, or was told wrongly, is no fault of the code
            raise
        except RAISED as error:
            at = module_of(error, self.model)
            raise UserCodeError("forward", f"{self.name}{at and f', in {at}'}", error) from error

    def objective(self, output: Any) -> Tensor:
        """The scalar that a backward pass starts from.

        Args:
            output: What `forward` returned.

        Returns:
            A tensor of shape `[]`.

        Raises:
            UserCodeError: If the loss raises.
            AssayError: What assay itself raises on the way; it is passed on.
            CannotMeasure: If there is no floating-point output, or the loss is not a scalar tensor.
        """
        if self.loss is None:
            return first_floating(output).sum()
        try:
            value = self.loss(output)
        except AssayError:  # what assay cannot do, or was told wrongly, is no fault of the code
            raise
        except RAISED as error:
            raise UserCodeError(
                "loss", getattr(self.loss, "__qualname__", "loss"), error
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            of_tensor = isinstance(value, Tensor)
            raise CannotMeasure(
                "loss(output)",
                verbatim(f"{list(value.shape)} {value.dtype}" if of_tensor else repr(value)),
                "one floating-point number as a tensor",
                "Reduce it, for example with `.mean()`."
                if of_tensor
                else "Return the tensor itself, without `.item()` or `float()`.",
            )
        return value.reshape(())

    def backward(self, output: Any) -> Tensor:
        """Run the backward pass from the objective of `output`; gradients accumulate as in torch.

        Args:
            output: What `forward` returned.

        Returns:
            The objective, detached.

        Raises:
            CannotMeasure: If nothing in the objective depends on a parameter or input with a gradient.
            UserCodeError: If the backward pass raises (a custom autograd function, a hook).
        """
        value = self.objective(output)
        if not value.requires_grad:
            raise CannotMeasure(
                "loss(output)",
                verbatim("a tensor without a gradient"),
                "a value that depends on a parameter with requires_grad=True",
                "Look for .detach(), torch.no_grad() or frozen parameters in the model.",
            )
        self.differentiate(value)
        return value.detach()

    def differentiate(self, value: Tensor) -> None:
        """Run the backward pass from `value`; what raises on the way is the user's.

        Args:
            value: A scalar that requires a gradient.

        Raises:
            UserCodeError: If the backward pass raises (a custom autograd function, a hook).
            AssayError: What assay itself raises on the way; it is passed on.
            CannotMeasure: If it runs something that assay cannot follow.
        """
        try:
            value.backward()
        except AssayError:  # what assay cannot do, or was told wrongly, is no fault of the code
            raise
        except RAISED as error:
            raise UserCodeError("backward", self.name, error) from error

    def require_finite(self) -> None:
        """Refuse a model whose output on the example inputs is not finite.

        Raises:
            CannotMeasure: If the output holds a NaN or an infinity.
        """
        from assay.state import preserved

        with preserved(self.model), torch.enable_grad():  # a forward pass may differentiate
            value = first_floating(self.forward()).detach()
        bad = int((~torch.isfinite(value)).sum()) if not value.is_meta else 0
        if bad:
            raise CannotMeasure(
                "forward",
                verbatim(f"{bad} of {value.numel()} outputs are NaN or infinite"),
                "finite outputs on the example inputs",
                "Check the inputs and the initial weights; `assay scale` names the first operator.",
            )


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of tuples, lists, mappings and dataclasses, in order.

    Yields:
        The tensors.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        held = dict(getattr(value, "__dict__", {}))
        for field in fields(value):  # one with slots has no `__dict__`
            if field.name not in held:
                with suppress(Exception):  # a property may raise whatever it likes
                    held[field.name] = getattr(value, field.name)
        yield from tensors(held)


def _made(optimizer: torch.optim.Optimizer) -> str:
    """The line that makes one like it, as far as its class tells."""
    kind = type(optimizer)
    place = "torch.optim." if kind.__module__.startswith("torch.optim") else ""
    return f"{place}{kind.__name__}(model.parameters())"


def _wants_more(loss: Any) -> bool:
    """Whether a loss cannot be called with the output alone, as far as its signature tells."""
    if loss is None:
        return False
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # built in
        return False
    try:
        signature.bind(None)
    except TypeError:
        return True
    return False


def for_an_output(subject: Subject) -> str:
    """What to do where a model returned nothing, as for a batch that a filter left no rows of.

    Args:
        subject: What ran.

    Returns:
        A sentence.
    """
    empty = next((x for x in tensors((subject.inputs, subject.kwargs)) if not x.numel()), None)
    if empty is None:
        return "Give example inputs that the model returns numbers for."
    shape = list(empty.shape)
    if shape[0] == 0:
        return f"The batch has 0 rows: an input has shape {shape}. Look at what reads and filters the data."
    return f"An input is empty, of shape {shape}. Look at what reads and filters the data."


def first_floating(output: Any) -> Tensor:
    """The output's first floating-point tensor; of a transformers output, its first field.

    Args:
        output: Whatever a model returned.

    Returns:
        The tensor.

    Raises:
        CannotMeasure: If there is none.
    """
    for value in tensors(output):
        if value.is_floating_point():
            return value
    raise CannotMeasure(
        "output",
        verbatim(type(output).__name__),
        "at least one floating-point tensor",
        "Return a tensor, or give a loss that turns the output into one.",
    )


def prediction(output: Any) -> Tensor:
    """The first floating-point tensor of more than one number; without one, the first.

    A model that is given its targets returns the loss first, and what it predicts after it.

    Args:
        output: Whatever a model returned.

    Returns:
        The tensor.

    Raises:
        CannotMeasure: If there is no floating-point tensor.
    """
    several = (t for t in tensors(output) if t.is_floating_point() and t.numel() > 1)
    found = next(several, None)
    return first_floating(output) if found is None else found


def _needs_inputs(model: nn.Module) -> bool:
    """Whether its forward pass has a parameter that must be given."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    given = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.kind in given and p.default is p.empty for p in parameters)
