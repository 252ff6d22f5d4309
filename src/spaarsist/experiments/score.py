"""Scoring: one pass over the audio, every variant of a checkpoint; and the official score file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from spaarsist.artefacts import SCORE_METADATA, file_hash, provenance, read_metadata, trials_hash, writing
from spaarsist.data.protocol import read_trials
from spaarsist.experiments.excerpts import Excerpts, ignore_termination
from spaarsist.models.detector import Detector, load_checkpoint, prepare_torch
from spaarsist.names import AS_TRAINED, ConfigError, Variant


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
    batches = DataLoader(
        excerpts, batch_size, num_workers=workers, pin_memory=device.type == "cuda", worker_init_fn=ignore_termination
    )
    scores = [
        detector.scores(inputs.to(device, non_blocking=True), variants).cpu().numpy()
        for inputs, _ in tqdm(batches, desc=description, unit="batch", mininterval=2)
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

    The file has `trial_id` and one float32 column per variant, named by `Variant.column` (`score` for a back-end that
    has none): log P(bona fide) - log P(spoof) in nats, higher = more bona fide, in the list's order; no labels. Its
    metadata (key `spaarsist`, JSON) says which back-end, checkpoint, code, excerpt and versions made it. The batch size
    changes scores by no more than rounding, unless the recipe normalises waveforms over the batch.

    Columns that `output` holds already, made by the same checkpoint, trials, code and versions, are taken over, and
    only the missing ones cost a pass; where none is missing and none is too many, the file is left untouched.

    Raises:
        ConfigError: variants of a back-end that has none, an unreadable file, or a score that is not finite (names the
            trial).
    """
    detector, record = load_checkpoint(checkpoint)
    if variants and detector.column == AS_TRAINED:
        raise ConfigError(f"{checkpoint}: {record['system']} has no variants; ask for none")
    columns = [variant.column for variant in variants] or [detector.column]
    crop = record["recipe"]["crop"]
    metadata = {
        "system": record["system"],
        "seed": record["seed"],
        "corpus": corpus or trial_list.stem,
        "backend": record["backend"]["kind"],
        "checkpoint": file_hash(checkpoint / "model.safetensors"),
        "trial_list": trials_hash(trial_list),
        "crop": f"centre {crop} samples",
        "deterministic": record["deterministic_algorithms"],
        "polarity": "higher = more bona fide; log P(bona fide) - log P(spoof), nats",
        "trained_with": record["provenance"],
        "provenance": provenance(backend=record["backend"]["kind"]),
    }
    present = _present(output, metadata)
    if present.column_names == ["trial_id", *columns] and read_metadata(output) == metadata:
        tqdm.write(f"{output}: already holds these scores; kept", file=sys.stderr)
        return
    place = prepare_torch(threads, device)
    trials = read_trials(trial_list)
    content = {"trial_id": trials["trial_id"].to_numpy(dtype=object)}
    content |= {column: present[column].to_numpy() for column in columns if column in present.column_names}
    if missing := [column for column in columns if column not in content]:
        absent = [variant for variant in variants if variant.column in missing]
        excerpts = Excerpts(trials, crop)
        scores = score_excerpts(detector.to(place), excerpts, absent, batch_size, workers, f"score {trial_list.stem}")
        if not np.isfinite(scores).all():
            row, column = np.argwhere(~np.isfinite(scores))[0]
            raise ConfigError(f"trial {trials['trial_id'][row]}, column {missing[column]}: score is not finite")
        content |= {column: scores[:, i] for i, column in enumerate(missing)}
    table = pyarrow.table({name: content[name] for name in ["trial_id", *columns]})
    table = table.replace_schema_metadata({SCORE_METADATA: json.dumps(metadata, sort_keys=True)})
    with writing(output) as path:
        pyarrow.parquet.write_table(table, path)


def _present(output: Path, metadata: dict) -> pyarrow.Table:
    """What a score file holds that was made as `metadata` says, whatever the corpus is called; else nothing."""
    nothing = pyarrow.table({})
    if not output.exists():
        return nothing
    try:
        if read_metadata(output) | {"corpus": ""} != metadata | {"corpus": ""}:
            return nothing
        return pyarrow.parquet.read_table(output)
    except (ConfigError, OSError, pyarrow.ArrowInvalid):  # damaged
        return nothing


def export_scores(scores: Path, output: Path, column: str) -> None:
    """Write one variant's scores as the ASVspoof 5 package reads them: `filename<TAB>cm-score`, with a header.

    Raises:
        ConfigError: the file is no score file, or has no such column (the message lists those it has).
    """
    try:
        table = pd.read_parquet(scores)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(f"{scores}: not readable as a score file ({error})") from None
    if column not in table.columns[1:]:
        raise ConfigError(f"{scores}: no variant {column!r}; it has {', '.join(table.columns[1:])}")
    with writing(output) as path:
        table[["trial_id", column]].to_csv(
            path, sep="\t", index=False, header=["filename", "cm-score"], float_format="%.9g"
        )
