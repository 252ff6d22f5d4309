"""Figure of the composite score: who comes first, and by what."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spaarsist.artefacts import read_table
from spaarsist.names import BASELINE, RANK_1, ConfigError
from spaarsist.reporting.figures.style import COLOURS, STYLE, TEXT_WIDTH, head, save

N_BEST = 15
"""Systems shown, by rising composite; the baseline and the paper's rank 1 are shown as well."""

_KNOWN = {BASELINE: "AASIST", RANK_1: "the paper's first"}
_MARKS = {
    "composite": {"marker": "D", "ms": 5.5, "color": "0.1", "mec": "white", "mew": 0.6, "zorder": 5},
    "accuracy": {"marker": "o", "ms": 4.2, "color": COLOURS[0], "mfc": "white", "mew": 1.1, "zorder": 3},
    "calibration": {"marker": "^", "ms": 4.4, "color": COLOURS[1], "mec": "white", "mew": 0.4, "zorder": 4},
    "compute": {"marker": "|", "ms": 9, "color": COLOURS[2], "mew": 1.6, "zorder": 3},
}
_TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10)
_FEWER_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def composite(composite: Path, output_stem: Path, label: str = "") -> None:
    """Draw the composite score and its groups as ratios to the baseline, a row per system.

    A group far beyond all composites is written at the edge. Rows are the `N_BEST` best by composite, then the baseline
    and the paper's rank 1, wherever they stand; a dotted line tells that systems between two rows are left out.

    Args:
        composite: the first TSV of `evaluation.composite.composite`.
        output_stem, label: as in `style.save`. The TSV has one row per row of the figure: composite, groups, rank and
            the ends of its interval.

    Raises:
        ConfigError: the file is unreadable, lacks columns or has no rows.
    """
    columns = ["system", *_MARKS, "rank", "rank_ci_low", "rank_ci_high"]
    table = read_table(composite, columns, ["system"], [*_MARKS, "rank"], dtype={"system": str})[columns]
    if table.empty:
        raise ConfigError(f"{composite}: holds no system")
    table = table.sort_values("rank", kind="stable", ignore_index=True)
    shown = table[(table.index < N_BEST) | table["system"].isin(_KNOWN)]
    n_hidden = len(table) - len(shown)
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x", "ytick.major.size": 0}):
        figure = Figure(figsize=(0.8 * TEXT_WIDTH, 1.4 + 0.19 * len(shown)), layout="constrained")
        axes = figure.subplots()
        _draw_scores(axes, shown)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        names = [
            f"{row.system} ({_KNOWN[row.system]})" if row.system in _KNOWN else row.system for row in shown.itertuples()
        ]
        sure = shown["rank_ci_low"].notna()
        ranks = [
            f"{row.rank} [{row.rank_ci_low:g}, {row.rank_ci_high:g}]" if known else f"{row.rank}"
            for row, known in zip(shown.itertuples(), sure, strict=True)
        ]
        names = [f"{name}  {rank}" for name, rank in zip(names, ranks, strict=True)]
        axes.set_yticks(range(len(shown)), names)
        for text, system in zip(axes.get_yticklabels(), shown["system"], strict=True):
            text.set_weight("bold" if system in _KNOWN else "normal")
        for row in np.flatnonzero(np.diff(shown.index) > 1):  # systems are left out between these two rows
            axes.axhline(row + 0.5, color="0.4", lw=0.7, ls=(0, (1, 2)))
        head(figure, "Composite score and what it is made of", {n: m | {"ls": ""} for n, m in _MARKS.items()}, ncols=4)
        note = "The formula is ours, the paper prints none. Beside a name: its rank"
        note += " with the interval over resamples of test material and training seeds" * bool(sure.any())
        note += f", among {len(table)}"
        save(figure, shown, output_stem, note + f", {n_hidden} of them not shown" * bool(n_hidden), label)


def _draw_scores(axes: Axes, shown: pd.DataFrame) -> None:
    scores = shown[[*_MARKS]]
    rows = np.arange(len(shown))
    axes.axvline(1, color="0.4", lw=0.8, zorder=1)
    axes.hlines(rows, scores.min(axis=1), scores.max(axis=1), color="0.8", lw=0.8, zorder=2)
    for name, mark in _MARKS.items():
        axes.plot(scores[name], rows, ls="", **mark)
    # Never closer than this, lest differences of a percent look like much; and no farther than all composites need,
    # lest one group of one system flatten the rest: what lies beyond is written at the edge.
    best, worst = scores["composite"].min(), scores["composite"].max()
    limits = max(scores.min(axis=None) / 1.15, 0.75 * best), min(scores.max(axis=None) * 1.15, 1.35 * worst)
    limits = min(0.65, limits[0]), max(1.55, limits[1])
    for side, beyond in (("left", scores < limits[0]), ("right", scores > limits[1])):
        for row, is_beyond in enumerate(beyond.to_numpy()):
            for place, name in enumerate(scores.columns[is_beyond]):
                ratio = f"{scores[name].iloc[row]:.2g}"
                axes.text(
                    0.01 if side == "left" else 0.99, row + 0.5 * (place - (is_beyond.sum() - 1) / 2),
                    f"◂{ratio}" if side == "left" else f"{ratio}▸", transform=axes.get_yaxis_transform(), ha=side,
                    va="center", fontsize=6.5, color=_MARKS[name]["color"],
                    bbox={"fc": "white", "ec": "none", "pad": 0.3},
                )  # fmt: skip
    axes.set_xscale("log")
    ticks = _TICKS if limits[1] < 15 * limits[0] else _FEWER_TICKS
    axes.set(xlim=limits, xticks=[tick for tick in ticks if limits[0] <= tick <= limits[1]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Ratio to the baseline (lower is better)")
