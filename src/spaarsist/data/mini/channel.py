"""The way from a waveform to a clip of a mini corpus, the same for both classes, and what it may have left behind.

`transmit` is not told whether a waveform is bona fide: a recording and its vocoded twin pass the same steps with the
same distributions of random parameters. Before it, `like` undoes what a vocoder did to the spectrum and the level.
`cue_errors` measures how far the differences that are left are the vocoder's own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import av
import librosa
import numpy as np
import soundfile
import soxr
from numpy.random import Generator
from scipy import signal, stats

from spaarsist.config import SAMPLE_RATE

FRAME = 160
"""Samples of a level frame: 10 ms."""


@dataclass(frozen=True)
class Channel:
    """Ranges from which each clip draws its own channel, uniformly.

    Args:
        snr_db: speech over added noise, in dB.
        top_hz: cut-off of the low-pass, in Hz.
        reverberation_s: decay time (60 dB) of a made-up room; (0, 0) for none.
        level_db: RMS level of the clip, in dB re full scale.
        padding_s: silence put before and, independently, after the speech.
        all_passes: number of second-order all-pass sections that disperse the phase.
        rate: sampling rate of the clip in Hz.
    """

    snr_db: tuple[float, float] = (27.0, 42.0)
    top_hz: tuple[float, float] = (6600.0, 7400.0)
    reverberation_s: tuple[float, float] = (0.0, 0.0)
    level_db: tuple[float, float] = (-32.0, -20.0)
    padding_s: tuple[float, float] = (0.05, 0.35)
    all_passes: int = 48
    rate: int = SAMPLE_RATE


def transmit(speech: np.ndarray, channel: Channel, codec: str, rng: Generator) -> np.ndarray:
    """Send mono speech at `SAMPLE_RATE` through one draw of `channel` and then through `codec` (a key of `CODECS`).

    In order: padding with silence, random polarity, random all-pass phase, room, coloured noise, band-pass, level,
    resampling, codec. The noise comes before the band-pass so that the latter alone decides the bandwidth.

    Returns:
        Mono float64 at `channel.rate`, peak at most 0.99.
    """
    before, after = (int(rng.uniform(*channel.padding_s) * SAMPLE_RATE) for _ in range(2))
    wave = np.pad(speech, (before, after)) * rng.choice([-1.0, 1.0])
    wave = disperse(wave, channel.all_passes, rng)
    if channel.reverberation_s[1] > 0:
        wave = _room(wave, rng.uniform(*channel.reverberation_s), rng)
    wave = wave + _noise(wave, rng.uniform(*channel.snr_db), rng)
    band = [rng.uniform(60, 140), rng.uniform(*channel.top_hz)]
    wave = signal.sosfilt(signal.butter(6, band, "bandpass", fs=SAMPLE_RATE, output="sos"), wave)
    if channel.rate != SAMPLE_RATE:
        wave = soxr.resample(wave, SAMPLE_RATE, channel.rate, "HQ")
    wave = at_level(wave, rng.uniform(*channel.level_db))
    wave = CODECS[codec](wave, channel.rate)
    return wave * min(1.0, 0.99 / np.abs(wave).max())


def disperse(wave: np.ndarray, sections: int, rng: Generator) -> np.ndarray:
    """Random all-pass response: `sections` second-order all-passes at random frequencies.

    Magnitudes stay; the phase relations by which recordings (one microphone, one polarity) and vocoders (minimum,
    zero or random phase) differ in the shape of the waveform do not.
    """
    radius = rng.uniform(0.70, 0.975, sections)
    angle = np.pi * rng.uniform(0.02, 0.95, sections)
    poles = np.stack([np.ones(sections), -2 * radius * np.cos(angle), radius**2], axis=1)
    return signal.sosfilt(np.hstack([poles[:, ::-1], poles]), wave)


def like(speech: np.ndarray, model: np.ndarray, *, contour: bool = True) -> np.ndarray:
    """Give `speech` the long-term spectrum of `model` and, if `contour`, its slow loudness contour (equal lengths).

    A vocoder's colouring and its gain errors say nothing about synthesis as such and would be read off first. The
    spectrum is matched in third-of-an-octave detail within 20 dB, the contour in 80 ms detail within 12 dB.
    """
    for _ in range(2):
        speech = signal.fftconvolve(speech, _matching_filter(speech, model), "same")
        if contour:
            speech = speech * _matching_gain(speech, model)
    return at_level(speech, level(model))


def _power(wave: np.ndarray, rate: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz, and the mean power there over windows of `length` samples, up to a factor."""
    spectra = librosa.stft(wave, n_fft=length, hop_length=length // 2, center=False)
    return librosa.fft_frequencies(sr=rate, n_fft=length), np.mean(np.abs(spectra) ** 2, axis=1)


def _matching_filter(speech: np.ndarray, model: np.ndarray) -> np.ndarray:
    frequencies, have = _power(speech, SAMPLE_RATE, 512)
    _, want = _power(model, SAMPLE_RATE, 512)
    floor = 1e-7 * want.max()
    ratio = 0.5 * np.log((want + floor) / (have * want.sum() / max(have.sum(), 1e-20) + floor))
    width = np.maximum(0.12 * frequencies, 60.0)
    weight = np.exp(-0.5 * ((frequencies[:, None] - frequencies) / width[:, None]) ** 2)
    smooth = np.clip(weight @ ratio / weight.sum(1), -2.3, 2.3)
    return signal.firwin2(401, frequencies, np.exp(smooth), fs=SAMPLE_RATE)


def _matching_gain(speech: np.ndarray, model: np.ndarray) -> np.ndarray:
    window = signal.windows.hann(1281)
    window /= window.sum()
    have, want = (np.maximum(signal.fftconvolve(w**2, window, "same"), 0) for w in (speech, model))
    floor = 1e-5 * np.mean(model**2)
    return np.clip(np.sqrt((want + floor) / (have + floor)), 0.25, 4.0)


def level(wave: np.ndarray) -> float:
    """RMS level in dB re full scale (a full-scale sine has −3.01)."""
    return float(10 * np.log10(np.mean(np.square(wave)) + 1e-12))


def at_level(wave: np.ndarray, level_db: float) -> np.ndarray:
    """`wave` scaled to the RMS level given in dB re full scale."""
    return wave * 10 ** ((level_db - level(wave)) / 20)


def trim(speech: np.ndarray, below_peak_db: float = 35.0) -> np.ndarray:
    """Cut leading and trailing stretches whose 10 ms frames stay more than `below_peak_db` under the loudest."""
    first, last = _active(speech, below_peak_db)
    return speech[first * FRAME : last * FRAME]


def _frame_levels(wave: np.ndarray, frame: int = FRAME) -> np.ndarray:
    frames = wave[: len(wave) // frame * frame].reshape(-1, frame)
    return 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)


def _active(wave: np.ndarray, below_peak_db: float, frame: int = FRAME) -> tuple[int, int]:
    levels = _frame_levels(wave, frame)
    loud = np.flatnonzero(levels > levels.max() - below_peak_db)
    return int(loud[0]), int(loud[-1]) + 1


def _noise(wave: np.ndarray, snr_db: float, rng: Generator) -> np.ndarray:
    white = np.fft.rfft(rng.standard_normal(len(wave)))
    frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    coloured = np.fft.irfft(white * np.maximum(frequency, 50.0) ** -rng.uniform(0.0, 0.6), len(wave))
    return at_level(coloured, level(wave) - snr_db)


def _room(wave: np.ndarray, decay_s: float, rng: Generator) -> np.ndarray:
    length = int(decay_s * SAMPLE_RATE)
    tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail *= 10 ** (rng.uniform(-14, -6) / 20) / np.linalg.norm(tail)
    tail[0] += 1.0
    return signal.fftconvolve(wave, tail)[: len(wave)]


def _through_file(form: str, subtype: str, quality: float | None = None) -> Callable[[np.ndarray, int], np.ndarray]:
    def codec(wave: np.ndarray, rate: int) -> np.ndarray:
        memory = io.BytesIO()
        soundfile.write(memory, np.clip(wave, -1, 1), rate, format=form, subtype=subtype, compression_level=quality)
        memory.seek(0)
        decoded, _ = soundfile.read(memory)
        return np.pad(decoded[: len(wave)], (0, max(len(wave) - len(decoded), 0)))

    return codec


def _at_rate(
    inner_rate: int, inner: Callable[[np.ndarray, int], np.ndarray]
) -> Callable[[np.ndarray, int], np.ndarray]:
    def codec(wave: np.ndarray, rate: int) -> np.ndarray:
        if rate == inner_rate:
            return inner(wave, rate)
        through = inner(soxr.resample(wave, rate, inner_rate, "HQ"), inner_rate)
        back = soxr.resample(through, inner_rate, rate, "HQ")
        return np.pad(back[: len(wave)], (0, max(len(wave) - len(back), 0)))

    return codec


def g722(wave: np.ndarray) -> np.ndarray:
    """Encode and decode by ITU-T G.722 at 64 kbit/s, the form in which the telephone prompts are distributed."""
    encoder = av.CodecContext.create("g722", "w")
    encoder.sample_rate, encoder.format, encoder.layout = SAMPLE_RATE, "s16", "mono"
    samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.pad(samples, (0, len(samples) % 2))[None], "s16", "mono")
    frame.sample_rate = SAMPLE_RATE
    packets = b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)])
    return decode_g722(packets)[: len(wave)]


