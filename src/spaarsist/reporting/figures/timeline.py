"""Scores of one recording over its time."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from spaarsist.reporting.figures.style import COLOURS, STYLE, TEXT_WIDTH, save


def timeline(
    parts: pd.DataFrame, output_stem: Path, title: str, threshold: float | None = None, label: str = ""
) -> None:
    """Draw the score of each window of a recording as a bar over the time that was heard.

    Args:
        parts: a row for each window: start_s and end_s (seconds), score (nats), verdict; `no signal` is drawn hollow.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`. The TSV holds `parts`.
        title: what the recording is called.
        threshold: nats; None: no line is drawn.
        label: printed small below the panel.
    """
    sound = parts["verdict"] != "no signal"
    middles = (parts["start_s"] + parts["end_s"]) / 2
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(TEXT_WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.hlines(parts["score"], parts["start_s"], parts["end_s"], color=COLOURS[0], lw=2.5, alpha=0.35)
        axes.plot(middles, parts["score"].where(sound), "o-", color=COLOURS[0], ms=4)
        axes.plot(middles[~sound], parts["score"][~sound], "o", color=COLOURS[0], mfc="white", ms=4)
        note = "bars: what a window hears; dots: its middle; hollow: no signal"
        if threshold is not None:
            axes.axhline(threshold, color="0.3", lw=0.9, ls="--")
            note += f"; dashed: threshold of the development corpus, {threshold:+.3f} nats"
        axes.set_title(title, parse_math=False)
        axes.set(xlabel="Time (s)", ylabel="Score (nats)\nhigher = more bona fide", xlim=(0, parts["end_s"].max()))
        save(figure, parts, output_stem, note, label)
