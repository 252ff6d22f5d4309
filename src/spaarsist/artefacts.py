"""What every file made here shares: it appears whole or not at all, and it says how it was made."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaarsist.code import meaning
from spaarsist.names import ConfigError, System, system_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow
    import torch

SCORE_METADATA = b"spaarsist"
"""Key under which a score file (Parquet) holds JSON on how it was made."""

DECIDES_SCORES = ("experiments.train.train", "experiments.score.score")
"""Roots of the code that checkpoints and scores rest on: one hash for both, so that they can be compared."""

TRIAL_COLUMNS = ("trial_id", "path", "label", "speaker_id", "attack_id", "codec", "n_samples")
"""Header of a trial list (see `spaarsist.data.protocol`)."""

VOCODER_COLUMNS = (*TRIAL_COLUMNS[:-1], "vocoder", TRIAL_COLUMNS[-1])
"""Header of one whose protocol names vocoders, as ASVspoof 2021 DF does."""

RECORD, WEIGHTS = "model.json", "model.safetensors"
"""Files of a checkpoint."""

CALIBRATION = "calibration.tsv"
"""File of `calibrate` that may lie beside these, so that thresholds go with a checkpoint."""

WEIGHTS_HASH, RECORD_HASH = "weights_sha256", "record_sha256"
"""Keys of a checkpoint's record: `tensors_hash` of its weights, and SHA-256 of the record itself, see `sealed`."""

REPORTED_PACKAGES = (
    "torch", "torchaudio", "transformers", "accelerate", "numpy", "scipy", "soundfile", "soxr", "librosa",
    "audiomentations",
)  # fmt: skip


@contextmanager
def writing(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `target` that takes its name once the block ends without an error.

    Works for a file (the block writes it) and for a folder (the block makes it); an existing folder is replaced. After
    an error nothing is left behind and an older `target` is untouched. The temporary name keeps the ending, since many
    writers choose the format by it, and has host and pid: no two processes write to one. What killed processes of this
    host have left is removed.
    """
    target = _named(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    own = f".{target.stem}.{platform.node()}-"
    for left in target.parent.glob(f"{glob.escape(own)}*.part{glob.escape(target.suffix)}*"):
        pid = left.name.removeprefix(own).partition(".")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            _remove(left)
    temporary = _temporary(target)
    _remove(temporary)  # of a killed process that had this one's number
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            replaced = target.with_name(f"{temporary.name}.old")
            target.replace(replaced)
            temporary.replace(target)
            shutil.rmtree(replaced)
        else:
            temporary.replace(target)
    except Exception as error:
        if failure := _failure_to_write(error):
            raise OSError(failure, os.strerror(failure), str(target)) from error
        raise
    finally:
        _remove(temporary)


def distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write over what is read or over a folder that holds it, or two results into one file.

    Raises:
        ConfigError: names the file.
    """
    read = [os.path.realpath(path) for path in inputs]
    places = {*read}
    for output in outputs:
        if (place := os.path.realpath(output)) in places:
            raise ConfigError(f"{output}: this command reads it, or writes it twice; give the output another name")
        if any(path.startswith(f"{place}{os.sep}") for path in read):
            raise ConfigError(f"{output}: holds what this command reads, and would be replaced; name another folder")
        places.add(place)


def _named(target: str | Path) -> Path:
    """The same place by a path that ends in its name, which `.` and `..` do not."""
    target = Path(target) if Path(target).name not in ("", "..") else Path(target).resolve()
    if not target.name:
        raise ConfigError(f"{target}: is where all folders begin; name one in it")
    return target


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.stem}.{platform.node()}-{os.getpid()}.part{target.suffix}")


