"""What `spaarsist show` prints, from made-up tables: rows, verdicts, files, and trainings by other code."""

import pandas as pd
import pytest

from conftest import write_record, write_scores, write_summary, write_tsv
from spaarsist.artefacts import DECIDES_SCORES, TRIAL_COLUMNS, trials_hash
from spaarsist.code import meaning
from spaarsist.names import ConfigError
from spaarsist.reporting.claims import LEDGER_COLUMNS
from spaarsist.reporting.overview import overview


@pytest.fixture
def results(tmp_path):
    """An experiment of two systems on two corpora; the first has several seeds."""
    folder = tmp_path / "results" / "toy"
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    systems = {
        "AST-05-05": {"n_params": 611_784, "n_macs": 713_035_196, "home.eer.mean": 0.12345, "home.eer.std": 0.0149,
                      "wild.eer.mean": 0.4, "wild.eer.std": 0, "home.min_dcf.mean": 0.777},
        "MHFA": {"n_params": 4_461_904, "n_macs": 68_411_392, "home.eer.mean": 0.05, "wild.eer.mean": 1},
    }  # fmt: skip
    write_summary(folder / "tables" / "table2.tsv", systems)
    (folder / "tables" / "table2.md").write_text("## Table 2: toy\n\nwords\n")
    (folder / "tables" / "table1.md").write_text("## Table 1\n")
    verdicts = {"C1": "differs", "C2": "not run", "C3a": "reproduced", "C3b": "reproduced", "S1": "consistent",
                "F1": "differs", "F2": "differs"}  # fmt: skip
    rows = [{"claim_id": claim, "verdict": verdict} for claim, verdict in verdicts.items()]
    write_tsv(folder / "tables" / "claims.tsv", rows, **dict.fromkeys(LEDGER_COLUMNS, "") | {"claimed": 1})
    for name in ("a.png", "b.png", "c.png", "a.pdf"):
        (folder / "figures" / name).touch()
    return folder


def train(results, name, seed, backend, code_hash):
    """The record of a training."""
    path = results / "checkpoints" / name / f"seed{seed}" / "model.json"
    write_record(path, backend={"kind": backend}, provenance={"code_hash": code_hash} if code_hash else {})


def test_the_whole_screen(results):
    assert overview(results).splitlines() == [
        "",
        "Table 2: toy",
        "",
        "system     parameters  MACs (M)  EER %, home  EER %, wild",
        "AST-05-05     611,784     713.0   12.3 ± 1.5   40.0 ± 0.0",
        "MHFA        4,461,904      68.4          5.0        100.0",
        "",
        f"The paper's claims: 2 reproduced, 1 differs, 1 not run (spaarsist claims {results})",
        f"All 2 tables: {results}/tables/, {results}/tables/table1.md first",
        f"All 3 figures: {results}/figures/",
    ]


def test_few_seeds_are_shown_by_their_range(results):
    table = pd.read_csv(results / "tables" / "table2.tsv", sep="\t")
    table["home.eer.seeds"] = ["0.11 0.15 0.1103", "0.05"]
    table["wild.eer.seeds"] = [" ".join(["0.4"] * 6), "1"]
    table.to_csv(results / "tables" / "table2.tsv", sep="\t", index=False)
    lines = overview(results).splitlines()
    assert lines[4].endswith("12.3 (11.0 to 15.0)   40.0 ± 0.0") and lines[5].split()[-2:] == ["5.0", "100.0"]


def test_trainings_by_another_state_of_the_code_are_named(results):
    """A state of the code is the back-end's own: another's would not do."""
    ours = {backend: meaning(*DECIDES_SCORES, backend=backend) for backend in ("AASIST", "MHFA")}
    train(results, "AST-05", 1, "AASIST", ours["AASIST"])
    train(results, "MHFA", 1, "MHFA", ours["MHFA"])
    assert "another state of the code" not in overview(results)
    train(results, "MHFA", 2, "MHFA", ours["AASIST"])
    train(results, "AST-05", 12, "AASIST", "0123456789abcdef")
    train(results, "AST-05", 2, "AASIST", None)
    *_, empty, named, what_to_do = overview(results).splitlines()
    assert empty == "" and what_to_do.startswith("To train them anew, delete their folders")
    assert named == (
        "Kept, though made by another state of the code than this one: AST-05/seed12, AST-05/seed2, MHFA/seed2."
    )


def test_a_training_of_a_back_end_that_is_gone_is_named(results):
    train(results, "Max-pool", 1, "MaxPool", "0123456789abcdef")
    assert "another state of the code than this one: Max-pool/seed1." in overview(results)


def test_a_corpus_whose_trial_list_has_changed_since_is_named(results):
    (results / "trials").mkdir()
    for corpus in ("home", "wild", "mars"):
        trials = dict.fromkeys(TRIAL_COLUMNS, "x") | {"trial_id": corpus}
        path = write_tsv(results / "trials" / f"{corpus}.tsv", [trials])
        for name in ("AST-05", "MHFA"):
            scores = results / "scores" / name / "seed1" / f"{corpus}.parquet"
            scores.parent.mkdir(parents=True, exist_ok=True)
            about = {"system": name, "seed": 1, "corpus": corpus, "trial_list": trials_hash(path)}
            write_scores(scores, {"trial_id": [corpus]}, **about)
    assert "trial list" not in overview(results)
    for corpus, column in (("home", "path"), ("wild", "label")):  # where a recording lies is no content
        path = results / "trials" / f"{corpus}.tsv"
        write_tsv(path, [dict.fromkeys(TRIAL_COLUMNS, "x") | {"trial_id": corpus, column: "other"}])
    told = [line for line in overview(results).splitlines() if "trial list" in line]
    assert told == ["wild: its trial list has changed since it was scored; run the same command again."]


def test_an_experiment_without_tables(results, tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: holds no tables yet; `snakemake --cores all` makes them"):
        overview(tmp_path / "nowhere")
    (results / "tables" / "table2.tsv").unlink()
    with pytest.raises(ConfigError, match="toy: holds no tables yet"):
        overview(results)


@pytest.mark.parametrize("column", ["system", "n_params", "n_macs"])
def test_a_broken_table(results, column):
    path = results / "tables" / "table2.tsv"
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(ConfigError, match=rf"table2\.tsv: columns missing: {column}"):
        overview(results)
