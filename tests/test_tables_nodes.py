"""The tables on nodes and stack attention from made-up files: right means in right cells, dashes for what is not."""

import numpy as np
import pandas as pd
import pytest

from conftest import markdown_cells
from spaarsist.audit.nodes import COLUMNS
from spaarsist.config import call
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.nodes import over_seeds, read_inspected, write_nodes, write_stack

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
TRAININGS = ["AST-05", "AST-03"]
RATIOS = [0.1, 0.5]
TEMPERATURES = [1, 100]
POOLS = {
    "spectral_pool": (42, 0.30),
    "temporal_pool": (33, 0.40),
    "branches.0.spectral_pool": (None, 0.50),
    "branches.1.temporal_pool": (None, 0.60),
}
LAYERS = {"branches.0.first": 0.1, "branches.0.second": 0.2, "branches.1.first": 0.3, "branches.1.second": 0.4}
SPREAD = {"attention": 1.5, "uniform": 1.4, "linear": 0.0}
LABEL = "mini corpora; not the paper's numbers, 100 % made up"
FOOTER = "Scores by code 0123abcd; seeds 1 and 2."


def jaccard(trained, seed, corpus, label, layer, k):
    """Seeds are 0.02 apart; temporal nodes of the wild corpus tell the classes apart."""
    value = POOLS[layer][1] + 0.1 * (trained == "AST-03") + 0.02 * (seed - 1) - 0.2 * k + 0.003 * (corpus == "wild")
    apart = {"bonafide": 0.04, "spoof": -0.04}.get(label, 0)
    return value + apart * (corpus == "wild" and layer == "temporal_pool")


def write(folder, trainings=TRAININGS, seeds=(1, 2), corpora=("home", "wild"), variants=("Mag", "MagGate")):
    """Folders as `inspect` leaves them."""
    folders = []
    for trained in trainings:
        for seed in seeds:
            for corpus in corpora:
                run = {"trained": trained, "seed": seed, "corpus": corpus}
                path = folder / trained / f"seed{seed}" / corpus
                path.mkdir(parents=True)
                for name, rows in made_up(trained, seed, corpus, variants).items():
                    table = pd.DataFrame([run | row for row in rows], columns=COLUMNS[name])
                    table.to_csv(path / f"{name}.tsv", sep="\t", index=False)
                folders.append(path)
    return folders


def made_up(trained, seed, corpus, variants):
    n = {"home": 1504, "wild": 300}[corpus]
    found = {"nodes": [], "kept": [], "agreement": [], "stack": []}
    for label in ("all", "bonafide", "spoof"):
        for k in RATIOS:
            for layer, (size, _) in POOLS.items():
                if layer.startswith("branches.1") and k == 0.1:
                    continue  # keeps all it gets
                found["nodes"].append({
                    "label": label, "layer": layer, "k": k, "n_nodes": size or round(100 * k), "n_kept": 2,
                    "n_trials": n, "jaccard": jaccard(trained, seed, corpus, label, layer, k), "jaccard_std": 0.2,
                    "chance": k / 2, "spearman": -0.25 + 0.1 * seed, "spearman_std": 0.3,
                })  # fmt: skip
            for variant in variants:
                row = {"label": label, "k": k, "variant": variant, "n_trials": n, "jaccard": 0.4}
                change = {"Mag": 2.0, "MagGate": 0.5}[variant] + 0.1 * seed + (label == "spoof")
                found["agreement"].append(row | {"quartile": "all", "score_change": change, "spearman": -0.1})
                found["agreement"].append(row | {"quartile": 1, "score_change": 9.0})
        for layer, value in LAYERS.items():
            for t in TEMPERATURES:
                row = {"label": label, "layer": layer, "stack_temperature": t, "n_trials": n}
                row["aggregation"] = "attention"
                for quantity, number in (
                    ("entropy", 1 - value / t), ("total_variation", value / t + 0.001 * seed / t),
                    ("largest_weight_times_n", 1 + value / t),
                ):  # fmt: skip
                    found["stack"].append(row | {"quantity": quantity, "value": number, "std": 0.1})
        for aggregation, value in SPREAD.items():
            row = {"label": label, "stack_temperature": 100, "aggregation": aggregation, "n_trials": n}
            found["stack"].append(row | {"quantity": "stack_node_spread", "value": value * seed})
            found["stack"].append(row | {"quantity": "other_nodes_spread", "value": 0.7})
            if aggregation != "attention" and variants:
                for quantity, number in (
                    ("score_change", 0.25), ("score_change_relative", 0.125), ("score_change_spearman", 0.99995),
                ):  # fmt: skip
                    found["stack"].append(row | {"quantity": quantity, "value": number})
        for layer, size in (("spectral_pool", 42), ("temporal_pool", 33)):
            for k in RATIOS:
                for scorer in ("learned", "magnitude"):
                    for position in range(size):
                        share = (position + (scorer == "learned")) / size * k
                        found["kept"].append({
                            "label": label, "layer": layer, "k": k, "scorer": scorer, "position": position,
                            "seconds": 0.06 * (position + 0.5) if layer == "temporal_pool" else np.nan,
                            "share": share / seed,
                        })  # fmt: skip
    return found


