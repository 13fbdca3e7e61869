"""Who may look, and who may change something, with and without a token."""

from __future__ import annotations

import pytest
from flask import Flask

from aiops_lab import Monitor, SpanStore
from aiops_lab.record.faults import FaultInjector
from aiops_lab.show import access, attempts
from aiops_lab.show.access import (
    TOKEN_VARIABLE,
    Access,
    access_at,
    checked_access,
    checked_url,
    is_loopback,
)
from aiops_lab.show.api import aiops, json_errors, simulate
from aiops_lab.show.origin import LOCAL_HOSTS

ONE = "/aiops/incidents/INC-0-1"
CHANGES = (
    *("/simulate/delay?endpoint=/pay&duration=5", "/simulate/error?endpoint=/pay&rate=1"),
    *("/simulate/hang?endpoint=/pay", "/simulate/clear", "/aiops/analyze"),
    *(f"{ONE}/acknowledge", f"{ONE}/resolve", "/aiops/changes?service=a&what=b"),
)
FOREIGN = (
    {"Origin": "http://attacker.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:81"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Host": "attacker.example", "Origin": "http://attacker.example"},
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with SpanStore(tmp_path_factory.mktemp("access") / "s.sqlite") as opened:
        yield opened


@pytest.fixture
def client_of(store):
    """A function that makes the client of an interface for those who are admitted."""
    injectors = []

    def client(access=None):
        access = access or Access()
        app = Flask("guarded", static_folder=None)
        json_errors(app)
        injectors.append(FaultInjector())
        app.register_blueprint(simulate(injectors[-1], [("shop", "/pay")], access))
        app.register_blueprint(aiops(Monitor(store), **access._asdict()))
        return app.test_client()

    yield client
    for injector in injectors:
        injector.close()


def test_another_address_of_this_machine_is_a_name_of_the_server(client_of):
    client = client_of(access_at("127.0.0.2"))
    assert client.get("/aiops/incidents", headers={"Host": "127.0.0.2:5050"}).status_code == 200


@pytest.mark.parametrize("access", [None, Access(LOCAL_HOSTS)])
def test_no_page_of_another_site_changes_anything(client_of, access):
    client = client_of(access)
    for headers in FOREIGN:
        for path in CHANGES:
            answer = client.post(path, headers=headers)
            assert answer.status_code == 403, (path, headers)
            field = answer.json["field"]
            assert field in headers
            assert answer.json["error"].startswith(f"{field} must be ")
    assert client.get("/simulate/status").json["active"] == []
    assert client.get("/aiops/changes").json["changes"] == []


@pytest.mark.parametrize("access", [None, Access(LOCAL_HOSTS)])
def test_programs_and_pages_of_this_server_do(client_of, access):
    client = client_of(access)
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    for headers in ({}, own):
        statuses = [client.post(path, headers=headers).status_code for path in CHANGES[:5]]
        assert statuses == [200] * 5


def test_a_server_that_knows_its_names_is_not_read_by_another(client_of):
    headers = {"Host": "attacker.example"}
    answer = client_of(Access(LOCAL_HOSTS)).get("/aiops/incidents", headers=headers)
    assert answer.status_code == 403
    assert "localhost" in answer.json["rule"]
    assert client_of().get("/aiops/incidents", headers=headers).status_code == 200


def test_a_form_is_no_json(client_of):
    client = client_of()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for path in CHANGES:
            answer = client.post(path, data=b"{}", content_type=kind)
            assert (answer.status_code, answer.json["field"]) == (415, "Content-Type")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"auth": ("ann", "wrong")}, 401),
        ({"headers": {"Authorization": "Bearer wrong"}}, 401),
        ({"headers": {"Authorization": "Digest s3"}}, 401),
        ({"headers": {"Authorization": "s3"}}, 401),
        ({"headers": {"Authorization": "Bearer"}}, 401),
        ({"headers": {"Authorization": "Basic ???"}}, 401),
        ({"auth": ("s3", "")}, 401),
        ({"headers": {"Authorization": "Bearer s3"}}, 200),
        ({"headers": {"Authorization": "bearer s3"}}, 200),
        ({"auth": ("ann", "s3")}, 200),
    ],
)
def test_a_change_needs_the_token(client_of, given, status):
    client = client_of(Access(token="s3\n"))
    answer = client.post("/aiops/analyze", **given)
    assert answer.status_code == status
    assert client.post("/aiops/page/changes", **given).status_code in (status, 400)
    assert client.get("/aiops/incidents").status_code == 200
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert "s3" not in answer.text


