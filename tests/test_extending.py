"""What docs/extending.md says, in a copy of the repository."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, quick

from equihash.discovery import find_classes

SCRIPTS = ("train", "generate_labels", "encode", "evaluate_binary_equihash", "search")
EXTENDING = (REPOSITORY / "docs" / "extending.md").read_text()
METRIC = re.search(r"## A metric\n.*?```\n(.*?)```", EXTENDING, re.DOTALL)[1]
RUN_ALL = """
import json, runpy, sys
for sys.argv in json.loads(sys.argv[1]):
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def example_files():
    """{path: content} of the examples: each follows its path, a colon, and an empty line."""
    return dict(re.findall(r"`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)```", EXTENDING, re.DOTALL))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the repository with the examples in it, after a run of the scripts with each."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("equihash", "configs", *(f"{script}.py" for script in SCRIPTS)):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, folder / name)
    for path, content in example_files().items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_text(content)
    metrics = folder / "equihash" / "evaluation" / "metrics.py"
    before, end, after = metrics.read_text().partition("\n)}  # fmt: skip\n")
    metrics.write_text(f"{before}\n{METRIC.rstrip()}{end}{after}")
    (folder / "data" / "datasets" / "ImagePairs").mkdir(parents=True)
    (folder / "data" / "datasets" / "Mnist").symlink_to(REPOSITORY / "data" / "datasets" / "Mnist")
    pixels = np.random.RandomState(0).randint(0, 256, (3, 50, 28, 28)).astype(np.uint8)
    for which, images in zip(("train", "valid", "test"), pixels):
        np.save(folder / "data" / "datasets" / "ImagePairs" / f"{which}.npy", images)
    database = ["ImagePairs", "DB", "ShannonHamming", "-d", "cpu"]
    commands = [
        [
            "train.py",
            "FastMnistMosaic",
            "Triplet",
            *quick("nb_steps:2", "trainer_kwargs:margin:2", "network_class:MLP"),
        ],
        ["train.py", "FastMnistMosaic", "ShannonHamming", "-v", "mlp", "-i", "0", *quick("nb_steps:2")],
        ["train.py", "ImagePairs", "ShannonHamming", *quick("nb_steps:2")],
        ["generate_labels.py", "ImagePairs", "DB", "-b50", "-d600", "-p9", "-n9", "-t9", "-m", "1", "2"],
        ["encode.py", *database, "--build_index"],
        ["evaluate_binary_equihash.py", *database],
        ["search.py", *database, "--id", "3"],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", RUN_ALL, json.dumps(commands)]
    done = subprocess.run(run, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def state(folder, experiment):
    return torch.load(folder / "data" / "experiments" / experiment / "current" / "state.pth", weights_only=True)


def test_there_is_one_module_and_its_configuration_for_each():
    assert list(example_files()) == [
        "equihash/trainers/triplet_trainer.py",
        "configs/FastMnistMosaic/Triplet/modelconfig.json",
        "equihash/models/mlp.py",
        "configs/FastMnistMosaic/ShannonHamming/mlp.json",
        "equihash/datasets/image_pairs.py",
        "configs/ImagePairs/taskconfig.json",
        "configs/ImagePairs/ShannonHamming/modelconfig.json",
    ]


def test_a_new_loss(extended):
    trained = state(extended[0], "FastMnistMosaic/Triplet/main")
    assert trained["trainer"]["step"] == 2 and trained["config"]["trainer_kwargs"]["margin"] == 2.0
    assert all(0 < entry["loss"] < 100 for entry in trained["trainer"]["training_log"].values())


def test_a_new_network_by_a_variant_and_from_the_command_line(extended):
    for experiment in ("ShannonHamming/mlp512", "Triplet/main"):
        trained = state(extended[0], f"FastMnistMosaic/{experiment}")
        assert trained["config"]["network_class"] == "MLP" and trained["config"]["network_kwargs"]["nb_hidden"] == 512
        assert trained["net"]["layers.1.weight"].shape == (512, 56 * 56) and trained["trainer"]["step"] == 2


def test_a_new_data_set(extended):
    folder, output = extended
    assert state(folder, "ImagePairs/ShannonHamming/main")["config"]["loader_class"] == "ImagePairs"
    encoded = folder / "data/experiments/ImagePairs/ShannonHamming/main/current/test_DB"
    results = json.loads((encoded / "results.json").read_text())
    assert 0 <= results["recall"] <= 1
    for name in ("gallery.png", "search.png", "../instances.png"):
        assert (encoded / name).read_bytes().startswith(b"\x89PNG")
    assert re.search(r"item 3: .* found, .* of them relevant", output)


def test_a_new_metric(extended):
    folder, output = extended
    results = json.loads(
        (folder / "data/experiments/ImagePairs/ShannonHamming/main/current/test_DB/results.json").read_text()
    )
    low, high = results["intervals"]["precision"]
    assert 0 <= low <= results["precision"] <= high <= 1
    assert re.search(r"PRR +recall .* precision", output)


def test_what_is_found(tmp_path, monkeypatch):
    """Public classes that a module of the package defines: nothing else that it imports, and no name twice."""
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from pathlib import Path\nclass A(ValueError): pass\nclass _B(ValueError): pass\n")
    (package / "two.py").write_text("from some_package.one import A\nclass C(A): pass\nclass D: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert [cls.__name__ for cls in find_classes("some_package", ValueError).values()] == ["A", "C"]
        (package / "three.py").write_text("class A(ValueError): pass\n")
        with pytest.raises(ImportError, match=r"some_package\.one and some_package\.three both define A"):
            find_classes("some_package", ValueError)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "some_package"]:
            del sys.modules[name]
