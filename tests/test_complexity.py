"""Counts against the figures measured before (fvcore, one multiply-add = one MAC) and against hand computation."""

import pandas as pd
import pytest
import torch

from spaarsist.audit.complexity import Size, count, ship, size_of, write_complexity
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


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"no readable model\.json"):
        size_of(tmp_path)
