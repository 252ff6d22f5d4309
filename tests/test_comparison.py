"""Comparisons of systems: equal ones are equal, different ones differ, and every number by hand."""

import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

from conftest import write_replicates, write_scores, write_trials, write_tsv
from spaarsist.config import Question
from spaarsist.evaluation import evaluate as evaluation
from spaarsist.evaluation.comparison import ANSWERS, COLUMNS, COMPARED, answer, compare, flat_region, possible
from spaarsist.evaluation.evaluate import evaluate
from spaarsist.evaluation.statistics import holm
from spaarsist.names import ConfigError, System

N_SPEAKERS, PER_SPEAKER = 12, 14


class World:
    """Made-up scores, evaluated as the workflow does: call it with (system, seed) -> scores."""

    def __init__(self, folder, corpus="home"):
        self.folder, self.corpus = folder, corpus
        n = N_SPEAKERS * PER_SPEAKER
        self.is_bonafide = np.arange(n) % 2 == 0
        self.speaker = np.repeat(np.arange(N_SPEAKERS), PER_SPEAKER)
        rng = np.random.default_rng(0)
        self.good = np.where(self.is_bonafide, 1.0, -1.0) + rng.normal(size=n)
        self.other = np.where(self.is_bonafide, 1.0, -1.0) + rng.normal(size=n)
        self.known = True

    def __call__(self, scores, n_bootstrap=200):
        folder = self.folder
        ids, labels = [f"t{i}" for i in range(self.good.size)], np.where(self.is_bonafide, "bonafide", "spoof")
        speakers = [f"S{s}" for s in self.speaker] if self.known else "-"
        write_trials(folder / "trials.tsv", ids, labels, speaker_id=speakers)
        metrics, replicates = [], []
        for index, ((name, seed), values) in enumerate(scores.items()):
            system, stem = System.parse(name), folder / f"{self.corpus}-{index}"
            about = {"system": system.trained, "seed": seed, "corpus": self.corpus}
            columns = {"trial_id": ids, system.column: values}
            write_scores(f"{stem}.scores", columns, **about)
            metrics.append(stem.with_suffix(".tsv"))
            replicates.append(stem.with_suffix(".parquet"))
            evaluate(f"{stem}.scores", folder / "trials.tsv", metrics[-1], replicates[-1], n_bootstrap=n_bootstrap)
        return metrics, replicates


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def run(files, pairs, folder, **options):
    compare(*files, pairs, folder / "c.tsv", **options)
    table = pd.read_csv(folder / "c.tsv", sep="\t")
    assert tuple(table.columns) == COLUMNS
    return table.set_index("metric") if len(pairs) == 1 else table


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seeds", [(1,), (1, 2), (3, 5, 8)])
def test_two_copies_are_never_different(world, seeds, known):
    world.known = known
    scores = {seed: (world.good + i * world.other).astype(np.float32) for i, seed in enumerate(seeds)}
    files = world({(name, seed): values for seed, values in scores.items() for name in ("A", "B")})
    table = run(files, [("A", "B")], world.folder)
    assert (table["n_seeds"] == len(seeds)).all() and (table["value"] == table["reference_value"]).all()
    zero = ["difference", "ci_low", "ci_high", "se_trials"]
    assert (table[zero] == 0).all(axis=None) and (table[["p", "p_trials"]] == 1).all(axis=None)
    assert (table.loc[["eer", "min_dcf"], "p_holm"] == 1).all()


@pytest.mark.parametrize(("seeds", "level"), [((1,), 1e-4), ((1, 2), 0.35), ((1, 2, 3, 4, 5), 0.01)])
def test_inverted_scores_are_always_different(world, seeds, level):
    """These trainings beyond doubt; the recipes, as far as so few seeds can tell: two leave one degree of freedom."""
    files = world({(name, s): sign * world.good for s in seeds for name, sign in (("good", 1), ("inverted", -1))})
    table = run(files, [("inverted", "good")], world.folder)
    assert table.loc["eer", "difference"] > 0.6 and (table.loc["eer", "ci_low"] > 0.2) == (len(seeds) != 2)
    assert (table.loc[["eer", "min_dcf"], "p_holm"] < level).all() and (table["p_fixed"] < 1e-4).all()
    assert (table[["se_trials", "se_speakers"]] > 0).all(axis=None) and (table["n_speakers"] == N_SPEAKERS).all()


