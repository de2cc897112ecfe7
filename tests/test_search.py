"""The inverted index against a dict, its files against damage, probing against the published code and a plain heap."""

import contextlib
import heapq
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equihash.errors import UserError
from equihash.search import InvertedIndex, _index, index_file, neighbour_codes, probe_codes

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parent.parent
properties = settings(max_examples=40, deadline=None, derandomize=True)


def random_codes(size, nbytes, nb_codes, seed=0, heavy=0.0):
    """`size` codes out of `nb_codes`, a part `heavy` of them equal."""
    rng = np.random.default_rng(seed)
    different = rng.integers(0, 256, (nb_codes, nbytes), dtype=np.uint8)
    number = rng.integers(0, nb_codes, size)
    number[rng.random(size) < heavy] = 0
    return different[number]


def as_dict(codes):
    items = {}
    for i, code in enumerate(codes):
        items.setdefault(code.tobytes(), []).append(i)
    return items


def check_against_dict(index, codes, queries):
    items = as_dict(codes)
    offsets, ids = index.lookup(queries)
    counts = index.count(queries)
    assert offsets.dtype == ids.dtype == counts.dtype == np.int64
    assert offsets[0] == 0 and offsets[-1] == len(ids) and len(offsets) == len(queries) + 1
    for i, query in enumerate(queries):
        expected = items.get(query.tobytes(), [])
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected
        assert counts[i] == len(expected)
        assert index[query].tolist() == index[query.tobytes()].tolist() == expected


def saved(index, path, **kwargs):
    index.save(path, **kwargs)
    return Path(path).read_bytes()


@properties
@given(st.integers(1, 33), st.sampled_from([0, 1, 2, 3, 17, 300]), st.integers(1, 300), st.integers(0, 2**32))
def test_index_equals_dict(nbytes, size, nb_codes, seed):
    codes = random_codes(size, nbytes, nb_codes, seed)
    absent = np.random.default_rng(seed + 1).integers(0, 256, (20, nbytes), dtype=np.uint8)
    index = InvertedIndex.build(codes)
    assert len(index) == size and index.nbytes_per_code == nbytes
    check_against_dict(index, codes, np.concatenate([codes[:100], absent]))


@pytest.mark.parametrize("nbytes", [1, 8, 12, 32])
@pytest.mark.parametrize("nb_codes, heavy", [(1, 0), (3, 0), (60, 0), (30_000, 0.5), (30_000, 0)])
def test_large_and_skewed(nbytes, nb_codes, heavy, monkeypatch):
    codes = random_codes(30_000, nbytes, nb_codes, heavy=heavy)
    queries = np.concatenate([np.unique(codes, axis=0)[:50], random_codes(50, nbytes, 50, seed=1)])
    check_against_dict(InvertedIndex.build(codes), codes, queries)
    monkeypatch.setattr(index_file, "WIDE_FROM", 10)  # as if there were 2^32 items
    index = InvertedIndex.build(codes)
    assert index.ids.itemsize == 8
    check_against_dict(index, codes, queries)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("nbytes", [1, 8, 12])
@pytest.mark.parametrize("nb_queries", [0, 1, 1500, 6000])
def test_sorted_queries_have_the_same_answers(nbytes, nb_queries, wide, monkeypatch):
    if wide:
        monkeypatch.setattr(index_file, "WIDE_FROM", 10)
    codes = random_codes(4000, nbytes, 2500)
    queries = np.concatenate([codes, random_codes(2000, nbytes, 2000, seed=1)])
    queries = queries[np.random.default_rng(0).permutation(len(queries))[:nb_queries]]
    shards = [InvertedIndex.build(codes), InvertedIndex.build(codes, 1, 3)]
    expected = [(*index.lookup(queries), index.count(queries)) for index in shards]
    monkeypatch.setattr(_index, "SORT_FROM", 0)  # as if the index were a large one
    for index, answers in zip(shards, expected):
        assert index.sort_queries(queries)[1] is not None
        for answer, same in zip(answers, (*index.lookup(queries), index.count(queries))):
            assert np.array_equal(answer, same)
    check_against_dict(shards[0], codes, queries)


