"""How well scores tell bona fide speech from spoofs: error rates, detection costs, calibration.

Scores are log P(bona fide) − log P(spoof) in nats; higher means more bona fide. Every metric is a fraction,
never a percentage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import ArrayLike
from scipy.special import expit

from spaarsist.artefacts import file_hash, read_metadata, writing
from spaarsist.config import ConfigError, CostModel, System, system_name
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.statistics import bootstrap, percentile_interval

ASVSPOOF5 = CostModel()
"""Cost model of the ASVspoof 5 evaluation plan, the paper's."""

METRICS = ("eer", "min_dcf", "act_dcf", "act_dcf_released", "gap_released", "cllr", "ece")
"""What `compute_metrics` returns, in this order."""

ECE_BINS = 15
RESULT_COLUMNS = (
    *("system", "seed", "variant", "corpus", "condition", "metric"),
    *("value", "ci_low", "ci_high", "n_bonafide", "n_spoof"),
)


def compute_metrics(bonafide: ArrayLike, spoof: ArrayLike, cost: CostModel = ASVSPOOF5) -> dict[str, float]:
    """Score one countermeasure.

    P_miss(t) is the share of bona fide scores below t, P_fa(t) the share of spoof scores at or above it, π =
    p_spoof, and DCF(t) = [C_miss (1−π) P_miss(t) + C_fa π P_fa(t)] / min(C_miss (1−π), C_fa π).

    ================  =======================================================================================
    eer               (P_miss + P_fa) / 2 at the point of `det_curve` where they are closest (the first such)
    min_dcf           min over t of DCF(t)
    act_dcf           DCF(−log β) with β = C_miss (1−π) / (C_fa π): Bayes' threshold for scores that are
                      log-likelihood ratios
    act_dcf_released  DCF(log(C_fa / C_miss)), which accepts when P(bona fide) = sigmoid(score) is at least
                      C_fa / (C_fa + C_miss): Bayes' threshold for scores that are log posterior odds
    gap_released      act_dcf_released − min_dcf
    cllr              [mean over bona fide of log2(1 + e^−s) + mean over spoofs of log2(1 + e^s)] / 2, in bits
    ece               sum over 15 equal bins (lo, hi] of P(spoof) = sigmoid(−s), 0 falling into the first, of
                      (trials in bin / trials) · |share of spoofs in bin − mean P(spoof) in bin|
    ================  =======================================================================================

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,), finite.
        spoof: scores of the spoof trials, shape (n_spoof,), finite.
        cost: prior and costs.

    Returns:
        The metrics of `METRICS`. eer, min_dcf and ece lie in [0, 1]; the others are at or above 0.

    Raises:
        ConfigError: a class is empty, or a score is NaN or infinite.

    Source: eer, min_dcf, act_dcf and cllr follow the ASVspoof 5 evaluation package (ties unmerged);
    act_dcf_released and ece follow the code that the paper's authors released. Cllr: Brümmer and du Preez
    2006.
    """
    return {name: float(value[0]) for name, value in RankedTrials(bonafide, spoof, cost).metrics().items()}


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detection error trade-off: the error rates as trials are rejected one by one, lowest score first.

    Equal scores are rejected bona fide first and are not merged, as the ASVspoof 5 evaluation package does.

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,).
        spoof: scores of the spoof trials, shape (n_spoof,).

    Returns:
        p_miss (rising from 0 to 1), p_fa (falling from 1 to 0) and the score of the last rejected trial (−inf
        while none is), each of shape (n_bonafide + n_spoof + 1,).

    Raises:
        ConfigError: a class is empty, or a score is NaN or infinite.
    """
    bonafide, spoof = _finite(bonafide, "bona fide"), _finite(spoof, "spoof")
    scores = np.concatenate([bonafide, spoof])
    order = np.argsort(scores, kind="stable")  # stable: the bona fide trials of a tie stay in front
    missed = np.concatenate([[0], np.cumsum(order < bonafide.size)])
    accepted_spoofs = spoof.size - (np.arange(scores.size + 1) - missed)
    return missed / bonafide.size, accepted_spoofs / spoof.size, np.concatenate([[-np.inf], scores[order]])


class RankedTrials:
    """The trials of one system, sorted once, so that their metrics come cheaply under many trial weights.

    A weight says how often a trial occurs: `metrics(w_bonafide, w_spoof)` equals `compute_metrics` of the
    scores repeated that often, ties and all. Everything is read off two cumulative sums over the sorted
    classes, in O(trials).

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,), finite.
        spoof: scores of the spoof trials, shape (n_spoof,), finite.
        cost: prior and costs.

    Raises:
        ConfigError: a class is empty, or a score is NaN or infinite.
    """

    def __init__(self, bonafide: ArrayLike, spoof: ArrayLike, cost: CostModel = ASVSPOOF5) -> None:
        """Sort both classes and look up all that does not depend on weights."""
        classes = (_finite(bonafide, "bona fide"), _finite(spoof, "spoof"))
        self._orders = [np.argsort(scores, kind="stable") for scores in classes]
        bonafide, spoof = (scores[order] for scores, order in zip(classes, self._orders, strict=True))

        self._miss_cost, self._fa_cost = cost.c_miss * (1 - cost.p_spoof), cost.c_fa * cost.p_spoof
        # Corner j of the DET curve: j bona fide trials and every spoof that ranks below the next one are
        # rejected.
        self._spoofs_below = np.append(np.searchsorted(spoof, bonafide, side="left"), spoof.size)
        self._thresholds = {
            name: (np.searchsorted(bonafide, threshold), np.searchsorted(spoof, threshold))
            for name, threshold in (
                ("act_dcf", cost.bayes_threshold),
                ("act_dcf_released", np.log(cost.c_fa / cost.c_miss)),
            )
        }
        self._bits = [np.logaddexp(0, -bonafide) / np.log(2), np.logaddexp(0, spoof) / np.log(2)]
        p_spoof = [expit(-bonafide), expit(-spoof)]
        self._residuals = [-p_spoof[0], 1 - p_spoof[1]]  # label minus prediction, spoof being 1
        edges = np.linspace(0, 1, ECE_BINS + 1)
        edges[0] = -1  # the first bin holds P(spoof) = 0 as well
        self._bin_ends = [np.searchsorted(-p, -edges, side="left") for p in p_spoof]

    def metrics(
        self, bonafide_weights: np.ndarray | None = None, spoof_weights: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """All of `METRICS` under each row of weights.

        Args:
            bonafide_weights: counts ≥ 0, shape (rows, n_bonafide), in the order the scores were given; each
                row must have a positive sum. Without weights every trial counts once.
            spoof_weights: the same for the spoofs, shape (rows, n_spoof).

        Returns:
            metric -> values, shape (rows,).
        """
        weights = [
            np.ones((1, order.size), np.int64) if given is None else np.asarray(given)[:, order]
            for given, order in zip((bonafide_weights, spoof_weights), self._orders, strict=True)
        ]
        missed, rejected_spoofs = (_running_sum(w, np.int64) for w in weights)
        n_bonafide, n_spoof = missed[:, -1], rejected_spoofs[:, -1]

        def dcf(miss: np.ndarray, rejected: np.ndarray) -> np.ndarray:
            p_miss, p_fa = miss.T / n_bonafide, (n_spoof - rejected.T) / n_spoof
            cost = self._miss_cost * p_miss + self._fa_cost * p_fa
            return cost.T / min(self._miss_cost, self._fa_cost)

        corners = rejected_spoofs[:, self._spoofs_below]
        values = {
            "eer": _eer(missed, n_spoof[:, None] - corners, n_spoof),
            "min_dcf": dcf(missed, corners).min(axis=1),  # costs are linear between corners: no need to look there
        }
        for name, (below_bonafide, below_spoof) in self._thresholds.items():
            values[name] = dcf(missed[:, below_bonafide], rejected_spoofs[:, below_spoof])
        values["gap_released"] = values["act_dcf_released"] - values["min_dcf"]
        bits = [w @ b for w, b in zip(weights, self._bits, strict=True)]
        values["cllr"] = (bits[0] / n_bonafide + bits[1] / n_spoof) / 2
        surplus = sum(
            np.diff(_running_sum(w * residual, np.float64)[:, ends], axis=1)
            for w, residual, ends in zip(weights, self._residuals, self._bin_ends, strict=True)
        )
        values["ece"] = np.abs(surplus).sum(axis=1) / (n_bonafide + n_spoof)
        return {name: values[name] for name in METRICS}


def _eer(missed: np.ndarray, accepted: np.ndarray, n_spoof: np.ndarray) -> np.ndarray:
    """Equal error rate from the corners of DET curves.

    Between two corners the curve first walks through bona fide trials (missed grows), then through spoofs
    (accepted falls), one trial at a time. Where the error rates cross is found in whole numbers; the point
    before or after the crossing is then chosen as the official package does, in the same floating-point
    operations.

    Args:
        missed: bona fide trials rejected at each corner, integers, shape (rows, corners); the last column
            holds them all.
        accepted: spoofs still accepted there, same shape.
        n_spoof: number of spoofs, shape (rows,).

    Returns:
        shape (rows,).
    """
    n_bonafide = missed[:, -1]
    rows = np.arange(len(missed))
    corner = np.argmax(missed * n_spoof[:, None] >= accepted * n_bonafide[:, None], axis=1)
    accepted_before = accepted[rows, np.maximum(corner - 1, 0)]
    bonafide_leg = missed[rows, corner] * n_spoof >= accepted_before * n_bonafide

    # First point at or past the crossing, and the one a single trial before it.
    miss = np.where(bonafide_leg, -(-accepted_before * n_bonafide // n_spoof), missed[rows, corner])
    fa = np.where(bonafide_leg, accepted_before, miss * n_spoof // n_bonafide)
    points = [(miss - bonafide_leg, fa + ~bonafide_leg), (miss, fa)]
    (miss_before, fa_before), (miss_after, fa_after) = [(m / n_bonafide, f / n_spoof) for m, f in points]
    before = np.abs(miss_before - fa_before) <= np.abs(miss_after - fa_after)
    return np.where(before, miss_before + fa_before, miss_after + fa_after) / 2


def read_scored_trials(scores: Path, trials: Path) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Read a score file and the trial list that says what its trials are, and join them.

    Args:
        scores: Parquet: `trial_id` and one float column per variant; its metadata holds at least system, seed and
            corpus, and the trial list's hash if the package made it.
        trials: trial list that `spaarsist.data.protocol.make_trials` wrote.

    Returns:
        The metadata; the trial list (strings); the scores, one float64 column per variant and the rows of the
        trial list.

    Raises:
        ConfigError: a file is not of that form, names no known variant, was made from another trial list, a trial is
            missing, left over or there twice, a score is NaN or infinite, or a class is empty.
    """
    metadata = read_metadata(scores)
    table = pq.read_table(scores)
    columns = [name for name in table.column_names if name != "trial_id"]
    if len(columns) == len(table.column_names) or not columns or len({*columns}) < len(columns):
        raise ConfigError(f"{scores}: expected trial_id and one column per variant; found {table.column_names}")
    for column in columns:
        try:
            System.parse(system_name(metadata["system"], column))
        except ConfigError as error:
            raise ConfigError(f"{scores}: column {column!r} of {metadata['system']}: {error}") from None
    if metadata.get("trial_list", made := file_hash(trials)) != made:
        raise ConfigError(f"{scores}: scored from another trial list than {trials} is now; score again")

    listed = read_trials(trials)
    if absent := {"bonafide", "spoof"}.difference(listed["label"]):
        raise ConfigError(f"{trials}: no {absent.pop()} trials, so there are no error rates")
    frame = table.to_pandas()
    frame = frame.set_index(frame.pop("trial_id").astype(str))
    _reject(frame.index[frame.index.duplicated()], f"{scores}: trials scored more than once")
    _reject(
        pd.Index(listed["trial_id"]).difference(frame.index, sort=False),
        f"{scores}: trials of {trials} not scored",
    )
    _reject(
        frame.index.difference(listed["trial_id"], sort=False),
        f"{scores}: trials that {trials} does not list",
    )
    frame = frame.loc[listed["trial_id"]].astype(np.float64)
    _reject(frame.index[~np.isfinite(frame).all(axis=1)], f"{scores}: trials with a NaN or infinite score")
    return metadata, listed, frame.reset_index(drop=True)


