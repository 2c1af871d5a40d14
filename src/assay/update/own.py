"""The user's own training in other units: features of the inputs, the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import AssayError
from assay.state import copied, preserved, preserved_random_state
from assay.subject import Subject, prediction
from assay.update.readers import Reader

SEEN = 2**16  # entries of the output that are compared; of a larger one, evenly spread ones


@dataclass(frozen=True)
class OwnPlan:
    """How the user's model is trained: the example inputs are the batch of every step.

    Args:
        model: Class of the model.
        steps: Steps of training.
        seed: Of random numbers in forward passes, and of the optimizer's.
        dtype: Precision of the training.
    """

    model: str
    steps: int
    seed: int
    dtype: torch.dtype

    @property
    def named(self) -> str:
        """What is trained, in words."""
        return f"your {self.model}"

    def batches(self) -> list[Tensor]:
        """The number of every step, which seeds its forward pass; the examples are always the same."""
        return list(torch.arange(1, self.steps + 1).split(1))

    def lasting(self, steps: int) -> OwnPlan:
        """The same for another number of steps."""
        return replace(self, steps=steps)


@dataclass(frozen=True)
class OwnTraining:
    """The user's model, inputs and loss in one choice of units.

    Args:
        subject: The model as training starts (copies are trained), with its inputs.
        seed: Of random numbers in the passes that are compared.
        loss_unit: One unit of the user's loss in this training's.
    """

    subject: Subject
    seed: int
    loss_unit: float = 1.0
    parts: int = 1

    def network(self, folded: bool) -> nn.Module:
        """A copy of the model. It cannot be folded."""
        return copied(self.subject.model)

    def observe(self, model: nn.Module) -> tuple[Tensor, float]:
        """What the model predicts `[entries]`, thinned out if it is large, and the loss."""
        mine = replace(self.subject, model=model)
        # with gradients on: a model may differentiate inside its forward pass, as force fields do
        with preserved(model), preserved_random_state(self.seed), torch.enable_grad():
            output = mine.forward()
            loss = float(mine.objective(output).detach())
            flat = prediction(output).detach().flatten()
        return flat[:: max(1, flat.numel() // SEEN)], loss

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """The objective in this training's unit; what the model draws depends on the step alone."""
        mine = replace(self.subject, model=model)
        with preserved_random_state(self.seed + int(rows[0])):
            return mine.objective(mine.forward()) * self.loss_unit

    def louder(self, factor: float) -> OwnTraining:
        """The same training with `factor` times as many units of loss."""
        return replace(self, loss_unit=self.loss_unit * factor)

    def jittered(self, generator: torch.Generator) -> OwnTraining:
        """The same training with first weights moved by round-off."""
        model = self.network(False)
        with torch.no_grad():
            for p in model.parameters():
                if p.is_floating_point():
                    noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                    scale = 4 * torch.finfo(p.dtype).eps
                    p.mul_((1 + scale * noise).to(p))
        return replace(self, subject=replace(self.subject, model=model))


@dataclass(frozen=True)
class Input:
    """One input of the model that has units, and what reads it.

    Args:
        place: Position among the inputs, or name among the keyword arguments.
        axis: Along which its features lie.
        mean: Of each feature over everything else, `[d]`.
        std: Likewise.
        readers: The weights that read it.
    """

    place: int | str
    axis: int
    mean: Tensor
    std: Tensor
    readers: tuple[Reader, ...]

    def of(self, subject: Subject) -> Tensor:
        """The input itself."""
        if isinstance(self.place, int):
            value: Tensor = subject.inputs[self.place]
            return value
        return (subject.kwargs or {})[self.place]  # type: ignore[no-any-return]

    def rewritten(self, subject: Subject, scale: Tensor, shift: Tensor) -> Subject:
        """The same function of inputs in other units: `x̃[j] = scale[j] x[j] + shift[j]`.

        Args:
            subject: Model and inputs; neither is changed.
            scale: `[d]`, none of them 0.
            shift: `[d]`, in the new units.

        Returns:
            A subject with `W̃ = W / scale` and `b̃ = b − W̃ shift` for every reader. It is the same function
            where the readers are all that read the input, and all have a bias if there is a shift.
        """
        model = copied(subject.model)
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for reader in self.readers:
                matrix = reader.of(weights[reader.weight])
                matrix.div_(reader.per_column(scale, matrix))
                if reader.bias is not None:
                    moved = matrix * reader.per_column(shift, matrix)
                    weights[reader.bias].sub_(moved.flatten(1).sum(1))
        old = self.of(subject)
        along = [1] * old.dim()
        along[self.axis] = -1
        new = old * scale.to(old).view(along) + shift.to(old).view(along)
        return _with_input(replace(subject, model=model), self.place, new)

    def ratio(self, model: nn.Module, scale: Tensor) -> OwnRatio:
        """New weight / old weight for every parameter of `model`: one number for all that is not read."""
        read = {reader.weight for reader in self.readers}
        ratios = {
            name: torch.ones(p.shape if name in read else (), dtype=torch.float64, device=p.device)
            for name, p in model.named_parameters()
        }
        for reader in self.readers:
            matrix = reader.of(ratios[reader.weight])
            matrix.div_(reader.per_column(scale, matrix))
        return OwnRatio(tuple(ratios.values()))


@dataclass(frozen=True)
class OwnRatio:
    """One number a weight, or one for a whole parameter, of the user's model."""

    ratios: tuple[Tensor, ...]

    def packed(self, folded: bool) -> Sequence[Tensor]:
        """In the order of the model's parameters."""
        return self.ratios


def converted(subject: Subject, dtype: torch.dtype) -> tuple[Subject, bool]:
    """A copy in another precision, where model and loss run in it.

    Args:
        subject: The user's.
        dtype: A floating-point type.

    Returns:
        The copy, and whether it is in `dtype`; where that fails, a copy as it was.
    """
    plain = replace(subject, model=copied(subject.model))
    other = _mapped(replace(subject, model=copied(subject.model).to(dtype)), lambda x: x.to(dtype))
    try:
        with preserved(other.model), torch.enable_grad():
            other.backward(other.forward())
    except AssayError:
        return _mapped(plain, lambda x: x), False
    return other, True


def _mapped(subject: Subject, change: Callable[[Tensor], Tensor]) -> Subject:
    """With every floating-point input detached, contiguous and changed."""

    def each(value: Any) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point():
            return change(value.detach().contiguous()).clone()
        return value

    kwargs = {name: each(value) for name, value in (subject.kwargs or {}).items()}
    return replace(subject, inputs=tuple(map(each, subject.inputs)), kwargs=kwargs)


def _with_input(subject: Subject, place: int | str, value: Tensor) -> Subject:
    if isinstance(place, str):
        kwargs: Mapping[str, Any] = {**(subject.kwargs or {}), place: value}
        return replace(subject, kwargs=kwargs)
    inputs = tuple(value if i == place else old for i, old in enumerate(subject.inputs))
    return replace(subject, inputs=inputs)
