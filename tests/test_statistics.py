"""The bootstrap: the right weights, the right spread, the same every time."""

import numpy as np
import pytest

from spaarsist.config import ConfigError
from spaarsist.evaluation import statistics
from spaarsist.evaluation.metrics import METRICS, RankedTrials, compute_metrics
from spaarsist.evaluation.statistics import bootstrap, percentile_interval


def spy(*weights):
    return {"weights": np.hstack(weights)}


def draw(n_bonafide=120, n_spoof=180, distance=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(distance, 1, n_bonafide), rng.normal(0, 1, n_spoof)


def test_resamples_within_class():
    weights = bootstrap({"spy": spy}, (7, 5), 200, seed=1)["spy"]["weights"]
    assert weights.shape == (200, 12) and weights.min() == 0
    assert (weights[:, :7].sum(axis=1) == 7).all() and (weights[:, 7:].sum(axis=1) == 5).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(12), abs=0.35)


def test_all_statistics_and_conditions_share_the_resamples():
    both = bootstrap({"a": spy, "b": spy}, (7, 5), 20, seed=1)
    assert np.array_equal(both["a"]["weights"], both["b"]["weights"])
    other_attack = bootstrap({"a": spy}, (7, 9), 20, seed=1)
    assert np.array_equal(both["a"]["weights"][:, :7], other_attack["a"]["weights"][:, :7])


def test_pairing_narrows_the_difference_of_similar_systems():
    bonafide, spoof = draw()
    ranked = {name: RankedTrials(bonafide + shift, spoof).metrics for name, shift in (("a", 0), ("b", 0.05))}
    replicates = bootstrap(ranked, (bonafide.size, spoof.size), 300)
    a, b = (replicates[name]["cllr"] for name in "ab")
    assert np.std(a - b) < 0.2 * np.std(a)


def test_seed_decides_and_memory_does_not(monkeypatch):
    bonafide, spoof = draw(30, 40)
    run = {"x": RankedTrials(bonafide, spoof).metrics}
    first = bootstrap(run, (30, 40), 50, seed=4)["x"]
    monkeypatch.setattr(statistics, "_BLOCK", 200)  # two replicates at a time
    again = bootstrap(run, (30, 40), 50, seed=4)["x"]
    other = bootstrap(run, (30, 40), 50, seed=5)["x"]
    for metric in METRICS:
        assert first[metric] == pytest.approx(again[metric], abs=1e-12)
        assert first[metric].shape == (50,)
    assert not np.array_equal(first["cllr"], other["cllr"])


def test_replicate_is_the_metric_of_the_resampled_trials():
    bonafide, spoof = (np.round(scores, 1) for scores in draw(25, 30))  # with ties
    weights = bootstrap({"spy": spy}, (25, 30), 10, seed=2)["spy"]["weights"]
    replicates = bootstrap({"x": RankedTrials(bonafide, spoof).metrics}, (25, 30), 10, seed=2)["x"]
    for row, counts in enumerate(weights):
        wanted = compute_metrics(np.repeat(bonafide, counts[:25]), np.repeat(spoof, counts[25:]))
        assert {metric: replicates[metric][row] for metric in METRICS} == pytest.approx(wanted, abs=1e-12)


def test_intervals_cover_the_truth():
    """The true EER of N(2, 1) against N(0, 1) is Φ(−1) = 15.87 %; 95 % intervals should hold it about that often."""
    held = 0
    for seed in range(100):
        bonafide, spoof = draw(150, 150, seed=seed)
        replicates = bootstrap({"x": RankedTrials(bonafide, spoof).metrics}, (150, 150), 200, seed)["x"]
        low, high = percentile_interval(replicates["eer"], 0.95)
        held += low <= 0.158655 <= high
    assert 87 <= held <= 100


def test_interval_widens_with_confidence():
    replicates = np.linspace(0, 1, 1001)
    assert percentile_interval(replicates, 0.9) == pytest.approx((0.05, 0.95))
    assert percentile_interval(replicates, 0.5) == pytest.approx((0.25, 0.75))


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.1])
def test_refuses_confidence_out_of_range(confidence):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        percentile_interval(np.arange(5.0), confidence)


@pytest.mark.parametrize(("sizes", "n"), [((0, 3), 10), ((3, 3), 0)])
def test_refuses_empty_bootstraps(sizes, n):
    with pytest.raises(ConfigError, match="needs replicates and trials"):
        bootstrap({"spy": spy}, sizes, n)
