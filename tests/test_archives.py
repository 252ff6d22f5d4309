"""Members of tars and zips, read in place: they are the files that unpacking gives, and damage is told."""

import gzip
import io
import itertools
import os
import random
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from spaarsist.data import archives, audio
from spaarsist.data.protocol import make_index
from spaarsist.names import ConfigError

LONG = "a" * 60 + "/" + "b" * 120 + ".flac"  # beyond a tar header's 100 bytes, and no place to split it in two
NAMES = ["T_0.flac", "./T_1.flac", "flac_T/T_2.flac", LONG, "Ü 中.wav", "sub/at@1+2.ogg", "sub/a::b.flac"]


def sound(seed, name="a.flac", rate=16_000):
    stream = io.BytesIO()
    samples = 0.1 * np.random.default_rng(seed).standard_normal(700 + seed)
    soundfile.write(stream, samples, rate, format=name.rpartition(".")[2].upper())
    return stream.getvalue()


CONTENTS = {name: sound(seed, name) for seed, name in enumerate(NAMES)}


def write_tar(path, contents=CONTENTS, form=tarfile.PAX_FORMAT, mode="w"):
    with tarfile.open(path, mode, format=form) as tar:
        for name, content in contents.items():
            folder = tarfile.TarInfo(name + ".folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


class Unseekable(io.RawIOBase):
    """A pipe: zipfile then puts each member's size and checksum behind it, into a data descriptor."""

    def __init__(self, path):
        self.file = path.open("wb")

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)

    def close(self):
        self.file.close()
        super().close()


def write_zip(path, contents=CONTENTS, compression=zipfile.ZIP_DEFLATED, pipe=False):
    with Unseekable(path) if pipe else path.open("wb") as stream, zipfile.ZipFile(stream, "w", compression) as zipped:
        zipped.mkdir("sub") if not pipe else None
        for name, content in contents.items():
            zipped.writestr(name, content)
    return path


MAKERS = {
    "pax.tar": write_tar,
    "gnu.tar": lambda path, contents=CONTENTS: write_tar(path, contents, tarfile.GNU_FORMAT),
    "deflated.zip": write_zip,
    "stored.zip": lambda path, contents=CONTENTS: write_zip(path, contents, zipfile.ZIP_STORED),
    "piped.ZIP": lambda path, contents=CONTENTS: write_zip(path, contents, pipe=True),
}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    return lambda contents=CONTENTS: MAKERS[request.param](tmp_path / request.param, contents)


def test_every_member_is_found_and_equals_what_was_put_in(make):
    archive = make()
    paths = dict(archives.list_members(archive))
    assert list(paths) == NAMES, "all recordings, no folders, in the archive's order"
    for name in random.Random(0).sample(NAMES, len(NAMES)):
        assert archives.read(paths[name]) == CONTENTS[name]
        assert archives.read(Path(paths[name])) == CONTENTS[name]


def test_waveforms_equal_those_of_the_extracted_files(make, tmp_path):
    archive = make({name: sound(seed, name, 44_100) for seed, name in enumerate(NAMES)})
    opened = zipfile.ZipFile(archive) if archive.suffix.lower() == ".zip" else tarfile.open(archive)  # noqa: SIM115
    with opened:
        opened.extractall(tmp_path / "extracted")
    for name, path in archives.list_members(archive):
        file = tmp_path / "extracted" / name
        np.testing.assert_array_equal(audio.read(path), audio.read(file))
        assert audio.count_samples(path) == audio.count_samples(file) == len(audio.read(path))


def test_a_tar_path_holds_the_range_of_the_whole_record(tmp_path):
    first, *_, last = archives.list_members(write_tar(tmp_path / "a.tar", {"a.wav": b"x" * 1000, "b.wav": b"y"}))
    assert first == ("a.wav", f"{tmp_path}/a.tar::a.wav@512+1512"), "behind the folder's header"
    assert last == ("b.wav", f"{tmp_path}/a.tar::b.wav@{512 + 512 + 1024 + 512}+513")


