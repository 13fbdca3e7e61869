"""What every ablation shares: the names of its rows, and a progress bar."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tqdm import tqdm

WHOLE = "everything"
CONDITIONS, REMOVED, OURS = "conditions", "part removed", "this package"


def family(name: str, otherwise: str) -> str:
    """Return how a row is drawn."""
    return OURS if name == WHOLE else otherwise


def bar(items: Collection[Any], name: str, progress: bool) -> Iterable[Any]:
    """Return the items, with a progress bar that is gone afterwards."""
    return tqdm(items, desc=name, leave=False, disable=not progress)
