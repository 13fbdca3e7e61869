"""Golden verdicts: what the analysis says today of many runs, so that a refactoring changes none.

``python -m tests.support.golden --write`` writes them to tests/golden/.
``python -m tests.support.golden`` computes all of them again and prints each difference.

Three suites, a file each:

recordings  those in data/: what a replay finds, and who is ranked with the windows given
catalogue   the scenarios of the shop on two seeds: the same
worlds      a fault somewhere in random shops: who is ranked

The files have words of their own. `neutral` alone knows what the package calls these things.
A verdict of theirs is plain data: numbers, text, lists and dicts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import pandas as pd
from tqdm import tqdm

from aiops_lab import read_spans
from aiops_lab.detect.incidents import Incident
from aiops_lab.explain.ledger import compare as compared_with
from aiops_lab.explain.ranking import rank_by_deviations, rank_suspects
from aiops_lab.explain.reference import learn
from aiops_lab.explain.verdict import build_verdict
from aiops_lab.replaying import replay
from aiops_lab.results import Anomaly, Suspect
from shop.catalogue import SCENARIOS
from shop.recordings import read_truth
from shop.virtual_time.random_topology import anywhere, layered
from shop.virtual_time.scenario import BEGIN_NS, Scenario
from shop.virtual_time.simulate import virtual
from shop.virtual_time.twins import as_of, windows_of

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data"
GOLDEN = ROOT / "tests" / "golden"

TOLERANCE = 1e-9
"""Numbers may differ by this much, relatively or absolutely."""
SEEDS = 1, 2
SIZES = 5, 10, 20, 30, 50
WORLDS = 50

Plain = dict[str, Any]


# ---- the adapter: the package's words on the right, those of the files on the left

LEDGER = {
    "entry": "entry",
    "account": "account",
    "service": "service",
    "endpoint": "endpoint",
    "attributed_to": "attributed_to",
    "unit": "unit",
    "masked": "masked",
    "usual": "usual",
    "now": "now",
    "reassigned": "reassigned",
    "excess": "excess",
    "se": "se",
    "cost": "cost",
    "noise": "noise",
}


def neutral(thing: Suspect | Anomaly | Incident | Mapping[str, Any]) -> Plain:
    """Return a suspect, an anomaly, an incident or a row of a ledger in the words of the files."""
    match thing:
        case Suspect():
            return {
                "service": thing.service,
                "endpoint": thing.endpoint,
                "name": thing.name,
                "score": thing.score,
                "share": thing.share,
                "confidence": thing.confidence,
                "support": list(thing.support),
                "by": thing.by,
                "evidence_rows": len(thing.evidence),
            }
        case Anomaly():
            return {
                "type": thing.type,
                "service": thing.service,
                "endpoint": thing.endpoint,
                "window": moment(thing.window),
                "end": moment(thing.end),
                "severity": thing.severity,
            }
        case Incident():
            return {
                "id": thing.id,
                "status": thing.status,
                "severity": thing.severity,
                "first_detected": moment(thing.first_detected),
                "started": moment(thing.started),
                "last_anomaly": moment(thing.last_anomaly),
                "recurrence_of": thing.recurrence_of,
                "bad_traces": thing.verdict.total_traces,
                "affected": thing.affected_endpoints,
                "suspects": list(map(neutral, thing.suspects)),
                "ledger": columns(thing.verdict.ledger),
                "anomalies": list(map(neutral, thing.anomalies)),
            }
        case _:
            return {ours: thing[theirs] for ours, theirs in LEDGER.items()}


# ---- what is pinned of a run


def moment(when: pd.Timestamp) -> str:
    """Return a time to the nanosecond."""
    return when.isoformat()


def columns(rows: tuple[Mapping[str, Any], ...] | list[Plain]) -> Plain:
    """Return the rows of a ledger by column."""
    told = list(map(neutral, rows))
    return {name: [row[name] for row in told] for name in LEDGER}


def ranked(normal: pd.DataFrame, abnormal: pd.DataFrame) -> Plain:
    """Return the suspects, the affected endpoints and the ledger where the windows are given.

    Hardly a run is so weak that the deviations speak: what they would say is pinned for all.
    """
    comparison = compared_with(learn(normal), abnormal)
    suspects = rank_suspects(comparison)
    return {
        "suspects": list(map(neutral, suspects)),
        "by_deviations": list(map(neutral, rank_by_deviations(comparison))),
        "affected": list(build_verdict(comparison, suspects).affected),
        "ledger": columns(comparison.ledger.rows.to_dict("records")),
    }


def found(frame: pd.DataFrame) -> Plain:
    """Return what a replay with the defaults finds."""
    report = replay(frame)
    return {
        "windows": len(report.windows),
        "anomalies": len(report.anomalies),
        "incidents": list(map(neutral, report.incidents)),
    }


def of_recording(name: str) -> Plain:
    """Return what is said of a recording in data/; without a window, each fault is one."""
    path = DATA / f"{name}.csv.gz"
    frame, truth = read_spans(path), read_truth(path)
    each_fault = list(zip(truth["start"], truth["end"], strict=True))
    windows = [truth.attrs["window"]] if "window" in truth.attrs else each_fault
    calm = min(truth["start"].min(), windows[0][0])
    normal = over_before(frame, calm)
    told = [ranked(normal, as_of(frame, *map(seconds_of, window))) for window in windows]
    return {"replay": found(frame), "ranked": told}


def over_before(frame: pd.DataFrame, calm: pd.Timestamp) -> pd.DataFrame:
    """Return the traces of which all spans had ended before a moment."""
    took = pd.to_timedelta(frame["duration_ms"], unit="ms")
    over = (frame["start"] + took < calm).groupby(frame["trace_id"]).transform("all")
    return frame[over].reset_index(drop=True)


def seconds_of(when: pd.Timestamp) -> float:
    """Return the virtual second of a time."""
    return (when - pd.Timestamp(BEGIN_NS, unit="ns", tz="UTC")).total_seconds()


def of_scenario(scenario: Scenario, seed: int) -> Plain:
    """Return what is said of one run of a scenario."""
    frame = virtual(scenario, seed, progress=False)
    return {"replay": found(frame), "ranked": [ranked(*windows_of(scenario, frame))]}


def of_world(seed: int) -> Plain:
    """Return what is said of a fault somewhere in a random shop."""
    scenario = world(seed)
    frame = virtual(scenario, seed, progress=False)
    return {"scenario": scenario.name, "ranked": [ranked(*windows_of(scenario, frame))]}


def world(seed: int) -> Scenario:
    """Return a fault somewhere in a random shop; the sizes take turns."""
    return anywhere(layered(SIZES[seed % len(SIZES)], seed), seed)


# ---- the cases


class Case(NamedTuple):
    """One run, and how to compute what is pinned of it."""

    suite: str
    name: str
    compute: Callable[[], Plain]


def cases() -> list[Case]:
    """Return all cases."""
    recordings = sorted(path.name.removesuffix(".csv.gz") for path in DATA.glob("*.csv.gz"))
    every = [Case("recordings", name, partial(of_recording, name)) for name in recordings]
    for seed in SEEDS:
        for name, scenario in SCENARIOS.items():
            compute = partial(of_scenario, scenario, seed)
            every.append(Case("catalogue", f"{name}, seed {seed}", compute))
    every += [Case("worlds", f"seed {seed}", partial(of_world, seed)) for seed in range(WORLDS)]
    return every


def few_cases() -> list[Case]:
    """Return those that `make test` computes: all recordings, and some of the others."""
    suites: dict[str, list[Case]] = {}
    for case in cases():
        suites.setdefault(case.suite, []).append(case)
    third = suites["catalogue"][: len(SCENARIOS) : 3]
    return suites["recordings"] + third + suites["worlds"][:8]


# ---- comparing


class Difference(NamedTuple):
    """One value that is not as it was: in which case, where in it, what was and what is.

    ``names`` says what lies at the path: of a ledger the row, else an incident, suspect or anomaly.
    """

    name: str
    path: str
    expected: object
    got: object
    names: str = ""

    def __str__(self) -> str:
        place = f"{self.path} ({self.names})" if self.names else self.path
        return f"{self.name}: {place}: expected {self.expected!r}, got {self.got!r}"


class Missing:
    """The value at a path that only the other side has."""

    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each value of plain data with its path, and each list or dict with its length."""
    if isinstance(value, dict | list):
        yield f"{path}.length" if path else "length", len(value)
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{index}]")
    else:
        yield path, value


