"""Killed at random moments and called again, every long step ends as an undisturbed run does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import yaml
from hub import Hub

from conftest import REPOSITORY
from spaarsist.artefacts import file_hash
from spaarsist.config import Stage, to_json

KILLS = 3
OF_THE_CLOCK = ["seconds", "trials_per_second", "peak_memory_mb"]
"""Columns of the history that no two runs share."""


@dataclass(frozen=True)
class Step:
    """A verb of the command line, called in a folder of its own.

    Args:
        arguments: of `python -m spaarsist`, with paths relative to that folder.
        begins: stands in the output once imports are over and work has begun.
        results: reads what lies in a folder under its final name: name -> content.
        first: Python that runs before, to make of a step of hours one of seconds.
    """

    arguments: list[object]
    begins: str
    results: Callable[[Path], dict]
    first: str = ""

    def run(self, folder: Path, stop_after: float | None = None, by: int = signal.SIGKILL) -> tuple[int, float]:
        """Run in `folder`, stopped so many seconds after work began; returns exit code and seconds of work."""
        folder.mkdir(exist_ok=True)
        arguments = [*map(str, self.arguments)]
        log = folder.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", f"{self.first}\nfrom spaarsist.__main__ import main\nmain()", *arguments],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while self.begins not in log.read_text(errors="replace") and process.poll() is None:
                time.sleep(0.01)
            began = time.perf_counter()
            try:
                process.wait(120 if stop_after is None else stop_after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, by)
            code = process.wait(60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        expected = (0,) if stop_after is None else (0, -signal.SIGKILL, 128 + by)
        assert code in expected, log.read_text(errors="replace")[-3000:]
        return code, time.perf_counter() - began


def leftovers(folder):
    """Whatever is no result: half-made files, temporary names, states to resume from."""
    found = (p for p in folder.rglob("*") if p.name.startswith(".") or p.suffix == ".part" or p.name == "last")
    return [p.relative_to(folder).as_posix() for p in found]


def kill_and_resume(step, tmp_path, seed):
    """Kill the step five times, each at a random moment of its work; begun anew whenever it is done before.

    After every kill, what lies under its final name must be whole. Returns the undisturbed run's results.
    """
    _, seconds = step.run(tmp_path / "undisturbed")
    whole = step.results(tmp_path / "undisturbed")
    assert whole and not leftovers(tmp_path / "undisturbed")
    rng, kills, moments, folder = random.Random(seed), 0, [], tmp_path / "killed0"
    for attempt in range(10 * KILLS):
        to_the_end = kills == KILLS
        moments.append(None if to_the_end else rng.uniform(0, seconds))
        code, _ = step.run(folder, moments[-1])
        when = f"killed after {moments} of {seconds} s"
        there = step.results(folder)
        for name, content in there.items():
            assert content == whole[name], f"{name} is another or not whole; {when}"
        if code == 0:
            assert there.keys() == whole.keys() and not leftovers(folder), f"{[*there]}, {leftovers(folder)}; {when}"
            if to_the_end:
                return whole
            moments, folder = [], tmp_path / f"killed{attempt + 1}"
        else:
            kills += 1
    pytest.fail(f"always done before it could be killed {KILLS} times; {when}")


# ---------------------------------------------------------------- what is left of each step


def fetched(folder):
    """Verified files; of the receipt, all but where a file came from: a killed run may have brought it."""
    there = (p for p in (folder / "data").glob("*") if not p.name.startswith(".") and p.suffix != ".part")
    found = {p.name: file_hash(p) for p in there}
    if (receipt := folder / "receipt.json").exists():
        record = json.loads(receipt.read_text())
        for file in record["files"].values():
            del file["origin"]
        found["receipt.json"] = record
    return found


def cached(folder):
    return {p.name: p.read_bytes() for p in (folder / "view1").glob("part*")}


def trained(folder):
    """A checkpoint's files; of the history, what does not depend on the clock."""
    found = {p.name: p.read_bytes() for p in (folder / "checkpoint").glob("model.*")}
    if (history := folder / "checkpoint" / "history.tsv").exists():
        found["history.tsv"] = pd.read_csv(history, sep="\t").drop(columns=OF_THE_CLOCK).to_csv()
    return found


