"""Fetching releases from a hub that misbehaves, and never touching what is there."""

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import REPOSITORY
from rehearsal.hub import Hub
from spaarsist.artefacts import locked
from spaarsist.config import Release
from spaarsist.data import corpora
from spaarsist.names import ConfigError

CONTENT = np.random.default_rng(1).bytes(300_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def zipped(content=CONTENT):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("release/a.bin", content)
        archive.writestr("release/b.bin", b"b")
    return stream.getvalue()


def tarred(n_members=2):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(n_members):
            member = tarfile.TarInfo(f"{number}.flac")
            member.size = 1000
            archive.addfile(member, io.BytesIO(CONTENT[:1000]))
    return stream.getvalue()


BROKEN = {
    "flipped.zip": zipped().replace(CONTENT[1000:1010], bytes(10)),
    "cut.zip": zipped()[:-10],
    "cut_at_a_member.tar": tarred()[: 3 * 512],
    "cut_in_a_member.tar": tarred()[: 5 * 512],
    "cut_in_a_header.tar": tarred()[: 3 * 512 + 100],
    "header.tar": tarred()[: 3 * 512] + b"x" + tarred()[3 * 512 + 1 :],
    "noise.tar": CONTENT,
    "empty.tar": b"",
    "cut.tar.gz": gzip.compress(tarred())[:-9],
    "crc.tar.gz": gzip.compress(tarred())[:-8] + bytes(8),
    "page.json": b"\xef\xbb\xbf \n<!DOCTYPE HTML><html>Log in</html>",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "PAUSES_S", (0.0, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "hub").mkdir()
    with Hub(tmp_path / "hub") as hub:
        yield hub


@pytest.fixture
def get(hub, tmp_path):
    """Call `fetch` for one release made of keywords; returns its receipt. Files of `published` go to the hub."""

    def get(files, published=(), *, offline=False, jobs=4, others=None, **settings):
        for name, content in dict(published).items():
            (hub.folder / name).write_bytes(content)
        settings = {"folder": str(tmp_path / "disk"), "size_gb": 1e-3, "licence": "CC BY 4.0"} | settings
        settings.setdefault("addresses", (hub.url + "{file}?download=1",))
        releases = {"five": Release(files=files, **settings)} | (others or {})
        corpora.fetch(releases, "five", tmp_path / "receipt.json", offline=offline, jobs=jobs)
        return json.loads((tmp_path / "receipt.json").read_text())

    return get


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestReceiptAndVerification:
    def test_receipt(self, get, hub, disk, tmp_path, capsys):
        (disk / "b.tar").write_bytes(b"b")
        sha256 = hashlib.sha256(b"b").hexdigest()
        receipt = get({"a.tar": MD5, "b.tar": f"sha256:{sha256}"}, {"a.tar": CONTENT})
        assert receipt == {
            "release": "five",
            "licence": "CC BY 4.0",
            "folder": str(disk),
            "files": {
                "a.tar": {"path": f"{disk}/a.tar", "bytes": 300_000, "checksum": MD5, "published": True,
                          "origin": f"{hub.url}a.tar?download=1"},
                "b.tar": {"path": f"{disk}/b.tar", "bytes": 1, "checksum": f"sha256:{sha256}", "published": True,
                          "origin": "already there"},
            },
        }  # fmt: skip
        assert list(receipt["files"]) == ["a.tar", "b.tar"]
        assert (disk / "a.tar").read_bytes() == CONTENT
        assert hub.requests == [("a.tar", None)]
        assert names(disk) == ["a.tar", "b.tar"]
        captured = capsys.readouterr()
        assert "five: CC BY 4.0" in captured.err and "GB free" in captured.err
        assert captured.out == ""
        first = (tmp_path / "receipt.json").read_bytes()
        get({"a.tar": MD5, "b.tar": f"sha256:{sha256}"})
        again = (tmp_path / "receipt.json").read_bytes()
        assert again == first.replace(f"{hub.url}a.tar?download=1".encode(), b"already there")

    @pytest.mark.parametrize("offline", [True, False])
    def test_nothing_missing_opens_no_connection(self, get, hub, disk, monkeypatch, offline):
        (disk / "a.tar").write_bytes(CONTENT)
        monkeypatch.setattr(corpora, "urlopen", None)
        monkeypatch.setattr(shutil, "disk_usage", None)
        for checksum in (MD5, SHA256):
            assert get({"a.tar": checksum}, offline=offline)["files"]["a.tar"]["checksum"] == checksum
        assert hub.requests == []

    def test_a_wrong_file_that_is_there_is_an_error_and_stays(self, get, hub, disk):
        """Found before anything is fetched: the folder may be the wrong one."""
        for name in ("a.tar", "b.tar"):
            (disk / name).write_bytes(b"other")
        with pytest.raises(ConfigError) as error:
            get({"a.tar": MD5, "b.tar": SHA256, "c.tar": MD5}, dict.fromkeys(("a.tar", "b.tar", "c.tar"), CONTENT))
        found = hashlib.md5(b"other").hexdigest()
        assert f"{disk}/a.tar: expected {MD5}, found md5:{found}; remove or move it" in str(error.value)
        assert f"{disk}/b.tar: expected {SHA256}" in str(error.value)
        assert "folder" in str(error.value)
        assert hub.requests == []
        assert {name: (disk / name).read_bytes() for name in names(disk)} == {"a.tar": b"other", "b.tar": b"other"}

    def test_files_that_are_there_are_only_read(self, get, disk, tmp_path):
        """A link to a read-only file elsewhere stays what it was, byte and time."""
        elsewhere = tmp_path / "elsewhere.tar"
        elsewhere.write_bytes(CONTENT)
        elsewhere.chmod(0o400)
        (disk / "a.tar").symlink_to(elsewhere)
        before = elsewhere.stat()
        get({"a.tar": SHA256})
        after = elsewhere.stat()
        assert (disk / "a.tar").readlink() == elsewhere
        assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)
        assert names(disk) == ["a.tar"]

    def test_a_link_to_nowhere_or_a_folder_is_no_missing_file(self, get, hub, disk):
        (disk / "a.tar").symlink_to(disk / "unmounted")
        (disk / "b.tar").mkdir()
        with pytest.raises(ConfigError, match=r"(?s)a\.tar: cannot be read .*b\.tar: cannot be read"):
            get({"a.tar": MD5, "b.tar": MD5}, {"a.tar": CONTENT, "b.tar": CONTENT})
        assert hub.requests == [] and (disk / "a.tar").is_symlink()

    def test_offline(self, get, hub, disk):
        (disk / "a.tar").write_bytes(CONTENT)
        with pytest.raises(ConfigError) as error:
            get(dict.fromkeys(("a.tar", "b.tar", "c.tar"), MD5), {"b.tar": CONTENT}, offline=True)
        for name in ("b.tar", "c.tar"):
            assert f"{disk}/{name} (from {hub.url}{name}?download=1)" in str(error.value)
        assert "a.tar" not in str(error.value) and "without offline" in str(error.value)
        assert hub.requests == [] and names(disk) == ["a.tar"]

    def test_unknown_release(self, get, tmp_path):
        with pytest.raises(ConfigError, match="no release 'six'; known: five"):
            corpora.fetch({"five": None}, "six", tmp_path / "receipt.json")


class TestNoPublishedChecksum:
    def test_recorded_once_and_verified_after(self, get, disk):
        content = zipped()
        digest = hashlib.sha256(content).hexdigest()
        entry = get({"wild.zip": ""}, {"wild.zip": content})["files"]["wild.zip"]
        assert (entry["checksum"], entry["published"]) == (f"sha256:{digest}", False)
        assert (disk / "wild.zip.sha256").read_text() == f"{digest}  wild.zip\n"
        assert names(disk) == ["wild.zip", "wild.zip.sha256"]
        (disk / "wild.zip").write_bytes(zipped(b"another version"))
        with pytest.raises(ConfigError, match=rf"expected sha256:{digest}, found .*wild\.zip\.sha256"):
            get({"wild.zip": ""})

    def test_a_note_made_by_hand_decides(self, get, hub, disk):
        """Also on what is fetched: here a whole zip that is not the one of the note."""
        note = disk / "wild.zip.sha256"
        digest = hashlib.sha256(zipped()).hexdigest()
        note.write_text(f"{digest} *some/where/wild.zip\r\n{'0' * 64}  other.zip\n")
        with pytest.raises(ConfigError, match=f"expected sha256:{digest}"):
            get({"wild.zip": ""}, {"wild.zip": zipped(b"another version")})
        assert not (disk / "wild.zip").exists()
        assert get({"wild.zip": ""}, {"wild.zip": zipped()})["files"]["wild.zip"]["checksum"] == f"sha256:{digest}"
        assert "other.zip" in note.read_text()

    @pytest.mark.parametrize("text", ["", "not a digest  wild.zip\n", f"{'0' * 64}  wild.zip.old\n", "\0\xff"])
    def test_an_unreadable_note_is_no_licence_to_take_anything(self, get, hub, disk, text):
        (disk / "wild.zip.sha256").write_text(text, encoding="latin-1")
        with pytest.raises(ConfigError, match=r"wild\.zip\.sha256: no line"):
            get({"wild.zip": ""}, {"wild.zip": zipped()})
        assert hub.requests == []

    def test_a_folder_that_cannot_be_written(self, get, disk, monkeypatch, capsys):
        (disk / "wild.zip").write_bytes(zipped())
        writing = corpora.writing

        def refusing(path):
            if path.name == "wild.zip.sha256":
                raise PermissionError(13, "Permission denied")
            return writing(path)

        monkeypatch.setattr(corpora, "writing", refusing)
        checksum = get({"wild.zip": ""})["files"]["wild.zip"]["checksum"]
        assert checksum == "sha256:" + hashlib.sha256(zipped()).hexdigest()
        assert checksum in capsys.readouterr().err and names(disk) == ["wild.zip"]

    @pytest.mark.parametrize("name", BROKEN)
    def test_broken_ones_are_never_recorded(self, get, hub, disk, name):
        with pytest.raises(ConfigError, match=name):
            get({name: ""}, {name: BROKEN[name]})
        assert {f.name: f.stat().st_size for f in disk.iterdir()} in ({}, {f"{name}.part": 0})
        (disk / name).write_bytes(BROKEN[name])
        with pytest.raises(ConfigError, match=name):
            get({name: ""})
        assert not (disk / f"{name}.sha256").exists()

    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "config.json"])
    def test_whole_ones_are(self, get, disk, name):
        contents = {"a.zip": zipped(), "a.tar": tarred(), "a.tar.gz": gzip.compress(tarred()), "config.json": b"{}"}
        get({name: ""}, {name: contents[name]})
        assert names(disk) == [name, f"{name}.sha256"]


