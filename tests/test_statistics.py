"""The bootstrap: the right counts, the right spread, the same every time. Tests: textbook numbers, nominal errors."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from spaarsist.evaluation.metrics import METRICS, RankedTrials, compute_metrics
from spaarsist.evaluation.statistics import (
    FISHER,
    LOG,
    LOGIT,
    SpeakerResampling,
    TrialResampling,
    bootstrap,
    holm,
    interval_of_mean,
    percentile_interval,
    t_test,
)
from spaarsist.names import ConfigError


def draw(n_bonafide=120, n_spoof=180, distance=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(distance, 1, n_bonafide), rng.normal(0, 1, n_spoof)


class TestTrials:
    def test_class_sizes_stay(self):
        draws = [TrialResampling((7, 5), seed=1)(replicate) for replicate in range(300)]
        first, second = (np.stack(counts) for counts in zip(*draws, strict=True))
        assert first.shape == (300, 7) and second.shape == (300, 5) and first.min() == second.min() == 0
        assert (first.sum(axis=1) == 7).all() and (second.sum(axis=1) == 5).all()
        for counts in (first, second):
            assert counts.mean(axis=0) == pytest.approx(1, abs=0.25)
        assert first.var() == pytest.approx(6 / 7, abs=0.1)  # multinomial: n p (1 - p)

    def test_a_replicate_is_decided_by_seed_number_and_class_size(self):
        first, again, other_seed = (TrialResampling((7, 5), seed=s) for s in (1, 1, 2))
        other_attack = TrialResampling((7, 9), seed=1)
        for replicate in (4, 0, 3):  # in whatever order
            assert np.array_equal(first(replicate)[0], again(replicate)[0])
            assert np.array_equal(first(replicate)[0], other_attack(replicate)[0])
        assert any(not np.array_equal(first(i)[0], other_seed(i)[0]) for i in range(5))
        assert any(not np.array_equal(first(i)[0], first(0)[0]) for i in range(1, 5))
        square = TrialResampling((8, 8))
        assert any(not np.array_equal(*square(i)) for i in range(5)), "the classes have streams of their own"

    def test_counts_are_small(self):
        assert TrialResampling((2000, 10))(0)[0].dtype == np.uint8

    def test_refuses_an_empty_class(self):
        with pytest.raises(ConfigError, match="trials of every class; got classes of 0, 3"):
            TrialResampling((0, 3))


class TestSpeakers:
    BOTH = ["a", "a", "b", "c", "c", "c"], ["b", "a", "c", "c"]

    def test_a_speaker_comes_with_all_of_its_trials(self):
        resampling = SpeakerResampling(self.BOTH)
        assert (resampling.n_speakers, resampling.degrees_of_freedom) == (3, 2)
        seen = set()
        for replicate in range(60):
            bonafide, spoof = resampling(replicate)
            times = {name: bonafide[self.BOTH[0].index(name)] for name in "abc"}
            assert sum(times.values()) == 3
            assert bonafide.tolist() == [times[name] for name in self.BOTH[0]]
            assert spoof.tolist() == [times[name] for name in self.BOTH[1]]
            seen.add(tuple(times.values()))
        assert len(seen) == 10, "each of the ten ways to draw three out of three"

    def test_no_class_can_vanish(self):
        """One speaker has both classes, three have bona fide trials only, two have spoofs only."""
        resampling = SpeakerResampling((["a", "b", "c", "d"], ["a", "e", "f"]))
        assert (resampling.n_speakers, resampling.degrees_of_freedom) == (6, 3)
        for replicate in range(50):
            bonafide, spoof = resampling(replicate)
            assert bonafide[0] == spoof[0] == 1 and bonafide[1:].sum() == 3 and spoof[1:].sum() == 2

    def test_replicates_are_decided_by_seed_and_number(self):
        one, same, other = (SpeakerResampling((list("abcdefgh"),) * 2, seed=s) for s in (1, 1, 2))
        assert all(np.array_equal(one(i), same(i)) for i in (3, 0, 1))
        assert any(not np.array_equal(one(i), other(i)) for i in range(3))

    @pytest.mark.parametrize(
        ("n_bonafide_only", "n_spoof_only", "n_both"), [(0, 0, 6), (4, 4, 0), (3, 3, 3), (0, 0, 2)]
    )
    def test_variance_of_a_mean(self, n_bonafide_only, n_spoof_only, n_both):
        """With `inflation`, what a linear statistic varies by is unbiased: the sum of s^2 / G over the strata."""
        rng = np.random.default_rng(3)
        sizes = [n_bonafide_only, n_spoof_only, n_both]
        groups = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        bonafide, spoof = np.append(groups[0], groups[2]), np.append(groups[1], groups[2])
        values = rng.normal(size=bonafide.size + spoof.size)
        resampling = SpeakerResampling((bonafide, spoof))

        def total(*counts):
            return {"total": np.concatenate(counts, axis=1) @ values}

        got = bootstrap({"x": total}, resampling, 4000)["x"]["total"].var() * resampling.inflation
        wanted = 0.0
        for group in groups:
            of_speakers = [values[np.append(bonafide, spoof) == speaker].sum() for speaker in group]
            if len(group):
                wanted += len(group) * np.var(of_speakers, ddof=1)
        assert got == pytest.approx(wanted, rel=0.12)

    def test_one_speaker_says_nothing(self):
        assert SpeakerResampling((["a", "a"], ["a"])).degrees_of_freedom == 0
        assert SpeakerResampling((["a", "a"], ["b"])).degrees_of_freedom == 0


class TestBootstrap:
    def test_all_statistics_share_the_draws(self):
        def spy(*counts):
            return {"first": counts[0][:, 0], "last": counts[1][:, -1]}

        both = bootstrap({"a": spy, "b": spy}, TrialResampling((7, 5)), 20)
        for metric in ("first", "last"):
            assert np.array_equal(both["a"][metric], both["b"][metric]) and both["a"][metric].shape == (20,)

    def test_pairing_narrows_the_difference_of_similar_systems(self):
        bonafide, spoof = draw()
        ranked = {name: RankedTrials(bonafide + shift, spoof).metrics for name, shift in (("a", 0), ("b", 0.05))}
        replicates = bootstrap(ranked, TrialResampling((bonafide.size, spoof.size)), 200)
        a, b = (replicates[name]["cllr"] for name in "ab")
        assert np.std(a - b) < 0.2 * np.std(a)

    def test_replicate_is_the_metric_of_the_resampled_trials(self):
        bonafide, spoof = (np.round(scores, 1) for scores in draw(25, 30))  # with ties
        rng = np.random.default_rng(0)
        speakers = SpeakerResampling((rng.integers(5, size=25), rng.integers(6, size=30)))
        for resampling in (TrialResampling((25, 30), seed=2), speakers):
            replicates = bootstrap({"x": RankedTrials(bonafide, spoof).metrics}, resampling, 10)["x"]
            for replicate in range(10):
                counts = resampling(replicate)
                wanted = compute_metrics(*map(np.repeat, (bonafide, spoof), counts))
                assert {metric: replicates[metric][replicate] for metric in METRICS} == pytest.approx(wanted, abs=1e-12)

    def test_threads_change_no_bit(self):
        bonafide, spoof = draw(3000, 4000)
        run = {"x": RankedTrials(bonafide, spoof).metrics}
        one, three = (bootstrap(run, TrialResampling((3000, 4000)), 40, threads)["x"] for threads in (1, 3))
        assert all(np.array_equal(one[metric], three[metric]) for metric in METRICS)

    def test_memory_does_not_grow_with_replicates(self):
        size = 100_000
        bonafide, spoof = draw(size, size)
        run = {"x": RankedTrials(bonafide, spoof).metrics}
        peaks = []
        for n_replicates in (3, 12):
            tracemalloc.start()
            bootstrap(run, TrialResampling((size, size)), n_replicates)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert peaks[1] < 1.05 * peaks[0] < 40 * size

    def test_an_error_ends_it_at_once(self):
        """So does an interrupt: replicates that wait are not computed first."""
        calls = []

        def fails(*counts):
            calls.append(counts)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            bootstrap({"x": fails}, TrialResampling((40_000, 40_000)), 4000)  # a batch each
        assert len(calls) < 4000

    def test_refuses_none(self):
        with pytest.raises(ConfigError, match="needs replicates; got 0"):
            bootstrap({}, TrialResampling((3, 3)), 0)


class TestIntervals:
    def test_cover_the_truth(self):
        """The true EER of N(2, 1) against N(0, 1) is Φ(-1) = 15.87 %; 95 % intervals hold it about that often."""
        held = 0
        for seed in range(60):
            bonafide, spoof = draw(150, 150, seed=seed)
            resampling = TrialResampling((150, 150), seed)
            replicates = bootstrap({"x": RankedTrials(bonafide, spoof).metrics}, resampling, 150)["x"]
            low, high = percentile_interval(replicates["eer"], 0.95)
            held += low <= 0.158655 <= high
        assert 51 <= held <= 60

    def test_widen_with_confidence(self):
        replicates = np.linspace(0, 1, 1001)
        assert percentile_interval(replicates, 0.9) == pytest.approx((0.05, 0.95))
        assert percentile_interval(replicates, 0.5) == pytest.approx((0.25, 0.75))

    @pytest.mark.parametrize("confidence", [0, 1, 95, -0.1])
    def test_refuse_confidence_out_of_range(self, confidence):
        for function in (
            lambda: percentile_interval(np.arange(5.0), confidence),
            lambda: t_test(1, [1], [1], confidence),
        ):
            with pytest.raises(ConfigError, match="between 0 and 1"):
                function()


class TestT:
    def test_by_hand(self):
        """V = 1 + 3, t = 3 / 2; four degrees of freedom, the fewest."""
        test = t_test(3, [1, 3], [4, math.inf])
        assert test.p == pytest.approx(2 * stats.t.sf(1.5, 4)) == pytest.approx(0.2080, abs=1e-4)
        assert (test.low, test.high) == pytest.approx((3 - 2.77645 * 2, 3 + 2.77645 * 2), abs=1e-4)
        assert t_test(-3, [1, 3], [4, math.inf]).p == test.p

    def test_known_variances_make_it_normal(self):
        test = t_test(1.96, [1], [math.inf])
        assert test.p == pytest.approx(0.05, abs=1e-4) and test.low == pytest.approx(0, abs=1e-4)

    def test_equals_scipy_s_for_one_sample(self):
        sample = np.random.default_rng(1).normal(0.5, 1, 5)
        got = t_test(sample.mean(), [np.var(sample, ddof=1) / 5, 0], [4, math.inf], 0.9)
        wanted = stats.ttest_1samp(sample, 0)
        assert got.p == pytest.approx(wanted.pvalue)
        assert got[1:] == pytest.approx(tuple(wanted.confidence_interval(0.9)))

    def test_without_variance(self):
        assert t_test(0, [0, 0], [5, 1]) == (1, 0, 0)
        assert t_test(0.1, [0.0], [math.inf]) == (0, 0.1, 0.1)
        assert t_test(1e-150, [1e-320, 0], [math.inf, 1]).p == pytest.approx(0, abs=1e-9)  # no overflow either

    @pytest.mark.parametrize("n_seeds", [2, 3, 5])
    @pytest.mark.parametrize("ratio", [0.1, 1, 10, 100])
    def test_errors_stay_below_the_level_over_trials_and_seeds(self, n_seeds, ratio):
        """No true difference; seeds vary `ratio` times as much as trials. Also in the tail that Holm uses."""
        rng = np.random.default_rng(0)
        of_seeds = rng.normal(0, math.sqrt(ratio * n_seeds), (4000, n_seeds))
        differences = of_seeds.mean(axis=1) + rng.normal(0, 1, 4000)  # trials are shared by the seeds
        variances = of_seeds.var(axis=1, ddof=1) / n_seeds
        p = [t_test(d, [1, v], [math.inf, n_seeds - 1]).p for d, v in zip(differences, variances, strict=True)]
        assert np.mean(np.less(p, 0.05)) <= 0.062 and np.mean(np.less(p, 0.001)) <= 0.0025
        if ratio == 100 and n_seeds > 2:
            assert np.mean(np.less(p, 0.05)) >= 0.035, "and it is not idle"

    def test_errors_are_nominal_over_trials(self):
        """Two equally good systems; the variance comes from the paired bootstrap."""
        rng = np.random.default_rng(0)
        found = dict.fromkeys(("eer", "min_dcf", "cllr"), 0)
        n_tests = 120
        for _ in range(n_tests):
            common = rng.normal(1.5, 1, 80), rng.normal(0, 1, 80)
            scores = {name: [c + rng.normal(0, 0.7, 80) for c in common] for name in "ab"}
            ranked = {name: RankedTrials(*classes).metrics for name, classes in scores.items()}
            replicates = bootstrap(ranked, TrialResampling((80, 80)), 60)
            for metric in found:
                difference = np.subtract(*(compute_metrics(*classes)[metric] for classes in scores.values()))
                variance = np.subtract(*(replicates[name][metric] for name in "ab")).var(ddof=1)
                found[metric] += t_test(difference, [variance], [math.inf]).p < 0.05
        assert all(0 < n <= 0.11 * n_tests for n in found.values()), found

    def test_errors_are_nominal_over_speakers_only(self):
        """Eight speakers differ among themselves, not on the whole. Over trials the test is wrong, as it must be."""
        rng = np.random.default_rng(0)
        speakers = np.repeat(np.arange(8), 10)
        found = {"trials": 0, "speakers": 0}
        n_tests = 200
        for _ in range(n_tests):
            values = rng.normal(0, 1, 8)[speakers] + rng.normal(0, 1, 80)
            by_speaker = SpeakerResampling((speakers[::2], speakers[1::2]))
            ways = {"trials": (TrialResampling((40, 40)), 1, math.inf)}
            ways["speakers"] = by_speaker, by_speaker.inflation, by_speaker.degrees_of_freedom
            for way, (resampling, inflation, dof) in ways.items():

                def mean(even, odd, values=values):
                    return {"mean": (even @ values[::2] + odd @ values[1::2]) / (even.sum(axis=1) + odd.sum(axis=1))}

                variance = bootstrap({"x": mean}, resampling, 50)["x"]["mean"].var(ddof=1) * inflation
                found[way] += t_test(values.mean(), [variance], [dof]).p < 0.05
        assert found["trials"] > 0.3 * n_tests and 0.01 * n_tests <= found["speakers"] <= 0.1 * n_tests


class TestHolm:
    def test_by_hand(self):
        # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, 0.04 * 1, which must not fall below the one before.
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_limits(self):
        assert holm([0.4, 0.6, 0.5]).tolist() == [1, 1, 1] and holm([]).size == 0
        assert holm([0.02]) == pytest.approx([0.02])
        assert holm([0.01, 0.01]) == pytest.approx([0.02, 0.02])

    def test_family_wise_error(self):
        """Some of eight tests are of true differences; a false one is found in at most 5 % of families."""
        rng = np.random.default_rng(0)
        p = rng.uniform(size=(3000, 8))
        p[:, :3] /= 1000
        false = [(holm(row)[3:] < 0.05).any() for row in p]
        assert 0.03 <= np.mean(false) <= 0.06


class TestIntervalOfMean:
    def test_by_hand(self):
        """One seed: the error over trials, carried over to the log-odds; 1.96 standard errors."""
        low, high = interval_of_mean([0.2], 0.0004, math.inf, LOGIT)
        odds = [0.25 * math.exp(sign * 1.959964 * 0.02 / 0.16) for sign in (-1, 1)]
        assert (low, high) == pytest.approx([odd / (1 + odd) for odd in odds], rel=1e-6)
        low, high = interval_of_mean([2.0], 0.09, math.inf, LOG)
        assert (low, high) == pytest.approx([2 * math.exp(sign * 1.959964 * 0.15) for sign in (-1, 1)], rel=1e-6)
        low, high = interval_of_mean([0.5], 0.0025, math.inf, FISHER)
        ends = [math.tanh(math.atanh(0.5) + sign * 1.959964 * 0.05 / 0.75) for sign in (-1, 1)]
        assert (low, high) == pytest.approx(ends, rel=1e-6)

    def test_seeds_and_material_add_up(self):
        values = [0.1, 0.2, 0.3]
        variance, t = 0.001 + np.var(values, ddof=1) / 3, stats.t.ppf(0.975, 2)
        odds = [0.25 * math.exp(sign * t * variance**0.5 / 0.16) for sign in (-1, 1)]
        found = interval_of_mean(values, 0.001, math.inf, LOGIT)
        assert found == pytest.approx([odd / (1 + odd) for odd in odds])
        fewer = interval_of_mean(values, 0.001, 1, LOGIT)  # two speakers of one stratum
        assert fewer[0] < found[0] and found[1] < fewer[1]

    @pytest.mark.parametrize(("scale", "low", "high"), [(LOG, 0, math.inf), (LOGIT, 0, 1), (FISHER, -1, 1)])
    def test_never_leaves_the_range(self, scale, low, high):
        for value in (0.001, 0.5, 0.999):
            ends = interval_of_mean([value, value / 2], 4, 1, scale)
            assert low <= ends[0] < value * 0.75 < ends[1] <= high
        for edge in {low, high} - {math.inf}:
            assert np.isnan(interval_of_mean([edge, edge], 0.0, math.inf, scale)).all()

    @pytest.mark.parametrize("n_seeds", [2, 5])
    def test_covers_what_it_should(self, n_seeds):
        """Error rates whose log-odds vary over seeds, each measured on trials that all seeds share."""
        rng, hits = np.random.default_rng(3), 0
        for _ in range(600):
            shared = rng.normal(0, 0.02)
            values = 0.2 + shared + rng.normal(0, 0.03, n_seeds)
            low, high = interval_of_mean(values, 0.02**2, math.inf, LOGIT)
            hits += low <= 0.2 <= high
        assert hits / 600 > 0.94
