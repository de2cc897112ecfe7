"""A stand-in for Slurm's sbatch: runs a job at once, as Slurm would, the tasks of an array in turn.

The script is copied to a spool folder and run from the folder of submission, in the environment of submission and what
Slurm adds to it. $STAND_IN_SPOOL keeps the output of every task and whether the job succeeded.
"""

import argparse
import os
import shutil
import subprocess
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--parsable", action="store_true")
parser.add_argument("--array")
parser.add_argument("--dependency")
parser.add_argument("script", type=Path)
parser.add_argument("words", nargs=argparse.REMAINDER)
arguments = parser.parse_args()

lines = arguments.script.read_text().splitlines()
assert lines[0].startswith("#!")
first_command = next(number for number, line in enumerate(lines) if line.strip() and not line.startswith("#"))
assert not any(line.startswith("#SBATCH") for line in lines[first_command:]), "Slurm reads no options after a command"

spool = Path(os.environ["STAND_IN_SPOOL"])
job = str(100 + len(list(spool.iterdir())))
folder = spool / job
folder.mkdir()
shutil.copy(arguments.script, folder / "slurm_script")
environment = {"SLURM_JOB_ID": job, "SLURM_SUBMIT_DIR": os.getcwd()}
tasks = []
for part in (arguments.array or "").split(","):
    first, _, last = part.partition("-")
    tasks += range(int(first), int(last or first) + 1) if first else []


def run(task):
    added = dict(environment)
    if task is not None:
        added |= {
            "SLURM_ARRAY_JOB_ID": job,
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(len(tasks)),
            "SLURM_ARRAY_TASK_MIN": str(min(tasks)),
            "SLURM_ARRAY_TASK_MAX": str(max(tasks)),
        }
    with open(folder / f"slurm-{job}_{task}.out", "w") as output:
        command = ["bash", folder / "slurm_script", *arguments.words]
        return subprocess.run(command, stdout=output, stderr=output, env={**os.environ, **added}).returncode


kind, _, other = (arguments.dependency or "").partition(":")
assert kind in ("", "afterok"), kind
if not other or (spool / other / "succeeded").exists():
    codes = [run(task) for task in tasks or [None]]
    if not any(codes):
        (folder / "succeeded").touch()
print(job if arguments.parsable else f"Submitted batch job {job}")
