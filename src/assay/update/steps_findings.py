"""What a comparison of steps notes."""

from __future__ import annotations

from assay.finding import Finding, Number
from assay.update.failure import Failure
from assay.update.steps import Norm, Step

HARDLY = 0.1  # of the decrease that the gradient predicts: on a parabola a step that is nearly twice too long


def findings_of(
    rows: list[Step], failed: list[Failure], kind: Norm, resolution: float
) -> tuple[Finding, ...]:
    """Notes only: which step is better is a fact about optimizers, not a defect of the model."""
    found = []
    for row in rows:
        if row.predicted <= 0:
            rule, said = "step.ascent", "points uphill: the gradient predicts that the loss rises"
            repair = "Its state is of another time: lower the momentum, or take more warm-up steps."
        elif row.decrease < -resolution:
            rule = "step.overshoot"
            said = f"raises the loss by {-row.decrease:.3g} where the gradient predicts a decrease"
            repair = f"Steps of this {kind} norm are too long here: multiply lr by 0.5 or less."
        elif row.decrease < HARDLY * row.predicted and row.predicted > resolution:
            rule = "step.overshoot"
            said = f"lowers the loss by {row.decrease:.3g}, not a tenth of the {row.predicted:.3g} predicted"
            repair = f"Steps of this {kind} norm are too long here: multiply lr by 0.5 or less."
        else:
            continue
        found.append(
            Finding(
                rule,
                f"At equal {kind} norm the step of {row.name} {said}.",
                Number(row.predicted, "1", "formula", "loss decrease −g·ΔΦ"),
                Number(row.decrease, "1", "measured", "loss decrease on the example inputs"),
                "note",
                repair=repair,
                theory="U1",
            )
        )
    return (*found, *map(_failed, failed))


def _failed(one: Failure) -> Finding:
    return Finding(
        "step.failed",
        f"{one.name} could not be compared: {one.why}",
        Number("a finite step", "1", "formula"),
        Number("none", "1", "measured"),
        "note",
        repair="Run it alone on this model. One that takes only some parameters needs a function of the "
        "model that hands it these.",
    )
