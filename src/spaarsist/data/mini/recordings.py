"""The human recordings that the mini corpora are made of: where they come from, and fetching them, verified."""

from __future__ import annotations

import csv
import hashlib
import shutil
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from spaarsist.artefacts import file_hash, writing
from spaarsist.names import ConfigError

MANIFEST = Path(__file__).with_name("recordings.tsv")
UNREADABLE = (tarfile.TarError, EOFError, zlib.error)
FETCH_ERRORS = (ConfigError, OSError, HTTPException, subprocess.SubprocessError, *UNREADABLE)
PROBE_TIMEOUT_S = 4.0
OFFLINE_MEND = "`--configfile config/synthetic.yaml` runs the whole pipeline offline on made-up signals"


@dataclass(frozen=True)
class Source:
    """One published set of recordings and the two ways to get it.

    Args:
        tarball: address of the upstream archive. Not verified: no machine of ours could reach these hosts. The
            digests in the manifest decide whether what comes is what is meant.
        package: Debian package with the same files.
        credit: who made it, under which licence.
    """

    tarball: str
    package: str
    credit: str


_ASTERISK = "https://downloads.asterisk.org/pub/telephony/sounds/releases/asterisk-core-sounds-{}-g722-1.6.1.tar.gz"
_FILLETS = "https://downloads.sourceforge.net/fillets/fillets-ng-data-1.0.1.tar.gz"
_FILLETS_CREDIT = "Fish Fillets NG, ALTAR interactive and the fillets.sourceforge.net team; GPL-2"


def _asterisk(language: str, credit: str) -> Source:
    return Source(_ASTERISK.format(language), f"asterisk-core-sounds-{language}-g722", credit)


SOURCES: Mapping[str, Source] = {
    "en": _asterisk("en", "Allison Smith, theivrvoice.com, for Digium, Inc.; CC BY-SA 3.0"),
    "es": _asterisk("es", "Allison Smith, theivrvoice.com, for Digium, Inc.; CC BY-SA 3.0"),
    "fr": _asterisk("fr", "June Wallack, for Digium, Unlimitel and BGM Informatique; CC BY-SA 3.0"),
    "it": _asterisk("it", "Carlo Flora, carloflora.com, translated by Silvia Petrin; CC BY 3.0"),
    "ru": _asterisk("ru", "Provided by Maxim Topal, ivrvoice.ru; CC BY 3.0"),
    "cs": Source(_FILLETS, "fillets-ng-data-cs", _FILLETS_CREDIT),
    "nl": Source(_FILLETS, "fillets-ng-data-nl", _FILLETS_CREDIT),
    "stamps": Source(
        "https://downloads.sourceforge.net/tuxpaint/tuxpaint-stamps-2022-06-04.tar.gz",
        "tuxpaint-stamps-default",
        "Tux Paint's stamps, Bill Kendrick and contributors; GPL-2",
    ),
}


@dataclass(frozen=True)
class Recording:
    """One line of the manifest: voice, source, path within the cache, sha256 of the file as published."""

    voice: str
    source: str
    path: str
    sha256: str


