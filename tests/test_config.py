import json

import pytest

from spaarsist.config import (
    LABELS,
    Augmentation,
    BackendConfig,
    ConfigError,
    TrainingRecipe,
    Variant,
    parse,
    ratio_code,
    system_name,
    to_json,
)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("k", [0.5, 0.3, 0.1, 0.25, 1.0])
def test_names_go_both_ways(label, k):
    variant = Variant.from_label(k, label)
    assert variant.label == label
    assert Variant.from_column(variant.column) == variant


def test_names_of_the_paper():
    assert system_name(0.3, Variant(0.1, "magnitude", "attention")) == "AST-03-01-Mag"
    assert system_name(0.5, Variant(0.5)) == "AST-05-05"
    assert [ratio_code(k) for k in (0.5, 0.25, 1, 1.0)] == ["05", "025", "10", "10"]


@pytest.mark.parametrize("column", ["", "5", "k05", "05-mag", "05-", "05-Base", "050", "00"])
def test_no_such_variant(column):
    with pytest.raises(ValueError, match=r"variant|greater than 0"):
        Variant.from_column(column)


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
        ({"crops": 3}, "crops: Unexpected keyword"),
        ({"stages": [{"epochs": 1, "batch_size": 0}]}, r"stages\.0\.batch_size: .*greater than or equal to 2"),
        ({"augmentation": {"room": 0.5}}, "room > 0 needs room_corpus"),
        ({"backend": {"temperatures": [1, 2, 3]}}, "temperatures"),
    ],
)
def test_misspelt_or_out_of_range_keys_are_named(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(TrainingRecipe, json.dumps(text))


@pytest.mark.parametrize(
    ("text", "message"), [("gone.yaml", "gone.yaml: cannot be read"), ("{", "not valid YAML"), ("{a", "not valid")]
)
def test_unreadable_sections(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(TrainingRecipe, text)


def test_the_papers_augmentation_is_the_default():
    assert Augmentation() == Augmentation(0.5, 0.3, 0.3, 0.3, 0.3, 0.9, 0.9, 0.0, "")
