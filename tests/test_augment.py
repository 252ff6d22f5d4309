"""Each augmentation against what can be worked out by hand; then the promises that hold for all of them."""

import pickle
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.transforms import Vad

from spaarsist.config import SAMPLE_RATE, Augmentation
from spaarsist.data import audio, augment
from spaarsist.data.augment import Augmenter
from spaarsist.names import ConfigError

OFF = Augmentation(trim_silence=0, time_mask=0, mu_law=0, rawboost=0, noise_filter=1, noise=0, filter=0)
STEPS = ("trim_silence", "time_mask", "mu_law", "rawboost", "noise", "filter")
HOSTILE = {
    "silence": np.zeros(8000),
    "two samples": np.array([0.5, -0.5]),
    "400 samples": np.sin(np.arange(400)),
    "constant": np.full(8000, 0.7),
    "square": np.sign(np.sin(np.arange(1, 8001) * 0.1)),
    "one impulse": np.eye(1, 8000, 4000)[0],
    "far beyond full scale": 1e3 * np.sin(np.arange(8000)),
    "nearly silent": 1e-30 * np.sin(np.arange(8000)),
}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def white(rng):
    return (0.1 * rng.standard_normal(24_000)).astype(np.float32)


def only(step, probability=1.0):
    return Augmenter(replace(OFF, **{step: probability}))


def level_db(signal):
    return 10 * np.log10(np.mean(np.square(signal, dtype=np.float64)))


def response(taps):
    """Magnitude response on a grid of 1 Hz."""
    return np.abs(np.fft.rfft(taps, SAMPLE_RATE))


class TestTrim:
    def test_leading_second_goes_and_speech_stays(self, white, rng):
        clip = np.concatenate([1e-4 * white[:SAMPLE_RATE], white])
        trimmed = only("trim_silence").before_crop(clip, rng)
        assert abs(len(trimmed) - len(white)) <= 400  # one frame
        np.testing.assert_array_equal(trimmed, clip[-len(trimmed) :])

    def test_silence_at_the_end_stays(self, white):
        clip = np.concatenate([white, np.zeros(SAMPLE_RATE, np.float32)])
        np.testing.assert_array_equal(augment.trim_leading_silence(clip), clip)

    @pytest.mark.parametrize("n", [1, 400, 8000, 24_000])
    def test_silent_clip_stays(self, n):
        assert len(augment.trim_leading_silence(np.zeros(n, np.float32))) == n

    def test_never_below_the_minimum(self, white):
        late = np.concatenate([np.zeros(20_000, np.float32), white[:1000]])
        assert len(augment.trim_leading_silence(late)) == augment.SHORTEST_TRIMMED
        short = late[-3000:]
        assert len(augment.trim_leading_silence(short)) == 3000


class TestTrimToVoice:
    """`silence_detector: vad`, the released code's."""

    @pytest.fixture
    def voice(self):
        """Syllables of a wavering pitch: two seconds at -20 dB."""
        time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
        phase = 2 * np.pi * np.cumsum(120 + 25 * np.sin(2 * np.pi * 3 * time)) / SAMPLE_RATE
        sound = sum(np.sin(k * phase) for k in range(1, 40)) * (np.sin(2 * np.pi * 3 * time) > -0.3)
        return (0.1 * sound / sound.std()).astype(np.float32)

    @pytest.mark.parametrize("noise_db", [-15, -30, -50])
    def test_the_noise_before_the_voice_goes_however_loud(self, voice, white, noise_db, rng):
        """Within the detector's 0.1 s; by energy, what lies above -25 dB is no silence."""
        clip = np.concatenate([white[:SAMPLE_RATE] * 10 ** (noise_db / 20), voice]).astype(np.float32)
        settings = replace(OFF, trim_silence=1.0, silence_detector="vad")
        trimmed = Augmenter(settings).before_crop(clip, rng)
        assert 0.85 * SAMPLE_RATE <= len(clip) - len(trimmed) <= SAMPLE_RATE
        np.testing.assert_array_equal(trimmed, clip[-len(trimmed) :])
        assert (len(augment.trim_leading_silence(clip)) == len(clip)) == (noise_db > -25)

    def test_it_is_torchaudio_s_with_its_defaults(self, voice, white):
        clip = np.concatenate([white[:9_000], voice, white[:2_000]])
        released = Vad(SAMPLE_RATE)(torch.from_numpy(clip))
        assert 0 < len(released) < len(clip)
        np.testing.assert_array_equal(augment.trim_to_voice(clip), released.numpy())

    @pytest.mark.parametrize("n", [1, 400, 24_000])
    def test_without_a_voice_the_clip_stays(self, n, white):
        for clip in (np.zeros(n, np.float32), white[:n]):
            assert len(Vad(SAMPLE_RATE)(torch.from_numpy(clip))) == 0, "the detector keeps nothing"
            np.testing.assert_array_equal(augment.trim_to_voice(clip), clip)


