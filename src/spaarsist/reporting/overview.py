"""What a run obtained, on one screen of a terminal."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import DECIDES_SCORES, read_metadata, read_table, trials_hash
from spaarsist.code import backends, meaning
from spaarsist.config import ConfigError
from spaarsist.reporting.claims import VERDICTS, counts, read_ledger


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
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["", heading, ""]
    lines += [
        "  ".join(
            cell.ljust(w) if not place else cell.rjust(w)
            for place, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
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


def _eer(row: pd.Series, corpus: str) -> str:
    mean, std = (100 * row[f"{corpus}.eer.{statistic}"] for statistic in ("mean", "std"))
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
        record = json.loads(path.read_text(encoding="utf-8"))
        kind, made_by = record["backend"]["kind"], record["provenance"].get("code_hash")
        # A back-end that is no longer there was made by another state as well
        if kind not in backends() or made_by != meaning(*DECIDES_SCORES, backend=kind):
            found.append(path.parent.relative_to(checkpoints).as_posix())
    return found
