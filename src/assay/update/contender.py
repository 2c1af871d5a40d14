"""An optimizer that takes part in a comparison: its own copy of the model, and one step at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import CannotMeasure, verbatim
from assay.state import copied, preserved_random_state
from assay.subject import Subject
from assay.update.direction import real
from assay.update.optimizer import Make, build_optimizer, needs_closure


@dataclass
class Contender:
    """An optimizer with its own copy of the model, and the running mean of g² where it is RMSprop.

    Args:
        name: What the user calls it.
        subject: The subject with the copy as its model.
        optimizer: Made for the copy.
        seed: Of the random numbers in forward passes (dropout): the same at the same step for all.
        squares: Running mean of g² where it is RMSprop, a complex number taken as two.
        gradient: Of the latest step.
        dense: Whether it refused sparse gradients, and is given dense ones.
    """

    name: str
    subject: Subject
    optimizer: Any
    seed: int
    squares: list[Tensor] | None = None
    gradient: list[Tensor] = field(default_factory=list)
    dense: bool = False

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Trainable parameters by name; a tied one stands once."""
        return {n: p for n, p in self.subject.model.named_parameters() if p.requires_grad}

    def differentiate(self, step: int) -> Tensor:
        """Leave fresh gradients of the objective in the copy.

        Returns:
            The objective.
        """
        self.release()
        with torch.enable_grad(), preserved_random_state(self.seed + step):
            return self.subject.backward(self.subject.forward())

    def release(self) -> None:
        """Drop the gradients of the copy: with large models there is no room for what is not needed."""
        for p in self.subject.model.parameters():
            p.grad = None

    def step(self, step: int) -> float:
        """Take one step of the optimizer.

        Returns:
            The objective before it.
        """

        def closure() -> Tensor:
            value = self.differentiate(step)
            if self.dense:
                self._densify()
            return value

        value = float(closure())
        self.gradient = [_dense(p) for p in self.weights.values()]
        self._remember_squares()
        if needs_closure(self.optimizer):
            self.optimizer.step(closure)
            return value
        try:
            self.optimizer.step()
        except Exception as error:
            # torch's optimizers look at all gradients before they change anything
            if "sparse" not in str(error) or not self._densify():
                raise
            self.dense = True
            self.optimizer.step()
        return value

    def _densify(self) -> bool:
        """Make sparse gradients dense.

        Returns:
            Whether there were any.
        """
        sparse = [p for p in self.weights.values() if p.grad is not None and p.grad.is_sparse]
        for p in sparse:
            p.grad = _dense(p)
        return bool(sparse)

    @property
    def unheld(self) -> tuple[str, ...]:
        """Parameters that have a gradient and that the optimizer does not hold.

        Returns:
            Their names; none where the optimizer holds no parameter of the model (it may keep copies).
        """
        groups = getattr(self.optimizer, "param_groups", None) or ()
        held = {id(p) for group in groups for p in group["params"]}
        if not any(id(p) in held for p in self.weights.values()):
            return ()
        pairs = zip(self.weights.items(), self.gradient, strict=True)
        return tuple(name for (name, p), g in pairs if id(p) not in held and bool(g.any()))

    def _remember_squares(self) -> None:
        """RMSprop's `s ← α s + (1 − α) g²` from the gradients themselves, not from its state (U1)."""
        if not is_plain_rmsprop(self):
            return
        alpha = self.optimizer.param_groups[0]["alpha"]
        gradient = [real(g) for g in self.gradient]
        self.squares = self.squares or [torch.zeros_like(g) for g in gradient]
        for s, g in zip(self.squares, gradient, strict=True):
            s.mul_(alpha).addcmul_(g, g, value=1 - alpha)

    def adopt(self, state: dict[str, Tensor]) -> None:
        """Take over weights and buffers of another copy, keeping the optimizer's state."""
        with torch.no_grad():
            own = {**dict(self.subject.model.named_parameters()), **_buffers(self.subject.model)}
            for name, value in state.items():
                own[name].copy_(value)

    def state(self) -> dict[str, Tensor]:
        """Copies of weights and buffers, by name."""
        own = {**dict(self.subject.model.named_parameters()), **_buffers(self.subject.model)}
        return {name: value.detach().clone() for name, value in own.items()}


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_buffers())


def _dense(p: Tensor) -> Tensor:
    grad = torch.zeros_like(p) if p.grad is None else p.grad
    return (grad.to_dense() if grad.is_sparse else grad).detach().clone()


def enter(name: str, make: Make, subject: Subject, seed: int) -> Contender:
    """Give an optimizer its own copy of the model.

    Args:
        name: What the user calls it.
        make: Makes the optimizer.
        subject: The user's subject.
        seed: Of forward passes.

    Returns:
        The contender.

    Raises:
        CannotMeasure: If the model cannot be copied.
        UsageError: If `make` returns no optimizer.
        UserCodeError: If `make` raises.
    """
    try:
        model = copied(subject.model)
    except Exception as error:
        raise CannotMeasure(
            "model",
            verbatim(f"a {subject.name} that copy.deepcopy cannot copy ({error})"),
            "a model that can be copied, because every optimizer steps on its own copy",
            "Keep non-leaf tensors and open resources out of the module's attributes.",
        ) from error
    with preserved_random_state(seed):
        optimizer = build_optimizer(make, model, name)
    return Contender(name, replace(subject, model=model), optimizer, seed)


def require_trainable(subject: Subject) -> None:
    """Refuse a model that no step can change.

    Args:
        subject: The user's subject.

    Raises:
        CannotMeasure: If none of its parameters is trainable.
    """
    if not any(p.requires_grad for p in subject.model.parameters()):
        raise CannotMeasure(
            "model",
            verbatim(f"a {subject.name} without trainable parameters"),
            "at least one parameter with requires_grad=True",
            "Unfreeze the parameters that training moves.",
        )


def is_plain_sgd(one: Contender) -> bool:
    """Whether one step of it is `−η g` exactly, for every trainable parameter."""
    return _is_plain(one, torch.optim.SGD, "momentum", "weight_decay", "maximize")


def is_plain_rmsprop(one: Contender) -> bool:
    """Whether one step of it is `−η g / (√s + ε)` exactly, for every trainable parameter."""
    off = ("momentum", "weight_decay", "centered", "maximize")
    return _is_plain(one, torch.optim.RMSprop, *off)


def _is_plain(one: Contender, kind: type, *off: str) -> bool:
    groups: list[dict[str, Any]] = getattr(one.optimizer, "param_groups", [])
    if type(one.optimizer) is not kind or len(groups) != 1 or any(groups[0][key] for key in off):
        return False
    steps = {id(p) for p in groups[0]["params"]}
    return all(id(p) in steps for p in one.weights.values())
