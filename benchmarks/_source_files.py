"""What is measured, and what a measurement is: modules of a package, and figures with a goal."""

from __future__ import annotations

import ast
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Source:
    """One module: its dotted name, its text, and the path of its file."""

    name: str
    text: str
    path: str = ""

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)


class Figure(NamedTuple):
    """One row of the table: the goal is "at most", None means none; `where` lists the places."""

    name: str
    value: float | None
    goal: float | None = None
    where: tuple[str, ...] = ()


def sources(package: str, root: Path = ROOT) -> list[Source]:
    """Return the modules of a package, at any depth, sorted by path."""
    found = []
    for path in sorted(root.glob(f"{package}/**/*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found.append(Source(name, path.read_text("utf-8"), os.path.realpath(path)))
    return found
