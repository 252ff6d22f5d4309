"""What a run's trainings show: stages and random crops (F8), stack attention against a mean (C9)."""

import json

import pandas as pd
import pytest
import torch

from conftest import write_tsv
from spaarsist.audit import findings
from spaarsist.audit.facts import COLUMNS
from spaarsist.audit.findings import measure
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.names import ConfigError


def read(path):
    table = pd.read_csv(path, sep="\t")
    assert tuple(table) == COLUMNS
    return table.set_index("quantity")["value"]


def history(path, *rows):
    lines = [f"{stage}\t{epoch}\t0.5\t{eer}\t0.0001\t1.0\t100" for stage, epoch, eer in rows]
    path.write_text("\n".join(["stage\tepoch\ttrain_loss\tdev_eer\tlr\tseconds\tpeak_memory_mb", *lines]) + "\n")
    return path


def test_f8_with_training_runs(tmp_path, checkpoint, synthetic, monkeypatch):
    histories = [
        history(tmp_path / "worse.tsv", (1, 1, 0.3), (1, 2, 0.1), (2, 1, 0.2), (2, 2, 0.25)),
        history(tmp_path / "worse_too.tsv", (1, 1, 0.3), (2, 1, 0.31)),
        history(tmp_path / "better.tsv", (1, 1, 0.3), (2, 1, 0.2), (2, 2, 0.4)),
        history(tmp_path / "single.tsv", (1, 1, 0.3), (1, 2, 0.4)),
    ]
    dev_list = synthetic / "dev.tsv"
    cut, drawn = audio.crop_random, []
    monkeypatch.setattr(audio, "crop_random", lambda w, n, rng: drawn.append(cut(w, n, rng)) or drawn[-1])
    measure(tmp_path / "f.tsv", histories, checkpoint, dev_list)
    value = read(tmp_path / "f.tsv")
    assert (value["F8_runs"], value["F8_runs_with_a_worse_last_stage"]) == (3, 2)
    trials = read_trials(dev_list)  # so few that all are scored, as in training
    assert value["F8_dev_eer_centre"] == pytest.approx(json.loads((checkpoint / "model.json").read_text())["dev_eer"])
    excerpts = {d.tobytes() for d in drawn if len(d) == 8000}
    assert len(excerpts) == 5 * len(trials)
    low, high = value["F8_dev_eer_random_min"], value["F8_dev_eer_random_max"]
    assert 0 <= low <= high <= 1
    assert (value["F8_dev_eer_random_std"] > 0) == (low < high)
    assert not value.index.str.startswith("C9").any()


def test_f8_takes_as_many_of_each_class(checkpoint, synthetic, monkeypatch):
    monkeypatch.setattr(findings, "N_PER_CLASS", 3)
    rows = findings._f8_random_excerpts(checkpoint, synthetic / "dev.tsv", torch.device("cpu"))
    with torch.inference_mode():
        assert all("3 bona fide trials and 3 spoofs" in how for *_, how in rows)


def test_c9_takes_the_worst_as_trained(tmp_path, checkpoint, synthetic):
    """By hand: of two trainings at another temperature each, the layer and the change that are furthest from a mean."""
    usual = {"seed": 1, "corpus": "home", "label": "all", "layer": "first", "aggregation": "attention"}
    for name, at, others in (("AST-05", 100, [1]), ("AST-05+stack1", 1, [100])):
        rows = [{"quantity": "stack_node_spread", "stack_temperature": at, "value": 0.9}]
        rows += [{"quantity": "total_variation", "stack_temperature": at, "value": v} for v in (0.01, 0.02)]
        rows += [{"quantity": "total_variation", "stack_temperature": t, "value": 0.9} for t in others]
        rows += [{"quantity": "total_variation", "stack_temperature": at, "value": 0.8, "label": "spoof"}]
        change = {"quantity": "score_change_relative", "stack_temperature": at}
        rows += [change | {"aggregation": "uniform", "value": 0.03}, change | {"aggregation": "linear", "value": 0.7}]
        (tmp_path / name).mkdir()
        write_tsv(tmp_path / name / "stack.tsv", rows, trained=name, **usual)
    measure(
        tmp_path / "f.tsv", [], checkpoint, synthetic / "dev.tsv", [tmp_path / "AST-05", tmp_path / "AST-05+stack1"]
    )
    value = read(tmp_path / "f.tsv")
    assert (value["C9_total_variation"], value["C9_score_change"]) == (0.02, 0.03)


def test_f8_refuses(tmp_path):
    bad = tmp_path / "bad.tsv"
    bad.write_text("stage\tepoch\n1\t1\n")
    for file in (bad, tmp_path / "absent.tsv"):
        with pytest.raises(ConfigError, match=rf"{file.name}: not readable as a training history"):
            list(findings._f8_stages([file]))
    assert not (tmp_path / "f.tsv").exists()
