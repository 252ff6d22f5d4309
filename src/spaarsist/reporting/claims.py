"""The claims ledger: every number of the paper and every finding, beside ours, judged by a rule that was fixed before.

`paper/claims.csv` is the only place with claimed numbers; `Claim` describes its columns. A claim that differs is a
result, not a failure.
"""

from __future__ import annotations

import csv
import html
import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy.stats import t as student

from spaarsist.artefacts import read_table, writing
from spaarsist.config import ConfigError, System
from spaarsist.evaluation.summary import read_summary
from spaarsist.reporting.tables import escape, html_page

VERDICTS = ("reproduced", "consistent", "differs", "not comparable", "not run")

RULES = {
    "equals": "the system's value, rounded to the claim's decimals, is the claimed one",
    "exists": "as `equals`, for at least one of the systems named",
    "at_most": "every system's value is at or below the claimed one",
    "above": "every system's value is above the claimed one",
}
"""When a claim is reproduced, by rule."""

PAPER_CORPORA = "paper corpora"
COMPARABLE = ("always", PAPER_CORPORA)
SOURCES = ("abstract", "text", "code", "second-hand")
ROLES = ("in_domain", "out_of_domain", "both")
SCALES = {
    "": Decimal(1), "%": Decimal(100), "k": Decimal("1e-3"), "M": Decimal("1e-6"), "nats": Decimal(1),
    "bits": Decimal(1),
}  # fmt: skip
"""Unit of a claim -> what our value (a fraction, a count) is multiplied by."""

_XLS_R = {"feature_dim": 1024, "n_layers": 24, "embedding_dim": 1024}
PAPER_SIZE = {"n_params": _XLS_R, "n_macs": {**_XLS_R, "n_frames": 201}}
"""What a size must have been counted with to be held against the paper's; 64,600 samples give 201 frames."""

CONFIDENCE = 0.95  # of the t interval over seeds; the bootstrap's is the run's

_QUANTITY = re.compile(r"F\d+_")  # of the findings file

SECTIONS = {
    "C": ("What the paper claims", "tab:claims"),
    "S": ("Second-hand: from a third party's digest of the paper, not verified", "tab:second-hand"),
    "F": (
        "Our findings about the released code, each confirmed (reproduced) or not (differs) by a measurement",
        "tab:findings",
    ),
}
"""First letter of a claim's id -> heading and LaTeX label of its table."""

LEDGER_COLUMNS = (
    "claim_id", "where", "source", "statement", "system", "corpus", "metric", "claimed", "ours", "ci_low", "ci_high",
    "unit", "verdict", "rule", "why",
)  # fmt: skip


class Claim(NamedTuple):
    """One line of `claims.csv`.

    Attributes:
        claim_id: C (the paper's), S (second-hand) or F (finding) and a number; a letter where a claim has several rows.
        where: place in its source.
        source: one of `SOURCES`; `code` was found by reading or running the released code.
        statement: the claim in a sentence.
        system: names or shell patterns of systems, separated by spaces; behind ` / `, the system that they are
            relative to. Empty for findings.
        corpus: `in_domain`, `out_of_domain`, `both` (the larger, that is worse, of the two values), or empty for what
            no corpus decides.
        metric: `n_params`, `n_macs`, `rank` (of AASIST configurations, by the composite score), with a corpus a metric
            of the summary, or for a finding one of its quantities (`F2_...`), likewise with ` / ` and another.
        claimed: the number, or the bound of a claim without number. With ` / ` it is a relative change: ours /
            reference - 1.
        decimals: digits that `claimed` is rounded to, for `equals` and `exists`; -1 rounds to tens.
        unit: one of `SCALES`.
        rule: one of `RULES`.
        comparable: `always`, or `paper corpora`: judged only in runs on the paper's corpora with its front-end.
        note: for whoever edits the file.
    """

    claim_id: str
    where: str
    source: str
    statement: str
    system: str
    corpus: str
    metric: str
    claimed: Decimal
    decimals: int | None
    unit: str
    rule: str
    comparable: str
    note: str

    @property
    def is_finding(self) -> bool:
        """Whether its value stands in the findings file."""
        return bool(_QUANTITY.match(self.metric))

    @property
    def subject(self) -> tuple[list[str], str]:
        """Patterns of what is judged, and what it is relative to (or nothing)."""
        names, _, reference = (self.metric if self.is_finding else self.system).partition(" / ")
        return names.split(), reference


