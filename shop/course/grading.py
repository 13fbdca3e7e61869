"""Mark a folder of submissions against the twins, and write a table: python -m shop grade."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from aiops_lab.checks import FieldError
from aiops_lab.endpoints import display_names
from aiops_lab.formats.writing import replacing
from shop.course.assignment import SEEN_KINDS, AssignedTruth, assigned_truth
from shop.experiments.parallel import spread
from shop.virtual_time.scenario import Place

ANSWERED = ("seed", "cause", "kind", "began", "affected")

CAUSE_POINTS, SERVICE_POINTS = 4.0, 2.0
"""Points for the cause, and for another endpoint of its service."""

KIND = 1.0
"""Points for the kind of the fault."""

BEGAN, NEARLY = 2.0, 1.0
"""Points for the time at which it began, if it is at most `NEAR_S` off, and at most `FAR_S`."""

NEAR_S, FAR_S = 10.0, 30.0

AFFECTED = 3.0
"""Points for the affected endpoints, times the share that named and true ones have in common."""


_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # for a spreadsheet


class Grade(NamedTuple):
    """A row of the table: the points in all and for each field, or what is wrong with the file."""

    file: str
    seed: str = ""
    points: float = 0.0
    cause: float = 0.0
    kind: float = 0.0
    began: float = 0.0
    affected: float = 0.0
    error: str = ""


def grade_folder(
    folder: str | Path,
    out: str | Path,
    secret: str = "",
    jobs: int | None = None,
    progress: bool = True,
) -> list[Grade]:
    """Mark each .json file of a folder, write the table to `out` as CSV, and return its rows.

    Parameters
    ----------
    folder : str or Path
        A submission a file, as `Assignment.submit` writes it.
    out : str or Path
        The table; a row a file, in the order of their names. Texts that begin as a formula does
        have a quote before them, so that a spreadsheet runs none.
    secret : str
        That of the assignments.
    jobs : int, optional
        Number of processes. Default: one for each processor.
    progress : bool
        Whether to show a bar.

    Raises
    ------
    ValueError
        The folder holds no submission.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        rule = "must hold submissions, files that end in .json"
        raise FieldError("folder", rule, str(folder))
    work = partial(grade_file, secret=secret)
    every = spread(work, files, jobs, unit="file", progress=progress)
    grades = _doubles(every)
    with (
        replacing(out) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        table = csv.writer(file)
        table.writerow(Grade._fields)
        for grade in grades:
            table.writerow([_cell(value) for value in grade])
    return grades


def _cell(value: object) -> object:
    """Return a value of the table; a text that a spreadsheet would run gets a quote before it."""
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if is_formula else value


def _doubles(grades: list[Grade]) -> list[Grade]:
    """Return the grades, with a note where a seed was handed in before."""
    first: dict[str, str] = {}
    for grade in grades:
        if grade.seed:
            first.setdefault(grade.seed, grade.file)
    noted = []
    for grade in grades:
        file = first.get(grade.seed, grade.file)
        noted.append(_noted(grade, file))
    return noted


def _noted(grade: Grade, file: str) -> Grade:
    if file == grade.file or grade.error:
        return grade
    return grade._replace(error=f"seed must be handed in once, got it in {file} too")


def grade_file(path: Path, secret: str = "") -> Grade:
    """Return the grade of one submission; what is wrong with it is in the field ``error``."""
    try:
        answer = _read(path)
    except (ValueError, OSError) as error:
        return Grade(path.name, error=_one_line(error))
    seed = answer["seed"]
    try:
        truth = assigned_truth(seed, secret)
        found = grade(answer, truth)
    except ValueError as error:
        return Grade(path.name, seed, error=_one_line(error))
    return found._replace(file=path.name)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read(path: Path) -> dict[str, Any]:
    try:
        answer = json.loads(path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise FieldError("file", "must be UTF-8 text", path.name) from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise FieldError("file", f"must be JSON ({error})", path.name) from None
    if not isinstance(answer, dict):
        raise FieldError("file", "must hold one object with names and values", answer)
    for name in ANSWERED:
        if name not in answer:
            raise FieldError(name, "must be given", None)
    for name in ("seed", "cause", "kind", "began"):
        text = answer[name]
        if not isinstance(text, str) or not text.strip():
            raise FieldError(name, "must be text", text)
    answer["seed"] = answer["seed"].strip()
    return answer


def grade(answer: Mapping[str, Any], truth: AssignedTruth) -> Grade:
    """Return the points of an answer, up to ten.

    Parameters
    ----------
    answer : mapping
        seed, cause, kind, began and affected, as `Assignment.submit` takes them.
    truth : AssignedTruth
        That of the seed.

    Raises
    ------
    ValueError
        A field breaks its rule: an endpoint that the shop does not have, a kind or time that is
        none.
    """
    known = _known(truth.places)
    cause = _place("cause", answer["cause"], known)
    named = _places(answer["affected"], known)
    kind = _kind(answer["kind"])
    in_common = _jaccard(named, set(truth.affected))
    points = (
        _points_for_cause(cause, truth.cause),
        KIND * (kind == truth.kind),
        _points_for_time(answer["began"], truth.began),
        round(AFFECTED * in_common, 2),
    )
    in_all = round(sum(points), 2)
    return Grade("", str(answer["seed"]), in_all, *points)


def _points_for_cause(named: Place, true: Place) -> float:
    if named == true:
        return CAUSE_POINTS
    service, _ = true
    return SERVICE_POINTS * (named[0] == service)


def _known(places: Iterable[Place]) -> dict[str, Place]:
    """Return the endpoints by what a submission may call them: always "service route", and the
    route where that is enough.
    """
    known: dict[str, Place] = {}
    names = display_names(list(places))
    for place, name in names.items():
        known[name] = place
    for place in names:
        known[" ".join(place)] = place
    return known


def _place(field: str, name: object, known: Mapping[str, Place]) -> Place:
    text = " ".join(str(name).split())
    if text not in known:
        every = {" ".join(place) for place in known.values()}
        rule = f"must be one of {', '.join(sorted(every))}"
        raise FieldError(field, rule, name)
    return known[text]


def _places(names: object, known: Mapping[str, Place]) -> set[Place]:
    if not isinstance(names, list):
        raise FieldError("affected", "must be a list of endpoints", names)
    return {_place("affected", name, known) for name in names}


def _kind(kind: str) -> str:
    text = kind.strip()
    if text not in SEEN_KINDS:
        rule = f"must be one of {', '.join(SEEN_KINDS)}"
        raise FieldError("kind", rule, kind)
    return text


def _points_for_time(text: str, began: pd.Timestamp) -> float:
    time = pd.to_datetime(text, errors="coerce")
    if pd.isna(time):
        raise FieldError("began", "must be a time such as 2026-01-01T00:02:30Z", text)
    utc = time.tz_localize("UTC") if time.tzinfo is None else time
    off_s = abs((utc - began).total_seconds())
    if off_s <= NEAR_S:
        return BEGAN
    return NEARLY if off_s <= FAR_S else 0.0


def _jaccard(named: set[Place], true: set[Place]) -> float:
    in_common = named & true
    in_either = named | true
    return len(in_common) / len(in_either)
