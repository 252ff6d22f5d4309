import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torchaudio.models.wav2vec2.utils import import_huggingface_model
from transformers import AutoModel, HubertConfig, Wav2Vec2Config, WavLMConfig

from spaarsist.config import BackendConfig, FrontendConfig
from spaarsist.models.detector import Detector
from spaarsist.models.frontend import SWITCHED_OFF, SelfSupervised, Spectral, build_frontend, normalise
from spaarsist.names import ConfigError

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random wav2vec2 of XLS-R's architecture, three layers, in the hub's file layout."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hub") / "tiny"
    AutoModel.from_config(Wav2Vec2Config(**SIZES)).save_pretrained(path)
    return path


@pytest.fixture
def waveforms():
    return torch.randn(2, 16_000, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def no_gradients():
    with torch.inference_mode():
        yield


class TestTrainingAids:
    def gradients(self, folder, waveforms, precision="float32", **aids):
        frontend = build_frontend(FrontendConfig(str(folder), precision=precision)).train()
        frontend.prepare_training(**{"gradient_checkpointing": False, "compile": False} | aids)
        frames = frontend(waveforms[:, :4000], all_layers=True)
        frames.float().square().mean().backward()
        gradients = {name: p.grad for name, p in frontend.named_parameters() if p.grad is not None}
        return frames.detach(), gradients

    def test_checkpointing_changes_nothing(self, folder, waveforms, monkeypatch):
        expected = self.gradients(folder, waveforms)
        calls = []
        checkpoint = torch.utils.checkpoint.checkpoint
        monkeypatch.setattr(
            "transformers.modeling_utils.checkpoint", lambda *a, **k: calls.append(1) or checkpoint(*a, **k)
        )
        got = self.gradients(folder, waveforms, gradient_checkpointing=True)
        assert len(calls) == 7 + 3, "convolutions and layers"
        assert torch.equal(got[0], expected[0])
        assert dict.fromkeys(expected[1], True) == {n: torch.equal(g, expected[1][n]) for n, g in got[1].items()}

    def test_compile_changes_nothing_but_rounding(self, folder, waveforms, monkeypatch):
        """Traced in earnest, run by torch's own kernels: those that it would generate take minutes to build here."""
        expected = self.gradients(folder, waveforms)
        compiled = []
        compile = torch.nn.Module.compile
        monkeypatch.setattr(
            torch.nn.Module,
            "compile",
            lambda part: compiled.append(type(part).__name__) or compile(part, backend="eager"),
        )
        got = self.gradients(folder, waveforms, compile=True)
        assert len(compiled) == 1 + 2 * 3
        torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-6)

    @torch.inference_mode()
    def test_bfloat16_leaves_the_waveform_alone(self, folder, waveforms):
        """The first convolution is float32's, value for value; bfloat16 begins behind it."""
        outputs = {}
        for precision in ("float32", "bfloat16"):
            frontend = build_frontend(FrontendConfig(str(folder), precision=precision)).eval()
            seen = outputs[precision] = []
            for layer in frontend.model.feature_extractor.conv_layers[:2]:
                layer.conv.register_forward_hook(lambda _module, _args, output, seen=seen: seen.append(output))
            frontend(waveforms)
        (exact, _), (first, second) = outputs["float32"], outputs["bfloat16"]
        assert first.dtype == torch.float32 and torch.equal(first, exact)
        assert second.dtype == torch.bfloat16

    def test_weights_are_float32_whatever_the_file_holds(self, folder, tmp_path):
        AutoModel.from_pretrained(folder).half().save_pretrained(tmp_path)
        loaded = build_frontend(FrontendConfig(str(tmp_path)))
        again = SelfSupervised(FrontendConfig("gone", "0" * 40), loaded.architecture)
        assert {p.dtype for model in (loaded, again) for p in model.parameters()} == {torch.float32}

    def test_bfloat16_is_the_frontend_s_alone(self, folder, waveforms):
        expected = self.gradients(folder, waveforms)[0]
        frames, gradients = self.gradients(folder, waveforms, precision="bfloat16")
        assert frames.dtype == torch.bfloat16 and {g.dtype for g in gradients.values()} == {torch.float32}
        difference = (frames.float() - expected).abs().max() / expected.abs().max()
        assert 1e-4 < difference < 0.1
        detector = Detector(FrontendConfig(str(folder), precision="bfloat16"), BackendConfig(embedding_dim=16)).eval()
        with torch.inference_mode():
            scores = detector.scores(waveforms.repeat(4, 1)[:, :8000])
        assert detector.frames(waveforms).dtype == scores.dtype == torch.float32

    @pytest.mark.parametrize(
        ("precision", "aids"),
        [("bfloat16", {}), ("float32", {"compile": True}), ("float32", {"gradient_checkpointing": True})],
    )
    def test_the_spectral_one_takes_none(self, precision, aids):
        frontend = Spectral(FrontendConfig(precision=precision))
        with pytest.raises(ConfigError, match="are for transformer front-ends"):
            frontend.prepare_training(**{"gradient_checkpointing": False, "compile": False} | aids)