def rows(path):
    return markdown_cells(path.read_text())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write(tmp_path_factory.mktemp("inspected"))


def tables_of(write, folders, stem):
    """Written from settings as JSON has them, paths as texts and pairs as lists: what the command line passes on."""
    settings = {"inspected": [str(folder) for folder in folders], "corpora": [list(pair) for pair in CORPORA]}
    call(write, settings | {"output_stem": str(stem), "label": LABEL, "footer": FOOTER})
    return stem


@pytest.fixture(scope="module")
def nodes(folders, tmp_path_factory):
    return tables_of(write_nodes, folders, tmp_path_factory.mktemp("tables") / "nodes")


@pytest.fixture(scope="module")
def stack(folders, tmp_path_factory):
    return tables_of(write_stack, folders, tmp_path_factory.mktemp("tables") / "stack")


def test_overlap_stands_where_it_belongs(nodes):
    head, _, first, *lines = rows(nodes.with_suffix(".md"))
    titles = [f"{title}<br>k = {k:g}" for _, title in CORPORA for k in RATIOS]
    assert head == ["Pooling", "Measure", *titles]
    assert first[0] == "*AST-05*"
    # 0.30 - 0.2 k of one seed, 0.02 more of the other; 0.003 more in the wild
    assert lines[0] == [
        "Spectral, first (of 42)", "Jaccard [chance]", "0.29 ± 0.01 [0.05]", "0.21 ± 0.01 [0.25]", "0.29 ± 0.01 [0.05]",
        "0.21 ± 0.01 [0.25]",
    ]  # fmt: skip
    assert lines[1] == ["", "Spearman ρ", *["−0.10 ± 0.07"] * 4]
    assert lines[2][2] == "0.39 ± 0.01 [0.05]"
    assert lines[2][4] == "0.39 ± 0.01 [0.05]<br>bona fide 0.43, spoof 0.35"  # 0.08 apart
    assert lines[4][0] == "Spectral, branch 1"  # of 10 or of 50 nodes
    assert lines[6] == [
        "Temporal, branch 2 (of 50)", "Jaccard [chance]", "–", "0.51 ± 0.01 [0.25]", "–", "0.51 ± 0.01 [0.25]",
    ]  # fmt: skip
    assert lines[7][2:4] == ["–", "−0.10 ± 0.07"]
    assert lines[8] == ["Score as Mag", r"\|change\| (nats)", *["2.15 ± 0.07"] * 4]
    assert lines[9][1:3] == ["ρ with Jaccard", "−0.10 ± 0"]
    assert lines[10][:3] == ["Score as MagGate", r"\|change\| (nats)", "0.65 ± 0.07"]
    assert lines[12][0] == "*AST-03*" and lines[13][2] == "0.39 ± 0.01 [0.05]" and len(lines) == 25


def test_texts_say_whose_numbers_these_are(nodes, stack):
    for stem in (nodes, stack):
        for ending in ("md", "html", "tex"):
            text = stem.with_suffix(f".{ending}").read_text()
            assert "made up" in text and "1,504 of Home" in text and "300 of In-the-Wild" in text
            assert "Scores by code 0123abcd" in text and "n = 2" in text
    assert "not frequency bands" in nodes.with_suffix(".md").read_text()
    tex = nodes.with_suffix(".tex").read_text()
    assert r"\label{tab:nodes}" in tex and r"Home \& garden" in tex and "bona fide 0.4" not in tex
    assert r"\label{tab:stack}" in stack.with_suffix(".tex").read_text()


