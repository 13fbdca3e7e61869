"""What is not waited for is no excess of its parent, whichever way it is recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.explain.reference import Reference
from tests.support.lines import SECOND, Drawing, first_suspect
from tests.support.made import MS

Recording = Callable[..., pd.DataFrame]


def pair(draw: Recording, usual: dict, now: dict) -> tuple[Reference, pd.DataFrame]:
    """Return what is usual, and requests that differ from that by `now`."""
    return learned(draw, tuple(usual.items())), draw(2, 150, **usual | now)


@cache
def learned(draw: Recording, usual: tuple[tuple[str, Any], ...]) -> Reference:
    """Return what is learned from usual requests."""
    return lab.learn(draw(1, 300, **dict(usual)))


# ---- messages


def queue(
    seed: int,
    n: int,
    *,
    kinds: tuple[str, str] = ("producer", "consumer"),
    peer: str | None = "worker",
    worker: str = "worker",
    publish_ms: float = 2,
    lag_ms: float = 300,
    work_ms: float = 80,
    failing: float = 0,
) -> pd.DataFrame:
    """Return requests of web, which publishes a message and answers; the worker comes later."""
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        web, publish, work = drawing.ids(3)
        web_ns, lag_ns = drawing.about(20), drawing.about(lag_ms)
        fails = drawing.dice.random() < failing
        sent = ("web", "orders publish", kinds[0], peer)
        done = (worker, "orders process", kinds[1], None)
        ends = {"error": "ValueError: no such order" if fails else None}
        drawing.add((trace, web, None), ("web", "/orders", "server", None), t, web_ns)
        drawing.add((trace, publish, web), sent, t + 10 * MS, int(publish_ms * MS))
        at = t + web_ns + lag_ns
        drawing.add((trace, work, publish), done, at, drawing.about(work_ms), **ends)
    return drawing.frame()


KINDS = {
    "client and server": ("client", "server"),
    "client and consumer": ("client", "consumer"),
    "producer and server": ("producer", "server"),
    "producer and consumer": ("producer", "consumer"),
}


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_a_slow_worker_behind_a_queue_is_the_cause(kinds: tuple[str, str]) -> None:
    slow = pair(queue, {"kinds": kinds}, {"work_ms": 400})
    assert first_suspect(*slow) == ("worker", "orders process")
    assert first_suspect(*pair(queue, {"kinds": kinds}, {})) is None


@pytest.mark.parametrize("kinds", KINDS.values(), ids=KINDS)
def test_a_longer_queue_delays_nobody_who_waits(kinds: tuple[str, str]) -> None:
    assert first_suspect(*pair(queue, {"kinds": kinds}, {"lag_ms": 9000})) is None


def test_a_worker_that_fails_is_the_cause() -> None:
    assert first_suspect(*pair(queue, {}, {"failing": 0.3})) == ("worker", "orders process")


@pytest.mark.parametrize(
    "usual", [{"peer": None}, {"worker": "web"}], ids=["no peer", "one service"]
)
def test_a_queue_within_a_service_or_without_a_name_is_one_too(usual: dict) -> None:
    found = first_suspect(*pair(queue, usual, {"work_ms": 400}))
    assert found == (usual.get("worker", "worker"), "orders process")


def test_a_worker_that_is_usually_faster_than_the_publishing_is_found() -> None:
    usual = {"kinds": ("client", "server"), "work_ms": 1}
    assert first_suspect(*pair(queue, usual, {"work_ms": 9})) == ("worker", "orders process")
    assert first_suspect(*pair(queue, usual, {"lag_ms": 3000})) is None


def test_publishing_is_waited_for() -> None:
    slow = pair(queue, {}, {"publish_ms": 9})
    assert first_suspect(*slow) == ("worker", "orders publish")


# ---- in the background


def background(
    seed: int,
    n: int,
    *,
    after: bool,
    kind: str = "internal",
    web_ms: float = 20,
    mail_ms: float = 50,
) -> pd.DataFrame:
    """Return requests of web that send a mail, begun after the answer or while it is made."""
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        web, task, smtp = drawing.ids(3)
        web_ns, mail_ns = drawing.about(web_ms), drawing.about(mail_ms)
        begin = t + web_ns + MS if after else t + 5 * MS
        sends = ("web", "send mail", kind, "mail" if kind == "client" else None)
        sent = ("web", "smtp", "client", "mail")
        drawing.add((trace, web, None), ("web", "/orders", "server", None), t, web_ns)
        drawing.add((trace, task, web), sends, begin, mail_ns)
        drawing.add((trace, smtp, task), sent, begin + MS, mail_ns - 2 * MS)
    return drawing.frame()


@pytest.mark.parametrize("kind", ["internal", "client"])
@pytest.mark.parametrize("after", [True, False], ids=["after the answer", "beside it"])
def test_what_outlives_its_parent_is_not_waited_for(after: bool, kind: str) -> None:
    usual = {"after": after, "kind": kind}
    assert first_suspect(*pair(background, usual, {"mail_ms": 250})) == ("mail", "smtp")
    assert first_suspect(*pair(background, usual, {"web_ms": 70})) == ("web", "/orders")
    assert first_suspect(*pair(background, usual, {})) is None


# ---- clocks


def hosts(
    seed: int,
    n: int,
    *,
    slow: str = "",
    clocks_ms: tuple[int, ...] = (0,),
    instances: bool = False,
    through_a_client: bool = True,
) -> pd.DataFrame:
    """Return requests of gateway to pay, which runs on hosts with a clock each and asks a db.

    `slow`: what takes 100 ms more.
    """
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        top, ask, pay, query = drawing.ids(4)
        host = drawing.dice.randrange(len(clocks_ms))
        more = {name: 100 * MS * (slow == name) for name in ("gateway", "net", "pay", "db")}
        db = drawing.about(8) + more["db"]
        pays = db + drawing.about(20) + more["pay"]
        own = drawing.about(10) + more["gateway"]
        leaves = t + own // 2
        arrives = leaves + MS + more["net"] // 2 + clocks_ms[host] * MS
        here = {"instance": "gateway-1"} if instances else {}
        there = {"instance": f"pay-{host}"} if instances else {}
        place = ("gateway", "/", "server", None)
        drawing.add((trace, top, None), place, t, pays + own + 4 * MS + more["net"], **here)
        if through_a_client:
            call = ("gateway", "/pay", "client", "pay")
            drawing.add((trace, ask, top), call, leaves, pays + 2 * MS + more["net"], **here)
        above = ask if through_a_client else top
        drawing.add((trace, pay, above), ("pay", "/pay", "server", None), arrives, pays, **there)
        asks = ("pay", "select", "client", "db")
        drawing.add((trace, query, pay), asks, arrives + 5 * MS, db, **there)
    return drawing.frame()


CAUSES = {
    "": None,
    "gateway": ("gateway", "/"),
    "net": ("pay", "/pay"),
    "pay": ("pay", "/pay"),
    "db": ("db", "select"),
}
CLOCKS = {
    "three that are far apart": {"clocks_ms": (0, 700, -1300)},
    "three with known instances": {"clocks_ms": (0, 700, -1300), "instances": True},
    "three that differ a little": {"clocks_ms": (0, 6, -12)},
    "three that nobody called by a client span": {
        "clocks_ms": (0, 700, -1300),
        "through_a_client": False,
    },
}


@pytest.mark.parametrize("slow", CAUSES)
@pytest.mark.parametrize("clocks", CLOCKS.values(), ids=CLOCKS)
def test_several_hosts_with_several_clocks_change_no_verdict(clocks: dict, slow: str) -> None:
    cause = CAUSES[slow]
    if slow == "net" and not clocks.get("through_a_client", True):
        cause = CAUSES["gateway"]  # without a client span the way there is the caller's own time
    assert first_suspect(*pair(hosts, clocks, {"slow": slow})) == cause


@pytest.mark.parametrize("slow", CAUSES)
@pytest.mark.parametrize("instances", [True, False])
def test_a_clock_that_jumps_during_an_incident_changes_no_verdict(
    instances: bool, slow: str
) -> None:
    found = first_suspect(
        *pair(hosts, {"instances": instances}, {"clocks_ms": (2000,), "slow": slow})
    )
    assert found == CAUSES[slow]


# ---- streams


def stream(
    seed: int,
    n: int,
    *,
    length_ms: float = 3000,
    first_ms: float = 20,
    pay_ms: float = 10,
    pays_later: bool = True,
    tells: bool = True,
) -> pd.DataFrame:
    """Return requests to /export, which streams; pay is called while it does, or before."""
    drawing = Drawing(seed)
    for _ in range(n):
        trace, t = drawing.request()
        web, call, pay = drawing.ids(3)
        first, pays = drawing.about(first_ms), drawing.about(pay_ms)
        ns = first + drawing.about(length_ms, 0.5)
        begins = {"first_byte_ns": first} if tells else {}
        at = t + first + 100 * MS if pays_later else t + 2 * MS
        drawing.add((trace, web, None), ("web", "/export", "server", None), t, ns, **begins)
        drawing.add((trace, call, web), ("web", "/pay", "client", "pay"), at, pays + 2 * MS)
        drawing.add((trace, pay, call), ("pay", "/pay", "server", None), at + MS, pays)
    return drawing.frame()


def test_the_length_of_a_stream_is_no_latency() -> None:
    assert first_suspect(*pair(stream, {}, {"length_ms": 9000})) is None


def test_the_latency_of_a_stream_is_its_first_byte() -> None:
    assert first_suspect(*pair(stream, {}, {"first_ms": 200})) == ("web", "/export")


@pytest.mark.parametrize("pays_later", [True, False])
def test_what_a_stream_calls_has_its_own_history(pays_later: bool) -> None:
    usual = {"pays_later": pays_later, "first_ms": 20 if pays_later else 300}
    assert first_suspect(*pair(stream, usual, {"pay_ms": 200})) == ("pay", "/pay")


def test_how_long_a_connection_is_kept_open_on_purpose_is_no_latency() -> None:
    longer = pair(stream, {"tells": False, "length_ms": 8000}, {"length_ms": 20_000})
    assert first_suspect(*longer) is None


def test_a_connection_that_is_still_open_on_purpose_is_not_unanswered() -> None:
    held = partial(stream, tells=False, length_ms=8000)
    now = held(2, 150)
    now["duration_ms"] = now["duration_ms"].mask(now["endpoint"] == "/export")
    last = now.iloc[[-1]].assign(start=now["start"].max() + pd.Timedelta(120 * SECOND, unit="ns"))
    assert first_suspect(held(1, 300), pd.concat([now, last], ignore_index=True)) is None