def evaluate(
    scores: Path,
    trials: Path,
    output: Path,
    cost: CostModel = ASVSPOOF5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> None:
    """Write the metrics of every variant in a score file, with bootstrap intervals, overall and by condition.

    Conditions: `pooled`; `attack:<id>`, that attack's spoofs against all bona fide trials; `codec:<id>`, the
    trials of that codec (`codec:-`, no codec, stands beside others only), where both classes occur.

    Args:
        scores: score file, see `read_scored_trials`.
        trials: its trial list.
        output: TSV to write: system, seed, variant, corpus, condition, metric, value, ci_low, ci_high,
            n_bonafide, n_spoof; fractions.
        cost: prior and costs.
        n_bootstrap: bootstrap replicates per condition; 0 leaves the intervals empty.
        confidence: of the percentile intervals, in (0, 1); `bootstrap` says what they cover.
        seed: of the resampling; with the same one, score files over the same trials are resampled alike.

    Raises:
        ConfigError: see `read_scored_trials`.
    """
    metadata, listed, frame = read_scored_trials(scores, trials)
    is_bonafide = listed["label"] == "bonafide"
    rows = []
    for condition, chosen in _conditions(listed):
        ranked = {
            column: RankedTrials(
                frame.loc[chosen & is_bonafide, column], frame.loc[chosen & ~is_bonafide, column], cost
            )
            for column in frame
        }
        sizes = int((chosen & is_bonafide).sum()), int((chosen & ~is_bonafide).sum())
        replicates = {}
        if n_bootstrap:
            replicates = bootstrap({c: r.metrics for c, r in ranked.items()}, sizes, n_bootstrap, seed)
        for column, trials_of_column in ranked.items():
            identity = (
                system_name(metadata["system"], column),
                metadata["seed"],
                column,
                metadata["corpus"],
                condition,
            )
            for metric, value in trials_of_column.metrics().items():
                interval = (np.nan, np.nan)
                if n_bootstrap:
                    interval = percentile_interval(replicates[column][metric], confidence)
                rows.append((*identity, metric, value[0], *interval, *sizes))
    with writing(output) as path:
        pd.DataFrame(rows, columns=RESULT_COLUMNS).to_csv(path, sep="\t", index=False, float_format="%.10g")


def _conditions(listed: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Name and row mask of each condition that a trial list allows."""
    is_bonafide = listed["label"] == "bonafide"
    yield "pooled", pd.Series(True, index=listed.index)
    for attack in sorted({*listed.loc[~is_bonafide, "attack_id"]} - {"-"}):
        yield f"attack:{attack}", is_bonafide | (listed["attack_id"] == attack)
    codecs = sorted({*listed["codec"]})
    for codec in codecs if codecs != ["-"] else []:
        chosen = listed["codec"] == codec
        if listed.loc[chosen, "label"].nunique() == 2:
            yield f"codec:{codec}", chosen


def _reject(ids: Iterable[str], complaint: str) -> None:
    """Raise with the number of offending trials and the first few of their ids, if there are any."""
    ids = list(ids)
    if ids:
        raise ConfigError(f"{complaint}: {len(ids)}, e.g. {', '.join(ids[:5])}")


def _finite(scores: ArrayLike, name: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ConfigError(f"expected a non-empty vector of {name} scores; got shape {scores.shape}")
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ConfigError(f"{bad} of {scores.size} {name} scores are NaN or infinite")
    return scores


def _running_sum(values: np.ndarray, dtype: type) -> np.ndarray:
    """Cumulative sum along each row, led by 0: (rows, n) -> (rows, n + 1)."""
    total = np.zeros((values.shape[0], values.shape[1] + 1), dtype)
    np.cumsum(values, axis=1, out=total[:, 1:])
    return total
