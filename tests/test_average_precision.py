"""Mean average precision of rankings by Hamming distance, with ties: the formula, the distances, and --map."""

import itertools
import shutil
from fractions import Fraction

import h5py
import numpy as np
import pytest
from conftest import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from equihash.evaluation.average_precision import average_precision
from equihash.evaluation.ranking import distance_histograms, relevant_histograms


def precision_of_order(order):
    """Average precision of a ranking: whether each item is relevant, nearest first."""
    ranks = [rank for rank, relevant in enumerate(order, 1) if relevant]
    return sum(Fraction(found, rank) for found, rank in enumerate(ranks, 1)) / len(ranks)


def all_orders(groups):
    """All orders of tied items, `groups` of (items, relevant), as whether each is relevant; all are as likely."""
    places = [itertools.combinations(range(items), relevant) for items, relevant in groups]
    for choice in itertools.product(*places):
        yield [place in chosen for (items, _), chosen in zip(groups, choice) for place in range(items)]


GROUPS = st.lists(
    st.integers(0, 5).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1, max_size=4
).filter(lambda groups: any(relevant for _, relevant in groups))


@given(GROUPS)
def test_the_mean_and_the_bounds_of_all_orders(groups):
    items, relevant = np.array(groups).T[:, None]
    values = [precision_of_order(order) for order in all_orders(groups)]
    found = average_precision(items, relevant)
    assert found.expected == pytest.approx([float(sum(values) / len(values))], abs=1e-12)
    assert found.optimistic == pytest.approx([float(max(values))], abs=1e-12)
    assert found.pessimistic == pytest.approx([float(min(values))], abs=1e-12)


def test_a_billion_items():
    """One relevant item among five at the same distance, after a few or very many nearer ones: no digits are lost."""
    for before in [0, 7, 999, 1000, 10**6, 10**9, 10**12]:
        ranks = [Fraction(1, before + place) for place in range(1, 6)]
        found = average_precision(np.array([[before, 5, 10**9]]), np.array([[0, 1, 0]]))
        assert found.expected == pytest.approx([float(sum(ranks) / 5)], abs=1e-12)
        assert found.optimistic == pytest.approx([float(ranks[0])], abs=1e-12)
        assert found.pessimistic == pytest.approx([float(ranks[-1])], abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 100, 10**9]))
def test_bounds_are_in_order_and_meet_where_nothing_is_tied(seed, largest):
    stream = np.random.RandomState(seed)
    items = stream.randint(0, largest + 1, (20, 33))
    relevant = stream.binomial(np.minimum(items, 50), 0.2)
    relevant[3] = 0
    expected, optimistic, pessimistic = average_precision(items, relevant)
    some = relevant.any(axis=1)
    assert np.isnan(np.stack([expected, optimistic, pessimistic])[:, ~some]).all() and not some[3]
    assert (pessimistic[some] >= 0).all() and (optimistic[some] <= 1).all()
    assert (pessimistic[some] <= expected[some] + 1e-12).all() and (expected[some] <= optimistic[some] + 1e-12).all()
    if largest == 1:
        np.testing.assert_allclose(expected, optimistic, atol=1e-12)
        np.testing.assert_allclose(expected, pessimistic, atol=1e-12)


def test_a_perfect_ranking_and_one_without_information():
    assert average_precision(np.array([[3, 0, 4]]), np.array([[3, 0, 0]])) == (1, 1, 1)
    # all items at one distance: the mean over orders is near the share of relevant ones, the best order is perfect
    expected, optimistic, pessimistic = average_precision(np.array([[100_000]]), np.array([[10_000]]))
    assert expected == pytest.approx([0.1], rel=1e-3) and optimistic == 1 and pessimistic < 0.06


@pytest.mark.parametrize("nbytes", [1, 5, 8, 9, 40])
def test_histograms_are_those_of_all_distances(nbytes):
    """Of any number of bits, also more than 255, and of more items than are handled at once."""
    rng = np.random.default_rng(nbytes)
    codes, queries = (rng.integers(0, 256, (n, nbytes), dtype=np.uint8) for n in (140_000, 3))
    codes[:3], queries[1] = ~queries, 0
    truth = [np.sort(rng.choice(len(codes), n, replace=False)) for n in (5, 0, 135_000)]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in truth])])
    items = distance_histograms(codes, queries)
    relevant = relevant_histograms(codes, queries, (offsets, np.concatenate(truth)))
    assert items.shape == relevant.shape == (3, 8 * nbytes + 1) and items.dtype == relevant.dtype == np.int64
    for row, query in enumerate(queries):
        distances = (np.unpackbits(codes, axis=1) != np.unpackbits(query)).sum(axis=1)
        assert items[row].tolist() == np.bincount(distances, minlength=8 * nbytes + 1).tolist()
        assert relevant[row].tolist() == np.bincount(distances[truth[row]], minlength=8 * nbytes + 1).tolist()


EVALUATE = "evaluate_binary_equihash.py FastMnistMosaic GOLD ShannonHamming"
KEYS = [f"{bound}mean_average_precision" for bound in ("", "optimistic_", "pessimistic_")]


