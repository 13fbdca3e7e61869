"""What a lesson says of a name that is not there yet, and of a cell that was stopped.

Cells are run out of order, and a `NameError` alone does not say which one is missing. The lesson is
the notebook in the current folder that holds most of what was run.
"""

from __future__ import annotations

import json
import symtable
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STOPPED = "Stopped. Nothing is broken: run the cell again when you like."

ABOVE = "Run that one first, or all cells above: menu Run, Run All Above Selected Cell."


class Cell(NamedTuple):
    """A cell of code in a lesson, and the heading above it."""

    source: str
    heading: str


def tell_in(shell: Any) -> None:
    """Let IPython say which cell is missing where a name is, and be short where one was stopped."""
    shell.set_custom_exc((NameError, KeyboardInterrupt), _tell)


def _tell(shell: Any, kind: type, error: Any, trace: Any, tb_offset: int | None = None) -> None:
    if kind is KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    ran = [source.strip() for source in shell.user_ns.get("In", ())]
    hint = missing_cell(str(error.name), ran, Path.cwd())
    if hint:
        print(hint, file=sys.stderr)


def missing_cell(name: str, ran: Sequence[str], folder: Path) -> str:
    """Return which cell of the lesson makes a name; "" where none does that has not been run.

    Parameters
    ----------
    name : str
        The name that was not defined.
    ran : sequence of str
        The cells that were run, the last of them the one without the name.
    folder : Path
        Where the lessons are.
    """
    lesson = max(_lessons(folder), key=lambda cells: _in_common(cells, ran), default=[])
    sources = [cell.source for cell in lesson]
    if not ran or ran[-1] not in sources:
        return ""
    above = lesson[: sources.index(ran[-1])]
    left_out = [cell for cell in above if cell.source not in ran]
    makers = [cell for cell in left_out if name in names_of(cell.source)]
    if not makers:
        return ""
    maker = makers[-1]
    line = maker.source.splitlines()[0]
    where = f"an earlier cell, under “{maker.heading}”, which has not been run"
    return f"“{name}” is made in {where}:\n\n    {line}\n\n{ABOVE}"


def _in_common(cells: Sequence[Cell], ran: Sequence[str]) -> int:
    sources = {cell.source for cell in cells}
    return len(sources.intersection(ran))


def _lessons(folder: Path) -> Iterator[list[Cell]]:
    for path in sorted(folder.glob("*.ipynb")):
        try:
            notebook = json.loads(path.read_text("utf-8"))
            cells = notebook["cells"]
        except (ValueError, KeyError, OSError):  # half written, or something else
            continue
        yield list(_code(cells))


def _code(cells: Sequence[dict[str, Any]]) -> Iterator[Cell]:
    heading = ""
    for cell in cells:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "code":
            yield Cell(source, heading)
            continue
        titles = [line for line in source.splitlines() if line.startswith("#")]
        heading = titles[-1].lstrip("# ") if titles else heading


def names_of(source: str) -> set[str]:
    """Return the names that a cell makes: assigned, defined or imported outside of functions."""
    try:
        table = symtable.symtable(source, "cell", "exec")
    except SyntaxError:  # such as a magic of IPython
        return set()
    made = set()
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            made.add(symbol.get_name())
    return made
