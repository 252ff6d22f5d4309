"""Table of the questions that were asked before the run, and of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.evaluation.comparison import ANSWERS
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.layout import SECTION, interval, number, write

_UNITS = {"eer": ("EER, points", 100, 2), "min_dcf": ("minDCF", 1, 3)}
"""Metric -> what its differences are called, factor, decimals."""


def write_questions(
    answers: Path,
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    confidence: float = 0.95,
    footer: str = "",
) -> None:
    """Write the table: a row per question and corpus, with the difference, its interval, the margin and the verdict.

    The TSV is `answers`, a row per question and corpus.

    Args:
        answers: file of `evaluation.comparison.answer`.
        corpora: (name in the file, title) of each, in order.
        output_stem, label, footer: as in `layout.write`.
        confidence: 1 - level of each of its one-sided tests.

    Raises:
        ConfigError: the file is unreadable, or lacks a column or a corpus.
    """
    texts, numbers = ("question", "system", "reference", "corpus", "metric", "verdict"), ("margin", "difference")
    table = read_table(answers, ANSWERS, texts, numbers, dtype=dict.fromkeys(texts, str))
    if absent := [name for name, _ in corpora if name not in {*table["corpus"]}]:
        raise ConfigError(f"{answers}: holds no answer on {', '.join(absent)}; make it anew")
    titles, rows = dict(corpora), []
    for asks, of_question in table.groupby("question", sort=False):
        first = of_question.iloc[0]
        rows.append([f"{SECTION}{asks} {first['system']} against {first['reference']}", *[""] * 5])
        for corpus, title in titles.items():
            for row in of_question[of_question["corpus"] == corpus].itertuples():
                unit, scale, digits = _UNITS[row.metric]
                low, high = row.ci_low * scale, row.ci_high * scale
                shown = [number(row.difference * scale, digits, "+"), interval(low, high, digits, "+")]
                rows.append([title, unit, *shown, f"±{number(row.margin * scale, digits)}", row.verdict])
    seeds = ", ".join(f"{n:g}" for n in sorted({*table["n_seeds"]}))
    write(
        output_stem,
        table,
        pd.DataFrame(rows, columns=["Corpus", "Metric", "Difference", "Interval", "Margin", "Verdict"]),
        heading="Questions asked before the run",
        subject="Is a system as good as another? The margins were declared in the configuration.",
        notes=f"Two one-sided tests at {100 - 100 * confidence:g} % each, paired over training seeds (n = {seeds}) and "
        "trials, or speakers where that is more careful. Equivalent: the whole "
        f"{200 * confidence - 100:g} % interval of the difference lies within the margin; different: all of it lies "
        "outside; inconclusive: neither. Below zero the first system is better. Each question is judged by itself.",
        tex_label="tab:questions",
        label=label,
        footer=footer,
    )
