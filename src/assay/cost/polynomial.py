"""Exact polynomials in sizes and in floors of sizes, with rational coefficients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm, prod
from typing import Any, NamedTuple

from assay.cost.quotient import number, sizes_in

Product = tuple[int, tuple[str, ...]]  # a coefficient, and the sizes that it is multiplied with


@dataclass(frozen=True, order=True)
class Atom:
    """A size, or a floor of a multiple of it: `(factor * size + offset) // period`.

    Strides, patches and windows make costs depend on floors; a ceiling is a floor with an offset. A width
    of eight thirds, or a capacity of five quarters, is a floor of a multiple. The tokens of a batch in
    chunks are a floor of several sizes at once, `(Σ products + offset) // period`. In place of a size there
    may be a quotient of two, `d/h`.

    Args:
        size: The size; "" where there are several.
        offset: Added before the division.
        period: What is divided by.
        factor: What the size is multiplied with.
        products: Of several sizes, the one that outgrows the others first.

    Example:
        >>> Atom("h", 3, 4).value({"h": 6}), str(Atom("h", 3, 4)), str(Atom("h"))
        (2, '((h + 3)//4)', 'h')
        >>> Atom("d", 0, 3, 8).value({"d": 4}), str(Atom("d", 0, 3, 8))
        (10, '((8*d)//3)')
        >>> chunks = Atom("", 31, 32, products=((1, ("b", "n")), (-1, ("b",))))
        >>> chunks.value({"b": 3, "n": 50}), str(chunks)
        (5, '((b*n - b + 31)//32)')
    """

    size: str
    offset: int = 0
    period: int = 1
    factor: int = 1
    products: tuple[Product, ...] = ()

    def value(self, sizes: Mapping[str, int]) -> int:
        """The atom at `sizes`."""
        if self.products:
            inner = sum(c * prod(number(n, sizes) for n in names) for c, names in self.products)
        else:
            inner = self.factor * number(self.size, sizes)
        return (inner + self.offset) // self.period

    @property
    def summands(self) -> tuple[Product, ...]:
        """What is divided, but for the offset."""
        return self.products or ((self.factor, (self.size,)),)

    @property
    def grows_with(self) -> tuple[str, ...]:
        """The sizes that it is proportional to where they are large."""
        return self.summands[0][1]

    @property
    def variables(self) -> frozenset[str]:
        """What it is a function of: sizes, and quotients of two, each under its name."""
        return frozenset(name for _, names in self.summands for name in names)

    @property
    def names(self) -> frozenset[str]:
        """Every size that it depends on."""
        return frozenset(size for name in self.variables for size in sizes_in(name))

    @property
    def slope(self) -> Fraction:
        """How fast it grows with their product."""
        return Fraction(self.summands[0][0], self.period)

    def __str__(self) -> str:
        inner = self.inner(_symbol, "*")
        inner = f"({inner})" if self.is_sum or self.factor != 1 else inner
        return inner if self.period == 1 else f"({inner}//{self.period})"

    @property
    def is_sum(self) -> bool:
        """Whether what is divided is more than a multiple of one size."""
        return bool(self.offset or self.products)

    def inner(self, symbol: Callable[[str], str], times: str) -> str:
        """What is divided, as text.

        Args:
            symbol: How a size is written.
            times: What stands between factors.

        Returns:
            The text.
        """
        texts = []
        for coefficient, names in self.summands:
            factors = [str(abs(coefficient))] * (abs(coefficient) != 1) + [symbol(n) for n in names]
            texts.append(("-" if coefficient < 0 else "") + times.join(factors))
        return _sum([*texts, *[str(self.offset)] * bool(self.offset)])

    def residue(self, rest: int) -> int:
        """The residue of the size at which `factor * size + offset` leaves this rest."""
        return (rest - self.offset) * pow(self.factor, -1, self.period) % self.period


Monomial = tuple[tuple[Atom, int], ...]  # sorted by atom, powers of at least 1
Terms = dict[Monomial, Fraction]

_PATIENCE = 20_000  # values at which a difference of two laws is looked at


@dataclass(frozen=True)
class Polynomial:
    """A sum of `coefficient · product of atoms`. Zero coefficients are not kept.

    Example:
        >>> n = Polynomial.of("n")
        >>> p = n * n * Fraction(1, 2) + n * Fraction(1, 2)
        >>> str(p), p({"n": 3})
        ('n*(n + 1)/2', 6)
    """

    terms: Terms = field(default_factory=dict)

    @classmethod
    def constant(cls, value: int | Fraction) -> Polynomial:
        """The polynomial that is `value` everywhere."""
        return cls({(): Fraction(value)} if value else {})

    @classmethod
    def of(cls, size: str, offset: int = 0, period: int = 1, factor: int = 1) -> Polynomial:
        """The polynomial that is one atom."""
        return cls({((Atom(size, offset, period, factor), 1),): Fraction(1)})

    def __call__(self, sizes: Mapping[str, int]) -> int:
        """The value at integer sizes.

        Returns:
            The exact value; a cost is an integer at every integer point.

        Raises:
            ArithmeticError: If it is not an integer, which would be a defect of the fit.
        """
        total = self.fraction(sizes)
        if total.denominator != 1:
            raise ArithmeticError(f"{self} is {total} at {dict(sizes)}, which is no integer")
        return total.numerator

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def fraction(self, sizes: Mapping[str, int]) -> Fraction:
        """The value at sizes, integer or not.

        Returns:
            The exact value.
        """
        total = Fraction(0)
        for monomial, coefficient in self.terms.items():
            product = 1
            for atom, power in monomial:
                product *= atom.value(sizes) ** power
            total += coefficient * product
        return total

    def vanishes(self, name: str, values: range) -> bool:
        """Whether it is zero at all these values of one size, whatever the other sizes are.

        Between the steps of its floors it is a polynomial in the size: as many zeros as its degree and
        one more, in every residue class, are enough.

        Args:
            name: The size.
            values: Its values.

        Returns:
            True only if it is zero at every one of them.
        """
        if not self.terms:
            return True
        rest: dict[Monomial, list[tuple[Monomial, Fraction]]] = {}
        period = degree = 1
        for monomial, coefficient in self.terms.items():
            mine = tuple((atom, power) for atom, power in monomial if atom.size == name)
            others = tuple((atom, power) for atom, power in monomial if atom.size != name)
            rest.setdefault(others, []).append((mine, coefficient))
            period = lcm(period, *(atom.period for atom, _ in mine))
            degree = max(degree, sum(power for _, power in mine))
        if any(atom.products and name in atom.variables for atom in self.atoms):
            return False  # where it steps up depends on other sizes
        needed = values[: (degree + 1) * period]
        if len(needed) > _PATIENCE:
            return False
        parts = [Polynomial(dict(terms)) for terms in rest.values()]
        return all(part.fraction({name: x}) == 0 for x in needed for part in parts)

    def __add__(self, other: Polynomial) -> Polynomial:
        return add((self, other))

    def __sub__(self, other: Polynomial) -> Polynomial:
        return add((self, other * -1))

    def __mul__(self, other: int | Fraction | Polynomial) -> Polynomial:
        if not isinstance(other, Polynomial):
            return Polynomial({m: c * other for m, c in self.terms.items()} if other else {})
        out: Terms = {}
        for (m, c), (o, k) in ((a, b) for a in self.terms.items() for b in other.terms.items()):
            powers = dict(m)
            for atom, power in o:
                powers[atom] = powers.get(atom, 0) + power
            key = tuple(sorted(powers.items()))
            out[key] = out.get(key, Fraction(0)) + c * k
        return Polynomial({m: c for m, c in out.items() if c})

    @property
    def atoms(self) -> frozenset[Atom]:
        """Every atom that occurs."""
        return frozenset(atom for monomial in self.terms for atom, _ in monomial)

    @property
    def names(self) -> frozenset[str]:
        """Every size that occurs."""
        return frozenset(name for atom in self.atoms for name in atom.names)

    @property
    def has_floors(self) -> bool:
        """Whether it is a polynomial only on residue classes."""
        return any(atom.period > 1 for atom in self.atoms)

    def leading(self, names: Iterable[str] | None = None) -> list[dict[str, int]]:
        """The exponents of the terms that no other term dominates.

        Args:
            names: The sizes that grow; the others count as constants. All of them by default.

        Returns:
            One mapping of size to exponent for each, the largest first.
        """
        kept = self.names if names is None else set(names)
        sums: dict[tuple[tuple[str, int], ...], Fraction] = {}
        floors = (a for a in self.atoms if (a.period, a.offset) != (1, 0))
        floored = {name for a in floors for name in a.names}
        for monomial, coefficient in self.terms.items():
            for atom, power in monomial:
                coefficient = coefficient * atom.slope**power
            key = tuple(sorted(powers_of(monomial).items()))
            sums[key] = sums.get(key, Fraction(0)) + coefficient
        found: list[dict[str, int]] = []
        for key, total in sums.items():
            if total:
                found.append(dict(key))
            else:  # floors cancel in the leading term: what is left is of one degree less in their size
                found += [
                    {n: p - (n == less) for n, p in key if p != (n == less)}
                    for less, _ in key
                    if less in floored
                ]
        # with some sizes held, equal powers may come with unlike signs; no cancelling is assumed
        found = [{n: p for n, p in f.items() if n in kept} for f in found]
        found = [f for f in found if not any(f != g and _dominates(g, f) for g in found)]
        unique = {tuple(sorted(f.items())): f for f in found}
        return sorted(unique.values(), key=lambda f: (-sum(f.values()), sorted(f.items())))

    def __str__(self) -> str:
        return _text(self.terms, _plain_product)

    def latex(self) -> str:
        """The polynomial as LaTeX, factored like its text."""
        return _text(self.terms, _latex_product).replace("*", " ")

    def sympy(self) -> Any:
        """The polynomial as a sympy expression over positive integer symbols."""
        import sympy

        total = sympy.Integer(0)
        for monomial, coefficient in self.terms.items():
            term = sympy.Rational(coefficient.numerator, coefficient.denominator)
            for atom, power in monomial:
                inner = sympy.Integer(atom.offset)
                for factor, names in atom.summands:
                    inner += factor * sympy.Mul(*map(symbol, names))
                term *= (inner if atom.period == 1 else sympy.floor(inner / atom.period)) ** power
            total += term
        return total

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain data: one entry for every term."""
        return [
            {
                "coefficient": str(coefficient),
                "powers": [
                    {**_described(a), "offset": a.offset, "period": a.period, "power": p}
                    for a, p in monomial
                ],
            }
            for monomial, coefficient in _sorted(self.terms)
        ]


