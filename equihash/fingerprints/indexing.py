"""The inverted index of a database's fingerprints."""

from equihash.errors import Remedy, UserError
from equihash.experiment import DatabaseFiles
from equihash.files import digest_of, exists
from equihash.fingerprints.fingerprint_file import Fingerprints, expected_work
from equihash.labels import Labels
from equihash.provenance import check_provenance, provenance
from equihash.search import InvertedIndex


def build_index(
    files: DatabaseFiles, force: bool = False, memory_limit: int = 8 * 2**30, shard: int = 0, nb_shards: int = 1
) -> None:
    """Build the inverted index of a database's fingerprints, unless there is one of these very fingerprints.

    Parameters
    ----------
    files : DatabaseFiles
    force : bool
        Build in any case.
    memory_limit : int
        Bytes to build in.
    shard, nb_shards : int
        Which part of the index.

    Raises
    ------
    UserError
        The fingerprints are missing, damaged, or of other weights or labels than those there now.
    """
    path = files.index(shard, nb_shards)
    labels, expected = expected_work(files)
    remedy = Remedy("encode_database", files)
    fingerprints = Fingerprints(files.fingerprints, remedy, expected, (len(labels.database), None))
    if exists(path) and not force:
        try:
            index = InvertedIndex.load(path)
            if is_index_of(index, fingerprints, shard, nb_shards):
                index.verify()
                print(f"{path} is built already (force builds again)")
                return
        except UserError as error:
            print(f"{error.message}: building again")
    metadata = provenance(**index_metadata(fingerprints))
    InvertedIndex.build_from_file(
        files.fingerprints, path, memory_limit, metadata=metadata, shard=shard, nb_shards=nb_shards
    )
    print(f"{len(InvertedIndex.load(path)):,} fingerprints indexed in {path}")


def load_index(files: DatabaseFiles, fingerprints: Fingerprints, shard: int = 0, nb_shards: int = 1) -> InvertedIndex:
    """Load the index of a database, or a shard, after checking that it is of these `Fingerprints`."""
    index, path, remedy = _map_index(files, shard, nb_shards)
    if not is_index_of(index, fingerprints, shard, nb_shards):
        raise UserError(f"{path} is of other fingerprints than {files.fingerprints}", remedy)
    return index


def open_index(files: DatabaseFiles) -> tuple[InvertedIndex, Labels]:
    """Map the index of a database to look things up, after checking what it says of its weights, labels and split.

    Unlike `load_index` this reads neither fingerprints nor labels, only headers: it takes no time at any size.

    Parameters
    ----------
    files : DatabaseFiles

    Returns
    -------
    InvertedIndex, Labels
    """
    labels, expected = expected_work(files)
    index, path, remedy = _map_index(files, 0, 1)
    made_by = index.metadata.get("fingerprints", {})
    check_provenance(path, made_by, expected, Remedy("encode_database and build_index", files))
    if index.database_size != len(labels.database):
        sizes = f"{index.database_size:,} items, {files.labels} of {len(labels.database):,}"
        raise UserError(f"{path} is of {sizes}", remedy)
    return index, labels


def _map_index(files, shard, nb_shards):
    path = files.index(shard, nb_shards)
    remedy = Remedy("build_index", files, **({} if nb_shards == 1 else {"shard": shard, "nb_shards": nb_shards}))
    try:
        return InvertedIndex.load(path, mmap=True), path, remedy
    except UserError as error:
        error.remedy = remedy  # the index does not know what it is of
        raise


def is_index_of(index: InvertedIndex, fingerprints: Fingerprints, shard: int, nb_shards: int) -> bool:
    """Whether an index says that it is this shard of the index of these `Fingerprints`."""
    same = all(index.metadata.get(key) == value for key, value in index_metadata(fingerprints).items())
    same = same and (index.shard, index.nb_shards) == (shard, nb_shards)
    return same and (index.database_size, index.nbytes_per_code) == fingerprints.values.shape


def index_metadata(fingerprints: Fingerprints) -> dict:
    """What an index says of the fingerprints that it is of."""
    return {"fingerprints": fingerprints.provenance, "codes": digest_of(fingerprints.checksums.tobytes())}
