"""Summary and tables from small made-up metrics: right numbers, label everywhere, legal LaTeX."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spaarsist.config import ConfigError, System
from spaarsist.evaluation.metrics import METRICS, RESULT_COLUMNS
from spaarsist.evaluation.summary import read_summary, summarise
from spaarsist.reporting.tables import KINDS, write_table

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
LABEL = "mini corpora; not the paper's numbers, 100 % made up"
AASIST = [
    f"AST-{t}-{i}{v}"
    for t, ratios in (("05", ("05", "03", "01")), ("03", ("03", "01")))
    for i in ratios
    for v in ("", "-Mag", "-MagMean")
]
OTHERS = ["MHFA", "Mean-pool"]
SWITCHED = ["AST-05-05+graph0.5", "AST-05-05+stack10"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Metrics of two seeds and two corpora, sizes, composite scores: a folder, and the metrics in one frame."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    rows = [
        (system, seed, System.parse(system).column, corpus, condition, metric, *rng.uniform(0.05, 0.4, 3), 90, 90)
        for corpus, _ in CORPORA
        for seed in (1, 2)
        for system in [*AASIST, *OTHERS, *SWITCHED]
        for condition in ("pooled", "attack:A17")
        for metric in METRICS
    ]
    results = pd.DataFrame(rows, columns=RESULT_COLUMNS)
    for (corpus, seed), part in results.groupby(["corpus", "seed"]):
        part.to_csv(folder / f"{corpus}-{seed}.metrics.tsv", sep="\t", index=False)
    names = [*AASIST, *OTHERS, *SWITCHED]
    size = pd.DataFrame({"system": names, "n_params": [611_784 - 100 * i for i in range(len(names))]})
    size["n_macs"] = [713_000_000 - 1_000_000 * i for i in range(len(names))]
    size = size.assign(counter="fvcore", n_frames=201, feature_dim=1024, n_layers=24, embedding_dim=1024)
    size.to_csv(folder / "complexity.tsv", sep="\t", index=False)
    speed = pd.DataFrame({"system": ["MHFA", *AASIST], "latency_ms": 1.5, "latency_iqr_ms": 0.1})
    speed.to_csv(folder / "latency.tsv", sep="\t", index=False)
    composite = pd.DataFrame({"system": [*AASIST, *OTHERS], "composite": np.linspace(1, 0.5, len(AASIST) + 2)})
    composite.to_csv(folder / "composite.tsv", sep="\t", index=False)
    return folder, results


def make_summary(inputs, output, seeds="*", as_run=(), scores=()):
    folder, _ = inputs
    metrics = sorted(folder.glob(f"*-{seeds}.metrics.tsv"))
    summarise(metrics, [folder / "complexity.tsv"], [folder / "latency.tsv"], as_run, scores, output)
    return output


def make_table(inputs, folder, kind="table1", systems=AASIST, seeds="*", corpora=CORPORA, **options):
    summary = make_summary(inputs, folder / "summary.tsv", seeds)
    write_table(summary, inputs[0] / "composite.tsv", kind, systems, corpora, folder / kind, **options)
    return [folder / f"{kind}.{ending}" for ending in ("tsv", "md", "tex", "html")]


def values(inputs, system, corpus, metric):
    _, results = inputs
    chosen = (results["system"] == system) & (results["corpus"] == corpus) & (results["metric"] == metric)
    return results[chosen & (results["condition"] == "pooled")].sort_values("seed")


class TestSummary:
    def test_means_over_seeds(self, inputs, tmp_path):
        table = read_summary(make_summary(inputs, tmp_path / "s.tsv"), ["home", "wild"])
        assert list(table.index) == [*AASIST, *SWITCHED[::-1], *OTHERS]  # +stack10 has no graph temperature
        wanted = values(inputs, "AST-03-01-Mag", "wild", "cllr")["value"]
        row = table.loc["AST-03-01-Mag"]
        assert len(wanted) == 2
        assert row["wild.cllr.mean"] == pytest.approx(wanted.mean())
        assert row["wild.cllr.std"] == pytest.approx(wanted.std(ddof=1))
        assert row["wild.n_seeds"] == 2 and np.isnan(row["wild.cllr.ci_low"])
        assert row[["trained", "k_train", "k_infer", "variant"]].tolist() == ["AST-03", 0.3, 0.1, "Mag"]
        assert row["n_macs"] == 713_000_000 - 1_000_000 * AASIST.index("AST-03-01-Mag")

    def test_mean_and_spread_by_hand(self, inputs, tmp_path):
        """Three seeds, of which one is far off: the mean, not the median, and n - 1 under the root."""
        rows = [
            ("MHFA", seed, "score", "home", "pooled", "eer", v, 0, 1, 9, 9) for seed, v in enumerate((0.1, 0.2, 0.6))
        ]
        pd.DataFrame(rows, columns=RESULT_COLUMNS).to_csv(tmp_path / "m.tsv", sep="\t", index=False)
        summarise([tmp_path / "m.tsv"], [inputs[0] / "complexity.tsv"], [], [], [], tmp_path / "s.tsv")
        row = read_summary(tmp_path / "s.tsv").loc["MHFA"]
        assert row["home.eer.mean"] == pytest.approx(0.3) and row["home.n_seeds"] == 3
        assert row["home.eer.std"] == pytest.approx(((0.04 + 0.01 + 0.09) / 2) ** 0.5)

    def test_one_seed_keeps_its_interval(self, inputs, tmp_path):
        table = read_summary(make_summary(inputs, tmp_path / "s.tsv", seeds="1"))
        low = values(inputs, "MHFA", "home", "eer")["ci_low"].iloc[0]
        assert table.loc["MHFA", "home.eer.ci_low"] == pytest.approx(low)
        assert np.isnan(table.loc["MHFA", "home.eer.std"]) and table.loc["MHFA", "home.n_seeds"] == 1

    def test_what_names_say(self, inputs, tmp_path):
        table = read_summary(make_summary(inputs, tmp_path / "s.tsv"), systems=["MHFA", *SWITCHED])
        assert table["stack_temperature"].tolist()[1:] == pytest.approx([np.nan, 10], nan_ok=True)
        assert table["graph_temperature"].tolist()[1:] == pytest.approx([0.5, np.nan], nan_ok=True)
        assert table.loc["MHFA", "latency_ms"] == 1.5 and table.loc[SWITCHED, "latency_ms"].isna().all()
        assert np.isnan(table.loc["MHFA", "k_train"]) and table.loc["MHFA", "trained"] == "MHFA"

    def test_what_was_run(self, inputs, tmp_path):
        """The size of the run's own back-end, and every state of the code that its scores know of."""
        sizes = pd.DataFrame({"system": ["AST-05-05", "MHFA"], "n_params": [1000, 2000]})
        sizes.to_csv(tmp_path / "own.tsv", sep="\t", index=False)
        scores = []
        for seed, (trained, scored) in enumerate((("b", "a"), ("b", "b"))):
            about = {"system": "AST-05", "seed": seed, "corpus": "home"}
            about |= {"trained_with": {"code_hash": trained}, "provenance": {"code_hash": scored}}
            scores.append(tmp_path / f"{seed}.parquet")
            table = pa.table({"trial_id": ["a"]}).replace_schema_metadata({"spaarsist": json.dumps(about)})
            pq.write_table(table, scores[-1])
        summary = make_summary(inputs, tmp_path / "s.tsv", as_run=[tmp_path / "own.tsv"], scores=scores)
        table = read_summary(summary)
        assert table.loc["AST-05-01-Mag", "code_hash"] == "a+b" and pd.isna(table.loc["MHFA", "code_hash"])
        assert table.loc["MHFA", "n_params_as_run"] == 2000 and np.isnan(table.loc["AST-05-01", "n_params_as_run"])
        write_table(summary, inputs[0] / "composite.tsv", "table2", ["AST-05-05", *OTHERS], CORPORA, tmp_path / "t")
        line = next(line for line in (tmp_path / "t.md").read_text().splitlines() if line.startswith("| MHFA"))
        assert line.split(" | ")[3] == "2,000" and "Run's params" in (tmp_path / "t.html").read_text()
        assert "are smaller" in (tmp_path / "t.md").read_text()

    def test_refusals(self, inputs, tmp_path):
        folder, _ = inputs
        metrics, sizes = sorted(folder.glob("*.metrics.tsv")), pd.read_csv(folder / "complexity.tsv", sep="\t")
        sizes[1:].to_csv(tmp_path / "small.tsv", sep="\t", index=False)
        sizes.assign(n_params=1).to_csv(tmp_path / "other.tsv", sep="\t", index=False)
        complexity = folder / "complexity.tsv"
        for arguments, complaint in (
            ((metrics, [tmp_path / "small.tsv"]), "no size in .*small.tsv of AST-05-05"),
            ((metrics, [complexity, tmp_path / "other.tsv"]), "contradict each other on AST-03-01,"),
            ((metrics + metrics[:1], [complexity]), "a number twice"),
            ((metrics, metrics), "columns missing: n_params"),
            (([], [complexity]), "no file given"),
            (([tmp_path / "none.tsv"], [complexity]), "none.tsv: not a readable"),
        ):
            with pytest.raises(ConfigError, match=complaint):
                summarise(*arguments, [], [], [], tmp_path / "refused.tsv")
        assert not (tmp_path / "refused.tsv").exists()
        summary = make_summary(inputs, tmp_path / "s.tsv")
        with pytest.raises(ConfigError, match="no metrics of corpus 'mars'"):
            read_summary(summary, ["mars"])
        with pytest.raises(ConfigError, match="no system SLS"):
            read_summary(summary, systems=["MHFA", "SLS"])


