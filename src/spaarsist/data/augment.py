"""Training augmentation: the seven disturbances of the paper's recipe, each drawn anew for every clip.

===  ==================  ============================================================================
 #   probability         what is done to the clip
===  ==================  ============================================================================
 1   `trim_silence`      leading silence is removed
 2   `time_mask`         a span of 20-50 % is set to zero
 3   `mu_law`            8-bit mu-law encode and decode
 4   `rawboost`          RawBoost "algorithm 5": convolutive, then impulsive signal-dependent noise
 -   `noise_filter`      the next two are drawn at all, as the authors' code nests them
 5   `noise`             one of colour noise, Gaussian noise, Gaussian noise at a signal-to-noise ratio
 6   `filter`            one of band-pass, band-stop, high-pass, low-pass, high-shelf, low-shelf, peaking
 7   `room`              a room's response or a noise recording from a folder
===  ==================  ============================================================================

The silence is trimmed before the crop, all else comes after it; with `crop_last` the crop comes after all, as
in the authors' code, so that it can fall inside the masked span and be all zero. Waveforms are mono float32 at
16 kHz with full scale at ±1.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import firwin, oaconvolve

from spaarsist.config import SAMPLE_RATE, Augmentation
from spaarsist.data.audio import ENDINGS
from spaarsist.names import ConfigError

if TYPE_CHECKING:
    from audiomentations.core.transforms_interface import BaseWaveformTransform

SHORTEST_TRIMMED = SAMPLE_RATE // 2
"""Trimming by energy never leaves fewer samples than this (0.5 s); a clip that is shorter already stays as it is."""

SILENCE_DB = 35.0
"""A 25 ms frame this far below the clip's loudest one counts as silence."""

MASKED_SHARE = (0.2, 0.5)
"""Smallest and largest share of a clip that the time mask sets to zero."""

MU_LAW_LEVELS = 256

N_POWERS = 5  # RawBoost's N_f: orders of the Hammerstein model, the first of them linear
N_NOTCHES = 5
NOTCH_CENTRE_HZ = (20.0, 8000.0)
NOTCH_WIDTH_HZ = (100.0, 1000.0)
NOTCH_TAPS = (10, 100)  # drawn below 100, even numbers go up by one
NONLINEAR_ATTENUATION_DB = (5.0, 20.0)
IMPULSES_PERCENT = 10.0  # RawBoost's P: largest share of samples that get an impulse
IMPULSE_GAIN = 2.0  # RawBoost's g_sd


