"""Attempts are counted by address, for a minute, and not for ever."""

from __future__ import annotations

import pytest
from flask import Flask

from aiops_lab.show import attempts
from aiops_lab.show.attempts import Attempts, TooOftenError


def test_an_address_has_room_again_after_a_minute():
    now = [0.0]
    counted = Attempts("requests", 2, lambda: now[0])
    with Flask("x").test_request_context(environ_base={"REMOTE_ADDR": "10.0.0.7"}):
        for _ in range(2):
            counted.check()
            counted.note()
        with pytest.raises(TooOftenError, match="requests must be at most 2 in 60 s from one"):
            counted.check()
        now[0] = attempts.PER_S - 9.5
        with pytest.raises(TooOftenError) as refused:
            counted.check()
        assert refused.value.headers == {"Retry-After": "10"}
        now[0] = attempts.PER_S
        counted.check()


def test_the_same_text_counts_once():
    counted = Attempts("wrong tokens", 2)
    with Flask("x").test_request_context():
        for text in "aaab":
            counted.check()
            counted.note(text)
        with pytest.raises(TooOftenError):
            counted.check()


def test_no_more_addresses_are_remembered_than_fit(monkeypatch):
    monkeypatch.setattr(attempts, "MOST_ADDRESSES", 2)
    counted = Attempts("requests", 1)
    app = Flask("x")

    def is_refused(address):
        with app.test_request_context(environ_base={"REMOTE_ADDR": address}):
            try:
                counted.check()
            except TooOftenError:
                return True
            counted.note()
            return False

    assert [is_refused(address) for address in "abab"] == [False, False, True, True]
    assert [is_refused(address) for address in "cab"] == [False, False, False]
