"""Progress: a bar on a terminal, lines in a log file."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from equihash import progress


@pytest.fixture
def clock(monkeypatch):
    """The time of day, in seconds; nothing has been written yet."""
    now = SimpleNamespace(seconds=0.0)
    importlib.reload(progress)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    yield now
    importlib.reload(progress)


OPTIONS = {"desc": "steps", "disable": False, "mininterval": 0, "miniters": 1}  # tqdm's own clock does not count


@pytest.mark.parametrize("leave", [True, False])
def test_a_log_has_a_line_a_minute(capsys, clock, leave):
    with progress.progress_bar(total=1000, leave=leave, **OPTIONS) as bar:
        for step in range(1000):
            clock.seconds += 1
            bar.update()
            bar.set_postfix(loss=step)
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert "\r" not in text and text.endswith("\n") and len(lines) == 1 + 1000 // 60 + 1
    assert "| 0/1000" in lines[0] and "| 60/1000" in lines[1] and "| 1000/1000" in lines[-1] and "loss=999" in lines[-1]


def test_short_bars_share_a_line_a_minute(capsys, clock):
    for _ in range(100):
        for _ in progress.progress_bar(range(3), **OPTIONS):
            clock.seconds += 1
    assert 100 * 3 // 60 <= len(capsys.readouterr().err.splitlines()) <= 2 * 100 * 3 // 60 + 2


def test_a_terminal_has_a_bar(capsys, monkeypatch, clock):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for _ in progress.progress_bar(range(3), **OPTIONS):
        pass
    assert "\rsteps: 100%" in capsys.readouterr().err
