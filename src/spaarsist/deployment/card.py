"""A checkpoint as a folder for the Hugging Face hub: weights, record, and a model card that says what it is worth."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from spaarsist.artefacts import CALIBRATION, RECORD, WEIGHTS, distinct, read_table, some, writing
from spaarsist.config import SAMPLE_RATE
from spaarsist.evaluation.calibration import read_thresholds
from spaarsist.evaluation.evaluate import RESULT_COLUMNS
from spaarsist.experiments.excerpts import excerpt_of
from spaarsist.models.detector import load_checkpoint
from spaarsist.names import ConfigError, System, Variant, column_as_trained

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

NAMES = {"eer": "EER", "min_dcf": "minDCF", "act_dcf": "actDCF", "cllr": "Cllr (bits)", "ece": "ECE"}
"""Metrics of the card; EER and ECE are fractions, costs are normalised (ASVspoof 5)."""


def describe(record: Mapping[str, Any]) -> str:
    """Say in one line what a checkpoint is, what it was trained on, and what its scores are good for.

    Args:
        record: of the checkpoint.
    """
    frontend = record["frontend"]["model"]
    named = "a small spectral front-end" if frontend == "spectral" else f"the front-end {Path(frontend).name}"
    trained = "trained on a list that its record does not tell"
    if "train_list" in record:
        trained = f"trained on the trials with SHA-256 {record['train_list'][:12]}..."
    if "adopted" in record:
        trained = f"adopted from {record['adopted']['file']}, of whose training nothing is known"
    if "dev_eer" in record:
        trained += f", development EER {100 * record['dev_eer']:.1f} %"
    if is_demo(record):
        worth = "A demo checkpoint: decide nothing by its scores"
    else:
        worth = "Decide nothing by its scores before they are tested on recordings like yours"
    return f"{record['system']}, seed {record['seed']}: {record['backend']['kind']} on {named}, {trained}. {worth}."


def is_demo(record: Mapping[str, Any]) -> bool:
    """Whether it can be no replication of the paper: the spectral front-end is for demos and tests."""
    return record["frontend"]["model"] == "spectral"


def write_card(
    checkpoint: Path,
    output: Path,
    metrics: Sequence[Path] = (),
    calibration: Path | None = None,
    variants: Sequence[Variant] = (),
    *,
    trained_on: str = "",
    licence: str = "",
    repository: str = "",
) -> None:
    """Write a folder that can be uploaded as it is: `model.safetensors`, `model.json`, `README.md`, `calibration.tsv`.

    README.md is a model card: in its front matter a `model-index` of the pooled metrics. What nobody said, such as the
    licence, the card calls unknown.

    Args:
        checkpoint: folder of a training.
        output: the folder to write, whole or not at all; one that this function has written is replaced.
        metrics: files of `evaluation.evaluate.evaluate` of this training, of any corpora.
        calibration: file of `evaluation.calibration.calibrate` of this training.
        variants: those whose metrics are shown; none: as trained, or all of a back-end without any.
        trained_on: corpora of training and development, in words.
        licence: of the weights, an identifier of the hub's.
        repository: `user/name`, for the commands in the card.

    Raises:
        ConfigError: no whole checkpoint; metrics or calibration of another training, no metrics of a variant, or some
            twice; a licence or repository in no form of the hub's; or `output` holds other files.
    """
    detector, record = load_checkpoint(checkpoint)
    trained = record["system"], record["seed"]
    columns = [variant.column for variant in variants] or [column_as_trained(trained[0], detector.variant)]
    results = _pooled(metrics, record, columns)
    if calibration:
        found = read_thresholds([calibration])
        if not any((System.parse(system).trained, seed) == trained for system, seed in found):
            raise ConfigError(f"{calibration}: no development threshold of {trained[0]}, seed {trained[1]}")
    if licence and not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence):
        raise ConfigError(f"--licence {licence}: the hub's identifiers are like mit, apache-2.0 or cc-by-4.0")
    if repository and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", repository):
        raise ConfigError(f"--repository {repository}: expected user/name")
    ours = {WEIGHTS, RECORD, CALIBRATION, "README.md"}
    if output.is_dir() and (others := {path.name for path in output.iterdir()} - ours):
        raise ConfigError(f"{output}: holds {min(others)}, which would be lost; name a new folder")
    distinct([output], [checkpoint])
    front = _front_matter(record, results, licence)
    text = _text(
        record,
        results,
        n_parameters=sum(tensor.numel() for tensor in detector.parameters()),
        trained_on=" ".join(trained_on.split()),
        licence=licence,
        repository=repository,
        has_threshold=calibration is not None,
    )
    with writing(output) as folder:
        folder.mkdir(parents=True)
        for name in (WEIGHTS, RECORD):
            shutil.copyfile(checkpoint / name, folder / name)
        if calibration:
            shutil.copyfile(calibration, folder / CALIBRATION)
        (folder / "README.md").write_text(f"---\n{front}\n---\n\n{text}", encoding="utf-8")
    if places := sorted({text for text in _texts(record) if text.startswith("/")}):
        print(
            f"spaarsist: warning: {output / RECORD} names places of this machine: {', '.join(places)}", file=sys.stderr
        )


def _texts(record: object) -> list[str]:
    if isinstance(record, str):
        return [record]
    parts = record.values() if isinstance(record, dict) else record if isinstance(record, list) else ()
    return [text for part in parts for text in _texts(part)]


def _pooled(metrics: Sequence[Path], record: Mapping[str, Any], variants: Sequence[str]) -> pd.DataFrame:
    """Pooled metrics of this training, as these score columns: system, corpus, metric, value, low, high."""
    parts = []
    for path in metrics:
        table = read_table(path, RESULT_COLUMNS, RESULT_COLUMNS[:6], ["value"], dtype={"variant": str, "corpus": str})
        for row in table[["system", "seed"]].drop_duplicates().itertuples():
            if (System.parse(row.system).trained, row.seed) != (record["system"], record["seed"]):
                wanted = f"{record['system']}, seed {record['seed']}"
                raise ConfigError(f"{path}: metrics of {row.system}, seed {row.seed}; the checkpoint is {wanted}")
        low, high = (
            table[over_speakers].fillna(table[over_trials]) if over_speakers in table else table[over_trials]
            for over_speakers, over_trials in (("speakers_low", "ci_low"), ("speakers_high", "ci_high"))
        )
        table = table.assign(low=low, high=high)[table["condition"] == "pooled"]
        if absent := [variant for variant in variants if variant not in {*table["variant"]}]:
            there = some([*table["variant"]])
            raise ConfigError(f"{path}: no pooled metrics of variant {absent[0]}; --variant names others: {there}")
        parts.append(table[table["metric"].isin([*NAMES]) & table["variant"].isin(variants)])
    columns = ["system", "corpus", "metric", "value", "low", "high"]
    results = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    if is_demo(record):  # whose corpora may have the name of published ones that they stand in for
        results["corpus"] += " (demo)"
    if twice := results[results.duplicated(columns[:3])].to_dict("records"):
        raise ConfigError("{system} on {corpus}: its {metric} was given twice; give each file once".format(**twice[0]))
    return results


def _front_matter(record: Mapping[str, Any], results: pd.DataFrame, licence: str) -> str:
    from huggingface_hub import ModelCardData

    frontend = record["frontend"]
    data = ModelCardData(
        model_name=f"{record['system']}, seed {record['seed']}",
        license=licence or "unknown",
        library_name="spaarsist",
        pipeline_tag="audio-classification",
        tags=["anti-spoofing", "audio-deepfake-detection", "speech", *["demo"] * is_demo(record)],
        base_model=frontend["model"] if frontend["revision"] else None,
        eval_results=[_result(row) for row in results.itertuples()] or None,
    )
    return data.to_yaml(line_break="\n")


def _result(row: Any) -> EvalResult:
    from huggingface_hub import EvalResult

    interval = {"interval": [row.low, row.high]} if pd.notna(row.low) and pd.notna(row.high) else None
    return EvalResult(
        task_type="audio-classification",
        task_name="speech anti-spoofing",
        dataset_type=re.sub(r"\W+", "-", row.corpus).strip("-").lower() or "unnamed",
        dataset_name=row.corpus,
        metric_type=row.metric,
        metric_name=f"{NAMES[row.metric]}, {row.system}",
        metric_value=row.value,
        metric_args=interval,
    )


def _text(
    record: Mapping[str, Any],
    results: pd.DataFrame,
    *,
    n_parameters: int,
    trained_on: str,
    licence: str,
    repository: str,
    has_threshold: bool,
) -> str:
    frontend, backend, shown = record["frontend"], record["backend"], excerpt_of(record)
    demo = "**A demo checkpoint. Decide nothing by its scores.**\n\n" if is_demo(record) else ""
    options = json.dumps(backend["options"]) if backend["options"] else "none"
    from_hub = f"""\
