"""The tables of docs/results.md, made again: ``python -m benchmarks.results [--data DIR]
[--seeds N] [--board DIR] [--hard DIR]``.

What stands between the two marks of the page is replaced: the public sets (as ``python -m
benchmarks.accuracy --quick`` compares them), and the virtual shop (as ``python -m shop leaderboard
--first-seed 20000 --detector FILE.py:NAME`` does, and with ``--group hard --group changes``; or
what these saved in ``--board`` and ``--hard``; what is not given is run). Without data: exit 2.
Takes about 3.5 CPU minutes for the public sets, and 1.4 a seed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from aiops_lab.explain.rules import RULES
from benchmarks import _groups, accuracy
from benchmarks._data import FOLDERS, data_folder_or_hint, data_parser
from benchmarks._expected import expected
from benchmarks._tables import Grid, Shown, Table, markdown
from shop.catalogue import BY_SIZE
from shop.experiments.detection_report import detection_sections
from shop.experiments.leaderboard import play, right
from shop.hard_scenarios import HARD_SCENARIOS

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
BEGIN, END = "<!-- made by benchmarks.results -->", "<!-- end of what is made -->"
FIRST_SEED = 20_000  # of the published results
CATALOGUE_TITLE = "The virtual shop, windows given, by group and scenario"
HARD_TITLE = "Harder scenarios and changes, windows given, by group and scenario"
SHOWN_RULES = (
    *("ledger", "walk down", "BARO", "total z", "self-time z", "deepest error"),
    *("first by end", "Ochiai", "entry", "random"),
)


def public(folder: Path) -> list[Table]:
    """Return the tables of all public sets that are at hand."""
    tables: list[Table] = []
    for name, compared in accuracy.SETS.items():
        try:
            mine, _ = compared(folder / FOLDERS.get(name, name), sys.stderr.isatty())
        except (FileNotFoundError, ImportError) as error:
            print(f"{name}: {error}", file=sys.stderr)
        else:
            tables += mine
    return tables


def of_the_shop(runs: pd.DataFrame, detection: pd.DataFrame) -> list[Shown]:
    """Return the tables of the virtual shop: rules by group and scenario, and detectors."""
    shown: list[Shown] = [rules(runs)]
    for title, note, table in detection_sections(detection):
        shown.append(Grid(title, table.astype(str), [note]))
    return shown


def of_the_hard(runs: pd.DataFrame, pipeline: pd.DataFrame) -> list[Shown]:
    """Return the tables of the harder scenarios: rules, and what becomes of them by detection."""
    return [rules(runs, HARD_TITLE), through_detection(pipeline)]


def through_detection(results: pd.DataFrame) -> Grid:
    """Return how often the whole pipeline is right, a row a scenario; `results` as
    `Board.pipeline` holds them.
    """
    rows = {name: _detected(mine) for name, mine in results.groupby("scenario", sort=False)}
    rows["all"] = _detected(results)
    note = (
        "found: of the faults; right: found, and every incident names a true cause first; without "
        "a false incident: of all runs; changes: of the runs in which one was noted, those where "
        "the verdicts point at the change that is behind it, or at none where none is."
    )
    columns = ["found", "right", "without a false incident", "changes"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return Grid("Harder scenarios and changes, through detection", frame, [note])


def _detected(mine: pd.DataFrame) -> list[str]:
    faulty = mine[mine["causes"] > 0]
    changes = mine["change"].dropna()
    counted = [
        (faulty["incidents"] > 0).tolist(),
        (faulty["rank"] == 1).tolist(),
        (mine["false_incidents"] == 0).tolist(),
        (changes == 1).tolist(),
    ]
    return [f"{sum(each)} of {len(each)}" if each else "" for each in counted]


def rules(runs: pd.DataFrame, title: str = CATALOGUE_TITLE) -> Grid:
    """Return how often each rule is right by group of scenarios and scenario; where nothing is at
    fault, silence is.
    """
    counted = runs[(runs["group"] != BY_SIZE) & runs["rule"].isin(SHOWN_RULES)]
    judged = counted.assign(right=right(counted))
    keys = ["group", "scenario", "seed"]
    table = judged.pivot_table(index=keys, columns="rule", values="right", aggfunc="first")
    order = [rule for rule in SHOWN_RULES if rule in table.columns]
    cases = table[order].astype(bool).reset_index().drop(columns="seed")
    named = cases.rename(columns={"group": "system", "scenario": "kind"})
    seeds = runs["seed"].nunique()
    grid = _groups.grid_of(title, named)
    note = f"{seeds} seeds from {runs['seed'].min()} on; *system* is the group of scenarios."
    return Grid(grid.title, grid.frame, [note, *grid.notes])


def between(page: str, made: str) -> str:
    """Return the page with what stands between its two marks replaced.

    Raises
    ------
    ValueError
        The page lacks a mark.
    """
    head, first, rest = page.partition(BEGIN)
    _, second, tail = rest.partition(END)
    if not first or not second:
        raise ValueError(f"the page must have the marks {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{made}\n{END}{tail}"


def text_of(tables: Sequence[Table], virtual: Iterable[Shown]) -> str:
    """Return all tables as markdown, one level below the headings of the page."""
    held = expected(tables)
    told: list[Shown] = [held] if held else []
    told += [*accuracy.grids(tables)[::-1], *(t for t in tables if not t.right)]
    told += virtual
    text = markdown(told, "Made by `python -m benchmarks.results`; shares with Wilson's 95 %.")
    return text.replace("\n## ", "\n### ")


def virtual_tables(catalogue: Path | None, hard: Path | None, seeds: int) -> Iterator[Shown]:
    """Yield the tables of the virtual shop, each of the folder that is given or of new runs."""
    some = range(FIRST_SEED, FIRST_SEED + seeds)
    asked = {rule: RULES[rule] for rule in SHOWN_RULES}
    if catalogue is None:
        played = play(seeds=some, rules=asked, pipeline=False, sizes=False, detectors=())
        yield from of_the_shop(played.runs, played.detection)
    else:
        yield from of_the_shop(*_saved(catalogue, "detection"))
    if hard is None:
        harder = play(HARD_SCENARIOS, some, asked, sizes=False)
        yield from of_the_hard(harder.runs, harder.pipeline)
    else:
        yield from of_the_hard(*_saved(hard, "pipeline"))


def _saved(folder: Path, second: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / f"{second}.csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables into the page; return 2 where there is no data."""
    parser = data_parser("results", __doc__)
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="of the virtual shop")
    parser.add_argument(
        "--board", type=Path, metavar="DIR", help="take what the leaderboard saved there"
    )
    parser.add_argument(
        "--hard", type=Path, metavar="DIR", help="the same of the harder scenarios and changes"
    )
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="to write into")
    asked = parser.parse_args(arguments)
    folder = data_folder_or_hint(asked.data)
    if folder is None:
        return 2
    old = asked.page.read_text("utf-8")
    between(old, "")  # better an error now than after minutes
    virtual = list(virtual_tables(asked.board, asked.hard, asked.seeds))
    asked.page.write_text(between(old, text_of(public(folder), virtual)), "utf-8")
    print(f"written: {asked.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
