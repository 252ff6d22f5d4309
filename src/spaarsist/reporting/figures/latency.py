"""Figure of the back-end's measured time, in each of its forms."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spaarsist.reporting.figures.style import COLOURS, HEADLINE, STYLE, look, part_rows, save, width
from spaarsist.reporting.tables.latency import FORMS, SUBJECT, conditions, read_backend

_LOOKS = {
    "reference": look("0.35", 0, "o"),
    "plain": look(COLOURS[0], 1, "o"),
    "optimised": look(COLOURS[1], 0.5, "s"),
    "compiled": look(COLOURS[2], 1, "D") | {"ms": 4.2},
    "onnxruntime": look(COLOURS[3], 0, "^"),
}
_FLOOR = {"color": "0.1", "lw": 1.2}
_REACH = 0.3  # of a system's marks to either side of its line, in lines


def latency(backend: Path, output_stem: Path) -> None:
    """Draw how long one forward pass of each system's back-end takes: a panel per batch size, a line per system.

    A line has a mark per form, from top to bottom in the order of `FORMS`, with a bar as long as the interquartile
    range, centred on the median; an upright tick across it is the floor.

    Args:
        backend: file of `audit.speed.write_backend`, whose order of systems is kept.
        output_stem: as in `style.save`. The TSV holds all that `tables.latency.read_backend` returns.

    Raises:
        ConfigError: see `tables.latency.read_backend`.
    """
    table = read_backend(backend)
    systems, batch_sizes = table["system"].unique(), table["batch_size"].unique()
    forms = [form for form in FORMS if form in {*table["form"]}]
    with mpl.rc_context(STYLE):
        size = width(len(batch_sizes)), 1.1 + 0.38 * len(systems)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(batch_sizes), squeeze=False, sharey=True)[0]
        for axes, batch_size in zip(panels, batch_sizes, strict=True):
            _draw(axes, table[table["batch_size"] == batch_size].set_index("form"), forms)
            axes.set_title("One excerpt" if batch_size == 1 else f"{batch_size} excerpts at once")
        handles = [Line2D([], [], ls="", **_LOOKS[form]) for form in forms]
        handles.append(Line2D([], [], ls="", marker="|", ms=9, mew=_FLOOR["lw"], color=_FLOOR["color"]))
        names = [*(FORMS[form] for form in forms), "floor"]
        figure.legend(
            handles,
            names,
            loc="outside upper center",
            ncols=6 if len(batch_sizes) > 1 else 3,
            title="How long a back-end takes",
            title_fontproperties=HEADLINE,
        )
        note = (
            "Bars: interquartile range, centred on the median; floor: the time of a system's multiply-adds at the rate "
            f"of the back-end's convolutions alone; {conditions(table)}"
        )
        save(figure, table, output_stem, note, SUBJECT.rstrip("."))


def _draw(axes: Axes, table: pd.DataFrame, forms: list[str]) -> None:
    """Draw one batch size; index form, a system after the other."""
    systems = table["system"].unique()
    lines = np.arange(len(systems))
    for form, offset in zip(forms, np.linspace(-_REACH, _REACH, len(forms)), strict=True):
        own = table.loc[[form]]
        median, reach = own["median_ms"].to_numpy(), own["iqr_ms"].to_numpy() / 2
        axes.hlines(lines + offset, median - reach, median + reach, color=_LOOKS[form]["mec"], lw=0.9)
        axes.plot(median, lines + offset, ls="", **_LOOKS[form], zorder=3)
    axes.vlines(table.loc[[forms[0]], "floor_ms"], lines - 0.45, lines + 0.45, **_FLOOR, zorder=2)
    part_rows(axes, systems)
    axes.set_xlim(0, 1.04 * (table["median_ms"] + table["iqr_ms"] / 2).max())
    axes.set_xlabel("Time of a forward pass (ms)")
