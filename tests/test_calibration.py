"""Calibration and threshold transfer where the answers are known: simulated log-likelihood ratios, counted trials."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from conftest import write_scores, write_trials
from spaarsist.config import CostModel
from spaarsist.evaluation.calibration import COLUMNS, calibrate, choose_thresholds, fit_affine, read_calibration
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.names import ConfigError

OF_DEV = {"slope", "offset", "threshold_dev_eer", "threshold_dev_min_dcf"}
OF_ALL = {
    "n_bonafide", "n_spoof", "eer", "min_dcf", "act_dcf", "cllr", "gap", "min_dcf_calibrated", "act_dcf_calibrated",
    "cllr_calibrated", "gap_calibrated", "p_miss_at_dev_eer", "p_fa_at_dev_eer", "dcf_at_dev_eer",
    "p_miss_at_dev_min_dcf", "p_fa_at_dev_min_dcf", "dcf_at_dev_min_dcf",
}  # fmt: skip


def llrs(n_bonafide, n_spoof, mean, seed=0):
    """Gaussian scores of means +-m and variance 2m, which are their own log-likelihood ratios."""
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(sign * mean, np.sqrt(2 * mean), n) for sign, n in ((1, n_bonafide), (-1, n_spoof)))


def write(folder, corpus, columns, system="MHFA", seed=1, **about):
    """A score file, and a trial list, of one column or more: name -> (bona fide scores, spoof scores)."""
    sizes = [len(values) for values in next(iter(columns.values()))]
    ids = [f"{corpus}{i}" for i in range(sum(sizes))]
    order = np.random.default_rng(7).permutation(len(ids))
    labels = np.repeat(["bonafide", "spoof"], sizes)
    write_trials(folder / f"{corpus}.tsv", np.take(ids, order), labels[order])
    columns = {"trial_id": ids} | {name: np.concatenate(values) for name, values in columns.items()}
    return write_scores(folder / f"{corpus}.parquet", columns, system=system, seed=seed, corpus=corpus, **about)


def run(folder, dev, evaluation=(), **options):
    """Calibrate on `dev`; (column, corpus) -> quantity -> value."""
    paths = [write(folder, corpus, columns) for corpus, columns in {"dev": dev, **dict(evaluation)}.items()]
    lists = {path.stem: path.with_suffix(".tsv") for path in paths}
    calibrate(paths[0], lists["dev"], paths[1:], lists, folder / "out.tsv", **options)
    table = pd.read_csv(folder / "out.tsv", sep="\t", dtype={"variant": str})
    assert tuple(table.columns) == COLUMNS
    groups = table.groupby(["variant", "corpus"], sort=False)
    return {key: part.set_index("quantity")["value"] for key, part in groups}


class TestFit:
    def test_log_likelihood_ratios_stay_as_they_are(self):
        slope, offset = fit_affine(*llrs(40_000, 120_000, 3.0))
        assert (slope, offset) == pytest.approx((1, 0), abs=0.03)  # some 3 standard errors

    @pytest.mark.parametrize(("factor", "shift"), [(0.2, 5.0), (7.0, -3.0), (1.0, 1e4), (-2.0, 1.0), (1e-5, 0.0)])
    def test_scaled_and_shifted_ones_are_brought_back(self, factor, shift):
        """Exactly what was fitted to the ratios themselves: the fit does not mind units."""
        ratios = llrs(4000, 9000, 2.0)
        slope, offset = fit_affine(*ratios)
        moved = [(values - shift) / factor for values in ratios]
        assert fit_affine(*moved) == pytest.approx((slope * factor, offset + slope * shift), rel=1e-6, abs=1e-6)

    @pytest.mark.parametrize("sizes", [(300, 20), (20, 300), (4, 5)])
    def test_no_other_map_has_a_lower_cllr(self, sizes):
        """Another method, on the metric itself; sizes are unequal, so that classes that count unlike would show."""
        classes = [2.5 * values - 1 for values in llrs(*sizes, 0.4, seed=3)]

        def cllr(map):
            return compute_metrics(*(map[0] * values + map[1] for values in classes))["cllr"]

        found = minimize(cllr, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
        assert fit_affine(*classes) == pytest.approx(found.x, abs=1e-5)

    def test_share_of_spoofs_does_not_matter(self):
        bonafide, spoof = llrs(500, 700, 1.0)
        assert fit_affine(bonafide, np.tile(spoof, 9)) == pytest.approx(fit_affine(bonafide, spoof), abs=1e-8)

    def test_by_hand(self):
        """Scores of two values: the ratios are those of the shares, log (2/3 / 1/3) and log (1/3 / 2/3)."""
        assert fit_affine([0, 1, 1], [0, 0, 1]) == pytest.approx((2 * np.log(2), -np.log(2)))

    def test_flipped_scores_have_a_negative_slope(self):
        bonafide, spoof = llrs(2000, 3000, 1.5)
        slope, offset = fit_affine(bonafide, spoof)
        assert fit_affine(-bonafide, -spoof) == pytest.approx((-slope, offset))

    @pytest.mark.parametrize("classes", [([1, 2], [-1, 0]), ([1, 2], [0, 1]), ([0, 1], [1, 2]), ([3, 3], [3, 3])])
    def test_separable_classes_have_no_answer(self, classes):
        """In either order, touching, or all alike."""
        assert np.isnan(fit_affine(*classes)).all()

    def test_a_single_trial_on_the_wrong_side_gives_an_answer(self):
        rng = np.random.default_rng(0)
        slope, _ = fit_affine([*rng.uniform(2, 9, 5000), 1.0], [*rng.uniform(-9, -2, 5000), 1.001])
        assert 1 < slope < 100


class TestThresholds:
    BONAFIDE, SPOOF = [1, 2, 2, 3, 5, 6], [-1, 0, 1, 1, 2, 4]

    def test_by_hand(self):
        """
        threshold   -1  0   1   2   3   4   5   6   inf   the lowest score that is accepted
        missed       0  0   0   1   3   4   4   5   6     of 6
        accepted     6  5   4   2   1   1   0   0   0     of 6
        DCF * 6      6  5   4   3.9 6.7 8.6 ...           miss 1.9 and false acceptance 1, in the normalised cost
        """
        thresholds = choose_thresholds(self.BONAFIDE, self.SPOOF)
        assert thresholds == {"dev_eer": 1.5, "dev_min_dcf": 1.5}
        dear = CostModel(p_spoof=0.5, c_miss=3, c_fa=1)  # DCF * 6 = 3 missed + accepted: 6 5 4 5 ...
        assert choose_thresholds(self.BONAFIDE, self.SPOOF, dear) == {"dev_eer": 1.5, "dev_min_dcf": 0.5}
        cheap = CostModel(p_spoof=0.5, c_miss=1, c_fa=4)  # missed + 4 accepted: 24 20 16 9 7 8 4 5 6
        assert choose_thresholds(self.BONAFIDE, self.SPOOF, cheap) == {"dev_eer": 1.5, "dev_min_dcf": 4.5}

    def test_a_gap_is_parted_in_the_middle(self):
        assert choose_thresholds([3, 4], [-2, 1]) == {"dev_eer": 2, "dev_min_dcf": 2}

    def test_of_two_that_are_as_good_the_lower(self):
        """At 0.5 a spoof is accepted, at 1.5 a bona fide trial missed instead: the rates are 1/2 apart either way."""
        assert choose_thresholds([1, 2], [1, 0])["dev_eer"] == 0.5

    def test_useless_scores(self):
        assert choose_thresholds([0, 0], [0, 0, 0]) == {"dev_eer": -np.inf, "dev_min_dcf": -np.inf}
        rare = CostModel(p_spoof=0.9)
        assert choose_thresholds([0, 0], [1, 1], rare)["dev_min_dcf"] == np.inf

    def test_neighbouring_floats(self):
        low = 1 + np.spacing(1.0)  # its mantissa is odd: the middle would be rounded up or down
        high = low + np.spacing(low)
        for pair in ((1.0, low), (low, high)):
            assert choose_thresholds([pair[1]], [pair[0]])["dev_eer"] == pair[1]

    @pytest.mark.parametrize("digits", [0, 1, 9])
    def test_they_reach_what_the_metrics_promise(self, digits):
        bonafide, spoof = (np.round(values, digits) for values in llrs(311, 503, 0.8))
        metrics, thresholds = compute_metrics(bonafide, spoof), choose_thresholds(bonafide, spoof)
        errors = {name: (np.mean(bonafide < t), np.mean(spoof >= t)) for name, t in thresholds.items()}
        assert np.dot(errors["dev_min_dcf"], (1.9, 1)) == pytest.approx(metrics["min_dcf"])
        if digits == 9:  # no ties
            assert np.mean(errors["dev_eer"]) == pytest.approx(metrics["eer"])


class TestCalibrate:
    def test_a_dozen_trials_by_hand(self, tmp_path):
        dev = {"score": (np.array([1.0, 2, 2, 3, 5, 6]), np.array([-1.0, 0, 1, 1, 2, 4]))}
        wild = {"score": (np.array([-1.0, 1, 1.5, 2, 8]), np.array([1.5, 1.25, -5, 1.5, 0, 2, 1, 3]))}
        result = run(tmp_path, dev, {"wild": wild})
        assert [*result] == [("score", "dev"), ("score", "wild")]
        home, away = result.values()
        assert {*home.index} == OF_DEV | OF_ALL and {*away.index} == OF_ALL
        assert (home["n_bonafide"], home["n_spoof"], away["n_bonafide"], away["n_spoof"]) == (6, 6, 5, 8)
        assert home["threshold_dev_eer"] == home["threshold_dev_min_dcf"] == 1.5
        for name in ("dev_eer", "dev_min_dcf"):
            assert home[[f"p_miss_at_{name}", f"p_fa_at_{name}"]].tolist() == pytest.approx([1 / 6, 2 / 6])
            assert away[[f"p_miss_at_{name}", f"p_fa_at_{name}"]].tolist() == pytest.approx([2 / 5, 4 / 8])  # 1.5 is in
            assert away[f"dcf_at_{name}"] == pytest.approx(1.9 * 2 / 5 + 4 / 8)
        for part, classes in ((home, dev["score"]), (away, wild["score"])):
            raw = compute_metrics(*classes)
            after = compute_metrics(*(home["slope"] * values + home["offset"] for values in classes))
            for name in ("min_dcf", "act_dcf", "cllr"):
                assert part[name] == pytest.approx(raw[name], abs=1e-9)
                assert part[f"{name}_calibrated"] == pytest.approx(after[name], abs=1e-8)
            assert part["gap"] == pytest.approx(raw["act_dcf"] - raw["min_dcf"], abs=1e-9)
            assert part["gap_calibrated"] == pytest.approx(after["act_dcf"] - after["min_dcf"], abs=1e-8)

    def test_what_calibration_mends_and_what_it_leaves(self, tmp_path):
        """Ratios that lost scale and shift: in domain the cost comes down to its minimum; a shift elsewhere remains."""
        dev, home, away = (llrs(5000, 5000, 2.0, seed) for seed in (1, 2, 3))
        spoilt = [{"score": tuple(0.25 * (v + s) - 2 for v in c)} for c, s in ((dev, 0), (home, 0), (away, 3))]
        result = run(tmp_path, spoilt[0], {"home": spoilt[1], "away": spoilt[2]})
        for part in result.values():
            assert part["min_dcf_calibrated"] == pytest.approx(part["min_dcf"])
        dev, home, away = result.values()
        assert (dev["slope"], dev["offset"]) == pytest.approx((4, 8), abs=0.5)
        assert home["gap"] > 0.3 and home["gap_calibrated"] < 0.02
        assert home["cllr_calibrated"] < home["cllr"] - 0.1
        assert away["gap_calibrated"] > 0.3 and away["cllr_calibrated"] > 1.5 * home["cllr_calibrated"]
        assert abs(home["p_miss_at_dev_eer"] - home["p_fa_at_dev_eer"]) < 0.03
        assert away["p_fa_at_dev_eer"] > 0.5 > 0.05 > away["p_miss_at_dev_eer"]

    def test_the_same_trials_again(self, tmp_path):
        classes = {"score": llrs(201, 304, 0.7)}
        result = run(tmp_path, classes, {"again": classes})
        home, again = result.values()
        assert again.to_dict() == pytest.approx(home[again.index].to_dict())
        assert abs(again["p_miss_at_dev_eer"] - again["p_fa_at_dev_eer"]) < 1 / 200
        assert again["dcf_at_dev_min_dcf"] == pytest.approx(again["min_dcf"])

    @pytest.mark.parametrize("seed", range(8))
    def test_on_dev_cllr_never_rises(self, tmp_path, seed):
        rng = np.random.default_rng(seed)
        classes = [rng.normal(rng.normal(), 3, n) for n in rng.integers(5, 60, 2)]
        dev = run(tmp_path, {"score": classes})["score", "dev"]
        assert dev["cllr_calibrated"] <= dev["cllr"] + 1e-9 and dev["cllr_calibrated"] <= 1 + 1e-9
        if dev["slope"] > 0:
            assert dev["min_dcf_calibrated"] == pytest.approx(dev["min_dcf"])

    def test_flipped_scores(self, tmp_path):
        flipped = {"score": tuple(-v for v in llrs(300, 400, 1.0))}
        part = run(tmp_path, flipped)["score", "dev"]
        assert part["slope"] < 0 and part["eer"] > 0.5
        assert part["cllr"] > 1 > part["cllr_calibrated"]
        assert part["min_dcf"] > part["min_dcf_calibrated"]  # the map has turned the order round
        assert part["gap_calibrated"] == pytest.approx(part["act_dcf_calibrated"] - part["min_dcf_calibrated"])

    def test_separable_development_scores(self, tmp_path):
        wild = {"score": llrs(20, 30, 1.0)}
        result = run(tmp_path, {"score": (np.array([3.0, 4]), np.array([-2.0, 1, 0]))}, {"wild": wild})
        for part in result.values():
            depends = {name for name in part.index if name.endswith("_calibrated") or name in ("slope", "offset")}
            assert {name for name, value in part.items() if np.isnan(value)} == depends
        assert result["score", "dev"]["threshold_dev_eer"] == 2
        assert result["score", "wild"]["p_miss_at_dev_eer"] == pytest.approx(np.mean(wild["score"][0] < 2))

    def test_every_column_by_itself(self, tmp_path, capfd):
        bonafide, spoof = llrs(200, 300, 1.0)
        columns = {"05": (bonafide, spoof), "01-Mag": (bonafide / 4, spoof / 4)}
        more = {**columns, "01-Mag+stack1": (bonafide, spoof)}
        for corpus, given in (("dev", columns), ("wild", more)):
            write(tmp_path, corpus, given, system="AST-03", seed=5)
        lists = {name: tmp_path / f"{name}.tsv" for name in ("dev", "wild")}
        args = tmp_path / "dev.parquet", lists["dev"], [tmp_path / "wild.parquet"], lists
        calibrate(*args, tmp_path / "out.tsv")
        assert "calibrate wild: 100%" in capfd.readouterr().err
        table = pd.read_csv(tmp_path / "out.tsv", sep="\t")
        assert {*table["system"]} == {"AST-03-05", "AST-03-01-Mag"} and {*table["seed"]} == {5}
        slopes = table[table["quantity"] == "slope"].set_index("variant")["value"]
        assert slopes["01-Mag"] == pytest.approx(4 * slopes["05"])
        calibrate(*args, tmp_path / "again.tsv")
        assert (tmp_path / "again.tsv").read_bytes() == (tmp_path / "out.tsv").read_bytes()

    def test_costs_are_the_given_ones(self, tmp_path):
        cost, classes = CostModel(p_spoof=0.5, c_miss=1, c_fa=1), llrs(200, 300, 1.0)
        part = run(tmp_path, {"score": classes}, cost=cost)["score", "dev"]
        metrics = compute_metrics(*classes, cost)
        assert part["min_dcf"] == pytest.approx(metrics["min_dcf"]) == pytest.approx(part["dcf_at_dev_min_dcf"])
        assert part["act_dcf"] == pytest.approx(metrics["act_dcf"])
        assert part["dcf_at_dev_eer"] == pytest.approx(part["p_miss_at_dev_eer"] + part["p_fa_at_dev_eer"])
        assert part["min_dcf_calibrated"] == pytest.approx(part["min_dcf"])
        mapped = (part["slope"] * values + part["offset"] for values in classes)
        assert part["act_dcf_calibrated"] == pytest.approx(compute_metrics(*mapped, cost)["act_dcf"])

    @pytest.mark.parametrize(
        ("corpus", "about", "complaint"),
        [
            ("wild", {"system": "SLS"}, "system is SLS, but MHFA in .*dev.parquet; .* same checkpoint"),
            ("wild", {"seed": 2}, "seed is 2, but 1"),
            ("wild", {"checkpoint": "b"}, "checkpoint is b, but a"),
            ("dev", {}, "a file of corpus 'dev' was given before"),
            ("else", {}, "no trial list was given for corpus 'else'"),
        ],
    )
    def test_refuses_what_does_not_belong_together(self, tmp_path, corpus, about, complaint):
        classes = {"score": llrs(9, 9, 1.0)}
        dev = write(tmp_path, "dev", classes, checkpoint="a")
        (tmp_path / "other").mkdir()
        path = write(tmp_path / "other", corpus, classes, **{"checkpoint": "a", **about})
        lists = {"wild": path.with_suffix(".tsv"), "dev": path.with_suffix(".tsv")}
        with pytest.raises(ConfigError, match=f"{path}: {complaint}"):
            calibrate(dev, tmp_path / "dev.tsv", [path], lists, tmp_path / "out.tsv")
        assert not (tmp_path / "out.tsv").exists()

    def test_refuses_missing_columns_and_trials(self, tmp_path):
        classes = llrs(9, 9, 1.0)
        dev = write(tmp_path, "dev", {"05": classes, "03": classes, "01": classes}, system="AST-05")
        wild = write(tmp_path, "wild", {"03": classes}, system="AST-05")
        lists = {"wild": tmp_path / "wild.tsv"}
        with pytest.raises(ConfigError, match=f"{wild}: no scores 05, 01, which {dev} has; score again"):
            calibrate(dev, tmp_path / "dev.tsv", [wild], lists, tmp_path / "out.tsv")
        with pytest.raises(ConfigError, match="not scored"):
            calibrate(dev, tmp_path / "wild.tsv", [], {}, tmp_path / "out.tsv")
        with pytest.raises(ConfigError, match="not a readable Parquet file"):
            calibrate(dev, tmp_path / "dev.tsv", [tmp_path / "wild.tsv"], lists, tmp_path / "out.tsv")


class TestRead:
    @staticmethod
    def file(folder, seed, **values):
        rows = [("MHFA", seed, "score", "dev", "slope", values.pop("slope", 2.0))]
        rows += [("MHFA", seed, "score", corpus, name, v) for name, v in values.items() for corpus in ("dev", "wild")]
        path = folder / f"{seed}.tsv"
        pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False)
        return path

    def test_means_over_seeds(self, tmp_path):
        paths = [
            self.file(tmp_path, seed, slope=seed, cllr=seed**2, act_dcf_calibrated=v)
            for seed, v in ((1, 0.5), (3, np.nan))
        ]
        table = read_calibration(paths, ["MHFA"], ["wild", "dev"])
        assert [*table.index] == [("MHFA", "wild"), ("MHFA", "dev")]
        row = table.loc["MHFA", "wild"]
        assert (row["n_seeds"], row["cllr.mean"], row["slope.mean"], row["slope.n"]) == (2, 5, 2, 2)
        assert row["cllr.std"] == pytest.approx(32**0.5)
        assert np.isnan(row["act_dcf_calibrated.mean"]) and row["act_dcf_calibrated.n"] == 1
        assert np.isnan(read_calibration(paths[:1], ["MHFA"], ["dev"])["cllr.std"].item())

    def test_refuses(self, tmp_path):
        path = self.file(tmp_path, 1, cllr=1)
        for paths, systems, corpora, complaint in (
            ([], ["MHFA"], ["dev"], "no calibration file"),
            ([path, path], ["MHFA"], ["dev"], "hold a value twice: {'system': 'MHFA'"),
            ([path], ["MHFA", "SLS"], ["dev", "else"], "nothing of MHFA on else, SLS on dev, SLS on else"),
            ([tmp_path / "none.tsv"], ["MHFA"], ["dev"], "none.tsv: not a readable TSV"),
        ):
            with pytest.raises(ConfigError, match=complaint):
                read_calibration(paths, systems, corpora)
