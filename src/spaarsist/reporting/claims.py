"""The claims ledger: every number of the paper beside ours, judged by a rule that is written down.

`paper/claims.csv` holds the claims, `paper/facts.csv` what we found in paper and released code; `Claim` describes their
columns. These are the only places with claimed numbers. A claim that differs is a result, not a failure.
"""

from __future__ import annotations

import csv
import math
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from spaarsist.artefacts import read_table, refuse_mixed_code
from spaarsist.evaluation.comparison import SIGNIFICANCE, read_comparisons
from spaarsist.evaluation.summary import read_sizes, read_summary
from spaarsist.names import CONVENTIONS, PAPER_FRAMES, ConfigError
from spaarsist.reporting.tables.layout import SECTION, p_text, write

CONVENTION, SYSTEM = "reproduced under another convention", "reproduced for another system"
VERDICTS = (
    "reproduced", CONVENTION, SYSTEM, "consistent", "inconclusive", "differs", "not comparable", "not run",
)  # fmt: skip

RULES = {
    "equals": "the value, rounded to the claim's decimals, is the claimed one: of the first system named; else of its "
    "MACs as the paper counts them; else of one of the other systems named",
    "exists": "the value, rounded to the claim's decimals, is the claimed one, for at least one of the systems named",
    "at_most": "every system's interval lies at or below the claimed value",
    "above": "every system's interval lies above the claimed value; of a direction (above 0, where differences were "
    "tested) instead: every system's value lies above 0, significantly",
    "within": "every system's interval lies between the claimed value and its negative, without these two",
}
"""When a claim is reproduced, by rule. A value without an interval stands for its interval."""

WIDEST = {"equals": Decimal("0.5"), "exists": Decimal("0.5"), "at_most": Decimal(1), "above": Decimal(1),
          "within": Decimal(2)}  # fmt: skip
"""Rule -> how wide an interval may be, in sizes of the claimed value, to have been able to refute it. A wider one is
`inconclusive`, and so is every interval of a mere direction (above 0) that is not significant."""

PAPER_CORPORA = "paper corpora"
COMPARABLE = ("always", PAPER_CORPORA, "never")
SOURCES = ("abstract", "text", "code", "second-hand")
ROLES = ("in_domain", "out_of_domain", "both")
SCALES = {
    "": Decimal(1), "%": Decimal(100), "k": Decimal("1e-3"), "M": Decimal("1e-6"), "nats": Decimal(1),
    "bits": Decimal(1),
}  # fmt: skip
"""Unit of a claim -> what our value (a fraction, a count) is multiplied by."""

_XLS_R = {"feature_dim": 1024, "n_layers": 24, "embedding_dim": 1024}
PAPER_SIZE = {"n_params": _XLS_R, "n_macs": {**_XLS_R, "n_frames": 201}, "n_macs_linear": _XLS_R}
"""What a size must have been counted with to be held against the paper's; 64,600 samples give 201 frames."""

_COUNTED = {
    "n_macs": "{row[counter]}, {row[n_frames]} frames",
    "n_macs_linear": f"{CONVENTIONS['linear_head']}, {PAPER_FRAMES} frames",
}


_COMPARED = ("n_seeds", "value", "reference_value", "difference", "ci_low", "ci_high", "p_holm")

_QUANTITY = re.compile(r"[CF]\d+_")  # of the findings file

SECTIONS = {
    "C": "What the paper claims",
    "S": "Second-hand: from a third party's digest of the paper, not verified",
    "F": "What we found about the released code, each shown (reproduced) or not (differs) by this run's trainings",
}
"""First letter of a claim's id -> heading of its part of the ledger."""

COMMIT = "62f06a6a81c45bb024e8e8f93ae0e1dcf11caa98"
"""Of the released code, https://github.com/Security-FIT/SpAArSIST, that facts name files and lines of."""

LEDGER_COLUMNS = (
    "claim_id", "where", "source", "statement", "system", "corpus", "metric", "claimed", "ours", "ci_low", "ci_high",
    "unit", "verdict", "rule", "since", "why",
)  # fmt: skip


