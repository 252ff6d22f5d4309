"""How sure a number is: bootstrap replicates of any statistic of trials, intervals from them, tests, and correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, stdtr, stdtrit  # Student's t; scipy.stats takes a second to import
from tqdm import tqdm

from spaarsist.names import ConfigError

Draw = Callable[[int], list[np.ndarray]]
"""Number of a replicate -> how often it holds each trial: integers, one vector per class."""

Statistic = Callable[..., Mapping[str, np.ndarray]]
"""Takes stacked draws, one argument per class of shape (n_draws, n_trials), and returns metric -> values (n_draws,)."""

BATCH = 2**16
"""Counts that a statistic is given at once, if one draw has no more: what it makes of them should fit into a cache."""


class TrialResampling:
    """Draws trials with replacement within their class, so that every replicate keeps the class sizes.

    What the spread of replicates means: trials count as independent, although those of a speaker are not, and the only
    source of variation is the sampling of test trials. Intervals are too narrow to that extent, and say nothing about
    training seeds.

    Each class has its own random stream, decided by seed, replicate and class size alone. Replicate i of all that is
    measured on one trial list is therefore the same draw (subtract them: the difference is paired), and the bona fide
    halves of its per-attack conditions are drawn alike too.

    Args:
        sizes: number of trials of each class.
        seed: non-negative.

    Raises:
        ConfigError: a class is empty.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 and 13.
    """

    def __init__(self, sizes: Sequence[int], seed: int = 0) -> None:
        if min(sizes) < 1:
            raise ConfigError(f"a bootstrap needs trials of every class; got classes of {', '.join(map(str, sizes))}")
        self._sizes, self._seed = sizes, seed

    def __call__(self, replicate: int) -> list[np.ndarray]:
        """The draw of this number; see `Draw`."""
        return [_counts([self._seed, index, replicate], size) for index, size in enumerate(self._sizes)]


class SpeakerResampling:
    """Draws speakers with replacement, each with all of its trials.

    What the spread of replicates means: speakers count as independent and are what is sampled; their trials may depend
    on each other in any way. Speakers with trials of the same classes form a stratum (both classes, the first only, the
    second only), and each replicate keeps the number of speakers of every stratum, so that no class can vanish. Class
    sizes vary between replicates, as they would between samples of speakers.

    Replicates of few speakers vary too little: in a stratum of G, a mean has (G - 1) / G of the variance that it should
    have. `inflation` mends this for a variance; percentile intervals stay too narrow. A stratum of a single speaker
    adds no variance at all.

    Args:
        speakers: name of each trial's speaker, one sequence per class.
        seed: non-negative; replicate i is decided by it and the speakers alone.

    Attributes:
        n_speakers: number of speakers, G.
        degrees_of_freedom: G minus the number of strata; 0 if nothing can be said about the spread over speakers.

    Source: the one-layer bootstrap of Wu, Martin, Greenberg and Kacker 2017, doi 10.1109/TASLP.2016.2614725 (DCF under
    dependent trials); Bisani and Ney 2004 (blocks that belong together); few clusters and degrees of freedom: Cameron
    and Miller 2015, A Practitioner's Guide to Cluster-Robust Inference, VI, and for strata Korn and Graubard 1990.
    """

    def __init__(self, speakers: Sequence[ArrayLike], seed: int = 0) -> None:
        names, codes = np.unique(np.concatenate([np.asarray(s, str) for s in speakers]), return_inverse=True)
        self._codes = np.split(codes, np.cumsum([len(s) for s in speakers])[:-1])
        present = np.stack([np.bincount(c, minlength=names.size) > 0 for c in self._codes], axis=1)
        kinds, stratum = np.unique(present, axis=0, return_inverse=True)
        self._strata = [np.flatnonzero(stratum == index) for index in range(len(kinds))]
        self._seed = seed
        self.n_speakers = names.size
        self.degrees_of_freedom = names.size - len(kinds)

    @property
    def inflation(self) -> float:
        """What a variance over replicates is to be multiplied with: G / (G - strata), exact for strata of one size."""
        return self.n_speakers / self.degrees_of_freedom

    def __call__(self, replicate: int) -> list[np.ndarray]:
        """The draw of this number; see `Draw`."""
        times = np.empty(self.n_speakers, np.int64)
        for index, members in enumerate(self._strata):
            times[members] = _counts([self._seed, index, replicate], members.size)
        return [_smallest(times)[codes] for codes in self._codes]


def bootstrap(
    statistics: Mapping[str, Statistic], draw: Draw, n_replicates: int = 1000, threads: int = 1, progress: str = ""
) -> dict[str, dict[str, np.ndarray]]:
    """Compute bootstrap replicates of several statistics.

    Every statistic sees the same draws, so differences between two of them are paired. Each thread holds few draws at
    a time, of many trials one (`BATCH`): memory does not grow with their number.

    Args:
        statistics: name -> function of the counts of each class, see `Statistic`.
        draw: `TrialResampling`, `SpeakerResampling` or the like; called by several threads at once.
        n_replicates: number of replicates, > 0.
        threads: batches computed at once. It changes nothing but the time.
        progress: name of a progress bar; empty for none.

    Returns:
        name -> metric -> replicates, shape (n_replicates,).

    Raises:
        ConfigError: no replicate was asked for.
    """
    if n_replicates < 1:
        raise ConfigError(f"a bootstrap needs replicates; got {n_replicates}")

    size = max(1, BATCH // sum(counts.size for counts in draw(0)))
    batches = [range(first, min(first + size, n_replicates)) for first in range(0, n_replicates, size)]

    def one(batch: range) -> list[Mapping[str, np.ndarray]]:
        counts = [np.stack(of_class) for of_class in zip(*map(draw, batch), strict=True)]
        return [statistic(*counts) for statistic in statistics.values()]

    found: list[dict[str, np.ndarray]] = [{} for _ in statistics]
    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(None, progress, n_replicates, unit="resample", disable=not progress) as bar,
    ):
        for batch, values in zip(batches, pool.map(one, batches), strict=True):
            for columns, metrics in zip(found, values, strict=True):
                for metric, drawn in metrics.items():
                    columns.setdefault(metric, np.empty(n_replicates))[batch.start : batch.stop] = drawn
            bar.update(len(batch))
    return dict(zip(statistics, found, strict=True))


def percentile_interval(replicates: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval: the quantiles (1 - confidence) / 2 and (1 + confidence) / 2 of the replicates.

    A plug-in estimate that is biased stays biased in its replicates: those of min_dcf lean low and those of
    ece lean high (binned noise never cancels), so that a small corpus may have an interval that does not hold
    the estimate itself.

    Args:
        replicates: shape (n_replicates,).
        confidence: in (0, 1).

    Raises:
        ConfigError: `confidence` is out of range.
    """
    low, high = np.quantile(replicates, _tails(confidence))
    return float(low), float(high)


