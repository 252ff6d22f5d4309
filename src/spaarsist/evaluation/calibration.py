"""What scores are worth as they stand: calibrated on the development corpus, and decided on by thresholds chosen there.

Whoever deploys a countermeasure has no labels of what will come. All that is tuned here is therefore tuned on the
development corpus and then left alone: an affine map that turns scores into log-likelihood ratios, and two thresholds.
How both fare out of domain is the question; in domain they flatter, since the development corpus has also chosen the
epoch of the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from tqdm import tqdm

from spaarsist.artefacts import read_metadata, read_table, writing
from spaarsist.config import CostModel
from spaarsist.evaluation.evaluate import read_scored_trials
from spaarsist.evaluation.metrics import ASVSPOOF5, compute_metrics
from spaarsist.names import ConfigError, system_name

COLUMNS = ("system", "seed", "variant", "corpus", "quantity", "value")


def calibrate(
    dev_scores: Path,
    dev_list: Path,
    scores: Sequence[Path],
    trials: Mapping[str, Path],
    output: Path,
    cost: CostModel = ASVSPOOF5,
) -> None:
    """Fit map and thresholds of each score column on the development corpus; write how they fare there and elsewhere.

    Quantities of the development corpus alone:

    =========================  ======================================================================================
    slope, offset              `fit_affine`: calibrated score = slope * score + offset
    threshold_dev_eer          `choose_thresholds`, in nats of the raw score
    threshold_dev_min_dcf      likewise; may be -inf (accept all) or inf (reject all)
    =========================  ======================================================================================

    Of every corpus; costs and Cllr (bits) as in `metrics.compute_metrics`:

    =========================  ======================================================================================
    n_bonafide, n_spoof        trials
    eer, min_dcf               of the raw scores
    act_dcf, cllr              of the raw scores, taken as log-likelihood ratios
    gap                        act_dcf - min_dcf
    <m>_calibrated             m of the calibrated scores, for min_dcf, act_dcf, cllr and gap
    p_miss_at_<t>, p_fa_at_<t> shares of bona fide trials below, and of spoofs at or above, the threshold t that was
                               chosen on the development corpus, `dev_eer` or `dev_min_dcf`
    dcf_at_<t>                 the normalised detection cost there
    =========================  ======================================================================================

    A map with a positive slope changes no decision of a threshold that moves with it: EER, min_dcf and all that is at
    transferred thresholds are those of calibrated scores too. A negative slope is no error but a finding (the system
    takes spoofs for bona fide on its own development corpus); then min_dcf_calibrated differs from min_dcf. Where
    `fit_affine` has no answer, slope, offset and all that is calibrated are empty.

    Args:
        dev_scores: score file of one training on the development corpus; its columns are the ones calibrated.
        dev_list: its trial list.
        scores: score files of the same training on evaluation corpora; each has these columns, and may have more.
        trials: corpus -> trial list, for each of these.
        output: TSV to write, `COLUMNS`: system (row of the tables), training seed, score column, corpus, quantity,
            value. The development corpus comes first.
        cost: prior and costs.

    Raises:
        ConfigError: see `read_scored_trials`; a file is of another training, seed or checkpoint than the development
            scores, lacks a column, or is of a corpus without trial list or of one that was there before.
    """
    fits: dict[str, _Fit] = {}
    rows = []
    for about, is_bonafide, frame in _corpora(dev_scores, dev_list, scores, trials):
        columns = list(fits or frame)
        for column in tqdm(columns, desc=f"calibrate {about['corpus']}", unit="column", mininterval=2):
            values = frame[column].to_numpy()
            classes = np.sort(values[is_bonafide]), np.sort(values[~is_bonafide])  # sorted once; sorting again is cheap
            quantities = {}
            if column not in fits:
                fits[column] = _Fit(*fit_affine(*classes), choose_thresholds(*classes, cost))
                quantities = {"slope": fits[column].slope, "offset": fits[column].offset}
                quantities |= {f"threshold_{name}": value for name, value in fits[column].thresholds.items()}
            quantities |= _measure(*classes, fits[column], cost)
            identity = system_name(about["system"], column), about["seed"], column, about["corpus"]
            rows += [(*identity, *item) for item in quantities.items()]
    with writing(output) as path:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False, float_format="%.10g")


def read_thresholds(calibration: Sequence[Path]) -> dict[tuple[str, int], float]:
    """Read from files of `calibrate` the threshold of the development corpus's EER, in nats of the raw score.

    Returns:
        (system, training seed) -> threshold; at or above it a trial is taken for bona fide.

    Raises:
        ConfigError: a file is no readable TSV or lacks columns.
    """
    found: dict[tuple[str, int], float] = {}
    for path in calibration:
        table = read_table(path, ["system", "seed", "quantity", "value"], dtype={"system": str, "value": float})
        table = table[table["quantity"] == "threshold_dev_eer"]
        found |= {(row.system, row.seed): row.value for row in table.itertuples()}
    return found


def fit_affine(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[float, float]:
    """Find the affine map of scores to log-likelihood ratios, in nats, whose Cllr is the lowest: a logistic regression.

    Minimises, over a and b and without penalty, the Cllr of a s + b::

        Cllr = [mean over bona fide of log2(1 + e^-(a s + b)) + mean over spoofs of log2(1 + e^(a s + b))] / 2

    Both classes weigh the same (an effective prior of 1/2), so that what comes out is a ratio of likelihoods, free of
    the share of spoofs in the corpus. This is convex; its minimum is finite and unique unless some threshold separates
    the classes, in either order, scores on the threshold allowed.

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,), finite.
        spoof: scores of the spoof trials, shape (n_spoof,), finite.

    Returns:
        Slope a and offset b; NaN twice where the classes can be separated.

    Source: Brümmer and du Preez 2006, Application-independent evaluation of speaker detection; the linear calibration
    of the toolkits FoCal and BOSARIS (Brümmer and de Villiers 2011, arXiv 1304.2865). When there is an answer: Albert
    and Anderson 1984.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and readers of results do without

    bonafide, spoof = np.asarray(bonafide, np.float64), np.asarray(spoof, np.float64)
    if spoof.max() <= bonafide.min() or bonafide.max() <= spoof.min():
        return np.nan, np.nan
    scores = np.concatenate([bonafide, spoof])
    centre, scale = scores.mean(), scores.std()  # the solver's tolerance is absolute
    model = LogisticRegression(C=np.inf, class_weight="balanced", solver="newton-cholesky", tol=1e-10)
    model.fit(((scores - centre) / scale)[:, None], np.arange(scores.size) < bonafide.size)
    slope = float(model.coef_[0, 0] / scale)
    return slope, float(model.intercept_[0] - slope * centre)