class Claim(NamedTuple):
    """One line of `claims.csv` or `facts.csv`.

    Attributes:
        claim_id: C (the paper's), S (second-hand) or F (finding) and a number; a letter where a claim has several rows.
        where: place in its source; of facts, file and lines of the released code at `COMMIT`.
        source: one of `SOURCES`; `code` was found by reading or running the released code.
        statement: the claim in a sentence.
        system: names or shell patterns of systems, separated by spaces, the one that is meant first; behind ` / `, the
            system that they are relative to. Empty for findings.
        corpus: `in_domain`, `out_of_domain`, `both` (the larger, that is worse, of the two values, and of the two
            upper and lower ends of their intervals), or empty for what no corpus decides.
        metric: `n_params`, `n_macs`, with a corpus a metric of the summary, or for a finding one of its quantities
            (`F2_...`), likewise with ` / ` and another.
        claimed: the number, or the bound of a claim without number. With ` / ` it is a relative change: ours /
            reference - 1.
        decimals: digits that `claimed` is rounded to, for `equals` and `exists`.
        unit: one of `SCALES`.
        rule: one of `RULES`.
        comparable: `always`; `paper corpora`: judged only in runs on the paper's corpora with its front-end; or
            `never`, for the reason in `note`.
        since: date when the rule and its bound were written, as YYYY-MM-DD: only of runs after it were they fixed
            before.
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
    since: str
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
    """One of our values: of what, how it came about, its interval and of what kind that is, what counted it.

    `p` is that of a paired test, NaN where this metric is not tested, and None where nothing was compared.
    """

    name: str
    value: Decimal
    how: str
    low: Decimal | None = None
    high: Decimal | None = None
    interval: str = ""
    counter: str = ""
    p: float | None = None

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
                raise ValueError("claim_id: it is here twice; give one of them another number")
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
    if (numbers["decimals"] or 0) < 0:
        raise ValueError("decimals must not be negative")
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
    if claim.rule == "within" and claim.claimed <= 0:
        raise ValueError("claimed: the rule within needs a bound above 0")
    try:
        date.fromisoformat(claim.since)
    except ValueError:
        raise ValueError(f"since: {claim.since!r} is no date such as 2026-11-23") from None
    if claim.comparable == "never":
        if not claim.note:
            raise ValueError("note: say why nothing can be held against it")
        return claim
    if not (claim.corpus or claim.is_finding or claim.metric in PAPER_SIZE):
        raise ValueError(f"metric: {claim.metric!r} needs a corpus")
    if bool(claim.corpus) != (claim.comparable == PAPER_CORPORA):
        raise ValueError(f"comparable: {PAPER_CORPORA!r} is for what corpora decide, and for nothing else")
    patterns, _ = claim.subject
    if not patterns:
        raise ValueError("system: no system is named")
    if claim.rule == "equals" and re.search(r"[*?\[]", " ".join(patterns)):
        raise ValueError("system: the rule equals takes names, no patterns")
    return claim


def judge(
    claims: Path,
    summary: Path,
    sizes: Path,
    findings: Path,
    output_stem: Path | None,
    corpora: Sequence[tuple[str, str]],
    paper_corpora: bool,
    label: str = "",
    comparisons: Sequence[Path] = (),
    departures: Sequence[str] = (),
    footer: str = "",
) -> pd.DataFrame:
    """Judge every claim; write the ledger as `<output_stem>.tsv` (for machines), `.md`, `.tex`, `.html` (for readers).

    ==============  ==================================================================================================
    reproduced      the claim's rule holds (`RULES`); "under another convention" where MACs come out as the paper counts
                    them, "for another system" where the number is that of a system that the paper does not name
    consistent      it does not, but our interval leaves room for it and is narrow enough to have refuted it (`WIDEST`)
    inconclusive    our interval leaves room for it, and for nearly anything else; of a direction: not significant
    differs         none of these
    not comparable  parameters or MACs were counted at another size than the paper's (`PAPER_SIZE`), or the claim rests
                    on something that is not known
    not run         the run lacks a system, a corpus or a quantity, or the claim is on the paper's corpora and front-end
                    and the run is not
    ==============  ==================================================================================================

    Values are means over training seeds. The interval of a single system's is the widest of: the bootstrap's over
    trials; the bootstrap's over speakers, where they are known; and for n > 1 seeds mean +- t(n - 1) std / sqrt(n) at
    95 %. The first two take the seeds as given and the last the trials: each is too narrow by what it leaves out, and
    another team's number comes of another training in any case.

    Relative changes between systems on a corpus come from `comparisons`, over the seeds that both have: the paired
    difference and its interval, which knows trials and (where there are several) seeds, by the reference's mean (taken
    as exact), with either of the two as the reference. What stands in none of the files is judged on means alone, and
    the ledger says so. Sizes and findings have no interval. Rounding is decimal, on the digits that the files show, and
    half away from zero.

    Args:
        claims: `paper/claims.csv`.
        summary: file of `evaluation.summary.summarise`.
        sizes: file of `audit.complexity.write_complexity` at the paper's size; of systems not trained, too.
        findings: file of `audit.findings.measure`: what this run's trainings show.
        output_stem: path of the outputs without their endings; None writes nothing.
        corpora: (name in the summary, title), in domain first, then out of domain.
        paper_corpora: whether these are the paper's, and the front-end too.
        label: said in headings and captions, e.g. that the corpora are miniatures.
        comparisons: files of `evaluation.comparison.compare`; a pair that several hold counts as in the first.
        departures: keys by which the run departs from the paper's text or the released code, said beside every accuracy
            that differs.
        footer: how it was made (`artefacts.footer`), at the end of what readers get.

    Returns:
        One row per claim in the order of the file, columns `LEDGER_COLUMNS`: `claimed` (a Decimal), `ci_low` and
        `ci_high` (floats, NaN where there are none) in `unit`; `ours` as text with its unit, empty where not judged.

    Raises:
        ConfigError: a file is unreadable, lacks columns or is not what it should be (see `read_claims`), or the
            summary's systems of one training kind come from more than one state of the code.
    """
    names = [name for name, _ in corpora]
    systems = read_summary(summary, names)
    refuse_mixed_code(f"{summary}: code_hash", _states_of_code(systems))
    run = _Run(
        systems,
        read_sizes([sizes]),
        _read(findings, "quantity", ["value", "how"]),
        {"in_domain": names[:1], "out_of_domain": names[1:2], "both": names[:2] if len(names) > 1 else []},
        paper_corpora,
        _either_way(comparisons),
        departures,
    )
    ledger = pd.DataFrame([_judge(claim, run) for claim in read_claims(claims)], columns=LEDGER_COLUMNS)
    if output_stem is not None:
        shown = _shown_to_readers(ledger)
        write(
            output_stem,
            ledger,
            shown,
            heading="Claims",
            subject="Every claim beside what we obtain.",
            notes=_NOTES,
            tex_label="tab:claims",
            label=label,
            footer=footer,
            marked=shown.apply(lambda column: (column.name == "Verdict") & column.str.startswith("differs")),
            brief_latex=True,
            wrapped={"Claim": 76, "Ours": 54},
        )
    return ledger


def judge_facts(facts: Path, quantities: Path) -> pd.DataFrame:
    """Judge what we found in paper and released code by what was measured of it.

    Args:
        facts: `paper/facts.csv`.
        quantities: file of `audit.facts.measure`.

    Returns:
        As `judge`.

    Raises:
        ConfigError: a file is unreadable, lacks columns or is not what it should be (see `read_claims`).
    """
    run = _Run(pd.DataFrame(), pd.DataFrame(), _read(quantities, "quantity", ["value", "how"]), {}, False, {})
    return pd.DataFrame([_judge(fact, run) for fact in read_claims(facts)], columns=LEDGER_COLUMNS)


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


def _either_way(paths: Sequence[Path]) -> dict[tuple[str, str, str, str], NamedTuple]:
    """(system, reference, corpus, metric) -> row of the first file that has it, in whichever direction."""
    found: dict[tuple[str, str, str, str], NamedTuple] = {}
    for path in paths:
        for row in read_comparisons(path, _COMPARED).reset_index().itertuples(index=False):
            turned = row._replace(
                system=row.reference, reference=row.system, value=row.reference_value, reference_value=row.value,
                difference=-row.difference, ci_low=-row.ci_high, ci_high=-row.ci_low,
            )  # fmt: skip
            found.setdefault(row[:4], row)
            found.setdefault(turned[:4], turned)
    return found


def _read(path: Path, index: str, columns: Sequence[str]) -> pd.DataFrame:
    table = read_table(path, [index, *columns], quoting=csv.QUOTE_NONE)
    if table[index].duplicated().any():
        raise ConfigError(f"{path}: {table[index][table[index].duplicated()].iloc[0]} is in it twice")
    return table.set_index(index)


def _states_of_code(systems: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Kind of back-end (AASIST, or the training's name) -> code hash -> systems that it made."""
    kinds = systems["trained"].mask(systems["k_train"].notna(), "AASIST")
    states: dict[str, dict[str, list[str]]] = {}
    for (system, kind), hashes in zip(kinds.items(), systems["code_hash"].fillna(""), strict=True):
        for state in hashes.split("+"):
            states.setdefault(kind, {}).setdefault(state or "unknown", []).append(system)
    return states