class TestCropLast:
    """The released order: every step on the whole clip, then the crop."""

    def test_order_and_lengths(self, monkeypatch, rng):
        seen = []
        for name in ("mask_span", "mu_law", "rawboost", "trim_leading_silence"):
            monkeypatch.setattr(augment, name, lambda *given, n=name: seen.append((n, len(given[0]))) or given[0])
        augmenter = Augmenter(replace(OFF, trim_silence=1, time_mask=1, mu_law=1, rawboost=1, crop_last=True))
        whole = augmenter.before_crop(np.ones(100, np.float32), rng)
        steps = ["trim_leading_silence", "mask_span", "mu_law", "rawboost"]
        assert seen == [(name, 100) for name in steps] and len(whole) == 100
        state = rng.bit_generator.state
        np.testing.assert_array_equal(augmenter.after_crop(whole[:10], rng), whole[:10])
        assert len(seen) == 4 and rng.bit_generator.state == state, "nothing is left to do or to draw"

    def test_a_crop_can_be_masked_from_end_to_end(self, rng):
        """Simulated for F12: 11.8 s cropped to 4.04 s. 23 % of masks miss the crop, 6 % cover it."""
        augmenter = Augmenter(replace(OFF, time_mask=1.0, crop_last=True))
        clip = np.ones(11_800, np.float32)
        blank = []
        for _ in range(2000):
            crop = audio.crop_random(augmenter.before_crop(clip, rng), 4_037, rng)
            blank.append(np.mean(augmenter.after_crop(crop, rng) == 0))
        blank = np.array(blank)
        shares = [np.mean(blank == 0), np.mean(blank > 0.5), np.mean(blank == 1)]
        assert shares == pytest.approx([0.23, 0.46, 0.06], abs=0.03)


class TestMask:
    def test_one_span_of_20_to_50_percent_anywhere(self, rng):
        clip = np.ones(1000, np.float32)
        lengths, starts, ends = [], [], []
        for _ in range(1000):
            zeros = np.flatnonzero(augment.mask_span(clip, rng) == 0)
            assert zeros[-1] - zeros[0] + 1 == len(zeros)
            lengths.append(len(zeros))
            starts.append(zeros[0])
            ends.append(zeros[-1])
        assert 200 <= min(lengths) < 205 and 495 < max(lengths) <= 500
        assert np.mean(lengths) == pytest.approx(350, abs=10)
        assert min(starts) < 10 and max(ends) > 990
        assert clip.all()

    @pytest.mark.parametrize("sounding", [1, 2, 3, 100])
    def test_padded_clip_is_never_silenced(self, sounding, rng):
        clip = np.zeros(1000, np.float32)
        clip[300 : 300 + sounding] = 1
        for _ in range(300):
            masked = augment.mask_span(clip, rng)
            assert masked.any()
            if sounding == 100:
                assert 50 <= masked.sum() <= 80

    def test_mask_falls_inside_the_crop(self, white, rng):
        crop = only("time_mask").after_crop(white[5000:9000], rng)
        assert 800 <= np.sum(crop == 0) <= 2000


class TestMuLaw:
    def test_within_half_a_step(self):
        x = np.linspace(-1, 1, 20_001, dtype=np.float32)
        # |dx/dy| = ln(256) (1/255 + |x|) on the curve, taken at the far end of half a step in y of 1/255
        bound = np.log(256) / 255 * (1 / 255 + np.abs(x)) * 256 ** (1 / 255) + 1e-6
        assert (np.abs(augment.mu_law(x) - x) <= bound).all()

    def test_twice_is_once_on_256_levels(self, white):
        once = augment.mu_law(np.linspace(-1, 1, 20_001, dtype=np.float32))
        assert len(np.unique(once)) == 256
        np.testing.assert_array_equal(augment.mu_law(once), once)


