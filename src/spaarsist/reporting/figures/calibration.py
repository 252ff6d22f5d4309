"""Figure on calibration: costs before and after, and what thresholds of the development corpus do elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spaarsist.evaluation.calibration import read_calibration
from spaarsist.names import ConfigError
from spaarsist.reporting.figures.style import COLOURS, STYLE, TEXT_WIDTH, look, part_rows, save

_LOOKS = {
    "scores as they are": look(COLOURS[0], 0, "o"),
    "calibrated on the development corpus": look(COLOURS[0], 1, "o"),
    "the best threshold (minDCF)": {"marker": "|", "ms": 9, "mew": 1.4, "color": "0.1"},
    "bona fide rejected": look(COLOURS[2], 1, "s"),
    "spoofs accepted": look(COLOURS[3], 0, "D") | {"ms": 4.2},
}
_CHANCE = {"color": "0.4", "ls": (0, (3, 2)), "lw": 0.8}
_BEFORE, _AFTER, _LOWEST, _MISS, _FALSE_ALARM = _LOOKS

# Axis -> factor of the values, quantity -> what it is
_ROWS: dict[str, tuple[float, dict[str, str]]] = {
    "Actual detection cost (normalised)": (
        1, {"act_dcf": _BEFORE, "act_dcf_calibrated": _AFTER, "min_dcf": _LOWEST},
    ),
    "Cllr (bits)": (1, {"cllr": _BEFORE, "cllr_calibrated": _AFTER}),
    "Error rates (%) at the threshold of the development corpus's EER": (
        100, {"p_miss_at_dev_eer": _MISS, "p_fa_at_dev_eer": _FALSE_ALARM},
    ),
    "Error rates (%) at the threshold of the development corpus's minDCF": (
        100, {"p_miss_at_dev_min_dcf": _MISS, "p_fa_at_dev_min_dcf": _FALSE_ALARM},
    ),
}  # fmt: skip
_HEIGHTS = {_BEFORE: -0.17, _AFTER: 0.17, _LOWEST: 0, _MISS: -0.17, _FALSE_ALARM: 0.17}  # in lines; down is positive


def calibration(
    calibration: Sequence[Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw what maps and thresholds that were chosen on the development corpus are worth: a column per corpus.

    Rows of panels: the actual detection cost before and after calibration, beside the lowest; Cllr before and after;
    both error rates at the threshold of the development corpus's EER, and of its minDCF. A panel has a line per system.
    Marks are means over training seeds; bars, from two seeds on, reach one standard deviation (n - 1) to either side.

    Args:
        calibration: files of `evaluation.calibration.calibrate`.
        systems: names of the systems to draw, some six, from top to bottom.
        corpora: (name in the files, title) of each column. The development corpus may be one of them; put first, it
            shows where the thresholds come from.
        output_stem, label: as in `style.save`. The TSV holds all that `evaluation.calibration.read_calibration`
            returns.

    Raises:
        ConfigError: no system was named, a file is unreadable, or a system or corpus is missing.
    """
    if not systems:
        raise ConfigError("no system was named whose calibration could be drawn")
    table = read_calibration(calibration, systems, [name for name, _ in corpora])
    with mpl.rc_context(STYLE):
        heights = [0.45 + 0.17 * len(systems) + extra for extra in (0.35, 0, 0, 0)]  # of the rows, in inches
        figure = Figure(figsize=(TEXT_WIDTH, 0.7 + sum(heights)), layout="constrained")
        parts = figure.subfigures(len(_ROWS), height_ratios=heights)
        for part, (axis, (factor, quantities)) in zip(parts, _ROWS.items(), strict=True):
            part.supxlabel(axis, fontsize=8)
            line = part.subplots(1, len(corpora), squeeze=False, sharex=True, sharey=True)[0]
            ends = [
                _draw(axes, table.xs(corpus, level="corpus"), factor, quantities)
                for axes, (corpus, _) in zip(line, corpora, strict=True)
            ]
            line[0].set_xlim(0, 1.04 * (100 if factor == 100 else max(1, *ends)))
            if axis == next(iter(_ROWS)):
                for axes, (_, title) in zip(line, corpora, strict=True):
                    axes.set_title(title.replace(" (", "\n("))
        handles = [Line2D([], [], ls="", **style) for style in _LOOKS.values()]
        names = [*_LOOKS, "a system without knowledge"]
        figure.legend([*handles, Line2D([], [], **_CHANCE)], names, loc="outside upper center", ncols=3)
        save(figure, table.reset_index(), output_stem, _note(table), label)


def _draw(axes: Axes, table: pd.DataFrame, factor: float, quantities: dict[str, str]) -> float:
    """Draw the marks of one corpus, a line per system; returns how far right they reach."""
    lines, ends = np.arange(len(table)), [0.0]
    for quantity, name in quantities.items():
        mean, std = (factor * table[f"{quantity}.{statistic}"].to_numpy() for statistic in ("mean", "std"))
        low, high = np.clip([mean - std, mean + std], 0, 100 if factor == 100 else None)
        heights = lines + _HEIGHTS[name]
        if name != _LOWEST:
            axes.hlines(heights, low, high, color=_LOOKS[name]["mec"], lw=0.8, alpha=0.6)
        axes.plot(mean, heights, ls="", **_LOOKS[name], clip_on=False, zorder=3)
        ends += [*mean, *high]
    if factor == 1:
        axes.axvline(1, **_CHANCE, zorder=1)
    part_rows(axes, table.index)
    axes.xaxis.set_major_formatter("{x:g}")
    return float(np.nanmax(ends))


def _note(table: pd.DataFrame) -> str:
    notes = ["The development corpus has also chosen each training's epoch"]
    if (counts := sorted({*table["n_seeds"]})) == [1]:
        notes.append("one training seed")
    else:
        n = ", ".join(map(str, counts))
        notes.append(f"means over training seeds (n\u00a0=\u00a0{n}), bars: ± standard deviation, rough")
    slopes = table["slope.mean"].groupby("system", sort=False).first()
    if turned := [*slopes.index[slopes < 0]]:
        notes.append(f"a negative slope turned the scores of {', '.join(turned)}")
    if separable := [*slopes.index[slopes.isna()]]:
        names = ", ".join(separable)
        notes.append(f"no calibration of {names}: a threshold separates the development corpus's classes")
    return "; ".join(notes)
