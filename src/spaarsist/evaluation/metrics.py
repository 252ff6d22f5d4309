"""How well scores tell bona fide speech from spoofs: error rates, detection costs, calibration.

Scores are log P(bona fide) − log P(spoof) in nats; higher means more bona fide. Every metric is a fraction,
never a percentage.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, xlogy

from spaarsist.config import CostModel
from spaarsist.names import ConfigError

ASVSPOOF5 = CostModel()
"""Cost model of the ASVspoof 5 evaluation plan, the paper's."""

METRICS = ("eer", "min_dcf", "act_dcf", "act_dcf_released", "gap_released", "cllr", "ece", "min_cllr")
"""What `compute_metrics` returns, in this order."""

ECE_BINS = 15


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
    min_cllr          Cllr after the best map of scores that keeps their order (isotonic regression, both classes
                      weighing the same; ties merged); cllr − min_cllr is what calibration has lost
    ================  =======================================================================================

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,), finite.
        spoof: scores of the spoof trials, shape (n_spoof,), finite.
        cost: prior and costs.

    Returns:
        The metrics of `METRICS`. eer, min_dcf, ece and min_cllr lie in [0, 1]; the others are at or above 0.

    Raises:
        ConfigError: a class is empty, or a score is NaN or infinite.

    Source: eer, min_dcf, act_dcf and cllr follow the ASVspoof 5 evaluation package (ties unmerged);
    act_dcf_released and ece follow the code that the paper's authors released. Cllr and
    min_cllr: Brümmer and du Preez 2006.
    """
    return RankedTrials(bonafide, spoof, cost).metrics()


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
    """The trials of one system, sorted once, so that their metrics come cheaply however often each trial counts.

    `metrics(bonafide_counts, spoof_counts)` equals `compute_metrics` of the scores repeated that often, ties and all,
    in time proportional to the trials: a running sum over the sorted counts gives every error rate, and the scores
    enter through products that are looked up. An instance never changes, so that threads may share it.

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,), finite.
        spoof: scores of the spoof trials, shape (n_spoof,), finite.
        cost: prior and costs.

    Raises:
        ConfigError: a class is empty, or a score is NaN or infinite.
    """

    def __init__(self, bonafide: ArrayLike, spoof: ArrayLike, cost: CostModel = ASVSPOOF5) -> None:
        """Sort both classes and look up all that does not depend on the counts."""
        classes = (_finite(bonafide, "bona fide"), _finite(spoof, "spoof"))
        self._orders = [np.argsort(scores, kind="stable") for scores in classes]
        bonafide, spoof = (scores[order] for scores, order in zip(classes, self._orders, strict=True))

        self._miss_cost, self._fa_cost = cost.c_miss * (1 - cost.p_spoof), cost.c_fa * cost.p_spoof
        # Corner j of the DET curve: j bona fide trials and every spoof that ranks below the next one are rejected.
        self._spoofs_below = np.append(np.searchsorted(spoof, bonafide, side="left"), spoof.size)
        # Only where spoofs follow can the order of trials be violated: one corner stands for a row of bona fide trials,
        # and those above all spoofs cost nothing
        self._pools = np.append(0, np.flatnonzero(np.diff(self._spoofs_below)) + 1)
        self._below_threshold = {
            name: (np.searchsorted(bonafide, threshold), np.searchsorted(spoof, threshold))
            for name, threshold in (
                ("act_dcf", cost.bayes_threshold),
                ("act_dcf_released", np.log(cost.c_fa / cost.c_miss)),
            )
        }
        self._bits = [np.logaddexp(0, -bonafide) / np.log(2), np.logaddexp(0, spoof) / np.log(2)]
        p_spoof = [expit(-bonafide), expit(-spoof)]  # falling, since the scores rise
        self._residuals = [-p_spoof[0], 1 - p_spoof[1]]  # label minus prediction, spoof being 1
        edges = np.linspace(0, 1, ECE_BINS + 1)[1:]  # upper ones: the first bin holds P(spoof) = 0 as well
        starts = [np.searchsorted(-p, -edges, side="left") for p in p_spoof]
        occupied = [np.diff(s, prepend=p.size) < 0 for s, p in zip(starts, p_spoof, strict=True)]
        # Bins that hold trials, and the first trial of each; reversed, for these must rise.
        self._bins = [(np.flatnonzero(o)[::-1], s[o][::-1]) for o, s in zip(occupied, starts, strict=True)]

    def metrics(
        self, bonafide_counts: ArrayLike | None = None, spoof_counts: ArrayLike | None = None
    ) -> dict[str, float]:
        """All of `METRICS`, each trial counted so many times.

        Args:
            bonafide_counts: integers >= 0 with a positive sum, shape (n_bonafide,), in the order in which the scores
                were given; without them every trial counts once. Small types (uint8) are fastest.
            spoof_counts: the same of the spoofs, shape (n_spoof,).

        Raises:
            ConfigError: there is not one integer for each trial.
        """
        counts = [
            np.ones(order.size, np.uint8) if given is None else _ordered(given, order)
            for given, order in zip((bonafide_counts, spoof_counts), self._orders, strict=True)
        ]
        missed, rejected = (_running_sum(c) for c in counts)
        n_bonafide, n_spoof = int(missed[-1]), int(rejected[-1])
        norm = min(self._miss_cost, self._fa_cost)

        def cost(miss: np.ndarray, rejected: np.ndarray) -> np.ndarray:
            return self._miss_cost * (miss / n_bonafide) + self._fa_cost * ((n_spoof - rejected) / n_spoof)

        corners = rejected[self._spoofs_below]
        values = {
            "eer": _eer(missed, corners, n_bonafide, n_spoof),
            "min_dcf": cost(missed, corners).min() / norm,  # costs are linear between corners: no need to look there
        }
        for name, (bonafide_below, spoofs_below) in self._below_threshold.items():
            values[name] = cost(missed[bonafide_below], rejected[spoofs_below]) / norm
        values["gap_released"] = values["act_dcf_released"] - values["min_dcf"]
        # Sums, not dot products: the last digits of these depend on how many threads the linear algebra library takes.
        bits = [np.sum(c * b) for c, b in zip(counts, self._bits, strict=True)]
        values["cllr"] = (bits[0] / n_bonafide + bits[1] / n_spoof) / 2
        surplus = np.zeros(ECE_BINS)
        for c, residuals, (bins, starts) in zip(counts, self._residuals, self._bins, strict=True):
            surplus[bins] += np.add.reduceat(c * residuals, starts)
        values["ece"] = np.abs(surplus).sum() / (n_bonafide + n_spoof)
        pools = [sums[self._pools] / n for sums, n in ((missed, n_bonafide), (corners, n_spoof))]
        values["min_cllr"] = _min_cllr(*(np.diff(pool, prepend=0) for pool in pools))
        return {name: float(values[name]) for name in METRICS}


def _min_cllr(bonafide: np.ndarray, spoof: np.ndarray) -> float:
    """Least Cllr that a map can reach which keeps the order of pools of trials, lowest scores first.

    Args:
        bonafide: share of all bona fide trials in each pool, shape (n_pools,).
        spoof: share of all spoofs in it, same shape.
    """
    from scipy.optimize import isotonic_regression  # slow to import, and readers of results do without

    weights = bonafide + spoof
    some = weights > 0
    bonafide, spoof, weights = bonafide[some], spoof[some], weights[some]
    p_bonafide = np.clip(isotonic_regression(bonafide / weights, weights=weights).x, 0, 1)
    bits = -(xlogy(bonafide, p_bonafide) + xlogy(spoof, 1 - p_bonafide)).sum() / np.log(2)
    return float(bits / 2) + 0.0  # no -0


def _eer(missed: np.ndarray, rejected: np.ndarray, n_bonafide: int, n_spoof: int) -> float:
    """Equal error rate from the corners of a DET curve.

    Between two corners the curve first walks through bona fide trials (missed grows), then through spoofs (rejected
    grows), one trial at a time. Where the error rates cross is found in whole numbers, of Python's unbounded kind; the
    point before or after the crossing is then chosen as the official package does, in the same floating-point
    operations.

    Args:
        missed: bona fide trials rejected at each corner, integers, shape (corners,), the last being all of them.
        rejected: spoofs rejected there, same shape.
        n_bonafide: number of bona fide trials.
        n_spoof: number of spoofs.
    """

    def crossed(corner: int) -> bool:
        return int(missed[corner]) * n_spoof >= (n_spoof - int(rejected[corner])) * n_bonafide

    corner = bisect_left(range(missed.size), True, key=crossed)
    accepted_before = n_spoof - int(rejected[max(corner - 1, 0)])
    # First point at or past the crossing, and the one a single trial before it.
    miss = int(missed[corner])
    if miss * n_spoof >= accepted_before * n_bonafide:  # crossed among the bona fide trials
        after = -(-accepted_before * n_bonafide // n_spoof), accepted_before
        before = after[0] - 1, after[1]
    else:
        after = miss, miss * n_spoof // n_bonafide
        before = after[0], after[1] + 1
    rates = [(m / n_bonafide, f / n_spoof) for m, f in (before, after)]
    return sum(min(rates, key=lambda rate: abs(rate[0] - rate[1]))) / 2  # the first of two that are equally close


def _finite(scores: ArrayLike, name: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ConfigError(f"expected a non-empty vector of {name} scores; got shape {scores.shape}")
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ConfigError(f"{bad} of {scores.size} {name} scores are NaN or infinite")
    return scores


def _ordered(counts: ArrayLike, order: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts)
    if counts.shape != order.shape or counts.dtype.kind not in "iu":
        raise ConfigError(f"expected {order.size} integers, one for each trial; got {counts.dtype} {counts.shape}")
    return counts[order]


def _running_sum(counts: np.ndarray) -> np.ndarray:
    """Cumulative sum, led by 0: (n,) -> (n + 1,)."""
    total = np.zeros(counts.size + 1, np.int32 if int(counts.max()) * counts.size < 2**31 else np.int64)
    np.cumsum(counts, dtype=total.dtype, out=total[1:])
    return total
