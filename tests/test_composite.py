"""The composite score by plain arithmetic, what must not change it, and what other weights do to its ranks."""

import math

import numpy as np
import pandas as pd
import pytest

from conftest import write_replicates, write_summary
from spaarsist.config import CompositeWeights
from spaarsist.evaluation.composite import FLOOR, MEASURED, composite
from spaarsist.evaluation.summary import on
from spaarsist.names import BASELINE, ConfigError

HOME, WILD = "home", "wild"
SAME = dict.fromkeys((HOME, WILD), (0.10, 0.20, 0.50, 0.30))
"""Of the baseline, on each corpus: EER, minDCF, Cllr, min_cllr."""
SIZE = (5_000_000, 20_000_000)
"""MACs of back-end and front-end."""


def summary_of(path, systems):
    """A summary of made-up metrics: system -> ({corpus: values of `MEASURED`}, MACs of back-end and front-end)."""
    cells = {}
    for system, (corpora, (n_macs, frontend)) in systems.items():
        cells[system] = {"n_params": 9, "n_macs": n_macs, "n_macs_frontend": frontend}
        for corpus, values in corpora.items():
            cells[system] |= zip((on(corpus, metric) for metric in MEASURED), values, strict=True)
    return write_summary(path, cells)


def rank(tmp_path, systems, weights=None, corpora=(HOME, WILD), replicates=(), **options):
    """Rank systems or all rows of a summary; both tables, of the shares a row per system and a column per rank."""
    made_up = isinstance(systems, dict)
    summary = summary_of(tmp_path / "summary.tsv", systems) if made_up else systems
    names = [*systems] if made_up else [*pd.read_csv(summary, sep="\t")["system"]]
    output, sensitivity = tmp_path / "composite.tsv", tmp_path / "sensitivity.tsv"
    composite(summary, replicates, corpora, names, weights or CompositeWeights(), output, sensitivity, **options)
    shares = pd.read_csv(sensitivity, sep="\t")
    assert (shares["share"] > 0).all()
    return pd.read_csv(output, sep="\t", index_col="system"), shares.pivot(index="system", columns="rank").fillna(0)


def scaled(factors):
    """The baseline's values on both corpora, with EER, minDCF and calibration loss times a factor each."""
    eer, min_dcf, cllr, min_cllr = SAME[HOME]
    eer, min_dcf, loss = np.multiply((eer, min_dcf, cllr - min_cllr), factors)
    return dict.fromkeys((HOME, WILD), (eer, min_dcf, min_cllr + loss, min_cllr))


def sized(factor):
    """MACs of back-end and front-end whose sum is so many times the baseline's."""
    return (factor * sum(SIZE) / 2, factor * sum(SIZE) / 2)


@pytest.fixture
def crowd():
    """Ten systems at random around the baseline, within a factor of a few."""
    rng = np.random.default_rng(5)
    systems = {BASELINE: (SAME, SIZE)}
    for index in range(9):
        values = {corpus: scaled(np.exp(rng.normal(0, 0.5, 3)))[corpus] for corpus in (HOME, WILD)}
        systems[f"B{index}"] = (values, (int(rng.integers(2e6, 8e6)), int(rng.integers(10e6, 40e6))))
    return systems


