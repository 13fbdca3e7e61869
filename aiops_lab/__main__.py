"""The commands of ``python -m aiops_lab``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_lab.endpoints import printable
from aiops_lab.logs import log_to_stderr

if TYPE_CHECKING:
    import pandas as pd

    from aiops_lab.show.findings import Findings

ANSWER_FORMATS = ("text", "json", "html")

SQLITE = b"SQLite format 3"  # how the file of a store begins

DESCRIPTION = """\
Read a file of traces, find the incidents in it and name their causes.

FILE is as Jaeger, Zipkin, an OpenTelemetry collector or this package wrote it, gzip or not:
which format it is in is told by its content. A store, which instrument() fills, is read as
well. Without --normal the times of trouble are found
by what is unusual in FILE, so it should begin with some minutes of normal traffic. With
--normal all of FILE is taken as the trouble."""

EXAMPLES = """\
examples:
  python -m aiops_lab explain traces.json.gz
  python -m aiops_lab explain incident.json --normal yesterday.json --format html

Exit codes: 0 a cause was found; 1 none was found; 2 an option or a file is wrong; 130 Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console may lack a character
    options = _parser().parse_args(arguments)
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING)
    try:
        code = _explain(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        print(f"aiops_lab explain: {printable(str(error), 1000)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m aiops_lab", description="Find incidents in traces, and their causes."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "explain",
        help="name the causes of the incidents in a file of traces",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = command.add_argument
    option("file", metavar="FILE", help="a file of traces")
    option("--normal", metavar="FILE", help="a file of normal traffic of the same services")
    option("--format", choices=ANSWER_FORMATS, default="text", help="of the answer; default: text")
    option(
        "--out",
        metavar="FILE",
        type=Path,
        help="where to write it; default: the console, and for html the name of FILE with .html",
    )
    option(
        "--window",
        metavar="SECONDS",
        type=float,
        help="length of the windows in which traffic is judged; default: 10. Longer ones suit"
        " services with few requests",
    )
    option("--verbose", action="store_true", help="print more log messages")
    return parser


def _explain(options: argparse.Namespace) -> int:
    from aiops_lab.show import report
    from aiops_lab.show.services import service_faults

    findings = _findings(options)
    if options.format == "html":
        out = options.out or Path(f"{Path(options.file).name.split('.')[0]}.html")
        _write(out, report.to_html(findings))
        print(report.summary(findings))
        for fault in service_faults(findings.cases):
            print(fault)
        for case in findings.cases:
            print(f"{case.title}. {report.cause_line(case.verdict)}")
        print(f"Written: {out}")
    else:
        told = report.to_text(findings)
        if options.format == "json":
            told = json.dumps(report.to_dict(findings), indent=2, default=str)
        if options.out:
            _write(options.out, told + "\n")
        else:
            print(told)
    return 0 if findings.has_cause else 1


def _findings(options: argparse.Namespace) -> Findings:
    from aiops_lab.detect.sensitivity import Sensitivity
    from aiops_lab.show.findings import compare_recordings, find_incidents

    name = Path(options.file).name
    spans = _spans(options.file)
    if not len(spans):
        raise ValueError(f"{name} must hold spans, got none")
    if options.normal is not None:
        if options.window is not None:
            raise ValueError("--window must be left out where --normal is given")
        return compare_recordings(spans, name, _spans(options.normal))
    knobs = Sensitivity() if options.window is None else Sensitivity(window_s=options.window)
    return find_incidents(spans, name, knobs)


def _spans(path: str) -> pd.DataFrame:
    """Return the spans of a file of traces, or of a store."""
    from aiops_lab.formats.files import read_spans
    from aiops_lab.record.reader import SpanReader

    if not _is_database(path):
        return read_spans(path)
    with SpanReader(path) as reader:
        return reader.spans()


def _is_database(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _write(path: Path, text: str) -> None:
    """Write a whole file, or nothing."""
    from aiops_lab.formats.writing import replacing

    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
