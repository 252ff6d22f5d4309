"""Figures that compare systems: their errors against compute, pooling ratio, attack and temperature."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox, offset_copy

from spaarsist.evaluation.comparison import SIGNIFICANCE, flat_region
from spaarsist.evaluation.summary import on, read_summary
from spaarsist.names import BASELINE, LABELS, RANK_1, ConfigError
from spaarsist.reporting.figures.style import COLOURS, DASHES, DOT, MARKERS, NAMES, STYLE, TEXT_WIDTH, look, save, width
from spaarsist.reporting.tables.differences import find, read_family

_SHAPES = dict(zip(LABELS, cycle("os^DPXv<>p*h"), strict=False))
_APART = 5.5  # points between the middles of two marks
_RING = {"ms": 9, "mfc": "none", "mew": 0.8}
_RINGS = {BASELINE: ("AASIST", "o"), RANK_1: ("rank 1", "s")}
_MACS = "Back-end multiply-adds (M)"
_MOST_ROWS = 15  # of a heatmap
_NODES = {"stack": "stack node", "graph": "graph layers"}  # what has a temperature
_SWEPT = {"eer": ("EER (%)", 100), "min_dcf": ("minDCF", 1), "cllr": ("Cllr (bits)", 1)}
_TEMPERATURES = ["graph_temperature", "stack_temperature", "trained_graph_temperature", "trained_stack_temperature"]


def eer_vs_macs(
    summary: Path,
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw the EER of systems against the multiply-adds of their back-ends, one row of panels per corpus.

    On the left all systems on a logarithmic axis (linear below 1 M); those that are no AASIST bear their names. On the
    right the AASIST ones, enlarged: colour tells k in training, the marker's shape the variant and its filling k at
    inference (the darker, the more nodes are kept). With systems of one sort only, one panel remains. The grey
    staircase joins the Pareto front of its panel: the systems than which no other is both as cheap and as good, and
    cheaper or better. For legibility, vertical bars stand at these, the named and the ringed systems only; enlarged
    marks that would overlap are set side by side.

    Args:
        summary: file of `evaluation.summary.summarise`.
        systems: names of the systems to draw.
        corpora: (name in the summary, title) of each row of panels.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`. The TSV holds the multiply-adds (`cost`),
            the EER as a fraction with the ends of its bar, and whether the system is on the front of all systems
            (`on_front`) and on that of the AASIST ones (`on_aasist_front`).
        label: printed small below the panels.

    Raises:
        ConfigError: there is no system, or the summary lacks a corpus, a system, multiply-adds or an EER.
    """
    points = _cost_points(summary, systems, [name for name, _ in corpora])
    is_aasist = points["k_train"].notna()
    views = [view for view, needed in (("all", not is_aasist.all()), ("aasist", is_aasist.any())) if needed]
    ratios = sorted({*points["k_train"].dropna(), *points["k_infer"].dropna()}, reverse=True)
    # k is a quantity: hues that darken with it, told apart in grey print too.
    colours = dict(zip(ratios, mpl.colormaps["viridis"](np.linspace(0.05, 0.75, len(ratios))), strict=True))
    fills = {k: 1 - index / max(1, len(ratios) - 1) for index, k in enumerate(ratios)}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, max(3.5, 0.6 + 2.4 * len(corpora))), layout="constrained")
        shares = [{"all": 1, "aasist": 1.8}[view] for view in views]
        panels = figure.subplots(
            len(corpora), len(views), squeeze=False, sharex="col", sharey="row", width_ratios=shares
        )
        for row, (corpus, title) in zip(panels, corpora, strict=True):
            part = points[points["corpus"] == corpus]
            row[0].set_ylabel(f"{title}\nEER (%)")
            _scale_eer(row[0], part["eer"], *(part[end].where(part["bar"], part["eer"]) for end in ("low", "high")))
            for axes, view in zip(row, views, strict=True):
                if view == "all":
                    _draw_all(axes, part)
                else:
                    _scale_aasists(axes, part[part["k_train"].notna()])
                axes.label_outer()
        if len(views) == 2:
            panels[0, 0].set_title("All (dots: AASIST back-ends)")
            panels[0, 1].set_title("AASIST back-ends, enlarged")
        _add_key(figure, points, colours, fills)
        figure.draw_without_rendering()  # fixes the panels, so that names and marks find their room
        for row, (corpus, _) in zip(panels, corpora, strict=True):
            part = points[points["corpus"] == corpus]
            if views[0] == "all":
                _name_others(row[0], part)
            if views[-1] == "aasist":
                _draw_aasists(row[-1], part[part["k_train"].notna()], colours, fills)
        notes = [f"Vertical bars (at named, ringed and front systems): {_spread_note(points)}"]
        notes += ["staircase: Pareto front of the panel", "costs are of the back-ends at the paper's size"]
        if "aasist" in views:
            notes += ["overlapping marks set side by side"]
        save(figure, points, output_stem, "; ".join(notes), label)


