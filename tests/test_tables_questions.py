"""The table of questions: every answer with its margin, in all formats."""

import pytest

from conftest import markdown_cells, write_tsv
from spaarsist.names import ConfigError
from spaarsist.reporting.tables.questions import write_questions

CORPORA = [("home", "Home (in domain)"), ("wild", "Wild & far")]
USUAL = {"system": "AST-05-05-Uni", "reference": "AST-05-05", "metric": "eer", "margin": 0.01, "n_seeds": 5}
USUAL |= {"n_speakers": 8, "value": 0.2, "reference_value": 0.19, "difference": 0.004, "ci_low": -0.0021}
USUAL |= {"ci_high": 0.0082, "verdict": "equivalent"}


@pytest.fixture
def given(tmp_path):
    rows = [
        {"question": "A mean?", "corpus": "home"},
        {"question": "A mean?", "corpus": "wild", "ci_high": 0.0123, "verdict": "inconclusive"},
        {"question": "As cheap?", "corpus": "wild", "metric": "min_dcf", "difference": -0.03, "margin": 0.02}
        | {"ci_low": -0.035, "ci_high": -0.025, "verdict": "different"},
    ]
    return write_tsv(tmp_path / "equivalence.tsv", rows, **USUAL)


def test_cells(given, tmp_path):
    write_questions(given, CORPORA, tmp_path / "questions", "made up", 0.95, "By code 0123.")
    text = (tmp_path / "questions.md").read_text()
    assert markdown_cells(text)[2:] == [
        ["*A mean? AST-05-05-Uni against AST-05-05*", *[""] * 5],
        ["Home (in domain)", "EER, points", "+0.40", "[−0.21, +0.82]", "±1.00", "equivalent"],
        ["Wild & far", "EER, points", "+0.40", "[−0.21, +1.23]", "±1.00", "inconclusive"],
        ["*As cheap? AST-05-05-Uni against AST-05-05*", *[""] * 5],
        ["Wild & far", "minDCF", "−0.030", "[−0.035, −0.025]", "±0.020", "different"],
    ]
    assert "Two one-sided tests at 5 % each" in text and "the whole 90 % interval" in text and "made up" in text
    assert "(n = 5)" in text and "By code 0123." in (tmp_path / "questions.html").read_text()


def test_refusals(given, tmp_path):
    with pytest.raises(ConfigError, match="holds no answer on mars"):
        write_questions(given, [*CORPORA, ("mars", "Mars")], tmp_path / "questions")
    given.write_text(given.read_text().replace("\tequivalent", "\t"))
    with pytest.raises(ConfigError, match="line 2: verdict is nan"):
        write_questions(given, CORPORA, tmp_path / "questions")
    assert [path.name for path in tmp_path.iterdir()] == ["equivalence.tsv"]