class TTest(NamedTuple):
    """Two-sided test of a difference against 0, and its confidence interval."""

    p: float
    low: float
    high: float


def t_test(
    difference: float, variances: Sequence[float], degrees_of_freedom: Sequence[float], confidence: float = 0.95
) -> TTest:
    """t test of a difference whose variance is a sum of independently estimated parts.

    t = difference / sqrt(sum of v_i), with the smallest d_i for its degrees of freedom. That is conservative. The usual
    interpolation (Welch-Satterthwaite) is not, with parts of one or two degrees of freedom: where such a part comes out
    small by luck, it gives both a small variance and many degrees of freedom, and the far tails, which a correction for
    many tests looks at, are too often reached by a factor of ten and more.

    Without any variance, p is 1 for a difference of exactly 0 and 0 for any other.

    Args:
        difference: the estimate.
        variances: v_i >= 0, of the estimate.
        degrees_of_freedom: d_i > 0 of each; infinite where v_i counts as known.
        confidence: of the interval, in (0, 1).

    Raises:
        ConfigError: `confidence` is out of range.

    Source: the rule min(n_1, n_2) - 1 for two samples of unequal variance, e.g. Moore and McCabe, Introduction to the
    Practice of Statistics, 7.2; why it is conservative: Mickey and Brown 1966, Bounds on the
    Distribution Functions of the Behrens-Fisher Statistic.
    """
    _, upper = _tails(confidence)
    error = math.sqrt(math.fsum(variances))
    if error == 0:
        return TTest(float(difference == 0), difference, difference)
    dof = min(degrees_of_freedom)
    reach = stdtrit(dof, upper) * error
    p = 2 * stdtr(dof, -abs(difference) / error)
    return TTest(float(p), float(difference - reach), float(difference + reach))


