"""The metrics: what each is called, what it means, how it is computed and written. Adding one is one entry."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from equihash.evaluation.intervals import irrelevant_collision_rate, proportion


@dataclass(frozen=True)
class Answers:
    """What the queries retrieve with one number of lookups.

    Attributes
    ----------
    retrieved, relevant, relevant_retrieved : int64 (P,)
        Numbers of items, of the positive queries.
    negative_retrieved : int64 (Q,)
        Of the negative queries, to which nothing is relevant.
    database_size : int
    """

    retrieved: np.ndarray
    relevant: np.ndarray
    relevant_retrieved: np.ndarray
    negative_retrieved: np.ndarray
    database_size: int

    @property
    def sound(self):
        """Whether nothing irrelevant is retrieved: bool (P,)."""
        return self.retrieved == self.relevant_retrieved

    @property
    def complete(self):
        """Whether everything relevant is retrieved: bool (P,)."""
        return self.relevant == self.relevant_retrieved

    @property
    def nb_irrelevant(self):
        """Irrelevant items that all queries together retrieve."""
        return (self.retrieved - self.relevant_retrieved).sum() + self.negative_retrieved.sum()

    @property
    def nb_queries(self):
        return len(self.retrieved) + len(self.negative_retrieved)


@dataclass(frozen=True)
class Pairs:
    """How near each other the fingerprints of pairs of instances are.

    Attributes
    ----------
    positive_distances, negative_distances : int64 (k+1,)
        Histograms of the Hamming distances of pairs of one class, and of two.
    internal_collisions : int
        Pairs of items of the database with the same fingerprint and different classes.
    database_size, nb_classes : int
    """

    positive_distances: np.ndarray
    negative_distances: np.ndarray
    internal_collisions: int
    database_size: int
    nb_classes: int


@dataclass(frozen=True)
class Metric:
    """A number that says how good a network is.

    Attributes
    ----------
    key : str
        Its key in results.json and its column in CSV files.
    meaning : str
    of : type
        `Answers`: there is a value for each number of lookups; `Pairs`: one for the network.
    compute : callable
        Takes an instance of that; returns the value and its 95% interval (low, high) or None.
    short : str or None
        Its name at the head of a table; None: it is in results.json only.
    higher_is_better : bool
    scientific : bool
        Written like 5.2e-8; else like .513.
    in_prefixes : bool
        Measured in the prefixes of the database, too (see prefixes.py).
    """

    key: str
    meaning: str
    of: type
    compute: Callable
    short: str | None = None
    higher_is_better: bool = True
    scientific: bool = False
    in_prefixes: bool = False

    @property
    def name(self):
        return self.key.replace("_", " ")

    def format(self, value):
        return self._scientific(value, 1) if self.scientific else format_rate(value)

    def format_interval(self, interval):
        bounds = (self._scientific(bound, 0) if self.scientific else format_rate(bound) for bound in interval)
        return f"[{' '.join(bounds)}]"

    @staticmethod
    def _scientific(value, digits):
        return "-" if math.isnan(value) else f"{value:.{digits}e}".replace("e+00", "").replace("e-0", "e-")


def _share(holds):
    """Of how many it holds: bool (n,) to the rate and its interval."""
    return proportion(holds.sum(), len(holds))


def _average_jaccard_index(answers):
    union = answers.retrieved + answers.relevant - answers.relevant_retrieved
    jaccard = np.where(union > 0, answers.relevant_retrieved / np.maximum(union, 1), 1.0)
    return jaccard.mean() if len(jaccard) else math.nan, None


def _irrelevant_pair_rate(answers):
    nb_pairs = answers.nb_queries * answers.database_size - answers.relevant.sum()
    return answers.nb_irrelevant / max(nb_pairs, 1), None


#: In the order of the columns of tables.
METRICS = {
    metric.key: metric
    for metric in (
        Metric(
            "perfect_retrieval_rate",
            "share of positive queries that retrieve exactly the items of their class",
            Answers,
            lambda answers: _share(answers.sound & answers.complete),
            short="PRR",
            in_prefixes=True,
        ),
        Metric(
            "recall",
            "share of the relevant items that are retrieved",
            Answers,
            lambda answers: proportion(answers.relevant_retrieved.sum(), answers.relevant.sum()),
            short="recall",
            in_prefixes=True,
        ),
        Metric(
            "sound_rate",
            "share of positive queries that retrieve nothing irrelevant",
            Answers,
            lambda answers: _share(answers.sound),
            in_prefixes=True,
        ),
        Metric(
            "complete_rate",
            "share of positive queries that retrieve everything relevant",
            Answers,
            lambda answers: _share(answers.complete),
            in_prefixes=True,
        ),
        Metric(
            "true_positive_rate",
            "share of positive queries that retrieve anything",
            Answers,
            lambda answers: _share(answers.retrieved > 0),
            short="TPR",
        ),
        Metric(
            "false_positive_rate",
            "share of negative queries that retrieve anything",
            Answers,
            lambda answers: _share(answers.negative_retrieved > 0),
            short="FPR",
            higher_is_better=False,
        ),
        Metric(
            "average_jaccard_index",
            "overlap of the retrieved and the relevant set; two empty ones are the same",
            Answers,
            _average_jaccard_index,
        ),
        Metric(
            "irrelevant_per_query",
            "irrelevant items that a query retrieves, in the mean",
            Answers,
            lambda answers: (answers.nb_irrelevant / max(answers.nb_queries, 1), None),
            higher_is_better=False,
        ),
        Metric(
            "irrelevant_pair_rate",
            "share of the irrelevant pairs of a query and an item that are retrieved",
            Answers,
            _irrelevant_pair_rate,
            higher_is_better=False,
            scientific=True,
        ),
        Metric(
            "relevant_collision_rate",
            "probability that two instances of one class have the same fingerprint",
            Pairs,
            lambda pairs: proportion(pairs.positive_distances[0], pairs.positive_distances.sum()),
            short="RCR",
        ),
        Metric(
            "irrelevant_collision_rate",
            "probability that two instances of different classes have the same fingerprint",
            Pairs,
            lambda pairs: irrelevant_collision_rate(pairs.internal_collisions, pairs.database_size, pairs.nb_classes),
            short="ICR",
            higher_is_better=False,
            scientific=True,
        ),
    )
}


def columns():
    """The metrics that tables show: list of `Metric`."""
    return [metric for metric in METRICS.values() if metric.short]


def score(counts):
    """Compute all metrics of `Answers` or of `Pairs`.

    Returns
    -------
    dict
        Of key to value, float; under `intervals` a dict of key to (low, high), of those that have an interval.
    """
    found = {metric.key: metric.compute(counts) for metric in METRICS.values() if metric.of is type(counts)}
    intervals = {key: interval for key, (_, interval) in found.items() if interval}
    return {**{key: float(value) for key, (value, _) in found.items()}, "intervals": intervals}


def format_rate(value):
    """Write a rate with three digits, ".513"; 1.00 is exactly 1, so that what only rounds to it is .999."""
    if math.isnan(value):
        return "-"
    return f"{min(value, 0.999):.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"
