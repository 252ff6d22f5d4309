"""The workflow on a real Slurm, through the profile that we ship: the whole DAG, and trainings that the cluster ends.

The cluster is this machine's own and its GPUs are fakes (see cluster.py): what is shown is who is sent where with what,
and that a run survives what clusters do to jobs. Nothing here says that the code runs on a GPU.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cluster import ask, cluster, obstacle

REPOSITORY = Path(__file__).parents[2]
OBSTACLE = obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no toy Slurm cluster here: {OBSTACLE}")

ON_GPU = {"features", "dev_features", "train", "score", "findings"}
ON_CPU = {"corpora", "trials", "metrics", "latency", "figure_det", "figure_histograms", "figure_reliability"}
RESULTS = Path("results", "synthetic")
TRAINED = ("AST-05", "MHFA")
# What differs from a real cluster: answers come at once
TOY = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "1")


@pytest.fixture(scope="module")
def slurm():
    with cluster() as running:
        yield running


def write_config(path):
    """The synthetic experiment with a GPU per job, one system of each kind, cached features, and long trainings."""
    settings = yaml.safe_load((REPOSITORY / "config" / "synthetic.yaml").read_text())
    settings["systems"] = {"k_train": [0.5], "k_infer": [0.5], "variants": ["Base", "MagMean"], "also": [],
                           "k_sweep": [0.1], "in_table2": ["AST-05-05"], "in_figures": ["AST-05-05", "MHFA"]}  # fmt: skip
    settings["backends"] = {"MHFA": {"kind": "MHFA", "options": {"n_heads": 2, "compression_dim": 4}}}
    settings["temperature"] |= {"systems": ["AST-05-05"], "graph": [0.5], "stack": [1]}
    settings["compute"] |= {"gpu": 1, "workers": 1}
    settings["features"] |= {"development": True}
    settings["training"] |= {"epoch_size": 64, "views": 2}
    first, second = settings["training"]["stages"]
    settings["training"]["stages"] = [first | {"epochs": 2}, second | {"epochs": 10}]
    path.write_text(yaml.safe_dump(settings))


class Driver:
    """Snakemake as it runs on a login node."""

    def __init__(self, folder, *arguments):
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder,
                   "--configfile", folder / "config.yaml", "--profile", REPOSITORY / "workflow" / "profiles" / "slurm",
                   *TOY, *arguments]  # fmt: skip
        self.log = folder / "driver.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*map(str, command)], env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def said(self):
        return self.log.read_text()

    def finish(self, limit):
        """Wait for the end; the exit code."""
        return self.process.wait(limit)


def drive(folder, *arguments, limit=420):
    with Driver(folder, *arguments) as driver:
        return driver.finish(limit), driver.said()


@pytest.fixture(scope="module")
def run(slurm, tmp_path_factory):
    """The whole workflow, finished: (folder, what Snakemake said, the cluster's jobs)."""
    folder = tmp_path_factory.mktemp("run")
    write_config(folder / "config.yaml")
    code, said = drive(folder, "--retries", "0")
    assert code == 0, said[-6000:]
    return folder, said, slurm.jobs()


def test_every_target_is_made(run):
    folder, said, _ = run
    made = {path.relative_to(folder / RESULTS).as_posix() for path in (folder / RESULTS).rglob("*")}
    assert {"tables/table1.html", "tables/table2.tsv", "tables/claims.md", "figures/det.pdf"} <= made
    assert "(100%) done" in said
    dry = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder, "-n",
         "--configfile", folder / "config.yaml"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Nothing to be done" in dry.stdout


def test_jobs_of_seconds_stay_on_the_login_node(run):
    """What Slurm was given is what is worth a job; the rest ran beside Snakemake."""
    _, said, jobs = run
    assert {job["rule"] for job in jobs.values()} == ON_GPU | ON_CPU
    assert "localrule table1:" in said and "localrule summary:" in said


def test_each_job_ran_where_it_should(run, slurm):
    """By Slurm's records, and by what the jobs' own processes found in their environment."""
    _, _, jobs = run
    seen = slurm.seen()
    for number, job in jobs.items():
        assert job["JobState"] == "COMPLETED", job
        if job["rule"] in ON_GPU:
            assert (job["Partition"], job["TresPerJob"]) == ("gpu", "gres:gpu:1"), job
            assert seen[number] <= {("gpu", "0"), ("gpu", "1")}, job
        else:
            assert job["Partition"] == "cpu" and "TresPerJob" not in job, job
            assert seen[number] == {("cpu", "none")}, job


def test_jobs_are_given_what_their_rules_ask_for(run):
    for job in run[2].values():
        wanted = {"train": ("2", "2-00:00:00"), "metrics": ("1", "08:00:00")}
        if job["rule"] in wanted:
            assert (job["NumCPUs"], job["TimeLimit"]) == wanted[job["rule"]], job
        assert "mem=" in job["TRES"], job
        assert (job["OverSubscribe"] == "NO") == (job["rule"] == "latency"), job  # NO: it has the node to itself


def checkpoint(folder, system):
    return folder / RESULTS / "checkpoints" / system / "seed1"


def training_log(folder, system):
    return (folder / RESULTS / "logs" / "train" / f"{system}_seed1.log").read_text()


@pytest.fixture(scope="module")
def disturbed(run, slurm):
    """Both trainings made once more; Slurm ends one by scancel and one for its time limit, in mid-training.

    Gives (folder, the undisturbed weights, the failed run, the rerun).
    """
    folder, _, before = run
    weights = {}
    for system in TRAINED:
        weights[system] = (checkpoint(folder, system) / "model.safetensors").read_bytes()
        for path in checkpoint(folder, system).iterdir():
            path.unlink()
    targets = [RESULTS / "checkpoints" / system / "seed1" / "model.safetensors" for system in TRAINED]
    ends = dict(zip(TRAINED, (["scancel"], ["scontrol", "update", "TimeLimit=0"]), strict=True))
    with Driver(folder, "--retries", "0", *targets) as driver:
        deadline = time.monotonic() + 120
        while ends:
            assert time.monotonic() < deadline and driver.process.poll() is None, driver.said()[-6000:]
            for number, job in slurm.jobs().items():
                system = job["Comment"].partition("wildcards_")[2].removesuffix("_seed1").removesuffix("_1")
                began = (checkpoint(folder, system) / "last" / "state.pt").exists()
                if number not in before and job["JobState"] == "RUNNING" and began and system in ends:
                    command = ends.pop(system)
                    ask(*command, str(number) if command == ["scancel"] else f"JobId={number}")
            time.sleep(0.3)
        code = driver.finish(180)
        failed = code, driver.said(), {n: job for n, job in slurm.jobs().items() if n not in before}
    left = {system: sorted(path.name for path in checkpoint(folder, system).iterdir()) for system in TRAINED}
    logs = {system: training_log(folder, system) for system in TRAINED}
    rerun = drive(folder, *targets)
    return folder, weights, (*failed, left, logs), rerun


def test_a_job_that_slurm_ends_fails_the_run(disturbed):
    code, said, jobs, left, _ = disturbed[2]
    assert code == 1 and said.count("Error in rule train") >= 2
    assert sorted(job["JobState"] for job in jobs.values()) == ["CANCELLED", "TIMEOUT"]
    assert left == {system: ["last"] for system in TRAINED}  # no half-made checkpoint; what resuming needs


def test_the_time_limit_reaches_the_training(disturbed):
    """It saves where it is and says so, instead of losing the epoch."""
    assert "SIGTERM" in disturbed[2][4]["MHFA"]


def test_the_rerun_goes_on_and_ends_with_the_same_weights(disturbed):
    folder, weights, _, (code, said) = disturbed
    assert code == 0, said[-6000:]
    for system in TRAINED:
        assert "stage 1 epoch 1/" not in training_log(folder, system), "began anew"
        assert (checkpoint(folder, system) / "model.safetensors").read_bytes() == weights[system]
        assert not (checkpoint(folder, system) / "last").exists()
