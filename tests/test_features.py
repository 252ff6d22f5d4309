"""The cache of a frozen front-end's frames: it holds what would be computed, or it is refused."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import state
from spaarsist.artefacts import file_hash, tensors_hash
from spaarsist.config import FrontendConfig, Stage, TrainingRecipe
from spaarsist.data.augment import Augmenter
from spaarsist.data.protocol import read_trials
from spaarsist.experiments import features
from spaarsist.experiments.excerpts import Excerpts, view
from spaarsist.experiments.features import CachedFrames, check_space, identify, make_part
from spaarsist.experiments.train import train
from spaarsist.models.detector import Detector
from spaarsist.models.frontend import build_frontend
from spaarsist.names import ConfigError


@pytest.fixture(scope="module")
def viewed(recipe):
    """Two views for three epochs of a stage with a frozen front-end, then one more."""
    stages = (Stage(3, 8, 1e-3), Stage(1, 8, 1e-3, train_frontend=True))
    return replace(recipe, stages=stages, views=2)


@pytest.fixture(scope="module")
def cache(synthetic, viewed, tmp_path_factory):
    """Both views in three parts each, the development excerpts in two."""
    folder = tmp_path_factory.mktemp("features")
    for part in range(3):
        for number in range(2):
            make_part(synthetic / "train.tsv", viewed, folder / f"view{number}", part, 3, number, batch_size=3)
    for part in range(2):
        make_part(synthetic / "dev.tsv", viewed, folder / "excerpts", part, 2)
    return folder


def opened(synthetic, recipe, cache, number):
    trials, frontend = read_trials(synthetic / "train.tsv"), build_frontend(recipe.frontend)
    draws = view(recipe, trials, number, Augmenter(recipe.augmentation))
    identity = identify(synthetic / "train.tsv", recipe, draws, number, tensors_hash(frontend.state_dict()))
    return draws, CachedFrames(cache / f"view{number}", identity, draws.classes)


@torch.inference_mode()
def test_it_holds_what_would_be_computed(synthetic, viewed, cache):
    frontend = build_frontend(viewed.frontend).eval()
    for number in range(2):
        draws, frames = opened(synthetic, viewed, cache, number)
        assert len(frames) == len(draws) == 16
        for position in (0, 5, 6, 15):  # at the edges of parts too
            waveform, label = draws[position]
            expected = frontend(waveform[None])[0]
            cached, cached_label = frames[position]
            assert cached.dtype == torch.float16 and cached_label == label
            torch.testing.assert_close(cached.float(), expected, rtol=1e-3, atol=1e-3)
    dev = read_trials(synthetic / "dev.tsv")
    excerpts = Excerpts(dev, viewed.crop)
    weights = tensors_hash(frontend.state_dict())
    held = CachedFrames(cache / "excerpts", identify(synthetic / "dev.tsv", viewed, excerpts, None, weights))
    assert len(held) == len(dev)
    for position in (0, len(dev) - 1):
        assert held[position][1] == position
        expected = frontend(excerpts[position][0][None])[0]
        torch.testing.assert_close(held[position][0].float(), expected, rtol=1e-3, atol=1e-3)


def test_views_differ_and_do_not_depend_on_the_seed(synthetic, viewed):
    trials, augmenter = read_trials(synthetic / "train.tsv"), Augmenter(viewed.augmentation)
    first, second = (view(viewed, trials, number, augmenter) for number in range(2))
    assert not np.array_equal(first.trials, second.trials)
    with pytest.raises(ConfigError, match="view 2: the recipe has 2"):
        view(viewed, trials, 2, augmenter)


def run(synthetic, recipe, folder, cache=None, seed=1):
    given = {"train_features": cache, "dev_features": cache / "excerpts"} if cache else {}
    train(synthetic / "train.tsv", synthetic / "dev.tsv", folder, "AST-05", recipe, seed, **given)
    return pd.read_csv(folder / "history.tsv", sep="\t"), json.loads((folder / "model.json").read_text())


def test_training_from_the_cache_is_training_from_audio(synthetic, viewed, cache, tmp_path, monkeypatch):
    """The same draws in the same order; rounded to float16 like the cache, the same numbers. And no audio is read."""
    frames = Detector.frames
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "frames", lambda *arguments: frames(*arguments).half().float())
        audio, record = run(synthetic, viewed, tmp_path / "audio")
    assert record["cached"] == {"train": False, "dev": False}
    monkeypatch.setattr(features.Excerpts, "__getitem__", None)
    frozen = replace(viewed, stages=viewed.stages[:1])
    monkeypatch.setattr("spaarsist.experiments.excerpts.TrainingDraws.__getitem__", None)
    cached, record = run(synthetic, frozen, tmp_path / "cached", cache)
    assert record["cached"] == {"train": True, "dev": True}
    np.testing.assert_allclose(cached["train_loss"], audio["train_loss"][:3], rtol=1e-5)
    np.testing.assert_allclose(cached["dev_eer"], audio["dev_eer"][:3])


def test_development_frames_that_no_epoch_would_see_again(synthetic, viewed, cache, tmp_path):
    """Made or used, by whoever calls: excerpts at random, or normalised with their neighbours, are refused."""
    batch = replace(viewed, views=0, frontend=FrontendConfig(normalise="batch"))
    for recipe, key in ((replace(viewed, development_crop="random"), "development_crop: random"), (batch, "batch")):
        with pytest.raises(ConfigError, match=f"features.development does not go with training.*{key}"):
            make_part(synthetic / "dev.tsv", recipe, tmp_path / "made", 0, 1)
        with pytest.raises(ConfigError, match=f"features.development does not go with training.*{key}"):
            run(synthetic, recipe, tmp_path / "run", cache)
    assert not (tmp_path / "made").exists()


def test_order_depends_on_the_seed(synthetic, viewed, cache, tmp_path):
    frozen = replace(viewed, stages=(replace(viewed.stages[0], epochs=1),))
    for seed in (1, 2):
        run(synthetic, frozen, tmp_path / str(seed), cache, seed)
    assert file_hash(tmp_path / "1" / "model.safetensors") != file_hash(tmp_path / "2" / "model.safetensors")
    run(synthetic, frozen, tmp_path / "again", cache, 1)
    assert file_hash(tmp_path / "1" / "model.safetensors") == file_hash(tmp_path / "again" / "model.safetensors")


OTHERWISE = [
    ({"crop": 7200}, "crop"),
    ({"frontend": FrontendConfig(normalise="none")}, "frontend"),
    ({"augmentation": replace(TrainingRecipe().augmentation, trim_silence=0)}, "augmentation"),
]
"""Changes of the recipe, and what they are called."""


@pytest.mark.parametrize(("changes", "named"), [*OTHERWISE, ({"epoch_size": 24}, "n")])
def test_a_cache_of_something_else_is_refused(synthetic, viewed, cache, tmp_path, changes, named):
    with pytest.raises(ConfigError, match=rf"view0.part\d.npy: made with another .*{named}.*; delete .*view0"):
        run(synthetic, replace(viewed, **changes), tmp_path, cache)


def test_other_lists_weights_or_code_are_refused(synthetic, viewed, cache, tmp_path, monkeypatch):
    shutil.copytree(cache, tmp_path / "c")
    for key in ("trial_list", "weights", "code_hash"):
        path = tmp_path / "c" / "view1" / "part1.json"
        record = json.loads((cache / "view1" / "part1.json").read_text())
        record["identity"][key] = "other"
        path.write_text(json.dumps(record))
        with pytest.raises(ConfigError, match=f"view1/part1.npy: made with another {key};"):
            run(synthetic, viewed, tmp_path / "run", tmp_path / "c")


@pytest.mark.parametrize(("lost", "complete"), [(0, 0), (1, 5), (2, 10)])
def test_a_missing_part(synthetic, viewed, cache, tmp_path, lost, complete):
    shutil.copytree(cache, tmp_path / "c")
    (tmp_path / "c" / "view0" / f"part{lost}.json").unlink()
    with pytest.raises(ConfigError, match=f"complete up to excerpt {complete} of 16; make the missing parts"):
        run(synthetic, viewed, tmp_path / "run", tmp_path / "c")


def test_too_little_disk(synthetic, viewed, tmp_path, monkeypatch):
    """What is still to be made counts, not what is there."""
    usage = shutil.disk_usage(tmp_path)
    size = 16 * 25 * 120 * 2  # draws, frames of 8000 samples, features, bytes
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage._replace(free=size - 1))
    with pytest.raises(ConfigError, match=r"0.0 GB of frames to make, but only .* point features.directory"):
        make_part(synthetic / "train.tsv", viewed, tmp_path / "view0", 0, 2, 0)
    assert [*(tmp_path / "view0").iterdir()] == []
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage._replace(free=size))
    make_part(synthetic / "train.tsv", viewed, tmp_path / "view0", 0, 2, 0)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage._replace(free=size // 2))
    make_part(synthetic / "train.tsv", viewed, tmp_path / "view0", 1, 2, 0)


def test_too_little_disk_for_all(synthetic, viewed, cache, tmp_path, monkeypatch):
    """Two views and the development excerpts together, less what is there, before any of it is begun."""
    usage = shutil.disk_usage(tmp_path)
    n_dev = len(read_trials(synthetic / "dev.tsv"))
    size = (2 * 16 + n_dev) * 25 * 120 * 2
    lists = synthetic / "train.tsv", synthetic / "dev.tsv"
    for free, folder in ((size, tmp_path / "new"), (0, cache)):
        monkeypatch.setattr(features.shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        check_space(*lists, viewed, folder, tmp_path / "space.txt")
        assert "GB free" in (tmp_path / "space.txt").read_text()
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage._replace(free=size - 1))
    with pytest.raises(ConfigError, match=r"but only .* GB are free; point features.directory"):
        check_space(*lists, viewed, tmp_path / "new", tmp_path / "space.txt")
    check_space(lists[0], None, viewed, tmp_path / "new", tmp_path / "space.txt")


def test_parts_of_two_counts(synthetic, viewed, cache, tmp_path):
    """One of three, and the only one of another cache: they are not mixed."""
    shutil.copytree(cache, tmp_path / "c")
    make_part(synthetic / "train.tsv", viewed, tmp_path / "one", 0, 1, 0)
    for ending in ("json", "npy"):
        shutil.copy(tmp_path / "one" / f"part0.{ending}", tmp_path / "c" / "view0")
    with pytest.raises(ConfigError, match=r"view0: holds parts of 1 and of 3; delete it"):
        run(synthetic, viewed, tmp_path / "run", tmp_path / "c")


class TestMadeAgain:
    """A part that is there is kept; what was made of something else is never overwritten."""

    @pytest.fixture
    def there(self, cache, tmp_path):
        shutil.copytree(cache / "view1", tmp_path / "view1")
        return tmp_path / "view1"

    @pytest.mark.parametrize("place", ["synthetic", "moved"])
    def test_kept(self, there, viewed, place, request, monkeypatch, capsys):
        monkeypatch.setattr("spaarsist.experiments.excerpts.TrainingDraws.__getitem__", None)
        before = state(there)
        make_part(request.getfixturevalue(place) / "train.tsv", viewed, there, 1, 3, 1)
        assert state(there) == before
        assert capsys.readouterr().err == f"{there}/part1.npy: already made; kept\n"

    @pytest.mark.parametrize("damage", ["no record", "no array", "cut short", "another shape"])
    def test_unfinished_or_damaged_is_made_anew(self, there, cache, synthetic, viewed, damage):
        array = there / "part1.npy"
        if damage == "another shape":
            np.save(array, np.load(array)[:-1])
        elif damage == "cut short":
            array.write_bytes(array.read_bytes()[:-100])
        else:
            (array if damage == "no array" else there / "part1.json").unlink()
        make_part(synthetic / "train.tsv", viewed, there, 1, 3, 1, batch_size=3)
        for name in ("part1.npy", "part1.json"):
            assert (there / name).read_bytes() == (cache / "view1" / name).read_bytes()

    @pytest.mark.parametrize("part", [0, 2])
    @pytest.mark.parametrize(("change", "named"), [*OTHERWISE, ({}, "parts")])
    def test_of_something_else_is_refused(self, there, synthetic, viewed, change, named, part):
        """Also a part that is not there yet, beside others; or one of another number of parts."""
        (there / "part2.json").unlink()
        before = state(there)
        with pytest.raises(ConfigError, match=rf"view1.part0.npy: made with another {named}; delete .*view1 and make"):
            make_part(synthetic / "train.tsv", replace(viewed, **change), there, part, 3 if change else 4, 1)
        assert state(there) == before

    def test_of_other_trials_is_refused(self, there, relabelled, viewed):
        with pytest.raises(ConfigError, match="made with another trial_list; delete"):
            make_part(relabelled / "train.tsv", viewed, there, 0, 3, 1)

    def test_unreadable_record(self, there, synthetic, viewed):
        (there / "part2.json").write_text("{}")
        with pytest.raises(ConfigError, match=r"part2.json: not readable as the record of a part .*; delete .*view1"):
            make_part(synthetic / "train.tsv", viewed, there, 0, 3, 1)


def test_a_cache_serves_where_corpora_and_front_end_lie_now(moved, relabelled, viewed, cache):
    """Neither's place is part of what it was made of; its trials are."""
    draws, frames = opened(moved, viewed, cache, 1)
    assert len(frames) == len(draws) == 16
    assert identify(moved / "train.tsv", viewed, draws, 1, "w") == identify(
        moved / "train.tsv", replace(viewed, frontend=FrontendConfig("/old/disk")), draws, 1, "w"
    )
    with pytest.raises(ConfigError, match="made with another trial_list;"):
        opened(relabelled, viewed, cache, 1)


