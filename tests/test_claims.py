import csv
import json
import math
import re
from decimal import Decimal

import pandas as pd
import pytest
from pydantic import validate_call

from conftest import PAPER_SIZE, REPOSITORY, write_summary, write_tsv
from spaarsist.evaluation.comparison import read_comparisons
from spaarsist.evaluation.metrics import METRICS
from spaarsist.names import ConfigError, System
from spaarsist.reporting.claims import (
    LEDGER_COLUMNS,
    VERDICTS,
    Claim,
    counts,
    judge,
    p_text,
    read_claims,
    read_ledger,
    render,
    typeset,
)

CLAIMS = REPOSITORY / "paper" / "claims.csv"
CLAIMED = {claim.claim_id: claim for claim in read_claims(CLAIMS)}
CORPORA = [("five", "ASVspoof 5-like"), ("wild", "In-the-Wild-like")]

# Of the back-ends that would ship, at the paper's size: parameters, all MACs, and those that the paper counts.
COUNTED = {
    "AST-05-05": (611_784, 713_035_196, 195_045_376),
    "AST-05-05-Uni": (605_384, 712_747_068, 195_000_000),
    "AST-03-01": (611_784, 698_377_148, 154_720_000),
    "AST-03-01-Mag": (611_522, 698_369_532, 154_706_432),
    "AST-03-01-MagMean": (586_434, 697_832_060, 153_209_344),
    "AST-03-01-Uni": (605_384, 698_329_916, 154_000_000),
    "MHFA": (4_461_904, 68_411_392, 121_197_056),
    "Mean-pool": (0, 0, 655_872),
}

FINDINGS = {
    "F8_dev_eer_random_std": 0.01, "F8_runs_with_a_worse_last_stage": 1, "C9_total_variation": 0.015,
    "C9_score_change": 0.004,
}  # fmt: skip


def summary_of(path, systems):
    """`systems`: name -> other cells than the usual, e.g. {"wild.eer.mean": 0.0464}; each corpus has one seed."""
    usual = {"code_hash": "0123456789012345", "five.eer.mean": None, "wild.eer.mean": None}
    usual |= {"five.n_seeds": 1, "wild.n_seeds": 1}
    sizes = {name: COUNTED.get(name, (1, 1, 1)) for name in systems}
    for name, (n_params, n_macs, linear) in sizes.items():
        sizes[name] = {"n_params": n_params, "n_macs": n_macs, "n_macs_linear": linear, "n_params_as_run": n_params}
    return write_summary(path, {name: usual | sizes[name] | cells for name, cells in systems.items()})


def write_findings(path, findings):
    rows = [{"quantity": name, "value": value, "how": f"how {name}"} for name, value in findings.items()]
    return write_tsv(path, rows, unit="1")


def write_comparison(path, rows):
    """Each row: what differs from rank 1's EER out of domain, lower than the baseline's by half: 5 % against 10 %."""
    usual = {
        "system": "AST-03-01-Mag", "reference": "AST-05-05", "corpus": "wild", "metric": "eer", "n_seeds": 3,
        "value": 0.05, "reference_value": 0.1, "difference": -0.05, "ci_low": -0.08, "ci_high": -0.02,
        "se_trials": 0.01, "p": 0.001, "p_holm": 0.01,
    }  # fmt: skip
    return write_tsv(path, rows, **usual)


def write_claims(path, *claims):
    """Each claim: a mapping of what differs from an EER of rank 1 out of domain."""
    usual = dict.fromkeys(Claim._fields, "") | {
        "claim_id": "C1", "where": "abstract", "source": "abstract", "statement": "Something is so.",
        "system": "AST-03-01-Mag", "corpus": "out_of_domain", "metric": "eer", "claimed": "4.64", "decimals": "2",
        "unit": "%", "rule": "equals", "comparable": "paper corpora", "since": "2026-11-23",
    }  # fmt: skip
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, Claim._fields)
        writer.writeheader()
        writer.writerows(usual | {"claim_id": f"C{n}"} | claim for n, claim in enumerate(claims, 1))
    return path


@pytest.fixture
def verdict(tmp_path):
    """Judge one claim: (its differences from the usual one, systems, ...) -> its row of the ledger."""

    def run(claim, systems, findings=FINDINGS, paper_corpora=True, corpora=CORPORA, comparisons=()):
        ledger = judge(
            write_claims(tmp_path / "claims.csv", claim),
            summary_of(tmp_path / "summary.tsv", systems),
            tmp_path / "summary.tsv",  # which has the columns of sizes, too
            write_findings(tmp_path / "findings.tsv", findings),
            None,
            corpora,
            paper_corpora,
            comparisons=[write_comparison(tmp_path / f"{i}.tsv", rows) for i, rows in enumerate(comparisons)],
        )
        return ledger.iloc[0]

    return run


def eer(mean, **other):
    return {"wild.eer.mean": mean} | {f"wild.eer.{key}": value for key, value in other.items()}


class TestTheFile:
    def test_holds_every_claim_once(self):
        ids = {re.match(r"[A-Z]\d+", name)[0] for name in CLAIMED}
        assert {f"C{n}" for n in range(1, 12)} | {"F8"} <= ids
        facts = [(c.system, c.corpus, c.metric, c.claimed, c.unit) for c in CLAIMED.values()]
        assert len({*facts}) == len(facts)

    @pytest.mark.parametrize(
        ("name", "system", "corpus", "metric", "claimed", "unit"),
        [
            ("C1", "AST-05-05", "", "n_macs", "195.045", "M"),
            ("C2a", "AST-03-01-Mag", "", "n_macs", "154.706", "M"),
            ("C2b", "AST-03-01-Mag", "", "n_macs", "-20.7", "%"),
            ("C3a", "AST-05-05", "", "n_params", "611.8", "k"),
            ("C3b", "AST-05-05", "", "n_params", "611784", ""),
            ("C4a", "AST-03-01-Mag", "", "n_params", "586.4", "k"),
            ("C4b", "AST-03-01-Mag", "", "n_params", "586434", ""),
            ("C4c", "AST-03-01-Mag", "", "n_params", "-4.1", "%"),
            ("C5a", "AST-05-05", "out_of_domain", "eer", "4.64", "%"),
            ("C5b", "AST-03-01-Mag", "out_of_domain", "eer", "2.82", "%"),
            ("C6a", "AST-05-05", "out_of_domain", "min_dcf", "0.133", ""),
            ("C6b", "AST-03-01-Mag", "out_of_domain", "min_dcf", "0.078", ""),
        ],
    )
    def test_numbers_of_the_paper(self, name, system, corpus, metric, claimed, unit):
        claim = CLAIMED[name]
        assert claim.system.split()[0] == system
        assert (claim.corpus, claim.metric, str(claim.claimed), claim.unit) == (corpus, metric, claimed, unit)
        assert claim.decimals == len(claimed.partition(".")[2])
        assert claim.comparable == ("paper corpora" if corpus else "always")

    def test_numbers_of_the_second_hand_table(self):
        """What the paper's abstract says too stands there alone."""
        columns = [
            ("", "n_params"), ("", "n_macs"), ("in_domain", "eer"), ("in_domain", "min_dcf"), ("out_of_domain", "eer"),
            ("out_of_domain", "min_dcf"), ("out_of_domain", "act_dcf_released"), ("out_of_domain", "cllr"),
        ]  # fmt: skip
        table = {
            "AST-05-05": "- - 4.49 0.129 - - 0.291 1.407",
            "AST-03-01-Mag": "- - 5.05 0.146 - - 0.081 0.374",
            "MHFA": "4461.9 99.49 6.05 - 4.98 - 0.350 -",
            "Mean-pool": "0.0 0.31 4.72 - 4.29 - 0.496 -",
        }
        expected = {
            (system, *column, number)
            for system, numbers in table.items()
            for column, number in zip(columns, numbers.split(), strict=True)
            if number != "-"
        } | {("AST-01-01-Mag", "out_of_domain", "eer", "25.40")}
        found = [c for c in CLAIMED.values() if c.source == "second-hand"]
        assert {(c.system.split()[0], c.corpus, c.metric, str(c.claimed)) for c in found} == expected
        assert len(found) == len(expected) == 19
        assert {c.unit for c in found if c.metric == "eer"} == {"%"}

    def test_what_no_corpus_decides_is_always_judged_and_what_rests_on_the_unknown_never(self):
        always = {c.claim_id for c in CLAIMED.values() if c.comparable == "always"}
        assert {c.claim_id for c in CLAIMED.values() if c.is_finding} < always
        assert not always & {"C5a", "C7", "C9a", "C9b", "C10a", "C10b", "S27"}
        assert {c.claim_id for c in CLAIMED.values() if c.comparable == "never"} == {"C8", "C11"}

    def test_every_name_is_one_of_ours(self):
        for claim in CLAIMED.values():
            patterns, reference = claim.subject
            for name in [*patterns, *filter(None, [reference])]:
                if claim.is_finding:
                    assert name in FINDINGS and name.startswith(re.match(r"[CF]\d+", claim.claim_id)[0] + "_")
                else:
                    System.parse(name.replace("*", "stack1"))
            assert not claim.corpus or claim.metric in METRICS