def test_the_tsv_holds_classes_and_quartiles(nodes):
    table = pd.read_csv(nodes.with_suffix(".tsv"), sep="\t")
    assert {*table["label"]} == {"all", "bonafide", "spoof"} and (table["n_seeds"] == 2).all()
    own = table[(table["trained"] == "AST-03") & (table["corpus"] == "wild") & (table["k"] == 0.5)]
    own = own.set_index(["label", "layer", "variant", "quartile"]).sort_index()
    row = own.loc[("spoof", "temporal_pool")].iloc[0]
    assert row["jaccard"] == pytest.approx(0.4 + 0.1 + 0.01 - 0.1 + 0.003 - 0.04)
    assert row["jaccard.seeds_std"] == pytest.approx(np.std([0, 0.02], ddof=1))
    assert (row["chance"], row["n_nodes"], row["n_trials"]) == (0.25, 33, 300)
    assert own.loc[("all", "all", "Mag", "1"), "score_change"] == 9
    assert own.loc[("all", "all", "MagGate", "all"), "score_change"] == pytest.approx(0.65)


def test_stack_rows(stack):
    head, _, *lines = rows(stack.with_suffix(".md"))
    assert head == ["Quantity", *(f"{title}<br>{trained}" for _, title in CORPORA for trained in TRAININGS)]
    found, section = {}, ""
    for first, *cells in lines:
        section = first if first.startswith("*") else section
        found[section, first] = cells
    titles = [first.strip("*") for section, first in found if section == first]
    words = "Entropy Total Largest Spread Spread Score Score"
    assert " ".join(title.split(" ")[0] for title in titles) == words
    entropy, distance, weight, spread, others, uniform, linear = (f"*{title}*" for title in titles)
    # Both branches: 0.1 and 0.3, 0.2 and 0.4
    assert found[entropy, "Layer 1, τ = 1"] == ["0.80000 ± 0"] * 4
    assert found[entropy, "Layer 2, τ = 100, as trained"] == ["0.99700 ± 0"] * 4
    assert found[distance, "Layer 1, τ = 1"] == ["0.2015 ± 0.0007"] * 4
    assert found[weight, "Layer 2, τ = 1"] == ["1.300 ± 0"] * 4
    assert found[spread, "attention"] == ["2.2500 ± 1.0607"] * 4
    assert found[spread, "the released code's mean"] == ["0 ± 0"] * 4
    assert found[others, "a plain mean"] == ["0.7000 ± 0"] * 4
    assert found[uniform, "Change (nats)"] == ["0.2500 ± 0"] * 4
    assert found[linear, "Change (standard deviations)"] == ["0.1250 ± 0"] * 4
    assert found[linear, "ρ"] == ["0.99995 ± 0"] * 4
    assert uniform == "*Score with a plain mean in place of attention*"
    assert len(lines) == 3 * 5 + 2 * 4 + 2 * 4
    table = pd.read_csv(stack.with_suffix(".tsv"), sep="\t")
    own = table[(table["quantity"] == "entropy") & (table["layer"] == "branches.1.first") & (table["corpus"] == "home")]
    assert {*own["label"]} == {"all", "bonafide", "spoof"}
    assert own.loc[own["stack_temperature"] == 1, "value"].tolist() == pytest.approx([0.7] * 6)


def test_layers_of_several_temperatures_are_not_called_as_trained(tmp_path):
    folders = write(tmp_path, ["AST-05"])
    for folder in folders:
        table = pd.read_csv(folder / "stack.tsv", sep="\t")
        table.loc[table["quantity"].str.contains("spread|change"), "stack_temperature"] = np.nan
        table.to_csv(folder / "stack.tsv", sep="\t", index=False)
    write_stack(folders, tmp_path / "stack", CORPORA)
    text = (tmp_path / "stack.md").read_text()
    assert "as trained" not in text and "τ = 100 |" in text and "| a plain mean | 2.1000 ± 0.9899 |" in text


