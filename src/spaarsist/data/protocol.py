"""Protocols: the official trial lists of each corpus -> one checked trial list.

The trial list is a TSV with the header `trial_id, path, label, speaker_id, attack_id, codec, n_samples`: official
order, unique ids, label bonafide or spoof, `-` where a protocol says nothing, n_samples at 16 kHz; every file exists
and has a sound header.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
from tqdm import tqdm

from spaarsist.artefacts import writing
from spaarsist.config import ConfigError
from spaarsist.data.audio import count_samples

Format = Literal["asvspoof5", "in_the_wild", "list"]
COLUMNS = ("trial_id", "path", "label", "speaker_id", "attack_id", "codec", "n_samples")
LABELS = ("bonafide", "spoof")
NAMED = 5
"""How many offenders an error message names."""


class Trial(NamedTuple):
    """One row of a protocol, before its audio has been looked at."""

    line: int
    trial_id: str
    file: str
    label: str
    speaker_id: str = "-"
    attack_id: str = "-"
    codec: str = "-"


def make_trials(protocol: Path, form: Format, audio: Path, output: Path, expected: int = 0) -> pd.DataFrame:
    """Turn a protocol and a folder of audio into a trial list, and write it.

    Args:
        protocol: the official file. `asvspoof5`: ten columns between single spaces, no header. `in_the_wild`:
            `meta.csv` with the header `file,speaker,label`. `list`: comma or tab separated, a header with at least
            `file,label` and optionally `speaker, attack, codec`.
        audio: folder of the recordings; files in it that the protocol does not name are ignored.
        output: the TSV to write.
        expected: how many trials the release has; 0 = unknown.

    Raises:
        ConfigError: names the file, the line and what to do.
    """
    trials = list(READERS[form](protocol, _read_lines(protocol)))
    _check(protocol, trials, expected)
    if not audio.is_dir():
        siblings = sorted(p.name for p in audio.parent.glob(f"{audio.name}*") if p.is_dir())
        hint = f"; there is {', '.join(siblings)} beside it" if siblings else ""
        raise ConfigError(f"{audio}: no such folder of audio{hint}; set the corpus's `audio` to where its files lie")
    present = {entry.name for entry in os.scandir(audio)}
    missing = [t for t in trials if t.file not in present and not (audio / t.file).is_file()]
    if missing:
        raise ConfigError(
            f"{protocol}: {len(missing)} of {len(trials)} recordings are not in {audio}: "
            + _some(t.file for t in missing)
        )
    paths = [audio / t.file for t in trials]
    with ThreadPoolExecutor() as pool:
        lengths = list(tqdm(pool.map(count_samples, paths), total=len(paths), desc=f"check {output.stem}", unit="file"))
    table = pd.DataFrame(
        [
            (t.trial_id, path.as_posix(), t.label, t.speaker_id, t.attack_id, t.codec, n)
            for t, path, n in zip(trials, paths, lengths, strict=True)
        ],
        columns=COLUMNS,
    )
    with writing(output) as path:
        table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)
    return table


def read_trials(path: Path) -> pd.DataFrame:
    """Read a trial list made by `make_trials`.

    Raises:
        ConfigError: it is missing, or not such a list.
    """
    try:
        table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable as a trial list ({error})") from None
    if tuple(table.columns) != COLUMNS:
        raise ConfigError(f"{path}: a trial list has the columns {', '.join(COLUMNS)}; make it with `spaarsist trials`")
    table["n_samples"] = table["n_samples"].astype(int)
    _check(path, [Trial(i + 2, r.trial_id, r.path, r.label) for i, r in enumerate(table.itertuples())], 0)
    return table


def _read_lines(protocol: Path) -> list[str]:
    try:
        text = protocol.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{protocol}: cannot be read ({error.strerror}); check the corpus's `protocol`") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{protocol}: not UTF-8 text ({error.reason}); is this the protocol?") from None
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _read_asvspoof5(protocol: Path, lines: list[str]) -> Iterator[Trial]:
    for number, line in enumerate(lines, start=1):
        fields = line.split(" ")
        if len(fields) != 10:
            hint = ""
            if len(fields) == 6:
                hint = ": six columns are the challenge-phase metadata; take ASVspoof5.<split>.tsv of the release"
            elif "\t" in line:
                hint = ": the release separates by single spaces in spite of its .tsv, this file has tabs"
            raise ConfigError(f"{protocol}, line {number}: {len(fields)} columns instead of 10{hint}")
        speaker, name, _gender, codec, _quality, _seed, _tag, attack, key, _ = fields
        if name.lower() == "file" or key.lower() == "key":
            raise ConfigError(f"{protocol}, line {number}: looks like a header; the release has none: remove it")
        if (key == "bonafide") != (attack == "bonafide"):
            raise ConfigError(
                f"{protocol}, line {number}: key {key!r} and attack label {attack!r} contradict each other"
            )
        attack = "-" if key == "bonafide" else attack
        yield Trial(number, name, f"{name}.flac", key, speaker, attack, codec)


def _read_in_the_wild(protocol: Path, lines: list[str]) -> Iterator[Trial]:
    labels = {"bona-fide": "bonafide"}
    for number, row in _read_table(protocol, lines, ",", ("file", "speaker", "label")):
        label = labels.get(row["label"], row["label"])
        yield Trial(number, row["file"], row["file"], label, row["speaker"] or "-")


def _read_list(protocol: Path, lines: list[str]) -> Iterator[Trial]:
    separator = "\t" if lines and "\t" in lines[0] else ","
    for number, row in _read_table(protocol, lines, separator, ("file", "label")):
        extra = (row.get(column) or "-" for column in ("speaker", "attack", "codec"))
        yield Trial(number, row["file"], row["file"], row["label"], *extra)


def _read_table(
    protocol: Path, lines: list[str], separator: str, needed: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(lines, delimiter=separator, restkey="", restval=None)
    header = reader.fieldnames or []
    if absent := [column for column in needed if column not in header]:
        raise ConfigError(f"{protocol}, line 1: the header lacks {', '.join(absent)}; it reads {', '.join(header)!r}")
    for row in reader:
        if "" in row or None in row.values():
            raise ConfigError(f"{protocol}, line {reader.line_num}: not {len(header)} columns")
        yield reader.line_num, row


READERS = {"asvspoof5": _read_asvspoof5, "in_the_wild": _read_in_the_wild, "list": _read_list}


def _check(protocol: Path, trials: list[Trial], expected: int) -> None:
    if not trials:
        raise ConfigError(f"{protocol}: no trials")
    seen: dict[str, int] = {}
    for trial in trials:
        if trial.label not in LABELS:
            raise ConfigError(f"{protocol}, line {trial.line}: label {trial.label!r}; expected bonafide or spoof")
        if not trial.trial_id or any("\t" in field for field in trial[1:]):
            raise ConfigError(f"{protocol}, line {trial.line}: an empty name or a tab within a field")
        if trial.trial_id in seen:
            raise ConfigError(
                f"{protocol}, line {trial.line}: {trial.trial_id} was already on line {seen[trial.trial_id]}"
            )
        seen[trial.trial_id] = trial.line
    if expected and len(trials) != expected:
        raise ConfigError(f"{protocol}: {len(trials)} trials, the release has {expected}; fetch the protocol again")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
