"""Two runs of one experiment: what agrees, what does not, and what cannot be compared."""

import json
import sys

import pandas as pd
import pytest

from conftest import REPOSITORY, write_summary, write_tsv
from spaarsist.__main__ import main
from spaarsist.evaluation.agreement import SHOWN, agree, compare_runs, render
from spaarsist.evaluation.metrics import METRICS
from spaarsist.names import ConfigError

USUAL = {"reference": "AST-05-05", "corpus": "home", "difference": 0.01, "ci_low": -0.02, "ci_high": 0.04}


def write_run(folder, shift=0.0, n_systems=2, **record):
    """A run of two systems on one corpus: every metric 0.2 + shift, 0.1 to each side; differences at 0.01 + shift."""
    tables = folder / "tables"
    (tables / "comparisons").mkdir(parents=True)
    usual = {"config_hash": "0123", "corpora": {"home": ["ab"]}, "versions": {"torch": ["2.11.0"]}}
    (tables / "provenance.json").write_text(json.dumps(usual | record))
    names = ["AST-05-05", "MHFA", *(f"Other{i}" for i in range(n_systems - 2))]
    cells = {"home.n_seeds": 5}
    for metric in METRICS:
        values = {"mean": 0.2 + shift, "ci_low": 0.1 + shift, "ci_high": 0.3 + shift}
        cells |= {f"home.{metric}.{part}": value for part, value in values.items()}
    write_summary(tables / "summary.tsv", dict.fromkeys(names, cells))
    rows = [{"system": "MHFA", "metric": metric} for metric in ("eer", "cllr")]
    usual = USUAL | {key: USUAL[key] + shift for key in ("difference", "ci_low", "ci_high")}
    write_tsv(tables / "comparisons" / "baseline.tsv", rows, **usual)
    write_tsv(tables / "equivalence.tsv", rows[:1], **usual)
    change = {"quantity": "flipped", "value": 0.1 + shift, "ci_low": 0.05 + shift, "ci_high": 0.2 + shift}
    counts = {"n_seeds": 5, "n_speakers": 8, "std": 0.01, "seeds": "0.1"}
    write_tsv(tables / "changes.tsv", [change], system="MHFA", reference="AST-05-05", corpus="home", **counts)
    return folder


def change(run, file, column, value, row=0):
    path = run / "tables" / file
    table = pd.read_csv(path, sep="\t")
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    table.to_csv(path, sep="\t", index=False)


@pytest.fixture
def runs(tmp_path):
    return write_run(tmp_path / "one"), write_run(tmp_path / "two", shift=0.005)


def test_runs_that_agree(runs):
    table = compare_runs(*runs)
    assert len(table) == 2 * len(METRICS) + 2 + 1 + 1 and table["agrees"].all()
    names = ["summary.tsv", "comparisons/baseline.tsv", "equivalence.tsv", "changes.tsv"]
    assert table["table"].unique().tolist() == names
    row = table.set_index(["table", "row"]).loc["summary.tsv", "MHFA home eer"]
    values = row[["first.value", "first.low", "first.high", "second.value", "second.low", "second.high"]]
    assert values.tolist() == pytest.approx([0.2, 0.1, 0.3, 0.205, 0.105, 0.305])
    assert render(table).endswith(f"All {len(table)} rows agree")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("file", "changes", "row"),
    [
        # The halves that face each other: 0.1 and 0.06, together 0.1166; the values are 0.117 apart
        ("summary.tsv", {"home.eer.mean": 0.317, "home.eer.ci_low": 0.257}, "AST-05-05 home eer"),
        ("summary.tsv", {"home.cllr.mean": 0.083, "home.cllr.ci_high": 0.143}, "AST-05-05 home cllr"),
        ("comparisons/baseline.tsv", {"difference": 0.05, "ci_low": 0.03}, "MHFA AST-05-05 home eer"),
        ("equivalence.tsv", {"difference": -0.03, "ci_high": -0.01}, "MHFA AST-05-05 home eer"),
        ("changes.tsv", {"value": 0.22, "ci_low": 0.17}, "MHFA AST-05-05 home flipped"),
    ],
)
def test_either_way_round(runs, file, changes, row, turned):
    for column, value in changes.items():
        change(runs[1], file, column, value)
    table = compare_runs(*runs[:: -1 if turned else 1])
    apart = table[~table["agrees"]]
    assert apart[["table", "row"]].to_numpy().tolist() == [[file, row]]
    assert f"{file}, {row}: " in render(table) and f"\n1 of {len(table)} rows do not agree; " in render(table)


def test_halves_that_face_away_do_not_count(runs):
    for column, value in {"mean": 0.316, "ci_low": 0.256, "ci_high": 0.3161}.items():  # 0.1166 would do
        change(runs[1], "summary.tsv", f"home.eer.{column}", value)
    change(runs[0], "summary.tsv", "home.eer.ci_low", 0.1999)
    assert compare_runs(*runs)["agrees"].all()


