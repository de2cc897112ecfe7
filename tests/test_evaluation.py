import itertools
from functools import reduce
from operator import add
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from equihash.evaluation.in_training import worst_entropies
from equihash.evaluation.intervals import clopper_pearson, irrelevant_collision_rate
from equihash.evaluation.metrics import METRICS, Answers, format_rate, score
from equihash.evaluation.results import set_size_edges, set_size_histogram, triplet_distances
from equihash.evaluation.retrieval import count_in_prefix, count_retrieved, prefix_sizes, prefix_truth
from equihash.search import InvertedIndex, probe_codes


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 8]))
def test_scores_are_those_of_sets(seed, nb_lookups):
    """Against the definition, with Python sets."""
    stream = np.random.RandomState(seed)
    database = stream.randint(0, 6, (60, 1)).astype(np.uint8) << 5
    labels = stream.randint(0, 12, 60)
    queried = np.unique(labels)[:8]
    logits = stream.normal(size=(len(queried) + 5, 8)).astype(np.float32)
    codes = np.packbits(logits > 0, axis=1)
    truth = [set(np.flatnonzero(labels == label).tolist()) for label in queried]
    retrieved = []
    for row in range(len(logits)):
        probes = {bytes(code) for code in probe_codes(logits[row : row + 1], nb_lookups)[0]}
        retrieved.append({item for item in range(60) if bytes(database[item]) in probes})
    positive, negative = retrieved[: len(queried)], retrieved[len(queried) :]

    index = InvertedIndex.build(database)
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in truth])])
    ids = np.concatenate([sorted(found) for found in truth])
    n = len(queried)
    found, relevant_found = count_retrieved(index, database, (offsets, ids), codes[:n], logits[:n], nb_lookups)
    none = (np.zeros(6, dtype=np.int64), np.empty(0, dtype=np.int64))
    negative_counts = count_retrieved(index, database, none, codes[n:], logits[n:], nb_lookups)[0]
    results = score(Answers(found, np.diff(offsets), relevant_found, negative_counts, 60))

    both = list(zip(positive, truth))
    assert results["recall"] == pytest.approx(sum(len(a & b) for a, b in both) / sum(map(len, truth)))
    assert results["average_jaccard_index"] == pytest.approx(np.mean([len(a & b) / len(a | b) for a, b in both]))
    assert results["perfect_retrieval_rate"] == pytest.approx(np.mean([a == b for a, b in both]))
    assert results["sound_rate"] == pytest.approx(np.mean([a <= b for a, b in both]))
    assert results["complete_rate"] == pytest.approx(np.mean([b <= a for a, b in both]))
    assert results["true_positive_rate"] == pytest.approx(np.mean([bool(a) for a in positive]))
    assert results["false_positive_rate"] == pytest.approx(np.mean([bool(a) for a in negative]))
    irrelevant = sum(len(a - b) for a, b in both) + sum(map(len, negative))
    assert results["irrelevant_per_query"] == pytest.approx(irrelevant / len(retrieved))
    irrelevant_pairs = 60 * len(retrieved) - sum(map(len, truth))
    assert results["irrelevant_pair_rate"] == pytest.approx(irrelevant / irrelevant_pairs)
    intervals = results["intervals"]
    assert intervals["recall"] == clopper_pearson(sum(len(a & b) for a, b in both), sum(map(len, truth)))
    assert intervals["perfect_retrieval_rate"] == clopper_pearson(sum(a == b for a, b in both), n)
    assert intervals["sound_rate"] == clopper_pearson(sum(a <= b for a, b in both), n)
    assert intervals["complete_rate"] == clopper_pearson(sum(b <= a for a, b in both), n)
    assert intervals["true_positive_rate"] == clopper_pearson(sum(map(bool, positive)), n)
    assert intervals["false_positive_rate"] == clopper_pearson(sum(map(bool, negative)), 5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([1, 2, 7, 100]))
def test_a_prefix_is_a_database_of_its_own(seed, size, nb_shards):
    """Against the definition with Python sets, of a whole index and of shards of any number."""
    stream = np.random.RandomState(seed)
    database = stream.randint(0, 6, (60, 1)).astype(np.uint8) << 5
    labels = stream.randint(0, 12, 60)
    queried = stream.permutation(np.unique(labels))[:8]
    logits = stream.normal(size=(len(queried), 8)).astype(np.float32)
    truth = [np.flatnonzero(labels == label) for label in queried]
    csr = np.concatenate([[0], np.cumsum([len(ids) for ids in truth])]), np.concatenate(truth)
    encoded = SimpleNamespace(
        codes=database,
        ground_truth=lambda sign: csr,
        query_codes=lambda sign: np.packbits(logits > 0, axis=1),
        query_logits=lambda sign: logits,
    )
    offsets, ids = prefix_truth(csr, size)
    relevant = [set(ids[ids < size].tolist()) for ids in truth]
    assert [set(part.tolist()) for part in np.split(ids, offsets[1:-1])] == relevant

    shards = [InvertedIndex.build(database, shard, nb_shards) for shard in range(nb_shards)]
    found = [count_in_prefix(encoded, shard, size, [1, 3]) for shard in shards]
    for number in (1, 3):
        total = reduce(add, (each for counts in found for each in counts if each.nb_lookups == number))
        assert total.size == size and total.negative_retrieved is None
        for row in range(len(queried)):
            probes = {bytes(code) for code in probe_codes(logits[row : row + 1], number)[0]}
            expected = {item for item in range(size) if bytes(database[item]) in probes}
            assert total.retrieved[row] == len(expected)
            assert total.relevant_retrieved[row] == len(expected & relevant[row])


