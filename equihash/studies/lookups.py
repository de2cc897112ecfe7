"""How many lookups pay in a database of what size: the numbers of several evaluated networks."""

from dataclasses import dataclass

from equihash.errors import Remedy, UserError
from equihash.evaluation.collect import read_tables
from equihash.evaluation.results import fingerprints_of
from equihash.experiment import DatabaseFiles
from equihash.studies.prediction import Prediction, fit, from_mean_rates, measured


@dataclass
class Row:
    """One network with one number of lookups.

    Attributes
    ----------
    irrelevant
        Irrelevant items per query, at the largest size.
    rates
        The perfect retrieval rate, by size, of all queries: see `measured`.
    prediction
        From all sizes.
    checks
        The rate at the largest size, predicted from at most so many items, of the two largest sizes below it.
    by_mean_rates
        The same from the mean rates in the largest size below it.
    """

    name: str
    nb_lookups: int
    recall: float
    irrelevant: float
    rates: dict[int, float]
    prediction: Prediction
    checks: dict[int, float]
    by_mean_rates: float


def study(
    task: str,
    database: str,
    models: list[str] = (),
    variant: str | None = None,
    nb_lookups: list[int] | None = None,
    which: str = "test",
) -> list[Row]:
    """Return the rows of all evaluated networks that `read_tables` finds; nb_lookups None: all of each network.

    Raises
    ------
    UserError
        There are no results, or they are of too small a database, of other numbers of lookups, or of several labels.
    """
    rows, labels = [], set()
    for table in read_tables(task, database, models, variant, which):
        for row, results in table.results.items():
            files = DatabaseFiles(table.experiments[row], database, which)
            of_network = results.get("lookups", {})
            name = f"{table.model} {results['name']}"
            sizes = list(results.get("database_sizes", {}).values())
            if len(sizes) < 3 or not sizes[-1]["nb_positive_queries"] or not _of_this_version(sizes[0]):
                needed = "positive queries, 20,000 items and results of this version"
                raise UserError(f"{name} needs {needed}: evaluate it again")
            labels.add((results["database_size"], fingerprints_of(results).get("labels")))
            for number in nb_lookups or map(int, of_network):
                if str(number) not in of_network:
                    raise UserError(f"{name} lacks {number} lookups", Remedy("report", files, nb_lookups=nb_lookups))
                rows.append(_row(name, number, results))
    if len(labels) > 1:
        raise UserError(f"results of {len(labels)} different {database}: encode and evaluate all with the same labels")
    if not rows:
        raise UserError(f"no results of {database} yet: evaluate networks on it, e.g. with --nb_lookups 1 4 16 64")
    return rows


def _of_this_version(part):
    return all("with_relevant" in scores for scores in part["lookups"].values())


def _row(name, number, results):
    scores, of_all = measured(results, number), results["lookups"][str(number)]
    *_, before, last, largest = sorted(scores)
    return Row(
        name,
        number,
        of_all["recall"],
        of_all["irrelevant_per_query"],
        {size: row["perfect_retrieval_rate"] for size, row in scores.items()},
        fit(scores),
        {size: float(fit(measured(results, number, size))(largest)) for size in (before, last)},
        float(from_mean_rates(measured(results, number, last), largest)),
    )
