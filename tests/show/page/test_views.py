"""The live page: every view, over a recording, as a browser would ask for it."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser

import pytest
from flask import Flask

import aiops_lab as lab
from aiops_lab.detect.detectors import DETECTORS
from aiops_lab.formats.writing import frame_spans
from aiops_lab.record.faults import FaultInjector
from aiops_lab.show.api import aiops, simulate
from aiops_lab.show.page.views import front_page
from tests.support.made import Shop, fault
from tests.support.played import offering
from tests.test_monitor import at, fill

EVIL = "/<script>alert(1)</script>&\"'"
BROKEN = fault("/payment", 120, 180, added_ms=400)


def app_of(monitor, now=172, **options):
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(aiops(monitor, now=lambda: at(now), **options))
    app.extensions["monitor"] = monitor
    return app


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """The file of a store in which an incident was found."""
    path = tmp_path_factory.mktemp("store") / "s.sqlite"
    with lab.SpanStore(path) as store:
        fill(store, Shop(1, BROKEN).run(220))
        lab.Monitor(store).step(at(172))
    return path


@pytest.fixture(scope="module")
def client(analysed):
    with lab.SpanStore(analysed) as store:
        yield app_of(lab.Monitor(store)).test_client()


@pytest.fixture(scope="module")
def incident(client):
    return client.get("/aiops/incidents/latest").json


class Words(HTMLParser):
    """What of a page is read: no scripts, and no pictures' titles."""

    def __init__(self, page):
        super().__init__()
        self.parts = []
        self.feed(page)

    def handle_data(self, data):
        self.parts.append(data)


def words(answer):
    assert answer.status_code == 200, answer.text
    return " ".join(" ".join(Words(answer.text).parts).split())


def test_the_overview_shows_incident_health_graph_and_changes(client, incident):
    told = words(client.get("/aiops/"))
    assert "1 open incident" in told
    assert "Latency spike detected in /payment" in told
    assert "Cause: /payment, confidence 99%. Worse because of it: /checkout." in told
    assert re.search(r"/payment unhealthy [\d.]+ 0% 149 ms 45.7 ms", told)
    assert "/checkout calls /payment: 531 calls, 0 failed" in told
    assert "No change was noted" in told


def test_without_the_simulation_interface_nothing_can_be_broken(client):
    assert "Break something" not in client.get("/aiops/").text
    answer = client.post("/aiops/page/faults", data={"kind": "hang"})
    assert answer.status_code == 404
    assert "Nothing may be broken here" in answer.text


def test_an_incident_shows_cause_path_doubt_ledger_and_a_request(client, incident):
    told = words(client.get(f"/aiops/page/incidents/{incident['id']}"))
    for part in (
        "/payment service shop confidence 99%",
        "In 227 of 227 slow or failed requests most of the extra time, or the failure, began",
        "Worst window (10 s), against the baseline /payment: 446ms (baseline: 46ms, ",
        "Mean of the whole incident, against the minutes before 101 requests of /checkout from "
        "outside: mean latency 465.7 ms (usually 71.7 ms).",
        "Path of such a request: /checkout (shop) → /payment (shop)",
        "99% of the answers as clear as this one were right. Clear is how much of the extra time "
        "and failures began there, here 100%.",
        "Why not /checkout? /checkout is degraded",
        "/payment own time +395 ms",
        "a request of /checkout in all +394 ms",
        "No change was noted before it began.",
    ):
        assert part in told


@pytest.mark.parametrize("status", ["all", "active", "resolved"])
def test_incidents_are_listed_by_status(client, incident, status):
    told = words(client.get(f"/aiops/page/incidents?status={status}"))
    assert ("Latency spike detected" in told) == (status != "resolved")


def test_an_endpoint_has_a_page_with_its_chart(client, incident):
    answer = client.get("/aiops/page/endpoint?name=/payment")
    assert "baseline 45.7 ms" in words(answer)
    chart = re.search(r'class="latency" d="(M[^"]+)"', answer.text)
    assert chart[1].count("L") > 10
    assert "/payment" in words(client.get("/aiops/page/endpoints"))