@pytest.mark.usefixtures("no_gradients")
class TestSelfSupervised:
    def test_equals_torchaudio(self, folder, waveforms):
        """Frames are torchaudio's `extract_features`; after the final layer norm they are its `forward`."""
        ours = build_frontend(FrontendConfig(str(folder))).eval()
        theirs = import_huggingface_model(ours.model).eval()
        layers, _ = theirs.extract_features(normalise(waveforms, "utterance"))
        torch.testing.assert_close(ours(waveforms), layers[-1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours(waveforms, all_layers=True), torch.stack(layers, 1), rtol=1e-5, atol=1e-6)
        after = build_frontend(FrontendConfig(str(folder), final_layer_norm=True)).eval()
        torch.testing.assert_close(after(waveforms), theirs(normalise(waveforms, "utterance"))[0], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(after(waveforms), ours(waveforms), atol=0.1)
        norm = ours.model.encoder.layer_norm
        torch.testing.assert_close(norm(ours(waveforms)), after(waveforms), rtol=1e-5, atol=1e-5)

    def test_frames_do_not_depend_on_the_batch(self, folder, waveforms):
        """Alone or beside an utterance that is 20 times louder; the released batch-wide way fails this."""
        louder = torch.stack([waveforms[0], 20 * waveforms[1]])
        frontend = build_frontend(FrontendConfig(str(folder))).eval()
        torch.testing.assert_close(frontend(louder)[0], frontend(waveforms[:1])[0], rtol=1e-4, atol=1e-5)
        released = build_frontend(FrontendConfig(str(folder), normalise="batch")).eval()
        difference = (released(louder)[0] - released(waveforms[:1])[0]).abs().mean()
        assert difference > 0.1 * released(waveforms[:1]).abs().mean()

    def test_training_mode_changes_nothing(self, folder, waveforms):
        """Layerdrop, dropout and SpecAugment are off: training and evaluation mode give the same frames, twice."""
        frontend = build_frontend(FrontendConfig(str(folder)))
        expected = frontend.eval()(waveforms)
        for _ in range(2):
            assert torch.equal(frontend.train()(waveforms), expected)
        assert all(getattr(frontend.model.config, name, 0) == 0 for name in SWITCHED_OFF)
        short = frontend.train()(waveforms[:, :1000])  # SpecAugment would raise on so short a clip
        assert short.shape == (2, 2, 32)

    @pytest.mark.parametrize(("n_samples", "n_frames"), [(64_600, 201), (64_000, 199), (16_000, 49), (400, 1)])
    def test_frame_counts(self, folder, n_samples, n_frames):
        assert build_frontend(FrontendConfig(str(folder)))(torch.zeros(1, n_samples)).shape == (1, n_frames, 32)

    @pytest.mark.parametrize("config", [WavLMConfig, HubertConfig])
    def test_its_kin(self, config, tmp_path, waveforms):
        AutoModel.from_config(config(**SIZES)).save_pretrained(tmp_path)
        frontend = build_frontend(FrontendConfig(str(tmp_path))).eval()
        assert frontend(waveforms).shape == (2, 49, 32)
        assert frontend(waveforms, all_layers=True).shape == (2, 3, 49, 32)

    def test_rebuilt_from_its_architecture_alone(self, folder, waveforms):
        original = build_frontend(FrontendConfig(str(folder))).eval()
        again = SelfSupervised(FrontendConfig("gone/away", "0" * 40), original.architecture).eval()
        again.load_state_dict(original.state_dict(), strict=True)
        assert torch.equal(again(waveforms), original(waveforms))

    def test_too_short(self, folder):
        with pytest.raises(ValueError, match="399 samples"):
            build_frontend(FrontendConfig(str(folder)))(torch.zeros(1, 399))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FrontendConfig("facebook/wav2vec2-xls-r-300m"), "needs frontend.revision"),
        (FrontendConfig("facebook/wav2vec2-xls-r-300m", "main"), "40 hex digits"),
    ],
)
def test_a_hub_id_needs_a_pinned_revision(settings, message):
    with pytest.raises(ConfigError, match=message):
        build_frontend(settings)


