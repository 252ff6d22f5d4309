"""Public checkpoints: scores are the public code's, from waveform to score; what is something else is refused so."""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchaudio.models.wav2vec2.utils import import_huggingface_model
from transformers import Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel
from typer.testing import CliRunner

from conftest import GOLDEN, write_trials
from spaarsist.__main__ import app
from spaarsist.artefacts import RECORD, read_scores
from spaarsist.audit.textbook import Textbook
from spaarsist.data.protocol import read_trials
from spaarsist.deployment.card import write_card
from spaarsist.deployment.detect import Listener
from spaarsist.deployment.export import export
from spaarsist.experiments.score import score
from spaarsist.models import public
from spaarsist.models.backend import AASIST
from spaarsist.models.detector import build_head, load_checkpoint
from spaarsist.models.public import adopt, read_state
from spaarsist.names import ConfigError, Variant

N = 64_600
VARIANTS = {"05": (0.5, "learned"), "01-Mag": (0.1, "magnitude"), "03": (0.3, "learned")}
WIDTH = 24
with safe_open(GOLDEN / "backend_small.safetensors", "pt") as file:
    GOLDEN_STATE = {k[6:]: file.get_tensor(k) for k in file.keys() if k.startswith("state/")}  # noqa: SIM118

FAIRSEQ = {
    "feature_projection.projection": "post_extract_proj",
    "feature_projection.layer_norm": "layer_norm",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original0": "encoder.pos_conv.0.weight_g",
    "encoder.pos_conv_embed.conv.parametrizations.weight.original1": "encoder.pos_conv.0.weight_v",
    "encoder.pos_conv_embed.conv": "encoder.pos_conv.0",
}


def fairseq_name(name):
    """A name of transformers as fairseq has it, by the table of transformers' conversion script read backwards."""
    for own, theirs in FAIRSEQ.items():
        if name.startswith(own):
            return theirs + name.removeprefix(own)
    if layer := re.fullmatch(r"feature_extractor\.conv_layers\.(\d+)\.(conv|layer_norm)\.(\w+)", name):
        return f"feature_extractor.conv_layers.{layer[1]}.{'0' if layer[2] == 'conv' else '2.1'}.{layer[3]}"
    if layer := re.fullmatch(r"(encoder\.layers\.\d+)\.(.+)", name):
        rest = layer[2].replace("attention.", "self_attn.").replace("feed_forward.intermediate_dense", "fc1")
        rest = rest.replace("feed_forward.output_dense", "fc2")
        return f"{layer[1]}.{'self_attn_' if rest.startswith('layer_norm') else ''}{rest}"
    return name


