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

_MEANS = {
    "duration_ms": "ms",
    "own_ms": "own_ms",
    "failed": "failed",
    "calls": "calls",
}


def deciphered(names: Mapping[str, str]) -> dict[str, Scenario]:
    """Return scenarios whose names are written in rot13."""
    plain = {letter: decode(name, "rot13") for letter, name in names.items()}
    return {letter: SCENARIOS[name] for letter, name in plain.items()}


def by_endpoint(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row an endpoint: requests a second (per_s), mean duration (ms), mean self time
    (own_ms), share that failed, and how many calls a request makes.
    """
    served = frame[frame["kind"] == "server"]
    is_call = frame["kind"] == "client"
    made = frame.loc[is_call, "parent_id"].value_counts()
    counted = served.assign(
        own_ms=self_time(frame),
        failed=served["status"] >= 500,
        calls=served["span_id"].map(made).fillna(0),
    )
    groups = counted.groupby(KEY, observed=True)
    means = groups[[*_MEANS]].mean()
    means = means.rename(columns=_MEANS)
    lasted = frame["start"].max() - frame["start"].min()
    per_s = groups.size() / lasted.total_seconds()
    means.insert(0, "per_s", per_s)
    return means


def usual_and_now(case: LessonCase) -> pd.DataFrame:
    """Return the table by endpoint: each column as usual, and now."""
    usual = by_endpoint(case.usual.frame)
    now = by_endpoint(case.now)
    both = pd.concat({"usual": usual, "now": now}, axis=1)
    by_column = both.swaplevel(axis=1)[usual.columns]
    return by_column.droplevel("service").round(2)


def marks(
    cases: Mapping[str, LessonCase],
    hidden: Mapping[str, Scenario],
    rules: Iterable[str],
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
    found = {}
    for letter, case in cases.items():
        suspects = RULES[rule](case.usual, case.now)
        found[letter] = _mark(suspects, hidden[letter])
    return found


def _mark(suspects: list[Suspect], scenario: Scenario) -> str:
    named = [suspect.key for suspect in suspects]
    if set(named) == set(scenario.causes):
        return "all"
    if not named:
        return "silent"
    return "first" if named[0] in scenario.causes else "wrong"


def my_marks(asked: Mapping[str, str]) -> pd.Series:
    """Return the marks of the reader's own guesses: "all", "wrong", or "?" where none is stored.

    `asked`: the id of the question, by incident.
    """
    guesses = read_guesses()
    found = {}
    for letter, name in asked.items():
        guess = guesses.get(name)
        if guess is None:
            found[letter] = "?"
        else:
            found[letter] = "all" if guess.right else "wrong"
    return pd.Series(found)


def runs_of(
    rules: Mapping[str, RankingRule | Callable],
    names: Iterable[str],
    seeds: Iterable[int],
) -> pd.DataFrame:
    """Return the runs of rules on scenarios of the catalogue: a row a rule and run, as the
    leaderboard has them.
    """
    board = leaderboard.play(
        {name: SCENARIOS[name] for name in names},
        seeds,
        rules,
        pipeline=False,
        sizes=False,
        jobs=1,
        progress=somebody_waits(),
    )
    return board.runs
