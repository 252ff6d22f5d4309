"""One row per system: its size, its compute, and the mean of each metric over training seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spaarsist.artefacts import read_metadata, read_table, writing
from spaarsist.evaluation.evaluate import Replicates, read_replicates
from spaarsist.evaluation.statistics import LOG, LOGIT, interval_of_mean
from spaarsist.names import ConfigError, System

IDENTITY = (
    "trained", "k_train", "k_infer", "variant", "graph_temperature", "stack_temperature",
    "trained_graph_temperature", "trained_stack_temperature", "trained_variant",
)  # fmt: skip
SIZE = (
    *("n_params", "n_macs", "n_macs_linear", "n_macs_frontend", "counter", "n_frames", "feature_dim", "n_layers"),
    "embedding_dim",
)
RUN = ("n_params_as_run", "code_hash")
INTERVALS = {"trials": ("ci_low", "ci_high"), "speakers": ("speakers_low", "speakers_high")}
"""Way of resampling -> names of the ends of its interval."""

SCALES = dict.fromkeys(("eer", "min_dcf", "ece", "min_cllr"), LOGIT)
"""Metrics that lie between 0 and 1; the others lie above 0 (`LOG`)."""

STATISTICS = ("mean", "std", *INTERVALS["trials"], *INTERVALS["speakers"])
VALUES = "seeds"
"""Statistic that holds the value of every seed, as text; see `values_of`."""

COUNTS = ("n_seeds", "n_speakers")


def on(corpus: str, quantity: str, statistic: str = "mean") -> str:
    """Name the summary's column of a metric's statistic (`STATISTICS`, `VALUES`) or of one of `COUNTS` on a corpus."""
    return f"{corpus}.{quantity}" if quantity in COUNTS else f"{corpus}.{quantity}.{statistic}"


def summarise(
    metrics: Sequence[Path],
    complexity: Sequence[Path],
    as_run: Sequence[Path],
    scores: Sequence[Path],
    replicates: Sequence[Path],
    output: Path,
    confidence: float = 0.95,
) -> None:
    """Write the summary that every table, figure and verdict on systems is made from.

    Columns: `system`; what its name says (`trained, k_train, k_infer, variant, graph_temperature, stack_temperature,
    trained_graph_temperature, trained_stack_temperature, trained_variant`, empty where it has none); `n_params, n_macs,
    n_macs_linear, n_macs_frontend, counter, n_frames, feature_dim, n_layers, embedding_dim` of the size that is
    counted; `n_params_as_run`, of the back-end that gave the scores; `code_hash` of the training and the scoring,
    joined by + if there are several (both empty where not given); and for each corpus, named by `on`, n_seeds,
    n_speakers (0 where not known) and the statistics of each metric: mean, std (n - 1 over seeds; empty for one),
    ci_low, ci_high, speakers_low, speakers_high, and seeds (the value of each, in the order of the seeds, with spaces
    between). Fractions, pooled over all trials. Rows come in the order of `System.order`.

    The intervals are those of a mean over seeds that are a sample, on trials (or speakers) that are one as well; see
    `interval_of_mean`. The variance over test material is that of the bootstrap's replicates, each the mean of all
    seeds' metrics on one draw. `SCALES` tells why no interval leaves its metric's range. Without replicates they are
    empty, but for ci_low and ci_high of one seed, which its metrics hold.

    Args:
        metrics: files of `evaluation.evaluate.evaluate`, any mix of systems, seeds and corpora.
        complexity: files of `audit.complexity.write_complexity`; every system needs a row.
        as_run: files of `write_complexity` at the size of this run; may lack systems.
        scores: the score files that the metrics were made from.
        replicates: what `evaluate` wrote beside the metrics; of a training and corpus, those of all seeds or none.
        output: TSV to write.
        confidence: of the intervals, in (0, 1).

    Raises:
        ConfigError: a file is unreadable or lacks columns, a system has no size, two files contradict each other,
            replicates of a seed are missing, or those of two seeds cannot be paired.
    """
    key = ["system", "corpus", "metric"]
    results = _read(metrics, ["ci_low", "ci_high"], [*key, "condition"], ["seed", "value"])
    results = results[results["condition"] == "pooled"]
    twice = results[results.duplicated([*key, "seed"])]
    if len(twice):
        raise ConfigError(f"the metrics files hold a number twice: {twice.iloc[0][[*key, 'seed']].to_dict()}")
    lacking = results.pivot(index=["system", "corpus", "seed"], columns="metric", values="value").isna()
    if lacking.any(axis=None):
        system, corpus, seed, metric = lacking.stack().idxmax()
        raise ConfigError(f"no {metric} of {system}, seed {seed}, on {corpus}; compute the metrics again")
    systems = sorted((System.parse(name) for name in results["system"].unique()), key=lambda s: s.order)
    names = [s.name for s in systems]

    size = read_sizes(complexity)
    if unknown := [name for name in names if name not in size.index]:
        raise ConfigError(f"no size in {', '.join(map(str, complexity))} of {', '.join(unknown)}")
    identity = {
        s.name: (
            s.trained, s.k_train, s.variant and s.variant.k_infer, s.variant and s.variant.label,
            s.variant and s.variant.graph_temperature, s.variant and s.variant.stack_temperature,
            s.trained_graph_temperature, s.trained_stack_temperature, s.trained_variant,
        )
        for s in systems
    }  # fmt: skip
    parts = [pd.DataFrame.from_dict(identity, orient="index", columns=IDENTITY), size.loc[names]]
    parts.append(read_sizes(as_run, ["n_params"])["n_params"].reindex(names).rename(RUN[0]))
    hashes: dict[str, set[str]] = {}
    for path in scores:
        about = read_metadata(path)
        steps = (about.get(step) or {} for step in ("trained_with", "provenance"))
        hashes.setdefault(about["system"], set()).update(step.get("code_hash", "unknown") for step in steps)
    parts.append(pd.Series({s.name: "+".join(sorted(hashes.get(s.trained, []))) for s in systems}, name=RUN[1]))

    results = results.sort_values("seed", kind="stable")
    groups = results.groupby(key)
    means = groups["value"].agg(mean="mean", std="std", n_seeds="count")
    means[VALUES] = groups["value"].agg(lambda values: " ".join(f"{value:.10g}" for value in values))
    means[["ci_low", "ci_high"]] = groups[["ci_low", "ci_high"]].first().where(means["n_seeds"] == 1)
    means[["speakers_low", "speakers_high", "n_speakers"]] = math.nan, math.nan, 0
    means.update(_intervals(replicates, results, systems, confidence).set_index(key))
    for corpus in results["corpus"].unique():
        part = means.xs(corpus, level="corpus").unstack("metric").reindex(names)
        parts += [part[name].max(axis=1).fillna(0).astype(int).rename(on(corpus, name)) for name in COUNTS]
        parts += [
            part[statistic, metric].rename(on(corpus, metric, statistic))
            for metric in results["metric"].unique()
            for statistic in (*STATISTICS, VALUES)
        ]
    with writing(output) as path:
        pd.concat(parts, axis=1).rename_axis("system").to_csv(path, sep="\t", float_format="%.10g")


def read_summary(summary: Path, corpora: Sequence[str] = (), systems: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a summary: index `system`, columns as `summarise` writes them.

    Args:
        summary: its file.
        corpora: those it must hold.
        systems: the rows to return, in this order; None returns all.

    Raises:
        ConfigError: it is unreadable, or lacks a corpus or a system (named).
    """
    table = _read([summary], [*IDENTITY, *SIZE, *RUN]).set_index("system")
    for corpus in corpora:
        if on(corpus, "eer") not in table:
            raise ConfigError(f"{summary}: holds no metrics of corpus {corpus!r}")
    if systems is None:
        return table
    if unknown := [name for name in systems if name not in table.index]:
        raise ConfigError(f"{summary}: holds no system {', '.join(unknown)}")
    return table.loc[[*systems]]


