"""The figure of the composite score: what it shows of many systems, of few, and of files that do not fit together."""

import numpy as np
import pandas as pd
import pytest

from conftest import write_summary
from spaarsist.config import CompositeWeights
from spaarsist.evaluation.composite import MEASURED
from spaarsist.evaluation.composite import composite as select
from spaarsist.evaluation.summary import on
from spaarsist.names import BASELINE, LABELS, RANK_1, ConfigError
from spaarsist.reporting.figures import composite as figures
from spaarsist.reporting.figures.composite import N_BEST

LABEL = "made up; not the paper's numbers"


def rank(folder, names, corpora, worst=()):
    """A composite file of made-up numbers; the `worst` are far behind in all but compute."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"n_macs": rng.integers(5e8, 7e8, len(names))}, index=names)
    far = np.where(table.index.isin(worst), 9, 1)
    for corpus in corpora:
        for metric in MEASURED:
            table[on(corpus, metric)] = far * (0.1 + 0.1 * rng.random(len(names)) + (metric == "cllr") * 0.2)
    write_summary(folder / "summary.tsv", table.to_dict("index"))
    path = folder / "composite.tsv"
    select(
        folder / "summary.tsv", [], corpora, names, CompositeWeights(), path, folder / "sensitivity.tsv", n_draws=300
    )
    return path


@pytest.fixture
def many(tmp_path):
    ratios = ("05", "03", "01")
    variants = ["" if label == "Base" else f"-{label}" for label in [*LABELS][:6]]
    names = [f"AST-{k}-{i}{v}" for k in ratios for i in ratios for v in variants if i <= k]
    assert len(names) == 36 and {BASELINE, RANK_1} < {*names}
    return rank(tmp_path, [*names, "Mean-pool", "MHFA", "CA-MHFA", "SLS"], ["home", "wild"], {RANK_1})


def test_many_systems_the_best_and_the_two_that_matter(many, tmp_path, drawn):
    figures.composite(many, tmp_path / "figure", LABEL)
    table = pd.read_csv(many, sep="\t", index_col="system")
    shown = pd.read_csv(tmp_path / "figure.tsv", sep="\t", index_col="system")
    best = list(table.index[:N_BEST])
    wanted = best + [name for name in table.index[N_BEST:] if name in (BASELINE, RANK_1)]
    assert list(shown.index) == wanted and RANK_1 not in best
    pd.testing.assert_frame_equal(shown, table.loc[wanted, [*shown]])
    assert [*shown] == ["composite", "accuracy", "calibration", "compute", "rank", "rank_ci_low", "rank_ci_high"]
    (figure,) = drawn
    assert figure.note.endswith(f"among 40, {40 - len(wanted)} of them not shown") and "formula is ours" in figure.note
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert [name.split()[0] for name in names] == wanted
    assert [int(name.split()[-1]) for name in names] == list(shown["rank"])
    assert [text.get_weight() == "bold" for text in axes.get_yticklabels()] == [n in (BASELINE, RANK_1) for n in wanted]
    marks = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == len(wanted)]
    for xs, name in zip(marks, ("composite", "accuracy", "calibration", "compute"), strict=True):
        assert list(xs) == pytest.approx(list(shown[name]))
    low, high = axes.get_xlim()
    assert low < shown["composite"].min() and high > shown["composite"].max() and axes.get_xscale() == "log"
    gaps = [line for line in axes.lines if line.get_ydata()[0] == N_BEST - 0.5]
    assert len(gaps) == 1  # the dotted line before those far behind
    y = axes.get_ylim()
    assert y[0] > len(wanted) - 1 and y[1] < 0  # the best on top


def test_ranks_have_their_intervals_where_they_are_known(many, tmp_path, drawn):
    table = pd.read_csv(many, sep="\t")
    table.loc[0, ["rank_ci_low", "rank_ci_high"]] = 1, 7.5
    table.to_csv(many, sep="\t", index=False)
    figures.composite(many, tmp_path / "figure")
    first, second, *_ = [text.get_text() for text in drawn[0].axes[0].get_yticklabels()]
    assert first == f"{table['system'][0]}  1 [1, 7.5]" and second.endswith("  2")
    assert "its rank with the interval over resamples" in drawn[0].note


def test_what_lies_far_beyond_all_composites_is_written_at_the_edge(many, tmp_path, drawn):
    table = pd.read_csv(many, sep="\t")
    table[["composite", "accuracy", "calibration", "compute"]] = 1.0
    table.loc[0, ["composite", "compute"]] = 0.5, 0.1
    table.loc[1, ["accuracy", "calibration"]] = 3.14, 7.0
    table.to_csv(many, sep="\t", index=False)
    figures.composite(many, tmp_path / "figure")
    axes = drawn[0].axes[0]
    low, high = axes.get_xlim()
    assert 0.3 < low < 0.5 and 1 < high < 2
    written = {text.get_text(): text for text in axes.texts}
    assert {*written} == {"◂0.1", "3.1▸", "7▸"}
    assert [written[text].get_ha() for text in ("◂0.1", "3.1▸")] == ["left", "right"]
    assert round(written["◂0.1"].get_position()[1]) == 0 and round(written["7▸"].get_position()[1]) == 1
    axes.figure.draw_without_rendering()
    assert not written["3.1▸"].get_window_extent().overlaps(written["7▸"].get_window_extent())
    colours = {text: written[text].get_color() for text in ("◂0.1", "7▸")}
    assert colours == {"◂0.1": figures._MARKS["compute"]["color"], "7▸": figures._MARKS["calibration"]["color"]}


@pytest.mark.parametrize("extremes", [(0.24, 2.6), (0.1, 10)])
def test_texts_stay_apart(many, tmp_path, drawn, extremes):
    table = pd.read_csv(many, sep="\t")
    table.loc[:1, "accuracy"] = extremes
    table.to_csv(many, sep="\t", index=False)
    figures.composite(many, tmp_path / "figure", LABEL)
    (figure,) = drawn
    figure.set_dpi(300)  # at screen resolution letters are wider
    figure.draw_without_rendering()
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), figure.axes[0].get_yticklabels()):
            boxes = [text.get_window_extent() for text in labels if text.get_text()]
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    names = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert min(box.x0 for box in names) >= 0


@pytest.mark.parametrize("names", [[BASELINE], [BASELINE, "MHFA"], [f"B{i}" for i in range(N_BEST - 1)] + [BASELINE]])
def test_few_systems_and_one_corpus_are_shown_whole(tmp_path, drawn, names):
    figures.composite(rank(tmp_path, names, ["home"]), tmp_path / "figure")
    shown = pd.read_csv(tmp_path / "figure.tsv", sep="\t")
    assert sorted(shown["system"]) == sorted(names)
    (figure,) = drawn
    assert "not shown" not in figure.note and figure.note.endswith(f"among {len(names)}")
    (axes,) = figure.axes
    assert len(axes.get_xticks()) >= 3
    assert len(axes.lines) == 1 + 4, "the baseline and the marks, and no line for what is left out"


def test_files_are_whole_labelled_and_the_same_whatever_the_order_of_rows(many, drawn_twice):
    def draw(folder):
        figures.composite(many, folder / "composite", LABEL)
        pd.read_csv(many, sep="\t").iloc[::-1].to_csv(many, sep="\t", index=False)

    assert drawn_twice(draw, LABEL) == {"composite.png", "composite.pdf", "composite.tsv"}


def test_refuses_what_it_cannot_show(many, tmp_path):
    table = pd.read_csv(many, sep="\t")
    for frame, complaint in (
        (None, "bad.tsv: not a readable TSV"),
        (table[:0], "bad.tsv: holds no system"),
        (table.drop(columns="compute"), "bad.tsv: columns missing: compute"),
        (table.assign(accuracy="much"), "bad.tsv.*accuracy.*finite number"),
        (table.assign(rank=np.nan), "bad.tsv.*rank.*finite number"),
    ):
        if frame is not None:
            frame.to_csv(tmp_path / "bad.tsv", sep="\t", index=False)
        with pytest.raises(ConfigError, match=complaint):
            figures.composite(tmp_path / "bad.tsv", tmp_path / "refused")
    assert not list(tmp_path.glob("refused*"))
