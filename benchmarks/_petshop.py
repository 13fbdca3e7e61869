"""Root cause on metrics: PetShop. Who comes first, who stays silent on normal windows, what do lost
edges do?

The windows without a fault are the second half of the normal recording, five rows each, one after
the other, with the first half as what is usual. Silent is an empty answer, or a first suspect that
its method does not vouch for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

import aiops_lab as lab
from aiops_lab.datasets.cases import MetricsCase
from aiops_lab.datasets.petshop import FALLBACK, ISSUE_ROWS
from aiops_lab.explain.metrics import MetricsConfig
from benchmarks._tables import Asked, Row, Table, share

# share of the edges that are withheld, and how often another tenth is drawn
DROPPED, DRAWS = 0.1, 5
HALF = 0.5  # the confidence from which this package vouches for a suspect
SIGMAS = 3.0

Calls = list[tuple[str, str]]


class Answer(NamedTuple):
    """The first suspect ("": none), and whether the method vouches for it."""

    node: str
    speaks: bool = True


SILENT = Answer("", False)
Ask = Callable[[pd.DataFrame, pd.DataFrame, Calls, dict[str, Any]], Answer]


class Method(NamedTuple):
    """A method to compare; without `whole` it only answers the issues, because it is slow."""

    name: str
    family: str
    ask: Ask
    tuned: str = "nothing"
    whole: bool = True


# ---- who answers


def this_package(
    normal: pd.DataFrame,
    abnormal: pd.DataFrame,
    calls: Calls,
    target: dict[str, Any],
    *,
    config: MetricsConfig | None = None,
) -> Answer:
    """Ask `rank_from_metrics`."""
    return first_of(lab.rank_from_metrics(normal, abnormal, calls, target, config=config))


def first_of(suspects: Sequence[lab.Suspect]) -> Answer:
    """Return the first suspect, which this package vouches for from `HALF` on."""
    if not suspects:
        return SILENT
    first = suspects[0]
    return Answer(first.service, first.score > 0 and first.confidence >= HALF)


def always(node: str) -> Ask:
    """Return a method that knows one answer."""
    return lambda normal, abnormal, calls, target: Answer(node)


def the_alarmed(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Blame the node that alarms."""
    return Answer(target["node"])


