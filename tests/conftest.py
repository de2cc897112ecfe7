"""Fixtures: golden numbers, and a folder in which the scripts are run as a user would run them."""

import contextlib
import io
import json
import os
import re
import runpy
import signal
import socket
import sys
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image

torch.set_num_threads(1)  # the tests run side by side
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

REPOSITORY = Path(__file__).resolve().parent.parent
GOLDEN = REPOSITORY / "tests" / "golden"

# small enough for a test; the task's own values otherwise
QUICK = ["nb_steps:4", "eval_freq:2", "eval_size:64", "loader_kwargs:size:16", "trainer_kwargs:nb_batch_per_step:2"]
QUICK += ["network_kwargs:k:16"]

RENDER = Figure.savefig


def save_blank(figure, path, *, format="png", **options):
    Image.new("L", (1, 1)).save(path, format)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Render pictures only for a test of them, marked `pictures`: it is most of the time of a short run.

    Elsewhere all is drawn, and a blank picture is saved. A shared fixture is made as for its first test.
    """
    Figure.savefig = RENDER if item.get_closest_marker("pictures") else save_blank


@pytest.fixture
def golden():
    """Read a golden .npz file by name."""
    return lambda name: np.load(GOLDEN / f"{name}.npz", allow_pickle=False)


class Workspace:
    """A folder with the repository's configurations and data sets, where scripts leave their files."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "configs").symlink_to(REPOSITORY / "configs")
        (folder / "data").mkdir()
        (folder / "data" / "datasets").symlink_to(REPOSITORY / "data" / "datasets")
        self.experiments = folder / "data" / "experiments"

    def run(self, command):
        """Run "script.py arguments"; return (exit code, all output)."""
        script, *arguments = command if isinstance(command, list) else command.split()
        output = io.StringIO()
        code = 0
        with self.inside(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            sys.argv = [script, *map(str, arguments)]
            try:
                runpy.run_path(str(REPOSITORY / script), run_name="__main__")
            except SystemExit as stop:
                code = stop.code or 0
        return code, re.sub(r"[^\r\n]*\r", "", output.getvalue())

    def check(self, command):
        """Run a script that must succeed; return its output."""
        code, output = self.run(command)
        assert code == 0, output
        return output

    def refuse(self, command, *words):
        """Run a script that must fail with exit code 2 and one clear line with these words in it."""
        code, output = self.run(command)
        assert code == 2, output
        lines = [line for line in output.splitlines() if "error: " in line]
        assert len(lines) == 1 and output.strip().endswith(lines[0]) and "Traceback" not in output, output
        for word in words:
            assert word in lines[0], lines[0]

    @contextlib.contextmanager
    def inside(self):
        folder, argv = os.getcwd(), sys.argv
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        os.chdir(self.folder)
        try:
            yield
        finally:
            os.chdir(folder)
            sys.argv = argv
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def json(self, path):
        return json.loads((self.folder / path).read_text())

    def state(self, model, name="main", which="current"):
        path = self.experiments / "FastMnistMosaic" / model / name / which / "state.pth"
        return torch.load(path, weights_only=True)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory):
    """One workspace for the tests of a module, which build on each other's files."""
    return Workspace(tmp_path_factory.mktemp("workspace"))


def quick(*more):
    """Words of `-a` for a run that takes a moment."""
    return ["-d", "cpu", "-a", *QUICK, *more]


def assert_same(a, b):
    """Bit for bit the same nested structure of tensors and plain values."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for one, other in zip(a, b):
            assert_same(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.fixture
def unused_port():
    """A TCP port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
