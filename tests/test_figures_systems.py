"""Figures that compare systems: the TSVs hold the right numbers, the panels what they promise, bad input is refused."""

import itertools
import math

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from conftest import write_comparisons, write_metrics, write_sizes
from spaarsist.evaluation.summary import on, summarise
from spaarsist.names import LABELS, ConfigError, System
from spaarsist.reporting.figures import systems as figures

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
            eer = rng.uniform(0.05, 0.15)
            rows.append((system, seed, column, corpus, "pooled", "eer", eer, eer - 0.01, eer + 0.02, 100, 1300))
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


def values(inputs, corpus, seeds=(1, 2)):
    """Numbers straight from the metrics files: one column per seed."""
    files = {seed: pd.read_csv(inputs / f"{corpus}.{seed}.tsv", sep="\t", index_col="system") for seed in seeds}
    return pd.DataFrame({seed: file["value"] for seed, file in files.items()})


def edited(inputs, tmp_path, change, name="summary"):
    """A copy of a summary after a change to its table."""
    table = pd.read_csv(inputs / f"{name}.tsv", sep="\t", index_col="system")
    path = tmp_path / "edited.tsv"
    change(table).to_csv(path, sep="\t")
    return path


def read(stem):
    return pd.read_csv(f"{stem}.tsv", sep="\t")


def test_costs_errors_and_front(inputs, tmp_path, drawn):
    figures.eer_vs_macs(inputs / "summary.tsv", TABLE + OTHERS, [], CORPORA, tmp_path / "cost")
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
        front = {
            a
            for a in part.index
            if not any(
                costs[b] <= costs[a] and exact[b] <= exact[a] and (costs[b], exact[b]) != (costs[a], exact[a])
                for b in part.index
            )
        }
        assert {*part.index[part["on_front"]]} == front


def test_equally_good_and_cheap_systems_share_the_front(inputs, tmp_path, drawn):
    def change(table):
        table.loc[["AST-05-01", "AST-03-01", "AST-03-03"], on("home", "eer")] = 0.01
        table.loc["AST-05-05", on("home", "eer")] = 0.02  # dearer and worse
        return table

    systems = ["AST-05-05", "AST-05-01", "AST-03-01", "AST-03-03"]
    figures.eer_vs_macs(edited(inputs, tmp_path, change), systems, [], CORPORA[:1], tmp_path / "cost")
    assert [*read(tmp_path / "cost")["on_front"]] == [False, True, True, False]


def test_marks_stand_where_the_numbers_are(inputs, tmp_path, drawn):
    named = ["AST-05-05", "AST-03-01-Mag", *OTHERS]
    figures.eer_vs_macs(inputs / "summary.tsv", TABLE + OTHERS, named, CORPORA, tmp_path / "cost")
    shown = read(tmp_path / "cost").set_index(["corpus", "system"])
    assert "costs at the paper's size" in drawn[0].note and "standard deviation over seeds" in drawn[0].note
    for axes, (corpus, title) in zip(drawn[0].axes, CORPORA, strict=True):
        assert axes.get_title() == title
        part = shown.loc[corpus]
        front = part[part["on_front"]].sort_values(["cost", "eer"])
        stairs = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
        np.testing.assert_allclose(stairs.get_xdata()[:-1], front["cost"] / 1e6, rtol=1e-6)
        np.testing.assert_allclose(stairs.get_ydata()[:-1], 100 * front["eer"], rtol=1e-6)
        marks = [line for line in axes.lines if line.get_marker() != "None"]
        places = [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks]
        wanted = [(row.cost / 1e6, 100 * row.eer) for row in part.loc[TABLE + OTHERS].itertuples()]
        np.testing.assert_allclose(places, wanted, rtol=1e-6)
        bars = [sorted(x.get_ydata()) for x in axes.lines if x.get_marker() == "None" and x is not stairs]
        ends = 100 * part.loc[[s for s in TABLE + OTHERS if s in named], ["low", "high"]].to_numpy()
        np.testing.assert_allclose(bars, ends, rtol=1e-6)
    (legend,) = drawn[0].legends
    key = [text.get_text() for text in legend.get_texts()]
    assert key == ["AASIST (AST-05-05)", "AST-03-01-Mag (rank 1)", *OTHERS, "other AASIST configurations"]
    looks = {(line.get_marker(), line.get_color()) for line in legend.get_lines()}
    assert len(looks) == len(key)


