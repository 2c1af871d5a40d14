"""From counts at a few sizes to polynomials, and the refusal where they are none.

1. Every size gets a range: where the model runs.
2. In that box of sizes, exact interpolation at its low corner; then the result is held against sizes that
   it was not fitted on: beside the nodes, between them, far away, at integers that the code compares with.
3. What it does not explain, and lies along one size, is explained by floors of that size (strides,
   windows) or by a second box from where the law changes (branches). Otherwise it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from assay.cost.fit import Fit
from assay.cost.groups import ESSENTIAL, EVERYTHING, Wanted
from assay.cost.interpolate import Point
from assay.cost.probe import ModulesChanged, Probe
from assay.cost.refusal import Refused
from assay.cost.samples import Fails, Samples, TooMany
from assay.cost.search import Search
from assay.cost.tally import FLOPS, OPERATIONS, Tally
from assay.errors import AssayError
from assay.progress import Progress, silent

_STEPS = 4000  # more operators than this are too many to run with all layers
# that may run in search of a law: about a minute, or so many passes at the base
_OPERATORS, _PASSES = 700_000, 400
_TRIES = 3  # with more and more counts left out, before all are but flops
_LESS = 2  # of the room for these
_USUAL = 4  # sizes: of more there is more to run


def derive(
    probe: Probe,
    base: Mapping[str, int],
    progress: Progress = silent,
    grids: Mapping[str, int] | None = None,
    *,
    apart: bool = False,
) -> Fit:
    """Find polynomials in the sizes of `base` for everything that `probe` counts.

    Args:
        probe: Counts at given sizes.
        base: The sizes, at values that the model runs at.
        progress: Told as probes are run.
        grids: Sizes of which only multiples of a value are asked for, with that value.
        apart: Whether sizes are taken for themselves, also where one must divide another.

    Returns:
        The polynomials, or a refusal with its reason.

    Raises:
        AssayError: If the model does not run at `base` itself.
        Divides: If one size must divide another, unless they are taken `apart`.
    """
    first = probe.open(base)
    known: dict[tuple[str, ...], dict[Point, Tally | AssayError]] = {}

    def search(stacks: tuple[str, ...], wanted: Wanted) -> Fit:
        nonlocal first
        while True:
            try:
                return once(stacks, wanted)
            except (
                ModulesChanged
            ):  # it happens once for its modules, and once for what it does with sizes
                known.clear()
                first, stacks = probe(base), ()

    def once(stacks: tuple[str, ...], wanted: Wanted) -> Fit:
        room = max(_OPERATORS, _PASSES * first.steps) * max(len(base), _USUAL) // _USUAL
        room = room if wanted.all else room // _LESS
        before = known.setdefault(stacks, {})
        samples = Samples(probe, base, stacks, wanted, first, progress, before, room)
        search = Search(samples, grids or {}, apart=apart)
        try:
            return search.run()
        except TooMany as enough:
            raise search.enough() from enough

    wanted, tried, told = EVERYTHING, 0, Refused("")
    while True:
        stacks = tuple(stack.path for stack in probe.stacks)
        for kept in dict.fromkeys((stacks, ())):
            if kept != stacks and not probe.stacks:  # no longer, so that was tried
                break
            try:
                fit = search(kept, wanted)
                if _of_use(fit):
                    return fit
            except Refused as refusal:
                told = refusal if refusal.groups or not wanted.essential else told
                # with all layers it may be one size's own law; that takes as much longer as there are layers
                if kept and refusal.size and first.steps > _STEPS and _essential(refusal):
                    break
            except Fails as failure:  # as with fewer layers than something counts on
                told = Refused(
                    f"the model does not run at some of the sizes looked at: {failure.said}"
                )
        tried += 1
        # with data a sum over all experts may be right by chance: what masks select is to be asked about
        of_data = probe.way == "real" and any(g.quantity == OPERATIONS for g in told.groups)
        if wanted.essential or of_data or (probe.way == "real" and _essential(told)):
            return Fit(tuple(base), refused={"": str(told)}, blamed=told.size)
        more = wanted.without | told.groups
        fewer = tried < _TRIES and told.groups and not _essential(told)
        wanted = Wanted(without=more) if fewer else ESSENTIAL


def _of_use(fit: Fit) -> bool:
    """Whether there are flops, or where there are none anyway, all operations have a law."""
    lawless = any(group.quantity == OPERATIONS for group in fit.lawless)
    return not lawless or any(key.quantity == FLOPS for key in fit.keys)


def _essential(refusal: Refused) -> bool:
    """Whether what has no law is not known to be something that one can do without."""
    return not refusal.groups or any(group.essential for group in refusal.groups)
