"""The shop over real HTTP: it starts, answers, takes traffic, and leaves nothing behind."""

from __future__ import annotations

import _thread
import gc
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
import requests
from cheroot.server import HTTPConnection
from cheroot.workers.threadpool import ThreadPool

import shop
from aiops_lab import Sensitivity, replay
from aiops_lab.record.faults import Fault
from aiops_lab.show.access import access_at
from shop.live import running
from shop.live.running import Shop
from shop.live.traffic import MIX, background
from shop.topology import SEED_SHOP, Call, Endpoint, Topology

FAST = Topology(tuple(replace(e, median_ms=e.median_ms / 10) for e in SEED_SHOP.endpoints))


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt: in the background of a script it is ignored, and children
    inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ask(method: str, url: str, timeout: float = 30, **given: object) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, timeout=timeout, **given)  # type: ignore[arg-type]


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_free(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((urlsplit(url).hostname or "", urlsplit(url).port or 0)) != 0


# ---- start and stop


@pytest.mark.parametrize("services", ["one", "many"])
def test_it_runs_twice_in_a_row_and_leaves_no_thread_no_port_and_no_file(
    services: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = set(threading.enumerate())
    for _ in range(2):
        with shop.running(services, interval_s=0.2) as running:
            assert ask("POST", f"{running.url}/checkout").status_code == 200
            urls = list(running.urls.values())
            assert len(urls) == (1 if services == "one" else 4)
        assert all(is_free(url) for url in urls)
        assert set(threading.enumerate()) <= threads
        assert list(tmp_path.iterdir()) == []
    gc.collect()  # an unclosed socket or file would warn here, and warnings are errors


def test_a_page_that_listens_is_let_go_when_the_shop_stops() -> None:
    threads = set(threading.enumerate())
    with shop.running() as running:
        assert requests.get(running.url, timeout=60).url == f"{running.url}/aiops/"
        page = requests.get(f"{running.url}/aiops/events", stream=True, timeout=60)
        lines = page.iter_lines()
        assert next(lines) == b"retry: 5000"
    assert set(threading.enumerate()) <= threads
    assert b"" in list(lines)  # it ended as an answer does, and was not cut off
    page.close()


def test_after_an_exception_nothing_is_left_either() -> None:
    threads, seen = set(threading.enumerate()), []

    def fail() -> None:
        with shop.running() as running:
            seen.append(running.url)
            running.inject(Fault("hang", "shop", "/payment"))
            threading.Thread(target=lambda: ask("POST", f"{seen[0]}/payment")).start()
            wait_until(lambda: running.store.opened)
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    wait_until(lambda: set(threading.enumerate()) <= threads)
    assert is_free(seen[0])


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (tempfile, "TemporaryDirectory"),
        (running, "SpanStore"),
        (running._Server, "prepare"),
        (ThreadPool, "grow"),
        (ThreadPool, "_spawn_worker"),
        (running, "build"),
        (running._Server, "answer_with"),
        (running._Server, "close"),
    ],
)
def test_ctrl_c_at_any_moment_of_the_start_or_end_leaves_nothing(
    where: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted right after each step, while what it made exists and nobody has written it down
    yet.
    """
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads, step, calls = set(threading.enumerate()), getattr(where, name), count()

    def interrupted(*args: object, **given: object) -> object:
        made = step(*args, **given)
        if next(calls) == 0:
            _thread.interrupt_main()
            time.sleep(0.02)  # it comes here, if this is the main thread
        return made

    monkeypatch.setattr(where, name, interrupted)
    urls: list[str] = []
    with pytest.raises(KeyboardInterrupt), shop.running(topology=FAST) as running:  # noqa: PT012
        urls += running.urls.values()
        time.sleep(0.2)
    wait_until(lambda: set(threading.enumerate()) <= threads)
    assert all(is_free(url) for url in urls)
    assert list(tmp_path.iterdir()) == []


def test_a_connection_that_comes_back_while_the_server_closes_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = running._Server(0, 2)
    server.open()
    server.ready = True
    ours, theirs = socket.socketpair()
    put, close = server._connections.put, server._connections._selector.close
    begun, others_are_closed, kept = (threading.Event() for _ in range(3))

    def slow_put(conn: HTTPConnection) -> None:
        begun.set()
        others_are_closed.wait(0.5)
        put(conn)
        kept.set()

    def late_close() -> None:
        others_are_closed.set()
        kept.wait(30)
        close()

    monkeypatch.setattr(server._connections, "put", slow_put)
    monkeypatch.setattr(server._connections._selector, "close", late_close)
    with ours, theirs:
        worker = threading.Thread(target=server.put_conn, args=(HTTPConnection(server, ours),))
        worker.start()
        begun.wait(30)
        server.close()
        worker.join(30)
        theirs.settimeout(30)
        assert theirs.recv(1) == b""


def test_what_goes_wrong_at_the_start_or_the_end_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def failing(early: bool) -> Iterator[int]:
        if early:
            raise OSError("early")
        yield 1
        raise OSError("late")

    for early, message in ((True, "early"), (False, "late")):
        with pytest.raises(OSError, match=message), running.undisturbed(failing(early)):
            pass


def test_the_same_port_can_be_taken_again_at_once() -> None:
    with shop.running() as running:
        port = urlsplit(running.url).port
        ask("GET", f"{running.url}/health")
    with shop.running(port=port) as again:
        assert ask("GET", f"{again.url}/health").status_code == 200


@pytest.mark.parametrize("services", ["one", "many"])
def test_a_port_in_use_is_named_and_leaves_nothing(services: str) -> None:
    threads = set(threading.enumerate())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"port {port} on 127.0.0.1 is in use"),
            shop.running(services, port=port),
        ):
            pass
    assert set(threading.enumerate()) <= threads


def test_stopping_does_not_wait_for_hung_or_delayed_requests() -> None:
    with shop.running() as running:
        running.inject(Fault("hang", "shop", "/payment"))
        running.inject(Fault("delay", "shop", "/health", duration_ms=30_000))
        clients = [
            threading.Thread(target=ask, args=(method, running.url + path))
            for method, path in (("POST", "/payment"), ("POST", "/checkout"), ("GET", "/health"))
        ]
        for client in clients:
            client.start()
        wait_until(lambda: len(running.store.opened) >= 5)
        begin = time.monotonic()
    assert time.monotonic() - begin < 20  # the hang would last for 60 s, the delay for 30
    for client in clients:
        client.join(5)


def test_on_a_network_only_who_has_the_token_breaks_the_shop() -> None:
    access = access_at("0.0.0.0", "s3", private=True)
    with shop.running(host="0.0.0.0", access=access) as one:
        broken = f"{one.url}/simulate/hang?endpoint=/health"
        assert ask("POST", broken).status_code == 401
        assert ask("GET", f"{one.url}/metrics").status_code == 401
        assert ask("POST", broken, auth=("ann", "s3")).status_code == 200
        assert ask("POST", f"{one.url}/checkout").status_code == 200


def test_an_unknown_number_of_services_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="services must be one of one, many, got 'few'"),
        shop.running("few"),
    ):
        pass


def test_a_given_file_remains_with_spans_and_truth_and_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    for round in (1, 2):
        with shop.running(path=path) as running:
            running.inject(Fault("delay", "shop", "/health", duration_ms=1))
            ask("GET", f"{running.url}/health")
            running.store.flush()
            assert len(running.store.spans()) == round
            assert len(running.truth.faults()) == round
    assert path.exists()


# ---- what it answers


@pytest.mark.parametrize("services", ["one", "many"])
def test_a_checkout_is_one_trace_through_payment_and_inventory(services: str) -> None:
    with shop.running(services, topology=FAST) as running:
        answer = ask("POST", f"{running.url}/checkout", json={"item": "lamp", "quantity": 2})
        running.store.flush()
        spans = running.store.spans()
    assert answer.json()["status"] == "confirmed"
    assert answer.json()["amount"] == 84.0
    assert answer.json()["payment_id"].startswith("PAY-")
    assert set(spans["trace_id"]) == {answer.headers["X-Trace-Id"]}
    served = spans[spans["kind"] == "server"]
    assert served["endpoint"].tolist() == ["/checkout", "/payment", "/inventory"]
    assert served["service"].tolist() == (
        ["shop"] * 3 if services == "one" else ["checkout", "payment", "inventory"]
    )
    calls = spans[spans["kind"] == "client"].set_index("span_id")
    assert calls.loc[served["parent_id"].iloc[1:], "endpoint"].tolist() == [
        "/payment",
        "/inventory",
    ]
    assert calls["peer"].tolist() == (
        ["shop"] * 2 if services == "one" else ["payment", "inventory"]
    )


def test_the_other_answers_are_fit_for_a_shop() -> None:
    with shop.running(topology=FAST) as running:
        assert ask("GET", f"{running.url}/health").json() == {"status": "healthy"}
        stock = ask("GET", f"{running.url}/inventory").json()
        assert all(item["in_stock"] > 0 and item["price"] > 0 for item in stock["items"])
        payment = ask("POST", f"{running.url}/payment", json={"amount": 12.5}).json()
        assert (payment["status"], payment["amount"], payment["currency"]) == (
            "approved",
            12.5,
            "EUR",
        )


def test_a_timed_out_callee_is_a_504_and_an_unreachable_one_a_502() -> None:
    impatient = Topology(
        (
            Endpoint("payment", "/payment", "POST", median_ms=1),
            Endpoint(
                "checkout",
                "/checkout",
                "POST",
                1,
                calls=(Call("payment", "/payment", timeout_s=0.2),),
            ),
        )
    )
    with shop.running("many", topology=impatient) as running:
        running.inject(Fault("hang", "payment", "/payment"))
        late = ask("POST", f"{running.url}/checkout")
        running.clear()
        running.urls["payment"] = "http://127.0.0.1:1"
        refused = ask("POST", f"{running.url}/checkout")
        running.store.flush()
        spans = running.store.spans()
    assert (late.status_code, late.json()["error"]) == (504, "/payment did not answer within 0.2 s")
    assert (refused.status_code, refused.json()["error"]) == (
        502,
        "/payment could not be reached: ConnectionError",
    )
    checkouts = spans[spans["endpoint"] == "/checkout"]
    assert checkouts["error"].tolist() == [
        "BackendError: /payment did not answer within 0.2 s",
        "BackendError: /payment could not be reached: ConnectionError",
    ]
    assert spans[spans["kind"] == "client"]["status"].tolist() == [0, 0]


def test_calls_of_one_stage_are_made_in_parallel_and_stay_in_the_trace() -> None:
    wide = Topology(
        (
            Endpoint("left", "/left", median_ms=150, sigma=0),
            Endpoint("right", "/right", median_ms=150, sigma=0),
            Endpoint(
                "top",
                "/top",
                median_ms=0,
                calls=((Call("left", "/left"), Call("right", "/right")),),
            ),
        ),
        front="top",
    )
    with shop.running("many", topology=wide) as running:
        answer = ask("GET", f"{running.url}/top")
        running.store.flush()
        spans = running.store.spans()
    calls = spans[spans["kind"] == "client"]
    assert (
        calls["start"].max()
        < (calls["start"] + pd.to_timedelta(calls["duration_ms"], unit="ms")).min()
    )
    assert set(answer.json()["calls"]) == {"/left", "/right"}
    assert spans["trace_id"].nunique() == 1
    assert len(spans) == 5


def test_a_failed_call_is_tried_again_as_often_as_the_topology_says() -> None:
    stubborn = Topology(
        (
            Endpoint("b", "/b", median_ms=0),
            Endpoint("a", "/a", median_ms=0, calls=(Call("b", "/b", retries=2),)),
        ),
        front="a",
    )
    with shop.running("many", topology=stubborn) as running:
        assert ask("GET", f"{running.url}/a").status_code == 200
        running.inject(Fault("error", "b", "/b"))
        assert ask("GET", f"{running.url}/a").status_code == 502
        running.store.flush()
        spans = running.store.spans()
    assert (spans["endpoint"].eq("/b") & spans["kind"].eq("server")).sum() == 1 + 3


def test_service_times_follow_the_topology() -> None:
    with shop.running() as running:
        seen = shop.drive(running, 1.2, 40, mix={"/payment": 1, "/inventory": 1}, progress=False)
    taken = seen.groupby("endpoint")["duration_ms"]
    medians, least = taken.median(), taken.quantile(0.1)  # a busy machine makes some longer
    assert medians["/payment"] > 38
    assert medians["/inventory"] > 16
    assert least["/payment"] < 75
    assert least["/inventory"] < 45


def test_a_fault_where_nothing_is_gets_refused() -> None:
    with shop.running(topology=FAST) as running:
        with pytest.raises(
            ValueError, match="fault must be at one of .*shop /payment.*, got 'payment /payment'"
        ):
            running.inject(Fault("hang", "payment", "/payment"))
        assert running.injector.active() == []


# ---- under load


@pytest.mark.parametrize("services", ["one", "many"])
def test_a_hundred_hung_requests_never_keep_the_control_plane_from_answering(services: str) -> None:
    with shop.running(services) as running:
        payment = running.places()["/payment"]
        running.inject(Fault("hang", "shop" if services == "one" else "payment", "/payment"))
        with background(running, 1):
            statuses: list[int] = []
            url = f"http://{payment.host}:{payment.port}/payment"
            clients = [
                threading.Thread(
                    target=lambda: statuses.append(ask("POST", url, timeout=30).status_code)
                )
                for _ in range(150)
            ]
            for client in clients:
                client.start()
            wait_until(lambda: statuses.count(503) >= 150 - 128)
            for path in ("/simulate/status", "/aiops/incidents", "/aiops/metrics", "/health") * 3:
                base = (
                    running.url
                    if path != "/health"
                    else f"http://{payment.host}:{running.places()['/health'].port}"
                )
                answer = ask("GET", base + path)
                assert answer.status_code == 200
            assert ask("POST", f"{running.url}/simulate/clear").status_code == 200
            for client in clients:
                client.join(60)
        assert len(statuses) == 150
        assert set(statuses) == {200, 503}


def test_beyond_its_capacity_an_endpoint_answers_503_as_json_and_recovers() -> None:
    tiny = Topology(
        (Endpoint("a", "/a", median_ms=1, capacity=1), Endpoint("a", "/b", median_ms=1)), front="a"
    )
    with shop.running("many", topology=tiny) as running:
        running.inject(Fault("hang", "a", "/a"))
        answers: list[requests.Response] = []
        clients = [
            threading.Thread(target=lambda: answers.append(ask("GET", f"{running.url}/a")))
            for _ in range(2)
        ]
        for client in clients:
            client.start()
        wait_until(lambda: answers)  # either may be the one that is held
        busy = answers[0]
        assert (busy.status_code, busy.json()["error"]) == (
            503,
            "/a is at its capacity, try again later",
        )
        assert ask("GET", f"{running.url}/b").status_code == 200
        running.clear()
        for client in clients:
            client.join(30)
        assert answers[1].status_code == 200
        assert ask("GET", f"{running.url}/a").status_code == 200


def test_the_truth_does_not_leak_into_the_telemetry(tmp_path: Path) -> None:
    with shop.running(topology=FAST) as running:
        for path in ("error?endpoint=/payment&rate=1", "delay?endpoint=/health&duration=5"):
            ask("POST", f"{running.url}/simulate/{path}")
        shop.drive(running, 1, 40, progress=False)
        running.store.flush()
        spans = running.store.spans()
        failed = spans[spans["error"].notna()]
        stacks = [running.store.stack_of(id) or "" for id in failed["span_id"]]
    told = " ".join(
        [*map(str, spans.drop(columns=["start", "duration_ms"]).to_numpy().ravel()), *stacks]
    ).lower()
    assert not any(word in told for word in ("inject", "fault", "simulat", "strike"))
    assert any("Traceback" in stack for stack in stacks)
    assert failed["endpoint"].isin(["/payment", "/checkout"]).all()


def test_the_background_worker_finds_an_incident_by_itself() -> None:
    knobs = Sensitivity(window_s=1.0, grace_s=0.2)
    with shop.running(sensitivity=knobs, interval_s=0.2, topology=FAST) as running:
        shop.drive(running, 2.5, 80, progress=False)
        assert running.monitor.incidents() == []
        running.inject(Fault("error", "shop", "/payment"))
        with background(running, 60):
            wait_until(running.monitor.incidents)
            wait_until(lambda: running.monitor.incidents()[0].root_cause)
        cause = running.monitor.incidents()[0].root_cause
    assert (cause.service, cause.endpoint) == ("shop", "/payment")


def test_a_step_that_fails_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def step(self: Shop, now: pd.Timestamp | None = None) -> list:
        steps.append(1)
        raise RuntimeError("bad step")

    monkeypatch.setattr(Shop, "step", step)
    with shop.running(interval_s=0.02):
        wait_until(lambda: len(steps) > 3)


# ---- traffic


def test_drive_returns_what_its_clients_saw() -> None:
    with shop.running(topology=FAST) as running:
        running.inject(Fault("error", "shop", "/inventory"))
        seen = shop.drive(running, 1, 120, clients=3, progress=False)
        running.store.flush()
        roots = running.store.spans().query("parent_id.isna()")
    assert list(seen.columns) == [
        "start",
        "client",
        "method",
        "endpoint",
        "status",
        "duration_ms",
        "trace_id",
        "error",
    ]
    assert str(seen["start"].dtype) == "datetime64[ns, UTC]"
    assert seen["start"].is_monotonic_increasing
    assert 80 < len(seen) < 160
    assert set(seen["client"]) == {0, 1, 2}
    assert set(seen["trace_id"]) == set(roots["trace_id"])
    assert seen.groupby("endpoint")["status"].agg(set).to_dict() == {
        "/health": {200},
        "/payment": {200},
        "/inventory": {500},
        "/checkout": {502},
    }
    assert seen["error"].isna().equals(seen["status"] == 200)
    assert (seen.query("endpoint == '/checkout'")["error"] == "/inventory answered 500").all()


def test_the_loop_is_open_so_a_slow_shop_gets_the_same_traffic() -> None:
    with shop.running(topology=FAST) as running:
        running.inject(Fault("delay", "shop", "/health", duration_ms=1000))
        seen = shop.drive(running, 0.6, 60, mix={"/health": 1}, progress=False)
    first = seen["start"].iloc[0]
    assert len(seen) > 25
    assert (seen["start"].iloc[-1] - first).total_seconds() < 5  # a closed loop waits 1 s for each
    assert seen["duration_ms"].min() > 900


def test_the_same_seed_sends_the_same_requests_and_a_new_client_changes_no_others() -> None:
    def plan(seed: int, clients: int) -> pd.DataFrame:
        seen = shop.drive(
            "http://127.0.0.1:1", 0.4, 60 * clients, clients, seed=seed, progress=False
        )
        return seen.sort_values(["client", "start"])[["client", "endpoint"]].reset_index(drop=True)

    two, again, other, three = plan(1, 2), plan(1, 2), plan(2, 2), plan(1, 3)
    assert two.equals(again)
    assert not two.equals(other)
    assert three[three["client"] < 2].reset_index(drop=True).equals(two)


def test_paced_arrivals_come_at_equal_distances_and_at_the_rate() -> None:
    with shop.running(topology=FAST) as running:
        seen = shop.drive(running, 1, 60, mix={"/health": 1}, progress=False, arrivals="paced")
    gaps = seen["start"].diff().dt.total_seconds().dropna()
    assert len(seen) == 60
    assert gaps.median() == pytest.approx(1 / 60, rel=0.2)


def test_a_request_without_an_answer_has_status_0_and_says_why() -> None:
    with shop.running(topology=FAST) as running:
        running.inject(Fault("hang", "shop", "/health"))
        seen = shop.drive(running, 0.5, 20, mix={"/health": 1}, progress=False, timeout_s=0.2)
        url = running.url
    assert set(seen["status"]) == {0}
    assert seen["trace_id"].isna().all()
    assert seen["error"].str.contains("timed out").all()
    gone = shop.drive(url, 0.3, 20, progress=False)
    assert set(gone["status"]) == {0}
    assert gone["error"].str.startswith("ConnectionRefusedError").all()


def test_a_url_is_a_target_too_and_the_mix_is_respected() -> None:
    with shop.running(topology=FAST) as running:
        seen = shop.drive(running.url, 1.5, 200, progress=False)
    shares = seen["endpoint"].value_counts(normalize=True)
    for endpoint, share in MIX.items():
        assert shares[endpoint] == pytest.approx(share, abs=0.09)
    assert set(seen["status"]) == {200}


def test_a_drive_can_be_stopped_from_another_thread() -> None:
    stop = threading.Event()
    stop.set()
    assert shop.drive("http://127.0.0.1:1", 1000, 1, progress=False, stop=stop).empty


def test_the_bar_is_on_stderr_and_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    with shop.running(topology=FAST) as running:
        threads = set(threading.enumerate())
        shop.drive(running, 0.3, 20)
        wait_until(lambda: set(threading.enumerate()) <= threads)
    out, err = capsys.readouterr()
    assert out == ""
    assert "req" in err


def test_ctrl_c_ends_a_drive_at_once_and_cleanly() -> None:
    with shop.running(topology=FAST) as running:
        threads = set(threading.enumerate())
        running.inject(Fault("hang", "shop", "/health"))
        timer = threading.Timer(0.5, _thread.interrupt_main)
        timer.start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            shop.drive(running, 30, 20, mix={"/health": 1}, progress=False)
        assert time.monotonic() - begin < 20  # of 30
        timer.join()
        wait_until(lambda: set(threading.enumerate()) <= threads)
    gc.collect()


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("seconds", {"seconds": -1}),
        ("seconds", {"seconds": float("nan")}),
        ("rate", {"rate": 0}),
        ("rate", {"rate": float("inf")}),
        ("clients", {"clients": 0}),
        ("mix", {"mix": {"/nowhere": 1}}),
        ("mix", {"mix": {"/health": 0}}),
        ("mix", {"mix": {}}),
        (r"mix\['/health'\]", {"mix": {"/health": -1}}),
        ("arrivals", {"arrivals": "bursts"}),
        ("timeout_s", {"timeout_s": 0}),
        ("target", {"target": "ftp://127.0.0.1"}),
        ("target", {"target": "127.0.0.1:5000"}),
    ],
)
def test_traffic_that_makes_no_sense_is_refused_by_name(field: str, given: dict) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*, got "):
        shop.drive(
            **{"target": "http://127.0.0.1:1", "seconds": 1, "rate": 1, "progress": False} | given
        )


def test_a_live_run_and_its_replay_give_the_same_incidents() -> None:
    """Same ids, causes and numbers, to the last digit: the monitor stepped while the traffic was
    still on its way.
    """
    # a busy machine is no incident
    knobs = Sensitivity(window_s=1, timeout_s=1, grace_s=0.5, min_ms=500)
    with shop.running(topology=FAST, sensitivity=knobs, interval_s=0.5) as running:
        shop.drive(running, 4, 40, progress=False)
        running.inject(Fault("hang", "shop", "/payment"))
        shop.drive(running, 3, 20, progress=False, timeout_s=3)
        wait_until(running.monitor.incidents)
        running.clear()
        running.step()
        until, records = None, []
        while until != running.monitor.judged_until:  # the monitor's own thread may step in between
            until = running.monitor.judged_until
            records = [i.to_record() for i in running.monitor.incidents()]
        replayed = replay(running.store.spans(), knobs, until=until).incidents
    assert records == [i.to_record() for i in replayed]
    assert replayed[0].root_cause is not None
    assert replayed[0].root_cause.endpoint == "/payment"