Without fetching it first, `COMMIT` being the 40 digits that the hub shows under Files, History:

```bash
spaarsist detect {repository}@COMMIT clip.m4a
spaarsist score --checkpoint {repository}@COMMIT --trial-list mine.tsv --output scores.parquet
```

"""
    threshold = "No threshold comes with it: `detect` prints scores alone."
    if has_threshold:
        threshold = f"`{CALIBRATION}` holds the threshold of the development corpus, by which `detect` judges."
    variants = """\
Both take `--variant`: `01-Mag`, say, keeps a tenth of the nodes at each pooling, chosen by magnitude.

"""
    return f"""\
# {record["system"]}, seed {record["seed"]}

{demo}A speech anti-spoofing countermeasure: it scores whether a recording is bona fide speech or a spoof (synthetic,
converted, vocoded). Score: log P(bona fide) − log P(spoof) in nats, **higher = more bona fide**. Made with
SpAArSIST-repro, a replication of *SpAArSIST: Sparsified AASIST for Efficient and Reliable Anti-Spoofing* (arXiv
2606.11674).

| | |
| --- | --- |
| front-end | {
        f"{frontend['model']}, {frontend['revision']}" if frontend["revision"] else Path(frontend["model"]).name
    } |
| back-end | {backend["kind"]}, embedding of {backend["embedding_dim"]}, options: {options} |
| parameters | {n_parameters:,} |
| input | 16 kHz, one channel; an excerpt of {shown.crop / SAMPLE_RATE:.2f} s ({shown}) |
| trained on | {trained_on or "not stated by who wrote this card"} |
| list of training trials | {"SHA-256 " + record["train_list"] if "train_list" in record else "unknown"} |
| development EER | {f"{100 * record['dev_eer']:.2f} %" if "dev_eer" in record else "unknown"} |
| licence of the weights | {licence or "unknown: nobody stated one, so ask before you use or share them"} |

