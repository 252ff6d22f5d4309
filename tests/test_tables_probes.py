"""The tables of probes from made-up files: right numbers in right cells, dashes for what is not."""

import numpy as np
import pandas as pd
import pytest

from conftest import markdown_cells
from spaarsist.audit import probes
from spaarsist.audit.probes import COLUMNS
from spaarsist.config import call
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.probes import PLANTS, SCORERS, read_probed, write_edges, write_planted

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
RATIOS = [0.1, 0.5]
LABEL = "mini corpora, 100 % made up"


def write(folder, trainings=("AST-03", "AST-05"), corpora=("home", "wild"), n_seeds=2):
    """Folders as `probe` leaves them; numbers tell training, corpus, k and scorer."""
    for corpus in corpora:
        path = folder / corpus
        path.mkdir(parents=True)
        rows = {"planted": [], "edges": []}
        for trained in trainings:
            for k in RATIOS:
                for scorer in SCORERS:
                    change = 0.1 * (scorer == "magnitude") + 0.2 * k + 0.01 * (corpus == "wild")
                    run = {"trained": trained, "corpus": corpus, "n_seeds": n_seeds, "k": k, "scorer": scorer}
                    run |= {"low": change - 0.05, "high": change + 0.05, "chance": k, "lowest_seed": change - 0.02}
                    run |= {"highest_seed": change + 0.02 * (n_seeds > 1) - 0.02 * (n_seeds == 1)}
                    score = {"score_change": -1.5, "score_low": -2.25, "score_high": 0.125}
                    synthesis = {"synthesis": 0.125, "synthesis_low": 0, "synthesis_high": 0.25}
                    for method in PLANTS:
                        still = {"difference": 0, "low": 0, "high": 0, "lowest_seed": 0, "highest_seed": 0}
                        rows["planted"].append(
                            run | score | {"method": method, "n_clips": 56, "n_nodes": 33, "n_planted": 5}
                            | {"before": 0.3, "after": 0.3 + change, "difference": change, "score_falls": 0.75}
                            | (still if method == "unchanged" else {})
                            | (synthesis if method in probes.METHODS else {})
                        )  # fmt: skip
                    for label in ("bonafide", "spoof"):
                        for node in ("first", "last"):
                            for crop in probes.CROPS[1:] if label == "spoof" else probes.CROPS:
                                row = run | {
                                    "label": label,
                                    "crop": crop,
                                    "node": node,
                                    "n_clips": 30 + (label == "spoof"),
                                }
                                row |= {"share": 0.7 if node == "first" else 0.2} | dict.fromkeys(
                                    ("low", "high"), np.nan
                                )
                                if (crop, node) in (("shifted", "first"), ("inside", "last")):
                                    row |= {
                                        "same_speech": 0.4,
                                        "repeated": -0.25,
                                        "repeated_low": -0.5,
                                        "repeated_high": 0,
                                        "border": change,
                                        "low": run["low"],
                                        "high": run["high"],
                                    }
                                rows["edges"].append(row | (score if crop in ("inside", "shifted") else {}))
        for name, table in rows.items():
            pd.DataFrame(table, columns=COLUMNS[name]).to_csv(path / f"{name}.tsv", sep="\t", index=False)
    return [folder / corpus for corpus in corpora]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("probed"))


def written(function, folders, stem, corpora=CORPORA):
    """From settings as JSON has them: what the command line passes on."""
    settings = {"probed": [str(folder) for folder in folders], "corpora": [list(pair) for pair in corpora]}
    call(function, settings | {"output_stem": str(stem), "label": LABEL, "footer": "Scores by code 0123."})
    text = stem.with_suffix(".md").read_text()
    return markdown_cells(text), text


def test_names_are_those_of_the_probes():
    assert (*PLANTS,) == probes.PLANTS and SCORERS == probes.SCORERS


