"""The ablation: seeds, mean and interval stand where they belong, filled where significant; bad input is refused."""

from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from conftest import write_comparisons, write_metrics
from spaarsist.names import ConfigError, System
from spaarsist.reporting.figures import ablation as figures

CORPORA = [("home", "Home & garden"), ("wild", "Wild $x$ 100 %")]
STEPS = [
    ("# Nothing below", "", ""),
    ("AASIST", "AST-05-05", "AST-05-05"),
    ("# Nodes", "", ""),
    ("fewer", "AST-05-01", "AST-05-05"),
    ("then magnitude", "AST-03-01-Mag", "AST-03-03"),
    ("# Trained", "", ""),
    ("trained so", "AST-05+Mag-05-Mag", "AST-05-05"),
]
# EERs in percent of seed 1 and 2, in domain; out of domain one point more of every system but the baseline
EERS = {
    "AST-05-05": (10, 12), "AST-05-01": (11, 13), "AST-03-03": (20, 20), "AST-03-01-Mag": (22, 24),
    "AST-05+Mag-05-Mag": (8, 9),
}  # fmt: skip
PAIRS = [(system, reference) for _, system, reference in STEPS if system != reference]


def write(folder, eers=EERS):
    """Files of metrics, one per seed, and of both families' comparisons."""
    metrics = []
    for seed in (1, 2):
        rows = []
        for (system, values), (corpus, _) in product(eers.items(), CORPORA):
            eer = (values[seed - 1] + (corpus == "wild" and system != "AST-05-05")) / 100
            column = System.parse(system).column
            rows.append((system, seed, column, corpus, "pooled", "eer", eer, eer - 0.01, eer + 0.02, 90, 90))
            rows.append((system, seed, column, corpus, "attack:A17", "eer", 0.9, 0.8, 1.0, 90, 9))
        metrics.append(write_metrics(folder / f"{seed}.metrics.tsv", rows))
    changes = {}
    for (system, reference), (corpus, _) in product(PAIRS, CORPORA):
        values = [a - b + (corpus == "wild" and reference == "AST-05-05")
                  for a, b in zip(eers[system], eers[reference], strict=True)]  # fmt: skip
        mean = sum(values) / 200
        changes[system, reference, corpus, "eer"] = {"difference": mean, "ci_low": mean - 0.02, "ci_high": mean + 0.03}
    changes[*PAIRS[1], "home", "eer"]["p_holm"] = 0.0499
    speakers = {"home": 12, "wild": 12}
    comparisons = [
        write_comparisons(folder / "switched.tsv", PAIRS[:2], speakers, changes),
        write_comparisons(folder / "trained.tsv", PAIRS[2:], speakers, changes),
    ]
    return comparisons, metrics


def marks(axes, shape):
    """(x, row, whether it is filled) of each mark of a shape."""
    return [
        (x, row, to_rgb(line.get_markerfacecolor()) != (1, 1, 1))
        for line in axes.lines
        if line.get_marker() == shape
        for x, row in zip(*line.get_data(), strict=True)
    ]


