"""Score files -> metrics of every variant and condition, with intervals, and the replicates that these come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from spaarsist.artefacts import (
    SCORE_METADATA,
    read_metadata,
    read_parquet,
    read_scores,
    reject,
    trials_hash,
    writing,
)
from spaarsist.config import CostModel
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.metrics import ASVSPOOF5, METRICS, RankedTrials
from spaarsist.evaluation.statistics import Draw, SpeakerResampling, TrialResampling, bootstrap, percentile_interval
from spaarsist.names import ConfigError, system_name

RESULT_COLUMNS = (
    *("system", "seed", "variant", "corpus", "condition", "metric"),
    *("value", "ci_low", "ci_high", "n_bonafide", "n_spoof"),
)
SPEAKER_COLUMNS = ("speakers_low", "speakers_high", "n_speakers")


def read_scored_trials(scores: Path, trials: Path) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Read a score file and the trial list that says what its trials are, and join them.

    Args:
        scores: score file, see `read_scores`; its metadata holds the trial list's `trials_hash` if the package made it.
        trials: trial list that `spaarsist.data.protocol.make_trials` wrote.

    Returns:
        The metadata; the trial list (strings); the scores, one float64 column per variant and the rows of the
        trial list.

    Raises:
        ConfigError: see `read_scores` and `read_trials`; or the scores were made from another trial list, a trial is
            missing or left over, has no label, or a class is empty.
    """
    metadata, frame = read_scores(scores)
    listed = read_trials(trials, both_classes=True)
    if metadata.get("trial_list", made := trials_hash(trials)) != made:
        raise ConfigError(f"{scores}: scored from another trial list than {trials} is now; delete it and score again")
    ids = pd.Index(listed["trial_id"])
    reject(ids.difference(frame.index, sort=False), f"{scores}: trials of {trials} not scored")
    reject(frame.index.difference(ids, sort=False), f"{scores}: trials that {trials} does not list")
    return metadata, listed, frame.loc[ids].astype(np.float64).reset_index(drop=True)