def test_frames_beyond_float16(synthetic, viewed, tmp_path, monkeypatch):
    monkeypatch.setattr("spaarsist.models.frontend.Spectral.TYPICAL", ((0.0, 1e-6),) * 3)
    with pytest.raises(ConfigError, match=r"excerpts 0 to 15 are not finite in float16"):
        make_part(synthetic / "train.tsv", viewed, tmp_path / "view0", 0, 1, 0)
    assert [*(tmp_path / "view0").iterdir()] == []


def test_views_need_a_frozen_first_stage(recipe):
    tuned = Stage(1, 8, train_frontend=True)
    for stages in ((tuned,), (tuned, Stage(1, 8)), (Stage(1, 8), Stage(1, 8))):
        with pytest.raises(ValueError, match="views > 0 is for recipes whose first stage"):
            replace(recipe, stages=stages, views=1)
    assert replace(recipe, stages=(Stage(0, 8), Stage(1, 4), tuned), views=1).frozen_stage.batch_size == 4


def test_an_excerpt_that_has_changed_is_noticed_when_it_is_read(synthetic, viewed, cache, tmp_path):
    """As after a disk error, or two processes that wrote to one file."""
    shutil.copytree(cache / "view0", tmp_path / "view0")
    frames = np.load(tmp_path / "view0" / "part1.npy", mmap_mode="r+")
    frames[2] = 0
    frames.flush()
    record = json.loads((tmp_path / "view0" / "part0.json").read_text())
    whole = CachedFrames(tmp_path / "view0", record["identity"] | {"parts": 3})
    damaged = record["last"] + 2
    assert len([whole[k] for k in range(len(whole)) if k != damaged]) == len(whole) - 1
    with pytest.raises(ConfigError, match=rf"view0: excerpt {damaged} is not what was written; delete the folder"):
        whole[damaged]