class _Run(NamedTuple):
    """What was measured.

    `corpora` names those that play each role, `comparisons` are of `_either_way`.
    """

    systems: pd.DataFrame
    sizes: pd.DataFrame
    findings: pd.DataFrame
    corpora: dict[str, list[str]]
    paper_corpora: bool
    comparisons: dict[tuple[str, str, str, str], NamedTuple]
    departures: Sequence[str] = ()

    def values(self, claim: Claim) -> list[_Value]:
        """Our value of each system or quantity that a claim names, in its unit; raises `_NotJudged`."""
        if claim.comparable == "never":
            raise _NotJudged("not comparable", claim.note)
        if claim.comparable == PAPER_CORPORA and not self.paper_corpora:
            raise _NotJudged("not run", "other corpora or another front-end than the paper's")
        table = self.sizes if claim.metric in PAPER_SIZE else self.findings if claim.is_finding else self.systems
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
            each = [(self._change if reference else self._value)(claim, name, corpus) for corpus in corpora]
            values.append(_larger(each).scaled(SCALES[claim.unit]))
        return values

    def _change(self, claim: Claim, name: str, corpus: str) -> _Value:
        """Relative to the claim's reference: as the two were compared, or else of their means."""
        reference = claim.subject[1]
        row = self.comparisons.get((name, reference, corpus, claim.metric))
        if row is None:
            value, other = self._value(claim, name, corpus), self._value(claim, reference, corpus)
            change = _ratio(value.value - other.value, other.value, reference)
            return _Value(name, change, f"against {reference}; {value.how}", counter=value.counter)
        what = f"{claim.metric} of {name} against {reference}"
        base = _number(row.reference_value, what)
        change = _ratio(_number(row.difference, what), base, reference)
        value = _Value(name, change, f"against {reference}; {_seeds(row.n_seeds)}", p=row.p_holm)
        if math.isnan(row.ci_low) or math.isnan(row.ci_high):
            return value
        low, high = (_ratio(_number(end, what), base, reference) for end in (row.ci_low, row.ci_high))
        return value._replace(low=low, high=high, interval="interval of the paired difference")

    def _value(self, claim: Claim, name: str, corpus: str) -> _Value:
        what = f"{claim.metric} of {name}"
        if claim.is_finding:
            return _Value(name, _number(self.findings.loc[name, "value"], name), self.findings.loc[name, "how"])
        if claim.metric in PAPER_SIZE:
            row = self.sizes.loc[name]
            paper = PAPER_SIZE[claim.metric]
            how, wanted = (", ".join(f"{column} {size[column]}" for column in paper) for size in (row, paper))
            if how != wanted:
                raise _NotJudged("not comparable", f"counted at {how}, not at the paper's {wanted}")
            counter = _COUNTED.get(claim.metric, "").format(row=row)
            return _Value(name, _number(row[claim.metric], what), f"counted at {how}", counter=counter)
        row = self.systems.loc[name]
        stem, n_seeds = f"{corpus}.{claim.metric}", row[f"{corpus}.n_seeds"]
        mean = row.get(f"{stem}.mean", math.nan)
        seeds_and = "seeds and " if n_seeds > 1 else ""
        intervals = {
            f"interval over {seeds_and}{drawn}": [row.get(f"{stem}.{part}_{end}", math.nan) for end in ("low", "high")]
            for drawn, part in (("trials", "ci"), ("speakers", "speakers"))
        }
        value = _Value(name, _number(mean, what), _seeds(n_seeds))
        known = [kind for kind, ends in intervals.items() if not any(map(math.isnan, ends))]
        if not known:
            return value
        widest = max(known, key=lambda kind: intervals[kind][1] - intervals[kind][0])
        low, high = (_number(end, what) for end in intervals[widest])
        return value._replace(low=low, high=high, interval=widest)


