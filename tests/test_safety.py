"""Nothing is mixed up and nothing is lost: provenance, locks, full disks, too little memory, wrong configurations."""

import builtins
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from conftest import QUICK, RENDER, REPOSITORY, Workspace, assert_same, quick
from matplotlib.figure import Figure

from equihash import provenance as provenance_module
from equihash.command_line import run
from equihash.config import load_config, try_recipe
from equihash.datasets import MnistMosaic
from equihash.errors import UserError
from equihash.files import atomic, locked
from equihash.fingerprints import RowFile, job_range
from equihash.hdf5 import create_hdf5
from equihash.search import InvertedIndex
from equihash.trainers import HashNetTrainer

HOME = "data/experiments/FastMnistMosaic/HashNet/main"
DATABASE = f"{HOME}/current/test_DB"
TRAIN = ["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:2")]
LABELS = "generate_labels.py FastMnistMosaic DB -b10000 -d1700 -p60 -n60 -t40 -m 2 2"
ENCODE = "encode.py FastMnistMosaic DB HashNet -d cpu"
MERGE = "merge.py FastMnistMosaic DB HashNet --nb_jobs 2"
INDEX = "build_index.py FastMnistMosaic DB HashNet"
EVALUATE = "evaluate_binary_equihash.py FastMnistMosaic DB HashNet -d cpu"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A trained, encoded, merged and indexed database."""
    place = Workspace(tmp_path_factory.mktemp("original"))
    shards = f"{ENCODE} -j 0 -n 2", f"{ENCODE} -j 1 -n 2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", RENDER)  # whichever test is the first
        for command in (TRAIN, LABELS, *shards, f"{MERGE} --build_index", EVALUATE):
            place.check(command)
    return place


@pytest.fixture
def place(original, tmp_path):
    """A copy of it, with a bank of digits of its own."""
    place = Workspace(tmp_path)
    (tmp_path / "data" / "datasets").unlink()
    for name in ("labels", "experiments"):
        shutil.copytree(original.folder / "data" / name, tmp_path / "data" / name)
    (tmp_path / "data" / "datasets" / "Mnist").mkdir(parents=True)
    shutil.copy(REPOSITORY / "data/datasets/Mnist/mnist.hdf5", tmp_path / "data/datasets/Mnist")
    return place


# --- Provenance


def made_by(place, name):
    path = place.folder / name
    if path.suffix == ".pth":
        return torch.load(path, weights_only=True)["provenance"]
    if path.suffix == ".json":
        return json.loads(path.read_text())["provenance"]
    if path.suffix == ".bin":
        return InvertedIndex.load(path).metadata
    with h5py.File(path) as file:
        return json.loads(file.attrs["provenance"])


def test_every_file_says_what_made_it(original):
    state = made_by(original, f"{HOME}/current/state.pth")
    labels = made_by(original, "data/labels/FastMnistMosaic/DB.hdf5")
    shard = made_by(original, f"{DATABASE}/database_fingerprints_1_2.hdf5")
    merged = made_by(original, f"{DATABASE}/database_fingerprints.hdf5")
    index, results = (made_by(original, f"{DATABASE}/{name}") for name in ("inverted_index.bin", "results.json"))
    for each in (state, labels, shard, merged, index, results):
        assert set(each["libraries"]) == {"torch", "numpy", "h5py"} and each["version"]
        assert not any("time" in key or "date" in key for key in each)
    for each in (state, shard, merged):
        assert [each[key] for key in ("task", "model", "name")] == ["FastMnistMosaic", "HashNet", "main"]
        assert each["variant"] is None
        assert (each["device"], each["precision"], each["step"]) == ("cpu", "float32", 2)
        assert each["config"]["trainer_kwargs"]["alpha"] == 0.15 and each["weights"] == state["weights"]
    assert set(state["banks"]) == {"train", "valid"} and state["seeds"]["valid"] == 0xBEEF
    assert (shard["job_id"], shard["nb_jobs"]) == (1, 2) and shard["seeds"]["database"] == 0xACE
    assert set(shard) - set(merged) == {"job_id", "nb_jobs"} and {"labels", "bank", "which"} <= set(merged)
    assert (labels["seed"], labels["bank_size"], labels["database"]) == (0xCAFE, 10000, 1700)
    assert index["fingerprints"] == results["fingerprints"] == merged


@pytest.mark.pictures
def test_the_same_work_makes_the_same_bytes(original, tmp_path):
    again = Workspace(tmp_path)
    for command in (TRAIN, LABELS, f"{ENCODE} --build_index", EVALUATE):
        again.check(command)
    names = [f"{HOME}/current/state.pth", "data/labels/FastMnistMosaic/DB.hdf5"]
    names += [f"{DATABASE}/{name}" for name in os.listdir(original.folder / DATABASE) if "_2.hdf5" not in name]
    assert len(names) > 9
    for name in names:
        assert (again.folder / name).read_bytes() == (original.folder / name).read_bytes(), name


@pytest.mark.pictures
def test_other_libraries_are_no_mismatch(place, monkeypatch):
    real = provenance_module.provenance
    for module in ("fingerprints.encoding", "fingerprints.indexing", "evaluation.results", "label_generation"):
        monkeypatch.setattr(
            f"equihash.{module}.provenance", lambda **work: {**real(**work), "libraries": {"torch": "99"}}
        )
    before = files_of(place)
    for command in (ENCODE, INDEX, EVALUATE):
        place.check(command)
    changed = {path.name for path, content in files_of(place).items() if content != before[path]}
    assert changed == {"results.json", "report.html"}


def test_both_sides_are_named(place):
    place.check([*TRAIN, "nb_steps:3"])
    words = ["database_fingerprints.hdf5", "(step 2)", f"{HOME}/current/state.pth", "training went on", ENCODE[:20]]
    place.refuse(INDEX, *words)
    place.refuse(EVALUATE, "training went on", ENCODE[:20])
    place.refuse(MERGE, "_0_2.hdf5", "training went on", "--job_id 0 --nb_jobs 2")


def test_labels_that_were_made_again(place):
    place.check(f"{LABELS} -s 7 --force")
    for command in (MERGE, INDEX, EVALUATE):
        place.refuse(command, "labels", "data/labels/FastMnistMosaic/DB.hdf5", "made again", "encode.py")
    assert place.check(f"{ENCODE} -j 1 -n 2").count("of other labels: encoding again") == 1
    place.refuse(MERGE, "_0_2.hdf5", "--job_id 0")
    place.check(f"{LABELS} --force")  # the very same labels
    place.refuse(MERGE, "_1_2.hdf5", "--job_id 1")
    place.check(INDEX)
    place.check(EVALUATE)


def test_shards_of_other_jobs(place):
    folder = place.folder / DATABASE
    place.check("encode.py FastMnistMosaic DB HashNet -d cpu -j 1 -n 3")
    shutil.copy(folder / "database_fingerprints_1_3.hdf5", folder / "database_fingerprints_1_2.hdf5")
    place.refuse(MERGE, "nb_jobs 3", "this is of 2", "--job_id 1 --nb_jobs 2")
    shutil.copy(folder / "database_fingerprints_0_2.hdf5", folder / "database_fingerprints_1_2.hdf5")
    place.refuse(MERGE, "job_id 0", "this is of 1")
    (folder / "database_fingerprints_1_2.hdf5").unlink()
    place.check(f"{ENCODE} -j 1 -n 2 --precision bfloat16")
    place.refuse(MERGE, "precision bfloat16", "_0_2.hdf5 is of float32", "--job_id 1 --nb_jobs 2")


def change_bank(place, first):
    path = place.folder / "data" / "datasets" / "Mnist" / "mnist.hdf5"
    with h5py.File(path) as file:
        digits = file["x"][:]
    digits[first:] = 255 - digits[first:]
    with h5py.File(path, "w") as file:
        file["x"] = digits


def test_images_that_changed(place):
    change_bank(place, 60_000)  # of the test split
    before = (place.folder / DATABASE / "results.json").read_bytes()
    place.refuse(EVALUATE, "bank", "images there now", "encode.py")
    assert (place.folder / DATABASE / "results.json").read_bytes() == before
    assert "of other bank: encoding again" in place.check(f"{ENCODE} -j 1 -n 2")
    place.refuse(MERGE, "_1_2.hdf5 is of bank", "_0_2.hdf5 is of")
    place.check([*TRAIN, "nb_steps:3"])
    change_bank(place, 50_000)
    place.refuse([*TRAIN, "nb_steps:4"], "image banks valid", "--force_load")


def test_damage_is_found_and_mended(place):
    path = place.folder / DATABASE / "database_fingerprints.hdf5"
    whole = path.read_bytes()
    with h5py.File(path) as file:
        offset = file["codes"].id.get_offset()
    path.write_bytes(whole[: offset + 1202] + bytes([whole[offset + 1202] ^ 16]) + whole[offset + 1203 :])
    place.refuse(INDEX, "damaged", "encode.py")
    assert "from row 500 on" in place.check(ENCODE)
    assert path.read_bytes() == whole
    index = place.folder / DATABASE / "inverted_index.bin"
    whole = index.read_bytes()
    index.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    place.refuse(EVALUATE, "inverted_index.bin is damaged", "build_index.py")
    assert "damaged" in place.check(INDEX)
    assert index.read_bytes() == whole


# --- What the system refuses


@pytest.mark.parametrize(
    "name, command, code",
    [
        ("test_DB/database_fingerprints_1_2.hdf5", f"{ENCODE} -j 1 -n 2", errno.EACCES),
        ("test_DB/positive_queries_logits.hdf5", f"{ENCODE} -j 0 -n 2", errno.ESTALE),
        ("test_DB/database_fingerprints_0_2.hdf5", MERGE, errno.EMFILE),
        ("test_DB/database_fingerprints.hdf5", MERGE, errno.EIO),
        ("test_DB/inverted_index.bin", INDEX, errno.EACCES),
        ("state.pth", TRAIN, errno.ESTALE),
        ("state.pth", f"{ENCODE} -j 1 -n 2", errno.EMFILE),
    ],
)
def test_what_cannot_be_opened_is_not_replaced(place, monkeypatch, name, command, code):
    """A colleague's file of mode 600, a network handle that is stale, too many open files, a disk that fails."""
    path, real = place.folder / HOME / "current" / name, open

    def refused(file, mode="r", *arguments, **options):
        if os.fspath(file).endswith(name) and "r" in mode:
            raise OSError(code, os.strerror(code), str(file))
        return real(file, mode, *arguments, **options)

    before = path.read_bytes()
    monkeypatch.setattr(builtins, "open", refused)
    place.refuse(command, f"{name}: {os.strerror(code)}")
    monkeypatch.undo()
    assert path.read_bytes() == before


