"""Figures drawn from training histories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from spaarsist.artefacts import read_record, read_table
from spaarsist.names import ConfigError
from spaarsist.reporting.figures.style import COLOURS, HEADLINE, STYLE, save, width

_PER_ROW = 7  # panels side by side that are still readable
_MEASURES = {"dev_eer": ("Dev EER (%)", 100), "train_loss": ("Training loss", 1)}
_COLUMNS = {"stage": int, "epoch": int, "train_loss": float, "dev_eer": float}


def training(records: Sequence[Path], output_stem: Path, label: str = "") -> None:
    """Draw development EER and training loss over the epochs, a column per training and a line per seed.

    Epochs count on through the stages; a dashed line marks where a stage begins, a ring the epoch whose weights were
    kept. All panels of a kind share their axes, so that trainings can be compared.

    Args:
        records: `model.json` of each training and seed, `history.tsv` beside it; columns come in the order in which
            trainings first occur.
        output_stem, label: as in `style.save`. The TSV has a row per training, seed and epoch: system, seed, stage,
            epoch (of the stage), step (epochs since the start), train_loss (nats per trial), dev_eer (fraction),
            chosen.

    Raises:
        ConfigError: there is no record, one is unreadable or lacks a key, its history is unreadable or does not hold
            the epoch that it names, or a training occurs twice with the same seed.
    """
    if not records:
        raise ConfigError("no training was given to draw")
    shown = pd.concat([_history(path) for path in records], ignore_index=True)
    if (twice := shown.duplicated(["system", "seed", "step"])).any():
        system, seed = shown.loc[twice, ["system", "seed"]].iloc[0]
        raise ConfigError(f"two records of {system} with seed {seed} were given")
    systems = [*dict.fromkeys(shown["system"])]
    n_blocks = -(-len(systems) // _PER_ROW)
    n_columns = -(-len(systems) // n_blocks)
    line, stage = {"color": COLOURS[0], "lw": 1}, {"color": "0.3", "ls": (0, (3, 2)), "lw": 0.7}
    ring = {"marker": "o", "ms": 4.5, "mfc": "none", "mec": COLOURS[3], "mew": 1.1, "ls": "", "zorder": 4}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width(n_columns), 0.5 + 2.7 * n_blocks), layout="constrained")
        panels = figure.subplots(2 * n_blocks, n_columns, squeeze=False)
        pairs = panels.reshape(n_blocks, 2, n_columns).transpose(0, 2, 1).reshape(-1, 2)  # a pair per training
        for axes in pairs[len(systems) :].flat:
            axes.remove()
        for index, system in enumerate(systems):
            part = shown[shown["system"] == system]
            begins = part.loc[part.groupby("seed")["stage"].diff() > 0, "step"].unique()
            for axes, (measure, (name, scale)) in zip(pairs[index], _MEASURES.items(), strict=True):
                for _, run in part.groupby("seed"):
                    axes.plot(run["step"], scale * run[measure], **line)
                kept = part[part["chosen"]]
                axes.plot(kept["step"], scale * kept[measure], **ring, clip_on=False)
                for begin in begins:
                    axes.axvline(begin - 0.5, **stage)
                axes.set(xlim=(0, shown["step"].max() + 1), ylim=(0, 1.05 * scale * shown[measure].max() or 1))
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
                axes.tick_params(labelleft=index % n_columns == 0, labelbottom=measure == "train_loss")
                if index % n_columns == 0:
                    axes.set_ylabel(name)
            span = dict.fromkeys(f"{100 * eer:.1f}" for eer in (kept["dev_eer"].min(), kept["dev_eer"].max()))
            pairs[index, 0].set_title(f"{system}\n{'–'.join(span)} %", fontsize=7.5)
            pairs[index, 1].set_xlabel("Epoch")
        legend = {"One training seed": line, "Epoch that was kept": ring, "A stage begins": stage}
        handles = [Line2D([], [], **style) for style in legend.values()]
        figure.legend(
            handles,
            legend.keys(),
            loc="outside upper center",
            ncols=3,
            title="How trainings went",
            title_fontproperties=HEADLINE,
        )
        save(figure, shown, output_stem, "Under each name: dev EER of the epochs that were kept", label)


def _history(record: Path) -> pd.DataFrame:
    """A row per epoch of one training: what the TSV of `training` holds."""
    held = read_record(record)
    try:
        system, seed, kept = str(held["system"]), int(held["seed"]), (held["stage"], held["epoch"])
    except KeyError as error:
        raise ConfigError(f"{record}: no {error} in the record; train anew") from None
    path = record.with_name("history.tsv")
    history = read_table(path, [*_COLUMNS], dtype=_COLUMNS)[[*_COLUMNS]]
    chosen = (history["stage"] == kept[0]) & (history["epoch"] == kept[1])
    if chosen.sum() != 1:
        raise ConfigError(
            f"{path}: holds epoch {kept[1]} of stage {kept[0]}, which {record} names, {chosen.sum()} times"
        )
    history.insert(2, "step", range(1, len(history) + 1))
    return pd.DataFrame({"system": system, "seed": seed, **history, "chosen": chosen})
