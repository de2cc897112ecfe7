"""Several processes do what one does, bit for bit: on the CPU, with gloo."""

import os
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
    GreedyHashTrainer,
    HashNetShannonTrainer,
    HashNetTrainer,
    JMLHTrainer,
    ShannonHammingTrainer,
    SSCDTrainer,
)

MNIST = REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5"
TRAINERS = {
    "Shannon-Hamming, one pass": (ShannonHammingTrainer, {"forward_passes": "one", "shannon_shuffle_logits": True}),
    "Shannon-Hamming, two passes": (ShannonHammingTrainer, {"forward_passes": "two"}),
    "HashNet": (HashNetTrainer, {}),
    "JMLH": (JMLHTrainer, {"nb_classes": 7}),
    "HashNet with the Shannon term": (HashNetShannonTrainer, {}),
    "SSCD": (SSCDTrainer, {}),
    "GreedyHash": (GreedyHashTrainer, {"nb_classes": 7}),
    "Muon": (HashNetTrainer, {"optim_class": "MuonWithAuxAdam"}),
}


def train_all():
    """Five steps with each trainer: {name: (weights, trainer's state with its log, evaluation of "train")}."""
    torch.set_num_threads(1)  # sums of floats depend on how they are split
    results = {}
    for name, (cls, kwargs) in TRAINERS.items():
        torch.manual_seed(0)
        network = MnistMosaicCNN(k=16)
        trainer = cls(network, MnistMosaic(MNIST, size=8, seed=1), nb_batch_per_step=4, **kwargs)
        trainer.train(5)
        trainer.aggregate()
        found = evaluate_in_training(network, trainer.loader, 64, seed=3)
        results[name] = network.state_dict(), trainer.state_dict(), found
    return results


def train_in_process(rank, nb_processes, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(nb_processes), MASTER_ADDR="127.0.0.1", TQDM_DISABLE="1")
    with open(folder / "port") as file:
        os.environ["MASTER_PORT"] = file.read()
    distributed.start()
    torch.save(train_all(), folder / f"{rank}.pth")
    assert distributed.any_of(rank == 1) and not distributed.any_of(False)


def test_two_processes_train_as_one(tmp_path, unused_port):
    (tmp_path / "port").write_text(str(unused_port))
    multiprocessing.spawn(train_in_process, (2, tmp_path), nprocs=2)
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
    return result.returncode, result.stdout, result.stderr


def test_torchrun_trains_encodes_and_merges(workspace):
    """The scripts under torchrun: one writes and prints, and the codes are those of an encoding by one process."""
    train = ["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:2", "eval_freq:1")]
    code, output, errors = torchrun(workspace, train)
    assert code == 0, errors
    assert output.count("HashNet main: 2 steps") == 1 and output.count("step 2 valid") == 1
    log = workspace.experiments / "FastMnistMosaic" / "HashNet" / "main" / "current" / "log.jsonl"
    together = log.read_text()
    workspace.check([*train, "--no_load"])
    assert log.read_text() == together
    workspace.check("generate_labels.py FastMnistMosaic DB -b 50 -d 1300 -p 20 -n 20 -t 20 -m 2 2")
    encode = ["encode.py", "FastMnistMosaic", "DB", "HashNet", "-d", "cpu"]
    code, output, errors = torchrun(workspace, [*encode, "--build_index"])
    assert code == 0, errors
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