def with_config(folder, tmp_path, **changes):
    """A copy of a model whose configuration says something else."""
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return tmp_path / "copy"


def with_weights(folder, tmp_path, change):
    """A copy of a model with other weights."""
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return tmp_path / "copy"


def refused(model, message, **settings):
    """The one line, on paper and on the screen, with which a front-end is refused."""
    with pytest.raises(ConfigError, match=message) as error:
        build_frontend(FrontendConfig(str(model), **settings))
    assert "\n" not in str(error.value) and str(error.value).startswith(f"frontend.model {str(model)!r}")


class TestWeightsThatDoNotFit:
    """transformers only warns, and would train from random layers, or leave trained ones out."""

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"num_hidden_layers": 2}, r"without a place in it: encoder\.layers\.2\.\S+, \S+, \S+ and 13 more\); take"),
            ({"num_hidden_layers": 4}, r"\(missing: encoder\.layers\.3\.\S+, \S+, \S+ and 13 more\)"),
            (
                {"feat_extract_norm": "group", "conv_bias": False},
                r"place in it: feature_extractor\.conv_",
            ),
            ({"add_adapter": True}, r"missing: adapter\.layers"),
            ({"hidden_size": 16}, "cannot be loaded"),
            ({"num_attention_heads": 3}, "cannot be loaded .*divisible by num_heads"),
            ({"num_attention_heads": 0}, "cannot be loaded .*ZeroDivisionError"),
            ({"hidden_size": "large"}, "no usable configuration .*hidden_size"),
            ({"model_type": "bert"}, "a model of type bert; a wav2vec2, WavLM or HuBERT is needed"),
            ({"model_type": "none"}, "no usable configuration"),
        ],
    )
    def test_by_another_configuration(self, folder, tmp_path, changes, message, capfd):
        refused(with_config(folder, tmp_path, **changes), message)
        assert "Traceback" not in capfd.readouterr().err

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", "7", '"wav2vec2"', "\0"])
    def test_by_a_damaged_configuration(self, folder, tmp_path, content):
        shutil.copytree(folder, tmp_path / "copy")
        (tmp_path / "copy" / "config.json").write_text(content)
        refused(tmp_path / "copy", "no usable configuration")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda w: {k: v for k, v in w.items() if "layers.2." not in k}, r"missing: encoder\.layers\.2"),
            (lambda w: {f"module.{k}": v for k, v in w.items()}, r"missing: .*without a place in it: module\."),
            (lambda w: w | {"adapter.weight": torch.zeros(1)}, r"without a place in it: adapter\.weight"),
            (lambda w: w | {"encoder.layers.0.more": torch.zeros(1)}, "without a place in it"),
            (lambda w: w | {"encoder.layer_norm.bias": torch.full((32,), torch.nan)},
             r"not finite numbers: encoder\.layer_norm\.bias; fetch"),
            (lambda w: w | {"encoder.layer_norm.bias": torch.zeros(31)}, "cannot be loaded"),
        ],
    )  # fmt: skip
    def test_by_other_tensors(self, folder, tmp_path, change, message):
        refused(with_weights(folder, tmp_path, change), message)

    @pytest.mark.parametrize("content", [b"", b"{", bytes(1000)])
    def test_by_damaged_weights(self, folder, tmp_path, content):
        shutil.copytree(folder, tmp_path / "copy")
        (tmp_path / "copy" / "model.safetensors").write_bytes(content)
        refused(tmp_path / "copy", "weights cannot be loaded")

    @pytest.mark.parametrize(
        "kind", ["ForPreTraining", "ForCTC", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector"]
    )
    def test_heads_and_quantisers_are_left_aside(self, kind, tmp_path, waveforms, no_gradients):
        torch.manual_seed(0)
        config = Wav2Vec2Config(**SIZES, use_weighted_layer_sum=True)
        whole = getattr(transformers, f"Wav2Vec2{kind}")(config).eval()
        whole.save_pretrained(tmp_path)
        ours = build_frontend(FrontendConfig(str(tmp_path), final_layer_norm=True, normalise="none")).eval()
        assert torch.equal(ours(waveforms), whole.wav2vec2(waveforms).last_hidden_state)


class TestNoModel:
    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path, "no usable configuration")

    def test_a_file_of_fairseq(self, tmp_path):
        """By itself, and in a folder; beside what transformers reads it does not matter."""
        torch.save({"args": None, "cfg": {}, "model": {}}, tmp_path / "xlsr2_300m.pt")
        for model in (tmp_path, tmp_path / "xlsr2_300m.pt"):
            refused(model, r"xlsr2_300m\.pt is a checkpoint in fairseq's form; needed is a folder .*xls-r-300m")
            refused(model, "fairseq", revision="0" * 40)
        AutoModel.from_config(Wav2Vec2Config(**SIZES)).save_pretrained(tmp_path)
        build_frontend(FrontendConfig(str(tmp_path)))

    def test_another_file_or_nothing(self, folder, tmp_path):
        refused(folder / "model.safetensors", "is a file; needed is a folder in the form of transformers")
        for gone in (tmp_path / "gone", "./gone", "~/models/xlsr", "a/b/c"):
            refused(gone, "no such folder; needed is a folder")