class TestFaults:
    @pytest.mark.parametrize("fault", ["cut", "corrupt", "html", "404", "403", "503"])
    @pytest.mark.parametrize("checksum", [MD5, ""])
    def test_each_once(self, get, hub, disk, fault, checksum):
        name, content = ("a.bin", CONTENT) if checksum else ("a.zip", zipped())
        hub.faults[name] = [fault]
        get({name: checksum}, {name: content})
        assert (disk / name).read_bytes() == content
        assert names(disk) == [name] if checksum else [name, f"{name}.sha256"]
        assert hub.requests == [(name, None), (name, f"bytes={len(content) // 2}-" if fault == "cut" else None)]

    def test_a_cut_connection_is_resumed(self, get, hub, disk):
        hub.faults["a.tar"] = ["cut", "cut", "cut", "cut", "cut"]
        get({"a.tar": MD5}, {"a.tar": CONTENT})
        ranges = [150_000, 225_000, 262_500, 281_250, 290_625]
        asked = [None, *(f"bytes={start}-" for start in ranges)]
        assert hub.requests == [("a.tar", each) for each in asked], (
            "more cuts than patience, but something came each time"
        )
        assert (disk / "a.tar").read_bytes() == CONTENT

    @pytest.mark.parametrize("fault", ["html", "404", "503"])
    def test_a_page_does_not_cost_what_has_arrived(self, get, hub, disk, fault):
        hub.faults["a.tar"] = ["cut", fault]
        get({"a.tar": MD5}, {"a.tar": CONTENT})
        assert [asked for _, asked in hub.requests] == [None, "bytes=150000-", "bytes=150000-"]

    def test_a_server_without_ranges_starts_over(self, get, hub, disk):
        hub.faults["a.tar"] = ["cut", "norange"]
        get({"a.tar": MD5}, {"a.tar": CONTENT})
        assert (disk / "a.tar").read_bytes() == CONTENT
        assert len(hub.requests) == 2

    @pytest.mark.parametrize(
        ("start", "n_requests"), [(CONTENT[:1000], 1), (CONTENT, 1), (CONTENT + b"x", 2), (bytes(1000), 2)]
    )
    def test_what_an_earlier_process_left(self, get, hub, disk, start, n_requests):
        """Some bytes, all (killed before renaming), too many (416), wrong ones."""
        (disk / "a.tar.part").write_bytes(start)
        get({"a.tar": MD5}, {"a.tar": CONTENT})
        assert (disk / "a.tar").read_bytes() == CONTENT
        assert names(disk) == ["a.tar"]
        assert len(hub.requests) == n_requests and hub.requests[0][1] == f"bytes={len(start)}-"

    def test_a_longer_rest_is_not_taken_for_the_file(self, get, hub, disk):
        """Where nothing is known of the file but its length."""
        (disk / "config.json.part").write_bytes(b"{}{}")
        get({"config.json": ""}, {"config.json": b"{}"})
        assert (disk / "config.json").read_bytes() == b"{}"

    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    def test_a_page_in_disguise(self, get, hub, disk, bom):
        """Sent as data, in place of the rest of a file: it is called a page, and what has arrived is kept."""
        (disk / "a.tar.part").write_bytes(CONTENT[:1000])
        page = CONTENT[:1000] + bom + b"\n<HTML><body>Too many requests</body></HTML>" + bytes(400_000)
        with pytest.raises(ConfigError, match="answered: an HTML page instead of data"):
            get({"a.tar": MD5}, {"a.tar": page})
        assert (disk / "a.tar.part").read_bytes() == CONTENT[:1000]

    def test_mirrors_are_tried_in_order(self, get, hub, disk):
        (hub.folder / "bad").mkdir()
        (hub.folder / "bad" / "a file.tar").write_bytes(CONTENT[:-1] + b"x")
        (hub.folder / "literal").write_bytes(CONTENT)
        addresses = tuple(hub.url + place for place in ("none/{file}", "bad/{file}", "literal?path=/&{x}"))
        receipt = get({"a file.tar": MD5}, addresses=addresses)
        assert [path for path, _ in hub.requests] == ["none/a file.tar", "bad/a file.tar", "literal"]
        assert receipt["files"]["a file.tar"]["origin"] == addresses[2]

    def test_everything_fails(self, get, hub, disk):
        """One error names each file, each address and its answer; what did arrive stays."""
        hub.faults["a.tar"] = ["503"] * 9
        addresses = (hub.url + "{file}", "http://127.0.0.1:1/{file}", "nonsense")
        with pytest.raises(ConfigError) as error:
            files = {"a.tar": MD5, "b.tar": SHA256, "c.tar": MD5, "d.tar": MD5}
            get(files, {"a.tar": CONTENT, "b.tar": b"other", "c.tar": CONTENT}, addresses=addresses, jobs=2)
        lines = str(error.value).splitlines()
        assert [line.split(": not fetched")[0] for line in lines] == [f"{disk}/{name}.tar" for name in "abd"]
        assert f"{hub.url}a.tar answered: status 503 (Service Unavailable)" in lines[0]
        assert f"expected {SHA256}, found sha256:{hashlib.sha256(b'other').hexdigest()}" in lines[1]
        assert "status 404 (Not Found)" in lines[2]
        for line in lines:
            assert "http://127.0.0.1:1/" in line and "Connection refused" in line
            assert "nonsense answered: not an address" in line
            assert f"put the file into {disk} by hand" in line
        assert (disk / "c.tar").read_bytes() == CONTENT
        assert not {"a.tar", "b.tar", "d.tar"} & set(names(disk))
        n_wrong = [path for path, _ in hub.requests].count("b.tar")
        assert n_wrong == 2, "bounded: wrong bytes are not asked for again and again"

    def test_a_server_that_goes_silent(self, get, hub, monkeypatch):
        monkeypatch.setattr(corpora, "TIMEOUT_S", 0.01)
        hub.faults["a.tar"] = ["slow"] * 3
        with pytest.raises(ConfigError, match="timed out"):
            get({"a.tar": MD5}, {"a.tar": CONTENT[:100]})

    @pytest.mark.parametrize("served", ["bytes=999-", ""])
    def test_other_ranges_than_asked_for(self, get, hub, disk, monkeypatch, served):
        """A wrong one is refused; a part of it is a step."""
        (disk / "a.tar.part").write_bytes(CONTENT[:1000])
        urlopen = corpora.urlopen

        def other(request, timeout):
            start = request.get_header("Range")
            request.add_header("Range", served or f"{start}{int(start[6:-1]) + 99_999}")
            return urlopen(request, timeout=timeout)

        monkeypatch.setattr(corpora, "urlopen", other)
        if served:
            with pytest.raises(ConfigError, match=r"another range than asked for \(bytes 999-"):
                get({"a.tar": MD5}, {"a.tar": CONTENT})
            assert (disk / "a.tar.part").read_bytes() == CONTENT[:1000]
        else:
            get({"a.tar": MD5}, {"a.tar": CONTENT})
            assert len(hub.requests) == 3

    def test_disk_full_while_fetching(self, get, hub):
        """/dev/full says so at the first byte."""
        with Path("/dev/full").open("ab", buffering=0) as stream, pytest.raises(ConfigError) as error:
            corpora._append(stream, b"x")
        assert "/dev/full: cannot be written (No space left on device); free some disk" in str(error.value)

    def test_in_parallel(self, get, hub, monkeypatch):
        """Nobody goes on before all four are on their way."""
        barrier, download = threading.Barrier(4), corpora._download

        def together(*arguments):
            barrier.wait(timeout=5)
            download(*arguments)

        monkeypatch.setattr(corpora, "_download", together)
        files = [f"{number}.tar" for number in range(4)]
        get(dict.fromkeys(files, MD5), dict.fromkeys(files, CONTENT), jobs=4)


