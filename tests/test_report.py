r"""The report: no number typed by hand, every \val{...} defined, LaTeX's complaints passed on."""

import json
import re
import shutil

import pandas as pd
import pytest

from conftest import REPOSITORY
from spaarsist.config import ConfigError
from spaarsist.reporting.claims import LEDGER_COLUMNS
from spaarsist.reporting.report import build_pdf, write_macros

CORPORA = [("home", "Home & garden"), ("wild", "In-the-Wild-like")]
WITH_LATEX = pytest.mark.skipif(not shutil.which("latexmk"), reason="latexmk is not installed")
NAMES = {"aasist", "rankone", "rankonemean", "asvspoof", "xlsr"}
"""The macros of the report's preamble that hold digits: names, no results."""


def prose(text):
    """The report's text without comments and without what is not prose: values, references, files, lengths."""
    text = re.sub(r"(?<!\\)%.*", "", text)
    body = text[text.index(r"\begin{document}") : text.index(r"\bibliographystyle")]
    body = re.sub(r"\\(val|cite|ref|input|label|begin|end)\{[^{}]*\}", " ", body)
    body = re.sub(r"\\shown\{[a-z_]+\}(\{(?:[^{}]|\{[^{}]*\})*\})\{[.\d]+\}", r"\1", body)
    return re.sub(r"\\parbox\{[^{}]*\}", " ", body)


SOURCE = (REPOSITORY / "paper" / "main.tex").read_text()


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
def inputs(tmp_path):
    summary = pd.DataFrame({"system": ["AST-05-05", "MHFA"], "trained": ["AST-05", "MHFA"]})
    for column in ("k_train", "k_infer", "variant", "graph_temperature", "stack_temperature"):
        summary[column] = None
    summary["trained_graph_temperature"] = summary["trained_stack_temperature"] = None
    summary = summary.assign(n_params=[611784, 4461904], n_macs=[713035196, 68411392], counter="fvcore", n_frames=201)
    summary = summary.assign(n_layers=24, embedding_dim=1024, n_params_as_run=[300, None], code_hash=["a+b", "a"])
    summary = summary.assign(feature_dim=1024, latency_ms=[13.74, None], latency_iqr_ms=[0.1, None])
    for name, _ in CORPORA:
        summary[f"{name}.n_seeds"] = 2
        for metric in ("eer", "min_dcf", "act_dcf", "cllr", "ece"):
            summary[f"{name}.{metric}.mean"], summary[f"{name}.{metric}.std"] = [0.12345, 0.5], [0.0149, None]
            summary[f"{name}.{metric}.ci_low"] = summary[f"{name}.{metric}.ci_high"] = None
    ledger = pd.DataFrame(
        {"claim_id": ["C1", "C5a", "C4b"], "claimed": ["195.045", "4.64", "586434"], "unit": ["M", "%", ""],
         "ours": ["713.035 M", "", "1"], "verdict": ["differs", "not run", "reproduced"]}
    )  # fmt: skip
    tables = {
        "summary": summary,
        "composite": pd.DataFrame(
            {"system": ["AST-05-05", "MHFA"], "composite": [1, 0.5], "rank": [2, 1], "first_share": [0.25, 0.75]}
        ),
        "findings": pd.DataFrame(
            [("F1_params_mag", 611522, "parameters"), ("F3_saving", 0.0213, "fraction"), ("F10_gap", 16.6355, "nats"),
             ("F3_macs", 713035196, "MACs")],
            columns=["quantity", "value", "unit"],
        ),
        "ledger": ledger.reindex(columns=LEDGER_COLUMNS),
    }  # fmt: skip
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.tsv", sep="\t", index=False)
    recipe = {"frontend": {"model": "a_b"}, "crop": 64600, "backend": {"embedding_dim": 1024},
              "keep_better_stage": True,
              "stages": [{"epochs": 10, "batch_size": 64, "train_frontend": False},
                         {"epochs": 5, "batch_size": 32, "train_frontend": True}]}  # fmt: skip
    record = {"recipe": recipe, "n_layers": 24, "provenance": {"code_hash": "c0de", "torch": "2.11.0"}}
    (tmp_path / "model.json").write_text(json.dumps(record))

    def write(label="", corpora=CORPORA):
        files = (tmp_path / f"{name}.tsv" for name in ("summary", "composite", "findings", "ledger"))
        write_macros(*files, tmp_path / "model.json", corpora, tmp_path / "paper" / "macros.tex", label)
        text = (tmp_path / "paper" / "macros.tex").read_text()
        return text, dict(re.findall(r"\\csname val@(.*?)\\endcsname\{(.*)\}$", text, re.MULTILINE))

    write.folder = tmp_path
    return write


