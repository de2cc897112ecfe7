import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equihash import label_generation
from equihash import labels as labels_module
from equihash.class_numbers import labels_to_class_numbers
from equihash.errors import UserError
from equihash.label_generation import generate_labels
from equihash.labels import Labels, members


def published_way(bank_size, shape, database_size, nb_positive, nb_negative, nb_pairs, seed):
    """The label file's definition, item by item."""
    stream = np.random.RandomState(seed)
    nb_classes = bank_size ** (shape[0] * shape[1])
    database = stream.randint(0, nb_classes, database_size, dtype=np.uint64)
    first = {}
    for index, number in enumerate(database.tolist()):
        first.setdefault(number, index)
    positive, negative = [], []
    while len(positive) < nb_positive:
        for index in stream.randint(0, database_size, 1000).tolist():
            if first[int(database[index])] == index and len(positive) < nb_positive:
                positive.append(int(database[index]))
    while len(negative) < nb_negative:
        for number in stream.randint(0, nb_classes, 1000, dtype=np.uint64).tolist():
            if number not in first and len(negative) < nb_negative:
                negative.append(number)
    pairs = stream.randint(0, nb_classes, (nb_pairs, 2), dtype=np.int64)
    while (equal := pairs[:, 0] == pairs[:, 1]).any():
        pairs[equal] = stream.randint(0, nb_classes, (equal.sum(), 2), dtype=np.int64)
    return database, positive, negative, pairs


@pytest.mark.parametrize("name", ["labels_small_1x2", "labels_small_2x2"])
def test_golden_files(golden, tmp_path, name):
    data = golden(name)
    path = tmp_path / "labels.hdf5"
    sizes = ("database_size", "nb_positive_queries", "nb_negative_queries", "nb_negative_pairs", "seed")
    generate_labels(path, int(data["bank_size"]), tuple(data["mosaic_shape"]), *(int(data[key]) for key in sizes))
    with h5py.File(path) as file:
        for key in ("database", "positive_queries", "negative_queries", "negative_pairs"):
            assert file[key].dtype == data[key].dtype
            assert np.array_equal(file[key][:], data[key]), key
        for key in ("ground_truth_offsets", "ground_truth_ids"):
            assert np.array_equal(file[key][:], data[key]), key


@settings(max_examples=15)
@given(st.integers(3, 40), st.integers(20, 3000), st.integers(0, 1500), st.integers(0, 1500), st.integers(0, 99))
def test_any_size_is_as_defined(tmp_path_factory, bank_size, database_size, nb_positive, nb_negative, seed):
    path = tmp_path_factory.mktemp("labels") / "labels.hdf5"
    arguments = (bank_size, (1, 2), database_size, nb_positive, nb_negative, 50, seed)
    if database_size > 2 * bank_size**2:  # hardly any class is left for negative queries
        arguments = (*arguments[:4], 0, *arguments[5:])
    database, positive, negative, pairs = published_way(*arguments)
    generate_labels(path, *arguments)
    made = Labels(path)
    number = lambda name: labels_to_class_numbers(getattr(made, name), bank_size)  # noqa: E731
    assert np.array_equal(number("database"), database)
    assert number("positive_queries").tolist() == positive
    assert number("negative_queries").tolist() == negative
    assert np.array_equal(number("negative_pairs"), pairs)
    offsets, ids = made.ground_truth
    for query, wanted in enumerate(positive[:50]):
        assert ids[offsets[query] : offsets[query + 1]].tolist() == np.flatnonzero(database == wanted).tolist()


def test_database_of_several_blocks(tmp_path, monkeypatch):
    arguments = (30, (1, 2), 2500, 300, 300, 10, 4)
    generate_labels(tmp_path / "one.hdf5", *arguments)
    for module in (labels_module, label_generation):
        monkeypatch.setattr(module, "BLOCK_SIZE", 1000)
    generate_labels(tmp_path / "several.hdf5", *arguments)
    assert (tmp_path / "several.hdf5").read_bytes() == (tmp_path / "one.hdf5").read_bytes()
    database = Labels(tmp_path / "several.hdf5").database
    numbers = np.arange(900, dtype=np.uint64)
    offsets, ids = members(database, 30, numbers)
    found = labels_to_class_numbers(database, 30)
    for number in numbers.tolist():
        assert ids[offsets[number] : offsets[number + 1]].tolist() == np.flatnonzero(found == number).tolist()


def test_same_arguments_same_bytes(tmp_path):
    for name in ("a", "b"):
        generate_labels(tmp_path / name, 50, (2, 2), 1000, 100, 100, 100, 5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_published_labels_of_more_images_than_the_database_has(tmp_path):
    """Without the size of the bank, which is this repository's: it is what the queries and pairs need, too."""
    path = tmp_path / "labels"
    generate_labels(path, 5000, (2, 2), 100, 10, 1000, 1000, 5)
    with h5py.File(path, "r+") as file:
        del file.attrs["bank_size"]
        greatest = max(file[name][...].max() for name in ("database", "negative_queries", "negative_pairs"))
        assert greatest > file["database"][...].max()
    labels = Labels(path)
    labels.verify()
    assert labels.bank_size == greatest + 1


def test_labels_that_are_there(tmp_path):
    """They are kept if they are the same, and only replaced by force if they are not."""
    path, arguments = tmp_path / "labels", (50, (2, 2), 1000, 100, 100, 100)
    assert generate_labels(path, *arguments, 5)
    before = path.stat().st_mtime_ns
    assert not generate_labels(path, *arguments, 5) and path.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="of other numbers; --force replaces it"):
        generate_labels(path, *arguments, 6)
    assert path.stat().st_mtime_ns == before
    assert generate_labels(path, *arguments, 6, force=True) and path.stat().st_mtime_ns != before


def test_what_cannot_be_met_is_refused(tmp_path):
    for arguments in (
        (2, (1, 1), 1000, 10, 10, 10, 0),  # both classes are in the database
        (1, (1, 1), 10, 1, 0, 1, 0),  # no two classes
        (100000, (2, 2), 10, 1, 1, 1, 0),  # 10^20 classes
        (10, (1, 2), 0, 1, 1, 1, 0),
        (100, (100, 100), 10, 1, 1, 1, 0),  # a number of classes of 20,000 digits
    ):
        with pytest.raises(UserError):
            generate_labels(tmp_path / "labels.hdf5", *arguments)
    assert list(tmp_path.iterdir()) == []
