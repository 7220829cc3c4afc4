import numpy as np
import pytest
from sklearn import metrics as sk

from detector.training import metrics

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 300)
SCORES = np.round(LABELS * 1.2 + RNG.normal(0, 1, 300), 1)  # rounded, so that there are ties
PROBABILITIES = 1 / (1 + np.exp(-SCORES))


def test_class_weights_by_hand() -> None:
    assert metrics.class_weights(np.array([0, 0, 0, 1])).tolist() == pytest.approx([2 / 3, 2.0])


def test_areas_agree_with_scikit_learn() -> None:
    assert metrics.auc(LABELS, SCORES) == pytest.approx(sk.roc_auc_score(LABELS, SCORES))
    assert metrics.average_precision(LABELS, SCORES) == pytest.approx(
        sk.average_precision_score(LABELS, SCORES)
    )


def test_roc_agrees_with_scikit_learn() -> None:
    alarms, hits, _ = metrics.roc(LABELS, SCORES)
    theirs = sk.roc_curve(LABELS, SCORES, drop_intermediate=False)
    assert alarms == pytest.approx(theirs[0])
    assert hits == pytest.approx(theirs[1])


def test_losses_agree_with_scikit_learn() -> None:
    assert metrics.log_loss(LABELS, PROBABILITIES) == pytest.approx(
        sk.log_loss(LABELS, PROBABILITIES)
    )
    assert metrics.brier(LABELS, PROBABILITIES) == pytest.approx(
        sk.brier_score_loss(LABELS, PROBABILITIES)
    )


def test_confusion_agrees_with_scikit_learn() -> None:
    decided = SCORES > 0.3
    assert np.array_equal(metrics.confusion(LABELS, decided), sk.confusion_matrix(LABELS, decided))


def test_auc_by_hand() -> None:
    assert metrics.auc(np.array([0, 0, 1, 1]), np.array([1, 3, 2, 4])) == 0.75
    assert metrics.auc(np.array([0, 1]), np.array([5, 5])) == 0.5
    assert np.isnan(metrics.auc(np.array([1, 1]), np.array([1, 2])))


def test_equal_error_rate_by_hand() -> None:
    labels, scores = np.array([0, 0, 0, 0, 1, 1, 1, 1]), np.array([1, 2, 3, 6, 4, 5, 7, 8])
    assert metrics.equal_error_rate(labels, scores) == pytest.approx(0.25)
    assert metrics.equal_error_rate(np.array([0, 1]), np.array([0, 1])) == pytest.approx(0)


def test_calibration_error_by_hand() -> None:
    labels, p = np.array([0, 0, 0, 1, 1, 1]), np.array([0.2, 0.2, 0.2, 0.7, 0.7, 0.7])
    assert metrics.calibration_error(labels, p, bins=2) == pytest.approx((0.2 + 0.3) / 2)


def test_wilson_by_hand() -> None:
    low, high = metrics.wilson(0, 21)
    assert low == 0
    assert high == pytest.approx(0.155, abs=1e-3)
    assert metrics.wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_draws_groups() -> None:
    groups = np.repeat(np.arange(30), 10)
    low, high = metrics.bootstrap(groups, metrics.auc, LABELS, SCORES, rounds=200)
    assert low < metrics.auc(LABELS, SCORES) < high
    alone = metrics.bootstrap(np.zeros(300), metrics.auc, LABELS, SCORES, rounds=20)
    assert alone[0] == alone[1]


def test_scaling_finds_what_was_put_in() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, 40000)
    labels = rng.random(40000) < 1 / (1 + np.exp(-logits / 2.5))
    found = metrics.fit_scaling(labels, logits, ridge=0.0)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.bias == pytest.approx(0.0, abs=0.05)


def test_scaling_of_separable_clips_stays_finite() -> None:
    found = metrics.fit_scaling(np.array([0, 0, 1, 1]), np.array([-2.0, -1, 1, 2]))
    assert 0 < found.temperature < 10


def test_risk_falls_with_caution() -> None:
    coverage, risk = metrics.risk_coverage(LABELS, PROBABILITIES)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(((PROBABILITIES > 0.5) != LABELS).mean())
    assert risk[99] < risk[-1]  # the most certain third is wrong less often
