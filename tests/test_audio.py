"""Recordings read right and whole, or refused in one line that names them; excerpts equal crops."""

import io
import itertools
import os
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
import soundfile

from spaarsist.data import audio
from spaarsist.names import ConfigError


@pytest.fixture
def tone():
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)


@pytest.mark.parametrize("ending", ["flac", "wav", "ogg"])
def test_reads(tone, tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tone, 16_000)
    read = audio.read(path)
    assert read.dtype == np.float32 and read.shape == (16_000,)
    assert np.abs(read - tone).max() < (2e-2 if ending == "ogg" else 1e-4)
    assert audio.count_samples(path) == 16_000


def test_stereo_at_44100_becomes_mono_at_16000(tmp_path):
    """Documented conversion: the mean of the channels, resampled; 440 Hz stay 440 Hz."""
    time = np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "a.wav", np.stack([np.sin(2 * np.pi * 440 * time), 0 * time], 1), 44_100)
    read = audio.read(tmp_path / "a.wav")
    assert read.shape == (16_000,) and audio.count_samples(tmp_path / "a.wav") == 16_000
    spectrum = np.abs(np.fft.rfft(read))
    assert spectrum.argmax() == 440
    assert np.sqrt(np.mean(read[1000:-1000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("n", [401, 1_001, 4_410, 44_101])
def test_the_header_tells_the_length_that_is_read(tmp_path, rate, n):
    soundfile.write(tmp_path / "a.wav", np.zeros(n), rate)
    assert audio.count_samples(tmp_path / "a.wav") == len(audio.read(tmp_path / "a.wav"))


@pytest.mark.parametrize("reader", [audio.read, audio.count_samples])
class TestUnusableFiles:
    def test_missing(self, tmp_path, reader):
        with pytest.raises(ConfigError, match=r"gone\.flac: no such file"):
            reader(tmp_path / "gone.flac")

    def test_empty(self, tmp_path, reader):
        (tmp_path / "a.flac").touch()
        with pytest.raises(ConfigError, match=r"a\.flac: empty file"):
            reader(tmp_path / "a.flac")

    def test_no_samples(self, tmp_path, reader):
        soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
        with pytest.raises(ConfigError, match=r"a\.wav: holds no audio"):
            reader(tmp_path / "a.wav")

    def test_html_error_page(self, tmp_path, reader):
        (tmp_path / "a.flac").write_text("<html>503</html>")
        with pytest.raises(ConfigError, match="not readable as audio"):
            reader(tmp_path / "a.flac")

    def test_wav_cut_short(self, tone, tmp_path, reader):
        soundfile.write(tmp_path / "a.wav", tone, 16_000)
        whole = (tmp_path / "a.wav").read_bytes()
        (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ConfigError, match=r"a\.wav: cut short: \d+ of 32000 bytes"):
            reader(tmp_path / "a.wav")


def test_flac_cut_short(tone, tmp_path):
    soundfile.write(tmp_path / "a.flac", tone, 16_000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"a\.flac: .*cut short"):
        audio.read(tmp_path / "a.flac")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sample_that_is_no_number(tone, tmp_path, bad):
    tone[123] = bad
    soundfile.write(tmp_path / "a.wav", tone, 16_000, subtype="FLOAT")
    with pytest.raises(ConfigError, match=r"a\.wav: sample 123 is not a finite number"):
        audio.read(tmp_path / "a.wav")


def test_excerpts_as_other_codes_take_them():
    """From the start, and short clips over and over: np.tile and a cut, as public code has it."""
    ramp = np.arange(10.0)
    assert audio.crop(ramp, 4, "start").tolist() == [0, 1, 2, 3]
    assert audio.crop(ramp, 12, "start").tolist() == ramp.tolist()
    assert audio.pad(ramp, 23, "repeat").tolist() == np.tile(ramp, 3)[:23].tolist()
    assert audio.pad(ramp, 10, "repeat").tolist() == ramp.tolist()


def test_crops_by_hand():
    ramp = np.arange(10, dtype=np.float32)
    assert audio.crop(ramp, 4).tolist() == [3, 4, 5, 6]
    assert audio.crop(ramp, 5).tolist() == [2, 3, 4, 5, 6]
    assert audio.crop(ramp, 12).tolist() == ramp.tolist()
    assert audio.pad(ramp, 12).tolist() == [*range(10), 0, 0]
    assert audio.pad(ramp, 3).tolist() == ramp.tolist()
    rng = np.random.default_rng(0)
    starts = {audio.crop_random(ramp, 8, rng)[0] for _ in range(100)}
    assert starts == {0, 1, 2}
    assert audio.crop_random(ramp, 20, rng).tolist() == ramp.tolist()


def encoded(samples, form, subtype=None, rate=16_000):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=form, subtype=subtype)
    return stream.getvalue()


def noise(n, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


WHOLE = [
    ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "ULAW"), ("WAV", "GSM610"), ("WAV", "MS_ADPCM"),
    ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"),
    ("AU", "PCM_16"), ("AU", "G721_32"), ("NIST", "PCM_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype"), WHOLE)
def test_whole_or_cut_short(form, subtype, tmp_path):
    """Whatever of libsndfile's formats: half of a recording is never taken for a shorter one."""
    content, path = encoded(noise(16_000), form, subtype), tmp_path / "a.x"
    path.write_bytes(content)
    assert audio.count_samples(path) == len(audio.read(path)) >= 16_000
    for end in (len(content) // 2, len(content) * 9 // 10, len(content) - 100, len(content) - 1):
        path.write_bytes(content[:end])
        for reader in (audio.count_samples, audio.read, lambda path: audio.read_excerpt(path, 1000)):
            with pytest.raises(ConfigError, match=r"a\.x: .*cut short"):
                reader(path)


def test_an_ogg_of_many_pages(tmp_path):
    """The last page, which says that it is the last, lies behind all that is looked at first."""
    content = encoded(noise(1_000_000), "OGG", "VORBIS")
    assert len(content) > 2 * audio._PIECE
    (tmp_path / "a.ogg").write_bytes(content)
    assert audio.count_samples(tmp_path / "a.ogg") == 1_000_000


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_between_two_pages(tmp_path, subtype):
    content = encoded(noise(100_000), "OGG", subtype)
    (tmp_path / "a.ogg").write_bytes(content[: content.rindex(b"OggS")])
    with pytest.raises(ConfigError, match=r"a\.ogg: cut short: the last page lacks the end-of-stream flag"):
        audio.count_samples(tmp_path / "a.ogg")


def wav(samples, riff=None, data=None):
    """A 16-bit WAV whose two length fields may lie."""
    content = (samples * 32767).astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
    riff = 36 + len(content) if riff is None else riff
    return (
        b"RIFF"
        + struct.pack("<I", riff)
        + b"WAVE"
        + head
        + b"data"
        + struct.pack("<I", len(content) if data is None else data)
        + content
    )


class TestLengthsThatLie:
    @pytest.mark.parametrize("surplus", [8, 36, 44])
    def test_header_counted_as_audio(self, tmp_path, surplus):
        """The whole file is as long as it says; nothing is missing."""
        (tmp_path / "a.wav").write_bytes(wav(noise(500), data=1000 + surplus))
        assert audio.count_samples(tmp_path / "a.wav") == len(audio.read(tmp_path / "a.wav")) == 500

    def test_what_is_missing_lies_behind_the_audio(self, tmp_path):
        (tmp_path / "a.wav").write_bytes(wav(noise(500), riff=36 + 1000 + 200))
        assert audio.count_samples(tmp_path / "a.wav") == len(audio.read(tmp_path / "a.wav")) == 500

    @pytest.mark.parametrize("field", [0x7FFF_0000, 0xFFFF_FFFF])
    def test_streamed(self, tmp_path, field):
        (tmp_path / "a.wav").write_bytes(wav(noise(500), field, field))
        assert audio.count_samples(tmp_path / "a.wav") == len(audio.read(tmp_path / "a.wav")) == 500

    def test_never_closed(self, tmp_path):
        (tmp_path / "a.wav").write_bytes(wav(noise(500), 0, 0))
        with pytest.raises(ConfigError, match=r"length field is wrong.*ffmpeg -i a\.wav a\.flac$"):
            audio.count_samples(tmp_path / "a.wav")

    def test_a_flac_from_a_pipe_says_no_length(self, tmp_path):
        content = bytearray(encoded(noise(5000), "FLAC"))
        content[21] &= 0xF0  # total samples: 36 bits of STREAMINFO
        content[22:26] = bytes(4)
        (tmp_path / "a.flac").write_bytes(content)
        assert audio.count_samples(tmp_path / "a.flac") == len(audio.read(tmp_path / "a.flac")) == 5000
        assert len(audio.read_excerpt(tmp_path / "a.flac", 800)) == 800

    @pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\2\0" + b"Info" + bytes(252)])
    def test_an_mp3_without_a_length_header_is_whole(self, tmp_path, tag):
        content = encoded(noise(32_000), "MP3")
        first, second = content.index(b"\xff\xf3"), content.index(b"\xff\xf3", 200)
        assert b"Xing" in content[first:second] or b"Info" in content[first:second]
        (tmp_path / "a.mp3").write_bytes(tag + content[second:])
        n = audio.count_samples(tmp_path / "a.mp3")
        assert n == len(audio.read(tmp_path / "a.mp3")) and 32_000 <= n < 34_000

    @pytest.mark.parametrize("order", [1, -1])
    def test_an_mp3_whose_first_frames_are_unlike_the_rest(self, tmp_path, order):
        """libsndfile's estimate is four times too high, or half of the truth."""
        samples = np.concatenate([noise(32_000) * 5, np.zeros(64_000, np.float32)]).clip(-1, 1)[::order]
        stream = io.BytesIO()
        how = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.1}
        with soundfile.SoundFile(stream, "w", 16_000, 1, "MPEG_LAYER_III", **how) as file:
            file.write(samples)
        content = stream.getvalue()
        (tmp_path / "a.mp3").write_bytes(content[content.index(b"\xff\xf3", 4) :])
        n = audio.count_samples(tmp_path / "a.mp3")
        assert n == len(audio.read(tmp_path / "a.mp3")) and 96_000 <= n < 98_000


def test_an_mp3_with_junk_before_it_is_read_from_a_zip_as_from_a_folder(tmp_path):
    content = bytes(3000) + encoded(noise(16_000), "MP3")
    (tmp_path / "a.mp3").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.mp3", content)
    np.testing.assert_array_equal(audio.read(f"{tmp_path}/a.zip::a.mp3"), audio.read(tmp_path / "a.mp3"))


def test_damage_in_the_middle_shows_when_samples_are_counted(tmp_path):
    content = bytearray(encoded(noise(64_000), "FLAC"))
    content[len(content) // 2 : len(content) // 2 + 4] = b"\0\1\2\3"
    (tmp_path / "a.flac").write_bytes(content)
    for reader in (audio.count_samples, audio.read):
        with pytest.raises(ConfigError, match=r"a\.flac: not readable as audio or cut short"):
            reader(tmp_path / "a.flac")


@pytest.mark.parametrize("reader", [audio.read, audio.count_samples])
class TestNoRecordings:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            (
                "a.m4a",
                b"\0\0\0\x1cftypM4A ",
                r"an MP4 or M4A, .* not read; convert it, e\.g\. ffmpeg -i a\.m4a a\.flac$",
            ),
            ("it's.wav", b"\0\0\0\x20ftypisom", r"ffmpeg -i 'it'\"'\"'s\.wav' 'it'\"'\"'s\.flac'$"),
            ("a.webm", b"\x1a\x45\xdf\xa3\x9f", "a WebM or Matroska"),
            ("a.wma", b"\x30\x26\xb2\x75\x8e\x66\xcf", "a WMA"),
            ("a.aac", b"\xff\xf1\x50\x80", "an AAC"),
            ("a.raw", bytes(4000), r"no header says what it is; .*ffmpeg -f s16le -ar 16000 -i a\.raw a\.flac"),
            ("a.au", b"<html>503</html>" * 99, "RAW"),
            ("a.voc", encoded(noise(800), "VOC", "PCM_16"), "Creative.*not read; convert it"),
        ],
    )
    def test_other_formats(self, tmp_path, reader, name, content, message):
        """Also those that libsndfile would take for A-law at 8 kHz, by their ending."""
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=message) as caught:
            reader(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name)) and "fetch" not in str(caught.value)

    def test_a_pipe_and_a_folder(self, tmp_path, reader):
        os.mkfifo(tmp_path / "p.wav")
        (tmp_path / "f.wav").mkdir()
        with pytest.raises(ConfigError, match=r"p\.wav: no regular file"):
            reader(tmp_path / "p.wav")
        with pytest.raises(ConfigError, match=r"f\.wav: a folder"):
            reader(tmp_path / "f.wav")

    @pytest.mark.parametrize("rate", [1, 999, 768_001, 2_000_000_000])
    def test_rates(self, tmp_path, reader, rate):
        (tmp_path / "a.wav").write_bytes(encoded(noise(5000), "WAV", rate=rate))
        with pytest.raises(ConfigError, match=rf"a\.wav: a sampling rate of {rate} Hz"):
            reader(tmp_path / "a.wav")

    def test_shorter_than_a_sample(self, tmp_path, reader):
        (tmp_path / "a.wav").write_bytes(encoded(noise(1), "WAV", rate=48_000))
        with pytest.raises(ConfigError, match=r"holds no audio at 16 kHz, only 1 at 48000 Hz; remove it"):
            reader(tmp_path / "a.wav")

    def test_no_descriptor_left(self, tone, tmp_path, reader):
        soundfile.write(tmp_path / "a.wav", tone, 16_000)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open("/dev/null", os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            with pytest.raises(ConfigError, match=r"a\.wav: cannot be read \(Too many open files\)$"):
                reader(tmp_path / "a.wav")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def test_memory(self, tone, tmp_path, reader, monkeypatch):
        def read(*_, **__):
            raise MemoryError

        soundfile.write(tmp_path / "a.flac", tone, 16_000)
        monkeypatch.setattr(soundfile.SoundFile, "read", read)
        with pytest.raises(ConfigError, match=r"a\.flac: takes more memory than there is"):
            reader(tmp_path / "a.flac")


class TestExcerpts:
    @pytest.mark.parametrize(
        ("form", "subtype", "rate"),
        [(*kind, 16_000) for kind in WHOLE]
        + [(form, None, 44_100) for form in ("WAV", "FLAC", "OGG", "MP3")]
        + [("WAV", "GSM610", 8_000), ("FLAC", "PCM_16", 22_051)],
    )
    @pytest.mark.parametrize("long_s", [60, 0])
    def test_an_excerpt_is_a_crop(self, tmp_path, monkeypatch, form, subtype, rate, long_s):
        """Byte for byte; of long recordings, that are not decoded whole, but for the resampler's rounding."""
        monkeypatch.setattr(audio, "LONG_S", long_s)
        monkeypatch.setattr(audio, "_BLOCK", 10_000)
        samples = np.sin(2 * np.pi * 300 * np.arange(4 * rate) / rate) * np.linspace(0.1, 0.5, 4 * rate)
        samples = samples if subtype in ("GSM610", "G721_32") else np.stack([samples, 0.2 * samples], 1)
        (tmp_path / "a.x").write_bytes(encoded(samples, form, subtype, rate))
        whole = audio.read(tmp_path / "a.x")
        for n, seed in itertools.product((1, 8000, len(whole), 200_000), (None, 1, 2)):
            rngs = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
            excerpt = audio.read_excerpt(tmp_path / "a.x", n, rngs[0])
            crop = audio.crop(whole, n) if seed is None else audio.crop_random(whole, n, rngs[1])
            if long_s == 60 or (rate == 16_000 and form != "MP3"):
                np.testing.assert_array_equal(excerpt, crop)
            assert excerpt.shape == crop.shape and excerpt.dtype == np.float32
            np.testing.assert_allclose(excerpt, crop, atol=1e-5)

    def test_vorbis_near_its_end(self, tmp_path, monkeypatch):
        """Where libsndfile's seek is off by 128 samples."""
        monkeypatch.setattr(audio, "LONG_S", 0)
        samples = np.sin(2 * np.pi * 300 * np.arange(96_000) / 16_000) * np.linspace(0.1, 0.5, 96_000)
        (tmp_path / "a.ogg").write_bytes(encoded(np.stack([samples, 0.2 * samples], 1), "OGG", "VORBIS"))
        whole = audio.read(tmp_path / "a.ogg")
        for seed in range(8):
            excerpt, crop = (
                cut(sound, 100, np.random.default_rng(seed))
                for cut, sound in ((audio.read_excerpt, tmp_path / "a.ogg"), (audio.crop_random, whole))
            )
            np.testing.assert_array_equal(excerpt, crop)

    def test_of_a_long_recording_costs_no_more_than_itself(self, tmp_path):
        """2 GB that are holes on the disk: read whole, they would take half a minute and 4 GB."""
        (tmp_path / "a.wav").write_bytes(wav(np.zeros(0), 36 + 2_000_000_000, 2_000_000_000))
        with (tmp_path / "a.wav").open("r+b") as file:
            file.seek(44 + 1_000_000_000)
            file.write((noise(16_000) * 32767).astype("<i2").tobytes())
            file.truncate(44 + 2_000_000_000)
        began = time.monotonic()
        assert audio.count_samples(tmp_path / "a.wav") == 1_000_000_000
        excerpt = audio.read_excerpt(tmp_path / "a.wav", 32_000)
        assert time.monotonic() - began < 2
        assert excerpt[:16_000].any() == 0 and np.abs(excerpt[16_000:] - noise(16_000)).max() < 1e-4

    def test_the_end_of_a_long_recording_shows_whether_it_is_whole(self, tmp_path, monkeypatch):
        monkeypatch.setattr(audio, "LONG_S", 0)
        (tmp_path / "a.flac").write_bytes(encoded(noise(160_000), "FLAC")[:-50])
        with pytest.raises(ConfigError, match=r"a\.flac: .*cut short"):
            audio.read_excerpt(tmp_path / "a.flac", 1000)
