"""The full replication in miniature: `config/paper.yaml` from nothing to the paper's tables, against a fake hub.

Only addresses, checksums, sizes, the experiment's name and its label are overridden.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import release
import yaml
from hub import Hub
from snakemake.utils import update_config

from spaarsist.plan import Plan

REPOSITORY = Path(__file__).parents[2]
PAPER = yaml.safe_load((REPOSITORY / "config" / "paper.yaml").read_text())
LABEL = "rehearsal on made-up signals; the numbers mean nothing"
SIZES = {
    "experiment": "rehearsal",
    "label": LABEL,
    "paper_corpora": False,
    "seeds": [1],
    "training": {
        "backend": {"embedding_dim": 16},
        "crop": 16_000,
        "epoch_size": 16,
        "stages": [
            stage | {"epochs": epochs, "batch_size": 8}
            for stage, epochs in zip(PAPER["training"]["stages"], (2, 1), strict=True)
        ],
        "views": 1,
    },
    "features": {"development": True, "parts": 2},
    "evaluation": {"bootstrap": 50},
    "compute": {"device": "cpu", "workers": 0, "batch_size": 16, "gpu": 0},
}
PROTOCOLS = {
    "asvspoof5_train": "ASVspoof5.train.tsv",
    "asvspoof5_dev": "ASVspoof5.dev.track_1.tsv",
    "asvspoof5_eval": "ASVspoof5.eval.track_1.tsv",
    "in_the_wild": "meta.csv",
}
FAULTS = {
    f"{release.ZENODO}/flac_T_ab.tar": ["cut"],
    f"{release.ZENODO}/flac_D_aa.tar": ["corrupt"],
    f"{release.ZENODO}/flac_E_ac.tar": ["html"],
    f"{release.ZENODO}/flac_E_ad.tar": ["503"],
    f"{release.ZENODO}/ASVspoof5_protocols.tar.gz": ["html", "corrupt"],
    f"{release.WILD_MIRROR}/download": ["cut"],
    f"{release.XLS_R}/config.json": ["html"],
    f"{release.XLS_R}/pytorch_model.bin": ["cut"],
}
DEAD = f"{release.WILD}/release_in_the_wild.zip"


def snakemake(folder, *arguments, overlays=()):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", folder]
    configs = ["--configfile", REPOSITORY / "config" / "paper.yaml", *overlays, folder / "overrides.yaml"]
    return subprocess.run(
        [*map(str, [*command, "--cores", 2, *arguments, *configs])],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class Run:
    """A finished rehearsal: its folder, the releases' site, the hub's books, what Snakemake said."""

    def __init__(self, folder: Path, site: Path, hub: Hub) -> None:
        self.folder, self.site, self.hub = folder, site, hub
        self.results = folder / "results" / "rehearsal"
        overrides = SIZES | release.overrides(PAPER, site, hub.url)
        (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        self.config = deepcopy(PAPER)
        update_config(self.config, overrides)
        self.first = snakemake(folder)
        self.second = snakemake(folder)

    def receipt(self, name: str) -> dict:
        return json.loads((self.results / "downloads" / f"{name}.json").read_text())["files"]

    def trials(self, corpus: str) -> pd.DataFrame:
        return pd.read_csv(self.results / "trials" / f"{corpus}.tsv", sep="\t", dtype=str, keep_default_na=False)

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.results / "tables" / f"{name}.tsv", sep="\t", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("run")
    release.build(site)
    with Hub(site) as hub:
        hub.faults.update({path: [*faults] for path, faults in FAULTS.items()} | {DEAD: ["404"] * 100})
        run = Run(folder, site, hub)
    assert run.first.returncode == 0, run.first.stdout[-6000:]
    return run


def test_everything_is_made_and_labelled(run):
    plan = Plan(run.config)
    assert len(plan.tables) > 40 and len(plan.figures) > 40
    for path in plan.tables + plan.figures:
        assert (run.folder / path).stat().st_size > 100, path
    for path in [path for path in plan.tables if path.endswith((".md", ".tex", ".html"))]:
        text = (run.folder / path).read_text()
        assert LABEL in text, path
        assert "1 cached views of the training data in 2 epochs" in text, path


def test_the_paper_s_systems(run):
    systems = PAPER["systems"]
    pairs = [(t, i) for t in systems["k_train"] for i in systems["k_infer"] if i <= t]
    assert len(run.table("table1")) == len(pairs) * len(systems["variants"])
    assert [*run.table("table2")["system"]] == systems["in_table2"] + [*PAPER["backends"]]


def test_no_claim_on_accuracy_is_judged(run):
    verdicts = run.table("claims").set_index("claim_id")["verdict"]
    assert set(verdicts[["C5a", "C5b", "C6a", "C6b", "C7"]]) == {"not run"}
    assert set(verdicts[["C8", "C11"]]) == {"not comparable"}
    # Counts are the same whatever the corpora
    assert verdicts["C3a"] == "reproduced" and verdicts["C1"] == "reproduced under another convention"


class TestFetch:
    def test_every_fault_was_met(self, run):
        assert not any(faults for path, faults in run.hub.faults.items() if path != DEAD)

    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("asvspoof5", "flac_T_ab.tar"),
            ("in_the_wild", "release_in_the_wild.zip"),
            ("xls_r", "pytorch_model.bin"),
        ],
    )
    def test_a_cut_connection_is_resumed(self, run, name, file):
        """The second half alone is asked for, wherever it is to be had."""
        size = (run.folder / PAPER["downloads"][name]["folder"] / file).stat().st_size
        last = "download" if name == "in_the_wild" else file
        ranges = [asked for path, asked in run.hub.requests if path.endswith(last) and asked]
        starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges]
        assert len(starts) == 1 and 0 < starts[0] <= size // 2

    def test_receipts(self, run):
        for name, published in PAPER["downloads"].items():
            files = run.receipt(name)
            assert files.keys() == published["files"].keys()
            for file, entry in files.items():
                assert entry["origin"].startswith(run.hub.url)
                assert entry["published"] == bool(published["files"][file])
                expected = release.overrides(PAPER, run.site, run.hub.url)["downloads"][name]["files"][file]
                assert entry["checksum"] == expected or (not expected and entry["checksum"].startswith("sha256:"))

    def test_a_dead_address_gives_way_to_the_mirror(self, run):
        assert run.receipt("in_the_wild")["release_in_the_wild.zip"]["origin"].endswith("/download")

    def test_the_files_are_the_published_ones(self, run):
        for file in (run.site / release.ZENODO).iterdir():
            assert (run.folder / "data" / "asvspoof5" / file.name).read_bytes() == file.read_bytes()

    def test_nothing_is_unpacked_or_left_over(self, run):
        snakemakes_own = (".snakemake", ".snakemake_timestamp")  # the latter in every output that is a folder
        files = [path for path in run.folder.rglob("*") if not {*path.parts} & {*snakemakes_own}]
        assert not [path for path in files if path.suffix in (".flac", ".wav", ".part") or path.name.startswith(".")]


class TestTrialLists:
    @pytest.mark.parametrize("corpus", PROTOCOLS)
    def test_the_protocol_s_rows_in_its_order(self, run, corpus):
        rows, trials = release.rows(run.site, PROTOCOLS[corpus]), run.trials(corpus)
        assert len(rows) >= 24
        if corpus == "in_the_wild":
            expected = [(file, "-", "-", speaker, label.replace("-", "")) for file, speaker, label in rows]
        else:
            expected = [(r[1], r[7].replace("bonafide", "-"), r[3], r[0], r[8]) for r in rows]
        columns = trials[["trial_id", "attack_id", "codec", "speaker_id", "label"]]
        assert [*columns.itertuples(index=False, name=None)] == expected

    @pytest.mark.parametrize("corpus", PROTOCOLS)
    def test_paths_point_into_archives(self, run, corpus):
        archives = {Path(path).name for path in PAPER["corpora"][corpus]["audio"]}
        found = [
            re.fullmatch(r"(?:.*/)?([^/]+)::(.*/)?([^/@]+)(@\d+\+\d+)?", path) for path in run.trials(corpus)["path"]
        ]
        assert {match[1] for match in found} == archives
        assert [match[3].removesuffix(".flac") for match in found] == [*run.trials(corpus)["trial_id"]]

    def test_every_attack_and_some_codecs(self, run):
        for corpus, attacks in (
            ("asvspoof5_train", range(1, 9)),
            ("asvspoof5_dev", range(9, 17)),
            ("asvspoof5_eval", range(17, 33)),
        ):
            assert {*run.trials(corpus)["attack_id"]} == {"-", *(f"A{number:02d}" for number in attacks)}
        assert {*run.trials("asvspoof5_eval")["codec"]} == {"-", "C05", "C11"}

    def test_enrolment_files_are_there_and_ignored(self, run):
        for letter, corpus in (("D", "asvspoof5_dev"), ("E", "asvspoof5_eval")):
            indices = (run.results / "index").glob(f"flac_{letter}_*.tsv")
            n_files = sum(len(pd.read_csv(path, sep="\t")) for path in indices)
            assert n_files == len(run.trials(corpus)) + 2

    def test_lengths_are_at_16_khz(self, run):
        """The clip at another rate is as long as the others once it is resampled."""
        lengths = run.trials("in_the_wild").set_index("trial_id")["n_samples"].astype(int)
        assert lengths.between(12_000, 40_000).all()


TRAININGS = ["AST-05", "AST-03", "AST-01", *PAPER["backends"]]


class TestRuns:
    def test_the_cache_serves_stage_1(self, run):
        features = run.folder / "data" / "features" / "rehearsal"
        parts = {path.relative_to(features).as_posix() for path in features.rglob("*.npy")}
        assert parts == {
            f"{where}/part{k}.npy" for where in ("asvspoof5_train/view0", "asvspoof5_dev/excerpts") for k in (0, 1)
        }
        frames = [np.load(features / f"asvspoof5_train/view0/part{k}.npy") for k in (0, 1)]
        assert [f.shape for f in frames] == [(8, 49, 16)] * 2 and frames[0].dtype == np.float16
        for trained in TRAININGS:
            record = json.loads((run.results / "checkpoints" / trained / "seed1" / "model.json").read_text())
            last_layer = trained.startswith("AST-") or trained in ("AASIST-L", "Mean-pool")
            assert record["cached"] == {"train": last_layer, "dev": last_layer}

    @pytest.mark.parametrize("trained", TRAININGS)
    def test_both_stages_ran(self, run, trained):
        history = pd.read_csv(run.results / "checkpoints" / trained / "seed1" / "history.tsv", sep="\t")
        assert [*zip(history["stage"], history["epoch"], strict=True)] == [(1, 1), (1, 2), (2, 1)]

    @pytest.mark.parametrize("trained", TRAININGS)
    @pytest.mark.parametrize("corpus", PAPER["evaluate_on"])
    def test_every_trial_is_scored_once(self, run, trained, corpus):
        scores = pd.read_parquet(run.results / "scores" / trained / "seed1" / f"{corpus}.parquet")
        assert [*scores["trial_id"]] == [*run.trials(corpus)["trial_id"]]
        assert np.isfinite(scores.drop(columns="trial_id").to_numpy()).all()


def test_a_second_run_does_nothing(run):
    assert run.second.returncode == 0 and "Nothing to be done" in run.second.stdout


def rules(output):
    return {*re.findall(r"^(\w+) +\d+$", output, re.MULTILINE)} - {"total"}


def test_without_network(run, tmp_path):
    """Once the data are there, results can be made again with no hub in reach; what was made from them stays."""
    for name in ("data", "results", ".snakemake"):  # the last is Snakemake's record of what was made how
        shutil.copytree(run.folder / name, tmp_path / name)
    settings = yaml.safe_load((run.folder / "overrides.yaml").read_text()) | {"data": {"offline": True}}
    (tmp_path / "overrides.yaml").write_text(yaml.safe_dump(settings))
    assert rules(snakemake(tmp_path, "-n").stdout) <= {"fetch", "all"}  # which verifies
    results, wild = tmp_path / "results" / "rehearsal", "scores/AST-05/seed1/in_the_wild.parquet"
    for lost in ("downloads/in_the_wild.json", "index/release_in_the_wild.zip.tsv", "trials/in_the_wild.tsv", wild):
        (results / lost).unlink()
    again = snakemake(tmp_path, f"results/rehearsal/{wild}")
    assert again.returncode == 0, again.stdout[-4000:]
    assert rules(again.stdout) == {"fetch", "index", "trials", "score"}
    assert (results / wild).read_bytes() == (run.results / wild).read_bytes()
    assert json.loads((results / "downloads" / "in_the_wild.json").read_text())["files"] == {
        file: entry | {"origin": "already there"} for file, entry in run.receipt("in_the_wild").items()
    }


RELEASED = REPOSITORY / "config" / "released.yaml"


@pytest.fixture(scope="module")
def released(run, tmp_path_factory):
    """The released code's recipe, with the rehearsal's data."""
    folder = tmp_path_factory.mktemp("released")
    shutil.copytree(run.folder / "data", folder / "data", ignore=shutil.ignore_patterns("features"))
    settings = yaml.safe_load((run.folder / "overrides.yaml").read_text())
    del settings["experiment"], settings["training"]["views"], settings["features"]["development"]
    (folder / "overrides.yaml").write_text(yaml.safe_dump(settings | {"data": {"offline": True}}))
    targets = ("scores", "results/released/tables/table2.md")
    made = snakemake(folder, *targets, overlays=[RELEASED])
    assert made.returncode == 0, made.stdout[-6000:]
    return folder / "results" / "released"


class TestReleased:
    @pytest.mark.parametrize("trained", TRAININGS)
    def test_every_switch_reaches_the_training(self, released, trained):
        record = json.loads((released / "checkpoints" / trained / "seed1" / "model.json").read_text())
        recipe, switches = record["recipe"], yaml.safe_load(RELEASED.read_text())["training"]
        for key in ("development_crop", "keep_better_stage", "deterministic", "views", "gradient_checkpointing"):
            assert recipe[key] == switches[key], key
        assert {key: recipe["augmentation"][key] for key in switches["augmentation"]} == switches["augmentation"]
        assert record["cached"] == {"train": False, "dev": False}
        history = pd.read_csv(released / "checkpoints" / trained / "seed1" / "history.tsv", sep="\t")
        assert [*zip(history["stage"], history["epoch"], strict=True)] == [(1, 1), (1, 2), (2, 1)]

    @pytest.mark.parametrize("trained", TRAININGS)
    @pytest.mark.parametrize("corpus", PAPER["evaluate_on"])
    def test_every_trial_is_scored_once(self, run, released, trained, corpus):
        scores = pd.read_parquet(released / "scores" / trained / "seed1" / f"{corpus}.parquet")
        assert [*scores["trial_id"]] == [*run.trials(corpus)["trial_id"]]
        assert np.isfinite(scores.drop(columns="trial_id").to_numpy()).all()

    def test_its_tables_say_that_it_may_not_repeat(self, released):
        assert "trained without deterministic algorithms" in (released / "tables" / "table2.md").read_text()

    def test_nothing_is_cached(self, released):
        assert not [*(released.parents[1] / "data").rglob("*.npy")]


def test_preflight(run):
    """On the corpora as they lie: every back-end's step and batch, and a forecast of the whole config."""
    made = snakemake(run.folder, "preflight")
    assert made.returncode == 0, made.stdout[-6000:]
    report = pd.read_csv(run.results / "preflight.tsv", sep="\t", dtype=str, keep_default_na=False)
    values = report.set_index("quantity")["value"]
    rates = {what: float(values[f"read: {what}"]) for what in ("training draws", "excerpts")}
    assert 0 < rates["training draws"] < rates["excerpts"], "draws are decoded and augmented as well"
    for trained in TRAININGS:
        cached = " from cached frames" if trained.startswith("AST-") or trained in ("AASIST-L", "Mean-pool") else ""
        for step in (f"stage 1{cached}", "stage 2", "development", "scoring"):
            assert float(values[f"{trained}: {step}"]) > 0, step
    hours = {
        what: float(values[f"hours: {what}"]) for what in ("stage 1", "stage 2", "development", "scoring", "caches")
    }
    assert float(values["hours: in all"]) == pytest.approx(sum(hours.values()), rel=0.02)
    # What is there already costs nothing more
    assert [float(values[f"disk: {what}"]) for what in ("checkpoints", "scores", "caches")] == [0, 0, 0]
