"""What a GPU adds: autocast, the fused optimiser, pinned loading, its own resume. Skipped where there is none."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModel, Wav2Vec2Config

from spaarsist.config import FrontendConfig, Stage
from spaarsist.experiments import train as training
from spaarsist.experiments.features import make_part
from spaarsist.experiments.score import score
from spaarsist.experiments.train import train
from spaarsist.names import Variant

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICE = "cuda"


@pytest.fixture(scope="module")
def transformer(recipe, tmp_path_factory):
    """The short recipe with a random wav2vec2 in bfloat16 and one cached view."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    sizes |= {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    AutoModel.from_config(
        Wav2Vec2Config(**sizes, conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True)
    ).save_pretrained(folder)
    stages = (Stage(1, 8, 1e-3), Stage(1, 8, 1e-4, train_frontend=True))
    frontend = FrontendConfig(str(folder), precision="bfloat16")
    return replace(recipe, frontend=frontend, stages=stages, views=1)


def test_from_cache_to_scores(synthetic, transformer, tmp_path):
    """Cached frames, both stages, scoring; scores in float32 arithmetic on the CPU are close."""
    make_part(synthetic / "train.tsv", transformer, tmp_path / "f" / "view0", 0, 1, 0, device=DEVICE)
    make_part(synthetic / "dev.tsv", transformer, tmp_path / "f" / "excerpts", 0, 1, device=DEVICE)
    train(
        synthetic / "train.tsv", synthetic / "dev.tsv", tmp_path / "c", "AST-05", transformer, 1, device=DEVICE,
        workers=1, train_features=tmp_path / "f", dev_features=tmp_path / "f" / "excerpts",
    )  # fmt: skip
    record = json.loads((tmp_path / "c" / "model.json").read_text())
    assert record["device"] == DEVICE and record["gpu"] and not record["tf32"]
    history = pd.read_csv(tmp_path / "c" / "history.tsv", sep="\t")
    assert np.isfinite(history["train_loss"]).all() and (history["peak_memory_mb"] > 0).all()
    scores = []
    for device in (DEVICE, "cpu"):
        path = tmp_path / f"{device}.parquet"
        score(tmp_path / "c", synthetic / "eval.tsv", path, [Variant(0.5)], device=device)
        scores.append(pd.read_parquet(path)["05"])
    assert np.corrcoef(*scores)[0, 1] > 0.9


def test_told_to_stop_and_resumed(synthetic, transformer, tmp_path, monkeypatch):
    """The optimiser's state comes back to the GPU; the resumed run ends near an undisturbed one."""
    losses = []
    for name, stop_at in (("whole", 0), ("stopped", 3)):
        folder, calls = tmp_path / name, []

        def step(*arguments, calls=calls, stop_at=stop_at):
            calls.append(1)
            if len(calls) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return torch.nn.functional.nll_loss(torch.log_softmax(arguments[0], 1), arguments[1])

        monkeypatch.setattr(training.F, "cross_entropy", step)
        arguments = synthetic / "train.tsv", synthetic / "dev.tsv", folder, "AST-05", transformer, 1
        if stop_at:
            with pytest.raises(SystemExit):
                train(*arguments, device=DEVICE)
        train(*arguments, device=DEVICE)
        losses.append(pd.read_csv(folder / "history.tsv", sep="\t")["train_loss"])
    np.testing.assert_allclose(*losses, rtol=1e-2)