def test_the_graph_marks_cause_and_what_it_made_worse(client, incident):
    page = client.get("/aiops/page/graph").text
    assert re.findall(r'class="box (\w*)"><title>([^<:]+)', page) == [
        ("worse", "/checkout"),
        ("", "/health"),
        ("", "/inventory"),
        ("cause", "/payment"),
    ]


def test_why_not_says_the_reason_and_has_a_path_for_each_endpoint(client, incident):
    path = f"/aiops/page/incidents/{incident['id']}/why-not"
    assert "Why not another one?" in words(client.get(path))
    told = words(client.get(f"{path}?name=/checkout"))
    assert "Why not /checkout? " in told
    assert "But only 0% of the excess originated there" in told
    assert client.get(f"{path}?name=/nowhere").status_code == 400


def test_the_whole_ledger_of_each_entry(client, incident):
    path = f"/aiops/page/incidents/{incident['id']}/ledger"
    assert "/payment own time +396 ms" in words(client.get(f"{path}?entry=/payment"))
    assert client.get(f"{path}?entry=/nowhere").status_code == 400


def test_the_steps_and_the_sample_traces(client, incident):
    path = f"/aiops/page/incidents/{incident['id']}"
    assert "3. Where the excess originated" in words(client.get(f"{path}/steps"))
    sample = incident["trace_correlation"]["sample_traces"][1]
    assert sample["trace_id"] in words(client.get(f"{path}/traces"))
    page = client.get(f"{path}/traces/{sample['trace_id']}")
    assert re.search(r"/checkout shop \d+ ms /payment shop \d+ ms /inventory shop", words(page))
    assert page.text.count('class="own"') == 5  # /checkout before, between and after its calls
    assert client.get(f"{path}/traces/{'f' * 32}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/aiops/page/incidents/INC-0-1",
        "/aiops/page/incidents/INC-0-1/why-not",
        "/aiops/page/incidents/<script>",
        "/aiops/page/endpoint?name=<script>",
        "/aiops/page/endpoint",
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Back to the overview" in answer.text
    assert "<script>" not in answer.text


def test_the_latest_incident_is_json_for_programs_and_a_page_for_people(client, incident):
    known = client.get(f"/aiops/incidents/{incident['id']}").json
    assert client.get("/aiops/incidents/latest").json == known
    asked = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    answer = client.get("/aiops/incidents/latest", headers=asked)
    assert answer.location == f"/aiops/page/incidents/{incident['id']}"
    explained = client.get("/aiops/incidents/latest/explain").json
    assert explained == client.get(f"/aiops/incidents/{incident['id']}/explain").json


def test_no_incident_is_no_latest_one(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        client = app_of(lab.Monitor(store)).test_client()
        answer = client.get("/aiops/incidents/latest")
        told = words(client.get("/aiops/"))
    assert (answer.status_code, answer.json["field"]) == (404, "id")
    assert "No open incident What is usual is learned first" in told
    assert "No endpoint has answered in the last five minutes." in told


def test_a_page_loads_nothing_from_elsewhere_and_lets_no_script_in(client, incident):
    for path in ("/aiops/", f"/aiops/page/incidents/{incident['id']}"):
        answer = client.get(path)
        links = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
        assert all(link.startswith(("/aiops/", "#", "data:,")) for link in links)
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "style=" not in answer.text
        for own in (link for link in links if "static" in link):
            with client.get(own) as file:
                assert file.status_code == 200


@pytest.mark.parametrize("below", ["", "/lab"])
def test_links_lead_below_the_path_of_a_mount(client, incident, below):
    answer = client.get("/aiops/", environ_overrides={"SCRIPT_NAME": below})
    assert f'href="{below}/aiops/page/incidents"' in answer.text


def test_names_from_outside_stay_text(tmp_path):
    frame = Shop(1, BROKEN).run(220)
    frame["endpoint"] = frame["endpoint"].replace("/payment", EVIL)
    frame["service"] = "<b>shop"
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, frame)
        monitor = lab.Monitor(store)
        monitor.note(lab.Change(at(100), "<b>shop", "<img src=x>"))
        client = app_of(monitor).test_client()
        client.post("/aiops/analyze")
        known = client.get("/aiops/incidents/latest").json
        trace = known["trace_correlation"]["sample_traces"][0]["trace_id"]
        one = f"/aiops/page/incidents/{known['id']}"
        ends = ("", "/steps", "/ledger", "/why-not", "/traces", f"/traces/{trace}", "/accept")
        paths = ("/aiops/", "/aiops/page/graph", "/aiops/page/changes", *(one + e for e in ends))
        pages = [client.get(path) for path in paths]
        pages.append(client.get("/aiops/page/endpoint", query_string={"name": EVIL}))
    for page in pages:
        assert page.status_code == 200
        assert "alert(1)" in page.text or "img src=x" in page.text
        assert not re.search(r"<script>|<b>|<img", page.text)


@pytest.mark.parametrize("requests", [2, 2_000])
def test_the_first_answer_has_at_most_4_kb_of_text(tmp_path, requests):
    """Whatever the number of spans, and whatever their names."""
    long = "/" + "x" * 300
    spans = Shop(1, BROKEN)
    spans.run(220)
    for n in range(requests):
        spans.request("/checkout", 130 + n / 100)
    frame = lab.to_frame(spans.spans)
    frame["endpoint"] = frame["endpoint"] + long
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, frame)
        client = app_of(lab.Monitor(store)).test_client()
        client.post("/aiops/analyze")
        known = client.get("/aiops/incidents/latest").json
        told = words(client.get(f"/aiops/page/incidents/{known['id']}"))
    assert "Why not" in told
    assert 1_000 < len(told.encode()) <= 4_096


