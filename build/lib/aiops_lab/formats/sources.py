"""How is a file of somebody else opened? Bounded: gzip told by content, bombs and URLs refused."""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from aiops_lab.checks import FieldError

GIB = 1 << 30

CHUNK = 1 << 20  # bytes read at once

PROGRESS_FROM = 50_000_000  # bytes of a file: some seconds of reading, and somebody waits

# A file of traces holds 16 random digits a span, and about a kilobyte of text: it cannot shrink to
# less than a hundredth. Statements repeated in every span may double that. gzip itself reaches
# 1,000, with nothing but zeros. The first 16 MB do no harm, whatever their ratio.
MAX_RATIO = 200
UNJUDGED = 16 << 20

# A frame takes about as much memory as its JSON.
MAX_BYTES = 2 * GIB


class Limits(NamedTuple):
    """What a file may hold: bytes after decompression, and how many times those of the file."""

    max_bytes: int = MAX_BYTES
    max_ratio: float = MAX_RATIO


_FOREIGN = {
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: decompress it first (unzstd)",
    b"BZh": "is compressed with bzip2: decompress it first (bunzip2)",
    b"\xfd7zXZ": "is compressed with xz: decompress it first (unxz)",
    b"PK\x03\x04": "is a ZIP archive: unpack it first",
    b"SQLite format 3": "is a database: SpanStore(path).spans() reads a store",
    b"\xff\xfe": "must be UTF-8, got UTF-16",
    b"\xfe\xff": "must be UTF-8, got UTF-16",
}

_GZIP = b"\x1f\x8b"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

Readable = str | os.PathLike[str] | BinaryIO


class Source(NamedTuple):
    """A file that is open: its name for messages, its bytes after decompression."""

    name: str
    stream: io.BufferedReader
    path: Path | None  # of a file that is not compressed


@contextmanager
def opened(readable: Readable, limits: Limits) -> Iterator[Source]:
    """Yield the content of a file or stream, decompressed, within the limits.

    Raises
    ------
    ValueError
        It is a URL or a folder, is compressed by something else than gzip, or is larger than the
        limits say, which is found out while it is read.
    """
    with _raw(readable) as (name, raw):
        head = raw.peek(16)[:16]
        for magic, rule in _FOREIGN.items():
            if head.startswith(magic):
                raise ValueError(f"{name} {rule}")
        is_gzip = head.startswith(_GZIP)
        path = None if is_gzip or _is_stream(readable) else Path(readable)  # type: ignore[arg-type]
        with closing(_Bounded(name, raw, limits, is_gzip)) as bounded:
            yield Source(name, io.BufferedReader(bounded, CHUNK), path)


def _is_stream(readable: Readable) -> bool:
    return hasattr(readable, "read")


@contextmanager
def _raw(readable: Any) -> Iterator[tuple[str, Any]]:
    if _is_stream(readable):
        name = str(getattr(readable, "name", "the stream"))
        yield name, io.BufferedReader(_Reading(readable))
        return
    path = local_path(readable)
    if path.is_dir():
        raise FieldError("path", "must be a file, not a folder", str(readable))
    with path.open("rb", buffering=CHUNK) as raw:
        yield path.name, raw


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a path; a URL, and what is no path, raises ValueError."""
    if not isinstance(path, (str, os.PathLike)):
        raise FieldError("path", "must be a path, or a stream of bytes", path)
    if _SCHEME.match(str(path)):
        raise FieldError("path", "must be a local file (download a URL first)", str(path))
    return Path(path)


class _Reading(io.RawIOBase):
    """Anything with ``read`` as a raw stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        if not isinstance(data, bytes):
            raise FieldError("path", "must be a stream of bytes, opened with 'rb'", data)
        buffer[: len(data)] = data
        return len(data)


class _Counted(io.RawIOBase):
    """A raw stream that counts what was read of it, with a progress bar if it is long."""

    def __init__(self, raw: io.BufferedReader, name: str) -> None:
        self._raw = raw
        self.count = 0
        self._bar = _progress_bar(raw, name)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._raw.readinto(buffer)
        self.count += size
        if self._bar is not None:
            self._bar.update(size)
        return size

    def close(self) -> None:
        if self._bar is not None and not self.closed:
            self._bar.close()
        super().close()


def _progress_bar(raw: io.BufferedReader, name: str) -> Any:
    try:
        size = os.fstat(raw.fileno()).st_size
    except OSError:  # not a file
        return None
    if size < PROGRESS_FROM:
        return None
    from aiops_lab.progress import Bar

    return Bar(total=size, desc=name, unit="B", unit_scale=True, leave=False)


class _Bounded(io.RawIOBase):
    """The content of a file, decompressed if it is gzip, up to the limits."""

    def __init__(self, name: str, raw: io.BufferedReader, limits: Limits, is_gzip: bool) -> None:
        self._name = name
        self._limits = limits
        self._counted = _Counted(raw, name)
        buffered = io.BufferedReader(self._counted, CHUNK)
        self._content: Any = gzip.GzipFile(fileobj=buffered) if is_gzip else buffered
        self._is_gzip = is_gzip
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            size = self._content.readinto(buffer)
        except EOFError:
            raise ValueError(f"{self._name} is cut off: its gzip stream has no end") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self._name} is damaged: {error}") from None
        self._count += size
        self._check()
        return size

    def _check(self) -> None:
        max_bytes, max_ratio = self._limits
        if self._count > max_bytes:
            rule = f"must be at most max_bytes={max_bytes:,} bytes after decompression"
            raise ValueError(f"{self._name} {rule}, got more")
        if not self._is_gzip or self._count <= UNJUDGED:
            return
        ratio = self._count / self._counted.count
        if ratio > max_ratio:
            rule = (
                f"must not be more than max_ratio={max_ratio:g} times as large unpacked as packed"
            )
            raise ValueError(f"{self._name} {rule}, got {ratio:.0f}")

    def close(self) -> None:
        self._counted.close()
        super().close()
