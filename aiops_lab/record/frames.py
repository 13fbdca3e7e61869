"""How do the rows of a store become a spans frame? Block by block: ids as digits, names as numbers.

A Python object for each id and time of a long history would take four times the memory of the
frame, each time that a monitor looks back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab.columns import are_objects, are_texts, digits_column, is_unicode
from aiops_lab.record.database import Row, unpack_ids
from aiops_lab.spans import ALL_COLUMNS, checked_texts, drop_copies, status_values, to_frame

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

BLOCK_ROWS = 20_000
"""Rows whose values are objects of Python at once. Raising it takes more memory, and hardly saves
time.
"""

LATER_BLOCKS = 4
"""Blocks that are kept as rows until all are there, because others that read the store wait while
rows are taken: half as long for 60,000. What is more is converted meanwhile, as it would take too
much memory. Raising it lets others wait less for a long history, at some 6 MB a block.
"""

_NAMED = ("service", "endpoint", "kind", "peer", "method", "instance")  # as `SELECT_NAMES` has them
_TRACE, _SPAN, _PARENT = slice(0, 32), slice(32, 48), slice(48, 64)  # of the digits of a row
_BYTES, _WITHOUT_PARENT = 32, 24  # of the ids of a row


class UnusualError(Exception):
    """A value needs a Python object, such as an id of another length."""


class FoundSpans:
    """Takes rows of `database.SELECT` in blocks, and makes the frame that `to_frame` makes of them.

    Parameters
    ----------
    as_objects : bool
        Whether all rows are kept as they are; default: those of the last `LATER_BLOCKS`.
    """

    def __init__(self, *, as_objects: bool = False) -> None:
        self._as_objects = as_objects
        self._later: deque[list[Row]] = deque()
        self._blocks: list[_Block] = []

    def take(self, rows: list[Row]) -> None:
        """Take some rows, `BLOCK_ROWS` but for the last ones. Raises `UnusualError`."""
        self._later.append(rows)
        if not self._as_objects and len(self._later) > LATER_BLOCKS:
            self._blocks.append(_block(self._later.popleft()))

    def frame(self, names: Iterable[Row]) -> pd.DataFrame:
        """Return the frame of all rows, given those of `database.SELECT_NAMES`.

        Raises `UnusualError`.
        """
        name_of = {code: name for code, *name in names}
        if self._as_objects or not self._later:
            return self._frame_of_objects(name_of)
        try:
            self._blocks = [*self._blocks, *map(_block, self._later)]
        except UnusualError:
            if self._blocks:  # their rows are gone
                raise
            return self._frame_of_objects(name_of)
        self._later.clear()
        return _frame(self._blocks, name_of)

    def _frame_of_objects(self, name_of: dict[int, list[str | None]]) -> pd.DataFrame:
        rows = chain.from_iterable(self._later)
        return to_frame(_fields(row, name_of) for row in rows)


def _fields(row: Row, name_of: dict[int, list[str | None]]) -> Row:
    """Return the fields of a span from a row of `database.SELECT`."""
    code, start, duration, status, ids, error, first_byte, links = row
    service, endpoint, kind, peer, method, instance = name_of[code]
    place = service, endpoint, kind, peer
    result = start, duration, status, error
    return *unpack_ids(ids), *place, *result, method, instance, first_byte, links


class _Block(NamedTuple):
    """Some rows, an entry for each in all fields."""

    name: NDArray  # its number
    start: NDArray
    duration: NDArray  # ns; NaN while it is open
    status: NDArray | Sequence[int | None]  # the latter where some are missing
    digits: NDArray  # of the three ids
    has_parent: NDArray
    error: Sequence[str | None]
    first_byte: NDArray
    links: Sequence[str | None]


def _block(rows: Sequence[Row]) -> _Block:
    name, start, duration, status, ids, error, first_byte, links = zip(*rows, strict=True)
    digits, has_parent = _digits(ids)
    return _Block(
        name=_numbers(name, "int64"),
        start=_numbers(start, "int64"),
        duration=_numbers(duration, "float64"),
        status=status if None in status else _numbers(status, "int64"),
        digits=digits,
        has_parent=has_parent,
        error=error,
        first_byte=_numbers(first_byte, "float64"),
        links=links,
    )


def _numbers(values: Sequence[Any], dtype: str) -> NDArray:
    """Return whole numbers as an array; where they may be fractions, None as NaN."""
    import numpy as np

    if dtype == "float64" and _are_missing(values):
        return np.full(len(values), np.nan)
    numbers = np.array(values)
    is_whole = numbers.dtype.kind == "i"
    if is_whole or (dtype == "float64" and set(map(type, values)) <= {int, NoneType}):
        return numbers.astype(dtype, copy=False)
    raise UnusualError


def _digits(ids: Sequence[Any]) -> tuple[NDArray, NDArray]:
    """Return the hexadecimal digits of ids as `database.pack_ids` packs them, and which rows have a
    parent; the digits of a missing one are 0.
    """
    import numpy as np

    if set(map(type, ids)) != {bytes}:
        raise UnusualError
    sizes = np.array([*map(len, ids)])
    has_parent = sizes == _BYTES
    if not (has_parent | (sizes == _WITHOUT_PARENT)).all():
        raise UnusualError
    packed = np.array(ids, dtype=f"S{_BYTES}").tobytes()  # with 0 where there is no parent
    digits = np.frombuffer(packed.hex().encode(), dtype=np.uint8)
    return digits.reshape(-1, 2 * _BYTES), has_parent


def _frame(blocks: list[_Block], name_of: dict[int, list[str | None]]) -> pd.DataFrame:
    """Return the frame of some blocks."""
    import numpy as np
    import pandas as pd

    start = _joined(blocks, "start")
    distinct, name = np.unique(_joined(blocks, "name"), return_inverse=True)
    known = np.array([name_of[code] for code in distinct.tolist()], dtype=object)
    named = dict(zip(_NAMED, known.T, strict=True))
    order = _order(start, blocks, named["kind"][name])
    start, name = start[order], name[order]
    rows = pd.RangeIndex(order.size)
    columns: dict[str, Any] = {
        "start": pd.DatetimeIndex(start, tz="UTC"),
        "duration_ms": _joined(blocks, "duration")[order] / 1e6,
        "status": _statuses(blocks, order),
        "first_byte_ms": _joined(blocks, "first_byte")[order] / 1e6,
    }
    for column in ("error", "links"):
        columns[column] = _texts(column, _objects(blocks, column)[order], rows)
    has_parent = _joined(blocks, "has_parent")[order]
    ids = {"trace_id": (_TRACE, None), "span_id": (_SPAN, None), "parent_id": (_PARENT, has_parent)}
    for column, (part, there) in ids.items():
        columns[column] = digits_column(_joined_ids(blocks, part)[order], rows, there)
    is_plain = are_objects(rows.size) and _are_plain(known.ravel().tolist())
    for column, texts in named.items():
        every = texts[name]
        if is_plain:
            columns[column] = pd.Series(every, rows, dtype=every.dtype, copy=False)
        else:
            columns[column] = checked_texts(column, every.tolist(), rows)
    in_order = {column: columns[column] for column in ALL_COLUMNS}
    frame = pd.DataFrame(in_order, index=rows, copy=False)
    return drop_copies(frame, start)


def _statuses(blocks: list[_Block], order: NDArray) -> Any:
    """Return the status of each row as `status_values` does."""
    import numpy as np

    if all(isinstance(block.status, np.ndarray) for block in blocks):
        return _joined(blocks, "status")[order]
    statuses = _objects(blocks, "status")[order]
    return status_values(statuses.tolist())


def _texts(column: str, values: NDArray, rows: pd.RangeIndex) -> pd.Series:
    """Return a column of texts that most rows lack."""
    import pandas as pd

    if are_objects(values.size) and _are_plain(values.tolist()):
        return pd.Series(values, rows, dtype=values.dtype, copy=False)
    return checked_texts(column, values.tolist(), rows)


def _are_missing(values: Sequence[Any]) -> bool:
    return values.count(None) == len(values)


def _are_plain(texts: list[Any]) -> bool:
    """Return whether all of some values are texts that a column can hold, or None."""
    if not are_texts(texts):
        return False
    joined = "".join(filter(None, texts))
    return is_unicode(joined)


def _order(start: NDArray, blocks: list[_Block], kind: NDArray) -> NDArray:
    """Return the positions of the rows as `to_frame` sorts them."""
    import numpy as np

    order = np.argsort(start, kind="stable")
    like_next = np.diff(start[order]) == 0
    if not like_next.any():
        return order
    is_tied = np.append(like_next, False) | np.append(False, like_next)
    tied = order[is_tied]  # few, and texts are sorted slowly
    ids = (_as_bytes(_joined_ids(blocks, part)[tied]) for part in (_TRACE, _SPAN))
    trace_id, span_id = ids
    kinds = kind[tied].astype(str)
    order[is_tied] = tied[np.lexsort((kinds, trace_id, span_id, start[tied]))]
    return order


def _joined(blocks: list[_Block], field: str) -> NDArray:
    import numpy as np

    return np.concatenate([getattr(block, field) for block in blocks])


def _joined_ids(blocks: list[_Block], part: slice) -> NDArray:
    import numpy as np

    return np.concatenate([block.digits[:, part] for block in blocks])


def _objects(blocks: list[_Block], field: str) -> NDArray:
    """Return values that most rows lack, or share, as objects."""
    import numpy as np

    every = [*chain.from_iterable(getattr(block, field) for block in blocks)]
    objects = np.empty(len(every), dtype=object)
    objects[:] = every
    return objects


def _as_bytes(digits: NDArray) -> NDArray:
    """Return the digits of each row as one value, which sorts as the text does."""
    import numpy as np

    return np.ascontiguousarray(digits).view(f"S{digits.shape[1]}").ravel()