def test_the_largest_incident_has_at_most_4_kb_of_text_too(analysed, tmp_path):
    """Many suspects, doubts, losses, accounts, changes and spans, all with long names."""
    shutil.copy(analysed, tmp_path / "s.sqlite")
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        ((id, record),) = store.load("incident").items()
        verdict = record["verdict"]
        long = [f"/{n:03}" + "x" * 116 for n in range(60)]
        first = verdict["suspects"][0]
        verdict["suspects"] += [first | {"endpoint": n, "name": n, "share": 0.1} for n in long]
        row = next(row for row in verdict["endpoints"] if row["degraded"])
        verdict["endpoints"] += [row | {"endpoint": n, "route": n} for n in long]
        entry = verdict["steps"][0]["rows"][0]
        verdict["steps"][0]["rows"] += [entry | {"entry": n} for n in long]
        account = verdict["ledger"][0]
        verdict["ledger"] += [account | {"account": n, "excess": 90.0} for n in long]
        step = {"title": "What was changed before?", "text": "y" * 2_000, "rows": [], "traces": []}
        verdict["changes"] = [step] * 9
        record["anomalies"][0]["name"] = long[0]
        record["history"] += [record["history"][0] | {"what": "merged", "detail": id}] * 40
        store.save("incident", {id: record})
        chain = max(verdict["sample_traces"], key=lambda trace: len(trace["affected_chain"]))
        spans = store.spans(trace_id=chain["trace_id"])
        for n, name in enumerate(long):
            top = next(frame_spans(spans))
            store.add(top._replace(span_id=f"{n:016x}", parent_id=top.span_id, endpoint=name))
        store.flush()
        client = app_of(lab.Monitor(store)).test_client()
        told = words(client.get(f"/aiops/page/incidents/{id}"))
    for part in (
        "Why not /",
        "All 41 events",
        "Next suspects",
        "shorter spans are left out",
        "smaller",
        "yyy",
    ):
        assert part in told
    assert len(told.encode()) <= 4_096


# ---- what the buttons do


@pytest.fixture
def own(analysed, tmp_path):
    """A client whose incident may be moved, in an app whose endpoints may be broken."""
    shutil.copy(analysed, tmp_path / "s.sqlite")
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        app = app_of(lab.Monitor(store), hosts=("localhost",))
        injector = FaultInjector()
        app.register_blueprint(simulate(injector, [("shop", "/payment"), ("shop", "/health")]))
        app.register_blueprint(front_page())
        yield app.test_client()
        injector.close()


