import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spaarsist import artefacts
from spaarsist.config import ConfigError


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
    assert len(artefacts.code_hash()) == 16
    assert artefacts.provenance()["code_hash"] == artefacts.code_hash()


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
    scores = [score_file(tmp_path / name, code_hash="abc") for name in ("1.parquet", "2.parquet")]
    out = tmp_path / "out"
    artefacts.publish(files, scores, results, out)
    made = {p.relative_to(out).as_posix(): p for p in out.rglob("*.*")}
    assert sorted(made) == ["figures/composite.tsv", "record.json", "tables/composite.tsv", "times.tsv"]
    assert (out / "times.tsv").read_text().splitlines()[1:] == ["table1\t1\t1.5\t1.5", "train\t2\t30.0\t20.0"]
    record = json.loads((out / "record.json").read_text())
    assert record["files"] == {f"{f.parent.name}/composite.tsv": artefacts.file_hash(f) for f in files}
    assert record["machine"]["cores"]
    assert record["code_hash"] == "abc", "the code that made the scores, not the code that publishes"
    with pytest.raises(ConfigError, match=r"not within .*mini: .*1\.parquet"):
        artefacts.publish(scores[:1], scores, results, tmp_path / "other")
    scores.append(score_file(tmp_path / "3.parquet", code_hash="def"))
    with pytest.raises(ConfigError, match="2 states of the code"):
        artefacts.publish(files, scores, results, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def score_file(path, **provenance):
    metadata = {"system": "AST-05", "seed": 1, "corpus": "eval", "trained_with": provenance, "provenance": provenance}
    table = pa.table({"trial_id": ["a"]}).replace_schema_metadata({"spaarsist": json.dumps(metadata)})
    pq.write_table(table, path)
    return path


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
