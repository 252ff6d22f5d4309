"""DET curves and histograms of small made-up score files: right numbers, label, same bytes."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from scipy.special import ndtri

from conftest import write_scores, write_trials
from spaarsist.config import CostModel
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.names import ConfigError
from spaarsist.reporting.figures import scores as figures

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
SIZES = {"home": (70, 110), "wild": (40, 25)}
TRAININGS = {"AST-05": (["05", "01-MagMean"], (1, 2)), "AST-03": (["03"], (1,)), "MHFA": (["score"], (3, 7))}
SYSTEMS = ["AST-05-05", "AST-05-01-MagMean", "AST-03-03"]
LABEL = "mini corpora; not the paper's numbers, 100 % made up"
DRAWINGS = [figures.det, figures.histograms]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Folder with score files and trial lists; (training, column, seed, corpus) -> bona fide and spoof scores."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    held = {}
    for corpus, sizes in SIZES.items():
        labels = rng.permutation(np.repeat(["bonafide", "spoof"], sizes))
        is_bonafide, ids = labels == "bonafide", [f"{corpus}{i}" for i in range(len(labels))]
        write_trials(folder / f"{corpus}.trials.tsv", ids, labels)
        for system, (columns, seeds) in TRAININGS.items():
            for seed in seeds:
                table = {"trial_id": ids}
                for column in columns:
                    values = np.float32(np.where(is_bonafide, 1.5, -1) + 1.3 * rng.normal(size=len(ids)))
                    table[column] = values
                    classes = (values[own].astype(float) for own in (is_bonafide, ~is_bonafide))
                    held[system, column, seed, corpus] = [*classes]
                path = folder / f"{system}-{seed}-{corpus}.parquet"
                write_scores(path, table, system=system, seed=seed, corpus=corpus)
    return folder, held


def draw(function, inputs, stem, systems=SYSTEMS, corpora=CORPORA, pattern="*.parquet", **options):
    """Draws; gives the table of what is shown."""
    folder, _ = inputs
    lists = {corpus: folder / f"{corpus}.trials.tsv" for corpus, _ in corpora}
    function(sorted(folder.glob(pattern), reverse=True), lists, systems, corpora, stem, **options)
    return pd.read_csv(f"{stem}.tsv", sep="\t")


def texts_of(figure):
    return [" ".join(text.get_text().split()) for text in figure.findobj(Text)]


def panels(table, inputs):
    """(rows of the table, bona fide scores, spoof scores) of each panel or curve, in the promised order."""
    _, held = inputs
    assert [*table.groupby(["corpus", "system"], sort=False).groups] == [(c, s) for c, _ in CORPORA for s in SYSTEMS]
    for (corpus, system), part in table.groupby(["corpus", "system"], sort=False):
        assert set(part["seed"]) == {1}
        yield part, *held[system[:6], system[7:], 1, corpus]


def rates(bonafide, spoof):
    """Every operating point (p_miss, p_fa), by counting."""
    for threshold in [-np.inf, *np.sort(np.concatenate([bonafide, spoof]))]:
        yield np.mean(bonafide <= threshold), np.mean(spoof > threshold)


def test_every_seed_has_its_det_curve(inputs, drawn, tmp_path):
    table = draw(figures.det, inputs, tmp_path / "x")
    keys = [(c, s, seed) for c, _ in CORPORA for s in SYSTEMS for seed in TRAININGS[s[:6]][1]]
    assert [*table.groupby(["corpus", "system", "seed"], sort=False).groups] == keys
    for (corpus, system, seed), part in table.groupby(["corpus", "system", "seed"]):
        bonafide, spoof = inputs[1][system[:6], system[7:], seed, corpus]
        points = np.array([*rates(bonafide, spoof)])
        curve = part[["p_miss", "p_fa"]].to_numpy()
        distance = np.abs(curve[:, None] - points).sum(axis=2)
        assert distance.min(axis=1).max() < 1e-6, "a drawn point that is no operating point"
        assert part["eer"].to_numpy() == pytest.approx(compute_metrics(bonafide, spoof)["eer"])
    eers = table.groupby(["corpus", "system", "seed"])["eer"].first()
    texts = texts_of(drawn[0])
    for axes, (corpus, _) in zip(drawn[0].axes, CORPORA, strict=False):
        curves, marks = ([x for x in axes.lines if (x.get_marker() == "None") == is_curve] for is_curve in (1, 0))
        assert len(curves) == 5 + 1, "two seeds of two systems, one of the third, and the diagonal"
        means = eers[corpus].groupby("system", sort=False).mean()[SYSTEMS]
        assert [mark.get_xdata()[0] for mark in marks] == pytest.approx(ndtri(means).tolist())
        one, two = (100 * eers[corpus, "AST-05-05", seed] for seed in (1, 2))
        spread = f"{min(one, two):.1f} to {max(one, two):.1f}"
        assert f"EER {(one + two) / 2:.1f} % ({spread})" in texts
        assert f"EER {100 * eers[corpus, 'AST-03-03', 1]:.1f} %" in texts


def test_histograms_count_every_trial_once(inputs, drawn, tmp_path):
    table = draw(figures.histograms, inputs, tmp_path / "x")
    for part, bonafide, spoof in panels(table, inputs):
        column = table[table["system"] == part["system"].iloc[0]]
        low, high = column["low"].min(), column["high"].max()  # shared between corpora, so from both of them
        assert len(part) == 30 and part["low"].iloc[0] == low and part["high"].iloc[-1] == high
        assert part["low"].iloc[1:].to_numpy() == pytest.approx(part["high"].iloc[:-1].to_numpy())
        for name, values in (("n_bonafide", bonafide), ("n_spoof", spoof)):
            bins = np.clip(np.floor((values - low) / (high - low) * 30), 0, 29).astype(int)
            assert part[name].to_list() == np.bincount(bins, minlength=30).tolist()
            assert part[name].sum() == values.size
        eer = compute_metrics(bonafide, spoof)["eer"]
        assert part["eer"].to_numpy() == pytest.approx(eer)
        threshold = part["eer_threshold"].iloc[0] + 1e-6  # the scores up to it are rejected
        errors = np.mean(bonafide <= threshold), np.mean(spoof > threshold)
        assert np.mean(errors) == pytest.approx(eer) and abs(np.subtract(*errors)) <= 1 / min(bonafide.size, spoof.size)
        assert part["bayes_threshold"].to_numpy() == pytest.approx(-math.log(1.9))  # 0.95 * 1 against 0.05 * 10
    for system in SYSTEMS:
        values = [
            v for (trained, column, seed, _), classes in inputs[1].items()
            if (f"{trained}-{column}", seed) == (system, 1) for v in np.concatenate(classes)
        ]  # fmt: skip
        rows = table[table["system"] == system]
        assert [rows["low"].min(), rows["high"].max()] == pytest.approx([min(values), max(values)])


def test_panels_show_their_tables(inputs, drawn, tmp_path):
    table = draw(figures.histograms, inputs, tmp_path / "x")
    axes = drawn[0].axes
    assert len(axes) == len(CORPORA) * len(SYSTEMS)
    for panel, (_, part) in zip(axes, table.groupby(["corpus", "system"], sort=False), strict=True):
        bonafide, spoof = panel.patches
        assert spoof.get_hatch() and not bonafide.get_hatch()
        for steps, name in ((bonafide, "n_bonafide"), (spoof, "n_spoof")):
            assert steps.get_data().values == pytest.approx((part[name] / part[name].sum()).to_numpy())
            assert steps.get_data().edges[:-1] == pytest.approx(part["low"].to_numpy(), abs=1e-6)
        bayes, eer = (line.get_xdata()[0] for line in panel.lines)
        assert [bayes, eer] == pytest.approx(part[["bayes_threshold", "eer_threshold"]].iloc[0].to_list(), abs=1e-6)


def test_histograms_mark_the_threshold_of_the_given_costs(inputs, drawn, tmp_path):
    for options, threshold in (
        ({}, -math.log(1.9)),
        ({"cost": CostModel(p_spoof=0.5, c_fa=20)}, math.log(20)),
        ({"cost": CostModel(p_spoof=0.5, c_fa=1)}, 0),
    ):
        shown = draw(figures.histograms, inputs, tmp_path / "x", SYSTEMS[:1], CORPORA[:1], **options)
        figure = drawn.pop()
        assert shown["bayes_threshold"].to_numpy() == pytest.approx(threshold)
        assert figure.axes[0].lines[0].get_xdata()[0] == pytest.approx(threshold)
        (key,) = [text.get_text() for text in figure.legends[0].get_texts() if "Bayes" in text.get_text()]
        assert key == f"Bayes' threshold of these costs ({threshold:.2f} nats)".replace("-", "−")


@pytest.mark.parametrize("function", DRAWINGS)
def test_what_a_figure_says(inputs, drawn, tmp_path, function):
    table = draw(function, inputs, tmp_path / "x")
    texts = texts_of(drawn[0])
    assert {title for _, title in CORPORA} <= {*texts}
    for named in ("AASIST (AST-05-05)", "MagMean", "AST-03-03"):
        assert any(named in text for text in texts)
    if function is figures.histograms:
        assert drawn[0].note.endswith("Training seed 1, the lowest of each system")
        for eer in table["eer"].unique():
            assert any(text.endswith(f"EER {100 * eer:.2f} %") for text in texts)


@pytest.mark.parametrize("function", DRAWINGS)
def test_files_are_whole_labelled_and_the_same_every_time(inputs, drawn_twice, function):
    names = drawn_twice(lambda folder: draw(function, inputs, folder / "x", label=LABEL), LABEL)
    assert names == {"x.png", "x.pdf", "x.tsv"}


def test_the_lowest_seed_is_each_trainings_own(inputs, drawn, tmp_path):
    def note(systems, pattern="*.parquet"):
        shown = draw(figures.histograms, inputs, tmp_path / "x", systems, pattern=pattern)
        return drawn[-1].note.split("  ·  ")[-1], shown.groupby("system")["seed"].unique().map(list).to_dict()

    assert note(["MHFA"]) == ("Training seed 3, the lowest of each system", {"MHFA": [3]})
    each = {"AST-03-03": [1], "MHFA": [3]}
    assert note([*each]) == ("Training seed 1 or 3, the lowest of each system", each)
    assert note(["AST-05-05"], "*-2-*.parquet") == ("Training seed 2, the lowest of each system", {"AST-05-05": [2]})


def test_scores_that_are_certain_or_all_alike(drawn, tmp_path):
    """No finite odds of an error; a histogram without width."""
    ids = [f"t{i}" for i in range(8)]
    write_trials(tmp_path / "home.trials.tsv", ids, ["bonafide", "spoof"] * 4)
    scores = np.repeat([800, 0, 1, -800], 2)
    columns = {"trial_id": ids, "05": scores, "03": np.full(8, 2.0)}
    write_scores(tmp_path / "a.parquet", columns, system="AST-05", seed=1, corpus="home")
    inputs = tmp_path, None
    table = draw(figures.det, inputs, tmp_path / "d", ["AST-05-05", "AST-05-03"], CORPORA[:1])
    assert {*table["system"]} == {"AST-05-05", "AST-05-03"} and table["eer"].between(0, 1).all()
    table = draw(figures.histograms, inputs, tmp_path / "h", ["AST-05-03"], CORPORA[:1])
    assert (table["n_bonafide"].sum(), table["n_spoof"].sum()) == (4, 4)
    assert (table["low"] < table["high"]).all() and table["n_spoof"].max() == 4


@pytest.mark.parametrize("function", DRAWINGS)
def test_figures_refuse_what_they_cannot_show(inputs, tmp_path, function):
    folder, _ = inputs
    scores = sorted(folder.glob("*.parquet"))
    trials = {corpus: folder / f"{corpus}.trials.tsv" for corpus, _ in CORPORA}
    for files, lists, systems, complaint in (
        (scores, trials, ["AST-05-05", "AST-01-01"], "no scores of AST-01-01 on corpus 'home'"),
        (scores, trials, ["AST-05-03"], "AST-05-1-home.parquet: no scores of AST-05-03"),
        (sorted(folder.glob("*home.parquet")), trials, ["MHFA"], "no scores of MHFA on corpus 'wild'"),
        (scores, trials, ["AST-05-Best"], "not a system name"),
        (scores, trials, [], "1 to 7 systems; got 0"),
        (scores, trials, ["AST-05-05"] * 8, "1 to 7 systems; got 8"),
        (scores, {"home": trials["home"]}, ["AST-05-05"], "no trial list was given for corpus 'wild'"),
        (scores, trials | {"wild": trials["home"]}, ["AST-05-05"], "not scored"),
        ([*scores, trials["home"]], trials, ["AST-05-05"], "not a readable Parquet"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            function(files, lists, systems, CORPORA, tmp_path / "refused")
    assert not list(tmp_path.iterdir())
