"""What all tables share: hostile texts come through in every format, LaTeX compiles, long tables go on."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from conftest import compile_pdf, markdown_cells
from spaarsist.reporting.tables.layout import ROWS_PER_PAGE, escape, interval, number, write

HOSTILE = r"""[x]* a|b\c &%$#_{}~^ <b>"q"</b> `t` ±–−≤≥×Δ†‡ Müller 中"""
NAMES = {"heading": "Heading", "subject": "Subject.", "notes": "Notes.", "tex_label": "tab:it"}
WITH_LATEX = pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")


def table(rows, columns=("System", "EER %", "Kind"), **options):
    return {"shown": pd.DataFrame(rows, columns=columns), **NAMES, **options}


def written(stem, arguments, data=None):
    write(stem, pd.DataFrame({"value": [1.0]}) if data is None else data, **arguments)
    return {ending: stem.with_suffix(f".{ending}").read_text("utf-8") for ending in ("tsv", "md", "tex", "html")}


def test_numbers_for_readers():
    assert [number(v, 2) for v in (1.234, -0.5, -0.001, np.nan)] == ["1.23", "−0.50", "0.00", "–"]
    assert [number(v, 1, "+") for v in (1.25, -1, 0.01, -0.01, 12345)] == ["+1.2", "−1.0", "0.0", "0.0", "+12,345.0"]
    assert interval(-0.1, 0.2, 1, "+") == "[−0.1, +0.2]" and interval(np.nan, np.nan, 1) == "–"


def test_every_format_says_everything(tmp_path):
    columns = pd.MultiIndex.from_tuples([("", "System"), ("Home", "EER %"), ("Home", "ΔEER"), ("", "Kind")])
    rows = [("# First part", "", "", ""), ("A†", "1.25 ± 0.50*", "+0.50*\n[−0.10, +1.10]", "x"), ("B", "–", "–", "y")]
    marked = pd.DataFrame([[False] * 4, [True, True, False, False], [False] * 4])
    arguments = table(rows, columns, label="made up", footer="By code 0123.", marked=marked)
    texts = written(tmp_path / "it", arguments, pd.DataFrame({"a": [1 / 3], "b": ["x"]}))
    assert texts["tsv"] == "a\tb\n0.3333333333\tx\n"
    assert texts["md"].startswith("# Heading (made up)\n\nSubject.\n\n| System | Home<br>EER % | Home<br>ΔEER | Kind |")
    assert markdown_cells(texts["md"])[1:] == [
        [":---", "---:", "---:", ":---"],
        ["*First part*", "", "", ""],
        ["**A†**", r"<ins>1.25</ins> ± 0.50\*", r"+0.50\*<br>[−0.10, +1.10]", "x"],
        ["B", "–", "–", "y"],
    ]
    assert texts["md"].endswith("\n\nNotes.\n\nBy code 0123.\n")
    lines = texts["tex"].splitlines()
    assert r"\caption{\textbf{made up.} Subject. Notes.}" in lines and r"\label{tab:it}" in lines
    assert r" & \multicolumn{2}{c}{Home} &  \\" in lines and r"\cmidrule(lr){2-3}" in lines
    assert r"\begin{tabular}{l@{\hspace{8pt}}rr@{\hspace{8pt}}l}" in lines
    first = lines.index(r"\multicolumn{4}{l}{\textit{First part}} \\")
    assert lines[first + 2] == r"\textbf{A$^\dagger$} & \underline{1.25}$^*_{\pm0.50}$ & +0.50\rlap{*} & x \\"
    assert lines[first + 3] == r" &  & {[}$-$0.10, +1.10{]} &  \\"
    assert "By code 0123.}" in lines
    assert "<h1>Heading (made up)</h1>" in texts["html"] and "<p>Subject. Notes.</p>" in texts["html"]
    assert '<th colspan="4">First part</th>' in texts["html"] and "<td><b>A†</b></td>" in texts["html"]
    assert "<td><u>1.25</u>\u00a0±\u00a00.50*</td>" in texts["html"]
    assert "<td>+0.50*<br>[−0.10,\u00a0+1.10]</td>" in texts["html"]
    assert "<footer>By code 0123.</footer>" in texts["html"] and "<h2>" not in texts["html"]


def test_brief_latex_takes_first_lines_alone(tmp_path):
    texts = written(tmp_path / "it", table([("A", "1\n[0, 2]", "x")], brief_latex=True))
    assert "[0, 2]" in texts["md"] and "2" not in texts["tex"].split("midrule")[1]


def test_wrapped_columns_have_lines_in_latex_alone(tmp_path):
    """The lines count for the page, as those of any cell do."""
    rows = [("A", "1\u00a0M of 2 M", "x")] * ROWS_PER_PAGE
    texts = written(tmp_path / "it", table(rows, ("Id", "Ours", "Kind"), wrapped={"Ours": 6}))
    assert texts["md"].count("| A | 1\u00a0M of 2 M | x |") == ROWS_PER_PAGE
    assert texts["tex"].count("A & 1~M of & x \\\\\n & 2 M &  \\\\") == ROWS_PER_PAGE
    assert texts["tex"].count(r"\begin{table*}") == 2


