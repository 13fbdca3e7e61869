"""Who is right on which system and kind of fault, and what does picking by the pooled table cost?

The regret of a method on a system is the share of the best method there less its own. Whoever picks
the method that is best over all cases has its regret on each system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from benchmarks._tables import Grid, Table, share

BARO = "BARO"  # a table without it is no comparison of root causes by numbers
ALIKE = {"mean z over metrics": "z", "total z": "z"}  # the z-score of each set
TOLD = "always the same"  # it knows the answers, so nobody can pick it
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


def grid(title: str, tables: Sequence[Table]) -> Grid:
    """Return the shares by system and by system and kind, a column a method, with intervals, and
    the regret of each method.
    """
    return grid_of(title, judgements(tables))


def grid_of(title: str, judged: pd.DataFrame) -> Grid:
    """Return the same of cases: columns system, kind, and of each method whether it was right; the
    first method is this package's.
    """
    methods = list(judged.columns[2:])
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
    return Grid(title, frame, [_told(judged, regrets)])


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
    return grid_of("Root causes, all sets and systems", together)


def _cells(cases: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    n = len(cases)
    return [str(n), *(_cell(int(cases[name].sum()), n) for name in methods)]


def _cell(k: int, n: int) -> str:
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


def _told(judged: pd.DataFrame, regrets: pd.DataFrame) -> str:
    ours = str(judged.columns[2])
    first = pooled_best(judged)
    simple = pooled_best(judged, [ours])
    rivals = regret(judged.drop(columns=ours))[simple]
    text = (
        f"Best over all cases: {first}. Picked for that, it costs "
        f"{regrets[first].mean():.0f} points on the mean system and {regrets[first].max():.0f} on "
        f"the worst ({regrets[first].idxmax()})."
    )
    if first == ours:
        text += (
            f" Without this package it would be {simple}, which lies {rivals.mean():.0f} points "
            f"below the best of the others on the mean system and {rivals.max():.0f} on the worst "
            f"({rivals.idxmax()})."
        )
    return text