def symbol(name: str) -> Any:
    """A size as a symbol of sympy, which is a positive integer; a quotient as that of two."""
    import sympy

    whole, *parts = (sympy.Symbol(n, integer=True, positive=True) for n in sizes_in(name))
    return whole / sympy.Mul(*parts)


def _described(atom: Atom) -> dict[str, Any]:
    """What an atom divides, as plain data."""
    if atom.products:
        return {"products": [{"factor": c, "sizes": list(names)} for c, names in atom.products]}
    return {"size": atom.size, "factor": atom.factor}


class Mark(NamedTuple):
    """A residue of a size: where padding is none, or a window just fits, other operators may run.

    Example:
        >>> indicator = Mark(7, 0).indicator("h")
        >>> [indicator({"h": h}) for h in (6, 7, 8, 14)]
        [0, 1, 0, 1]
    """

    period: int
    residue: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and value % self.period == self.residue

    def indicator(self, size: str) -> Polynomial:
        """What is 1 at the residue and 0 elsewhere, as a difference of two floors."""
        before = Polynomial.of(size, (-self.residue - 1) % self.period, self.period)
        up_to = Polynomial.of(size, -self.residue % self.period, self.period)
        return up_to - before + Polynomial.constant(int(self.residue == 0))


def add(polynomials: Iterable[Polynomial]) -> Polynomial:
    """The sum of any number of polynomials.

    Returns:
        Their sum.
    """
    out: Terms = {}
    for polynomial in polynomials:
        for monomial, coefficient in polynomial.terms.items():
            out[monomial] = out.get(monomial, Fraction(0)) + coefficient
    return Polynomial({m: c for m, c in out.items() if c})