def _cost_points(summary: Path, systems: Sequence[str], corpora: Sequence[str]) -> pd.DataFrame:
    """One row per corpus and system: identity, cost, EER with the ends of its bar, membership of the fronts."""
    if not systems:
        raise ConfigError("no system was named to draw the cost of")
    table = read_summary(summary, corpora, systems)
    if absent := [*table.index[table["n_macs"].isna()]]:
        raise ConfigError(f"{summary}: holds no n_macs of {', '.join(absent)}; count them or leave these out")
    parts = []
    for corpus in corpora:
        part = table[["k_train", "k_infer", "variant"]].join(_eers(summary, table, corpus))
        if absent := [*part.index[part["eer"].isna()]]:
            raise ConfigError(f"{summary}: holds no EER of {', '.join(absent)} on corpus {corpus!r}")
        part["cost"] = table["n_macs"]
        part["on_front"] = _on_front(part)
        part["on_aasist_front"] = _on_front(part[part["k_train"].notna()]).reindex(part.index, fill_value=False)
        is_named = part["k_train"].isna() | part.index.isin(_RINGS)
        part["bar"] = is_named | part["on_front"] | part["on_aasist_front"]
        parts.append(part.reset_index().assign(corpus=corpus))
    points = pd.concat(parts, ignore_index=True)
    return points[["corpus", *points.columns.drop("corpus")]]


def _on_front(points: pd.DataFrame) -> pd.Series:
    """Whether no other point is as cheap and as good, and cheaper or better."""
    costs, eers = points["cost"].to_numpy(), points["eer"].to_numpy()
    as_good = (costs[:, None] <= costs) & (eers[:, None] <= eers)
    better = (costs[:, None] < costs) | (eers[:, None] < eers)
    return pd.Series(~(as_good & better).any(axis=0), points.index, bool)


def _draw_all(axes: Axes, points: pd.DataFrame) -> None:
    """Every system on a logarithmic cost axis; AASIST back-ends, which nearly coincide, as dots."""
    _draw_front(axes, points, "on_front")
    for point in points.itertuples():
        x, y = point.cost / 1e6, 100 * point.eer
        if point.variant in _SHAPES:
            axes.plot(x, y, marker="o", ms=2.5, mec="none", mfc="0.45", zorder=2)
            _ring(axes, point.system, x, y)
        else:
            _draw_bar(axes, point, color="0.1")
            axes.plot(x, y, **look("0.1", 1, "D") | {"ms": 4}, zorder=3)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-0.3, 2.5 * max(1, points["cost"].max() / 1e6))
    axes.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1,000"])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_MACS)


def _scale_aasists(axes: Axes, points: pd.DataFrame) -> None:
    """Front and axis of AASIST back-ends; it is wider at the cheap end, where most of them crowd."""
    _draw_front(axes, points, "on_aasist_front")
    low, high = points["cost"].min() / 1e6, points["cost"].max() / 1e6
    if low < high:
        _stretch(axes, low, high)
        axes.set_xlabel(f"{_MACS}, stretched at the cheap end")
    else:
        axes.set_xlim(0.95 * low, 1.05 * low)
        axes.set_xlabel(_MACS)


def _draw_aasists(axes: Axes, points: pd.DataFrame, colours: Mapping, fills: Mapping) -> None:
    """Marks of AASIST back-ends in a panel whose place is fixed; those that would hide each other side by side."""
    at = axes.transData.transform(np.column_stack([points["cost"] / 1e6, 100 * points["eer"]]))
    placed = np.full_like(at, np.inf)
    for index in np.argsort(~points["bar"], kind="stable"):  # those with bars stay where they are, if they can
        point = points.iloc[index]
        for aside in sorted(range(-40, 41), key=abs):
            moved = at[index] + (aside * axes.figure.dpi / 72, 0)
            if np.hypot(*(placed - moved).T).min() >= _APART * axes.figure.dpi / 72:
                break
        placed[index] = moved
        beside = offset_copy(axes.transData, axes.figure, x=aside, units="points")
        if point["bar"]:
            _draw_bar(axes, point, color=colours[point["k_train"]], transform=beside)
        style = look(colours[point["k_train"]], fills[point["k_infer"]], _SHAPES[point["variant"]])
        axes.plot(point["cost"] / 1e6, 100 * point["eer"], **style, transform=beside, zorder=3)
        _ring(axes, point["system"], point["cost"] / 1e6, 100 * point["eer"], transform=beside)


