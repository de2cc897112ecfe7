"""Counting in each shard of an index alone: the counts are kept in files until they are summed."""

from functools import reduce
from operator import add
from pathlib import Path

import numpy as np

from equihash._checksum import checksum
from equihash.errors import Damaged, Remedy, UserError
from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.retrieval import Counts, Retrieved, count, prefix_sizes
from equihash.experiment import DatabaseFiles
from equihash.files import atomic
from equihash.fingerprints import index_metadata, load_index
from equihash.hdf5 import Hdf5File, create_hdf5, set_provenance
from equihash.provenance import provenance


def count_shard(files: DatabaseFiles, nb_lookups: list[int], shard: int, nb_shards: int):
    """Count in one shard of the index, and write the counts for `sum_of_shards`."""
    database = EncodedDatabase(files)
    database.start_verification()
    index = load_index(files, database.fingerprints, shard, nb_shards)
    counts = count(database, index, nb_lookups)
    database.verify()
    path = files.counts(shard, nb_shards)
    _save(path, counts, provenance(**_work(database, shard, nb_shards)))
    print(f"{files.experiment}: shard {shard} of {nb_shards}, {len(index):,} items: {path}")


def sum_of_shards(database: EncodedDatabase, nb_lookups: list[int], nb_shards: int) -> Counts:
    """Add up what was counted in all shards.

    Raises
    ------
    UserError
        The counts of a shard are missing, damaged, or of other fingerprints or numbers of lookups.
    """
    asked = {"nb_lookups": nb_lookups} if nb_lookups else {"queries": False}
    counts = []
    for shard in range(nb_shards):
        remedy = Remedy("count_shard", database.files, shard=shard, nb_shards=nb_shards, **asked)
        path, work = database.files.counts(shard, nb_shards), _work(database, shard, nb_shards)
        counts.append(_load(path, database, work, nb_lookups, remedy))
    return reduce(add, counts)


def _work(database, shard, nb_shards):
    """What the counts of a shard say that they are of."""
    labels = database.labels.digest
    return {**index_metadata(database.fingerprints), "labels": labels, "shard": shard, "nb_shards": nb_shards}


def _dataset_name(size, number, name):
    return f"{size} {number} {name}"


def _save(path: Path, counts: Counts, provenance: dict):
    with atomic(path) as temporary, create_hdf5(temporary) as file:
        arrays = {
            _dataset_name(found.size, found.nb_lookups, name): array
            for found in counts.queries for name, array in found.arrays().items()
        }  # fmt: skip
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression=1)
        numbers = {"internal_collisions": counts.internal_collisions, "largest_bucket": counts.largest_bucket}
        checksums = {name: checksum(array) for name, array in arrays.items()}
        set_provenance(file, {**provenance, **numbers, "checksums": checksums})


def _load(path: Path, database: EncodedDatabase, work: dict, nb_lookups: list[int], remedy: Remedy) -> Counts:
    """Read the counts of one shard; `remedy` makes the file, for errors."""
    whole, labels, queries = len(database.codes), database.labels, []
    of_positive = dict.fromkeys(("retrieved", "relevant_retrieved"), len(labels.positive_queries))
    of_all = {**of_positive, "negative_retrieved": len(labels.negative_queries)}
    with Hdf5File(path, remedy) as file:
        made_by = file.provenance
        if any(made_by.get(key) != value for key, value in work.items()):
            raise UserError(f"{path} is of other fingerprints than those there now", remedy)
        for size in [*prefix_sizes(whole), whole]:
            for number in nb_lookups:
                arrays = {}
                for name, length in (of_all if size == whole else of_positive).items():
                    dataset = file.dataset(dataset_name := _dataset_name(size, number, name))
                    if dataset is None:
                        raise UserError(f"{path} has no counts of {number} lookups among {size} items", remedy)
                    counts = dataset.read() if (dataset.shape, dataset.dtype) == ((length,), np.int64) else None
                    if counts is None or checksum(counts) != made_by["checksums"][dataset_name]:
                        raise Damaged(f"{path} is damaged, or an older version wrote it ({name})", remedy)
                    arrays[name] = counts
                queries.append(Retrieved(size, number, **arrays))
    return Counts(made_by["internal_collisions"], made_by["largest_bucket"], queries)