def test_composite_by_hand(tmp_path):
    """Weights 2, 1, 3 for the groups and 3, 1 for the domains; two corpora out of domain."""
    baseline = {HOME: (0.10, 0.20, 0.50, 0.30), WILD: (0.2, 0.4, 0.9, 0.5), "far": (0.4, 0.8, 1.0, 0.9)}
    other = {HOME: (0.05, 0.30, 0.40, 0.30), WILD: (0.3, 0.2, 1.8, 0.6), "far": (0.2, 0.4, 1.5, 1.0)}
    systems = {BASELINE: (baseline, (1_000_000, 9_000_000)), "MHFA": (other, (3_000_000, 9_000_000))}
    weights = CompositeWeights(accuracy=2, calibration=1, compute=3, in_domain=3, out_of_domain=1)
    table, _ = rank(tmp_path, systems, weights, (HOME, WILD, "far"))
    ratios = {
        "home.eer": 0.5, "home.min_dcf": 1.5, "wild.eer": 1.5, "wild.min_dcf": 0.5, "far.eer": 0.5, "far.min_dcf": 0.5,
        "home.calibration_loss": 0.5, "wild.calibration_loss": 3, "far.calibration_loss": 5, "n_macs_detector": 1.2,
    }  # fmt: skip
    accuracy = (0.5 * 1.5) ** (3 / 4 / 2) * (1.5 * 0.5 * 0.5 * 0.5) ** (1 / 4 / 4)
    calibration = 0.5 ** (3 / 4) * (3 * 5) ** (1 / 4 / 2)
    whole = accuracy ** (2 / 6) * calibration ** (1 / 6) * 1.2 ** (3 / 6)
    assert list(table.columns) == [
        "composite", "rank", "rank_ci_low", "rank_ci_high", "accuracy", "calibration", "compute", *ratios,
        "first_share", "rank_low", "rank_high",
    ]  # fmt: skip
    row = table.loc["MHFA"]
    assert row[[*ratios]].to_dict() == pytest.approx(ratios)
    wanted = (whole, accuracy, calibration, 1.2)
    assert tuple(row[["composite", "accuracy", "calibration", "compute"]]) == pytest.approx(wanted, rel=1e-9)
    assert list(table["rank"]) == [1, 2] and table.index[0] == ("MHFA" if whole < 1 else BASELINE)
    assert (table.loc[BASELINE, ["composite", "accuracy", "calibration", "compute", *ratios]] == 1).all()
    assert table[["rank_ci_low", "rank_ci_high"]].isna().all(axis=None), "without replicates"


def test_means_over_seeds_are_compared(tmp_path):
    table = pd.read_csv(summary_of(tmp_path / "s.tsv", {BASELINE: (SAME, SIZE), "SLS": (SAME, SIZE)}), sep="\t")
    table.loc[table["system"] == "SLS", on("home", "eer")] *= 3  # the mean alone; std and intervals are left alone
    table.to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    result, _ = rank(tmp_path, tmp_path / "s.tsv")
    assert result.loc["SLS", "home.eer"] == pytest.approx(3)
    assert result.loc["SLS", "composite"] == pytest.approx(3 ** (1 / 12))


def test_what_the_back_end_saves_is_little_of_the_whole(tmp_path):
    """A tenth of a back-end that is a fifth of the work; half of it where the front-end is not known."""
    systems = {BASELINE: (SAME, (5e6, 20e6)), "SLS": (SAME, (0.5e6, 20e6))}
    assert rank(tmp_path, systems)[0].loc["SLS", "compute"] == pytest.approx(20.5 / 25)
    unknown = {BASELINE: (SAME, (5e6, None)), "SLS": (SAME, (2.5e6, None))}
    assert rank(tmp_path, unknown)[0].loc["SLS", "compute"] == pytest.approx(0.5)


def test_scale_of_weights_and_of_measures_does_not_matter(tmp_path, crowd):
    first, shares = rank(tmp_path, crowd, CompositeWeights(1, 2, 3, 4, 5))
    again, _ = rank(tmp_path, crowd, CompositeWeights(10, 20, 30, 0.4, 0.5))
    pd.testing.assert_frame_equal(first, again)
    louder = {
        name: ({c: (0.5 * v[0], *(2 * x for x in v[1:])) for c, v in corpora.items()}, (3 * n, 3 * m))
        for name, (corpora, (n, m)) in crowd.items()
    }
    table, again = rank(tmp_path, louder, CompositeWeights(1, 2, 3, 4, 5))
    pd.testing.assert_frame_equal(first, table, rtol=1e-7)
    pd.testing.assert_frame_equal(shares, again)
    assert table.loc[BASELINE, "composite"] == 1 and first["composite"].is_monotonic_increasing


