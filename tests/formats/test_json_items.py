"""Values of JSON come one by one, however the file is cut into chunks."""

from __future__ import annotations

import io
import json

import pytest

from aiops_lab.formats import json_items
from aiops_lab.formats.json_items import JsonItems
from aiops_lab.formats.sources import Source


def items(text, chunk=3):
    """All values of a text, read `chunk` bytes at a time."""
    stream = io.BufferedReader(io.BytesIO(text.encode()))
    return [*JsonItems(Source("x.json", stream, None))]


TEXTS = {
    '[{"a": 1}, 22, "é", null, 3.5]': [
        ("[0]", {"a": 1}),
        ("[1]", 22),
        ("[2]", "é"),
        ("[3]", None),
        ("[4]", 3.5),
    ],
    '{"data": [1, [2, 3]], "total": 12345}': [("data[0]", 1), ("data[1]", [2, 3])],
    '{"total": 12345, "data": null}': [("", {"total": 12345, "data": None})],
    '{"resourceSpans": [1]}\n{"resourceSpans": [2]}\n': [
        ("resourceSpans[0]", 1),
        ("resourceSpans[0]", 2),
    ],
    '{"a": "x, ] } y", "b": {"c": []}}': [("", {"a": "x, ] } y", "b": {"c": []}})],
    " [ ] \n{}\n": [("", {})],
    "": [],
}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("text", TEXTS)
def test_chunks_do_not_change_the_values(text, chunk, monkeypatch):
    monkeypatch.setattr(json_items, "CHUNK", chunk)
    assert items(text) == TEXTS[text]


@pytest.mark.parametrize("chunk", [1, 5, 1000])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[1,\n 2,\n  tru]', r"x.json, line 3, column 3, must be JSON"),
        ('{"a": 1,\n "b" 2}', r"x.json, line 2, column 6, must be JSON with ':' here"),
        ("[1, 2", "the end of the file: it is cut off"),
        ('{"a": "never', "Unterminated string"),
        ("[1 2]", "column 4, must be JSON with ',' or ']' here"),
        ("{1: 2}", "must be JSON with a text as key"),
        ("17", "must be JSON: an object or an array"),
    ],
)  # fmt: skip
def test_errors_name_line_and_column_in_all_chunks(text, told, chunk, monkeypatch):
    monkeypatch.setattr(json_items, "CHUNK", chunk)
    with pytest.raises(ValueError, match=told):
        items(text)


def test_a_value_beyond_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(json_items, "CHUNK", 10)
    monkeypatch.setattr(json_items, "MAX_ITEM", 100)
    assert items(json.dumps(["x" * 50]))
    with pytest.raises(ValueError, match="must have no value of more than 100 characters"):
        items(json.dumps(["x" * 500]))


def test_an_error_far_from_the_end_is_found_without_reading_on(monkeypatch):
    monkeypatch.setattr(json_items, "CHUNK", 1000)
    stream = io.BufferedReader(io.BytesIO(b'[{"a": oops' + b" " * 100_000), 1)
    with pytest.raises(ValueError, match="line 1, column 8"):
        [*JsonItems(Source("x.json", stream, None))]
    assert len(stream.read()) > 90_000