@pytest.mark.parametrize(
    ("claim", "verdict_and_ours"),
    [
        ({"claimed": "713.035"}, ("reproduced", "713.035 M (fvcore, 201 frames); 195.045 M (linear")),
        ({"claimed": "195.045"}, ("reproduced under another convention", "195.045 M (linear layers alone, back-end")),
        ({"claimed": "195.046"}, ("differs", "713.035 M (fvcore, 201 frames); 195.045 M (linear")),
        (
            {"claimed": "153.209", "system": "AST-03-01-MagMean"},
            ("reproduced under another convention", "153.209 M (linear layers alone"),
        ),
        (
            {"claimed": "-20.7", "decimals": "1", "unit": "%", "system": "AST-03-01-Mag / AST-05-05"},
            (
                "reproduced under another convention",
                "-20.7 % (linear layers alone, back-end and head, 437 frames); -2.1 %",
            ),
        ),
        (
            {"claimed": "586434", "decimals": "0", "unit": "", "metric": "n_params"}
            | {"system": "AST-03-01-Mag AST-03-01-MagMean"},
            ("reproduced for another system", "586,434 (AST-03-01-MagMean); 611,522 (AST-03-01-Mag)"),
        ),
        (
            {"claimed": "697.832", "system": "AST-03-01-Mag AST-03-01-MagMean"},
            (
                "reproduced for another system",
                "697.832 M (AST-03-01-MagMean, fvcore, 201 frames); 698.370 M (AST-03-01-Mag,",
            ),
        ),
        (
            {"claimed": "611522", "decimals": "0", "unit": "", "metric": "n_params"}
            | {"system": "AST-03-01-Mag AST-03-01-MagMean"},
            ("reproduced", "611,522 (AST-03-01-Mag); 586,434 (AST-03-01-MagMean)"),
        ),
    ],
)
def test_sizes_by_convention_and_by_system(verdict, claim, verdict_and_ours):
    usual = {"system": "AST-05-05", "corpus": "", "metric": "n_macs", "decimals": "3", "unit": "M"}
    row = verdict(usual | {"comparable": "always"} | claim, {name: {} for name in COUNTED})
    assert row["verdict"] == verdict_and_ours[0] and row["ours"].startswith(verdict_and_ours[1])


def test_another_system_by_accuracy(verdict):
    claim = {"system": "AST-03-01-Mag AST-03-01-MagMean"}
    row = verdict(claim, {"AST-03-01-Mag": eer(0.0282), "AST-03-01-MagMean": eer(0.0464)})
    assert (row["verdict"], row["ours"]) == (
        "reproduced for another system", "4.64 % (AST-03-01-MagMean); 2.82 % (AST-03-01-Mag)"
    )  # fmt: skip
    assert row["why"].startswith("AST-03-01-MagMean has it")


class TestWidth:
    """A claim is consistent only with an interval that could have refuted it."""

    @pytest.mark.parametrize(
        ("rule", "claimed", "decimals", "low", "high", "expected"),
        [
            ("equals", "4", "0", 0.035, 0.055, "consistent"),  # half as wide as the number
            ("equals", "4", "0", 0.035, 0.0551, "inconclusive"),
            ("exists", "4", "0", 0.035, 0.0551, "inconclusive"),
            ("at_most", "4", "", 0.03, 0.07, "consistent"),  # as wide as the bound
            ("at_most", "4", "", 0.03, 0.0701, "inconclusive"),
            ("above", "4", "", 0.03, 0.07, "consistent"),
            ("above", "4", "", 0.03, 0.0701, "inconclusive"),
            ("at_most", "4", "", 0.0401, 0.2, "differs"),  # however wide
            ("at_most", "4", "", 0.0, 0.04, "reproduced"),
        ],
    )
    def test_of_a_value(self, verdict, rule, claimed, decimals, low, high, expected):
        claim = {"rule": rule, "claimed": claimed, "decimals": decimals}
        row = verdict(claim, {"AST-03-01-Mag": eer(0.0451, ci_low=low, ci_high=high)})
        assert row["verdict"] == expected
        assert ("too wide" in row["why"]) == (expected == "inconclusive")

    def test_of_several_the_worst(self, verdict):
        systems = {"AST-05-05": eer(0.1), "AST-05-05+stack1": eer(0.05, ci_low=0.01, ci_high=0.3)}
        systems["AST-05-05+graph0.5"] = eer(0.05, ci_low=0.035, ci_high=0.05)
        claim = {"system": "AST-05-05+*", "decimals": "", "rule": "at_most", "claimed": "4"}
        assert verdict(claim, systems)["verdict"] == "inconclusive"
        assert verdict(claim | {"rule": "exists", "decimals": "0"}, systems)["verdict"] == "consistent"


def test_what_rests_on_the_unknown_is_never_judged(verdict):
    claim = {"system": "", "metric": "rank", "corpus": "", "comparable": "never", "note": "nobody knows the formula"}
    row = verdict(claim, {"AST-03-01-Mag": eer(0.0464)})
    assert (row["verdict"], row["ours"], row["why"]) == ("not comparable", "", "nobody knows the formula")


