r"""The report: no number typed by hand, every \val{...} defined, LaTeX's complaints passed on."""

import json
import re
import shutil
import subprocess
from itertools import product

import pandas as pd
import pytest
from pydantic import validate_call

from conftest import REPOSITORY, write_record, write_summary, write_tsv
from spaarsist.audit.nodes import COLUMNS
from spaarsist.evaluation.summary import STATISTICS, on
from spaarsist.names import ConfigError
from spaarsist.reporting import report
from spaarsist.reporting.claims import COMMIT, LEDGER_COLUMNS
from spaarsist.reporting.report import build_pdf, write_report
from test_tables_latency import ABOUT, TIMES, without, write_backend_file, write_detector_file

CORPORA = [("home", "Home & garden"), ("wild", "In-the-Wild-like")]
WITH_LATEX = pytest.mark.skipif(not shutil.which("latexmk"), reason="latexmk is not installed")
NAMES = {"aasist", "rankone", "rankonemean", "asvspoof", "xlsr", "thinned", "thinnedmean"}
"""The macros of the report's preamble that hold digits: names, no results."""


def prose(text):
    """The report's text without comments and without what is not prose: values, references, files, lengths."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    body = text[text.index(r"\begin{document}") :]
    body = re.sub(
        r"\\(?:(?:newgeometry|(?:set(?:length|counter)\{\S+?\}))\{.*?\}|pdfbookmark\[.*?\]|begin\{tabular\}.*)",
        " ",
        body,
    )
    body = re.sub(r"\\(val|cite|ref|input|label|begin|end)\{[^{}]*\}", " ", body)
    body = re.sub(r"\\(?:shown|drawn)\{[a-z_]+\}(\{(?:[^{}]|\{[^{}]*\})*\})\{[.\d]+\}", r"\1", body)
    return re.sub(r"\\parbox\{[^{}]*\}", " ", body)


MAIN = REPOSITORY / "paper" / "main.tex"
SUPPLEMENT = r"\input{supplement}"
SOURCE = MAIN.read_text().replace(SUPPLEMENT, (MAIN.parent / "supplement.tex").read_text())
FLAGS = (
    *("papercorpora", "labelled", "speed", "speedoncpu", "temperature", "ablationtrained", "rankone", "asked"),
    "planted",
)
TIMED = re.compile(r"(backend|detector|training|scoring)\.")
"""Keys of what is measured with a clock."""


def chosen(text, true):
    """What LaTeX makes of the text's conditionals where these flags are true."""
    kept, open_branches = [], []
    for part in re.split(rf"(\\if(?:{'|'.join(FLAGS)})(?![a-z])|\\else(?![a-z])|\\fi(?![a-z]))", text):
        if part.startswith(r"\if"):
            open_branches.append(part.removeprefix(r"\if") in true)
        elif part == r"\else":
            open_branches[-1] = not open_branches[-1]
        elif part == r"\fi":
            open_branches.pop()
        elif all(open_branches):
            kept.append(part)
    assert not open_branches
    text = "".join(kept)
    for macro, name in re.findall(r"\\newcommand\{(\\thinned[a-z]*)\}\{ *(.*?)\}", text):
        text = re.sub(rf"{re.escape(macro)}(?![a-z])", name, text)
    return text


def flags_of(macros):
    """The flags that a file of macros sets to true, and that it knows all."""
    assert re.findall(r"\\newif\\if([a-z]+)", macros) == re.findall(r"\\([a-z]+?)(?:true|false)\n", macros)
    assert {*re.findall(r"\\newif\\if([a-z]+)", macros)} == {*FLAGS}
    return {*re.findall(r"\\([a-z]+)true\n", macros)}


def test_no_number_is_typed_by_hand():
    typed = re.findall(r"[^\n]*[0-9][^\n]*", prose(SOURCE))
    assert not typed, typed


@pytest.mark.parametrize(
    "sentence",
    [
        "The EER falls to 2.8\\,\\%.",
        "It wins by $0.3$.",
        "% fine\nA saving of 7 parameters.",
        "\\val{C1.ours} of 5 runs",
    ],
)
def test_a_typed_number_is_found(sentence):
    text = SOURCE.replace(r"\section{Limits}", rf"\section{{Limits}} {sentence}")
    assert re.search(r"[0-9]", prose(text))


