"""The folder for the hub: what huggingface_hub reads back is what was measured, and nothing is left unsaid."""

import json
import shutil

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from conftest import state, write_metrics, write_record, write_tsv
from spaarsist.artefacts import CALIBRATION, RECORD, WEIGHTS
from spaarsist.deployment.card import describe, write_card
from spaarsist.deployment.detect import Listener
from spaarsist.models.detector import load_checkpoint
from spaarsist.names import ConfigError, Variant

MAG = Variant.from_column("01-Mag")
ROW = ("AST-05-05", 1, "05", "eval|out", "pooled")
ROWS = [
    (*ROW, "eer", 0.125, 0.1, 0.15, 20, 30),
    (*ROW, "min_dcf", 0.5, 0.25, 0.75, 20, 30),
    (*ROW, "min_cllr", 0.5, 0.25, 0.75, 20, 30),
    (*ROW[:4], "attack:A1", "eer", 0.9, 0.8, 1.0, 20, 30),
    ("AST-05-01-Mag", 1, "01-Mag", "eval|out", "pooled", "eer", 0.25, None, None, 20, 30),
]


@pytest.fixture
def metrics(tmp_path):
    return write_metrics(tmp_path / "m.tsv", ROWS)


@pytest.fixture
def calibration(tmp_path):
    row = {"system": "AST-05-05", "seed": 1, "variant": "05", "corpus": "dev", "quantity": "threshold_dev_eer"}
    return write_tsv(tmp_path / "c.tsv", [row | {"value": 0.25}])


def read(folder):
    """The card as huggingface_hub reads it, and its text on one line."""
    card = ModelCard.load(folder / "README.md")
    return card, " ".join(card.text.split())


def test_the_folder_is_a_checkpoint_with_its_threshold(checkpoint, metrics, calibration, tmp_path):
    write_card(checkpoint, tmp_path / "card", [metrics], calibration)
    names = {path.name for path in (tmp_path / "card").iterdir()}
    assert names == {"README.md", RECORD, WEIGHTS, CALIBRATION}
    for name in (RECORD, WEIGHTS):
        assert (tmp_path / "card" / name).read_bytes() == (checkpoint / name).read_bytes()
    assert load_checkpoint(tmp_path / "card")[1] == load_checkpoint(checkpoint)[1]
    assert Listener(tmp_path / "card").threshold == 0.25


def test_the_model_index_holds_the_pooled_metrics(checkpoint, metrics, tmp_path):
    write_card(checkpoint, tmp_path / "card", [metrics], variants=[Variant(), MAG])
    card, text = read(tmp_path / "card")
    found = {
        (r.dataset_name, r.metric_name): (r.metric_type, r.metric_value, r.metric_args) for r in card.data.eval_results
    }
    assert found == {
        ("eval|out (demo)", "EER, AST-05-05"): ("eer", 0.125, {"interval": [0.1, 0.15]}),
        ("eval|out (demo)", "minDCF, AST-05-05"): ("min_dcf", 0.5, {"interval": [0.25, 0.75]}),
        ("eval|out (demo)", "EER, AST-05-01-Mag"): ("eer", 0.25, None),
    }
    assert {result.dataset_type for result in card.data.eval_results} == {"eval-out-demo"}
    assert r"| AST-05-05 | eval\|out (demo) | 12.50 [10.00, 15.00] | 0.500 [0.250, 0.750] |" in text
    assert r"| AST-05-01-Mag | eval\|out (demo) | 25.00 | |" in text and "90.00" not in text


def test_as_trained_unless_variants_are_named(checkpoint, metrics, tmp_path):
    for variants, shown in ([], {"EER, AST-05-05", "minDCF, AST-05-05"}), ([MAG], {"EER, AST-05-01-Mag"}):
        write_card(checkpoint, tmp_path / "card", [metrics], variants=variants)
        assert {result.metric_name for result in read(tmp_path / "card")[0].data.eval_results} == shown
    with pytest.raises(
        ConfigError, match=r"m\.tsv: no pooled metrics of variant 03; --variant names others: 05, 01-Mag$"
    ):
        write_card(checkpoint, tmp_path / "card", [metrics], variants=[Variant(k_infer=0.3)])


def test_intervals_over_speakers_come_first(checkpoint, tmp_path):
    table = pd.read_csv(write_metrics(tmp_path / "m.tsv", ROWS[:2]), sep="\t", dtype={"variant": str})
    table.assign(speakers_low=[0.0625, None], speakers_high=[0.5, None]).to_csv(
        tmp_path / "m.tsv", sep="\t", index=False
    )
    write_card(checkpoint, tmp_path / "card", [tmp_path / "m.tsv"])
    assert "| 12.50 [6.25, 50.00] | 0.500 [0.250, 0.750] |" in read(tmp_path / "card")[1]


