"""What do ``--notify`` and ``--remedy`` of a command ask for?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiops_lab.respond.healer import Healer, check_remedies
from aiops_lab.respond.notifier import Notifier
from aiops_lab.respond.remedies import Remedy, typed_remedies
from aiops_lab.respond.targets import NoticeTarget, typed_targets

if TYPE_CHECKING:
    from aiops_lab.monitor import Monitor


class Response(NamedTuple):
    """Who is told of incidents, and what is done about them."""

    targets: list[NoticeTarget]
    remedies: list[Remedy]

    def lines(self) -> list[str]:
        """Return what is printed of it, without secrets."""
        lines = []
        told = ", ".join(target.name for target in self.targets)
        if told:
            lines.append(f"Notices: {told}")
        named = ", ".join(map(_shown, self.remedies))
        if named:
            lines.append(f"Remedies: {named}")
        return lines


def _shown(remedy: Remedy) -> str:
    return f"{remedy.name} (dry run)" if remedy.dry_run else remedy.name


def typed_response(notify: Iterable[str], remedies: Iterable[str]) -> Response:
    """Return what the values of the two options ask for; ValueError where one breaks its rule."""
    return Response(typed_targets(notify), check_remedies(typed_remedies(remedies)))


@contextmanager
def responding(monitor: Monitor, response: Response, server: str) -> Iterator[None]:
    """Tell of a monitor's incidents, and call remedies, while the block runs.

    `server` is the address of the live page.
    """
    with ExitStack() as stack:
        if response.targets:
            stack.enter_context(Notifier(monitor, response.targets, server=server))
        if response.remedies:
            stack.enter_context(Healer(monitor, response.remedies))
        yield
