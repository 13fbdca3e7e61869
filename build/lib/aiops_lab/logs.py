"""Where do messages go? To the logger ``aiops_lab`` and its children, one of each module.

The package writes them nowhere by itself, as is usual for a library. A program that wants them
configures `logging`, or calls `log_to_stderr`. Modules get their logger from `get_logger`, so that
``import aiops_lab`` alone does not import `logging`.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from aiops_lab.endpoints import printable

LINE_LENGTH = 2_000  # characters of a line

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_to_stderr(level: int = logging.INFO, *names: str) -> None:
    """Write the messages of ``aiops_lab``, and of the loggers `names`, to stderr.

    Parameters
    ----------
    level : int
        The least level that is written; default INFO. A second call changes it.
    names : str
        Further loggers, such as that of a program's own package.
    """
    for name in ("aiops_lab", *names):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        if not any(isinstance(handler, _Stderr) for handler in logger.handlers):
            logger.addHandler(_Stderr())


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module of the package, given the module's ``__name__``."""
    return logging.getLogger(name)


# without a handler, `logging` would write warnings to stderr
logging.getLogger("aiops_lab").addHandler(logging.NullHandler())


class _Printable(logging.Formatter):
    """A format in which no text from outside can steer a terminal or look like another message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message on one line."""
        return printable(super().formatMessage(record), LINE_LENGTH)

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the lines of its stack trace."""
        lines = super().format(record).split("\n")
        return "\n".join(printable(line, LINE_LENGTH) for line in lines)


class _Stderr(logging.StreamHandler[TextIO]):
    """A handler for ``sys.stderr`` as it is when a message comes: a program may replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_Printable(FORMAT))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr
