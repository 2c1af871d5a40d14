"""What breaks an expectation on a skip path, and the line that repairs it."""

from __future__ import annotations

import math

from torch import nn

from assay.finding import Finding, Number, ranked
from assay.highway.highways import Highways, PlainPath, SkipPath

LONG = 8  # additions or operators from which on a path counts as long
FACTOR = 16.0  # four halvings: a path may lose or gain this much from end to end


def findings(highways: Highways, model: nn.Module) -> tuple[Finding, ...]:
    """Judge the paths.

    Args:
        highways: The paths.
        model: The model, for the names in the repairs.

    Returns:
        Findings, the gravest first.
    """
    found: list[Finding | None] = [_none(highways.plain)]
    for path in highways.paths:
        if not path.is_sum or math.isnan(path.retention):
            continue
        if path.tied and path.gate is None and not path.norm_on_skip:
            found.append(_tied_ungated(path))
        if path.gate is not None and path.tied:
            found.append(_short_memory(path, model))
        if path.gate == "data" and not path.tied and path.length > 1:
            found.append(_gate_unneeded(path))
        if path.norm_on_skip and path.gate is None:
            found.append(_norm_on_skip(path))
        if path.gate is None and not path.tied and not path.norm_on_skip:
            found.append(_unscaled(path))
    return ranked(tuple(finding for finding in found if finding is not None))


def _ratio(value: float, convention: str) -> Number:
    return Number(value, "1", "measured", convention)


def _off(value: float) -> bool:
    return not 1 / FACTOR <= value <= FACTOR


def _octaves(value: float) -> float:
    return abs(math.log2(value)) if value > 0 else 1e3


def _none(plain: PlainPath | None) -> Finding | None:
    if plain is None or plain.length < LONG or math.isnan(plain.retention):
        return None
    if not _off(plain.retention):
        return None
    falls = plain.retention < 1
    what = f"No skip path over {plain.length} {plain.unit}"
    verb = "reaches" if falls else "arrives at"
    if plain.tied:
        repair = "keep a part of the state: h = z * h + (1 - z) * c with z = sigmoid(…), or nn.GRU"
    else:
        repair = "add a skip: x = x + block(x), with the last weights of each block near zero"
    return Finding(
        rule="highway.none",
        message=f"{what}: {plain.retention:.2g} of the gradient {verb} the first.",
        expected=Number(
            f"between 1/{FACTOR:.0f} and {FACTOR:.0f}", "1", "formula", "four halvings end to end"
        ),
        measured=_ratio(plain.retention, "gradient norm at the first over that at the last"),
        severity="warning",
        repair=repair,
        where=plain.where,
        module=plain.modules[0],
        theory="H2" if plain.tied else "H1",
        weight=_octaves(plain.retention),
    )


def _tied_ungated(path: SkipPath) -> Finding:
    steps = path.length
    growth = path.growth if path.growth == path.growth else 1.0
    worst = max(growth, path.retention, key=_octaves)
    grave = steps > 2 and _off(worst)
    return Finding(
        rule="highway.tied-ungated",
        message=(
            f"{steps} additions share one diversion and no gate, so they add coherently: the state "
            f"grows {growth:.3g}-fold and the gradient {path.retention:.3g}-fold over the path. "
            "Shared weights cannot leave out a step; only overwriting by choice needs a gate, "
            "pure accumulation does not."
        ),
        expected=Number(math.e, "1", "bound", "(1 + 1/T)^T, with diversions scaled by 1/T"),
        measured=_ratio(worst, "size of the state, or of the gradient, end over start"),
        severity="warning" if grave else "note",
        repair=(
            f"h = h + f(h) / {steps}, or let the data decide: h = z * h + (1 - z) * c with "
            "z = sigmoid(…)"
        ),
        where=path.where,
        module=path.modules[0],
        theory="H2",
        weight=_octaves(worst),
    )


def _short_memory(path: SkipPath, model: nn.Module) -> Finding | None:
    steps = path.length
    if steps < LONG or not path.half_life < steps / 4:
        return None
    gate = "data" if path.gate == "data" else "a constant"
    return Finding(
        rule="highway.short-memory",
        message=(
            f"The gate (by {gate}) forgets: the gradient halves every {path.half_life:.2g} steps, "
            f"{path.retention:.2g} of it survives the {steps} steps of the path."
        ),
        expected=Number(
            steps / 4, "steps", "formula", "half-life of at least a quarter of the path"
        ),
        measured=Number(path.half_life, "steps", "measured", "straight line through log norms"),
        severity="warning",
        repair=_keep_bias(path, model),
        where=path.where,
        module=path.modules[0],
        theory="H2",
        weight=_octaves(path.retention),
    )


