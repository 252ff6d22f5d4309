"""Files for other runtimes: they score as the checkpoint does, say what they are, and are not kept if they do not."""

import json
import logging
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from itertools import count

import numpy as np
import onnx as onnx_package
import onnxruntime
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn
from transformers import AutoModel, Wav2Vec2Config
from typer.testing import CliRunner

from conftest import REPOSITORY, misplace
from spaarsist.__main__ import app
from spaarsist.artefacts import file_hash
from spaarsist.config import BackendConfig, FrontendConfig
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.deployment import export as module
from spaarsist.deployment.export import export, onnx_session, render
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.experiments.score import score
from spaarsist.models.detector import Detector, load_checkpoint, save_checkpoint
from spaarsist.names import ConfigError, Variant

CROP = 8000
WAV2VEC2 = Wav2Vec2Config(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7, conv_bias=True,
    feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
)  # fmt: skip
"""XLS-R's architecture, tiny."""


def onnx(path):
    session = onnxruntime.InferenceSession(path)
    (name,) = [i.name for i in session.get_inputs()]
    return lambda batch: session.run(["scores"], {name: batch})[0]


def pt2(path):
    program = torch.export.load(path).module()
    return lambda batch: program(torch.from_numpy(batch)).numpy()


def said(path):
    """What a file says of itself."""
    if path.suffix == ".onnx":
        return json.loads(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["spaarsist"])
    extra = {"spaarsist.json": ""}
    torch.export.load(path, extra_files=extra)
    return json.loads(extra["spaarsist.json"])


@pytest.fixture(scope="module")
def trial_list(synthetic):
    return synthetic / "eval.tsv"


@pytest.fixture(scope="module")
def waveforms(trial_list):
    """Excerpts of the whole list, cut by hand."""
    excerpts = []
    for path in read_trials(trial_list)["path"]:
        waveform = audio.read(path)
        start = max(len(waveform) - CROP, 0) // 2
        waveform = waveform[start : start + CROP]
        excerpts.append(np.concatenate([waveform, np.zeros(CROP - len(waveform), np.float32)]))
    return np.stack(excerpts)


def random_detector(folder, backend, frontend=FrontendConfig()):  # noqa: B008
    """A checkpoint with random weights, whose batch norms have met some input."""
    torch.manual_seed(0)
    detector = Detector(frontend, backend).train()
    with torch.no_grad():
        detector(torch.randn(8, CROP))
    record = {
        "frontend": asdict(frontend),
        "backend": asdict(backend),
        "architecture": detector.frontend.architecture,
        "system": backend.kind,
        "seed": 3,
        "recipe": {"crop": CROP},
        "provenance": {"code_hash": "of the training"},
    }
    save_checkpoint(detector.state_dict(), record, folder)
    return folder


