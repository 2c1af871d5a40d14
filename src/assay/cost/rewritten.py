"""The user's own code, rewritten so that its comparisons are noted; it does the same.

Each `a < b` becomes a call that compares and notes by how much the two differ; and so do `in`, `%`, `//`,
truths of numbers, ends of lists and what makes plain integers of sizes. The code of functions is exchanged
for as long as notes are taken. Where the source is not at hand, or not what was loaded, it stays as it is.
"""

from __future__ import annotations

import ast
import copy
import linecache
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any, TypeVar

from assay.cost import hooks
from assay.cost.code import is_users

_COMPARED: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: hooks.less,
    ast.LtE: hooks.less_or_equal,
    ast.Gt: hooks.greater,
    ast.GtE: hooks.greater_or_equal,
    ast.Eq: hooks.equal,
    ast.NotEq: hooks.unequal,
    ast.In: hooks.within,
    ast.NotIn: hooks.without,
}
_DIVIDED: dict[type[ast.operator], Callable[..., Any]] = {
    ast.FloorDiv: hooks.floor_divided,
    ast.Mod: hooks.remainder,
}
Test = TypeVar("Test", ast.If, ast.While, ast.IfExp)
_CALLED = {"range", "int", "float", "len", "min", "max", "zip", "gcd", "fmod", "isclose"}
_METHODS = {"get", "pop", "setdefault", "append", "appendleft", "numel", "gcd", "fmod", "isclose"}
_METHODS |= {"ceil", "floor", "rint", "sqrt", "log", "log2", "log10"}
_TRIED = {"view", "reshape", "unflatten"}
# begins the name under which a function tells that it is run
_ENTERED = "assay.cost.hooks.entered "
_HOOKS: dict[str, Callable[..., Any]] = {}  # by the text that stands for one while code is compiled


