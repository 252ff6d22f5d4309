"""Recordings of anybody: what is printed of them is what `score` gives, and how much of them was heard is said."""

import json
import shutil
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile

from conftest import write_record, write_tsv
from spaarsist.__main__ import main
from spaarsist.artefacts import CALIBRATION, RECORD
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.deployment import detect as detecting
from spaarsist.deployment.detect import Listener, detect
from spaarsist.experiments.score import score
from spaarsist.names import ConfigError, Variant

MAG = Variant.from_column("01-Mag")
CROP = 8000
"""Samples of an excerpt of the checkpoint that tests train."""


@pytest.fixture(scope="module")
def clips(synthetic):
    """Some recordings of the made-up corpora, as paths and as waveforms."""
    paths = sorted((synthetic / "data" / "asvspoof5" / "flac_E_eval").iterdir())[:4]
    return {path: audio.read(path) for path in paths}


def write_media(path, waveform, codec, rate, layout="mono"):
    """Write a waveform (n,) or (channels, n) into a container by FFmpeg's libraries; the ending says which."""
    planes = np.atleast_2d(waveform).astype(np.float32)
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=layout)
    whole.sample_rate = rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        coded = stream.codec_context
        cut = av.AudioResampler(coded.format, coded.layout, rate, frame_size=coded.frame_size or None)
        for frame in (*cut.resample(whole), *cut.resample(None)):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def calibration(path, threshold, system="AST-05-05", seed=1):
    rows = [{"quantity": "threshold_dev_eer", "value": threshold}, {"quantity": "threshold_dev_min_dcf", "value": 9.0}]
    return write_tsv(path, rows, system=system, seed=seed, variant="05", corpus="dev")


@pytest.mark.parametrize("variant", [None, MAG])
def test_scores_are_those_of_score(checkpoint, synthetic, tmp_path, variant):
    score(checkpoint, synthetic / "eval.tsv", tmp_path / "s.parquet", [variant] if variant else [], batch_size=1)
    expected = pd.read_parquet(tmp_path / "s.parquet").iloc[:, 1]
    listener = Listener(checkpoint, variant)
    found = [listener.listen(Path(path)).parts["score"].item() for path in read_trials(synthetic / "eval.tsv")["path"]]
    assert found == expected.tolist() and len({*found}) > 20
    assert listener.system == ("AST-05-01-Mag" if variant else "AST-05-05")


def test_what_was_heard_is_said(checkpoint, tmp_path):
    """Long: the middle. Short: all of it, without the zeros behind."""
    noise = np.random.default_rng(0).normal(0, 0.1, 20_000)
    for name, n in (("long", 20_000), ("short", 3_200)):
        soundfile.write(tmp_path / f"{name}.wav", noise[:n], 16_000, subtype="FLOAT")
    listener = Listener(checkpoint)
    long, short = (listener.listen(tmp_path / f"{name}.wav") for name in ("long", "short"))
    assert (long.duration, long.heard) == (1.25, 0.5) and long.parts["start_s"].tolist() == [0.375]
    assert (short.duration, short.heard) == (0.2, 0.2) and short.parts["start_s"].tolist() == [0]


class TestWindows:
    def test_each_is_the_score_of_that_stretch(self, checkpoint, tmp_path):
        waveform = np.random.default_rng(0).normal(0, 0.1, 21_000).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", waveform, 16_000, subtype="FLOAT")
        listener = Listener(checkpoint)
        heard = listener.listen(tmp_path / "a.wav", windows=True)
        starts = [0, 4000, 8000, 12_000, 13_000]  # half an excerpt on; the last one ends with the recording
        assert (heard.parts["start_s"] * 16_000).tolist() == starts and heard.heard == heard.duration == 1.3125
        assert ((heard.parts["end_s"] - heard.parts["start_s"]) * 16_000 == CROP).all()
        for number, start in enumerate(starts):
            soundfile.write(tmp_path / "part.wav", waveform[start : start + CROP], 16_000, subtype="FLOAT")
            assert listener.listen(tmp_path / "part.wav").parts["score"].item() == heard.parts["score"][number]

    @pytest.mark.parametrize(("n", "starts"), [(CROP - 1, [0]), (CROP, [0]), (CROP + 1, [0, 1]), (12_000, [0, 4000])])
    def test_at_the_ends(self, checkpoint, tmp_path, n, starts):
        soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, n), 16_000)
        parts = Listener(checkpoint).listen(tmp_path / "a.wav", windows=True).parts
        assert (parts["start_s"] * 16_000).round(6).tolist() == starts and parts["end_s"].iloc[-1] == n / 16_000


