"""The facts, read from the files that `measure` writes; that a broken package would change them; and their tables."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import REPOSITORY
from spaarsist.audit import facts
from spaarsist.audit.facts import COLUMNS, measure
from spaarsist.models import frontend
from spaarsist.models.backend import GraphPool, HeterogeneousAttention
from spaarsist.models.detector import Detector
from spaarsist.names import CONVENTIONS, ConfigError, Variant
from spaarsist.reporting.claims import judge_facts, read_claims
from spaarsist.reporting.figures.facts import saving_against_length, where_the_work_is
from spaarsist.reporting.overview import facts as overview
from spaarsist.reporting.tables.facts import (
    PRINTED,
    TOPICS,
    read_counts,
    savings,
    write_facts,
    write_macs,
    write_saving,
)
from test_metrics import EXPECTED, golden_scores

FACTS = REPOSITORY / "paper" / "facts.csv"


def values(rows):
    return {quantity: value for quantity, value, _unit, _how in rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All facts; the longest inputs are left out, which take half a minute."""
    folder = tmp_path_factory.mktemp("facts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "FRAMES", {1: 49, 4.0375: 201, 8.75: 437, 20: 999})
        measure(folder, threads=1)
    return folder


@pytest.fixture(scope="module")
def value(folder):
    return pd.read_csv(folder / "quantities.tsv", sep="\t").set_index("quantity")["value"]


@pytest.fixture(scope="module")
def macs(folder):
    return read_counts(folder / "counts.tsv")


def test_every_fact_has_rows_that_say_what_was_computed(folder):
    table = pd.read_csv(folder / "quantities.tsv", sep="\t")
    assert tuple(table.columns) == COLUMNS == ("fact", "quantity", "value", "unit", "how")
    assert list(table["fact"].unique()) == [f"F{i}" for i in range(1, 14) if i != 8]  # F8 needs trainings
    assert table["quantity"].is_unique and not table.isna().any(axis=None)
    assert (table["quantity"].str.partition("_")[0] == table["fact"]).all()
    assert (table["how"].str.len() > 20).all()


def test_every_fact_is_judged_shown_and_located(folder):
    """The two of the longest input aside, which is not counted here."""
    ledger = judge_facts(FACTS, folder / "quantities.tsv").set_index("claim_id")
    assert [*ledger.index[ledger["verdict"] != "reproduced"]] == ["F3m", "F3n"]
    assert {re.match(r"F\d+", name)[0] for name in ledger.index} == {*TOPICS}
    located = [fact for fact in read_claims(FACTS) if not fact.claim_id.startswith("F3")]
    assert all(re.fullmatch(r"[\w/]+\.py:\d+(-\d+)?", fact.where) for fact in located)


@pytest.mark.parametrize(
    ("quantity", "wrong", "ids"),
    [
        ("F1_params_mag", 611_784, {"F1b"}),
        ("F2_stack_node_spread_linear", 1e-12, {"F2a"}),
        ("F3_linear_head_base_437", 195_045_377, {"F3a"}),
        ("F3_linear_head_mag_437", 195_045_376, {"F3b", "F3d"}),
        ("F3_whole_magmean_201", 690_000_000, {"F3l"}),
        ("F3_ptflops_mag_200", 691_474_999, {"F3q"}),
        ("F4_frames_moved_normalised_by_batch", 0, {"F4a"}),
        ("F6_act_dcf_released", 0.29, {"F6a"}),
        ("F9_passes_shared", 36, {"F9a", "F9b"}),
        ("F10_saturation_gap", 17.5, {"F10a"}),
        ("F11_clips_lost", 0, {"F11b"}),
        ("F12_blanked_half", 0.3, {"F12b"}),
    ],
)
def test_a_fact_that_does_not_show_is_said_not_to(folder, tmp_path, quantity, wrong, ids):
    table = pd.read_csv(folder / "quantities.tsv", sep="\t")
    table["value"] = table["value"].mask(table["quantity"] == quantity, wrong)
    table.to_csv(tmp_path / "quantities.tsv", sep="\t", index=False)
    data = write_facts(FACTS, tmp_path / "quantities.tsv", tmp_path / "facts")
    assert {*data["fact"][data["verdict"] == "not shown"]} == ids | {"F3m", "F3n"}


def test_the_generator_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "_counts", dict)
    monkeypatch.setattr(facts, "_f3_linear", lambda counts: iter(()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        state = torch.random.get_rng_state()
        measure(tmp_path, threads=1)
        assert torch.equal(torch.random.get_rng_state(), state)


def test_f1_the_size_quoted_for_mag_is_that_of_magmean(value):
    sizes = {label: value[f"F1_params_{label}"] for label in ("mag", "magmean", "base")}
    assert sizes == {"mag": 611_522, "magmean": 586_434, "base": 611_784}


def test_f2_the_linear_stack_node_does_not_see_the_input(value):
    assert value["F2_stack_node_spread_linear"] == 0
    assert value[["F2_stack_node_spread_attention", "F2_stack_node_spread_uniform"]].min() > 1e-4
    assert value.filter(like="F2_other_nodes_spread").min() > 1e-4


def test_f2_sees_a_linear_that_depends_on_the_input(monkeypatch):
    forward = HeterogeneousAttention.forward

    def leaking(self, temporal, spectral, stack_node, *how):
        *nodes, stack_node = forward(self, temporal, spectral, stack_node, *how)
        return *nodes, stack_node + 1e-3 * temporal.mean()

    monkeypatch.setattr(HeterogeneousAttention, "forward", leaking)
    with torch.inference_mode():
        assert values(facts._f2_stack_node())["F2_stack_node_spread_linear"] > 0


def test_f2_the_code_s_mean_is_neither_attention_nor_a_mean(value):
    names = ("F2_nodes_mixed", "F2_bend", "F2_training_noise")
    assert value[[f"{name}_attention" for name in names]].min() > 0.01
    assert value[[f"{name}_linear" for name in names]].max() < 1e-5
    assert value["F2_nodes_mixed_linear"] == value["F2_training_noise_linear"] == 0
    assert value["F2_apart_from_the_mean"] > 0.01


@pytest.mark.parametrize(
    ("name", "leak"),
    [
        ("F2_nodes_mixed", lambda layer, nodes: nodes + nodes.mean(dim=1, keepdim=True)),
        ("F2_bend", lambda layer, nodes: torch.selu(nodes)),
        ("F2_training_noise", lambda layer, nodes: layer.dropout(nodes)),
        ("F2_training_noise", lambda layer, nodes: layer.bn(nodes.transpose(1, 2)).transpose(1, 2)),
    ],
)
def test_f2_sees_what_a_linear_has_kept(monkeypatch, name, leak):
    forward = HeterogeneousAttention.forward

    def leaking(self, *inputs):
        temporal, *rest = forward(self, *inputs)
        return leak(self, temporal), *rest

    monkeypatch.setattr(HeterogeneousAttention, "forward", leaking)
    with torch.inference_mode():
        assert values(facts._f2_layer())[f"{name}_linear"] > 1e-3


def test_f2_sees_a_true_mean(monkeypatch):
    forward = HeterogeneousAttention.forward
    monkeypatch.setattr(
        HeterogeneousAttention,
        "forward",
        lambda self, *inputs: forward(self, *inputs[:3], Variant(stack_aggregation="uniform")),
    )
    with torch.inference_mode():
        assert values(facts._f2_layer())["F2_apart_from_the_mean"] == 0


def test_f3_the_paper_s_macs_to_the_last_digit(value):
    """PAPER.md, F3: found by two scripts of others; the head is 1024 * 512 + 512 * 256 + 256 * 2."""
    found = {label: value[f"F3_linear_head_{label}_437"] for label in ("base", "mag", "magmean")}
    assert found == {"base": 195_045_376, "mag": 154_706_432, "magmean": 153_209_344}
    head = 1024 * 512 + 512 * 256 + 256 * 2
    assert all(value[f"F3_linear_{label}_437"] == n_macs - head for label, n_macs in found.items())


def test_f3_what_that_count_leaves_out(value):
    parts = {
        name: value[f"F3_left_out_{name}"]
        for name in ("convolutions", "batch_norms", "matrix_products", "linear_layers")
    }
    assert [*parts.values()] == [1_387_100_160, 6_382_868, 4_872_192, 194_389_504]
    assert sum(parts.values()) == value["F3_whole_base_437"] and value["F3_convolutions_saved"] == 0


def test_f3_the_authors_own_tool(value):
    tool = [value[f"F3_ptflops_{label}_200"] / 1e6 for label in ("base", "magmean", "mag")]
    assert [round(n, 2) for n in tool] == [706.40, 690.94, 691.48]


def test_f3_counted_whole(value):
    whole = [value[f"F3_whole_{label}_201"] / 1e6 for label in ("base", "mag", "magmean")]
    assert whole == pytest.approx([713.0, 698.4, 697.8], abs=0.05)


def test_f4_frames_move_only_where_the_batch_is_normalised(value):
    assert value["F4_frames_moved_normalised_by_batch"] > 0.1
    assert value["F4_frames_moved_normalised_by_utterance"] < 1e-5


def test_f4_sees_a_normalisation_over_the_batch(monkeypatch):
    monkeypatch.setattr(frontend, "normalise", lambda w, _how, normalise=frontend.normalise: normalise(w, "batch"))
    with torch.inference_mode():
        assert values(facts._f4_batch())["F4_frames_moved_normalised_by_utterance"] > 0.1


def test_f5_a_layer_norm_is_what_lies_between(value):
    assert value["F5_difference_before_layer_norm"] > 0.1
    assert value["F5_difference_after_layer_norm"] < 1e-4


def test_f6_two_thresholds(value):
    assert value["F6_threshold_act_dcf"] == pytest.approx(-np.log(1 * 0.95 / (10 * 0.05)))
    assert value["F6_threshold_act_dcf_released"] == pytest.approx(np.log(10 / 1))
    assert 0 <= value["F6_act_dcf"] - value["F6_min_dcf"] < 0.01  # the scores are calibrated
    assert value["F6_act_dcf_released"] > 2 * value["F6_act_dcf"]


def test_f7_ties_matter(value):
    assert abs(value["F7_difference"]) > 1e-3
    assert value["F7_difference"] == pytest.approx(value["F7_eer_ties_unmerged"] - value["F7_eer_ties_merged"])


@pytest.mark.parametrize("name", EXPECTED)
def test_f7_merged_is_what_the_released_code_returns(name):
    merged = facts._eer_of_merged_ties(*golden_scores(name))
    assert merged == pytest.approx(EXPECTED[name]["released_code"]["eer"], abs=1e-9)


def test_f9_one_pass_per_checkpoint(value):
    assert (value["F9_passes_one_by_one"], value["F9_passes_shared"], value["F9_score_difference"]) == (24, 3, 0)


def test_f9_sees_a_pass_per_variant(monkeypatch):
    scores = Detector.scores
    monkeypatch.setattr(Detector, "scores", lambda self, w, vs: torch.cat([scores(self, w, [v]) for v in vs], 1))
    with torch.inference_mode():
        assert values(facts._f9_passes())["F9_passes_shared"] == 24


def test_f10_probabilities_saturate_and_log_odds_do_not(value):
    assert 16 < value["F10_saturation_gap"] < 18
    assert value["F10_distinct_log_odds"] == 1000
    assert value["F10_distinct_probabilities"] < 336  # the gaps below 16.7: all that lies above is one value


def test_f11_blank_crops_as_often_as_counted(value):
    """A mask of m samples blanks m - c + 1 of the n - c + 1 places of the crop, if it is not the shorter."""
    crop, shares = 646, []
    for n in range(4 * 160, 21 * 160, 160):
        masks = np.floor(n * np.linspace(0.2, 0.5, 10_001))
        shares.append(np.mean(np.maximum(masks - crop + 1, 0) / max(n - crop + 1, 1)))
    assert value["F11_blank_crops_mask_first"] == pytest.approx(np.mean(shares), abs=0.006)  # 3 standard errors
    assert value["F11_blank_crops_mask_first_recipe"] == pytest.approx(0.3 * value["F11_blank_crops_mask_first"])
    assert value["F11_blank_crops_crop_first"] == 0


def test_f11_what_is_lost_in_silence(value):
    assert (value["F11_tensors_left_random"], value["F11_clips_lost"]) == (16, 1)


def test_f12_the_shares_that_were_simulated_before(value):
    """PAPER.md, F12: 23 %, 46 % and 6 % of an 11.8 s clip."""
    shares = [value[f"F12_blanked_{name}"] for name in ("none", "half", "all")]
    assert shares == pytest.approx([0.23, 0.46, 0.06], abs=0.01)


def test_f13_sees_whether_dropout_moves_the_choice(value, monkeypatch):
    assert 0.1 < value["F13_nodes_replaced_by_dropout"] < 0.9
    monkeypatch.setattr(GraphPool, "scores", lambda self, nodes, scoring: torch.arange(42.0).expand(64, 42)[..., None])
    with torch.inference_mode():
        assert values(facts._f13_dropout())["F13_nodes_replaced_by_dropout"] == 0


class TestShown:
    def test_macs(self, folder, tmp_path):
        write_macs(folder / "counts.tsv", tmp_path / "macs", "made so")
        lines = (tmp_path / "macs.md").read_text().splitlines()
        rows = [line for line in lines if line.startswith("| AASIST |")]
        assert len(rows) == len(CONVENTIONS)
        assert sum("195,045,376" in row and "<ins>0.000</ins>" in row for row in rows) == 1
        assert sum("<ins>0.000</ins>" in line for line in lines) == len(PRINTED)
        assert "made so" in lines[-1]
        assert {path.suffix for path in tmp_path.iterdir()} == {".tsv", ".md", ".tex", ".html"}

    def test_saving(self, folder, macs, tmp_path):
        table = savings(macs)
        assert table["seconds"].unique().tolist() == [1, 4.04, 8.76, 20]
        mag = table[(table["system"] == "AST-03-01-Mag") & (table["n_frames"] == 437)].set_index("convention")["saved"]
        assert mag.to_dict() == pytest.approx({"linear_head": 0.2068, "whole": 0.0265}, abs=5e-5)
        assert (table.loc[table["system"] == "AST-05-05", "saved"] == 0).all()
        write_saving(folder / "counts.tsv", tmp_path / "saving")
        assert (
            "| 8.76 | 437 | 1,592.7 | 2.7 | 2.8 | 72.4 | 195.0 | 20.7 | 21.4 | 53.9 |"
            in (tmp_path / "saving.md").read_text()
        )

    def test_figures(self, folder, tmp_path):
        saving_against_length(folder / "counts.tsv", tmp_path / "saving")
        where_the_work_is(folder / "counts.tsv", folder / "operators.tsv", tmp_path / "work")
        drawn = pd.read_csv(tmp_path / "work.tsv", sep="\t")
        parts = drawn.groupby("system")["n_macs"].sum()
        assert (parts["AST-05-05"], parts["the paper's count of AASIST"]) == (1_592_744_724, 195_045_376)
        assert len(pd.read_csv(tmp_path / "saving.tsv", sep="\t")) == 2 * 2 * 4  # systems, conventions, lengths
        assert len([*tmp_path.iterdir()]) == 6

    def test_on_one_screen(self, folder, tmp_path):
        data = write_facts(FACTS, folder / "quantities.tsv", tmp_path / "facts")
        (tmp_path / "counts.tsv").write_bytes((folder / "counts.tsv").read_bytes())
        text = overview(tmp_path)
        assert "195,045,376" in text and "154,706,432 (−20.7 %)" in text and "−72.2 %" in text
        assert f"{len(data) - 2} of {len(data)} shown" in text
        assert len(text.splitlines()) <= 24 and max(map(len, text.replace(str(tmp_path), "").splitlines())) <= 100

    def test_a_count_that_is_missing(self, folder, tmp_path):
        table = pd.read_csv(folder / "counts.tsv", sep="\t")
        table[table["system"] != "AASIST-L"].to_csv(tmp_path / "counts.tsv", sep="\t", index=False)
        with pytest.raises(ConfigError, match="no whole of AASIST-L at 49 frames"):
            read_counts(tmp_path / "counts.tsv")
