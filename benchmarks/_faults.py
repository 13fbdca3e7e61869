"""Root cause on traces: Nezha. Is the first suspect's service the one that was broken?

What is usual is learned once a day, then each fault is asked about once; the CPU time of both is
shared by the faults.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

import aiops_lab as lab
from aiops_lab.datasets.nezha import TracesCase
from aiops_lab.explain.reference import Reference
from aiops_lab.explain.rules import RULES
from benchmarks import _spans
from benchmarks._tables import Asked, Row, Table, share
from shop.experiments.text_tables import many

# usual, abnormal, resources -> service, "": none
Ask = Callable[[Reference, pd.DataFrame, pd.DataFrame | None], str]
FEW = 20_000
ANYWHERE = "BARO", "total z"  # the rules that stand in every table
OURS = "ledger"  # the name of this package's rule among the others


class Method(NamedTuple):
    """A method to compare."""

    name: str
    family: str
    ask: Ask
    tuned: str = "nothing"


def this_package(usual: Reference, abnormal: pd.DataFrame, resources: pd.DataFrame | None) -> str:
    """Ask `rank_root_causes`."""
    suspects = lab.rank_root_causes(usual, abnormal, resources)
    return suspects[0].service if suspects else ""


def rule(name: str) -> Ask:
    """Return a rule of `rules.py`, which looks at spans only."""

    def ask(usual: Reference, abnormal: pd.DataFrame, resources: pd.DataFrame | None) -> str:
        suspects = RULES[name](usual, abnormal)
        return suspects[0].service if suspects else ""

    return ask


def always(service: str) -> Ask:
    """Return a method that knows one answer."""
    return lambda usual, abnormal, resources: service


def any_service(usual: Reference, abnormal: pd.DataFrame, resources: pd.DataFrame | None) -> str:
    """Draw one of the services; equal spans, equal draws."""
    rng = np.random.default_rng([len(abnormal), int(abnormal["start"].iloc[0].value)])
    return str(rng.choice(sorted(set(abnormal["service"]))))


def slowest(usual: Reference, abnormal: pd.DataFrame, resources: pd.DataFrame | None) -> str:
    """Blame the service whose mean span takes most times as long as usual."""
    before, now = (
        frame.groupby("service")["duration_ms"].mean() for frame in (usual.frame, abnormal)
    )
    return _largest(now / before)


def busiest(usual: Reference, abnormal: pd.DataFrame, resources: pd.DataFrame | None) -> str:
    """Blame the service whose CPU rose by the most standard deviations."""
    assert resources is not None
    during = resources[
        (resources.index >= abnormal["start"].min()) & (resources.index <= abnormal["start"].max())
    ]
    cpu, groups = (
        during.groupby("service")["cpu_percent"].mean(),
        resources.groupby("service")["cpu_percent"],
    )
    return _largest((cpu - groups.mean()) / groups.std().clip(lower=1e-6))


def by_alarms(rule: _spans.Ask) -> Ask:
    """Return a method that looks at requests only."""
    return lambda usual, abnormal, resources: rule(usual, abnormal)


def _largest(scores: pd.Series) -> str:
    scores = scores.dropna().sort_index()
    return str(scores.idxmax()) if len(scores) else ""


def answers(ask: Ask, cases: Sequence[TracesCase], with_resources: bool) -> tuple[list[str], float]:
    """Return the answer to each case of one day, and the CPU seconds a case."""
    normal, frames = cases[0].normal, [case.abnormal for case in cases]
    metrics = cases[0].resources if with_resources else None
    ask(lab.learn(normal.iloc[:FEW], metrics), frames[0], metrics)  # what compiles does so here
    begin = time.process_time()
    usual = lab.learn(normal, metrics)
    found = [ask(usual, frame, metrics) for frame in frames]
    return found, (time.process_time() - begin) / len(cases)


def table(
    part: str,
    cases: Sequence[TracesCase],
    tuned: str,
    everything: bool,
    *,
    progress: bool = False,
    own: Sequence[_spans.Method] = (),
) -> Table:
    """Return all methods on the same faults of a day; with `everything`, logs are among the spans
    and metrics given.

    The classic rules look at server spans only, so where there is more only two of them are asked.
    """
    truths = [case.truth for case in cases]
    told = max(sorted(set(truths)), key=truths.count)
    others = [name for name in RULES if name not in (OURS, "random")]
    classic = [
        Method(name, "classic rule", rule(name)) for name in (ANYWHERE if everything else others)
    ]
    asked = [
        Method("aiops_lab", "this package", this_package, tuned),
        *(Method(m.name, m.family, by_alarms(m.ask)) for m in own),
        *classic,
        *([Method("largest rise of CPU", "baseline", busiest)] if everything else []),
        Method("largest rise of duration", "baseline", slowest),
        *(Method(m.name, m.family, by_alarms(m.ask)) for m in _spans.ALARMS),
        Method("random", "baseline", any_service),
        Method("always the same", "baseline", always(told), "the answers"),
    ]
    what, day = (
        "traces, logs and metrics" if everything else "traces alone",
        cases[0].group.replace("_", " "),
    )
    rows = []
    judged: dict[str, list[bool]] = {}
    for method in tqdm(asked, desc=f"{day}, {what}", leave=False, disable=not progress):
        found, cpu_s = answers(method.ask, cases, everything)
        right = [a == b for a, b in zip(found, truths, strict=True)]
        judged[method.name] = right
        estimate = share(sum(right), len(cases))
        rows.append(Row(method.name, method.family, estimate, cpu_s, method.tuned))
    return Table(
        f"Nezha: {what}",
        f"{day}, {many(len(cases), 'fault')}, {part}",
        "AS@1, %",
        rows,
        notes=[_told(cases)],
        asked=[Asked(_system(case, everything), case.fault_type) for case in cases],
        right=judged,
    )


def _system(case: TracesCase, everything: bool) -> str:
    system = case.group.partition("_")[0]
    return f"{system} with logs and metrics" if everything else system


def _told(cases: Sequence[TracesCase]) -> str:
    kinds = pd.Series([case.fault_type for case in cases]).value_counts()
    listed = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    services = len({case.truth for case in cases})
    return f"{many(len(cases), 'fault')} ({listed}) at {many(services, 'service')}."


PUBLISHED = (
    "Published for both days of a system together (OnlineBoutique 56 faults, TrainTicket 45), "
    "AS@1: Nezha with traces, "
    "logs and metrics 92.9 / 86.7 % at about 15 CPU s a fault, without logs and metrics 14.3 / "
    "6.7 %; MicroRank "
    "41.1 / 15.6 %, TraceAnomaly 30.4 / 13.3 %, PDiagnose 41.1 / 8.9 % (doi "
    "10.1145/3611643.3616249)."
)
