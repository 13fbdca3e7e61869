"""How far is long work? A progress bar, on stderr."""

from __future__ import annotations

from tqdm import tqdm


class Bar(tqdm):
    """A `tqdm` bar without its monitor thread, which would go on after the bar has ended."""

    monitor_interval = 0

    @classmethod
    def is_shown(cls) -> bool:
        """Return whether a bar is on the screen now; one that is disabled is not."""
        return bool(getattr(cls, "_instances", ()))
