"""Tables of differences and of the ablation: cells by hand, stars where they are earned, warnings, refusals."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from conftest import compile_pdf, markdown_cells, write_comparisons, write_summary
from spaarsist.evaluation.summary import STATISTICS, on
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.differences import read_family, write_ablation, write_differences

CORPORA = [("home", "Home & garden"), ("wild", "Wild_100 %")]
SYSTEMS = ["AST-05-05", "AST-05-01-Mag", "MHFA"]
BY_HAND = {
    ("AST-05-05", "eer"): (0.1, 0.01, 0.08, 0.12, 0.07, 0.14), ("AST-05-05", "min_dcf"): (0.3, np.nan, *[np.nan] * 4),
    ("AST-05-01-Mag", "eer"): (0.0795, 0.02, 0.06, 0.09, 0.05, 0.1234), ("MHFA", "eer"): (0.2, 0, 0.1, 0.3, 0.1, 0.4),
}  # fmt: skip
"""(system, metric) -> mean, standard deviation, interval over trials, over speakers; the same on each corpus."""


@pytest.fixture
def summary(tmp_path):
    systems = {}
    sizes = [(611_784, 713e6), (611_522, 699.8e6), (4_461_952, 0)]
    for name, (n_params, n_macs) in zip(SYSTEMS, sizes, strict=True):
        systems[name] = {"n_params": n_params, "n_macs": n_macs}
        for (corpus, _), metric in itertools.product(CORPORA, ("eer", "min_dcf", "cllr")):
            values = BY_HAND.get((name, metric), (0.5, 0.1, 0.4, 0.6, 0.3, 0.7))
            systems[name] |= {on(corpus, metric, part): value for part, value in zip(STATISTICS, values, strict=True)}
    return write_summary(tmp_path / "summary.tsv", systems)


def family(path, pairs, changes=(), n_seeds=3, n_speakers=(0, 12)):
    """Comparisons of these pairs: a difference of -0.0204 [-0.05, 0.0001], not significant unless changed."""
    speakers = {corpus: n for (corpus, _), n in zip(CORPORA, n_speakers, strict=True)}
    usual = {"n_seeds": n_seeds, "difference": -0.0204, "ci_low": -0.05, "ci_high": 0.0001}
    return write_comparisons(path, pairs, speakers, changes, **usual)


def rows_of(markdown):
    """First line of the first cell -> the cells of each such row, in order."""
    rows = {}
    for first, *others in markdown_cells(markdown)[2:]:
        rows.setdefault(first.split("<br>")[0], []).append([first, *others])
    return rows


def read(stem, ending):
    return stem.with_suffix(f".{ending}").read_text("utf-8")


def test_differences_cell_by_cell(summary, tmp_path):
    changes = {
        ("MHFA", "AST-05-05", "wild", "eer"): {"difference": 0.1, "ci_low": 0.09, "ci_high": 0.11, "p_holm": 0.0004},
        ("MHFA", "AST-05-05", "home", "min_dcf"): {"p_holm": 0.0499},
    }
    comparisons = family(tmp_path / "f.tsv", [(system, "AST-05-05") for system in SYSTEMS[1:]], changes)
    write_differences(summary, comparisons, SYSTEMS, CORPORA, tmp_path / "t", "made up", "By code 0123.", 0.9)
    rows = rows_of(read(tmp_path / "t", "md"))
    assert [*rows] == ["*Home & garden*", *SYSTEMS, "*Wild_100 %*"]
    assert rows["AST-05-05"][0][1:5] == ["10.00 ± 1.00", "[8.00, 12.00]", "[7.00, 14.00]", "–"]
    assert rows["AST-05-05"][1][5:] == ["0.300", "–", "–", "–"]
    assert rows["AST-05-01-Mag"][0][1:4] == ["7.95 ± 2.00", "[6.00, 9.00]", "[5.00, 12.34]"]
    not_quite = ["−0.020 [−0.050, 0.000]"]
    assert rows["AST-05-01-Mag"][0][4] == "−2.04 [−5.00, +0.01]"
    assert rows["AST-05-01-Mag"][1][8:] == not_quite and rows["MHFA"][1][8:] == not_quite
    assert rows["MHFA"][1][4] == r"+10.00\* [+9.00, +11.00]"
    assert rows["MHFA"][0][8:] == [r"−0.020\* [−0.050, 0.000]"]
    table = pd.read_csv(tmp_path / "t.tsv", sep="\t").set_index(["corpus", "system", "metric"])
    assert len(table) == 2 * 3 * 2 and np.isnan(table.loc[("home", "AST-05-05", "eer"), "difference"])
    row = table.loc[("wild", "MHFA", "eer")]
    assert row[["mean", "speakers_high", "difference", "p_holm", "n_speakers"]].tolist() == [0.2, 0.4, 0.1, 0.0004, 12]
    assert row["reference"] == "AST-05-05"
    for text in (read(tmp_path / "t", "md").replace("\\", ""), read(tmp_path / "t", "html").replace("&lt;", "<")):
        assert "* p < 0.05 after Holm's correction for all 8 tests of this family (EER and minDCF)" in text
        assert "Seeds: 3. Speakers: unknown in Home" in text and "90 % over speakers" in text
        assert "made up" in text and "By code 0123." in text
        assert not any(warning in text for warning in ("Beware", "One seed", "Two seeds"))
    tex = read(tmp_path / "t", "tex")
    assert "made up" in tex and "By code 0123." in tex and r"\label{tab:t}" in tex
    assert tex.count("{*} {[}") == 2, "as many stars as in Markdown"


def test_few_seeds_are_shown_as_values(summary, tmp_path):
    pairs = [(system, "AST-05-05") for system in SYSTEMS[1:]]
    comparisons = family(tmp_path / "f.tsv", [*pairs, ("MHFA", "AST-05-01-Mag")])
    table = pd.read_csv(summary, sep="\t")
    table[on("home", "eer", "seeds")] = ["0.09 0.1104", "0.0795", " ".join(["0.2"] * 6)]
    table.to_csv(summary, sep="\t", index=False)
    write_differences(summary, comparisons, SYSTEMS, CORPORA[:1], tmp_path / "t")
    write_ablation(summary, comparisons, STEPS, CORPORA[:1], tmp_path / "a")
    rows, steps = (rows_of(read(tmp_path / name, "md")) for name in "ta")
    wanted = ["10.00<br>9.0 11.0", "7.95 ± 2.00", "20.00 ± 0.00"]
    assert [rows[system][0][1] for system in SYSTEMS] == wanted
    assert [rows[0][3] for name, rows in steps.items() if not name.startswith("*")] == ["10.00", *wanted[1:]]
    assert "9.0 11.0" not in read(tmp_path / "t", "tex")


@pytest.mark.parametrize(
    ("n_seeds", "n_speakers", "warnings"),
    [
        (1, (0, 12), ["With one seed"]),
        (2, (9, 10), ["Two seeds", "Beware: fewer than 10 speakers make rough intervals (Home & garden)"]),
        (3, (10, 0), []),
    ],
)
def test_few_seeds_and_few_speakers_are_warned_of(summary, tmp_path, n_seeds, n_speakers, warnings):
    pairs = [("MHFA", "AST-05-05")]
    comparisons = family(tmp_path / "f.tsv", pairs, n_seeds=n_seeds, n_speakers=n_speakers)
    write_differences(summary, comparisons, ["MHFA"], CORPORA, tmp_path / "t")
    text = read(tmp_path / "t", "md")
    found = [w for w in ("With one seed", "Two seeds", "Beware: fewer than 10 speakers make rough") if w in text]
    assert len(found) == len(warnings) and all(warning in text for warning in warnings)


STEPS = [
    ("AASIST", "AST-05-05", "AST-05-05"),
    ("# By itself", "", ""),
    ("magnitude", "AST-05-01-Mag", "AST-05-05"),
    ("another | back-end", "MHFA", "AST-05-01-Mag"),
]


def test_ablation_cell_by_cell(summary, tmp_path):
    pairs = [("AST-05-01-Mag", "AST-05-05"), ("MHFA", "AST-05-01-Mag")]
    changes = {("MHFA", "AST-05-01-Mag", "home", "eer"): {"difference": 0.1205, "p_holm": 0.01}}
    comparisons = family(tmp_path / "f.tsv", pairs, changes)
    write_ablation(summary, comparisons, STEPS, CORPORA, tmp_path / "t", "made up", "By code 0123.")
    rows = rows_of(read(tmp_path / "t", "md"))
    assert [*rows] == ["AASIST", "*By itself*", "magnitude", r"another \| back-end"]
    (aasist,), _, (magnitude,), (other,) = rows.values()
    assert aasist[:4] == ["AASIST<br>AST-05-05", "611,784", "713.0", "10.00 ± 1.00"]
    assert aasist[4:7] == ["–"] * 3
    assert magnitude[:3] == ["magnitude<br>AST-05-01-Mag", "611,522<br>−262", "699.8<br>−1.9 %"]
    small = "−0.020<br>[−0.050, 0.000]"
    assert magnitude[3:7] == ["7.95 ± 2.00", "−2.04<br>[−5.00, +0.01]", small, small]
    assert other[0] == r"another \| back-end<br>MHFA against AST-05-01-Mag"
    assert other[1:3] == ["4,461,952<br>+3,850,430", "0.0<br>−100.0 %"]
    assert other[4] == r"+12.05\*<br>[−5.00, +0.01]" and other[8] == "−2.04<br>[−5.00, +0.01]"
    alone = family(tmp_path / "g.tsv", [("AST-05-05", "MHFA")])
    write_ablation(summary, alone, [("x", "AST-05-05", "MHFA")], CORPORA, tmp_path / "u")
    assert rows_of(read(tmp_path / "u", "md"))["x"][0][2] == "713.0", "no share of nothing"
    text = read(tmp_path / "t", "md")
    assert text.count(r"\*") == 2, "one star, and its legend"
    assert "for all 8 tests" in text and "Cllr (bits) are not tested" in text and "By code 0123." in text
    table = pd.read_csv(tmp_path / "t.tsv", sep="\t").set_index(["step", "corpus", "metric"])
    assert len(table) == 3 * 2 * 3
    row = table.loc[("magnitude", "home", "eer")]
    assert row["section"] == "By itself" and row["n_params_change"] == -262
    assert row["n_macs_change"] == pytest.approx(-13.2 / 713)
    assert row["difference"] == -0.0204 and np.isnan(table.loc[("AASIST", "home", "eer"), "difference"])


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(summary, tmp_path):
    pairs = [("AST-05-01-Mag", "AST-05-05"), ("MHFA", "AST-05-01-Mag"), ("MHFA", "AST-05-05")]
    comparisons = family(tmp_path / "f.tsv", pairs)
    write_ablation(summary, comparisons, STEPS, CORPORA, tmp_path / "ablation", "100 % made_up", "By # 1.")
    write_differences(summary, comparisons, SYSTEMS, CORPORA, tmp_path / "differences", "100 % made_up", "By # 1.")
    for name in ("ablation", "differences"):
        compile_pdf(tmp_path, name)


def test_the_same_every_time_whatever_the_order_of_the_comparisons(summary, tmp_path):
    pairs = [(system, "AST-05-05") for system in SYSTEMS[1:]]
    for name, order in (("a", pairs), ("b", pairs[::-1])):
        write_differences(summary, family(tmp_path / "f.tsv", order), SYSTEMS, CORPORA, tmp_path / name / "t")
        write_ablation(summary, tmp_path / "f.tsv", STEPS[:3], CORPORA, tmp_path / name / "s")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 8
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_refusals(summary, tmp_path):
    pairs = [("MHFA", "AST-05-05")]
    good = family(tmp_path / "f.tsv", pairs)
    table = pd.read_csv(good, sep="\t")
    files = {"twice": pd.concat([table, table[:1]]), "bare": table.drop(columns="p_holm"), "words": table.assign(p="x")}
    for name, content in files.items():
        content.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    for name, complaint in (
        ("twice", "twice.tsv: MHFA AST-05-05 home eer is in it twice"),
        ("bare", "columns missing: p_holm"),
        ("words", "words.tsv: not a readable TSV"),
        ("none", "none.tsv: not a readable TSV"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            read_family(tmp_path / f"{name}.tsv")
    stem = tmp_path / "refused"
    for systems, corpora, complaint in (
        (SYSTEMS, CORPORA, "f.tsv: holds no comparison of AST-05-01-Mag with AST-05-05 on 'home', eer"),
        (["SLS"], CORPORA, "holds no system SLS"),
        (["MHFA"], [("mars", "Mars")], "corpus 'mars'"),
        (["AST-05-05"], CORPORA, "cannot differ from itself"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            write_differences(summary, good, systems, corpora, stem)
    for steps, complaint in (
        ([("x", "SLS", "AST-05-05"), ("y", "MHFA", "Mean-pool")], "holds no system SLS, Mean-pool"),
        ([("x", "MHFA", "AST-05-01-Mag")], "no comparison of MHFA with AST-05-01-Mag on 'home', eer"),
        ([("x", "MHFA", "MHFA"), ("# y", "", "")], "no step of the ablation has a reference"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            write_ablation(summary, good, steps, CORPORA, stem)
    assert not list(tmp_path.glob("refused*"))
