"""The figure on calibration from made-up values: steps where the numbers are, words for what is out of the ordinary."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from spaarsist.names import ConfigError
from spaarsist.reporting.figures import calibration as figures
from spaarsist.reporting.figures.style import MARKERS
from test_tables_calibration import files as write_files

CORPORA = [("dev", "Home dev"), ("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
SYSTEMS = ["MHFA", "AST-05-05", "AST-03-01-Mag"]
PANELS = [["act_dcf", "act_dcf_calibrated", "min_dcf"], ["cllr", "cllr_calibrated"]]
LABEL = "mini corpora; not the paper's numbers, 100 % made up"


def files(folder, seeds=(1, 2), slopes=(), **fixed):
    """Random values of every quantity, or those that `fixed` has for a corpus and a seed; a file per seed."""
    rng = np.random.default_rng(0)

    def value(system, seed, corpus, quantity):
        usual = 2.0 if quantity == "slope" else rng.uniform(0.2, 0.9)
        return fixed.get(quantity, {}).get((corpus, seed), usual)

    slopes = {(system, seed): slope for system, slope in dict(slopes).items() for seed in seeds}
    return write_files(folder, seeds, slopes, SYSTEMS, [quantity for row in PANELS for quantity in row], value)


@pytest.fixture
def draw(tmp_path, drawn):
    """Gives the figure, its table and its axes, a row of panels at a time."""

    def function(systems=SYSTEMS, corpora=CORPORA, **how):
        figures.calibration(files(tmp_path, **how), systems, corpora, tmp_path / "x")
        table = pd.read_csv(tmp_path / "x.tsv", sep="\t", index_col=["system", "corpus", "seed"]).sort_index()
        assert len(drawn[-1].axes) == len(PANELS) * len(corpora)
        return drawn[-1], table, np.reshape(drawn[-1].axes, (len(PANELS), -1))

    return function


def lines(axes):
    """Heights of each system's line, in drawing order."""
    return [line.get_ydata() for line in axes.lines if line.get_marker() not in ("None", ".")]


def dots(axes):
    """Heights of the seeds' dots, a row per system and seed."""
    return np.array([line.get_ydata() for line in axes.lines if line.get_marker() == "."])


def test_steps_stand_where_the_numbers_are(draw):
    figure, table, panels = draw()
    for row, quantities in zip(panels, PANELS, strict=True):
        for axes, (corpus, _) in zip(row, CORPORA, strict=True):
            expected = [table.loc[(system, corpus), quantities].to_numpy() for system in SYSTEMS]
            assert dots(axes) == pytest.approx(np.concatenate(expected))
            assert np.array(lines(axes)) == pytest.approx(np.mean(expected, axis=1))
            assert [text.get_text() for text in axes.get_xticklabels()][:2] == ["as scored", "calibrated"]
            assert axes.get_ylim()[0] == 0 and any([*line.get_ydata()] == [1, 1] for line in axes.lines)
    looks = {(line.get_marker(), line.get_color(), line.get_linestyle()) for line in figure.legends[0].get_lines()}
    assert len(looks) == len(SYSTEMS) + 1
    shifts = {line.get_transform().transform((0, 0))[0] for line in panels[0, 0].lines if line.get_marker() in MARKERS}
    assert len(shifts) == len(SYSTEMS), "equal systems would hide each other"


def test_all_marks_and_dots_are_within_the_panels(draw):
    """Some are far out, on the last corpus only, and beside a system that has none."""
    *_, panels = draw(cllr={("wild", 1): 2.0, ("wild", 2): 6.0}, slopes={"AST-05-05": np.nan})
    for row in panels:
        low, high = row[0].get_ylim()
        for axes in row:
            assert axes.get_ylim() == (low, high)
            for drawn in [*lines(axes), *dots(axes)]:
                assert not (drawn < low).any() and not (drawn > high).any()
    assert 6 < panels[1, 0].get_ylim()[1] < 7
    assert panels[0, 0].get_ylim()[1] < 2


def test_what_it_says(draw):
    figure, *_ = draw()
    texts = [" ".join(text.get_text().split()) for text in figure.findobj(Text)]
    assert {title for _, title in CORPORA} <= {*texts}
    assert {"Cllr (bits)", "Actual detection cost", "AASIST (AST-05-05)", "a system without knowledge"} <= {*texts}
    assert "has also chosen each training's epoch" in figure.note
    assert "lines join means over training seeds (n\u00a0=\u00a02), dots are the seeds" in figure.note
    assert "slope" not in figure.note and "separates" not in figure.note
    assert draw(seeds=(1,))[0].note.endswith("one training seed")


def test_one_seed_has_no_dots(draw):
    *_, panels = draw(seeds=(1,))
    for axes in panels.flat:
        assert len(dots(axes)) == 0
        assert all(np.isfinite(heights).all() for heights in lines(axes)) and len(lines(axes)) == len(SYSTEMS)


def test_one_seed_without_a_calibration_leaves_no_mean(draw):
    """Its dot is missing, and that of the other seed is there."""
    *_, panels = draw(cllr_calibrated={("wild", 1): np.nan})
    assert [np.isnan(line).tolist() for line in lines(panels[1, 2])] == [[False, True]] * len(SYSTEMS)
    assert np.isnan(dots(panels[1, 2])[:, 1]).tolist() == [True, False] * len(SYSTEMS)


def test_separable_seeds_and_negative_slopes(draw):
    figure, _, panels = draw(slopes={"AST-05-05": np.nan, "MHFA": -1.0})
    assert "a negative slope turned the scores of MHFA;" in figure.note
    assert figure.note.endswith("no calibration of AST-05-05: a threshold separates the development corpus's classes")
    before, after, lowest = np.array(lines(panels[0, 1])).T
    assert np.isnan(after).tolist() == [False, True, False]
    assert np.isfinite(before).all() and np.isfinite(lowest).all() and np.isfinite(panels[0, 0].get_ylim()).all()


def test_a_single_system_on_a_single_corpus(draw):
    _, table, panels = draw(["AST-05-05"], CORPORA[2:])
    assert [*table.index] == [("AST-05-05", "wild", 1), ("AST-05-05", "wild", 2)]
    assert panels.shape == (2, 1)


def test_files_are_whole_labelled_and_the_same_every_time(tmp_path, drawn_twice):
    paths = files(tmp_path)
    names = drawn_twice(lambda folder: figures.calibration(paths, SYSTEMS, CORPORA, folder / "x", LABEL), LABEL)
    assert names == {"x.png", "x.pdf", "x.tsv"}
    table = pd.read_csv(tmp_path / "one" / "x.tsv", sep="\t")
    rows = [*table[["system", "corpus", "seed"]].itertuples(index=False, name=None)]
    assert rows == [(system, corpus, seed) for system in SYSTEMS for corpus, _ in CORPORA for seed in (1, 2)]
    assert {"slope", "cllr_calibrated"} <= {*table}


def test_refuses(tmp_path):
    paths = files(tmp_path)
    for systems, corpora, complaint in (
        ([], CORPORA, "1 to 7 systems; got 0"),
        (["AST-05-05"] * 8, CORPORA, "got 8"),
        (["SLS"], CORPORA[:1], "nothing of SLS on dev"),
        (SYSTEMS, [("else", "Elsewhere")], "nothing of MHFA on else"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            figures.calibration(paths, systems, corpora, tmp_path / "x", LABEL)
    assert not [*tmp_path.glob("x.*")]