def decode_g722(coded: bytes) -> np.ndarray:
    """Decode headerless G.722 at 64 kbit/s to mono float64 at 16 kHz."""
    decoder = av.CodecContext.create("g722", "r")
    decoder.sample_rate, decoder.layout = SAMPLE_RATE, "mono"
    frames = [*decoder.decode(av.Packet(coded)), *decoder.decode(None)]
    return np.concatenate([f.to_ndarray().ravel() for f in frames]) / 32768


def vorbis(wave: np.ndarray) -> np.ndarray:
    """Encode and decode by Vorbis at 22.05 kHz, the form in which the acted lines are distributed."""
    return _VORBIS(wave, SAMPLE_RATE)


_VORBIS = _at_rate(22_050, _through_file("OGG", "VORBIS", 0.6))

CODECS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "-": lambda wave, rate: wave,
    "C01": _at_rate(16_000, _through_file("OGG", "OPUS", 0.9)),
    "C05": _through_file("MP3", "MPEG_LAYER_III", 0.7),
    "C08": _at_rate(8000, _through_file("OGG", "OPUS", 0.8)),
    "C11": _at_rate(8000, _through_file("WAV", "ULAW")),
}
"""Codec tag -> encode and decode: none, Opus, MP3, Opus at 8 kHz, G.711 µ-law at 8 kHz."""

