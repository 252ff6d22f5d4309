import sys
import time

import pandas as pd
import pytest
import torch
from torch import nn

from spaarsist.audit import speed
from spaarsist.audit.complexity import Size, count
from spaarsist.config import BackendConfig
from spaarsist.data import audio
from spaarsist.data.protocol import read_trials
from spaarsist.models.backend import AASIST
from spaarsist.names import ConfigError, Variant

SIZE = Size(feature_dim=24, embedding_dim=16, n_frames=49)
SYSTEMS = ["AST-05-05", "AST-03-01-MagMean", "AASIST-L"]
LIGHT = {"AASIST-L": BackendConfig("AASIST", options={"size": "L"})}
OTHERS = {"MHFA": BackendConfig("MHFA")}
TINY = {"model_type": "wav2vec2", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "conv_dim": [8] * 7, "do_stable_layer_norm": True, "feat_extract_norm": "layer",
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}  # fmt: skip


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
    """Compiling takes half a minute a module; what it gives is tested with `deployment.optimise`."""
    monkeypatch.setattr(speed, "compiled", lambda module: module)


@pytest.fixture(autouse=True)
def threads_stay():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def read(path):
    return pd.read_csv(path, sep="\t")


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    path = tmp_path_factory.mktemp("speed") / "backend.tsv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "compiled", lambda module: module)
        speed.write_backend(path, SYSTEMS, SIZE, [1, 3], LIGHT, threads=1, rounds=2)
    return read(path)


class TestBackend:
    def test_every_form_of_every_system_at_every_batch_size(self, backend):
        forms = ["reference", "plain", "optimised", "compiled", "onnxruntime"]
        expected = [(system, form, batch) for batch in (1, 3) for system in SYSTEMS for form in forms]
        assert [*zip(backend["system"], backend["form"], backend["batch_size"], strict=True)] == expected
        assert (backend["median_ms"] > 0).all() and (backend["iqr_ms"] >= 0).all()
        assert {*backend["rounds"]} == {2} and {*backend["threads"]} == {1} and {*backend["n_frames"]} == {49}

    def test_size_and_macs_are_those_of_the_shipped_module(self, backend):
        for system, label, k in (("AST-05-05", "Base", 0.5), ("AST-03-01-MagMean", "MagMean", 0.1)):
            shipped = AASIST(24, 16).export(Variant.from_label(k, label))
            n_params, analysis = count(shipped, torch.zeros(1, 49, 24))
            rows = backend[backend["system"] == system]
            assert {*rows["n_params"]} == {n_params} and {*rows["n_macs"]} == {int(analysis.total())}

    def test_the_floor_grows_with_macs_alone(self, backend):
        floors = backend.groupby(["batch_size", "system"])[["floor_ms", "n_macs"]].agg(["min", "max"])
        assert (floors["floor_ms", "min"] == floors["floor_ms", "max"]).all()
        per_mac = (floors["floor_ms", "min"] / floors["n_macs", "min"]).unstack()
        assert per_mac[SYSTEMS[0]].to_numpy() == pytest.approx(per_mac[SYSTEMS[1]].to_numpy(), rel=1e-4)

    def test_forms_agree(self, backend):
        assert (backend.loc[backend["form"] == "plain", "max_difference"] == 0).all()
        others = backend[backend["form"] != "plain"]
        assert others["max_difference"].between(0, 1e-5).all() and others["max_difference"].max() > 0

    def test_a_form_that_computes_something_else_is_refused(self, monkeypatch, tmp_path):
        class Off(nn.Module):
            def __init__(self, backend, _n_frames):
                super().__init__()
                self.backend = backend

            def forward(self, frames):
                return self.backend(frames) + 1e-3

        monkeypatch.setattr(speed, "optimise", Off)
        with pytest.raises(ConfigError, match="AST-05-05, optimised: its embeddings differ"):
            speed.write_backend(tmp_path / "a.tsv", SYSTEMS[:1], SIZE, [1], {}, threads=1, rounds=1)
        assert not [*tmp_path.iterdir()]

    def test_without_the_extra_a_form_less(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        speed.write_backend(tmp_path / "a.tsv", SYSTEMS[:1], SIZE, [1, 3], {}, threads=1, rounds=1)
        assert [*read(tmp_path / "a.tsv")["form"]] == ["reference", "plain", "optimised", "compiled"] * 2
        assert capsys.readouterr().err.count("onnxruntime left out, not installed: pip install 'spaarsist[onnx]'") == 1

    @pytest.mark.parametrize("system", ["MHFA", "AST-05-05+stack1", "AST-05-05+graph10"])
    def test_only_aasist_at_the_usual_temperatures(self, tmp_path, system):
        with pytest.raises(ConfigError, match=system.replace("+", r"\+")):
            speed.write_backend(tmp_path / "a.tsv", [system], SIZE, [1], OTHERS, threads=1, rounds=1)


def test_turns_alternate_and_are_timed():
    order = []
    runs = {name: lambda n=name, s=s: (order.append(n), time.sleep(s)) for name, s in (("a", 0.06), ("b", 0.12))}
    seconds = speed._take_turns(runs, rounds=3, threads=1)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == ["a", "b"] * 4  # once to see how long each takes, then the rounds
    assert [len(seconds[name]) for name in "ab"] == [3, 3]
    assert all(s >= 0.06 for s in seconds["a"]) and all(s >= 0.12 for s in seconds["b"])


def test_median_and_quartiles():
    assert speed._milliseconds([0.001, 0.002, 0.003, 0.004, 0.1]) == pytest.approx((3, 2))


def test_convolutions_are_the_back_end_s(backend):
    """All 16, on the shapes that they meet: 49 frames are pooled to 16."""
    module = AASIST(24, 16).eval()
    shapes = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape)))
    with torch.no_grad():
        speed._convolutions(module, torch.zeros(2, 49, 24), torch.channels_last)()
    both = len(shapes) // 2  # in the pass that finds the inputs, and alone
    assert both == 16 and shapes[:both] == shapes[both:]
    assert all(shape[0] == 2 and shape[3] == 16 for shape in shapes)