def test_some_rows_may_be_apart_by_chance(tmp_path):
    one, two = (write_run(tmp_path / name, n_systems=12) for name in ("one", "two"))
    table = compare_runs(one, two)
    for n_apart, expected in ((0, True), (len(table) // 20, True), (len(table) // 20 + 1, False)):
        assert agree(table.assign(agrees=[False] * n_apart + [True] * (len(table) - n_apart))) is expected


def test_without_an_interval_only_the_same_will_do(runs):
    for run, value in zip(runs, (0.2, 0.2), strict=True):
        for column in ("mean", "ci_low", "ci_high"):
            change(run, "summary.tsv", f"home.eer.{column}", value if column == "mean" else None)
            change(run, "summary.tsv", f"home.ece.{column}", None)
    assert compare_runs(*runs)["agrees"].all(), "equal values, and values that neither has"
    change(runs[1], "summary.tsv", "home.eer.mean", 0.2001)
    assert compare_runs(*runs)["agrees"].tolist().count(False) == 1
    change(runs[0], "summary.tsv", "home.ece.mean", 0.2)
    assert compare_runs(*runs)["agrees"].tolist().count(False) == 2


def test_many_that_do_not_agree_are_counted(tmp_path):
    runs = [write_run(tmp_path / name, shift, n_systems=6) for name, shift in (("one", 0), ("two", 0.5))]
    text = render(compare_runs(*runs))
    n_rows = 6 * len(METRICS) + 4
    assert f"and {n_rows - SHOWN} more" in text and f"{n_rows} of {n_rows} rows do not agree; " in text
    assert text.count(" against ") == SHOWN


def test_the_published_runs_agree():
    """One thread a training, or two; what the README says of EERs."""
    table = compare_runs(*(REPOSITORY / "results" / "published" / name for name in ("mini", "mini_two_threads")))
    eers = table[(table["table"] == "summary.tsv") & table["row"].str.endswith(" eer")]
    assert agree(table) and len(eers) == 60 and eers["agrees"].all()
    assert (table["first.value"] != table["second.value"]).mean() > 0.9, "they are two runs"


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"config_hash": "4567"}, "different experiments: configuration: 0123 and 4567"),
        ({"corpora": {"home": ["cd"]}}, "different experiments: trials of home: ab and cd"),
        ({"corpora": {"home": ["ab"], "wild": ["ef"]}}, "different experiments: trials of wild: none and ef"),
    ],
)
def test_other_experiments_are_refused(runs, tmp_path, record, complaint):
    with pytest.raises(ConfigError, match=complaint):
        compare_runs(runs[0], write_run(tmp_path / "other", **record))


def test_what_is_not_whole_is_refused(runs, tmp_path):
    one, two = runs
    with pytest.raises(ConfigError, match="are one folder"):
        compare_runs(one, one.parent / "." / "one")
    more = write_run(tmp_path / "more", n_systems=3)
    for pair in ((one, more), (more, one)):
        with pytest.raises(ConfigError, match=r"one: lacks rows that .*more has \(summary.tsv: Other0 home eer, "):
            compare_runs(*pair)
    (two / "tables" / "equivalence.tsv").unlink()
    with pytest.raises(ConfigError, match=r"two: lacks rows that .*one has \(equivalence.tsv: "):
        compare_runs(one, two)
    for text in ("{", "[]", "{}"):
        (two / "tables" / "provenance.json").write_text(text)
        with pytest.raises(ConfigError, match=r"provenance.json: not a readable record"):
            compare_runs(one, two)
    (two / "tables" / "provenance.json").unlink()
    with pytest.raises(ConfigError, match=r"provenance.json: not a readable record .*; publish it again"):
        compare_runs(one, two)


@pytest.mark.parametrize(
    ("file", "column", "value", "complaint"),
    [
        ("summary.tsv", "home.eer.ci_low", "x", "summary.tsv: home.eer.ci_low of AST-05-05 is no number"),
        ("comparisons/baseline.tsv", "difference", "x", "baseline.tsv: not a readable TSV"),
        ("comparisons/baseline.tsv", "system", None, "baseline.tsv, line 2: system is nan"),
        ("comparisons/baseline.tsv", "metric", "cllr", "baseline.tsv: MHFA AST-05-05 home cllr is in it twice"),
    ],
)
def test_broken_tables(runs, file, column, value, complaint):
    change(runs[1], file, column, value)
    with pytest.raises(ConfigError, match=complaint):
        compare_runs(*runs)


def test_the_verb(runs, tmp_path, monkeypatch, capsys):
    """Exit code 0 and a TSV where all agree; 1 and the same TSV where not; 1 and one line where they are strangers."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["spaarsist", "compare-runs", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr()

    code, said = call(*runs, "--output", tmp_path / "all.tsv")
    assert code == 0 and "rows agree" in said.out and pd.read_csv(tmp_path / "all.tsv", sep="\t")["agrees"].all()
    for metric in ("eer", "cllr"):  # two of 20 rows are more than one in 20
        change(runs[1], "summary.tsv", f"home.{metric}.mean", 0.9)
        change(runs[1], "summary.tsv", f"home.{metric}.ci_low", 0.8)
    code, said = call(*runs, "--output", tmp_path / "all.tsv")
    assert code == 1 and "do not agree" in said.out and not said.err
    assert pd.read_csv(tmp_path / "all.tsv", sep="\t")["agrees"].tolist().count(False) == 2
    code, said = call(runs[0], write_run(tmp_path / "other", config_hash="9"))
    assert code == 1 and not said.out and said.err.startswith("spaarsist: ") and said.err.count("\n") == 1