@pytest.mark.parametrize("failed", [False, True])
def test_all_marks_and_bars_lie_inside_the_frame(inputs, tmp_path, drawn, failed):
    def fail(table):
        table.loc["AST-03-01-Mag", [on("home", "eer"), on("home", "eer", "std")]] = 0.6, 0.2
        return table

    summary = edited(inputs, tmp_path, fail) if failed else inputs / "summary.tsv"
    figures.eer_vs_macs(summary, TABLE + OTHERS, ["AST-03-01-Mag", *OTHERS], CORPORA, tmp_path / "cost")
    assert drawn[0].axes[0].get_yscale() == ("log" if failed else "linear")
    figure = drawn[0]
    figure.draw_without_rendering()
    for axes in figure.axes:
        for line in axes.lines:
            at = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
            assert axes.bbox.padded(1).contains(*at.min(axis=0)) and axes.bbox.padded(1).contains(*at.max(axis=0))


def test_intervals_go_before_standard_deviations(inputs, tmp_path, drawn):
    def both(table):
        return table.assign(**{on("home", "eer", end): table[on("home", "eer")] + by
                               for end, by in (("ci_low", -0.01), ("ci_high", 0.02))})  # fmt: skip

    for summary, seeds in ((inputs / "one.tsv", [1]), (edited(inputs, tmp_path, both), [1, 2])):
        figures.eer_vs_macs(summary, TABLE + OTHERS, OTHERS, CORPORA[:1], tmp_path / "cost")
        figures.k_sweep(summary, [*LABELS][:7], CORPORA[:1], tmp_path / "sweep")
        figures.temperature(summary, CORPORA[:1], trained=TRAINED_AT, output_stem=tmp_path / "temperature")
        for name in ("cost", "sweep", "temperature"):
            shown = read(tmp_path / name)
            wanted = values(inputs, "home", seeds=seeds).mean(axis=1)[shown["system"]]
            np.testing.assert_allclose(shown["eer"], wanted, rtol=1e-6)
            np.testing.assert_allclose(shown["eer"] - shown["low"], 0.01, rtol=1e-5)
            np.testing.assert_allclose(shown["high"] - shown["eer"], 0.02, rtol=1e-5)
    assert all("confidence interval" in figure.note and "deviation" not in figure.note for figure in drawn)