def test_a_file_that_is_open_elsewhere_is_kept(place):
    path = place.folder / DATABASE / "database_fingerprints_1_2.hdf5"
    before = path.read_bytes()
    with h5py.File(path, "r+", locking=True):
        assert "again" not in place.check(f"{ENCODE} -j 1 -n 2")
        place.check(f"{MERGE} --force")
    assert path.read_bytes() == before


def test_a_file_that_does_not_say_what_it_is_of_is_kept(place):
    path = place.folder / DATABASE / "database_fingerprints.hdf5"
    with h5py.File(path, "r+") as file:
        del file.attrs["provenance"]
    before = path.read_bytes()
    place.refuse(ENCODE, "does not say what made it")
    assert path.read_bytes() == before


def test_more_shards_than_files_may_be_open(place):
    folder, nb_jobs = place.folder / DATABASE, 60
    with h5py.File(folder / "database_fingerprints.hdf5") as file:
        codes, made_by = file["codes"][:], json.loads(file.attrs["provenance"])
    for job_id in range(nb_jobs):
        first, last = job_range(len(codes), job_id, nb_jobs)
        work = {**made_by, "job_id": job_id, "nb_jobs": nb_jobs}
        shard = RowFile(
            folder / f"database_fingerprints_{job_id}_{nb_jobs}.hdf5", "codes", (last - first, 2), np.uint8, work
        )
        shard.write(0, codes[first:last])
    before = (folder / "database_fingerprints.hdf5").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        place.check(MERGE.replace("--nb_jobs 2", f"--nb_jobs {nb_jobs} --force"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (folder / "database_fingerprints.hdf5").read_bytes() == before


# --- Two processes


def test_what_killed_processes_left_is_deleted_and_nothing_of_other_machines(tmp_path, monkeypatch):
    monkeypatch.setattr("equihash.files.HOST", "node")
    names = [f".x.{host}-{process}.tmp" for host in ("node", "node-2", "other") for process in (os.getpid(), 2**22 + 1)]
    for name in names:
        (tmp_path / name).touch()
    with atomic(tmp_path / "x") as temporary:
        temporary.touch()
    # of this machine: the dead one's by its number, the living one's as it was renamed
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["x", *names[2:]])


def test_a_second_process_waits_for_nothing(place):
    with place.inside(), locked(HOME):
        pass
    for path, command in (
        (HOME, TRAIN),
        (f"{DATABASE}/database_fingerprints_1_2.hdf5", f"{ENCODE} -j 1 -n 2"),
        (f"{DATABASE}/positive_queries_logits.hdf5", ENCODE),
        ("data/datasets/PerlinNoise/perlin180x270.hdf5", "prepare_data.py perlin --nb_maps 3"),
        (f"{DATABASE}/database_fingerprints.hdf5", f"{MERGE} --force"),
    ):
        with locked(place.folder / path):
            place.refuse(command, path, f"process {os.getpid()}", "wait")
            if path.endswith("_1_2.hdf5"):
                place.check(f"{ENCODE} -j 0 -n 2")  # another share
    place.check(TRAIN)
    assert not list(place.folder.rglob("*.lock"))


def test_the_lock_of_a_process_that_was_killed_is_free(place):
    code = f"from equihash.files import locked\nwith locked({HOME!r}):\n print('locked', flush=True)\n input()"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=place.folder, env=environment, **pipes)
    assert process.stdout.readline() == "locked\n"
    place.refuse(TRAIN, f"process {process.pid}")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(place.folder.rglob("*.lock"))
    place.check(TRAIN)
    assert not list(place.folder.rglob("*.lock"))


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    monkeypatch.setattr("fcntl.flock", raising(OSError(code, os.strerror(code))))
    with locked(tmp_path / "folder" / "file"):
        assert (tmp_path / "folder" / ".file.lock").read_text().startswith(f"process {os.getpid()} of ")
    assert not list((tmp_path / "folder").iterdir())
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / "file"):
        raise AssertionError


