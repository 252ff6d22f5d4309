"""The whole workflow on made-up signals, as a user would run it, in an empty folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from snakemake.utils import update_config

from conftest import REPOSITORY, stub_conda
from spaarsist.plan import FIGURES, TABLES, WITHOUT_CORPUS, Plan


def snakemake(folder, *arguments, checkout=REPOSITORY, path=""):
    """Run Snakemake in `folder`; returns the finished process, output merged."""
    environment = {**os.environ, "PATH": f"{path}{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", checkout / "Snakefile", "--directory", folder]
    return subprocess.run(
        [*map(str, command), "--cores", "2", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def jobs(dry_run):
    """Rule -> number of jobs, from a dry run's table."""
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", dry_run.stdout, re.MULTILINE) if rule != "total"}


def write(path, settings, changes):
    """Write a configuration with changes: training__views=4 for the key `views` within `training`."""
    for key, value in changes.items():
        place = settings
        *parents, last = key.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(yaml.safe_dump(settings))
    return path


def write_config(path, **changes):
    """A small synthetic experiment, with changes."""
    settings = yaml.safe_load((REPOSITORY / "config" / "synthetic.yaml").read_text())
    settings["seeds"] = [1]
    settings["systems"] = {
        "k_train": [0.5],
        "k_infer": [0.5, 0.1],
        "variants": ["Base", "MagMean"],
        "also": [],
        "k_sweep": [1.0],
        "in_table2": ["AST-05-05"],
        "in_figures": ["AST-05-05", "AST-05-01-MagMean", "MHFA"],
    }
    settings["backends"] = {"MHFA": {"kind": "MHFA", "options": {"n_heads": 2, "compression_dim": 4}}}
    settings["temperature"] = {
        "systems": ["AST-05-05"],
        "graph": [0.5],
        "stack": [1],
        "trained": {"k_train": 0.5, "graph": [], "stack": []},
    }
    settings["analysis"]["k_infer"] = [0.5, 0.1]
    settings["training"]["epoch_size"] = 16
    return write(path, settings, changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: (folder, its config)."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder / "config.yaml")
    profile = REPOSITORY / "workflow" / "profiles" / "default"  # as `make demo` has it
    result = snakemake(folder, "--configfile", config, "--profile", profile)
    assert result.returncode == 0, result.stdout[-4000:]
    return folder, config, result


def plan_of(config):
    return Plan(yaml.safe_load(config.read_text()))


def test_everything_is_made_and_announced(run):
    """All that the plan lists lies there; the end of the run shows its main numbers and where the rest is."""
    folder, config, result = run
    plan = plan_of(config)
    assert len(plan.tables) > 40 and len(plan.figures) > 40
    for path in plan.tables + plan.figures:
        assert (folder / path).stat().st_size > 100, path
    end = result.stdout[result.stdout.index("made-up signals; the numbers mean nothing") :]
    assert re.search(r"^AST-05-05 +611,784 +713\.0 +[0-9.]+ +[0-9.]+$", end, re.MULTILINE)
    assert "The paper's claims: " in end and "results/synthetic/tables/table1.md first" in end
    assert max(map(len, result.stdout.splitlines())) < 1000, "Snakemake's lists of files are not for people"


def test_the_ledger_judges_no_accuracy_on_made_up_signals(run):
    table = pd.read_csv(run[0] / "results" / "synthetic" / "tables" / "claims.tsv", sep="\t", dtype=str).set_index(
        "claim_id"
    )
    assert set(table.loc[[f"C{n}" for n in ("5a", "5b", "6a", "6b", "7")], "verdict"]) == {"not run"}
    assert set(table.loc[["C8", "C11"], "verdict"]) == {"not comparable"}
    assert table.loc["C3a", "verdict"] == "reproduced"
    assert table.loc["C1", "verdict"] == "reproduced under another convention"


def test_table_2(run):
    table = pd.read_csv(run[0] / "results" / "synthetic" / "tables" / "table2.tsv", sep="\t").set_index("system")
    assert [*table.index] == ["AST-05-05", "MHFA"]
    # At the paper's size: 2 x 24 layer weights, two compressions to 4, queries for 2 heads, output of 8 x 1024
    assert table.loc["MHFA", "n_params"] == 48 + 2 * (1024 * 4 + 4) + (4 * 2 + 2) + (8 * 1024 + 1024)
    assert table.loc["AST-05-05", "composite"] == 1


TRAINED_TOO = {"ablation__trained": ["Mag"], "temperature__trained": {"k_train": 0.5, "graph": [], "stack": [0.1]}}


def test_trained_on_demand(run, tmp_path):
    """What config/trained.yaml adds: one more training each, scored as that variant alone, beside the switched one."""
    dry = snakemake(run[0], "-np", "--configfile", write_config(tmp_path / "c.yaml", **TRAINED_TOO))
    expected = {"train": 2, "score": 4, "table_ablation_trained": 1, "figure_ablation": 1}
    assert (expected | {"table_temperature_trained": 1}).items() <= jobs(dry).items()
    assert re.search(r'--system AST-05\+Mag .*"variant": "Mag"', dry.stdout)
    assert "--pair AST-05+Mag-05-Mag/AST-05-05-Mag" in dry.stdout and "--variant 05-Mag " in dry.stdout
    assert "--system AST-05+stack0.1 --seed 1" in dry.stdout


@pytest.mark.parametrize("overlay", ["trained", "speed"])
def test_overlays_fit_on_every_configuration(overlay):
    """Each key of config/<overlay>.yaml is one of the configuration's, and the two together make a plan."""
    for base in ("config.yaml", "config/synthetic.yaml", "config/paper.yaml"):
        settings = yaml.safe_load((REPOSITORY / base).read_text())
        alone = Plan(yaml.safe_load((REPOSITORY / base).read_text()))
        update_config(settings, yaml.safe_load((REPOSITORY / "config" / f"{overlay}.yaml").read_text()))
        assert len(Plan(settings).tables) > len(alone.tables)


def test_speed_where_the_config_names_systems(run, tmp_path):
    rules = {f"benchmark_{name}" for name in ("backend", "training", "detector", "scoring")}
    rules |= {"table_latency", "table_detector", "figure_latency"}
    config = write_config(tmp_path / "c.yaml", speed__systems=["AST-05-05", "AST-05-01-MagMean"])
    dry = snakemake(run[0], "-n", "--configfile", config)
    assert jobs(dry) == dict.fromkeys(rules, 1) | {"all": 1}
    assert rules.isdisjoint(jobs(snakemake(run[0], "-n", "paper", "--configfile", run[1])))


def test_one_more_backend_trains_that_one_alone(run, tmp_path):
    backends = {"MHFA": {"kind": "MHFA", "options": {"n_heads": 2, "compression_dim": 4}}}
    backends["Mean-pool"] = {"kind": "MeanPool", "options": {}}
    config = write_config(tmp_path / "c.yaml", backends=backends)
    dry = snakemake(run[0], "-np", "--configfile", config)
    assert jobs(dry)["train"] == 1 and "--system Mean-pool --seed 1" in dry.stdout
    assert jobs(dry)["score"] == 3 and "table_calibration" in jobs(dry)
    assert not {"figure_k_sweep_", "figure_ablation", "figure_node_overlap", "inspect"} & {*jobs(dry)}


def test_any_pair_by_config(run, tmp_path):
    """k_inf above k_tr, on demand: the columns that the sweep has not scored, and no training."""
    config = write_config(tmp_path / "c.yaml", systems__also=[[0.5, 1.0]])
    dry = snakemake(run[0], "-np", "--configfile", config)
    assert "--system AST-05-10-MagMean" in dry.stdout and jobs(dry)["score"] == 3 and "train" not in jobs(dry)


def test_the_table(run):
    results = run[0] / "results" / "synthetic"
    table = pd.read_csv(results / "tables" / "table1.tsv", sep="\t")
    assert table["system"].tolist() == ["AST-05-05", "AST-05-05-MagMean", "AST-05-01", "AST-05-01-MagMean"]
    assert table["n_params"].tolist() == [611_784, 586_434] * 2
    assert (table["n_macs"] / 1e6).round(1).tolist() == [713.0, 698.5, 698.4, 697.8]
    for ending in ("md", "tex"):
        assert "the numbers mean nothing" in (results / "tables" / f"table1.{ending}").read_text()


CACHED = {"training__views": 10, "features__development": True}


def paper(path, **changes):
    """The paper's configuration, with changes."""
    settings = yaml.safe_load((REPOSITORY / "config" / "paper.yaml").read_text())
    return write(path, settings, changes)


def test_the_paper_s_run(tmp_path):
    """From nothing: what is fetched, indexed, trained; from this file alone; nothing on disk is an output; no cache."""
    dry = snakemake(tmp_path, "-np", "--configfile", REPOSITORY / "config" / "paper.yaml")
    expected = {"fetch": 4, "index": 19, "trials": 4, "train": 24, "score": 72, "calibrate": 24, "inspect": 18}
    assert expected.items() <= jobs(dry).items(), dry.stdout[-3000:]
    assert {"features", "dev_features", "features_space"}.isdisjoint(jobs(dry)) and "-features" not in dry.stdout
    assert '"paper_corpora": true' in dry.stdout and not re.search(r"\bmini\b", dry.stdout)
    summary = snakemake(tmp_path, "--summary", "--configfile", REPOSITORY / "config" / "paper.yaml").stdout
    outputs = re.findall(r"^(\S+)\t-\t", summary, re.MULTILINE)
    assert len(outputs) > 300 and all(path.startswith("results/paper/") for path in outputs)


def test_views_that_do_not_suffice_are_labelled(tmp_path):
    config = paper(tmp_path / "c.yaml", **CACHED | {"training__views": 4})
    dry = snakemake(tmp_path, "-np", "--configfile", config)
    assert jobs(dry)["features"] == 32
    remarks = re.findall(r'"label": "(.*?)"', dry.stdout)
    assert len(remarks) > 10 and set(remarks) == {
        "stage 1: 4 cached views of the training data in 10 epochs; front-end in bfloat16"
    }


def test_the_cache_is_an_option(tmp_path):
    """As config/paper.yaml's comment says: 10 views, and the development excerpts."""
    dry = snakemake(tmp_path, "-np", "--configfile", paper(tmp_path / "c.yaml", **CACHED))
    assert {"features": 80, "dev_features": 8, "features_space": 1, "train": 24}.items() <= jobs(dry).items()
    assert "--train-features data/features/paper/asvspoof5_train" in dry.stdout
    assert "--dev-features data/features/paper/asvspoof5_dev/excerpts" in dry.stdout


def test_the_released_recipe(tmp_path):
    """The command in the head of config/released.yaml: trained and scored by 32, results in a folder of their own."""
    configs = [REPOSITORY / "config" / name for name in ("paper.yaml", "released.yaml")]
    dry = snakemake(tmp_path, "-np", "--configfile", *configs)
    commands = {
        verb: [line for line in dry.stdout.splitlines() if f"spaarsist {verb} --" in line]
        for verb in ("train", "score")
    }
    assert (len(commands["train"]), len(commands["score"])) == (24, 72) and "-features" not in dry.stdout
    assert all("--batch-size 32 " in line and "--output results/released/" in line for line in commands["score"])
    for said in ('"normalise": "batch"', '"development_crop": "random"', '"crop_last": true', '"deterministic": false'):
        assert all(said in line for line in commands["train"])


def test_one_more_view_makes_that_one_alone(tmp_path):
    """What a view's frames do not depend on (number of views, epochs, rates) is not among its parameters."""
    commands = []
    for views in (9, 10):
        config = paper(tmp_path / "c.yaml", **CACHED | {"training__views": views})
        dry = snakemake(tmp_path, "-np", "--configfile", config)
        commands.append({line for line in dry.stdout.splitlines() if "spaarsist features --" in line})
    assert len(commands[1] - commands[0]) == 8 and commands[0] < commands[1]


def test_extracted_folders_and_offline(tmp_path):
    """No archive, no index; what is not fetched must be there."""
    config = paper(tmp_path / "c.yaml", corpora__in_the_wild__audio=["wild"], data__offline=True)
    dry = snakemake(tmp_path, "-np", "--configfile", config)
    assert jobs(dry)["index"] == 18 and "--audio wild" in dry.stdout and "fetch" in jobs(dry)
    assert dry.stdout.count("--offline") == 4
    releases = yaml.safe_load((REPOSITORY / "config" / "paper.yaml").read_text())["downloads"]
    del releases["in_the_wild"]
    config = paper(tmp_path / "c.yaml", downloads=releases)
    dry = snakemake(tmp_path, "-np", "--configfile", config)
    assert dry.returncode == 1
    assert "{in_the_wild}/release_in_the_wild.zip" in dry.stdout and "names a release that is not" in dry.stdout


def test_releases_elsewhere(tmp_path):
    """One folder moved moves all that lies in it; a name that is no release is an error."""
    config = paper(tmp_path / "c.yaml", downloads__asvspoof5__folder="/big/five", downloads__xls_r__folder="/big/xls")
    dry = snakemake(tmp_path, "-np", "--configfile", config)
    assert "--archive /big/five/flac_T_aa.tar" in dry.stdout and "data/asvspoof5/flac" not in dry.stdout
    commands = [line for line in dry.stdout.splitlines() if "spaarsist train " in line]
    assert len(commands) == 24 and all('"model": "/big/xls"' in line for line in commands)
    config = paper(tmp_path / "c.yaml", training__frontend__model="{wavlm}")
    dry = snakemake(tmp_path, "-n", "--configfile", config)
    assert dry.returncode == 1 and "{wavlm} names a release that is not among downloads" in dry.stdout


def test_one_machine_with_one_gpu(tmp_path):
    """The README's command: the profile is there and lets one GPU job run at a time."""
    profile = REPOSITORY / "workflow" / "profiles" / "default"
    config = REPOSITORY / "config" / "paper.yaml"
    dry = snakemake(tmp_path, "-n", "--configfile", config, "--profile", profile)
    assert dry.returncode == 0 and f"Using profile {profile}" in dry.stdout
    assert yaml.safe_load((profile / "config.yaml").read_text())["resources"] == ["gpu=1"]


def test_what_the_readme_calls_cheap(tmp_path):
    """A file of changes after the configuration; what it does not name stays, and config.yaml stays out."""
    changes = {"seeds": [1], "systems": {"in_figures": ["AST-05-05", "AST-03-01-Mag"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(changes))
    dry = snakemake(tmp_path, "-n", "--configfile", REPOSITORY / "config" / "paper.yaml", tmp_path / "mine.yaml")
    assert jobs(dry)["train"] == 8 and jobs(dry)["fetch"] == 4
    config = paper(tmp_path / "c.yaml", backends={}, **{"seeds": [1], "systems__in_figures": ["AST-05-05"]})
    assert jobs(snakemake(tmp_path, "-n", "--configfile", config))["train"] == 3


def test_rerunning_does_nothing(run):
    folder, config, _ = run
    result = snakemake(folder, "--configfile", config)
    assert result.returncode == 0 and "Nothing to be done" in result.stdout


# What may cause what to be made again: a test for each row of the table


def rerun(run, *arguments, config=None, **options):
    """Rules that a dry run of the finished run would run; the folder may be another than the run's."""
    dry = snakemake(run[0], "-n", "--configfile", config or run[1], *arguments, **options)
    assert dry.returncode == 0, dry.stdout[-4000:]
    assert bool(jobs(dry)) != ("Nothing to be done" in dry.stdout), dry.stdout[-4000:]
    return jobs(dry)


def checkout(folder, edit=None):
    """A copy of this checkout elsewhere, its files as new as can be; `edit(path, text)` changes the package's."""
    for name in ("Snakefile", "config.yaml", "environment.yml"):
        shutil.copyfile(REPOSITORY / name, folder / name)
    for name in ("workflow", "src", "paper"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / name, copy_function=shutil.copyfile, ignore=ignored)
    for path in (folder / "src").rglob("*.py") if edit else ():
        path.write_text(edit(path.relative_to(folder / "src" / "spaarsist").as_posix(), path.read_text()))
    return folder


def replacing(name, old, new):
    """An edit of one module."""

    def edit(path, text):
        assert path != name or old in text
        return text.replace(old, new) if path == name else text

    return edit


@pytest.mark.parametrize(
    "changes",
    [
        {"compute__workers": 3, "compute__batch_size": 5, "compute__gpu": 2, "compute__device": "cuda"},
        {"compute__train_threads": 2, "compute__score_threads": 2},
    ],
)
def test_how_jobs_run_makes_nothing_again(run, tmp_path, changes):
    assert not rerun(run, config=write_config(tmp_path / "c.yaml", **changes))


def test_conda_and_limits_make_nothing_again(run, tmp_path):
    stub_conda(tmp_path)
    arguments = ("--use-conda", "--set-resources", "train:mem_mb=1", "train:runtime=1")
    assert not rerun(run, *arguments, path=f"{tmp_path}/bin:")


def test_checkout_and_results_may_move(run, tmp_path):
    """Both at once, the checkout's files newer than every result: as after a fresh clone beside kept results."""
    shutil.copytree(run[0], tmp_path / "results elsewhere")
    moved = (tmp_path / "results elsewhere", tmp_path / "results elsewhere" / "config.yaml")
    (tmp_path / "checkout").mkdir()
    assert not rerun(moved, checkout=checkout(tmp_path / "checkout"))


def test_comments_and_formatting_make_nothing_again(run, tmp_path):
    def edit(path, text):
        first, *lines = text.split("\n")
        text = "\n".join([first.replace('"""', '"""Said otherwise. ', 1), "# a comment", *lines, "", "# another", ""])
        return re.sub(r"^def (.*):$", r"def \1:  # here too\n", text, flags=re.MULTILINE)

    assert not rerun(run, checkout=checkout(tmp_path, edit))


def test_corpora_may_move(run, tmp_path):
    """To another disk: trial lists, which name places, and nothing behind them; then nothing at all."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    (tmp_path / "disk").mkdir()
    (folder / "data" / "synthetic").rename(tmp_path / "disk" / "synthetic")
    config = tmp_path / "c.yaml"
    config.write_text(run[1].read_text().replace("data/synthetic", str(tmp_path / "disk" / "synthetic")))
    assert rerun((folder, config)) == {"trials": 4}
    result = snakemake(folder, "--configfile", config)
    assert result.returncode == 0, result.stdout[-4000:]
    assert str(tmp_path / "disk") in (folder / "results/synthetic/trials/in_the_wild.tsv").read_text()
    assert not rerun((folder, config))


def test_a_corrected_label_makes_its_scores_again(run, tmp_path):
    """The first run remakes the list and says that scores are older than it; the next one makes them again."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    protocol = folder / "data/synthetic/in_the_wild/release_in_the_wild/meta.csv"
    protocol.write_text(protocol.read_text().replace("bona-fide", "spoof", 1))
    result = snakemake(folder, "--configfile", run[1])
    assert result.returncode == 0, result.stdout[-4000:]
    assert "in_the_wild: its trial list has changed since it was scored; run the same command again" in result.stdout
    again = rerun((folder, run[1]))
    assert (again["score"], again["metrics"], again["table1"]) == (2, 2, 1) and "train" not in again


def test_a_list_that_could_not_be_made_anew_costs_nothing(run, tmp_path):
    """The old one stays, and once the protocol is whole again no training and no score is made anew."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    protocol = folder / "data/synthetic/in_the_wild/release_in_the_wild/meta.csv"
    whole, made = protocol.read_text(), (folder / "results/synthetic/trials/in_the_wild.tsv").read_bytes()
    protocol.write_text(whole.replace("bona-fide", "bona fide?", 1))
    assert snakemake(folder, "--configfile", run[1]).returncode != 0
    assert (folder / "results/synthetic/trials/in_the_wild.tsv").read_bytes() == made
    protocol.write_text(whole)
    assert not {*rerun((folder, run[1]))} & {"train", "score", "metrics"}


def test_one_more_variant_reruns_scoring_and_what_follows(run, tmp_path):
    again = rerun(run, config=write_config(tmp_path / "more.yaml", systems__variants=["Base", "MagMean", "Uni"]))
    assert {"score", "metrics", "complexity_paper_size", "summary", "table1", "table_claims"} < {*again}
    assert not {*again} & {"corpora", "trials", "train", "figure_training"}


def test_reporting_code_makes_again_what_it_draws(run, tmp_path):
    edit = replacing("reporting/figures/training.py", "epoch", "round")
    assert {*rerun(run, checkout=checkout(tmp_path, edit))} == {"figure_training", "all"}


def test_code_that_decides_scores_deletes_nothing(run, tmp_path):
    """The code that trained is another than today's: nothing is trained or scored anew; the end of the run names it."""
    edit = replacing("models/backend.py", "output: float = 0.5", "output: float = 0.55")
    again = rerun(run, checkout=checkout(tmp_path, edit))
    assert not {*again} & {"corpora", "trials", "train", "score", "metrics", "calibrate"}
    spaarsist = [sys.executable, "-m", "spaarsist", "show", run[0] / "results" / "synthetic"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    said = subprocess.check_output([*map(str, spaarsist)], env=environment, text=True)
    assert "made by another state of the code than this one: AST-05/seed1." in said, "MHFA's is the same"


def test_a_training_is_never_replaced_unasked(run, tmp_path):
    """Another recipe in the same experiment: the training is refused and named, and what lies there stays."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    trained = folder / "results/synthetic/checkpoints/AST-05/seed1"
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    config = write_config(tmp_path / "c.yaml", training__crop=12_345)
    target = trained.relative_to(folder) / "model.safetensors"
    result = snakemake(folder, target, "--retries", "2", "--configfile", config)
    assert "Trying to restart" not in result.stdout, "it would be refused again"
    assert result.returncode == 1 and "crop" in (folder / "results/synthetic/logs/train/AST-05_seed1.log").read_text()
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    forced = snakemake(folder, "--forcerun", "train", "--until", "train", "--configfile", run[1])
    assert forced.returncode == 0, forced.stdout[-3000:]
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_what_was_not_refused_is_tried_again(run, tmp_path):
    """A job that died by itself: here, of a Python that cannot start."""
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/false")
    arguments = ("--forcerun", "table1", "--until", "table1", "--retries", "2", "--configfile", run[1])
    result = snakemake(folder, *arguments, path=f"{tmp_path}/bin:")
    assert result.returncode == 1 and result.stdout.count("Trying to restart") == 2


WITHOUT = {
    "latency",
    "detector",
    "temperature_trained",
    "ablation_trained",
    "planted",
    "edges",
}  # this config asks for none of them
ALL_TABLES = {name if name in ("table1", "table2") else f"table_{name}" for name in {*TABLES} - WITHOUT}
LABELLED = ALL_TABLES | {f"figure_{name}" for name in {*FIGURES} - WITHOUT - {*WITHOUT_CORPUS}}
FOOTERS = ALL_TABLES | {"provenance"}  # which name the configuration: any edit makes them anew, in seconds
QUESTION = {"asks": "So?", "system": "AST-05-01", "reference": "AST-05-05", "metric": "min_dcf", "margin": 0.1}
FROM_METRICS = {"composite", "comparisons", *(
    result.rule for result in Plan(yaml.safe_load((REPOSITORY / "config" / "synthetic.yaml").read_text())).made
    if result.kind == "figure" and {"summary", "comparisons", "composite"} & {*result.arguments}
)}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (
            {"evaluation__bootstrap": 50},
            {"metrics", "summary", "equivalence", "changes", "figure_attacks"} | FROM_METRICS,
        ),
        ({"label": "another"}, LABELLED),
        (
            {"systems__in_figures": ["AST-05-05", "MHFA"]},
            {f"figure_{n}" for n in ("det", "histograms", "attacks", "calibration")},
        ),
        ({"evaluation__composite__compute": 0}, {"composite", "figure_composite"}),
        ({"questions": [QUESTION]}, {"equivalence"}),
        (
            {"analysis__stack_temperature": [1, 3]},
            {"inspect", "findings", "figure_node_overlap", "figure_kept_nodes", "figure_stack_attention"},
        ),
    ],
)
def test_an_edit_reruns_only_what_it_must(run, tmp_path, change, rules):
    config = write_config(tmp_path / "c.yaml", **change)
    footers = set() if "label" in change else FOOTERS
    assert {*rerun(run, config=config)} == rules | footers | {"all"}


def test_the_same_commit_config_and_seed_give_the_same_tables(run, tmp_path):
    """Another run from nothing: checkpoints and scores equal to the bit, and every number of every table."""
    folder, config, _ = run
    result = snakemake(tmp_path, "tables", "--configfile", config)
    assert result.returncode == 0, result.stdout[-4000:]
    again, first = tmp_path / "results" / "synthetic", folder / "results" / "synthetic"
    for kind in ("checkpoints/*/*/model.safetensors", "scores/*/*/*.parquet", "replicates/*/*/*.parquet"):
        files = sorted(path.relative_to(again) for path in again.glob(kind))
        assert len(files) >= 2, kind
        for file in files:
            assert (again / file).read_bytes() == (first / file).read_bytes(), file
    tables = [
        path for place in ("tables", "calibration", "analysis", "metrics") for path in (again / place).rglob("*.tsv")
    ]
    assert len(tables) > 20
    for path in tables:
        assert path.read_bytes() == (first / path.relative_to(again)).read_bytes(), path
    for name in {*TABLES} - WITHOUT:
        for form in ("md", "tex", "html"):
            texts = [(place / "tables" / f"{name}.{form}").read_text() for place in (again, first)]
            texts = [re.sub(r"made 20[0-9-]+", "", text) for text in texts]
            assert texts[0] == texts[1], f"{name}.{form}"


def test_every_table_says_what_made_it(run):
    """In its footer: code of scores and table, configuration, seeds, corpora, versions, date, machine."""
    results = run[0] / "results" / "synthetic"
    made = json.loads((results / "tables" / "provenance.json").read_text())
    assert made["seeds"] == [1]
    for name in {*TABLES} - WITHOUT:
        for form in ("md", "tex", "html"):
            text = (results / "tables" / f"{name}.{form}").read_text().replace("\\_", "_")
            for part in (made["config_hash"], "asvspoof5_eval", "in_the_wild", "torch 2.11.0", "cores"):
                assert part in text, f"{name}.{form}: {part}"
            assert re.search(r"made 20\d\d-\d\d-\d\d", text), f"{name}.{form}"


def test_publish(run):
    folder, config, _ = run
    result = snakemake(folder, "publish", "--configfile", config)
    assert result.returncode == 0, result.stdout[-3000:]
    published = folder / "results" / "published" / "synthetic"
    made = {p.relative_to(published).as_posix() for p in published.rglob("[!.]*.*")}
    plan = plan_of(config)
    wanted = {path.removeprefix("results/synthetic/") for path in plan.tables + plan.figures}
    assert wanted | {"record.json", "times.tsv"} == made
    assert "train\t2\t" in (published / "times.tsv").read_text()
    made_by = json.loads((published / "record.json").read_text())["made_by"]
    assert made_by["figures/det.png"] == "src/spaarsist/reporting/figures/scores.py"
    assert all((REPOSITORY / source).exists() for source in made_by.values())


class TestConfiguration:
    def test_default_answers_in_seconds(self, tmp_path):
        began = time.perf_counter()
        result = snakemake(tmp_path, "-n")
        assert result.returncode == 0 and time.perf_counter() - began < 30
        assert jobs(result)["train"] == 5

    def test_a_configfile_stands_alone(self, tmp_path):
        """Nothing of the default file shines through: a key that is left out is an error, not the default's value."""
        config = write_config(tmp_path / "c.yaml")
        settings = yaml.safe_load(config.read_text())
        del settings["select_on"]
        config.write_text(yaml.safe_dump(settings))
        result = snakemake(tmp_path, "-n", "--configfile", config)
        assert result.returncode == 1 and "config: select_on: missing" in result.stdout

    def test_a_partial_configfile_is_not_laid_over_the_default(self, tmp_path):
        (tmp_path / "c.yaml").write_text("seeds: [9]\n")
        result = snakemake(tmp_path, "-n", "--configfile", tmp_path / "c.yaml")
        assert result.returncode == 1 and "config: experiment: missing" in result.stdout

    def test_mistakes_are_named(self, tmp_path):
        """In one line; which mistakes there are is tested without Snakemake, in test_plan.py."""
        for changes, message in (
            ({"training__crops": 3}, "spaarsist: config: training.crops: no such key; did you mean crop?"),
            ({"evaluate_on": ["in_the_wold"]}, "spaarsist: config: evaluate_on names in_the_wold, which"),
        ):
            result = snakemake(tmp_path, "-n", "--configfile", write_config(tmp_path / "c.yaml", **changes))
            assert result.returncode == 1 and result.stdout.startswith(message) and result.stdout.count("\n") == 1

    def test_a_key_that_is_given_twice(self, tmp_path):
        """Snakemake alone would take the last."""
        config = write_config(tmp_path / "c.yaml")
        config.write_text(config.read_text() + "seeds: [7]\n")
        result = snakemake(tmp_path, "-n", "--configfile", config)
        assert result.returncode == 1 and result.stdout.count("\n") == 1
        assert "column 1: seeds is given twice; keep one" in result.stdout

    def test_missing_local_corpora(self, tmp_path):
        config = write_config(tmp_path / "c.yaml", data__source="local")
        result = snakemake(tmp_path, "-n", "--configfile", config)
        assert result.returncode == 1 and "ASVspoof5.train.tsv" in result.stdout
