"""Reading audio: a recording -> a mono 16 kHz waveform, or an excerpt of it; what is not whole is refused.

Formats: WAV (also RF64, W64), FLAC, Ogg (Vorbis, Opus, FLAC), MP3, AIFF, AU and NIST SPHERE, told by what is in a
file, never by its ending. Channels are averaged; other sampling rates are resampled by soxr at its high quality.

A file may also be a member of a tar or zip, under a path as `spaarsist.data.archives` describes.

`read_any` takes what people have as well, such as M4A and WebM, through FFmpeg's libraries. Corpora keep to the formats
above: of these it is known whether a file is whole.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from math import ceil, gcd
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from spaarsist.config import SAMPLE_RATE, Padding, Place
from spaarsist.data import archives
from spaarsist.names import ConfigError

if TYPE_CHECKING:
    from av.container import InputContainer

ENDINGS = (
    ".aif", ".aifc", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".w64",
    ".wav",
)  # fmt: skip
"""Endings of recordings' names, in lower case; the same ones are looked for in folders and in archives."""

RATES = (1_000, 768_000)
"""Lowest and highest sampling rate, in Hz, that is believed."""

LONG_S = 60
"""A recording that is so much longer than the excerpt wanted of it is not decoded whole."""

SHORT_BY_S = 0.5
"""Seconds by which a track may be shorter than its container says; encoders' delays are below."""

# libsndfile knows more; of these it, or we, can tell whether they are whole
_FORMATS = ("AIFF", "AU", "FLAC", "MP3", "NIST", "OGG", "RF64", "W64", "WAV", "WAVEX")
_BARE = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW")
_BLOCK = 1 << 20  # samples of all channels decoded at a time
_PIECE = 1 << 17  # bytes; an Ogg page has fewer
_MARGIN = SAMPLE_RATE  # samples around an excerpt, until resampling and codecs have settled

STREAMED_SIZE = 0x7FFF_0000
"""A file written to a pipe claims about 2 or 4 GiB: its size is unknown, not cut off."""

# what soundfile and the system raise on a file that is not as it should be
_DAMAGE = (soundfile.SoundFileError, OSError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError)


def read_any(path: str | Path) -> np.ndarray:
    """Read a recording in any container that libsndfile or FFmpeg's libraries know: as `read`, by the same rules.

    What libsndfile knows is read, and refused, as in `read`. Of everything else (MP4, M4A, WebM, Matroska, AVI, ...)
    the one audio track is decoded. Nothing but the file itself is opened, whatever a playlist in it names.

    Returns:
        float32 (n_samples,) at 16 kHz, full scale at 1.0.

    Raises:
        ConfigError: as `read`; or the file has no audio track, or several, or is damaged, or ends more than
            `SHORT_BY_S` before the length that it states. A container that states none, such as a WebM that a browser
            recorded, may have been cut unseen.
    """
    try:
        return read(path)
    except ConfigError:
        if not Path(path).is_file() or not Path(path).stat().st_size or _is_of_libsndfile(path):
            raise
    import av

    try:
        # Given a stream and no protocols, FFmpeg reaches no other file and no network
        with Path(path).open("rb") as stream, av.open(stream, options={"protocol_whitelist": "none"}) as container:
            return _decoded(path, container)
    except ConfigError:
        raise
    except MemoryError:
        raise ConfigError(f"{path}: takes more memory than there is") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{path}: no recording, cut short or damaged (FFmpeg: {reason}); fetch it again") from None


def read(path: str | Path) -> np.ndarray:
    """Read a recording as a float32 waveform (n_samples,) at 16 kHz, full scale at 1.0.

    Raises:
        ConfigError: the file is missing, empty, no regular file, not in a format that is read, cut short, damaged, or
            holds a NaN or infinite sample; its archive is missing, damaged or another one than when the path was made;
            named.
    """
    with _opened(path) as file:
        return _whole(path, file)


