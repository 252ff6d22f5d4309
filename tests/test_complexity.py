"""Counts against the figures measured before (fvcore, one multiply-add = one MAC) and against hand computation."""

import pandas as pd
import pytest
import torch

from spaarsist.audit.complexity import (
    CONVOLUTIONS,
    Size,
    count,
    count_by,
    frontend_macs,
    ship,
    size_of,
    write_complexity,
)
from spaarsist.config import BackendConfig
from spaarsist.models.backend import AASIST
from spaarsist.names import ConfigError, Variant


@pytest.mark.parametrize(
    ("n_frames", "label", "k_infer", "mega_macs"),
    [(201, "Base", 0.5, 713.0), (200, "Base", 0.5, 702.7), (201, "MagMean", 0.1, 697.8)],
)
def test_macs_of_the_papers_size(n_frames, label, k_infer, mega_macs):
    n_params, analysis = count(AASIST().export(Variant.from_label(k_infer, label)), torch.zeros(1, n_frames, 1024))
    assert analysis.total() / 1e6 == pytest.approx(mega_macs, abs=0.05)
    assert n_params == {"Base": 611_784, "MagMean": 586_434}[label]
    # The residual encoder's and the attention's convolutions: what the sparsification leaves alone
    convolutions = analysis.by_operator()["conv"]
    assert convolutions / analysis.total() == pytest.approx(0.90, abs=0.02)


def test_a_layer_by_hand():
    """201 frames through Linear 1024 -> 128 are 201 * 1024 * 128 MACs."""
    _, analysis = count(AASIST(), torch.zeros(1, 201, 1024))
    assert analysis.by_module()["projection"] == 201 * 1024 * 128
    assert "aten::selu" in analysis.unsupported_ops()


@pytest.mark.parametrize(("width", "n_layers", "n_frames"), [(64, 3, 11), (48, 2, 20)])
def test_macs_of_the_front_end(width, n_layers, n_frames):
    """Those that fvcore counts of transformers' own, but for norms and the frame that the positions add and drop."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    class Frames(torch.nn.Module):
        def __init__(self):
            super().__init__()
            shape = {"hidden_size": width, "num_hidden_layers": n_layers, "intermediate_size": 4 * width}
            config = Wav2Vec2Config(num_attention_heads=4, attn_implementation="eager", **shape)
            self.model = Wav2Vec2Model(config)

        def forward(self, waveforms):
            return self.model(waveforms).last_hidden_state

    n_samples = n_frames
    for kernel, stride in reversed(CONVOLUTIONS):
        n_samples = (n_samples - 1) * stride + kernel
    by_operator = count(Frames(), torch.zeros(1, n_samples))[1].by_operator()
    counted = sum(by_operator[name] for name in ("conv", "linear", "matmul"))
    assert frontend_macs(Size(width, n_layers, 16, n_frames)) == counted - width * (width // 16) * 128


def test_front_end_of_the_paper_and_one_that_is_no_transformer():
    """XLS-R 300M: 72.5 G measured by fvcore on 64,600 samples, which leaves the fused attention's 2.0 G out."""
    assert frontend_macs(Size()) / 1e9 == pytest.approx(72.5 + 2.0, abs=0.3)
    assert frontend_macs(Size(n_layers=1)) is None


