"""Protocols: the official trial lists of each corpus -> one checked trial list.

The trial list is a TSV with the header `trial_id, path, label, speaker_id, attack_id, codec, n_samples`: official
order, unique ids, label bonafide or spoof, `-` where a protocol says nothing (of labels: for all trials or for none),
n_samples at 16 kHz; every file exists, is named once, and has a sound header. No cell is empty. Before n_samples stands
`vocoder` where the protocol names those of attacks.

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
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
from tqdm import tqdm

from spaarsist.artefacts import TRIAL_COLUMNS as COLUMNS
from spaarsist.artefacts import VOCODER_COLUMNS, distinct, read_table, some, trial_rows, writing
from spaarsist.data import archives
from spaarsist.data.audio import ENDINGS, convert, count_samples
from spaarsist.names import ConfigError

Format = Literal["asvspoof5", "asvspoof2019", "asvspoof2021", "in_the_wild", "list"]
SUBSETS = ("progress", "eval", "hidden")
"""Parts of an ASVspoof 2021 protocol."""

INDEX_COLUMNS = ("member", "path", "n_samples", "archive")
LABELS = ("bonafide", "spoof")
NO_LABEL = "-"
N_SAMPLES = re.compile(r"[0-9]{1,15}")
AUDIO = re.compile(rf"[^\t\n\r\ud800-\udfff]+({'|'.join(map(re.escape, ENDINGS))})", re.IGNORECASE)
"""Names of recordings; no protocol can hold a tab, a line break or what is not UTF-8 text."""

UNFIT = re.compile(r"[\t\n\r\0\ud800-\udfff]")
"""What no cell of a trial list has: it would end the cell or the line, or is no text."""

CHECKSUMS = ("md5", "sha256")
NEAR = 0.8
"""Likeness of two column names, as difflib has it, from which one may stand for the other: a letter of five."""


class Trial(NamedTuple):
    """One row of a protocol, before its audio has been looked at, or of a trial list."""

    line: int
    trial_id: str
    file: str
    label: str
    speaker_id: str = "-"
    attack_id: str = "-"
    codec: str = "-"
    vocoder: str = "-"


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
    protocol: Path,
    form: Format,
    audio: Sequence[Path],
    output: Path,
    expected: int = 0,
    checksum: str = "",
    subset: str = "",
) -> pd.DataFrame:
    """Turn a protocol and its recordings into a trial list, and write it.

    Args:
        protocol: the official file, or `archive::member` (.tar, .tar.gz, .zip). `asvspoof5`: ten columns between single
            spaces, no header. `asvspoof2019`: the five of its logical access. `asvspoof2021`: `trial_metadata.txt` of
            the keys, LA (eight columns) or DF (thirteen). `in_the_wild`: `meta.csv` with the header
            `file,speaker,label`. `list`: comma or tab separated, a header with at least `file`, and `label` unless the
            list is for scoring alone, and optionally `speaker, attack, codec`; cells may stand in double quotes, which
            close on their line.
        audio: where the recordings are: folders, archives (.tar, .zip) and indexes (.tsv) by `make_index`. A recording
            is found by its name, in whatever subfolder; what the protocol does not name is ignored.
        output: the TSV to write.
        expected: how many trials the release has; 0 = unknown.
        checksum: `md5:` or `sha256:` and the hex digest of the protocol's bytes; empty = unknown.
        subset: of `asvspoof2021`, one of `SUBSETS`; empty = all.

    Raises:
        ConfigError: names the file, the line and what to do.
    """
    distinct([output], [(archives.split(protocol) or [protocol])[0], *audio])
    if subset and (form != "asvspoof2021" or subset not in SUBSETS):
        raise ConfigError(f"subset {subset!r} of {form}: there are {', '.join(SUBSETS)}, of asvspoof2021 alone")
    chosen = (subset,) if subset else ()
    trials = list(READERS[form](protocol, _read_lines(protocol, checksum), *chosen))
    _check(protocol, trials, expected)
    for trial in trials:
        ending = posixpath.splitext(trial.file)[1]
        if ending and ending.lower() not in ENDINGS:
            raise ConfigError(
                f"{protocol}, line {trial.line}: {trial.file}: {ending} is no format that is read ("
                f"{', '.join(ENDINGS)}); {convert(trial.file)}"
            )
    found, alike = _find({t.file for t in trials}, audio)
    if missing := [t.file for t in trials if t.file not in found]:
        raise ConfigError(
            f"{protocol}: {len(missing)} of {len(trials)} recordings{_hint(protocol, missing, alike)} are not in "
            f"{some([*map(str, audio)])}: {some(missing)}"
        )
    first: dict[str, Trial] = {}
    for trial in trials:
        path = found[trial.file][0]
        _check_fit(f"{protocol}, line {trial.line}", [path])
        if (other := first.setdefault(path, trial)) is not trial:
            raise ConfigError(
                f"{protocol}, line {trial.line}: {trial.trial_id} is the recording that line {other.line} calls "
                f"{other.trial_id} ({path}); name it once"
            )
    distinct([output], [Path(path) for path in first if path.endswith(output.name)])
    if trials[0].label == NO_LABEL:
        tqdm.write(
            f"{protocol}: no column label, so the trials can be scored, not trained on or evaluated", file=sys.stderr
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
    rows = [(t.trial_id, path, *t[3:], lengths[path]) for t, (path, _) in zip(trials, places, strict=True)]
    return _write(rows, output)


def read_trials(path: Path, *, both_classes: bool = False) -> pd.DataFrame:
    """Read a trial list made by `make_trials`.

    Args:
        path: the list.
        both_classes: it is for training or evaluation, which need bona fide and spoof trials.

    Returns:
        Its columns, a row per trial: texts, but for n_samples.

    Raises:
        ConfigError: it is missing, not such a list (names the line), or lacks a class that is needed.
    """
    columns, *rows = trial_rows(path)
    trials = [Trial(i, *row[:-1]) for i, row in enumerate(rows, start=2)]
    _check(path, trials, 0)
    for trial, row in zip(trials, rows, strict=True):
        if not N_SAMPLES.fullmatch(row[-1]):
            raise ConfigError(
                f"{path}, line {trial.line}: n_samples is {row[-1]!r}, not a whole number; make the list again"
            )
    table = pd.DataFrame(rows, columns=columns)
    if both_classes:
        if trials[0].label == NO_LABEL:
            raise ConfigError(f"{path}: no labels, which this needs; make it from a protocol that has them")
        if absent := {*LABELS}.difference(table["label"]):
            raise ConfigError(f"{path}: no {absent.pop()} trials; training and evaluation need both classes")
    return table.astype({"n_samples": int})


def write_key(labels: Mapping[str, str], output: Path) -> None:
    """Write a key (name of a trial -> label, see `spaarsist.data.score_lists`) as a trial list without recordings."""
    _write([(name, "-", label, "-", "-", "-", "-", 0) for name, label in labels.items()], output)


def _write(rows: Sequence[tuple], output: Path) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=VOCODER_COLUMNS)
    if (table["vocoder"] == "-").all():
        table = table[[*COLUMNS]]
    with writing(output) as path:
        table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)
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


def _find(wanted: set[str], sources: Sequence[Path]) -> tuple[dict[str, tuple[str, int]], dict[str, str]]:
    """Path and length (0: unknown yet) of the recordings called, or ending in a slash and, one of these names.

    And of the other recordings, by `_likeness`, the first that could have been meant.
    """
    depths = {name.count("/") + 1 for name in wanted}
    like_wanted = {_likeness(name) for name in wanted}
    found: dict[str, tuple[str, int]] = {}
    alike: dict[str, str] = {}
    for source in sources:
        for member, path, n_samples in _recordings(source):
            parts = member.split("/")
            names = wanted.intersection("/".join(parts[-depth:]) for depth in depths)
            for name in names:
                if name in found:
                    same = os.path.realpath(found[name][0]) == os.path.realpath(path)
                    why = ", which are one file: it is given twice, or lies in two that are given" if same else ""
                    raise ConfigError(
                        f"{name} is in two places: {found[name][0]} and {path}{why}; set the corpus's `audio` to one "
                        "of them"
                    )
                found[name] = path, n_samples
            if not names and (likeness := _likeness(member)) in like_wanted:
                alike.setdefault(likeness, member)
    return found, alike


def _likeness(name: str) -> str:
    """What stays of a name without folders, ending, case and Unicode form."""
    base = name.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    stem = posixpath.splitext(base)[0] if AUDIO.fullmatch(base) else base
    return unicodedata.normalize("NFC", stem).casefold()


def _hint(protocol: Path, missing: Sequence[str], alike: Mapping[str, str]) -> str:
    """Why recordings that could be there are not found, shown for the first such."""
    for name in missing:
        if near := alike.get(_likeness(name)):
            bases = [text.rpartition("/")[2] for text in (name, near)]
            same = len({unicodedata.normalize("NFC", base) for base in bases}) < len({*bases})
            form = ", in another Unicode form" if same else ""
            return f" (for {name} there is {near}{form}: write it so, with its folders or without)"
        if (protocol.parent / name).is_file():
            return f" ({name} exists, but elsewhere: add its folder to `audio`)"
    return ""


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
    return text.rstrip("\n").split("\n") if text.strip("\n") else []


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


def _read_asvspoof2019(protocol: Path, lines: list[str]) -> Iterator[Trial]:
    for number, fields in _fields(protocol, lines, "the protocols of logical access (LA)", (5,)):
        speaker, name, environment, attack, key = fields
        if environment != "-":
            raise ConfigError(
                f"{protocol}, line {number}: environment {environment!r}, as in physical access (PA); LA alone is read"
            )
        yield Trial(number, name, f"{name}.flac", key, speaker, _attack(protocol, number, key, attack))


def _read_asvspoof2021(protocol: Path, lines: list[str], subset: str = "") -> Iterator[Trial]:
    subsets = set()
    for number, fields in _fields(protocol, lines, "CM/trial_metadata.txt of the keys, LA or DF", (8, 13)):
        speaker, name, codec, _, attack, key, _, part, *more = fields
        if part not in SUBSETS:
            raise ConfigError(f"{protocol}, line {number}: subset {part!r}; expected one of {', '.join(SUBSETS)}")
        subsets.add(part)
        if part == (subset or part):
            vocoder = more[0] if more and key != "bonafide" else "-"
            attack = _attack(protocol, number, key, attack)
            yield Trial(number, name, f"{name}.flac", key, speaker, attack, codec, vocoder)
    if subset and subset not in subsets:
        raise ConfigError(f"{protocol}: no trials of {subset}; it has {', '.join(sorted(subsets)) or 'none at all'}")


def _fields(protocol: Path, lines: list[str], which: str, widths: tuple[int, ...]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells, between single spaces, of a protocol without a header; all lines have as many."""
    for number, line in enumerate(lines, start=1):
        fields = line.split(" ")
        if len(fields) not in widths or len(fields) != len(lines[0].split(" ")):
            raise ConfigError(
                f"{protocol}, line {number}: {len(fields)} columns between single spaces instead of "
                f"{' or '.join(map(str, widths))}, in all lines as many; take {which}"
            )
        yield number, fields


