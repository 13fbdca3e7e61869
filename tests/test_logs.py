"""Messages go where a program wants them, and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from aiops_lab.logs import log_to_stderr
from shop.__main__ import main

log = logging.getLogger("aiops_lab.record.store")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Each test leaves the loggers as it found them."""
    loggers = [logging.getLogger(name) for name in ("aiops_lab", "shop")]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


def test_a_library_says_nothing_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("aiops_lab").handlers)
    assert capsys.readouterr().err == ""


def test_the_children_of_the_logger_write_to_stderr_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_to_stderr(logging.WARNING)
    log_to_stderr(logging.INFO)
    log.info("written every %g s", 0.5)
    log.debug("not wanted")
    logging.getLogger("shop.live").info("of somebody else")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO aiops_lab.record.store: written every 0.5 s")


def test_the_level_holds_and_further_names_join(capsys: pytest.CaptureFixture[str]) -> None:
    log_to_stderr(logging.WARNING, "shop")
    log.info("not wanted")
    logging.getLogger("shop.live").warning("slow")
    assert "WARNING shop.live: slow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "level"), [([], logging.WARNING), (["--verbose"], logging.INFO)]
)
def test_a_command_says_more_with_verbose(
    options: list[str], level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scenarios", *options]) == 0
    assert capsys.readouterr().err == ""
    assert logging.getLogger("aiops_lab").level == logging.getLogger("shop").level == level


def test_a_message_with_text_from_outside_stays_one_line_without_control(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log_to_stderr(logging.INFO)
    log.info("%s is open", "spans\x1b[2J\r\n2026 WARNING forged")
    try:
        raise ValueError("\x1b[2J" + "x" * 10_000)
    except ValueError:
        log.exception("failed")
    first, *trace = capsys.readouterr().err.splitlines()
    assert first.endswith(r"spans\x1b[2J\r\n2026 WARNING forged is open")
    assert trace[1] == "Traceback (most recent call last):"
    assert trace[-1].startswith(r"ValueError: \x1b[2Jxxx")
    assert len(trace[-1]) < 2_010
    assert "\x1b" not in "".join(trace)
