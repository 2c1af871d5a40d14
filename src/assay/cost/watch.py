"""The dispatch mode that sees every operator of a pass."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass_type

from assay.cost.again import Memory, MoreThanShapes, Seen, recipe, repeatable, repeated, signature
from assay.cost.arithmetic import filled
from assay.cost.convention import ELEMENTWISE, Rule, first_elements
from assay.cost.higher import unrolled
from assay.cost.known import Known
from assay.cost.lean import lean
from assay.cost.live import Live, Named, tensors_of
from assay.cost.places import NOWHERE, Modules, Place
from assay.cost.tables import Reach, reach
from assay.cost.tally import BACKWARD, FORWARD, PEAK, Amount, Key, Part, Peak
from assay.where import Location, here

MOST = "most"  # of all times that an operator of a line ran
_DEVICE = torch.ops.prim.device.default
_DETACH = torch.ops.aten.detach.default


@lean
class Watch(TorchDispatchMode):
    """Counts every operator.

    On tensors without data the outcome depends on shapes alone, so a call with the shapes of an earlier
    one, as loops and layers make them, is answered from memory.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        modules: Modules,
        live: Live,
        weights: Named,
        memory: Memory | None,
        known: Known,
    ) -> None:
        super().__init__()
        self.counts: Counter[Key] = Counter()
        self.peak = Peak(live.bytes, FORWARD, "", "", "")
        self.alive: dict[Key, dict[str, int]] = {}
        self.uncounted: dict[str, Location | None] = {}
        self.phase = FORWARD
        self.shapes: list[int] = []
        self.steps = 0
        self.tables: dict[str, Reach] = {}
        self._done: dict[tuple[str, bool, Place, Rule], list[int]] = {}
        self._modules, self._live, self._weights = modules, live, weights
        self._known = known
        self._weight = self._before = ""  # whose product was the last, and the operators before
        self._remember, self._fake = memory is not None, detect_fake_mode()
        memory = memory if memory is not None else Memory()
        self._seen, self._rules = memory.seen, memory.rules

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is _DEVICE:  # asked for thousands of times by fake tensors
            return args[0].device
        if func is _DETACH and not kwargs and self._known.nothing_of(args[0]):
            self.steps += 1  # autograd detaches all that it keeps: many calls, and nothing done
            return func(*args)
        if types and any(is_traceable_wrapper_subclass_type(kind) for kind in types):
            return NotImplemented  # what it is made of comes here next
        kwargs = kwargs or {}
        rule = self._rules.get(func)
        if rule is None:
            if isinstance(func, HigherOrderOperator):
                with self:
                    return unrolled(func, args, kwargs)
            rule = self._rules[func] = Rule(func)
        if not (rule.moves or self._fake):
            return self._renamed(rule, func, args, kwargs)
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
            if key is not None and repeatable(rule, key, args, kwargs, out, seen):
                self._seen[key] = seen
        else:
            out = args[0] if rule.in_place else repeated(seen.made, func, args, kwargs, self._fake)
        known.note(rule, func, args, kwargs, out)
        self.steps += 1
        if self.phase == FORWARD:
            self.shapes += seen.shapes
        if rule.flops is not None:
            named = (self._weights.of(t) for t in tensors_of(args))
            self._weight = next(filter(None, named), self._weight)
        if rule.lookup and (there := reach(args)):
            before = self.tables.get(place.module)
            self.tables[place.module] = there if before is None else before | there
        self._add(rule, seen, place, out)
        return out

    def _renamed(self, rule: Rule, func: Any, args: Any, kwargs: Any) -> Any:
        """A view, or whatever else moves nothing: there is nothing to add."""
        if self.phase == FORWARD or self._modules.running:
            self._modules.current()  # whose node it makes
        out = self._known.run(rule, func, args, kwargs)
        self._known.note(rule, func, args, kwargs, out)
        self.steps += 1
        if self.phase == FORWARD:
            for tensor in tensors_of(out):
                self.shapes += tensor.shape
        return out

    def _key(self, rule: Rule, args: Any, kwargs: Any) -> Any:
        """What the outcome of a call depends on; None where it is more than shapes, or not worth it."""
        if not (rule.functional or rule.in_place or (self._fake and rule.view)) or rule.dynamic:
            return None
        try:
            return rule, signature(args, kwargs)
        except MoreThanShapes:
            return None

    def _count(self, rule: Rule, func: Any, args: Any, kwargs: Any, out: Any) -> Seen:
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
        return Seen(flops, operations, moved, recipe(rule, out), shapes)

    def _add(self, rule: Rule, seen: Seen, place: Place, out: Any) -> None:
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
            self._follow(rule, place, tensors_of(out))

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

    def _follow(self, rule: Rule, place: Place, made: list[Tensor]) -> None:
        """Note how much is alive after an operator.

        A line of code runs many times, in loops and layers. What is alive changes steadily from one
        time to the next, but for the ends of a loop. So it is largest the first or second time, or the
        last or last but one, and these are kept apart; and what was most of all, where it is none of these.
        Operators of one line, as those of nn.LSTM, are told apart by the two operators before and by the
        weight used last.
        """
        for tensor in made:
            self._live.see(tensor)
        now = self._live.bytes
        if now > self.peak.bytes:
            self.peak = Peak(now, self.phase, place.module, place.line, rule.label)
        step = f"{self._before}, {rule.name} {place.line} {self._weight}"
        self._before = f"{self._before.rpartition(', ')[2]}, {rule.name}"
        which = Key(PEAK, self.phase, place.module, step)
        alive = self.alive.get(which)
        if alive is None:
            self.alive[which] = {"first": now, MOST: now}
            return
        if "second" not in alive:
            alive["second"] = alive["last"] = now
        else:
            alive["last but one"], alive["last"] = alive["last"], now
        if now > alive[MOST]:
            alive[MOST] = now