def test_an_interval_that_misses_its_estimate_gives_no_negative_bar(inputs, tmp_path, drawn):
    for end, missed in (("low", 0.9), ("high", 0.0)):
        path = edited(inputs, tmp_path, lambda t, e=end, m=missed: t.assign(**{on("home", "eer", f"ci_{e}"): m}), "one")
        figures.eer_vs_macs(path, TABLE, [], CORPORA[:1], tmp_path / "cost")
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
            figures.eer_vs_macs(*arguments[:2], [], *arguments[2:], tmp_path / "refused")
    deaf = edited(inputs, tmp_path, without(on("wild", "eer"), "AST-05-05"))
    with pytest.raises(ConfigError, match="no EER of AST-05-05 on corpus 'wild'"):
        figures.eer_vs_macs(deaf, fast, [], CORPORA, tmp_path / "refused")
    half = edited(inputs, tmp_path, lambda table: table.drop(columns=on("home", "eer", "std")))
    with pytest.raises(ConfigError, match=r"columns missing: home\.eer\.std"):
        figures.eer_vs_macs(half, fast, [], CORPORA, tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def test_sweep_shows_all_it_should_and_nothing_else(inputs, tmp_path, drawn):
    swept = [*LABELS][:7]
    figures.k_sweep(inputs / "summary.tsv", swept, CORPORA, tmp_path / "sweep")
    shown = read(tmp_path / "sweep")
    wanted = {name for name in TABLE + SWEEP if System.parse(name).variant.label in swept}
    assert len(shown) == 2 * len(wanted) and shown["p_holm"].isna().all()
    for corpus, part in shown.groupby("corpus"):
        assert {*part["system"]} == wanted
        of_seeds = values(inputs, corpus).loc[part["system"]]
        np.testing.assert_allclose(part["eer"], of_seeds.mean(axis=1), rtol=1e-6)
        np.testing.assert_allclose(part["high"] - part["low"], 2 * of_seeds.std(axis=1, ddof=1), rtol=1e-5)
    sizes = pd.read_csv(inputs / "complexity.tsv", sep="\t", index_col="system")["n_macs"] / 1e6
    panels = np.reshape(drawn[0].axes, (3, 3))
    assert [axes.get_title() for axes in panels[0]] == [*(title for _, title in CORPORA), "Cost of the back-end"]
    for row, k in zip(panels, (0.5, 0.3, 0.1), strict=True):
        assert row[0].get_ylabel() == f"Trained with k = {k}\nEER (%)"
        for axes, corpus in zip(row, ("home", "wild", "home"), strict=True):
            part = shown[(shown["corpus"] == corpus) & (shown["k_train"] == k)]
            *lines, upright = [line for line in axes.lines if len(line.get_xdata())]
            assert {*upright.get_xdata()} == {k} and len(lines) == len(swept)
            for variant, line in zip(swept, lines, strict=True):
                own = part[part["variant"] == variant]
                assert [*own["k_infer"]] == sorted(own["k_infer"])
                np.testing.assert_allclose(line.get_xdata(), own["k_infer"])
                heights = sizes[own["system"]] if axes is row[2] else 100 * own["eer"]
                np.testing.assert_allclose(line.get_ydata(), heights, rtol=1e-6)
    assert panels[0, 2].get_ylim()[0] == 0, "costs hardly differ, and should look so"


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


def test_marks_are_filled_where_the_eer_differs_from_that_at_the_k_of_training(inputs, tmp_path, drawn):
    different = {("AST-03-01", "home"), ("AST-05-03-Mag", "home"), ("AST-05-10-Mag", "home")}
    comparisons = sweep_comparisons(tmp_path / "k_sweep.tsv", different)
    figures.k_sweep(inputs / "summary.tsv", ["Base", "Mag"], CORPORA, tmp_path / "sweep", comparisons=comparisons)
    shown = read(tmp_path / "sweep")
    assert {*zip(shown["system"], shown["corpus"], strict=True)} >= different
    p_holm = shown.set_index(["system", "corpus"])["p_holm"]
    assert {*p_holm.index[p_holm < 0.05]} == different
    assert {*p_holm.index[p_holm.isna()].get_level_values(0)} == {
        f"AST-{k}-{k}{end}" for k in CODES for end in ("", "-Mag")
    }
    filled = {
        (x, line.get_color())
        for axes in drawn[0].axes[:2]
        for line in axes.lines
        if line.get_linestyle() == "None" and mpl.colors.to_rgb(line.get_markerfacecolor()) != (1, 1, 1)
        for x in line.get_xdata()
    }
    assert {x for x, _ in filled} == {0.3, 1.0} and len(filled) == 2, "of Mag, in the first row, in domain"
    assert "Holm" in drawn[0].note


def test_sweep_without_a_system_at_the_k_of_training(inputs, tmp_path, drawn):
    comparisons = sweep_comparisons(tmp_path / "k_sweep.tsv", ())
    summary = edited(inputs, tmp_path, lambda table: table.drop(index="AST-05-05-Mag"))
    figures.k_sweep(summary, ["Base", "Mag"], CORPORA[:1], tmp_path / "sweep", comparisons=comparisons)
    shown = read(tmp_path / "sweep")
    lost = shown["system"].str.startswith("AST-05-") & (shown["variant"] == "Mag")
    assert shown["p_holm"][lost].isna().all() and lost.sum() == 4
    assert shown["p_holm"][~lost].notna().sum() == (~lost).sum() - 5, "but for those at the k of their training"


def test_sweep_leaves_out_what_was_not_swept(inputs, tmp_path, drawn):
    """Variants that the ablation alone has, without comparisons among the sweep's; what was trained as a variant."""

    def change(table):
        return table.assign(trained_variant=np.where(table.index == "AST-05-05-Mag", "Mag", None))

    comparisons = pd.read_csv(sweep_comparisons(tmp_path / "c.tsv", ()), sep="\t")
    comparisons[~comparisons["system"].str.endswith("-Uni")].to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    swept = ["Mag", "Base"]
    summary = edited(inputs, tmp_path, change)
    figures.k_sweep(summary, swept, CORPORA[:1], tmp_path / "sweep", comparisons=tmp_path / "c.tsv")
    shown = read(tmp_path / "sweep")
    assert {*shown["variant"]} == {*swept} and "AST-05-05-Mag" not in {*shown["system"]}
    assert len(shown) == sum(System.parse(s).variant.label in swept for s in TABLE + SWEEP) - 1


def test_sweep_refuses_what_it_cannot_show(inputs, tmp_path):
    others = edited(inputs, tmp_path, lambda table: table.loc[OTHERS + SWITCHED])
    with pytest.raises(ConfigError, match="no EER of a variant Base, "):
        figures.k_sweep(others, ["Base", "Mag"], CORPORA, tmp_path / "refused")
    with pytest.raises(ConfigError, match="no variant Med; there are Base, "):
        figures.k_sweep(inputs / "summary.tsv", ["Base", "Med"], CORPORA, tmp_path / "refused")
    with pytest.raises(ConfigError, match="'mars'"):
        figures.k_sweep(inputs / "summary.tsv", ["Base"], [("mars", "Mars")], tmp_path / "refused")
    with pytest.raises(ConfigError, match="1 to 7 variants; got 8"):
        figures.k_sweep(inputs / "summary.tsv", LABELS, CORPORA, tmp_path / "refused")
    comparisons = pd.read_csv(sweep_comparisons(tmp_path / "c.tsv", ()), sep="\t")
    comparisons[comparisons["system"] != "AST-03-01"].to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    with pytest.raises(ConfigError, match=r"c\.tsv: holds no comparison of AST-03-01 with AST-03-03 on 'home', eer"):
        figures.k_sweep(inputs / "summary.tsv", ["Base"], CORPORA, tmp_path / "refused", comparisons=tmp_path / "c.tsv")
    assert not list(tmp_path.glob("*refused*"))


def test_temperatures_are_joined_with_the_system_as_trained(inputs, tmp_path, drawn):
    trained = {"graph": 3.0, "stack": 50.0}
    figures.temperature(inputs / "summary.tsv", CORPORA, trained=trained, output_stem=tmp_path / "temperature")
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
    figures.temperature(table, CORPORA[:1], trained=TRAINED_AT, output_stem=tmp_path / "switched")
    table = edited(inputs, tmp_path, lambda t: t.loc[["AST-05-05", "AST-05+graph0.5-05"]])
    figures.temperature(table, CORPORA[:1], trained=TRAINED_AT, output_stem=tmp_path / "trained")
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
            figures.temperature(summary, CORPORA, trained=TRAINED_AT, output_stem=tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def test_files_are_whole_labelled_and_the_same_every_time(inputs, tmp_path, drawn_twice):
    comparisons = sweep_comparisons(tmp_path / "k_sweep.tsv", ())

    def draw(folder):
        summary, corpora = inputs / "summary.tsv", CORPORA[:1]
        figures.eer_vs_macs(summary, [*TABLE[:4], "MHFA"], ["MHFA"], corpora, folder / "cost", LABEL)
        figures.k_sweep(summary, ["Base", "Mag"], corpora, folder / "sweep", LABEL, comparisons)
        figures.temperature(summary, corpora, trained=TRAINED_AT, output_stem=folder / "temperature", label=LABEL)

    stems = ("cost", "sweep", "temperature")
    assert drawn_twice(draw, LABEL) == {f"{stem}.{ending}" for stem in stems for ending in ("png", "pdf", "tsv")}