def manifest(path: Path = MANIFEST) -> list[Recording]:
    """The recordings used, in fixed order.

    They were picked once by machine: 0.8–6 s after trimming (stamps: 0.7–6 s), not clipped, at least a third of the
    frames voiced. Of the stamps in a language, 240 (Russian and Catalan: 400) whose median pitch is that of most.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        return [Recording(**row) for row in csv.DictReader(stream, delimiter="\t")]


def fetch(cache: Path, recordings: Sequence[Recording] | None = None) -> Path:
    """Make sure that every recording lies, verified, under `cache/recordings/<source>/<path>`; return that folder.

    What is there already and has the right digest is kept. The rest comes from the upstream archives or, where they
    cannot be had, from the Debian packages of the same recordings, through `apt-get download` (no root needed).

    Raises:
        ConfigError: neither way works (names both, what failed and the mend), or an archive holds a recording that
            is not the one meant (names the file).
    """
    recordings = manifest() if recordings is None else recordings
    folder = cache / "recordings"
    missing = [r for r in recordings if not _verified(folder / r.source / r.path, r.sha256)]
    if not missing:
        return folder
    failures = []
    for way in (_from_upstream, _from_packages):
        try:
            for source in sorted({r.source for r in missing}):
                with way(source, cache) as files:
                    _take(files, [r for r in missing if r.source == source], folder, source)
                missing = [r for r in missing if r.source != source]
            return folder
        except FETCH_ERRORS as error:
            failures.append(f"{(way.__doc__ or '').rstrip('.')}: {_reason(error)}")
    raise ConfigError(
        f"the recordings of the mini corpus cannot be fetched ({len(missing)} of {len(recordings)} missing "
        f"under {folder}). Tried (1) "
        + "; (2) ".join(failures)
        + f". Connect this machine to either, or copy the folder from one that has it; {OFFLINE_MEND}."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return str(error)
    if isinstance(error, subprocess.CalledProcessError):
        last = (error.stderr or "").strip().splitlines()[-1:] or ["no message"]
        return f"{' '.join(error.cmd[:1])} ended with {error.returncode} ({last[0]})"
    return f"{type(error).__name__}: {error}"


def _verified(path: Path, sha256: str) -> bool:
    return path.is_file() and file_hash(path) == sha256


def _take(files: Iterable[tuple[str, bytes]], wanted: Sequence[Recording], folder: Path, source: str) -> None:
    """Keep the files whose digest is wanted; they are known by content, since the two ways lay them out differently."""
    by_digest = {r.sha256: r for r in wanted}
    seen_names = set()
    for name, content in files:
        seen_names.add(name)
        recording = by_digest.pop(hashlib.sha256(content).hexdigest(), None)
        if recording:
            with writing(folder / recording.source / recording.path) as path:
                path.write_bytes(content)
    for recording in by_digest.values():
        there = any(f"/{name}".endswith(f"/{recording.path}") for name in seen_names)
        raise ConfigError(
            f"{recording.path} from the {source} recordings "
            + ("differs from the published one" if there else "is not in the archive")
            + f" (expected sha256 {recording.sha256}): the archive is another version or damaged; remove it from the "
            "cache's folder `archives` and try again"
        )


@contextmanager
def _from_upstream(source: str, cache: Path) -> Iterator[Iterable[tuple[str, bytes]]]:
    """Upstream archives by HTTPS."""
    address = SOURCES[source].tarball
    archive = cache / "archives" / address.rsplit("/", 1)[-1]
    if not archive.is_file():
        _probe(urlsplit(address).hostname or "")
        with (
            writing(archive) as path,
            urllib.request.urlopen(address, timeout=30) as reply,
            path.open("wb") as out,
        ):
            if "html" in reply.headers.get("Content-Type", ""):
                raise OSError(f"{address} answered with a web page, not an archive")
            shutil.copyfileobj(reply, out)
            promised = reply.headers.get("Content-Length")
            if promised and out.tell() != int(promised):
                raise OSError(f"{address} broke off after {out.tell()} of {promised} bytes")
    try:
        with tarfile.open(archive) as tar:
            yield ((m.name, tar.extractfile(m).read()) for m in tar if m.isfile())
    except UNREADABLE:
        archive.unlink()
        raise


def _probe(host: str) -> None:
    """Raise `OSError` unless the host answers in `PROBE_TIMEOUT_S`; looking up a name has no time-out of its own."""
    reached: list[bool] = []

    def knock() -> None:
        try:
            with socket.create_connection((host, 443), timeout=PROBE_TIMEOUT_S):
                reached.append(True)
        except OSError:
            pass

    thread = threading.Thread(target=knock, daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT_S)
    if not reached:
        raise OSError(f"no connection to {host} within {PROBE_TIMEOUT_S:.0f} s")


@contextmanager
def _from_packages(source: str, cache: Path) -> Iterator[Iterable[tuple[str, bytes]]]:
    """Debian packages by apt-get."""
    package, state = SOURCES[source].package, cache.resolve() / "apt"
    archives = cache.resolve() / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    found = sorted(archives.glob(f"{package}_*.deb"))
    if not found:
        # A state folder of our own: needs no root, no package lists made before, and leaves the system's alone.
        for part in ("lists/partial", "cache/archives/partial"):
            (state / part).mkdir(parents=True, exist_ok=True)
        apt = ["apt-get", "-q", "-o", f"Dir::State={state}", "-o", f"Dir::State::lists={state / 'lists'}"]
        apt += ["-o", f"Dir::Cache={state / 'cache'}", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=2"]
        updated = state / "updated"
        if not updated.exists() or time.time() - updated.stat().st_mtime > 3600:
            _run([*apt, "update"], state)
            updated.touch()
        _run([*apt, "download", package], archives)
        found = sorted(archives.glob(f"{package}_*.deb"))
    if not found:
        raise OSError(f"apt-get brought no {package}")
    unpacked = cache / "unpacked" / package
    with writing(unpacked) as folder:
        try:
            _run(["dpkg-deb", "-x", str(found[-1]), str(folder.resolve())], archives)
        except subprocess.CalledProcessError:
            found[-1].unlink()  # damaged: the next attempt must fetch it anew
            raise
    try:
        yield (
            (p.relative_to(unpacked).as_posix(), p.read_bytes())
            for p in sorted(unpacked.rglob("*"))
            if p.is_file() and not p.is_symlink()
        )
    finally:
        shutil.rmtree(unpacked)


def _run(command: list[str], where: Path) -> None:
    subprocess.run(
        command, cwd=where, check=True, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=300
    )
