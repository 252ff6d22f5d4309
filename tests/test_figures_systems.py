"""Figures that compare systems: the TSVs hold the right numbers, the panels what they promise, bad input is refused."""

import importlib
import itertools
import math
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from conftest import write_comparisons, write_metrics, write_sizes
from spaarsist.evaluation.summary import on, summarise
from spaarsist.names import LABELS, ConfigError, System
from spaarsist.reporting.figures import systems as figures
from spaarsist.reporting.figures.systems import attacks, eer_vs_macs, k_sweep, temperature

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
LABEL = "mini corpora; not the paper's numbers, 100 % made up"
CODES = {"05": 0.5, "03": 0.3, "01": 0.1}
TABLE = [
    f"AST-{train}-{infer}" + (variant != "Base") * f"-{variant}"
    for train, infer, variant in itertools.product(CODES, CODES, LABELS)
    if CODES[infer] <= CODES[train]
]
SWEEP = [
    f"AST-{train}-{infer}" + (variant != "Base") * f"-{variant}"
    for train, infer, variant in itertools.product(CODES, ("002", "10"), LABELS)
]
SWITCHED = ["AST-05-05+stack1", "AST-05-05+stack10", "AST-05-05+graph0.5", "AST-03-01-Mag+stack1"]
TRAINED = ["AST-05+stack1-05", "AST-05+graph0.5-05"]
LEFT_OUT = ["AST-05-05+graph0.5+stack1", "AST-05+stack1-01-Mag"]
OTHERS = ["Mean-pool", "MHFA", "CA-MHFA", "SLS"]
EVERY = TABLE + SWEEP + SWITCHED + TRAINED + LEFT_OUT + OTHERS
ATTACKS = {"A17": 40, "A18": 1234}
TRAINED_AT = {"graph": 2.0, "stack": 100.0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Metrics of two seeds, in one file per seed and corpus, and the summary of both and of the first seed alone."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for seed, (corpus, _) in itertools.product((1, 2), CORPORA):
        rows = []
        for system in EVERY:
            column = System.parse(system).column
            conditions = {"pooled": 1300} | ({f"attack:{a}": n for a, n in ATTACKS.items()} if corpus == "home" else {})
            for (condition, n), metric in itertools.product(conditions.items(), ("eer", "min_dcf", "cllr")):
                eer = rng.uniform(0.05, 0.15)
                rows.append((system, seed, column, corpus, condition, metric, eer, eer - 0.01, eer + 0.02, 100, n))
        write_metrics(folder / f"{corpus}.{seed}.tsv", rows)
    n_macs = {"Mean-pool": 0, "MHFA": 68_411_392, "CA-MHFA": 70_000_000, "SLS": 29_819_904}
    for name in EVERY:
        if variant := System.parse(name).variant:
            n_macs[name] = 697_000_000 + int(2e7 * variant.k_infer) + 1000 * [*LABELS].index(variant.label)
    write_sizes(folder / "complexity.tsv", {name: (1, n_macs[name]) for name in EVERY})
    for name, seeds in (("summary", "*"), ("one", "1")):
        metrics = sorted(folder.glob(f"*.{seeds}.tsv"))
        summarise(metrics, [folder / "complexity.tsv"], [], [], [], folder / f"{name}.tsv")
    return folder


def values(inputs, corpus, condition="pooled", seeds=(1, 2), metric="eer"):
    """Numbers straight from the metrics files: one column per seed."""
    files = {seed: pd.read_csv(inputs / f"{corpus}.{seed}.tsv", sep="\t") for seed in seeds}
    files = {seed: part[part["metric"] == metric] for seed, part in files.items()}
    chosen = {seed: part[part["condition"] == condition].set_index("system")["value"] for seed, part in files.items()}
    return pd.DataFrame(chosen)


def edited(inputs, tmp_path, change, name="summary"):
    """A copy of a summary after a change to its table."""
    table = pd.read_csv(inputs / f"{name}.tsv", sep="\t", index_col="system")
    path = tmp_path / "edited.tsv"
    change(table).to_csv(path, sep="\t")
    return path


def read(stem):
    return pd.read_csv(f"{stem}.tsv", sep="\t")


def test_costs_errors_and_fronts(inputs, tmp_path, drawn):
    eer_vs_macs(inputs / "summary.tsv", TABLE + OTHERS, CORPORA, tmp_path / "cost")
    shown = read(tmp_path / "cost")
    assert [*shown["corpus"].unique()] == ["home", "wild"] and len(shown) == 2 * len(TABLE + OTHERS)
    costs = pd.read_csv(inputs / "complexity.tsv", sep="\t", index_col="system")["n_macs"]
    for corpus, part in shown.groupby("corpus"):
        part = part.set_index("system")
        assert [*part.index] == TABLE + OTHERS
        wanted = values(inputs, corpus).loc[part.index]
        np.testing.assert_allclose(part["eer"], wanted.mean(axis=1), rtol=1e-6)
        np.testing.assert_allclose(part["high"] - part["eer"], wanted.std(axis=1, ddof=1), rtol=1e-5)
        np.testing.assert_allclose(part["eer"] - part["low"], wanted.std(axis=1, ddof=1), rtol=1e-5)
        np.testing.assert_allclose(part["cost"], costs[part.index], rtol=1e-6)
        exact = wanted.mean(axis=1)
        for column, rivals in (("on_front", TABLE + OTHERS), ("on_aasist_front", TABLE)):
            front = {
                a
                for a in rivals
                if not any(
                    costs[b] <= costs[a] and exact[b] <= exact[a] and (costs[b], exact[b]) != (costs[a], exact[a])
                    for b in rivals
                )
            }
            assert {*part.index[part[column]]} == front


def test_equally_good_and_cheap_systems_share_the_front(inputs, tmp_path, drawn):
    def change(table):
        table.loc[["AST-05-01", "AST-03-01", "AST-03-03"], on("home", "eer")] = 0.01
        table.loc["AST-05-05", on("home", "eer")] = 0.02  # dearer and worse
        return table

    systems = ["AST-05-05", "AST-05-01", "AST-03-01", "AST-03-03"]
    eer_vs_macs(edited(inputs, tmp_path, change), systems, CORPORA[:1], tmp_path / "cost")
    assert [*read(tmp_path / "cost")["on_front"]] == [False, True, True, False]


def test_cost_panels_name_ring_and_join(inputs, tmp_path, drawn):
    eer_vs_macs(inputs / "summary.tsv", TABLE + OTHERS, CORPORA, tmp_path / "cost")
    eer_vs_macs(inputs / "summary.tsv", TABLE, CORPORA, tmp_path / "aasist")
    eer_vs_macs(inputs / "summary.tsv", OTHERS, CORPORA[:1], tmp_path / "others")
    assert all("costs are of the back-ends at the paper's size" in figure.note for figure in drawn)
    assert [len(figure.axes) for figure in drawn] == [4, 2, 1]
    shown = read(tmp_path / "cost").query("corpus == 'home'")
    everything, enlarged, *_ = drawn[0].axes
    assert sorted(text.get_text() for text in everything.texts) == sorted(OTHERS)
    assert enlarged.get_xlim()[0] > 690 and everything.get_xlim()[0] < 0 < 700 < everything.get_xlim()[1]
    for axes, column, systems in ((everything, "on_front", TABLE + OTHERS), (enlarged, "on_aasist_front", TABLE)):
        front = shown[shown[column]].sort_values(["cost", "eer"])
        stairs = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
        np.testing.assert_allclose(stairs.get_xdata()[:-1], front["cost"] / 1e6, rtol=1e-6)
        np.testing.assert_allclose(stairs.get_ydata()[:-1], 100 * front["eer"], rtol=1e-6)
        marks = [line for line in axes.lines if line.get_marker() not in ("None", None)]
        rings = [line for line in marks if line.get_markersize() == 9]
        assert len(marks) - len(rings) == len(systems)
        at = shown.set_index("system").loc[["AST-03-01-Mag", "AST-05-05"], "eer"]
        assert sorted(line.get_ydata()[0] for line in rings) == pytest.approx(sorted(100 * at), rel=1e-6)
    bars = [sorted(line.get_ydata()) for line in enlarged.lines if line.get_marker() == "None"]
    for system in {"AST-05-05", "AST-03-01-Mag", *shown.loc[shown["on_aasist_front"], "system"]}:
        ends = 100 * shown.set_index("system").loc[system, ["low", "high"]].to_numpy(float)
        assert any(bar == pytest.approx(ends) for bar in bars if len(bar) == 2)
    key = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert key == [
        *("k in training", "0.5", "0.3", "0.1", "k at inference", "0.5", "0.3", "0.1"),
        *("Variant", *LABELS, "Of the paper", "AASIST", "rank 1"),
    ]
    assert not drawn[2].legends


def test_names_keep_off_each_other_and_inside(inputs, tmp_path, drawn):
    def crowd(table):
        table.loc[OTHERS, on("home", "eer")] = table[on("home", "eer")].max()  # at the upper edge
        table.loc[OTHERS, "n_macs"] = [60_000_000, 61_000_000, 62_000_000, 5_000_000_000]
        return table

    eer_vs_macs(edited(inputs, tmp_path, crowd), TABLE + OTHERS, CORPORA[:1], tmp_path / "cost")
    drawn[0].draw_without_rendering()
    axes = drawn[0].axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max) for box in boxes)


