"""One number per system out of accuracy, calibration and compute, and how sure its rank is.

The paper ranks its configurations by a composite score but does not print the formula. The one here is ours, written
down in full, so that it can be argued with; its ranks need not be the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spaarsist.artefacts import read_metadata, writing
from spaarsist.config import CompositeWeights
from spaarsist.evaluation.evaluate import Replicates, read_replicates
from spaarsist.evaluation.summary import on, read_summary
from spaarsist.names import BASELINE, ConfigError, System

COMPONENTS = {"accuracy": ("eer", "min_dcf"), "calibration": ("calibration_loss",)}
"""Components of the groups that are measured on each corpus; `calibration_loss` is Cllr - min_cllr."""

MEASURED = ("eer", "min_dcf", "cllr", "min_cllr")
"""Metrics that these come from."""

COMPUTE = "n_macs_detector"
"""Component of the group `compute`, which has no corpus: MACs of back-end and front-end."""

FLOOR = 0.1
"""Ratios to the baseline are clipped to [FLOOR, 1 / FLOOR].

There must be a floor: a calibration loss can be 0, and a geometric mean with one 0 in it is 0 whatever the rest. It is
a choice like the weights: here no single component counts for more than a tenfold change.
"""

_DECIMALS = 12  # of log scores: what differs by less, by the order of summation, is a tie


def composite(
    summary: Path,
    replicates: Sequence[Path],
    corpora: Sequence[str],
    systems: Sequence[str],
    weights: CompositeWeights,
    output: Path,
    sensitivity: Path,
    n_draws: int = 10_000,
    seed: int = 0,
    baseline: str = BASELINE,
    confidence: float = 0.95,
) -> None:
    """Rank systems by a weighted geometric mean of their ratios to the baseline: 1 = baseline, lower is better.

    Let r be a component's value divided by the baseline's, both means over training seeds; 0/0 is 1, and r is clipped
    to [`FLOOR`, 1 / `FLOOR`]. Components are gathered in cells, within which all count the same::

        log cell(group, domain) = mean of log r over the group's components and the domain's corpora
        log group = sum of d(domain) log cell(group, domain) over domains
        log composite = sum of g(group) log group over groups

    =============  ========================================================  =============
    group          components                                                domains
    =============  ========================================================  =============
    accuracy       EER, minDCF                                               in and out of
    calibration    Cllr - min_cllr: what calibration loses                   in and out of
    compute        MACs of the whole detector, front-end and back-end; of    none
                   the back-end alone where the front-end's are not known
    =============  ========================================================  =============

    The first corpus is in domain, the others are out of domain. The weights g are those of the three groups, d those of
    the two domains, each set divided by its sum; with one corpus its d is 1. Composite and groups lie in
    [`FLOOR`, 1 / `FLOOR`].

    How sure a rank is, by chance: the composite of every resample, of speakers where all files know them, else of
    trials, and of training seeds, drawn with replacement for each training by itself; the systems are ranked anew by
    each. Of few seeds such draws vary somewhat too little.

    How much the ranks owe to the weights: the cells (five, or three with one corpus) get weights drawn uniformly from
    all that sum to one (Dirichlet with every parameter 1), whatever `weights` says, and the systems are ranked anew by
    each draw. Equal scores share the lowest of their ranks.

    Args:
        summary: file of `evaluation.summary.summarise`.
        replicates: what `evaluate` wrote beside the metrics, of every ranked system, seed and corpus; none leaves the
            intervals of the ranks empty.
        corpora: names of corpora in it, the one in domain first.
        systems: what to rank, the baseline among them. Ranks are among these only; the composite is not touched by the
            company.
        weights: of groups and domains, each >= 0.
        output: TSV to write, by rising composite: `system, composite, rank`; `rank_ci_low` and `rank_ci_high`, the ends
            of the rank's interval; `accuracy, calibration, compute`; each clipped ratio (`<corpus>.eer, .min_dcf,
            .calibration_loss`, then `n_macs_detector`); `first_share`, the share of weightings that put the system
            first (a shared first place counts by its fraction); `rank_low` and `rank_high`, the 5 % and 95 % quantile
            of its rank over the weightings.
        sensitivity: TSV to write: `system, rank, share` of weightings, in the same order, without shares of 0.
        n_draws: number of weightings, > 0.
        seed: of the draws, non-negative.
        baseline: the system that all others are divided by.
        confidence: of the ranks' intervals, in (0, 1).

    Raises:
        ConfigError: a corpus, system or value is missing or negative, a name is given twice, the baseline is not among
            the systems, or no weight is left; replicates of a system are missing, or cannot be paired.

    Source: ours; the paper (arXiv 2606.11674) names the three aspects and says that lower is better, no more.
    """
    for kind, names in (("corpora", corpora), ("systems", systems)):
        if not names or len({*names}) < len(names):
            raise ConfigError(f"composite score: {kind} must be named, each once; got {', '.join(names) or 'none'}")
    if baseline not in systems:
        raise ConfigError(f"composite score: add the baseline {baseline} to the systems; all are divided by it")
    if n_draws < 1:
        raise ConfigError(f"composite score: n_draws must be 1 or more; got {n_draws}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")
    values = _values(summary, corpora, systems)
    home = [*systems].index(baseline)
    ratios = _ratios(values, home)
    cells = _cells(ratios, corpora)
    groups = _groups(cells, weights)
    score = _score(groups, weights)

    frame = pd.DataFrame(cells, index=pd.Index(systems, name="system"))
    ranks = _ranks_by_any_weights(frame, n_draws, seed)
    first = ranks == 1
    low, high = np.quantile(ranks, [0.05, 0.95], axis=0, method="inverted_cdf")
    by_chance = np.full((2, len(systems)), np.nan)
    if replicates:
        redrawn = _cells(_ratios(_redraw(replicates, corpora, systems, values[COMPUTE], seed), home), corpora)
        redone = pd.DataFrame(_score(_groups(redrawn, weights), weights)).rank(axis=1, method="min")
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        by_chance = np.quantile(redone, tails, axis=0, method="inverted_cdf")
    table = pd.DataFrame(
        {
            "composite": np.exp(score),
            "rank": pd.Series(score).rank(method="min").astype(int).to_numpy(),
            "rank_ci_low": by_chance[0],
            "rank_ci_high": by_chance[1],
            **{group: np.exp(value) for group, value in groups.items()},
            **ratios,
            "first_share": first.div(first.sum(axis=1), axis=0).mean().to_numpy(),
            "rank_low": low,
            "rank_high": high,
        },
        index=frame.index,
    ).sort_values("rank", kind="stable")
    distribution = [
        (system, rank, count / n_draws)
        for system in table.index
        for rank, count in zip(*np.unique(ranks[system], return_counts=True), strict=True)
    ]
    with writing(output) as path, writing(sensitivity) as beside:
        table.to_csv(path, sep="\t", float_format="%.10g")
        pd.DataFrame(distribution, columns=["system", "rank", "share"]).to_csv(
            beside, sep="\t", float_format="%.10g", index=False
        )


def _values(summary: Path, corpora: Sequence[str], systems: Sequence[str]) -> dict[str, np.ndarray]:
    """`<corpus>.<metric>` of `MEASURED`, and `COMPUTE`: a value for each system."""
    table = read_summary(summary, corpora, systems)
    means = {on(corpus, metric): f"{corpus}.{metric}" for corpus in corpora for metric in MEASURED}
    table = table.reindex(columns=[*means, "n_macs", "n_macs_frontend"]).apply(pd.to_numeric, errors="coerce")
    frontend = table.pop("n_macs_frontend").fillna(0)
    unusable = ~(np.isfinite(table) & (table >= 0))
    if unusable.any(axis=None):
        system, column = unusable.stack().idxmax()
        raise ConfigError(
            f"{summary}: {system} has no usable value (a finite number, not negative) in column {column}; evaluate it "
            "there or leave the system out"
        )
    values = {name: table[column].to_numpy() for column, name in means.items()}
    return values | {COMPUTE: (table["n_macs"] + frontend).to_numpy()}


def _redraw(
    replicates: Sequence[Path], corpora: Sequence[str], systems: Sequence[str], compute: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """The same of every resample: arrays of shape (n_resamples, n_systems)."""
    files: dict[tuple[str, str], dict[int, Path]] = {}
    for path in replicates:
        about = read_metadata(path)
        files.setdefault((about["system"], about["corpus"]), {})[about["seed"]] = path
    named = [System.parse(name) for name in systems]
    found = {}
    for corpus in corpora:
        drawn: dict[str, list[Replicates]] = {}
        first = None
        for trained in dict.fromkeys(system.trained for system in named):
            if (trained, corpus) not in files:
                raise ConfigError(f"composite score: no replicates of {trained} on {corpus}; compute its metrics again")
            columns = [f"{s.column}:{metric}" for s in named if s.trained == trained for metric in MEASURED]
            of_training = [path for _, path in sorted(files[trained, corpus].items())]
            drawn[trained] = [read_replicates(path, columns, like=first) for path in of_training]
            first = first or drawn[trained][0]
        way = "speakers" if "speakers" in first.values else "trials"
        if way not in first.values:
            raise ConfigError(f"{first.path}: holds no resamples; set evaluation.bootstrap to 1000 and run again")
        n_resamples = len(first.values[way])
        # One draw of seeds for all that a training has on all corpora
        seeds = {
            trained: np.random.default_rng([seed, place]).integers(len(of), size=(n_resamples, len(of)))
            for place, (trained, of) in enumerate(drawn.items())
        }
        for metric in MEASURED:
            columns = []
            for system in named:
                of_seeds = [part.values[way][f"{system.column}:{metric}"] for part in drawn[system.trained]]
                chosen = seeds[system.trained]
                columns.append(np.take_along_axis(np.stack(of_seeds, axis=1), chosen, axis=1).mean(axis=1))
            found[f"{corpus}.{metric}"] = np.stack(columns, axis=1)
    return found | {COMPUTE: np.broadcast_to(compute, (n_resamples, compute.size))}


def _ratios(values: Mapping[str, np.ndarray], home: int) -> dict[str, np.ndarray]:
    """Each component's ratio to that of the system at `home` (along the last axis), clipped."""
    components = {name: value for name, value in values.items() if not name.endswith(("cllr", COMPUTE))}
    for name in values:
        if name.endswith(".min_cllr"):
            corpus = name.removesuffix(".min_cllr")
            # The file's ten digits leave dust where both are equal
            loss = (values[f"{corpus}.cllr"] - values[name]).round(9).clip(min=0)
            components[f"{corpus}.calibration_loss"] = loss
    components[COMPUTE] = values[COMPUTE]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: value / value[..., home, None] for name, value in components.items()}
    return {name: np.where(np.isnan(r), 1, r).clip(FLOOR, 1 / FLOOR) for name, r in found.items()}


def _cells(ratios: Mapping[str, np.ndarray], corpora: Sequence[str]) -> dict[tuple[str, str], np.ndarray]:
    """(group, domain) -> mean of the log ratios. Without a second corpus there is no out_of_domain."""
    domains = {"in_domain": corpora[:1], "out_of_domain": corpora[1:]}
    cells = {
        (group, domain): np.mean(
            [np.log(ratios[f"{c}.{component}"]) for c in names for component in components], axis=0
        )
        for group, components in COMPONENTS.items()
        for domain, names in domains.items()
        if names
    }
    return cells | {("compute", ""): np.log(ratios[COMPUTE])}


def _groups(cells: Mapping[tuple[str, str], np.ndarray], weights: CompositeWeights) -> dict[str, np.ndarray]:
    """Logarithm of each group: its cells, weighed by their domains."""
    shares = {domain: getattr(weights, domain) for group, domain in cells if group == "accuracy"}
    if not (whole := sum(shares.values())):
        raise ConfigError("composite score: with one corpus, which is in domain, the weight in_domain must be above 0")
    groups = {
        group: sum(share / whole * cells[group, domain] for domain, share in shares.items()) for group in COMPONENTS
    }
    return groups | {"compute": cells["compute", ""]}


def _score(groups: Mapping[str, np.ndarray], weights: CompositeWeights) -> np.ndarray:
    """Logarithm of the composite."""
    importance = {group: getattr(weights, group) for group in groups}
    whole = sum(importance.values())
    return sum(weight / whole * groups[group] for group, weight in importance.items()).round(_DECIMALS)


def _ranks_by_any_weights(cells: pd.DataFrame, n_draws: int, seed: int) -> pd.DataFrame:
    """Ranks of the systems (columns) under weights of the cells drawn uniformly from the simplex (one row each)."""
    weights = np.random.default_rng(seed).dirichlet(np.ones(cells.shape[1]), n_draws)
    scores = pd.DataFrame((weights @ cells.to_numpy().T).round(_DECIMALS), columns=cells.index)
    return scores.rank(axis=1, method="min").astype(int)
