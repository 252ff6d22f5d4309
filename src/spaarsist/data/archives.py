"""Members of tars and zips, read in place: a corpus stays the few files that it is published as.

The path of a recording is one of

- `folder/0.wav`, a file;
- `folder/x.zip::inner/0.wav`, a member of a zip;
- `folder/x.tar::inner/0.flac@1024+31744`, a member of an uncompressed tar whose record, from its first header to the
  end of its content, begins at byte 1024 and has 31,744 bytes. A tar has no table of contents; so found, a member costs
  one seek and one read, and its header tells whether it is still the one meant.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from spaarsist.artefacts import some
from spaarsist.names import ConfigError

SUFFIXES = (".tar", ".zip")
"""Archives whose members can be read in place."""

# what the standard library raises on archives that are missing, cut short, damaged, encrypted or of an odd kind
_DAMAGE = (OSError, EOFError, RuntimeError, ValueError, zlib.error, tarfile.TarError, zipfile.BadZipFile)
_MEMBER = re.compile(r"(.+?\.(?:zip|tgz|tar(?:\.\w+)?))::(.+)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(r"(.+)@([0-9]+)\+([0-9]+)", re.DOTALL)


def split(path: str | Path) -> tuple[Path, str] | None:
    """Take `archive::member` apart; None for the path of a file, even one with such a name."""
    found = _MEMBER.fullmatch(str(path))
    return None if found is None or Path(path).is_file() else (Path(found[1]), found[2])


def read(path: str | Path) -> bytes | None:
    """Content of a member; None if the path is a file's.

    Raises:
        ConfigError: the archive is missing or damaged, or is another one than when the path was made.
    """
    if (parts := split(path)) is None:
        return None
    archive, member = parts
    return _read_from_zip(path, archive, member) if _is_zip(archive) else _read_from_tar(path, archive, member)


def list_members(archive: Path) -> Iterator[tuple[str, str]]:
    """Name and path of every regular member, in the order in which they lie on the disk.

    Raises:
        ConfigError: the archive is missing, compressed, cut short or damaged.
    """
    if _is_zip(archive):
        for info in sorted(_open_zip(archive).infolist(), key=lambda info: info.header_offset):
            if not info.is_dir():
                yield info.filename, f"{archive.as_posix()}::{info.filename}"
        return
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while info := tar.next():
                tar.members.clear()  # it would keep them all
                if info.isreg():
                    size = info.offset_data + info.size - info.offset
                    yield info.name, f"{archive.as_posix()}::{info.name}@{info.offset}+{size}"
            file.seek(tar.offset)
            whole = file.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
    except _DAMAGE as error:
        hint = "decompress it (gunzip) if it is compressed, else fetch it again"
        raise ConfigError(f"{archive}: not readable as a tar ({_reason(error)}); {hint}") from None
    if not whole:  # tarfile takes any header that it cannot read for the end
        raise ConfigError(f"{archive}: cut short or damaged at byte {tar.offset}; fetch it again")


def read_member(archive: Path, name: str) -> bytes:
    """Content of the one member that is called `name`, or so within a folder; a tar may be compressed here.

    Raises:
        ConfigError: the archive is missing or damaged, or has no such member or several.
    """
    zipped = archive.suffix.lower() == ".zip"
    try:
        with zipfile.ZipFile(archive) if zipped else tarfile.open(archive, "r:*") as opened:
            if zipped:
                names = [info.filename for info in opened.infolist() if not info.is_dir()]
            else:
                names = [info.name for info in opened if info.isreg()]
            found = [member for member in dict.fromkeys(names) if f"/{member}".endswith(f"/{name}")]
            if len(found) == 1:
                return opened.read(found[0]) if zipped else opened.extractfile(found[0]).read()
    except _DAMAGE as error:
        raise ConfigError(f"{archive}: not readable as an archive ({_reason(error)}); fetch it again") from None
    there = some(found or names) or "nothing"
    raise ConfigError(f"{archive}: {len(found) or 'no'} members are called {name}; there is {there}")


def _read_from_tar(path: str | Path, archive: Path, member: str) -> bytes:
    found = _RANGE.fullmatch(member)
    if found is None:
        raise ConfigError(f"{path}: lacks the byte range that belongs to a tar's member; make the trial list again")
    name, offset, size = found[1], int(found[2]), int(found[3])
    try:
        with archive.open("rb") as file:
            if offset + size > file.seek(0, io.SEEK_END):
                raise _changed(path)
            file.seek(offset)
            record = file.read(size)
    except OSError as error:
        raise ConfigError(f"{path}: the archive cannot be read ({_reason(error)})") from None
    try:
        with tarfile.open(fileobj=io.BytesIO(record), mode="r:") as tar:
            info = tar.next()
            if info is not None and info.name == name and info.offset_data + info.size == size:
                return tar.extractfile(info).read()
    except _DAMAGE:
        pass
    raise _changed(path)


def _read_from_zip(path: str | Path, archive: Path, member: str) -> bytes:
    zipped = _open_zip(archive)
    try:
        return zipped.read(member)
    except KeyError:
        raise _changed(path) from None
    except _DAMAGE as error:
        raise ConfigError(f"{path}: damaged member ({_reason(error)}); fetch the archive again") from None


def _open_zip(archive: Path) -> zipfile.ZipFile:
    try:
        return _cached_zip(archive, os.getpid())
    except _DAMAGE as error:
        raise ConfigError(f"{archive}: not readable as a zip ({_reason(error)}); fetch it again") from None


@lru_cache(maxsize=8)
def _cached_zip(archive: Path, process: int) -> zipfile.ZipFile:
    """Open a zip once per process: forked workers would share a file position with their parent's."""
    return zipfile.ZipFile(archive)


def _is_zip(archive: Path) -> bool:
    if archive.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{archive}: only .tar and .zip can be read in place; decompress it (gunzip) or unpack it")
    return archive.suffix.lower() == ".zip"


def _changed(path: str | Path) -> ConfigError:
    return ConfigError(
        f"{path}: not where it was; the archive has changed since it was indexed: make the index and trial list again"
    )


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__
