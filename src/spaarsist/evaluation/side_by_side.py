"""Systems of which only scores are known, side by side on the trials of one key: metrics, intervals, paired tests."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from spaarsist.artefacts import read_scores
from spaarsist.config import CostModel
from spaarsist.data.score_lists import read_key, read_score_list, refuse_strangers
from spaarsist.evaluation.comparison import COMPARED, TESTED, possible
from spaarsist.evaluation.evaluate import doubt
from spaarsist.evaluation.metrics import ASVSPOOF5, RankedTrials
from spaarsist.evaluation.statistics import TrialResampling, bootstrap, holm, percentile_interval, t_test
from spaarsist.names import ConfigError, system_name

METRIC_COLUMNS = ("system", "metric", "value", "ci_low", "ci_high", "n_bonafide", "n_spoof")
COMPARISON_COLUMNS = (
    *("system", "reference", "metric", "value", "reference_value", "difference", "ci_low", "ci_high"),
    *("se_trials", "p", "p_holm"),
)

Systems = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Name of a system -> scores (float64) of the bona fide trials and of the spoofs, each in the key's order."""


class Evaluation(NamedTuple):
    """What `evaluate_systems` found.

    Attributes:
        metrics: a row per system and metric: `METRIC_COLUMNS`; fractions, Cllr and minCllr in bits. The intervals are
            those of `TrialResampling`.
        comparisons: a row per system but the first, and metric of `COMPARED`: `COMPARISON_COLUMNS`. The difference is
            system - reference, which is the first system. p tests it against 0 by the spread of its paired resamples;
            p_holm corrects for all tests of EER and minDCF, and is empty for the other metrics.
    """

    metrics: pd.DataFrame
    comparisons: pd.DataFrame


def read_systems(scores: Sequence[Path], key: Path) -> Systems:
    """Read the scores of every system on the trials of a key.

    A table of text is a system called after its file; a score file of this package (Parquet) is one for each variant,
    called as in the tables. Systems of one name are told apart by the paths of their files.

    Args:
        scores: tables of `read_score_list` or files of `read_scores`, in any mix; at least one.
        key: see `read_key`.

    Raises:
        ConfigError: a file is not of its form, the key has trials of one class only, scores and key are not of the same
            trials, or a file is given twice.
    """
    labels = read_key(key)
    is_bonafide = np.array([label == "bonafide" for label in labels.values()])
    for label, absent in (("bonafide", not is_bonafide.any()), ("spoof", is_bonafide.all())):
        if absent:
            raise ConfigError(f"{key}: no {label} trials; evaluation needs both classes")
    found: list[tuple[str, Path, np.ndarray]] = []
    for path in scores:
        with path.open("rb") as stream:
            is_parquet = stream.read(4) == b"PAR1"
        if is_parquet:
            about, frame = read_scores(path)
            refuse_strangers(path, {*frame.index}, key, labels)
            columns = frame.loc[[*labels]].astype(np.float64)
            found += [(system_name(about["system"], name), path, columns[name].to_numpy()) for name in columns]
        else:
            listed = read_score_list(path)
            refuse_strangers(path, listed, key, labels)
            found.append((path.stem, path, np.array([listed[name] for name in labels])))
    named = Counter(name for name, *_ in found)
    systems = {}
    for name, path, values in found:
        full = name if named[name] == 1 else f"{name} ({path})"
        if full in systems:
            raise ConfigError(f"{path}: is given twice; name each file of scores once")
        systems[full] = values[is_bonafide], values[~is_bonafide]
    return systems


def evaluate_systems(
    systems: Systems,
    cost: CostModel = ASVSPOOF5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    threads: int = 1,
) -> Evaluation:
    """Compute metrics of systems on the same trials, with intervals, and compare all others with the first.

    Every resample draws the same trials for all systems, so that differences are paired. Says on stderr which scores
    can hardly be what they should be.

    Args:
        systems: as `read_systems` gives them; scores finite, equal numbers of trials.
        cost: prior and costs.
        n_bootstrap: resamples, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.
        threads: batches of resamples computed at once; they change nothing but the time.

    Raises:
        ConfigError: there are fewer than two resamples, or `confidence` is out of range.

    Source: as of `evaluation.comparison.compare`, for trials alone: nothing is known of speakers and trainings.
    """
    if n_bootstrap < 2:
        raise ConfigError(f"intervals and tests need two resamples and more; got {n_bootstrap}")
    ranked = {name: RankedTrials(*classes, cost) for name, classes in systems.items()}
    values = {name: trials.metrics() for name, trials in ranked.items()}
    for name, classes in systems.items():
        if said := doubt(np.concatenate(classes), values[name]["eer"]):
            tqdm.write(f"{name}: {said}", file=sys.stderr)
    reference, *others = systems
    sizes = [scores.size for scores in systems[reference]]
    statistics = {name: trials.metrics for name, trials in ranked.items()}
    drawn = bootstrap(statistics, TrialResampling(sizes, seed), n_bootstrap, threads, "resamples")

    rows = [
        (name, metric, value, *percentile_interval(drawn[name][metric], confidence), *sizes)
        for name, found in values.items()
        for metric, value in found.items()
    ]
    compared = []
    for name in others:
        for metric in COMPARED:
            both = values[name][metric], values[reference][metric]
            difference = both[0] - both[1]
            variance = np.var(drawn[name][metric] - drawn[reference][metric], ddof=1)
            test = t_test(difference, [variance], [np.inf], confidence)
            ends = possible(metric, both[1], test.low, test.high)
            compared.append((name, reference, metric, *both, difference, *ends, np.sqrt(variance), test.p))
    comparisons = pd.DataFrame(compared, columns=COMPARISON_COLUMNS[:-1])
    tested = comparisons["metric"].isin(TESTED)
    comparisons.loc[tested, "p_holm"] = holm(comparisons.loc[tested, "p"])
    return Evaluation(pd.DataFrame(rows, columns=METRIC_COLUMNS), comparisons.reindex(columns=[*COMPARISON_COLUMNS]))
