"""The summary from small made-up metrics: means, spreads and intervals by hand, and what names say."""

import numpy as np
import pandas as pd
import pytest

from conftest import pooled, write_metrics, write_replicates, write_results, write_scores
from spaarsist.evaluation.metrics import METRICS
from spaarsist.evaluation.summary import INTERVALS, on, read_summary, summarise, values_of
from spaarsist.names import ConfigError

CORPORA = ("home", "wild")
SYSTEMS = [
    *("AST-05-05", "AST-05-05-Mag", "AST-05-01", "AST-03-01-Mag", "AST-05+Mag-05-Mag"),
    *("AST-05-05+stack10", "AST-05-05+graph0.5", "MHFA", "Mean-pool"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Metrics of two seeds and two corpora, and sizes: a folder, and the metrics in one frame."""
    folder = tmp_path_factory.mktemp("inputs")
    return folder, write_results(folder, SYSTEMS, CORPORA)


def make(inputs, output, seeds="*", as_run=(), scores=(), replicates=(), **options):
    folder, _ = inputs
    metrics = sorted(folder.glob(f"*-{seeds}.metrics.tsv"))
    summarise(metrics, [folder / "complexity.tsv"], as_run, scores, replicates, output, **options)
    return read_summary(output)


def test_means_over_seeds(inputs, tmp_path):
    table = make(inputs, tmp_path / "s.tsv")
    assert list(table.index) == [
        *("AST-05-05", "AST-05-05-Mag", "AST-05-01", "AST-03-01-Mag"),
        *("AST-05-05+stack10", "AST-05-05+graph0.5", "AST-05+Mag-05-Mag", "MHFA", "Mean-pool"),
    ]
    wanted = pooled(inputs[1], "AST-03-01-Mag", "wild", "cllr")["value"]
    row = table.loc["AST-03-01-Mag"]
    assert len(wanted) == row[on("wild", "n_seeds")] == 2
    assert row[on("wild", "cllr")] == pytest.approx(wanted.mean())
    assert row[on("wild", "cllr", "std")] == pytest.approx(wanted.std(ddof=1))
    assert row["n_macs"] == 713_000_000 - 1_000_000 * SYSTEMS.index("AST-03-01-Mag")
    read_summary(tmp_path / "s.tsv", CORPORA)


def test_columns_as_they_stand_in_the_file(inputs, tmp_path):
    statistics = ("mean", "std", "ci_low", "ci_high", "speakers_low", "speakers_high", "seeds")
    assert [*make(inputs, tmp_path / "s.tsv")] == [
        *("trained", "k_train", "k_infer", "variant", "graph_temperature", "stack_temperature"),
        *("trained_graph_temperature", "trained_stack_temperature", "trained_variant", "n_params", "n_macs"),
        *(
            "n_macs_linear",
            "n_macs_frontend",
            "counter",
            "n_frames",
            "feature_dim",
            "n_layers",
            "embedding_dim",
            "n_params_as_run",
            "code_hash",
        ),
        *(
            f"{corpus}.{name}"
            for corpus in CORPORA
            for name in ("n_seeds", "n_speakers", *(f"{metric}.{part}" for metric in METRICS for part in statistics))
        ),
    ]


def one_system(folder, rows):
    """Metrics of MHFA on one corpus; rows of seed, value, ci_low, ci_high."""
    rows = [("MHFA", seed, "score", "home", "pooled", "eer", *numbers, 9, 9) for seed, *numbers in rows]
    return write_metrics(folder / "m.tsv", rows)


def test_mean_and_spread_by_hand(inputs, tmp_path):
    """Three seeds, of which one is far off: the mean, not the median, and n - 1 under the root."""
    metrics = one_system(tmp_path, [(seed, value, 0, 1) for seed, value in enumerate((0.1, 0.2, 0.6))])
    summarise([metrics], [inputs[0] / "complexity.tsv"], [], [], [], tmp_path / "s.tsv")
    row = read_summary(tmp_path / "s.tsv").loc["MHFA"]
    assert row[on("home", "eer")] == pytest.approx(0.3) and row[on("home", "n_seeds")] == 3
    assert row[on("home", "eer", "std")] == pytest.approx(((0.04 + 0.01 + 0.09) / 2) ** 0.5)


def test_what_names_say(inputs, tmp_path):
    table = make(inputs, tmp_path / "s.tsv")
    assert table["stack_temperature"].dropna().to_dict() == {"AST-05-05+stack10": 10}
    assert table["graph_temperature"].dropna().to_dict() == {"AST-05-05+graph0.5": 0.5}
    assert table["trained_variant"].dropna().to_dict() == {"AST-05+Mag-05-Mag": "Mag"}
    row = table.loc["AST-03-01-Mag", ["trained", "k_train", "k_infer", "variant"]]
    assert row.tolist() == ["AST-03", 0.3, 0.1, "Mag"]
    assert np.isnan(table.loc["MHFA", "k_train"]) and table.loc["MHFA", "trained"] == "MHFA"


def replicates_of(folder, trained, seed, corpus, trials, speakers=None, **about):
    """Replicates by hand: column -> values of the EER, over trials and over speakers. Other metrics are 0."""

    def named(draws):
        return {f"{c}:{m}": np.multiply(v, m == "eer") for c, v in (draws or {}).items() for m in METRICS}

    path = folder / f"{trained}-{seed}-{corpus}.parquet"
    about = {"system": trained, "seed": seed, "corpus": corpus} | about
    return write_replicates(path, named(trials), named(speakers), **about)


class TestIntervals:
    TRIALS, SPEAKERS = ([on("home", "eer", end) for end in INTERVALS[kind]] for kind in ("trials", "speakers"))

    def test_of_the_mean_over_seeds(self, inputs, tmp_path):
        """By hand, in log-odds: what both sources of variation add up to, and t with the fewest degrees of freedom."""
        replicates, draws = [], {1: [0, 0.1, 0.2, 0.3, 0.4], 2: [0.02, 0.02, 0.02, 0.02, 0.02]}
        speakers = {1: [0.1, 0.1, 0.1, 0.1, 0.1], 2: [0.1, 0.2, 0.3, 0.2, 0.1]}
        for seed in (1, 2):
            columns = ("05", "05-Mag", "01", "05+stack10", "05+graph0.5")
            trials, by_speaker = (dict.fromkeys(columns, of[seed]) for of in (draws, speakers))
            replicates.append(replicates_of(tmp_path, "AST-05", seed, "home", trials, by_speaker))
        table = make(inputs, tmp_path / "s.tsv", replicates=replicates, confidence=0.5)
        values = pooled(inputs[1], "AST-05-05", "home", "eer")["value"].to_numpy()
        over_seeds, mean = values.var(ddof=1) / 2, values.mean()
        over_trials = np.var([0.01, 0.06, 0.11, 0.16, 0.21], ddof=1)  # of the mean of both seeds on each draw
        over_speakers = np.var([0.1, 0.15, 0.2, 0.15, 0.1], ddof=1) * 6 / 4  # of six, in two strata
        for ends, variance in ((self.TRIALS, over_trials), (self.SPEAKERS, over_speakers)):
            reach = 1.0 * (variance + over_seeds) ** 0.5 / (mean * (1 - mean))  # t of one degree, 75 %: 1
            odds = [mean / (1 - mean) * np.exp(sign * reach) for sign in (-1, 1)]
            assert table.loc["AST-05-05", ends].tolist() == pytest.approx([odd / (1 + odd) for odd in odds])
        assert values_of(table.loc["AST-05-05"], "home", "eer") == pytest.approx(values)
        ends = [*self.TRIALS, *self.SPEAKERS]
        wide = make(inputs, tmp_path / "s.tsv", replicates=replicates[::-1], confidence=0.99)
        assert ((wide.loc["AST-05-05", ends] > 0) & (wide.loc["AST-05-05", ends] <= 1)).all(), "whatever the spread"
        # Others have no replicates, and more than one seed.
        assert table.loc["MHFA", ends].isna().all()
        assert table.loc["AST-05-05", [end.replace("home", "wild") for end in ends]].isna().all()
        assert table.loc[["AST-05-05", "MHFA"], on("home", "n_speakers")].tolist() == [6, 0]
        assert table.loc["AST-05-05", [on("wild", "n_speakers"), on("wild", "n_seeds")]].tolist() == [0, 2]
        # The means are the metrics' own, not the replicates'.
        wanted = pooled(inputs[1], "AST-05-05", "home", "eer")["value"].mean()
        assert table.loc["AST-05-05", on("home", "eer")] == pytest.approx(wanted)

    def test_of_one_seed_without_replicates(self, inputs, tmp_path):
        row = make(inputs, tmp_path / "s.tsv", seeds="1").loc["MHFA"]
        first = pooled(inputs[1], "MHFA", "home", "eer").iloc[0]
        assert row[self.TRIALS].tolist() == pytest.approx([first["ci_low"], first["ci_high"]])
        assert row[[*self.SPEAKERS, on("home", "eer", "std")]].isna().all() and row[on("home", "n_seeds")] == 1
        several = make(inputs, tmp_path / "s.tsv").loc["MHFA"]
        assert several[self.TRIALS].isna().all()

    def test_replicates_without_rows_are_none(self, inputs, tmp_path):
        empty = [replicates_of(tmp_path, "MHFA", seed, "home", {"score": []}) for seed in (1, 2)]
        row = make(inputs, tmp_path / "s.tsv", replicates=empty).loc["MHFA"]
        assert row[[*self.TRIALS, *self.SPEAKERS]].isna().all()

    def test_refusals(self, inputs, tmp_path):
        draws = {"score": [0.1, 0.2]}
        one = replicates_of(tmp_path, "MHFA", 1, "home", draws)
        for change, complaint in (
            (None, r"no replicates of MHFA, seed 2, on home, but of seeds \[1\]"),
            ({"trials": {"other": [0, 1]}}, "no replicates of score:eer"),
            ({"trials": draws, "trial_list": "y"}, "different trial lists"),
            ({"trials": {"score": [0.1]}}, "resampled differently"),
        ):
            two = [] if change is None else [replicates_of(tmp_path, "MHFA", 2, "home", **change)]
            with pytest.raises(ConfigError, match=complaint):
                make(inputs, tmp_path / "s.tsv", replicates=[one, *two])
        with pytest.raises(ConfigError, match="between 0 and 1"):
            make(inputs, tmp_path / "s.tsv", seeds="1", replicates=[one], confidence=95)
        assert not (tmp_path / "s.tsv").exists()


def test_what_was_run(inputs, tmp_path):
    """The size of the run's own back-end, and every state of the code that its scores know of."""
    sizes = pd.DataFrame({"system": ["AST-05-05", "MHFA"], "n_params": [1000, 2000]})
    sizes.to_csv(tmp_path / "own.tsv", sep="\t", index=False)
    scores = []
    for seed, (trained, scored) in enumerate((("b", "a"), ("b", "b"))):
        about = {"trained_with": {"code_hash": trained}, "provenance": {"code_hash": scored}}
        path = tmp_path / f"{seed}.parquet"
        scores.append(write_scores(path, {"trial_id": ["a"]}, system="AST-05", seed=seed, corpus="home", **about))
    table = make(inputs, tmp_path / "s.tsv", as_run=[tmp_path / "own.tsv"], scores=scores)
    assert table.loc["AST-05-01", "code_hash"] == "a+b" and pd.isna(table.loc["MHFA", "code_hash"])
    assert table.loc["MHFA", "n_params_as_run"] == 2000 and np.isnan(table.loc["AST-05-01", "n_params_as_run"])


def test_refusals(inputs, tmp_path):
    folder, _ = inputs
    metrics, sizes = sorted(folder.glob("*.metrics.tsv")), pd.read_csv(folder / "complexity.tsv", sep="\t")
    sizes[1:].to_csv(tmp_path / "small.tsv", sep="\t", index=False)
    sizes.assign(n_params=1).to_csv(tmp_path / "other.tsv", sep="\t", index=False)
    complexity = folder / "complexity.tsv"
    for arguments, complaint in (
        ((metrics, [tmp_path / "small.tsv"]), "no size in .*small.tsv of AST-05-05"),
        ((metrics, [complexity, tmp_path / "other.tsv"]), "contradict each other on AST-03-01-Mag,"),
        ((metrics + metrics[:1], [complexity]), "a number twice"),
        ((metrics, metrics), "columns missing: n_params"),
        (([], [complexity]), "no file given"),
        (([tmp_path / "none.tsv"], [complexity]), "none.tsv: not a readable"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            summarise(*arguments, [], [], [], tmp_path / "refused.tsv")
    assert not (tmp_path / "refused.tsv").exists()
    make(inputs, tmp_path / "s.tsv")
    with pytest.raises(ConfigError, match="no metrics of corpus 'mars'"):
        read_summary(tmp_path / "s.tsv", ["mars"])
    with pytest.raises(ConfigError, match="no system SLS"):
        read_summary(tmp_path / "s.tsv", systems=["MHFA", "SLS"])


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("\tpooled\teer\t", "\tpooled\tcer\t", "no (cer|eer) of .*, seed 1, on .*; compute the metrics again"),
        ("\tpooled\teer\t", "\t\teer\t", "line 2: condition is nan, not a text"),
        ("\tpooled\teer\t0", "\tpooled\teer\tx0", "line 2: value is x0"),
        ("\tpooled\teer\t0", "\tpooled\teer\tinf\t0", "rows have more columns|not a readable TSV|value is inf"),
    ],
)
def test_a_metric_that_is_not_there(tmp_path, before, after, complaint):
    """Nothing is averaged over the seeds that happen to have a value."""
    write_results(tmp_path, ["AST-05-05"], ["home"])
    path = tmp_path / "home-1.metrics.tsv"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ConfigError, match=complaint):
        summarise(sorted(tmp_path.glob("*.metrics.tsv")), [tmp_path / "complexity.tsv"], [], [], [], tmp_path / "s.tsv")
    assert not (tmp_path / "s.tsv").exists()


def test_values_of_seeds(tmp_path):
    row = pd.Series({"home.eer.seeds": "0.1 0.25", "home.cllr.seeds": 0.5, "home.ece.seeds": np.nan})
    found = [values_of(row, "home", metric) for metric in ("eer", "cllr", "ece", "min_dcf")]
    assert found == [[0.1, 0.25], [0.5], [], []], "one value is read as a number; unknown ones are none"
