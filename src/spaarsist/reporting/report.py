r"""The replication report: every number of its text as a LaTeX macro, and the PDF.

The text says `\val{AST-05-05.out.eer}` where a number belongs; a key that nobody made stops LaTeX. So no figure is
typed by hand, and the same text serves every experiment.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import read_table, writing
from spaarsist.config import ConfigError
from spaarsist.evaluation.summary import read_summary
from spaarsist.reporting.claims import VERDICTS, counts, read_ledger
from spaarsist.reporting.tables import escape

METRIC_DIGITS = {"eer": (100, 1), "min_dcf": (1, 3), "act_dcf": (1, 3), "cllr": (1, 3), "ece": (1, 3)}
"""Metric -> factor and decimals in the text; EER is in percent."""

FINDING_UNITS = {"parameters": (1, ",.0f"), "MACs": (1e-6, ".1f"), "fraction": (100, ".1f"), "tensors": (1, ".0f")}
"""Unit of a finding -> factor and format in the text: MACs in millions, fractions in percent; others to 3 digits."""


def write_macros(
    summary: Path,
    composite: Path,
    findings: Path,
    ledger: Path,
    record: Path,
    corpora: Sequence[tuple[str, str]],
    output: Path,
    label: str = "",
) -> None:
    r"""Write a LaTeX file that defines `\val{<key>}` for every number a report may need.

    ====================================  ===========================================================================
    key                                   text
    ====================================  ===========================================================================
    <system>.params, .params_as_run       parameters at the size that is counted, and of this run
    <system>.macs, .latency, _iqr         MACs in millions; latency in milliseconds, median and interquartile range
    <system>.in.eer, .out.min_dcf, ...    mean (and standard deviation over seeds) in or out of domain; EER in percent
    <system>.composite, .rank, .first     composite score, its rank, and the share of random weights it is first under
    composite.<n>, composite.<n>.first    system on place n, and its share of first ranks
    <finding quantity>                    measured value; see `FINDING_UNITS`
    <claim>.claimed, .ours, .verdict      of the ledger
    verdict.<C, S or F>.<verdict>, .all   number of the paper's claims, second-hand numbers, findings with that verdict
    run.label, .seeds, .in, .out, .code   remark on the corpora, number of seeds, titles of corpora, hashes of the code
    recipe.<key>                          of the training recipe: crop, stages, ...
    ====================================  ===========================================================================

    `\ifpapercorpora` is true where no label says otherwise.

    Args:
        summary, composite, findings, ledger: files of the steps of these names (ledger: TSV of `claims.judge`).
        record: `model.json` of the baseline, for the recipe.
        corpora: (name in the summary, title), the in-domain one first.
        output: file to write.
        label: what the corpora are, unless the paper's own.

    Raises:
        ConfigError: a file is unreadable or lacks what is needed.
    """
    table = read_summary(summary, [name for name, _ in corpora])
    ranked = read_table(composite, ["system", "composite", "rank", "first_share"]).set_index("system")
    found = read_table(findings, ["quantity", "value", "unit"])
    try:
        trained = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the report's inputs are not readable ({error})") from None
    claims = read_ledger(ledger)
    values = dict(_system_values(table, corpora))
    values |= dict(_composite_values(ranked))
    for row in found.itertuples():
        factor, form = FINDING_UNITS.get(row.unit, (1, ".3g"))
        values[row.quantity] = format(row.value * factor, form)
    for row in claims.to_dict("records"):
        claimed = f"{row['claimed']:,f} {row['unit']}".strip().replace("-", "−")
        texts = {"claimed": claimed, "ours": row["ours"], "verdict": row["verdict"]}
        values |= {f"{row['claim_id']}.{key}": escape(text) for key, text in texts.items()}
    for section, tally in counts(claims).items():
        values |= {f"verdict.{section}.{name}": str(tally[name]) for name in VERDICTS}
        values[f"verdict.{section}.all"] = str(tally.total())
    values |= dict(_run_values(trained, table, corpora, label))
    lines = [f"\\expandafter\\def\\csname val@{key}\\endcsname{{{text}}}" for key, text in values.items()]
    with writing(output) as path:
        path.write_text(_HEAD + f"\\papercorpora{'false' if label else 'true'}\n" + "\n".join([*lines, ""]), "utf-8")


def build_pdf(source: Path, results: Path, output: Path) -> None:
    r"""Compile the report with latexmk or tectonic, whichever is installed.

    Args:
        source: the main `.tex` file; what lies beside it (the bibliography) is found as well.
        results: folder that `\input` and `\includegraphics` start from.
        output: PDF to write.

    Raises:
        ConfigError: neither engine is installed, or LaTeX stopped (its complaint is quoted).
    """
    source, results = source.resolve(), results.resolve()
    search = os.pathsep.join([str(results), str(source.parent), ""])
    with tempfile.TemporaryDirectory() as folder:
        if shutil.which("latexmk") and shutil.which("pdflatex"):
            command = [
                "latexmk",
                "-pdf",
                "-interaction=nonstopmode",
                "-halt-on-error",
                f"-outdir={folder}",
                str(source),
            ]
        elif shutil.which("tectonic"):
            paths = [f"-Zsearch-path={place}" for place in (results, source.parent)]
            command = ["tectonic", *paths, "--outdir", folder, str(source)]
        else:
            raise ConfigError(
                "the report needs latexmk with pdflatex (Debian: texlive-latex-recommended texlive-fonts-recommended "
                "latexmk) or tectonic (conda-forge); neither is installed"
            )
        # A fixed date makes the same input give the same bytes
        environment = os.environ | {"TEXINPUTS": search, "BIBINPUTS": search, "SOURCE_DATE_EPOCH": "0"}
        environment |= {"FORCE_SOURCE_DATE": "1"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", check=False
        )
        made = Path(folder, source.name).with_suffix(".pdf")
        if done.returncode or not made.exists():
            lines = (done.stdout + done.stderr).splitlines()
            start = next((i for i, line in enumerate(lines) if line.startswith(("!", "error:"))), len(lines) - 15)
            raise ConfigError(f"{source}: {command[0]} failed:\n  " + "\n  ".join(lines[max(start, 0) :][:15]))
        with writing(output) as path:
            shutil.copy(made, path)


_HEAD = r"""% Written by `spaarsist report`; not to be edited.
\newif\ifpapercorpora
\newcommand{\val}[1]{\ifcsname val@#1\endcsname\csname val@#1\endcsname\else
  \GenericError{}{No value is called #1: this experiment lacks that system, corpus or claim}{}{}\fi}
"""


def _system_values(table: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for system, row in table.iterrows():
        yield f"{system}.params", f"{row['n_params']:,.0f}"
        yield f"{system}.macs", f"{row['n_macs'] / 1e6:.1f}"
        if not math.isnan(row["latency_ms"]):
            yield f"{system}.latency", f"{row['latency_ms']:.1f}"
            yield f"{system}.latency_iqr", f"{row['latency_iqr_ms']:.1f}"
        if not math.isnan(row["n_params_as_run"]):
            yield f"{system}.params_as_run", f"{row['n_params_as_run']:,.0f}"
        for role, (name, _) in zip(("in", "out"), corpora, strict=False):
            for metric, (factor, digits) in METRIC_DIGITS.items():
                mean, std = (row[f"{name}.{metric}.{part}"] * factor for part in ("mean", "std"))
                spread = "" if math.isnan(std) else rf"\pm{std:.{digits}f}"
                yield f"{system}.{role}.{metric}", rf"\ensuremath{{{mean:.{digits}f}{spread}}}"


def _composite_values(ranked: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for system, row in ranked.iterrows():
        yield f"{system}.composite", f"{row['composite']:.2f}"
        yield f"{system}.rank", f"{row['rank']:.0f}"
        yield f"{system}.first", f"{100 * row['first_share']:.0f}"
    for place, system in enumerate(ranked.sort_values("composite", kind="stable").index, start=1):
        yield f"composite.{place}", system
        yield f"composite.{place}.first", f"{100 * ranked.loc[system, 'first_share']:.0f}"
    yield "composite.systems", str(len(ranked))


def _run_values(
    record: dict, table: pd.DataFrame, corpora: Sequence[tuple[str, str]], label: str
) -> Iterator[tuple[str, str]]:
    recipe = record["recipe"]
    yield "run.label", escape(label)
    yield "run.seeds", f"{table[f'{corpora[0][0]}.n_seeds'].max():.0f}"
    hashes = {h for text in table["code_hash"].dropna() for h in text.split("+")}
    yield "run.code", ", ".join(sorted(hashes)) or "unknown"
    yield "run.torch", record["provenance"]["torch"]
    yield "run.counter", str(table["counter"].iloc[0])
    yield "run.frames", f"{table['n_frames'].iloc[0]:.0f}"
    for role, (_, title) in zip(("in", "out"), corpora, strict=False):
        yield f"run.{role}", escape(title)
    yield "recipe.frontend", escape(recipe["frontend"]["model"])
    yield "recipe.crop", f"{recipe['crop']:,}"
    stages = recipe["stages"]
    yield "recipe.stages", {1: "One", 2: "Two", 3: "Three"}.get(len(stages), str(len(stages)))
    yield "recipe.frozen", ", then ".join("trained" if stage["train_frontend"] else "frozen" for stage in stages)
    yield "recipe.layers", "one" if record["n_layers"] == 1 else str(record["n_layers"])
    better = ", and a later stage replaces an earlier one only if it is better"
    yield "recipe.selection", better if recipe["keep_better_stage"] else " in each stage, and the last stage wins"
    yield "recipe.epochs", " + ".join(str(stage["epochs"]) for stage in stages)
    yield "recipe.batch", " and ".join(str(stage["batch_size"]) for stage in stages)
    yield "recipe.embedding", f"{recipe['backend']['embedding_dim']:,}"
