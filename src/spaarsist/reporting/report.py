r"""The replication report: every number of its text as a LaTeX macro, and the PDF.

The text says `\val{AST-05-05.out.eer}` where a number belongs; a key that nobody made stops LaTeX. So no figure is
typed by hand, and the same text serves every experiment. What a run may lack, the text asks for by a conditional.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from spaarsist.artefacts import read_record, read_table, writing
from spaarsist.evaluation.comparison import SIGNIFICANCE, flat_region, read_comparisons
from spaarsist.evaluation.summary import read_sizes, read_summary
from spaarsist.names import BASELINE, PAPER_FRAMES, RANK_1, ConfigError, System, ratio_code
from spaarsist.reporting.claims import COMMIT, VERDICTS, counts, read_ledger, typeset
from spaarsist.reporting.tables.latency import read_backend, read_detector
from spaarsist.reporting.tables.layout import escape, interval, number, p_text

METRIC_DIGITS = {"eer": (100, 1), "min_dcf": (1, 3), "act_dcf": (1, 3), "cllr": (1, 3), "ece": (1, 3)}
"""Metric -> factor and decimals in the text; EER is in percent."""

FINDING_UNITS = {"parameters": (1, ",.0f"), "MACs": (1e-6, ".1f"), "fraction": (100, ".1f"), "tensors": (1, ".0f")}
"""Unit of a finding -> factor and format in the text: MACs in millions, fractions in percent; others to 3 digits."""

STACK_QUANTITIES = {
    "entropy": ("{stack_temperature:g}.entropy", ".4f"),
    "total_variation": ("{stack_temperature:g}.total_variation", ".3g"),
    "largest_weight_times_n": ("{stack_temperature:g}.largest_weight", ".3g"),
    "stack_node_spread": ("spread.{aggregation}", ".3g"),
    "other_nodes_spread": ("other_spread.{aggregation}", ".3g"),
    "score_change": ("change.{aggregation}", ".3g"),
    "score_change_relative": ("change_relative.{aggregation}", ".3g"),
    "score_change_spearman": ("correlation.{aggregation}", ".3f"),
}
"""Quantity of `audit.nodes.inspect`'s stack.tsv -> the end of its key, and its format in the text."""

COSTS = {"params": "n_params", "macs": "n_macs", "ms": "median_ms"}
"""What keys call the columns of the speed files."""

_ANSWERS = ("equivalent", "different", "inconclusive")

_RANKED = ("composite", "rank", "rank_ci_low", "rank_ci_high", "first_share")
_COMPARED = ("difference", "ci_low", "ci_high", "p_holm")
ROLES = ("in", "out")
"""What the first two corpora are called in keys."""


FAMILIES = ("temperature", "ablation_trained")
"""Families of comparisons that a run may do without, and the text then does too."""