def test_planted_stands_where_it_belongs(folders, tmp_path):
    (head, _, *lines), text = written(write_planted, folders, tmp_path / "planted")
    titles = [f"{title}<br>k = {k:g}" for _, title in CORPORA for k in RATIOS[::-1]]
    assert head == ["Planted", "Scorer", "Change of", *titles]
    assert [line[0] for line in lines if line[0].startswith("*")] == ["*AST-05*", "*AST-03*"]
    assert lines[1][:5] == [
        "WORLD copy-synthesis", "learned", "kept", "+10.0 [+5.0, +15.0]<br>30 → 40 %; seeds +8.0 to +12.0",
        "+2.0 [−3.0, +7.0]<br>30 → 32 %; seeds 0.0 to +4.0",
    ]  # fmt: skip
    assert lines[1][5].startswith("+11.0 [+6.0") and lines[4][1:3] == ["magnitude", "kept"]
    assert lines[4][3].startswith("+20.0 [")
    assert lines[2] == ["", "", "kept, by synthesis", *["+12.5 [0.0, +25.0]"] * 4]
    assert lines[3] == ["", "", "score", *["−1.50 [−2.25, +0.12]"] * 4]
    assert sum(line[2] == "kept, by synthesis" for line in lines) == 2 * 2 * len(probes.METHODS)
    control = next(line for line in lines if line[0] == "Itself (control)")
    assert control[3] == "0.0 [0.0, 0.0]<br>30 → 40 %"
    assert "56 of Home & garden" in text and "Training seeds: 2" in text and "5 of 33 nodes" in text and LABEL in text
    assert len(pd.read_csv(tmp_path / "planted.tsv", sep="\t")) == 2 * 2 * 2 * 2 * len(PLANTS)


def test_edges_stand_where_they_belong(folders, tmp_path):
    (head, _, *lines), text = written(write_edges, folders, tmp_path / "edges")
    assert head[:3] == ["First / last temporal node kept", f"{CORPORA[0][1]}<br>bona fide", f"{CORPORA[0][1]}<br>spoof"]
    sections = [line[0] for line in lines if line[0].startswith("*")]
    assert sections[:3] == ["*AST-05, learned, k = 0.1*", "*AST-05, magnitude, k = 0.1*", "*AST-05, learned, k = 0.5*"]
    found = {line[0]: line[1:] for line in lines[:10]}
    assert found["As scored (%)"] == ["70 / 20"] * 4
    assert found["As scored, shorter clips, padded with zeros (%)"] == ["70 / 20", "– / –"] * 2
    assert found["The same speech where it is no edge (%)"] == ["40 / 40"] * 4
    border = "+2 [−3, +7]; 0 to +4"
    assert found["What being at the edge adds (points)"][0] == f"{border} /<br>{border}"
    assert found["The same, without zeros beyond it (points)"] == ["−25 [−50, 0] /<br>−25 [−50, 0]"] * 4
    assert found["Score within the speech − as scored (nats)"] == ["−1.50 [−2.25, +0.12]"] * 4
    assert "30 to 31 of Home & garden" in text


def test_one_corpus_one_seed(tmp_path):
    folders = write(tmp_path / "probed", ["AST-05"], ["home"], 1)
    lines, text = written(write_planted, folders, tmp_path / "planted", CORPORA[:1])
    assert lines[3][3] == "+10.0 [+5.0, +15.0]<br>30 → 40 %" and "Training seeds: 1." in text
    lines, _ = written(write_edges, folders, tmp_path / "edges", CORPORA[:1])
    assert "to" not in lines[8][1]


@pytest.mark.parametrize(("function", "name"), [(write_planted, "planted"), (write_edges, "edges")])
def test_refuses(folders, tmp_path, function, name):
    def refused(message, given, corpora=CORPORA):
        with pytest.raises(ConfigError, match=message):
            function(given, tmp_path / "refused", corpora)

    refused("hold no probes of corpus 'home'", [])
    refused("hold no probes of corpus 'moon'", folders, [("moon", "Moon")])
    refused(rf"home/{name}\.tsv: corpus home was given before", [*folders, folders[0]])
    broken = write(tmp_path / "broken", corpora=["home"])[0]
    pd.read_csv(broken / f"{name}.tsv", sep="\t").drop(columns="low").to_csv(broken / f"{name}.tsv", sep="\t")
    refused(rf"{name}\.tsv: columns missing: low", [broken, folders[1]])
    refused(f"{name}.tsv", [tmp_path])
    assert not [*tmp_path.glob("refused*")]


def test_order_of_trainings_and_corpora(folders):
    rows = read_probed(folders[::-1], "planted.tsv", ["wild", "home"], [])
    assert [*rows["trained"].unique()] == ["AST-05", "AST-03"] and [*rows["corpus"].unique()] == ["wild", "home"]
