"""The user's code, rewritten so that it notes what it compares: it does the same, and no branch is missed."""

import itertools
import linecache
import math
from collections import deque
from types import MappingProxyType

import numpy as np
import pytest
import torch
from cost_twins import flops
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.cost.compared import comparisons
from assay.cost.cost import derive_cost
from assay.cost.rewritten import Rewriting
from assay.cost.tracked import Size

_COUNTER = itertools.count()


def function_of(source, name="f"):
    """A function whose source Python can look up, as of a module or a cell of a notebook."""
    file = f"<generated {next(_COUNTER)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space = {"math": math, "np": np, "deque": deque}
    exec(compile(source, file, "exec", dont_inherit=True), space)
    return space[name]


def outcome(f, *args):
    try:
        return f(*args)
    except Exception as error:
        return type(error), str(error)


def both(f, *args):
    """What a function returns or raises as it is, and rewritten."""
    plain = outcome(f, *args)
    code = f.__code__
    with comparisons() as noted, Rewriting([f]).noting():
        assert f.__code__ is not code
        rewritten = outcome(f, *args)
    assert f.__code__ is code
    return plain, rewritten, noted


# ---------------------------------------------------------------------------- it does the same

LANGUAGE = {
    "a chain stops where it is false": """
def f(log):
    return 1 < log(0) < log(5), 1 < log(2) < log(5) < log(3) < log(9), log(3) > log(2) in [2]
""",
    "and in comprehensions and classes": """
def f(log):
    class Held:
        found = [x for x in range(4) if 0 < log(x) < 3]
        most = 0 < log(7) < 9
    return Held.found, Held.most, {x: 1 < log(x) <= 2 for x in (1, 2)}
""",
    "what and and or return": """
def f(log):
    return (log(0) or log([]) or log("x"), log(3) and log(0) and log(1), not log(0), 1 if log(2) else 0)
""",
    "closures, defaults and generators": """
def f(log):
    seen = 0
    def g(x, most=3 if log(1) < 2 else 4):
        nonlocal seen
        seen += x % 2
        yield from (y for y in range(x) if y < most)
    return list(g(7)), seen, (lambda x: x > 1)(log(2))
""",
    "super and private names": """
def f(log):
    class One:
        def g(self, x):
            return x > 1
    class Two(One):
        __most = 2
        def g(self, x):
            return super().g(x) and x[0] < self.__most if isinstance(x, list) else super().g(x)
    return Two().g(log(3)), Two()._Two__most
""",
    "names that are hidden": """
def f(log):
    len = lambda x: "mine"
    slice = min = None
    return len([1]), [1, 2, 3][1:], [1, 2, 3][::2], [1, 2, 3][:]
""",
    "walruses and matches": """
def f(log):
    if (n := log(3)) > 2 and (m := n // 2) < 5:
        match n:
            case 3 if m % 2 == 1:
                return n, m
    return None
""",
    "try, with its ends": """
def f(log):
    try:
        log(1) % 0
    except ZeroDivisionError as error:
        return str(error)
    else:
        return 1
    finally:
        log(2)
""",
    "texts, tuples and types": """
def f(log):
    x: list[int] = [1, 2]
    return "%s of %d" % ("a", 2), (1, 2) < (1, 3), "b" in "abc", {"a": 1}["a"], x[-1], dict[str, int]
""",
    "numbers that are no floats": """
def f(log):
    huge = 10**400
    return huge > log(3), np.uint8(3) < np.uint8(5), not huge % 7, float("nan") < log(1), huge in {1: 2}
""",
    "what raises": """
def f(log):
    return log(1) < log("a")
""",
    "a key that is not there": """
def f(log):
    return {1: 2}[log(3)]
""",
    "calls with everything": """
def f(log):
    more, named = [[3, 1]], {"key": lambda x: -x}
    return (
        min(*more, **named), max([2, 4], default=0), int("12", 3), int("7", base=8), [*zip("ab", [1, 2, 3])],
        {1: 2}.get(1), {}.get(3, 4), [1].pop(), float("1.5"), round(2.675, 2), len("abc"),
        math.gcd(12, 18, 4),
    )
""",
}