def _keep_bias(path: SkipPath, model: nn.Module) -> str:
    """The line that starts the keep gate at memories of 1 to T steps: bias log U(1, T)."""
    steps = path.length
    if path.gate == "constant":
        made = f" ({', '.join(path.gate_parameters[:2])})" if path.gate_parameters else ""
        return f"decay{made} of 1 - 1/τ with τ spread over 1…{steps}, or a gate driven by data"
    bias = f"torch.empty(d).uniform_(1, {max(steps - 1, 2)}).log()"
    owner, layer = _recurrent_layer(path, model)
    if layer is not None:
        slot = f"{owner}.bias_hh{layer}"
        other = f"{owner}.bias_ih{layer}"
        kind = _module(model, owner)
        d = getattr(kind, "hidden_size", "d")
        if getattr(kind, "bias", True):
            which = "its z keeps" if "GRU" in type(kind).__name__ else "f keeps"
            return (
                f"with torch.no_grad(): {slot}[{d}:{2 * d}] = {bias.replace('empty(d', f'empty({d}')}; "
                f"{other}[{d}:{2 * d}] = 0  # {which}, and its two biases add"
            )
    names = [name for name in path.gate_parameters if "bias" in name.rpartition(".")[2]]
    target = names[0] if names else "the gate's bias"
    sign = "-" if path.gate_keeps is False else ""
    side = "updates" if path.gate_keeps is False else "keeps"
    return f"with torch.no_grad(): {target} = {sign}{bias}  # of the gate's rows: it {side}"


def _recurrent_layer(path: SkipPath, model: nn.Module) -> tuple[str, str | None]:
    """The torch layer that makes the gate, and its suffix: ("rnn", "_l0"), ("cell", "")."""
    for name in (*path.gate_parameters, *path.shared):
        owner, _, leaf = name.rpartition(".")
        if leaf.startswith(("bias_hh", "weight_hh", "bias_ih", "weight_ih")):
            made = _module(model, owner)
            if isinstance(made, nn.GRU | nn.LSTM | nn.GRUCell | nn.LSTMCell):
                return owner or "model", leaf.partition("_hh")[2] or leaf.partition("_ih")[2]
    return "", None


def _module(model: nn.Module, owner: str) -> nn.Module | None:
    try:
        return model.get_submodule("" if owner == "model" else owner)
    except AttributeError:
        return None


def _gate_unneeded(path: SkipPath) -> Finding:
    return Finding(
        rule="highway.gate-unneeded",
        message=(
            f"{path.length} additions are gated by data although each diversion has weights of its "
            "own, which can already weight its contribution. A gate is needed where weights are "
            "shared and the state has to be overwritten by choice."
        ),
        expected=Number("no gate", "", "formula"),
        measured=_ratio(path.retention, "fraction of the gradient's norm that survives the path"),
        severity="note",
        repair="x = x + f(x) with the last weights of f near zero does the same for less",
        where=path.where,
        module=path.modules[0],
        theory="H1",
    )


def _norm_on_skip(path: SkipPath) -> Finding:
    return Finding(
        rule="highway.norm-on-skip",
        message=(
            f"A norm lies on the skip path of {path.length} additions (post-norm), so the path is "
            f"not the identity: {path.retention:.3g} of the gradient's norm survives it."
        ),
        expected=Number(1.0, "1", "formula", "an identity path passes the gradient on"),
        measured=_ratio(path.retention, "fraction of the gradient's norm that survives the path"),
        severity="warning" if path.length >= LONG and _off(path.retention) else "note",
        repair="x = x + f(norm(x)), and one norm at the end (norm_first=True in nn.Transformer)",
        where=path.where,
        module=path.modules[0],
        theory="H1",
        weight=_octaves(path.retention),
    )


def _unscaled(path: SkipPath) -> Finding | None:
    if path.length < LONG or not _off(path.retention):
        return None
    scale = 1 / math.sqrt(path.length)
    return Finding(
        rule="highway.unscaled",
        message=(
            f"{path.length} diversions of full size change the gradient {path.retention:.3g}-fold "
            "from the end of the skip path to its start."
        ),
        expected=Number(
            f"between 1/{FACTOR:.0f} and {FACTOR:.0f}", "1", "formula", "four doublings end to end"
        ),
        measured=_ratio(path.retention, "gradient norm at the start over that at the end"),
        severity="warning",
        repair=f"x = x + {scale:.2g} * f(x)  # 1/√L, or zero the last weights of each diversion",
        where=path.where,
        module=path.modules[0],
        theory="H1",
        weight=_octaves(path.retention),
    )