def test_company_moves_ranks_but_no_composite(tmp_path, crowd):
    table, _ = rank(tmp_path, crowd)
    few = {name: crowd[name] for name in (BASELINE, "B2", "B5")}
    alone, shares = rank(tmp_path, few)
    assert alone["composite"].to_dict() == table.loc[alone.index, "composite"].to_dict()
    assert sorted(alone["rank"]) == [1, 2, 3] and shares.shape[0] == 3


@pytest.mark.parametrize("group", ["accuracy", "calibration", "compute"])
def test_a_weight_of_zero_removes_a_group(tmp_path, group):
    better = {"accuracy": [0.5, 0.5, 1], "calibration": [1, 1, 0.5], "compute": [1] * 3}[group]
    size = sized(0.5) if group == "compute" else SIZE
    systems = {BASELINE: (SAME, SIZE), "SLS": (scaled(better), size)}
    assert rank(tmp_path, systems)[0].loc["SLS", "composite"] == pytest.approx(0.5 ** (1 / 3))
    table, _ = rank(tmp_path, systems, CompositeWeights(**{group: 0}))
    assert list(table["composite"]) == pytest.approx([1, 1]) and list(table["rank"]) == [1, 1]
    others = dict.fromkeys({"accuracy", "calibration", "compute"} - {group}, 0)
    assert rank(tmp_path, systems, CompositeWeights(**others))[0].loc["SLS", "composite"] == pytest.approx(0.5)


def test_domains(tmp_path):
    systems = {BASELINE: (SAME, SIZE), "SLS": (SAME | {WILD: scaled([4] * 3)[WILD]}, SIZE)}
    for weights, wanted in (
        (CompositeWeights(compute=0), 2),
        (CompositeWeights(compute=0, in_domain=0), 4),
        (CompositeWeights(compute=0, out_of_domain=0), 1),
        (CompositeWeights(compute=0, in_domain=3), 4 ** (1 / 4)),
    ):
        assert rank(tmp_path, systems, weights)[0].loc["SLS", "composite"] == pytest.approx(wanted)


def test_one_corpus_is_in_domain_whatever_the_weights_of_domains(tmp_path):
    systems = {BASELINE: (SAME, SIZE), "SLS": (SAME | {HOME: scaled([4] * 3)[HOME]}, SIZE)}
    table, _ = rank(tmp_path, systems, CompositeWeights(in_domain=1, out_of_domain=9), [HOME])
    assert table.loc["SLS", "composite"] == pytest.approx(4 ** (2 / 3))
    assert not [column for column in table if column.startswith(WILD)]
    with pytest.raises(ConfigError, match="in_domain must be above 0"):
        rank(tmp_path, systems, CompositeWeights(in_domain=0), [HOME])


def test_nothing_divided_by_nothing_and_extremes(tmp_path):
    """A calibration loss of 0 may stand on either side, and so may what costs nothing."""
    flat = (0.10, 0.20, 0.30, 0.30)
    systems = {
        BASELINE: ({HOME: flat}, (5e6, 0)),
        "Mean-pool": ({HOME: flat}, (0, 0)),
        "SLS": ({HOME: (0.10, 0.20, 0.31, 0.30)}, (5e6, 0)),
    }
    table, _ = rank(tmp_path, systems, corpora=[HOME])
    assert table["home.calibration_loss"].to_dict() == {BASELINE: 1, "Mean-pool": 1, "SLS": 1 / FLOOR}
    assert table.loc["Mean-pool", "n_macs_detector"] == FLOOR
    assert table.loc["Mean-pool", "composite"] == pytest.approx(FLOOR ** (1 / 3))


def test_losses_of_rounding_dust_are_no_losses(tmp_path):
    systems = {
        BASELINE: ({HOME: (0.1, 0.3, 0.3, 0.3)}, SIZE),
        "SLS": ({HOME: (0.1, 0.3, 0.3000000001, 0.3)}, SIZE),
        "MHFA": ({HOME: (0.1, 0.3, 0.2999999999, 0.3)}, SIZE),
    }
    assert (rank(tmp_path, systems, corpora=[HOME])[0]["home.calibration_loss"] == 1).all()