@pytest.fixture(scope="module")
def mean_pool(tmp_path_factory):
    """The cheapest detector to trace."""
    return random_detector(tmp_path_factory.mktemp("mean") / "checkpoint", BackendConfig("MeanPool", 16))


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory):
    """A random wav2vec2 in the hub's file layout."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hub") / "tiny"
    AutoModel.from_config(WAV2VEC2).save_pretrained(path)
    return path


class TestAASIST:
    """With variants, of a trained checkpoint."""

    VARIANTS = ("01-Mag+graph1", "03-MagUni", "01-Mag", "05")

    @pytest.fixture(scope="class")
    def scores(self, checkpoint, trial_list, tmp_path_factory):
        path = tmp_path_factory.mktemp("scores") / "eval.parquet"
        score(checkpoint, trial_list, path, [Variant.from_column(column) for column in self.VARIANTS])
        return pd.read_parquet(path)

    @pytest.fixture(scope="class")
    def whole(self, checkpoint, trial_list, tmp_path_factory):
        path = tmp_path_factory.mktemp("whole") / "model.onnx"
        about = export(checkpoint, trial_list, path, Variant.from_column("01-Mag+graph1"))
        return path, about["difference"]["largest"]

    @pytest.fixture(scope="class")
    def readout(self, checkpoint, trial_list, tmp_path_factory):
        """Back-end and head of the same weights, said to be trained as another variant; written by the command line."""
        folder = tmp_path_factory.mktemp("readout")
        detector, record = load_checkpoint(checkpoint)
        record["backend"]["options"] = {"k_train": 0.3, "variant": "MagUni"}
        save_checkpoint(detector.state_dict(), record, folder / "checkpoint")
        path = folder / "file" / "model.pt2"
        arguments = ["--checkpoint", folder / "checkpoint", "--trial-list", trial_list, "--output", path]
        arguments += ["--without-frontend", "--n-excerpts", "5"]
        result = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0 and re.search(r"scores of 5 excerpts .* to within \S+ nats", result.stdout)
        return path

    @pytest.mark.parametrize("batch_size", [1, 7, 32])
    def test_scores_are_those_of_scoring(self, whole, scores, waveforms, batch_size):
        path, difference = whole
        run = onnx(path)
        got = np.concatenate([run(waveforms[i : i + batch_size]) for i in range(0, len(waveforms), batch_size)])
        assert got.shape == (32,) and got.dtype == np.float32
        np.testing.assert_allclose(got, scores["01-Mag+graph1"], rtol=0, atol=2e-5)
        for other in ("01-Mag", "05"):
            assert np.abs(got - scores[other]).max() > 1e-4, "variants differ by more than the tolerance"
        assert difference < 2e-5

    @pytest.mark.parametrize("batch_size", [1, 7, 32])
    def test_from_frames_as_trained(self, readout, checkpoint, scores, waveforms, batch_size):
        """An AASIST that was trained as another variant ships as that one."""
        detector, _ = load_checkpoint(checkpoint)
        with torch.inference_mode():
            frames = detector.frames(torch.from_numpy(waveforms)).numpy()
        run = pt2(readout)
        got = np.concatenate([run(frames[i : i + batch_size]) for i in range(0, len(frames), batch_size)])
        np.testing.assert_allclose(got, scores["03-MagUni"], rtol=0, atol=5e-6)

    def test_another_length_is_refused(self, whole, readout):
        """With a dynamic length the wrong number of nodes would be kept unseen."""
        for n_samples in (CROP - 1, 2 * CROP):
            with pytest.raises(Exception, match="invalid dimensions"):
                onnx(whole[0])(np.zeros((2, n_samples), np.float32))
        for n_frames in (24, 50):
            with pytest.raises(Exception, match="Guard failed"):
                pt2(readout)(np.zeros((2, n_frames, 120), np.float32))

    def test_names_and_shapes(self, whole):
        session = onnxruntime.InferenceSession(whole[0])
        (given,), (made,) = session.get_inputs(), session.get_outputs()
        assert (given.name, given.shape, given.type) == ("waveforms", ["batch", CROP], "tensor(float)")
        assert (made.name, made.shape) == ("scores", ["batch"])

    def test_what_a_file_says(self, whole, readout, checkpoint, trial_list):
        about = said(whole[0])
        assert {key: about[key] for key in ("system", "variant", "seed", "input", "crop", "sample_rate")} == {
            "system": "AST-05", "variant": "01-Mag+graph1", "seed": 1, "input": "waveforms",
            "crop": "centre 8000 samples", "sample_rate": 16_000,
        }  # fmt: skip
        assert about["polarity"].startswith("higher = more bona fide") and about["precision"] == "float32"
        assert about["checkpoint"] == file_hash(checkpoint / "model.safetensors")
        assert {"code_hash", "torch", "onnx", "onnxruntime", "onnxscript"} <= set(about["provenance"])
        assert about["difference"]["largest"] == whole[1] >= about["difference"]["median"]
        trials = read_trials(trial_list)
        chosen = trials.set_index("trial_id").loc[about["checked_on"]["trial_ids"]]
        assert chosen["label"].value_counts().to_dict() == {"bonafide": 8, "spoof": 8}
        firsts = [trials["trial_id"][trials["label"] == label].head(8) for label in ("bonafide", "spoof")]
        assert {*chosen.index} == {*firsts[0], *firsts[1]}
        assert about["checked_on"]["trial_list"] == file_hash(trial_list)
        about = said(readout)
        assert (about["variant"], about["input"]) == ("03-MagUni", "frames")
        assert len(about["checked_on"]["trial_ids"]) == 5 and "onnx" not in about["provenance"]

    def test_holds_no_more_than_it_should(self, whole, readout):
        """One file, without paths on this machine, audio of the corpus, or weights that the variant never uses."""
        for path in (whole[0], readout):
            assert [*path.parent.iterdir()] == [path]
            assert str(REPOSITORY).encode() not in path.read_bytes()
            assert sys.prefix.encode() not in path.read_bytes()
        program = torch.export.load(readout)
        ((example,), _) = program.example_inputs
        assert not example.any()
        names = {*program.state_dict}
        assert any("head" in name for name in names) and not any("frontend" in name for name in names)
        assert not any("pool" in name or "att_projM" in name for name in names)

    def test_the_page_s_example(self, whole, scores, waveforms, tmp_path):
        """It needs neither this package nor torch."""
        (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/export.md").read_text(), re.DOTALL)
        shutil.copy(whole[0], tmp_path / "model.onnx")
        soundfile.write(tmp_path / "clip.wav", waveforms[4], 16_000, subtype="FLOAT")
        code += "import sys\nassert not {'torch', 'spaarsist'} & set(sys.modules)\nprint(score)"
        printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
        assert float(printed) == pytest.approx(scores["01-Mag+graph1"][4], abs=2e-5)


@pytest.mark.parametrize("output", ["model.onnx", "model.pt2"])
def test_mhfa_of_a_front_end_in_bfloat16(output, trial_list, wav2vec2, waveforms, tmp_path):
    """A back-end without variants, on all layers of a front-end of XLS-R's kind, is written as float32.

    Batches of any size here too.
    """
    half = FrontendConfig(str(wav2vec2), precision="bfloat16")
    backend = BackendConfig("MHFA", 16, {"n_heads": 2, "compression_dim": 4})
    checkpoint = random_detector(tmp_path / "MHFA", backend, half)
    with_frontend = output == "model.onnx"
    export(checkpoint, trial_list, tmp_path / output, with_frontend=with_frontend, n_excerpts=4)
    detector, _ = load_checkpoint(checkpoint)
    inputs = torch.from_numpy(waveforms)
    with torch.inference_mode():
        rounded = detector.scores(inputs)[:, 0].numpy()
        detector.frontend.settings = replace(half, precision="float32")
        expected = detector.scores(inputs)[:, 0].numpy()
        inputs = inputs if with_frontend else detector.frames(inputs)
    assert inputs.shape[1:] == ((CROP,) if with_frontend else (3, 24, 16))
    run = {"model.onnx": onnx, "model.pt2": pt2}[output](tmp_path / output)
    for size in (1, 32):
        got = np.concatenate([run(batch.numpy()) for batch in inputs.split(size)])
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert np.std(expected) > 1e-3 and np.abs(got - rounded).max() > 1e-4
    about = said(tmp_path / output)
    assert (about["variant"], about["precision"]) == ("score", "float32; trained and scored in bfloat16")
    with pytest.raises(ConfigError, match="MHFA has no variants; ask for none"):
        export(checkpoint, trial_list, tmp_path / "a.onnx", Variant())


class TestInt8:
    """Linear layers of a front-end of XLS-R's kind as integers."""

    @pytest.fixture(scope="class")
    def detector(self, wav2vec2, tmp_path_factory):
        return random_detector(
            tmp_path_factory.mktemp("AASIST") / "checkpoint", BackendConfig("AASIST", 16), FrontendConfig(str(wav2vec2))
        )

    @pytest.fixture(scope="class")
    def light(self, wav2vec2, tmp_path_factory):
        """With the back-end that is the cheapest to trace."""
        folder = tmp_path_factory.mktemp("light") / "checkpoint"
        return random_detector(folder, BackendConfig("MeanPool", 16), FrontendConfig(str(wav2vec2)))

    @pytest.fixture(scope="class")
    def written(self, detector, trial_list, tmp_path_factory):
        """By the command line: the file, and what was printed."""
        path = tmp_path_factory.mktemp("int8") / "file" / "model.onnx"
        arguments = ["--checkpoint", detector, "--trial-list", trial_list, "--output", path, "--variant", "01-Mag"]
        arguments += ["--int8", "--n-excerpts", "4"]
        result = CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0
        return path, result.stdout

    @pytest.fixture(scope="class")
    def exact(self, detector, waveforms):
        """Scores of the checkpoint itself."""
        loaded, _ = load_checkpoint(detector)
        with torch.inference_mode():
            return loaded.scores(torch.from_numpy(waveforms), [Variant.from_column("01-Mag")])[:, 0].numpy()

    @pytest.fixture(scope="class")
    def scores(self, written, waveforms):
        return np.concatenate([onnx(written[0])(waveform[None]) for waveform in waveforms])

    def test_what_a_file_says_is_so(self, written, scores, exact, trial_list):
        path, printed = written
        about = said(path)
        moved = np.abs(scores - exact)
        assert about["difference"]["median"] == pytest.approx(np.median(moved), rel=0.2, abs=1e-6)
        assert about["difference"]["largest"] == pytest.approx(moved.max(), rel=0.2, abs=1e-6)
        assert about["difference"]["largest"] > 20 * about["float32"]["difference"]["largest"], (
            "integers cost something"
        )
        assert moved.max() < 0.1 * np.ptp(exact)
        labels = read_trials(trial_list)["label"].to_numpy()
        for told, by in ((about["float32"], exact), (about, scores)):
            metrics = compute_metrics(by[labels == "bonafide"], by[labels == "spoof"])
            assert told["eer"] == pytest.approx(metrics["eer"], abs=1e-9)
        assert (about["variant"], about["input"], about["linear_layers"], about["layers"]) == (
            "01-Mag",
            "waveforms",
            19,
            19,
        )
        assert about["precision"] == "float32, but int8 in linear layers of the front-end"
        assert about["checked_on"] == {"trial_list": file_hash(trial_list), "n_trials": 32}
        assert len(about["float32"]["checked_on"]["trial_ids"]) == 4
        assert about["bytes"] < about["float32"]["bytes"] and about["bytes"] == pytest.approx(
            path.stat().st_size, rel=0.01
        )
        lines = printed.splitlines()
        assert re.fullmatch(r"\S+model\.onnx: scores of 4 excerpts are the .* nats in float32", lines[0])
        assert lines[1] == "in int8: 19 of the front-end's 19 linear layers"
        assert re.fullmatch(r"size: \S+ MB in float32, \S+ MB in int8", lines[2])
        assert lines[3].startswith("scores of 32 trials move by ")
        assert lines[4:] == [
            f"EER: {100 * about['float32']['eer']:.2f} % in float32, {100 * about['eer']:.2f} % in int8"
        ]

    def test_front_end_alone_and_safe_on_every_processor(self, written):
        """19 layers, a scale for each output, weights of 7 bits; what is behind the front-end is left as it was."""
        model = onnx_package.load(written[0])
        tensors = {t.name: onnx_package.numpy_helper.to_array(t) for t in model.graph.initializer}
        products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
        assert len(products) == 19
        shapes = Counter(tensors[node.input[1]].shape for node in products)
        assert shapes == {(8, 16): 1, (16, 16): 12, (16, 24): 3, (24, 16): 3}
        for node in products:
            weights = tensors[node.input[1]]
            assert weights.dtype == np.int8 and 50 < np.abs(weights.astype(int)).max() <= 64
        scales = {name: t.shape for name, t in tensors.items() if name.endswith("_scale")}
        assert len(scales) == 19 and {*scales.values()} == {(16,), (24,)}
        assert not [node.name for node in model.graph.node if node.op_type == "ConvInteger"]

    def test_one_excerpt_at_a_time(self, written, waveforms):
        """In a batch the scale of what comes in would be shared, and a score would depend on its neighbours."""
        (given,) = onnxruntime.InferenceSession(written[0]).get_inputs()
        assert given.shape == [1, CROP]
        with pytest.raises(Exception, match="invalid dimensions"):
            onnx(written[0])(waveforms[:2])

    def test_leaves_one_file_without_paths(self, written):
        assert [*written[0].parent.iterdir()] == [written[0]]
        assert str(REPOSITORY).encode() not in written[0].read_bytes()

    @pytest.mark.parametrize("labels", ["one class", "none"])
    def test_without_both_classes_there_is_no_eer(self, labels, light, trial_list, tmp_path):
        trials = read_trials(trial_list)
        trials = trials[trials["label"] == "spoof"] if labels == "one class" else trials.assign(label="-")
        trials.head(5).to_csv(tmp_path / "list.tsv", sep="\t", index=False)
        about = export(light, tmp_path / "list.tsv", tmp_path / "model.onnx", int8=True, n_excerpts=2)
        assert about["eer"] is about["float32"]["eer"] is None and about == said(tmp_path / "model.onnx")
        assert about["difference"]["largest"] > 0 and about["checked_on"]["n_trials"] == 5
        last = render(tmp_path / "model.onnx", about).splitlines()[-1]
        assert last == "EER: none, for the list does not hold both classes"

    def test_not_finite(self, light, trial_list, tmp_path, monkeypatch):
        """Nothing is left, not even what lies there in the meantime."""
        read_back = module._Onnx.open

        def opened(path, threads):
            run, calls = read_back(path, threads), count()
            return lambda batch: run(batch) * (torch.nan if "float32" not in path.name and next(calls) == 2 else 1)

        monkeypatch.setattr(module._Onnx, "open", staticmethod(opened))
        trials = read_trials(trial_list).head(4)
        trials.to_csv(tmp_path / "list.tsv", sep="\t", index=False)
        # The float32 file is read back first, in batches of 1, 3 and 4
        spoiled = trials["trial_id"].iloc[2]
        monkeypatch.setattr(module, "_differences", lambda *_: torch.zeros(1, 4))
        with pytest.raises(ConfigError, match=f"trial {spoiled}: its score in int8 is not finite; export it without"):
            export(light, tmp_path / "list.tsv", tmp_path / "out" / "model.onnx", int8=True, n_excerpts=4)
        assert not [*(tmp_path / "out").iterdir()]

    def test_a_front_end_without_linear_layers(self, mean_pool, trial_list, tmp_path):
        with pytest.raises(
            ConfigError, match=r"its front-end \(spectral\) has no linear layers for int8; leave --int8"
        ):
            export(mean_pool, trial_list, tmp_path / "model.onnx", int8=True)
        assert not [*tmp_path.iterdir()]

    @pytest.mark.parametrize(("name", "with_frontend"), [("model.pt2", True), ("model.onnx", False)])
    def test_front_ends_in_onnx_alone(self, name, with_frontend, light, trial_list, tmp_path):
        with pytest.raises(ConfigError, match=rf"{name}: int8 is for front-ends in ONNX; name an \.onnx file, without"):
            export(light, trial_list, tmp_path / name, with_frontend=with_frontend, int8=True)

    @pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
    def test_without_the_extra(self, name, light, trial_list, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match=r"^\S*model\.onnx: .*pip install 'spaarsist\[onnx\]'$"):
            export(light, trial_list, tmp_path / "model.onnx", int8=True)
        assert not [*tmp_path.iterdir()]