def test_a_name_is_nearest_to_its_own_mark(inputs, tmp_path, drawn):
    def crowd(table):
        table.loc[["MHFA", "CA-MHFA"], on("home", "eer")] = 0.09, 0.08
        return table

    eer_vs_macs(edited(inputs, tmp_path, crowd), TABLE + OTHERS, CORPORA[:1], tmp_path / "cost")
    drawn[0].draw_without_rendering()
    axes = drawn[0].axes[0]
    at = {text.get_text(): axes.transData.transform(text.xy) for text in axes.texts}
    for text in axes.texts:
        box = text.get_window_extent()
        distances = {name: math.dist(xy, np.clip(xy, box.min, box.max)) for name, xy in at.items()}
        assert min(distances, key=distances.get) == text.get_text()


def test_marks_hide_no_other_and_stay_near_their_place(inputs, tmp_path, drawn):
    def alike(table):
        table.loc[TABLE[:12], on("home", "eer")] = 0.1
        table.loc[TABLE[:6], "n_macs"] = 700_000_000
        return table

    eer_vs_macs(edited(inputs, tmp_path, alike), TABLE, CORPORA[:1], tmp_path / "cost")
    drawn[0].draw_without_rendering()
    marks = [m for m in drawn[0].axes[0].lines if len(m.get_xdata()) == 1 and m.get_markersize() < 9]
    at = np.array([m.get_transform().transform(np.column_stack(m.get_data()))[0] for m in marks])
    true = np.array([m.axes.transData.transform(np.column_stack(m.get_data()))[0] for m in marks])
    at, true = at * 72 / drawn[0].dpi, true * 72 / drawn[0].dpi
    assert len(marks) == len(TABLE)
    assert min(math.dist(a, b) for a, b in itertools.combinations(at, 2)) > 5  # a mark is 4.8 points wide
    np.testing.assert_allclose(at[:, 1], true[:, 1], atol=0.01)
    assert 10 < np.abs(at - true).max() < 30