def test_prefixes_cost_a_fraction_of_the_database():
    assert prefix_sizes(1999) == [] and prefix_sizes(2000) == [1000]
    assert prefix_sizes(10**7) == [1000, 10_000, 100_000, 1_000_000]


@pytest.mark.parametrize("database_size", [1, 2, 9, 10, 3210, 10**6, 10**9 + 1])
def test_every_size_of_a_set_is_in_one_bin(database_size):
    edges = set_size_edges(database_size)
    assert edges[:3].tolist() == [0, 1, 2] and (np.diff(edges) > 0).all()
    sizes = [0, 0, 1, min(2, database_size), database_size]
    histogram = set_size_histogram(np.array(sizes), database_size)
    assert sum(histogram) == len(sizes) and histogram[0] == 2
    assert histogram[np.searchsorted(edges, database_size, side="right") - 1] >= 1 and edges[-1] > database_size


def test_empty_sets_count_as_perfect():
    zero = np.zeros(2, dtype=np.int64)
    results = score(Answers(zero, zero, zero, zero, 10))
    assert results["average_jaccard_index"] == 1 and results["perfect_retrieval_rate"] == 1


@pytest.mark.parametrize(
    "value, text", [(0, ".000"), (0.5126, ".513"), (0.9989, ".999"), (0.99999, ".999"), (1, "1.00"), (np.nan, "-")]
)
def test_a_rate_is_written_with_three_digits(value, text):
    """In brackets, too; and only what is exactly 1 as 1."""
    assert format_rate(value) == METRICS["recall"].format(value) == text
    assert METRICS["recall"].format_interval((value, 1.0)) == f"[{text} 1.00]"


def test_a_small_rate_is_written_with_its_power_of_ten():
    metric = METRICS["irrelevant_collision_rate"]
    texts = [metric.format(value) for value in (5.23e-8, 1.4e-12, 0.014, 0, 1, np.nan)]
    assert texts == ["5.2e-8", "1.4e-12", "1.4e-2", "0.0", "1.0", "-"]
    assert metric.format_interval((1e-8, 8.1e-7)) == "[1e-8 8e-7]" and metric.format_interval((0, 1)) == "[0 1]"


def test_triplet_distances():
    codes = np.array([[[0, 0], [0, 1], [255, 255]], [[1, 1], [1, 1], [1, 0]]], dtype=np.uint8)
    positive, negative = triplet_distances(codes)
    assert positive.tolist() == [1, 1] + [0] * 15
    assert negative.tolist() == [0, 1] + [0] * 14 + [1]


def test_clopper_pearson_is_the_beta_quantile():
    low, high = clopper_pearson(7, 50)
    assert low == pytest.approx(beta.ppf(0.025, 7, 44)) and high == pytest.approx(beta.ppf(0.975, 8, 43))
    assert clopper_pearson(0, 10)[0] == 0 and clopper_pearson(10, 10)[1] == 1 and clopper_pearson(0, 0) == (0, 1)


@pytest.mark.parametrize(
    "k, n, classes", [(2100, 20_000, 12**4), (12, 10**9, 10**10), (5, 10**6, 10**16), (0, 10**5, 10**16)]
)
def test_chebyshev_bounds_solve_their_equation(k, n, classes):
    from decimal import Decimal, getcontext

    getcontext().prec = 60
    estimate, (low, high) = irrelevant_collision_rate(k, n, classes)
    gamma = 1 - Decimal(1) / classes
    x_hat = Decimal(2 * k) / (Decimal(n) * n - n)
    assert estimate == pytest.approx(float(x_hat / gamma))
    assert low <= estimate < high <= 1

    def excess(bound):
        x = Decimal(bound) * gamma
        n_, alpha = Decimal(n), Decimal(1) / classes
        variance = 2 / (n_**2 - n_) * (x + (2 * n_ - 4) * (x + alpha) ** Decimal("1.5") - (2 * n_ - 3) * x**2)
        return (x_hat - x) ** 2 - variance / Decimal("0.05")

    assert excess(high * (1 - 1e-6)) < 0 < excess(high * (1 + 1e-6))
    if low:
        assert excess(low * (1 + 1e-6)) < 0 < excess(low * (1 - 1e-6))
    else:
        assert excess(1e-30) < 0


def test_chebyshev_of_nothing():
    assert irrelevant_collision_rate(0, 1, 10)[1] == (0, 1)
    estimate, (low, high) = irrelevant_collision_rate(10 * 9 // 2, 10, 10**9)
    assert estimate == pytest.approx(1) and high == 1


@given(st.integers(0, 1000), st.integers(4, 9), st.integers(1, 40))
def test_worst_entropies_against_counting(seed, k, n):
    bits = torch.from_numpy(np.random.RandomState(seed).rand(n, k) < 0.4)
    found = worst_entropies(bits, chunk_size=16)
    for size in range(1, 5):
        smallest = np.inf
        for members in itertools.combinations(range(k), size):
            _, counts = np.unique(bits[:, members].numpy(), axis=0, return_counts=True)
            smallest = min(smallest, -(counts / n * np.log2(counts / n)).sum())
        assert found[size] == pytest.approx(smallest, abs=1e-9)