class TestEquals:
    def test_reproduced_where_the_rounded_value_is_the_claimed_one(self, verdict):
        row = verdict({}, {"AST-03-01-Mag": eer(0.04643, ci_low=0.04, ci_high=0.05)})
        assert (row["verdict"], row["ours"], row["ci_low"], row["ci_high"]) == (
            "reproduced",
            "4.64 % [4.00, 5.00]",
            4.0,
            5.0,
        )

    @pytest.mark.parametrize(
        ("ours", "expected"),
        [(0.04634, "differs"), (0.04635, "reproduced"), (0.046449999, "reproduced"), (0.04645, "differs")],
    )
    def test_a_half_is_rounded_up_as_decimals(self, verdict, ours, expected):
        assert verdict({}, {"AST-03-01-Mag": eer(ours)})["verdict"] == expected

    def test_every_half_is_rounded_up_whatever_its_binary_form(self, tmp_path):
        halves = range(1, 2000, 7)
        systems = {f"X{n}": eer(f"{(2 * n + 1) / 2:.1f}e-4") for n in halves}
        claims = [{"system": f"X{n}", "claimed": f"{(n + 1) / 100:.2f}"} for n in halves]
        ledger = judge(
            write_claims(tmp_path / "claims.csv", *claims),
            summary_of(tmp_path / "summary.tsv", systems),
            tmp_path / "summary.tsv",
            write_findings(tmp_path / "findings.tsv", FINDINGS),
            None,
            CORPORA,
            True,
        )
        assert set(ledger["verdict"]) == {"reproduced"}

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0.04, 0.0464, "consistent"),
            (0.04, 0.04639, "differs"),
            (0.0464, 0.06, "consistent"),
            (0.04641, 0.06, "differs"),
        ],
    )
    def test_consistent_up_to_the_interval_s_ends(self, verdict, low, high, expected):
        row = verdict({}, {"AST-03-01-Mag": eer(0.05, ci_low=low, ci_high=high)})
        assert row["verdict"] == expected
        assert ("inside" if expected == "consistent" else "outside") in row["why"]

    @pytest.mark.parametrize(
        ("cells", "shown", "kind"),
        [
            ({"ci_low": 0.035, "ci_high": 0.045}, (3.5, 4.5), "interval over seeds and trials"),
            (
                {"ci_low": 0.035, "ci_high": 0.045, "speakers_low": 0.03, "speakers_high": 0.044},
                (3.0, 4.4),
                "interval over seeds and speakers",
            ),
        ],
    )
    def test_the_widest_interval_counts(self, verdict, cells, shown, kind):
        row = verdict({"claimed": "9.99"}, {"AST-03-01-Mag": eer(0.04, **cells) | {"wild.n_seeds": 3}})
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(shown, abs=1e-5)
        assert row["why"] == f"claimed value outside the {kind}; mean of 3 seeds"

    def test_one_seed_has_no_interval_over_seeds(self, verdict):
        row = verdict({}, {"AST-03-01-Mag": eer(0.04, std=0.5, ci_low=0.03, ci_high=0.045)})
        assert row["why"] == "claimed value outside the interval over trials; one seed"

    def test_relative_change_has_no_interval(self, verdict):
        claim = {"system": "AST-03-01-Mag / AST-05-05", "claimed": "-20.7", "decimals": "1"}
        wide = {"ci_low": 0.0, "ci_high": 1.0}
        row = verdict(claim, {"AST-05-05": eer(0.04, **wide), "AST-03-01-Mag": eer(0.03, **wide)})
        assert (row["verdict"], row["ours"]) == ("differs", "-25.0 %") and pd.isna(row["ci_low"])
        row = verdict(claim, {"AST-05-05": eer(0.04), "AST-03-01-Mag": eer(0.0317)})  # -20.75: away from zero
        assert row["ours"] == "-20.8 %"
        row = verdict(claim, {"AST-05-05": eer(0), "AST-03-01-Mag": eer(0.03)})
        assert (row["verdict"], row["ours"]) == ("not comparable", "")


EITHER = {"system": "AST-03-01-Mag AST-03-01-MagMean", "rule": "exists"}


class TestExists:
    def test_one_is_enough_and_is_named_first(self, verdict):
        row = verdict(EITHER, {"AST-03-01-Mag": eer(0.0282), "AST-03-01-MagMean": eer(0.0464)})
        assert (row["verdict"], row["ours"]) == (
            "reproduced",
            "4.64 % (AST-03-01-MagMean); 2.82 % (AST-03-01-Mag)",
        )
        assert row["why"].startswith("AST-03-01-MagMean has it")

    def test_an_interval_of_the_further_one_is_enough(self, verdict):
        further = eer(0.06, ci_low=0.045, ci_high=0.065)
        row = verdict(EITHER, {"AST-03-01-Mag": eer(0.047), "AST-03-01-MagMean": further})
        assert (row["verdict"], row["ci_low"]) == ("consistent", 4.5)
        assert row["ours"].startswith("6.00 % [4.50, 6.50] (AST-03-01-MagMean); 4.70 % (")

    def test_none(self, verdict):
        assert verdict(EITHER, {"AST-03-01-Mag": eer(0.1), "AST-03-01-MagMean": eer(0.2)})["verdict"] == "differs"
        row = verdict(EITHER, {"AST-03-01-Mag": eer(0.0464)})
        assert (row["verdict"], row["ours"], row["why"]) == ("not run", "", "no AST-03-01-MagMean in this run")


class TestBounds:
    @pytest.mark.parametrize(
        ("rule", "ours", "expected"),
        [
            ("at_most", 0.0464, "reproduced"),
            ("at_most", 0.046401, "differs"),
            ("above", 0.0464, "differs"),
            ("above", 0.046401, "reproduced"),
        ],
    )
    def test_the_bound_belongs_to_at_most(self, verdict, rule, ours, expected):
        assert verdict({"rule": rule, "decimals": ""}, {"AST-03-01-Mag": eer(ours)})["verdict"] == expected

    @pytest.mark.parametrize(
        ("rule", "low", "high", "expected"),
        [
            ("at_most", 0.03, 0.0464, "reproduced"),
            ("at_most", 0.03, 0.046401, "consistent"),
            ("at_most", 0.0464, 0.06, "consistent"),
            ("at_most", 0.046401, 0.06, "differs"),
            ("above", 0.046401, 0.06, "reproduced"),
            ("above", 0.0464, 0.06, "consistent"),
            ("above", 0.03, 0.046401, "consistent"),
            ("above", 0.03, 0.0464, "differs"),
        ],
    )
    def test_all_part_or_nothing_of_an_interval(self, verdict, rule, low, high, expected):
        row = verdict({"rule": rule}, {"AST-03-01-Mag": eer(0.0464, ci_low=low, ci_high=high)})
        share = {"reproduced": "all", "consistent": "part", "differs": "none"}[expected]
        assert row["verdict"] == expected
        assert row["why"] == f"{share} of the interval over trials keeps the bound; one seed"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [(0.0499, "reproduced"), (0.05, "differs"), (-0.0499, "reproduced"), (-0.05, "differs"), (0, "reproduced")],
    )
    def test_within(self, verdict, change, expected):
        claim = {"system": "AST-05-05-Uni / AST-05-05", "claimed": "5", "decimals": "", "rule": "within"}
        row = verdict(claim, {"AST-05-05": eer(0.1), "AST-05-05-Uni": eer(0.1 * (1 + change))})
        assert (row["verdict"], row["ours"]) == (expected, f"{100 * change:+.4g} %".replace("+0 ", "0 "))

    def test_the_worst_of_all_matching_systems_decides(self, verdict):
        systems = {"AST-05-05": eer(0.1), "AST-05-05+stack1": eer(0.02), "AST-05-05+graph0.5": eer(0.08)}
        claim = {"system": "AST-05-05+*", "decimals": ""}
        row = verdict(claim | {"rule": "at_most", "claimed": "7"}, systems)
        assert (row["verdict"], row["ours"]) == ("differs", "8 % (AST-05-05+graph0.5)")
        row = verdict(claim | {"rule": "above", "claimed": "3"}, systems)
        assert (row["verdict"], row["ours"]) == ("differs", "2 % (AST-05-05+stack1)")
        assert "the worst of 2" in row["why"]
        assert verdict(claim | {"rule": "above", "claimed": "1.9"}, systems)["verdict"] == "reproduced"

    def test_a_gain_must_show_on_both_corpora(self, verdict):
        claim = {
            "system": "AST-05-05+* / AST-05-05", "corpus": "both", "rule": "above", "claimed": "-5", "decimals": "",
        }  # fmt: skip
        base = {"AST-05-05": {"five.eer.mean": 0.1, "wild.eer.mean": 0.2}}
        one = verdict(claim, base | {"AST-05-05+stack1": {"five.eer.mean": 0.05, "wild.eer.mean": 0.198}})
        assert (one["verdict"], one["ours"]) == ("reproduced", "-1 %")
        two = verdict(claim, base | {"AST-05-05+stack1": {"five.eer.mean": 0.05, "wild.eer.mean": 0.18}})
        assert (two["verdict"], two["ours"]) == ("differs", "-10 %")


