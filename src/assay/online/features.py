"""What users bring, as rows: arrays, tables with named columns, compressed rows, and dictionaries."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any, NoReturn, Self

import numpy as np
from scipy import sparse as sp

from assay.errors import UsageError, verbatim
from assay.online import moments as m
from assay.online.compiled import compiled

Array = np.ndarray[Any, np.dtype[Any]]
Row = Mapping[Any, Any]
REACH = 2.0**200  # how far a value may be from the feature's first: its fourth power is summed
FINE, MISSING, INFINITE, FAR = range(4)
UNKNOWN = repeat(-1)
PLAIN = (float, int, bool)


def is_rows(X: Any) -> bool:
    """Whether X is a dictionary, or a list, tuple or generator of them."""
    if isinstance(X, Mapping):
        return not sp.issparse(X)  # a "dictionary of keys" is one
    return isinstance(X, list | tuple) and len(X) > 0 and isinstance(X[0], Mapping)


@compiled
def first_bad(X: np.ndarray, table: np.ndarray, holes: bool) -> tuple[int, int, int]:
    """Row, column and kind of the first value that cannot be learnt; kind FINE if there is none."""
    units = table[:, m.UNIT].copy()
    for t in range(X.shape[0]):
        for j in range(X.shape[1]):
            x = X[t, j]
            kind = kind_of(x, units[j], holes)
            if kind != FINE:
                return t, j, kind
            if units[j] == 0.0 and x != 0.0 and not np.isnan(x):
                units[j] = m.unit_of(x)
    return 0, 0, FINE


@compiled
def first_bad_entry(
    values: np.ndarray, columns: np.ndarray, table: np.ndarray, holes: bool
) -> tuple[int, int]:
    """The same for the entries of compressed rows: place and kind."""
    for i in range(len(values)):
        j = columns[i]
        kind = kind_of(values[i], table[j, m.UNIT] if j < len(table) else 0.0, holes)
        if kind != FINE:
            return i, kind
    return 0, FINE


@compiled
def first_wild(y: np.ndarray, limit: float) -> int:
    """The place of the first number that is NaN or not below the limit; −1 if there is none."""
    for i in range(len(y)):
        if not abs(y[i]) < limit:
            return i
    return -1


@compiled
def kind_of(x: float, unit: float, holes: bool) -> int:
    """What is wrong with a value of a feature, whose first value has set its unit; 0 if there was none."""
    if np.isnan(x):
        return FINE if holes else MISSING
    if np.isinf(x):
        return INFINITE
    return FAR if abs(x * unit) > REACH else FINE


def check_values(X: Any, table: Array, names: Iterable[Any] | None, missing: str) -> None:
    """Refuse NaN (unless missing values are skipped), infinities, and values beyond all reach.

    Args:
        X: Rows `[N, D]`, dense or CSR.
        table: The features' moments so far, of D features or (for CSR) fewer.
        names: Names of the features, if they have any.
        missing: "error" or "skip".

    Raises:
        UsageError: With the row and the feature.
    """
    holes = missing == "skip"
    if isinstance(X, np.ndarray):
        row, column, kind = first_bad(X, table, holes)
        if kind == FINE:
            return
        value = X[row, column]
    else:
        at, kind = first_bad_entry(X.data, X.indices, table, holes)
        if kind == FINE:
            return
        row, column = int(np.searchsorted(X.indptr, at, "right")) - 1, int(X.indices[at])
        value = X.data[at]
    _refuse(row, column if names is None else repr(list(names)[column]), float(value), kind)


def _refuse(row: int, name: Any, value: float, kind: int) -> NoReturn:
    where = f"X[{row}], feature {name}"
    said = {MISSING: "NaN", INFINITE: "inf" if value > 0 else "-inf"}.get(kind, f"{value:g}")
    if kind == MISSING:
        remedy = 'Leave such rows out, or pass missing="skip": the feature then says nothing there.'
        raise UsageError(where, verbatim(said), "a number, not a missing value (NaN)", remedy)
    if kind == INFINITE:
        remedy = "Leave such rows out, or clip the feature. Nothing was learnt of this batch."
        raise UsageError(where, verbatim(said), "a finite number, not infinity", remedy)
    expected = "a value less than 1e60 times the feature's first"
    raise UsageError(
        where, verbatim(said), expected, "Check the unit that this row was written in."
    )


class Compressed:
    """Compressed rows, as scipy's, of which one can be made in a microsecond.

    Args:
        data: Values `[entries]`, float64.
        indices: Their columns, int64; distinct in each row.
        indptr: Row t has the entries from `indptr[t]` to `indptr[t + 1]`, int64.
        columns: D.
    """

    __slots__ = ("data", "indices", "indptr", "shape")

    def __init__(self, data: Array, indices: Array, indptr: Array, columns: int) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape = (len(indptr) - 1, columns)

    @classmethod
    def of(cls, matrix: Any) -> Self:
        """From scipy's or numpy's.

        Args:
            matrix: Any matrix of numbers.

        Returns:
            Its rows.
        """
        csr = sp.csr_array(matrix, dtype=np.float64)
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
        indices, indptr = owned(csr.indices, np.int64), owned(csr.indptr, np.int64)
        return cls(owned(csr.data, np.float64), indices, indptr, csr.shape[1])

    def csr(self) -> sp.csr_array:
        """The same as scipy's."""
        return sp.csr_array((self.data, self.indices, self.indptr), shape=self.shape)

    def __getitem__(self, rows: Any) -> Compressed:
        whole = isinstance(rows, slice) and rows == slice(0, self.shape[0])
        return self if whole else Compressed.of(self.csr()[rows])

    def toarray(self, columns: int | None = None) -> Array:
        """Dense rows.

        Args:
            columns: How many columns; the ones too many are 0. D by default.

        Returns:
            `[N, columns]`.
        """
        out = np.zeros((self.shape[0], columns or self.shape[1]))
        out[np.repeat(np.arange(self.shape[0]), np.diff(self.indptr)), self.indices] = self.data
        return out


