"""A call names an address; the server span below it names the service, here or in earlier calls."""

from __future__ import annotations

import pandas as pd
import pytest

import aiops_lab as lab
from aiops_lab.traces.callees import SEVERAL
from aiops_lab.traces.encode import encode
from tests.support.made import Shop, fault
from tests.support.played import at, to_spans
from tests.support.traces import span

ADDRESS = "10.0.0.7:80"
ROUTE = "/prices/<fruit>"


def order(n, *, peer=ADDRESS, answered="prices", status=200, path="/prices/apple"):
    """Return the spans of an order, which asks for a price; nobody answers if `answered` is ""."""
    where = {"trace": n, "status": status}
    begin = 1000 * n
    made = [
        span(1, None, "/orders", "server", begin, 30, service="orders", **where),
        span(2, 1, path, "client", begin + 5, 20, service="orders", peer=peer, **where),
        span(3, 2, ROUTE, "server", begin + 6, 18, service=answered, **where),
    ]
    return made if answered else made[:2]


def called(*orders, **options):
    """Return what the calls of some orders are about."""
    spans = encode(lab.to_frame(sum(orders, [])), **options)
    return [spans.keys[node] for node in spans.node[spans.client]]


def test_a_call_is_about_the_service_that_answered_it():
    assert called(order(1)) == [("prices", ROUTE)]
    spans = encode(lab.to_frame(order(1)))
    assert spans.addresses == {("orders", ADDRESS): "prices"}
    assert not [key for key in spans.keys if key[0] == ADDRESS]


def test_a_call_without_an_answer_is_about_the_service_of_the_others():
    assert called(order(1), order(2, answered="")) == [("prices", ROUTE)] * 2
    assert called(order(1, answered="")) == [(ADDRESS, "/prices/apple")]


def test_an_address_is_remembered_from_earlier_spans():
    lost = order(2, answered="", path="/new")
    known = {("orders", ADDRESS): "prices"}
    assert called(lost, addresses=known) == [("prices", "/new")]
    assert called(lost, addresses={("other", ADDRESS): "prices"}) == [(ADDRESS, "/new")]


def test_of_two_services_at_one_address_each_has_its_own_calls():
    both = order(1), order(2, answered="stock"), order(3, answered="")
    names = [("prices", ROUTE), ("stock", ROUTE), (ADDRESS, "/prices/apple")]
    assert called(*both) == names
    assert encode(lab.to_frame(sum(both, []))).addresses == {("orders", ADDRESS): SEVERAL}
    assert called(*both, addresses={("orders", ADDRESS): "stock"}) == names


def test_the_name_of_a_service_that_serves_is_no_address():
    served = order(1, peer="stock"), order(2, answered="stock")
    assert called(*served)[0] == ("stock", ROUTE)
    assert called(order(1, peer="stock"), keys=[("stock", ROUTE)]) == [("stock", ROUTE)]
    assert called(order(1, peer="stock")) == [("prices", ROUTE)]


def test_databases_and_queues_keep_their_names():
    spans = order(1, peer="sqlite", answered="", path="SELECT ?")
    assert called(spans) == [("sqlite", "SELECT ?")]
    message = [
        span(1, None, "mail", "producer", 0, 5, service="orders", peer="kafka"),
        span(2, 1, "mail", "consumer", 9, 5, service="mailer"),
    ]
    assert called(message) == [("kafka", "mail")]


def test_ids_are_not_parsed_where_no_address_is_called():
    assert "ids" not in vars(encode(Shop(1).run(20)).source)
    assert "ids" in vars(encode(lab.to_frame(order(1))).source)


def test_a_service_that_is_gone_is_the_cause_by_its_name():
    normal = lab.to_frame(sum(map(order, range(1, 60)), []))
    failing = [order(n, answered="", status=503) for n in range(60, 90)]
    first, *_ = lab.rank_root_causes(normal, lab.to_frame(sum(failing, [])))
    assert first.key == ("prices", ROUTE)


# ---- as a monitor sees it


def far_away(frame: pd.DataFrame, peer: str) -> pd.DataFrame:
    """Return the frame with /payment served by the bank, which is called as `peer`."""
    is_payment = frame["endpoint"] == "/payment"
    frame = frame.astype({"service": object, "peer": object})
    frame.loc[is_payment & (frame["kind"] == "server"), "service"] = "bank"
    frame.loc[is_payment & (frame["kind"] == "client"), "peer"] = peer
    return frame


@pytest.fixture(scope="module")
def hang():
    """Payments that hang, so that their callers give up: only calls tell of those."""
    frame = Shop(1, fault("/payment", 120, 180, 30_000.0)).run(220)
    is_lost = (frame["endpoint"] == "/payment") & (frame["kind"] == "server")
    late = frame["duration_ms"] > 1000
    return frame[~(is_lost & late)].reset_index(drop=True)


def told(incidents):
    return [incident.to_record() for incident in incidents]


def test_an_address_and_a_name_lead_to_the_same_incidents(hang):
    by_name, by_address = (lab.replay(far_away(hang, peer)) for peer in ("bank", ADDRESS))
    assert by_name.incidents[0].root_cause.key == ("bank", "/payment")
    assert told(by_address.incidents) == told(by_name.incidents)
    assert "given_up" in by_name.windows
    pd.testing.assert_frame_equal(by_address.windows, by_name.windows)


def test_a_monitor_that_was_restarted_still_knows_the_address(hang, tmp_path):
    """After the restart at second 151 nobody answers at the address any more."""
    knobs = lab.Sensitivity(correlation_s=10)  # windows that wait for company reach back no further
    frame = far_away(hang, ADDRESS)
    path = tmp_path / "spans.sqlite"
    with lab.SpanStore(path) as store:
        for row in to_spans(frame[frame["start"] < at(170)]):
            store.add(lab.Span(*row))
        lab.Monitor(store, knobs).step(at(151))
    with lab.SpanStore(path) as store:
        again = lab.Monitor(store, knobs)
        again.step(at(171))
        once = lab.replay(store.spans(), knobs, until=again.judged_until)
        assert told(again.incidents()) == told(once.incidents)
    assert again.incidents()[0].root_cause.key == ("bank", "/payment")