def test_who_is_better_in_everything_is_first_under_all_weights(tmp_path, crowd):
    crowd["SLS"] = (scaled([0.101] * 3), sized(0.11))
    table, shares = rank(tmp_path, crowd)
    assert table.index[0] == "SLS"
    assert table.loc["SLS", ["rank", "first_share", "rank_low", "rank_high"]].to_list() == [1, 1, 1, 1]
    assert shares.loc["SLS"].to_list() == [1] + [0] * (shares.shape[1] - 1)
    assert (table["first_share"].iloc[1:] == 0).all() and (table["rank_low"].iloc[1:] > 1).all()


def test_two_that_are_better_in_one_cell_each_split_the_first_places(tmp_path):
    """Halving accuracy in domain against halving it out of domain: whichever cell weighs more."""
    half = scaled([0.5, 0.5, 1])
    systems = {
        BASELINE: (SAME, SIZE),
        "MHFA": (SAME | {HOME: half[HOME]}, SIZE),
        "SLS": (SAME | {WILD: half[WILD]}, SIZE),
    }
    table, shares = rank(tmp_path, systems)
    assert list(table["rank"]) == [1, 1, 3] and list(table.index) == ["MHFA", "SLS", BASELINE]
    assert table.loc[["MHFA", "SLS"], "first_share"].to_list() == pytest.approx([0.5, 0.5], abs=0.02)
    assert table["first_share"].sum() == pytest.approx(1)
    assert (shares.sum(axis=1) - 1).abs().max() < 1e-9
    assert table.loc["SLS", ["rank_low", "rank_high"]].to_list() == [1, 2]


def test_weights_are_uniform_on_the_simplex(tmp_path):
    """One of n weights exceeds 0.3 with probability 0.7 ** (n - 1)."""
    # log scores: -1.4 w of compute against -0.6 (1 - w), so MHFA is first where w > 0.3
    lighter, better = sized(math.exp(-1.4)), scaled([math.exp(-0.6)] * 3)
    systems = {BASELINE: (SAME, SIZE), "MHFA": (SAME, lighter), "SLS": (better, SIZE)}
    for corpora, n_others in ((HOME, WILD), 4), ((HOME,), 2):
        table, _ = rank(tmp_path, systems, corpora=corpora, n_draws=20_000)
        assert table.loc["MHFA", "first_share"] == pytest.approx(0.7**n_others, abs=0.012)


def test_first_under_one_weighting_only_looks_like_it(tmp_path):
    """Ahead where all weight lies, nearly last elsewhere: rank 1 with a small share of first places."""
    systems = {BASELINE: (SAME, SIZE), "SLS": (scaled([0.9, 0.9, 5]), sized(5))}
    table, shares = rank(tmp_path, systems, CompositeWeights(calibration=0, compute=0))
    assert table.loc["SLS", "rank"] == 1 and table.loc["SLS", "first_share"] < 0.02
    assert table.loc["SLS", "rank_high"] == 2 and shares.loc["SLS", ("share", 2)] > 0.98


@pytest.mark.parametrize(
    "factors",
    [([0.5, 0.6, 0.7],) * 2, ([0.45, 1, 1], [1, 0.45, 1])],
    ids=["same", "but for dust"],
)
def test_twins_share_the_lowest_rank_and_halve_first_places(tmp_path, factors):
    twins = {name: (scaled(part), SIZE) for name, part in zip(("SLS", "MHFA"), factors, strict=True)}
    table, shares = rank(tmp_path, {BASELINE: (SAME, SIZE), **twins})
    assert table["rank"].to_dict() == {"SLS": 1, "MHFA": 1, BASELINE: 3}
    assert table["first_share"].to_dict() == {"SLS": 0.5, "MHFA": 0.5, BASELINE: 0}
    assert shares["share"][1].to_dict() == {"SLS": 1, "MHFA": 1, BASELINE: 0}


