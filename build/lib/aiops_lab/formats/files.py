"""Whose traces are these? Files of spans as other tools write them, read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aiops_lab.checks import FieldError, check_number, shorten
from aiops_lab.formats.collect import SpanCollector
from aiops_lab.formats.conventions import ReportedSpan
from aiops_lab.formats.jaeger import jaeger_spans
from aiops_lab.formats.json_items import JsonItems
from aiops_lab.formats.otlp_json import otlp_spans
from aiops_lab.formats.recognize import recognized, recognized_json
from aiops_lab.formats.sources import MAX_BYTES, MAX_RATIO, Limits, Readable, Source, opened
from aiops_lab.formats.zipkin import zipkin_spans
from aiops_lab.spans import check

if TYPE_CHECKING:
    import pandas as pd

ROWS = 100_000  # spans of a batch: some 100 MB as Python objects

_READERS: dict[str, Callable[[Any], Iterable[ReportedSpan]]] = {
    "otlp": otlp_spans,
    "jaeger": jaeger_spans,
    "zipkin": zipkin_spans,
}

Frames = Iterator["pd.DataFrame"]


def read_spans(
    path: Readable, *, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO
) -> pd.DataFrame:
    """Return the spans frame of a file, as whatever tool wrote it.

    Which format it is in, and whether it is compressed by gzip, is told by its content: the
    package's own CSV, Parquet, OTLP as JSON (a document, or lines) or protobuf, the JSON of
    Jaeger's UI, or that of Zipkin. Attributes are read by OpenTelemetry's semantic conventions.

    Parameters
    ----------
    path : path, or binary stream
        A local file.
    max_bytes : int
        The most bytes that it may hold, decompressed. Default 2 GiB: the frame takes about as much
        memory. `read_batches` reads larger files.
    max_ratio : float
        How many times larger the content of a gzip file may be than the file. Default 200: ids are
        random, so that files of traces cannot be packed to a hundredth of their size.

    Returns
    -------
    DataFrame
        The spans; ``attrs["left_out"]`` has the number of spans that could not be used, by reason.
        The logger ``aiops_lab`` tells them as well.

    Raises
    ------
    ValueError
        It is a URL or a folder, is in no known format, is damaged or cut off, is too large, or has
        no span that can be used. Names the file, the line or byte, and the field.
    ImportError
        Names the extra that the format needs.
    """
    limits = _limits(max_bytes, max_ratio)
    with opened(path, limits) as source:
        form = recognized(source)
        if form in ("csv", "parquet"):
            return _whole_table(source, form, limits)
        collector = SpanCollector()
        for reported in _reported_spans(source, form):
            collector.add(reported)
    collector.tell(source.name)
    return _marked(collector, source.name)


def read_batches(
    path: Readable,
    size: int = ROWS,
    *,
    max_bytes: int = 1024 * MAX_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Frames:
    """Yield the spans of a file in frames of some `size` spans, in bounded memory.

    Each frame is one that `read_spans` could return, in the order of the file: a trace may be cut
    between two of them, and a call whose answer is in another one keeps its address as peer.

    This is a function of its own, because a caller of `read_spans` need not ask what came back.

    Parameters
    ----------
    path, max_ratio
        As in `read_spans`.
    size : int
        Spans of a frame; default 100,000, some 100 MB.
    max_bytes : int
        The most bytes after decompression; default 2 TiB, since only one batch is in memory.
    """
    check_number("size", size, 1, 1e9, whole=True)
    limits = _limits(max_bytes, max_ratio)
    with opened(path, limits) as source:
        form = recognized(source)
        if form in ("csv", "parquet"):
            yield from _tables(source, form, size, limits)
            return
        collector = SpanCollector()
        for reported in _reported_spans(source, form):
            collector.add(reported)
            if len(collector) >= size:
                yield _marked(collector, source.name)
        if len(collector):
            yield _marked(collector, source.name)
    collector.tell(source.name)


def _limits(max_bytes: int, max_ratio: float) -> Limits:
    check_number("max_bytes", max_bytes, 1, 1 << 60, whole=True)
    check_number("max_ratio", max_ratio, 1, 1e6)
    return Limits(max_bytes, max_ratio)


def _marked(collector: SpanCollector, name: str) -> pd.DataFrame:
    try:
        frame = check(collector.take())
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    frame.attrs["left_out"] = dict(collector.left_out)
    return frame


def _whole_table(source: Source, form: str, limits: Limits) -> pd.DataFrame:
    from aiops_lab.formats.tables import joined

    frame = joined([*_tables(source, form, ROWS, limits)])
    frame.attrs["left_out"] = {}
    return frame


def _tables(source: Source, form: str, size: int, limits: Limits) -> Frames:
    from aiops_lab.formats.tables import csv_frames, parquet_frames

    if form == "csv":
        return csv_frames(source, size)
    return parquet_frames(source, size, limits)


def _reported_spans(source: Source, form: str) -> Iterator[ReportedSpan]:
    """Yield the spans of an open file of JSON or protobuf; errors name the place."""
    if form == "otlp-protobuf":
        from aiops_lab.formats.otlp_protobuf import protobuf_spans

        yield from protobuf_spans(source)
        return
    items = JsonItems(source)
    form, values = recognized_json(source.name, items)
    read = _READERS[form]
    for path, value in values:
        try:
            yield from read(value)
        except FieldError as error:
            where = f"{source.name}, line {items.line}:"
            field = f"{path}.{error.field}".lstrip(".").replace(".[", "[")
            raise ValueError(f"{where} {field} {error.rule}, got {shorten(error.value)}") from None