def bars(axes):
    segments = [s for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    return {segment[0, 1]: tuple(segment[:, 0]) for segment in segments}


def test_seeds_means_and_intervals_stand_in_their_rows(tmp_path, drawn):
    figures.ablation(*write(tmp_path), STEPS, CORPORA, tmp_path / "a")
    home, wild = drawn[0].axes
    names = [text.get_text() for text in home.get_yticklabels()]
    assert names == ["Nodes", "fewer", "then magnitude (against AST-03-03)", "Trained", "trained so"]
    assert [text.get_weight() == "bold" for text in home.get_yticklabels()] == [1, 0, 0, 1, 0]
    assert home.get_ylim()[0] > home.get_ylim()[1], "the first row is on top"
    assert [x for x, *_ in marks(home, "o")] == pytest.approx([1, 1, 2, 4, -2, -3])
    assert [row for _, row, _ in marks(home, "o")] == [1, 1, 2, 2, 4, 4]
    assert [(row, filled) for _, row, filled in marks(home, "D")] == [(1, False), (2, True), (4, False)]
    assert [x for x, *_ in marks(home, "D")] == pytest.approx([1, 3, -2.5])
    assert [x for x, *_ in marks(wild, "D")] == pytest.approx([2, 3, -1.5])
    assert not any(filled for *_, filled in marks(wild, "D")), "p = 0.05 is not below it"
    low, high = home.get_xlim()
    assert (low, high) == pytest.approx((-3.35, 4.35)) and wild.get_xlim() == home.get_xlim()
    assert bars(home) == {1: pytest.approx((-1, 4)), 2: pytest.approx((1, high)), 4: pytest.approx((low, 0.5))}
    assert [x for x, *_ in marks(home, "|")] == pytest.approx([-1, 4, 1, 0.5]), "only ends inside have caps"
    assert wild.get_title() == "Wild $x$ 100 %" and not wild.title.get_parse_math()
    assert "seeds: 2" in drawn[0].note and "Holm" in drawn[0].note
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert [*table["section"]] == ["Nodes", "Nodes", "Trained"] * 2 and "row" not in table
    values = table.loc[1, ["difference", "ci_low", "ci_high", "p_holm", "seed1", "seed2"]].tolist()
    assert values == pytest.approx([0.03, 0.01, 0.06, 0.0499, 0.02, 0.04])


def test_one_failed_seed_does_not_flatten_the_others(tmp_path, drawn):
    figures.ablation(*write(tmp_path, EERS | {"AST-05-01": (11, 61)}), STEPS[:4], CORPORA[:1], tmp_path / "a")
    (axes,) = drawn[0].axes
    assert [*marks(axes, ">")] == [(axes.get_xlim()[1], 1, True)] or axes.get_xlim()[1] > 49
    failed = EERS | {name: (10, 12) for name in EERS if name != "AST-05-05"} | {"AST-05-01": (-38, 61)}
    figures.ablation(*write(tmp_path, failed), STEPS[:4], CORPORA[:1], tmp_path / "a")
    (axes,) = drawn[1].axes
    low, high = axes.get_xlim()  # a mean of half a point, seeds of -48 and 49
    assert -1.5 < low < -1 and 1 < high < 1.5
    assert [*marks(axes, "<"), *marks(axes, ">")] == [(low, 1, True), (high, 1, True)]


def test_a_seed_that_one_side_lacks_is_left_out(tmp_path, drawn):
    comparisons, metrics = write(tmp_path)
    table = pd.read_csv(metrics[1], sep="\t")
    table[table["system"] != "AST-05-01"].to_csv(metrics[1], sep="\t", index=False)
    figures.ablation(comparisons, metrics, STEPS, CORPORA, tmp_path / "a")
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert np.isnan(table.loc[0, "seed2"]) and len(marks(drawn[0].axes[0], "o")) == 5


def test_names_fit_into_the_figure(tmp_path, drawn):
    steps = [(f"{'a long title ' * 3}{i}", "AST-05-01", "AST-05-05") for i in range(40)]
    figures.ablation(*write(tmp_path), steps, CORPORA, tmp_path / "a")
    drawn[0].draw_without_rendering()
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].get_yticklabels()]
    assert all(box.x0 >= 0 for box in boxes)
    assert not any(upper.overlaps(lower) for upper, lower in pairwise(boxes))
    left, right = (axes.xaxis.label.get_window_extent() for axes in drawn[0].axes)
    assert left.x1 < right.x0


def test_files_are_whole_labelled_and_the_same_every_time(tmp_path, drawn_twice):
    files = write(tmp_path)
    names = drawn_twice(lambda folder: figures.ablation(*files, STEPS, CORPORA, folder / "a", "made up"), "made up")
    assert names == {"a.png", "a.pdf", "a.tsv"}


def test_refusals(tmp_path):
    comparisons, metrics = write(tmp_path)
    other = [("other", "SLS", "AST-05-05")]
    for arguments, complaint in (
        ((comparisons, metrics, STEPS[:3], CORPORA), "no system was named that has a reference"),
        ((comparisons, metrics, other, CORPORA), "the metrics files hold no EER of SLS on corpus 'home'"),
        ((comparisons, metrics, STEPS, [("mars", "Mars")]), "no EER of AST-05-01, AST-05-05.* on corpus 'mars'"),
        ((comparisons, [*metrics, metrics[0]], STEPS, CORPORA), "a number twice: EER of {'corpus': 'home'"),
        ((comparisons, [*metrics, comparisons[0]], STEPS, CORPORA), "switched.tsv: columns missing: condition"),
        ((comparisons[:1], metrics, STEPS, CORPORA), "switched.tsv: holds no comparison of AST-05.Mag-05-Mag with"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            figures.ablation(*arguments, tmp_path / "refused")
    assert not list(tmp_path.glob("refused*"))
