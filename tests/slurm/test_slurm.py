"""The workflow on a real Slurm, through the profile that we ship: the whole DAG, and trainings that the cluster ends.

The cluster is this machine's own and its GPUs are fakes (see cluster.py): what is shown is who is sent where with what,
and that a run survives what clusters do to jobs. Nothing here says that the code runs on a GPU.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from cluster import ask, cluster, obstacle

from spaarsist.plan import BENCHMARKS

REPOSITORY = Path(__file__).parents[2]
OBSTACLE = obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"no toy Slurm cluster here: {OBSTACLE}")

ON_GPU = {"features", "dev_features", "train", "score", "inspect", "findings"}
ON_CPU = {"corpora", "trials", "metrics", "calibrate", "changes"}
ON_CPU |= {"figure_det", "figure_histograms"}
RESULTS = Path("results", "synthetic")
TRAINED = RESULTS / "checkpoints" / "AST-05" / "seed1"
# Jobs are short here: Snakemake asks after 10 s, 20 s more, 30 s more, ..., and after 10 s again when one is done
TOY = ("--latency-wait", "5", "--slurm-init-seconds-before-status-checks", "10")


@pytest.fixture(scope="module")
def slurm():
    with cluster() as running:
        yield running


def write_config(path):
    """The synthetic experiment with one training, GPUs for what can use them, and a cache of frames."""
    settings = yaml.safe_load((REPOSITORY / "config" / "synthetic.yaml").read_text())
    settings["systems"] = {"k_train": [0.5], "k_infer": [0.5], "variants": ["Base", "MagMean"], "also": [],
                           "k_sweep": [0.1], "in_table2": ["AST-05-05"], "in_figures": ["AST-05-05"]}  # fmt: skip
    settings["backends"] = {}
    settings["temperature"] |= {"systems": ["AST-05-05"], "graph": [0.5], "stack": [1]}
    settings["compute"] |= {"gpu": 1, "workers": 1}
    settings["features"]["development"] = True
    settings["training"] |= {"epoch_size": 512, "views": 1}  # epochs of seconds, to be ended in one
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


@pytest.fixture(scope="module")
def runs(slurm, tmp_path_factory):
    """The whole workflow; and beside its second half, its training made once more elsewhere, disturbed by Slurm.

    Folder, what Snakemake said and the cluster's jobs of the whole run; folder and outcome of the other.
    """
    folder = tmp_path_factory.mktemp("whole")
    write_config(folder / "config.yaml")
    with Driver(folder, "--retries", "0") as driver:
        wait_for(driver, lambda: "(Rule: train)" in driver.said(), 600)
        again = tmp_path_factory.mktemp("again")
        shutil.copy2(folder / "config.yaml", again)
        for made in ("data", RESULTS / "trials", RESULTS / "logs" / "features"):
            shutil.copytree(folder / made, again / made)
        outcome = disturb(slurm, again)
        assert driver.process.wait(600) == 0, driver.said()[-6000:]
    return (folder, driver.said(), jobs_of(slurm, folder)), (again, *outcome)


@pytest.fixture
def run(runs):
    return runs[0]


@pytest.fixture
def disturbed(runs):
    return runs[1]


def jobs_of(slurm, folder):
    """The jobs that were submitted from there: id -> record."""
    return {number: job for number, job in slurm.jobs().items() if Path(job["StdOut"]).is_relative_to(folder)}


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
    assert "(Rule: table1)" in said and "(Rule: summary)" in said


def test_each_job_ran_where_it_should(run, slurm):
    """By Slurm's records, and by what the jobs' own processes found in their environment."""
    _, _, jobs = run
    seen = slurm.seen()
    for number, job in jobs.items():
        assert job["JobState"] == "COMPLETED", job
        if job["rule"] in ON_GPU:
            assert (job["Partition"], job["TresPerJob"]) == ("gpu", "gres:gpu:1"), job
            assert seen[number] in (("gpu", "0"), ("gpu", "1")), job
        else:
            assert job["Partition"] == "cpu" and "TresPerJob" not in job, job
            assert seen[number] == ("cpu", "none"), job


def test_jobs_are_given_what_their_rules_ask_for(run):
    for job in run[2].values():
        wanted = {"train": ("2", "10:00:00"), "metrics": ("1", "08:00:00")}
        if job["rule"] in wanted:
            assert (job["NumCPUs"], job["TimeLimit"]) == wanted[job["rule"]], job
        assert "mem=" in job["TRES"], job


def test_what_is_timed_has_the_node_to_itself():
    profile = yaml.safe_load((REPOSITORY / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    exclusive = {rule for rule, given in profile["set-resources"].items() if given == {"slurm_extra": "'--exclusive'"}}
    assert exclusive == {f"benchmark_{name}" for name in BENCHMARKS}


def disturb(slurm, folder):
    """Train in two runs: in the first the job is cancelled, in the second it nears its time limit.

    Each run's (exit code, output, files left behind, step saved).
    """
    checkpoint = folder / TRAINED
    target = TRAINED / "model.safetensors"

    def outcome(driver, at):
        return driver.process.wait(300), driver.said(), sorted(path.name for path in checkpoint.iterdir()), at

    with Driver(folder, "--retries", "0", target) as driver:
        end_in_training(slurm, driver, folder, ["scancel"])
        cancelled = outcome(driver, step(checkpoint))
    with Driver(folder, target) as driver:
        end_in_training(slurm, driver, folder, ["scontrol", "update", "TimeLimit=2"])  # minutes: fewer than the warning
        return cancelled, outcome(driver, step(checkpoint))


def end_in_training(slurm, driver, folder, command):
    """Have Slurm end the job in its second epoch, in its own time, and wait until it has.

    Slurm compares jobs with their limits twice a minute: the training is held meanwhile, and let go with its SIGTERM.
    """
    log = folder / RESULTS / "logs" / "train" / "AST-05_seed1.log"
    wait_for(driver, lambda: training(folder) and "stage 2 epoch 1/1" in log.read_text())
    time.sleep(0.5)
    process = training(folder)
    os.kill(process, signal.SIGSTOP)
    (number,) = (number for number, job in jobs_of(slurm, folder).items() if job["JobState"] == "RUNNING")
    ask(*command, f"JobId={number}" if command[0] == "scontrol" else str(number))
    wait_for(driver, lambda: pending(process, signal.SIGTERM))
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)
    wait_for(driver, lambda: slurm.jobs()[number]["JobState"] not in ("RUNNING", "COMPLETING"))


def wait_for(driver, condition, limit=180):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline and driver.process.poll() is None, driver.said()[-6000:]
        time.sleep(0.1)


def training(folder):
    """Process id of this run's training, 0 while there is none; the readers of its audio are its children."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            verb = (process / "cmdline").read_bytes().split(b"\0")[1:4]
            if verb == [b"-m", b"spaarsist", b"train"] and (process / "cwd").readlink() == folder:
                found[int(process.name)] = status(process.name, "PPid")
    return next((process for process, parent in found.items() if int(parent) not in found), 0)


