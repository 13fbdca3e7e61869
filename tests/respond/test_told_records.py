"""What was told stands in the store."""

from __future__ import annotations

import pytest

import aiops_lab as lab
from aiops_lab.respond.notices import Told
from aiops_lab.respond.told_records import ToldRecords

TOLD = Told("active", "high", True, 5)


@pytest.fixture
def store():
    with lab.SpanStore(":memory:") as store:
        yield store


def test_what_was_told_is_known_to_others_for_this_target_only(store):
    ToldRecords(store, "json").save({"INC-1": TOLD})
    for records, known in [(ToldRecords(store, "json"), TOLD), (ToldRecords(store, "jso"), None)]:
        assert records.of("INC-1") == known
        assert records.load().get("INC-1") == known