def test_a_zip_is_listed_as_it_lies_on_the_disk(tmp_path):
    """Whatever the order of its table of contents: the index then reads it from begin to end."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name in "cab":
            zipped.writestr(name, name)
        zipped.filelist.sort(key=lambda info: info.filename)
    assert [name for name, _ in archives.list_members(tmp_path / "a.zip")] == ["c", "a", "b"]


class TestPaths:
    def test_a_file_is_a_file_whatever_its_name(self, tmp_path):
        write_zip(tmp_path / "a.zip", {"b.flac": b"member"})
        assert archives.read(f"{tmp_path}/a.zip::b.flac") == b"member"
        (tmp_path / "a.zip::b.flac").write_bytes(CONTENTS["T_0.flac"])
        assert archives.read(f"{tmp_path}/a.zip::b.flac") is None
        assert audio.count_samples(tmp_path / "a.zip::b.flac") == 700

    @pytest.mark.parametrize("path", ["a.flac", "a.tar", "a::b.flac", "a.zip:b.flac", "a.tar::", "::a.flac", ""])
    def test_what_names_no_member(self, path):
        assert archives.split(path) is None

    def test_members(self):
        assert archives.split("x/a.tar::b/c.flac@0+9") == (Path("x/a.tar"), "b/c.flac@0+9")
        assert archives.split("x::y/a.ZIP::b::c.zip::d") == (Path("x::y/a.ZIP"), "b::c.zip::d")
        assert archives.split("p.tar.gz::a.tsv") == (Path("p.tar.gz"), "a.tsv")
        assert archives.split("p.tgz::a.tsv") == (Path("p.tgz"), "a.tsv")


class TestForks:
    @pytest.mark.parametrize("suffix", ["tar", "zip"])
    def test_workers_of_a_loader_read_what_one_process_reads(self, tmp_path, suffix):
        """Deflated members larger than zipfile's chunks, so that a shared file position would be met."""
        contents = {f"{i}.wav": sound(i * 3000, "a.wav") for i in range(24)}
        archive = (write_tar if suffix == "tar" else write_zip)(tmp_path / f"a.{suffix}", contents)
        paths = [path for _, path in archives.list_members(archive)] * 8
        alone = [audio.read(path) for path in paths]
        batches = DataLoader(paths, batch_size=2, num_workers=2, collate_fn=lambda few: [audio.read(p) for p in few])
        for expected, (worker, heard) in zip(alone, enumerate(itertools.chain(*batches)), strict=True):
            np.testing.assert_array_equal(heard, expected, err_msg=f"{worker}")

    def test_a_zip_is_opened_once_per_process(self, tmp_path, monkeypatch):
        archive, opened = write_zip(tmp_path / "a.zip"), []
        real = zipfile.ZipFile
        monkeypatch.setattr(zipfile, "ZipFile", lambda *args: opened.append(args) or real(*args))
        for _ in range(3):
            assert archives.read(f"{archive}::T_0.flac") == CONTENTS["T_0.flac"]
        assert len(opened) == 1
        monkeypatch.setattr(archives.os, "getpid", lambda: -1)
        archives.read(f"{archive}::T_0.flac")
        assert len(opened) == 2


