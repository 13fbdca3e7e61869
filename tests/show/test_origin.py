"""Who may change something: pages of this server, and what is no page."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.exceptions import BadRequest

from aiops_lab.show.origin import LOCAL_HOSTS, SenderError, check_origin, host_of

app = Flask(__name__)


def asked(hosts, host, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    with app.test_request_context("/", base_url=f"http://{host}", headers=sent):
        check_origin(hosts)


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:5000", {}),
        ("localhost:5000", {"Origin": "http://localhost:5000"}),
        ("localhost", {"Origin": "https://LOCALHOST:443"}),
        ("127.0.0.1:1", {"Sec_Fetch_Site": "same-origin"}),
        ("[::1]:5000", {"Origin": "http://[::1]:5000", "Sec_Fetch_Site": "none"}),
    ],
)
def test_this_server_and_programs_may(host, headers):
    asked(LOCAL_HOSTS, host, **headers)


@pytest.mark.parametrize(
    ("host", "headers", "field"),
    [
        ("attacker.example", {}, "Host"),
        ("attacker.example:5000", {"Origin": "http://attacker.example:5000"}, "Host"),
        ("localhost:5000", {"Origin": "http://localhost:5001"}, "Origin"),
        ("localhost:5000", {"Origin": "http://localhost"}, "Origin"),
        ("localhost:5000", {"Origin": "http://attacker.example"}, "Origin"),
        ("localhost:5000", {"Origin": "http://localhost:5000.attacker.example"}, "Origin"),
        ("localhost:5000", {"Origin": "null"}, "Origin"),
        ("localhost:5000", {"Origin": "http://[::1"}, "Origin"),
        ("localhost:5000", {"Sec_Fetch_Site": "same-site"}, "Sec-Fetch-Site"),
    ],
)
def test_other_sites_may_not(host, headers, field):
    with pytest.raises(SenderError) as refused:
        asked(LOCAL_HOSTS, host, **headers)
    assert refused.value.field == field


@pytest.mark.parametrize("host", ["10.0.0.7:80", "[fd00::1]", "orders", "pc.local", "a.localhost"])
def test_a_name_that_nobody_can_register_needs_no_list(host):
    asked(None, host, Origin=f"http://{host}")
    with pytest.raises(SenderError):
        asked(None, host, Origin="http://other.example")


@pytest.mark.parametrize("host", ["shop.example", "127.0.0.1.attacker.example", "a.example."])
def test_a_name_that_somebody_may_own_is_refused_unless_the_server_has_it(host):
    with pytest.raises(SenderError, match="^Host must be an address, or a name that the server"):
        asked(None, host)
    asked((host,), host, Origin=f"http://{host}")


@pytest.mark.parametrize("names", [{"SERVER_NAME": "a.example"}, {"TRUSTED_HOSTS": ["a.example"]}])
def test_the_names_that_flask_checks_are_taken(names, monkeypatch):
    for setting, value in names.items():
        monkeypatch.setitem(app.config, setting, value)
    asked(None, "a.example")
    with pytest.raises((SenderError, BadRequest)):
        asked(None, "b.example")


def test_a_page_of_the_public_address_is_one_of_this_server():
    headers = {"Host": "127.0.0.1:8000", "Origin": "https://Shop.example"}
    with app.test_request_context("/", headers=headers):
        check_origin(LOCAL_HOSTS, "https://shop.example:443")
        for url in ("", "http://shop.example", "https://shop.example:444", "https://b.example"):
            with pytest.raises(SenderError, match="^Origin must be this server"):
                check_origin(LOCAL_HOSTS, url)


def test_what_is_no_url_has_no_host():
    assert host_of("http://[::1") == host_of("null") == ""