@pytest.mark.parametrize("failed", [False, True])
def test_all_marks_and_bars_lie_inside_the_frame(inputs, tmp_path, drawn, failed):
    def fail(table):
        table.loc["AST-03-01-Mag", [on("home", "eer"), on("home", "eer", "std")]] = 0.6, 0.2
        return table

    summary = edited(inputs, tmp_path, fail) if failed else inputs / "summary.tsv"
    eer_vs_macs(summary, TABLE + OTHERS, CORPORA, tmp_path / "cost")
    assert drawn[0].axes[0].get_yscale() == ("log" if failed else "linear")
    figure = drawn[0]
    figure.draw_without_rendering()
    for axes in figure.axes:
        for line in axes.lines:
            at = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
            assert axes.bbox.padded(1).contains(*at.min(axis=0)) and axes.bbox.padded(1).contains(*at.max(axis=0))


def test_one_seed_has_its_bootstrap_interval(inputs, tmp_path, drawn):
    eer_vs_macs(inputs / "one.tsv", TABLE + OTHERS, CORPORA[:1], tmp_path / "cost")
    k_sweep(inputs / "one.tsv", LABELS, CORPORA[:1], tmp_path / "sweep")
    temperature(inputs / "one.tsv", CORPORA[:1], trained=TRAINED_AT, output_stem=tmp_path / "temperature")
    notes = [figure.note for figure in drawn]
    assert all("bootstrap interval of the one seed" in note and "deviation" not in note for note in notes)
    for name in ("cost", "sweep", "temperature"):
        shown = read(tmp_path / name).rename(columns={"eer_low": "low", "eer_high": "high"})
        np.testing.assert_allclose(shown["eer"], values(inputs, "home", seeds=[1])[1][shown["system"]], rtol=1e-6)
        np.testing.assert_allclose(shown["eer"] - shown["low"], 0.01, rtol=1e-5)
        np.testing.assert_allclose(shown["high"] - shown["eer"], 0.02, rtol=1e-5)


