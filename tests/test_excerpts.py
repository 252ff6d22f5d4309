"""Reading by processes: in order, and to an end within seconds whatever happens to a file, a process or the job."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch.utils.data import Dataset, Subset

from conftest import REPOSITORY, misplace
from spaarsist.config import to_json
from spaarsist.experiments.excerpts import Excerpts, excerpt_of, excerpts_of, reading
from spaarsist.names import ConfigError

BAR = {"desc": "read", "disable": True}


class Numbers(Dataset):
    """Gives its positions; at one of them something happens."""

    def __init__(self, n, at=None, happens=None):
        self.n, self.at, self.happens = n, at, happens

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index == self.at:
            self.happens()
        return torch.tensor([float(index)]), index


def refuse():
    raise ConfigError("bad.flac: is not whole")


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def readers():
    """Processes of this one that read for a loader and have not ended."""
    shown = subprocess.run(["ps", "-o", "stat=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [line for line in shown.stdout.splitlines() if "pt_data" in line and not line.startswith("Z")]


@pytest.mark.parametrize("workers", [0, 2])
def test_all_in_order(workers):
    with reading(Numbers(7), workers, BAR, batch_size=3) as batches:
        assert [positions.tolist() for _, positions in batches] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_one_line_and_leaves_no_process(workers):
    began, seen = time.monotonic(), []
    with (
        pytest.raises(ConfigError) as error,
        reading(Numbers(64, 20, refuse), workers, BAR, batch_size=4) as batches,
    ):
        for _ in batches:
            seen.append(len(readers()))
    # Batches come in order, the second from the second reader: until then that one may not have begun
    assert seen[0] <= workers and seen[1:] == [workers] * 4
    assert str(error.value) == "bad.flac: is not whole"
    assert not readers() and time.monotonic() - began < 20


def test_an_error_of_the_one_who_takes_the_batches():
    with pytest.raises(ZeroDivisionError), reading(Numbers(64), 2, BAR, batch_size=4) as batches:
        for _ in batches:
            raise ZeroDivisionError
    assert not readers()


def test_a_signal_that_comes_while_readers_start_leaves_them_alone(monkeypatch):
    """As a cluster's SIGTERM to the whole job, whose end is the job's own to order."""
    handling, prepare = torch.utils.data._utils.signal_handling, torch._C._set_worker_signal_handlers

    def prepare_and_be_told():
        prepare()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(handling, "_set_worker_signal_handlers", prepare_and_be_told)
    with reading(Numbers(7), 2, BAR, batch_size=3) as batches:
        assert [positions.tolist() for _, positions in batches] == [[0, 1, 2], [3, 4, 5], [6]]


def test_a_process_that_is_killed_is_said_so():
    with (
        pytest.raises(ConfigError, match=r"ended from outside .*set fewer: compute.workers"),
        reading(Numbers(64, 20, kill), 2, BAR, batch_size=4) as batches,
    ):
        for _ in batches:
            pass


@pytest.mark.parametrize("workers", [0, 2])
def test_excerpts_without_signal_are_named(tmp_path, capsys, workers):
    """Silence, a constant, channels that cancel, and a few samples; not a quiet or a short recording."""
    tone = np.sin(np.arange(4000) / 3)
    sounds = {
        "good": tone, "quiet": tone / 1000, "short": tone[:402], "zeros": 0 * tone, "constant": 0 * tone + 0.1,
        "cancel": np.stack([tone, -tone], 1), "few": tone[:399],
        "silent_inside": np.r_[tone, np.zeros(9000), tone],
    }  # fmt: skip
    for name, samples in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
    excerpts = Excerpts(pd.DataFrame({"path": [f"{tmp_path}/{name}.wav" for name in sounds]}), 4000)
    for dataset, n in ((excerpts, 8), (Subset(excerpts, range(3, 8)), 5)):
        with reading(dataset, workers, BAR, batch_size=3) as batches:
            assert sum(len(positions) for _, positions in batches) == n
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"spaarsist: warning: 5 of {n} excerpts have no signal")
        assert line.endswith(f": {tmp_path}/zeros.wav, {tmp_path}/constant.wav, {tmp_path}/cancel.wav and 2 more")
    with reading(Subset(excerpts, range(3)), workers, BAR, batch_size=3) as batches:
        assert len(list(batches)) == 1
    assert not capsys.readouterr().err


def test_excerpts_are_the_record_s(tmp_path):
    """Older records say a length in their recipe alone: the middle, padded by zeros, in the words of score files."""
    soundfile.write(tmp_path / "long.wav", np.arange(9) / 16, 16_000, subtype="DOUBLE")
    soundfile.write(tmp_path / "short.wav", np.arange(2) / 16, 16_000, subtype="DOUBLE")
    trials = pd.DataFrame({"path": [f"{tmp_path}/long.wav", f"{tmp_path}/short.wav"]})

    def shown(record):
        return [(16 * waveform).tolist() for waveform, _ in excerpts_of(record, trials)], str(excerpt_of(record))

    centred = [[2, 3, 4, 5, 6], [0, 1, 0, 0, 0]], "centre 5 samples"
    assert shown({"recipe": {"crop": 5}}) == shown({"recipe": {"crop": 7}, "excerpt": {"crop": 5}}) == centred
    other = {"excerpt": {"crop": 5, "place": "start", "padding": "repeat"}}
    assert shown(other) == ([[0, 1, 2, 3, 4], [0, 1, 0, 1, 0]], "start 5 samples, short recordings repeated")
    with pytest.raises(ConfigError, match=r"Excerpt: place: .*'centre' or 'start'"):
        excerpt_of({"excerpt": {"crop": 5, "place": "end"}})


@pytest.fixture(scope="module")
def broken(synthetic, tmp_path_factory):
    """Trial lists whose fourth recording is no audio."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "bad.flac").write_bytes(b"fLaC and nothing else" * 100)
    return {
        name: misplace(synthetic / f"{name}.tsv", folder / "bad.flac", folder / f"{name}.tsv")
        for name in ("train", "dev", "eval")
    }


