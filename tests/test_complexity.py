"""Counts against the figures measured before (fvcore, one multiply-add = one MAC) and against hand computation."""

import pandas as pd
import pytest

from spaarsist.config import ConfigError, Variant
from spaarsist.evaluation.complexity import Size, count, size_of, write_complexity
from spaarsist.models.backend import AASIST


@pytest.mark.parametrize(
    ("n_frames", "label", "k_infer", "mega_macs"),
    [(201, "Base", 0.5, 713.0), (200, "Base", 0.5, 702.7), (201, "MagMean", 0.1, 697.8)],
)
def test_macs_of_the_papers_size(n_frames, label, k_infer, mega_macs):
    n_params, analysis = count(AASIST().export(Variant.from_label(k_infer, label)), n_frames)
    assert analysis.total() / 1e6 == pytest.approx(mega_macs, abs=0.05)
    assert n_params == {"Base": 611_784, "MagMean": 586_434}[label]
    # The residual encoder's and the attention's convolutions: what the sparsification leaves alone
    convolutions = analysis.by_operator()["conv"]
    assert convolutions / analysis.total() == pytest.approx(0.90, abs=0.02)


def test_a_layer_by_hand():
    """201 frames through Linear 1024 -> 128 are 201 * 1024 * 128 MACs."""
    _, analysis = count(AASIST(), 201)
    assert analysis.by_module()["projection"] == 201 * 1024 * 128
    assert "aten::selu" in analysis.unsupported_ops()


def test_files(tmp_path, checkpoint):
    systems = [(0.5, Variant(0.5)), (0.3, Variant.from_label(0.1, "Mag"))]
    size = size_of(checkpoint)
    assert size == Size(feature_dim=120, embedding_dim=16, n_frames=25)
    write_complexity(tmp_path / "a.tsv", tmp_path / "b.tsv", systems, size)
    table = pd.read_csv(tmp_path / "a.tsv", sep="\t")
    assert table["system"].tolist() == ["AST-05-05", "AST-03-01-Mag"]
    assert (table["counter"] == "fvcore").all() and (table["n_frames"] == 25).all()
    assert "selu" in table["not_counted"][0].split()
    parts = pd.read_csv(tmp_path / "b.tsv", sep="\t")
    by_operator = parts[parts["kind"] == "operator"].groupby("system")["n_macs"].sum()
    assert by_operator.to_dict() == table.set_index("system")["n_macs"].to_dict()


def test_not_a_checkpoint(tmp_path):
    with pytest.raises(ConfigError, match=r"no readable model\.json"):
        size_of(tmp_path)
