"""Systems of which only scores are known: official numbers, paired tests by hand, and what the verb says and writes."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from conftest import GOLDEN, write_scores, write_trials
from spaarsist.__main__ import main
from spaarsist.evaluation.metrics import METRICS, RankedTrials, compute_metrics
from spaarsist.evaluation.side_by_side import evaluate_systems, read_systems
from spaarsist.evaluation.statistics import TrialResampling, holm, t_test
from spaarsist.names import ConfigError
from spaarsist.reporting.figures import scores as figures

EXPECTED = json.loads((GOLDEN / "metrics" / "expected.json").read_text())
IDS = [f"t{i:02d}" for i in range(40)]
LABELS = ["bonafide", "spoof", "spoof", "spoof"] * 10


def write(path, scores, ids=IDS):
    path.write_text("".join(f"{name} {score!r}\n" for name, score in zip(ids, map(float, scores), strict=True)))
    return path


@pytest.fixture
def key(tmp_path):
    rows = (f"{name},{label}\n" for name, label in zip(IDS, LABELS, strict=True))
    (tmp_path / "key.csv").write_text("file_name,label\n" + "".join(rows))
    return tmp_path / "key.csv"


@pytest.fixture
def made_up():
    """Scores of three systems, the second a little worse than the first and the third hardly of any use."""
    rng = np.random.default_rng(4)
    quality = np.where(np.array(LABELS) == "bonafide", 1.5, -1.5)
    best = quality + rng.normal(size=40)
    return {"best": best, "near": best + 0.3 * rng.normal(size=40), "noise": rng.normal(size=40) + 0.2 * quality}


@pytest.fixture
def evaluate(monkeypatch, capsys, tmp_path):
    """Call the verb; gives exit code, stdout, and stderr without its progress bar."""

    def call(scores, key, *options):
        files = [option for path in scores for option in ("--scores", path)]
        arguments = ["evaluate", *files, "--key", key, "--output", tmp_path / "out", "--bootstrap", 30, *options]
        monkeypatch.setattr(sys, "argv", ["spaarsist", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return end.value.code, out, [line for line in err.splitlines() if line and "resample" not in line]

    return call


@pytest.mark.parametrize("name", ["good", "ties"])
def test_official_files_give_official_numbers(name):
    scores, key = (GOLDEN / "metrics" / f"{name}.{part}.tsv" for part in ("scores", "key"))
    found = evaluate_systems(read_systems([scores], key), n_bootstrap=2).metrics.set_index("metric")
    for metric in ("eer", "min_dcf", "act_dcf", "cllr"):
        assert found.loc[metric, "value"] == pytest.approx(EXPECTED[name]["official"][metric], abs=1e-9)
    assert [*found.index] == [*METRICS] and set(found["system"]) == {f"{name}.scores"}


def test_scores_follow_the_key_whatever_their_order(tmp_path, key, made_up):
    order = np.random.default_rng(0).permutation(40)
    write(tmp_path / "best.txt", made_up["best"][order], np.array(IDS)[order])
    ((name, classes),) = read_systems([tmp_path / "best.txt"], key).items()
    is_bonafide = np.array(LABELS) == "bonafide"
    assert name == "best"
    for got, wanted in zip(classes, (is_bonafide, ~is_bonafide), strict=True):
        assert got.tolist() == made_up["best"][wanted].tolist()


def test_variants_of_a_score_file_beside_a_table(tmp_path, made_up):
    """A trial list is a key as well."""
    write_trials(tmp_path / "list.tsv", IDS, LABELS)
    columns = {"trial_id": IDS[::-1], "05": made_up["best"][::-1], "01-Mag": made_up["near"][::-1]}
    ours = write_scores(tmp_path / "ours.parquet", columns, system="AST-05", seed=1, corpus="m")
    theirs = write(tmp_path / "theirs.txt", made_up["best"])
    systems = read_systems([ours, theirs], tmp_path / "list.tsv")
    assert [*systems] == ["AST-05-05", "AST-05-01-Mag", "theirs"]
    for one, other in zip(systems["AST-05-05"], systems["theirs"], strict=True):
        assert np.array_equal(one, other)
    write_scores(ours, columns | {"trial_id": ["q", *IDS[1:]]}, system="AST-05", seed=1, corpus="m")
    with pytest.raises(ConfigError, match=r"ours\.parquet: trials of .*list\.tsv not scored \(while 1 .* q\): 1"):
        read_systems([ours], tmp_path / "list.tsv")


def test_files_of_one_name(tmp_path, key, made_up):
    paths = [tmp_path / folder / "s.txt" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
        write(path, made_up["best"])
    assert [*read_systems(paths, key)] == [f"s ({path})" for path in paths]
    with pytest.raises(ConfigError, match=r"a/s\.txt: is given twice"):
        read_systems([paths[0], paths[0]], key)


def test_intervals_and_paired_tests_by_hand(made_up):
    is_bonafide = np.array(LABELS) == "bonafide"
    systems = {name: (values[is_bonafide], values[~is_bonafide]) for name, values in made_up.items()}
    found = evaluate_systems(systems, n_bootstrap=40, confidence=0.9, seed=5)
    draw = TrialResampling((10, 30), 5)
    drawn = {
        name: pd.DataFrame([RankedTrials(*classes).metrics(*draw(i)) for i in range(40)])
        for name, classes in systems.items()
    }
    for row in found.metrics.itertuples():
        assert row.value == compute_metrics(*systems[row.system])[row.metric]
        wanted = np.quantile(drawn[row.system][row.metric], [0.05, 0.95])
        assert [row.ci_low, row.ci_high] == pytest.approx([*wanted], abs=1e-12)
        assert (row.n_bonafide, row.n_spoof) == (10, 30)
    assert found.metrics["system"].unique().tolist() == [*systems]

    compared = found.comparisons
    assert [*compared["system"].unique()] == ["near", "noise"] and set(compared["reference"]) == {"best"}
    assert compared["metric"].tolist() == ["eer", "min_dcf", "act_dcf", "cllr"] * 2
    for row in compared.itertuples():
        values = [compute_metrics(*systems[name])[row.metric] for name in (row.system, "best")]
        spread = np.var(drawn[row.system][row.metric] - drawn["best"][row.metric], ddof=1)
        test = t_test(values[0] - values[1], [spread], [np.inf], 0.9)
        assert [row.value, row.reference_value, row.difference] == [*values, values[0] - values[1]]
        assert (row.se_trials, row.p) == pytest.approx((np.sqrt(spread), test.p), abs=1e-9)
        assert row.ci_low == pytest.approx(max(test.low, -values[1]), abs=1e-9)
    tested = compared["metric"].isin(["eer", "min_dcf"])
    assert compared.loc[tested, "p_holm"].tolist() == pytest.approx([*holm(compared.loc[tested, "p"])])
    assert compared.loc[~tested, "p_holm"].isna().all()
    worse = compared[(compared["system"] == "noise") & (compared["metric"] == "eer")].squeeze()
    assert worse["difference"] > 0.2 and worse["p_holm"] < 0.05


def test_a_system_does_not_differ_from_itself(made_up):
    one = made_up["best"][:10], made_up["best"][10:]
    found = evaluate_systems({"a": one, "b": one}, n_bootstrap=10).comparisons
    assert (found["difference"] == 0).all() and (found["p"] == 1).all() and (found["ci_low"] == 0).all()
    with pytest.raises(ConfigError, match="two resamples and more; got 1"):
        evaluate_systems({"a": one}, n_bootstrap=1)


def test_the_verb(tmp_path, key, made_up, evaluate):
    paths = [write(tmp_path / f"{name}.txt", values) for name, values in made_up.items()]
    code, out, err = evaluate(paths, key, "--confidence", 0.9)
    assert (code, err) == (0, [])
    files = {"metrics.tsv", "comparisons.tsv"} | {
        f"{n}.{e}" for n in ("det", "histograms") for e in ("png", "pdf", "tsv")
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    metrics = pd.read_csv(tmp_path / "out" / "metrics.tsv", sep="\t").set_index(["system", "metric"])
    lines = out.splitlines()
    assert lines[0] == "10 bona fide trials, 30 spoofs" and "90 % intervals over trials, 30 resamples" in out
    eer = metrics.loc[("near", "eer")]
    shown = f"{100 * eer['value']:.2f} [{100 * eer['ci_low']:.2f}, {100 * eer['ci_high']:.2f}]"
    assert any(line.startswith("near ") and shown in line for line in lines)
    assert any(line.startswith("difference from best ") for line in lines)
    assert (metrics.loc["best", "n_spoof"] == 30).all()
    det = pd.read_csv(tmp_path / "out" / "det.tsv", sep="\t")
    assert det["system"].unique().tolist() == [*made_up] and set(det["corpus"]) == {"key"}


def test_doubts_are_said(tmp_path, key, made_up, evaluate):
    turned, constant = write(tmp_path / "turned.txt", -made_up["best"]), write(tmp_path / "same.txt", [0.25] * 40)
    code, _, err = evaluate([turned, constant], key)
    assert code == 0 and len(err) == 2
    assert err[0].startswith("turned: an EER of ") and err[0].endswith("so the sign may be wrong")
    assert err[1] == "same: every score is 0.25: these metrics say nothing of the system"


def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, key, made_up, evaluate):
    whole = write(tmp_path / "a.txt", made_up["best"])
    short = write(tmp_path / "b.txt", made_up["best"][:39], IDS[:39])
    code, out, err = evaluate([whole, short], key)
    assert (code, out) == (1, "") and err == [f"spaarsist: {short}: trials of {key} not scored: 1, e.g. t39"]
    spoofs = tmp_path / "spoofs.txt"
    spoofs.write_text("".join(f"{name} spoof\n" for name in IDS))
    assert evaluate([whole], spoofs)[2] == [f"spaarsist: {spoofs}: no bonafide trials; evaluation needs both classes"]
    damaged = tmp_path / "c.parquet"
    damaged.write_bytes(b"PAR1 and no more")
    assert "not readable as a score file" in evaluate([damaged], key)[2][0]
    assert not (tmp_path / "out").exists()


def test_names_that_figures_have_no_room_for(tmp_path, drawn, capsys):
    """They are cut, told apart, and no formulas; of too many systems the first are drawn, which is said."""
    classes = np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.5])
    names = ["cost_$a$_b$", *(f"wav2vec2_xlsr_300m_{kind}_finetuned" for kind in "abcdefg")]
    figures.draw_side_by_side(dict.fromkeys(names, classes), "a title", tmp_path)
    assert capsys.readouterr().err == f"figures: of 8 systems the first {figures.MOST_SYSTEMS} are drawn\n"
    assert [*pd.read_csv(tmp_path / "det.tsv", sep="\t")["system"].unique()] == names[: figures.MOST_SYSTEMS]
    (legend, *_) = drawn[0].legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[0] == "1: cost_$a$_b$" and len({*shown}) == figures.MOST_SYSTEMS and max(map(len, shown)) <= 17
    assert not legend.get_texts()[0].get_parse_math()


def test_scores_that_no_bins_can_divide(tmp_path):
    classes = np.array([1e17, 1e17 + 16]), np.array([1e17])
    figures.draw_side_by_side({"a": classes}, "t", tmp_path)
    table = pd.read_csv(tmp_path / "histograms.tsv", sep="\t")
    assert (table["n_bonafide"].sum(), table["n_spoof"].sum()) == (2, 1)
