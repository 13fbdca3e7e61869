"""What is a database statement without its values? Its shape: statements that do alike are one."""

from __future__ import annotations

import re
from functools import lru_cache

from aiops_lab.checks import cut

MAX_SHAPE = 200  # characters: enough to know a statement by, and to be shown in one line or two

# What is not looked at: a statement of a megabyte (bulk insert) must not cost a second.
MAX_READ = 4_000

# A comment, a text in quotes or between dollars: whichever begins first holds the others. After \'
# a text goes on in some databases and has ended in others: all that follows is left out. In double
# quotes stands a name, but MySQL and SQLite take a text as well, which is told by what is before.
_HIDDEN = re.compile(
    r"(?P<comment>/\*.*?(?:\*/|$)|--[^\n]*)"
    r"|[eEnNxXbB]?'(?:[^'\\]|''|\\[^'])*(?:'|\\'.*|\\?$)"
    r"|\$(\w*)\$.*?(?:\$\2\$|$)"
    r"|(?P<columns>\binto\s+[\w.`\"]+\s*\([^()']*\))"
    r"|(?P<before>(?:[=<>:(]|\b(?:like|between|identified\s+by))\s*"
    r"|\band\s+(?=\"[^\"]*\"(?!\s*[.=<>])))"
    r"\"(?:[^\"\\]|\"\"|\\.)*(?:\"(?!\.)|$)",
    re.DOTALL | re.IGNORECASE,
)
_PLACE = re.compile(r"%\(\w+\)s|%s|(?<![:\w]):\w+|\$\d+|@p?\d+\b|\?\d+")
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)\b"
)
# after a value
_LISTED = re.compile(
    r'(\?|\b(?:null|true|false|default))(?:\s*,\s*"(?:[^"]|"")*"(?!\s*[.=:]))+', re.IGNORECASE
)
_SPACE = re.compile(r"\s+")
_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_ROWS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")

# What a message of a database may quote: numbers, and texts, from the first mark to the last as a
# text may hold marks itself. The apostrophe of "can't" begins none. SQL Server and PostgreSQL put a
# key between brackets.
_QUOTED = re.compile(r"(?<!\w)(['\"`])(?:.*\1|.*)|(?:=\s?|\bis )\((?:.*\)|.*)|\b\d\w*(?:[.:-]\w+)*")


@lru_cache(maxsize=4096)
def shape_of(statement: str) -> str:
    """Return a statement without values and comments, on one line of at most `MAX_SHAPE`.

    Texts in single quotes, numbers and the marks of parameters become ``?``; lists of them become
    one. What double quotes and backticks hold are names in SQL, and stay; but after a comparison, a
    colon or a bracket, or in a list of values, double quotes are taken for a text. Statements of
    other languages (MongoDB) are treated in the same way.

    Examples
    --------
    >>> shape_of("SELECT * FROM orders  WHERE id IN (17, 4) AND name = 'O''Brien' -- slow")
    'SELECT * FROM orders WHERE id IN (?) AND name = ?'
    >>> shape_of("INSERT INTO t2 VALUES (%s, %s), (%s, %s)")
    'INSERT INTO t2 VALUES (?)'
    """
    text = statement[:MAX_READ]
    text = _HIDDEN.sub(_without_text, text)
    text = _PLACE.sub("?", text)
    text = _NUMBER.sub("?", text)
    text = _LISTED.sub("?", text)
    text = _SPACE.sub(" ", text).strip()
    text = _LIST.sub("(?)", text)
    text = _ROWS.sub("(?)", text)
    return cut(text, MAX_SHAPE)


def _without_text(hidden: re.Match[str]) -> str:
    if hidden["columns"]:
        return hidden["columns"]
    return " " if hidden["comment"] else f"{hidden['before'] or ''}?"


def message_without_values(message: str) -> str:
    """Return the first line of a database's message, with ``?`` for what it quotes.

    Databases quote values, names and parts of the statement alike; PostgreSQL shows the row on
    further lines.

    Examples
    --------
    >>> message_without_values("near 'O'Hara', at 17: syntax\\nDETAIL: (O'Hara)")
    'near ?, at ?: syntax'
    >>> message_without_values("Key (email)=(ann@shop.org) already exists.")
    'Key (email)? already exists.'
    """
    lines = message.splitlines() or [""]
    return _QUOTED.sub("?", lines[0])