def choose_thresholds(bonafide: ArrayLike, spoof: ArrayLike, cost: CostModel = ASVSPOOF5) -> dict[str, float]:
    """Choose the thresholds at which scores have their equal error rate and their lowest detection cost.

    Trials at or above a threshold are accepted; equal scores share their fate. A threshold lies midway between two
    neighbouring scores, or at -inf or inf; of several that are as good, the lowest is taken.

    Args:
        bonafide: scores of the bona fide trials, shape (n_bonafide,), finite.
        spoof: scores of the spoof trials, shape (n_spoof,), finite.
        cost: prior and costs.

    Returns:
        `dev_eer`: where P_miss and P_fa are closest; `dev_min_dcf`: where the detection cost is lowest, which is
        min_dcf.
    """
    bonafide, spoof = np.sort(bonafide), np.sort(spoof)
    scores = np.unique(np.concatenate([bonafide, spoof]))
    lowest_accepted = np.append(scores, np.inf)
    missed = np.searchsorted(bonafide, lowest_accepted)
    accepted = spoof.size - np.searchsorted(spoof, lowest_accepted)
    middles = scores[:-1] + np.diff(scores) / 2
    middles = np.where(middles > scores[:-1], middles, scores[1:])  # between neighbouring floats there is no other
    thresholds = np.concatenate([[-np.inf], middles, [np.inf]])
    difference = np.abs(missed * spoof.size - accepted * bonafide.size)  # in whole numbers: ties are ties
    costs = _dcf(missed / bonafide.size, accepted / spoof.size, cost)
    return {"dev_eer": float(thresholds[difference.argmin()]), "dev_min_dcf": float(thresholds[costs.argmin()])}


def read_seeds(paths: Sequence[Path], systems: Sequence[str], corpora: Sequence[str]) -> pd.DataFrame:
    """Read files of `calibrate`, a row for each training seed.

    Args:
        paths: files of any trainings and seeds.
        systems, corpora: names of those to return; corpora may include the development corpus.

    Returns:
        Index (system, corpus, seed) in the order given; a column per quantity. Slope, offset and thresholds, the
        development corpus's, stand in all of a system's rows.

    Raises:
        ConfigError: a file is unreadable or lacks columns, a value is there twice, or a system lacks a corpus.
    """
    if not paths:
        raise ConfigError("no calibration file was given")
    types = {"system": str, "seed": int, "value": float}
    table = pd.concat([read_table(path, COLUMNS, dtype=types) for path in paths], ignore_index=True)
    key = ["system", "corpus", "quantity"]
    twice = table[table.duplicated([*key, "seed"])]
    if len(twice):
        raise ConfigError(f"the calibration files hold a value twice: {twice.iloc[0][[*key, 'seed']].to_dict()}")
    wide = table.pivot(index=["system", "corpus", "seed"], columns="quantity", values="value")
    of_dev = [name for name in wide if name in ("slope", "offset") or name.startswith("threshold_")]
    wide[of_dev] = wide[of_dev].groupby(["system", "seed"]).transform("first")
    wanted = pd.MultiIndex.from_product([systems, corpora], names=["system", "corpus"])
    if absent := [
        f"{system} on {corpus}" for system, corpus in wanted.difference(wide.index.droplevel("seed"), sort=False)
    ]:
        raise ConfigError(f"the calibration files hold nothing of {', '.join(absent[:5])}")
    return pd.concat({pair: wide.loc[pair] for pair in wanted}, names=wanted.names)


