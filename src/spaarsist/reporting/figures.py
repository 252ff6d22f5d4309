"""Figures: DET curves, and error against compute. Each comes as PNG and PDF, with a TSV of what it shows.

The same input gives the same bytes: the files carry no date.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from spaarsist.artefacts import writing
from spaarsist.config import LABELS, ConfigError, Variant, system_name
from spaarsist.evaluation.metrics import compute_metrics, det_curve, read_metadata, read_scored_trials
from spaarsist.reporting.tables import BASELINE, RANK_1, system_key

TEXT_WIDTH = 7.0
"""Width of a figure over both columns, in inches."""

_STYLE = {
    **sns.axes_style("ticks"),
    **sns.plotting_context("paper"),
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "lines.linewidth": 1.3,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}
_COLOURS = sns.color_palette("colorblind").as_hex()
# Told apart without colour as well: dashes and markers follow the order of the systems.
_DASHES = ["-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)), (0, (1, 3))]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
_NAMES = {BASELINE: f"AASIST ({BASELINE})", RANK_1: f"{RANK_1} (rank 1)"}
_DOT = {"ms": 4.5, "mec": "white", "mew": 0.6}
_RING = {"ms": 9, "mfc": "none", "mew": 0.8}
_RINGS = {BASELINE: ("AASIST", "o"), RANK_1: ("rank 1", "s")}
_DET_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_DET_POINTS = 1500  # per curve; a plotter cannot show more


def det(
    scores: Sequence[Path],
    trials: Mapping[str, Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw DET curves of a few systems, one panel per corpus, on normal-deviate axes.

    With several training seeds the curve is that of the lowest-numbered one, chosen before any result is
    known, and the figure says so: scores of different seeds have different scales and must not be pooled. The
    marker is that curve's EER, which is the legend's number too.

    Args:
        scores: score files of any systems, seeds and corpora.
        trials: corpus -> trial list.
        systems: table-row names to draw, at most seven, in legend order.
        corpora: (name in the score files, title) of each panel.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`.
        label: printed small below the panels.

    Raises:
        ConfigError: a system has no scores on a corpus, a trial list is missing, or there are too many
            systems.
    """
    if not 0 < len(systems) <= len(_DASHES):
        raise ConfigError(f"a readable figure holds 1 to {len(_DASHES)} systems; got {len(systems)}")
    curves, seeds = _det_curves(scores, trials, systems, [name for name, _ in corpora])
    shown = curves[["p_miss", "p_fa"]].to_numpy()
    low = max(shown[shown > 0].min() * 0.8, 5e-4)
    eers = curves.groupby(["corpus", "system"], sort=False)["eer"].first()
    high = float(np.clip(ndtr(ndtri(eers.max()) + 0.9), 0.3, 0.95))
    with mpl.rc_context(_STYLE):
        rows = 3.5, 0.2 + 0.14 * len(systems)  # inches for the panels and for the legends under them
        figure = Figure(figsize=(_width(len(corpora)), sum(rows)), layout="constrained")
        panels, feet = figure.subplots(2, len(corpora), squeeze=False, height_ratios=rows)
        for axes, foot, (corpus, title) in zip(panels, feet, corpora, strict=True):
            for index, system in enumerate(systems):
                look = {"color": _COLOURS[index], "ls": _DASHES[index], "marker": _MARKERS[index]}
                eer = eers[corpus, system]
                curve = curves[(curves["corpus"] == corpus) & (curves["system"] == system)]
                # Rates of 0 and 1 lie at infinity: draw them just outside the frame.
                points = ndtri(curve[["p_fa", "p_miss"]].clip(low / 4, 1 - (1 - high) / 4).to_numpy())
                axes.plot(*points.T, color=look["color"], ls=look["ls"], zorder=3 + 0.1 * index)
                if 0 < eer < 1:
                    axes.plot(ndtri(eer), ndtri(eer), **look, **_DOT, zorder=5)
            axes.axline((0, 0), slope=1, color="0.75", lw=0.6, zorder=1)
            handles = [
                Line2D([], [], color=_COLOURS[i], ls=_DASHES[i], marker=_MARKERS[i], **_DOT)
                for i in range(len(systems))
            ]
            names = [f"{_NAMES.get(s, s)}, EER {100 * eers[corpus, s]:.2f} %" for s in systems]
            foot.axis("off")
            foot.legend(handles, names, loc="center", handlelength=4)
            ticks = _det_ticks(low, high)
            text = [f"{100 * tick:g}" for tick in ticks]
            limits = ndtri([low, high])
            axes.set(xticks=ndtri(ticks), yticks=ndtri(ticks), xticklabels=text, yticklabels=text)
            axes.set(xlim=limits, ylim=limits, aspect="equal")
            axes.set(title=title, xlabel="Spoofs accepted (%)", ylabel="Bona fide rejected (%)")
        drawn = ", ".join(str(seed) for seed in sorted({*curves["seed"]}))
        chosen = f"Training seed {drawn}" + (f", the lowest of {len(seeds)}" if len(seeds) > 1 else "")
        _save(figure, curves, output_stem, chosen, label)