def test_digits_in_the_preamble_are_names_and_settings():
    """Nothing that looks like a result may hide in a macro."""
    preamble = SOURCE[: SOURCE.index(r"\begin{document}")]
    with_digits = re.findall(r"\\newcommand\{\\(\w+)\}\{[^\n]*\d", preamble)
    assert set(with_digits) <= NAMES


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    systems = {
        "AST-05-05": {"n_params": 611784, "n_macs": 713035196, "n_params_as_run": 300, "code_hash": "a+b"},
        "MHFA": {"n_params": 4461904, "n_macs": 68411392, "code_hash": "a"},
    }
    values = {
        "AST-05-05": (0.12345, 0.0149, 0.1, 0.14567, None, None),
        "MHFA": (0.5, None, None, None, None, None),
    }
    for name, cells in systems.items():
        cells |= {"home.n_seeds": 2, "wild.n_seeds": 2, "home.n_speakers": 0, "wild.n_speakers": 1200}
        for (corpus, _), metric in product(CORPORA, ("eer", "min_dcf", "act_dcf", "cllr", "ece")):
            cells |= {on(corpus, metric, part): v for part, v in zip(STATISTICS, values[name], strict=True)}
    systems["AST-05-05"] |= {"wild.eer.speakers_low": 0.09, "wild.eer.speakers_high": 0.2}
    systems["MHFA"] |= {"wild.eer.speakers_low": 0.4, "wild.eer.speakers_high": 0.6}
    ledger = pd.DataFrame(
        {"claim_id": ["C1", "C5a", "C4b", "C7"], "claimed": ["195.045", "4.64", "586434", "-20"],
         "unit": ["M", "%", "", "%"], "ours": ["713.035 M", "", "1", "-9 % [-12, +1], p < 0.001 (AST-05-05)"],
         "verdict": ["differs", "not run", "reproduced", "consistent"], "since": ["2026-11-23"] * 4}
    )  # fmt: skip
    tables = {
        "composite": pd.DataFrame(
            {"system": ["AST-05-05", "MHFA"], "composite": [1, 0.5], "rank": [2, 1], "first_share": [0.25, 0.75],
             "rank_ci_low": [1, 1], "rank_ci_high": [4, 2]}
        ),
        "findings": pd.DataFrame(
            [("F1_params_mag", 611522, "parameters"), ("F3_saving", 0.0213, "fraction"), ("F10_gap", 16.6355, "nats"),
             ("F6_threshold", -0.64185, "nats"), ("F4_moved", 4.15e-07, "1")],
            columns=["quantity", "value", "unit"],
        ),
        "ledger": ledger.reindex(columns=LEDGER_COLUMNS),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    write_summary(tmp_path / "summary.tsv", systems)
    counted = {name: (cells["n_params"], cells["n_macs"]) for name, cells in systems.items()}
    counted["AST-03-01-Mag"] = 611522, 698369532  # sized, not trained
    sizes = [{"system": name, "n_params": params, "n_macs": macs} for name, (params, macs) in counted.items()]
    about = {"n_macs_linear": 1, "n_macs_frontend": 1, "counter": "fvcore", "n_frames": 201, "feature_dim": 1024}
    write_tsv(tmp_path / "sizes.tsv", sizes, **about, n_layers=24, embedding_dim=1024)
    recipe = {"frontend": {"model": "a_b"}, "crop": 64600, "backend": {"embedding_dim": 1024},
              "keep_better_stage": True,
              "stages": [{"epochs": 10, "batch_size": 64, "train_frontend": False},
                         {"epochs": 5, "batch_size": 32, "train_frontend": True}]}  # fmt: skip
    record = {"recipe": recipe, "n_layers": 24, "provenance": {"code_hash": "c0de", "torch": "2.11.0"}}
    write_record(tmp_path / "model.json", **record)

    (facts := tmp_path / "facts").mkdir()
    write_tsv(facts / "quantities.tsv", [{"quantity": "F3_macs", "value": 713035196, "unit": "MACs"}])
    write_tsv(facts / "facts.tsv", [{"fact": "F3d", "obtained": "-20.68 %"}])
    for table in ("macs", "saving", "facts"):
        (facts / f"{table}.tex").write_text(f"Here is {table}.\n\n")
    settings = {name: tmp_path / f"{name}.tsv" for name in ("summary", "sizes", *tables)}
    settings["facts"] = facts
    settings |= {"record": tmp_path / "model.json", "corpora": CORPORA, "paper_corpora": False}
    settings |= dict.fromkeys(("comparisons", "calibration", "inspected"), ())

    def write(pdf=lambda *paths: None, **others):
        """The file of macros and the values in it; `pdf` compiles."""
        monkeypatch.setattr(report, "build_pdf", pdf)
        write_report(MAIN, tmp_path, tmp_path / "main.pdf", **settings | others)
        text = (tmp_path / "paper" / "macros.tex").read_text()
        return text, dict(re.findall(r"\\csname val@(.*?)\\endcsname\{(.*)\}$", text, re.MULTILINE))

    write.settings = settings
    write.folder = tmp_path
    return write


def test_values(inputs):
    text, values = inputs(label="100 % mini")
    expected = {
        "AST-05-05.params": "611,784",
        "AST-05-05.macs": "713.0",
        "AST-05-05.params_as_run": "300",
        "run.code": "a, b",
        "recipe.frozen": "frozen, then trained",
        "AST-03-01-Mag.params": "611,522",
        "AST-03-01-Mag.macs": "698.4",
        "AST-05-05.in.eer": "12.3",
        "MHFA.out.eer": "50.0",
        "AST-05-05.in.eer.ci": "{[}10.0, 14.6{]}",
        "AST-05-05.out.min_dcf.ci": "{[}0.100, 0.146{]}",
        "AST-05-05.out.eer.speakers": "{[}9.0, 20.0{]}",
        "run.speakers.out": "1,200",
        "C7.claimed": r"$-$20~\%",
        "C7.ours": r"$-$9~\% {[}$-$12, +1{]}, p \textless{} 0.001 (AST-05-05)",
        "MHFA.out.cllr": "0.500",
        "MHFA.composite": "0.50",
        "MHFA.first": "75",
        "AST-05-05.rank.ci": "{[}1, 4{]}",
        "composite.1": "MHFA",
        "composite.2": "AST-05-05",
        "F1_params_mag": "611,522",
        "F3_saving": "2.1",
        "F3_macs": "713.0",
        "F3d.obtained": r"$-$20.68~\%",
        "facts.frames": "437",
        "F10_gap": "16.6",
        "F6_threshold": "$-$0.642",
        "F4_moved": r"\ensuremath{4.15\times10^{-7}}",
        "C1.claimed": "195.045~M",
        "C5a.claimed": r"4.64~\%",
        "C4b.claimed": "586,434",
        "C1.verdict": "differs",
        "C5a.ours": "--",
        "C7.since": "2026-11-23",
        "facts.all": "1",
        "facts.commit": "62f06a6a81c4",
        "verdict.C.differs": "1",
        "verdict.C.consistent": "1",
        "verdict.C.reproduced for another system": "0",
        "verdict.C.not comparable": "0",
        "verdict.C.all": "4",
        "verdict.F.all": "0",
        "composite.1.first": "75",
        "run.label": r"100 \% mini",
        "run.in": r"Home \& garden",
        "run.seeds": "2",
        "recipe.epochs": "10 + 5",
        "recipe.frontend": r"a\_b",
    }
    assert {key: values[key] for key in expected} == expected
    assert "run.replicates" not in values and "AST-03-01-Mag.in.eer" not in values
    assert (
        values["MHFA.in.eer.ci"] == values["AST-05-05.in.eer.speakers"] == "--"
        and values["run.speakers.in"] == "unknown"
    )
    assert not any(re.match(r"tested|significant|dial|nodes|stack|.*\.(diff|dev)(\.|$)", key) for key in values)
    assert flags_of(text) == {"labelled"} and flags_of(inputs()[0]) == set()


def test_one_switch_says_whose_corpora_these_are(inputs):
    """The label is a remark, of the paper's corpora as of others."""
    macros, values = inputs(paper_corpora=True, label="front-end in bfloat16")
    assert flags_of(macros) == {"papercorpora", "labelled"} and values["run.label"] == "front-end in bfloat16"
    text = chosen(SOURCE, flags_of(macros))
    assert r"A remark on this run: \val{run.label}." in text and r"\textbf{\val{run.label}.}" in text
    of_others = ("stand-in", "small front-end", "not made from", "no claim is judged", "remains open", "looked at")
    assert not [words for words in of_others if words in text]
    macros, _ = inputs(paper_corpora=True)
    assert flags_of(macros) == {"papercorpora"} and "run.label" not in chosen(SOURCE, flags_of(macros))
    macros, _ = inputs()
    text = chosen(SOURCE, flags_of(macros))
    assert not [words for words in of_others if words not in text] and "run.label" not in text


SYSTEMS_ALONE = re.compile(r"AST-03-01-Mag(Mean)?\.(in|out|rank|composite|first)\b")
"""Keys of the paper's best system that only a run which trains it has."""


def test_the_text_needs_no_more_than_is_given():
    """Whatever a run may lack: its numbers, tables and figures, and what refers to them."""
    for switches in product((True, False), repeat=len(FLAGS)):
        true = {flag for flag, on in zip(FLAGS, switches, strict=True) if on}
        text = chosen(SOURCE, true)
        body = text[text.index(r"\begin{document}") :]
        keys = re.findall(r"\\val\{(.*?)\}", body)
        assert not [key for key in keys if "\\" in key]
        assert any(TIMED.match(key) for key in keys) == ("speed" in true)
        for family, flag in {"temperature": "temperature", "ablation_trained": "ablationtrained"}.items():
            assert any(key.startswith(f"tested.{family}") for key in keys) == (flag in true)
        assert any(SYSTEMS_ALONE.match(key) for key in keys) == ("rankone" in true)
        assert {"answers.all" in keys, "tables/questions" in text} == {"asked" in true}
        assert {"planted.learned.more" in keys, "tables/planted" in text} == {"planted" in true}
        assert ("fig:temperature" in text) == (r"\shown{temperature}" in text) == ("temperature" in true)
        labels = {f"fig:{name}" for name in re.findall(r"\\(?:shown|drawn)\{([a-z_]+)\}", text)}
        other = {"table1": "systems", "table2": "backends", "stack_attention": "stack"}
        tables = re.findall(r"\\input\{(?:tables/)?([a-z_0-9]+)\}", body)
        labels |= {f"tab:{other.get(name, name)}" for name in tables} | {*re.findall(r"\\label\{(tab:\w+)\}", body)}
        assert {*re.findall(r"\\ref\{(.*?)\}", text)} <= labels
        assert ({"latency", "detector"} <= {*tables}) == ("speed" in true)
        assert ("latency" in tables) == ("fig:latency" in labels)


def test_the_text_before_the_supplement_is_short():
    text = MAIN.read_text()
    assert text.count(SUPPLEMENT) == 1 and text.index(r"\bibliography{") < text.index(SUPPLEMENT)
    body = text[text.index(r"\begin{document}") : text.index(SUPPLEMENT)]
    figures, tables = (len(re.findall(p, body)) for p in (r"\\(?:shown|drawn)\{", r"\\input\{|\\begin\{table"))
    assert 0 < figures <= 8 and 0 < tables <= 6


def test_the_title_claims_no_accuracy_that_was_not_run():
    for true, expected in ((set(), True), ({"papercorpora"}, False)):
        title = re.search(r"\\newcommand\{\\reporttitle\}\{(.*)\}", chosen(SOURCE, true))[1]
        assert title.startswith("SpAArSIST: re-implementation and audit")
        assert ("accuracy not yet replicated" in title) == expected


def test_what_is_cited_is_there():
    """The paper's code at the commit that the facts are of, and all of its authors."""
    bibliography = (MAIN.parent / "references.bib").read_text()
    known = re.findall(r"^@\w+\{(\w+),", bibliography, re.MULTILINE)
    cited = {key for keys in re.findall(r"\\cite\{(.*?)\}", SOURCE) for key in keys.split(",")}
    assert cited <= {*known} and {"firc2026code", "babu2022xlsr", "fvcore", "ptflops"} <= cited
    assert COMMIT[:12] in bibliography
    authors = re.search(r"firc2026spaarsist,.*?author = \{(.*?)\},\n", bibliography, re.DOTALL)[1].split(" and ")
    assert len(authors) == 5 and "others" not in authors


def comparison(folder, family, *rows):
    """(system, reference, corpus, metric, difference, ci_low, ci_high, p_holm)."""
    columns = ["system", "reference", "corpus", "metric", "difference", "ci_low", "ci_high", "p_holm"]
    path = folder / "comparisons" / f"{family}.tsv"
    path.parent.mkdir(exist_ok=True)
    return write_tsv(
        path, [dict(zip(columns, row, strict=True)) for row in rows], n_seeds=2, value=1, reference_value=1
    )


def test_differences(inputs):
    files = [
        comparison(
            inputs.folder, "baseline",
            ("MHFA", "AST-05-05", "home", "eer", -0.01239, -0.02, 0.00004, 0.0123),
            ("MHFA", "AST-05-05", "home", "min_dcf", 0, 0, 0, 1),
            ("MHFA", "AST-05-05", "wild", "eer", 0.1, 0.05, 0.15, 0),
            ("MHFA", "AST-05-05", "wild", "cllr", -1.5, -2, -1, None),
            ("SLS", "AST-05-05", "wild", "eer", 0.1, None, None, 0.0499),
            ("SLS", "AST-05-05", "elsewhere", "eer", 0.1, 0, 1, 0.001),
        ),
        comparison(
            inputs.folder, "ablation",
            ("AST-05-05-Mag", "AST-05-05-MagGate", "home", "eer", -0.0004, -0.01, 0.01, 0.05),
            ("MHFA", "AST-05-05", "home", "eer", 0.5, 0.4, 0.6, 0.5),
        ),
        comparison(inputs.folder, "temperature", ("MHFA", "AST-05-05", "home", "eer", 0.9, 0.8, 1, 0.00099)),
    ]  # fmt: skip
    _, values = inputs(comparisons=files)
    found = {k: v for k, v in values.items() if re.search(r"\.diff(\.|$)|^(significant|tested)", k)}
    assert found == {
        "MHFA.in.eer.diff": "$-$1.2",
        "MHFA.in.eer.diff.ci": "{[}$-$2.0, 0.0{]}",
        "MHFA.in.eer.diff.p": "0.012",
        "MHFA.in.min_dcf.diff": "0.000",
        "MHFA.in.min_dcf.diff.ci": "{[}0.000, 0.000{]}",
        "MHFA.in.min_dcf.diff.p": "1.000",
        "MHFA.out.eer.diff": "+10.0",
        "MHFA.out.eer.diff.ci": "{[}+5.0, +15.0{]}",
        "MHFA.out.eer.diff.p": r"\textless{} 0.001",
        "MHFA.out.cllr.diff": "$-$1.500",
        "MHFA.out.cllr.diff.ci": "{[}$-$2.000, $-$1.000{]}",
        "SLS.out.eer.diff": "+10.0",
        "SLS.out.eer.diff.p": "0.050",
        "AST-05-05-Mag/AST-05-05-MagGate.in.eer.diff": "0.0",
        "AST-05-05-Mag/AST-05-05-MagGate.in.eer.diff.ci": "{[}$-$1.0, +1.0{]}",
        "AST-05-05-Mag/AST-05-05-MagGate.in.eer.diff.p": "0.050",
        "MHFA/AST-05-05.in.eer.diff": "+50.0",
        "MHFA/AST-05-05.in.eer.diff.ci": "{[}+40.0, +60.0{]}",
        "MHFA/AST-05-05.in.eer.diff.p": "0.500",
        "tested.baseline": "5",
        "tested.baseline.in.eer": "1",
        "tested.baseline.in.min_dcf": "1",
        "tested.baseline.out.eer": "2",
        "significant.baseline.in.eer": "1",
        "significant.baseline.in.min_dcf": "0",
        "significant.baseline.out.eer": "2",
        "tested.ablation": "2",
        "tested.ablation.in.eer": "2",
        "significant.ablation.in.eer": "0",
        "tested.temperature": "1",
        "tested.temperature.in.eer": "1",
        "significant.temperature.in.eer": "1",
    }


def test_the_flat_region_of_the_dial(inputs):
    """What is joined to k in training without a significant difference between."""

    def rows(reference, corpus, column, metric="eer", **p):
        names = [f"AST-05-{k[1:]}{column}" for k in p]
        return [(n, reference, corpus, metric, 0.1, 0, 1, value) for n, value in zip(names, p.values(), strict=True)]

    path = comparison(
        inputs.folder, "k_sweep",
        *rows("AST-05-05", "home", "", k002=0.9, k01=0.01, k10=0.05, k03=0.05, k07=1),
        *rows("AST-05-05", "wild", "", k002=0.06, k01=0.06, k03=0.0499, k07=0.0499, k10=1),
        *rows("AST-05-05-MagUni", "home", "-MagUni", k02=0.3, k01=0.2, k005=0.049),
        *rows("AST-05-05-MagUni", "home", "-MagUni", metric="min_dcf", k02=0.001, k07=0.9),
        ("AST-03-10", "AST-03-03", "home", "eer", 0.1, 0, 1, 0.8),
    )  # fmt: skip
    _, values = inputs(comparisons=[path])
    assert {k: v for k, v in values.items() if k.startswith("dial")} == {
        "dial.05.Base.in.flat": "0.3 to 1",
        "dial.05.Base.out.flat": "0.5",
        "dial.05.MagUni.in.flat": "0.1 to 0.5",
        "dial.03.Base.in.flat": "0.3 to 1",
    }


def test_calibration(inputs):
    """Means over seeds; rates in percent; the development corpus is the one that the map was fitted on."""
    of_seeds = {
        ("MHFA", "dev", "slope"): (-0.1, -0.3), ("MHFA", "dev", "threshold_dev_eer"): (1, float("-inf")),
        ("MHFA", "dev", "eer"): (0.1, 0.2), ("MHFA", "home", "eer"): (0.5, 0.5), ("MHFA", "home", "cllr"): (7, 7),
        ("MHFA", "home", "n_spoof"): (1500, 1500), ("MHFA", "home", "p_miss_at_dev_eer"): (0.01, 0.02),
        ("MHFA", "wild", "p_fa_at_dev_min_dcf"): (1, 1), ("MHFA", "wild", "gap_calibrated"): (0.2, None),
        ("MHFA", "wild", "dcf_at_dev_min_dcf"): (1.9, 1.8), ("MHFA", "third", "gap"): (1, 1),
        ("AST-05-05", "wild", "cllr_calibrated"): (0.5, 0.75), ("AST-05-05", "wild", "slope"): (None, None),
    }  # fmt: skip
    files = []
    for seed in (1, 2):
        files.append(inputs.folder / f"seed{seed}.tsv")
        rows = [dict(zip(("system", "corpus", "quantity"), key, strict=True)) for key in of_seeds]
        rows = [row | {"value": values[seed - 1]} for row, values in zip(rows, of_seeds.values(), strict=True)]
        write_tsv(files[-1], [row for row in rows if row["corpus"] != "wild" or row["quantity"] != "slope"], seed=seed)
    _, values = inputs(calibration=files)
    _, without = inputs()
    assert {key: values[key] for key in values.keys() - without.keys()} == {
        "MHFA.dev.slope": "$-$0.200",
        "MHFA.dev.slope.seeds": "$-$0.300 to $-$0.100",
        "MHFA.dev.eer": "15.0",
        "MHFA.dev.eer.seeds": "10.0 to 20.0",
        "MHFA.in.eer.seeds": "50.0 to 50.0",
        "MHFA.in.cllr.seeds": "7.000 to 7.000",
        "MHFA.in.n_spoof": "1,500",
        "MHFA.in.n_spoof.seeds": "1,500 to 1,500",
        "MHFA.in.p_miss_at_dev_eer": "1.5",
        "MHFA.in.p_miss_at_dev_eer.seeds": "1.0 to 2.0",
        "MHFA.out.p_fa_at_dev_min_dcf": "100.0",
        "MHFA.out.p_fa_at_dev_min_dcf.seeds": "100.0 to 100.0",
        "MHFA.out.dcf_at_dev_min_dcf": "1.850",
        "MHFA.out.dcf_at_dev_min_dcf.seeds": "1.800 to 1.900",
        "MHFA.out.gap_calibrated": "--",
        "MHFA.out.gap_calibrated.seeds": "--",
        "AST-05-05.out.cllr_calibrated": "0.625",
        "AST-05-05.out.cllr_calibrated.seeds": "0.500 to 0.750",
    }
    assert {key: values[key] for key in without} == without  # EER and Cllr in domain are the summary's


def inspected(folder, number=0, **rows):
    """A folder as `inspect` leaves it: these rows of the files that are named, nothing in the others."""
    folder = folder / f"inspected{number}"
    folder.mkdir()
    for name in ("nodes", "agreement", "stack"):
        pd.DataFrame(rows.get(name, []), columns=COLUMNS[name]).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    return folder


def test_nodes(inputs):
    """Means over poolings and seeds of all trials on these corpora."""
    columns = ("seed", "corpus", "label", "layer", "k", "jaccard", "chance", "spearman")
    rows = [
        (1, "home", "all", "spectral_pool", 0.1, 0.1, 0.05, -0.5),
        (1, "home", "all", "branches.0.spectral_pool", 0.1, 0.2, 0.05, -0.3),
        (2, "home", "all", "spectral_pool", 0.1, 0.6, 0.08, -0.1),
        (1, "home", "bonafide", "spectral_pool", 0.1, 1, 1, 1),
        (1, "wild", "all", "spectral_pool", 0.02, 0.25, 0.25, None),
        (1, "third", "all", "spectral_pool", 0.1, 1, 1, 1),
    ]
    rows = [{"trained": "AST-05"} | dict(zip(columns, row, strict=True)) for row in rows]
    _, values = inputs(inspected=[inspected(inputs.folder, i, nodes=rows[i::2]) for i in range(2)])
    assert {k: v for k, v in values.items() if k.startswith("nodes")} == {
        "nodes.05.in.01.jaccard": "0.30",
        "nodes.05.in.01.chance": "0.06",
        "nodes.05.in.01.spearman": "$-$0.30",
        "nodes.05.out.002.jaccard": "0.25",
        "nodes.05.out.002.chance": "0.25",
    }


def test_agreement_and_score_changes(inputs):
    """Of all trials in all quartiles, mean over seeds."""
    folders = []
    for seed, change, rho in ((1, 1.0, -0.5), (2, 3.0, 0.1)):
        row = {"trained": "AST-05", "seed": seed, "corpus": "home", "label": "all", "k": 0.1, "variant": "Mag"}
        rows = [row | {"quartile": "all", "score_change": change, "spearman": rho}]
        rows += [row | {"quartile": "1", "score_change": 9}, rows[0] | {"label": "spoof", "score_change": 8}]
        folders.append(inspected(inputs.folder, seed, agreement=rows))
    _, values = inputs(inspected=folders)
    assert {k: v for k, v in values.items() if "Mag" in k and k.startswith("nodes")} == {
        "nodes.05.in.01.Mag.change": "2.00",
        "nodes.05.in.01.Mag.spoof": "$-$0.20",
    }


def test_stack(inputs):
    columns = ("seed", "corpus", "label", "quantity", "layer", "stack_temperature", "aggregation", "value")
    rows = [
        (1, "home", "all", "entropy", "a", 100, "attention", 0.99991),
        (1, "home", "all", "entropy", "b", 100, "attention", 0.99993),
        (2, "home", "all", "entropy", "a", 100, "attention", 0.9997),
        (1, "home", "all", "entropy", "a", 0.1, "attention", 0.5),
        (1, "home", "spoof", "entropy", "a", 100, "attention", 0.1),
        (1, "wild", "all", "total_variation", "a", 100, "attention", 1.234e-5),
        (1, "wild", "all", "largest_weight_times_n", "a", 100, "attention", 1.2e7),
        (1, "wild", "all", "stack_node_spread", None, None, "attention", 0.0123456),
        (1, "wild", "all", "stack_node_spread", None, None, "linear", 0),
        (1, "wild", "all", "other_nodes_spread", None, None, "uniform", 0.5),
        (1, "wild", "all", "score_change", None, None, "uniform", 0.25),
        (2, "wild", "all", "score_change", None, None, "uniform", 0.75),
        (1, "wild", "all", "score_change_relative", None, 100, "linear", 2),
        (1, "wild", "all", "score_change_spearman", None, None, "linear", -0.5),
        (1, "wild", "all", "something_new", None, None, "linear", 1),
        (1, "third", "all", "score_change", None, None, "linear", 1),
    ]
    rows = [{"trained": "AST-03"} | dict(zip(columns, row, strict=True)) for row in rows]
    _, values = inputs(inspected=[inspected(inputs.folder, stack=rows)])
    assert {k: v for k, v in values.items() if k.startswith("stack")} == {
        "stack.AST-03.in.100.entropy": "0.9998",
        "stack.AST-03.in.0.1.entropy": "0.5000",
        "stack.AST-03.out.100.total_variation": r"\ensuremath{1.23\times10^{-5}}",
        "stack.AST-03.out.100.largest_weight": r"\ensuremath{1.2\times10^{7}}",
        "stack.AST-03.out.spread.attention": "0.0123",
        "stack.AST-03.out.spread.linear": "0",
        "stack.AST-03.out.other_spread.uniform": "0.5",
        "stack.AST-03.out.change.uniform": "0.5",
        "stack.AST-03.out.change_relative.linear": "2",
        "stack.AST-03.out.correlation.linear": "$-$0.500",
    }


def trained_as_rank_one(inputs):
    """In the summary, the second system is the paper's best."""
    path = inputs.settings["summary"]
    table = pd.read_csv(path, sep="\t", dtype=str)
    table.assign(system=table["system"].replace("MHFA", "AST-03-01-Mag")).to_csv(path, sep="\t", index=False)


def test_a_run_that_trains_the_paper_s_best_system(inputs):
    """Its text is about that system; else about what is nearest to it."""
    trained_as_rank_one(inputs)
    text, values = inputs()
    assert flags_of(text) == {"rankone"} and values["AST-03-01-Mag.out.eer"] == "50.0"
    assert r"\val{AST-03-01-Mag.out.eer}" in chosen(SOURCE, {"rankone"})
    assert r"\val{AST-05-01-Mag.out.eer}" in chosen(SOURCE, set())


def test_answers_and_planted_stretches(inputs):
    verdicts = ["equivalent", "inconclusive", "equivalent", "different"]
    answers = write_tsv(inputs.folder / "answers.tsv", [{"verdict": verdict} for verdict in verdicts])
    ends = [("learned", 0.1, 0.3), ("learned", -0.1, 0.3), ("learned", 0, 0.3), ("magnitude", -0.3, -0.1)]
    planted = write_tsv(
        inputs.folder / "planted.tsv", [dict(zip(("scorer", "low", "high"), row, strict=True)) for row in ends]
    )
    text, values = inputs(answers=answers, planted=planted)
    assert flags_of(text) == {"asked", "planted"}
    assert {key: value for key, value in values.items() if re.match(r"answers|planted", key)} == {
        "answers.all": "4",
        "answers.equivalent": "2",
        "answers.different": "1",
        "answers.inconclusive": "1",
        "planted.learned.all": "3",
        "planted.learned.more": "1",
        "planted.learned.less": "0",
        "planted.magnitude.all": "1",
        "planted.magnitude.more": "0",
        "planted.magnitude.less": "1",
    }


def test_the_number_of_replicates(inputs):
    assert inputs(bootstrap=1000)[1]["run.replicates"] == "1,000"


TRAINING = [
    ("reference", "default", "float32", 900),
    ("plain", "default", "float32", 600),
    ("reference", "kept", "float32", 450),
    ("plain", "kept", "float32", 8.764),
]
ON_GPU = [(form, "default", precision, 9) for form in ("reference", "plain") for precision in ("float32", "bfloat16")]


def speed(folder, times=TIMES, training=TRAINING, **about):
    """A folder of speed files."""
    folder = folder / "speed"
    folder.mkdir(exist_ok=True)
    write_backend_file(folder, times)
    write_detector_file(folder)
    steps = [dict(zip(("form", "memory", "precision", "median_ms"), step, strict=True)) for step in training]
    write_tsv(folder / "training.tsv", steps, batch_size=64, n_frames=201, iqr_ms=0.25, **ABOUT | about)
    quantities = {"table1_one_by_one": 640, "table1_shared": 77, "table1_ratio": 8.303, "loader_tar": 12345.6}
    rows = [{"quantity": name, "value": value} for name, value in quantities.items()]
    write_tsv(folder / "scoring.tsv", rows, unit="1", how="somehow")
    return folder


def test_speed(inputs):
    """Changes with their signs, against the baseline; times in three digits; batches by size, not by number."""
    text, values = inputs(speed=speed(inputs.folder))
    expected = {
        "backend.small": "1",
        "backend.large": "8",
        "backend.frames": "201",
        "backend.machine": r"AMD EPYC \& co. 9R14, 2 cores",
        "backend.threads": "2",
        "backend.rounds": "15",
        "backend.device": "cpu",
        "backend.difference": r"\ensuremath{4\times10^{-7}}",
        "backend.AST-03-01-Mag.params.change": "$-$5.0",
        "backend.AST-03-01-Mag.macs.change": "$-$2.0",
        "backend.AST-03-01-Mag.small.floor": "4.40",
        "backend.AST-03-01-Mag.large.floor": "27.0",
        "backend.AST-03-01-Mag.compiled.small.ms": "4.00",
        "backend.AST-03-01-Mag.compiled.small.iqr": "0.550",
        "backend.AST-03-01-Mag.compiled.small.change": "$-$20.0",
        "backend.AST-03-01-Mag.compiled.small.faster": "3.0",
        "backend.AST-03-01-Mag.compiled.small.floor": "110",
        "backend.AST-03-01-Mag.plain.large.change": "+1.0",
        "backend.AST-05-05.reference.large.ms": "120",
        "backend.AST-05-05.compiled.large.floor": "75",
        "backend.AST-05-05.compiled.large.change": "--",
        "detector.frontend.params": "298,000,000",
        "detector.frontend.macs": "69,200.0",
        "detector.frontend.ms": "990",
        "detector.frontend.iqr": "15.0",
        "detector.frontend.share": "99.0",
        "detector.AST-03-01-Mag.ms": "6.00",
        "detector.AST-03-01-Mag.whole.ms": "998",
        "detector.AST-03-01-Mag.params.change": "$-$5.0",
        "detector.AST-03-01-Mag.macs.change": "$-$2.0",
        "detector.AST-03-01-Mag.ms.change": "$-$25.0",
        "detector.AST-03-01-Mag.whole.params.change": "$-$0.01",
        "detector.AST-03-01-Mag.whole.macs.change": "$-$0.02",
        "detector.AST-03-01-Mag.whole.ms.change": "$-$0.20",
        "detector.one_variant.ms": "1,010",
        "detector.all_variants.ms": "1,111",
        "detector.all_variants.change": "+10.0",
        "detector.all_variants.variants": "9",
        "training.batch": "64",
        "training.reference.default.float32.faster": "1.0",
        "training.plain.default.float32.ms": "600",
        "training.plain.default.float32.faster": "1.5",
        "training.plain.kept.float32.ms": "8.76",
        "training.plain.kept.float32.iqr": "0.250",
        "training.plain.kept.float32.faster": "102.7",
        "scoring.table1_ratio": "8.30",
        "scoring.loader_tar": "12,346",
        "scoring.table1_shared": "77.0",
    }
    assert {key: values[key] for key in expected} == expected
    assert flags_of(text) == {"speed", "speedoncpu"}
    assert not any(TIMED.match(key) for key in inputs()[1])


def test_speed_on_a_gpu(inputs):
    text, values = inputs(speed=speed(inputs.folder, training=ON_GPU, device="cuda"))
    assert flags_of(text) == {"speed"} and values["training.plain.default.bfloat16.faster"] == "1.0"


def test_one_batch_size_is_small_and_large(inputs):
    times = {key: value for key, value in TIMES.items() if key[1] == 8}
    _, values = inputs(speed=speed(inputs.folder, times))
    assert values["backend.small"] == values["backend.large"] == "8"
    assert values["backend.AST-05-05.plain.small.ms"] == values["backend.AST-05-05.plain.large.ms"] == "100"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("backend", without(system="AST-05-05"), "holds no reference form of AST-05-05"),
        ("detector", without(part="frontend"), "holds no frontend; make it anew"),
        ("training", without(form="reference"), "among them reference, default, float32; make it anew"),
        ("training", lambda table: pd.concat([table, table]), "needs every form, memory and precision once"),
        ("training", lambda table: table.drop(columns="iqr_ms"), "columns missing: iqr_ms"),
        ("scoring", lambda table: pd.concat([table, table]), "holds a quantity twice; make it anew"),
        ("scoring", lambda table: table.assign(value="fast"), "not a readable TSV"),
    ],
)
def test_broken_speed_files(inputs, file, change, message):
    folder = speed(inputs.folder)
    path = folder / f"{file}.tsv"
    change(pd.read_csv(path, sep="\t")).to_csv(path, sep="\t", index=False)
    with pytest.raises(ConfigError, match=rf"{file}\.tsv: .*{message}"):
        inputs(speed=folder)


