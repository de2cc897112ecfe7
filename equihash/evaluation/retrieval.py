"""How well an indexed database answers its queries.

No set of retrieved items is ever made: an item is retrieved if its code is among the query's probes, so the
number retrieved is a count of the index, and the relevant ones are found by looking at the codes of the ground
truth. Both are cheap however many items share a code.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
import torch

from equihash.devices import select_device
from equihash.evaluation.counts import Counts
from equihash.evaluation.intervals import clopper_pearson, irrelevant_collision_rate
from equihash.evaluation.prefixes import prefix_sizes, prefix_truth
from equihash.files import write_json
from equihash.fingerprints import Fingerprints, expected_work
from equihash.provenance import check_provenance, provenance
from equihash.search import InvertedIndex, probe_codes
from equihash.state import build_loader, load_state

PROBE_BLOCK = 1 << 18  # queries x probes handled at once
MAXIMUM_DISTANCE = 3
RATES_OF_POSITIVE = ("perfect_retrieval_rate", "recall", "sound_rate", "complete_rate")
WITH_RELEVANT = ("perfect_retrieval_rate", "complete_rate", "irrelevant_per_query", "irrelevant_pair_rate")


class EncodedDatabase:
    """A database with its fingerprints and queries, all open and checked to belong together.

    Parameters
    ----------
    files : DatabaseFiles

    Raises
    ------
    UserError
        Something is missing, unfinished or was made by something else.
    """

    def __init__(self, files):
        self.files, self._opened = files, {}
        self.labels, self.expected = expected_work(files)
        self.fingerprints = self._open(files.fingerprints, (len(self.labels.database), None))
        self.codes = self.fingerprints.values  # uint8 (N, nbytes)
        made_by = self.fingerprints.provenance
        for key in {"device", "precision", "bank"} & set(made_by):
            self.expected[key] = made_by[key], f"{files.fingerprints} is"
        self.nbytes = self.codes.shape[1]
        self.triplets = self._open(files.triplets, (len(self.labels.negative_pairs), 3, self.nbytes)).values
        # The whole file is read for that, meanwhile. No damage to it can do worse than wrong numbers until then.
        self._verification = ThreadPoolExecutor(1).submit(self.labels.verify)

    def verify(self):
        """Raise a `UserError` where the labels are damaged; to be called before results are written."""
        self._verification.result()

    @cached_property
    def loader(self):
        """The dataset that makes the mosaics again, after checking that its images are the ones that were encoded."""
        experiment = self.files.experiment
        config = load_state(experiment.state_path, experiment.training_command())["config"]
        made_by = self.fingerprints.provenance
        # another kind of device would draw other noise
        device = "cuda" if made_by.get("device") == "cuda" and torch.cuda.is_available() else "cpu"
        loader = build_loader(config, self.files.which, select_device(device))
        expected = {"bank": (loader.digest(), "the images there now are")}
        check_provenance(self.files.fingerprints, made_by, expected, self.files.command("encode.py"))
        return loader

    def query_codes(self, sign):
        """Fingerprints of the "positive" or "negative" queries: uint8 (Q, nbytes)."""
        shape = len(getattr(self.labels, f"{sign}_queries")), self.nbytes
        return self._open(self.files.queries(sign, "fingerprints"), shape).values

    def query_logits(self, sign):
        """Logits of the queries: float32 (Q, k)."""
        shape = len(getattr(self.labels, f"{sign}_queries")), 8 * self.nbytes
        return self._open(self.files.queries(sign, "logits"), shape, "logits").values

    def ground_truth(self, sign):
        """The relevant items of each query, none for the negative ones: (offsets int64 (Q+1), ids int64)."""
        if sign == "positive":
            return self.labels.ground_truth
        return np.zeros(len(self.labels.negative_queries) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)

    def _open(self, path, shape, name="codes"):
        if path not in self._opened:
            self._opened[path] = Fingerprints(path, self.files.command("encode.py"), self.expected, shape, name)
        return self._opened[path]


def count(database, index, nb_lookups):
    """Count, in an index or in one shard of it, everything that scores are made of.

    Parameters
    ----------
    database : EncodedDatabase
    index : InvertedIndex
    nb_lookups : sequence of int
        Lookups a query: 1 for the fingerprint itself, more for multi-probing (Lv et al., VLDB 2007).

    Returns
    -------
    Counts
    """
    queries, size = {}, len(database.codes)
    with ThreadPoolExecutor(1) as pool:
        verification = pool.submit(index.verify)
        for number in nb_lookups:
            retrieved, _, relevant_retrieved = count_of_queries(database, index, "positive", number)
            negative_retrieved = count_of_queries(database, index, "negative", number)[0]
            queries[size, number] = [retrieved, relevant_retrieved, negative_retrieved]
        collisions = index.internal_collisions(database.labels.class_numbers)
        largest = largest_bucket(index, database.codes)
        for prefix in prefix_sizes(size) if queries else ():
            queries |= count_in_prefix(database, index, prefix, nb_lookups)
        verification.result()
    return Counts(collisions, largest, queries)


def count_in_prefix(database, index, size, nb_lookups):
    """Count what the positive queries retrieve of a prefix of a database: a part of the `queries` of a `Counts`.

    The codes of the prefix are indexed anew, which takes a moment; of an index that is a shard, one shard of them.
    """
    codes = database.codes[:size]
    part = InvertedIndex.build(codes, index.shard, index.nb_shards)
    truth = prefix_truth(database.ground_truth("positive"), size)
    query_codes = database.query_codes("positive")
    logits = database.query_logits("positive") if max(nb_lookups) > 1 else None
    counts = {number: count_retrieved(part, codes, truth, query_codes, logits, number) for number in nb_lookups}
    return {(size, number): [found[0], found[2]] for number, found in counts.items()}


def evaluate_database(database, counts):
    """Turn the counts of a database into scores, and write results.json.

    Parameters
    ----------
    database : EncodedDatabase
    counts : Counts
        Of the index, or of all its shards together.

    Returns
    -------
    dict
        What results.json holds; see the README.
    """
    files, labels, size = database.files, database.labels, len(database.codes)
    results = {
        "task": files.experiment.task,
        "model": files.experiment.model,
        "name": files.experiment.config["name"],
        "database": files.database,
        "which": files.which,
        "provenance": provenance(fingerprints=database.fingerprints.provenance),
        "database_size": size,
        "nb_classes": labels.nb_classes,
        "intervals": {},
    }
    icr, interval = irrelevant_collision_rate(counts.internal_collisions, size, labels.nb_classes)
    results |= {"internal_collisions": counts.internal_collisions, "irrelevant_collision_rate": icr}
    results["intervals"]["irrelevant_collision_rate"] = interval
    results["largest_bucket"] = counts.largest_bucket

    distances = triplet_distances(database.triplets)
    for name, histogram in zip(("recall", "fallout"), distances):
        within = histogram.cumsum()[: MAXIMUM_DISTANCE + 1]
        results[f"{name}_at_hamming"] = [_rate(n, histogram.sum()) for n in within]
        results["intervals"][f"{name}_at_hamming"] = [clopper_pearson(n, histogram.sum()) for n in within]
    results["relevant_collision_rate"] = results["recall_at_hamming"][0]
    results["intervals"]["relevant_collision_rate"] = results["intervals"]["recall_at_hamming"][0]
    results["hamming_distances"] = {"positive": distances[0].tolist(), "negative": distances[1].tolist()}

    if counts.queries:
        results |= _results_of_queries(counts.queries, database.ground_truth("positive"), size)
        first = results["lookups"]["1"]
        results["intervals"] |= first["intervals"]
        results |= {key: value for key, value in first.items() if key != "intervals"}
    database.verify()
    write_json(files.results, results)
    return results


def _results_of_queries(queries, ground_truth, size):
    """The parts `lookups`, `set_sizes` and `database_sizes` of the results: see the README."""
    lookups, database_sizes, nb_relevant = {}, {}, np.diff(ground_truth[0])
    set_sizes = {"edges": set_size_edges(size).tolist(), "relevant": set_size_histogram(nb_relevant, size)}
    set_sizes["lookups"] = {}
    nothing = np.empty(0, dtype=np.int64)
    for part, number in sorted(queries):
        retrieved, relevant_retrieved, *negative = queries[part, number]
        relevant = np.diff(prefix_truth(ground_truth, part)[0])
        inside = np.flatnonzero(relevant)
        asked = [counts[inside] for counts in (retrieved, relevant, relevant_retrieved)]
        scores = score(*asked, *(negative or [nothing]), part)
        irrelevant = retrieved - relevant_retrieved
        all_found = queries[size, number][1]
        with_relevant = score(irrelevant + all_found, nb_relevant, all_found, nothing, part)
        prefix = database_sizes.setdefault(str(part), {"nb_positive_queries": len(inside), "lookups": {}})
        prefix["lookups"][str(number)] = {
            **{name: scores[name] for name in RATES_OF_POSITIVE},
            "intervals": {name: scores["intervals"][name] for name in RATES_OF_POSITIVE},
            "with_relevant": {name: with_relevant[name] for name in WITH_RELEVANT},
        }
        if part == size:
            lookups[str(number)] = scores
            set_sizes["lookups"][str(number)] = {
                "positive": set_size_histogram(retrieved, size),
                "negative": set_size_histogram(*negative, size),
            }
    return {"lookups": lookups, "set_sizes": set_sizes, "database_sizes": database_sizes}


def set_size_edges(database_size):
    """Bins of sizes of sets, int64, ten a decade: size s is in bin i where edges[i] <= s < edges[i + 1]."""
    decades = np.log10(database_size) + 0.3  # the last edge is beyond the largest set
    return np.concatenate([[0], np.unique(np.rint(10 ** np.arange(0, decades, 0.1)).astype(np.int64))])


def set_size_histogram(sizes, database_size):
    """Number of sets in each bin of `set_size_edges`: list of int."""
    return np.histogram(sizes, set_size_edges(database_size))[0].tolist()


def count_of_queries(database, index, sign, nb_lookups):
    """`count_retrieved` for the "positive" or "negative" queries of an `EncodedDatabase`."""
    logits = database.query_logits(sign) if nb_lookups > 1 else None
    truth, codes = database.ground_truth(sign), database.query_codes(sign)
    return count_retrieved(index, database.codes, truth, codes, logits, nb_lookups)


def count_retrieved(index, database_codes, ground_truth, codes, logits, nb_lookups):
    """Count what each query retrieves.

    Parameters
    ----------
    index : InvertedIndex
        If it is a shard, what is retrieved of it is counted.
    database_codes : uint8 (N, nbytes)
    ground_truth : (offsets int64 (Q+1), ids int64)
        The relevant items of each query.
    codes : uint8 (Q, nbytes)
        Fingerprints of the queries.
    logits : float32 (Q, k) or None
        Needed for more than one lookup.
    nb_lookups : int

    Returns
    -------
    retrieved, relevant, relevant_retrieved : int64 (Q,)
    """
    offsets, ids = ground_truth
    nb_queries, nbytes = codes.shape
    retrieved = np.zeros(nb_queries, dtype=np.int64)
    relevant_retrieved = np.zeros(nb_queries, dtype=np.int64)
    block = max(PROBE_BLOCK // nb_lookups, 1)
    for first in range(0, nb_queries, block):
        last = min(first + block, nb_queries)
        if nb_lookups == 1:
            probes = np.ascontiguousarray(codes[first:last])[:, None]
        else:
            probes = probe_codes(np.ascontiguousarray(logits[first:last]), nb_lookups)
        counts = index.count(probes.reshape(-1, nbytes))
        retrieved[first:last] = counts.reshape(-1, nb_lookups).sum(1)
        truth = ids[offsets[first] : offsets[last]]
        owners = np.repeat(np.arange(last - first), np.diff(offsets[first : last + 1]))
        truth_codes = np.ascontiguousarray(database_codes[truth])
        found = _contained(truth_codes, probes, owners) & index.holds(truth_codes)
        relevant_retrieved[first:last] = np.bincount(owners[found], minlength=last - first)
    return retrieved, np.diff(offsets), relevant_retrieved


def score(retrieved, relevant, relevant_retrieved, negative_retrieved, database_size):
    """Turn counts of queries into rates.

    Parameters
    ----------
    retrieved, relevant, relevant_retrieved : int64 (P,)
        Of the positive queries.
    negative_retrieved : int64 (Q,)
        Of the negative queries.
    database_size : int

    Returns
    -------
    dict
        recall, average_jaccard_index, perfect_retrieval_rate, sound_rate, complete_rate (equidict);
        true_positive_rate, false_positive_rate (equiset); irrelevant_per_query; `intervals` of the rates.
    """
    union = retrieved + relevant - relevant_retrieved
    jaccard = np.where(union > 0, relevant_retrieved / np.maximum(union, 1), 1.0)
    irrelevant = (retrieved - relevant_retrieved).sum() + negative_retrieved.sum()
    nb_queries = len(retrieved) + len(negative_retrieved)
    counts = {
        "recall": (relevant_retrieved.sum(), relevant.sum()),
        "perfect_retrieval_rate": ((union == relevant_retrieved).sum(), len(retrieved)),
        "sound_rate": ((retrieved == relevant_retrieved).sum(), len(retrieved)),
        "complete_rate": ((relevant == relevant_retrieved).sum(), len(retrieved)),
        "true_positive_rate": ((retrieved > 0).sum(), len(retrieved)),
        "false_positive_rate": ((negative_retrieved > 0).sum(), len(negative_retrieved)),
    }
    return {
        **{name: _rate(part, whole) for name, (part, whole) in counts.items()},
        "average_jaccard_index": float(jaccard.mean()) if len(jaccard) else float("nan"),
        "irrelevant_per_query": float(irrelevant / max(nb_queries, 1)),
        "irrelevant_pair_rate": float(irrelevant / max(nb_queries * database_size - relevant.sum(), 1)),
        "intervals": {name: clopper_pearson(part, whole) for name, (part, whole) in counts.items()},
    }


def triplet_distances(codes):
    """Histograms of the Hamming distances of positive and negative pairs: two int64 arrays (k+1).

    Parameters
    ----------
    codes : uint8 (T, 3, nbytes)
        Anchor, positive, negative.
    """
    codes = np.asarray(codes)
    nb_bits = 8 * codes.shape[2]
    return [
        np.bincount(np.bitwise_count(codes[:, 0] ^ codes[:, other]).sum(1, dtype=np.int64), minlength=nb_bits + 1)
        for other in (1, 2)
    ]


def largest_bucket(index, database_codes, sample_size=1000):
    """How many items share the commonest fingerprint, among those of evenly spaced items."""
    rows = np.unique(np.linspace(0, max(len(database_codes) - 1, 0), sample_size).astype(np.int64))
    return int(index.count(np.ascontiguousarray(database_codes[rows])).max()) if len(database_codes) else 0


def _contained(codes, probes, owners):
    """Whether codes[e], uint8 (E, nbytes), is among probes[owners[e]], (Q, L, nbytes): bool (E,)."""
    found = np.zeros(len(codes), dtype=bool)
    for probe in range(probes.shape[1]):
        found |= (codes == probes[owners, probe]).all(axis=1)
    return found


def _rate(part, whole):
    return float(part / whole) if whole else float("nan")
