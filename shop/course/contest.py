"""What the capstone works with: hidden incidents, tables by endpoint, and the reader beside the
rules.
"""

from __future__ import annotations

from codecs import decode
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from aiops_lab.explain.rules import RULES, RankingRule
from aiops_lab.results import Suspect
from aiops_lab.traces.trees import self_time
from shop.catalogue import SCENARIOS
from shop.course.cases import LessonCase
from shop.course.guesses import read_guesses
from shop.course.waiting import somebody_waits
from shop.experiments import leaderboard
from shop.virtual_time.scenario import Scenario

KEY = ["service", "endpoint"]

_MEANS = {"duration_ms": "ms", "own_ms": "own_ms", "failed": "failed", "calls": "calls"}


def deciphered(names: Mapping[str, str]) -> dict[str, Scenario]:
    """Return scenarios whose names are written in rot13."""
    return {letter: SCENARIOS[decode(name, "rot13")] for letter, name in names.items()}


def by_endpoint(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row an endpoint: requests a second (per_s), mean duration (ms), mean self time
    (own_ms), share that failed, and how many calls a request makes.
    """
    served = frame[frame["kind"] == "server"]
    made = frame.loc[frame["kind"] == "client", "parent_id"].value_counts()
    columns = {"own_ms": self_time(frame), "failed": served["status"] >= 500}
    calls = served["span_id"].map(made).fillna(0)
    groups = served.assign(**columns, calls=calls).groupby(KEY, observed=True)
    means = groups[[*_MEANS]].mean().rename(columns=_MEANS)
    seconds = (frame["start"].max() - frame["start"].min()).total_seconds()
    means.insert(0, "per_s", groups.size() / seconds)
    return means


def usual_and_now(case: LessonCase) -> pd.DataFrame:
    """Return the table by endpoint: each column as usual, and now."""
    tables = {"usual": by_endpoint(case.usual.frame), "now": by_endpoint(case.now)}
    both = pd.concat(tables, axis=1).swaplevel(axis=1)
    return both[tables["usual"].columns].droplevel("service").round(2)


def marks(
    cases: Mapping[str, LessonCase], hidden: Mapping[str, Scenario], rules: Iterable[str]
) -> pd.DataFrame:
    """Return what rules make of incidents: a row a rule, a column an incident.

    "all": exactly the true causes are named, or where there is none, nobody; "first": the first
    suspect is a true cause, but others are named or missing; "wrong" and "silent".
    """
    rows = {rule: _marks(rule, cases, hidden) for rule in rules}
    return pd.DataFrame.from_dict(rows, orient="index")


def _marks(
    rule: str, cases: Mapping[str, LessonCase], hidden: Mapping[str, Scenario]
) -> dict[str, str]:
    named = {letter: RULES[rule](case.usual, case.now) for letter, case in cases.items()}
    return {letter: _mark(suspects, hidden[letter]) for letter, suspects in named.items()}


def _mark(suspects: list[Suspect], scenario: Scenario) -> str:
    keys = [suspect.key for suspect in suspects]
    if set(keys) == set(scenario.causes):
        return "all"
    if not keys:
        return "silent"
    return "first" if keys[0] in scenario.causes else "wrong"


def my_marks(asked: Mapping[str, str]) -> pd.Series:
    """Return the marks of the reader's own guesses: "all", "wrong", or "?" where none is stored.

    `asked`: the id of the question, by incident.
    """
    guesses = read_guesses()
    found = {letter: guesses.get(name) for letter, name in asked.items()}
    words = {True: "all", False: "wrong"}
    return pd.Series({k: words[guess.right] if guess else "?" for k, guess in found.items()})


def runs_of(
    rules: Mapping[str, RankingRule | Callable], names: Iterable[str], seeds: Iterable[int]
) -> pd.DataFrame:
    """Return the runs of rules on scenarios of the catalogue: a row a rule and run, as the
    leaderboard has them.
    """
    told = {name: SCENARIOS[name] for name in names}
    board = leaderboard.play(
        told, seeds, rules, pipeline=False, sizes=False, jobs=1, progress=somebody_waits()
    )
    return board.runs