def test_training(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(speed, "keep_freed_memory", lambda: kept.append(1))
    speed.write_training(tmp_path / "a.tsv", SIZE, 4, threads=1, rounds=2)
    table = read(tmp_path / "a.tsv")
    expected = [(form, memory) for memory in ("default", "kept") for form in ("reference", "plain")]
    assert [*zip(table["form"], table["memory"], strict=True)] == expected and kept == [1]
    assert {*table["precision"]} == {"float32"} and {*table["batch_size"]} == {4}
    assert (table["median_ms"] > 0).all()


def test_a_training_step_reaches_every_weight_that_is_used():
    module = AASIST(24, 16).train()
    speed._Step(module, torch.randn(4, 49, 24), "float32")()
    without = [name for name, weight in module.named_parameters() if weight.grad is None]
    assert all(".bn1." in name for name in without)


def test_detector(tmp_path):
    columns = ["05", "05-Mag", "01", "01-Mag"]
    speed.write_detector(tmp_path / "a.tsv", SYSTEMS[:2], columns, 16, 16_000, architecture=TINY, threads=1, rounds=2)
    table = read(tmp_path / "a.tsv").set_index(["part", "system"])
    parts = [("frontend", "-"), ("head", "-"), *(("backend", s) for s in SYSTEMS[:2])]
    passes = ["one_variant", "all_variants", "float32", "int8"]
    assert [*table.index] == [*parts, *((part, "AST-05-05") for part in passes)]
    assert (
        table.loc[["one_variant", "all_variants"], "n_bytes"].isna().all() and table.loc[parts, "n_bytes"].isna().all()
    )
    n_weights = 8 * 32 + 2 * (4 * 32 * 32 + 2 * 32 * 48)  # 13 layers of the front-end, of four bytes each, now of one
    saved = table.loc["float32", "n_bytes"].item() - table.loc["int8", "n_bytes"].item()
    assert 2 * n_weights < saved < 4 * n_weights, "3, but for scales, operators and what the exporter notes"
    assert table.loc["all_variants", "n_variants"].item() == 4 and table.loc["one_variant", "n_variants"].item() == 1
    assert table.loc[("head", "-"), "n_params"] == (16 * 8 + 8) + 16 + (8 * 4 + 4) + 8 + (4 * 2 + 2)
    assert table.loc[("backend", "AST-05-05"), "n_params"] > table.loc[("backend", SYSTEMS[1]), "n_params"]
    assert table.loc[("frontend", "-"), "n_params"] > 10_000 and table.loc[parts, "n_macs"].gt(0).all()
    assert table.loc[passes, "n_params"].isna().all()


def test_detector_without_the_extra(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    speed.write_detector(tmp_path / "a.tsv", SYSTEMS[:1], ["05"], 16, 16_000, architecture=TINY, threads=1, rounds=1)
    assert [*read(tmp_path / "a.tsv")["part"]] == ["frontend", "head", "backend", "one_variant", "all_variants"]
    said = "parts float32 and int8 left out, not installed: pip install 'spaarsist[onnx]'"
    assert capsys.readouterr().err.count(said) == 1


class TestScoring:
    @pytest.fixture(scope="class")
    def table(self, checkpoint, synthetic, tmp_path_factory):
        path = tmp_path_factory.mktemp("speed") / "scoring.tsv"
        systems = ["AST-05-05", "AST-05-05-Mag", "AST-05-01", "AST-01-01"]
        speed.write_scoring(
            path, checkpoint / "model.json", synthetic / "eval.tsv", systems, n_trials=6, threads=1, rounds=2
        )
        return read(path).set_index("quantity")

    def test_quantities(self, table):
        passes = ["one_variant", "all_variants", "one_pass_ratio"]
        passes += ["table1_one_by_one", "table1_shared", "table1_ratio", "scoring"]
        quantities = [*passes, "loader_files", "loader_tar", "peak_memory_6", "peak_memory_24"]
        assert [*table.index] == quantities and (table["value"] > 0).all()

    def test_ratios_and_rates(self, table):
        value = table["value"]
        assert value["one_pass_ratio"] == pytest.approx(value["all_variants"] / value["one_variant"], rel=2e-3)
        assert value["table1_ratio"] == pytest.approx(value["table1_one_by_one"] / value["table1_shared"], rel=2e-3)
        assert value["scoring"] == pytest.approx(1000 / value["all_variants"], rel=2e-3)

    def test_says_what_was_counted(self, table):
        assert (
            "3 variants" in table.loc["all_variants", "how"]
            and "a pass for each of 4 rows" in table.loc["table1_one_by_one", "how"]
        )
        assert "a pass for each of 2 checkpoints" in table.loc["table1_shared", "how"]

    def test_a_table_costs_its_rows_or_its_checkpoints(self, checkpoint, synthetic, tmp_path, monkeypatch):
        """With passes of known cost: 1 s and 0.5 s for every variant, of 2 trials."""

        def turns(runs, _rounds, _threads):
            return {key: [1 + 0.5 * len(key) if isinstance(key, tuple) else 4.0] for key in runs}

        monkeypatch.setattr(speed, "_take_turns", turns)
        systems = ["AST-05-05", "AST-05-05-Mag", "AST-05-01", "AST-01-01"]
        speed.write_scoring(tmp_path / "a.tsv", checkpoint / "model.json", synthetic / "eval.tsv", systems, n_trials=2)
        value = read(tmp_path / "a.tsv").set_index("quantity")["value"]
        assert value["one_variant"] == 750 and value["all_variants"] == 1250
        assert value["table1_one_by_one"] == 4 * 750 and value["table1_shared"] == 1250 + 750
        assert value["loader_files"] == value["loader_tar"] == 0.5


def test_packed_recordings_are_the_same(synthetic, tmp_path):
    paths = read_trials(synthetic / "eval.tsv")["path"].head(5)
    packed = speed._pack(paths, tmp_path / "a.tar")
    for path, member in zip(paths, packed, strict=True):
        assert (audio.read(path) == audio.read(member)).all()
