"""How is the leaderboard told? ``python -m shop leaderboard``: tables to read, files to keep,
pictures to show.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from aiops_lab.checks import FieldError, check_number
from aiops_lab.explain.rules import RULES
from aiops_lab.show import plots
from shop.catalogue import SCENARIOS
from shop.experiments.calibrate import CALIBRATION_SEED as LEARNED_FROM
from shop.experiments.leaderboard import (
    Board,
    by_scenario,
    by_size,
    confidences,
    pipeline_table,
    play,
    totals,
)
from shop.experiments.parallel import check_jobs
from shop.experiments.user_rules import read_rules
from shop.live.demo import check_out, say
from shop.recordings import replacing
from shop.virtual_time.scenario_file import find_scenario

WIDTH = 110

PUBLISHED_RUN = "--seeds 30 --first-seed 20000"

"""What the figures in the README come from: each endpoint of the market has its turn in the curves,
twice or more.
"""

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
    "latency_drift": "drift",
    "traffic_drop": "traffic",
}

"""Names that are too long for a column."""

RIVAL_RULES = ("walk down", "first by end", "self-time z", "BARO", "Ochiai")

"""The rules that the size curve tells apart, after those of the user: each stands for a way of
thinking.
"""

SILENCE = "ledger silent"

Section = tuple[str, str, pd.DataFrame]  # title, what the reader must know, the table


def report_leaderboard(
    seeds: int,
    first_seed: int,
    names: Sequence[str],
    specs: Sequence[str],
    *,
    pipeline: bool,
    jobs: int | None,
    out: str,
) -> int:
    """Play, print and save the leaderboard; return 0."""
    check_number("seeds", seeds, 1, 10_000)
    check_number("first-seed", first_seed, 0, 2**31)
    if first_seed + seeds > LEARNED_FROM:
        rule = (
            f"must be at most {LEARNED_FROM - seeds} for {_many(seeds, 'seed')}, as the "
            "confidence was learned from"
        )
        raise FieldError("first-seed", f"{rule} those from {LEARNED_FROM} on", first_seed)
    chosen = {name: find_scenario(name) for name in names} or SCENARIOS
    check_jobs(jobs)
    check_out(Path(out))
    rules = read_rules(specs)
    what = f"{_many(len(chosen), 'scenario')}, {_many(len(rules), 'rule')}"
    head = f"{what}, seeds {first_seed} to {first_seed + seeds - 1}."
    say(f"{head} The figures in the README come from {PUBLISHED_RUN}.")
    board = play(
        chosen,
        range(first_seed, first_seed + seeds),
        rules,
        pipeline=pipeline,
        sizes=not names,
        jobs=jobs,
        progress=sys.stderr.isatty(),
    )
    told = list(sections(board))
    for title, note, table in told:
        say(f"\n{title}\n{fill(note, WIDTH)}\n\n{table.to_string(line_width=WIDTH)}")
    saved = save(board, told, head, Path(out))
    say(f"\nSaved in {out}: {', '.join(saved)}")
    return 0


# ---- tables


def sections(board: Board) -> Iterator[Section]:
    """Yield what there is to tell, each with a title and a note, the numbers as they are to be
    read.
    """
    note = (
        "Windows given, in percent, MRR from 0 to 1. All faults count but those 'by size': theirs "
        "is a curve, not a "
        "verdict. all: the first suspects are all the causes. quiet: silent where there is no "
        "fault. In brackets: "
        "bounds of 95 % for other scenarios like these, as whole scenarios are resampled."
    )
    yield "The rules", note, _totals(totals(board.runs))
    note = (
        "How often the first suspect is a true cause; where there is no fault: how often it is "
        "silent. In percent. "
        "What is 'by size' counts in no total."
    )
    yield "Right, by scenario", note, _headed(_shares(by_scenario(board.runs)))
    if len(board.pipeline):
        note = (
            "It has to find the windows, too. median, worst: seconds from the start of the fault "
            "to the end of the "
            "first window that tells of it. right: found, and every incident names a true cause "
            "first. named: share of "
            "causes. Of what was found: agree (Jaccard index), exact: the affected endpoints, "
            "against the twin. false: "
            "share of the runs with an incident that tells of no fault; /h: such incidents an hour."
        )
        yield "The whole pipeline", note, _pipeline(pipeline_table(board.pipeline))
    if len(board.sizes):
        yield from _sizes(by_size(board.sizes), totals(board.runs).index)
    yield from _confidence(board)


def _totals(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(index=table.index)
    for name, title in (("top1", "top-1"), ("top3", "top-3")):
        bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        shown[title] = [
            "" if pd.isna(mid) else f"{_percent(mid)} ({_percent(low)}-{_percent(high)})"
            for mid, low, high in bounds
        ]
    bounds = zip(table["mrr"], table["mrr_low"], table["mrr_high"], strict=True)
    shown["MRR"] = [
        "" if pd.isna(mid) else f"{mid:.2f} ({low:.2f}-{high:.2f})" for mid, low, high in bounds
    ]
    for name, title in (
        ("exact", "all"),
        ("silent", "silent"),
        ("wrong", "wrong"),
        ("quiet", "quiet"),
    ):
        shown[title] = table[name].map(_percent)
    return shown.assign(**{"CPU ms": table["cpu_ms"].map("{:.0f}".format)}).rename_axis(None)


def _headed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a line above each group instead of a column of groups."""
    parts = []
    for group, rows in table.groupby(level=0, sort=False):
        rows = rows.droplevel(0).rename(index=lambda name: f"  {name}")
        parts += [pd.DataFrame("", [f"{group}:"], table.columns), rows.astype(str)]
    return pd.concat(parts).rename_axis(None)


