"""Scoring: one pass over the audio, every variant of a checkpoint; to and from the official score file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import torch
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from spaarsist.artefacts import (
    SCORE_METADATA,
    distinct,
    file_hash,
    locked,
    provenance,
    read_metadata,
    read_scores,
    trials_hash,
    writing,
)
from spaarsist.data.protocol import read_trials, write_key
from spaarsist.experiments.excerpts import excerpt_of, excerpts_of, reading
from spaarsist.models.detector import Detector, load_checkpoint, prepare_torch
from spaarsist.names import ConfigError, System, Variant, column_as_trained

PART = 50_000
"""Trials after which scores are laid aside, so that a killed pass goes on there."""


@torch.inference_mode()
def score_excerpts(
    detector: Detector,
    excerpts: Dataset,
    variants: Sequence[Variant],
    batch_size: int,
    workers: int,
    description: str,
) -> np.ndarray:
    """Score every excerpt with every variant, in one pass.

    Args:
        excerpts: gives (waveform or frames, position): `Excerpts`, or `CachedFrames` of them, or a `Subset` of either.

    Returns:
        float32 (len(excerpts), n_variants) in their order, one column without variants; see `Detector.scores`.
    """
    detector.eval()
    device = next(detector.parameters()).device
    how = {"batch_size": batch_size, "pin_memory": device.type == "cuda"}
    with reading(excerpts, workers, {"desc": description, "unit": "batch"}, **how) as batches:
        scores = [
            detector.scores(inputs.to(device, non_blocking=True), variants).cpu().numpy() for inputs, _ in batches
        ]
    return np.concatenate(scores)


def score(
    checkpoint: Path,
    trial_list: Path,
    output: Path,
    variants: Sequence[Variant] = (),
    *,
    corpus: str = "",
    batch_size: int = 16,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Score every trial of a list with every variant of a checkpoint, or with the back-end as trained; write Parquet.

    The file has `trial_id` and one float32 column per variant, named by `Variant.column`, or as trained by
    `column_as_trained`: log P(bona fide) - log P(spoof) in nats, higher = more bona fide, in the list's order; no
    labels. Its metadata (key `spaarsist`, JSON) says which back-end, checkpoint, code, excerpt and versions made it.
    The batch size changes scores by no more than rounding, unless the recipe normalises waveforms over the batch.

    Columns that `output` holds already, made by the same checkpoint, trials, code and versions, are taken over, and
    only the missing ones cost a pass; where none is missing and none is too many, the file is left untouched. A killed
    pass goes on behind its last 50,000 trials, to the same bytes.

    Raises:
        ConfigError: variants of a back-end that has none, an unreadable file, a score that is not finite (names the
            trial), or another process that makes the same file.
    """
    detector, record = load_checkpoint(checkpoint)
    if variants and detector.variant is None:
        raise ConfigError(f"{checkpoint}: {record['system']} has no variants; ask for none")
    columns = [variant.column for variant in variants] or [column_as_trained(record["system"], detector.variant)]
    metadata = {
        "system": record["system"],
        "seed": record["seed"],
        "corpus": corpus or trial_list.stem,
        "backend": record["backend"]["kind"],
        "checkpoint": file_hash(checkpoint / "model.safetensors"),
        "trial_list": trials_hash(trial_list),
        "crop": str(excerpt_of(record)),
        "deterministic": record["deterministic_algorithms"],
        "polarity": "higher = more bona fide; log P(bona fide) - log P(spoof), nats",
        "trained_with": record["provenance"],
        "provenance": provenance(backend=record["backend"]["kind"]),
    }
    with locked(output):
        how = (variants, columns, batch_size, device, threads, workers)
        _complete(output, metadata, detector, record, trial_list, *how)


