"""Confidence intervals of rates."""

import numpy as np

CONFIDENCE = 0.95
Interval = tuple[float, float]  # low, high


def clopper_pearson(successes: int, trials: int) -> Interval:
    """Exact binomial interval (Clopper and Pearson, 1934); (0, 1) without any trial."""
    if not trials:
        return 0.0, 1.0
    from scipy.stats import binomtest  # here, as it takes half a second

    interval = binomtest(int(successes), int(trials)).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def proportion(successes: int, trials: int) -> tuple[float, Interval]:
    """Estimate a probability: the rate, NaN without any trial, and its Clopper-Pearson interval."""
    return float(successes / trials) if trials else float("nan"), clopper_pearson(successes, trials)


def irrelevant_collision_rate(nb_collisions: int, database_size: int, nb_classes: int) -> tuple[float, Interval]:
    """Estimate P(same fingerprint | different class) from the internal collisions of a database.

    These are the pairs of items with equal fingerprints and different classes. The pairs of one database are dependent,
    so the interval is Chebyshev's. With x the dissonance rate P(same fingerprint and different class), estimated by
    2k/(n^2-n), alpha = 1/nb_classes the largest probability of a class and

        Var(x) <= 2/(n^2-n) * (x + (2n-4)(x+alpha)^1.5 - (2n-3)x^2),

    its bounds are the x where |estimate - x| = sqrt(Var(x) / (1-confidence)). Estimate and bounds are divided by
    gamma = 1 - 1/nb_classes, the probability that two classes differ; they are NaN and (0, 1) where no two items can be
    of different classes. Source: M. Duchesneau, Learning Deep Equihash Functions.
    """
    n = float(database_size)
    if n < 2 or nb_classes < 2:
        return float("nan"), (0.0, 1.0)
    from scipy.optimize import brentq  # here, as it takes half a second

    pairs = n * (n - 1) / 2
    estimate, alpha, gamma = nb_collisions / pairs, 1 / nb_classes, 1 - 1 / nb_classes

    def excess(log_x):
        """Negative where x is inside the interval; divided by x^2, as x is around 1e-12."""
        x = np.exp(log_x)
        terms = 1 / x + (2 * n - 4) * (x + alpha) ** 1.5 / x**2 - (2 * n - 3)
        return (estimate / x - 1) ** 2 - max(terms, 0) / pairs / (1 - CONFIDENCE)

    smallest, start, largest = np.log(1e-300) / 2, np.log(max(estimate, 1 / pairs)), 0.0
    low = high = None
    if estimate > 0 and excess(smallest) > 0:
        low = np.exp(brentq(excess, smallest, np.log(estimate), xtol=1e-14))
    if excess(largest) > 0 and estimate < 1:
        while estimate == 0 and excess(start) > 0:  # step inside the interval, which begins at 0
            start -= 1
        high = np.exp(brentq(excess, start, largest, xtol=1e-14))
    return estimate / gamma, (float(low or 0) / gamma, min(float(1 if high is None else high) / gamma, 1.0))