def powers_of(monomial: Monomial) -> dict[str, int]:
    """The powers of sizes with which a monomial grows; a quotient falls with what it is divided by.

    Returns:
        Size to power, without powers of 0.

    Example:
        >>> powers_of(((Atom("n"), 2), (Atom("d/h", 0, 2), 1)))
        {'n': 2, 'd': 1, 'h': -1}
    """
    powers: dict[str, int] = {}
    for atom, power in monomial:
        for name in atom.grows_with:
            whole, *parts = sizes_in(name)
            powers[whole] = powers.get(whole, 0) + power
            for part in parts:
                powers[part] = powers.get(part, 0) - power
    return {size: power for size, power in powers.items() if power}


def _dominates(big: Mapping[str, int], small: Mapping[str, int]) -> bool:
    return all(big.get(name, 0) >= small.get(name, 0) for name in (*big, *small))


def _sorted(terms: Terms) -> list[tuple[Monomial, Fraction]]:
    """Highest total degree first, what is added before what is taken off, then alphabetically."""
    return sorted(
        terms.items(), key=lambda item: (-sum(p for _, p in item[0]), item[1] < 0, item[0])
    )


# Readable text: pull out what all terms share, split products, then group by the commonest atom ---------


_SPLIT = 10  # atoms up to which every way to split a sum is tried: there are 2^atoms of them
_Product = Callable[[Fraction, Monomial, list[str]], str]


