"""Neither paths nor SQL are told to those outside."""

from __future__ import annotations

import pytest

from aiops_lab.show.trouble import trouble_text

STORE = "/srv/spy/locked/spans.sqlite must be a span store that can be written, got: "


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("database is locked", "the store is locked by another process: try again"),
        ("database or disk is full", "the disk of the store is full: what is recorded waits"),
        ("attempt to write a readonly database", "the store must not be written"),
        ("it was deleted or replaced", "the file of the store was deleted or replaced"),
        ("database disk image is malformed", "the store is damaged"),
        ("file is not a database", "the store is damaged"),
        ("no such table: fresh", "the store cannot be used at present"),
    ],
)
def test_the_reason_is_told_without_the_path(reason, told):
    text = trouble_text(OSError(STORE + reason))
    assert text.startswith(told)
    assert "spy" not in text
    assert "fresh" not in text