class TestChangedArchives:
    CHANGED = r"changed since it was indexed: make the index and trial list again"

    def test_a_tar_with_other_members(self, tmp_path):
        paths = dict(archives.list_members(write_tar(tmp_path / "a.tar")))
        write_tar(tmp_path / "a.tar", {name.replace("T_", "E_"): content for name, content in CONTENTS.items()})
        with pytest.raises(ConfigError, match=rf"a\.tar::T_0\.flac@512\+\d+: .*{self.CHANGED}"):
            archives.read(paths["T_0.flac"])

    @pytest.mark.parametrize("other", ["E_0.flac", "Z_0.flac"])
    def test_a_tar_with_a_link_of_another_name(self, tmp_path, other):
        paths = dict(archives.list_members(write_tar(tmp_path / "a.tar", {"T_0.flac": b""})))
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            folder, link = tarfile.TarInfo("folder"), tarfile.TarInfo(other)
            folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "elsewhere"
            tar.addfile(folder)
            tar.addfile(link)
        with pytest.raises(ConfigError, match=self.CHANGED):
            archives.read(paths["T_0.flac"])

    def test_a_tar_with_a_member_of_another_size(self, tmp_path):
        paths = dict(archives.list_members(write_tar(tmp_path / "a.tar", {"a.wav": b"x" * 1000})))
        for other in (999, 1001, 5000, 0):
            write_tar(tmp_path / "a.tar", {"a.wav": b"x" * other, "z.wav": b"z" * 9000})
            with pytest.raises(ConfigError, match=self.CHANGED):
                archives.read(paths["a.wav"])

    @pytest.mark.parametrize("offset", [-512, -1, 1, 512, 10**6, 10**30])
    def test_a_tar_with_everything_elsewhere(self, tmp_path, offset):
        path = dict(archives.list_members(write_tar(tmp_path / "a.tar")))["flac_T/T_2.flac"]
        stem, start, size = path.replace("+", "@").rsplit("@", 2)
        with pytest.raises(ConfigError, match=self.CHANGED):
            archives.read(f"{stem}@{int(start) + offset}+{size}")

    def test_a_tar_that_has_been_cut(self, tmp_path):
        paths = dict(archives.list_members(write_tar(tmp_path / "a.tar")))
        whole = (tmp_path / "a.tar").read_bytes()
        for name in (NAMES[0], LONG):
            end = sum(map(int, paths[name].rsplit("@", 1)[1].split("+")))
            (tmp_path / "a.tar").write_bytes(whole[:end])
            assert archives.read(paths[name]) == CONTENTS[name]
            for cut in (1, 600, end):
                (tmp_path / "a.tar").write_bytes(whole[: end - cut])
                with pytest.raises(ConfigError, match=self.CHANGED):
                    archives.read(paths[name])

    def test_a_zip_without_the_member(self, tmp_path):
        with pytest.raises(ConfigError, match=rf"a\.zip::T_9\.flac: .*{self.CHANGED}"):
            archives.read(f"{write_zip(tmp_path / 'a.zip')}::T_9.flac")

    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_a_zip_with_a_changed_byte(self, tmp_path, compression):
        archive = write_zip(tmp_path / "a.zip", {"a.flac": CONTENTS[LONG], "b.flac": CONTENTS[LONG]}, compression)
        content = bytearray(archive.read_bytes())
        content[len(content) // 4] ^= 1
        archive.write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.zip::a\.flac: damaged member \(.*fetch the archive again"):
            audio.read(f"{archive}::a.flac")
        assert archives.read(f"{archive}::b.flac") == CONTENTS[LONG]


class TestUnusableArchives:
    @pytest.mark.parametrize("suffix", ["tar", "zip"])
    def test_missing(self, tmp_path, suffix):
        for step in (archives.read, audio.read, audio.count_samples):
            with pytest.raises(ConfigError, match=rf"gone\.{suffix}.*No such file"):
                step(f"{tmp_path}/gone.{suffix}::a.flac@0+1024")
        with pytest.raises(ConfigError, match=rf"gone\.{suffix}: .*No such file"):
            list(archives.list_members(tmp_path / f"gone.{suffix}"))

    def test_a_compressed_tar_has_no_random_access(self, tmp_path):
        write_tar(tmp_path / "a.tar.gz", mode="w:gz")
        for step in (lambda a: list(archives.list_members(a)), lambda a: archives.read(f"{a}::T_0.flac@0+1024")):
            with pytest.raises(ConfigError, match=r"a\.tar\.gz: .*gunzip"):
                step(tmp_path / "a.tar.gz")
        (tmp_path / "a.tar.gz").rename(tmp_path / "a.tar")
        with pytest.raises(ConfigError, match=r"a\.tar: not readable as a tar .*gunzip"):
            list(archives.list_members(tmp_path / "a.tar"))

    def test_a_tar_path_without_its_range(self, tmp_path):
        with pytest.raises(ConfigError, match=r"T_0\.flac: lacks the byte range"):
            archives.read(f"{write_tar(tmp_path / 'a.tar')}::T_0.flac")

    def test_a_tar_cut_anywhere_cannot_be_indexed(self, tmp_path):
        """Also between two members, where tarfile takes the cut for the end."""
        whole = write_tar(tmp_path / "a.tar", {"a.flac": CONTENTS["T_0.flac"], LONG: b"x" * 600}).read_bytes()
        ends = len(whole.rstrip(b"\0"))
        end = -(-ends // 512) * 512
        for cut in [*range(0, end, 512), *range(100, end, 512), end + 100]:
            (tmp_path / "a.tar").write_bytes(whole[:cut])
            with pytest.raises(ConfigError, match=r"a\.tar: (cut short|not readable as a tar)"):
                list(archives.list_members(tmp_path / "a.tar"))
        (tmp_path / "a.tar").write_bytes(whole[: end + 512])
        assert len(list(archives.list_members(tmp_path / "a.tar"))) == 2

    def test_a_tar_with_a_spoilt_header_cannot_be_indexed(self, tmp_path):
        archive = write_tar(tmp_path / "a.tar")
        content = bytearray(archive.read_bytes())
        content[content.index(b"flac_T/T_2.flac\0")] ^= 1
        archive.write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.tar: cut short or damaged at byte \d+"):
            list(archives.list_members(archive))

    @pytest.mark.parametrize("content", [b"", b"<html>503</html>", b"PK\x05\x06", bytes(range(256)) * 8])
    @pytest.mark.parametrize("suffix", ["tar", "zip"])
    def test_no_archive_at_all(self, tmp_path, suffix, content):
        archive = tmp_path / f"a.{suffix}"
        archive.write_bytes(content)
        for step in (
            lambda: list(archives.list_members(archive)),
            lambda: archives.read_member(archive, "a.tsv"),
            lambda: archives.read(f"{archive}::a.flac@0+1024"),
        ):
            with pytest.raises(ConfigError, match=rf"a\.{suffix}"):
                step()

    def test_cut_zip(self, tmp_path):
        archive = write_zip(tmp_path / "a.zip")
        archive.write_bytes(archive.read_bytes()[:-30])
        with pytest.raises(ConfigError, match=r"a\.zip: not readable as a zip .*fetch it again"):
            list(archives.list_members(archive))

    def test_encrypted_zip(self, tmp_path):
        archive = write_zip(tmp_path / "a.zip", {"a.flac": b"x"}, zipfile.ZIP_STORED)
        content = bytearray(archive.read_bytes())
        content[content.rindex(b"PK\x03\x04") + 6] |= 1
        content[content.rindex(b"PK\x01\x02") + 8] |= 1
        archive.write_bytes(content)
        with pytest.raises(ConfigError, match="encrypted"):
            archives.read(f"{archive}::a.flac")

    @pytest.mark.parametrize("maker", MAKERS)
    def test_bytes_changed_at_random_end_in_the_right_content_or_an_error(self, tmp_path, maker):
        """Never another exception. A tar has no checksum of its contents: those are the release's to check."""
        archive, rng = MAKERS[maker](tmp_path / maker), random.Random(maker)
        paths, whole = dict(archives.list_members(archive)), archive.read_bytes()
        for _ in range(150):
            content = bytearray(whole)
            for _ in range(rng.choice([1, 3, 100])):
                content[rng.randrange(len(content))] = rng.randrange(256)
            archive.write_bytes(content)
            archives._cached_zip.cache_clear()
            for step in (
                lambda: list(archives.list_members(archive)),
                lambda: archives.read_member(archive, "T_0.flac"),
                *[lambda name=name, path=path: self.is_right(name, path) for name, path in paths.items()],
            ):
                with suppress(ConfigError):
                    step()

    def is_right(self, name, path):
        content = archives.read(path)
        assert content == CONTENTS[name] or (".tar" in path and len(content) == len(CONTENTS[name]))


@pytest.mark.parametrize("reader", [audio.read, audio.count_samples])
@pytest.mark.parametrize("suffix", ["tar", "zip"])
class TestUnusableMembers:
    """As of files: see test_audio.py."""

    @pytest.fixture
    def member(self, tmp_path, suffix):
        def store(content):
            archive = (write_tar if suffix == "tar" else write_zip)(tmp_path / f"a.{suffix}", {"b/c.wav": content})
            return dict(archives.list_members(archive))["b/c.wav"]

        return store

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty file; fetch it again"),
            (b"<html>503</html>", r"not readable as audio or cut short \(Format not recogni.ed\); fetch it again"),
            (sound(0, "a.wav")[:44], r"holds no audio|cut short"),
            (sound(0, "a.wav")[:900], r"cut short: \d+ of 1400 bytes of audio; fetch it again"),
        ],
    )
    def test_the_member_is_named(self, member, reader, content, message):
        path = member(content)
        with pytest.raises(ConfigError) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "BytesIO" not in str(caught.value)
        caught.match(message)

    def test_cut_flac(self, member, reader):
        path = member(sound(0)[:900])
        with pytest.raises(ConfigError, match=r"c\.wav.*cut short"):
            audio.read(path)

    def test_sample_that_is_no_number(self, member, reader):
        stream = io.BytesIO()
        soundfile.write(stream, np.array([0, np.nan]), 16_000, subtype="FLOAT", format="WAV")
        with pytest.raises(ConfigError, match=r"c\.wav.*: sample 1 is not a finite number"):
            audio.read(member(stream.getvalue()))


class TestReadMember:
    FILES = {"p/ASVspoof5.train.tsv": b"train", "p/ASVspoof5.dev.track_1.tsv": b"dev", "README": b"r"}  # noqa: RUF012

    @pytest.fixture(params=["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.zip"])
    def archive(self, request, tmp_path):
        path = tmp_path / request.param
        compression = request.param.rpartition(".")[2].replace("tgz", "gz").replace("tar", "")
        return (
            write_zip(path, self.FILES)
            if compression == "zip"
            else write_tar(path, self.FILES, mode=f"w:{compression}")
        )

    def test_by_its_name_or_the_end_of_it(self, archive):
        assert archives.read_member(archive, "README") == b"r"
        assert archives.read_member(archive, "ASVspoof5.train.tsv") == b"train"
        assert archives.read_member(archive, "p/ASVspoof5.train.tsv") == b"train"

    @pytest.mark.parametrize("name", ["train.tsv", "ASVspoof5.train", "p", "README.folder", "*"])
    def test_missing_says_what_is_there(self, archive, name):
        there = r"p/ASVspoof5\.train\.tsv, p/ASV.*, README"
        with pytest.raises(ConfigError, match=f"no members are called .*; there is {there}"):
            archives.read_member(archive, name)

    def test_two_of_a_name(self, tmp_path):
        archive = write_tar(tmp_path / "a.tar", {"new/a.tsv": b"", "other": b"", "old/a.tsv": b""})
        with pytest.raises(ConfigError, match=r"2 members are called a\.tsv; there is new/a\.tsv, old/a\.tsv$"):
            archives.read_member(archive, "a.tsv")

    def test_a_member_added_again_replaces_the_first(self, tmp_path):
        """So does tar."""
        archive = write_tar(tmp_path / "a.tar", {"a.tsv": b"old"})
        write_tar(archive, {"a.tsv": b"new"}, mode="a")
        assert archives.read_member(archive, "a.tsv") == b"new"

    def test_compressed_tar_cut_short(self, tmp_path):
        archive = write_tar(tmp_path / "a.tar.gz", {"a.tsv": random.Random(0).randbytes(50_000)}, mode="w:gz")
        for end in (0, 5, 200, 30_000):
            (tmp_path / "b.tar.gz").write_bytes(archive.read_bytes()[:end])
            with pytest.raises(ConfigError, match=r"b\.tar\.gz: not readable as an archive"):
                archives.read_member(tmp_path / "b.tar.gz", "a.tsv")

    def test_gzip_of_something_else(self, tmp_path):
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"<html>503</html>"))
        with pytest.raises(ConfigError, match="not readable as an archive"):
            archives.read_member(tmp_path / "a.tar.gz", "a.tsv")