def _add_key(figure: Figure, points: pd.DataFrame, colours: Mapping, fills: Mapping) -> None:
    """A legend under headings, of what occurs among the points; without AASIST back-ends there is none."""
    sections = {
        "k in training": {k: look(colour, 1, "o") for k, colour in colours.items() if k in points["k_train"].array},
        "k at inference": {k: look("0.2", fill, "o") for k, fill in fills.items() if k in points["k_infer"].array},
        "Variant": {v: look("0.2", 1, shape) for v, shape in _SHAPES.items() if v in points["variant"].array},
        "Of the paper": {
            name: look("0.1", 0, shape) | _RING
            for system, (name, shape) in _RINGS.items()
            if system in points["system"].array
        },
    }
    entries = []
    for heading, styles in sections.items():
        entries += [(heading, None), *styles.items()] if styles else []
    if not entries:
        return
    handles = [Line2D([], [], ls="", **(style or {"alpha": 0})) for _, style in entries]
    legend = figure.legend(handles, [name for name, _ in entries], loc="outside right center", handletextpad=0.2)
    for text, (_, style) in zip(legend.get_texts(), entries, strict=True):
        text.set_weight("normal" if style else "bold")


def _stretch(axes: Axes, low: float, high: float) -> None:
    """Give the axis a scale that is linear near `low` and logarithmic in the distance from there towards `high`."""
    wide = (high - low) / 30
    axes.set_xscale("function", functions=(lambda x: np.arcsinh((x - low) / wide), lambda u: low + wide * np.sinh(u)))
    axes.set_xlim(low - 0.4 * wide, low + 1.5 * (high - low))
    decimals = max(0, 2 - math.floor(math.log10(high - low)))
    ticks = np.round(low + wide * np.sinh(np.linspace(0, np.arcsinh(30), 6)), decimals)
    axes.set_xticks(ticks, [f"{tick:.{decimals}f}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _draw_front(axes: Axes, points: pd.DataFrame, column: str) -> None:
    front = points[points[column]].sort_values(["cost", "eer"])
    x, y = front["cost"] / 1e6, front["eer"] * 100
    end = points["cost"].max() / 1e6
    axes.step([*x, end], [*y, y.iloc[-1]], where="post", color="0.6", lw=0.9, zorder=1)


def _draw_bar(axes: Axes, point: tuple, **style: object) -> None:
    axes.plot([point.cost / 1e6] * 2, [100 * point.low, 100 * point.high], **style, lw=0.7, zorder=2)


def _ring(axes: Axes, system: str, x: float, y: float, **style: object) -> None:
    if system in _RINGS:
        axes.plot(x, y, **look("0.1", 0, _RINGS[system][1]) | _RING | style, zorder=4)


def _name_others(axes: Axes, points: pd.DataFrame) -> None:
    """Write the names of the systems that are no AASIST beside their marks, clear of all marks and of each other."""
    point_size = axes.figure.dpi / 72
    at = axes.transData.transform(np.column_stack([points["cost"] / 1e6, 100 * points["eer"]]))
    is_named = points["variant"].isna()
    reaches = point_size * np.where(is_named, 4, np.where(points["system"].isin(_RINGS), 5, 2))
    taken = [Bbox.from_extents(*(centre - r), *(centre + r)) for centre, r in zip(at, reaches, strict=True)]
    # A name is read as that of the nearest mark: its own should be much nearer than any other.
    sides = [(x, up * y, near) for near in (0.7, math.inf) for y in (9, 17, 25, 33) for x in (4, -4) for up in (1, -1)]
    for index, point in enumerate(points[is_named].itertuples()):
        for x, y, near in sides:
            text = axes.annotate(
                point.system, (point.cost / 1e6, 100 * point.eer), (x, y), textcoords="offset points", fontsize=6.5,
                ha="left" if x > 0 else "right", va="center", zorder=5,
                path_effects=[withStroke(linewidth=1.5, foreground="white")],
            )  # fmt: skip
            box = text.get_window_extent().padded(1)
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            inside = inside and axes.bbox.containsy(box.y0) and axes.bbox.containsy(box.y1)
            distances = np.hypot(*(at[is_named] - np.clip(at[is_named], box.min, box.max)).T)
            clear = distances[index] / near <= np.delete(distances, index).min(initial=np.inf)
            if (inside and clear and not box.count_overlaps(taken)) or (x, y, near) == sides[-1]:
                break
            text.remove()
        taken.append(box)


def k_sweep(
    summary: Path,
    variants: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    comparisons: Path | None = None,
) -> None:
    """Draw what k at inference does to errors and cost: a line per variant, a column of panels per k in training.

    Rows: EER, minDCF and Cllr on each corpus, and below each corpus its flat regions: the k on either side of that of
    training (a dotted upright) up to where the EER first differs significantly from the EER there. At the bottom
    multiply-adds, which do not depend on training. All systems of these variants in the summary are drawn,
    save those with other temperatures and those trained as a variant. The band is that of Base, the variant that was
    trained: more of them would hide each other.

    Args:
        summary: file of `evaluation.summary.summarise`.
        variants: labels of the swept variants, e.g. Base and MagMean.
        corpora: (name in the summary, title) of each group of panels.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`. The TSV has a row per corpus and system:
            `corpus, system, k_train, k_infer, variant, n_macs, spread`, of each metric the mean and the
            bounds of its band (`eer, eer_low, eer_high, ...`; fractions) and `flat`, whether the system is in its
            flat region (empty without comparisons).
        label: printed small below the panels.
        comparisons: file of `evaluation.comparison.compare` that holds each system against the one whose k at inference
            is that of its training; without it there are no flat regions.

    Raises:
        ConfigError: a variant is unknown; the summary lacks a corpus, or holds no EER of these variants on it; a
            comparison is missing.
    """
    points = _sweep_points(summary, variants, [name for name, _ in corpora], comparisons)
    ratios, variants = points["k_train"].unique(), [v for v in LABELS if v in points["variant"].array]
    looks = {
        name: {"color": colour, "ls": dashes, "marker": _SHAPES[name], **DOT}
        for name, colour, dashes in zip(LABELS, cycle(COLOURS), cycle(DASHES), strict=False)
    }
    # Uniform weights nearly equal attention at a high temperature: thin, they leave what is below them visible.
    thick, thin = {"lw": 1.7, "ms": 4.8}, {"lw": 0.8, "ms": 3.4, "mew": 0.2}
    looks = {name: style | (thin if LABELS[name][1] == "uniform" else thick) for name, style in looks.items()}
    kinds = [*_SWEPT, *(["flat"] if comparisons else [])]
    of_corpus = [0.16, *(0.85 if kind in _SWEPT else 0.12 + 0.1 * len(variants) for kind in kinds)]
    heights = [*of_corpus * len(corpora), 0.16, 1.35]  # the last with its labels
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(width(len(ratios)), 4.5), 1.45 + sum(heights)), layout="constrained")
        figure.get_layout_engine().set(h_pad=0.02, hspace=0)
        grid = figure.add_gridspec(len(heights), len(ratios), height_ratios=heights)

        def add_heading(row: int, text: str) -> None:
            axes = figure.add_subplot(grid[row, :])
            axes.set_axis_off()
            axes.text(0.5, 0, text, weight="bold", ha="center", fontsize=8.5, parse_math=False)

        bottom = figure.add_subplot(grid[-1, :])
        for (corpus, title), top in zip(corpora, range(0, len(heights), len(of_corpus)), strict=False):
            add_heading(top, title)
            part = points[points["corpus"] == corpus]
            for row, kind in enumerate(kinds, start=top + 1):
                first = None
                for column, k_train in enumerate(ratios):
                    axes = figure.add_subplot(grid[row, column], sharex=bottom, sharey=first)
                    first = first or axes
                    axes.axvline(k_train, color="0.3", ls=":", lw=0.9, zorder=1)
                    of_training = part[part["k_train"] == k_train]
                    if kind == "flat":
                        _draw_flat(axes, of_training, variants, looks)
                    else:
                        _draw_swept(axes, of_training, kind, variants, looks)
                    axes.tick_params(labelleft=column == 0, labelbottom=kind == kinds[-1])
                    if row == 1:
                        axes.set_title(f"Trained with k = {k_train:g}")
                if kind != "flat":
                    name, scale = _SWEPT[kind]
                    is_base = part["variant"] == "Base"
                    ends = [part[f"{kind}_{end}"].where(is_base, part[kind]) for end in ("low", "high")]
                    _scale(first, *(scale * values for values in (part[kind], *ends)))
                    first.set_ylabel(name)
        add_heading(-2, "Cost of the back-end")
        macs = points.groupby(["variant", "k_infer"], observed=True)["n_macs"].first() / 1e6
        for variant in variants:
            bottom.plot(macs[variant].index, macs[variant], **looks[variant], zorder=3)
        bottom.set(xlabel="k at inference", ylabel="MACs (M)")
        low, high = points["k_infer"].min(), points["k_infer"].max()
        ticks = [k for k in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1) if low <= k <= high]
        bottom.set_xscale("log")
        bottom.set_xticks(ticks, [f"{k:g}" for k in ticks])
        bottom.xaxis.set_minor_locator(NullLocator())
        handles = [Line2D([], [], **looks[variant]) for variant in variants]
        handles.append(Line2D([], [], color="0.3", ls=":", lw=0.9))
        columns = 7 if len(ratios) > 1 else 4
        figure.legend(
            handles, [*variants, "k in training"], loc="outside upper center", ncols=columns, handlelength=3.2
        )
        base = points[points["variant"] == "Base"]
        notes = [f"Band (Base only): {_spread_note(base)}"] if len(base) else []
        if comparisons:
            notes.append(
                "level lines: flat region, k on either side of that of training up to the first whose EER differs from "
                f"the one there (p < {SIGNIFICANCE:g} after Holm's correction); open marks lie outside"
            )
        notes.append("k: share of nodes kept; MACs at the paper's size")
        save(figure, points, output_stem, "; ".join(notes), label)