def scored(folder):
    if not (path := folder / "scores.parquet").exists():
        return {}
    table = pyarrow.parquet.read_table(path)
    return {path.name: (table.to_pydict(), json.loads(table.schema.metadata[b"spaarsist"]))}


# ---------------------------------------------------------------- the steps


@pytest.fixture(scope="module")
def features(synthetic, recipe):
    recipe = to_json(replace(recipe, views=2, epoch_size=400, stages=(Stage(2, 8),)))
    arguments = ["features", "--trial-list", synthetic / "train.tsv", "--output", "view1", "--view", 1]
    arguments += ["--part", 1, "--parts", 2, "--recipe", recipe, "--batch-size", 4]
    return Step(arguments, "part 2/2", cached)


@pytest.fixture(scope="module")
def training(synthetic, recipe):
    stages = (Stage(3, 8, 1e-3), Stage(2, 8, 1e-3, train_frontend=True, schedule="one_cycle", crop=6400))
    recipe = to_json(replace(recipe, stages=stages, epoch_size=24))
    arguments = ["train", "--train-list", synthetic / "train.tsv", "--dev-list", synthetic / "dev.tsv"]
    arguments += ["--system", "AST-05", "--seed", 1, "--recipe", recipe, "--output", "checkpoint"]
    return Step(arguments, "stage 1 epoch 1", trained)


@pytest.fixture(scope="module")
def scoring(synthetic, checkpoint):
    arguments = ["score", "--checkpoint", checkpoint, "--trial-list", synthetic / "eval.tsv", "--batch-size", 2]
    arguments += [word for column in ("05", "01-Mag", "05+stack1") for word in ("--variant", column)]
    return Step([*arguments, "--output", "scores.parquet"], "score eval", scored)


@pytest.fixture(scope="module")
def killings(features, training, scoring, tmp_path_factory):
    """Under way, two at a time: most of their time goes into starting Python."""
    steps = {"features": features, "training": training, "scoring": scoring}
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(kill_and_resume, step, tmp_path_factory.mktemp(name), seed)
            for seed, (name, step) in enumerate(steps.items())
        }


@pytest.mark.parametrize("name", ["features", "training", "scoring"])
def test_killed_at_random_moments(killings, name):
    killings[name].result()


def test_fetch_killed_at_random_moments(tmp_path):
    served, rng = tmp_path / "served", np.random.default_rng(0)
    served.mkdir()
    files = {}
    for name, published in (("a.tar", True), ("b.tar", True), ("c.wav", False)):
        (served / name).write_bytes(rng.bytes(2_000_000))
        files[name] = f"md5:{file_hash(served / name, 'md5')}" if published else ""
    with Hub(served) as hub:
        for name in files:
            hub.faults[name] = ["slow"] * 100
        release = {"folder": "data", "size_gb": 0.01, "licence": "made up", "files": files}
        downloads = json.dumps({"toy": release | {"addresses": [hub.url + "{file}"]}})
        arguments = ["fetch", "--downloads", downloads, "--release", "toy", "--receipt", "receipt.json", "--jobs", 2]
        kill_and_resume(Step(arguments, "made up", fetched), tmp_path, seed=3)
        assert any(asked for _, asked in hub.requests), "nothing was resumed"


IN_PARTS = """
import time
from spaarsist.experiments import score
score.PART, score_excerpts = 2, score.score_excerpts
def noting(detector, excerpts, *more):
    scores = score_excerpts(detector, excerpts, *more)
    with open("computed", "a") as notes:
        print(list(excerpts.indices), file=notes)
    time.sleep(0.3)
    return scores
score.score_excerpts = noting
"""


def test_scoring_goes_on_after_five_kills(scoring, killings, tmp_path):
    """No part is computed twice but one that a kill met, and the end is that of a run in one go, to the last bit."""
    step, folder = replace(scoring, first=IN_PARTS), tmp_path / "killed"
    whole = killings["scoring"].result()
    for _ in range(5):
        code, _ = step.run(folder, 0.8)
        assert code == -signal.SIGKILL
    step.run(folder)
    assert scored(folder) == whole and not leftovers(folder)
    computed = (folder / "computed").read_text().splitlines()
    n_trials = len(whole["scores.parquet"][0]["trial_id"])
    assert {*computed} == {str([i, i + 1]) for i in range(0, n_trials, 2)}
    # A kill may come between the note and the file
    assert len(computed) <= n_trials // 2 + 5


