"""What the unit-free optimizers share: torch.optim's conventions, and statistics of layers' inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from assay.errors import UsageError, verbatim
from assay.optim.distributed import Group, local, merge_over_ranks, require_plain
from assay.optim.fused import in_turns
from assay.optim.plan import Slot, attach, is_half, plan, whole
from assay.optim.refuse import NotFinite, check_model
from assay.optim.watch import Port, Watch
from assay.optim.whiten import Known, Whitening

_ON_CPU = ("step", "count")


@dataclass(frozen=True)
class Rule:
    """How one parameter is stepped.

    Args:
        parameter: Its name in the model.
        rule: In words.
        fallback: Whether nothing is known of what it multiplies.
    """

    parameter: str
    rule: str
    fallback: bool

    def __str__(self) -> str:
        return f"{self.parameter}: {self.rule}" + (" (fallback)" if self.fallback else "")


@dataclass
class Job:
    """One slot in one step: what will be written if the whole step turns out to be finite.

    Args:
        slot: The slot.
        known: Moments of its inputs with this step's counted; None where it has none.
        white: The change of units that follows.
        gradient: `[g, o, i, k]` in the precision of the work, or None where only the bias has one.
        bias_gradient: `[g, o, 1, 1]`, or None.
        table: The gradient of an embedding `[tokens, d]`, dense or coalesced sparse, in place of `gradient`.
        check: A number that is not finite where a gradient is not.
        fused: Whether compiled code does the work.
        more: What the rule wants to remember.
    """

    slot: Slot
    known: Known | None
    white: Whitening
    gradient: Tensor | None
    bias_gradient: Tensor | None
    table: Tensor | None
    check: Tensor = field(default_factory=lambda: torch.zeros(()))
    fused: bool = False
    more: dict[str, Tensor] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the work."""
        return self.white.scale.dtype