class Names:
    """Columns of named features, in the order in which they first appeared; or of hashes of their names.

    Args:
        bits: None, or how many bits of the hash are kept: there are then `2**bits` columns for ever.
    """

    def __init__(self, bits: int | None = None) -> None:
        self.bits = bits
        self.index: dict[str, int] = {}

    def __len__(self) -> int:
        return 2**self.bits if self.bits is not None else len(self.index)

    def column(self, name: str, add: bool) -> int | None:
        """The column of a name.

        Args:
            name: The feature's name.
            add: Whether a new name gets a column.

        Returns:
            The column, or None for a new name.
        """
        if self.bits is not None:
            return int(zlib.crc32(name.encode()) & (2**self.bits - 1))
        at = self.index.get(name)
        if at is None and add:
            at = self.index[name] = len(self.index)
        return at

    def forget(self, length: int) -> None:
        """Take back the names that came after the first `length`."""
        for name in list(self.index)[length:]:
            del self.index[name]

    def encode_known(self, rows: Iterable[Row], columns: int) -> Array | None:
        """Dictionaries as an array, where all names are known and all values are plain numbers.

        Args:
            rows: One dictionary per row.
            columns: D.

        Returns:
            Rows `[N, columns]`, or None where `encode` is needed.
        """
        index = self.index
        out = []
        try:
            for row in rows:
                values = [0.0] * columns
                for name, value in row.items():
                    if type(value) is str or value is None:
                        return None
                    values[index[name]] = value
                out.append(values)
            return np.array(out, dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            return None

    def places(self, row: Row, add: bool) -> list[int] | None:
        """Columns of the names of one dictionary, for the short way.

        Args:
            row: Numbers by name.
            add: Whether new names get a column; otherwise theirs is −1.

        Returns:
            As many columns as the row has entries, or None where `encode` is needed. No name was added then.
        """
        if self.bits is not None:
            return None
        index = self.index
        places = list(map(index.get, row, UNKNOWN))
        if -1 not in places:
            return places
        for name, value in row.items():
            if type(name) is not str or type(value) not in PLAIN:
                return None
        if add:
            for name in row:
                if name not in index:
                    index[name] = len(index)
            places = [index[name] for name in row]
        return places

    def encode(self, rows: Iterable[Row], add: bool) -> Compressed:
        """Dictionaries as compressed rows.

        Args:
            rows: One dictionary per row: numbers by name; a text is a category, an indicator of "name=text";
                None is missing; what is absent is 0.
            add: Whether new names get a column; otherwise they are ignored.

        Returns:
            Rows `[N, len(self)]`.

        Raises:
            UsageError: For a value that is neither number nor text. No name was added.
        """
        before = len(self.index)
        values: list[float] = []
        columns: list[int] = []
        pointers = [0]
        index, plain = self.index, self.bits is None
        for t, row in enumerate(rows):
            for name, value in row.items():
                kind = type(value)
                if kind is str:
                    name, number = f"{name}={value}", 1.0
                elif kind is float or kind is int or kind is bool:
                    number = float(value)
                else:
                    number = self._number(t, name, value, before)
                at = index.get(name) if plain else None
                if at is None:
                    at = self.column(name if type(name) is str else f"{name!r}", add)
                    if at is None:
                        continue
                columns.append(at)
                values.append(number)
            pointers.append(len(values))
        data, indices = np.array(values, np.float64), np.array(columns, np.int64)
        matrix = Compressed(data, indices, np.array(pointers, np.int64), len(self))
        collided = self.bits is not None and len(set(columns)) < len(columns)
        return Compressed.of(matrix.csr()) if collided else matrix

    def _number(self, row: int, name: Any, value: Any, before: int) -> float:
        if value is None:
            return float("nan")
        try:
            return float(value)
        except (TypeError, ValueError):
            self.forget(before)
            raise UsageError(
                f"X[{row}][{name!r}]",
                value,
                "a number, a text (a category), or None (missing)",
                "Convert it, or leave it out.",
            ) from None


def as_rows(X: Any, where: str = "X") -> Any:
    """Arrays, lists, tables and sparse matrices as float64 `[N, D]` or CSR.

    Args:
        X: What the user brought.
        where: The argument's name, for the message.

    Returns:
        A contiguous array, or compressed rows with distinct columns.

    Raises:
        UsageError: For complex numbers, texts and wrong shapes.
        TypeError: For dictionaries or lists in cells.
    """
    if sp.issparse(X):
        if X.dtype.kind == "c":
            raise UsageError(
                where, verbatim("complex"), "real numbers", "Complex data not supported."
            )
        return Compressed.of(X)
    array = np.asarray(X)
    if array.dtype.kind == "O" and any(isinstance(value, dict | list) for value in array.flat):
        raise TypeError(
            f"{where} has dictionaries or lists in its cells: argument must be a string or a number"
        )
    if array.dtype.kind == "c":
        raise UsageError(where, verbatim("complex"), "real numbers", "Complex data not supported.")
    if array.dtype.kind not in "fiub":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(
                where,
                verbatim(f"an array of {array.dtype}: {error}"),
                "numbers; the argument must be real numbers, not text",
                "Pass rows with categories as dictionaries: a text is then an indicator.",
            ) from error
    if array.ndim != 2:
        hint = "Reshape your data: X.reshape(-1, 1) for one feature, X.reshape(1, -1) for one row."
        raise UsageError(
            where,
            verbatim(f"{array.ndim}D array of shape {array.shape}"),
            "rows [N, D], a 2D array",
            hint,
        )
    return owned(array, np.float64)


def owned(array: Array, dtype: Any) -> Array:
    """The array in one block, of one type, writable: the loops are compiled for such, once."""
    block = np.ascontiguousarray(array, dtype=dtype)
    return block if block.flags.writeable else block.copy()
