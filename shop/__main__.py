"""python -m shop: serve | demo | check | record | scenarios | leaderboard | calibrate."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from aiops_lab.logs import log_to_stderr
from shop.live.stopping import Stop

if TYPE_CHECKING:
    import argparse

AS_TYPED = {"file": "FILE", "path": "--db", "target": "--url", "fault_s": "--seconds"} | {
    name: "--" + name.removesuffix("_ms").removesuffix("_s")
    for name in (
        *("interval_s", "window_s", "warmup_s", "recovery_s", "duration_ms"),
        *("port", "traffic", "url", "rate", "endpoint", "share", "out"),
        *("seeds", "first-seed", "scenario", "rule", "jobs"),
    )
}

"""What an error calls a parameter, and what the user typed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 the answer is no, 2 it could not run, 130
    interrupted.
    """
    with Stop() as stop:
        return run(argv, stop)


def run(argv: Sequence[str] | None, stop: Stop) -> int:
    """Do what `main` does; `stop` is listening already."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # a console that knows no emoji shows ? instead of failing
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(argv)
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING, "shop")
    try:
        return options.run(options, stop)
    except (ValueError, OSError, ImportError) as error:
        print(f"shop {options.command}: {_as_typed(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    finally:
        stop.interrupt(False)


def _as_typed(message: str) -> str:
    name, _, rest = message.partition(" ")
    return f"{AS_TYPED.get(name, name)} {rest}".rstrip()


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        "python -m shop",
        description=(
            "A small web shop to break on purpose, and the machine that notices, groups "
            "and explains it."
        ),
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_serve,
        _add_demo,
        _add_check,
        _add_record,
        _add_scenarios,
        _add_leaderboard,
        _add_calibrate,
    ):
        add(commands, argparse.ArgumentDefaultsHelpFormatter)
    for command in commands.choices.values():
        command.add_argument("--verbose", action="store_true", help="print what happens inside")
    return parser


def _add_serve(commands: argparse._SubParsersAction, help: Any) -> None:
    parser = commands.add_parser(
        "serve",
        formatter_class=help,
        help="run the shop on a port until Ctrl-C",
        description="Run the shop on a port, watched by a background worker, until Ctrl-C or "
        "SIGTERM. "
        "Break it with curl (POST /simulate/delay, error, hang), then look at /aiops/incidents.",
    )
    parser.add_argument(
        "--port", type=int, default=5000, help="port of the front; 0 = any free one"
    )
    parser.add_argument(
        "--services", choices=("one", "many"), default="one", help="one port, or one each"
    )
    parser.add_argument(
        "--db", default="aiops-lab.sqlite", help="file of spans, incidents and baselines"
    )
    parser.add_argument("--interval", type=float, default=30.0, help="seconds between two analyses")
    parser.add_argument(
        "--window", type=float, default=10.0, help="seconds of a window of the analysis"
    )
    parser.add_argument(
        "--traffic", type=float, default=0.0, metavar="RATE", help="normal customers, requests/s"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of service times, faults and customers"
    )
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace, stop: Stop) -> int:
    from shop.live.serve import serve

    return serve(
        options.port,
        options.services,
        options.db,
        interval_s=options.interval,
        window_s=options.window,
        traffic=options.traffic,
        seed=options.seed,
        stop=stop,
    )


def _add_demo(commands: argparse._SubParsersAction, help: Any) -> None:
    parser = commands.add_parser(
        "demo",
        formatter_class=help,
        help="see the whole chain at work in less than a minute",
        description="Start the shop, warm up, break /payment, watch an incident open, and see "
        "its root cause "
        "named with its evidence. Draws timeline.png and ledger.png.",
    )
    parser.add_argument(
        "--fault", choices=("error", "delay", "hang"), default="error", help="how /payment breaks"
    )
    parser.add_argument(
        "--services", choices=("one", "many"), default="one", help="one port, or one each"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of service times, faults and customers"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="requests/s")
    parser.add_argument("--out", default="demo", help="folder of the two pictures")
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace, stop: Stop) -> int:
    from shop.live.demo import demo

    stop.interrupt()
    return demo(options.fault, options.services, options.seed, options.rate, options.out)


