"""An incident for each student, drawn from any text, with a truth that the twin knows exactly.

The run has one fault. It is drawn again until the twin says that it cannot be mistaken: it strikes
enough requests, hard enough, at one endpoint, and all that it degrades waits for that endpoint.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.formats.writing import replacing
from aiops_lab.numerics import to_timestamp
from aiops_lab.record.faults import Fault
from aiops_lab.traces.trees import self_time
from shop.shops import MARKET, MARKET_MIX
from shop.topology import Topology
from shop.virtual_time.random_topology import entry_mix, layered
from shop.virtual_time.scenario import BEGIN_NS, Place, Scenario, VirtualFault
from shop.virtual_time.twins import Twin, affected, twin

SEEN_KINDS = ("slow", "errors", "hangs")
"""What a submission can say of a fault: what is seen of it."""

_RATE, _SECONDS = 6.0, 330.0
"""Requests/s and length of a run in s: some 15,000 spans, drawn in a second."""

_START_S, _LENGTH_S = (120.0, 220.0), (60.0, 100.0)
"""When a fault starts, after two minutes of normal traffic at least, and its length, in s."""

SIZES = (10, 18)
"""Endpoints of a random shop, fewest and most; every second student gets the market instead."""

MOST_DRAWS = 40

STRUCK = 40
"""Requests at the cause during the fault, at least: an endpoint that is hardly called shows little.
"""

_SLOWER_MS, _SLOWER_RATIO = 40.0, 1.5
"""A slow cause takes longer by this and by this factor, on average: more than its usual scatter."""

OTHERS_SHARE = 0.2
"""Of the cause's growth in self time, any other endpoint's is at most this share."""

FAILED_SHARE, BY_CHANCE = 0.3, 0.02
"""A cause of errors fails at least this share of its requests; a slow one makes at most that many
fail.
"""


class AssignedTruth(NamedTuple):
    """What the twin knows of an assignment.

    ``cause``: the (service, endpoint) of the fault; ``kind``: one of `SEEN_KINDS`; ``began``,
    ``ended``: UTC; ``affected``: the endpoints that the fault truly degraded; ``places``: all
    endpoints.
    """

    cause: Place
    kind: str
    began: pd.Timestamp
    ended: pd.Timestamp
    affected: tuple[Place, ...]
    places: tuple[Place, ...]


class Assignment(NamedTuple):
    """What a student is given: a spans frame with one fault somewhere in it.

    ``seed``: the text that it was drawn from; ``spans``: about five minutes of a shop.
    """

    seed: str
    spans: pd.DataFrame

    def submit(
        self,
        cause: str,
        kind: str,
        began: object,
        affected: Iterable[str],
        folder: str | Path = ".",
    ) -> Path:
        """Write the student's answer as FOLDER/SEED.json, for ``python -m shop grade FOLDER``.

        Parameters
        ----------
        cause : str
            The endpoint that is broken, as "service route".
        kind : str
            ``"slow"``, ``"errors"`` or ``"hangs"``.
        began : Timestamp or str
            When it began, in UTC.
        affected : iterable of str
            All endpoints that were degraded, the cause among them, as "service route". A text is
            one endpoint.
        folder : str or Path
            An existing folder; default the current one.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ValueError
            `affected` holds what is no text.
        """
        answer = {
            "seed": self.seed,
            "cause": cause,
            "kind": kind,
            "began": str(began),
            "affected": _endpoint_texts(affected),
        }
        name = re.sub(r"[^\w-]", "_", self.seed)
        path = Path(folder) / f"{name}.json"
        text = json.dumps(answer, indent=1)
        with replacing(path) as part:
            part.write_text(f"{text}\n", "utf-8")
        return path


def _endpoint_texts(affected: object) -> list[str]:
    given = [affected] if isinstance(affected, str) else affected
    texts: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise FieldError("affected", "must be a list of texts", affected)
    return sorted(texts)


def assignment(seed: str, secret: str = "") -> Assignment:
    """Return an incident of a student's own: the same text gives the same one, on any machine.

    Parameters
    ----------
    seed : str
        Any text, such as the student's name.
    secret : str
        A word that only the teacher knows. Without it whoever reads this package can compute the
        truth; with it students are given files (`aiops_lab.write_spans`). Default: none.

    Raises
    ------
    ValueError
        `seed` is not text, or empty.
    """
    _, pair = clear_incident(_text(seed), secret)
    return Assignment(seed, pair.with_fault.copy())


def assigned_truth(seed: str, secret: str = "") -> AssignedTruth:
    """Return the truth of a student's assignment."""
    scenario, pair = clear_incident(_text(seed), secret)
    (fault,) = scenario.faults
    since, until = scenario.interval()
    return AssignedTruth(
        fault.place,
        _kind(fault),
        to_timestamp(BEGIN_NS + round(since * 1e9)),
        to_timestamp(BEGIN_NS + round(until * 1e9)),
        tuple(affected(pair, since, until)),
        tuple(endpoint.place for endpoint in scenario.topology.endpoints),
    )


def _text(seed: object) -> str:
    if not isinstance(seed, str) or not seed.strip():
        raise FieldError("seed", "must be text", seed)
    return seed.strip()


