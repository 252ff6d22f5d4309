"""Members of tars and zips, read in place: a corpus stays the few files that it is published as.

The path of a recording is one of

- `folder/0.wav`, a file;
- `folder/x.zip::inner/0.wav`, a member of a zip;
- `folder/x.tar::inner/0.flac@1024+31744`, a member of an uncompressed tar whose record, from its first header to the
  end of its content, begins at byte 1024 and has 31,744 bytes. A tar has no table of contents; so found, a member costs
  one seek and one read, and its header tells whether it is still the one meant.

Links within a tar are followed. Tars joined by `cat` are read as one.
"""

from __future__ import annotations

import io
import lzma
import os
import posixpath
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from spaarsist.artefacts import some
from spaarsist.names import ConfigError

SUFFIXES = (".tar", ".zip")
"""Archives whose members can be read in place."""

# what the standard library raises on archives that are missing, cut short, damaged, encrypted or of an odd kind
_DAMAGE = (
    OSError, EOFError, RuntimeError, ValueError, OverflowError, struct.error, zlib.error, lzma.LZMAError,
    tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
_MEMBER = re.compile(r"(.+?\.(?:zip|tgz|tar(?:\.\w+)?))::(.+)", re.IGNORECASE | re.DOTALL)
_UTF8 = 0x800  # flag of a zip's member: its name is UTF-8
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
    paths: dict[str, str] = {}
    links: list[tuple[str, str, str]] = []
    try:
        with archive.open("rb") as file:
            while True:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    while info := tar.next():
                        tar.members.clear()  # it would keep them all
                        if info.isreg():
                            paths[info.name] = _path(archive, info)
                            yield info.name, paths[info.name]
                        elif info.islnk() or info.issym():
                            folder = posixpath.dirname(info.name) if info.issym() else ""
                            target = posixpath.normpath(posixpath.join(folder, info.linkname))
                            links.append((info.name, target, _path(archive, info)))
                end = tar.offset
                file.seek(end)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    # tarfile takes any header that it cannot read for the end
                    raise ConfigError(f"{archive}: cut short or damaged at byte {end}; fetch it again")
                if not _skip_zeros(file):
                    break
    except ConfigError:
        raise
    except _DAMAGE as error:
        raise _unreadable(archive, "a tar", error, "decompress it (gunzip) if it is compressed, else ") from None
    links_to = {posixpath.normpath(name): target for name, target, _ in links}
    places = {posixpath.normpath(name): path for name, path in paths.items()}
    for name, target, itself in links:
        passed = set()
        while target in links_to and target not in passed:  # a link may lead to a link, even back to itself
            passed.add(target)
            target = links_to[target]
        yield name, places.get(target, itself)


def _path(archive: Path, info: tarfile.TarInfo) -> str:
    size = info.offset_data + (info.size if info.isreg() else 0) - info.offset
    return f"{archive.as_posix()}::{info.name}@{info.offset}+{size}"


def _skip_zeros(file: BinaryIO) -> bool:
    """Go to the next block that is not all zeros; False: there is none."""
    while block := file.read(tarfile.BLOCKSIZE):
        if block.strip(tarfile.NUL):
            file.seek(-len(block), io.SEEK_CUR)
            return True
    return False


def state(archive: Path) -> str:
    """What changes when an archive is replaced: its size in bytes and the time of its last change.

    Raises:
        ConfigError: it is missing.
    """
    try:
        status = archive.stat()
    except OSError as error:
        raise ConfigError(f"{archive}: cannot be read ({_reason(error)})") from None
    return f"{status.st_size} bytes of {status.st_mtime_ns} ns"


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
        raise _unreadable(archive, "an archive", error) from None
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
            if info is not None and info.name == name and (info.islnk() or info.issym()):
                raise ConfigError(f"{path}: a link to {info.linkname}, which is not in the archive")
            if info is not None and info.name == name and info.offset_data + info.size == size:
                return tar.extractfile(info).read()
    except ConfigError:
        raise
    except _DAMAGE:
        pass
    raise _changed(path)


def _read_from_zip(path: str | Path, archive: Path, member: str) -> bytes:
    zipped = _open_zip(archive)
    try:
        return zipped.read(member)
    except KeyError:
        raise _changed(path) from None
    except NotImplementedError as error:
        raise ConfigError(f"{path}: cannot be read in place ({_reason(error)}); unpack the archive") from None
    except _DAMAGE as error:
        if zipped.getinfo(member).flag_bits & 1:
            raise ConfigError(f"{path}: is encrypted; unpack the archive with its password") from None
        raise ConfigError(f"{path}: damaged member ({_reason(error)}); fetch the archive again") from None


def _open_zip(archive: Path) -> zipfile.ZipFile:
    try:
        return _cached_zip(archive, os.getpid())
    except _DAMAGE as error:
        raise _unreadable(archive, "a zip", error) from None


@lru_cache(maxsize=8)
def _cached_zip(archive: Path, process: int) -> zipfile.ZipFile:
    """Open a zip once per process: forked workers would share a file position with their parent's."""
    opened = zipfile.ZipFile(archive)
    if any(not (info.flag_bits & _UTF8 or info.filename.isascii()) for info in opened.infolist()):
        with suppress(UnicodeDecodeError):  # many writers do not say that their names are UTF-8
            return zipfile.ZipFile(archive, metadata_encoding="utf-8")
    return opened


def _is_zip(archive: Path) -> bool:
    if archive.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{archive}: only .tar and .zip can be read in place; decompress it (gunzip) or unpack it")
    if archive.exists() and not archive.is_file():
        raise ConfigError(f"{archive}: a folder, pipe or device, not an archive")
    return archive.suffix.lower() == ".zip"


def _unreadable(archive: Path, kind: str, error: Exception, hint: str = "") -> ConfigError:
    if isinstance(error, OSError) and error.errno:  # of the system, not of what is in the file
        return ConfigError(f"{archive}: cannot be read ({_reason(error)})")
    return ConfigError(f"{archive}: not readable as {kind} ({_reason(error)}); {hint}fetch it again")


def _changed(path: str | Path) -> ConfigError:
    return ConfigError(
        f"{path}: not where it was; the archive has changed since it was indexed: make the index and trial list again"
    )


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).rstrip(".") or type(error).__name__
    return text if len(text) < 200 else f"{text[:200]}..."  # zipfile quotes damaged headers whole