class TestTable:
    def test_cells(self, inputs, tmp_path):
        tsv, md, *_ = make_table(inputs, tmp_path, label=LABEL)
        table = pd.read_csv(tsv, sep="\t", index_col="system")
        assert list(table.index) == AASIST
        row, eers = table.loc["AST-03-01-Mag"], values(inputs, "AST-03-01-Mag", "wild", "eer")["value"]
        line = next(line for line in md.read_text().splitlines() if "AST-03-01-Mag**" in line)
        cells = [cell.strip().replace("<ins>", "").replace("</ins>", "") for cell in line.strip("|").split("|")]
        assert cells[:3] == ["**AST-03-01-Mag**‡", f"{int(row['n_params']):,}", f"{row['n_macs'] / 1e6:.1f}"]
        assert cells[8] == f"{100 * eers.mean():.2f} ± {100 * eers.std():.2f}"
        assert cells[9].startswith(f"{row['wild.min_dcf.mean']:.3f} ±")
        assert cells[13] == f"{row['composite']:.2f}"
        assert "(n = 2; rough)" in md.read_text() and "fvcore, 201 frames of 1,024 features" in md.read_text()
        assert "† AASIST" in md.read_text()

    def test_the_best_of_each_column_is_marked(self, inputs, tmp_path):
        tsv, md, *_ = make_table(inputs, tmp_path)
        best = pd.read_csv(tsv, sep="\t", index_col="system")["home.eer.mean"].idxmin()
        rows = [line for line in md.read_text().splitlines() if line.startswith(("| AST", "| **AST"))]
        marked = [row for row in rows if "<ins>" in row.split("|")[4]]
        assert len(marked) == 1 and best in marked[0]

    def test_one_seed(self, inputs, tmp_path):
        _, md, tex, _ = make_table(inputs, tmp_path, seeds="1", confidence=0.9)
        assert "One training seed; 90 % bootstrap intervals" in md.read_text()
        assert "±" not in md.read_text() and r"\pm" not in tex.read_text()

    @pytest.mark.parametrize(("kind", "systems"), [("table2", ["AST-05-05", *OTHERS]), ("temperature", SWITCHED)])
    def test_the_others(self, inputs, tmp_path, kind, systems):
        tsv, md, tex, page = make_table(inputs, tmp_path, kind, systems, label=LABEL)
        assert pd.read_csv(tsv, sep="\t")["system"].tolist() == systems
        assert ("Composite" in md.read_text()) == (kind == "table2")  # temperatures are not ranked
        assert KINDS[kind].subject in md.read_text()
        for text in (md.read_text(), tex.read_text(), page.read_text()):
            assert "mini corpora" in text
        shown = [re.sub(r"\u00a0±.*|</?u>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", page.read_text())]
        value = values(inputs, systems[-1], "home", "min_dcf")["value"].mean()
        width = len(shown) // len(systems)
        assert shown[-width] == systems[-1] and shown[-width + 4] == f"{value:.3f}"
        assert "Home &amp; garden" in page.read_text() and "<u>" in page.read_text()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("corpora", [CORPORA, CORPORA[:1]])
    def test_latex_is_legal(self, inputs, tmp_path, kind, corpora):
        _, _, tex, _ = make_table(inputs, tmp_path, kind, corpora=corpora, label=LABEL)
        text = tex.read_text()
        bare = re.sub(r"\\[\\{}%&$#_]", "", text)
        depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in bare])
        assert depth[-1] == 0 and depth.min() >= 0
        assert bare.count("$") % 2 == 0
        for environment in ("table*", "tabular"):
            assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
        rows = [line for line in text.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
        assert len(rows) == 1 + len(AASIST)
        n_columns = 3 + 5 * len(corpora) + 1
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {n_columns - 1}
        assert re.search(rf"tabular}}{{l{'r' * (n_columns - 1)}}}", text)
        assert r"Home \& garden" in text and KINDS[kind].label in text
        text.encode("ascii")  # no character that plain LaTeX might lack

    def test_refusals(self, inputs, tmp_path):
        with pytest.raises(ConfigError, match="no table 'table3'; there are table1, table2, temperature"):
            make_table(inputs, tmp_path, "table3")
        with pytest.raises(ConfigError, match="holds no system SLS"):
            make_table(inputs, tmp_path, "table2", ["SLS"])
        summary = make_summary(inputs, tmp_path / "s.tsv")
        with pytest.raises(ConfigError, match=r"latency\.tsv: not a readable composite"):
            write_table(summary, inputs[0] / "latency.tsv", "table1", AASIST, CORPORA, tmp_path / "t")
        assert not list(tmp_path.glob("t.*"))