def _text(terms: Terms, product: _Product) -> str:
    if not terms:
        return "0"
    content = _content(terms)
    common = _common(terms)
    inner = {_without(m, dict(common)): c / content for m, c in terms.items()}
    if len(inner) == 1:
        return product(content * inner.popitem()[1], common, [])
    parts = _split(inner)
    if parts is not None:
        return product(content, common, [_text(part, product) for part in parts])
    body = _grouped(inner, product)
    if content < 0 and body.startswith("-"):  # the group that comes first has the other sign
        content = -content
        body = _grouped({m: -c for m, c in inner.items()}, product)
    return body if content == 1 and not common else product(content, common, [body])


def _grouped(terms: Terms, product: _Product) -> str:
    """A sum, with the terms that share the commonest atom put together where that is shorter."""
    counts: dict[Atom, int] = {}
    for monomial in terms:
        for factor, _ in monomial:
            counts[factor] = counts.get(factor, 0) + 1
    atom = max(counts, key=lambda a: (counts[a], a.size), default=None)
    if atom is None or counts[atom] < 2:
        return _sum([_text({m: c}, product) for m, c in _sorted(terms)])
    inside = {m: c for m, c in terms.items() if atom in dict(m)}
    outside = {m: c for m, c in terms.items() if atom not in dict(m)}
    if not outside or max(len(m) for m in inside) < 2:  # a polynomial in one atom reads best flat
        return _sum([_text({m: c}, product) for m, c in _sorted(terms)])
    rest = _text(outside, product) if len(outside) == 1 else _grouped(outside, product)
    return _sum([_text(inside, product), rest])