def write_report(
    source: Path,
    results: Path,
    output: Path,
    *,
    summary: Path,
    sizes: Path,
    composite: Path,
    findings: Path,
    facts: Path,
    ledger: Path,
    record: Path,
    comparisons: Sequence[Path],
    calibration: Sequence[Path],
    inspected: Sequence[Path],
    corpora: Sequence[tuple[str, str]],
    paper_corpora: bool,
    label: str = "",
    bootstrap: int = 0,
    confidence: float = 0.95,
    answers: Path | None = None,
    planted: Path | None = None,
    speed: Path | None = None,
) -> None:
    r"""Write the report: its numbers as `\val{<key>}` to `<results>/paper/macros.tex`, and the PDF.

    Where it says role, `in` and `out` stand for the corpora in and out of domain; ratios are codes such as 05.

    ==========================================  =====================================================================
    key                                         text
    ==========================================  =====================================================================
    <system>.params, .params_as_run             parameters at the size that is counted, and of this run
    <system>.macs                               multiply-accumulates in millions
    <system>.<role>.eer, .min_dcf, ...          mean over seeds; EER in percent
    <system>.<role>.<metric>.ci, .speakers      its intervals, over seeds and trials and over seeds and speakers
    <system>.<role>.<metric>.diff               difference from the baseline, with its sign; EER in points
    <system>.<role>.<metric>.diff.ci, .diff.p   its interval, and where it is tested p after Holm's correction
    <system>/<reference>.<role>.<metric>.diff   the same of any pair, from the first of the other families that has it
    significant.<family>.<role>.<metric>        number of significant differences of a family (name of its file)
    tested.<family>.<role>.<metric>, <family>   number of tests that it is out of, and of all that were corrected for
    dial.<k_tr>.<variant>.<role>.flat           k from the least to the most around k_tr between which no EER differs
                                                significantly from that at k_tr (family k_sweep)
    <system>.<role>.<quantity>, ....seeds       of `evaluation.calibration.calibrate`: mean over seeds, and the lowest
                                                and highest seed; rates in percent
    <system>.dev.<quantity>                     likewise, of the development corpus
    nodes.<k_tr>.<role>.<k>.jaccard, .chance,   of `audit.nodes.inspect`'s nodes.tsv: mean over poolings and
    .spearman                                   seeds, of all trials
    nodes.<k_tr>.<role>.<k>.<variant>.change,   of its agreement.tsv: mean change of a score in nats when the variant
    .bonafide, .spoof                           takes Base's place, and in each class its rank correlation with the
                                                overlap of the nodes that both scorers keep
    stack.<trained>.<role>.<tau>.entropy, ...   of its stack.tsv likewise, mean over layers and seeds: by temperature
    stack.<trained>.<role>.spread.<how>, ...    or by aggregation; see `STACK_QUANTITIES`
    <system>.composite, .rank, .first           composite score, its rank, the share of random weights it is first under
    <system>.rank.ci                            interval of the rank over resamples of test material and seeds
    composite.<n>, composite.<n>.first          system on place n, and its share of first ranks
    <fact's or finding's quantity>              measured value; see `FINDING_UNITS`
    <fact>.obtained                             what the table of facts has
    facts.all, facts.frames, facts.commit       number of facts, length of input that the paper counts at, released code
    answers.<verdict>, answers.all              questions of equivalence so answered, a corpus at a time
    planted.<scorer>.more, .less, .all          changes of how often planted nodes are kept whose interval is above and
                                                below zero, and how many there are
    <claim>.claimed, .ours, .verdict, .since    of the ledger
    verdict.<C, S or F>.<verdict>, .all         number of the paper's claims, second-hand numbers, findings so judged
    run.label, .seeds, .in, .out, .code         remark on corpora, number of seeds, titles of corpora, code hashes
    run.speakers.in, .out, run.replicates       number of known speakers, and of bootstrap replicates
    run.alpha, run.confidence                   what counts as significant; confidence of the intervals, in percent
    recipe.<key>                                of the training recipe: crop, stages, ...
    backend.<system>.params.change, .macs.      of `audit.speed`'s backend.tsv: changes from the baseline in %,
    change, <system>.<batch>.floor              the floor in milliseconds; batch: `small` or `large`
    backend.<system>.<form>.<batch>.ms, .iqr,   median, interquartile range in milliseconds, change from the baseline in
    .change, .faster, .floor                    percent, times faster than the reference, the floor's share in percent
    backend.small, .large, .frames, .difference batch sizes, length of the input, largest difference of an embedding
    detector.frontend.params, .macs, .ms, .iqr, of its detector.tsv, and of `head`: parameters, MACs in millions,
    .share                                      milliseconds, share in the time of the baseline's detector in percent
    detector.<system>.ms, .whole.ms, .params.   the compiled back-end alone and in a whole detector: milliseconds;
    change, .whole.macs.change, ...             change of `params`, `macs` and `ms` from the baseline in percent
    detector.one_variant.ms, .all_variants.ms,  scoring passes in milliseconds, the change from one variant to all, and
    .change, .variants                          how many these are
    training.<form>.<memory>.<precision>.ms,    of its training.tsv: a step in milliseconds, and how many times faster
    .iqr, .faster; training.batch, .frames      it is than the reference with default memory in float32
    scoring.<quantity>                          of its scoring.tsv, in the unit there
    <backend, detector or training>.machine,    where and how its times were taken
    .device, .threads, .rounds
    ==========================================  =====================================================================

    There are only the keys that the files give. Minus signs are LaTeX's.

    `\ifpapercorpora` is as `paper_corpora`; `\iflabelled` is true with a label, `\ifspeed` with the speed files,
    `\iftemperature` and `\ifablationtrained` with the family of that name, `\ifrankone` where the paper's best system
    was trained, `\ifasked` and `\ifplanted` with these files, and `\ifspeedoncpu` where training was timed on the CPU,
    which has keys of its own (memory `kept`). A dash stands for what does not exist, such as a change of the baseline
    from itself.

    Args:
        source: the main `.tex` file; what lies beside it (the bibliography) is found as well.
        results: folder that `\input` and `\includegraphics` start from.
        output: PDF to write.
        summary, composite, findings, ledger: files of the steps of these names (ledger: TSV of `claims.judge`).
        sizes: file of `audit.complexity.write_complexity` at the paper's size; it has systems that no run trains.
        facts: folder of `spaarsist facts`; its tables and figures are found as well.
        record: `model.json` of the baseline, for the recipe.
        comparisons: files of `evaluation.comparison.compare`, each named after its family; `baseline` for differences
            from the baseline. The text needs all but `FAMILIES`.
        calibration: files of `evaluation.calibration.calibrate`.
        inspected: folders of `audit.nodes.inspect`, of any trainings, seeds and corpora.
        corpora: (name in the summary, title), the in-domain one first.
        paper_corpora: whether these are the paper's, and the front-end too; else the text disowns their error rates.
        label: a remark on the run, or nothing.
        bootstrap: number of resamples; 0: not told.
        confidence: of the intervals.
        answers: file of `evaluation.comparison.answer`; without it no question of equivalence was asked.
        planted: TSV of `tables.probes.write_planted`; without it nothing was planted.
        speed: folder of `backend.tsv`, `detector.tsv`, `training.tsv` and `scoring.tsv` of `audit.speed`; without it
            the text tells no times.

    Raises:
        ConfigError: a file is unreadable or lacks what is needed, files hold a value twice, no LaTeX is installed, or
            it stopped (its complaint is quoted).
    """
    roles = {name: role for role, (name, _) in zip(ROLES, corpora, strict=False)}
    table = read_summary(summary, [name for name, _ in corpora])
    ranked = read_table(composite, ["system", *_RANKED]).set_index("system")
    found = pd.concat([read_table(p, ["quantity", "value", "unit"]) for p in (findings, facts / "quantities.tsv")])
    shown = read_table(facts / "facts.tsv", ["fact", "obtained"])
    sized = read_sizes([sizes])
    trained = read_record(record)
    claims = read_ledger(ledger)
    values = dict(_calibration_values(calibration, roles))
    for system, row in sized.iterrows():
        values[f"{system}.params"] = f"{row['n_params']:,.0f}"
        values[f"{system}.macs"] = f"{row['n_macs'] / 1e6:.1f}"
    values |= dict(_system_values(table, roles))
    values |= dict(_difference_values(comparisons, roles))
    values |= dict(_node_values(inspected, roles))
    values |= dict(_stack_values(inspected, roles))
    values |= dict(_composite_values(ranked))
    for row in found.itertuples():
        factor, form = FINDING_UNITS.get(row.unit, (1, ".3g"))
        values[row.quantity] = _power_of_ten(format(row.value * factor, form))
    values |= {"facts.frames": str(PAPER_FRAMES), "facts.commit": COMMIT[:12], "facts.all": str(len(shown))}
    values |= {f"{row.fact}.obtained": escape(typeset(str(row.obtained))) for row in shown.itertuples()}
    for row in claims.to_dict("records"):
        row["claimed"] = f"{row['claimed']:,f} {row['unit']}".strip()
        for key in ("claimed", "ours", "verdict", "since"):
            values[f"{row['claim_id']}.{key}"] = escape(typeset(row[key])) or "--"
    for section, tally in counts(claims).items():
        values |= {f"verdict.{section}.{name}": str(tally[name]) for name in VERDICTS}
        values[f"verdict.{section}.all"] = str(tally.total())
    values |= dict(_run_values(trained, table, corpora, label))
    values["run.alpha"], values["run.confidence"] = f"{SIGNIFICANCE:g}", f"{100 * confidence:g}"
    if bootstrap:
        values["run.replicates"] = f"{bootstrap:,}"
    if answers is not None:
        values |= dict(_answer_values(answers))
    if planted is not None:
        values |= dict(_planted_values(planted))
    if speed is not None:
        values |= dict(_backend_values(speed / "backend.tsv"))
        values |= dict(_detector_values(speed / "detector.tsv"))
        values |= dict(_training_values(speed / "training.tsv"))
        values |= dict(_scoring_values(speed / "scoring.tsv"))
    lines = [f"\\expandafter\\def\\csname val@{key}\\endcsname{{{text}}}" for key, text in values.items()]
    given = {path.stem for path in comparisons}
    flags = {
        "papercorpora": paper_corpora,
        "labelled": bool(label),
        "speed": speed is not None,
        "speedoncpu": values.get("training.device") == "cpu",
        "rankone": RANK_1 in table.index,
        "asked": answers is not None,
        "planted": planted is not None,
        **{family.replace("_", ""): family in given for family in FAMILIES},
    }
    lines = [*(f"\\newif\\if{flag}\\{flag}{str(on).lower()}" for flag, on in flags.items()), *lines]
    with writing(results / "paper" / "macros.tex") as path:
        path.write_text(_HEAD + "\n".join([*lines, ""]), "utf-8")
    build_pdf(source, [results, facts], output)


