"""How far is long work? A progress bar, on stderr."""

from __future__ import annotations

from tqdm import tqdm


class Bar(tqdm):
    """A `tqdm` bar without its monitor thread, which would go on after the bar has ended."""

    monitor_interval = 0