def test_without_label_groups_and_footer(tmp_path):
    texts = written(tmp_path / "it", table([("A", "1", "x")]))
    assert texts["md"].startswith("# Heading\n") and texts["md"].endswith("| A | 1 | x |\n\nNotes.\n")
    assert r"\caption{Subject. Notes.}" in texts["tex"] and "cmidrule" not in texts["tex"]
    assert "parbox" not in texts["tex"] and "footer>" not in texts["html"]


def test_the_same_every_time(tmp_path):
    first, second = (written(tmp_path / name, table([("A", "1", "x")])) for name in "ab")
    assert first == second


@WITH_LATEX
def test_hostile_texts_in_every_place(tmp_path):
    """Also behind a line's end, where LaTeX takes brackets and stars for its own."""
    rows = [("# " + HOSTILE, "", ""), (HOSTILE, "1", HOSTILE + "\n" + HOSTILE), ("* x", "2", ""), ("[1em]", "3", "")]
    columns = pd.MultiIndex.from_tuples([("", HOSTILE), (HOSTILE, "EER"), (HOSTILE, HOSTILE)])
    options = dict.fromkeys(("label", "footer", "heading", "subject", "notes"), HOSTILE)
    texts = written(tmp_path / "it", table(rows, columns, **options))
    assert [len(row) for row in markdown_cells(texts["md"])] == [3] * 6
    assert r"[x]\* a\|b\\c &%$#_{}~^ \<b>" in texts["md"] and "<b>" not in texts["md"].replace(r"\<b>", "")
    assert "&lt;b&gt;" in texts["html"] and "<b>" not in texts["html"]
    compile_pdf(tmp_path, "it")
    shown = subprocess.run(
        ["pdftotext", "-layout", "document.pdf", "-"], cwd=tmp_path, capture_output=True, check=False
    )
    if shown.returncode == 0:
        text = shown.stdout.decode()
        assert "[1em]" in text and re.search(r"\* ?x +2", text) and "[U+4E2D]" in text and r"a|b\c &%$#_{}" in text
        assert text.count("Müller") >= 8


def test_escape_keeps_to_what_latex_knows():
    assert escape("a_b & 5 %") == r"a\_b \& 5 \%"
    assert escape("x\n\ty") == "x  y" and escape("Grüße") == "Grüße" and escape("\x00") == "{[}U+0000{]}"
    escape("±–−≤≥×Δρτ†‡⁻⁰¹²³⁴⁵⁶⁷⁸⁹").encode("ascii")
    assert escape("4×10⁻⁷\u00a0%") == r"4$\times$10$^-$$^7$~\%"


@WITH_LATEX
def test_long_tables_go_on_in_another_float(tmp_path):
    rows = [(f"S{i}", "1", "x") for i in range(2 * ROWS_PER_PAGE + 1)]
    texts = written(tmp_path / "it", table(rows, footer="Footer."))
    floats = texts["tex"].split(r"\begin{table*}")[1:]
    assert [len(re.findall(r"^S\d+ ", part, re.M)) for part in floats] == [ROWS_PER_PAGE, ROWS_PER_PAGE, 1]
    assert all("System & EER" in part for part in floats) and texts["tex"].count(r"\label") == 1
    assert ["Continued." in part for part in floats] == [False, True, True]
    assert ["Footer." in part for part in floats] == [False, False, True]
    assert "Float too large" not in compile_pdf(tmp_path, "it")
    assert texts["html"].count("<tr") == 1 + len(rows), "pandas leaves nothing out"


@WITH_LATEX
@pytest.mark.skipif(not shutil.which("pdftotext"), reason="pdftotext is not installed")
def test_a_table_is_never_wider_than_the_page(tmp_path):
    """It is shrunk where it would be, and left alone where it is narrow."""
    written(tmp_path / "it", table([("First", "1", "x" * 120), ("Last", "2", "y")]))
    spans = []
    for width in ("10cm", "80cm"):
        compile_pdf(tmp_path, "it", width)
        words = subprocess.check_output(["pdftotext", "-bbox", tmp_path / "document.pdf", "-"], text=True)
        row = re.findall(r'xMin="([\d.]+)".*?xMax="([\d.]+)".*?>(First|x{120})<', words)
        spans.append(float(row[1][1]) - float(row[0][0]))
    assert spans[0] < 10 / 2.54 * 72 < spans[1] < 80 / 2.54 * 72


def test_pages_end_between_sections_if_they_can(tmp_path):
    def floats(*sizes):
        rows = [row for size in sizes for row in [("# Part", "", ""), *[("S", "1\n2", "x")] * size]]
        tex = written(tmp_path / "it", table(rows))["tex"]
        return [len(re.findall(r"^S & 1", part, re.M)) for part in tex.split(r"\begin{table*}")[1:]]

    page = ROWS_PER_PAGE // 2  # rows of two lines
    assert floats(10, 10) == [20]
    assert floats(page - 5, page - 5) == [page - 5, page - 5]
    assert floats(5, page + 5) == [5, page - 1, 6], "a section longer than a page goes on"