def test_reading_may_need_it_too(client_of):
    client = client_of(Access(token="s3", private=True))
    for path in ("/aiops/", "/aiops/incidents", "/aiops/page/changes", "/simulate/status"):
        answer = client.get(path)
        assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (401, True)
        assert client.get(path, auth=("ann", "s3")).status_code == 200


def test_the_token_does_not_let_another_site_in(client_of):
    client = client_of(Access(token="s3"))
    answer = client.post("/aiops/analyze", auth=("ann", "s3"), headers=FOREIGN[0])
    assert answer.status_code == 403


def test_other_addresses_need_a_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(ValueError, match=r"^host must be 127.0.0.1 unless .*, got '0.0.0.0'"):
        access_at("0.0.0.0")
    assert access_at("0.0.0.0", "s3") == Access(None, "s3", False)
    assert access_at("127.0.0.1") == Access(frozenset(LOCAL_HOSTS), None, False)
    monkeypatch.setenv(TOKEN_VARIABLE, "s4")
    assert access_at("0.0.0.0", private=True) == Access(None, "s4", True)
    assert access_at("0.0.0.0", "s3").token == "s3"


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("localhost", True), ("127.1.2.3", True), ("::1", True), ("::", False), ("a.example", False)],
)
def test_loopback_addresses_are_those_of_this_machine(host, is_local):
    assert is_loopback(host) == is_local


@pytest.mark.parametrize(
    ("access", "field"),
    [
        (Access(hosts="localhost"), "hosts"),
        (Access(token=""), "token"),
        (Access(token=" \n"), "token"),
        (Access(token=5), "token"),
        (Access(private=True), "private"),
    ],
)
def test_a_wrong_setting_is_named(access, field):
    with pytest.raises(ValueError, match=f"^{field} must be "):
        checked_access(access)


@pytest.mark.parametrize("token", ["a=b", "abc==", "a"])
def test_a_token_may_hold_an_equals_sign(client_of, token):
    client = client_of(Access(token=token))
    headers = {"Authorization": f"Bearer {token}"}
    assert client.post("/simulate/clear", headers=headers).status_code == 200
    assert client.post("/simulate/clear", headers={"Authorization": "Bearer b"}).status_code == 401


def asking(client, address="127.0.0.1"):
    """Return a function that sends a change with a token, and returns the answer."""

    def ask(token):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        here = {"REMOTE_ADDR": address}
        return client.post("/simulate/clear", headers=headers, environ_base=here)

    return ask


def test_many_wrong_tokens_of_one_address_are_too_many_and_the_right_one_is_let_in(client_of):
    client = client_of(Access(token="word"))
    ask = asking(client)
    guesses = [f"wrong {n}" for n in range(attempts.MOST_WRONG)]
    assert {ask(guess).status_code for guess in guesses} == {401}
    refused = ask("another")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= attempts.PER_S
    assert ask("word").status_code == 200
    assert ask("").status_code == 401  # so that a browser asks for it
    assert asking(client, "10.0.0.7")("wrong").status_code == 401


def test_a_page_that_sends_an_old_token_again_and_again_counts_once(client_of):
    ask = asking(client_of(Access(token="word")))
    assert {ask("old").status_code for _ in range(attempts.MOST_WRONG + 1)} == {401}
    assert ask("another").status_code == 401


