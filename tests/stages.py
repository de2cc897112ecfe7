"""The stages as commands, and a process in which they are run, killed, and made to fail."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
from conftest import QUICK, RENDER, REPOSITORY, Workspace
from matplotlib.figure import Figure
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
        [
            "generate_labels.py",
            "FastMnistMosaic",
            "DB",
            "-b10000",
            "-d60000",
            "-p300",
            "-n300",
            "-t200",
            "-m",
            "2",
            "2",
            "--force",
        ],
        ["data/labels/FastMnistMosaic/DB.hdf5"],
    ),
    "encode": (
        ["encode.py", "FastMnistMosaic", "SMALL", "HashNet", "-d", "cpu", "--flush_freq", "1"],
        [f"{CURRENT}/test_SMALL/{name}.hdf5" for name in FINGERPRINTS],
    ),
    "merge": (
        ["merge.py", "FastMnistMosaic", "SMALL", "HashNet", "--nb_jobs", "2"],
        [f"{CURRENT}/test_SMALL/{FINGERPRINTS[0]}.hdf5"],
    ),
    "build_index": (
        ["build_index.py", "FastMnistMosaic", "SMALL", "HashNet", "--memory_limit", "1M"],
        [f"{CURRENT}/test_SMALL/inverted_index.bin"],
    ),
    "evaluate": (
        ["evaluate_binary_equihash.py", "FastMnistMosaic", "SMALL", "HashNet", "-d", "cpu", "--nb_lookups", "1", "4"],
        [f"{CURRENT}/test_SMALL/{name}" for name in ("results.json", "report.html", *PICTURES)],
    ),
    "evaluate_collisions": (
        ["evaluate_binary_equihash.py", "FastMnistMosaic", "SMALL", "HashNet", "-d", "cpu", "--no_queries"],
        [f"{CURRENT}/test_SMALL/{name}" for name in ("results.json", PICTURES[0])],
    ),
    "prepare_openimages": (
        ["prepare_data.py", "openimages", "--source", "pictures", "--split", "train", "--force"],
        ["data/datasets/OpenImages/hdf5/train.hdf5"],
    ),
    "prepare_mnist": (["prepare_data.py", "mnist", "--source", "idx"], ["data/datasets/Mnist/mnist.hdf5"]),
    "prepare_perlin": (
        ["prepare_data.py", "perlin", "--nb_maps", "150", "--force"],
        ["data/datasets/PerlinNoise/perlin180x270.hdf5", "data/datasets/PerlinNoise/perlin180x270.png"],
    ),
}
PREPARE = [
    ["generate_labels.py", "FastMnistMosaic", "SMALL", "-b10000", "-d1100", "-p60", "-n60", "-t40", "-m", "2", "2"],
    *(f"encode.py FastMnistMosaic SMALL HashNet -d cpu -j {job} -n 2".split() for job in (0, 1)),
]
# whose files a stage needs
NEEDS = {
    "encode": "train",
    "merge": "encode",
    "build_index": "merge",
    "evaluate": "build_index",
    "evaluate_collisions": "build_index",
}

# Has the libraries loaded and forks a process for each command, which is then in the midst of its own work at once.
SERVER = f"""
import ctypes, json, os, runpy, signal, sys, time, traceback
sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / "tests")!r}]
import conftest, equihash.report.report, equihash.prepare.mnist, equihash.prepare.openimages, equihash.prepare.perlin
import scipy.optimize, scipy.stats, torch.optim, torchvision
if sys.argv[1] == "blank":
    conftest.Figure.savefig = conftest.save_blank
print("ready", flush=True)
for line in sys.stdin:
    command, kill_after, fault = json.loads(line)
    pid = os.fork()
    if not pid:
        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.argv, code = command, 0
        if fault:
            sys.modules["torch.utils.tensorboard"] = None  # a thread of its own reports its errors, with a traceback
            faults = ctypes.CDLL(None)
            faults.faults_arm(*fault)
        try:
            runpy.run_path(os.path.join({str(REPOSITORY)!r}, sys.argv[0]), run_name="__main__")
        except SystemExit as stop:
            code = stop.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            if fault:
                print(faults.faults_disarm(), file=sys.stderr)
            sys.stdout.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Stages(Workspace):
    """A workspace with a process in which stages are run, and killed."""

    def __init__(self, folder, preload=""):
        super().__init__(folder)
        (folder / "data" / "datasets").unlink()
        (folder / "data" / "datasets" / "Mnist").mkdir(parents=True)
        shutil.copy(REPOSITORY / "data/datasets/Mnist/mnist.hdf5", folder / "data/datasets/Mnist")
        (folder / "pictures").mkdir()
        for number in range(40):
            pixels = np.random.default_rng(number).integers(0, 256, (200, 190, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
        # a fork has none of the threads
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LD_PRELOAD": str(preload)}
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        pictures = "rendered" if Figure.savefig is RENDER else "blank"
        self.server = subprocess.Popen([sys.executable, "-c", SERVER, pictures], cwd=folder, env=environment, **pipe)
        assert self.server.stdout.readline() == "ready\n"
        self.made = {}

    def undisturbed(self, stage):
        """What a stage makes, {name: content}, and the seconds that it takes; the stages that it needs come first."""
        if stage not in self.made:
            if stage in NEEDS:
                self.undisturbed(NEEDS[stage])
            if stage == "prepare_mnist":
                write_idx_files(self.folder / "idx")
            for before in PREPARE if stage == "encode" else ():
                assert self.start(before)
            command, names = STAGES[stage]
            begin = time.monotonic()
            assert self.start(command)
            self.made[stage] = self.contents(names), time.monotonic() - begin
        return self.made[stage]

    def start(self, command, kill_after=None):
        """Run a command, or kill it after some seconds; return whether it came to its end."""
        status, output = self.ask(command, kill_after)
        assert status in (0, signal.SIGKILL), output
        return status == 0

    def ask(self, command, kill_after=None, fault=None):
        """Run a command, perhaps with arguments of `faults_arm` of faults.c; return (status of wait, all output)."""
        print(json.dumps([command, kill_after, fault]), file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        return status, (self.folder / "output.txt").read_text()

    def contents(self, names):
        return {name: (self.folder / name).read_bytes() for name in names}


def write_idx_files(folder):
    folder.mkdir()
    with h5py.File(REPOSITORY / mnist.PATH) as file:
        for files, values in ((mnist.IMAGES, file["x"][:]), (mnist.LABELS, file["y"][:])):
            for (name, shape, _), part in zip(files, (values[:60_000], values[60_000:])):
                header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
                (folder / name).write_bytes(header + part.tobytes())