`model.json` holds the whole recipe, seed, versions, and hashes of the weights and of itself.

## Results

{_table(results)}
## Use

In a folder that holds these files, with SpAArSIST-repro installed:

```bash
spaarsist detect . clip.m4a
spaarsist trials --protocol mine.csv --format list --audio audio --output mine.tsv
spaarsist score --checkpoint . --trial-list mine.tsv --output scores.parquet
```

{variants if backend["kind"] == "AASIST" else ""}{from_hub if repository else ""}{threshold}

## Intended use and limits

For research on spoofing detection. Not for decisions about people: no accusation, no identity check, no moderation.

- Errors grow on speakers, microphones, codecs and spoofing methods other than those of training, often to chance.
- Threshold and calibration are those of the development corpus; elsewhere they need not hold.
- A score is about one excerpt, not about the whole recording. Music, noise and silence get scores too, which mean
  nothing.
- Differences between systems of one seed may be chance.
"""


def _table(results: pd.DataFrame) -> str:
    if not len(results):
        return "No metrics were given to this card.\n"
    names = [metric for metric in NAMES if metric in {*results["metric"]}]
    lines = [["system", "corpus", *(NAMES[name] + " (%)" * (name in ("eer", "ece")) for name in names)]]
    lines.append(["---", "---", *["---:"] * len(names)])
    for (system, corpus), rows in results.groupby(["system", "corpus"], sort=False):
        cells = {row.metric: _cell(row) for row in rows.itertuples()}
        lines.append([system, corpus.replace("|", r"\|"), *(cells.get(name, "") for name in names)])
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return f"{text}\nPooled, with the intervals that `spaarsist metrics` gives: over speakers where they are known.\n"


def _cell(row: Any) -> str:
    scale, digits = (100, 2) if row.metric in ("eer", "ece") else (1, 3)
    value, low, high = (f"{scale * number:.{digits}f}" for number in (row.value, row.low, row.high))
    return f"{value} [{low}, {high}]" if pd.notna(row.low) and pd.notna(row.high) else value
