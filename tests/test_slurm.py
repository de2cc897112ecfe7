"""The batch scripts, as the README submits them, with a stand-in for Slurm."""

import os
import re
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from conftest import REPOSITORY, quick

COMMANDS = re.search(r"```\n([^`]*slurm/encode\.sbatch[^`]*)```", (REPOSITORY / "README.md").read_text())[1]


class Cluster:
    """A workspace with `sbatch` and `python` on the path.

    This `python` hands its words to the process of the test, which has loaded everything already, through a pipe.
    """

    def __init__(self, workspace):
        self.workspace, self.bin, self.spool = workspace, workspace.folder / "bin", workspace.folder / "spool"
        self.bin.mkdir()
        self.spool.mkdir()
        (workspace.folder / "slurm").symlink_to(REPOSITORY / "slurm")
        self.request, self.answer = workspace.folder / "request", workspace.folder / "answer"
        os.mkfifo(self.request)
        os.mkfifo(self.answer)
        python = f'echo "$PWD" "$@" > "{self.request}"; {{ read code; cat; }} < "{self.answer}"; exit $code'
        sbatch = f'exec "{sys.executable}" "{REPOSITORY}/tests/stand_in_for_sbatch.py" "$@"'
        for name, content in (("python", python), ("sbatch", sbatch)):
            (self.bin / name).write_text(f"#!/bin/bash\n{content}\n")
            (self.bin / name).chmod(0o755)

    def submit(self, commands):
        """Run commands of the shell; return all that the jobs print."""
        with ThreadPoolExecutor(1) as pool:
            shell = pool.submit(self._run, commands)
            while request := self.request.read_text():
                folder, command = request.split(maxsplit=1)
                assert folder == str(self.workspace.folder)
                try:
                    code, output = self.workspace.run(command)
                except Exception:  # or the shell would wait for an answer
                    code, output = 1, traceback.format_exc()
                self.answer.write_text(f"{code}\n{output}")
            assert shell.result().returncode == 0
        return "".join(path.read_text() for path in sorted(self.spool.glob("*/*.out")))

    def _run(self, commands):
        added = {"PATH": f"{self.bin}:{os.environ['PATH']}", "STAND_IN_SPOOL": str(self.spool)}
        try:
            return subprocess.run(
                ["bash", "-euc", commands], cwd=self.workspace.folder, env={**os.environ, **added}, timeout=300
            )
        finally:
            self.request.write_text("")


@pytest.fixture
def cluster(workspace):
    return Cluster(workspace)


def test_the_commands_of_the_readme(cluster):
    workspace = cluster.workspace
    workspace.check(["train.py", "FastMnistMosaic", "ShannonHamming", *quick("nb_steps:1")])
    workspace.check("generate_labels.py FastMnistMosaic 10MDB -b10000 -d5200 -p50 -n50 -t50 -m 2 2")
    assert "--array=0-9 " in COMMANDS and "--nb_jobs 10\n" in COMMANDS
    output = cluster.submit(COMMANDS)
    assert "5,200 fingerprints of 10 shards merged" in output and "5,200 fingerprints indexed" in output, output
    folder = workspace.experiments / "FastMnistMosaic" / "ShannonHamming" / "main" / "current" / "test_10MDB"
    merged, index = read(folder / "database_fingerprints.hdf5"), (folder / "inverted_index.bin").read_bytes()
    for path in folder.iterdir():
        path.unlink()
    workspace.check("encode.py FastMnistMosaic 10MDB ShannonHamming --build_index")
    np.testing.assert_array_equal(read(folder / "database_fingerprints.hdf5"), merged)
    assert (folder / "inverted_index.bin").read_bytes() == index


@pytest.mark.parametrize("tasks", ["1-3", "0,2", "2"])
def test_shares_that_would_be_missing_are_refused_and_nothing_is_merged(cluster, tasks):
    output = cluster.submit(COMMANDS.replace("0-9", tasks))
    assert "error: the tasks of the array are the shares, from 0 and without gaps" in output
    assert "state.pth" not in output  # neither encode.py nor merge.py was run
    assert len(list(cluster.spool.iterdir())) == 2


def test_a_task_that_fails_holds_the_merge_back(cluster):
    output = cluster.submit(COMMANDS.replace("0-9", "0"))
    assert output.count("error: ") == 1 and "state.pth" in output  # there is no trained network


def read(path):
    with h5py.File(path) as file:
        return file["codes"][...]