class TestIndex:
    def index(self, archive, tmp_path):
        make_index(archive, tmp_path / "index.tsv")
        header, *rows = (tmp_path / "index.tsv").read_text(encoding="utf-8").splitlines()
        assert header == "member\tpath\tn_samples\tarchive"
        assert {row.split("\t")[3] for row in rows} == {archives.state(archive)}
        return [row.split("\t")[:3] for row in rows]

    def test_members_paths_and_lengths_in_order(self, make, tmp_path):
        archive = make()
        rows = self.index(archive, tmp_path)
        assert [(row[0], row[1]) for row in rows] == list(archives.list_members(archive))
        assert [int(row[2]) for row in rows] == [700 + seed for seed in range(len(NAMES))]

    def test_only_recordings(self, make, tmp_path):
        wav = sound(0, "a.wav")
        others = ["meta.csv", "a.txt", "__MACOSX/a.wav", "x/__MACOSX/a.wav", "._a.wav", "x/._a.wav", "wav", "t\tab.wav"]
        kept = ["A.WAV", "b.Flac", "c.ogg", "d/e.mp3", "x_._y.wav", "NOT__MACOSX/a.wav", ".wav.wav", 'quo"te.wav']
        kept += ["a.opus", "b.aiff", "c.au", "d.sph", "e.AIF", "f.w64"]
        rows = self.index(make(dict.fromkeys(others + kept, wav)), tmp_path)
        assert [row[0] for row in rows] == kept
        assert [row[2] for row in rows] == ["700"] * len(kept), "whatever the ending, the content is WAV"

    def test_name_that_is_no_text(self, tmp_path):
        archive = write_tar(tmp_path / "a.tar", {"a\udcff.wav": b"", "b.wav": sound(0, "b.wav")}, tarfile.GNU_FORMAT)
        assert [row[0] for row in self.index(archive, tmp_path)] == ["b.wav"]

    def test_unreadable_members_do_not_stop_it(self, make, tmp_path):
        contents = {"a.wav": sound(0, "a.wav"), "b.wav": b"junk", "c.flac": b"", "d.flac": sound(1)}
        rows = self.index(make(contents), tmp_path)
        assert [row[2] for row in rows] == ["700", "0", "0", "701"]

    def test_nothing_to_list(self, make, tmp_path):
        with pytest.raises(ConfigError, match="no recordings"):
            make_index(make({"a.txt": b""}), tmp_path / "index.tsv")

    def test_nothing_half_written_stays(self, tmp_path):
        archive = write_tar(tmp_path / "a.tar")
        archive.write_bytes(archive.read_bytes()[:3000])
        with pytest.raises(ConfigError):
            make_index(archive, tmp_path / "index.tsv")
        assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]

    def test_a_tar_need_not_fit_into_memory(self, tmp_path, monkeypatch):
        """What tarfile remembers stays at one member; the content is read member by member."""
        archive = write_tar(tmp_path / "a.tar", {f"{i}.flac": CONTENTS["T_0.flac"] for i in range(50)})
        kept = []
        real = tarfile.TarFile.next
        monkeypatch.setattr(tarfile.TarFile, "next", lambda tar: kept.append(len(tar.members)) or real(tar))
        assert len(list(archives.list_members(archive))) == 50
        assert max(kept) <= 1


