"""Training on made-up signals: what it promises, not how well it does."""

import contextlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import state, write_record
from spaarsist.artefacts import file_hash, provenance, read_metadata, trials_hash
from spaarsist.config import Augmentation, FrontendConfig, Stage, to_json
from spaarsist.data import audio
from spaarsist.data.augment import Augmenter
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.experiments import train as training
from spaarsist.experiments.excerpts import Excerpts, TrainingDraws
from spaarsist.experiments.score import score
from spaarsist.experiments.train import HISTORY, train
from spaarsist.models.detector import load_checkpoint
from spaarsist.names import ConfigError

MEASURED = ("seconds", "trials_per_second", "peak_memory_mb")
OFF = Augmentation(0, 0, 0, 0, 0, 0, 0)


def history(folder):
    table = pd.read_csv(folder / "history.tsv", sep="\t")
    return table.drop(columns=[*MEASURED])


def fit(lists, folder, recipe, system="AST-05", seed=1, dev=None, **options):
    """Train on the lists of a folder."""
    train(lists / "train.tsv", dev or lists / "dev.tsv", folder, system, recipe, seed, **options)


@pytest.fixture
def again(synthetic, recipe, tmp_path):
    """Train as `checkpoint` was, or go on with it; gives the folder."""

    def again():
        fit(synthetic, tmp_path / "a", recipe)
        return tmp_path / "a"

    return again


def same(one, other):
    """The same weights, byte for byte, by the same epochs."""
    weights = (file_hash(folder / "model.safetensors") for folder in (one, other))
    return len({*weights}) == 1 and history(one).equals(history(other))


def edit(folder, change):
    """Change the record of a checkpoint as another training would have written it."""
    record = json.loads((folder / "model.json").read_text())
    change(record)
    write_record(folder / "model.json", **record)


class TestDraws:
    def draws(self, synthetic, position=(1, 0, 0), n=400):
        return TrainingDraws(read_trials(synthetic / "train.tsv"), n, 4000, Augmenter(OFF), position)

    def test_classes_are_balanced_whatever_the_list(self, synthetic):
        trials = read_trials(synthetic / "train.tsv")
        few = pd.concat([trials[trials["label"] == "bonafide"][:2], trials[trials["label"] == "spoof"]])
        draws = TrainingDraws(few, 1000, 4000, Augmenter(OFF), (0, 0, 0))
        assert abs(draws.classes.mean() - 0.5) < 0.06
        labels = few["label"].to_numpy()[draws.trials]
        assert ((labels == "spoof") == (draws.classes == 1)).all()
        assert len(set(draws.trials[draws.classes == 0])) == 2, "with replacement, from all of them"

    def test_a_draw_is_a_function_of_its_position(self, synthetic):
        a, b = self.draws(synthetic), self.draws(synthetic)
        b[7]  # what was drawn before does not matter
        assert torch.equal(a[3][0], b[3][0]) and a[3][1] == b[3][1]
        other = self.draws(synthetic, position=(1, 0, 1))
        assert (other.trials != a.trials).any()
        assert len({a[i][0].numpy().tobytes() for i in range(40)}) > 30, "crops differ"
        assert a[0][0].shape == (4000,) and a[0][0].dtype == torch.float32

    def test_one_class_only(self, synthetic):
        trials = read_trials(synthetic / "train.tsv")
        with pytest.raises(ConfigError, match="no spoof trials"):
            TrainingDraws(trials[trials["label"] == "bonafide"], 8, 4000, Augmenter(OFF), (0, 0, 0))


