"""Files from strangers: each kind of file is damaged in many ways; each ends in one clear line or a right result."""

import contextlib
import io
import json
import random
import resource
import shutil
import signal
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, Workspace, quick

from equihash.config import load_config
from equihash.datasets import NoisyOpenImagesMosaic
from equihash.devices import select_device
from equihash.errors import UserError
from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.results import evaluate_database
from equihash.evaluation.retrieval import count
from equihash.evaluation.shards import sum_of_shards
from equihash.experiment import DatabaseFiles, Experiment
from equihash.fingerprints import build_index, encode_database, load_index, merge_shards
from equihash.from_config import build_loader, build_network
from equihash.search import InvertedIndex
from equihash.state import load_state, load_trainer, load_weights
from equihash.trainers import HashNetTrainer

TASK = Path("configs/FastMnistMosaic")
CURRENT = Path("data/experiments/FastMnistMosaic/HashNet/main/current")
DATABASE = CURRENT / "test_DB"
BANK = Path("data/datasets/OpenImages/hdf5/test.hdf5")
MEMORY = 2**31  # more than what is there already: no file of these is larger than a few MB


def files():
    return DatabaseFiles(Experiment("FastMnistMosaic", "HashNet"), "DB")


def evaluate():
    database = EncodedDatabase(files())
    index = load_index(files(), database.fingerprints)
    results = evaluate_database(database, count(database, index, (1, 3)))
    return json.dumps({key: value for key, value in results.items() if key != "provenance"})


def index_and_evaluate():
    """Look every code up, one by one and all at once."""
    index = InvertedIndex.load(DATABASE / "inverted_index.bin")
    codes = np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    with contextlib.suppress(ValueError):  # the codes of this index have another width
        index.lookup(codes), index.count(codes), [index[code] for code in codes[:50]]
        index.internal_collisions(lambda ids: ids.astype(np.uint64))
    return evaluate()


def sum_counts():
    counts = sum_of_shards(EncodedDatabase(files()), [1, 3], 2)
    return json.dumps([counts.internal_collisions, counts.largest_bucket, str(counts.queries)])


def merge():
    merge_shards(files(), 2, force=True)
    return files().fingerprints.read_bytes()


def encode():
    """Resume from what is there, and mend it."""
    encode_database(files(), select_device("cpu"))
    build_index(files(), force=True)
    return evaluate()


def resume():
    """Take a step from a state, and evaluate what it encoded."""
    state = load_state(CURRENT / "state.pth")
    network = build_network(state["config"], torch.device("cpu"))
    load_weights(network, state["net"], "state.pth")
    loader = LOADER
    loader.size = 4
    trainer = HashNetTrainer(network, loader, nb_batch_per_step=2)
    load_trainer(trainer, state["trainer"], "state.pth")
    trainer.train(1)
    return evaluate()


def bank():
    digests = {NoisyOpenImagesMosaic(BANK, bank_location=location).digest() for location in ("host", "mapped")}
    assert len(digests) == 1
    return digests.pop()


def configs():
    return json.dumps([load_config("FastMnistMosaic", "HashNet", "alpha_ablation", row) for row in (0, 1)])