class Augmenter:
    """Disturb training clips, each step with its own probability, independently (but for `noise_filter`).

    `augmenter(waveform, rng)` runs every step at once. Training calls the two halves around its random crop,
    and pads a short clip only after both, or noise would fill the padding.

    Everything random comes from `rng`: the same generator state gives the same bytes, and the global
    generators of `random` and `numpy.random` are left as found (other threads must not draw from them
    meanwhile). An augmenter can be pickled.
    """

    def __init__(self, settings: Augmentation) -> None:
        """Import the libraries, and only those, that a probability above zero asks for.

        Args:
            settings: the probabilities, and the folder of step 7.

        Raises:
            ConfigError: step 7 is wanted and its folder is missing or holds no audio.
        """
        self.settings = settings
        by_energy = settings.silence_detector == "energy"
        self._trim = trim_leading_silence if by_energy else trim_to_voice
        if settings.trim_silence and by_energy:
            import librosa.effects  # noqa: F401  now, not in the middle of the first batch
        if settings.mu_law or (settings.trim_silence and not by_energy):
            import torchaudio.functional  # noqa: F401
        self._noises = _noises() if settings.noise_filter and settings.noise else []
        self._filters = _filters() if settings.noise_filter and settings.filter else []
        self._rooms = _rooms(Path(settings.room_corpus)) if settings.room else []

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Run all steps: `after_crop(before_crop(waveform))`; shapes and errors are theirs."""
        return self.after_crop(self.before_crop(waveform, rng), rng)

    def before_crop(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Perhaps trim the leading silence (step 1); with `crop_last` all other steps as well.

        Shape: (n,) -> (m,), float32, with 0 < m <= n; perhaps a view of the input.

        Raises:
            ValueError: the waveform is empty or not one-dimensional.
        """
        waveform = _checked(waveform)
        if rng.random() < self.settings.trim_silence:
            waveform = self._trim(waveform)
        return self._disturb(waveform, rng) if self.settings.crop_last else waveform

    def after_crop(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Perhaps mask, encode, distort, add noise, filter and reverberate (steps 2 to 7, in this order).

        With `crop_last` nothing is left to do here.

        Shape: (n,) -> (n,), float32. A finite input gives a finite output. Where a step leaves the peak above
        full scale, the whole clip is scaled down to it; nothing is ever clipped. The input is not changed.

        Raises:
            ValueError: the waveform is empty or not one-dimensional.
        """
        waveform = _checked(waveform)
        return waveform if self.settings.crop_last else self._disturb(waveform, rng)

    def _disturb(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        settings = self.settings
        steps = (
            (settings.time_mask, mask_span),
            (settings.mu_law, lambda samples, _: mu_law(samples)),
            (settings.rawboost, rawboost),
            (settings.noise_filter, self._noise_then_filter),
            (settings.room, lambda samples, rng: _one_of(self._rooms, samples, rng)),
        )
        chances = rng.random(len(steps))  # all at once: whether a step runs does not hang on the steps before it
        chosen = [step for (probability, step), chance in zip(steps, chances, strict=True) if chance < probability]
        if not chosen:
            return waveform
        for step in chosen:
            waveform = step(waveform, rng)
        return _within_full_scale(waveform)

    def _noise_then_filter(self, waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for probability, transforms in ((self.settings.noise, self._noises), (self.settings.filter, self._filters)):
            if rng.random() < probability:
                waveform = _one_of(transforms, waveform, rng)
        return waveform


def trim_leading_silence(waveform: np.ndarray) -> np.ndarray:
    """Drop what comes before the first frame within `SILENCE_DB` of the loudest (`silence_detector: energy`).

    By energy alone (librosa), in a small part of the time that `trim_to_voice` takes. A clip that is silent
    throughout stays as it is. Limit: background noise above the threshold is not taken for silence.

    Shape: (n,) -> (m,) with min(n, `SHORTEST_TRIMMED`) <= m <= n.
    """
    import librosa.effects

    _, (start, _) = librosa.effects.trim(waveform, top_db=SILENCE_DB, frame_length=400, hop_length=160)
    return waveform[max(0, min(int(start), len(waveform) - SHORTEST_TRIMMED)) :]


def trim_to_voice(waveform: np.ndarray) -> np.ndarray:
    """Drop what comes before the voice, as the authors' code finds it (`silence_detector: vad`).

    torchaudio's `vad`, a port of SoX's: it starts where the cepstral power stays above the noise before it, so
    steady noise is silence to it, however loud. Where it finds no voice, as in many short or steady clips, the
    clip stays as it is.

    Shape: (n,) -> (m,) with 0 < m <= n.
    """
    import torch
    from torchaudio.functional import vad

    with torch.inference_mode():
        length = len(vad(torch.tensor(waveform), SAMPLE_RATE))
    return waveform[-length:] if length else waveform


def mask_span(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Set a random span to zero: 20-50 % of the stretch from the first to the last sample that is not zero.

    A span of at most half that stretch cannot hold both its ends, so some sound is always left, however much
    of the clip is padding.

    Shape: (n,) -> (n,).
    """
    sounding = np.flatnonzero(waveform)
    if not len(sounding):
        return waveform
    first, stretch = sounding[0], sounding[-1] + 1 - sounding[0]
    length = int(stretch * rng.uniform(*MASKED_SHARE))
    start = first + rng.integers(stretch - length + 1)
    masked = waveform.copy()
    masked[start : start + length] = 0
    return masked


def mu_law(waveform: np.ndarray) -> np.ndarray:
    """Encode to 8-bit mu-law and decode again (ITU-T G.711's curve, without its piecewise approximation).

    The 256 levels lie symmetrically about zero and leave it out: digital silence comes back as 8.6e-5.

    Shape: (n,) -> (n,), full scale at ±1.
    """
    import torch
    from torchaudio.functional import mu_law_decoding, mu_law_encoding

    codes = mu_law_encoding(torch.tensor(waveform), MU_LAW_LEVELS)
    return mu_law_decoding(codes, MU_LAW_LEVELS).numpy()


def rawboost(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """RawBoost's algorithm 5: `lnl_convolutive_noise`, then `isd_additive_noise`.

    RawBoost's third noise (stationary, 10-40 dB below the signal) has no part in algorithm 5.

    Shape: (n,) -> (n,), float32.
    """
    return isd_additive_noise(lnl_convolutive_noise(waveform, rng), rng)


def lnl_convolutive_noise(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Pass the clip through a random channel with distortion: a sum of filtered powers (Hammerstein model).

    .. math:: y[n] = \sum_{j=1}^{N_f} \sum_i b_j[i] \, x[n-i]^j

    Every b_j is a `notch_cascade`; those of the powers j > 1 are attenuated by 5-20 dB. The filters' delay is
    taken out, the mean is removed, and a peak above full scale is scaled down to it.

    Shape: (n,) -> (n,), float32.
    Source: Tak et al. 2022, arXiv:2111.04433, section on linear and non-linear convolutive noise.
    """
    filters = np.zeros((N_POWERS, N_NOTCHES * (NOTCH_TAPS[1] - 2) + 1), np.float32)
    powers = np.empty((N_POWERS, len(waveform)), np.float32)
    power = np.ones_like(waveform)
    for order in range(N_POWERS):
        taps = notch_cascade(rng)
        if order > 0:
            taps *= 10 ** (-rng.uniform(*NONLINEAR_ATTENUATION_DB) / 20)
        margin = (filters.shape[1] - len(taps)) // 2  # all lengths are odd: centred filters share one delay
        filters[order, margin : margin + len(taps)] = taps
        powers[order] = power = power * waveform
    distorted = oaconvolve(powers, filters, mode="same", axes=1).sum(axis=0)
    return _within_full_scale(distorted - distorted.mean())


def notch_cascade(rng: np.random.Generator) -> np.ndarray:
    """Draw `N_NOTCHES` linear-phase band-stop filters and convolve them into one of highest gain 1.

    Centres are uniform over 20-8000 Hz, widths over 100-1000 Hz, lengths over 11, 13, ..., 99 taps.

    Returns:
        Filter taps, symmetric, of odd number: (5 x 10 + 1 to 5 x 98 + 1,), float64.
    """
    cascade = np.ones(1)
    for _ in range(N_NOTCHES):
        centre, width = rng.uniform(*NOTCH_CENTRE_HZ), rng.uniform(*NOTCH_WIDTH_HZ)
        edge = 1e-3  # Hz; a band must end inside (0, Nyquist)
        band = np.clip([centre - width / 2, centre + width / 2], edge, SAMPLE_RATE / 2 - edge)
        n_taps = int(rng.integers(*NOTCH_TAPS)) | 1  # an even number would force a zero at Nyquist
        cascade = np.convolve(cascade, firwin(n_taps, band, fs=SAMPLE_RATE))
    return cascade / np.abs(np.fft.rfft(cascade, 1024)).max()


def isd_additive_noise(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Add impulses in proportion to the signal at randomly placed samples.

    .. math:: y[p] = x[p] \, (1 + g_{sd} \, u_p v_p), \qquad u_p, v_p \sim U(-1, 1)

    The share s of samples p is uniform over 0-10 %. The signal-to-noise ratio is -10 log10(s g_sd² / 9) dB on
    average: 13.5 dB with the most impulses, more with fewer. A peak above full scale is scaled down to it.

    Shape: (n,) -> (n,), float32.
    Source: Tak et al. 2022, arXiv:2111.04433, section on impulsive signal-dependent noise.
    """
    count = int(len(waveform) * rng.uniform(0, IMPULSES_PERCENT) / 100)
    places = rng.choice(len(waveform), count, replace=False, shuffle=False)
    u, v = rng.uniform(-1, 1, (2, count))
    noisy = waveform.astype(np.float32)
    noisy[places] *= 1 + IMPULSE_GAIN * u * v
    return _within_full_scale(noisy)


def _checked(waveform: np.ndarray) -> np.ndarray:
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"expected a mono waveform of shape (n,) with n > 0, got shape {waveform.shape}")
    return np.ascontiguousarray(waveform, dtype=np.float32)


def _within_full_scale(waveform: np.ndarray) -> np.ndarray:
    peak = np.abs(waveform).max()
    return waveform / peak if peak > 1 else waveform


def _one_of(transforms: list[BaseWaveformTransform], waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    transform = transforms[rng.integers(len(transforms))]
    with _global_generators(rng):
        return transform(waveform, SAMPLE_RATE)


@contextmanager
def _global_generators(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global generators, which audiomentations draws from, and put them back afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    seed = int(rng.integers(2**32))
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _noises() -> list[BaseWaveformTransform]:
    import audiomentations as am

    return [kind(p=1.0) for kind in (am.AddColorNoise, am.AddGaussianNoise, am.AddGaussianSNR)]


def _filters() -> list[BaseWaveformTransform]:
    import audiomentations as am

    passes = am.BandPassFilter, am.BandStopFilter, am.HighPassFilter, am.LowPassFilter
    shelves = am.HighShelfFilter, am.LowShelfFilter, am.PeakingFilter
    return [kind(p=1.0) for kind in passes + shelves]


def _rooms(folder: Path) -> list[BaseWaveformTransform]:
    """Room responses and noises, told apart as RIRS_NOISES names its files: every noise says so."""
    where = f"augmentation: room_corpus {str(folder)!r}"
    if not folder.is_dir():
        raise ConfigError(f"{where} is not a folder; correct the path (unpack an archive) or set room to 0")
    files = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not files:
        kinds = ", ".join(ENDINGS)
        raise ConfigError(f"{where} holds no audio ({kinds}); unpack the corpus there or set room to 0")
    import audiomentations as am

    noises = [file for file in files if "noise" in Path(file).name.lower()]
    responses = [file for file in files if "noise" not in Path(file).name.lower()]
    kinds = ((am.ApplyImpulseResponse, responses), (am.AddBackgroundNoise, noises))
    return [kind(paths, p=1.0) for kind, paths in kinds if paths]
