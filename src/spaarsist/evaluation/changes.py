"""What a variant does to each trial: how far scores move, whether their order stays, which decisions flip.

Far less noisy than a difference of EERs: every trial has its say, not only those at the threshold, and the system as it
was trained is the measure, whatever its errors are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spaarsist.artefacts import read_metadata, read_table, writing
from spaarsist.evaluation.calibration import read_thresholds
from spaarsist.evaluation.evaluate import read_scored_trials
from spaarsist.evaluation.statistics import (
    FISHER,
    LOG,
    LOGIT,
    Draw,
    SpeakerResampling,
    TrialResampling,
    bootstrap,
    interval_of_mean,
)
from spaarsist.names import ConfigError, System, system_name

QUANTITIES = {"score_change": LOG, "rank_correlation": FISHER, "flipped": LOGIT, "flipped_retuned": LOGIT}
"""What is measured -> the scale of its intervals."""

KEY = ["system", "reference", "corpus", "quantity"]
COLUMNS = (*KEY, "n_seeds", "n_speakers", "value", "std", "ci_low", "ci_high", "seeds")


def measure(
    scores: Sequence[Path],
    trials: Mapping[str, Path],
    calibration: Sequence[Path],
    reference: str,
    output: Path,
    n_bootstrap: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Hold every variant of a training against one of them, trial by trial; write a TSV.

    ================  ==============================================================================================
    score_change      mean over trials of |score - the reference's score|, in nats
    rank_correlation  Spearman's, of both scores over all trials
    flipped           share of trials on which the two decide differently, both at the reference's threshold
    flipped_retuned   likewise, each at its own threshold
    ================  ==============================================================================================

    A threshold is that of the equal error rate on the development corpus, chosen for each seed by itself. Columns:
    `COLUMNS`; value, the mean over seeds; std (n - 1) over them; their values, in order, with spaces between; and an
    interval that holds both seeds and trials, or speakers, where they are known and that is wider (`interval_of_mean`).
    It is empty where a value lies at the end of its range, or with fewer than two resamples.

    Args:
        scores: score files of one training, of any seeds and corpora; every seed on each of the corpora.
        trials: corpus -> trial list, for each of these.
        calibration: files of `evaluation.calibration.calibrate` of these seeds, which hold the thresholds.
        reference: the system that all others are held against, usually the one as trained.
        output: the TSV to write.
        n_bootstrap: resamples, for variances alone: 200 will do.
        confidence: of the intervals, in (0, 1).
        seed: of the resampling.
        threads: resamples computed at once; they change nothing but the time.

    Raises:
        ConfigError: see `read_scored_trials`; a file is of another training, there twice, of a corpus without trial
            list, or lacks a column that another seed has; a seed lacks a corpus, or a threshold.
    """
    files = _files(scores, trials, reference)
    thresholds = read_thresholds(calibration)
    rows = []
    for corpus, of_seeds in files.items():
        values: list[dict[str, float]] = []  # of each seed: <system>:<quantity> -> value
        drawn: dict[str, dict[str, np.ndarray]] = {}  # way of resampling -> <system>:<quantity> -> sum over seeds
        for training_seed in sorted(of_seeds):
            path = of_seeds[training_seed]
            metadata, listed, frame = read_scored_trials(path, trials[corpus])
            frame.columns = [system_name(metadata["system"], column) for column in frame]
            if reference not in frame:
                raise ConfigError(f"{path}: holds no scores of {reference}; score again")
            classes = [np.flatnonzero(listed["label"] == label) for label in ("bonafide", "spoof")]
            in_classes = frame.iloc[np.concatenate(classes)]
            changes = _Changes(in_classes, reference, _of_seed(thresholds, frame, training_seed))
            values.append(changes())
            if values[-1].keys() != values[0].keys():
                raise ConfigError(f"{path}: holds other variants than the scores of other seeds; score again")
            draws, n_speakers = _draws(listed, classes, seed)
            for way, draw in draws.items() if n_bootstrap > 1 else ():
                found = bootstrap(
                    {"": changes.resampled}, draw, n_bootstrap, threads, f"{corpus}, seed {training_seed}: {way}"
                )
                sums = drawn.setdefault(way, dict.fromkeys(values[0], 0))
                drawn[way] = {key: sums[key] + replicates for key, replicates in found[""].items()}
        for key in values[0]:
            system, _, quantity = key.partition(":")
            own = [of_seed[key] for of_seed in values]
            intervals = []
            for way, sums in drawn.items():
                variance, degrees_of_freedom = (sums[key] / len(own)).var(ddof=1), np.inf
                if way == "speakers":
                    variance, degrees_of_freedom = variance * draws[way].inflation, draws[way].degrees_of_freedom
                ends = interval_of_mean(own, variance, degrees_of_freedom, QUANTITIES[quantity], confidence)
                intervals += [ends] * bool(np.isfinite(ends).all())
            widest = max(intervals, key=lambda ends: ends[1] - ends[0], default=(np.nan, np.nan))
            std = np.std(own, ddof=1) if len(own) > 1 else np.nan
            texts = " ".join(f"{value:.10g}" for value in own)
            counts = (len(own), n_speakers)
            rows.append((system, reference, corpus, quantity, *counts, np.mean(own), std, *widest, texts))
    with writing(output) as path:
        pd.DataFrame(rows, columns=COLUMNS).to_csv(path, sep="\t", index=False, float_format="%.10g")


