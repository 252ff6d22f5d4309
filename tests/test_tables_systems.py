"""Tables from small made-up metrics: right numbers, label everywhere, legal LaTeX."""

import re

import numpy as np
import pandas as pd
import pytest

from conftest import pooled, write_comparisons, write_results
from spaarsist.evaluation.summary import on, summarise
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.systems import KINDS, write_table

CORPORA = [("home", "Home & garden (in domain)"), ("wild", "In-the-Wild (out of domain)")]
SPEAKERS = {"home": 24, "wild": 24}
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
    results = write_results(folder, [*AASIST, *OTHERS, *SWITCHED], [corpus for corpus, _ in CORPORA])
    composite = pd.DataFrame({"system": [*AASIST, *OTHERS], "composite": np.linspace(1, 0.5, len(AASIST) + 2)})
    composite.to_csv(folder / "composite.tsv", sep="\t", index=False)
    return folder, results


def make_summary(inputs, output, seeds="*", as_run=(), scores=()):
    folder, _ = inputs
    metrics = sorted(folder.glob(f"*-{seeds}.metrics.tsv"))
    summarise(metrics, [folder / "complexity.tsv"], as_run, scores, [], output)
    return output


def make_table(inputs, folder, kind="table1", systems=AASIST, seeds="*", corpora=CORPORA, **options):
    summary = make_summary(inputs, folder / "summary.tsv", seeds)
    write_table(summary, inputs[0] / "composite.tsv", kind, systems, corpora, folder / kind, **options)
    return [folder / f"{kind}.{ending}" for ending in ("tsv", "md", "tex", "html")]


