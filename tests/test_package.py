"""The package as a library: what is in a wheel and in a source distribution, and docs/index.md."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import REPOSITORY

EXAMPLES = "\n".join(
    re.findall(r"^```python\n(.*?)^```", (REPOSITORY / "docs" / "index.md").read_text(), re.DOTALL | re.MULTILINE)
)
PRINTED = re.findall(r"^print\(.*\)  # (.*)$", EXAMPLES, re.MULTILINE)
MODULES = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "equihash").rglob("*.py")}
TEMPLATES = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "equihash").rglob("*.jinja")}


def test_examples(tmp_path, monkeypatch, capsys):
    """They run in any folder, and print what the comments say."""
    monkeypatch.chdir(tmp_path)
    exec(EXAMPLES, {})
    assert PRINTED and capsys.readouterr().out.splitlines() == PRINTED


@pytest.fixture
def repository(tmp_path):
    """A copy of what the package is made from, and of some that does not belong in it."""
    copy = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "equihash", copy / "equihash", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "requirements.txt", "README.md", "LICENSE", "train.py"):
        shutil.copy2(REPOSITORY / name, copy)
    for name in ("tests/test_one.py", "data/labels.hdf5", "configs/Task/taskconfig.json"):
        (copy / name).parent.mkdir(parents=True)
        (copy / name).touch()
    return copy


def run(*words, cwd, **options):
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, check=True, text=True, capture_output=True, **options
    )


def test_source_distribution(repository):
    run("setup.py", "-q", "sdist", "build_py", "--build-lib", "built", cwd=repository)
    (archive,) = (repository / "dist").iterdir()
    with tarfile.open(archive) as file:
        names = {member.name.partition("/")[2] for member in file if member.isfile()}
    sources = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "equihash").rglob("*.p[yx][xd]")}
    files = {name for name in names if "egg-info" not in name}
    meta = {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "setup.py", "setup.cfg"}
    assert files == MODULES | sources | TEMPLATES | {"pyproject.toml", "requirements.txt"} | meta
    built = {path.relative_to(repository / "built").as_posix() for path in (repository / "built").rglob("*.*")}
    assert built == MODULES | TEMPLATES


@pytest.mark.slow
def test_wheel(repository, tmp_path):
    """It has the C modules, and the examples run in it, away from the repository and without PyTorch."""
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, repository, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        metadata = file.read(next(name for name in file.namelist() if name.endswith("/METADATA"))).decode()
        file.extractall(tmp_path / "installed")
    compiled = {re.sub(r"\..*", "", name) for name in names if re.search(r"\.(so|pyd)$", name)}
    assert compiled == {
        path.relative_to(REPOSITORY).with_suffix("").as_posix() for path in (REPOSITORY / "equihash").rglob("*.pyx")
    }
    assert {name for name in names if not re.search(r"\.(so|pyd)$", name)} == MODULES | TEMPLATES
    assert "Requires-Dist: torch" in metadata and "cython" not in metadata.lower().partition("\n\n")[0]
    code = EXAMPLES + "\nimport sys, equihash\nassert 'torch' not in sys.modules\nprint(equihash.__file__)"
    lines = run("-c", code, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "installed")}).stdout.splitlines()
    assert lines == [*PRINTED, str(tmp_path / "installed" / "equihash" / "__init__.py")]
