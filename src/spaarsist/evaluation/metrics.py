"""How well scores tell bona fide speech from spoofs: error rates, detection costs, calibration.

Scores are log P(bona fide) − log P(spoof) in nats; higher means more bona fide. Every metric is a fraction,
never a percentage.
"""

from __future__ import annotations

from typing import Any

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
        # Corner j of the DET curve: j bona fide trials and every spoof that ranks below the next one are rejected. Only
        # where spoofs follow can it turn: of a row of bona fide trials the first corner stands for all.
        spoofs_below = np.append(np.searchsorted(spoof, bonafide, side="left"), spoof.size)
        turns = np.append(0, np.flatnonzero(np.diff(spoofs_below)) + 1)
        self._corners = turns, spoofs_below[turns]
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
    ) -> dict[str, Any]:
        """All of `METRICS`, each trial counted so many times.

        Args:
            bonafide_counts: integers >= 0 with a positive sum, in the order in which the scores were given, shape
                (n_bonafide,), or (n_resamples, n_bonafide) for many resamples at once; without them every trial
                counts once. Small types (uint8) are fastest.
            spoof_counts: the same of the spoofs, shape (n_spoof,) or (n_resamples, n_spoof).

        Returns:
            A float each, or one vector each of shape (n_resamples,).

        Raises:
            ConfigError: there is not one integer for each trial.
        """
        given_counts = (bonafide_counts, spoof_counts)
        shapes = {np.shape(given)[:-1] for given in given_counts if given is not None} or {()}
        if len(shapes) > 1:
            raise ConfigError(f"expected counts of as many resamples for both classes; got {sorted(shapes)}")
        counts = [
            np.ones((1, order.size), np.uint8) if given is None else _ordered(given, order)
            for given, order in zip(given_counts, self._orders, strict=True)
        ]
        missed, rejected = (_running_sum(c) for c in counts)
        n_bonafide, n_spoof = (sums[:, -1:].astype(np.int64) for sums in (missed, rejected))
        norm = min(self._miss_cost, self._fa_cost)

        def cost(miss: np.ndarray, rejected: np.ndarray) -> np.ndarray:
            return self._miss_cost * (miss / n_bonafide) + self._fa_cost * ((n_spoof - rejected) / n_spoof)

        corners = [sums[:, places] for sums, places in zip((missed, rejected), self._corners, strict=True)]
        values = {
            "eer": _eer(*corners, n_bonafide, n_spoof),
            "min_dcf": cost(*corners).min(axis=1) / norm,  # costs are linear between corners: no need to look there
        }
        for name, (bonafide_below, spoofs_below) in self._below_threshold.items():
            values[name] = cost(missed[:, [bonafide_below]], rejected[:, [spoofs_below]])[:, 0] / norm
        values["gap_released"] = values["act_dcf_released"] - values["min_dcf"]
        # Sums, not dot products: the last digits of these depend on how many threads the linear algebra library takes.
        bits = [np.sum(c * b, axis=1) for c, b in zip(counts, self._bits, strict=True)]
        values["cllr"] = (bits[0] / n_bonafide[:, 0] + bits[1] / n_spoof[:, 0]) / 2
        surplus = np.zeros((n_bonafide.size, ECE_BINS))
        for c, residuals, (bins, starts) in zip(counts, self._residuals, self._bins, strict=True):
            surplus[:, bins] += np.add.reduceat(c * residuals, starts, axis=1)
        values["ece"] = np.abs(surplus).sum(axis=1) / (n_bonafide + n_spoof)[:, 0]
        shares = (sums / n for sums, n in zip(corners, (n_bonafide, n_spoof), strict=True))
        # Above the last corner come bona fide trials alone, which cost nothing
        values["min_cllr"] = _min_cllr(*(np.diff(share, prepend=0, axis=1) for share in shares))
        return {name: values[name] if () not in shapes else float(values[name][0]) for name in METRICS}


