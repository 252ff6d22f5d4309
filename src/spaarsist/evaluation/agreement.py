"""Do two runs of one experiment agree, on whatever machines they were made? Row by row, within their intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from spaarsist.artefacts import read_table, some
from spaarsist.evaluation.changes import KEY
from spaarsist.evaluation.metrics import METRICS
from spaarsist.evaluation.summary import INTERVALS, on, read_summary
from spaarsist.names import ConfigError

SHOWN = 20
"""Disagreements that `render` tells one by one."""

BY_CHANCE = 0.05
"""Share of rows that intervals of 95 % let disagree, at most, where two runs do agree."""


class _Source(NamedTuple):
    """Rows of a file of results: what names them, and their value and interval."""

    key: tuple[str, ...]
    value: str
    low: str = "ci_low"
    high: str = "ci_high"


_COMPARISONS = _Source(("system", "reference", "corpus", "metric"), "difference")
_CHANGES = _Source(tuple(KEY), "value")


def compare_runs(first: Path, second: Path) -> pd.DataFrame:
    """Hold every value that has an interval in one run against the interval that it has in the other.

    Two runs of one experiment have the same trials and the same seeds; their trainings differ as far as the arithmetic
    of their machines does, at most as trainings of other seeds would. A row agrees if its two values lie no further
    apart than the square root of the sum of squares of two half-widths: of each interval, the half that faces the
    other value. That is an interval of the difference of independent estimates, and careful, since both have the same
    trials. Without an interval on both sides only equal values agree.

    Args:
        first, second: folders of results, published or as they were made: `tables/provenance.json`,
            `tables/summary.tsv` and, where the experiment has them, `tables/comparisons/*.tsv`,
            `tables/equivalence.tsv` and `tables/changes.tsv`.

    Returns:
        A row per value: `table` (the file), `row` (what is measured of whom, where), `first.value, first.low,
        first.high`, `second.value, second.low, second.high` (fractions, bits, nats, as in the files) and `agrees`.

    Raises:
        ConfigError: the two are one folder, or of different experiments (configuration, corpora, trial lists), a file
            is missing or unreadable, or one holds a row that the other lacks.
    """
    if first.resolve() == second.resolve():
        raise ConfigError(f"{first} and {second} are one folder; name two runs")
    _refuse_strangers(first, second)
    sides = []
    for run in (first, second):
        tables = run / "tables"
        found = {"summary.tsv": _of_summary(tables / "summary.tsv")}
        for path in sorted((tables / "comparisons").glob("*.tsv")):
            found[f"comparisons/{path.name}"] = _of_file(path, _COMPARISONS)
        for name, source in (("equivalence.tsv", _COMPARISONS), ("changes.tsv", _CHANGES)):
            if (path := tables / name).exists():
                found[name] = _of_file(path, source)
        sides.append(pd.concat(found, names=["table", "row"]))
    for run, other, mine, its in ((first, second, *sides), (second, first, *sides[::-1])):
        if lacking := [f"{table}: {row}" for table, row in its.index.difference(mine.index, sort=False)]:
            raise ConfigError(f"{run}: lacks rows that {other} has ({some(lacking)}); let the run finish, then compare")
    table = sides[0].add_prefix("first.").join(sides[1].add_prefix("second."))
    upwards = table["second.value"] >= table["first.value"]
    halves = [
        (table[f"{run}.high"] - table[f"{run}.value"]).where(up, table[f"{run}.value"] - table[f"{run}.low"])
        for run, up in zip(_RUNS, (upwards, ~upwards), strict=True)
    ]
    within = (table["second.value"] - table["first.value"]).abs() <= np.hypot(*halves) * (1 + 1e-9)
    equal = np.isclose(*(table[f"{run}.value"] for run in _RUNS), rtol=1e-9, atol=0, equal_nan=True)
    known = table[[f"{run}.{end}" for run in _RUNS for end in ("low", "high")]].notna().all(axis=1)
    table["agrees"] = within.where(known, equal)
    return table.reset_index()


_RUNS = ("first", "second")


def render(compared: pd.DataFrame) -> str:
    """Tell how many rows of each table agree, and which do not (the first `SHOWN`), in plain text.

    Args:
        compared: what `compare_runs` returned.
    """
    lines = [f"{'table':32} {'rows':>6} {'agree':>6}"]
    for name, rows in compared.groupby("table", sort=False):
        lines.append(f"{name:32} {len(rows):6} {rows['agrees'].sum():6}")
    apart = compared[~compared["agrees"]]
    for _, row in apart.head(SHOWN).iterrows():
        values = [[row[f"{run}.{part}"] for part in ("value", "low", "high")] for run in _RUNS]
        ours, theirs = (f"{value:.4g} [{low:.4g}, {high:.4g}]" for value, low, high in values)
        lines.append(f"{row['table']}, {row['row']}: {ours} against {theirs}")
    if len(apart) > SHOWN:
        lines.append(f"and {len(apart) - SHOWN} more")
    verdict = f"{len(apart)} of {len(compared)} rows do not agree" if len(apart) else f"All {len(compared)} rows agree"
    chance = f"; chance alone leaves up to {BY_CHANCE:.0%} of intervals of 95 % apart" if len(apart) else ""
    return "\n".join([*lines, "", verdict + chance])


def agree(compared: pd.DataFrame) -> bool:
    """Whether no more rows disagree than chance explains (`BY_CHANCE`)."""
    return bool((~compared["agrees"]).mean() <= BY_CHANCE)


def _refuse_strangers(first: Path, second: Path) -> None:
    """Stop unless both runs are of one configuration, on the same trials."""
    records = []
    for run in (first, second):
        path = run / "tables" / "provenance.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            records.append(
                {"configuration": record["config_hash"], **{f"trials of {c}": t for c, t in record["corpora"].items()}}
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: not a readable record of what a run is of ({error!r}); publish it again"
            ) from None
    one, two = records
    for what in {**one, **two}:
        if one.get(what) != two.get(what):
            shown = [" and ".join(v) if isinstance(v := record.get(what), list) else v or "none" for record in records]
            raise ConfigError(
                f"{first} and {second} are of different experiments: {what}: {shown[0]} and {shown[1]}; compare two "
                "runs of one configuration"
            )


def _of_summary(path: Path) -> pd.DataFrame:
    """Every metric of every system on every corpus: `value`, `low`, `high`."""
    table = read_summary(path)
    low, high = INTERVALS["trials"]
    corpora = [column.removesuffix(".n_seeds") for column in table if column.endswith(".n_seeds")]
    rows = {}
    for corpus in corpora:
        for metric in METRICS:
            columns = [on(corpus, metric, part) for part in ("mean", low, high)]
            if absent := [column for column in columns if column not in table]:
                raise ConfigError(f"{path}: columns missing: {', '.join(absent)}; make it anew")
            numbers = table[columns].apply(pd.to_numeric, errors="coerce")
            if (unreadable := numbers.isna() & table[columns].notna()).any(axis=None):
                system, column = unreadable.stack().idxmax()
                raise ConfigError(f"{path}: {column} of {system} is no number; make it anew")
            rows |= {f"{system} {corpus} {metric}": values for system, *values in numbers.itertuples()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


def _of_file(path: Path, source: _Source) -> pd.DataFrame:
    """Every row of a tidy file: `value`, `low`, `high`."""
    numbers = [source.value, source.low, source.high]
    types = dict.fromkeys(source.key, str) | dict.fromkeys(numbers, float)
    table = read_table(path, [*source.key, *numbers], texts=source.key, dtype=types)
    table.index = [" ".join(row) for row in table[[*source.key]].itertuples(index=False)]
    if twice := [*table.index[table.index.duplicated()]]:
        raise ConfigError(f"{path}: {twice[0]} is in it twice; remove the file and make it again")
    return table[numbers].set_axis(["value", "low", "high"], axis=1)