HOLM = "significant after Holm's correction"


class TestComparisons:
    SYSTEMS = {  # noqa: RUF012
        "AST-05-05": {"five.eer.mean": 0.1, "wild.eer.mean": 0.1},
        "AST-03-01-Mag": {"five.eer.mean": 0.07, "wild.eer.mean": 0.07},
    }
    DIRECTION = {"system": "AST-05-05 / AST-03-01-Mag", "claimed": "0", "decimals": "", "rule": "above"}  # noqa: RUF012
    BOUND = {"system": "AST-03-01-Mag / AST-05-05", "decimals": ""}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("test", "expected", "why"),
        [
            ({"p_holm": 0.0499}, "reproduced", HOLM),
            ({"p_holm": 0}, "reproduced", HOLM),
            ({"p_holm": 0.05}, "inconclusive", f"not {HOLM}"),
            ({"p_holm": None}, "inconclusive", "not tested"),
            ({"difference": -0.01, "ci_high": 0.01, "p_holm": 0.3}, "inconclusive", f"not {HOLM}"),
            ({"difference": 0.01, "ci_high": 0.03, "p_holm": 0.3}, "inconclusive", f"not {HOLM}"),
            ({"difference": 0.01, "ci_low": -1e-9, "ci_high": 0.03, "p_holm": 0.05}, "inconclusive", f"not {HOLM}"),
            (
                {"difference": 0.01, "ci_low": 0, "ci_high": 0.03, "p_holm": 0.05},
                "differs",
                f"not {HOLM}, but none of the interval of the paired difference is above 0",
            ),
            (
                {"difference": 0.01, "ci_low": -1e-9, "ci_high": 0.03, "p_holm": 0.049},
                "differs",
                f"{HOLM}, the other way round",
            ),
            (
                {"difference": 0, "ci_low": 0, "ci_high": 0, "p_holm": 1},
                "differs",
                f"not {HOLM}, but none of the interval of the paired difference is above 0",
            ),
        ],
    )
    def test_a_direction_is_reproduced_where_it_is_significant(self, verdict, test, expected, why):
        """The claim is that the baseline's EER is the higher one; the file has rank 1's against it."""
        row = verdict(self.DIRECTION, self.SYSTEMS, comparisons=[[test]])
        assert (row["verdict"], row["why"]) == (expected, f"{why}; against AST-03-01-Mag; mean of 3 seeds")

    def test_either_system_may_be_the_reference(self, verdict):
        """By hand: 5 % against 10 % is -50 % [-80, -20] one way, +100 % [+40, +160] the other."""
        row = verdict(self.BOUND | {"claimed": "-20", "rule": "at_most"}, self.SYSTEMS, comparisons=[[{}]])
        assert (row["verdict"], row["ours"]) == ("reproduced", "-50 % [-80, -20]")
        assert (row["ci_low"], row["ci_high"]) == (-80, -20)
        row = verdict(self.DIRECTION, self.SYSTEMS, comparisons=[[{"p_holm": 0.00099}]])
        assert (row["ours"], row["ci_low"], row["ci_high"]) == ("+100 % [+40, +160], p < 0.001", 40, 160)
        assert verdict(self.DIRECTION, self.SYSTEMS, comparisons=[[{}]])["ours"].endswith(", p = 0.010")
        row = verdict(self.DIRECTION, self.SYSTEMS, comparisons=[[{"p_holm": None}]])
        assert row["ours"] == "+100 % [+40, +160]"
        same = {"difference": 0, "ci_low": 0, "ci_high": 0, "p_holm": 1}
        assert verdict(self.DIRECTION, self.SYSTEMS, comparisons=[[same]])["ours"] == "0 % [0, 0], p = 1.000"

    @pytest.mark.parametrize(
        ("rule", "claimed", "low", "high", "expected"),
        [
            ("at_most", "20", -0.08, 0.02, "reproduced"),
            ("at_most", "20", -0.08, 0.020001, "inconclusive"),
            ("at_most", "20", 0.02, 0.04, "consistent"),
            ("at_most", "20", 0.020001, 0.05, "differs"),
            ("within", "5", -0.004999, 0.004999, "reproduced"),
            ("within", "5", -0.005, 0.004999, "consistent"),
            ("within", "5", -0.004999, 0.005, "consistent"),
            ("within", "5", 0.004999, 0.1, "inconclusive"),
            ("within", "5", 0.005, 0.1, "differs"),
            ("within", "5", -0.1, -0.004999, "inconclusive"),
            ("within", "5", -0.1, -0.005, "differs"),
            ("within", "5", -0.1, 0.1, "inconclusive"),
            ("within", "5", 0, 0, "reproduced"),
            ("above", "-5", -0.004999, 0.01, "reproduced"),
            ("above", "-5", -0.005, -0.001, "consistent"),
            ("above", "-5", -0.009, -0.004999, "consistent"),
            ("above", "-5", -0.01, -0.005, "differs"),
        ],
    )
    def test_a_bound_by_the_whole_interval(self, verdict, rule, claimed, low, high, expected):
        """Relative to the reference's 10 %; the test decides nothing here."""
        test = {"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "p_holm": 0.001}
        row = verdict(self.BOUND | {"rule": rule, "claimed": claimed}, self.SYSTEMS, comparisons=[[test]])
        share = {"reproduced": "all", "differs": "none"}.get(expected, "part")
        wide = ", which is too wide to have refuted it" if expected == "inconclusive" else ""
        assert row["verdict"] == expected and "p " not in row["ours"]
        assert row["why"].startswith(f"{share} of the interval of the paired difference keeps the bound{wide}; against")

    def test_a_number_claimed_of_a_difference(self, verdict):
        claim = self.BOUND | {"claimed": "-49.9", "decimals": "1"}
        row = verdict(claim, self.SYSTEMS, comparisons=[[{}]])
        assert (row["verdict"], row["ours"]) == ("inconclusive", "-50.0 % [-80.0, -20.0]")
        assert row["why"].startswith("claimed value inside the interval of the paired difference, which is too wide")

    @pytest.mark.parametrize(
        ("other", "expected", "ours"),
        [
            ({}, "differs", "-10 % [-12, -8]"),
            ({"ci_low": -0.03, "ci_high": 0.01}, "inconclusive", "-10 % [-12, +10]"),
            ({"ci_low": -0.00499, "difference": -0.001, "ci_high": 0}, "reproduced", "-1 % [-4.99, 0]"),
            ({"ci_low": -0.006, "difference": -0.0055, "ci_high": -0.0051}, "differs", "-5.5 % [-6, -5.1]"),
        ],
    )
    def test_the_larger_change_on_both_corpora(self, verdict, other, expected, ours):
        """A gain must show on both: out of domain, 10 % of the baseline's EER are won, [8, 12] %."""
        claim = {
            "system": "AST-05-05+* / AST-05-05", "corpus": "both", "rule": "above", "claimed": "-5", "decimals": "",
        }  # fmt: skip
        wild = {"system": "AST-05-05+stack1", "difference": -0.01, "ci_low": -0.012, "ci_high": -0.008}
        five = wild | {"corpus": "five", "difference": -0.02, "ci_low": -0.03, "ci_high": -0.01} | other
        systems = dict.fromkeys(("AST-05-05", "AST-05-05+stack1"), self.SYSTEMS["AST-05-05"])
        row = verdict(claim, systems, comparisons=[[wild, five]])
        assert (row["verdict"], row["ours"]) == (expected, ours)

    def test_the_worst_of_several_decides_by_its_interval(self, verdict):
        """The lowest value need not be the one that breaks the bound."""
        names = ["AST-05-05+stack1", "AST-05-05+stack2", "AST-05-05+stack5"]
        tests = [
            {"system": names[0], "difference": -0.02, "ci_low": -0.05, "ci_high": 0.01},
            {"system": names[1], "difference": -0.01, "ci_low": -0.011, "ci_high": -0.009},
            {"system": names[2], "difference": 0.01, "ci_low": 0, "ci_high": 0.02},
        ]
        claim = {"system": "AST-05-05+* / AST-05-05", "rule": "above", "claimed": "-5", "decimals": ""}
        systems = dict.fromkeys(["AST-05-05", *names], self.SYSTEMS["AST-05-05"])
        row = verdict(claim, systems, comparisons=[tests])
        assert (row["verdict"], row["ours"]) == ("differs", "-10 % [-11, -9] (AST-05-05+stack2)")
        assert row["why"].startswith("the worst of 3; none of the interval")
        row = verdict(claim | {"rule": "within", "claimed": "25"}, systems, comparisons=[tests[1:]])
        assert (row["verdict"], row["ours"]) == ("reproduced", "-10 % [-11, -9] (AST-05-05+stack2)")  # not 0 %
        row = verdict(claim, systems, comparisons=[tests[::2]])  # stack2: by its mean, unchanged
        assert (row["verdict"], row["ours"]) == ("inconclusive", "-20 % [-50, +10] (AST-05-05+stack1)")
        assert row["why"].endswith("mean of 3 seeds; 1 of them with no interval or test")

    def test_the_first_file_that_has_a_pair_counts(self, verdict):
        files = [[{"metric": "min_dcf", "p_holm": 0.9}], [{"corpus": "five", "p_holm": 0.8}, {"p_holm": 0.02}], [{}]]
        assert verdict(self.DIRECTION, self.SYSTEMS, comparisons=files)["ours"].endswith("p = 0.020")
        files[2][0]["difference"] = 0.1
        bound = self.BOUND | {"claimed": "20", "rule": "at_most"}
        assert verdict(bound, self.SYSTEMS, comparisons=files)["ours"].startswith("-50 % [")
        turned = [{"system": "AST-05-05", "reference": "AST-03-01-Mag", "difference": 0.01, "p_holm": 0.03}]
        assert verdict(self.DIRECTION, self.SYSTEMS, comparisons=[turned, *files])["ours"].startswith("+10 % [")

    def test_one_without_an_interval_has_its_value_alone(self, verdict):
        claim = self.BOUND | {"claimed": "-50", "rule": "at_most", "metric": "cllr"}
        row = verdict(claim, self.SYSTEMS, comparisons=[[{"metric": "cllr", "ci_low": None, "p_holm": None}]])
        assert (row["verdict"], row["ours"]) == ("reproduced", "-50 %")
        assert row["why"] == "against AST-05-05; mean of 3 seeds; no interval or test"

    @pytest.mark.parametrize(
        ("row", "verdict_and_why"),
        [
            ({"reference_value": 0}, ("not comparable", "relative to AST-05-05, which is 0")),
            ({"difference": None}, ("not run", "no finite eer of AST-03-01-Mag against AST-05-05 in this run")),
        ],
    )
    def test_what_cannot_be_compared(self, verdict, row, verdict_and_why):
        row = verdict(self.BOUND | {"claimed": "20", "rule": "at_most"}, self.SYSTEMS, comparisons=[[row]])
        assert (row["verdict"], row["why"]) == verdict_and_why

    @pytest.mark.parametrize(("n_seeds", "how"), [(1, "one seed"), (3, "mean of 3 seeds")])
    @pytest.mark.parametrize("comparisons", [(), [[{"corpus": "five"}]]])
    def test_without_a_test_they_are_of_means_alone(self, verdict, n_seeds, how, comparisons):
        claim = {"system": "AST-05-05 / AST-03-01-Mag", "claimed": "0", "rule": "above"}
        cells = {"wild.n_seeds": n_seeds}
        systems = {"AST-05-05": eer(0.2) | cells, "AST-03-01-Mag": eer(0.1) | cells}
        row = verdict(claim, systems, comparisons=comparisons)
        assert row["why"] == f"against AST-03-01-Mag; {how}; no interval or test"
        assert (row["verdict"], row["ours"]) == ("reproduced", "+100.00 %")

    def test_of_sizes_need_none(self, verdict):
        claim = {"system": "AST-03-01-Mag / AST-05-05", "corpus": "", "metric": "n_params", "comparable": "always"}
        assert "test" not in verdict(claim, {"AST-05-05": {}, "AST-03-01-Mag": {}})["why"]

    def test_a_value_by_itself_is_none(self, verdict):
        assert verdict({}, {"AST-03-01-Mag": eer(0.1)}, comparisons=[[{}]])["why"] == "one seed"

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([{}, {}], "AST-03-01-Mag AST-05-05 wild eer is in it twice"),
            ([{"difference": "less"}], "not a readable TSV"),
        ],
    )
    def test_broken_files(self, tmp_path, rows, message):
        with pytest.raises(ConfigError, match=rf"other\.tsv: {message}"):
            read_comparisons(write_comparison(tmp_path / "other.tsv", rows), ["difference", "p_holm"])

    @pytest.mark.parametrize("column", ["system", "metric", "difference", "p_holm"])
    def test_a_missing_column(self, tmp_path, column):
        path = write_comparison(tmp_path / "other.tsv", [{}])
        pd.read_csv(path, sep="\t").drop(columns=column).to_csv(path, sep="\t", index=False)
        with pytest.raises(ConfigError, match=f"columns missing: {column}"):
            read_comparisons(path, ["difference", "p_holm"])

    @pytest.mark.parametrize(
        ("p", "text"),
        [(0, "< 0.001"), (0.000999, "< 0.001"), (0.001, "0.001"), (0.0123, "0.012"), (1, "1.000"), (math.nan, "–")],
    )
    def test_p_values_in_text(self, p, text):
        assert p_text(p) == text


