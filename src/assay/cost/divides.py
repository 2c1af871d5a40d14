"""A size that another divides: heads of a width, groups of channels, patches of an image.

`assert d % h == 0` leaves no room for a law in `d` and `h` of their own. In `h` and the quotient `d/h`, which
takes every value, there is one; where `d` is a multiple of `h`, it is a law in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from assay.builder import Builder
from assay.cost.begin import straight
from assay.cost.law import Laws
from assay.cost.probe import Probe
from assay.cost.quotient import over, split, whole_of
from assay.cost.samples import Samples, put
from assay.errors import AssayError
from assay.subject import Subject

_ODD = (3, 5, 7, 11, 13)  # times so much a part divides few wholes
_TOLD = 2  # so many of them must run where it divides, and not where it does not
# times its value no size divides a width; one that has to be a power of two is fine
_BEYOND = 1 << 12
_RARE = 37  # a quotient with this factor is no dimension by chance
_PARTS = (5, 7)  # what parts are multiplied with


class Divides(Exception):
    """A model runs only where one size divides another.

    Args:
        whole: The one, as `d`.
        part: What divides it, as `h`.
    """

    def __init__(self, whole: str, part: str) -> None:
        self.whole, self.part = whole, part


class Multiples(Builder):
    """A builder whose one size is a quotient of two of another builder.

    Args:
        build: The other builder.
        whole: The size that is a multiple.
        part: What it is a multiple of.

    Example:
        >>> import torch
        >>> def attention(d: int = 64, h: int = 4):
        ...     return torch.nn.MultiheadAttention(d, h), (torch.ones(2, 3, d),) * 3
        >>> build = Multiples(Builder(attention), "d", "h")
        >>> build.sizes, build(**{"d/h": 8}).inputs[0].shape
        ({'d/h': 16, 'h': 4}, torch.Size([2, 3, 32]))
    """

    def __init__(self, build: Builder, whole: str, part: str) -> None:
        self.__dict__.update(vars(build))
        self._build, self._whole, self._part = build, whole, part
        self._quotient = over(whole, part)
        self.sizes = {}
        for name, value in build.sizes.items():
            if name == whole:
                self.sizes[self._quotient] = value // build.sizes[part]
            else:
                self.sizes[name] = value

    def __call__(self, /, **sizes: int) -> Subject:
        """The subject at these sizes; see `Builder`."""
        every = {**self.sizes, **sizes}
        whole = every.pop(self._quotient) * every[self._part]
        return self._build(**every, **{self._whole: whole})


def undivided(laws: Laws, samples: Samples) -> None:
    """Look for two sizes of which one must divide the other: a few runs tell.

    Args:
        laws: Where each size ranges, the others as in use.
        samples: Where the model runs.

    Raises:
        Divides: If there are such: the pair with the largest part where there are several.
    """
    base, names, rest = samples.base[: laws.sizes], samples.names, laws.low[laws.sizes :]
    confined = [law.span.step > 1 or law.span.high is not None for law in laws.all]

    def runs(whole: int, part: int, odd: int, *, alone: bool = False) -> bool:
        """Whether it runs with `odd` times a part and all its multiples, or all but a whole."""
        at = [
            x * odd if k == whole or (confined[k] and x % base[part] == 0) else x
            for k, x in enumerate(base)
        ]
        return samples.runs((*put(tuple(at), whole, base[whole] if alone else at[whole]), *rest))

    for whole, part in sorted(_pairs(base), key=lambda pair: -base[pair[1]]):
        # with a part of 1 every whole will do
        if not confined[part] or not (confined[whole] or base[part] == 1):
            continue
        if split(names[part]):
            continue
        odd = [x for x in _ODD if base[whole] // base[part] % x][:_TOLD]
        if all(runs(whole, part, x) and not runs(whole, part, x, alone=True) for x in odd):
            raise Divides(names[whole], names[part])


def rounded_alone(laws: Laws, samples: Samples) -> None:
    """Look for a size that divides another along which no law was found: a stride, a patch.

    That is told before all sizes are looked at together, since none of these has a law either.

    Args:
        laws: What the own line of each size told.
        samples: The counts.

    Raises:
        Divides: If there is one.
    """
    base = samples.sizes(samples.base)
    for i, name in enumerate(samples.names):
        law = laws.all[i]
        if law.span.high is None and not law.atoms and not straight(i, law, laws, samples):
            for pair in rounded(samples.probe, base, name):
                if pair.part == name:
                    raise pair


def rounded(probe: Probe, base: Mapping[str, int], size: str) -> Iterator[Divides]:
    """Pairs of sizes of which one is divided by the other, and rounded, as shapes tell.

    A convolution whose stride is a size has no law in it, but where the stride divides what it goes over.

    Args:
        probe: Runs the model.
        base: The sizes in use.
        size: One of the two, most likely.

    Yields:
        Each pair whose quotient is a dimension.
    """
    names = list(base)
    pairs = [(names[whole], names[part]) for whole, part in _pairs(tuple(base.values()))]
    for whole, part in sorted(pairs, key=lambda pair: size not in (whole_of(pair[0]), pair[1])):
        if not split(part) and all(_seen(probe, base, whole, part, x) for x in _PARTS):
            yield Divides(whole, part)


def divisors_of(probe: Probe, base: Mapping[str, int], name: str) -> tuple[int, ...]:
    """Other values of a size that has to divide something that is no size: the heads of a fixed width.

    Args:
        probe: Runs the model.
        base: The sizes in use.
        name: A size at which it runs at no evenly spaced values.

    Returns:
        The divisors of its value: the model runs at all of them, and at a larger number than one at which it
        does not. None where that is not so, and where the model is run or built with data, which a large
        multiple has no memory for.
    """
    if probe.way in ("real", "moved"):
        return ()

    def runs(x: int) -> bool:
        try:
            probe({**base, name: x})
        except AssayError:
            return False
        return True

    value = base[name]
    divisors = tuple(x for x in range(1, value) if value % x == 0)
    if runs(value * _BEYOND) or not all(map(runs, divisors)):
        return ()
    # what is at most another, as the k of topk, runs at nothing larger than where it does not
    odd = next((x for x in _ODD if not runs(x)), value * _BEYOND)
    larger = (value * k for k in (1, 2, 4, 8) if value * k > odd)
    return divisors if any(map(runs, larger)) else ()


def _seen(probe: Probe, base: Mapping[str, int], whole: str, part: str, times: int) -> bool:
    """Whether a dimension is a multiple of the quotient, and not of what the part is a multiple of."""
    larger = times * base[part]
    try:
        # an even quotient: rotary positions go in pairs
        shapes = probe({**base, whole: 2 * _RARE * larger, part: larger}).shapes
    except AssayError:
        return False
    return any(x and x % _RARE == 0 and x % times for x in shapes)


def _pairs(base: Sequence[int]) -> list[tuple[int, int]]:
    """Places of sizes that others divide, with the places of these."""
    pairs = permutations(range(len(base)), 2)
    return [(whole, part) for whole, part in pairs if base[whole] % base[part] == 0]
