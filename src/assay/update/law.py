"""What would make a row invariant, found by trying, and what unit the learning rate therefore carries.

If weights change by a factor r and the loss by a factor s, an update of consistent units needs the rate of
each weight changed by `r^p / s^q` for one pair (p, q), whatever the change: the rate then has the unit
`weight^p / loss^q`. SGD has (2, 1): `ΔW = −η ∂loss/∂W` must come out in units of W (Theory U4, U6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assay.update.change import Change
from assay.update.optimizer import is_scalable
from assay.update.training import Training
from assay.update.trajectory import Setting, Trajectory, train
from assay.update.verdict import LEAK, compare

POWERS = ((2, 1), (1, 0), (0, 1), (2, 0), (1, 1), (0, 0))
# ε → 0: far below any gradient of the reference problem, yet not 0 / 0 where a gradient is zero
SHRINK = {"eps": 1e-8, "damping": 1e-8}
UNDECAYED = {"weight_decay": 0.0, "lambd": 0.0}
LOUD = (
    2.0**40
)  # gradients beside which an ε that is no option is nothing, and float64 is still at ease
HIDDEN = "a constant that it compares gradients with"  # an ε that is no option, a threshold


@dataclass(frozen=True)
class Law:
    """Rates multiplied by `weight_ratio^p / loss_ratio^q` make the twin the same function."""

    p: int
    q: int
    deviation: float
    apart_from: tuple[str, ...] = ()  # "ε", "weight decay": what had to be taken out first


@dataclass(frozen=True)
class Laboratory:
    """Runs variants of one training.

    Args:
        setting: Optimizer and problem.
        reference: The reference world.
        options: The optimizer's options as they are: its first parameter group without the parameters.
    """

    setting: Setting
    reference: Training
    options: Mapping[str, Any]
    _references: dict[tuple[tuple[str, float], ...], Trajectory] = field(default_factory=dict)

    def has(self, prefixes: Iterable[str]) -> bool:
        """Whether the optimizer has a non-zero option whose name starts with one of `prefixes`."""
        return any(is_scalable(value) for value in self.named(prefixes).values())

    def named(self, prefixes: Iterable[str]) -> dict[str, Any]:
        """The options whose names start with one of `prefixes`."""
        return {key: v for key, v in self.options.items() if key.startswith(tuple(prefixes))}

    def deviation(self, world: Training, options: Mapping[str, float], law: Setting) -> float:
        """How far `world` under `law` is from the reference, both with `options` scaled.

        Returns:
            The deviation, infinite where either run raises or is not finite.
        """
        try:
            base = self._trained(options)
            twin = train(replace(law, options={**options, **law.options}), world)
        except Exception:  # an option that cannot take this value (lr = 0, ε = 0): no law from it
            return float("inf")
        return compare(base, twin).last if base.finite and twin.finite else float("inf")

    def loud_deviation(self, world: Training) -> float:
        """How far `world` is from the reference where both have gradients `LOUD` times as large."""
        try:
            base = train(self.setting, self.reference.louder(LOUD))
            twin = train(self.setting, world.louder(LOUD))
        except Exception:
            return float("inf")
        return compare(base, twin).last if base.finite and twin.finite else float("inf")

    def _trained(self, options: Mapping[str, float]) -> Trajectory:
        key = tuple(sorted(options.items()))
        if key not in self._references:
            setting = replace(self.setting, options=options)
            self._references[key] = train(setting, self.reference)
        return self._references[key]


@dataclass(frozen=True)
class Cause:
    """What a deviation comes from, the deviation without it, and how it was taken out."""

    what: str
    left: float
    how: str = "without"


def find_cause(lab: Laboratory, world: Training, deviation: float, small: float) -> Cause | None:
    """Whether a deviation is the work of ε or of weight decay alone.

    An ε that is an option is shrunk. One that is not (or a threshold) shows when gradients are made large
    beside it, in both units alike.

    Args:
        lab: Runs the training.
        world: The twin.
        deviation: Its deviation as it is.
        small: Largest deviation that is taken for the work of something that is no option.

    Returns:
        The cause; None where nothing of these explains the deviation.
    """

    def explains(left: float) -> bool:
        return left <= 1e-3 * deviation and left <= LEAK

    for what, options in (("ε", SHRINK), ("weight decay", UNDECAYED)):
        if lab.has(options):
            left = lab.deviation(world, options, lab.setting)
            if explains(left):
                return Cause(what, left, _how(lab, world, what, deviation))
    if deviation > small:
        return None
    left = lab.loud_deviation(world)
    if not explains(left):
        return None
    # an ε may be an option and yet too large however small: where gradients are as good as zero
    return Cause("ε" if lab.has(SHRINK) else HIDDEN, left, "with gradients 1e12 times as large")


def _how(lab: Laboratory, world: Training, what: str, deviation: float) -> str:
    """How the cause was taken out, and whether a tenth of it does a tenth of the harm."""
    options = SHRINK if what == "ε" else UNDECAYED
    tenth = lab.deviation(world, dict.fromkeys(options, 0.1), lab.setting)
    linear = abs(10 * tenth / deviation - 1) < 0.1
    return f"without, and in proportion to {what}" if linear else "without"


def find_laws(lab: Laboratory, change: Change) -> list[Law]:
    """Every (p, q) of `POWERS` that makes the twin the same function.

    Args:
        lab: Runs the training.
        change: A change that only rescales weights or the loss; others have no law.

    Returns:
        The laws, those that need nothing taken out first.
    """
    if change.weight_ratio is None and change.loss_ratio == 1.0:
        return []
    world = change.apply(lab.reference)
    variants: list[tuple[tuple[str, ...], dict[str, float]]] = [((), {})]
    leaks, decays = lab.has(SHRINK), lab.has(UNDECAYED)
    if leaks:
        variants.append((("ε",), dict(SHRINK)))
    if decays:
        variants.append((("weight decay",), dict(UNDECAYED)))
    if leaks and decays:
        variants.append((("ε", "weight decay"), {**SHRINK, **UNDECAYED}))
    found = []
    tried: dict[tuple[int, int], tuple[float, tuple[str, ...]] | None] = {}
    for p, q in POWERS:
        # where weights (or the loss) keep their unit, their power makes no difference
        key = (p if change.weight_ratio is not None else 0, q if change.loss_ratio != 1.0 else 0)
        if key not in tried:
            ways = _with_rates(lab.setting, change, p, q)
            outcomes = (_try(lab, world, way, variants) for way in ways)
            tried[key] = next((one for one in outcomes if one is not None), None)
        outcome = tried[key]
        if outcome is not None:
            found.append(Law(p, q, *outcome))
    return sorted(found, key=lambda one: len(one.apart_from))


def _try(
    lab: Laboratory,
    world: Training,
    law: Setting,
    variants: list[tuple[tuple[str, ...], dict[str, float]]],
) -> tuple[float, tuple[str, ...]] | None:
    """Deviation under `law`, and the least that has to be taken out for it to be none to speak of."""
    if lab.deviation(world, variants[-1][1], law) > LEAK:
        return None  # not even with everything taken out
    for apart_from, options in variants:
        deviation = lab.deviation(world, options, law)
        if deviation <= LEAK:
            return deviation, apart_from
    return None  # pragma: no cover - the last variant was seen to pass


def _with_rates(setting: Setting, change: Change, p: int, q: int) -> list[Setting]:
    """The ways of giving each weight `weight_ratio^p / loss_ratio^q` times its rate."""
    if change.weight_ratio is None:  # one factor for all weights is simply another lr
        return [replace(setting, options={"lr": change.loss_ratio**-q})]
    packed = change.weight_ratio.packed(setting.feeding.folded)
    rates = [r**p / change.loss_ratio**q for r in packed]
    ways = [replace(setting, rates=rates)]
    firsts = [float(r.flatten()[0]) for r in rates]
    if all(bool((r == first).all()) for r, first in zip(rates, firsts, strict=True)):
        # a step cannot be rescaled from outside where the optimizer keeps weights of its own
        ways.append(replace(setting, lrs=firsts))
    return ways


def describe(change: Change, laws: list[Law]) -> str:
    """The laws of one row in words.

    Returns:
        A sentence, or "" where there is no law.
    """
    useful = [
        law for law in laws if (law.q if change.row == "loss unit" else (law.p, law.q) != (0, 0))
    ]
    if not useful:
        return ""
    law = useful[0]
    apart = f" (apart from {' and '.join(law.apart_from)})" if law.apart_from else ""
    power = "²" if law.p == 2 else ""
    if change.row == "loss unit":
        how = "lr is multiplied by ln 2"
    elif change.row == "input scale":
        how = f"the rate of feature j is divided by |c[j]|{power}"
    elif change.row == "hidden scale":
        how = f"rates into unit i are multiplied by c[i]{power}, and those out of it divided by it"
    else:
        inner = {0: "", 1: "rates below the output layer are divided by a²"}[law.q]
        outer = {0: "", 1: "the output layer's rate is multiplied by a", -1: ""}[_outer(law)]
        if _outer(law) < 0:
            outer = f"the output layer's rate is divided by a{'²' if _outer(law) == -2 else ''}"
        how = " and ".join(part for part in (inner, outer) if part)
    return f"becomes invariant when {how}{apart}"


def _outer(law: Law) -> int:
    """Power of `a` in the output layer's rate under ỹ = a y: weights change by a, the loss by a²."""
    return law.p - 2 * law.q