@lru_cache(maxsize=4)
def clear_incident(seed: str, secret: str) -> tuple[Scenario, Twin]:
    """Return the first scenario of this seed that cannot be mistaken, and its twin."""
    for n in range(MOST_DRAWS):
        rng = random.Random(f"{secret}/{seed}/{n}/assignment")
        scenario = _scenario(rng)
        with suppress(FieldError):  # the fault struck no request
            pair = twin(scenario, rng.getrandbits(31), progress=False)
            if not reasons_to_doubt(scenario, pair):
                return scenario, pair
    raise FieldError("seed", f"must give a clear incident within {MOST_DRAWS} draws", seed)


def _scenario(rng: random.Random) -> Scenario:
    topology, mix = _shop(rng)
    calm = Scenario("calm", topology=topology, mix=mix)
    place = rng.choice(sorted(calm.reached()))
    fault = _fault(rng, place)
    return Scenario(
        f"{fault.kind} at {' '.join(place)}",
        (place,),
        (fault,),
        topology=topology,
        mix=mix,
        rate=_RATE,
        seconds=_SECONDS,
    )


def _shop(rng: random.Random) -> tuple[Topology, dict[str, float]]:
    if rng.random() < 0.5:
        return MARKET, MARKET_MIX
    topology = layered(rng.randint(*SIZES), rng.getrandbits(31))
    return topology, entry_mix(topology)


def _fault(rng: random.Random, place: Place) -> Fault:
    start_s = float(rng.randint(*map(int, _START_S)))
    when: dict[str, Any] = {
        "start_s": start_s,
        "end_s": start_s + rng.randint(*map(int, _LENGTH_S)),
    }
    draws = {
        "delay": lambda: Fault("delay", *place, **when, duration_ms=rng.uniform(80, 600)),
        "error": lambda: Fault("error", *place, **when, rate=rng.uniform(0.4, 1.0)),
        "hang": lambda: Fault("hang", *place, **when),
        "slow": lambda: VirtualFault("slow", *place, **when, factor=rng.uniform(4, 12)),
        "shed": lambda: VirtualFault("shed", *place, **when, rate=rng.uniform(0.4, 1.0)),
    }
    return draws[rng.choice(list(draws))]()


def _kind(fault: Fault) -> str:
    seen = {
        "delay": "slow",
        "slow": "slow",
        "error": "errors",
        "shed": "errors",
        "hang": "hangs",
    }
    return seen[fault.kind]


# ---- can it be mistaken?


def reasons_to_doubt(scenario: Scenario, pair: Twin) -> list[str]:
    """Return why the one fault of a scenario could be mistaken, by its twin; empty = it cannot."""
    (fault,) = scenario.faults
    since, until = scenario.interval()
    degraded = affected(pair, since, until)
    waiting = scenario.topology.above([fault.place])
    found = []
    if fault.place not in degraded:
        found.append("the cause is not degraded")
    if not waiting.issuperset(degraded):
        found.append("an endpoint is degraded that does not wait for the cause")
    now = _means(pair.with_fault, since, until)
    usual = _means(pair.without_fault, since, until)
    if now["requests"].get(fault.place, 0) < STRUCK:
        return [*found, "too few requests reach the cause"]
    if _kind(fault) == "slow":
        return found + _slow_doubts(fault.place, now, usual, pair.effect)
    return found + _failing_doubts(fault, now, usual)


def _slow_doubts(
    place: Place, now: pd.DataFrame, usual: pd.DataFrame, effect: pd.DataFrame
) -> list[str]:
    growth = (now["own_ms"] - usual["own_ms"]).fillna(0.0)
    mine = growth[place]
    found = []
    least_ms = _SLOWER_RATIO * usual["ms"][place]
    if mine < _SLOWER_MS or now["ms"][place] < least_ms:
        found.append("the cause is hardly slower")
    others = growth.drop(place)
    if (others > OTHERS_SHARE * mine).any():
        found.append("another endpoint is slower by itself")
    fails = effect["failed_with"] & ~effect["failed_without"]
    if fails.mean() > BY_CHANCE:
        found.append("requests fail as well")
    return found


def _failing_doubts(fault: Fault, now: pd.DataFrame, usual: pd.DataFrame) -> list[str]:
    column = "open_or_long" if fault.kind == "hang" else "failed"
    place = fault.place
    more = now[column][place] - usual[column][place]
    return [] if more >= FAILED_SHARE else ["too few requests fail at the cause"]


def _means(frame: pd.DataFrame, since_s: float, until_s: float) -> pd.DataFrame:
    """Return by endpoint what its requests took and did, of those that began in an interval."""
    at_s = (frame["start"].astype("int64") - BEGIN_NS) / 1e9
    table = frame.assign(
        own_ms=self_time(frame),
        failed=frame["status"] >= 500,
        open_or_long=~(frame["duration_ms"] < 5000.0),
    )
    is_inside = (at_s >= since_s) & (at_s < until_s)
    chosen = table[is_inside & (frame["kind"] == "server")]
    groups = chosen.groupby(["service", "endpoint"], observed=True)
    return groups.agg(
        requests=("own_ms", "size"),
        ms=("duration_ms", "mean"),
        own_ms=("own_ms", "mean"),
        failed=("failed", "mean"),
        open_or_long=("open_or_long", "mean"),
    )
