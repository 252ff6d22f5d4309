"""What variants change, trial by trial: by hand, on copies and on inverted scores, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from conftest import markdown_cells, write_scores, write_trials, write_tsv
from spaarsist.evaluation.changes import COLUMNS, QUANTITIES, measure, read_changes
from spaarsist.evaluation.statistics import SpeakerResampling, TrialResampling
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.changes import write_changes

LABELS = ["bonafide", "spoof"] * 30
BASE = np.random.default_rng(0).normal(np.where(np.array(LABELS) == "bonafide", 1.0, -1.0), 1)


def write(folder, columns, seed=1, corpus="home", labels=LABELS, speakers="-", system="AST-05"):
    """A score file and its trial list, in an order of its own."""
    ids = [f"t{i}" for i in range(len(labels))]
    write_trials(folder / f"{corpus}.list", ids, labels, speaker_id=speakers)
    about = {"system": system, "seed": seed, "corpus": corpus}
    turned = {name: np.asarray(values)[::-1] for name, values in columns.items()}
    return write_scores(folder / f"{system}-{seed}-{corpus}.scores", {"trial_id": ids[::-1], **turned}, **about)


def calibration(folder, thresholds, seed=1):
    rows = [{"system": f"AST-05-{column}", "value": value} for column, value in thresholds.items()]
    usual = {"seed": seed, "variant": "", "corpus": "dev", "quantity": "threshold_dev_eer"}
    rows += [row | {"quantity": "slope", "value": 9} for row in rows]
    return write_tsv(folder / f"{seed}.calibration", rows, **usual)


def run(folder, scores, thresholds, **options):
    """Of every (system, corpus, quantity); thresholds are all seeds'."""
    seeds = sorted({int(path.name.split("-")[2]) for path in scores})
    lists = {path.stem: path for path in folder.glob("*.list")}
    files = [calibration(folder, thresholds, seed) for seed in seeds]
    measure(scores, lists, files, "AST-05-05", folder / "changes.tsv", **options)
    table = read_changes([folder / "changes.tsv"])
    assert (*table.index.names, *table.columns) == COLUMNS
    return table.droplevel("reference")


def test_by_hand(tmp_path):
    """Four trials; the variant has a threshold of its own. Ties share their rank."""
    labels = ["bonafide", "bonafide", "spoof", "spoof"]
    scores = write(tmp_path, {"05": [3, 1, 1, -2], "01-Mag": [2.5, -1, 2, -2]}, labels=labels)
    table = run(tmp_path, [scores], {"05": 0, "01-Mag": 2.25}, n_bootstrap=0)
    found = table.loc["AST-05-01-Mag", "home"]
    assert found.loc["score_change", "value"] == (0.5 + 2 + 1 + 0) / 4
    assert found.loc["flipped", "value"] == 1 / 4, "the second alone, at 0"
    assert found.loc["flipped_retuned", "value"] == 2 / 4, "the third as well, which its own threshold rejects"
    rho = stats.spearmanr([3, 1, 1, -2], [2.5, -1, 2, -2]).statistic
    assert found.loc["rank_correlation", "value"] == pytest.approx(rho)
    assert found["ci_low"].isna().all() and found["std"].isna().all() and (found["n_seeds"] == 1).all()


def test_copies_and_shifts_change_what_they_should(tmp_path):
    scores = [
        write(tmp_path, {"05": BASE, "05-Mag": BASE, "05-Uni": BASE + 2, "05-Mean": -BASE}, seed) for seed in (1, 2)
    ]
    table = run(tmp_path, scores, {"05": 0.1, "05-Mag": 0.1, "05-Uni": 2.1, "05-Mean": -0.1})["value"]
    wanted = {"score_change": 0, "rank_correlation": 1, "flipped": 0, "flipped_retuned": 0}
    assert table["AST-05-05-Mag"]["home"].to_dict() == pytest.approx(wanted)
    assert table["AST-05-05-Uni", "home", "score_change"] == pytest.approx(2)
    assert table["AST-05-05-Uni", "home", "rank_correlation"] == pytest.approx(1)
    assert table["AST-05-05-Uni", "home", "flipped"] > 0 == table["AST-05-05-Uni", "home", "flipped_retuned"]
    assert table["AST-05-05-Mean", "home", "rank_correlation"] == pytest.approx(-1)
    assert table["AST-05-05-Mean", "home", "flipped_retuned"] == 1