def test_items_of_a_crowded_bucket_are_sorted():
    """Codes made to fall into one bucket, in an order that needs every step of the merge sort."""

    def unmix(h):
        h = int(h)
        for factor in (0xC4CEB9FE1A85EC53, 0xFF51AFD7ED558CCD):
            h ^= h >> 33
            h = h * pow(factor, -1, 2**64) % 2**64
        return h ^ h >> 33

    different = np.array([unmix(2**60 + i) for i in range(500)], dtype="<u8").view(np.uint8).reshape(-1, 8)
    codes = different[np.random.default_rng(0).integers(0, 500, 6000)]
    index = InvertedIndex.build(codes)
    assert np.count_nonzero(np.diff(index.offsets)) == 1
    check_against_dict(index, codes, different)


def test_arguments_are_checked():
    index = InvertedIndex.build(random_codes(10, 4, 5))
    for codes in (np.zeros((3, 4)), np.zeros(4, np.uint8), np.zeros((3, 0), np.uint8)):
        with pytest.raises(ValueError):
            InvertedIndex.build(codes)
        with pytest.raises(ValueError):
            index.lookup(codes)
    with pytest.raises(ValueError):
        index.count(np.zeros((3, 8), np.uint8))
    with pytest.raises(ValueError):
        index[b"12345"]
    assert index.lookup(np.empty((0, 4), np.uint8))[0].tolist() == [0]
    view = random_codes(20, 8, 20)[::2, ::2]  # not contiguous
    check_against_dict(InvertedIndex.build(view), view, view)


# ---- Collisions


@properties
@given(st.integers(0, 400), st.integers(1, 60), st.integers(1, 5), st.integers(1, 50), st.integers(0, 2**32))
def test_internal_collisions_equal_brute_force(size, nb_codes, nb_classes, chunk, seed):
    codes = random_codes(size, 3, nb_codes, seed, heavy=0.3)
    classes = np.random.default_rng(seed).integers(2**63, 2**63 + nb_classes, size, dtype=np.uint64)
    same_code = (codes[:, None] == codes).all(axis=2)
    expected = np.count_nonzero(same_code & (classes[:, None] != classes)) // 2
    index = InvertedIndex.build(codes)
    assert index.internal_collisions(classes) == expected
    assert index.internal_collisions(lambda ids: classes[ids]) == expected

    groups = []
    for offsets, ids in index.shared_codes(chunk):
        assert len(ids) <= max(chunk, 2) or len(offsets) == 2
        groups += [ids[start:end].tolist() for start, end in zip(offsets, offsets[1:])]
    assert sorted(groups) == sorted(items for items in as_dict(codes).values() if len(items) > 1)


def test_internal_collisions_of_a_heavy_code():
    codes = random_codes(200_000, 8, 10, heavy=0.5)
    classes = np.random.default_rng(0).integers(0, 1000, len(codes)).astype(np.uint64)
    expected = 0
    for items in as_dict(codes).values():
        sizes = np.bincount(classes[items].astype(int))
        expected += (len(items) ** 2 - (sizes**2).sum()) // 2
    assert InvertedIndex.build(codes).internal_collisions(classes) == expected
    with pytest.raises(ValueError):
        InvertedIndex.build(codes).internal_collisions(classes[1:])


# ---- Files


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    "size, nbytes, nb_codes, heavy",
    [
        (0, 8, 1, 0),
        (1, 8, 1, 0),
        (9, 32, 9, 0),
        (700, 8, 700, 0),
        (700, 8, 300, 0.6),
        (700, 1, 2, 0),
        (700, 13, 20, 0.2),
    ],
)
def test_any_memory_limit_gives_the_same_bytes(tmp_path, monkeypatch, size, nbytes, nb_codes, heavy, wide):
    if wide:
        monkeypatch.setattr(index_file, "WIDE_FROM", 0)
    codes = random_codes(size, nbytes, nb_codes, heavy=heavy)
    metadata = {"model": "é", "seed": 1}
    expected = saved(InvertedIndex.build(codes), tmp_path / "whole", metadata=metadata)
    with h5py.File(tmp_path / "codes.hdf5", "w") as file:
        file["codes"], file["size"] = codes, size
    for memory_limit in (300, 2000, 8000, 30_000, 2**30):
        path = tmp_path / str(memory_limit)
        InvertedIndex.build_from_file(tmp_path / "codes.hdf5", path, memory_limit, progress=False, metadata=metadata)
        assert path.read_bytes() == expected


