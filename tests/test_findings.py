"""The facts of each finding, read from the file that `measure` writes; and that a broken package would change them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import REPOSITORY
from spaarsist.audit import findings
from spaarsist.audit.complexity import Size, count, ship
from spaarsist.audit.findings import COLUMNS, measure
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.models import frontend
from spaarsist.models.backend import HeterogeneousAttention
from spaarsist.models.detector import Detector
from spaarsist.names import ConfigError, Variant
from spaarsist.reporting.claims import read_claims
from test_metrics import EXPECTED, golden_scores

CLAIMS = REPOSITORY / "paper" / "claims.csv"


def read(path):
    return pd.read_csv(path, sep="\t").set_index("quantity")["value"]


def values(rows):
    return {quantity: value for quantity, value, _unit, _how in rows}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("findings") / "findings.tsv"
    measure(path)
    return path


@pytest.fixture(scope="module")
def value(path):
    return read(path)


def test_every_finding_has_rows_that_say_what_was_computed(path):
    table = pd.read_csv(path, sep="\t")
    assert tuple(table.columns) == COLUMNS == ("finding", "quantity", "value", "unit", "how")
    assert list(table["finding"].unique()) == [f"F{i}" for i in range(1, 12) if i != 8]  # F8 needs training runs
    assert table["quantity"].is_unique and not table.isna().any(axis=None)
    assert (table["quantity"].str.partition("_")[0] == table["finding"]).all()
    assert (table["how"].str.len() > 20).all()


def test_same_bytes_again_and_the_generator_is_left_alone(path, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        state = torch.random.get_rng_state()
        measure(tmp_path / "again.tsv")
        assert torch.equal(torch.random.get_rng_state(), state)
    assert (tmp_path / "again.tsv").read_bytes() == path.read_bytes()


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
        assert values(findings._f2_stack_node())["F2_stack_node_spread_linear"] > 0


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
        assert values(findings._f2_layer())[f"{name}_linear"] > 1e-3


def test_f2_sees_a_true_mean(monkeypatch):
    forward = HeterogeneousAttention.forward
    monkeypatch.setattr(
        HeterogeneousAttention,
        "forward",
        lambda self, *inputs: forward(self, *inputs[:3], Variant(stack_aggregation="uniform")),
    )
    with torch.inference_mode():
        assert values(findings._f2_layer())["F2_apart_from_the_mean"] == 0


def test_f3_macs(value):
    counts = value[["F3_macs_base_201_frames", "F3_macs_base_200_frames", "F3_macs_magmean_201_frames"]]
    assert (counts / 1e6).tolist() == pytest.approx([713.0, 702.7, 697.8], abs=0.05)
    assert value["F3_saving"] == pytest.approx(0.021, abs=0.0005)
    assert value["F3_share_of_convolutions"] == pytest.approx(0.90, abs=0.005)
    assert value["F3_convolutions_saved"] == 0


def test_f3_counts_the_length_that_is_asked_for():
    counts = values(findings._f3_macs(60))
    assert counts["F3_macs_base_60_frames"] < 0.35 * 713e6
    assert counts["F3_macs_base_59_frames"] < counts["F3_macs_base_60_frames"]  # 19 temporal positions, not 20


def test_f3_no_length_gives_the_printed_counts(value):
    printed = {
        claim.system.split()[-1]: claim.claimed for claim in read_claims(CLAIMS) if claim.claim_id in ("C1", "C2a")
    }
    for label, (shorter, longer) in findings.ENCLOSING.items():
        assert longer == shorter + 1
        at = [value[f"F3_macs_{label}_{n}_frames"] for n in (shorter, longer)]
        number = 1e6 * float(printed[findings.SYSTEMS[label]])
        assert at[0] < number - 500 < number + 500 < at[1]  # half of the last digit that the paper prints


def test_f3_macs_grow_with_every_frame():
    counts = [count(*ship("AST-05-05", Size(n_frames=n), {}))[1].total() for n in range(54, 60)]
    assert counts == sorted({*counts})


def test_f4_frames_move_only_where_the_batch_is_normalised(value):
    assert value["F4_frames_moved_normalised_by_batch"] > 0.1
    assert value["F4_frames_moved_normalised_by_utterance"] < 1e-5


def test_f4_sees_a_normalisation_over_the_batch(monkeypatch):
    monkeypatch.setattr(frontend, "normalise", lambda w, _how, normalise=frontend.normalise: normalise(w, "batch"))
    with torch.inference_mode():
        assert values(findings._f4_batch())["F4_frames_moved_normalised_by_utterance"] > 0.1


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
    merged = findings._eer_of_merged_ties(*golden_scores(name))
    assert merged == pytest.approx(EXPECTED[name]["released_code"]["eer"], abs=1e-9)


def test_f9_one_pass_per_checkpoint(value):
    assert (value["F9_passes_one_by_one"], value["F9_passes_shared"], value["F9_score_difference"]) == (24, 3, 0)


def test_f9_sees_a_pass_per_variant(monkeypatch):
    scores = Detector.scores
    monkeypatch.setattr(Detector, "scores", lambda self, w, vs: torch.cat([scores(self, w, [v]) for v in vs], 1))
    with torch.inference_mode():
        assert values(findings._f9_passes())["F9_passes_shared"] == 24


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


def history(path, *rows):
    lines = [f"{stage}\t{epoch}\t0.5\t{eer}\t0.0001\t1.0\t100" for stage, epoch, eer in rows]
    path.write_text("\n".join(["stage\tepoch\ttrain_loss\tdev_eer\tlr\tseconds\tpeak_memory_mb", *lines]) + "\n")
    return path


def test_f8_with_training_runs(tmp_path, path, checkpoint, synthetic, monkeypatch):
    histories = [
        history(tmp_path / "worse.tsv", (1, 1, 0.3), (1, 2, 0.1), (2, 1, 0.2), (2, 2, 0.25)),
        history(tmp_path / "worse_too.tsv", (1, 1, 0.3), (2, 1, 0.31)),
        history(tmp_path / "better.tsv", (1, 1, 0.3), (2, 1, 0.2), (2, 2, 0.4)),
        history(tmp_path / "single.tsv", (1, 1, 0.3), (1, 2, 0.4)),
    ]
    dev_list = synthetic / "dev.tsv"
    cut, drawn = audio.crop_random, []
    monkeypatch.setattr(audio, "crop_random", lambda w, n, rng: drawn.append(cut(w, n, rng)) or drawn[-1])
    measure(tmp_path / "f.tsv", histories=histories, checkpoint=checkpoint, dev_list=dev_list)
    value = read(tmp_path / "f.tsv")
    assert (value["F8_runs"], value["F8_runs_with_a_worse_last_stage"]) == (3, 2)
    trials = read_trials(dev_list)  # so few that all are scored, as in training
    assert value["F8_dev_eer_centre"] == pytest.approx(json.loads((checkpoint / "model.json").read_text())["dev_eer"])
    excerpts = {d.tobytes() for d in drawn if len(d) == 8000}  # F11 crops as well, but to another length
    assert len(excerpts) == 5 * len(trials)
    low, high = value["F8_dev_eer_random_min"], value["F8_dev_eer_random_max"]
    assert 0 <= low <= high <= 1
    assert (value["F8_dev_eer_random_std"] > 0) == (low < high)
    pd.testing.assert_series_equal(value[~value.index.str.startswith("F8")], read(path))  # the others do not move


def test_f8_takes_as_many_of_each_class(checkpoint, synthetic, monkeypatch):
    monkeypatch.setattr(findings, "N_PER_CLASS", 3)
    rows = findings._f8_random_excerpts(checkpoint, synthetic / "dev.tsv", torch.device("cpu"))
    with torch.inference_mode():
        assert all("3 bona fide trials and 3 spoofs" in how for *_, how in rows)


def test_f8_refuses(tmp_path):
    with pytest.raises(ConfigError, match="go together"):
        measure(tmp_path / "f.tsv", checkpoint=tmp_path)
    bad = tmp_path / "bad.tsv"
    bad.write_text("stage\tepoch\n1\t1\n")
    for file in (bad, tmp_path / "absent.tsv"):
        with pytest.raises(ConfigError, match=rf"{file.name}: not readable as a training history"):
            list(findings._f8_stages([file]))
    assert not (tmp_path / "f.tsv").exists()
