"""Every stage is killed at random moments; the same command again ends as an undisturbed run does."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from conftest import QUICK, REPOSITORY, Workspace
from PIL import Image

from equihash.prepare import mnist

CURRENT = "data/experiments/FastMnistMosaic/HashNet/main/current"
PICTURES = ("hamming_distances.png", "gallery.png", "lookups.png", "set_sizes.png")
QUERIES = [f"{sign}_queries_{content}" for sign in ("positive", "negative") for content in ("fingerprints", "logits")]
FINGERPRINTS = ["database_fingerprints", "hinge_triplets_fingerprints", *QUERIES]
# command, and the files that it makes
STAGES = {
    "train": (
        ["train.py", "FastMnistMosaic", "HashNet", "-d", "cpu", "-p", "2", "-a", *QUICK, "nb_steps:3", "eval_freq:3"],
        [f"{CURRENT}/{name}" for name in ("state.pth", "log.jsonl", "training_curve.png", "instances.png")]
        + [f"{CURRENT}/../checkpoint2/state.pth"],
    ),
    "generate_labels": (
        "generate_labels.py FastMnistMosaic DB -b10000 -d60000 -p300 -n300 -t200 -m 2 2 --force".split(),
        ["data/labels/FastMnistMosaic/DB.hdf5"],
    ),
    "encode": (
        "encode.py FastMnistMosaic SMALL HashNet -d cpu --flush_freq 1".split(),
        [f"{CURRENT}/test_SMALL/{name}.hdf5" for name in FINGERPRINTS],
    ),
    "merge": (
        "merge.py FastMnistMosaic SMALL HashNet --nb_jobs 2".split(),
        [f"{CURRENT}/test_SMALL/{FINGERPRINTS[0]}.hdf5"],
    ),
    "build_index": (
        "build_index.py FastMnistMosaic SMALL HashNet --memory_limit 1M".split(),
        [f"{CURRENT}/test_SMALL/inverted_index.bin"],
    ),
    "evaluate": (
        "evaluate_binary_equihash.py FastMnistMosaic SMALL HashNet -d cpu --nb_lookups 1 4".split(),
        [f"{CURRENT}/test_SMALL/{name}" for name in ("results.json", "report.html", *PICTURES)],
    ),
    "evaluate_collisions": (
        "evaluate_binary_equihash.py FastMnistMosaic SMALL HashNet -d cpu --no_queries".split(),
        [f"{CURRENT}/test_SMALL/{name}" for name in ("results.json", PICTURES[0])],
    ),
    "prepare_openimages": (
        "prepare_data.py openimages --source pictures --split train --force".split(),
        ["data/datasets/OpenImages/hdf5/train.hdf5"],
    ),
    "prepare_mnist": ("prepare_data.py mnist --source idx".split(), ["data/datasets/Mnist/mnist.hdf5"]),
    "prepare_perlin": (
        "prepare_data.py perlin --nb_maps 150 --force".split(),
        ["data/datasets/PerlinNoise/perlin180x270.hdf5", "data/datasets/PerlinNoise/perlin180x270.png"],
    ),
}
PREPARE = [
    "generate_labels.py FastMnistMosaic SMALL -b10000 -d1700 -p300 -n300 -t200 -m 2 2".split(),
    *(f"encode.py FastMnistMosaic SMALL HashNet -d cpu -j {job} -n 2".split() for job in (0, 1)),
]

LONG = ("evaluate", "prepare_mnist")

# Has the libraries loaded and forks a process for each command, which is then in the midst of its own work at once.
SERVER = f"""
import json, os, runpy, signal, sys, time
sys.path[:0] = [{str(REPOSITORY)!r}]
import equihash.evaluation.report, equihash.prepare.mnist, equihash.prepare.openimages, equihash.prepare.perlin
import torch.optim, torchvision
print("ready", flush=True)
for line in sys.stdin:
    command, kill_after = json.loads(line)
    pid = os.fork()
    if not pid:
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.argv, code = command, 0
        try:
            runpy.run_path(os.path.join({str(REPOSITORY)!r}, sys.argv[0]), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Stages(Workspace):
    """A workspace with a process in which stages are run, and killed."""

    def __init__(self, folder):
        super().__init__(folder)
        (folder / "data" / "datasets").unlink()
        (folder / "data" / "datasets" / "Mnist").mkdir(parents=True)
        shutil.copy(REPOSITORY / "data/datasets/Mnist/mnist.hdf5", folder / "data/datasets/Mnist")
        (folder / "pictures").mkdir()
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (200, 190, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a fork has none of the threads
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.server = subprocess.Popen([sys.executable, "-c", SERVER], cwd=folder, env=environment, **pipe)
        assert self.server.stdout.readline() == "ready\n"

    def start(self, command, kill_after=None):
        """Run a command, or kill it after some seconds; return whether it came to its end."""
        print(json.dumps([command, kill_after]), file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        output = (self.folder / "output.txt").read_text()
        assert status in (0, signal.SIGKILL), output
        return status == 0

    def contents(self, names):
        return {name: (self.folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("crashes"))
    yield stages
    stages.server.kill()
    stages.server.wait()


@pytest.fixture(scope="module")
def undisturbed(stages):
    """What each stage makes, and the seconds that it takes."""
    return {stage: run_undisturbed(stages, stage) for stage in STAGES if stage not in LONG}


def run_undisturbed(stages, stage):
    command, names = STAGES[stage]
    for before in PREPARE if stage == "encode" else ():
        stages.start(before)
    begin = time.monotonic()
    assert stages.start(command)
    return stages.contents(names), time.monotonic() - begin


def kill_and_finish(stages, undisturbed, stage, moments):
    """Kill a stage again and again, let it come to its end, and compare what it made; return the number of kills."""
    command, names = STAGES[stage]
    contents, seconds = undisturbed[stage]
    for name in names:
        (stages.folder / name).unlink(missing_ok=True)  # an evaluation takes away what another drew
    if stage.startswith("evaluate"):  # the old results stay until the new ones are there
        (stages.folder / names[0]).write_text("old")
    killed = 0
    for moment in moments:
        killed += not stages.start(command, moment * seconds)
        for name in names:
            path = stages.folder / name
            if path.exists() and not (stage == "encode" or path.suffix in (".pth", ".jsonl") or "curve" in path.stem):
                assert path.read_bytes() in (contents[name], b"old"), name  # written whole or not at all
    assert stages.start(command)
    made = stages.contents(names)
    for name in names:
        assert made[name] == contents[name], name
    left = [path for name in names for path in (stages.folder / name).parent.glob(".*")]
    assert not left
    return killed


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in LONG])
def test_a_stage_that_is_killed_goes_on(stages, undisturbed, stage):
    chance = random.Random(stage)
    assert any(kill_and_finish(stages, undisturbed, stage, [chance.random() * 0.8] * 2) for _ in range(3))


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed_twenty_times(stages, undisturbed, stage):
    """Once, and twice in a row."""
    if stage == "prepare_mnist":
        write_idx_files(stages.folder / "idx")
    undisturbed = {stage: run_undisturbed(stages, stage)} if stage in LONG else undisturbed
    chance = random.Random(stage)
    killed = rounds = 0
    while killed < 20 and rounds < 60:  # it may be done before its moment
        rounds += 1
        killed += kill_and_finish(stages, undisturbed, stage, [chance.random() for _ in range(1 + rounds % 3 // 2)])
    print(f"{stage}: {killed} kills in {rounds} rounds")
    assert killed >= 20


def write_idx_files(folder):
    folder.mkdir()
    with h5py.File(REPOSITORY / mnist.PATH) as file:
        for files, values in ((mnist.IMAGES, file["x"][:]), (mnist.LABELS, file["y"][:])):
            for (name, shape, _), part in zip(files, (values[:60_000], values[60_000:])):
                header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
                (folder / name).write_bytes(header + part.tobytes())
