"""The line that repairs a gate which forgets: a bias that starts it at memories of 1 to T steps."""

from __future__ import annotations

from torch import nn

from assay.highway.gates import GateBias
from assay.highway.paths import SkipPath


def keep_bias(path: SkipPath, model: nn.Module) -> str:
    """What to write so that the gates of a path keep, drawn as `log U(1, T)`.

    A gate `sigmoid(b)` keeps for `1 + exp(b)` steps, so these biases spread the memories of the units
    evenly over the length of the path (Tallec and Ollivier, "Can recurrent neural networks warp time?",
    2018). Several biases add: the first carries the draw, the others become zero.

    Args:
        path: A path with a gate.
        model: The model, for the expressions that lead to its parameters.

    Returns:
        A statement that can be run where `model` is the model, or a sentence where no bias is known.
    """
    steps = path.length
    if not path.gate_biases:
        made = f" (`{', '.join(path.gate_parameters[:2])}`)" if path.gate_parameters else ""
        start = f"start the factor on the state{made} at 1 - 1/τ, with τ spread over 1…{steps}"
        return start if path.gate == "data" else f"{start}, or let the data decide"
    first, *others = path.gate_biases
    draw = f"torch.empty({first.stop - first.start}).uniform_(1, {max(steps - 1, 2)}).log()"
    lines = [f"{rows(model, first)} = {'' if first.keeps else '-'}{draw}"]
    lines += [f"{rows(model, other)} = 0" for other in others]
    why = "it keeps the state" if first.keeps else "it lets the new value in"
    why += ", and the biases add" if others else ""
    return f"with torch.no_grad(): {'; '.join(lines)}  # {why}"


def rows(model: nn.Module, bias: GateBias) -> str:
    """A bias, or the rows of it that belong to the gate, as an expression of `model`.

    Args:
        model: The model.
        bias: The bias.

    Returns:
        For example `model.cell.bias_hh[32:64]`, or `model.layers[0].gate.bias[:]`.

    Example:
        >>> rows(nn.Sequential(nn.Linear(2, 3)), GateBias("0.bias", 1, 3, True))
        'model[0].bias[1:3]'
    """
    text, owner = "model", model
    *modules, leaf = bias.name.split(".")
    for name in modules:
        if name.isdigit() and isinstance(owner, nn.Sequential | nn.ModuleList):
            text += f"[{name}]"
        else:
            text += f".{name}" if name.isidentifier() else f".get_submodule({name!r})"
        owner = owner.get_submodule(name)
    if isinstance(owner, nn.ParameterList):
        text += f"[{leaf}]"
    else:
        text += f".{leaf}"
    length = model.get_parameter(bias.name).shape[0]
    whole = bias.start == 0 and bias.stop == length
    return f"{text}[:]" if whole else f"{text}[{bias.start}:{bias.stop}]"