# --- No room


def files_of(place):
    return {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}


def is_data(path):
    """Not a view of the log, which a resumed run draws again."""
    return path.suffix != ".png" and not path.name.startswith("events.out")


@pytest.mark.pictures
@pytest.mark.parametrize(
    "command, sizes",
    [
        ([*TRAIN, "nb_steps:4"], (0, 10_000, 500_000)),
        (LABELS.replace("DB", "DB2"), (0, 1000, 3000, 10_000)),
        (f"{ENCODE} -j 0 -n 3", (0, 1000, 3000)),
        (f"{MERGE} --force", (0, 1000, 5000)),
        (f"{INDEX} --force", (0, 5000, 8000)),
        (EVALUATE, (0, 1000, 20_000)),
        ("prepare_data.py perlin --nb_maps 3", (0, 5_000_000)),
    ],
)
def test_a_full_disk_is_one_line_and_harms_nothing(place, command, sizes):
    """No file may be larger than so many bytes."""
    for size in sizes:
        before = files_of(place)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            place.refuse(command, "File too large", "data/")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        after = files_of(place)
        for path, content in before.items():
            assert not is_data(path) or path.name == "results.json" or after[path] == content, path
    place.check(command)


def test_a_write_that_fails_leaves_hdf5_closed(tmp_path):
    path = tmp_path / "file.hdf5"
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError), create_hdf5(path) as file:
            file["array"] = np.zeros(10_000)
            file["more"] = np.zeros(10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not file


@pytest.mark.parametrize("command", [TRAIN, f"{LABELS} --force", f"{ENCODE} -j 0 -n 3", f"{MERGE} --force"])
def test_a_read_only_folder_is_one_line(place, monkeypatch, command):
    def read_only(path, mode="r", *arguments, **options):
        if set(mode) & set("wa+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open(path, mode, *arguments, **options)

    for module in ("files", "hdf5"):
        monkeypatch.setattr(f"equihash.{module}.open", read_only, raising=False)
    place.refuse(command, "Read-only file system", "data/")


def raising(error):
    def function(*arguments, **options):
        raise error

    return function


@pytest.mark.parametrize(
    "command, where, error, knob",
    [
        (TRAIN, "equihash.trainers.HashNetTrainer.loss", torch.OutOfMemoryError("CUDA out of memory. Tried"), "size"),
        (
            TRAIN,
            "equihash.trainers.HashNetTrainer.loss",
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "size",
        ),
        (TRAIN, "torch.load", RuntimeError("DefaultCPUAllocator: can't allocate memory"), "size"),
        (f"{ENCODE} -j 0 -n 3", "torch.load", MemoryError(), "--nb_jobs"),
        (f"{ENCODE} -j 0 -n 3", "equihash.fingerprints.encoding.compute_logits", MemoryError(), "--nb_jobs"),
        (f"{INDEX} --force", "equihash.search.InvertedIndex.build_from_file", MemoryError("20 GiB"), "--memory_limit"),
        (EVALUATE, "equihash.evaluation.retrieval.count_retrieved", MemoryError(), "--nb_lookups"),
        (f"{LABELS} --force", "h5py.Dataset.__setitem__", MemoryError(), "-t"),
    ],
)
def test_too_little_memory_names_a_knob(place, monkeypatch, command, where, error, knob):
    before = files_of(place)
    monkeypatch.setattr(where, raising(error))
    command = [*command, "nb_steps:4"] if command is TRAIN else command
    place.refuse(command, "out of memory", knob)
    assert files_of(place).items() >= {path: text for path, text in before.items() if is_data(path)}.items()


def test_other_errors_are_not_hidden():
    with pytest.raises(RuntimeError, match="a mistake"):
        run(raising(RuntimeError("a mistake")))


# --- Somebody's own network, data set and loss


@pytest.mark.parametrize(
    "where", ["models.MnistMosaicCNN.forward", "datasets.MnistMosaic.batch_from_labels", "trainers.HashNetTrainer.loss"]
)
@pytest.mark.parametrize(
    "mistake", [KeyError("a typo"), RuntimeError("a typo"), OSError("a typo"), TypeError("a typo")]
)
def test_a_programmer_sees_the_traceback(place, monkeypatch, where, mistake):
    monkeypatch.setattr(f"equihash.{where}", raising(mistake))
    with pytest.raises(type(mistake), match="a typo"):
        place.run([*TRAIN, "nb_steps:4"])


def test_an_error_of_the_system_says_where(place, monkeypatch):
    def loss(self, logits, target):
        open("/nowhere/weights.npy")

    monkeypatch.setattr("equihash.trainers.HashNetTrainer.loss", loss)
    place.refuse(
        [*TRAIN, "nb_steps:4"], "/nowhere/weights.npy: No such file or directory (in tests/test_safety.py, line"
    )


def unseeded(real):
    return lambda self, labels, nb_instances=None, torch_generator=None: real(self, labels, nb_instances)


def test_a_data_set_that_ignores_its_generator_is_refused(place, monkeypatch):
    monkeypatch.setattr(MnistMosaic, "batch_from_labels", unseeded(MnistMosaic.batch_from_labels))
    for command in ([*TRAIN, "nb_steps:4"], f"{ENCODE} -j 0 -n 3"):
        place.refuse(command, "MnistMosaic.batch_from_labels does not take all of its noise from torch_generator")


def test_a_network_of_other_logits_is_refused(place, monkeypatch):
    monkeypatch.setattr("equihash.models.MnistMosaicCNN.forward", lambda self, instances: instances.flatten(1))
    place.refuse([*TRAIN, "nb_steps:4"], "MnistMosaicCNN gives (2, 3136)", "one row of 16 logits each")


# --- Numbers


def test_weights_that_are_not_finite_are_never_saved(place, monkeypatch):
    """The last step's loss is finite, its gradient is not."""
    before = place.state("HashNet")
    step = lambda adam: adam.param_groups[0]["params"][0].data.fill_(float("nan"))  # noqa: E731
    monkeypatch.setattr("torch.optim.Adam.step", step)
    place.refuse([*TRAIN, "nb_steps:3"], "not finite at step 3", "last saved state is kept")
    assert_same(place.state("HashNet"), before)


# --- Configurations


def test_show_config(place):
    shown = json.loads(place.check([*TRAIN, "--show_config"]))
    with place.inside():
        assert shown == load_config("FastMnistMosaic", "HashNet", overrides=[*QUICK, "nb_steps:2"])
    row = "train.py FastMnistMosaic ShannonHamming -v lambda_ablation -i 5 --show_config"
    assert json.loads(place.check(row))["trainer_kwargs"]["shannon_lambda"] == 0.006
    place.refuse(f"{row} -a nb_step:3", "nb_steps")


@pytest.fixture
def configs(tmp_path, monkeypatch):
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "configs" / "FastMnistMosaic"


def test_two_variants_of_a_model_have_two_names(configs):
    table = configs / "HashNet" / "other.json"
    for name, other in (("s3210_a0.01", "alpha_ablation.json"), ("main", "modelconfig.json")):
        table.write_text(json.dumps([["name", "trainer_kwargs:alpha"], [name, 0.5], ["fine", 0.6]]))
        with pytest.raises(UserError) as error:
            load_config("FastMnistMosaic", "HashNet", "other", 0)
        assert all(word in str(error.value) for word in (name, other, "other.json"))
        assert load_config("FastMnistMosaic", "HashNet", "other", 1)["name"] == "fine"
    table.write_text(json.dumps([["trainer_kwargs:alpha"], [0.5], [0.6]]))
    with pytest.raises(UserError, match="name"):
        load_config("FastMnistMosaic", "HashNet", "other", 1)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("nb_step", 3, "'nb_steps'"),
        ("nb_steps", "3", "must be int"),
        ("nb_steps", True, "must be int"),
        ("seed", -1, "must not be -1"),
        ("seed", 2**32, "must not be"),
        ("eval_size", 0, "must not be 0"),
        ("name", "../other", "becomes a folder"),
        ("name", "", "becomes a folder"),
        ("name", "..", "becomes a folder"),
        ("network_class", "MnistCNN", "'MnistMosaicCNN'"),
        ("network_class", 3, "unknown network_class"),
        ("network_kwargs", [], "must be a dict"),
        ("network_kwargs", {"k": "64"}, "must be int"),
        ("network_kwargs", {"k": 0}, "must not be 0"),
        ("network_kwargs", {"k": 2**40}, "must not be"),
        ("network_kwargs", {"kk": 64}, "'k'"),
        ("loader_kwargs", {"path": None}, "must be str"),
        ("loader_kwargs", {}, "needs loader_kwargs:path"),
        ("loader_kwargs", {"path": "x", "size": 0}, "must not be 0"),
        ("loader_kwargs", {"path": "x", "sigma": -1}, "must not be -1"),
        ("loader_kwargs", {"path": "x", "sigma": float("nan")}, "must not be nan"),
        ("loader_kwargs", {"path": "x", "height": 2.0}, "must be int"),
        ("trainer_kwargs", None, "must be a dict"),
        ("trainer_kwargs", {"nb_batch_per_step": 0}, "must not be 0"),
        ("trainer_kwargs", {"clip_value": "ten"}, "must be float"),
        ("trainer_kwargs", {"alfa": 1.0}, "'alpha'"),
        ("trainer_kwargs", {"beta_scheduler_kwargs": {"initt": 1.0}}, "'init'"),
        ("trainer_kwargs", {"beta_scheduler_kwargs": {"init": "x"}}, "must be float"),
        ("trainer_kwargs", {"beta_scheduler_kwargs": {"step_size": 0}}, "must not be 0"),
        ("trainer_kwargs", {"beta_scheduler_kwargs": None}, "must be a dict"),
        ("trainer_kwargs", {"optim_class": "Adamm"}, "Adam"),
        ("trainer_kwargs", {"optim_class": "LBFGS"}, "unknown trainer_kwargs:optim_class"),
        ("trainer_kwargs", {"optim_class": "sgd"}, "'SGD'"),
        ("trainer_kwargs", {"optim_kwargs": {"learning_rate": 0.1}}, "optim_kwargs:learning_rate"),
        ("trainer_kwargs", {"optim_kwargs": {"weight_decy": 0.1}}, "'weight_decay'"),
        ("trainer_kwargs", {"lr_scheduler_class": "OneCycle"}, "'OneCycleLR'"),
        ("trainer_kwargs", {"lr_scheduler_class": "ReduceLROnPlateau"}, "unknown"),
        ("trainer_kwargs", {"lr_scheduler_class": "StepLR", "lr_scheduler_kwargs": {"step": 1}}, "'step_size'"),
        *(
            ("trainer_kwargs", {"lr_scheduler_class": name, "lr_scheduler_kwargs": kwargs}, f"_kwargs: {name}: ")
            for name, kwargs in (
                ("StepLR", {"step_size": 0}),
                ("CosineAnnealingLR", {"T_max": 0}),
                ("ExponentialLR", {"gamma": "abc"}),
                ("OneCycleLR", {}),
                ("SequentialLR", {"schedulers": ["StepLR"], "milestones": [1]}),
            )
        ),
        ("trainer_kwargs", {"lr_scheduler_class": ["StepLR"]}, "unknown"),
        ("trainer_kwargs", {"optim_kwargs": {"betas": [0.9]}}, "trainer_kwargs:optim_kwargs: Adam: "),
        ("trainer_kwargs", {"optim_class": "MuonWithAuxAdam", "optim_kwargs": {"lr": "x"}}, "MuonWithAuxAdam: "),
    ],
)
def test_wrong_values_in_a_file(configs, key, value, words):
    for name in ("taskconfig.json", "HashNet/modelconfig.json"):
        content = json.loads((configs / name).read_text())
        content[key] = value
        (configs / name).write_text(json.dumps(content))
    with pytest.raises(UserError) as error:
        try_recipe(load_config("FastMnistMosaic", "HashNet"))
    assert words in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["[]", "3", "{", "", "\0", "[" * 100_000, '{"a": ' * 5000, "\xff"])