def _seeds(number: float) -> str:
    return f"mean of {number:.0f} seeds" if number > 1 else "one seed"


def _larger(values: list[_Value]) -> _Value:
    """The larger of a system's values on each corpus; the larger of their intervals' ends hold it."""
    first = max(values, key=lambda value: value.value)
    if any(value.low is None for value in values):
        return first._replace(low=None, high=None, interval="")
    return first._replace(low=max(value.low for value in values), high=max(value.high for value in values))


def _number(value: float, what: str) -> Decimal:
    """The digits that stand in the file, without what reading them as a binary float adds behind the fifteenth."""
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"{what}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise _NotJudged("not run", f"no finite {what} in this run")
    return Decimal(f"{number:.15g}")


def _ratio(difference: Decimal, base: Decimal, reference: str) -> Decimal:
    if not base:
        raise _NotJudged("not comparable", f"relative to {reference}, which is 0")
    return difference / base + 0  # + 0: never a negative zero


def _round(value: Decimal, decimals: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP) + 0  # + 0: never a negative zero


def _is_direction(claim: Claim, value: _Value) -> bool:
    """Whether it is the test that decides."""
    return claim.rule == "above" and not claim.claimed and value.p is not None


def _standing(claim: Claim, value: _Value) -> str:
    """What one value makes of a claim: one of `_STANDINGS`."""
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    bound, narrow = claim.claimed, high - low <= WIDEST[claim.rule] * abs(claim.claimed)
    match claim.rule:
        case "at_most":
            holds, room = high <= bound, low <= bound
        case "within":
            holds, room = -bound < low and high < bound, -bound < high and low < bound
        case "above" if _is_direction(claim, value):
            significant = value.p < SIGNIFICANCE
            holds, room = significant and value.value > 0, high > 0 and not (significant and value.value < 0)
            narrow = False
        case "above":
            holds, room = low > bound, high > bound
        case _:
            holds, room = _round(value.value, claim.decimals) == bound, low <= bound <= high
    if holds:
        return "reproduced"
    return "differs" if not room else "consistent" if narrow else "inconclusive"