def evaluate(
    scores: Path,
    trials: Path,
    output: Path,
    replicates: Path,
    cost: CostModel = ASVSPOOF5,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Write the metrics of every variant in a score file, with bootstrap intervals, overall and by condition.

    Conditions: `pooled`; `attack:<id>`, that attack's spoofs against all bona fide trials; `vocoder:<kind>`, the spoofs
    by such vocoders against the same, where the trial list names them; `codec:<id>`, the
    trials of that codec (`codec:-`, no codec, stands beside others only), where both classes occur.

    Args:
        scores: score file, see `read_scored_trials`.
        trials: its trial list.
        output: TSV to write: system, seed, variant, corpus, condition, metric, value, ci_low, ci_high (trials
            resampled), n_bonafide, n_spoof, speakers_low, speakers_high, n_speakers; fractions. Speakers are resampled
            in the pooled condition, if the trial list names the speaker of every trial and there are enough of them
            (`SpeakerResampling.degrees_of_freedom`); else these intervals are empty. n_speakers is 0 where they are not
            known, and in other conditions.
        replicates: Parquet to write, the replicates of the pooled condition: `resampling` (trials or speakers),
            `replicate` (0, 1, ...), and `<variant>:<metric>` for each variant and metric. Rows of one number in files
            on one trial list rest on the same draw. The metadata holds the score file's system, seed and corpus, the
            trial list's `trials_hash`, resampling_seed, n_speakers and speaker_degrees_of_freedom.
        cost: prior and costs.
        n_bootstrap: replicates per condition and way of resampling; 0 leaves intervals and `replicates` empty.
        confidence: of the percentile intervals, in (0, 1); `TrialResampling` and `SpeakerResampling` say what they
            cover.
        seed: of the resampling.
        threads: replicates computed at once; they change nothing but the time.

    Raises:
        ConfigError: see `read_scored_trials`; or `confidence` is out of range.
    """
    metadata, listed, frame = read_scored_trials(scores, trials)
    is_bonafide = (listed["label"] == "bonafide").to_numpy()
    names = listed["speaker_id"].to_numpy(str)
    speakers = SpeakerResampling([names[is_bonafide], names[~is_bonafide]], seed) if (names != "-").all() else None
    n_speakers = speakers.n_speakers if speakers else 0

    rows, pooled = [], {}
    for condition, chosen in _conditions(listed):
        classes = [np.flatnonzero(chosen & members) for members in (is_bonafide, ~is_bonafide)]
        sizes = [members.size for members in classes]
        ranked = {
            column: RankedTrials(*(values.to_numpy()[members] for members in classes), cost)
            for column, values in frame.items()
        }
        draws: dict[str, Draw] = {"trials": TrialResampling(sizes, seed)}
        if condition == "pooled" and speakers and speakers.degrees_of_freedom:
            draws["speakers"] = speakers
        found = {}
        for resampling, draw in draws.items() if n_bootstrap else ():
            progress = f"{metadata['corpus']}: {resampling}" if condition == "pooled" else ""
            statistics = {column: trials_of_column.metrics for column, trials_of_column in ranked.items()}
            found[resampling] = bootstrap(statistics, draw, n_bootstrap, threads, progress)
        if condition == "pooled":
            pooled = found
            for column, trials_of_column in ranked.items():
                if said := doubt(frame[column].to_numpy(), trials_of_column.metrics()["eer"]):
                    tqdm.write(f"{scores}, column {column}: {said}", file=sys.stderr)
        for column, trials_of_column in ranked.items():
            identity = (
                *(system_name(metadata["system"], column), metadata["seed"], column),
                *(metadata["corpus"], condition),
            )
            for metric, value in trials_of_column.metrics().items():
                intervals = {
                    resampling: percentile_interval(values[column][metric], confidence)
                    for resampling, values in found.items()
                }
                unknown = (np.nan, np.nan)
                rows.append((
                    *(*identity, metric, value, *intervals.get("trials", unknown), *sizes),
                    *(*intervals.get("speakers", unknown), n_speakers if condition == "pooled" else 0),
                ))  # fmt: skip
    about = {key: metadata[key] for key in ("system", "seed", "corpus")}
    about |= {"trial_list": trials_hash(trials), "resampling_seed": seed, "n_speakers": n_speakers}
    about["speaker_degrees_of_freedom"] = speakers.degrees_of_freedom if speakers else 0
    with writing(replicates) as path:
        pq.write_table(_table(pooled, [*frame], n_bootstrap, about), path)
    with writing(output) as path:
        table = pd.DataFrame(rows, columns=[*RESULT_COLUMNS, *SPEAKER_COLUMNS])
        table.to_csv(path, sep="\t", index=False, float_format="%.10g")


def doubt(scores: np.ndarray, eer: float) -> str:
    """Say why scores can hardly be what they should be; empty if nothing speaks against them.

    Args:
        scores: of all trials, shape (n,).
        eer: their equal error rate.
    """
    if (scores == scores[0]).all():
        return f"every score is {scores[0]:g}: these metrics say nothing of the system"
    if eer > 0.5:
        return (
            f"an EER of {100 * eer:.1f} % is worse than chance; higher scores must mean more bona fide, so the sign "
            "may be wrong"
        )
    return ""


def _table(
    found: dict[str, dict[str, dict[str, np.ndarray]]], columns: list[str], n_replicates: int, about: dict[str, Any]
) -> pa.Table:
    """Replicates (resampling -> column -> metric -> values) as `evaluate` writes them."""
    content = {
        "resampling": pa.array(np.repeat([*found], n_replicates).tolist(), pa.string()),
        "replicate": pa.array(np.tile(np.arange(n_replicates), len(found)), pa.int64()),
    }
    for column in columns:
        for metric in METRICS:
            parts = [values[column][metric] for values in found.values()]
            content[f"{column}:{metric}"] = pa.array(np.concatenate([[], *parts]), pa.float64())
    return pa.table(content).replace_schema_metadata({SCORE_METADATA: json.dumps(about, sort_keys=True)})


class Replicates(NamedTuple):
    """Replicates of a score file's pooled condition.

    Attributes:
        path: their file.
        about: its metadata, see `evaluate`.
        values: resampling (trials, speakers) -> a row per replicate, a column per `<variant>:<metric>`. No key where
            nothing was resampled that way.
    """

    path: Path
    about: dict[str, Any]
    values: dict[str, pd.DataFrame]

    def spread(self, resampling: str, replicates: np.ndarray) -> tuple[float, float]:
        """Variance of what was resampled so, and its degrees of freedom: infinite over trials, few over speakers.

        Few speakers vary too little when they are resampled; `SpeakerResampling.inflation` makes up for that.

        Args:
            resampling: trials or speakers.
            replicates: of one quantity, or of a difference of paired ones, shape (n_replicates,).
        """
        variance, degrees_of_freedom = float(np.var(replicates, ddof=1)), np.inf
        if resampling == "speakers":
            degrees_of_freedom = self.about["speaker_degrees_of_freedom"]
            variance *= self.about["n_speakers"] / degrees_of_freedom
        return variance, degrees_of_freedom


def read_replicates(path: Path, columns: Sequence[str] | None = None, like: Replicates | None = None) -> Replicates:
    """Read a file of replicates.

    Args:
        path: Parquet that `evaluate` wrote.
        columns: those to read; None reads all.
        like: replicates that these must be paired with, row by row.

    Raises:
        ConfigError: it is no such file, lacks a column, or does not go with `like`; named.
    """
    about = read_metadata(path)
    present = pq.read_schema(path).names
    wanted = present if columns is None else ["resampling", "replicate", *columns]
    if absent := [name for name in ("resampling", "replicate", *wanted) if name not in present]:
        raise ConfigError(f"{path}: holds no replicates of {', '.join(absent)}; compute the metrics again")
    table = read_parquet(path, [*wanted]).to_pandas().set_index("replicate")
    for column, drawn in table.drop(columns="resampling").items():
        if drawn.dtype != np.float64 or not np.isfinite(drawn).all():
            raise ConfigError(f"{path}: {column} holds what is no finite number; compute the metrics again")
    for key in ("n_speakers", "speaker_degrees_of_freedom"):
        if type(about.get(key)) not in (int, float):
            raise ConfigError(f"{path}: does not say its {key}; compute the metrics again")
    values = {resampling: part.drop(columns="resampling") for resampling, part in table.groupby("resampling")}
    found = Replicates(path, about, values)
    if like is not None:
        if about.get("trial_list") != like.about.get("trial_list"):
            raise ConfigError(
                f"{path} and {like.path} rest on different trial lists; delete both and compute the metrics again"
            )
        same_draws = about.get("resampling_seed") == like.about.get("resampling_seed")
        if not same_draws or _rows(found) != _rows(like):
            raise ConfigError(f"{path} and {like.path} were resampled differently; compute the metrics again")
    return found


def _rows(replicates: Replicates) -> dict[str, int]:
    return {resampling: len(values) for resampling, values in replicates.values.items()}


def _conditions(listed: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Name and row mask of each condition that a trial list allows."""
    is_bonafide = listed["label"] == "bonafide"
    yield "pooled", pd.Series(True, index=listed.index)
    for kind, column in (("attack", "attack_id"), ("vocoder", "vocoder")):
        for name in sorted({*listed.loc[~is_bonafide, column]} - {"-"}) if column in listed else ():
            yield f"{kind}:{name}", is_bonafide | (listed[column] == name)
    codecs = sorted({*listed["codec"]})
    for codec in codecs if codecs != ["-"] else []:
        chosen = listed["codec"] == codec
        if listed.loc[chosen, "label"].nunique() == 2:
            yield f"codec:{codec}", chosen