def test_normalisation_by_hand():
    x = torch.tensor([[1.0, 3.0], [10.0, 30.0]])
    torch.testing.assert_close(normalise(x, "utterance"), torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]))
    torch.testing.assert_close(normalise(x, "batch"), (x - 11) / x.var(correction=0).sqrt())
    assert normalise(x, "none") is x


class TestSpectral:
    frontend = Spectral(FrontendConfig()).eval()

    @torch.inference_mode()
    def test_shapes(self, waveforms):
        assert self.frontend(waveforms).shape == (2, 50, self.frontend.feature_dim)
        assert self.frontend(waveforms, all_layers=True).shape == (2, self.frontend.n_layers, 50, 120)
        assert self.frontend(torch.zeros(1, 400)).isfinite().all()

    @torch.inference_mode()
    def test_frames_do_not_depend_on_the_batch_or_the_level(self, waveforms):
        louder = torch.stack([waveforms[0], 20 * waveforms[1]])
        torch.testing.assert_close(self.frontend(louder), self.frontend(waveforms), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(self.frontend(waveforms[:1])[0], self.frontend(waveforms)[0])

    @torch.inference_mode()
    def test_what_the_views_see(self):
        """A steady tone has less flux than noise; a tone between others shows in its own band's level."""
        time = torch.arange(16_000) / 16_000
        tone, noise = torch.sin(2 * torch.pi * 1000 * time), torch.randn(16_000)
        level, flux, _contrast = self.frontend(torch.stack([tone, noise]))[:, 5:-5].unflatten(2, (3, 40)).unbind(2)
        assert (flux[0].mean() < flux[1].mean() - 0.5).item()
        mel = 2595 * torch.log10(torch.tensor(1 + 1000 / 700)) / (2595 * torch.log10(torch.tensor(1 + 8000 / 700)))
        assert abs(level[0].mean(0).argmax().item() - (mel.item() * 41 - 1)) <= 1

    def test_the_bank_learns_only_when_allowed(self, waveforms):
        frontend = Spectral(FrontendConfig())
        assert [name for name, _ in frontend.named_parameters()] == ["bank"]
        frontend(waveforms).square().mean().backward()
        assert frontend.bank.grad.abs().sum() > 0
