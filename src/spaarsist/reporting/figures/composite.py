"""Figure of the composite score: who comes first, by what, and whether other weights would say the same."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from spaarsist.artefacts import read_table
from spaarsist.names import BASELINE, RANK_1, ConfigError
from spaarsist.reporting.figures.style import COLOURS, STYLE, TEXT_WIDTH, save

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


def composite(composite: Path, sensitivity: Path, output_stem: Path, label: str = "") -> None:
    """Draw the composite score beside what becomes of the ranks under other weights.

    Left: composite and its three groups as ratios to the baseline; a group far beyond all composites is written at the
    edge. Middle: share of random weightings that put the system first. Right: how often each rank is taken over these
    weightings, the darker, the more often; the box goes from rank_low to rank_high, the diamond is the rank by
    composite. Rows are the `N_BEST` best by composite, then the baseline and the paper's rank 1, wherever they stand; a
    dotted line tells that systems between two rows are left out.

    Args:
        composite: the first TSV of `evaluation.composite.composite`.
        sensitivity: its second.
        output_stem, label: as in `style.save`. The TSV has one row per row of the figure: composite, rank, groups,
            first_share, rank_low, rank_high, and `share.<rank>`.

    Raises:
        ConfigError: a file is unreadable, lacks columns or has no rows, or the two do not belong together.
    """
    columns = ["system", *_MARKS, "rank", "first_share", "rank_low", "rank_high"]
    table = _read(composite, columns)[columns].sort_values("rank", kind="stable", ignore_index=True)
    shown = table[(table.index < N_BEST) | table["system"].isin(_KNOWN)]
    shares = _read(sensitivity, ["system", "rank", "share"])
    shares = shares.pivot_table(values="share", index="system", columns="rank", aggfunc="sum")
    shares = shares.reindex(index=shown["system"], columns=range(1, len(table) + 1)).fillna(0)
    if wrong := [*shares.index[~np.isclose(shares.sum(axis=1), 1)]]:
        raise ConfigError(
            f"{sensitivity}: the shares of {', '.join(wrong)} do not sum to one over the ranks; make it in one run "
            f"with {composite}"
        )
    left_out = table.drop(shown.index)
    rest = f", {len(left_out)} of them not shown (first in {100 * left_out['first_share'].sum():.2g} % of weightings)"

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 1.5 + 0.19 * len(shown)), layout="constrained")
        panels = figure.subplots(1, 3, sharey=True, width_ratios=(2.2, 0.8, 1.7))
        _draw_scores(panels[0], shown)
        _draw_first(panels[1], shown)
        _draw_ranks(panels[2], shown, shares)
        panels[0].set_ylim(len(shown) - 0.4, -0.6)
        names = [
            f"{row.system} ({_KNOWN[row.system]})  {row.rank}" if row.system in _KNOWN else f"{row.system}  {row.rank}"
            for row in shown.itertuples()
        ]
        panels[0].set_yticks(range(len(shown)), names)
        for text, system in zip(panels[0].get_yticklabels(), shown["system"], strict=True):
            text.set_weight("bold" if system in _KNOWN else "normal")
        for row in np.flatnonzero(np.diff(shown.index) > 1):  # systems are left out between these two rows
            for axes in panels:
                axes.axhline(row + 0.5, color="0.4", lw=0.7, ls=(0, (1, 2)))
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=4)
        save(
            figure,
            shown.join(shares.add_prefix("share."), on="system"),
            output_stem,
            f"The formula is ours, the paper prints none. Beside a name: rank by composite among {len(table)}"
            + (rest if len(left_out) else "")
            + ". Weightings: drawn uniformly from all; darker: rank taken more often, box: 5 to 95 % of weightings, "
            "diamond: rank by composite. Only weights vary here, neither trials nor training seeds.",
            label,
        )


def _draw_scores(axes: Axes, shown: pd.DataFrame) -> None:
    scores = shown[[*_MARKS]]
    rows = np.arange(len(shown))
    axes.axvline(1, color="0.4", lw=0.8, zorder=1)
    axes.hlines(rows, scores.min(axis=1), scores.max(axis=1), color="0.8", lw=0.8, zorder=2)
    for name, mark in _MARKS.items():
        axes.plot(scores[name], rows, ls="", label=name, **mark)
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
    axes.set(title="Composite and its groups", xlabel="Ratio to the baseline (lower is better)")


def _draw_first(axes: Axes, shown: pd.DataFrame) -> None:
    percent = 100 * shown["first_share"].to_numpy()
    bars = axes.barh(range(len(shown)), percent, height=0.6, color="0.35", zorder=2)
    texts = ["" if share == 0 else "<1" if share < 1 else f"{share:.0f}" for share in percent]
    axes.bar_label(bars, texts, padding=2, fontsize=6.5)
    axes.set(xlim=(0, max(1, 1.35 * percent.max())), title="Comes first", xlabel="% of weightings")
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))


def _draw_ranks(axes: Axes, shown: pd.DataFrame, shares: pd.DataFrame) -> None:
    n_ranks, rows, half = shares.shape[1], np.arange(len(shown)), 0.33
    strips = np.full((2 * len(rows) - 1, n_ranks), np.nan)  # every other one is the gap between two rows
    strips[::2] = shares
    heights = (rows[:, None] + [-half, half]).ravel()
    # Never quite black, lest box and diamond drown.
    axes.pcolormesh(np.arange(n_ranks + 1) + 0.5, heights, strips, cmap="Greys", norm=mpl.colors.PowerNorm(0.5, 0, 1.4))
    widths = shown["rank_high"] - shown["rank_low"] + 1
    axes.barh(rows, widths, 2 * half, shown["rank_low"] - 0.5, fill=False, ec="0.2", lw=0.7, zorder=3)
    axes.plot(shown["rank"], rows, ls="", **_MARKS["composite"] | {"ms": 4.5})
    axes.grid(visible=False)
    ticks = MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]).tick_values(1, n_ranks)
    axes.set_xticks([1, *ticks[(ticks > 1) & (ticks <= n_ranks)]])
    axes.set(title="Rank under other weights", xlabel="Rank", xlim=(0.5 - 0.02 * n_ranks, 0.5 + 1.02 * n_ranks))


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    table = read_table(path, columns, dtype={"system": str})
    if table.empty:
        raise ConfigError(f"{path}: holds no system")
    return table
