"""Every write, fsync, rename and opening of a file of every stage fails in turn, and so do some allocations.

A fault is one clear line and exit code 2, leaves no file half written, and the same command again ends as an
undisturbed run does. The faults are made in the C library (faults.c), below Python, numpy, HDF5 and PyTorch.
"""

import errno
import os
import platform
import random
import subprocess
import sysconfig

import pytest
from conftest import REPOSITORY
from stages import STAGES, Stages

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

WRITE, FSYNC, RENAME, ALLOCATE, OPEN = 1, 2, 3, 4, 5
# arguments of faults_arm but for the number: kind, error, whether all that follow fail, too
FAULTS = {
    "a write fails": (WRITE, errno.EIO, 0),
    "the disk is full": (WRITE, errno.ENOSPC, 1),
    "an fsync fails": (FSYNC, errno.EIO, 0),
    "a rename fails": (RENAME, errno.EIO, 0),
    "a file cannot be opened": (OPEN, errno.EMFILE, 0),
    "an allocation fails": (ALLOCATE, errno.ENOMEM, 0),
}
VIEWS = (".png", ".jsonl", ".html")  # made again of what is there; report.html with its pictures


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()
    command = [*compiler, "-O1", "-shared", "-fPIC", "-o", library, REPOSITORY / "tests" / "faults.c", "-ldl"]
    subprocess.run(command, check=True)
    stages = Stages(tmp_path_factory.mktemp("stages"), library)
    yield stages
    stages.server.kill()
    stages.server.wait()


def fail(stages, stage, fault, number):
    """Let the `number`-th call of a kind fail in a stage; return how many there were, and whether it ended well."""
    expected, _ = stages.undisturbed(stage)
    command, names = STAGES[stage]
    kind, code, for_good = FAULTS[fault]
    resumes = stage in ("train", "encode")
    done = resumes and kind == OPEN  # all is there, and none of it may be lost
    for name in names if not done else ():
        (stages.folder / name).unlink(missing_ok=True)
    if not resumes:
        (stages.folder / names[0]).write_text("old")
    status, output = stages.ask(command, fault=[kind, number, code, for_good])
    if kind == ALLOCATE and os.WIFSIGNALED(status):  # PyTorch itself does not survive each of them
        exit_code, count = None, 0
    else:
        *lines, count = output.splitlines()
        exit_code = os.waitstatus_to_exitcode(status)
    if number and exit_code is not None:
        assert exit_code == 0 or exit_code == 2 and lines[-1].startswith("error: "), output
        assert "Traceback" not in output and sum("error: " in line for line in lines) == (exit_code == 2), output
        assert "damaged" not in output.replace("is undamaged", ""), output
        words = "out of memory" if kind == ALLOCATE else os.strerror(code)
        assert exit_code == 0 or words in lines[-1], output
    if number:
        for name in names if done or not resumes else ():
            path, whole = stages.folder / name, [expected[name]] if done else [b"old", expected[name]]
            assert not (done or path.exists()) or path.suffix in VIEWS or path.read_bytes() in whole, name
    assert not number or stages.start(command)
    made = stages.contents(names)
    assert all(made[name] == expected[name] for name in names), [n for n in names if made[n] != expected[n]]
    assert not [path for name in names for path in (stages.folder / name).parent.glob(".*")]
    return int(count), exit_code == 0


@pytest.mark.parametrize("stage", ["train", "encode", "merge", "build_index", "evaluate_collisions"])
def test_some_faults(stages, stage):
    chance = random.Random(stage)
    for fault in chance.sample(sorted(FAULTS), 3):
        count, _ = fail(stages, stage, fault, 0)
        fail(stages, stage, fault, chance.randint(1, count))


@pytest.mark.slow
@pytest.mark.pictures
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_all_faults(stages, stage, fault):
    """Allocations, of which there are thousands, are sampled."""
    count, _ = fail(stages, stage, fault, 0)
    numbers = range(1, count + 1)
    if fault == "an allocation fails":
        numbers = sorted(random.Random(stage).sample(numbers, min(count, 40)))
    survived = [fail(stages, stage, fault, number)[1] for number in numbers]
    print(f"{stage}: {fault}, {len(survived)} of {count} tried, {sum(survived)} without effect, 0 lost")
