"""Pictures do not depend on the user's matplotlibrc, nor change any setting; names in them are no formulas."""

import json
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from conftest import REPOSITORY, quick
from PIL import Image
from test_lookups_study import put as put_sizes
from test_lookups_study import simulated_results
from test_tables import TABLE, own_table, put

from equihash.evaluation.collect import collect
from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.experiment import DatabaseFiles, Experiment
from equihash.fingerprints import load_index
from equihash.report.ablation import draw_ablations
from equihash.report.drawing import figure_file, plain
from equihash.report.gallery import draw_gallery
from equihash.studies.lookups import Row
from equihash.studies.lookups_report import draw_study
from equihash.studies.prediction import Prediction

pytestmark = pytest.mark.pictures

HOSTILE = """
backend: tkagg
text.usetex: True
text.parse_math: False
image.origin: lower
image.cmap: jet
font.family: a font that is nowhere
figure.dpi: 50
figure.constrained_layout.w_pad: 1
figure.facecolor: black
savefig.dpi: 30
savefig.bbox: tight
savefig.transparent: True
axes.prop_cycle: cycler(color=["red"])
axes.grid: True
axes.formatter.use_mathtext: True
lines.linewidth: 9
"""
NAME = "$\\frac{$ 漢字"  # no formula, and not in the font

TRAIN = ["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:1")]
SEARCH = "search.py FastMnistMosaic DB HashNet -d cpu --id 7"
OTHERS = [
    "evaluate_binary_equihash.py FastMnistMosaic DB HashNet -d cpu --nb_lookups 1 8",
    "show_results.py FastMnistMosaic TINY",
    "study_lookups.py FastMnistMosaic SIM",
    "prepare_data.py perlin --nb_maps 3 -f",
]
RUN = """
import json, runpy, sys
import matplotlib
import equihash.prepare.perlin, equihash.report.ablation, equihash.studies.lookups_report
before = matplotlib.rcParams.copy()
scripts, commands = json.load(sys.stdin)
for sys.argv in commands:
    runpy.run_path(f"{scripts}/{sys.argv[0]}", run_name="__main__")
assert matplotlib.rcParams.copy() == before and before["text.usetex"]
assert "matplotlib.pyplot" not in sys.modules
"""


@pytest.fixture(scope="module")
def encoded(shared_workspace):
    """A small database, encoded and indexed, and results to compare."""
    own_table(shared_workspace, TABLE)
    datasets = shared_workspace.folder / "data" / "datasets"
    datasets.unlink()
    datasets.mkdir()
    (datasets / "Mnist").symlink_to(REPOSITORY / "data" / "datasets" / "Mnist")
    for name in ("s1_a0.1", "s1_a0.2"):
        put(shared_workspace, name, 0.2, 1e-9)
    put_sizes(shared_workspace, simulated_results("main"))
    shared_workspace.check(TRAIN)
    shared_workspace.check("generate_labels.py FastMnistMosaic DB -b10000 -d2500 -p2 -n1 -t40 -m 2 2")
    shared_workspace.check("encode.py FastMnistMosaic DB HashNet -d cpu --build_index")
    return shared_workspace


def pictures(workspace):
    """All PNG files of a workspace, {path: bytes}; they are deleted."""
    found = {path: path.read_bytes() for path in workspace.folder.rglob("*.png")}
    for path in found:
        path.unlink()
    return found


@pytest.mark.parametrize(
    "commands, number", [([TRAIN, SEARCH], 3), pytest.param(OTHERS, 8, marks=pytest.mark.slow)], ids=["some", "others"]
)
def test_under_another_matplotlibrc(commands, number, encoded, tmp_path):
    """The pictures are the same, byte for byte, and nothing is printed."""
    pictures(encoded)  # no earlier ones
    for command in commands:
        encoded.check(command)
    expected = pictures(encoded)
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment.pop("MPLBACKEND", None)
    words = [command if isinstance(command, list) else command.split() for command in commands]
    result = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps([str(REPOSITORY), words]), cwd=encoded.folder, env=environment,
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # the words of show_results.py
    assert all(line.startswith(("drawn: ", "missing: ")) for line in result.stderr.splitlines()), result.stderr
    found = pictures(encoded)
    assert found.keys() == expected.keys() and len(found) == number
    assert [path for path in expected if found[path] != expected[path]] == []


def test_settings_come_back_after_an_error(tmp_path):
    with matplotlib.rc_context({"image.origin": "lower"}):
        before = matplotlib.rcParams.copy()
        with pytest.raises(ZeroDivisionError), figure_file(tmp_path / "a.png", (1, 1)):
            assert matplotlib.rcParams["image.origin"] == "upper"
            1 / 0  # noqa: B018
        assert matplotlib.rcParams.copy() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["$x$", r"\$x$ $", r"$\frac{$", "main"])
def test_plain(name, tmp_path):
    def picture(text, **options):
        with figure_file(tmp_path / "a.png", (1, 1)) as figure:
            figure.text(0.1, 0.5, text, **options)
        return (tmp_path / "a.png").read_bytes()

    assert picture(plain(name)) == picture(name, parse_math=False) != picture("")


def test_any_name_can_be_drawn(encoded, recwarn):
    """As the name of a database, of a network, of a query."""
    folder, task = encoded.folder, "FastMnistMosaic"
    with encoded.inside():
        row = Row(NAME, 1, 0.5, 0.1, {1000: 0.5, 10_000: 0.4}, Prediction(0.9, -18.0, 2.0), {}, 0.5)
        draw_study(folder / "study.png", [row], NAME)
        draw_ablations(task, NAME, collect(task, "TINY").lines)
        database = EncodedDatabase(DatabaseFiles(Experiment(task, "HashNet"), "DB"))
        index = load_index(database.files, database.fingerprints)
        database.files.database = NAME
        draw_gallery(folder / "gallery.png", database, index, nb_columns=4)
    Image.fromarray(np.eye(56, dtype=np.uint8)).save(folder / f"{NAME}.png")
    encoded.check(["search.py", task, "DB", "HashNet", "-d", "cpu", "--picture", folder / f"{NAME}.png"])
    assert [str(warning.message) for warning in recwarn] == []
