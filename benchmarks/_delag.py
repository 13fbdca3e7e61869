"""Root cause on traces of small delays: DeLag. Which call was delayed, and does a replay see it?

What is usual is learned once a recording, from its requests without a delay. The windows without a
fault are the second half of these, with the first half as what is usual. Silent is an empty answer,
or one that its method does not vouch for. A recording is held at a time: all of them are some GB.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

import aiops_lab as lab
from aiops_lab.datasets.delag import DelayCase
from aiops_lab.explain.reference import Reference
from aiops_lab.explain.rules import RULES
from benchmarks import _spans
from benchmarks._petshop import HALF
from benchmarks._tables import Asked, Row, Table, share
from benchmarks.shifts import Stream, false_alarm, stream
from shop.experiments.text_tables import many

TITLE = "DeLag: traces of small delays"
CLASSIC = "BARO", "total z", "self-time z", "walk down"
RATE = 5.0  # requests/s of a replay; benchmarks.shifts replays at others, too


class Named(NamedTuple):
    """The first suspect: a call, or where the endpoint is "" a service; "": none. And whether its
    method vouches for it.
    """

    service: str
    endpoint: str = ""
    speaks: bool = True


NOBODY = Named("", "", False)
Ask = Callable[[Reference, pd.DataFrame], Named]


class Method(NamedTuple):
    """A method to compare."""

    name: str
    family: str
    ask: Ask
    tuned: str = "nothing"


@dataclass
class Tally:
    """What a method said of each delay, and of each recording without one."""

    right: list[bool] = field(default_factory=list)
    silent: list[bool] = field(default_factory=list)
    cpu_s: float = 0.0


# ---- who answers


def this_package(usual: Reference, abnormal: pd.DataFrame) -> Named:
    """Ask `rank_root_causes`."""
    suspects = lab.rank_root_causes(usual, abnormal)
    if not suspects:
        return NOBODY
    first = suspects[0]
    return Named(first.service, first.endpoint, first.confidence >= HALF)


def by_rule(name: str) -> Ask:
    """Return what asks a rule of `rules.py`."""

    def ask(usual: Reference, abnormal: pd.DataFrame) -> Named:
        suspects = RULES[name](usual, abnormal)
        if not suspects:
            return NOBODY
        return Named(suspects[0].service, suspects[0].endpoint)

    return ask


def by_service(rule: _spans.Ask) -> Ask:
    """Return what asks a method that names a service."""

    def ask(usual: Reference, abnormal: pd.DataFrame) -> Named:
        service = rule(usual, abnormal)
        return Named(service, "", service != "")

    return ask


def always(service: str, endpoint: str) -> Ask:
    """Return a method that knows one answer."""
    return lambda usual, abnormal: Named(service, endpoint)


def methods(
    cases: Sequence[DelayCase], tuned: str, own: Sequence[_spans.Method] = ()
) -> list[Method]:
    """Return the methods to compare: this package, those of the user, rules and baselines."""
    calls = Counter(sorted(call for case in cases for call in case.truth))
    ((commonest, _),) = calls.most_common(1)
    return [
        Method("aiops_lab", "this package", this_package, tuned),
        *(Method(mine.name, mine.family, by_service(mine.ask)) for mine in own),
        *(Method(name, "classic rule", by_rule(name)) for name in CLASSIC),
        *(Method(rule.name, rule.family, by_service(rule.ask)) for rule in _spans.ALARMS),
        Method("random", "baseline", by_rule("random")),
        Method("always the same", "baseline", always(*commonest), "the answers"),
    ]


# ---- how they are judged


def is_right(answer: Named, case: DelayCase) -> bool:
    """Return whether a delayed call was named, or where only a service was, one of its calls."""
    if answer.endpoint == "":
        return answer.service in {service for service, _ in case.truth}
    return (answer.service, answer.endpoint) in case.truth


def table(
    part: str,
    cases: Sequence[DelayCase],
    tuned: str,
    progress: bool = False,
    own: Sequence[_spans.Method] = (),
) -> Table:
    """Return all methods on the delays of some recordings, and what a replay of these finds."""
    asked = methods(cases, tuned, own)
    tallies = {method.name: Tally() for method in asked}
    replayed: list[Stream] = []
    false: list[bool] = []
    groups = list(recordings(cases))
    for mine in tqdm(groups, desc="recordings of DeLag", leave=False, disable=not progress):
        judge(mine, asked, tallies)
        replayed += [stream(case, RATE) for case in mine]
        false.append(false_alarm(mine[0], RATE))
    in_order = [case for mine in groups for case in mine]
    systems = sorted({case.group for case in cases})
    rows = [_row(method, tallies[method.name], in_order, systems) for method in asked]
    rows[0] = rows[0]._replace(others=(*rows[0].others, *told_by_replay(replayed)))
    notes = [
        "Right is a delayed call (service and endpoint); of a method that names a service alone, "
        "a service with a delayed call.",
        f"Silent: of the {many(len(false), 'recording')} the second half of the requests without a "
        "delay, the first half as usual.",
        f"By replay: the end-to-end latencies alone, 20 to 75 % slower, at {RATE:g} requests/s. "
        "Found: an incident began after the delay did, whether or not another one began before. "
        "None before: no incident began before the delay. "
        f"Without any delay {sum(false)} of {len(false)} recordings have an incident.",
    ]
    return Table(
        TITLE,
        f"{many(len(cases), 'delay')}, {part}",
        "top-1, %",
        rows,
        (*map(short, systems), "silent, %", "found by replay, %", "none before, %"),
        notes,
        [Asked(short(case.group), many(len(case.truth), "call")) for case in in_order],
        {name: tally.right for name, tally in tallies.items()},
    )


def recordings(cases: Sequence[DelayCase]) -> Iterator[list[DelayCase]]:
    """Yield the delays of each recording."""
    found: dict[int, list[DelayCase]] = {}
    for case in cases:
        of_recording = found.setdefault(id(case.recording), [])
        of_recording.append(case)
    yield from found.values()


def judge(cases: Sequence[DelayCase], asked: Sequence[Method], tallies: dict[str, Tally]) -> None:
    """Ask about the delays of one recording, and about its requests without one."""
    recording = cases[0].recording
    rows = recording.rows_of(0)
    usual = lab.learn(recording.spans(rows))
    for case in cases:
        delayed = recording.spans(recording.rows_of(case.number), first=rows.size)
        for method in asked:
            begin = time.process_time()
            answer = method.ask(usual, delayed)
            tally = tallies[method.name]
            tally.cpu_s += time.process_time() - begin
            tally.right.append(is_right(answer, case))
    half = rows.size // 2
    usual = lab.learn(recording.spans(rows[:half]))
    calm = recording.spans(rows[half:], first=half)
    for method in asked:
        answer = method.ask(usual, calm)
        tallies[method.name].silent.append(not answer.speaks)


def told_by_replay(replayed: Sequence[Stream]) -> tuple[str, str]:
    """Return the share of delays that were found, and of those without an incident before."""
    found = sum(bool(np.isfinite(each.waited_s)) for each in replayed)
    clean = sum(each.early == 0 for each in replayed)
    return str(share(found, len(replayed))), str(share(clean, len(replayed)))


def short(system: str) -> str:
    """Return a system's name without that of the set."""
    return system.removeprefix("delag_")


def _row(method: Method, tally: Tally, cases: Sequence[DelayCase], systems: Sequence[str]) -> Row:
    counted = []
    for system in systems:
        mine = [case.group == system for case in cases]
        right = sum(good for good, counts in zip(tally.right, mine, strict=True) if counts)
        counted.append(f"{right} of {sum(mine)}")
    silent = str(share(sum(tally.silent), len(tally.silent)))
    estimate = share(sum(tally.right), len(cases))
    cpu_s = tally.cpu_s / len(cases)
    others = (*counted, silent)
    return Row(method.name, method.family, estimate, cpu_s, method.tuned, others)