def _shares(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(_percent).rename(columns=SHORT).rename_axis(columns=None)


def _pipeline(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(index=table.index).assign(
        found=table["detected"].map(_percent),
        median=table["median_s"].map(_number),
        worst=table["worst_s"].map(_number),
        first=[
            " ".join(SHORT.get(word, word) for word in kinds.split(" + "))
            for kinds in table["first"]
        ],
        right=table["right"].map(_percent),
        named=table["named"].map(_percent),
        agree=["" if pd.isna(j) else f"{j:.2f}" for j in table["jaccard"]],
        exact=table["exact"].map(_percent),
    )
    shown["false"] = table["false_runs"].map(_percent)
    return _headed(shown.assign(**{"/h": table["false_per_hour"].map("{:.1f}".format)}))


def _sizes(curves: pd.DataFrame, order: pd.Index) -> Iterator[Section]:
    titles = {
        "delay": ("Right, when it takes longer", "Longer by this share of a usual request."),
        "errors": ("Right, when requests fail", "This share of the requests."),
    }
    for kind, (title, note) in titles.items():
        mine = curves[curves["kind"] == kind]
        table = _shares(
            mine.pivot_table(index="size", columns="rule", values="right", sort=False)[order]
        )
        ledger = mine[mine["rule"] == "ledger"].set_index("size")
        table = table.assign(**{SILENCE: ledger["silent"].map(_percent), "runs": ledger["n"]})
        note = (
            f"{note} At another endpoint of the market with each seed. In percent of the runs; "
            "one in which no request "
            "was struck is none."
        )
        yield title, note, table.rename(index=_size).rename_axis("size")
    table = (
        spoken(curves)
        .pivot_table(index="rule", columns="size", values="speaks", sort=False)
        .map(_percent)
    )
    note = (
        "The same delay as a fault, and as a new normal that is none: how often the ledger "
        "speaks. By size alone "
        "nobody can tell them apart. In percent."
    )
    table = table.rename(columns=_size).rename_axis(index=None, columns=None)
    yield "A weak fault and a deployment", note, table


def spoken(curves: pd.DataFrame) -> pd.DataFrame:
    """Return how often the ledger speaks of a delay that is a fault, and of one that is a
    deployment, by size.
    """
    titles = {"delay": "a fault", "change": "a deployment"}
    mine = curves[(curves["rule"] == "ledger") & curves["kind"].isin(titles)]
    return pd.DataFrame(
        {
            "size": mine["size"],
            "rule": mine["kind"].map(titles),
            "speaks": 1 - mine["silent"],
            "speaks_low": 1 - mine["silent_high"],
            "speaks_high": 1 - mine["silent_low"],
        }
    )


def _confidence(board: Board) -> Iterator[Section]:
    kept = {
        "the catalogue": board.runs,
        "faults of all sizes": board.sizes[board.sizes["causes"] > 0],
    }
    told = {
        name: found
        for name, found in ((n, confidences(runs)) for n, runs in kept.items())
        if found[0].n
    }
    if not told:
        return
    rows = {
        name: {
            "answers": c.n,
            "error": f"{c.ece:.3f}",
            "of a perfect model": f"{c.ece_perfect:.3f}",
            "at most, in 95 of 100": f"{c.ece_perfect_high:.3f}",
            "Brier": f"{c.brier:.3f}",
        }
        for name, (c, _) in told.items()
    }
    note = (
        "Over the faults that count, and what it says where there is none. error: the expected "
        "calibration error, how "
        "far its confidence is from how often it was right."
    )
    yield "Can the ledger's confidence be believed?", note, pd.DataFrame(rows).T
    curves = (
        pd.concat([curve.assign(of=name) for name, (_, curve) in told.items()])
        .set_index("of")
        .rename_axis(None)
    )
    table = pd.DataFrame(
        {
            "coverage": curves["coverage"].map(_percent),
            "answers": curves["answered"],
            "at least so sure": curves["threshold"].map("{:.2f}".format),
            "risk": curves["risk"].map(_percent),
        }
    )
    note = (
        "coverage: the share of the questions that it answers; risk: the share of wrong ones "
        "among its answers."
    )
    yield "And when only its surest answers count?", note, table


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _size(size: float) -> str:
    return f"{100 * size:g}%"


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.0f}"


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.0f}"


