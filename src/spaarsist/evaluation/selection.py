"""One number per system out of accuracy, calibration and compute, and whether it hangs on the weights.

The paper ranks its configurations by a composite score but does not print the formula. The one here is ours, written
down in full, so that it can be argued with; its ranks need not be the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spaarsist.artefacts import writing
from spaarsist.config import CompositeWeights
from spaarsist.evaluation.summary import on, read_summary
from spaarsist.names import BASELINE, ConfigError

COMPONENTS = {"accuracy": ("eer", "min_dcf"), "calibration": ("gap", "cllr", "ece")}
"""Components of the groups that are measured on each corpus; `gap` is actDCF - minDCF."""

COMPUTE = ("n_macs", "n_params")
"""Components of the group `compute`, which has no corpus."""

FLOOR = 0.1
"""Ratios to the baseline are clipped to [FLOOR, 1 / FLOOR].

There must be a floor: mean pooling has no parameters, a gap can be 0, and a geometric mean with one 0 in it is 0
whatever the rest. It is a choice like the weights: here no single component counts for more than a tenfold change. A
lower one would hand the ranking to the gap, a difference of two noisy numbers that comes near 0 by chance, and to
back-ends that are all but free beside the front-end.
"""

_DECIMALS = 12  # of log scores: what differs by less, by the order of summation, is a tie


def composite(
    summary: Path,
    corpora: Sequence[str],
    systems: Sequence[str],
    weights: CompositeWeights,
    output: Path,
    sensitivity: Path,
    n_draws: int = 10_000,
    seed: int = 0,
    baseline: str = BASELINE,
) -> None:
    """Rank systems by a weighted geometric mean of their ratios to the baseline: 1 = baseline, lower is better.

    Let r be a component's value divided by the baseline's, both means over training seeds; 0/0 is 1, and r is clipped
    to [`FLOOR`, 1 / `FLOOR`]. Components are gathered in cells, within which all count the same::

        log cell(group, domain) = mean of log r over the group's components and the domain's corpora
        log group = sum of d(domain) log cell(group, domain) over domains
        log composite = sum of g(group) log group over groups

    =============  =====================================  =============
    group          components                             domains
    =============  =====================================  =============
    accuracy       EER, minDCF                            in and out of
    calibration    actDCF - minDCF, Cllr, ECE             in and out of
    compute        MACs, parameters (of the back-end)     none
    =============  =====================================  =============

    The first corpus is in domain, the others are out of domain. The weights g are those of the three groups, d those of
    the two domains, each set divided by its sum; with one corpus its d is 1. Composite and groups lie in
    [`FLOOR`, 1 / `FLOOR`].

    How much the ranks owe to the weights: the cells (five, or three with one corpus) get weights drawn uniformly from
    all that sum to one (Dirichlet with every parameter 1), whatever `weights` says, and the systems are ranked anew by
    each draw. Equal scores share the lowest of their ranks. The spread of these ranks knows nothing of chance in
    trials and training seeds: a rank that no weight can move may still be luck.

    Args:
        summary: file of `evaluation.summary.summarise`.
        corpora: names of corpora in it, the one in domain first.
        systems: what to rank, the baseline among them. Ranks are among these only; the composite is not touched by the
            company.
        weights: of groups and domains, each >= 0.
        output: TSV to write, by rising composite: `system, composite, rank, accuracy, calibration, compute`; each
            clipped ratio (`<corpus>.eer, .min_dcf, .gap, .cllr, .ece`, then `n_macs, n_params`); `first_share`, the
            share of draws that put the system first (a shared first place counts by its fraction); `rank_low` and
            `rank_high`, the 5 % and 95 % quantile of its rank over the draws.
        sensitivity: TSV to write: `system, rank, share` of draws, in the same order, without shares of 0.
        n_draws: number of weightings, > 0.
        seed: of the draws, non-negative.
        baseline: the system that all others are divided by.

    Raises:
        ConfigError: a corpus, system or value is missing or negative, a name is given twice, the baseline is not among
            the systems, or no weight is left.

    Source: ours; the paper (arXiv 2606.11674) names the three aspects and says that lower is better, no more.
    """
    for kind, names in (("corpora", corpora), ("systems", systems)):
        if not names or len({*names}) < len(names):
            raise ConfigError(f"composite score: {kind} must be named, each once; got {', '.join(names) or 'none'}")
    if baseline not in systems:
        raise ConfigError(f"composite score: add the baseline {baseline} to the systems; all are divided by it")
    if n_draws < 1:
        raise ConfigError(f"composite score: n_draws must be 1 or more; got {n_draws}")
    ratios = _ratios(summary, corpora, systems, baseline)

    cells = _cells(np.log(ratios), corpora)
    shares = pd.Series({domain: getattr(weights, domain) for domain in cells["accuracy"]})
    if not shares.sum():
        raise ConfigError("composite score: with one corpus, which is in domain, the weight in_domain must be above 0")
    groups = pd.DataFrame({group: cells[group] @ (shares / shares.sum()) for group in COMPONENTS})
    groups["compute"] = cells["compute", ""]
    importance = pd.Series({group: getattr(weights, group) for group in groups})
    score = (groups @ (importance / importance.sum())).round(_DECIMALS)

    ranks = _ranks_by_any_weights(cells, n_draws, seed)
    first = ranks == 1
    low, high = np.quantile(ranks, [0.05, 0.95], axis=0, method="inverted_cdf")
    table = pd.concat(
        [
            np.exp(score).rename("composite"),
            score.rank(method="min").astype(int).rename("rank"),
            np.exp(groups),
            ratios,
            first.div(first.sum(axis=1), axis=0).mean().rename("first_share"),
            pd.DataFrame({"rank_low": low, "rank_high": high}, index=ranks.columns),
        ],
        axis=1,
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


def _ratios(summary: Path, corpora: Sequence[str], systems: Sequence[str], baseline: str) -> pd.DataFrame:
    """One row per system, one column per component: its ratio to the baseline's, clipped."""
    table = read_summary(summary, corpora, systems)
    metrics = ("eer", "min_dcf", "act_dcf", "cllr", "ece")
    means = {on(corpus, metric): f"{corpus}.{metric}" for corpus in corpora for metric in metrics}
    table = table.reindex(columns=[*means, *COMPUTE]).apply(pd.to_numeric, errors="coerce")
    unusable = ~(np.isfinite(table) & (table >= 0))
    if unusable.any(axis=None):
        system, column = unusable.stack().idxmax()
        raise ConfigError(
            f"{summary}: {system} has no usable value (a finite number, not negative) in column {column}; evaluate it "
            "there or leave the system out"
        )
    values = table.rename(columns=means)
    for corpus in corpora:
        # The file's ten digits leave dust where both are equal.
        values[f"{corpus}.gap"] = (values[f"{corpus}.act_dcf"] - values[f"{corpus}.min_dcf"]).round(9).clip(lower=0)
    components = [component for group in COMPONENTS.values() for component in group]
    values = values[[*(f"{corpus}.{component}" for corpus in corpora for component in components), *COMPUTE]]
    return values.div(values.loc[baseline]).fillna(1).clip(FLOOR, 1 / FLOOR)


def _cells(logs: pd.DataFrame, corpora: Sequence[str]) -> pd.DataFrame:
    """One row per system, columns (group, domain): means of log ratios. Without a second corpus no out_of_domain."""
    domains = {"in_domain": corpora[:1], "out_of_domain": corpora[1:]}
    cells = {
        (group, domain): logs[[f"{corpus}.{component}" for corpus in names for component in components]].mean(axis=1)
        for group, components in COMPONENTS.items()
        for domain, names in domains.items()
        if names
    }
    return pd.DataFrame(cells | {("compute", ""): logs[[*COMPUTE]].mean(axis=1)})


def _ranks_by_any_weights(cells: pd.DataFrame, n_draws: int, seed: int) -> pd.DataFrame:
    """Ranks of the systems (columns) under weights of the cells drawn uniformly from the simplex (one row each)."""
    weights = np.random.default_rng(seed).dirichlet(np.ones(cells.shape[1]), n_draws)
    scores = pd.DataFrame((weights @ cells.to_numpy().T).round(_DECIMALS), columns=cells.index)
    return scores.rank(axis=1, method="min").astype(int)