@pytest.mark.parametrize(("training", "device"), [(TRAINING, "cpu"), (ON_GPU, "cuda")])
def test_every_time_that_the_text_tells_is_there(inputs, training, device):
    """Kept memory on a CPU, bfloat16 on a GPU."""
    macros, values = inputs(speed=timed_three(inputs.folder, training=training, device=device))
    told = [key for key in re.findall(r"\\val\{(.*?)\}", chosen(SOURCE, flags_of(macros))) if TIMED.match(key)]
    assert len(told) > 40 and not {*told} - values.keys()


def timed_three(folder, **others):
    """Speed files with the third system that the text tells of."""
    folder = speed(folder, **others)
    for name in ("backend", "detector"):
        table = pd.read_csv(folder / f"{name}.tsv", sep="\t")
        third = table[table["system"] == "AST-03-01-Mag"].assign(system="AST-03-01-MagMean")
        pd.concat([table, third]).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    return folder


@pytest.mark.parametrize(
    ("source", "row", "message"),
    [
        ("calibration", {"system": "MHFA", "corpus": "home", "quantity": "gap", "seed": 1}, "missing: value"),
        ("comparisons", {"system": "MHFA", "reference": "AST-05-05"}, "missing: corpus, metric"),
        (
            "calibration",
            {"system": "MHFA", "corpus": "home", "quantity": "gap", "seed": 1, "value": "much"},
            "other.tsv: not a readable TSV",
        ),
    ],
)
def test_broken_files(inputs, source, row, message):
    path = write_tsv(inputs.folder / "other.tsv", [row])
    with pytest.raises(ConfigError, match=message):
        inputs(**{source: [path]})


