import json
import math

import pytest

from spaarsist.config import Augmentation, BackendConfig, CompositeWeights, Stage, TrainingRecipe, parse, to_json
from spaarsist.names import LABELS, ConfigError, System, Variant, ratio_code, system_name


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("k", [0.5, 0.3, 0.1, 0.25, 1.0])
def test_names_go_both_ways(label, k):
    variant = Variant.from_label(k, label)
    assert variant.label == label
    assert Variant.from_column(variant.column) == variant


def test_names_of_the_paper():
    assert system_name("AST-03", Variant(0.1, "magnitude", "attention").column) == "AST-03-01-Mag"
    assert system_name("AST-05", Variant(0.5).column) == "AST-05-05"
    assert system_name("MHFA", "score") == "MHFA"
    assert [ratio_code(k) for k in (0.5, 0.25, 1, 1.0)] == ["05", "025", "10", "10"]


@pytest.mark.parametrize(
    "column", ["", "5", "k05", "05-mag", "05-", "05-Base", "050", "00", "05+stack", "05+stack0", "05+stack1.0", "05+x1"]
)
def test_no_such_variant(column):
    with pytest.raises(ValueError, match=r"variant|greater than 0"):
        Variant.from_column(column)


@pytest.mark.parametrize("temperatures", [(0.5, None), (None, 100.0), (2.0, 0.01)])
def test_temperatures_go_both_ways(temperatures):
    variant = Variant.from_label(0.1, "Mag", *temperatures)
    assert Variant.from_column(variant.column) == variant


def test_systems():
    """What is behind k_train was trained so, what is behind k_infer is switched."""
    system = System.parse("AST-05+stack1-03-Mag+graph0.5")
    assert system.trained == "AST-05+stack1" and system.column == "03-Mag+graph0.5"
    assert (system.k_train, system.trained_stack_temperature, system.trained_graph_temperature) == (0.5, 1.0, None)
    assert system.variant == Variant(0.3, "magnitude", "attention", graph_temperature=0.5)
    assert System.parse("CA-MHFA") == System("CA-MHFA", "CA-MHFA")


def test_trained_as_a_variant():
    system = System.parse("AST-03+Mag+stack1-01-MagUni")
    assert (system.trained, system.column, system.trained_variant) == ("AST-03+Mag+stack1", "01-MagUni", "Mag")
    assert (system.k_train, system.trained_stack_temperature) == (0.3, 1.0)
    assert System.parse("AST-03-01-Mag").trained_variant is None


def test_a_combination_without_a_label():
    with pytest.raises(ConfigError, match="magnitude_gated with linear has no label"):
        print(Variant(0.5, "magnitude_gated", "linear").column)


@pytest.mark.parametrize(
    "name",
    [
        "AST-05+Base-05",
        "AST-05+Best-05",
        "AST-05+stack1+Mag-05",
        "AST-05",
        "AST-05-05-Best",
        "AST--05",
        "AST-050-05",
        "AST-05-05+stack",
        "A b",
        "",
    ],
)
def test_no_such_system(name):
    with pytest.raises(ConfigError, match=r"not a system name such as|is no system name"):
        print(System.parse(name).order)


def test_rows_are_ordered_as_in_the_paper():
    names = [f"AST-{k}-{c}{v}" for k in ("05", "03", "01") for c in ("05", "01") for v in ("", "-Mag", "-Mean", "-Uni")]
    names += ["AST-05-05+stack1", "AST-03-01-Mag+stack1", "AST-05+Mag-05-Mag", "AST-05+Uni-05-Uni", "CA-MHFA", "MHFA"]
    assert sorted([*names[1::2], *names[::2]], key=lambda name: System.parse(name).order) == names


def test_weights_that_weigh_nothing():
    with pytest.raises(ConfigError, match="a group and a domain"):
        parse(CompositeWeights, {"accuracy": 0, "calibration": 0, "compute": 0})


@pytest.mark.parametrize("k", [0, -0.1, 1.1])
def test_ratio_out_of_range(k):
    with pytest.raises(ValueError, match="k_infer"):
        Variant(k_infer=k)


def test_recipe_survives_json():
    recipe = TrainingRecipe(crop=400, backend=BackendConfig(embedding_dim=8))
    assert parse(TrainingRecipe, to_json(recipe)) == recipe
    assert parse(TrainingRecipe, {}) == TrainingRecipe()


