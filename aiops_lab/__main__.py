"""The commands of ``python -m aiops_lab``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiops_lab.checks import FieldError, is_same_file, os_error_text
from aiops_lab.endpoints import printable
from aiops_lab.known_names import UnknownNameWarning
from aiops_lab.logs import get_logger, log_to_stderr
from aiops_lab.show.options import add_access, add_response
from aiops_lab.show.stopping import Stop

if TYPE_CHECKING:
    import pandas as pd

    from aiops_lab.explain.changes import Change
    from aiops_lab.show.findings import Findings

VERSION_TEXT: str = vars(sys.modules["aiops_lab"])["__version__"]

SCRIPT = "aiops-lab"  # the name of the command that an installation has

ANSWER_FORMATS = ("text", "json", "html")

TYPED_NAMES = {
    "port": "--port",
    "interval_s": "--interval",
    "window_s": "--window",
    "host": "--host",
    "private": "--private",
    "public_url": "--public-url",
    "token": "--token",
    "path": "STORE",
    "notify": "--notify",
    "remedy": "--remedy",
    "remedies": "--remedy",
}
"""The option, as the user typed it, of each parameter that an error may name."""

STORE_NAMES = {
    "path": "STORE",
    "service": "--service",
    "older-than": "--older-than",
    "format": "--format",
}
EXPLAIN_NAMES = {"path": "FILE", "window_s": "--window"}
_NAMES = {"watch": TYPED_NAMES, "store": STORE_NAMES, "explain": EXPLAIN_NAMES}

WATCH = """\
Watch the store that instrument() fills: detect incidents, name their causes, and show both on a
page of 127.0.0.1, until Ctrl-C. Any number of processes may write to STORE meanwhile. A line is
printed when an incident opens, changes or is resolved, with the address of its page."""

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
  python -m aiops_lab explain traces.json.gz --changes deployments.csv
  python -m aiops_lab explain 'spans/*.parquet' --scheduler tcp://host:8786

deployments.csv:
  time,service,what
  2026-11-23T16:48:15Z,shop,deployment 2.4

Exit codes: 0 a cause was found; 1 none was found; 2 an option or a file is wrong; 130 Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a console may lack a character
    with Stop() as stop:
        return _run(_parser().parse_args(arguments), stop)


def _run(options: argparse.Namespace, stop: Stop) -> int:
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING)
    try:
        code = _COMMANDS[options.command](options, stop)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        message = os_error_text(error) if isinstance(error, OSError) else str(error)
        told = printable(_as_typed(message, options.command), 1000)
        print(f"aiops_lab {options.command}: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    finally:
        stop.interrupt(False)


def _as_typed(message: str, command: str) -> str:
    name, _, rest = message.partition(" ")
    return f"{_NAMES[command].get(name, name)} {rest}".rstrip()


def _parser() -> argparse.ArgumentParser:
    is_script = Path(sys.argv[0]).stem == SCRIPT
    parser = argparse.ArgumentParser(
        SCRIPT if is_script else "python -m aiops_lab",
        description="Find incidents in traces, and their causes.",
    )
    parser.add_argument("--version", action="version", version=f"{SCRIPT} {VERSION_TEXT}")
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
    option(
        "--changes",
        metavar="FILE",
        help="what was deployed or set meanwhile: a CSV with the columns time, service and what;"
        " a verdict tells what came before",
    )
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
    option(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster: FILE is a pattern of Parquet files with whole traces, as"
        " aiops_lab.scale writes them; 'local': the cores of this machine",
    )
    option("--verbose", action="store_true", help="print more log messages")
    _add_watch(commands)
    _add_store(commands)
    return parser


def _add_watch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "watch",
        help="watch the store of running applications, with a page to look at",
        description=WATCH,
        epilog="example:\n  python -m aiops_lab watch my.sqlite",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = command.add_argument
    option("store", metavar="STORE", help="the file of the store; made where there is none")
    option("--port", type=int, default=5050, help="of the page; 0: any free one; default: 5050")
    add_access(option)
    seconds = partial(option, metavar="SECONDS", type=float, default=10.0)
    seconds("--interval", help="between two looks at the traffic; default: 10")
    seconds("--window", help="length of the windows in which traffic is judged; default: 10")
    option(
        "--otlp",
        action="store_true",
        help="take traces of OpenTelemetry, OTLP over HTTP, at /v1/traces of the same port",
    )
    add_response(option)
    option("--verbose", action="store_true", help="print more log messages")


def _add_store(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from aiops_lab.show.store_commands import STORE_EXAMPLES, add_store

    command = commands.add_parser(
        "store",
        help="export, prune or describe a store",
        description="Write the spans of a store to a file, delete old ones, or tell what it holds.",
        epilog=STORE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_store(command, _add_verbose)


def _add_verbose(command: argparse.ArgumentParser) -> None:
    command.add_argument("--verbose", action="store_true", help="print more log messages")


def _store(options: argparse.Namespace, stop: Stop) -> int:
    from aiops_lab.show.store_commands import run_store

    stop.interrupt()
    return run_store(options)


def _watch(options: argparse.Namespace, stop: Stop) -> int:
    from aiops_lab.show.watch import watch

    return watch(
        options.store,
        options.port,
        host=options.host,
        token=options.token,
        private=options.private,
        public_url=options.public_url,
        otlp=options.otlp,
        interval_s=options.interval,
        window_s=options.window,
        notify=options.notify,
        remedies=options.remedy,
        stop=stop,
    )


def _explain(options: argparse.Namespace, stop: Stop) -> int:
    stop.interrupt()
    from aiops_lab.show import report
    from aiops_lab.show.services import service_faults

    _check_out(options)
    findings = _findings(options)
    if options.format == "html":
        stem, *_ = Path(options.file).name.split(".")
        out = options.out or Path(f"{stem}.html")
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


def _check_out(options: argparse.Namespace) -> None:
    """Refuse to write the answer over a file that is read."""
    for name in ("file", "normal", "changes"):
        given = getattr(options, name)
        if options.out is not None and given is not None and is_same_file(given, options.out):
            raise FieldError("--out", "must be another file than those that are read", given)


def _findings(options: argparse.Namespace) -> Findings:
    from aiops_lab.detect.sensitivity import Sensitivity
    from aiops_lab.record.reader import spans_of
    from aiops_lab.show.findings import compare_recordings, find_incidents

    knobs = Sensitivity() if options.window is None else Sensitivity(window_s=options.window)
    if options.scheduler is not None:
        from aiops_lab.show.many_files import find_incidents_in_files

        for name in ("normal", "changes"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} must be left out where --scheduler is given")
        return find_incidents_in_files(options.file, options.scheduler, knobs)
    if "://" in options.file:
        rule = "must be a local file, or Parquet at an address with --scheduler local"
        raise ValueError(f"FILE {rule}, got {options.file!r}")
    name = Path(options.file).name
    spans = spans_of(options.file)
    if not len(spans):
        raise ValueError(f"{name} must hold spans, got none")
    if options.normal is not None:
        for option in ("window", "changes"):
            if getattr(options, option) is not None:
                raise ValueError(f"--{option} must be left out where --normal is given")
        return compare_recordings(spans, name, spans_of(options.normal))
    changes = [] if options.changes is None else _changes(options.changes, spans)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownNameWarning)  # told by _changes
        return find_incidents(spans, name, knobs, changes)


def _changes(path: str, spans: pd.DataFrame) -> list[Change]:
    """Return what a CSV file says was changed; warn of services that the spans do not have."""
    from aiops_lab.show.changes_file import read_changes, unknown_services

    try:
        changes = read_changes(path)
    except ValueError as error:
        raise ValueError(f"--changes {path}: {error}") from error
    for told in unknown_services(changes, spans):
        get_logger(__name__).warning("--changes %s: %s", path, told)
    return changes


def _write(path: Path, text: str) -> None:
    """Write a whole file, or nothing."""
    from aiops_lab.formats.writing import replacing

    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


_COMMANDS = {"explain": _explain, "watch": _watch, "store": _store}


if __name__ == "__main__":
    sys.exit(main())
