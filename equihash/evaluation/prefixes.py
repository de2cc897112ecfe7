"""A database and all smaller ones at its beginning: what grows and what falls with the number of items.

The prefix of size n of a database is the database of its items 0 to n-1, with the fingerprints that they have anyway.
Its positive queries are those of the whole that have a relevant item in it, and what is relevant to one is what is
relevant in the whole and has an id less than n. A class is drawn into the queries by its first item, so these are a
fair sample of the classes of the prefix.

All positive queries are also asked as if their relevant items of the whole database were added to the prefix (PRR only;
see studies/prediction.py): there are many more of them in a small prefix.
"""

import numpy as np

SMALLEST = 1000


def prefix_sizes(database_size):
    """Sizes of the prefixes: 1,000, 10,000, ... up to half of the database, which together cost a fraction of it."""
    sizes = [SMALLEST]
    while sizes[-1] <= database_size // 2:
        sizes.append(10 * sizes[-1])
    return sizes[:-1]


def prefix_truth(ground_truth, size):
    """Return what is relevant to the positive queries in a prefix.

    Parameters
    ----------
    ground_truth : (offsets int64 (P+1), ids int64)
        Of the whole database.
    size : int
        Items of the prefix.

    Returns
    -------
    offsets int64 (P+1), ids int64
        Of the same queries; some may have no relevant item in the prefix.
    """
    offsets, ids = ground_truth
    inside = ids < size
    return np.concatenate([[0], np.cumsum(inside)])[offsets], ids[inside]