def test_a_bad_file_among_thousands(synthetic, checkpoint, tmp_path):
    """Read by 12 processes: one line, exit code 1, no process left."""
    trials = pd.read_csv(synthetic / "eval.tsv", sep="\t", dtype=str, keep_default_na=False)
    trials = pd.concat([trials] * (5000 // len(trials)), ignore_index=True)
    trials["trial_id"] = [f"E_{number}" for number in range(len(trials))]
    trials.loc[500, "path"] = "gone.flac"
    trials.to_csv(tmp_path / "eval.tsv", sep="\t", index=False)
    arguments = ["score", "--checkpoint", checkpoint, "--trial-list", tmp_path / "eval.tsv", "--variant", "05"]
    arguments += ["--workers", 12, "--output", tmp_path / "out" / "scores.parquet"]
    log = tmp_path / "log"
    with log.open("w") as stream:
        command = [sys.executable, "-m", "spaarsist", *map(str, arguments)]
        process = subprocess.Popen(command, stderr=stream, start_new_session=True)
        assert process.wait(120) == 1
    assert log.read_text().splitlines()[-1] == "spaarsist: gone.flac: no such file"
    assert "Traceback" not in log.read_text() and not leftovers(tmp_path / "out")
    time.sleep(1)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_two_drivers_after_a_hard_kill(tmp_path):
    """Snakemake is killed, its training goes on: the next one's is refused, touches nothing, and the third keeps it."""
    settings = yaml.safe_load((REPOSITORY / "config" / "synthetic.yaml").read_text())
    settings["training"] |= {"epoch_size": 1000}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    made = Path("results", "synthetic", "checkpoints", "AST-05", "seed1")
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", tmp_path]
    command += ["--cores", 1, "--configfile", tmp_path / "config.yaml", "--"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def start(*target):
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen([*map(str, [*command[:-1], *target])], env=environment, **how)

    first = start("--", made / "model.safetensors")
    lock = tmp_path / made.with_name(".seed1.lock")
    while not (tmp_path / made / "last" / "state.pt").exists():
        assert first.poll() is None, first.stdout.read()[-3000:]
        time.sleep(0.05)
    first.kill()
    first.wait()
    pid = json.loads(lock.read_text())["pid"]
    assert start("--unlock").wait(60) == 0
    second = start("--retries", "2", "--", made / "model.safetensors")
    said, _ = second.communicate(timeout=120)
    log = (tmp_path / "results" / "synthetic" / "logs" / "train" / "AST-05_seed1.log").read_text()
    assert second.returncode == 1 and f"process {pid} on " in log and "Trying to restart" not in said
    assert (tmp_path / made / "last").exists(), "the first one's"
    os.kill(pid, signal.SIGTERM)
    while lock.exists():
        time.sleep(0.05)
    third = start("--", made / "model.safetensors")
    said, _ = third.communicate(timeout=300)
    assert third.returncode == 0, said[-3000:]
    log = (tmp_path / "results" / "synthetic" / "logs" / "train" / "AST-05_seed1.log").read_text()
    assert "stage 1 epoch 1" not in log or "from" in log, log
    assert not leftovers(tmp_path / made.parent)


def test_a_time_limit_stops_training_in_order(killings, training, tmp_path):
    """A scheduler sends SIGTERM to every process of the job, to those that read audio as well."""
    step = replace(training, arguments=[*training.arguments, "--workers", 1])
    code, _ = replace(step, begins="stage 2 epoch 1").run(tmp_path / "stopped", 0, by=signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in (tmp_path / "stopped.log").read_text()
    replace(step, begins="stage").run(tmp_path / "stopped")
    assert "stage 1" not in (tmp_path / "stopped.log").read_text(), "begun anew"
    assert trained(tmp_path / "stopped") == killings["training"].result()
    assert not leftovers(tmp_path / "stopped")