class TestSpace:
    def usage(self, monkeypatch, free_gb):
        monkeypatch.setattr(corpora.shutil, "disk_usage", lambda path: SimpleNamespace(free=round(free_gb * 1e9)))

    def others(self, disk):
        def release(name, files=("x.tar",), size_gb=20.0):
            folder, checksums = str(disk / name), dict.fromkeys(files, MD5)
            addresses = ("http://127.0.0.1:1/",)
            return Release(folder=folder, size_gb=size_gb, licence="", addresses=addresses, files=checksums)

        for name, size in (("complete/x.tar", 300_000), ("half/x.tar", 7 * 10**9), ("half/y.tar.part", 10**9)):
            (disk / name).parent.mkdir(exist_ok=True)
            (disk / name).touch()
            os.truncate(disk / name, size)  # sparse
        releases = {
            "complete": release("complete"),
            "half": release("half", ("x.tar", "y.tar")),
            "none": release("none"),
            "more": release("half", ("x.tar", "z.tar"), size_gb=1),
        }
        if Path("/dev/shm").stat().st_dev != disk.stat().st_dev:
            releases["elsewhere"] = release("/dev/shm/no such folder of ours")
        return releases

    def test_all_releases_on_the_disk_count_and_only_what_they_lack(self, get, hub, disk, monkeypatch, capsys):
        others = self.others(disk)
        self.usage(monkeypatch, 36.9)
        with pytest.raises(ConfigError) as error:
            get({"a.tar": MD5}, {"a.tar": CONTENT}, size_gb=5.0, others=others)
        need = "37.0 GB still to come (five 5.0, half 12.0, none 20.0, more 0.0), 36.9 GB free"
        assert need in str(error.value) and "folder" in str(error.value)
        assert hub.requests == [] and not (disk / "a.tar.part").exists()
        self.usage(monkeypatch, 37.1)
        get({"a.tar": MD5}, size_gb=5.0, others=others)
        assert "37.0 GB still to come" in capsys.readouterr().err


