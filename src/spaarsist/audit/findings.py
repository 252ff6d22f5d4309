"""What a run's trainings show: F8, what choosing by random crops and by stage costs; C9, is stack attention a mean."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spaarsist.artefacts import read_table, writing
from spaarsist.audit.facts import COLUMNS, SEED, Rows
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.experiments.excerpts import excerpt_of
from spaarsist.models.detector import load_checkpoint, prepare_torch
from spaarsist.names import ConfigError

N_PER_CLASS = 100
"""Development trials of each class that are scored at most."""


def measure(
    output: Path,
    histories: Sequence[Path],
    checkpoint: Path,
    dev_list: Path,
    inspected: Sequence[Path] = (),
    *,
    device: str = "cpu",
    threads: int = 1,
) -> None:
    """Measure F8 and C9, and write a TSV of the columns of `quantities.tsv`, see `audit.facts.measure`.

    Args:
        output: the TSV to write.
        histories: `history.tsv` of training runs; those of one stage tell nothing.
        checkpoint: a trained detector.
        dev_list: its development trials, of which at most 100 of each class are scored.
        inspected: folders of `audit.nodes.inspect`; without any, C9 is left out.
        device: where the detector computes, `cpu` or `cuda`.
        threads: CPU threads of torch; the last digits are equal only for equal numbers.

    Raises:
        ConfigError: a file is not what it should be; named.
    """
    place = prepare_torch(threads, device)
    with torch.inference_mode():
        rows = [*_f8_stages(histories), *_f8_random_excerpts(checkpoint, dev_list, place), *_c9_mean(inspected)]
    table = pd.DataFrame([(row[0].partition("_")[0], *row) for row in rows], columns=COLUMNS)
    with writing(output) as path:
        table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE, float_format="%.10g")


def _f8_stages(histories: Sequence[Path]) -> Rows:
    worse = []
    for path in histories:
        try:
            best = pd.read_csv(path, sep="\t").groupby("stage")["dev_eer"].min()
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{path}: not readable as a training history ({error!r})") from None
        if len(best) > 1:
            worse.append(best.iloc[-1] > best.iloc[0])
    if worse:
        yield "F8_runs", len(worse), "runs", "training runs of more than one stage"
        how = "of these, runs whose last stage's best dev EER is above the first's: always keeping the last one loses"
        yield "F8_runs_with_a_worse_last_stage", sum(worse), "runs", how


def _f8_random_excerpts(checkpoint: Path, dev_list: Path, device: torch.device) -> Rows:
    detector, record = load_checkpoint(checkpoint)
    detector, excerpt = detector.to(device), excerpt_of(record)
    n = excerpt.crop
    rng = np.random.default_rng(SEED)
    trials = read_trials(dev_list, both_classes=True)
    trials = trials.iloc[rng.permutation(len(trials))].groupby("label").head(N_PER_CLASS)
    is_bonafide = (trials["label"] == "bonafide").to_numpy()
    waveforms = [audio.read(path) for path in trials["path"]]

    def eer(cut: Callable[..., np.ndarray], *how: object) -> float:
        excerpts = torch.from_numpy(np.stack([audio.pad(cut(w, n, *how), n, excerpt.padding) for w in waveforms]))
        scores = torch.cat([detector.scores(batch.to(device)).cpu() for batch in excerpts.split(16)])[:, 0].numpy()
        return compute_metrics(scores[is_bonafide], scores[~is_bonafide])["eer"]

    how = f"EER of one checkpoint, {is_bonafide.sum()} bona fide trials and {(~is_bonafide).sum()} spoofs of dev, "
    yield "F8_dev_eer_centre", eer(audio.crop), "fraction", f"{how}excerpts from the centre"
    drawn = [eer(audio.crop_random, rng) for _ in range(5)]
    for name, value in (("min", min(drawn)), ("max", max(drawn)), ("std", np.std(drawn, ddof=1))):
        yield f"F8_dev_eer_random_{name}", value, "fraction", f"{how}{name} over {len(drawn)} draws of random excerpts"


def _c9_mean(inspected: Sequence[Path]) -> Rows:
    """How far the stack node's attention is from a mean, and what a mean in its place does, where that is the most."""
    if not inspected:
        return
    columns = ["trained", "seed", "corpus", "label", "quantity", "layer", "stack_temperature", "aggregation", "value"]
    table = pd.concat([read_table(folder / "stack.tsv", columns) for folder in inspected])
    table = table[table["label"] == "all"]
    spread = table[table["quantity"] == "stack_node_spread"]
    trained_at = spread.groupby("trained")["stack_temperature"].first()
    of = f"the most of {table['trained'].nunique()} trainings, {table['seed'].nunique()} seeds, "
    of += f"{table['corpus'].nunique()} corpora"
    as_trained = table["stack_temperature"] == table["trained"].map(trained_at)
    for name, quantity, chosen, unit, how in (
        ("total_variation", "total_variation", as_trained, "1",
         "total variation distance of the stack node's attention from a mean, as trained, mean over trials, by layer"),
        ("score_change", "score_change_relative", table["aggregation"] == "uniform", "standard deviations",
         "mean |score with a mean in place of the attention - score with it| / standard deviation of the latter"),
    ):  # fmt: skip
        found = table[chosen & (table["quantity"] == quantity)].nlargest(1, "value")
        for row in found.itertuples():  # none where analysis.stack_temperature lacks the one of training
            where = f"{of}: {row.trained} seed {row.seed}, {row.corpus}"
            yield f"C9_{name}", row.value, unit, f"{how}; {where}"