def _min_cllr(bonafide: np.ndarray, spoof: np.ndarray) -> np.ndarray:
    """Least Cllr that a map can reach which keeps the order of pools of trials, lowest scores first.

    Args:
        bonafide: share of all bona fide trials in each pool, shape (n_resamples, n_pools).
        spoof: share of all spoofs in it, same shape.

    Returns:
        Shape (n_resamples,).
    """
    from scipy.optimize import isotonic_regression  # slow to import, and readers of results do without

    resample, pool = np.nonzero(bonafide + spoof)
    bonafide, spoof = bonafide[resample, pool], spoof[resample, pool]
    weights = bonafide + spoof
    # One regression for all resamples: each lies wholly above the one before, so that no block reaches across two
    blocks = isotonic_regression(bonafide / weights + 2 * resample, weights=weights).blocks[:-1]
    bonafide, spoof = (np.add.reduceat(share, blocks) for share in (bonafide, spoof))
    weights = bonafide + spoof
    bits = -(xlogy(bonafide, bonafide / weights) + xlogy(spoof, spoof / weights)) / np.log(2)
    return np.bincount(resample[blocks], weights=bits) / 2 + 0.0  # no -0


def _eer(missed: np.ndarray, rejected: np.ndarray, n_bonafide: np.ndarray, n_spoof: np.ndarray) -> np.ndarray:
    """Equal error rates from the corners of DET curves.

    Between two corners the curve first walks through bona fide trials (missed grows), then through spoofs (rejected
    grows), one trial at a time. Where the error rates cross is found in whole numbers; the point before or after the
    crossing is then chosen as the official package does, in the same floating-point operations.

    Args:
        missed: bona fide trials rejected at each corner, integers, shape (n_resamples, corners).
        rejected: spoofs rejected there, same shape, the last being all of them.
        n_bonafide: number of bona fide trials, int64, shape (n_resamples, 1).
        n_spoof: number of spoofs, same shape.

    Returns:
        Shape (n_resamples,).
    """
    if int(n_bonafide.max()) * int(n_spoof.max()) >= 2**63:  # their products need Python's unbounded integers
        n_bonafide, n_spoof = n_bonafide.astype(object), n_spoof.astype(object)
    accepted = n_spoof - rejected
    corner = (missed * n_spoof >= accepted * n_bonafide).argmax(axis=1)  # the first at or past the crossing
    each = np.arange(corner.size)
    accepted_before, miss = accepted[each, np.maximum(corner - 1, 0)], missed[each, corner]
    n_bonafide, n_spoof = n_bonafide[:, 0], n_spoof[:, 0]
    # First point at or past the crossing, and the one a single trial before it.
    among_bonafide = miss * n_spoof >= accepted_before * n_bonafide
    after = (
        np.where(among_bonafide, -(-accepted_before * n_bonafide // n_spoof), miss),
        np.where(among_bonafide, accepted_before, miss * n_spoof // n_bonafide),
    )
    before = after[0] - among_bonafide, after[1] + ~among_bonafide
    rates = np.array([(m / n_bonafide, f / n_spoof) for m, f in (before, after)], float)
    nearest = np.abs(rates[:, 0] - rates[:, 1]).argmin(axis=0)  # the first of two that are equally close
    return rates.sum(axis=1)[nearest, each] / 2


def _finite(scores: ArrayLike, name: str) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ConfigError(f"expected a non-empty vector of {name} scores; got shape {scores.shape}")
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ConfigError(f"{bad} of {scores.size} {name} scores are NaN or infinite")
    return scores


def _ordered(counts: ArrayLike, order: np.ndarray) -> np.ndarray:
    """Counts in the order of the scores, one row per resample."""
    counts = np.asarray(counts)
    if counts.ndim not in (1, 2) or counts.shape[-1] != order.size or counts.dtype.kind not in "iu":
        raise ConfigError(f"expected {order.size} integers, one for each trial; got {counts.dtype} {counts.shape}")
    return np.atleast_2d(counts)[:, order]


def _running_sum(counts: np.ndarray) -> np.ndarray:
    """Cumulative sums of rows, led by 0: (n_resamples, n) -> (n_resamples, n + 1)."""
    n_resamples, size = counts.shape
    total = np.zeros((n_resamples, size + 1), np.int32 if int(counts.max()) * size < 2**31 else np.int64)
    np.cumsum(counts, axis=1, dtype=total.dtype, out=total[:, 1:])
    return total
