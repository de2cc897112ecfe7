"""Several processes do what one does, bit for bit: on the CPU, with gloo."""

import os
import runpy
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, assert_same, quick
from torch import multiprocessing

from equihash import distributed
from equihash.datasets import MnistMosaic
from equihash.errors import UserError
from equihash.evaluation.in_training import evaluate_in_training
from equihash.models import MnistMosaicCNN
from equihash.trainers import (
    AlignUniformTrainer,
    GreedyHashTrainer,
    HashNetShannonTrainer,
    HashNetTrainer,
    JMLHTrainer,
    ShannonHammingTrainer,
    SSCDTrainer,
)

# processes are forked from one that has loaded these
multiprocessing.set_forkserver_preload(["torch._dynamo", "equihash.report.report", "equihash.trainers"])

MNIST = REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5"
TRAINERS = {
    "Shannon-Hamming, one pass": (ShannonHammingTrainer, {"forward_passes": "one", "shannon_shuffle_logits": True}),
    "Shannon-Hamming, two passes": (ShannonHammingTrainer, {"forward_passes": "two"}),
    "HashNet": (HashNetTrainer, {}),
    "JMLH": (JMLHTrainer, {"nb_classes": 7}),
    "HashNet with the Shannon term": (HashNetShannonTrainer, {}),
    "alignment and uniformity": (AlignUniformTrainer, {}),
    "SSCD": (SSCDTrainer, {}),
    "GreedyHash": (GreedyHashTrainer, {"nb_classes": 7}),
    "Muon": (HashNetTrainer, {"optim_class": "MuonWithAuxAdam"}),
}


def train_all():
    """Three steps with each trainer: {name: (weights, trainer's state with its log, evaluation of "train")}."""
    torch.set_num_threads(1)  # sums of floats depend on how they are split
    results = {}
    for name, (cls, kwargs) in TRAINERS.items():
        torch.manual_seed(0)
        network = MnistMosaicCNN(k=16)
        trainer = cls(network, MnistMosaic(MNIST, size=8, seed=1), nb_batch_per_step=4, **kwargs)
        trainer.train(3)
        trainer.aggregate()
        found = evaluate_in_training(network, trainer.loader, 64, seed=3)
        results[name] = network.state_dict(), trainer.state_dict(), found
    return results


def run_together(function, *arguments, port):
    """Call function(rank, *arguments) in two processes, in the environment that torchrun gives them."""
    arguments = (function, port, arguments)
    multiprocessing.start_processes(run_in_process, arguments, nprocs=2, start_method="forkserver")


def run_in_process(rank, function, port, arguments):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    function(rank, *arguments)


def train_in_process(rank, folder):
    distributed.start()
    torch.save(train_all(), folder / f"{rank}.pth")
    assert distributed.any_of(rank == 1) and not distributed.any_of(False)


def test_two_processes_train_as_one(tmp_path, unused_port):
    run_together(train_in_process, tmp_path, port=unused_port)
    threads = torch.get_num_threads()
    alone = train_all()
    torch.set_num_threads(threads)
    together = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in (0, 1)]
    for name, alone_results in alone.items():
        for other in (processes[name] for processes in together):
            assert_same(alone_results, other)


def test_micro_batches_must_be_shared_evenly(monkeypatch):
    monkeypatch.setattr(distributed, "nb_processes", lambda: 4)
    with pytest.raises(UserError, match="must be a multiple of the number of processes"):
        HashNetTrainer(MnistMosaicCNN(k=16), MnistMosaic(MNIST, size=8), nb_batch_per_step=6)


def test_part_of_the_environment_starts_nothing(monkeypatch):
    """Clusters and shells set some of the variables, too."""
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "2")
        assert distributed.nb_processes() == 1 and distributed.rank() == 0
    distributed.start()


def torchrun(workspace, command):
    script, *words = command
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", REPOSITORY / script, *words],
        cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def run_script_in_process(rank, folder, command):
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.argv = command
    sys.stdout = open(f"output{rank}", "w")
    runpy.run_path(str(REPOSITORY / command[0]), run_name="__main__")


def test_torchrun_trains_encodes_and_merges(workspace, unused_port):
    """The scripts under torchrun: one writes and prints, and the codes are those of an encoding by one process."""
    train = ["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:2", "eval_freq:1")]
    output = torchrun(workspace, train)
    assert output.count("HashNet main: 2 steps") == 1 and output.count("step 2 valid") == 1
    log = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current" / "log.jsonl"
    together = log.read_text()
    workspace.check([*train, "--no_load"])
    assert log.read_text() == together
    workspace.check("generate_labels.py FastMnistMosaic DB -b 50 -d 1300 -p 20 -n 20 -t 20 -m 2 2")
    encode = ["encode.py", "FastMnistMosaic", "DB", "HashNet", "-d", "cpu"]
    run_together(run_script_in_process, workspace.folder, [*encode, "--build_index"], port=unused_port)
    output = "".join((workspace.folder / f"output{rank}").read_text() for rank in (0, 1))
    assert "1,300 fingerprints of 2 shards merged" in output and output.count("indexed in") == 1
    folder = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current" / "test_DB"
    files = [folder / "database_fingerprints.hdf5", folder / "positive_queries_fingerprints.hdf5"]
    together = [read(path) for path in files]
    for path in files:
        path.unlink()
    workspace.check([*encode])
    for path, codes in zip(files, together):
        np.testing.assert_array_equal(read(path), codes)
    assert "1 lookup" in workspace.check("evaluate_binary_equihash.py FastMnistMosaic DB HashNet")


def read(path):
    with h5py.File(path) as file:
        return file["codes"][...]