_STANDINGS = ("reproduced", "consistent", "inconclusive", "differs")
"""From the best to the worst."""


def _judge(claim: Claim, run: _Run) -> dict[str, object]:
    row = {column: getattr(claim, column) for column in LEDGER_COLUMNS if column in Claim._fields}
    try:
        values = run.values(claim)
        verdict, shown = (_equal if claim.rule == "equals" else _bounded)(claim, values, run)
    except _NotJudged as gap:
        verdict, why = gap.args
        return row | {"ours": "", "ci_low": math.nan, "ci_high": math.nan, "verdict": verdict, "why": why}
    first = shown[0]
    reasons = [*_reasons(claim, first, verdict), first.how]
    if verdict == SYSTEM or (claim.rule == "exists" and len(shown) > 1 and verdict == "reproduced"):
        reasons.insert(0, f"{first.name} has it")
    elif len(shown) < len(values):
        reasons.insert(0, f"the worst of {len(values)}")
    bare = sum(not value.interval for value in values)
    if bare and claim.corpus and claim.subject[1]:
        reasons.append(f"{f'{bare} of them with ' if bare < len(values) else ''}no interval or test")
    if verdict == "differs" and claim.corpus and run.departures:
        reasons.append(f"the run departs from text or code in {', '.join(run.departures)}")
    several = len({value.name for value in values}) > 1
    return row | {
        "ours": "; ".join(_shown(claim, value, named=several) for value in shown),
        "ci_low": math.nan if first.low is None else float(first.low),
        "ci_high": math.nan if first.high is None else float(first.high),
        "verdict": verdict,
        "why": "; ".join(reasons),
    }