# kind: file, what reads it
KINDS = {
    "state": (CURRENT / "state.pth", resume),
    "labels": (Path("data/labels/FastMnistMosaic/DB.hdf5"), evaluate),
    "codes": (DATABASE / "database_fingerprints.hdf5", evaluate),
    "interrupted_codes": (DATABASE / "database_fingerprints.hdf5", encode),
    "shard": (DATABASE / "database_fingerprints_1_2.hdf5", merge),
    "logits": (DATABASE / "positive_queries_logits.hdf5", evaluate),
    "triplets": (DATABASE / "hinge_triplets_fingerprints.hdf5", evaluate),
    "index": (DATABASE / "inverted_index.bin", index_and_evaluate),
    "counts": (DATABASE / "counts_1_2.hdf5", sum_counts),
    "bank": (BANK, bank),
    "taskconfig": (TASK / "taskconfig.json", configs),
    "modelconfig": (TASK / "HashNet" / "modelconfig.json", configs),
    "variants": (TASK / "HashNet" / "alpha_ablation.json", configs),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with all files, small ones, and what each reader makes of them."""
    global LOADER
    workspace = Workspace(tmp_path_factory.mktemp("fuzzing"))
    (workspace.folder / "configs").unlink()
    shutil.copytree(REPOSITORY / "configs", workspace.folder / "configs")
    (workspace.folder / "data" / "datasets").unlink()
    for name in ("Mnist", "OpenImages/hdf5"):
        (workspace.folder / "data" / "datasets" / name).mkdir(parents=True)
    shutil.copy(REPOSITORY / "data/datasets/Mnist/mnist.hdf5", workspace.folder / "data/datasets/Mnist")
    with h5py.File(workspace.folder / BANK, "w") as file:
        file["images"] = np.random.default_rng(0).integers(0, 256, (20, 180, 180, 3), dtype=np.uint8)
    workspace.check(["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:1", "eval_freq:1")])
    workspace.check("generate_labels.py FastMnistMosaic DB -b10000 -d1300 -p60 -n60 -t40 -m 2 2")
    for words in ("-j 0 -n 2", "-j 1 -n 2", "--build_index"):
        workspace.check(f"encode.py FastMnistMosaic DB HashNet -d cpu {words}")
    for shard in ("--shard 0 --nb_shards 2", "--shard 1 --nb_shards 2"):
        workspace.check(f"build_index.py FastMnistMosaic DB HashNet {shard}")
        workspace.check(f"evaluate_binary_equihash.py FastMnistMosaic DB HashNet {shard} --nb_lookups 1 3")
    with workspace.inside():
        LOADER = build_loader(load_config("FastMnistMosaic", "HashNet"), "train", torch.device("cpu"), 0)
        workspace.right = {reader: reader() for _, reader in KINDS.values()}
    return workspace


# --- Damage


def flip(content, chance):
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8])):
        end = len(content) if chance.random() < 0.6 else min(4096, len(content))
        content[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(content)


def cut(content, chance):
    return content[: chance.choice([0, 1, 100, chance.randrange(len(content))])]


def overwrite(content, chance):
    first, size = chance.randrange(len(content)), chance.choice([1, 8, 100, 4096])
    filling = chance.choice([b"\0" * size, b"\xff" * size, chance.randbytes(size)])
    return content[:first] + filling[: len(content) - first] + content[first + size :]


def lengthen(content, chance):
    return content + chance.randbytes(chance.choice([1, 100, 5000]))


def reshape(content, chance):
    """An HDF5 file one of whose datasets or attributes is another one."""
    with h5py.File(io.BytesIO(content)) as file:
        arrays = {name: file[name][()] for name in file}
        attributes = dict(file.attrs)
    name = chance.choice(sorted(arrays))
    array = arrays[name]
    how = chance.randrange(12)
    if how == 0:
        del arrays[name]
    elif how == 1:
        arrays[name] = array.astype(chance.choice(["i1", ">u2", "f4", "f8", "u8", "S3", "?", "c8"]))
    elif how == 2:
        arrays[name] = array[..., None]
    elif how == 3:
        arrays[name] = array.ravel()
    elif how == 4:
        arrays[name] = array[: chance.randrange(len(array) + 1)]
    elif how == 5:
        arrays[name] = array.T
    elif how == 6:
        arrays[name] = np.concatenate([array, array])
    elif how == 7:
        arrays[name] = array[()].reshape(-1)[:1].reshape(()) if array.size else array
    elif how == 8 and attributes:
        strange = ["[]", "{", "[" * 5000, 3, -1, [1, 2], 2**62, "{}"]
        attributes[chance.choice(sorted(attributes))] = chance.choice(strange)
    elif how == 9 and attributes:
        del attributes[chance.choice(sorted(attributes))]
    elif how == 10 and array.ndim:
        arrays[name] = np.roll(array, 1, axis=-1)
    output = io.BytesIO()
    with h5py.File(output, "w") as file:
        for key, value in arrays.items():
            if key == name and how == 11:  # far more than there is
                shape = (chance.choice([2**31, 2**45, 2**60 // max(array.nbytes, 1)]), *array.shape[1:])
                chunks = tuple(min(size, 4) or 1 for size in shape)
                file.create_dataset(key, shape, array.dtype, chunks=chunks, maxshape=(None, *array.shape[1:]))
            else:
                file[key] = value
        file.attrs.update(attributes)
    return output.getvalue()


def reindex(content, chance):
    """An index whose header says something else, with the checksum that fits."""
    header = struct.Struct("<8sIIQQIIQ3Q")
    fields = list(header.unpack_from(content))
    which = chance.randrange(2, 11)
    large = [] if which in (2, 5, 6) else [2**48, 2**63, 2**64 - 1]
    fields[which] = chance.choice([0, 1, fields[which] + 1, 2**31, 2**32 - 1, *large])
    metadata = content[header.size : header.size + struct.unpack_from("<Q", content, 16)[0]]
    rest = content[header.size + len(metadata) + 4 :]
    if chance.random() < 0.3:
        metadata = chance.choice([b"[]", b"{", b"[" * len(metadata), b"{}"]).ljust(len(metadata))
    head = header.pack(*fields) + metadata
    return head + struct.pack("<I", zlib.crc32(head)) + rest


def rewrite(content, chance):
    """JSON one of whose values is another one, or has another key."""
    tree = json.loads(content)
    place = tree
    while True:
        key = chance.choice(list(place) if isinstance(place, dict) else list(range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or chance.random() < 0.2:
            break
        place = place[key]
    if isinstance(place, dict) and chance.random() < 0.3:
        place[f"{key}x"] = place.pop(key)
    else:
        strange = [None, -1, 0, 10**30, 1.5, float("nan"), float("inf"), True, "", "../x", "x:y"]
        place[key] = chance.choice([*strange, [], {}, [[]], {"a": {}}])
    return json.dumps(tree).encode()


def damage(kind, content, chance):
    raw = [flip, flip, cut, overwrite, lengthen]
    own = {"index": [reindex], "state": []}.get(kind, [rewrite if content[:1] in b"[{" else reshape])
    how = chance.choice([*raw, *own * 3])
    return how.__name__, how(content, chance)


# --- What must come of it


def campaign(place, kind, cases, seed):
    """Damage a file in some ways; return how often it was refused and how often the result was right."""
    path, reader = KINDS[kind]
    counts = {"refused": 0, "right": 0}
    with place.inside():
        folders = {path.parent, DATABASE}
        content = path.read_bytes()
        kept = {file: file.read_bytes() for folder in folders for file in folder.iterdir() if file.is_file()}
        for case in cases:
            chance = random.Random(f"{kind} {seed} {case}")
            how, damaged = damage(kind, content, chance)
            what = f"{kind} {seed} {case}: {how}"
            path.write_bytes(damaged)
            try:
                with contextlib.redirect_stdout(io.StringIO()), limits():
                    result = reader()
                right = result == place.right[reader] or how in OWN_CONTENT.get(kind, ())
            except UserError as error:
                assert len(str(error).splitlines()) == 1, what
                right = None
            except BaseException as error:
                raise AssertionError(what) from error
            finally:
                for file, before in kept.items():
                    if not file.exists() or file.read_bytes() != before:
                        file.write_bytes(before)
            # another digest of the images is what all stages refuse
            counts["refused" if right is None or kind == "bank" and not right else "right"] += 1
            assert right is not False or kind == "bank", what
    return counts


# a configuration may well say something else
OWN_CONTENT = {kind: ("rewrite", "flip", "overwrite") for kind in ("taskconfig", "modelconfig", "variants")}


@contextlib.contextmanager
def limits(seconds=20):
    """Nothing may take long, or much memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(place, kind):
    counts = campaign(place, kind, range(5 if kind == "interrupted_codes" else 30), "ordinary")
    assert counts["refused"] > 5 or kind == "interrupted_codes"  # which are mended


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_by_the_hundred(place, kind):
    print(kind, campaign(place, kind, range(500), "slow"))
