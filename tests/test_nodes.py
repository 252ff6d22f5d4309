"""Looking into a back-end: cases whose answer is known, and that what is looked at is what the readout uses."""

import copy
import itertools
import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import scipy.stats
import torch
from safetensors import safe_open

from conftest import GOLDEN, misplace
from spaarsist.artefacts import SCORE_METADATA
from spaarsist.audit import nodes as analysis
from spaarsist.audit.nodes import COLUMNS, chance_overlap, concentration, inspect, rank_correlation, trace
from spaarsist.data.protocol import read_trials
from spaarsist.experiments.score import score
from spaarsist.models.backend import AASIST, Branch, GraphPool, Graphs, HeterogeneousAttention
from spaarsist.models.detector import load_checkpoint, prepare_torch, save_checkpoint
from spaarsist.names import ConfigError, Variant

POOLS = [
    "spectral_pool", "temporal_pool", "branches.0.spectral_pool", "branches.0.temporal_pool",
    "branches.1.spectral_pool", "branches.1.temporal_pool",
]  # fmt: skip
LAYERS = ["branches.0.first", "branches.0.second", "branches.1.first", "branches.1.second"]
RUN = ["trained", "seed", "corpus", "label"]


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def untrained():
    """Its batch norms have seen something."""
    prepare_torch(1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        backend = AASIST(feature_dim=8, embedding_dim=4)
        backend(torch.randn(4, 30, 8))
    return backend.eval()


@pytest.fixture
def backend(untrained):
    return copy.deepcopy(untrained)


def graphs_of(n, n_temporal=13, n_spectral=42):
    return Graphs(torch.randn(n, n_spectral, 64), torch.randn(n, n_temporal, 64))


def looked_at(part, backend, graphs, labels=None, batch=None):
    """The part after it has seen the graphs, in batches."""
    n = len(graphs.spectral)
    labels = np.array(["bonafide", "spoof"] * n)[:n] if labels is None else np.asarray(labels)
    for start in range(0, n, batch or n):
        rows = slice(start, start + (batch or n))
        part.add(backend, Graphs(*(nodes[rows] for nodes in graphs)), labels[rows])
    return labels


def overlaps(backend, graphs, k=0.5, labels=None):
    """Rows of nodes.tsv and of kept.tsv."""
    part = analysis._Overlap(Variant(k))
    labels = looked_at(part, backend, graphs, labels)
    nodes, kept = (pd.DataFrame(rows) for rows in (part.node_rows(labels), part.kept_rows(labels, 0.1)))
    return nodes.set_index(["label", "layer"]), kept


# What is looked at is what the readout uses


@pytest.mark.parametrize("scoring", ["learned", "magnitude"])
@pytest.mark.parametrize("aggregation", ["attention", "uniform", "linear"])
def test_what_is_captured_gives_what_the_released_code_returns(scoring, aggregation):
    """Redo the pooling and the summary from the captured arguments; the released code's output comes out."""
    with safe_open(GOLDEN / "backend_small.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    golden = AASIST(int(metadata["input_dim"]), int(metadata["embedding_dim"])).eval()
    golden.load_public_state({key[6:]: value for key, value in tensors.items() if key.startswith("state/")})
    released = {"attention": "attention", "linear": "mean"}.get(aggregation)
    for k in (0.5, 0.3):
        variant = Variant(k, scoring, aggregation)
        graphs = golden.encode(tensors["input/T49"])
        seen = trace(golden, graphs, variant)
        assert sorted(seen) == sorted([*POOLS, *LAYERS, "output"])
        for layer in POOLS:
            (nodes, ratio, given_scoring), pooled = seen[layer]
            assert (ratio, given_scoring) == (k, scoring)
            pool = golden.get_submodule(layer)
            scores = {
                "learned": 1 / (1 + torch.exp(-(nodes @ pool.proj.weight[0] + pool.proj.bias))),
                "magnitude": (nodes**2).sum(dim=2),
            }[scoring]
            kept = analysis.highest(pool.scores(nodes, scoring), pooled.shape[1])
            for trial, of_nodes in enumerate(scores.tolist()):
                order = sorted(range(nodes.shape[1]), key=of_nodes.__getitem__, reverse=True)[: pooled.shape[1]]
                assert [*np.flatnonzero(kept[trial])] == sorted(order)
                scale = scores[trial, order, None] if scoring == "learned" else 1
                torch.testing.assert_close(pooled[trial], nodes[trial, order] * scale)
        branches = []
        for i in range(2):
            first, second = (seen[f"branches.{i}.{name}"] for name in ("first", "second"))
            assert torch.equal(first[0][0], seen["temporal_pool"][1])
            assert torch.equal(first[0][1], seen["spectral_pool"][1])
            assert torch.equal(first[1][2], second[0][2])
            branches.append([before + after for before, after in zip(second[0][:3], second[1], strict=True)])
        temporal, spectral, stack = (torch.maximum(*pair) for pair in zip(*branches, strict=True))
        parts = [f(nodes) for nodes in (temporal, spectral) for f in (lambda x: x.abs().amax(1), lambda x: x.mean(1))]
        summary = torch.cat([*parts, stack[:, 0]], dim=1)
        torch.testing.assert_close(summary, seen["output"][0][0])
        output = summary @ golden.output.weight.T + golden.output.bias
        torch.testing.assert_close(output, golden.readout(graphs, variant))
        for case in json.loads(metadata["cases"]):
            wanted = case["frames"], case["k_infer"], case["node_scoring"], case["stack_aggregation"]
            if wanted == (49, k, scoring, released):
                torch.testing.assert_close(output, tensors[f"output/{case['key']}"], rtol=1e-4, atol=1e-5)
                break
        else:
            assert released is None, "the golden file has such a case"


def test_hooks_are_gone_afterwards_and_after_an_error(backend, monkeypatch):
    trace(backend, graphs_of(2), Variant())
    monkeypatch.setattr(Branch, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace(backend, graphs_of(2), Variant())
    assert not any(module._forward_hooks for module in backend.modules())


# Node overlap


@pytest.mark.parametrize(("n", "k"), [(3, 1), (4, 2), (6, 3), (7, 5), (7, 7)])
def test_chance_by_listing_all_pairs_of_sets(n, k):
    sets = [{*chosen} for chosen in itertools.combinations(range(n), k)]
    expected = np.mean([len(a & b) / len(a | b) for a in sets for b in sets])
    assert chance_overlap(n, k) == pytest.approx(expected)


def test_rank_correlation_is_scipys_row_by_row():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (20, 9)), rng.normal(size=(20, 9))  # the one with ties
    expected = [scipy.stats.spearmanr(*pair).statistic for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected)
    assert np.isnan(rank_correlation(np.ones((1, 4)), b[:1, :4])).all()


def test_equal_scorers_agree_in_full(backend, monkeypatch):
    monkeypatch.setattr(GraphPool, "scores", lambda _pool, nodes, _scoring: nodes.square().sum(dim=2, keepdim=True))
    rows, kept = overlaps(backend, graphs_of(6), k=0.3)
    assert [*rows.loc["all"].index] == POOLS
    np.testing.assert_allclose(rows[["jaccard", "spearman"]], 1)
    np.testing.assert_allclose(rows[["jaccard_std", "spearman_std"]], 0, atol=1e-12)
    learned, magnitude = (kept.loc[kept["scorer"] == name, "share"].to_numpy() for name in ("learned", "magnitude"))
    np.testing.assert_array_equal(learned, magnitude)


def test_opposite_scorers_share_nothing(backend, monkeypatch):
    def scores(_pool, nodes, scoring):
        return nodes.square().sum(dim=2, keepdim=True) * (1 if scoring == "learned" else -1)

    monkeypatch.setattr(GraphPool, "scores", scores)
    rows, _ = overlaps(backend, graphs_of(6), k=0.5)
    assert (rows["jaccard"] == 0).all() and (rows["chance"] > 0.2).all()
    np.testing.assert_allclose(rows["spearman"], -1)


def test_unrelated_scorers_agree_as_by_chance(backend, monkeypatch):
    monkeypatch.setattr(GraphPool, "scores", lambda _pool, nodes, _scoring: torch.rand(*nodes.shape[:2], 1))
    rows, kept = overlaps(backend, graphs_of(400), k=0.3)
    error = rows["jaccard_std"] / np.sqrt(rows["n_trials"])
    assert ((rows["jaccard"] - rows["chance"]).abs() < 4 * error).all() and (error < 0.04).all()
    assert (rows["spearman"].abs() < 4 * rows["spearman_std"] / np.sqrt(rows["n_trials"])).all()
    of = kept[(kept["label"] == "all") & (kept["layer"] == "spectral_pool")].groupby("scorer")["share"]
    np.testing.assert_allclose(of.mean(), 12 / 42)
    assert (of.max() < 12 / 42 + 5 * np.sqrt(12 / 42 * 30 / 42 / 400)).all()


def test_three_nodes_by_hand(backend):
    """Learned scoring takes the highest first feature, magnitude the farthest from zero."""
    spectral = torch.zeros(3, 3, 64)
    spectral[:, :, 0] = torch.tensor([[3.0, -1, 2], [-3.0, 1, 2], [1.0, -3, 2]])
    for pool in (backend.spectral_pool, backend.temporal_pool):
        pool.proj.weight.zero_()[0, 0] = 1
    rows, kept = overlaps(backend, Graphs(spectral, spectral[:, :2]), k=0.67, labels=["spoof", "bonafide", "spoof"])
    # 2 of 3: learned {0, 2}, {1, 2}, {0, 2}; magnitude {0, 2}, {0, 2}, {1, 2}
    row = rows.loc["all", "spectral_pool"]
    assert (row["n_nodes"], row["n_kept"], row["n_trials"]) == (3, 2, 3)
    assert row["jaccard"] == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert row["chance"] == pytest.approx(1 / 3 + 2 / 3 / 3)
    assert row["spearman"] == pytest.approx((1 - 0.5 - 0.5) / 3)  # ranks 312/312, 123/312, 213/132
    assert rows.loc[("bonafide", "spectral_pool"), "jaccard"] == pytest.approx(1 / 3)
    assert rows.loc[("spoof", "spectral_pool"), "jaccard"] == pytest.approx(2 / 3)
    assert rows.loc[("spoof", "spectral_pool"), "jaccard_std"] == pytest.approx(np.sqrt(2) / 3)
    assert np.isnan(rows.loc[("bonafide", "spectral_pool"), "jaccard_std"])
    shares = kept.pivot_table("share", ["layer", "label", "scorer"], "position")
    assert shares.loc["spectral_pool", "all", "learned"].tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    assert shares.loc["spectral_pool", "all", "magnitude"].tolist() == pytest.approx([2 / 3, 1 / 3, 1])
    assert shares.loc["spectral_pool", "spoof", "learned"].tolist() == [1, 0, 1]
    assert shares.loc["spectral_pool", "spoof", "magnitude"].tolist() == [0.5, 0.5, 1]
    assert shares.loc["spectral_pool", "bonafide", "learned"].tolist() == [0, 1, 1]
    assert kept.loc[kept["layer"] == "temporal_pool", "seconds"].tolist()[:2] == pytest.approx([0.05, 0.15])
    assert kept.loc[kept["layer"] == "spectral_pool", "seconds"].isna().all()


def test_branches_are_compared_on_the_nodes_that_first_poolings_leave(backend):
    rows, kept = overlaps(backend, graphs_of(4), k=0.3)
    sizes = rows.loc["all", ["n_nodes", "n_kept"]]
    assert sizes.loc["spectral_pool"].tolist() == [42, 12] and sizes.loc["temporal_pool"].tolist() == [13, 3]
    assert sizes.loc["branches.0.spectral_pool"].tolist() == [12, 3]
    assert "branches.1.temporal_pool" not in overlaps(backend, graphs_of(4), k=0.05)[0].loc["all"].index  # 1 of 1
    assert {*kept["layer"]} == {"spectral_pool", "temporal_pool"}


# Stack attention


def attentions(backend, graphs, temperature, *variant):
    part = analysis._Attention(Variant(*variant, stack_temperature=temperature))
    labels = looked_at(part, backend, graphs)
    rows = pd.DataFrame(part.rows(labels))
    assert (rows["stack_temperature"] == temperature).all() and (rows["aggregation"] == "attention").all()
    return rows.set_index(["label", "quantity", "layer"])["value"]


def test_concentration_by_hand():
    weights = torch.tensor([[0.5, 0.25, 0.25], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    found = concentration(weights)
    assert found["entropy"].tolist() == pytest.approx([1.5 / np.log2(3), 0, 1])
    assert found["total_variation"].tolist() == pytest.approx([1 / 6, 2 / 3, 0], abs=1e-12)
    assert found["largest_weight_times_n"].tolist() == pytest.approx([1.5, 3, 1])


@pytest.mark.parametrize("temperature", [0.01, 1, 100])
def test_without_weights_attention_is_a_mean(backend, temperature):
    for layer in LAYERS:
        backend.get_submodule(layer).att_weightM.zero_()
    value = attentions(backend, graphs_of(5), temperature)
    assert {*value.index.get_level_values("layer")} == {*LAYERS}
    np.testing.assert_allclose(value.xs("entropy", level="quantity"), 1, rtol=1e-13)
    assert (value.xs("total_variation", level="quantity") == 0).all()
    np.testing.assert_allclose(value.xs("largest_weight_times_n", level="quantity"), 1, rtol=1e-13)


def test_a_sharp_attention_takes_one_node(backend):
    graphs = graphs_of(5)
    entropy = [attentions(backend, graphs, t).xs("entropy", level="quantity") for t in (1e-4, 0.1, 1, 100)]
    assert (entropy[0] < 0.05).all()
    assert all((a < b).all() for a, b in itertools.pairwise(entropy)) and (entropy[-1] > 0.999).all()
    value = attentions(backend, graphs, 1e-4)
    n = 21 + 6  # nodes that the first layers see at k = 0.5
    distance = value.xs("branches.0.first", level="layer")["all", "total_variation"]
    assert distance == pytest.approx(1 - 1 / n, abs=0.01)


def test_attention_of_three_nodes_by_hand(backend):
    """The first layers' weights from the formula, on nodes that one pooling of all and one of two leave."""
    spectral, temporal = torch.randn(2, 2, 64), torch.randn(2, 1, 64)
    for temperature in (0.5, 3.0):
        value = attentions(backend, Graphs(spectral, temporal), temperature, 1.0, "magnitude")
        for i, branch in enumerate(backend.branches):
            layer = branch.first
            x = torch.cat([layer.proj_type1(temporal), layer.proj_type2(spectral)], dim=1).double().numpy()
            w, bias = (p.double().numpy() for p in (layer.att_projM.weight, layer.att_projM.bias))
            raw = np.tanh((x * branch.stack_node[0].double().numpy()) @ w.T + bias)
            raw = raw @ layer.att_weightM.double().numpy()[:, 0] / temperature
            a = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
            distance, entropy = np.abs(a - 1 / 3).sum(axis=1) / 2, -(a * np.log(a)).sum(axis=1) / np.log(3)
            of = value.xs(f"branches.{i}.first", level="layer")
            assert of["all", "total_variation"] == pytest.approx(distance.mean(), rel=1e-5)
            assert of["all", "entropy"] == pytest.approx(entropy.mean(), rel=1e-5)
            assert of["bonafide", "largest_weight_times_n"] == pytest.approx(3 * a[0].max(), rel=1e-5)
            assert of["spoof", "largest_weight_times_n"] == pytest.approx(3 * a[1].max(), rel=1e-5)


def test_second_layers_are_met_as_the_temperature_leaves_them(backend):
    """The weights that are told are those by which the module really gathers its nodes."""
    graphs, variant = graphs_of(3), Variant(stack_temperature=0.5)
    seen, value = trace(backend, graphs, variant), attentions(backend, graphs, 0.5)
    (temporal, spectral, stack_node, _), (_, _, updated) = seen["branches.1.second"]
    layer = backend.branches[1].second
    nodes = torch.cat([layer.proj_type1(temporal), layer.proj_type2(spectral)], dim=1)
    weights = layer.stack_attention(nodes, stack_node, 0.5)
    torch.testing.assert_close(layer.proj_with_attM(weights @ nodes) + layer.proj_without_attM(stack_node), updated)
    distance = (weights.squeeze(1) - 1 / nodes.shape[1]).abs().sum(dim=1) / 2
    assert value["all", "total_variation", "branches.1.second"] == pytest.approx(distance.mean().item(), rel=1e-5)


def spreads(backend, graphs, aggregation, batch=None):
    part = analysis._Spread(Variant(stack_aggregation=aggregation))
    labels = looked_at(part, backend, graphs, batch=batch)
    rows = pd.DataFrame(part.rows(labels))
    assert (rows["aggregation"] == aggregation).all()
    return rows.set_index(["label", "quantity"])["value"]


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_the_linear_stack_node_does_not_move_at_all(backend, batch):
    value = spreads(backend, graphs_of(8), "linear", batch)
    assert (value.xs("stack_node_spread", level="quantity") == 0).all()
    assert (value.xs("other_nodes_spread", level="quantity") > 1e-3).all()


def test_what_may_not_move_is_read_out_one_by_one(backend, monkeypatch):
    """Rows of one batch may differ in their last digits where other machines multiply."""
    sizes = []
    monkeypatch.setattr(analysis, "trace", lambda *given: (sizes.append(len(given[1].temporal)), trace(*given))[1])
    for aggregation in ("linear", "uniform"):
        spreads(backend, graphs_of(4), aggregation)
    assert sizes == [1, 1, 1, 1, 4]


@pytest.mark.parametrize("aggregation", ["attention", "uniform"])
def test_spread_is_the_standard_deviation(backend, aggregation):
    graphs = graphs_of(8)
    value = spreads(backend, graphs, aggregation, batch=3)
    summary = trace(backend, graphs, Variant(stack_aggregation=aggregation))["output"][0][0].double().numpy()
    for label, members in (("all", slice(None)), ("bonafide", slice(0, None, 2)), ("spoof", slice(1, None, 2))):
        std = summary[members].std(axis=0, ddof=1)
        assert value[label, "stack_node_spread"] == pytest.approx(std[-32:].mean(), rel=1e-5)
        assert value[label, "other_nodes_spread"] == pytest.approx(std[:-32].mean(), rel=1e-5)
    assert value["all", "stack_node_spread"] > 1e-3


def test_a_linear_stack_node_that_sees_the_input_would_show(backend, monkeypatch):
    forward = HeterogeneousAttention.forward

    def leaking(self, temporal, spectral, stack_node, variant):
        *nodes, stack_node = forward(self, temporal, spectral, stack_node, variant)
        return *nodes, stack_node + 1e-6 * temporal.mean(dim=(1, 2), keepdim=True)

    monkeypatch.setattr(HeterogeneousAttention, "forward", leaking)
    assert spreads(backend, graphs_of(8), "linear")["all", "stack_node_spread"] > 0


@pytest.mark.parametrize(
    ("temperatures", "own", "expected"),
    [((2, 2, 100, 100), None, 100), ((2, 2, 100, 100), 1.0, 1), ((2, 2, 50, 100), None, np.nan)],
)
def test_the_temperature_of_training(temperatures, own, expected):
    backend = AASIST(8, 4, temperatures=temperatures, stack_temperature=own)
    np.testing.assert_equal(analysis._stack_temperature(backend), expected)


# Score changes


def test_agreement_and_score_change_by_hand():
    part = analysis._Overlap(Variant(0.1))
    part.jaccard = {
        "spectral_pool": [np.array([0.0, 0.2, 0.4]), np.array([0.6, 0.8, 1.0, 1.0, 0.4])],
        "temporal_pool": [np.array([0.2, 0.2, 0.4]), np.array([0.4, 0.8, 0.8, 1.0, 0.4])],
    }
    agreement = [0.1, 0.2, 0.4, 0.5, 0.8, 0.9, 1.0, 0.4]
    change = np.array([8.0, 7, 6, 5, 4, 3, 2, 1])
    base, sign = np.arange(8.0), np.array([1, -1] * 4)
    columns = {Variant(0.1): base, Variant(0.1, "magnitude"): base + sign * change, Variant(0.5): base}
    labels = np.array(["bonafide"] * 4 + ["spoof"] * 4)
    rows = pd.DataFrame(part.agreement_rows(labels, columns)).set_index(["label", "variant", "quartile"])
    assert {*rows.index.get_level_values("variant")} == {"Mag"}  # MagGate was not scored
    whole = rows.loc["all", "Mag", "all"]
    assert (whole["n_trials"], whole["jaccard"], whole["score_change"]) == pytest.approx((8, np.mean(agreement), 4.5))
    assert whole["spearman"] == pytest.approx(scipy.stats.spearmanr(agreement, change).statistic)
    # Ranks 1, 2, 3.5, 5, 6, 7, 8, 3.5
    assert rows.loc["all", "Mag"]["n_trials"].to_dict() == {"all": 8, 1: 2, 2: 2, 3: 2, 4: 2}
    of_quarters = rows.loc["all", "Mag"]["score_change"].to_dict()
    assert of_quarters == pytest.approx({"all": 4.5, 1: 7.5, 2: 3.5, 3: 4.5, 4: 2.5})
    assert rows.loc[("all", "Mag", 2), "jaccard"] == pytest.approx(0.4)
    assert rows.loc[("spoof", "Mag", "all"), "score_change"] == pytest.approx(2.5)
    assert [*part.agreement_rows(labels, {Variant(0.1): base})] == []


def test_equal_agreement_stays_together():
    part = analysis._Overlap(Variant(0.1))
    part.jaccard = {"spectral_pool": [np.array([1.0, 0, 0, 0, 0, 0, 0, 1])]}
    columns = {Variant(0.1): np.zeros(8), Variant(0.1, "magnitude_gated"): np.arange(8.0)}
    rows = pd.DataFrame(part.agreement_rows(np.array(["spoof", "bonafide"] * 4), columns))
    rows = rows[(rows["label"] == "all") & (rows["quartile"] != "all")]
    assert rows["variant"].unique().tolist() == ["MagGate"]
    assert rows[["n_trials", "jaccard"]].to_numpy().tolist() == [[6, 0], [2, 1]]


def test_score_changes_by_hand():
    labels = np.array(["bonafide", "spoof", "bonafide", "spoof"])
    attended, uniform = np.array([1.0, 2, 3, 4]), np.array([1.5, 2, 3, 3.5])
    columns = {
        Variant(0.3): attended,
        Variant(0.3, stack_aggregation="uniform"): uniform,
        Variant(0.3, stack_aggregation="linear"): -attended,
    }
    rows = pd.DataFrame(analysis._score_changes(labels, columns, Variant(0.3)))
    rows = rows.set_index(["label", "quantity", "aggregation"])
    value = rows["value"]
    assert value["all", "score_change", "uniform"] == pytest.approx(0.25)
    assert rows["std"]["all", "score_change", "uniform"] == pytest.approx(np.std([0.5, 0, 0, 0.5], ddof=1))
    assert value["all", "score_change_relative", "uniform"] == pytest.approx(0.25 / np.std([1, 2, 3, 4], ddof=1))
    assert value["all", "score_change_spearman", "uniform"] == pytest.approx(1)
    assert value["all", "score_change", "linear"] == pytest.approx(5)
    assert value["all", "score_change_spearman", "linear"] == pytest.approx(-1)
    assert value["spoof", "score_change", "uniform"] == pytest.approx(0.25)
    assert value["bonafide", "score_change", "linear"] == pytest.approx(4)
    assert [*analysis._score_changes(labels, {Variant(0.3): attended}, Variant(0.3))] == []
    assert [*analysis._score_changes(labels, columns, Variant(0.3, "magnitude"))] == []


# The whole


K = [0.5, 0.1]
VARIANTS = [Variant.from_label(k, label) for k in K for label in ("Base", "Mag", "MagGate", "Uni", "Mean")]


@pytest.fixture(scope="module")
def scored(checkpoint, synthetic, tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "eval.parquet"
    score(checkpoint, synthetic / "eval.tsv", path, VARIANTS, batch_size=8)
    return path


@pytest.fixture(scope="module")
def inspected(checkpoint, synthetic, scored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analysis") / "AST-05" / "eval"
    inspect(checkpoint, synthetic / "eval.tsv", scored, folder, [*K, 1.0, 0.1], (1, 100), corpus="asvspoof5")
    return folder


def read(folder, name):
    return pd.read_csv(folder / f"{name}.tsv", sep="\t")


def test_contract(inspected, synthetic):
    n = len(read_trials(synthetic / "eval.tsv"))
    assert sorted(path.name for path in inspected.iterdir()) == ["agreement.tsv", "kept.tsv", "nodes.tsv", "stack.tsv"]
    for name, columns in COLUMNS.items():
        table = read(inspected, name)
        assert tuple(table.columns) == columns and tuple(columns[:4]) == tuple(RUN)
        assert table[RUN[:3]].drop_duplicates().to_numpy().tolist() == [["AST-05", 1, "asvspoof5"]]
        assert {*table["label"]} == {"all", "bonafide", "spoof"}
        keys = [c for c in columns if c not in ("n_nodes", "n_kept", "n_trials", "jaccard", "jaccard_std", "chance",
                "spearman", "spearman_std", "seconds", "share", "score_change", "value", "std")]  # fmt: skip
        assert not table.duplicated(keys).any()
    nodes, kept, agreement, stack = (read(inspected, name) for name in ("nodes", "kept", "agreement", "stack"))
    assert [*nodes["k"].unique()] == [0.1, 0.5] and {*nodes["layer"]} == {*POOLS}
    assert (nodes.loc[nodes["label"] == "all", "n_trials"] == n).all()
    assert nodes["jaccard"].between(0, 1).all() and nodes["spearman"].dropna().between(-1, 1).all()
    assert set(kept["scorer"]) == {"learned", "magnitude"} and kept["share"].between(0, 1).all()
    sums = kept.groupby(["label", "layer", "k", "scorer"])["share"].sum().unstack("scorer")
    wanted = nodes.set_index(["label", "layer", "k"])["n_kept"].reindex(sums.index)
    np.testing.assert_allclose(sums, np.column_stack([wanted, wanted]))
    assert {*agreement["variant"]} == {"Mag", "MagGate"}
    quarters = agreement[agreement["quartile"] != "all"].groupby(["label", "k", "variant"])["n_trials"].sum()
    assert quarters["all"].eq(n).all() and quarters["spoof"].add(quarters["bonafide"]).eq(n).all()
    assert {*stack["layer"].dropna()} == {*LAYERS} and {*stack["stack_temperature"].dropna()} == {1, 100}
    excerpt, first = 0.5, kept[kept["layer"] == "temporal_pool"].groupby("position")["seconds"].first()
    step = first.diff().dropna()
    np.testing.assert_allclose(step, 2 * first[0])
    assert excerpt - step[1] < len(first) * step[1] <= excerpt and kept["seconds"].isna().any()
    as_trained = stack["quantity"].str.contains("spread|change")
    assert (stack.loc[as_trained, "stack_temperature"] == 100).all() and as_trained.sum() == 3 * (2 * 3 + 3 * 2)
    spread = stack[(stack["quantity"] == "stack_node_spread") & (stack["label"] == "all")]
    assert spread.set_index("aggregation")["value"]["linear"] == 0
    assert {*stack.loc[stack["quantity"].str.startswith("score_change"), "aggregation"]} == {"uniform", "linear"}


def test_numbers_are_those_of_the_trials(inspected, checkpoint, synthetic, scored):
    """Without any class of the module: sets from the encoded graphs, changes from the score file."""
    from spaarsist.experiments.excerpts import Excerpts

    trials, table = read_trials(synthetic / "eval.tsv"), pd.read_parquet(scored)
    detector, record = load_checkpoint(checkpoint)
    excerpts = Excerpts(trials, record["recipe"]["crop"])
    waveforms = torch.stack([waveform for waveform, _ in excerpts])
    graphs = detector.backend.encode(detector.frames(waveforms))
    pool, indices = detector.backend.temporal_pool, []
    n_kept = max(int(0.5 * graphs.temporal.shape[1]), 1)
    for scores in (pool.proj(graphs.temporal), graphs.temporal.norm(dim=2, keepdim=True)):
        indices.append([{*row.tolist()} for row in scores[..., 0].topk(n_kept).indices])
    jaccard = np.array([len(a & b) / len(a | b) for a, b in zip(*indices, strict=True)])
    nodes = read(inspected, "nodes").set_index(["label", "layer", "k"])["jaccard"]
    is_spoof = (trials["label"] == "spoof").to_numpy()
    assert nodes["all", "temporal_pool", 0.5] == pytest.approx(jaccard.mean())
    assert nodes["spoof", "temporal_pool", 0.5] == pytest.approx(jaccard[is_spoof].mean())
    changes = read(inspected, "agreement").set_index(["label", "k", "variant", "quartile"])["score_change"]
    for label, members in (("all", is_spoof | True), ("spoof", is_spoof)):
        moved = (table["01-MagGate"] - table["01"]).abs()[members]
        assert changes[label, 0.1, "MagGate", "all"] == pytest.approx(moved.mean())
    stack = read(inspected, "stack").set_index(["label", "quantity", "aggregation"])["value"]
    moved = (table["05-Mean"] - table["05"]).abs()[~is_spoof].mean()
    assert stack["bonafide", "score_change", "linear"] == pytest.approx(moved, rel=1e-5)


def test_same_run_same_bytes_and_batches_do_not_matter(inspected, checkpoint, synthetic, scored, tmp_path):
    arguments = checkpoint, synthetic / "eval.tsv", scored
    inspect(*arguments, tmp_path / "a", K, (1, 100), corpus="asvspoof5", workers=1)
    inspect(*arguments, tmp_path / "b", K, (1, 100), corpus="asvspoof5", batch_size=5)
    for name in COLUMNS:
        assert (tmp_path / "a" / f"{name}.tsv").read_bytes() == (inspected / f"{name}.tsv").read_bytes()
        pd.testing.assert_frame_equal(read(tmp_path / "b", name), read(inspected, name), atol=1e-5, rtol=1e-4)


def test_some_trials_of_each_class(inspected, checkpoint, synthetic, scored, tmp_path):
    arguments = checkpoint, synthetic / "eval.tsv", scored
    inspect(*arguments, tmp_path / "few", [0.5], (100,), 3)
    nodes = read(tmp_path / "few", "nodes")
    assert nodes.groupby("label")["n_trials"].unique().str[0].to_dict() == {"all": 6, "bonafide": 3, "spoof": 3}
    assert {*nodes["corpus"]} == {"eval"}
    stack = read(tmp_path / "few", "stack")
    assert {*stack.loc[stack["label"] == "all", "n_trials"]} == {6}
    chosen = analysis.choose(read_trials(synthetic / "eval.tsv"), 3)
    moved = (pd.read_parquet(scored)["05-Mean"] - pd.read_parquet(scored)["05"]).abs()[chosen.index]
    value = stack.set_index(["label", "quantity", "aggregation"])["value"]
    assert value["all", "score_change", "linear"] == pytest.approx(moved.mean(), rel=1e-5)
    inspect(*arguments, tmp_path / "all", K, (1, 100), 10_000, corpus="asvspoof5")
    assert (tmp_path / "all" / "nodes.tsv").read_bytes() == (inspected / "nodes.tsv").read_bytes()


def test_the_choice_is_seeded_and_keeps_the_order():
    trials = pd.DataFrame({"label": ["spoof"] * 50 + ["bonafide"] * 9})
    chosen = analysis.choose(trials, 12)
    assert chosen["label"].value_counts().to_dict() == {"spoof": 12, "bonafide": 9}
    assert chosen.index.is_monotonic_increasing and [*chosen.index[:12]] != [*range(12)]
    pd.testing.assert_frame_equal(chosen, analysis.choose(trials, 12))
    assert len(analysis.choose(trials, 0)) == 59


def test_a_score_file_of_one_column_gives_no_changes(checkpoint, synthetic, tmp_path):
    score(checkpoint, synthetic / "eval.tsv", tmp_path / "eval.parquet")
    inspect(checkpoint, synthetic / "eval.tsv", tmp_path / "eval.parquet", tmp_path / "a", [0.5], (1,))
    assert read(tmp_path / "a", "agreement").empty and tuple(read(tmp_path / "a", "agreement")) == COLUMNS["agreement"]
    assert not read(tmp_path / "a", "stack")["quantity"].str.startswith("score_change").any()


def test_another_variant_is_looked_at_as_it_was_trained(checkpoint, synthetic, scored, tmp_path, inspected):
    weights = load_checkpoint(checkpoint)[0].state_dict()
    record = json.loads((checkpoint / "model.json").read_text())
    record["backend"]["options"]["variant"] = "Mag"
    save_checkpoint(weights, record | {"system": "AST-05+Mag"}, tmp_path / "mag")
    scores = rewritten(scored, tmp_path / "mag.parquet", "checkpoint", system="AST-05+Mag")
    inspect(tmp_path / "mag", synthetic / "eval.tsv", scores, tmp_path / "a", K, (1, 100))
    keys = ["label", "layer", "k"]
    theirs, ours = (read(folder, "nodes").set_index(keys) for folder in (inspected, tmp_path / "a"))
    first = [layer in ("spectral_pool", "temporal_pool") for layer in ours.index.get_level_values("layer")]
    pd.testing.assert_series_equal(theirs["jaccard"][first], ours["jaccard"][first])
    assert not np.allclose(theirs["jaccard"], ours["jaccard"])  # other nodes come to the branches
    changes = read(tmp_path / "a", "stack")["quantity"].str.startswith("score_change")
    assert not changes.any()  # MagUni was not scored


def rewritten(scored, path, without, **about):
    """The score file with other words about itself."""
    table = pyarrow.parquet.read_table(scored)
    metadata = json.loads(table.schema.metadata[SCORE_METADATA]) | about
    del metadata[without]
    pyarrow.parquet.write_table(table.replace_schema_metadata({SCORE_METADATA: json.dumps(metadata)}), path)
    return path


def test_errors_leave_nothing(checkpoint, synthetic, scored, tmp_path):
    listed = synthetic / "eval.tsv"
    with pytest.raises(ConfigError, match=r"k_infer = \[1.0\]: needs a share below 1"):
        inspect(checkpoint, listed, scored, tmp_path / "out", [1.0])
    with pytest.raises(ConfigError, match="another trial list"):
        inspect(checkpoint, synthetic / "dev.tsv", scored, tmp_path / "out", K)
    other = tmp_path / "other"
    detector, record = load_checkpoint(checkpoint)
    save_checkpoint({name: tensor + 1 for name, tensor in detector.state_dict().items()}, record, other)
    with pytest.raises(ConfigError, match=r"eval\.parquet: made with other weights than .*other now; delete it"):
        inspect(other, listed, scored, tmp_path / "out", K)
    broken = misplace(listed, tmp_path / "gone.flac", tmp_path / "eval.tsv")
    scores = rewritten(scored, tmp_path / "eval.parquet", "trial_list")
    with pytest.raises(ConfigError, match=r"gone\.flac: no such file"):
        inspect(checkpoint, broken, scores, tmp_path / "out", K)
    assert not (tmp_path / "out").exists()


def test_only_aasist_has_graphs(checkpoint, synthetic, scored, tmp_path):
    from spaarsist.config import BackendConfig, FrontendConfig, parse
    from spaarsist.models.detector import Detector

    record = json.loads((checkpoint / "model.json").read_text())
    record |= {"system": "Mean-pool", "backend": {"kind": "MeanPool", "embedding_dim": 16, "options": {}}}
    detector = Detector(parse(FrontendConfig, record["frontend"]), parse(BackendConfig, record["backend"]))
    save_checkpoint(detector.state_dict(), record, tmp_path / "mean")
    with pytest.raises(ConfigError, match="Mean-pool has no graphs"):
        inspect(tmp_path / "mean", synthetic / "eval.tsv", scored, tmp_path / "out", K)
