"""How sure a number is: bootstrap replicates of any trial statistic, and intervals from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spaarsist.config import ConfigError

Statistic = Callable[..., Mapping[str, np.ndarray]]
"""Takes one weight matrix (replicates, trials) per class and returns metric -> (replicates,)."""

_BLOCK = 2**21  # weights held at once; bounds the memory on corpora of any size


def bootstrap(
    statistics: Mapping[str, Statistic], sizes: Sequence[int], n_replicates: int = 1000, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Draw bootstrap replicates of several statistics over the same trials.

    Trials are drawn with replacement within their class, so that every replicate keeps the class sizes (a
    stratified bootstrap). A replicate is a row of counts: how often each trial was drawn. Every statistic
    sees the same counts, so differences between two of them are paired: subtract their replicates. Each class
    has its own random stream, decided by `seed` and the class size alone; score files over one trial list are
    therefore paired with each other as well, and so are the bona fide halves of the per-attack conditions.

    What the spread means: trials count as independent, although the trials of a speaker are not, and the only
    source of variation is the sampling of test trials. Intervals are too narrow to that extent, and say
    nothing about training seeds.

    Args:
        statistics: name -> function of one integer weight matrix (replicates, size) per class, in the order
            of `sizes`.
        sizes: number of trials of each class, each > 0.
        n_replicates: number of replicates, > 0.
        seed: non-negative; the same seed gives the same replicates, whatever the block size in memory.

    Returns:
        name -> metric -> replicates, shape (n_replicates,).

    Raises:
        ConfigError: no replicate was asked for, or a class is empty.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 and 13.
    """
    if n_replicates < 1 or min(sizes) < 1:
        raise ConfigError(
            f"a bootstrap needs replicates and trials of every class; got {n_replicates} replicates, "
            f"classes of {', '.join(map(str, sizes))}"
        )
    streams = [np.random.default_rng([seed, index]) for index in range(len(sizes))]
    blocks: dict[str, list[Mapping[str, np.ndarray]]] = {name: [] for name in statistics}
    rows = max(1, _BLOCK // sum(sizes))
    for start in range(0, n_replicates, rows):
        shape = min(rows, n_replicates - start)
        weights = [_counts(stream, size, shape) for stream, size in zip(streams, sizes, strict=True)]
        for name, statistic in statistics.items():
            blocks[name].append(statistic(*weights))
    return {
        name: {metric: np.concatenate([block[metric] for block in parts]) for metric in parts[0]}
        for name, parts in blocks.items()
    }


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
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _counts(stream: np.random.Generator, size: int, rows: int) -> np.ndarray:
    """How often each of `size` trials is drawn in `size` draws, one row per replicate; int32 (rows, size)."""
    counts = np.empty((rows, size), np.int32)
    for row in counts:  # row by row: the stream must not depend on how many rows fit into memory
        row[:] = np.bincount(stream.integers(size, size=size), minlength=size)
    return counts
