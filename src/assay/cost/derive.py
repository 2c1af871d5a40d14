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
from assay.cost.interpolate import Point
from assay.cost.probe import ModulesChanged, Probe
from assay.cost.refusal import Refused
from assay.cost.samples import Fails, Samples, TooMany
from assay.cost.search import Search
from assay.cost.tally import BYTES, SAVED, Tally
from assay.errors import AssayError
from assay.progress import Progress, silent

_STEPS = 4000  # more operators than this are too many to run with all layers
# that may run in search of a law: about a minute, or so many passes at the base
_OPERATORS, _PASSES = 700_000, 400
_USUAL = 4  # sizes: of more there is more to run


def derive(
    probe: Probe,
    base: Mapping[str, int],
    progress: Progress = silent,
    grids: Mapping[str, int] | None = None,
) -> Fit:
    """Find polynomials in the sizes of `base` for everything that `probe` counts.

    Args:
        probe: Counts at given sizes.
        base: The sizes, at values that the model runs at.
        progress: Told as probes are run.
        grids: Sizes of which only multiples of a value are asked for, with that value.

    Returns:
        The polynomials, or a refusal with its reason.

    Raises:
        AssayError: If the model does not run at `base` itself.
    """
    first = probe.open(base)
    reason, blamed = "", ""
    known: dict[tuple[str, ...], dict[Point, Tally | AssayError]] = {}

    def search(stacks: tuple[str, ...], dropped: tuple[str, ...]) -> Fit:
        nonlocal first
        while True:
            try:
                return once(stacks, dropped)
            except (
                ModulesChanged
            ):  # it happens once for its modules, and once for what it does with sizes
                known.clear()
                first, stacks = probe(base), ()

    def once(stacks: tuple[str, ...], dropped: tuple[str, ...]) -> Fit:
        room = max(_OPERATORS, _PASSES * first.steps) * max(len(base), _USUAL) // _USUAL
        before = known.setdefault(stacks, {})
        samples = Samples(probe, base, stacks, dropped, first, progress, before, room)
        try:
            return Search(samples, grids or {}).run()
        except TooMany as enough:
            size = samples.most_varied
            runs, i = len(samples.known), samples.names.index(size)
            if 2 * len({point[i] for point, _ in samples.known}) > runs:
                found = f"{runs} runs along {size} and no law that explains them: its costs turn on and on"
            else:
                found = f"{runs} runs were not enough for the laws of {len(samples.names)} sizes at once"
            raise Refused(found, size, of_bytes=False) from enough

    for dropped in ((), (BYTES, SAVED)):
        stacks = tuple(stack.path for stack in probe.stacks)
        for kept in dict.fromkeys((stacks, ())):
            try:
                return search(kept, dropped)
            except Refused as refusal:
                reason, blamed = str(refusal), refusal.size
                # with all layers it may be one size's own law; that takes as much longer as there are layers
                if blamed and not refusal.of_bytes and (not kept or first.steps > _STEPS):
                    return Fit(tuple(base), refused={"": reason}, blamed=blamed)
            except Fails as failure:  # as with fewer layers than something counts on
                reason = f"the model does not run at some of the sizes looked at: {failure.said}"
    return Fit(tuple(base), refused={"": reason}, blamed=blamed)
