"""The options of the commands of `python -m shop` that compare and learn, and their help."""

from __future__ import annotations

from argparse import Action, ArgumentParser, BooleanOptionalAction
from collections.abc import Callable

Option = Callable[..., Action]

# written out, so that --help need not import the scenarios
LEADERBOARD_GROUPS = ("faults", "traces lie", "no fault", "by size", "hard", "changes")


def add_leaderboard(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    """Return the parser of ``leaderboard``, added by `add`."""
    command = add(
        "leaderboard",
        help="compare root-cause rules and detectors, yours too, on all scenarios",
        description="Run every scenario of the virtual shop, and faults of all sizes, and compare\n"
        "the root causes that each rule and the whole pipeline name with the true ones.\n"
        "Takes about 2 minutes on 2 processors by default. The published results come\n"
        "from --seeds 30 --first-seed 20000.\n\n"
        "A rule is given the windows before and during the fault and names the cause. A\n"
        "detector is given every window and has to find the fault; it is compared with\n"
        "those of the package and with constant and random answers.\n\n"
        "Prints tables; writes leaderboard.md, runs.csv, pipeline.csv, sizes.csv and\n"
        "pictures (.png) into the folder --out; with --detector also detection.csv.",
        epilog="example:\n"
        "  python -m shop leaderboard --scenario delay --scenario flaky --seeds 5\n"
        "  python -m shop leaderboard --rule my_rules.py:mine --out mine\n"
        "  python -m shop leaderboard --group hard --group changes --seeds 5\n"
        "  python -m shop leaderboard --detector mine.py:slow --scenario delay --scenario calm",
    )
    _add_leaderboard_options(command.add_argument)
    return command


def _add_leaderboard_options(option: Option) -> None:
    option("--seeds", type=int, default=2, metavar="N", help="number of runs of each scenario")
    option(
        "--first-seed",
        type=int,
        default=1000,
        metavar="N",
        help="seed of the first run; the others follow, up to 49999",
    )
    option(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        help="only this scenario, by name or .toml file, and no sizes; may be repeated "
        "(default: all)",
    )
    option(
        "--group",
        action="append",
        default=[],
        choices=LEADERBOARD_GROUPS,
        help="only the scenarios of this group, and no sizes; hard and changes are not in the "
        "catalogue; may be repeated (default: the catalogue)",
    )
    option(
        "--rule",
        action="append",
        default=[],
        metavar="FILE.py:FUNCTION",
        help="a further rule, f(reference, abnormal) -> list of Suspect, or module:function; "
        "may be repeated (default: none)",
    )
    option(
        "--detector",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="a detector to compare: f(windows, baselines, sensitivity) -> list of Anomaly, or a "
        "Detector, or module:name; may be repeated (default: none, and no detectors are compared)",
    )
    option(
        "--pipeline",
        action=BooleanOptionalAction,
        default=True,
        help="run the whole pipeline, too, which takes a third of the time",
    )
    option(
        "--format",
        choices=("markdown", "latex"),
        default="markdown",
        help="of the tables that are saved; latex also writes leaderboard.tex",
    )
    add_jobs(option)
    option("--out", default="leaderboard", metavar="FOLDER", help="folder of tables and pictures")


def add_calibrate(add: Callable[..., ArgumentParser]) -> ArgumentParser:
    """Return the parser of ``calibrate``, added by `add`."""
    command = add(
        "calibrate",
        help="learn the confidence of the root-cause analysis from simulated faults",
        description="Run faults of all sizes with known causes, learn from two thirds of the runs\n"
        "how often the first suspect is right, and check this on the others.\n\n"
        "Prints the calibration error; writes the learned weights into the JSON file\n"
        "--out. Without --out it replaces the file that the package reads.",
        epilog="example:\n  python -m shop calibrate --seeds 3 --out confidence.json",
    )
    option = command.add_argument
    option("--seeds", type=int, default=15, metavar="N", help="runs of each scenario, at least 3")
    add_jobs(option)
    option("--out", metavar="FILE", help="JSON file (default: the package's own confidence.json)")
    return command


def add_jobs(option: Option) -> None:
    """Add ``--jobs``."""
    option(
        "--jobs",
        type=int,
        metavar="N",
        help="number of processes (default: one for each processor)",
    )
