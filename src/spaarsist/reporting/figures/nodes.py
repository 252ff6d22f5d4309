"""Figures of what goes on inside the AASIST back-ends: which nodes are kept, what the stack node attends to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spaarsist.reporting.figures.style import (
    COLOURS,
    DASHES,
    DOT,
    HEADLINE,
    MARKERS,
    STYLE,
    head,
    part_rows,
    save,
    width,
)
from spaarsist.reporting.tables.nodes import LAYERS, over_seeds, read_inspected
from spaarsist.reporting.tables.probes import PLANTS, read_probed

_POOLINGS = {
    "spectral_pool": "Spectral, first",
    "temporal_pool": "Temporal, first",
    "branches.spectral_pool": "Spectral, branches",
    "branches.temporal_pool": "Temporal, branches",
}
_CHANCE = {"ls": (0, (3, 1.5)), "lw": 0.8}
_SCORERS = ("learned", "magnitude")
_CLASSES = {"bonafide": "bona fide", "spoof": "spoof"}
_TICKS = {"attention": "attention", "uniform": "plain\nmean", "linear": "released\ncode's mean"}


def overlap(inspected: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = "") -> None:
    """Draw how far the learned scorer and the squared norm keep the same nodes: 0 as by chance, 1 the same ones.

    A panel per corpus, a row per pooling of the first training in the order of tables, those of the two branches
    together; a dot per seed, and a mark at their mean, for every share kept. A pooling that keeps all it gets has none.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each panel.
        output_stem, label: as in `style.save`. The TSV has a row per corpus, pooling, k and seed: `overlap` is
            (Jaccard index - chance) / (1 - chance).

    Raises:
        ConfigError: see `spaarsist.reporting.tables.nodes.read_inspected`.
    """
    rows = read_inspected(inspected, "nodes.tsv", [name for name, _ in corpora], ["layer", "k", "jaccard", "chance"])
    rows = rows[(rows["trained"] == rows["trained"].iloc[0]) & (rows["label"] == "all")]
    rows = rows.assign(
        pooling=rows["layer"].str.replace(r"branches\.\d\.", "branches.", regex=True),
        overlap=(rows["jaccard"] - rows["chance"]) / (1 - rows["chance"]),
    )
    keys = ["trained", "corpus", "pooling", "k", "seed"]
    points = rows.groupby(keys, sort=False)["overlap"].mean().reset_index()
    ratios = sorted(points["k"].unique(), reverse=True)
    looks = {
        k: {"color": colour, "marker": marker} for k, colour, marker in zip(ratios, cycle(COLOURS), cycle(MARKERS))
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width(2 * len(corpora)), 2.4), layout="constrained")
        panels = figure.subplots(1, len(corpora), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (corpus, title) in zip(panels, corpora, strict=True):
            axes.set_title(title)
            for (place, pooling), (lane, (k, look)) in product(enumerate(_POOLINGS), enumerate(looks.items())):
                own = points.loc[points[["corpus", "pooling", "k"]].eq([corpus, pooling, k]).all(axis=1), "overlap"]
                at = place + 0.24 * (lane - (len(looks) - 1) / 2)
                axes.plot(own, [at] * len(own), ls="", ms=2.2, mew=0, alpha=0.7, **look, zorder=2)
                axes.plot(own.mean(), at, ls="", **DOT, **look, zorder=3)
            for x in (0, 1):
                axes.axvline(x, color="0.4", **_CHANCE, zorder=1)
            axes.set_xlabel("Overlap, corrected for chance")
            part_rows(axes, [*_POOLINGS.values()])
        ends = min(0, points["overlap"].min()), 1
        panels[0].set_xlim(ends[0] - 0.05, ends[1] + 0.05)
        styles = {f"k = {k:g}": {"ls": "", **DOT, **look} for k, look in looks.items()}
        styles["0: two random choices, 1: the same nodes"] = {"color": "0.4", **_CHANCE}
        head(figure, "Do both scorers keep the same nodes?", styles, ncols=len(styles))
        note = (
            f"{points['trained'].iloc[0]}; k: share kept at inference by every pooling  ·  Overlap: Jaccard index of "
            "the nodes kept by learned score and by squared norm  ·  Small dots: seeds"
        )
        save(figure, points, output_stem, note, label)


def kept(inspected: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = "") -> None:
    """Draw how often the temporal node at each position is kept, by learned scorer and squared norm, for both classes.

    A panel per corpus; in it a band per scorer and class, and in a band a line per seed. Shown is the first temporal
    pooling of one training, the first in the order of tables, at the smallest k. Spectral nodes are left out: the
    number of one means something else in every training.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each panel.
        output_stem, label: as in `style.save`. The TSV has the rows that are drawn.

    Raises:
        ConfigError: see `spaarsist.reporting.tables.nodes.read_inspected`.
    """
    columns = ["layer", "k", "scorer", "position", "seconds", "share"]
    rows = read_inspected(inspected, "kept.tsv", [name for name, _ in corpora], columns)
    rows = rows[(rows["trained"] == rows["trained"].iloc[0]) & (rows["layer"] == "temporal_pool")]
    rows = rows[(rows["k"] == rows["k"].min()) & (rows["label"] != "all")]
    trained, k = rows[["trained", "k"]].iloc[0]
    bands = [*product(_SCORERS, _CLASSES)]
    chance = rows["share"].mean()  # all nodes alike: every clip keeps as many
    most = max(rows["share"].max(), 2 * chance)
    colours = mpl.colors.TwoSlopeNorm(100 * chance, 0, 100 * most)  # white where it is no more and no less than chance
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width(2 * len(corpora)), 2.5), layout="constrained")
        panels = figure.subplots(1, len(corpora), squeeze=False, sharey=True)[0]
        for axes, (corpus, title) in zip(panels, corpora, strict=True):
            own = rows[rows["corpus"] == corpus]
            shares = own.pivot_table("share", ["scorer", "label", "seed"], "seconds")
            n_seeds = own["seed"].nunique()
            step = np.diff(shares.columns).mean() if len(shares.columns) > 1 else 1
            edges = np.append(shares.columns - step / 2, shares.columns[-1] + step / 2)
            for place, (scorer, name) in enumerate(bands):
                band = 100 * shares.loc[scorer, name].to_numpy()
                heights = place + 0.06 + 0.88 * np.arange(n_seeds + 1) / n_seeds
                mesh = axes.pcolormesh(edges, heights, band, cmap="RdBu_r", norm=colours, rasterized=True)
            axes.set(title=title, xlabel="Time in the excerpt (s)", xlim=(edges[0], edges[-1]), ylim=(len(bands), 0))
            names = [f"{scorer}, {_CLASSES[name]}" for scorer, name in bands]
            axes.set_yticks(np.arange(len(bands)) + 0.5, names)
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False)
        figure.suptitle("Which moments are kept", **HEADLINE)
        bar = figure.colorbar(mesh, ax=panels, aspect=14)
        bar.set_label("Clips that keep it (%)")
        note = (
            f"{trained}, k = {k:g} at inference, first temporal pooling; white: kept as often as the average node "
            f"({100 * chance:.0f} %)  ·  A line of a band: one seed  ·  Clips shorter than an excerpt end in zeros"
        )
        save(figure, rows, output_stem, note, label)


def planted(probed: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = "") -> None:
    """Draw how much more often the nodes of a stretch are kept once it is spoofed, by learned scorer and squared norm.

    A row of panels per corpus, a column per share kept; in a panel a row per method, and below them bona fide speech
    from elsewhere. Shown is the first training in the order of tables.

    Args:
        probed: folder of `audit.probes.probe` of every corpus.
        corpora: (name in the files, title) of each row.
        output_stem, label: as in `style.save`. The TSV has the rows that are drawn.

    Raises:
        ConfigError: see `spaarsist.reporting.tables.probes.read_probed`.
    """
    columns = ["method", "n_clips", "n_seeds", "difference", "low", "high"]
    rows = read_probed(probed, "planted.tsv", [name for name, _ in corpora], columns)
    rows = rows[(rows["trained"] == rows["trained"].iloc[0]) & (rows["method"] != "unchanged")]
    methods, ratios = [name for name in PLANTS if name != "unchanged"], sorted(rows["k"].unique(), reverse=True)
    looks = {s: {"color": COLOURS[i], "marker": MARKERS[i]} for s, i in zip(_SCORERS, (0, 3), strict=True)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width(len(ratios)), 0.7 + 1.4 * len(corpora)), layout="constrained")
        panels = figure.subplots(len(corpora), len(ratios), squeeze=False, sharex=True, sharey=True)
        for (row, (corpus, title)), (column, k) in product(enumerate(corpora), enumerate(ratios)):
            axes = panels[row, column]
            for aside, (scorer, look) in zip((-0.16, 0.16), looks.items(), strict=True):
                own = rows[rows[["corpus", "k", "scorer"]].eq([corpus, k, scorer]).all(axis=1)].set_index("method")
                own, at = 100 * own.loc[methods, ["difference", "low", "high"]], np.arange(len(methods)) + aside
                axes.hlines(at, own["low"], own["high"], color=look["color"], lw=0.9, zorder=2)
                axes.plot(own["difference"], at, ls="", **DOT, **look, zorder=3)
            axes.axvline(0, color="0.4", **_CHANCE, zorder=1)
            part_rows(axes, [PLANTS[name] for name in methods])
            axes.set_title(f"{title}, k = {k:g}" if column == 0 else f"k = {k:g}")
        for axes in panels[-1]:
            axes.set_xlabel("Change (points)")
        styles = {scorer: {"ls": "", **DOT, **look} for scorer, look in looks.items()}
        head(figure, "Are spoofed nodes kept more often?", styles, ncols=2)
        ends = ((rows[name].min(), rows[name].max()) for name in ("n_clips", "n_seeds"))
        n_clips, n_seeds = (" to ".join(map(str, dict.fromkeys(pair))) for pair in ends)
        note = (
            f"{rows['trained'].iloc[0]}: 0.3 s of {n_clips} bona fide clips remade, all else equal  ·  Change of the "
            f"share of its temporal nodes that is kept; right of 0: a spoof is found  ·  Bars: intervals over "
            f"clips and {n_seeds} seeds"
        )
        save(figure, rows, output_stem, note, label)


def stack_attention(
    inspected: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = ""
) -> None:
    """Draw how far the stack node's attention is from a mean, and how much the stack node depends on the input.

    A column per corpus, two rows of panels per training. Above: total variation distance of the attention from a mean,
    against the softmax temperature at which all layers are run; the dotted line is the temperature of training. Below:
    the spread over trials of the last stack node, and of what is made of the last other nodes, by what takes the place
    of attention.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each column.
        output_stem, label: as in `style.save`. The TSV has a row per training, corpus, quantity, layer, temperature and
            aggregation: mean over trials and seeds, standard deviation over seeds.

    Raises:
        ConfigError: see `spaarsist.reporting.tables.nodes.read_inspected`.
    """
    keys = ["trained", "corpus", "quantity", "layer", "stack_temperature", "aggregation"]
    rows = read_inspected(inspected, "stack.tsv", [name for name, _ in corpora], [*keys[2:], "value"])
    points = over_seeds(rows[rows["label"] == "all"], keys, ["value"])
    distances, spreads = (points[points["quantity"].str.endswith(end)] for end in ("total_variation", "_spread"))
    trainings = points["trained"].unique()
    layers = [name for name in LAYERS if name in points["layer"].array]
    lines = {
        layer: {"color": colour, "ls": dashes, "marker": marker, **DOT, "lw": 1, "label": LAYERS[layer]}
        for layer, colour, dashes, marker in zip(layers, COLOURS, DASHES, MARKERS, strict=False)
    }
    dots = {
        "stack_node_spread": {"mfc": "0.2", "label": "stack node"},
        "other_nodes_spread": {"mfc": "white", "label": "other nodes"},
    }
    dots = {quantity: {"ls": "", "marker": "o", "ms": 4.5, "color": "0.2", **look} for quantity, look in dots.items()}
    trained_at = {"color": "0.3", "ls": ":", "lw": 0.9}
    temperatures = sorted(distances["stack_temperature"].unique())
    above_zero = distances["value"][distances["value"] > 0]
    with mpl.rc_context(STYLE):
        size = width(len(corpora)), 1 + 3.2 * len(trainings)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(2 * len(trainings), len(corpora), squeeze=False, sharey="row")
        for (row, trained), (column, (corpus, title)) in product(enumerate(trainings), enumerate(corpora)):
            above, below = panels[2 * row : 2 * row + 2, column]
            own, spread = (
                part[(part["corpus"] == corpus) & (part["trained"] == trained)] for part in (distances, spreads)
            )
            for layer, look in lines.items():
                line = own[own["layer"] == layer].sort_values("stack_temperature")
                above.plot(line["stack_temperature"], line["value"], **look)
            for t in spread["stack_temperature"].dropna().unique():
                above.axvline(t, **trained_at, zorder=1)
            above.set_xscale("log")
            if len(above_zero):
                above.set(yscale="log", ylim=(above_zero.min() / 1.6, above_zero.max() * 1.6))
            above.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
            above.xaxis.set_minor_locator(NullLocator())
            above.yaxis.set_major_formatter("{x:g}")
            for aside, (quantity, look) in zip((-0.12, 0.12), dots.items(), strict=True):
                part = spread[spread["quantity"] == quantity]
                at = part["aggregation"].map([*_TICKS].index) + aside
                ends = (part["value"] + sign * part["value.seeds_std"] for sign in (-1, 1))
                below.vlines(at, *ends, color="0.2", lw=0.7, zorder=2)
                below.plot(at, part["value"], **look, zorder=3)
            below.set(xlim=(-0.5, len(_TICKS) - 0.5))
            below.set_xticks(range(len(_TICKS)), _TICKS.values())
            above.set_xlabel("Softmax temperature")
            if row == 0:
                above.set_title(title)
            if column == 0:
                above.set_ylabel(f"{trained}\nDistance from a mean")
                below.set_ylabel(f"{trained}\nSpread over trials")
        styles = [*lines.values(), {**trained_at, "label": "temperature of training"}, *dots.values()]
        head(figure, "How far stack attention is from a mean", {look["label"]: look for look in styles}, ncols=4)
        note = (
            "Distance: total variation, mean over trials and seeds  ·  Spread: standard deviation over trials of what "
            "the output layer is given, mean over features; bars: ± standard deviation over seeds"
        )
        save(figure, points, output_stem, note, label)