@pytest.mark.parametrize("name", LANGUAGE)
def test_rewritten_code_does_the_same(name):
    def logged():
        seen = []

        def log(value):
            seen.append(value)
            return value

        return log, seen

    f = function_of(LANGUAGE[name])
    plain, before = logged()
    log, seen = logged()
    expected = outcome(f, plain)
    with comparisons(), Rewriting([f]).noting():
        assert outcome(f, log) == expected
    assert seen == before


numbers = st.integers(-9, 9).map(str)
leaves = st.one_of(numbers, st.sampled_from(["a", "b", "2.5", "c[0]", "len(c)", "t.get(a, 1)"]))


def compound(parts):
    operators = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    return st.one_of(
        st.tuples(parts, operators, parts).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(parts, operators, parts, operators, parts).map(lambda t: f"({' '.join(t)})"),
        st.tuples(parts, st.sampled_from(["//", "%", "+", "*"]), parts).map(
            lambda t: f"({' '.join(t)})"
        ),
        st.tuples(parts, st.sampled_from(["and", "or"]), parts).map(lambda t: f"({' '.join(t)})"),
        st.tuples(parts, parts, parts).map(lambda t: f"({t[0]} if {t[1]} else {t[2]})"),
        parts.map(lambda p: f"(not {p})"),
        parts.map(lambda p: f"({p} in t)"),
        parts.map(lambda p: f"({p} not in c)"),
        parts.map(lambda p: f"len(c[int({p}):])"),
        parts.map(lambda p: f"min({p}, 3)"),
        parts.map(lambda p: f"[x for x in c if x < {p}]"),
        parts.map(lambda p: f"(lambda y: y > {p})(a)"),
    )


@settings(max_examples=150)
@given(st.recursive(leaves, compound, max_leaves=8), st.integers(-5, 5), st.integers(0, 5))
def test_any_expression_means_the_same(expression, a, b):
    f = function_of(f"def f(a, b, c, t):\n    return {expression}\n")
    for make in (int, Size):
        table = {1: 2, 3: 0}
        plain, rewritten, _ = both(f, make(a), make(b), [3, make(1), 2], table)
        assert plain == rewritten or all(
            isinstance(x, tuple) and x[0] is TypeError for x in (plain, rewritten)
        )


def test_code_without_its_source_stays_as_it_is():
    space = {}
    exec(compile("def f(x):\n    return x > 3\n", "<nowhere>", "exec"), space)
    edited = function_of("def f(x):\n    return x > 3\n")
    linecache.cache[edited.__code__.co_filename][2][:] = ["def f(x):\n", "    return x > 4\n"]
    broken = function_of("def f(x):\n    return x > 3\n")
    linecache.cache[broken.__code__.co_filename][2][:] = ["def f(x:\n"]
    for f in (space["f"], edited, broken, nn.Linear.forward, math_like):
        code = f.__code__
        with Rewriting([f]).noting():
            assert (f.__code__ is code) == (f is not math_like)
        assert f.__code__ is code


def math_like(x):
    return x > 3


def test_code_is_put_back_where_it_raises():
    f, code = math_like, math_like.__code__
    with pytest.raises(KeyError), Rewriting([f]).noting():
        raise KeyError
    assert f.__code__ is code
    assert f(4) is True


def test_code_that_was_defined_meanwhile_goes_on_working():
    f = function_of("def f():\n    return lambda x: 1 < len(x) < 3 and x[0] in {2: 3}\n")
    with comparisons(), Rewriting([f]).noting():
        g = f()
    assert (g([2, 3]), g([1, 2]), g([])) == (True, False, False)


# ---------------------------------------------------------------------------- no branch is missed


class Once(nn.Module):
    """A linear layer, and where `test` says so another time."""

    def __init__(self, test, w=12):
        super().__init__()
        self.layer, self.test, self.w = nn.Linear(4, 4, bias=False), test, w

    def forward(self, x):
        x = self.layer(x)
        return self.layer(x) if self.test(x, self.w) else x