def test_files_that_are_no_configuration(configs, text):
    for name in ("taskconfig.json", "HashNet/modelconfig.json", "HashNet/alpha_ablation.json"):
        path = configs / name
        before = path.read_bytes()
        path.write_text(text, encoding="latin-1")
        with pytest.raises(UserError):
            load_config("FastMnistMosaic", "HashNet", "alpha_ablation", 0)
        path.write_bytes(before)


@pytest.mark.parametrize(
    "override, words",
    [
        ("loader_kwargs:width:1", "MnistMosaicCNN takes instances float (..., 56, 56), not float32 (..., 56, 28)"),
        ("loader_kwargs:height:8", "classes"),
        ("trainer_kwargs:optim_kwargs:weight_decy:0.1", "weight_decay"),
        ("trainer_kwargs:optim_kwargs:lr:-1.0", "Invalid learning rate"),
    ],
)
def test_values_that_do_not_go_together(workspace, override, words):
    workspace.refuse(["train.py", "FastMnistMosaic", "HashNet", *quick(override)], words)
    assert not workspace.experiments.exists()


def test_a_new_class_may_take_anything(configs, monkeypatch):
    """What has no default, or None, has any type; a tuple comes as a list."""

    class NewTrainer(HashNetTrainer):
        def __init__(self, network, loader, margins, table=None, sizes=(1, 2), **kwargs):
            super().__init__(network, loader, **kwargs)

    monkeypatch.setattr("equihash.trainers.NewTrainer", NewTrainer, raising=False)
    monkeypatch.setattr("equihash.trainers.__all__", ["NewTrainer"])
    path = configs / "HashNet" / "modelconfig.json"
    kwargs = {"margins": [1.5], "table": {"a": 1}, "sizes": [3]}
    path.write_text(json.dumps({"name": "new", "trainer_class": "NewTrainer", "trainer_kwargs": kwargs}))
    found = load_config("FastMnistMosaic", "HashNet")["trainer_kwargs"]
    assert {key: found[key] for key in kwargs} == kwargs and found["clip_value"] == 10.0
    path.write_text(path.read_text().replace("[3]", "3"))
    with pytest.raises(UserError, match="must be list"):
        load_config("FastMnistMosaic", "HashNet")