def test_one_seed_has_no_spread_and_what_was_not_scored_no_row(tmp_path):
    folders = write(tmp_path, ["AST-05"], seeds=[1], variants=())
    write_nodes(folders, tmp_path / "nodes", CORPORA)
    write_stack(folders, tmp_path / "stack", CORPORA)
    lines = rows(tmp_path / "nodes.md")
    assert lines[3][2:4] == ["0.28 [0.05]", "0.20 [0.25]"] and lines[4][2] == "−0.15"
    for name in ("nodes", "stack"):
        text = (tmp_path / f"{name}.md").read_text()
        assert "One training seed." in text and " ± " not in text and "Score" not in text
    assert "|change|" not in (tmp_path / "nodes.md").read_text().replace("\\", "")
    assert "| attention | 1.5000 |" in (tmp_path / "stack.md").read_text()


def test_order_is_that_of_the_tables_and_of_the_corpora(folders, tmp_path):
    write_nodes(folders[::-1], tmp_path / "nodes", CORPORA[::-1], LABEL, FOOTER)
    lines = rows(tmp_path / "nodes.md")
    assert [line[0] for line in lines if line[0].startswith("*")] == ["*AST-05*", "*AST-03*"]
    assert lines[0][2].startswith("In-the-Wild") and "bona fide" in lines[5][2] and "bona fide" not in lines[5][4]
    write_nodes(folders, tmp_path / "home", CORPORA[:1])
    assert len(rows(tmp_path / "home.md")[0]) == 4


def test_the_same_every_time(folders, nodes, stack, tmp_path):
    for write_it, stem in ((write_nodes, nodes), (write_stack, stack)):
        write_it(folders, tmp_path / stem.name, CORPORA, LABEL, FOOTER)
        for path in tmp_path.glob(f"{stem.name}.*"):
            assert path.read_bytes() == stem.with_suffix(path.suffix).read_bytes()


def test_trainings_of_every_kind_have_a_place(tmp_path):
    names = ["AST-05+stack1", "AST-05+Mag", "AST-05"]
    table = read_inspected(write(tmp_path, names), "nodes.tsv", ["wild", "home"], ["layer"])
    assert [*table["trained"].unique()] == ["AST-05", "AST-05+stack1", "AST-05+Mag"]
    assert [*table["corpus"].unique()] == ["wild", "home"]


def test_means_over_seeds_by_hand():
    table = pd.DataFrame({"seed": [1, 2, 1], "k": [0.5, 0.5, 0.1], "share": [1.0, 4.0, 2.0]})
    means = over_seeds(table, ["k"], ["share"])
    assert means["k"].tolist() == [0.5, 0.1] and means["n_seeds"].tolist() == [2, 1]
    assert means["share"].tolist() == [2.5, 2.0]
    assert means["share.seeds_std"][0] == pytest.approx(np.sqrt(4.5)) and np.isnan(means["share.seeds_std"][1])


def without(folder, name):
    """A folder whose file of that name has none but the first few."""
    folder.mkdir()
    (folder / f"{name}.tsv").write_text("trained\tseed\tcorpus\tlabel\n")
    return folder


def test_refuses(folders, tmp_path):
    for given, corpora, complaint in (
        ([], CORPORA, "no folders were given"),
        ([*folders, folders[0]], CORPORA, r"nodes\.tsv: AST-05, seed 1, on home was given in .*nodes\.tsv already"),
        (folders[:1] + folders[4:], CORPORA, "hold nothing of AST-05 on corpus 'wild'; inspect it there too"),
        (folders, [*CORPORA, ("moon", "Moon")], "hold nothing of AST-05 on corpus 'moon'"),
        ([tmp_path / "none"], CORPORA, r"none/nodes\.tsv: not a readable TSV"),
        ([without(tmp_path / "short", "nodes")], CORPORA, r"short/nodes\.tsv: columns missing: layer, k"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            write_nodes(given, tmp_path / "refused", corpora)
    lonely = tmp_path / "lonely" / "nodes.tsv"
    lonely.parent.mkdir()
    lonely.write_bytes((folders[0] / "nodes.tsv").read_bytes())
    with pytest.raises(ConfigError, match=r"lonely/agreement\.tsv: not a readable TSV"):
        write_nodes([lonely.parent], tmp_path / "refused", CORPORA[:1])
    assert not list(tmp_path.glob("refused*"))
