"""Published releases: what lies on disk is verified, what is missing is fetched, and a receipt tells of each file.

A file on its way is `<name>.part`. It takes its name only once it is whole and verified; whatever kills the process,
the next call goes on from there. Files that were there before are only ever read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tqdm import tqdm

from spaarsist import __version__
from spaarsist.artefacts import locked, writing
from spaarsist.config import Release
from spaarsist.names import ConfigError

PAUSES_S = (2.0, 5.0, 15.0, 30.0)
"""Waits between rounds over the addresses; as long as new bytes arrive, they start anew."""

TIMEOUT_S = 60.0
"""How long an address may stay silent."""

CHUNK = 1 << 16
"""Bytes read at a time, from the network or from disk."""

BAR = {"unit": "B", "unit_scale": True, "mininterval": 2, "delay": 2, "leave": False}
BROKEN_ARCHIVE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)

Item = TypeVar("Item")
Result = TypeVar("Result")


class _WrongBytes(Exception):
    """What came or lies there is not the file meant; says why."""


def fetch(releases: Mapping[str, Release], name: str, receipt: Path, *, offline: bool = False, jobs: int = 4) -> None:
    """Make sure that every file of a release lies, verified, in its folder, and write a receipt.

    Files that are there, by hand or through links, are verified and used. Missing ones come by HTTPS. Where no checksum
    is published, `<file>.sha256` beside the file (in the form of `sha256sum`) is the measure; where there is none, an
    archive is read to its end and our digest is recorded there.

    Args:
        releases: all releases that are going to be fetched: together they must fit on their disks.
        name: the one to fetch.
        receipt: JSON to write: release, licence, folder and `files`, name -> path, bytes, checksum
            (`md5:...` or `sha256:...`), published (whether the publishers give that checksum), origin (the address,
            or `already there`).
        offline: open no connection; what is missing is an error.
        jobs: files that are verified or fetched at once.

    Raises:
        ConfigError: a file that is there is not the one meant; something is missing and `offline`; too little disk;
            every address failed; another process fetches the same file. Names files, addresses, answers and the mend.
    """
    if name not in releases:
        raise ConfigError(f"no release {name!r}; known: {', '.join(releases)}")
    release = releases[name]
    folder = Path(release.folder)
    _say(f"{name}: {release.licence}")
    there = [file for file in release.files if os.path.lexists(folder / file)]
    missing = [file for file in release.files if file not in there]
    if missing and offline:
        places = (f"{folder / file} (from {_addresses(release, file)[0]})" for file in missing)
        raise ConfigError(
            f"{name}: {len(missing)} files are not there: {'; '.join(places)}; put them there, correct the release's "
            "`folder`, or fetch without offline"
        )
    # what is there comes first: nobody should hear after a day of downloading that the folder was the wrong one
    entries = _each(lambda file, _: _use(folder / file, release.files[file]), there, jobs)
    if missing:
        _check_space(releases, folder)
        entries |= _each(lambda file, stop: _fetch_file(release, file, stop), missing, jobs)
    record = {"release": name, "licence": release.licence, "folder": release.folder}
    record["files"] = {file: entries[file] for file in release.files}
    with writing(receipt) as path:
        path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)


def _each(work: Callable[[Item, threading.Event], Result], items: Sequence[Item], jobs: int) -> dict[Item, Result]:
    """Do all in parallel; one that fails does not keep the others from finishing."""
    stop = threading.Event()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {item: pool.submit(work, item, stop) for item in items}
        try:
            wait(futures.values())
        except BaseException:  # Ctrl-C: threads end at their next chunk
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    errors = [error for future in futures.values() if (error := future.exception())]
    for error in errors:
        if not isinstance(error, ConfigError):
            raise error
    if errors:
        raise ConfigError("\n".join(map(str, errors)))
    return {item: future.result() for item, future in futures.items()}


def _check_space(releases: Mapping[str, Release], folder: Path) -> None:
    """Compare what all releases on this disk still need with what is free."""
    disk = _existing(folder)
    needs = {}
    for name, release in releases.items():
        paths = [Path(release.folder) / file for file in release.files]
        if _existing(Path(release.folder)).stat().st_dev == disk.stat().st_dev and not all(p.exists() for p in paths):
            present = sum(p.stat().st_size for path in paths for p in (path, _part(path)) if p.exists())
            needs[name] = max(release.size_gb - present / 1e9, 0)
    free = shutil.disk_usage(disk).free / 1e9
    each = ", ".join(f"{name} {need:.1f}" for name, need in needs.items())
    balance = f"{sum(needs.values()):.1f} GB still to come ({each}), {free:.1f} GB free on the disk of {folder}"
    _say(balance)
    if sum(needs.values()) > free:
        raise ConfigError(f"too little disk: {balance}; free some, or set `downloads.<release>.folder` to another disk")


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _note(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _addresses(release: Release, file: str) -> list[str]:
    return [address.replace("{file}", quote(file)) for address in release.addresses]


def _use(target: Path, published: str) -> dict[str, Any]:
    """Verify a file that is there; return its entry in the receipt."""
    expected = published or _recorded(target)
    try:
        checksum = _verify(target, target.name, expected)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be read ({error.strerror}); remove it or make it readable") from None
    except _WrongBytes as error:
        doubt = "" if published or not expected else f" (or, if it is right, {_note(target)})"
        raise ConfigError(
            f"{target}: {error}; remove or move it{doubt} and it is fetched anew, or correct the release's `folder`"
        ) from None
    return _entry(target, checksum, published, "already there")


def _entry(target: Path, checksum: str, published: str, origin: str) -> dict[str, Any]:
    if not published and not _note(target).exists():
        try:
            with writing(_note(target)) as path:
                path.write_text(f"{checksum.removeprefix('sha256:')}  {target.name}\n", encoding="utf-8")
        except OSError as error:
            _say(f"{_note(target)} cannot be written ({error.strerror}): {checksum} stands in the receipt only")
    return {
        "path": target.as_posix(),
        "bytes": target.stat().st_size,
        "checksum": checksum,
        "published": bool(published),
        "origin": origin,
    }


def _recorded(target: Path) -> str:
    """Checksum from the note beside a file, or nothing if there is no note."""
    try:
        text = _note(target).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    found = re.search(rf"^([0-9a-f]{{64}}) [ *](?:.*/)?{re.escape(target.name)}\s*$", text, re.MULTILINE)
    if not found:
        raise ConfigError(
            f"{_note(target)}: no line `<sha256>  {target.name}`; write it with sha256sum, or remove it to have it made"
        )
    return f"sha256:{found[1]}"


def _verify(path: Path, name: str, expected: str) -> str:
    """Return the checksum of `path`, which is the file `name` or about to become it; raise `_WrongBytes` if not."""
    algorithm = expected.partition(":")[0] or "sha256"
    digest = hashlib.new(algorithm)
    with path.open("rb") as stream, tqdm(desc=f"verify {name}", total=path.stat().st_size, **BAR) as bar:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    checksum = f"{algorithm}:{digest.hexdigest()}"
    if expected and checksum != expected:
        raise _WrongBytes(f"expected {expected}, found {checksum}")
    if not expected:
        _prove(path, name)
    return checksum


def _prove(path: Path, name: str) -> None:
    """Raise `_WrongBytes` unless the file, of which no checksum is known, is what it says: no web page, whole."""
    try:
        with path.open("rb") as stream:
            if _is_page(stream.read(CHUNK)):
                raise _WrongBytes("an HTML page instead of data")
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                if bad := archive.testzip():
                    raise _WrongBytes(f"a broken zip: its member {bad} is damaged")
        elif name.endswith((".tar", ".tar.gz")):
            with tarfile.open(path) as archive:
                archive.getmembers()
                # to tarfile a damaged header looks like the end; the true end is two blocks of zeros
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(2 * tarfile.BLOCKSIZE) != bytes(2 * tarfile.BLOCKSIZE):
                    raise _WrongBytes(f"a broken tar: it stops at byte {archive.offset}")
                while archive.fileobj.read(CHUNK):  # gzip's own checksum comes last
                    pass
    except BROKEN_ARCHIVE as error:
        raise _WrongBytes(f"not whole ({error})") from None


def _is_page(start: bytes) -> bool:
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))


def _fetch_file(release: Release, file: str, stop: threading.Event) -> dict[str, Any]:
    """Bring one missing file, from wherever it can be had; return its entry in the receipt."""
    target, published = Path(release.folder) / file, release.files[file]
    expected = published or _recorded(target)
    part, answers, most, pauses, wrong = _part(target), {}, 0, iter(PAUSES_S), Counter[str]()
    with locked(part), part.open("ab", buffering=0) as stream:
        if os.path.lexists(target):  # another process brought it between our look and our lock
            part.unlink(missing_ok=True)
            return _use(target, published)
        while True:
            # Twice the wrong bytes, whole: it has no others, and a corpus is too large to ask ten times
            addresses = [address for address in _addresses(release, file) if wrong[address] < 2]
            for address in addresses:
                try:
                    _download(address, stream, file, stop)
                    checksum = _verify(part, file, expected)
                except _WrongBytes as error:
                    stream.truncate(0)
                    answers[address] = str(error)
                    wrong[address] += 1
                except HTTPError as error:
                    answers[address] = f"status {error.code} ({error.reason})"
                except (OSError, HTTPException) as error:
                    answers[address] = str(getattr(error, "reason", "") or error) or type(error).__name__
                else:
                    part.rename(target)
                    return _entry(target, checksum, published, address)
            size = os.fstat(stream.fileno()).st_size
            if size > most:
                most, pauses = size, iter(PAUSES_S)
            pause = next(pauses, None) if addresses else None
            if pause is None:
                tried = "; ".join(f"{address} answered: {answer}" for address, answer in answers.items())
                raise ConfigError(
                    f"{target}: not fetched: {tried}; call again to go on with what has arrived, or put the file into "
                    f"{target.parent} by hand (it will be verified)"
                )
            stop.wait(pause)


def _download(address: str, stream: FileIO, name: str, stop: threading.Event) -> None:
    """Append what `stream` still lacks; returns once it has the length that the address promises.

    Raises:
        HTTPError, OSError, HTTPException: the address failed; what has arrived is good to go on with.
        _WrongBytes: what has arrived is of no use.
        ConfigError: it cannot be written, or `stop` was set.
    """
    have = os.fstat(stream.fileno()).st_size
    headers = {"User-Agent": f"spaarsist/{__version__}"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        reply = urlopen(Request(address, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # killed between the last byte and the renaming
        raise _WrongBytes(f"the file has fewer bytes than the {have} that were there of it") from None
    except ValueError:
        raise OSError("not an address") from None
    with reply:
        if reply.headers.get_content_type() == "text/html":
            raise OSError("an HTML page instead of data")
        length, total = reply.headers.get("Content-Length"), None
        if reply.status == 206:
            served = re.fullmatch(rf"bytes {have}-\d+/(\d+)", reply.headers.get("Content-Range", ""))
            if not served:
                raise OSError(f"another range than asked for ({reply.headers.get('Content-Range')})")
            total = int(served[1])
        elif reply.status != 200:
            raise OSError(f"status {reply.status}")
        elif length:
            total = int(length)
        chunk = reply.read(CHUNK)
        if _is_page(chunk):
            raise OSError("an HTML page instead of data")
        if reply.status == 200:  # it sends the whole file, whatever was asked for
            stream.truncate(0)
            have = 0
        with tqdm(desc=f"fetch {name}", total=total, initial=have, **BAR) as bar:
            while chunk:
                if stop.is_set():
                    raise ConfigError(f"{stream.name}: interrupted; call again to go on")
                _append(stream, chunk)
                bar.update(len(chunk))
                have += len(chunk)
                chunk = reply.read(CHUNK)
        if total is not None and have != total:
            raise OSError(f"the connection broke at {have} of {total} bytes")


def _append(stream: FileIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[stream.write(view) :]
    except OSError as error:
        raise ConfigError(
            f"{stream.name}: cannot be written ({error.strerror}); free some disk, or set the release's `folder` to "
            "another, then call again to go on with what has arrived"
        ) from None
