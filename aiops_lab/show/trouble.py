"""What is a client told while the store cannot be used? The reason, and neither path nor SQL."""

from __future__ import annotations

# What the error of a store holds, and the sentence for it; the first that fits.
REASONS = {
    "locked": "the store is locked by another process: try again",
    "disk is full": "the disk of the store is full: what is recorded waits in memory",
    "readonly": "the store must not be written: look at the rights of its file",
    "deleted or replaced": "the file of the store was deleted or replaced",
    "close": "the store is closed",
    "malformed": "the store is damaged",
    "not a database": "the store is damaged",
}

_UNKNOWN = "the store cannot be used at present: the log of the server says why"


def trouble_text(error: object) -> str:
    """Return what an error of the store says to those outside.

    >>> trouble_text("/srv/ann/spans.sqlite must be a span store, got: database is locked")
    'the store is locked by another process: try again'
    """
    reason = str(error).rpartition(", got: ")[2]
    return next((told for part, told in REASONS.items() if part in reason), _UNKNOWN)