# ---- files and pictures


def save(board: Board, told: Sequence[Section], head: str, out: Path) -> list[str]:
    """Write the runs as CSV, the tables as Markdown, the pictures as PNG, each whole or not at all;
    return names.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames = {"runs.csv": board.runs, "pipeline.csv": board.pipeline, "sizes.csv": board.sizes}
    files: dict[str, Callable[[Path], Any]] = {
        name: partial(frame.to_csv, index=False, lineterminator="\n")
        for name, frame in frames.items()
        if len(frame)
    }
    files["leaderboard.md"] = partial(Path.write_text, data=markdown(told, head), encoding="utf-8")
    files |= {
        f"{name}.png": partial(figure.savefig, format="png", dpi=100, bbox_inches="tight")
        for name, figure in pictures(board)
    }
    for name, write in files.items():
        with replacing(out / name) as part:
            write(part)
    return list(files)


def markdown(told: Sequence[Section], head: str) -> str:
    """Return the tables as a page."""
    parts = ["# Leaderboard", head]
    for title, note, table in told:
        flat = table.reset_index(names=str(table.index.name or ""))
        rows = [
            list(map(str, flat.columns)),
            ["---"] * flat.shape[1],
            *flat.astype(str).to_numpy().tolist(),
        ]
        parts += [f"## {title}", note, "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    return "\n\n".join(parts) + "\n"


def pictures(board: Board) -> Iterator[tuple[str, Any]]:
    """Yield (name, figure) of each picture."""
    import matplotlib

    matplotlib.use("Agg")

    yield "leaderboard", plots.leaderboard(by_scenario(board.runs)).figure
    kept = [("The catalogue", board.runs)]
    if len(board.sizes):
        curves = by_size(board.sizes)
        yield "size_curve", size_picture(curves)
        yield "deployment", deployment_picture(curves)
        kept.append(("Faults of all sizes", board.sizes[board.sizes["causes"] > 0]))
    figure = plots.figure((7 * len(kept), 6.6))
    for ax, (title, runs) in zip(
        figure.subplots(1, len(kept), squeeze=False)[0], kept, strict=True
    ):
        plots.reliability(confidences(runs)[0], ax)
        ax.set_title(title, fontsize=18, loc="left")
    yield "reliability", figure


def size_picture(curves: pd.DataFrame) -> Any:
    """Draw how often each rule names the cause, and how often somebody else, over the size of a
    fault.
    """

    figure = plots.figure((16, 10))
    axes = figure.subplots(2, 2, sharex="col")
    kinds = {
        "delay": ("It got slower", "longer by this share of a usual request"),
        "errors": ("It fails", "share of the requests that fail"),
    }
    shown = [*(rule for rule in curves["rule"].unique() if rule not in RULES), *RIVAL_RULES]
    for column, (kind, (what, label)) in enumerate(kinds.items()):
        mine = curves[curves["kind"] == kind]
        top, below = axes[:, column]
        plots.size_curve(_with_silence(mine), top, "right", bold=("ledger", SILENCE), shown=shown)
        plots.size_curve(mine, below, "wrong", shown=shown)
        top.set_title(f"{what}: who names the cause?", fontsize=18, loc="left")
        below.set_title(f"{what}: who names somebody else?", fontsize=18, loc="left")
        top.set_xlabel("")
        below.set_xlabel(label, fontsize=16)
    return figure


def _with_silence(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the curves, and as one more how often the ledger is silent."""
    names = {f"silent{end}": f"right{end}" for end in ("", "_low", "_high")}
    mine = curves.loc[curves["rule"] == "ledger", ["size", *names]].rename(columns=names)
    return pd.concat([curves, mine.assign(rule=SILENCE)])


def deployment_picture(curves: pd.DataFrame) -> Any:
    """Draw how often the ledger speaks of a weak fault, and of a deployment of the same size."""

    figure = plots.figure((10, 5.6))
    names = ("a fault", "a deployment")
    ax = plots.size_curve(spoken(curves), figure.subplots(), "speaks", bold=names)
    ax.set_title(
        "How often the ledger speaks: by size alone a new normal is a weak fault",
        fontsize=16,
        loc="left",
    )
    ax.set_xlabel("longer by this share of a usual request", fontsize=16)
    return figure