class TestRawBoost:
    def test_notch_cascade_is_symmetric_odd_and_of_gain_one(self, rng):
        for _ in range(30):
            taps = augment.notch_cascade(rng)
            assert len(taps) % 2 == 1 and 51 <= len(taps) <= 491
            np.testing.assert_allclose(taps, taps[::-1], atol=1e-12)
            assert response(taps).max() == pytest.approx(1, abs=0.01)

    def test_notches_stop_their_bands(self, monkeypatch, rng):
        monkeypatch.setattr(augment, "NOTCH_CENTRE_HZ", (3000, 3000))
        monkeypatch.setattr(augment, "NOTCH_WIDTH_HZ", (1000, 1000))
        monkeypatch.setattr(augment, "NOTCH_TAPS", (99, 100))
        gain = response(augment.notch_cascade(rng))
        assert gain[2900:3100].max() < 1e-4
        assert gain[:2000].min() > 0.9 and gain[4000:].min() > 0.9

    def test_lnl_is_the_sum_of_filtered_powers(self, monkeypatch, white, rng):
        taps = iter([np.array([0, 1.0, 0]), *[np.array([0, 0, 1.0, 0, 0])] * 4])
        monkeypatch.setattr(augment, "notch_cascade", lambda _: next(taps).copy())
        monkeypatch.setattr(augment, "NONLINEAR_ATTENUATION_DB", (20, 20))
        expected = white + 0.1 * (white**2 + white**3 + white**4 + white**5)
        expected -= expected.mean()
        np.testing.assert_allclose(augment.lnl_convolutive_noise(white, rng), expected, atol=1e-6)

    def test_powers_lie_5_to_20_db_below_the_linear_part(self, monkeypatch, rng):
        monkeypatch.setattr(augment, "notch_cascade", lambda _: np.ones(1))
        t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        tone = np.cos(2 * np.pi * 1000 * t).astype(np.float32)
        for _ in range(20):
            spectrum = np.abs(np.fft.rfft(augment.lnl_convolutive_noise(tone, rng)))
            ratio = spectrum[5000] / spectrum[4000]  # cos^5 gives 1/16 at 5 f, cos^4 gives 1/8 at 4 f
            assert -15.1 <= 20 * np.log10(2 * ratio) <= 15.1
            assert spectrum[5000] / spectrum[1000] < 0.05 and spectrum[5000] > 1

    def test_filters_add_no_delay(self, monkeypatch, rng):
        monkeypatch.setattr(augment, "NONLINEAR_ATTENUATION_DB", (200, 200))
        click = np.zeros(4000, np.float32)
        click[1234] = 1
        for _ in range(20):
            assert np.abs(augment.lnl_convolutive_noise(click, rng)).argmax() == 1234

    def test_isd_touches_at_most_a_tenth_at_the_expected_snr(self, white, rng):
        shares = []
        for _ in range(100):
            impulses = augment.isd_additive_noise(white, rng) - white
            share = np.mean(impulses != 0)
            shares.append(share)
            assert (np.abs(impulses) <= 2 * np.abs(white) + 1e-6).all()
            if share > 0.01:
                snr = level_db(white) - level_db(impulses)
                assert snr == pytest.approx(-10 * np.log10(share * 4 / 9), abs=2)
                assert snr > 12
        assert max(shares) <= 0.1 and np.mean(shares) == pytest.approx(0.05, abs=0.01)