def _attack(protocol: Path, number: int, key: str, attack: str) -> str:
    """Name of an attack; releases write bonafide or - for none."""
    if (key == "bonafide") != (attack in ("-", "bonafide")):
        raise ConfigError(f"{protocol}, line {number}: key {key!r} and attack {attack!r} contradict each other")
    return "-" if key == "bonafide" else attack


def _read_in_the_wild(protocol: Path, lines: list[str]) -> Iterator[Trial]:
    labels = {"bona-fide": "bonafide"}
    for number, row in _read_table(protocol, lines, ",", ("file", "speaker", "label")):
        label = labels.get(row["label"], row["label"])
        yield Trial(number, row["file"], row["file"], label, row["speaker"] or "-")


def _read_list(protocol: Path, lines: list[str]) -> Iterator[Trial]:
    separator = "\t" if lines and "\t" in lines[0] else ","
    optional = ("label", "speaker", "attack", "codec")
    for number, row in _read_table(protocol, lines, separator, ("file",), optional):
        label, *extra = (row.get(column, "-") for column in optional)
        if label == NO_LABEL and "label" in row:
            label = ""
        yield Trial(number, row["file"], posixpath.normpath(row["file"]), label, *(cell or "-" for cell in extra))


def _read_table(
    protocol: Path, lines: list[str], separator: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row of a table; every line is a row, whatever is quoted in it."""

    def split(number: int, line: str) -> list[str]:
        try:
            (cells,) = csv.reader([line], delimiter=separator, strict=True)
        except csv.Error as error:
            raise ConfigError(
                f"{protocol}, line {number}: no row of cells ({error}); a quote that opens a cell must close it on the "
                "same line"
            ) from None
        return cells

    header = split(1, lines[0]) if lines else []
    # The first word: where a line break was lost, the first row goes on in the header
    meant = {(column.split() or [""])[0].lower().removesuffix("_id"): column for column in header}
    known = (*needed, *optional)
    others = [column for column in header if column not in known]
    for column in known:
        if column not in header and column in meant:
            raise ConfigError(f"{protocol}, line 1: column {meant[column]!r} is to be called {column}")
        if column not in header and (close := get_close_matches(column, others, 1, NEAR)):
            raise ConfigError(
                f"{protocol}, line 1: column {close[0]!r} is nearly {column}, which is missing; rename it"
            )
        if header.count(column) > 1:
            raise ConfigError(f"{protocol}, line 1: {header.count(column)} columns are called {column}; keep one")
    if absent := [column for column in needed if column not in header]:
        raise ConfigError(f"{protocol}, line 1: the header lacks {', '.join(absent)}; it reads {', '.join(header)!r}")
    for number, line in enumerate(lines[1:], start=2):
        cells = split(number, line)
        if len(cells) != len(header):
            raise ConfigError(f"{protocol}, line {number}: not {len(header)} columns, as in line 1, but {len(cells)}")
        yield number, dict(zip(header, cells, strict=True))


READERS = {
    "asvspoof5": _read_asvspoof5,
    "asvspoof2019": _read_asvspoof2019,
    "asvspoof2021": _read_asvspoof2021,
    "in_the_wild": _read_in_the_wild,
    "list": _read_list,
}


def _check(source: Path, trials: list[Trial], expected: int) -> None:
    """Refuse what no trial list can hold, and what would be another thing once it is read back."""
    if not trials:
        raise ConfigError(f"{source}: no trials")
    labels = (NO_LABEL,) if all(trial.label == NO_LABEL for trial in trials) else LABELS
    seen: dict[str, int] = {}
    for trial in trials:
        line, *cells = trial
        if not (trial.trial_id and trial.file):
            raise ConfigError(f"{source}, line {line}: an empty name")
        if trial.label not in labels:
            raise ConfigError(f"{source}, line {line}: label {trial.label!r}; expected bonafide or spoof")
        if not all(cells):
            raise ConfigError(f"{source}, line {line}: an empty cell; write - for what is not known")
        together = "".join(cells)
        if '"' in together or UNFIT.search(together):
            _check_fit(f"{source}, line {line}", cells)
        if trial.trial_id in seen:
            raise ConfigError(f"{source}, line {line}: {trial.trial_id} was already on line {seen[trial.trial_id]}")
        seen[trial.trial_id] = line
    if expected and len(trials) != expected:
        raise ConfigError(f"{source}: {len(trials)} trials, the release has {expected}; fetch the protocol again")


def _check_fit(where: str, cells: Iterable[str]) -> None:
    for cell in cells:
        if UNFIT.search(cell):
            raise ConfigError(f"{where}: {cell!r} has a tab or line break within it, or is no text; rename it")
        if len(cell) > 1 and cell[0] == cell[-1] == '"':
            raise ConfigError(f"{where}: {cell} has quotes around it, as spreadsheets set them; take them away")