def _failure_to_write(error: BaseException | None) -> int | None:
    """The errno of a disk that takes no more, wherever in an error's causes, or its text, a library has put it."""
    while error is not None:
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refuse_unwritable(target: str | Path, *, folder: bool = False) -> None:
    """See that a file, or a folder, can be written at `target`, before the work whose result goes there.

    It leaves no trace.

    Raises:
        ConfigError: something else lies there or on the way to it, or the disk takes nothing (full, read-only, not
            permitted, a name too long for it).
    """
    target = _named(target)
    try:
        if target.is_dir() and not folder:
            raise ConfigError(f"{target}: is a folder, and a file is to be written; name a file in it")
        if target.exists() and not (target.is_dir() if folder else target.is_file()):
            kind = "a file, and a folder is to be written" if target.is_file() else "a device or pipe, not a file"
            raise ConfigError(f"{target}: is {kind}; name another place")
        there = next(path for path in target.absolute().parents if path.exists())
        if not there.is_dir():
            raise ConfigError(f"{target}: cannot be written below {there}, which is a file; name another place")
        (there / _temporary(target).name).exists()  # raises if the name is too long
        for place in {there, target} if target.is_dir() else {there}:
            with tempfile.TemporaryFile(dir=place) as stream:
                stream.write(bytes(4096))  # on a full disk a file may still be made, but not filled
    except OSError as error:
        raise ConfigError(
            f"{target}: cannot be written ({error.strerror}); free its disk, allow it, or name another place"
        ) from None