def read_changes(paths: Sequence[Path]) -> pd.DataFrame:
    """Read files of `measure`: index `KEY`, the other `COLUMNS`.

    Raises:
        ConfigError: a file is unreadable or lacks columns, or a row stands in them twice.
    """
    types = dict.fromkeys((*KEY, "seeds"), str)
    parts = [read_table(path, COLUMNS, KEY, ["value"], dtype=types) for path in paths]
    if not parts:
        raise ConfigError("no file of changes was given")
    table = pd.concat(parts, ignore_index=True).set_index(KEY)[[*COLUMNS[len(KEY) :]]]
    if table.index.has_duplicates:
        twice = " ".join(table.index[table.index.duplicated()][0])
        raise ConfigError(f"the files of changes hold {twice} twice; give each file once")
    return table


class _Changes:
    """The quantities of every system but the reference, however often each trial counts.

    Args:
        scores: a column per system, a row per trial, the bona fide ones first.
        reference: one of the columns.
        thresholds: of each column.
    """

    def __init__(self, scores: pd.DataFrame, reference: str, thresholds: Mapping[str, float]) -> None:
        own = scores[reference].to_numpy()
        accepted = own >= thresholds[reference]
        self._reference = np.unique(own, return_inverse=True)[1]
        self._of_systems = {}
        for system in scores.columns.drop(reference):
            values = scores[system].to_numpy()
            means = {
                "score_change": np.abs(values - own),
                "flipped": (values >= thresholds[reference]) != accepted,
                "flipped_retuned": (values >= thresholds[system]) != accepted,
            }
            self._of_systems[system] = means, np.unique(values, return_inverse=True)[1]

    def resampled(self, *counts: np.ndarray) -> dict[str, np.ndarray]:
        """`<system>:<quantity>` -> values; see `Statistic`."""
        drawn = [self(times) for times in np.concatenate(counts, axis=1)]
        return {key: np.array([found[key] for found in drawn]) for key in drawn[0]}

    def __call__(self, counts: np.ndarray | None = None) -> dict[str, float]:
        """`<system>:<quantity>` -> value. Without counts every trial counts once."""
        times = np.ones(self._reference.size) if counts is None else counts.astype(float)
        n = times.sum()
        of_reference = _centred_ranks(self._reference, times)
        length = np.sum(times * of_reference**2)
        found = {}
        for system, (means, order) in self._of_systems.items():
            ranks = _centred_ranks(order, times)
            # Sums, not dot products, whose last digits depend on the number of threads
            product = np.sqrt(length * np.sum(times * ranks**2))
            rho = np.sum(times * of_reference * ranks) / product if product else 0.0  # all scores equal: no order
            values = {name: float(np.sum(times * per_trial) / n) for name, per_trial in means.items()}
            values["rank_correlation"] = float(np.clip(rho, -1, 1))
            found |= {f"{system}:{quantity}": values[quantity] for quantity in QUANTITIES}
        return found


def _centred_ranks(order: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mid-ranks less their mean, each trial counted so many times; `order` numbers the distinct scores from below."""
    of_score = np.bincount(order, weights=times)
    return (np.cumsum(of_score) - of_score / 2 - times.sum() / 2)[order]


def _draws(listed: pd.DataFrame, classes: list[np.ndarray], seed: int) -> tuple[dict[str, Draw], int]:
    """Ways of resampling, as in `evaluate`, and the number of speakers; 0 where they are not known."""
    draws: dict[str, Draw] = {"trials": TrialResampling([members.size for members in classes], seed)}
    names = listed["speaker_id"].to_numpy(str)
    if (names == "-").any():
        return draws, 0
    speakers = SpeakerResampling([names[members] for members in classes], seed)
    return draws | ({"speakers": speakers} if speakers.degrees_of_freedom else {}), speakers.n_speakers


def _files(scores: Sequence[Path], trials: Mapping[str, Path], reference: str) -> dict[str, dict[int, Path]]:
    """Corpus -> training seed -> file."""
    files: dict[str, dict[int, Path]] = {}
    trained = System.parse(reference).trained
    for path in scores:
        about: dict[str, Any] = read_metadata(path)
        if about["system"] != trained:
            raise ConfigError(f"{path}: scores of {about['system']}, but {reference} is a variant of {trained}")
        if about["corpus"] not in trials:
            raise ConfigError(f"{path}: no trial list was given for corpus {about['corpus']!r}")
        if about["seed"] in (of_seeds := files.setdefault(about["corpus"], {})):
            raise ConfigError(f"{path}: {about['corpus']}, seed {about['seed']}, was given before; give each file once")
        of_seeds[about["seed"]] = path
    if not files:
        raise ConfigError("no score file was given to measure changes in")
    seeds = set().union(*files.values())
    for corpus, of_seeds in files.items():
        if absent := sorted(seeds - {*of_seeds}):
            raise ConfigError(f"no scores of {trained} on {corpus} of seed {absent[0]}, which other corpora have")
    return files


def _of_seed(thresholds: Mapping[tuple[str, int], float], frame: pd.DataFrame, seed: int) -> dict[str, float]:
    if absent := [system for system in frame if (system, seed) not in thresholds]:
        raise ConfigError(f"no development threshold of {absent[0]}, seed {seed}; calibrate this training again")
    return {system: thresholds[system, seed] for system in frame}