class Steps(nn.Module):
    """A loop over time, whose body may change."""

    def __init__(self, **attributes):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        vars(self).update(attributes)

    def forward(self, x):
        return self.layer(torch.stack(self.steps(x.unbind(1)), 1))


def divides(x, w):
    try:
        x.view(x.shape[0], -1, w * w, 4)
    except RuntimeError:
        return False
    return True


def divides_plainly(x, w):
    try:
        x.reshape(-1, 23, 4)
    except RuntimeError:
        return False
    return True


# w * w, 144, is spelled out nowhere
TESTS = {
    "len": lambda x, w: len(x[0]) > w * w,
    "int": lambda x, w: w * w <= int(x.shape[1]) < w * w + 9,
    "float": lambda x, w: 1.0 < float(x.shape[1]) / (w * w) < 1.2,
    "abs": lambda x, w: abs(x.shape[1] - w * w) < 5,
    "half": lambda x, w: w * w < int(x.shape[1] * 0.5) < w * w + 9,
    "isclose": lambda x, w: math.isclose(x.shape[1], w * w, rel_tol=0.05),
    "ends of a list": lambda x, w: len(x.unbind(1)[-w * w :]) < x.shape[1],
    "a range": lambda x, w: x.shape[1] in range(w * w, w * w + 9, 4),
    "a long range": lambda x, w: x.shape[1] in range(w * w, w * w + 900),
    "a proxy": lambda x, w: x.shape[1] in MappingProxyType({w * w: 1}),
    "a table of tables": lambda x, w: {"a": {w * w: 1}}["a"].get(x.shape[1]),
    "a table that is made": lambda x, w: x.shape[1] in dict.fromkeys(k * w for k in (w, w + 3)),
    "a quotient as key": lambda x, w: {1.0: 0, 1.5: 1}.get(x.shape[1] / (w * w), 0),
    "storage": lambda x, w: x.untyped_storage().nbytes() // 32 == w * w,
    "stride": lambda x, w: x.stride(0) == 4 * w * w,
    "numel": lambda x, w: x.shape[1:].numel() == 4 * w * w,
    "shapes": lambda x, w: x.shape[1:] == (w * w, 4),
    "prod": lambda x, w: 0 < np.prod(x.shape[1:]) - 4 * w * w < 30,
    "cut": lambda x, w: max(0, len(x[0]) - w * w),
    "negated": lambda x, w: not max(0, w * w - len(x[0])),
    "bits": lambda x, w: (x.shape[1] - w * w) >> 1 == 3,
    "int and multiples": lambda x, w: int(x.shape[1]) % (w * w) == 0,
    "divmod": lambda x, w: divmod(x.shape[1], w * w)[1] == 0,
    "is_integer": lambda x, w: (x.shape[1] / (w * w)).is_integer(),
    "gcd": lambda x, w: math.gcd(x.shape[1], w * w) == w * w,
    "fmod": lambda x, w: math.fmod(x.shape[1], w * w) == 0,
    "ceil": lambda x, w: w * w * math.ceil(x.shape[1] / (w * w)) == x.shape[1],
    "numpy's ceil": lambda x, w: w * w * int(np.ceil(x.shape[1] / (w * w))) == x.shape[1],
    "truncated": lambda x, w: int(x.shape[1] / (w * w)) * w * w == x.shape[1],
    "a mask of bits": lambda x, w: x.shape[1] & (w * w - 17) == 0,
    "a view in a try": divides_plainly,
}
LENGTHS = (
    5,
    22,
    23,
    46,
    *range(128, 161, 4),
    137,
    143,
    145,
    149,
    151,
    153,
    215,
    216,
    217,
    288,
    290,
    295,
    306,
    432,
    1000,
)


@pytest.mark.parametrize("name", TESTS)
def test_a_branch_is_found_however_a_size_is_turned_into_a_number(name):
    def build(n: int = 8):
        return Once(TESTS[name]), torch.randn(1, n, 4)

    found = derive_cost(build).flops.forward
    for n in LENGTHS:
        assert not found.holds(n=n) or found(n=n) == flops(build, n=n)[0]
    with_it = {flops(build, n=n)[0] // n for n in LENGTHS}
    assert len(with_it) == 2
