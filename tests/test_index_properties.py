"""Relations between the answers to related questions: what must stay the same, and what must change by how much.

Nothing here knows an answer: see test_search.py for that.
"""

import h5py
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from equihash.search import InvertedIndex, probe_codes

properties = settings(max_examples=25)


def hashes(codes):
    """The hash of each code, by which the index sorts."""
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    h = np.zeros(len(codes), np.uint64)
    for words in padded.view("<u8").T:
        h ^= words
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            h = (h ^ (h >> np.uint64(33))) * np.uint64(factor)
        h ^= h >> np.uint64(33)
    return h


class Case:
    """Codes, their classes, and queries: codes that are there, some with one bit flipped, and others."""

    def __init__(self, nbytes, size, nb_codes, crowded, heavy, seed):
        self.rng = rng = np.random.default_rng(seed)
        pool = self.random_codes(nb_codes * (16 if crowded else 1), nbytes)
        pool = pool[np.argsort(hashes(pool))[:nb_codes]]  # crowded: the hashes of all are small
        self.codes = pool[np.where(rng.random(size) < heavy, nb_codes // 2, rng.integers(0, nb_codes, size))]
        self.classes = rng.integers(0, 4, size, dtype=np.uint64)
        near = pool[:200].copy()
        near[np.arange(len(near)), rng.integers(0, nbytes, len(near))] ^= 1 << rng.integers(0, 8, len(near), np.uint8)
        self.queries = rng.permutation(np.concatenate([pool[-1000:], near, self.random_codes(40, nbytes)]))

    def random_codes(self, number, nbytes):
        return self.rng.integers(0, 256, (number, nbytes), dtype=np.uint8)


cases = st.builds(
    Case,
    nbytes=st.sampled_from([1, 2, 8, 9, 16]),
    size=st.sampled_from([0, 1, 50, 200, 700, 5000]),
    nb_codes=st.sampled_from([1, 7, 100, 4000]),
    crowded=st.booleans(),
    heavy=st.sampled_from([0, 0.4]),  # the share of one code
    seed=st.integers(0, 2**32),
)


def answers(index, queries):
    """The ids of each query, which `lookup`, `count` and `index[code]` agree on."""
    offsets, ids = index.lookup(queries)
    assert np.array_equal(index.count(queries), np.diff(offsets))
    found = [part.tolist() for part in np.split(ids, offsets[1:-1])]
    assert [index[query].tolist() for query in queries[:100]] == found[:100]
    return found


def groups(index, chunk=2**20):
    """The groups of items that share a code, in the order of their first items."""
    return sorted(part.tolist() for offsets, ids in index.shared_codes(chunk) for part in np.split(ids, offsets[1:-1]))


def everything(index, case):
    return answers(index, case.queries), groups(index), index.internal_collisions(case.classes)


# ---- What changes nothing


@properties
@given(cases)
def test_a_mask_on_all_codes(case):
    expected = everything(InvertedIndex.build(case.codes), case)
    (mask,) = case.random_codes(1, case.codes.shape[1])
    case.queries ^= mask
    assert everything(InvertedIndex.build(case.codes ^ mask), case) == expected


@properties
@given(cases)
def test_another_order_of_the_bits(case):
    expected = everything(InvertedIndex.build(case.codes), case)
    order = case.rng.permutation(8 * case.codes.shape[1])
    codes, case.queries = (
        np.packbits(np.unpackbits(each, axis=1)[:, order], axis=1) for each in (case.codes, case.queries)
    )
    assert everything(InvertedIndex.build(codes), case) == expected


@properties
@given(cases)
def test_another_order_of_the_items(case):
    found, shared, collisions = everything(InvertedIndex.build(case.codes), case)
    order = case.rng.permutation(len(case.codes))
    case.classes = case.classes[order]
    found_there, shared_there, collisions_there = everything(InvertedIndex.build(case.codes[order]), case)
    assert all(ids == sorted(ids) for ids in found_there + shared_there)
    assert [sorted(order[ids].tolist()) for ids in found_there] == found
    assert sorted(sorted(order[ids].tolist()) for ids in shared_there) == shared
    assert collisions_there == collisions


@properties
@given(cases)
def test_items_of_other_codes_among_them(case):
    expected = answers(InvertedIndex.build(case.codes), case.queries)
    asked = {query.tobytes() for query in case.queries}
    others = [code for code in case.random_codes(300, case.codes.shape[1]) if code.tobytes() not in asked]
    others = np.array(others, np.uint8).reshape(-1, case.codes.shape[1])
    order = case.rng.permutation(len(case.codes) + len(others))
    place = np.sort(order[: len(case.codes)])  # of each item of the case
    codes = np.empty((len(order), case.codes.shape[1]), np.uint8)
    codes[place], codes[order[len(case.codes) :]] = case.codes, others
    assert answers(InvertedIndex.build(codes), case.queries) == [place[ids].tolist() for ids in expected]


@properties
@given(cases, st.integers(0, 62), st.integers(0, 2**64 - 1))
def test_other_class_numbers(case, zeros, shift):
    index = InvertedIndex.build(case.codes)
    renamed = (case.classes << np.uint64(zeros)) + np.uint64(shift)
    collisions = index.internal_collisions(case.classes)
    assert index.internal_collisions(renamed) == collisions
    assert index.internal_collisions(renamed.__getitem__) == collisions
    sizes = np.array([len(ids) for ids in groups(index)], dtype=int)
    assert index.internal_collisions(np.arange(len(case.codes))) == (sizes * (sizes - 1) // 2).sum()
    assert index.internal_collisions(np.full(len(case.codes), shift, np.uint64)) == 0


@properties
@given(cases, st.integers(2000, 50_000), st.sampled_from([(0, 1), (0, 3), (1, 3), (2, 3)]))
def test_through_a_file(tmp_path_factory, case, memory_limit, shard):
    folder = tmp_path_factory.mktemp("index")
    index = InvertedIndex.build(case.codes, *shard)
    expected = everything(index, case)
    index.save(folder / "saved")
    for mmap in (True, False):
        assert everything(InvertedIndex.load(folder / "saved", mmap), case) == expected
    with h5py.File(folder / "codes.hdf5", "w") as file:
        file["codes"] = case.codes
    InvertedIndex.build_from_file(folder / "codes.hdf5", folder / "built", memory_limit, False, None, *shard)
    assert (folder / "built").read_bytes() == (folder / "saved").read_bytes()


# ---- What adds up


@properties
@given(cases, st.integers(0, 2**16), st.integers(0, 3))
def test_one_item_more(case, chosen, its_class):
    """Its code gains its id, and no other code anything. An empty index has no items: so every answer is right."""
    case.queries = np.concatenate([case.codes[:100], case.queries])
    found, shared, collisions = everything(InvertedIndex.build(case.codes), case)
    item, chosen = len(case.codes), chosen % len(case.queries)
    code, its_equals = case.queries[chosen], found[chosen]
    expected = [ids + [item] * same for ids, same in zip(found, (case.queries == code).all(axis=1).tolist())]
    shared = [ids for ids in shared if ids != its_equals] + [its_equals + [item]] * bool(its_equals)
    collisions += np.count_nonzero(case.classes[its_equals] != its_class)
    case.classes = np.append(case.classes, np.uint64(its_class))
    index = InvertedIndex.build(np.concatenate([case.codes, [code]]))
    assert everything(index, case) == (expected, sorted(shared), collisions)


@properties
@given(cases, st.integers(1, 100))
def test_each_item_is_in_one_answer_and_the_larger_answers_are_the_groups(case, chunk):
    index = InvertedIndex.build(case.codes)
    found = answers(index, np.unique(case.codes, axis=0)) if len(index) else []
    assert sorted(sum(found, [])) == list(range(len(index)))
    assert groups(index, chunk) == groups(index) == sorted(ids for ids in found if len(ids) > 1)


def test_no_items():
    index = InvertedIndex.build(np.empty((0, 3), np.uint8))
    assert answers(index, np.eye(9, 3, dtype=np.uint8)) == [[]] * 9 and groups(index) == []


@properties
@given(cases, st.integers(1, 9))
def test_shards(case, nb_shards):
    whole = everything(InvertedIndex.build(case.codes), case)
    shards = [InvertedIndex.build(case.codes, shard, nb_shards) for shard in range(nb_shards)]
    assert sum(map(len, shards)) == len(case.codes)
    assert all(shard.database_size == len(case.codes) for shard in shards)
    held = np.array([shard.holds(case.queries) for shard in shards])
    assert (held.sum(axis=0) == 1).all()
    found, shared, collisions = zip(*(everything(shard, case) for shard in shards))
    for holds, ids in zip(held, found):
        assert ids == [expected if own else [] for own, expected in zip(holds, whole[0])]
    assert (sorted(sum(shared, [])), sum(collisions)) == whole[1:]


# ---- Probes


@st.composite
def probings(draw):
    """Logits of some queries, none of them zero and many equal if so drawn; a number of probes; a random stream."""
    k, ties = draw(st.integers(1, 10) | st.integers(11, 70)), draw(st.booleans())
    nb_probes = min(2**k, draw(st.sampled_from([1, 2, 9, 60, 150])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = rng.integers(1, 5, (64, k)) if ties else rng.uniform(0.1, 9, (64, k))
    return (sizes * rng.choice([-1, 1], (64, k))).astype(np.float32), nb_probes, rng


def bits_of(codes, k):
    assert not np.unpackbits(codes, axis=2)[..., k:].any()
    return np.unpackbits(codes, axis=2, count=k)


@properties
@given(probings())
def test_a_logit_of_the_other_sign_is_a_bit_of_the_other_value(probing):
    z, nb_probes, rng = probing
    flipped = rng.random(z.shape) < 0.5
    bits, others = (bits_of(probe_codes(each, nb_probes), z.shape[1]) for each in (z, np.where(flipped, -z, z)))
    assert np.array_equal(bits ^ others, np.broadcast_to(flipped[:, None], bits.shape))


@properties
@given(probings(), st.integers(-60, 60))
def test_the_scale_of_the_logits_does_not_matter(probing, exponent):
    z, nb_probes, _ = probing
    assert np.array_equal(probe_codes(np.ldexp(z, exponent), nb_probes), probe_codes(z, nb_probes))


@properties
@given(probings(), st.integers(0, 2**16))
def test_fewer_probes_are_the_first_ones(probing, fewer):
    z, nb_probes, _ = probing
    fewer = fewer % nb_probes + 1
    assert np.array_equal(probe_codes(z, fewer), probe_codes(z, nb_probes)[:, :fewer])


@properties
@given(probings())
def test_another_order_of_the_logits(probing):
    """Of the bits, where no two sets of flips tie; and of the queries."""
    z, nb_probes, rng = probing
    z += rng.uniform(-0.05, 0.05, z.shape).astype(np.float32)
    expected = bits_of(probe_codes(z, nb_probes), z.shape[1])
    sums = ((expected ^ expected[:, :1]) * np.abs(z[:, None], dtype=np.float64)).sum(axis=2)
    assert (np.diff(sums) >= 0).all()
    assume((np.diff(sums) > 0).all())
    rows, bits = rng.permutation(len(z)), rng.permutation(z.shape[1])
    found = bits_of(probe_codes(z[rows][:, bits], nb_probes), len(bits))
    assert np.array_equal(found, expected[rows][:, :, bits])