class TestNotKept:
    """The original's cheapest kind, and files that score otherwise."""

    @pytest.fixture
    def spoil(self, monkeypatch):
        """Let what is read back differ: `change(batch, scores, number of the reading)` gives other scores."""

        def spoil(change):
            readings = []
            read_back = module._ExportedProgram.open

            def opened(self, path, threads):
                readings.append(path)
                run, number = read_back(self, path, threads), len(readings)
                return lambda batch: change(batch, run(batch), number)

            monkeypatch.setattr(module._ExportedProgram, "open", opened)
            return readings

        return spoil

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda batch, scores, number: scores + 3e-4, "3.0e-04 nats apart at the median"),
            (lambda batch, scores, number: -scores, "nats apart"),
            (lambda batch, scores, number: scores * torch.nan, "nan nats apart"),
            (lambda batch, scores, number: scores + 0.2 * (scores == scores.max()) * (len(batch) == 8), "for trial"),
            (lambda batch, scores, number: scores + (len(batch) == 1), "nats apart"),
            (lambda batch, scores, number: scores + (len(batch) == 3), "nats apart"),
            (lambda batch, scores, number: scores + (number == 2), "1.0e\\+00 nats apart"),
        ],
        ids=["all", "sign", "nan", "one-trial", "alone", "by-threes", "the-file-that-stays"],
    )
    def test_scores_differ(self, spoil, change, message, mean_pool, trial_list, tmp_path):
        spoil(change)
        output = tmp_path / "model.pt2"
        output.write_text("an older file")
        with pytest.raises(ConfigError, match=rf"model\.pt2: not kept, for its scores are not those .*{message}"):
            export(mean_pool, trial_list, output, n_excerpts=8)
        assert [*tmp_path.iterdir()] == [output] and output.read_text() == "an older file"

    def test_the_trial_is_named(self, spoil, mean_pool, trial_list, tmp_path):
        worst = []

        def change(batch, scores, number):
            if len(batch) == 8:
                worst.append(scores.argmax().item())
            return scores + 0.2 * (scores == scores.max()) * (len(batch) == 8)

        spoil(change)
        trials = read_trials(trial_list)
        alternating = [t for pair in zip(*(trials[trials["label"] == label]["trial_id"] for label in
                       trials["label"].unique()), strict=False) for t in pair]  # fmt: skip
        with pytest.raises(ConfigError) as error:
            export(mean_pool, trial_list, tmp_path / "model.pt2", n_excerpts=8)
        assert f"2.0e-01 for trial {alternating[worst[0]]};" in str(error.value)

    def test_rounding_passes(self, spoil, mean_pool, trial_list, tmp_path):
        """What whole detectors were seen to do: 1e-5 everywhere, and a node that changes places in one excerpt."""
        readings = spoil(
            lambda batch, scores, number: scores + 1e-5 + 4e-3 * (scores == scores.max()) * (len(batch) == 8)
        )
        about = export(mean_pool, trial_list, tmp_path / "model.pt2", n_excerpts=8)
        assert about["difference"]["largest"] == pytest.approx(4e-3, rel=0.1)
        assert len(readings) == 2

    def test_from_frames_no_node_changes_places(self, spoil, mean_pool, trial_list, tmp_path):
        spoil(lambda batch, scores, number: scores + 3e-5)
        with pytest.raises(ConfigError, match=r"3\.0e-05 nats apart at the median"):
            export(mean_pool, trial_list, tmp_path / "model.pt2", with_frontend=False, n_excerpts=8)


