"""Metrics against the official package's and the released code's own numbers, by hand, and on hostile input."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import xlogy
from sklearn.isotonic import IsotonicRegression

from spaarsist.config import CostModel
from spaarsist.evaluation.metrics import METRICS, RankedTrials, compute_metrics, det_curve
from spaarsist.names import ConfigError

GOLDEN = Path(__file__).parent / "golden" / "metrics"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())

# Few distinct values: ties within and across classes.
coarse = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=25)


def golden_scores(name):
    scores, key = (pd.read_csv(GOLDEN / f"{name}.{part}.tsv", sep="\t") for part in ("scores", "key"))
    trials = scores.merge(key, on="filename", validate="one_to_one")
    return [trials.loc[trials["cm-label"] == label, "cm-score"].to_numpy() for label in ("bonafide", "spoof")]


@pytest.mark.parametrize("name", EXPECTED)
def test_equals_the_official_package_and_the_released_code(name):
    got = compute_metrics(*golden_scores(name))
    official, released = EXPECTED[name]["official"], EXPECTED[name]["released_code"]
    for metric in ("eer", "min_dcf", "act_dcf", "cllr"):
        assert got[metric] == pytest.approx(official[metric], abs=1e-9), metric
    for ours, theirs in {"act_dcf_released": "act_dcf", "gap_released": "gap", "ece": "ece"}.items():
        assert got[ours] == pytest.approx(released[theirs], abs=1e-9), ours


@pytest.mark.parametrize("name", EXPECTED)
def test_counting_each_trial_once_changes_nothing(name):
    bonafide, spoof = golden_scores(name)
    ones = [np.ones(len(scores), np.uint8) for scores in (bonafide, spoof)]
    assert RankedTrials(bonafide, spoof).metrics(*ones) == compute_metrics(bonafide, spoof)


def test_by_hand():
    # Bona fide −1, 2, 4; spoofs −3, 0, 1 (0, 1 above −1). Thresholds: −log 1.9 = −0.64; log 10 = 2.30.
    got = compute_metrics([4, -1, 2], [0, -3, 1])
    assert got["eer"] == pytest.approx(1 / 3)
    assert got["min_dcf"] == pytest.approx(1.9 / 3)  # reject all spoofs and one bona fide: (1/3 · 0.95) / 0.5
    assert got["act_dcf"] == pytest.approx(1.9 / 3 + 2 / 3)
    assert got["act_dcf_released"] == pytest.approx(1.9 * 2 / 3)
    assert got["gap_released"] == pytest.approx(1.9 / 3)
    bits = np.log2(1 + np.exp([-4, 1, -2])).mean() + np.log2(1 + np.exp([0, -3, 1])).mean()
    assert got["cllr"] == pytest.approx(bits / 2)
    p_spoof = 1 / (1 + np.exp([4, -1, 2, 0, -3, 1]))  # each in a bin of its own
    assert got["ece"] == pytest.approx(np.abs(np.array([0, 0, 0, 1, 1, 1]) - p_spoof).mean())
    assert tuple(got) == METRICS


coarse_or_fine = st.one_of(coarse, st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=12))


@given(coarse_or_fine, coarse_or_fine)
@settings(max_examples=150, deadline=None)
def test_min_cllr_is_that_of_isotonic_regression(bonafide, spoof):
    """Of scikit-learn, on every trial; ties are given one value there as well."""
    scores, labels = np.concatenate([bonafide, spoof]), np.repeat([1, 0], [len(bonafide), len(spoof)])
    weights = np.repeat([0.5 / len(bonafide), 0.5 / len(spoof)], [len(bonafide), len(spoof)])
    p = IsotonicRegression(y_min=0, y_max=1).fit(scores, labels, weights).predict(scores)
    wanted = -np.sum(weights * (xlogy(labels, p) + xlogy(1 - labels, 1 - p))) / np.log(2)
    assert compute_metrics(bonafide, spoof)["min_cllr"] == pytest.approx(wanted, abs=1e-6)


def test_min_cllr_by_hand():
    """Calibration is not its business; order is. Bona fide -1 below spoofs 0, 1: one pool of 1/3 and 2/3."""
    got = compute_metrics([4, -1, 2], [0, -3, 1])["min_cllr"]
    pool = -(math.log2(1 / 3) / 3 + 2 * math.log2(2 / 3) / 3) / 2
    assert got == pytest.approx(pool)
    assert compute_metrics([40, -10, 20], [0, -30, 10])["min_cllr"] == pytest.approx(got)
    assert compute_metrics([1, 2], [-2, -1])["min_cllr"] == 0
    assert compute_metrics([-2, -1], [1, 2])["min_cllr"] == compute_metrics([1, 1], [1, 1])["min_cllr"] == 1


def test_cost_model_moves_threshold_and_normalisation():
    got = compute_metrics([4, -1, 2], [0, -3, 1], CostModel(p_spoof=0.5, c_miss=1, c_fa=1))
    assert got["act_dcf"] == got["act_dcf_released"] == pytest.approx(1 / 3 + 2 / 3)  # both thresholds are 0


def test_perfect_separation_and_its_opposite():
    assert compute_metrics([1, 2], [-2, -1])["eer"] == 0
    assert compute_metrics([-2, -1], [1, 2])["eer"] == 1
    assert compute_metrics([-2, -1], [1, 2])["min_dcf"] == 1


@given(coarse, coarse)
@settings(max_examples=150, deadline=None)
def test_corners_suffice(bonafide, spoof):
    """EER and minDCF, computed from the corners of the curve, equal a search over all of its points."""
    p_miss, p_fa, thresholds = det_curve(bonafide, spoof)
    assert p_miss[0] == 0 == p_fa[-1] and p_miss[-1] == 1 == p_fa[0]
    assert (np.diff(p_miss) >= 0).all() and (np.diff(p_fa) <= 0).all() and (np.diff(thresholds) >= 0).all()
    nearest = np.abs(p_miss - p_fa).argmin()
    got = compute_metrics(bonafide, spoof)
    assert got["eer"] == pytest.approx((p_miss[nearest] + p_fa[nearest]) / 2, abs=1e-12)
    assert got["min_dcf"] == pytest.approx((0.95 * p_miss + 0.5 * p_fa).min() / 0.5, abs=1e-12)
    assert got["min_dcf"] <= min(got["act_dcf"], got["act_dcf_released"]) + 1e-12
    assert 0 <= got["ece"] <= 1 and 0 <= got["min_dcf"] <= 1


@given(coarse, coarse)
@settings(max_examples=100, deadline=None)
def test_only_ranks_matter_to_eer_and_min_dcf(bonafide, spoof):
    got = compute_metrics(bonafide, spoof)
    warped = compute_metrics(np.exp(bonafide), np.exp(spoof))
    assert (got["eer"], got["min_dcf"]) == (warped["eer"], warped["min_dcf"])


def test_inverting_the_scores_inverts_the_eer():
    rng = np.random.default_rng(0)
    bonafide, spoof = rng.normal(1, 1, 400), rng.normal(0, 1, 300)
    turned = compute_metrics(-bonafide, -spoof)["eer"]
    assert turned == pytest.approx(1 - compute_metrics(bonafide, spoof)["eer"], abs=1 / 300)


@given(st.data(), coarse, coarse)
@settings(max_examples=150, deadline=None)
def test_weights_are_repetitions(data, bonafide, spoof):
    counts = [
        data.draw(st.lists(st.integers(0, 3), min_size=len(s), max_size=len(s)).filter(any)) for s in (bonafide, spoof)
    ]
    ranked = RankedTrials(bonafide, spoof)
    weighted = ranked.metrics(*counts)
    repeated = compute_metrics(np.repeat(bonafide, counts[0]), np.repeat(spoof, counts[1]))
    assert weighted == pytest.approx(repeated, abs=1e-12)
    together = ranked.metrics(*(np.array([np.ones(len(c), int), c, c]) for c in counts))
    for metric, once in compute_metrics(bonafide, spoof).items():
        wanted = [once, weighted[metric], weighted[metric]]
        assert together[metric] == pytest.approx(wanted, abs=1e-12), "resamples at once are resamples one by one"


def test_many_resamples_at_once_are_those_one_by_one():
    """Their classes may differ in size, and one regression serves all of them."""
    rng = np.random.default_rng(0)
    bonafide, spoof = np.round(rng.normal(1, 1, 90), 1), rng.normal(0, 1, 70)
    counts = [rng.integers(0, 4, (50, scores.size)) for scores in (bonafide, spoof)]
    ranked = RankedTrials(bonafide, spoof)
    together = ranked.metrics(*counts)
    for resample, given_counts in enumerate(zip(*counts, strict=True)):
        alone = ranked.metrics(*given_counts)
        assert {metric: values[resample] for metric, values in together.items()} == pytest.approx(alone, abs=1e-13)


def test_counts_may_be_large():
    """The product of two counts of 700,000 needs more than 32 bits; so does a sum of 2^31 and more."""
    bonafide, spoof = [0.0, 2.0], [-1.0, 1.0]
    counts = np.array([400_000, 300_000], np.int32), np.array([100_000, 600_000], np.uint32)
    weighted = RankedTrials(bonafide, spoof).metrics(*counts)
    assert weighted == pytest.approx(compute_metrics(*map(np.repeat, (bonafide, spoof), counts)), abs=1e-12)
    huge = RankedTrials(bonafide, spoof).metrics(*(c.astype(np.int64) * 2**33 for c in counts))
    assert huge == pytest.approx(weighted, abs=1e-5)


def test_small_types_of_counts_do_not_wrap_around():
    rng = np.random.default_rng(0)
    bonafide, spoof = rng.normal(1, 1, 300), rng.normal(0, 1, 300)
    counts = rng.integers(0, 256, (2, 300))
    wanted = RankedTrials(bonafide, spoof).metrics(*counts)
    assert RankedTrials(bonafide, spoof).metrics(*counts.astype(np.uint8)) == wanted


@pytest.mark.parametrize("counts", [[1, 1], [[1, 1, 1]], [1.0, 1.0, 1.0], [True] * 3, [[[1, 1, 1]]]])
def test_refuses_counts_that_are_not_one_integer_for_each_trial(counts):
    with pytest.raises(ConfigError, match=r"expected 3 integers|as many resamples"):
        RankedTrials([1.0, 2, 3], [0.0, 1, 2]).metrics(counts, [1, 1, 1])


@pytest.mark.parametrize(
    ("bonafide", "spoof", "complaint"),
    [
        ([], [1.0], "bona fide"),
        ([1.0], [], "spoof"),
        ([1.0, np.nan], [0.0], "1 of 2 bona fide"),
        ([1.0], [np.inf], "1 of 1 spoof"),
        ([[1.0]], [0.0], "shape"),
    ],
)
def test_refuses_unusable_scores(bonafide, spoof, complaint):
    for function in (compute_metrics, det_curve):
        with pytest.raises(ConfigError, match=complaint):
            function(bonafide, spoof)
