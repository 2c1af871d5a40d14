"""One pass under a dispatch mode: what forward and backward compute, move and keep."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode

from assay.cost.convention import ELEMENTWISE, Rule, first_elements, moved_bytes
from assay.subject import Subject
from assay.where import Location, here

FORWARD, BACKWARD = "forward", "backward"


class Key(NamedTuple):
    """What a count is of. `module` and `kind` are "" for quantities that have none."""

    quantity: str  # "flops", "operations", "bytes", "saved bytes", "parameters"
    phase: str
    module: str = ""
    kind: str = ""


class Tally(NamedTuple):
    """The counts of one pass, and the operators that no table knows, with where they ran."""

    counts: dict[Key, int]
    uncounted: dict[str, Location | None]


class _Modules:
    """Which module runs now: by hooks in the forward pass, by autograd's sequence numbers in the backward.

    A node of the autograd graph gets the next number when its operator runs forward; when the node runs
    backward, the number leads back to the module.
    """

    def __init__(self, model: nn.Module) -> None:
        self._names = {module: name for name, module in model.named_modules()}
        self._stack = [""]
        self._of_node: dict[int, str] = {}

    def __enter__(self) -> _Modules:
        self._handles = (
            hooks.register_module_forward_pre_hook(self._enter),
            hooks.register_module_forward_hook(self._leave, always_call=True),
        )
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def current(self) -> str:
        """The dotted path of the innermost module."""
        node = torch._C._current_autograd_node()
        if node is not None:
            return self._of_node.get(node._sequence_nr(), "")
        name = self._stack[-1]
        self._of_node.setdefault(torch._C._autograd._get_sequence_nr() - 1, name)
        return name

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self._stack.append(self._names.get(module, self._stack[-1]))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._stack.pop()


class _Watch(TorchDispatchMode):
    def __init__(self, modules: _Modules) -> None:
        super().__init__()
        self.counts: Counter[Key] = Counter()
        self.uncounted: dict[str, Location | None] = {}
        self.phase = FORWARD
        self._rules: dict[Any, Rule] = {}
        self._modules = modules

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = Rule(func)
        module = self._modules.current()
        if not rule.known and func.has_kernel_for_dispatch_key(
            torch._C.DispatchKey.CompositeImplicitAutograd
        ):
            # under inference mode composites arrive whole; what they are made of is what counts
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        phase, kind = self.phase, rule.kind
        if rule.flops is not None:
            flops = rule.flops(*args, **kwargs, out_val=out)
            self.counts[Key("flops", phase, module, kind)] += flops
            self.counts[Key("operations", phase, module, kind)] += flops
        elif rule.operations is not None:
            operations = rule.operations(*args, **kwargs, out=out)
            self.counts[Key("operations", phase, module, kind)] += operations
        elif rule.per_element:
            # pointwise operators work for each output, reductions and normalisations for each input
            size = first_elements(out if kind == ELEMENTWISE else args)
            self.counts[Key("operations", phase, module, kind)] += rule.per_element * size
        elif not rule.known:
            self.uncounted.setdefault(str(func), here(2))
        if rule.moves:
            moved = moved_bytes(args) + moved_bytes(out)
            self.counts[Key("bytes", phase, module, kind)] += moved
        return out


def count(subject: Subject) -> Tally:
    """Count one forward and one backward pass of `subject`; best on the meta device.

    Args:
        subject: A fresh subject; its gradients are set.

    Returns:
        The tally. Without anything to differentiate there is no backward phase in it.
    """
    parameters = list(dict.fromkeys(subject.model.parameters()))
    for parameter in parameters:
        parameter.grad = None  # accumulating into an old gradient is one more addition
    own = {p.untyped_storage()._cdata for p in parameters}
    saved: dict[
        int, Tensor
    ] = {}  # meta storages have no data pointer, and ids live as long as these

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved.setdefault(storage._cdata, tensor)
        return tensor

    with _Modules(subject.model) as modules, _Watch(modules) as watch:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = subject.forward()
            objective = subject.objective(output)
        if objective.requires_grad:
            watch.phase = BACKWARD
            objective.backward()
    counts = dict(watch.counts)
    counts[Key("parameters", FORWARD)] = sum(p.numel() for p in parameters)
    counts[Key("saved bytes", FORWARD)] = sum(t.untyped_storage().nbytes() for t in saved.values())
    return Tally(counts, watch.uncounted)
