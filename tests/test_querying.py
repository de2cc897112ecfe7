"""search.py: queries by item, by class and by picture."""

import os
import shutil

import h5py
import numpy as np
import pytest
import torch
from conftest import REPOSITORY, quick
from PIL import Image

from equihash.datasets import Dataset, MnistMosaic
from equihash.querying import read_picture

SEARCH = "search.py FastMnistMosaic DB HashNet -d cpu"
FOLDER = "data/experiments/FastMnistMosaic/HashNet/main/current/test_DB"


@pytest.fixture(scope="module")
def indexed(shared_workspace):
    """A database of 1,300 items of 12^4 classes, some of them twice."""
    shared_workspace.check(["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:2")])
    shared_workspace.check("generate_labels.py FastMnistMosaic DB -b12 -d1300 -p9 -n9 -t9 -m 2 2")
    shared_workspace.check("encode.py FastMnistMosaic DB HashNet -d cpu --build_index")
    return shared_workspace


@pytest.fixture(scope="module")
def database(indexed):
    """Labels and codes, read without the product."""
    with h5py.File(indexed.folder / "data/labels/FastMnistMosaic/DB.hdf5") as file:
        labels = file["database"][:]
    with h5py.File(indexed.folder / FOLDER / "database_fingerprints.hdf5") as file:
        return labels, file["codes"][:]


def found_in(output):
    """{item: relevance} of the one query of an output."""
    lines = [line.split() for line in output.splitlines() if line.startswith("  ") and " class " in line]
    return {int(words[0]): words[1] for words in lines}


@pytest.mark.pictures
@pytest.mark.parametrize("item", [0, 499, 500, 1299, "one of a class with two codes"])
def test_by_id(indexed, database, item):
    labels, codes = database
    if isinstance(item, str):
        item = next(
            i for i, label in enumerate(labels)
            if len(np.unique(codes[(labels == label).all(axis=(1, 2))], axis=0)) > 1
        )  # fmt: skip
    output = indexed.check(f"{SEARCH} --id {item}")
    same_code = np.flatnonzero((codes == codes[item]).all(axis=1))
    same_class = np.flatnonzero((labels == labels[item]).all(axis=(1, 2)))
    assert item in same_code
    found, missed = found_in(output), len(np.setdiff1d(same_class, same_code))
    assert list(found) == same_code[:20].tolist()
    assert all((kind == "relevant") == (i in same_class) for i, kind in found.items())
    relevant = len(np.intersect1d(same_class, same_code))
    words = f"item {item}: {len(same_code):,} found, {relevant} of them relevant; relevant ones missed: {missed}"
    assert words in output
    assert "network" in output and "lookups" in output and "ms" in output
    assert (indexed.folder / FOLDER / "search.png").read_bytes().startswith(b"\x89PNG")


def test_by_label_and_by_picture(indexed, database, tmp_path):
    """The same mosaic asked for in both ways; nearly all fingerprints are probed."""
    labels, codes = database
    numbers, everything = " ".join(map(str, labels[77].ravel())), f"--nb_lookups {2**16}"
    output = indexed.check(f"{SEARCH} --label {numbers} {everything}")
    relevant = (labels == labels[77]).all(axis=(1, 2)).sum()
    assert f"class {numbers}: 1,300 found, {relevant} of them relevant; relevant ones missed: 0" in output
    with indexed.inside():
        loader = MnistMosaic("data/datasets/Mnist/mnist.hdf5", which="test", sigma=0)
    clean = loader.batch_from_labels(labels[77:78])[0]
    paths = [tmp_path / "grey.png", tmp_path / "wide.tif"]
    Image.fromarray((clean * 255).round().byte().numpy()).save(paths[0])
    Image.fromarray((clean * 65535).round().numpy().astype(np.uint16)).save(paths[1])
    for path in paths:
        torch.testing.assert_close(read_picture(path, loader), clean, atol=0.003, rtol=0)
    answers = [found_in(indexed.check(f"{SEARCH} --picture {path} --nb_lookups 200")) for path in paths]
    assert answers[0] == answers[1] and set(answers[0].values()) == {"unknown"}


def data_set(layout, instance_shape, dtype):
    loader = Dataset(bank_size=2, mosaic_shape=(1, 1))
    loader.layout, loader.instance_shape, loader.dtype = layout, instance_shape, dtype
    return loader


