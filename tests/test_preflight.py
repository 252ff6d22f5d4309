"""The preflight: its forecast by hand computation, its batches on a CPU, and what stops it."""

import json
import shutil
import time
from collections import namedtuple
from dataclasses import replace

import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModel, Wav2Vec2Config

from conftest import REPOSITORY
from spaarsist.audit import preflight as module
from spaarsist.audit.preflight import (
    DRAWS,
    EXCERPTS,
    FRAMES,
    Asked,
    Task,
    Training,
    batch_of,
    cache_tasks,
    disk_needed,
    forecast,
    no_gpu,
    preflight,
    read_rate,
    runs_on,
    tasks_of,
    timed,
)
from spaarsist.config import Augmentation, BackendConfig, FrontendConfig, Stage, TrainingRecipe, call, parse
from spaarsist.models.detector import Detector
from spaarsist.names import ConfigError
from spaarsist.plan import Plan

CPU = torch.device("cpu")
QUIET = Augmentation(0, 0, 0, 0, 0, 0, 0)
STAGES = (Stage(2, 4), Stage(1, 4, train_frontend=True, crop=6400))
AASIST = BackendConfig("AASIST", 16, {"k_train": 0.5})
MHFA = BackendConfig("MHFA", 16, {"n_heads": 2, "compression_dim": 4})


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A random wav2vec2 of two small layers, in the hub's file layout."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    sizes |= {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    sizes |= {"conv_bias": True, "feat_extract_norm": "layer", "do_stable_layer_norm": True}
    path = tmp_path_factory.mktemp("hub") / "tiny"
    AutoModel.from_config(Wav2Vec2Config(**sizes)).save_pretrained(path)
    return str(path)


def asked_for(model="spectral", **changes):
    """Two trainings, two seeds."""
    of = {"frontend": FrontendConfig(model), "crop": 8000, "stages": STAGES, "augmentation": QUIET}
    trainings = {
        "AST-05": Training(TrainingRecipe(backend=AASIST, **of), ("05", "05-Mag", "01"), ("eval", "dev")),
        "MHFA": Training(TrainingRecipe(backend=MHFA, **of), (), ("eval",)),
    }
    return replace(Asked(trainings, 2, "train", "dev", {"eval": 100}, False, 8, 1), **changes)


def rows_of(rows):
    return {row.quantity: row.value for row in rows}


# ---------------------------------------------------------------- the arithmetic


def paper():
    """What the paper's configuration asks for, with its caches, and as many trials as the releases have."""
    config = yaml.safe_load((REPOSITORY / "config" / "paper.yaml").read_text())
    config["training"]["views"], config["features"]["development"] = 10, True
    asked = parse(Asked, Plan(config).preflight["asked"])
    return replace(asked, n_trials=asked.n_trials | {"asvspoof5_train": 182_357, "asvspoof5_dev": 140_950})


def test_what_the_paper_asks_for():
    """As docs/full-replication.md counts it by hand."""
    asked = paper()
    told = {task.title: (task.excerpts, task.batch_size) for task in tasks_of(asked, "AST-05", False)}
    assert told == {
        "AST-05: stage 1 from cached frames": (3 * 10 * 182_400, 64),
        "AST-05: stage 2": (3 * 5 * 182_368, 32),
        "AST-05: development from cached frames": (3 * 10 * 140_950, 64),
        "AST-05: development": (3 * 5 * 140_950, 64),
        "AST-05: scoring": (3 * (680_774 + 31_779 + 140_950), 64),
    }
    told = {task.title: task.excerpts for task in tasks_of(asked, "MHFA", True)}
    assert told["MHFA: stage 1"] == 3 * 10 * 182_400 and told["MHFA: development"] == 3 * 15 * 140_950
    assert len(told) == 4, "all layers come from no cache"
    caches = {task.step: task.excerpts for task in cache_tasks(asked)}
    assert caches == {"views": 10 * 182_400, "excerpts": 140_950}
    frames = 201 * 1024 * 2
    assert round(sum(caches.values()) * frames / 1e9) == 809