class TestLinks:
    """A tar stores the second of two equal files as a link to the first."""

    def write(self, path, links, contents):
        with tarfile.open(path, "w") as tar:
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            for name, (kind, target) in links.items():
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, target
                tar.addfile(info)
        return path

    @pytest.mark.parametrize(
        ("kind", "target"),
        [(tarfile.LNKTYPE, "a/x.flac"), (tarfile.SYMTYPE, "../a/x.flac"), (tarfile.SYMTYPE, "./other.flac")],
    )
    def test_a_link_is_what_it_leads_to(self, tmp_path, kind, target):
        links = {"b/link.flac": (kind, target), "b/other.flac": (tarfile.LNKTYPE, "a/x.flac")}
        paths = dict(archives.list_members(self.write(tmp_path / "a.tar", links, {"a/x.flac": CONTENTS["T_0.flac"]})))
        assert archives.read(paths["b/link.flac"]) == CONTENTS["T_0.flac"]
        assert audio.count_samples(paths["b/link.flac"]) == 700

    def test_links_that_lead_nowhere(self, tmp_path):
        links = {"a.flac": (tarfile.SYMTYPE, "b.flac"), "b.flac": (tarfile.SYMTYPE, "a.flac")}
        links |= {"c.flac": (tarfile.SYMTYPE, "/data/c.flac"), "d.flac": (tarfile.LNKTYPE, "gone.flac")}
        for name, path in archives.list_members(self.write(tmp_path / "a.tar", links, {})):
            with pytest.raises(ConfigError, match=rf"a\.tar::{name[0]}\.flac.*: a link to .*not in the archive"):
                audio.read(path)


