"""Many runs in several processes, with a progress bar; the results are those of one process."""

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
from aiops_lab.progress import Bar

_Item = TypeVar("_Item")

_Result = TypeVar("_Result")


def spread(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    jobs: int | None = None,
    *,
    unit: str,
    progress: bool = True,
) -> list[_Result]:
    """Return ``[work(item) for item in items]``, done by several processes.

    Parameters
    ----------
    work : function
        A function of a module, so that other processes can import it. If it raises, all processes
        end, and the error is raised here.
    items : sequence
        Its arguments, one for each call.
    jobs : int, optional
        Number of processes; 1 = this process only. Default: one for each processor.
    unit : str
        Name of an item in the bar.
    progress : bool
        Whether to show the bar.

    Raises
    ------
    ValueError
        `jobs` is not a whole number above 0.
    OSError
        A process was killed from outside, as may happen when memory is short.
    """
    check_jobs(jobs)
    jobs = min(jobs or os.cpu_count() or 1, len(items))
    with Bar(total=len(items), unit=unit, disable=not progress) as bar:
        if jobs <= 1:
            return [_counted(bar, work(item)) for item in items]
        with _processes(jobs) as pool:
            with _interrupts_blocked():
                futures = [pool.submit(work, item) for item in items]
            for future in as_completed(futures):
                _counted(bar, future.result())
            return [future.result() for future in futures]


def check_jobs(jobs: int | None) -> None:
    """Raise `FieldError` unless `jobs` is a whole number above 0, or None for the default."""
    if jobs is None:
        return
    is_whole = isinstance(jobs, int) and not isinstance(jobs, bool)
    if not is_whole or jobs < 1:
        raise FieldError("jobs", "must be a whole number above 0", jobs)


def _counted(bar: tqdm, result: _Result) -> _Result:
    bar.update()
    return result


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose processes have ended when the block ends; if it raises, at once."""
    others = set(active_children())
    # spawn: the same on every system, and a fork of a process with threads may hang
    context = get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)
    try:
        yield pool
    except BaseException as error:
        # Python 3.14 has pool.terminate_workers() for this
        for child in set(active_children()) - others:
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise OSError(
                "a process ended before it returned: in a script, call this under if __name__ == "
                "'__main__'; if memory was short, try fewer jobs"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a child: ignore Ctrl-C, which the parent handles; end with the parent if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # the default lock is a semaphore, which would be left behind if this process is terminated
    tqdm.set_lock(threading.RLock())
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT while processes start.

    They inherit the blocked signal, so that Ctrl-C does not interrupt them, even during imports.
    """
    before = None
    with suppress(AttributeError):  # not on Windows
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