class TestDevelopment:
    """What selects the epoch: where its excerpts lie, and how many are scored at once."""

    def seen(self, synthetic, recipe, folder, monkeypatch, **changes):
        """Batch sizes and excerpts of every development pass."""
        passes = []

        def score(_detector, excerpts, _variants, size, *_):
            waveforms = torch.stack([excerpts[i][0] for i in range(len(excerpts))])
            passes.append((size, waveforms))
            return np.arange(len(excerpts), dtype=np.float32)[:, None]

        monkeypatch.setattr(training, "score_excerpts", score)
        train(synthetic / "train.tsv", synthetic / "dev.tsv", folder, "AST-05", replace(recipe, **changes), 1)
        return passes

    def test_at_the_centre_in_every_epoch(self, synthetic, recipe, tmp_path, monkeypatch):
        passes = self.seen(synthetic, recipe, tmp_path, monkeypatch)
        assert len(passes) == 4 and all(torch.equal(waveforms, passes[0][1]) for _, waveforms in passes)
        paths = read_trials(synthetic / "dev.tsv")["path"]
        expected = [audio.pad(audio.crop(audio.read(path), recipe.crop), recipe.crop) for path in paths]
        np.testing.assert_array_equal(passes[0][1], np.stack(expected))

    def test_anew_at_random_in_every_epoch(self, synthetic, recipe, tmp_path, monkeypatch):
        """As in the released code (F8), but a function of seed and epoch; each is a stretch of its own clip."""
        changes = {"development_crop": "random", "crop": 4000}
        passes = self.seen(synthetic, recipe, tmp_path / "a", monkeypatch, **changes)
        again = self.seen(synthetic, recipe, tmp_path / "b", monkeypatch, **changes)
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(passes, again, strict=True))
        assert len({waveforms.numpy().tobytes() for _, waveforms in passes}) == 4
        clips = [audio.read(path) for path in read_trials(synthetic / "dev.tsv")["path"]]
        for _, waveforms in passes:
            for clip, excerpt in zip(clips, waveforms.numpy(), strict=True):
                windows = np.lib.stride_tricks.sliding_window_view(audio.pad(clip, 4000), 4000)
                assert (windows == excerpt).all(axis=1).any()

    def test_batches_that_decide_scores_are_the_last_stage_s(self, synthetic, recipe, tmp_path, monkeypatch):
        """Elsewhere the largest one, which is faster; the released code scores by 32 in both stages."""
        stages = (replace(recipe.stages[0], batch_size=8), replace(recipe.stages[1], batch_size=4))
        for name, size in (("utterance", 8), ("batch", 4)):
            frontend = FrontendConfig(normalise=name)
            passes = self.seen(
                synthetic, recipe, tmp_path / name, monkeypatch, stages=stages, frontend=frontend
            )  # fmt: skip
            assert {found for found, _ in passes} == {size}

    def test_random_ones_change_what_is_selected(self, synthetic, recipe, tmp_path, checkpoint):
        short = replace(recipe, crop=4000)
        for name in ("centre", "random"):
            chosen = replace(short, development_crop=name)
            train(synthetic / "train.tsv", synthetic / "dev.tsv", tmp_path / name, "AST-05", chosen, 1)
        centre, random = (history(tmp_path / name) for name in ("centre", "random"))
        assert centre["train_loss"][0] == random["train_loss"][0], "the first stage's draws are the same"
        assert list(centre["dev_eer"]) != list(random["dev_eer"])


def test_determinism_is_a_key_and_recorded(synthetic, recipe, tmp_path, checkpoint):
    """On a CPU nothing else changes; scoring is deterministic again, and says how the training was."""
    short = replace(recipe, deterministic=False)
    train(synthetic / "train.tsv", synthetic / "dev.tsv", tmp_path / "c", "AST-05", short, 1)
    assert torch.get_deterministic_debug_mode() == 0 and torch.backends.cudnn.benchmark
    assert json.loads((tmp_path / "c" / "model.json").read_text())["deterministic_algorithms"] is False
    for folder, deterministic in ((tmp_path / "c", False), (checkpoint, True)):
        score(folder, synthetic / "eval.tsv", tmp_path / f"{deterministic}.parquet")
        assert torch.get_deterministic_debug_mode() == 1 and not torch.backends.cudnn.benchmark
        assert read_metadata(tmp_path / f"{deterministic}.parquet")["deterministic"] is deterministic


def test_normalised_over_the_batch_by_one_process_alone(synthetic, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Accelerator, "num_processes", 2)
    batch = replace(recipe, frontend=FrontendConfig(normalise="batch"))
    with pytest.raises(ConfigError, match=r"training\.frontend\.normalise: batch is for one process"):
        train(synthetic / "train.tsv", synthetic / "dev.tsv", tmp_path, "AST-05", batch, 1)