ROW = ("entry", "account", "unit", "masked")
KEYS = (("id",), ("name",), ("type", "endpoint"))  # the first of these that is there names a dict


def names_at(path: str, told: object) -> str:
    """Return the names of what lies on a path, for example of the row of a ledger."""
    names: list[str] = []
    table: Plain = {}
    value = told
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict):
            table = value
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            if table.keys() >= set(ROW):
                names += [f"{name} {table[name][int(step)]}" for name in ROW]
            value = value[int(step)]
            names += key_of(value)
    return ", ".join(names)


def key_of(value: object) -> list[str]:
    """Return what names a dict among others of its kind, nothing for other values."""
    if not isinstance(value, dict):
        return []
    keys = (key for key in KEYS if value.keys() >= set(key))
    return [str(value[name]) for name in next(keys, ())]


def same(expected: object, got: object) -> bool:
    """Return whether two values are equal, numbers to the tolerance."""
    if not (number(expected) and number(got)):
        return type(expected) is type(got) and expected == got
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    return math.isclose(expected, got, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number, which a truth value is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def compared(case: Case) -> tuple[int, list[Difference]]:
    """Return how many values of a case were compared, and those that differ."""
    name = f"{case.suite}/{case.name}"
    was = stored(case.suite).get(case.name, {})
    told = plain(case.compute())
    expected = dict(leaves(was))
    got = dict(leaves(told))
    paths = list(dict.fromkeys([*expected, *got]))
    pairs = ((path, expected.get(path, MISSING), got.get(path, MISSING)) for path in paths)
    return len(paths), [
        Difference(name, *pair, names_at(pair[0], was) or names_at(pair[0], told))
        for pair in pairs
        if not same(*pair[1:])
    ]


def plain(told: Plain) -> Plain:
    """Return a verdict as it comes back from a file."""
    return json.loads(json.dumps(told))


# ---- the files


@cache
def stored(suite: str) -> dict[str, Plain]:
    """Return what was pinned, by the name of the case."""
    return json.loads(gzip.decompress(file_of(suite).read_bytes()))


def file_of(suite: str) -> Path:
    """Return the file of a suite."""
    return GOLDEN / f"{suite}.json.gz"


def packed(told: Mapping[str, Plain]) -> bytes:
    """Return the bytes of a file: the same for the same verdicts."""
    text = json.dumps(told, separators=(",", ":"), ensure_ascii=True)
    return gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)


