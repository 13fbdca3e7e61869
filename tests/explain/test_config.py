"""Each constant of root cause analysis by traces decides something: halved or doubled, another
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain import child_sets, deviations, ledger, queueing, ranking, verdict
from aiops_lab.explain.config import RcaConfig
from aiops_lab.explain.ledger import Comparison, Ledger, compare
from aiops_lab.explain.queueing import ServiceRequests
from aiops_lab.results import Verdict
from tests.support.traces import span

# ---- the smallest recordings


def alone(durations: list[float | None], status: int = 200) -> pd.DataFrame:
    """Return a request to /a a second, of the durations given in ms; None: it is open."""
    return lab.to_frame(
        span(1, None, "/a", "server", 1000 * k, ms, status=status, trace=k + 1)
        for k, ms in enumerate(durations)
    )


def compared(
    normal: pd.DataFrame, abnormal: pd.DataFrame, config: RcaConfig, **how: Any
) -> Comparison:
    return compare(lab.learn(normal, config=config), abnormal, **how)


def calling(statuses: list[int], top: int = 200, ms: float = 48.0, arrives: bool = True):
    """Return requests to /a that call /b, which answers with the statuses given."""
    spans = []
    for k, status in enumerate(statuses):
        at, trace = 1000.0 * k, k + 1
        spans += [
            span(1, None, "/a", "server", at, ms + 10, status=top, trace=trace),
            span(2, 1, "/b", "client", at + 5, ms, status=status, trace=trace, peer="b"),
        ]
        if arrives:
            spans.append(
                span(3, 2, "/b", "server", at + 6, ms - 2, status=status, trace=trace, service="b")
            )
    return lab.to_frame(spans)


def labels(comparison: Comparison) -> list[str]:
    rows = comparison.ledger.rows
    return rows["account"][(rows["unit"] == "failures") & (rows["now"] > 0)].tolist()


# ---- by the name of each constant, a function of the config, and what it returns by default

CASES: dict[str, tuple[Callable[[RcaConfig], object], object]] = {}


def decides(expected: object):
    """Enter a function of the config under the name of the field that decides what it returns."""

    def enter(function: Callable[[RcaConfig], object]) -> Callable[[RcaConfig], object]:
        CASES[function.__name__] = function, expected
        return function

    return enter


def books(costs: list[float], noise: float) -> Ledger:
    """Return a ledger of one account an endpoint."""
    names = [f"/{k}" for k in range(len(costs))]
    columns = {"service": "a", "endpoint": names, "attributed_to": names, "account": names}
    rows = pd.DataFrame(columns | {"unit": "ms", "cost": costs, "noise": noise})
    return Ledger(rows, pd.DataFrame())


@decides([0.4])
def n_sigma(config: RcaConfig) -> object:
    return [round(score, 6) for score in ranking.scores_of(books([1.0], 0.2), config).values()]


@decides([0.03])
def min_score(config: RcaConfig) -> object:
    return list(ranking.scores_of(books([0.015, 0.03], 0.0), config).values())


@decides(5.0)
def failure_weight(config: RcaConfig) -> object:
    now = compared(alone([100.0] * 20), alone([100.0] * 20, status=500), config)
    return now.ledger.rows["cost"].max()


@decides(1.0)
def min_usual_ms(config: RcaConfig) -> object:
    now = compared(alone([4.0] * 20), alone([14.0] * 20), config)
    return round(now.ledger.rows["cost"].max(), 6)


@decides([10.45])
def min_sd_ms(config: RcaConfig) -> object:
    """The limit lies 3 standard deviations of 0.1 ms above 10 ms."""
    bad = compared(alone([10.0] * 20), alone([10.2, 10.45]), config).bad
    return (bad["ns"] / 1e6).tolist()


@decides(0.239)
def min_success_share(config: RcaConfig) -> object:
    """21 failures imagined in 22 requests: the variance is 21/22 times 0.25 instead of 1/22."""
    share, n_usual, n_now = (pd.Series([value]) for value in (1.0, 20.0, 1e6))
    se = ledger._se_of_failures(share, n_usual, n_now, config).item()
    return round(20 * se**2, 3)


@decides([False, True])
def similar_ratio(config: RcaConfig) -> object:
    """Calls to b take 100 ms longer, those to c 22 or 45 ms longer."""
    return [reassigned(longer, config) for longer in (22.0, 45.0)]


def reassigned(longer: float, config: RcaConfig) -> bool:
    now = compared(two_calls(0.0, 0.0), two_calls(100.0, longer), config)
    return bool((now.ledger.rows["reassigned"].abs() > 1).any())


def two_calls(gap_b: float, gap_c: float) -> pd.DataFrame:
    spans = []
    for k in range(20):
        at, trace = 1000.0 * k, k + 1
        spans.append(
            span(1, None, "/a", "server", at, 110 + gap_b + gap_c, trace=trace, service="a")
        )
        begin = at + 5
        for number, (peer, gap) in enumerate((("b", gap_b), ("c", gap_c))):
            client, served = 2 + 2 * number, 3 + 2 * number
            call = {"trace": trace, "service": "a", "peer": peer}
            spans += [
                span(client, 1, f"/{peer}", "client", begin, 50 + gap, **call),
                span(
                    served, client, f"/{peer}", "server", begin + 1, 48, trace=trace, service=peer
                ),
            ]
            begin += 50 + gap
    return lab.to_frame(spans)


def unanswered(usual_ms: float, ages_s: list[float], config: RcaConfig) -> list[bool]:
    """Return of some ages whether an open request is unanswered then."""
    reference, now = lab.learn(alone([usual_ms] * 20), config=config), alone([None])
    begin = now["start"].iloc[0].value
    seen = [compare(reference, now, until_ns=begin + int(age * 1e9)) for age in ages_s]
    return [bool(comparison.costs.endpoints["unanswered"].any()) for comparison in seen]


@decides([False, True])
def timeout_s(config: RcaConfig) -> object:
    return unanswered(100.0, [3.5, 7.0], config)


@decides([False, True])
def timeout_ratio(config: RcaConfig) -> object:
    return unanswered(2000.0, [7.0, 15.0], config)


@decides([True, False])
def long_lived_share(config: RcaConfig) -> object:
    """Whether requests have an excess of latency if two, or four, of fifty are usually long."""
    told = []
    for long in (2, 4):
        normal = alone([10.0] * (50 - long) + [6000.0] * long)
        ledger = compared(normal, alone([20.0] * 50), config).ledger
        told.append(bool((ledger.rows["unit"] == "ms").any()))
    return told


@decides([["/b itself"], ["edge /a → /b"]])
def refused_ms(config: RcaConfig) -> object:
    told = []
    for ms in (3.5, 7.0):
        now = calling([0] * 20, top=502, ms=ms, arrives=False)
        told.append(labels(compared(calling([200] * 20), now, config)))
    return told


@decides([["/b itself"], ["/a itself"]])
def usual_failure_share(config: RcaConfig) -> object:
    """/b fails in 7 or 14 of 20 requests, which does /a no harm; now both fail."""
    now = calling([500] * 20, top=502)
    usual = [calling([500] * failing + [200] * (20 - failing)) for failing in (7, 14)]
    return [labels(compared(normal, now, config)) for normal in usual]


@decides([3])
def call_quantile(config: RcaConfig) -> object:
    """Each of 10 requests makes three calls: the ranks are 10 times 1, 2 and 3."""
    spans = []
    for k in range(10):
        spans.append(span(1, None, "/a", "server", 1000 * k, 100, trace=k + 1))
        for call in range(3):
            at = 1000 * k + 20 * call
            spans.append(span(2 + call, 1, "/b", "server", at, 10, trace=k + 1))
    return lab.learn(lab.to_frame(spans), config=config).endpoint_profile.calls.most.tolist()


def requests(waiting: dict[str, Any], away_ns: float) -> ServiceRequests:
    """Return requests of one endpoint that keep a worker for 100 ns."""
    columns = {"account": 0, "start": [0, 200], "end": [100, 300], "own": 10.0, "room": 0.0}
    needed = {"extra_of": -1, "repeated_of": -1, "asked_by": -1}
    each = pd.DataFrame(columns | {"failed": False} | needed | waiting)
    return ServiceRequests(each, pd.Series([away_ns], index=[1]))


@decides([False, True])
def contention_ratio(config: RcaConfig) -> object:
    """Half as long again as 100 ns: it is 30 or 75 ns more."""
    found = [
        queueing.find_contention(requests({}, 50.0), requests({}, 50.0 + more), config)
        for more in (30.0, 75.0)
    ]
    return [contention is not None for contention in found]


@decides([5.0, 0.0])
def max_misfits(config: RcaConfig) -> object:
    """Of 200 requests one waits for 5 ns if there is one worker; 3 or 6 have no room to do so."""
    waits = []
    for misfits in (3, 6):
        start = np.arange(200) * 100
        end, room = start + 50, np.zeros(200)
        end[9], room[10] = start[10] + 5, 10.0
        end[19 : 19 + 10 * misfits : 10] += 60
        each = pd.DataFrame({"start": start, "end": end, "room": room, "failed": False})
        waits.append(float(queueing._wait(each, config).sum()))
    return waits


def only_waits(wait: float, works: list[float], usual: float, config: RcaConfig) -> list[bool]:
    now = pd.DataFrame({"account": range(len(works)), "wait": wait, "work": works, "failed": False})
    usual_own = pd.Series(usual, index=range(len(works)))
    return queueing._only_waits(now, usual_own, config).tolist()


@decides([True, False])
def wait_only_ratio(config: RcaConfig) -> object:
    return only_waits(100.0, [20.0, 35.0], 10.0, config)


@decides([True, False])
def wait_only_margin(config: RcaConfig) -> object:
    return only_waits(1000.0, [40.0, 80.0], 1.0, config)


@decides([False, True])
def full_ratio(config: RcaConfig) -> object:
    """It works on 5 requests at once, and turns one away when there are 3, or 5."""
    start = np.arange(5)
    told = []
    for at in (2.5, 4.5):
        columns = {"start": [*start, at], "end": [100.0] * 6, "failed": [False] * 5 + [True]}
        told.append(queueing._is_full(pd.DataFrame(columns).assign(account=0), 0, config))
    return told


@decides(95.05)
def quantile(config: RcaConfig) -> object:
    profile = lab.learn(alone([float(ms) for ms in range(1, 101)]), config=config).profile
    return round(profile.accounts["limit"].item() / 1e6, 6)


@decides(1.0)
def min_self_ms(config: RcaConfig) -> object:
    now = compared(alone([10.0] * 20), alone([10.07, 10.15]), config)
    return deviations._slow_spans(now.reference.profile, now)["k"].item()


@decides([0.2, 0.1])
def caller_weight(config: RcaConfig) -> object:
    """The edge from a to b deviates: in full b's, in half a's, of which nothing else deviates."""
    items = pd.DataFrame({"caller": [0], "attributed_to": [1], "share": [0.04]})
    found = deviations.rank_services(items, [("a", "/"), ("b", "/")], config.caller_weight)
    return [round(unusual.score, 6) for unusual in found]


@decides([False, True])
def rarity_ratio(config: RcaConfig) -> object:
    """A tenth of the requests usually wrote a line; now 7 or 16 of 20 do."""
    normal = writing(20, 2)
    now = [compared(normal, writing(20, lines), config) for lines in (7, 16)]
    odd = [
        child_sets.have_odd_children(comparison.reference.profile.shapes, comparison)
        for comparison in now
    ]
    return [bool(mask.any()) for mask in odd]


def writing(n: int, lines: int) -> pd.DataFrame:
    """Return n requests of which the first ones write a log line."""
    served = [span(1, None, "/a", "server", 1000 * k, 10, trace=k + 1) for k in range(n)]
    wrote = [span(2, 1, "line", "log", 1000 * k + 5, 0, trace=k + 1) for k in range(lines)]
    return lab.to_frame(served + wrote)


@decides([False, True])
def min_count(config: RcaConfig) -> object:
    columns = {"kind": "self", "n": [1, 3], "k": [1, 3], "usual_n": 10_000, "usual_k": 0}
    items = deviations._with_share(pd.DataFrame(columns), config)
    return (items["share"] > 0).tolist()


@decides(0.22042)
def prior_requests(config: RcaConfig) -> object:
    """12 of 20 failed, none of 11 before; nor did anything of 800 others."""
    columns = {"kind": "errors", "n": [20, 400], "k": [12, 0], "usual_n": [11, 800], "usual_k": 0}
    items = pd.DataFrame(columns)
    return round(float(deviations.more_failures(items, items, config).max()), 5)


@decides(30.0)
def resource_margin(config: RcaConfig) -> object:
    """What is always 10 may be up to 10 + 2 x 10."""
    times = pd.date_range("2026-01-01", periods=20, freq="min", tz="UTC")
    usual = pd.DataFrame({"service": "a", "cpu": 10.0}, index=times)
    return deviations._resource_limits(usual, config)["limit"].item()


def degraded(config: RcaConfig, usual_ms: float = 10.0, **now: list[float]) -> list[bool]:
    """Return which of two endpoints are degraded that differ from an usual one as said."""
    usual = verdict.Served(*np.array([[100_000] * 2, [usual_ms] * 2, [0.0] * 2, [0] * 2, [0] * 2]))
    changed = {name: np.array(values) for name, values in now.items()}
    return verdict._degraded(usual, usual._replace(**changed), config).tolist()


@decides([False, True])
def min_requests(config: RcaConfig) -> object:
    return degraded(config, n=[4, 7], ms=[100.0, 100.0])


@decides([False, True])
def degraded_ratio(config: RcaConfig) -> object:
    return degraded(config, usual_ms=1000.0, ms=[1075.0, 1150.0])


@decides([False, True])
def degraded_ms(config: RcaConfig) -> object:
    return degraded(config, ms=[12.0, 15.0])


@decides([False, True])
def degraded_share(config: RcaConfig) -> object:
    return degraded(config, failed=[1500, 3000])


@decides([False, True])
def min_unanswered(config: RcaConfig) -> object:
    return degraded(config, unanswered=[2, 4])


def told(n: int, config: RcaConfig) -> Verdict:
    """Return the verdict on n requests that all fail."""
    now = compared(alone([10.0] * 20), alone([10.0] * n, status=500), config)
    return verdict.build_verdict(now, ranking.rank_suspects(now))


@decides(1000)
def max_traces(config: RcaConfig) -> object:
    return len(told(2500, config).traces)


@decides(5)
def max_samples(config: RcaConfig) -> object:
    return len(told(20, config).sample_traces)


# ---- the tests


@pytest.mark.parametrize("name", [field.name for field in fields(RcaConfig)])
def test_halved_or_doubled_a_constant_gives_another_answer(name: str) -> None:
    function, expected = CASES[name]
    assert function(RcaConfig()) == expected
    value = getattr(RcaConfig(), name)
    for other in (value / 2, value * 2):
        other = type(value)(other)
        if other > 1 and name in SHARES:
            continue  # it is refused
        assert function(replace(RcaConfig(), **{name: other})) != expected


SHARES = ("call_quantile", "full_ratio", "quantile")


@pytest.mark.parametrize("name", SHARES)
def test_a_share_above_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be <= 1, got 1.01"):
        RcaConfig(**{name: 1.01})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("n_sigma", 0, "must be > 0, got 0"),
        ("min_score", -0.02, "must be > 0, got -0.02"),
        ("timeout_s", float("inf"), "must be a finite number, got inf"),
        ("min_usual_ms", "ten", "must be a finite number, got 'ten'"),
        ("min_count", True, "must be a finite number, got True"),
        ("max_samples", 2.5, "must be a whole number, got 2.5"),
        ("timeout_s", 1e18, r"must be <= 1e\+09, got 1e\+18"),
        ("min_count", 10**400, r"must be <= 1e\+09, got 1000"),
    ],
)
def test_what_no_constant_can_be_is_refused(name: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=f"{name} {rule}"):
        RcaConfig(**{name: value})


def test_a_reference_keeps_its_config_and_refuses_another() -> None:
    config = RcaConfig(min_usual_ms=1.0)
    normal, now = alone([4.0] * 20), alone([14.0] * 20)
    reference = lab.learn(normal, config=config)
    assert reference.config == config
    found = lab.rank_root_causes(reference, now)
    assert found == lab.rank_root_causes(reference, now, config=RcaConfig(min_usual_ms=1.0))
    assert found == lab.rank_root_causes(normal, now, config=config)
    assert found[0].score > lab.rank_root_causes(normal, now)[0].score
    with pytest.raises(ValueError, match="config must be that of the reference"):
        lab.rank_root_causes(reference, now, config=RcaConfig())


def test_each_constant_is_explained() -> None:
    text = RcaConfig.__doc__ or ""
    told = [line.split(" : ")[0].strip() for line in text.splitlines() if " : " in line]
    assert told == [field.name for field in fields(RcaConfig)]
    assert text.count("Higher:") == len(told)


def test_constants_are_kept_as_numbers_of_python() -> None:
    config = RcaConfig(n_sigma=np.float32(2), min_count=np.int64(3))
    assert (type(config.n_sigma), type(config.min_count)) == (float, int)
    assert config == RcaConfig(n_sigma=2.0, min_count=3)


@pytest.mark.parametrize("abnormal", [0, None, "spans"])
def test_an_incident_that_is_no_frame_is_refused(abnormal: Any) -> None:
    normal = calling([200] * 30)
    with pytest.raises(ValueError, match="frame must be a pandas DataFrame"):
        lab.rank_root_causes(normal, abnormal)
    with pytest.raises(ValueError, match="config must be a RcaConfig, got 3"):
        lab.learn(normal, config=3)  # type: ignore[arg-type]