def test_intervals_hold_seeds_and_trials(tmp_path):
    """Redone with scipy's rank correlation of repeated trials."""
    rng = np.random.default_rng(1)
    columns = {seed: {"05": BASE, "01": BASE + rng.normal(0, seed / 3, BASE.size)} for seed in (1, 2, 3)}
    scores = [write(tmp_path, of, seed) for seed, of in columns.items()]
    found = run(tmp_path, scores, {"05": 0, "01": 0.2}, n_bootstrap=40).loc["AST-05-01", "home"]
    is_bonafide = np.array(LABELS) == "bonafide"
    order = np.concatenate([np.flatnonzero(is_bonafide), np.flatnonzero(~is_bonafide)])
    draw, replicates = TrialResampling([30, 30], 0), []
    for replicate in range(40):
        chosen = np.repeat(order, np.concatenate(draw(replicate)))
        replicates.append(np.mean([stats.spearmanr(of["05"][chosen], of["01"][chosen]).statistic
                                   for of in columns.values()]))  # fmt: skip
    own = [stats.spearmanr(of["05"], of["01"]).statistic for of in columns.values()]
    row = found.loc["rank_correlation"]
    variance = np.var(replicates, ddof=1) + np.var(own, ddof=1) / 3
    reach = stats.t.ppf(0.975, 2) * variance**0.5 / (1 - np.mean(own) ** 2)
    assert row["value"] == pytest.approx(np.mean(own)) and row["std"] == pytest.approx(np.std(own, ddof=1))
    ends = [np.tanh(np.arctanh(np.mean(own)) + sign * reach) for sign in (-1, 1)]
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(ends, rel=1e-6)
    assert [float(value) for value in row["seeds"].split()] == pytest.approx(own)
    assert (found["ci_low"] > 0).all() and (found.loc[["flipped", "flipped_retuned"], "ci_high"] < 1).all()


def test_speakers_count_where_they_say_less(tmp_path):
    """One of six speakers moves, the others stay: over speakers that is far less sure than over trials."""
    speakers = np.repeat([f"S{i}" for i in range(6)], 10)
    moved = BASE + np.where(speakers == "S0", 3.0, 0.001)
    found = {}
    for known in (True, False):
        folder = tmp_path / str(known)
        folder.mkdir()
        scores = write(folder, {"05": BASE, "01": moved}, speakers=speakers if known else "-")
        found[known] = run(folder, [scores], {"05": 0, "01": 0}).loc["AST-05-01", "home", "score_change"]
    widths = {known: row["ci_high"] - row["ci_low"] for known, row in found.items()}
    assert widths[True] > 1.5 * widths[False] > 0 and [found[k]["n_speakers"] for k in (True, False)] == [6, 0]
    draw, distance = SpeakerResampling([speakers[::2], speakers[1::2]], 0), np.abs(moved - BASE)
    in_classes = np.concatenate([distance[::2], distance[1::2]])
    replicates = [np.average(in_classes, weights=np.concatenate(draw(replicate))) for replicate in range(200)]
    error = (np.var(replicates, ddof=1) * 6 / 5) ** 0.5  # six speakers of one stratum
    ends = [distance.mean() * np.exp(sign * stats.t.ppf(0.975, 5) * error / distance.mean()) for sign in (-1, 1)]
    assert [found[True]["ci_low"], found[True]["ci_high"]] == pytest.approx(ends, rel=1e-6)


def test_threads_change_nothing(tmp_path):
    scores = [write(tmp_path, {"05": BASE, "01": BASE[::-1]}, corpus=corpus) for corpus in ("home", "wild")]
    one = run(tmp_path, scores, {"05": 0, "01": 0}, n_bootstrap=20)
    pd.testing.assert_frame_equal(one, run(tmp_path, scores, {"05": 0, "01": 0}, n_bootstrap=20, threads=3))
    assert {*one.index.unique("corpus")} == {"home", "wild"} and len(one) == 2 * len(QUANTITIES)