def test_perfect_against_inverted_has_no_variance_and_no_doubt(world):
    perfect = np.where(world.is_bonafide, 1.0, -1.0)
    table = run(world({("A", 1): -perfect, ("B", 1): perfect}), [("A", "B")], world.folder)
    row = table.loc["eer"]
    assert row["difference"] == row["ci_low"] == row["ci_high"] == 1 and row["p"] == row["p_holm"] == 0


def test_what_rests_on_one_speaker_is_not_significant(world):
    """Over trials it is; speakers are what the next test set would draw anew."""
    world.speaker[world.speaker == 4] = 3  # twice as many trials as the others have
    worse = np.where(world.speaker == 3, -world.good, world.good)
    row = run(world({("A", 1): worse, ("B", 1): world.good}), [("A", "B")], world.folder).loc["eer"]
    assert row["p_trials"] < 0.01 and row["p_speakers"] > 0.1 and row["p"] == row["p_speakers"]
    assert row["ci_low"] < 0 < row["ci_high"] and row["se_speakers"] > 1.3 * row["se_trials"]
    world.known = False
    unknown = run(world({("A", 1): worse, ("B", 1): world.good}), [("A", "B")], world.folder).loc["eer"]
    assert unknown["p"] == unknown["p_trials"] == row["p_trials"] and unknown["n_speakers"] == 0
    assert np.isnan(unknown[["se_speakers", "p_speakers"]].astype(float)).all() and unknown["ci_low"] > 0


def test_what_every_speaker_shows_is_significant(world):
    worse = np.where(np.arange(world.good.size) % PER_SPEAKER < 6, -world.good, world.good)
    row = run(world({("A", 1): worse, ("B", 1): world.good}), [("A", "B")], world.folder).loc["eer"]
    assert row["p"] < 1e-4 and row["ci_low"] > 0


def test_seeds_that_disagree_make_a_difference_insignificant(world):
    """Each seed alone is significant, one a good deal more than the other; together they are not."""
    slightly, much = (world.good - shift * np.where(world.is_bonafide, 1, -1) for shift in (0.7, 3.0))
    scores = {("A", 1): slightly, ("B", 1): world.good, ("A", 2): much, ("B", 2): world.good}
    for seed in (1, 2):
        alone = run(world({k: v for k, v in scores.items() if k[1] == seed}), [("A", "B")], world.folder)
        assert alone.loc["eer", "p"] < 0.01 and np.isnan(alone.loc["eer", "seeds_std"])
    together = run(world(scores), [("A", "B")], world.folder).loc["eer"]
    assert together["difference"] > 0.2 and together["p"] > 0.1 and together["ci_low"] < 0


def same(value):
    """The same for every metric."""
    return dict.fromkeys(COMPARED, value)


def write(folder, name, seed, values, trials, speakers=None, corpus="home", **about):
    """Metrics and replicates by hand: metric -> value, metric -> replicates over trials and over speakers."""
    system, stem = System.parse(name), folder / f"{name}-{seed}-{corpus}"
    usual = {"system": name, "seed": seed, "corpus": corpus, "condition": "pooled"}
    rows = [{"metric": metric, "value": value} for metric, value in values.items()]
    rows += [{"condition": "attack:A17", "metric": metric, "value": 9} for metric in values]
    write_tsv(f"{stem}.tsv", rows, **usual)

    def named(draws):
        return {f"{system.column}:{metric}": values for metric, values in (draws or {}).items()}

    about = {"system": system.trained, "seed": seed, "corpus": corpus} | about
    write_replicates(f"{stem}.parquet", named(trials), named(speakers), **about)