@pytest.mark.parametrize(("name", "message"), [("nodes", "k, seed, layer"), ("agreement", "k"), ("stack", "quantity")])
def test_broken_folders(inputs, name, message):
    folder = inspected(inputs.folder)
    write_tsv(folder / f"{name}.tsv", [{"trained": "AST-05", "corpus": "home", "label": "all"}])
    with pytest.raises(ConfigError, match=rf"{name}\.tsv: columns missing: {message}"):
        inputs(inspected=[folder])
    (folder / f"{name}.tsv").unlink()
    with pytest.raises(ConfigError, match=rf"{name}\.tsv: not a readable TSV"):
        inputs(inspected=[folder])


def test_settings_as_json_gives_them(inputs):
    """Paths as texts, pairs as lists: what the command line passes on."""
    row = ("MHFA", "AST-05-05", "home", "eer", -0.01239, -0.02, 0.00004, 0.0123)
    others = {"comparisons": [comparison(inputs.folder, "temperature", row)], "speed": speed(inputs.folder)}
    others |= {"inspected": [inspected(inputs.folder)], "bootstrap": 100, "label": "a_b"}
    expected, _ = inputs(**others)
    (inputs.folder / "paper" / "macros.tex").unlink()
    places = {"source": MAIN, "results": inputs.folder, "output": inputs.folder / "main.pdf"}
    settings = json.loads(json.dumps(inputs.settings | others | places, default=str))
    validate_call(write_report)(**settings)
    assert (inputs.folder / "paper" / "macros.tex").read_text() == expected