class Rewriting:
    """Code of the user's functions, and what it may be exchanged for.

    Args:
        functions: The user's; those of installed libraries, and those without a source, stay as they are.
    """

    def __init__(self, functions: Iterable[FunctionType]) -> None:
        self._codes: list[tuple[FunctionType, CodeType, CodeType]] = []
        self._names: dict[FunctionType, str] = {}
        self._ran: set[str] = set()
        sources: dict[str, dict[CodeType, CodeType]] = {}
        for function in functions:
            code = function.__code__
            file = code.co_filename
            if file not in sources:
                sources[file] = _compiled(file, _source(file)) if is_users(file) else {}
            if (new := sources[file].get(code)) is not None:
                self._codes.append((function, code, new))
                self._names[function] = _name(new)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Exchange the code of the functions, and of those that they define, for code that notes."""
        try:
            for function, _, new in self._codes:
                function.__code__ = new
            with hooks.entering(self._ran):
                yield
        finally:
            for function, code, _ in self._codes:
                function.__code__ = code

    @property
    def idle(self) -> frozenset[FunctionType]:
        """The functions that no run has entered yet, of those that would tell."""
        ran = {*self._ran, ""}
        return frozenset(function for function, name in self._names.items() if name not in ran)


def _name(code: CodeType) -> str:
    """The name under which a function tells that it is run; "" for a lambda, which does not."""
    texts = (value for value in code.co_consts if isinstance(value, str))
    return next((text for text in texts if text.startswith(_ENTERED)), "")


def _source(file: str) -> str:
    return "".join(linecache.getlines(file))


@lru_cache(maxsize=256)
def _compiled(file: str, source: str) -> dict[CodeType, CodeType]:
    """The new code of each function of a file, by the code as Python compiles it."""
    try:
        tree = ast.parse(source, file)
        before = compile(tree, file, "exec", dont_inherit=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that texts, which stand for functions, are called
            noting = ast.fix_missing_locations(_Noting(file).visit(tree))
            after = _with_hooks(compile(noting, file, "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError):  # no module, as a cell of a notebook may be
        return {}
    return dict(_pairs(before, after))


def _pairs(before: CodeType, after: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    olds, news = (
        [c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after)
    )
    if [c.co_name for c in olds] != [c.co_name for c in news]:
        return
    for old, new in zip(olds, news, strict=True):
        if old.co_freevars == new.co_freevars:
            yield old, new
            yield from _pairs(old, new)


def _with_hooks(code: CodeType) -> CodeType:
    """The functions themselves in place of the texts that stand for them."""

    def constant(value: Any) -> Any:
        if isinstance(value, CodeType):
            return _with_hooks(value)
        return _HOOKS.get(value, value) if isinstance(value, str) else value

    return code.replace(co_consts=tuple(map(constant, code.co_consts)))


class _Noting(ast.NodeTransformer):
    """Puts calls of hooks in place of what they note."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._trying = 0
        # depth of comprehensions and classes, where names may not be given, or mean something
        self._unnamed = 0

    def visit(self, node: ast.AST) -> Any:
        """Visit, and know where names may be given."""
        before = self._unnamed
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            self._unnamed = 0
        elif isinstance(
            node, ast.ClassDef | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        ):
            self._unnamed += 1
        try:
            return super().visit(node)
        finally:
            self._unnamed = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        name = ast.Constant(f"{_ENTERED}{self._file}:{node.lineno}:{node.col_offset}")
        told = ast.Expr(_call(node, hooks.entered, name))
        node.body.insert(1 if ast.get_docstring(node, clean=False) is not None else 0, told)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        middle = node.comparators[:-1]
        named = [not _repeatable(side) for side in middle]
        self.generic_visit(node)
        if any(named) and self._unnamed:
            return node
        lefts, rights = [node.left], [*node.comparators]
        for place, is_named in enumerate(named):
            side, again = rights[place], copy.deepcopy(rights[place])
            if is_named:  # it is asked for once, and kept
                name = f"_assay_{node.lineno}_{node.col_offset}_{place}"
                again = _at(side, ast.Name(name, ast.Load()))
                rights[place] = _at(side, ast.NamedExpr(ast.Name(name, ast.Store()), side))
            lefts.append(again)
        made = [_compared(*each) for each in zip(lefts, node.ops, rights, strict=True)]
        return made[0] if len(made) == 1 else _at(node, ast.BoolOp(ast.And(), made))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        node.values = [_truth(value) for value in node.values]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            node.operand = _truth(node.operand)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        hook = _DIVIDED.get(type(node.op))
        if hook is None or isinstance(node.left, ast.JoinedStr | ast.Constant):
            return node
        return _call(node, hook, node.left, node.right)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        index = node.slice
        if not isinstance(node.ctx, ast.Load) or isinstance(index, ast.Tuple | ast.Constant):
            return node
        if isinstance(index, ast.Slice):
            ends = [x or _at(node, ast.Constant(None)) for x in (index.lower, index.upper)]
            if index.step or not (index.lower or index.upper):
                return node
            return _call(node, hooks.cut, node.value, *ends)
        return _call(node, hooks.item, node.value, index)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called, hook = node.func, None
        if isinstance(called, ast.Name):
            hook = hooks.called if called.id in _CALLED else None
        elif isinstance(called, ast.Attribute):
            if called.attr in _METHODS:
                hook = hooks.called
            elif called.attr in _TRIED and self._trying:
                hook = hooks.tried
        if hook is None:
            return node
        return _call(node, hook, called, *node.args, keywords=node.keywords)

    def visit_Try(self, node: ast.Try) -> ast.Try:
        self._trying += 1
        node.body = [self.visit(statement) for statement in node.body]
        self._trying -= 1
        for part in (node.handlers, node.orelse, node.finalbody):
            part[:] = [self.visit(child) for child in part]
        return node

    def visit_If(self, node: ast.If) -> ast.If:
        return self._tested(node)

    def visit_While(self, node: ast.While) -> ast.While:
        return self._tested(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        return self._tested(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        if node.value is not None:  # nobody asks for the annotation
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node

    def _tested(self, node: Test) -> Test:
        self.generic_visit(node)
        node.test = _truth(node.test)
        return node


def _compared(left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
    hook = _COMPARED.get(type(op))
    texts = any(isinstance(x, ast.Constant) and isinstance(x.value, str) for x in (left, right))
    if hook is None or texts:
        return _at(left, ast.Compare(left, [op], [right]))
    return _call(left, hook, left, right)


def _truth(value: ast.expr) -> ast.expr:
    """What is asked whether it is true, noted where it may be a number."""
    if isinstance(value, ast.Name | ast.Attribute | ast.BinOp | ast.Subscript | ast.NamedExpr):
        return _call(value, hooks.asked, value)
    return value


def _repeatable(node: ast.expr) -> bool:
    """Whether something may be evaluated twice."""
    kinds = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Load)
    return all(isinstance(x, (*kinds, ast.operator, ast.unaryop)) for x in ast.walk(node))


def _call(
    place: ast.AST,
    hook: Callable[..., Any],
    *args: ast.expr,
    keywords: list[ast.keyword] | None = None,
) -> ast.expr:
    text = f"assay.cost.hooks.{hook.__qualname__}.{id(hook)}"
    _HOOKS[text] = hook
    return _at(place, ast.Call(ast.Constant(text), list(args), keywords or []))


def _at(place: ast.AST, node: ast.expr) -> ast.expr:
    return ast.copy_location(node, place)
