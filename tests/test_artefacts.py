import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import write_scores
from spaarsist import artefacts
from spaarsist.artefacts import distinct, locked, writing
from spaarsist.code import meaning
from spaarsist.names import ConfigError


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "new" / "a.tsv"
    with artefacts.writing(target) as path:
        path.write_text("half")
        assert not target.exists()
        assert path.suffix == ".tsv"
    assert target.read_text() == "half"
    assert [p.name for p in target.parent.iterdir()] == ["a.tsv"]


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path):
    target = tmp_path / "a.tsv"
    target.write_text("old")
    with pytest.raises(RuntimeError), artefacts.writing(target) as path:
        path.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv"]


def test_folders_too(tmp_path):
    for content in ("first", "second"):
        with artefacts.writing(tmp_path / "folder") as path:
            path.mkdir()
            (path / content).touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["second"]
    with pytest.raises(RuntimeError), artefacts.writing(tmp_path / "folder") as path:
        path.mkdir()
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert artefacts.file_hash(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"
    hashes = {kind: artefacts.provenance(backend=kind)["code_hash"] for kind in ("AASIST", "MHFA")}
    assert hashes["AASIST"] != hashes["MHFA"]
    assert hashes["MHFA"] == meaning("experiments.train.train", "experiments.score.score", backend="MHFA")
    assert artefacts.provenance("names.ratio_code")["code_hash"] == meaning("names.ratio_code")


class TestTrialsHash:
    LIST = (
        "trial_id\tpath\tlabel\tspeaker_id\tattack_id\tcodec\tn_samples\n"
        "E_1\t/data/é/E_1.flac\tspoof\tS1\tA17\tC01\t64000\n"
        "E_2\t/data/all.tar::E_2.flac\tbonafide\tS2\t-\t-\t5\n"
    )

    def hashed(self, tmp_path, text):
        (tmp_path / "list.tsv").write_text(text, encoding="utf-8")
        return artefacts.trials_hash(tmp_path / "list.tsv")

    def test_all_columns_but_the_path(self, tmp_path):
        rows = [line.split("\t") for line in self.LIST.splitlines()]
        content = "".join("\t".join([row[0], *row[2:]]) + "\n" for row in rows)
        expected = hashlib.sha256(content.encode()).hexdigest()
        assert self.hashed(tmp_path, self.LIST) == expected
        assert self.hashed(tmp_path, self.LIST.replace("/data/", "/a/longer/place/")) == expected
        assert self.hashed(tmp_path, self.LIST.removesuffix("\n")) == expected
        header, first, second = self.LIST.splitlines(keepends=True)
        assert self.hashed(tmp_path, header + second + first) != expected, "the order is the official one"
        changes = {"spoof": "bonafide", "E_2\t": "E_3\t", "S1": "S2", "C01": "-", "64000": "64001"}
        for before, after in changes.items():
            assert self.hashed(tmp_path, self.LIST.replace(before, after)) != expected

    def test_no_trial_list(self, tmp_path):
        for text in ("", "filename\tcm-score\nE_1\t0.5\n", self.LIST.removeprefix("trial_id\t")):
            with pytest.raises(ConfigError, match=r"list\.tsv: a trial list has the columns trial_id, path, .*trials`"):
                self.hashed(tmp_path, text)
        with pytest.raises(ConfigError, match=r"list\.tsv, line 4: not 7 columns"):
            self.hashed(tmp_path, self.LIST + "E_3\tcut short\n")
        for place in (tmp_path, tmp_path / "none.tsv"):
            with pytest.raises(ConfigError, match="not readable as a trial list"):
                artefacts.trials_hash(place)

    def test_nothing_slow_is_imported_for_it(self, tmp_path):
        self.hashed(tmp_path, self.LIST)
        code = "import sys; from spaarsist.artefacts import trials_hash; trials_hash(sys.argv[1]); "
        code += "print({'numpy', 'pandas', 'pyarrow', 'torch'} & {*sys.modules})"
        command = [sys.executable, "-c", code, tmp_path / "list.tsv"]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "set()\n"


class TestReadTable:
    TEXT = "system\tseed\tvalue\nA\t1\t0.5\nB\t2\t0.25\n"

    def read(self, tmp_path, text):
        (tmp_path / "t.tsv").write_bytes(text.encode() if isinstance(text, str) else text)
        return artefacts.read_table(tmp_path / "t.tsv", ["system", "seed", "value"], ["system"], ["seed", "value"])

    def test_reads(self, tmp_path):
        table = self.read(tmp_path, self.TEXT)
        assert table["value"].tolist() == [0.5, 0.25] and table["seed"].tolist() == [1, 2]
        assert self.read(tmp_path, self.TEXT.replace("\n", "\r\n")).equals(table)

    @pytest.mark.parametrize(
        ("before", "after", "message"),
        [
            ("0.25", "nan", "line 3: value is nan, not a finite number"),
            ("0.25", "-inf", "line 3: value is -inf, not a finite number"),
            ("0.25", "", "line 3: value is nan, not a finite number"),
            ("0.5", "half", "line 2: value is half, not a finite number"),
            ("1\t0.5\nB\t2", "True\t0.5\nB\tFalse", "line 2: seed is .*True.*, not a finite number"),
            ("B\t", "\t", "line 3: system is nan, not a text"),
            ("\tvalue", "", "columns missing: value|rows have more columns"),
            ("\tvalue", "\tvalue\tvalue", "two columns are called value"),
            ("A\t1\t0.5", "A\t1\t0.5\t7", "not a readable TSV|rows have more columns"),
            ("system\tseed\tvalue", "seed\tvalue", "columns missing: system"),
            ("0.25\n", "0.25\t1\n", "not a readable TSV"),
        ],
    )
    def test_names_what_is_wrong(self, tmp_path, before, after, message):
        with pytest.raises(ConfigError, match=rf"t\.tsv.*({message})") as told:
            self.read(tmp_path, self.TEXT.replace(before, after, 1))
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'system\tseed\tvalue\nA\t1\t"0.5\n'])
    def test_no_table(self, tmp_path, content):
        with pytest.raises(ConfigError, match=r"t\.tsv"):
            self.read(tmp_path, content)