def test_a_file_given_twice(inputs):
    row = {"system": "MHFA", "corpus": "home", "quantity": "gap", "seed": 1, "value": 1}
    path = write_tsv(inputs.folder / "other.tsv", [row])
    with pytest.raises(ConfigError, match=r"a value is there twice: .*'gap'"):
        inputs(calibration=[path, path])


def test_unreadable_inputs(inputs):
    (inputs.folder / "model.json").write_text("{")
    with pytest.raises(ConfigError, match=r"model\.json: damaged, for it is not JSON"):
        inputs()


@WITH_LATEX
class TestPdf:
    def build(self, inputs, body, **others):
        source = inputs.folder / "text" / "main.tex"
        source.parent.mkdir(exist_ok=True)
        source.write_text(
            r"\documentclass{article}\input{paper/macros}\begin{document}" + body + r"\end{document}", "utf-8"
        )
        inputs(lambda _, *others: build_pdf(source, *others), **others)
        return (inputs.folder / "main.pdf").read_bytes()

    def test_the_same_every_time(self, inputs):
        body = r"It is \val{AST-05-05.in.eer}, \val{verdict.C.not run}. \ifpapercorpora A\else B\fi"
        made = self.build(inputs, body)
        assert made.startswith(b"%PDF") and made == self.build(inputs, body)

    def test_every_value_sets(self, inputs):
        row = ("MHFA", "AST-05-05", "home", "eer", -0.01239, -0.02, 0.00004, 0)
        others = {"comparisons": [comparison(inputs.folder, "baseline", row)], "bootstrap": 1000}
        body = r"\noindent " + r" \\ ".join(rf"\val{{{key}}}" for key in inputs(**others)[1])
        assert self.build(inputs, body, **others).startswith(b"%PDF")

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [(r"\val{AST-05-05.in.EER}", "No value is called AST-05-05.in.EER"), (r"\nonsense", "Undefined control")],
    )
    def test_mistakes_stop_it(self, inputs, body, complaint):
        with pytest.raises(ConfigError, match=complaint):
            self.build(inputs, body)
        assert not (inputs.folder / "main.pdf").exists()

    @pytest.mark.parametrize(
        ("paper_corpora", "label", "families", "with_speed"),
        [
            (True, "front-end in bfloat16", [], False),
            (False, "mini & toy", ["temperature", "ablation_trained"], True),
        ],
    )
    def test_the_report_itself(self, inputs, paper_corpora, label, families, with_speed):
        """Whatever was not measured is not asked for: its values, tables and figures are not there."""
        row = ("MHFA", "AST-05-05", "home", "eer", -0.01239, -0.02, 0.00004, 0)
        given = {"comparisons": [comparison(inputs.folder, family, row) for family in families]}
        if paper_corpora:
            trained_as_rank_one(inputs)
        given |= {"speed": timed_three(inputs.folder)} if with_speed else {}

        def build(source, folders, output):
            """Made-up values, tables and figures for all that every run has."""
            results = folders[0]
            macros = results / "paper" / "macros.tex"
            text = chosen(SOURCE, flags_of(macros.read_text()))
            keys = {*re.findall(r"\\val\{(.*?)\}", text[text.index(r"\begin{document}") :])}
            told = [key for key in keys if not TIMED.match(key) and f"val@{key}\\" not in macros.read_text()]
            lines = [rf"\expandafter\def\csname val@{key}\endcsname{{7}}" for key in told]
            macros.write_text("\n".join([macros.read_text(), *lines, ""]))
            for table in re.findall(r"\\input\{(tables/.*?)\}", text):
                (results / table).parent.mkdir(exist_ok=True)
                (results / f"{table}.tex").write_text(f"Here is {table.rpartition('/')[2].replace('_', ' ')}.\n\n")
            (results / "figures").mkdir()
            for figure in re.findall(r"\\(?:shown|drawn)\{([a-z_]+)\}", text):
                shutil.copy(blank, results / "figures" / f"{figure}.pdf")
            build_pdf(source, folders, output)

        self.build(inputs, r"\null")
        blank = (inputs.folder / "main.pdf").rename(inputs.folder / "blank.pdf")
        inputs(build, paper_corpora=paper_corpora, label=label, **given)
        if not shutil.which("pdftotext"):
            return
        shown = subprocess.check_output(["pdftotext", inputs.folder / "main.pdf", "-"], text=True)
        text = " ".join(shown.split())
        assert ("stand-in" in text) == ("not made from" in text) == (not paper_corpora)
        assert (f"{label}. Difference in EER" in text) == bool(label)
        assert (f"A remark on this run: {label}." in text) == (paper_corpora and bool(label))
        assert (
            ("accuracy not yet replicated" in text)
            == ("This run trains no AST-03-01-Mag" in text)
            == (not paper_corpora)
        )
        assert "Here is macs." in text and "Here is facts." in text
        assert ("Here is detector." in text) == ("one scoring pass" in text) == with_speed
        assert ("Here is temperature." in text) == ("temperature" in families)
        assert ("Here is ablation trained." in text) == ("ablation_trained" in families)


def test_without_an_engine(inputs, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"needs latexmk with pdflatex .* or tectonic"):
        inputs(build_pdf)
