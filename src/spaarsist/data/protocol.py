"""Protocols: the official trial lists of each corpus -> one checked trial list.

The trial list is a TSV with the header `trial_id, path, label, speaker_id, attack_id, codec, n_samples`: official
order, unique ids, label bonafide or spoof, `-` where a protocol says nothing, n_samples at 16 kHz; every file exists
and has a sound header.

Recordings may stay in the archives that they are published in (see `spaarsist.data.archives`). An index, a TSV with the
header `member, path, n_samples, archive`, saves going through an archive for every trial list; the last column says
which state of the archive it is of.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
from tqdm import tqdm

from spaarsist.artefacts import TRIAL_COLUMNS as COLUMNS
from spaarsist.artefacts import read_table, some, writing
from spaarsist.data import archives
from spaarsist.data.audio import ENDINGS, convert, count_samples
from spaarsist.names import ConfigError

Format = Literal["asvspoof5", "in_the_wild", "list"]
INDEX_COLUMNS = ("member", "path", "n_samples", "archive")
LABELS = ("bonafide", "spoof")
AUDIO = re.compile(rf"[^\t\n\r\ud800-\udfff]+({'|'.join(map(re.escape, ENDINGS))})", re.IGNORECASE)
"""Names of recordings; no protocol can hold a tab, a line break or what is not UTF-8 text."""

CHECKSUMS = ("md5", "sha256")


class Trial(NamedTuple):
    """One row of a protocol, before its audio has been looked at."""

    line: int
    trial_id: str
    file: str
    label: str
    speaker_id: str = "-"
    attack_id: str = "-"
    codec: str = "-"


def make_index(archive: Path, output: Path) -> None:
    """List the recordings of a .tar or .zip with their place and length, and write the list.

    A recording that is not readable gets length 0: only the trial list knows whether it is needed.

    Args:
        archive: it is gone through once, from begin to end.
        output: the TSV to write, in the archive's order: member's name, path for `spaarsist.data.audio.read`, samples
            at 16 kHz, size and time of the archive.

    Raises:
        ConfigError: the archive is missing, compressed, cut short or damaged, or holds no audio.
    """
    state = archives.state(archive)
    table = pd.DataFrame(((*row, state) for row in _index(archive)), columns=INDEX_COLUMNS)
    if table.empty:
        raise ConfigError(f"{archive}: no recordings ({', '.join(ENDINGS)}) in it; is this the right archive?")
    with writing(output) as path:
        table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)


def make_trials(
    protocol: Path, form: Format, audio: Sequence[Path], output: Path, expected: int = 0, checksum: str = ""
) -> pd.DataFrame:
    """Turn a protocol and its recordings into a trial list, and write it.

    Args:
        protocol: the official file, or `archive::member` (.tar, .tar.gz, .zip). `asvspoof5`: ten columns between single
            spaces, no header. `in_the_wild`: `meta.csv` with the header `file,speaker,label`. `list`: comma or tab
            separated, a header with at least `file,label` and optionally `speaker, attack, codec`.
        audio: where the recordings are: folders, archives (.tar, .zip) and indexes (.tsv) by `make_index`. A recording
            is found by its name, in whatever subfolder; what the protocol does not name is ignored.
        output: the TSV to write.
        expected: how many trials the release has; 0 = unknown.
        checksum: `md5:` or `sha256:` and the hex digest of the protocol's bytes; empty = unknown.

    Raises:
        ConfigError: names the file, the line and what to do.
    """
    trials = list(READERS[form](protocol, _read_lines(protocol, checksum)))
    _check(protocol, trials, expected)
    for trial in trials:
        ending = posixpath.splitext(trial.file)[1]
        if ending and ending.lower() not in ENDINGS:
            raise ConfigError(
                f"{protocol}, line {trial.line}: {trial.file}: {ending} is no format that is read ("
                f"{', '.join(ENDINGS)}); {convert(trial.file)}"
            )
    found = _find({t.file for t in trials}, audio)
    if missing := [t.file for t in trials if t.file not in found]:
        raise ConfigError(
            f"{protocol}: {len(missing)} of {len(trials)} recordings are not in {some([*map(str, audio)])}: "
            f"{some(missing)}"
        )
    places = [found[t.file] for t in trials]
    unknown = {path: trial.line for trial, (path, n_samples) in zip(trials, places, strict=True) if not n_samples}

    def count(path: str) -> int:
        try:
            return count_samples(path)
        except ConfigError as error:
            raise ConfigError(f"{protocol}, line {unknown[path]}: {error}") from None

    with ThreadPoolExecutor() as pool:
        counts = tqdm(pool.map(count, unknown), f"check {output.stem}", len(unknown), unit="file", disable=not unknown)
        lengths = dict(places) | dict(zip(unknown, counts, strict=True))
    table = pd.DataFrame(
        [
            (t.trial_id, path, t.label, t.speaker_id, t.attack_id, t.codec, lengths[path])
            for t, (path, _) in zip(trials, places, strict=True)
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


def _index(archive: Path) -> Iterator[tuple[str, str, int]]:
    for member, path in tqdm(archives.list_members(archive), f"index {archive.name}", unit="file", mininterval=2):
        # macOS puts a stub of each file beside it, under the file's name and ending
        if AUDIO.fullmatch(member) and not re.search(r"(^|/)(__MACOSX/|\._[^/]*$)", member):
            try:
                n_samples = count_samples(path)
            except ConfigError:
                n_samples = 0
            yield member, path, n_samples


def _find(wanted: set[str], sources: Sequence[Path]) -> dict[str, tuple[str, int]]:
    """Path and length (0: unknown yet) of the recordings called, or ending in a slash and, one of these names."""
    depths = {name.count("/") + 1 for name in wanted}
    found: dict[str, tuple[str, int]] = {}
    for source in sources:
        for member, path, n_samples in _recordings(source):
            parts = member.split("/")
            for name in wanted.intersection("/".join(parts[-depth:]) for depth in depths):
                if name in found:
                    raise ConfigError(
                        f"{name} is in two places: {found[name][0]} and {path}; set the corpus's `audio` to one of them"
                    )
                found[name] = path, n_samples
    return found


def _recordings(source: Path) -> Iterator[tuple[str, str, int]]:
    """Name, path and length (0: unknown) of all that a folder, an archive or an index has."""
    if source.is_dir():
        seen, tops = set(), [source]
        for top in tops:  # links last, each folder once: they may lead back, or to one folder twice
            for folder, folders, files in os.walk(top, onerror=_refuse_folder):
                status = Path(folder).stat()
                if (status.st_dev, status.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((status.st_dev, status.st_ino))
                tops += [Path(folder, name) for name in folders if Path(folder, name).is_symlink()]
                for file in files:
                    path = Path(folder, file).as_posix()
                    yield path, path, 0
    elif not source.exists():
        siblings = sorted(p.name for p in source.parent.glob(f"{source.stem}*"))
        hint = f"; there is {some(siblings)} beside it" if siblings else ""
        raise ConfigError(f"{source}: no such folder, archive or index of audio{hint}; correct the corpus's `audio`")
    elif source.suffix.lower() == ".tsv":
        table = read_table(
            source, INDEX_COLUMNS, dtype={"n_samples": int}, keep_default_na=False, quoting=csv.QUOTE_NONE
        )
        rows = list(zip(*(table[column].tolist() for column in INDEX_COLUMNS), strict=True))
        if rows and (parts := archives.split(rows[0][1])) and archives.state(parts[0]) != rows[0][-1]:
            raise ConfigError(f"{source}: {parts[0]} has changed since it was indexed; make the index again")
        yield from (row[:3] for row in rows)
    else:
        yield from _index(source)


def _refuse_folder(error: OSError) -> None:
    raise ConfigError(f"{error.filename}: cannot be read ({error.strerror}); its recordings may be needed")


def _read_lines(protocol: Path, checksum: str) -> list[str]:
    try:
        parts = archives.split(protocol)
        content = archives.read_member(*parts) if parts else protocol.read_bytes()
        _compare(protocol, content, checksum)
        text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except OSError as error:
        raise ConfigError(f"{protocol}: cannot be read ({error.strerror}); check the corpus's `protocol`") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{protocol}: not UTF-8 text ({error.reason}); is this the protocol?") from None
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _compare(protocol: Path, content: bytes, checksum: str) -> None:
    if not checksum:
        return
    algorithm, _, expected = checksum.partition(":")
    if algorithm not in CHECKSUMS:
        raise ConfigError(f"checksum {checksum!r}: expected {' or '.join(f'{name}:<hex>' for name in CHECKSUMS)}")
    digest = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if digest != expected.lower():
        raise ConfigError(
            f"{protocol}: its {algorithm} is {digest}, the release's is {expected}; fetch the protocol again"
        )


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
        yield Trial(number, row["file"], posixpath.normpath(row["file"]), row["label"], *extra)


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