class TestProcesses:
    def test_two_never_write_the_same_part(self, get, hub, disk):
        said = rf"a\.tar\.part: is being made by process {os.getpid()} on .*; wait"
        with locked(disk / "a.tar.part"), pytest.raises(ConfigError, match=said):
            get({"a.tar": MD5}, {"a.tar": CONTENT})
        assert hub.requests == []
        get({"a.tar": MD5})
        assert names(disk) == ["a.tar"]

    def test_brought_by_another_between_look_and_lock(self, get, hub, disk, monkeypatch):
        check = corpora._check_space

        def meanwhile(*arguments):
            check(*arguments)
            (disk / "a.tar").write_bytes(CONTENT)

        monkeypatch.setattr(corpora, "_check_space", meanwhile)
        assert get({"a.tar": MD5}, {"a.tar": b"other"})["files"]["a.tar"]["origin"] == "already there"
        assert hub.requests == [] and names(disk) == ["a.tar"]

    def test_a_folder_that_cannot_be_made(self, get, tmp_path):
        (tmp_path / "disk").write_text("a file")
        with pytest.raises(ConfigError, match=r"a\.tar\.part: cannot be written"):
            get({"a.tar": MD5}, {"a.tar": CONTENT})

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
    def test_killed_at_any_moment_and_called_again(self, get, hub, disk, tmp_path, number):
        files = {"a.tar": MD5, "b.zip": "", "c.tar": SHA256}
        contents = {"a.tar": CONTENT, "b.zip": zipped(), "c.tar": CONTENT}
        for name, content in contents.items():
            (hub.folder / name).write_bytes(content)
        settings = {"folder": str(disk), "size_gb": 0.0, "licence": "", "addresses": [hub.url + "{file}"]}
        code = (
            "import json, signal, sys; from pathlib import Path; from spaarsist.config import Release, parse\n"
            # what runs in the background is started with Ctrl-C ignored
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from spaarsist.data.corpora import fetch\n"
            "fetch({'five': parse(Release, sys.argv[1])}, 'five', Path(sys.argv[2]), jobs=2)"
        )
        command = [sys.executable, "-c", code, json.dumps(settings | {"files": files}), str(tmp_path / "receipt.json")]

        def fetched():
            return sum(path.stat().st_size for path in disk.iterdir())

        for _ in range(3):
            for name in files:
                hub.faults[name] = ["slow"]
            before = fetched()
            process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
            while process.poll() is None and fetched() < before + 80_000:  # so it has begun, and listens to Ctrl-C
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait(timeout=30) != 0
        hub.faults.clear()
        n_requests = len(hub.requests)
        get(files, size_gb=0.0)
        assert any(asked for _, asked in hub.requests[n_requests:]), "resumed"
        assert {name: (disk / name).read_bytes() for name in contents} == contents
        assert names(disk) == ["a.tar", "b.zip", "b.zip.sha256", "c.tar"]