class TestThreshold:
    def test_there_is_none_unless_somebody_says_one(self, checkpoint, clips, capsys):
        listener = Listener(checkpoint)
        assert listener.threshold is None and detect(listener, [*clips]) == 0
        _, about, *lines = capsys.readouterr().out.splitlines()
        assert about.startswith("AST-05-05, threshold: none known (a checkpoint's record holds none; --calibration")
        assert len(lines) == 4 and all("  no threshold  " in line for line in lines)

    def test_at_or_above_it_is_bona_fide(self, checkpoint, clips, tmp_path):
        path = next(iter(clips))
        found = Listener(checkpoint).listen(path).parts["score"].item()
        for threshold, verdict in ((found, "bona fide"), (np.nextafter(found, 9), "spoof"), (-9.0, "bona fide")):
            table = f"system\tseed\tquantity\tvalue\nAST-05-05\t1\tthreshold_dev_eer\t{threshold!r}\n"
            (tmp_path / "c.tsv").write_text(table.replace("np.float64(", "").replace(")", ""))
            listener = Listener(checkpoint, calibration=tmp_path / "c.tsv")
            assert listener.threshold == threshold and listener.listen(path).parts["verdict"].item() == verdict

    @pytest.mark.parametrize(
        "cells", [{"system": "AST-05-01-Mag"}, {"seed": 2}, {"threshold": -np.inf}, {"threshold": np.nan}]
    )
    def test_another_one_s_is_refused(self, checkpoint, tmp_path, cells):
        path = calibration(tmp_path / "c.tsv", **{"threshold": 0.5} | cells)
        with pytest.raises(ConfigError, match=rf"^{path}: no finite development threshold of AST-05-05, seed 1; name"):
            Listener(checkpoint, calibration=path)

    def test_it_is_that_of_the_seed(self, checkpoint, tmp_path):
        folder = shutil.copytree(checkpoint, tmp_path / "other")
        write_record(folder / RECORD, **json.loads((folder / RECORD).read_text()) | {"seed": 2})
        assert Listener(folder, calibration=calibration(tmp_path / "c.tsv", 0.5, seed=2)).threshold == 0.5

    def test_it_may_lie_beside_the_checkpoint(self, checkpoint, tmp_path):
        folder = shutil.copytree(checkpoint, tmp_path / "shared")
        calibration(folder / CALIBRATION, 0.25)
        assert Listener(folder).threshold == 0.25
        assert Listener(folder, calibration=calibration(tmp_path / "c.tsv", 0.5)).threshold == 0.5
        other = Listener(folder, MAG)
        assert other.threshold is None and other.threshold_from.endswith("threshold of AST-05-01-Mag, seed 1")


