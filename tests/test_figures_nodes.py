"""The figures of nodes and stack attention: what is drawn is what the files hold, and of which run it says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from spaarsist.names import ConfigError
from spaarsist.reporting.figures import nodes as figures
from spaarsist.reporting.figures.nodes import kept, overlap, stack_attention
from test_tables_nodes import CORPORA, LABEL, LAYERS, RATIOS, SPREAD, TEMPERATURES, TRAININGS, jaccard, without, write

SPECTRAL, TEMPORAL = (colour for colour, _ in figures._GRAPHS.values())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("inspected"))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def marked(axes):
    """Lines with markers."""
    return [line for line in axes.lines if line.get_marker() not in ("", "None", None)]


def test_overlap_is_drawn_as_it_is(folders, tmp_path, drawn):
    overlap(folders, CORPORA, tmp_path / "overlap", LABEL)
    (figure,) = drawn
    assert len(figure.axes) == 2 * 3 * len(TRAININGS)
    assert legend(figure) == ["spectral nodes", "temporal nodes", "two random choices"]
    assert "not frequency bands" in figure.note and "standard deviation over seeds" in figure.note
    for (corpus, title), part in zip(CORPORA, figure.subfigs, strict=True):
        assert part.get_suptitle() == title
        panels = np.array(part.axes).reshape(len(TRAININGS), 3)
        assert [axes.get_title() for axes in panels[0]] == ["First pooling", "Branch 1", "Branch 2"]
        assert [tick.get_text() for tick in panels[-1, 0].get_xticklabels()] == [".1", ".5"]
        for row, trained in zip(panels, TRAININGS, strict=True):
            assert row[0].get_ylabel() == f"{trained}\nJaccard index"
            wanted = {
                (0, SPECTRAL): ("spectral_pool", RATIOS), (0, TEMPORAL): ("temporal_pool", RATIOS),
                (1, SPECTRAL): ("branches.0.spectral_pool", RATIOS), (2, TEMPORAL): ("branches.1.temporal_pool", [0.5]),
            }  # fmt: skip
            for (column, colour), (layer, ratios) in wanted.items():
                coloured = (line for line in marked(row[column]) if same_color(line.get_color(), colour))
                (line,) = (line for line in coloured if len(line.get_ydata()))
                means = [np.mean([jaccard(trained, s, corpus, "all", layer, k) for s in (1, 2)]) for k in ratios]
                assert line.get_ydata() == pytest.approx(means)
                assert np.round(line.get_xdata()).tolist() == [RATIOS.index(k) for k in ratios]
            chance = [line for line in row[0].lines if line not in marked(row[0])]
            assert [line.get_ydata().tolist() for line in chance] == [[0.05, 0.25]] * 2
            bars = [path.vertices[:, 1] for bars in row[0].collections for path in bars.get_paths()]
            assert np.ptp(bars[0]) == pytest.approx(2 * np.std([0, 0.02], ddof=1)) and len(bars) == 4
    shown = pd.read_csv(tmp_path / "overlap.tsv", sep="\t")
    assert len(shown) == 2 * 2 * 7 and {"chance", "jaccard", "jaccard.seeds_std", "n_seeds"} <= {*shown}


def test_kept_shows_the_lowest_seed_of_the_first_training_at_the_smallest_k(folders, tmp_path, drawn):
    kept(folders[::-1], CORPORA[::-1], tmp_path / "kept", LABEL)
    (figure,) = drawn
    assert figure.note.startswith("AST-05, seed 1, k = 0.1 at inference") and "not frequency bands" in figure.note
    panels = np.array(figure.axes).reshape(2, 2)
    assert [axes.get_title() for axes in panels[0]] == [title for _, title in CORPORA[::-1]]
    for axes, size, width in zip(panels[:, 0], (42, 33), (1, 0.06), strict=True):
        assert len(axes.patches) == 4
        for patch in axes.patches:
            values, edges, _ = patch.get_data()
            plus = same_color(patch.get_edgecolor(), figures._SCORERS["learned"])
            assert values == pytest.approx([10 * (position + plus) / size for position in range(size)])
            first = -0.5 if size == 42 else 0
            assert edges == pytest.approx(first + width * np.arange(size + 1))
        assert len({(patch.get_edgecolor(), patch.get_linestyle()) for patch in axes.patches}) == 4
        (chance,) = axes.lines
        assert chance.get_ydata()[0] == pytest.approx(10 * np.mean([i / size for i in range(size)]) + 5 / size)
    assert legend(figure)[:2] == ["learned, bona fide", "learned, spoof"] and len(legend(figure)) == 5
    shown = pd.read_csv(tmp_path / "kept.tsv", sep="\t")
    assert shown[["trained", "seed", "k"]].drop_duplicates().to_numpy().tolist() == [["AST-05", 1, 0.1]]
    assert len(shown) == 2 * 2 * 2 * (42 + 33) and {*shown["label"]} == {"bonafide", "spoof"}


def test_stack_attention_is_drawn_as_it_is(folders, tmp_path, drawn):
    stack_attention(folders, CORPORA, tmp_path / "stack", LABEL)
    (figure,) = drawn
    panels = np.array(figure.axes).reshape(4, len(TRAININGS))
    assert [axes.get_title() for axes in panels[0]] == TRAININGS
    labels = [row[0].get_ylabel() for row in panels]
    assert labels[0] == "Home & garden\n(in domain)\nDistance from a mean" and labels[3].endswith("Spread over trials")
    for axes in panels[:2].flat:
        lines = {line.get_label(): line for line in marked(axes)}
        assert [*lines] == ["Branch 1, layer 1", "Branch 1, layer 2", "Branch 2, layer 1", "Branch 2, layer 2"]
        for line, value in zip(lines.values(), LAYERS.values(), strict=True):
            assert line.get_xdata().tolist() == TEMPERATURES
            assert line.get_ydata() == pytest.approx([(value + 0.0015) / t for t in TEMPERATURES])
        dotted = [line for line in axes.lines if line.get_linestyle() == ":" and line not in marked(axes)]
        assert [line.get_xdata()[0] for line in dotted] == [100]
        assert axes.get_yscale() == axes.get_xscale() == "log"
        low, high = axes.get_ylim()
        assert low < 0.001 and high > 0.4
    for axes in panels[2:].flat:
        stack, others = marked(axes)
        assert stack.get_ydata() == pytest.approx([1.5 * value for value in SPREAD.values()])  # mean of 1 and 2 times
        assert others.get_ydata() == pytest.approx([0.7] * 3)
        assert np.round(stack.get_xdata()).tolist() == np.round(others.get_xdata()).tolist() == [0, 1, 2]
        bars = [np.ptp(path.vertices[:, 1]) for bars in axes.collections for path in bars.get_paths()]
        assert bars == pytest.approx([2 * value * np.sqrt(0.5) for value in SPREAD.values()] + [0] * 3)
        assert stack.get_ydata()[2] == 0 and axes.get_ylim()[0] < 0  # the mark of the zero is in sight
        assert not same_color(stack.get_markerfacecolor(), others.get_markerfacecolor())
    ticks = [tick.get_text() for tick in panels[3, 0].get_xticklabels()]
    assert ticks == ["attention", "plain\nmean", "released\ncode's mean"]
    assert "temperature of training" in legend(figure) and "stack node" in legend(figure)
    shown = pd.read_csv(tmp_path / "stack.tsv", sep="\t")
    assert {"entropy", "total_variation", "stack_node_spread", "score_change"} <= {*shown["quantity"]}


def test_attention_that_is_a_mean_in_all_places(folders, tmp_path, drawn):
    inspected = write(tmp_path / "mean", ["AST-05"])
    for folder in inspected:
        table = pd.read_csv(folder / "stack.tsv", sep="\t")
        table.loc[table["quantity"] == "total_variation", "value"] = 0.0
        table.to_csv(folder / "stack.tsv", sep="\t", index=False)
    stack_attention(inspected, CORPORA, tmp_path / "stack")
    assert (marked(drawn[0].axes[0])[0].get_ydata() == 0).all()


def test_one_seed_one_corpus_has_no_bars(tmp_path, drawn):
    folders = write(tmp_path, ["AST-03"], seeds=[1], corpora=["home"], variants=())
    overlap(folders, CORPORA[:1], tmp_path / "overlap")
    kept(folders, CORPORA[:1], tmp_path / "kept")
    stack_attention(folders, CORPORA[:1], tmp_path / "stack")
    assert [len(figure.axes) for figure in drawn] == [3, 2, 2]
    bars = [path.vertices for bars in drawn[0].axes[0].collections for path in bars.get_paths()]
    assert np.isnan(np.concatenate(bars)[:, 1]).all()


def test_refuses(folders, tmp_path):
    for draw, name in ((overlap, "nodes"), (kept, "kept"), (stack_attention, "stack")):
        with pytest.raises(ConfigError, match="no folders were given"):
            draw([], CORPORA, tmp_path / "refused")
        with pytest.raises(ConfigError, match="hold nothing of AST-05 on corpus 'moon'"):
            draw(folders, [*CORPORA, ("moon", "Moon")], tmp_path / "refused")
        with pytest.raises(ConfigError, match="was given in"):
            draw([*folders, folders[3]], CORPORA, tmp_path / "refused")
        with pytest.raises(ConfigError, match=rf"{name}\.tsv: columns missing"):
            draw([without(tmp_path / name, name)], CORPORA, tmp_path / "refused")
    assert not list(tmp_path.glob("refused*"))


@pytest.mark.parametrize("draw", [overlap, kept, stack_attention])
def test_files_are_whole_labelled_and_the_same_every_time(folders, drawn_twice, draw):
    names = drawn_twice(lambda folder: draw(folders, CORPORA, folder / "nodes", LABEL), LABEL)
    assert names == {"nodes.png", "nodes.pdf", "nodes.tsv"}
