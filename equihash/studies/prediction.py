"""The perfect retrieval rate in a database of any size, predicted from what was measured in smaller ones.

Let c be the probability that the L lookups of a query find all its relevant items (of one, its relevant collision
rate), and p the probability that they find an irrelevant item drawn at random (its irrelevant collision rate). Items
are drawn independently of each other, so that among N of them

    PRR(N) = E[c (1 - p)^N],    the mean over queries.

Classes are taken not to grow with the database, so c does not depend on N. If p were the same for all queries,

    PRR(N) = C exp(-N I),    C = E[c], I = E[p]

would follow from the mean rates alone (`from_mean_rates`). But queries differ by orders of magnitude in p: the few that
retrieve most of the irrelevant items make up the mean and spoil few answers, and in a larger database ever less
unlucky ones spoil theirs. log p is a sum over many bits, so `Prediction` takes it as normal (p as lognormal),

    PRR(N) = C E[exp(-N e^(m + s x))],    x standard normal,

with m and s fitted to the rates in the sizes measured. As s goes to 0 this is the formula above.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

NORMAL = np.linspace(-8, 8, 801)  # where the mean over x is taken
WEIGHTS = norm.pdf(NORMAL) / norm.pdf(NORMAL).sum()


@dataclass(frozen=True)
class Prediction:
    """The rate in a database of any size, for one network and one number of lookups.

    C is the share of queries whose relevant items are all found; `mean` and `deviation` are m and s, of the natural
    logarithm of the queries' irrelevant collision rates.
    """

    complete_rate: float
    mean: float
    deviation: float

    def __call__(self, size: float | np.ndarray) -> float | np.ndarray:
        """Perfect retrieval rate among `size` items."""
        return self.complete_rate * _nothing_else(size, self.mean, self.deviation)


def measured(results: dict, nb_lookups: int, largest: float = np.inf) -> dict[int, dict]:
    """What results.json has for one number of lookups, of the database and its prefixes of at most `largest` items.

    By size, ascending: the scores `with_relevant` and the number of queries, `nb_queries`.
    """
    sizes = results["database_sizes"]
    nb_queries = sizes[str(results["database_size"])]["nb_positive_queries"]
    return {
        int(size): {**row["lookups"][str(nb_lookups)]["with_relevant"], "nb_queries": nb_queries}
        for size, row in sizes.items() if int(size) <= largest
    }  # fmt: skip


def fit(rows: dict[int, dict]) -> Prediction:
    """Fit a `Prediction` to `measured` rows by maximum likelihood.

    C is the complete rate; of the complete answers, the number of those without an irrelevant item is binomial at
    each size.
    """
    sizes, last = np.array(list(rows)), rows[max(rows)]
    complete = last["nb_queries"] * last["complete_rate"]
    perfect = np.array([row["nb_queries"] * row["perfect_retrieval_rate"] for row in rows.values()])

    def surprise(parameters):
        share = np.clip(_nothing_else(sizes, *parameters), 1e-12, 1 - 1e-12)
        return -(perfect * np.log(share) + (complete - perfect) * np.log1p(-share)).sum()

    start = [np.log(max(last["irrelevant_pair_rate"], 1e-3 / max(rows))), 1.0]
    best = minimize(surprise, start, method="Nelder-Mead", bounds=[(-60, 5), (0, 20)], options={"maxiter": 2000})
    return Prediction(last["complete_rate"], *best.x.tolist())


def from_mean_rates(rows: dict[int, dict], size: float) -> float:
    """The rate among `size` items if all queries had the mean rates of the largest size measured."""
    last = rows[max(rows)]
    return last["complete_rate"] * np.exp(-size * last["irrelevant_pair_rate"])


def _nothing_else(size, mean, deviation):
    """Share of queries that find none of `size` irrelevant items: float or array, as `size` is."""
    expected = np.multiply.outer(np.asarray(size, dtype=float), np.exp(mean + deviation * NORMAL))
    return np.exp(-expected) @ WEIGHTS
