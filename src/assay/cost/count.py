"""One pass under a dispatch mode: what forward and backward compute, move and keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import checkpoint

from assay.cost.again import Memory
from assay.cost.causal import Causal
from assay.cost.fake import viewed
from assay.cost.known import Known
from assay.cost.live import Live, Named, held_besides, tensors_of
from assay.cost.places import Modules
from assay.cost.tally import (
    BACKWARD,
    BYTES,
    FLOPS,
    FORWARD,
    GIVEN,
    OPERATIONS,
    PARAMETERS,
    SAVED,
    TRAINABLE,
    WEIGHTS,
    Key,
    Tally,
)
from assay.cost.watch import MOST, Watch
from assay.subject import Subject, tensors

_DETACH = torch.ops.aten.detach.default


def count(
    subject: Subject,
    names: Mapping[nn.Module, str] | None = None,
    memory: Memory | None = None,
    known: Known | None = None,
    *,
    fused: bool = False,
) -> Tally:
    """Count one forward and one backward pass of `subject`; best on the meta device.

    Args:
        subject: A fresh subject; its gradients are set.
        names: What to call its modules; by default their dotted paths.
        memory: Shared by passes in which all tensors are on the meta device; None where any has data.
        known: What can be said of tensors without data.
        fused: Whether attention computes its scores again in the backward pass.

    Returns:
        The tally. Without anything to differentiate there is no backward phase in it.

    Raises:
        UserCodeError: If the forward or the backward pass raises.
    """
    model = subject.model
    parameters = list(dict.fromkeys(model.parameters()))
    for parameter in parameters:
        parameter.grad = None  # accumulating into an old gradient is one more addition
    if names is None:
        names = {module: name for name, module in model.named_modules()}
    besides = [*model.buffers(), *tensors([subject.inputs, subject.kwargs])]
    given = [*parameters, *besides]
    own = Named(_weights(model, names))
    kept, live = Live(), Live([*tensors_of(given), *held_besides(model, subject.loss)])
    modules, known = Modules(names), known or Known()
    watch = Watch(modules, live, own, memory, known)
    watch.shapes += [size for tensor in besides for size in tensor.shape]
    watch.counts[Key(GIVEN, FORWARD)] += sum(t.numel() * t.element_size() for t in besides)
    del given, besides  # a buffer that the model replaces is gone
    causal = Causal(watch, modules, fused=fused)
    with modules, watch, causal:

        def keep(tensor: Tensor) -> Tensor:
            for part in tensors_of(tensor):
                if not own.of(part) and kept.see(part):
                    key = Key(SAVED, FORWARD, modules.current().module)
                    watch.counts[key] += part.untyped_storage().nbytes()
            return _without_graph(tensor)

        # torch would warn that selective checkpointing goes past them: what it keeps is seen below
        keep.__dict__.update(_checkpoint_internal=True, _user_hooks=None)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, _without_hooks_inside(hooks) as inside, _seen_beside_the_graph(keep):
            output = subject.forward()
            objective = objective_of(subject, output)
        if objective.requires_grad:
            watch.phase, modules.backward, known.backward = BACKWARD, True, True
            with causal.again():
                subject.differentiate(objective)
    learning = {p for p in parameters if p.requires_grad}
    # optimizers keep nothing for a parameter that never gets a gradient
    if objective.requires_grad:
        learning = {p for p in learning if _updated(p)}
    graph = _from_the_end([objective, *tensors(output)])
    del output, objective
    while graph:
        graph.pop()
    parts = watch.parts()
    for part, amount in parts.items():
        for quantity, value in zip((FLOPS, OPERATIONS, BYTES), amount, strict=False):
            watch.counts[Key(quantity, part.phase, part.module, part.kind)] += value
    found = {key: value for key, value in watch.counts.items() if value}
    for key, alive in watch.alive.items():
        most = alive.pop(MOST)
        if most > max(alive.values()):  # as where a middle turn of a loop takes most
            alive[MOST] = most
        found |= {key._replace(kind=f"{key.kind} {order}"): now for order, now in alive.items()}
    found |= _parameters(model, names, learning)
    shapes = tuple(watch.shapes)
    return Tally(
        found,
        watch.peak,
        watch.uncounted,
        shapes,
        watch.steps,
        parts,
        {},
        watch.tables,
        causal.attends,
        bool(inside),
    )


def _without_graph(tensor: Tensor) -> Tensor:
    """A tensor to be kept in place of one.

    An output that its own node kept would keep the node too, and both would live on after their graph.

    Returns:
        One that looks into the same storage.
    """
    if type(tensor) not in (Tensor, FakeTensor) or tensor.grad_fn is None:
        return tensor
    with torch._C._DisableTorchDispatch():
        if isinstance(tensor, FakeTensor):
            view: Tensor = viewed(_DETACH, (tensor,), {}, tensor.fake_mode)
            return view
        return tensor.detach()


@contextmanager
def _without_hooks_inside(hooks: Any) -> Iterator[list[bool]]:
    """Take the hooks away inside `torch.func`'s transforms, which refuse to run under any.

    Yields:
        A list that is empty as long as there was no such transform.
    """
    inside: list[bool] = []
    depth = 0
    disable = torch.autograd.graph.disable_saved_tensors_hooks

    @contextmanager
    def disabled(message: str) -> Iterator[None]:
        nonlocal depth
        if not depth:
            inside.append(True)
            hooks.__exit__()
        depth += 1
        try:
            with disable(message):
                yield
        finally:
            depth -= 1
            if not depth:
                hooks.__enter__()

    torch.autograd.graph.disable_saved_tensors_hooks = disabled  # type: ignore[assignment]
    try:
        yield inside
    finally:
        torch.autograd.graph.disable_saved_tensors_hooks = disable


@contextmanager
def _seen_beside_the_graph(keep: Callable[[Tensor], Any]) -> Iterator[None]:
    """Show what selective checkpointing saves, which it holds beside the graph, where no hook sees it.

    Args:
        keep: Is given each tensor.

    Yields:
        Nothing.
    """
    holder: Any = getattr(checkpoint, "_VersionWrapper", None)
    if holder is None:
        yield
        return

    class Seen(holder):
        def __init__(self, val: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(val, *args, **kwargs)
            if isinstance(val, Tensor):
                keep(val)

    vars(checkpoint)["_VersionWrapper"] = Seen
    try:
        yield
    finally:
        vars(checkpoint)["_VersionWrapper"] = holder


def objective_of(subject: Subject, output: Any) -> Tensor:
    """Where the backward pass starts; of whole numbers alone, as after `argmax`, there is none.

    Args:
        subject: The model, and its loss if it has one.
        output: What the model returned.

    Returns:
        A tensor, without a gradient where there is nothing to differentiate.
    """
    found = list(tensors(output))
    if subject.loss is None and found and not any(t.is_floating_point() for t in found):
        return found[0]
    return subject.objective(output)


def _from_the_end(heads: list[Tensor]) -> list[torch.autograd.graph.Node]:
    """The nodes of an autograd graph, those that were made last at the end of the list.

    Nodes that were looked at from Python, as in every backward pass that is counted, free each other by
    recursion: thousands of steps in a row overflow the stack. Let go one by one from the end they do not.

    Returns:
        All nodes.
    """
    waiting = [head.grad_fn for head in heads if head.grad_fn is not None]
    found = {id(node): node for node in waiting}
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and id(node) not in found:
                found[id(node)] = node
                waiting.append(node)
    return sorted(found.values(), key=lambda node: node._sequence_nr())


def _weights(model: nn.Module, names: Mapping[nn.Module, str]) -> Iterator[tuple[Tensor, str]]:
    """Parameters with their names: those of equal layers have the same."""
    for owner, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            yield parameter, f"{names.get(module, owner)}.{name}"


def _updated(parameter: Tensor) -> bool:
    """Whether a parameter got a gradient, which a hook may have used up already."""
    hooks = getattr(parameter, "_post_accumulate_grad_hooks", None)
    return parameter.grad is not None or bool(hooks)


def _parameters(
    model: nn.Module, names: Mapping[nn.Module, str], learning: Container[Tensor]
) -> Counter[Key]:
    """Numbers of parameters by module, a shared one where it is met first, and bytes in all."""
    found: Counter[Key] = Counter()
    seen: set[Tensor] = set()
    for owner, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                size = parameter.numel() * parameter.element_size()
                found[Key(PARAMETERS, FORWARD, names.get(module, owner))] += parameter.numel()
                found[Key(WEIGHTS, FORWARD)] += size
                found[Key(TRAINABLE, FORWARD)] += size * (parameter in learning)
    return found
