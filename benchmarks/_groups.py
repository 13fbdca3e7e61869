"""Who is right on which system and kind of fault, and what does picking by the pooled table cost?

The regret of a method on a system is the share of the best method there less its own. Whoever picks
the method that is best over all cases has its regret on each system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks._tables import Grid, Table, share

BARO = "BARO"  # a table without it is no comparison of root causes by numbers
Z_OF_EACH_SET = "mean z or total z"
ALIKE = {"mean z over metrics": Z_OF_EACH_SET, "total z": Z_OF_EACH_SET}
ALIKE_NOTE = f"{Z_OF_EACH_SET}: on metrics mean z over metrics, on traces total z."
TOLD = "always the same"  # it knows the answers, so nobody can pick it
RANDOM = "random"
RIVALS = 3  # that are shown of a comparison; the others are told in its notes
FEW = 10  # cases: of fewer an interval says little, and a count says it shorter
RESERVED = {"cases", "system", "kind", *ALIKE.values()}  # columns that are no method


def judgements(tables: Sequence[Table]) -> pd.DataFrame:
    """Return a row a case of the tables: system, kind, and of each method whether it was right.

    A method that was not asked in all tables is left out.
    """
    methods = [name for name in tables[0].right if all(name in t.right for t in tables)]
    frames = []
    for table in tables:
        frame = pd.DataFrame({name: table.right[name] for name in methods})
        systems = [asked.system for asked in table.asked]
        kinds = [asked.kind for asked in table.asked]
        frames.append(frame.assign(system=systems, kind=kinds))
    return pd.concat(frames, ignore_index=True)[["system", "kind", *methods]]


def answers(tables: Sequence[Table]) -> pd.DataFrame:
    """Return a row a case and method of all tables: title, case, system, kind, method, right."""
    frames = []
    for table in tables:
        if table.right:
            mine = judgements([table]).rename_axis("case").reset_index()
            keys = ["case", "system", "kind"]
            long = mine.melt(keys, var_name="method", value_name="right")
            long.insert(0, "table", f"{table.title} ({table.cases})")
            frames.append(long)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def grid(title: str, tables: Sequence[Table]) -> Grid:
    """Return the shares by system and by system and kind, a column a method, with intervals, and
    the regret of each method. Of many rivals the best ones are shown, and those of the user.
    """
    own = [row.method for table in tables for row in table.rows if row.family == "your own"]
    return grid_of(title, judgements(tables), own)


def grid_of(title: str, judged: pd.DataFrame, own: Sequence[str] = ()) -> Grid:
    """Return the same of cases: columns system, kind, and of each method whether it was right; the
    first method is this package's, and `own` are shown in any case.
    """
    methods = shown_methods(judged, own)
    rows = {"all": _cells(judged, methods)}
    for system, mine in judged.groupby("system"):
        rows[f"**{system}**"] = _cells(mine, methods)
        kinds = mine[mine["kind"] != ""].groupby("kind")
        if len(kinds) > 1:
            rows |= {f"{system}, {kind}": _cells(some, methods) for kind, some in kinds}
    regrets = regret(judged)
    rows["regret, mean over systems"] = _points(regrets.mean(), methods)
    rows["regret, worst system"] = _points(regrets.max(), methods)
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["cases", *methods])
    notes = [_regret_told(judged, regrets), _others_told(judged, methods)]
    return Grid(title, frame, [note for note in notes if note])


def shown_methods(judged: pd.DataFrame, own: Sequence[str] = ()) -> list[str]:
    """Return the methods that a grid shows: this package's, the best rivals, those of the user, and
    what a comparison is measured by (random, always the same).
    """
    methods = list(judged.columns[2:])
    fixed = {methods[0], RANDOM, TOLD, *own}
    rivals = [name for name in methods if name not in fixed]
    best_first = judged[rivals].mean().sort_values(ascending=False, kind="stable").index
    kept = fixed.union(best_first[:RIVALS])
    return [name for name in methods if name in kept]


def _others_told(judged: pd.DataFrame, shown: Sequence[str]) -> str:
    """Return what the methods reach that are not shown, "" where all are."""
    others = [name for name in judged.columns[2:] if name not in shown]
    told = [f"{name} {100 * judged[name].mean():.0f}" for name in others]
    return f"Not shown, right of all cases in percent: {', '.join(told)}." if told else ""


def overall(tables: Sequence[Table]) -> Grid | None:
    """Return the systems of all sets in one grid, of the methods that all have; None for fewer than
    two sets.
    """
    sets: dict[str, list[Table]] = {}
    for table in tables:
        if BARO in table.right:
            sets.setdefault(table.title.partition(":")[0], []).append(table)
    if len(sets) < 2:
        return None
    frames = [judgements(some).assign(kind="") for some in sets.values()]
    named = [
        frame.assign(system=name + ", " + frame["system"]).rename(columns=ALIKE)
        for name, frame in zip(sets, frames, strict=True)
    ]
    together = pd.concat(named, join="inner", ignore_index=True)
    found = grid_of("Root causes, all sets and systems", together)
    return Grid(found.title, found.frame, [ALIKE_NOTE, *found.notes])


def _cells(cases: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """Return the number of cases and the share of each method, the best of many cases bold."""
    n = len(cases)
    right = {name: int(cases[name].sum()) for name in methods}
    best = max(k for name, k in right.items() if name != TOLD)
    cells = [str(n)]
    for name, k in right.items():
        is_best = k == best and name != TOLD and n >= FEW
        cells.append(f"**{_cell(k, n)}**" if is_best and k else _cell(k, n))
    return cells


def _cell(k: int, n: int) -> str:
    if n < FEW:
        return f"{k} of {n}"
    estimate = share(k, n)
    return f"{estimate.value:.0f} ({estimate.low:.0f}–{estimate.high:.0f})"


def _points(values: pd.Series, methods: Sequence[str]) -> list[str]:
    return ["", *(f"{values[name]:.0f}" if name in values else "" for name in methods)]


def rates(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the share of right answers in percent, a row a system, a column a method; without the
    method that knows the answers.
    """
    methods = [name for name in judged.columns[2:] if name != TOLD]
    return 100 * judged.groupby("system")[methods].mean()


def regret(judged: pd.DataFrame) -> pd.DataFrame:
    """Return how many points each method lies below the best one, a row a system."""
    found = rates(judged)
    return found.rsub(found.max(axis=1), axis=0)


def pooled_best(judged: pd.DataFrame, without: Iterable[str] = ()) -> str:
    """Return the method that is right on most cases, the first of several."""
    left_out = {TOLD, *without}
    methods = [name for name in judged.columns[2:] if name not in left_out]
    return str(judged[methods].mean().idxmax())


def _regret_told(judged: pd.DataFrame, regrets: pd.DataFrame) -> str:
    """Return what it costs to pick the method that is best over all cases; "" for one system."""
    if len(regrets) < 2:
        return ""
    ours = str(judged.columns[2])
    first = pooled_best(judged)
    told = _picked(first, regrets[first])
    text = f"{told[0].upper()}{told[1:]}."
    if first == ours:
        simple = pooled_best(judged, [ours])
        rivals = regret(judged.drop(columns=ours))
        picked = _picked(simple, rivals[simple])
        text += f" Counted without this package (the rows above count with it): {picked}."
    return text


def _picked(name: str, points: pd.Series) -> str:
    if not points.max():
        return f"none is better than {name} on any system"
    return (
        f"best over all cases is {name}, which lies {points.mean():.0f} points below the best one "
        f"on the mean system and {points.max():.0f} on the worst ({points.idxmax()})"
    )
