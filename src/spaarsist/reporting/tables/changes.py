"""Table of what each variant does to the trials, against the system as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from spaarsist.evaluation.changes import KEY, read_changes
from spaarsist.names import ConfigError, System
from spaarsist.reporting.tables.layout import SECTION, interval, number, write

_SHOWN = {
    "score_change": ("|Δ score|, nats", 1, 3),
    "rank_correlation": ("rank ρ", 1, 3),
    "flipped": ("flipped %", 100, 1),
    "flipped_retuned": ("retuned %", 100, 1),
}
"""Quantity -> heading, factor, decimals."""


def write_changes(
    changes: Sequence[Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    confidence: float = 0.95,
    footer: str = "",
) -> None:
    """Write the table: a row per variant under its training, each quantity with its interval on each corpus.

    The TSV has the rows of `changes` that are shown.

    Args:
        changes: files of `evaluation.changes.measure`.
        systems: rows, in order; those of one training under its heading.
        corpora: (name in the files, title) of each, in order.
        output_stem, label, footer: as in `layout.write`.
        confidence: of the intervals.

    Raises:
        ConfigError: a file is unreadable, or a system or corpus is missing.
    """
    table = read_changes(changes).reset_index("reference")
    heads = [("", "System"), *((title, heading) for _, title in corpora for heading, *_ in _SHOWN.values())]
    rows, keys = [], []
    for trained, members in groupby(systems, lambda system: System.parse(system).trained):
        rows.append([f"{SECTION}{trained}", *[""] * (len(heads) - 1)])
        for system in members:
            cells = [system]
            for corpus, _ in corpora:
                for quantity, (_, scale, digits) in _SHOWN.items():
                    if (key := (system, corpus, quantity)) not in table.index:
                        raise ConfigError(f"the files of changes hold nothing of {system} on {corpus!r}: {quantity}")
                    keys.append(key)
                    value, low, high = (scale * table.loc[key, part] for part in ("value", "ci_low", "ci_high"))
                    ends = "" if pd.isna(low) else f"\n{interval(low, high, digits)}"
                    cells.append(number(value, digits) + ends)
            rows.append(cells)
    shown = table.loc[keys]
    seeds = ", ".join(f"{n:g}" for n in sorted({*shown["n_seeds"]}))
    references = ", ".join(dict.fromkeys(shown["reference"]))
    write(
        output_stem,
        shown.reset_index()[[*KEY, *shown.columns.drop("reference")]],
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="What variants change",
        subject="Every variant against the system as it was trained, trial by trial.",
        notes=f"Against {references}: mean distance of scores, Spearman's rank correlation of scores, and the share of "
        "trials on which accepting or rejecting changes: both at the development threshold (EER) of the system as "
        f"trained (flipped), or each at its own (retuned). Means over training seeds (n = {seeds}), each with its own "
        f"thresholds; {100 * confidence:g} % intervals over seeds and trials, or speakers where these are wider; none "
        "where a value lies at the end of its range.",
        tex_label="tab:changes",
        label=label,
        footer=footer,
    )