def build_pdf(source: Path, folders: Sequence[Path], output: Path) -> None:
    r"""Compile the report with latexmk or tectonic, whichever is installed.

    Args:
        source: see `write_report`.
        folders: that `\input` and `\includegraphics` start from.
        output: PDF to write.

    Raises:
        ConfigError: see `write_report`.
    """
    source = source.resolve()
    places = [*(folder.resolve() for folder in folders), source.parent]
    search = os.pathsep.join([*map(str, places), ""])
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
            paths = [f"-Zsearch-path={place}" for place in places]
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
\newcommand{\val}[1]{\ifcsname val@#1\endcsname\csname val@#1\endcsname\else
  \GenericError{}{No value is called #1: this experiment lacks that system, corpus or claim}{}{}\fi}
"""


def _system_values(table: pd.DataFrame, roles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for system, row in table.iterrows():
        if not math.isnan(row["n_params_as_run"]):
            yield f"{system}.params_as_run", f"{row['n_params_as_run']:,.0f}"
        for (name, role), (metric, (factor, digits)) in product(roles.items(), METRIC_DIGITS.items()):
            yield f"{system}.{role}.{metric}", escape(number(row[f"{name}.{metric}.mean"] * factor, digits))
            for part in ("ci", "speakers"):
                low, high = (row.get(f"{name}.{metric}.{part}_{end}", math.nan) * factor for end in ("low", "high"))
                yield f"{system}.{role}.{metric}.{part}", escape(interval(low, high, digits))


def _difference_values(paths: Sequence[Path], roles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for path in paths:
        family, table = path.stem, read_comparisons(path, _COMPARED).reset_index()
        yield f"tested.{family}", str(table["p_holm"].notna().sum())
        table = table[table["corpus"].isin(roles)].assign(role=table["corpus"].map(roles))
        for row in table.itertuples():
            name = row.system if family == "baseline" else f"{row.system}/{row.reference}"
            key = f"{name}.{row.role}.{row.metric}.diff"
            if key in seen:
                continue
            seen.add(key)
            factor, digits = METRIC_DIGITS[row.metric]
            yield key, escape(number(row.difference * factor, digits, "+"))
            if not math.isnan(row.ci_low):
                yield f"{key}.ci", escape(interval(row.ci_low * factor, row.ci_high * factor, digits, "+"))
            if not math.isnan(row.p_holm):
                yield f"{key}.p", escape(p_text(row.p_holm))
        tested = table[table["p_holm"].notna()]
        for (role, metric), p in tested.groupby(["role", "metric"])["p_holm"]:
            yield f"tested.{family}.{role}.{metric}", str(len(p))
            yield f"significant.{family}.{role}.{metric}", str((p < SIGNIFICANCE).sum())
        if family == "k_sweep":
            yield from _dial_values(tested[tested["metric"] == "eer"])


def _dial_values(tests: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The flat region around each k_train, from the tests of other k against it."""
    systems = tests["system"].map(System.parse)
    tests = tests.assign(
        k_train=[s.k_train for s in systems],
        label=[s.variant.label for s in systems],
        k=[s.variant.k_infer for s in systems],
    )
    for (k_train, label, role), family in tests.groupby(["k_train", "label", "role"]):
        tested = family.set_index("k")["p_holm"] >= SIGNIFICANCE
        alike = pd.concat([tested, pd.Series({k_train: True})]).sort_index()
        flat = alike.index[flat_region([*alike], alike.index.get_loc(k_train))]
        ends = [f"{flat[0]:g}", f"{flat[-1]:g}"]
        yield f"dial.{ratio_code(k_train)}.{label}.{role}.flat", " to ".join(dict.fromkeys(ends))


def _calibration_values(paths: Sequence[Path], roles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    table = _by_key(paths, ["system", "corpus", "quantity"], ["seed"], ["value"])
    means = table.mean(skipna=False)["value"]
    ends = table.min()["value"], table.max()["value"]
    roles = {corpus: "dev" for _, corpus, quantity in means.index if quantity == "slope"} | {**roles}
    for key, value in means.items():
        system, corpus, quantity = key
        if corpus in roles and not math.isinf(value):
            is_rate = quantity == "eer" or quantity.startswith(("p_miss_", "p_fa_"))
            factor, digits = (100, 1) if is_rate else (1, 0 if quantity.startswith("n_") else 3)
            yield f"{system}.{roles[corpus]}.{quantity}", escape(number(value * factor, digits))
            low, high = (escape(number(end[key] * factor, digits)) for end in ends)
            yield f"{system}.{roles[corpus]}.{quantity}.seeds", "--" if math.isnan(value) else f"{low} to {high}"


def _answer_values(path: Path) -> Iterator[tuple[str, str]]:
    verdicts = read_table(path, ["verdict"], ["verdict"])["verdict"]
    yield "answers.all", str(len(verdicts))
    for verdict in _ANSWERS:
        yield f"answers.{verdict}", str((verdicts == verdict).sum())


def _planted_values(path: Path) -> Iterator[tuple[str, str]]:
    table = read_table(path, ["scorer", "low", "high"], ["scorer"], dtype=dict.fromkeys(("low", "high"), float))
    for scorer, changes in table.groupby("scorer"):
        yield f"planted.{scorer}.all", str(len(changes))
        yield f"planted.{scorer}.more", str((changes["low"] > 0).sum())
        yield f"planted.{scorer}.less", str((changes["high"] < 0).sum())


def _node_values(inspected: Sequence[Path], roles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    paths = [folder / "nodes.tsv" for folder in inspected]
    means = _means(paths, ["trained", "corpus", "label", "k"], ["seed", "layer"], ["jaccard", "chance", "spearman"])
    for (trained, corpus, label, k), row in means.iterrows():
        if label == "all" and corpus in roles:
            stem = f"nodes.{trained.removeprefix('AST-')}.{roles[corpus]}.{ratio_code(k)}"
            for quantity, value in row.dropna().items():
                yield f"{stem}.{quantity}", escape(number(value, 2))
    paths = [folder / "agreement.tsv" for folder in inspected]
    keys = ["trained", "corpus", "label", "k", "variant", "quartile"]
    means = _means(paths, keys, ["seed"], ["score_change", "spearman"])
    for (trained, corpus, label, k, variant, quartile), row in means.iterrows():
        if quartile == "all" and corpus in roles:
            stem = f"nodes.{trained.removeprefix('AST-')}.{roles[corpus]}.{ratio_code(k)}.{variant}"
            if label == "all":
                yield f"{stem}.change", escape(number(row["score_change"], 2))
            else:
                yield f"{stem}.{label}", escape(number(row["spearman"], 2, "+"))


def _stack_values(inspected: Sequence[Path], roles: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    paths = [folder / "stack.tsv" for folder in inspected]
    keys = ["trained", "corpus", "label", "quantity", "stack_temperature", "aggregation"]
    for row in _means(paths, keys, ["seed", "layer"], ["value"]).dropna().reset_index().to_dict("records"):
        if row["label"] == "all" and row["corpus"] in roles and row["quantity"] in STACK_QUANTITIES:
            end, form = STACK_QUANTITIES[row["quantity"]]
            key = f"stack.{row['trained']}.{roles[row['corpus']]}.{end.format_map(row)}"
            yield key, _power_of_ten(format(row["value"], form))


def _backend_values(path: Path) -> Iterator[tuple[str, str]]:
    table = read_backend(path)
    yield from _condition_values("backend", table)
    yield "backend.frames", str(table["n_frames"].iloc[0])
    yield "backend.difference", _power_of_ten(f"{table['max_difference'].max():.1g}")
    sizes = {"small": table["batch_size"].min(), "large": table["batch_size"].max()}
    for batch, size in sizes.items():
        yield f"backend.{batch}", str(size)
        for row in table[table["batch_size"] == size].itertuples():
            stem = f"backend.{row.system}"
            yield f"{stem}.params.change", _percent(row.n_params_change)
            yield f"{stem}.macs.change", _percent(row.n_macs_change)
            yield f"{stem}.{batch}.floor", _three_digits(row.floor_ms)
            stem = f"{stem}.{row.form}.{batch}"
            yield f"{stem}.ms", _three_digits(row.median_ms)
            yield f"{stem}.iqr", _three_digits(row.iqr_ms)
            yield f"{stem}.change", _percent(row.median_ms_change)
            yield f"{stem}.faster", f"{row.speed_up:.1f}"
            yield f"{stem}.floor", f"{100 * row.floor_share:.0f}"


def _detector_values(path: Path) -> Iterator[tuple[str, str]]:
    table = read_detector(path)
    yield from _condition_values("detector", table)
    for part in ("frontend", "head"):
        row = table.loc[(part, "-")]
        yield f"detector.{part}.params", f"{row['n_params']:,.0f}"
        yield f"detector.{part}.macs", f"{row['n_macs'] / 1e6:,.1f}"
        yield f"detector.{part}.ms", _three_digits(row["median_ms"])
        yield f"detector.{part}.iqr", _three_digits(row["iqr_ms"])
        share = row["median_ms"] / table.loc[("backend", BASELINE), "whole_median_ms"]
        yield f"detector.{part}.share", f"{100 * share:.1f}"
    for system, row in table.loc["backend"].iterrows():
        yield f"detector.{system}.ms", _three_digits(row["median_ms"])
        yield f"detector.{system}.whole.ms", _three_digits(row["whole_median_ms"])
        for name, cost in COSTS.items():
            yield f"detector.{system}.{name}.change", _percent(row[f"{cost}_change"])
            yield f"detector.{system}.whole.{name}.change", _percent(row[f"whole_{cost}_change"], 2)
    for part in ("one_variant", "all_variants"):
        row = table.loc[(part, BASELINE)]
        yield f"detector.{part}.ms", _three_digits(row["median_ms"])
        yield f"detector.{part}.change", _percent(row["median_ms_change"])
        yield f"detector.{part}.variants", f"{row['n_variants']:.0f}"


def _training_values(path: Path) -> Iterator[tuple[str, str]]:
    keys = ["form", "memory", "precision"]
    columns = ["batch_size", "n_frames", "median_ms", "iqr_ms", "device", "threads", "rounds", "machine"]
    table = read_table(path, [*keys, *columns], dtype=dict.fromkeys(("median_ms", "iqr_ms"), float)).set_index(keys)
    usual = ("reference", "default", "float32")
    if usual not in table.index or not table.index.is_unique:
        raise ConfigError(
            f"{path}: needs every form, memory and precision once, among them {', '.join(usual)}; make it anew with "
            "`spaarsist benchmark training`"
        )
    yield from _condition_values("training", table)
    yield "training.batch", str(table["batch_size"].iloc[0])
    yield "training.frames", str(table["n_frames"].iloc[0])
    for key, row in table.iterrows():
        stem = ".".join(("training", *key))
        yield f"{stem}.ms", _three_digits(row["median_ms"])
        yield f"{stem}.iqr", _three_digits(row["iqr_ms"])
        yield f"{stem}.faster", f"{table.loc[usual, 'median_ms'] / row['median_ms']:.1f}"


def _scoring_values(path: Path) -> Iterator[tuple[str, str]]:
    table = read_table(path, ["quantity", "value"], dtype={"quantity": str, "value": float})
    if table["quantity"].duplicated().any():
        raise ConfigError(f"{path}: holds a quantity twice; make it anew with `spaarsist benchmark scoring`")
    for row in table.itertuples():
        yield f"scoring.{row.quantity}", _three_digits(row.value)


def _condition_values(file: str, table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for name in ("machine", "device", "threads", "rounds"):
        yield f"{file}.{name}", escape(str(table[name].iloc[0]))


def _percent(share: float, digits: int = 1) -> str:
    return escape(number(100 * share, digits, "+"))


def _three_digits(value: float) -> str:
    """A measured number of any size above zero, in at least three digits."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0}f}"


def _means(paths: Sequence[Path], keys: list[str], over: list[str], values: list[str]) -> pd.DataFrame:
    """Means over some columns of many files, index `keys`; NaN where a value is missing."""
    return _by_key(paths, keys, over, values).mean(skipna=False)


def _by_key(paths: Sequence[Path], keys: list[str], over: list[str], values: list[str]) -> DataFrameGroupBy:
    """Values of many files, grouped by `keys`; each is there once for what `over` names."""
    types = dict.fromkeys(keys, str) | dict.fromkeys(("k", "stack_temperature", *values), float)
    empty = pd.DataFrame(columns=[*keys, *over, *values]).astype(dict.fromkeys(values, float))
    parts = [read_table(path, [*keys, *over, *values], dtype=types) for path in paths]
    table = pd.concat(parts or [empty], ignore_index=True)
    if len(twice := table[table.duplicated([*keys, *over])]):
        raise ConfigError(f"{', '.join(map(str, paths[:3]))}, ...: a value is there twice: {twice.iloc[0].to_dict()}")
    return table.groupby(keys, sort=False, dropna=False)[values]


def _power_of_ten(text: str) -> str:
    """A number in LaTeX, 1.2e-05 as a power of ten."""
    if found := re.fullmatch(r"(.+)e\+?(-?)0*(\d+)", text):
        return rf"\ensuremath{{{found[1]}\times10^{{{found[2]}{found[3]}}}}}"
    return escape(text.replace("-", "−"))


def _composite_values(ranked: pd.DataFrame) -> Iterator[tuple[str, str]]:
    for system, row in ranked.iterrows():
        yield f"{system}.composite", f"{row['composite']:.2f}"
        yield f"{system}.rank", f"{row['rank']:.0f}"
        if not math.isnan(row["rank_ci_low"]):
            yield f"{system}.rank.ci", escape(interval(row["rank_ci_low"], row["rank_ci_high"], 0))
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
    for role, (name, title) in zip(ROLES, corpora, strict=False):
        yield f"run.{role}", escape(title)
        n_speakers = table[f"{name}.n_speakers"].max() if f"{name}.n_speakers" in table else 0
        yield f"run.speakers.{role}", f"{n_speakers:,.0f}" if n_speakers > 0 else "unknown"
    yield "recipe.frontend", escape(recipe["frontend"]["model"])
    yield "recipe.crop", f"{recipe['crop']:,}"
    stages = recipe["stages"]
    count = {1: "one", 2: "two", 3: "three"}.get(len(stages), str(len(stages)))
    yield "recipe.stages", f"{count} stage{'s' * (len(stages) > 1)}"
    yield "recipe.frozen", ", then ".join("trained" if stage["train_frontend"] else "frozen" for stage in stages)
    yield "recipe.layers", "one" if record["n_layers"] == 1 else str(record["n_layers"])
    better = ", and a later stage replaces an earlier one only if it is better"
    yield "recipe.selection", better if recipe["keep_better_stage"] else " in each stage, and the last stage wins"
    yield "recipe.epochs", " + ".join(str(stage["epochs"]) for stage in stages)
    yield "recipe.batch", " and ".join(str(stage["batch_size"]) for stage in stages)
    yield "recipe.embedding", f"{recipe['backend']['embedding_dim']:,}"