def read_calibration(paths: Sequence[Path], systems: Sequence[str], corpora: Sequence[str]) -> pd.DataFrame:
    """Read files of `calibrate` and average over training seeds.

    Args:
        paths, systems, corpora: as in `read_seeds`.

    Returns:
        Index (system, corpus) in the order given; `n_seeds`; `<quantity>.mean` and `<quantity>.std` (n - 1) of each
        quantity, empty unless every seed has a value, the latter for one seed too; `<quantity>.n`, the seeds with a
        value.

    Raises:
        ConfigError: as `read_seeds`.
    """
    groups = read_seeds(paths, systems, corpora).groupby(["system", "corpus"], sort=False)
    count, n_seeds = groups.count(), groups.size()
    statistics = {"mean": groups.mean(), "std": groups.std(ddof=1)}
    parts = [part.where(count.eq(n_seeds, axis=0)).add_suffix(f".{name}") for name, part in statistics.items()]
    return pd.concat([n_seeds.rename("n_seeds"), *parts, count.add_suffix(".n")], axis=1)


class _Fit(NamedTuple):
    """What the development corpus has chosen for a score column."""

    slope: float
    offset: float
    thresholds: dict[str, float]


def _corpora(
    dev_scores: Path, dev_list: Path, scores: Sequence[Path], trials: Mapping[str, Path]
) -> Iterator[tuple[dict, np.ndarray, pd.DataFrame]]:
    """Metadata, mask of the bona fide trials and scores of each corpus, the development corpus first."""
    chosen, listed, frame = read_scored_trials(dev_scores, dev_list)
    yield chosen, (listed["label"] == "bonafide").to_numpy(), frame
    columns, seen = list(frame), {chosen["corpus"]}
    del listed, frame
    for path in scores:
        about = read_metadata(path)
        for what in ("system", "seed", "checkpoint"):
            if about.get(what) != chosen.get(what):
                raise ConfigError(
                    f"{path}: {what} is {about.get(what)}, but {chosen.get(what)} in {dev_scores}; calibration is of "
                    "one training: score both corpora with the same checkpoint"
                )
        if about["corpus"] in seen:
            raise ConfigError(f"{path}: a file of corpus {about['corpus']!r} was given before; give each once")
        if about["corpus"] not in trials:
            raise ConfigError(f"{path}: no trial list was given for corpus {about['corpus']!r}")
        seen.add(about["corpus"])
        _, listed, frame = read_scored_trials(path, trials[about["corpus"]])
        if absent := [column for column in columns if column not in frame]:
            raise ConfigError(f"{path}: no scores {', '.join(absent)}, which {dev_scores} has; score again")
        yield about, (listed["label"] == "bonafide").to_numpy(), frame[columns]


def _measure(bonafide: np.ndarray, spoof: np.ndarray, fit: _Fit, cost: CostModel) -> dict[str, float]:
    """The quantities that every corpus has, from sorted scores of each class."""
    shown = ("min_dcf", "act_dcf", "cllr")
    raw = compute_metrics(bonafide, spoof, cost)
    quantities = {"n_bonafide": bonafide.size, "n_spoof": spoof.size, "eer": raw["eer"]}
    quantities |= {name: raw[name] for name in shown} | {"gap": raw["act_dcf"] - raw["min_dcf"]}
    calibrated = dict.fromkeys(shown, np.nan)
    if np.isfinite(fit.slope):
        calibrated = compute_metrics(*(fit.slope * values + fit.offset for values in (bonafide, spoof)), cost)
    calibrated["gap"] = calibrated["act_dcf"] - calibrated["min_dcf"]
    quantities |= {f"{name}_calibrated": calibrated[name] for name in (*shown, "gap")}
    for name, threshold in fit.thresholds.items():
        p_miss = np.searchsorted(bonafide, threshold) / bonafide.size
        p_fa = (spoof.size - np.searchsorted(spoof, threshold)) / spoof.size
        quantities |= {f"p_miss_at_{name}": p_miss, f"p_fa_at_{name}": p_fa}
        quantities[f"dcf_at_{name}"] = _dcf(p_miss, p_fa, cost)
    return quantities


def _dcf(p_miss: ArrayLike, p_fa: ArrayLike, cost: CostModel) -> ArrayLike:
    """Normalised detection cost, as `metrics.compute_metrics` defines it."""
    miss_cost, fa_cost = cost.c_miss * (1 - cost.p_spoof), cost.c_fa * cost.p_spoof
    return (miss_cost * p_miss + fa_cost * p_fa) / min(miss_cost, fa_cost)
