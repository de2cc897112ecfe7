"""How well an indexed database answers its queries.

No set of retrieved items is ever made: an item is retrieved if its code is among the query's probes, so the
number retrieved is a count of the index, and the relevant ones are found by looking at the codes of the ground
truth. Both are cheap however many items share a code.
"""

import numpy as np

import equihash
from equihash.errors import UserError
from equihash.evaluation.intervals import clopper_pearson, irrelevant_collision_rate
from equihash.files import write_json
from equihash.fingerprints import Fingerprints, expected_provenance
from equihash.labels import Labels
from equihash.search import InvertedIndex, probe_codes

QUERY_BLOCK = 1 << 16  # queries x probes handled at once
MAXIMUM_DISTANCE = 3


def evaluate_database(files, nb_lookups=(1,), queries=True):
    """Evaluate an encoded and indexed database, and write results.json.

    Parameters
    ----------
    files : DatabaseFiles
    nb_lookups : sequence of int
        Lookups a query: 1 for the fingerprint itself, more for multi-probing (Lv et al., VLDB 2007).
    queries : bool
        False: only the collision rates of the database and the triplets.

    Returns
    -------
    dict
        What results.json holds; see the README.
    """
    encode, expected = files.command("encode.py"), expected_provenance(files)
    labels = Labels(files.labels, files.experiment.task)
    database = Fingerprints(files.fingerprints, encode, expected)
    triplets = Fingerprints(files.triplets, encode, expected)
    index = load_index(files, database)
    if len(index) != len(labels.database):
        raise UserError(f"{files.index} has {len(index)} items, {files.labels} has {len(labels.database)}: run {encode}")
    results = {
        "task": files.experiment.task,
        "model": files.experiment.model,
        "name": files.experiment.config["name"],
        "database": files.database,
        "which": files.which,
        "version": equihash.__version__,
        "provenance": database.provenance,
        "database_size": len(index),
        "nb_classes": labels.nb_classes,
        "intervals": {},
    }
    nb_collisions = index.internal_collisions(labels.class_numbers)
    icr, interval = irrelevant_collision_rate(nb_collisions, len(index), labels.nb_classes)
    results |= {"internal_collisions": nb_collisions, "irrelevant_collision_rate": icr}
    results["intervals"]["irrelevant_collision_rate"] = interval
    results["largest_bucket"] = largest_bucket(index, database.values)

    distances = triplet_distances(triplets.values)
    for name, histogram in zip(("recall", "fallout"), distances):
        within = histogram.cumsum()[: MAXIMUM_DISTANCE + 1]
        results[f"{name}_at_hamming"] = (within / max(histogram.sum(), 1)).tolist()
        results["intervals"][f"{name}_at_hamming"] = [clopper_pearson(n, histogram.sum()) for n in within]
    results["relevant_collision_rate"] = results["recall_at_hamming"][0]
    results["intervals"]["relevant_collision_rate"] = results["intervals"]["recall_at_hamming"][0]
    results["hamming_distances"] = {"positive": distances[0].tolist(), "negative": distances[1].tolist()}

    if queries:
        logits = {}
        signs = ("positive", "negative")
        codes = {s: Fingerprints(files.queries(s, "fingerprints"), encode, expected).values for s in signs}
        if any(number > 1 for number in nb_lookups):
            logits = {s: Fingerprints(files.queries(s, "logits"), encode, expected, "logits").values for s in signs}
        results["lookups"] = {}
        for number in sorted(nb_lookups):
            counts = {}
            for sign in signs:
                truth = labels.ground_truth if sign == "positive" else _no_truth(len(codes[sign]))
                counts[sign] = count_retrieved(index, database.values, truth, codes[sign], logits.get(sign), number)
            results["lookups"][str(number)] = score(*counts["positive"], counts["negative"][0], len(index))
        first = results["lookups"][str(min(nb_lookups))]
        results["intervals"] |= first["intervals"]
        results |= {key: value for key, value in first.items() if key not in results}
    write_json(files.results, results)
    return results


def load_index(files, database):
    """Load the index of a database, after checking that it is of these fingerprints (`Fingerprints`)."""
    command = files.command("build_index.py")
    if not files.index.is_file():
        raise UserError(f"{files.index} does not exist: run {command}")
    index = InvertedIndex.load(files.index, mmap=True)
    if index.metadata != {"codes": database.provenance, "size": len(database.values)}:
        raise UserError(f"{files.index} is of other fingerprints than {files.fingerprints}: run {command}")
    return index


def count_retrieved(index, database_codes, ground_truth, codes, logits, nb_lookups):
    """Count what each query retrieves.

    Parameters
    ----------
    index : InvertedIndex
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
    block = max(QUERY_BLOCK // nb_lookups, 1) * 4
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
        found = _contained(database_codes[truth], probes, owners)
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
        **{name: float(part / whole) if whole else float("nan") for name, (part, whole) in counts.items()},
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
    codes = np.ascontiguousarray(codes)
    for probe in range(probes.shape[1]):
        found |= (codes == probes[owners, probe]).all(axis=1)
    return found


def _no_truth(nb_queries):
    return np.zeros(nb_queries + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