def test_files(tmp_path, checkpoint):
    systems = ["AST-05-05", "AST-03-01-Mag", "AST-01-01-Mag+stack1", "mine"]
    backends = {"mine": BackendConfig("MHFA", options={"n_heads": 2, "compression_dim": 4})}
    size = size_of(checkpoint)
    assert size == Size(feature_dim=120, n_layers=1, embedding_dim=16, n_frames=25)
    write_complexity(tmp_path / "a.tsv", tmp_path / "b.tsv", systems, size, backends)
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert table["system"].tolist() == systems
    # Neither k_train nor a temperature changes what ships; MHFA: weights, two compressions, attention, output
    assert table["n_params"][1] == table["n_params"][2] < table["n_params"][0]
    assert table["n_params"][3] == 2 + 2 * (120 * 4 + 4) + (4 * 2 + 2) + (2 * 4 * 16 + 16)
    assert (table["n_macs_linear"][1:3].diff().dropna() == 0).all() and table["n_macs_linear"][0] > table[
        "n_macs_linear"
    ][1]
    assert (table["counter"] == "fvcore").all() and (table["n_frames"] == 25).all()
    assert "selu" in table["not_counted"][0].split()
    parts = pd.read_csv(tmp_path / "b.tsv", sep="\t")
    by_operator = parts[parts["kind"] == "operator"].groupby("system")["n_macs"].sum()
    assert by_operator.to_dict() == table.set_index("system")["n_macs"].to_dict()


def test_what_ships():
    size = Size(feature_dim=8, n_layers=3, embedding_dim=4, n_frames=12)
    backend, frames = ship("AST-03-01-Mag", size, {})
    assert frames.shape == (1, 12, 8) and backend.variant == Variant(0.1, "magnitude") and not backend.training
    backend, frames = ship("SLS", size, {"SLS": BackendConfig("SLS", 1024)})
    assert frames.shape == (1, 3, 12, 8) and backend(frames).shape == (1, 4)
    with pytest.raises(ConfigError, match="system MHFA: no such back-end; there are SLS"):
        ship("MHFA", size, {"SLS": BackendConfig("SLS")})


LIGHT = {"AASIST-L": BackendConfig("AASIST", options={"size": "L"})}


@pytest.mark.parametrize(
    ("system", "convention", "n_frames", "n_macs"),
    [
        ("AST-05-05", "linear_head", 437, 195_045_376),
        ("AST-03-01-Mag", "linear_head", 437, 154_706_432),
        ("AST-03-01-MagMean", "linear_head", 437, 153_209_344),
        ("AST-05-05", "linear", 437, 195_045_376 - 655_872),
        ("AST-05-05", "ptflops", 200, 706_397_848),
        ("AST-03-01-Mag", "ptflops", 200, 691_481_464),
        ("AST-03-01-MagMean", "ptflops", 200, 690_935_440),
        ("AST-03-01-Mag", "whole", 201, 698_369_532),
        ("AASIST-L", "whole", 201, 198_080_276),
        ("AASIST-L", "linear_head", 437, 89_988_616),
    ],
)
def test_conventions(system, convention, n_frames, n_macs):
    """The paper's two numbers, and the three that the authors' tool prints: 706.40, 691.48 and 690.94 M."""
    assert count_by(convention, system, n_frames, LIGHT) == n_macs


def test_linear_layers_of_aasist_by_hand():
    """437 frames: 145 temporal and 42 spectral nodes, of which 72 and 21 survive, then 36 and 10."""
    n_t, n_s = 437 // 3, 42
    total = 437 * 1024 * 128
    for n in (n_t, n_s):
        total += (n * n + 2 * n) * 64 * 64 + n * 64  # pairs, two projections, and the score of each node
    for dim, t, s in ((64, n_t // 2, n_s // 2), (32, n_t // 2 // 2, n_s // 2 // 2)):
        n = t + s
        layer = n * dim * dim + (n * n + 2 * n) * dim * 32  # by type; pairs, two projections
        layer += (n + 2) * dim * 32  # the stack node's scores, and its two projections
        total += 2 * (layer + (n * 32 if dim == 64 else 0))
    total += 160 * 1024
    assert count_by("linear", "AST-05-05", 437, {}) == total


def test_a_light_one_ships_under_its_own_name(tmp_path):
    backend, frames = ship("AASIST-L", Size(8, 3, 4, 12), LIGHT)
    assert frames.shape == (1, 12, 8) and backend.size == "L" and backend(frames).shape == (1, 4)


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"not a checkpoint: no model\.json in it"):
        size_of(tmp_path)
