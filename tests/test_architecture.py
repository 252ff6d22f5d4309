"""The house rules that a machine can check: who imports whom, equal pins, a complete schema, help at once."""

import ast
import dataclasses
import re
import subprocess
import sys
import tomllib
import typing
from collections import Counter
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY
from spaarsist import config, names

PACKAGE = REPOSITORY / "src" / "spaarsist"
ROOMS = ["data", "models", "experiments", "evaluation", "deployment", "audit", "reporting"]
HEAVY = {"torch", "torchaudio", "transformers", "fvcore", "audiomentations", "librosa"}
WITHOUT_TORCH = ["evaluation", "reporting", "data/corpora.py", "data/archives.py", "data/protocol.py", "data/audio.py"]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def imports(path, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_rooms_import_from_rooms_above(path):
    room = path.relative_to(PACKAGE).parts[0]
    allowed = set(ROOMS[: ROOMS.index(room) + 1]) if room in ROOMS else set(ROOMS)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "spaarsist" or len(parts) < 2 or parts[1] not in ROOMS:
            continue
        exception = room == "experiments" and name.startswith("spaarsist.evaluation.metrics")
        assert parts[1] in allowed or exception, f"{path.name} imports {name}"
        if path.name in ("backend.py", "pooling.py"):
            assert parts[1:3] not in (["models", "frontend"], ["data", "audio"]), f"{path.name} imports {name}"
        if room == "reporting":
            assert parts[1] != "experiments" and parts[1] != "models", "reporting reads files only"


def test_runs_on_any_laptop():
    paths = [*PACKAGE.glob("*.py"), *(PACKAGE / name for name in WITHOUT_TORCH if name.endswith(".py"))]
    paths += [path for name in WITHOUT_TORCH for path in (PACKAGE / name).rglob("*.py")]
    names = [".".join(("spaarsist", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in paths]
    assert len(names) > 30
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    if found := {HEAVY} & set(sys.modules):
        sys.exit(f"{{name}} imports {{found}}")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scoring_imports_neither_compiler_nor_transformers():
    """With a light front-end; each takes longer than the rest of a small job."""
    code = """
import sys, torch
from spaarsist.config import FrontendConfig
from spaarsist.experiments import score
from spaarsist.models.detector import prepare_torch
from spaarsist.models.frontend import build_frontend
prepare_torch(1)
build_frontend(FrontendConfig(model="spectral"))
assert torch.get_deterministic_debug_mode() == 1
print(*({"torch._inductor", "sympy", "transformers", "accelerate", "scipy.stats", "scipy.signal"} & set(sys.modules)))
import torch._inductor.config
assert torch._inductor.config.deterministic
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


def test_the_command_line_imports_inside_its_verbs():
    at_top = {name.split(".")[0] for name in imports(PACKAGE / "__main__.py", top_level_only=True)}
    assert at_top <= {*sys.stdlib_module_names, "typer"}


def test_equal_pins():
    onnx, dev = (PROJECT["optional-dependencies"][extra] for extra in ("onnx", "dev"))
    assert "spaarsist[onnx]" in dev
    pins = sorted({*PROJECT["dependencies"], *onnx, *dev} - {"spaarsist[onnx]"})
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", pin) for pin in pins)
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert sorted(environment["dependencies"][-1]["pip"]) == pins


def test_every_import_is_a_declared_dependency():
    """What the package imports is pinned here, not brought along by chance; what an extra brings, inside functions."""
    names = {"av": "av", "sklearn": "scikit-learn", "yaml": "pyyaml", "pyworld": "pyworld-prebuilt"}
    extra = {pin.split("==")[0] for pin in PROJECT["optional-dependencies"]["onnx"]}
    declared = {pin.split("==")[0].replace("-", "_") for pin in PROJECT["dependencies"]} | extra

    def used(**how):
        modules = {name.split(".")[0] for path in PACKAGE.rglob("*.py") for name in imports(path, **how)}
        return modules - set(sys.stdlib_module_names) - {"spaarsist"}

    assert {names.get(name, name).replace("-", "_") for name in used()} <= declared
    assert not used(top_level_only=True) & extra


def objects(schema, path=""):
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")


SCHEMA = yaml.safe_load((REPOSITORY / "workflow" / "schemas" / "config.schema.yaml").read_text())


def test_the_schema_describes_every_key_and_takes_no_other():
    for path, schema in objects(SCHEMA):
        assert schema.get("additionalProperties", True) is not True, path
        if "properties" in schema:
            assert set(schema["required"]) == set(schema["properties"]), path
            assert all("description" in value for value in schema["properties"].values()), path


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (("training",), config.TrainingRecipe),
        (("training", "frontend"), config.FrontendConfig),
        (("training", "backend"), config.BackendConfig),
        (("training", "augmentation"), config.Augmentation),
        (("evaluation", "cost_model"), config.CostModel),
        (("evaluation", "composite"), config.CompositeWeights),
    ],
)
def test_the_schema_knows_the_fields_of_the_code(place, kind):
    schema = SCHEMA
    for name in place:
        schema = schema["properties"][name]
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(kind)}


def test_the_schema_knows_stages_and_variants():
    stage = SCHEMA["properties"]["training"]["properties"]["stages"]["items"]
    assert set(stage["properties"]) == {field.name for field in dataclasses.fields(config.Stage)}
    variants = SCHEMA["properties"]["systems"]["properties"]["variants"]["items"]["enum"]
    assert variants == [*names.LABELS]
    for field, kind in enumerate((names.NodeScoring, names.StackAggregation)):
        assert {combination[field] for combination in names.LABELS.values()} == {*typing.get_args(kind)}


@pytest.mark.parametrize("file", ["config.yaml", "config/synthetic.yaml", "config/paper.yaml"])
def test_configurations_parse(file):
    settings = yaml.safe_load((REPOSITORY / file).read_text())
    config.parse(config.TrainingRecipe, settings["training"])
    config.parse(config.CostModel, settings["evaluation"]["cost_model"])
    for release in settings["downloads"].values():
        config.parse(config.Release, release)
    names = {settings["train_on"], settings["select_on"], *settings["evaluate_on"]}
    assert names <= set(settings["corpora"])
    assert settings["paper_corpora"] == (file == "config/paper.yaml") == (not settings["label"]), "toys say so"


def test_the_paper_s_configuration_is_the_paper_s_recipe():
    """Its training section is the defaults that the code documents as the paper's, but for what it says of itself."""
    settings = yaml.safe_load((REPOSITORY / "config" / "paper.yaml").read_text())
    recipe = config.parse(config.TrainingRecipe, settings["training"])
    paper = config.TrainingRecipe()
    assert recipe.augmentation == dataclasses.replace(paper.augmentation, silence_detector="vad"), "the released one"
    for key in ("crop", "stages", "keep_better_stage", "epoch_size", "views"):
        assert getattr(recipe, key) == getattr(paper, key), key
    assert recipe.backend.embedding_dim == 1024 and recipe.views == 0, "no cache unasked"
    assert not recipe.frontend.final_layer_norm and recipe.frontend.model == "{xls_r}"
    assert {c["expected"] for c in settings["corpora"].values()} == {182_357, 140_950, 680_774, 31_779}
    tars = [*settings["downloads"]["asvspoof5"]["files"]]
    assert [*Counter(name[:6] for name in tars).items()] == [("flac_T", 5), ("flac_D", 3), ("flac_E", 10)]
    listed = [Path(a).name for c in settings["corpora"].values() for a in c["audio"] if a.endswith(".tar")]
    assert listed == tars, "every tar that is fetched is read, and no other"