def _add_check(commands: argparse._SubParsersAction, help: Any) -> None:
    parser = commands.add_parser(
        "check",
        formatter_class=help,
        help="run the scenarios against a server, over HTTP alone",
        description="Run the latency, error, cascade and hang scenarios over HTTP alone, and "
        "print what passed. "
        "Exit code 1 if anything did not.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="short windows: about 20 s instead of 2 minutes"
    )
    parser.add_argument(
        "--url", help="a shop that is served elsewhere; otherwise it starts its own"
    )
    parser.add_argument("--rate", type=float, default=20.0, help="requests/s")
    parser.add_argument(
        "--seed", type=int, default=0, help="of service times, faults and customers"
    )
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace, stop: Stop) -> int:
    from shop.live.check import run_checks

    stop.interrupt()
    return run_checks(options.url, options.quick, options.rate, options.seed)


def _add_record(commands: argparse._SubParsersAction, help: Any) -> None:
    import argparse

    class Live(argparse.Action):
        """An option of a live run: it is noted that it was given."""

        def __call__(self, parser: Any, options: Any, value: Any, typed: Any = None) -> None:
            setattr(options, self.dest, value)
            options.live += ((self.option_strings[0], value),)

    parser = commands.add_parser(
        "record",
        formatter_class=help,
        help="run a scenario; write its spans and the truth",
        description="Run normal traffic, break an endpoint, mend it; or, with --scenario, do "
        "what it says in virtual "
        "time, within seconds and always the same. FILE (.csv or .csv.gz) gets one row a span, "
        "FILE.truth.json what "
        "was broken and when.",
    )
    parser.add_argument("file", metavar="FILE", help="where the spans go: .csv or .csv.gz")
    parser.add_argument(
        "--scenario",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help=(
            "run this one in virtual time: a name that `scenarios` lists, or a .toml file of "
            "your own"
        ),
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of service times, faults and customers"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    live = parser.add_argument_group("a live run, without --scenario")
    add = partial(live.add_argument, action=Live)
    add("--fault", choices=("none", "error", "delay", "hang"), default="error", help="what breaks")
    add("--endpoint", default="/payment", help="which endpoint breaks")
    add("--duration", type=float, default=1000.0, metavar="MS", help="of a delay, +- a fifth of it")
    add("--share", type=float, default=1.0, help="share of its requests that break, 0 to 1")
    add("--warmup", type=float, default=60.0, help="seconds before the fault")
    add("--seconds", type=float, default=30.0, help="seconds of the fault")
    add("--recovery", type=float, default=0.0, help="seconds after it was mended")
    add("--rate", type=float, default=20.0, help="requests/s")
    add("--services", choices=("one", "many"), default="one", help="one port, or one each")
    parser.set_defaults(run=_record, live=())


def _record(options: argparse.Namespace, stop: Stop) -> int:
    recorded = _recorded_virtually if "scenario" in options else _recorded_live
    spans = recorded(options, stop)
    print(f"{len(spans)} spans in {options.file}, the truth in {options.file}.truth.json")
    return 0


def _recorded_live(options: argparse.Namespace, stop: Stop) -> Any:
    from shop.live.record import record
    from shop.recordings import fault_of

    stop.interrupt()
    return record(
        options.file,
        fault_of(
            options.fault, options.services, options.endpoint, options.duration, options.share
        ),
        warmup_s=options.warmup,
        fault_s=options.seconds,
        recovery_s=options.recovery,
        rate=options.rate,
        seed=options.seed,
        services=options.services,
        progress=not options.quiet,
    )


def _recorded_virtually(options: argparse.Namespace, stop: Stop) -> Any:
    from aiops_lab.checks import FieldError
    from shop.virtual_time.record import record_scenario
    from shop.virtual_time.scenario_file import find_scenario

    stop.interrupt()
    for name, value in options.live:
        raise FieldError(
            name, "must not be given with --scenario, which says itself what happens", value
        )
    progress = False if options.quiet else None
    return record_scenario(options.file, find_scenario(options.scenario), options.seed, progress)


def _add_scenarios(commands: argparse._SubParsersAction, help: Any) -> None:
    parser = commands.add_parser(
        "scenarios",
        formatter_class=help,
        help="list the scenarios of the virtual shop",
        description="List the scenarios of the virtual shop: name, true causes, which naive rule "
        "it defeats, and why. "
        "`record FILE --scenario NAME` runs one.",
    )
    parser.set_defaults(run=_scenarios)


def _scenarios(options: argparse.Namespace, stop: Stop) -> int:
    from shop.catalogue import listing

    stop.interrupt()
    print(listing())
    return 0


def _add_leaderboard(commands: argparse._SubParsersAction, help: Any) -> None:
    from argparse import BooleanOptionalAction

    parser = commands.add_parser(
        "leaderboard",
        formatter_class=help,
        help="compare the root-cause rules, yours too, over the catalogue",
        description="Run every scenario of the virtual shop, and faults from too small to see to "
        "too large to miss; "
        "ask every rule, and the whole pipeline. Prints tables; writes runs.csv, leaderboard.md "
        "and pictures. With the "
        "defaults about 2 minutes on 2 processors; the figures in the README come from --seeds 30 "
        "--first-seed 20000.",
    )
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="runs of each scenario")
    parser.add_argument(
        "--first-seed", type=int, default=1000, metavar="N", help="seeds from here on, below 50000"
    )
    parser.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one, or a .toml file of your own, and no sizes; may be repeated",
    )
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="FILE.py:FUNCTION",
        help=(
            "one more rule, f(reference, abnormal) -> list of Suspect; also module:function; "
            "may be repeated"
        ),
    )
    parser.add_argument(
        "--pipeline", action=BooleanOptionalAction, default=True, help="run the whole pipeline, too"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes; None: as many as there are processors"
    )
    parser.add_argument("--out", default="leaderboard", help="folder of the tables and pictures")
    parser.set_defaults(run=_leaderboard)


