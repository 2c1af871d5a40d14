"""One pass under a dispatch mode: what forward and backward compute, move and keep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type

from assay.cost.arithmetic import filled
from assay.cost.compared import Comparison
from assay.cost.convention import ELEMENTWISE, PRODUCT, Rule, first_elements, moved_bytes
from assay.cost.fake import remade, viewed
from assay.cost.higher import unrolled
from assay.cost.known import Known
from assay.cost.live import Live, tensors_of
from assay.cost.places import NOWHERE, Modules, Place
from assay.cost.tables import Reach, reach
from assay.cost.values import call
from assay.subject import Subject, tensors
from assay.where import Location, here

FORWARD, BACKWARD = "forward", "backward"
FLOPS, CAUSAL, OPERATIONS, BYTES = "flops", "masked flops", "operations", "bytes"
SAVED, PEAK, PARAMETERS, WEIGHTS = "saved bytes", "peak bytes", "parameters", "parameter bytes"
TRAINABLE = "trainable bytes"


class Key(NamedTuple):
    """What a count is of. `module` and `kind` are "" for quantities that have none.

    Of a peak, `kind` is the operator after which so much was alive.
    """

    quantity: str
    phase: str
    module: str = ""
    kind: str = ""


class Part(NamedTuple):
    """Who did something: `Key` knows the module and the class, this the operator and the line too.

    Args:
        phase: "forward" or "backward".
        module: The innermost module's dotted path.
        line: "file:line" of the user's code; in the backward pass that of the forward operator.
        operator: Its name in torch, as in "addmm".
        kind: Its class.
        again: Whether the backward pass ran a piece of the forward pass again, as checkpointing does.
    """

    phase: str
    module: str
    line: str
    operator: str
    kind: str
    again: bool


class Amount(NamedTuple):
    """What was done: flops, operations, bytes moved, and how many times an operator was called."""

    flops: int
    operations: int
    moved: int
    calls: int


class Tally(NamedTuple):
    """What one pass amounts to.

    Args:
        counts: Every quantity that is a sum, and what was alive after the operators of each line.
        peak: The most bytes that were alive.
        uncounted: Operators that no table knows, with where they first ran.
        shapes: The dimensions of all forward outputs, in order: where a size is rounded, it shows here.
        steps: Number of operators that ran.
        parts: The sums once more, as finely as they were counted.
        compared: What sizes were compared with: by how much the two sides differed.
        tables: How far lookups went into tables of embeddings, by module, where that is known.
        attends: Whether it called attention, which a GPU runs as one kernel.
        unseen: Whether a transform of `torch.func` kept what it saves for the backward pass to itself.
    """

    counts: dict[Key, int]
    peak: int
    uncounted: dict[str, Location | None]
    shapes: tuple[int, ...]
    steps: int
    parts: dict[Part, Amount]
    compared: dict[Comparison, float]
    tables: dict[str, Reach]
    attends: bool
    unseen: bool = False


class _Seen(NamedTuple):
    """What an operator did on arguments of these shapes: the next such call need not run."""

    flops: int
    operations: int
    moved: int
    made: Any
    shapes: tuple[int, ...]


class Memory:
    """What operators did on tensors without data, kept from one pass to the next."""

    def __init__(self) -> None:
        self.seen: dict[Any, _Seen] = {}
        self.rules: dict[Any, Rule] = {}
        self.drawn: set[Any] = set()


class _MoreThanShapes(Exception):
    """A tensor is sparse, or remembers its values: more than shapes may matter."""


_DEVICE = torch.ops.prim.device.default
_VIEW = "view"  # in place of a recipe: the same operator on the storage that was given


class _Watch(TorchDispatchMode):
    """Counts every operator.

    On tensors without data the outcome depends on shapes alone, so a call with the shapes of an earlier
    one, as loops and layers make them, is answered from memory.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        modules: Modules,
        live: Live,
        weights: Mapping[int, str],
        memory: Memory | None,
        known: Known,
    ) -> None:
        super().__init__()
        self.counts: Counter[Key] = Counter()
        self.peak = live.bytes
        self.alive: dict[Key, dict[str, int]] = {}
        self.uncounted: dict[str, Location | None] = {}
        self.phase = FORWARD
        self.shapes: list[int] = []
        self.steps = 0
        self.tables: dict[str, Reach] = {}
        self._done: dict[tuple[str, bool, Place, Rule], list[int]] = {}
        self._modules, self._live, self._weights = modules, live, weights
        self._known = known
        self._weight = self._before = ""  # whose product was the last, and the operator before
        self._remember, self._fake = memory is not None, detect_fake_mode()
        memory = memory if memory is not None else Memory()
        self._seen, self._rules = memory.seen, memory.rules

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _DEVICE:  # asked for thousands of times by fake tensors
            return args[0].device
        if types and any(is_traceable_wrapper_subclass_type(kind) for kind in types):
            return NotImplemented  # what it is made of comes here next
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            if isinstance(func, HigherOrderOperator):
                with self:
                    return unrolled(func, args, kwargs)
            rule = self._rules[func] = Rule(func)
        place = self._modules.current()
        if not rule.known and rule.composite:
            # under inference mode composites arrive whole; what they are made of is what counts
            with self:
                return func.decompose(*args, **kwargs)
        known = self._known
        if rule.indexed:
            args = known.indexed(func, args)
        key = self._key(rule, args, kwargs) if self._remember else None
        seen = self._seen.get(key) if key is not None else None
        if seen is None:
            out = known.run(rule, func, args, kwargs)
            seen = self._count(rule, func, args, kwargs, out)
            if key is not None and _repeatable(rule, key, args, kwargs, out, seen):
                self._seen[key] = seen
        else:
            out = args[0] if rule.in_place else self._again(seen.made, func, args, kwargs)
        known.note(rule, func, args, kwargs, out)
        self.steps += 1
        if self.phase == FORWARD:
            self.shapes += seen.shapes
        if rule.flops is not None:
            self._weight = next(
                (w for t in tensors_of(args) if (w := self._owner(t))), self._weight
            )
        if rule.lookup and (there := reach(args)):
            before = self.tables.get(place.module, there)
            self.tables[place.module] = max(before, there)
        self._add(rule, seen, place, out)
        return out

    def _key(self, rule: Rule, args: Any, kwargs: Any) -> Any:
        """What the outcome of a call depends on; None where it is more than shapes, or not worth it."""
        if not (rule.functional or rule.in_place or (self._fake and rule.view)) or rule.dynamic:
            return None
        try:
            return rule, _signature(args, kwargs)
        except _MoreThanShapes:
            return None

    def _again(self, made: Any, func: Any, args: Any, kwargs: Any) -> Any:
        if made is _VIEW:
            assert self._fake is not None
            return viewed(func, args, kwargs, self._fake)
        return _remade(made, self._fake)

    def _owner(self, tensor: Tensor) -> str:
        return self._weights.get(id(tensor.untyped_storage()), "")

    def _count(self, rule: Rule, func: Any, args: Any, kwargs: Any, out: Any) -> _Seen:
        flops = operations = 0
        if rule.flops is not None:
            flops = rule.flops(*args, **kwargs, out_val=out)
            operations = int(flops * filled(args))
        if rule.operations is not None:
            operations = rule.operations(*args, **kwargs, out=out)
        elif rule.per_element:
            # pointwise operators work for each output, reductions and normalisations for each input
            size = first_elements(out if rule.kind == ELEMENTWISE else args)
            operations = rule.per_element * size
        elif not rule.known:
            self.uncounted.setdefault(str(func), here(3))
        moved = rule.moved(args, out)
        shapes = tuple(d for tensor in tensors_of(out) for d in tensor.shape)
        made = _VIEW if rule.view else _recipe(out)
        return _Seen(flops, operations, moved, made, shapes)

    def _add(self, rule: Rule, seen: _Seen, place: Place, out: Any) -> None:
        phase = self.phase
        # autograd itself needs no gradients, and calls no modules
        again = phase == BACKWARD and (torch.is_grad_enabled() or self._modules.running)
        which = phase, again and place is not NOWHERE, place, rule
        done = self._done.get(which)
        if done is None:
            done = self._done[which] = [0, 0, 0, 0]
        done[0] += seen.flops
        done[1] += seen.operations
        done[2] += seen.moved
        done[3] += 1
        if rule.moves:
            self._follow(rule.name, place, tensors_of(out))

    def parts(self) -> dict[Part, Amount]:
        """Everything that was done, by who did it.

        Returns:
            The amounts; operators that only rename data are left out: they do nothing.
        """
        found: dict[Part, list[int]] = {}
        for (phase, again, place, rule), done in self._done.items():
            if rule.moves:
                part = Part(phase, place.module, place.line, rule.label, rule.kind, again)
                known = found.setdefault(part, [0, 0, 0, 0])
                known[:] = [a + b for a, b in zip(known, done, strict=True)]
        return {part: Amount(*done) for part, done in found.items()}

    def _follow(self, name: str, place: Place, made: list[Tensor]) -> None:
        """Note how much is alive after an operator.

        A line of code runs many times, in loops and layers. What is alive changes steadily from one
        time to the next, but for the ends of a loop. So it is largest the first or second time, or the
        last or last but one, and these are kept apart. Operators of one line, as those of nn.LSTM, are
        told apart by the operator before and by the weight used last.
        """
        for tensor in made:
            self._live.see(tensor)
        now = self._live.bytes
        self.peak = max(self.peak, now)
        step = f"{self._before}, {name} {place.line} {self._weight}"
        self._before = name
        which = Key(PEAK, self.phase, place.module, step)
        alive = self.alive.get(which)
        if alive is None:
            self.alive[which] = {"first": now}
        elif "second" not in alive:
            alive["second"] = alive["last"] = now
        else:
            alive["last but one"], alive["last"] = alive["last"], now


