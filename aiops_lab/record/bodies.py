"""When has a caller read its answer? The span of a call ends with the body of the response.

requests hands out the body as it is, a `urllib3.HTTPResponse`, which may be read in many ways and
by anyone. So its class becomes one that notices the end; the object stays the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import requests
from urllib3.response import HTTPResponse

from aiops_lab.record.recorder import OpenSpan, describe_call_error


def end_with_body(span: OpenSpan, response: requests.Response, streams: bool) -> None:
    """End the span of a call when the body of its answer has been read, closed or dropped.

    That is at once where there is nothing to read, or where another library made the response.

    Parameters
    ----------
    span
        Of the call; its answer has begun.
    response
        As the adapter returned it.
    streams
        Whether the caller goes on with the headers, before the body has come.
    """
    raw = response.raw
    # (isinstance of another class is slow: this one is an abstract base class by its parent)
    if raw is None or not isinstance(raw, HTTPResponse) or _is_empty(raw):
        span.end()
        return
    if streams:
        span.begin_answer()
    raw.__class__ = _recorded(type(raw))
    raw.is_awaited = not streams  # type: ignore[attr-defined]
    raw.span = span  # type: ignore[attr-defined]
    raw.depth = 0  # type: ignore[attr-defined]


def _is_empty(raw: HTTPResponse) -> bool:
    return raw.closed or raw.length_remaining == 0


class _RecordedBody(HTTPResponse):
    """A body whose end is the end of a span."""

    span: OpenSpan
    is_awaited: bool  # without the body the caller gets no answer at all
    depth: int  # of reads that read by another; only the outermost sees the exception

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        return self._watched(super().read, *args, **kwargs)

    def read1(self, *args: Any, **kwargs: Any) -> bytes:
        return self._watched(super().read1, *args, **kwargs)

    def read_chunked(self, *args: Any, **kwargs: Any) -> Any:
        chunks = super().read_chunked(*args, **kwargs)
        while True:
            try:
                chunk = self._watched(next, chunks)
            except StopIteration:
                return
            yield chunk

    def release_conn(self) -> None:
        super().release_conn()
        if self.depth == 0:
            self.span.end()

    def close(self) -> None:
        super().close()
        if self.depth == 0:
            self.span.end()

    def _watched(self, read: Any, *args: Any, **kwargs: Any) -> Any:
        self.depth += 1
        try:
            chunk = read(*args, **kwargs)
        except StopIteration:
            self.span.end()
            raise
        except BaseException as error:
            if self.span.error is None and not self.span.ended:
                self.span.error = describe_call_error(error)
                self.span.status = 0 if self.is_awaited else self.span.status
            self.span.end()
            raise
        finally:
            self.depth -= 1
        if self.depth == 0 and self._is_read():
            self.span.end()
        return chunk

    def _is_read(self) -> bool:
        return self.closed or self.length_remaining == 0


@lru_cache(maxsize=32)
def _recorded(kind: type[HTTPResponse]) -> type[HTTPResponse]:
    """Return the recorded kind of a class of bodies."""
    if kind is HTTPResponse:
        return _RecordedBody
    return type(kind.__name__, (_RecordedBody, kind), {})
