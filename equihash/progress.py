"""Progress bars on a terminal, and a line now and then in a log file."""

import math
import sys
import time

from tqdm import tqdm

INTERVAL = 60  # seconds between two lines in a log file


def progress_bar(iterable=None, **options):
    """A tqdm bar; where stderr is no terminal, a line at its start and end and once a minute.

    Short bars that follow each other within a minute write no lines of their own.

    Parameters
    ----------
    iterable : iterable or None
    **options
        Of tqdm.
    """
    return (tqdm if sys.stderr.isatty() else _Lines)(iterable, **options)


def print_above(text):
    """Print a line to stdout, above the bars of a terminal."""
    tqdm.write(text)


class _Lines(tqdm):
    last_line = -math.inf  # when one of them was written, by any bar
    shown = False  # whether this bar wrote one

    def display(self, msg=None, pos=None):
        if msg is None and time.monotonic() - _Lines.last_line >= INTERVAL:
            self._write_line()

    def clear(self, nolock=False):
        pass  # a line stays

    def close(self):
        if self.shown and not self.disable:
            self._write_line()
        self.leave = False  # that was all
        super().close()

    def _write_line(self):
        self.shown, _Lines.last_line = True, time.monotonic()
        print(self, file=self.fp, flush=True)