def _leaderboard(options: argparse.Namespace, stop: Stop) -> int:
    from shop.experiments.report import report_leaderboard

    stop.interrupt()
    return report_leaderboard(
        options.seeds,
        options.first_seed,
        options.scenario,
        options.rule,
        pipeline=options.pipeline,
        jobs=options.jobs,
        out=options.out,
    )


def _add_calibrate(commands: argparse._SubParsersAction, help: Any) -> None:
    parser = commands.add_parser(
        "calibrate",
        formatter_class=help,
        help="learn anew how sure the ledger may be",
        description="Run faults of all sizes whose true cause is known, learn from two thirds of "
        "them how often the "
        "ledger's first suspect is right, check it on the others, and write the curve that "
        "verdicts use.",
    )
    parser.add_argument(
        "--seeds", type=int, default=15, metavar="N", help="runs of each scenario; at least 3"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="processes; None: as many as there are processors"
    )
    parser.add_argument(
        "--out", default=None, metavar="FILE", help="None: the package's own confidence.json"
    )
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace, stop: Stop) -> int:
    from shop.experiments.calibrate import calibrate

    stop.interrupt()
    checked = calibrate(options.seeds, options.out, options.jobs, sys.stderr.isatty())
    print(
        f"on {checked.n} answers of other seeds: error {checked.ece:.3f}, of a perfect model "
        f"{checked.ece_perfect:.3f}"
    )
    return 0


if __name__ == "__main__":
    listening = Stop().listen()
    code = run(None, listening)
    listening.ignore()
    sys.exit(code)
