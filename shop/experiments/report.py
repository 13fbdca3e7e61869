"""The report of the leaderboard, ``python -m shop leaderboard``: tables, files and pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.evaluate.calibration import Calibration
from aiops_lab.explain.rules import RULES
from aiops_lab.formats.writing import replacing
from aiops_lab.show import plots
from shop.catalogue import SCENARIOS
from shop.experiments.calibrate import CALIBRATION_SEED as LEARNED_FROM
from shop.experiments.detection import read_detectors
from shop.experiments.detection_report import detection_sections
from shop.experiments.leaderboard import (
    ALL_GROUPS,
    Board,
    by_scenario,
    by_size,
    confidences,
    pipeline_table,
    play,
    totals,
)
from shop.experiments.parallel import check_jobs
from shop.experiments.text_tables import (
    Section,
    headed,
    latex_table,
    many,
    number_text,
    percent_cell,
    two_digits,
    with_bounds,
)
from shop.experiments.user_rules import read_rules
from shop.live.demo import check_out, say
from shop.virtual_time.scenario_file import find_scenario

WIDTH = 110

# of the published results: so many seeds that each endpoint of the market is the true cause at
# least twice in the curves over size
PUBLISHED_RUN = "--seeds 30 --first-seed 20000"

SHORT = {
    "most called": "called",
    "first by start": "start",
    "first by end": "end",
    "deepest error": "deepest",
    "total z": "total",
    "self-time z": "self",
    "walk down": "walk",
    "error_spike": "errors",
    "latency_anomaly": "latency",
    "sustained_shift": "shift",
    "traffic_drop": "traffic",
}

"""Short forms of the names that are too long for a column."""

RIVAL_RULES = ("walk down", "first by end", "self-time z", "BARO", "Ochiai")

"""The rules that the size curves show beside the ledger and those of the user, one of each kind."""

SILENCE = "ledger silent"


def report_leaderboard(
    seeds: int,
    first_seed: int,
    names: Sequence[str],
    specs: Sequence[str],
    *,
    groups: Sequence[str] = (),
    detectors: Sequence[str] = (),
    pipeline: bool,
    jobs: int | None,
    out: str,
    format: str = "markdown",  # noqa: A002
) -> int:
    """Run the leaderboard, print its tables, and write tables and pictures; return 0.

    Parameters
    ----------
    seeds, first_seed : int
        Number of runs of each scenario, and the seed of the first.
    names : sequence of str
        Scenarios, by name or TOML file; without any, and without `groups`: the catalogue, and
        faults of all sizes.
    specs : sequence of str
        Rules of the user, as `read_rules` takes them.
    groups : sequence of str
        Groups of scenarios, such as ``"hard"``; they come before `names`.
    detectors : sequence of str
        Detectors of the user, as `read_detectors` takes them; with any, those of the package and
        baselines are compared with them.
    pipeline : bool
        Whether to run the whole pipeline, too.
    jobs : int, optional
        Number of processes; default one for each processor.
    out : str
        Folder of the files.
    format : {"markdown", "latex"}
        With "latex" the tables are also written as LaTeX.

    Raises
    ------
    ValueError
        A parameter breaks its rule; checked before anything runs.
    """
    _check_seeds(seeds, first_seed)
    members = [name for group in groups for name in ALL_GROUPS[group]]
    chosen = {name: find_scenario(name) for name in (*members, *names)} or SCENARIOS
    check_jobs(jobs)
    check_out(Path(out))
    rules = read_rules(specs)
    read_detectors(detectors)  # better an error now than after minutes
    scenarios = many(len(chosen), "scenario")
    what = f"{scenarios}, {many(len(rules), 'rule')}"
    head = f"{what}, seeds {first_seed} to {first_seed + seeds - 1}."
    say(f"{head} The published results come from {PUBLISHED_RUN}.")
    board = play(
        chosen,
        range(first_seed, first_seed + seeds),
        rules,
        pipeline=pipeline,
        sizes=chosen is SCENARIOS,
        detectors=detectors or None,
        jobs=jobs,
        progress=sys.stderr.isatty(),
    )
    tables = list(sections(board))
    for title, note, table in tables:
        text = table.to_string(line_width=WIDTH)
        say(f"\n{title}\n{fill(note, WIDTH)}\n\n{text}")
    saved = save(board, tables, head, Path(out), format)
    say(f"\nSaved in {out}: {', '.join(saved)}")
    return 0


def _check_seeds(seeds: int, first_seed: int) -> None:
    check_number("seeds", seeds, 1, 10_000)
    check_number("first-seed", first_seed, 0, 2**31)
    if first_seed + seeds > LEARNED_FROM:
        limit = f"must be at most {LEARNED_FROM - seeds} for {many(seeds, 'seed')}"
        reason = f"as the confidence was learned from those from {LEARNED_FROM} on"
        raise FieldError("first-seed", f"{limit}, {reason}", first_seed)


# ---- tables

TOTALS_NOTE = (
    "The rules are given the windows before and during the fault. top-1, top-3: a true cause is "
    "the first, or among the first three suspects; MRR: mean reciprocal rank, 0 to 1; all: the "
    "first suspects are all the causes; silent: no suspect; wrong: the first suspect is no cause; "
    "quiet: no suspect where there is no fault. In percent of the runs with a fault, except those "
    "'by size'. In brackets: bounds of 95 % for other scenarios like these, as whole scenarios are "
    "resampled. CPU ms: median of one answer."
)

SCENARIOS_NOTE = (
    "In percent of the runs: the first suspect is a true cause; where there is no fault, there is "
    "no suspect. The scenarios 'by size' count in no total."
)

PIPELINE_NOTE = (
    "The pipeline has to detect the fault, too. found: share of the faults that are detected; "
    "median, worst: seconds from the start of the fault to the end of the first window with an "
    "anomaly of it; first: the detector of this anomaly; right: detected, and every incident names "
    "a true cause first; named: share of the causes. Of the detected faults: agree (Jaccard index) "
    "and exact compare the affected endpoints with those of the twin. false: share of the runs "
    "with an incident that matches no fault; /h: such incidents per hour."
)

CHANGES_NOTE = (
    "In percent of the runs in which a change was noted and an incident found: the verdicts point "
    "at the changes that are behind it, and at no other."
)

SIZES_NOTE = (
    "The fault is at another endpoint of the market with each seed. In percent of the runs; a run "
    "in which no request was affected is left out."
)

DEPLOYMENT_NOTE = (
    "The same delay as a fault, and as a deployment, which is none: how often the ledger names a "
    "suspect, in percent. By size alone the two cannot be distinguished."
)

CONFIDENCE_NOTE = (
    "Of the runs with a fault that counts, and of those without a fault in which the ledger names "
    "a suspect. error: the expected calibration error, that is the mean difference between the "
    "confidence and the share of correct answers."
)

COVERAGE_NOTE = (
    "coverage: the share of the runs that get an answer; risk: the share of wrong ones among these "
    "answers."
)


def sections(board: Board) -> Iterator[Section]:
    """Yield title, note and table of each part of the report; the tables hold text."""
    table = totals(board.runs)
    if table["n"].any() or table["quiet"].notna().any():  # not those by size alone
        yield "The rules", TOTALS_NOTE, _totals(table)
    title = "Share of correct runs, by scenario"
    yield title, SCENARIOS_NOTE, headed(_shares(_by_scenario(board)))
    if len(board.pipeline):
        table = pipeline_table(board.pipeline)
        yield "The whole pipeline", PIPELINE_NOTE, _pipeline(table)
        told = table["change"].dropna()
        if len(told):
            shown = told.map(percent_cell).to_frame("right")
            yield "What the verdicts say of changes", CHANGES_NOTE, headed(shown)
    yield from detection_sections(board.detection)
    if len(board.sizes):
        yield from _sizes(by_size(board.sizes), totals(board.runs).index)
    yield from _confidence(board)


def _by_scenario(board: Board) -> pd.DataFrame:
    """Return `by_scenario`, without the total where nothing counts in it."""
    return by_scenario(board.runs).dropna(how="all")


def _totals(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(index=table.index)
    shown["top-1"] = with_bounds(table, "top1", percent_cell)
    shown["top-3"] = with_bounds(table, "top3", percent_cell)
    shown["MRR"] = with_bounds(table, "mrr", "{:.2f}".format)
    shown["all"] = table["exact"].map(percent_cell)
    for name in ("silent", "wrong", "quiet"):
        shown[name] = table[name].map(percent_cell)
    shown["CPU ms"] = table["cpu_ms"].map("{:.0f}".format)
    return shown.rename_axis(None)


def _shares(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(percent_cell).rename(columns=SHORT).rename_axis(columns=None)


def _pipeline(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(index=table.index)
    shown["found"] = table["detected"].map(percent_cell)
    shown["median"] = table["median_s"].map(number_text)
    shown["worst"] = table["worst_s"].map(number_text)
    shown["first"] = table["first"].map(_shortened)
    shown["right"] = table["right"].map(percent_cell)
    shown["named"] = table["named"].map(percent_cell)
    shown["agree"] = table["jaccard"].map(two_digits)
    shown["exact"] = table["exact"].map(percent_cell)
    shown["false"] = table["false_runs"].map(percent_cell)
    shown["/h"] = table["false_per_hour"].map("{:.1f}".format)
    return headed(shown)


def _shortened(types: str) -> str:
    return " ".join(SHORT.get(type_, type_) for type_ in types.split(" + "))


def _sizes(curves: pd.DataFrame, order: pd.Index) -> Iterator[Section]:
    delays = "Requests take longer by this share of their usual duration."
    errors = "This share of the requests fails."
    for kind, title, note in (
        ("delay", "Share of correct runs, by the size of a delay", delays),
        ("errors", "Share of correct runs, by the share of failures", errors),
    ):
        mine = curves[curves["kind"] == kind]
        right = mine.pivot_table(index="size", columns="rule", values="right", sort=False)
        ledger = mine[mine["rule"] == "ledger"].set_index("size")
        table = _shares(right[order])
        table[SILENCE] = ledger["silent"].map(percent_cell)
        table["runs"] = ledger["n"]
        named = table.rename(index=_size).rename_axis("size")
        yield title, f"{note} {SIZES_NOTE}", named
    curves = answer_rates(curves)
    table = curves.pivot_table(index="rule", columns="size", values="answers", sort=False)
    table = table.map(percent_cell).rename(columns=_size).rename_axis(index=None, columns=None)
    yield "A weak fault and a deployment", DEPLOYMENT_NOTE, table


def answer_rates(curves: pd.DataFrame) -> pd.DataFrame:
    """Return how often the ledger names a suspect, for a fault and for a deployment, by size.

    A row a size and kind: size, rule ("a fault" or "a deployment"), and the share "answers" of the
    runs with its bounds "answers_low" and "answers_high".
    """
    titles = {"delay": "a fault", "change": "a deployment"}
    is_ours = curves["rule"] == "ledger"
    mine = curves[is_ours & curves["kind"].isin(titles)]
    return pd.DataFrame(
        {
            "size": mine["size"],
            "rule": mine["kind"].map(titles),
            "answers": 1 - mine["silent"],
            "answers_low": 1 - mine["silent_high"],
            "answers_high": 1 - mine["silent_low"],
        }
    )


def _confidence(board: Board) -> Iterator[Section]:
    with_fault = board.sizes[board.sizes["causes"] > 0]
    sets = {"the catalogue": board.runs, "faults of all sizes": with_fault}
    results = {name: confidences(runs) for name, runs in sets.items()}
    answered = {name: result for name, result in results.items() if result[0].n}
    if not answered:
        return
    errors = {name: _calibration_row(found) for name, (found, _) in answered.items()}
    yield "The ledger's confidence", CONFIDENCE_NOTE, pd.DataFrame(errors).T
    by_set = {name: curve for name, (_, curve) in answered.items()}
    curves = pd.concat(by_set).droplevel(1)
    table = pd.DataFrame(
        {
            "coverage": curves["coverage"].map(percent_cell),
            "answers": curves["answered"],
            "least confidence": curves["threshold"].map("{:.2f}".format),
            "risk": curves["risk"].map(percent_cell),
        }
    )
    yield "Errors among the most confident answers", COVERAGE_NOTE, table


def _calibration_row(found: Calibration) -> dict[str, Any]:
    return {
        "answers": found.n,
        "error": f"{found.ece:.3f}",
        "of a perfect model": f"{found.ece_perfect:.3f}",
        "at most, in 95 of 100": f"{found.ece_perfect_high:.3f}",
        "Brier": f"{found.brier:.3f}",
    }


def _size(size: float) -> str:
    return f"{100 * size:g}%"


# ---- files and pictures


def save(
    board: Board,
    tables: Sequence[Section],
    head: str,
    out: Path,
    format: str = "markdown",  # noqa: A002
) -> list[str]:
    """Write the runs as CSV, the tables as Markdown and the pictures as PNG; return the file names.

    With the format "latex" the tables are also written as LaTeX.

    A file is replaced only when the new one is complete.
    """
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Callable[[Path], Any]] = {}
    frames = {
        "runs.csv": board.runs,
        "pipeline.csv": board.pipeline,
        "sizes.csv": board.sizes,
        "detection.csv": board.detection,
    }
    for name, frame in frames.items():
        if len(frame):
            files[name] = partial(frame.to_csv, index=False, lineterminator="\n")
    page = markdown(tables, head)
    files["leaderboard.md"] = partial(Path.write_text, data=page, encoding="utf-8")
    if format == "latex":
        page = "\n".join(latex_table(table, title, [note]) for title, note, table in tables)
        files["leaderboard.tex"] = partial(Path.write_text, data=page, encoding="utf-8")
    for name, figure in pictures(board):
        draw = partial(figure.savefig, format="png", dpi=100, bbox_inches="tight")
        files[f"{name}.png"] = draw
    for name, write in files.items():
        with replacing(out / name) as part:
            write(part)
    return list(files)


def markdown(tables: Sequence[Section], head: str) -> str:
    """Return the tables as a page of Markdown; `head` is its first paragraph."""
    parts = ["# Leaderboard", head]
    for title, note, table in tables:
        flat = table.reset_index(names=str(table.index.name or ""))
        names = list(map(str, flat.columns))
        rule = ["---"] * len(names)
        rows = [names, rule, *flat.astype(str).to_numpy().tolist()]
        parts += [f"## {title}", note, "\n".join(map(_markdown_row, rows))]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def pictures(board: Board) -> Iterator[tuple[str, Any]]:
    """Yield (name, figure) of each picture."""
    import matplotlib

    matplotlib.use("Agg")

    yield "leaderboard", plots.leaderboard(_by_scenario(board)).figure
    panels = [("The catalogue", board.runs)]
    if len(board.sizes):
        curves = by_size(board.sizes)
        yield "size_curve", size_picture(curves)
        yield "deployment", deployment_picture(curves)
        with_fault = board.sizes[board.sizes["causes"] > 0]
        panels.append(("Faults of all sizes", with_fault))
    figure = plots.figure((7 * len(panels), 6.6))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, runs) in zip(axes, panels, strict=True):
        plots.reliability(confidences(runs)[0], ax)
        ax.set_title(title, fontsize=18, loc="left")
    yield "reliability", figure


def size_picture(curves: pd.DataFrame) -> Any:
    """Return a figure of how often each rule names the cause, and how often a wrong endpoint.

    The x axes are the size of a delay (left) and the share of failures (right).
    """
    figure = plots.figure((16, 10))
    axes = figure.subplots(2, 2, sharex="col")
    kinds = {
        "delay": ("Delay", "longer by this share of a usual request"),
        "errors": ("Failures", "share of the requests that fail"),
    }
    own = [rule for rule in curves["rule"].unique() if rule not in RULES]
    shown = [*own, *RIVAL_RULES]
    for column, (kind, (what, label)) in enumerate(kinds.items()):
        mine = curves[curves["kind"] == kind]
        top, below = axes[:, column]
        plots.size_curve(_with_silence(mine), top, "right", bold=("ledger", SILENCE), shown=shown)
        plots.size_curve(mine, below, "wrong", shown=shown)
        top.set_title(f"{what}: the first suspect is the cause", fontsize=18, loc="left")
        below.set_title(f"{what}: the first suspect is wrong", fontsize=18, loc="left")
        top.set_xlabel("")
        below.set_xlabel(label, fontsize=16)
    return figure


def _with_silence(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the curves, and a further one: how often the ledger names no suspect."""
    names = {f"silent{end}": f"right{end}" for end in ("", "_low", "_high")}
    ledger = curves[curves["rule"] == "ledger"]
    mine = ledger[["size", *names]].rename(columns=names)
    return pd.concat([curves, mine.assign(rule=SILENCE)])


def deployment_picture(curves: pd.DataFrame) -> Any:
    """Return a figure of how often the ledger names a suspect, for a fault and for a deployment."""
    figure = plots.figure((10, 5.6))
    names = ("a fault", "a deployment")
    ax = plots.size_curve(answer_rates(curves), figure.subplots(), "answers", bold=names)
    ax.set_title(
        "How often the ledger names a suspect: a deployment looks like a weak fault",
        fontsize=16,
        loc="left",
    )
    ax.set_xlabel("longer by this share of a usual request", fontsize=16)
    return figure
