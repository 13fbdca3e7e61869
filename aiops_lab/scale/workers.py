"""Who computes? `Workers` maps a function over partitions: here, or on the workers of Dask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from aiops_lab.progress import Bar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

RETRIES = 2
"""How often a task is tried again that raised an error, such as a network that was away. A task
whose worker died is begun again in any case."""


class Workers:
    """Runs tasks and keeps their results.

    A result is taken from its worker as soon as it is there. So what is lost with a worker is what
    it had begun, and what it has ended within the last milliseconds.

    Parameters
    ----------
    client : distributed.Client, optional
        Of a cluster. Default: all is done in this process, one task after the other.
    progress : bool
        Whether a bar on stderr shows how far it is.

    Attributes
    ----------
    collected : int
        How many results are here.
    """

    def __init__(self, client: Any = None, *, progress: bool = True) -> None:
        self.collected = 0
        self._client = client
        self._progress = progress

    def map(
        self, work: Callable[[_Item], _Result], items: Iterable[_Item], title: str
    ) -> list[_Result]:
        """Return what a function returns for each item, in their order."""
        every = [*items]
        with Bar(total=len(every), desc=title, disable=not self._progress, leave=False) as bar:
            if self._client is None:
                return [self._here(work, item, bar) for item in every]
            return self._there(work, every, title, bar)

    def _here(self, work: Callable[[_Item], _Result], item: _Item, bar: Bar) -> _Result:
        result = work(item)
        self.collected += 1
        bar.update()
        return result

    def _there(
        self, work: Callable[[_Item], _Result], items: Sequence[_Item], title: str, bar: Bar
    ) -> list[_Result]:
        from distributed import as_completed

        run = uuid4().hex[:8]
        futures = {
            self._client.submit(
                work, item, key=f"aiops_lab-{title}-{run}-{number}", retries=RETRIES, pure=False
            ): number
            for number, item in enumerate(items)
        }
        results: dict[int, Any] = {}
        waiting = as_completed(futures, with_results=True)
        try:
            for future, result in waiting:
                results[futures.pop(future)] = result
                self.collected += 1
                future.release()
                bar.update()
        finally:
            self._client.cancel([*futures])
        return [results[number] for number in range(len(items))]
