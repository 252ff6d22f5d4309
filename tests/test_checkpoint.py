"""A checkpoint is what its training wrote, or it is refused in one line: record and weights are tied by hashes."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import write_record
from spaarsist.artefacts import RECORD, RECORD_HASH, WEIGHTS, WEIGHTS_HASH, read_record, sealed
from spaarsist.audit.complexity import size_of
from spaarsist.experiments.score import score
from spaarsist.models.detector import load_checkpoint, save_checkpoint
from spaarsist.names import ConfigError


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A checkpoint to damage."""
    shutil.copytree(checkpoint, tmp_path / "AST-05")
    return tmp_path / "AST-05"


def refused(folder, message):
    """The one line with which a checkpoint is refused."""
    with pytest.raises(ConfigError, match=message) as error:
        load_checkpoint(folder)
    assert str(error.value).count("\n") == 0 and str(error.value).startswith(str(folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"model\.json: damaged, for it is not JSON; bring the original back, or delete"),
        (b"{", "not JSON"),
        (b'{"system": "AST-05"', "not JSON"),
        (b"\x00\xff\xfe\x80", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "no mapping of keys to values"),
        (b"null", "no mapping"),
        (b'"AST-05"', "no mapping"),
        (b"{}", r"holds no record_sha256 and weights_sha256.*Old checkpoints"),
        (b'{"system": "AST-05", "weights_sha256": "0"}', "holds no record_sha256"),
        (b'{"record_sha256": null, "weights_sha256": []}', r"not as the training wrote it"),
    ],
)
def test_a_damaged_record(copy, content, message):
    (copy / RECORD).write_bytes(content)
    refused(copy, message)


def keys(tree, *path):
    """Every key of nested mappings, as a path."""
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, *path, key)


def test_no_value_of_a_record_can_be_changed_or_removed(copy):
    """Neither k_train, nor the name, nor the normalisation, nor any other, whatever is written in its place."""
    before = read_record(copy / RECORD)
    places = [*keys(before)]
    assert {("system",), ("frontend", "normalise"), ("recipe", "crop"), (WEIGHTS_HASH,)} <= {*places}
    for *path, key in places:
        for put in ("AST-03", -1, None, [], 1e300, "removed"):
            record = json.loads((copy / RECORD).read_text())
            within = record
            for step in path:
                within = within[step]
            if within[key] == put:
                continue
            if put == "removed":
                del within[key]
            else:
                within[key] = put
            (copy / RECORD).write_text(json.dumps(record))
            with pytest.raises(ConfigError, match=r"model\.json: (not as the training wrote it|holds no)"):
                read_record(copy / RECORD)
            (copy / RECORD).write_text(json.dumps(before))
    assert read_record(copy / RECORD) == before, "only its content counts, not how it is laid out"


def test_its_hash_is_that_of_its_canonical_json():
    """By hand: `printf '{"1": [2], "b": null}' | sha256sum`; the order of keys and tuples do not matter."""
    expected = "17d4dda06de879b027fb1ff93066af296602b752f63bbdff8b66b27f11db68dd"
    assert sealed({"b": None, 1: (2,)}) == {"1": [2], "b": None, RECORD_HASH: expected}
    assert sealed({"b": None, 1: (2,), RECORD_HASH: "old"})[RECORD_HASH] == expected
    assert sealed({"x": float("nan")})[RECORD_HASH] == sealed({"x": float("nan")})[RECORD_HASH]


def bits(path, position):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def retouch(change):
    """Write the weights anew, each as `change` gives it."""

    def harm(path):
        weights = load_file(path)
        save_file({name: change(name, tensor).contiguous() for name, tensor in weights.items()}, path)

    return harm