def eer_vs_macs(table: Path, corpora: Sequence[tuple[str, str]], output_stem: Path, label: str = "") -> None:
    """Draw the EER of every configuration against its multiply-adds, one panel per corpus.

    Colour tells k in training, the marker's shape the variant and its filling k at inference (the darker, the
    more nodes are kept). Bars are the standard deviation over training seeds or, for a single seed, its
    bootstrap interval. The grey staircase joins the configurations that no cheaper one beats.

    Args:
        table: the TSV of `tables.table1`.
        corpora: (name in the table, title) of each panel.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`.
        label: printed small below the panels.

    Raises:
        ConfigError: the table lacks a corpus, or a system name cannot be read.
    """
    points = _points(table, [name for name, _ in corpora])
    ratios = sorted({*points["k_train"], *points["k_infer"]}, reverse=True)
    # k is a quantity: hues that darken with it, told apart in grey print too.
    colours = dict(zip(ratios, mpl.colormaps["viridis"](np.linspace(0.05, 0.75, len(ratios))), strict=True))
    fills = {k: 1 - index / max(1, len(ratios) - 1) for index, k in enumerate(ratios)}
    shapes = dict(zip(LABELS, "os^DPX", strict=True))
    shift = 0.05 * (points["n_macs"].max() - points["n_macs"].min())
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_width(len(corpora)), 3.6), layout="constrained")
        panels = figure.subplots(1, len(corpora), squeeze=False)
        for axes, (corpus, title) in zip(panels[0], corpora, strict=True):
            part = points[points["corpus"] == corpus]
            front = part.sort_values(["n_macs", "eer"])
            front = front[front["eer"] < front["eer"].cummin().shift(fill_value=math.inf)]
            x, y = front["n_macs"] / 1e6, front["eer"] * 100
            axes.step([*x, part["n_macs"].max() / 1e6], [*y, y.iloc[-1]], where="post", color="0.6", lw=0.9, zorder=1)
            for point in part.itertuples():
                # Configurations that differ in k_train alone cost the same: set them side by side.
                at = (point.n_macs + shift * (point.k_train - ratios[len(ratios) // 2])) / 1e6
                axes.errorbar(
                    at,
                    100 * point.eer,
                    yerr=[[100 * (point.eer - point.low)], [100 * (point.high - point.eer)]],
                    **_look(colours[point.k_train], fills[point.k_infer], shapes[point.variant]),
                    elinewidth=0.7,
                    zorder=3,
                )
                if point.system in _RINGS:
                    axes.plot(at, 100 * point.eer, **_look("0.1", 0, _RINGS[point.system][1]) | _RING, zorder=4)
            axes.set(title=title, xlabel="Back-end multiply-adds (M)", ylabel="EER (%)")
            axes.ticklabel_format(axis="x", useOffset=False)
            _scale_eer(axes, part)
        entries = [("k in training", None)]
        entries += [(f"{k:g}", _look(colours[k], 1, "o")) for k in ratios if k in points["k_train"].array]
        entries += [("k at inference", None)]
        entries += [(f"{k:g}", _look("0.2", fills[k], "o")) for k in ratios if k in points["k_infer"].array]
        entries += [("Variant", None)]
        entries += [(v, _look("0.2", 1, shapes[v])) for v in LABELS if v in points["variant"].array]
        entries += [("Of the paper", None)]
        shown = {*points["system"]}
        entries += [(name, _look("0.1", 0, shape) | _RING) for s, (name, shape) in _RINGS.items() if s in shown]
        handles = [Line2D([], [], ls="", **(style or {"alpha": 0})) for _, style in entries]
        names = [text for text, _ in entries]
        legend = figure.legend(handles, names, loc="outside right center", handletextpad=0.2)
        for text, (_, style) in zip(legend.get_texts(), entries, strict=True):
            text.set_weight("normal" if style else "bold")
        _save(
            figure,
            points,
            output_stem,
            f"Bars: {' or '.join(sorted({*points['spread']}))}; equal costs set side by side",
            label,
        )


def _look(colour: ArrayLike, fill: float, shape: str) -> dict[str, object]:
    """A marker with an edge of that colour, filled from white (0) to the full colour (1)."""
    face = tuple(1 - (1 - part) * fill for part in mpl.colors.to_rgb(colour))
    return {"marker": shape, "ms": 4.8, "mew": 0.9, "mec": colour, "mfc": face, "color": colour}


def _det_ticks(low: float, high: float) -> list[float]:
    """Round rates inside the limits, none so close to the one before that their numbers would touch."""
    ticks, room = [], 0.06 * (ndtri(high) - ndtri(low))
    for tick in _DET_TICKS:
        if low <= tick <= high and (not ticks or ndtri(tick) - ndtri(ticks[-1]) > room):
            ticks.append(tick)
    return ticks


def _scale_eer(axes: Axes, points: pd.DataFrame) -> None:
    """Logarithmic from a fourfold range on, lest one failed configuration flatten all others."""
    eers = 100 * points["eer"]
    if 0 < 4 * eers.min() < eers.max():
        limits = max(90 * points["low"].min(), eers.min() / 2.5), max(110 * points["high"].max(), eers.max() * 1.1)
        ticks = [0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50]
        axes.set_yscale("log")
        axes.set(ylim=limits, yticks=[tick for tick in ticks if limits[0] <= tick <= limits[1]])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _det_curves(
    scores: Sequence[Path], trials: Mapping[str, Path], systems: Sequence[str], corpora: Sequence[str]
) -> tuple[pd.DataFrame, list[int]]:
    """The thinned curve of each corpus and system (tidy rows), and every seed that the score files hold."""
    lowest: dict[tuple[str, str], tuple[int, np.ndarray, np.ndarray]] = {}
    seeds = set()
    for path in scores:
        corpus = read_metadata(path)["corpus"]
        if corpus not in corpora:
            continue
        if corpus not in trials:
            raise ConfigError(f"{path}: no trial list was given for corpus {corpus!r}")
        metadata, listed, frame = read_scored_trials(path, trials[corpus])
        seeds.add(metadata["seed"])
        is_bonafide = (listed["label"] == "bonafide").to_numpy()
        for column in frame:
            system = system_name(metadata["k_train"], Variant.from_column(column))
            seed, *_ = lowest.get((corpus, system), (math.inf,))
            if system in systems and metadata["seed"] < seed:
                values = frame[column].to_numpy()
                lowest[corpus, system] = metadata["seed"], values[is_bonafide], values[~is_bonafide]
    rows = []
    for corpus in corpora:
        for system in systems:
            if (corpus, system) not in lowest:
                raise ConfigError(f"no scores of {system} on corpus {corpus!r}")
            seed, *classes = lowest[corpus, system]
            p_miss, p_fa, _ = det_curve(*classes)
            # Equal steps along the drawn curve; the ends are bounded by half a trial.
            edge = 0.5 / p_miss.size
            drawn = ndtri(np.clip([p_fa, p_miss], edge, 1 - edge))
            length = np.append(0, np.cumsum(np.abs(np.diff(drawn)).sum(axis=0)))
            kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _DET_POINTS)))
            rows.append(
                pd.DataFrame(
                    {
                        "corpus": corpus,
                        "system": system,
                        "seed": seed,
                        "eer": compute_metrics(*classes)["eer"],
                        "p_fa": p_fa[kept],
                        "p_miss": p_miss[kept],
                    }
                )
            )
    return pd.concat(rows, ignore_index=True), sorted(seeds)


