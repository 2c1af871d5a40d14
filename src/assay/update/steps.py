"""The result of comparing steps: rows, pairs, and how they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from assay.errors import UsageError
from assay.finding import Finding, Result
from assay.update.steps_units import InUnits
from assay.view.blocks import View

Norm = Literal["parameter", "function", "loss"]
MULTIPLES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # of the equal-norm step, for the picture


@dataclass(frozen=True)
class Step:
    """What one optimizer does from the common weights.

    Args:
        name: The optimizer.
        own_norm: Length of the step that it takes by itself, ‖ΔΦ‖.
        scale: Factor by which that was multiplied.
        parameter_norm: Length after scaling.
        function_norm: RMS change of the outputs after scaling.
        predicted: Loss decrease that the gradient predicts after scaling, `−g·ΔΦ`.
        decrease: Loss decrease measured after scaling; negative where the loss rises.
        to_gradient: Degrees between the step and the plain descent direction −g; None where g is zero.
        curve: Decrease at the multiples `Steps.multiples` of the scaled step.
        best: Multiple of the scaled step at which the loss falls most, to a factor of four where it is none
            of `Steps.multiples`; None where none lowers it. Longer ones are tried for short steps alone.
        most: Loss decrease there.
        rounding: Spacing of the weights' numbers over the own step: above 1 most of the step is lost.
    """

    name: str
    own_norm: float
    scale: float
    parameter_norm: float
    function_norm: float
    predicted: float
    decrease: float
    to_gradient: float | None
    curve: tuple[float, ...] = ()
    best: float | None = None
    most: float = 0.0
    rounding: float = 0.0


@dataclass(frozen=True)
class Pair:
    """Angles between the steps of two optimizers, in degrees.

    Args:
        a: One optimizer.
        b: The other.
        degrees: Between the steps in parameter space.
        function_degrees: Between the changes of the outputs that the scaled steps cause.
        closed_form: From the gradients alone, where one is plain SGD and the other plain RMSProp (U1).
        layers: For every parameter, by name; None where a step leaves it alone.
    """

    a: str
    b: str
    degrees: float
    function_degrees: float | None
    closed_form: float | None
    layers: Mapping[str, float | None]


@dataclass(frozen=True, repr=False)
class Steps(Result):
    """Steps of several optimizers, scaled to one norm.

    Args:
        model: Class of the model.
        norm: What was made equal.
        radius: Its common value.
        warmup: Steps taken before.
        loss: Objective at the common weights.
        gradient_norm: ‖g‖ there.
        rows: One for every optimizer that could step.
        pairs: One for every two of them.
        failed: Optimizers that could not step, with the reason.
        multiples: At which `Step.curve` was measured.
        resolution: Differences of the objective below this are round-off.
        remarks: What a reader should know about this measurement.
        units: The same steps in other units of the inputs, where these have any.
        tracebacks: Of optimizers in `failed` whose own code raised, by name.
        objective: What falls: the loss, or where there is none the sum of the outputs.
    """

    model: str
    norm: Norm
    radius: float
    warmup: int
    loss: float
    gradient_norm: float
    rows: tuple[Step, ...]
    pairs: tuple[Pair, ...]
    failed: tuple[tuple[str, str], ...] = ()
    multiples: tuple[float, ...] = MULTIPLES
    resolution: float = 0.0
    remarks: tuple[str, ...] = ()
    tracebacks: tuple[tuple[str, str], ...] = ()
    units: tuple[InUnits, ...] = ()
    objective: str = "loss"
    findings: tuple[Finding, ...] = field(default=(), kw_only=True)

    def __getitem__(self, name: str) -> Step:
        """The row of one optimizer.

        Returns:
            Its step.

        Raises:
            UsageError: If there is no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise UsageError("optimizer", name, f"one of {known}", "Check the spelling.")

    def pair(self, a: str, b: str) -> Pair:
        """Everything about two optimizers.

        Args:
            a: One.
            b: The other; the order does not matter.

        Returns:
            The pair.

        Raises:
            UsageError: If either has no row, or both are one.
        """
        for one in self.pairs:
            if {one.a, one.b} == {a, b} and a != b:
                return one
        known = ", ".join(row.name for row in self.rows)
        raise UsageError("optimizers", (a, b), f"two of {known}", "Check the spelling.")

    def angle(self, a: str, b: str, parameter: str | None = None) -> float | None:
        """Degrees between two steps.

        Args:
            a: One optimizer.
            b: The other.
            parameter: Only for this parameter, by its name in `model.named_parameters()`.

        Returns:
            0 to 180; None where a step leaves that parameter alone.

        Raises:
            UsageError: If an optimizer or the parameter is unknown.
        """
        one = self.pair(a, b)
        if parameter is None:
            return one.degrees
        if parameter not in one.layers:
            raise UsageError(
                "parameter", parameter, f"one of {', '.join(one.layers)}", "Check the spelling."
            )
        return one.layers[parameter]

    def view(self) -> View:
        """Angle, loss decrease at equal norm, and angles layer by layer."""
        from assay.update.steps_view import view_of

        return view_of(self)
