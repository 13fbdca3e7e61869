"""What every ablation shares: constants that have other values for a while, and the names of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tqdm import tqdm

WHOLE = "everything"
CONDITIONS, REMOVED, OURS = "conditions", "part removed", "this package"


def family(name: str, otherwise: str) -> str:
    """Return how a row is drawn."""
    return OURS if name == WHOLE else otherwise


@contextmanager
def constants(module: ModuleType, **values: Any) -> Iterator[None]:
    """Give constants of a module other values for a while."""
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def bar(items: Collection[Any], name: str, progress: bool) -> Iterable[Any]:
    """Return the items, with a progress bar that is gone afterwards."""
    return tqdm(items, desc=name, leave=False, disable=not progress)