def _points(table: Path, corpora: Sequence[str]) -> pd.DataFrame:
    """One row per corpus and system: ratios, variant, n_macs, eer with its bounds and what they are."""
    try:
        wide = pd.read_csv(table, sep="\t", index_col="system")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{table}: not a readable table 1 ({error})") from None
    rows = []
    for corpus in corpora:
        if f"{corpus}.eer.mean" not in wide:
            raise ConfigError(f"{table}: holds no EER of corpus {corpus!r}")
        for system, row in wide.iterrows():
            eer, std, low, high = (row[f"{corpus}.eer.{part}"] for part in ("mean", "std", "ci_low", "ci_high"))
            if math.isnan(eer):
                continue
            minus_train, minus_infer, label = system_key(system)
            spread = "bootstrap interval of the one seed"
            if not math.isnan(std):
                low, high, spread = eer - std, eer + std, "± standard deviation over seeds"
            elif math.isnan(low):
                low, high, spread = eer, eer, "none"
            identity = (corpus, system, -minus_train, -minus_infer, [*LABELS][label])
            # A percentile interval need not hold the estimate; a bar cannot have negative length.
            rows.append((*identity, row["n_macs"], eer, min(low, eer), max(high, eer), spread))
    columns = ["corpus", "system", "k_train", "k_infer", "variant", "n_macs", "eer", "low", "high", "spread"]
    return pd.DataFrame(rows, columns=columns)


def _width(panels: int) -> float:
    return TEXT_WIDTH * min(1, 0.6 * panels)


def _save(figure: Figure, shown: pd.DataFrame, output_stem: Path, note: str, label: str) -> None:
    """Write the figure and what it shows; the note and the label stand below the panels."""
    text = textwrap.fill("  ·  ".join(filter(None, [label, note])), int(17 * figure.get_figwidth()))
    figure.supxlabel(text, fontsize=6.5, color="0.3", parse_math=False)
    with writing(f"{output_stem}.png") as path:
        figure.savefig(path, metadata={"Software": None})
    with writing(f"{output_stem}.pdf") as path:
        figure.savefig(path, metadata={"CreationDate": None})
    with writing(f"{output_stem}.tsv") as path:
        shown.to_csv(path, sep="\t", index=False, float_format="%.8g")
