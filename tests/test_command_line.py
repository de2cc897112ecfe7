"""What concerns all scripts: the streams they write to, the names and the folder that they are given."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from equihash import command_line
from equihash.errors import Remedy, UserError
from equihash.experiment import DatabaseFiles, Experiment


def python(*words, cwd=REPOSITORY, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 60, **options}
    return subprocess.run([sys.executable, *words], cwd=cwd, **pipes)


def test_without_the_c_modules(tmp_path):
    """As in a fresh clone: one line, from every script; elsewhere an error that can be caught."""
    sources = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
    shutil.copytree(REPOSITORY / "equihash", tmp_path / "equihash", ignore=sources)
    scripts = [path for path in REPOSITORY.glob("*.py") if path.name != "setup.py"]
    line = "the C modules are not compiled: run python setup.py build_ext --inplace"
    assert len(scripts) == 11
    for script in scripts:
        shutil.copy(script, tmp_path)
        ended = python(script.name, "--help", cwd=tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {line}\n"), script
    caught = "try:\n    import equihash.search\nexcept ImportError as error:\n    print(error)\n"
    ended = python("-c", f"{caught}raise ValueError('another')", cwd=tmp_path)
    assert ended.stdout == f"{line}\n" and ended.returncode == 1 and ended.stderr.endswith("ValueError: another\n")


def script(*lines):
    """Python code whose `main` has these lines."""
    return "\n".join(
        [
            "import sys",
            "from equihash import errors",
            "from equihash.command_line import run",
            "def main():",
            *lines,
            "run(main)",
        ]
    )


def test_what_the_terminal_cannot_show_is_replaced():
    code = script("    print('0.5±0.1')", "    raise errors.UserError('no file \\udcff✓')")
    ended = python("-c", code, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (
        ended.returncode == 2 and ended.stdout == "0.5\\xb10.1\n" and ended.stderr == "error: no file \\udcff\\u2713\n"
    )


@pytest.mark.parametrize(
    "line, code, errors",
    [
        ("    print('a line\\n' * 100_000)", 141, ""),
        ("    print('a line')", 141, ""),
        ("    print('help'); sys.exit(0)", 0, ""),
        ("    print('a line'); raise errors.UserError('a reason')", 2, "error: a reason\n"),
    ],
)
def test_a_reader_that_has_gone_is_no_error(line, code, errors):
    """As of `| head`."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = python("-c", script(line), stdout=writing, env={**os.environ, "PYTHONUNBUFFERED": ""})
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (code, errors)


def test_output_to_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        ended = python("-c", script("    print('a line')"), stdout=full, env={**os.environ, "PYTHONUNBUFFERED": ""})
    assert ended.returncode == 2 and ended.stderr.startswith("error: No space left") and ended.stderr.count("\n") == 1


LABELS = ["-b40", "-d9", "-p1", "-n1", "-t1", "-m", "1", "2"]


NO_NAMES = ["", ".", "..", ".hidden", "../../evil", "/tmp/evil", "a/b", "a\nb", "a\x7f", "x" * 101]


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ["generate_labels.py", "FastMnistMosaic", "NAME", *LABELS],
        ["train.py", "FastMnistMosaic", "HashNet", "--database_name", "NAME", "-d", "cpu", "-a", "nb_steps:0"],
        ["build_index.py", "FastMnistMosaic", "NAME", "HashNet"],
        ["show_results.py", "FastMnistMosaic", "NAME"],
    ],
    ids=lambda command: command[0],
)
def test_names_of_databases_are_names_of_files(workspace, command, name):
    workspace.refuse([name if word == "NAME" else word for word in command], "cannot be the name of a database")
    assert sorted(path.name for path in workspace.folder.rglob("*") if path.is_file()) == []


@pytest.mark.parametrize("name", ["<b>DB", "$\\frac{$", "a b", "é.1", "x" * 100])
def test_any_other_name_is_taken(workspace, name):
    workspace.check(["generate_labels.py", "FastMnistMosaic", name, *LABELS])
    assert (workspace.folder / "data" / "labels" / "FastMnistMosaic" / f"{name}.hdf5").is_file()


@pytest.mark.parametrize(
    "words, what",
    [
        (".. HashNet", "unknown task"),
        ("FastMnistMosaic/../FastMnistMosaic HashNet", "unknown task"),
        (f"{REPOSITORY}/configs/FastMnistMosaic HashNet", "unknown task"),
        ("FastMnistMosaic ../FastMnistMosaic/HashNet", "unknown model"),
        ("FastMnistMosaic HashNet -v ../HashNet/alpha_ablation -i 0", "unknown variant"),
        ("FastMnistMosaic HashNet -v modelconfig -i 0", "unknown variant"),
        ("FastMnistMosaik HashNet -v alpha_ablation -i all", "unknown task"),
        ("FastMnistMosaic HashNett -v alpha_ablation -i all", "unknown model"),
    ],
)
def test_tasks_models_and_variants_are_names(workspace, words, what):
    workspace.refuse(f"train.py {words} --show_config", what)


@pytest.mark.parametrize(
    "command",
    [
        "train.py FastMnistMosaic HashNet -v alpha_ablation -i all",
        "encode.py FastMnistMosaic DB HashNet",
        "show_results.py FastMnistMosaic DB",
        f"generate_labels.py FastMnistMosaic DB {' '.join(LABELS)}",
    ],
)
def test_another_folder_is_told(workspace, command):
    (workspace.folder / "configs").unlink()
    workspace.refuse(command, "run it from the repository's folder (there is no configs/ here)")


def test_a_remedy_in_the_terms_of_the_package_and_as_a_command(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    experiment = Experiment("FastMnistMosaic", "HashNet", "alpha_ablation", 3, checkpoint=20)
    valid = DatabaseFiles(experiment, "DB", "valid")
    for remedy, text, line in (
        (
            Remedy("encode_database", valid, job_id=3, nb_jobs=10),
            "encode_database with job_id=3, nb_jobs=10",
            "python encode.py FastMnistMosaic DB HashNet -v alpha_ablation -i 3 -l 20 -w valid --job_id 3 --nb_jobs 10",
        ),
        (Remedy("train", experiment), "train", "python train.py FastMnistMosaic HashNet -v alpha_ablation -i 3 -p 20"),
        (
            Remedy("count_shard", nb_lookups=[1, 4], shard=0),
            "count_shard with nb_lookups=[1, 4], shard=0",
            "python evaluate_binary_equihash.py --nb_lookups 1 4 --shard 0",
        ),
    ):
        assert (str(remedy), command_line.command(remedy)) == (text, line)
    assert str(UserError("no codes", Remedy("encode_database", valid))) == "no codes: run encode_database"
