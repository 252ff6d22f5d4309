"""The figures of nodes and stack attention: what is drawn is what the files hold, and of which run it says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

import test_tables_probes
from spaarsist.names import ConfigError
from spaarsist.reporting.figures import nodes as figures  # noqa: F401 - `drawn` looks for it
from spaarsist.reporting.figures.nodes import kept, overlap, planted, stack_attention
from test_tables_nodes import CORPORA, LABEL, LAYERS, RATIOS, SPREAD, TEMPERATURES, TRAININGS, jaccard, without, write


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("inspected"))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def subject(figure):
    """What stands above all panels."""
    return figure.get_suptitle() or figure.legends[0].get_title().get_text()


def marked(axes):
    """Lines with markers."""
    return [line for line in axes.lines if line.get_marker() not in ("", "None", None)]


def test_overlap_is_drawn_as_it_is(folders, tmp_path, drawn):
    """Of the first training: (J - chance) / (1 - chance), seeds beside their mean, branches together."""
    overlap(folders, CORPORA, tmp_path / "overlap", LABEL)
    (figure,) = drawn
    assert subject(figure) == "Do both scorers keep the same nodes?"
    assert [axes.get_title() for axes in figure.axes] == [title for _, title in CORPORA]
    assert legend(figure) == ["k = 0.5", "k = 0.1", "0: two random choices, 1: the same nodes"]
    assert figure.note.startswith("AST-05; k:") and "Small dots: seeds" in figure.note
    rows = ["Spectral, first", "Temporal, first", "Spectral, branches", "Temporal, branches"]
    layers = ["spectral_pool", "temporal_pool", "branches.0.spectral_pool", "branches.1.temporal_pool"]
    for (corpus, _), axes in zip(CORPORA, figure.axes, strict=True):
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == rows
        for k in RATIOS:
            for place, layer in enumerate(layers):
                expected = [(jaccard("AST-05", s, corpus, "all", layer, k) - k / 2) / (1 - k / 2) for s in (1, 2)]
                expected = [] if (k, place) == (0.1, 3) else expected  # keeps all it gets
                lane = place + 0.24 * (0.5 - (k == 0.5))
                lines = [line for line in marked(axes) if len(line.get_ydata()) and line.get_ydata()[0] == lane]
                seeds, means = (line.get_xdata().tolist() for line in lines) if expected else ([], [])
                assert seeds == pytest.approx(expected)
                assert means == pytest.approx([np.mean(expected)] if expected else [])
        assert [line.get_xdata()[0] for line in axes.lines if line not in marked(axes)][:2] == [0, 1]
        lowest = (0.3 - 0.1 - 0.25) / 0.75  # seed 1, spectral, k 0.5
        assert axes.get_xlim() == pytest.approx((lowest - 0.05, 1.05))
    shown = pd.read_csv(tmp_path / "overlap.tsv", sep="\t")
    assert [*shown] == ["trained", "corpus", "pooling", "k", "seed", "overlap"] and len(shown) == 2 * 2 * 7


def test_both_branches_make_one_dot(tmp_path, drawn):
    (folder,) = write(tmp_path / "in", ["AST-05"], seeds=[1], corpora=["home"])
    table = pd.read_csv(folder / "nodes.tsv", sep="\t")
    other = table[table["layer"] == "branches.0.spectral_pool"].assign(layer="branches.1.spectral_pool", jaccard=0.9)
    pd.concat([table, other]).to_csv(folder / "nodes.tsv", sep="\t", index=False)
    overlap([folder], CORPORA[:1], tmp_path / "overlap")
    shown = pd.read_csv(tmp_path / "overlap.tsv", sep="\t").set_index(["pooling", "k"])["overlap"]
    first = jaccard("AST-05", 1, "home", "all", "branches.0.spectral_pool", 0.5)
    assert shown["branches.spectral_pool", 0.5] == pytest.approx(((first + 0.9) / 2 - 0.25) / 0.75)


def test_kept_shows_each_seed_of_the_first_training_at_the_smallest_k(folders, tmp_path, drawn):
    kept(folders[::-1], CORPORA[::-1], tmp_path / "kept", LABEL)
    (figure,) = drawn
    assert subject(figure) == "Which moments are kept"
    assert figure.note.startswith("AST-05, k = 0.1 at inference") and "one seed" in figure.note
    *panels, bar = figure.axes
    assert [axes.get_title() for axes in panels] == [title for _, title in CORPORA[::-1]]
    assert bar.get_ylabel() == "Clips that keep it (%)"
    bands = ["learned, bona fide", "learned, spoof", "magnitude, bona fide", "magnitude, spoof"]
    assert [tick.get_text() for tick in panels[0].get_yticklabels()] == bands
    for axes in panels:
        assert len(axes.collections) == 4 and axes.get_ylim() == (4, 0)
        for place, mesh in enumerate(axes.collections):
            corners = np.asarray(mesh.get_coordinates())
            np.testing.assert_allclose(corners[0, :, 0], 0.06 * np.arange(34), atol=1e-9)
            assert (place < corners[..., 1]).all() and (corners[..., 1] < place + 1).all()
            learned = place < 2
            expected = [[10 * (position + learned) / 33 / seed for position in range(33)] for seed in (1, 2)]
            np.testing.assert_allclose(mesh.get_array(), expected)
            assert mesh.norm.vcenter == pytest.approx(np.mean([(p + 0.5) / 33 * 10 * 0.75 for p in range(33)]))
            assert (mesh.norm.vmin, mesh.norm.vmax) == pytest.approx((0, 10))
    shown = pd.read_csv(tmp_path / "kept.tsv", sep="\t")
    assert shown[["trained", "k", "layer"]].drop_duplicates().to_numpy().tolist() == [["AST-05", 0.1, "temporal_pool"]]
    assert len(shown) == 2 * 2 * 2 * 2 * 33 and {*shown["seed"]} == {1, 2}


def test_kept_where_all_nodes_are_alike(tmp_path):
    (folder,) = write(tmp_path / "in", ["AST-05"], seeds=[1], corpora=["home"])
    pd.read_csv(folder / "kept.tsv", sep="\t").assign(share=0.1).to_csv(folder / "kept.tsv", sep="\t", index=False)
    kept([folder], CORPORA[:1], tmp_path / "kept")
    assert (tmp_path / "kept.png").stat().st_size > 5_000


def test_planted_is_drawn_as_it_is(tmp_path, drawn):
    """Of the first training; a dot and a bar per method and scorer, in a row per corpus and a column per k."""
    probed = test_tables_probes.write(tmp_path / "probed")
    planted(probed, CORPORA, tmp_path / "planted", LABEL)
    (figure,) = drawn
    assert subject(figure) == "Are spoofed nodes kept more often?"
    assert figure.note.startswith("AST-05: 0.3 s of 56 bona fide clips") and "2 seeds" in figure.note
    assert legend(figure) == ["learned", "magnitude"]
    panels = np.array(figure.axes).reshape(2, 2)
    assert [axes.get_title() for axes in panels[1]] == [f"{CORPORA[1][1]}, k = 0.5", "k = 0.1"]
    names = [tick.get_text() for tick in panels[1, 0].get_yticklabels()]
    assert len(names) == 4 and names[-1] == "Bona fide, from elsewhere"
    for axes, change in zip(panels.flat, (10, 2, 11, 3), strict=True):
        learned, magnitude = marked(axes)
        assert learned.get_xdata() == pytest.approx([change] * 4)
        assert magnitude.get_xdata() == pytest.approx([change + 10] * 4)
        assert learned.get_ydata() == pytest.approx(np.arange(4) - 0.16)
        bars = [path.vertices[:, 0] for bars in axes.collections for path in bars.get_paths()]
        assert bars[0] == pytest.approx([change - 5, change + 5]) and len(bars) == 8
    shown = pd.read_csv(tmp_path / "planted.tsv", sep="\t")
    assert {*shown["trained"]} == {"AST-05"} and len(shown) == 2 * 2 * 2 * 4
    with pytest.raises(ConfigError, match="hold no probes of corpus 'moon'"):
        planted(probed, [("moon", "Moon")], tmp_path / "refused")


def test_stack_attention_is_drawn_as_it_is(folders, tmp_path, drawn):
    stack_attention(folders, CORPORA, tmp_path / "stack", LABEL)
    (figure,) = drawn
    assert subject(figure) == "How far stack attention is from a mean"
    panels = np.array(figure.axes).reshape(2 * len(TRAININGS), len(CORPORA))
    assert [axes.get_title() for axes in panels[0]] == [title for _, title in CORPORA]
    wanted = [f"{name}\n{what}" for name in TRAININGS for what in ("Distance from a mean", "Spread over trials")]
    assert [row[0].get_ylabel() for row in panels] == wanted
    for axes in panels[::2].flat:
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
    for axes in panels[1::2].flat:
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


def test_one_seed_one_corpus(tmp_path, drawn):
    folders = write(tmp_path, ["AST-03"], seeds=[1], corpora=["home"], variants=())
    overlap(folders, CORPORA[:1], tmp_path / "overlap")
    kept(folders, CORPORA[:1], tmp_path / "kept")
    stack_attention(folders, CORPORA[:1], tmp_path / "stack")
    assert [len(figure.axes) for figure in drawn] == [1, 2, 2]


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