def test_an_interval_that_misses_its_estimate_gives_no_negative_bar(inputs, tmp_path, drawn):
    for end, missed in (("low", 0.9), ("high", 0.0)):
        path = edited(inputs, tmp_path, lambda t, e=end, m=missed: t.assign(**{on("home", "eer", f"ci_{e}"): m}), "one")
        eer_vs_macs(path, TABLE, CORPORA[:1], tmp_path / "cost")
        shown = read(tmp_path / "cost")
        assert (shown[end] == shown["eer"]).all()


def test_cost_refuses_what_it_cannot_show(inputs, tmp_path):
    good, fast = inputs / "summary.tsv", ["AST-05-05", "MHFA"]

    def without(column, system):
        def change(table):
            table.loc[system, column] = np.nan
            return table

        return change

    uncounted = edited(inputs, tmp_path, without("n_macs", "MHFA"))
    for arguments, complaint in (
        ((good, [], CORPORA), "no system"),
        ((good, [*fast, "AST-07-07"], CORPORA), "holds no system AST-07-07"),
        ((good, fast, [*CORPORA, ("mars", "Mars")]), "corpus 'mars'"),
        ((uncounted, fast, CORPORA), "edited.tsv: holds no n_macs of MHFA"),
        ((inputs / "complexity.tsv", fast, CORPORA), "columns missing"),
        ((tmp_path / "none.tsv", fast, CORPORA), "none.tsv: not a readable"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            eer_vs_macs(*arguments, tmp_path / "refused")
    deaf = edited(inputs, tmp_path, without(on("wild", "eer"), "AST-05-05"))
    with pytest.raises(ConfigError, match="no EER of AST-05-05 on corpus 'wild'"):
        eer_vs_macs(deaf, fast, CORPORA, tmp_path / "refused")
    half = edited(inputs, tmp_path, lambda table: table.drop(columns=on("home", "eer", "std")))
    with pytest.raises(ConfigError, match=r"columns missing: home\.eer\.std"):
        eer_vs_macs(half, fast, CORPORA, tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def panel(figure, row, column, n_rows=3):
    """A panel of the sweep: three metrics, and flat regions where there are any, below the heading of each corpus."""
    grid = {
        (a.get_subplotspec().rowspan.start, a.get_subplotspec().colspan.start): a for a in figure.axes[1:] if a.axison
    }
    rows = sorted({place[0] for place in grid})
    assert len(rows) % n_rows == 0
    return grid[rows[row], column]


def test_sweep_shows_all_it_should_and_nothing_else(inputs, tmp_path, drawn):
    k_sweep(inputs / "summary.tsv", LABELS, CORPORA, tmp_path / "sweep")
    shown = read(tmp_path / "sweep")
    assert len(shown) == 2 * len(TABLE + SWEEP) and shown["flat"].isna().all()
    for (corpus, part), metric in itertools.product(shown.groupby("corpus"), ("eer", "min_dcf", "cllr")):
        assert {*part["system"]} == {*TABLE, *SWEEP}
        wanted = values(inputs, corpus, metric=metric).loc[part["system"]]
        np.testing.assert_allclose(part[metric], wanted.mean(axis=1), rtol=1e-6)
        spread = part[f"{metric}_high"] - part[f"{metric}_low"]
        np.testing.assert_allclose(spread, 2 * wanted.std(axis=1, ddof=1), rtol=1e-5)
    figure = drawn[0]
    assert [panel(figure, 0, i).get_title() for i in range(3)] == [f"Trained with k = {k}" for k in (0.5, 0.3, 0.1)]
    metrics = {"eer": ("EER (%)", 100), "min_dcf": ("minDCF", 1), "cllr": ("Cllr (bits)", 1)}
    for row, ((corpus, _), metric) in enumerate(itertools.product(CORPORA, metrics)):
        name, scale = metrics[metric]
        assert panel(figure, row, 0).get_ylabel() == name
        for column, k in enumerate((0.5, 0.3, 0.1)):
            axes = panel(figure, row, column)
            part = shown[(shown["corpus"] == corpus) & (shown["k_train"] == k)]
            upright, *lines = axes.lines
            assert {*upright.get_xdata()} == {k}
            assert len(lines) == len(LABELS)
            for variant, line in zip(LABELS, lines, strict=True):
                wanted = part[part["variant"] == variant]
                assert [*wanted["k_infer"]] == sorted(wanted["k_infer"])
                np.testing.assert_allclose(line.get_xdata(), wanted["k_infer"])
                np.testing.assert_allclose(line.get_ydata(), scale * wanted[metric], rtol=1e-6)
    headings = [axes.texts[0].get_text() for axes in figure.axes if not axes.axison]
    assert headings == [*(title for _, title in CORPORA), "Cost of the back-end"]


def test_sweep_shows_costs(inputs, tmp_path, drawn):
    k_sweep(inputs / "summary.tsv", LABELS, CORPORA[:1], tmp_path / "sweep")
    macs = drawn[0].axes[0]
    assert macs.get_ylabel() == "MACs (M)" and len(macs.lines) == len(LABELS)
    sizes = pd.read_csv(inputs / "complexity.tsv", sep="\t", index_col="system")["n_macs"] / 1e6
    assert [*macs.lines[0].get_xdata()] == [0.02, 0.1, 0.3, 0.5, 1.0]
    np.testing.assert_allclose(macs.lines[0].get_ydata()[1::2], sizes[["AST-05-01", "AST-05-05"]])


def sweep_comparisons(path, different):
    """Every system of the sweep against the one at the k of its training; `different` have a small corrected p."""
    pairs = []
    for name in TABLE + SWEEP:
        system = System.parse(name)
        suffix = "" if system.variant.label == "Base" else f"-{system.variant.label}"
        home = f"{system.trained}-{system.trained.removeprefix('AST-')}{suffix}"
        pairs += [(name, home)] * (name != home)
    references = dict(pairs)
    changes = {(name, references[name], corpus, "eer"): {"p_holm": 0.0499} for name, corpus in different}
    return write_comparisons(path, pairs, {"home": 0, "wild": 0}, changes)


def test_flat_region_ends_at_the_first_difference(inputs, tmp_path, drawn):
    """Also where what lies behind the first difference is no different again."""
    different = {("AST-03-01", "home"), ("AST-05-03-Mag", "home"), ("AST-05-10-Mag", "home"), ("AST-01-10", "home")}
    comparisons = sweep_comparisons(tmp_path / "k_sweep.tsv", different)
    k_sweep(inputs / "summary.tsv", LABELS, CORPORA, tmp_path / "sweep", comparisons=comparisons)
    shown = read(tmp_path / "sweep").set_index(["corpus", "system"])["flat"].astype(bool)
    assert shown["wild"].all()
    outside = {"AST-03-002", "AST-03-01"} | {f"AST-05-{k}-Mag" for k in ("002", "01", "03", "10")} | {"AST-01-10"}
    assert {*shown["home"].index[~shown["home"]]} == outside
    strip = panel(drawn[0], 3, 0, n_rows=4)
    assert [text.get_text() for text in strip.get_yticklabels()] == [*LABELS]
    level = [line for line in strip.lines if line.get_linestyle() == "-" and {*line.get_ydata()} == {1}]
    assert [[*line.get_xdata()] for line in level] == [[0.5]], "Mag is flat at its own k alone"
    filled, hollow = (line for line in strip.lines if line.get_linestyle() == "None" and {*line.get_ydata()} == {1})
    assert [*filled.get_xdata()] == [0.5] and [*hollow.get_xdata()] == [0.02, 0.1, 0.3, 1.0]
    assert (
        mpl.colors.to_rgb(hollow.get_markerfacecolor()) == (1, 1, 1) != mpl.colors.to_rgb(filled.get_markerfacecolor())
    )
    assert "level lines: flat region" in drawn[0].note


def test_sweep_without_a_system_at_the_k_of_training(inputs, tmp_path, drawn):
    comparisons = sweep_comparisons(tmp_path / "k_sweep.tsv", ())
    summary = edited(inputs, tmp_path, lambda table: table.drop(index="AST-05-05-Mag"))
    k_sweep(summary, LABELS, CORPORA[:1], tmp_path / "sweep", comparisons=comparisons)
    shown = read(tmp_path / "sweep")
    lost = shown["system"].str.startswith("AST-05-") & (shown["variant"] == "Mag")
    assert shown["flat"][lost].isna().all() and lost.sum() == 4 and shown["flat"][~lost].notna().all()


def test_sweep_leaves_out_what_was_not_swept(inputs, tmp_path, drawn):
    """Variants that the ablation alone has, without comparisons among the sweep's; what was trained as a variant."""

    def change(table):
        return table.assign(trained_variant=np.where(table.index == "AST-05-05-Mag", "Mag", None))

    comparisons = pd.read_csv(sweep_comparisons(tmp_path / "c.tsv", ()), sep="\t")
    comparisons[~comparisons["system"].str.endswith("-Uni")].to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    swept = ["Mag", "Base"]
    summary = edited(inputs, tmp_path, change)
    k_sweep(summary, swept, CORPORA[:1], tmp_path / "sweep", comparisons=tmp_path / "c.tsv")
    shown = read(tmp_path / "sweep")
    assert {*shown["variant"]} == {*swept} and "AST-05-05-Mag" not in {*shown["system"]}
    assert len(shown) == sum(System.parse(s).variant.label in swept for s in TABLE + SWEEP) - 1


@pytest.fixture
def many_labels(monkeypatch):
    """Twenty variants, as if someone had added them, while a test runs."""
    with monkeypatch.context() as patch:
        for index in range(14):
            patch.setitem(LABELS, f"New{index}", ("learned", "attention"))
        importlib.reload(figures)
        yield
    importlib.reload(figures)


def test_more_variants_than_marks_do_no_harm(many_labels, inputs, tmp_path, drawn):
    rename = {
        name: f"AST-05-{name.split('-')[2]}-New0" for name in TABLE + SWEEP if re.fullmatch("AST-05-.*-MagUni", name)
    }
    rename |= {
        name: f"AST-05-{name.split('-')[2]}-New13" for name in TABLE + SWEEP if re.fullmatch("AST-05-.*-Uni", name)
    }

    def change(table):
        table = table.rename(index=rename)
        for name in rename.values():
            table.loc[name, "variant"] = name.split("-")[-1]
        return table

    summary = edited(inputs, tmp_path, change)
    eer_vs_macs(summary, ["AST-05-05", *rename.values()], CORPORA, tmp_path / "cost")
    k_sweep(summary, LABELS, CORPORA, tmp_path / "sweep")
    keys = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in drawn]
    assert len(keys) == 2 and all({"New0", "New13"} <= {*key} for key in keys)
    assert len({figures._SHAPES[name] for name in [*LABELS][:12]}) == 12  # told apart without colour


def test_sweep_refuses_what_it_cannot_show(inputs, tmp_path):
    others = edited(inputs, tmp_path, lambda table: table.loc[OTHERS + SWITCHED])
    with pytest.raises(ConfigError, match="no EER of a variant Base, "):
        k_sweep(others, LABELS, CORPORA, tmp_path / "refused")
    with pytest.raises(ConfigError, match="no variant Med; there are Base, "):
        k_sweep(inputs / "summary.tsv", ["Base", "Med"], CORPORA, tmp_path / "refused")
    with pytest.raises(ConfigError, match="'mars'"):
        k_sweep(inputs / "summary.tsv", LABELS, [("mars", "Mars")], tmp_path / "refused")
    comparisons = pd.read_csv(sweep_comparisons(tmp_path / "c.tsv", ()), sep="\t")
    comparisons[comparisons["system"] != "AST-03-01"].to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    with pytest.raises(ConfigError, match=r"c\.tsv: holds no comparison of AST-03-01 with AST-03-03 on 'home', eer"):
        k_sweep(inputs / "summary.tsv", LABELS, CORPORA, tmp_path / "refused", comparisons=tmp_path / "c.tsv")
    assert not list(tmp_path.glob("*refused*"))


def test_heatmap_cells_are_means_over_seeds(inputs, tmp_path, drawn):
    systems = ["MHFA", "AST-03-01-Mag", "AST-05-05"]
    attacks(sorted(inputs.glob("*.[12].tsv")), systems, CORPORA, tmp_path / "attacks")
    shown = read(tmp_path / "attacks")
    assert [*zip(shown["system"], shown["attack"], strict=True)] == [*itertools.product(systems, ATTACKS)]
    assert {*shown["corpus"]} == {"home"} and {*shown["n_seeds"]} == {2}  # the other corpus has no attacks
    assert [*shown["n_spoof"]] == [*ATTACKS.values()] * len(systems)
    (axes,) = drawn[0].axes
    written = iter(axes.texts)
    for row, system in enumerate(systems):
        for column, attack in enumerate(ATTACKS):
            mean = values(inputs, "home", f"attack:{attack}").loc[system].mean()
            assert shown.query("system == @system and attack == @attack")["eer"].item() == pytest.approx(mean, rel=1e-6)
            text = next(written)
            assert text.get_text() == f"{100 * mean:.1f}" and text.get_position() == (column + 0.5, row + 0.5)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["A17\n40", "A18\n1,234"]
    assert axes.get_yticklabels()[0].get_text() == "MHFA" and axes.yaxis_inverted()


def test_heatmap_says_in_words_that_no_corpus_names_its_attacks(inputs, tmp_path, drawn):
    attacks(sorted(inputs.glob("wild.[12].tsv")), ["MHFA", "AST-05-05"], CORPORA[1:], tmp_path / "attacks")
    text = " ".join(drawn[0].get_suptitle().split())
    assert text.startswith("No corpus of this run names its attacks: In-the-Wild (out of domain).")
    assert not drawn[0].axes and drawn[0].get_figheight() < 2
    header = (tmp_path / "attacks.tsv").read_text().split()
    assert header == ["corpus", "system", "attack", "eer", "n_seeds", "n_spoof"]


def test_heatmap_stays_readable(inputs, tmp_path, drawn):
    attacks(sorted(inputs.glob("*.[12].tsv")), TABLE[:15], CORPORA, tmp_path / "attacks")
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    cells = axes.collections[0]
    for text, face in zip(axes.texts, cells.get_facecolors(), strict=True):
        assert contrast(text.get_color(), face) > 3
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def contrast(a, b):
    """Contrast ratio of the Web Content Accessibility Guidelines, 1 to 21."""
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in map(rgb, (a, b))]
    light, dark = sorted((0.05 + c @ (0.2126, 0.7152, 0.0722) for c in linear), reverse=True)
    return light / dark


def rgb(colour):
    return np.array(mpl.colors.to_rgb(colour))


def test_heatmap_refuses_what_it_cannot_show(inputs, tmp_path):
    files = sorted(inputs.glob("*.[12].tsv"))
    home = pd.read_csv(inputs / "home.1.tsv", sep="\t")
    paths = {}
    for name, table in {
        "bad": home.assign(value="much"),
        "grown": home.assign(seed=3, n_spoof=home["n_spoof"] + 1),
        "holed": home[(home["system"] != "MHFA") | (home["condition"] != "attack:A18")],
    }.items():
        paths[name] = tmp_path / f"{name}.tsv"
        table.to_csv(paths[name], sep="\t", index=False)
    for arguments, complaint in (
        ((sorted(inputs.glob("wild.[12].tsv")), ["MHFA"], CORPORA), "no EER of MHFA on corpus 'home'"),
        ((sorted(inputs.glob("wild.[12].tsv")), ["AST-07-07"], CORPORA[1:]), "no EER of AST-07-07 on corpus 'wild'"),
        (([], ["MHFA"], CORPORA), "no EER of MHFA on corpus 'home'"),
        ((files, [], CORPORA), "1 to 15 systems; got 0"),
        ((files, TABLE[:16], CORPORA), "got 16"),
        ((files, ["MHFA", "AST-07-07"], CORPORA), "no EER of AST-07-07 on corpus 'home'"),
        (([paths["holed"]], ["SLS", "MHFA"], CORPORA[:1]), "no EER of MHFA on attack A18"),
        ((files + files[:1], ["MHFA"], CORPORA), "a number twice"),
        (([*files, paths["grown"]], ["MHFA"], CORPORA), "number of spoofs of attack A17 of corpus 'home'"),
        (([paths["bad"]], ["MHFA"], CORPORA), "bad.tsv: not a readable metrics file"),
        (([inputs / "complexity.tsv"], ["MHFA"], CORPORA), "complexity.tsv: not a readable metrics file"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            attacks(*arguments, tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def test_temperatures_are_joined_with_the_system_as_trained(inputs, tmp_path, drawn):
    trained = {"graph": 3.0, "stack": 50.0}
    temperature(inputs / "summary.tsv", CORPORA, trained=trained, output_stem=tmp_path / "temperature")
    shown = read(tmp_path / "temperature")
    wanted = {
        ("stack", "AST-05-05", "AST-05-05+stack1", 1, "switched"),
        ("stack", "AST-05-05", "AST-05-05+stack10", 10, "switched"),
        ("stack", "AST-05-05", "AST-05-05", 50, "as trained"),
        ("stack", "AST-05-05", "AST-05+stack1-05", 1, "trained so"),
        ("stack", "AST-03-01-Mag", "AST-03-01-Mag+stack1", 1, "switched"),
        ("stack", "AST-03-01-Mag", "AST-03-01-Mag", 50, "as trained"),
        ("graph", "AST-05-05", "AST-05-05+graph0.5", 0.5, "switched"),
        ("graph", "AST-05-05", "AST-05-05", 3, "as trained"),
        ("graph", "AST-05-05", "AST-05+graph0.5-05", 0.5, "trained so"),
    }
    for corpus, part in shown.groupby("corpus"):
        rows = [*part[["node", "of", "system", "temperature", "how"]].itertuples(index=False, name=None)]
        assert {*rows} == wanted and len(rows) == len(wanted)
        np.testing.assert_allclose(part["eer"], values(inputs, corpus).loc[part["system"]].mean(axis=1), rtol=1e-6)
    panels = np.reshape(drawn[0].axes, (2, 2))
    for axes, (node, (corpus, _)) in zip(panels.flat, itertools.product(("stack", "graph"), CORPORA), strict=True):
        part = shown[(shown["corpus"] == corpus) & (shown["node"] == node)].set_index("system")
        base = part.query("of == 'AST-05-05'")
        joined = base[base["how"] != "trained so"].sort_values("temperature")
        lines = [line for line in axes.lines if np.array_equal(line.get_xdata(), joined["temperature"])]
        np.testing.assert_allclose(lines[0].get_ydata(), 100 * joined["eer"], rtol=1e-6)
        assert {*axes.lines[0].get_xdata()} == {trained[node]} and axes.lines[0].get_linestyle() == ":"
        assert f"{trained[node]:g}" in [tick.get_text() for tick in axes.get_xticklabels()]
        level = 100 * part.loc["AST-05-05", "eer"]
        assert any(
            [*line.get_ydata()] == pytest.approx([level, level]) and line.get_xdata()[0] == 0 for line in axes.lines
        )
        star = next(line for line in axes.lines if line.get_marker() == "*")
        assert star.get_ydata()[0] == pytest.approx(100 * base.query("how == 'trained so'")["eer"].item(), rel=1e-6)


def test_only_what_was_varied_is_drawn(inputs, tmp_path, drawn):
    table = edited(inputs, tmp_path, lambda t: t.loc[["AST-05-05", "AST-05-05+stack1"]])
    temperature(table, CORPORA[:1], trained=TRAINED_AT, output_stem=tmp_path / "switched")
    table = edited(inputs, tmp_path, lambda t: t.loc[["AST-05-05", "AST-05+graph0.5-05"]])
    temperature(table, CORPORA[:1], trained=TRAINED_AT, output_stem=tmp_path / "trained")
    assert [figure.axes[0].get_xlabel().split(" of the ")[1] for figure in drawn] == ["stack node", "graph layers"]
    assert [len(figure.axes) for figure in drawn] == [1, 1]
    assert [[*read(tmp_path / name)["temperature"]] for name in ("switched", "trained")] == [[1, 100], [0.5, 2]]


def test_temperature_refuses_what_it_cannot_show(inputs, tmp_path):
    many = [f"{system}+stack1" for system in TABLE[1:9]]

    def add(table):
        rows = table.loc[TABLE[1:9]].assign(stack_temperature=1.0).set_axis(many)
        return pd.concat([table, rows]).rename_axis("system")

    def silence(table):
        table.loc["AST-05-05+stack1", on("wild", "eer")] = math.nan
        return table

    for change, complaint in (
        (lambda table: table.loc[TABLE], "no system with a temperature, such as AST-05-05.stack1"),
        (lambda table: table.drop(index="AST-05-05"), "holds AST-05-05 with other temperatures, but not as trained"),
        (add, "temperatures of 10 systems; at most 7"),
        (silence, r"no EER of AST-05-05\+stack1"),
        (lambda table: table.drop(columns=on("wild", "eer")), "corpus 'wild'"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            summary = edited(inputs, tmp_path, change)
            temperature(summary, CORPORA, trained=TRAINED_AT, output_stem=tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def test_files_are_whole_labelled_and_the_same_every_time(inputs, tmp_path, drawn_twice):
    comparisons = sweep_comparisons(tmp_path / "k_sweep.tsv", ())

    def draw(folder):
        summary, corpora = inputs / "summary.tsv", CORPORA[:1]
        eer_vs_macs(summary, [*TABLE[:4], "MHFA"], corpora, folder / "cost", LABEL)
        k_sweep(summary, LABELS, corpora, folder / "sweep", LABEL, comparisons)
        attacks(sorted(inputs.glob("*.[12].tsv")), TABLE[:3], corpora, folder / "attacks", LABEL)
        attacks(sorted(inputs.glob("wild.[12].tsv")), TABLE[:3], CORPORA[1:], folder / "no_attacks", LABEL)
        temperature(summary, corpora, trained=TRAINED_AT, output_stem=folder / "temperature", label=LABEL)

    stems = ("cost", "sweep", "attacks", "no_attacks", "temperature")
    assert drawn_twice(draw, LABEL) == {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf", "tsv")}