def read_sizes(paths: Sequence[Path], columns: Sequence[str] = SIZE) -> pd.DataFrame:
    """Read these columns of files of `audit.complexity.write_complexity`: index `system`; empty without files.

    Raises:
        ConfigError: a file is unreadable or lacks columns, or two contradict each other.
    """
    if not paths:
        return pd.DataFrame(columns=columns)
    table = _read(paths, columns, numbers=["n_params"])[["system", *columns]].drop_duplicates().set_index("system")
    if contradictory := {*table.index[table.index.duplicated()]}:
        raise ConfigError(f"two files contradict each other on {', '.join(sorted(contradictory))}")
    return table


def values_of(row: pd.Series, corpus: str, metric: str) -> list[float]:
    """The value of every seed, in their order, of a row of the summary; none where it does not say."""
    text = row.get(on(corpus, metric, VALUES))
    return [float(value) for value in str(text).split()] if pd.notna(text) else []


def _intervals(
    replicates: Sequence[Path], results: pd.DataFrame, systems: Sequence[System], confidence: float
) -> pd.DataFrame:
    """What replicates tell: system, corpus, metric, n_speakers, and the ends of the mean's intervals."""
    rows = []
    metrics = results["metric"].unique()
    values = results.groupby(["system", "corpus", "metric"])["value"].agg(list).to_dict()
    seeds = results.groupby(["system", "corpus"])["seed"].agg(set).to_dict()
    files: dict[tuple[str, str], dict[int, Path]] = {}
    for path in replicates:
        about = read_metadata(path)
        files.setdefault((about["system"], about["corpus"]), {})[about["seed"]] = path
    for (trained, corpus), of_seeds in files.items():
        wanted = {s: seeds[s.name, corpus] for s in systems if s.trained == trained and (s.name, corpus) in seeds}
        drawn: dict[int, Replicates] = {}
        for seed in sorted(set().union(*wanted.values())):
            if seed not in of_seeds:
                raise ConfigError(f"no replicates of {trained}, seed {seed}, on {corpus}, but of seeds {[*of_seeds]}")
            columns = [f"{s.column}:{metric}" for s, own in wanted.items() if seed in own for metric in metrics]
            drawn[seed] = read_replicates(of_seeds[seed], columns, like=next(iter(drawn.values()), None))
        for system, own in wanted.items():
            for metric in metrics:
                row = {"system": system.name, "corpus": corpus, "metric": metric}
                row["n_speakers"] = drawn[min(own)].about["n_speakers"]
                of_seeds = values[system.name, corpus, metric]
                for resampling, names in INTERVALS.items():
                    parts = [drawn[s].values[resampling] for s in own if resampling in drawn[s].values]
                    if parts:
                        mean = np.mean([part[f"{system.column}:{metric}"] for part in parts], axis=0)
                        material = drawn[min(own)].spread(resampling, mean)
                        ends = interval_of_mean(of_seeds, *material, SCALES.get(metric, LOG), confidence)
                        row |= zip(names, ends, strict=True)
                rows.append(row)
    columns = ["system", "corpus", "metric", "n_speakers", *INTERVALS["trials"], *INTERVALS["speakers"]]
    return pd.DataFrame(rows, columns=columns)


def _read(
    paths: Sequence[Path], columns: Sequence[str], texts: Sequence[str] = ("system",), numbers: Sequence[str] = ()
) -> pd.DataFrame:
    columns = [*texts, *columns, *numbers]
    if not paths:
        raise ConfigError(f"no file given with the columns {', '.join(columns)}")
    types = dict.fromkeys(("system", "trained", "code_hash"), str)
    return pd.concat([read_table(path, columns, texts, numbers, dtype=types) for path in paths], ignore_index=True)
