"""Figure on calibration: what a calibration fitted on the development corpus does to costs elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from spaarsist.evaluation.calibration import read_seeds
from spaarsist.names import ConfigError
from spaarsist.reporting.figures.style import COLOURS, DASHES, DOT, MARKERS, NAMES, STYLE, head, save, width

# Row of panels -> the quantity at each step, and what the step is
_STEPS: dict[str, dict[str, str]] = {
    "Actual detection cost": {
        "act_dcf": "as scored", "act_dcf_calibrated": "calibrated", "min_dcf": "best\nthreshold"
    },
    "Cllr (bits)": {"cllr": "as scored", "cllr_calibrated": "calibrated"},
}  # fmt: skip
_CHANCE = {"color": "0.4", "ls": (0, (3, 2)), "lw": 0.8}


def calibration(
    calibration: Sequence[Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw what becomes of costs when scores are calibrated on the development corpus: a column per corpus.

    Above: the actual detection cost of the scores as they are and as calibrated, and the least that any threshold would
    give (minDCF); below: Cllr before and after. A line joins the means of a system over training seeds, from step to
    step; where it rises, the calibration did harm. Dots are the seeds, from two on. A mean is missing where a seed has
    no calibration. The dashed line is the cost of a system without knowledge.

    Args:
        calibration: files of `evaluation.calibration.calibrate`.
        systems: names of the systems to draw, at most seven.
        corpora: (name in the files, title) of each column.
        output_stem, label: as in `style.save`. The TSV holds all that `evaluation.calibration.read_seeds` returns.

    Raises:
        ConfigError: there are no or too many systems, a file is unreadable, or a system or corpus is missing.
    """
    if not 0 < len(systems) <= len(MARKERS):
        raise ConfigError(f"a readable figure holds 1 to {len(MARKERS)} systems; got {len(systems)}")
    table = read_seeds(calibration, systems, [name for name, _ in corpora])
    looks = {
        system: {"color": colour, "ls": dashes, "marker": marker, **DOT}
        for system, colour, dashes, marker in zip(systems, COLOURS, DASHES, MARKERS, strict=False)
    }
    with mpl.rc_context(STYLE | {"axes.grid.axis": "y"}):
        figure = Figure(figsize=(width(len(corpora)), 1.2 + 1.8 * len(_STEPS)), layout="constrained")
        panels = figure.subplots(len(_STEPS), len(corpora), squeeze=False, sharex="row", sharey="row")
        for row, (axis, steps) in zip(panels, _STEPS.items(), strict=True):
            for axes, (corpus, _) in zip(row, corpora, strict=True):
                _draw(axes, table.xs(corpus, level="corpus"), steps, looks)
                axes.axhline(1, **_CHANCE, zorder=1)
            row[0].set_xticks(range(len(steps)), [*steps.values()])
            row[0].set_xlim(-0.3, len(steps) - 0.7)
            row[0].set_ylim(0, 1.05 * max(1, *(axes.dataLim.y1 for axes in row)))
            row[0].set_ylabel(axis)
        for axes, (_, title) in zip(panels[0], corpora, strict=True):
            axes.set_title(title, parse_math=False)
        styles = {NAMES.get(system, system): style for system, style in looks.items()}
        head(figure, "What a calibration on the development corpus is worth elsewhere",
             styles | {"a system without knowledge": _CHANCE}, ncols=3)  # fmt: skip
        save(figure, table.reset_index(), output_stem, _note(table), label)


def _draw(axes: Axes, table: pd.DataFrame, steps: Mapping[str, str], looks: Mapping[str, Mapping]) -> None:
    """A line per system of one corpus, with a dot per seed at each step; systems stand beside each other."""
    places = np.arange(len(steps))
    for index, (system, style) in enumerate(looks.items()):
        seeds = table.loc[system, [*steps]].to_numpy(float)
        beside = offset_copy(axes.transData, axes.figure, x=3 * index - 1.5 * (len(looks) - 1), units="points")
        if len(seeds) > 1:
            axes.plot(places, seeds.T, ".", ms=4, mec="none", color=style["color"], alpha=0.6, transform=beside)
        axes.plot(places, seeds.mean(axis=0), **style, transform=beside, zorder=3)
        heights = seeds[np.isfinite(seeds)]
        axes.update_datalim([(0, height) for height in heights])


def _note(table: pd.DataFrame) -> str:
    notes = ["The development corpus has also chosen each training's epoch"]
    slopes = table["slope"].groupby(["system", "seed"], sort=False).first().groupby("system", sort=False)
    if (counts := sorted({*slopes.size()})) == [1]:
        notes.append("one training seed")
    else:
        n = ", ".join(map(str, counts))
        notes.append(f"lines join means over training seeds (n\u00a0=\u00a0{n}), dots are the seeds")
    means = slopes.mean().where(slopes.count() == slopes.size())
    if turned := [*means.index[means < 0]]:
        notes.append(f"a negative slope turned the scores of {', '.join(turned)}")
    if separable := [*means.index[means.isna()]]:
        names = ", ".join(separable)
        notes.append(f"no calibration of {names}: a threshold separates the development corpus's classes")
    return "; ".join(notes)