def read_excerpt(
    path: str | Path, n_samples: int, rng: np.random.Generator | None = None, place: Place = "centre"
) -> np.ndarray:
    """Read the middle or the first n_samples of a recording, or n_samples from a random place: `read`, then a crop.

    Memory, and time but for Ogg and GSM, are those of the excerpt if the recording is more than `LONG_S` longer. There,
    a resampled recording or an MP3 differs from the crop by rounding.

    Args:
        path: of the recording.
        n_samples: at 16 kHz, above 0.
        rng: chooses the place; without one, `place` says it.
        place: `centre`, the middle ones, or `start`, the first ones.

    Returns:
        float32 (n_samples,), fewer if the recording is shorter.

    Raises:
        ConfigError: as `read`; NaN and damage outside the excerpt of a long recording do not show.
    """
    with _opened(path) as file:
        n_all = _resampled(file.frames, file.samplerate)
        if not file.tells_length or n_all <= n_samples + LONG_S * SAMPLE_RATE:
            waveform = _whole(path, file)
            return crop(waveform, n_samples, place) if rng is None else crop_random(waveform, n_samples, rng)
        start = _start(n_all, n_samples, rng, place)
        # from where a sample of the file and one at 16 kHz coincide
        common = gcd(file.samplerate, SAMPLE_RATE)
        periods = max(start - _MARGIN, 0) * common // SAMPLE_RATE
        begin = periods * (file.samplerate // common)
        end = min(ceil((start + n_samples + _MARGIN) * file.samplerate / SAMPLE_RATE), file.frames)
        at, until = (file.seek(begin), end) if file.can_seek else (0, file.frames)
        part = []
        for block in _blocks(path, file, at, until):
            part.append(block[max(begin - at, 0) : max(end - at, 0)].copy())
            at += len(block)
        if until < file.frames and not file.is_bare:  # the end shows whether it is whole; of bare samples, the header
            file.seek(file.frames - 1)
            next(_blocks(path, file, file.frames - 1, file.frames), None)
        waveform = _at_16_khz(np.concatenate(part), file.samplerate)
        return waveform[start - periods * (SAMPLE_RATE // common) :][:n_samples]


def count_samples(path: str | Path) -> int:
    """Length of a recording in samples at 16 kHz. It is read to its end: what is accepted here can be read later.

    Bare samples (PCM, A-law, mu-law) are not looked at, since any bytes are sound there.

    Raises:
        ConfigError: as `read`.
    """
    with _opened(path) as file:
        n = file.frames if file.is_bare else sum(map(len, _blocks(path, file, 0, file.frames)))
        return _resampled(n, file.samplerate)


def crop(waveform: np.ndarray, n_samples: int, place: Place = "centre") -> np.ndarray:
    """Take the middle n_samples, or the first ones (`start`); a shorter waveform stays as it is."""
    start = _start(len(waveform), n_samples, None, place)
    return waveform[start : start + n_samples]


def crop_random(waveform: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Take n_samples from a random place; a shorter waveform stays as it is."""
    start = _start(len(waveform), n_samples, rng)
    return waveform[start : start + n_samples]


def pad(waveform: np.ndarray, n_samples: int, padding: Padding = "zeros") -> np.ndarray:
    """Add zeros at the end, or the waveform over and over (`repeat`), until there are n_samples."""
    missing = max(n_samples - len(waveform), 0)
    return np.pad(waveform, (0, missing), mode="wrap" if padding == "repeat" else "constant")


def _start(n_all: int, n_samples: int, rng: np.random.Generator | None, place: Place = "centre") -> int:
    spare = max(n_all - n_samples, 0)
    if rng is not None:
        return int(rng.integers(spare + 1))
    return spare // 2 if place == "centre" else 0


def _resampled(n: int, rate: int) -> int:
    return round(n * SAMPLE_RATE / rate)


def _at_16_khz(waveform: np.ndarray, rate: int) -> np.ndarray:
    return waveform if rate == SAMPLE_RATE else soxr.resample(waveform, rate, SAMPLE_RATE, quality="HQ")


class _File(soundfile.SoundFile):
    """A file that is decoded in blocks: soundfile would seek after each, and the next one then differs in MP3."""

    tells_length = True
    """False: `frames` is an estimate, or a number beyond all files."""

    @property
    def is_bare(self) -> bool:
        """Whether any bytes are sound, so that nothing can be damaged but the length."""
        return self.subtype in _BARE and self.format not in ("FLAC", "OGG")

    @property
    def can_seek(self) -> bool:
        """Whether `seek` finds the sample: not in GSM 6.10 and its like, and beside it in Vorbis and Opus."""
        return super().seekable() and self.format != "OGG"

    def seekable(self) -> bool:
        """What soundfile asks before it seeks."""
        return False


class _Longer(io.BytesIO):
    """An MP3 whose length is estimated from its first frames and its size: so that the estimate is never too low."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END and offset == 0:
            return super().seek(40 * len(self.getbuffer()))  # bitrates go from 8 to 320 kbit/s
        return super().seek(offset, whence)


@contextmanager
def _opened(path: str | Path) -> Iterator[_File]:
    """Open a recording of which all that can be known before decoding is right; name it in whatever goes wrong."""
    content = None
    try:
        content = archives.read(path)
        if content is None:
            _check_regular(path)
        with _open(path, content) as file:
            _check_header(path, content, file)
            yield file
    except ConfigError:
        raise
    except _DAMAGE as error:
        raise _unreadable(path, content, error) from None


def _open(path: str | Path, content: bytes | None) -> _File:
    try:
        file = _File(os.fspath(path) if content is None else io.BytesIO(content))
    except soundfile.LibsndfileError:
        if content is None or not str(path).partition("@")[0].lower().endswith(".mp3"):
            raise
        with tempfile.NamedTemporaryFile(suffix=".mp3") as named:  # with junk before it, the ending alone tells an MP3
            named.write(content)
            named.flush()
            file = _File(named.name)
    if file.format == "MP3":
        content = Path(path).read_bytes() if content is None else content
        if not _has_length_header(content):
            file.close()
            file = _File(_Longer(content))
            file.tells_length = False
    elif file.frames > 1 << 62:
        file.tells_length = False
    return file


def _whole(path: str | Path, file: _File) -> np.ndarray:
    blocks = list(_blocks(path, file, 0, file.frames))
    return _at_16_khz(blocks[0] if len(blocks) == 1 else np.concatenate(blocks), file.samplerate)


def _blocks(path: str | Path, file: _File, begin: int, end: int) -> Iterator[np.ndarray]:
    """Decode these frames, the first of which comes next: mono float32, in pieces."""
    done, at_most = begin, max(_BLOCK // file.channels, 1)
    while done < end and len(block := file.read(min(at_most, end - done), dtype="float32", always_2d=True)):
        waveform = block[:, 0] if file.channels == 1 else block.mean(axis=1)
        if not np.isfinite(waveform).all():
            where = done + int(np.flatnonzero(~np.isfinite(waveform))[0])
            raise ConfigError(f"{path}: sample {where} is not a finite number; repair or remove the file")
        done += len(waveform)
        yield waveform
    if file.tells_length and done < end:
        raise ConfigError(f"{path}: cut short: {done} of {end} samples; fetch it again")
    _check_length(path, done - begin, file.samplerate)


_RAW = (".raw", ".pcm")
_FOREIGN = {
    "an MP4 or M4A": rb".{4}ftyp",
    "a WebM or Matroska": rb"\x1a\x45\xdf\xa3",
    "a WMA or ASF": rb"\x30\x26\xb2\x75\x8e\x66",
    "an AAC": rb"\xff[\xf0\xf1\xf8\xf9]|ADIF",
    "an AMR": rb"#!AMR",
    "a WavPack": rb"wvpk",
    "a Monkey's Audio": rb"MAC ",
    "a FLV": rb"FLV\x01",
}
"""First bytes of what people have and libsndfile cannot read."""


def convert(path: str | Path) -> str:
    """What to do about a recording that other programs can read."""
    name = Path(re.sub(r"@\d+\+\d+$", "", str(path).rpartition("::")[2]))
    raw = "-f s16le -ar 16000 " if name.suffix.lower() in _RAW else ""
    known = " (with its own format and rate)" if raw else ""
    return f"convert it, e.g. ffmpeg {raw}-i {shlex.quote(name.name)} {shlex.quote(f'{name.stem}.flac')}{known}"


def _check_regular(path: str | Path) -> None:
    status = Path(path).stat()
    if stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{path}: a folder, not a recording")
    if not stat.S_ISREG(status.st_mode):  # to open a pipe may take for ever
        raise ConfigError(f"{path}: no regular file, but a pipe, socket or device; put a file in its place")


def _first_bytes(path: str | Path, content: bytes | None) -> bytes:
    if content is not None:
        return content[:_PIECE]
    with Path(path).open("rb") as stream:
        return stream.read(_PIECE)


def _last_bytes(path: str | Path, content: bytes | None) -> bytes:
    if content is not None:
        return content[-_PIECE:]
    with Path(path).open("rb") as stream:
        stream.seek(max(stream.seek(0, os.SEEK_END) - _PIECE, 0))
        return stream.read()


def _has_length_header(mp3: bytes) -> bool:
    """Whether the first frame tells how many there are; else libsndfile's number is an estimate."""
    first = 0
    if mp3[:3] == b"ID3":
        first = 10 + sum((byte & 127) << shift for byte, shift in zip(mp3[6:10], (21, 14, 7, 0), strict=True))
    return any(mark in mp3[first : first + 8192] for mark in (b"Xing", b"Info", b"VBRI"))


def _check_header(path: str | Path, content: bytes | None, file: _File) -> None:
    if file.format not in _FORMATS:
        raise ConfigError(f"{path}: {file.format_info}, a format that is not read; {convert(path)}")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise ConfigError(f"{path}: a sampling rate of {file.samplerate} Hz; correct its header, or remove the file")
    _check_log(path, file)
    if file.format == "OGG" and not _ends_ogg(_last_bytes(path, content)):
        raise ConfigError(f"{path}: cut short: the last page lacks the end-of-stream flag; fetch it again")
    if file.format == "NIST":  # libsndfile does not read this line of its header
        claim = re.search(rb"\nsample_count -i (\d+)", _first_bytes(path, content))
        if claim and file.frames < int(claim[1]):
            raise ConfigError(f"{path}: cut short: {file.frames} of {int(claim[1])} samples; fetch it again")
    _check_length(path, file.frames, file.samplerate)


def _check_length(path: str | Path, n: int, rate: int) -> None:
    if not _resampled(n, rate):
        if n:
            raise ConfigError(f"{path}: holds no audio at 16 kHz, only {n} at {rate} Hz; remove it from the protocol")
        raise ConfigError(f"{path}: holds no audio; fetch it again or remove it from the protocol")


def _check_log(path: str | Path, file: _File) -> None:
    """Compare what a header promised with what is there: libsndfile shortens the recording, and only its log tells."""
    log = file.extra_info
    if "(should be" in log:
        short = {
            name.strip(): (int(promised), int(present))
            for name, promised, present in re.findall(r"^([^:\n]+?): *(\d+) \(should be (\d+)\)", log, re.MULTILINE)
            if int(present) < int(promised) < STREAMED_SIZE
        }
        whole = re.search(r"^Length *: (\d+)\n(?:RIFF|FORM) *: (\d+)$", log, re.MULTILINE)
        if whole and int(whole[1]) - int(whole[2]) == 8:
            short = {}  # the whole is as long as it says; writers that count their header's bytes as audio do exist
        for part in ("RIFF", "FORM"):
            if set(short) == {part}:  # what is missing lies behind the audio
                short = {}
        if short:
            promised, present = list(short.values())[-1]
            raise ConfigError(f"{path}: cut short: {present} of {promised} bytes of audio; fetch it again")
    if file.frames == 0 and "\ndata : 0\n***" in log:
        raise ConfigError(
            f"{path}: its length field is wrong: 0 bytes of audio, as in a recording that was never closed; "
            f"{convert(path)}"
        )


def _ends_ogg(end: bytes) -> bool:
    """Whether the last page among a file's last bytes is there whole, and says that it is the last one."""
    begin = end.rfind(b"OggS")
    page = end[begin:]
    if begin < 0 or len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return False
    return bool(page[5] & 4)


def _unreadable(path: str | Path, content: bytes | None, error: Exception) -> ConfigError:
    if isinstance(error, MemoryError):
        return ConfigError(f"{path}: takes more memory than there is")
    try:
        if isinstance(error, OSError):
            raise error
        start = _first_bytes(path, content)
    except FileNotFoundError:
        return ConfigError(f"{path}: no such file")
    except OSError as reason:
        return ConfigError(f"{path}: cannot be read ({reason.strerror or reason})")
    if not start:
        return ConfigError(f"{path}: empty file; fetch it again")
    for kind, beginning in _FOREIGN.items():
        if re.match(beginning, start, re.DOTALL):
            return ConfigError(f"{path}: {kind}, a format that is not read; {convert(path)}")
    # not str(error), which would name the file a second time, or a member as an object in memory
    if isinstance(error, TypeError):
        return ConfigError(f"{path}: no header says what it is; {convert(path)}")
    reason = getattr(error, "error_string", "").rstrip(".") or type(error).__name__
    return ConfigError(f"{path}: not readable as audio or cut short ({reason}); fetch it again")


_UNKNOWN_FORMAT, _UNKNOWN_ENCODING = 1, 4  # libsndfile's numbers


def _is_of_libsndfile(path: str | Path) -> bool:
    """Whether a file that was refused is in a format that libsndfile reads: FFmpeg is not to be more lenient."""
    try:
        with soundfile.SoundFile(os.fspath(path)) as file:
            return file.format in _FORMATS
    except soundfile.LibsndfileError as error:
        return error.code not in (_UNKNOWN_FORMAT, _UNKNOWN_ENCODING)
    except _DAMAGE:  # a TypeError is a name's ending that says raw samples
        return True


def _decoded(path: str | Path, container: InputContainer) -> np.ndarray:
    """Decode the one audio track of a container: mono float32 at 16 kHz."""
    import av

    tracks = container.streams.audio
    if not tracks:
        raise ConfigError(f"{path}: holds no audio track; name a file with sound")
    if len(tracks) > 1:
        take_out = f"ffmpeg -i {shlex.quote(Path(path).name)} -map 0:a:0 {shlex.quote(f'{Path(path).stem}.flac')}"
        raise ConfigError(f"{path}: {len(tracks)} audio tracks; take out the one to hear, e.g. {take_out}")
    (track,) = tracks
    if not RATES[0] <= track.rate <= RATES[1]:
        raise ConfigError(f"{path}: a sampling rate of {track.rate} Hz; correct its header, or fetch it again")
    as_float = av.AudioResampler(format="fltp")
    frames = (part for frame in chain(container.decode(track), [None]) for part in as_float.resample(frame))
    blocks = [frame.to_ndarray().mean(axis=0) for frame in frames]
    waveform = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if not np.isfinite(waveform).all():
        where = int(np.flatnonzero(~np.isfinite(waveform))[0])
        raise ConfigError(f"{path}: sample {where} is not a finite number; repair or remove the file")
    seconds, stated = len(waveform) / track.rate, _stated_length(container)
    if seconds < stated - SHORT_BY_S:
        raise ConfigError(f"{path}: cut short: {seconds:.2f} of {stated:.2f} s; fetch it again")
    if not _resampled(len(waveform), track.rate):
        raise ConfigError(f"{path}: holds no audio; fetch it again")
    return _at_16_khz(waveform, track.rate)


def _stated_length(container: InputContainer) -> float:
    """Seconds that a container says its one audio track has; 0 where it does not say it."""
    (track,) = container.streams.audio
    if track.duration is not None:
        return float(track.duration * track.time_base)
    if found := re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", track.metadata.get("DURATION", "")):  # Matroska
        hours, minutes, seconds = map(float, found.groups())
        return 3600 * hours + 60 * minutes + seconds
    return (container.duration or 0) / 1e6 if len(container.streams) == 1 else 0.0
