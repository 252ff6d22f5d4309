"""Figure of the ablation: what each change does to the EER, seed by seed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spaarsist.evaluation.comparison import SIGNIFICANCE
from spaarsist.names import BASELINE, ConfigError
from spaarsist.reporting.figures.style import COLOURS, STYLE, TEXT_WIDTH, head, look, save
from spaarsist.reporting.seeds import read_eers
from spaarsist.reporting.tables.differences import find, read_family
from spaarsist.reporting.tables.layout import SECTION

_MEANS = {
    "mean, significant": look(COLOURS[0], 1, "D") | {"ms": 4.5}, "mean": look(COLOURS[0], 0, "D") | {"ms": 4.5}
}  # fmt: skip
_SEED = {"marker": "o", "ms": 3, "color": "0.15", "mew": 0, "ls": ""}
_BAR = {"color": COLOURS[0], "lw": 1}
_FARTHEST = 2.5  # a seed is drawn in its place up to this multiple of the largest mean
_LEAST = 1.0  # points: noise is not blown up to fill the figure


def ablation(
    comparisons: Sequence[Path],
    metrics: Sequence[Path],
    steps: Sequence[tuple[str, str, str]],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw what each step does to the EER: a row per step, a panel per corpus, all on one axis.

    A dot is the difference of one training seed, a diamond their mean, filled where it is significant after
    correction; the line is its confidence interval. The axis reaches as far as means and most seeds need: an interval
    without a cap goes on beyond the frame, and a seed beyond it is an arrowhead at the edge.

    Args:
        comparisons: files of `evaluation.comparison.compare`, which hold every step's system against its reference.
        metrics: files of `evaluation.evaluate.evaluate`, of all these systems and their seeds.
        steps: (title, system, reference) of each row, from top to bottom; one whose system is its reference is left
            out; ("# heading", "", "") stands above a group, if it has one. References are named, but for the baseline.
        corpora: (name in the files, title) of each panel.
        output_stem, label: as in `style.save`. The TSV holds a row per corpus and step: `corpus, section, step, system,
            reference, difference, ci_low, ci_high, n_seeds, n_speakers, p, p_holm`, and `seed<n>` of each seed;
            fractions.

    Raises:
        ConfigError: a file is unreadable or lacks a comparison or a system, or there is nothing to draw.
    """
    rows = [step for step in steps if not step[1] or step[1] != step[2]]
    rows = [row for row, below in zip_longest(rows, rows[1:], fillvalue=("",) * 3) if row[1] or below[1]]
    if not rows:
        raise ConfigError("no system was named that has a reference other than itself")
    points = _points(comparisons, metrics, rows, [name for name, _ in corpora])
    limits = _limits(points)
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x", "ytick.major.size": 0}):
        figure = Figure(figsize=(TEXT_WIDTH, 1 + 0.15 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(corpora), squeeze=False, sharex=True, sharey=True)[0]
        for axes, (corpus, title) in zip(panels, corpora, strict=True):
            axes.axvline(0, color="0.3", lw=0.9, zorder=1)
            for point in points[points["corpus"] == corpus].to_dict("records"):
                _draw(axes, point, limits)
            axes.set_title(textwrap.fill(title, 40), parse_math=False)
            axes.set_xlabel("ΔEER (points)")
        panels[0].set_xlim(limits)
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        panels[0].set_yticks(range(len(rows)), [_row_name(*row) for row in rows])
        for text, (_, system, _) in zip(panels[0].get_yticklabels(), rows, strict=True):
            text.set(weight="normal" if system else "bold", parse_math=False)
        styles = {"one training seed": _SEED} | {name: style | {"ls": ""} for name, style in _MEANS.items()}
        styles["its confidence interval"] = _BAR
        head(figure, "What each change does to the EER", styles, ncols=4)
        n_seeds = ", ".join(f"{n:g}" for n in sorted({*points["n_seeds"]}))
        note = [f"Paired differences from {BASELINE}, or from what a row names; seeds: {n_seeds}"]
        note.append("an interval without a cap and a seed as an arrowhead go on beyond the frame")
        note.append(f"significant: p < {SIGNIFICANCE:g} after Holm's correction for all tests of its family")
        save(figure, points.drop(columns="row"), output_stem, "; ".join(note), label)


def _draw(axes: Axes, point: dict, limits: tuple[float, float]) -> None:
    """One row of a panel."""
    row, ends = point["row"], 100 * np.array([point["ci_low"], point["ci_high"]])
    axes.hlines(row, *np.clip(ends, *limits), **_BAR, zorder=2)
    caps = ends[ends == np.clip(ends, *limits)]
    axes.plot(caps, [row] * caps.size, ls="", marker="|", ms=5, mew=1, color=_BAR["color"], zorder=2)
    seeds = 100 * np.array([value for name, value in point.items() if name.startswith("seed")])
    inside = seeds[seeds == np.clip(seeds, *limits)]
    axes.plot(inside, [row] * inside.size, **_SEED, zorder=4)
    for edge, arrow, is_beyond in zip(limits, "<>", (seeds < limits[0], seeds > limits[1]), strict=True):
        if is_beyond.any():
            axes.plot(edge, row, **_SEED | {"marker": arrow, "ms": 4}, clip_on=False, zorder=4)
    style = _MEANS["mean, significant" if point["p_holm"] < SIGNIFICANCE else "mean"]
    axes.plot(100 * point["difference"], row, **style, zorder=3)


def _limits(points: pd.DataFrame) -> tuple[float, float]:
    """Where the axis begins and ends, in points."""
    means, seeds = 100 * points["difference"], 100 * points.filter(regex="^seed")
    farthest = _FARTHEST * means.abs().max()
    shown = np.append(means, seeds.clip(-farthest, farthest))
    low, high = min(np.nanmin(shown), -_LEAST), max(np.nanmax(shown), _LEAST)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _row_name(title: str, system: str, reference: str) -> str:
    if not system:
        return title.removeprefix(SECTION)
    return title if reference == BASELINE else f"{title} (against {reference})"


def _points(
    comparisons: Sequence[Path], metrics: Sequence[Path], rows: Sequence[tuple[str, str, str]], corpora: Sequence[str]
) -> pd.DataFrame:
    """One row per corpus and step, with its place from the top and the difference of each seed."""
    families = {path: read_family(path) for path in comparisons}
    named = [*dict.fromkeys(name for _, *pair in rows for name in pair if name)]
    eers = read_eers(metrics, named, corpora)
    eers = eers[eers["condition"] == "pooled"].set_index(["corpus", "system", "seed"])["eer"].unstack("seed")
    points = []
    for corpus in corpora:
        section = ""
        for row, (title, system, reference) in enumerate(rows):
            if not system:
                section = title.removeprefix(SECTION)
                continue
            key = system, reference, corpus, "eer"
            path = next((path for path, family in families.items() if key in family.index), comparisons[0])
            found = find(path, families[path], *key)
            of_seeds = (eers.loc[corpus, system] - eers.loc[corpus, reference]).add_prefix("seed")
            identity = {"corpus": corpus, "section": section, "step": title, "system": system, "reference": reference}
            points.append({**identity, **found, **of_seeds, "row": row})
    return pd.DataFrame(points)