def unit_of_rate(laws: dict[str, list[Law]]) -> str:
    """The dimensional reading: the unit of lr under which every rescaling is consistent.

    Args:
        laws: The laws of the diagonal rows; those of an invariant row include (0, 0).

    Returns:
        A sentence.
    """

    def pairs(row: str) -> set[tuple[int, int]]:
        return {(law.p, law.q) for law in laws.get(row, [])}

    loss, target = {q for _, q in pairs("loss unit")}, pairs("target unit")
    both = [pq for pq in POWERS if pq in target and pq[1] in loss]
    if not both:
        return (
            "No unit of lr makes the update consistent when targets or the loss change their unit."
        )
    p, q = both[0]
    unit = {
        (0, 0): "no unit: it is a pure number",
        (0, 1): "the unit 1 / loss",
        (
            1,
            0,
        ): "the unit of the weights: a step is as long as lr says, whatever the gradient's unit",
        (
            2,
            1,
        ): "the unit weight² / loss: the gradient has loss / weight, and the step must be a weight",
        (1, 1): "the unit weight / loss",
        (2, 0): "the unit weight²",
    }[p, q]
    fine = all(p in {one for one, _ in pairs(row)} for row in ("input scale", "hidden scale"))
    reach = (
        "weight by weight"
        if fine
        else "matrix by matrix, but not feature by feature or unit by unit"
    )
    apart = sorted({a for row in laws.values() for law in row for a in law.apart_from})
    said = f", apart from {' and '.join(apart)}" if apart else ""
    return f"lr carries {unit}. So read, the update has consistent units {reach}{said}."


def unit_of_loss(laws: list[Law]) -> str:
    """What the loss unit alone says about the rate, where targets cannot be rescaled.

    Args:
        laws: Those of the row "loss unit".

    Returns:
        A sentence.
    """
    powers = {law.q for law in laws}
    apart = sorted({a for law in laws for a in law.apart_from})
    said = f", apart from {' and '.join(apart)}" if apart else ""
    if 0 in powers:
        return f"lr does not carry the unit of the loss{said}."
    if 1 in powers:
        return f"lr carries the inverse unit of the loss{said}: in bits it has to be ln 2 times that in nats."
    return "No unit of lr makes up for another unit of the loss."
