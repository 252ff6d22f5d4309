"""Training curves from small made-up histories: right numbers, label, same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from conftest import write_record
from spaarsist.names import ConfigError
from spaarsist.reporting.figures import training as figures

LABEL = "mini corpora; not the paper's numbers, 100 % made up"


def write(folder, system, seed, stages, kept):
    """A record and its history with that many epochs in each stage; returns the record's path."""
    rng = np.random.default_rng([seed, *map(ord, system)])
    rows = [(stage, epoch) for stage, n in enumerate(stages, 1) for epoch in range(1, n + 1)]
    history = pd.DataFrame(rows, columns=["stage", "epoch"])
    history["train_loss"], history["dev_eer"] = rng.uniform(0.1, 0.7, len(rows)), rng.uniform(0.01, 0.5, len(rows))
    history = history.assign(lr=1e-4, seconds=9.5, peak_memory_mb=100)
    path = folder / system / f"seed{seed}" / "model.json"
    path.parent.mkdir(parents=True)
    history.to_csv(path.with_name("history.tsv"), sep="\t", index=False)
    return write_record(path, system=system, seed=seed, stage=kept[0], epoch=kept[1], recipe={})


@pytest.fixture
def records(tmp_path):
    return [
        write(tmp_path, "AST-05", 1, (3, 2), (2, 1)),
        write(tmp_path, "AST-05", 2, (3, 2), (1, 3)),
        write(tmp_path, "AST-05+stack1", 1, (4,), (1, 4)),
        write(tmp_path, "MHFA", 1, (2, 1), (2, 1)),
    ]


def test_table_holds_the_histories(records, tmp_path, drawn):
    figures.training(records, tmp_path / "figure")
    table = pd.read_csv(tmp_path / "figure.tsv", sep="\t")
    assert len(table) == 5 + 5 + 4 + 3
    assert [*table["system"].unique()] == ["AST-05", "AST-05+stack1", "MHFA"]
    for path in records:
        record = json.loads(path.read_text())
        rows = table[(table["system"] == record["system"]) & (table["seed"] == record["seed"])]
        history = pd.read_csv(path.with_name("history.tsv"), sep="\t")
        for column in ("stage", "epoch", "train_loss", "dev_eer"):
            assert rows[column].to_numpy() == pytest.approx(history[column].to_numpy())
        assert rows["step"].to_list() == [*range(1, len(history) + 1)]
        assert rows.loc[rows["chosen"], ["stage", "epoch"]].to_numpy().tolist() == [[record["stage"], record["epoch"]]]


def test_curves_rings_and_stages_are_where_the_histories_say(records, tmp_path, drawn):
    figures.training(records, tmp_path / "figure")
    axes = drawn[0].axes
    assert len(axes) == 6
    history = pd.read_csv(records[1].with_name("history.tsv"), sep="\t")
    for panel, column, scale in ((axes[0], "dev_eer", 100), (axes[3], "train_loss", 1)):
        lines = [np.array(line.get_data(), float) for line in panel.lines]
        curves = [line for line in lines if line.shape[1] == 5]
        assert len(curves) == 2
        assert curves[1][0].tolist() == [1, 2, 3, 4, 5]
        assert curves[1][1] == pytest.approx(scale * history[column].to_numpy())
        (rings,) = [line.get_data() for line in panel.lines if line.get_marker() == "o"]
        assert [*rings[0]] == [4, 3] and rings[1][1] == pytest.approx(scale * history[column][2])
        (begin,) = [line.get_xdata() for line in panel.lines if line.get_ls() == "--"]
        assert {*begin} == {3.5}
    assert not [line for line in axes[1].lines if line.get_ls() == "--"]  # one stage only
    assert len({panel.get_ylim() for panel in axes[:3]}) == len({panel.get_xlim() for panel in axes}) == 1

    texts = [" ".join(text.get_text().split()) for text in drawn[0].findobj(Text)]
    table = pd.read_csv(tmp_path / "figure.tsv", sep="\t")
    kept = [f"{100 * eer:.1f}" for eer in sorted(table.query("chosen and system == 'AST-05'")["dev_eer"])]
    assert f"AST-05 {kept[0]}–{kept[1]} %" in texts
    (alone,) = table.query("chosen and system == 'MHFA'")["dev_eer"]
    assert f"MHFA {100 * alone:.1f} %" in texts


def test_files_are_whole_labelled_and_the_same_every_time(records, drawn_twice):
    names = drawn_twice(lambda folder: figures.training(records, folder / "figure", LABEL), LABEL)
    assert names == {"figure.png", "figure.pdf", "figure.tsv"}


def test_many_trainings_wrap(tmp_path, drawn):
    records = [write(tmp_path, f"AST-05+stack{i}", 1, (2,), (1, 2)) for i in range(1, 10)]
    figures.training(records, tmp_path / "figure")
    (figure,) = drawn
    figure.draw_without_rendering()
    titles = [panel.get_title().split("\n")[0] for panel in figure.axes if panel.get_title()]
    assert titles == [f"AST-05+stack{i}" for i in range(1, 10)] and len(figure.axes) == 18
    assert len({round(panel.get_position().y0, 3) for panel in figure.axes}) == 4


def damage(path, **changes):
    """Change a record's keys; None removes one."""
    record = json.loads(path.read_text()) | changes
    write_record(path, **{key: value for key, value in record.items() if value is not None})


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda path: path.unlink(), "seed1: not a checkpoint: no model.json in it"),
        (lambda path: path.write_text(path.read_text().replace("AST-05", "AST-03")), "edited or damaged"),
        (lambda path: damage(path, epoch=None), "model.json: no 'epoch' in the record"),
        (lambda path: damage(path, epoch=9), "history.tsv: holds epoch 9 of stage 2, which .*, 0 times"),
        (lambda path: damage(path, seed=2), "two records of AST-05 with seed 2"),
        (lambda path: path.with_name("history.tsv").unlink(), "history.tsv: not a readable"),
        (lambda path: path.with_name("history.tsv").write_text(""), "history.tsv: not a readable"),
        (lambda path: path.with_name("history.tsv").write_text("stage\tepoch\n1\t1\n"), "columns missing: train_loss"),
        (
            lambda path: path.with_name("history.tsv").write_text("stage\tepoch\ttrain_loss\tdev_eer\n1\t1\tx\t0.1\n"),
            "history.tsv: not a readable",
        ),
    ],
)
def test_refuses_what_is_no_training(records, tmp_path, harm, complaint):
    harm(records[0])
    with pytest.raises(ConfigError, match=complaint):
        figures.training(records, tmp_path / "refused")
    assert not list(tmp_path.glob("*refused*"))


def test_refuses_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no training was given"):
        figures.training([], tmp_path / "refused")
