"""The commands of ``python -m shop``; their options are in `shop.command_line`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiops_lab.checks import os_error_text
from aiops_lab.logs import log_to_stderr
from aiops_lab.show.stopping import Stop

if TYPE_CHECKING:
    import argparse

AS_TYPED = (
    {"file": "FILE", "folder": "FOLDER", "path": "--db", "target": "--url", "fault_s": "--seconds"}
    | {
        "otlp_token": "--otlp-token",
        "notify": "--notify",
        "public_url": "--public-url",
        "remedy": "--remedy",
        "remedies": "--remedy",
    }
    | {
        name: "--" + name.removesuffix("_ms").removesuffix("_s")
        for name in (
            *("interval_s", "window_s", "warmup_s", "recovery_s", "duration_ms"),
            *("host", "token", "private"),
            *("port", "traffic", "url", "rate", "endpoint", "share", "out"),
            *("seeds", "first-seed", "scenario", "rule", "detector", "jobs", "format"),
        )
    }
)

"""The option, as the user typed it, of each parameter that an error may name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0: done; 1: a check failed, or no cause was found; 2: it could not run; 130: interrupted.
    """
    with Stop() as stop:
        return run(argv, stop)


def run(argv: Sequence[str] | None, stop: Stop) -> int:
    """Do what `main` does, with a `stop` that listens already."""
    from shop.command_line import parser  # imported late, so that Ctrl-C is heard before

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # a console without emoji shows ? instead of raising an error
            stream.reconfigure(errors="replace")
    options = parser().parse_args(argv)
    log_to_stderr(logging.INFO if options.verbose else logging.WARNING, "shop")
    try:
        return _COMMANDS[options.command](options, stop)
    except (ValueError, OSError, ImportError) as error:
        message = os_error_text(error) if isinstance(error, OSError) else str(error)
        print(f"shop {options.command}: {_as_typed(message)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    finally:
        stop.interrupt(False)


def _as_typed(message: str) -> str:
    name, _, rest = message.partition(" ")
    return f"{AS_TYPED.get(name, name)} {rest}".rstrip()


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
        otlp=options.otlp,
        otlp_token=options.otlp_token,
        host=options.host,
        token=options.token,
        private=options.private,
        public_url=options.public_url,
        notify=options.notify,
        remedies=options.remedy,
        stop=stop,
    )


def _demo(options: argparse.Namespace, stop: Stop) -> int:
    from shop.live.demo import demo

    stop.interrupt()
    given = options.fault, options.services, options.seed, options.rate, options.out
    return demo(*given, open_page=options.open)


def _check(options: argparse.Namespace, stop: Stop) -> int:
    from shop.live.check import run_checks

    stop.interrupt()
    return run_checks(options.url, options.quick, options.rate, options.seed)


def _record(options: argparse.Namespace, stop: Stop) -> int:
    recorded = _recorded_virtually if "scenario" in options else _recorded_live
    spans = recorded(options, stop)
    file = Path(options.file)
    beside = f"{file}/" if file.is_dir() else f"{file}."
    print(f"{len(spans)} spans in {file}, the truth in {beside}truth.json")
    changes = Path(f"{beside}changes.csv")
    if changes.exists():
        print(f"what was changed in {changes}")
    for table in (*file.glob("*/*/data.csv"), *file.glob("*/*/metric")):
        print(f"aiops_lab.read_metrics({str(table.parent)!r}) reads its metrics")
    return 0


def _recorded_live(options: argparse.Namespace, stop: Stop) -> Any:
    from aiops_lab.checks import FieldError
    from shop.command_line import FOLDER_FORMATS
    from shop.live.record import record
    from shop.recordings import fault_of

    if options.format in FOLDER_FORMATS:
        raise FieldError("format", "must be that of a file without --scenario", options.format)
    stop.interrupt()
    fault = fault_of(
        options.fault, options.services, options.endpoint, options.duration, options.share
    )
    return record(
        options.file,
        fault,
        warmup_s=options.warmup,
        fault_s=options.seconds,
        recovery_s=options.recovery,
        rate=options.rate,
        seed=options.seed,
        services=options.services,
        progress=not options.quiet,
        format=options.format,
    )


def _recorded_virtually(options: argparse.Namespace, stop: Stop) -> Any:
    from aiops_lab.checks import FieldError
    from shop.virtual_time.record import record_scenario
    from shop.virtual_time.scenario_file import find_scenario

    stop.interrupt()
    for name, value in options.live:
        raise FieldError(name, "must not be given with --scenario, which defines the run", value)
    scenario = find_scenario(options.scenario)
    progress = False if options.quiet else None
    return record_scenario(options.file, scenario, options.seed, progress, options.format)


def _scenarios(options: argparse.Namespace, stop: Stop) -> int:
    from shop.catalogue import listing
    from shop.hard_scenarios import HARD_SCENARIOS

    stop.interrupt()
    print(listing())
    print("\nHarder ones (leaderboard --group hard, --group changes):\n")
    print(listing(scenarios=HARD_SCENARIOS))
    return 0


def _leaderboard(options: argparse.Namespace, stop: Stop) -> int:
    from shop.experiments.report import report_leaderboard

    stop.interrupt()
    return report_leaderboard(
        options.seeds,
        options.first_seed,
        options.scenario,
        options.rule,
        groups=options.group,
        detectors=options.detector,
        pipeline=options.pipeline,
        jobs=options.jobs,
        out=options.out,
        format=options.format,
    )


def _calibrate(options: argparse.Namespace, stop: Stop) -> int:
    from shop.experiments.calibrate import calibrate

    stop.interrupt()
    checked = calibrate(options.seeds, options.out, options.jobs, sys.stderr.isatty())
    print(
        f"Checked on {checked.n} answers of other seeds: calibration error {checked.ece:.3f}; "
        f"{checked.ece_perfect:.3f} for a perfect model."
    )
    return 0


def _grade(options: argparse.Namespace, stop: Stop) -> int:
    from shop.course.grading import grade_folder

    stop.interrupt()
    grades = grade_folder(
        options.folder, options.out, options.secret, options.jobs, sys.stderr.isatty()
    )
    wrong = [grade for grade in grades if grade.error]
    print(f"{len(grades)} answers in {options.out}, {len(wrong)} of them with an error")
    for grade in wrong:
        print(f"  {grade.file}: {grade.error}")
    return 1 if wrong else 0


_COMMANDS = {
    "serve": _serve,
    "demo": _demo,
    "check": _check,
    "record": _record,
    "scenarios": _scenarios,
    "leaderboard": _leaderboard,
    "calibrate": _calibrate,
    "grade": _grade,
}


if __name__ == "__main__":
    listening = Stop().listen()
    code = run(None, listening)
    listening.ignore()
    sys.exit(code)