def _equal(claim: Claim, values: Sequence[_Value], run: _Run) -> tuple[str, list[_Value]]:
    """The verdict on a number: of the system that is meant; counted as the paper does; of another system."""
    meant, *others = values
    candidates = [("reproduced", meant), *((SYSTEM, value) for value in others)]
    if claim.metric == "n_macs":
        candidates.insert(1, (CONVENTION, run.values(claim._replace(metric="n_macs_linear"))[0]))
    for verdict, value in candidates:
        if _standing(claim, value) == "reproduced":
            return verdict, [value, *(other for _, other in candidates if other is not value)]
    return _standing(claim, meant), [value for _, value in candidates]


def _bounded(claim: Claim, values: Sequence[_Value], _run: _Run) -> tuple[str, list[_Value]]:
    """The verdict on several systems: under `exists` the best decides and all are shown, else the worst alone."""
    any_will_do = claim.rule == "exists"

    def order(value: _Value) -> tuple[int, Decimal]:
        grade = _STANDINGS.index(_standing(claim, value))
        match claim.rule:
            case "exists":
                return grade, abs(value.value - claim.claimed)
            case "within":
                return -grade, -abs(value.value)
        return -grade, value.value if claim.rule == "above" else -value.value

    shown = sorted(values, key=order)
    return _standing(claim, shown[0]), shown if any_will_do else shown[:1]


def _reasons(claim: Claim, value: _Value, verdict: str) -> list[str]:
    """How the interval or the test of the value that decides came to the verdict."""
    if _is_direction(claim, value):
        if math.isnan(value.p):
            return ["not tested"]
        if value.p < SIGNIFICANCE:
            return [f"significant after Holm's correction{'' if value.value > 0 else ', the other way round'}"]
        beyond = f", but none of the {value.interval} is above 0" if verdict == "differs" else ""
        return [f"not significant after Holm's correction{beyond}"]
    if not value.interval:
        return []
    wide = ", which is too wide to have refuted it" if verdict == "inconclusive" else ""
    if claim.rule in ("equals", "exists"):
        if verdict in ("reproduced", SYSTEM):
            return []
        return [f"claimed value {'out' if verdict == 'differs' else 'in'}side the {value.interval}{wide}"]
    share = {"reproduced": "all", "differs": "none"}.get(verdict, "part")
    return [f"{share} of the {value.interval} keeps the bound{wide}"]


def _shown(claim: Claim, value: _Value, *, named: bool) -> str:
    """One of our values with its unit and interval: as many decimals as the claim has, or four digits."""

    def digits(number: Decimal) -> str:
        sign = "+" if claim.subject[1] and number > 0 else ""
        if claim.decimals is None:
            return f"{float(number):{sign},.4g}"
        return f"{_round(number, claim.decimals):{sign},f}"

    text = f"{digits(value.value)} {claim.unit}".strip()
    if value.interval:
        text += f" [{digits(value.low)}, {digits(value.high)}]"
    if _is_direction(claim, value) and not math.isnan(value.p):
        p = p_text(value.p)
        text += f", p {p}" if p.startswith("<") else f", p = {p}"
    of = ", ".join(filter(None, [value.name if named else "", value.counter]))
    return f"{text} ({of})" if of else text


def _claimed(row: NamedTuple) -> str:
    """The claimed value with its unit; a bound with its sign."""
    relative = " / " in f"{row.system}{row.metric}"
    sign = "±" if row.rule == "within" else "+" if relative and row.claimed > 0 else ""
    bound = {"at_most": "≤", "above": ">", "within": "within"}.get(row.rule)
    return " ".join(filter(None, [bound, f"{sign}{row.claimed:,f}", row.unit]))


