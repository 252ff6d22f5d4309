"""Figures of differences between systems, with their intervals and what is significant."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby, zip_longest
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from spaarsist.evaluation.comparison import SIGNIFICANCE
from spaarsist.names import BASELINE, ConfigError, System
from spaarsist.reporting.figures.style import COLOURS, NAMES, STYLE, TEXT_WIDTH, look, save
from spaarsist.reporting.tables.differences import find, read_family
from spaarsist.reporting.tables.layout import SECTION

_METRICS = {
    "eer": ("EER (points)", 100), "min_dcf": ("minDCF", 1), "act_dcf": ("actDCF", 1), "cllr": ("Cllr (bits)", 1)
}  # fmt: skip


def differences(
    comparisons: Path,
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    metric: str = "eer",
) -> None:
    """Draw how each system differs from the baseline; see `ablation`. Rows are grouped by k in training.

    Args:
        comparisons: file of `evaluation.comparison.compare`, which holds every system against the baseline.
        systems: names of the systems, from top to bottom within their group; the baseline is left out.
        corpora, output_stem, label, metric: as in `ablation`.

    Raises:
        ConfigError: as `ablation`, or there is no system beside the baseline.
    """
    parsed = sorted((System.parse(name) for name in systems if name != BASELINE), key=_group)
    steps: list[tuple[str, str, str]] = []
    for (_, heading), members in groupby(parsed, key=_group):
        steps.append((SECTION + heading, "", ""))
        steps += [(NAMES.get(system.name, system.name), system.name, BASELINE) for system in members]
    ablation(comparisons, steps, corpora, output_stem, label, metric)


def _group(system: System) -> tuple[float, str]:
    """Key and heading of a system's group: falling k in training, then what has none."""
    k = system.k_train
    return (0, "Other back-ends") if k is None else (-k, f"Trained with k = {k:g}")


def ablation(
    comparisons: Path,
    steps: Sequence[tuple[str, str, str]],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    metric: str = "eer",
) -> None:
    """Draw differences from a reference with their confidence intervals: a row per step, a panel per corpus.

    Marks are filled where the difference is significant after correction, and open where it is not.

    Args:
        comparisons: file of `evaluation.comparison.compare`, which holds every step's system against its reference.
        steps: (title, system, reference) of each row, from top to bottom; one whose system is its reference is left
            out; ("# heading", "", "") stands above a group, if it has one. References are named, but for the baseline.
        corpora: (name in the file, title) of each panel.
        output_stem, label: as in `style.save`. The TSV holds a row per corpus and step: `corpus, section, step, system,
            reference, metric, difference, ci_low, ci_high, n_seeds, n_speakers, p, p_holm`, fractions.
        metric: `eer`, `min_dcf`, `act_dcf` or `cllr`; the last two are not tested, so that no mark is filled.

    Raises:
        ConfigError: the metric is unknown, the file is unreadable or lacks a comparison, or there is none to draw.
    """
    if metric not in _METRICS:
        raise ConfigError(f"differences of {metric!r} are not compared; take one of {', '.join(_METRICS)}")
    rows = [step for step in steps if not step[1] or step[1] != step[2]]
    rows = [row for row, below in zip_longest(rows, rows[1:], fillvalue=("",) * 3) if row[1] or below[1]]
    if not rows:
        raise ConfigError("no system was named that has a reference other than itself")
    family = read_family(comparisons)
    points = _points(comparisons, family, rows, [name for name, _ in corpora], metric)
    name, scale = _METRICS[metric]
    against = BASELINE if {*points["reference"]} == {BASELINE} else "the reference"
    kinds = {"significant": look(COLOURS[0], 1, "o"), "not significant": look(COLOURS[0], 0, "o")}
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x", "ytick.major.size": 0}):
        figure = Figure(figsize=(TEXT_WIDTH, 1 + 0.14 * len(rows)), layout="constrained")
        panels = figure.subplots(1, len(corpora), squeeze=False, sharey=True)[0]
        for axes, (corpus, title) in zip(panels, corpora, strict=True):
            axes.axvline(0, color="0.3", lw=0.9, zorder=1)
            for point in points[points["corpus"] == corpus].itertuples():
                axes.hlines(point.row, scale * point.ci_low, scale * point.ci_high, color=COLOURS[0], lw=1, zorder=2)
                kind = "significant" if point.p_holm < SIGNIFICANCE else "not significant"
                axes.plot(scale * point.difference, point.row, **kinds[kind] | {"ms": 4}, zorder=3)
            axes.set_title(textwrap.fill(title, 26), parse_math=False)
            axes.set_xlabel(f"Δ {name}")
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        panels[0].set_yticks(range(len(rows)), [_row_name(*row) for row in rows])
        for text, (_, system, _) in zip(panels[0].get_yticklabels(), rows, strict=True):
            text.set(weight="normal" if system else "bold", parse_math=False)
        seeds = ", ".join(f"{n:g}" for n in sorted({*points["n_seeds"]}))
        notes = [f"Δ: paired difference from {against} with its confidence interval", "left of zero: better"]
        notes.append(f"seeds: {seeds}")
        if points["p_holm"].notna().any():
            handles = [Line2D([], [], ls="", **style | {"ms": 4}) for style in kinds.values()]
            figure.legend(handles, [*kinds], loc="outside upper center", ncols=2)
            n_tests = int(family["p_holm"].notna().sum())
            notes.append(f"significant: p < {SIGNIFICANCE:g} after Holm's correction for {n_tests} tests")
        else:
            notes.append("not tested")
        save(figure, points.drop(columns="row"), output_stem, "; ".join(notes), label)


def _row_name(title: str, system: str, reference: str) -> str:
    if not system:
        return title.removeprefix(SECTION)
    return title if reference == BASELINE else f"{title} (against {reference})"


def _points(
    path: Path, family: pd.DataFrame, rows: Sequence[tuple[str, str, str]], corpora: Sequence[str], metric: str
) -> pd.DataFrame:
    """One row per corpus and step, with its place from the top."""
    points = []
    for corpus in corpora:
        section = ""
        for row, (title, system, reference) in enumerate(rows):
            if not system:
                section = title.removeprefix(SECTION)
                continue
            found = find(path, family, system, reference, corpus, metric)
            identity = {"corpus": corpus, "section": section, "step": title, "system": system, "reference": reference}
            points.append({**identity, "metric": metric, **found, "row": row})
    return pd.DataFrame(points)
