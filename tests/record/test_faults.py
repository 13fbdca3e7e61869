"""Faults, their injector and the log of the truth."""

from __future__ import annotations

import random
import re
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask, got_request_exception

import aiops_lab
from aiops_lab import SpanStore, instrument
from aiops_lab.checks import BackendError
from aiops_lab.record.faults import HOLD_MAX_S, Fault, FaultInjector, FaultLog, Wait
from aiops_lab.show.api import attach

PAYMENT = ("shop", "/payment")


def delay(ms: float, **rest: float) -> Fault:
    return Fault("delay", *PAYMENT, duration_ms=ms, **rest)


def struck(injector: FaultInjector, *place: str) -> tuple[float, str | None]:
    """How long a request was held, in seconds, and the message with which it failed."""
    begin = time.perf_counter()
    try:
        injector.strike(*(place or PAYMENT))
        return time.perf_counter() - begin, None
    except BackendError as error:
        return time.perf_counter() - begin, str(error)


def quickest(injector: FaultInjector, *place: str) -> float:
    """The shortest of five times, in seconds: a busy machine can delay one, a fault holds all."""
    return min(struck(injector, *place)[0] for _ in range(5))


@pytest.mark.parametrize(
    ("endpoint", "methods"),
    [
        ("/payment", ["GET", "POST", "HEAD"]),
        ("POST /payment", ["POST"]),
        ("DELETE /payment", []),
    ],
)
def test_a_fault_at_a_method_strikes_that_method_only(endpoint, methods):
    app = Flask(__name__)
    app.add_url_rule("/payment", "pay", lambda: "paid", methods=["GET", "POST"])
    injector = FaultInjector()
    attach(injector, app, "shop")
    injector.inject(Fault("error", "shop", endpoint, status=503))
    client = app.test_client()
    answers = {name: client.open("/payment", method=name) for name in ("GET", "POST", "HEAD")}
    assert [name for name, answer in answers.items() if answer.status_code == 503] == methods


def in_thread(injector: FaultInjector) -> tuple[threading.Thread, list[tuple[float, str | None]]]:
    """Strike in a thread that surely waits already."""
    out: list[tuple[float, str | None]] = []
    entered = threading.Event()

    def run() -> None:
        entered.set()
        out.append(struck(injector))

    thread = threading.Thread(target=run)
    thread.start()
    assert entered.wait(5)
    thread.join(0.05)
    assert thread.is_alive()
    return thread, out


# ---- the fault


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "explode"),
        ("kind", ""),
        ("kind", None),
        ("service", ""),
        ("endpoint", 7),
        ("duration_ms", -1),
        ("duration_ms", float("nan")),
        ("duration_ms", float("inf")),
        ("duration_ms", float("-inf")),
        ("duration_ms", 1e9),
        pytest.param("duration_ms", 10**5000, id="thousands of digits"),
        ("duration_ms", "100"),
        ("duration_ms", True),
        ("jitter_ms", -0.1),
        ("rate", 1.01),
        ("rate", float("nan")),
        ("rate", -1e-9),
        ("status", 200),
        ("status", 600),
        ("status", 500.0),
        ("status", True),
        ("ttl_s", 0),
        ("ttl_s", float("inf")),
        ("ttl_s", 1e9),
        ("start_s", -1),
        ("end_s", -1),
    ],
)
def test_a_fault_that_breaks_a_rule_is_refused_by_name(field: str, value: object) -> None:
    given = {"kind": "delay", "service": "shop", "endpoint": "/payment", field: value}
    with pytest.raises(ValueError, match=rf"^{field} must be .*, got ") as caught:
        Fault(**given)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "given",
    [
        {"duration_ms": 0},
        {"duration_ms": 60_000},
        {"rate": 0},
        {"rate": 1},
        {"status": 599},
        {"ttl_s": 0.5},
    ],
)
def test_the_bounds_themselves_are_allowed(given: dict[str, float]) -> None:
    Fault("error", *PAYMENT, **given)  # type: ignore[arg-type]


# ---- the injector


def test_a_delay_holds_the_request_for_its_duration_and_no_other_endpoint() -> None:
    injector = FaultInjector()
    injector.inject(delay(60))
    assert 0.055 < quickest(injector) < 1
    assert quickest(injector, "shop", "/health") < 0.04
    assert quickest(injector, "other", "/payment") < 0.04


def test_jitter_spreads_the_delay_evenly_around_its_duration() -> None:
    waits: list[float] = []
    rng, fault = random.Random(1), delay(100, jitter_ms=50)
    for _ in range(500):
        fault.strike(rng, lambda s: waits.append(s) is None)
    assert 0.05 <= min(waits) < 0.055
    assert 0.145 < max(waits) <= 0.15
    assert sum(waits) / 500 == pytest.approx(0.1, abs=0.005)


