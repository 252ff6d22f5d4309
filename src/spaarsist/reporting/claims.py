"""The claims ledger: every number of the paper and every finding, beside ours, judged by a rule that was fixed before.

`paper/claims.csv` is the only place with claimed numbers; `Claim` describes its columns. A claim that differs is a
result, not a failure.
"""

from __future__ import annotations

import csv
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
from scipy.special import stdtrit

from spaarsist.artefacts import read_table, refuse_mixed_code
from spaarsist.evaluation.comparison import SIGNIFICANCE, read_comparisons
from spaarsist.evaluation.summary import read_summary
from spaarsist.names import ConfigError, System
from spaarsist.reporting.tables.layout import SECTION, p_text, write

VERDICTS = ("reproduced", "consistent", "differs", "not comparable", "not run")

RULES = {
    "equals": "the system's value, rounded to the claim's decimals, is the claimed one",
    "exists": "as `equals`, for at least one of the systems named",
    "at_most": "every system's interval lies at or below the claimed value",
    "above": "every system's interval lies above the claimed value; of a direction (above 0, where differences were "
    "tested) instead: every system's value lies above 0, significantly",
    "within": "every system's interval lies between the claimed value and its negative, without these two",
}
"""When a claim is reproduced, by rule. A value without an interval stands for its interval."""

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

CONFIDENCE = 0.95  # of the t interval over seeds; the others' is the run's

_COMPARED = ("n_seeds", "value", "reference_value", "difference", "ci_low", "ci_high", "p_holm")

_QUANTITY = re.compile(r"F\d+_")  # of the findings file