@pytest.mark.parametrize(
    ("name", "codec", "rate", "layout", "longer"),
    [
        ("a.m4a", "aac", 44_100, "stereo", 0.07),
        ("a.mp4", "aac", 8_000, "mono", 0.3),
        ("a.webm", "libopus", 48_000, "mono", 0),
        ("a.opus", "libopus", 48_000, "stereo", 0),
        ("a.wav", "pcm_s16le", 8_000, "stereo", 0),
        ("a.m4a", "alac", 16_000, "mono", 0),
        ("a.avi", "libmp3lame", 16_000, "mono", 0.15),
    ],
)
def test_any_container(tmp_path, checkpoint, name, codec, rate, layout, longer):
    """A tone of 440 Hz stays one of its level and length, whatever carries it; channels are averaged."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    planes = np.stack([tone * 1.5, tone * 0.5]) if layout == "stereo" else tone
    path = write_media(tmp_path / name, planes, codec, rate, layout)
    waveform = audio.read_any(path)
    assert waveform.dtype == np.float32 and 2 <= len(waveform) / 16_000 <= 2 + longer  # codecs whose frames stay
    middle = waveform[8_000:24_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() == 440 and np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.3, rel=0.05)
    heard = Listener(checkpoint).listen(path)
    assert np.isfinite(heard.parts["score"].item()) and heard.heard == pytest.approx(0.5)


class TestMediaThatAreRefused:
    def refused(self, path, message):
        with pytest.raises(ConfigError, match=message) as refusal:
            audio.read_any(path)
        assert str(refusal.value).startswith(f"{path}: ") and "\n" not in str(refusal.value)

    @pytest.mark.parametrize(("name", "codec"), [("a.webm", "libopus"), ("a.m4a", "aac"), ("a.opus", "libopus")])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
    def test_cut_short(self, tmp_path, name, codec, share):
        noise = np.random.default_rng(0).normal(0, 0.1, 48_000 * 8)
        content = write_media(tmp_path / f"whole_{name}", noise, codec, 48_000).read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        self.refused(tmp_path / name, "cut short")

    def test_several_tracks(self, tmp_path):
        path = tmp_path / "two tracks.mkv"
        with av.open(str(path), "w") as container:
            streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            for stream in streams:
                container.mux(stream.encode(frame))
        self.refused(path, r"2 audio tracks; .* ffmpeg -i 'two tracks\.mkv' -map 0:a:0 'two tracks\.flac'$")

    def test_no_sound(self, tmp_path):
        path = tmp_path / "silent.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            container.mux([*stream.encode(picture), *stream.encode(None)])
        self.refused(path, "holds no audio track")

    def test_a_playlist_opens_nothing(self, tmp_path):
        """Read by its name, FFmpeg would play what it points at."""
        write_media(tmp_path / "a.ts", np.zeros(16_000), "aac", 16_000)
        path = tmp_path / "list.m3u8"
        lines = "#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", (tmp_path / "a.ts").as_uri(), "#EXT-X-ENDLIST"
        path.write_text("\n".join(lines))
        with av.open(str(path)) as container:
            assert container.streams.audio
        self.refused(path, "no recording, cut short or damaged")

    @pytest.mark.parametrize("content", [b"", b"hello\n", bytes(5000), b"\x1a\x45\xdf\xa3", b"    ftypM4A "])
    def test_no_recording(self, tmp_path, content):
        (tmp_path / "a.m4a").write_bytes(content)
        self.refused(tmp_path / "a.m4a", "empty file" if not content else "no recording, cut short or damaged")

    def test_ffmpeg_is_not_more_lenient(self, tmp_path):
        """A cut FLAC is refused as everywhere, though FFmpeg would play what is there."""
        soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
        content = (tmp_path / "a.flac").read_bytes()
        (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
        self.refused(tmp_path / "a.flac", "cut short")

    def test_no_files(self, tmp_path):
        self.refused(tmp_path / "nowhere.m4a", "no such file")
        self.refused(tmp_path, "a folder, not a recording")


class TestOutput:
    @pytest.fixture
    def files(self, clips, tmp_path):
        (tmp_path / "bad.m4a").write_text("no audio")
        soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
        return [*[*clips][:1], tmp_path / "bad.m4a", tmp_path / "silence.wav", tmp_path / "nowhere"]

    @pytest.fixture
    def listener(self, checkpoint, tmp_path):
        return Listener(checkpoint, calibration=calibration(tmp_path / "c.tsv", -9.0))

    def test_text(self, listener, files, capsys):
        assert detect(listener, files) == 2
        out, err = capsys.readouterr()
        model, threshold, first, silent = out.splitlines()
        assert model == listener.model and "A demo checkpoint: decide nothing by its scores." in model
        assert threshold.startswith("AST-05-05, threshold: -9.000 nats (equal error rate on the development corpus, ")
        assert " nats  bona fide     0.50 of " in first and first.endswith(f" s heard  {files[0]}")
        assert " nats  no signal     0.50 of 1.00 s heard  " in silent
        assert [line.partition(": ")[2].partition(":")[0] for line in err.splitlines()] == [
            str(files[1]),
            str(files[3]),
        ]

    def test_tsv_and_json_say_the_same(self, listener, files, capsys):
        for windows in (False, True):
            assert detect(listener, files, windows=windows, form="tsv") == 2
            out, err = capsys.readouterr()
            header, *rows = (line.split("\t") for line in out.splitlines())
            assert tuple(header) == detecting.COLUMNS and listener.model in err
            assert detect(listener, files, windows=windows, form="json") == 2
            told = json.loads(capsys.readouterr().out)
            assert told["model"] == listener.model and told["threshold"] == -9 and told["windows"] is windows
            assert [file["file"] for file in told["files"]] == [*map(str, files)]
            assert [file["file"] for file in told["files"] if "error" in file] == [str(files[1]), str(files[3])]
            parts = [(file["file"], part) for file in told["files"] for part in file.get("parts", ())]
            assert [(name, part["verdict"]) for name, part in parts] == [(row[0], row[6]) for row in rows]
            scores = [part["score"] for _, part in parts]
            assert scores == pytest.approx([float(row[4]) for row in rows], abs=1e-8) and len(rows) == (2, 7)[windows]

    def test_windows_in_a_line(self, checkpoint, tmp_path, capsys, monkeypatch):
        """The lowest of those that hear something, and how many lie below the threshold; by hand."""
        waveform = np.random.default_rng(0).normal(0, 0.1, 20_000)
        waveform[:8000] = 0
        soundfile.write(tmp_path / "a.wav", waveform, 16_000)
        given = iter([-9.0, 3.0, -1.0, 1.0])
        monkeypatch.setattr(Listener, "_score", lambda *_: next(given))
        assert (
            detect(
                Listener(checkpoint, calibration=calibration(tmp_path / "c.tsv", 0.0)),
                [tmp_path / "a.wav"],
                windows=True,
            )
            == 0
        )
        assert capsys.readouterr().out.splitlines()[2] == (
            "lowest -1.000 nats at 0.50 s, mean +1.000  1 of 4 windows below the threshold, 1 without signal  "
            f"1.25 of 1.25 s heard  {tmp_path}/a.wav"
        )

    def test_a_name_stays_on_its_line(self, listener, clips, tmp_path, capsys):
        odd = tmp_path / "a\tb\nc.flac"
        shutil.copy(next(iter(clips)), odd)
        for form, n in (("text", 3), ("tsv", 2)):
            detect(listener, [odd], form=form)
            lines = capsys.readouterr().out.splitlines()
            assert len(lines) == n and r"a\tb\nc.flac" in lines[-1]

    def test_a_score_that_is_no_number(self, listener, files, monkeypatch, capsys):
        monkeypatch.setattr(Listener, "_score", lambda *_: float("nan"))
        assert detect(listener, files[:1], form="json") == 1
        assert "the score from" in json.loads(capsys.readouterr().out)["files"][0]["error"]


def test_variants_of_a_back_end_without(checkpoint, monkeypatch):
    monkeypatch.setattr("spaarsist.models.detector.Detector.variant", None)
    with pytest.raises(ConfigError, match=r"AST-05 has no variants; ask for none$"):
        Listener(checkpoint, MAG)


class TestVerb:
    @pytest.fixture
    def call(self, monkeypatch, capsys, checkpoint):
        """`spaarsist detect <the checkpoint>` with these: exit code, stdout, stderr."""

        def run(*arguments):
            monkeypatch.setattr(sys, "argv", ["spaarsist", "detect", str(checkpoint), *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
            return end.value.code, *capsys.readouterr()

        return run

    def test_a_verdict_is_no_failure_and_a_bad_file_is(self, call, clips, tmp_path):
        good, options = next(iter(clips)), ["--calibration", calibration(tmp_path / "c.tsv", 9.0)]
        code, out, err = call(good, *options)
        assert (code, err) == (0, "") and "  spoof  " in out
        code, out, err = call(tmp_path / "nowhere.wav", good, *options, "--variant", "05")
        assert (code, err) == (1, f"spaarsist: {tmp_path}/nowhere.wav: no such file\n") and "  spoof  " in out

    def test_time_lines(self, call, clips, tmp_path):
        paths = [*clips][:2]
        code, out, _ = call(*paths, tmp_path, "--windows", "--output", tmp_path / "lines", "--json")
        assert code == 1
        names = {f"{path.name}.{ending}" for path in paths for ending in ("png", "pdf", "tsv")}
        assert {path.name for path in (tmp_path / "lines").iterdir()} == names
        for path, told in zip(paths, json.loads(out)["files"], strict=False):
            shown = pd.read_csv(tmp_path / "lines" / f"{path.name}.tsv", sep="\t")
            pd.testing.assert_frame_equal(shown, pd.DataFrame(told["parts"]), rtol=1e-7)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["a.wav", "--json", "--tsv"], "--json and --tsv: one output has one form; name one of them"),
            (["a.wav", "--output", "new"], "--output is the folder of time lines; add --windows, or leave it out"),
            (
                ["x/a.wav", "y/a.wav", "--windows", "--output", "new"],
                "two recordings are called a.wav, and so would be their time lines; draw them apart",
            ),
            (["a.wav", "--variant", "Mag"], "'Mag' names no variant; expected something like 05, 01-Mag or 05+stack1"),
        ],
    )
    def test_what_does_not_go_together(self, call, tmp_path, monkeypatch, arguments, message):
        monkeypatch.chdir(tmp_path)
        assert call(*arguments) == (1, "", f"spaarsist: {message}\n") and not [*tmp_path.iterdir()]
