"""Metrics: pure functions of labels (1 is fake) and scores or probabilities.

A bootstrap calls them a thousand times. scikit-learn's functions check their arguments on each call
and take 2 to 300 times as long, so the tests compare these with those.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import binomtest, rankdata

Numbers = np.ndarray
EPSILON = 1e-7
TEMPERATURES = 0.3, 30.0  # range; outside it the logits carry no usable information


def class_weights(labels: Numbers, classes: int = 2) -> Numbers:
    """The paper's cost-sensitive weights: n / (classes x n_class), for each class."""
    counts = np.bincount(np.asarray(labels, int), minlength=classes).astype(float)
    return np.divide(counts.sum(), classes * counts, out=np.zeros_like(counts), where=counts > 0)


def auc(labels: Numbers, scores: Numbers) -> float:
    """Area under the ROC curve; NaN if there is only one class."""
    labels = np.asarray(labels, bool)
    fakes, reals = int(labels.sum()), int((~labels).sum())
    if not fakes or not reals:
        return float("nan")
    total = rankdata(scores)[labels].sum()
    return float((total - fakes * (fakes + 1) / 2) / (fakes * reals))


def roc(labels: Numbers, scores: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """(false alarm rates, hit rates, thresholds), from the highest threshold down."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    order = np.argsort(-scores, kind="stable")
    scores, labels = scores[order], labels[order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    hits = np.cumsum(labels)[ends] / max(1, labels.sum())
    alarms = np.cumsum(~labels)[ends] / max(1, (~labels).sum())
    return (
        np.append(0.0, alarms), np.append(0.0, hits), np.append(np.inf, scores[ends])
    )  # fmt: skip


def equal_error_rate(labels: Numbers, scores: Numbers) -> float:
    """The rate at which false alarms and misses are equally frequent."""
    alarms, hits, _ = roc(labels, scores)
    gap = alarms - (1 - hits)
    after = int(np.argmax(gap >= 0))
    if after == 0:
        return float(alarms[0])
    part = -gap[after - 1] / (gap[after] - gap[after - 1] + 1e-12)
    return float(alarms[after - 1] + part * (alarms[after] - alarms[after - 1]))


def average_precision(labels: Numbers, scores: Numbers) -> float:
    """Precision averaged over the fakes in the order of their scores."""
    labels, scores = np.asarray(labels, bool), np.asarray(scores, float)
    if not labels.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    hits = np.cumsum(labels)[ends]
    return float((np.diff(np.append(0, hits)) / labels.sum() * hits / (ends + 1)).sum())


def confusion(labels: Numbers, decided: Numbers) -> Numbers:
    """The confusion matrix: rows are true labels (real, fake), columns decisions."""
    table = np.zeros((2, 2), int)
    np.add.at(table, (np.asarray(labels, int), np.asarray(decided, int)), 1)
    return table


def decision_figures(labels: Numbers, decided: Numbers) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 for fakes."""
    (_, alarms), (misses, hits) = confusion(labels, decided)
    precision = hits / max(1, hits + alarms)
    recall = hits / max(1, hits + misses)
    return {
        "accuracy": float((np.asarray(labels, bool) == np.asarray(decided, bool)).mean()),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(2 * precision * recall / max(precision + recall, EPSILON)),
    }


def log_loss(labels: Numbers, probabilities: Numbers) -> float:
    """Mean negative log likelihood."""
    p = np.clip(np.asarray(probabilities, float), EPSILON, 1 - EPSILON)
    labels = np.asarray(labels, float)
    return float(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean())


def brier(labels: Numbers, probabilities: Numbers) -> float:
    """Mean squared error of the probabilities."""
    return float(((np.asarray(probabilities, float) - np.asarray(labels, float)) ** 2).mean())


def reliability(
    labels: Numbers, probabilities: Numbers, bins: int = 10
) -> list[tuple[float, float, int]]:
    """(mean probability, fraction of fakes, count) of each bin; bins hold equally many."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    return [(float(probabilities[p].mean()), float(labels[p].mean()), len(p)) for p in parts]


def calibration_error(labels: Numbers, probabilities: Numbers, bins: int = 10) -> float:
    """Expected calibration error over bins of equal size."""
    probability, fakes, count = np.array(reliability(labels, probabilities, bins)).T
    return float(np.average(np.abs(probability - fakes), weights=count))


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion; (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    low, high = binomtest(hits, total).proportion_ci(0.95, "wilson")
    return float(low), float(high)


def bootstrap(
    groups: Numbers,
    figure: Callable[..., float],
    *arrays: Numbers,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a figure, resampling whole groups.

    Args:
        groups: (n,), the group of each sample.
        figure: a function of the arrays.
        arrays: (n,) each.
        rounds: number of resamples; those whose figure is not finite do not count.
        seed: of the resampling.

    Returns:
        (low, high); NaN if the figure is never finite.
    """
    rng = np.random.default_rng(seed)
    _, inverse = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(inverse == g) for g in range(inverse.max() + 1)]
    values = []
    for _ in range(rounds):
        drawn = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        value = figure(*(a[drawn] for a in arrays))
        if np.isfinite(value):
            values.append(value)
    if not values:
        return float("nan"), float("nan")
    return float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))


def risk_coverage(labels: Numbers, probabilities: Numbers) -> tuple[Numbers, Numbers]:
    """(fraction of clips answered, fraction of those that are wrong), the most certain first."""
    labels, p = np.asarray(labels, bool), np.asarray(probabilities, float)
    order = np.argsort(-np.abs(p - 0.5), kind="stable")
    wrong = ((p > 0.5) != labels)[order]
    counts = np.arange(1, len(p) + 1)
    return counts / len(p), np.cumsum(wrong) / counts


@dataclass(frozen=True)
class Scaling:
    """Platt scaling: probability = sigmoid(logit / temperature + bias)."""

    temperature: float
    bias: float

    def probabilities(self, logits: Numbers) -> Numbers:
        """The probabilities of logits."""
        return expit(np.asarray(logits, float) / self.temperature + self.bias)


def fit_scaling(labels: Numbers, logits: Numbers, *, ridge: float = 0.02) -> Scaling:
    """Fit temperature and bias by log loss with both classes weighted equally.

    Args:
        labels: (n,), 1 for fake.
        logits: (n,).
        ridge: L2 penalty, which keeps the slope finite if the clips are separable.

    Raises:
        ValueError: only one class is given.
    """
    labels, logits = np.asarray(labels, float), np.asarray(logits, float)
    if not 0 < labels.sum() < len(labels):
        raise ValueError("both classes are needed")
    weights = class_weights(labels)[labels.astype(int)] / len(labels)
    deviation = logits.std() + 1e-6
    features = np.stack([logits / deviation, np.ones_like(logits)], 1)

    def loss(line: Numbers) -> tuple[float, Numbers]:
        """The loss of (slope, bias), and its gradient."""
        z = features @ line
        value = (weights * (np.logaddexp(0, z) - labels * z)).sum() + ridge * (line**2).sum() / 2
        return float(value), features.T @ (weights * (expit(z) - labels)) + ridge * line

    slope, bias = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    temperature = float(np.clip(deviation / max(slope, 1e-3), *TEMPERATURES))
    return Scaling(temperature, float(bias))