def test_recipe_from_a_file(tmp_path):
    (tmp_path / "recipe.yaml").write_text("crop: 500\n")
    assert parse(TrainingRecipe, tmp_path / "recipe.yaml").crop == 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"crops": 3}, "TrainingRecipe: crops: no such key; did you mean crop"),
        ({"stages": [{"epochs": 1, "batch_size": 0}]}, r"stages\[0\]\.batch_size: .*greater than or equal to 2"),
        ({"augmentation": {"room": 0.5}}, "room > 0 needs room_corpus"),
        (
            {"views": 1, "frontend": {"normalise": "batch"}},
            r"training\.views above 0 does not go with training\.frontend\.normalise: batch",
        ),
        ({"backend": {"embedding_dim": 6}}, "backend.embedding_dim: .*multiple of 4"),
        ({"backend": {"embedding_dim": 10**9}}, "backend.embedding_dim: .*less than or equal to 65536"),
        ({"backend": {"options": {"temperatures": [1, 1, 1]}}}, "options: temperatures: .*at least 4 items"),
        ({"backend": {"options": {"temperatures": ["a", 1, 1, 1]}}}, r"options: temperatures\[0\]: .*number"),
        ({"backend": {"options": {"temperatures": [math.nan, 1, 1, 1]}}}, r"options: temperatures\[0\]: .*finite"),
        ({"backend": {"kind": "MHFA", "options": {"n_heads": "8"}}}, "n_heads: .*integer, not .8., which is text"),
        ({"epoch_size": 10**12}, "epoch_size: .*less than or equal to 100000000"),
        ({"crop": 10**12}, "crop: .*less than or equal to 57600000"),
        ({"crop": True}, "crop: .*integer, not true"),
        ({"deterministic": "yes"}, "deterministic: .*boolean, not .yes."),
        ({"stages": [{"epochs": 1, "batch_size": 4, "learning_rate": math.inf}]}, r"learning_rate: .*"),
    ],
)
def test_misspelt_or_out_of_range_keys_are_named(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(TrainingRecipe, json.dumps(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.yaml", "gone.yaml: cannot be read"),
        ("{", "not valid YAML"),
        ("{a", "not valid"),
        ('{"crop": 500, "crop": 600}', "the JSON text given: crop is given twice; keep one"),
        ("a\0b", "cannot be read"),
    ],
)
def test_unreadable_sections(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(TrainingRecipe, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"views: 0\ncrop: [1", "r.yaml, line 2, column 9: not valid YAML"),
        (b"views: 0\n\tcrop: 500", "r.yaml, line 2, column 1: not valid YAML"),
        (b"crop: 500\nviews: 0\ncrop: 600\n", "r.yaml, line 3, column 1: crop is given twice"),
        (b"# a\n# \xe4", "r.yaml, line 2: not UTF-8"),
        (b"crop: &c 500\nviews: *c", r"r.yaml, line 2, column 8: an alias"),
        (b"[" * 5000, "r.yaml: nested too deeply"),
        (b"crop: 2001-02-30", "r.yaml: not valid YAML"),
        (b"- a", "r.yaml: expected a mapping"),
        (b"", "r.yaml: expected a mapping"),
        (b"crop: \x07", "not valid YAML"),
        (b"crop: !!python/object/apply:os.getcwd []", "r.yaml, line 1, column 7: not valid YAML"),
    ],
)
def test_where_yaml_is_wrong(tmp_path, content, message):
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        parse(TrainingRecipe, tmp_path / "r.yaml")
    assert "\n" not in str(error.value)


def test_numbers_as_json_writes_them():
    """0.00001 is 1e-05 in JSON, which YAML takes for text."""
    recipe = TrainingRecipe(stages=(Stage(1, 2, learning_rate=1e-5),))
    assert parse(TrainingRecipe, to_json(recipe)) == recipe


def test_what_is_normalised_together_in_scoring():
    """As many as in a batch of the last stage, 32 in the paper's recipe; nothing where each stands by itself."""
    assert parse(TrainingRecipe, {}).normalised_together is None
    assert parse(TrainingRecipe, {"frontend": {"normalise": "batch"}}).normalised_together == 32


def test_the_papers_augmentation_is_the_default():
    assert Augmentation() == Augmentation(0.5, 0.3, 0.3, 0.3, 0.3, 0.9, 0.9, 0.0, "")