CODEC_NAMES: Mapping[str, str] = {
    "-": "none",
    "C01": "Opus, wide band",
    "C05": "MP3",
    "C08": "Opus, narrow band (8 kHz)",
    "C11": "G.711 µ-law, narrow band (8 kHz)",
}


def cues(wave: np.ndarray, rate: int) -> dict[str, float]:
    """What can be read off a clip without listening to the voice.

    Returns:
        `duration_s`; `level_db` (RMS re full scale); `leading_s` and `trailing_s` (before the first and after the
        last 10 ms frame within 30 dB of the loudest); `floor_db` (5th percentile of frame levels, re full scale)
        and `floor_rel_db` (the same, re the clip's level); `bandwidth_hz` (highest frequency within 45 dB of the
        long-term spectrum's peak); `skew` and `skew_size` (third standardised moment of the samples and its size);
        `dc` (mean over RMS); `crest_db` (peak over RMS); `fall_db` (steepest fall between successive frames within
        the last 100 ms of speech: an abrupt end).
    """
    frame = rate // 100
    levels = _frame_levels(wave, frame)
    first, last = _active(wave, 30.0, frame)
    frequencies, spectrum = _power(wave, rate, 1024 * rate // SAMPLE_RATE)
    within = np.flatnonzero(spectrum > spectrum.max() * 10**-4.5)
    rms_db, skew = level(wave), float(stats.skew(wave))
    floor = float(np.percentile(levels, 5))
    return {
        "duration_s": len(wave) / rate,
        "level_db": rms_db,
        "leading_s": first * frame / rate,
        "trailing_s": (len(levels) - last) * frame / rate,
        "floor_db": floor,
        "floor_rel_db": floor - rms_db,
        "bandwidth_hz": float(frequencies[within[-1]]),
        "skew": skew,
        "skew_size": abs(skew),
        "dc": float(wave.mean() / (wave.std() + 1e-12)),
        "crest_db": float(20 * np.log10(np.abs(wave).max() + 1e-12) - rms_db),
        "fall_db": float(-np.diff(levels[max(last - 10, 0) : last + 2]).min()),
    }


def single_cue_errors(measured: Mapping[str, np.ndarray], bonafide: np.ndarray) -> dict[str, float]:
    """Equal error rate of a detector that sees one cue only; arguments as for `cue_errors`."""
    return {cue: min(e := _eer(values, bonafide), 1 - e) for cue, values in measured.items()}


def cue_errors(measured: Mapping[str, np.ndarray], bonafide: np.ndarray) -> dict[str, float]:
    """Equal error rate of a detector that sees one cue only, and of two that see all.

    Args:
        measured: cue -> (n,) values, as from `cues`.
        bonafide: (n,) true where the clip is bona fide.

    Returns:
        cue -> EER as a fraction, in the better of its two directions, so at most 0.5; and `all_linear`,
        `all_boosted`: logistic regression and gradient boosting on all cues together, scores from 5-fold
        cross-validation (these may exceed 0.5).
    """
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    errors = single_cue_errors(measured, bonafide)
    together = np.column_stack(list(measured.values()))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for name, model in (
        ("all_linear", make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))),
        ("all_boosted", GradientBoostingClassifier(n_estimators=60, random_state=0)),
    ):
        scores = cross_val_predict(model, together, bonafide, cv=folds, method="predict_proba")[:, 1]
        errors[name] = _eer(scores, bonafide)
    return errors


def _eer(scores: np.ndarray, bonafide: np.ndarray) -> float:
    from sklearn.metrics import roc_curve

    p_fa, p_hit, _ = roc_curve(bonafide, scores, drop_intermediate=False)
    gap = np.argmin(np.abs(p_fa - (1 - p_hit)))
    return float((p_fa[gap] + 1 - p_hit[gap]) / 2)
