"""The perfect retrieval rate in a database of any size, predicted from what was measured in smaller ones.

Let c be the probability that the L lookups of a query find all its relevant items (its relevant collision rate, where
it has one), and p the probability that they find an irrelevant item drawn at random (its irrelevant collision rate).
Items are drawn independently of each other, so that among N of them

    PRR(N) = E[c (1 - p)^N],    the mean over queries.

Classes do not grow with the database, so c does not depend on N. If p were the same for all queries,

    PRR(N) = C exp(-N I),    C = E[c], I = E[p]

would follow from the mean rates alone (`from_mean_rates`). But queries differ by orders of magnitude in p, and the few
that retrieve most irrelevant items say nothing of the others: the mean rates promise far less than there is. The spread
is seen in how slowly the rate falls with N. `Prediction` describes p by a gamma distribution of scale s and shape a,
fitted to the rates in the sizes measured:

    PRR(N) = C (1 + s N)^-a.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize


@dataclass(frozen=True)
class Prediction:
    """The rate in a database of any size, for one network and one number of lookups.

    Attributes
    ----------
    complete_rate : float
        C, the share of queries whose relevant items are all found.
    scale, shape : float
        Of the gamma distribution of the queries' irrelevant collision rates.
    """

    complete_rate: float
    scale: float
    shape: float

    def __call__(self, size):
        """Perfect retrieval rate among `size` items: float or array, as `size` is."""
        return self.complete_rate * np.exp(-self.shape * np.log1p(self.scale * np.asarray(size, dtype=float)))


def measured(results, nb_lookups, largest=np.inf):
    """Scores of one number of lookups in the database and its prefixes of at most `largest` items, by size.

    Parameters
    ----------
    results : dict
        Of results.json.
    nb_lookups : int

    Returns
    -------
    dict of int to dict
        Of size, ascending, to scores and `nb_positive_queries`.
    """
    rows = {}
    for size, row in results["database_sizes"].items():
        if int(size) <= largest and row["nb_positive_queries"]:
            rows[int(size)] = {**row["lookups"][str(nb_lookups)], "nb_positive_queries": row["nb_positive_queries"]}
    return rows


def fit(rows):
    """Fit a `Prediction` to `measured` rows by maximum likelihood.

    The completeness is that of the largest size, which has the most queries; of the complete answers, the number
    that is perfect, too, is binomial at each size.
    """
    sizes = np.array(list(rows), dtype=float)
    complete = np.array([row["nb_positive_queries"] * row["complete_rate"] for row in rows.values()])
    perfect = np.array([row["nb_positive_queries"] * row["perfect_retrieval_rate"] for row in rows.values()])
    last = rows[max(rows)]

    def surprise(logarithms):
        scale, shape = np.exp(logarithms)
        log_share = np.minimum(-shape * np.log1p(scale * sizes), -1e-12)
        return -(perfect * log_share + (complete - perfect) * np.log(-np.expm1(log_share))).sum()

    start = np.log([max(last["irrelevant_pair_rate"], 1e-3 / max(rows)), 1.0])
    best = minimize(surprise, start, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-6, "fatol": 1e-6})
    scale, shape = np.exp(best.x)
    return Prediction(last["complete_rate"], float(scale), float(shape))


def from_mean_rates(rows, size):
    """The rate among `size` items if all queries had the mean rates of the largest size measured: float."""
    last = rows[max(rows)]
    return last["complete_rate"] * np.exp(-size * last["irrelevant_pair_rate"])