def test_sensitivity_says_the_same_in_both_files(tmp_path, crowd):
    table, shares = rank(tmp_path, crowd)
    for system, row in shares["share"].iterrows():
        cumulated = row.sort_index().cumsum()
        assert cumulated.iloc[-1] == pytest.approx(1)
        assert table.loc[system, "rank_low"] == cumulated.index[cumulated >= 0.05 - 1e-9][0]
        assert table.loc[system, "rank_high"] == cumulated.index[cumulated >= 0.95 - 1e-9][0]
        assert table.loc[system, "first_share"] == pytest.approx(row.get(1, 0))  # no ties in this crowd


def test_same_seed_same_bytes(tmp_path, crowd):
    def contents(**options):
        rank(tmp_path, crowd, n_draws=200, **options)
        return [(tmp_path / f"{name}.tsv").read_bytes() for name in ("composite", "sensitivity")]

    assert contents() == contents(seed=0)
    assert contents()[1] != contents(seed=1)[1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"systems": [BASELINE, "SLS", "MHFA"]}, "holds no system MHFA"),
        ({"systems": ["SLS"]}, f"add the baseline {BASELINE}"),
        ({"baseline": "MHFA"}, "add the baseline MHFA"),
        ({"systems": [BASELINE, "SLS", "SLS"]}, "systems must be named, each once"),
        ({"systems": []}, "systems must be named"),
        ({"corpora": []}, "corpora must be named"),
        ({"corpora": [HOME, HOME]}, "corpora must be named, each once"),
        ({"corpora": [HOME, "mars"]}, "no metrics of corpus 'mars'"),
        ({"n_draws": 0}, "n_draws must be 1 or more"),
        ({"confidence": 95}, "between 0 and 1"),
        ({"summary": "none.tsv"}, "none.tsv: not a readable TSV"),
    ],
)
def test_refuses_what_cannot_be_ranked(tmp_path, monkeypatch, change, complaint):
    monkeypatch.chdir(tmp_path)
    arguments = {
        "replicates": [],
        "summary": summary_of(tmp_path / "summary.tsv", {BASELINE: (SAME, SIZE), "SLS": (SAME, SIZE)}),
        "corpora": [HOME, WILD],
        "systems": [BASELINE, "SLS"],
        "weights": CompositeWeights(),
        "output": tmp_path / "composite.tsv",
        "sensitivity": tmp_path / "sensitivity.tsv",
    }
    with pytest.raises(ConfigError, match=complaint):
        composite(**arguments | change)
    assert not (tmp_path / "composite.tsv").exists() and not (tmp_path / "sensitivity.tsv").exists()


@pytest.mark.parametrize("column", [on("home", "eer"), on("wild", "min_cllr"), on("wild", "cllr"), "n_macs"])
@pytest.mark.parametrize("value", ["", "inf", "-0.1", "many"])
def test_refuses_a_value_that_is_none_and_names_it(tmp_path, column, value):
    path = summary_of(tmp_path / "summary.tsv", {BASELINE: (SAME, SIZE), "SLS": (SAME, SIZE)})
    table = pd.read_csv(path, sep="\t", dtype=str)
    table.loc[table["system"] == "SLS", column] = value
    table.to_csv(path, sep="\t", index=False)
    with pytest.raises(ConfigError, match=rf"summary.tsv: SLS has no usable value .* in column {column}"):
        rank(tmp_path, path)


def test_refuses_a_summary_without_a_column(tmp_path):
    path = summary_of(tmp_path / "summary.tsv", {BASELINE: (SAME, SIZE)})
    pd.read_csv(path, sep="\t").drop(columns=on("wild", "cllr")).to_csv(path, sep="\t", index=False)
    with pytest.raises(ConfigError, match=f"{BASELINE} has no usable value .* in column wild.cllr.mean"):
        rank(tmp_path, path)