def _sweep_points(
    summary: Path, variants: Sequence[str], corpora: Sequence[str], comparisons: Path | None
) -> pd.DataFrame:
    """One row per corpus and system: identity, MACs, each metric with the bounds of its band, flatness."""
    if unknown := [name for name in variants if name not in LABELS]:
        raise ConfigError(f"no variant {', '.join(unknown)}; there are {', '.join(LABELS)}")
    table = read_summary(summary, corpora)
    table = table[table["variant"].isin(variants) & table[[*_TEMPERATURES, "trained_variant"]].isna().all(axis=1)]
    table = table.assign(variant=pd.Categorical(table["variant"], LABELS))
    table = table.sort_values(["k_train", "variant", "k_infer"], ascending=[False, True, True])
    family = None if comparisons is None else read_family(comparisons)
    parts = []
    for corpus in corpora:
        part = table[["k_train", "k_infer", "variant", "n_macs"]]
        for metric in _SWEPT:
            means = _means(summary, table, corpus, metric)
            part = part.join(means if metric == "eer" else means.drop(columns="spread"))
        part = part.dropna(subset="eer")
        if part.empty:
            raise ConfigError(f"{summary}: holds no EER of a variant {', '.join(variants)} on corpus {corpus!r}")
        part["flat"] = None
        if family is not None:
            for _, sweep in part.groupby(["k_train", "variant"], observed=True):
                flat = _flat_region(comparisons, family, sweep, corpus)
                part.loc[flat.index, "flat"] = flat
        parts.append(part.reset_index().assign(corpus=corpus))
    points = pd.concat(parts, ignore_index=True)
    return points[["corpus", *points.columns.drop("corpus")]]


