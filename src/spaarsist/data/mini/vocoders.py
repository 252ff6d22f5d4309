"""Spoofing methods for the mini corpora: each remakes a recording, or a text, by machine.

All but `speak` have one form: `method(speech, rng) -> speech`, mono float64 at `SAMPLE_RATE`, as many samples out
as in, finite, and the same output for the same input and generator state. The first four are analysis–synthesis in
the literature's standard forms; the excitation-and-envelope ones share `_overlap_pulses`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context

import librosa
import numpy as np
import pyworld
import soxr
from numpy.random import Generator
from scipy import signal

from spaarsist.config import SAMPLE_RATE

HOP_S = 0.005
"""Frame period of every parametric analysis here, in seconds (WORLD's default)."""

FFT_SIZE = 1024


@dataclass(frozen=True)
class Parameters:
    """WORLD's view of an utterance, one row per 5 ms frame.

    Args:
        f0: (frames,) in Hz, 0 where unvoiced.
        envelope: (frames, 513) power spectral envelope.
        aperiodicity: (frames, 513) share of noise in [0, 1].

    Source: Morise et al. 2016, doi 10.1587/transinf.2015EDP7457.
    """

    f0: np.ndarray
    envelope: np.ndarray
    aperiodicity: np.ndarray


def pitch(speech: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fundamental frequency in Hz (0 where unvoiced) and frame times in s; DIO refined by StoneMask."""
    raw, times = pyworld.dio(speech, SAMPLE_RATE, f0_floor=60.0, f0_ceil=600.0, frame_period=HOP_S * 1e3)
    return pyworld.stonemask(speech, raw, times, SAMPLE_RATE), times


def analyse(speech: np.ndarray) -> Parameters:
    """WORLD analysis of (n,) speech: DIO + StoneMask, CheapTrick, D4C."""
    f0, times = pitch(speech)
    envelope = pyworld.cheaptrick(speech, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    return Parameters(f0, envelope, pyworld.d4c(speech, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE))


def _synthesise(parameters: Parameters, length: int) -> np.ndarray:
    arrays = (np.ascontiguousarray(a) for a in (parameters.f0, parameters.envelope, parameters.aperiodicity))
    return _fit(pyworld.synthesize(*arrays, SAMPLE_RATE, HOP_S * 1e3), length)


def world_copy(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """WORLD copy-synthesis: parameters out, speech back in, nothing changed between."""
    return _synthesise(analyse(speech), len(speech))


def world_conversion(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """WORLD voice conversion: f0 moved by 2–4 semitones, formants by 4–12 %, either way."""
    source = analyse(speech)
    semitones, warp = rng.uniform(2, 4) * rng.choice([-1, 1]), 1 + rng.uniform(0.04, 0.12) * rng.choice([-1, 1])
    f0 = source.f0 * 2 ** (semitones / 12)
    return _synthesise(Parameters(f0, _warped(source.envelope, warp), source.aperiodicity), len(speech))


def world_coded(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """WORLD with smoothed statistical parameters: 25 mel-cepstra, 2 aperiodicity bands, averaged over 35 ms.

    The over-smoothing of parametric text-to-speech without its text. Source: Zen et al. 2009, doi
    10.1016/j.specom.2009.04.004.
    """
    source = analyse(speech)
    coded = pyworld.code_spectral_envelope(source.envelope, SAMPLE_RATE, 25)
    envelope = pyworld.decode_spectral_envelope(np.ascontiguousarray(_running_mean(coded, 7)), SAMPLE_RATE, FFT_SIZE)
    bands = np.ascontiguousarray(_running_mean(pyworld.code_aperiodicity(source.aperiodicity, SAMPLE_RATE), 7))
    aperiodicity = pyworld.decode_aperiodicity(bands, SAMPLE_RATE, FFT_SIZE)
    return _synthesise(Parameters(source.f0, envelope, aperiodicity), len(speech))


def griffin_lim_mel(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """80 mel bands to a linear spectrogram (pseudo-inverse), then 32 steps of fast Griffin–Lim from random phase.

    Source: Perraudin et al. 2013, doi 10.1109/WASPAA.2013.6701851.
    """
    bank, inverse = _mel_bank()
    magnitude = np.abs(librosa.stft(speech, n_fft=FFT_SIZE, hop_length=FFT_SIZE // 4))
    rough = np.maximum(inverse @ (bank @ magnitude), 1e-8)
    return _invert(rough, 32, len(speech), rng)


def griffin_lim_linear(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """Griffin–Lim from the full short-time spectrum: magnitudes kept, phases made up in 24 steps.

    Source: Griffin and Lim 1984, doi 10.1109/TASSP.1984.1164317.
    """
    return _invert(np.abs(librosa.stft(speech, n_fft=512, hop_length=128)), 24, len(speech), rng, momentum=0.0)


def lpc_vocoder(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """Linear prediction of order 18, its residual replaced by pulses (voiced) or white noise (unvoiced).

    Source: Atal and Hanauer 1971, doi 10.1121/1.1912679.
    """
    f0, _ = pitch(speech)
    excitation = _pulses_or_noise(f0, len(speech), rng)
    window, hop = signal.windows.hann(400, sym=False), 200
    padded, driven = (np.pad(a, (hop, 2 * hop)) for a in (speech, excitation))
    output = np.zeros(len(padded))
    for start in range(0, len(padded) - len(window) + 1, hop):
        here = slice(start, start + len(window))
        frame = padded[here] * np.sqrt(window)
        if np.dot(frame, frame) < 1e-10:
            continue
        poles = librosa.lpc(frame + 1e-5 * rng.standard_normal(len(frame)), order=18)
        shaped = signal.lfilter([1.0], poles, driven[here])
        gain = np.sqrt(np.dot(frame, frame) / max(np.dot(shaped * window, shaped), 1e-12))
        output[here] += window * gain * shaped
    return _fit(output[hop:], len(speech))


def harmonic_noise(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """Harmonic-plus-noise model: harmonics up to 4 kHz with phases from the running f0, shaped noise for the rest.

    Source: Stylianou 2001, doi 10.1109/89.890068.
    """
    source = analyse(speech)
    n = len(speech)
    times, frames = np.arange(n) / SAMPLE_RATE, np.arange(len(source.f0)) * HOP_S
    f0 = np.interp(times, frames, _bridged(source.f0))
    voiced = np.interp(times, frames, (source.f0 > 0).astype(float))
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    log_amplitude = 0.5 * np.log(source.envelope + 1e-16)
    bins = np.arange(FFT_SIZE // 2 + 1) * SAMPLE_RATE / FFT_SIZE
    harmonics = np.zeros(n)
    track = _bridged(source.f0)
    for k in range(1, int(4000 / max(track.min(), 60.0)) + 1):
        wanted = k * track
        index = np.clip(wanted / bins[1], 0, len(bins) - 2)
        low = index.astype(int)
        rows = np.arange(len(track))
        amplitude = log_amplitude[rows, low] + (index - low) * (log_amplitude[rows, low + 1] - log_amplitude[rows, low])
        amplitude = np.where(wanted < 4000, np.exp(amplitude), 0.0) * np.sqrt(track / SAMPLE_RATE) * 2
        harmonics += np.interp(times, frames, amplitude) * np.cos(k * phase)
    above = bins[None, :] > 4000
    noisy = np.where((source.f0 > 0)[:, None] & ~above, source.aperiodicity**2, 1.0) * source.envelope
    noise = _synthesise(Parameters(np.zeros_like(source.f0), noisy, np.ones_like(noisy)), n)
    return voiced * harmonics / np.sqrt(2) + noise


def minimum_phase(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """Cepstral vocoder: 30-coefficient smoothed spectrum as minimum-phase responses, set off by pulses or noise.

    Source: Oppenheim 1969, doi 10.1121/1.1911395.
    """
    return _cepstral(speech, rng, zero_phase=False)


def zero_phase(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """As `minimum_phase`, but with symmetric (zero-phase) responses: every harmonic peaks at once."""
    return _cepstral(speech, rng, zero_phase=True)


def psola(speech: np.ndarray, rng: Generator) -> np.ndarray:
    """Pitch-synchronous overlap-add: two-period grains of the recording itself, set 15–30 % closer or wider.

    Source: Moulines and Charpentier 1990, doi 10.1016/0167-6393(90)90021-Z.
    """
    ratio = (1 + rng.uniform(0.15, 0.30)) ** rng.choice([-1, 1])
    f0, _ = pitch(speech)
    marks = _marks(_bridged(f0), len(speech))
    output, weight = np.zeros(len(speech)), np.full(len(speech), 1e-3)
    at = float(marks[0])
    while at < marks[-1]:
        nearest = int(np.argmin(np.abs(marks - at)))
        mark = marks[nearest]
        frame = min(int(mark / SAMPLE_RATE / HOP_S), len(f0) - 1)
        period = int(SAMPLE_RATE / _bridged_at(f0, frame))
        place, half = int(at), period
        low = max(half - min(mark, place), 0)
        high = 2 * half - max(max(mark, place) + half - len(speech), 0)
        if high > low:
            window = signal.windows.hann(2 * half, sym=False)[low:high]
            output[place - half + low : place - half + high] += window * speech[mark - half + low : mark - half + high]
            weight[place - half + low : place - half + high] += window
        at += period / (ratio if f0[frame] > 0 else 1.0)
    return output / np.maximum(weight, 0.3)


METHODS: dict[str, Callable[[np.ndarray, Generator], np.ndarray]] = {
    f.__name__: f
    for f in (
        world_copy,
        world_conversion,
        world_coded,
        griffin_lim_mel,
        griffin_lim_linear,
        lpc_vocoder,
        harmonic_noise,
        minimum_phase,
        zero_phase,
        psola,
    )
}
"""Name -> method, for all that start from a recording."""


def speak(requests: Sequence[tuple[str, str, int, int]], seed: int) -> list[np.ndarray]:
    """Text-to-speech by espeak-ng (formant synthesis; its `+klatt` voices use a Klatt synthesiser).

    Args:
        requests: (voice, text, pitch 0–99, words per minute) each.
        seed: of espeak-ng's noise generator.

    Returns:
        One mono float64 waveform at `SAMPLE_RATE` per request, in [-1, 1].

    espeak-ng carries state from one utterance to the next (phase of its flutter, random numbers seeded from the
    clock), so the whole list is spoken in order by one fresh process whose generator is seeded: same list, same
    samples.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_speak, list(requests), seed).result()


def _speak(requests: list[tuple[str, str, int, int]], seed: int) -> list[np.ndarray]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    retrieval, rate_parameter, pitch_parameter, utf8 = 1, 1, 3, 1
    rate = library.espeak_Initialize(retrieval, 0, os.fsencode(espeakng_loader.get_data_path()), 0)
    if rate <= 0:
        raise RuntimeError("espeak-ng did not start")
    samples = bytearray()

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def collect(block, count, events):  # called by espeak-ng for every stretch of speech
        if block and count > 0:
            samples.extend(ctypes.string_at(block, 2 * count))
        return 0

    library.espeak_SetSynthCallback(collect)
    library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
    spoken = []
    for voice, text, pitch_level, words_per_minute in requests:
        samples.clear()
        if library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(pitch_parameter, pitch_level, 0)
        library.espeak_SetParameter(rate_parameter, words_per_minute, 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, utf8, None, None)
        library.espeak_Synchronize()
        wave = np.frombuffer(bytes(samples), np.int16) / 32768
        spoken.append(soxr.resample(wave, rate, SAMPLE_RATE, "HQ"))
    return spoken


def _fit(wave: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wave[:length], (0, max(length - len(wave), 0)))


def _running_mean(rows: np.ndarray, width: int) -> np.ndarray:
    return signal.convolve(
        np.pad(rows, ((width // 2, width // 2), (0, 0)), "edge"), np.ones((width, 1)) / width, "valid"
    )


def _warped(envelope: np.ndarray, factor: float) -> np.ndarray:
    bins = np.arange(envelope.shape[1])
    return np.exp([np.interp(bins / factor, bins, row) for row in np.log(envelope + 1e-16)])


@cache
def _mel_bank() -> tuple[np.ndarray, np.ndarray]:
    bank = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT_SIZE, n_mels=80)
    return bank, np.linalg.pinv(bank)


def _invert(magnitude: np.ndarray, steps: int, length: int, rng: Generator, momentum: float = 0.99) -> np.ndarray:
    state = np.random.RandomState(rng.integers(2**31))  # the form librosa takes
    n_fft = 2 * (len(magnitude) - 1)
    return librosa.griffinlim(
        magnitude, n_iter=steps, hop_length=n_fft // 4, length=length, momentum=momentum, random_state=state
    )


def _bridged(f0: np.ndarray) -> np.ndarray:
    """f0 with the unvoiced stretches filled by straight lines (150 Hz if nothing is voiced)."""
    voiced = np.flatnonzero(f0 > 0)
    if not len(voiced):
        return np.full_like(f0, 150.0)
    return np.interp(np.arange(len(f0)), voiced, f0[voiced])


def _bridged_at(f0: np.ndarray, frame: int) -> float:
    return float(f0[frame]) if f0[frame] > 0 else 150.0


def _marks(f0: np.ndarray, length: int) -> np.ndarray:
    """Sample numbers at which the running phase of f0 completes a cycle."""
    per_sample = np.interp(np.arange(length) / SAMPLE_RATE, np.arange(len(f0)) * HOP_S, f0)
    cycles = np.floor(np.cumsum(per_sample) / SAMPLE_RATE)
    return np.flatnonzero(np.diff(cycles, prepend=-1) > 0)


def _pulses_or_noise(f0: np.ndarray, length: int, rng: Generator) -> np.ndarray:
    """Unit-power excitation: one pulse per period where voiced, white noise elsewhere."""
    track = _bridged(f0)
    marks = _marks(track, length)
    frame = np.minimum((np.arange(length) / SAMPLE_RATE / HOP_S).astype(int), len(f0) - 1)
    voiced = f0[frame] > 0
    pulses = np.zeros(length)
    pulses[marks] = np.sqrt(SAMPLE_RATE / track[frame[marks]])
    return np.where(voiced, pulses, rng.standard_normal(length))


def _cepstral(speech: np.ndarray, rng: Generator, *, zero_phase: bool) -> np.ndarray:
    f0, _ = pitch(speech)
    transform = {"n_fft": FFT_SIZE, "hop_length": FFT_SIZE // 8, "win_length": FFT_SIZE // 2}
    window_gain = np.sqrt(np.square(signal.windows.hann(FFT_SIZE // 2, sym=False)).sum())
    spectrum = np.log(np.abs(librosa.stft(speech, **transform)) / window_gain + 1e-6)
    cepstrum = np.fft.irfft(spectrum, axis=0)
    keep = np.zeros(FFT_SIZE)  # of the even cepstrum both sides (zero phase) or the causal side twice (minimum phase)
    keep[0], keep[1:30], keep[-29:] = (1, 1, 1) if zero_phase else (1, 2, 0)
    response = np.exp(np.fft.rfft(cepstrum * keep[:, None], axis=0))
    driven = librosa.stft(_pulses_or_noise(f0, len(speech), rng), **transform)
    return librosa.istft(driven * response, **transform, length=len(speech))
