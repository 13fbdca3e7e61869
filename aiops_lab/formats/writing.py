"""How do others read our spans? Files in the formats of other tools, complete or not there."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.checks import FieldError
from aiops_lab.formats import jaeger, otlp_json, zipkin
from aiops_lab.formats.conventions import ReportedSpan, attributes_of
from aiops_lab.formats.fields import SPAN_DIGITS, TRACE_DIGITS
from aiops_lab.formats.recognize import FORMATS
from aiops_lab.formats.sources import local_path
from aiops_lab.spans import Span, check

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "otlp",
    ".binpb": "otlp-protobuf",
    ".pb": "otlp-protobuf",
}
"""Formats by the ending of a file's name; what ends in .json may be several."""

# Spans of a line of OTLP, as the collector's batch processor has by default.
SPANS_A_LINE = 8192

Chunks = Iterator[bytes]


def write_spans(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002
) -> None:
    """Write a spans frame to a file that other tools read, and `read_spans` reads back.

    The file is complete or is not there: it is written beside its place, and then moved.

    Parameters
    ----------
    frame : DataFrame
        A spans frame.
    path : path
        Compressed by gzip if the name ends in .gz; the same spans give the same bytes.
    format : str, optional
        One of csv, parquet, otlp (JSON lines), otlp-protobuf, jaeger, zipkin. By default told by
        the ending of the name: .csv, .parquet, .jsonl (otlp), .binpb or .pb (otlp-protobuf).

    Raises
    ------
    ValueError
        The format is not known, `frame` is no spans frame, or an id does not fit the format.
    ImportError
        Names the extra that the format needs.
    """
    target = local_path(path)
    form = format_of(target, format)
    if not target.parent.is_dir():
        raise FieldError("path", "must be in a folder that exists", str(path))
    check(frame)
    if form not in ("csv", "parquet"):
        _check_ids(frame)
    with replacing(target) as part:
        if form == "parquet":
            _write_parquet(frame, target, part)
        else:
            _write_chunks(chunks_of(frame, form), part, target.suffix == ".gz")


def format_of(path: Path, form: str | None) -> str:
    """Return the format of a file to be written: `form`, or what the ending of its name tells.

    Raises ValueError where it is not known.
    """
    if form is None:
        unpacked = path.with_suffix("") if path.suffix == ".gz" else path
        ending = unpacked.suffix
        form = ENDINGS.get(ending)
        if form is None:
            rule = (
                f"must be given as one of {', '.join(FORMATS)} for a file that ends in {ending!r}"
            )
            raise FieldError("format", rule, None)
    if form not in FORMATS:
        raise FieldError("format", f"must be one of {', '.join(FORMATS)}", form)
    return form


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` when the block has succeeded.

    So the file at `path` is always complete. An OSError names `path`, whichever of them it is of.
    """
    part = Path(f"{path}.{os.getpid()}.part")  # one for each process
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.filename != os.fspath(part):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        part.unlink(missing_ok=True)


def _write_chunks(chunks: Iterable[bytes], path: Path, packed: bool) -> None:
    with path.open("wb") as raw:
        # mtime=0 and no name: the same spans give the same bytes
        file: Any = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if packed else raw
        with file:
            file.writelines(chunks)


def _write_parquet(frame: pd.DataFrame, target: Path, part: Path) -> None:
    from aiops_lab.formats.tables import write_parquet

    if target.suffix == ".gz":
        raise FieldError("path", "must not end in .gz: Parquet is compressed inside", str(target))
    write_parquet(frame, part)


def chunks_of(frame: pd.DataFrame, form: str) -> Chunks:
    """Return a spans frame in a format, in pieces."""
    if form == "csv":
        from aiops_lab.formats.tables import csv_bytes

        yield csv_bytes(frame)
        return
    yield from _WRITERS[form](map(attributes_of, frame_spans(frame)))


def _otlp(spans: Iterator[ReportedSpan]) -> Chunks:
    while some := [*islice(spans, SPANS_A_LINE)]:
        for document in otlp_json.documents(some):
            yield _json(document) + b"\n"


def _otlp_protobuf(spans: Iterator[ReportedSpan]) -> Chunks:
    from aiops_lab.formats.otlp_protobuf import messages

    while some := [*islice(spans, SPANS_A_LINE)]:
        yield from messages(some)


def _jaeger(spans: Iterator[ReportedSpan]) -> Chunks:
    yield from _array(jaeger.traces(spans), b'{"data": [', b"]}\n")


def _zipkin(spans: Iterator[ReportedSpan]) -> Chunks:
    yield from _array(map(zipkin.written, spans), b"[", b"]\n")


def _array(values: Iterable[Any], begin: bytes, end: bytes) -> Chunks:
    yield begin
    for at, value in enumerate(values):
        yield (b",\n" if at else b"\n") + _json(value)
    yield b"\n" + end


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_WRITERS: dict[str, Callable[[Iterator[ReportedSpan]], Chunks]] = {
    "otlp": _otlp,
    "otlp-protobuf": _otlp_protobuf,
    "jaeger": _jaeger,
    "zipkin": _zipkin,
}


# ---- the spans of a frame


def frame_spans(frame: pd.DataFrame) -> Iterator[Span]:
    """Yield the rows of a spans frame as spans, their times in whole nanoseconds."""
    size = len(frame)
    columns = [_column(frame, field, size) for field in Span._fields]
    yield from map(Span, *columns)


def _column(frame: pd.DataFrame, field: str, size: int) -> list[Any]:
    if field == "start_ns":
        return frame["start"].dt.as_unit("ns").astype("int64").tolist()
    name = field.replace("_ns", "_ms")
    if name not in frame.columns:
        return [None] * size
    column = frame[name]
    values = column.astype(object).where(column.notna(), None).tolist()
    if name != field:
        return [None if value is None else round(value * 1e6) for value in values]
    if field == "status":
        return [None if value is None else int(value) for value in values]
    if field == "links":
        return [None if value is None else (*value.split(),) for value in values]
    return values


_DIGITS = {"trace_id": TRACE_DIGITS, "span_id": SPAN_DIGITS, "parent_id": SPAN_DIGITS}


def _check_ids(frame: pd.DataFrame) -> None:
    """Raise ValueError unless the ids are what other tools take."""
    for name, digits in _DIGITS.items():
        ids = frame[name].astype("str")
        is_right = ids.str.fullmatch(f"[0-9a-f]{{{digits}}}")
        wrong = frame[name].notna() & ~is_right
        if wrong.any():
            rule = f"must be {digits} hexadecimal digits, in lower case"
            at = int(wrong.to_numpy().argmax())
            row = frame.index[at]
            raise ValueError(f"column {name!r} {rule}, got {ids.iloc[at]!r} in row {row}")