def _signature(args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Everything about arguments that an outcome without data depends on."""
    return _shape_of(args), tuple((k, _shape_of(v)) for k, v in kwargs.items()) if kwargs else ()


def _shape_of(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            raise _MoreThanShapes
        device = value.device if type(value) is not FakeTensor else _device_of(value)
        return value.shape, value.stride(), value.dtype, value.storage_offset(), device
    if isinstance(value, tuple | list):
        return tuple([_shape_of(item) for item in value])
    return type(value), value


def _device_of(tensor: FakeTensor) -> Any:
    """The device where a tensor without data claims to be, asked without running an operator."""
    if tensor.constant is not None:
        raise _MoreThanShapes
    return FakeTensor, tensor.fake_device


def _repeatable(
    rule: Rule, key: Any, args: Any, kwargs: Mapping[str, Any], out: Any, seen: _Seen
) -> bool:
    """Whether what was seen is all that the operator does: it made new tensors, or wrote into its first."""
    if rule.in_place:
        return out is args[0] and _shape_of(out) == key[1][0][0]
    if rule.view:
        parts = tensors_of(out)
        return all(type(t) is FakeTensor and t.constant is None for t in [args[0], *parts])
    return seen.made is not None and not _shared((args, kwargs), out)


def _shared(given: tuple[Any, Mapping[str, Any]], out: Any) -> bool:
    """Whether an output looks into a storage that was given: then it is not made anew."""
    args, kwargs = given
    known = {id(t.untyped_storage()) for t in tensors_of([args, *kwargs.values()])}
    return any(id(t.untyped_storage()) in known for t in tensors_of(out))


def _recipe(out: Any) -> Any:
    """How to make tensors like these anew; None where they are not plain tensors without data."""
    if isinstance(out, Tensor):
        if type(out) is FakeTensor:
            device = out.fake_device if out.constant is None else None
        else:
            device = out.device if type(out) is Tensor and out.is_meta else None
        if device is None:
            return None
        if out.layout is not torch.strided or out.storage_offset():
            return None
        if out.untyped_storage().nbytes() < moved_bytes(out):
            return None
        return out.shape, out.stride(), out.dtype, device
    if isinstance(out, tuple | list) and out:
        parts = [_recipe(item) for item in out]
        return None if any(p is None for p in parts) else (type(out), parts)
    return None


def _remade(recipe: Any, mode: FakeTensorMode | None) -> Any:
    if len(recipe) == 2:
        kind, parts = recipe
        return kind([_remade(part, mode) for part in parts])
    shape, stride, dtype, device = recipe
    return remade(shape, stride, dtype, device, mode)


_ATTENTION = (
    nn.functional.scaled_dot_product_attention,
    nn.functional.multi_head_attention_forward,
)


class _Causal(TorchFunctionMode):
    """Products of causal attention that a kernel may leave out: pairs of a query and a later key.

    Attributes:
        attends: Whether attention was called, causal or not.
    """

    def __init__(self, watch: _Watch, modules: Modules, *, fused: bool) -> None:
        super().__init__()
        self._watch, self._modules, self._fused = watch, modules, fused
        self.attends = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        self.attends = self.attends or func in _ATTENTION
        if func is _ATTENTION[0] and _is_causal(args, kwargs):
            named = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
            query, value = named["query"], named["value"]
            queries, keys = query.shape[-2], value.shape[-2]
            seen = min(queries, keys)
            pairs = seen * (seen + 1) // 2 + (queries - seen) * keys
            hidden = queries * keys - pairs
            width = query.shape[-1] + value.shape[-1]
            back = 2 * width + query.shape[-1] * self._fused
            heads = query.shape[:-2].numel()
            module = self._modules.current().module
            for phase, widths in ((FORWARD, width), (BACKWARD, back * query.requires_grad)):
                flops = 2 * heads * hidden * widths
                self._watch.counts[Key(CAUSAL, phase, module, PRODUCT)] += flops
        return call(func, args, kwargs)


def _is_causal(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[5] if len(args) > 5 else kwargs.get("is_causal"))


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
    given = [*parameters, *model.buffers(), *tensors([subject.inputs, subject.kwargs])]
    own = _weights(model, names)
    kept, live = Live(), Live(tensors_of(given))
    modules, known = Modules(names), known or Known()
    watch = _Watch(modules, live, own, memory, known)
    causal = _Causal(watch, modules, fused=fused)
    with modules, watch, causal:

        def keep(tensor: Tensor) -> Tensor:
            for part in tensors_of(tensor):
                if id(part.untyped_storage()) not in own and kept.see(part):
                    key = Key(SAVED, FORWARD, modules.current().module)
                    watch.counts[key] += part.untyped_storage().nbytes()
            return _without_graph(tensor)

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, _without_hooks_inside(hooks) as inside:
            output = subject.forward()
            objective = subject.objective(output)
        if objective.requires_grad:
            watch.phase, modules.backward, known.backward = BACKWARD, True, True
            subject.differentiate(objective)
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
        found |= {key._replace(kind=f"{key.kind} {order}"): now for order, now in alive.items()}
    found |= _parameters(model, names)
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
    if type(tensor) is not Tensor or tensor.grad_fn is None:
        return tensor
    with torch._C._DisableTorchDispatch():
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


def _weights(model: nn.Module, names: Mapping[nn.Module, str]) -> dict[int, str]:
    """Names of parameters, by their storages: those of equal layers alike."""
    return {
        id(parameter.untyped_storage()): f"{names.get(module, owner)}.{name}"
        for owner, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    }


def _parameters(model: nn.Module, names: Mapping[nn.Module, str]) -> Counter[Key]:
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
                found[Key(TRAINABLE, FORWARD)] += size * parameter.requires_grad
    return found