def test_what_is_said_and_what_nobody_said(checkpoint, metrics, calibration, tmp_path):
    write_card(checkpoint, tmp_path / "plain")
    card, text = read(tmp_path / "plain")
    assert card.data.license == "unknown" and card.data.eval_results is None and "demo" in card.data.tags
    for said in (
        "**A demo checkpoint. Decide nothing by its scores.**",
        "| licence of the weights | unknown: nobody stated one",
        "| trained on | not stated by who wrote this card |",
        "No metrics were given to this card.",
        "No threshold comes with it",
        "spaarsist detect . clip.m4a",
        "an excerpt of 0.50 s",
    ):
        assert said in text
    assert "COMMIT" not in text
    options = {"trained_on": "some\ncorpus: 'x'", "licence": "cc-by-4.0", "repository": "user/name"}
    write_card(checkpoint, tmp_path / "full", [metrics], calibration, **options)
    card, text = read(tmp_path / "full")
    assert card.data.license == "cc-by-4.0" and "| licence of the weights | cc-by-4.0 |" in text
    assert "| trained on | some corpus: 'x' |" in text and "spaarsist detect user/name@COMMIT clip.m4a" in text
    assert "`calibration.tsv` holds the threshold" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"licence": "MIT License"}, "--licence MIT License: the hub's identifiers are like mit"),
        ({"repository": "name"}, "--repository name: expected user/name"),
        ({"repository": "a/b/c"}, "--repository a/b/c: expected user/name"),
    ],
)
def test_what_the_hub_would_refuse(checkpoint, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        write_card(checkpoint, tmp_path / "card", **options)
    assert not (tmp_path / "card").exists()


@pytest.mark.parametrize("cells", [("AST-03-05", 1), ("AST-05-05", 2), ("MHFA", 1)])
def test_results_of_another_training_are_refused(checkpoint, tmp_path, cells):
    other = write_metrics(tmp_path / "m.tsv", [*ROWS[:1], (*cells, *ROWS[0][2:])])
    with pytest.raises(
        ConfigError, match=rf"m\.tsv: metrics of {cells[0]}, seed {cells[1]}; the checkpoint is AST-05, seed 1"
    ):
        write_card(checkpoint, tmp_path / "card", [other])
    rows = [{"system": cells[0], "seed": cells[1], "quantity": "threshold_dev_eer", "value": 0.25}]
    with pytest.raises(ConfigError, match=r"c\.tsv: no development threshold of AST-05, seed 1"):
        write_card(checkpoint, tmp_path / "card", calibration=write_tsv(tmp_path / "c.tsv", rows))
    assert not (tmp_path / "card").exists()


def test_the_same_metrics_twice(checkpoint, metrics, tmp_path):
    with pytest.raises(ConfigError, match=r"AST-05-05 on eval\|out \(demo\): its eer was given twice"):
        write_card(checkpoint, tmp_path / "card", [metrics, metrics])


def test_what_somebody_else_put_there_stays(checkpoint, tmp_path):
    """A clone of the hub's repository, say; what the verb has written itself is replaced."""
    write_card(checkpoint, tmp_path / "card")
    write_card(checkpoint, tmp_path / "card", licence="mit")
    (tmp_path / "card" / ".git").mkdir()
    before = state(tmp_path / "card" / ".git")
    with pytest.raises(ConfigError, match=r"card: holds \.git, which would be lost; name a new folder$"):
        write_card(checkpoint, tmp_path / "card")
    assert state(tmp_path / "card" / ".git") == before and read(tmp_path / "card")[0].data.license == "mit"


def test_weights_of_another_training(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ConfigError, match=r"not the weights that model\.json was written with"):
        write_card(folder, tmp_path / "card")


def test_places_of_this_machine_are_told(checkpoint, tmp_path, capsys):
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    record = json.loads((folder / RECORD).read_text())
    record["recipe"]["frontend"]["model"] = "/home/me/xls-r"
    write_record(folder / RECORD, **record)
    write_card(checkpoint, tmp_path / "a")
    assert capsys.readouterr().err == ""
    write_card(folder, tmp_path / "b")
    assert capsys.readouterr().err.endswith("b/model.json names places of this machine: /home/me/xls-r\n")


ABOUT = {"system": "AST-05", "seed": 3, "backend": {"kind": "AASIST"}, "frontend": {"model": "spectral"}}


def test_a_demo_says_so():
    assert describe(ABOUT | {"train_list": "0123456789abcdef", "dev_eer": 0.123}) == (
        "AST-05, seed 3: AASIST on a small spectral front-end, trained on the trials with SHA-256 0123456789ab..., "
        "development EER 12.3 %. A demo checkpoint: decide nothing by its scores."
    )


def test_what_others_trained():
    assert describe(ABOUT | {"frontend": {"model": "/home/me/xls-r"}}) == (
        "AST-05, seed 3: AASIST on the front-end xls-r, trained on a list that its record does not tell. "
        "Decide nothing by its scores before they are tested on recordings like yours."
    )


def test_what_was_adopted():
    said = describe(ABOUT | {"frontend": {"model": "a/xls-r"}, "adopted": {"file": "best.pth"}})
    assert "AASIST on the front-end xls-r, adopted from best.pth, of whose training nothing is known. Decide" in said