class Scale(NamedTuple):
    """A scale without ends for a quantity that has some: an interval that is symmetric there cannot leave the range.

    Attributes:
        forward: the quantity -> its place on the scale.
        slope: derivative of `forward`.
        inverse: a place on the scale -> the quantity.
    """

    forward: Callable[[float], float]
    slope: Callable[[float], float]
    inverse: Callable[[float], float]


LOG = Scale(np.log, lambda x: 1 / x, np.exp)
"""Of what lies above 0: actual detection costs, Cllr, sizes of changes."""

LOGIT = Scale(logit, lambda x: 1 / (x * (1 - x)), expit)
"""Of what lies between 0 and 1: error rates, shares, the normalised minimum cost."""

FISHER = Scale(np.arctanh, lambda x: 1 / (1 - x * x), np.tanh)
"""Of what lies between -1 and 1: correlations."""


def interval_of_mean(
    of_seeds: ArrayLike, variance: float, degrees_of_freedom: float, scale: Scale, confidence: float = 0.95
) -> tuple[float, float]:
    """Confidence interval of a mean over training seeds that holds both sources of variation.

    Seeds and test material are both samples, so the variance of the mean is that over test material plus, from two
    seeds on, that of the seeds over their number; the interval is that of t with the fewest degrees of freedom of the
    two (see `t_test`). It is symmetric on the scale, to which the error is carried over by the scale's slope.

    Args:
        of_seeds: the value of each seed, shape (n_seeds,).
        variance: of the mean when test material is drawn anew.
        degrees_of_freedom: of that variance; infinite where it counts as known.
        scale: of the quantity.
        confidence: in (0, 1).

    Returns:
        The ends; NaN twice where the mean lies at an end of its range, which has no place on the scale.

    Raises:
        ConfigError: `confidence` is out of range.

    Source: delta method, e.g. Agresti 2013, Categorical Data Analysis, 3.1 and 16.1.
    """
    _tails(confidence)
    of_seeds = np.asarray(of_seeds, float)
    mean = float(of_seeds.mean())
    parts = [(variance, degrees_of_freedom)]
    if of_seeds.size > 1:
        parts.append((of_seeds.var(ddof=1) / of_seeds.size, of_seeds.size - 1))
    with np.errstate(all="ignore"):
        centre = float(scale.forward(mean))
        slope = float(scale.slope(mean)) if math.isfinite(centre) else math.nan
    if not math.isfinite(slope):
        return math.nan, math.nan
    variances, degrees = zip(*parts, strict=True)
    test = t_test(centre, [v * slope**2 for v in variances], degrees, confidence)
    with np.errstate(over="ignore"):  # an interval of a logarithm may be that wide
        return float(scale.inverse(test.low)), float(scale.inverse(test.high))


def holm(p: ArrayLike) -> np.ndarray:
    """p-values adjusted by Holm's step-down method, which holds the family-wise error rate under any dependence.

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1. In the given order.

    Args:
        p: p-values in [0, 1], shape (m,).

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1)
    return adjusted


def _tails(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")
    return (1 - confidence) / 2, (1 + confidence) / 2


def _counts(stream: Sequence[int], size: int) -> np.ndarray:
    """How often each of `size` is drawn in `size` draws, from the random stream of this name."""
    return _smallest(np.bincount(np.random.default_rng(stream).integers(size, size=size), minlength=size))


def _smallest(counts: np.ndarray) -> np.ndarray:
    """The same in the smallest type that holds them: sorting out millions is a matter of bytes moved."""
    return counts.astype(np.min_scalar_type(counts.max()))