def nan(_name, tensor):
    return torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.write_bytes(b""), r"model\.safetensors: not readable as safetensors"),
        (lambda path: path.write_bytes(b"cut short"), "not readable as safetensors"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "not readable as safetensors"),
        (lambda path: path.write_bytes(bytes(4000)), "not readable as safetensors"),
        (lambda path: torch.save({}, path), "not readable as safetensors"),
        (lambda path: bits(path, -1), "not the weights that model.json was written with"),
        (lambda path: bits(path, -40_000), "not the weights"),
        (retouch(lambda _, tensor: torch.zeros_like(tensor)), "not the weights"),
        (retouch(lambda _, tensor: tensor.to(torch.int32)), "not the weights"),
        (retouch(lambda _, tensor: tensor.to(torch.bfloat16)), "not the weights"),
        (retouch(lambda _, tensor: tensor.flatten()), "not the weights"),
        (retouch(nan), "not the weights"),
        (lambda path: save_file({"bank": torch.zeros(2)}, path), "not the weights"),
        (lambda path: save_file(dict(list(load_file(path).items())[1:]), path), "not the weights"),
        (lambda path: path.unlink(), r"model\.safetensors: there is no such file beside model\.json"),
        (lambda path: (path.unlink(), path.mkdir()), "there is no such file"),
    ],
)
def test_other_weights(copy, harm, message):
    harm(copy / WEIGHTS)
    refused(copy, message)


def test_weights_of_another_seed_are_refused_before_anything_is_scored(copy, synthetic, tmp_path):
    detector, record = load_checkpoint(copy)
    weights = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    weights["head.0.bias"] += 1
    save_checkpoint(weights, record, tmp_path / "other")
    shutil.copy(tmp_path / "other" / WEIGHTS, copy / WEIGHTS)
    with pytest.raises(ConfigError, match="exchanged or damaged"):
        score(copy, synthetic / "eval.tsv", tmp_path / "scores.parquet")
    assert not (tmp_path / "scores.parquet").exists()
    other, _ = load_checkpoint(tmp_path / "other")
    assert torch.equal(other.head[0].bias, weights["head.0.bias"])


def test_an_older_one_is_sealed_by_writing_it_anew(copy):
    """As docs/own-audio.md says."""
    record = json.loads((copy / RECORD).read_text())
    for key in (RECORD_HASH, WEIGHTS_HASH):
        del record[key]
    (copy / RECORD).write_text(json.dumps(record))
    refused(copy, "Old checkpoints")
    save_checkpoint(load_file(copy / WEIGHTS), record, copy)
    load_checkpoint(copy)


def test_a_record_of_a_version_that_built_detectors_otherwise(copy):
    record = read_record(copy / RECORD)
    backend, frontend = record["backend"], record["frontend"]
    for change, kind in (
        ({"backend": backend | {"embedding_dim": 32}}, "RuntimeError"),
        ({"backend": backend | {"kind": "Later"}}, "ConfigError: .*'Later'"),
        ({"frontend": frontend | {"later": 1}}, "ConfigError: FrontendConfig: later"),
        ({"frontend": frontend | {"model": "some/model"}, "architecture": {"model_type": "later"}}, ""),
        ({"frontend": frontend | {"model": "some/model"}, "architecture": {}}, "TypeError"),
    ):
        write_record(copy / RECORD, **record | change)
        refused(copy, rf"this version builds no such detector \({kind}.*\); use the version that trained it, or train")
    del record["architecture"]
    write_record(copy / RECORD, **record)
    refused(copy, "this version builds no such detector .*KeyError")


def test_the_folder_above_names_the_checkpoints_below(copy, tmp_path):
    system = tmp_path / "system"
    for seed in (2, 1):
        shutil.copytree(copy, system / f"seed{seed}")
    refused(system, r"not a checkpoint: no model\.json in it; there are checkpoints below it: seed1, seed2; name one")
    (system / "seed1" / RECORD).unlink()
    refused(system / "seed1", r"no model\.json in it$")
    (system / "seed1" / "last").mkdir()
    refused(system / "seed1", "its training has not ended: call `train` again")
    for read in (load_checkpoint, size_of):
        with pytest.raises(ConfigError, match="not a checkpoint"):
            read(tmp_path / "nothing")
