"""Reading audio: any file libsndfile knows -> a mono 16 kHz waveform; excerpts of a fixed length.

A file may also be a member of a tar or zip, under a path as `spaarsist.data.archives` describes.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from spaarsist.config import SAMPLE_RATE
from spaarsist.data import archives
from spaarsist.names import ConfigError

STREAMED_SIZE = 0x7FFF_0000
"""A WAV written to a pipe claims a data chunk of about 2 or 4 GiB: its size is unknown, not cut off."""


def read(path: str | Path) -> np.ndarray:
    """Read a file as a float32 waveform (n_samples,) at 16 kHz, full scale at 1.0.

    Channels are averaged; other sampling rates are resampled by soxr at its high quality.

    Raises:
        ConfigError: the file is missing, empty, cut short, no audio, or holds a NaN or infinite sample; its archive is
            missing, damaged or another one than when the path was made; named.
    """
    content = archives.read(path)
    try:
        with soundfile.SoundFile(path if content is None else io.BytesIO(content)) as file:
            _check_header(path, file)
            samples = file.read(dtype="float32", always_2d=True)
            if len(samples) != file.frames:
                raise ConfigError(f"{path}: cut short: {len(samples)} of {file.frames} samples; fetch it again")
            rate = file.samplerate
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, content, error) from None
    waveform = samples.mean(axis=1)
    if not np.isfinite(waveform).all():
        where = int(np.flatnonzero(~np.isfinite(waveform))[0])
        raise ConfigError(f"{path}: sample {where} is not a finite number; repair or remove the file")
    return waveform if rate == SAMPLE_RATE else soxr.resample(waveform, rate, SAMPLE_RATE, quality="HQ")


def count_samples(path: str | Path) -> int:
    """Length of a file in samples at 16 kHz, from its header alone (damage behind the header shows when it is read).

    Raises:
        ConfigError: the file is missing, empty, or its header is unreadable or shows that it was cut short; its archive
            is missing, damaged or another one than when the path was made.
    """
    content = archives.read(path)
    try:
        with soundfile.SoundFile(path if content is None else io.BytesIO(content)) as file:
            _check_header(path, file)
            return round(file.frames * SAMPLE_RATE / file.samplerate)
    except soundfile.LibsndfileError as error:
        raise _unreadable(path, content, error) from None


def crop_centre(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Take the middle n_samples; a shorter waveform stays as it is."""
    start = max(len(waveform) - n_samples, 0) // 2
    return waveform[start : start + n_samples]


def crop_random(waveform: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Take n_samples from a random place; a shorter waveform stays as it is."""
    start = int(rng.integers(max(len(waveform) - n_samples, 0) + 1))
    return waveform[start : start + n_samples]


def pad(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """Add zeros at the end until there are n_samples."""
    return np.pad(waveform, (0, max(n_samples - len(waveform), 0)))


def _check_header(path: str | Path, file: soundfile.SoundFile) -> None:
    # libsndfile quietly shortens a WAV to what is there; only its log tells that the header promised more
    if claim := re.search(r"data : (\d+) \(should be (\d+)\)", file.extra_info):
        promised, present = int(claim[1]), int(claim[2])
        if present < promised < STREAMED_SIZE:
            raise ConfigError(f"{path}: cut short: {present} of {promised} bytes of audio; fetch it again")
    if file.frames == 0:
        raise ConfigError(f"{path}: holds no audio; fetch it again or remove it from the protocol")


def _unreadable(path: str | Path, content: bytes | None, error: soundfile.LibsndfileError) -> ConfigError:
    if content is None and not Path(path).exists():
        return ConfigError(f"{path}: no such file")
    if not (Path(path).stat().st_size if content is None else len(content)):
        return ConfigError(f"{path}: empty file; fetch it again")
    # not str(error), which would name the file a second time, or a member as an object in memory
    return ConfigError(f"{path}: not readable as audio or cut short ({error.error_string.rstrip('.')}); fetch it again")