def _split(terms: Terms) -> tuple[Terms, Terms] | None:
    """Two factors without a common atom whose product is `terms`, if there are any."""
    atoms = sorted({atom for m in terms for atom, _ in m})
    if len(atoms) > _SPLIT:
        return None
    for size in range(1, len(atoms) // 2 + 1):
        for chosen in combinations(atoms, size):
            left: Terms = {}
            right: Terms = {}
            table: dict[tuple[Monomial, Monomial], Fraction] = {}
            for monomial, coefficient in terms.items():
                a = tuple(f for f in monomial if f[0] in chosen)
                b = tuple(f for f in monomial if f[0] not in chosen)
                table[a, b] = coefficient
            first_a, first_b = next(iter(table))
            corner = table[first_a, first_b]
            left = {a: c for (a, b), c in table.items() if b == first_b}
            right = {b: c / corner for (a, b), c in table.items() if a == first_a}
            if len(left) < 2 or len(right) < 2 or len(left) * len(right) != len(terms):
                continue
            if all(table.get((a, b)) == left[a] * right[b] for a in left for b in right):
                scale = _content(right)
                return (
                    {a: c * scale for a, c in left.items()},
                    {b: c / scale for b, c in right.items()},
                )
    return None


def _content(terms: Terms) -> Fraction:
    numerator, denominator = 0, 1
    for coefficient in terms.values():
        numerator = gcd(numerator, coefficient.numerator)
        denominator = lcm(denominator, coefficient.denominator)
    sign = -1 if _sorted(terms)[0][1] < 0 else 1
    return Fraction(sign * numerator, denominator)


def _common(terms: Terms) -> Monomial:
    shared: dict[Atom, int] | None = None
    for monomial in terms:
        powers = dict(monomial)
        if shared is None:
            shared = powers
        shared = {a: min(p, powers[a]) for a, p in shared.items() if a in powers}
    return tuple(sorted((shared or {}).items()))


def _without(monomial: Monomial, common: Mapping[Atom, int]) -> Monomial:
    return tuple((a, p - common.get(a, 0)) for a, p in monomial if p > common.get(a, 0))


def _sum(parts: list[str]) -> str:
    text = parts[0]
    for part in parts[1:]:
        text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
    return text


def _plain_product(coefficient: Fraction, common: Monomial, bodies: list[str]) -> str:
    factors = [f"{a}**{p}" if p > 1 else str(a) for a, p in common] + [f"({b})" for b in bodies]
    numerator = abs(coefficient.numerator)
    if numerator != 1 or not factors:
        factors.insert(0, str(numerator))
    tail = f"/{coefficient.denominator}" if coefficient.denominator != 1 else ""
    return ("-" if coefficient < 0 else "") + "*".join(factors) + tail


def _latex_product(coefficient: Fraction, common: Monomial, bodies: list[str]) -> str:
    factors = [_latex_atom(a) + (f"^{{{p}}}" if p > 1 else "") for a, p in common]
    factors += [rf"\left({b}\right)" for b in bodies]
    magnitude = abs(coefficient)
    if magnitude.denominator != 1:
        factors.insert(0, rf"\frac{{{magnitude.numerator}}}{{{magnitude.denominator}}}")
    elif magnitude != 1 or not factors:
        factors.insert(0, str(magnitude))
    return ("-" if coefficient < 0 else "") + r" \, ".join(factors)


def _latex_atom(atom: Atom) -> str:
    inner = atom.inner(_latex_symbol, r" \, ")
    if atom.period == 1:
        return rf"\left({inner}\right)" if atom.is_sum or atom.factor != 1 else inner
    return rf"\left\lfloor \frac{{{inner}}}{{{atom.period}}} \right\rfloor"


def _symbol(name: str) -> str:
    whole, *parts = sizes_in(name)
    below = "*".join(parts)
    return f"({whole}//{f'({below})' if len(parts) > 1 else below})" if parts else name


def _latex_symbol(size: str) -> str:
    whole, *parts = sizes_in(size)
    if parts:
        below = r" \, ".join(map(_latex_symbol, parts))
        return rf"\left(\frac{{{_latex_symbol(whole)}}}{{{below}}}\right)"
    name = size.rstrip("_").replace("_", r"\_")
    return name if len(name) == 1 else rf"\mathrm{{{name}}}"
