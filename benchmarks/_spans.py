"""Root cause on spans of your own: does the first suspect's service stand in the truth?

Each method is asked once a case, with what is usual learned from the case's normal spans.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

import aiops_lab as lab
from aiops_lab.datasets.cases import SpansCase
from aiops_lab.explain.reference import Reference
from aiops_lab.explain.rules import RULES
from benchmarks._metrics import depths
from benchmarks._tables import Asked, Row, Table, share
from shop.experiments.text_tables import many

Ask = Callable[[Reference, pd.DataFrame], str]  # -> service, "": none
YOURS = "your own"  # the family of the user's methods
OURS = "ledger"  # the name of this package's rule among the others
USUAL = 0.95  # quantile of the usual durations above which a span alarms
ALARMED = 3 * (1 - USUAL)  # share of alarming spans from which a service does
FEW = 3  # spans that alarm, at least


class Method(NamedTuple):
    """A method to compare."""

    name: str
    family: str
    ask: Ask
    tuned: str = "nothing"


# ---- who answers


def first_service(rule: Callable[[Reference, pd.DataFrame], list[lab.Suspect]]) -> Ask:
    """Return what asks a rule for the service of its first suspect."""

    def ask(usual: Reference, abnormal: pd.DataFrame) -> str:
        suspects = rule(usual, abnormal)
        return suspects[0].service if suspects else ""

    return ask


def alarms(usual: Reference, abnormal: pd.DataFrame) -> pd.DataFrame:
    """Return a row a service that alarms: ``bad``, its requests that failed or took longer than
    95 % of the usual ones of their endpoint, and ``share``, of all its requests.
    """
    keys = ["service", "endpoint"]
    before = _requests(usual.frame)
    now = _requests(abnormal)
    by_endpoint = before.groupby(keys, observed=True)["duration_ms"]
    limits = by_endpoint.quantile(USUAL).rename("limit")
    now = now.merge(limits.reset_index(), how="left", on=keys)
    slow = now["duration_ms"] > now["limit"]
    failed = (now["status"] >= 500) | now["error"].notna()
    bad = slow | failed
    by_service = bad.groupby(now["service"])
    table = pd.DataFrame({"bad": by_service.sum(), "share": by_service.mean()})
    has_many = table["bad"] >= FEW
    return table[has_many & (table["share"] > ALARMED)]


def _requests(spans: pd.DataFrame) -> pd.DataFrame:
    is_server = spans["kind"] == "server"
    return spans[is_server].astype({"service": object, "endpoint": object})


def loudest_alarm(usual: Reference, abnormal: pd.DataFrame) -> str:
    """Blame the service with the most requests that alarm."""
    bad = alarms(usual, abnormal)["bad"]
    return str(bad.idxmax()) if len(bad) else ""


def deepest_alarm(usual: Reference, abnormal: pd.DataFrame) -> str:
    """Blame the service that alarms while no callee does; of several the furthest from the
    entry.
    """
    alarmed = sorted(alarms(usual, abnormal).index)
    if not alarmed:
        return ""
    graph = lab.service_graph(abnormal, by="service")
    pairs = zip(graph["caller"], graph["callee"], strict=True)
    calls = [(str(caller), str(callee)) for caller, callee in pairs]
    above = {caller for caller, callee in calls if callee in alarmed and callee != caller}
    deepest = [name for name in alarmed if name not in above]
    depth = depths(calls)
    return max(deepest or alarmed, key=lambda name: depth.get(name, 0))


def always(service: str) -> Ask:
    """Return a method that knows one answer."""
    return lambda usual, abnormal: service


ALARMS = (
    Method("loudest alarm", "baseline", loudest_alarm),
    Method("deepest alarm", "classic rule", deepest_alarm),
)


# ---- how they are judged


def methods(cases: Sequence[SpansCase], own: Sequence[Method] = ()) -> list[Method]:
    """Return the methods to compare: this package, those of the user, rules and baselines."""
    services = Counter(sorted(name for case in cases for name in case.truth))
    told = services.most_common(1)[0][0] if services else ""
    classic = [
        Method(name, "baseline" if name == "random" else "classic rule", first_service(rule))
        for name, rule in RULES.items()
        if name != OURS
    ]
    return [
        Method("aiops_lab", "this package", first_service(RULES[OURS])),
        *own,
        *classic,
        *ALARMS,
        Method("always the same", "baseline", always(told), "the answers"),
    ]


def is_right(answer: str, case: SpansCase) -> bool:
    """Return whether an answer is a true cause; where nothing is at fault, whether it is silent."""
    if not case.truth:
        return answer == ""
    return answer in case.truth


def table(title: str, cases: Sequence[SpansCase], own: Sequence[Method] = ()) -> Table:
    """Return all methods on the same cases."""
    usual = [lab.learn(case.normal) for case in cases]
    rows: list[Row] = []
    right: dict[str, list[bool]] = {}
    faulty = [k for k, case in enumerate(cases) if case.truth]
    calm = [k for k, case in enumerate(cases) if not case.truth]
    for method in methods(cases, own):
        begin = time.process_time()
        pairs = zip(usual, cases, strict=True)
        answers = [method.ask(reference, case.abnormal) for reference, case in pairs]
        cpu_s = (time.process_time() - begin) / len(cases)
        judged = [is_right(a, case) for a, case in zip(answers, cases, strict=True)]
        right[method.name] = judged
        top = share(sum(judged[k] for k in faulty), max(len(faulty), 1))
        silent = str(share(sum(judged[k] for k in calm), len(calm))) if calm else ""
        rows.append(Row(method.name, method.family, top, cpu_s, method.tuned, (silent,)))
    return Table(
        title,
        f"{many(len(faulty), 'fault')}, {many(len(calm), 'case')} without a fault",
        "top-1 of services, %",
        rows,
        ("silent without a fault, %",),
        asked=[Asked(case.group, case.fault or "no fault" * (not case.truth)) for case in cases],
        right=right,
    )
