"""results.json: all that is known of how good a network is on one database."""

import numpy as np

from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.intervals import proportion
from equihash.evaluation.metrics import METRICS, Answers, Pairs, Rankings, score
from equihash.evaluation.retrieval import Counts, Relevant, Retrieved, prefix_truth
from equihash.experiment import DatabaseFiles
from equihash.files import exists, read_json, write_json
from equihash.fingerprints import expected_work
from equihash.provenance import provenance

MAXIMUM_DISTANCE = 3
# what the prediction for other sizes is made of
WITH_RELEVANT = ("perfect_retrieval_rate", "complete_rate", "irrelevant_per_query", "irrelevant_pair_rate")


def evaluate_database(database: EncodedDatabase, counts: Counts, rankings: Rankings | None = None) -> dict:
    """Turn the counts of an index, or the sum of those of its shards, and rankings into scores; write results.json.

    Returns
    -------
    dict
        What results.json holds; see docs/metrics.md.
    """
    files, labels, size = database.files, database.labels, len(database.codes)
    pairs = Pairs(*triplet_distances(database.triplets), counts.internal_collisions, size, labels.nb_classes)
    results = {
        "task": files.experiment.task,
        "model": files.experiment.model,
        "name": files.experiment.config["name"],
        "database": files.database,
        "which": files.which,
        "provenance": provenance(fingerprints=database.fingerprints.provenance),
        "database_size": size,
        "nb_classes": labels.nb_classes,
        "internal_collisions": counts.internal_collisions,
        "largest_bucket": counts.largest_bucket,
        **score(pairs),
        "hamming_distances": {
            "positive": pairs.positive_distances.tolist(),
            "negative": pairs.negative_distances.tolist(),
        },
    }
    for name, histogram in (("recall", pairs.positive_distances), ("fallout", pairs.negative_distances)):
        within = [proportion(near, histogram.sum()) for near in histogram.cumsum()[: MAXIMUM_DISTANCE + 1]]
        results[f"{name}_at_hamming"] = [rate for rate, _ in within]
        results["intervals"][f"{name}_at_hamming"] = [interval for _, interval in within]
    if counts.queries:
        results |= _results_of_queries(counts.queries, database.ground_truth("positive"), size)
        _add(results, results["lookups"]["1"])
    if rankings:
        results["nb_ranked_queries"] = len(rankings.items)
        _add(results, score(rankings))
    database.verify()
    write_json(files.results, results)
    return results


def fingerprints_of(results: dict) -> dict:
    """The provenance of the fingerprints that results are of, empty in the published format."""
    return results.get("provenance", {}).get("fingerprints", {})


def is_evaluated(files: DatabaseFiles) -> bool:
    """Whether results.json is there, and is of the present weights and labels."""
    if not exists(files.results):
        return False
    made_by = fingerprints_of(read_json(files.results))
    return all(made_by.get(key) == value for key, (value, _) in expected_work(files)[1].items())


def _add(results, scores):
    results |= {**scores, "intervals": results["intervals"] | scores["intervals"]}


def _results_of_queries(queries: list[Retrieved], ground_truth: Relevant, size: int) -> dict:
    """The parts `lookups`, `set_sizes` and `database_sizes` of the results: see docs/metrics.md.

    In prefixes all queries are also asked as if their relevant items of the whole database were added to the prefix:
    there are many more of them in a small one. What would be retrieved then follows from the counts.
    """
    lookups, database_sizes, nb_relevant = {}, {}, np.diff(ground_truth[0])
    set_sizes = {"edges": set_size_edges(size).tolist(), "relevant": set_size_histogram(nb_relevant, size)}
    set_sizes["lookups"] = {}
    nothing = np.empty(0, dtype=np.int64)
    in_prefixes = [key for key, metric in METRICS.items() if metric.in_prefixes]
    relevant_in_whole = {found.nb_lookups: found.relevant_retrieved for found in queries if found.size == size}
    for found in queries:
        part, number, all_found = found.size, str(found.nb_lookups), relevant_in_whole[found.nb_lookups]
        relevant = np.diff(prefix_truth(ground_truth, part)[0])
        inside = np.flatnonzero(relevant)
        asked = [counts[inside] for counts in (found.retrieved, relevant, found.relevant_retrieved)]
        scores = score(Answers(*asked, found.negative_retrieved if part == size else nothing, part))
        irrelevant = found.retrieved - found.relevant_retrieved
        with_relevant = score(Answers(irrelevant + all_found, nb_relevant, all_found, nothing, part))
        in_prefix = score(Answers(found.retrieved, relevant, found.relevant_retrieved, nothing, part))
        with_relevant["irrelevant_pair_rate"] = in_prefix["irrelevant_pair_rate"]  # what is added makes no such pairs
        prefix = database_sizes.setdefault(str(part), {"nb_positive_queries": len(inside), "lookups": {}})
        prefix["lookups"][number] = {
            **{key: scores[key] for key in in_prefixes},
            "intervals": {key: scores["intervals"][key] for key in in_prefixes if key in scores["intervals"]},
            "with_relevant": {key: with_relevant[key] for key in WITH_RELEVANT},
        }
        if part == size:
            lookups[number] = scores
            set_sizes["lookups"][number] = {
                "positive": set_size_histogram(found.retrieved, size),
                "negative": set_size_histogram(found.negative_retrieved, size),
            }
    return {"lookups": lookups, "set_sizes": set_sizes, "database_sizes": database_sizes}


def set_size_edges(database_size: int) -> np.ndarray:
    """Bins of sizes of sets, int64, ten a decade: size s is in bin i where edges[i] <= s < edges[i + 1]."""
    decades = np.log10(database_size) + 0.3  # the last edge is beyond the largest set
    return np.concatenate([[0], np.unique(np.rint(10 ** np.arange(0, decades, 0.1)).astype(np.int64))])


def set_size_histogram(sizes: np.ndarray, database_size: int) -> list[int]:
    """Number of sets in each bin of `set_size_edges`."""
    return np.histogram(sizes, set_size_edges(database_size))[0].tolist()


def triplet_distances(codes: np.ndarray) -> list[np.ndarray]:
    """Histograms of the Hamming distances of positive and negative pairs: two int64 arrays (k+1).

    `codes` are uint8 (T, 3, nbytes): of an anchor, a positive and a negative.
    """
    nb_bits = 8 * codes.shape[2]
    return [
        np.bincount(np.bitwise_count(codes[:, 0] ^ codes[:, other]).sum(1, dtype=np.int64), minlength=nb_bits + 1)
        for other in (1, 2)
    ]