def _flat_region(path: Path, family: pd.DataFrame, sweep: pd.DataFrame, corpus: str) -> pd.Series:
    """Whether no system between each one and that whose k is the training's differs from the latter, by rising k."""
    is_home = (sweep["k_infer"] == sweep["k_train"]).to_numpy()
    if not is_home.any():
        return pd.Series(None, sweep.index, object)
    (home,) = sweep.index[is_home]
    alike = [
        name == home or find(path, family, name, home, corpus, "eer")["p_holm"] >= SIGNIFICANCE for name in sweep.index
    ]
    return pd.Series([*flat_region(alike, is_home.argmax())], sweep.index, object)


def _draw_swept(
    axes: Axes, points: pd.DataFrame, metric: str, variants: Sequence[str], looks: Mapping[str, Mapping]
) -> None:
    """A metric against k: a line per variant, the band of Base."""
    scale = _SWEPT[metric][1]
    for variant in variants:
        line = points[points["variant"] == variant]
        if variant == "Base":
            band = (scale * line[f"{metric}_{end}"] for end in ("low", "high"))
            axes.fill_between(line["k_infer"], *band, color=looks[variant]["color"], alpha=0.15, lw=0)
        axes.plot(line["k_infer"], scale * line[metric], **looks[variant], zorder=3)


def _draw_flat(axes: Axes, points: pd.DataFrame, variants: Sequence[str], looks: Mapping[str, Mapping]) -> None:
    """A level line per variant where its region is flat, with filled marks; open ones where it is not."""
    for place, variant in enumerate(variants):
        line = points[(points["variant"] == variant) & points["flat"].notna()]
        flat = line["flat"].astype(bool)
        colour, shape = looks[variant]["color"], looks[variant]["marker"]
        axes.plot(line["k_infer"][flat], [place] * flat.sum(), color=colour, lw=2, zorder=2)
        for fill, chosen in ((1, flat), (0, ~flat)):
            style = look(colour, fill, shape) | {"ms": 3, "mew": 0.6, "ls": ""}
            axes.plot(line["k_infer"][chosen], [place] * chosen.sum(), **style, zorder=3)
    axes.set_yticks(range(len(variants)), variants, fontsize=5.5)
    axes.set_ylim(len(variants) - 0.4, -0.6)


