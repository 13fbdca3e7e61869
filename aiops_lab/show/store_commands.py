"""The commands that look after a store: ``python -m aiops_lab store export|prune|info``."""

from __future__ import annotations

import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from aiops_lab.checks import FieldError, is_same_file

EXPORT_FORMATS = ("csv", "parquet", "otlp", "otlp-protobuf", "jaeger", "zipkin")

_AGES_S = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_AGE = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(_AGES_S)})")

STORE_EXAMPLES = """\
examples:
  python -m aiops_lab store info my.sqlite
  python -m aiops_lab store export my.sqlite week.parquet
  python -m aiops_lab store prune my.sqlite --older-than 7d"""


def add_store(command: ArgumentParser, verbose: Callable[[ArgumentParser], None]) -> None:
    """Add the options of the three commands; ``verbose`` adds those of every command."""
    tasks = command.add_subparsers(dest="task", required=True, metavar="TASK")
    export = tasks.add_parser("export", help="write the spans of a store to a file")
    prune = tasks.add_parser("prune", help="delete spans by age or service")
    info = tasks.add_parser("info", help="tell sizes, counts and times")
    for each in (export, prune, info):
        each.add_argument("store", metavar="STORE", help="the file of the store")
        verbose(each)
    export.add_argument("file", metavar="FILE", help="where to; its ending tells the format")
    export.add_argument("--format", choices=EXPORT_FORMATS, help="default: told by the ending")
    prune.add_argument(
        "--older-than", metavar="AGE", help="spans of this age and more: 90s, 30min, 12h, 7d"
    )
    for each in (export, prune):
        each.add_argument("--service", metavar="NAME", help="spans of this service alone")


def run_store(options: Namespace) -> int:
    """Do one of the three tasks; return the exit code."""
    _TASKS[options.task](options)
    return 0


def _export(options: Namespace) -> None:
    from aiops_lab.formats.writing import write_spans
    from aiops_lab.record.reader import SpanReader

    if is_same_file(options.store, options.file):
        raise FieldError("FILE", "must be another file than the store", options.file)
    with SpanReader(options.store) as reader:
        spans = reader.spans()
    service = options.service
    if service is not None:
        known = sorted(spans["service"].unique())
        if service not in known:
            raise FieldError("service", f"must be one of {', '.join(known)}", service)
        spans = spans[spans["service"] == service]
        spans = spans.reset_index(drop=True)
    write_spans(spans, options.file, options.format)
    print(f"{len(spans):,} spans written: {options.file}")


def _prune(options: Namespace) -> None:
    from aiops_lab.record.upkeep import prune_store

    if options.older_than is None and options.service is None:
        raise ValueError("prune must be told --older-than AGE or --service NAME, or both")
    before_ns = None
    if options.older_than is not None:
        age_ns = int(age_s(options.older_than) * 1e9)
        before_ns = time.time_ns() - age_ns
    pruned = prune_store(options.store, before_ns=before_ns, service=options.service)
    print(f"{pruned.spans:,} spans deleted, {_bytes(pruned.freed_bytes)} freed.")
    if pruned.is_in_use:
        print("The store is in use: its file keeps its size, and what is free in it is used again.")


def _info(options: Namespace) -> None:
    from aiops_lab.record.upkeep import store_info

    info = store_info(options.store)
    print(f"{options.store}: {_bytes(info.size_bytes)}, version {info.version}")
    print(f"{info.spans:,} spans, {info.open_spans:,} open, {info.stacks:,} stack traces")
    print(f"{info.incidents:,} incidents")
    if info.first_ns is not None:
        print(f"from {_time(info.first_ns)} to {_time(info.last_ns)}")
    for each in info.services:
        times = f"{_time(each.first_ns)} to {_time(each.last_ns)}"
        print(f"  {each.service}: {each.spans:,} spans, {times}")


_TASKS: dict[str, Callable[[Namespace], None]] = {
    "export": _export,
    "prune": _prune,
    "info": _info,
}


def age_s(text: str) -> float:
    """Return an age in seconds; raise ValueError where it is none.

    >>> age_s("1.5h")
    5400.0
    """
    found = _AGE.fullmatch(text)
    if found is None:
        units = ", ".join(_AGES_S)
        raise FieldError("older-than", f"must be a number with one of {units}, such as 7d", text)
    return float(found[1]) * _AGES_S[found[2]]


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _time(moment_ns: Any) -> str:
    from aiops_lab.numerics import to_timestamp
    from aiops_lab.results import iso

    return str(iso(to_timestamp(moment_ns)))