def at_random(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Draw a node; equal windows, equal draws."""
    rng = np.random.default_rng([int(abnormal.index[0]), len(calls)])
    return Answer(str(rng.choice(sorted(set(abnormal.columns.get_level_values(0))))))


def dearest(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Blame the node with the largest excess, its callees' not subtracted: (cost now - median) x
    requests.
    """
    now, usual = cost_of(abnormal, target["metric"]), cost_of(normal, target["metric"]).median()
    requests = abnormal.xs(("requests", "Sum"), axis=1, level=[1, 2])
    return _first(((now - usual) * requests)[1:].sum())


def baro(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Blame by BARO's robust score: the largest distance from the usual median, in IQRs (doi
    10.1145/3660805).
    """
    now, usual = cost_of(abnormal, target["metric"])[1:], cost_of(normal, target["metric"])
    iqr = usual.quantile(0.75) - usual.quantile(0.25)
    return _first(((now - usual.median()) / iqr.where(iqr > 0, 1.0)).max(), SIGMAS)


def walk_down(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Walk from the alarm into the callee with the largest z, while it is over 3: the "anomaly
    traversal".
    """
    z = _z(normal, abnormal, target["metric"])
    node = target["node"]
    speaks = z.get(node, 0.0) > SIGMAS
    while below := [(z.get(callee, 0.0), callee) for caller, callee in calls if caller == node]:
        if max(below)[0] <= SIGMAS:
            break
        node = max(below)[1]
    return Answer(node, bool(speaks))


def loudest_alarm(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Blame the node with the largest z of the metric that alarms."""
    return _first(_z(normal, abnormal, target["metric"]), SIGMAS)


def deepest_alarm(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Blame the node whose z is over 3 while that of no callee is; of several the one with the
    largest z.
    """
    z = _z(normal, abnormal, target["metric"])
    high = z[z > SIGMAS]
    deepest = [n for n in high.index if not any(a == n and b in high.index for a, b in calls)]
    return _first(high[deepest] if deepest else high, SIGMAS)


def mean_z(
    normal: pd.DataFrame, abnormal: pd.DataFrame, calls: Calls, target: dict[str, Any]
) -> Answer:
    """Blame the node with the largest mean of |z| over all its metrics."""
    deviation = normal.std(ddof=0).clip(lower=1e-9)
    z = ((abnormal[1:].mean() - normal.mean()) / deviation).abs()
    return _first(z.groupby(level=0).mean(), SIGMAS)


def _z(normal: pd.DataFrame, abnormal: pd.DataFrame, metric: str) -> pd.Series:
    """Return by how many standard deviations the cost of a request rose at each node."""
    now, usual = cost_of(abnormal, metric)[1:].max(), cost_of(normal, metric)
    return ((now - usual.mean()) / usual.std(ddof=0).clip(lower=1e-9)).dropna()


def cost_of(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the cost of a request by interval and node: latency (s), or the share of failures."""
    values = pd.DataFrame(frame.xs((metric, "Average"), axis=1, level=[1, 2]))
    return values if metric == "latency" else 1 - values / 100


def _first(scores: pd.Series, least: float = 0.0) -> Answer:
    scores = scores.dropna().sort_index()
    return SILENT if scores.empty else Answer(str(scores.idxmax()), bool(scores.max() > least))


METHODS = (
    Method("walk down", "classic rule", walk_down),
    Method("BARO", "classic rule", baro),
    Method("deepest alarm", "classic rule", deepest_alarm),
    Method("mean z over metrics", "classic rule", mean_z),
    Method("loudest alarm", "baseline", loudest_alarm),
    Method("largest excess", "baseline", dearest),
    Method("the alarmed node", "baseline", the_alarmed),
    Method("random", "baseline", at_random),
)


# ---- how they are judged


class Judged(NamedTuple):
    """What a method made of the cases: right of asked, with edges dropped, silent windows of all,
    CPU s an issue; whether it was right on each issue.
    """

    right: tuple[int, int]
    dropped: tuple[int, int]
    silent: tuple[int, int]
    cpu_s: float
    each: tuple[bool, ...] = ()


def judge(ask: Ask, cases: Sequence[MetricsCase], whole: bool = True) -> Judged:
    """Return how often a method is right on the issues, and if `whole`, with dropped edges and on
    normal windows.
    """
    begin = time.process_time()
    right = [ask(*question(case)).node == case.truth for case in cases]
    cpu_s = (time.process_time() - begin) / len(cases)
    dropped = (
        [ask(*question(case, calls)).node == case.truth for case, calls in _cut(cases)]
        if whole
        else []
    )
    silent = [not ask(*window).speaks for window in quiet_windows(cases)] if whole else []
    return Judged(_count(right), _count(dropped), _count(silent), cpu_s, tuple(right))


def _count(found: Sequence[bool]) -> tuple[int, int]:
    return sum(found), len(found)


def _cut(cases: Sequence[MetricsCase]) -> Iterator[tuple[MetricsCase, Calls]]:
    """Return each case some times, each time with another tenth of its edges withheld."""
    for number, case in enumerate(cases):
        for draw in range(DRAWS):
            rng = np.random.default_rng([number, draw])
            calls = calls_of(case)
            kept = np.sort(rng.permutation(len(calls))[round(DROPPED * len(calls)) :])
            yield case, [calls[k] for k in kept]


def calls_of(case: MetricsCase) -> Calls:
    """Return the calls of a case that has them."""
    assert case.calls is not None
    return case.calls


def target_of(case: MetricsCase) -> dict[str, Any]:
    """Return the alarm of a case that has one."""
    assert case.target is not None
    return case.target


def question(
    case: MetricsCase, calls: Calls | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, Calls, dict[str, Any]]:
    """Return what a method is asked about a case, with other `calls` than its own if given."""
    known = calls_of(case) if calls is None else calls
    return case.normal, case.abnormal, known, target_of(case)


def quiet_windows(
    cases: Iterable[MetricsCase],
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, Calls, dict[str, Any]]]:
    """Return what to ask about windows without a fault: for each recording and kind of alarm, one
    after the other.
    """
    seen: list[int] = []
    # who borrows a recording comes after its owner
    for case in sorted(cases, key=lambda case: case.group != FALLBACK):
        if id(case.normal) in seen:
            continue
        seen.append(id(case.normal))
        half = len(case.normal) // 2
        usual, calm = case.normal.iloc[:half], case.normal.iloc[half:]
        for metric in ("latency", "availability"):
            for row in range(0, len(calm) - ISSUE_ROWS + 1, ISSUE_ROWS):
                window = calm.iloc[row : row + ISSUE_ROWS]
                alarm = {
                    "node": target_of(case)["node"],
                    "metric": metric,
                    "timestamp": float(window.index[2]),
                }
                yield usual, window, calls_of(case), alarm


def commonest(cases: Iterable[MetricsCase]) -> str:
    """Return the truth of most cases."""
    truths = [case.truth for case in cases]
    return max(sorted(set(truths)), key=truths.count)


def table(
    part: str, cases: Sequence[MetricsCase], tuned: str, peers: Sequence[Method] = ()
) -> Table:
    """Return all methods on the same issues."""
    told = Method("always the same", "baseline", always(commonest(cases)), "the answers")
    asked = (
        Method("aiops_lab", "this package", this_package, tuned),
        *METHODS[:4],
        *peers,
        *METHODS[4:],
        told,
    )
    judged = {method.name: judge(method.ask, cases, method.whole) for method in asked}
    rows = [_row(method, judged[method.name]) for method in asked]
    causes = len({case.truth for case in cases})
    notes = [
        f"{len(cases)} issues with {causes} distinct cause{'s' * (causes > 1)}: see what a "
        "constant answer reaches.",
        f"Edges: {DRAWS} draws an issue, each with another 10 % of the edges withheld; an issue "
        "counts once.",
        "Silent: share of the fault-free windows (five rows, second half of the normal recordings) "
        "without a suspect that the method vouches for; a method that always names somebody "
        "vouches for all.",
        "Published for the 48 test issues, top-1: anomaly traversal 58–67 %, ranked correlation "
        "65 %, CIRCA 40 %, RCD 25 %, random walk 2 % (arXiv 2311.04806, and runs of its code).",
    ]
    return Table(
        "PetShop: metrics and a call graph",
        f"{len(cases)} issues, {part}",
        "top-1, %",
        rows,
        ("with edges dropped, %", "silent, %"),
        notes,
        [Asked(case.group, target_of(case)["metric"]) for case in cases],
        {name: list(found.each) for name, found in judged.items()},
    )


def _row(method: Method, judged: Judged) -> Row:
    # draws of one issue are not independent: an issue counts once
    k, n = (number / DRAWS for number in judged.dropped)
    others = str(share(k, n)) if n else "", str(share(*judged.silent)) if n else ""
    return Row(method.name, method.family, share(*judged.right), judged.cpu_s, method.tuned, others)
