"""Forest plots: every difference stands where it belongs, filled where it is significant, and bad input is refused."""

from itertools import pairwise, product

import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from conftest import write_comparisons
from spaarsist.names import ConfigError
from spaarsist.reporting.figures import differences as figures

CORPORA = [("home", "Home & garden"), ("wild", "Wild $x$ 100 %")]
SYSTEMS = ["AST-03-01-Mag", "AST-05-05", "MHFA", "AST-05-01", "AST-03-03"]
STEPS = [
    ("# Nothing below", "", ""),
    ("AASIST", "AST-05-05", "AST-05-05"),
    ("# Nodes", "", ""),
    ("fewer", "AST-05-01", "AST-05-05"),
    ("then magnitude", "AST-03-01-Mag", "AST-03-03"),
]


@pytest.fixture
def comparisons(tmp_path):
    """Every pair with values that no other has; the first of two corpora holds the significant ones of EER."""
    pairs = [(s, "AST-05-05") for s in SYSTEMS if s != "AST-05-05"] + [("AST-03-01-Mag", "AST-03-03")]
    changes = {}
    for (index, pair), (corpus, _), metric in product(enumerate(pairs), CORPORA, ("eer", "min_dcf", "cllr")):
        value = 0.01 * (index - 1) + 0.001 * (corpus == "wild")
        changes[*pair, corpus, metric] = {"difference": value, "ci_low": value - 0.02, "ci_high": value + 0.03}
    for index in (0, 4):
        changes[*pairs[index], "home", "eer"]["p_holm"] = 0.0499
    return write_comparisons(tmp_path / "c.tsv", pairs, {"home": 12, "wild": 12}, changes)


def marks(axes):
    """(x, row, whether it is filled) of each mark, by row."""
    points = [line for line in axes.lines if line.get_marker() == "o"]
    return sorted((m.get_xdata()[0], m.get_ydata()[0], to_rgb(m.get_markerfacecolor()) != (1, 1, 1)) for m in points)


def bars(axes):
    segments = [s for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    return {segment[0, 1]: tuple(segment[:, 0]) for segment in segments}


def test_systems_stand_in_groups_by_k_of_training(comparisons, tmp_path, drawn):
    figures.differences(comparisons, SYSTEMS, CORPORA, tmp_path / "d")
    home, wild = drawn[0].axes
    assert [text.get_text() for text in home.get_yticklabels()] == [
        *("Trained with k = 0.5", "AST-05-01", "Trained with k = 0.3", "AST-03-01-Mag (rank 1)", "AST-03-03"),
        *("Other back-ends", "MHFA"),
    ]
    assert [text.get_weight() == "bold" for text in home.get_yticklabels()] == [1, 0, 1, 0, 0, 1, 0]
    assert home.get_ylim()[0] > home.get_ylim()[1], "the first row is on top"
    # AST-03-01-Mag, MHFA, AST-05-01 and AST-03-03 are the pairs 0 to 3: differences of -1, 0, 1 and 2 points
    wanted = [(-1, 3, True), (0, 6, False), (1, 1, False), (2, 4, False)]
    assert [value for mark in marks(home) for value in mark] == pytest.approx([v for mark in wanted for v in mark])
    assert [x for x, _, _ in marks(wild)] == pytest.approx([-0.9, 0.1, 1.1, 2.1])
    assert not any(filled for *_, filled in marks(wild)), "p = 0.05 is not below it"
    assert bars(home)[3] == pytest.approx((-3, 2)) and len(bars(home)) == 4
    assert home.get_xlabel() == "Δ EER (points)"
    assert wild.get_title() == "Wild $x$ 100 %" and not wild.title.get_parse_math()
    assert "seeds: 2" in drawn[0].note and "Holm's correction for 20 tests" in drawn[0].note


def test_steps_stand_in_their_order_below_headings(comparisons, tmp_path, drawn):
    figures.ablation(comparisons, STEPS, CORPORA, tmp_path / "a")
    home, wild = drawn[0].axes
    names = [text.get_text() for text in home.get_yticklabels()]
    assert names == ["Nodes", "fewer", "then magnitude (against AST-03-03)"], "a heading without rows is left out"
    assert marks(home) == [(pytest.approx(1), 1, False), (pytest.approx(3), 2, True)]
    assert home.get_xlabel() == "Δ EER (points)"
    assert all(line.get_xdata()[0] == 0 for axes in (home, wild) for line in axes.lines if line.get_marker() == "None")
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert [*table["corpus"]] == ["home", "home", "wild", "wild"] and [*table["section"]] == ["Nodes"] * 4
    assert [*table["step"]] == ["fewer", "then magnitude"] * 2 and "row" not in table
    values = table.loc[1, ["difference", "ci_low", "ci_high", "p_holm"]].tolist()
    assert values == pytest.approx([0.03, 0.01, 0.06, 0.0499])


def test_other_metrics_have_their_own_units(comparisons, tmp_path, drawn):
    figures.ablation(comparisons, STEPS, CORPORA[:1], tmp_path / "a", metric="cllr")
    figures.ablation(comparisons, STEPS, CORPORA[:1], tmp_path / "b", metric="min_dcf")
    cllr, min_dcf = (figure.axes[0] for figure in drawn)
    assert [x for x, *_ in marks(cllr)] == pytest.approx([0.01, 0.03]) and "Cllr (bits)" in cllr.get_xlabel()
    assert not any(filled for *_, filled in marks(cllr)) and "not tested" in drawn[0].note
    assert not drawn[0].legends and len(drawn[1].legends) == 1 and "minDCF" in min_dcf.get_xlabel()


def test_names_fit_into_the_figure(comparisons, tmp_path, drawn):
    steps = [(f"{'a long title ' * 3}{i}", "AST-05-01", "AST-05-05") for i in range(40)]
    figures.ablation(comparisons, steps, CORPORA, tmp_path / "a")
    drawn[0].draw_without_rendering()
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].get_yticklabels()]
    assert all(box.x0 >= 0 for box in boxes)
    assert not any(upper.overlaps(lower) for upper, lower in pairwise(boxes))


def test_files_are_whole_labelled_and_the_same_every_time(comparisons, drawn_twice):
    label = "made up, 100 %"
    names = drawn_twice(lambda folder: figures.differences(comparisons, SYSTEMS, CORPORA, folder / "d", label), label)
    assert names == {"d.png", "d.pdf", "d.tsv"}


def test_refusals(comparisons, tmp_path):
    for systems, options, complaint in (
        (["AST-05-05"], {}, "no system was named"),
        (SYSTEMS, {"metric": "ece"}, "differences of 'ece' are not compared; take one of eer"),
        (SYSTEMS, {"metric": "act_dcf"}, "c.tsv: holds no comparison of AST-05-01 with AST-05-05 on 'home', act_dcf"),
        (["SLS"], {}, "no comparison of SLS"),
        (["AST-5"], {}, "not a system name"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            figures.differences(comparisons, systems, CORPORA, tmp_path / "refused", **options)
    with pytest.raises(ConfigError, match="no system was named"):
        figures.ablation(comparisons, STEPS[:2], CORPORA, tmp_path / "refused")
    assert not list(tmp_path.glob("refused*"))