def attacks(
    metrics: Sequence[Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw the EER of each system on each attack as a heatmap, one panel per corpus whose attacks are known.

    A cell sets one attack's spoofs against all bona fide trials of the corpus and is the mean over training seeds. The
    number of spoofs stands under the attack's name. Where no corpus names its attacks, the figure says so instead.

    Args:
        metrics: files of `evaluation.metrics.evaluate`, any mix of systems, seeds and corpora.
        systems: names of the systems to draw, from top to bottom, at most 15.
        corpora: (name in the files, title) of each panel; one without attacks is left out.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`. The TSV holds EERs as fractions.
        label: printed small below the panels.

    Raises:
        ConfigError: a file is unreadable, the files hold a number twice or contradict each other on the number of
            spoofs, a system lacks a corpus or one of its attacks, or there are too many systems.
    """
    if not 0 < len(systems) <= _MOST_ROWS:
        raise ConfigError(f"a readable heatmap holds 1 to {_MOST_ROWS} systems; got {len(systems)}")
    cells = _attack_cells(metrics, systems, [name for name, _ in corpora])
    drawn = [(name, title) for name, title in corpora if name in cells["corpus"].array]
    if not drawn:
        titles = ", ".join(title for _, title in corpora)
        text = f"No corpus of this run names its attacks: {titles}. An EER by attack needs attack_id in a trial list."
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(TEXT_WIDTH, 0.75), layout="constrained")
            figure.suptitle(textwrap.fill(text, 100), fontsize=8.5, parse_math=False)
            save(figure, cells, output_stem, "", label)
        return
    # Most attacks lie near zero: the root spreads them.
    colours, norm = mpl.colormaps["YlGnBu"], PowerNorm(0.5, 0, max(0.01, cells["eer"].max()))
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        heights = 0.7 + 0.19 * len(systems)
        figure = Figure(figsize=(TEXT_WIDTH, 0.4 + heights * len(drawn)), layout="constrained")
        panels = figure.subplots(len(drawn), squeeze=False)[:, 0]
        for axes, (corpus, title) in zip(panels, drawn, strict=True):
            part = cells[cells["corpus"] == corpus]
            grid = part.pivot(index="system", columns="attack", values="eer").loc[[*systems]]
            axes.pcolormesh(grid, cmap=colours, norm=norm, edgecolors="white", lw=0.8)
            for (row, column), eer in np.ndenumerate(grid.to_numpy()):
                red, green, blue, _ = colours(norm(eer))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                axes.text(
                    column + 0.5, row + 0.5, f"{100 * eer:.1f}", color="white" if dark else "0.1", fontsize=6.5,
                    ha="center", va="center_baseline",
                )  # fmt: skip
            sizes = part.groupby("attack")["n_spoof"].first()
            names = [f"{attack}\n{sizes[attack]:,}" for attack in grid]
            axes.set_xticks(np.arange(len(names)) + 0.5, names)
            axes.set_yticks(np.arange(len(systems)) + 0.5, [NAMES.get(system, system) for system in systems])
            axes.tick_params(length=0)
            axes.invert_yaxis()
            axes.set(title=title)
            for spine in axes.spines.values():
                spine.set_visible(False)
        panels[-1].set_xlabel("Attack, and the number of its spoofs")
        seeds = " to ".join(f"{n}" for n in sorted({cells["n_seeds"].min(), cells["n_seeds"].max()}))
        seeds = "one training seed" if seeds == "1" else f"mean over {seeds} training seeds"
        save(figure, cells, output_stem, f"EER (%), the darker the higher; {seeds}", label)


def _attack_cells(metrics: Sequence[Path], systems: Sequence[str], corpora: Sequence[str]) -> pd.DataFrame:
    """One row per corpus, system and attack: mean EER over seeds, their number, number of spoofs."""
    columns = ["system", "seed", "corpus", "condition", "metric", "value", "n_spoof"]
    parts = []
    for path in metrics:
        try:
            part = pd.read_csv(path, sep="\t", usecols=columns, dtype={"system": str, "value": float, "n_spoof": int})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a readable metrics file ({error})") from None
        chosen = (part["metric"] == "eer") & part["system"].isin(systems) & part["corpus"].isin(corpora)
        parts.append(part[chosen])
    cells = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    held = {*zip(cells["corpus"], cells["system"], strict=True)}
    if absent := [(corpus, system) for corpus in corpora for system in systems if (corpus, system) not in held]:
        corpus, system = absent[0]
        raise ConfigError(f"the metrics files hold no EER of {system} on corpus {corpus!r}")
    cells = cells[cells["condition"].str.startswith("attack:")].rename(columns={"condition": "attack"})
    cells["attack"] = cells["attack"].str.removeprefix("attack:")
    twice = cells[cells.duplicated(["corpus", "system", "attack", "seed"])]
    if len(twice):
        key = twice.iloc[0][["corpus", "system", "attack", "seed"]].to_dict()
        raise ConfigError(f"the metrics files hold a number twice: {key}")
    n_sizes = cells.groupby(["corpus", "attack"])["n_spoof"].nunique()
    if n_sizes.max() > 1:
        corpus, attack = n_sizes.idxmax()
        raise ConfigError(
            f"the metrics files contradict each other on the number of spoofs of attack {attack} of corpus {corpus!r}; "
            "evaluate all systems on one trial list"
        )
    groups = cells.groupby(["corpus", "system", "attack"])
    means = groups.agg(eer=("value", "mean"), n_seeds=("seed", "size"), n_spoof=("n_spoof", "first"))
    wanted = [
        (corpus, system, attack)
        for corpus in corpora
        for system in systems
        for attack in sorted(cells.loc[cells["corpus"] == corpus, "attack"].unique())
    ]
    if absent := [key for key in wanted if key not in means.index]:
        corpus, system, attack = absent[0]
        raise ConfigError(f"the metrics files hold no EER of {system} on attack {attack} of corpus {corpus!r}")
    return means.loc[wanted].reset_index()


def temperature(
    summary: Path,
    corpora: Sequence[tuple[str, str]],
    *,
    trained: Mapping[str, float],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw the EER against the softmax temperature: a row of panels for the stack node, one for the graph layers.

    A line joins what one system becomes when the temperature is switched at inference; it passes through the system as
    trained, whose EER goes on as a thin level line. A star is a system that was trained at that temperature too. What
    has several temperatures at once is left out.

    Args:
        summary: file of `evaluation.summary.summarise`.
        corpora: (name in the summary, title) of each column of panels.
        trained: `graph` and `stack`: the temperatures at which systems that name none are trained and run.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`. The TSV holds EERs as fractions with the
            ends of their bars; `how` is `as trained`, `switched` or `trained so`.
        label: printed small below the panels.

    Raises:
        ConfigError: the summary lacks a corpus, temperatures, the system that belongs to one, or an EER; or more than
            seven systems have temperatures.
    """
    points = _temperature_points(summary, [name for name, _ in corpora], trained)
    nodes, systems = points["node"].unique(), points["of"].unique()
    if len(systems) > len(DASHES):
        raise ConfigError(f"{summary}: temperatures of {len(systems)} systems; at most {len(DASHES)} are readable")
    looks = {
        system: {"color": colour, "ls": dashes, "marker": marker, **DOT}
        for system, colour, dashes, marker in zip(systems, COLOURS, DASHES, MARKERS, strict=False)
    }
    star = {"ls": "", "marker": "*", "ms": 9, "mfc": "white", "mew": 0.9}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width(len(corpora)), 0.9 + 2.1 * len(nodes)), layout="constrained")
        panels = figure.subplots(len(nodes), len(corpora), squeeze=False, sharex="row", sharey="col")
        for column, (corpus, title) in zip(panels.T, corpora, strict=True):
            on_corpus = points[points["corpus"] == corpus]
            column[0].set_title(title)
            _scale_eer(column[0], on_corpus["eer"], on_corpus["low"], on_corpus["high"])
            for axes, node in zip(column, nodes, strict=True):
                part = on_corpus[on_corpus["node"] == node]
                axes.axvline(trained[node], color="0.3", ls=":", lw=0.9, zorder=1)
                for index, (system, style) in enumerate(looks.items()):
                    own = part[part["of"] == system]
                    bars = 100 * own["low"], 100 * own["high"]
                    beside = offset_copy(axes.transData, figure, x=2 * index - len(looks) + 1, units="points")
                    axes.vlines(own["temperature"], *bars, color=style["color"], lw=0.7, zorder=2, transform=beside)
                    line, alike = own[own["how"] != "trained so"], own[own["how"] == "trained so"]
                    axes.plot(line["temperature"], 100 * line["eer"], **style, zorder=3)
                    for level in 100 * line.loc[line["how"] == "as trained", "eer"]:
                        axes.axhline(level, color=style["color"], ls=style["ls"], lw=0.6, zorder=1)
                    axes.plot(alike["temperature"], 100 * alike["eer"], **star, mec=style["color"], zorder=4)
                axes.set_xscale("log")
                ticks = sorted({*points.loc[points["node"] == node, "temperature"]})
                axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
                axes.xaxis.set_minor_locator(NullLocator())
                axes.set_xlabel(f"Softmax temperature of the {_NODES[node]}")
        for axes in panels[:, 0]:
            axes.set_ylabel("EER (%)")
        entries = {NAMES.get(system, system): style for system, style in looks.items()}
        entries["as trained"] = {"color": "0.3", "ls": ":", "lw": 0.9}
        if (points["how"] == "trained so").any():
            entries["trained at that temperature"] = star | {"mec": "0.2"}
        handles = [Line2D([], [], **style) for style in entries.values()]
        figure.legend(handles, [*entries], loc="outside upper center", ncols=min(4, 2 * len(corpora)), handlelength=3.2)
        save(figure, points, output_stem, f"Bars: {_spread_note(points)}", label)


def _temperature_points(summary: Path, corpora: Sequence[str], trained: Mapping[str, float]) -> pd.DataFrame:
    """One row per corpus, place of the temperature and system: the system without it (`of`), temperature, EER."""
    table = read_summary(summary, corpora)
    varied = table[table[_TEMPERATURES].notna().sum(axis=1) == 1]
    varied = varied.assign(of=[re.sub(r"\+(graph|stack)[0-9.]+", "", name) for name in varied.index])
    switched = varied[varied[["graph_temperature", "stack_temperature"]].notna().any(axis=1)]
    systems = (varied if switched.empty else switched)["of"].unique()
    if not len(systems):
        raise ConfigError(f"{summary}: holds no system with a temperature, such as {BASELINE}+stack1")
    if absent := [name for name in systems if name not in table.index]:
        raise ConfigError(f"{summary}: holds {absent[0]} with other temperatures, but not as trained")
    parts = []
    for corpus in corpora:
        eers = _eers(summary, table, corpus)
        for node in _NODES:
            for system in systems:
                of = varied[varied["of"] == system]
                switched, alike = of[f"{node}_temperature"].dropna(), of[f"trained_{node}_temperature"].dropna()
                if switched.empty and alike.empty:
                    continue
                own = pd.Series({system: trained[node]})
                temperatures = pd.concat([own, switched, alike]).rename("temperature").rename_axis("system")
                how = ["as trained"] + ["switched"] * len(switched) + ["trained so"] * len(alike)
                part = temperatures.to_frame().assign(corpus=corpus, node=node, of=system, how=how)
                parts.append(part.sort_values("temperature", kind="stable").join(eers).reset_index())
    points = pd.concat(parts, ignore_index=True)
    if absent := [*points.loc[points["eer"].isna(), "system"]]:
        raise ConfigError(f"{summary}: holds no EER of {absent[0]} on every corpus of {', '.join(corpora)}")
    return points[["corpus", "node", "of", "system", "temperature", "how", "eer", "low", "high", "spread"]]


def _eers(summary: Path, table: pd.DataFrame, corpus: str) -> pd.DataFrame:
    """EER of each system on a corpus, the ends of its bar, and what the bar is."""
    return _means(summary, table, corpus, "eer").rename(columns={"eer_low": "low", "eer_high": "high"})


def _means(summary: Path, table: pd.DataFrame, corpus: str, metric: str) -> pd.DataFrame:
    """`<metric>` of each system on a corpus, the ends of its bar (`_low`, `_high`), and what the bar is (`spread`)."""
    try:
        mean, std, low, high = (table[on(corpus, metric, part)] for part in ("mean", "std", "ci_low", "ci_high"))
    except KeyError as error:
        raise ConfigError(f"{summary}: columns missing: {error.args[0]}") from None
    spread = np.select([std.notna(), low.notna()], ["standard deviation", "interval"], "none")
    low, high = (mean - std).fillna(low).fillna(mean), (mean + std).fillna(high).fillna(mean)
    # A percentile interval need not hold the estimate; a bar cannot have negative length.
    bounds = {f"{metric}_low": np.minimum(low, mean), f"{metric}_high": np.maximum(high, mean)}
    return pd.DataFrame({metric: mean, **bounds, "spread": spread})


def _spread_note(points: pd.DataFrame) -> str:
    words = {
        "standard deviation": "± standard deviation over seeds",
        "interval": "bootstrap interval of the one seed",
        "none": "none",
    }
    return " or ".join(text for spread, text in words.items() if spread in points["spread"].array)


def _scale_eer(axes: Axes, eers: pd.Series, lows: pd.Series, highs: pd.Series) -> None:
    _scale(axes, *(100 * values for values in (eers, lows, highs)))
    axes.set_ylim(top=min(100, axes.get_ylim()[1]))


def _scale(axes: Axes, values: pd.Series, lows: pd.Series, highs: pd.Series) -> None:
    """Limits that hold all bars; logarithmic from a fourfold range on, lest one failure flatten all others."""
    if 0 < 4 * values.min() < values.max():
        limits = max(0.9 * lows.min(), 0.5 * values.min()), 1.1 * highs.max()
        ticks = [round(digit * 10.0**power, 3) for power in range(-3, 3) for digit in (1, 2, 3, 5, 7)]
        axes.set(yscale="log", yticks=[tick for tick in ticks if limits[0] <= tick <= limits[1]])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        room = 0.06 * (highs.max() - lows.min()) or 0.01 * highs.max() or 1
        limits = max(0, lows.min() - room), highs.max() + room
    axes.set_ylim(limits)