def test_nothing_is_cached_where_nothing_is_asked_for():
    assert cache_tasks(asked_for()) == []
    asked = asked_for(n_trials={"eval": 100, "train": 10, "dev": 6})
    assert {task.source for task in tasks_of(asked, "AST-05", False)} == {DRAWS, EXCERPTS}


def test_a_stage_without_epochs_is_none():
    recipe = replace(asked_for().recipe, stages=(Stage(0, 4), STAGES[1]))
    asked = asked_for(trainings={"AST-05": Training(recipe, (), ())}, n_trials={"train": 10, "dev": 6})
    assert [task.step for task in tasks_of(asked, "AST-05", False)] == ["stage 2", "development", "scoring"]


HOURS = [
    # 36,000 draws, 8 at once in 2 s: 4 a second computed and 2 read; 7,200 excerpts at 8 a second computed, 4 read;
    # 3,600 at 2; 1,800 from a cache at 1
    (True, {"stage 1": 5.0, "development": 0.5, "scoring": 0.5, "caches": 0.25}),
    (False, {"stage 1": 7.5, "development": 0.75, "scoring": 0.75, "caches": 0.375}),
]


@pytest.mark.parametrize(("overlapping", "expected"), HOURS)
def test_forecast_by_hand(overlapping, expected):
    seconds = {
        Task("A", "stage 1", DRAWS, 9, 8, 36_000, STAGES[0]): 2.0,
        Task("A", "development", EXCERPTS, 9, 8, 7_200): 1.0,
        Task("A", "scoring", EXCERPTS, 9, 4, 3_600): 2.0,
        Task("caches", "excerpts", EXCERPTS, 9, 8, 3_600): 1.0,
    }
    rows = forecast(asked_for(), seconds, {DRAWS: 2.0, EXCERPTS: 4.0}, overlapping=overlapping)
    found = rows_of(rows)
    assert {step: found[f"hours: {step}"] for step in expected} == pytest.approx(expected)
    training = expected["stage 1"] + expected["development"]
    assert found["hours: longest training"] == pytest.approx(training / 2), "of two seeds"
    assert found["hours: in all"] == pytest.approx(sum(expected.values()))
    notes = {row.quantity: row.how for row in rows}
    assert notes["hours: stage 1"] == "reading takes longer than computing: A" and notes["hours: scoring"] == ""


def test_a_cache_costs_no_reading_and_processes_share():
    """Two processes: 4 of a batch of 8 each in 1 s, so 8 a second; excerpts 8 each in 2 s, reading 2 a second each."""
    seconds = {
        Task("A", "stage 1", FRAMES, 9, 8, 28_800, STAGES[0], 2): 1.0,
        Task("B", "development", EXCERPTS, 9, 8, 28_800, None, 2): 2.0,
    }
    found = rows_of(forecast(asked_for(), seconds, {EXCERPTS: 2.0}, overlapping=True))
    assert found["hours: stage 1"] == pytest.approx(1) and found["hours: development"] == pytest.approx(2)


def test_what_the_forecast_leaves_out_is_named():
    seconds = {Task("A", "stage 1", DRAWS, 9, 8, 36_000, STAGES[0]): 2.0}
    (*_, last) = forecast(asked_for(n_trials={"eval": 0}), seconds, {}, overlapping=True)
    assert last.how == "jobs one after another; without eval: corpora.<name>.expected is 0"


def test_disk_by_hand():
    asked = asked_for(n_trials={"eval": 100, "train": 10, "dev": 6})
    needed = disk_needed(asked, {"AST-05": 1000, "MHFA": 3000}, 77)
    scores = 2 * (106 * (16 + 3 * 4) + 100 * (16 + 4))  # three columns, and one
    expected = {"checkpoints": 2 * 4000, "a training under way": 8 * 3000, "scores": scores, "caches": 77}
    assert needed == expected


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((8, 0), ["sm_80"], True),
        ((8, 6), ["sm_75", "sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((7, 0), ["sm_75", "sm_80", "sm_90", "sm_120"], False),
        ((9, 0), ["sm_80", "sm_90a"], True),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((12, 0), ["sm_120"], True),
    ],
)
def test_which_gpu_runs_which_code(capability, built_for, runs):
    assert runs_on(capability, built_for) is runs


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (("13.0", "580.65.06", "A100"), "torch finds no GPU, though nvidia-smi shows A100: see CUDA_VISIBLE_DEVICES"),
        (("13.0", "535.104.05", "A100"), "driver 535.104.05 of A100 is too old for CUDA 13.0, which needs 580"),
        (("12.6", "535.104.05", "A100"), "torch finds no GPU, though"),
        (("13.0", "", ""), "torch finds no GPU, and nvidia-smi shows none; ask the cluster for one"),
        (("", "580.65.06", "A100"), "torch was installed without CUDA: "),
    ],
)
def test_why_there_is_no_gpu(state, said):
    assert no_gpu(*state, found=False).startswith(said)
    assert no_gpu(*state, found=True) == ""


