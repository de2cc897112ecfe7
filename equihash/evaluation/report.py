"""Everything that is made of an evaluated database: results.json, pictures, and the table to print."""

from equihash.evaluation.pictures import draw_gallery, draw_hamming_distances
from equihash.evaluation.retrieval import EncodedDatabase, evaluate_database


def report(files, nb_lookups=(1,), queries=True):
    """Evaluate a database, write results.json and the pictures beside it, and return the results.

    See `equihash.evaluation.retrieval.evaluate_database` for the parameters.
    """
    database = EncodedDatabase(files)
    if queries:
        database.loader  # for the gallery; its images may have changed: better said before the work than after
    results = evaluate_database(database, nb_lookups, queries)
    draw_hamming_distances(files.folder / "hamming_distances.png", results)
    if queries:
        draw_gallery(files.folder / "gallery.png", database)
    print(f"{files.experiment}: {files.results}, hamming_distances.png{', gallery.png' if queries else ''}")
    return results