def test_colour_pictures(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (180, 270, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    rows = torch.from_numpy(pixels)
    for layout, instance in (("HWC", rows), ("CHW", rows.permute(2, 0, 1))):
        loader = data_set(layout, instance.shape, torch.uint8)
        assert torch.equal(read_picture(tmp_path / "photo.png", loader), instance)
        assert np.array_equal(loader.to_picture(instance), pixels)


def test_pictures_of_other_kinds(tmp_path):
    """They are read as prepare_data.py reads them."""
    pixels = np.random.RandomState(0).randint(0, 256, (56, 56)).astype(np.uint8)
    loader = data_set("HW", (56, 56), torch.float32)
    Image.fromarray(pixels / np.float32(255)).save(tmp_path / "float.tif")
    Image.fromarray(np.dstack([pixels, np.zeros_like(pixels)])).save(tmp_path / "hidden.png")
    assert torch.equal(read_picture(tmp_path / "float.tif", loader), torch.from_numpy(pixels) / 255)
    assert torch.equal(read_picture(tmp_path / "hidden.png", loader), torch.ones(56, 56))


def test_neither_codes_nor_labels_are_read_as_a_whole(indexed, database, monkeypatch):
    """All that a lookup needs is the index: it works without the fingerprints, and reads no checksummed file."""
    monkeypatch.setattr("equihash.labels.Labels.verify", None)
    monkeypatch.setattr("equihash.search.InvertedIndex.verify", None)
    monkeypatch.setattr("equihash.querying.MOST_SCANNED", 1299)
    monkeypatch.setattr("equihash.querying.members", None)
    codes = indexed.folder / FOLDER / "database_fingerprints.hdf5"
    codes.rename(codes.with_name("elsewhere"))
    try:
        assert "missed: not counted in so large a database" in indexed.check(f"{SEARCH} --id 7")
    finally:
        codes.with_name("elsewhere").rename(codes)


def test_wrong_queries(indexed, tmp_path):
    indexed.refuse(f"{SEARCH} --id 3 1300", "no item 1300", "items 0 to 1299")
    indexed.refuse(f"{SEARCH} --label 1 2 3", "2 x 2 images", "4 numbers")
    indexed.refuse(f"{SEARCH} --label 1 2 3 12", "0 to 11")
    indexed.refuse(f"{SEARCH} --id 3 --nb_lookups 0", "nb_lookups must be 1 to")
    indexed.refuse(f"{SEARCH} --picture {tmp_path / 'none.png'}", "none.png does not exist")
    indexed.refuse(f"{SEARCH} --picture {REPOSITORY / 'LICENSE'}", "LICENSE cannot be read as a picture")
    os.mkfifo(tmp_path / "pipe.png")
    indexed.refuse(f"{SEARCH} --picture {tmp_path / 'pipe.png'}", "cannot be read as a picture: not a regular file")
    (tmp_path / "circle.png").symlink_to("circle.png")
    indexed.refuse(f"{SEARCH} --picture {tmp_path / 'circle.png'}", "circle.png cannot be read: Too many levels")
    Image.fromarray(np.full((56, 56), 4095, np.uint16)).save(tmp_path / "deep.png")
    indexed.refuse(f"{SEARCH} --picture {tmp_path / 'deep.png'}", "16-bit values of at most 4095", "convert it")
    Image.new("L", (56, 57)).save(tmp_path / "high.png")
    indexed.refuse(f"{SEARCH} --picture {tmp_path / 'high.png'}", "56 x 57 pixels", "56 x 56")
    indexed.refuse("search.py FastMnistMosaic NONE HashNet --id 0", "NONE.hdf5", "generate_labels.py")
    indexed.refuse("search.py FastMnistMosaic DB HashNet -w valid --id 0", "inverted_index.bin", "build_index.py")


def test_an_index_of_other_weights_is_refused(indexed):
    state = indexed.folder / FOLDER / ".." / "state.pth"
    kept = state.read_bytes()
    indexed.check(["train.py", "FastMnistMosaic", "HashNet", *quick("nb_steps:3")])
    indexed.refuse(f"{SEARCH} --id 0", "inverted_index.bin is of weights", "training went on", "encode.py")
    state.write_bytes(kept)
    labels = indexed.folder / "data/labels/FastMnistMosaic/DB.hdf5"
    shutil.copy(labels, labels.with_name("kept.hdf5"))
    indexed.check("generate_labels.py FastMnistMosaic DB -b12 -d1300 -p9 -n9 -t9 -m 2 2 -s 1 -f")
    indexed.refuse(f"{SEARCH} --id 0", "the labels were made again", "encode.py")
    labels.with_name("kept.hdf5").rename(labels)