def write(every: list[Case]) -> int:
    """Return the size in bytes of all files, written anew."""
    suites: dict[str, dict[str, Plain]] = {}
    for case in progress(every):
        suites.setdefault(case.suite, {})[case.name] = plain(case.compute())
    GOLDEN.mkdir(exist_ok=True)
    return sum(file_of(suite).write_bytes(packed(told)) for suite, told in suites.items())


# ---- the command


def progress(every: list[Case]) -> Iterator[Case]:
    """Yield each case, with a bar on a terminal."""
    return iter(tqdm(every, unit="case", disable=None))


def compare(every: list[Case]) -> int:
    """Return the exit status: 0 where nothing differs, and each difference is printed."""
    count, differences = 0, list(unexpected(every))
    for case in progress(every):
        values, more = compared(case)
        count += values
        differences += more
    for difference in differences:
        print(difference)
    print(f"{count:,} values of {len(every)} cases compared, {len(differences):,} differ")
    return 1 if differences else 0


def unexpected(every: list[Case]) -> Iterator[Difference]:
    """Yield what was pinned of cases that are no more."""
    there = {(case.suite, case.name) for case in every}
    for suite in dict.fromkeys(case.suite for case in every):
        for name in stored(suite):
            if (suite, name) not in there:
                yield Difference(f"{suite}/{name}", "", "a verdict", MISSING)


def main(words: list[str] | None = None) -> int:
    """Return the exit status of the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.golden", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--write", action="store_true", help="write the files anew")
    if not parser.parse_args(words).write:
        return compare(cases())
    every = cases()
    print(f"{len(every)} cases, {write(every):,} bytes in {GOLDEN.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
