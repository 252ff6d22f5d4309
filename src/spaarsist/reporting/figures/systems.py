"""Figures that compare systems: their errors against compute, pooling ratio and temperature."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import offset_copy

from spaarsist.evaluation.comparison import SIGNIFICANCE
from spaarsist.evaluation.summary import on, read_summary
from spaarsist.names import BASELINE, LABELS, ConfigError
from spaarsist.reporting.figures.style import (
    COLOURS,
    DASHES,
    DOT,
    MARKERS,
    NAMES,
    STYLE,
    TEXT_WIDTH,
    head,
    look,
    save,
    width,
)
from spaarsist.reporting.tables.differences import find, read_family

_NODES = {"stack": "stack node", "graph": "graph layers"}  # what has a temperature
_TEMPERATURES = ["graph_temperature", "stack_temperature", "trained_graph_temperature", "trained_stack_temperature"]
_OTHER = {"marker": "o", "ms": 3, "mfc": "none", "mec": "0.5", "mew": 0.6, "color": "0.5", "ls": ""}


def eer_vs_macs(
    summary: Path,
    systems: Sequence[str],
    named: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw the EER of systems against the multiply-adds of their back-ends, a panel per corpus.

    The axis of costs is logarithmic, and linear below 1 M. The grey staircase joins the systems than which no other is
    both as cheap and as good, and cheaper or better. Bars stand at the named systems only, the others are rings.

    Args:
        summary: file of `evaluation.summary.summarise`.
        systems: names of the systems to draw.
        named: those of them that the legend names.
        corpora: (name in the summary, title) of each panel.
        output_stem, label: as in `style.save`. The TSV holds the multiply-adds (`cost`), the EER as a fraction with the
            ends of its bar (`low`, `high`), and whether the system is on the staircase (`on_front`).

    Raises:
        ConfigError: there is no system, or the summary lacks a corpus, a system, multiply-adds or an EER.
    """
    points = _cost_points(summary, systems, [name for name, _ in corpora])
    looks = {
        system: look(colour, 1, marker) | {"ls": ""}
        for system, colour, marker in zip(named, cycle(COLOURS), cycle(MARKERS), strict=False)
    }
    with mpl.rc_context(STYLE):
        n_lines = -(-len(looks) // 4)
        figure = Figure(figsize=(width(len(corpora)), 3.2 + 0.15 * n_lines), layout="constrained")
        panels = figure.subplots(1, len(corpora), squeeze=False, sharex=True)[0]
        for axes, (corpus, title) in zip(panels, corpora, strict=True):
            part = points[points["corpus"] == corpus]
            _draw_front(axes, part)
            for point in part.itertuples():
                x, y, style = point.cost / 1e6, 100 * point.eer, looks.get(point.system, _OTHER)
                if point.system in looks:
                    axes.plot([x, x], [100 * point.low, 100 * point.high], color=style["color"], lw=0.9, zorder=3)
                axes.plot(x, y, **style, zorder=4 if point.system in looks else 2)
            is_named = part["system"].isin(looks)
            _scale_eer(axes, part["eer"], *(part[end].where(is_named, part["eer"]) for end in ("low", "high")))
            axes.set_title(title, parse_math=False)
            axes.set(xlabel="Multiply-adds of the back-end (M)", ylabel="EER (%)")
        panels[0].set_xscale("symlog", linthresh=1)
        panels[0].set_xlim(-0.3, 2.5 * max(1, points["cost"].max() / 1e6))
        panels[0].set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1,000"])
        panels[0].xaxis.set_minor_locator(NullLocator())
        styles = {NAMES.get(system, system): style for system, style in looks.items()}
        if not points["system"].isin(looks).all():
            styles["other AASIST configurations"] = _OTHER
        head(figure, "What a back-end costs, and how much it errs", styles, ncols=min(4, 2 * len(corpora)))
        notes = [f"Bars: {_spread_note(points)}", "staircase: no other is both as cheap and as good"]
        save(figure, points, output_stem, "; ".join([*notes, "costs at the paper's size"]), label)


def _cost_points(summary: Path, systems: Sequence[str], corpora: Sequence[str]) -> pd.DataFrame:
    """One row per corpus and system: identity, cost, EER with the ends of its bar, membership of the front."""
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
        parts.append(part.reset_index().assign(corpus=corpus))
    points = pd.concat(parts, ignore_index=True)
    return points[["corpus", *points.columns.drop("corpus")]]


def _on_front(points: pd.DataFrame) -> pd.Series:
    """Whether no other point is as cheap and as good, and cheaper or better."""
    costs, eers = points["cost"].to_numpy(), points["eer"].to_numpy()
    as_good = (costs[:, None] <= costs) & (eers[:, None] <= eers)
    better = (costs[:, None] < costs) | (eers[:, None] < eers)
    return pd.Series(~(as_good & better).any(axis=0), points.index, bool)


def _draw_front(axes: Axes, points: pd.DataFrame) -> None:
    front = points[points["on_front"]].sort_values(["cost", "eer"])
    x, y = front["cost"] / 1e6, front["eer"] * 100
    end = points["cost"].max() / 1e6
    axes.step([*x, end], [*y, y.iloc[-1]], where="post", color="0.7", lw=0.9, zorder=1)


def k_sweep(
    summary: Path,
    variants: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    comparisons: Path | None = None,
) -> None:
    """Draw what k at inference does to the EER and to cost: a line per variant, a row of panels per k in training.

    Panels: the EER on each corpus, and the multiply-adds from 0 up. A dotted upright is the k of training; marks are
    filled where the EER differs significantly from the one there. All systems of these variants in the summary are
    drawn, save those with other temperatures and those trained as a variant.

    Args:
        summary: file of `evaluation.summary.summarise`.
        variants: labels of the swept variants, e.g. Base and Mag, at most seven.
        corpora: (name in the summary, title) of each column of panels.
        output_stem, label: as in `style.save`. The TSV has a row per corpus and system: `corpus, system, k_train,
            k_infer, variant, n_macs, eer, low, high, spread` (fractions; the ends and the kind of the bar) and
            `p_holm` of the difference from the system at the k of training (empty there, and without comparisons).
        comparisons: file of `evaluation.comparison.compare` that holds each system against the one whose k at inference
            is that of its training; without it no mark is filled.

    Raises:
        ConfigError: a variant is unknown; the summary lacks a corpus, or holds no EER of these variants on it; a
            comparison is missing.
    """
    points = _sweep_points(summary, variants, [name for name, _ in corpora], comparisons)
    ratios, variants = points["k_train"].unique(), [v for v in LABELS if v in points["variant"].array]
    looks = {
        name: {"color": colour, "ls": dashes, "marker": marker, "ms": 4.8, "mfc": "white", "mec": colour}
        for name, colour, dashes, marker in zip(variants, COLOURS, DASHES, MARKERS, strict=False)
    }
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 1.1 + 1.8 * len(ratios)), layout="constrained")
        panels = figure.subplots(len(ratios), len(corpora) + 1, squeeze=False, sharex=True, sharey="col")
        for row, k_train in zip(panels, ratios, strict=True):
            of_training = points[points["k_train"] == k_train]
            for axes, (corpus, _) in zip(row, corpora, strict=False):
                _draw_swept(axes, of_training[of_training["corpus"] == corpus], looks)
                axes.set_ylabel("EER (%)")
            macs = of_training.drop_duplicates("system")
            for variant, style in looks.items():
                line = macs[macs["variant"] == variant]
                row[-1].plot(line["k_infer"], line["n_macs"] / 1e6, **style, zorder=3)
            row[-1].set_ylabel("Multiply-adds (M)")
            for axes in row:
                axes.axvline(k_train, color="0.3", ls=":", lw=0.9, zorder=1)
                axes.tick_params(labelleft=True)
            if len(ratios) > 1:
                row[0].set_ylabel(f"Trained with k = {k_train:g}\nEER (%)")
        for axes, (corpus, title) in zip(panels[0], corpora, strict=False):
            part = points[points["corpus"] == corpus]
            _scale_eer(axes, part["eer"], part["low"], part["high"])
            axes.set_title(title, parse_math=False)
        panels[0, -1].set_title("Cost of the back-end")
        panels[0, -1].set_ylim(0, 1.1 * points["n_macs"].max() / 1e6)
        low, high = points["k_infer"].min(), points["k_infer"].max()
        ticks = [k for k in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1) if low <= k <= high]
        panels[0, 0].set_xscale("log")
        panels[0, 0].set_xticks(ticks, [f"{k:g}" for k in ticks])
        panels[0, 0].xaxis.set_minor_locator(NullLocator())
        for axes in panels[-1]:
            axes.set_xlabel("k at inference")
        styles = looks | {"k of training": {"color": "0.3", "ls": ":", "lw": 0.9}}
        if comparisons:
            styles["EER differs significantly from there"] = {"ls": "", "marker": "o", "ms": 4.8, "color": "0.2"}
        head(figure, "What fewer nodes at inference cost and save", styles, ncols=4)
        notes = [f"Bars: {_spread_note(points)}"]
        if comparisons:
            notes.append(f"significantly: p < {SIGNIFICANCE:g} after Holm's correction")
        notes.append("k: share of nodes kept; multiply-adds at the paper's size")
        save(figure, points, output_stem, "; ".join(notes), label)


