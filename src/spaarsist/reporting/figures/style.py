"""What all figures share: one style for print, colours and marks that work without colour, and how they are saved.

The same input gives the same bytes: the files carry no date.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from spaarsist.artefacts import writing
from spaarsist.names import BASELINE, RANK_1

TEXT_WIDTH = 7.0
"""Width of a figure over both columns, in inches."""

STYLE = {
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
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}
COLOURS = [sns.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 3, 4, 5, 7, 9)]  # not the palest two
# Told apart without colour as well: dashes and markers follow the order of the systems.
DASHES = [
    "-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), (0, (3, 1)), (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1)),
]  # fmt: skip
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
NAMES = {BASELINE: f"AASIST ({BASELINE})", RANK_1: f"{RANK_1} (rank 1)"}
"""Systems that a legend calls by more than their name."""

DOT = {"ms": 4.5, "mec": "white", "mew": 0.6}


def look(colour: ArrayLike, fill: float, shape: str) -> dict[str, object]:
    """A marker with an edge of that colour, filled from white (0) to the full colour (1)."""
    face = tuple(1 - (1 - part) * fill for part in mpl.colors.to_rgb(colour))
    return {"marker": shape, "ms": 4.8, "mew": 0.9, "mec": colour, "mfc": face, "color": colour}


def width(panels: int) -> float:
    """Width in inches of a figure with that many panels side by side."""
    return TEXT_WIDTH * min(1, 0.6 * panels)


HEADLINE = {"size": 9.5, "weight": "bold"}
"""Font of what a figure is about, above its legend."""


def head(figure: Figure, title: str, styles: Mapping[str, Mapping[str, object]], ncols: int) -> None:
    """Put above the panels what the figure is about and, in so many columns, a legend: name -> style of a line."""
    handles = [Line2D([], [], **style) for style in styles.values()]
    place = {"loc": "outside upper center", "ncols": ncols, "handlelength": 2.8}
    figure.legend(handles, [*styles], **place, title=title, title_fontproperties=HEADLINE)


def part_rows(axes: Axes, names: Sequence[str]) -> None:
    """Give each system a row, from the top, with a thin line between two in place of the grid's."""
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color="0.9", lw=0.5, zorder=0)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_yticks(range(len(names)), [NAMES.get(name, name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)


def save(figure: Figure, shown: pd.DataFrame, output_stem: Path, note: str, label: str) -> None:
    """Write a figure and what it shows.

    Args:
        figure: it gets a line of small print below the panels, of label and note.
        shown: what the TSV holds.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`.
        note: how to read the figure.
        label: e.g. that the corpora are miniatures.
    """
    text = textwrap.fill("  ·  ".join(filter(None, [label, note])), int(19 * figure.get_figwidth()))
    figure.supxlabel(text, fontsize=6.5, color="0.3", parse_math=False)
    with writing(f"{output_stem}.png") as path:
        figure.savefig(path, metadata={"Software": None})
    with writing(f"{output_stem}.pdf") as path:
        figure.savefig(path, metadata={"CreationDate": None})
    with writing(f"{output_stem}.tsv") as path:
        shown.to_csv(path, sep="\t", index=False, float_format="%.8g")