def test_the_driver_is_asked(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._driver() == ("", "")
    program.write_text("#!/bin/sh\necho '535.104.05, NVIDIA A100-SXM4-80GB'\necho '535.104.05, another'\n")
    program.chmod(0o755)
    assert module._driver() == ("535.104.05", "NVIDIA A100-SXM4-80GB")
    program.write_text("#!/bin/sh\nexit 9\n")
    assert module._driver() == ("", "")


# ---------------------------------------------------------------- the measuring


def test_the_second_call_is_timed():
    calls = []

    def run():
        calls.append(time.sleep(0.5 if not calls else 0.02))

    seconds, peak = timed(run, CPU)
    assert len(calls) == 2 and 0.02 <= seconds < 0.5 and 0.1 < peak < 100


class Slow(torch.utils.data.Dataset):
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        time.sleep(0.01)
        return torch.zeros(3), index


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_is_timed_and_ends(monkeypatch, workers):
    monkeypatch.setattr(module, "READ_S", 0.5)
    began = time.perf_counter()
    rate = read_rate(Slow(10**6), workers, "nothing")
    assert 1 < rate <= 150 * max(workers, 1), "a hundred a second for each, less on a busy machine"
    assert time.perf_counter() - began < 60
    assert 1 < read_rate(Slow(3), 0, "three") <= 101


@pytest.fixture(params=["spectral", "wav2vec2"])
def model(request):
    return "spectral" if request.param == "spectral" else request.getfixturevalue("tiny")


@pytest.mark.parametrize("backend", [AASIST, MHFA], ids=lambda backend: backend.kind)
def test_a_step_trains_what_its_stage_trains(model, backend):
    torch.manual_seed(0)
    detector = Detector(FrontendConfig(model), backend)

    def changed(number):
        before = {name: value.clone() for name, value in detector.named_parameters()}
        batch_of(Task("A", "", DRAWS, 8000, 4, 1, STAGES[number]), detector, ())()
        names = {name for name, value in detector.named_parameters() if not torch.equal(before[name], value)}
        return {name.partition(".")[0] for name in names}

    assert changed(0) == {"backend", "head"} and changed(1) == {"frontend", "backend", "head"}
    assert changed(0) == {"backend", "head"}, "frozen again"


@pytest.mark.parametrize(
    ("task", "shape", "variants"),
    [
        (Task("A", "stage 1", DRAWS, 6400, 4, 1, STAGES[0]), (4, 6400), None),
        (Task("A", "stage 1", DRAWS, 6400, 4, 1, STAGES[0], 2), (2, 6400), None),
        (Task("A", "stage 1", FRAMES, 8000, 4, 1, STAGES[0]), (4, 24, 32), None),
        (Task("A", "development", FRAMES, 8000, 4, 1, None, 2), (4, 24, 32), []),
        (Task("A", "development", EXCERPTS, 8000, 4, 1), (4, 8000), []),
        (Task("A", "scoring", EXCERPTS, 8000, 3, 1), (3, 8000), ["05", "01-Mag"]),
    ],
)
def test_a_batch_has_its_real_size(tiny, monkeypatch, task, shape, variants):
    detector, seen = Detector(FrontendConfig(tiny), AASIST), []
    batch_of(Task("A", "stage 2", DRAWS, 6400, 4, 1, STAGES[1]), detector, ())()
    forward, scores = detector.forward, detector.scores
    monkeypatch.setattr(detector, "forward", lambda x: seen.append((tuple(x.shape), None)) or forward(x))
    monkeypatch.setattr(
        detector, "scores", lambda x, v: seen.append((tuple(x.shape), [a.column for a in v])) or scores(x, v)
    )
    batch_of(task, detector, ["05", "01-Mag"])()
    assert seen[0] == (shape, variants)
    assert task.stage is None or detector.training
    gradients = all(parameter.grad is None for parameter in detector.parameters())
    assert gradients is (task.stage is None), "those of the step before take memory"


@pytest.fixture
def modes(monkeypatch):
    """Whether arithmetic was deterministic in each batch, none of which is computed."""
    seen = []
    mode = torch.get_deterministic_debug_mode
    monkeypatch.setattr(module, "timed", lambda run, place: (seen.append(mode()) or 2.0, 1.0))
    yield seen
    module.prepare_torch(1)


def test_determinism_on_and_off(modes):
    task = Task("A", "stage 1", DRAWS, 6400, 4, 1, STAGES[0])
    rows = module._determinism(task, Detector(FrontendConfig(), AASIST), CPU, usual=False)
    assert modes == [1, 0] and rows_of(rows) == {"A: stage 1, deterministic": 2.0, "A: stage 1, not deterministic": 2.0}
    assert rows[1].how == "as training.deterministic says" != rows[0].how


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_recipe_decides_how_it_trains_and_not_how_it_scores(modes, deterministic):
    recipe = replace(asked_for().recipe, deterministic=deterministic)
    counts = {"eval": 9, "train": 10, "dev": 6}
    asked = asked_for(trainings={"AST-05": Training(recipe, (), ("eval",))}, n_trials=counts)
    tried = module._try_batches(asked, CPU)
    assert [task.step for task in tried.seconds] == ["stage 1", "stage 2", "development", "scoring"]
    assert modes == [deterministic, deterministic, deterministic, 1, 1, 0]


def test_excerpts_that_are_normalised_together_are_scored_in_batches_of_their_own():
    recipe = replace(asked_for().recipe, frontend=FrontendConfig(normalise="batch"), stages=(Stage(1, 6), Stage(1, 4)))
    asked = asked_for(trainings={"A": Training(recipe, (), ())}, n_trials={"train": 10, "dev": 6})
    assert [task.batch_size for task in tasks_of(asked, "A", False)] == [6, 4, 4, 8]


def test_caching_takes_the_front_end_alone(tiny, monkeypatch):
    detector = Detector(FrontendConfig(tiny), AASIST)
    monkeypatch.setattr(detector, "backend", None)
    batch_of(Task("caches", "views", DRAWS, 8000, 4, 1), detector, ())()


# ---------------------------------------------------------------- the whole


def settings(folder, synthetic, asked, **changes):
    """As the rule gives them."""
    where = {"train_list": synthetic / "train.tsv", "dev_list": synthetic / "dev.tsv", "output": folder / "report.tsv"}
    where |= {"results": folder / "results", "features": folder / "features"}
    plain = json.loads(
        json.dumps({"asked": asked} | where, default=lambda o: str(o) if hasattr(o, "parts") else vars(o))
    )
    return plain | changes


def test_a_report(tmp_path, synthetic, model, capsys):
    recipe = replace(asked_for(model).recipe, views=2, gradient_checkpointing=model != "spectral")
    asked = asked_for(model, cached_development=True)
    asked = replace(
        asked,
        trainings={
            name: replace(training, recipe=replace(recipe, backend=training.recipe.backend))
            for name, training in asked.trainings.items()
        },
    )
    call(preflight, settings(tmp_path, synthetic, asked, workers=2))
    table = pd.read_csv(tmp_path / "report.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert [*table] == ["quantity", "value", "unit", "how"] and table["quantity"].is_unique
    value = table.set_index("quantity")["value"]
    steps = ["stage 1 from cached frames", "stage 2", "development from cached frames", "development", "scoring"]
    expected = [f"AST-05: {step}" for step in steps]
    expected += [f"MHFA: {step}" for step in ("stage 1", "stage 2", "development", "scoring")]
    expected += ["caches: views", "caches: excerpts"]
    timed_rows = [name for name in value.index if f"{name}, memory" in value.index]
    assert sorted(timed_rows) == sorted(expected) and all(float(value[name]) > 0 for name in timed_rows)
    assert float(value["AST-05: stage 2, deterministic"]) > 0 and float(value["AST-05: stage 2, not deterministic"]) > 0
    assert float(value["read: training draws"]) > 0 and value["torch"] == torch.__version__.split("+")[0]
    parts = [float(value[f"hours: {step}"]) for step in ("caches", "stage 1", "stage 2", "development", "scoring")]
    assert float(value["hours: in all"]) == pytest.approx(sum(parts), rel=0.01)
    printed = capsys.readouterr().out
    assert all(name in printed for name in value.index) and "how" not in printed.split()


def test_a_disk_that_is_too_small(tmp_path, synthetic, monkeypatch, capsys):
    """Checkpoints, scores and caches share it: each would fit alone. What lies there already needs no room."""
    asked = asked_for(cached_development=True)
    lists = {name: len(pd.read_csv(synthetic / f"{name}.tsv", sep="\t")) for name in ("train", "dev")}
    weights = {
        name: sum(t.nbytes for t in Detector(training.recipe.frontend, training.recipe.backend).state_dict().values())
        for name, training in asked.trainings.items()
    }
    needed = disk_needed(replace(asked, n_trials=asked.n_trials | lists), weights, lists["dev"] * 25 * 120 * 2)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(sum(needed.values()) - 2))
    given = settings(tmp_path, synthetic, asked)
    with pytest.raises(ConfigError) as error:
        call(preflight, given)
    first, *lines = str(error.value).splitlines()
    assert "nothing was begun" in first and len(lines) == 1, "a line for each thing"
    assert lines[0].startswith(f"  {tmp_path}/results/checkpoints, {tmp_path}/results/scores, {tmp_path}/features: ")
    assert "make room" in lines[0] and "features.development: false" in lines[0]
    assert not (tmp_path / "report.tsv").exists() and "hours: in all" in capsys.readouterr().out
    place = tmp_path / "results" / "checkpoints" / "AST-05" / "seed1"
    (place / "last").mkdir(parents=True)
    (place / "last" / "state.pt").write_bytes(bytes(100))
    (place / "model.safetensors").write_bytes(bytes(1))
    with pytest.raises(ConfigError):
        call(preflight, given)
    (place / "model.safetensors").write_bytes(bytes(2))
    call(preflight, given)
    assert (tmp_path / "report.tsv").exists()


def test_a_gpu_that_is_too_small(tmp_path, synthetic, monkeypatch):
    """What does not fit is named, one line each; the rest is still tried."""
    tried = []

    def short(run, place):
        task = tried.pop()
        if (task.stage and task.stage.train_frontend) or task.step == "scoring":
            raise torch.OutOfMemoryError
        return timed(run, place)

    of_task = module.batch_of
    monkeypatch.setattr(module, "batch_of", lambda task, *others: tried.append(task) or of_task(task, *others))
    monkeypatch.setattr(module, "timed", short)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 16 * 2**30))
    with pytest.raises(ConfigError) as error:
        call(preflight, settings(tmp_path, synthetic, asked_for()))
    _, *lines = str(error.value).splitlines()
    assert [line.strip().split(": ")[:2] for line in lines] == [
        [name, step] for name in ("AST-05", "MHFA") for step in ("stage 2", "scoring")
    ]
    assert "a batch of 4 does not fit into the GPU's 16.0 GiB: set training.gradient_checkpointing" in lines[0]
    assert lines[1].endswith("a batch of 8 does not fit into the GPU's 16.0 GiB: lower compute.batch_size")
    assert not (tmp_path / "report.tsv").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_and_no_disk(tmp_path, synthetic, monkeypatch, capsys):
    """Both are said at once."""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0))
    with pytest.raises(ConfigError) as error:
        call(preflight, settings(tmp_path, synthetic, asked_for(), device="cuda"))
    _, gpu, disk = str(error.value).splitlines()
    assert "no GPU" in gpu or "without CUDA" in gpu
    assert "0.0 GB free" in disk and "stage 1" not in capsys.readouterr().out