class TestCheckpoint:
    def test_what_is_written(self, checkpoint, synthetic, recipe):
        assert sorted(p.name for p in checkpoint.iterdir()) == ["history.tsv", "model.json", "model.safetensors"]
        record = json.loads((checkpoint / "model.json").read_text())
        assert record["system"] == "AST-05" and record["seed"] == 1 and record["n_layers"] == 1
        assert record["train_list"] == trials_hash(synthetic / "train.tsv")
        assert {"code_hash", "torch", "python"} <= set(record["provenance"])
        table = history(checkpoint)
        assert [*table.columns] == [c for c in HISTORY if c not in MEASURED]
        assert table[["stage", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
        assert table["dev_eer"].between(0, 1).all() and np.isfinite(table["train_loss"]).all()

    def test_best_epoch_is_the_one_kept(self, checkpoint, synthetic, recipe):
        """The record names the best epoch, and the stored weights give its development EER again."""
        from spaarsist.experiments.score import score_excerpts

        detector, record = load_checkpoint(checkpoint)
        assert record["dev_eer"] == history(checkpoint)["dev_eer"].min()
        dev = read_trials(synthetic / "dev.tsv")
        scores = score_excerpts(detector, Excerpts(dev, recipe.crop), [], 8, 0, "dev")[:, 0]
        bonafide = (dev["label"] == "bonafide").to_numpy()
        assert compute_metrics(scores[bonafide], scores[~bonafide])["eer"] == record["dev_eer"]


def test_same_seed_same_bytes_and_workers_do_not_matter(checkpoint, synthetic, recipe, tmp_path):
    fit(synthetic, tmp_path / "a", recipe, workers=1)
    assert same(tmp_path / "a", checkpoint)


def test_another_seed_differs(checkpoint, synthetic, recipe, tmp_path):
    short = replace(recipe, stages=recipe.stages[:1])
    fit(synthetic, tmp_path / "a", short, seed=2)
    assert history(tmp_path / "a")["train_loss"][0] != history(checkpoint)["train_loss"][0]


def dying(patch, after_saves):
    """Let the next run die when it has saved that many files."""
    saves = []
    save = training._Run._save

    def counting(run, path, state):
        if len(saves) == after_saves:
            raise KeyboardInterrupt
        saves.append(path)
        save(run, path, state)

    patch.setattr(training._Run, "_save", counting)


def test_killed_and_called_again(checkpoint, again, tmp_path, monkeypatch):
    """Dying again and again, also between the two files it writes per epoch, it ends with the same bytes."""
    for after_saves in (1, 3, 2, 2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            dying(patch, after_saves)
            again()
        assert not (tmp_path / "a" / "model.safetensors").exists()
    assert same(again(), checkpoint)


class Interrupted:
    """Sends this process a SIGTERM at the n-th step of a run, or while it scores the development set."""

    def __init__(self, monkeypatch, *, step=None, scoring=None):
        monkeypatch.setattr(training, "compute_metrics", self.score)
        monkeypatch.setattr(training.F, "cross_entropy", self.loss)
        self.step, self.scoring, self.steps, self.scorings = step, scoring, 0, 0

    def loss(self, *arguments):
        self.steps += 1
        if self.steps == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
        return torch.nn.functional.nll_loss(torch.log_softmax(arguments[0], 1), arguments[1])

    def score(self, *arguments):
        self.scorings += 1
        if self.scorings == self.scoring:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute_metrics(*arguments)


def test_told_to_stop_while_saving(checkpoint, again, tmp_path, monkeypatch):
    """At the end of an epoch's steps too, they are saved before it stops; and the end of a run is not interrupted."""
    save, publish = training._Run._save, training.save_checkpoint
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(training._Run, "_save", lambda *a: (os.kill(os.getpid(), signal.SIGTERM), save(*a)))
        again()
    assert stop.value.code == 143
    assert torch.load(tmp_path / "a" / "last" / "state.pt", weights_only=True)["progress"]["step"] == 2
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", lambda *a: (os.kill(os.getpid(), signal.SIGTERM), publish(*a)))
        assert same(again(), checkpoint)


def test_no_gpu_where_one_is_asked_for(synthetic, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"no GPU in reach of torch .* set compute.device to cpu"):
        fit(synthetic, tmp_path, recipe, device="cuda")


def test_told_to_stop(checkpoint, again, tmp_path, monkeypatch):
    """SIGTERM again and again in the middle of epochs: saved, exit code 143, and no step is lost or done twice."""
    before = signal.getsignal(signal.SIGTERM)
    steps = 0
    # In a run without stops: step 1, the first scoring, step 4, the third scoring, step 7
    for moment in ({"step": 1}, {"scoring": 1}, {"step": 2}, {"scoring": 2}, {"step": 1}):
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
            stopped = Interrupted(patch, **moment)
            again()
        assert stop.value.code == 143 and signal.getsignal(signal.SIGTERM) is before
        assert not (tmp_path / "a" / "model.safetensors").exists()
        steps += stopped.steps
    assert steps == 7
    with monkeypatch.context() as patch:
        last = Interrupted(patch)
        again()
    assert last.steps == 1, "two batches in each of four epochs"
    assert same(tmp_path / "a", checkpoint)


def test_saved_within_an_epoch(checkpoint, again, tmp_path, monkeypatch):
    """With the interval at zero every step is saved, and a kill loses the step in hand alone."""
    monkeypatch.setattr(training, "SAVE_EVERY_S", 0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training._Run, "_told_to_stop", lambda run: (_ for _ in ()).throw(KeyboardInterrupt)
                      if run.progress.epoch == 1 and run.progress.step == 2 else False)  # fmt: skip
        again()
    state = torch.load(tmp_path / "a" / "last" / "state.pt", weights_only=True)
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (1, 1)
    assert same(again(), checkpoint)


def test_two_processes_share_each_batch(synthetic, recipe, tmp_path):
    """As on two GPUs, but on the CPU: it ends, twice with the same bytes, close to one process's losses."""
    short = replace(recipe, stages=(replace(recipe.stages[0], epochs=1), replace(recipe.stages[1], epochs=1)))
    command = [sys.executable, "-m", "spaarsist", "train", "--train-list", synthetic / "train.tsv"]
    command += ["--dev-list", synthetic / "dev.tsv", "--system", "AST-05", "--seed", 1, "--recipe", to_json(short)]
    for name in ("a", "b"):
        output = ["--output", tmp_path / name, "--processes", 2]
        subprocess.run([*map(str, command), *map(str, output)], check=True, capture_output=True, timeout=300)
    assert file_hash(tmp_path / "a" / "model.safetensors") == file_hash(tmp_path / "b" / "model.safetensors")
    record = json.loads((tmp_path / "a" / "model.json").read_text())
    assert record["processes"] == 2 and record["device"] == "cpu"
    fit(synthetic, tmp_path / "one", short)
    # Batch norms on a CPU see each process's half alone, and dropout differs
    losses = history(tmp_path / "a")["train_loss"], history(tmp_path / "one")["train_loss"]
    assert np.allclose(*losses, rtol=0.25) and not np.array_equal(*losses)
    load_checkpoint(tmp_path / "a")


def test_a_batch_that_cannot_be_shared(synthetic, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Accelerator, "num_processes", 3)
    with pytest.raises(ConfigError, match="a batch of 8 cannot be shared evenly by 3 processes"):
        fit(synthetic, tmp_path, recipe)


def test_resume_of_another_run_is_refused(synthetic, recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dying(patch, 2)
        fit(synthetic, tmp_path / "a", recipe)
    with pytest.raises(ConfigError, match="an unfinished run with another seed; delete the folder"):
        fit(synthetic, tmp_path / "a", recipe, seed=2)


@pytest.fixture(scope="module")
def killed(synthetic, recipe, tmp_path_factory):
    """A training that was killed in its second epoch, with the best weights of its first."""
    folder = tmp_path_factory.mktemp("killed") / "a"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dying(patch, 4)
        fit(synthetic, folder, recipe)
    assert sorted(path.name for path in (folder / "last").iterdir()) == ["best0.pt", "state.pt"]
    return folder


@pytest.fixture
def unfinished(killed, tmp_path):
    """A copy of it to damage."""
    shutil.copytree(killed, tmp_path / "a")
    return tmp_path / "a"


def restate(change):
    """Edit a resume state, its hash left as it was."""

    def harm(path):
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return harm


def flip(path, part):
    content = bytearray(path.read_bytes())
    content[int(len(content) * part)] ^= 1
    path.write_bytes(content)


class TestDamagedState:
    """What a training resumes from is what it wrote, or one line says which file is not, and what to do."""

    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(bytes(4000)),
            lambda path: path.write_text("damaged"),
            lambda path: path.write_bytes(path.read_bytes()[:-1000]),
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            lambda path: path.write_bytes(pickle.dumps({"identity": {}})),
            lambda path: (path.unlink(), path.mkdir()),
            lambda path: flip(path, 0.5),
            lambda path: flip(path, 0.1),
            lambda path: torch.save([1, 2], path),
            lambda path: torch.save({}, path),
            lambda path: torch.save(torch.zeros(3), path),
            lambda path: torch.save(subprocess.Popen, path),
            restate(lambda state: state.pop("identity")),
            restate(lambda state: state.pop("sha256")),
            restate(lambda state: state.update(sha256="0")),
            restate(lambda state: state["detector"]["head.0.bias"].fill_(float("nan"))),
            restate(lambda state: state["detector"].pop("head.0.bias")),
            restate(lambda state: state["detector"].update({"head.0.bias": torch.zeros(1)})),
            restate(lambda state: state["progress"].update(epoch=0)),
            restate(lambda state: state["progress"].update(stage="first")),
            restate(lambda state: state["progress"]["history"][0].update(dev_eer=0.0)),
            restate(lambda state: state["progress"].update(best={0: (0.0, 1)})),
            restate(lambda state: state["optimiser"]["state"].clear()),
            restate(lambda state: state["optimiser"]["param_groups"][0].update(lr=1.0)),
            restate(lambda state: state["schedule"].update(last_epoch=0)),
        ],
    )
    def test_state(self, unfinished, synthetic, recipe, harm):
        harm(unfinished / "last" / "state.pt")
        with pytest.raises(ConfigError) as refused:
            fit(synthetic, unfinished, recipe)
        said = str(refused.value)
        assert said.startswith(f"{unfinished}/last/state.pt: ") and "\n" not in said
        assert said.endswith(f"; delete the folder {unfinished}/last to start anew")
        assert not (unfinished / "model.safetensors").exists()

    @pytest.mark.parametrize(
        "harm",
        [
            lambda path: path.write_bytes(path.read_bytes()[:-1000]),
            lambda path: path.unlink(),
            restate(lambda state: state["detector"]["head.0.bias"].add_(1)),
            restate(lambda state: state.update(best=(0.0, 2))),
        ],
    )
    def test_best_weights(self, unfinished, synthetic, recipe, monkeypatch, harm):
        """Found when they are put back, which is at the end of the stage."""
        monkeypatch.setattr(training._Run, "_dev_eer", lambda *_: 0.9)  # so that the first epoch stays the best
        harm(unfinished / "last" / "best0.pt")
        with pytest.raises(ConfigError, match=r"last/best0\.pt: .*; delete the folder .*/last to start anew"):
            fit(synthetic, unfinished, recipe)

    def test_best_weights_of_another_run(self, unfinished, synthetic, recipe, tmp_path, monkeypatch):
        monkeypatch.setattr(training._Run, "_dev_eer", lambda *_: 0.9)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            dying(patch, 4)
            fit(synthetic, tmp_path / "b", recipe, seed=2)
        shutil.copy(tmp_path / "b" / "last" / "best0.pt", unfinished / "last" / "best0.pt")
        with pytest.raises(ConfigError, match=r"best0\.pt: of an unfinished run with another seed; delete the folder"):
            fit(synthetic, unfinished, recipe)


def test_a_disk_that_fills_up_is_named_and_the_training_goes_on_once_there_is_room(
    checkpoint, synthetic, recipe, small_disk
):
    disk = small_disk(64_000)
    output = disk / "AST-05"
    save = training._Run._save

    def fill(run, path, state):
        if path.name == "state.pt" and run.progress.epoch == 1:
            with contextlib.suppress(OSError), (disk / "filler").open("wb") as stream:
                while stream.write(bytes(100_000)):
                    pass
        save(run, path, state)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left on device") as full:
        patch.setattr(training._Run, "_save", fill)
        fit(synthetic, output, recipe)
    assert full.value.filename == str(output / "last" / "state.pt")
    assert sorted(path.name for path in (output / "last").iterdir()) == ["best0.pt", "state.pt"]
    with pytest.raises(ConfigError, match=r"cannot be written \(No space left on device\); free its disk"):
        fit(synthetic, output, recipe)
    (disk / "filler").unlink()
    fit(synthetic, output, recipe)
    assert same(output, checkpoint)


def test_a_disk_that_is_too_small_is_refused_before_the_first_step(checkpoint, synthetic, recipe, small_disk):
    """Found out by trying: from the least that is not refused, a training ends well."""
    size = (checkpoint / "model.safetensors").stat().st_size // 1024
    for times, fits in ((7, False), (9, True)):
        output = small_disk(times * size) / "AST-05"
        if fits:
            fit(synthetic, output, recipe)
            assert same(output, checkpoint)
        else:
            with pytest.raises(
                ConfigError, match=r"AST-05: too little disk: a training under way takes \d+ MB, and \d+ MB are"
            ):
                fit(synthetic, output, recipe)
            assert not [*output.parent.iterdir()]


@pytest.mark.parametrize("name", ["last", "model.json", "model.safetensors", "history.tsv"])
def test_what_cannot_be_written_is_refused_before_the_first_step(synthetic, recipe, tmp_path, monkeypatch, name):
    monkeypatch.setattr(training, "Detector", None)
    place = tmp_path / "a" / name
    place.parent.mkdir()
    place.touch() if name == "last" else place.mkdir()
    with pytest.raises(ConfigError, match=f"{name}: is a f.* is to be written; name a"):
        fit(synthetic, tmp_path / "a", recipe)
    with pytest.raises(ConfigError, match="x: cannot be written below"):
        fit(synthetic, synthetic / "train.tsv" / "x", recipe)


@pytest.mark.parametrize("crop", [100, 400])
def test_a_crop_that_is_too_short(synthetic, recipe, tmp_path, crop):
    with pytest.raises(ConfigError, match=f"a crop of {crop} samples is too short"):
        fit(synthetic, tmp_path, replace(recipe, crop=crop))


def test_a_crop_that_memory_does_not_hold(synthetic, recipe, tmp_path, monkeypatch):
    def frames(*_):
        raise RuntimeError("can't allocate memory\nand more")

    monkeypatch.setattr(training.Detector, "frames", frames)
    with pytest.raises(ConfigError, match=r"a crop of 20000 samples is too long \(can't allocate memory\)$"):
        fit(synthetic, tmp_path, replace(recipe, crop=20_000))


def test_killed_while_tidying_up(checkpoint, again, tmp_path, monkeypatch):
    """Dying after the checkpoint is written, in the midst of deleting the resume state."""
    rmtree = shutil.rmtree

    def dying(folder, **options):
        if not options:
            (folder / "best0.pt").unlink()
            raise KeyboardInterrupt
        rmtree(folder, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.shutil, "rmtree", dying)
        again()
    assert same(again(), checkpoint)
    assert not [p for p in (tmp_path / "a").iterdir() if p.is_dir()]


class TestFinished:
    """Calling again never costs a training: it is kept, or the call is refused."""

    @pytest.fixture
    def finished(self, checkpoint, tmp_path, monkeypatch):
        """A finished training, and nothing at hand that it could be repeated with."""
        shutil.copytree(checkpoint, tmp_path / "AST-05")
        for costly in ("read_trials", "Detector", "Accelerator", "prepare_torch"):
            monkeypatch.setattr(training, costly, None)
        return tmp_path / "AST-05"

    @pytest.mark.parametrize("place", ["synthetic", "moved"])
    def test_kept(self, finished, recipe, place, request, capsys):
        before = state(finished)
        fit(request.getfixturevalue(place), finished, recipe, device="cuda", threads=2, workers=3)
        assert state(finished) == before
        assert capsys.readouterr() == ("", f"{finished}: already trained; kept\n")

    def test_of_other_code(self, finished, synthetic, recipe, capsys):
        edit(finished, lambda record: record["provenance"].update(code_hash="0123"))
        before = state(finished)
        fit(synthetic, finished, recipe)
        assert state(finished) == before
        now = provenance(backend="AASIST")["code_hash"]
        said = f"by another state of the code (0123, now {now}); kept; delete the folder to train"
        assert said in capsys.readouterr().err

    def test_a_key_that_recipes_got_later(self, finished, synthetic, recipe):
        edit(finished, lambda record: record["recipe"].pop("views"))
        fit(synthetic, finished, recipe)
        with pytest.raises(ConfigError, match=r"another training: training.views 0 -> 1; nothing was deleted"):
            fit(synthetic, finished, replace(recipe, views=1))

    @pytest.mark.parametrize(
        ("asked", "named"),
        [
            ({"system": "AST-03"}, "system AST-05 -> AST-03"),
            ({"seed": 2}, "seed 1 -> 2"),
            (
                {"stages": (Stage(8, 8, 1e-3),)},
                "training.stages.0.epochs 2 -> 8, training.stages.1.batch_size 8 -> absent",
            ),
            ({"epoch_size": 0, "seed": 7}, "seed 1 -> 7, training.epoch_size 16 -> 0"),
            ({"augmentation": OFF}, "training.augmentation.filter 0.9 -> 0.0, training.augmentation.noise 0.9 -> 0.0"),
        ],
    )
    def test_another_is_refused(self, finished, synthetic, recipe, asked, named):
        before = state(finished)
        call = {key: asked[key] for key in asked if key in ("system", "seed")}
        changes = {key: asked[key] for key in asked if key not in call}
        way_out = "nothing was deleted: delete or move the folder, or choose another `experiment`$"
        with pytest.raises(ConfigError, match=rf"AST-05: holds another training: {named}.*; {way_out}"):
            fit(synthetic, finished, replace(recipe, **changes), **call)
        assert state(finished) == before

    def test_other_lists_are_refused(self, finished, synthetic, relabelled, recipe):
        with pytest.raises(ConfigError, match=r"another training: dev_list \(other trials\);"):
            fit(synthetic, finished, recipe, dev=relabelled / "dev.tsv")
        with pytest.raises(ConfigError, match=r"train_list \(other trials\), dev_list \(other trials\);"):
            fit(relabelled, finished, recipe)

    def test_five_differences_are_named(self, finished, synthetic, recipe):
        with pytest.raises(ConfigError) as refused:
            fit(synthetic, finished, replace(recipe, stages=(), crop=6000, epoch_size=0), "AST-03", 2)
        assert str(refused.value).count(" -> ") == 5 and " and 11 more; nothing was" in str(refused.value)

    def test_a_front_end_that_moved(self, finished, synthetic, recipe):
        """It is the same one if its weights are."""
        edit(finished, lambda record: record["recipe"]["frontend"].update(model="/old/disk", revision="abc"))
        fit(synthetic, finished, recipe)
        with pytest.raises(ConfigError, match=r"seed 1 -> 2, training.frontend.model /old/disk -> spectral"):
            fit(synthetic, finished, recipe, seed=2)
        edit(finished, lambda record: record.update(frontend_weights="other"))
        with pytest.raises(ConfigError, match=r"another training: training.frontend.model /old/disk -> spectral"):
            fit(synthetic, finished, recipe)

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"system": "AST-05"}'])
    def test_damaged_record(self, finished, synthetic, recipe, content):
        (finished / "model.json").write_text(content)
        with pytest.raises(ConfigError, match=r"AST-05.model.json: (damaged|holds no record_sha256)"):
            fit(synthetic, finished, recipe)

    def test_written_but_not_tidied_up_is_gone_on_with(self, checkpoint, synthetic, recipe, tmp_path, monkeypatch):
        """Killed before the resume state was dropped: as strict as ever about what it goes on with."""
        publish = training.save_checkpoint

        def interrupted(*arguments):
            publish(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training, "save_checkpoint", interrupted)
            fit(synthetic, tmp_path / "a", recipe)
        with pytest.raises(ConfigError, match="an unfinished run with another seed; delete the folder"):
            fit(synthetic, tmp_path / "a", recipe, seed=2)
        fit(synthetic, tmp_path / "a", recipe)
        assert not (tmp_path / "a" / "last").exists()
        assert same(tmp_path / "a", checkpoint)


class TestStages:
    def run(self, synthetic, recipe, folder, monkeypatch, dev_eers, **changes):
        """Train with prescribed development EERs, epoch by epoch."""
        values = iter(dev_eers)
        monkeypatch.setattr(training._Run, "_dev_eer", lambda *_: next(values))
        fit(synthetic, folder, replace(recipe, **changes))
        return json.loads((folder / "model.json").read_text())

    def test_a_worse_second_stage_does_not_replace_the_first(self, synthetic, recipe, tmp_path, monkeypatch):
        record = self.run(synthetic, recipe, tmp_path, monkeypatch, [0.3, 0.1, 0.2, 0.2])
        assert (record["stage"], record["epoch"], record["dev_eer"]) == (1, 2, 0.1)

    def test_unless_told_to(self, synthetic, recipe, tmp_path, monkeypatch):
        record = self.run(synthetic, recipe, tmp_path, monkeypatch, [0.3, 0.1, 0.2, 0.2], keep_better_stage=False)
        assert (record["stage"], record["epoch"], record["dev_eer"]) == (2, 1, 0.2)

    def test_stage_one_leaves_the_frontend_alone(self, synthetic, recipe, tmp_path, monkeypatch):
        from spaarsist.models.frontend import Spectral

        frozen = replace(recipe.stages[0], epochs=1)
        self.run(synthetic, recipe, tmp_path / "1", monkeypatch, [0.3], stages=(frozen,))
        tuned = (frozen, replace(recipe.stages[1], epochs=1))
        self.run(synthetic, recipe, tmp_path / "2", monkeypatch, [0.3, 0.2], stages=tuned)
        fresh = Spectral(recipe.frontend).bank
        assert torch.equal(load_checkpoint(tmp_path / "1")[0].frontend.bank, fresh)
        assert not torch.equal(load_checkpoint(tmp_path / "2")[0].frontend.bank, fresh)

    def test_the_second_stage_starts_from_the_best_epoch(self, synthetic, recipe, tmp_path, monkeypatch):
        """With a second stage that cannot move anything (rate of 1e-30), its weights are the best of the first."""
        still = Stage(1, 8, 1e-30, train_frontend=True)
        a = tmp_path / "a"
        self.run(synthetic, recipe, a, monkeypatch, [0.1, 0.3, 0.05], stages=(recipe.stages[0], still))
        b = tmp_path / "b"
        self.run(synthetic, recipe, b, monkeypatch, [0.1, 0.3], stages=(recipe.stages[0],))
        detector = load_checkpoint(a)[0], load_checkpoint(b)[0]
        weights = [dict(d.named_parameters()) for d in detector]
        assert all(torch.allclose(weights[0][k], weights[1][k], rtol=0, atol=1e-20) for k in weights[0])

    def test_no_epochs_at_all(self, synthetic, recipe, tmp_path):
        with pytest.raises(ConfigError, match="no stage has any epochs"):
            idle = replace(recipe, stages=(Stage(0, 8),))
            fit(synthetic, tmp_path, idle)


def test_a_loss_that_is_not_finite_names_its_batch(synthetic, recipe, tmp_path):
    wild = replace(recipe, stages=(Stage(2, 8, 1e30),))
    with pytest.raises(ConfigError, match=r"stage 1, epoch \d, step \d: the loss is (nan|inf); batch: .*T_0"):
        fit(synthetic, tmp_path, wild)


@pytest.mark.parametrize("which", ["train", "dev"])
@pytest.mark.parametrize(("label", "message"), [("bonafide", "no spoof trials"), ("-", "no labels")])
def test_lists_without_both_classes_are_refused_before_the_first_step(
    synthetic, recipe, tmp_path, monkeypatch, which, label, message
):
    monkeypatch.setattr("spaarsist.experiments.train.Detector", None)
    lists = {name: synthetic / f"{name}.tsv" for name in ("train", "dev")}
    one = read_trials(lists[which]).assign(label=label)
    one.to_csv(tmp_path / "one.tsv", sep="\t", index=False)
    lists[which] = tmp_path / "one.tsv"
    with pytest.raises(ConfigError, match=rf"one\.tsv: {message}"):
        train(lists["train"], lists["dev"], tmp_path / "out", "AST-05", recipe, 1)
