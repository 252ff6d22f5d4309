"""What a run obtained, or the facts without one, on one screen of a terminal."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import DECIDES_SCORES, read_metadata, read_record, read_table, trials_hash
from spaarsist.code import backends, meaning
from spaarsist.config import ConfigError
from spaarsist.evaluation.comparison import TESTED
from spaarsist.evaluation.side_by_side import Evaluation
from spaarsist.evaluation.summary import on, values_of
from spaarsist.names import BASELINE, LIGHT, PAPER_FRAMES
from spaarsist.reporting.claims import VERDICTS, counts, read_ledger
from spaarsist.reporting.tables.facts import COUNTED, PRINTED, read_counts
from spaarsist.reporting.tables.layout import MOST_VALUES, interval, number, p_text

EVALUATED = {
    "eer": ("EER %", 100, 2),
    "min_dcf": ("minDCF", 1, 3),
    "act_dcf": ("actDCF", 1, 3),
    "cllr": ("Cllr (bits)", 1, 3),
}
"""Metrics that `evaluated` shows -> heading, factor, decimals."""


def overview(results: Path) -> str:
    """Tell the main results of an experiment: rows of Table 2, verdicts on the paper's claims, and where the rest lies.

    What is not as it seems is named: corpora whose trial list has changed since it was scored, and trainings that were
    made by another state of the code, which nothing makes anew unasked.

    Args:
        results: folder of the experiment, with `tables/`.

    Raises:
        ConfigError: the folder holds no finished tables.
    """
    tables = results / "tables"
    if not (tables / "table2.tsv").exists():
        raise ConfigError(f"{results}: holds no tables yet; `snakemake --cores all` makes them")
    table = read_table(tables / "table2.tsv", ["system", "n_params", "n_macs"]).set_index("system")
    heading = (tables / "table2.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    corpora = [column.removesuffix(".eer.mean") for column in table if column.endswith(".eer.mean")]
    rows = [["system", "parameters", "MACs (M)", *(f"EER %, {corpus}" for corpus in corpora)]]
    rows += [
        [str(name), f"{row['n_params']:,.0f}", f"{row['n_macs'] / 1e6:.1f}", *(_eer(row, corpus) for corpus in corpora)]
        for name, row in table.iterrows()
    ]
    lines = ["", heading, "", *_aligned(rows)]
    tally = counts(read_ledger(tables / "claims.tsv"))["C"]
    verdicts = ", ".join(f"{tally[verdict]} {verdict}" for verdict in VERDICTS if tally[verdict])
    lines += ["", f"The paper's claims: {verdicts} (spaarsist claims {results})"]
    lines += [f"All {len([*tables.glob('*.md')])} tables: {tables}/, {tables / 'table1.md'} first"]
    lines += [f"All {len([*(results / 'figures').glob('*.png')])} figures: {results / 'figures'}/"]
    for corpus in _outdated(results):
        lines += ["", f"{corpus}: its trial list has changed since it was scored; run the same command again."]
    if stale := _stale(results / "checkpoints"):
        lines += ["", f"Kept, though made by another state of the code than this one: {', '.join(stale)}."]
        lines += ["To train them anew, delete their folders in checkpoints/ and run the same command."]
    return "\n".join(lines)


def facts(folder: Path) -> str:
    """Tell the main facts of `spaarsist facts`: what the paper's MACs count, and what saves more.

    Args:
        folder: that it wrote.

    Raises:
        ConfigError: the folder lacks a table.
    """
    macs = read_counts(folder / "counts.tsv")
    n_params = read_table(folder / "counts.tsv", ["system", "n_params"]).drop_duplicates("system")
    n_params = n_params.set_index("system")["n_params"]
    found = read_table(folder / "facts.tsv", ["fact", "verdict"])
    rows = [["", "parameters", f"linear layers, {PAPER_FRAMES} frames", "the paper", "everything, 201 frames"]]
    for system, name in COUNTED.items():
        linear, whole = ((convention, n) for convention, n in (("linear_head", PAPER_FRAMES), ("whole", 201)))
        counted = [
            f"{macs[system, *way]:,}" + _saved(macs[system, *way], macs[BASELINE, *way]) for way in (linear, whole)
        ]
        printed = f"{PRINTED[system]:.3f} M" if system in PRINTED else ""
        rows.append([name, f"{n_params[system]:,}", counted[0], printed, counted[1]])
    light, whole = macs[LIGHT, "whole", 201], macs[BASELINE, "whole", 201]
    return "\n".join(
        [
            "",
            "What the MACs of the paper count",
            "",
            *_aligned(rows),
            "",
            "The paper's numbers are the multiply-adds of linear layers alone, in back-end and head, at",
            f"{PAPER_FRAMES} frames (8.75 s): both to the last digit. The convolutions, most of the work, are not in",
            "them, and are not sparsified. The row of rank 1 has the MACs of Mag and the size of MagMean.",
            f"Sparsify or shrink? AASIST-L, of 2022, saves {100 * (1 - light / whole):.0f} % of everything.",
            "",
            f"Facts about paper and released code: {sum(found['verdict'] == 'shown')} of {len(found)} shown.",
            f"{folder}/: facts.md, macs.md, saving.md (and .tsv, .tex, .html); where_the_work_is.png,",
            "saving_against_length.png (and .pdf, .tsv)",
        ]
    )


def evaluated(evaluation: Evaluation, confidence: float, n_resamples: int) -> str:
    """Tell how systems do on the trials of a key, and how they differ from the first.

    Args:
        evaluation: of these systems.
        confidence: of its intervals.
        n_resamples: that these rest on.
    """
    found = evaluation.metrics.set_index(["system", "metric"])
    n_bonafide, n_spoof = found[["n_bonafide", "n_spoof"]].iloc[0].astype(int)
    rows = [["system", *(heading for heading, _, _ in EVALUATED.values())]]
    for system in found.index.unique("system"):
        cells = []
        for metric, (_, scale, digits) in EVALUATED.items():
            value, *ends = scale * found.loc[(system, metric), ["value", "ci_low", "ci_high"]]
            cells.append(f"{number(value, digits)} {interval(*ends, digits)}")
        rows.append([system, *cells])
    lines = [f"{n_bonafide:,} bona fide trials, {n_spoof:,} spoofs", "", *_aligned(rows), ""]
    lines += [
        f"{100 * confidence:g} % intervals over trials, {n_resamples:,} resamples. EER and minDCF need the order",
        "of scores alone; actDCF and Cllr take them for log-likelihood ratios in nats.",
    ]
    if evaluation.comparisons.empty:
        return "\n".join(lines)
    compared = evaluation.comparisons.set_index(["system", "metric"])
    rows = [[f"difference from {compared['reference'].iloc[0]}"]]
    rows[0] += [cell for metric in TESTED for cell in (EVALUATED[metric][0], "p (Holm)")]
    for system in compared.index.unique("system"):
        cells = []
        for metric in TESTED:
            _, scale, digits = EVALUATED[metric]
            row = compared.loc[(system, metric)]
            value, *ends = (scale * row[end] for end in ("difference", "ci_low", "ci_high"))
            cells += [f"{number(value, digits, '+')} {interval(*ends, digits, '+')}", p_text(row["p_holm"])]
        rows.append([system, *cells])
    return "\n".join([*lines, "", *_aligned(rows)])


def _saved(n_macs: int, baseline: int) -> str:
    return f" ({100 * (n_macs / baseline - 1):+5.1f} %)".replace("-", "−") if n_macs != baseline else " " * 10


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines of a table: the first column flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(w) if place else cell.ljust(w) for place, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _eer(row: pd.Series, corpus: str) -> str:
    mean, std = (100 * row[on(corpus, "eer", statistic)] for statistic in ("mean", "std"))
    values = [100 * value for value in values_of(row, corpus, "eer")]
    if 1 < len(values) <= MOST_VALUES:
        return f"{mean:.1f} ({min(values):.1f} to {max(values):.1f})"
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"


def _outdated(results: Path) -> list[str]:
    """Corpora whose trial list has another content than the one that was scored."""
    found = []
    for trials in sorted((results / "trials").glob("*.tsv")):
        scored = {
            read_metadata(path).get("trial_list") for path in (results / "scores").glob(f"*/*/{trials.stem}.parquet")
        }
        if scored - {trials_hash(trials)}:
            found.append(trials.stem)
    return found


def _stale(checkpoints: Path) -> list[str]:
    """Trainings whose code has changed in meaning since."""
    found = []
    for path in sorted(checkpoints.glob("*/seed*/model.json")):
        record = read_record(path)
        kind, made_by = record["backend"]["kind"], record["provenance"].get("code_hash")
        # A back-end that is no longer there was made by another state as well
        if kind not in backends() or made_by != meaning(*DECIDES_SCORES, backend=kind):
            found.append(path.parent.relative_to(checkpoints).as_posix())
    return found