@pytest.fixture(scope="module")
def wav2vec2():
    """A small model of XLS-R's kind."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, feat_extract_norm="layer", conv_bias=True,
        do_stable_layer_norm=True, mask_time_prob=0.0,
    )  # fmt: skip
    model = Wav2Vec2Model(config).eval()
    for parameter in model.parameters():  # norms too, or nothing tells what lies before one from what lies behind
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def architecture(wav2vec2, tmp_path_factory):
    """A folder that says the architecture and has no weights."""
    folder = tmp_path_factory.mktemp("architecture")
    wav2vec2.config.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def two_outputs():
    """The golden AASIST with two outputs, (spoof, bona fide)."""
    torch.manual_seed(1)
    return GOLDEN_STATE | {"out_layer.weight": torch.randn(2, 160) / 10, "out_layer.bias": torch.randn(2)}


@pytest.fixture(scope="module")
def ssl_state(wav2vec2, two_outputs):
    """As SSL_Anti-spoofing saves it."""
    front = {f"ssl_model.model.{fairseq_name(name)}": tensor for name, tensor in wav2vec2.state_dict().items()}
    idle = {"mask_emb": torch.zeros(WIDTH), "quantizer.vars": torch.zeros(1, 4, 2), "final_proj.weight": torch.eye(2)}
    return front | {f"ssl_model.model.{name}": tensor for name, tensor in idle.items()} | two_outputs


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(2)
    head = build_head(16).eval()
    for norm in (head[1], head[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return head


@pytest.fixture(scope="module")
def released_state(wav2vec2, head):
    """As the authors' code saves it: torchaudio's model within its wrapper that normalises."""
    parts = {
        "extractor.model.model": import_huggingface_model(wav2vec2).state_dict(),
        "feature_processor": GOLDEN_STATE,
        "classifier": head.state_dict(),
    }
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A clip that is longer than an excerpt and one that is shorter: trial list, and what is in them."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    waves = [rng.normal(0, scale, n) for scale, n in ((0.05, 80_000), (0.2, 25_000))]
    for i, wave in enumerate(waves):
        soundfile.write(folder / f"{i}.flac", wave, 16_000)
    table = write_trials(folder / "list.tsv", ["a", "b"], ["bonafide", "spoof"])
    table["path"] = [f"{folder}/{i}.flac" for i in (0, 1)]
    table.to_csv(folder / "list.tsv", sep="\t", index=False)
    return folder / "list.tsv", [soundfile.read(folder / f"{i}.flac", dtype="float32")[0] for i in (0, 1)]


def saved(path, content):
    torch.save(content, path)
    return path


def scores(checkpoint, recordings, tmp_path):
    score(checkpoint, recordings[0], tmp_path / "scores.parquet", [*map(Variant.from_column, VARIANTS)], batch_size=2)
    return read_scores(tmp_path / "scores.parquet")


@torch.inference_mode()
def ssl_scores(wav2vec2, state, waves, k, scoring):
    """SSL_Anti-spoofing's steps: the first samples, repeated; features of the whole model; difference of logits."""
    batch = np.stack([np.tile(wave, N // len(wave) + 1)[:N] for wave in waves])
    logits = Textbook(state, k, scoring).eval()(wav2vec2(torch.from_numpy(batch)).last_hidden_state)
    return (logits[:, 1] - logits[:, 0]).numpy()


@torch.inference_mode()
def released_scores(wav2vec2, head, waves, k, scoring):
    """The authors' steps: the middle, zeros; normalised together; torchaudio's last layer; P(bona fide) comes first."""
    batch = torch.zeros(2, N)
    batch[0] = torch.from_numpy(waves[0][7700 : 7700 + N])
    batch[1, : len(waves[1])] = torch.from_numpy(waves[1])
    features = import_huggingface_model(wav2vec2).eval().extract_features(F.layer_norm(batch, batch.shape))[0][-1]
    p = F.log_softmax(head(Textbook(GOLDEN_STATE, k, scoring).eval()(features)).double(), dim=1)
    return (p[:, 0] - p[:, 1]).numpy()


FORMS = {
    "as it is": lambda state: state,
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "within": lambda state: {
        "args": argparse.Namespace(lr=1e-6),
        "eer": np.float64(0.1),
        "loss": np.float32(1),
        "model_state_dict": state,
    },
    "compiled, within": lambda state: {"state_dict": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
}


@pytest.mark.parametrize("form", FORMS)
def test_ssl_anti_spoofing(form, ssl_state, two_outputs, wav2vec2, architecture, recordings, tmp_path):
    said = "\n".join(adopt(saved(tmp_path / "m.pth", FORMS[form](ssl_state)), architecture, tmp_path / "out"))
    assert "SSL_Anti-spoofing" in said and f"{len(GOLDEN_STATE)} of an AASIST, 0 of a head" in said
    assert "mask_emb" in said and "output 1 is bona fide" in said and "not normalised" in said and "AST-05" in said
    assert "after the encoder's final" in said and "first 64,600 samples" in said and "repeated" in said
    about, found = scores(tmp_path / "out", recordings, tmp_path)
    assert about["crop"] == "start 64600 samples, short recordings repeated" and about["system"] == "AST-05"
    for column, how in VARIANTS.items():
        expected = ssl_scores(wav2vec2, two_outputs, recordings[1], *how)
        np.testing.assert_allclose(found[column], expected, atol=1e-5, err_msg=column)
    assert np.ptp(found.to_numpy(), axis=1).min() > 1e-3 and abs(np.diff(found["05"])) > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_released(form, released_state, head, wav2vec2, architecture, recordings, tmp_path):
    said = "\n".join(adopt(saved(tmp_path / "m.pt", FORMS[form](released_state)), architecture, tmp_path / "out"))
    assert "released SpAArSIST" in said and f"{len(head.state_dict())} of a head" in said and "AST-03" in said
    assert "output 0 is bona fide" in said and "over the batch: score with --batch-size 32" in said
    assert "before the encoder's final" in said and "middle 64,600 samples" in said and "zeros" in said
    about, found = scores(tmp_path / "out", recordings, tmp_path)
    assert about["crop"] == "centre 64600 samples"
    for column, how in VARIANTS.items():
        expected = released_scores(wav2vec2, head, recordings[1], *how)
        np.testing.assert_allclose(found[column], expected, atol=1e-5, err_msg=column)
    assert np.ptp(found.to_numpy(), axis=1).min() > 1e-3 and abs(np.diff(found["05"])) > 1e-3


def test_a_back_end_alone(two_outputs, wav2vec2, head, recordings, tmp_path):
    """Under either names; the front-end's weights are then --frontend's."""
    wav2vec2.save_pretrained(tmp_path / "front")
    file = tmp_path / "m.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in two_outputs.items()}, file)
    said = "\n".join(adopt(file, str(tmp_path / "front"), tmp_path / "out", k_train=0.3))
    assert "assumed: the front-end is" in said and said.endswith("AST-03")
    found = scores(tmp_path / "out", recordings, tmp_path)[1]
    for column, how in VARIANTS.items():
        np.testing.assert_allclose(found[column], ssl_scores(wav2vec2, two_outputs, recordings[1], *how), atol=1e-5)
    (tmp_path / "scores.parquet").unlink()
    state = {f"feature_processor.{name}": tensor for name, tensor in GOLDEN_STATE.items()}
    state |= {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    adopt(saved(tmp_path / "m.pt", state), str(tmp_path / "front"), tmp_path / "released")
    found = scores(tmp_path / "released", recordings, tmp_path)[1]
    for column, how in VARIANTS.items():
        np.testing.assert_allclose(found[column], released_scores(wav2vec2, head, recordings[1], *how), atol=1e-5)


def loaded(state, architecture, folder):
    folder.mkdir()
    adopt(saved(folder / "m.pt", state), architecture, folder / "out")
    return load_checkpoint(folder / "out")[0]


def renamed(state, pattern, replacement):
    return {re.sub(pattern, replacement, name): tensor for name, tensor in state.items()}


@torch.inference_mode()
def test_names_and_types_that_come_as_well(ssl_state, released_state, wav2vec2, two_outputs, architecture, tmp_path):
    """Front-ends as transformers and older torches name them, a norm taken out of the positions, half precision."""
    wave = torch.randn(2, 8000)
    expected = loaded(ssl_state, architecture, tmp_path / "a").scores(wave)
    own = {f"ssl_model.model.wav2vec2.{name}": tensor for name, tensor in wav2vec2.state_dict().items()}
    own |= two_outputs | {"ssl_model.model.project_q.weight": torch.eye(2)}
    torch.testing.assert_close(loaded(own, architecture, tmp_path / "b").scores(wave), expected)
    conv = wav2vec2.encoder.pos_conv_embed.conv
    plain = {name: tensor for name, tensor in ssl_state.items() if "pos_conv.0.weight" not in name}
    plain["ssl_model.model.encoder.pos_conv.0.weight"] = conv.weight.detach()
    torch.testing.assert_close(loaded(plain, architecture, tmp_path / "c").scores(wave), expected)
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in ssl_state.items()}
    detector = loaded(half, architecture, tmp_path / "d")
    assert {tensor.dtype for tensor in detector.state_dict().values()} == {torch.float32, torch.int64}
    torch.testing.assert_close(detector.scores(wave), expected, atol=0.05, rtol=0.05)
    expected = loaded(released_state, architecture, tmp_path / "e").scores(wave)
    older = renamed(released_state, r"parametrizations\.weight\.original0$", "weight_g")
    older = renamed(older, r"parametrizations\.weight\.original1$", "weight_v")
    assert older.keys() != released_state.keys()
    torch.testing.assert_close(loaded(older, architecture, tmp_path / "f").scores(wave), expected)


@torch.inference_mode()
def test_sizes_and_trainings_are_told_by_shapes_and_absence(ssl_state, released_state, architecture, tmp_path):
    torch.manual_seed(3)
    light = AASIST(WIDTH, 2, size="L").public_state()
    state = {name: tensor for name, tensor in ssl_state.items() if name.startswith("ssl_model.")} | light
    detector = loaded(state, architecture, tmp_path / "light")
    assert detector.backend.size == "L"
    record = json.loads((tmp_path / "light" / "out" / RECORD).read_text())
    assert record["system"] == "AASIST-L" and record["excerpt"]["crop"] == N and record["n_frames"] == 201
    magnitude = {name: tensor for name, tensor in released_state.items() if not re.search(r"pool_\w+\.proj", name)}
    detector = loaded(magnitude, architecture, tmp_path / "mag")
    assert detector.variant == Variant(0.3, "magnitude")
    assert json.loads((tmp_path / "mag" / "out" / RECORD).read_text())["system"] == "AST-03+Mag"
    wave = torch.randn(2, 8000)
    whole = loaded(released_state, architecture, tmp_path / "whole")
    torch.testing.assert_close(detector.scores(wave), whole.scores(wave, [detector.variant]))


def test_other_verbs_keep_to_the_excerpt(ssl_state, wav2vec2, two_outputs, architecture, recordings, tmp_path):
    adopt(saved(tmp_path / "m.pth", ssl_state), architecture, tmp_path / "out")
    export(tmp_path / "out", recordings[0], tmp_path / "m.pt2", Variant.from_column("01-Mag"), n_excerpts=2)
    program = torch.export.load(tmp_path / "m.pt2").module()
    batch = np.stack([np.tile(wave, N // len(wave) + 1)[:N] for wave in recordings[1]])
    expected = ssl_scores(wav2vec2, two_outputs, recordings[1], 0.1, "magnitude")
    np.testing.assert_allclose(program(torch.from_numpy(batch)).detach(), expected, atol=1e-4)
    listener = Listener(tmp_path / "out", Variant.from_column("01-Mag"))
    heard = [listener.listen(Path(path)).parts for path in read_trials(recordings[0])["path"]]
    np.testing.assert_allclose([part["score"].item() for part in heard], np.ravel(expected), atol=1e-5)
    assert all(part["start_s"].item() == 0 for part in heard)
    write_card(tmp_path / "out", tmp_path / "card")
    assert "start 64600 samples, short recordings repeated" in (tmp_path / "card" / "README.md").read_text()


# ---------------------------------------------------------------- what is something else


class Code:
    """What a pickle would run."""

    def __init__(self, writes):
        self.writes = writes

    def __reduce__(self):
        return (open, (self.writes, "w"))


@pytest.fixture
def refused(architecture, tmp_path):
    """The one line with which a file is refused; nothing is left."""

    def line(content, message, frontend=architecture, name="m.pt"):
        file = tmp_path / name
        file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
        with pytest.raises(ConfigError, match=message) as error:
            adopt(file, frontend, tmp_path / "out")
        assert "\n" not in str(error.value) and len(str(error.value)) < 600
        assert [path.name for path in tmp_path.iterdir()] == [name]
        return str(error.value)

    return line


def without(state, pattern):
    kept = {name: tensor for name, tensor in state.items() if not re.search(pattern, name)}
    assert len(kept) < len(state)
    return kept


def test_refuses_what_is_no_file_of_weights(refused, ssl_state, tmp_path):
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04" + bytes(99)):
        refused(content, r"m\.pt: not readable as weights that torch or safetensors saved; fetch it again")
    refused(
        {"model": Code(str(tmp_path / "ran"))},
        r"holds objects of \S+open beside weights, which only running its code would give",
    )
    refused(nn.Linear(2, 2), r"holds objects of \S+Linear beside weights")
    refused([torch.zeros(2)], "holds a list, not tensors by name")
    refused(
        {"epoch": 3, "optimizer": {"a": torch.zeros(2)}}, "no tensors at top level or under .* only epoch, optimizer"
    )
    refused({"model": ssl_state, "state_dict": ssl_state}, "has them under state_dict and model; save")
    program = torch.jit.script(nn.Linear(2, 2))
    refused(program.save_to_buffer(), "a TorchScript program, not weights")


def test_refuses_other_models(refused, ssl_state, two_outputs, wav2vec2, released_state):
    front = {name: tensor for name, tensor in ssl_state.items() if name.startswith("ssl_model.")}
    conformer = {f"conformer.encoder_blocks.{i}.ff1.fn.fn.net.0.weight": torch.zeros(2) for i in range(4)}
    beside = {"LL.weight": torch.zeros(2), "first_bn.weight": torch.zeros(1)}
    said = refused(front | conformer | beside, "no AASIST, which has GAT_layer_S")
    assert said.endswith("modules beside a front-end, with their tensors: conformer (4), LL (1), first_bn (1)")
    refused(front | {"fc1.weight": torch.zeros(2)}, r"no AASIST, .*: fc1 \(1\)$")
    other = {name.replace("feature_processor.", "x."): tensor for name, tensor in released_state.items()}
    refused(other | {"feature_processor.att_head.weight": torch.zeros(2)}, r"no AASIST, .*: att_head \(1\)")
    waveforms = without(two_outputs, r"^LL\.|^first_bn1|^attention")
    refused(waveforms, "an AASIST without LL, .* on waveforms or spectra")
    nested = {f"aasist.{name}": tensor for name, tensor in two_outputs.items()}
    refused(front | nested, r"an AASIST under aasist\.\*, which no known code has")
    mean = {name: tensor for name, tensor in released_state.items() if not name.startswith("feature_processor")}
    refused(mean, r"no AASIST, .*: extractor \(\d+\), classifier \(16\)$")
    bare = {name.removeprefix("ssl_model.model."): tensor for name, tensor in front.items()}
    refused({"args": None, "cfg": {}, "model": bare}, "a front-end alone in fairseq's form, without a countermeasure")
    refused({"model": {"mask_emb": torch.zeros(3)}}, "a front-end alone in fairseq's form")
    refused(front, "a front-end alone in fairseq's form")
    refused(wav2vec2.state_dict(), "a front-end alone, without a countermeasure")
    own = {f"backend.{name}": tensor for name, tensor in AASIST(WIDTH, 16).state_dict().items()}
    refused(own | {"frontend.x": torch.zeros(2)}, "weights as this package names them")
    refused(AASIST(WIDTH, 2).state_dict(), "weights as this package names them")


def test_refuses_aasists_that_compute_something_else(refused, ssl_state, two_outputs, released_state):
    more = {f"frame_gate.{i}.weight": torch.zeros(2) for i in range(5)}
    said = refused(ssl_state | more, f"5 of {len(ssl_state) + 5} names have no place there: ")
    assert said.endswith("frame_gate.0.weight, frame_gate.1.weight, frame_gate.2.weight and 2 more")
    refused(without(ssl_state, "first_bn1"), "no first_bn1, the norm behind the encoder")
    refused(without(ssl_state, r"encoder\.5\.0"), "its encoder has 5 residual blocks; an AASIST as it is here has 6")
    refused(ssl_state | {"encoder.0.0.bn1.weight": torch.zeros(1)}, r"unknown: encoder\.0\.0\.bn1\.weight")
    refused(without(ssl_state, "ST12.att_proj.weight"), r"missing: branches\.0\.second\.att_proj\.weight")
    wide = {"LL.weight": torch.zeros(256, WIDTH), "LL.bias": torch.zeros(256)}
    refused(ssl_state | wide, "an AASIST with 256 projected features and nodes of 64; those that are known have 128")
    refused(ssl_state | {"pos_S": torch.zeros(1, 42, 16)}, "nodes of 16; .* 64 or 24")
    refused(ssl_state | {"pos_S": torch.zeros(1, 23, 64)}, r"misshapen: pos_S is \(1, 23, 64\)")
    refused(without(ssl_state, "pos_S"), "pos_S")
    refused(ssl_state | {"out_layer.weight": torch.zeros(1, 160)}, "its out_layer has 1 outputs, not the two")
    refused(GOLDEN_STATE, r"its out_layer has 16 outputs.* the head that may follow \(classifier\.\*\) is not in it")
    refused(without(released_state, "^classifier"), r"no classifier\.\* in it: without that head there are no scores")
    refused(without(released_state, r"classifier\.4"), "the head is not that of .*4 missing: 4.weight")
    bad = two_outputs["master1"].clone()
    bad[..., 0] = torch.nan
    refused(ssl_state | {"master1": bad}, "not finite: master1")


def test_refuses_another_front_end(refused, ssl_state, wav2vec2, tmp_path_factory):
    def architecture(**changes):
        folder = tmp_path_factory.mktemp("other")
        config = json.loads(wav2vec2.config.to_json_string()) | changes
        (folder / "config.json").write_text(json.dumps(config))
        return str(folder)

    misfit = "the front-end does not fit the architecture of --frontend; name the model that it was tuned from"
    refused(ssl_state, f"{misfit}.*missing: encoder.layers.2", architecture(num_hidden_layers=3))
    refused(ssl_state, f"{misfit}.*16 without a place: encoder.layers.1", architecture(num_hidden_layers=1))
    refused(ssl_state, f"{misfit}.*of another shape: .*intermediate_dense", architecture(intermediate_size=48))
    refused(ssl_state, "takes 24 features of each frame, and --frontend gives 32", architecture(hidden_size=32))
    refused(ssl_state, "--frontend 'no/such' is no local folder, .* needs --revision: a full commit hash", "no/such")
    refused(ssl_state, "name a wav2vec2, WavLM or HuBERT|needs --revision", "spectral")
    refused(ssl_state | {"ssl_model.model.encoder.adapter.weight": torch.zeros(2)}, f"{misfit}.*1 without a place")
    name = "ssl_model.model.post_extract_proj.bias"
    refused(ssl_state | {name: torch.full((WIDTH,), torch.inf)}, f"{misfit}.*1 not finite: feature_projection")


def test_a_folder_with_something_in_it_stays(ssl_state, architecture, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    file = saved(tmp_path / "m.pt", ssl_state)
    with pytest.raises(ConfigError, match="has something in it, which stays as it is; name a new folder"):
        adopt(file, architecture, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes"]


def test_names_of_wavlm():
    """By the table of transformers' conversion script for it."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    model = WavLMModel(WavLMConfig(**sizes, **positions))
    special = {"rel_attn_embed": "relative_attention_bias", "gru_rel_pos_linear": "grep_linear"}
    for name in model.state_dict():
        theirs = fairseq_name(name.replace("feature_extractor.conv_layers.0.layer_norm", "feature_extractor.first"))
        theirs = theirs.replace("feature_extractor.first", "feature_extractor.conv_layers.0.2")
        for own, other in (special | {"gru_rel_pos_const": "grep_a"}).items():
            theirs = theirs.replace(own, other)
        assert public._frontend_name(theirs) == name


def test_the_command_line(ssl_state, architecture, tmp_path):
    file = saved(tmp_path / "m.pt", ssl_state)
    done = CliRunner().invoke(app, ["adopt", str(file), "--frontend", architecture, "--output", str(tmp_path / "out")])
    assert done.exit_code == 0 and f"{file}: recognised as of SSL_Anti-spoofing: " in done.stdout
    assert done.stdout.endswith(f"{tmp_path}/out: AST-05\n")


def test_what_is_no_tensor_is_told(ssl_state, tmp_path):
    state, where, idle = read_state(saved(tmp_path / "m.pt", {"epoch": 3, **ssl_state}))
    assert state.keys() == ssl_state.keys() and where == "" and idle == ["epoch"]