def _sweep_points(
    summary: Path, variants: Sequence[str], corpora: Sequence[str], comparisons: Path | None
) -> pd.DataFrame:
    """One row per corpus and system: identity, MACs, the EER with its bar, p of its difference."""
    if unknown := [name for name in variants if name not in LABELS]:
        raise ConfigError(f"no variant {', '.join(unknown)}; there are {', '.join(LABELS)}")
    if len(variants) > len(MARKERS):
        raise ConfigError(f"a readable sweep holds 1 to {len(MARKERS)} variants; got {len(variants)}")
    table = read_summary(summary, corpora)
    table = table[table["variant"].isin(variants) & table[[*_TEMPERATURES, "trained_variant"]].isna().all(axis=1)]
    table = table.assign(variant=pd.Categorical(table["variant"], LABELS))
    table = table.sort_values(["k_train", "variant", "k_infer"], ascending=[False, True, True])
    family = None if comparisons is None else read_family(comparisons)
    parts = []
    for corpus in corpora:
        part = table[["k_train", "k_infer", "variant", "n_macs"]].join(_eers(summary, table, corpus))
        part = part.dropna(subset="eer").assign(p_holm=np.nan)
        if part.empty:
            raise ConfigError(f"{summary}: holds no EER of a variant {', '.join(variants)} on corpus {corpus!r}")
        if family is not None:
            for _, sweep in part.groupby(["k_train", "variant"], observed=True):
                at_home = sweep["k_infer"] == sweep["k_train"]
                for system in sweep.index[~at_home] if at_home.any() else ():
                    found = find(comparisons, family, system, sweep.index[at_home].item(), corpus, "eer")
                    part.loc[system, "p_holm"] = found["p_holm"]
        parts.append(part.reset_index().assign(corpus=corpus))
    points = pd.concat(parts, ignore_index=True)
    return points[["corpus", *points.columns.drop("corpus")]]