class TestJoinedTars:
    def test_all_of_them_are_read(self, tmp_path):
        first = write_tar(tmp_path / "1.tar", {"a.flac": sound(1), "b.flac": sound(2)})
        second = write_tar(tmp_path / "2.tar", {"c.flac": sound(3)})
        (tmp_path / "a.tar").write_bytes(first.read_bytes() + second.read_bytes())
        paths = dict(archives.list_members(tmp_path / "a.tar"))
        assert {name: audio.count_samples(path) for name, path in paths.items()} == {
            "a.flac": 701, "b.flac": 702, "c.flac": 703,
        }  # fmt: skip

    def test_junk_behind_the_end(self, tmp_path):
        archive = write_tar(tmp_path / "a.tar")
        archive.write_bytes(archive.read_bytes() + b"x" * 2000)
        with pytest.raises(ConfigError, match=r"a\.tar: cut short or damaged at byte \d+"):
            list(archives.list_members(archive))

    def test_a_flag_is_not_a_password(self, tmp_path):
        """The one that says UTF-8 stands beside the one that says encrypted."""
        archive = write_zip(tmp_path / "a.zip", {"\u00fc.flac": sound(0)}, zipfile.ZIP_STORED)
        content = bytearray(archive.read_bytes())
        content[content.rindex(b"fLaC") + 60] ^= 255
        archive.write_bytes(content)
        with pytest.raises(ConfigError, match=r"damaged member \(.*\); fetch the archive again"):
            archives.read(f"{archive}::\u00fc.flac")