@pytest.mark.parametrize("verb", ["score", "features", "inspect", "train"])
def test_a_bad_file_never_hangs_a_job(verb, checkpoint, synthetic, broken, recipe, tmp_path):
    """With reader processes it used to sleep for ever."""
    arguments = {
        "score": ["--checkpoint", checkpoint, "--trial-list", broken["eval"], "--output", tmp_path / "a.parquet"],
        "features": ["--trial-list", broken["eval"], "--output", tmp_path / "cache", "--recipe", to_json(recipe)],
        "inspect": ["--checkpoint", checkpoint, "--trial-list", broken["eval"], "--output", tmp_path / "inspected",
                    "--scores", tmp_path / "scores.parquet", "--k-infer", 0.5, "--stack-temperature", 1],
        "train": ["--train-list", synthetic / "train.tsv", "--dev-list", broken["dev"], "--output", tmp_path / "a",
                  "--system", "AST-05", "--seed", 1, "--recipe", to_json(recipe)],
    }  # fmt: skip
    command = [sys.executable, "-m", "spaarsist"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    if verb == "inspect":  # its scores are of the whole list; both name the same trials
        score = [*command, "score", "--checkpoint", checkpoint, "--trial-list", synthetic / "eval.tsv"]
        score += [
            "--output",
            tmp_path / "scores.parquet",
            "--variant",
            "05",
            "--variant",
            "05-Mag",
            "--variant",
            "05-Uni",
        ]
        score += ["--variant", "05-Mean", "--variant", "05-MagGate"]
        subprocess.run([*map(str, score)], env=environment, check=True, capture_output=True)
    ended = subprocess.run(
        [*map(str, [*command, verb, *arguments[verb], "--workers", 2])],
        env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == 1 and "bad.flac" in last and last.startswith("spaarsist: "), ended.stderr[-2000:]
    assert "Traceback" not in ended.stderr
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".safetensors")]
    assert not (tmp_path / "a.parquet").exists()