class _Value(NamedTuple):
    """One of our values: of what, how it came about, its interval and of what kind that is, what counted it."""

    name: str
    value: Decimal
    how: str
    low: Decimal | None = None
    high: Decimal | None = None
    interval: str = ""
    counter: str = ""

    def scaled(self, factor: Decimal) -> _Value:
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        return self._replace(value=self.value * factor, low=low, high=high)


class _NotJudged(Exception):
    """Carries the verdict and the reason."""


def read_claims(path: Path) -> list[Claim]:
    """Read and check `claims.csv`.

    Raises:
        ConfigError: it is unreadable, lacks columns, or has a line with a wrong number of fields, an id twice, an
            unknown word in a column that knows only a few, a number that is none, or no decimals where the rule rounds.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns, lines = reader.fieldnames or [], [(reader.line_num, fields) for fields in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path}: not a readable CSV ({error})") from None
    if absent := [column for column in Claim._fields if column not in columns]:
        raise ConfigError(f"{path}: columns missing: {', '.join(absent)}")
    claims: dict[str, Claim] = {}
    for number, fields in lines:
        try:
            claim = _parse(fields)
            if claim.claim_id in claims:
                raise ValueError("claim_id: it stands here twice; number one of them anew")
        except ValueError as error:
            raise ConfigError(f"{path}, line {number} ({fields['claim_id']}): {error}") from None
        claims[claim.claim_id] = claim
    if not claims:
        raise ConfigError(f"{path}: holds no claim")
    return [*claims.values()]


def _parse(fields: dict[str, str]) -> Claim:
    if None in fields or None in fields.values():
        raise ValueError("another number of fields than the heading; quote a text that has a comma in it")
    known = {"source": SOURCES, "corpus": ("", *ROLES), "unit": SCALES, "rule": RULES, "comparable": COMPARABLE}
    for column, words in known.items():
        if fields[column] not in words:
            raise ValueError(f"{column}: {fields[column]!r} is unknown; one of {', '.join(filter(None, words))}")
    try:
        numbers = {
            "claimed": Decimal(fields["claimed"]),
            "decimals": int(fields["decimals"]) if fields["decimals"] else None,
        }
    except (InvalidOperation, ValueError):
        raise ValueError("claimed must be a number, decimals a whole number or empty") from None
    claim = Claim(**{column: fields[column] for column in Claim._fields} | numbers)
    if not re.fullmatch(r"[CSF]\d+[a-z]?", claim.claim_id):
        raise ValueError("claim_id: expected C, S or F, a number, and perhaps a letter")
    if not claim.claimed.is_finite():
        raise ValueError("claimed must be finite")
    if claim.rule in ("equals", "exists"):
        if claim.decimals is None:
            raise ValueError(f"decimals: the rule {claim.rule} rounds and needs them")
        if _round(claim.claimed, claim.decimals) != claim.claimed:
            raise ValueError(f"claimed has more than {claim.decimals} decimals")
    of_corpora = bool(claim.corpus) or claim.metric == "rank"
    if not (of_corpora or claim.is_finding or claim.metric in PAPER_SIZE):
        raise ValueError(f"metric: {claim.metric!r} needs a corpus")
    if of_corpora != (claim.comparable == PAPER_CORPORA):
        raise ValueError(f"comparable: {PAPER_CORPORA!r} is for what corpora decide, and for nothing else")
    patterns, _ = claim.subject
    if not patterns:
        raise ValueError("system: no system is named")
    if claim.rule == "equals" and (len(patterns) > 1 or re.search(r"[*?\[]", patterns[0])):
        raise ValueError("system: the rule equals takes a single one")
    return claim


def judge(
    claims: Path,
    summary: Path,
    findings: Path,
    output_stem: Path | None,
    corpora: Sequence[tuple[str, str]],
    paper_corpora: bool,
    composite: Path | None = None,
    label: str = "",
) -> pd.DataFrame:
    """Judge every claim; write the ledger as `<output_stem>.tsv` (for machines), `.md`, `.tex`, `.html` (for readers).

    ==============  ==================================================================================================
    reproduced      the claim's rule holds (`RULES`)
    consistent      it does not, but the claimed value lies within the interval of ours
    differs         neither
    not comparable  parameters or MACs were counted at another size than the paper's (`PAPER_SIZE`)
    not run         the run lacks a system, a corpus or a quantity, or the claim is on the paper's corpora and front-end
                    and the run is not
    ==============  ==================================================================================================

    Values are means over training seeds. The interval is, for one seed, the bootstrap's over trials at the confidence
    that the run was evaluated with and, for n seeds, mean +- t(n - 1) std / sqrt(n) at 95 %; relative changes, ranks,
    sizes and findings have none, so that claims which compare systems are judged on means alone, without a test. With
    two or three seeds the interval is so wide that `consistent` says little: it is shown beside the value. A rank is
    that of the composite score among the AASIST configurations in its file (the paper's Table 1); equal scores share
    the lowest. Rounding is decimal, on the digits that the files show, and half away from zero.

    Args:
        claims: `paper/claims.csv`.
        summary: file of `evaluation.summary.summarise`.
        findings: file of `evaluation.findings.measure`.
        output_stem: path of the outputs without their endings; None writes nothing.
        corpora: (name in the summary, title), in domain first, then out of domain.
        paper_corpora: whether these are the paper's, and the front-end too.
        composite: file of `evaluation.selection.composite`; without it claims on ranks are not run.
        label: said in headings and captions, e.g. that the corpora are miniatures.

    Returns:
        One row per claim in the order of the file, columns `LEDGER_COLUMNS`: `claimed` (a Decimal), `ci_low` and
        `ci_high` (floats, NaN where there are none) in `unit`; `ours` as text with its unit, empty where not judged.

    Raises:
        ConfigError: a file is unreadable, lacks columns or is not what it should be (see `read_claims`), or the
            summary's systems come from more than one state of the code.
    """
    names = [name for name, _ in corpora]
    systems = read_summary(summary, names)
    _refuse_mixed_code(summary, systems["code_hash"])
    scores = None
    if composite:
        scores = _read(composite, "system", ["composite"])["composite"]
        scores = scores[[System.parse(name).variant is not None for name in scores.index]]
    run = _Run(
        systems,
        _read(findings, "quantity", ["value", "how"]),
        scores,
        {"in_domain": names[:1], "out_of_domain": names[1:2], "both": names[:2] if len(names) > 1 else []},
        paper_corpora,
    )
    ledger = pd.DataFrame([_judge(claim, run) for claim in read_claims(claims)], columns=LEDGER_COLUMNS)
    if output_stem is not None:
        with writing(f"{output_stem}.tsv") as path:
            ledger.to_csv(path, sep="\t", index=False, float_format="%.10g")
        with writing(f"{output_stem}.md") as path:
            path.write_text(_markdown(ledger, label), encoding="utf-8")
        with writing(f"{output_stem}.tex") as path:
            path.write_text(_latex(ledger, label), encoding="utf-8")
        with writing(f"{output_stem}.html") as path:
            path.write_text(_html(ledger, label), encoding="utf-8")
    return ledger


def read_ledger(path: Path) -> pd.DataFrame:
    """Read a ledger's TSV back, as `judge` returned it.

    Raises:
        ConfigError: it is unreadable or no ledger.
    """
    empty = {"ci_low": [""], "ci_high": [""]}
    texts = dict.fromkeys({*LEDGER_COLUMNS} - {*empty}, str)
    try:
        table = pd.read_csv(path, sep="\t", keep_default_na=False, na_values=empty, dtype=texts)
        return table.assign(claimed=table["claimed"].map(Decimal))[[*LEDGER_COLUMNS]]
    except (OSError, ValueError, KeyError, InvalidOperation) as error:
        raise ConfigError(f"{path}: not a readable ledger of claims ({error!r})") from None


def _read(path: Path, index: str, columns: Sequence[str]) -> pd.DataFrame:
    table = read_table(path, [index, *columns], quoting=csv.QUOTE_NONE)
    if table[index].duplicated().any():
        raise ConfigError(f"{path}: {table[index][table[index].duplicated()].iloc[0]} stands in it twice")
    return table.set_index(index)


def _refuse_mixed_code(summary: Path, code_hash: pd.Series) -> None:
    """Results of two states of the code are not one experiment; scores from elsewhere are of an unknown state."""
    states: dict[str, list[str]] = {}
    for system, hashes in code_hash.fillna("").items():
        for state in hashes.split("+"):
            states.setdefault(state or "unknown", []).append(system)
    if len(states) > 1:
        found = "; ".join(
            f"{state} ({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
            for state, names in states.items()
        )
        raise ConfigError(
            f"{summary}: code_hash: the systems come from {len(states)} states of the code: {found}; remove the older "
            "checkpoints and scores of the experiment and run it again"
        )


class _Run(NamedTuple):
    """What was measured; `composite` is of AASIST configurations, `corpora` names those that play each role."""

    systems: pd.DataFrame
    findings: pd.DataFrame
    composite: pd.Series | None
    corpora: dict[str, list[str]]
    paper_corpora: bool

    def values(self, claim: Claim) -> list[_Value]:
        """Our value of each system or quantity that a claim names, in its unit; raises `_NotJudged`."""
        if claim.comparable == PAPER_CORPORA and not self.paper_corpora:
            raise _NotJudged("not run", "other corpora or another front-end than the paper's")
        if claim.metric == "rank" and self.composite is None:
            raise _NotJudged("not run", "no composite score in this run")
        table = self.findings if claim.is_finding else self.composite if claim.metric == "rank" else self.systems
        corpora = self.corpora[claim.corpus] if claim.corpus else [""]
        if not corpora:
            raise _NotJudged("not run", f"no corpus {claim.corpus} in this run")
        patterns, reference = claim.subject
        matched = {pattern: [name for name in table.index if fnmatchcase(name, pattern)] for pattern in patterns}
        absent = [pattern for pattern, names in matched.items() if not names]
        if reference and reference not in table.index:
            absent.append(reference)
        if absent:
            raise _NotJudged("not run", f"no {', '.join(absent)} in this run")
        values = []
        for name in dict.fromkeys(name for names in matched.values() for name in names):
            each = [self._value(claim, name, corpus) for corpus in corpora]
            if reference:
                each = [_change(v, self._value(claim, reference, c)) for v, c in zip(each, corpora, strict=True)]
            values.append(max(each, key=lambda v: v.value).scaled(SCALES[claim.unit]))
        return values

    def _value(self, claim: Claim, name: str, corpus: str) -> _Value:
        what = f"{claim.metric} of {name}"
        if claim.is_finding:
            return _Value(name, _number(self.findings.loc[name, "value"], name), self.findings.loc[name, "how"])
        if claim.metric == "rank":
            scores = {system: _number(score, f"composite of {system}") for system, score in self.composite.items()}
            rank = Decimal(1 + sum(score < scores[name] for score in scores.values()))
            return _Value(name, rank, f"rank by our composite score among {len(scores)} AASIST configurations")
        row = self.systems.loc[name]
        if claim.metric in PAPER_SIZE:
            paper = PAPER_SIZE[claim.metric]
            how, wanted = (", ".join(f"{column} {size[column]}" for column in paper) for size in (row, paper))
            if how != wanted:
                raise _NotJudged("not comparable", f"counted at {how}, not at the paper's {wanted}")
            counter = row["counter"] if claim.metric == "n_macs" else ""
            return _Value(name, _number(row[claim.metric], what), f"counted at {how}", counter=counter)
        stem, n_seeds = f"{corpus}.{claim.metric}", row[f"{corpus}.n_seeds"]
        mean, std, low, high = (row.get(f"{stem}.{part}", math.nan) for part in ("mean", "std", "ci_low", "ci_high"))
        value = _Value(name, _number(mean, what), "one seed")
        interval = "bootstrap interval over trials"
        if n_seeds > 1:
            half = float(student.ppf((1 + CONFIDENCE) / 2, n_seeds - 1)) * std / math.sqrt(n_seeds)
            low, high = mean - half, mean + half
            value, interval = value._replace(how=f"mean of {n_seeds} seeds"), "t interval over seeds"
        if math.isnan(low) or math.isnan(high):
            return value
        return value._replace(low=_number(low, what), high=_number(high, what), interval=interval)


def _number(value: float, what: str) -> Decimal:
    """The digits that stand in the file, without what reading them as a binary float adds behind the fifteenth."""
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"{what}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise _NotJudged("not run", f"no finite {what} in this run")
    return Decimal(f"{number:.15g}")


def _change(value: _Value, reference: _Value) -> _Value:
    if not reference.value:
        raise _NotJudged("not comparable", f"relative to {reference.name}, which is 0")
    change = value.value / reference.value - 1
    return _Value(value.name, change, f"against {reference.name}; {value.how}", counter=value.counter)


def _round(value: Decimal, decimals: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) + 0  # + 0: never a negative zero


def _judge(claim: Claim, run: _Run) -> dict[str, object]:
    row = {column: getattr(claim, column) for column in LEDGER_COLUMNS if column in Claim._fields}
    try:
        values = run.values(claim)
    except _NotJudged as gap:
        verdict, why = gap.args
        return row | {"ours": "", "ci_low": math.nan, "ci_high": math.nan, "verdict": verdict, "why": why}

    def holds(value: _Value) -> bool:
        match claim.rule:
            case "at_most":
                return value.value <= claim.claimed
            case "above":
                return value.value > claim.claimed
        return _round(value.value, claim.decimals) == claim.claimed

    def within(value: _Value) -> bool:
        return value.low is not None and value.low <= claim.claimed <= value.high

    def order(value: _Value) -> object:
        """What decides comes first: the likest, or the nearest to breaking a bound."""
        match claim.rule:
            case "at_most":
                return -value.value
            case "above":
                return value.value
        return not holds(value), not within(value), abs(value.value - claim.claimed)

    enough = any if claim.rule == "exists" else all
    if enough(holds(v) for v in values):
        verdict = "reproduced"
    else:
        verdict = "consistent" if enough(holds(v) or within(v) for v in values) else "differs"
    first, *others = sorted(values, key=order)
    shown, reasons = [first], [first.how]
    if first.interval and verdict != "reproduced":
        reasons.insert(0, f"claimed value {'in' if verdict == 'consistent' else 'out'}side the {first.interval}")
    if others and claim.rule == "exists":
        shown += others
        if verdict == "reproduced":
            reasons.insert(0, f"{first.name} has it")
    elif others:
        reasons.insert(0, f"the {'lowest' if claim.rule == 'above' else 'highest'} of {len(values)}")
    if claim.corpus and claim.subject[1]:
        reasons.append("no interval or test")
    ours = "; ".join(_shown(claim, value) + (f" ({value.name})" if others else "") for value in shown)
    return row | {
        "ours": f"{ours} by {first.counter}" if first.counter else ours,
        "ci_low": math.nan if first.low is None else float(first.low),
        "ci_high": math.nan if first.high is None else float(first.high),
        "verdict": verdict,
        "why": "; ".join(reasons),
    }


def _shown(claim: Claim, value: _Value) -> str:
    """One of our values with its unit and interval: as many decimals as the claim has, or four digits."""

    def digits(number: Decimal) -> str:
        sign = "+" if claim.subject[1] and number > 0 else ""
        if claim.decimals is None:
            return f"{float(number):{sign},.4g}"
        return f"{_round(number, claim.decimals if claim.decimals >= 0 else 1):{sign},f}"

    text = f"{digits(value.value)} {claim.unit}".strip()
    return f"{text} [{digits(value.low)}, {digits(value.high)}]" if value.interval else text


def _claimed(row: NamedTuple) -> str:
    """The claimed value with its unit; a bound with its sign."""
    relative = " / " in f"{row.system}{row.metric}"
    number = f"{row.claimed:{'+' if relative and row.claimed > 0 else ''},f}"
    return " ".join(filter(None, [{"at_most": "≤", "above": ">"}.get(row.rule), number, row.unit]))


def counts(ledger: pd.DataFrame) -> dict[str, Counter[str]]:
    """Number of claims by verdict, for each letter of `SECTIONS`: the paper's claims and our findings never add up."""
    letters = ledger["claim_id"].str[0]
    return {letter: Counter(ledger["verdict"][letters == letter]) for letter in SECTIONS}


def _sections(ledger: pd.DataFrame) -> list[tuple[str, str, str, list[NamedTuple]]]:
    """Heading, count of verdicts, LaTeX label and rows of each section that has any."""
    parts = []
    for letter, verdicts in counts(ledger).items():
        if rows := [row for row in ledger.itertuples(index=False) if row.claim_id.startswith(letter)]:
            heading, key = SECTIONS[letter]
            count = ", ".join(f"{verdict} {verdicts[verdict]}" for verdict in VERDICTS)
            parts.append((heading, f"{len(rows)} in all: {count}", key, rows))
    return parts


def render(ledger: pd.DataFrame) -> str:
    """Set the ledger in plain text, at most 120 columns wide; at the end, each section's verdicts and what was not run.

    Args:
        ledger: what `judge` or `read_ledger` returns.
    """
    widths = (4, 12, 14, 30, 52)
    lines = []

    def put(*cells: str) -> None:
        wrapped = [textwrap.wrap(text, width) or [""] for text, width in zip(cells, widths, strict=True)]
        for index in range(max(map(len, wrapped))):
            texts = [part[index] if index < len(part) else "" for part in wrapped]
            lines.append("  ".join(f"{text:{width}}" for text, width in zip(texts, widths, strict=True)).rstrip())

    sections = _sections(ledger)
    for heading, _, _, rows in sections:
        lines += [heading.upper(), ""]
        put("id", "verdict", "claimed", "ours", "claim")
        put(*("-" * width for width in widths))
        for row in rows:
            put(row.claim_id, row.verdict, _claimed(row), row.ours or "-", row.statement)
        lines.append("")
    for heading, count, _, rows in sections:
        lines += [heading, f"  {count}"]
        for verdict in ("not comparable", "not run"):
            reasons = Counter(row.why for row in rows if row.verdict == verdict)
            lines += [f"  {verdict}, {number}: {why}" for why, number in reasons.most_common()]
    return "\n".join([*lines, ""])


_NOTES = (
    "Claims without a number of their own are judged by a bound of ours, which stands in the claimed column with its "
    "sign (≤, >). Where several systems could be meant, each is shown. Reproduced: the rounded value is the claimed "
    "one, or the bound holds; consistent: the claimed value lies in our interval (in brackets: for one seed the "
    "bootstrap's over trials, at this run's confidence; for several the 95 % t interval over seeds, which is wide); "
    "not run: nothing was measured here that could be held against the claim. Systems are compared and ranked by means "
    "alone, without interval or test."
)


def _markdown(ledger: pd.DataFrame, label: str) -> str:
    lines = [f"# Claims{f' ({label})' if label else ''}", "", _NOTES]
    for heading, count, _, rows in _sections(ledger):
        lines += ["", f"## {heading}", "", f"{count}.", "", "| id | source | claim | claimed | ours | verdict | why |"]
        lines.append("| :--- | :--- | :--- | ---: | ---: | :--- | :--- |")
        for row in rows:
            verdict = f"**{row.verdict}**" if row.verdict == "differs" else row.verdict
            cells = (row.claim_id, row.source, row.statement, _claimed(row), row.ours or "–", verdict, row.why)
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _html(ledger: pd.DataFrame, label: str) -> str:
    sections = {
        f"{heading}. {count}": pd.DataFrame(
            [(r.claim_id, r.source, r.statement, _claimed(r), r.ours or "–", r.verdict, r.why) for r in rows],
            columns=["id", "source", "claim", "claimed", "ours", "verdict", "why"],
        ).map(html.escape)
        for heading, count, _, rows in _sections(ledger)
    }
    return html_page("Claims", label, _NOTES, sections)


def _tex(text: str) -> str:
    text = re.sub(r"(^|[ (])-(?=\d)", r"\1−", text)  # a minus sign, not the hyphen of a name
    text = escape(text).replace("≤", r"$\le$")
    text = re.sub(r"([\d.]+)e-0?(\d+)", r"$\1\\times10^{-\2}$", text)
    return re.sub(r"(?<=\d) (?=(\\%|k|M|nats|bits)(\W|$))", "~", text)


def _latex(ledger: pd.DataFrame, label: str) -> str:
    """One float over both columns for each section: all together would not fit a page."""
    lines = []
    named = rf"\textbf{{{_tex(label)}.}} " if label else ""
    for heading, count, key, rows in _sections(ledger):
        caption = f"{heading}. {count}. {_NOTES if not lines else ''}".strip()
        lines += [
            r"\begin{table*}[p]",
            r"\centering",
            rf"\caption{{{named}{_tex(caption)}}}",
            rf"\label{{{key}}}",
            r"\scriptsize",
            r"\setlength{\tabcolsep}{3pt}",
            r"\begin{tabular}{@{}llp{.40\textwidth}rp{.25\textwidth}l@{}}",
            r"\toprule",
            r"Id & Source & Claim & Claimed & Ours & Verdict \\",
            r"\midrule",
        ]
        for row in rows:
            style = {"differs": "textbf", "not run": "textit"}.get(row.verdict, "textrm")
            cells = [
                row.claim_id, row.source, rf"\raggedright {_tex(row.statement)}", _tex(_claimed(row)),
                rf"\raggedright {_tex(row.ours or '–')}", rf"\{style}{{{row.verdict}}}",
            ]  # fmt: skip
            lines.append(rf"{' & '.join(cells)} \\ \addlinespace[1pt]")
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""]
    return "\n".join(lines)