def test_an_incident_is_acknowledged_and_resolved(own):
    path = f"/aiops/page/incidents/{own.get('/aiops/incidents/latest').json['id']}"
    assert own.post(f"{path}/acknowledge").location == path
    assert "2026-01-01 00:02:52 UTC : acknowledged" in words(own.get(path))
    assert own.post(f"{path}/acknowledge").status_code == 409
    assert own.post(f"{path}/resolve", data={"sure": "true"}).location == path
    told = words(own.get(path))
    assert "2026-01-01 00:02:52 UTC : resolved by hand" in told
    assert "Resolve " not in told
    assert "No open incident The last one: Latency spike" in words(own.get("/aiops/"))
    assert own.post("/aiops/page/incidents/INC-0-1/resolve").status_code == 404


def test_what_is_going_on_is_resolved_after_a_warning_only(own):
    id = own.get("/aiops/incidents/latest").json["id"]
    path = f"/aiops/page/incidents/{id}"
    assert "Still going on : last anomaly 2026-01-01 00:02:50 UTC" in words(own.get(path))
    assert own.post(f"{path}/resolve").location == f"{path}/resolve"
    assert own.get("/aiops/incidents/latest").json["status"] == "active"
    told = words(own.get(f"{path}/resolve"))
    assert "It is not over: the last anomaly was 2026-01-01 00:02:50 UTC" in told
    assert 'name="sure" value="true"' in own.get(f"{path}/resolve").text
    assert own.post(f"{path}/resolve", data={"sure": "true"}).location == path
    assert "It is resolved already." in words(own.get(f"{path}/resolve"))


def test_what_has_gone_quiet_is_resolved_without_a_question(analysed, tmp_path):
    shutil.copy(analysed, tmp_path / "s.sqlite")
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        client = app_of(lab.Monitor(store), now=230).test_client()
        path = f"/aiops/page/incidents/{client.get('/aiops/incidents/latest').json['id']}"
        assert "No anomaly since 2026-01-01 00:02:50 UTC" in words(client.get(path))
        assert client.post(f"{path}/resolve").location == path
        assert client.get("/aiops/incidents/latest").json["status"] == "resolved"


def test_what_is_normal_now_is_accepted_after_a_question_and_can_be_undone(own):
    known = own.get("/aiops/incidents/latest").json
    path = f"/aiops/page/incidents/{known['id']}"
    assert "This is normal now…” is for what was changed on purpose" in words(own.get(path))
    told = words(own.get(f"{path}/accept"))
    assert "/payment: 446ms (baseline: 46ms, 9.8x slower)" in told
    assert "for 5 minutes" in told
    assert own.post(f"{path}/resolve", data={"accept": "true"}).location == path
    told = words(own.get(path))
    assert "accepted as normal and resolved" in told
    assert "You said that this is normal now. Undo: it is not normal" in told
    assert "It is resolved already." in words(own.get(f"{path}/accept"))
    store = own.application.extensions["monitor"].store
    assert store.load("accepted")[known["id"]]
    assert own.post(f"{path}/undo").location == path
    assert store.load("accepted")[known["id"]] is None
    assert "no longer accepted as normal: open again" in words(own.get(path))
    assert own.post(f"{path}/undo").status_code == 409


def test_the_history_has_a_page_and_its_last_events_are_on_that_of_the_incident(own):
    id = own.get("/aiops/incidents/latest").json["id"]
    path = f"/aiops/page/incidents/{id}"
    for _ in range(3):
        own.post(f"{path}/resolve", data={"accept": "true"})
        own.post(f"{path}/undo")
    told = words(own.get(path))
    assert "opened, severity high" in told or "opened, severity medium" in told
    events = own.get("/aiops/incidents/latest").json["history"]
    assert f"All {len(events)} events" in told
    assert told.count("accepted as normal and resolved") == 2
    whole = words(own.get(f"{path}/history"))
    assert whole.count("accepted as normal and resolved") == 3
    assert own.get("/aiops/page/incidents/INC-0-1/history").status_code == 404