@pytest.fixture(scope="module")
def evaluated(shared_workspace):
    """The published fingerprints of 20,000 items, evaluated without --map; their folder."""
    folder = shared_workspace.experiments / "FastMnistMosaic/ShannonHamming/main/current/test_GOLD"
    folder.mkdir(parents=True)
    for name in ("database", "positive_queries", "negative_queries", "hinge_triplets"):
        shutil.copy(GOLDEN / "checkpoint" / f"{name}_fingerprints.hdf5", folder)
    shutil.copy(GOLDEN / "checkpoint" / "state.pth", folder.parent)
    labels = shared_workspace.folder / "data/labels/FastMnistMosaic/GOLD.hdf5"
    labels.parent.mkdir(parents=True)
    shutil.copy(GOLDEN / "checkpoint" / "labels.hdf5", labels)
    for shard in ("", "--shard 0 --nb_shards 2", "--shard 1 --nb_shards 2"):
        shared_workspace.check(f"build_index.py FastMnistMosaic GOLD ShannonHamming {shard}")
    shared_workspace.check(EVALUATE)
    return folder


def rank_by_rank(distances, relevant):
    """The mean over orders, the best order and the worst: the precision at each rank x whether its item is relevant."""
    ranks = np.arange(1, len(distances) + 1)
    best, worst = (relevant[np.lexsort((last, distances))] for last in (~relevant, relevant))
    bounds = [(ranked.cumsum() / ranks)[ranked].mean() for ranked in (best, worst)]
    expected = []
    for distance in np.unique(distances):
        tied = relevant[distances == distance]
        n, r, nearer = len(tied), tied.sum(), relevant[distances < distance].sum()
        found = nearer + 1 + np.arange(n) * (r - 1) / max(n - 1, 1)  # if the item is relevant
        expected.append(r / n * found)
    return [(np.concatenate(expected) / ranks).sum() / relevant.sum(), *bounds]


def test_the_published_fingerprints_ranked(evaluated, shared_workspace):
    """Against the sum over all ranks of what is to be expected at each; nothing else in the results changes."""
    before = shared_workspace.json(evaluated / "results.json")
    assert not set(before) & {*KEYS, "nb_ranked_queries"}
    table = shared_workspace.check(f"{EVALUATE} --map 30")
    results = shared_workspace.json(evaluated / "results.json")
    assert {key: value for key, value in results.items() if key in before} == before
    assert set(results) - set(before) == {*KEYS, "nb_ranked_queries"} and results["nb_ranked_queries"] == 30

    with h5py.File(GOLDEN / "checkpoint" / "labels.hdf5") as file:
        labels, classes = (file[name][:].reshape(-1, 4) for name in ("database", "positive_queries"))
    with h5py.File(evaluated / "database_fingerprints.hdf5") as file:
        codes = file["codes"][:]
    with h5py.File(evaluated / "positive_queries_fingerprints.hdf5") as file:
        queries = file["codes"][:]
    scores = []
    for row in np.arange(30) * len(queries) // 30:
        distances = np.bitwise_count(codes ^ queries[row]).sum(axis=1, dtype=int)
        scores.append(rank_by_rank(distances, (labels == classes[row]).all(axis=1)))
    expected = np.mean(scores, axis=0)
    assert [results[key] for key in KEYS] == pytest.approx(expected, abs=1e-12)
    assert expected[2] < expected[0] < expected[1]

    text = f"{expected[0]:.3f}".removeprefix("0")
    row = next(line.split() for line in table.splitlines() if "main, 1 lookup" in line)
    assert row[-1] == text and "MAP mean average precision: " in table and "RCR, ICR and MAP do not depend" in table
    page = (evaluated / "report.html").read_text()
    assert "mean average precision" in page and f">{text}" in page
    for extra in ("", "--no_queries"):
        assert "MAP" not in shared_workspace.check(f"{EVALUATE} {extra}")
        assert "mean average precision" not in (evaluated / "report.html").read_text()


def test_the_sum_of_shards_takes_map(evaluated, shared_workspace):
    """All queries where more are asked for than there are."""
    shared_workspace.check(f"{EVALUATE} --map 5000")
    whole = (evaluated / "results.json").read_text()
    assert shared_workspace.json(evaluated / "results.json")["nb_ranked_queries"] == 2000
    for shard in (0, 1):
        shared_workspace.refuse(f"{EVALUATE} --shard {shard} --nb_shards 2 --map 9", "--map", "leave out --shard")
        shared_workspace.check(f"{EVALUATE} --shard {shard} --nb_shards 2")
    shared_workspace.check(f"{EVALUATE} --nb_shards 2 --map 5000")
    assert (evaluated / "results.json").read_text() == whole


def test_map_needs_queries(evaluated, shared_workspace):
    shared_workspace.refuse(f"{EVALUATE} --map 0", "--map must be at least 1, not 0")
    shared_workspace.refuse(f"{EVALUATE} --map 9 --no_queries", "--map", "leave out --no_queries")
