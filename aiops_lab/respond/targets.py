"""Where do notices go? To a URL of Apprise, or to a function."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aiops_lab.checks import FieldError, missing_extra
from aiops_lab.detect.incidents import ACKNOWLEDGED, RESOLVED
from aiops_lab.respond.notices import MERGED, SUMMED_UP, Notice
from aiops_lab.user_code import name_function
from aiops_lab.user_functions import load_function

if TYPE_CHECKING:
    import apprise

TakeNotice = Callable[[Notice], object]

MOST_TARGETS = 50

RULE = "must be a URL that Apprise knows, such as json://host:port, or a function"

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.I)

TYPES = {RESOLVED: "success", MERGED: "info", ACKNOWLEDGED: "info", SUMMED_UP: "warning"}
"""Apprise's type of a notice, from which services take a colour; of other events by severity."""

HINTED = 4  # characters from which a part of a URL may be a secret


class NoticeTarget(NamedTuple):
    """A receiver of notices: a name without secrets, and a function that raises if it fails."""

    name: str
    send: TakeNotice


def targets_of(receivers: Iterable[str | TakeNotice | NoticeTarget]) -> list[NoticeTarget]:
    """Return the targets that URLs and functions name.

    A target is named by the scheme of its URL, or the name of the function; the second of equal
    names has a 2 behind it, and so on.

    Raises
    ------
    ValueError
        One is no URL that Apprise knows, and no function. It is named by its scheme alone, as URLs
        hold passwords.
    ImportError
        Apprise is not installed: it is in the extra ``notify``.
    """
    seen: Counter[str] = Counter()
    targets = []
    for receiver in receivers:
        target = _target(receiver)
        seen[target.name] += 1
        n = seen[target.name]
        if n > 1:
            target = target._replace(name=f"{target.name} {n}")
        targets.append(target)
    if not 1 <= len(targets) <= MOST_TARGETS:
        raise FieldError("notify", f"must be 1 to {MOST_TARGETS} receivers", len(targets))
    return targets


def typed_targets(values: Iterable[str]) -> list[NoticeTarget]:
    """Return the targets of a command line; none for none.

    A value is a URL, ``@FILE`` as for `read_receivers`, or ``FILE.py:FUNCTION``.
    """
    receivers = [_loaded(value) for value in read_receivers(values)]
    return targets_of(receivers) if receivers else []


def _loaded(value: str) -> str | TakeNotice:
    is_function = ".py:" in value and "://" not in value
    return load_function("notify", value) if is_function else value


def read_receivers(values: Iterable[str]) -> list[str]:
    """Return URLs as they are, and for each ``@FILE`` those of a file, a line each.

    In a file, lines that are empty or begin with # say nothing. Raises OSError where it cannot be
    read.
    """
    return [url for value in values for url in _lines(value)]


def _lines(value: str) -> list[str]:
    if not value.startswith("@"):
        return [value]
    text = Path(value[1:]).read_text("utf-8")
    lines = map(str.strip, text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _target(receiver: Any) -> NoticeTarget:
    if isinstance(receiver, NoticeTarget):
        return receiver
    if isinstance(receiver, str):
        return _apprise_target(receiver)
    if not callable(receiver):
        raise FieldError("notify", RULE, type(receiver))  # it may hold a password
    return NoticeTarget(name_function("function", receiver), receiver)


def _apprise_target(url: str) -> NoticeTarget:
    scheme = SCHEME.match(url)
    name = scheme[0].lower() if scheme else ""
    service = _service(url) if scheme else None
    if service is None:
        raise FieldError("notify", RULE, f"{name}://***" if name else "***")
    from apprise import NotifyType

    def send(notice: Notice) -> None:
        with _Reasons() as reasons:
            kind = NotifyType(_type_of(notice))
            # not Apprise.notify: threads of its own would keep a program from ending
            arrived = service.notify(title=notice.title, body=notice.body, notify_type=kind)
        if not arrived:
            told = "; ".join(reasons.texts) or "it was not accepted"
            raise OSError(without_parts(told, url))

    return NoticeTarget(name, send)


def _service(url: str) -> apprise.NotifyBase | None:
    """Return what sends plain text to a URL, None where Apprise does not know it."""
    with _Reasons(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that Apprise imports
        try:
            import apprise
        except ModuleNotFoundError as error:
            raise missing_extra(error) from None
        asset = apprise.AppriseAsset(app_id="AIOps Lab")
        made = apprise.Apprise.instantiate(url, asset=asset)
    if made is not None:
        made.notify_format = apprise.NotifyFormat.TEXT
    return made


def _type_of(notice: Notice) -> str:
    is_bad = notice.severity in ("critical", "high")
    return TYPES.get(notice.event, "failure" if is_bad else "warning")


def without_parts(text: str, url: str) -> str:
    """Return a text without what stands in a URL behind its scheme.

    >>> without_parts("no answer from hooks/T0KEN1", "slack://T0KEN1/T0KEN2")
    'no answer from hooks/***'
    """
    rest = url.partition("://")[2]
    parts = sorted(re.split(r"[^\w.~%-]+", rest), key=len, reverse=True)
    for part in parts:
        if len(part) >= HINTED:
            text = text.replace(part, "***")
    return text


class _Reasons(logging.Handler):
    """What Apprise says of a failure in this thread; without a handler it would go to stderr."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.texts.append(record.getMessage().strip().rstrip("."))

    def __enter__(self) -> _Reasons:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