def test_a_function_of_a_user_that_fails_is_told_on_the_page(analysed, tmp_path):
    def broken(windows, baselines, sensitivity):
        raise KeyError("<b>")

    shutil.copy(analysed, tmp_path / "s.sqlite")
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        monitor = lab.Monitor(store, detectors=(*DETECTORS, broken))
        client = app_of(monitor, now=182).test_client()
        client.post("/aiops/analyze")
        id = client.get("/aiops/incidents/latest").json["id"]
        for path in ("/aiops/", f"/aiops/page/incidents/{id}"):
            told = words(client.get(path))
            assert re.search(
                r"Your detectors\[\d+\] \(broken\) failed in 1 step and was left", told
            )
            assert "The last error: KeyError: '<b>'" in told


def test_what_a_case_is_unlike_in_is_told_as_a_doubt(analysed, tmp_path):
    shutil.copy(analysed, tmp_path / "s.sqlite")
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        ((id, record),) = store.load("incident").items()
        record["verdict"]["suspects"][0]["caution"] = "unlike the cases learned from: 3 endpoints."
        store.save("incident", {id: record})
        client = app_of(lab.Monitor(store)).test_client()
        assert "here 100%. unlike the cases learned" in words(
            client.get(f"/aiops/page/incidents/{id}")
        )


def test_tables_have_a_label_in_each_cell_for_a_phone(client, incident):
    path = f"/aiops/page/incidents/{incident['id']}"
    for page in ("/aiops/page/incidents", f"{path}/why-not", f"{path}/steps", "/aiops/"):
        rows = client.get(page).text
        assert 'class="cards' in rows
        cells = re.findall(r"<td(?: [^>]*)?>", rows)
        unlabelled = [cell for cell in cells if "data-label" not in cell]
        assert len(unlabelled) <= len(cells) / 3  # pictures, pills and sentences need none


def test_colours_of_pills_are_for_pills_alone(client, incident):
    """Else the buttons of a card with a low severity are as grey as if they were disabled."""
    with client.get("/aiops/page/static/page.css") as file:
        css = file.text
    kinds = "healthy|degraded|unhealthy|low|medium|high|critical|active|resolved"
    rules = re.findall(rf"([^{{}}\n]*\.(?:{kinds})\b[^{{}}]*){{([^}}]*)}}", css)
    assert rules
    assert all(".badge" in where for where, what in rules if re.search(r"(?<![\w-])color:", what))


@pytest.mark.parametrize(
    ("kind", "amount", "told"),
    [
        ("delay", "250", "/payment (shop): 250 ms slower"),
        ("error", "50", "/payment (shop): 50% of requests fail"),
        ("hang", "", "/payment (shop): hang"),
    ],
)
def test_an_endpoint_is_broken_and_mended(own, kind, amount, told):
    form = {"endpoint": "shop\x1f/payment", "kind": kind, "amount": amount}
    assert own.post("/aiops/page/faults", data=form).location == "/aiops/#faults"
    assert told in words(own.get("/aiops/"))
    assert own.get("/simulate/status").json["active"][0]["kind"] == kind
    assert own.post("/aiops/page/faults/clear").location == "/aiops/#faults"
    assert "Nothing is broken on purpose." in words(own.get("/aiops/"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "shop\x1f/nowhere"},
        {"kind": "flood"},
        {"amount": "much"},
        {"amount": "-1"},
        {"amount": "nan"},
        {"kind": "error", "amount": "101"},
    ],
)
def test_a_fault_that_breaks_a_rule_is_refused(own, wrong):
    form = {"endpoint": "shop\x1f/payment", "kind": "delay", "amount": "10"} | wrong
    assert own.post("/aiops/page/faults", data=form).status_code == 400
    assert own.get("/simulate/status").json["active"] == []


@pytest.mark.parametrize(
    ("kind", "amount", "told"),
    [
        ("error", "150", "How much must be between 0 and 100 (% of requests), got '150'"),
        ("error", "-1", "How much must be between 0 and 100 (% of requests), got '-1'"),
        ("delay", "60001", "How much must be between 0 and 60000 (ms), got '60001'"),
        ("delay", "", "How much must be between 0 and 60000 (ms), got ''"),
    ],
)
def test_a_refused_number_is_told_in_the_unit_of_the_form(own, kind, amount, told):
    form = {"endpoint": "shop\x1f/payment", "kind": kind, "amount": amount}
    assert told in " ".join(Words(own.post("/aiops/page/faults", data=form).text).parts)


