"""What all tables share: one look in Markdown, LaTeX and HTML, and how texts are escaped in each."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import writing
from spaarsist.evaluation.summary import on, values_of
from spaarsist.names import BASELINE, RANK_1

SECTION = "# "
"""What the first cell of a row starts with that is a heading across the table."""

ROWS_PER_PAGE = 60
"""Lines of a LaTeX float, at 6 points; what is longer goes on in another."""

MOST_VALUES = 5
"""Up to so many seeds, tables show the value of each."""

_ROOMY = 110  # characters across the page that leave room for 7 points
_NUMBER = re.compile(r"[\d\s.,:;%/*†‡±×+\-−–<>≤≥()\[\]]*")


def write(
    output_stem: Path,
    data: pd.DataFrame,
    shown: pd.DataFrame,
    *,
    heading: str,
    subject: str,
    notes: str,
    tex_label: str,
    label: str = "",
    footer: str = "",
    marked: pd.DataFrame | None = None,
    brief_latex: bool = False,
    wrapped: Mapping[str, int] | None = None,
) -> None:
    """Write a table as `<output_stem>.tsv` (for machines), `.md`, `.tex` and `.html` (for readers).

    A row whose first cell starts with "# " is a heading across the table. Columns that hold nothing but numbers,
    intervals and signs are set flush right in Markdown and LaTeX, the first and all others flush left. A cell may have
    several lines. LaTeX gets a `table*` (packages: booktabs, graphicx; T1 fonts), and another where `ROWS_PER_PAGE`
    lines are full, if possible between sections; a table that is wider than the page is shrunk to its width.

    Args:
        output_stem: path of the outputs without their endings.
        data: what the TSV holds; its index is left out.
        shown: plain text cells, which are escaped here for each format. Its columns are headings, or pairs of a heading
            over several neighbours (or "") and a heading.
        heading: of the Markdown and HTML files.
        subject: what the rows are, in a sentence.
        notes: how to read the table.
        tex_label: LaTeX's, for references.
        label: said in heading and caption, e.g. that the corpora are miniatures.
        footer: how the table was made (`artefacts.footer`).
        marked: which cells are set off, in the shape of `shown`: bold in the first column, in the others the number (up
            to the first space) underlined.
        brief_latex: LaTeX gets the first line of each cell only.
        wrapped: column -> most characters of a line in LaTeX, which breaks no lines by itself.
    """
    columns = [("", column) if isinstance(column, str) else tuple(column) for column in shown.columns]
    shown = shown.set_axis(pd.MultiIndex.from_tuples(columns), axis=1)
    marks = [[False] * len(columns)] * len(shown) if marked is None else marked.to_numpy().tolist()
    title = f"{heading} ({label})" if label else heading
    with writing(f"{output_stem}.tsv") as path:
        data.to_csv(path, sep="\t", index=False, float_format="%.10g")
    with writing(f"{output_stem}.md") as path:
        text = [f"# {_markdown(title)}", _markdown(subject), _markdown_table(shown, marks), _markdown(notes)]
        path.write_text("\n\n".join(filter(None, [*text, _markdown(footer)])) + "\n", encoding="utf-8")
    with writing(f"{output_stem}.tex") as path:
        caption = rf"\textbf{{{escape(label)}.}} " if label else ""
        caption += escape(f"{subject} {notes}")
        set_in_latex = shown.map(lambda text: text.partition("\n")[0]) if brief_latex else shown.copy()
        for column, width in (wrapped or {}).items():
            cells = set_in_latex["", column]
            set_in_latex["", column] = ["\n".join(textwrap.wrap(text, width)) for text in cells]
        path.write_text("\n".join(_latex(set_in_latex, marks, caption, tex_label, footer)), encoding="utf-8")
    with writing(f"{output_stem}.html") as path:
        path.write_text(_html_page(title, f"{subject} {notes}", shown, marks, footer), encoding="utf-8")


def number(value: float, digits: int, sign: str = "") -> str:
    """A value for readers: a true minus sign, with `sign` + also a plus; NaN is a dash."""
    if math.isnan(value):
        return "–"
    text = f"{value:{sign},.{digits}f}"
    return text.lstrip("+-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def mean_text(mean: float, std: float, digits: int) -> str:
    """A mean for readers, with its standard deviation where there is one; NaN is a dash."""
    text = number(mean, digits)
    return text if math.isnan(mean) or math.isnan(std) else f"{text} ± {number(std, digits)}"


def over_seeds(row: pd.Series, corpus: str, metric: str, scale: float, digits: int) -> str:
    """A mean over training seeds for readers, and how they scatter.

    Up to `MOST_VALUES` seeds their values stand in a second line, with a decimal less; the standard deviation of so few
    would say less. Of more seeds it stands behind the mean.

    Args:
        row: of the summary.
        corpus, metric: which of its means.
        scale: factor of the values.
        digits: decimals of the mean.
    """
    values = values_of(row, corpus, metric)
    mean, std = (scale * row[on(corpus, metric, statistic)] for statistic in ("mean", "std"))
    if 1 < len(values) <= MOST_VALUES:
        return f"{number(mean, digits)}\n{' '.join(number(scale * value, digits - 1) for value in values)}"
    return mean_text(mean, std, digits)


def interval(low: float, high: float, digits: int, sign: str = "") -> str:
    """An interval for readers; NaN is a dash."""
    return "–" if math.isnan(low) else f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def known(rows: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Mark the names, in the first cells, of the baseline and of the paper's rank 1; see `write`."""
    return pd.DataFrame([[row[0] in (BASELINE, RANK_1), *[False] * (len(row) - 1)] for row in rows])


_TEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # behind a line's end, bare ones would be LaTeX's own
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "\u00a0": "~",
    "⁻": r"$^-$",
}
_TEX |= {digit: rf"$^{value}$" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def p_text(p: float) -> str:
    """A p value as readers get it: three decimals, or that it is below the least; "–" where nothing was tested."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def escape(text: str) -> str:
    """Write plain text so that LaTeX (T1 fonts) sets it as it is.

    Signs that tables use and letters with accents are set; other characters would stop LaTeX and show as [U+4E2D].
    """

    def tex(character: str) -> str:
        if " " <= character <= "~" or (character <= "ž" and character.isalpha()):
            return character
        return " " if character.isspace() else f"{{[}}U+{ord(character):04X}{{]}}"

    return "".join(_TEX.get(character) or tex(character) for character in text)


def _is_section(row: tuple[str, ...]) -> bool:
    return row[0].startswith(SECTION)


def _rows(shown: pd.DataFrame) -> list[tuple[str, ...]]:
    return [*shown.itertuples(index=False, name=None)]


def _alignment(shown: pd.DataFrame) -> str:
    """`l` or `r` of each column."""
    rows = [row for row in _rows(shown) if not _is_section(row)]
    flush_right = [all(_NUMBER.fullmatch(row[i]) for row in rows) for i in range(1, shown.shape[1])]
    return "l" + "".join("r" if right else "l" for right in flush_right)


def _halves(text: str) -> tuple[str, str]:
    """A cell's number, and what stands behind it."""
    number = re.match(r"\S*", text).group()
    return number, text.removeprefix(number)


def _markdown(text: str) -> str:
    """Write plain text so that Markdown shows it as it is, in a cell too."""
    return re.sub(r"([\\`*|]|<(?=[A-Za-z/!?]))", r"\\\1", text).replace("\n", "<br>")


def _markdown_table(shown: pd.DataFrame, marks: list[list[bool]]) -> str:
    heads = [f"{_markdown(group)}<br>{_markdown(head)}" if group else _markdown(head) for group, head in shown]
    rules = {"l": ":---", "r": "---:"}
    lines = [heads, [rules[side] for side in _alignment(shown)]]
    for row, row_marks in zip(_rows(shown), marks, strict=True):
        first, *others = row
        if _is_section(row):
            lines.append([f"*{_markdown(first.removeprefix(SECTION))}*", *[""] * len(others)])
            continue
        cells = [f"**{_markdown(first)}**" if row_marks[0] else _markdown(first)]
        for (number, rest), mark in zip(map(_halves, others), row_marks[1:], strict=True):
            number = f"<ins>{_markdown(number)}</ins>" if mark else _markdown(number)
            cells.append(number + _markdown(rest))
        lines.append(cells)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html_page(title: str, text: str, shown: pd.DataFrame, marks: list[list[bool]], footer: str) -> str:
    """A page for the browser: what `snakemake --report` shows of a table."""
    title, text, footer = (html.escape(part, quote=False) for part in (title, text, footer))
    table = _html_cells(shown, marks).to_html(index=False, border=0, escape=False)
    across = re.compile(rf"<td>{_ACROSS}(.*?)</td>(\s*<td></td>)*")
    table = across.sub(rf'<th colspan="{shown.shape[1]}">\1</th>', table)
    style = (
        "body{font:14px sans-serif;margin:2em}p,footer{max-width:60em}footer{font-size:11px;margin-top:2em}"
        "table{border-collapse:collapse}td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}"
        "thead{border-bottom:2px solid #333}td:first-child{white-space:nowrap}"
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    parts = [head, f"<h1>{title}</h1>", f"<p>{text}</p>", table]
    return "\n".join([*parts, *([f"<footer>{footer}</footer>"] if footer else []), "</html>", ""])


_ACROSS = "<!--across-->"


def _html_cells(shown: pd.DataFrame, marks: list[list[bool]]) -> pd.DataFrame:
    """The table as cells of HTML; a heading across it is told by `_ACROSS`."""

    def cell(text: str, mark: bool) -> str:
        unbroken = text.replace(" ", "\u00a0") if _NUMBER.fullmatch(text) else text
        number, rest = (html.escape(part, quote=False).replace("\n", "<br>") for part in _halves(unbroken))
        return f"<u>{number}</u>{rest}" if mark else number + rest

    lines = []
    for row, row_marks in zip(_rows(shown), marks, strict=True):
        first, *others = row
        name = html.escape(first.removeprefix(SECTION), quote=False).replace("\n", "<br>")
        if _is_section(row):
            lines.append([_ACROSS + name, *[""] * len(others)])
        else:
            lines.append([f"<b>{name}</b>" if row_marks[0] else name, *map(cell, others, row_marks[1:])])
    heads = [(html.escape(group, quote=False), html.escape(head, quote=False)) for group, head in shown]
    if any(group for group, _ in heads):
        return pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(heads))
    return pd.DataFrame(lines, columns=[head for _, head in heads])


def _latex(shown: pd.DataFrame, marks: list[list[bool]], caption: str, tex_label: str, footer: str) -> Iterator[str]:
    """Lines of one float for every page that the table takes."""
    groups, sides = shown.columns.get_level_values(0), _alignment(shown)
    new_group = [index > 0 and groups[index] != groups[index - 1] for index in range(len(groups))]
    alignment = "".join(
        rf"@{{\hspace{{8pt}}}}{side}" if new else side for side, new in zip(sides, new_group, strict=True)
    )
    rows = [*zip(_rows(shown), marks, strict=True)]
    cells = [row for row, _ in rows if not _is_section(row)] + [tuple(head for _, head in shown)]
    lines = ([line for text in column for line in text.split("\n")] for column in zip(*cells, strict=True))
    n_characters = sum(2 + max(map(len, column)) for column in lines)
    sections: list[list[list[str]]] = [[]]
    for row, row_marks in rows:
        if _is_section(row):
            across = rf"\multicolumn{{{len(row)}}}{{l}}{{\textit{{{escape(row[0].removeprefix(SECTION))}}}}} \\"
            sections.append([[across]])
        else:
            sections[-1].append(_latex_row(row, row_marks))
    pages: list[list[list[str]]] = [[]]
    for section in sections:  # on a new page where the last has no room for all of it; a long one goes on in the next
        if sum(map(len, pages[-1] + section)) > ROWS_PER_PAGE and pages[-1]:
            pages.append([])
        for row in section:
            if sum(map(len, pages[-1] + [row])) > ROWS_PER_PAGE:
                pages.append([])
            pages[-1].append(row)
    roomy = n_characters <= _ROOMY and max(sum(map(len, page)) for page in pages) <= ROWS_PER_PAGE * 6 / 7
    for number, page in enumerate(pages):
        yield r"\begin{table*}[tp]"
        yield r"\centering"
        if number:
            yield r"\addtocounter{table}{-1}"
            yield r"\caption{Continued.}"
        else:
            yield rf"\caption{{{caption}}}"
            yield rf"\label{{{tex_label}}}"
        yield r"\scriptsize" if roomy else r"\fontsize{6}{7.2}\selectfont"
        yield r"\setlength{\tabcolsep}{2pt}"
        yield r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
        yield rf"\begin{{tabular}}{{{alignment}}}"
        yield r"\toprule"
        yield from _latex_heads(shown)
        for index, lines in enumerate(page):
            if index and (len(lines) > 1 or lines[0].startswith(r"\multicolumn")):
                yield r"\addlinespace[2pt]"
            yield from lines
        yield r"\bottomrule"
        yield r"\end{tabular}}"
        if footer and number == len(pages) - 1:
            yield r"\par\smallskip\parbox{\textwidth}{\fontsize{5.5}{6.6}\selectfont\raggedright"
            yield rf"{escape(footer)}}}"
        yield r"\end{table*}"
    yield ""


def _latex_heads(shown: pd.DataFrame) -> Iterator[str]:
    heads, rules, column = [], [], 1
    for group, members in groupby(group for group, _ in shown):
        width = len([*members])
        if group:
            heads.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{column}-{column + width - 1}}}")
        else:
            heads += [""] * width
        column += width
    if rules:
        yield rf"{' & '.join(heads)} \\"
        yield " ".join(rules)
    yield rf"{' & '.join(escape(head) for _, head in shown)} \\"
    yield r"\midrule"


def _latex_row(row: tuple[str, ...], marks: list[bool]) -> list[str]:
    """A row, one line of LaTeX for each line of its cells."""
    first, *others = (text.split("\n") for text in row)
    heads = [rf"\textbf{{{escape(text)}}}" if marks[0] else escape(text) for text in first]
    columns = [heads]
    for lines, mark in zip(others, marks[1:], strict=True):
        number, rest = _halves(lines[0])
        number = rf"\underline{{{escape(number)}}}" if mark else escape(number)
        spread = re.sub(r"^ \$\\pm\$ ([\d.]+)({\*}$)?", _stacked, escape(rest))
        # A star hangs over the edge, so that the digits above and below each other stay so
        texts = (re.sub(r"{\*}$", r"\\rlap{*}", text) for text in (number + spread, *map(escape, lines[1:])))
        columns.append([*texts])
    return [rf"{' & '.join(cells)} \\" for cells in zip_longest(*columns, fillvalue="")]


def _stacked(spread: re.Match) -> str:
    """A spread as a subscript, with its star on top: width is scarce."""
    return rf"${'^*' if spread[2] else ''}_{{\pm{spread[1]}}}$"