class TestBadInput:
    @pytest.mark.parametrize("name", ["model.pt", "model", "model.ONNX", "model.onnx.gz"])
    def test_ending(self, name, mean_pool, trial_list, tmp_path):
        with pytest.raises(ConfigError, match=r"the ending says the format: \.onnx or \.pt2"):
            export(mean_pool, trial_list, tmp_path / name)
        assert not [*tmp_path.iterdir()]

    def test_too_few_trials(self, mean_pool, trial_list, tmp_path):
        with pytest.raises(ConfigError, match=r"eval\.tsv: 32 trials, fewer than the 33 to check the file on"):
            export(mean_pool, trial_list, tmp_path / "model.pt2", n_excerpts=33)

    def test_one_class(self, mean_pool, trial_list, tmp_path):
        trials = read_trials(trial_list)
        trials[trials["label"] == "spoof"].to_csv(tmp_path / "spoof.tsv", sep="\t", index=False)
        export(mean_pool, tmp_path / "spoof.tsv", tmp_path / "model.pt2", n_excerpts=4)
        first = trials[trials["label"] == "spoof"]["trial_id"].head(4).tolist()
        assert said(tmp_path / "model.pt2")["checked_on"]["trial_ids"] == first

    def test_unreadable(self, mean_pool, trial_list, tmp_path):
        with pytest.raises(ConfigError, match=r"not a checkpoint: no model\.json in it"):
            export(tmp_path, trial_list, tmp_path / "model.pt2")
        damaged = tmp_path / "damaged"
        shutil.copytree(mean_pool, damaged)
        (damaged / "model.safetensors").write_bytes(b"\0" * 100)
        with pytest.raises(ConfigError, match="not readable as safetensors"):
            export(damaged, trial_list, tmp_path / "model.pt2")
        broken = misplace(trial_list, tmp_path / "gone.flac", tmp_path / "list.tsv")
        with pytest.raises(ConfigError, match=r"gone\.flac: no such file"):
            export(mean_pool, broken, tmp_path / "model.pt2")
        assert not [*tmp_path.glob("*.pt2")]

    def test_no_such_variant(self, checkpoint, trial_list, tmp_path):
        arguments = ["--checkpoint", checkpoint, "--trial-list", trial_list, "--output", tmp_path / "a.onnx"]
        for variant in ("05-Max", ""):
            with pytest.raises(ConfigError, match="names no variant"):
                CliRunner().invoke(app, ["export", *map(str, arguments), "--variant", variant], catch_exceptions=False)

    def test_too_large_for_one_onnx_file(self, mean_pool, trial_list, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "ONNX_LIMIT", 1000)
        with pytest.raises(ConfigError, match=r"GB of weights do not go into one ONNX file; write a \.pt2"):
            export(mean_pool, trial_list, tmp_path / "model.onnx")
        assert not [*tmp_path.iterdir()]

    @pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
    def test_without_the_extra(self, name, mean_pool, trial_list, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match=r"^\S*model\.onnx: .*pip install 'spaarsist\[onnx\]'$"):
            export(mean_pool, trial_list, tmp_path / "model.onnx", n_excerpts=4)
        assert not [*tmp_path.iterdir()]

    def test_pytorch_s_own_format_needs_no_extra(self, mean_pool, trial_list, tmp_path, monkeypatch):
        for name in ("onnx", "onnxruntime", "onnxscript"):
            monkeypatch.setitem(sys.modules, name, None)
        export(mean_pool, trial_list, tmp_path / "model.pt2", n_excerpts=4)

    def test_what_onnx_lacks(self, trial_list, tmp_path):
        """SLS pools to a fixed number of segments, for which ONNX has no operator; PyTorch's own format takes it."""
        checkpoint = random_detector(tmp_path / "SLS", BackendConfig("SLS", 16))
        with pytest.raises(ConfigError, match=r"ONNX cannot hold this detector; write a \.pt2 .*adaptive_max_pool2d"):
            export(checkpoint, trial_list, tmp_path / "model.onnx", n_excerpts=4)
        export(checkpoint, trial_list, tmp_path / "model.pt2", n_excerpts=4)
        assert not [*tmp_path.glob("*.onnx")]


def test_session_of_a_module_in_memory():
    """Traced in batches of two, whatever it is shown."""
    layer = nn.Sequential(nn.Linear(5, 3), nn.ReLU()).eval()
    session = onnx_session(layer, torch.randn(1, 4, 5), threads=1)
    for size in (1, 3):
        frames = torch.randn(size, 4, 5)
        (got,) = session.run(None, {"frames": frames.numpy()})
        np.testing.assert_allclose(got, layer(frames).detach(), rtol=1e-5, atol=1e-6)


def test_quiet(mean_pool, trial_list, tmp_path, recwarn, capfd):
    """The exporters' chatter is held back, and nobody else's afterwards."""
    export(mean_pool, trial_list, tmp_path / "model.onnx", n_excerpts=4)
    export(mean_pool, trial_list, tmp_path / "model.pt2", n_excerpts=4)
    assert not [str(w.message) for w in recwarn if w.category is not DeprecationWarning]
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET
