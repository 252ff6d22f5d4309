"""Recordings of anybody, without protocol or labels: what a checkpoint makes of them, and how much of them it heard."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from spaarsist.artefacts import CALIBRATION
from spaarsist.config import SAMPLE_RATE
from spaarsist.data import audio
from spaarsist.deployment.card import describe
from spaarsist.evaluation.calibration import read_thresholds
from spaarsist.experiments.excerpts import FRAME, excerpt_of
from spaarsist.models.detector import load_checkpoint, prepare_torch
from spaarsist.names import ConfigError, Variant, column_as_trained, system_name

Form = Literal["text", "tsv", "json"]
COLUMNS = ("file", "duration_s", "start_s", "end_s", "score", "threshold", "verdict")
"""Of the TSV; a row for each part of a recording that was scored."""

BONAFIDE, SPOOF, NO_SIGNAL, NO_THRESHOLD = "bona fide", "spoof", "no signal", "no threshold"
"""Verdicts."""


class Recording(NamedTuple):
    """What was heard of a recording.

    Attributes:
        path: of the file.
        duration: of the whole, in seconds.
        parts: a row for each part that was scored: start_s, end_s (seconds; without what pads a short recording), score
            (nats, higher = more bona fide), verdict.
    """

    path: Path
    duration: float
    parts: pd.DataFrame

    @property
    def heard(self) -> float:
        """Seconds from the first part's beginning to the last one's end; parts leave no gaps."""
        return float(self.parts["end_s"].max() - self.parts["start_s"].min())

    @property
    def name(self) -> str:
        """The path on one line, whatever is in it."""
        text = str(self.path)
        return text if text.isprintable() else ascii(text)


class Listener:
    """A checkpoint that scores single recordings.

    Args:
        checkpoint: folder of a training.
        variant: of an AASIST; None: as trained.
        calibration: file of `evaluation.calibration.calibrate` of this training, for the threshold of the development
            corpus; None: that in the checkpoint's folder, if there is one.
        device: `cpu` or `cuda`.
        threads: CPU threads.

    Attributes:
        system: name as in tables, such as `AST-05-01-Mag`.
        model: what is known of the checkpoint, and what its scores are good for, in a line or two.
        threshold: nats; None if none is known. At or above it a recording is taken for bona fide.
        threshold_from: where it comes from, or why there is none.

    Raises:
        ConfigError: no whole checkpoint, a variant of a back-end that has none, or a `calibration` without a threshold
            of this system and seed.
    """

    def __init__(
        self,
        checkpoint: Path,
        variant: Variant | None = None,
        calibration: Path | None = None,
        *,
        device: str = "cpu",
        threads: int = 1,
    ) -> None:
        self._place = prepare_torch(threads, device)
        self._detector, self._record = load_checkpoint(checkpoint)
        if variant and self._detector.variant is None:
            raise ConfigError(f"{checkpoint}: {self._record['system']} has no variants; ask for none")
        self._detector.to(self._place)
        self._variants = [variant] if variant else []
        trained = self._record["system"]
        column = variant.column if variant else column_as_trained(trained, self._detector.variant)
        self.system, self.model = system_name(trained, column), describe(self._record)
        self.threshold, self.threshold_from = self._find_threshold(checkpoint, calibration)

    def _find_threshold(self, checkpoint: Path, calibration: Path | None) -> tuple[float | None, str]:
        if calibration is None and not (checkpoint / CALIBRATION).exists():
            return None, "a checkpoint's record holds none; --calibration names a file of `calibrate` that does"
        file = calibration or checkpoint / CALIBRATION
        wanted = self.system, self._record["seed"]
        threshold = read_thresholds([file]).get(wanted, math.nan)
        if math.isfinite(threshold):
            return threshold, f"equal error rate on the development corpus, {file}"
        lacking = f"{file}: no finite development threshold of {self.system}, seed {wanted[1]}"
        if calibration is None:
            return None, lacking
        raise ConfigError(f"{lacking}; name a file of `calibrate` on this training's scores with that variant")

    def listen(self, path: Path, *, windows: bool = False) -> Recording:
        """Score the excerpt of a recording that `score` takes as well, or the whole of it in steps.

        Args:
            path: of any container that `audio.read_any` takes.
            windows: score the whole, in windows as long as an excerpt; each begins half a window after the one before,
                and the last ends with the recording. A recording that is shorter than one is scored as without.

        Raises:
            ConfigError: see `audio.read_any`; or a score is not finite.
        """
        waveform = audio.read_any(path)
        rows = []
        parts = [*self._parts(waveform, windows)]
        for start, end, excerpt in tqdm(parts, desc=path.name, unit="window", leave=False, disable=_bar(len(parts))):
            score = self._score(excerpt)
            if not math.isfinite(score):
                raise ConfigError(
                    f"{path}: the score from {start / SAMPLE_RATE:.2f} s on is {score}, not a finite number"
                )
            rows.append((start / SAMPLE_RATE, end / SAMPLE_RATE, score, self._verdict(score, excerpt)))
        table = pd.DataFrame(rows, columns=["start_s", "end_s", "score", "verdict"])
        return Recording(path, len(waveform) / SAMPLE_RATE, table)

    def _parts(self, waveform: np.ndarray, windows: bool) -> Iterator[tuple[int, int, np.ndarray]]:
        """First sample, the one behind the last, and the excerpt (crop,) of each part to score."""
        shown = excerpt_of(self._record)
        crop = shown.crop
        last = len(waveform) - crop
        if windows and last > 0:
            for start in [*range(0, last, max(crop // 2, 1)), last]:
                yield start, start + crop, waveform[start : start + crop]
        else:
            heard = audio.crop(np.arange(len(waveform)), crop, shown.place)
            yield int(heard[0]), int(heard[-1]) + 1, audio.pad(waveform[heard], crop, shown.padding)

    @torch.inference_mode()
    def _score(self, excerpt: np.ndarray) -> float:
        # One at a time: a recipe may normalise over the batch, and a score is to be of this stretch alone
        return self._detector.scores(torch.from_numpy(excerpt)[None].to(self._place), self._variants).item()

    def _verdict(self, score: float, excerpt: np.ndarray) -> str:
        if np.count_nonzero(np.diff(excerpt)) < FRAME:
            return NO_SIGNAL
        if self.threshold is None:
            return NO_THRESHOLD
        return BONAFIDE if score >= self.threshold else SPOOF


def detect(
    listener: Listener,
    files: Sequence[Path],
    *,
    windows: bool = False,
    form: Form = "text",
    draw: Callable[[Recording], None] | None = None,
) -> int:
    """Listen to recordings and print what was found; what cannot be read is told on stderr, a line each.

    Args:
        listener: what scores them.
        files: recordings.
        windows: see `Listener.listen`.
        form: `text`, a line for each recording; `tsv`, `COLUMNS`; `json`, one object.
        draw: is given each recording.

    Returns:
        How many files could not be scored.
    """
    threshold = "none known" if listener.threshold is None else f"{listener.threshold:+.3f} nats"
    about = f"{listener.model}\n{listener.system}, threshold: {threshold} ({listener.threshold_from})"
    if form != "json":
        print(about, file=sys.stderr if form == "tsv" else sys.stdout, flush=True)
    if form == "tsv":
        print(*COLUMNS, sep="\t", flush=True)
    found: list[dict[str, Any]] = []
    for path in tqdm(files, desc="listen", unit="file", leave=False, disable=_bar(len(files))):
        try:
            recording = listener.listen(path, windows=windows)
        except ConfigError as error:
            tqdm.write(f"spaarsist: {error}", file=sys.stderr)
            found.append({"file": str(path), "error": str(error)})
            continue
        duration = recording.duration
        found.append({"file": str(path), "duration_s": duration, "parts": recording.parts.to_dict("records")})
        if form == "text":
            said = _of_windows(recording, listener.threshold) if windows else _of_excerpt(recording)
            tqdm.write(f"{said}  {recording.heard:.2f} of {duration:.2f} s heard  {recording.name}")
        elif form == "tsv":
            limit = "" if listener.threshold is None else f"{listener.threshold:.9g}"
            for part in recording.parts.itertuples():
                numbers = (f"{number:.9g}" for number in (duration, part.start_s, part.end_s, part.score))
                tqdm.write("\t".join([recording.name, *numbers, limit, part.verdict]))
        if draw:
            draw(recording)
    if form == "json":
        content = {
            "model": listener.model,
            "system": listener.system,
            "polarity": "higher = more bona fide; log P(bona fide) - log P(spoof), nats",
            "threshold": listener.threshold,
            "threshold_from": listener.threshold_from,
            "windows": windows,
            "files": found,
        }
        print(json.dumps(content, indent=1))
    return sum("error" in about for about in found)


def _of_excerpt(recording: Recording) -> str:
    (part,) = recording.parts.itertuples()
    return f"{part.score:+8.3f} nats  {part.verdict:{len(NO_THRESHOLD)}}"


def _of_windows(recording: Recording, threshold: float | None) -> str:
    parts = recording.parts
    with_signal = parts[parts["verdict"] != NO_SIGNAL]
    if not len(with_signal):
        return f"{NO_SIGNAL} in any of {len(parts)} windows"
    lowest = with_signal.loc[with_signal["score"].idxmin()]
    said = f"lowest {lowest['score']:+.3f} nats at {lowest['start_s']:.2f} s, mean {with_signal['score'].mean():+.3f}"
    below = f"{(parts['verdict'] == SPOOF).sum()} of {len(parts)} windows below the threshold"
    without = f", {len(parts) - len(with_signal)} without signal" if len(with_signal) < len(parts) else ""
    return f"{said}  {NO_THRESHOLD if threshold is None else below}{without}"


def _bar(n: int) -> bool | None:
    """For tqdm: no bar for a single step, else one if a person looks on."""
    return True if n < 2 else None
