"""The whole workflow on made-up signals, as a user would run it, in an empty folder."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]


def snakemake(folder, *arguments):
    """Run Snakemake in `folder`; returns the finished process, output merged."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder]
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


def write_config(path, **changes):
    settings = yaml.safe_load((REPOSITORY / "config" / "synthetic.yaml").read_text())
    settings["seeds"] = [1]
    settings["systems"] = {
        "k_train": [0.5],
        "k_infer": [0.5, 0.1],
        "variants": ["Base", "MagMean"],
        "in_figures": ["AST-05-05", "AST-05-01-MagMean"],
    }
    settings["training"]["epoch_size"] = 16
    for key, value in changes.items():
        place = settings
        *parents, last = key.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: (folder, its config)."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder / "config.yaml")
    result = snakemake(folder, "--configfile", config)
    assert result.returncode == 0, result.stdout[-4000:]
    return folder, config, result


def test_everything_is_made_and_announced(run):
    folder, _config, result = run
    results = folder / "results" / "synthetic"
    for path in ("tables/table1.tsv", "tables/table1.md", "tables/table1.tex", "figures/det.png", "figures/det.pdf",
                 "figures/eer_vs_macs.png", "figures/eer_vs_macs.pdf", "complexity/as_run.tsv"):  # fmt: skip
        assert (results / path).stat().st_size > 100, path
        if not path.endswith("run.tsv"):
            assert path.rsplit(".", 1)[0] in result.stdout
    assert "made-up signals; the numbers mean nothing" in result.stdout


def test_the_table(run):
    results = run[0] / "results" / "synthetic"
    table = pd.read_csv(results / "tables" / "table1.tsv", sep="\t")
    assert table["system"].tolist() == ["AST-05-05", "AST-05-05-MagMean", "AST-05-01", "AST-05-01-MagMean"]
    assert table["n_params"].tolist() == [611_784, 586_434] * 2
    assert (table["n_macs"] / 1e6).round(1).tolist() == [713.0, 698.5, 698.4, 697.8]
    for ending in ("md", "tex"):
        assert "the numbers mean nothing" in (results / "tables" / f"table1.{ending}").read_text()


def test_rerunning_does_nothing(run):
    folder, config, _ = run
    result = snakemake(folder, "--configfile", config)
    assert result.returncode == 0 and "Nothing to be done" in result.stdout


def test_one_more_variant_reruns_scoring_and_what_follows(run, tmp_path):
    folder, _, _ = run
    config = write_config(tmp_path / "more.yaml", systems__variants=["Base", "MagMean", "Uni"])
    assert set(jobs(snakemake(folder, "-n", "--configfile", config))) == {
        "all", "score", "metrics", "complexity_at_paper_size", "complexity_as_run", "table1", "figure_det",
        "figure_eer_vs_macs",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"evaluation__bootstrap": 50}, {"metrics", "table1", "figure_eer_vs_macs"}),
        ({"label": "another"}, {"table1", "figure_det", "figure_eer_vs_macs"}),
        ({"systems__in_figures": ["AST-05-05"]}, {"figure_det"}),
        ({"compute__batch_size": 8}, {"score", "metrics", "table1", "figure_det", "figure_eer_vs_macs"}),
    ],
)
def test_an_edit_reruns_only_what_it_must(run, tmp_path, change, rules):
    config = write_config(tmp_path / "c.yaml", **change)
    assert set(jobs(snakemake(run[0], "-n", "--configfile", config))) == rules | {"all"}


def test_a_retrained_detector_scores_the_same(run, tmp_path):
    """Two runs with one seed: bit-identical checkpoints and scores."""
    folder, config, _ = run
    name = "results/synthetic/scores/AST-05/seed1/in_the_wild.parquet"
    result = snakemake(tmp_path, name, "--configfile", config)
    assert result.returncode == 0, result.stdout[-4000:]
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    weights = "results/synthetic/checkpoints/AST-05/seed1/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (folder / weights).read_bytes()


def test_publish(run):
    folder, config, _ = run
    result = snakemake(folder, "publish", "--configfile", config)
    assert result.returncode == 0, result.stdout[-3000:]
    published = folder / "results" / "published" / "synthetic"
    assert {"table1.md", "det.png", "record.json", "times.tsv"} <= {p.name for p in published.iterdir()}
    assert "train\t1\t" in (published / "times.tsv").read_text()


class TestConfiguration:
    def test_default_answers_in_seconds(self, tmp_path):
        began = time.perf_counter()
        result = snakemake(tmp_path, "-n")
        assert result.returncode == 0 and time.perf_counter() - began < 30
        assert jobs(result)["train"] == 4

    def test_a_configfile_stands_alone(self, tmp_path):
        """Nothing of the default file shines through: a key that is left out is an error, not the default's value."""
        config = write_config(tmp_path / "c.yaml")
        settings = yaml.safe_load(config.read_text())
        del settings["select_on"]
        config.write_text(yaml.safe_dump(settings))
        result = snakemake(tmp_path, "-n", "--configfile", config)
        assert result.returncode == 1 and "'select_on' is a required property" in result.stdout

    def test_a_partial_configfile_is_not_laid_over_the_default(self, tmp_path):
        (tmp_path / "c.yaml").write_text("seeds: [9]\n")
        result = snakemake(tmp_path, "-n", "--configfile", tmp_path / "c.yaml")
        assert result.returncode == 1 and "is a required property" in result.stdout

    def test_a_protocol_of_the_users_is_no_output(self, tmp_path):
        """Snakemake deletes outputs before it makes them: what lies outside data.directory must not be one."""
        (tmp_path / "mine.csv").write_text("file,label\n")
        config = write_config(tmp_path / "c.yaml")
        settings = yaml.safe_load(config.read_text())
        mine = {"title": "Mine", "format": "list", "protocol": "mine.csv", "audio": ".", "expected": 0}
        settings["corpora"]["mine"] = mine
        settings["evaluate_on"].append("mine")
        config.write_text(yaml.safe_dump(settings))
        result = snakemake(tmp_path, "-n", "--configfile", config)
        assert result.returncode == 0, result.stdout[-2000:]
        made = re.search(r"rule corpora:.*?output: (.*?)\n", result.stdout, re.DOTALL)[1]
        assert "ASVspoof5.train.tsv" in made and "mine.csv" not in made

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"training__crops": 3}, "'crops' was unexpected"),
            ({"systems__variants": ["Bass"]}, "'Bass' is not one of"),
            ({"evaluate_on": ["in_the_wold"]}, "evaluate_on names in_the_wold"),
            ({"systems__in_figures": ["AST-03-03"]}, "systems.in_figures names AST-03-03"),
            ({"systems__k_infer": [0.7]}, "no k_infer at or below k_train 0.5"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, changes, message):
        result = snakemake(tmp_path, "-n", "--configfile", write_config(tmp_path / "c.yaml", **changes))
        assert result.returncode == 1
        assert message in result.stdout

    def test_missing_local_corpora(self, tmp_path):
        config = write_config(tmp_path / "c.yaml", data__source="local")
        result = snakemake(tmp_path, "-n", "--configfile", config)
        assert result.returncode == 1 and "ASVspoof5.train.tsv" in result.stdout