def test_any_number_of_threads_gives_the_same_bytes(tmp_path):
    codes = random_codes(60_000, 8, 40_000, heavy=0.1)
    np.save(tmp_path / "codes.npy", codes)
    program = (
        "import sys, numpy; from equihash.search import InvertedIndex;"
        "InvertedIndex.build(numpy.load(sys.argv[1])).save(sys.argv[2])"
    )
    expected = saved(InvertedIndex.build(codes), tmp_path / "here")
    for threads in ("1", "2", "3"):
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / "codes.npy", tmp_path / threads],
            check=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        assert (tmp_path / threads).read_bytes() == expected


def test_many_threads_keep_to_the_memory_limit(tmp_path):
    with h5py.File(tmp_path / "codes.hdf5", "w") as file:
        file["codes"] = random_codes(200_000, 8, 200_000)
    program = (
        "import sys, tracemalloc; from equihash.search import InvertedIndex; tracemalloc.start();"
        "InvertedIndex.build_from_file(*sys.argv[1:], 2_500_000, progress=False);"
        "print(tracemalloc.get_traced_memory()[1])"
    )
    peaks = {}
    for threads in ("1", "64"):
        command = [sys.executable, "-c", program, tmp_path / "codes.hdf5", tmp_path / "index"]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        done = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True)
        peaks[threads] = int(done.stdout)
    assert peaks["1"] < 2_500_000 and peaks["64"] < 2 * 2_500_000  # counting takes some of each thread, too


@pytest.mark.parametrize("size, nbytes", [(0, 8), (1, 5), (1000, 8), (1000, 20)])
@pytest.mark.parametrize("mmap", [True, False])
def test_save_and_load(tmp_path, size, nbytes, mmap):
    codes = random_codes(size, nbytes, 300)
    content = saved(InvertedIndex.build(codes), tmp_path / "index", metadata={"size": size})
    index = InvertedIndex.load(tmp_path / "index", mmap=mmap)
    index.verify()
    assert index.metadata == {"size": size}
    check_against_dict(index, codes, random_codes(50, nbytes, 300))
    assert saved(index, tmp_path / "again") == content


