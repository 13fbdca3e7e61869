"""What the lessons need when they are run as tests: a kernel that starts."""

from __future__ import annotations

from typing import Any

from nbval import kernel

SETTINGS = [
    # what is drawn is not compared: few dots are enough, and no second drawing to measure margins
    '--InlineBackend.print_figure_kwargs={"dpi": 20, "bbox_inches": None}',
    # as in tests/conftest.py: look for garbage seldom
    "--IPKernelApp.exec_lines=import gc; gc.set_threshold(20_000, 20, 100)",
]
STARTS = 4  # one start in some hundreds fails, so four in a row say that something else is wrong

_start_once = kernel.start_new_kernel


def start_new_kernel(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """Start a kernel, again if it dies before its first answer.

    The client chooses five free ports and the kernel binds them a second later. In between, a
    server of another test may be given one of them; the kernel then ends at once.
    """
    kwargs["extra_arguments"] = [*kwargs.get("extra_arguments", ()), *SETTINGS]
    for _ in range(STARTS - 1):
        try:
            return _start_once(*args, **kwargs)
        except RuntimeError:
            continue
    return _start_once(*args, **kwargs)


kernel.start_new_kernel = start_new_kernel
