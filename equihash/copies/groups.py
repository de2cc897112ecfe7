"""Pictures whose fingerprints are equal, or that probing connects."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from equihash.copies.collection import Collection
from equihash.search import InvertedIndex, probe_codes

PROBES_AT_ONCE = 2**18


@dataclass(frozen=True)
class Group:
    """Pictures that are taken for copies of each other.

    Attributes
    ----------
    rows : list of int
        Their places in the collection; the picture with the most pixels first.
    nb_fingerprints : int
        Different fingerprints among them: 1, unless probing has connected some.
    """

    rows: list[int]
    nb_fingerprints: int


def find_groups(collection: Collection, nb_lookups: int = 1) -> list[Group]:
    """Return the groups of two or more pictures, the largest first.

    Pictures with equal fingerprints are in one group. With more lookups, so are two pictures where the fingerprint of
    one is among the `nb_lookups` most probable ones of the other, and all that are connected by such pairs. Groups do
    not depend on the order of the pictures.
    """
    codes, of_picture = _distinct(collection.logits > 0)
    of_code = np.arange(len(codes)) if nb_lookups == 1 else _connected(collection.logits, codes, of_picture, nb_lookups)
    group_of = of_code[of_picture]
    order = np.argsort(group_of, kind="stable")
    groups = []
    for rows in np.split(order, 1 + np.flatnonzero(np.diff(group_of[order]))):
        if len(rows) > 1:
            groups.append(Group(_by_size(rows.tolist(), collection), len(np.unique(of_picture[rows]))))
    return sorted(groups, key=lambda group: (-len(group.rows), min(group.rows)))


def find_copies(collection: Collection, logits: np.ndarray, nb_lookups: int = 1) -> list[int]:
    """Return the rows of the pictures with one of the most probable fingerprints of a query, the most probable first.

    `logits` are the query's, float (k,).
    """
    index = InvertedIndex.build(np.packbits(collection.logits > 0, axis=1))
    return index.lookup(probe_codes(logits[None], nb_lookups)[0])[1].tolist()


def _distinct(bits):
    """Return the different fingerprints of bool (N, k), packed, and which of them each picture has."""
    codes = np.packbits(bits, axis=1)
    values = np.ascontiguousarray(codes).view(f"V{codes.shape[1]}").ravel()
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return codes[first], inverse


def _connected(logits, codes, of_picture, nb_lookups):
    """Return the connected component of each of the different fingerprints."""
    index = InvertedIndex.build(codes)
    at_once = max(PROBES_AT_ONCE // nb_lookups, 1)
    starts, ends = [], []
    for first in range(0, len(logits), at_once):
        some = slice(first, first + at_once)
        probes = probe_codes(logits[some], nb_lookups)
        offsets, found = index.lookup(probes.reshape(-1, codes.shape[1]))
        nb_found = np.diff(offsets[::nb_lookups])
        edges = np.unique(np.stack([np.repeat(of_picture[some], nb_found), found]), axis=1)
        starts.append(edges[0])
        ends.append(edges[1])
    starts, ends = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(starts), bool), (starts, ends)), (len(codes), len(codes)))
    return connected_components(graph, directed=False)[1]


def _by_size(rows, collection):
    def key(row):
        picture = collection.pictures[row]
        return -picture.width * picture.height, -picture.nb_bytes, picture.name

    return sorted(rows, key=key)
