"""Scores and keys as other programs keep them: tables of text with a line for each trial.

The package of ASVspoof 5 separates by tabs and has a header; Speech DF Arena has scores between spaces without a header
and its key as CSV. All of them are read by one rule. Cells are separated by tabs, else by commas, else by spaces. With
a header, a column of names and one of scores or labels are found by what they are called, and others are left alone.
Without one there are two columns: name, and score or label. Every line is a trial, or an error that names the line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from spaarsist.artefacts import reject
from spaarsist.data.protocol import LABELS, UNFIT
from spaarsist.names import ConfigError

NAMES = ("filename", "file_name", "file", "trial_id")
SCORES = ("cm-score", "cm_score", "score")
KEYS = ("cm-label", "cm_label", "label")
"""What columns of names, scores and labels are called, in upper or lower case."""

SEPARATORS = ("\t", ",", " ")

LARGEST = 1e30
"""Of a score's size; sums of larger ones need not be finite."""

Value = TypeVar("Value", float, str)


def read_score_list(path: Path) -> dict[str, float]:
    """Read scores: name of a trial -> score, finite, in the file's order.

    Args:
        path: table of text, see above; `SCORES` name the column.

    Raises:
        ConfigError: it is no such table, or a line is none of its rows, has an empty name or one that was there before,
            or a score that is no finite number; names the line.

    Source: the evaluation package of ASVspoof 5; `utils/metrics.py` of github.com/Speech-Arena/speech_df_arena.
    """
    return _read(path, "score", SCORES, _score)


def read_key(path: Path) -> dict[str, str]:
    """Read a key: name of a trial -> bonafide or spoof, in the file's order.

    Args:
        path: table of text, see above; `KEYS` name the column. A trial list is one too.

    Raises:
        ConfigError: as of `read_score_list`; or a label is none of the two.
    """
    return _read(path, "label", KEYS, _label)


def refuse_strangers(scores: Path, scored: Collection[str], key: Path, listed: Collection[str]) -> None:
    """Refuse scores that are not those of a key's trials, each of them and no other.

    Args:
        scores, key: the files, for the message.
        scored, listed: names of their trials; sets or mappings.

    Raises:
        ConfigError: tells how many are missing or left over, and a few of both.
    """
    missing, surplus = ([n for n in one if n not in other] for one, other in ((listed, scored), (scored, listed)))
    others = f" (while {len(surplus)} are scored that it does not list, such as {surplus[0]})" if surplus else ""
    reject(missing, f"{scores}: trials of {key} not scored{others}")
    reject(surplus, f"{scores}: trials that {key} does not list")


def _score(text: str) -> float:
    try:
        value = math.nan if "_" in text else float(text)  # Python takes 1_0 for ten
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ValueError(f"the score is {text!r}, not a finite number (up to {LARGEST:g})")
    return value


def _label(text: str) -> str:
    label = "bonafide" if text == "bona-fide" else text  # so In-the-Wild spells it
    if label not in LABELS:
        raise ValueError(f"label {text!r}; expected bonafide or spoof")
    return label


def _read(path: Path, what: str, columns: Sequence[str], value: Callable[[str], Value]) -> dict[str, Value]:
    lines = _lines(path)
    separator, width, (of_name, of_value), start = _form(path, lines[0], what, columns, value)
    found: dict[str, Value] = {}
    for number, line in enumerate(lines[start:], start=start + 1):
        cells = _cells(line, separator) if '"' in line else line.split(separator)
        if cells is None:
            raise ConfigError(f"{path}, line {number}: a quote that opens a cell must close it on the same line")
        if len(cells) != width:
            raise ConfigError(f"{path}, line {number}: not {width} columns, as in line 1, but {len(cells)}")
        name = cells[of_name]
        if not name or '"' in name or UNFIT.search(name):
            raise ConfigError(f"{path}, line {number}: {name!r} is no name: empty, or has a quote or a tab within it")
        if name in found:
            first = [*found].index(name) + start + 1
            raise ConfigError(f"{path}, line {number}: {name} was already on line {first}; keep one of them")
        try:
            found[name] = value(cells[of_value])
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from None
    if not found:
        raise ConfigError(f"{path}: no trials")
    return found


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip("\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if not text:
        raise ConfigError(f"{path}: no trials")
    return text.split("\n")


def _form(
    path: Path, first: str, what: str, columns: Sequence[str], value: Callable[[str], Value]
) -> tuple[str, int, tuple[int, int], int]:
    """What the first line says: separator, number of columns, places of name and value, and lines of header."""
    for separator in SEPARATORS:
        cells = _cells(first, separator) or []
        header = [cell.strip().lower() for cell in cells]
        places = [[place for place, name in enumerate(header) if name in known] for known in (NAMES, columns)]
        if all(places):
            if twice := next((found for found in places if len(found) > 1), None):
                several = ", ".join(cells[place] for place in twice)
                raise ConfigError(f"{path}, line 1: which column is meant, of {several}? Rename all but one")
            return separator, len(cells), (places[0][0], places[1][0]), 1
        if len(cells) == 2:
            try:
                value(cells[1])
            except ValueError:
                continue
            return separator, 2, (0, 1), 0
    raise ConfigError(
        f"{path}, line 1: expected a header with {' or '.join(NAMES)} and with {' or '.join(columns)}, or a name and a "
        f"{what} without header; it reads {first[:80]!r}"
    )


def _cells(line: str, separator: str) -> list[str] | None:
    """Cells of a line, which may stand in double quotes; None if a quote is not closed."""
    try:
        (cells,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error:
        return None
    return cells
