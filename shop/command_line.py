"""The options of `python -m shop` and their help."""

from __future__ import annotations

from argparse import (
    SUPPRESS,
    Action,
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    RawDescriptionHelpFormatter,
    _ActionsContainer,
)
from collections.abc import Callable
from functools import partial
from typing import Any

from aiops_lab.show.options import add_access, add_response
from shop.comparison_options import Option, add_calibrate, add_jobs, add_leaderboard

# written out, so that --help need not import what writes them
FILE_FORMATS = ("csv", "parquet", "otlp", "otlp-protobuf", "jaeger", "zipkin")
FOLDER_FORMATS = ("rcaeval", "openrca")

EXIT_CODES = """\
Exit codes: 0 done; 1 the answer is no: a check failed, or no cause was found;
2 an option breaks its rule, or a file or port cannot be used; 130 Ctrl-C.

`python -m shop COMMAND --help` describes a command, with an example."""


class HelpFormatter(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """Show the defaults that are values; keep the line breaks of descriptions and examples."""

    def _get_help_string(self, action: Action) -> str | None:
        says_nothing = action.default in (None, False, [])
        return action.help if says_nothing else super()._get_help_string(action)


def parser() -> ArgumentParser:
    """Return the parser of all commands; it stores the name of the command as ``command``."""
    made = ArgumentParser(
        "python -m shop",
        formatter_class=HelpFormatter,
        description="A small web shop for experiments: inject faults into it, detect them, group\n"
        "them into incidents and find their root causes.",
        epilog=EXIT_CODES,
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = partial(commands.add_parser, formatter_class=HelpFormatter)
    for add_command in (
        _add_serve,
        _add_demo,
        _add_check,
        _add_record,
        _add_scenarios,
        add_leaderboard,
        add_calibrate,
        _add_grade,
    ):
        command = add_command(add)
        command.add_argument("--verbose", action="store_true", help="print more log messages")
    return made


def _add_serve(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    command = add(
        "serve",
        help="run the shop on a port until Ctrl-C",
        description="Run the shop on a port of 127.0.0.1 until Ctrl-C or SIGTERM. A background\n"
        "worker analyses its spans at regular intervals. Inject a fault with POST\n"
        "/simulate/delay, /simulate/error or /simulate/hang; the incidents are at\n"
        "/aiops/incidents.\n\n"
        "Writes spans, incidents and the injected faults into the SQLite file --db.",
        epilog="example:\n"
        "  python -m shop serve --traffic 20\n"
        "  curl -X POST 'http://localhost:5000/simulate/error?endpoint=/payment&rate=0.5'\n"
        "  curl http://localhost:5000/aiops/incidents",
    )
    option = command.add_argument
    option("--port", type=int, default=5000, help="port of the shop; 0 = any free port")
    _add_services(option)
    option(
        "--db",
        default="aiops-lab.sqlite",
        metavar="FILE",
        help="SQLite file of spans, incidents and faults; continued if it exists",
    )
    option(
        "--interval",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time between two analyses, in seconds",
    )
    option(
        "--window",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="length of an analysis window, in seconds",
    )
    option(
        "--traffic",
        type=float,
        default=0.0,
        metavar="RATE",
        help="normal traffic of the shop's own, in requests/s; 0 = none",
    )
    option(
        "--otlp",
        action="store_true",
        help="take traces of other services, OTLP over HTTP, at /v1/traces of the same port",
    )
    option(
        "--otlp-token",
        metavar="TOKEN",
        help="what senders of traces must give as Authorization: Bearer (default: nothing)",
    )
    add_access(option)
    add_response(option)
    _add_seed(option)
    return command


def _add_demo(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    command = add(
        "demo",
        help="see detection and root-cause analysis at work, in less than a minute",
        description="Start the shop, send normal traffic, inject a fault at /payment, detect the\n"
        "incident, and print its root cause with the evidence.\n\n"
        "Writes incident.png into the folder --out: what rose, when it was noticed, and where\n"
        "it came from.",
        epilog="example:\n  python -m shop demo --fault error --open",
    )
    option = command.add_argument
    option(
        "--fault",
        choices=("delay", "error", "hang"),
        default="delay",
        help="fault at /payment: all requests take about 1 s longer, fail, or never return",
    )
    _add_services(option)
    _add_seed(option)
    _add_rate(option)
    option("--out", default="demo", metavar="FOLDER", help="folder of the picture")
    option("--open", action="store_true", help="show the incident in a browser, until Ctrl-C")
    return command


def _add_check(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    command = add(
        "check",
        help="test a running shop over HTTP",
        description="Inject latency, errors, a cascade and a hang, one after the other, over HTTP\n"
        "alone, and print for each whether the incident, its root cause and the affected\n"
        "endpoints are right. Takes about 2 minutes.\n\n"
        "Writes no file. The exit code is 1 if a check failed.",
        epilog="example:\n"
        "  python -m shop check --quick\n"
        "  python -m shop check --url http://localhost:5000",
    )
    option = command.add_argument
    option(
        "--quick",
        action="store_true",
        help="windows of 2 s instead of 5 s, all checks at once: about 20 s",
    )
    option("--url", help="URL of a running shop (default: shops started for the checks)")
    _add_rate(option)
    _add_seed(option)
    return command


class LiveOption(Action):
    """An option of a live run; the namespace lists in ``live`` those that were given."""

    def __call__(self, parser: Any, options: Any, value: Any, typed: Any = None) -> None:
        setattr(options, self.dest, value)
        options.live += ((self.option_strings[0], value),)


def _add_record(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    command = add(
        "record",
        help="run a scenario and write its spans to a file",
        description="Run the shop with normal traffic, inject a fault and remove it again; or,\n"
        "with --scenario, run a scenario in virtual time, which takes seconds and gives\n"
        "the same spans each time.\n\n"
        "Writes FILE, the spans, and FILE.truth.json, the injected faults and their\n"
        "times; of a scenario in which something is changed on purpose also\n"
        "FILE.changes.csv (in a folder changes.csv).",
        epilog="example:\n"
        "  python -m shop record errors.csv.gz --fault error --share 0.3\n"
        "  python -m shop record retries.csv.gz --scenario 'retry storm'\n"
        "  python -m shop record storm.json.gz --scenario 'retry storm' --format jaeger",
    )
    option = command.add_argument
    option("file", metavar="FILE", help="file of the spans; .gz at its end compresses it")
    option(
        "--format",
        choices=(*FILE_FORMATS, *FOLDER_FORMATS),
        help="format of the spans; default: what the ending of FILE says, such as .csv or .parquet;"
        " rcaeval and openrca, only with --scenario, make FILE a folder",
    )
    option(
        "--scenario",
        metavar="NAME",
        default=SUPPRESS,
        help="run this scenario in virtual time: a name that `scenarios` lists, or a .toml file",
    )
    _add_seed(option)
    option("--quiet", action="store_true", help="no progress bars")
    _add_live_options(command.add_argument_group("options of a live run, without --scenario"))
    command.set_defaults(live=())
    return command


def _add_live_options(group: _ActionsContainer) -> None:
    option = partial(group.add_argument, action=LiveOption)
    seconds = partial(option, type=float, metavar="SECONDS")
    option(
        "--fault",
        choices=("none", "error", "delay", "hang"),
        default="error",
        help="kind of the fault",
    )
    option("--endpoint", default="/payment", metavar="ROUTE", help="endpoint of the fault")
    option(
        "--duration",
        type=float,
        default=1000.0,
        metavar="MS",
        help="length of a delay, in ms, give or take a fifth",
    )
    option(
        "--share",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the requests that the fault affects, 0 to 1",
    )
    seconds("--warmup", default=60.0, help="time before the fault, in seconds")
    seconds("--seconds", default=30.0, help="length of the fault, in seconds")
    seconds("--recovery", default=0.0, help="time after the fault, in seconds")
    _add_rate(option)
    _add_services(option)


def _add_scenarios(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    return add(
        "scenarios",
        help="list the scenarios of the virtual shop",
        description="List the scenarios of the virtual shop: name, true causes, a simple rule\n"
        "that fails there, and the reason. Writes no file.",
        epilog="example:\n"
        "  python -m shop scenarios\n"
        "  python -m shop record calm.csv --scenario calm",
    )


def _add_grade(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    command = add(
        "grade",
        help="mark students' answers to their own incidents",
        description="Mark each .json file of FOLDER, as shop.assignment(seed).submit writes it,\n"
        "against the twin of its incident: 4 points for the cause, 1 for the kind, 2 for\n"
        "the time, 3 for the affected endpoints. The exit code is 1 if an answer could\n"
        "not be marked.\n\n"
        "Writes the table --out, a row a file; its last column says what is wrong.",
        epilog="example:\n  python -m shop grade answers --out marks.csv",
    )
    option = command.add_argument
    option("folder", metavar="FOLDER", help="folder of the answers")
    option("--out", default="marks.csv", metavar="FILE", help="CSV file of the marks")
    option("--secret", default="", metavar="WORD", help="the word of shop.assignment(seed, WORD)")
    add_jobs(option)
    return command


# ---- options of several commands


def _add_services(option: Option) -> None:
    option(
        "--services",
        choices=("one", "many"),
        default="one",
        help="all endpoints in one service on one port, or several services, a port each",
    )


def _add_seed(option: Option) -> None:
    option(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of service times, faults and traffic; equal seeds give equal draws",
    )


def _add_rate(option: Option) -> None:
    option("--rate", type=float, default=20.0, metavar="RATE", help="traffic, in requests/s")
