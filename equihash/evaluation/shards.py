"""Counting in each shard of an index on its own, and the sum of all."""

from functools import reduce
from operator import add

from equihash.errors import Remedy
from equihash.evaluation.counts import Counts
from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.prefixes import prefix_sizes
from equihash.evaluation.retrieval import count
from equihash.fingerprints import index_metadata, load_index
from equihash.provenance import provenance


def count_shard(files, nb_lookups, queries, shard, nb_shards):
    """Count in one shard of the index, and write the counts for `sum_of_shards`.

    Parameters
    ----------
    files : DatabaseFiles
    nb_lookups : sequence of int
    queries : bool
        False: only the collisions of the database.
    shard, nb_shards : int
    """
    database = EncodedDatabase(files)
    database.start_verification()
    index = load_index(files, database.fingerprints, shard, nb_shards)
    path = files.counts(shard, nb_shards)
    counts = count(database, index, numbers_of_lookups(nb_lookups, queries))
    database.verify()
    counts.save(path, provenance(**_work(database, shard, nb_shards)))
    print(f"{files.experiment}: shard {shard} of {nb_shards}, {len(index):,} items: {path}")


def sum_of_shards(database, numbers, nb_shards):
    """Return the `Counts` of all shards together.

    Raises
    ------
    UserError
        The counts of a shard are missing, or of other fingerprints or numbers of lookups.
    """
    files, counts, lengths = database.files, [], {}
    size, labels = len(database.codes), database.labels
    of_positive = dict.fromkeys(("retrieved", "relevant_retrieved"), len(labels.positive_queries))
    for number in numbers:
        lengths |= {(prefix, number): of_positive for prefix in prefix_sizes(size)}
        lengths[size, number] = {**of_positive, "negative_retrieved": len(labels.negative_queries)}
    asked = {"nb_lookups": numbers} if numbers else {"queries": False}
    for shard in range(nb_shards):
        remedy = Remedy("count_shard", files, shard=shard, nb_shards=nb_shards, **asked)
        path = files.counts(shard, nb_shards)
        counts.append(Counts.load(path, _work(database, shard, nb_shards), lengths, remedy))
    return reduce(add, counts)


def numbers_of_lookups(nb_lookups, queries):
    """The numbers of lookups to count: 1 and those given, ascending; none without queries."""
    return sorted({1, *nb_lookups}) if queries else []


def _work(database, shard, nb_shards):
    """What the counts of a shard say that they are of."""
    labels = database.labels.digest
    return {**index_metadata(database.fingerprints), "labels": labels, "shard": shard, "nb_shards": nb_shards}