def test_scores_that_are_all_equal_have_no_order(tmp_path):
    scores = write(tmp_path, {"05": BASE, "01": np.zeros(BASE.size)})
    found = run(tmp_path, [scores], {"05": 0, "01": 0}).loc["AST-05-01", "home"]
    assert found.loc["rank_correlation", "value"] == 0


class TestRefusals:
    @pytest.fixture
    def refuse(self, tmp_path):
        def refuse(complaint, scores, thresholds=None, **options):
            thresholds = {"05": 0, "01": 0} if thresholds is None else thresholds
            with pytest.raises(ConfigError, match=complaint):
                run(tmp_path, scores, thresholds, **options)
            assert not (tmp_path / "changes.tsv").exists()

        return refuse

    def test_files(self, tmp_path, refuse):
        good = write(tmp_path, {"05": BASE, "01": BASE})
        refuse("was given before", [good, good])
        refuse("no score file", [])
        refuse("no development threshold of AST-05-01, seed 1", [good], {"05": 0})
        other = write(tmp_path, {"05": BASE, "01": BASE}, system="AST-03")
        refuse("scores of AST-03, but AST-05-05 is a variant of AST-05", [other])
        refuse("between 0 and 1", [good], confidence=95)

    def test_columns(self, tmp_path, refuse):
        good = write(tmp_path, {"05": BASE, "01": BASE})
        refuse("holds other variants", [good, write(tmp_path, {"05": BASE, "03": BASE}, 2)], dict.fromkeys(
            ("05", "01", "03"), 0))  # fmt: skip
        refuse("holds no scores of AST-05-05", [write(tmp_path, {"01": BASE}, 2)])

    def test_corpora(self, tmp_path, refuse):
        files = [write(tmp_path, {"05": BASE, "01": BASE}, seed) for seed in (1, 2)]
        wild = write(tmp_path, {"05": BASE, "01": BASE}, corpus="wild")
        refuse("no scores of AST-05 on wild of seed 2", [*files, wild])
        (tmp_path / "wild.list").unlink()
        refuse("no trial list was given for corpus 'wild'", [*files[:1], wild])

    def test_a_file_twice(self, tmp_path):
        run(tmp_path, [write(tmp_path, {"05": BASE, "01": BASE})], {"05": 0, "01": 0}, n_bootstrap=0)
        with pytest.raises(ConfigError, match="hold AST-05-01 AST-05-05 home score_change twice"):
            read_changes([tmp_path / "changes.tsv"] * 2)
        with pytest.raises(ConfigError, match="no file of changes"):
            read_changes([])


def test_the_table(tmp_path):
    scores = [write(tmp_path, {"05": BASE, "01": BASE + 1, "05-Mag": BASE}, seed) for seed in (1, 2)]
    run(tmp_path, scores, {"05": 0, "01": 0, "05-Mag": 0})
    systems, corpora = ["AST-05-01", "AST-05-05-Mag"], [("home", "Home & garden")]
    write_changes([tmp_path / "changes.tsv"], systems, corpora, tmp_path / "t", "made up", footer="By code 0123.")
    text = (tmp_path / "t.md").read_text()
    rows = markdown_cells(text)
    assert rows[2][0] == "*AST-05*" and [row[0] for row in rows[3:]] == systems
    assert rows[3][1].startswith("1.000") and rows[4][1:] == ["0.000", "1.000", "0.0", "0.0"]
    assert "Against AST-05-05:" in text and "(n = 2)" in text and "made up" in text and "By code 0123." in text
    data = pd.read_csv(tmp_path / "t.tsv", sep="\t")
    assert [*data] == [*COLUMNS] and len(data) == 2 * len(QUANTITIES)
    with pytest.raises(ConfigError, match="hold nothing of AST-05-03 on 'home'"):
        write_changes([tmp_path / "changes.tsv"], ["AST-05-03"], corpora, tmp_path / "no")