class TestTable:
    def test_size_of_the_run(self, inputs, tmp_path):
        """The size of the run's own back-end stands beside the one that is counted, where the two differ."""
        sizes = pd.DataFrame({"system": ["AST-05-05", "MHFA"], "n_params": [1000, 2000]})
        sizes.to_csv(tmp_path / "own.tsv", sep="\t", index=False)
        summary = make_summary(inputs, tmp_path / "s.tsv", as_run=[tmp_path / "own.tsv"])
        write_table(summary, inputs[0] / "composite.tsv", "table2", ["AST-05-05", *OTHERS], CORPORA, tmp_path / "t")
        line = next(line for line in (tmp_path / "t.md").read_text().splitlines() if line.startswith("| MHFA"))
        assert line.split(" | ")[4] == "2,000" and "Run's params" in (tmp_path / "t.html").read_text()
        assert "are smaller" in (tmp_path / "t.md").read_text()

    def test_cells(self, inputs, tmp_path):
        tsv, md, *_ = make_table(inputs, tmp_path, label=LABEL)
        table = pd.read_csv(tsv, sep="\t", index_col="system")
        assert list(table.index) == AASIST
        row, eers = table.loc["AST-03-01-Mag"], pooled(inputs[1], "AST-03-01-Mag", "wild", "eer")["value"]
        line = next(line for line in md.read_text().splitlines() if "AST-03-01-Mag‡**" in line)
        cells = [cell.strip().replace("<ins>", "").replace("</ins>", "") for cell in line.strip("|").split("|")]
        macs = [f"{row[column] / 1e6:.1f}" for column in ("n_macs", "n_macs_linear")]
        assert cells[:4] == ["**AST-03-01-Mag‡**", f"{int(row['n_params']):,}", *macs]
        each = " ".join(f"{100 * eer:.1f}" for eer in eers)
        assert cells[9] == f"{100 * eers.mean():.2f}<br>{each}" and len(eers) == 2
        assert cells[10] == f"{row[on('wild', 'min_dcf')]:.3f}"
        assert cells[14] == f"{row['composite']:.2f}"
        assert "Mean over training seeds (n = 2). Of up to 5 seeds the EER of each" in md.read_text()
        assert "fvcore, 201 frames of 1,024 features" in md.read_text()
        assert "† AASIST" in md.read_text()

    def test_many_seeds_have_a_standard_deviation(self, inputs, tmp_path):
        for seed in (3, 4, 5, 6):
            for corpus, _ in CORPORA:
                table = pd.read_csv(inputs[0] / f"{corpus}-1.metrics.tsv", sep="\t")
                table.assign(seed=seed).to_csv(tmp_path / f"{corpus}-{seed}.metrics.tsv", sep="\t", index=False)
        metrics = [*inputs[0].glob("*.metrics.tsv"), *tmp_path.glob("*.metrics.tsv")]
        summarise(metrics, [inputs[0] / "complexity.tsv"], [], [], [], tmp_path / "s.tsv")
        write_table(tmp_path / "s.tsv", inputs[0] / "composite.tsv", "table1", AASIST, CORPORA, tmp_path / "t")
        text = (tmp_path / "t.md").read_text()
        one, two = pooled(inputs[1], "AST-05-03", "home", "eer")["value"]
        of_seeds = 100 * np.array([one, two, one, one, one, one])
        line = next(line for line in text.splitlines() if line.startswith("| AST-05-03 |"))
        assert line.split(" | ")[4] == f"{of_seeds.mean():.2f} ± {of_seeds.std(ddof=1):.2f}"
        assert "(n = 6). Of more than 5 seeds ± their standard deviation." in text and "EER of each" not in text

    def test_the_best_is_marked_where_it_is_significantly_better_than_the_baseline(self, inputs, tmp_path):
        better = {"difference": -0.01, "p_holm": 0.01}
        systems = ["AST-05-05", "AST-05-03", "AST-05-01", "MHFA"]
        changes = {(system, "AST-05-05", "home", "eer"): better for system in systems[1:3]}
        changes["MHFA", "AST-05-05", "wild", "min_dcf"] = better | {"difference": 0.01}
        changes["MHFA", "AST-05-05", "wild", "eer"] = better | {"p_holm": 0.05}
        family = write_comparisons(tmp_path / "f.tsv", [(s, "AST-05-05") for s in systems[1:]], SPEAKERS, changes)
        tsv, md, *_ = make_table(inputs, tmp_path, "table2", systems, comparisons=family)
        best = pd.read_csv(tsv, sep="\t", index_col="system").loc[systems[1:3], on("home", "eer")].idxmin()
        rows = [line for line in md.read_text().splitlines() if "<ins>" in line]
        assert len(rows) == 1 and rows[0].count("<ins>") == 1 and best in rows[0] and "<ins>" in rows[0].split("|")[5]
        assert "Underlined: the best of what is significantly better than AST-05-05." in md.read_text()
        other = write_comparisons(tmp_path / "g.tsv", [("AST-05-01", "AST-05-03")], SPEAKERS,
                                  {("AST-05-01", "AST-05-03", "home", "eer"): better})  # fmt: skip
        _, md, *_ = make_table(inputs, tmp_path, "temperature", ["AST-05-01", "AST-05-03"], comparisons=other)
        assert "<ins>" not in md.read_text() and "nderlined" not in md.read_text(), "better than another"

    def test_one_seed(self, inputs, tmp_path):
        tsv, md, tex, _ = make_table(inputs, tmp_path, seeds="1", confidence=0.9)
        assert "One training seed. 90 % intervals over trials stand" in md.read_text()
        assert "±" not in md.read_text() and r"\pm" not in tex.read_text()
        row = pd.read_csv(tsv, sep="\t", index_col="system").loc["AST-05-05"]
        value, low, high = (f"{100 * row[on('home', 'eer', part)]:.2f}" for part in ("mean", "ci_low", "ci_high"))
        line = next(line for line in md.read_text().splitlines() if "AST-05-05†**" in line).replace("<ins>", "")
        assert f"| {value}<br>[{low}, {high}] |" in line.replace("</ins>", "")
        assert line.count("<br>[") == 4, "of EER and minDCF alone, on both corpora"
        assert f"[{low}, {high}]" not in tex.read_text().replace("{[}", "[").replace("{]}", "]")

    def test_stars_stand_where_they_are_earned_and_nowhere_else(self, inputs, tmp_path):
        p_holm = {("AST-05-03", "home", "eer"): 0.0499, ("AST-03-01-Mag", "wild", "min_dcf"): 0.001}
        p_holm |= {("AST-05-03", "wild", "eer"): 0.05, ("AST-03-01", "home", "min_dcf"): 0.051}
        changes = {(system, "AST-05-05", *where): {"p_holm": p} for (system, *where), p in p_holm.items()}
        pairs = [(system, "AST-05-05") for system in AASIST[1:]]
        family = write_comparisons(tmp_path / "baseline.tsv", pairs, SPEAKERS, changes)
        tsv, *texts = make_table(inputs, tmp_path, comparisons=family, footer="Scores by code 0123.")
        table = pd.read_csv(tsv, sep="\t", index_col="system")
        assert table.loc["AST-05-03", "home.eer.p_holm"] == 0.0499 and np.isnan(
            table.loc["AST-05-05", "wild.eer.p_holm"]
        )
        assert table.loc["AST-03-01-Mag", "wild.min_dcf.p_holm"] == 0.001 and "home.cllr.p_holm" not in table
        starred = {"| AST-05-03 |": 5, "| **AST-03-01-Mag‡** |": 11}
        for line in texts[0].read_text().splitlines():
            if line.startswith(("| AST", "| **AST")):
                cells = line.split("|")[1:]
                at = [index for index, cell in enumerate(cells, start=1) if r"\*" in cell]
                assert at == [column for start, column in starred.items() if line.startswith(start)], line
        tex = texts[1].read_text()
        assert tex.count(r"\rlap{*}") == 2 and len(re.findall(r"\d\*<", texts[2].read_text())) == 2
        for text in (texts[0].read_text().replace("\\", ""), texts[2].read_text().replace("&lt;", "<")):
            assert "Stars compare with AST-05-05, in a paired t test" in text
            assert f"* p < 0.05 after Holm's correction for all {4 * len(pairs)} tests of this family" in text
            assert "Seeds: 2. Speakers: 24 in Home" in text and "Scores by code 0123." in text
        assert "Not tested" not in tex and "Scores by code 0123." in tex

    def test_stars_against_several_references(self, inputs, tmp_path):
        systems = ["AST-05-05", *SWITCHED, "AST-03-01-Mag", "MHFA"]
        pairs = [(name, "AST-05-05") for name in SWITCHED] + [("AST-03-01-Mag+stack1", "AST-03-01-Mag")]
        changes = {(*pairs[1], "home", "eer"): {"p_holm": 0.01}}
        family = write_comparisons(tmp_path / "f.tsv", pairs, {"home": 0, "wild": 0}, changes, n_seeds=1)
        _, md, *_ = make_table(inputs, tmp_path, "temperature", systems, comparisons=family)
        text = md.read_text()
        assert "Stars compare with AST-05-05," in text and text.count(r"\*") == 2  # one stands in the notes
        assert "Not tested: AST-03-01-Mag, MHFA." in text and "Speakers: unknown in Home" in text
        assert "With one seed" in text

    def test_the_reference_alone_is_tested_against_nothing(self, inputs, tmp_path):
        family = write_comparisons(tmp_path / "f.tsv", [("MHFA", "AST-05-05")], SPEAKERS)
        tsv, md, *_ = make_table(inputs, tmp_path, "table2", ["AST-05-05"], comparisons=family)
        assert "p_holm" not in tsv.read_text() and "tars" not in md.read_text()
        with pytest.raises(ConfigError, match=r"f\.tsv: holds no comparison of Mean-pool"):
            make_table(inputs, tmp_path, "table2", ["Mean-pool"], comparisons=family)

    def test_sections_tell_the_k_of_training(self, inputs, tmp_path):
        _, md, tex, _ = make_table(inputs, tmp_path)
        rows = [line.split("|")[1].strip(" *†‡") for line in md.read_text().splitlines() if line.startswith("|")][2:]
        split = sum(name.startswith("AST-05") for name in AASIST)
        headings = "Trained with k = 0.5", "Trained with k = 0.3"
        assert rows == [headings[0], *AASIST[:split], headings[1], *AASIST[split:]]
        assert tex.read_text().count("Trained with k") == 2

    @pytest.mark.parametrize(("kind", "systems"), [("table2", ["AST-05-05", *OTHERS]), ("temperature", SWITCHED)])
    def test_the_others(self, inputs, tmp_path, kind, systems):
        tsv, md, tex, page = make_table(inputs, tmp_path, kind, systems, label=LABEL)
        assert pd.read_csv(tsv, sep="\t")["system"].tolist() == systems
        assert ("Composite" in md.read_text()) == (kind == "table2")  # temperatures are not ranked
        assert KINDS[kind].subject in md.read_text()
        for text in (md.read_text(), tex.read_text(), page.read_text()):
            assert "mini corpora" in text
        shown = [re.sub(r"\u00a0±.*|</?[ub]>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", page.read_text())]
        value = pooled(inputs[1], systems[-1], "home", "min_dcf")["value"].mean()
        width = len(shown) // len(systems)
        assert shown[-width] == systems[-1] and shown[-width + 5] == f"{value:.3f}"
        assert "Home &amp; garden" in page.read_text() and "<u>" not in page.read_text(), "nothing was tested"

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
        n_columns = 4 + 5 * len(corpora) + 1
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {n_columns - 1}
        (alignment,) = re.findall(r"tabular}{(.*)}", text)
        assert re.sub(r"@{.*?}}", "", alignment) == "l" + "r" * (n_columns - 1)
        assert r"Home \& garden" in text and KINDS[kind].label in text
        text.encode("ascii")  # no character that plain LaTeX might lack

    def test_refusals(self, inputs, tmp_path):
        with pytest.raises(ConfigError, match="no table 'table3'; there are table1, table2, temperature"):
            make_table(inputs, tmp_path, "table3")
        with pytest.raises(ConfigError, match="holds no system SLS"):
            make_table(inputs, tmp_path, "table2", ["SLS"])
        summary = make_summary(inputs, tmp_path / "s.tsv")
        with pytest.raises(ConfigError, match=r"complexity\.tsv: columns missing: composite"):
            write_table(summary, inputs[0] / "complexity.tsv", "table1", AASIST, CORPORA, tmp_path / "t")
        twice = write_comparisons(
            tmp_path / "twice.tsv", [("AST-05-03", "AST-05-05"), ("AST-05-03", "AST-05-01")], SPEAKERS
        )
        other = write_comparisons(tmp_path / "other.tsv", [("MHFA", "AST-05-05")], SPEAKERS)
        for family, complaint in (
            (twice, "compares a system with two others"),
            (other, "no comparison of AST-05-05, A"),
        ):
            with pytest.raises(ConfigError, match=complaint):
                write_table(
                    summary, inputs[0] / "composite.tsv", "table1", AASIST, CORPORA, tmp_path / "t", comparisons=family
                )
        assert not list(tmp_path.glob("t.*"))
