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


def test_crops_by_hand():
    ramp = np.arange(10, dtype=np.float32)
    assert audio.crop_centre(ramp, 4).tolist() == [3, 4, 5, 6]
    assert audio.crop_centre(ramp, 5).tolist() == [2, 3, 4, 5, 6]
    assert audio.crop_centre(ramp, 12).tolist() == ramp.tolist()
    assert audio.pad(ramp, 12).tolist() == [*range(10), 0, 0]
    assert audio.pad(ramp, 3).tolist() == ramp.tolist()
    rng = np.random.default_rng(0)
    starts = {audio.crop_random(ramp, 8, rng)[0] for _ in range(100)}
    assert starts == {0, 1, 2}
    assert audio.crop_random(ramp, 20, rng).tolist() == ramp.tolist()