@contextmanager
def locked(target: Path, *, folder: bool = False) -> Iterator[None]:
    """Let one process at a time make `target`, a file or a folder, where what lies there already is gone on from.

    A file `.<name>.lock` beside it says which process of which host that is, and is touched while it lives. The lock of
    a process that is gone is taken over: on this host at once, on another one if it stays untouched for
    `GONE_AFTER_S`. A SIGTERM ends the process in order, unless it is answered already, and so gives the lock back.

    Raises:
        ConfigError: another process makes it (the message names host and pid), or it cannot be written.
    """
    target = _named(target)
    refuse_unwritable(target, folder=folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    while True:
        try:
            with lock.open("x", encoding="utf-8") as stream:
                json.dump({"host": platform.node(), "pid": os.getpid(), "boot": _boot()}, stream)
            break
        except FileExistsError:
            _take_over(lock, target)
    ended = threading.Event()
    alive = threading.Thread(target=_stay_alive, args=(lock, ended), daemon=True)
    alive.start()
    mine = threading.current_thread() is threading.main_thread()
    if unanswered := mine and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        if unanswered:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ended.set()
        alive.join()
        lock.unlink(missing_ok=True)


TOUCH_EVERY_S, GONE_AFTER_S = 20, 120


def _stay_alive(lock: Path, ended: threading.Event) -> None:
    while not ended.wait(TOUCH_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(lock)


def _take_over(lock: Path, target: Path) -> None:
    """Remove the lock of a process that is gone; one that lives is not disturbed."""
    try:
        held, touched = json.loads(lock.read_text(encoding="utf-8")), lock.stat().st_mtime_ns
        host, pid, boot = held["host"], int(held["pid"]), held["boot"]
    except FileNotFoundError:  # given back in this moment
        return
    except (ValueError, KeyError, TypeError):  # not yet written, or never to be
        host, pid, boot, touched = "another host", "unknown", "", lock.stat().st_mtime_ns
    if host == platform.node():
        gone = boot != _boot() or not _is_alive(pid)
    else:
        print(f"{target}: locked by a process of {host}; seeing whether it lives", file=sys.stderr)
        until = time.monotonic() + GONE_AFTER_S
        while time.monotonic() < until and lock.exists() and lock.stat().st_mtime_ns == touched:
            time.sleep(min(1, GONE_AFTER_S / 10))
        gone = not lock.exists() or lock.stat().st_mtime_ns == touched
    if not gone:
        raise ConfigError(f"{target}: is being made by process {pid} on {host}; wait for it, or end it and call again")
    with contextlib.suppress(FileNotFoundError):  # of two that find it, one renames it
        lock.rename(lock.with_name(f"{lock.name}.{os.getpid()}")).unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # gone, or no process could ever have that number
        return False
    except PermissionError:
        pass
    return True


def _boot() -> str:
    """What tells this start of the machine from others, after which process numbers begin anew."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def file_hash(path: str | Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def trials_hash(trial_list: str | Path) -> str:
    """Hex digest (sha256) of a trial list's content: its lines without the column `path`.

    So it is the same wherever the recordings lie. `cut -f1,3- <trial list> | sha256sum` gives it too, of a list as
    `spaarsist trials` writes it; the byte order mark and line ends of other editors change nothing.

    Raises:
        ConfigError: the file is missing or no trial list.
    """
    digest = hashlib.sha256()
    for trial_id, _path, *rest in trial_rows(trial_list):
        digest.update("\t".join([trial_id, *rest]).encode() + b"\n")
    return digest.hexdigest()


def trial_rows(trial_list: str | Path) -> Iterator[list[str]]:
    """Cells of a trial list, as they stand there, a row for each line: first `TRIAL_COLUMNS` or `VOCODER_COLUMNS`.

    Raises:
        ConfigError: the file is missing, no UTF-8 text, or has another header or, in a line, another number of columns.
    """
    header, blank = None, 0
    try:
        with Path(trial_list).open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                row = line.rstrip("\r\n").split("\t")
                if number == 1 and tuple(header := row) not in (TRIAL_COLUMNS, VOCODER_COLUMNS):
                    break
                if row == [""]:  # nothing, if it is the end
                    blank = blank or number
                elif blank or len(row) != len(header):
                    raise ConfigError(
                        f"{trial_list}, line {blank or number}: not {len(header)} columns; make the list again"
                    )
                else:
                    yield row
    except OSError as error:
        raise ConfigError(f"{trial_list}: not readable as a trial list ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{trial_list}: not readable as a trial list ({error.reason}); save it as UTF-8") from None
    if tuple(header or ()) not in (TRIAL_COLUMNS, VOCODER_COLUMNS):
        raise ConfigError(
            f"{trial_list}: a trial list has the columns {', '.join(TRIAL_COLUMNS)}; make it with `spaarsist trials`"
        )


def tensors_hash(state: Mapping[str, torch.Tensor]) -> str:
    """Hex digest (sha256) of a state dict: names, shapes, types and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # As bytes, since numpy has no bfloat16, to which weights may have been cast
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON gives it back, with the SHA-256 of its canonical JSON (sorted keys) under `RECORD_HASH`."""
    content = json.loads(json.dumps({key: value for key, value in record.items() if key != RECORD_HASH}))
    return content | {RECORD_HASH: hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a training, the `model.json` in a checkpoint's folder, as the training wrote it.

    Raises:
        ConfigError: there is none (the message names those in the folders below), or it is damaged, edited, or of a
            version that wrote no hashes.
    """
    anew = "bring the original back, or delete the folder and train anew"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{path.parent}: not a checkpoint: no {path.name} in it{_near(path.parent)}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path}: damaged, for it is not JSON; {anew}") from None
    if not isinstance(record, dict):
        raise ConfigError(f"{path}: damaged, for it is no mapping of keys to values; {anew}")
    if not {RECORD_HASH, WEIGHTS_HASH} <= record.keys():
        raise ConfigError(
            f"{path}: holds no {RECORD_HASH} and {WEIGHTS_HASH}, as records of this version do, so nothing shows "
            "whether it belongs to the weights; train anew, or seal it as docs/own-audio.md says under Old checkpoints"
        )
    if record[RECORD_HASH] != sealed(record)[RECORD_HASH]:
        raise ConfigError(f"{path}: not as the training wrote it (edited or damaged); {anew}")
    return record


def _near(folder: Path) -> str:
    """What a folder without a record is, and where there are some."""
    if below := sorted(path.parent.relative_to(folder).as_posix() for path in folder.glob(f"*/{RECORD}")):
        return f"; there are checkpoints below it: {some(below)}; name one"
    if (folder / "last").exists():
        return "; its training has not ended: call `train` again to go on"
    return ""


def read_metadata(scores: str | Path) -> dict[str, Any]:
    """What a score file says about itself: the JSON under its metadata key.

    Raises:
        ConfigError: it is no Parquet file, or system, seed or corpus is missing or not of its type.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(scores)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ConfigError(
            f"{scores}: not readable as a score file (not a readable Parquet file: {_first_line(error)}); "
            "`spaarsist import-scores` takes the official TSV"
        ) from None
    try:
        about = json.loads((schema.metadata or {})[SCORE_METADATA])
        for key, kind in {"system": str, "seed": int, "corpus": str}.items():
            if type(about[key]) is not kind:  # a bool is an int
                raise TypeError(f"{key} is {about[key]!r}")
        for key in ("trained_with", "provenance"):
            if not isinstance(about.get(key, {}), dict):
                raise TypeError(f"{key} is {about[key]!r}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{scores}: expected system, seed and corpus in JSON under the metadata key "
            f"{SCORE_METADATA.decode()} ({error!r})"
        ) from None
    return about


def read_parquet(path: str | Path, columns: Sequence[str] | None = None) -> pyarrow.Table:
    """Read a Parquet file, or these columns of it, whole and sound.

    Raises:
        ConfigError: it is missing, no Parquet file, or damaged.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read(columns)
            if len(table) != file.metadata.num_rows:
                raise ValueError(f"{len(table)} of {file.metadata.num_rows} rows")
        table.validate(full=True)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise ConfigError(
            f"{path}: not readable as Parquet, or damaged ({_first_line(error)}); remove it and make it again"
        ) from None
    return table


def read_scores(path: str | Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read a score file.

    Args:
        path: Parquet: `trial_id` and one column of numbers per variant (nats, higher = more bona fide); its metadata
            holds at least system, seed and corpus.

    Returns:
        The metadata; the scores, finite, as they are stored: a row per trial, index `trial_id` (texts, unique), a
        column per variant.

    Raises:
        ConfigError: the file is not of that form or damaged, names no known variant, has no trials or one of them
            twice, or a score is no finite number.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    about = read_metadata(path)
    table = read_parquet(path)
    columns = [name for name in table.column_names if name != "trial_id"]
    if len(columns) != len(table.column_names) - 1 or not columns or len({*columns}) < len(columns):
        raise ConfigError(f"{path}: expected trial_id and one column per variant; found {table.column_names}")
    for column in columns:
        try:
            System.parse(system_name(about["system"], column))
        except ConfigError as error:
            raise ConfigError(f"{path}: column {column!r} of {about['system']}: {error}") from None
        if not (pa.types.is_floating(kind := table.schema.field(column).type) or pa.types.is_integer(kind)):
            raise ConfigError(f"{path}: column {column!r} holds {kind}; scores are numbers: make the file again")
    ids = table["trial_id"]
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(ids.type.value_type)
    if not any(known(ids.type) for known in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)):
        raise ConfigError(f"{path}: trial_id holds {ids.type}; expected texts, as in the trial list")
    if not len(ids) or ids.null_count:
        raise ConfigError(f"{path}: {'a trial without an id' if len(ids) else 'no trials'}; make the file again")
    ids = pd.Index(ids.cast(pa.string()).to_pandas(), name="trial_id")
    frame = table.select(columns).to_pandas().set_axis(ids)
    reject(ids[ids.duplicated()], f"{path}: trials scored more than once")
    reject(ids[ids.str.contains(r"[\t\r\n]")], f"{path}: trial ids with a tab or a line break")
    reject(ids[~np.isfinite(frame).all(axis=1)], f"{path}: trials with a NaN or infinite score")
    return about, frame


def reject(ids: Iterable[str], complaint: str) -> None:
    """Raise `ConfigError` with the number of these trials and the first few of their ids, if there are any."""
    if ids := list(ids):
        raise ConfigError(f"{complaint}: {len(ids)}, e.g. {', '.join(ids[:5])}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__


def read_table(
    path: str | Path,
    columns: Sequence[str],
    texts: Sequence[str] = (),
    numbers: Sequence[str] = (),
    **options: Any,
) -> pd.DataFrame:
    """Read a TSV that must hold these columns; `options` go to `pandas.read_csv`.

    Args:
        path: the TSV.
        columns: those it must hold.
        texts: those of them that are empty in no row.
        numbers: those of them that hold a finite number in every row.

    Raises:
        ConfigError: it is unreadable, columns are missing or there twice, a row is longer than the header, or a text or
            number is missing; named, with the line.
    """
    import numpy as np
    import pandas as pd

    try:
        with Path(path).open(encoding="utf-8") as lines:
            header = lines.readline().rstrip("\n").split("\t")
        table = pd.read_csv(path, sep="\t", **options)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: not a readable TSV ({_first_line(error)})") from None
    if absent := [column for column in columns if column not in table]:
        raise ConfigError(f"{path}: columns missing: {', '.join(absent)}")
    if twice := [column for column in columns if header.count(column) > 1]:
        raise ConfigError(f"{path}: two columns are called {twice[0]}; remove the file and make it again")
    if not isinstance(table.index, pd.RangeIndex):
        raise ConfigError(f"{path}: rows have more columns than the header; remove the file and make it again")
    for column in (*texts, *numbers):
        cells, sound = table[column], table[column].notna().to_numpy()
        if column in numbers:
            sound = np.isfinite(pd.to_numeric(cells.astype(object), errors="coerce").to_numpy(float))
            sound &= cells.dtype != bool
        if not sound.all():
            row, kind = int(sound.argmin()), "a finite number" if column in numbers else "a text"
            raise ConfigError(
                f"{path}, line {row + 2}: {column} is {cells.iloc[row]}, not {kind}; remove the file and make it again"
            )
    return table


def write_provenance(scores: Sequence[Path], output: Path, config_hash: str) -> None:
    """Write JSON on what results rest on; the same score files give the same bytes.

    Keys: `training_code` and `scoring_code` (class of the back-end -> hashes, see `provenance`), `config_hash`,
    `seeds`, `trainings`, `not_deterministic` (trainings that may not repeat themselves), `corpora` (name -> hashes of
    its trial list) and `versions` (package, Python or platform -> versions in training and scoring); hashes, seeds and
    versions are sorted lists, for score files may differ. What a file does not say is `unknown`.

    Args:
        scores: the score files that the results rest on.
        output: JSON to write.
        config_hash: of the configuration, from whoever knows it.

    Raises:
        ConfigError: there is no score file, or one is not readable as such.
    """
    if not scores:
        raise ConfigError("no score file given to tell the provenance of")
    made = [read_metadata(path) for path in scores]
    steps = [(about.get("trained_with") or {}, about.get("provenance") or {}) for about in made]
    versions: dict[str, set[str]] = {}
    for step in (step for pair in steps for step in pair):
        for name in step.keys() - {"code_hash"}:
            versions.setdefault(name, set()).add(str(step[name]))
    trial_lists: dict[str, set[str]] = {}
    for about in made:
        trial_lists.setdefault(about["corpus"], set()).add(about.get("trial_list", "unknown"))
    code: dict[str, dict[str, set[str]]] = {"training_code": {}, "scoring_code": {}}
    for about, pair in zip(made, steps, strict=True):
        for key, step in zip(code, pair, strict=True):
            code[key].setdefault(about.get("backend", "unknown"), set()).add(step.get("code_hash", "unknown"))
    record = {
        **{key: {kind: sorted(hashes[kind]) for kind in sorted(hashes)} for key, hashes in code.items()},
        "config_hash": config_hash,
        "seeds": sorted({about["seed"] for about in made}),
        "trainings": sorted({about["system"] for about in made}),
        "not_deterministic": sorted({about["system"] for about in made if not about.get("deterministic", True)}),
        "corpora": {name: sorted(trial_lists[name]) for name in sorted(trial_lists)},
        "versions": {name: sorted(versions[name]) for name in sorted(versions)},
    }
    with writing(output) as path:
        path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def footer(provenance: Path | None) -> str:
    """One line on how a table was made: code, configuration, seeds, corpora, versions; date (UTC) and this machine.

    Args:
        provenance: file of `write_provenance`; without one the line names this package's code, date and machine alone.

    Raises:
        ConfigError: the file is unreadable.
    """
    parts = [f"Table by code {meaning()}"]
    if provenance is not None:
        try:
            record = json.loads(provenance.read_text(encoding="utf-8"))
            trained, scored = (
                ", ".join(
                    f"{kind} {' and '.join(found)}".removeprefix("unknown ") for kind, found in record[step].items()
                )
                for step in ("training_code", "scoring_code")
            )
            hashes = {name: " and ".join(h[:8] for h in record["corpora"][name]) for name in record["corpora"]}
            corpora = ", ".join(f"{name} (trial list {h})" for name, h in hashes.items())
            versions = [
                f"{title} {' and '.join(record['versions'].get(name, ['unknown']))}"
                for name, title in (("torch", "torch"), ("python", "Python"))
            ]
            parts = [
                f"Training and scores by code {trained}" if trained == scored
                else f"Training by code {trained}, scores by code {scored}",
                f"table by code {meaning()}",
                f"config {record['config_hash'][:16]}",
                f"seed{'s' * (len(record['seeds']) > 1)} {', '.join(map(str, record['seeds']))}",
                f"corp{'ora' if len(hashes) > 1 else 'us'} {corpora}",
                ", ".join(versions),
            ]  # fmt: skip
            if restless := record.get("not_deterministic"):
                parts.append(f"trained without deterministic algorithms: {some(restless)}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{provenance}: not a readable record of provenance ({error!r}); make it anew") from None
    cores = os.cpu_count()
    machine = f"{processor()}, {cores} core{'s' * (cores != 1)}"
    return f"{'; '.join(parts)}; made {datetime.now(UTC).date().isoformat()} on {machine}."


def publish(
    files: Sequence[Path], scores: Sequence[Path], results: Path, output: Path, made_by: Mapping[str, str]
) -> None:
    """Copy finished results into one folder, beside a record of how they were made.

    Args:
        files: what to release, all within `results`.
        scores: the score files that they rest on; these carry the code hash and versions of training and scoring.
        results: folder of the experiment. Its `benchmarks` holds `<rule>.tsv` or `<rule>/.../<job>.tsv`.
        output: the folder to write, replaced if it exists. It gets the files, in the folders that they have within
            `results`, `record.json` (provenance, the checkout's commit, machine, sha256 of each file and what made it)
            and `times.tsv` (wall-clock seconds of each rule); the report too, `paper/main.pdf`, unless it is older than
            a file that it may show.
        made_by: file within `results`, without its ending -> source file of the function that makes it.

    Raises:
        ConfigError: a file lies elsewhere, or scores of one back-end come from more than one state of the code, or any
            from more than one set of versions; the message says which trainings.
    """
    if strangers := [str(file) for file in files if not file.is_relative_to(results)]:
        raise ConfigError(f"not within {results}: {', '.join(strangers)}")
    states: dict[str, dict[str, list[str]]] = {}
    versions: dict[str, list[str]] = {}
    for path in scores:
        about = read_metadata(path)
        for step in ("trained_with", "provenance"):
            try:
                kind, made = about["backend"], dict(about[step])
                code_hash = made.pop("code_hash")
            except (KeyError, TypeError, ValueError):
                raise ConfigError(f"{path}: does not say its back-end and how it was made; make it anew") from None
            training = f"{about['system']} seed {about['seed']}"
            states.setdefault(kind, {}).setdefault(code_hash, []).append(training)
            versions.setdefault(json.dumps(made, sort_keys=True), []).append(training)
    refuse_mixed_code("scores", states)
    if len(versions) != 1:
        found = "\n  ".join(f"{some(names)}: {text}" for text, names in versions.items())
        raise ConfigError(
            f"the scores come from {len(versions)} sets of versions; remove the checkpoints and scores of all but one "
            f"and run the workflow again:\n  {found}"
        )
    seconds: dict[str, list[float]] = {}
    benchmarks = results / "benchmarks"
    for path in sorted(benchmarks.rglob("*.tsv")):
        rule = path.relative_to(benchmarks).parts[0].removesuffix(".tsv")
        _header, first, *_ = path.read_text(encoding="utf-8").splitlines()
        seconds.setdefault(rule, []).append(float(first.split("\t")[0]))
    report = results / "paper" / "main.pdf"
    if report.exists():
        if report.stat().st_mtime >= max(file.stat().st_mtime for file in files):
            files = [*files, report]
        else:
            print(f"{report}: older than the tables, so left out; `snakemake paper` makes it anew", file=sys.stderr)
    with writing(output) as folder:
        folder.mkdir(parents=True)
        for file in files:
            copy = folder / file.relative_to(results)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
        record = {
            "code_hash": {kind: code_hash for kind, (code_hash,) in sorted(states.items())},
            **json.loads(*versions),
            "commit": _commit(),
            "machine": {"processor": processor(), "cores": os.cpu_count()},
            "files": {file.relative_to(results).as_posix(): file_hash(file) for file in files},
        }
        record["made_by"] = {
            name: made_by[stem] for name in record["files"] if (stem := name.rpartition(".")[0]) in made_by
        }
        (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        lines = [f"{rule}\t{len(s)}\t{sum(s):.1f}\t{max(s):.1f}" for rule, s in seconds.items()]
        text = "\n".join(["rule\tjobs\tseconds_in_all\tseconds_longest", *lines])
        (folder / "times.tsv").write_text(text + "\n", encoding="utf-8")


def _commit() -> str:
    """Commit of the checkout that this package lies in, with `-dirty` if the package was changed; empty elsewhere."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "."], capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + "-dirty" * (changed.returncode != 0)


def refuse_mixed_code(where: str, states: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Refuse results of one kind that two states of the code have made: they are not one experiment.

    Kinds may differ: the code of another back-end is another one by right.

    Args:
        where: what holds the results, for the message.
        states: kind of result -> code hash -> names of what it made.

    Raises:
        ConfigError: a kind has more than one hash; the message says what each has made.
    """
    for kind, made in states.items():
        if len(made) > 1:
            found = "; ".join(f"{code_hash} ({some(names)})" for code_hash, names in made.items())
            raise ConfigError(
                f"{where}: {kind} comes from {len(made)} states of the code: {found}; remove checkpoints and scores "
                "of the older ones and run the workflow again"
            )


def some(names: Sequence[str], at_most: int = 3) -> str:
    """The first few of many names, for a message."""
    names = [*dict.fromkeys(names)]
    return ", ".join(names[:at_most]) + (f" and {len(names) - at_most} more" if len(names) > at_most else "")


def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def provenance(*roots: str, backend: str | None = None) -> dict[str, object]:
    """Versions, platform and code hash: what has to be the same for the same numbers to come out.

    Args:
        roots: of the code that decides them, see `spaarsist.code.meaning`; default: training and scoring.
        backend: class of the back-end.
    """
    return {
        "code_hash": meaning(*(roots or DECIDES_SCORES), backend=backend),
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        **{package: metadata.version(package) for package in REPORTED_PACKAGES},
    }
