"""Metrics against the official package's and the released code's own numbers, by hand, and on hostile input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaarsist.config import ConfigError, CostModel
from spaarsist.evaluation.metrics import METRICS, RankedTrials, compute_metrics, det_curve, evaluate

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
    weighted = RankedTrials(bonafide, spoof).metrics(*([c] for c in counts))
    repeated = compute_metrics(np.repeat(bonafide, counts[0]), np.repeat(spoof, counts[1]))
    assert {k: v[0] for k, v in weighted.items()} == pytest.approx(repeated, abs=1e-12)


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


@pytest.fixture
def files(tmp_path):
    """A trial list of 60 trials with attacks and codecs, and a score file of two variants."""
    rng = np.random.default_rng(1)
    trials = pd.DataFrame({"trial_id": [f"t{i:02d}" for i in range(60)], "path": "a.tar::b.flac"})
    trials["label"] = ["bonafide", "spoof", "spoof"] * 20
    trials["speaker_id"] = "NA"  # a legal name that pandas would take for a missing value
    trials["attack_id"] = ["-", "A17", "A18"] * 20
    trials["codec"] = ["-"] * 30 + ["C01"] * 27 + ["C02", "C01", "C01"]  # C02 has a bona fide trial only
    trials["n_samples"] = 64600
    quality = np.where(trials["label"] == "bonafide", 1.5, -1.5)
    scores = pd.DataFrame({"trial_id": trials["trial_id"]})
    for column in ("05", "03-Mag"):
        scores[column] = (quality + rng.normal(size=60)).astype(np.float32)
    metadata = {"system": "AST-05", "seed": 3, "corpus": "mini"}

    def write(scores=scores, trials=trials, metadata=metadata):
        table = pa.Table.from_pandas(scores, preserve_index=False)
        table = table.replace_schema_metadata({b"spaarsist": json.dumps(metadata).encode()})
        pq.write_table(table, tmp_path / "scores.parquet")
        trials.to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
        return tmp_path / "scores.parquet", tmp_path / "trials.tsv", tmp_path / "metrics.tsv"

    write.scores, write.trials, write.metadata = scores, trials, metadata
    return write


def test_evaluate(files):
    shuffled = files.scores.sample(frac=1, random_state=0)  # joined by id, not by position
    paths = files(shuffled)
    evaluate(*paths, n_bootstrap=50)
    table = pd.read_csv(paths[2], sep="\t", dtype={"variant": str})
    header = "system seed variant corpus condition metric value ci_low ci_high n_bonafide n_spoof"
    assert " ".join(table.columns) == header
    assert set(table["system"]) == {"AST-05-05", "AST-05-03-Mag"} and set(table["seed"]) == {3}
    assert list(table["condition"].unique()) == ["pooled", "attack:A17", "attack:A18", "codec:-", "codec:C01"]
    assert not table.isna().any(axis=None)

    def value(condition, metric):
        row = table.query("variant == '03-Mag' and condition == @condition and metric == @metric")
        return row[["value", "n_bonafide", "n_spoof"]].squeeze().to_list()

    listed, column = files.trials, files.scores["03-Mag"].astype(float)
    is_bonafide = listed["label"] == "bonafide"
    for condition, chosen in {
        "pooled": listed["label"] != "",
        "attack:A18": is_bonafide | (listed["attack_id"] == "A18"),
        "codec:C01": listed["codec"] == "C01",
    }.items():
        classes = column[chosen & is_bonafide], column[chosen & ~is_bonafide]
        for metric, wanted in compute_metrics(*classes).items():
            assert value(condition, metric) == pytest.approx([wanted, *map(len, classes)], abs=1e-9)


def test_evaluate_without_bootstrap_leaves_intervals_empty(files):
    paths = files()
    evaluate(*paths, n_bootstrap=0)
    assert pd.read_csv(paths[2], sep="\t")[["ci_low", "ci_high"]].isna().all(axis=None)


def test_evaluate_corpus_without_attacks_or_codecs(files):
    paths = files(trials=files.trials.assign(attack_id="-", codec="-"))
    evaluate(*paths, n_bootstrap=0)
    assert set(pd.read_csv(paths[2], sep="\t")["condition"]) == {"pooled"}


def with_nan(scores):
    return scores.assign(**{"05": scores["05"].where(scores["trial_id"] != "t07")})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: f(scores=f.scores.drop(index=[3, 4])), r"not scored: 2, e\.g\. t03, t04"),
        (lambda f: f(trials=f.trials.drop(index=5)), r"does not list: 1, e\.g\. t05"),
        (lambda f: f(scores=pd.concat([f.scores, f.scores[:1]])), "scored more than once: 1, e.g. t00"),
        (lambda f: f(trials=pd.concat([f.trials, f.trials[:1]])), "t00 was already on line 2"),
        (lambda f: f(scores=with_nan(f.scores)), "NaN or infinite score: 1, e.g. t07"),
        (lambda f: f(scores=f.scores.rename(columns={"05": "05-Best"})), "'05-Best' names no variant"),
        (lambda f: f(scores=f.scores.rename(columns={"05": "00"})), "'00' names no variant"),
        (lambda f: f(scores=f.scores.rename(columns={"05": "050"})), "'050' names no variant"),
        (lambda f: f(scores=f.scores[["trial_id"]]), "one column per variant"),
        (lambda f: f(metadata={"seed": 1, "corpus": "mini"}), "system"),
        (lambda f: f(metadata=f.metadata | {"trial_list": "another"}), "scored from another trial list"),
        (lambda f: f(trials=f.trials.assign(label="spoof")), "no bonafide trials"),
        (lambda f: f(trials=f.trials.replace("bonafide", "genuine")), "genuine"),
        (lambda f: f(trials=f.trials.drop(columns="codec")), "codec"),
    ],
)
def test_evaluate_refuses(files, change, complaint):
    paths = change(files)
    with pytest.raises(ConfigError, match=complaint):
        evaluate(*paths, n_bootstrap=0)
    assert not paths[2].exists()


def test_evaluate_refuses_what_is_no_score_file(files):
    paths = files()
    paths[0].write_text("<html>not found</html>")
    with pytest.raises(ConfigError, match="not a readable Parquet"):
        evaluate(*paths)