@pytest.mark.parametrize("column", PAPER_SIZE)
def test_what_was_counted_at_another_size_is_not_comparable(verdict, column):
    size = {"corpus": "", "comparable": "always", "system": "AST-05-05", "claimed": "611.784", "decimals": "3"}
    macs, params = size | {"metric": "n_macs", "unit": "M"}, size | {"metric": "n_params", "unit": "k"}
    assert verdict(macs, {"AST-05-05": {}})["verdict"] == "differs"
    assert verdict(params, {"AST-05-05": {}})["verdict"] == "reproduced"
    other = {"AST-05-05": {column: 12}}
    assert verdict(params, other)["verdict"] == ("reproduced" if column == "n_frames" else "not comparable")
    row = verdict(macs, other)
    assert (row["verdict"], row["ours"]) == ("not comparable", "")
    ours, paper = row["why"].split("not at the paper's")
    assert f"{column} 12" in ours and f"{column} {PAPER_SIZE[column]}" in paper


class TestStatesOfTheCode:
    """Of each kind of back-end there may be one."""

    def test_a_new_back_end_is_another_one(self, verdict):
        systems = {"AST-03-01-Mag": eer(0.0464) | {"k_train": 0.3, "code_hash": "a1"}, "MHFA": {"code_hash": "b2"}}
        assert verdict({}, systems | {"SLS": {"code_hash": ""}})["verdict"] == "reproduced"

    def test_one_is_accepted_known_or_not(self, verdict):
        for code_hash in ("", "5", "a1"):
            cells = eer(0.0464) | {"code_hash": code_hash}
            assert verdict({}, {"AST-03-01-Mag": cells, "MHFA": cells})["verdict"] == "reproduced"

    @pytest.mark.parametrize(
        ("hashes", "found"),
        [
            (["a1", "b2", "m"], "AASIST comes from 2 states of the code: a1 (AST-05-05); b2 (AST-03-01-Mag);"),
            (["a1", "a1", "b2+c3"], "MHFA comes from 2 states of the code: b2 (MHFA); c3 (MHFA);"),
            (["a1", ""], "AASIST comes from 2 states of the code: a1 (AST-05-05); unknown (AST-03-01-Mag);"),
            (["a1", "a1+b2"], "2 states of the code: a1 (AST-05-05, AST-03-01-Mag); b2 (AST-03-01-Mag);"),
            (["a1"] * 5 + ["b2"], "a1 (AST-05-05, AST-03-01-Mag, AST-05-01 and 1 more); b2 (AST-05-03)"),
        ],
    )
    def test_several_are_refused(self, verdict, tmp_path, hashes, found):
        names = ["AST-05-05", "AST-03-01-Mag", "MHFA"]
        if len(hashes) > 3:
            names[2:] = ["AST-05-01", "AST-05-02", "SLS", "AST-05-03"]
        systems = {
            name: {"code_hash": code_hash, "k_train": System.parse(name).k_train}
            for name, code_hash in zip(names, hashes, strict=False)
        }
        with pytest.raises(ConfigError, match=re.escape(found)) as error:
            verdict({}, systems)
        assert str(tmp_path / "summary.tsv") in str(error.value)
        assert "remove checkpoints and scores of the older ones" in str(error.value)