def files(folder):
    return sorted(folder.glob("*.tsv")), sorted(folder.glob("*.parquet"))


@pytest.mark.parametrize(("outlier", "decisive"), [(-2, "p_trials"), (70, "p_speakers")])
def test_every_number_by_hand(tmp_path, outlier, decisive):
    """Seed 3 has no partner and is left out. Six speakers in two strata: four degrees of freedom, times 6 / 4."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    trials = {("A", 1): [1, 3, 2], ("A", 2): [2, 2, 9], ("B", 1): [0, 1, 2], ("B", 2): [1, 0, 1], ("A", 3): [9, 9, 9]}
    speakers = {("A", 1): [1, 5, 3], ("A", 2): [1, outlier, 1], ("A", 3): [9, 9, 9]}
    speakers |= {("B", 1): [0, 0, 0], ("B", 2): [0, 0, 0]}
    values = {("A", 1): 0.3, ("A", 2): 0.6, ("B", 1): 0.1, ("B", 2): 0.2, ("A", 3): 0.9}
    for (name, seed), value in values.items():
        drawn = (same([v / 100 for v in of[name, seed]]) for of in (trials, speakers))
        write(inputs, name, seed, same(value), *drawn)
    row = run(files(inputs), [("A", "B")], tmp_path).loc["eer"]

    # Mean differences of the draws, in hundredths: trials (1, 2, 4), speakers (1, (outlier + 5) / 2, 2).
    over_trials = np.var([0.01, 0.02, 0.04], ddof=1)
    over_speakers = np.var([0.01, (outlier + 5) / 200, 0.02], ddof=1) * 6 / 4
    over_seeds = np.var([0.2, 0.4], ddof=1) / 2
    assert row["n_seeds"] == 2 and row["n_speakers"] == 6
    assert [row["value"], row["reference_value"], row["difference"]] == pytest.approx([0.45, 0.15, 0.3])
    assert [row["se_trials"], row["se_speakers"]] == pytest.approx([over_trials**0.5, over_speakers**0.5])
    assert row["seeds_std"] == pytest.approx(0.2 / 2**0.5)
    reaches = {}
    for way, variance in (("p_trials", over_trials), ("p_speakers", over_speakers)):
        error = (variance + over_seeds) ** 0.5
        assert row[way] == pytest.approx(2 * stats.t.sf(0.3 / error, 1)), "two seeds: one degree of freedom"
        reaches[way] = [stats.t.ppf(quantile, 1) * error for quantile in (0.975, 0.75)]
    fixed = [2 * stats.norm.sf(0.3 / over_trials**0.5), 2 * stats.t.sf(0.3 / over_speakers**0.5, 4)]
    assert row["p_fixed"] == pytest.approx(max(fixed))
    assert row["p"] == row[decisive] == max(row["p_trials"], row["p_speakers"])
    wide, narrow = reaches[decisive]
    assert 0.3 - wide < -0.15 and 0.3 + wide > 0.85, "an EER of 15 % falls to 0 and rises to 100 %, no farther"
    assert [row["ci_low"], row["ci_high"]] == pytest.approx([-0.15, 0.85])
    half = run(files(inputs), [("A", "B")], tmp_path, confidence=0.5).loc["eer"]
    assert [half["ci_low"], half["ci_high"]] == pytest.approx([0.3 - narrow, 0.3 + narrow])


@pytest.mark.parametrize(
    ("metric", "cut"), [("eer", (-0.2, 0.8)), ("min_dcf", (-0.2, 0.8)), ("act_dcf", (-0.2, 3)), ("cllr", (-0.2, 3))]
)
def test_a_difference_stays_within_what_the_metric_can_be(metric, cut):
    assert possible(metric, 0.2, -1.5, 3) == cut and possible(metric, 0.2, -0.1, 0.3) == (-0.1, 0.3)


def test_corrected_for_all_tests_of_the_file(tmp_path):
    """Two pairs, two corpora, EER and minDCF: eight tests. Other metrics are not of the family."""
    rng = np.random.default_rng(0)
    for corpus in ("home", "wild"):
        for name, shift in (("AST-05-05", 0), ("AST-05-01-Mag", 0.01), ("MHFA", 0.03)):
            values = {m: 0.2 + shift * (1 + i) for i, m in enumerate(COMPARED)}
            write(tmp_path, name, 1, values, {m: rng.normal(0.2, 0.01, 30) for m in COMPARED}, corpus=corpus)
    # The two variants of AST-05 are columns of one file.
    for corpus in ("home", "wild"):
        one, two = (tmp_path / f"{name}-1-{corpus}.parquet" for name in ("AST-05-05", "AST-05-01-Mag"))
        both, added = pq.read_table(one), pq.read_table(two)
        for name in added.column_names[2:]:
            both = both.append_column(name, added[name])
        pq.write_table(both, one)
        two.unlink()
    (tmp_path / "out").mkdir()
    pairs = [("MHFA", "AST-05-05"), ("AST-05-01-Mag", "AST-05-05")]
    table = run(files(tmp_path), pairs, tmp_path / "out")
    assert len(table) == 2 * 2 * 4
    order = [[corpus, system] for corpus in ("home", "wild") for system, _ in pairs]
    assert table[["corpus", "system"]].drop_duplicates().to_numpy().tolist() == order
    tested = table["metric"].isin(["eer", "min_dcf"])
    assert tested.sum() == 8 and table.loc[~tested, "p_holm"].isna().all()
    assert table.loc[tested, "p_holm"].tolist() == pytest.approx(holm(table.loc[tested, "p"]))
    assert (table.loc[tested, "p_holm"] > table.loc[tested, "p"]).any()
    first = (tmp_path / "out" / "c.tsv").read_bytes()
    run([group[::-1] for group in files(tmp_path)], pairs, tmp_path / "out")
    again = pd.read_csv(tmp_path / "out" / "c.tsv", sep="\t")
    key = ["system", "corpus", "metric"]
    pd.testing.assert_frame_equal(table.set_index(key).sort_index(), again.set_index(key).sort_index())
    run(files(tmp_path), pairs, tmp_path / "out")
    assert (tmp_path / "out" / "c.tsv").read_bytes() == first


def test_reads_only_the_columns_that_it_needs(tmp_path, monkeypatch):
    for name in ("A", "B"):
        drawn = {metric: [0.1, 0.2] for metric in (*COMPARED, "ece", "gap_released")}
        write(tmp_path, name, 1, same(0.1), drawn)
    asked, read = [], evaluation.read_parquet
    monkeypatch.setattr(evaluation, "read_parquet", lambda path, columns: asked.append(columns) or read(path, columns))
    compare(*files(tmp_path), [("A", "B")], tmp_path / "out.c")
    assert asked == [["resampling", "replicate", *(f"score:{metric}" for metric in COMPARED)]] * 2


class TestRefusals:
    @pytest.fixture
    def folder(self, tmp_path):
        for name, seeds in (("A", (1, 2)), ("B", (1, 2)), ("C", (3,))):
            for seed in seeds:
                write(tmp_path, name, seed, same(0.1), same([0.1, 0.2, 0.3]))
        return tmp_path

    def refuse(self, folder, complaint, pairs=(("A", "B"),)):
        with pytest.raises(ConfigError, match=complaint):
            compare(*files(folder), pairs, folder / "refused.c")
        assert not (folder / "refused.c").exists()

    def test_pairs(self, folder):
        self.refuse(folder, "A and C have no training seed in common on home", [("A", "B"), ("A", "C")])
        self.refuse(folder, "no metrics of SLS, MHFA on home", [("SLS", "A"), ("B", "MHFA")])
        self.refuse(folder, "a pair is there twice", [("A", "B"), ("A", "B")])
        self.refuse(folder, "compared with itself", [("A", "B"), ("B", "B")])

    def test_a_system_that_one_corpus_lacks(self, folder):
        write(folder, "A", 1, same(0.1), same([1, 2]), corpus="wild")
        self.refuse(folder, "no metrics of B on wild")

    def test_missing_replicates(self, folder):
        (folder / "B-2-home.parquet").unlink()
        self.refuse(folder, "no replicates of B, seed 2, on home")

    def test_missing_metrics(self, folder):
        write(folder, "B", 2, {"eer": 0.1}, same([0.1, 0.2, 0.3]))
        write(folder, "B", 1, {"eer": 0.1}, same([0.1, 0.2, 0.3]))
        self.refuse(folder, "no min_dcf, act_dcf, cllr of B, seed 1, on home")

    def test_a_number_twice(self, folder):
        (folder / "copy.tsv").write_bytes((folder / "A-1-home.tsv").read_bytes())
        self.refuse(folder, "a number twice: .'home', 'A', 1, 'eer'")

    def test_other_trials_or_draws(self, folder):
        drawn = same([0.1, 0.2, 0.3])
        write(folder, "B", 2, same(0.1), drawn, trial_list="another")
        self.refuse(folder, "rest on different trial lists")
        write(folder, "B", 2, same(0.1), drawn, resampling_seed=1)
        self.refuse(folder, "were resampled differently")
        write(folder, "B", 2, same(0.1), same([0.1, 0.2]))
        self.refuse(folder, "were resampled differently")

    def test_no_spread(self, folder):
        for name in ("A", "B"):
            for seed in (1, 2):
                write(folder, name, seed, same(0.1), same([0.1]))
        self.refuse(folder, "two replicates; set evaluation.bootstrap")

    def test_no_files(self, folder):
        with pytest.raises(ConfigError, match="no metrics"):
            compare([], [], [("A", "B")], folder / "refused.c")

    def test_confidence(self, folder):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            compare(*files(folder), [("A", "B")], folder / "refused.c", confidence=95)


def test_rounding_of_values_is_no_difference(tmp_path):
    """Opposite differences of two seeds cancel to 0, not to 1e-17 or to -0."""
    for name, values in (("A", (0.3, 0.2)), ("B", (0.1, 0.4))):
        for seed, value in enumerate(values):
            write(tmp_path, name, seed, same(value), same([0.1, 0.2]))
    (tmp_path / "out").mkdir()
    row = run(files(tmp_path), [("A", "B")], tmp_path / "out").loc["eer"]
    assert row["difference"] == 0 and math.copysign(1, row["difference"]) == 1 and row["p"] == 1


@pytest.mark.parametrize(
    ("alike", "home", "flat"),
    [("-+-++H+-+", 5, "000111100"), ("H", 0, "1"), ("+H", 1, "11"), ("H-+", 0, "100"), ("-H", 1, "01")],
)
def test_the_flat_region_ends_at_the_first_that_differs(alike, home, flat):
    found = flat_region([mark != "-" for mark in alike], home)
    assert "".join(str(int(inside)) for inside in found) == flat


def question(margin=0.01, metric="eer", asks="Is A as good as B?", pair=("A", "B")):
    return Question(asks, *pair, metric, margin)


def answers(files, folder, *questions, **options):
    answer(*files, questions, folder / "a.csv", **options)
    table = pd.read_csv(folder / "a.csv", sep="\t")
    assert tuple(table.columns) == ANSWERS
    return table


class TestEquivalence:
    """Two one-sided tests, on values whose interval is known by hand."""

    @pytest.fixture
    def given(self, tmp_path):
        (tmp_path / "in").mkdir()
        for seed, values in enumerate(((0.20, 0.19), (0.21, 0.20), (0.25, 0.25)), start=1):  # 1, 1 and 0 points
            for name, value in zip("AB", values, strict=True):
                write(tmp_path / "in", name, seed, same(value), same([0.2, 0.21, 0.2] if name == "A" else [0.2] * 3))
        return files(tmp_path / "in")

    def test_by_hand(self, given, tmp_path):
        row = answers(given, tmp_path, question()).iloc[0]
        difference, variance = 0.02 / 3, np.var([0.01, 0.01, 0], ddof=1) / 3 + np.var([0, 0.01, 0], ddof=1)
        reach = stats.t.ppf(0.95, 2) * variance**0.5
        assert row["difference"] == pytest.approx(difference) and row["n_seeds"] == 3
        assert [row["ci_low"], row["ci_high"]] == pytest.approx([difference - reach, difference + reach])
        assert [row["value"], row["reference_value"]] == pytest.approx([0.22, 0.64 / 3])
        edge = difference + reach
        for margin, verdict in ((edge + 1e-6, "equivalent"), (edge - 1e-6, "inconclusive"), (1e-6, "inconclusive")):
            assert answers(given, tmp_path, question(margin)).loc[0, "verdict"] == verdict
        one_sided = [stats.t.sf((edge + sign * difference) / variance**0.5, 2) for sign in (1, -1)]
        assert max(one_sided) == pytest.approx(0.05), "the margin at which the larger p of the two tests is the level"

    @pytest.mark.parametrize("sign", [1, -1])
    def test_refutes(self, tmp_path, sign):
        """Six points apart, give or take one: not as good within two points, whichever is the better one."""
        for seed, shift in enumerate((0.05, 0.06, 0.07), start=1):
            write(tmp_path, "A", seed, same(0.3 + sign * shift), same([0.3, 0.301, 0.3]))
            write(tmp_path, "B", seed, same(0.3), same([0.3] * 3))
        margins = {0.02: "different", 0.05: "inconclusive", 0.09: "equivalent"}
        for margin, verdict in margins.items():
            assert answers(files(tmp_path), tmp_path, question(margin)).loc[0, "verdict"] == verdict, margin

    def test_the_wider_of_trials_and_speakers_counts(self, tmp_path):
        for seed in (1, 2, 3):
            write(tmp_path, "A", seed, same(0.3), same([0.3, 0.301, 0.3]), same([0.3, 0.35, 0.25]))
            write(tmp_path, "B", seed, same(0.3), same([0.3] * 3), same([0.3] * 3))
        row = answers(files(tmp_path), tmp_path, question(0.02)).iloc[0]
        reach = stats.t.ppf(0.95, 2) * (np.var([0, 0.05, -0.05], ddof=1) * 6 / 4) ** 0.5
        assert row["verdict"] == "inconclusive" and row["ci_high"] == pytest.approx(reach) and row["n_speakers"] == 6

    def test_one_seed_answers_nothing(self, tmp_path):
        for name in "AB":
            write(tmp_path, name, 1, same(0.3), same([0.3, 0.3]))
        assert answers(files(tmp_path), tmp_path, question()).loc[0, "verdict"] == "inconclusive"

    def test_copies_are_equivalent_and_every_corpus_is_asked(self, tmp_path):
        for corpus in ("home", "wild"):
            for name, seed in (("A", 1), ("A", 2), ("B", 1), ("B", 2)):
                write(tmp_path, name, seed, same(0.3), same([0.3, 0.4]), corpus=corpus)
        table = answers(files(tmp_path), tmp_path, question(1e-9), question(1e-9, "min_dcf"))
        assert table["corpus"].tolist() == ["home", "home", "wild", "wild"] and (table["verdict"] == "equivalent").all()

    @pytest.mark.parametrize(
        ("questions", "options", "complaint"),
        [
            ([], {}, "none was asked"),
            ([question(), question(0.5)], {}, "is there twice"),
            ([question(pair=("A", "A"))], {}, "compared with itself"),
            ([question(pair=("A", "C"))], {}, "no metrics of C on home"),
            ([question()], {"confidence": 0.5}, "between 0.5 and 1"),
        ],
    )
    def test_refusals(self, given, tmp_path, questions, options, complaint):
        with pytest.raises(ConfigError, match=complaint):
            answers(given, tmp_path, *questions, **options)
        assert not (tmp_path / "a.csv").exists()