def test_a_machine_that_asks_too_often_is_refused_and_others_are_not(client_of, monkeypatch):
    monkeypatch.setattr(access, "MOST_REQUESTS", 3)
    client = client_of()

    def ask(address):
        return client.get("/aiops/changes", environ_base={"REMOTE_ADDR": address})

    assert [ask("10.0.0.7").status_code for _ in range(4)] == [200, 200, 200, 429]
    assert 1 <= int(ask("10.0.0.7").headers["Retry-After"]) <= attempts.PER_S
    page = client.get("/aiops/", environ_base={"REMOTE_ADDR": "10.0.0.7"})
    assert (page.status_code, "Retry-After" in page.headers) == (429, True)
    assert ask("10.0.0.8").status_code == 200
    assert {ask("127.0.0.1").status_code for _ in range(5)} == {200}


def test_requests_with_the_right_token_are_not_counted(client_of, monkeypatch):
    monkeypatch.setattr(access, "MOST_REQUESTS", 3)
    ask = asking(client_of(Access(token="word")), "10.0.0.7")
    assert {ask("word").status_code for _ in range(5)} == {200}
    assert [ask("wrong").status_code for _ in range(4)] == [401, 401, 401, 429]
    assert ask("word").status_code == 200


def test_a_public_name_is_one_of_the_server(client_of):
    admitted = access_at("127.0.0.1", "word", public_url="https://Shop.example.com:8443")
    client = client_of(admitted)
    for host, status in (("shop.example.com:8443", 200), ("localhost", 200), ("b.example", 403)):
        assert client.get("/aiops/changes", headers={"Host": host}).status_code == status
    everywhere = client_of(access_at("0.0.0.0", "word", public_url="https://shop.example.com"))
    token = {"Authorization": "Bearer word"}
    for host, status in (("shop.example.com", 200), ("10.0.0.1", 200), ("b.example", 403)):
        headers = token | {"Host": host}
        assert everywhere.post("/simulate/clear", headers=headers).status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_pages_of_the_public_address_may_change_behind_a_proxy_with_its_own_host(client_of, host):
    client = client_of(access_at(host, "word", public_url="https://shop.example.com/"))

    def ask(origin):
        headers = {"Authorization": "Bearer word", "Host": "127.0.0.1:8000", "Origin": origin}
        statuses = [client.post(path, headers=headers).status_code for path in CHANGES[3:5]]
        return set(statuses)

    assert ask("https://shop.example.com") == {200}
    for other in ("https://b.example", "http://shop.example.com", "https://shop.example.com:444"):
        assert ask(other) == {403}


def test_a_public_name_needs_a_token_unless_it_is_of_this_machine(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(ValueError, match="public_url must be of this machine unless a token"):
        access_at("127.0.0.1", public_url="https://shop.example.com")
    assert access_at("127.0.0.1", public_url="http://localhost:80").token is None


@pytest.mark.parametrize(
    "wrong",
    [
        *("shop.example.com", "ftp://a.example", "http://", "http://[", "https://a/?q=1"),
        *("https://ann:pw@a.example", "https://a/#b", "https://a/\n", "/lab"),
    ],
)
def test_what_is_no_public_address_is_refused(wrong):
    with pytest.raises(ValueError, match="public_url must be a URL such as https://shop") as told:
        checked_url(wrong)
    assert "pw" not in str(told.value)


def test_a_public_address_is_that_of_a_server_without_a_path():
    assert checked_url("https://a.example/") == "https://a.example"
    assert checked_url("") == ""
    for url in ("https://a.example/lab", "https://a.example/lab/"):
        with pytest.raises(ValueError, match=r"^public_url must have no path, such as https://sh"):
            checked_url(url)
        with pytest.raises(ValueError, match="public_url must have no path"):
            access_at("127.0.0.1", "word", public_url=url)
