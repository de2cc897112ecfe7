"""Everything that is made of an evaluated database: results.json, pictures, and the table to print."""

from functools import reduce
from operator import add

from equihash.evaluation.counts import Counts
from equihash.evaluation.pictures import draw_gallery, draw_hamming_distances
from equihash.evaluation.retrieval import EncodedDatabase, count, evaluate_database
from equihash.fingerprints import index_metadata, load_index
from equihash.provenance import provenance


def report(files, nb_lookups=(1,), queries=True, nb_shards=1):
    """Evaluate a database, write results.json and the pictures beside it, and return the results.

    Parameters
    ----------
    files : DatabaseFiles
    nb_lookups : sequence of int
        Lookups a query; 1 is always among them.
    queries : bool
        False: only the collision rates of the database and the triplets.
    nb_shards : int
        More than 1: sum what `count_shard` counted in each shard of the index. Then there is no gallery, which shows
        single items.
    """
    database, numbers = EncodedDatabase(files), numbers_of_lookups(nb_lookups, queries)
    pictures = "hamming_distances.png"
    if nb_shards == 1:
        if queries:
            database.loader  # for the gallery; its images may have changed: better said before the work than after
        index = load_index(files, database.fingerprints)
        counts = count(database, index, numbers)
    else:
        counts = sum_of_shards(database, numbers, nb_shards)
    results = evaluate_database(database, counts)
    draw_hamming_distances(files.folder / "hamming_distances.png", results)
    if queries and nb_shards == 1:
        draw_gallery(files.folder / "gallery.png", database, index)
        pictures += ", gallery.png"
    print(f"{files.experiment}: {files.results}, {pictures}")
    return results


def count_shard(files, nb_lookups, queries, shard, nb_shards):
    """Count in one shard of the index, and write the counts for `report`; see there for the parameters."""
    database = EncodedDatabase(files)
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
    files, labels, counts = database.files, database.labels, []
    nb_queries = len(labels.positive_queries), len(labels.negative_queries)
    options = f" --nb_lookups {' '.join(map(str, numbers))}" if numbers else " --no_queries"
    for shard in range(nb_shards):
        command = files.command("evaluate_binary_equihash.py", shard, nb_shards) + options
        path = files.counts(shard, nb_shards)
        counts.append(Counts.load(path, _work(database, shard, nb_shards), numbers, nb_queries, command))
    return reduce(add, counts)


def numbers_of_lookups(nb_lookups, queries):
    return sorted({1, *nb_lookups}) if queries else []


def _work(database, shard, nb_shards):
    """What the counts of a shard say that they are of."""
    labels = database.labels.digest
    return {**index_metadata(database.fingerprints), "labels": labels, "shard": shard, "nb_shards": nb_shards}
