"""How good is it on data that nobody here made? ``python -m benchmarks.accuracy [--data DIR]
[--only NAME] [--folder DIR] [--rule FILE.py:FUNCTION] [--metrics-rule …] [--detector …]
[--format latex]``.

PetShop, Cloud-OpsBench and RCD's sock shop (metrics), Nezha (traces), NAB, WSD, AIOPS KPI and UCR's
archive (single series): this
package, the classic rules, trivial baselines and the peers' own packages, in one run, on the same
cases; then what is expected of cases that nobody here has looked at. Then what each kind of
evidence is worth, and what becomes of the answers when data is lost or a constant is another one.
Written as markdown and as a picture to ``--out``.

DIR holds the folders petshop, cloudopsbench, rcd, nezha, delag, nab, wsd, aiops and ucr, or some of
them: `aiops_lab.datasets.load` reads them. ``--folder`` compares on a data set of
your own, which `aiops_lab.datasets.read_folder` reads. Without ``--data`` it is what
AIOPS_LAB_DATA names, or ../shared/data beside the project. Without data it says where to get it
(exit 2).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from aiops_lab import datasets
from aiops_lab.datasets.cases import Case, Dataset, MetricsCase, SeriesCase, SpansCase
from aiops_lab.datasets.delag import DelayCase
from aiops_lab.datasets.nezha import TracesCase
from aiops_lab.known_names import UnknownNameWarning
from benchmarks import (
    _ablation_evidence,
    _ablation_metrics,
    _ablation_series,
    _ablation_shops,
    _ablation_traces,
    _delag,
    _faults,
    _groups,
    _labelled,
    _metrics,
    _peers,
    _petshop,
    _saved,
    _series,
    _spans,
)
from benchmarks._data import data_folder, data_parser, folder_of, is_at_hand
from benchmarks._expected import expected
from benchmarks._own import Own, check_asked, read_own
from benchmarks._tables import Grid, Shown, Table, latex, markdown, picture

SEEN_DAYS = ("OnlineBoutique_2022-08-22", "TrainTicket_2023-01-29")
SEEN_SERIES = ("artificialNoAnomaly", "artificialWithAnomaly", "realAdExchange", "realTraffic")
Kind = TypeVar("Kind", bound=Case)
# the comparison, and what makes the tables of parts
Both = tuple[list[Table], Callable[[], list[Table]]]
NOBODY = Own()  # no method of the user
THESE, OTHERS, PARTLY = "these cases", "other cases", "a part of these"
SEEN, FRESH = "seen while tuning", "not seen while tuning"
YOURS = "a data set of your own"
COMPARED = "accuracy"  # what the tables of the comparison are called in `--out`


# of each set of labelled series, what of it was looked at: all that lies beside the project
SEEN_LABELLED = {
    "wsd": """100 103 115 118 12 124 135 136 150 153 165 180 192 193 195 23 24 26 49 53 55 63 64 78
        80 91 95""",
    "aiops": """847e8ecc-f8d2-3a93-9107-f367a0aab37d adb2fde9-8589-3f5b-a410-5fe14386c7af
        da10a69f-d836-3baa-ad40-3e548ecf1fbd f0932edd-6400-3e63-9559-0a9860a1baa9
        ffb82d38-5f00-37db-abc0-5d2e4e4cb6aa""",
}
SEEN_RECORDINGS = {
    "delag_eshopper": """001 002 005 007 009 011 012 015 016 022 027 031 033 037 038 039 040 042 043
        047 048 049 063 065 069 070 073 075 077 078 079 080 084 086 087 089 093 096 097 099""",
    "delag_trainticket": """000 002 004 005 006 008 012 013 015 021 022 028 032 033 034 035 037 038
        041 045 047 051 054 055 057 058 059 060 062 063 068 069 070 071 072 074 077 078 079 080""",
}
SEEN_POINTS = 30_000  # of UCR's archive, a part of the series that are no longer


def seen(name: str, case: Case) -> bool:
    """Return whether this package's constants were chosen while looking at the case.

    Of UCR's archive a series counts as seen if it is short enough to have been.
    """
    if isinstance(case, SeriesCase) and name == "ucr":
        return len(case.values) <= SEEN_POINTS
    if isinstance(case, DelayCase):
        _, recording, _ = case.name.split("/")
        return recording in SEEN_RECORDINGS.get(case.group, "").split()
    if name in SEEN_LABELLED:
        return case.name.partition("/")[2] in SEEN_LABELLED[name].split()
    if isinstance(case, MetricsCase):
        return "/train/" in case.name if name == "petshop" else _metrics.seen(case)
    return case.group in (SEEN_DAYS if name == "nezha" else SEEN_SERIES)


def parts(name: str, cases: Sequence[Kind]) -> Iterator[tuple[str, list[Kind], str]]:
    """Return the cases that were seen while tuning and those that were not: title, cases, what was
    tuned on.
    """
    known = [case for case in cases if seen(name, case)]
    fresh = [case for case in cases if not seen(name, case)]
    if known:
        yield SEEN, known, THESE
    if fresh:
        yield FRESH, fresh, OTHERS
    if known and fresh and name == "nab":
        yield "all", list(cases), PARTLY


def cases_of(kind: type[Kind], name: str, folder: Path | None, **options: Any) -> list[Kind]:
    """Return the cases of a data set that are of a kind, in its order; `options` go to the
    reader.
    """
    return [case for case in datasets.load(name, folder, **options) if isinstance(case, kind)]


def petshop(folder: Path | None, progress: bool, own: Own = NOBODY) -> Both:
    """Return the comparison on PetShop, and how to make the ablation."""
    cases = cases_of(MetricsCase, "petshop", folder)
    peers = (*own.on_petshop, *_peers.on_metrics())
    tables = [_petshop.table(part, some, on, peers) for part, some, on in parts("petshop", cases)]
    return tables, lambda: _ablation_metrics.petshop(
        [c for c in cases if seen("petshop", c)], progress
    )


def nezha(folder: Path | None, progress: bool, own: Own = NOBODY) -> Both:
    """Return the comparison on Nezha: each day by traces alone, and where there are logs by
    everything.
    """
    tables: list[Table] = []
    known: dict[str, Sequence[TracesCase]] = {}
    for logs in (False, True):
        loaded = cases_of(TracesCase, "nezha", folder, logs=logs)
        for day in sorted({case.group for case in loaded}):
            if logs and not _has_logs(loaded, day):
                continue
            (part, cases, on), *_ = parts("nezha", [case for case in loaded if case.group == day])
            mine = () if logs else own.rules
            tables.append(_faults.table(part, cases, on, logs, progress=progress, own=mine))
            if part == SEEN:
                known[f"{day.partition('_')[0]}, {'all' if logs else 'traces'}"] = cases
    tables[-1].notes.append(_faults.PUBLISHED)
    return tables, lambda: [
        *_ablation_traces.nezha(known, progress),
        _ablation_shops.table(progress),
    ]


def _has_logs(cases: Sequence[TracesCase], day: str) -> bool:
    return any((case.normal["kind"] == "log").any() for case in cases if case.group == day)


def nab(folder: Path | None, progress: bool, own: Own = NOBODY) -> Both:
    """Return the comparison on NAB."""
    cases = cases_of(SeriesCase, "nab", folder)
    tables = [
        _series.table(part, some, on, progress, own=own.on_nab)
        for part, some, on in parts("nab", cases)
    ]
    return tables, lambda: _ablation_series.nab([c for c in cases if seen("nab", c)], progress)


def labelled(name: str, folder: Path | None, progress: bool, own: Own = NOBODY) -> Both:
    """Return the comparison on a set of labelled series."""
    cases = cases_of(SeriesCase, name, folder)
    table = _labelled.highest if name == "ucr" else _labelled.events
    tables = [
        table(name, part, some, on, progress, own=own.on_labelled)
        for part, some, on in parts(name, cases)
    ]
    known = [case for case in cases if seen(name, case)]
    if name == "ucr":
        return tables, list
    return tables, lambda: _ablation_series.labelled(_labelled.TITLES[name], known, progress)


def metrics(name: str, folder: Path | None, progress: bool, own: Own = NOBODY) -> Both:
    """Return the comparison on a set of faults that are told by metrics of any kind."""
    cases = cases_of(MetricsCase, name, folder)
    title = _metrics.TITLES[name]
    tables = [
        _metrics.table(title, part, some, on, own.on_metrics)
        for part, some, on in parts(name, cases)
    ]
    known = [case for case in cases if seen(name, case)]
    return tables, lambda: [_ablation_evidence.table(title, known, progress)] if known else []


def delag(folder: Path | None, progress: bool, own: Own = NOBODY) -> Both:
    """Return the comparison on DeLag; its two systems lie in folders of their own."""
    places: list[Path | None] = [folder]
    if folder is not None and not folder.is_dir():
        places = [*sorted(folder.parent.glob(f"{folder.name}_*"))] or places
    cases: list[DelayCase] = []
    for place in places:
        cases += cases_of(DelayCase, "delag", place)
    tables = [
        _delag.table(part, some, on, progress, own=own.rules)
        for part, some, on in parts("delag", cases)
    ]
    return tables, list


SETS: dict[str, Callable[..., Both]] = {
    "petshop": petshop,
    "nezha": nezha,
    "delag": delag,
    "nab": nab,
    "cloudopsbench": partial(metrics, "cloudopsbench"),
    "rcd": partial(metrics, "rcd"),
    "wsd": partial(labelled, "wsd"),
    "aiops": partial(labelled, "aiops"),
    "ucr": partial(labelled, "ucr"),
}

SLOW = ("delag",)
"""The sets that `--quick` leaves out: four minutes of processor time."""

# of each set, what its cases are
KINDS: dict[str, type[Case]] = dict.fromkeys(SETS, SeriesCase) | {
    "nezha": TracesCase,
    "delag": DelayCase,
    **dict.fromkeys(("petshop", "cloudopsbench", "rcd"), MetricsCase),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and save all tables; return 2 where there is no data."""
    parser = data_parser("accuracy", __doc__)
    parser.add_argument(
        "--only", choices=sorted(SETS), action="append", help="this data set (repeat for more)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="only compare: no parts removed, no data lost"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a data set of your own, a folder with manifest.json or manifest.toml, instead of the "
        "public ones (repeat for more; with --only: as well)",
    )
    parser.add_argument(
        "--rule",
        action="append",
        default=[],
        metavar="FILE.py:FUNCTION",
        help="a rule of your own on spans, f(reference, abnormal) -> list of Suspect, or "
        "module:function; takes part in the tables of Nezha by traces alone and of --folder",
    )
    parser.add_argument(
        "--metrics-rule",
        action="append",
        default=[],
        metavar="FILE.py:FUNCTION",
        help="a rule of your own on metrics, f(normal, abnormal, calls, target) -> list of Suspect "
        "or of names; takes part in the tables of PetShop, Cloud-OpsBench, RCD and of --folder",
    )
    parser.add_argument(
        "--detector",
        action="append",
        default=[],
        metavar="FILE.py:FUNCTION",
        help="a detector of your own on single series, f(values) -> scores; it alarms from its "
        "attribute threshold on (default: 0.5); takes part in the tables of NAB, WSD, AIOPS, UCR",
    )
    parser.add_argument(
        "--format",
        choices=("markdown", "latex"),
        default="markdown",
        help="of the tables that are printed; latex also writes .tex files",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("accuracy"),
        metavar="FOLDER",
        help="of tables and pictures",
    )
    asked = parser.parse_args(arguments)
    if asked.out.exists() and not asked.out.is_dir():
        # better now than after ten minutes
        parser.error(f"--out must be a folder, got {asked.out}")
    try:
        return _run(asked)
    except (ValueError, FileNotFoundError) as error:
        print(f"{parser.prog}: {_as_typed(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130


def _as_typed(message: str) -> str:
    named = ("rule ", "metrics-rule ", "detector ")
    return f"--{message}" if message.startswith(named) else message


def _run(asked: argparse.Namespace) -> int:
    """Compare and save as asked for."""
    root = data_folder(asked.data)
    own = read_own(asked.rule, asked.metrics_rule, asked.detector)
    compared: list[Table] = []
    makers: list[Callable[[], list[Table]]] = []
    absent: list[str] = []
    mine = [datasets.read_folder(folder) for folder in asked.folder]
    names = asked.only or ([] if asked.folder else names_of_all(asked.quick))
    check_asked(own, {type(case) for case in chain(*mine)} | {KINDS[name] for name in names})
    warnings.simplefilter("ignore", UnknownNameWarning)  # read_folder has told
    for dataset in mine:
        compared += folder_tables(dataset, own)
    at_hand = [name for name in names if is_at_hand(name, root)]
    for name in tqdm(names, desc="compared", disable=not at_hand):
        place = folder_of(name, root) if root else None
        tables, ablate = of_set(name, place, own=own)
        compared += tables
        if tables:
            makers.append(ablate)
        else:
            absent.append(name)
    if not compared:
        print(PLACES.format(", ".join(names)), file=sys.stderr)
        return 2
    save(compared, asked.out, COMPARED, _head(absent), asked.format)
    there = [name for name in names if name not in absent]
    _saved.write(compared, _saved.made_with(), there, asked.out / f"{COMPARED}.json")
    if asked.quick:
        return 0
    ablated: list[Table] = []
    for ablate in tqdm(makers, desc="parts removed", disable=not makers):
        ablated += ablate()
    if ablated:
        save(ablated, asked.out, "parts", PARTS_HEAD, asked.format)
    return 0


def names_of_all(quick: bool) -> list[str]:
    """Return the sets to compare on; `quick`: without those that take minutes."""
    return [name for name in SETS if not (quick and name in SLOW)]


def folder_tables(dataset: Dataset, own: Own = NOBODY) -> list[Table]:
    """Return the comparison on a data set of your own: a table of its spans, one of its metrics."""
    spans = [case for case in dataset if isinstance(case, SpansCase)]
    told = [case for case in dataset if isinstance(case, MetricsCase)]
    tables = [_spans.table(f"{dataset.name}: spans", spans, own.rules)] if spans else []
    title = f"{dataset.name}: metrics"
    if told:
        tables.append(_metrics.table(title, YOURS, told, OTHERS, own.on_metrics))
    return tables


def grids(tables: Sequence[Table]) -> list[Grid]:
    """Return by system and kind of fault what the tables hold whose cases are right or wrong."""
    by_title: dict[str, list[Table]] = {}
    for table in tables:
        if table.right:
            by_title.setdefault(table.title, []).append(table)
    found = [_groups.grid(f"{title}, by system and kind", some) for title, some in by_title.items()]
    together = _groups.overall(tables)
    beside = [table.beside for table in tables if table.beside is not None]
    return [*found, *beside, *([together] if together else [])]


def of_set(name: str, folder: Path | None, progress: bool = True, own: Own = NOBODY) -> Both:
    """Return the tables of a data set; none where it is missing, and say how to get it."""
    try:
        return SETS[name](folder, progress, own)
    except (FileNotFoundError, ImportError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return [], list


def save(
    tables: Sequence[Table], folder: Path, name: str, head: str, form: str = "markdown"
) -> None:
    """Print the tables, and write them to `folder` as markdown and as a picture; with `form` latex
    also as LaTeX.
    """
    held = expected(tables) if name == COMPARED else None
    shown: list[Shown] = [*tables, *grids(tables), *([held] if held else [])]
    text = markdown(shown, head)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    picture(tables).savefig(folder / f"{name}.png", dpi=110)
    endings = ["md", "png"]
    answers = _groups.answers(tables)
    if not answers.empty:
        answers.to_csv(folder / f"{name}.csv", index=False)
        endings.append("csv")
    if form == "latex":
        text = latex(shown)
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")
        endings.append("tex")
    print(text)
    print(f"written: {', '.join(f'{folder / name}.{ending}' for ending in endings)}\n")


def _head(absent: Sequence[str] = ()) -> str:
    lines = [
        "# On public data",
        "Made by `python -m benchmarks.accuracy`. Shares with Wilson's 95 % interval, NAB's score "
        "with a bootstrap "
        "over files; CPU seconds of this process, compiling left out. *Tuned on*: what the "
        "constants of a method were "
        "chosen on; nothing: as published, or the defaults of its package.",
        f"{_saved.made_with()}.",
        *[f"Not run, as its data or what reads it is not at hand: {name}." for name in absent],
        *_peers.missing(tuple(_peers.INSTALL)),
    ]
    return "\n\n".join(lines)


PLACES = (
    "then put each, or some, into one folder DIR under its name ({}), and give --data DIR; "
    "docs/your_own_data.md has a table of them"
)

PARTS_HEAD = """# What each part is worth

Made by `python -m benchmarks.accuracy`: one part of a method removed at a
time; then data lost, and constants changed.
All of it on cases that were seen while tuning."""


if __name__ == "__main__":
    sys.exit(main())
