"""The tables of docs/results.md, made again: ``python -m benchmarks.results [--data DIR]
[--accuracy DIR] [--seeds N] [--board DIR] [--hard DIR]``.

What stands between the two marks of the page is replaced: the public sets (as ``python -m
benchmarks.accuracy`` compares them, or what it saved in ``--accuracy``), and the virtual shop (as
``python -m shop leaderboard --first-seed 20000 --detector FILE.py:NAME`` does, and with ``--group
hard --group changes``; or what these saved in ``--board`` and ``--hard``; what is not given is
run). Without data: exit 2. Takes about 8 CPU minutes for the public sets, and 1.4 a seed. The page
and its pictures are written when all is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aiops_lab.explain.rules import RULES
from benchmarks import _groups, _saved, accuracy
from benchmarks._data import data_folder_or_hint, data_parser, folder_of
from benchmarks._expected import expected, picture
from benchmarks._overview import overview
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
    for name in tqdm(accuracy.SETS, desc="compared"):
        mine, _ = accuracy.of_set(name, folder_of(name, folder))
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


def text_of(tables: Sequence[Table], virtual: Iterable[Shown], made: str) -> str:
    """Return all tables as markdown, one level below the headings of the page; `made`: when and
    with what those of the public sets were.
    """
    held = expected(tables)
    told: list[Shown] = [held] if held else []
    told += [*accuracy.grids(tables)[::-1], *(t for t in tables if not t.right)]
    told += virtual
    head = (
        "Made by `python -m benchmarks.results`; shares with Wilson's 95 %. The public sets: "
        f"{made}."
    )
    text = markdown(told, head)
    return text.replace("\n## ", "\n### ")


def virtual_tables(catalogue: Path | None, hard: Path | None, seeds: int) -> Iterator[Shown]:
    """Yield the tables of the virtual shop, each of the folder that is given or of new runs."""
    some = range(FIRST_SEED, FIRST_SEED + seeds)
    asked = {rule: RULES[rule] for rule in SHOWN_RULES}
    if catalogue is None:
        played = play(seeds=some, rules=asked, pipeline=False, sizes=False, detectors=())
        yield from of_the_shop(played.runs, played.detection)
    else:
        yield from of_the_shop(*saved_board(catalogue, "detection"))
    if hard is None:
        harder = play(HARD_SCENARIOS, some, asked, sizes=False)
        yield from of_the_hard(harder.runs, harder.pipeline)
    else:
        yield from of_the_hard(*saved_board(hard, "pipeline"))


def saved_board(folder: Path, second: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs of a leaderboard that was saved, and its `second` table."""
    return pd.read_csv(folder / "runs.csv"), pd.read_csv(folder / f"{second}.csv")


def _compared(folder: Path | None, saved: Sequence[Path]) -> tuple[list[Table], str]:
    """Return the tables of the public sets, of new runs or those that were saved; and when and with
    what they were made, with the sets that no saved comparison has.
    """
    if folder is not None:
        return public(folder), _saved.made_with()
    tables: list[Table] = []
    told: list[str] = []
    left_out = list(accuracy.SETS)
    for place in saved:
        one = _saved.read(place / f"{accuracy.COMPARED}.json")
        tables += one.tables
        told.append(one.made)
        sets = accuracy.SETS if one.sets is None else one.sets
        left_out = [name for name in left_out if name not in sets]
    if left_out:
        told.append(f"not compared: {', '.join(left_out)}")
    return tables, "; ".join(dict.fromkeys(told))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables into the page; return 2 where there is no data."""
    parser = data_parser("results", __doc__)
    parser.add_argument(
        "--accuracy",
        type=Path,
        action="append",
        metavar="DIR",
        help="take what benchmarks.accuracy saved there (repeat for more)",
    )
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="of the virtual shop")
    parser.add_argument(
        "--board", type=Path, metavar="DIR", help="take what the leaderboard saved there"
    )
    parser.add_argument(
        "--hard", type=Path, metavar="DIR", help="the same of the harder scenarios and changes"
    )
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="to write into")
    asked = parser.parse_args(arguments)
    folder = None if asked.accuracy else data_folder_or_hint(asked.data)
    if folder is None and not asked.accuracy:
        return 2
    old = asked.page.read_text("utf-8")
    between(old, "")  # better an error now than after minutes
    tables, made = _compared(folder, asked.accuracy or [])
    virtual = list(virtual_tables(asked.board, asked.hard, asked.seeds))
    asked.page.write_text(between(old, text_of(tables, virtual, made)), "utf-8")
    print(f"written: {asked.page}")
    draw(tables, asked.page.parent / "images")
    return 0


def draw(tables: Sequence[Table], folder: Path) -> None:
    """Draw each set with its best rivals, and what is expected of kept cases, into a folder."""
    pictures = {"public_data.png": overview(tables)} if tables else {}
    held = expected(tables)
    if held is not None:
        pictures["expected.png"] = picture(held)
    for name, figure in pictures.items():
        folder.mkdir(exist_ok=True)
        figure.savefig(folder / name, dpi=110)
        print(f"written: {folder / name}")


if __name__ == "__main__":
    sys.exit(main())
