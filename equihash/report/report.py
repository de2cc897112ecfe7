"""Everything that is made of an evaluated database: results.json, pictures, report.html, and the table to print."""

from equihash.evaluation.encoded_database import EncodedDatabase
from equihash.evaluation.ranking import rank
from equihash.evaluation.results import evaluate_database
from equihash.evaluation.retrieval import count
from equihash.evaluation.shards import sum_of_shards
from equihash.experiment import DatabaseFiles
from equihash.fingerprints import load_index
from equihash.report.charts import draw_database_sizes, draw_hamming_distances, draw_lookups, draw_set_sizes
from equihash.report.gallery import draw_gallery
from equihash.report.page import write_page


def report(files: DatabaseFiles, nb_lookups: list[int] = (1,), nb_shards: int = 1, nb_ranked_queries: int = 0) -> dict:
    """Evaluate a database, write results.json, the pictures and report.html beside it, and return the results.

    Pictures of an earlier evaluation that this one does not make are removed.

    Parameters
    ----------
    nb_lookups
        Lookups a query, ascending from 1; empty: only the collision rates of the database and the triplets.
    nb_shards
        More than 1: sum what `count_shard` counted in each shard of the index. Then there is no gallery, which shows
        single items.
    nb_ranked_queries
        Positive queries to rank all items for; see `rank`.
    """
    database, index = EncodedDatabase(files), None
    database.start_verification()
    if nb_shards == 1:
        if nb_lookups:
            _ = database.loader  # for the gallery; if its images have changed, it is refused before the work, not after
        index = load_index(files, database.fingerprints)
        counts = count(database, index, nb_lookups)
    else:
        counts = sum_of_shards(database, nb_lookups, nb_shards)
    rankings = rank(database, nb_ranked_queries) if nb_ranked_queries else None
    results = evaluate_database(database, counts, rankings)
    positive, negative = (len(getattr(database.labels, f"{sign}_queries")) for sign in ("positive", "negative"))
    asked = bool(nb_lookups) and positive + negative > 0
    sizes = asked and positive > 0 and len(results["database_sizes"]) > 1
    pictures = [
        ("hamming_distances.png", True, draw_hamming_distances, results),
        ("lookups.png", asked and len(nb_lookups) > 1, draw_lookups, results),
        ("database_sizes.png", sizes, draw_database_sizes, results),
        ("set_sizes.png", asked, draw_set_sizes, results),
        ("gallery.png", asked and index is not None, draw_gallery, database, index),
    ]
    drawn = []
    for name, wanted, draw, *of in pictures:
        path = files.folder / name
        if wanted:
            draw(path, *of)
            drawn.append(name)
        else:
            path.unlink(missing_ok=True)
    write_page(files.folder / "report.html", files, results)
    print(f"{files.experiment}: {files.results}, report.html, {', '.join(drawn)}")
    return results
