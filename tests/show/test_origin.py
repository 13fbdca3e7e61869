"""Who may change something: pages of this server, and what is no page."""

from __future__ import annotations

import pytest
from flask import Flask

from aiops_lab.checks import FieldError
from aiops_lab.show.origin import LOCAL_HOSTS, check_origin, host_of

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
    with pytest.raises(FieldError) as refused:
        asked(LOCAL_HOSTS, host, **headers)
    assert refused.value.field == field


def test_an_application_that_does_not_know_its_names_has_all_of_them():
    asked(None, "shop.example", Origin="http://shop.example")
    with pytest.raises(FieldError):
        asked(None, "shop.example", Origin="http://other.example")


def test_what_is_no_url_has_no_host():
    assert host_of("http://[::1") == host_of("null") == ""
