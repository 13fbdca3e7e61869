"""What does a replay of one incident run? Calls between modules, and how often ids are parsed."""

from __future__ import annotations

import inspect
import os
import sys
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

from benchmarks._source_files import ROOT, Figure, Source

RECORDING = ROOT / "data" / "cause_latency.csv.gz"
MOST_CROSSINGS = 80

# Names to change when the code changes; one that no module defines is skipped with a note.
PARSERS = ("parse_ids",)  # each call parses all id columns of one frame
EXPLANATION = "Pipeline.verdict"  # the method that explains one incident
ID_COLUMNS = {"trace_id", "span_id", "parent_id"}


class Watch:
    """A profile hook (`sys.setprofile`) that counts what the figures of a replay need.

    Parameters
    ----------
    homes : dict
        The dotted name of each module of the packages, by the real path of its file.
    """

    def __init__(self, homes: dict[str, str]) -> None:
        self.crossings: dict[bool, list[str]] = {False: [], True: []}  # by: while explaining
        self.modules: dict[bool, set[str]] = {False: set(), True: set()}
        self.parses: list[str] = []
        self._generators: set[FrameType] = set()
        self._homes = homes
        self._home = cache(self._module)  # a path is resolved once

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        """Count one call; what numba compiled, and what is written in C, makes no such event."""
        if event != "call":
            return
        if self._parses_ids(frame):
            self.parses.append(self._stack(frame.f_back)[0].co_qualname)
        if self._home(frame.f_code) and self._starts(frame):
            self._count(frame)

    def _module(self, code: CodeType) -> str | None:
        return self._homes.get(os.path.realpath(code.co_filename))

    def _starts(self, frame: FrameType) -> bool:
        """Return whether a call begins here, rather than a generator that goes on."""
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            return True
        new = frame not in self._generators
        self._generators.add(frame)
        return new

    def _count(self, frame: FrameType) -> None:
        stack = self._stack(frame)
        module = self._home(stack[0])
        explaining = any(code.co_qualname == EXPLANATION for code in stack)
        self.modules[explaining].add(module or "")
        if len(stack) > 1 and self._home(stack[1]) != module:
            self.crossings[explaining].append(f"{self._home(stack[1])} -> {module}")

    def _stack(self, frame: FrameType | None) -> list[CodeType]:
        """Return the code of this and all outer frames that is the packages' own, inner first."""
        found = []
        while frame is not None:
            if self._home(frame.f_code):
                found.append(frame.f_code)
            frame = frame.f_back
        return found

    def _parses_ids(self, frame: FrameType) -> bool:
        code, caller = frame.f_code, frame.f_back
        if self._home(code):
            return code.co_name in PARSERS
        if code.co_name != "factorize" or caller is None or not self._home(caller.f_code):
            return False
        column = frame.f_locals.get(code.co_varnames[0])
        return getattr(column, "name", None) in ID_COLUMNS and caller.f_code.co_name not in PARSERS


def watched(modules: list[Source], recording: Path = RECORDING) -> Watch:
    """Return what a second replay of a recording showed; the first one compiles and imports.

    A short recording is not worth compiling, so kernels would run as plain Python and each helper
    that they call would be counted: here all are compiled, as in a long one.
    """
    import aiops_lab as lab
    from aiops_lab import numerics

    with patch.object(numerics, "_values_in", lambda arguments: sys.maxsize):
        return _watched(modules, lab.replay, lab.read_spans(recording), recording.name)


def _watched(modules: list[Source], replay: Any, frame: Any, name: str) -> Watch:
    incidents = len(replay(frame).incidents)
    if incidents != 1:
        raise ValueError(f"{name} must hold 1 incident, got {incidents}")
    watch = Watch({module.path: module.name for module in modules})
    sys.setprofile(watch)
    try:
        replay(frame)
    finally:
        sys.setprofile(None)
    return watch


def crossings(watch: Watch) -> list[Figure]:
    """Return the number of calls from a function of one module into one of another module.

    A function belongs to the module in whose file it stands, so what a dataclass generates belongs
    to none. The caller is the nearest function of the packages up the stack, whatever library code
    is in between. A method, a property and a lambda are functions; a generator is called once, when
    it starts. Calls of functions that numba compiled are not seen. The figure assumes numba.
    The second figure counts those during a call of `EXPLANATION` alone; None: it was not called.
    """
    explaining = tuple(watch.crossings[True])
    every = tuple(watch.crossings[False]) + explaining
    explained = len(explaining) if watch.modules[True] else None
    return [
        Figure("module crossings, whole replay", len(every), MOST_CROSSINGS, _tally(every)),
        Figure("module crossings, explanation", explained, None, _tally(explaining)),
    ]


def _tally(places: tuple[str, ...]) -> tuple[str, ...]:
    """Return each place once with its number, most frequent first."""
    times = {place: places.count(place) for place in sorted(set(places))}
    ordered = sorted(times, key=lambda place: -times[place])
    return tuple(f"{times[place]} x {place}" for place in ordered)


def modules_on_the_way(watch: Watch) -> list[Figure]:
    """Return the number of modules with a function that ran, in the replay and in the explanation.

    A function ran if it was called and is not compiled by numba. The explanation is each call of
    `EXPLANATION` with all that is called in it: from the end of detection to the verdict.
    """
    explaining = watch.modules[True]
    every = watch.modules[False] | explaining
    explained = len(explaining) or None
    return [
        Figure("modules run, whole replay", len(every), None, tuple(sorted(every))),
        Figure("modules on the verdict's way", explained, None, tuple(sorted(explaining))),
    ]


def id_parses(watch: Watch) -> Figure:
    """Return how many times id columns of a frame or a part of it became integers in the replay.

    One time is a call of a function in `PARSERS`, which takes all id columns of one frame, or a
    direct call of `pandas.factorize`, outside of `PARSERS`, with one of `ID_COLUMNS`.
    Comparing, sorting or dropping duplicates of ids as text does not count.
    """
    found = tuple(watch.parses)
    return Figure("times ids are parsed, whole replay", len(found), 1, _tally(found))