def test_more_jitter_than_delay_never_waits_backwards() -> None:
    waits: list[float] = []
    for seed in range(50):
        delay(10, jitter_ms=50).strike(random.Random(seed), lambda s: waits.append(s) is None)
    assert min(waits) == 0


def test_an_error_fails_the_given_share_with_the_given_status() -> None:
    injector = FaultInjector(seed=3)
    injector.inject(Fault("error", *PAYMENT, rate=0.3, status=503))
    failed = sum(struck(injector)[1] is not None for _ in range(2000))
    assert 520 < failed < 680
    injector.inject(Fault("error", *PAYMENT, status=503))
    with pytest.raises(BackendError) as caught:
        injector.strike(*PAYMENT)
    assert caught.value.status == 503


def test_the_same_seed_fails_the_same_requests_and_another_does_not() -> None:
    def outcomes(seed: int) -> list[str | None]:
        injector = FaultInjector(seed=seed)
        injector.inject(Fault("error", *PAYMENT, rate=0.5))
        return [struck(injector)[1] for _ in range(50)]

    assert outcomes(1) == outcomes(1)
    assert outcomes(1) != outcomes(2)


def test_a_hang_holds_until_it_is_cleared() -> None:
    injector = FaultInjector()
    id = injector.inject(Fault("hang", *PAYMENT))
    thread, out = in_thread(injector)
    assert injector.clear(id) == [id]
    thread.join(5)
    assert out[0][0] < 5
    assert out[0][1] is None
    assert quickest(injector) < 0.04


def test_a_hang_ends_with_its_ttl() -> None:
    injector = FaultInjector()
    injector.inject(Fault("hang", *PAYMENT, ttl_s=0.15))
    assert 0.1 < struck(injector)[0] < HOLD_MAX_S / 2
    assert injector.active() == []
    assert quickest(injector) < 0.04


def test_no_request_is_held_for_more_than_a_minute() -> None:
    asked: list[float] = []
    Fault("hang", *PAYMENT).strike(random.Random(0), lambda s: asked.append(s) is None)
    assert asked == [HOLD_MAX_S] == [60.0]


def test_closing_lets_held_requests_go_with_an_error_so_that_no_work_follows() -> None:
    injector = FaultInjector()
    injector.inject(Fault("hang", *PAYMENT))
    thread, out = in_thread(injector)
    injector.close()
    thread.join(5)
    assert out[0][1] == "service is shutting down"


def test_a_fault_starts_and_ends_when_it_says() -> None:
    injector, failures = FaultInjector(), 0
    early = time.monotonic()
    injector.inject(Fault("error", *PAYMENT, start_s=0.15, end_s=0.6))
    late = time.monotonic()
    while injector.active():
        before, failed = time.monotonic(), struck(injector)[1] is not None
        after = time.monotonic()
        if failed:
            assert early + 0.15 <= after
            assert before < late + 0.6
        else:
            assert before < late + 0.15 or early + 0.6 <= after
        failures += failed
        time.sleep(0.01)
    assert time.monotonic() >= early + 0.6
    assert failures
    assert struck(injector)[1] is None


def test_the_same_kind_at_the_same_place_replaces_and_another_kind_joins() -> None:
    injector = FaultInjector()
    injector.inject(delay(5000))
    second = injector.inject(delay(1))
    third = injector.inject(Fault("error", *PAYMENT))
    assert [record.id for record in injector.active()] == [second, third]
    seconds, message = struck(injector)
    assert seconds < 4
    assert message is not None


def test_clearing_an_unknown_id_is_a_key_error_and_clearing_nothing_is_none() -> None:
    injector = FaultInjector()
    assert injector.clear() == []
    with pytest.raises(KeyError):
        injector.clear(1)


# ---- a fault of one's own


@dataclass(frozen=True)
class Stutter(Fault):
    """Fails every other request, after a short wait."""

    def strike(self, rng: random.Random, wait: Wait) -> None:
        wait(0.01)
        if rng.random() < 0.5:
            raise BackendError("disk I/O error", 507)


def test_a_fault_class_of_ones_own_plugs_in_by_one_method() -> None:
    injector = FaultInjector()
    injector.inject(Stutter("stutter", *PAYMENT))
    messages = {struck(injector)[1] for _ in range(40)}
    assert messages == {None, "disk I/O error"}