def test_a_score_file_that_has_lost_rows(tmp_path):
    """One whose footer counts other rows than its pages hold: not read in part."""
    about = {b"spaarsist": json.dumps({"system": "A", "seed": 1, "corpus": "m"}).encode()}
    table = pa.table({"trial_id": [f"t{i}" for i in range(200)], "score": np.linspace(0, 1, 200)})
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "s.parquet")
    whole = (tmp_path / "s.parquet").read_bytes()
    assert len(artefacts.read_scores(tmp_path / "s.parquet")[1]) == 200
    shorter = 0
    for place in range(len(whole) - 1200, len(whole) - 8):
        for bit in (0x08, 0x10):
            (tmp_path / "s.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            with contextlib.suppress(ConfigError):
                shorter += len(artefacts.read_scores(tmp_path / "s.parquet")[1]) < 200
    assert not shorter


def test_publish(tmp_path):
    results = tmp_path / "mini"
    benchmarks = results / "benchmarks"
    (benchmarks / "train").mkdir(parents=True)
    (benchmarks / "table1.tsv").write_text("s\th:m:s\n1.5\t0:00:01\n")
    for job, seconds in (("a", 10), ("b", 20)):
        (benchmarks / "train" / f"{job}.tsv").write_text(f"s\th:m:s\n{seconds}\t-\n")
    files = [results / place / "composite.tsv" for place in ("tables", "figures")]  # one name, two files
    for file in files:
        file.parent.mkdir()
        file.write_text(str(file))
    scores = [score_file(tmp_path / f"{n}.parquet", "AASIST", f"AST-0{n}", code_hash="abc") for n in (3, 5)]
    scores.append(score_file(tmp_path / "m.parquet", "MHFA", "MHFA", code_hash="012"))
    out = tmp_path / "out"
    sources = {"figures/composite": "reporting/figures/composite.py", "figures/det": "reporting/figures/scores.py"}
    artefacts.publish(files, scores, results, out, sources)
    made = {p.relative_to(out).as_posix(): p for p in out.rglob("*.*")}
    assert sorted(made) == ["figures/composite.tsv", "record.json", "tables/composite.tsv", "times.tsv"]
    assert (out / "times.tsv").read_text().splitlines()[1:] == ["table1\t1\t1.5\t1.5", "train\t2\t30.0\t20.0"]
    record = json.loads((out / "record.json").read_text())
    assert record["files"] == {f"{f.parent.name}/composite.tsv": artefacts.file_hash(f) for f in files}
    assert record["machine"]["cores"]
    assert record["made_by"] == {"figures/composite.tsv": "reporting/figures/composite.py"}
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", record["commit"])
    made_by = {"AASIST": "abc", "MHFA": "012"}
    assert record["code_hash"] == made_by, "the code that made the scores, not the code that publishes"
    with pytest.raises(ConfigError, match=r"not within .*mini: .*3\.parquet"):
        artefacts.publish(scores[:1], scores, results, tmp_path / "other", {})
    for stranger, complaint in (
        (score_file(tmp_path / "a.parquet", "AASIST", "AST-01", code_hash="def"),
         r"scores: AASIST comes from 2 states of the code: abc \(AST-03 seed 1, AST-05 seed 1\); "
         r"def \(AST-01 seed 1\); remove checkpoints and scores of the older ones"),
        (score_file(tmp_path / "b.parquet", "MHFA", "MHFA", {"code_hash": "0"}, code_hash="012"),
         r"MHFA comes from 2 states of the code: 012 \(MHFA seed 1\); 0 \(MHFA seed 1\)"),
        (score_file(tmp_path / "c.parquet", "SLS", "SLS", code_hash="x", torch="3"),
         '2 sets of versions; (.*\n)+  SLS seed 1: {"torch": "3"}'),
        (score_file(tmp_path / "d.parquet", None, "SLS", code_hash="x"), r"d\.parquet: does not say its back-end"),
        (score_file(tmp_path / "e.parquet", "SLS", "SLS"), r"e\.parquet: does not say .* how it was made; make"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=complaint):
            artefacts.publish(files, [*scores, stranger], results, tmp_path / "other", {})
    assert not (tmp_path / "other").exists()


def score_file(path, backend, system, scored=None, seed=1, corpus="eval", trial_list=None, **provenance):
    about = {"trained_with": provenance, "provenance": scored or provenance}
    about |= {"backend": backend} if backend else {}
    about |= {"trial_list": trial_list} if trial_list else {}
    return write_scores(path, {"trial_id": ["a"]}, system=system, seed=seed, corpus=corpus, **about)


def test_provenance_gathers_what_made_the_scores(tmp_path):
    trained, scored = ({"code_hash": code, "torch": "2.11.0", "python": "3.11.7"} for code in "ts")
    other = trained | {"code_hash": "u", "torch": "2.10.0"}
    scores = [
        score_file(tmp_path / "1.parquet", "MHFA", "MHFA", scored, 1, "wild", "b" * 64, **trained),
        score_file(tmp_path / "2.parquet", "AASIST", "AST-05", scored, 8, "home", "a" * 64, **other),
        score_file(tmp_path / "3.parquet", "AASIST", "AST-05", scored, 1, "home", "c" * 64, **trained),
    ]
    artefacts.write_provenance(scores, tmp_path / "p.json", "0123456789abcdef" * 4)
    record = json.loads((tmp_path / "p.json").read_text())
    assert record == {
        "training_code": {"AASIST": ["t", "u"], "MHFA": ["t"]},
        "scoring_code": {"AASIST": ["s"], "MHFA": ["s"]},
        "config_hash": "0123456789abcdef" * 4,
        "seeds": [1, 8],
        "trainings": ["AST-05", "MHFA"],
        "not_deterministic": [],
        "corpora": {"home": ["a" * 64, "c" * 64], "wild": ["b" * 64]},
        "versions": {"python": ["3.11.7"], "torch": ["2.10.0", "2.11.0"]},
    }
    artefacts.write_provenance(scores[::-1], tmp_path / "q.json", "0123456789abcdef" * 4)
    assert (tmp_path / "q.json").read_bytes() == (tmp_path / "p.json").read_bytes(), "whatever the order of the files"
    text = artefacts.footer(tmp_path / "p.json")
    assert text.startswith(
        f"Training by code AASIST t and u, MHFA t, scores by code AASIST s, MHFA s; "
        f"table by code {meaning()}; config 0123456789abcdef; seeds 1, 8; "
        "corpora home (trial list aaaaaaaa and cccccccc), wild (trial list bbbbbbbb); torch 2.10.0 and 2.11.0, "
        "Python 3.11.7; made 20"
    )


def test_the_footer_says_which_trainings_may_not_repeat_themselves(tmp_path):
    scores = []
    for system, deterministic in (("MHFA", False), ("SLS", True), ("AST-05", False)):
        about = {"system": system, "seed": 1, "corpus": "home", "deterministic": deterministic}
        scores.append(write_scores(tmp_path / f"{system}.parquet", {"trial_id": ["a"]}, **about))
    artefacts.write_provenance(scores, tmp_path / "p.json", "x")
    assert "; trained without deterministic algorithms: AST-05, MHFA; made 20" in artefacts.footer(tmp_path / "p.json")
    artefacts.write_provenance(scores[1:2], tmp_path / "p.json", "x")
    assert "deterministic" not in artefacts.footer(tmp_path / "p.json")


def test_provenance_of_scores_from_elsewhere(tmp_path):
    scores = write_scores(tmp_path / "s.parquet", {"trial_id": ["a"]}, system="MHFA", seed=1, corpus="home")
    artefacts.write_provenance([scores], tmp_path / "p.json", "x")
    assert artefacts.footer(tmp_path / "p.json").startswith("Training and scores by code unknown; table by code ")
    unknown = "; seed 1; corpus home (trial list unknown); torch unknown, Python unknown;"
    assert unknown in artefacts.footer(tmp_path / "p.json")


def test_footer_tells_date_and_machine(monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, zone):
            assert zone is UTC
            return cls(2026, 11, 23, 23, 59)

    monkeypatch.setattr(artefacts, "datetime", Clock)
    monkeypatch.setattr(artefacts, "processor", lambda: "an abacus")
    for cores, words in ((2, "2 cores"), (1, "1 core")):
        monkeypatch.setattr(artefacts.os, "cpu_count", lambda n=cores: n)
        assert artefacts.footer(None) == f"Table by code {meaning()}; made 2026-11-23 on an abacus, {words}."


def test_provenance_refusals(tmp_path):
    with pytest.raises(ConfigError, match="no score file"):
        artefacts.write_provenance([], tmp_path / "p.json", "x")
    (tmp_path / "s.parquet").write_text("no scores")
    with pytest.raises(ConfigError, match="not a readable Parquet"):
        artefacts.write_provenance([tmp_path / "s.parquet"], tmp_path / "p.json", "x")
    assert not (tmp_path / "p.json").exists()
    for content in ("no JSON", "[]", "{}", '{"training_code": 1, "scoring_code": []}'):
        (tmp_path / "p.json").write_text(content)
        with pytest.raises(ConfigError, match=r"p\.json: not a readable record of provenance"):
            artefacts.footer(tmp_path / "p.json")
    with pytest.raises(ConfigError, match="not a readable record"):
        artefacts.footer(tmp_path / "none.json")


def test_leftovers_of_a_killed_process_do_not_matter(tmp_path):
    with artefacts.writing(tmp_path / "folder") as path:
        path.mkdir()
    leftover = path
    (leftover / "half").mkdir(parents=True)
    with artefacts.writing(tmp_path / "folder") as path:
        assert path == leftover
        path.mkdir()
        (path / "whole").touch()
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["whole"]


class TestLock:
    """One process at a time; what a dead one has left does not hold up the next."""

    HOLD = """
import sys, time
from pathlib import Path
from spaarsist.artefacts import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

    @pytest.fixture
    def holder(self, tmp_path):
        """Another process that holds the lock of `a`."""
        process = subprocess.Popen(
            [sys.executable, "-c", self.HOLD, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()
        process.wait()

    def test_another_process_is_refused_and_told_of_the_first(self, holder, tmp_path):
        said = rf"a: is being made by process {holder.pid} on {platform.node()}; wait for it, or end it"
        with pytest.raises(ConfigError, match=said), locked(tmp_path / "a"):
            pass
        with locked(tmp_path / "b"):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [".a.lock"]

    def test_one_that_was_killed_is_taken_over(self, holder, tmp_path):
        holder.kill()
        holder.wait()
        with locked(tmp_path / "a"):
            assert json.loads((tmp_path / ".a.lock").read_text())["pid"] == os.getpid()
        assert not [*tmp_path.iterdir()]

    def test_one_that_is_told_to_end_gives_it_back(self, holder, tmp_path):
        holder.terminate()
        assert holder.wait() == 143 and not [*tmp_path.iterdir()]

    def test_before_the_machine_was_started_anew(self, tmp_path):
        """Its process number may be another's by now."""
        held = {"host": platform.node(), "pid": os.getpid(), "boot": "long ago"}
        (tmp_path / ".a.lock").write_text(json.dumps(held))
        with locked(tmp_path / "a"):
            pass

    @pytest.mark.parametrize("touched", [True, False])
    def test_on_another_host_it_counts_whether_it_is_touched(self, tmp_path, monkeypatch, touched):
        monkeypatch.setattr(artefacts, "GONE_AFTER_S", 1.5)
        lock = tmp_path / ".a.lock"
        lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot": ""}))
        if touched:
            timer = threading.Timer(0.5, os.utime, [lock])
            timer.start()
            with pytest.raises(ConfigError, match="by process 1 on elsewhere"), locked(tmp_path / "a"):
                pass
            timer.join()
        else:
            with locked(tmp_path / "a"):
                pass
            assert not lock.exists()

    @pytest.mark.parametrize("pid", [10**20, 2**22 + 1])
    def test_a_number_that_no_process_has(self, tmp_path, pid):
        held = {"host": platform.node(), "pid": pid, "boot": artefacts._boot()}
        (tmp_path / ".a.lock").write_text(json.dumps(held))
        (tmp_path / f".a.{platform.node()}-{pid}.part").touch()
        with locked(tmp_path / "a"), writing(tmp_path / "a") as path:
            path.touch()
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    @pytest.mark.parametrize("content", ["", "[]", "null", "{}", '{"host": "a", "pid": "b", "boot": ""}', "\0"])
    def test_one_that_says_nothing_counts_as_another_host_s(self, tmp_path, monkeypatch, content):
        monkeypatch.setattr(artefacts, "GONE_AFTER_S", 0.1)
        (tmp_path / ".a.lock").write_text(content)
        with locked(tmp_path / "a"):
            pass

    def test_given_back_after_an_error(self, tmp_path):
        with pytest.raises(ZeroDivisionError), locked(tmp_path / "a"):
            raise ZeroDivisionError
        assert not [*tmp_path.iterdir()]

    def test_it_is_touched_while_it_is_held(self, tmp_path, monkeypatch):
        monkeypatch.setattr(artefacts, "TOUCH_EVERY_S", 0.05)
        with locked(tmp_path / "a"):
            before = (tmp_path / ".a.lock").stat().st_mtime_ns
            time.sleep(0.5)
            assert (tmp_path / ".a.lock").stat().st_mtime_ns > before


def test_two_processes_never_write_to_one_file(tmp_path):
    other = "import sys; from spaarsist.artefacts import writing\nwith writing(sys.argv[1]) as path: print(path)"
    with writing(tmp_path / "a.npy") as path:
        path.write_text("mine")
        said = subprocess.run([sys.executable, "-c", other, str(tmp_path / "a.npy")], capture_output=True, text=True)
        assert Path(said.stdout.strip()).name != path.name and path.read_text() == "mine"
    assert (tmp_path / "a.npy").read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["a.npy"]


class TestUnwritable:
    """Where nothing can be written is said in one line, before the work whose result would go there."""

    @pytest.fixture(params=["full", "read-only"])
    def disk(self, request, small_disk):
        """A disk that takes nothing."""
        if request.param == "read-only":
            return small_disk(100, ",ro"), os.strerror(errno.EROFS)
        folder = small_disk(100)
        with pytest.raises(OSError, match="No space left"):
            (folder / "filler").write_bytes(bytes(1_000_000))
        return folder, os.strerror(errno.ENOSPC)

    @pytest.mark.parametrize(
        ("target", "folder", "message"),
        [
            ("folder", False, "folder: is a folder, and a file is to be written; name a file in it"),
            ("file", True, "file: is a file, and a folder is to be written; name another place"),
            ("pipe", False, "pipe: is a device or pipe, not a file; name another place"),
            ("pipe", True, "pipe: is a device or pipe"),
            ("link", False, "link: is a device or pipe"),
            ("file/a.tsv", False, "a.tsv: cannot be written below .*/file, which is a file"),
            ("file/a/b/c.tsv", True, "c.tsv: cannot be written below .*/file, which is a file"),
            ("x" * 300, False, r"x: cannot be written \(File name too long\)"),
            ("x" * 240 + ".tsv", False, r"x.tsv: cannot be written \(File name too long\)"),
            ("x" * 300 + "/a", True, "File name too long"),
        ],
    )
    def test_what_lies_there(self, tmp_path, target, folder, message):
        (tmp_path / "folder").mkdir()
        (tmp_path / "file").touch()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("/dev/null")
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ConfigError, match=message) as refused:
            artefacts.refuse_unwritable(tmp_path / target, folder=folder)
        with pytest.raises(ConfigError, match=message), locked(tmp_path / target, folder=folder):
            pass
        assert "\n" not in str(refused.value) and sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize(
        ("target", "folder"), [("a/b/c.tsv", False), ("old", False), ("a/b", True), ("here", True)]
    )
    def test_what_can_be_written(self, tmp_path, target, folder):
        (tmp_path / "old").touch(mode=0o400)
        (tmp_path / "here").mkdir()
        before = sorted(tmp_path.rglob("*"))
        artefacts.refuse_unwritable(tmp_path / target, folder=folder)
        assert sorted(tmp_path.rglob("*")) == before

    def test_the_current_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a").mkdir()
        for same in (".", "a/.."):
            artefacts.refuse_unwritable(same, folder=True)
        with pytest.raises(ConfigError, match="/: is where all folders begin"):
            artefacts.refuse_unwritable("/", folder=True)
        with locked(Path(), folder=True):
            assert tmp_path.with_name(f".{tmp_path.name}.lock").exists()

    def test_a_disk_that_takes_nothing(self, disk):
        folder, reason = disk
        for target in (folder / "a.tsv", folder / "a" / "b.tsv"):
            with pytest.raises(ConfigError, match=rf"tsv: cannot be written \({reason}\); free its disk"):
                artefacts.refuse_unwritable(target)
        with pytest.raises(ConfigError, match=reason):
            artefacts.refuse_unwritable(folder, folder=True)

    @pytest.mark.parametrize("library", ["python", "pandas", "pyarrow", "safetensors", "torch"])
    def test_a_disk_that_fills_up(self, small_disk, library):
        """Whatever a library makes of it: one error that names the file; the older one stays, nothing else does."""
        import numpy as np
        import pandas as pd
        import torch
        from safetensors.torch import save_file

        numbers = np.random.default_rng(0).normal(size=30_000)

        def save(path):
            with path.open("wb") as stream:
                torch.save({"a": torch.from_numpy(numbers)}, stream)

        write = {
            "python": lambda path: path.write_bytes(bytes(240_000)),
            "pandas": lambda path: pd.Series(numbers).to_csv(path),
            "pyarrow": lambda path: pd.DataFrame({"a": numbers}).to_parquet(path),
            "safetensors": lambda path: save_file({"a": torch.from_numpy(numbers)}, path),
            "torch": save,
        }[library]
        folder = small_disk(100)
        (folder / "a").write_text("old")
        with pytest.raises(OSError, match="No space left") as failed, writing(folder / "a") as path:
            write(path)
        assert failed.value.filename == str(folder / "a") and failed.value.errno == errno.ENOSPC
        assert [path.name for path in folder.iterdir()] == ["a"] and (folder / "a").read_text() == "old"

    def test_other_errors_stay_what_they_are(self, tmp_path):
        with pytest.raises(ZeroDivisionError), writing(tmp_path / "a"):
            raise ZeroDivisionError
        with pytest.raises(IsADirectoryError), writing(tmp_path / "b") as path:
            path.write_text("")
            (tmp_path / "b").mkdir()
        assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_no_folder_is_replaced_that_holds_what_is_read(tmp_path):
    (tmp_path / "results" / "mini").mkdir(parents=True)
    read = [tmp_path / "results" / "mini" / "a.tsv"]
    for output in (tmp_path / "results", tmp_path / "results" / "mini" / "..", tmp_path):
        with pytest.raises(ConfigError, match="holds what this command reads"):
            distinct([output], read)
    distinct([tmp_path / "results" / "min", tmp_path / "results" / "mini" / "b.tsv"], read)
