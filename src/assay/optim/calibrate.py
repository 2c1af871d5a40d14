"""First weights in the data's units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.errors import CannotMeasure, UsageError, verbatim
from assay.optim.moments import Moments
from assay.optim.plan import Slot, plan
from assay.optim.refuse import NotFinite, check_model
from assay.optim.whiten import Known
from assay.state import preserved


def calibrate_(
    model: nn.Module, batches: Iterable[Any], *, inputs: Callable[[Any], Any] | None = None
) -> tuple[str, ...]:
    """Write the weights that read the data as if they had been drawn for standardised data, in place.

    Initialisers draw weights for inputs of mean 0 and variance 1. Every layer that reads an input of the
    model as it is gets `W[i,j] ← W[i,j] / σ[j]` and `b ← b − W μ` (Theory U5: W has the inverse unit of x),
    so that the model starts as the one that is drawn on standardised data, whatever the units. Weights of
    constant features become 0, as no step would ever move them. Call it once, before training: a second call
    would divide once more.

    Args:
        model: With weights as they were drawn.
        batches: What it will be trained on, or a part of it: tensors, dicts of keyword arguments, or pairs
            as a DataLoader gives them, of which the first is the model's input.
        inputs: From a batch to what the model is called with, where it is none of these.

    Returns:
        The names of the weights that were rewritten.

    Raises:
        UsageError: If `model` is no module, or `batches` is empty.
        CannotMeasure: If no layer that is known reads an input of the model as it is.
        NotFinite: If a feature is NaN or infinite; no weight has changed then.

    Example:
        >>> torch.manual_seed(0)
        <torch._C.Generator ...>
        >>> net = nn.Sequential(nn.Linear(2, 1000), nn.ReLU())
        >>> x = torch.randn(256, 2) * torch.tensor([1e-6, 300.0]) + torch.tensor([0.0, 1e4])
        >>> calibrate_(net, [x])
        ('0.weight',)
        >>> bool(0.3 < net[0](x).std() < 1.0)
        True
    """
    check_model("calibrate_", model)
    # every weight with a bias counts as one that can take a shift up
    slots = plan(model, {id(p) for p in model.parameters()})
    seen: dict[int, list[Moments | None]] = {}
    count = 0
    for batch in batches:
        count += 1
        _read(model, _arguments(batch, inputs), slots, seen)
    if count == 0:
        raise UsageError("batches", verbatim("nothing"), "at least one batch", "Give [x], say.")
    if not seen:
        raise CannotMeasure(
            "model",
            verbatim(type(model).__name__),
            "a layer of a known kind that reads an input of the model as it is",
            "Inputs that are tokens have no unit; where inputs are converted first, give the part behind.",
        )
    chosen = [slot for slot in slots if id(slot) in seen]
    for slot in chosen:
        for port, moments in zip(slot.ports, seen[id(slot)], strict=True):
            if moments is not None and bool(moments.bad().any()):
                feature = int(moments.bad().nonzero()[0])
                raise NotFinite(
                    f"the input of {port.name}, feature {feature}",
                    float("nan"),
                    "finite numbers",
                    "Nothing was changed. Mend or drop the rows with it.",
                )
    for slot in chosen:
        _rewrite(slot, seen[id(slot)])
    return tuple(slot.name for slot in chosen)


def _arguments(
    batch: Any, inputs: Callable[[Any], Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if inputs is not None:
        batch = inputs(batch)
        return (batch, {}) if isinstance(batch, tuple) else ((batch,), {})
    if isinstance(batch, Mapping):
        return (), dict(batch)
    return (batch[0] if isinstance(batch, tuple | list) else batch,), {}


def _read(
    model: nn.Module,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    slots: list[Slot],
    seen: dict[int, list[Moments | None]],
) -> None:
    """Merge the moments of one batch into `seen`, for every port that is fed an input of the model."""
    args, kwargs = arguments
    given = {
        t.untyped_storage().data_ptr() for t in (*args, *kwargs.values()) if isinstance(t, Tensor)
    }
    handles = []
    for slot in slots:
        for module, finders in slot.watched:

            def hook(
                _: Any, a: Any, k: Any, out: Any, slot: Slot = slot, finders: Any = finders
            ) -> None:
                for place, (port, find) in enumerate(zip(slot.ports, finders, strict=True)):
                    source = a[place] if len(a) > place else next(iter(k.values()), None)
                    x = find(a, k, out)
                    if not (isinstance(x, Tensor) and isinstance(source, Tensor)) or x.numel() == 0:
                        continue
                    if (
                        source.untyped_storage().data_ptr() not in given
                        or not x.is_floating_point()
                    ):
                        continue
                    now = Moments.of(x.reshape(-1, x.shape[-1]), centred=port.centred)
                    found = seen.setdefault(id(slot), [None] * len(slot.ports))
                    old = found[place]
                    found[place] = now if old is None else old.merged(now)

            handles.append(module.register_forward_hook(hook, with_kwargs=True))
    try:
        with preserved(model), torch.no_grad():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _rewrite(slot: Slot, moments: list[Moments | None]) -> None:
    weight = slot.view(slot.weight)
    g, _, i, _ = weight.shape
    nothing = Known.nothing(len(slot.ports), slot.ports[0].width, slot.weight.device)
    known = nothing.after(moments)
    read = (known.count > 0).view(-1, 1)
    sigma = torch.where(read, known.deviations(), 1.0).reshape(g, 1, i, 1)
    mean = torch.where(read, known.mean, 0.0).reshape(g, 1, i, 1)
    new = torch.where(sigma > 0, weight.double() / sigma, 0.0)
    weight.copy_(new)
    if slot.bias is not None:
        shift = (new * mean).sum((2, 3)).reshape(slot.bias.shape)
        slot.bias.copy_(slot.bias.double() - shift)
