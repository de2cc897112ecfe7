from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from equihash.class_numbers import class_numbers_to_labels, labels_to_class_numbers
from equihash.datasets import Dataset, MnistMosaic, ProceduralDatabase
from equihash.errors import UserError

MNIST = REPOSITORY / "data" / "datasets" / "Mnist" / "mnist.hdf5"


def test_golden_label_stream(golden):
    data = golden("mnist_label_stream")
    for k, key in ((1, "generate_labels_n5_k1"), (2, "generate_negative_labels_5_2")):
        loader = MnistMosaic(MNIST, which="valid", seed=int(data["seed"]))
        assert np.array_equal(loader.generate_labels(5, k), data[key])


def test_golden_mosaics(golden):
    data = golden("mnist_mosaics")
    for key, seed, m in (("mosaics", "noise_seed", None), ("pairs", "noise_seed_pairs", 2)):
        loader = MnistMosaic(MNIST, which="test")
        generator = torch.Generator().manual_seed(int(data[seed]))
        made = loader.batch_from_labels(data["labels"], m, generator)
        np.testing.assert_allclose(made.numpy(), data[key], rtol=1e-4, atol=1e-6)


def test_golden_procedural_database(golden):
    data = golden("mnist_mosaics")
    database = ProceduralDatabase(data["db_labels"], MnistMosaic(MNIST, which="test"), int(data["db_seed"]))
    assert len(database) == 1700
    for item in (0, 499, 500, 1699):
        np.testing.assert_allclose(database[item].numpy(), data[f"db_{item}"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(database[998:1002].numpy(), data["db_slice_998_1002"], rtol=1e-4, atol=1e-6)


def test_procedural_database_items_do_not_depend_on_who_asks():
    labels = np.random.RandomState(0).randint(0, 10000, (1100, 2, 2)).astype(np.uint16)
    loader = MnistMosaic(MNIST, which="test")
    items = [3, 1099, 501, 3, -1]
    together = ProceduralDatabase(labels, loader, 7)[items]
    for item, made in zip(items, together):
        assert torch.equal(ProceduralDatabase(labels, loader, 7)[item], made)
    assert not torch.equal(ProceduralDatabase(labels, loader, 8)[3], together[0])
    assert len(ProceduralDatabase(labels, loader, 7)[5:5]) == 0
    with pytest.raises(IndexError):
        ProceduralDatabase(labels, loader, 7)[1100]


def test_procedural_database_of_several_threads():
    labels = np.random.default_rng(1).integers(0, 10_000, (2000, 2, 2))
    loader = MnistMosaic(MNIST, which="test")
    expected = [ProceduralDatabase(labels, loader, seed=5).chunk(number) for number in range(4)]
    shared = ProceduralDatabase(labels, loader, seed=5)
    numbers = [0, 1, 2, 3] * 8
    with ThreadPoolExecutor(4) as pool:
        for number, chunk in zip(numbers, pool.map(shared.chunk, numbers)):
            assert torch.equal(chunk, expected[number])


def test_splits_are_the_published_ones():
    with h5py.File(MNIST) as file:
        digits = torch.from_numpy(file["x"][:])
    for which, first, last in (("train", 0, 50_000), ("valid", 50_000, 60_000), ("test", 60_000, 70_000)):
        loader = MnistMosaic(MNIST, height=1, width=1, sigma=0, which=which)
        assert loader.bank_size == last - first
        made = loader.batch_from_labels([[[0]], [[last - first - 1]]])
        assert torch.equal(made, digits[[first, last - 1]] / 255)
    assert MnistMosaic(MNIST).nb_classes == 50_000**4


def test_batches():
    loader = MnistMosaic(MNIST, size=6, sigma=0.0, seed=1)
    pairs = loader.positive_pairs_batch()
    assert pairs.shape == (6, 2, 56, 56) and pairs.dtype == torch.float32
    assert torch.equal(pairs[:, 0], pairs[:, 1]) and not torch.equal(pairs[0], pairs[1])
    assert pairs.min() >= 0 and pairs.max() <= 1
    pairs, similar = loader.mixed_pairs_batch()
    assert similar.tolist() == [True] * 3 + [False] * 3
    assert [torch.equal(a, b) for a, b in pairs] == similar.tolist()
    triplets = loader.hinge_triplets_batch()
    assert triplets.shape == (6, 3, 56, 56)
    assert all(torch.equal(a, p) and not torch.equal(a, n) for a, p, n in triplets)
    noisy = MnistMosaic(MNIST, size=6, seed=1).positive_pairs_batch()
    plain = MnistMosaic(MNIST, size=6, sigma=0.0, seed=1).positive_pairs_batch()
    assert abs((noisy - plain).std().item() - 0.2) < 0.002


def test_rows_have_distinct_labels():
    loader = Dataset(bank_size=2, mosaic_shape=(1, 2), seed=3)
    labels = loader.generate_labels(2000, 3)
    numbers = np.sort(labels_to_class_numbers(labels, 2), axis=1)
    assert (numbers[:, 1:] != numbers[:, :-1]).all()
    assert set(numbers.ravel()) == {0, 1, 2, 3}


def test_reseeded_leaves_the_streams_as_they_were():
    loader, other = (MnistMosaic(MNIST, size=4, seed=5) for _ in range(2))
    with loader.reseeded(9):
        first = loader.positive_pairs_batch()
    with loader.reseeded(9):
        assert torch.equal(loader.positive_pairs_batch(), first)
    assert torch.equal(loader.positive_pairs_batch(), other.positive_pairs_batch())


@pytest.mark.parametrize(
    "bank_size, mosaic_shape, nb_classes", [(3, (1, 2), 9), (200, (1, 1), 150), (50_000, (2, 2), 40)]
)
def test_fixed_classes_are_the_first_that_are_drawn(bank_size, mosaic_shape, nb_classes):
    loader = Dataset(bank_size, mosaic_shape, seed=1)
    stream, numbers = np.random.RandomState(0xCAFE), set()
    while len(numbers) < nb_classes:
        numbers.add(stream.randint(0, loader.nb_classes, dtype=np.uint64))
    labels = loader.fixed_classes(nb_classes)
    assert labels.dtype == np.int64 and labels.shape == (nb_classes, *mosaic_shape)
    assert labels_to_class_numbers(labels, bank_size).tolist() == sorted(numbers)
    for wrong in (0, loader.nb_classes + 1):
        with pytest.raises(UserError, match=f"nb_classes must be 1 to {loader.nb_classes}, not {wrong}"):
            loader.fixed_classes(wrong)


def test_digest_of_the_images():
    """As files that exist have it, and another one for other images."""
    loader = MnistMosaic(MNIST, which="valid")
    assert loader.digest() == "7f7ed69729314681"
    loader.banks[0][0, 14, 14] ^= 1
    assert loader.digest() != "7f7ed69729314681"


class Misshapen(Dataset):
    layout, dtype, instance_shape = "CHW", torch.uint8, (3, 2, 4)

    def make_instances(self, labels, generator):
        return torch.zeros(len(labels), *self.made[1], dtype=self.made[0])


@pytest.mark.parametrize("made", [(torch.uint8, (2, 4, 3)), (torch.float32, (3, 2, 4))])
def test_instances_are_what_the_data_set_says(made):
    loader = Misshapen(bank_size=2, mosaic_shape=(1, 1))
    loader.made = torch.uint8, (3, 2, 4)
    assert loader.batch_from_labels(np.zeros((5, 1, 1)), nb_instances=2).shape == (5, 2, 3, 2, 4)
    loader.made = made
    with pytest.raises(ValueError, match="Misshapen.make_instances gave"):
        loader.batch_from_labels(np.zeros((5, 1, 1)))
    with pytest.raises(ValueError, match=r"labels must be \(\.\.\., 1, 1\)"):
        loader.batch_from_labels(np.zeros((5, 1, 2)))


@given(
    st.integers(1, 60_000),
    st.sampled_from([(1, 1), (1, 2), (2, 2), (1, 3)]),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
)
def test_labels_are_class_numbers_written_base_bank_size(bank_size, shape, fractions):
    cells = shape[0] * shape[1]
    numbers = np.array([int(fraction * bank_size**cells) for fraction in fractions], dtype=np.uint64)
    labels = class_numbers_to_labels(numbers, bank_size, shape)
    assert labels.shape == (len(numbers), *shape) and labels.max() < bank_size
    for number, label in zip(numbers.tolist(), labels.reshape(len(numbers), -1).tolist()):
        value = 0
        for digit in label:
            value = value * bank_size + digit
        assert value == number
    assert np.array_equal(labels_to_class_numbers(labels, bank_size), numbers)