def test_an_unknown_kind_needs_a_class_of_its_own() -> None:
    with pytest.raises(ValueError, match="kind must be one of delay, error, hang"):
        Fault("stutter", *PAYMENT)


# ---- on anybody's Flask app


def app_of(injector: FaultInjector) -> Flask:
    app = Flask("anybody")

    @app.get("/items/<name>")
    def item(name: str) -> str:
        return name

    attach(injector, app, "theirs")
    return app


def test_a_route_template_of_anybodys_app_can_be_broken() -> None:
    injector = FaultInjector()
    client = app_of(injector).test_client()
    injector.inject(Fault("error", "theirs", "/items/<name>", status=507))
    answer = client.get("/items/7")
    assert answer.status_code == 507
    assert list(answer.json) == ["error"]
    injector.clear()
    assert client.get("/items/7").text == "7"
    assert client.get("/nowhere").status_code == 404


def test_nothing_that_is_recorded_of_an_error_says_that_it_was_put_there() -> None:
    injector = FaultInjector()
    app, heard = app_of(injector), []

    def hear(_: Flask, exception: BaseException) -> None:
        heard.append("".join(traceback.format_exception(exception)))

    with got_request_exception.connected_to(hear, app):
        for seed in range(20):
            injector.inject(Fault("error", "theirs", "/items/<name>", ttl_s=10 + seed))
            heard.append(app.test_client().get("/items/1").text)
    assert len(heard) == 40
    for text in heard:
        assert not any(
            word in text.lower() for word in ("inject", "fault", "simulat", "chaos", "strike")
        )
    assert "Traceback" in heard[0]
    assert "BackendError: " in heard[0]


def test_no_frame_of_the_package_reaches_the_recorded_stack_trace(tmp_path) -> None:
    """A frame of record/faults.py would tell that the failure was injected."""
    injector = FaultInjector()
    app = app_of(injector)
    injector.inject(Fault("error", "theirs", "/items/<name>"))
    with SpanStore(tmp_path / "spans.sqlite") as store:
        instrument(app, store, service="theirs")
        assert app.test_client().get("/items/1").status_code == 500
        store.flush()
        (failed,) = store.spans().span_id
        stack = store.stack_of(failed)
    files = re.findall(r'File "([^"]+)"', stack or "")
    package = Path(aiops_lab.__file__).parent
    assert "BackendError" in (stack or "")
    assert files  # Flask's frames are there
    assert not [file for file in files if Path(file).is_relative_to(package)]


# ---- the truth


def test_the_log_keeps_what_was_in_force_and_when(tmp_path) -> None:
    with FaultLog(tmp_path / "truth.sqlite") as log:
        injector = FaultInjector(log)
        first = injector.inject(delay(5))
        second = injector.inject(Fault("hang", "shop", "/checkout", ttl_s=60))
        before = log.faults()
        assert before["id"].tolist() == [first, second]
        assert before["end"].isna().tolist() == [True, False]
        assert (before["end"] - before["start"])[1].total_seconds() == 60
        injector.clear()
        after = log.faults()
    assert after["end"].notna().all()
    assert ((after["end"] - after["start"]).dt.total_seconds() < 5).all()
    assert after["kind"].tolist() == ["delay", "hang"]
    assert after["endpoint"].tolist() == ["/payment", "/checkout"]
    assert after["duration_ms"].tolist() == [5, 0]
    assert str(after["start"].dtype) == "datetime64[ns, UTC]"


def test_an_empty_log_has_the_same_columns_and_types(tmp_path) -> None:
    with FaultLog(tmp_path / "truth.sqlite") as log:
        empty = log.faults()
        log.start(delay(5))
        assert list(log.faults().columns) == list(empty.columns)
    assert len(empty) == 0
    assert str(empty["end"].dtype) == "datetime64[ns, UTC]"


def test_a_replaced_fault_ends_in_the_log_and_an_expired_one_keeps_its_end(tmp_path) -> None:
    with FaultLog(tmp_path / "truth.sqlite") as log:
        injector = FaultInjector(log)
        injector.inject(delay(5))
        injector.inject(delay(6, ttl_s=0.05))
        planned = log.faults()["end"]
        assert planned.notna().all()
        assert struck(injector)[0] < 5
        time.sleep(0.1)
        injector.clear()
        assert log.faults()["end"].equals(planned)


def test_the_log_survives_a_restart(tmp_path) -> None:
    path = tmp_path / "truth.sqlite"
    with FaultLog(path) as log:
        log.end(log.start(delay(5)))
    with FaultLog(path) as log:
        assert log.start(delay(6)) == 2
        assert len(log.faults()) == 2
