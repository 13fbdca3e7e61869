"""How are texts kept in a frame? As objects; in a large one as ``str``, in buffers of Arrow."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from types import NoneType, SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_ARROW = ("pyarrow", "pyarrow_numpy")  # the latter is what pandas 2 calls the former

MANY = 100_000
"""Rows from which on texts lie in buffers. Below, objects cost next to nothing, and show None where
a text is missing, not NaN."""

_FIRST_WITH_STR = 3  # the version of pandas whose texts are ``str`` unless one asks for another


def are_objects(size: int) -> bool:
    """Return whether the texts of so many rows are kept as objects."""
    return size < MANY or not _has_str()


def text_column(values: Sequence[str | None], rows: pd.Index | None = None) -> pd.Series:
    """Return texts, None for a missing one, as a column of a frame with these rows.

    Of many texts, with pyarrow and pandas 3, its type is ``str``: ids are then decoded in one pass,
    and no Python object is touched for each span. Else it is object.

    Raises
    ------
    UnicodeEncodeError
        There is a lone surrogate among them, which no file, store or terminal can take.
    """
    import pandas as pd

    if are_objects(len(values)):
        "".join(filter(None, values)).encode()
        return pd.Series([*values], rows, dtype=object)
    import pyarrow as pa

    dtype = _str_dtype()
    return pd.Series(dtype.__from_arrow__(pa.array(values, pa.large_string())), rows)


def digits_column(digits: NDArray, rows: pd.Index, known: NDArray | None = None) -> pd.Series:
    """Return texts of one length as `text_column` does, None for those that are not known.

    `digits` holds the ASCII codes of a text in each row.
    """
    import numpy as np
    import pandas as pd

    size, width = digits.shape
    digits = np.ascontiguousarray(digits)
    if are_objects(size):
        each = digits.view(f"S{width}").ravel().tolist()
        texts = np.array([*map(bytes.decode, each)], dtype=object)
        if known is not None:
            texts[~known] = None
        return pd.Series(texts, rows, dtype=texts.dtype, copy=False)
    import pyarrow as pa

    ends = np.arange(size + 1, dtype=np.int64) * width
    mask = None
    if known is not None:  # where none is known, there is none in the buffer
        digits = digits[known]
        ends = np.append(0, np.cumsum(known) * width)
        mask = pa.py_buffer(np.packbits(known, bitorder="little"))
    buffers = pa.py_buffer(ends), pa.py_buffer(digits), mask
    return pd.Series(
        _str_dtype().__from_arrow__(pa.LargeStringArray.from_buffers(size, *buffers)), rows
    )


def are_texts(values: Iterable[object]) -> bool:
    """Return whether all values are texts or None."""
    return set(map(type, values)) <= {str, NoneType}


def _are_ascii(values: list[Any]) -> bool:
    """Return whether some values are texts of ASCII, all of them: joining says so soonest."""
    try:
        return "".join(values).isascii()
    except TypeError:
        return False


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can hold a text: it has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_in_arrow(column: pd.Series) -> bool:
    """Return whether the texts of a column lie in a buffer of Arrow, not each in an object."""
    return getattr(column.dtype, "storage", "") in _ARROW


_FEW = 100  # of the first rows: what more objects than this stand for is no name


def factorize(names: pd.Series) -> tuple[NDArray, Any]:
    """Return the code of each row's name, -1 for a missing one, and the names, as pandas does.

    An object that stands in many rows is looked at once.
    """
    import pandas as pd

    if not _has_few_objects(names):
        return pd.factorize(names)
    place, objects = _distinct_objects(names)
    code, known = pd.factorize(objects)
    return code[place], known


def _has_few_objects(column: pd.Series) -> bool:
    """Return whether the rows of a column share few Python objects, as far as the first ones
    tell.
    """
    if column.dtype != object:
        return False
    first = column.to_numpy()[: 10 * _FEW].tolist()
    return len(set(map(id, first))) <= _FEW


def _distinct_objects(column: pd.Series) -> tuple[NDArray, NDArray]:
    """Return the code of each row's object, and the different objects, in order."""
    import numpy as np
    import pandas as pd

    objects = column.to_numpy()
    place, distinct = pd.factorize(addresses(objects))
    first = np.empty(distinct.size, dtype=np.int64)
    first[place[::-1]] = np.arange(place.size)[::-1]
    return place, objects[first]


def addresses(objects: NDArray) -> NDArray:
    """Return where the objects of an array lie in memory."""
    import numpy as np

    seen_as = {**objects.__array_interface__, "typestr": np.dtype(np.intp).str}
    return np.asarray(SimpleNamespace(__array_interface__=seen_as))


_BLOCK = 1 << 14  # values at once, which the processor still holds when it looks at them again


def different_values(column: pd.Series) -> NDArray:
    """Return the values of a column; where few objects stand in many rows, each of them once."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.categories.to_numpy()
    if isinstance(column.dtype, pd.StringDtype):
        return pd.Series(column.unique()).to_numpy()
    if not _has_few_objects(column):
        return column.to_numpy()
    _, objects = _distinct_objects(column)
    return objects


def types_of_unicode(texts: NDArray, has_names: bool) -> set[type] | None:
    """Return the types of some values that are None, NaN (as None) or text that UTF-8 can hold,
    None if others are among them: the usual case, told soon. Names may stand there often.
    """
    found: set[type] = set()
    names: set[object] = set()
    for first in range(0, len(texts), _BLOCK):
        block = texts[first : first + _BLOCK]
        values = block.tolist()
        if has_names:
            try:
                values = [*set(values).difference(names)]
            except TypeError:  # what cannot be a member of a set is no text
                return None
            names.update(values)
        if _are_ascii(values):
            found.add(str)
            continue
        types = set(map(type, values))
        if float in types:
            values = [None if value != value else value for value in values]
            types = set(map(type, values))
        known = filter(None, values) if NoneType in types else values
        if not types <= {str, NoneType}:
            return None
        if not is_unicode("".join(known)):
            return None
        found |= types
    return found


_MOST_ARENAS = 2
_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_memory_between_threads() -> None:
    """Let a process with many threads, such as a server, keep little memory for each of them.

    Arrow's own allocator keeps some megabytes for each thread that has ever made a column: two
    gigabytes for a server with 500; it takes memory from the system from then on. glibc keeps as
    much as the largest answer took in each of its arenas, eight a processor; it makes no more than
    two from then on. What the environment says of either, MALLOC_ARENA_MAX or GLIBC_TUNABLES, is
    left as it is.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and find_spec("pyarrow") is not None:
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
    tuned = "glibc.malloc.arena_max=" in os.environ.get("GLIBC_TUNABLES", "")
    if not tuned and "MALLOC_ARENA_MAX" not in os.environ and sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another library of C
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _MOST_ARENAS)


def give_memory_back() -> None:
    """Let the system have the memory that Arrow keeps for the next large frame: some 20 MB after a
    frame of 130,000 spans is gone.
    """
    pa = sys.modules.get("pyarrow")
    if pa is not None:
        pa.default_memory_pool().release_unused()


@cache
def _has_str() -> bool:
    import pandas as pd

    major = int(pd.__version__.partition(".")[0])
    return major >= _FIRST_WITH_STR and find_spec("pyarrow") is not None


@cache
def _str_dtype() -> Any:
    import numpy as np
    import pandas as pd

    return pd.StringDtype("pyarrow", na_value=np.nan)