class TestNoiseAndFilter:
    def test_noise_is_within_the_libraries_ranges(self, white, rng):
        """5-40 dB below the signal, or Gaussian of amplitude 0.001-0.015 (36.5 to 60 dB below full scale)."""
        for _ in range(60):
            noise = only("noise").after_crop(white, rng) - white
            assert 4.8 < level_db(white) - level_db(noise) < 40.2

    @pytest.mark.parametrize("kind, colour", [("AddColorNoise", True), ("AddGaussianSNR", False)])
    def test_noise_at_a_ratio(self, kind, colour, white, rng):
        augmenter = only("noise")
        (transform,) = [t for t in augmenter._noises if type(t).__name__ == kind]
        transform.min_snr_db = transform.max_snr_db = 12.0
        if colour:
            transform.min_f_decay = transform.max_f_decay = -6.0
        augmenter._noises = [transform]
        noise = augmenter.after_crop(white, rng) - white
        assert level_db(white) - level_db(noise) == pytest.approx(12, abs=0.2)
        spectrum = np.abs(np.fft.rfft(noise)) ** 2
        low, high = spectrum[: len(spectrum) // 4].mean(), spectrum[-len(spectrum) // 4 :].mean()
        assert low > 10 * high if colour else low == pytest.approx(high, rel=0.1)

    def test_every_noise_and_filter_gets_its_turn(self, monkeypatch, white, rng):
        augmenter = only("noise")
        augmenter.settings = replace(augmenter.settings, filter=1.0)
        augmenter._filters = augment._filters()
        met = set()

        def spy_on(transform):
            apply, name = transform.apply, type(transform).__name__
            monkeypatch.setattr(transform, "apply", lambda *given: met.add(name) or apply(*given))

        for transform in augmenter._noises + augmenter._filters:
            spy_on(transform)
        for _ in range(80):
            augmenter.after_crop(white[:1000], rng)
        assert len(met) == 3 + 7

    def test_filter_shapes_the_spectrum(self, white, rng):
        augmenter = only("filter")
        (low_pass,) = [t for t in augmenter._filters if type(t).__name__ == "LowPassFilter"]
        low_pass.min_cutoff_freq = low_pass.max_cutoff_freq = 1000.0
        augmenter._filters = [low_pass]
        before = np.abs(np.fft.rfft(white)) ** 2
        after = np.abs(np.fft.rfft(augmenter.after_crop(white, rng))) ** 2
        hz = np.fft.rfftfreq(len(white), 1 / SAMPLE_RATE)
        assert after[hz < 400].sum() == pytest.approx(before[hz < 400].sum(), rel=0.05)
        assert after[hz > 4000].sum() < 1e-2 * before[hz > 4000].sum()


class TestRoom:
    def settings(self, folder):
        return replace(OFF, room=1.0, room_corpus=str(folder))

    def write(self, path, samples):
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, SAMPLE_RATE, subtype="FLOAT")

    def test_response_is_convolved(self, tmp_path, white, rng):
        echo = np.zeros(200)
        echo[[0, 100]] = 1, 0.5
        self.write(tmp_path / "simulated_rirs" / "Room001-00001.wav", echo)
        heard = Augmenter(self.settings(tmp_path)).after_crop(white, rng)
        expected = np.convolve(white, echo)[: len(white)]
        np.testing.assert_allclose(heard / heard.std(), expected / expected.std(), atol=1e-4)

    def test_noise_recording_is_added_below_the_signal(self, tmp_path, white, rng):
        self.write(tmp_path / "pointsource_noises" / "noise-free-sound-0000.wav", white[::-1])
        noise = Augmenter(self.settings(tmp_path)).after_crop(white, rng) - white
        assert 2.9 < level_db(white) - level_db(noise) < 30.1

    def test_responses_and_noises_are_told_apart_by_file_name(self, tmp_path):
        for name in ("type1_noise_1.WAV", "TYPE2_NOISE_1.wav", "type1_rir_1.wav"):
            self.write(tmp_path / "RIRS_NOISES" / "real" / name, np.ones(10))
        responses, noises = Augmenter(self.settings(tmp_path))._rooms
        assert [len(responses.ir_files), len(noises.sound_file_paths)] == [1, 2]
        assert "rir_1" in responses.ir_files[0]

    def test_missing_or_empty_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="not a folder"):
            Augmenter(self.settings(tmp_path / "nowhere"))
        (tmp_path / "rirs_noises.zip").touch()
        with pytest.raises(ConfigError, match=r"rirs_noises\.zip' is not a folder; .*unpack an archive"):
            Augmenter(self.settings(tmp_path / "rirs_noises.zip"))
        (tmp_path / "readme.txt").touch()
        with pytest.raises(ConfigError, match="holds no audio"):
            Augmenter(self.settings(tmp_path))


