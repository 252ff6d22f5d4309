"""Table of what calibration and thresholds from the development corpus are worth on other corpora."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import some
from spaarsist.evaluation.calibration import read_calibration
from spaarsist.names import System
from spaarsist.reporting.tables import layout

# quantity -> heading, factor, decimals, whether its spread over seeds is shown
_SHOWN = {
    "min_dcf": ("minDCF", 1, 3, False),
    "act_dcf": ("actDCF", 1, 3, False),
    "act_dcf_calibrated": ("calibrated", 1, 3, True),
    "cllr": ("Cllr", 1, 3, False),
    "cllr_calibrated": ("calibrated", 1, 3, True),
    "p_miss_at_dev_eer": ("miss %", 100, 1, True),
    "p_fa_at_dev_eer": ("FA %", 100, 1, True),
}


def write_calibration(
    calibration: Sequence[Path],
    systems: Sequence[str],
    output_stem: Path,
    corpora: Sequence[tuple[str, str]],
    label: str = "",
    footer: str = "",
) -> None:
    """Write the table as `<output_stem>.tsv` (for machines), `.md`, `.tex` and `.html` (for readers).

    A row per system: the slope of its affine map; on each corpus the lowest detection cost, the actual one and Cllr
    before and after calibration, and both error rates at the development corpus's EER threshold. Means over training
    seeds, from two seeds on with standard deviations (n - 1) of what no other table shows. The TSV has a row per system
    and corpus and all that `evaluation.calibration.read_calibration` returns.

    Args:
        calibration: files of `evaluation.calibration.calibrate`.
        systems: rows, in order; those of one training under its heading.
        corpora: (name in the files, title) of each corpus to show, in order.
        output_stem, label, footer: as in `layout.write`.

    Raises:
        ConfigError: a file is unreadable, or a system or corpus is missing.
    """
    names = [name for name, _ in corpora]
    table = read_calibration(calibration, systems, names)
    heads = [("", "System"), ("", "Slope")]
    heads += [(title, heading) for _, title in corpora for heading, *_ in _SHOWN.values()]
    rows = []
    for training, members in groupby(systems, _training):
        rows.append((f"{layout.SECTION}{training}", *[""] * (len(heads) - 1)))
        for system in members:
            cells = [_cell(table.loc[system, names[0]], "slope", 1, 2, True)]
            cells += [_cell(table.loc[system, name], q, *how) for name in names for q, (_, *how) in _SHOWN.items()]
            rows.append((system, *cells))
    layout.write(
        output_stem,
        table.reset_index(),
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Calibration and threshold transfer",
        subject="Scores calibrated, and thresholds chosen, on the development corpus.",
        notes=_notes(table),
        tex_label="tab:calibration",
        label=label,
        footer=footer,
        marked=layout.known(rows),
    )


def _training(system: str) -> str:
    named = System.parse(system)
    return f"Variants of {named.trained}" if named.variant else "Other back-ends"


def _cell(row: pd.Series, quantity: str, factor: float, decimals: int, with_spread: bool) -> str:
    mean, std = (factor * row[f"{quantity}.{statistic}"] for statistic in ("mean", "std"))
    return layout.mean_text(mean, std if with_spread else math.nan, decimals)


def _notes(table: pd.DataFrame) -> str:
    """How to read the table, and what in it needs a word."""
    sentences = [
        "Calibrated: after an affine map of the scores (slope: its factor) that logistic regression fitted on the "
        "development corpus, both classes counting alike.",
        "minDCF: the normalised detection cost of the best threshold, which calibration leaves alone; actDCF: that of "
        "Bayes' threshold, scores taken as log-likelihood ratios. Cllr is in bits; a system without any knowledge "
        "has 1.",
        "Miss, FA: bona fide trials rejected and spoofs accepted at the threshold of the development corpus's EER.",
        "The development corpus has also chosen each training's epoch.",
    ]
    counts = sorted({*table["n_seeds"]})
    if counts == [1]:
        sentences.append("One training seed.")
    else:
        n = ", ".join(map(str, counts))
        sentences.append(
            f"Means over training seeds (n = {n}), ± standard deviation (rough) of what Tables 1 and 2 do not show."
        )
    slopes = table["slope.mean"].droplevel("corpus")
    if turned := some(slopes.index[slopes < 0], 5):
        sentences.append(
            f"A negative slope ({turned}): on the development corpus these scores are higher for spoofs, and the map "
            "reverses them; their minDCF is of the scores as they are."
        )
    if separable := some(slopes.index[slopes.isna()], 5):
        sentences.append(
            f"– ({separable}): with at least one seed a threshold separates the classes of the development corpus, so "
            "that logistic regression has no finite answer."
        )
    return " ".join(sentences)