def test_what_the_run_lacks_is_not_run(verdict):
    for cells, arguments, why in (
        ({"five.eer.mean": 0.1}, {}, "no finite eer of AST-03-01-Mag"),
        ({}, {"corpora": CORPORA[:1]}, "no corpus out_of_domain"),
        (eer(0.0464), {"paper_corpora": False}, "other corpora"),
    ):
        row = verdict({}, {"AST-03-01-Mag": cells}, **arguments)
        assert (row["verdict"], row["ours"]) == ("not run", "") and why in row["why"]
    finding = {"system": "", "corpus": "", "metric": "F7_difference", "comparable": "always", "rule": "above"}
    assert verdict(finding, {"AST-05-05": {}}, findings={"F1_params_mag": 1})["why"] == "no F7_difference in this run"


@pytest.fixture
def files(tmp_path):
    """A run whose every accuracy claim is met to the digit (if only its corpora were the paper's)."""
    systems = {
        name: {f"{corpus}.{metric}.mean": 0.0464 for corpus in ("five", "wild") for metric in METRICS}
        for name in [*COUNTED, "AST-01-01-Mag", "AST-01-01-MagMean", "AST-05-05+stack1", "AST-05+stack1-05"]
    }
    return {
        "claims": CLAIMS,
        "summary": summary_of(tmp_path / "summary.tsv", systems),
        "sizes": tmp_path / "summary.tsv",
        "findings": write_findings(tmp_path / "findings.tsv", FINDINGS),
        "corpora": CORPORA,
    }