def test_a_change_is_noted_on_the_page(own):
    form = {"service": "shop", "what": "deployment 2.4.1"}
    assert own.post("/aiops/page/changes", data=form).location == "/aiops/page/changes"
    assert "00:02:52 UTC shop : deployment 2.4.1" in words(own.get("/aiops/"))
    assert own.post("/aiops/page/changes", data=form | {"what": ""}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:81"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "attacker.example", "Origin": "http://attacker.example"},
    ],
)
def test_a_form_of_another_site_changes_nothing(own, headers):
    path = f"/aiops/page/incidents/{own.get('/aiops/incidents/latest').json['id']}"
    for to in (
        f"{path}/resolve",
        f"{path}/undo",
        "/aiops/page/faults/clear",
        "/aiops/page/changes",
    ):
        assert own.post(to, headers=headers).status_code == 403
    assert own.get("/aiops/incidents/latest").json["status"] == "active"


def test_a_form_of_the_page_itself_is_taken(own):
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert own.post("/aiops/page/faults/clear", headers=headers).status_code == 303


def test_the_front_of_a_server_of_this_package_leads_to_the_page(own):
    assert own.get("/").location == "/aiops/"


def test_an_application_keeps_its_own_front(client):
    assert client.get("/").status_code == 404


def test_a_level_that_moved_a_little_after_a_change_is_no_open_incident_but_an_offer(tmp_path):
    with offering(tmp_path / "s.sqlite") as monitor:
        client = app_of(monitor, now=400).test_client()
        told = words(client.get("/aiops/"))
        assert "No open incident" in told
        assert "Levels that moved after a change Small lasting shift detected in /payment" in told
        one = words(client.get(f"/aiops/page/incidents/{monitor.incidents()[0].id}"))
        assert "A small shift that began at a change which was noted." in one


def leak(endpoint, second):
    return max(0.0, 0.1 * (second - 120)) if endpoint == "/payment" else 0.0, 200


def test_a_leak_is_looked_ahead_on_every_page_and_in_the_json(tmp_path):
    ahead = re.compile(r"rises by [\d.]+ ms a minute and reaches 1\d\d ms at about 2026-01-01 00:1")
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        fill(store, Shop(3, leak).run(400, rate=20))
        lab.Monitor(store).step(at(400))
        client = app_of(lab.Monitor(store), now=400).test_client()
        overview = words(client.get("/aiops/"))
        assert len(ahead.findall(overview)) >= 1
        assert re.search(
            r"with 80% at most [\d.]+ (s|min) earlier or [\d.]+ (s|min) later", overview
        )
        assert re.search(r"/payment \w+ rising", overview)
        assert ahead.search(words(client.get("/aiops/page/endpoint?name=/payment")))
        calm = words(client.get("/aiops/page/endpoint?name=/health"))
        assert "Looking ahead: no steady rise, so no forecast." in calm
        shown = client.get("/aiops/incidents/latest").json
        assert shown["forecasts"]["/payment"]["coverage"] == 0.8
        path = f"/aiops/page/incidents/{shown['id']}"
        assert re.search(f"Looking ahead: /payment {ahead.pattern}", words(client.get(path)))
        client.post(f"/aiops/incidents/{shown['id']}/resolve")
        assert "forecasts" not in client.get(f"/aiops/incidents/{shown['id']}").json
        assert "Looking ahead" not in words(client.get(path))


def test_a_text_that_utf8_cannot_write_is_shown_in_part(tmp_path):
    with lab.SpanStore(tmp_path / "s.sqlite") as store:
        store.save("change", {"of an earlier version": [at(0).value, "shop", "a\ud800b"]})
        page = app_of(lab.Monitor(store)).test_client().get("/aiops/")
    assert (page.status_code, "a?b" in page.text) == (200, True)
