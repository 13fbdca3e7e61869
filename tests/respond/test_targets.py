"""Receivers of notices: URLs of Apprise and functions, named without their secrets."""

from __future__ import annotations

import logging

import pytest

from aiops_lab.respond import targets
from aiops_lab.respond.notices import notice_of
from aiops_lab.respond.targets import read_receivers, targets_of, without_parts
from tests.support.incidents import incident
from tests.support.receiver import receiving

NOTICE = notice_of(incident(), "opened")


def tell_me(notice):
    """A receiver of one's own."""


def test_targets_are_named_by_scheme_or_function_and_numbered():
    urls = ["json://a/S3CRET", "slack://TokenA/TokenB/TokenC", "JSON://b"]
    names = [target.name for target in targets_of([*urls, tell_me, tell_me])]
    functions = ["function (tell_me)", "function (tell_me) 2"]
    assert names == ["json", "slack", "json 2", *functions]


@pytest.mark.parametrize(
    ("receiver", "shown"),
    [
        ("nonsense://S3CRET", "'nonsense://***'"),
        ("slack://S3CRET", "'slack://***'"),
        ("S3CRET", r"'\*\*\*'"),
        (7, "<class 'int'>"),
    ],
)
def test_what_is_no_receiver_is_refused_without_its_secrets(receiver, shown, caplog, capfd):
    with pytest.raises(ValueError, match="notify must be a URL that Apprise knows") as raised:
        targets_of([receiver])
    assert str(raised.value).endswith(f"got {shown}".replace("\\", ""))
    assert "S3CRET" not in str(raised.value) + "".join(capfd.readouterr())


def test_none_and_too_many_are_refused():
    for receivers in ([], [tell_me] * 51):
        with pytest.raises(ValueError, match=f"must be 1 to 50 receivers, got {len(receivers)}"):
            targets_of(receivers)


@pytest.mark.parametrize(
    ("event", "severity", "kind"),
    [
        ("opened", "critical", "failure"),
        ("opened", "medium", "warning"),
        ("acknowledged", "critical", "info"),
        ("resolved", "critical", "success"),
        ("merged", "high", "info"),
        ("summary", "critical", "warning"),
    ],
)
def test_a_notice_arrives_as_text_with_a_type(event, severity, kind):
    with receiving() as receiver:
        (target,) = targets_of([receiver.url])
        target.send(NOTICE._replace(event=event, severity=severity))
    (arrived,) = receiver.arrived
    assert (arrived["title"], arrived["message"]) == (NOTICE.title, NOTICE.body)
    assert arrived["type"] == kind


def test_a_refusal_is_an_error_that_says_why_without_secrets(capfd):
    with receiving() as receiver:
        receiver.mode = "fails"
        (target,) = targets_of([receiver.url])
        with pytest.raises(OSError, match="error=500") as raised:
            target.send(NOTICE)
    assert "S3CRET" not in str(raised.value)
    assert capfd.readouterr() == ("", "")
    assert all(type(each).__name__ != "_Reasons" for each in logging.getLogger("apprise").handlers)


def test_mails_are_plain_text_too():
    service = targets._service("mailto://me:password@example.org")
    assert service.notify_format.value == "text"


def test_parts_of_a_url_are_hidden_in_a_text():
    url = "slack://me:pass-w0rd@host.org/T0KEN?x=abcdef"
    text = "T0KEN at host.org says abcdef for me: pass-w0rd"
    assert without_parts(text, url) == "*** at *** says *** for me: ***"


def test_urls_are_read_from_a_file(tmp_path):
    file = tmp_path / "urls"
    file.write_text("# ours\n\n json://a \nslack://b\n")
    assert read_receivers(["mailto://x", f"@{file}"]) == ["mailto://x", "json://a", "slack://b"]
    with pytest.raises(OSError, match="none"):
        read_receivers([f"@{tmp_path / 'none'}"])


@pytest.mark.parametrize("receiver", [b"json://u:S3CRET@h", ["json://u:S3CRET@h"]])
def test_what_is_no_receiver_is_not_shown(receiver):
    with pytest.raises(ValueError, match="notify must be a URL") as refused:
        targets_of([receiver])
    assert "S3CRET" not in str(refused.value)