def test_values(inputs):
    text, values = inputs(label="100 % mini")
    expected = {
        "AST-05-05.params": "611,784",
        "AST-05-05.macs": "713.0",
        "AST-05-05.latency": "13.7",
        "AST-05-05.latency_iqr": "0.1",
        "AST-05-05.params_as_run": "300",
        "run.code": "a, b",
        "recipe.frozen": "frozen, then trained",
        "AST-05-05.in.eer": r"\ensuremath{12.3\pm1.5}",
        "MHFA.out.eer": r"\ensuremath{50.0}",
        "MHFA.out.cllr": r"\ensuremath{0.500}",
        "MHFA.composite": "0.50",
        "MHFA.first": "75",
        "composite.1": "MHFA",
        "composite.2": "AST-05-05",
        "F1_params_mag": "611,522",
        "F3_saving": "2.1",
        "F3_macs": "713.0",
        "F10_gap": "16.6",
        "C1.claimed": "195.045 M",
        "C5a.claimed": r"4.64 \%",
        "C4b.claimed": "586,434",
        "C1.verdict": "differs",
        "verdict.C.differs": "1",
        "verdict.C.consistent": "0",
        "verdict.C.all": "3",
        "verdict.F.all": "0",
        "composite.1.first": "75",
        "run.label": r"100 \% mini",
        "run.in": r"Home \& garden",
        "run.seeds": "2",
        "recipe.epochs": "10 + 5",
        "recipe.frontend": r"a\_b",
    }
    assert {key: values[key] for key in expected} == expected
    assert "MHFA.latency" not in values
    assert r"\papercorporafalse" in text
    assert r"\papercorporatrue" in inputs()[0]


def test_unreadable_inputs(inputs):
    (inputs.folder / "model.json").write_text("{")
    with pytest.raises(ConfigError, match="the report's inputs are not readable"):
        inputs()


@WITH_LATEX
class TestPdf:
    def build(self, inputs, body):
        source = inputs.folder / "text" / "main.tex"
        source.parent.mkdir(exist_ok=True)
        source.write_text(
            r"\documentclass{article}\input{paper/macros}\begin{document}" + body + r"\end{document}", "utf-8"
        )
        inputs()
        build_pdf(source, inputs.folder, inputs.folder / "main.pdf")
        return (inputs.folder / "main.pdf").read_bytes()

    def test_the_same_every_time(self, inputs):
        body = r"It is \val{AST-05-05.in.eer}, \val{verdict.C.not run}. \ifpapercorpora A\else B\fi"
        made = self.build(inputs, body)
        assert made.startswith(b"%PDF") and made == self.build(inputs, body)

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [(r"\val{AST-05-05.in.EER}", "No value is called AST-05-05.in.EER"), (r"\nonsense", "Undefined control")],
    )
    def test_mistakes_stop_it(self, inputs, body, complaint):
        with pytest.raises(ConfigError, match=complaint):
            self.build(inputs, body)
        assert not (inputs.folder / "main.pdf").exists()


def test_without_an_engine(inputs, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"needs latexmk with pdflatex .* or tectonic"):
        build_pdf(REPOSITORY / "paper" / "main.tex", inputs.folder, inputs.folder / "main.pdf")