@pytest.mark.parametrize("mmap", [True, False])
def test_a_damaged_header_is_refused(tmp_path, mmap):
    path = tmp_path / "index"
    content = saved(InvertedIndex.build(random_codes(100, 8, 50)), path, metadata={"a": 1})
    for position in range(100):
        for flip in (1, 128, 255):
            damaged = bytearray(content)
            damaged[position] ^= flip
            path.write_bytes(damaged)
            if position < index_file.HEADER.size + len('{"a": 1}') + index_file.CRC.size:
                with pytest.raises(UserError, match="run build_index"):
                    InvertedIndex.load(path, mmap=mmap)
            else:
                InvertedIndex.load(path, mmap=mmap).verify()
    for size in (0, 7, 60, 4096, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(UserError, match="run build_index"):
            InvertedIndex.load(path, mmap=mmap)
    path.write_bytes(content + b"0")
    with pytest.raises(UserError):
        InvertedIndex.load(path, mmap=mmap)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("sort_from", [0, _index.SORT_FROM])
def test_damaged_arrays_never_crash_and_are_found(tmp_path, monkeypatch, wide, sort_from):
    monkeypatch.setattr(_index, "SORT_FROM", sort_from)
    if wide:
        monkeypatch.setattr(index_file, "WIDE_FROM", 10)
    path = tmp_path / "index"
    codes = random_codes(500, 8, 300, heavy=0.2)
    built = InvertedIndex.build(codes)
    content = saved(built, path)
    rng = np.random.default_rng(0)
    arrays = [np.ascontiguousarray(array).tobytes() for array in (built.offsets, built.codes, built.ids)]
    inside = np.concatenate([content.index(array) + np.arange(len(array)) for array in arrays])
    for _ in range(150):
        damaged = bytearray(content)
        for position in rng.choice(inside, rng.choice([1, 1, 20])):
            damaged[position] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            InvertedIndex.load(path, mmap=False)
        index = InvertedIndex.load(path)
        with pytest.raises(UserError, match="damaged"):
            index.verify()
        for function in (
            index.count,
            index.lookup,
            lambda c: [index[code] for code in c],
            lambda _: list(index.shared_codes(10)),
            lambda _: index.internal_collisions(np.arange(500)),
        ):
            with contextlib.suppress(UserError):
                function(codes[:60])


def test_wrong_files_are_one_clear_line(tmp_path):
    out = tmp_path / "index"
    with pytest.raises(UserError, match="run build_index"):
        InvertedIndex.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        InvertedIndex.load(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        InvertedIndex.build_from_file(tmp_path / "none", out)
    (tmp_path / "blocked").write_text("")
    with pytest.raises(OSError, match="blocked"):
        InvertedIndex.build(random_codes(3, 8, 3)).save(tmp_path / "blocked" / "index")
    source = tmp_path / "codes.hdf5"
    for content in (
        {},
        {"codes": np.zeros((3, 8))},
        {"codes": np.zeros(3, np.uint8)},
        {"codes": np.zeros((3, 8), np.uint8), "size": 2},
    ):
        with h5py.File(source, "w") as file:
            for name, value in content.items():
                file[name] = value
        with pytest.raises(UserError, match="encod"):
            InvertedIndex.build_from_file(source, out, progress=False)
    assert not out.exists() and not list(tmp_path.glob(".*.tmp"))


# ---- Shards


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    "size, nbytes, nb_codes, heavy", [(0, 8, 1, 0), (9, 32, 9, 0), (700, 8, 300, 0.6), (700, 1, 2, 0)]
)
def test_shards_of_a_file_are_the_same_at_any_memory_limit(tmp_path, monkeypatch, size, nbytes, nb_codes, heavy, wide):
    if wide:
        monkeypatch.setattr(index_file, "WIDE_FROM", 0)
    codes = random_codes(size, nbytes, nb_codes, heavy=heavy)
    with h5py.File(tmp_path / "codes.hdf5", "w") as file:
        file["codes"] = codes
    path = tmp_path / "index"
    for shard in range(3):
        expected = saved(InvertedIndex.build(codes, shard, 3), tmp_path / "whole")
        for memory_limit in (300, 8000, 2**30):
            InvertedIndex.build_from_file(tmp_path / "codes.hdf5", path, memory_limit, False, shard=shard, nb_shards=3)
            assert path.read_bytes() == expected
        index = InvertedIndex.load(path, mmap=False)
        assert (index.shard, index.nb_shards, index.database_size) == (shard, 3, size)
        assert saved(index, path) == expected


def test_shards_are_even():
    codes = random_codes(200_000, 8, 200_000)
    for nb_shards in (4, 10):
        sizes = [len(InvertedIndex.build(codes, shard, nb_shards)) for shard in range(nb_shards)]
        assert max(sizes) < 1.05 * len(codes) / nb_shards


# ---- Probing


def plain_probes(z, nb_probes):
    """The same search with a plain heap, in Python."""
    z = z.astype(np.float64)
    order = np.argsort(np.abs(z), kind="stable")
    cost = np.abs(z)[order]
    codes = [z > 0]
    heap = [(cost[0], 0, 0.0, (0,))]
    made = 1
    while len(codes) < nb_probes:
        total, _, base, flips = heapq.heappop(heap)
        code = codes[0].copy()
        code[order[list(flips)]] ^= True
        codes.append(code)
        last = flips[-1] + 1
        if last < len(z):
            heapq.heappush(heap, (base + cost[last], made, base, flips[:-1] + (last,)))
            heapq.heappush(heap, (total + cost[last], made + 1, total, flips + (last,)))
            made += 2
    return np.packbits(codes, axis=1)


def test_probing_equals_the_published_code():
    golden = np.load(GOLDEN / "fingerprints.npz")
    codes = probe_codes(golden["probe_logits"], 64)
    assert codes.dtype == np.uint8 and codes.shape == (3, 64, 8)
    assert (np.unpackbits(codes, axis=2) == golden["probe_codes"]).all()


@properties
@given(st.integers(1, 70), st.integers(1, 200), st.booleans(), st.integers(0, 2**32))
def test_probing_equals_a_plain_heap(k, nb_probes, ties, seed):
    nb_probes = min(nb_probes, 2**k)
    z = np.random.default_rng(seed).normal(0, 3, (3, k)).astype(np.float32)
    z = np.round(z) if ties else z
    codes = probe_codes(z, nb_probes)
    for one, query in zip(codes, z):
        assert (one == plain_probes(query, nb_probes)).all()
        assert len(np.unique(one, axis=0)) == nb_probes
        flipped = np.unpackbits(one ^ one[0], axis=1)[:, :k].astype(bool)
        totals = np.where(flipped, np.abs(query, dtype=np.float64), 0).sum(axis=1)
        assert (np.diff(totals) > -1e-9).all()


def test_all_probes_of_short_codes():
    z = np.random.default_rng(0).normal(size=(100, 6))
    codes = probe_codes(z, 64)
    assert codes.shape == (100, 64, 1)
    assert (np.sort(codes[..., 0], axis=1) == np.arange(64) * 4).all()
    probabilities = 1 / (1 + np.exp(-z.astype(np.float32)))[:, None]
    bits = np.unpackbits(codes, axis=2)[:, :, :6]
    assert (np.diff(np.where(bits, probabilities, 1 - probabilities).prod(axis=2), axis=1) <= 1e-6).all()


def test_probing_arguments():
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    tensor = torch.tensor(z, requires_grad=True)
    assert (probe_codes(tensor, 7) == probe_codes(z, 7)).all()
    assert probe_codes(z[:0], 7).shape == (0, 7, 2)
    assert (probe_codes(z, 1)[:, 0] == np.packbits(z > 0, axis=1)).all()
    for logits, nb_probes in ((z, 0), (z, 1025), (z[0], 1), (z[:, :0], 1), (np.full((1, 3), np.nan), 1)):
        with pytest.raises(ValueError):
            probe_codes(logits, nb_probes)


@pytest.mark.parametrize("nbytes, radius", [(1, 0), (1, 1), (1, 3), (1, 8), (2, 2), (2, 5)])
def test_neighbours_equal_brute_force(nbytes, radius):
    nb_bits = 8 * nbytes
    every = np.unpackbits(np.arange(2**nb_bits, dtype=">u2").view(np.uint8).reshape(-1, 2)[:, 2 - nbytes :], axis=1)
    codes = np.random.default_rng(0).integers(0, 256, (3, nbytes), dtype=np.uint8)
    neighbours = neighbour_codes(codes, radius)
    assert neighbours.dtype == np.uint8
    for code, found in zip(np.unpackbits(codes, axis=1), neighbours):
        flipped = [np.flatnonzero(other != code).tolist() for other in every]
        order = sorted((len(bits), bits, i) for i, bits in enumerate(flipped) if len(bits) <= radius)
        assert (np.unpackbits(found, axis=1) == every[[i for _, _, i in order]]).all()


def test_neighbours_find_what_is_near():
    """Items within 2 bits of each query, the nearest first, among random codes of 40 bits that lie close together."""
    rng = np.random.default_rng(0)
    codes = np.packbits(rng.random((2000, 40)) < 0.03, axis=1)
    queries = codes[:50]
    neighbours = neighbour_codes(queries, 2)
    assert neighbours.shape == (50, 1 + 40 + 780, 5)
    offsets, ids = InvertedIndex.build(codes).lookup(neighbours.reshape(-1, 5))
    offsets = offsets[::821]
    distances = np.unpackbits(queries[:, None] ^ codes, axis=2).sum(axis=2)
    for i, row in enumerate(distances):
        found = ids[offsets[i] : offsets[i + 1]]
        assert sorted(found) == np.flatnonzero(row <= 2).tolist() and (np.diff(row[found]) >= 0).all()


def test_neighbours_arguments():
    codes = np.zeros((2, 8), dtype=np.uint8)
    assert neighbour_codes(codes, 2).shape == (2, 2081, 8) and neighbour_codes(codes[:0], 1).shape == (0, 65, 8)
    for wrong, radius in ((codes, -1), (codes, 65), (codes[0], 1), (codes.astype(int), 1)):
        with pytest.raises(ValueError):
            neighbour_codes(wrong, radius)