def _complete(
    output: Path,
    metadata: dict,
    detector: Detector,
    record: dict,
    trial_list: Path,
    variants: Sequence[Variant],
    columns: Sequence[str],
    batch_size: int,
    device: str,
    threads: int,
    workers: int,
) -> None:
    """Add to a score file what it lacks."""
    trials = read_trials(trial_list)
    present = _present(output, metadata, trials)
    parts = output.with_name(f".{output.stem}.parts")
    if [*present] == [*columns] and read_metadata(output) == metadata:
        tqdm.write(f"{output}: already holds these scores; kept", file=sys.stderr)
        shutil.rmtree(parts, ignore_errors=True)
        return
    place = prepare_torch(threads, device)
    content = {"trial_id": trials["trial_id"].to_numpy(dtype=object)}
    content |= {column: present[column].to_numpy() for column in columns if column in present}
    if missing := [column for column in columns if column not in content]:
        absent = [variant for variant in variants if variant.column in missing]
        excerpts = excerpts_of(record, trials)

        def score_rows(rows: range) -> np.ndarray:
            description = f"score {trial_list.stem}" + (f" from {rows.start:,}" if len(rows) < len(trials) else "")
            scores = score_excerpts(
                detector.to(place), Subset(excerpts, rows), absent, batch_size, workers, description
            )
            if not np.isfinite(scores).all():
                row, column = np.argwhere(~np.isfinite(scores))[0]
                trial = trials["trial_id"][rows[row]]
                raise ConfigError(f"trial {trial}, column {missing[column]}: score is not finite")
            return scores

        made_of = json.dumps(metadata | {"corpus": "", "columns": missing}, sort_keys=True)
        rows_per_part = -(-PART // batch_size) * batch_size  # whole batches: what is scored together changes rounding
        scores = _in_parts(parts, hashlib.sha256(made_of.encode()).hexdigest(), len(trials), rows_per_part, score_rows)
        content |= {column: scores[:, i] for i, column in enumerate(missing)}
    _write(output, {name: content[name] for name in ["trial_id", *columns]}, metadata)
    shutil.rmtree(parts, ignore_errors=True)


def _write(output: Path, content: dict[str, np.ndarray], metadata: dict) -> None:
    table = pyarrow.table(content).replace_schema_metadata({SCORE_METADATA: json.dumps(metadata, sort_keys=True)})
    with writing(output) as path:
        pyarrow.parquet.write_table(table, path, write_page_checksum=True)


def _in_parts(
    folder: Path, identity: str, n: int, rows_per_part: int, score_rows: Callable[[range], np.ndarray]
) -> np.ndarray:
    """Scores of n rows, part by part; those that a killed process has left are taken, if they are whole and of this.

    A part is `<first row>-<start of its hash>.npy` in a folder named after what the scores are made of.
    """
    of_this = folder / identity[:16]
    for other in folder.glob("*"):
        if other != of_this:
            shutil.rmtree(other)
    found = []
    for first in range(0, n, rows_per_part):
        rows = range(first, min(first + rows_per_part, n))
        part = _left_behind(of_this, rows)
        if part is None:
            part = score_rows(rows)
            content = io.BytesIO()
            np.save(content, part)
            digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
            with writing(of_this / f"{first}-{digest}.npy") as path:
                path.write_bytes(content.getvalue())
        found.append(part)
    return np.concatenate(found)


def _left_behind(folder: Path, rows: range) -> np.ndarray | None:
    """A part that a killed process has left, if it is whole."""
    for path in folder.glob(f"{rows.start}-*.npy"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] == path.stem.partition("-")[2]:
            part = np.load(io.BytesIO(content))
            if len(part) == len(rows):
                return part
    return None


def _present(output: Path, metadata: dict, trials: pd.DataFrame) -> pd.DataFrame:
    """What a score file holds that was made as `metadata` says, whatever the corpus is called; else no columns."""
    nothing = pd.DataFrame(index=trials["trial_id"])
    if not output.exists():
        return nothing
    try:
        about, frame = read_scores(output)
    except ConfigError:  # damaged
        return nothing
    made_so = about | {"corpus": ""} == metadata | {"corpus": ""}
    return frame if made_so and frame.index.equals(nothing.index) else nothing


def export_scores(scores: Path, output: Path, column: str) -> None:
    """Write one variant's scores as the ASVspoof 5 package reads them: `filename<TAB>cm-score`, with a header.

    Raises:
        ConfigError: the file is no score file (see `read_scores`), or has no such column (the message lists those it
            has).
    """
    distinct([output], [scores])
    _, frame = read_scores(scores)
    if column not in frame:
        raise ConfigError(f"{scores}: no variant {column!r}; it has {', '.join(frame)}")
    with writing(output) as path:
        frame[[column]].to_csv(
            path, sep="\t", index_label="filename", header=["cm-score"], float_format="%.9g", quoting=csv.QUOTE_NONE
        )


def import_scores(
    scores: Path, key: Path, output: Path, trial_list: Path, system: str, *, corpus: str = "", seed: int = 0
) -> None:
    """Turn scores and key of another system, as tables of text, into a score file and a trial list of this package.

    Scores become one column of float64, in the key's order. The trial list has no recordings: it serves evaluation.

    Args:
        scores: see `read_score_list`; higher = more bona fide, nats where they are log odds.
        key: see `read_key`.
        output: the score file to write.
        trial_list: the trial list to write.
        system: name of the system, such as `Mine`, or a row of the tables, such as `AST-03-01-Mag`.
        corpus: its name; default: the trial list's.
        seed: of the training.

    Raises:
        ConfigError: a file is not of that form (names the line), a trial is there twice, a score is no finite number,
            or one of the files lacks trials of the other.
    """
    from spaarsist.data.score_lists import read_key, read_score_list, refuse_strangers  # scoring does without

    distinct([output, trial_list], [scores, key])
    row = System.parse(system)
    found, labels = read_score_list(scores), read_key(key)
    refuse_strangers(scores, found, key, labels)
    with writing(trial_list) as path:
        write_key(labels, path)
        metadata = {
            "system": row.trained,
            "seed": seed,
            "corpus": corpus or trial_list.stem,
            "trial_list": trials_hash(path),
            "imported_from": file_hash(scores),
        }
        columns = {"trial_id": np.array([*labels], object), row.column: np.array([found[name] for name in labels])}
        _write(output, columns, metadata)