class TestNamesInZips:
    def test_utf8_without_the_flag(self, tmp_path):
        """As many writers leave it out; read as code page 437, a name is another one."""
        archive = write_zip(tmp_path / "a.zip", {"Ü 中.wav": sound(5, "a.wav")})
        content = bytearray(archive.read_bytes())
        for header, flags in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
            content[content.rindex(header) + flags] &= ~8 & 255
        archive.write_bytes(content)
        ((name, path),) = archives.list_members(archive)
        assert name == "Ü 中.wav" and audio.count_samples(path) == 705

    def test_code_page_437(self, tmp_path):
        archive = write_zip(tmp_path / "a.zip", {"Aeb.wav": sound(5, "a.wav")})
        archive.write_bytes(archive.read_bytes().replace(b"Aeb.wav", b"\x8e\x84b.wav"))
        ((name, path),) = archives.list_members(archive)
        assert name == "Ääb.wav" and audio.count_samples(path) == 705


def test_members_that_need_a_password_or_another_program(tmp_path):
    archive = write_zip(tmp_path / "a.zip", {"a.flac": sound(0)}, zipfile.ZIP_STORED)
    whole = bytearray(archive.read_bytes())
    local, central = whole.rindex(b"PK\3\4"), whole.rindex(b"PK\1\2")
    for offset, value, message in ((0, 1, "encrypted; unpack the archive with its password"), (2, 9, "unpack")):
        content = bytearray(whole)
        content[local + 6 + offset] = content[central + 8 + offset] = value
        archive.write_bytes(content)
        archives._cached_zip.cache_clear()
        with pytest.raises(ConfigError, match=message) as caught:
            audio.read(f"{archive}::a.flac")
        assert "fetch" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_pipes_and_folders_that_are_called_archives(tmp_path, suffix):
    os.mkfifo(tmp_path / f"p.{suffix}")
    (tmp_path / f"f.{suffix}").mkdir()
    for name in "pf":
        for step in (lambda a: list(archives.list_members(a)), lambda a: audio.read(f"{a}::a.flac@0+1024")):
            with pytest.raises(ConfigError, match=rf"{name}\.{suffix}: a folder, pipe or device"):
                step(tmp_path / f"{name}.{suffix}")