SECTIONS = {
    "C": "What the paper claims",
    "S": "Second-hand: from a third party's digest of the paper, not verified",
    "F": "Our findings about the released code, each confirmed (reproduced) or not (differs) by a measurement",
}
"""First letter of a claim's id -> heading of its part of the ledger."""

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
        corpus: `in_domain`, `out_of_domain`, `both` (the larger, that is worse, of the two values, and of the two
            upper and lower ends of their intervals), or empty for what no corpus decides.
        metric: `n_params`, `n_macs`, `rank` (of AASIST configurations, by the composite score), with a corpus a metric
            of the summary, or for a finding one of its quantities (`F2_...`), likewise with ` / ` and another.
        claimed: the number, or the bound of a claim without number. With ` / ` it is a relative change: ours /
            reference - 1.
        decimals: digits that `claimed` is rounded to, for `equals` and `exists`.
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
    comparisons: Sequence[Path] = (),
    footer: str = "",
) -> pd.DataFrame:
    """Judge every claim; write the ledger as `<output_stem>.tsv` (for machines), `.md`, `.tex`, `.html` (for readers).

    ==============  ==================================================================================================
    reproduced      the claim's rule holds (`RULES`)
    consistent      it does not, but our interval leaves room for it: it holds the claimed number, part of it keeps the
                    bound or, of a direction, lies on the claimed side, and the other side is not significant
    differs         neither
    not comparable  parameters or MACs were counted at another size than the paper's (`PAPER_SIZE`)
    not run         the run lacks a system, a corpus or a quantity, or the claim is on the paper's corpora and front-end
                    and the run is not
    ==============  ==================================================================================================

    Values are means over training seeds. The interval of a single system's is the widest of: the bootstrap's over
    trials; the bootstrap's over speakers, where they are known; and for n > 1 seeds mean +- t(n - 1) std / sqrt(n) at
    95 %. The first two take the seeds as given and the last the trials: each is too narrow by what it leaves out, and
    another team's number comes of another training in any case. With two or three seeds the last is so wide that
    `consistent` says little: it is shown beside the value.

    Relative changes between systems on a corpus come from `comparisons`, over the seeds that both have: the paired
    difference and its interval, which knows trials and (where there are several) seeds, by the reference's mean (taken
    as exact), with either of the two as the reference. What stands in none of the files is judged on means alone, and
    the ledger says so. So are ranks: that of the composite score among the AASIST configurations in its file (the
    paper's Table 1); equal scores share the lowest. Sizes and findings have no interval. Rounding is decimal, on the
    digits that the files show, and half away from zero.

    Args:
        claims: `paper/claims.csv`.
        summary: file of `evaluation.summary.summarise`.
        findings: file of `audit.findings.measure`.
        output_stem: path of the outputs without their endings; None writes nothing.
        corpora: (name in the summary, title), in domain first, then out of domain.
        paper_corpora: whether these are the paper's, and the front-end too.
        composite: file of `evaluation.selection.composite`; without it claims on ranks are not run.
        label: said in headings and captions, e.g. that the corpora are miniatures.
        comparisons: files of `evaluation.comparison.compare`; a pair that several hold counts as in the first.
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
        _either_way(comparisons),
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
        raise ConfigError(f"{path}: {table[index][table[index].duplicated()].iloc[0]} stands in it twice")
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

    `composite` is of AASIST configurations, `corpora` names those that play each role, `comparisons` are of
    `_either_way`.
    """

    systems: pd.DataFrame
    findings: pd.DataFrame
    composite: pd.Series | None
    corpora: dict[str, list[str]]
    paper_corpora: bool
    comparisons: dict[tuple[str, str, str, str], NamedTuple]

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
        mean, std = (row.get(f"{stem}.{part}", math.nan) for part in ("mean", "std"))
        intervals = {
            f"bootstrap interval over {drawn}": [row.get(f"{stem}.{part}_{end}", math.nan) for end in ("low", "high")]
            for drawn, part in (("trials", "ci"), ("speakers", "speakers"))
        }
        if n_seeds > 1:
            half = float(stdtrit(n_seeds - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(n_seeds)
            intervals["t interval over seeds"] = [mean - half, mean + half]
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


def _standing(claim: Claim, value: _Value) -> tuple[bool, bool]:
    """Whether the claim's rule holds for a value, and whether its interval leaves room for it."""
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    match claim.rule:
        case "at_most":
            return high <= claim.claimed, low <= claim.claimed
        case "within":
            return -claim.claimed < low and high < claim.claimed, -claim.claimed < high and low < claim.claimed
        case "above" if _is_direction(claim, value):
            significant = value.p < SIGNIFICANCE
            return significant and value.value > 0, high > 0 and not (significant and value.value < 0)
        case "above":
            return low > claim.claimed, high > claim.claimed
    return _round(value.value, claim.decimals) == claim.claimed, low <= claim.claimed <= high


def _judge(claim: Claim, run: _Run) -> dict[str, object]:
    row = {column: getattr(claim, column) for column in LEDGER_COLUMNS if column in Claim._fields}
    try:
        values = run.values(claim)
    except _NotJudged as gap:
        verdict, why = gap.args
        return row | {"ours": "", "ci_low": math.nan, "ci_high": math.nan, "verdict": verdict, "why": why}

    def order(value: _Value) -> object:
        """What decides comes first: the likest number, or the nearest to breaking a bound."""
        holds, room = _standing(claim, value)
        match claim.rule:
            case "at_most":
                return holds, room, -value.value
            case "above":
                return holds, room, value.value
            case "within":
                return holds, room, -abs(value.value)
        return not holds, not room, abs(value.value - claim.claimed)

    enough = any if claim.rule == "exists" else all
    standings = [_standing(claim, value) for value in values]
    verdict = "consistent" if enough(holds or room for holds, room in standings) else "differs"
    if enough(holds for holds, _ in standings):
        verdict = "reproduced"
    first, *others = sorted(values, key=order)
    shown, reasons = [first], [*_reasons(claim, first, verdict), first.how]
    if others and claim.rule == "exists":
        shown += others
        if verdict == "reproduced":
            reasons.insert(0, f"{first.name} has it")
    elif others:
        reasons.insert(0, f"the worst of {len(values)}")
    bare = sum(not value.interval for value in values)
    if bare and (claim.metric == "rank" or (claim.corpus and claim.subject[1])):
        reasons.append(f"{f'{bare} of them with ' if bare < len(values) else ''}no interval or test")
    ours = "; ".join(_shown(claim, value) + (f" ({value.name})" if others else "") for value in shown)
    return row | {
        "ours": f"{ours} by {first.counter}" if first.counter else ours,
        "ci_low": math.nan if first.low is None else float(first.low),
        "ci_high": math.nan if first.high is None else float(first.high),
        "verdict": verdict,
        "why": "; ".join(reasons),
    }


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
    if claim.rule in ("equals", "exists"):
        if verdict == "reproduced":
            return []
        return [f"claimed value {'in' if verdict == 'consistent' else 'out'}side the {value.interval}"]
    share = {"reproduced": "all", "consistent": "part"}.get(verdict, "none")
    return [f"{share} of the {value.interval} keeps the bound"]


def _shown(claim: Claim, value: _Value) -> str:
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
    return text


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
            count = ", ".join(f"{verdict} {verdicts[verdict]}" for verdict in VERDICTS)
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
        lines += [heading, f"  {count}"]
        for verdict in ("not comparable", "not run"):
            reasons = Counter(row.why for row in rows if row.verdict == verdict)
            lines += [f"  {verdict}, {number}: {why}" for why, number in reasons.most_common()]
    return "\n".join([*lines, ""])


_NOTES = (
    "Claims without a number of their own are judged by a bound of ours, which stands in the claimed column with its "
    "sign (≤, >, within ±). Where several systems could be meant, each is shown. In brackets our interval: of a system "
    "by itself the widest of the bootstrap's over trials, the bootstrap's over speakers where they are known (both at "
    "this run's confidence) and, for several seeds, the t interval over these (95 %, wide); of a system against "
    "another that of their paired difference, relative to the other's mean. Reproduced: the rounded value is the "
    "claimed one, the whole interval keeps the bound or, for > 0 between systems, the difference is significant "
    "(p < 0.05 after Holm's correction over its family of comparisons); consistent: the interval leaves room for the "
    "claim; differs: it does not; not run: nothing was measured here that could be held against the claim. Ranks, and "
    "comparisons shown without brackets, rest on means alone."
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
