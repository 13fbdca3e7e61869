"""How are many runs done at once? By several processes, with a bar; the result is that of one
process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context, parent_process
from typing import TypeVar

from tqdm import tqdm

from aiops_lab.checks import FieldError

Item = TypeVar("Item")

Result = TypeVar("Result")


class _Bar(tqdm):
    monitor_interval = 0  # no extra thread, which would outlive the bar


def spread(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int | None = None,
    *,
    unit: str,
    progress: bool = True,
) -> list[Result]:
    """Return ``[work(item) for item in items]``, done by several processes.

    Parameters
    ----------
    work : function
        Of a module, so that other processes can import it. What it raises ends all the others, and
        is raised here.
    items : sequence
        What to work on.
    jobs : int, optional
        Processes; 1 works in this one. Default: as many as there are processors.
    unit : str
        What the bar calls an item.
    progress : bool
        Whether to show the bar.

    Raises
    ------
    ValueError
        `jobs` is no whole number above 0.
    OSError
        A process was killed from outside, as happens when memory runs out.
    """
    check_jobs(jobs)
    jobs = min(jobs or os.cpu_count() or 1, len(items))
    with _Bar(total=len(items), unit=unit, disable=not progress) as bar:
        if jobs <= 1:
            return [_counted(bar, work(item)) for item in items]
        with _crew(jobs) as crew:
            with _deaf():
                futures = [crew.submit(work, item) for item in items]
            for future in as_completed(futures):
                _counted(bar, future.result())
            return [future.result() for future in futures]


def check_jobs(jobs: int | None) -> None:
    """Raise `FieldError` unless so many processes can be started; None is the default."""
    if jobs is not None and (not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1):
        raise FieldError("jobs", "must be a whole number above 0", jobs)


def _counted(bar: tqdm, result: Result) -> Result:
    bar.update()
    return result


@contextmanager
def _crew(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield processes that are gone at the end of the block, at once if it raises."""
    others = set(active_children())
    # spawn: the same on every system, and a fork of a process with threads may hang
    crew = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield crew
    except BaseException as error:
        for child in set(active_children()) - others:
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise OSError(
                "a process ended before it answered: in a script, call this under if __name__ == "
                "'__main__'; "
                "where memory ran out, try fewer jobs"
            ) from error
        raise
    finally:
        crew.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a child: end with the parent, even if that was killed; the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # by default a semaphore, which a child that is ended would leave behind
    tqdm.set_lock(threading.RLock())
    threading.Thread(target=_leave, daemon=True).start()


def _leave() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit that, and so never hear it, not even in
    their imports.
    """
    before = None
    with suppress(AttributeError):  # Windows has no such thing
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