class UnitOptimizer(Optimizer):
    """The base of `UnitSGD` and `UnitMuon`; not to be used by itself.

    Args:
        model: The model whose layers are watched.
        params: What to train, of the model's; parameters or groups, as any torch optimizer takes them.
        defaults: Options of a group.
        process_group: Over which ranks statistics are merged; None for all, False for none.
    """

    _centre_all = False  # whether σ is wanted also where no bias takes a shift up

    def __init__(
        self,
        model: nn.Module,
        params: Iterable[Any] | None,
        defaults: dict[str, Any],
        process_group: Group,
    ) -> None:
        self._watch = Watch()
        self._slots: list[Slot] = []
        self._model = model
        self._group = process_group
        self._ready = self._closed = False
        self._told: set[str] = set()
        check_model(type(self).__name__, model)
        if params is None:
            params = [p for p in model.parameters() if p.requires_grad]
        super().__init__(params, defaults)
        self._ready = True
        self._make_plan()

    # torch.optim's conventions ------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Train more parameters; those of layers that the model got meanwhile are watched, too."""
        super().add_param_group(param_group)
        self._check_group(self.param_groups[-1])
        if self._ready:
            self._make_plan()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, and forget inputs that were counted since the last step."""
        super().zero_grad(set_to_none)
        for port in self._ports():
            port.clear()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume: statistics come back bit for bit, in the precision that they were kept in."""
        super().load_state_dict(state_dict)
        # torch casts state to the parameter's precision, which would round statistics
        numbers = [i for group in state_dict["param_groups"] for i in group["params"]]
        mine = [p for group in self.param_groups for p in group["params"]]
        for number, p in zip(numbers, mine, strict=True):
            for key, value in state_dict["state"].get(number, {}).items():
                if isinstance(value, Tensor):
                    device = "cpu" if key in _ON_CPU else p.device
                    self.state[p][key] = value.detach().clone().to(device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes loss and gradients anew, where given.

        Returns:
            What the closure returned.

        Raises:
            UsageError: If an option of a group has become impossible, or the optimizer is closed.
            NotFinite: If an input or a gradient is NaN or infinite; nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._closed:
            raise UsageError(
                "optimizer",
                verbatim("closed"),
                "hooks on the model, which close() took off",
                f"Make a new one: {type(self).__name__}(model).",
            )
        for group in self.param_groups:
            self._check_group(group)
        self._find_groups()
        try:
            jobs = self._jobs()
        finally:
            for port in self._ports():
                port.clear()
        for job in jobs:
            self._remember(job)
        in_turns([self._move(job) for job in jobs])
        return loss

    def close(self) -> None:
        """Take all hooks off the model. The optimizer cannot step afterwards."""
        self._watch.close()
        self._closed = True

    # what it says of itself ---------------------------------------------------------------------------

    @property
    def rules(self) -> tuple[Rule, ...]:
        """How every parameter is stepped, in words."""
        found = []
        for slot in self._slots:
            found.append(Rule(slot.name, slot.note, slot.fallback))
            if slot.bias is not None:
                found.append(Rule(slot.bias_name, f"with {slot.name}", slot.fallback))
        return tuple(found)

    def __repr__(self) -> str:
        listed = "\n".join(f"    {rule}" for rule in self.rules)
        return f"{super().__repr__()[:-1]}rules\n{listed}\n)"

    # the plan -----------------------------------------------------------------------------------------

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise where an option is impossible."""

    def _make_plan(self) -> None:
        names = {id(p): name for name, p in self._model.named_parameters()}
        trained = {id(p): p for group in self.param_groups for p in group["params"]}
        for p in trained.values():
            if p.is_complex():
                raise UsageError(
                    f"parameter {names.get(id(p), '?')}",
                    verbatim(str(p.dtype)),
                    "real parameters",
                    "Leave complex ones to another optimizer, with params=….",
                )
        before = {port.name: port for port in self._ports()}
        self._watch.close()
        self._slots = plan(self._model, set(trained), centre_all=self._centre_all)
        strangers = [p for i, p in trained.items() if i not in names]
        self._slots += [whole(f"(no name, {list(p.shape)})", p) for p in strangers]
        for port in self._ports():
            old = before.get(port.name)
            if old is not None and old.centred == port.centred:
                port.pending, port.bad = old.pending, old.bad
        attach(self._slots, self._watch)
        self._views = {id(s.weight): s.view for s in self._slots}
        self._find_groups()
        self._tell(
            [s for s in self._slots if s.fallback],
            "no rule for {}: stepped as one vector each, so their invariances are lost",
        )

    def _find_groups(self) -> None:
        # anew at every step: loading a state makes other dicts of the groups
        self._groups = {id(p): group for group in self.param_groups for p in group["params"]}

    def _ports(self) -> list[Any]:
        return [port for slot in self._slots for port in slot.ports]

    def _tell(self, slots: list[Slot], what: str) -> None:
        """Warn once of parameters, by name."""
        new = [s.name for s in slots if s.name not in self._told]
        if new:
            self._told.update(new)
            shown = ", ".join(new[:8]) + (f" and {len(new) - 8} more" if len(new) > 8 else "")
            message = f"{type(self).__name__}: {what.format(shown)}. See optimizer.rules."
            warnings.warn(message, UserWarning, stacklevel=4)

    # a step -------------------------------------------------------------------------------------------

    def _anchor(self, slot: Slot) -> Parameter:
        """The parameter whose state holds the slot's statistics."""
        return slot.weight if id(slot.weight) in self._groups or slot.bias is None else slot.bias

    def _option(self, p: Parameter | None, name: str) -> float:
        return float(self._groups[id(p)][name]) if id(p) in self._groups else 0.0

    def _jobs(self) -> list[Job]:
        """Everything that a step will write, computed without writing it."""
        active = [s for s in self._slots if _has_gradient(s)]
        merge_over_ranks(self._ports(), self._group, self._device())
        self._check_inputs([port for slot in active for port in slot.ports])
        fresh: dict[int, Known] = {}
        jobs = [self._job(slot, fresh) for slot in active]
        in_turns([self._measure(job) for job in jobs])
        if not _all_finite([job.check for job in jobs]):
            raise self._bad_gradient(jobs)
        return jobs

    def _check_inputs(self, ports: list[Port]) -> None:
        """Raise where an input is not finite."""
        seen = [p.pending for p in ports if p.pending is not None]
        if _all_finite([m.mean.add(m.fourth).sum() for m in seen]) and not any(
            p.bad for p in ports
        ):
            return
        for port in ports:
            if port.bad is not None or (port.pending is not None and port.pending.bad().any()):
                raise self._bad_input(port)

    def _job(self, slot: Slot, fresh: dict[int, Known]) -> Job:
        dtype = torch.float32 if is_half(slot.weight.dtype) else slot.weight.dtype
        grad = slot.weight.grad if id(slot.weight) in self._groups else None
        require_plain(slot, slot.weight)
        of_bias = None
        if slot.bias is not None and slot.bias.grad is not None:
            of_bias = local(slot.bias.grad).to(dtype)
        gradient = table = None
        if grad is not None and slot.kind == "embedding":
            table = (grad.coalesce() if grad.is_sparse else local(grad)).to(dtype)
        elif grad is not None:
            gradient = slot.view(local(grad.to_dense() if grad.is_sparse else grad).to(dtype))
        shape = slot.view(local(slot.weight)).shape
        if of_bias is not None:
            of_bias = of_bias.reshape(shape[0], shape[1], 1, 1)
        known, white = self._followed(slot, shape, dtype)
        if known is not None:
            fresh[id(slot)] = known
        if white is None:
            white = self._whitening(slot, known, fresh, shape, dtype)
        return Job(slot, known, white, gradient, of_bias, table)

    def _measure(self, job: Job) -> Generator[None]:
        """Fill in `check` and `more`; yields before and after a pass over memory (`in_turns`)."""
        raise NotImplementedError

    def _move(self, job: Job) -> Generator[None]:
        """Write weights and momentum; yields likewise."""
        raise NotImplementedError

    def _remember(self, job: Job) -> None:
        state = self.state[self._anchor(job.slot)]
        if job.known is not None:
            state.update(job.known.kept(job.dtype))
        state["step"] = state.get("step", torch.zeros((), dtype=torch.float64)) + 1
        for key, value in job.more.items():
            # a root leaves no exponent out
            state[key] = (value.sqrt() if key == "row" else value).to(job.dtype)

    def _followed(
        self, slot: Slot, shape: torch.Size, dtype: torch.dtype
    ) -> tuple[Known | None, Whitening | None]:
        """What is known of the inputs with this step's counted, and perhaps the units that follow."""
        known = self._known(slot)
        if known is not None:
            known = known.after([port.pending for port in slot.ports])
        return known, None

    def _known(self, slot: Slot) -> Known | None:
        if not slot.ports:
            return None
        state = self._state_of(slot)
        if "mean" in state:
            return Known.stored(state)
        return Known.nothing(len(slot.ports), slot.ports[0].width, slot.weight.device)

    def _whitening(
        self,
        slot: Slot,
        known: Known | None,
        fresh: dict[int, Known],
        shape: torch.Size,
        dtype: torch.dtype,
    ) -> Whitening:
        g, _, i, _ = shape
        centred = bool(slot.ports) and slot.ports[0].centred and not self._centre_all
        if known is not None and bool((known.count > 0).all()):
            mean = known.mean.reshape(g, 1, i, 1) if centred else None
            return Whitening.of(self._scales(slot, known).reshape(g, 1, i, 1), mean, dtype)
        if known is not None:
            self._tell(
                [slot], "the inputs of {} were never seen (the layer is not called as a module)"
            )
            slot.fallback, slot.note = True, f"{slot.note}: its inputs were never seen"
        source = slot.source
        if source is not None:
            values = fresh.get(id(source)) or self._known(source)
            if values is not None and bool((values.count > 0).all()):
                return _of_values(source, values, slot.bias is not None, dtype)
        ones = torch.ones(g, 1, i, 1, dtype=torch.float64, device=slot.weight.device)
        return Whitening.of(ones, None, dtype)

    def _scales(self, slot: Slot, known: Known) -> Tensor:
        raise NotImplementedError

    def _state_of(self, slot: Slot) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.state.get(self._anchor(slot), {})
        return found

    def _device(self) -> torch.device:
        return self.param_groups[0]["params"][0].device  # type: ignore[no-any-return]

    # errors -------------------------------------------------------------------------------------------

    def _bad_input(self, port: Any) -> NotFinite:
        bad = port.bad
        where = f"feature {bad.feature} of row {bad.row}" if bad else "a feature on another rank"
        return NotFinite(
            f"the input of {port.name}, {where}",
            bad.value if bad else float("nan"),
            "finite numbers",
            "The step was not taken: weights and statistics are as before. Mend or drop the batch.",
        )

    def _bad_gradient(self, jobs: list[Job]) -> NotFinite:
        job = next(job for job in jobs if not bool(torch.isfinite(job.check)))
        return NotFinite(
            f"the gradient of {job.slot.name}",
            verbatim("NaN or infinite"),
            "finite numbers",
            "The step was not taken: weights and statistics are as before. Look at the loss of this batch; "
            "under float16 use torch.amp.GradScaler, which leaves such steps out.",
        )


def _all_finite(sums: list[Tensor]) -> bool:
    """Whether numbers on whatever devices are: waits for one of them."""
    return not sums or bool(torch.isfinite(torch.stack([s.to(sums[0].device) for s in sums])).all())


def _has_gradient(slot: Slot) -> bool:
    return any(p is not None and p.grad is not None for p in (slot.weight, slot.bias))


def _of_values(source: Slot, known: Known, centred: bool, dtype: torch.dtype) -> Whitening:
    """What attention's output projection is given: averages of values, whose mean and scale follow.

    Weights of attention sum to one, so the mean of an average is that of the values, `W_v μ + b_v`. Their
    scale is bounded by that of a value, `‖(W_v s)[d]‖` for each coordinate d.

    Returns:
        The units of its inputs.
    """
    weights = source.view(source.weight.detach())[-1, :, :, 0].double()
    scale = (weights * known.scales()[-1]).square().sum(1).sqrt().view(1, 1, -1, 1)
    mean = None
    if centred:
        shift = source.bias.detach().view(3, -1)[-1].double() if source.bias is not None else 0.0
        mean = (weights @ known.mean[-1] + shift).view(1, 1, -1, 1)
    return Whitening.of(scale, mean, dtype)