class TestRanksByChance:
    """Three systems on one corpus; every other metric but the EER is the same of all."""

    VALUES = (0.2, 0.5, 0.3)

    def files(self, folder, draws, speakers=None, n_seeds=1, corpus=HOME, **about):
        """Resampled EERs of each system; seed s has them times 1 + s."""
        found = []
        for name, of_system in draws.items():
            for seed in range(n_seeds):
                trained, column = ("AST-05", "05") if name == BASELINE else (name, "score")

                def named(values, times=1 + seed, column=column):
                    rest = zip(MEASURED[1:], self.VALUES, strict=True)
                    columns = {f"{column}:{metric}": [value] * len(values) for metric, value in rest}
                    return {f"{column}:eer": np.multiply(values, times)} | columns

                where = {"system": trained, "seed": seed, "corpus": corpus} | about
                by_speaker = named(speakers[name]) if speakers else None
                path = folder / f"{name}-{seed}.parquet"
                found.append(write_replicates(path, named(of_system), by_speaker, **where))
        return found

    def rank(self, folder, replicates, names=("MHFA", "SLS"), **options):
        systems = {name: ({HOME: (0.1, *self.VALUES)}, SIZE) for name in (BASELINE, *names)}
        table, _ = rank(folder, systems, corpora=[HOME], replicates=replicates, n_draws=10, **options)
        return table[["rank_ci_low", "rank_ci_high"]].astype(int).to_numpy().tolist(), [*table.index]

    def test_by_hand(self, tmp_path):
        """Ranks of AASIST 1, 1, 2, 3; of MHFA 2, 3, 1, 2; of SLS 3, 2, 3, 1."""
        draws = {BASELINE: [1, 1, 2, 3], "MHFA": [2, 3, 1, 2], "SLS": [3, 2, 3, 1]}
        files = self.files(tmp_path, {name: np.divide(values, 10) for name, values in draws.items()})
        assert self.rank(tmp_path, files, confidence=0.95)[0] == [[1, 3], [1, 3], [1, 3]]
        assert self.rank(tmp_path, files, confidence=0.49)[0] == [[1, 2], [2, 2], [2, 3]]

    def test_who_is_always_first_is_so_for_sure(self, tmp_path):
        rng = np.random.default_rng(0)
        draws = {name: at + rng.uniform(0, 0.01, 50) for name, at in ((BASELINE, 0.1), ("MHFA", 0.2), ("SLS", 0.3))}
        assert self.rank(tmp_path, self.files(tmp_path, draws))[0] == [[1, 1], [2, 2], [3, 3]]
        speakers = dict.fromkeys(draws, rng.uniform(0.1, 0.2, 50)) | {"SLS": rng.uniform(0, 0.3, 50)}
        ends, names = self.rank(tmp_path, self.files(tmp_path, draws, speakers))
        assert ends[names.index("SLS")] == [1, 3], "speakers count where they are known"

    def test_seeds_are_drawn_too(self, tmp_path):
        """Twice as many errors with the second seed: alone of the one training, so its rank is not sure."""
        draws = {BASELINE: [0.1] * 200, "MHFA": [0.11] * 200}
        files = [*self.files(tmp_path, draws, n_seeds=2)]
        ends, _ = self.rank(tmp_path, files, names=["MHFA"])
        assert ends == [[1, 2], [1, 2]]
        assert self.rank(tmp_path, files, names=["MHFA"])[0] == ends

    def test_refusals(self, tmp_path):
        draws = {BASELINE: [0.1, 0.2], "MHFA": [0.1, 0.3], "SLS": [0.2, 0.3]}
        files = self.files(tmp_path, draws)
        with pytest.raises(ConfigError, match="no replicates of SLS on home"):
            self.rank(tmp_path, files[:-1])
        with pytest.raises(ConfigError, match="rest on different trial lists"):
            self.rank(tmp_path, [*files[:-1], *self.files(tmp_path, {"SLS": [0.1, 0.2]}, trial_list="y")])
        with pytest.raises(ConfigError, match=r"holds no resamples; set evaluation\.bootstrap"):
            self.rank(tmp_path, self.files(tmp_path, dict.fromkeys(draws, ())))