def _draw_swept(axes: Axes, points: pd.DataFrame, looks: Mapping[str, Mapping]) -> None:
    """The EER against k: a line per variant with bars, which stand beside each other."""
    for index, (variant, style) in enumerate(looks.items()):
        line = points[points["variant"] == variant]
        beside = offset_copy(axes.transData, axes.figure, x=2 * index - len(looks) + 1, units="points")
        axes.vlines(line["k_infer"], 100 * line["low"], 100 * line["high"], color=style["color"], lw=0.8, zorder=2,
                    transform=beside)  # fmt: skip
        axes.plot(line["k_infer"], 100 * line["eer"], **style, zorder=3)
        differs = line[line["p_holm"] < SIGNIFICANCE]
        axes.plot(differs["k_infer"], 100 * differs["eer"], **style | {"ls": "", "mfc": style["color"]}, zorder=4)


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
                axes.set_xlabel(f"Temperature of the {_NODES[node]}")
        for axes in panels[:, 0]:
            axes.set_ylabel("EER (%)")
        entries = {NAMES.get(system, system): style for system, style in looks.items()}
        entries["as trained"] = {"color": "0.3", "ls": ":", "lw": 0.9}
        if (points["how"] == "trained so").any():
            entries["trained at that temperature"] = star | {"mec": "0.2"}
        head(figure, "What softmax temperatures do to the EER", entries, ncols=min(4, 2 * len(corpora)))
        save(figure, points, output_stem, f"Bars: {_spread_note(points)}", label)


def _temperature_points(summary: Path, corpora: Sequence[str], trained: Mapping[str, float]) -> pd.DataFrame:
    """One row per corpus, place of the temperature and system: the system without it (`of`), temperature, EER."""
    table = read_summary(summary, corpora)
    varied = table[table[_TEMPERATURES].notna().sum(axis=1) == 1].copy()  # in one piece, or pandas warns
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
    try:
        mean, std, low, high = (table[on(corpus, "eer", part)] for part in ("mean", "std", "ci_low", "ci_high"))
    except KeyError as error:
        raise ConfigError(f"{summary}: columns missing: {error.args[0]}") from None
    spread = np.select([low.notna(), std.notna()], ["interval", "standard deviation"], "none")
    low, high = low.fillna(mean - std).fillna(mean), high.fillna(mean + std).fillna(mean)
    # A percentile interval need not hold the estimate; a bar cannot have negative length.
    return pd.DataFrame({"eer": mean, "low": np.minimum(low, mean), "high": np.maximum(high, mean), "spread": spread})


def _spread_note(points: pd.DataFrame) -> str:
    words = {
        "interval": "confidence interval over trials and, where there are several, training seeds",
        "standard deviation": "± standard deviation over seeds",
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
