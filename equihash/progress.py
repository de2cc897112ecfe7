"""Progress bars on a terminal, and a line now and then in a log file."""

import math
import sys
import time
from collections.abc import Iterable

from tqdm import tqdm

INTERVAL = 60  # seconds between two lines in a log file


def progress_bar(iterable: Iterable | None = None, **options) -> tqdm:
    """A tqdm bar; if stderr is not a terminal, a line at its start, one every minute and one at its end.

    A bar that begins and ends within a minute of another one's line writes none.

    Parameters
    ----------
    iterable : iterable or None
    **options
        For tqdm.
    """
    return (tqdm if sys.stderr.isatty() else _Lines)(iterable, **options)


def print_above(text: str) -> None:
    """Print a line to stdout, above the bars of a terminal."""
    tqdm.write(text)


class _Lines(tqdm):
    last_line = -math.inf  # time of the latest line of any bar
    shown = False  # whether this bar has written a line

    def display(self, msg=None, pos=None):
        if msg is None and time.monotonic() - _Lines.last_line >= INTERVAL:
            self._write_line()

    def clear(self, nolock=False):
        pass  # lines stay

    def close(self):
        if self.shown and not self.disable:
            self._write_line()
        self.leave = False  # tqdm need not show it once more
        super().close()

    def _write_line(self):
        self.shown, _Lines.last_line = True, time.monotonic()
        print(self, file=self.fp, flush=True)
