"""The table of metrics: what each is called, what it means, how it is computed and written. A new one is one entry."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from equihash.evaluation.average_precision import AveragePrecision, average_precision
from equihash.evaluation.intervals import Interval, irrelevant_collision_rate, proportion


@dataclass(frozen=True)
class Answers:
    """What the queries retrieve with one number of lookups: numbers of items.

    `retrieved`, `relevant` and `relevant_retrieved` are of the positive queries, int64 (P,); `negative_retrieved` is of
    the negative ones, int64 (Q,), to which nothing is relevant.
    """

    retrieved: np.ndarray
    relevant: np.ndarray
    relevant_retrieved: np.ndarray
    negative_retrieved: np.ndarray
    database_size: int

    @property
    def sound(self) -> np.ndarray:
        """Whether nothing irrelevant is retrieved: bool (P,)."""
        return self.retrieved == self.relevant_retrieved

    @property
    def complete(self) -> np.ndarray:
        """Whether everything relevant is retrieved: bool (P,)."""
        return self.relevant == self.relevant_retrieved

    @property
    def nb_irrelevant(self) -> int:
        """Irrelevant items that all queries together retrieve."""
        return (self.retrieved - self.relevant_retrieved).sum() + self.negative_retrieved.sum()

    @property
    def nb_queries(self) -> int:
        return len(self.retrieved) + len(self.negative_retrieved)


@dataclass(frozen=True)
class Pairs:
    """How similar the fingerprints of pairs of instances are.

    The distances are histograms of Hamming distances, int64 (k+1,), of pairs of one class and of pairs of two. Internal
    collisions are pairs of items of the database with the same fingerprint and different classes.
    """

    positive_distances: np.ndarray
    negative_distances: np.ndarray
    internal_collisions: int
    database_size: int
    nb_classes: int


@dataclass(frozen=True)
class Rankings:
    """How near the items of the database are to some positive queries, counted only where that is asked for.

    Histograms of Hamming distances, int64 (Q, k+1): of all items, and of those relevant to the query.
    """

    items: np.ndarray
    relevant: np.ndarray

    @cached_property
    def average_precision(self) -> AveragePrecision:
        return average_precision(self.items, self.relevant)


def format_rate(value: float) -> str:
    """Write a rate with three digits, ".513"; 1.00 is exactly 1, so that what only rounds to it is .999."""
    if math.isnan(value):
        return "-"
    return f"{min(value, 0.999):.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def format_power(value: float, digits: int = 1) -> str:
    """Write a number that may be tiny with its power of ten, "5.2e-8"."""
    return "-" if math.isnan(value) else f"{value:.{digits}e}".replace("e+00", "").replace("e-0", "e-")


def format_number(value: float) -> str:
    """Write a number of any size with three digits, "0.0375" or "290"."""
    return "-" if math.isnan(value) else f"{value:.3g}"


@dataclass(frozen=True)
class Metric:
    """A number that says how good a network is.

    Attributes
    ----------
    key
        Its key in results.json and its column in CSV files.
    short
        Its name at the head of a table; None: it is in results.json only.
    of
        `Answers`: there is a value for each number of lookups; `Pairs`: one for the network; `Rankings`: one for the
        network, if they were counted.
    compute
        Takes an instance of that; returns the value and its 95% interval or None.
    format
        Writes a value.
    in_prefixes
        Whether it is also measured in the prefixes of the database (see `prefix_sizes`).
    """

    key: str
    short: str | None
    meaning: str
    of: type
    compute: Callable[..., tuple[float, Interval | None]]
    higher_is_better: bool = True
    format: Callable[[float], str] = format_rate
    in_prefixes: bool = False

    @property
    def name(self) -> str:
        return self.key.replace("_", " ")

    def format_interval(self, interval: Interval) -> str:
        write = partial(format_power, digits=0) if self.format is format_power else self.format
        return f"[{' '.join(map(write, interval))}]"


def _share(holds):
    """The share of those that are true, bool (n,), and its interval."""
    return proportion(holds.sum(), len(holds))


def _average_jaccard_index(answers):
    union = answers.retrieved + answers.relevant - answers.relevant_retrieved
    jaccard = np.where(union > 0, answers.relevant_retrieved / np.maximum(union, 1), 1.0)
    return jaccard.mean() if len(jaccard) else math.nan, None


def _irrelevant_pair_rate(answers):
    nb_pairs = answers.nb_queries * answers.database_size - answers.relevant.sum()
    return answers.nb_irrelevant / max(nb_pairs, 1), None


def _mean_average_precision(order, rankings):
    values = getattr(rankings.average_precision, order)
    return values.mean() if len(values) else math.nan, None


#: In the order of the columns of tables.
METRICS = {metric.key: metric for metric in (
    Metric("perfect_retrieval_rate", "PRR", "share of positive queries that retrieve exactly the items of their class",
           Answers, lambda answers: _share(answers.sound & answers.complete), in_prefixes=True),
    Metric("recall", "recall", "share of the relevant items that are retrieved",
           Answers, lambda answers: proportion(answers.relevant_retrieved.sum(), answers.relevant.sum()),
           in_prefixes=True),
    Metric("sound_rate", None, "share of positive queries that retrieve nothing irrelevant",
           Answers, lambda answers: _share(answers.sound), in_prefixes=True),
    Metric("complete_rate", None, "share of positive queries that retrieve everything relevant",
           Answers, lambda answers: _share(answers.complete), in_prefixes=True),
    Metric("true_positive_rate", "TPR", "share of positive queries that retrieve anything",
           Answers, lambda answers: _share(answers.retrieved > 0)),
    Metric("false_positive_rate", "FPR", "share of negative queries that retrieve anything",
           Answers, lambda answers: _share(answers.negative_retrieved > 0), higher_is_better=False),
    Metric("average_jaccard_index", None, "overlap of the retrieved and the relevant set; two empty ones are the same",
           Answers, _average_jaccard_index),
    Metric("irrelevant_per_query", None, "mean number of irrelevant items that a query retrieves",
           Answers, lambda answers: (answers.nb_irrelevant / max(answers.nb_queries, 1), None),
           higher_is_better=False, format=format_number),
    Metric("irrelevant_pair_rate", None, "share of the irrelevant pairs of a query and an item that are retrieved",
           Answers, _irrelevant_pair_rate, higher_is_better=False, format=format_power),
    Metric("relevant_collision_rate", "RCR", "probability that two instances of one class have the same fingerprint",
           Pairs, lambda pairs: proportion(pairs.positive_distances[0], pairs.positive_distances.sum())),
    Metric("irrelevant_collision_rate", "ICR",
           "probability that two instances of different classes have the same fingerprint", Pairs,
           lambda pairs: irrelevant_collision_rate(pairs.internal_collisions, pairs.database_size, pairs.nb_classes),
           higher_is_better=False, format=format_power),
    Metric("mean_average_precision", "MAP",
           "mean, over a sample of the positive queries, of the average precision of all items ranked by Hamming "
           "distance; of items at the same distance, the mean over their orders",
           Rankings, partial(_mean_average_precision, "expected")),
    Metric("optimistic_mean_average_precision", None, "the same with relevant items first among those tied",
           Rankings, partial(_mean_average_precision, "optimistic")),
    Metric("pessimistic_mean_average_precision", None, "the same with relevant items last among those tied",
           Rankings, partial(_mean_average_precision, "pessimistic")),
)}  # fmt: skip


def columns(rows: Iterable[dict]) -> list[Metric]:
    """The metrics that a table of some values, {key: value}, shows: those of `Rankings` only if a row has them."""
    keys = set().union(*rows)
    return [metric for metric in METRICS.values() if metric.short and (metric.of is not Rankings or metric.key in keys)]


def score(counts: Answers | Pairs | Rankings) -> dict:
    """Compute all metrics of some counts: {key: value}, and under `intervals` {key: interval} where there is one."""
    found = {metric.key: metric.compute(counts) for metric in METRICS.values() if metric.of is type(counts)}
    intervals = {key: interval for key, (_, interval) in found.items() if interval}
    return {**{key: float(value) for key, (value, _) in found.items()}, "intervals": intervals}