@pytest.mark.parametrize(
    "harm",
    [
        lambda array: array.write_bytes(b""),
        lambda array: array.write_bytes(b"\x93NUMPY damaged"),
        lambda array: array.write_bytes(array.read_bytes()[:-1]),
        lambda array: array.unlink(),
        lambda array: np.save(array, np.float16(0)),
        lambda array: np.save(array, np.load(array)[:-1]),
        lambda array: np.save(array, np.load(array)[..., 0]),
    ],
)
def test_a_damaged_part_is_refused_when_the_cache_is_opened(viewed, synthetic, cache, tmp_path, harm):
    shutil.copytree(cache, tmp_path / "c")
    harm(tmp_path / "c" / "view0" / "part1.npy")
    with pytest.raises(ConfigError, match=r"view0/part1\.npy: damaged, or not of the record beside it; delete .*view0"):
        opened(synthetic, viewed, tmp_path / "c", 0)


@pytest.mark.parametrize(
    "content", ["", "[" * 100_000, "null", "[]", '{"identity": [], "parts": 1}', '{"checksums": [1]}']
)
def test_a_damaged_record_is_refused_when_the_cache_is_opened(viewed, synthetic, cache, tmp_path, content):
    shutil.copytree(cache, tmp_path / "c")
    record = tmp_path / "c" / "view0" / "part1.json"
    whole = json.loads(record.read_text())
    for text in (content, json.dumps(whole | {"checksums": [1]}), json.dumps(whole | {"first": "0"})):
        record.write_text(text)
        with pytest.raises(ConfigError, match=r"part1\.json: not readable as the record of a part .*delete .*view0"):
            opened(synthetic, viewed, tmp_path / "c", 0)


def test_arrays_are_as_numpy_writes_them(cache):
    for path in (cache / "view0").glob("*.npy"):
        content = io.BytesIO()
        np.save(content, np.load(path))
        assert content.getvalue() == path.read_bytes()


def test_a_disk_that_fills_up_is_one_error(viewed, synthetic, small_disk, monkeypatch):
    """Another process may have taken what was free when the part was begun."""
    disk = small_disk(60)
    usage = shutil.disk_usage(disk)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    with pytest.raises(OSError, match="No space left") as full:
        make_part(synthetic / "train.tsv", viewed, disk / "view0", 0, 1, 0)
    assert full.value.filename == str(disk / "view0" / "part0.npy") and not [*(disk / "view0").iterdir()]