class TestTheLedger:
    def test_sizes_macs_and_findings_are_judged_on_any_corpora(self, files):
        ledger = judge(**files, output_stem=None, paper_corpora=False).set_index("claim_id")
        expected = {
            "C1": "reproduced under another convention",
            "C2a": "reproduced under another convention",
            "C2b": "reproduced under another convention",
            "C3a": "reproduced",
            "C3b": "reproduced",
            "C4a": "reproduced for another system",
            "C4b": "reproduced for another system",
            "C4c": "reproduced for another system",
            "C8": "not comparable",
            "C9c": "reproduced",
            "C9d": "reproduced",
            "C11": "not comparable",
            "S17": "reproduced",
            "S18": "differs",
            "S22": "reproduced",
            "S23": "differs",
            "F8a": "reproduced",
            "F8b": "reproduced",
        }
        assert ledger["verdict"][ledger["verdict"] != "not run"].to_dict() == expected
        assert ledger["ours"]["C1"].startswith(
            "195.045 M (linear layers alone, back-end and head, 437 frames); 713.035 M"
        )
        assert ledger["ours"]["C2a"].startswith("154.706 M (AST-03-01-Mag, linear layers alone")
        assert ledger["ours"]["C4c"] == "-4.1 % (AST-03-01-MagMean); 0.0 % (AST-03-01-Mag)"
        assert ledger["ours"]["S17"] == "4,461.9 k"

    def test_sizes_are_judged_of_systems_that_were_not_trained(self, files, tmp_path):
        files["summary"] = summary_of(tmp_path / "fewer.tsv", {"AST-05-05": {}})
        ledger = judge(**files, output_stem=None, paper_corpora=True).set_index("claim_id")
        assert ledger["ours"]["C2a"].startswith("154.706 M (AST-03-01-Mag, linear layers alone")
        assert ledger["verdict"]["C4a"] == "reproduced for another system"
        assert ledger.loc["C5b", ["verdict", "why"]].to_list() == ["not run", "no AST-03-01-Mag in this run"]

    @pytest.mark.parametrize(
        ("quantity", "value", "claim_id"),
        [
            ("C9_total_variation", 0.0501, "C9c"),
            ("C9_score_change", 0.0501, "C9d"),
            ("F8_runs_with_a_worse_last_stage", 0, "F8b"),
        ],
    )
    def test_a_finding_that_does_not_show_differs(self, files, tmp_path, quantity, value, claim_id):
        files["findings"] = write_findings(tmp_path / "other.tsv", FINDINGS | {quantity: value})
        ledger = judge(**files, output_stem=None, paper_corpora=False)
        findings = ledger[ledger["claim_id"].isin(["C9c", "C9d", "F8a", "F8b"])]
        assert set(findings["claim_id"][findings["verdict"] == "differs"]) == {claim_id}

    def test_no_accuracy_of_a_mini_run_is_shown(self, files, tmp_path):
        ledger = judge(**files, output_stem=tmp_path / "ledger", paper_corpora=False, label="mini")
        accuracy = ledger[ledger["corpus"].ne("")]
        assert len(accuracy) == 26 and set(accuracy["verdict"]) == {"not run"} and set(accuracy["ours"]) == {""}
        assert accuracy[["ci_low", "ci_high"]].isna().all(axis=None)
        assert set(accuracy["why"]) == {"other corpora or another front-end than the paper's"}
        of_the_paper = {re.match(r"C\d+", i)[0] for i in accuracy["claim_id"] if i.startswith("C")}
        assert of_the_paper == {"C5", "C6", "C7", "C9", "C10"}
        lines = (tmp_path / "ledger.md").read_text().splitlines()
        assert sum("| – | not run<br>other corpora" in line for line in lines) == 26

    def test_accuracy_is_judged_on_the_paper_s_corpora(self, files):
        verdicts = judge(**files, output_stem=None, paper_corpora=True).set_index("claim_id")["verdict"]
        assert verdicts["C5a"] == "reproduced" and set(verdicts[["C8", "C11"]]) == {"not comparable"}
        assert verdicts["C5b"] == verdicts["S3"] == verdicts["C5c"] == verdicts["C6c"] == "differs"  # 4.64 % all over
        assert set(verdicts[["C7", "C9a", "C9b", "C10a", "C10b"]]) == {"reproduced"}
        assert "not run" not in set(verdicts)

    @pytest.mark.parametrize(
        ("width", "p", "verdicts"),
        [
            (0.03, 0.2, dict.fromkeys(["C5c", "C6c", "C7", "C9a", "C9b", "C10a", "C10b"], "inconclusive")),
            (
                0.004,
                0.04,
                {"C5c": "differs", "C6c": "differs", "C7": "reproduced", "C9a": "differs", "C9b": "differs"}
                | {"C10a": "reproduced", "C10b": "reproduced"},
            ),
        ],
    )
    def test_all_that_compares_systems_by_accuracy_is_tested(self, files, tmp_path, width, p, verdicts):
        """Every system is worse than the baseline by 0.01 of 0.1, give or take."""
        test = {"value": 0.11, "difference": 0.01, "ci_low": 0.01 - width, "ci_high": 0.01 + width, "p_holm": p}
        for family, systems in {
            "baseline": ["AST-03-01-Mag", "AST-05-05-Uni"],
            "temperature": ["AST-05-05+stack1"],
            "temperature_trained": ["AST-05+stack1-05"],
        }.items():
            rows = [
                test | {"system": name, "corpus": corpus, "metric": metric}
                for name in systems for corpus, _ in CORPORA for metric in ("eer", "min_dcf")
            ]  # fmt: skip
            files.setdefault("comparisons", []).append(write_comparison(tmp_path / f"{family}.tsv", rows))
        rows = judge(**files, output_stem=None, paper_corpora=True).set_index("claim_id")
        assert rows["verdict"][[*verdicts]].to_dict() == verdicts
        assert not rows["why"].str.contains("no interval or test").any()
        of_one = rows.index[rows["corpus"].ne("") & ~rows["system"].str.contains("/")]
        without = judge(**files | {"comparisons": ()}, output_stem=None, paper_corpora=True).set_index("claim_id")
        pd.testing.assert_frame_equal(rows.loc[of_one], without.loc[of_one])

    def test_what_differs_is_shown_with_the_run_s_departures(self, files):
        departures = ["training.frontend.precision", "training.keep_better_stage"]
        rows = judge(**files, output_stem=None, paper_corpora=True, departures=departures).set_index("claim_id")
        said = rows["why"].str.contains(
            "departs from text or code in training.frontend.precision, training.keep_better"
        )
        assert said.equals((rows["verdict"] == "differs") & rows["corpus"].ne("")) and said["C5b"]

    def test_files(self, files, tmp_path):
        label = "mini corpora; not the paper's numbers & 100 % _toy_"
        footer = "Code c0de_1, 1 % & more."
        ledger = judge(**files, output_stem=tmp_path / "a", paper_corpora=False, label=label, footer=footer)
        judge(**files, output_stem=tmp_path / "b", paper_corpora=False, label=label, footer=footer)
        for ending in ("tsv", "md", "tex", "html"):
            assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
        table = pd.read_csv(tmp_path / "a.tsv", sep="\t", dtype=str, keep_default_na=False)
        assert tuple(table) == LEDGER_COLUMNS == tuple(ledger)
        assert table["claim_id"].tolist() == [c.claim_id for c in read_claims(CLAIMS)]
        assert table["claimed"].tolist() == [str(c.claimed) for c in read_claims(CLAIMS)]
        assert set(table["verdict"]) <= set(VERDICTS)
        assert label in (tmp_path / "a.md").read_text().splitlines()[0]
        assert (tmp_path / "a.md").read_text().endswith(f"\n\n{footer}\n")
        assert "<footer>Code c0de_1, 1 % &amp; more.</footer>\n</html>" in (tmp_path / "a.html").read_text()
        assert "footer>" not in (tmp_path / "a.tsv").read_text()
        tex = (tmp_path / "a.tex").read_text()
        assert tex.isascii()
        assert len(re.findall(r"\\raggedright\nCode c0de\\_1, 1 \\% \\& more\.\}\n\\end\{table\*\}", tex)) == 1
        assert tex.count(r"\caption{\textbf{mini corpora; not the paper's numbers \& 100 \% \_toy\_.}") == 1
        assert tex.count(r"\label{tab:claims}") == tex.count(r"\label") == 1
        body = [line for line in tex.splitlines() if re.match(r"[CSF]\d", line)]
        assert [line.split()[0] for line in body] == ledger["claim_id"].tolist()
        assert all(len(re.findall(r"(?<!\\)&", line)) == 5 for line in body)
        assert r"$-$20.7~\%" in tex and "counted at" not in tex
        differ = {line.split()[0] for line in body if line.endswith(r"\underline{differs} \\")}
        assert differ == set(ledger["claim_id"][ledger["verdict"] == "differs"])
        lines = (tmp_path / "a.md").read_text().splitlines()
        (reason,) = (line for line in lines if line.startswith("| S18 "))
        assert reason.endswith("<ins>differs</ins><br>" + ledger.set_index("claim_id")["why"]["S18"] + " |")

    def test_the_paper_s_claims_are_never_counted_with_our_findings(self, files, tmp_path):
        ledger = judge(**files, output_stem=tmp_path / "ledger", paper_corpora=False)
        assert counts(ledger) == {
            "C": {
                "reproduced": 4,
                "reproduced under another convention": 3,
                "reproduced for another system": 3,
                "not comparable": 2,
                "not run": 11,
            },
            "S": {"reproduced": 2, "differs": 2, "not run": 15},
            "F": {"reproduced": 2},
        }
        assert counts(ledger[:1]) == {"C": {"reproduced under another convention": 1}, "S": {}, "F": {}}
        for ending in ("md", "tex", "html"):
            text = (tmp_path / f"ledger.{ending}").read_text()
            assert [int(number) for number in re.findall(r"(\d+) in all: reproduced", text)] == [23, 19, 2]
            assert str(len(ledger)) not in re.findall(r"\d+", text)  # the sum

    @pytest.mark.parametrize(("system", "claim_id"), [("AST-05-05+stack1", "C10a"), ("AST-05+stack1-05", "C10b")])
    def test_a_temperature_that_gains_would_show(self, files, tmp_path, system, claim_id):
        systems = ["AST-05-05", "AST-05-05+stack1", "AST-05+stack1-05"]
        cells = {name: {f"{c}.eer.mean": 0.08 if name == system else 0.1 for c in ("five", "wild")} for name in systems}
        files["summary"] = summary_of(tmp_path / "other.tsv", cells)
        rows = judge(**files, output_stem=None, paper_corpora=True).set_index("claim_id").loc[["C10a", "C10b"]]
        assert {name: row["verdict"] == "differs" for name, row in rows.iterrows()} == {
            name: name == claim_id for name in ("C10a", "C10b")
        }

    def test_read_back(self, files, tmp_path):
        """What is on disk renders as what was judged."""
        ledger = judge(**files, output_stem=tmp_path / "ledger", paper_corpora=True)
        assert render(read_ledger(tmp_path / "ledger.tsv")) == render(ledger)
        (tmp_path / "other.tsv").write_text("claim_id\nC1\n")
        with pytest.raises(ConfigError, match=r"other\.tsv: not a readable ledger"):
            read_ledger(tmp_path / "other.tsv")

    def test_settings_as_json_gives_them(self, files, tmp_path):
        """Paths as texts, pairs as lists: what the command line passes on."""
        files["comparisons"] = [write_comparison(tmp_path / "baseline.tsv", [{}])]
        expected = judge(**files, output_stem=None, paper_corpora=True)
        settings = json.loads(json.dumps(files, default=str)) | {"output_stem": str(tmp_path / "ledger")}
        validate_call(judge)(**settings, paper_corpora=True)
        assert render(read_ledger(tmp_path / "ledger.tsv")) == render(expected)

    def test_rendering(self, files):
        text = render(judge(**files, output_stem=None, paper_corpora=False))
        lines = text.splitlines()
        assert max(map(len, lines)) <= 120
        assert lines[-10:] == [
            "What the paper claims",
            "  23 in all: reproduced 4, reproduced under another convention 3, reproduced for another system 3, "
            "not comparable 2,",
            "  not run 11",
            "  not comparable, 2: the formula of the composite score, which says what is best, is not known",
            "  not run, 11: other corpora or another front-end than the paper's",
            "Second-hand: from a third party's digest of the paper, not verified",
            "  19 in all: reproduced 2, differs 2, not run 15",
            "  not run, 15: other corpora or another front-end than the paper's",
            "What we found about the released code, each shown (reproduced) or not (differs) by this run's trainings",
            "  2 in all: reproduced 2",
        ]
        assert any(re.match(r"C5a +not run +4.64 % +- +AASIST", line) for line in lines)
        assert any(re.match(r"C7 +not run +≤ \+20 % ", line) for line in lines)


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rule": "roughly"}, "rule: 'roughly' is unknown"),
            ({"source": "hearsay"}, "source"),
            ({"unit": "percent"}, "unit"),
            ({"corpus": "in_the_wild"}, "corpus"),
            ({"comparable": "never"}, "note: say why nothing can be held against it"),
            ({"since": "lately"}, "since: 'lately' is no date"),
            ({"comparable": "always"}, "'paper corpora' is for what corpora decide"),
            ({"corpus": "", "comparable": "always"}, "metric: 'eer' needs a corpus"),
            ({"corpus": "", "metric": "rank", "comparable": "always"}, "metric: 'rank' needs a corpus"),
            ({"decimals": ""}, "the rule equals rounds and needs them"),
            ({"decimals": "", "rule": "exists"}, "the rule exists rounds and needs them"),
            ({"decimals": "two"}, "decimals a whole number"),
            ({"decimals": "1"}, "claimed has more than 1 decimals"),
            ({"decimals": "-1"}, "decimals must not be negative"),
            ({"rule": "within", "claimed": "0"}, "the rule within needs a bound above 0"),
            ({"rule": "within", "claimed": "-5"}, "the rule within needs a bound above 0"),
            ({"claimed": ""}, "claimed must be a number"),
            ({"claimed": "4,64"}, "claimed must be a number"),
            ({"claimed": "NaN"}, "claimed must be finite"),
            ({"claim_id": "D1"}, "claim_id"),
            ({"system": ""}, "no system is named"),
            ({"system": "AST-05-*"}, "the rule equals takes names, no patterns"),
        ],
    )
    def test_a_wrong_line(self, tmp_path, change, message):
        path = write_claims(tmp_path / "claims.csv", {}, change)
        with pytest.raises(ConfigError, match=re.escape(message)) as error:
            read_claims(path)
        assert f"{path}, line 3" in str(error.value)

    def test_an_id_twice(self, tmp_path):
        with pytest.raises(ConfigError, match=r"line 3 \(C1\): claim_id: it is here twice"):
            read_claims(write_claims(tmp_path / "claims.csv", {}, {"claim_id": "C1"}))

    @pytest.mark.parametrize("column", Claim._fields)
    def test_a_missing_column(self, tmp_path, column):
        path = tmp_path / "claims.csv"
        pd.read_csv(CLAIMS, dtype=str).drop(columns=column).to_csv(path, index=False)
        with pytest.raises(ConfigError, match=f"columns missing: {column}"):
            read_claims(path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "columns missing"),
            (",".join(Claim._fields).encode(), "holds no claim"),
            (b"\xff\xfe\x00", "not a readable CSV"),
            (CLAIMS.read_bytes() + b"C99,too,few\n", "another number of fields"),
            (CLAIMS.read_bytes() + b"C99" + 20 * b",", "another number of fields"),
        ],
    )
    def test_a_broken_file(self, tmp_path, content, message):
        (tmp_path / "claims.csv").write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_claims(tmp_path / "claims.csv")

    def test_no_file(self, tmp_path):
        with pytest.raises(ConfigError, match="not a readable CSV"):
            read_claims(tmp_path / "claims.csv")

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("findings", "quantity\tvalue\nF7_difference\t1\n", "columns missing: how"),
            ("findings", "quantity\tvalue\thow\nF7_a\t1\tx\nF7_a\t2\tx\n", "F7_a is in it twice"),
            ("findings", "quantity\tvalue\thow\nC9_score_change\tmany\tx\n", "'many' is not a number"),
            ("findings", "", "not a readable TSV"),
            ("summary", "system\nAST-05-05\n", "columns missing"),
        ],
    )
    def test_other_files(self, files, tmp_path, file, content, message):
        files[file] = tmp_path / "broken.tsv"
        files[file].write_text(content)
        with pytest.raises(ConfigError, match=message):
            judge(**files, output_stem=tmp_path / "ledger", paper_corpora=False)
        assert not list(tmp_path.glob("ledger*"))

    def test_a_corpus_that_the_summary_lacks(self, files):
        files["corpora"] = [("five", ""), ("nowhere", "")]
        with pytest.raises(ConfigError, match="nowhere"):
            judge(**files, output_stem=None, paper_corpora=False)


def test_texts_for_readers():
    assert typeset("-9 % [-12.5, +1], p < 0.001 (AST-05-05)") == "−9\u00a0% [−12.5, +1], p < 0.001 (AST-05-05)"
    assert typeset("4.1e-07 and 2e+10, -3e05 k") == "4.1×10⁻⁷ and 2×10¹⁰, −3×10⁵\u00a0k"
    assert typeset("12 kinds of Mag at 5 M.") == "12 kinds of Mag at 5\u00a0M."


def test_claimed_numbers_stay_as_printed(tmp_path):
    claim = read_claims(write_claims(tmp_path / "claims.csv", {"claimed": "25.40"}))[0]
    assert str(claim.claimed) == "25.40" and claim.claimed == Decimal("25.4")