class TestPromises:
    @pytest.mark.parametrize("step", STEPS)
    def test_probability_one_always_changes_zero_never(self, step, white, rng):
        clip = np.concatenate([np.zeros(8000, np.float32), white])
        always, never = only(step), only(step, 0.0)
        for _ in range(10):
            assert not np.array_equal(always(clip, rng), clip)
            np.testing.assert_array_equal(never(clip, rng), clip)

    def test_probabilities_and_independence(self, monkeypatch, rng):
        """Replace the steps by marks: each comes at its own rate, and pairs at the product of their rates."""
        seen = []
        marks = ("mask_span", "mu_law", "rawboost", "_one_of", "trim_leading_silence")
        for name in marks:
            monkeypatch.setattr(augment, name, lambda *given, name=name: seen.append(name) or _samples(given))
        rates = Augmentation(0.5, 0.3, 0.3, 0.3, noise_filter=0.5, noise=0.9, filter=0)
        augmenter = Augmenter(rates)
        runs = 2000
        table = np.zeros((runs, len(marks)))
        clip = np.ones(10, np.float32)
        for row in table:
            seen.clear()
            augmenter(clip, rng)
            row[:] = [name in seen for name in marks]
        expected = np.array([0.3, 0.3, 0.3, 0.5 * 0.9, 0.5])
        assert np.abs(table.mean(axis=0) - expected).max() < 4 * np.sqrt(0.25 / runs)
        off_diagonal = ~np.eye(len(marks), dtype=bool)
        assert np.abs(np.corrcoef(table.T)[off_diagonal]).max() < 4 / np.sqrt(runs)

    def test_order(self, monkeypatch, rng):
        seen = []
        for name in ("mask_span", "mu_law", "rawboost", "trim_leading_silence"):
            monkeypatch.setattr(augment, name, lambda *given, name=name: seen.append(name) or _samples(given))
        monkeypatch.setattr(augment, "_one_of", lambda *given: seen.append(len(given[0])) or _samples(given))
        Augmenter(Augmentation(*[1.0] * 7))(np.ones(10, np.float32), rng)
        assert seen == ["trim_leading_silence", "mask_span", "mu_law", "rawboost", 3, 7]

    def test_same_generator_same_bytes(self, white):
        augmenter = Augmenter(Augmentation(noise_filter=1.0))
        twin = pickle.loads(pickle.dumps(augmenter))
        first = [augmenter(white, np.random.default_rng(seed)).tobytes() for seed in range(30)]
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        again = [twin(white, np.random.default_rng(seed)).tobytes() for seed in range(30)]
        assert first == again
        assert len(set(first)) > 25

    def test_global_generators_and_input_are_left_alone(self, white, rng):
        augmenter = Augmenter(Augmentation(*[1.0] * 6))
        kept = white.copy()
        before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
        for _ in range(20):
            augmenter(white, rng)
        assert before == (random.getstate(), np.random.get_state()[1].tobytes())  # noqa: NPY002
        np.testing.assert_array_equal(white, kept)

    @pytest.mark.parametrize("name", HOSTILE)
    @pytest.mark.parametrize("step", [*STEPS, "vad", "all"])
    def test_hostile_clips_come_out_finite(self, name, step, rng):
        clip = HOSTILE[name].astype(np.float32)
        by_voice = {"silence_detector": "vad"}
        others = {"all": Augmentation(*[1.0] * 6), "vad": replace(OFF, trim_silence=1.0, **by_voice)}
        augmenter = Augmenter(others[step]) if step in others else only(step)
        for _ in range(10):
            out = augmenter(clip, rng)
            assert out.dtype == np.float32 and out.shape == clip.shape
            assert np.isfinite(out).all()
            if step not in ("trim_silence", "vad"):
                assert np.abs(out).max() <= 1.000001

    def test_what_is_no_mono_clip_is_refused(self, rng):
        augmenter = Augmenter(OFF)
        for bad in (np.zeros(0), np.zeros((2, 100))):
            with pytest.raises(ValueError, match="mono"):
                augmenter(bad, rng)

    def test_what_is_off_is_not_imported(self):
        code = f"""
import sys, numpy as np
from spaarsist.config import Augmentation
from spaarsist.data.augment import Augmenter
Augmenter({OFF!r})(np.ones(10, np.float32), np.random.default_rng(0))
sys.exit(bool({{"torch", "torchaudio", "librosa", "audiomentations"}} & set(sys.modules)))
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _samples(given):
    """The waveform among a step's arguments."""
    return next(argument for argument in given if isinstance(argument, np.ndarray))