def counts(ledger: pd.DataFrame) -> dict[str, Counter[str]]:
    """Number of claims by verdict, for each letter of `SECTIONS`: the paper's claims and our findings never add up."""
    letters = ledger["claim_id"].str[0]
    return {letter: Counter(ledger["verdict"][letters == letter]) for letter in SECTIONS}


def _sections(ledger: pd.DataFrame) -> list[tuple[str, str, list[NamedTuple]]]:
    """Heading, count of verdicts and rows of each section that has any."""
    parts = []
    for letter, verdicts in counts(ledger).items():
        if rows := [row for row in ledger.itertuples(index=False) if row.claim_id.startswith(letter)]:
            count = ", ".join(f"{verdict} {verdicts[verdict]}" for verdict in VERDICTS if verdicts[verdict])
            parts.append((SECTIONS[letter], f"{len(rows)} in all: {count}", rows))
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
    for heading, _, rows in sections:
        lines += [heading.upper(), ""]
        put("id", "verdict", "claimed", "ours", "claim")
        put(*("-" * width for width in widths))
        for row in rows:
            put(row.claim_id, row.verdict, _claimed(row), row.ours or "-", row.statement)
        lines.append("")
    for heading, count, rows in sections:
        lines += [heading, *textwrap.wrap(count, 118, initial_indent="  ", subsequent_indent="  ")]
        for verdict in ("not comparable", "not run"):
            reasons = Counter(row.why for row in rows if row.verdict == verdict)
            lines += [f"  {verdict}, {number}: {why}" for why, number in reasons.most_common()]
    return "\n".join([*lines, ""])


_NOTES = (
    "Claims without a number of their own are judged by a bound of ours, which is in the claimed column with its "
    "sign (≤, >, within ±). Where several systems or ways of counting could be meant, each is shown. In brackets our "
    "interval at this run's confidence: of a system by itself that over training seeds and trials, or over seeds and "
    "speakers, where they are known and it is wider; of a "
    "system against another that of their paired difference, relative to the other's mean. Reproduced: the rounded "
    "value is the claimed one, the whole interval keeps the bound or, for > 0 between systems, the difference is "
    "significant (p < 0.05 after Holm's correction over its family of comparisons); under another convention: MACs, "
    "counted as the paper counts them; for another system: the number is that of a system that the paper does not "
    "name. Consistent: the interval leaves room for the claim and is at most half as wide as the claimed number (as a "
    "bound; twice a ±), so that it could have refuted it; inconclusive: it is wider, or a difference is not "
    "significant; differs: neither. Not comparable: it rests on something that is not known; not run: nothing was "
    "measured here that could be held against it. Since: when a rule was written (in the TSV); only of runs after "
    "that was it fixed before."
)


def _shown_to_readers(ledger: pd.DataFrame) -> pd.DataFrame:
    """The ledger's cells; below a verdict its reason, for which a page of LaTeX has no room."""
    lines = []
    for heading, count, rows in _sections(ledger):
        lines.append((f"{SECTION}{heading}. {count}", *[""] * 5))
        for row in rows:
            verdict = "\n".join(filter(None, [row.verdict, row.why]))
            lines.append((row.claim_id, row.source, row.statement, _claimed(row), row.ours or "–", verdict))
    return pd.DataFrame(lines, columns=["Id", "Source", "Claim", "Claimed", "Ours", "Verdict"]).map(typeset)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def typeset(text: str) -> str:
    """A text of the ledger for readers: minus signs, powers of ten, no line break between a number and its unit."""
    text = re.sub(r"(^|[ (\[])-(?=\d)", r"\1−", text)  # a minus sign, not the hyphen of a name
    text = re.sub(r"(?<=\d) (?=(%|k|M|nats|bits)(\W|$))", "\u00a0", text)
    power = re.compile(r"(?<=\d)e\+?(-?)0*(\d+)")
    return power.sub(lambda found: "×10" + "".join(found.groups()).translate(_SUPERSCRIPTS), text)
