"""One size as a coordinate: the functions of it that costs are made of, and the values to probe."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import combinations

from assay.cost.polynomial import Atom, Mark, Polynomial

HIGHEST = 4  # power of a size


class Axis:
    """Hierarchical functions of one size: `h_k` is 0 at the nodes before the k-th, and 1 at the k-th.

    For powers of the size these are Newton's polynomials. Floors of the size (strides, patches, windows)
    join as further functions; then a node is taken wherever it tells the functions apart.

    Args:
        size: The name of the size.
        values: Values that may become nodes, in the order in which they are tried.
        basis: The functions, in the order in which they are tried.
        adaptive: Whether a function may only be needed when the one before it was. True for powers.

    Example:
        >>> axis = Axis.powers("n", range(2, 9))
        >>> axis.nodes, [str(h) for h in axis.functions[:3]]
        ((2, 3, 4, 5, 6), ['1', 'n - 2', '(n**2 - 5*n + 6)/2'])
        >>> axis.weight(2, 10)  # C(8, 2)
        28
    """

    def __init__(
        self, size: str, values: Iterable[int], basis: Iterable[Polynomial], *, adaptive: bool
    ) -> None:
        self.size, self.adaptive = size, adaptive
        nodes: list[int] = []
        functions: list[Polynomial] = []
        # `reduced` vanish at all nodes so far: what is left of the functions that have no node yet
        reduced = list(basis)
        for value in values:
            if not reduced:
                break
            at = [f.fraction({size: value}) for f in reduced]
            pivot = next((i for i, v in enumerate(at) if v), None)
            if pivot is None:
                continue
            chosen = reduced.pop(pivot) * (1 / at.pop(pivot))
            reduced = [f - chosen * v if v else f for f, v in zip(reduced, at, strict=True)]
            nodes.append(value)
            functions.append(chosen)
        self.nodes, self.functions = tuple(nodes), tuple(functions)
        self._weights: dict[tuple[int, int], int | Fraction] = {}

    @classmethod
    def powers(cls, size: str, values: Iterable[int], highest: int = HIGHEST) -> Axis:
        """The powers of the size up to `highest`."""
        basis = [Polynomial.constant(1)]
        for _ in range(highest):
            basis.append(basis[-1] * Polynomial.of(size))
        return cls(size, values, basis, adaptive=True)

    @classmethod
    def floors(
        cls,
        size: str,
        values: Iterable[int],
        atoms: Iterable[Atom],
        *,
        degree: int = 2,
        mixed: bool = False,
        marks: Iterable[Mark] = (),
    ) -> Axis:
        """The size and floors of it.

        Args:
            size: The name of the size.
            values: Values that may become nodes.
            atoms: The floors.
            degree: The highest power of a floor: patches of an image are its square, attention among
                them its fourth power. Of the size itself there is no more than the square.
            mixed: Whether to have products of two different ones, and of their squares where the degree is 4.
            marks: Residues at which costs are others.

        Returns:
            The axis.
        """
        gains = [
            Polynomial.of(size),
            *(Polynomial.of(a.size, a.offset, a.period, a.factor) for a in atoms),
        ]
        powers = [Polynomial.constant(1), gains[0], gains[0] * gains[0]][: degree + 1]
        # What costs are likely made of comes first. Floors of one size are not independent (twice a floor of
        # h/8 is a floor of h/4, or one less), and what comes last is left out.
        squares = [gain * gain for gain in gains] if degree > 1 else []
        fourth = [s * s for s in squares[1:]] if degree > 2 else []
        cubes = [s * gain for s, gain in zip(squares[1:], gains[1:], strict=True)] if fourth else []
        pairs = [a * b for a, b in combinations(gains, 2)] if mixed and degree > 1 else []
        # attention among the patches of one stride and those of another
        crossed = [a * b for a, b in combinations(squares[1:], 2)] if mixed and fourth else []
        products = [*squares, *fourth, *crossed, *cubes, *pairs]
        marked = [mark.indicator(size) * power for mark in marks for power in powers]
        return cls(
            size, values, [Polynomial.constant(1), *gains, *products, *marked], adaptive=False
        )

    def weight(self, order: int, value: int) -> int | Fraction:
        """`h_order` at `value`."""
        key = (order, value)
        if key not in self._weights:
            self._weights[key] = whole(self.functions[order].fraction({self.size: value}))
        return self._weights[key]


def whole(value: int | Fraction) -> int | Fraction:
    """An integer where it is one: arithmetic with integers is many times faster.

    Returns:
        The same number.
    """
    return value.numerator if value.denominator == 1 else value
