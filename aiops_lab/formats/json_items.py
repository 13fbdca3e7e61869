"""What are the values of a JSON file, one at a time? Documents and JSON lines, in bounded memory.

An object is read whole, but for arrays that hold all that matters in it: their elements come one by
one. So do those of an array at the top::

    {"resourceSpans": [A, B], ...}   ->   resourceSpans[0], A   resourceSpans[1], B
    [A, B]                           ->   [0], A   [1], B
    {"spans": [...], ...}            ->   "", the object
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from typing import Any, NoReturn

from aiops_lab.formats.sources import CHUNK, Source

STREAMED = ("resourceSpans", "batches", "data")  # OTLP, Tempo, Jaeger

# One trace, or the spans of one resource: some 100,000 spans. As Python objects it is ten times
# as large.
MAX_ITEM = 128 << 20

_SPACE = re.compile(r"[ \t\r\n]*")

# An error so near to the end of what was read may come from the cut; an escape has 12 characters.
_NEAR = 16

_EXPONENT = 2  # characters of a number that are no number yet: ``3e-``


class JsonItems:
    """The values of a JSON file, by iteration: where in the file (a path), and the value."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._value_at = 0
        self._line = 1  # on which the text begins
        self._column = 1
        self._bytes = 0
        self._is_complete = False

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        while mark := self._next():
            if mark == "[":
                yield from self._elements("")
            elif mark == "{":
                yield from self._members()
            else:
                self._fail("must be JSON: an object or an array", self._at)

    @property
    def line(self) -> int:
        """The line on which the last value begins, from 1; to be asked before the next value."""
        return self._line + self._text.count("\n", 0, self._value_at)

    def _elements(self, name: str) -> Iterator[tuple[str, Any]]:
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        index = 0
        while True:
            yield f"{name}[{index}]", self._value()
            index += 1
            if self._either(",", "]") == "]":
                return

    def _members(self) -> Iterator[tuple[str, Any]]:
        self._at += 1
        rest: dict[str, Any] = {}
        has_streamed = False
        mark = ","
        if self._next() == "}":
            mark = self._either("}", "}")
        while mark == ",":
            key = self._key()
            if key in STREAMED and self._next() == "[":
                has_streamed = True
                yield from self._elements(key)
            else:
                rest[key] = self._value()
            mark = self._either(",", "}")
        if not has_streamed:
            yield "", rest

    def _key(self) -> str:
        key = self._value()
        if not isinstance(key, str):
            self._fail("must be JSON with a text as key", self._at)
        self._either(":", ":")
        return key

    def _either(self, one: str, other: str) -> str:
        """Return the next character, which must be one of two, and pass it."""
        mark = self._next()
        if mark not in (one, other) or not mark:
            marks = " or ".join(dict.fromkeys((repr(one), repr(other))))
            self._fail(f"must be JSON with {marks} here", self._at)
        self._at += 1
        return mark

    def _next(self) -> str:
        """Return the next character that is no space, without passing it; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except JSONDecodeError as error:
                inside = error.pos - self._at
                if self._is_cut(error) and self._fill():
                    continue
                self._fail(f"must be JSON ({error.msg})", self._at + inside)
            except RecursionError:
                self._fail("must not be nested as deep as this", self._at)
            except ValueError:  # a number of more digits than Python reads
                self._fail("must have numbers of at most 4,300 digits", self._at)
            size = end - self._at
            if self._may_go_on(value, end) and self._fill():
                continue
            self._value_at, self._at = self._at, self._at + size
            return value

    def _may_go_on(self, value: Any, end: int) -> bool:
        """Return whether what was read of a number may be its beginning: ``3`` of ``3.5``."""
        return isinstance(value, (int, float)) and end >= len(self._text) - _EXPONENT

    def _is_cut(self, error: JSONDecodeError) -> bool:
        """Return whether a value may only be incomplete as yet."""
        is_near = error.pos >= len(self._text) - _NEAR
        return is_near or error.msg.startswith("Unterminated string")

    def _fill(self) -> bool:
        """Read on, and drop what was passed; return whether there was more."""
        if self._is_complete:
            return False
        rest = self._text[self._at :]
        if len(rest) > MAX_ITEM:
            self._fail(f"must have no value of more than {MAX_ITEM:,} characters", self._at)
        self._pass(self._text[: self._at])
        more = self._read(max(CHUNK, len(rest)))
        self._text = rest + more
        self._at = 0
        return bool(more)

    def _read(self, size: int) -> str:
        more = ""
        while not more and not self._is_complete:
            data = self._source.stream.read(size)
            self._is_complete = not data
            more = self._decoded(data)
            self._bytes += len(data)
        return more

    def _decoded(self, data: bytes) -> str:
        try:
            text = self._decode(data, not data)
        except UnicodeDecodeError as error:
            wrong = error.object[error.start]
            place = self._bytes + error.start
            text = f"must be UTF-8, got byte 0x{wrong:02x} near byte {place:,}"
            raise ValueError(f"{self._source.name} {text}") from None
        return text.removeprefix("\ufeff") if self._bytes == 0 else text

    def _pass(self, text: str) -> None:
        lines = text.count("\n")
        self._line += lines
        after = len(text) - text.rfind("\n") - 1
        self._column = after + 1 if lines else self._column + after

    def _fail(self, rule: str, at: int) -> NoReturn:
        before = self._text[:at]
        lines = before.count("\n")
        column = self._column + at
        if lines:
            column = at - before.rfind("\n")
        place = f"{self._source.name}, line {self._line + lines}, column {column},"
        found = self._text[at : at + 30]
        got = repr(found) if found else "the end of the file: it is cut off"
        raise ValueError(f"{place} {rule}, got {got}")