def status(process, field):
    return re.search(rf"^{field}:\s*(\S+)", Path("/proc", str(process), "status").read_text(), re.MULTILINE)[1]


def pending(process, number):
    """Whether that signal waits for the process, or the process is gone."""
    try:
        return int(status(process, "ShdPnd"), 16) >> (number - 1) & 1
    except OSError:
        return True


def step(checkpoint):
    """Where the saved state stands: stage, epoch, step."""
    progress = torch.load(checkpoint / "last" / "state.pt", weights_only=True)["progress"]
    return progress["stage"], progress["epoch"], progress["step"]


def test_a_cancelled_training_fails_the_run(disturbed):
    _, (code, said, left, _), _ = disturbed
    assert code == 1 and "Error in rule train" in said
    assert left == ["last"]  # no half-made checkpoint, but what resuming needs


def test_the_profile_retries_what_ran_out_of_time(disturbed, slurm):
    folder, _, (code, said, left, _) = disturbed
    assert code == 0, said[-6000:]
    assert left == ["history.tsv", "model.json", "model.safetensors"]
    states = [job["JobState"] for job in jobs_of(slurm, folder).values()]
    assert states == ["CANCELLED", "FAILED", "COMPLETED"]
    assert "stage 1 epoch" not in said, "a retry began anew"  # the log of a failed attempt is shown


def test_the_warning_before_the_time_limit_is_heeded(disturbed):
    """The training saves within its epoch, where nothing else would have it save, and ends by itself."""
    _, (*_, before), (*_, at) = disturbed
    assert (0, 1, 0) <= before < at < (1, 1, 0) and at > (1, 0, 0)


def test_the_weights_are_those_of_an_undisturbed_run(run, disturbed):
    ours, undisturbed = ((folder / TRAINED / "model.safetensors").read_bytes() for folder, *_ in (disturbed, run))
    assert ours == undisturbed
