"""Figures of what goes on inside the AASIST back-ends: which nodes are kept, what the stack node attends to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from spaarsist.reporting.figures.style import COLOURS, DASHES, DOT, MARKERS, STYLE, save, width
from spaarsist.reporting.tables.nodes import LAYERS, over_seeds, read_inspected

_GRAPHS = {"spectral": (COLOURS[0], "o"), "temporal": (COLOURS[3], "s")}
_PLACES = {"": "First pooling", "branches.0.": "Branch 1", "branches.1.": "Branch 2"}
_CHANCE = {"ls": (0, (3, 1.5)), "lw": 0.8}
_SCORERS = {"learned": COLOURS[0], "magnitude": COLOURS[3]}
_CLASSES = {"bonafide": ("bona fide", "-"), "spoof": ("spoof", (0, (2, 1)))}
_TICKS = {"attention": "attention", "uniform": "plain\nmean", "linear": "released\ncode's mean"}
_NO_BANDS = "Spectral nodes: groups of three neighbouring features of a learned projection, not frequency bands"


def overlap(inspected: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = "") -> None:
    """Draw how far the learned scorer and the squared norm keep the same nodes, against the share that is kept.

    A row per training; three columns per corpus, for the first poolings and those in the branches. Dashed lines are
    what two random choices have in common. A pooling that keeps all it gets has no mark.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each group of columns.
        output_stem, label: as in `style.save`. The TSV has a row per training, corpus, pooling and k: the Jaccard index
            (mean over trials and seeds, standard deviation over seeds) and chance.

    Raises:
        ConfigError: see `spaarsist.reporting.tables.nodes.read_inspected`.
    """
    rows = read_inspected(inspected, "nodes.tsv", [name for name, _ in corpora], ["layer", "k", "jaccard", "chance"])
    points = over_seeds(rows[rows["label"] == "all"], ["trained", "corpus", "layer", "k", "chance"], ["jaccard"])
    trainings, ratios = points["trained"].unique(), sorted(points["k"].unique())
    with mpl.rc_context(STYLE):
        size = width(2 * len(corpora)), 1.1 + 1.3 * len(trainings)
        figure = Figure(figsize=size, layout="constrained")
        parts = figure.subfigures(1, len(corpora), squeeze=False)[0]
        for part, (corpus, title) in zip(parts, corpora, strict=True):
            part.suptitle(title, fontsize=8.5, fontweight="bold")
            panels = part.subplots(len(trainings), len(_PLACES), squeeze=False, sharex=True, sharey=True)
            for row, trained in zip(panels, trainings, strict=True):
                own = points[(points["corpus"] == corpus) & (points["trained"] == trained)]
                for (axes, prefix), graph in product(zip(row, _PLACES, strict=True), _GRAPHS):
                    _draw_overlap(axes, own[own["layer"] == f"{prefix}{graph}_pool"], ratios, graph)
                row[0].set_ylabel(f"{trained}\nJaccard index")
            for axes, place in zip(panels[0], _PLACES.values(), strict=True):
                axes.set_title(place)
            for axes in panels[-1]:
                axes.set_xlabel("k")
            panels[0, 0].set(ylim=(0, 1), xlim=(-0.4, len(ratios) - 0.6))
            panels[0, 0].set_xticks(range(len(ratios)), [f"{k:g}".lstrip("0") for k in ratios])
        handles = [
            Line2D([], [], color=colour, marker=marker, **DOT, label=f"{graph} nodes")
            for graph, (colour, marker) in _GRAPHS.items()
        ]
        handles.append(Line2D([], [], color="0.4", **_CHANCE, label="two random choices"))
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
        note = f"k: share kept at inference by every pooling  ·  Bars: ± standard deviation over seeds  ·  {_NO_BANDS}"
        save(figure, points, output_stem, note, label)


def _draw_overlap(axes: Axes, points: pd.DataFrame, ratios: Sequence[float], graph: str) -> None:
    points = points.sort_values("k")
    colour, marker = _GRAPHS[graph]
    at = points["k"].map(ratios.index)
    axes.plot(at, points["chance"], color=colour, **_CHANCE, zorder=1)
    at = at + 0.06 * (1 if graph == "temporal" else -1)  # lest the bars hide each other
    low, high = (points["jaccard"] + sign * points["jaccard.seeds_std"] for sign in (-1, 1))
    axes.vlines(at, low, high, color=colour, lw=0.7, zorder=2)
    axes.plot(at, points["jaccard"], color=colour, marker=marker, **DOT, lw=1, zorder=3)


def kept(inspected: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = "") -> None:
    """Draw how often the node at each position is kept, by learned scorer and squared norm, for both classes.

    Shown are the first poolings of one training, the first in the order of tables, at the smallest k; and of its lowest
    seed alone, since the number of a spectral node means something else in every training.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each column.
        output_stem, label: as in `style.save`. The TSV has the rows that are drawn.

    Raises:
        ConfigError: see `spaarsist.reporting.tables.nodes.read_inspected`.
    """
    columns = ["layer", "k", "scorer", "position", "seconds", "share"]
    rows = read_inspected(inspected, "kept.tsv", [name for name, _ in corpora], columns)
    rows = rows[rows["trained"] == rows["trained"].iloc[0]]
    rows = rows[(rows["seed"] == rows["seed"].min()) & (rows["k"] == rows["k"].min()) & (rows["label"] != "all")]
    trained, seed, k = rows[["trained", "seed", "k"]].iloc[0]
    axis_of = {"spectral_pool": "Spectral node", "temporal_pool": "Time in the excerpt (s)"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width(2 * len(corpora)), 4.2), layout="constrained")
        panels = figure.subplots(2, len(corpora), squeeze=False, sharex="row", sharey="row")
        for column, (corpus, title) in zip(panels.T, corpora, strict=True):
            column[0].set_title(title)
            for axes, (layer, axis) in zip(column, axis_of.items(), strict=True):
                own = rows[(rows["corpus"] == corpus) & (rows["layer"] == layer)]
                for (scorer, name), part in own.groupby(["scorer", "label"]):
                    middle = part["position"] if part["seconds"].isna().all() else part["seconds"]
                    step = middle.diff().mean() if len(part) > 1 else 1
                    edges = np.append(middle - step / 2, middle.iloc[-1] + step / 2)
                    dashes = _CLASSES[name][1]
                    axes.stairs(100 * part["share"], edges, baseline=None, color=_SCORERS[scorer], ls=dashes, lw=1)
                chance = 100 * own.groupby(["scorer", "label"])["share"].mean().mean()
                axes.axhline(chance, color="0.4", **_CHANCE, zorder=1)
                axes.set_xlabel(axis)
                axes.margins(x=0.01)
                axes.set_ylim(bottom=0)
        for axes in panels[:, 0]:
            axes.set_ylabel("Trials that keep it (%)")
        handles = [
            Line2D([], [], color=colour, ls=dashes, lw=1, label=f"{scorer}, {name}")
            for scorer, colour in _SCORERS.items()
            for name, dashes in _CLASSES.values()
        ]
        handles.append(Line2D([], [], color="0.4", **_CHANCE, label="all nodes alike"))
        figure.legend(handles=handles, loc="outside upper center", ncols=5)
        note = (
            f"{trained}, seed {seed}, k = {k:g} at inference, first poolings  ·  {_NO_BANDS}; short clips end in zeros"
        )
        save(figure, rows, output_stem, note, label)


def stack_attention(
    inspected: Sequence[Path], corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = ""
) -> None:
    """Draw how far the stack node's attention is from a mean, and how much the stack node depends on the input.

    A column per training. Above, a row per corpus: total variation distance of the attention from a mean, against the
    softmax temperature at which all layers are run; the dotted line is the temperature of training. Below, again a row
    per corpus: the spread over trials of the last stack node, and of what is made of the last other nodes, by what
    takes the place of attention.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each row.
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
        size = width(1.2 * len(trainings)), 1.3 + 2.7 * len(corpora)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(2 * len(corpora), len(trainings), squeeze=False, sharey="row")
        above, below = np.split(panels, 2)
        for (row, (corpus, title)), (column, trained) in product(enumerate(corpora), enumerate(trainings)):
            own, spread = (
                part[(part["corpus"] == corpus) & (part["trained"] == trained)] for part in (distances, spreads)
            )
            axes = above[row, column]
            for layer, look in lines.items():
                line = own[own["layer"] == layer].sort_values("stack_temperature")
                axes.plot(line["stack_temperature"], line["value"], **look)
            for t in spread["stack_temperature"].dropna().unique():
                axes.axvline(t, **trained_at, zorder=1)
            axes.set_xscale("log")
            if len(above_zero):
                axes.set(yscale="log", ylim=(above_zero.min() / 1.6, above_zero.max() * 1.6))
            axes.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
            axes = below[row, column]
            for aside, (quantity, look) in zip((-0.12, 0.12), dots.items(), strict=True):
                part = spread[spread["quantity"] == quantity]
                at = part["aggregation"].map([*_TICKS].index) + aside
                ends = (part["value"] + sign * part["value.seeds_std"] for sign in (-1, 1))
                axes.vlines(at, *ends, color="0.2", lw=0.7, zorder=2)
                axes.plot(at, part["value"], **look, zorder=3)
            axes.set(xlim=(-0.5, len(_TICKS) - 0.5))
            axes.set_xticks(range(len(_TICKS)), _TICKS.values())
            name = title.replace(" (", "\n(")
            for block, what in ((above, "Distance from a mean"), (below, "Spread over trials")):
                block[row, 0].set_ylabel(f"{name}\n{what}")
                block[row, column].tick_params(labelbottom=row == len(corpora) - 1)
        for axes, trained in zip(above[0], trainings, strict=True):
            axes.set_title(trained)
        for axes in above[-1]:
            axes.set_xlabel("Softmax temperature")
        handles = [Line2D([], [], **look) for look in lines.values()]
        handles += [Line2D([], [], **trained_at, label="temperature of training")]
        handles += [Line2D([], [], **look) for look in dots.values()]
        figure.legend(handles=handles, loc="outside upper center", ncols=4)
        note = (
            "Distance: total variation, mean over trials and seeds  ·  Spread: standard deviation over trials of what "
            "the output layer is given, mean over features; bars: ± standard deviation over seeds"
        )
        save(figure, points, output_stem, note, label)
